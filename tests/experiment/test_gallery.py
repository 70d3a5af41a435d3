"""Pictures: the first images that every attack fooled, and where each model looks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from salientry.experiment.sanity import gallery
from salientry.learned import with_facts
from salientry.rows import Rows

N = 30


class Times(nn.Module):
    """The image, darker for each class, by a factor of its own."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor, k: Tensor) -> dict[str, Tensor]:
        return {"map": x.mean(1, keepdim=True) * self.factor / (k + 1).view(-1, 1, 1, 1)}


def test_the_first_that_every_attack_fooled_with_the_maps_of_every_model() -> None:
    draws, ids = np.random.default_rng(0), np.array([f"{i:016x}" for i in range(N)])

    def made(**facts: Any) -> Rows:
        columns = {"image": draws.random((N, 2, 3, 3)).astype(np.float32), "map": draws.random((N, 1, 3, 3)).astype(np.float32)}
        flags = {"predicted": draws.integers(0, 4, N), "label": draws.integers(0, 4, N), "evaluated": draws.random(N) < 0.6}
        return Rows(ids, columns | flags, facts)

    rows = {"natural": made(role="test"), "A": made(attack="A"), "B": made(attack="B")}
    models = {"One": 0.5, "Two": 0.25}
    nets: list[nn.Module] = [with_facts(Times(f), saliency=name) for name, f in models.items()]
    found = gallery.function(rows["natural"], [rows["A"], rows["B"]], nets, 4)
    at = [i for i in range(N) if rows["A"].column("evaluated")[i] and rows["B"].column("evaluated")[i]][:4]
    assert found.ids.tolist() == ids[at].tolist()
    np.testing.assert_array_equal(found.column("label"), rows["natural"].column("label")[at])
    for name, of in rows.items():
        for part in ("image", "map", "predicted"):
            np.testing.assert_array_equal(found.column(f"{name}.{part}"), of.column(part)[at])
        for model, factor in models.items():
            k = of.column("predicted")[at]
            expected = of.column("image")[at].mean(1, keepdims=True) * factor / (k + 1)[:, None, None, None]
            np.testing.assert_allclose(found.column(f"{name}.{model}"), expected, rtol=1e-5)
    assert (found.facts["attacks"], found.facts["models"]) == (["A", "B"], ["One", "Two"])
    assert not torch.from_numpy(found.column("natural.One")).requires_grad
