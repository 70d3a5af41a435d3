"""What is asked of a classifier before anything else, on four templates whose right answers are known."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salientry import External
from salientry.errors import UsageError
from salientry.preflight import FEWEST, MOST, preflight, probabilities, shuffled

G = torch.Generator().manual_seed(0)
SHADES = torch.tensor([[0.6, 0.1, 0.1], [0.1, 0.1, 0.6], [0.0, 0.0, 0.0], [0.6, 0.6, 0.6]])  # red, blue, dark, bright
TEMPLATES = 0.4 * torch.rand(4, 3, 6, 6, generator=G) + SHADES[:, :, None, None]
LABELS = torch.arange(200) % 4
IMAGES = ((0.7 * TEMPLATES[LABELS] + 0.3 * torch.rand(200, 3, 6, 6, generator=G)) * 255).round() / 255


class Nearest(nn.Module):
    """Logits of the nearest template among images in its own units: ``inside`` says how it sees [0, 1] images."""

    def __init__(self, inside: Callable[[Tensor], Tensor] = lambda x: x, after: Callable[[Tensor], Tensor] = lambda z: z) -> None:
        super().__init__()
        self.templates = nn.Parameter(inside(0.7 * TEMPLATES + 0.15))
        self.after, self.scale = after, 20 / float(self.templates.detach().std())

    def forward(self, x: Tensor) -> Tensor:
        return self.after(-self.scale * (x[:, None] - self.templates).flatten(2).norm(dim=2))


def test_a_good_classifier_passes_and_its_accuracy_is_reported() -> None:
    seen = preflight(Nearest(), IMAGES, LABELS)
    assert (seen.classes, seen.count, seen.right, seen.accuracy, seen.advice) == (4, 200, 200, 1.0, "")
    assert "right on 200 of 200 images (100.0 %); shuffled labels give 2" in seen.summary()
    assert preflight(Nearest(), IMAGES).summary() == ""
    many = IMAGES.repeat(3, 1, 1, 1)
    assert preflight(Nearest(), many, LABELS.repeat(3)).count == MOST


def test_the_network_is_left_as_it_was() -> None:
    net = Nearest().train()
    preflight(net, IMAGES, LABELS)
    assert net.training
    assert net.templates.requires_grad
    assert net.templates.grad is None


@pytest.mark.parametrize(
    ("inside", "words"),
    [
        (lambda x: (x - 0.5) / 0.5, r"With External\(..., mean=0.5, std=0.5\) it would be right on 200 of 200"),
        (lambda x: x * 255, r"std=1 / 255\), for it wants values from 0 to 255, it would be right on 200 of 200"),
        (lambda x: x.flip(1), r'channels="BGR"\) it would be right on 200 of 200'),
        (lambda x: 1 - x, r"black and white exchanged \(1 - images\) it would be right on 200 of 200"),
    ],
    ids=["mean and std", "0 to 255", "BGR", "inverted"],
)
def test_a_forgotten_convention_is_named(inside: Any, words: str) -> None:
    """Warned of when it still knows something, refused when that is chance; both say which convention it is."""
    try:
        seen = preflight(Nearest(inside), IMAGES, LABELS)
    except UsageError as e:
        advice = str(e)
    else:
        assert seen.right is not None and seen.right < 150
        advice = seen.advice
    assert re.search(words, advice), advice


def test_labels_in_another_order_are_named() -> None:
    with pytest.raises(
        UsageError, match=r"right on 0 of 200 .*chance.*numbered in another order: it says 0 where the label is 1, .* right on 200"
    ):
        preflight(Nearest(), IMAGES, (LABELS + 1) % 4)


def test_an_untrained_network_is_refused_and_few_labels_are_no_proof() -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(108, 4))
    y = LABELS[torch.randperm(200, generator=torch.Generator().manual_seed(1))]
    with pytest.raises(UsageError, match=r"is no better than chance on these images.*weights that were not loaded"):
        preflight(net, IMAGES, y)
    few = preflight(net, IMAGES[: FEWEST - 1], y[: FEWEST - 1])
    assert few.right is not None
    assert few.advice == ""


def test_chance_is_what_shuffled_labels_give_and_fair_to_rare_classes() -> None:
    y = np.zeros(200, np.int64)
    y[:10] = 1
    chance, lucky = shuffled(np.zeros(200, np.int64), y)
    assert (round(chance, 6), lucky) == (0.95, True), "always the frequent class"
    finds = np.zeros(200, np.int64)
    finds[:8], finds[190:] = 1, 1  # most of the rare class, and as many wrong alarms
    chance, lucky = shuffled(finds, y)
    assert (finds == y).mean() < 0.95
    assert not lucky


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (Nearest(after=lambda z: F.dropout(z, 0.5)), "two answers.*drop-out that is always on"),
        (Nearest(after=lambda z: z + torch.randn_like(z)), "two answers"),
        (Nearest(after=lambda z: z - z.mean(0)), "depends on its neighbours: .* alone and in a batch"),
        (Nearest(after=lambda z: z + torch.arange(len(z))[:, None] * torch.eye(4)[0]), "depends on its neighbours: .*"),
        (nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), Nearest()), "depends on its neighbours"),
        (Nearest(after=lambda z: z * torch.where(z == z.max(), torch.nan, 1.0)), "not finite on image"),
        (Nearest(after=lambda z: z[:, :, None]), r"logits \(N, K\); it gave \(8, 4, 1\)"),
        (Nearest(after=lambda z: z[:4]), r"it gave \(4, 4\) for 8 images"),
        (Nearest(after=lambda z: z[:, :1]), "one output .*External"),
        (Nearest(after=lambda z: z.argmax(1)[:, None].repeat(1, 4)), "as floats; it gave torch.int64"),
        (Nearest(after=lambda z: {"logits": z}), "it gave dict.*wrap it in External"),
        (Nearest(after=lambda z: z.softmax(1)), r"softmax probabilities.*trust_output"),
        (Nearest(after=lambda z: torch.sigmoid(z / 50)), r"sigmoid probabilities.*trust_output"),
        (External(Nearest(after=lambda z: torch.sigmoid(z / 50))), r"sigmoid probabilities.*trust_output"),
    ],
    ids=lambda v: "" if isinstance(v, nn.Module) else v[:20],
)
def test_what_is_no_classifier_is_refused_with_the_reason(net: nn.Module, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        preflight(net, IMAGES, LABELS)


def test_rounding_that_differs_with_the_batch_is_no_fault() -> None:
    preflight(Nearest(after=lambda z: z * (1 + 1e-6 * len(z))), IMAGES, LABELS)
    preflight(Nearest(after=lambda z: z * (1 + 3e-3 * len(z) / 8)).bfloat16(), IMAGES, LABELS)


def test_probabilities_are_reported_on_enough_images_and_can_be_trusted() -> None:
    z = torch.rand(31, 3)
    assert probabilities(z) == ""
    assert "sigmoid" in probabilities(torch.cat([z, z]))
    assert "sigmoid" in probabilities(z[:8, :1], one=True)
    assert probabilities(torch.cat([z, z]) + 0.5) == ""
    trusted = External(Nearest(after=lambda z: z.softmax(1)), trust_output=True)
    assert preflight(trusted, IMAGES, LABELS).right == 200


@pytest.mark.parametrize(
    "error", [KeyError("boom"), AssertionError(), MemoryError(), SystemExit(3), RuntimeError("two\nlines"), StopIteration()]
)
def test_what_its_forward_raises_is_its_error_with_the_place(error: BaseException) -> None:
    def raising(z: Tensor) -> Tensor:
        raise error

    with pytest.raises(UsageError) as e:
        preflight(Nearest(after=raising), IMAGES, LABELS)
    message = str(e.value)
    assert message.startswith(f"the classifier fails on images of 3 x 6 x 6 (channels, height, width): {type(error).__name__}")
    assert "test_preflight.py:" in message
    assert "raising" in message
    assert "\n" not in message


def test_an_interrupt_stays_one() -> None:
    def raising(z: Tensor) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        preflight(Nearest(after=raising), IMAGES, LABELS)


def test_no_images() -> None:
    with pytest.raises(UsageError, match="no images"):
        preflight(Nearest(), IMAGES[:0], LABELS[:0])
