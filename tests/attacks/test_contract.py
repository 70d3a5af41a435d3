"""What every entry of ATTACKS owes: shape, range, budget, one image at a time, and a model left as it was found."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from salientry.classifiers import External
from salientry.errors import UsageError
from salientry.types import Attack, Shape

from .. import examples
from ..surroundings import LAYOUTS, MODES

NO_GRADIENT = ("hop_skip_jump", "spatial", "square", "square_l2")  # they read logits alone

pytestmark = pytest.mark.parametrize("name", sorted(examples.attacks()))


def attack(name: str) -> Attack:
    return examples.attacks()[name]


def everything_about(net: nn.Module) -> list[Any]:
    """Mode, flags, gradients, weights, buffers, hooks and instance attributes of a network, to be compared."""
    modules = [(n, m.training, sorted(set(vars(m)) - {"training"})) for n, m in net.named_modules()]
    hooks = [len(h) for m in net.modules() for h in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks, m._backward_pre_hooks)]
    flags = [(n, p.requires_grad, None if p.grad is None else p.grad.tolist(), p._backward_hooks) for n, p in net.named_parameters()]
    return [modules, hooks, flags, {k: v.tolist() for k, v in net.state_dict().items()}]


def untidy(shape: Shape) -> nn.Sequential:
    """A classifier in a state that nobody would expect: half in train mode, some weights frozen, left-over gradients."""
    net = examples.conv(shape).train()
    net[1].eval()
    net[2].train()
    net[0].weight.requires_grad_(False)
    for p in list(net.parameters())[2:4]:
        p.grad = torch.full_like(p, 0.25)
    return net


class Fails(nn.Module):
    """A classifier that raises in its forward or in its backward pass, from the given call on."""

    def __init__(self, net: nn.Module, where: str, call: int) -> None:
        super().__init__()
        self.net, self.where, self.left = net, where, call

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.net(x)
        if self.where == "forward":
            self.left -= 1
            if self.left < 0:
                raise RuntimeError("no forward pass today")
        elif z.requires_grad:

            def no(_: Tensor) -> Tensor:
                raise RuntimeError("no backward pass today")

            z.register_hook(no)
        return z


def passes(name: str, net: nn.Module, x: Tensor, y: Tensor) -> int:
    """How many forward passes the attack makes."""
    seen: list[int] = []
    handle = net.register_forward_hook(lambda m, i, o: seen.append(len(o)))
    attack(name)(net, x, y, seeds=examples.seeds(len(x)))
    handle.remove()
    return len(seen)


def test_output_is_a_batch_of_images(name: str, shape: Shape, classifier: nn.Module) -> None:
    """In the float type of the network's weights."""
    for dtype in (torch.float32, torch.float64):
        x = examples.images(shape, 9, dtype=dtype)
        net = copy.deepcopy(classifier).to(dtype)
        out = attack(name)(net, x, examples.predicted(net, x), seeds=examples.seeds(9))
        assert out.shape == x.shape
        assert out.dtype == dtype
        assert not out.requires_grad
        assert float(out.min()) >= 0 and float(out.max()) <= 1
        assert bool((out != x).any())


def test_it_fools_a_classifier_that_can_be_fooled(name: str, shape: Shape, classifier: nn.Module) -> None:
    x = examples.images(shape, 60)
    y = examples.predicted(classifier, x)
    fooled = examples.predicted(classifier, attack(name)(classifier, x, y, seeds=examples.seeds(60))) != y
    assert float(fooled.float().mean()) > 0.8


def test_eps_is_an_linf_budget(name: str, shape: Shape, classifier: nn.Module) -> None:
    a = attack(name)
    if a.eps is None:
        pytest.skip("it has no Linf budget")
    x = examples.images(shape, 20)
    out = a(classifier, x, examples.predicted(classifier, x), seeds=examples.seeds(20))
    assert 0 < float((out - x).abs().max()) <= a.eps + 1e-6


def test_classifier_is_left_as_found(name: str, shape: Shape) -> None:
    net = untidy(shape)
    x = examples.images(shape, 5)
    before = everything_about(net)
    attack(name)(net, x, torch.zeros(5, dtype=torch.int64), seeds=examples.seeds(5))
    assert everything_about(net) == before


@pytest.mark.parametrize(("where", "call"), [("forward", 0), ("forward", 1), ("backward", 0)])
def test_classifier_is_left_as_found_when_it_raises(name: str, shape: Shape, where: str, call: int) -> None:
    net = untidy(shape)
    failing = Fails(net, where, call)
    x = examples.images(shape, 5)
    y = examples.predicted(copy.deepcopy(net).eval(), x)
    before = everything_about(net)
    if where == "backward" and name in NO_GRADIENT:
        pytest.skip("it makes no backward pass")
    if where == "forward" and passes(name, net, x, y) <= call:
        pytest.skip("it makes one pass only")
    with pytest.raises(RuntimeError, match=f"no {where} pass"):
        attack(name)(failing, x, y, seeds=examples.seeds(5))
    assert everything_about(net) == before
    assert failing.training


def test_attacks_the_classifier_in_eval_mode(name: str, shape: Shape) -> None:
    net = examples.conv(shape)
    x = examples.images(shape, 6)
    y = examples.predicted(net, x)
    quiet = attack(name)(net, x, y, seeds=examples.seeds(6))
    assert torch.equal(attack(name)(net.train(), x, y, seeds=examples.seeds(6)), quiet)
    with torch.no_grad():
        assert torch.equal(attack(name)(net, x, y, seeds=examples.seeds(6)), quiet)


def test_input_is_not_touched(name: str, shape: Shape, classifier: nn.Module) -> None:
    x = examples.images(shape, 5).requires_grad_()
    y, s = examples.predicted(classifier, x), examples.seeds(5)
    before = x.detach().clone(), y.clone(), s.clone()
    out = attack(name)(classifier, x, y, seeds=s)
    assert not out.requires_grad and x.grad is None
    assert out.data_ptr() != x.data_ptr()
    assert torch.equal(x.detach(), before[0]) and torch.equal(y, before[1]) and torch.equal(s, before[2])


def test_same_seeds_same_bytes(name: str, shape: Shape, classifier: nn.Module) -> None:
    x = examples.images(shape, 12)
    y, s = examples.predicted(classifier, x), examples.seeds(12)
    torch.manual_seed(1)
    first = attack(name)(classifier, x, y, seeds=s)
    torch.manual_seed(2)
    assert torch.equal(attack(name)(classifier, x, y, seeds=s), first)


def test_neighbours_and_order_do_not_matter_in_float64(name: str, shape: Shape) -> None:
    net = examples.conv(shape, dtype=torch.float64)
    x = examples.images(shape, 16, dtype=torch.float64)
    y, s = examples.predicted(net, x), examples.seeds(16)
    whole = attack(name)(net, x, y, seeds=s)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(3))
    permuted = attack(name)(net, x[order], y[order], seeds=s[order])
    assert float((permuted - whole[order]).abs().max()) <= 1e-9
    pieces = [attack(name)(net, x[a:b], y[a:b], seeds=s[a:b]) for a, b in ((0, 1), (1, 6), (6, 16))]
    assert float((torch.cat(pieces) - whole).abs().max()) <= 1e-9


def test_neighbours_hardly_matter_in_float32(name: str) -> None:
    shape = examples.SHAPES["grey"]
    net = examples.conv(shape)
    x = examples.images(shape, 400)
    y, s = examples.predicted(net, x), examples.seeds(400)
    order = torch.randperm(400, generator=torch.Generator().manual_seed(3))
    whole = attack(name)(net, x, y, seeds=s)[order]
    pieces = torch.cat([attack(name)(net, x[at], y[at], seeds=s[at]) for at in order.split(37)])
    success = [examples.predicted(net, v) != y[order] for v in (whole, pieces)]
    assert float((success[0] == success[1]).float().mean()) >= 0.995
    norm = [(v - x[order]).flatten(1).norm(dim=1).median() for v in (whole, pieces)]
    assert float((norm[0] - norm[1]).abs() / norm[0]) <= 1e-3


def test_black_and_white_pixels_can_move(name: str, shape: Shape, classifier: nn.Module) -> None:
    for value in (0.0, 1.0):
        x = torch.full((4, shape.channels, shape.height, shape.width), value)
        y = examples.predicted(classifier, x)
        out = attack(name)(classifier, x, y, seeds=examples.seeds(4))
        moved = (out - x).abs().flatten(1).amax(1)
        if (name, value) in (("jsma", 1), ("spatial", 0)):  # it only brightens; nothing moves where all is black
            assert torch.equal(out, x)
            continue
        assert float(moved.min()) > 1e-3


def test_only_differences_of_logits_matter(name: str, shape: Shape) -> None:
    net = examples.conv(shape, dtype=torch.float64)
    x = examples.images(shape, 8, dtype=torch.float64)
    y, s = examples.predicted(net, x), examples.seeds(8)
    plain = attack(name)(net, x, y, seeds=s)
    for shift in (-100.0, 100.0):
        lowered = copy.deepcopy(net)
        lowered[-1].bias.data += shift
        assert bool((lowered(x) * shift > 0).all())
        assert float((attack(name)(lowered, x, y, seeds=s) - plain).abs().max()) <= 1e-9


@pytest.mark.parametrize("bad", ["int32", "above", "below", "nan", "three", "list"])
def test_refuses_what_is_no_batch_of_images(name: str, bad: str, shape: Shape, classifier: nn.Module) -> None:
    good = examples.images(shape, 3)
    x: Any = {
        "int32": (good * 255).to(torch.int32),
        "above": good * 255,
        "below": good - 0.5,
        "nan": good.where(good > 0, torch.tensor(float("nan"))),
        "three": good[0],
        "list": good.tolist(),
    }[bad]
    with pytest.raises(UsageError, match="images must"):
        attack(name)(classifier, x, torch.zeros(3, dtype=torch.int64), seeds=examples.seeds(3))


def test_no_gradient_gives_a_valid_image(name: str, shape: Shape) -> None:
    flat = examples.affine(shape, dtype=torch.float32)
    flat[1].weight.data.zero_()
    x = examples.images(shape, 4)
    y = examples.predicted(flat, x)
    out = attack(name)(flat, x, y, seeds=examples.seeds(4))
    assert bool(torch.isfinite(out).all()) and float(out.min()) >= 0 and float(out.max()) <= 1


def test_images_that_left_their_label_already_are_valid(name: str, shape: Shape, classifier: nn.Module) -> None:
    x = examples.images(shape, 8)
    y = (examples.predicted(classifier, x) + 1) % shape.classes
    mixed = torch.cat([y[:4], examples.predicted(classifier, x)[4:]])
    out = attack(name)(classifier, x, mixed, seeds=examples.seeds(8))
    assert bool(torch.isfinite(out).all()) and float(out.min()) >= 0 and float(out.max()) <= 1
    assert bool((examples.predicted(classifier, out)[:4] != y[:4]).all())


def test_batches_of_one_and_of_none(name: str, shape: Shape) -> None:
    net = examples.conv(shape, dtype=torch.float64)
    x = examples.images(shape, 3, dtype=torch.float64)
    y, s = examples.predicted(net, x), examples.seeds(3)
    whole = attack(name)(net, x, y, seeds=s)
    one = attack(name)(net, x[1:2], y[1:2], seeds=s[1:2])
    assert one.shape == x[1:2].shape and torch.allclose(one, whole[1:2], rtol=0, atol=1e-9)
    none = attack(name)(net, x[:0], y[:0], seeds=s[:0])
    assert none.shape == x[:0].shape and none.dtype == x.dtype


# --- whatever people have ----------------------------------------------------------------------------------------


def test_memory_does_not_matter(name: str, shape: Shape, classifier: nn.Module) -> None:
    x = examples.images(shape, 12)
    y, s = examples.predicted(classifier, x), examples.seeds(12)
    plain = attack(name)(classifier, x, y, seeds=s)
    assert bool((examples.predicted(classifier, plain) != y).any())
    for layout, make in LAYOUTS.items():
        other = make(x)
        assert torch.equal(attack(name)(classifier, other, y, seeds=s), plain), layout
        assert torch.equal(other.detach(), x), layout


def test_one_image_expanded_to_a_batch(name: str, shape: Shape, classifier: nn.Module) -> None:
    x = examples.images(shape, 1)
    y, s = examples.predicted(classifier, x).expand(5), examples.seeds(5)
    plain = attack(name)(classifier, x.repeat(5, 1, 1, 1), y.clone(), seeds=s)
    assert torch.equal(attack(name)(classifier, x.expand(5, -1, -1, -1), y, seeds=s), plain)


def test_modes_around_it_do_not_matter(name: str, shape: Shape, classifier: nn.Module) -> None:
    x = examples.images(shape, 8)
    y, s = examples.predicted(classifier, x), examples.seeds(8)
    plain = attack(name)(classifier, x, y, seeds=s)
    for mode, around in MODES.items():
        with around():
            inside = attack(name)(classifier, x.clone(), y.clone(), seeds=s.clone())
        assert inside.dtype == torch.float32 and not inside.is_inference() and torch.equal(inside, plain), mode


def test_images_and_labels_of_other_types(name: str, shape: Shape, classifier: nn.Module) -> None:
    raw = (examples.images(shape, 6) * 255).round().to(torch.uint8)
    x, s = raw.float() / 255, examples.seeds(6)
    y = examples.predicted(classifier, x)
    plain = attack(name)(classifier, x, y, seeds=s)
    for images in (raw, x.double()):
        found = attack(name)(classifier, images, y, seeds=s)
        assert found.dtype == torch.float32 and torch.equal(found, plain)
    half = attack(name)(classifier, x.half(), y, seeds=s)
    assert torch.equal(half, attack(name)(classifier, x.half().float(), y, seeds=s))
    for labels in (y.int(), y.short(), y.to(torch.uint8), nn.functional.one_hot(y, shape.classes)):
        assert torch.equal(attack(name)(classifier, x, labels, seeds=s), plain)


def test_labels_that_cannot_be_meant_are_refused_in_one_way(name: str, shape: Shape, classifier: nn.Module) -> None:
    x, y, s = examples.images(shape, 4), torch.zeros(4, dtype=torch.int64), examples.seeds(4)
    for labels, message in (
        (y.float(), "labels must be int64 of shape"),
        (y[:3], "labels must be int64 of shape"),
        (y - 1, r"labels must lie in \[0, K\); found \[-1, -1\]"),
        (y + shape.classes, rf"labels must lie in \[0, {shape.classes}\); found"),
        (torch.full((4, shape.classes), 0.2), "labels .* must be one-hot"),
    ):
        with pytest.raises(UsageError, match=message):
            attack(name)(classifier, x, labels, seeds=s)
    with pytest.raises(UsageError, match="seeds must be int64 of shape"):
        attack(name)(classifier, x, y, seeds=s[:3])


def test_the_graph_of_the_caller_is_left_alone(name: str, shape: Shape, classifier: nn.Module) -> None:
    x = examples.images(shape, 4)
    y, s = examples.predicted(classifier, x), examples.seeds(4)
    leaf = x.clone().requires_grad_()
    inner = leaf * 1
    z = classifier(inner)
    out = attack(name)(classifier, inner, y, seeds=s)
    assert torch.equal(out, attack(name)(classifier, x, y, seeds=s)) and not out.requires_grad
    assert leaf.grad is None and all(p.grad is None for p in classifier.parameters())
    z.sum().backward()  # the graph is still there, and nothing was added to it
    assert torch.equal(leaf.grad, torch.autograd.grad(classifier(leaf).sum(), leaf)[0])  # type: ignore[arg-type]


class Opaque(nn.Module):
    """A network whose answers have no gradient."""

    def __init__(self, net: nn.Module, how: str) -> None:
        super().__init__()
        self.net, self.how = net, how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "elsewhere":  # as an ONNX session or NumPy
            return torch.from_numpy(self.net(x.detach()).detach().numpy())
        if self.how == "no_grad":
            with torch.no_grad():
                return self.net(x)  # type: ignore[no-any-return]
        return self.net(x.detach_())  # type: ignore[no-any-return]


@pytest.mark.parametrize("how", ["elsewhere", "no_grad", "detached in place"])
def test_a_network_without_a_gradient_is_reported_with_the_way_out(name: str, how: str) -> None:
    shape = examples.SHAPES["odd"]
    classifier, x = examples.conv(shape), examples.images(shape, 4)
    y = examples.predicted(classifier, x)
    if name in NO_GRADIENT:
        plain = attack(name)(classifier, x, y, seeds=examples.seeds(4))
        assert torch.equal(attack(name)(Opaque(classifier, how), x, y, seeds=examples.seeds(4)), plain)
        return
    with pytest.raises(UsageError, match=r"needs the gradient of the logits .* gives none .* that PyTorch can differentiate"):
        attack(name)(Opaque(classifier, how), x, y, seeds=examples.seeds(4))


def test_a_network_may_work_in_place(name: str, shape: Shape, classifier: nn.Module) -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = classifier

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.sub_(0.5).mul_(2).mul_(0.5).add_(0.5))  # type: ignore[no-any-return]

    x = (examples.images(shape, 4) * 8).round() / 8  # those sums are exact
    y, s = examples.predicted(classifier, x), examples.seeds(4)
    before = x.clone()
    found = attack(name)(InPlace(), x, y, seeds=s)
    assert torch.equal(x, before)
    if name in ("fgsm", "bim", "mim", "patch", "pgd"):  # later steps leave the grid
        assert float((found - attack(name)(classifier, x, y, seeds=s)).abs().max()) < 1e-5
    assert bool((examples.predicted(classifier, found) != y).any())


def test_the_classifier_is_not_touched_while_it_is_attacked(name: str, shape: Shape) -> None:
    """Another thread that trains it, or attacks it too, sees nothing."""
    net = untidy(shape)
    x, held, seen = examples.images(shape, 5), [net], []
    before = everything_about(net)
    seen.append(before)

    class Watching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            seen.append(everything_about(held[0]))
            return self.net(x)  # type: ignore[no-any-return]

    attack(name)(Watching(), x, torch.zeros(5, dtype=torch.int64), seeds=examples.seeds(5))
    assert len(seen) > 1 and all(state == before for state in seen)


def test_threads_may_attack_one_classifier(name: str) -> None:
    shape = examples.SHAPES["grey"]
    net, x, s = untidy(shape), examples.images(shape, 6), examples.seeds(6)
    y = examples.predicted(copy.deepcopy(net).eval(), x)
    before, alone = everything_about(net), attack(name)(net, x, y, seeds=s)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: attack(name)(net, x, y, seeds=s), range(12)))
    assert all(torch.equal(f, alone) for f in found)
    assert everything_about(net) == before


def test_answers_that_are_no_logits_are_refused(name: str, shape: Shape) -> None:
    x, y, s = examples.images(shape, 4), torch.zeros(4, dtype=torch.int64), examples.seeds(4)
    one, broken = examples.conv(replace(shape, classes=1)), examples.conv(shape)
    broken[-1].bias.data[0] = float("nan")
    for net, message in (
        (nn.Identity(), r"should give logits \(N, K\), K >= 2; it gave"),
        (one, r"should give logits \(N, K\), K >= 2; it gave \(4, 1\) for 4 images: wrap it in External"),
        (broken, "logits that are not finite"),
        (nn.Sequential(examples.conv(shape), nn.Softmax(1)), r"gives softmax probabilities .* logits are needed.*trust_output=True"),
    ):
        with pytest.raises(UsageError, match=message):
            attack(name)(net, x, y, seeds=s)


def test_probabilities_that_are_meant_are_attacked(name: str, shape: Shape) -> None:
    net = External(nn.Sequential(examples.conv(shape), nn.Softmax(1)), trust_output=True)
    x = examples.images(shape, 6)
    y = examples.predicted(net, x)
    assert bool((examples.predicted(net, attack(name)(net, x, y, seeds=examples.seeds(6))) != y).any())
