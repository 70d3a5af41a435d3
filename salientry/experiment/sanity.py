"""Is a map a map? The sanity check of a saliency model, and pictures of where the classifier looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..batches import DEVICE, Batch
from ..keys import label
from ..learned import facts_of
from ..metrics import Resamples, difference, rate
from ..rows import Rows
from ..runner.step import Chosen, step
from ..saliency import Fill
from .map_shift import fellows, maps_for
from .steps import batch_rows


@dataclass(frozen=True)
class SanityCheck:
    """What a map must do before anything depends on it. Relative: absolute bounds let collapsed maps pass.

    Attributes:
        least: how much more a kept part keeps the prediction than the part that another image's map would keep, and how
            much more a destroyed part breaks it; both, with their intervals above 0.
        action: ``"stop"``: what depends on a map that fails is skipped; ``"mark"``: it goes on, and every table says so.
    """

    least: float = 0.05
    action: str = "stop"


@step("sanity", revision=1)
def sanity(rows: Rows, classifier: nn.Module, saliency: nn.Module, fill: Any = None, within: str | None = None) -> Rows:
    """What maps keep and destroy on natural images, image by image.

    Columns: ``area`` and ``fake_area`` (mean of the map for the predicted and for the next class), and flags whether the
    prediction survives on: ``kept`` (what the map marks), ``kept_other`` (what the map of another image would mark),
    ``destroyed`` (everything else), ``destroyed_other``, ``emptied`` (everything removed).

    Args:
        rows: classified naturals.
        classifier: to be asked.
        saliency: draws the maps.
        fill: of what is removed; None: the one that the maps learnt with; the paper's for maps that are made of the classifier.
        within: ``"class"``: the other image is the next one that the classifier calls the same, so that a class is measured by itself,
            against maps of its own size; ``predicted`` is then a column. None: it is the next one.
    """
    fill = fill or getattr(vars(saliency).get("recipe", (None,))[0], "fill", Fill("paper"))
    draws = torch.Generator(DEVICE.get()).manual_seed(0)
    predicted = rows.column("predicted")
    out: list[dict[str, Tensor]] = []
    with torch.no_grad():
        maps = maps_for(saliency, rows, predicted)
        others = maps.roll(1, 0) if within is None else maps[torch.from_numpy(fellows(predicted, -1)).to(maps.device)]
        for at in batch_rows(rows):
            b = Batch(rows, at)
            x, k, m, o = b.image, b.predicted, maps[at], others[at]
            fake = saliency(x, (k + 1) % b.logits.shape[1])["map"]
            removed = {"kept": m, "kept_other": o, "destroyed": 1 - m, "destroyed_other": 1 - o, "emptied": torch.zeros_like(m)}
            columns = {name: classifier(fill(x, mask, draws)).argmax(1) == k for name, mask in removed.items()}
            out.append(columns | {"area": m.flatten(1).mean(1), "fake_area": fake.flatten(1).mean(1)})
    found = {k: torch.cat([o[k] for o in out]).cpu().numpy() for k in out[0]}
    about = {"saliency": facts_of(saliency).get("saliency", "?"), "fill": label(fill)}
    if within is not None:
        found, about = found | {"predicted": predicted}, about | {"within": within}
    return Rows(rows.ids, found, rows.facts | about)


@step("gate", chooses=True)
def sanity_check(measured: Rows, saliency: nn.Module, bounds: SanityCheck) -> Chosen:
    """The saliency model itself, if its maps pass, or are only to be marked.

    A map passes when, with intervals above 0, kept minus kept with another image's map, and destroyed with another's minus
    destroyed, are at least ``bounds.least``, and a fake selector's map is smaller.
    """
    c, resamples = measured.column, Resamples(measured.ids)
    compared = {
        "kept - kept with another image's map": ("kept", "kept_other"),
        "destroyed with another image's map - destroyed": ("destroyed_other", "destroyed"),
        "area - area for a fake class": ("area", "fake_area"),
    }
    # resampled, as the checks that stores hold were made
    gains = {k: difference(resamples, measured.ids, [(c(a), c(b))], bound=False) for k, (a, b) in compared.items()}
    least = dict.fromkeys(gains, bounds.least) | {"area - area for a fake class": 0.0}
    wrong = [
        f"{k} is {v.value:.3f} [{v.lo:.3f}, {v.hi:.3f}], at least {least[k]} wanted"
        for k, v in gains.items()
        if v.value < least[k] or v.lo <= 0
    ]
    figures = {k: rate(resamples, measured.ids, [c(k)]).value for k in measured.names}
    why = {"passed": not wrong, "action": bounds.action, "wrong": wrong, "figures": figures, "saliency": measured.facts["saliency"]}
    message = f"the saliency model {measured.facts['saliency']} failed its sanity check on {len(measured)} images: {'; '.join(wrong)}"
    return Chosen("saliency", why, message if wrong and bounds.action == "stop" else None)


@step("gallery", revision=2)
def gallery(natural: Rows, attacked: list[Rows], others: list[nn.Module], count: int = 6) -> Rows:
    """The first natural images whose every attack counts, and where the classifier looked: nothing is picked by hand.

    Columns: ``natural.image``, ``natural.map``, ``natural.predicted``, ``label``, and ``<attack>.image`` ... of each attack; the maps
    of other saliency models are ``natural.<model>`` and ``<attack>.<model>``.
    """
    everywhere = np.logical_and.reduce([a.column("evaluated") for a in attacked])
    at = np.flatnonzero(everywhere)[:count]
    columns: dict[str, Any] = {"label": natural.column("label", at)}
    models = {str(facts_of(m).get("saliency", "?")): m for m in others}
    for name, rows in [("natural", natural), *((a.facts["attack"], a) for a in attacked)]:
        columns |= {f"{name}.{part}": rows.column(part, at) for part in ("image", "map", "predicted")}
        b = Batch(rows, at)
        with torch.no_grad():
            columns |= {f"{name}.{model}": m(b.image, b.predicted)["map"].cpu().numpy() for model, m in models.items()}
    facts = {"attacks": [a.facts["attack"] for a in attacked], "models": list(models)}
    return Rows(natural.ids[at], columns, natural.facts | facts)
