"""The checks of a detector: those that are sound pass, and each check catches the detector that breaks it, by name."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from salientry.detectors import ExternalDetector, Margin
from salientry.errors import Error, UsageError
from salientry.testing import CHECKS, ChecksFailed, check_detector, detector_checks

from . import examples, own_detectors

SHAPE = (1, 12, 12)
GREYS = {"uint8_is_scored_alike_or_refused": "numpy takes differences of 8-bit values modulo 256"}
SOUND: dict[str, tuple[Any, dict[str, str]]] = {
    "contrast": (own_detectors.contrast, {}),
    "roughness": (own_detectors.roughness, GREYS),
    "smooth roughness": (own_detectors.smooth_roughness, {}),
    "nearest mean": (own_detectors.NearestMean(), {}),
    "feature squeezing": (own_detectors.FeatureSqueezing(), {}),
    "network": (own_detectors.Network(), {}),
    "a name": (ExternalDetector(own_detectors.contrast, name="mine"), {}),
    "settings": (Margin(), {}),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_detector_passes(name: str) -> None:
    detector, expected = SOUND[name]
    check_detector(detector, shape=SHAPE, expected_failures=expected)


@pytest.mark.parametrize(("name", "check"), detector_checks(own_detectors.contrast, shape=SHAPE))
def test_as_pytest_calls_them(name: str, check: Callable[[], None]) -> None:
    assert name in CHECKS
    check()


@pytest.mark.nightly
@pytest.mark.parametrize("name", sorted(examples.detectors()))
def test_ours_pass(name: str) -> None:
    if name in ("fused", "cascade", "mahalanobis"):
        pytest.skip("its parts are of other images")
    check_detector(examples.detectors()[name], examples.conv(examples.SHAPES["grey"]), (1, 12, 12))


# --- one broken detector a check ------------------------------------------------------------------------------------------------


def plain(x: Tensor) -> Tensor:
    return x.flatten(1).std(1)


class Unwilling(Margin):
    """Settings whose view needs an image; a function or object of a user's is never asked about none."""

    def view(self, evidence: Any, *parts: Any) -> Tensor:
        return super().view(evidence, *parts) + 0 * evidence.image.max()


def with_default_type(x: Tensor) -> Tensor:
    torch.set_default_dtype(torch.float64)
    return plain(x)


def with_a_seed(x: Tensor) -> Tensor:
    torch.manual_seed(0)
    return plain(x)


def without_gradients(x: Tensor) -> Tensor:
    torch.set_grad_enabled(False)
    return plain(x)


def with_numpys(x: Tensor) -> Tensor:
    return plain(x) + 0 * float(np.random.rand()) + 0 * random.random()


def changing(x: Tensor) -> Tensor:
    with torch.no_grad():
        x[0, 0, 0, 0] = 0.5
    return plain(x)


def by_memory(x: Tensor) -> Tensor:
    return plain(torch.as_strided(x, (len(x), x.shape[2]), (x[:1].numel(), 1)))


class Fitting:
    """Learns a mean; each of those below does one thing wrong."""

    def fit(self, evidence: Any, labels: Tensor) -> None:
        self.mean = float(evidence.image[labels == 0].mean())

    def score(self, evidence: Any) -> Tensor:
        return (evidence.image.mean((1, 2, 3)) - self.mean).abs()


class Drawing(Fitting):
    def fit(self, evidence: Any, labels: Tensor) -> None:
        super().fit(evidence, labels)
        self.mean += float(torch.rand(()))


class Remembering(Fitting):
    def fit(self, evidence: Any, labels: Tensor) -> None:
        super().fit(evidence, labels)
        self.labels = labels

    def score(self, evidence: Any) -> Tensor:
        return super().score(evidence) + evidence.image.amax((1, 2, 3)) * float(self.labels[:9].sum())


class Relabelling(Fitting):
    def fit(self, evidence: Any, labels: Tensor) -> None:
        super().fit(evidence, labels)
        labels.zero_()


class Asking(Fitting):
    needs = frozenset({"classifier"})

    def score(self, evidence: Any) -> Tensor:
        evidence.classifier.train()
        return super().score(evidence)


class Training(Fitting):
    needs = frozenset({"classifier"})

    def fit(self, evidence: Any, labels: Tensor) -> None:
        super().fit(evidence, labels)
        next(evidence.classifier.parameters()).data += 1


class Holding(Fitting):
    def fit(self, evidence: Any, labels: Tensor) -> None:
        super().fit(evidence, labels)
        self.handle = object()


class Labelled(Fitting):
    def score(self, evidence: Any, labels: Tensor) -> Tensor:  # type: ignore[override]
        return super().score(evidence) + labels


class Forgetful(nn.Module):
    """Its scale is no weight."""

    made = 0

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return plain(x) + self.calls


BROKEN: list[tuple[str, Any]] = [
    ("one_finite_score_an_image", lambda x: plain(x) / 0),
    ("one_finite_score_an_image", lambda x: x.flatten(2).std(2).repeat(1, 2)),
    ("one_image", lambda x: plain(x).squeeze()),
    ("no_image", Unwilling()),
    ("neighbours_do_not_matter", lambda x: plain(x) - plain(x).mean()),
    ("order_does_not_matter", lambda x: plain(x) + 0.1 * torch.arange(len(x))),
    ("same_twice", lambda x: plain(x) + 0.01 * torch.rand(len(x))),
    ("same_twice", Forgetful()),
    ("memory_layout_does_not_matter", by_memory),
    ("float64_is_scored_alike_or_refused", lambda x: plain(x) if x.dtype == torch.float32 else x.float().flatten(1).mean(1)),
    ("uint8_is_scored_alike_or_refused", lambda x: plain(x.float())),
    ("uint8_is_scored_alike_or_refused", own_detectors.roughness),
    ("gradients_do_not_matter", lambda x: plain(x) * (2 if x.requires_grad else 1)),
    ("images_are_left_alone", changing),
    ("surroundings_are_left_alone", with_default_type),
    ("surroundings_are_left_alone", with_a_seed),
    ("surroundings_are_left_alone", with_numpys),
    ("surroundings_are_left_alone", without_gradients),
    ("surroundings_are_left_alone", Asking()),
    ("fit_leaves_surroundings_alone", Drawing()),
    ("fit_leaves_surroundings_alone", Relabelling()),
    ("fit_leaves_surroundings_alone", Training()),
    ("same_seed_same_detector", Drawing()),
    ("labels_are_not_looked_at_again", Remembering()),
    ("labels_are_not_looked_at_again", Labelled()),
    ("saved_and_loaded", Holding()),
    ("extreme_images_have_finite_scores", lambda x: plain(x).log()),
]


@pytest.mark.parametrize(("check", "detector"), BROKEN)
def test_a_broken_detector_is_caught_by_the_checks_name(check: str, detector: Any) -> None:
    before = torch.get_default_dtype(), torch.is_grad_enabled()
    (one,) = [run for name, run in detector_checks(detector, shape=SHAPE) if name == check]
    with pytest.raises(ChecksFailed, match=check) as found:
        one()
    assert isinstance(found.value, AssertionError) and isinstance(found.value, Error)
    torch.set_grad_enabled(before[1])
    assert torch.get_default_dtype() == before[0], "one check does not disturb the next"


def test_each_check_has_a_detector_that_breaks_it() -> None:
    assert {name for name, _ in BROKEN} == set(CHECKS)
    assert all(len(c.__doc__ or "") > 20 for c in CHECKS.values())


# --- expected failures ----------------------------------------------------------------------------------------------------------


def crooked(x: Tensor) -> Tensor:
    return plain(x).log() - plain(x).mean()


def test_all_that_fail_are_named_but_those_that_are_expected() -> None:
    with pytest.raises(ChecksFailed, match="2 of 17 checks of the detector crooked do not end as expected") as found:
        check_detector(crooked, shape=SHAPE)
    assert set(found.value.failed) == {"neighbours_do_not_matter", "extreme_images_have_finite_scores"} and not found.value.passed
    assert "- neighbours_do_not_matter: alone and among others: scores differ by up to" in str(found.value)
    expected = {"neighbours_do_not_matter": "it ranks a batch"}
    with pytest.raises(ChecksFailed, match="scores of these images are not finite: black, white, grey") as found:
        check_detector(crooked, shape=SHAPE, expected_failures=expected)
    assert set(found.value.failed) == {"extreme_images_have_finite_scores"}
    check_detector(crooked, shape=SHAPE, expected_failures=expected | {"extreme_images_have_finite_scores": "it takes a logarithm"})


def test_an_expected_failure_that_passes_is_reported() -> None:
    with pytest.raises(ChecksFailed, match="same_twice: it passes, and was expected to fail: it draws") as found:
        check_detector(own_detectors.contrast, shape=SHAPE, expected_failures={"same_twice": "it draws"})
    assert found.value.passed == {"same_twice": "it draws"} and not found.value.failed


def test_what_cannot_be_checked_is_refused() -> None:
    with pytest.raises(UsageError, match="there is no check 'same'; there are: one_finite"):
        check_detector(own_detectors.contrast, expected_failures={"same": "no"})
    with pytest.raises(UsageError, match="found 3"):
        check_detector(3)
    with pytest.raises(UsageError, match=r"the classifier fails on images of shape \(3, 32, 32\)"):
        check_detector(own_detectors.contrast, examples.conv(examples.SHAPES["grey"]))
    with pytest.raises(UsageError, match=r"shape is \(C, H, W\), three whole numbers above 0; found \(28, 28\)"):
        check_detector(own_detectors.contrast, shape=(28, 28))


def test_the_pages_example_runs(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "audit.md").read_text()
    (code,) = [c for c in re.findall(r"```python\n(.*?)```", page, re.S) if "detector_checks" in c]
    names: dict[str, Any] = {}
    exec(code, names)
    marks = names["test_my_detector"].pytestmark
    assert [name for name, _ in marks[0].args[1]] == list(CHECKS)
    assert {line for line in page.splitlines() if line.split("`")[1:2] and line.split("`")[1] in CHECKS} == {
        f"| `{name}` | {(check.__doc__ or '').splitlines()[0]} |" for name, check in CHECKS.items()
    }
