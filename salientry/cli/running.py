"""From a recipe's name to a finished run: parameters, computation, records, report, guard."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import inspect
import re
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__, recipes
from ..errors import DataDamaged, StoreError, UsageError
from ..experiment.cost import only_joins
from ..experiment.outputs import Outputs
from ..experiment.records import gather, guard_of, put
from ..experiment.run import Run
from ..renamed import STEPS, step_words
from ..results import kept
from ..runner.executors import executor_called
from ..runner.run import Outcome
from ..runner.step import Handle
from ..store import SUMS, one_of, read_json, writing
from .bars import ProgressDisplay
from .closing import last_lines, leave_guard
from .lines import needs_pandas, program
from .recipe_list import RECIPES, written

PARTS = ("report.html", "report.json", "gallery.json", "gallery.safetensors", "check.json")
PICTURES = ("natural.png", "natural-map.png", "attacked.png", "attacked-map.png")
NETS = ("guard/guard.json", "guard/guard*.safetensors", "classifier/classifier.json", "classifier/classifier*.safetensors")
LONG, TOO_LONG = 120.0, 2 * 90 * 60.0  # seconds from which a run says first how long it is, and that a GPU would help
Say = Callable[[str], Any]


def recipe_named(name: str) -> Callable[..., Outputs]:
    """The recipe function.

    Raises:
        UsageError: names the recipes that there are.
    """
    one_of("recipe", name, RECIPES)
    found: Callable[..., Outputs] = getattr(importlib.import_module(f"salientry.recipes.{name}"), name)
    return found


def parameters(recipe: Callable[..., Outputs], settings: list[str]) -> dict[str, Any]:
    """``["seeds=3"]`` as the recipe's keyword arguments, each of its default's type, an ``int | None`` an int.

    Raises:
        UsageError: for a parameter that the recipe does not have, or a value of another type.
    """
    known = {
        n: p
        for n, p in inspect.signature(recipe).parameters.items()
        if n != "run" and (isinstance(p.default, int | float | str) or p.annotation == "int | None")
    }
    out: dict[str, Any] = {}
    for text in settings:
        name, equals, raw = text.partition("=")
        if not equals or name not in known:
            there = ", ".join(f"{n}={written(p.default)}" for n, p in known.items())
            raise UsageError(f"unknown parameter {text!r}; recipe {recipe.__name__} has: {there}")
        default = known[name].default
        kind = int if default is None else type(default)
        try:
            value = raw if kind is str else ast.literal_eval({"true": "True", "false": "False"}.get(raw, raw))
        except (ValueError, SyntaxError):
            value = raw
        if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
            like = written(default) if kind is bool else repr(default)
            raise UsageError(f"{name} must be {kind.__name__}{'' if default is None else f', like {like}'}; found {raw!r}")
        out[name] = value
    return out


def planned(name: str, settings: list[str], *, device: str, seed: int, numerics: str, every: bool = False) -> list[str]:
    """A recipe's steps as lines of text: done or left, and the seconds that they took or are expected to take.

    Args:
        name: of the recipe.
        settings: its parameters as ``KEY=VALUE``.
        device: where to compute.
        seed: run seed.
        numerics: mode.
        every: a line for each step; else a line for each kind of step.
    """
    recipe = recipe_named(name)
    given = parameters(recipe, settings)
    run = Run(seed=seed, device=device, numerics=numerics)
    outputs = recipe(run, **given)
    wanted = outputs.read
    todo, order = run.missing(wanted), run.order(wanted)
    missing, expected = {h.fingerprint for h in todo}, expected_seconds(run, outputs, todo, order)
    found = [_planned(run, h, expected) for h in order if h.fingerprint in missing or run.done(h)]
    failed = {p.handle.fingerprint for p in found if p.failed}
    if failed:
        stands = {p.handle.fingerprint for p in found if p.word == "left" and failed & {u.fingerprint for u in run.order(p.handle.inputs)}}
        found = [replace(p, word="skip", seconds=None) if p.handle.fingerprint in stands else p for p in found]
    left = [p for p in found if p.word == "left"]
    done, skipped = (sum(p.word == word for p in found) for word in ("done", "skip"))
    because = f", {skipped} skipped because a sanity check failed" if skipped else ""
    because += f", {len(order) - len(found)} that nobody needs" if len(order) > len(found) else ""
    total = f"{len(order)} steps: {done} done, {len(left)} left{because}, {_seconds_text(left) if left else 'nothing to do'}"
    return [*([p.line() for p in found] if every else _by_kind(found)), total]


WIDE = max(map(len, STEPS.values())) + 2  # letters of a step's words


@dataclass(frozen=True)
class _Planned:
    """A step of a plan: ``done``, ``left`` or ``skip``; None for unknown seconds."""

    handle: Handle
    word: str
    seconds: float | None
    failed: bool

    @property
    def kind(self) -> str:
        assert self.handle.step is not None
        return step_words(self.handle.step.name)

    def line(self) -> str:
        number = "       -  " if self.word == "skip" else f"{'?' if self.seconds is None else f'{self.seconds:.1f}':>8} s"
        return f"{self.word}  {number}  {self.kind}: {self.handle.slug}{': FAILED' if self.failed else ''}"


def _planned(run: Run, h: Handle, expected: dict[str, float | None]) -> _Planned:
    if not run.done(h):
        return _Planned(h, "left", expected.get(h.fingerprint), False)
    body = run.record(h)
    return _Planned(h, "done", body["seconds"], bool(body.get("failed")))


def _by_kind(found: list[_Planned]) -> list[str]:
    """A line for each kind of step, in the order in which they are first computed."""
    lines = [f"{'step':{WIDE}} {'steps':>6} {'done':>6} {'left':>6}   seconds left"]
    for kind in dict.fromkeys(p.kind for p in found):
        mine = [p for p in found if p.kind == kind]
        left = [p for p in mine if p.word == "left"]
        skipped, failed = sum(p.word == "skip" for p in mine), sum(p.failed for p in mine)
        notes = [f"{skipped} skipped"] * bool(skipped) + [f"{failed} FAILED"] * bool(failed)
        rest = ", ".join([*([_seconds_text(left)] if left else []), *notes]) or "-"
        lines.append(f"{kind:{WIDE}} {len(mine):6} {sum(p.word == 'done' for p in mine):6} {len(left):6}   {rest}")
    return lines


def _seconds_text(left: list[_Planned]) -> str:
    """How long they will take, summed over the processes that compute them."""
    unknown = sum(p.seconds is None for p in left)
    return f"about {sum(p.seconds or 0.0 for p in left):.0f} s" + (f" and {unknown} steps of unknown length" if unknown else "")


def _recorded(run: Run, order: list[Handle]) -> dict[tuple[str, str], float]:
    """Mean recorded seconds by step and slug, whatever the seed, by step and method (the slug's first word), and by step alone: of
    recorded runs on this data set; or better of what this store holds, where it holds no other data set.
    """
    dataset = next((h.slug.split("-")[0].lower() for h in order if h.step and h.step.name == "read_data"), "")
    shipped = read_json(Path(recipes.__file__).with_name("seconds.json")).get(dataset, {})
    found = {(step, slug): [seconds] for step, slugs in shipped.items() for slug, seconds in slugs.items()}
    here: dict[tuple[str, str], list[float]] = {}
    others = set[str]()
    for result in run.store.root.glob("*/[!.]*/result.json"):
        with contextlib.suppress(StoreError, DataDamaged, KeyError, TypeError, ValueError):  # of other runs: whoever needs it will say so
            body = read_json(result)
            here.setdefault((body["step"], _seedless(body["slug"])), []).append(float(body["seconds"]))
            others |= {body["facts"].get("dataset", dataset)} - {dataset}
    found = here | found if others else found | here
    named = {step for step, slug in found if not slug}  # what short steps take, which have no other name there
    for (step, slug), seconds in list(found.items()):
        if slug:
            found.setdefault((step, _method(slug)), []).extend(seconds)
        if slug and step not in named:
            found.setdefault((step, ""), []).extend(seconds)
    return {k: float(np.mean(v)) for k, v in found.items()}


def _seedless(slug: str) -> str:
    return re.sub(r"-seed\d+$", "", slug)


def expected_seconds(run: Run, outputs: Outputs, left: list[Handle], order: list[Handle]) -> dict[str, float | None]:
    """How long each missing step is expected to take, by key; None where nobody knows."""
    if not left:
        return {}
    if outputs.expected is not None:
        return dict(outputs.expected(left))
    recorded = _recorded(run, order)
    return {h.fingerprint: _expected(h, recorded) for h in left}


def _expected(h: Handle, recorded: dict[tuple[str, str], float]) -> float | None:
    assert h.step is not None
    called = ("",) if only_joins(h) else (_seedless(h.slug), _method(h.slug), "")
    known = (recorded.get((h.step.name, one)) for one in called)
    return next((seconds for seconds in known if seconds is not None), None)


def _method(slug: str) -> str:
    return slug.split("-")[0] + "-"


@dataclass(frozen=True)
class Done:
    """A finished run: its report's folder and the checks of maps that failed."""

    out: Path
    failed: list[str]


def execute(
    name: str,
    settings: list[str],
    out: Path | None,
    *,
    device: str,
    seed: int,
    numerics: str,
    command: str,
    say: Say,
    display: ProgressDisplay | None = None,
    workers: int = 1,
    executor: str | None = None,
) -> Done:
    """Run a recipe and write its records, report and guard into ``out``; on another's ``executor`` where one is named.

    Raises:
        Error: see :mod:`salientry.errors`; what was complete is in the store.
    """
    began = time.monotonic()
    recipe = recipe_named(name)
    given = parameters(recipe, settings)
    out = out or Path("-".join([name, *([str(given["dataset"])] if "dataset" in given else []), "report"]))
    with _folder(out):
        run = Run(seed=seed, device=device, numerics=numerics)
        outputs = recipe(run, **given)
        outcome = computed(run, outputs, say, display, workers, executor)
        about = {"recipe": name, "parameters": given, "seed": seed, "numerics": numerics, "code": _code()}
        if not outcome.made and _up_to_date(out, run, outputs, about):
            say(f"the report in {out} is up to date")
        else:
            found = gather(run, outputs, outcome, about | {"command": command, "out": str(out), "salientry": __version__})
            parts = guard_of(run, outputs)  # all of it is read before anything old goes
            _clear(out)
            put(found, out)
            leave_guard(run, outputs, parts, out)
            _write_page(out, say)  # last: a folder with a page is complete
    for _, message in outcome.failed:
        say(f"SANITY CHECK FAILED: {message}; {len(outcome.skipped)} steps that depend on it were skipped")
    for line in last_lines(out, program()):
        say(line)
    say(f"({time.monotonic() - began:.0f} s)")
    return Done(out, [m for _, m in outcome.failed])


def _write_page(out: Path, say: Say) -> None:
    """The page of a run's records; without pandas a warning, and the records are all there is."""
    try:
        with needs_pandas():
            from ..report.report import write  # late: a second call draws nothing
    except UsageError as e:
        say(f"warning: no report.html was written, the records are complete: {e}, then `{program()} report {out}`")
    else:
        write(out)


@contextlib.contextmanager
def _folder(out: Path) -> Iterator[None]:
    """Make a folder that can be written to; where the block fails before anything is in it, it goes again."""
    absent = [p for p in (out, *out.parents) if not p.exists()]
    try:
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
            (out / ".writable").touch()
            (out / ".writable").unlink()
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # it holds something
            for p in absent:
                p.rmdir()
        raise


def computed(run: Run, outputs: Outputs, say: Say, display: ProgressDisplay | None, workers: int, executor: str | None = None) -> Outcome:
    """Compute what the records of these outputs need, and say how much of it was there."""
    wanted = outputs.read
    todo = run.missing(wanted)
    seconds = {key: s or 0.0 for key, s in expected_seconds(run, outputs, todo, run.order(wanted)).items()}
    if outputs.expected is not None and (total := sum(seconds.values())) > LONG:
        device = "" if run.device != "cpu" else "; --device cuda is for a GPU" if total > TOO_LONG else ""
        say(f"{len(todo)} steps, about {total / 60:.0f} minutes of one thread; a call that is stopped goes on where it was{device}")
    if display is not None and todo:
        display.expect(seconds)
    with warnings.catch_warnings(record=True) as caught, executor_called(executor) if executor else contextlib.nullcontext() as on:
        warnings.simplefilter("always")
        outcome = run.compute(wanted, display.on_step if display else None, workers=workers, seconds=seconds, executor=on)
    for text in dict.fromkeys(str(w.message) for w in caught):
        say(f"note: {text}")
    say(f"{len(outcome.made)} steps computed, {len(outcome.reused)} re-used from {run.store.root}")
    if old := sum(not (run.path(h) / SUMS).stat().st_size for h in outcome.reused):
        say(f"note: {old} of them were written by an earlier version and have no checksums: they were used unchecked")
    return outcome


def _up_to_date(out: Path, run: Run, outputs: Outputs, about: dict[str, Any]) -> bool:
    """Whether ``out`` holds the report of exactly these results, made by this version."""
    arrays = "records.safetensors.xz" if outputs.compact else "records.safetensors"
    files = ("run.json", "report.json", "report.html", arrays, "records.json")
    if not all((out / f).is_file() for f in files):
        return False
    try:
        there = read_json(out / "run.json")
    except DataDamaged:
        return False
    if not isinstance(there, dict):
        return False
    same = there.get("manifest") == [h.fingerprint for h in list(outputs)] and there.get("salientry") == __version__
    return bool(same and all(there.get(k) == v for k, v in about.items()) and _has_scores(out))


def _has_scores(out: Path) -> bool:
    """Whether every file of scores that the records name is there, or is said not to be kept and its numbers are there."""
    try:
        lost, not_kept = kept.missing(out, read_json(out / "records.json")["shards"])
        if not_kept is not None:
            kept.checked(not_kept)
        return not lost
    except (DataDamaged, KeyError, TypeError):
        return False


def _code() -> str:
    """A hash of the package's own files: a page of other code is not up to date."""
    files = sorted(p for p in Path(recipes.__file__).parents[1].rglob("*") if p.suffix in (".py", ".jinja"))
    return hashlib.sha256(b"".join(p.read_bytes() for p in files)).hexdigest()[:12]


def _clear(out: Path) -> None:
    """Remove what an earlier run left in ``out`` and this one may not write: its page, gallery, guard and pictures."""
    if (out / "run.json").exists():
        with writing(out):
            for old in [p for name in (*PARTS, *PICTURES, *NETS) for p in out.glob(name)]:
                old.unlink(missing_ok=True)


__all__ = ["RECIPES", "Done", "computed", "execute", "parameters", "planned"]
