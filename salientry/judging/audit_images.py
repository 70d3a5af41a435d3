"""Whether naturals and attacked images differ in more than the attack: type, range, size, preprocessing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..rates import measured, short, signed
from .audit_files import Evaluation, GivenImages
from .audit_findings import Finding, Seen, Unseen, counted

MOST = 200  # images of a set that are compared
OFF_GRID, ON_GRID = 0.01, 0.001  # shares of values that are no multiple of 1/255: of one set at least, of the other at most
GREY = 1 / 255
OUTSIDE = 0.1  # beyond [0, 1]
BLOCK = 8  # pixels of JPEG
LEAST = 10  # images
OF_IMAGES = (
    "float-against-8-bit",
    "different-range",
    "different-size",
    "different-preprocessing",
    "same-picture-twice",
    "attack-changed-nothing",
)

Values = NDArray[np.float64]


def images(e: Evaluation) -> Iterator[Seen]:
    """All that is looked for in images.npz."""
    natural = e.pictures.get(("natural", ""))
    attacked = {n: p for (kind, n), p in e.pictures.items() if kind == "attacked" and len(p.pixels)}
    if natural is None or not attacked:
        yield Unseen(OF_IMAGES, "there are no images of both naturals and attacks")
        return
    found: dict[str, dict[str, str]] = {}
    for name, pictures in attacked.items():
        for kind, why in _compared(natural, pictures, _fooled(e, name), e.claimed.linf.get(name)):
            found.setdefault(kind, {})[name] = why
    for kind, by_attack in found.items():
        name, why = next(iter(by_attack.items()))
        said = f"{SENTENCES[kind]}: {', '.join(list(by_attack)[:3])}{f' and {len(by_attack) - 3} more' if len(by_attack) > 3 else ''}"
        yield Finding(kind, said, {"attacks": by_attack}, f"{name}: {why}")
    if not e.claimed.linf:
        yield Unseen(("budget-exceeded",), "evaluation.json has no budgets (linf)")
    yield from _doubled(e, natural)


def _fooled(e: Evaluation, attack: str) -> NDArray[Any]:
    """Names of the images on which an attack fools the classifier, as the table says."""
    return np.concatenate([rows["image"][e.wins[key] & (rows["attack"] == attack)] for key, rows in e.groups.items()])


SENTENCES = {
    "float-against-8-bit": "one of naturals and attacked images has 8-bit values, the other has not",
    "different-range": "values of attacked images have another range than those of naturals",
    "different-size": "attacked images have another size than naturals",
    "different-preprocessing": "attacked images differ from their naturals by more than an attack",
    "attack-changed-nothing": "attacked images are equal to their naturals",
    "budget-exceeded": "attacked images differ from their naturals by more than is claimed",
}


def _compared(natural: GivenImages, attacked: GivenImages, fooled: NDArray[Any], linf: float | None) -> Iterator[tuple[str, str]]:
    """What is wrong with one attack's images: the kind, and why; ``fooled``: those that fool the classifier."""
    if natural.pixels.shape[1:] != attacked.pixels.shape[1:]:
        yield "different-size", f"naturals are {natural.pixels.shape[1:]}, these {attacked.pixels.shape[1:]}"
        return
    if why := _range(natural, attacked):
        yield "different-range", why
    elif why := _grid(natural, attacked):
        yield "float-against-8-bit", why
    _, i, j = np.intersect1d(natural.image, attacked.image, return_indices=True)
    if len(i) < LEAST:
        return
    pick = np.linspace(0, len(i) - 1, min(len(i), MOST)).astype(int)
    x, y, names = natural.values[i[pick]], attacked.values[j[pick]], natural.image[i[pick]]
    change = np.abs(y - x).reshape(len(x), -1).max(1)
    same = (change == 0) & np.isin(attacked.image[j[pick]], fooled)
    if same.any():
        at = int(same.argmax())
        yield "attack-changed-nothing", f"{counted(int(same.sum()), len(x))} images, and these fool the classifier; image {names[at]}"
    beyond = change > np.inf if linf is None else change > linf + GREY / 2 + 1e-6
    if beyond.any():
        at = int(change.argmax())
        said = f"{counted(int(beyond.sum()), len(x))} images by up to {change[at]:.4f}"
        yield "budget-exceeded", f"{said}, claimed {linf:.4f}; image {names[at]}"
    if why := "; ".join(_unlike(x[change > 0], y[change > 0])):
        yield "different-preprocessing", why


def _range(natural: GivenImages, attacked: GivenImages) -> str:
    """Why the two sets have another range; the attacked ones may leave [0, 1] by a rounding."""
    ends = [(float(p.values.min()), float(p.values.max())) for p in (natural, attacked)]
    out = [low < -OUTSIDE or high > 1 + OUTSIDE for low, high in ends]
    if not any(out):
        return ""
    (a, b), (c, d) = ends
    apart = max(abs(a - c), abs(b - d)) > OUTSIDE + 0.25 * (b - a)
    return f"naturals lie in [{a:.3g}, {b:.3g}], these in [{c:.3g}, {d:.3g}]" if out[0] != out[1] or apart else ""


def _grid(natural: GivenImages, attacked: GivenImages) -> str:
    """Why one of the sets is of 8 bits and the other is not."""
    shares = [_off_grid(p) for p in (natural, attacked)]
    if min(shares) > ON_GRID or max(shares) < OFF_GRID:
        return ""
    types = f"types {natural.pixels.dtype}, {attacked.pixels.dtype}"
    return f"{measured(shares[0], 1)} of the naturals' values are no multiple of 1/255, {measured(shares[1], 1)} of these; {types}"


def _off_grid(p: GivenImages) -> float:
    if p.pixels.dtype == np.uint8:
        return 0.0
    levels = 255 * p.values[:: max(1, len(p.pixels) // MOST)]
    return float((np.abs(levels - np.round(levels)) > 0.02).mean())


@dataclass(frozen=True)
class Fit:
    """What of each image's change its natural explains: change = offset + slope (x - mean) + sharp (x - blurred x) + rest.

    Attributes:
        offset: (N,).
        slope: (N,).
        sharp: (N,).
        rest: (N,) standard deviation of what remains.
        explained: (N,) share of the change's variance that slope and sharp explain.
    """

    offset: Values
    slope: Values
    sharp: Values
    rest: Values
    explained: Values


def blurred(x: Values) -> Values:
    """(N, C, H, W) with the weights 1, 2, 1 along both axes; edges repeated."""
    p = np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)), mode="edge")
    x = (p[:, :, :-2] + 2 * p[:, :, 1:-1] + p[:, :, 2:]) / 4
    p = np.pad(x, ((0, 0), (0, 0), (0, 0), (1, 1)), mode="edge")
    return np.asarray((p[..., :-2] + 2 * p[..., 1:-1] + p[..., 2:]) / 4)


def fit_of(x: Values, y: Values) -> Fit:
    """Fit each image's change by its natural, where nothing was cut off: an attack's largest change must fit in [0, 1] around the value.

    The largest changes are cut to 3 times the median one, so that an attack on few values does not decide.
    """
    n = len(x)
    change, high = (y - x).reshape(n, -1), (x - blurred(x)).reshape(n, -1)
    flat = x.reshape(n, -1)
    size = np.abs(change)
    change = np.clip(change, *(s * 3 * np.maximum(np.median(size, 1, keepdims=True), 1e-9) for s in (-1, 1)))
    room = np.quantile(np.abs(change), 0.99, axis=1, keepdims=True) + GREY
    inside = ((flat >= np.minimum(room, 0.25)) & (flat <= 1 - np.minimum(room, 0.25))).astype(np.float64)
    count = inside.sum(1)
    few = count < np.maximum(24, 0.05 * flat.shape[1])

    def centred(v: Values) -> Values:
        return np.asarray((v - ((v * inside).sum(1) / np.maximum(count, 1))[:, None]) * inside)

    offset = (change * inside).sum(1) / np.maximum(count, 1)
    by = np.stack([centred(flat), centred(high)], 1)  # (N, 2, P)
    r, tiny = centred(change), 1e-12 * np.eye(2)
    slopes = np.linalg.solve(by @ by.transpose(0, 2, 1) + tiny, by @ r[:, :, None])[:, :, 0]
    left = r - (slopes[:, :, None] * by).sum(1)
    total, remains = (r * r).sum(1), (left * left).sum(1)
    explained = np.where(total > 0, 1 - remains / np.maximum(total, 1e-30), 0.0)
    found = (offset, slopes[:, 0], slopes[:, 1], np.sqrt(remains / np.maximum(count, 1)), explained)
    return Fit(*(np.where(few, np.nan, v) for v in found))


def _unlike(x: Values, y: Values) -> Iterator[str]:
    """Why the attacked images were preprocessed in another way than the naturals."""
    if len(x) < LEAST:
        return
    fit = fit_of(x, y)
    known = np.isfinite(fit.slope)
    if known.sum() >= LEAST:
        offset, slope, sharp, rest, explained = (float(np.median(v[known])) for v in vars(fit).values())
        if abs(offset) > 1.5 * GREY + 0.3 * rest and _one_sign(fit.offset[known]):
            yield f"their values are {signed(float(offset))} beside the naturals' (median)"
        if abs(slope) > 0.02 and explained > 0.1 and _one_sign(fit.slope[known]):
            yield f"their contrast is {short(float(1 + slope))} of the naturals' (median)"
        if abs(sharp) > 0.1 and explained > 0.1 and _one_sign(fit.sharp[known]):
            yield f"they are {'sharper' if sharp > 0 else 'smoother'} than the naturals: fine structure times {1 + sharp:.2f} (median)"
    before, after = _empty_waves(x), _empty_waves(y)
    both = np.isfinite(before) & np.isfinite(after)
    if both.sum() >= LEAST and float(np.median(after[both] - before[both])) > 0.05:
        a, b = float(np.median(before[both])), float(np.median(after[both]))
        yield f"{measured(b)} of their fine 8 x 8 waves are empty, as JPEG and resizing leave them; {measured(a)} of the naturals'"


def _one_sign(values: Values) -> bool:
    """Whether nine images in ten are moved in the same direction."""
    return bool(max((values > 0).mean(), (values < 0).mean()) >= 0.9)


def _empty_waves(x: Values) -> Values:
    """(N,) share of the finer half of the 8 x 8 cosine waves that are smaller than two grey levels, in blocks that are not flat."""
    n, c, h, w = x.shape
    h, w = h - h % BLOCK, w - w % BLOCK
    if not h or not w:
        return np.full(n, np.nan)
    at = np.arange(BLOCK)
    basis = np.cos(np.pi * (2 * at[None] + 1) * at[:, None] / (2 * BLOCK)) * np.sqrt(np.where(at[:, None] == 0, 1, 2) / BLOCK)
    blocks = x[:, :, :h, :w].reshape(n, c, h // BLOCK, BLOCK, w // BLOCK, BLOCK).transpose(0, 1, 2, 4, 3, 5)
    waves = basis @ blocks @ basis.T
    fine = at[:, None] + at[None] >= BLOCK
    energy = np.abs(waves).reshape(n, -1, BLOCK * BLOCK)[:, :, 1:].max(2)
    empty = (np.abs(waves[..., fine]).reshape(n, len(energy[0]), -1) < 2 * GREY).mean(2)
    rough = energy > 10 * GREY
    with np.errstate(invalid="ignore"):
        return np.asarray((empty * rough).sum(1) / rough.sum(1))


def _doubled(e: Evaluation, natural: GivenImages) -> Iterator[Finding]:
    """One picture under two names, in two splits."""
    splits: dict[str, set[str]] = {}
    t = e.table.where(set="natural")
    for image, split in zip(t["image"].tolist(), t["split"].tolist(), strict=True):
        splits.setdefault(image, set()).add(split)
    first: dict[bytes, str] = {}
    pairs: list[tuple[str, str]] = []
    for name, pixels in zip(natural.image.tolist(), natural.pixels, strict=True):
        other = first.setdefault(hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).digest(), name)
        if other != name and splits.get(other, set()) != splits.get(name, set()):
            pairs.append((other, name))
    if pairs:
        said = f"{counted(len(pairs), len(natural.image))} natural pictures stand in another split, too, under another name"
        yield Finding("same-picture-twice", said, {"images": len(pairs)}, f"images {pairs[0][0]} and {pairs[0][1]}")
