"""How far does a map move under attack, and why? The paper's Tables 1 and 5, with what they lack: controls."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..batches import Batch
from ..learned import facts_of
from ..rows import Rows
from ..runner.step import step
from .steps import batch_rows

FIXED = "class held"  # the map is drawn for the natural's class, whatever the classifier says now


@step("map_shift")
def map_shift(
    natural: Rows, attacked: list[Rows], noisy: list[Rows], saliency: nn.Module, split: bool = False, controls: list[Rows] | None = None
) -> Rows:
    """Distances between maps, image by image: the root mean square of the difference (the paper's "L2", as its sizes show).

    Args:
        natural: test naturals that were classified.
        attacked: the stored adversarials, one of each attack.
        noisy: the same under noise as large as each attack.
        saliency: who draws.
        split: also take the shift apart into change of class and change of pixels, and measure the leak of the true label.
        controls: stored controls of the same images, made from those attacks: their shifts as used, and with the natural's class held.

    Returns:
        Columns, for each attack A: ``A/shift`` (natural to adversarial, each with the map of its own predicted class), ``A/noise``,
        and ``A|B`` (between two attacks on the same image, Table 5); ``other`` (to the next image's map), ``same class`` (to the
        next image of the same predicted class). Split: ``A/pixels`` (the class of the natural held), ``A/class`` (the pixels of the
        natural held), ``true label`` (between the maps for the predicted and for the true class of a natural), ``A/true label``
        (the same of an adversarial: what a map drawn for the true label would give away). With controls, for a control C of A:
        ``A/C``, ``A/C, class held``, and ``other, class held`` (to the next image's map, drawn for this image's class).
    """
    own = maps_for(saliency, natural, natural.column("predicted"))
    here, label = natural.column("predicted"), natural.column("label")
    found: dict[str, Any] = {"other": _distance(own, own.roll(-1, 0)), "same class": _distance(own, own[fellows(here, 1)])}
    if split:
        found["true label"] = _distance(own, maps_for(saliency, natural, label))
    maps: dict[str, Tensor] = {}
    for rows, noise in zip(attacked, noisy, strict=True):
        name, there = rows.facts["attack"], rows.column("predicted")
        maps[name] = maps_for(saliency, rows, there)
        found[f"{name}/shift"] = _distance(own, maps[name])
        found[f"{name}/noise"] = _distance(own, maps_for(saliency, noise, noise.column("predicted")))
        found |= {f"{other}|{name}": _distance(m, maps[name]) for other, m in maps.items() if other != name}
        if split:
            found[f"{name}/pixels"] = _distance(own, maps_for(saliency, rows, here))
            found[f"{name}/class"] = _distance(own, maps_for(saliency, natural, there))
            found[f"{name}/true label"] = _distance(maps[name], maps_for(saliency, rows, label))
    for rows in controls or []:
        name = f"{rows.facts['of']}/{rows.facts['control']}"
        found[name] = _distance(own, maps_for(saliency, rows, rows.column("predicted")))
        found[f"{name}, {FIXED}"] = _distance(own, maps_for(saliency, rows, here))
    if controls:
        found[f"other, {FIXED}"] = _distance(own, maps_for(saliency, natural.take(np.roll(np.arange(len(natural)), -1)), here))
    facts = {"saliency": facts_of(saliency).get("saliency", "?"), "protocol": attacked[0].facts["protocol"]}
    facts |= {"attacks": list(maps), "role": natural.facts["role"]}
    return Rows(natural.ids, found | {f"{r.facts['attack']}/evaluated": r.column("evaluated") for r in attacked}, natural.facts | facts)


def maps_for(saliency: nn.Module, rows: Rows, classes: Any) -> Tensor:
    """(N, 1, H, W) maps of these images for these classes."""
    with torch.no_grad():
        drawn = []
        for at in batch_rows(rows):
            batch = Batch(rows, at)
            drawn.append(saliency(batch.image, torch.from_numpy(classes[at]).to(batch.device))["map"])
    return torch.cat(drawn)


def _distance(a: Tensor, b: Tensor) -> Any:
    """(N,) root mean square."""
    return (a - b).flatten(1).square().mean(1).sqrt().cpu().numpy()


def fellows(classes: Any, step: int) -> NDArray[np.int64]:
    """(N,) of each image the one so many places further in its class, around the end; itself where it is alone."""
    found = np.empty(len(classes), np.int64)
    for k in np.unique(classes):
        mine = np.flatnonzero(classes == k)
        found[mine] = np.roll(mine, -step)
    return found
