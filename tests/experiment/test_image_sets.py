"""The images of a run: made once, shown as asked for."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from salientry.attacks import FGSM, DeepFool
from salientry.controls import MatchedNoise, Null, RoundTrip, Shuffled, Transplant
from salientry.datasets import Arrays
from salientry.detectors import JSD, SPD, Margin
from salientry.experiment.evaluation import TrainingSet, trained
from salientry.experiment.image_sets import EvidenceVariant, ImageSets
from salientry.experiment.run import Run
from salientry.experiment.steps import classify
from salientry.learned import facts_of, fingerprint
from salientry.protocol import PUBLISHED, STRICT
from salientry.types import Roles, Shape

from .. import examples

SHAPE = Shape(1, 8, 8, 4)
N = 40
ATTACK = DeepFool(steps=6)


class ByClass(nn.Module):
    """A map that says nothing but which class it was drawn for."""

    def forward(self, x: Tensor, k: Tensor) -> dict[str, Tensor]:
        return {"map": (k / 10).view(-1, 1, 1, 1).expand(len(x), 1, *x.shape[2:])}


@pytest.fixture(scope="module")
def image_sets(tmp_path_factory: pytest.TempPathFactory) -> ImageSets:
    """Random images, a random classifier: it is right on about a quarter of them."""
    run, net = Run(tmp_path_factory.mktemp("store")), examples.conv(SHAPE)
    images = (examples.images(SHAPE, N + 6) * 255).round().to(torch.uint8).numpy()
    data = run.dataset(Arrays(images, np.arange(N + 6) % 4, Roles(train=0, detector_train=6, validation=0, calibration=0, test=N)))
    f = run.given(net, fingerprint(net))
    return ImageSets(run, f, {role: run.do(classify, data[role], f) for role in ("detector_train", "test")})


@pytest.fixture(scope="module")
def variant(image_sets: ImageSets) -> EvidenceVariant:
    return EvidenceVariant(image_sets.run.given(ByClass(), "by class"))


def pixels(image_sets: ImageSets, h: Any) -> Any:
    found = image_sets.run.get(h).column("image")
    return found.astype(np.float32) / 255 if found.dtype == np.uint8 else found


def test_an_attack_proposes_once_for_both_protocols(image_sets: ImageSets) -> None:
    published, strict = (image_sets.attacked(ATTACK, "test", protocol) for protocol in (PUBLISHED, STRICT))
    assert published.fingerprint != strict.fingerprint
    assert published.args["unstored"].fingerprint == strict.args["unstored"].fingerprint
    assert image_sets.attacked(DeepFool(steps=6), "test", STRICT) is strict
    steps = [h.step.name for h in image_sets.run.order([published, strict]) if h.step]
    assert steps.count("attack_images") == 1 and steps.count("settle") == 2
    assert image_sets.attacked(ATTACK, "detector_train", STRICT).args["unstored"].fingerprint != strict.args["unstored"].fingerprint
    with warnings.catch_warnings():
        rows = [image_sets.run.get(h) for h in (published, strict)]
    assert rows[0].column("image").dtype == np.float32 and rows[1].column("image").dtype == np.uint8
    assert rows[0].column("evaluated").all() and 0 < rows[1].column("evaluated").sum() < N


def test_a_transplant_is_the_next_images_perturbation(image_sets: ImageSets) -> None:
    settled, control = image_sets.attacked(ATTACK, "test", STRICT), image_sets.control(Transplant(), ATTACK, STRICT)
    x, z = pixels(image_sets, image_sets.natural["test"]), pixels(image_sets, settled)
    moved = z - x
    expected = np.clip(x + moved[[*range(1, N), 0]], 0, 1)
    np.testing.assert_allclose(pixels(image_sets, control), expected, atol=1e-6)
    assert np.abs(expected - z).max() > 0.01
    assert image_sets.run.get(control).facts["control"] == "Transplant"
    assert image_sets.run.get(control).facts["of"] == "DeepFool-steps=6"


def test_the_round_trip_is_reported_in_float_whatever_the_protocol(image_sets: ImageSets) -> None:
    strict, published = (image_sets.control(RoundTrip(), ATTACK, protocol) for protocol in (STRICT, PUBLISHED))
    assert strict is published
    assert strict.args["protocol"] == PUBLISHED
    x, z = (pixels(image_sets, h) for h in (image_sets.natural["test"], strict))
    assert z.dtype == np.float32
    moved = np.abs(z - x)
    assert (moved > 0).mean() > 0.5, "nearly every pixel moves"
    assert moved.max() < 1e-5
    assert image_sets.run.get(strict).facts["storage"] == "float32"


def test_controls_that_do_not_look_at_the_attack_are_made_once(image_sets: ImageSets) -> None:
    one, other = ATTACK, FGSM(0.1)
    for control in (Null(), RoundTrip()):
        assert image_sets.control(control, one, STRICT) is image_sets.control(control, other, STRICT)
    for looks in (MatchedNoise(), MatchedNoise(kind="gaussian"), Transplant(), Shuffled()):
        assert image_sets.control(looks, one, STRICT).fingerprint != image_sets.control(looks, other, STRICT).fingerprint
    null = image_sets.run.get(image_sets.control(Null(), one, STRICT))
    np.testing.assert_array_equal(null.column("image"), image_sets.run.get(image_sets.natural["test"]).column("image"))
    assert not null.column("changed").any()


def test_a_map_is_drawn_for_the_class_that_is_asked_for(image_sets: ImageSets, variant: EvidenceVariant) -> None:
    settled, run = image_sets.attacked(ATTACK, "test", STRICT), image_sets.run
    natural, there = run.get(image_sets.natural["test"]), run.get(settled)
    expected = {"predicted": there.column("predicted"), "natural": natural.column("predicted"), "label": natural.column("label")}
    assert len({tuple(v) for v in expected.values()}) == 3, "the three are told apart"
    for selector, k in expected.items():
        drawn = run.get(image_sets.with_evidence(SPD(), settled, "test", EvidenceVariant(variant.saliency, selector=selector))).column(
            "map"
        )
        np.testing.assert_allclose(drawn[:, 0, 0, 0], k / 10, atol=1e-6, err_msg=selector)


def test_only_what_a_view_reads_is_made(image_sets: ImageSets, variant: EvidenceVariant) -> None:
    settled, run = image_sets.attacked(ATTACK, "test", STRICT), image_sets.run
    assert image_sets.with_evidence(Margin(), settled, "test", variant) is settled
    assert image_sets.with_evidence(Margin(), settled, "test", EvidenceVariant(None)) is settled
    drawn, differentiated = (image_sets.with_evidence(d, settled, "test", variant) for d in (SPD(), JSD()))
    assert [h.step.name for h in (drawn, differentiated) if h.step] == ["draw", "differentiate"]
    assert image_sets.with_evidence(SPD(), settled, "test", variant) is drawn
    parts = set(JSD().needs) & {"gradient", "gradient_sum", "gradient_prob", "gradient_full"}
    assert parts <= set(run.get(differentiated).names) and "map" not in run.get(differentiated)
    other = run.get(image_sets.with_evidence(SPD(), settled, "test", EvidenceVariant(variant.saliency, "map", "another image's"))).column(
        "map"
    )
    np.testing.assert_array_equal(other, np.roll(run.get(drawn).column("map"), -1, 0))
    flat = run.get(image_sets.with_evidence(SPD(), settled, "test", EvidenceVariant(variant.saliency, "map", "constant")))
    assert (flat.column("map") == 0.5).all()
    np.testing.assert_array_equal(flat.column("image"), run.get(settled).column("image"))


def test_a_training_set_says_how_its_attacks_are_mixed_and_the_usual_way_has_the_key_that_it_had(image_sets: ImageSets) -> None:
    """DeepFool and FGSM on 40 images: of each both, or by turns."""
    turned = TrainingSet((ATTACK, FGSM()), role="test")
    each, every = (trained(image_sets, Margin(), PUBLISHED, t, EvidenceVariant(None)) for t in (turned, replace(turned, mixture="all")))
    again = trained(image_sets, Margin(), PUBLISHED, replace(turned, mixture="each"), EvidenceVariant(None))
    assert each.fingerprint == again.fingerprint != every.fingerprint
    assert "mixture" not in each.args and every.args["mixture"] == "all"
    counts = [image_sets.run.get(image_sets.attacked(a, "test", PUBLISHED)).column("evaluated") for a in turned.attacks]
    pairs = [facts_of(image_sets.run.get(h))["pairs"] for h in (each, every)]
    assert pairs == [sum(c[k::2].sum() for k, c in enumerate(counts)), sum(c.sum() for c in counts)] == [N, 2 * N]
