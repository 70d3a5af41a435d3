"""How far maps move, on a saliency model whose map can be worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from salientry.experiment.map_shift import map_shift
from salientry.learned import with_facts
from salientry.rows import Rows

N, SIDE, CLASSES = 520, 3, 4  # more than two batches


class Known(nn.Module):
    """The image, darker for each class."""

    def forward(self, x: Tensor, k: Tensor) -> dict[str, Tensor]:
        assert not torch.is_grad_enabled()
        return {"map": x.mean(1, keepdim=True) * (k + 1).view(-1, 1, 1, 1) / CLASSES}


def by_hand(images: Any, classes: Any) -> Any:
    return images.mean(1) * (classes + 1)[:, None, None] / CLASSES


def rms(a: Any, b: Any) -> Any:
    return np.array([np.sqrt(np.mean((x - y) ** 2)) for x, y in zip(a, b, strict=True)])


@pytest.fixture
def rows() -> dict[str, Rows]:
    draws = np.random.default_rng(0)
    ids = np.array([f"{i:016x}" for i in range(N)])

    def made(**facts: Any) -> Rows:
        columns = {
            "image": draws.random((N, 2, SIDE, SIDE)).astype(np.float32),
            "predicted": draws.integers(0, CLASSES, N),
            "label": labels,
            "evaluated": draws.random(N) < 0.5,
        }
        return Rows(ids, columns, facts | {"protocol": "strict"})

    labels = draws.integers(0, CLASSES, N)
    found = {"natural": made(role="test")} | {a: made(attack=a) for a in "AB"} | {f"{a} noise": made(control="noise") for a in "AB"}
    return found


@pytest.mark.parametrize("split", [True, False])
def test_every_distance_is_the_root_mean_square_of_the_right_two_maps(rows: dict[str, Rows], split: bool) -> None:
    saliency = with_facts(Known(), saliency="Known")
    found = map_shift.function(rows["natural"], [rows["A"], rows["B"]], [rows["A noise"], rows["B noise"]], saliency, split)
    x, k, y = (rows["natural"].column(c) for c in ("image", "predicted", "label"))
    own = by_hand(x, k)
    same = [next(j % N for j in range(i + 1, i + N + 1) if k[j % N] == k[i]) for i in range(N)]
    expected = {"other": rms(own, np.roll(own, -1, 0)), "same class": rms(own, own[same])}
    maps = {}
    for a in "AB":
        z, there, counts = (rows[a].column(c) for c in ("image", "predicted", "evaluated"))
        maps[a] = by_hand(z, there)
        noise = rows[f"{a} noise"]
        expected[f"{a}/shift"] = rms(own, maps[a])
        expected[f"{a}/noise"] = rms(own, by_hand(noise.column("image"), noise.column("predicted")))
        if split:
            expected[f"{a}/pixels"] = rms(own, by_hand(z, k))
            expected[f"{a}/class"] = rms(own, by_hand(x, there))
            expected[f"{a}/true label"] = rms(maps[a], by_hand(z, y))
        np.testing.assert_array_equal(found.column(f"{a}/evaluated"), counts)
    expected["A|B"] = rms(maps["A"], maps["B"])
    if split:
        expected["true label"] = rms(own, by_hand(x, y))
    assert set(found.names) == {*expected, "A/evaluated", "B/evaluated"}
    for name, value in expected.items():
        np.testing.assert_allclose(found.column(name), value, atol=1e-6, err_msg=name)
    assert found.facts["saliency"] == "Known"
    assert (found.facts["attacks"], found.facts["role"], found.facts["protocol"]) == (["A", "B"], "test", "strict")
    assert (found.ids == rows["natural"].ids).all()


def test_an_image_alone_in_its_class_is_compared_with_itself() -> None:
    from salientry.experiment.map_shift import fellows

    assert fellows(np.array([1, 0, 1, 2, 1, 0]), 1).tolist() == [2, 5, 4, 3, 0, 1]


def test_controls_are_measured_as_used_and_with_the_class_held(rows: dict[str, Rows]) -> None:
    noise = rows["A noise"]
    noise.facts.update(of="A", control="Turned")
    args = (rows["natural"], [rows["A"]], [rows["A noise"]], with_facts(Known(), saliency="Known"), True)
    plain, found = map_shift.function(*args), map_shift.function(*args, [noise])
    x, k = (rows["natural"].column(c) for c in ("image", "predicted"))
    own = by_hand(x, k)
    expected = {
        "A/Turned": rms(own, by_hand(noise.column("image"), noise.column("predicted"))),
        "A/Turned, class held": rms(own, by_hand(noise.column("image"), k)),
        "other, class held": rms(own, by_hand(np.roll(x, -1, 0), k)),
    }
    assert set(found.names) == {*plain.names, *expected}
    for name, value in expected.items():
        np.testing.assert_allclose(found.column(name), value, atol=1e-6, err_msg=name)
