"""What comes in from outside: images, labels, and the modes of torch that happen to be on around a call."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .errors import UsageError
from .modules import FLOATS, weights

WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
DEVICES = ("cpu", "cuda", "mps", "xpu")  # that autocast knows


def ordinary(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """``x`` itself if it is an ordinary tensor in plain memory of that ``dtype`` (None: its own), else a copy that is one.

    Plain memory: contiguous, row after row; neither channels_last nor transposed nor expanded. Ordinary: no part of a graph, and
    no inference tensor, so that gradients can be taken through what is computed from it.
    """
    dtype = dtype or x.dtype
    if x.dtype is dtype and not x.requires_grad and not x.is_inference() and x.stride() == _plain(x.shape):
        return x
    with torch.inference_mode(False), torch.no_grad():
        if x.dtype != dtype or x.is_inference() or x.stride() != _plain(x.shape):
            return torch.empty(x.shape, dtype=dtype, device=x.device).copy_(x)
        return x.detach() if x.requires_grad else x


def _plain(shape: torch.Size) -> tuple[int, ...]:
    """Strides of a contiguous tensor; ``is_contiguous`` says yes to channels_last too, where there is one channel."""
    strides, step = list[int](), 1
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


def as_images(
    x: Tensor, shape: tuple[int, int, int] | None = None, *, dtype: torch.dtype = torch.float32, within: tuple[float, float] = (0, 1)
) -> Tensor:
    """Images by the conventions: float32 (N, C, H, W) in [0, 1], :func:`ordinary`; ``x`` itself if it is that already.

    Args:
        x: (N, C, H, W), floats in [0, 1] of any precision, or uint8, which is divided by 255; in any memory layout, on any device
            (it stays there).
        shape: the (C, H, W) that is expected, if one is.
        dtype: another float type to come in, where a network computes in it (:func:`dtype_of`).
        within: other bounds of the values.

    Raises:
        UsageError: says what was found and what was expected.
    """
    if not isinstance(x, Tensor) or x.dim() != 4:
        found = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise UsageError(f"images must be a tensor of shape (N, C, H, W); found {found}")
    if x.dtype not in FLOATS and x.dtype != torch.uint8:
        raise UsageError(f"images must be floats in [0, 1], or uint8; found {x.dtype}")
    if shape is not None and tuple(x.shape[1:]) != tuple(shape):
        raise UsageError(f"images must have (C, H, W) = {tuple(shape)}; found {tuple(x.shape[1:])}")
    if x.dtype == torch.uint8:
        return ordinary(x, dtype) / 255
    x = ordinary(x, dtype)
    if x.numel():
        lo, hi = (float(v) for v in torch.aminmax(x))
        if not (lo >= within[0] and hi <= within[1]):
            hint = " (not every value is a number)" if lo != lo else " (divide by 255)" if lo >= 0 and 2 < hi <= 255 else ""
            raise UsageError(f"images must lie in [{within[0]:g}, {within[1]:g}]; found [{lo:.4g}, {hi:.4g}]{hint}")
    return x


def as_uint8(x: Tensor) -> Tensor:
    """Images in [0, 1] as the nearest of 256 levels, uint8: as they are stored."""
    return (x * 255).round().to(torch.uint8)


def random_images(count: int, channels: int, height: int, width: int) -> Tensor:
    """(count, C, H, W) float32 images of random 8-bit pixels, the same at every call: to time networks with."""
    size = (count, channels, height, width)
    return torch.randint(0, 256, size, generator=torch.Generator().manual_seed(0), dtype=torch.uint8).float() / 255


def as_labels(labels: Tensor, count: int, classes: int | None = None) -> Tensor:
    """Labels by the conventions: int64 (count,) in [0, classes), :func:`ordinary`; ``labels`` itself if it is that already.

    Args:
        labels: whole numbers of any type, (count,), or one-hot rows (count, K) of any type with K >= 2.
        count: of the images.
        classes: of the classifier; None where nobody knows yet.

    Raises:
        UsageError: says what was found and what was expected.
    """
    if not isinstance(labels, Tensor) or labels.is_complex():
        found = getattr(labels, "dtype", type(labels).__name__)
        raise UsageError(f"labels must be int64 of shape ({count},), one an image; found {found}")
    if labels.dim() == 2 and labels.shape[1] >= 2 and len(labels) == count:
        hot = (labels == 1).sum(1) == 1
        if not bool((hot & ((labels == 0).sum(1) == labels.shape[1] - 1)).all()):
            raise UsageError(f"labels of shape {tuple(labels.shape)} must be one-hot, a single 1 in each row; found other rows")
        if classes is not None and labels.shape[1] != classes:
            raise UsageError(f"one-hot labels must have {classes} columns, one a class; found {labels.shape[1]}")
        return ordinary((labels == 1).to(torch.int64).argmax(1))
    if labels.dtype not in WHOLE or tuple(labels.shape) != (count,):
        raise UsageError(f"labels must be int64 of shape ({count},), one an image; found {labels.dtype} {tuple(labels.shape)}")
    labels = ordinary(labels, torch.int64)
    if count:
        lo, hi = (int(v) for v in torch.aminmax(labels))
        if lo < 0 or (classes is not None and hi >= classes):
            raise UsageError(f"labels must lie in [0, {'K' if classes is None else classes}); found [{lo}, {hi}]")
    return labels


def as_seeds(seeds: Tensor, count: int) -> Tensor:
    """Per-image seeds, int64 (count,), ordinary.

    Raises:
        UsageError: says what was found and what was expected.
    """
    if not isinstance(seeds, Tensor) or seeds.dtype != torch.int64 or tuple(seeds.shape) != (count,):
        found = f"{seeds.dtype} {tuple(seeds.shape)}" if isinstance(seeds, Tensor) else type(seeds).__name__
        raise UsageError(f"seeds must be int64 of shape ({count},), one an image; found {found}")
    return ordinary(seeds)


def dtype_of(module: nn.Module) -> torch.dtype:
    """What a module computes in: float64 if it has float64 weights (or no weights, and float64 buffers), else float32."""
    kinds = {w.dtype for w in weights(module)} or {b.dtype for b in module.buffers()}
    return torch.float64 if torch.float64 in kinds else torch.float32


@contextlib.contextmanager
def plainly(*, grad: bool) -> Iterator[None]:
    """Gradients on or off inside, no inference mode and no autocast, whatever is on around; all as before afterwards.

    Inside ``torch.inference_mode()`` tensors that exist already stay inference tensors: bring them in with :func:`ordinary`. The
    default dtype is not touched, because all threads share it: give dtypes to what is made of numbers.
    """
    with contextlib.ExitStack() as stack:
        for device in DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        with torch.inference_mode(False), torch.set_grad_enabled(grad):  # the first by itself turns gradients on
            yield
