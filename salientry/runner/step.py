"""Steps and handles: how a run is written down before anything is computed."""

from __future__ import annotations

import functools
import importlib
import inspect
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import UsageError
from ..keys import canonical, class_name, digest, label, revision_of
from ..renamed import FIRST_ARGUMENTS, FIRST_ROLES, FIRST_SCHEMES
from ..rows import Rows
from ..store import JSON
from ..types import ROLES

_signature = functools.cache(inspect.signature)
_DEFINED: dict[str, str] = {}  # step names, and the functions that have them


Keyed = Callable[[dict[str, Any]], tuple[str, int, dict[str, Any]]]


@dataclass(frozen=True)
class Step:
    """A plain function and how the engine runs it; made by :func:`step`. Its name is part of every key, the function's is not."""

    name: str
    function: Callable[..., Any]
    each_row: bool
    stored: bool
    batch: int
    shard: int
    revision: int
    facts: Callable[..., dict[str, JSON]] | None
    chooses: bool
    uses: tuple[type, ...] = ()
    keyed: Keyed | None = None
    threads: bool = False

    def __reduce__(self) -> tuple[Callable[[str, str], Step], tuple[str, str]]:
        """In another process it is found again by its function's name.

        Raises:
            PicklingError: for a step that was made inside a function.
        """
        module, name = self.function.__module__, self.function.__qualname__
        try:
            found = _step_called(module, name)
        except (ImportError, AttributeError):
            found = None
        if found is not self:
            raise pickle.PicklingError(f"step {self.name} is not to be found as {name} in module {module}")
        return _step_called, (module, name)

    @property
    def seeded(self) -> bool:
        """Whether it takes a seed."""
        return "seed" in _signature(self.function).parameters

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Arguments by name, without those that equal their defaults."""
        signature = _signature(self.function)
        bound = signature.bind_partial(*args, **kwargs).arguments
        missing = [n for n, p in signature.parameters.items() if p.default is p.empty and n not in bound and n != "seed"]
        if missing:
            raise UsageError(f"step {self.name} also needs: {', '.join(missing)}")
        defaults = {n: p.default for n, p in signature.parameters.items()}
        return {n: v for n, v in bound.items() if isinstance(v, Handle | list | dict) or (v is not defaults[n] and v != defaults[n])}


def _step_called(module: str, name: str) -> Step:
    """The step with this name."""
    made: Any = importlib.import_module(module)
    for part in name.split("."):
        made = getattr(made, part)
    assert isinstance(made, Step)
    return made


def step(
    name: str,
    *,
    each_row: bool = False,
    stored: bool = True,
    batch: int = 250,
    shard: int = 2000,
    revision: int = 1,
    facts: Callable[..., dict[str, JSON]] | None = None,
    chooses: bool = False,
    uses: tuple[type, ...] = (),
    keyed: Keyed | None = None,
    threads: bool = False,
) -> Callable[[Callable[..., Any]], Step]:
    """Mark a function as a step.

    Args:
        name: what keys, folders of the store and records call it. It stays when the function is renamed or moved; the names of
            the function's arguments are part of the key too.
        each_row: the engine cuts every rows input into batches, aligned by id; the function sees one
            :class:`~salientry.batches.Batch` of each and returns columns, and the result widens the first rows input.
            Otherwise the function sees whole inputs and returns a module, rows, JSON, :class:`Found` or :class:`Chosen`.
        stored: False for a cheap view of an input that is made again each time.
        batch: rows the function sees at once.
        shard: rows after which progress is safe on disk: about a minute's work; a multiple of ``batch``. 0: after each batch,
            or each hundredth of the rows where there are more.
        revision: raised when the step's numbers change on purpose.
        facts: the step's arguments by name to small facts that travel with the result.
        chooses: it returns :class:`Chosen`: one of its arguments, or a failed sanity check.
        uses: settings classes that the function makes for itself, so that they are none of its arguments: their revisions are part
            of the key.
        keyed: arguments to the name, revision and arguments that keys are made of, where these are not the step's own: a step that
            does what others did keeps their keys.
        threads: a long training that much waits for: in the numerics mode ``threads`` it may use several cores, and the mode is part of
            its key.

    Raises:
        UsageError: when another function is a step of this name; their results would share keys.
    """
    assert shard % batch == 0, "shards end where batches end"

    def mark(function: Callable[..., Any]) -> Step:
        where = f"{function.__module__}.{function.__qualname__}"
        if _DEFINED.setdefault(name, where) != where:
            raise UsageError(f"two steps are called {name!r}: {_DEFINED[name]} and {where}; give one of them another name")
        return Step(name, function, each_row, stored, batch, shard, revision, facts, chooses, uses, keyed, threads)

    return mark


@dataclass(frozen=True)
class Chosen:
    """What a choosing step returns: the name of one of its arguments, which is its result, and what it saw.

    Attributes:
        argument: name of the argument that was chosen.
        why: figures, as JSON.
        failed: a message; the result is then no result, and what depends on it is skipped.
        index: which one, when that argument is a list.
    """

    argument: str
    why: JSON
    failed: str | None = None
    index: int | None = None


@dataclass(frozen=True, eq=False)
class Found:
    """Arrays of different lengths and what was made of them: what a step returns that is aligned with no rows.

    Attributes:
        value: as JSON.
        arrays: by name.
    """

    value: JSON
    arrays: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Handle:
    """A result that there may not be yet. ``handle[role]`` and ``handle.first(n)`` are views of rows."""

    step: Step | None
    args: dict[str, Any] = field(repr=False)  # the whole graph, many times over
    seed: int | None
    fingerprint: str
    slug: str
    numerics: str = "float32"

    def __getitem__(self, role: str) -> Handle:
        """The rows of a role."""
        if role not in ROLES:
            raise UsageError(f"unknown role {role!r}; there are: {', '.join(ROLES)}")
        return make_handle(_take_role, {"rows": self, "role": role}, None, self.numerics)

    def roles(self, *roles: str) -> Handle:
        """The rows of several roles, one after the other; their role is the first."""
        return make_handle(_take_roles, {"rows": self, "roles": list(roles)}, None, self.numerics)

    def first(self, count: int) -> Handle:
        """The first rows only; the classes are in proportion in them."""
        return make_handle(_take_first, {"rows": self, "count": count}, None, self.numerics)

    @property
    def inputs(self) -> list[Handle]:
        """The handles among its arguments, also inside lists."""
        return list(handles_in(self.args))


def handles_in(value: Any) -> Iterator[Handle]:
    """The handles in a value, also inside lists and mappings."""
    if isinstance(value, Handle):
        yield value
    elif isinstance(value, Mapping):
        for v in value.values():
            yield from handles_in(v)
    elif isinstance(value, list | tuple):
        for v in value:
            yield from handles_in(v)


def revisions_used(made_by: Step) -> dict[str, int]:
    """The revisions that are not 1 of the settings that a step makes for itself, by class name."""
    return {class_name(kind): revision for kind in made_by.uses if (revision := revision_of(kind)) != 1}


def make_handle(made_by: Step, args: dict[str, Any], seed: int | None, numerics: str) -> Handle:
    """The handle of a step on these arguments; its key is made here."""
    name, revision, named = made_by.keyed(args) if made_by.keyed else (made_by.name, made_by.revision, args)
    named = {FIRST_ARGUMENTS.get(k, k): v for k, v in named.items()}  # keys and folders of a store know arguments and roles
    if "role" in args:  # by their first names
        named = named | {"role": FIRST_ROLES.get(args["role"], args["role"])}
    parts: list[Any] = [name, revision, canonical(named)]
    parts += [{"seed": seed}] if made_by.seeded else []
    parts += [{"uses": uses}] if (uses := revisions_used(made_by)) else []
    parts += [{"numerics": numerics}] if numerics != "float32" and made_by.threads else []  # what depends on it has another key by that
    if not made_by.stored:
        inner = next(handles_in(args))
        slug = "-".join([inner.slug, *(str(v) for v in named.values() if not isinstance(v, Handle))])
    else:
        plain = [v for v in args.values() if not isinstance(v, Handle | list | tuple | dict)]
        slug = "-".join(getattr(v, "name", FIRST_SCHEMES.get(v, v) if isinstance(v, str) else label(v)) for v in plain)
        slug = slug or next((v.slug for v in args.values() if isinstance(v, Handle)), made_by.name)
    slug += f"-seed{seed}" if made_by.seeded and seed else ""
    return Handle(made_by, args, seed if made_by.seeded else None, digest(*parts), _safe(slug), numerics)


def _safe(slug: str) -> str:
    """A slug as part of a folder's name."""
    return re.sub(r"[^A-Za-z0-9._=+-]+", "_", slug).strip("_-") or "result"


@step("_take_role", stored=False)
def _take_role(rows: Rows, role: str) -> Rows:
    """The rows with this role, in rank order."""
    mine = np.flatnonzero(rows.column("role") == ROLES.index(role))
    return rows.take(mine[np.argsort(rows.column("rank", mine), kind="stable")], role=role)


@step("_take_roles", stored=False)
def _take_roles(rows: Rows, roles: list[str]) -> Rows:
    """The rows with these roles, each role in rank order."""
    role, rank = rows.column("role"), rows.column("rank")
    mine = [np.flatnonzero(role == ROLES.index(r)) for r in roles]
    return rows.take(np.concatenate([m[np.argsort(rank[m], kind="stable")] for m in mine]), role=roles[0])


@step("lend", stored=False)
def reuse_split(rows: Rows, role: str) -> Rows:
    """The rows of one role for another that has none of its own; the fact ``reused_from`` says whose they are."""
    return rows.take(np.arange(len(rows)), role=role, reused_from=str(rows.facts["role"]))


@step("_take_first", stored=False)
def _take_first(rows: Rows, count: int) -> Rows:
    """The first ``count`` rows."""
    if count > len(rows):
        raise UsageError(f"{count} rows are needed, there are {len(rows)}")
    return rows.take(np.arange(count))
