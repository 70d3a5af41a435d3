"""The list of what runs at night alone names what is there, and leaves one shape of each contract test."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest

from salientry.detectors import DETECTORS

from . import nightly
from .examples import SHAPES, attacks
from .report import browser
from .serve.test_clients import PYTHON

HERE = Path(__file__).parent
NAMED = sorted({(p, f) for p, found in nightly.WHOLE.items() for f in found} | set(nightly.ONE) | set(nightly.NOT))


@pytest.mark.nightly
def test_a_night_leaves_nothing_out_silently() -> None:
    """Tests that need these skip where they are not: a night without them is not a whole one."""
    assert browser.PROGRAM, "no chromium: tests of pages in a browser were skipped"
    assert PYTHON.exists(), "no clients of others (make clients): tests with them were skipped"
    assert os.environ.get("SALIENTRY_DATA"), "SALIENTRY_DATA is not set: tests on MNIST, CIFAR-10 and ASSIRA were skipped"


@pytest.mark.parametrize(("path", "function"), NAMED)
def test_what_is_named_is_a_test(path: str, function: str) -> None:
    assert re.search(rf"^def {function}\(", (HERE / path).read_text(), re.MULTILINE)


def test_each_method_keeps_one_shape_of_each_test_and_meets_all_of_them() -> None:
    functions, met = [f"test_{i}" for i in range(30)], Counter[str]()
    for name in attacks():
        for f in functions:
            kept = [s for s in SHAPES if not nightly.waits("attacks/test_contract.py", f, "", {"name": name, "shape": s}, SHAPES)]
            assert len(kept) == 1
            met[kept[0]] += 1
    assert set(met) == set(SHAPES) and min(met.values()) > len(attacks()) * 5


@pytest.mark.parametrize("path", nightly.THIRDS)
def test_each_test_meets_some_detectors_and_each_detector_some_tests(path: str) -> None:
    functions = re.findall(r"^def (test_\w+)\([^)]*\bname\b", (HERE / path).read_text(), re.MULTILINE)
    kept = {(f, n) for f in functions for n in DETECTORS if not nightly.waits(path, f, n, {"name": n}, SHAPES)}
    assert len(kept) < 0.45 * len(functions) * len(DETECTORS)
    assert min(Counter(f for f, _ in kept).values()) >= 8 and len({f for f, _ in kept}) == len(functions) > 4
    assert {n for _, n in kept} == set(DETECTORS)


def test_a_case_is_left_out_by_its_name_alone() -> None:
    (path, function), kept = next(iter(nightly.ONE.items()))
    assert not nightly.waits(path, function, kept, {}, SHAPES) and nightly.waits(path, function, "another", {}, SHAPES)
    (path, function), left = next(iter(nightly.NOT.items()))
    assert nightly.waits(path, function, left, {}, SHAPES) and not nightly.waits(path, function, "another", {}, SHAPES)
    assert not nightly.waits("test_rows.py", "test_anything", "", {"shape": "grey"}, SHAPES)
