"""Whether a map is a map: nets whose answer is one bright pixel, so that what each map keeps and destroys is known."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from salientry.experiment.map_shift import fellows
from salientry.experiment.sanity import SanityCheck, sanity, sanity_check
from salientry.learned import with_facts
from salientry.rows import Rows
from salientry.saliency import Fill

SIDE, HALF = 4, 8
BLACK = Fill("black", noise=0.0)
MAPS = Literal["own", "of the class", "everything"]


class Halves(nn.Module):
    """Class 1 where the lower half holds the brightest pixel, else class 0: what is black is class 0."""

    def forward(self, x: Tensor) -> Tensor:
        values = x.flatten(1)
        return torch.stack([values[:, :HALF].amax(1) + 0.01, values[:, HALF:].amax(1)], 1)


class Drawer(nn.Module):
    """The bright pixel; or its whole half; or all of the image."""

    def __init__(self, maps: MAPS) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, x: Tensor, k: Tensor) -> dict[str, Tensor]:
        lower = (torch.arange(2 * HALF) >= HALF).view(1, SIDE, SIDE)
        halves = torch.where((k == 1).view(-1, 1, 1), lower, ~lower)
        bright = (x[:, 0] > 0.5) & halves  # of another class than the image's nothing is drawn
        drawn = {"own": bright, "of the class": halves, "everything": torch.ones_like(bright)}[self.maps]
        return {"map": drawn[:, None].float()}


def pixels(count: int = 16) -> Rows:
    """Images with one bright pixel, the two classes by turns, each image of a class at another place."""
    at = np.array([(i // 2) % HALF + HALF * (i % 2) for i in range(count)])
    image = np.zeros((count, 1, SIDE * SIDE), np.float32)
    image[np.arange(count), 0, at] = 1.0
    image = image.reshape(-1, 1, SIDE, SIDE)
    logits = Halves()(torch.from_numpy(image)).numpy()
    columns = {"image": image, "logits": logits, "predicted": logits.argmax(1), "label": logits.argmax(1)}
    return Rows(np.array([f"{i:016x}" for i in range(count)]), columns, {"role": "validation"})


def measured(maps: MAPS, within: str | None) -> Rows:
    found: Rows = sanity.function(pixels(), Halves(), with_facts(Drawer(maps), saliency=maps), BLACK, within)
    return found


def test_every_image_meets_another_one_that_is_called_the_same() -> None:
    predicted = np.random.default_rng(0).integers(0, 5, 200)
    other = fellows(predicted, -1)
    assert (predicted[other] == predicted).all()
    assert sorted(other) == list(range(200)), "each is once the other one"
    assert (other != np.arange(200)).all()
    assert fellows(np.array([3, 1, 3, 1, 3]), -1).tolist() == [4, 3, 0, 1, 2]


def test_a_class_that_looks_like_what_is_filled_in_has_no_map_though_all_images_together_pass() -> None:
    """The trap of two classes: black is class 0, so nothing of it can be destroyed, and its images' maps do nothing."""
    together, alone = measured("own", None), measured("own", "class")
    chosen: Any = sanity_check.function(together, Drawer("own"), SanityCheck())
    assert chosen.failed is None
    ones = alone.column("predicted") == 1
    for column, zero, one in (("kept", 1, 1), ("kept_other", 1, 0), ("destroyed", 1, 0), ("destroyed_other", 1, 1), ("emptied", 1, 0)):
        values = alone.column(column)
        assert values[~ones].mean() == zero, column
        assert values[ones].mean() == one, column
    assert alone.facts["within"] == "class"
    assert "within" not in together.facts
    assert "predicted" not in together


@pytest.mark.parametrize("maps", ["of the class", "everything"])
def test_a_map_that_all_images_of_a_class_share_gains_nothing_within_it(maps: MAPS) -> None:
    alone = measured(maps, "class")
    np.testing.assert_array_equal(alone.column("kept"), alone.column("kept_other"))
    np.testing.assert_array_equal(alone.column("destroyed"), alone.column("destroyed_other"))


def test_a_map_of_the_class_passes_only_where_classes_are_compared() -> None:
    together: Any = sanity_check.function(measured("of the class", None), Drawer("of the class"), SanityCheck(least=0.3))
    assert not [w for w in together.why["wrong"] if "kept" in w or "destroyed" in w]
    everything: Any = sanity_check.function(measured("everything", None), Drawer("everything"), SanityCheck())
    assert everything.failed
    assert "kept - kept with another image's map is 0.000" in everything.failed
