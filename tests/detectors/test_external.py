"""Somebody else's detector: what is asked of it, what it is identified by, and how it is found again."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from salientry.adaptive import Defended, Look, differentiable
from salientry.detectors import SMD, ExternalDetector, Fused, as_detector
from salientry.detectors.external import FittedExternal, substituting
from salientry.errors import UsageError
from salientry.evidence import Evidence
from salientry.evidence_set import EvidenceSet, Views
from salientry.learned import rebuild, recipe_of
from salientry.types import Shape

from .. import examples, own_detectors

SHAPE = Shape(1, 12, 12, 5)


def images(n: int = 7) -> Tensor:
    return examples.images(SHAPE, n)


def look(x: Tensor, needs: frozenset[str] = frozenset()) -> Evidence:
    return Evidence(examples.conv(SHAPE), None, x, needs)


def known(n: int = 40) -> EvidenceSet:
    """Naturals and their twins, the second net's training naturals, and copies."""
    given = [examples.natural_evidence(n, seed=20), examples.adversarial_evidence(n, seed=21)]
    other = [EvidenceSet.of(e, e) for e in (examples.natural_evidence(n, seed=22), given[0])]
    return EvidenceSet.of(*given, training=other[0], copies=other[1])


def fitted(thing: Any, **named: Any) -> Any:
    data = known()
    return ExternalDetector(thing, **named).fit(data, data.labels, seed=0)


def again(detector: Any) -> Any:
    """Through JSON and arrays, as a store or a guard keeps it."""
    found = rebuild(json.loads(json.dumps(recipe_of(detector))))
    found.load_state_dict({k: torch.from_numpy(v.detach().numpy().copy()) for k, v in detector.state_dict().items()})
    return found


# --- what it gives ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "thing", [own_detectors.contrast, own_detectors.roughness, own_detectors.Network(), lambda x: x.amax((1, 2, 3))[:, None]]
)
def test_a_callable_is_shown_images_and_gives_one_float_an_image(thing: Any) -> None:
    detector, x = fitted(thing), images()
    with torch.no_grad():
        scores = detector(look(x))
        direct = torch.as_tensor(thing(x)).reshape(7)
    assert scores.shape == (7,) and scores.dtype == torch.float32
    assert torch.allclose(scores, direct.float())
    assert detector.needs == frozenset() and not detector.training


def test_an_object_is_fitted_on_a_copy_and_shown_evidence() -> None:
    mine, data = own_detectors.NearestMean(), known()
    detector = ExternalDetector(mine).fit(data, data.labels, seed=0)
    assert not hasattr(mine, "mean"), "the one that was given is its owner's"
    natural = torch.cat([data.features[:40], data.training.features]).numpy()
    np.testing.assert_allclose(detector.thing.mean, natural.mean(0), rtol=1e-6)
    e = examples.adversarial_evidence(9, seed=5)
    expected = (np.abs((e.features.numpy() - natural.mean(0)) / (natural.std(0) + 1e-3)) ** 2).mean(1)
    np.testing.assert_allclose(detector(e).numpy(), expected, rtol=1e-4)
    assert detector.needs == {"features", "logits"}, "what only fit reads is not asked for when it scores"
    assert (detector.settings.group, detector.settings.description) == ("mine", "the distance to what naturals look like inside")


def test_fit_may_take_a_seed_and_may_return_what_scores() -> None:
    class Drawn:
        def fit(self, evidence: Any, labels: Tensor, seed: int) -> Callable[[Any], Tensor]:
            return lambda e: e.image.mean((1, 2, 3)) + seed + float(labels.sum())

    data = known()
    detector = ExternalDetector(Drawn()).fit(data, data.labels, seed=100)
    x = images()
    assert torch.allclose(detector(look(x)), x.mean((1, 2, 3)) + 140)


def test_one_that_asks_the_classifier_again_gets_it() -> None:
    net, x = examples.conv(SHAPE), images()
    detector = fitted(own_detectors.FeatureSqueezing())
    with torch.no_grad():
        expected = (net(x).softmax(1) - net((x * 3).round() / 3).softmax(1)).abs().sum(1)
        assert torch.allclose(detector(Evidence(net, None, x, detector.needs)), expected)


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (lambda x: x.mean(), r"gives float32 of shape \(\) for 7 images; one score an image, \(7,\), was expected"),
        (lambda x: x.flatten(1), r"of shape \(7, 144\) for 7 images"),
        (lambda x: "high", "gives a str; scores"),
        (lambda x: x.no_such_thing, r"the detector <lambda> fails on images \(7, 1, 12, 12\): AttributeError.*test_external"),
    ],
)
def test_anything_else_is_said_to_be_its_mistake(thing: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words), torch.no_grad():
        fitted(thing)(look(images()))


def test_what_is_no_detector_is_refused() -> None:
    with pytest.raises(UsageError, match="found the class NearestMean; give an object of it"):
        ExternalDetector(own_detectors.NearestMean)
    with pytest.raises(UsageError, match="found 3"):
        as_detector(3)
    with pytest.raises(UsageError, match="needs 'mapp', which is no part of the evidence; there are: logits"):
        ExternalDetector(own_detectors.contrast, needs={"mapp"})
    assert as_detector(SMD()) == SMD() and isinstance(as_detector(own_detectors.contrast), ExternalDetector)

    class Broken:
        def fit(self, evidence: Any, labels: Any) -> None:
            raise ValueError("no")

    with pytest.raises(UsageError, match="the detector Broken fails in fit: ValueError: no"):
        fitted(Broken())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_called_so(value: float) -> None:
    with pytest.raises(UsageError, match=r"the detector nothing gives (\d+) of \1 images of noise a score that is no finite number"):
        ExternalDetector(nothing(value)).probed(SHAPE)


def nothing(value: float) -> Any:
    """A detector of one score."""

    def nothing(x: torch.Tensor) -> torch.Tensor:
        return torch.full((len(x),), value)

    return nothing


def test_a_score_that_depends_on_the_neighbours_is_refused() -> None:
    ExternalDetector(own_detectors.contrast).probed(SHAPE)
    with pytest.raises(UsageError, match="another score alone than among others"):
        ExternalDetector(lambda x: x.mean((1, 2, 3)) - x.mean(), name="relative").probed(SHAPE)


def centred(images: torch.Tensor) -> torch.Tensor:
    """Changes what it is given, as many a preprocessing does."""
    images -= images.mean((1, 2, 3), keepdim=True)
    return images.abs().mean((1, 2, 3))


class Centred:
    """The same with the evidence in hand."""

    def score(self, evidence: Any) -> torch.Tensor:
        return centred(evidence.image)


def test_a_detector_that_writes_into_its_images_spoils_nobodys() -> None:
    x = torch.rand(5, 1, 12, 12)
    kept, own = x.clone(), ExternalDetector(centred)
    scores = FittedExternal(own, own.ready())(Evidence(None, None, x))
    assert torch.equal(x, kept)
    assert torch.equal(scores, centred(kept.clone()))
    x.requires_grad_()
    FittedExternal(own, own.ready())(Evidence(None, None, x)).sum().backward()
    assert x.grad is not None
    other = ExternalDetector(Centred())
    for images in (kept.clone(), kept.clone().requires_grad_()):
        with pytest.raises(UsageError, match="the detector Centred writes into the images that it is given"):
            FittedExternal(other, other.ready())(Evidence(None, None, images))
        assert torch.equal(images.detach(), kept)


# --- who it is ----------------------------------------------------------------------------------------------------------

LEVEL = 1.0


def by_a_global(images: Tensor) -> Tensor:
    return images.flatten(1).mean(1) * LEVEL


def test_it_is_identified_by_code_state_and_scores_on_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    def key(thing: Any, **named: Any) -> str:
        return ExternalDetector(thing, **named).fingerprint

    def made(k: float) -> Callable[[Tensor], Tensor]:
        return lambda x: x.mean((1, 2, 3)) * k

    assert key(own_detectors.contrast) == key(own_detectors.contrast) != key(own_detectors.smooth_roughness)
    assert key(made(2.0)) == key(made(2.0)) != key(made(3.0)), "what a closure holds is its state"
    assert key(own_detectors.NearestMean()) == key(own_detectors.NearestMean()) != key(own_detectors.NearestMean(3.0))
    net = own_detectors.Network()
    before = key(net)
    assert before == key(own_detectors.Network())
    net.weight.data += 1
    assert key(net) != before
    assert (
        key(own_detectors.contrast)
        != key(own_detectors.contrast, name="other")
        != key(own_detectors.contrast, surrogate=own_detectors.roughness)
    )
    first = ExternalDetector(by_a_global).probed(SHAPE)
    monkeypatch.setattr("tests.detectors.test_external.LEVEL", 2.0)
    assert key(by_a_global) == ExternalDetector(by_a_global).fingerprint, "code and state are the same"
    assert ExternalDetector(by_a_global).probed(SHAPE) != first, "and its scores tell them apart"


def test_it_goes_to_other_processes() -> None:
    for thing in (own_detectors.contrast, own_detectors.NearestMean(3.0)):
        one = ExternalDetector(thing, name="mine", group="g", surrogate=own_detectors.smooth_roughness).probed(SHAPE)
        two = pickle.loads(pickle.dumps(one))
        assert one == two and hash(one) == hash(two) and two.surrogate is own_detectors.smooth_roughness


EVERY = (
    own_detectors.contrast,
    own_detectors.Network(),
    own_detectors.NearestMean(),
    own_detectors.FeatureSqueezing(),
    lambda x: x.mean((1, 2, 3)),
)
FOUND = ((own_detectors.contrast, ""), (own_detectors.Network(), "tests.own_detectors:network"), (own_detectors.NearestMean(), ""))

# --- found again --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("thing", EVERY)
def test_it_is_put_together_again(thing: Any) -> None:
    detector = fitted(thing)
    there = again(detector)
    net, x = examples.conv(SHAPE), images()
    with torch.no_grad():
        for e in (Evidence(net, None, x, detector.needs), examples.natural_evidence(5)):
            if "classifier" not in detector.needs or e.classifier is not None:
                assert torch.equal(there(e), detector(e))
    assert there.needs == detector.needs and there.settings.name == detector.settings.name
    if isinstance(thing, own_detectors.NearestMean):
        assert there.thing.seen == {"pairs": 40, "classes": [0, 1, 2, 3, 4]}


@pytest.mark.parametrize(("thing", "at"), FOUND)
def test_in_another_process_it_is_found_by_module_and_name(monkeypatch: pytest.MonkeyPatch, thing: Any, at: str) -> None:
    detector, x = fitted(thing, at=at), images()
    monkeypatch.setattr("salientry.detectors.external._GIVEN", {})
    e = Evidence(examples.conv(SHAPE), None, x, detector.needs)
    with torch.no_grad():
        assert torch.equal(again(detector)(e), detector(e))


def test_where_it_cannot_be_found_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    lost, moved = fitted(lambda x: x.mean((1, 2, 3))), fitted(own_detectors.contrast, at="no_such_module:contrast")
    mine = fitted(own_detectors.NearestMean())
    monkeypatch.setattr("salientry.detectors.external._GIVEN", {})
    with pytest.raises(UsageError, match=r"<lambda> was not given; it has no name to be found at: give it, as in Guard.load"):
        again(lost)
    with pytest.raises(UsageError, match="it stood at no_such_module:contrast: import no_such_module first"):
        again(moved)
    with substituting(ExternalDetector(own_detectors.contrast)):
        assert torch.equal(again(moved)(look(images())), own_detectors.contrast(images()))
    monkeypatch.delattr(own_detectors, "NearestMean")
    with pytest.raises(UsageError, match=r"tests\.own_detectors:NearestMean is not there: import tests\.own_detectors first"):
        again(mine)


def test_nothing_of_the_standard_library_is_made_for_a_files_sake() -> None:
    note = recipe_of(fitted(own_detectors.contrast))
    note["build"] |= {"at": "os:getcwd", "fingerprint": "none"}
    with pytest.raises(UsageError, match="it stood at os:getcwd"):
        rebuild(note)


def test_what_cannot_be_written_down_is_noted() -> None:
    class Holding(own_detectors.NearestMean):
        def fit(self, evidence: Any, labels: Tensor) -> Any:
            self.handle = object()
            return super().fit(evidence, labels)

    detector = fitted(Holding())
    assert "recipe" not in vars(detector) and "Holding, which is no number, text or array" in vars(detector)["unwritten"]


def test_it_is_a_part_of_a_fusion() -> None:
    data = known()
    parts = [ExternalDetector(t).fit(data, data.labels, seed=0) for t in (own_detectors.contrast, own_detectors.NearestMean())]
    both = Views(*(torch.stack([p(e) for p in parts], 1) for e in (examples.natural_evidence(40), examples.adversarial_evidence(40))))
    fused: Any = Fused().fit(both, both.labels, *parts, seed=0)
    there, e = again(fused), examples.natural_evidence(8, seed=3)
    with torch.no_grad():
        assert torch.equal(there(e), fused(e))
    assert there.needs == {"features", "logits"}


# --- attacked -----------------------------------------------------------------------------------------------------------


def slope(detector: Any, x: Tensor) -> Tensor:
    net = examples.conv(SHAPE).requires_grad_(False)
    return Look(Defended(net, None, detector), x, "image").detector_slope()


def test_its_slope_is_its_own_its_surrogates_or_none() -> None:
    x = images().clamp(0.1, 0.9)
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(own_detectors.smooth_roughness(leaf).sum(), leaf)
    assert torch.allclose(slope(fitted(own_detectors.smooth_roughness), x), expected)
    plain, guided = fitted(own_detectors.roughness), fitted(own_detectors.roughness, surrogate=own_detectors.smooth_roughness)
    assert not bool(slope(plain, x).any())
    assert torch.allclose(slope(guided, x), expected)
    target = Defended(examples.conv(SHAPE).requires_grad_(False), None, guided)
    assert torch.allclose(target.seen(x)[1], torch.as_tensor(own_detectors.roughness(x)), atol=1e-6), "it is judged by itself"
    assert differentiable(plain) is plain and differentiable(guided) is not guided
    with pytest.raises(UsageError, match="roughness has no view"):
        Look(target, x, "view").detector_slope()


def test_a_networks_weights_get_no_gradient_and_its_mode_stays() -> None:
    net = own_detectors.Network().train()
    detector = fitted(net)
    assert bool(slope(detector, images()).any())
    assert net.training and net.weight.grad is None and net.weight.requires_grad
    assert isinstance(detector.thing, nn.Module) and detector.thing is not net


def test_what_cannot_be_called_with_images_alone_is_refused_with_the_way_out() -> None:
    class Two(torch.nn.Module):
        def forward(self, images: Tensor, logits: Tensor) -> Tensor:
            return logits.amax(1)

    for thing, words in ((Two(), "asks for (images, logits)"), (lambda: 0, "asks for ()")):
        with pytest.raises(UsageError, match=re.escape(words)):
            ExternalDetector(thing)
    with pytest.raises(UsageError, match="called with images alone and cannot read logits"):
        ExternalDetector(own_detectors.contrast, needs={"logits"})
    assert ExternalDetector(lambda *images: images[0].mean((1, 2, 3)), name="any").needs == frozenset()
    assert ExternalDetector(lambda images, power=2: images.pow(power).mean((1, 2, 3)), name="more").needs == frozenset()


def test_no_image_has_no_score_and_nobody_is_asked() -> None:
    def fails(images: Tensor) -> Tensor:
        assert len(images), "an estimator of arrays refuses an empty one"
        return images.mean((1, 2, 3))

    assert ExternalDetector(fails).fit(None, torch.empty(0), seed=0)(Evidence(None, None, torch.empty(0, 3, 4, 4))).shape == (0,)
