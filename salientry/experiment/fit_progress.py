"""How far a long call is and how much time is left: for people on a terminal, or for whoever gave a function."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from ..rates import lasting
from ..renamed import step_words
from ..runner.step import Handle

ProgressCallback = Callable[[float, float], Any]  # share done, seconds left
EARLY = 0.02  # below this share what was expected says more than what has passed


def columns(*left: ProgressColumn) -> tuple[ProgressColumn, ...]:
    """Of every progress display: what is done, a bar, its share, the time that has passed; ``left``: what says how much is left."""
    return TextColumn("{task.description:<34}"), BarColumn(None), TaskProgressColumn(), TimeElapsedColumn(), *left


class FitProgress(Progress):
    """Hears of the steps of a run.

    Args:
        progress: a function of (share done, seconds left); True: a bar on stderr; False: nothing; None: a bar on stderr when that is a
            terminal.
        call: what it is the progress of.
    """

    def __init__(self, progress: ProgressCallback | bool | None, call: str = "fit_guard") -> None:
        console = Console(file=sys.stderr)
        self.call = call
        self.callback = progress if callable(progress) else None
        shown = console.is_terminal if progress is None else progress is True
        super().__init__(*columns(TextColumn("{task.fields[left]}")), console=console, transient=True, disable=not shown)
        self.total_task = self.add_task(call, total=1.0, left="")
        self.began, self.side_by_side = time.monotonic(), 1
        self.behind, self.ahead = 0.0, dict[str, float]()  # expected seconds of one process

    def say(self, text: str) -> None:
        """A line for people, above the bar; where there is none, for who listens and has a method ``say``."""
        if not self.disable:
            self.console.print(text, markup=False, highlight=False)
        elif (say := getattr(self.callback, "say", None)) is not None:
            say(text)

    def expect(self, seconds: dict[str, float], workers: int) -> None:
        """Take in how many seconds what is missing is expected to need, by key; again when parts were left out."""
        self.ahead, self.side_by_side = dict(seconds), workers
        self._show("")

    def beside(self, seconds: dict[str, float]) -> None:
        """Take in how many seconds each :meth:`part` will take, by its name; after :meth:`expect`. They come one after the other."""
        self.ahead |= {name: each * self.side_by_side for name, each in seconds.items()}

    def over(self, *names: str) -> None:
        """Parts that are done, or will not come."""
        for name in names:
            self.behind += self.ahead.pop(name, 0.0)

    def part(self, name: str) -> Callable[[int, int], None]:
        """The callback for the progress of something that is no step: of it alone where nothing was expected. Who listens hears its
        name, where there is a method ``begin`` for that.
        """
        began, begin = time.monotonic(), getattr(self.callback, "begin", None)
        if begin is not None:
            begin(name)
        if self.ahead:
            return self._counting(name, name)

        def report(done: int, of: int) -> None:
            share = done / max(of, 1)
            left = (time.monotonic() - began) * (1 - share) / share if share else 0.0
            self.update(self.total_task, description=f"{self.call} {name}", completed=share, left=f"about {lasting(left)} left")
            if self.callback and share:
                self.callback(share, left)

        return report

    def on_step(self, handle: Handle, index: int, total: int) -> Callable[[int, int], None]:
        """Called before each step; returns the callback for its progress."""
        return self._counting(handle.fingerprint, step_words(handle.step.name) if handle.step else "")

    def _counting(self, key: str, name: str) -> Callable[[int, int], None]:
        """The callback for the progress of what is expected under this key."""
        expected = self.ahead.get(key, 0.0)

        def report(done: int, of: int) -> None:
            left = expected * (1 - done / max(of, 1))
            self.behind += self.ahead.get(key, 0.0) - left
            self.ahead[key] = left
            self._show(name)

        return report

    def _show(self, name: str) -> None:
        ahead = sum(self.ahead.values())
        share = self.behind / (self.behind + ahead) if self.behind + ahead else 1.0
        passed = time.monotonic() - self.began
        left = passed * (1 - share) / share if share > EARLY else ahead / self.side_by_side
        self.update(self.total_task, description=f"{self.call} {name}", completed=share, left=f"about {lasting(left)} left")
        if self.callback:
            self.callback(share, left)


@contextlib.contextmanager
def no_main() -> Iterator[None]:
    """Worker processes that are started inside do not run the caller's script a second time, which may have no
    ``if __name__ == "__main__"``. What is defined in that script cannot be sent to them.
    """
    main, absent = sys.modules["__main__"], object()
    found = {name: vars(main).get(name, absent) for name in ("__spec__", "__file__")}
    vars(main)["__spec__"] = None
    vars(main).pop("__file__", None)
    try:
        yield
    finally:
        for name, value in found.items():
            if value is not absent:
                vars(main)[name] = value
