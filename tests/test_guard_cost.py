"""What a guard costs is counted and timed on the guard itself."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from salientry import Guard
from salientry.detectors import Consistency, LearnedFusion, TopLogits
from salientry.detectors.consistency import FULL, LIGHT
from salientry.evidence import Evidence
from salientry.guard_card import card_text
from salientry.guard_cost import cost_text
from salientry.types import Shape

SHAPE = Shape(3, 16, 16, 4)
SECONDS = 0.004


class Slow(nn.Module):
    """A network that takes its time for each image."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(3 * 16 * 16, 4)

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(SECONDS * len(x))
        found: Tensor = self.last(x.flatten(1))
        return found


def guard(transforms: tuple[str, ...]) -> Guard:
    net, settings = Slow(), LearnedFusion((TopLogits(), Consistency(transforms)))
    with torch.no_grad():
        detector = settings.build(settings.widths(Evidence(net, None, torch.rand(2, 3, 16, 16))))
    return Guard(net, None, detector, 0.0, 0.05, torch.randn(100), SHAPE)


def test_passes_are_counted_and_times_are_of_the_guard_and_of_its_classifier() -> None:
    for transforms in (LIGHT, FULL):
        cost = guard(transforms).cost()
        assert cost["passes"] == 1 + len(transforms)
        one = cost["batches"]["1"]
        assert one["classifier_ms"] >= 1e3 * SECONDS and one["guard_ms"] >= 1e3 * SECONDS * cost["passes"]
        assert abs(one["ratio"] - one["guard_ms"] / one["classifier_ms"]) < 0.01


def test_the_card_says_what_it_costs_where_that_was_measured() -> None:
    some = guard(LIGHT)
    one, many = ({"guard_ms": g, "classifier_ms": c, "ratio": g / c} for g, c in ((3.1, 1.0), (80.0, 40.0)))
    cost = {"passes": 3.0, "batches": {"1": one, "64": many}, "processor": "AMD EPYC", "threads": 1}
    said = "for each image the classifier is asked about 3; one image takes 3.1 ms in place of 1.0 (3.1 times), "
    said += "64 at once 80 ms in place of 40 (2.0 times)"
    assert cost_text(cost) == [said, "measured on AMD EPYC, 1 thread"]
    assert some.card()["cost"] is None and some.card(cost=cost)["cost"] == cost
    assert f"\nF{said[1:]}; measured on AMD EPYC, 1 thread.\n" in card_text(some.card(cost=cost))
