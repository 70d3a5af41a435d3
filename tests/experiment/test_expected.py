"""How long something will take, and how much of it is left."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from salientry.attacks import BIM
from salientry.classifiers import AdversariallyTrained, CompactCNN
from salientry.detectors import PASA, CounterAttack, FeatureSqueezing, Margin
from salientry.evidence import Evidence
from salientry.experiment.expected import _epochs, time_of
from salientry.experiment.fit_progress import FitProgress


class Counting(nn.Module):
    """Linear logits, and how many images it saw forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.flat, self.seen = nn.Linear(12, 3), 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x) * (3 if x.requires_grad else 1)
        out: Tensor = self.flat(x.flatten(1))
        return out


@pytest.mark.parametrize("detector", [PASA(), PASA(steps=3), FeatureSqueezing(), Margin()])
def test_a_detectors_time_is_that_of_the_passes_it_makes(detector: Any) -> None:
    net, x = Counting(), torch.rand(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    net.requires_grad_(False)
    detector.view(Evidence(net, None, x, detector.needs))
    assert net.seen / len(x) == pytest.approx(time_of(detector), rel=0.1, abs=3)


def test_a_counter_attack_takes_half_of_its_steps_there_and_back() -> None:
    assert time_of(CounterAttack(steps=20)) == 3 + 10 * 4


def test_training_on_attacked_images_takes_what_the_attack_takes_too() -> None:
    plain = CompactCNN(epochs=4)
    assert _epochs(plain) == 4
    assert _epochs(AdversariallyTrained(plain, BIM(0.1, 0.02, 5))) == 4 * 6


def test_steps_and_parts_count_together() -> None:
    heard: list[tuple[float, float]] = []
    bar = FitProgress(lambda share, left: heard.append((share, left)), "judge")
    bar.expect({"a": 30.0}, 2)
    bar.beside({"one": 20.0, "never": 25.0})
    assert bar.ahead == {"a": 30.0, "one": 40.0, "never": 50.0}, "parts come one after the other, steps two at a time"
    bar._counting("a", "a step")(1, 1)
    assert heard[-1][0] == pytest.approx(30 / 120)
    said = bar.part("one")
    said(1, 2)
    assert heard[-1][0] == pytest.approx(50 / 120)
    unknown = bar.part("what nobody expected")
    unknown(1, 2)
    assert heard[-1][0] == pytest.approx(50 / 120), "it moves nothing"
    bar.over("never", "one")
    said = bar.part("last")
    said(0, 1)
    assert heard[-1][0] == 1.0
