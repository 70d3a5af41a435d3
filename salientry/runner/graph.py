"""The bookkeeping of a run that computes: what is missing, what depends on what, what may start next, what became of it."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from ..progress import Progress
from .step import Handle, handles_in

# --- what there is to do ---------------------------------------------------------------------------------------


def missing(wanted: list[Handle], there: Mapping[str, str]) -> list[Handle]:
    """The stored steps that must be computed before every wanted result can be read, inputs first, each once.

    Args:
        wanted: handles.
        there: keys of the results in the store, each with the name of the argument that it chose, if it did. Of what a result was
            made from reading it back needs the rows that it widens, or what it chose: so a store may lack rows that nobody needs.
    """
    seen, found = set[str](), list[Handle]()

    def visit(h: Handle) -> None:
        if h.fingerprint not in seen:
            seen.add(h.fingerprint)
            for u in _before(h, there):
                visit(u)
            if h.step is not None and h.step.stored and h.fingerprint not in there:
                found.append(h)

    for h in wanted:
        visit(h)
    return found


def standing_on(h: Handle, there: Mapping[str, str]) -> list[str]:
    """Keys of what a step reads: its inputs, what a view that is not stored is of, the rows that a stored input widens."""
    seen: dict[str, None] = {}

    def visit(u: Handle) -> None:
        if u.fingerprint not in seen:
            seen[u.fingerprint] = None
            if u.fingerprint in there or (u.step is not None and not u.step.stored):
                for further in _before(u, there):
                    visit(further)

    for u in h.inputs:
        visit(u)
    return list(seen)


def _before(h: Handle, there: Mapping[str, str]) -> list[Handle]:
    """What must be at hand before this result can be: of a result in the store what reading it back asks for, else all inputs."""
    if h.step is None or h.fingerprint not in there:
        return h.inputs
    if h.step.chooses:
        return list(handles_in(h.args.get(there[h.fingerprint])))
    return list(widened(h)) if h.step.each_row else []


def widened(h: Handle) -> Iterator[Handle]:
    """The rows that its columns are added to: the first argument that is of rows, and whatever stands before it."""
    for v in h.args.values():
        rows = list(handles_in(v))
        yield from rows
        if any(u.step is not None and (u.step.each_row or not u.step.stored) for u in rows):
            return


# --- what became of it -----------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What was done.

    Attributes:
        reused: results that were in the store.
        made: handle and seconds of what was computed.
        skipped: handle and reason: a sanity check that it depends on did not pass.
        failed: the sanity checks that did not pass.
    """

    reused: list[Handle] = field(default_factory=list)
    made: list[tuple[Handle, float]] = field(default_factory=list)
    skipped: list[tuple[Handle, str]] = field(default_factory=list)
    failed: list[tuple[Handle, str]] = field(default_factory=list)


# About to make this handle, the i-th of n; returns who hears its progress, the last time with done == total when it is made.
Listener = Callable[[Handle, int, int], Progress]


@dataclass
class Computation:
    """A computation in progress.

    Attributes:
        todo: what is missing, inputs first.
        upstream: keys of what each of them depends on, also through views that are not stored.
        outcome: so far.
        lost: failed sanity checks and what depends on them, with the reason.
        listener: of the caller.
        finished: made, failed or skipped by now.
        begun: how many were started or skipped.
    """

    todo: list[Handle]
    upstream: Mapping[str, list[str]]
    outcome: Outcome
    lost: dict[str, str]
    listener: Listener | None
    finished: set[str] = field(default_factory=set)
    started: int = 0

    def skips(self, h: Handle) -> bool:
        """Whether it depends on something lost; it is then recorded as skipped."""
        reason = next((self.lost[u] for u in self.upstream[h.fingerprint] if u in self.lost), None)
        if reason:
            self.lost[h.fingerprint] = reason
            self.outcome.skipped.append((h, reason))
            self.finished.add(h.fingerprint)
            self.started += 1
        return bool(reason)

    def starts(self, h: Handle) -> Progress | None:
        """Report to the caller that a step is about to be computed; returns the callback for its progress."""
        self.started += 1
        return self.listener(h, self.started - 1, len(self.todo)) if self.listener else None

    def ends(self, h: Handle, seconds: float, failed: str | None) -> None:
        """A step is computed."""
        if failed:
            self.lost[h.fingerprint] = failed
            self.outcome.failed.append((h, failed))
        self.outcome.made.append((h, seconds))
        self.finished.add(h.fingerprint)

    def ordered(self) -> Outcome:
        """The outcome in the order of the plan, whoever was first."""
        place = {h.fingerprint: i for i, h in enumerate(self.todo)}
        for handles in (self.outcome.made, self.outcome.skipped, self.outcome.failed):
            handles.sort(key=lambda item: place.get(item[0].fingerprint, -1))
        return self.outcome


def width(work: Computation) -> int:
    """About how many steps of it there are to do at the same time: more workers than that would stand idle."""
    level, doomed = dict[str, int](), set(work.lost)
    for h in work.todo:
        upstream = work.upstream[h.fingerprint]
        if doomed.isdisjoint(upstream):
            level[h.fingerprint] = 1 + max((level.get(u, 0) for u in upstream), default=0)
        else:
            doomed.add(h.fingerprint)
    return max(Counter(level.values()).values(), default=0)


QUICK, FIRST = 0.05, 1e9  # seconds


class Schedule:
    """What may start now; first what most seconds of work wait for, and what ends in no time."""

    def __init__(self, work: Computation, seconds: Mapping[str, float]) -> None:
        here = {h.fingerprint: i for i, h in enumerate(work.todo)}
        self.work = work
        self.needs = [{here[u] for u in work.upstream[h.fingerprint] if u in here} for h in work.todo]
        self.users: list[list[int]] = [[] for _ in here]
        for i, needs in enumerate(self.needs):
            for u in needs:
                self.users[u].append(i)
        self.path = [0.0] * len(here)
        for i in reversed(range(len(here))):
            mine = seconds.get(work.todo[i].fingerprint, 0.0)
            self.path[i] = max(mine, 1e-3) + max((self.path[u] for u in self.users[i]), default=0.0)
            if mine < QUICK and not self.users[i] and work.todo[i].fingerprint in seconds:
                self.path[i] = FIRST  # costs nothing now, and may be what stops the run
        self.ready: list[tuple[float, int]] = []
        self._open([i for i, needs in enumerate(self.needs) if not needs])

    def _open(self, free: list[int]) -> None:
        while free:
            i = free.pop()
            if self.work.skips(self.work.todo[i]):
                free += self._freed(i)
            else:
                heapq.heappush(self.ready, (-self.path[i], i))

    def _freed(self, i: int) -> list[int]:
        for user in self.users[i]:
            self.needs[user].discard(i)
        return [user for user in self.users[i] if not self.needs[user]]

    def next(self) -> int | None:
        """The number of the step to start now, if one can."""
        return heapq.heappop(self.ready)[1] if self.ready else None

    def ends(self, i: int) -> None:
        """Step i is computed."""
        self._open(self._freed(i))
