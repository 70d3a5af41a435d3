from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from salientry.attacks import CW_FAST, CW_REDUCED, CarliniWagner
from salientry.errors import UsageError
from salientry.types import Shape

from .. import examples
from .counting import passes

Floats = NDArray[np.float64]


def one_image(net: nn.Module, x: Floats, y: int, a: CarliniWagner) -> tuple[Floats, list[list[bool]]]:
    """The loop of cleverhans 3.0.1 on a batch of one, in numpy; and for each forward pass of each search step whether the logits' loss
    has a slope there.
    """

    def logits_and_gradients(image: Floats) -> tuple[Floats, Floats]:
        here = torch.from_numpy(image)[None].requires_grad_()
        z = net(here)[0]
        rows = [torch.autograd.grad(z[k], here, retain_graph=True)[0][0].numpy() for k in range(len(z))]
        return z.detach().numpy(), np.stack(rows)

    w0 = np.arctanh((x * 2 - 1) * 0.999999)
    reference = (np.tanh(w0) + 1) / 2
    lower, const, upper = 0.0, a.initial_const, 1e10
    o_best_l2, o_best, taken = 1e10, x.copy(), []
    for _ in range(a.search_steps):
        delta, m, v = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
        hit, prev, forward = False, 1e6, list[bool]()
        for iteration in range(a.steps):
            image = (np.tanh(w0 + delta) + 1) / 2
            z, gradients = logits_and_gradients(image)
            l2 = float(((image - reference) ** 2).sum())
            rest = np.delete(np.arange(len(z)), y)
            other = rest[np.argmax(z[rest])]
            hinge = max(0.0, z[y] - z[other] + a.confidence)
            forward.append(hinge > 0)
            loss = l2 + const * hinge
            if a.abort_early and iteration % ((a.steps // 10) or 1) == 0:
                if loss > prev * 0.9999:
                    break
                prev = loss
            shifted = z.copy()
            shifted[y] += a.confidence
            if np.argmax(shifted) != y:
                hit = True
                if l2 < o_best_l2:
                    o_best_l2, o_best = l2, image
            g = 2 * (image - reference) + (const * (gradients[y] - gradients[other]) if hinge > 0 else 0)
            g = g * (1 - np.tanh(w0 + delta) ** 2) / 2
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            delta = delta - a.lr * (m / (1 - 0.9 ** (iteration + 1))) / (np.sqrt(v / (1 - 0.999 ** (iteration + 1))) + 1e-8)
        taken.append(forward)
        if hit:
            upper = min(upper, const)
            const = (lower + upper) / 2
        else:
            lower = max(lower, const)
            const = (lower + upper) / 2 if upper < 1e9 else const * 10
    return o_best, taken


SETTINGS = [
    CarliniWagner(search_steps=3, steps=40, lr=0.03, initial_const=0.1),
    CarliniWagner(search_steps=5, steps=25, lr=0.03, initial_const=0.002, confidence=0.3),
    CarliniWagner(search_steps=2, steps=7, lr=0.3, initial_const=5.0),
    CarliniWagner(search_steps=3, steps=30, lr=0.03, initial_const=0.3, abort_early=False),
    CarliniWagner(search_steps=2, steps=60, lr=0.03, initial_const=0.05),
]


def some(n: int = 10) -> tuple[nn.Sequential, Tensor, Tensor, Tensor]:
    shape = examples.SHAPES["colour"]
    net, x = examples.conv(shape, smooth=True, dtype=torch.float64), examples.images(shape, n, dtype=torch.float64)
    return net, x, examples.predicted(net, x), examples.seeds(n)


@pytest.mark.parametrize("a", SETTINGS, ids=str)
def test_equals_the_loop_of_cleverhans_and_costs_what_its_docstring_says(a: CarliniWagner) -> None:
    net, x, y, s = some()
    with passes(net) as together:
        found = a(net, x, y, seeds=s).numpy()
    expected = [one_image(net, i, int(k), a) for i, k in zip(x.numpy(), y, strict=True)]
    np.testing.assert_allclose(found, np.stack([e for e, _ in expected]), rtol=0, atol=1e-7)
    sloped = [taken for _, taken in expected]
    assert together == {"forward": sum(len(f) for taken in sloped for f in taken), "backward": passes_back(sloped, a)}
    assert together["backward"] < together["forward"]
    for i in range(2):
        with passes(net) as alone:
            a(net, x[i : i + 1], y[i : i + 1], seeds=s[i : i + 1])
        assert alone == {"forward": sum(map(len, sloped[i])), "backward": passes_back([sloped[i]], a)}


def passes_back(sloped: list[list[list[bool]]], a: CarliniWagner) -> int:
    """Backward passes of images together: of all that are there at a step, unless it is the last, or no image has a slope there, or none
    goes on after it.
    """
    found = 0
    for s in range(a.search_steps):
        for k in range(a.steps - 1):
            there = [taken[s] for taken in sloped if len(taken[s]) > k]
            if any(len(f) > k + 1 for f in there) and any(f[k] for f in there):
                found += len(there)
    return found


def test_an_image_beyond_its_label_takes_no_backward_pass() -> None:
    """Half of the steps and more, where the distance alone is left to descend."""
    net, x, y, s = some(1)
    a = CarliniWagner(search_steps=1, steps=40, lr=0.03, initial_const=5.0, abort_early=False)
    flat = one_image(net, x[0].numpy(), int(y), a)[1][0].count(False)
    with passes(net) as found:
        a(net, x, y, seeds=s)
    assert flat > 10
    assert found == {"forward": 40, "backward": 40 - flat - (1 if one_image(net, x[0].numpy(), int(y), a)[1][0][-1] else 0)}


def test_the_loops_differ_where_they_should() -> None:
    """The settings above reach what they are meant to: stopped images beside others, failures, successes, both bisections."""
    net, x, y, _ = some()
    taken = [one_image(net, i, int(k), SETTINGS[4])[1] for i, k in zip(x.numpy(), y, strict=True)]
    assert len({len(f[0]) for f in taken}) > 1
    failed = [np.array_equal(one_image(net, i, int(k), SETTINGS[2])[0], i) for i, k in zip(x.numpy(), y, strict=True)]
    assert 0 < sum(failed) < len(failed)


@pytest.mark.parametrize("a", [SETTINGS[0], SETTINGS[4]], ids=str)
def test_an_image_is_the_same_among_easy_and_among_hard_neighbours(a: CarliniWagner) -> None:
    """A stop on the batch's summed loss (foolbox, torchattacks) makes this fail."""
    net, x, y, s = some(12)
    alone = a(net, x[:2], y[:2], seeds=s[:2])
    left = (y[2:] + 1) % 5  # these are done before they begin
    for others in (y[2:], left):
        together = a(net, x, torch.cat([y[:2], others]), seeds=s)
        assert float((together[:2] - alone).abs().max()) <= 1e-9


def test_pixels_of_exactly_zero_and_exactly_one_move() -> None:
    """Clamping to exactly +-1 before atanh (torchattacks) freezes them."""
    net = examples.affine(Shape(1, 4, 4, 3))
    for value in (0.0, 1.0):
        x = torch.full((1, 1, 4, 4), value, dtype=torch.float64)
        y = examples.predicted(net, x)
        out = CarliniWagner(steps=300, lr=0.1, initial_const=10.0)(net, x, y, seeds=examples.seeds(1))
        assert bool((examples.predicted(net, out) != y).all())
        assert float((out - x).abs().max()) > 0.05


def test_a_margin_is_a_margin_when_all_logits_are_negative() -> None:
    """Masking with 0 (torchattacks issue 184) takes 0 for the largest other logit, and nothing would ever be pushed down to it."""
    net, x, y, s = some()
    plain = SETTINGS[0](net, x, y, seeds=s)
    net[-1].bias.data -= 1000
    assert bool((net(x) < 0).all())
    lowered = SETTINGS[0](net, x, y, seeds=s)
    assert bool((examples.predicted(net, lowered) != y).all())
    assert torch.allclose(lowered, plain, rtol=0, atol=1e-7)


def test_comes_back_unchanged_where_nothing_fooled() -> None:
    net, x, y, s = some()
    assert torch.equal(CarliniWagner(search_steps=1, steps=5, initial_const=1e-6)(net, x, y, seeds=s), x)


def test_what_had_left_its_label_moves_by_the_round_trip_only() -> None:
    net, x, y, s = some()
    out = SETTINGS[0](net, x, (y + 1) % 5, seeds=s)
    assert 0 < float((out - x).abs().max()) < 1e-6


def test_confidence_is_a_margin_of_the_logits() -> None:
    net, x, y, s = some()
    for confidence in (0.0, 0.5):
        out = CarliniWagner(steps=100, lr=0.05, initial_const=1.0, confidence=confidence)(net, x, y, seeds=s)
        z = net(out).detach()
        margin = z.scatter(1, y[:, None], float("-inf")).amax(1) - z.gather(1, y[:, None])[:, 0]
        assert float(margin.min()) >= confidence - 1e-12
        assert float(margin.max()) < confidence + 0.2


@pytest.mark.parametrize(
    ("a", "scale", "bound"),
    [
        (CW_REDUCED, 0.1, 1.2),
        (CW_FAST, 0.1, 1.3),
        (CarliniWagner(search_steps=6, steps=400, lr=5e-3, confidence=0.4), 1.0, 1.03),
    ],
    ids=str,
)
def test_confidence_moves_the_closed_form(a: CarliniWagner, scale: float, bound: float) -> None:
    """The nearest hyperplane is ``confidence`` further; ``scale`` gives the reduced settings weights like those of real nets."""
    net = examples.affine(Shape(1, 6, 6, 3))
    net[1].weight.data -= net[1].weight.data.mean(1, keepdim=True)
    net[1].weight.data *= scale
    net[1].bias.data.zero_()
    x = 0.2 + 0.6 * torch.rand(30, 1, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    z = net(x).detach()
    y, w = z.argmax(1), net[1].weight.detach()
    gap = (z.gather(1, y[:, None]) - z + a.confidence).scatter(1, y[:, None], float("inf"))
    optimum = (gap / (w[y][:, None] - w[None]).norm(dim=2)).amin(1)
    near = optimum < 0.5
    assert int(near.sum()) > 15
    out = a(net, x[near], y[near], seeds=examples.seeds(int(near.sum())))
    ratio = (out - x[near]).flatten(1).norm(dim=1) / optimum[near]
    assert float(ratio.min()) >= 1 - 1e-9 and float(ratio.max()) < bound


@pytest.mark.parametrize("bad", [{"search_steps": 0}, {"steps": 0}, {"lr": 0.0}, {"initial_const": 0.0}, {"confidence": -1.0}])
def test_refuses_settings_that_cannot_be(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(bad))} must lie in"):
        CarliniWagner(**bad)
