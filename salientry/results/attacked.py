"""What all readers of white-box records share: an attack's budget, the one predicate of success, and the rows of a share and a cost."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..metrics import Resamples, median_ratio, rate
from ..rates import given, grey_levels
from .place import Row, row
from .scores import Scores
from .trained import Array, Images

LARGE = 26 / 255  # budgets from here on stand as they were given: .2 is .2, though it is 51/255
UNBOUNDED = 1.0  # an eps that is no budget: an Linf ball as large as all of [0, 1]


@functools.lru_cache(maxsize=32)
def _resamples(ids: bytes, dtype: str) -> Resamples:
    return Resamples(np.frombuffer(ids, dtype))


def draws(s: Images) -> Resamples:
    """The bootstrap draw of a set's images."""
    ids = np.ascontiguousarray(s["id"])
    return _resamples(ids.tobytes(), ids.dtype.str)


def of_kind(s: Scores, kind: str) -> list[Images]:
    """The white box's image sets of a kind."""
    return [i for i in s.white_box.values() if i["kind"] == kind]


def budget(norm: str, eps: float) -> str:
    """A budget as it stands in a table: ``2/255``, ``.05``, ``L2 .5``."""
    if norm == "l2":
        return f"L2 {given(eps)}"
    return (grey_levels(eps) if eps < LARGE else "") or given(eps)


def size(i: Images) -> dict[str, Any]:
    """Norm, eps and budget of an attack, as columns of a row."""
    eps = float(i["eps"])
    return {"norm": i["norm"], "eps": eps, "budget": budget(i["norm"], eps)}


def fooled(i: Images) -> Array:
    """(N,) whether each image was right, is wrong, and is in budget."""
    found: Array = i["right"] & i["changed"] & i["in_budget"]
    return found


def evaded(i: Images, level: str) -> Array:
    """(N,) whether each image fooled and is not above the threshold of a level: the one predicate of success."""
    found: Array = fooled(i) & (i["score"] <= i["thresholds"][level])
    return found


def unlimited(i: Images) -> bool:
    """Whether an attack has no budget."""
    return bool(i["norm"] == "linf" and i["eps"] is not None and i["eps"] >= UNBOUNDED)


def inside(i: Images, norm: str, eps: float) -> bool:
    """Whether an attack's budget is of this norm and no larger."""
    return bool(i["eps"] is not None and i["norm"] == norm and float(i["eps"]) <= eps + 1e-6)


def share(sets: list[Images], values: Array, measure: str, **place: Any) -> Row:
    """The row of a share of the images of the first set; it depends on all sets."""
    first = sets[0]
    found = rate(draws(first), first["id"], [np.asarray(values, bool)])
    return row(place.pop("kind", "white box"), measure, found, sorted({i["key"] for i in sets}), **{"protocol": "strict"} | place)


def cost(sets: list[Images], every: list[Images], level: str, kind: str, **place: Any) -> Row | None:
    """A ratio of medians: L2 of the smallest perturbation found that gets past classifier and detector over that of the smallest one
    found that fools the classifier, by any of the attacks, over the images that were fooled at all. An image that no attack got past the
    detector counts as infinite; None where that is half of them. ``every``: all attacks on these images, whatever they were up against.
    """
    base, past = _smallest(every, [fooled(i) for i in every]), _smallest(sets, [evaded(i, level) for i in sets])
    fell = np.isfinite(base)
    if not fell.any() or not np.isfinite(np.median(past[fell])):
        return None
    i = sets[0]
    found = median_ratio(draws(i), i["id"][fell], past[fell], base[fell])
    return row(kind, "cost", found, sorted({j["key"] for j in sets}), **{"protocol": "strict"} | place)


def _smallest(sets: list[Images], won: list[Array]) -> Array:
    """(N,) L2 of each image's smallest perturbation that won; infinite where none did."""
    return np.asarray(np.min([np.where(w, i["l2"], np.inf) for i, w in zip(sets, won, strict=True)], 0))


def same_images(s: Scores, like: Images) -> list[Images]:
    """All attacks on these images that are to fool, in the storage of the strict protocol."""
    found = [i for i in of_kind(s, "white box") if i["method"] != "Alarm" and i["protocol"] == "strict"]
    return [i for i in found if np.array_equal(i["id"], like["id"])]
