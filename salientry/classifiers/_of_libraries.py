"""What the model libraries *transformers* and *timm* note beside a network, as settings of an External. Neither library is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..errors import UsageError


def processed(processor: Any) -> dict[str, Any]:
    """Settings from an image processor of *transformers*.

    A processor makes of a pixel p from 0 to 255: p * rescale_factor, then (p - image_mean) / image_std; each only when its flag
    ``do_rescale``, ``do_normalize`` says so. Images here are p / 255.

    Raises:
        UsageError: when it is none.
    """
    p = getattr(processor, "image_processor", processor)
    if not any(hasattr(p, name) for name in ("do_normalize", "image_mean", "do_rescale", "rescale_factor")):
        raise UsageError(
            f"{type(processor).__name__} is no image processor: it has neither image_mean nor rescale_factor; give "
            "AutoImageProcessor.from_pretrained(...), or External(model, mean=..., std=...)"
        )
    scale = 255 * (_said(p, "rescale_factor", 1 / 255) if _said(p, "do_rescale", True) else 1.0)
    mean, std = (_said(p, "image_mean", 0.0), _said(p, "image_std", 1.0)) if _said(p, "do_normalize", False) else (0.0, 1.0)
    means, stds = (list(v) if isinstance(v, list | tuple) else [v] for v in (mean, std))
    if _said(p, "rescale_offset", False):  # EfficientNet: to [-1, 1] while it rescales
        means = [m + 1 for m in means]
    if _said(p, "do_normalize", False) and _said(p, "include_top", False):  # EfficientNet: divided by std once more
        stds = [s * s for s in stds]
    found = {"mean": [m / scale for m in means], "std": [s / scale for s in stds], "size": _size(p)}
    return found | ({"channels": "BGR"} if _said(p, "do_flip_channel_order", False) else {})


def _said(p: Any, name: str, otherwise: Any) -> Any:
    value = getattr(p, name, None)
    return otherwise if value is None else value


def _size(p: Any) -> tuple[int, int] | None:
    """(H, W) of what it gives; None when that depends on the picture."""
    if _said(p, "do_center_crop", False) and getattr(p, "crop_size", None) is not None:
        return _square(p.crop_size)
    if not _said(p, "do_resize", False) or getattr(p, "size", None) is None:
        return None
    return _square(p.size, cropped=getattr(p, "crop_pct", None) is not None)  # ConvNeXT: the shorter edge, then a square of it


def _square(size: Any, cropped: bool = False) -> tuple[int, int] | None:
    if isinstance(size, int):
        return size, size
    found: dict[str, Any] = (
        dict(size) if isinstance(size, Mapping) else {k: getattr(size, k, None) for k in ("height", "width", "shortest_edge")}
    )
    if found.get("height") and found.get("width"):
        return int(found["height"]), int(found["width"])
    return (int(found["shortest_edge"]),) * 2 if cropped and found.get("shortest_edge") else None


def configured(model: nn.Module) -> dict[str, Any]:
    """Settings from the configuration of a *timm* model.

    Raises:
        UsageError: when it has none, or no classes.
    """
    told: Any = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None)
    known = told if isinstance(told, Mapping) else vars(told) if hasattr(told, "__dict__") else {}
    if not {"mean", "std"} <= set(known):
        raise UsageError(f"{type(model).__name__} has no pretrained_cfg with mean and std: say External(model, mean=..., std=...)")
    if getattr(model, "num_classes", None) == 0:
        raise UsageError(f"{type(model).__name__} has num_classes=0 and gives features: make it with num_classes=K for logits")
    size = known.get("input_size")
    return {"mean": list(known["mean"]), "std": list(known["std"]), "size": None if size is None else tuple(size)[-2:]}
