"""What every entry of DETECTORS owes: scores of the right shape, direction and decision, one image at a time, saved bit for bit."""

from __future__ import annotations

import copy
import json
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from salientry.detectors._fitted import may_need
from salientry.errors import UsageError
from salientry.evidence import LAYER, PARTS, SECOND, UNDERS, Evidence, scoring_needs
from salientry.learned import fingerprint, rebuild, recipe_of, seeded
from salientry.metrics import auroc
from salientry.types import Shape

from .. import examples
from ..examples import ViewPairs

NAMES = sorted(examples.detectors())
CNNS, SLOPES = ["id", "id_plus", "jsd", "smd", "spd"], ["black_share", "class_presence", "high_frequency", "margin", "second_net"]
SLOPES += ["msp", "energy", "feature_squeezing", "counter_attack"]
EITHER = ["fourier_spectrum", "pasa"]
MLPS = ["pooled_activations", "sorted_logits"]
COMMITTEES = [
    "top_logits",
    "noise_level",
    "noise_structure",
    "consistency",
    "second_opinion",
    "layer_statistics",
    "masked",
    "learned_fusion",
]
LEARN_FROM_A_SEED = {*CNNS, *MLPS, *COMMITTEES}  # the others are fitted to their optimum, which no seed moves
NO_SLOPE_IN_THE_IMAGE = {"black_share", "deep_knn"}  # they count
SLOPE_BY_CONVENTION = {"feature_squeezing", "p_values", "pasa"}  # that of rounding is taken as 1, that of the noise's size as 0
EVERY = pytest.mark.parametrize("name", NAMES)
SHAPE = Shape(1, 12, 12, 5)
N = 96


@cache
def pairs_of(name: str, seed: int = 0) -> ViewPairs:
    spec = examples.detectors()[name]
    return ViewPairs.of(spec, *examples.natural_and_adversarial(spec, N, 2 * seed, 2 * seed + 1), *examples.parts(name))


@cache
def _fitted(name: str, seed: int = 0) -> nn.Module:
    return fit(name, pairs_of(name), seed)


def fit(name: str, pairs: ViewPairs, seed: int = 0) -> nn.Module:
    return examples.detectors()[name].fit(pairs, pairs.labels, *examples.parts(name), seed=seed)


def fitted(name: str) -> Any:
    """A detector trained on evidence that is clear; shared, so leave it alone."""
    return _fitted(name)


def scores(detector: nn.Module, pairs: ViewPairs) -> tuple[Tensor, Tensor]:
    head: Any = detector.head
    with torch.no_grad():
        return head(pairs.natural), head(pairs.adversarial)


@cache
def networks(dtype: torch.dtype = torch.float32) -> tuple[nn.Module, nn.Module]:
    """A random smooth classifier and a random saliency model for images of SHAPE."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        saliency = examples.saliency()["unet"].build(SHAPE).to(dtype)
        for m in saliency.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.bias.data = 0.2 * torch.randn_like(m.bias)
    return examples.conv(SHAPE, smooth=True, dtype=dtype).requires_grad_(False), saliency.requires_grad_(False)


def looks(x: Tensor, needs: frozenset[str] = frozenset(PARTS)) -> Evidence:
    return Evidence(*networks(x.dtype), x, needs, second_network(x.dtype))


@cache
def second_network(dtype: torch.dtype) -> nn.Module:
    return examples.conv(SHAPE, smooth=True, seed=5, dtype=dtype).requires_grad_(False)


def copied(name: str) -> Any:
    again = rebuild(recipe_of(fitted(name)))
    again.load_state_dict(fitted(name).state_dict())
    return again


def test_lists_above_speak_of_entries() -> None:
    assert {*CNNS, *MLPS, *COMMITTEES, *SLOPES, *EITHER, *NO_SLOPE_IN_THE_IMAGE, *SLOPE_BY_CONVENTION} <= set(NAMES)


@EVERY
def test_scores_are_one_finite_number_an_image(name: str) -> None:
    x = examples.images(SHAPE, 9)
    settings, parts = examples.detectors()[name], examples.parts(name)
    with seeded(0):
        unfitted = settings.build(tuple(settings.view(looks(x), *parts).shape[1:]), *parts)
    for detector in (unfitted, fitted(name)):
        with torch.no_grad():
            found = detector(looks(x))
        assert found.shape == (9,) and found.dtype == torch.float32
        assert bool(torch.isfinite(found).all())
        assert float(found.std()) > 0
        assert detector(looks(x[:1])).shape == (1,) and detector(looks(x[:0])).shape == (0,)


@EVERY
def test_neighbours_do_not_matter(name: str) -> None:
    detector, x = copied(name).double().requires_grad_(False), examples.images(SHAPE, 12, dtype=torch.float64)
    whole = detector(looks(x))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    assert float((detector(looks(x[order])) - whole[order]).abs().max()) < 1e-9
    assert float((torch.cat([detector(looks(p)) for p in x.split(5)]) - whole).abs().max()) < 1e-9


@EVERY
def test_reads_the_parts_that_it_needs_and_no_other(name: str) -> None:
    detector, everything = fitted(name), examples.adversarial_evidence(6)  # of which a cascade looks twice
    of_parts: list[Any] = list(examples.parts(name))
    needs = scoring_needs(examples.detectors()[name].needs).union(*(p.needs for p in of_parts))
    assert may_need(detector) == needs and (detector.needs < needs if name == "cascade" else detector.needs == needs)
    assert {p for p in needs if not p.startswith(LAYER)} <= {*PARTS, SECOND, *UNDERS, "activations", "classifier"}
    needed, asked = {p: getattr(everything, p) for p in needs - {"classifier"}}, examples.Smooth() if "classifier" in needs else None
    assert detector(Evidence(asked, None, everything.image, **needed)).shape == (6,)
    for part in needs if asked is None else {"classifier"}:  # who may ask can make the others
        without = {p: v for p, v in needed.items() if p != part}
        with pytest.raises(UsageError, match="needs a"):
            detector(Evidence(None, None, everything.image, **without))


@EVERY
def test_higher_means_more_adversarial(name: str) -> None:
    for seed in (0, 1):  # the training pairs, and new ones
        natural, adversarial = scores(fitted(name), pairs_of(name, seed))
        assert auroc(natural.numpy(), adversarial.numpy()) > 0.9
    with torch.no_grad():
        natural, adversarial = (fitted(name)(e) for e in examples.natural_and_adversarial(examples.detectors()[name], 50, 8, 9))
    assert auroc(natural.numpy(), adversarial.numpy()) > 0.9


@EVERY
def test_zero_is_the_heads_own_decision(name: str) -> None:
    natural, adversarial = scores(fitted(name), pairs_of(name, 1))
    assert (float((natural <= 0).float().mean()) + float((adversarial > 0).float().mean())) / 2 > 0.8


@EVERY
def test_is_in_eval_mode_after_fit_and_build(name: str) -> None:
    assert not any(m.training for m in fitted(name).modules())
    assert not any(m.training for m in examples.detectors()[name].build(pairs_of(name).shape, *examples.parts(name)).modules())


@EVERY
def test_is_saved_and_built_again_bit_for_bit(name: str) -> None:
    note = json.loads(json.dumps(recipe_of(fitted(name))))
    again = rebuild(note)
    assert fingerprint(again) != fingerprint(fitted(name))
    again.load_state_dict(fitted(name).state_dict())
    x = examples.images(SHAPE, 9)
    with torch.no_grad():
        assert torch.equal(again(looks(x)), fitted(name)(looks(x)))
    assert recipe_of(again) == recipe_of(fitted(name)) and not any(m.training for m in again.modules())
    assert again.needs == fitted(name).needs and again.settings == examples.detectors()[name]


@EVERY
def test_same_seed_same_weights(name: str) -> None:
    state = torch.get_rng_state()
    again = fingerprint(fit(name, pairs_of(name)))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    assert again == fingerprint(fitted(name)) == fingerprint(fit(name, pairs_of(name)))


@EVERY
def test_other_seed_other_weights_where_a_seed_is_used(name: str) -> None:
    assert (fingerprint(_fitted(name, 1)) != fingerprint(_fitted(name, 0))) == (name in LEARN_FROM_A_SEED)


@EVERY
def test_the_parts_that_it_stands_on_are_left_as_they_were(name: str) -> None:
    parts = copy.deepcopy(examples.parts(name))
    for p in parts:
        p.double()
    before = [fingerprint(p) for p in parts]
    detector: Any = examples.detectors()[name].fit(pairs_of(name), pairs_of(name).labels, *parts, seed=0)
    assert [fingerprint(p) for p in parts] == before
    assert len(detector.parts) == len(parts)
    assert all(p.grad is None for part in parts for p in part.parameters())


@EVERY
def test_score_is_differentiable_in_the_image(name: str) -> None:
    """The whole way: image, classifier, saliency, view, head; against central differences in float64."""
    detector, x = copied(name).double().requires_grad_(False), 0.05 + 0.9 * examples.images(SHAPE, 4, dtype=torch.float64)

    def total(v: Tensor) -> Tensor:
        found: Tensor = (detector(looks(v)) * torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64)).sum()
        return found

    here = x.clone().requires_grad_()
    value = total(here)
    if name in NO_SLOPE_IN_THE_IMAGE:
        assert not value.requires_grad
        return
    (gradient,) = torch.autograd.grad(value, here)
    assert bool(torch.isfinite(gradient).all()) and bool((gradient.flatten(1).norm(dim=1) > 1e-9).all())
    if name in SLOPE_BY_CONVENTION:
        return
    g = torch.Generator().manual_seed(0)
    for _ in range(3):
        d, h = torch.randn(x.shape, generator=g, dtype=torch.float64), 1e-7
        slope = float(total(x + h * d) - total(x - h * d)) / (2 * h)
        assert float((gradient * d).sum()) == pytest.approx(slope, rel=1e-3, abs=1e-6)


@EVERY
def test_belongs_to_a_family(name: str) -> None:
    settings = examples.detectors()[name]
    assert settings.group in ("saliency", "image", "baseline", "consistency", "fusion")
    assert (settings.group == "fusion") == (name in ("fused", "learned_fusion", "cascade"))
    if "map" in settings.needs:
        assert settings.group == "saliency"


@EVERY
def test_goes_by_words(name: str) -> None:
    words = examples.detectors()[name].description
    assert words == words.strip() and words[0].islower() and words[-1].isalpha()


@pytest.mark.parametrize("name", SLOPES)
def test_floors_are_never_turned_round(name: str) -> None:
    """Trained on exchanged labels, a baseline with a stated sign stays as it is: worse than chance, and it says so."""
    exchanged = pairs_of(name).exchanged()
    detector = examples.detectors()[name].fit(exchanged, exchanged.labels, seed=0)
    natural, adversarial = scores(detector, exchanged)
    assert auroc(natural.numpy(), adversarial.numpy()) < 0.1
    for d in (detector, fitted(name), examples.detectors()[name].build((1,))):
        head: Any = d.head
        with torch.no_grad():
            rising = head(torch.linspace(-5, 5, 50)[:, None])
        assert bool((rising.diff() > 0).all())


@pytest.mark.parametrize("name", ["margin2", *EITHER, *MLPS, *CNNS, *COMMITTEES])
def test_heads_without_a_stated_sign_learn_either(name: str) -> None:
    exchanged = pairs_of(name).exchanged()
    natural, adversarial = scores(examples.detectors()[name].fit(exchanged, exchanged.labels, seed=0), exchanged)
    assert auroc(natural.numpy(), adversarial.numpy()) > 0.9


def test_margin2_finds_too_sure_and_too_unsure() -> None:
    """Naturals in the middle, adversarials on both sides: no slope on the margin alone can tell."""
    g = torch.Generator().manual_seed(0)
    natural = 5 + torch.rand(200, 1, generator=g)
    adversarial = torch.cat([torch.rand(100, 1, generator=g), 10 + torch.rand(100, 1, generator=g)])
    two = fit("margin2", ViewPairs(*(torch.cat([v, v.square()], 1) for v in (natural, adversarial))))
    one = fit("margin", ViewPairs(-natural, -adversarial))
    both: Any = two.head
    with torch.no_grad():
        seen = [both(torch.cat([v, v.square()], 1)).numpy() for v in (natural, adversarial)]
    assert auroc(*seen) > 0.99
    assert 0.4 < auroc(*(v.numpy() for v in scores(one, ViewPairs(-natural, -adversarial)))) < 0.6


@pytest.mark.parametrize("name", ["margin", "margin2", "class_presence", "second_net", *MLPS, *COMMITTEES])
def test_units_of_the_view_do_not_matter(name: str) -> None:
    """Columns are standardised: logits a thousand times as large, with another origin, are scored alike."""
    given = pairs_of(name)
    stretched = ViewPairs(given.natural * 1000 - 300, given.adversarial * 1000 - 300)
    found = scores(examples.detectors()[name].fit(stretched, stretched.labels, seed=0), stretched)
    for ours, expected in zip(found, scores(fitted(name), given), strict=True):
        assert torch.allclose(ours, expected, atol=0.05)
