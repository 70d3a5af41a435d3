"""A cascade of two detectors: who goes on, what it costs, what the score says."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from salientry.detectors import Cascade, Consistency, Fused, LayerStatistics, LearnedFusion, Margin, TopLogits
from salientry.detectors._fitted import may_need
from salientry.detectors.cascade import FLOOR, CascadeHead
from salientry.errors import UsageError
from salientry.evidence import Evidence
from salientry.evidence_set import EvidenceSet, Views
from salientry.guard import Guard
from salientry.learned import fingerprint, rebuild, recipe_of
from salientry.modules import private
from salientry.types import Shape

from .. import examples
from ..examples import FEW

SHAPE = Shape(1, 12, 12, 5)
SETTINGS = Cascade(
    LearnedFusion((TopLogits(), Consistency(("blur",))), head=FEW),
    LearnedFusion((TopLogits(), Consistency(("blur", "shift", "rotation"))), (LayerStatistics(("0", "3")),), head=FEW),
)


@cache
def network() -> nn.Module:
    return examples.conv(SHAPE).requires_grad_(False)


def look(n: int, seed: int = 0, needs: frozenset[str] = frozenset(), noise: float = 0.0) -> Evidence:
    """A live look at random images, with noise a little off them."""
    x = examples.images(SHAPE, n, seed=seed)
    moved = x + noise * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    return Evidence(network(), None, moved.clamp(0, 1), needs)


def known(n: int, seed: int = 0, noise: float = 0.0) -> Evidence:
    """A stored look at the same: all that either detector reads."""
    live = look(n, seed, SETTINGS.needs - {"copies", "naturals"}, noise)
    parts = {p: getattr(live, p) for p in sorted(live.needs)}
    return Evidence(None, None, live.image, **parts)


@cache
def fitted() -> Any:
    """On images and the same with noise; shared, so leave it alone."""
    given = EvidenceSet.of(known(200), known(200, noise=0.3), naturals=EvidenceSet.of(known(200), known(200)))
    return SETTINGS.fit(given, given.labels, seed=0)


def both_scores(detector: Any, seen: Evidence) -> tuple[Tensor, Tensor]:
    first, second = detector.parts
    with torch.no_grad():
        return first(seen), second(seen)


# --- the score -------------------------------------------------------------------------------------------------------


def test_score_is_the_seconds_at_or_above_the_cut_and_in_the_firsts_order_below() -> None:
    detector, seen = fitted(), known(60, seed=3)
    first, second = both_scores(detector, seen)
    on = first >= detector.head.cut
    with torch.no_grad():
        found = detector(seen)
        each = detector.head.each(detector.view(seen))
    assert 0 < int(on.sum()) < 60
    assert torch.allclose(found[on], second[on], atol=1e-5)
    assert float(found[~on].max()) < FLOOR < float(found[on].min())
    assert torch.equal(found[~on].argsort(), first[~on].argsort())
    assert torch.allclose(found[~on], FLOOR + first[~on] - detector.head.cut)
    assert torch.equal(each.sum(1), found) and bool((each[on, 0] == 0).all()) and bool((each[~on, 1] == 0).all())


def test_head_by_hand() -> None:
    head = CascadeHead()
    head.cut.fill_(2.0)
    view = torch.tensor([[2.0, 7.0], [1.5, 7.0], [-8.0, 9.0], [3.0, -500.0], [float("nan"), 1.0]])
    assert head(view)[:4].tolist() == [7.0, FLOOR - 0.5, FLOOR - 10, FLOOR]
    assert head.on(view[:, 0]).tolist() == [True, False, False, True, True]
    assert float(head(view)[4]) == 1.0  # what is no number is looked at again


def test_the_second_is_asked_about_those_at_or_above_the_cut_alone() -> None:
    detector: Any = private(fitted())
    seen = look(40, seed=4)
    asked: list[Tensor] = []
    detector.parts[1].register_forward_pre_hook(lambda m, given: asked.append(given[0].image))
    first = detector.parts[0](look(40, seed=4))
    for cut in (float(first[5]), float(first.max()), float(first.max()) + 1):
        asked.clear()
        detector.head.cut.fill_(cut)
        detector(seen)
        on = first >= cut
        assert len(asked) == bool(on.any()) and (not asked or torch.equal(asked[0], seen.image[on]))


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_share_of_the_naturals_goes_on(share: float) -> None:
    """Of those that set the cut to the image, of fresh ones of the same distribution within four standard deviations."""
    g = torch.Generator().manual_seed(0)
    views = [torch.randn(2000, 2, generator=g) for _ in range(3)]
    given = Views(views[0], views[1])
    parts = fitted().parts
    detector: Any = Cascade(SETTINGS.first, SETTINGS.second, share).fit(given, given.labels, *parts, seed=0)
    assert int(detector.head.on(views[0][:, 0]).sum()) == round(share * 2000)
    fresh = float(detector.head.on(views[2][:, 0]).float().mean())
    assert abs(fresh - share) < 4 * (2 * share * (1 - share) / 2000) ** 0.5


def test_all_naturals_set_the_cut_where_they_are_known() -> None:
    detector = fitted()
    first, _ = both_scores(detector, known(200))
    assert int((first >= detector.head.cut).sum()) == 40  # of 200
    assert float(detector.head.cut) in first.tolist()
    given = EvidenceSet.of(known(50), known(50, noise=0.3))
    by_pairs: Any = SETTINGS.fit(given, given.labels, *detector.parts, seed=0)
    of_pairs, _ = both_scores(detector, known(50))
    assert float(by_pairs.head.cut) == pytest.approx(float(of_pairs.sort(descending=True).values[9]), abs=1e-5)


# --- what it costs -----------------------------------------------------------------------------------------------------


class Images(nn.Module):
    """A network that counts the images that it sees."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.seen = net, list[int]()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        out: Tensor = self.net(x)
        return out


@pytest.mark.parametrize("layers", [False, True])
def test_the_classifier_sees_no_more_than_it_must(layers: bool) -> None:
    names = ("net.0", "net.3")
    apart = (LayerStatistics(names),) if layers else ()
    settings = Cascade(SETTINGS.first, LearnedFusion(SETTINGS.second.members, apart, head=FEW))
    counting = Images(network())
    made = EvidenceSet.of(_all_parts(counting, settings, 0.0), _all_parts(counting, settings, 0.3))
    detector: Any = settings.fit(made, made.labels, seed=0)
    x = examples.images(SHAPE, 40, seed=6)
    on = int(detector.head.on(detector.parts[0](Evidence(counting, None, x, detector.parts[0].needs))).sum())
    assert 0 < on < 40
    counting.seen.clear()
    detector(Evidence(counting, None, x, detector.needs))
    assert counting.seen == [40 * 2, on * (2 + layers)]  # shift and rotation are new, the images themselves only where layers are


def _all_parts(net: nn.Module, settings: Cascade, noise: float) -> Evidence:
    live = look(60, 1, noise=noise)
    live = Evidence(net, None, live.image, settings.needs - {"copies", "naturals"})
    for name in sorted(live.needs):
        getattr(live, name)
    return live


# --- stored, saved, in a guard, in a graph -----------------------------------------------------------------------------


def test_stored_and_live_evidence_are_scored_alike() -> None:
    detector = fitted()
    with torch.no_grad():
        stored, live = detector(known(60, seed=7)), detector(look(60, 7, detector.needs))
    assert torch.allclose(stored, live, atol=1e-4)
    assert detector.needs < may_need(detector) == SETTINGS.needs - {"copies", "naturals"}
    first_only = known(60, seed=7)
    first_only = Evidence(None, None, first_only.image, **{p: getattr(first_only, p) for p in detector.needs})
    with pytest.raises(UsageError, match="needs a classifier"):
        detector(first_only)


def test_is_built_again_with_its_cut_and_both_detectors() -> None:
    again: Any = rebuild(json.loads(json.dumps(recipe_of(fitted()))))
    again.load_state_dict(fitted().state_dict())
    seen = known(30, seed=8)
    with torch.no_grad():
        assert torch.equal(again(seen), fitted()(seen))
    assert fingerprint(again) == fingerprint(fitted()) and again.settings == SETTINGS


def test_a_guard_gives_its_scores_and_says_who_decided() -> None:
    detector = fitted()
    calibration = detector(known(60, seed=9)).detach()
    guard = Guard(network(), None, detector, 0.0, 0.05, calibration, SHAPE)
    x = examples.images(SHAPE, 30, seed=10)
    found = guard(x, batch=7)
    with torch.no_grad():
        expected = detector(look(30, 10, detector.needs))
    assert torch.allclose(found.score, expected, atol=1e-4)
    assert torch.allclose(found.contributions.sum(1), found.score) and found.contributions.shape == (30, 2)
    assert bool((found.p_value[expected < FLOOR] > 0.1).all())


def test_slope_is_that_of_the_detector_that_decides() -> None:
    detector: Any = private(fitted()).double().requires_grad_(False)
    net = examples.conv(SHAPE, smooth=True, dtype=torch.float64).requires_grad_(False)
    x = examples.images(SHAPE, 12, dtype=torch.float64)

    def slope(module: Any) -> Tensor:
        here = x.clone().requires_grad_()
        (found,) = torch.autograd.grad(module(Evidence(net, None, here, module.needs)).sum(), here)
        return found

    first, second = detector.parts
    scores = first(Evidence(net, None, x, first.needs))
    detector.head.cut.copy_(scores.sort().values[5:7].mean())  # between two images: a graph is another way of rounding
    on = (scores >= detector.head.cut)[:, None, None, None]
    assert torch.allclose(slope(detector), torch.where(on, slope(second), slope(first)), atol=1e-12)


# --- bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan"), "0.2", True])
def test_refuses_other_shares(share: Any) -> None:
    with pytest.raises(UsageError, match="between 0 and 1; found"):
        Cascade(share=share)


@pytest.mark.parametrize("bad", [Fused(), Margin, None, "margin"])
def test_refuses_what_is_no_detector_by_itself(bad: Any) -> None:
    with pytest.raises(UsageError, match="first is settings of a detector"):
        Cascade(first=bad)
    with pytest.raises(UsageError, match="second is settings of a detector"):
        Cascade(second=bad)


def test_refuses_another_number_of_parts() -> None:
    with pytest.raises(UsageError, match="two fitted detectors and their two scores; found 1"):
        SETTINGS.build((2,), fitted().parts[0])
    with pytest.raises(UsageError, match="found 2 and \\(3,\\)"):
        SETTINGS.build((3,), *fitted().parts)


def test_no_images_no_scores() -> None:
    assert fitted()(look(0, needs=fitted().needs)).shape == (0,)
