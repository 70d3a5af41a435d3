"""A verdict on detectors, from the words of a command to a report."""

from __future__ import annotations

import inspect
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ..classifiers import load_classifier, named
from ..detectors import DETECTORS
from ..errors import UsageError, theirs
from ..experiment.intake import taken
from ..experiment.run import Run
from ..judging import Judgement, judge, judge_scores
from ..judging.baselines import ASKING, SETS, baselines_called
from ..judging.evaluate import as_settings
from ..judging.recorded import MOST, recorded
from ..judging.result import FILES
from ..judging.standing import images_on_leaderboard, on_leaderboard
from ..judging.table import SUFFIXES
from ..judging.words import best
from ..runner.run import usable
from .checking import guard_of
from .fitting import Lines, read


def execute(
    detectors: Sequence[str],
    data: Path | None,
    on: str | None,
    out: Path,
    nets: dict[str, Any],
    *,
    images: int | None,
    device: str,
    store: Path | None,
    seed: int,
    workers: int,
    cost: float | None,
    latency: float | None,
    levels: Sequence[float],
    say: Callable[[str], Any],
    **how: Any,
) -> Judgement:
    """Judge, write the report into ``out``, and say what came of it.

    Args:
        detectors: module:name, names, folders of guards; or one file of scores.
        data: a folder of pictures or an .npz.
        on: a data set at hand, in place of a classifier and images.
        out: folder of the report.
        nets: ``classifier``, ``weights``, ``second``, ``second_weights`` as they were given.
        images: how many are used; None: all.
        device: where to compute.
        store: folder of results; None: the usual one.
        seed: of all draws.
        workers: processes; 0: one a core.
        cost: the best detector that takes at most so many times the classifier's time is named.
        latency: that takes at most so many milliseconds; None, as the cost: no best one is named.
        levels: false-positive rates.
        say: prints a line.
        **how: further arguments of :func:`~salientry.judging.judge`.

    Raises:
        Error: see :mod:`salientry.errors`.
    """
    if len(detectors) == 1 and Path(detectors[0]).suffix in SUFFIXES:
        found = judge_scores(detectors[0], levels)
    else:
        found = _judged(detectors, data, on, nets, images, usable(device), store, seed, workers, levels=levels, **how)
    if on is not None:
        found.facts["leaderboard"] = on_leaderboard(on, found.facts)
    if cost is not None or latency is not None:
        found.facts["best"] = best(found.verdicts, cost, latency)
    for line in str(found).splitlines():
        say(line)
    found.save(out)
    say(f"written: {', '.join(str(out / name) for name in FILES)}")
    return found


def _judged(
    detectors: Sequence[str],
    data: Path | None,
    on: str | None,
    nets: dict[str, Any],
    images: int | None,
    device: str,
    store: Path | None,
    seed: int,
    workers: int,
    **how: Any,
) -> Judgement:
    if (on is None) == (data is None) or (on is None) != (nets["classifier"] is not None):
        raise UsageError("what detectors are judged on: --classifier and --data, or --on NAME; found neither or both")
    if images is not None and images < 1:
        raise UsageError(f"--images must be 1 or more; found {images}")
    run = Run(store, seed=seed, device=device)
    sets = [d for d in detectors if d in SETS]
    if len(set(detectors)) < len(detectors) or len(sets) > 1:
        raise UsageError(f"each detector once, and one set of them at most; found {', '.join(detectors)}")
    named = names_of([d for d in detectors if d not in SETS])
    own = {name: None if is_guard(word) else as_settings(detector_at(word, None, device)) for name, word in named.items()}
    lines = Lines("judge")
    watched: Any = True if sys.stderr.isatty() else lines
    if on is not None:
        known = recorded(on, run, most=images or images_on_leaderboard(on) or MOST, say=lines.say)
        net, x, y = known.classifier, known.images, known.labels
    else:
        assert data is not None
        net = load_classifier(nets["classifier"], nets["weights"]).to(device)
        with tempfile.TemporaryDirectory() as scratch:
            pixels, labels = taken(read(data), None, Path(scratch))
            x, y = torch.from_numpy(pixels[:images].copy()), torch.as_tensor(labels)[:images]
    second = None if nets["second"] is None else load_classifier(nets["second"], nets["second_weights"]).to(device)
    own |= {name: detector_at(word, net, device) for name, word in named.items() if is_guard(word)}
    judged = {n: d for word in sets for n, d in baselines_called(word, second is not None).items()} | own
    how |= {"baselines": "none"} if sets else {}
    given: dict[str, Any] = {"classifier": net, "images": x, "labels": y, "second": second, "seed": seed, "workers": workers or None}
    return judge(judged, store=run.store.root, progress=watched, **given, **how)


def parsed_levels(words: str) -> list[float]:
    """``0.05,0.01`` as numbers.

    Raises:
        UsageError: for what is no false-positive rate.
    """
    found = []
    for word in words.split(","):
        try:
            value = float(word)
        except ValueError:
            value = 0.0
        if not 0 < value < 1:
            raise UsageError(f"--levels are false-positive rates between 0 and 1, with commas between them; found {word.strip()!r}")
        found.append(value)
    return found


def names_of(words: Sequence[str]) -> dict[str, str]:
    """What each detector is called in the verdict: what follows the colon, or the folder's name; all of its word where another one, or a
    baseline, is called so.
    """
    short = [word.partition(":")[2] or Path(word).name for word in words]
    taken = SETS["published"] | ASKING
    alone = [short.count(name) == 1 and (name not in taken or name == word) for name, word in zip(short, words, strict=True)]
    return {name if one else word: word for name, one, word in zip(short, alone, words, strict=True)}


def is_guard(word: str) -> bool:
    """Whether it is a guard's folder."""
    return Path(word, "guard.json").is_file()


def detector_at(word: str, net: Any, device: str) -> Any:
    """What a word means: see the command."""
    if is_guard(word):
        return guard_of(Path(word), net, device, second=None, second_weights=None, detector=None)
    if ":" not in word:
        if word not in DETECTORS:
            raise UsageError(
                f"{word!r} is no detector: module:name, the folder of a guard, a file of scores, or one of {', '.join(DETECTORS)} expected"
            )
        return word
    found = named(word, "detector")
    makes = isinstance(found, type) or (
        callable(found) and not isinstance(found, torch.nn.Module) and not hasattr(found, "score") and not _parameters(found)
    )
    if makes:
        with theirs(f"{word} is called without arguments and should give a detector; it raised"):
            return found()
    return found


def _parameters(function: Any) -> int:
    """How many arguments it must be given."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    return sum(p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in found)


__all__ = ["detector_at", "execute", "is_guard", "names_of", "parsed_levels"]
