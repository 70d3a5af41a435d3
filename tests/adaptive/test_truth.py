"""Do the attacks follow the true slope, find what can be found, and fail when they are broken?"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from salientry.adaptive import ADAPTIVE, Alarm, Alternating, Defended, Joint, Look, Minimal, Orthogonal, Selective, Simultaneous, SingleStep
from salientry.adaptive._descent import AGAIN, Bounds, length, margin, started
from salientry.adaptive.binarization import PASS, Binarization
from salientry.adaptive.orthogonal import without
from salientry.adaptive.weak import WEAK, weakened
from salientry.batches import Batch
from salientry.datasets import Digits
from salientry.detectors import BlackShare
from salientry.errors import UsageError
from salientry.experiment.run import Run
from salientry.experiment.steps import classify
from salientry.experiment.white_box import right_ones
from salientry.keys import digest
from salientry.learned import frozen
from salientry.metrics import Resamples, rate
from salientry.types import Shape
from tests.adaptive.nets import COLOUR, DEFENCES, FEW, GREY, SLOPES, defended, subjects
from tests.examples import conv, images, seeds
from tests.tiny import ROLES, tiny

STRONG = (Selective, Orthogonal, Joint)


def difference(value: Callable[[Tensor], Tensor], x: Tensor, direction: Tensor, h: float = 1e-6) -> Tensor:
    """(N,) central difference of a value (N,) along a direction."""
    return (value(x + h * direction) - value(x - h * direction)) / (2 * h)


# --- slopes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
@pytest.mark.parametrize("name", DEFENCES)
def test_the_slope_is_the_one_of_finite_differences(name: str, grad: bool) -> None:
    """Also where the caller has switched gradients off, as steps of a run do."""
    target = defended(name, sharpness=None)
    x, _ = subjects(target)
    with frozen(*target.modules), torch.set_grad_enabled(grad):
        slope = Look(target, x, "image").detector_slope()
        for seed in range(5):
            way = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
            expected = difference(lambda z: target.seen(z)[1], x, way)
            torch.testing.assert_close((slope * way).flatten(1).sum(1), expected, rtol=1e-4, atol=1e-8)


def test_the_slope_through_the_map_is_not_zero_and_without_it_the_map_detector_has_none() -> None:
    for name in ("SMD", "SPD"):
        target = defended(name)
        x, _ = subjects(target)
        with frozen(*target.modules):
            whole, held = (Look(target, x, stop).detector_slope() for stop in ("image", "map"))  # type: ignore[arg-type]
        through = (whole - held).flatten(1).norm(dim=1)
        alive = whole.flatten(1).norm(dim=1) > 0  # a random gate may be shut
        assert alive.float().mean() > 0.5
        assert (through > 1e-3 * whole.flatten(1).norm(dim=1))[alive].all()
        assert bool((held == 0).all()) is (name == "SMD")


def test_a_gradient_view_is_blind_on_relu_though_finite_differences_agree_and_seen_through_a_softplus() -> None:
    """The gradient of a ReLU net is piecewise constant: the true slope of JSD is the image's part alone."""
    blind, smooth = defended("JSD", sharpness=None), defended("JSD", sharpness=20.0)
    x, _ = subjects(blind)
    head = blind.detector.head
    with frozen(*blind.modules, *smooth.modules):
        parts = Look(blind, x, "image").evidence.gradient.detach()
        leaf = x.detach().requires_grad_()
        (image_alone,) = torch.autograd.grad(head(torch.cat([leaf, parts], 1)).sum(), leaf)
        torch.testing.assert_close(Look(blind, x, "image").detector_slope(), image_alone)
        seen = Look(smooth, x, "image").detector_slope()
    assert (seen - image_alone).norm() > 1e-3 * image_alone.norm()
    assert smooth.smoothed
    assert not blind.smoothed


def test_the_softplus_slope_is_the_one_of_the_smooth_net() -> None:
    target = defended("JSD", sharpness=20.0)

    class Smooth(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, image: Tensor) -> Tensor:
            for layer in self.net:  # type: ignore[attr-defined]
                image = nn.functional.softplus(image, beta=20.0) if isinstance(layer, nn.ReLU) else layer(image)
            return image

    other = replace(target, classifier=Smooth(target.classifier), sharpness=None)
    x, _ = subjects(target)
    with frozen(*target.modules, *other.modules):
        torch.testing.assert_close(Look(target, x, "image").detector_slope(), Look(other, x, "image").detector_slope())
        way = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
        expected = difference(lambda z: other.seen(z)[1], x, way, 1e-5)
        torch.testing.assert_close((Look(target, x, "image").detector_slope() * way).flatten(1).sum(1), expected, rtol=1e-4, atol=1e-7)


def test_a_count_of_black_values_gets_a_slope_and_keeps_its_scores() -> None:
    detector = BlackShare().build((1,))
    target = Defended(conv(GREY), None, detector, 0.0)
    x = images(GREY, 3)
    slope = Look(target, x, "image").detector_slope()
    assert (slope != 0).any()
    assert (slope[x > 0.201] == 0).all()
    torch.testing.assert_close(target.seen(x)[1], detector(Look(target, x, "image").evidence).detach())


# --- the paper's algorithms, once more and slowly ----------------------------------------------------------------------


def by_the_book(target: Defended, x: Tensor, y: Tensor, eps: float, passes: int) -> Tensor:
    """Algorithms 1 to 3, image by image, as the paper writes them (clipped after both steps)."""
    out = []
    for one, label in zip(x.split(1), y.split(1), strict=True):
        here = one.clone()
        for _ in range(passes):
            leaf = here.clone().requires_grad_()
            z = target.classifier(leaf)
            if int(z.argmax(1)) == int(label):
                (g,) = torch.autograd.grad(nn.functional.cross_entropy(z, label), leaf)
                here = (here + eps * g.sign()).clamp(0, 1)
            view = target.detector.view(Look(target, here, "image").evidence).detach().requires_grad_()
            score = target.detector.head(view)
            if float(score.detach()) > 0:
                (g,) = torch.autograd.grad(score.sum(), view)
                r = -eps * g.sign()
                r = r.expand_as(here) if r.shape[1] == 1 else r[:, : here.shape[1]]
                here = (here + r).clamp(0, 1)
        out.append(here)
    return torch.cat(out)


@pytest.mark.parametrize("name", DEFENCES)
@pytest.mark.parametrize("shape", [GREY, COLOUR], ids=["grey", "colour"])
def test_the_literal_attack_is_the_paper_s_algorithm(name: str, shape: Shape) -> None:
    target = defended(name, shape)
    x, y = subjects(target, 6, shape)
    with frozen(*target.modules):
        torch.testing.assert_close(Alternating(0.05, 3)(target, x, y, seeds=seeds(6)), by_the_book(target, x, y, 0.05, 3))


def test_fewer_passes_are_the_beginning_of_more() -> None:
    target = defended("SPD")
    x, y = subjects(target)
    many = list(Alternating(0.05, 4, gradient="image", project=True).passes(target, x, y))
    torch.testing.assert_close(many[1], Alternating(0.05, 2, gradient="image", project=True)(target, x, y, seeds=seeds(4)))
    assert len(many) == 4


def test_single_and_simultaneous_steps_are_their_equations() -> None:
    target = defended("ID")
    x, y = subjects(target)
    leaf = x.clone().requires_grad_()
    (f,) = torch.autograd.grad(nn.functional.cross_entropy(target.classifier(leaf), y, reduction="sum"), leaf)
    (d,) = torch.autograd.grad(target.detector.head(leaf).sum(), leaf)
    cases: list[tuple[Any, Tensor]] = [
        (SingleStep(0.1), x + 0.1 * f.sign()),
        (SingleStep(0.1, on="detector"), x - 0.1 * d.sign()),
        (Simultaneous(0.1, 1), x + 0.1 * (0.5 * f.sign() - 0.5 * d.sign())),
        (Simultaneous(0.1, 1, weight=0.8), x + 0.1 * (0.8 * f.sign() - 0.2 * d.sign())),
    ]
    for attack, expected in cases:
        torch.testing.assert_close(attack(target, x, y, seeds=seeds(4)), expected.clamp(0, 1))


@pytest.mark.parametrize("honest", [False, True])
def test_a_random_weight_is_each_image_s_own_draw_for_all_its_steps(honest: bool) -> None:
    """Metzen's: as if each image were attacked alone with the weight that was drawn for it, whoever its neighbours are."""
    target = defended("SPD")
    x, y = subjects(target, 6)
    how: dict[str, Any] = {"gradient": "image", "project": True} if honest else {}
    attack, mine = Simultaneous(0.05, 3, weight="random", **how), seeds(6)
    drawn = attack.weights(mine)
    assert len(set(drawn.tolist())) == 6 and bool(((drawn >= 0) & (drawn < 1)).all())
    out = attack(target, x, y, seeds=mine)
    for i, w in enumerate(drawn.tolist()):
        fixed = Simultaneous(0.05, 3, weight=w, **how)(target, x[i : i + 1], y[i : i + 1], seeds=mine[i : i + 1])
        torch.testing.assert_close(out[i : i + 1], fixed)
    back = torch.arange(5, -1, -1)
    torch.testing.assert_close(attack(target, x[back], y[back], seeds=mine[back]), out[back])
    torch.testing.assert_close(attack(target, x[2:4], y[2:4], seeds=mine[2:4]), out[2:4])
    passes = list(attack.passes(target, x, y, seeds=mine))
    assert len(passes) == 3 and torch.equal(passes[-1], out)
    assert not torch.equal(attack(target, x, y, seeds=mine + 1), out)


def test_random_weights_are_uniform() -> None:
    """Kolmogorov's distance of 20,000 draws: below .0115 in 99 % of samples."""
    drawn = Simultaneous(weight="random").weights(torch.arange(20_000)).double().sort().values
    assert float((drawn - torch.arange(20_000) / 20_000).abs().max()) < 0.0115


def test_passes_of_a_random_weight_want_seeds() -> None:
    target = defended("ID")
    x, y = subjects(target)
    with pytest.raises(UsageError, match="found none, expected passes"):
        next(Simultaneous(weight="random").passes(target, x, y))
    assert digest(Simultaneous()) == digest(Simultaneous(weight=0.5)) != digest(Simultaneous(weight="random"))


def test_a_projected_attack_stays_in_its_ball_and_the_literal_one_does_not() -> None:
    target = defended("SPD")
    x, y = subjects(target, 8)
    for gradient in ("view", "image"):
        inside = Alternating(0.05, 10, step_size=0.05, gradient=gradient, project=True)(target, x, y, seeds=seeds(8))  # type: ignore[arg-type]
        assert float((inside - x).abs().max()) <= 0.05 + 1e-12
    low = replace(target, threshold=-1e9)
    assert float((Alternating(0.05, 10)(low, x, y, seeds=seeds(8)) - x).abs().max()) > 0.051


# --- optima in closed form --------------------------------------------------------------------------------------------


class Plane(nn.Module):
    """Scores (or logits) that are linear in the image."""

    needs = frozenset[str]()

    def __init__(self, weight: Tensor, offset: float, logits: bool) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.offset, self.logits = offset, logits

    def forward(self, seen: Any) -> Tensor:
        x = seen if self.logits else seen.image
        side = (x.flatten(1) * self.weight).sum(1) - self.offset
        return torch.stack([torch.zeros_like(side), side], 1) if self.logits else side


SIDE = 16


def planes(cosine: float, distance: float, slack: float) -> tuple[Defended, Tensor, Tensor]:
    """A grey image, a boundary at this L2 distance, and a detector plane at the angle whose edge is ``slack`` away from the image."""
    g = torch.Generator().manual_seed(0)
    w = torch.randn(SIDE * SIDE, generator=g, dtype=torch.float64)
    v = torch.randn(SIDE * SIDE, generator=g, dtype=torch.float64)
    w = w / w.norm()
    v = v - (v @ w) * w
    v = cosine * w + (1 - cosine**2) ** 0.5 * v / v.norm()
    x = torch.full((1, 1, SIDE, SIDE), 127 / 255, dtype=torch.float64)
    net = Plane(w, float(x.flatten() @ w) + distance, True)
    detector = Plane(v, float(x.flatten() @ v) + slack, False)
    return Defended(net, None, detector, 0.0), x, torch.zeros(1, dtype=torch.int64)


@pytest.mark.parametrize("kind", STRONG)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_attack_succeeds_where_the_ball_holds_a_solution_and_only_there(kind: Any, norm: str) -> None:
    """A half space of other answers and one of unnoticed images at a right angle: the second costs nothing that the first needs, so the
    smallest ball is known.
    """
    target, x, y = planes(0.0, 1.0, 0.02)
    w = target.classifier.weight
    assert isinstance(w, Tensor)
    smallest = 1.0 if norm == "l2" else 1.0 / float(w.abs().sum())
    for factor, works in ((1.35, True), (0.97, False)):
        eps = smallest * factor
        out = kind(eps, 200, norm=norm)(target, x, y, seeds=seeds(1))
        inside = bool(Bounds(eps, norm).inside(out, x).all()) and (norm == "l2" or float((out - x).abs().max()) <= eps + 1e-9)  # type: ignore[arg-type]
        assert (bool(target.succeeds(*target.seen(out), y)[0]) and inside) is works, (kind.__name__, norm, factor)


@pytest.mark.parametrize("cosine", [0.0, 0.5])
def test_the_smallest_perturbation_is_the_projection_onto_both_half_spaces(cosine: float) -> None:
    """w·r >= a and v·r <= b: the projection of 0, by the two constraints' multipliers."""
    a, b = 1.5, 0.3
    target, x, y = planes(cosine, a, b)
    alone = replace(target, detector=None)
    w, v = (m.weight for m in (target.classifier, target.detector))
    gram = torch.stack([torch.stack([w @ w, w @ v]), torch.stack([v @ w, v @ v])])
    both = torch.linalg.solve(gram, torch.tensor([a, b], dtype=torch.float64))
    needed = float((both[0] * w + both[1] * v).norm()) if cosine * a > b else a
    for problem, expected in ((alone, a), (target, needed)):
        out = Minimal(400, start=1.0)(problem, x, y, seeds=seeds(1))
        assert bool(problem.succeeds(*problem.seen(out), y)[0])
        found = float((out - x).norm())
        assert expected - 1e-6 <= found <= 1.08 * expected, (cosine, found, expected)


def test_an_alarm_is_raised_where_the_ball_reaches_the_threshold_and_the_answer_stays() -> None:
    target, x, y = planes(0.5, 0.6, 0.5)
    v = target.detector.weight
    smallest = 0.5 / float(v.abs().sum())
    for factor, works in ((1.4, True), (0.9, False)):
        out = Alarm(smallest * factor, 100)(target, x, y, seeds=seeds(1))
        logits, scores = target.seen(out)
        assert (bool(scores[0] > 0) and int(logits.argmax()) == 0) is works


def test_orthogonal_slopes_are_orthogonal() -> None:
    g = torch.Generator().manual_seed(0)
    a, b = (torch.randn(5, 3, 4, 4, generator=g, dtype=torch.float64) for _ in range(2))
    rest = without(a, b)
    assert float((rest * b).flatten(1).sum(1).abs().max()) < 1e-12
    torch.testing.assert_close(rest + (a - rest), a)
    torch.testing.assert_close(without(a, 2 * a), a)  # parallel: nothing would be left


# --- conventions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in SLOPES if n not in ("alternating", "simultaneous")])
def test_a_result_does_not_depend_on_the_batch(name: str) -> None:
    target = defended("SPD", GREY)
    x, y = subjects(target, 6, GREY)
    target = replace(target, threshold=float(target.seen(x)[1].quantile(0.5)))  # between two of them: no score is the threshold
    attack = replace(ADAPTIVE[name](), steps=12) if name == "minimal" else replace(ADAPTIVE[name](), steps=12, eps=0.1)
    whole, order = attack(target, x, y, seeds=seeds(6)), torch.tensor([4, 0, 5, 2, 1, 3])
    torch.testing.assert_close(attack(target, x[order], y[order], seeds=seeds(6)[order]), whole[order])
    halves = [attack(target, x[s], y[s], seeds=seeds(6)[s]) for s in (slice(0, 2), slice(2, 6))]
    torch.testing.assert_close(torch.cat(halves), whole)


@pytest.mark.parametrize("name", ADAPTIVE)
def test_networks_are_left_as_they_were(name: str) -> None:
    target = defended("SPD", GREY)
    x, y = subjects(target, 3, GREY)
    assert target.saliency is not None
    target.classifier.train()
    target.detector.requires_grad_(False)
    attack = ADAPTIVE[name](**FEW[name])
    before = [{k: v.clone() for k, v in m.state_dict().items()} for m in (target.classifier, target.saliency, target.detector)]
    out = attack(target, x, y, seeds=seeds(3))
    assert target.classifier.training
    assert not any(p.requires_grad for p in target.detector.parameters())
    assert all(p.grad is None for m in (target.classifier, target.saliency) for p in m.parameters())
    for old, m in zip(before, (target.classifier, target.saliency, target.detector), strict=True):
        assert all(torch.equal(v, m.state_dict()[k]) for k, v in old.items())
    assert out.shape == x.shape
    assert float(out.min()) >= 0
    assert float(out.max()) <= 1
    assert not out.requires_grad


@pytest.mark.parametrize("kind", STRONG)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_images_are_8_bit_and_in_the_ball_when_they_succeed(kind: Any, norm: str) -> None:
    target = defended("SPD", GREY, threshold=1e9)
    x, y = subjects(target, 8, GREY)
    eps = 0.05 if norm == "linf" else 1.0
    out = kind(eps, 30, norm=norm)(target, x, y, seeds=seeds(8))
    assert float((out * 255 - (out * 255).round()).abs().max()) < 1e-9
    fooled = target.succeeds(*target.seen(out), y)
    assert fooled.any()
    moved = (out - x)[fooled]
    assert float(moved.abs().max() if norm == "linf" else length(moved).max()) <= (int(255 * eps) / 255 if norm == "linf" else eps) + 1e-6


@pytest.mark.parametrize("kind", STRONG)
def test_a_random_start_is_each_image_s_own(kind: Any) -> None:
    target = replace(defended("SPD", GREY), threshold=-1e9)  # nothing succeeds, so that the whole way is gone
    x, y = subjects(target, 5, GREY)
    attack = kind(0.1, 2, start="random")
    whole, order = attack(target, x, y, seeds=seeds(5)), torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(attack(target, x[order], y[order], seeds=seeds(5)[order]), whole[order])
    assert not torch.equal(attack(target, x, y, seeds=seeds(5) + 1), whole)
    assert torch.equal(kind(0.1, 2)(target, x, y, seeds=seeds(5)), kind(0.1, 2)(target, x, y, seeds=seeds(5) + 1))
    assert float((whole - x).abs().max()) <= 0.1 + 1e-9


class Plateau(nn.Module):
    """Class 1 beyond ``edge`` along ``weight``; up to ``flat`` the logits are level, so that an attack that starts there has no slope."""

    def __init__(self, weight: Tensor, flat: float, edge: float) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.flat, self.edge = flat, edge

    def along(self, x: Tensor) -> Tensor:
        """(N,) where images are."""
        return ((x - 0.5) * self.weight).flatten(1).sum(1)

    def forward(self, x: Tensor) -> Tensor:
        side = torch.relu(self.along(x) - self.flat) - (self.edge - self.flat)
        return torch.stack([torch.zeros_like(side), side], 1)


@pytest.mark.parametrize("kind", STRONG)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_images_that_are_left_start_again_elsewhere_until_one_start_leaves_the_plateau(kind: Any, norm: str) -> None:
    """On the plateau nothing can be found but by a start beyond it. How many starts each image needs is counted from the draws alone."""
    eps, n = (0.1 if norm == "linf" else 0.8), 40
    w = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    reach = eps * float(w.abs().sum() if norm == "linf" else w.norm())
    net = Plateau(w / reach, 0.01, 0.4).double()
    x, y, ball = torch.full((n, 1, 8, 8), 127 / 255, dtype=torch.float64), torch.zeros(n, dtype=torch.int64), Bounds(eps, norm)  # type: ignore[arg-type]
    target, shift = Defended(net), float(net.along(torch.full((1, 1, 8, 8), 127 / 255, dtype=torch.float64)))
    starts = [ball.stored(started("random", x, seeds(n) + AGAIN * k, ball, 0.5**k), x) for k in (1, 2, 3, 4)]
    beyond = torch.stack([net.along(s) > net.flat for s in starts])
    assert shift < net.flat
    assert 0 < int(beyond[0].sum()) < int(beyond[:2].any(0).sum()) < int(beyond.any(0).sum())
    found = {}
    for again in (0, 1, 2, 4):
        found[again] = kind(eps, 40, norm=norm, restarts=again)(target, x, y, seeds=seeds(n))
        won = target.succeeds(*target.seen(found[again]), y)
        assert torch.equal(won, beyond[:again].any(0)), again
    kept = beyond[:1].any(0)
    assert torch.equal(found[1][kept], found[4][kept]), "an image that is done stays as it is"
    order = torch.randperm(n, generator=torch.Generator().manual_seed(1))
    again = kind(eps, 40, norm=norm, restarts=4)(target, x[order], y[order], seeds=seeds(n)[order])
    torch.testing.assert_close(again, found[4][order])


def test_what_is_least_noticed_is_kept_over_all_starts() -> None:
    """Nothing gets below the threshold: of all points of all starts that fool, the one with the lowest score is returned."""
    target, x, y = planes(0.0, 0.2, -1e3)
    seen: list[float] = []

    class Watched(Plane):
        def forward(self, given: Any) -> Tensor:
            scores = super().forward(given)
            seen.extend(scores.tolist())
            return scores

    detector = target.detector
    watched = replace(target, detector=Watched(detector.weight, detector.offset, False), threshold=-1e9)
    out = Selective(0.1, 15, restarts=3)(watched, x, y, seeds=seeds(1))
    once = len(seen)
    assert float(target.seen(out)[1]) == pytest.approx(min(seen))
    seen.clear()
    Selective(0.1, 15)(watched, x, y, seeds=seeds(1))
    assert 3 * len(seen) < once


def test_wrong_settings_are_refused_with_what_was_found() -> None:
    for make in (
        lambda: Selective(-1),
        lambda: Orthogonal(norm="l1"),  # type: ignore[arg-type]
        lambda: Joint(steps=0),
        lambda: Alternating(gradient="nowhere"),  # type: ignore[arg-type]
        lambda: Binarization(share=1.5),
        lambda: Simultaneous(weight=2),
        lambda: Simultaneous(weight="drawn"),  # type: ignore[arg-type]
        lambda: Minimal(shrink=0.9),
        lambda: Selective(start="nowhere"),  # type: ignore[arg-type]
        lambda: Joint(restarts=-1),
    ):
        with pytest.raises(UsageError, match="found"):
            make()


# --- broken attacks, and detectors that are weak by construction -----------------------------------------------------


class Opposite(nn.Module):
    """The detector with the sign of its score turned."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.detector, self.needs = detector, detector.needs

    def forward(self, evidence: Any) -> Tensor:
        return -self.detector(evidence)  # type: ignore[no-any-return]


Parts = tuple[nn.Module, nn.Module, dict[str, Any], Tensor, Tensor]


@pytest.fixture(scope="module")
def parts(finished_store: Path, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """Classifier, saliency model and strict detectors of the tiny run, trained on digits; 64 test images that are right, their classes."""
    store = tmp_path_factory.mktemp("parts") / "store"
    shutil.copytree(finished_store, store, copy_function=os.link)  # others count what is in it
    run = Run(store)
    outputs = tiny(run)
    fitted = [s.detector for s in outputs.scores if s.detector.step.name == "fit_detector"]
    facts = {h: run.record(h)["facts"] for h in fitted}
    mine = {f["detector"]: h for h, f in facts.items() if (f["protocol"], f["scheme"], f["trained_on"]) == ("strict", "paired", "combined")}
    saliency_model = next(h.args["saliency"] for h in run.order(list(outputs)) if h.step.name == "draw")
    rows = run.get(run.do(right_ones, run.do(classify, run.dataset(Digits(roles=ROLES))["test"], outputs.classifier), 64))
    batch = Batch(rows, np.arange(64))
    return run.get(outputs.classifier), run.get(saliency_model), {n: run.get(h) for n, h in mine.items()}, batch.image, batch.predicted


def guarded(parts: Parts, name: str) -> Defended:
    """A trained detector at the threshold that flags a twentieth of these naturals."""
    net, saliency_model, detectors, x, _ = parts
    target = Defended(net, saliency_model, detectors[name])
    return replace(target, threshold=float(target.seen(x)[1].quantile(0.95)))


TEST = Binarization(0.1, inner=40, corners=24)


@pytest.mark.parametrize("kind", STRONG)
@pytest.mark.parametrize("name", ["SMD", "SPD", "IDPlus", "JSD", "Margin", "BlackShare"])
def test_working_attacks_pass_the_binarization_test(parts: Parts, kind: Any, name: str) -> None:
    x = parts[3][:24]
    found, problem = TEST.found(kind(0.1, 100), guarded(parts, name), x, seeds=seeds(24))
    assert problem.valid.float().mean() > 0.9
    assert float(problem.by_chance.mean()) < 0.1
    assert float(found[problem.valid].float().mean()) >= PASS


@pytest.mark.parametrize("kind", STRONG)
def test_broken_attacks_fail_the_binarization_test(parts: Parts, kind: Any) -> None:
    x = parts[3][:24]
    blind, p = TEST.found(kind(0.1, 60, gradient="map"), guarded(parts, "SMD"), x, seeds=seeds(24))
    assert float(blind[p.valid].float().mean()) < PASS
    for name in ("SMD", "SPD", "IDPlus"):
        target = guarded(parts, name)
        found, p = TEST.found(kind(0.1, 60), replace(target, surrogate=Opposite(target.detector)), x, seeds=seeds(24))
        assert float(found[p.valid].float().mean()) < PASS, name


def test_the_known_adversarial_is_there(parts: Parts) -> None:
    x = parts[3][:16]
    p = TEST.problem(guarded(parts, "SPD"), x, seeds=seeds(16))
    zero = torch.zeros(16, dtype=torch.int64)
    assert p.target.succeeds(*p.target.seen(p.image), zero)[p.valid].all()
    assert float((p.image - x).abs().max()) <= int(25.5) / 255 + 1e-6
    assert not p.target.succeeds(*p.target.seen(x), zero)[p.valid].any()
    rows = torch.tensor([3, 1])
    torch.testing.assert_close(p.target.take(rows).seen(x[rows])[0], p.target.seen(x)[0][rows])


@pytest.mark.parametrize("kind", STRONG)
def test_without_a_budget_nothing_stands(parts: Parts, kind: Any) -> None:
    x, y = parts[3][:24], parts[4][:24]
    for name in ("SMD", "SPD", "JSD", "IDPlus", "PooledActivations"):
        target = guarded(parts, name)
        assert target.succeeds(*target.seen(kind(1.0, 100, step_size=0.05)(target, x, y, seeds=seeds(24))), y).all(), name


@pytest.mark.parametrize("name", WEAK)
def test_detectors_that_are_weak_by_construction_leave_no_image_robust(parts: Parts, name: str) -> None:
    """64 images, the interval of 0 of 64 is printed; an attacker who does not answer to the weakness leaves some."""
    net, saliency_model, detectors, x, y = parts
    answered, blind = weakened(name, net, saliency_model, detectors["SMD"], detectors["HighFrequency"])
    with torch.random.fork_rng(devices=[]), frozen(*answered.modules):
        torch.manual_seed(0)
        natural = answered.seen(x)[1]
        threshold = float(natural.quantile(0.5))  # strict: half of the naturals must be brought down themselves
        left = {}
        for kind, target in (("answered", answered), ("blind", blind)):
            aim = threshold - (0.5 * float(natural.std()) if answered.draws > 1 else 0.0)
            out = Orthogonal(0.3, 150)(replace(target, threshold=aim), x, y, seeds=seeds(64))
            looks = [answered.succeeds(z, s - threshold, y) for z, s in (replace(answered, draws=1).seen(out) for _ in range(25))]
            left[kind] = torch.stack(looks).float().mean(0) <= 0.5
    ids = np.array([str(i) for i in range(64)])
    robust, blinded = rate(Resamples(ids), ids, [left["answered"].numpy()]), float(left["blind"].float().mean())
    print(f"{name}: robust {robust.value:.3f} [{robust.lo:.3f}, {robust.hi:.3f}] of 64; without the answer {blinded:.3f}")
    assert int(left["answered"].sum()) == 0
    assert robust.hi < 0.06
    if name in ("detached map", "mask only", "quantised input", "saturated"):
        assert blinded > 0.05, "this weakness hides nothing"


def test_margins_are_what_their_name_says() -> None:
    z = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0]])
    torch.testing.assert_close(margin(z, torch.tensor([0, 0])), torch.tensor([-1.0, 5.0]))
