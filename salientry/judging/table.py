"""Scores as a table, a row an image: what a verdict is computed from, whether the scores were made here or come in a file.

Columns that there must be:

* ``image``: which natural image it was made from; a natural image, every attacked copy and every changed copy of it have the same value;
* ``set``: ``natural``, ``attacked``, ``harmless`` (a change that should not be flagged) or ``control`` (a perturbation that is no attack);
* ``attack``: the name of the attack, the change or the control; empty for naturals;
* ``label``: the true class, a whole number;
* ``predicted``: the classifier's answer to this very image, a whole number;
* ``split``: ``train`` (the detector learnt from it), ``validation`` (something was chosen by it), ``calibration`` (naturals that the
  threshold is set on) or ``test``;
* ``score``: the detector's, higher for images that are more likely attacked.

Columns that there may be:

* ``detector``: whose score it is, where a table holds several; default ``detector``;
* ``encoding``: how an attacked image was saved, as ``JPEG 90``; default empty, without loss;
* ``in_budget``: whether the attacked image is within the attack's budget; default true;
* ``seen``: 1 where the detector was trained on this attack or change, 0 where it was not, -1 where nobody knows, which is the default;
* ``seed``: of the detector's training, where it was trained several times; default 0.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataDamaged, DataMissing, UsageError
from ..files import opened

SETS = ("natural", "attacked", "harmless", "control")
SUFFIXES = (".parquet", ".csv", ".npz")
SPLITS = ("train", "validation", "calibration", "test")
NEEDED = ("image", "set", "attack", "label", "predicted", "split", "score")
BESIDE: dict[str, Any] = {"detector": "detector", "encoding": "", "in_budget": True, "seen": -1, "seed": 0}
KINDS = {"label": np.int64, "predicted": np.int64, "score": np.float64, "in_budget": np.bool_, "seen": np.int64, "seed": np.int64}


@dataclass(frozen=True)
class ScoreTable:
    """Columns of one length, all that there may be; made by :meth:`of`, which checks them.

    Attributes:
        columns: arrays (N,) by name; words as ``str``.
    """

    columns: dict[str, NDArray[Any]]

    @classmethod
    def of(cls, given: Mapping[str, Any], origin: str = "the table") -> ScoreTable:
        """Of arrays by name.

        Args:
            given: the columns, see the module; a single value stands for as many.
            origin: what errors call it.

        Raises:
            UsageError: for a column that is missing or unknown, of another length or kind, or with a word that is not known.
        """
        if missing := [n for n in NEEDED if n not in given]:
            raise UsageError(f"{origin} has no column {missing[0]!r}; it needs {', '.join(NEEDED)}, and has {', '.join(given) or 'none'}")
        if unknown := [n for n in given if n not in NEEDED and n not in BESIDE]:
            raise UsageError(f"{origin} has a column {unknown[0]!r}; beside {', '.join(NEEDED)} it may have {', '.join(BESIDE)}")
        count = len(given["score"])
        if not count:
            raise UsageError(f"{origin} has no rows")
        found = {n: _column(n, given[n], count, origin) if n in given else np.full(count, v) for n, v in _all().items()}
        for name, words in (("set", SETS), ("split", SPLITS)):
            if strange := sorted(set(found[name].tolist()) - set(words)):
                raise UsageError(f"{origin}: {name} is one of {', '.join(words)}; found {strange[0]!r}")
        named = (found["set"] == "natural") == (found["attack"] == "")
        if not named.all():
            at = int(np.flatnonzero(~named)[0])
            what = f"set {found['set'][at]!r} with attack {found['attack'][at]!r}"
            raise UsageError(f"{origin}: attack is empty for naturals and the name of what was done for all others; row {at} has {what}")
        if not np.isfinite(found["score"]).all():
            at = int(np.flatnonzero(~np.isfinite(found["score"]))[0])
            raise UsageError(f"{origin}: every score is a finite number; row {at} has {found['score'][at]}")
        return cls(found)

    def __len__(self) -> int:
        return len(self.columns["score"])

    def __getitem__(self, name: str) -> NDArray[Any]:
        """A column."""
        return self.columns[name]

    def where(self, **wanted: Any) -> ScoreTable:
        """The rows whose columns have these values."""
        keep = np.ones(len(self), bool)
        for name, value in wanted.items():
            keep &= self.columns[name] == value
        return self.rows(keep)

    def rows(self, at: NDArray[Any]) -> ScoreTable:
        """These rows, by place or mask."""
        return ScoreTable({n: c[at] for n, c in self.columns.items()})

    def names(self, name: str) -> list[Any]:
        """The values of a column, each once, in the order in which they come."""
        return list(dict.fromkeys(self.columns[name].tolist()))

    def joined(self, *others: ScoreTable) -> ScoreTable:
        """The rows of all."""
        return ScoreTable({n: np.concatenate([c, *(o[n] for o in others)]) for n, c in self.columns.items()})


def _all() -> dict[str, Any]:
    return dict.fromkeys(NEEDED) | BESIDE


def _column(name: str, given: Any, count: int, origin: str) -> NDArray[Any]:
    """One column, of its kind."""
    values = np.asarray(given)
    if not values.ndim:  # one value for all rows
        values = np.full(count, values)
    if values.shape != (count,):
        raise UsageError(f"{origin}: column {name!r} has shape {values.shape}; ({count},), as the scores, was expected")
    kind = KINDS.get(name)
    if kind is None and values.dtype.kind == "U":
        return values
    if kind is None:
        missing = np.array([v is None or v != v for v in values.tolist()])
        return np.array(["" if gone else _word(v) for v, gone in zip(values.tolist(), missing, strict=True)])
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError):
        at = next((i for i, v in enumerate(values.tolist()) if not _is_number(v)), 0)
        what = "is empty" if values[at] is None or not str(values[at]).strip() else f"has {str(values[at])!r}"
        raise UsageError(f"{origin}: column {name!r} holds numbers; row {at} {what}") from None
    if kind is not np.float64 and not (np.isfinite(numbers) & (numbers == np.round(numbers))).all():
        at = int(np.flatnonzero(~(np.isfinite(numbers) & (numbers == np.round(numbers))))[0])
        raise UsageError(f"{origin}: column {name!r} holds whole numbers; row {at} has {values[at]!r}")
    return numbers.astype(kind)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _word(value: Any) -> str:
    """A name as text: 3.0, which a table of numbers with gaps makes of 3, is 3 again."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def read_scores(path: Path | str) -> ScoreTable:
    """A table from a file: ``.npz`` (an array a column), ``.csv``, ``.parquet`` (both by pandas, of the extra ``report``).

    Raises:
        DataMissing: where there is no such file.
        DataDamaged: where it cannot be read.
        UsageError: for another kind of file, or a table that lacks something, see :meth:`ScoreTable.of`.
    """
    path = Path(path)
    if not path.is_file():
        raise DataMissing(f"there is no file {path}")
    if path.suffix not in SUFFIXES:
        raise UsageError(f"scores come as .parquet, .csv or .npz; found {path.name}")
    if path.suffix == ".npz":
        try:
            with opened(path) as file, np.load(file, allow_pickle=False) as f:  # numpy leaves what it cannot read open
                return ScoreTable.of({n: f[n] for n in f.files}, path.name)
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as e:
            raise DataDamaged(f"{path.name} cannot be read as .npz: {e}") from None
    try:
        import pandas
    except ImportError:
        raise UsageError(f"{path.name} is read by pandas, which is not installed: pip install 'salientry[report]', or give .npz") from None
    words = dict.fromkeys(("image", "set", "attack", "split", "detector", "encoding"), str)
    try:
        frame = pandas.read_parquet(path) if path.suffix == ".parquet" else pandas.read_csv(path, dtype=words, keep_default_na=False)
    except (OSError, ValueError, ImportError) as e:
        raise DataDamaged(f"{path.name} cannot be read: {e}") from None
    return ScoreTable.of({str(n): frame[n].to_numpy() for n in frame.columns}, path.name)


def write_scores(table: ScoreTable, path: Path | str) -> None:
    """To an ``.npz``, which :func:`read_scores` reads."""
    columns: dict[str, Any] = dict(table.columns)
    np.savez_compressed(path, **columns)


__all__ = ["BESIDE", "NEEDED", "SETS", "SPLITS", "ScoreTable", "read_scores", "write_scores"]
