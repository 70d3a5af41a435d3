from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from salientry.errors import UsageError
from salientry.evidence import AFTER, GRADIENTS, MASKED, PARTS, Evidence
from salientry.layers import has_features
from salientry.learned import frozen
from salientry.types import Shape

from . import examples

SHAPE = Shape(2, 10, 12, 5)
N = 4


@pytest.fixture
def classifier() -> nn.Module:
    """Smooth, in float64: second derivatives exist and finite differences converge."""
    return examples.conv(SHAPE, smooth=True, dtype=torch.float64).requires_grad_(False)


@pytest.fixture
def saliency() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = examples.saliency()["unet"].build(SHAPE).double().requires_grad_(False)
        for m in net.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.bias.data = 0.2 * torch.randn_like(m.bias)
    return net


@pytest.fixture
def x() -> Tensor:
    return examples.images(SHAPE, N, dtype=torch.float64)


class Counted:
    """How often a module is called."""

    def __init__(self, *modules: nn.Module) -> None:
        self.calls = [0] * len(modules)
        for i, m in enumerate(modules):
            m.register_forward_hook(lambda m, given, out, i=i: self.calls.__setitem__(i, self.calls[i] + 1))


@pytest.fixture
def counted(classifier: nn.Module, saliency: nn.Module) -> Counted:
    return Counted(classifier, saliency)


def directional(f: Any, x: Tensor, seed: int, h: float = 1e-6) -> tuple[float, float]:
    """Slope of the scalar ``f`` along a random direction, by central differences; and by autograd."""
    d = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
    slope = (float(f(x + h * d)) - float(f(x - h * d))) / (2 * h)
    here = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(here), here)
    return slope, float((gradient * d).sum())


# --- each part, once ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "order", [PARTS, PARTS[::-1], ("map", "features", "gradient", "second_net_logprobs", "logits", "class_presence", "predicted")]
)
@pytest.mark.parametrize("alive", [True, False])
def test_all_parts_cost_one_classifier_pass_and_one_map(
    classifier: nn.Module, saliency: nn.Module, counted: Counted, x: Tensor, order: tuple[str, ...], alive: bool
) -> None:
    look = Evidence(classifier, saliency, x.requires_grad_(alive), needs=frozenset(PARTS))
    for _ in range(2):
        for name in order:
            assert len(getattr(look, name)) == N
    assert counted.calls == [1, 1]
    assert all(name in look for name in PARTS)


def test_nothing_is_made_before_it_is_asked_for(classifier: nn.Module, saliency: nn.Module, counted: Counted, x: Tensor) -> None:
    look = Evidence(classifier, saliency, x, needs=frozenset(PARTS))
    assert counted.calls == [0, 0] and not any(name in look for name in PARTS)
    assert look.predicted.shape == (N,)
    assert counted.calls == [1, 0]


def test_only_what_is_needed_is_brought_along(classifier: nn.Module, saliency: nn.Module, counted: Counted, x: Tensor) -> None:
    look = Evidence(classifier, saliency, x, needs=frozenset({"gradient"}))
    assert look.logits.shape == (N, 5)
    assert "gradient" in look and "features" not in look and "map" not in look
    assert look.features.shape[0] == N
    assert counted.calls == [2, 0]  # nobody had said so in time


def test_stored_parts_are_taken_as_they_are(classifier: nn.Module, saliency: nn.Module, counted: Counted, x: Tensor) -> None:
    fresh = Evidence(classifier, saliency, x, frozenset(PARTS))
    stored = {name: torch.zeros_like(getattr(fresh, name)) for name in PARTS}
    counted.calls[:] = [0, 0]
    look = Evidence(classifier, saliency, x, frozenset(PARTS), **stored)
    assert all(getattr(look, name) is stored[name] for name in PARTS)
    assert counted.calls == [0, 0]
    some = Evidence(classifier, saliency, x, frozenset(PARTS), logits=stored["logits"], map=stored["map"])
    assert some.gradient.shape == x.shape and some.class_presence.shape == (N,)
    assert some.logits is stored["logits"] and some.map is stored["map"]
    assert counted.calls == [1, 1]


def test_without_networks_stored_parts_are_enough(x: Tensor) -> None:
    look = Evidence(None, None, x, logits=torch.eye(5)[:N], map=torch.zeros(N, 1, 10, 12))
    assert look.predicted.tolist() == [0, 1, 2, 3]
    for name, words in (
        ("gradient", "needs a classifier"),
        ("features", "needs a classifier"),
        ("class_presence", "needs a saliency model"),
    ):
        with pytest.raises(UsageError, match=f"{name} {words}, and none was given"):
            getattr(look, name)
    with pytest.raises(UsageError, match="logits needs a classifier"):
        _ = Evidence(None, None, x).predicted


# --- what the parts are --------------------------------------------------------------------------------------------------


def test_parts_are_what_the_networks_say(classifier: nn.Module, saliency: nn.Module, x: Tensor) -> None:
    look = Evidence(classifier, saliency, x)
    z = classifier(x)
    assert torch.equal(look.logits, z)
    assert torch.equal(look.predicted, z.argmax(1)) and look.predicted.dtype == torch.int64
    said = saliency(x, z.argmax(1))
    for name in ("map", "class_presence", "second_net_logprobs"):
        assert torch.equal(getattr(look, name), said[name])


def test_gradient_is_that_of_the_predicted_logit(classifier: nn.Module, x: Tensor) -> None:
    look = Evidence(classifier, None, x)
    for i in range(N):
        here = x[i : i + 1].clone().requires_grad_()
        k = int(classifier(here).argmax())
        (alone,) = torch.autograd.grad(classifier(here)[0, k], here)
        assert torch.allclose(look.gradient[i], alone[0], rtol=0, atol=1e-12)
        g = torch.Generator().manual_seed(i)
        for _ in range(3):
            at = tuple(int(torch.randint(0, s, (1,), generator=g)) for s in x.shape[1:])
            step = torch.zeros_like(x[i : i + 1])
            step[0][at] = 1e-6
            slope = float(classifier(x[i : i + 1] + step)[0, k] - classifier(x[i : i + 1] - step)[0, k]) / 2e-6
            assert float(look.gradient[i][at]) == pytest.approx(slope, rel=1e-5, abs=1e-8)


def test_gradient_of_a_class_that_was_put_in(classifier: nn.Module, x: Tensor) -> None:
    other = (classifier(x).argmax(1) + 1) % 5
    expected = torch.autograd.functional.jacobian(lambda v: classifier(v).gather(1, other[:, None]).sum(), x)
    look = Evidence(classifier, None, x)
    assert torch.allclose(look.put(predicted=other).gradient, expected, rtol=0, atol=1e-12)
    swapped = torch.nn.functional.one_hot(other, 5).to(x.dtype)
    by_logits = look.put(logits=swapped)
    assert torch.allclose(by_logits.gradient, expected, rtol=0, atol=1e-12)  # it follows the predicted class, not the pass
    assert torch.equal(by_logits.predicted, other) and by_logits.logits is swapped


def jacobian(classifier: nn.Module, x: Tensor) -> Tensor:
    """(N, K, C, H, W), one logit at a time."""
    rows = []
    for k in range(SHAPE.classes):
        here = x.clone().requires_grad_()
        rows.append(torch.autograd.grad(classifier(here)[:, k].sum(), here)[0])
    return torch.stack(rows, 1)


@pytest.mark.parametrize("alive", [True, False])
@pytest.mark.parametrize("together", [True, False])
def test_gradients_of_sum_of_probabilities_and_of_every_logit(classifier: nn.Module, x: Tensor, together: bool, alive: bool) -> None:
    every = jacobian(classifier, x)
    needs = frozenset(PARTS) if together else frozenset[str]()
    look = Evidence(classifier, None, x.clone().requires_grad_(alive), needs)
    assert torch.allclose(look.gradient_sum, every.sum(1), rtol=0, atol=1e-12)
    assert look.gradient_full.shape == (N, SHAPE.classes * SHAPE.channels, 10, 12)
    assert torch.allclose(look.gradient_full, every.flatten(1, 2), rtol=0, atol=1e-12)  # class by class, the channels of each together
    assert torch.allclose(look.gradient, every[torch.arange(N), look.predicted], rtol=0, atol=1e-12)
    assert float(look.gradient_prob.detach().abs().max()) < 1e-14 < 1e-3 < float(look.gradient_sum.detach().abs().max())
    assert all(getattr(look, name).requires_grad == alive for name in GRADIENTS)


@pytest.mark.parametrize("name", ["gradient_sum", "gradient_full"])
def test_gradients_match_finite_differences(classifier: nn.Module, x: Tensor, name: str) -> None:
    """Of the map of the logits, weighted at random: the sum's weights are equal."""
    d = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    slope = (classifier(x + 1e-6 * d) - classifier(x - 1e-6 * d)) / 2e-6  # (N, K)
    part = getattr(Evidence(classifier, None, x), name)
    found = (part.view(N, -1, *x.shape[1:]) * d[:, None]).sum((2, 3, 4))
    assert torch.allclose(found, slope if name == "gradient_full" else slope.sum(1, keepdim=True), rtol=1e-6, atol=1e-8)


def test_a_classifier_has_features_if_a_layer_of_it_has_means(classifier: nn.Module, x: Tensor) -> None:
    assert has_features(classifier)
    for layer in (nn.Conv2d(2, 3, 1), nn.BatchNorm2d(2), nn.Linear(2, 2)):
        assert has_features(nn.Sequential(nn.Flatten(), nn.Sequential(layer)))
    bare = nn.Sequential(nn.ReLU(), nn.Flatten())
    assert not has_features(bare)
    with pytest.raises(UsageError, match="this classifier has none"):
        _ = Evidence(bare, None, x).features


def test_features_are_the_spatial_means_of_each_layer(classifier: nn.Module, x: Tensor) -> None:
    net: Any = classifier
    a = net[0](x)
    b = net[1](a)
    c = net[3](net[2](b))
    d = net[6](net[5](net[4](c)))
    expected = torch.cat([a.mean((2, 3)), b.mean((2, 3)), c.mean((2, 3)), d], 1)
    assert torch.allclose(Evidence(classifier, None, x).features, expected, rtol=0, atol=1e-12)


def test_features_are_what_the_layer_gave_even_if_the_next_one_writes_over_it(x: Tensor) -> None:
    linear = nn.Linear(240, 6).double()
    net = nn.Sequential(nn.Flatten(), linear, nn.ReLU(inplace=True), nn.Linear(6, 5).double()).requires_grad_(False)
    found = Evidence(net, None, x).features[:, :6]
    assert bool((found < 0).any())
    assert torch.allclose(found, linear(x.flatten(1)), rtol=0, atol=1e-12)


# --- put -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PARTS)
def test_put_drops_exactly_what_follows(classifier: nn.Module, saliency: nn.Module, x: Tensor, name: str) -> None:
    look = Evidence(classifier, saliency, x, frozenset(PARTS))
    before = {part: getattr(look, part) for part in PARTS}
    value = before[name].flip(0)
    after = look.put(**{name: value})
    assert getattr(after, name) is value
    drawn = {"map", "class_presence", *MASKED}
    follows = {"logits": {"predicted", *drawn, *GRADIENTS}, "predicted": {*drawn, "gradient"}, "map": set(MASKED)}.get(name, set())
    assert set(AFTER.get(name, ())) == follows
    for part in set(PARTS) - {name}:
        assert (part in after) == (part not in follows)
        if part not in follows:
            assert getattr(after, part) is before[part]
    assert all(getattr(look, part) is before[part] for part in PARTS)  # the first look is as it was


def test_put_makes_again_what_it_dropped(classifier: nn.Module, saliency: nn.Module, counted: Counted, x: Tensor) -> None:
    look = Evidence(classifier, saliency, x, frozenset(PARTS))
    assert {name for name in PARTS if len(getattr(look, name))} == set(PARTS)
    other = (look.predicted + 2) % 5
    counted.calls[:] = [0, 0]
    selector_swap = look.put(predicted=other)
    assert torch.equal(selector_swap.map, saliency(x, other)["map"])
    assert not torch.equal(selector_swap.map, look.map)
    assert counted.calls == [0, 2]  # one of them is ours: the classifier is not asked again
    both = look.put(logits=look.logits.flip(0), map=look.map)
    assert both.map is look.map and torch.equal(both.predicted, look.predicted.flip(0))
    pixels = Evidence(classifier, saliency, x.flip(0), frozenset(PARTS)).put(map=look.map)
    assert pixels.map is look.map and torch.equal(pixels.logits, classifier(x.flip(0)))


@pytest.mark.parametrize("at", [torch.tensor([3, 0]), torch.tensor([True, False, False, True]), torch.arange(0)])
@pytest.mark.parametrize("alive", [True, False])
def test_some_images_keep_what_is_known_and_have_the_rest_made_for_them_alone(
    classifier: nn.Module, saliency: nn.Module, x: Tensor, at: Tensor, alive: bool
) -> None:
    look = Evidence(classifier, saliency, x.requires_grad_(alive), frozenset({"gradient"}))
    whole = {name: getattr(look, name) for name in ("logits", "gradient")}
    counts, whole["map"] = list[int](), Evidence(classifier, saliency, x).map
    classifier.register_forward_hook(lambda m, given, out: counts.append(len(out)))
    with torch.no_grad():
        some = look.take(at, frozenset({"features"}))
    assert some.needs == {"features"} and look.take(at).needs == look.needs
    for name, part in whole.items():
        assert torch.allclose(getattr(some, name), part[at], atol=1e-12)
        assert getattr(some, name).requires_grad == alive
    assert counts == []
    assert torch.allclose(some.under("blur"), look.under("blur")[at], atol=1e-12)
    assert len(some.features) == len(x[at]) and counts == [2 * len(x[at]), N]


def test_changed_images_pass_alone_where_the_answer_is_known(classifier: nn.Module, x: Tensor) -> None:
    look, counts = Evidence(classifier, None, x, frozenset({"logits_under/blur", "logits_under/shift"})), list[int]()
    classifier.register_forward_hook(lambda m, given, out: counts.append(len(out)))
    both = Evidence(classifier, None, x, look.needs, logits=look.put().logits)
    assert torch.equal(both.logits, look.logits) and counts == [3 * N, 3 * N]
    assert torch.allclose(both.under("blur"), look.under("blur"), atol=1e-12)
    assert torch.allclose(both.under("shift"), look.under("shift"), atol=1e-12)
    assert counts == [3 * N, 3 * N, 2 * N]


def test_refuses_parts_that_cannot_be(classifier: nn.Module, x: Tensor) -> None:
    look = Evidence(classifier, None, x)
    with pytest.raises(UsageError, match="no part 'mood'; there are: logits, predicted, map"):
        look.put(mood=torch.zeros(N))
    with pytest.raises(UsageError, match="map has 3 rows for 4 images"):
        look.put(map=torch.zeros(3, 1, 10, 12))
    with pytest.raises(UsageError, match=r"images are floats in \[0, 1\]; found torch\.uint8"):
        Evidence(None, None, torch.zeros(4, 1, 2, 2, dtype=torch.uint8))
    with pytest.raises(UsageError, match="logits has 5 rows"):
        Evidence(classifier, None, x, logits=torch.zeros(5, 5))
    with pytest.raises(AttributeError, match="no part 'mood'"):
        _ = look.mood


class Says(nn.Module):
    """A saliency model that gives a map and something of its own."""

    def forward(self, image: Tensor, k: Tensor) -> dict[str, Tensor]:
        return {"map": image[:, :1] * k.view(-1, 1, 1, 1), "mood": image[:, 0, 0, 0], "logits": torch.zeros(len(k), 5)}


def test_a_saliency_model_may_say_less_or_more(classifier: nn.Module, x: Tensor) -> None:
    look = Evidence(classifier, Says(), x, frozenset({"map"}), predicted=torch.ones(N, dtype=torch.int64))
    assert torch.equal(look.map, x[:, :1])
    with pytest.raises(UsageError, match="the saliency model Says gives no class_presence, only map"):
        _ = look.class_presence
    assert torch.equal(look.put(map=look.map.flip(0)).map, x[:, :1].flip(0))  # the stranger is not handed on
    assert torch.equal(look.logits, classifier(x))  # and what the classifier says, the classifier says


# --- graphs ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("needs", [frozenset(PARTS), frozenset({"gradient"}), frozenset({"features"}), frozenset()], ids=len)
@pytest.mark.parametrize("ambient", [True, False])
def test_nothing_is_in_a_graph_unless_the_image_is(
    classifier: nn.Module, saliency: nn.Module, x: Tensor, needs: frozenset[str], ambient: bool
) -> None:
    for net in (classifier, saliency):
        net.requires_grad_(True)  # a caller who forgot to freeze
    with torch.set_grad_enabled(ambient):
        look = Evidence(classifier, saliency, x, needs)
        for name in PARTS:
            assert not getattr(look, name).requires_grad, name
    assert not x.requires_grad and x.grad is None
    assert all(p.grad is None for net in (classifier, saliency) for p in net.parameters())


@pytest.mark.parametrize("ambient", [True, False])
def test_everything_is_in_the_graph_if_the_image_is(classifier: nn.Module, saliency: nn.Module, x: Tensor, ambient: bool) -> None:
    here = x.clone().requires_grad_()
    with torch.set_grad_enabled(ambient):
        look = Evidence(classifier, saliency, here, frozenset(PARTS))
        parts = {name: getattr(look, name) for name in PARTS if name != "predicted"}
    assert parts.pop("gradient_prob").requires_grad  # it is 0, and so is its slope
    for name, value in parts.items():
        (g,) = torch.autograd.grad(value.square().sum(), here, retain_graph=True)
        assert float(g.abs().max()) > 0, name


@pytest.mark.parametrize(
    "name", ["logits", "map", "class_presence", "second_net_logprobs", "features", "gradient", "gradient_sum", "gradient_full"]
)
def test_every_part_is_differentiable_to_the_image(classifier: nn.Module, saliency: nn.Module, x: Tensor, name: str) -> None:
    """Of the gradient part this is the second derivative: d(sum of its square)/dx. Weights keep sums from being trivial."""
    value = getattr(Evidence(classifier, saliency, x), name)
    weights = torch.rand(value.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def f(v: Tensor) -> Tensor:
        part = getattr(Evidence(classifier, saliency, v, frozenset({name})), name)
        return (part.square() * weights).sum()

    for seed in range(4):
        slope, found = directional(f, x, seed)
        assert found == pytest.approx(slope, rel=1e-5, abs=1e-8)
        assert abs(found) > 1e-6


def test_sum_of_the_map_and_of_the_squared_gradient(classifier: nn.Module, saliency: nn.Module, x: Tensor) -> None:
    for name, f in (("map", lambda part: part.sum()), ("gradient", lambda part: part.square().sum())):
        for seed in range(3):
            slope, found = directional(lambda v, n=name, f=f: f(getattr(Evidence(classifier, saliency, v), n)), x, seed)
            assert found == pytest.approx(slope, rel=1e-5, abs=1e-8)


# --- networks are left as they were ---------------------------------------------------------------------------------------------


def hooks(net: nn.Module) -> list[int]:
    return [len(h) for m in net.modules() for h in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks)]


def test_hooks_are_gone_afterwards_also_after_an_exception(classifier: nn.Module, x: Tensor) -> None:
    net: Any = classifier
    before = hooks(net)
    assert Evidence(net, None, x, frozenset({"features"})).logits.shape == (N, 5)
    assert hooks(net) == before

    def fail(*_: Any) -> None:
        raise RuntimeError("no pass today")

    handle = net[4].register_forward_pre_hook(fail)
    with_one = hooks(net)
    with pytest.raises(RuntimeError, match="no pass today"):
        _ = Evidence(net, None, x, frozenset({"features"})).logits
    assert hooks(net) == with_one
    handle.remove()
    assert hooks(net) == before


def test_features_collect_nothing_from_a_failed_pass(classifier: nn.Module, x: Tensor) -> None:
    net: Any = classifier
    clean = Evidence(net, None, x).features
    fails = iter([True, False])

    def fail(*_: Any) -> None:
        if next(fails):
            raise RuntimeError("not the first time")

    handle = net[5].register_forward_pre_hook(fail)
    look = Evidence(net, None, x, frozenset({"features"}))
    with pytest.raises(RuntimeError, match="not the first time"):
        _ = look.features
    assert torch.equal(look.features, clean)
    handle.remove()


def test_weights_are_not_moved(classifier: nn.Module, saliency: nn.Module, x: Tensor) -> None:
    before = copy.deepcopy([classifier.state_dict(), saliency.state_dict()])
    with frozen(classifier, saliency):
        look = Evidence(classifier, saliency, x, frozenset(PARTS))
        assert all(len(getattr(look, name)) == N for name in PARTS)
    for now, then in zip([classifier.state_dict(), saliency.state_dict()], before, strict=True):
        assert all(torch.equal(now[k], then[k]) for k in then)


def test_no_images_no_trouble(classifier: nn.Module, saliency: nn.Module, x: Tensor) -> None:
    look = Evidence(classifier, saliency, x[:0], frozenset(PARTS))
    assert look.map.shape == (0, 1, 10, 12) and look.gradient.shape == (0, 2, 10, 12)
    assert look.gradient_full.shape == (0, 10, 10, 12)
    assert look.predicted.shape == (0,) and look.features.shape[0] == 0
