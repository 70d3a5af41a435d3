"""Insert faults, one at a time, in a copy of the package, and see whether the tests that `./check` runs catch each. `make mutants`.

`python -m tests.mutants [WORD ...]` inserts only those in whose sentence one of the words occurs. The working tree is only read.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .faults import FAULTS, Fault

ROOT = Path(__file__).parents[1]
PARTS = ("salientry", "tests", "benchmarks", "pyproject.toml", "README.md", "docs", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile")
WORKERS = 2
LIMIT = 300.0  # seconds; a fault that makes its tests hang is caught, too


@dataclass(frozen=True)
class Outcome:
    """How the tests of a fault ended: pytest's exit code (None: too slow), its last words and how long they took."""

    code: int | None
    said: str
    seconds: float

    @property
    def caught(self) -> bool:
        """Tests failed; that pytest found none, or could not start, is no catch."""
        return self.code in (1, None)


def stale(faults: tuple[Fault, ...], root: Path = ROOT) -> list[str]:
    """What is wrong with the entries: a text that does not stand exactly once, files that are not there."""
    found = []
    for f in faults:
        text = (root / f.file).read_text() if (root / f.file).exists() else ""
        if (times := text.count(f.old)) != 1:
            found.append(f"{f.says!r}: the text to be changed stands {times} times in {f.file}, once was expected:\n    {f.old!r}")
        found += [f"{f.says!r}: there is no {t}" for t in f.tests if not (root / t.split("::")[0]).exists()]
        if not f.tests or f.old == f.new:
            found.append(f"{f.says!r}: it changes nothing, or names no tests")
    return found


def copy(target: Path) -> Path:
    """A tree that tests can run in: the package and its tests as copies, the recorded results as a link."""
    for name in PARTS:
        there = ROOT / name
        if there.is_dir():
            shutil.copytree(there, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(there, target / name)
    (target / "results").symlink_to(ROOT / "results")
    return target


def judged(tree: Path, tests: tuple[str, ...], limit: float = LIMIT) -> Outcome:
    """Run tests in a tree, up to the first that fails."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "not nightly", *tests]
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
    began = time.perf_counter()
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return Outcome(None, f"not done after {limit:.0f} s", limit)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith(("FAILED", "ERROR", "E  "))]
    failed = next((line for line in reversed(lines) if line.startswith(("FAILED", "ERROR"))), done.stdout[-300:] + done.stderr[-300:])
    return Outcome(done.returncode, failed.split(" - ")[0].removeprefix("FAILED ").strip(), time.perf_counter() - began)


def with_fault(tree: Path, fault: Fault, limit: float = LIMIT) -> Outcome:
    """Change one place in a tree, run its tests, change it back."""
    file = tree / fault.file
    sound = file.read_text()
    file.write_text(sound.replace(fault.old, fault.new))
    try:
        return judged(tree, fault.tests, limit)
    finally:
        file.write_text(sound)


def shown(fault: Fault, outcome: Outcome) -> str:
    """A line of the table."""
    return f"{'caught' if outcome.caught else 'NOT CAUGHT':10}  {outcome.seconds:5.0f} s  {fault.says}: {outcome.said}"


def main(words: list[str]) -> int:
    """Insert them all and print a table."""
    faults = tuple(f for f in FAULTS if not words or any(w in f.says for w in words))
    if wrong := stale(faults):
        print("\n".join(wrong), file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(WORKERS) as pool:
        made: dict[int, Path] = {}

        def tree() -> Path:
            """One for each worker."""
            here = threading.get_ident()
            if here not in made:
                made[here] = copy(Path(folder) / str(here))
            return made[here]

        every = sorted({t for f in faults for t in f.tests})
        parts = [tuple(every[i::WORKERS]) for i in range(WORKERS) if every[i::WORKERS]]
        for outcome in pool.map(lambda part: judged(tree(), part, 4 * LIMIT), parts):
            if outcome.code != 0:
                print(f"the tests fail without any fault: {outcome.said}", file=sys.stderr)
                return 1
        print(f"{len(every)} files of tests pass without a fault; inserting {len(faults)}", flush=True)
        caught = 0
        for fault, outcome in zip(faults, pool.map(lambda f: with_fault(tree(), f), faults), strict=True):
            caught += outcome.caught
            print(shown(fault, outcome), flush=True)
    print(f"{caught} of {len(faults)} inserted faults were caught")
    return 0 if caught == len(faults) and faults else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
