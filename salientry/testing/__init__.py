"""Checks that a detector keeps to what a guard, an attack and a verdict expect of it; for detectors of your own, and for ours.

In a test of pytest's::

    @pytest.mark.parametrize(("name", "check"), detector_checks(MyDetector()))
    def test_my_detector(name, check):
        check()
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from ..errors import Error, UsageError, brief
from .checks import CHECKS
from .subject import Subject, name_of


class ChecksFailed(Error, AssertionError):
    """A detector does not keep to what is expected of it; the message names each check that failed, and why.

    Attributes:
        failed: why, by check.
        passed: the checks that passed though they were expected to fail.
    """

    def __init__(self, name: str, failed: Mapping[str, str], passed: Mapping[str, str]) -> None:
        self.failed, self.passed = dict(failed), dict(passed)
        lines = [f"- {check}: {why}" for check, why in failed.items()]
        lines += [f"- {check}: it passes, and was expected to fail: {why}" for check, why in passed.items()]
        super().__init__("\n".join([f"{len(lines)} of {len(CHECKS)} checks of the detector {name} do not end as expected:", *lines]))


def detector_checks(
    detector: Any,
    classifier: nn.Module | None = None,
    shape: Sequence[int] = (3, 32, 32),
    *,
    saliency: nn.Module | None = None,
    second: nn.Module | None = None,
    parts: Sequence[nn.Module] = (),
) -> list[tuple[str, Callable[[], None]]]:
    """The checks of a detector, each with its name; the detector is fitted when the first of them is called.

    Args:
        detector: a callable, images (N, C, H, W) float32 in [0, 1] to scores (N,); an object with ``fit`` and ``score``; either in an
            :class:`~salientry.detectors.ExternalDetector`; or settings of ours, like ``Margin()``.
        classifier: images to logits; default a small untrained network.
        shape: (C, H, W) of its images.
        saliency: draws maps, for a detector that reads them; default an untrained one.
        second: another classifier, for a detector that asks it; default an untrained one.
        parts: fitted modules that settings of ours are built on, like ``Fused()``.

    Returns:
        Names, and with each what raises :class:`ChecksFailed` where the detector does not keep to it.

    Raises:
        UsageError: for what is no detector.
    """
    subject = Subject(detector, classifier, tuple(shape), saliency, second, tuple(parts))
    return [(name, partial(_run, subject, name, check)) for name, check in CHECKS.items()]


def check_detector(
    detector: Any,
    classifier: nn.Module | None = None,
    shape: Sequence[int] = (3, 32, 32),
    *,
    expected_failures: Mapping[str, str] | None = None,
    **given: Any,
) -> None:
    """Run all of :func:`detector_checks`.

    Args:
        detector: see there.
        classifier: see there.
        shape: see there.
        expected_failures: checks that the detector is known to fail, each with the reason. One that passes is reported, too.
        **given: ``saliency``, ``second``, ``parts``: see there.

    Raises:
        ChecksFailed: names each check that failed, or passed though it was expected to fail.
        UsageError: for what is no detector, or an expected failure of a check that there is not.

    Examples:
        >>> from salientry.testing import check_detector
        >>> check_detector(lambda images: images.flatten(1).std(1))
    """
    expected = dict(expected_failures or {})
    if unknown := [n for n in expected if n not in CHECKS]:
        raise UsageError(f"there is no check {unknown[0]!r}; there are: {', '.join(CHECKS)}")
    failed: dict[str, str] = {}
    for _, check in detector_checks(detector, classifier, shape, **given):
        try:
            check()
        except ChecksFailed as e:
            failed |= e.failed
    passed = {n: why for n, why in expected.items() if n not in failed}
    if (wrong := {n: why for n, why in failed.items() if n not in expected}) or passed:
        raise ChecksFailed(name_of(detector), wrong, passed)


def _run(subject: Subject, name: str, check: Callable[[Subject], None]) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as of torch about the deviation of no image
            check(subject)
    except Exception as e:
        raise ChecksFailed(subject.name, {name: str(e) if isinstance(e, Error) else brief(e)}, {}) from e


__all__ = ["CHECKS", "ChecksFailed", "check_detector", "detector_checks"]
