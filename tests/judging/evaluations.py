"""Evaluations of detectors as they might come: honest ones, and faults to plant in them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salientry.calibration import pac_threshold
from salientry.judging.audit_files import won
from salientry.judging.table import ScoreTable, write_scores

KINDS = ("normal", "sigmoid", "saturated", "rounded", "levels", "few levels", "counts")
CONTINUOUS = ("normal", "sigmoid", "saturated", "rounded")
ATTACKS = ("fgsm", "pgd 8/255", "deepfool", "patch", "c&w")


@dataclass
class Drawn:
    """An evaluation: columns of the table, images and claims as an audit is given them, and the kind of each detector's scores."""

    columns: dict[str, NDArray[Any]]
    images: dict[str, Any]
    claims: dict[str, Any]
    kinds: dict[str, str]

    @property
    def table(self) -> ScoreTable:
        return ScoreTable.of(self.columns)

    def keep(self, mask: NDArray[Any]) -> None:
        """Only these rows."""
        self.columns = {n: c[mask] for n, c in self.columns.items()}

    def double(self, at: NDArray[Any], **changed: Any) -> None:
        """These rows again, with other values in some columns."""
        self.columns = {n: np.concatenate([c, np.full(len(at), changed[n]) if n in changed else c[at]]) for n, c in self.columns.items()}

    def write(self, folder: Path) -> Path:
        """As files."""
        folder.mkdir()
        write_scores(self.table, folder / "scores.npz")
        if self.images:
            np.savez(folder / "images.npz", **self.images)
        (folder / "evaluation.json").write_text(json.dumps(self.claims))
        return folder


def _scores(kind: str, latent: NDArray[Any]) -> NDArray[Any]:
    """What a kind of detector makes of a latent number."""
    if kind == "sigmoid":
        return (1 / (1 + np.exp(-3 * latent.astype(np.float32)))).astype(np.float64)
    if kind == "saturated":
        return latent.clip(-0.5, 1.5)
    if kind == "rounded":
        return np.round(1 / (1 + np.exp(-latent)), 4)
    steps = {"levels": 8.0, "few levels": 1.0, "counts": 100.0}
    return np.round(latent * steps[kind]) if kind in steps else latent


@dataclass(frozen=True)
class Wish:
    """What must be in an evaluation so that a fault can be planted; 0 and None: as it comes.

    Attributes:
        detectors: at least.
        attacks: at least.
        seeds: exactly.
        failed: whether failed attacks have rows.
        kinds: of scores.
        images: whether there are any.
        claims: whether there are any.
        trained: whether the detectors' training and validation images have rows.
    """

    detectors: int = 1
    attacks: int = 1
    seeds: int = 0
    failed: bool | None = None
    kinds: tuple[str, ...] = KINDS
    images: bool | None = None
    claims: bool | None = None
    trained: bool = False


def honest(rng: np.random.Generator, least: int = 100, most: int = 1000, wish: Wish = Wish()) -> Drawn:
    """An evaluation without a fault: several attacks of different success, detectors of different quality and kinds of scores, seeds."""
    test, calibration = int(np.exp(rng.uniform(np.log(least), np.log(most)))), int(rng.integers(60, 300))
    train, validation = (int(rng.choice([40, 90] if wish.trained else [0, 40, 90])) for _ in range(2))
    split = np.repeat(["test", "calibration", "train", "validation"], [test, calibration, train, validation])
    total, classes = len(split), int(rng.integers(2, 12))
    label = rng.integers(0, classes, total)
    answer = np.where(rng.random(total) < rng.uniform(0.7, 1), label, (label + 1) % classes)
    names = rng.permutation(total).astype(str)
    attacks = list(rng.permutation(ATTACKS)[: int(rng.integers(wish.attacks, 5))])
    after = {}
    for a in attacks:
        fooled = rng.random(total) < rng.uniform(0.4, 1)
        after[a] = np.where(fooled & (answer == label), (answer + 1) % classes, answer)
    drop_failed = rng.random() < 0.5 if wish.failed is None else not wish.failed
    seeds = wish.seeds or int(rng.integers(1, 4))
    kinds = {f"detector {k}": str(rng.choice(wish.kinds)) for k in range(int(rng.integers(wish.detectors, 4)))}
    ease = rng.normal(size=total)
    pieces: list[dict[str, Any]] = []
    for detector, kind in kinds.items():
        shared = 0.5 * ease + rng.normal(size=total) * 0.5
        strength = {a: rng.uniform(0.2, 4) for a in attacks}
        move = {a: rng.normal(size=total) * 0.4 for a in attacks}
        for seed in range(seeds):
            plain = shared + 0.3 * rng.normal(size=total)
            blocks = [("natural", "", answer, plain, np.ones(total, bool))]
            for a in attacks:
                same = (after[a] == answer) & (rng.random(total) < 0.3)  # the attack gave up and left the image as it was
                latent = np.where(same, plain, plain + strength[a] + move[a] + 0.2 * rng.normal(size=total))
                there = np.isin(split, ("test", "train")) & ((after[a] != answer) | (not drop_failed))
                blocks.append(("attacked", a, after[a], latent, there))
            blocks.append(("harmless", "noise", answer, plain + 0.2 + 0.2 * rng.normal(size=total), split == "test"))
            for kind_of_set, a, predicted, latent, there in blocks:
                score = _scores(kind, latent)
                of = {"image": names, "label": label, "predicted": predicted, "split": split, "score": score}
                piece = {n: c[there] for n, c in of.items()}
                given = {"set": kind_of_set, "attack": a, "detector": detector, "seed": seed, "seen": int(rng.integers(0, 2))}
                pieces.append(piece | {n: np.full(int(there.sum()), v) for n, v in given.items()})
    columns = {n: np.concatenate([p[n] for p in pieces]) for n in pieces[0]}
    drawn = Drawn(columns, {}, {}, kinds)
    shown, claimed = rng.random(2) < (0.7, 0.8)
    drawn.images = images(rng, names[:test], attacks, ScoreTable.of(columns)) if (shown if wish.images is None else wish.images) else {}
    drawn.claims = claims(rng, drawn) if (claimed if wish.claims is None else wish.claims) else {}
    return drawn


def claims(rng: np.random.Generator, drawn: Drawn) -> dict[str, Any]:
    """What an honest author says of it."""
    t, level = drawn.table, 0.05
    attacked, first = t.rows((t["set"] == "attacked") & (t["split"] == "test")), next(iter(drawn.kinds))
    mine = t.where(detector=first, seed=0)
    wins = won(mine) & (mine["split"] == "test")
    found: dict[str, Any] = {"level": level, "natural": int((t.where(detector=first, seed=0, split="test")["set"] == "natural").sum())}
    found["attacked"] = {a: int((wins & (mine["attack"] == a)).sum()) for a in attacked.names("attack")}
    found |= {n: {} for n in ("thresholds", "rates", "seeds", "reported", "epochs")}
    for d in drawn.kinds:
        seeds = t.where(detector=d).names("seed")
        limits, rates = [], []
        for s in seeds:
            rows = t.where(detector=d, seed=s)
            natural = rows["score"][(rows["set"] == "natural") & (rows["split"] == "calibration")]
            limits.append(pac_threshold(natural, level) if rng.random() < 0.5 else float(np.quantile(natural, 1 - level)))
            good = won(rows) & (rows["split"] == "test")
            rates.append([float((rows["score"][good & (rows["attack"] == a)] > limits[-1]).mean()) for a in found["attacked"]])
        found["thresholds"][d] = limits if len(seeds) > 1 else limits[0]
        found["rates"][d] = {a: round(float(np.mean(r)), 3) for a, r in zip(found["attacked"], zip(*rates, strict=True), strict=True)}
        found["seeds"][d], found["reported"][d] = seeds, "mean"
        found["epochs"][d] = epochs(rng)
    return found


def epochs(rng: np.random.Generator) -> dict[str, Any]:
    """Picked on validation."""
    count = int(rng.integers(1, 30))
    truth = 0.9 - np.exp(-np.arange(count) / 5)
    validation, test = (np.round(truth + 0.02 * rng.normal(size=count), 4).tolist() for _ in range(2))
    return {"validation": validation, "test": test, "picked": int(np.argmax(validation))}


# --- images ---------------------------------------------------------------------------------------------------------------------


def images(rng: np.random.Generator, names: NDArray[Any], attacks: list[str], table: ScoreTable) -> dict[str, Any]:
    """Naturals as smooth as photographs or as cut off as digits, and attacks of several shapes, all saved in one way."""
    count, side, channels = min(40, len(names)), int(rng.choice([16, 28, 32])), int(rng.choice([1, 3]))
    at = np.minimum.outer(np.arange(side), side - np.arange(side))
    fall = 1 / (1 + at[0][:, None] ** 2 + at[0][None] ** 2) ** rng.uniform(0.6, 1.1)
    field = np.fft.ifft2(np.fft.fft2(rng.normal(size=(count, channels, side, side))) * fall).real
    field = field / field.std((1, 2, 3), keepdims=True)
    natural = (0.5 + rng.uniform(0.12, 0.5) * field).clip(0, 1)
    save = rng.choice(["8 bit", "on grid", "float"])
    found: dict[str, Any] = {"natural": _saved(natural, save), "natural/image": names[:count]}
    base = found["natural"] / (255 if save == "8 bit" else 1.0)
    wins = table.rows(won(table))
    for a in attacks:
        picked = np.isin(names[:count], wins["image"][wins["attack"] == a])
        x = base[picked]
        if len(x):
            found[f"attacked/{a}"] = _saved((x + _change(rng, a, x)).clip(0, 1), save)
            found[f"attacked/{a}/image"] = names[:count][picked]
    return found


def _change(rng: np.random.Generator, attack: str, x: NDArray[Any]) -> NDArray[Any]:
    eps = rng.uniform(2, 16) / 255
    if attack == "patch":
        mask = np.zeros_like(x)
        mask[..., 2:8, 3:9] = 1
        return mask * (rng.random(x.shape) - x)
    if attack == "deepfool":
        return (rng.random(x.shape) < 0.05) * rng.choice([-0.4, 0.4], size=x.shape)
    if attack == "c&w":
        return 0.3 * eps * rng.normal(size=x.shape)
    rough = rng.normal(size=x.shape)
    smooth = rough + np.roll(rough, 1, -1) + np.roll(rough, 1, -2) + rng.uniform(-0.5, 0.5) * (x - x.mean())
    return eps * np.sign(smooth)


def _saved(x: NDArray[Any], how: str) -> NDArray[Any]:
    levels = np.round(255 * x)
    return levels.astype(np.uint8) if how == "8 bit" else (levels / 255 if how == "on grid" else x).astype(np.float32)
