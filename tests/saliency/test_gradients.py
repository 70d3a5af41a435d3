"""Maps made of the classifier's gradient, against autograd, a net computed by hand and finite differences."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salientry.errors import UsageError
from salientry.evidence import Evidence
from salientry.learned import facts_of, fingerprint, seeded
from salientry.saliency import Gradient, GradientInput, GuidedBackprop, SimpleClassifier, UNet
from salientry.saliency._gradients import GradientMaps, guided
from salientry.types import Shape

from .. import examples

MAPS: dict[str, Any] = {"gradient": Gradient(), "prob": Gradient("prob"), "input": GradientInput(), "guided": GuidedBackprop()}
EVERY = pytest.mark.parametrize("name", sorted(MAPS))
SHAPE = Shape(3, 8, 10, 4)
ENCODER = SimpleClassifier(base=4, scales=2, epochs=1, batch=16)


def some(n: int = 6, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    return examples.images(SHAPE, n, dtype=dtype), (torch.arange(n) * 3 + 1) % SHAPE.classes


def raw(name: str, classifier: nn.Module, x: Tensor, k: Tensor) -> Tensor:
    module: GradientMaps = MAPS[name].build(SHAPE, classifier)
    return module.raw(x, k)


def alone(f: Any, x: Tensor) -> Tensor:
    """Gradient of a scalar of one image, image by image."""
    rows = []
    for i in range(len(x)):
        here = x[i : i + 1].clone().requires_grad_()
        rows.append(torch.autograd.grad(f(here, i), here)[0])
    return torch.cat(rows)


# --- what is drawn -----------------------------------------------------------------------------------------------


def test_maps_are_the_largest_magnitude_over_the_channels_of_autograds_gradient() -> None:
    net, (x, k) = examples.conv(SHAPE, dtype=torch.float64).requires_grad_(False), some()
    logit = alone(lambda v, i: net(v)[0, k[i]], x)
    prob = alone(lambda v, i: net(v).softmax(1)[0, k[i]], x)
    for name, expected in (("gradient", logit), ("prob", prob), ("input", x * logit)):
        found = raw(name, net, x, k)
        assert found.shape == (6, 1, 8, 10) and float(found.max()) > 1e-3
        torch.testing.assert_close(found, expected.abs().amax(1, keepdim=True), rtol=0, atol=1e-12)
    black = (x == 0).all(1, keepdim=True)
    assert bool(black.any()) and not raw("input", net, x, k)[black].any()


def by_hand() -> nn.Sequential:
    """Two pixels, two hidden layers of ReLUs, two classes."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2)).double()
    weights = {1: [[2.0, -1.0], [1.0, 1.0], [-2.0, 1.0]], 3: [[1.0, -2.0, 3.0], [2.0, -1.0, 1.0]], 5: [[5.0, 1.0], [1.0, -1.0]]}
    for i, w in weights.items():
        net[i].weight.data, net[i].bias.data = torch.tensor(w).double(), torch.zeros(len(w)).double()
    return net.requires_grad_(False)


def test_guided_backpropagation_by_hand() -> None:
    """At (1, .5) the first layer is (1.5, 1.5, -1.5), the second (-1.5, 1.5).

    Class 0 sends (5, 1) back; the second ReLUs let (0, 1) through, which is (2, -1, 1) before the first ReLUs: they let (2, 0, 0)
    through, where an ordinary backward pass has (2, -1, 0). Class 1 sends (1, -1) back, of which nothing gets through.
    """
    net, x = by_hand(), torch.tensor([1.0, 0.5]).double().view(1, 1, 1, 2).repeat(2, 1, 1, 1)
    k = torch.tensor([0, 1])
    assert raw("guided", net, x, k).flatten(1).tolist() == [[4, 2], [0, 0]]
    assert raw("gradient", net, x, k).flatten(1).tolist() == [[3, 3], [3, 3]]
    with guided(net):
        here = x.clone().requires_grad_()
        (signed,) = torch.autograd.grad(net(here).gather(1, k[:, None]).sum(), here)
    assert signed.flatten(1).tolist() == [[4, -2], [0, 0]]


def test_guided_backpropagation_equals_the_one_with_backward_hooks() -> None:
    """The common way to write it: let ReLU do its own backward pass and clamp what comes out of it."""
    net, (x, k) = examples.conv(SHAPE, dtype=torch.float64).requires_grad_(False), some()
    found = raw("guided", net, x, k)
    other = copy.deepcopy(net)
    for m in other.modules():
        if isinstance(m, nn.ReLU):
            m.register_full_backward_hook(lambda m, given, out: (given[0].clamp_min(0),))
    expected = alone(lambda v, i: other(v)[0, k[i]], x)
    torch.testing.assert_close(found, expected.abs().amax(1, keepdim=True), rtol=0, atol=1e-12)
    assert float((found - raw("gradient", net, x, k)).abs().max()) > 1e-3


def test_a_sure_classifiers_probability_has_no_gradient_left() -> None:
    """Claim C19: beyond a gap of about 104 exp(-gap) is no float32 any more; the logit's gradient does not know of it."""
    g = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 2)).requires_grad_(False)
    net[1].weight.data = 0.1 * torch.randn(2, 48, generator=g)
    shape, k = Shape(3, 4, 4, 2), torch.zeros(8, dtype=torch.int64)
    x = torch.rand(8, 3, 4, 4, generator=g)
    largest, logit = {}, {}
    for gap in (30.0, 60.0, 110.0):
        net[1].bias.data = torch.tensor([gap, 0.0])
        assert float((net(x)[:, 0] - net(x)[:, 1] - gap).abs().max()) < 4
        largest[gap] = float(Gradient("prob").build(shape, net).raw(x, k).max())
        logit[gap] = Gradient().build(shape, net).raw(x, k)
    assert 1e-15 < largest[30.0] < 1e-10 and 1e-30 < largest[60.0] < 1e-22
    assert largest[110.0] == 0.0
    assert torch.equal(logit[110.0], logit[30.0]) and float(logit[110.0].min()) > 0
    wide = copy.deepcopy(net).double()
    assert float(Gradient("prob").build(shape, wide).raw(x.double(), k).max()) > 0  # float64 still has it


def test_prob_maps_of_a_sure_classifier_are_all_zero() -> None:
    """And with a scale that was set on images that all have none, they are 0, not 0 / 0."""
    net, (x, k) = examples.conv(SHAPE), some(20, torch.float32)
    net[6].weight.data *= 1e-3
    net[6].bias.data = torch.tensor([0.0, 150.0, 0.0, 0.0])
    module = Gradient("prob").fit(x, k, net, SHAPE, seed=0)
    drawn = module(x, torch.ones_like(k))["map"]
    assert float(module.scale) == 1 and drawn.shape == (20, 1, 8, 10) and not drawn.any()
    assert bool(Gradient().fit(x, k, net, SHAPE, seed=0)(x, torch.ones_like(k))["map"].any())


@EVERY
def test_no_gradient_at_all_gives_maps_of_zeros(name: str) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(240, 5), nn.ReLU(), nn.Linear(5, 4))
    net[3].weight.data.zero_()
    x, k = some(9, torch.float32)
    module = MAPS[name].fit(x, k, net, SHAPE, seed=0)
    assert float(module.scale) == 1 and not module(x, k)["map"].any()


# --- the scale ---------------------------------------------------------------------------------------------------


@EVERY
def test_scale_is_the_99_percent_quantile_of_the_naturals_values_that_are_not_zero(name: str) -> None:
    net, (x, _) = examples.conv(SHAPE), some(270, torch.float32)  # more than one batch
    net[0].bias.data -= 0.4
    labels = torch.zeros(270, dtype=torch.int64)
    module = MAPS[name].fit(x, labels, net, SHAPE, seed=3)
    k = examples.predicted(net, x)
    assert not torch.equal(k, labels)
    seen = MAPS[name].build(SHAPE, copy.deepcopy(net).requires_grad_(False)).raw(x, k).numpy().ravel()
    values = np.sort(seen[seen > 0])
    assert float(module.scale) == pytest.approx(float(values[int(0.99 * (len(values) - 1))]), rel=1e-5)
    drawn = module(x, k)["map"].numpy().ravel()
    np.testing.assert_allclose(drawn, np.minimum(seen / float(module.scale), 1), atol=1e-5)
    assert 0 < (drawn == 1).mean() < 0.011


def test_values_that_are_zero_do_not_count() -> None:
    """Half of the image is black, and gradient times image is 0 there: the scale is that of the other half."""
    net, (x, k) = examples.conv(SHAPE), some(60, torch.float32)
    x[..., 5:] = 0
    whole = GradientInput().fit(x, k, net, SHAPE, seed=0)
    seen = whole.raw(x, examples.predicted(net, x)).flatten()
    assert float((seen == 0).double().mean()) > 0.4
    assert float(whole.scale) == pytest.approx(float(seen[seen > 0].quantile(0.99)), rel=0.02)
    assert float(whole.scale) > 1.05 * float(seen.quantile(0.99))


@EVERY
def test_labels_and_seed_are_not_used(name: str) -> None:
    net, (x, k) = examples.conv(SHAPE), some(20, torch.float32)
    first = fingerprint(MAPS[name].fit(x, k, net, SHAPE, seed=0))
    assert fingerprint(MAPS[name].fit(x, (k + 1) % 4, net, SHAPE, seed=9)) == first
    assert fingerprint(MAPS[name].fit(x / 2, k, net, SHAPE, seed=0)) != first


# --- graphs ------------------------------------------------------------------------------------------------------


def half_smooth() -> nn.Sequential:
    """A tanh, so that gradients have a slope, and a ReLU, so that one of them can be guided."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        layers = [nn.Conv2d(3, 5, 3, 1, 1), nn.Tanh(), nn.Conv2d(5, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(80, 4)]
        net = nn.Sequential(*layers).double()
        for p in net.parameters():
            p.data *= 3
    return net.requires_grad_(False)


@EVERY
def test_gradient_in_the_image_through_the_map_matches_finite_differences(name: str) -> None:
    net, (x, k) = half_smooth(), some(3)
    module = MAPS[name].build(SHAPE, net)
    module.scale.fill_(2 * float(module.raw(x, k).max()))  # nothing is cut
    weights = torch.rand(3, 1, 8, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def total(v: Tensor) -> Tensor:
        found: Tensor = (module(v, k)["map"] * weights).sum()
        return found

    here = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(total(here), here)
    assert float(gradient.flatten(1).norm(dim=1).min()) > 1e-6
    g = torch.Generator().manual_seed(1)
    for _ in range(3):
        d = torch.randn(x.shape, generator=g, dtype=torch.float64)
        slope = float(total(x + 1e-7 * d) - total(x - 1e-7 * d)) / 2e-7
        assert float((gradient * d).sum()) == pytest.approx(slope, rel=1e-4, abs=1e-7)


@EVERY
def test_evidence_takes_it_as_its_saliency_model(name: str) -> None:
    net, (x, _) = half_smooth(), some(4)
    module = MAPS[name].fit(x, torch.zeros(4, dtype=torch.int64), net, SHAPE, seed=0)
    look = Evidence(net, module, x)
    assert torch.equal(look.map, module(x, net(x).argmax(1))["map"]) and not look.map.requires_grad
    assert Evidence(net, module, x.clone().requires_grad_()).map.requires_grad
    with pytest.raises(UsageError, match="GradientMaps gives no class_presence, only map"):
        _ = look.class_presence


# --- the classifier is left as found -----------------------------------------------------------------------------


def state(net: nn.Module) -> list[Any]:
    modules = [(n, m.training, sorted(vars(m)), len(m._forward_hooks), len(m._backward_hooks)) for n, m in net.named_modules()]
    flags = [(n, p.requires_grad, None if p.grad is None else p.grad.tolist()) for n, p in net.named_parameters()]
    return [modules, flags, {k: v.tolist() for k, v in net.state_dict().items()}]


@EVERY
def test_fit_looks_at_a_frozen_copy(name: str) -> None:
    net, (x, k) = examples.conv(SHAPE).train(), some(20, torch.float32)
    net[1].eval()
    net[0].weight.requires_grad_(False)
    net[6].weight.grad = torch.full_like(net[6].weight, 0.25)
    before = state(net)
    module = MAPS[name].fit(x, k, net, SHAPE, seed=0)
    module(x, k)
    assert state(net) == before
    assert not any(m.training for m in module.modules()) and not any(p.requires_grad for p in module.parameters())
    mine = fingerprint(module)
    net[6].weight.data += 1
    assert fingerprint(module) == mine


@EVERY
def test_a_map_leaves_the_classifier_inside_as_found_also_after_an_exception(name: str) -> None:
    net, (x, k) = examples.conv(SHAPE), some(4, torch.float32)
    module = MAPS[name].build(SHAPE, net)
    before = state(module)
    first = net(x)
    module(x, k)
    assert state(module) == before and torch.equal(net(x), first)
    assert x.grad is None and not x.requires_grad

    def fail(*_: Any) -> None:
        raise RuntimeError("no pass today")

    handle = net[5].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="no pass today"):
        module(x, k)
    handle.remove()
    assert state(module) == before


def test_guided_refuses_a_classifier_whose_relus_cannot_be_reached() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(240, 4)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.layer(x.flatten(1)))

    x, k = some(4, torch.float32)
    for net in (Functional(), examples.conv(SHAPE, smooth=True)):
        with pytest.raises(UsageError, match=f"replaces nn.ReLU modules; {type(net).__name__} has none"):
            GuidedBackprop().fit(x, k, net, SHAPE, seed=0)
        assert Gradient().fit(x, k, net, SHAPE, seed=0)(x, k)["map"].shape == (4, 1, 8, 10)


@EVERY
def test_needs_one_classifier(name: str) -> None:
    for parts in ((), (examples.conv(SHAPE), examples.conv(SHAPE))):
        with pytest.raises(UsageError, match=f"{type(MAPS[name]).__name__} maps .* found {len(parts)} classifiers"):
            MAPS[name].build(SHAPE, *parts)


def test_refuses_the_gradient_of_anything_else() -> None:
    with pytest.raises(UsageError, match="'logit' or 'prob'; found 'loss'"):
        Gradient("loss")  # type: ignore[arg-type]


# --- the U-Net's encoder, handed in ------------------------------------------------------------------------------


@pytest.mark.parametrize("epochs", [0, 2])
def test_a_trained_encoder_gives_the_very_same_model(epochs: int) -> None:
    settings = UNet(encoder=ENCODER, epochs=epochs, selector_epochs=2, batch=16, selector_batch=16)
    x, k = some(48, torch.float32)
    net = examples.conv(SHAPE)
    encoder = settings.encoder.fit(x, k, SHAPE, seed=4)
    before = fingerprint(encoder)
    handed, inside = settings.fit(x, k, net, SHAPE, encoder, seed=4), settings.fit(x, k, net, SHAPE, seed=4)
    assert fingerprint(handed) == fingerprint(inside)
    assert fingerprint(encoder) == before == fingerprint(handed.encoder) and handed.encoder is not encoder
    another = settings.fit(x, k, net, SHAPE, settings.encoder.fit(x, k, SHAPE, seed=5), seed=4)
    assert fingerprint(another.encoder) != before


def test_no_epochs_leave_the_decoder_as_drawn() -> None:
    settings = UNet(encoder=ENCODER, epochs=0, selector_epochs=3, batch=16, selector_batch=16)
    x, k = some(48, torch.float32)
    found = settings.fit(x, k, examples.conv(SHAPE), SHAPE, seed=4)
    with seeded(4):
        drawn = settings.build(SHAPE)
    assert fingerprint(found.decoder) == fingerprint(drawn.decoder)
    assert fingerprint(found.encoder) != fingerprint(drawn.encoder) and fingerprint(found.selector) != fingerprint(drawn.selector)
    curves: Any = facts_of(found)["learning_curves"]
    assert curves["decoder"] == [] and len(curves["selector"]) == 3
    with torch.no_grad():
        assert float(found(x, k)["map"].std()) > 1e-4
