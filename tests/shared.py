"""What takes seconds to compute and is the same for every worker and every run of the tests: computed once for each state of the code."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from itertools import count
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIBRARIES = ("torch", "numpy", "scipy", "pillow", "matplotlib", "jinja2")
KEPT = 3
STAMP = "whole.json"
_held: dict[Path, int] = {}


@functools.cache
def state_of_the_code() -> str:
    """A hash of what the numbers and pages of a tiny run come from."""
    files = sorted(p for p in (ROOT / "salientry").rglob("*") if p.is_file() and p.suffix not in (".pyc", ".pyo"))
    files += [*sorted((ROOT / "tests").glob("tiny*.py")), Path(__file__)]
    found = hashlib.sha256(" ".join([sys.version, *(f"{name} {version(name)}" for name in LIBRARIES)]).encode())
    for file in files:
        found.update(f"{file.relative_to(ROOT)} {file.stat().st_size}\n".encode() + file.read_bytes())
    return found.hexdigest()[:24]


def shared(name: str, build: Callable[[Path], None], *, root: Path | None = None, state: str | None = None) -> Path:
    """The folder that ``build`` fills: the one that another worker or an earlier run has filled, or a new one.

    It is never given out half written: others wait while it is built, and what was left by a build that did not end is built again.
    It is only to be read. A folder in which a file was changed, added or taken away since is left alone, and another one is built.

    Args:
        name: what is in it; one name for each ``build``.
        build: writes into the empty folder that it is given.
        root: where the folders lie, by default under the folder for temporary files.
        state: what it was made from, by default the state of the code.
    """
    root = root or Path(tempfile.gettempdir()) / f"salientry-tests-{os.getuid()}"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number in count():
        folder = root / f"{name}-{state or state_of_the_code()}-{number}"
        with _locked(folder.with_suffix(".build")):
            _hold(folder.with_suffix(".use"))
            if not (folder / STAMP).exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                build(folder)
                (folder / STAMP).write_text(json.dumps(_listed(folder)))
                _forget_old_ones(root, name)
            if intact(folder):
                return folder
    raise AssertionError("not reached")


def intact(folder: Path) -> bool:
    """Whether the files are those that were there when it was built."""
    return bool(json.loads((folder / STAMP).read_text()) == _listed(folder))


def linked(source: Path, target: Path) -> Path:
    """A copy whose files are the same files where the disk allows it: for those who add and replace files but change none."""

    def link(a: str, b: str) -> None:
        try:
            os.link(a, b)
        except OSError:
            shutil.copy2(a, b)

    shutil.copytree(source, target, copy_function=link, ignore=shutil.ignore_patterns(STAMP))
    return target


def _listed(folder: Path) -> dict[str, list[int]]:
    found = {p.relative_to(folder).as_posix(): p.stat() for p in sorted(folder.rglob("*")) if p.is_file() and p.name != STAMP}
    return {name: [s.st_size, s.st_mtime_ns] for name, s in found.items()}


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _hold(path: Path) -> None:
    """Until this process ends, nobody takes the folder away."""
    if path not in _held:
        _held[path] = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(_held[path], fcntl.LOCK_SH)


def _forget_old_ones(root: Path, name: str) -> None:
    """Take away all but the newest folders of this name, and none that is in use."""
    found = sorted((p for p in root.glob(f"{name}-*-*") if p.is_dir()), key=lambda p: p.stat().st_mtime)
    for folder in found[:-KEPT]:
        use = folder.with_suffix(".use")
        if use in _held:
            continue
        with use.open("a") as file, contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
