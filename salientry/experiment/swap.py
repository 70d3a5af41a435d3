"""What does a map's detector react to: the pixels, the image that the map is drawn from, or the class that it is drawn for?"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..batches import Batch
from ..evidence import Evidence
from ..learned import facts_of
from ..rows import Rows
from .handles import step
from .shift import maps_for
from .steps import borders


@step("swap")
def swap(natural: Rows, attacked: Rows, saliency: nn.Module, detector: nn.Module) -> Rows:
    """Scores of a map's detector on what no image ever was: the parts of a natural and of its adversarial, mixed.

    Args:
        natural: test naturals that were classified.
        attacked: the same, settled.
        saliency: who draws.
        detector: SMD, SPD or their like, fitted.

    Returns:
        Columns of scores (N,): ``nnn`` ... ``aaa``: natural or adversarial *pixels* (what SPD multiplies with the map), *image* that the
        map is drawn from, *class* that it is drawn for; ``n other``, ``a other``: all natural (adversarial), but with the map of the
        next image of that kind, drawn for its own class; ``n flat``, ``a flat``: with a map that is everywhere the mean of the own one.
        ``n area``, ``a area``: that mean. ``counts`` of the adversarials.
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
    told = {k: facts_of(detector)[k] for k in ("detector", "scheme", "trained_on", "protocol", "seed")}
    facts = natural.facts | told | {"attack": attacked.facts["attack"]}
    return Rows(natural.ids, found | {"counts": attacked.column("counts")}, facts)


def _scores(detector: nn.Module, rows: Rows, maps: Tensor) -> Any:
    """(N,) scores of these pixels with these maps."""
    with torch.no_grad():
        out = [detector(Evidence(None, None, Batch(rows, at).image, map=maps[at])) for at in borders(rows)]
    return np.asarray(torch.cat(out).cpu().numpy())
