"""Progress bars with the time left, for people. Silent when the output is no terminal but for a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..experiment.handles import Handle

QUIET = 15.0  # seconds between lines when nobody watches


class Bars:
    """Two bars: the expected seconds of the whole run, and the batches of the step."""

    def __init__(self) -> None:
        console = Console(file=sys.stderr)
        columns = (
            TextColumn("{task.description:<34}"),
            BarColumn(None),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.watched, self.spoke, self.began = console.is_terminal, time.monotonic(), time.monotonic()
        self.whole, self.step = self.progress.add_task("run", total=None), self.progress.add_task("", total=None, visible=False)
        self.seconds: dict[str, float] = {}
        self.passed = 0.0

    def __enter__(self) -> Bars:
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()

    def expect(self, seconds: dict[str, float]) -> None:
        """Told how long each missing result is expected to take, by its key."""
        self.seconds, self.passed = seconds, 0.0
        self.progress.update(self.whole, total=sum(seconds.values()) or None)

    def listen(self, handle: Handle, index: int, total: int) -> Callable[[int, int], None]:
        """Told before each step; returns who hears its progress."""
        name = f"{handle.step.name if handle.step else ''} {handle.slug}"[:34]
        mine, before = self.seconds.get(handle.fingerprint, 0.0), self.passed
        self.passed += mine
        self.progress.update(self.whole, completed=before)
        self.progress.reset(self.step, description=name, total=None, visible=True)
        if not self.watched and time.monotonic() - self.spoke > QUIET:
            self.spoke = time.monotonic()
            pace = (self.spoke - self.began) / max(before, 1e-9)
            left = f", about {pace * (sum(self.seconds.values()) - before):.0f} s left" if before else ""
            print(f"step {index + 1} of {total} ({name}){left}", file=sys.stderr, flush=True)

        def heard(done: int, of: int) -> None:
            self.progress.update(self.step, completed=done, total=of)
            self.progress.update(self.whole, completed=before + mine * done / max(of, 1))

        return heard
