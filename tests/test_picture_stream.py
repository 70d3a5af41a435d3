"""Many pictures: all are found, in one order, judged as the guard judges them, and no more are in memory than a few batches."""

from __future__ import annotations

import gc
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from salientry.cli.checking import Journal, each
from salientry.errors import DataDamaged, DataMissing, UsageError
from salientry.guard import Guard
from salientry.picture_stream import AHEAD, Source, found_in, judged
from salientry.pixels import write_pixels
from salientry.types import Shape

from . import examples
from .cli.conftest import Cli
from .test_guard import guarded

SHAPE = Shape(1, 12, 12, 5)
X: NDArray[np.uint8] = (examples.images(SHAPE, 40, seed=4) * 255).round().to(torch.uint8).numpy()


def net() -> nn.Module:
    return examples.conv(SHAPE)


@pytest.fixture(scope="module")
def guard() -> Guard:
    found = guarded(net(), None, "margin")  # type: ignore[arg-type]
    found.threshold = float(found(torch.from_numpy(X)).score.sort().values[31:33].mean())  # eight of forty are flagged
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pictures in three folders, and what is none."""
    at = tmp_path_factory.mktemp("pictures")
    for i, x in enumerate(X):
        write_pixels(at / ("b", "a", "a/deep")[i % 3] / f"{i:02}.png", x)
    (at / "a" / "notes.md").write_text("no picture")
    return at


def tar_of(folder: Path, path: Path, kind: str = "w") -> Path:
    with tarfile.open(path, kind) as tar:  # type: ignore[call-overload]
        for p in sorted(folder.rglob("*")):
            tar.add(p, p.relative_to(folder), recursive=False)
    return path


def number(name: str) -> int:
    return int(Path(name).stem)


def scores(guard: Guard, sources: Iterator[Source], **how: int) -> dict[int, float]:
    found = {}
    for batch in judged(guard, sources, **how):
        assert batch.verdict is not None and not batch.faults
        found |= {number(s.name): float(v) for s, v in zip(batch.sources, batch.verdict.score, strict=True)}
    return found


# --- what is found -------------------------------------------------------------------------------------------------


def test_a_folder_is_walked_in_the_order_of_names(folder: Path) -> None:
    names = [Path(s.name).relative_to(folder) for s in found_in([folder])]
    assert len(names) == len(X) == len(set(names))
    assert [n.parts[:-1] for n in names] == [("a",)] * 13 + [("a", "deep")] * 13 + [("b",)] * 14
    for part in (names[:13], names[13:26], names[26:]):
        assert part == sorted(part)


@pytest.mark.parametrize(("suffix", "kind"), [(".tar", "w"), (".tar.gz", "w:gz"), (".tar.xz", "w:xz")])
def test_all_ways_to_give_them_find_the_same(guard: Guard, folder: Path, tmp_path: Path, suffix: str, kind: str) -> None:
    expected = guard(torch.from_numpy(X)).score.tolist()
    packed = tar_of(folder, tmp_path / f"all{suffix}", kind)
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(str(p) for p in sorted(folder.rglob("*.png"))) + "\n\n")
    for path in (folder, packed, listed):
        found = scores(guard, found_in([path]), batch=7)
        assert [found[i] for i in range(len(X))] == pytest.approx(expected, abs=1e-5)
    assert next(found_in([packed])).name.startswith(f"{packed}/a/")


def test_nothing_there_and_damaged_tar_files_are_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").write_text("\n")
    for path in (tmp_path / "empty", tmp_path / "empty.txt", tar_of(tmp_path / "empty", tmp_path / "empty.tar")):
        with pytest.raises(DataMissing, match="there is no picture in"):
            next(found_in([path]))
    whole = tar_of(folder, tmp_path / "whole.tar").read_bytes()
    end = len(whole.rstrip(b"\0"))
    cuts = {"middle.tar": len(whole) // 1024 * 512, "odd.tar": len(whole) // 2 + 100, "late.tar": end // 512 * 512}
    for name, cut in cuts.items():
        (tmp_path / name).write_bytes(whole[:cut])
    (tmp_path / "none.tar").write_bytes(b"no tar file at all")
    (tmp_path / "torn.tar").write_bytes(whole[: len(whole) // 1024 * 512] + b"x" * 512 + whole[len(whole) // 1024 * 512 :])
    for name in (*cuts, "none.tar", "torn.tar"):
        with pytest.raises(DataDamaged, match=f"{name} cannot be read as a tar file"):
            list(found_in([tmp_path / name]))


def test_of_a_tar_file_no_more_is_kept_than_a_member_or_two(folder: Path, tmp_path: Path) -> None:
    """Its reader would keep what it knows of each, half a kilobyte a picture."""
    packed = tar_of(folder, tmp_path / "all.tar")

    def alive() -> int:
        return sum(issubclass(type(it), tarfile.TarInfo) for it in gc.get_objects())

    before, most = alive(), 0
    for _ in found_in([packed]):
        most = max(most, alive() - before)
    assert 1 <= most <= 3


# --- how they are judged -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (16, 3), (250, 2)])
def test_batches_and_threads_do_not_matter(guard: Guard, folder: Path, batch: int, threads: int) -> None:
    found = scores(guard, found_in([folder]), batch=batch, threads=threads)
    assert [found[i] for i in range(len(X))] == pytest.approx(guard(torch.from_numpy(X)).score.tolist(), abs=1e-5)


def test_memory_holds_a_few_batches(guard: Guard) -> None:
    """However many pictures there are, only so many are asked for before verdicts come."""
    content = io.BytesIO()
    Image.fromarray(X[0, 0]).save(content, "PNG")
    asked = 0

    def endless() -> Iterator[Source]:
        nonlocal asked
        while True:
            asked += 1
            yield Source(f"{asked}.png", content.getvalue())

    for given, _ in enumerate(itertools.islice(judged(guard, endless(), batch=5), 20)):
        assert asked <= 5 * (given + 1 + AHEAD) and asked >= 5 * (given + 1)


def test_one_that_cannot_be_read_costs_no_other(guard: Guard, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    paths = [folder / "b" / "00.png", tmp_path / "bad.png", tmp_path / "none.png", folder / "b" / "03.png"]
    found = dict(each(guard, found_in(paths)))
    assert [isinstance(v, Exception) for v in found.values()] == [False, True, True, False]
    expected = guard(torch.from_numpy(X[[0, 3]])).score.tolist()
    assert [found[str(paths[0])].score, found[str(paths[3])].score] == pytest.approx(expected, abs=1e-5)  # type: ignore[union-attr]


# --- a file of verdicts --------------------------------------------------------------------------------------------


def kept(path: Path, guard: Guard, sources: Iterator[Source], stop: int | None = None) -> Journal:
    journal = Journal(path, guard)
    for _ in itertools.islice(journal.keep(each(guard, journal.left(sources))), stop):
        pass
    return journal


def test_what_was_stopped_goes_on_and_is_the_same_to_the_byte(guard: Guard, folder: Path, tmp_path: Path) -> None:
    (folder / "b" / "bad.png").write_bytes(b"no picture")
    try:
        whole = kept(tmp_path / "whole.jsonl", guard, found_in([folder]))
        assert (whole.known, whole.failed) == (len(X) + 1, 1) and whole.flagged == int(guard(torch.from_numpy(X)).flagged.sum())
        for stop in (1, 17):
            part = tmp_path / f"part-{stop}.jsonl"
            kept(part, guard, found_in([folder]), stop)
            with part.open("ab") as f:
                f.write(b'{"flagged": tru')  # killed while it wrote
            again = kept(part, guard, found_in([folder]))
            assert part.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
            assert (again.known, again.failed, again.flagged) == (whole.known, whole.failed, whole.flagged)
    finally:
        (folder / "b" / "bad.png").unlink()


def test_a_file_of_something_else_is_left_alone(guard: Guard, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("my notes\n")
    with pytest.raises(UsageError, match="holds no verdicts of this guard"):
        Journal(tmp_path / "notes", guard)
    assert (tmp_path / "notes").read_text() == "my notes\n"
    kept(tmp_path / "v.jsonl", guard, found_in([folder]), 5)
    before = (tmp_path / "v.jsonl").read_bytes()
    with pytest.raises(UsageError, match="holds no verdicts of this guard"):
        Journal(tmp_path / "v.jsonl", guarded(examples.conv(SHAPE, seed=3), None, "energy"))  # type: ignore[arg-type]
    for others in ([folder / "b"], [folder / "a" / "01.png"]):
        with pytest.raises(UsageError, match="other pictures"):
            kept(tmp_path / "v.jsonl", guard, found_in(others))
    assert (tmp_path / "v.jsonl").read_bytes() == before


def test_the_command(guard: Guard, folder: Path, tmp_path: Path) -> None:
    guard.save(tmp_path / "guard")
    words = ["check", tmp_path / "guard", folder, "--classifier", "tests.test_picture_stream:net"]
    flagged = int(guard(torch.from_numpy(X)).flagged.sum())
    plain = Cli(*words)
    assert plain.code == 1 and len(plain.lines) == len(X) and plain.out.count("FLAGGED") == flagged > 0
    made = Cli(*words, "--out", tmp_path / "v.jsonl")
    assert made.code == 1 and made.lines[0] == f"{len(X)} pictures checked: {flagged} flagged, 0 could not be checked"
    lines = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert lines[1:] == [json.loads(line) for line in Cli(*words, "--json").lines]
    again = Cli(*words, "--out", tmp_path / "v.jsonl")
    assert again.code == 1 and again.lines[0].startswith(
        f"{len(X)} pictures checked; {len(X)} of them were there already: {flagged} flagged"
    )


@pytest.mark.slow
def test_a_killed_call_goes_on(guard: Guard, folder: Path, tmp_path: Path) -> None:
    """Of a process that is killed in the middle."""
    guard.save(tmp_path / "guard")
    names = [str(p) for p in sorted(folder.rglob("*.png"))] * 200
    (tmp_path / "list.txt").write_text("\n".join(names))
    out = tmp_path / "v.jsonl"
    words = [
        "check",
        str(tmp_path / "guard"),
        str(tmp_path / "list.txt"),
        "--classifier",
        "tests.test_picture_stream:net",
        "--out",
        str(out),
    ]
    process = subprocess.Popen([sys.executable, "-m", "salientry", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not (out.exists() and out.stat().st_size > 2**14) and time.monotonic() < end:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    there = len(out.read_bytes().splitlines())
    assert 1 < there < len(names)
    result = Cli(*words)
    assert f"{len(names):,} pictures checked; " in result.lines[0]
    found = [json.loads(line)["image"] for line in out.read_text().splitlines()[1:]]
    assert found == names
