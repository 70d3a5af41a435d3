"""The files of an evaluation that is audited: scores, perhaps images, perhaps what is claimed.

* ``scores.parquet``, ``scores.csv`` or ``scores.npz``: see :mod:`salientry.judging.table`.
* ``images.npz``: ``natural`` (N, C, H, W), and any number of ``attacked/NAME`` and ``harmless/NAME``, NAME as in the table's column
  ``attack``; uint8, or float in [0, 1]. Beside each, as ``natural/image``, (N,) which natural each is, as in the column ``image``.
* ``evaluation.json``: an object with any of

  - ``level``: the false-positive rate that is claimed;
  - ``thresholds``: by detector a number, or one for each seed (a list), or either by attack (an object);
  - ``rates``: by detector, by attack, the detection rate; under ``natural`` the false-positive rate;
  - ``epochs``: by detector ``validation`` and ``test``, a number an epoch, higher is better, and ``picked``, which was taken, from 0;
  - ``seeds``: by detector, the seeds that it was trained with; an empty list for one that no seed moves;
  - ``reported``: by detector ``mean`` or ``best``, over seeds;
  - ``natural``: the number of test naturals that are counted; ``attacked``: by attack, that of attacked images;
  - ``linf``: by attack, the largest change of a value that it may make, in [0, 1].
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataDamaged, DataMissing, UsageError
from ..files import opened, read_json
from .table import ScoreTable, read_scores

LEVEL = 0.05  # where none is claimed
SCORES = ("scores.parquet", "scores.csv", "scores.npz")
CLAIMS = ("level", "thresholds", "rates", "epochs", "seeds", "reported", "natural", "attacked", "linf")
Numbers = float | list[float]


@dataclass(frozen=True)
class Epochs:
    """Numbers of each epoch of a detector's training, higher is better, and the place of the one that was taken."""

    validation: list[float]
    test: list[float]
    picked: int


@dataclass(frozen=True)
class Claims:
    """What is claimed: see the module."""

    level: float | None = None
    thresholds: dict[str, Numbers | dict[str, Numbers]] = field(default_factory=dict)
    rates: dict[str, dict[str, float]] = field(default_factory=dict)
    epochs: dict[str, Epochs] = field(default_factory=dict)
    seeds: dict[str, list[int]] = field(default_factory=dict)
    reported: dict[str, str] = field(default_factory=dict)
    natural: int | None = None
    attacked: dict[str, int] = field(default_factory=dict)
    linf: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Any, origin: str = "evaluation.json") -> Claims:
        """Of the JSON.

        Raises:
            UsageError: for anything but what the module says.
        """
        if not isinstance(given, Mapping):
            raise UsageError(f"{origin} holds an object; found {type(given).__name__}")
        if unknown := [n for n in given if n not in CLAIMS]:
            raise UsageError(f"{origin} has {unknown[0]!r}; it may have {', '.join(CLAIMS)}")
        found: dict[str, Any] = {}
        for name, value in given.items():
            where = f"{origin}: {name}"
            if name in ("level", "natural"):
                found[name] = _number(value, where) if name == "level" else _whole(value, where)
                continue
            reads = {"thresholds": _threshold, "rates": _rates, "epochs": _epochs, "seeds": _seeds, "reported": _reported}
            reads |= {"attacked": _whole, "linf": _number}
            found[name] = {k: reads[name](v, f"{where} of {k}") for k, v in _object(value, where).items()}
        if not 0 < found.get("level", LEVEL) < 1:
            raise UsageError(f"{origin}: level lies strictly between 0 and 1; found {found['level']}")
        return cls(**found)


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{where} is an object, by name; found {value!r}")
    return value


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise UsageError(f"{where} is a finite number; found {value!r}")
    return float(value)


def _whole(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UsageError(f"{where} is a whole number; found {value!r}")
    return value


def _several(value: Any, where: str) -> list[float]:
    if not isinstance(value, list):
        raise UsageError(f"{where} is a list of numbers; found {value!r}")
    return [_number(v, where) for v in value]


def _threshold(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        return {k: _several(v, f"{where}, {k}") if isinstance(v, list) else _number(v, f"{where}, {k}") for k, v in value.items()}
    return _several(value, where) if isinstance(value, list) else _number(value, where)


def _rates(value: Any, where: str) -> dict[str, float]:
    found = {k: _number(v, f"{where}, {k}") for k, v in _object(value, where).items()}
    for k, v in found.items():
        if not 0 <= v <= 1:
            raise UsageError(f"{where}, {k}, is a share in [0, 1]; found {v}")
    return found


def _epochs(value: Any, where: str) -> Epochs:
    given = _object(value, where)
    if unknown := [n for n in given if n not in ("validation", "test", "picked")]:
        raise UsageError(f"{where} has {unknown[0]!r}; it may have validation, test and picked")
    validation, test = (_several(given.get(n, []), f"{where}, {n}") for n in ("validation", "test"))
    picked = _whole(given.get("picked"), f"{where}, picked,")
    lengths = {len(v) for v in (validation, test) if v}
    if len(lengths) != 1 or picked >= max(lengths):
        raise UsageError(
            f"{where} has {len(validation)} validation and {len(test)} test numbers and picked {picked}; one number an epoch fits"
        )
    return Epochs(validation, test, picked)


def _seeds(value: Any, where: str) -> list[int]:
    return [int(v) for v in _several(value, where)]


def _reported(value: Any, where: str) -> str:
    if value not in ("mean", "best"):
        raise UsageError(f"{where} is mean or best; found {value!r}")
    return str(value)


@dataclass(frozen=True)
class GivenImages:
    """Images of one set.

    Attributes:
        pixels: (N, C, H, W) uint8, or float.
        image: (N,) which natural each is.
    """

    pixels: NDArray[Any]
    image: NDArray[Any]

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """(N, C, H, W) with 8-bit images divided by 255."""
        return self.pixels.astype(np.float64) / (255.0 if self.pixels.dtype == np.uint8 else 1.0)


def pictures_of(given: Mapping[str, Any], origin: str = "images.npz") -> dict[tuple[str, str], GivenImages]:
    """Sets of images by set and name (of naturals ""), from arrays named as in the file.

    Raises:
        UsageError: for an array that is not named, shaped or typed as the module says.
    """
    known = f"natural, attacked/NAME and harmless/NAME (N, C, H, W), and with /image after each of these (N,), were expected; {origin} has"
    found = {}
    for name in given:
        if name.endswith("/image"):
            if name.removesuffix("/image") not in given:
                raise UsageError(f"{known} {name!r} alone")
            continue
        kind, _, attack = name.partition("/")
        if kind not in ("natural", "attacked", "harmless") or (kind == "natural") != (not attack):
            raise UsageError(f"{known} {name!r}")
        pixels = np.asarray(given[name])
        names = np.asarray(given.get(f"{name}/image", ()))
        if pixels.ndim != 4 or not (pixels.dtype == np.uint8 or pixels.dtype.kind == "f"):
            raise UsageError(f"{origin}: {name} is (N, C, H, W), uint8 or float; found {pixels.dtype} {pixels.shape}")
        if names.shape != (len(pixels),):
            raise UsageError(f"{origin}: {name}/image is ({len(pixels)},), as the images; found {names.shape}")
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            raise UsageError(f"{origin}: {name} has values that are not finite")
        found[kind, attack] = GivenImages(pixels, names.astype(str))
    return found


@dataclass(frozen=True)
class Evaluation:
    """What there is of an evaluation.

    Attributes:
        table: scores.
        pictures: images by set and name; empty where there are none.
        claims: what is claimed; None where nothing is.
        origin: what it is called.
    """

    table: ScoreTable
    pictures: dict[tuple[str, str], GivenImages] = field(default_factory=dict)
    claims: Claims | None = None
    origin: str = "the table"

    @property
    def claimed(self) -> Claims:
        """What is claimed; nothing where there is no evaluation.json."""
        return self.claims or Claims()

    @property
    def level(self) -> float:
        """The false-positive rate that is claimed, else :data:`LEVEL`."""
        return self.claimed.level or LEVEL

    @cached_property
    def groups(self) -> dict[tuple[str, int], ScoreTable]:
        """The rows by detector and seed."""
        return {
            (d, s): mine.where(seed=s)
            for d in self.table.names("detector")
            for mine in [self.table.where(detector=d)]
            for s in mine.names("seed")
        }

    @cached_property
    def wins(self) -> dict[tuple[str, int], NDArray[np.bool_]]:
        """Of each group's rows, whether they are attacked images that fool the classifier, of naturals that it has right.

        Where the natural has no row, one that is not classified as its label.
        """
        return {key: won(rows) for key, rows in self.groups.items()}


def won(rows: ScoreTable) -> NDArray[np.bool_]:
    """(N,) see :attr:`Evaluation.wins`."""
    natural = rows.where(set="natural")
    names, first = np.unique(natural["image"], return_index=True)
    answers, right = natural["predicted"][first], (natural["predicted"] == natural["label"])[first]
    at = np.searchsorted(names, rows["image"]).clip(max=max(len(names) - 1, 0))
    known = names[at] == rows["image"] if len(names) else np.zeros(len(rows), bool)
    fooled = rows["predicted"] != rows["label"]
    if len(names):
        fooled = np.where(known, right[at] & (rows["predicted"] != answers[at]), fooled)
    return np.asarray((rows["set"] == "attacked") & fooled)


def read_evaluation(path: Path | str) -> Evaluation:
    """Of a file of scores, or a folder with the files that the module names.

    Raises:
        DataMissing: where there are no scores.
        DataDamaged: for a file that cannot be read.
        UsageError: for one that holds something else.
    """
    path = Path(path)
    if not path.is_dir():
        return Evaluation(read_scores(path), origin=path.name)
    there = [n for n in SCORES if (path / n).is_file()]
    if not there:
        raise DataMissing(f"{path} has no scores: one of {', '.join(SCORES)} was expected")
    if len(there) > 1:
        raise UsageError(f"{path} has {' and '.join(there)}: one file of scores was expected")
    pictures, claims = path / "images.npz", path / "evaluation.json"
    table = read_scores(path / there[0])
    return Evaluation(table, _read_pictures(pictures), _read_claims(claims), path.name or str(path))


def _read_pictures(path: Path) -> dict[tuple[str, str], GivenImages]:
    if not path.is_file():
        return {}
    try:
        with opened(path) as file, np.load(file, allow_pickle=False) as f:  # numpy leaves what it cannot read open
            given = {n: f[n] for n in f.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as e:
        raise DataDamaged(f"{path.name} cannot be read as .npz: {e}") from None
    return pictures_of(given, path.name)


def _read_claims(path: Path) -> Claims | None:
    return Claims.of(read_json(path), path.name) if path.is_file() else None
