"""Killed at any moment, the next call goes on, and the records are the same to the last bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import finish, recorded

ROOT = Path(__file__).parents[2]
KILLS = 5


def start(store: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", "-m", "tests.tiny", str(store), str(out)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as heard:
        assert heard.readline() == "ready\n"
    return process


@pytest.mark.nightly
def test_a_run_killed_at_random_moments_ends_with_the_same_records(finished: Path, tmp_path: Path) -> None:
    """``finished`` is an uninterrupted run of this recipe in another process and another store."""
    rng, killed = random.Random(), []
    for _ in range(KILLS):
        process = start(tmp_path / "store", tmp_path / "out")
        wait = rng.uniform(0.2, 4.0)
        try:
            process.wait(timeout=wait)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            killed.append((round(wait, 2), len(list((tmp_path / "store").glob("*/*/DONE")))))
    process = start(tmp_path / "store", tmp_path / "out")
    assert process.wait() == 0
    assert killed, "nothing was killed: the recipe is too short for this test"
    mine, theirs = recorded(tmp_path / "out"), recorded(finished)
    assert sorted(mine) == sorted(theirs)
    assert [name for name in mine if mine[name] != theirs[name]] == [], f"killed after (seconds, results) {killed}"
    assert not [p for p in (tmp_path / "store").rglob(".new-*") if p.is_dir()]
    assert not list((tmp_path / "store").rglob("*.parts"))


def test_a_second_call_computes_nothing(finished: Path, finished_store: Path, tmp_path: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished_store.rglob("DONE")}
    _, _, outcome = finish(finished_store, tmp_path)
    assert not outcome.made
    assert len(outcome.reused) == len(before)
    assert {p: p.stat().st_mtime_ns for p in finished_store.rglob("DONE")} == before
    assert recorded(tmp_path) == recorded(finished)
