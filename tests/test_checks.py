"""What `./check` leaves out, `make nightly` runs."""

from __future__ import annotations

import re
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def would_run(*targets: str) -> str:
    """The commands of these targets of the Makefile."""
    done = subprocess.run(["make", "-nB", *targets], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def nightly() -> list[str]:
    (line,) = re.findall(r"^NIGHTLY := ([^#\n]*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return line.split()


def test_a_plain_run_leaves_out_what_is_nightly_and_nothing_else(request: pytest.FixtureRequest) -> None:
    options = request.config.getini("addopts")
    assert [b for a, b in pairwise(options) if a == "-m"] == ["not nightly"]


def test_nightly_runs_all_tests_with_coverage_and_the_soak() -> None:
    assert {"everything", "soak"} <= set(nightly())
    (tests,) = (line for line in would_run("everything").splitlines() if " -m pytest" in line)
    assert ' -m "" ' in tests, "no test is left out"
    assert "--cov-fail-under=90" in tests
    assert "-k" not in tests.split() and "--deselect" not in tests and "--ignore" not in tests


@pytest.mark.parametrize("target", nightly())
def test_what_is_nightly_is_a_target(target: str) -> None:
    assert f"\n{target}:" in (ROOT / "Makefile").read_text()
    assert would_run(target)


def test_check_runs_the_plain_run() -> None:
    (tests,) = (line for line in would_run("test").splitlines() if " -m pytest" in line)
    assert '-m ""' not in tests and "--cov" not in tests and "-k" not in tests.split()
    assert re.search(r"^make -s test ", (ROOT / "check").read_text(), re.MULTILINE)


def test_no_test_is_skipped_without_a_condition() -> None:
    always = re.compile(r"pytest\.mark\." + r"skip\b")
    assert [f.name for f in (ROOT / "tests").rglob("test_*.py") if always.search(f.read_text())] == []
