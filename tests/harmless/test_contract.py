"""What every harmless change promises, for all named ones and a mixture of them."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from salientry import harmless
from salientry.errors import UsageError
from salientry.harmless import HARMLESS, TRAINED, TRANSFORMS, UNSEEN_KINDS, OneOf, together, unchecked
from salientry.keys import canonical, decode, encode
from salientry.types import HarmlessChange

from .. import examples

CHANGES: dict[str, HarmlessChange] = {
    **{f"harmless.{k}": v for k, v in HARMLESS.items()},
    **{f"transform.{k}": v for k, v in TRANSFORMS.items()},
    "one_of": OneOf((HARMLESS["sign_8"], HARMLESS["gamma"], TRANSFORMS["rotation"])),
}
EVERY = pytest.mark.parametrize("name", CHANGES)
SHAPES = [(1, 28, 28), (3, 32, 32), (3, 9, 14), (1, 1, 5)]
N = 10
SEEDS = examples.seeds(N)


def images(shape: tuple[int, ...], n: int = N) -> Tensor:
    """8-bit images with whole black and white areas."""
    x = torch.rand(n, *shape, generator=torch.Generator().manual_seed(3))
    x[:, :, : shape[1] // 4], x[:, :, -(shape[1] // 4) :] = 0, 1
    return (x * 255).round() / 255


@EVERY
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gives_images_of_the_shape_and_touches_nothing(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = images(shape).to(dtype)
    before = x.clone(), SEEDS.clone()
    out = CHANGES[name](x, seeds=SEEDS)
    assert out.shape == x.shape and out.dtype == dtype and not out.requires_grad
    assert float(out.min()) >= 0 and float(out.max()) <= 1
    assert out.data_ptr() != x.data_ptr() and torch.equal(x, before[0]) and torch.equal(SEEDS, before[1])
    assert torch.equal(CHANGES[name](x, seeds=SEEDS), out)


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_that_need_no_look_are_changed_alike(name: str, dtype: torch.dtype) -> None:
    """Bit for bit, and twice; also what was kept from a call in inference mode can be differentiated through."""
    x = torch.rand(N, 2, 7, 11, generator=torch.Generator().manual_seed(int(dtype == torch.float64))).to(dtype)
    with torch.inference_mode():
        first = unchecked(TRANSFORMS[name], x).clone()
    here = x.clone().requires_grad_()
    again = unchecked(TRANSFORMS[name], here)
    assert torch.equal(first, TRANSFORMS[name](x, seeds=SEEDS)) and torch.equal(again, first) and again.dtype == dtype
    assert float(torch.autograd.grad(again.sum(), here)[0].abs().sum()) > 0


@EVERY
def test_changes_something_and_not_too_much(name: str) -> None:
    """On smooth images: waves of some pixels' length."""
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    x = torch.stack([0.5 + 0.4 * ((rows + i * columns) / 10).sin() for i in range(3)])[None].repeat(N, 1, 1, 1)
    moved = (CHANGES[name](x, seeds=SEEDS) - x).abs().flatten(1)
    assert bool((moved.amax(1) > 0.5 / 255).all()) and float(moved.mean(1).max()) < 0.12


@EVERY
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_image_depends_on_itself_and_its_seed_alone(name: str, shape: tuple[int, ...]) -> None:
    change, x = CHANGES[name], images(shape)
    whole = change(x, seeds=SEEDS)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    assert torch.equal(change(x[order], seeds=SEEDS[order]), whole[order])
    assert torch.equal(torch.cat([change(x[i : i + 1], seeds=SEEDS[i : i + 1]) for i in range(N)]), whole)
    assert change(x[:0], seeds=SEEDS[:0]).shape == (0, *shape)


@EVERY
def test_its_derivative_is_that_of_finite_differences(name: str) -> None:
    change = CHANGES[name]
    x = (0.2 + 0.6 * images((3, 3, 4), 2).double()).requires_grad_()  # nothing is clipped, so it is smooth
    seeds = SEEDS[:2]
    if not change.differentiable:
        assert not change(x, seeds=seeds).requires_grad
        return
    assert torch.autograd.gradcheck(lambda v: change(v, seeds=seeds), (x,))
    assert torch.autograd.gradgradcheck(lambda v: change(v, seeds=seeds), (x,))


@EVERY
@pytest.mark.parametrize("place", ["inference_mode", "autocast", "channels_last", "uint8"])
def test_is_the_same_wherever_it_is_called(name: str, place: str) -> None:
    change, x = CHANGES[name], images((3, 12, 11))
    expected = change(x, seeds=SEEDS)
    if place == "inference_mode":
        with torch.inference_mode():
            found = change(x.clone(), seeds=SEEDS.clone())
        assert not found.is_inference()
    elif place == "autocast":
        with torch.autocast("cpu", torch.bfloat16):
            found = change(x, seeds=SEEDS)
    else:
        found = change(
            x.to(memory_format=torch.channels_last) if place == "channels_last" else (x * 255).round().to(torch.uint8), seeds=SEEDS
        )
    torch.testing.assert_close(found, expected, rtol=0, atol=0 if place != "uint8" else 1e-6)


@EVERY
def test_refuses_what_is_no_image_and_no_seed(name: str) -> None:
    x = images((3, 8, 8))
    with pytest.raises(UsageError, match=r"images must lie in \[0, 1\]; found"):
        CHANGES[name](x * 255, seeds=SEEDS)
    with pytest.raises(UsageError, match="seeds must be int64"):
        CHANGES[name](x, seeds=SEEDS[:-1])
    with pytest.raises(UsageError, match="images must be a tensor of shape"):
        CHANGES[name](x[0], seeds=SEEDS)


@EVERY
def test_is_settings_that_files_and_sentences_can_hold(name: str) -> None:
    change: Any = CHANGES[name]
    assert isinstance(change, HarmlessChange) and isinstance(change.differentiable, bool)
    assert type(change).__dataclass_params__.frozen and type(change).__bases__ == (object,)
    assert decode(encode(change)) == change and canonical(change)
    assert change.title and not change.title.endswith(".") and change.title[0] != " "


def test_every_file_holds_one_kind() -> None:
    folder = Path(harmless.__file__).parent
    files = {p.stem for p in folder.glob("*.py") if not p.stem.startswith("_")}
    kinds = {type(c) for c in CHANGES.values()}
    assert files == {k.__module__.rpartition(".")[2] for k in kinds} and len(files) == len(kinds) == 12
    for kind in kinds:
        assert dataclasses.is_dataclass(kind)
        assert getattr(importlib.import_module("salientry.harmless"), kind.__name__) is kind


def test_no_two_names_are_one_change_and_no_two_titles_are_equal() -> None:
    for known in (HARMLESS, TRANSFORMS):
        assert len(set(known.values())) == len(known) == len({c.title for c in known.values()})


def test_what_is_never_trained_on_is_of_another_kind_than_all_that_is() -> None:
    assert set(TRAINED) | set(UNSEEN_KINDS) <= set(HARMLESS)
    assert not {type(HARMLESS[n]) for n in TRAINED} & {type(HARMLESS[n]) for n in UNSEEN_KINDS}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_are_differentiable_and_draw_nothing(name: str) -> None:
    x = images((3, 12, 12))
    assert TRANSFORMS[name].differentiable
    assert torch.equal(TRANSFORMS[name](x, seeds=SEEDS), TRANSFORMS[name](x, seeds=SEEDS + 1))


@pytest.mark.parametrize("shape", [(1, 3, 8, 10), (40, 3, 32, 32), (2, 1, 1, 1), (3, 2, 5, 1), (0, 3, 4, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_together_they_are_what_each_is_by_itself(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    found = together(list(TRANSFORMS.values()), x)
    for change, images in zip(TRANSFORMS.values(), found, strict=True):
        alone = unchecked(change, x)
        assert images.shape == x.shape and images.dtype == alone.dtype
        torch.testing.assert_close(images, alone, atol=1e-6 if dtype == torch.float32 else 1e-12, rtol=0)
        assert not images.numel() or bool(((images >= 0) & (images <= 1)).all())


def test_together_they_are_in_the_graph_of_the_images() -> None:
    x = torch.rand(2, 3, 6, 6, requires_grad=True)
    assert all(images.requires_grad for images in together(list(TRANSFORMS.values()), x))
