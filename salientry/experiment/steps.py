"""The few common steps, in the order in which data flows. Read it top to bottom.

reader -> role -> *classify* (logits, layers) -> *saliency_map*, *input_gradient* -> attack -> *quantize_and_mark* (storage, logits,
what counts) -> *saliency_map*, *input_gradient* -> view and head -> scoring. A step's name is part of keys: there the
older names stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..batches import DEVICE, Batch, RowImages
from ..errors import UsageError
from ..evidence import LAYER, Evidence
from ..inputs import as_uint8
from ..keys import label, name_of
from ..layers import has_features
from ..learned import facts_of, with_facts
from ..protocol import EvaluationProtocol, assign_roles, eight_bits, evaluation_mask, stored, within
from ..randomness import ATTACK_STREAM, CONTROL_STREAM
from ..renamed import FIRST_SCHEMES
from ..rows import Concatenated, ReadColumn, Rows, at_once
from ..runner.step import step
from ..store import JSON
from ..types import Pool, shape_of
from .stored_evidence import Mixture, StoredEvidence, StoredPairs, stored_set

Columns = dict[str, Tensor]
BATCH = 250


# --- reading ---------------------------------------------------------------------------------------------------


@step("read_data")
def read_data(settings: Any) -> Rows:
    """A data set as rows, with the role of each image and its rank in that role. Pixels are read piece by piece when written."""
    pools: Sequence[Pool] = settings.read()
    ids, role, rank = assign_roles(pools, settings.roles)
    images: Any = Concatenated([p.images for p in pools])
    labels = np.concatenate([p.labels for p in pools])
    facts = {"dataset": type(settings).__name__.lower(), "classes": _classes(pools)}
    known = {"image": images, "label": labels, "role": role.astype(np.int16), "rank": rank}
    if all(p.groups is not None for p in pools):
        known["group"] = np.concatenate([p.groups for p in pools if p.groups is not None])
    return Rows(ids, known, facts)


def _classes(pools: Sequence[Pool]) -> int:
    """How many classes there are: what the pools say, or the highest label and one.

    Raises:
        UsageError: for pools that say different numbers, or a label that is none of them.
    """
    said = {p.classes for p in pools if p.classes is not None}
    highest = max(int(p.labels.max()) for p in pools if len(p.labels))
    if len(said) > 1 or any(highest >= n for n in said):
        raise UsageError(f"labels must lie in [0, classes); found {highest} and classes = {' and '.join(map(str, sorted(said)))}")
    return said.pop() if said else highest + 1


# --- training on naturals ---------------------------------------------------------------------------------------


def _labels(rows: Rows) -> Tensor:
    return torch.from_numpy(rows.column("label")).to(DEVICE.get())


@step("train_classifier", threads=True)
def train_classifier(rows: Rows, settings: Any, *, seed: int) -> nn.Module:
    """A classifier, trained on these rows."""
    images = RowImages(rows)
    module: nn.Module = settings.fit(images, _labels(rows), shape_of(images, rows.facts["classes"]), seed=seed)
    return with_facts(module, classifier=label(settings))


@step("fit_encoder", threads=True)
def fit_encoder(rows: Rows, settings: Any, *, seed: int) -> nn.Module:
    """The encoder of a saliency model, trained on these rows: it needs no classifier, and several models may share it."""
    images = RowImages(rows)
    module: nn.Module = settings.fit(images, _labels(rows), shape_of(images, rows.facts["classes"]), seed=seed)
    return module


@step("take_trunk")
def take_trunk(rows: Rows, classifier: nn.Module, settings: Any) -> nn.Module:
    """The encoder that the attacked classifier is itself: nothing is trained; the rows give the images' shape."""
    module: nn.Module = settings.around(classifier, shape_of(RowImages(rows), rows.facts["classes"]))
    return module


@step("fit_saliency", threads=True)
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


@step("look", each_row=True, facts=_classifier_facts, revision=2)
def classify(images: Batch, classifier: nn.Module) -> Columns:
    """The classifier's answer and its layers' means: one pass."""
    return _answer(_passed(classifier, images.image))


@step("answered_right", stored=False)
def answered_right(rows: Rows) -> Rows:
    """The images on which the classifier is right."""
    return rows.take(np.flatnonzero(rows.column("predicted") == rows.column("label")))


@step("draw", each_row=True, facts=_saliency_facts)
def saliency_map(images: Batch, saliency: nn.Module, chosen: Batch | None = None, by: str = "predicted") -> Columns:
    """The map of a class, and what else the saliency model says: one pass. The class is the stored prediction, or the column
    ``by`` of the aligned rows ``chosen``.
    """
    k = images.predicted if chosen is None else getattr(chosen, by)
    seen = Evidence(None, saliency, images.image, predicted=k)
    found: Columns = {"map": seen.map}
    return found | {name: getattr(seen, name) for name in ("class_presence", "second_net_logprobs") if name in seen}


@step("differentiate", each_row=True)
def input_gradient(images: Batch, classifier: nn.Module, kind: str = "gradient") -> Columns:
    """An input gradient (a part of the evidence whose name begins so): one forward pass, and one backward pass a channel group."""
    return {kind: getattr(Evidence(classifier, None, images.image, predicted=images.predicted), kind)}


@step("layer_activations", each_row=True)
def layer_activations(images: Batch, classifier: nn.Module, layers: list[str] | None = None) -> Columns:
    """What layers give, by name, pooled: columns ``activations/NAME`` (n, 3, C); of all usual layers where none are named."""
    needs = frozenset({"activations"} if layers is None else {LAYER + name for name in layers})
    seen = Evidence(classifier, None, images.image, needs)
    return {LAYER + name: torch.stack(list(seen.activations[name]), 1) for name in layers or _passed_layers(seen)}


@step("logits_under", each_row=True)
def logits_under(images: Batch, classifier: nn.Module, names: list[str]) -> Columns:
    """The classifier's answer to changed images: columns ``logits_under/NAME`` (n, K)."""
    seen = Evidence(classifier, None, images.image, frozenset(names), None, **images.parts("map"))
    return {name: getattr(seen, name) for name in names}


@step("second_opinion", each_row=True)
def second_opinion(images: Batch, second: nn.Module) -> Columns:
    """A second classifier's answer."""
    return {"second_logits": Evidence(None, None, images.image, frozenset(), second).second_logits}


def _passed_layers(seen: Evidence) -> list[str]:
    """The usual layers that take part in the pass."""
    _ = seen.logits
    return [name for name in seen.activations if LAYER + name in seen]


# --- attacking --------------------------------------------------------------------------------------------------


def _attack_facts(attack: Any, **_: Any) -> dict[str, JSON]:
    return {"attack": label(attack), "eps": attack.eps}


@step("attack_images", each_row=True, shard=0, facts=_attack_facts)
def attack_images(natural: Batch, classifier: nn.Module, attack: Any, *, seed: int) -> Columns:
    """Adversarials before they are stored, float32, for images that were classified; the label to leave is the classifier's own."""
    seeds = natural.seeds(seed, ATTACK_STREAM)
    found = attack(classifier, natural.image, natural.predicted, seeds=seeds)
    drawn = {"drawn": attack.drawn(seeds)} if hasattr(attack, "drawn") else {}
    return {"image": found.to(torch.float32)} | drawn  # a float64 network is attacked in float64


def _harmless_facts(change: Any, **_: Any) -> dict[str, JSON]:
    return {"control": f"harmless changes, draw {change.turn + 1}" if hasattr(change, "turn") else change.title, "of": ""}


@step("change_harmlessly", each_row=True, facts=_harmless_facts)
def change_harmlessly(natural: Batch, change: Any, *, seed: int) -> Columns:
    """What a harmless change makes of naturals, before it is stored."""
    seeds = natural.seeds(seed, CONTROL_STREAM)
    drawn = {"drawn": change.drawn(seeds)} if hasattr(change, "drawn") else {}
    return {"image": change(natural.image, seeds=seeds)} | drawn


def _control_facts(control: Any, adversarials: Rows, **_: Any) -> dict[str, JSON]:
    return {"control": label(control), "of": adversarials.facts["attack"]}


@step("borrow", stored=False)
def shift_by_one(rows: Rows) -> Rows:
    """These rows with the image of the next one."""
    others = ReadColumn(rows.take(np.roll(np.arange(len(rows)), -1)), "image")
    return rows.widen({"image": others}, {})  # type: ignore[dict-item]  # it is read as a column is


@step("control_images", each_row=True, facts=_control_facts)
def control_images(natural: Batch, adversarials: Batch, control: Any, donors: list[Batch] | None = None, *, seed: int) -> Columns:
    """What a control makes of a natural and its stored adversarial; with donors (another natural, its adversarial) of the
    natural and their perturbation.
    """
    x = natural.image
    x_adv = adversarials.image if donors is None else x + (donors[1].image - donors[0].image)
    return {"image": control(x, x_adv, seeds=natural.seeds(seed, CONTROL_STREAM))}


def _storage_facts(protocol: EvaluationProtocol, classifier: nn.Module, unstored: Rows, **_: Any) -> dict[str, JSON]:
    searched = protocol.bits and unstored.facts.get("eps") is None and "control" not in unstored.facts
    storage = "float32" if protocol.bits is None else f"{protocol.bits} bits, searched" if searched else f"{protocol.bits} bits"
    return {"protocol": protocol.name, "storage": storage} | _classifier_facts(classifier)


@step("settle", each_row=True, facts=_storage_facts, revision=2)
def quantize_and_mark(unstored: Batch, natural: Batch, classifier: nn.Module, protocol: EvaluationProtocol) -> Columns:
    """Storage and predicate of a protocol: every row stays, ``evaluated`` marks the ones that its numbers speak of.

    Columns: ``image`` (8-bit protocols), ``logits``, ``predicted``, ``features`` of the image as stored; ``right`` (the natural was
    classified right), ``changed`` (the prediction is another), ``in_budget``, ``evaluated``; ``rms``, ``linf``, ``l0``; where the
    8-bit image was searched, ``plain``: whether mere rounding would have left it changed.
    """
    own, eps, is_control = natural.predicted, unstored.facts.get("eps"), "control" in unstored.facts
    z = stored(classifier, natural.image, unstored.image, own, protocol, eps, is_control)
    seen = _passed(classifier, z)
    found = _answer(seen) | measured(natural, z, seen.predicted, protocol, eps, is_control)
    found |= unstored.parts("drawn")
    if protocol.bits is not None and eps is None and not is_control:
        found |= {"plain": classifier(eight_bits(unstored.image)).argmax(1) != own}
    return found | ({"image": as_uint8(z)} if protocol.bits is not None else {})


def measured(
    natural: Batch, z: Tensor, predicted: Tensor, protocol: EvaluationProtocol, eps: float | None, is_control: bool = False
) -> Columns:
    """What came of images as they are stored, by a protocol's predicate.

    Args:
        natural: naturals that were classified; those without a label are taken for right.
        z: (n, C, H, W) in their place.
        predicted: (n,) what the classifier says of ``z``.
        protocol: its storage and predicate.
        eps: the attack's budget; None: it has none.
        is_control: whether they are a control's.
    """
    x, own = natural.image, natural.predicted
    moved = (z - x).flatten(1)
    right = own == natural.label if "label" in natural else torch.ones_like(own, dtype=torch.bool)
    changed, in_budget = predicted != own, within(x, z, protocol, None if is_control else eps)
    found = {
        "right": right,
        "changed": changed,
        "in_budget": in_budget,
        "evaluated": evaluation_mask(protocol, right, changed, in_budget, is_control),
    }
    return found | {"rms": moved.square().mean(1).sqrt(), "linf": moved.abs().amax(1), "l0": (moved != 0).float().mean(1)}


# --- detecting --------------------------------------------------------------------------------------------------


def _first_arguments(args: dict[str, Any]) -> tuple[str, int, dict[str, Any]]:
    """What keys are made of: ``scheme`` was ``form`` once, and had other words."""
    named = {"form" if k == "scheme" else k: v for k, v in args.items()}
    first = named | ({"form": FIRST_SCHEMES.get(args["scheme"], args["scheme"])} if "scheme" in args else {})
    return "fit_detector", 2, first


@step("fit_detector", revision=2, keyed=_first_arguments)
def fit_detector(
    natural: Rows,
    attacked: list[Rows],
    settings: Any,
    protocol: EvaluationProtocol,
    parts: list[nn.Module] | None = None,
    training: Rows | None = None,
    copies: list[Rows] | None = None,
    classifier: nn.Module | None = None,
    *,
    trained_on: str = "",
    scheme: str = "",
    shuffled: bool = False,
    mixture: Mixture = "each",
    seed: int,
) -> nn.Module:
    """A detector of these attacks, trained on the rows that count.

    Args:
        natural: rows that were classified, and drawn if the detector reads maps.
        attacked: the stored adversarials, of one attack or several.
        settings: of the detector.
        protocol: its storage and predicate.
        parts: what the detector depends on.
        training: naturals that the classifier was trained on, for a detector that needs them.
        copies: harmless copies of the naturals, one set an attack, likewise.
        classifier: likewise.
        trained_on: what tables call those attacks; default the attack's label.
        scheme: what tables call this manner of training; default ``paired`` or ``replica``, of all adversarials ``all 6n`` where there
            are six attacks.
        shuffled: train on shuffled labels: a control.
        mixture: of several attacks: each row by one of them, or ``all`` adversarials of all
            (:class:`~salientry.experiment.stored_evidence.StoredPairs`).
        seed: repetition.
    """
    pairs, needs = StoredPairs(natural, attacked, settings, parts or [], protocol.paired, shuffled, mixture), settings.needs
    given = {"training": [training] if training is not None else None, "copies": copies}
    given["naturals"] = [natural] if "naturals" in needs else None
    beside = {name: stored_set(rows, needs) for name, rows in given.items() if rows}
    evidence = StoredEvidence(pairs, needs, classifier=classifier, **beside)
    fitted: nn.Module = settings.fit(evidence, evidence.labels, *(parts or []), seed=seed)
    labels = [a.facts["attack"] for a in attacked]
    facts = {"detector": name_of(settings), "settings": label(settings), "group": settings.group, "of": labels}
    facts |= {"title": getattr(settings, "title", name_of(settings)), "description": getattr(settings, "description", "")}
    facts |= {
        "scheme": scheme or (f"all {len(attacked)}n" if mixture == "all" else "paired" if protocol.paired else "replica"),
        "trained_on": trained_on or labels[0],
        "protocol": protocol.name,
    }
    return with_facts(fitted, **facts, seed=seed % 1000, pairs=len(pairs))


def batch_rows(rows: Rows, most: int | None = None) -> list[Any]:
    """The rows of each batch of a step that sees whole inputs, of the first ``most`` where that is given."""
    count, batch = min(len(rows), most or len(rows)), at_once(BATCH, rows.values)
    return [np.arange(b, min(b + batch, count)) for b in range(0, count, batch)]
