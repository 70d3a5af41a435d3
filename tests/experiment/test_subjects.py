"""The images of a run: made once, shown as asked for."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from salientry.attacks import FGSM, DeepFool
from salientry.controls import MatchedNoise, Null, RoundTrip, Shuffled, Transplant
from salientry.datasets import Arrays
from salientry.detectors import JSD, SPD, Margin
from salientry.experiment.run import Run
from salientry.experiment.steps import look
from salientry.experiment.subjects import Shown, Subjects
from salientry.learned import fingerprint
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
def subjects(tmp_path_factory: pytest.TempPathFactory) -> Subjects:
    """Random images, a random classifier: it is right on about a quarter of them."""
    run, net = Run(tmp_path_factory.mktemp("store")), examples.conv(SHAPE)
    images = (examples.images(SHAPE, N + 6) * 255).round().to(torch.uint8).numpy()
    data = run.dataset(Arrays(images, np.arange(N + 6) % 4, Roles(fit=0, detect=6, select=0, calibrate=0, test=N)))
    f = run.given(net, fingerprint(net))
    return Subjects(run, f, {role: run.do(look, data[role], f) for role in ("detect", "test")})


@pytest.fixture(scope="module")
def how(subjects: Subjects) -> Shown:
    return Shown(subjects.run.given(ByClass(), "by class"))


def pixels(subjects: Subjects, h: Any) -> Any:
    found = subjects.run.get(h).column("image")
    return found.astype(np.float32) / 255 if found.dtype == np.uint8 else found


def test_an_attack_proposes_once_for_both_protocols(subjects: Subjects) -> None:
    published, strict = (subjects.attacked(ATTACK, "test", rules) for rules in (PUBLISHED, STRICT))
    assert published.fingerprint != strict.fingerprint
    assert published.args["proposed"].fingerprint == strict.args["proposed"].fingerprint
    assert subjects.attacked(DeepFool(steps=6), "test", STRICT) is strict
    steps = [h.step.name for h in subjects.run.order([published, strict]) if h.step]
    assert steps.count("attack_images") == 1 and steps.count("settle") == 2
    assert subjects.attacked(ATTACK, "detect", STRICT).args["proposed"].fingerprint != strict.args["proposed"].fingerprint
    with warnings.catch_warnings():
        rows = [subjects.run.get(h) for h in (published, strict)]
    assert rows[0].column("image").dtype == np.float32 and rows[1].column("image").dtype == np.uint8
    assert rows[0].column("counts").all() and 0 < rows[1].column("counts").sum() < N


def test_a_transplant_is_the_next_images_perturbation(subjects: Subjects) -> None:
    settled, control = subjects.attacked(ATTACK, "test", STRICT), subjects.control(Transplant(), ATTACK, STRICT)
    x, z = pixels(subjects, subjects.natural["test"]), pixels(subjects, settled)
    moved = z - x
    expected = np.clip(x + moved[[*range(1, N), 0]], 0, 1)
    np.testing.assert_allclose(pixels(subjects, control), expected, atol=1e-6)
    assert np.abs(expected - z).max() > 0.01
    assert subjects.run.get(control).facts["control"] == "Transplant"
    assert subjects.run.get(control).facts["of"] == "DeepFool-steps=6"


def test_the_round_trip_is_told_in_float_whatever_the_protocol(subjects: Subjects) -> None:
    strict, published = (subjects.control(RoundTrip(), ATTACK, rules) for rules in (STRICT, PUBLISHED))
    assert strict is published
    assert strict.args["rules"] == PUBLISHED
    x, z = (pixels(subjects, h) for h in (subjects.natural["test"], strict))
    assert z.dtype == np.float32
    moved = np.abs(z - x)
    assert (moved > 0).mean() > 0.5, "nearly every pixel moves"
    assert moved.max() < 1e-5
    assert subjects.run.get(strict).facts["storage"] == "float32"


def test_controls_that_do_not_look_at_the_attack_are_made_once(subjects: Subjects) -> None:
    one, other = ATTACK, FGSM(0.1)
    for control in (Null(), RoundTrip()):
        assert subjects.control(control, one, STRICT) is subjects.control(control, other, STRICT)
    for looks in (MatchedNoise(), MatchedNoise(kind="gaussian"), Transplant(), Shuffled()):
        assert subjects.control(looks, one, STRICT).fingerprint != subjects.control(looks, other, STRICT).fingerprint
    null = subjects.run.get(subjects.control(Null(), one, STRICT))
    np.testing.assert_array_equal(null.column("image"), subjects.run.get(subjects.natural["test"]).column("image"))
    assert not null.column("changed").any()


def test_a_map_is_drawn_for_the_class_that_is_asked_for(subjects: Subjects, how: Shown) -> None:
    settled, run = subjects.attacked(ATTACK, "test", STRICT), subjects.run
    natural, there = run.get(subjects.natural["test"]), run.get(settled)
    expected = {"predicted": there.column("predicted"), "natural": natural.column("predicted"), "label": natural.column("label")}
    assert len({tuple(v) for v in expected.values()}) == 3, "the three are told apart"
    for selector, k in expected.items():
        drawn = run.get(subjects.shown(SPD(), settled, "test", Shown(how.saliency, selector=selector))).column("map")
        np.testing.assert_allclose(drawn[:, 0, 0, 0], k / 10, atol=1e-6, err_msg=selector)


def test_only_what_a_view_reads_is_made(subjects: Subjects, how: Shown) -> None:
    settled, run = subjects.attacked(ATTACK, "test", STRICT), subjects.run
    assert subjects.shown(Margin(), settled, "test", how) is settled
    assert subjects.shown(Margin(), settled, "test", Shown(None)) is settled
    drawn, differentiated = (subjects.shown(d, settled, "test", how) for d in (SPD(), JSD()))
    assert [h.step.name for h in (drawn, differentiated) if h.step] == ["draw", "differentiate"]
    assert subjects.shown(SPD(), settled, "test", how) is drawn
    parts = set(JSD().needs) & {"gradient", "gradient_sum", "gradient_prob", "gradient_full"}
    assert parts <= set(run.get(differentiated).names) and "map" not in run.get(differentiated)
    other = run.get(subjects.shown(SPD(), settled, "test", Shown(how.saliency, "map", "another image's"))).column("map")
    np.testing.assert_array_equal(other, np.roll(run.get(drawn).column("map"), -1, 0))
    flat = run.get(subjects.shown(SPD(), settled, "test", Shown(how.saliency, "map", "constant")))
    assert (flat.column("map") == 0.5).all()
    np.testing.assert_array_equal(flat.column("image"), run.get(settled).column("image"))
