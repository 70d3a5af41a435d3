"""The few common steps, in the order in which data flows. Read it top to bottom.

reader -> role -> *look* (the classifier's answer) -> *draw* (the map) -> attack -> *settle* (storage, answer, what counts)
-> *draw* -> view and head -> score.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..calibration import pac_threshold, warn_if_small
from ..contracts import ATTACK_STREAM, CONTROL_STREAM, DEVICE, Batch, RowImages, facts_of, shape_of, with_facts
from ..errors import UsageError
from ..evidence import PARTS, Evidence
from ..keys import label
from ..protocol import Rules, counting, stored, within
from ..store import JSON, Rows
from .handles import step

Columns = dict[str, Tensor]
FEWEST_PAIRS = 20  # a head is not trained on fewer adversarials


# --- training on naturals ---------------------------------------------------------------------------------------


def _labels(rows: Rows) -> Tensor:
    return torch.from_numpy(rows.column("label")).to(DEVICE.get())


@step()
def train_classifier(rows: Rows, settings: Any, *, seed: int) -> nn.Module:
    """A classifier, trained on these rows."""
    images = RowImages(rows)
    module: nn.Module = settings.fit(images, _labels(rows), shape_of(images, rows.facts["classes"]), seed=seed)
    return with_facts(module, classifier=label(settings))


@step()
def fit_saliency(rows: Rows, classifier: nn.Module, settings: Any, *, seed: int) -> nn.Module:
    """A saliency model of this classifier, trained on these rows."""
    images = RowImages(rows)
    module: nn.Module = settings.fit(images, _labels(rows), classifier, shape_of(images, rows.facts["classes"]), seed=seed)
    return with_facts(module, saliency=label(settings))


# --- looking ----------------------------------------------------------------------------------------------------


def _classifier_facts(classifier: nn.Module, **_: Any) -> dict[str, JSON]:
    return {"classifier": facts_of(classifier).get("classifier", type(classifier).__name__)}


def _saliency_facts(saliency: nn.Module, **_: Any) -> dict[str, JSON]:
    return {"saliency": facts_of(saliency).get("saliency", type(saliency).__name__)}


@step(each_image=True, facts=_classifier_facts)
def look(images: Batch, classifier: nn.Module) -> Columns:
    """The classifier's answer: one pass."""
    seen = Evidence(classifier, None, images.image)
    return {"logits": seen.logits, "predicted": seen.predicted}


@step(each_image=True, facts=_saliency_facts)
def draw(images: Batch, saliency: nn.Module) -> Columns:
    """The map of the predicted class, and what else the saliency model says: one pass. The class is the stored one."""
    seen = Evidence(None, saliency, images.image, predicted=images.predicted)
    found: Columns = {"map": seen.map}
    return found | {name: getattr(seen, name) for name in ("exists", "opinion") if name in seen}


# --- attacking --------------------------------------------------------------------------------------------------


def _attack_facts(attack: Any, **_: Any) -> dict[str, JSON]:
    return {"attack": label(attack), "eps": attack.eps}


@step(each_image=True, shard=500, facts=_attack_facts)
def attack_images(natural: Batch, classifier: nn.Module, attack: Any, *, seed: int) -> Columns:
    """What an attack proposes, float32, for images that were looked at; the label to leave is the classifier's own."""
    return {"image": attack(classifier, natural.image, natural.predicted, seeds=natural.seeds(seed, ATTACK_STREAM))}


def _control_facts(control: Any, settled: Rows, **_: Any) -> dict[str, JSON]:
    return {"control": label(control), "of": settled.facts["attack"]}


@step(each_image=True, facts=_control_facts)
def control_images(natural: Batch, settled: Batch, control: Any, *, seed: int) -> Columns:
    """What a control makes of a natural and its settled adversarial."""
    return {"image": control(natural.image, settled.image, seeds=natural.seeds(seed, CONTROL_STREAM))}


def _settle_facts(rules: Rules, classifier: nn.Module, proposed: Rows, **_: Any) -> dict[str, JSON]:
    searched = rules.bits and proposed.facts.get("eps") is None and "control" not in proposed.facts
    storage = "float32" if rules.bits is None else f"{rules.bits} bits, searched" if searched else f"{rules.bits} bits"
    return {"protocol": rules.name, "storage": storage} | _classifier_facts(classifier)


@step(each_image=True, facts=_settle_facts)
def settle(proposed: Batch, natural: Batch, classifier: nn.Module, rules: Rules) -> Columns:
    """Storage and predicate of a protocol: every row stays, ``counts`` marks the ones that its numbers speak of.

    Columns: ``image`` (8-bit protocols), ``logits``, ``predicted`` of the image as stored; ``right`` (the natural was
    classified right), ``changed`` (the prediction is another), ``in_budget``, ``counts``; ``rms``, ``linf``, ``l0``.
    """
    x, own, eps, is_control = natural.image, natural.predicted, proposed.facts.get("eps"), "control" in proposed.facts
    z = stored(classifier, x, proposed.image, own, rules, eps, is_control)
    seen = Evidence(classifier, None, z)
    right, changed, in_budget = own == natural.label, seen.predicted != own, within(x, z, rules, None if is_control else eps)
    size = (z - x).flatten(1)
    found = {"logits": seen.logits, "predicted": seen.predicted, "right": right, "changed": changed, "in_budget": in_budget}
    found |= {"counts": counting(rules, right, changed, in_budget, is_control)}
    found |= {"rms": size.square().mean(1).sqrt(), "linf": size.abs().amax(1), "l0": (size != 0).float().mean(1)}
    return found | ({"image": (z * 255).round().to(torch.uint8)} if rules.bits is not None else {})


# --- detecting --------------------------------------------------------------------------------------------------


def evidence_of(images: Batch, needs: frozenset[str] = frozenset()) -> Evidence:
    """Evidence from what is stored: nothing is computed again.

    Raises:
        UsageError: when a needed part is not stored.
    """
    known = images.parts(*PARTS)
    if missing := needs - set(known):
        raise UsageError(f"these images have no stored {', '.join(sorted(missing))}; look at them or draw them first")
    return Evidence(None, None, images.image, needs, **known)


class StoredPairs:
    """Views of naturals and their adversarials, batch by batch, out of stored evidence: a ``contracts.Pairs``.

    Args:
        natural: rows that were looked at (and drawn).
        attacked: the same rows, attacked and settled; those that count are the positives.
        detector: whose view.
        parts: what the view stands on.
        paired: a batch holds each natural together with its own twin; otherwise two independent draws.

    Raises:
        UsageError: when too few adversarials count.
    """

    def __init__(self, natural: Rows, attacked: Rows, detector: Any, parts: list[nn.Module], paired: bool) -> None:
        assert (natural.ids == attacked.ids).all(), "naturals and twins are aligned"
        self.sides, self.detector, self.parts, self.paired = (natural, attacked), detector, parts, paired
        self.rows = np.flatnonzero(attacked.column("counts"))
        if len(self.rows) < FEWEST_PAIRS:
            raise UsageError(
                f"{len(self.rows)} of {len(attacked)} images of {attacked.facts.get('attack')} count; {FEWEST_PAIRS} are needed to train on"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one view."""
        return tuple(self._view(0, self.rows[:1]).shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def _view(self, side: int, at: Any) -> Tensor:
        with torch.no_grad():
            seen: Tensor = self.detector.view(evidence_of(Batch(self.sides[side], at), self.detector.needs), *self.parts)
        return seen

    def batches(self, size: int, seed: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """(natural views, adversarial views) of ``size`` each; with ``seed`` None all of them in order, else shuffled whole batches."""
        if seed is None:
            for s in range(0, len(self), size):
                yield self._view(0, self.rows[s : s + size]), self._view(1, self.rows[s : s + size])
            return
        rng = np.random.default_rng(seed)
        twins = rng.permutation(self.rows)
        naturals = twins if self.paired else rng.permutation(self.rows)
        for s in range(0, len(self) - len(self) % size, size):
            yield self._view(0, naturals[s : s + size]), self._view(1, twins[s : s + size])


@step()
def fit_detector(
    natural: Rows, attacked: Rows, settings: Any, rules: Rules, parts: list[nn.Module] | None = None, *, seed: int
) -> nn.Module:
    """A detector of this attack, trained on the rows that count."""
    pairs = StoredPairs(natural, attacked, settings, parts or [], rules.paired)
    fitted: nn.Module = settings.fit(pairs, *(parts or []), seed=seed)
    facts = {"detector": type(settings).__name__, "settings": label(settings), "family": settings.family}
    facts |= {"form": "paired" if rules.paired else "replica", "trained_on": attacked.facts["attack"], "protocol": rules.name}
    return with_facts(fitted, **facts, seed=seed % 1000, pairs=len(pairs))


@step(each_image=True)
def score(sets: list[Batch], detector: nn.Module, thresholds: JSON = None) -> Columns:
    """Scores of aligned image sets, one column each. Thresholds are an input so that they are frozen before an attacked
    test image is scored; they are not used.
    """
    needs: frozenset[str] = detector.needs  # type: ignore[assignment]
    return {f"score{i:03d}": detector(evidence_of(images, needs)) for i, images in enumerate(sets)}


@step()
def calibrate(scored: Rows, rules: Rules) -> dict[str, float]:
    """A threshold for each level of the rules, from the scores of calibration naturals; ``own`` is the head's own 0."""
    scores = scored.column("score000")
    for level in rules.levels:
        warn_if_small(len(scores), level)
    return {"own": 0.0} | {str(level): pac_threshold(scores, level) for level in rules.levels}
