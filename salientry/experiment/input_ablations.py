"""Controls on what a detector reads: parts of the evidence replaced by something that cannot help it, or mixed."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..batches import Batch
from ..errors import UsageError
from ..evidence import Evidence
from ..learned import facts_of
from ..randomness import CONTROL_STREAM, image_seeds, uniform
from ..rows import Rows
from ..runner.step import step
from .map_shift import maps_for
from .steps import batch_rows


@step("replaced", stored=False)
def replaced(rows: Rows, part: str, by: str) -> Rows:
    """The rows with a stored part of their evidence replaced.

    Args:
        rows: looked at, drawn, differentiated.
        part: ``map``, ``gradient``, ...
        by: ``"another image's"`` (of the same kind: the next row's), ``"random"`` (uniform values, drawn by image), ``"constant"``
            (.5 everywhere), ``"zero"``.

    Raises:
        UsageError: for anything else.
    """
    known = rows.column(part)
    if by == "another image's":
        found = np.roll(known, -1, 0)
    elif by == "random":
        found = uniform(image_seeds(rows.ids, 0, CONTROL_STREAM), known.shape[1:]).numpy().astype(known.dtype)
    elif by in ("constant", "zero"):
        found = np.full_like(known, 0.5 if by == "constant" else 0.0)
    else:
        raise UsageError(f"a part is replaced by another image's, random, constant or zero values; found {by!r}")
    return rows.widen({part: found}, {})


@step("swap")
def mixed_parts(natural: Rows, attacked: Rows, saliency: nn.Module, detector: nn.Module) -> Rows:
    """Scores of a map's detector on what no image ever was: the parts of a natural and of its adversarial, mixed.

    Args:
        natural: test naturals that were classified.
        attacked: the stored adversarials of the same images.
        saliency: who draws.
        detector: SMD, SPD or their like, fitted.

    Returns:
        Columns of scores (N,): ``nnn`` ... ``aaa``: natural or adversarial *pixels* (what SPD multiplies with the map), *image* that the
        map is drawn from, *class* that it is drawn for; ``n other``, ``a other``: all natural (adversarial), but with the map of the
        next image of that kind, drawn for its own class; ``n flat``, ``a flat``: with a map that is everywhere the mean of the own one.
        ``n area``, ``a area``: that mean. ``evaluated`` of the adversarials.
    """
    pixels = {k: rows for k, rows in zip("na", (natural, attacked), strict=True)}
    classes = {k: rows.column("predicted") for k, rows in pixels.items()}
    maps = {i + c: maps_for(saliency, pixels[i], classes[c]) for i, c in product("na", "na")}
    found: dict[str, Any] = {p + i + c: _scores(detector, pixels[p], maps[i + c]) for p, i, c in product("na", "na", "na")}
    for k in "na":
        own = maps[k + k]
        area = own.mean((1, 2, 3), keepdim=True)
        found[f"{k} other"] = _scores(detector, pixels[k], own.roll(-1, 0))
        found[f"{k} flat"] = _scores(detector, pixels[k], area.expand_as(own))
        found[f"{k} area"] = area.flatten().cpu().numpy()
    about = {k: facts_of(detector)[k] for k in ("detector", "scheme", "trained_on", "protocol", "seed")}
    facts = natural.facts | about | {"attack": attacked.facts["attack"]}
    return Rows(natural.ids, found | {"evaluated": attacked.column("evaluated")}, facts)


def _scores(detector: nn.Module, rows: Rows, maps: Tensor) -> Any:
    """(N,) scores of these pixels with these maps."""
    with torch.no_grad():
        out = [detector(Evidence(None, None, Batch(rows, at).image, map=maps[at])) for at in batch_rows(rows)]
    return np.asarray(torch.cat(out).cpu().numpy())
