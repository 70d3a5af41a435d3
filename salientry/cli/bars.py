"""Progress display with the time left, for people. Silent when the output is no terminal but for a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress, TextColumn, TimeRemainingColumn

from ..experiment.fit_progress import columns
from ..renamed import step_words
from ..runner.step import Handle

T = TypeVar("T")
QUIET = 15.0  # seconds between lines when nobody watches


class ProgressDisplay(Progress):
    """A bar for the expected seconds of the whole run, and one for each step that is being computed."""

    def __init__(self, name: str = "run") -> None:
        console = Console(file=sys.stderr)
        shown = columns(TextColumn("left"), TimeRemainingColumn())
        super().__init__(*shown, console=console, transient=True, disable=not console.is_terminal)
        self.watched, self.printed, self.began = console.is_terminal, time.monotonic(), time.monotonic()
        self.name = name
        self.total = self.add_task(name, total=None)
        self.seconds: dict[str, float] = {}
        self.passed: dict[str, float] = {}  # expected seconds that lie behind, by key

    def expect(self, seconds: dict[str, float]) -> None:
        """Take in how many seconds each missing result is expected to need, by its key."""
        self.seconds, self.passed = seconds, {}
        self.update(self.total, total=sum(seconds.values()) or None)

    def count(self, done: int, of: int) -> None:
        """Called after each batch."""
        self.update(self.total, completed=done, total=of)
        if self._speaks():
            print(f"{self.name}: {done} of {of} batches", file=sys.stderr, flush=True)

    def _speaks(self) -> bool:
        """Whether a line is due: nobody watches, and the last one is a while ago."""
        due = not self.watched and time.monotonic() - self.printed > QUIET
        self.printed = time.monotonic() if due else self.printed
        return due

    def on_step(self, handle: Handle, index: int, total: int) -> Callable[[int, int], None]:
        """Called before each step; returns the callback for its progress."""
        name = f"{step_words(handle.step.name) if handle.step else ''}: {handle.slug}"[:50]
        key, mine = handle.fingerprint, self.seconds.get(handle.fingerprint, 0.0)
        step = self.add_task(name, total=None)
        if self._speaks():
            behind = sum(self.passed.values())
            left = f", about {(self.printed - self.began) / behind * (sum(self.seconds.values()) - behind):.0f} s left" if behind else ""
            print(f"step {index + 1} of {total} ({name}){left}", file=sys.stderr, flush=True)

        def report(done: int, of: int) -> None:
            self.passed[key] = mine * done / max(of, 1)
            self.update(self.total, completed=sum(self.passed.values()))
            if done < of:
                self.update(step, completed=done, total=of)
            elif step in self.task_ids:
                self.remove_task(step)

        return report


def counted(items: Sequence[T], name: str) -> Iterator[T]:
    """Hand the items on, and show how many of them are done."""
    with ProgressDisplay(name) as bars:
        for done, item in enumerate(items, 1):
            yield item
            bars.count(done, len(items))
