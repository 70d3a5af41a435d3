"""Decoding in processes: pixels, faults and order as in threads; started where it pays, ended with the caller, no loss if one dies."""

from __future__ import annotations

import io
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from salientry import picture_decoding
from salientry.cli.checking import each
from salientry.errors import Error
from salientry.guard import Guard
from salientry.picture_check import PictureVerdict
from salientry.picture_decoding import PACKET, Decoded, Decoders, Source, Wanted, decoded
from salientry.picture_stream import AHEAD, BATCH, found_in, judged

from .runner.test_pool import alive
from .test_picture_stream import X, folder, guard, tar_of

__all__ = ["folder", "guard"]
ROOT = Path(__file__).parents[1]
WANTED = Wanted(1, 12, 12)


def content(i: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(X[i % len(X), 0]).save(file, "PNG")
    return file.getvalue()


def many(count: int) -> Iterator[Source]:
    return (Source(f"{i}.png", content(i)) for i in range(count))


def children() -> set[int]:
    return {p.pid for p in multiprocessing.active_children() if p.pid}


@pytest.fixture
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("processes were started")

    monkeypatch.setattr(Decoders, "_start", refuse)


def test_processes_and_threads_give_the_same(guard: Guard, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(tmp_path / "size.png")
    paths = [folder, tmp_path / "bad.png", tmp_path / "size.png", tmp_path / "none.png", tar_of(folder, tmp_path / "all.tar")]
    here, there = ([*judged(guard, found_in(paths), batch=17, processes=n)] for n in (0, 2))
    assert [len(b.sources) for b in here] == [17, 17, 17, 17, 15] and [sum(len(b.faults) for b in bs) for bs in (here, there)] == [3, 3]
    for a, b in zip(here, there, strict=True):
        assert a.sources == b.sources and torch.equal(a.images, b.images) and a.verdict is not None and b.verdict is not None
        assert {i: (type(e), str(e)) for i, e in a.faults.items()} == {i: (type(e), str(e)) for i, e in b.faults.items()}
        assert torch.equal(a.verdict.score, b.verdict.score)


@pytest.mark.parametrize("processes", [0, 1])
def test_no_more_are_asked_for_than_a_few_batches(guard: Guard, processes: int) -> None:
    asked = 0

    def endless() -> Iterator[Source]:
        nonlocal asked
        while True:
            asked += 1
            yield Source(f"{asked}.png", content(asked))

    for given, _ in enumerate(itertools.islice(judged(guard, endless(), batch=60, processes=processes), 10)):
        assert asked == 60 * (given + 1 + AHEAD)


def test_a_call_on_few_pictures_starts_no_process(guard: Guard, no_processes: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long they take."""
    monkeypatch.setattr(picture_decoding, "START", 0.0)
    monkeypatch.setattr(picture_decoding, "WORTH", 0.0)
    assert sum(len(b.sources) for b in judged(guard, many(BATCH))) == BATCH


def test_a_worker_starts_none(guard: Guard, no_processes: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_decoding, "START", 0.0)
    monkeypatch.setattr(picture_decoding, "WORTH", 0.0)
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: object())
    assert len([*judged(guard, many(40), batch=10)]) == 4


@pytest.mark.parametrize(
    ("own", "wall", "judging", "expected"),
    [
        (0.09, 0.09, 0.01, None),  # a start takes longer
        (0.29, 0.29, 0.1, (3, PACKET)),  # three decode as fast as one judges
        (0.3, 1.2, 0.1, (8, PACKET)),  # from a slow disk, or one interpreter: no more than threads
        (0.3, 0.3, 9.0, (1, PACKET)),
        (0.3, 0.3, 11.0, None),  # it would gain less than 3 %
        (2.5, 2.5, 1.0, (3, 10)),  # hundredths of a second each: packets of a tenth
    ],
)
def test_they_are_started_where_decoding_takes_the_time(own: float, wall: float, judging: float, expected: tuple[int, int] | None) -> None:
    started = []
    decoders = Decoders(WANTED, 8)
    decoders._start = lambda *how: started.append(how)  # type: ignore[method-assign, assignment]
    with decoders:
        sources = iter([Source(str(i)) for i in range(BATCH)])
        decoders._submit = lambda some: _there(Decoded(X[:0], {}, own / BATCH, wall / BATCH))  # type: ignore[method-assign]
        for packet in [*decoders.begin(sources, BATCH, BATCH)]:
            decoders.of(packet)
        decoders.judged(judging)
        decoders.judged(0.0)
    assert started == ([] if expected is None else [expected])


def _there(value: Decoded) -> Future[Decoded]:
    future = Future[Decoded]()
    future.set_result(value)
    return future


def test_packets_end_where_batches_end() -> None:
    with Decoders(WANTED, 1) as decoders:
        decoders._size, decoders._submit = 50, lambda some: _there(decoded(some, WANTED))  # type: ignore[method-assign]
        left = many(1000)
        sizes = [[len(p.sources) for p in decoders.begin(left, room, 120)] for room in (360, 50, 70)]
    assert sizes == [[50, 50, 20] * 3, [50], [50, 20]]


def test_where_they_pay_the_lines_are_the_same(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = children(), set[int]()
    expected = [(n, s.json()) for n, s in each(guard, many(3 * BATCH)) if isinstance(s, PictureVerdict)]
    assert children() == before
    monkeypatch.setattr(picture_decoding, "START", 0.0)
    monkeypatch.setattr(picture_decoding, "WORTH", 0.0)
    sources = itertools.chain(many(3 * BATCH), many(4 * BATCH))
    found = []
    for name, said in each(guard, sources):
        assert isinstance(said, PictureVerdict)
        found.append((name, said.json()))
        seen |= children() - before
    assert len(seen) >= 1 and found[: 3 * BATCH] == expected and len(found) == 7 * BATCH
    assert children() == before


def test_one_that_is_killed_costs_nothing(guard: Guard) -> None:
    before = children()
    expected = torch.cat([b.verdict.score for b in judged(guard, many(400), batch=40, processes=0) if b.verdict is not None])
    said = judged(guard, many(400), batch=40, processes=1)
    batches = [next(said)]
    for pid in children() - before:
        os.kill(pid, signal.SIGKILL)
    with pytest.warns(UserWarning, match="decoded in threads from here on: a process for it failed"):
        batches.extend(said)
    assert torch.equal(torch.cat([b.verdict.score for b in batches if b.verdict is not None]), expected)


def test_where_none_can_be_started_threads_go_on(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where somebody limits the number of processes."""

    def refuse(*_: Any) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(ProcessPoolExecutor, "submit", refuse)
    expected = torch.cat([b.verdict.score for b in judged(guard, many(90), batch=40, processes=0) if b.verdict is not None])
    with pytest.warns(UserWarning, match=r"a process for it failed \(BlockingIOError\)"):
        found = torch.cat([b.verdict.score for b in judged(guard, many(90), batch=40, processes=2) if b.verdict is not None])
    assert torch.equal(found, expected)


def test_what_decodes_needs_no_torch() -> None:
    code = "import sys; import salientry.picture_decoding; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_an_error_survives_the_journey() -> None:
    with Decoders(WANTED, 1, 1) as decoders:
        bad = [Source("a.png", b"no picture"), Source("b.png", content(0)), Source("none.png"), Source("f.png", fault=Error("why"))]
        (packet,) = decoders.begin(iter(bad), 10, 10)
        found = decoders.of(packet)
    assert found.pixels.shape == (1, 1, 12, 12) and (found.pixels[0] == X[0]).all()
    assert {i: (type(e), str(e)) for i, e in found.faults.items()} == {i: (type(e), str(e)) for i, e in decoded(bad, WANTED).faults.items()}


ENDLESS = """
import itertools, os, sys, time
from salientry.picture_decoding import Decoders, Source, Wanted
with Decoders(Wanted(1, 2, 2), 1, 1) as decoders:
    packets = [*decoders.begin(iter([Source("none.png")] * 4), 4, 4)]
    decoders.of(packets[0])
    import multiprocessing
    print(multiprocessing.active_children()[0].pid, flush=True)
    time.sleep(60)
"""


def test_none_outlives_its_caller() -> None:
    with subprocess.Popen([sys.executable, "-c", ENDLESS], cwd=ROOT, stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout is not None
        pid = int(caller.stdout.readline())
        assert alive(pid)
        caller.kill()
    end = time.monotonic() + 20
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(pid)
