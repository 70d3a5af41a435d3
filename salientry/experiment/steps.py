"""The few common steps, in the order in which data flows. Read it top to bottom.

reader -> role -> *classify* (logits, layers) -> *saliency_map*, *input_gradient* -> attack -> *quantize_and_mark* (storage, logits,
what counts) -> *saliency_map*, *input_gradient* -> view and head -> scoring. A step's name is part of keys: there the
older names stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..batches import DEVICE, Batch, RowImages
from ..errors import UsageError
from ..evidence import Evidence
from ..keys import label
from ..layers import has_features
from ..learned import facts_of, with_facts
from ..metrics import of_mixture
from ..protocol import EvaluationProtocol, counting, eight_bits, stored, within
from ..randomness import ATTACK_STREAM, CONTROL_STREAM
from ..rows import Column, Rows, at_once
from ..store import JSON
from ..types import shape_of
from .handles import step

Columns = dict[str, Tensor]
FEWEST_PAIRS = 20  # a head is not trained on fewer adversarials
IN_MEMORY = 2**27  # numbers: views of half a gigabyte are kept while a head is trained on them
BATCH = 250


# --- training on naturals ---------------------------------------------------------------------------------------


def _labels(rows: Rows) -> Tensor:
    return torch.from_numpy(rows.column("label")).to(DEVICE.get())


@step("train_classifier")
def train_classifier(rows: Rows, settings: Any, *, seed: int) -> nn.Module:
    """A classifier, trained on these rows."""
    images = RowImages(rows)
    module: nn.Module = settings.fit(images, _labels(rows), shape_of(images, rows.facts["classes"]), seed=seed)
    return with_facts(module, classifier=label(settings))


@step("fit_encoder")
def fit_encoder(rows: Rows, settings: Any, *, seed: int) -> nn.Module:
    """The encoder of a saliency model, trained on these rows: it needs no classifier, and several models may share it."""
    images = RowImages(rows)
    module: nn.Module = settings.fit(images, _labels(rows), shape_of(images, rows.facts["classes"]), seed=seed)
    return module


@step("take_trunk")
def take_trunk(rows: Rows, classifier: nn.Module, settings: Any) -> nn.Module:
    """The encoder that the attacked classifier is itself: nothing is trained; the rows tell the images' shape."""
    module: nn.Module = settings.around(classifier, shape_of(RowImages(rows), rows.facts["classes"]))
    return module


@step("fit_saliency")
def fit_saliency(rows: Rows, classifier: nn.Module, settings: Any, encoder: nn.Module | None = None, *, seed: int) -> nn.Module:
    """A saliency model of this classifier, trained on these rows, on an encoder if there is one already."""
    images, parts = RowImages(rows), () if encoder is None else (encoder,)
    module: nn.Module = settings.fit(images, _labels(rows), classifier, shape_of(images, rows.facts["classes"]), *parts, seed=seed)
    return with_facts(module, saliency=label(settings))


# --- classifying ----------------------------------------------------------------------------------------------------


def _classifier_facts(classifier: nn.Module, **_: Any) -> dict[str, JSON]:
    return {"classifier": facts_of(classifier).get("classifier", type(classifier).__name__)}


def _saliency_facts(saliency: nn.Module, **_: Any) -> dict[str, JSON]:
    return {"saliency": facts_of(saliency).get("saliency", type(saliency).__name__)}


def _answer(seen: Evidence) -> Columns:
    """What one pass of the classifier says; layer means only where it has layers of the usual kinds."""
    found = {"logits": seen.logits, "predicted": seen.predicted}
    return found | ({"features": seen.features} if "features" in seen.needs else {})


def _passed(classifier: nn.Module, image: Tensor) -> Evidence:
    return Evidence(classifier, None, image, frozenset({"features"}) if has_features(classifier) else frozenset())


@step("look", each_image=True, facts=_classifier_facts, revision=2)
def classify(images: Batch, classifier: nn.Module) -> Columns:
    """The classifier's answer and its layers' means: one pass."""
    return _answer(_passed(classifier, images.image))


@step("draw", each_image=True, facts=_saliency_facts)
def saliency_map(images: Batch, saliency: nn.Module, chosen: Batch | None = None, by: str = "predicted") -> Columns:
    """The map of a class, and what else the saliency model says: one pass. The class is the stored prediction, or the column
    ``by`` of the aligned rows ``chosen``.
    """
    k = images.predicted if chosen is None else getattr(chosen, by)
    seen = Evidence(None, saliency, images.image, predicted=k)
    found: Columns = {"map": seen.map}
    return found | {name: getattr(seen, name) for name in ("exists", "opinion") if name in seen}


@step("differentiate", each_image=True)
def input_gradient(images: Batch, classifier: nn.Module, kind: str = "gradient") -> Columns:
    """An input gradient (a part of the evidence whose name begins so): one forward pass, and one backward pass a channel group."""
    return {kind: getattr(Evidence(classifier, None, images.image, predicted=images.predicted), kind)}


# --- attacking --------------------------------------------------------------------------------------------------


def _attack_facts(attack: Any, **_: Any) -> dict[str, JSON]:
    return {"attack": label(attack), "eps": attack.eps}


@step("attack_images", each_image=True, shard=500, facts=_attack_facts)
def attack_images(natural: Batch, classifier: nn.Module, attack: Any, *, seed: int) -> Columns:
    """What an attack proposes, float32, for images that were looked at; the label to leave is the classifier's own."""
    found = attack(classifier, natural.image, natural.predicted, seeds=natural.seeds(seed, ATTACK_STREAM))
    return {"image": found.to(torch.float32)}  # a float64 network is attacked in float64


def _control_facts(control: Any, settled: Rows, **_: Any) -> dict[str, JSON]:
    return {"control": label(control), "of": settled.facts["attack"]}


@step("borrow", stored=False)
def shift_by_one(rows: Rows) -> Rows:
    """These rows with the image of the next one."""
    others = Column(rows.take(np.roll(np.arange(len(rows)), -1)), "image")
    return rows.widen({"image": others}, {})  # type: ignore[dict-item]  # it is read as a column is


@step("control_images", each_image=True, facts=_control_facts)
def control_images(natural: Batch, settled: Batch, control: Any, donors: list[Batch] | None = None, *, seed: int) -> Columns:
    """What a control makes of a natural and its settled adversarial; with donors (another natural, its adversarial) of the
    natural and their perturbation.
    """
    x = natural.image
    x_adv = settled.image if donors is None else x + (donors[1].image - donors[0].image)
    return {"image": control(x, x_adv, seeds=natural.seeds(seed, CONTROL_STREAM))}


def _storage_facts(rules: EvaluationProtocol, classifier: nn.Module, proposed: Rows, **_: Any) -> dict[str, JSON]:
    searched = rules.bits and proposed.facts.get("eps") is None and "control" not in proposed.facts
    storage = "float32" if rules.bits is None else f"{rules.bits} bits, searched" if searched else f"{rules.bits} bits"
    return {"protocol": rules.name, "storage": storage} | _classifier_facts(classifier)


@step("settle", each_image=True, facts=_storage_facts, revision=2)
def quantize_and_mark(proposed: Batch, natural: Batch, classifier: nn.Module, rules: EvaluationProtocol) -> Columns:
    """Storage and predicate of a protocol: every row stays, ``counts`` marks the ones that its numbers speak of.

    Columns: ``image`` (8-bit protocols), ``logits``, ``predicted``, ``features`` of the image as stored; ``right`` (the natural was
    classified right), ``changed`` (the prediction is another), ``in_budget``, ``counts``; ``rms``, ``linf``, ``l0``; where the
    8-bit image was searched, ``plain``: whether mere rounding would have left it changed.
    """
    x, own, eps, is_control = natural.image, natural.predicted, proposed.facts.get("eps"), "control" in proposed.facts
    z = stored(classifier, x, proposed.image, own, rules, eps, is_control)
    seen = _passed(classifier, z)
    answer = _answer(seen)
    right, changed, in_budget = own == natural.label, seen.predicted != own, within(x, z, rules, None if is_control else eps)
    size = (z - x).flatten(1)
    found = answer | {"right": right, "changed": changed, "in_budget": in_budget}
    found |= {"counts": counting(rules, right, changed, in_budget, is_control)}
    found |= {"rms": size.square().mean(1).sqrt(), "linf": size.abs().amax(1), "l0": (size != 0).float().mean(1)}
    if rules.bits is not None and eps is None and not is_control:
        found |= {"plain": classifier(eight_bits(proposed.image)).argmax(1) != own}
    return found | ({"image": (z * 255).round().to(torch.uint8)} if rules.bits is not None else {})


# --- detecting --------------------------------------------------------------------------------------------------


def evidence_of(images: Batch, needs: frozenset[str] = frozenset()) -> Evidence:
    """Evidence from what is stored, of the parts that are needed: nothing is computed again.

    Raises:
        UsageError: when a needed part is not stored.
    """
    known = images.parts(*sorted(needs))
    if missing := needs - set(known):
        raise UsageError(f"these images have no stored {', '.join(sorted(missing))}; classify them, or make their maps, first")
    return Evidence(None, None, images.image, needs, **known)


class StoredPairs:
    """Views of naturals and their adversarials, batch by batch, out of stored evidence: a ``types.Pairs``.

    Args:
        natural: rows that were looked at (and drawn).
        attacked: the same rows, attacked and settled; those that count are the positives. Of several attacks, row i is of the
            attack i modulo their number: as many adversarials as naturals, whatever the number of attacks.
        detector: whose view.
        parts: what the view stands on.
        paired: a batch holds each natural together with its own twin; otherwise two independent draws.
        shuffled: a control: in a random half of the pairs the two change places.

    Raises:
        UsageError: when too few adversarials count.
    """

    def __init__(
        self, natural: Rows, attacked: list[Rows], detector: Any, parts: list[nn.Module], paired: bool, shuffled: bool = False
    ) -> None:
        assert all((natural.ids == a.ids).all() for a in attacked), "naturals and twins are aligned"
        self.natural, self.attacked, self.detector, self.parts, self.paired = natural, attacked, detector, parts, paired
        self.rows = np.flatnonzero(of_mixture([a.column("counts") for a in attacked]))
        if len(self.rows) < FEWEST_PAIRS:
            names = ", ".join(str(a.facts.get("attack")) for a in attacked)
            raise UsageError(f"{len(self.rows)} of {len(natural)} images of {names} count; {FEWEST_PAIRS} are needed to train on")
        self.swapped = np.zeros(len(natural), bool)
        if shuffled:  # exactly half: a head that learns that one side has more of a label has learnt something
            self.swapped[np.random.default_rng(0).permutation(self.rows)[: len(self.rows) // 2]] = True
        self._known: tuple[Tensor, Tensor] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one view."""
        return tuple(self._view(self.natural, self.rows[:1]).shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def _view(self, rows: Rows, at: Any) -> Tensor:
        with torch.no_grad():
            seen: Tensor = self.detector.view(evidence_of(Batch(rows, at), self.detector.needs), *self.parts)
        return seen

    def _both(self, at: Any) -> tuple[Tensor, Tensor]:
        """Views of some naturals and of their twins."""
        natural = self._view(self.natural, at)
        twins = torch.empty_like(natural)
        for i, rows in enumerate(self.attacked):
            mine = at % len(self.attacked) == i
            if mine.any():
                twins[torch.from_numpy(mine)] = self._view(rows, at[mine])
        swap = torch.from_numpy(self.swapped[at]).to(natural.device).view(-1, *[1] * (natural.dim() - 1))
        return torch.where(swap, twins, natural), torch.where(swap, natural, twins)

    def _views(self) -> tuple[Tensor, Tensor] | None:
        """All views at once, where they are small."""
        if self._known is None and len(self.rows) * int(np.prod(self.shape)) <= IN_MEMORY:
            pieces = [self._both(self.rows[s : s + 500]) for s in range(0, len(self), 500)]
            self._known = torch.cat([p[0] for p in pieces]), torch.cat([p[1] for p in pieces])
        return self._known

    def _pairs(self, naturals: Any, twins: Any) -> tuple[Tensor, Tensor]:
        """(natural views, adversarial views) by their places among the rows that count."""
        views = self._views()
        if views is None:
            first = self._both(self.rows[naturals])
            return first if naturals is twins else (first[0], self._both(self.rows[twins])[1])
        return views[0][torch.from_numpy(naturals)], views[1][torch.from_numpy(twins)]

    def batches(self, size: int, seed: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """(natural views, adversarial views) of ``size`` each; with ``seed`` None all of them in order, else shuffled whole batches."""
        places = np.arange(len(self))
        if seed is None:
            for s in range(0, len(self), size):
                yield self._pairs(at := places[s : s + size], at)
            return
        rng = np.random.default_rng(seed)
        twins = rng.permutation(places)
        naturals = twins if self.paired else rng.permutation(places)
        for s in range(0, len(self) - len(self) % size, size):
            one = twins[s : s + size]
            yield self._pairs(one if self.paired else naturals[s : s + size], one)


@step("fit_detector", revision=2)
def fit_detector(
    natural: Rows,
    attacked: list[Rows],
    settings: Any,
    rules: EvaluationProtocol,
    parts: list[nn.Module] | None = None,
    *,
    trained_on: str = "",
    form: str = "",
    shuffled: bool = False,
    seed: int,
) -> nn.Module:
    """A detector of these attacks, trained on the rows that count.

    Args:
        natural: rows that were looked at, and drawn if the detector reads maps.
        attacked: the same, settled, of one attack or several (row i of attack i modulo their number).
        settings: of the detector.
        rules: of the protocol.
        parts: what the detector stands on.
        trained_on: what tables call those attacks; default the attack's label.
        form: what tables call this manner; default ``paired`` or ``replica``.
        shuffled: train on shuffled labels: a control.
        seed: repetition.
    """
    pairs = StoredPairs(natural, attacked, settings, parts or [], rules.paired, shuffled)
    fitted: nn.Module = settings.fit(pairs, *(parts or []), seed=seed)
    labels = [a.facts["attack"] for a in attacked]
    facts = {"detector": type(settings).__name__, "settings": label(settings), "family": settings.family, "of": labels}
    facts |= {"form": form or ("paired" if rules.paired else "replica"), "trained_on": trained_on or labels[0], "protocol": rules.name}
    return with_facts(fitted, **facts, seed=seed % 1000, pairs=len(pairs))


def borders(rows: Rows, most: int | None = None) -> list[Any]:
    """The rows of each batch of a step that sees whole inputs, of the first ``most`` where that is given."""
    count, batch = min(len(rows), most or len(rows)), at_once(BATCH, rows.values)
    return [np.arange(b, min(b + batch, count)) for b in range(0, count, batch)]
