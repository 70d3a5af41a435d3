"""One detector of a recipe by itself, compared with what the records say of it."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

from ..errors import DataDamaged, UsageError, VerificationFailed
from ..experiment.records import export, revisions_of
from ..experiment.reproduce import ScoredDetector, compute_again, scored_detectors
from ..experiment.run import Run
from ..metrics import auroc
from ..results.names import NATURAL
from ..results.scores import FittedSeed, Scores
from . import running
from .bars import ProgressDisplay
from .running import Say

MOST = 1e-3  # difference between two AUROCs that agree
SHORT, NEAR = 12, 3  # hex digits that are shown, keys that are shown


@dataclass(frozen=True)
class Compared:
    """A detector's AUROC on one attacked test set, as recorded and now; NaN where no image counts, None where there are no scores.

    Attributes:
        name: of the image set.
        n: images that count now.
        recorded: from the records.
        now: computed again.
    """

    name: str
    n: int
    recorded: float | None
    now: float | None

    @property
    def difference(self) -> float:
        """Now minus recorded; 0 where no image counts in both, infinite where only one of them has a number."""
        old, new = (None if v is None or isnan(v) else v for v in (self.recorded, self.now))
        if old is None or new is None:
            return 0.0 if old is new and self.recorded is not None and self.now is not None else float("inf")
        return new - old

    @property
    def agrees(self) -> bool:
        """Whether the two are as good as equal."""
        return abs(self.difference) <= MOST

    def line(self) -> str:
        """For a table."""
        old, new = (f"{'-' if v is None else f'{v:.4f}':>9}" for v in (self.recorded, self.now))
        return f"{self.name:40} {self.n:6} {old} {new} {self.difference:+11.4f}{'' if self.agrees else '  DIFFERS'}"


def reproduce(
    name: str,
    settings: list[str],
    only: str | None,
    folder: Path | None,
    *,
    device: str,
    seed: int,
    numerics: str,
    say: Say,
    display: ProgressDisplay,
    workers: int,
) -> int:
    """Compute one detector of a recipe; with a folder of records compute it anew, and compare.

    Args:
        name: of the recipe.
        settings: its parameters as ``KEY=VALUE``.
        only: the first hex digits of the detector's key; ``random`` or ``random:SEED`` draws one.
        folder: of the records; None: nothing is compared, and what the store holds is re-used.
        device: where to compute.
        seed: run seed.
        numerics: mode.
        say: hears the lines.
        display: hear of the progress.
        workers: processes.

    Returns:
        1 when a sanity check failed that the detector depends on, else 0.

    Raises:
        UsageError: for a key that is not the recipe's and the records', or that several detectors have.
        VerificationFailed: when an AUROC differs by more than .001, after all were printed; when the records are damaged.
    """
    if only is None:
        raise UsageError("--compare compares one detector: --only KEY says which")
    recipe = running.recipe_named(name)
    about: dict[str, Any] = {"recipe": name, "parameters": running.parameters(recipe, settings), "seed": seed, "numerics": numerics}
    recorded = None if folder is None else _read(folder)
    run = Run(seed=seed, device=device, numerics=numerics)
    outputs = recipe(run, **about["parameters"])
    known = scored_detectors(outputs)
    changed = _changed(revisions_of(run, outputs), recorded)
    if changed:
        say(f"note: the records were made with another revision of {changed}: what depends on it has other numbers and is not compared")
    detector = known[_key(only, known, recorded, about, say, changed)]
    say(f"detector {detector.key[:SHORT]}: {_described(detector, recorded)}")
    wanted = detector.alone(outputs)
    with tempfile.TemporaryDirectory(prefix="salientry-") as aside:
        if recorded:
            compute_again(run, detector, Path(aside) / "anew")
        outcome = running.computed(run, wanted, say, display, workers)
        if outcome.failed:
            for _, message in outcome.failed:
                say(f"SANITY CHECK FAILED: {message}; the detector depends on it and was not computed")
            return 1
        export(run, wanted, outcome, Path(aside) / "records", about)
        lines = compared(recorded, Scores.read(Path(aside) / "records"), detector.key)
    say(f"{'attacked test set':40} {'n':>6} {'recorded':>9} {'now':>9} {'difference':>11}")
    for one in lines:
        say(one.line())
    if recorded:
        _judge(lines, recorded, detector.key[:SHORT])
        say(f"agrees: none of {len(lines)} AUROCs differs from {folder} by more than {MOST:g}")
    return 0


def _read(folder: Path) -> Scores:
    """Records with their checksums compared."""
    try:
        return Scores.read(folder, verify=True)
    except DataDamaged as e:
        raise VerificationFailed(f"nothing to compare with in {folder}: {e}") from None


def _judge(lines: list[Compared], recorded: Scores, key: str) -> None:
    """Raise unless all agrees and the records are whole."""
    files = ", ".join(sorted(set(recorded.damaged.values())))
    rotten = f"{files} in {recorded.folder} is not what the sha256 in records.json says"
    if wrong := [c for c in lines if not c.agrees]:
        worst = max(wrong, key=lambda c: abs(c.difference))
        raise VerificationFailed(
            f"{len(wrong)} of {len(lines)} AUROCs of detector {key} differ from {recorded.folder} by more than {MOST:g}; "
            f"most on {worst.name}: {worst.difference:+.4f}{f' ({rotten})' if files else ''}"
        )
    if files:
        raise VerificationFailed(f"the AUROCs agree, but {rotten}")


def _changed(today: dict[str, int], recorded: Scores | None) -> str:
    """The settings classes that had another revision in the records, with both; empty where there is none."""
    then = today if recorded is None else dict(recorded.body.get("revisions", {}))  # older records hold none: 1 everywhere
    return ", ".join(f"{name} ({then.get(name, 1)}, now {new})" for name, new in today.items() if then.get(name, 1) != new)


# --- which one -------------------------------------------------------------------------------------------------


def _key(only: str, known: Mapping[str, ScoredDetector], recorded: Scores | None, about: dict[str, Any], say: Say, changed: str) -> str:
    """The key that is meant, in the recipe and, where something is compared, in the records."""
    there = _scored(recorded) if recorded else dict.fromkeys(known)
    made = f"; the records in {recorded.folder} were made with {_call(recorded.body['recipe'])}" if recorded else ""
    if recorded and recorded.body["recipe"] != about:
        say(f"note: this call is {_call(about)}{made}")
    both = sorted(set(known) & set(there))
    if only.partition(":")[0] == "random":
        if not both:
            raise UsageError(f"no detector of {_call(about)} is in the records{made}; near: {_near('', there)}")
        return _drawn(only, both, say)
    if len(found := [k for k in both if only and k.startswith(only.lower())]) == 1:
        return found[0]
    if found:
        raise UsageError(f"{len(found)} detectors have a key that begins with {only!r}: {_near(only, found)}")
    if changed and recorded and recorded.body["recipe"] == about and only and any(k.startswith(only.lower()) for k in there):
        raise UsageError(f"detector {only!r} of the records depends on another revision of {changed}: its numbers cannot be compared")
    if recorded and only and any(k.startswith(only.lower()) for k in known):
        gone = f"; files of scores that are missing: {', '.join(recorded.absent)}" if recorded.absent else ""
        if recorded.not_kept:
            gone += f"; {len(recorded.not_kept.gone)} files of scores are not kept: `{recorded.not_kept.command}` makes them"
        raise UsageError(f"the records have no scores of detector {only!r}{made}{gone}; near: {_near(only, there)}")
    raise UsageError(f"no detector of {_call(about)} has a key that begins with {only!r}{made}; near: {_near(only, known)}")


def _drawn(only: str, keys: list[str], say: Say) -> str:
    """One of them by chance; a draw from the clock says how to repeat it."""
    _, colon, text = only.partition(":")
    if colon and not text.isdecimal():
        raise UsageError(f"a draw is random, or random:SEED with a whole number; found {only!r}")
    seed = int(text) if colon else time.time_ns() % 10**9
    say(f"drawn from {len(keys)} detectors; the same draw again: --only random:{seed}")
    return random.Random(seed).choice(keys)


def _near(only: str, keys: Collection[str]) -> str:
    """The keys that begin most like this."""

    def alike(key: str) -> int:
        return next((i for i, (a, b) in enumerate(zip(key, only.lower(), strict=False)) if a != b), min(len(key), len(only)))

    ranked = sorted(keys, key=lambda k: (-alike(k), k))
    return ", ".join(k[: max(SHORT, len(only) + 4)] for k in ranked[:NEAR]) + (f" and {len(keys) - NEAR} more" * (len(keys) > NEAR))


def _call(about: Mapping[str, Any]) -> str:
    """The call that a run was made with."""
    given = "".join(f" {k}={v}" for k, v in about["parameters"].items())
    return f"`{about['recipe']}{given}` (seed {about['seed']}, {about['numerics']})"


def _scored(records: Scores) -> dict[str, FittedSeed]:
    """The records' detectors that have scores, by key."""
    return {one.key: one for group in records.trained for one in group.seeds if one.kept}


def _described(detector: ScoredDetector, records: Scores | None) -> str:
    if records is None:
        step = detector.fitted.step
        return f"{step.name if step else ''} {detector.fitted.slug}"
    facts = _scored(records)[detector.key].facts
    return f"{facts['detector']} ({facts['scheme']}) trained on {facts['trained_on']}, {facts['protocol']}, seed {facts['seed']}"


# --- what it says ----------------------------------------------------------------------------------------------


def compared(recorded: Scores | None, now: Scores, key: str) -> list[Compared]:
    """A detector's AUROC on every attacked test set, before and now: the adversarials that count against all test naturals. A set that
    the records have by this name, made by another revision of its attack, is left out.
    """
    old, new = _aurocs(recorded, key) if recorded else {}, _aurocs(now, key)
    missing: tuple[None, int] = None, 0
    other = {name for name in old.keys() & new.keys() if recorded and recorded.images[name]["key"] != now.images[name]["key"]}
    return [
        Compared(name, new.get(name, missing)[1], old.get(name, missing)[0], new.get(name, missing)[0])
        for name in (old | new)
        if name not in other
    ]


def _aurocs(records: Scores, key: str) -> dict[str, tuple[float, int]]:
    """AUROC and the number of adversarials that count, by the name of the set."""
    one = _scored(records)[key]
    natural, found = one.of(NATURAL), dict[str, tuple[float, int]]()
    for name in one.scores:
        i = records.images[name]
        if i["role"] == "test" and i["attack"] is not None and i["control"] is None and not i["mixture"]:
            found[name] = auroc(natural, one.of(name)[i["evaluated"]]), int(i["evaluated"].sum())
    return found
