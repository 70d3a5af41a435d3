"""Mixed parts of a natural and its adversarial, on a saliency model and a detector that can be worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from salientry.evidence import Evidence
from salientry.experiment.input_ablations import mixed_parts
from salientry.learned import with_facts
from salientry.rows import Rows

N = 300  # more than a batch


class Drawn(nn.Module):
    """The image, brighter for each class."""

    def forward(self, x: Tensor, k: Tensor) -> dict[str, Tensor]:
        return {"map": x * (k + 1).view(-1, 1, 1, 1) / 10}


class Product(nn.Module):
    """Sum of map times pixels."""

    def forward(self, evidence: Evidence) -> Tensor:
        return (evidence.map * evidence.image).sum((1, 2, 3))


def test_every_score_is_of_the_parts_that_its_name_says() -> None:
    draws = np.random.default_rng(0)
    ids = np.array([f"{i:016x}" for i in range(N)])

    def rows(**facts: Any) -> Rows:
        return Rows(
            ids,
            {
                "image": draws.random((N, 1, 2, 2)).astype(np.float32),
                "predicted": draws.integers(0, 4, N),
                "evaluated": draws.random(N) < 0.5,
            },
            facts,
        )

    natural, attacked = rows(role="test"), rows(attack="A")
    detector = with_facts(Product(), detector="SPD", scheme="paired", trained_on="A", protocol="strict", seed=0)
    found = mixed_parts.function(natural, attacked, Drawn(), detector)
    x = {"n": natural.column("image").astype(float), "a": attacked.column("image").astype(float)}
    k = {"n": natural.column("predicted"), "a": attacked.column("predicted")}

    def maps(i: str, c: str) -> Any:
        return x[i] * (k[c] + 1)[:, None, None, None] / 10

    expected = {p + i + c: (x[p] * maps(i, c)).sum((1, 2, 3)) for p in "na" for i in "na" for c in "na"}
    for kind in "na":
        own = maps(kind, kind)
        expected[f"{kind} other"] = (x[kind] * np.roll(own, -1, 0)).sum((1, 2, 3))
        expected[f"{kind} area"] = own.mean((1, 2, 3))
        expected[f"{kind} flat"] = (x[kind] * own.mean((1, 2, 3), keepdims=True)).sum((1, 2, 3))
    assert set(found.names) == {*expected, "evaluated"}
    for name, value in expected.items():
        np.testing.assert_allclose(found.column(name), value, rtol=1e-5, err_msg=name)
    np.testing.assert_array_equal(found.column("evaluated"), attacked.column("evaluated"))
    assert torch.is_grad_enabled()
    assert (found.facts["detector"], found.facts["attack"], found.facts["seed"]) == ("SPD", "A", 0)
