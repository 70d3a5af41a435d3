"""A fair verdict on detectors of adversarial images: whose they are makes no difference."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from .. import __version__
from ..errors import UsageError
from ..experiment.fit_progress import FitProgress, ProgressCallback
from ..experiment.given import alike, named_detector
from ..experiment.intake import taken
from ..experiment.run import Run
from ..guard import Guard
from ..keys import name_of
from ..learned import device_of
from .adapters import FromART, is_of_art
from .ahead import NUMBERS
from .baselines import baselines_called
from .bench import called
from .evaluation import Judging
from .result import Judgement
from .table import ScoreTable, read_scores
from .verdict import LEVELS, NO_CHANGES, NO_CONTROLS, OF_SCORES, verdicts


def judge(
    detector: Any,
    *,
    classifier: nn.Module,
    images: Any,
    labels: Any = None,
    second: nn.Module | None = None,
    baselines: dict[str, Any] | str | bool = "quick",
    attacks: dict[str, Any] | Sequence[Any] | None = None,
    levels: Sequence[float] = LEVELS,
    adaptive: int = 64,
    minutes: float = 60.0,
    store: Path | str | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: ProgressCallback | bool | None = None,
) -> Judgement:
    """Judge detectors of adversarial images in front of a classifier.

    Each detector gets the same images: naturals that a threshold is calibrated on, other naturals, the same attacked in a dozen ways,
    stored as 8-bit images and saved as JPEG and WebP too, changed harmlessly, and with perturbations that are no attack. Only images
    that the classifier had right, and that fool it as they are stored, count as attacked. Then each is attacked by somebody who knows it.
    Detectors that learn, the baselines among them, are trained on images and attacks that are kept apart from those.

    Args:
        detector: your own: a callable or ``nn.Module``, images (N, C, H, W) float32 in [0, 1] to scores (N,), higher = more adversarial;
            an object with ``fit(evidence, labels)`` and ``score(evidence)``
            (:class:`~salientry.detectors.ExternalDetector` has options, such as a ``surrogate`` with a gradient); settings or a name of
            ``DETECTORS``; a fitted :class:`~salientry.Guard` of this classifier; a fitted detector of ART. Several as
            ``{"mine": f, "yours": g}``.
        classifier: images to logits.
        images: natural images that neither the classifier nor a detector was trained on: a tensor, a loader, a folder ... as in
            :func:`~salientry.fit_guard`; 197 at least, some thousands for narrow intervals. A fifth stands for images that the classifier
            was trained on, where a detector learns what each class looks like.
        labels: (N,); None when they come with the images.
        second: another classifier of the same classes, of another kind, for detectors that ask one; a second opinion, which does, is
            then among the baselines.
        baselines: judged beside yours: ``"quick"``, cheap ones; ``"published"``, ten of the literature too; ``"none"``; or a dictionary
            (:mod:`salientry.judging.baselines`). One that cannot be fitted to these images is left out and named.
        attacks: what they are judged by, by name, ours or objects of foolbox, torchattacks and ART
            (:func:`~salientry.attacks.as_attack`); default :func:`~salientry.judging.bench.judging_attacks`.
        levels: false-positive rates; the threshold for the first is used where one is needed.
        adaptive: images that are attacked by somebody who knows the detector; 0: none.
        minutes: that one core has. An attack that would take a fifth of them is left out and named, whoever makes it.
        store: folder of intermediate results, so that an interrupted call resumes and another detector is judged on the same attacked
            images; default a temporary one.
        seed: of all draws.
        workers: processes side by side; None: one a core when more than half a minute is expected. The scores are the same.
        progress: a function of (share done, seconds left); True or False: a bar on stderr or none; None: one if that is a terminal.

    Returns:
        A :class:`Judgement`: ``print`` it, ``save`` it as a page, Markdown, JSON and a table of scores.

    Raises:
        UsageError: for what cannot be used, too few images, or two detectors of one name.
        AttackTooWeak: when a detector is to be trained and no attack fools the classifier.

    Examples:
        >>> result = salientry.judge(my_detector, classifier=model, images=x, labels=y)    # doctest: +SKIP
        >>> result.save("report/")                                                         # doctest: +SKIP
    """
    _check(classifier, levels, workers)
    given = _named(detector)
    beside = baselines_called(baselines, second is not None)
    if twice := set(beside) & set(given):
        raise UsageError(f"a detector is called as a baseline is: {sorted(twice)[0]}; give it another name")
    tried = None if attacks is None else called(attacks)
    with tempfile.TemporaryDirectory() as scratch, FitProgress(progress, "judge") as bar, alike(classifier):
        run = Run(store or scratch, seed=seed, device=str(device_of(classifier)))
        evaluation = Judging.of(classifier, second, *taken(images, labels, Path(scratch)), run)
        bar.say(evaluation.seen.summary())
        evaluation.prepare(given | beside, tried, levels[0], minutes)
        evaluation.compute(bar, workers, set(given), adaptive, minutes)
        bar.part(NUMBERS)(0, 1)
        found = verdicts(evaluation.table(), levels)
        bar.over(NUMBERS)
        attacker = evaluation.attacker(levels[0], adaptive, minutes, bar)
        for c in evaluation.contestants:
            found[c.name] |= evaluation.beside(c, attacker if c.name in given else None, levels[0], bar)
        return Judgement(found, evaluation.facts(list(given)), evaluation.table())


def judge_scores(scores: Path | str | ScoreTable, levels: Sequence[float] = LEVELS) -> Judgement:
    """The verdict on scores that were made elsewhere; what cannot be decided from scores is said.

    Args:
        scores: a file, .parquet, .csv or .npz, or a table; its columns stand in :mod:`salientry.judging.table`.
        levels: false-positive rates.

    Raises:
        DataMissing: where there is no such file.
        DataDamaged: where it cannot be read.
        UsageError: for a table that lacks something.
    """
    table = scores if isinstance(scores, ScoreTable) else read_scores(scores)
    found = verdicts(table, levels)
    for name in found:
        missing = [text for key, text in (("harmless", NO_CHANGES), ("controls", NO_CONTROLS)) if not found[name][key]]
        found[name]["notes"] += [*OF_SCORES, *missing]
    facts = {"classifier": None, "own": list(found), "salientry": __version__, "from_scores": True}
    return Judgement(found, facts, table)


def _check(classifier: Any, levels: Sequence[float], workers: int | None) -> None:
    if not isinstance(classifier, nn.Module):
        raise UsageError(f"classifier must be an nn.Module; found {type(classifier).__name__}")
    if not levels or not all(0 < level < 1 for level in levels):
        raise UsageError(f"levels are false-positive rates strictly between 0 and 1; found {levels!r}")
    if workers is not None and workers < 1:
        raise UsageError(f"workers must be 1 or more; found {workers}")


def _named(detector: Any) -> dict[str, Any]:
    """Detectors by name."""
    if isinstance(detector, dict):
        if not detector:
            raise UsageError("no detector was given")
        return {str(n): as_settings(d) for n, d in detector.items()}
    found = as_settings(detector)
    return {"guard" if isinstance(found, Guard) else name_of(found): found}


def as_settings(detector: Any) -> Any:
    """A guard, or settings of a detector.

    Raises:
        UsageError: for what is no detector.
    """
    if isinstance(detector, Guard):
        return detector
    return named_detector(FromART(detector) if is_of_art(detector) else detector)


__all__ = ["as_settings", "judge", "judge_scores"]
