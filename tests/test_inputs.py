"""Images, labels and modes of torch, as people have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from salientry.errors import UsageError
from salientry.inputs import as_images, as_labels, as_seeds, as_uint8, dtype_of, ordinary, plainly, random_images

from .surroundings import LAYOUTS, MODES, default

PLAIN = torch.rand(6, 3, 8, 10, generator=torch.Generator().manual_seed(0))


def is_ordinary(x: Tensor) -> bool:
    fresh = torch.empty(x.shape).stride()
    return x.stride() == fresh and not x.requires_grad and not x.is_inference()


# --- images ------------------------------------------------------------------------------------------------------


def test_images_by_the_conventions_come_back_unchanged() -> None:
    for x in (PLAIN, PLAIN[2:4], torch.zeros(1, 1, 1, 1), torch.rand(0, 3, 4, 5)):
        assert as_images(x) is x
        assert as_images(x, tuple(x.shape[1:])) is x  # type: ignore[arg-type]
    double = PLAIN.double()
    assert as_images(double, dtype=torch.float64) is double


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
@pytest.mark.parametrize("channels", [1, 3])
def test_any_memory_becomes_plain_memory(layout: str, channels: int) -> None:
    x = LAYOUTS[layout](PLAIN[:, :channels].contiguous())
    assert not is_ordinary(x)
    found = as_images(x)
    assert is_ordinary(found) and torch.equal(found, PLAIN[:, :channels])


def test_an_expanded_batch_becomes_plain_memory() -> None:
    found = as_images(PLAIN[:1].expand(4, 3, 8, 10))
    assert is_ordinary(found)
    found[0] = 0  # a row of its own
    assert torch.equal(found[1:], PLAIN[:1].repeat(3, 1, 1, 1))


def test_inference_tensors_become_ordinary_ones_also_inside_inference_mode() -> None:
    with torch.inference_mode():
        x = PLAIN.clone()
        inside = as_images(x)
    for found in (inside, as_images(x)):
        assert not found.is_inference() and torch.equal(found, PLAIN)
        (found.clone().requires_grad_() ** 2).sum().backward()  # needs the saved value


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_floats_become_float32(dtype: torch.dtype) -> None:
    found = as_images(PLAIN.to(dtype))
    assert found.dtype == torch.float32 and torch.equal(found, PLAIN.to(dtype).float())


def test_bytes_become_shares_of_255() -> None:
    x = (PLAIN * 255).round().to(torch.uint8)
    with default(torch.float64):
        found = as_images(x.to(memory_format=torch.channels_last))
    assert found.dtype == torch.float32 and is_ordinary(found) and torch.equal(found, x.float() / 255)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.rand(3, 4, 5), r"\(N, C, H, W\); found shape \(3, 4, 5\)"),
        (np.zeros((2, 3, 4, 5)), r"must be a tensor .* found ndarray"),
        ([0.5], "found list"),
        (torch.zeros(2, 3, 4, 5, dtype=torch.int32), r"floats in \[0, 1\], or uint8; found torch.int32"),
        (torch.full((2, 3, 4, 5), 1.5), r"must lie in \[0, 1\]; found \[1.5, 1.5\]$"),
        (255 * torch.rand(2, 3, 4, 5), r"must lie in \[0, 1\]; found \[.*\] \(divide by 255\)"),
        (torch.rand(2, 3, 4, 5) - 1, r"must lie in \[0, 1\]; found \[-"),
        (
            torch.linspace(0, 1, 60).reshape(1, 3, 4, 5).masked_fill(torch.eye(4, 5).bool(), float("nan")),
            r"must lie in \[0, 1\]; found \[nan, nan\] \(not every value is a number\)",
        ),
        (torch.full((1, 3, 4, 5), float("inf")), r"must lie in \[0, 1\]; found \[inf, inf\]"),
        (torch.rand(2, 1, 4, 5), r"\(C, H, W\) = \(3, 4, 5\); found \(1, 4, 5\)"),
    ],
)
def test_other_images_are_refused_with_what_was_found(x: Tensor, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        as_images(x, (3, 4, 5))


# --- labels ------------------------------------------------------------------------------------------------------


def test_labels_of_any_whole_type_become_int64() -> None:
    y = torch.tensor([0, 2, 1])
    assert as_labels(y, 3, 3) is y
    assert len(as_labels(y[:0], 0, 3)) == 0
    given = [y.to(t) for t in (torch.int32, torch.int16, torch.int8, torch.uint8)]
    given += [torch.eye(3)[y].to(t) for t in (torch.int64, torch.float32, torch.uint8, torch.bool)]
    given += [torch.stack([y, y], 1)[:, 0]]
    for labels in given:
        found = as_labels(labels, 3, 3)
        assert found.dtype == torch.int64 and is_ordinary(found) and torch.equal(found, y)
    with torch.inference_mode():
        inside = as_labels(y.clone(), 3)
    assert not inside.is_inference()


@pytest.mark.parametrize(
    ("labels", "count", "classes", "message"),
    [
        (torch.tensor([0, 2, 1]), 4, 3, r"int64 of shape \(4,\), one an image; found torch.int64 \(3,\)"),
        (torch.tensor([0.0, 2, 1]), 3, 3, r"found torch.float32 \(3,\)"),
        (torch.tensor([[0], [2], [1]]), 3, 3, r"found torch.int64 \(3, 1\)"),
        ([0, 1, 2], 3, 3, "found list"),
        (torch.tensor([0, 2, 1]), 3, 2, r"lie in \[0, 2\); found \[0, 2\]"),
        (torch.tensor([-1, 0, 1]), 3, 3, r"lie in \[0, 3\); found \[-1, 1\]"),
        (torch.tensor([-1, 0, 1]), 3, None, r"lie in \[0, K\); found \[-1, 1\]"),
        (torch.tensor([[0.4, 0.6]] * 3), 3, 2, "must be one-hot, a single 1 in each row"),
        (torch.tensor([[1, 1]] * 3), 3, 2, "must be one-hot"),
        (torch.tensor([[1, 0, 5]] * 3), 3, 3, "must be one-hot"),
        (torch.eye(3), 3, 4, "must have 4 columns, one a class; found 3"),
    ],
)
def test_other_labels_are_refused_with_what_was_found(labels: Any, count: int, classes: int | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        as_labels(labels, count, classes)


def test_seeds() -> None:
    seeds = torch.arange(3)
    assert as_seeds(seeds, 3) is seeds
    for bad in (seeds[:2], seeds.int(), [0, 1, 2]):
        with pytest.raises(UsageError, match=r"seeds must be int64 of shape \(3,\)"):
            as_seeds(bad, 3)  # type: ignore[arg-type]


# --- modes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", sorted(MODES))
@pytest.mark.parametrize("grad", [True, False])
def test_modes_are_plain_inside_and_as_before_afterwards(mode: str, grad: bool) -> None:
    def now() -> list[Any]:
        return [torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")]

    outside = now()
    with MODES[mode]():
        before = now()
        with plainly(grad=grad):
            assert now() == [grad, False, False]
            assert (torch.rand(2, 2) @ torch.rand(2, 2)).is_inference() is False
        assert now() == before
        with pytest.raises(KeyError), plainly(grad=grad):
            raise KeyError
        assert now() == before
    assert now() == outside


def test_gradients_go_through_what_came_in_whatever_is_around() -> None:
    net = nn.Linear(10, 2)
    expected = torch.autograd.grad(net(PLAIN.requires_grad_(False).clone().requires_grad_()).sum(), [net.weight])[0]
    for mode in MODES.values():
        with mode():
            x = ordinary(PLAIN.clone())
            with plainly(grad=True):
                assert torch.equal(torch.autograd.grad(net(x).sum(), [net.weight])[0], expected)


def test_a_network_of_float64_weights_computes_in_float64() -> None:
    assert dtype_of(nn.Linear(2, 2)) == dtype_of(nn.ReLU()) == torch.float32
    assert dtype_of(nn.Sequential(nn.ReLU(), nn.Linear(2, 2).double())) == torch.float64
    net = nn.Linear(2, 2)
    net.register_buffer("mean", torch.zeros(2, dtype=torch.float64))
    assert dtype_of(net) == torch.float32


def test_images_are_stored_as_the_nearest_of_256_levels() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(as_uint8(levels.float() / 255), levels)
    off = (levels[1:-1].float()[:, None] + torch.tensor([-0.49, 0.49])) / 255
    assert torch.equal(as_uint8(off), levels[1:-1, None].expand(-1, 2))
    x = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(as_uint8(x), (x * 255).round().to(torch.uint8)), "as stores have had it"


def test_random_images_are_the_same_at_every_call_and_of_8_bits() -> None:
    x = random_images(3, 2, 5, 4)
    assert x.shape == (3, 2, 5, 4) and torch.equal(x, random_images(3, 2, 5, 4)) and torch.equal(as_uint8(x).float() / 255, x)
    assert len(x.unique()) > 80 and 0 <= x.min() < 0.1 < 0.9 < x.max() <= 1


def test_rounding_to_bytes_and_drawing_of_pixels_stand_in_one_place() -> None:
    root = Path(__file__).parents[1]
    files = [*(root / "salientry").rglob("*.py"), *(root / "benchmarks").glob("*.py")]
    for words in (".round().to(torch.uint8)", "torch.randint(0, 256"):
        assert [p.name for p in files if words in p.read_text()] == ["inputs.py"], words
