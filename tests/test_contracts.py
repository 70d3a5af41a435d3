from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chisquare, kstest
from torch import Tensor, nn

from salientry.attacks import FGSM
from salientry.classifiers import CompactCNN, External
from salientry.contracts import (
    DEVICE,
    PROGRESS,
    Batch,
    RowImages,
    Shape,
    device_of,
    facts_of,
    fingerprint,
    frozen,
    image_ids,
    image_seeds,
    made,
    origin,
    rebuilt,
    seeded,
    shape_of,
    ticking,
    uniform,
    with_facts,
)
from salientry.detectors import ID, SMD, Margin2, SmallCNN
from salientry.errors import DataDamaged
from salientry.keys import encode
from salientry.saliency import SimpleClassifier, UNet
from salientry.store import Rows

SHAPE = Shape(1, 8, 8, 3)

# --- identity ----------------------------------------------------------------------------------------------------


def pixels(n: int = 6, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, 3, 4, 5), np.uint8)


def test_an_id_is_the_hash_of_the_pixels() -> None:
    images = pixels()
    ids = image_ids(images)
    assert ids.dtype == "<U16" and ids.shape == (6,)
    assert ids.tolist() == [hashlib.sha256(bytes(i.ravel().tolist())).hexdigest()[:16] for i in images]


def test_an_id_depends_on_the_pixels_alone() -> None:
    images = pixels()
    ids = image_ids(images)
    order = np.array([3, 0, 5, 1, 4, 2])
    assert image_ids(images[order]).tolist() == ids[order].tolist()
    assert image_ids(images[2:3]).tolist() == ids[2:3].tolist()
    strided = np.asfortranarray(np.concatenate([images, images])[::2])
    assert image_ids(strided).tolist() == np.concatenate([ids, ids])[::2].tolist()
    assert image_ids(images[:0]).shape == (0,)
    for at in np.ndindex(images[0].shape):
        other = images[:1].copy()
        other[0][at] ^= 1
        assert image_ids(other)[0] != ids[0]


def test_seeds_depend_on_id_seed_and_stream_and_on_nothing_else() -> None:
    ids = image_ids(pixels())
    first = image_seeds(ids, 0, 1)
    assert first.dtype == torch.int64
    truth = [int.from_bytes(hashlib.sha256(f"0/1/{i}".encode()).digest()[:8], "little", signed=True) for i in ids]
    assert first.tolist() == truth
    assert image_seeds(ids[::-1], 0, 1).tolist() == truth[::-1]
    assert image_seeds(ids[2:4], 0, 1).tolist() == truth[2:4]
    both = np.concatenate([ids, ids])
    assert image_seeds(both, 0, 1).tolist() == truth * 2
    seen = torch.cat([image_seeds(ids, s, k) for s in (0, 1, 11) for k in (1, 2, 12)])
    assert len(seen.unique()) == 6 * 9
    assert image_seeds(np.array(["00ff00ff00ff00ff"]), 3, 1).tolist() == [-3201775213401936245]
    assert image_seeds(ids[:0], 0, 1).shape == (0,)


# --- randomness --------------------------------------------------------------------------------------------------


def splitmix64(seed: int, n: int) -> list[int]:
    """Steele, Lea, Flood (2014), in whole numbers."""
    out, mask = [], (1 << 64) - 1
    for i in range(1, n + 1):
        z = (seed + i * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        out.append(z ^ (z >> 31))
    return out


def test_uniform_is_splitmix64() -> None:
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    assert splitmix64(1234567, 5) == published
    assert uniform(torch.tensor([1234567]), (5,))[0].tolist() == [(v >> 40) / 2**24 for v in published]


def test_the_first_values_are_frozen() -> None:
    found = (uniform(torch.tensor([0, 1, -1, 2**63 - 1, -(2**63)]), (3,)) * 2**24).to(torch.int64)
    assert found.tolist() == [
        [14819496, 7239838, 443485],
        [9505325, 12512141, 16290722],
        [14997873, 15310840, 3682296],
        [2779095, 15862785, 15472019],
        [4726464, 12873638, 6399621],
    ]


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_seed_gives_what_whole_numbers_give(seed: int) -> None:
    found = uniform(torch.tensor([seed]), (2, 3))
    assert found.dtype == torch.float32 and found.shape == (1, 2, 3)
    assert found.flatten().tolist() == [(v >> 40) / 2**24 for v in splitmix64(seed % 2**64, 6)]
    assert bool(((found >= 0) & (found < 1)).all())


def test_a_row_depends_on_its_seed_alone() -> None:
    seeds = image_seeds(image_ids(pixels(20)), 0, 1)
    whole = uniform(seeds, (3, 4, 5))
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(uniform(seeds[order], (3, 4, 5)), whole[order])
    for size in (1, 7, 20):
        assert torch.equal(torch.cat([uniform(s, (3, 4, 5)) for s in seeds.split(size)]), whole)
    torch.manual_seed(1)
    assert torch.equal(uniform(seeds, (3, 4, 5)), whole), "the global generator is not asked"
    assert torch.equal(uniform(seeds, (60,)), whole.flatten(1)), "a shape is a way to lay them out"
    assert torch.equal(uniform(seeds, (5,)), whole.flatten(1)[:, :5]), "fewer values are the first ones"
    assert uniform(seeds[:0], (2, 2)).shape == (0, 2, 2)


SEEDS = {
    "consecutive": torch.arange(2000),
    "shifted": torch.arange(2000) << 32,
    "negative": -torch.arange(1, 2001) * 1_000_003,
    "hashed": image_seeds(image_ids(pixels(2000)), 0, 1),
}


@pytest.mark.parametrize("name", SEEDS)
def test_values_are_uniform(name: str) -> None:
    u = uniform(SEEDS[name], (50,)).double().numpy()
    assert kstest(u.ravel(), "uniform").pvalue > 1e-3
    assert chisquare(np.bincount((u.ravel() * 256).astype(int), minlength=256)).pvalue > 1e-3
    low = (u.ravel() * 2**24).astype(int) % 256
    assert chisquare(np.bincount(low, minlength=256)).pvalue > 1e-3, "the low bits too"
    for column in (0, 1, 49):
        assert kstest(u[:, column], "uniform").pvalue > 1e-4
    assert kstest(u[7], "uniform").pvalue > 1e-4


@pytest.mark.parametrize("name", SEEDS)
def test_neighbours_have_nothing_to_do_with_each_other(name: str) -> None:
    u = uniform(SEEDS[name], (50,)).double().numpy()
    for a, b in ((u[:-1], u[1:]), (u[:, :-1], u[:, 1:]), (u[:-1, :-1], u[1:, 1:]), (u[:-1, 1:], u[1:, :-1])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4 / np.sqrt(a.size)
        pairs = (a.ravel() * 8).astype(int) * 8 + (b.ravel() * 8).astype(int)
        assert chisquare(np.bincount(pairs, minlength=64)).pvalue > 1e-3
    assert len(np.unique(u, axis=0)) == 2000


# --- a module is left as it was found -----------------------------------------------------------------------------


def mixed() -> nn.Sequential:
    """Some of it training, some not; some of it learning, some not; some gradients there."""
    with seeded(0):
        net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Sequential(nn.Dropout(0.5), nn.Flatten(), nn.Linear(72, 3)))
    net.train()
    net[1].eval()
    net[2][0].eval()
    net[0].weight.requires_grad_(False)
    net[2][2].weight.grad = torch.full_like(net[2][2].weight, 7.0)
    return net


def state(net: nn.Module) -> tuple[object, ...]:
    modes, flags = [m.training for m in net.modules()], [p.requires_grad for p in net.parameters()]
    return modes, flags, [None if p.grad is None else p.grad.tolist() for p in net.parameters()], fingerprint(net)


@pytest.mark.parametrize("fails", [False, True])
def test_frozen_leaves_everything_as_found(fails: bool) -> None:
    net, other = mixed(), nn.Linear(2, 2)
    before = state(net), state(other)
    grad = net[2][2].weight.grad

    def look() -> None:
        with frozen(net, None, other, net[2]):
            assert not any(m.training for m in net.modules()) and not other.training
            assert not any(p.requires_grad for p in (*net.parameters(), *other.parameters()))
            x = torch.rand(4, 1, 8, 8, requires_grad=True)
            net(x).sum().backward()
            assert x.grad is not None and bool((x.grad != 0).any()), "the input still gets its gradient"
            if fails:
                raise KeyboardInterrupt

    if fails:
        with pytest.raises(KeyboardInterrupt):
            look()
    else:
        look()
    assert (state(net), state(other)) == before
    assert net[2][2].weight.grad is grad


def test_frozen_nests() -> None:
    net = mixed()
    before = state(net)
    with frozen(net):
        with frozen(net):
            pass
        assert not net.training and not any(p.requires_grad for p in net.parameters())
    assert state(net) == before


def test_seeded_draws_alike_and_leaves_the_global_generator() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with seeded(1):
        first = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with seeded(1):
        assert torch.equal(torch.rand(3), first)
    with seeded(2):
        assert not torch.equal(torch.rand(3), first)


# --- build, note, rebuild ----------------------------------------------------------------------------------------


def learned() -> Iterator[nn.Module]:
    yield CompactCNN(width=4).build(SHAPE)
    yield SMD(SmallCNN(width=4)).build((1, 8, 8))
    yield Margin2().build((2,))
    yield UNet(encoder=SimpleClassifier(base=4, scales=2)).build(SHAPE)
    yield ID(SmallCNN(width=3)).build((1, 8, 8), SMD(SmallCNN(width=4)).build((1, 8, 8)), CompactCNN(width=4).build(SHAPE))


@pytest.mark.parametrize("at", range(5))
def test_a_module_is_built_again_from_its_note(at: int) -> None:
    module = list(learned())[at]
    note = json.loads(json.dumps(origin(module)))
    with seeded(99):
        again = rebuilt(note)
    assert type(again) is type(module) and not again.training
    assert origin(again) == note
    shapes = {k: v.shape for k, v in module.state_dict().items()}
    assert {k: v.shape for k, v in again.state_dict().items()} == shapes
    again.load_state_dict(module.state_dict())
    assert fingerprint(again) == fingerprint(module)


def test_rebuilt_computes_the_same() -> None:
    module, x = CompactCNN(width=4).build(SHAPE), torch.rand(5, 1, 8, 8)
    again = rebuilt(origin(module))
    assert not torch.equal(again(x), module(x)), "weights are for the caller to load"
    again.load_state_dict(module.state_dict())
    assert torch.equal(again(x), module(x))


def test_a_note_in_a_file_builds_nothing_of_others() -> None:
    note = origin(CompactCNN(width=4).build(SHAPE))
    with pytest.raises(DataDamaged):
        rebuilt(note | {"build": {"class": "subprocess:Popen", "args": "true"}})
    with pytest.raises(DataDamaged):
        rebuilt(note | {"args": [{"class": "pathlib:Path"}]})
    assert encode(SHAPE) in note["args"]


def test_made_puts_into_eval_mode_and_returns_the_same() -> None:
    net = nn.Linear(1, 1)
    assert made(net, FGSM(), SHAPE) is net and not net.training
    assert origin(net) == {"build": encode(FGSM()), "args": [encode(SHAPE)]}


def test_facts_add_up_and_are_not_shared() -> None:
    net = nn.Linear(1, 1)
    assert facts_of(net) == {}
    assert with_facts(net, a=1) is net
    with_facts(net, b=2, a=3)
    facts_of(net)["c"] = 4
    assert facts_of(net) == {"a": 3, "b": 2}


# --- fingerprints ------------------------------------------------------------------------------------------------


def test_a_fingerprint_changes_with_every_weight_and_buffer() -> None:
    net = CompactCNN(width=2).build(SHAPE)
    seen = {fingerprint(net)}
    assert {"0.1.running_mean", "0.1.num_batches_tracked", "4.bias"} <= set(net.state_dict())
    for value in net.state_dict().values():
        before = value.clone()
        flat = value.view(-1)
        for at in (0, len(flat) - 1):
            flat[at] = torch.nextafter(flat[at], torch.tensor(torch.inf)) if value.is_floating_point() else flat[at] + 1
            seen.add(fingerprint(net))
            value.copy_(before)
    doubled = sum(2 if v.numel() > 1 else 1 for v in net.state_dict().values())
    assert len(seen) == 1 + doubled
    assert fingerprint(net) in seen and len(fingerprint(net)) == 64


class Shifted(nn.Module):
    """Its shift is no part of its state dict."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor([shift]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shift


def test_a_fingerprint_changes_with_buffers_that_are_not_saved() -> None:
    assert fingerprint(Shifted(0.0)) == fingerprint(Shifted(0.0)) != fingerprint(Shifted(1.0))
    assert fingerprint(nn.Sequential(Shifted(0.0), Shifted(1.0))) != fingerprint(nn.Sequential(Shifted(1.0), Shifted(0.0)))


def test_a_fingerprint_does_not_depend_on_mode_gradients_or_layout() -> None:
    net = CompactCNN(width=2).build(Shape(3, 8, 8, 3))
    before = fingerprint(net)
    net.train().requires_grad_(False)
    net.to(memory_format=torch.channels_last)
    assert fingerprint(net) == before
    assert fingerprint(nn.Linear(2, 2).double()) != fingerprint(nn.Linear(2, 2))


def test_a_fingerprint_knows_shapes_dtypes_names_and_identity() -> None:
    def holding(name: str, value: Tensor) -> nn.Module:
        module = nn.Module()
        module.register_buffer(name, value)
        return module

    zeros = torch.zeros(4)
    different = [holding("a", zeros), holding("b", zeros), holding("a", zeros.view(2, 2)), holding("a", zeros.int())]
    different += [holding("a", torch.zeros(0)), nn.Module(), External(holding("a", zeros)), External(holding("a", zeros), std=0.5)]
    different += [External(holding("a", zeros), channels="BGR"), External(holding("a", zeros), output="logits")]
    assert len({fingerprint(m) for m in different}) == len(different)


class Extra(nn.Module):
    """What it knows beside its weights, as ``get_extra_state`` gives it."""

    def __init__(self, extra: Any) -> None:
        super().__init__()
        self.extra = extra

    def get_extra_state(self) -> Any:
        return self.extra


def test_a_fingerprint_knows_what_is_no_tensor() -> None:
    values: list[Any] = [None, 1, 2, "1", b"1", torch.qint8, [1, 2], {"a": 1}, {"a": 2}, {"b": 1}, torch.ones(2), [torch.zeros(2), None]]
    assert len({fingerprint(Extra(e)) for e in values}) == len(values)
    assert fingerprint(Extra({"a": 1, "b": 2})) == fingerprint(Extra({"b": 2, "a": 1}))
    assert fingerprint(Extra(object())) == fingerprint(Extra(object()))  # of a stranger only its kind


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*TypedStorage", "ignore:.*quantiz")
def test_a_fingerprint_changes_with_packed_and_quantised_weights() -> None:
    def quantised(weight: float, bias: float = 0.0) -> nn.Module:
        net = nn.Sequential(nn.Linear(3, 2))
        with torch.no_grad():
            net[0].weight.copy_(torch.tensor([[1.0, 0.5, 0.25], [0.1, 0.2, weight]]))
            net[0].bias.fill_(bias)
        made: nn.Module = torch.ao.quantization.quantize_dynamic(net, {nn.Linear}, dtype=torch.qint8)
        return made

    assert fingerprint(quantised(0.3)) == fingerprint(quantised(0.3))
    assert len({fingerprint(quantised(*w)) for w in ((0.3,), (0.5,), (0.3, 1.0))}) == 3
    assert device_of(quantised(0.3)).type == "cpu"
    channels = [torch.quantize_per_channel(torch.ones(2, 2), torch.tensor([s, 0.1]), torch.zeros(2), 0, torch.qint8) for s in (0.1, 0.2)]
    assert fingerprint(Extra(channels[0])) != fingerprint(Extra(channels[1]))


# --- batches of rows ---------------------------------------------------------------------------------------------


def some_rows() -> Rows:
    columns = {"image": pixels(), "label": np.arange(6), "right": np.arange(6) % 2 == 0, "logits": np.arange(12.0).reshape(6, 2)}
    return Rows(image_ids(pixels()), columns, {"role": "test"})


def test_a_batch_gives_floats_in_0_1_whatever_the_storage() -> None:
    rows, at = some_rows(), np.array([4, 0, 4])
    batch = Batch(rows, at)
    assert batch.image.dtype == torch.float32
    np.testing.assert_array_equal(batch.image.numpy(), pixels()[at].astype(np.float32) / np.float32(255))
    assert torch.equal((batch.image * 255).round().to(torch.uint8), torch.from_numpy(pixels()[at])), "and 8 bits come back"
    assert float(Batch(Rows(rows.ids, {"image": np.array([[0], [255]] * 3, np.uint8)}), np.arange(2)).image.max()) == 1
    floats = rows.widen({"image": pixels().astype(np.float32) / 512}, {})
    assert torch.equal(Batch(floats, at).image, torch.from_numpy(pixels()[at].astype(np.float32) / 512))


def test_a_batch_gives_other_columns_as_they_are() -> None:
    rows, at = some_rows(), np.array([4, 0, 4])
    batch = Batch(rows, at)
    assert len(batch) == 3 and batch.ids.tolist() == rows.ids[at].tolist() and batch.facts == {"role": "test"}
    assert batch.label.dtype == torch.int64 and batch.label.tolist() == [4, 0, 4]
    assert batch.right.dtype == torch.bool and batch.logits.dtype == torch.float64
    assert "label" in batch and "map" not in batch
    assert set(batch.parts("label", "map", "logits")) == {"label", "logits"}
    with pytest.raises(AttributeError, match="no column 'map'; there are image, label"):
        batch.map  # noqa: B018
    assert not hasattr(batch, "map") and not hasattr(batch, "_private")
    batch.label[:] = 9
    assert Batch(rows, at).label.tolist() == [4, 0, 4]
    assert torch.equal(batch.seeds(3, 2), image_seeds(rows.ids[at], 3, 2))


def test_a_batch_comes_to_the_device_that_is_set() -> None:
    token = DEVICE.set("meta")
    try:
        batch = Batch(some_rows(), np.arange(2))
    finally:
        DEVICE.reset(token)
    assert batch.label.device.type == "meta" and batch.seeds(0, 1).device.type == "meta"
    assert Batch(some_rows(), np.arange(2)).image.device.type == "cpu"


def test_rows_are_images() -> None:
    rows = some_rows()
    images = RowImages(rows)
    assert len(images) == 6
    assert torch.equal(images[torch.tensor([5, 1])], Batch(rows, np.array([5, 1])).image)
    assert shape_of(images, 7) == Shape(3, 4, 5, 7) == shape_of(torch.rand(2, 3, 4, 5), 7)


# --- progress ----------------------------------------------------------------------------------------------------


def test_progress_is_told_to_who_listens() -> None:
    told: list[tuple[int, int]] = []
    token = PROGRESS.set(lambda done, total: told.append((done, total)))
    try:
        assert list(ticking("abc", 3)) == ["a", "b", "c"]
    finally:
        PROGRESS.reset(token)
    assert told == [(0, 3), (1, 3), (2, 3)]
    assert list(ticking("ab", 2)) == ["a", "b"]
    assert len(told) == 3
