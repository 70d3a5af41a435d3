"""What `python -m benchmarks.check` measures."""

from __future__ import annotations

import contextlib
import datetime
import io
import multiprocessing
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image

import salientry
from salientry.classifiers import load_classifier, save_classifier
from salientry.cli.checking import Journal, each, loaded
from salientry.cli.checking_elsewhere import Asked, each_on
from salientry.guard import Guard
from salientry.learned import seeded
from salientry.machine import cores, processor
from salientry.picture_stream import BATCH, found_in
from salientry.recipes.fast import config
from salientry.store import read_json, write_json
from salientry.types import Shape

from .guard import guards_of

ROOT = Path(__file__).parents[1]
GUARDS = ("light", "full")
WAYS = ("folder", "tar", "executor")
SHARD = 5_000  # pictures of a tar file
FLAGGED = 0.05  # of the pictures
SMALL, FEWER = (28, 1), 20  # height and channels of the many; a part of them, for comparison
JSON = dict[str, Any]


def two() -> ProcessPoolExecutor:
    """An executor of one process a core."""
    return ProcessPoolExecutor(cores(), multiprocessing.get_context("spawn"))


# --- what is judged ----------------------------------------------------------------------------------------------


def pictures(count: int, side: int, channels: int, form: str) -> Iterator[bytes]:
    """Files of pictures with coarse structure, as photographs have it; of a fixed seed."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        coarse = rng.integers(0, 256, (max(side // 4, 1), max(side // 4, 1), channels), np.uint8)
        image = Image.fromarray(coarse if channels > 1 else coarse[:, :, 0]).resize((side, side), Image.Resampling.BILINEAR)
        file = io.BytesIO()
        image.save(file, form, quality=90)
        yield file.getvalue()


def in_folder(files: list[bytes], at: Path) -> Path:
    """They as files of their own, a thousand a folder."""
    for i, data in enumerate(files):
        path = at / f"{i // 1000:03}" / f"{i:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return at


def in_tar(files: Iterator[bytes], at: Path, form: str) -> list[Path]:
    """They in tar files."""
    at.mkdir(parents=True)
    shards, tar = list[Path](), None
    for i, data in enumerate(files):
        if i % SHARD == 0:
            if tar is not None:
                tar.close()
            shards.append(at / f"shard-{i // SHARD:04}.tar")
            tar = tarfile.open(shards[-1], "w")  # noqa: SIM115
        assert tar is not None
        member = tarfile.TarInfo(f"{i:06}.{form}")
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    if tar is not None:
        tar.close()
    return shards


def guard_in(folder: Path, name: str, dataset: str, shape: Shape) -> Guard:
    """A guard of an untrained classifier, saved with it, as the command loads it."""
    with seeded(0):
        f = config(dataset, seeds=1).classifier.build(shape)
    save_classifier(f, folder / "classifier")
    guard = guards_of(load_classifier(str(folder / "classifier")), shape, torch.randn(500))[f"guard: {name}"]
    x = torch.stack([torch.from_numpy(_pixels(d)) for d in pictures(200, shape.height, shape.channels, "PNG")])
    guard.threshold = float(guard(x, batch=BATCH).score.quantile(1 - FLAGGED))
    guard.save(folder / "guard", classifier_at="../classifier")
    return loaded(folder / "guard", None, None, "cpu")


def _pixels(data: bytes) -> Any:
    found = np.asarray(Image.open(io.BytesIO(data)))
    return found[None].copy() if found.ndim == 2 else found.transpose(2, 0, 1).copy()


# --- how fast ----------------------------------------------------------------------------------------------------


def speed(count: int, size: int, rounds: int, guards: tuple[str, ...] = GUARDS) -> JSON:
    """Pictures a second, round by round, of each guard by each way and on tensors."""
    shape, per = Shape(3, size, size, 10), count // rounds
    out: JSON = {"pictures": per * rounds, "size": size, "format": "JPEG", "rounds": rounds, "cores": cores(), "threads": 0, "guards": {}}
    out["threads"] = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as temporary:
        at = Path(temporary)
        files = [*pictures(per, size, 3, "JPEG")]
        folder, shards = in_folder(files, at / "pictures"), in_tar(iter(files), at / "shards", "jpg")
        x = torch.stack([torch.from_numpy(_pixels(d)) for d in files[:BATCH]])
        for name in guards:
            guard = guard_in(at / name, name, "cifar10", shape)
            with two() as executor:
                ways = _ways(guard, at / name, folder, shards, executor)
                for _ in executor.map(_stands, range(4 * cores())):
                    pass
                ways["executor"](at / "warm.jsonl", [shards[0]])
                out["guards"][name] = _rounds(guard, x, ways, at / name, rounds, per)
    return out


def _stands(_: int) -> None:
    time.sleep(0.2)


def _ways(
    guard: Guard, at: Path, folder: Path, shards: list[Path], executor: Executor
) -> dict[str, Callable[[Path, list[Path] | None], tuple[int, int]]]:
    """Each way writes its lines to a file: how many, and the most processes that were started for it."""

    def written(file: Path, judge: Callable[[Any], Any], paths: list[Path]) -> tuple[int, int]:
        file.unlink(missing_ok=True)
        journal, most, before = Journal(file, guard), 0, len(multiprocessing.active_children())
        for known in journal.keep(judge(journal.left(found_in(paths)))):
            if known % BATCH == 0:
                most = max(most, len(multiprocessing.active_children()) - before)
        assert not journal.failed
        return journal.known, most

    asked = Asked.of(guard, at / "guard", None, None, "cpu")
    return {
        "folder": lambda file, paths: written(file, lambda s: each(guard, s), paths or [folder]),
        "tar": lambda file, paths: written(file, lambda s: each(guard, s), paths or shards),
        "executor": lambda file, paths: written(file, lambda s: each_on(executor, asked, s), paths or shards),
    }


def _rounds(guard: Guard, x: Any, ways: Any, at: Path, rounds: int, per: int) -> JSON:
    found: JSON = {"tensors": [], **{w: [] for w in ways}, "processes": 0}
    for _ in range(rounds):
        found["tensors"].append(_on_tensors(guard, x, per // 4))
        for way, judge in ways.items():
            began = time.perf_counter()
            known, processes = judge(at / "out.jsonl", None)
            found[way].append(known / (time.perf_counter() - began))
            assert known == per
            found["processes"] = max(found["processes"], processes)
        found["tensors"].append(_on_tensors(guard, x, per // 4))
    beside = [(a + b) / 2 for a, b in zip(found["tensors"][::2], found["tensors"][1::2], strict=True)]
    found["share"] = {way: median(v / b for v, b in zip(found[way], beside, strict=True)) for way in ways}
    return found


def _on_tensors(guard: Guard, x: Any, count: int) -> float:
    """Pictures a second of the guard itself."""
    calls = max(count // len(x), 1)
    guard(x, batch=len(x))
    began = time.perf_counter()
    for _ in range(calls):
        guard(x, batch=len(x))
    return calls * len(x) / (time.perf_counter() - began)


# --- how much memory ---------------------------------------------------------------------------------------------


def memory(many: int) -> JSON:
    """Megabytes of the command, and of the largest process that it started, for few and for many pictures."""
    side, channels = SMALL
    out: JSON = {"size": side, "format": "PNG", "rows": []}
    with tempfile.TemporaryDirectory() as temporary:
        at = Path(temporary)
        guard_in(at, "light", "mnist", Shape(channels, side, side, 10))
        shards = in_tar(pictures(many, side, channels, "PNG"), at / "shards", "png")
        for way, words in (("here", []), ("executor", ["--executor", "benchmarks.checking:two"])):
            for some in (shards[: max(len(shards) // FEWER, 1)], shards):
                out["rows"].append({"way": way} | command(at, [*map(str, some), *words]))
                print(out["rows"][-1], flush=True)
    return out


def command(at: Path, words: list[str]) -> JSON:
    """Run it: pictures, seconds, and the most memory of it and of the largest process below it."""
    file = at / "out.jsonl"
    file.unlink(missing_ok=True)
    arguments = [sys.executable, "-m", "salientry", "check", str(at / "guard"), *words, "--out", str(file)]
    began, below, most = time.perf_counter(), 0.0, 0
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while True:
        pid, status, used = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        found = [_most_of(p) for p in _below(process.pid)]
        below, most = max(below, *found, 0.0), max(most, len(found))
        time.sleep(0.1)
    seconds, process.returncode = time.perf_counter() - began, os.waitstatus_to_exitcode(status)
    assert process.returncode in (0, 1), f"check ended with {process.returncode}"
    with file.open() as f:
        judged = sum(1 for _ in f) - 1
    unit = 1 if sys.platform == "darwin" else 1024
    return {"pictures": judged, "seconds": seconds, "MB": used.ru_maxrss * unit / 1e6, "processes": most, "MB of one": below}


def _below(pid: int) -> list[int]:
    """Processes that one started, where the system says so."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def _most_of(pid: int) -> float:
    """The most memory that a process had, MB."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


# --- kept --------------------------------------------------------------------------------------------------------


def kept(part: str, command: str, out: Path, **how: Any) -> list[str]:
    """Measure a part and keep it beside the other; what there is to say of it."""
    about = {
        "command": command,
        "date": str(datetime.date.today()),
        "salientry": salientry.__version__,
        "torch": torch.__version__,
        "pillow": PIL.__version__,
        "processor": processor(),
        "load": [round(v, 2) for v in os.getloadavg()],
    }
    body = (read_json(out) if out.exists() else {}) | {part: about | (speed(**how) if part == "speed" else memory(**how))}
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, body)
    if part == "memory":
        return [f"{part}: in {out}"]
    return [f"{n}: {', '.join(f'{w} {s:.2f}' for w, s in g['share'].items())} of its own" for n, g in body[part]["guards"].items()]
