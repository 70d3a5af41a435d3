"""Classifier and detector attacked together, by someone who knows both; and whether those attacks can be trusted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from ..adaptive import Defended, Look
from ..adaptive.binarization import Binarization
from ..adaptive.hardening import Hardening
from ..adaptive.weak import WEAK, weakened
from ..batches import Batch
from ..detectors.external import FittedExternal
from ..errors import UsageError
from ..evidence_set import Views
from ..inputs import as_uint8
from ..keys import encode, label
from ..learned import facts_of, frozen, seeded, with_facts
from ..protocol import EvaluationProtocol, eight_bits, evaluation_mask, within
from ..randomness import ATTACK_STREAM
from ..rows import Rows
from ..runner.step import Found, step
from ..store import JSON
from .steps import BATCH, Columns, batch_rows
from .stored_evidence import StoredPairs

CALIBRATED, LOOKS, CLEAR = 400, 25, 0.25  # naturals that set a weak detector's threshold; looks that judge one that draws; its clearance
RERUN = 7  # another stream of random numbers: an attack that is run once more, independently


@step("right_ones", stored=False)
def right_ones(rows: Rows, count: int) -> Rows:
    """The first ``count`` classified naturals that the classifier has right: the ones that a white-box attack is run on."""
    found = np.flatnonzero(rows.column("predicted") == rows.column("label"))
    if len(found) < count:
        raise UsageError(f"{count} correctly classified images are needed; there are {len(found)} among {len(rows)}")
    return rows.take(found[:count])


# --- attacks ----------------------------------------------------------------------------------------------------


def _facts(attack: Any, classifier: Any = None, detector: nn.Module | None = None, level: str = "own", **given: Any) -> dict[str, JSON]:
    """What was attacked, and how; of the detector all that tables call it by."""
    known, target = {} if detector is None else facts_of(detector), Defended(classifier, detector=detector)
    about = {k: known.get(k) for k in ("detector", "scheme", "group", "trained_on", "seed", "round", "hardened")}
    settings = {
        "attack": label(attack),
        "method": type(attack).__name__,
        "settings": encode(attack),
        "eps": attack.eps,
        "norm": attack.norm,
    }
    calibrated, protocol = given.get("calibrated"), given.get("protocol")
    return (
        about
        | settings
        | {
            "detector_protocol": known.get("protocol"),
            "level": level,
            "thresholds": {"own": 0.0} if calibrated is None else calibrated.value,
            "protocol": protocol.name if protocol else None,
            "independent_rerun": given.get("independent_rerun", False),
            "sharpness": target.sharpness if target.smoothed else None,
            "ramp": target.slope_of is not detector and not isinstance(detector, FittedExternal),
        }
        | (_slope(replace(target, saliency=given.get("saliency")), given["natural"]) if isinstance(detector, FittedExternal) else {})
    )


def _slope(target: Defended, natural: Rows) -> dict[str, JSON]:
    """Where an attack on a user's own detector takes its slope: its ``own`` gradient, its ``surrogate``, or ``none``, and the attack
    fools the classifier alone.
    """
    if target.slope_of is not target.detector:
        return {"slope": "surrogate"}
    look = Look(target, Batch(natural, np.arange(min(len(natural), 8))).image, "image")
    return {"slope": "own" if bool(look.detector_slope().any()) else "none"}


def _threshold(calibrated: Found | None, level: str) -> float:
    return 0.0 if calibrated is None else float(calibrated.value[level])


@step("attack_defended", each_row=True, batch=BATCH, shard=2 * BATCH, facts=_facts)
def attack_defended(
    natural: Batch,
    classifier: nn.Module,
    attack: Any,
    protocol: EvaluationProtocol,
    detector: nn.Module | None = None,
    saliency: nn.Module | None = None,
    calibrated: Found | None = None,
    level: str = "own",
    independent_rerun: bool = False,
    *,
    seed: int,
) -> Columns:
    """An attack on classifier and detector together, and what came of it, measured on the image as stored.

    Args:
        natural: classified naturals; the label to leave is the classifier's own.
        classifier: to be fooled.
        attack: of ``adaptive``.
        protocol: its storage.
        detector: to be evaded; None: the classifier alone.
        saliency: draws its maps.
        calibrated: its thresholds; None: its own 0.
        level: which threshold the attack aims at.
        independent_rerun: once more, with other random numbers where it draws some.
        seed: repetition.

    Returns:
        Columns ``image`` (as stored), ``predicted``, ``score``, ``natural_score``; ``right``, ``changed``, ``in_budget``, ``evaluated`` (by
        the protocol's predicate; whether it is detected, the score says); ``rms``, ``linf``, ``l2``.
    """
    x, own = natural.image, natural.predicted
    target = Defended(classifier, saliency, detector, _threshold(calibrated, level))
    out = attack(target, x, own, seeds=natural.seeds(seed, ATTACK_STREAM + (RERUN if independent_rerun else 0)))
    stored = out if protocol.bits is None else eight_bits(out)
    logits, scores = target.seen(stored)
    changed, moved = logits.argmax(1) != own, (stored - x).flatten(1)
    budget = attack.eps if getattr(attack, "project", True) else None
    inside, right = within(x, stored, protocol, budget, attack.norm), own == natural.label
    found = {"image": stored if protocol.bits is None else as_uint8(stored)}
    found |= {"predicted": logits.argmax(1), "score": scores, "natural_score": target.seen(x)[1]}
    found |= {
        "right": right,
        "changed": changed,
        "in_budget": inside,
        "evaluated": evaluation_mask(protocol, right, changed, inside, False),
    }
    return found | {"rms": moved.square().mean(1).sqrt(), "linf": moved.abs().amax(1), "l2": moved.norm(dim=1)}


@step("passes", each_row=True, batch=BATCH, shard=2 * BATCH, facts=_facts)
def passes(
    natural: Batch, classifier: nn.Module, attack: Any, marks: list[int], detector: nn.Module, saliency: nn.Module | None = None
) -> Columns:
    """The paper's Table 3: answers and scores after some numbers of passes of one attack, float32, the head's own 0.

    Columns: ``right``, ``natural_score``; for T of ``marks`` ``predicted@T``, ``score@T``, ``linf@T``.
    """
    x, own = natural.image, natural.predicted
    target = Defended(classifier, saliency, detector, 0.0)
    found = {"right": own == natural.label, "natural_score": target.seen(x)[1]}
    for t, image in enumerate(attack.passes(target, x, own, seeds=natural.seeds(0, ATTACK_STREAM)), 1):
        if t in marks:
            with frozen(*target.modules):
                logits, scores = target.seen(image)
            found |= {f"predicted@{t}": logits.argmax(1), f"score@{t}": scores, f"linf@{t}": (image - x).abs().flatten(1).amax(1)}
    return found


# --- checks of the attacks -----------------------------------------------------------------------------------------------------


@step("binarization", each_row=True, facts=_facts)
def binarization(
    natural: Batch,
    classifier: nn.Module,
    attack: Any,
    test: Binarization,
    detector: nn.Module,
    saliency: nn.Module | None = None,
    *,
    seed: int,
) -> Columns:
    """The binarization test of one attack on one detector: ``found``, ``valid``, ``by_chance`` for each image."""
    target = Defended(classifier, saliency, detector, 0.0)
    found, problem = test.found(attack, target, natural.image, seeds=natural.seeds(seed, ATTACK_STREAM))
    return {"found": found, "valid": problem.valid, "by_chance": problem.by_chance}


@step("planted_weaknesses")
def known_weak_detectors(
    natural: Rows, calibration: Rows, classifier: nn.Module, saliency: nn.Module, parts: list[nn.Module], attack: Any, *, seed: int
) -> Rows:
    """The attack on detectors that are weak by construction and look strong to an attacker who does not answer to it.

    Args:
        natural: classified naturals.
        calibration: naturals; each weak detector's threshold is its 95 % quantile on the first 400.
        classifier: to be fooled.
        saliency: draws maps.
        parts: a fitted SMD, and a fitted detector of the image.
        attack: of ``adaptive``.
        seed: repetition.

    Returns:
        ``right``; for each weakness columns ``<name>/evaded`` by the attack with the answer to it, and ``<name>/blind`` without:
        whether the image is of another class and not detected, by the majority of 25 fresh looks where the detector draws.
    """
    everything = Batch(natural, np.arange(len(natural)))
    x, own, found = everything.image, everything.predicted, dict[str, Any]()
    for name in WEAK:
        answered, blind = weakened(name, classifier, saliency, *parts)
        with frozen(*answered.modules), seeded(seed):
            few = [replace(answered, draws=1).seen(Batch(calibration, at).image)[1] for at in batch_rows(calibration, CALIBRATED)]
            threshold = float(torch.cat(few).quantile(0.95))
            aim = threshold - (torch.cat(few).std().item() * CLEAR if answered.draws > 1 else 0.0)
            for kind, target in (("evaded", answered), ("blind", blind)):
                out = attack(replace(target, threshold=aim), x, own, seeds=everything.seeds(seed, ATTACK_STREAM))
                looks = [replace(target, threshold=threshold, draws=1).seen(out) for _ in range(LOOKS if answered.draws > 1 else 1)]
                unseen = torch.stack([answered.succeeds(z, s - threshold, own) for z, s in looks]).float().mean(0) > 0.5
                found[f"{name}/{kind}"] = unseen.cpu().numpy()
    return Rows(natural.ids, found | {"right": natural.column("predicted") == natural.column("label")}, natural.facts | _facts(attack))


# --- adversarial training ---------------------------------------------------------------------------------------


def _concatenated(sets: list[StoredPairs]) -> Views:
    """The views of several sets of pairs as one."""
    known = [[torch.cat(v) for v in zip(*s.batches(500, None), strict=True)] for s in sets]
    return Views(*(torch.cat([k[i] for k in known]) for i in (0, 1)))


@step("harden")
def harden(
    natural: Rows,
    attacked: list[Rows],
    detector: nn.Module,
    settings: Hardening,
    protocol: EvaluationProtocol,
    round: int,
    against: str,
    *,
    seed: int,
) -> nn.Module:
    """One round of adversarial training.

    Args:
        natural: rows that were classified, and drawn if the detector reads maps.
        attacked: the same rows, by each black-box attack and by each white-box attack so far.
        detector: of the round before.
        settings: of the round.
        protocol: its storage and predicate.
        round: 1, 2, ...
        against: what tables call the attack.
        seed: repetition.
    """
    d: Any = detector
    pairs = _concatenated([StoredPairs(natural, [a], d.settings, [], True) for a in attacked])
    with torch.enable_grad():
        trained = settings(d, pairs, seed=seed)
    return with_facts(trained, scheme=f"hardened against {against}", hardened=against, round=round, pairs=len(pairs))
