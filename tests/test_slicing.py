"""What is read by slices is written, joined and hashed without ever being read as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salientry import slicing
from salientry.errors import UsageError
from salientry.slicing import Joined, slices
from salientry.store import Column, Rows, Store, write_arrays


class OnlySlices:
    """What must never be read as a whole: rows of an array, three at most."""

    def __init__(self, array: Any) -> None:
        self.array, self.shape, self.dtype, self.read = array, array.shape, array.dtype, 0

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, rows: slice) -> Any:
        found = self.array[rows]
        assert len(found) <= 3
        self.read += len(found)
        return found


def test_slices_are_the_rows_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.arange(70, dtype=np.int16).reshape(10, 7)
    for size, counts in ((1, [1] * 10), (14, [1] * 10), (42, [3, 3, 3, 1]), (140, [10]), (10**6, [10])):
        monkeypatch.setattr(slicing, "PIECE", size)
        found = list(slices(array))
        assert [len(f) for f in found] == counts
        assert np.array_equal(np.concatenate(found), array)
    assert list(slices(array[:0])) == []
    assert [f.shape for f in slices(np.zeros((5, 0)))] == [(5, 0)]


def test_what_is_written_by_slices_has_the_bytes_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    arrays = {"image": rng.integers(0, 256, (20, 3, 4, 5), np.uint8), "score": rng.normal(size=(20, 8))}
    write_arrays(tmp_path / "whole", {k: [v] for k, v in arrays.items()} | {"scalar": [np.array(2.5)]})
    monkeypatch.setattr(slicing, "PIECE", 3 * 60)
    sources = {"image": OnlySlices(arrays["image"]), "score": OnlySlices(arrays["score"].repeat(4, 1)[:, ::4])}
    write_arrays(tmp_path / "slices", {k: [v] for k, v in sources.items()} | {"scalar": [np.array(2.5)]})
    assert (tmp_path / "slices").read_bytes() == (tmp_path / "whole").read_bytes()
    assert sources["image"].read == 20, "each row once"


def test_a_source_that_breaks_off_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(OnlySlices):
        def __getitem__(self, rows: slice) -> Any:
            if rows.start > 4:
                raise UsageError("picture 5 cannot be read")
            return super().__getitem__(rows)

    monkeypatch.setattr(slicing, "PIECE", 3)
    with pytest.raises(UsageError, match="picture 5"):
        write_arrays(tmp_path / "a", {"x": [Broken(np.zeros(10, np.uint8))]})
    with pytest.raises(UsageError, match="picture 5"):
        Store(tmp_path / "s").write(tmp_path / "s" / "step" / "a", {}, {"x": [Broken(np.zeros(10, np.uint8))]})
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_joined_sources_are_their_concatenation() -> None:
    parts = [np.arange(n * 2, dtype=np.int32).reshape(n, 2) + 100 * n for n in (3, 1, 0, 5)]
    joined, whole = Joined(parts), np.concatenate(parts)
    assert (joined.shape, joined.dtype, len(joined)) == (whole.shape, whole.dtype, 9)
    for start in range(-10, 12):
        for stop in range(-10, 12):
            assert np.array_equal(joined[start:stop], whole[start:stop])
    assert np.array_equal(joined[:], whole)
    for other in (np.zeros((3, 3), np.int32), np.zeros((3, 2), np.int64)):
        with pytest.raises(UsageError, match=r"must be alike; found int32 \(3, 2\), int"):
            Joined([parts[0], other])


def test_a_column_is_what_its_rows_say() -> None:
    rows = Rows(np.array([f"{i:016d}" for i in range(9)]), {"x": np.arange(18.0).reshape(9, 2)})
    wide = rows.take(np.array([5, 1, 7, 7])).widen({"y": np.arange(4)}, {})
    for of, name in ((rows, "x"), (wide, "x"), (wide, "y"), (wide.take(np.array([], int)), "x")):
        column, whole = Column(of, name), of.column(name)
        assert (column.shape, column.dtype, len(column)) == (whole.shape, whole.dtype, len(of))
        assert np.array_equal(column[1:3], whole[1:3])
        assert np.array_equal(column[:], whole)


def test_a_step_sees_fewer_images_at_once_where_they_are_large() -> None:
    assert [slicing.at_once(250, n) for n in (0, 28 * 28, 3 * 32 * 32)] == [250] * 3, "as it always was"
    assert slicing.at_once(250, 3 * 112 * 112) == 20
    assert slicing.at_once(250, 10**9) == 1
    assert slicing.at_once(10, 3 * 112 * 112) == 10
