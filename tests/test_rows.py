"""What is read by slices is written, joined and hashed without ever being read as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salientry import rows
from salientry.errors import UsageError
from salientry.rows import Concatenated, ReadColumn, Rows, id_bytes, ids_from, slices
from salientry.store import Store, write_arrays


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
        monkeypatch.setattr(rows, "PIECE", size)
        found = list(slices(array))
        assert [len(f) for f in found] == counts
        assert np.array_equal(np.concatenate(found), array)
    assert list(slices(array[:0])) == []
    assert [f.shape for f in slices(np.zeros((5, 0)))] == [(5, 0)]


def test_what_is_written_by_slices_has_the_bytes_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    arrays = {"image": rng.integers(0, 256, (20, 3, 4, 5), np.uint8), "score": rng.normal(size=(20, 8))}
    write_arrays(tmp_path / "whole", {k: [v] for k, v in arrays.items()} | {"scalar": [np.array(2.5)]})
    monkeypatch.setattr(rows, "PIECE", 3 * 60)
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

    monkeypatch.setattr(rows, "PIECE", 3)
    with pytest.raises(UsageError, match="picture 5"):
        write_arrays(tmp_path / "a", {"x": [Broken(np.zeros(10, np.uint8))]})
    with pytest.raises(UsageError, match="picture 5"):
        Store(tmp_path / "s").write(tmp_path / "s" / "step" / "a", {}, {"x": [Broken(np.zeros(10, np.uint8))]})
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_joined_sources_are_their_concatenation() -> None:
    parts = [np.arange(n * 2, dtype=np.int32).reshape(n, 2) + 100 * n for n in (3, 1, 0, 5)]
    joined, whole = Concatenated(parts), np.concatenate(parts)
    assert (joined.shape, joined.dtype, len(joined)) == (whole.shape, whole.dtype, 9)
    for start in range(-10, 12):
        for stop in range(-10, 12):
            assert np.array_equal(joined[start:stop], whole[start:stop])
    assert np.array_equal(joined[:], whole)
    for other in (np.zeros((3, 3), np.int32), np.zeros((3, 2), np.int64)):
        with pytest.raises(UsageError, match=r"must be alike; found int32 \(3, 2\), int"):
            Concatenated([parts[0], other])


def test_a_column_is_what_its_rows_say() -> None:
    rows = Rows(np.array([f"{i:016d}" for i in range(9)]), {"x": np.arange(18.0).reshape(9, 2)})
    wide = rows.take(np.array([5, 1, 7, 7])).widen({"y": np.arange(4)}, {})
    for of, name in ((rows, "x"), (wide, "x"), (wide, "y"), (wide.take(np.array([], int)), "x")):
        column, whole = ReadColumn(of, name), of.column(name)
        assert (column.shape, column.dtype, len(column)) == (whole.shape, whole.dtype, len(of))
        assert np.array_equal(column[1:3], whole[1:3])
        assert np.array_equal(column[:], whole)


def test_a_step_sees_fewer_images_at_once_where_they_are_large() -> None:
    assert [rows.at_once(250, n) for n in (0, 28 * 28, 3 * 32 * 32)] == [250] * 3, "as it always was"
    assert rows.at_once(250, 3 * 112 * 112) == 20
    assert rows.at_once(250, 10**9) == 1
    assert rows.at_once(10, 3 * 112 * 112) == 10


# --- rows --------------------------------------------------------------------------------------------------------


def some_rows(n: int = 6) -> Rows:
    ids = np.array([f"{i:016x}" for i in range(n)])
    columns = {
        "image": np.arange(n * 4, dtype=np.uint8).reshape(n, 1, 2, 2),
        "label": np.arange(n),
        "logits": np.arange(2.0 * n).reshape(n, 2),
    }
    return Rows(ids, columns, {"role": "test"})


def test_ids_survive_their_bytes() -> None:
    ids = some_rows().ids
    raw = id_bytes(ids)
    assert raw.shape == (6, 16) and raw.dtype == np.uint8
    back = ids_from(raw)
    assert back.dtype == "<U16" and back.tolist() == ids.tolist()
    assert ids_from(id_bytes(ids[:0])).tolist() == []


def test_a_column_or_some_rows_of_it() -> None:
    rows = some_rows()
    assert rows.column("label").tolist() == [0, 1, 2, 3, 4, 5]
    assert rows.column("label", np.array([5, 0, 0])).tolist() == [5, 0, 0]
    assert rows.column("label", slice(1, 3)).tolist() == [1, 2]
    rows.column("label")[:] = 9
    assert rows.column("label").tolist() == [0, 1, 2, 3, 4, 5], "a column is a copy"


def test_take_chooses_and_orders_every_column_and_composes() -> None:
    rows = some_rows().widen({"score": np.arange(6) * 10.0}, {})
    first = rows.take(np.array([4, 2, 0, 5]), role="detector_train")
    assert len(first) == 4 and first.facts == {"role": "detector_train"} and rows.facts == {"role": "test"}
    for name in rows.names:
        assert np.array_equal(first.column(name), rows.column(name)[[4, 2, 0, 5]]), name
    second = first.take(np.array([3, 1]))
    assert second.ids.tolist() == rows.ids[[5, 2]].tolist()
    assert second.column("score").tolist() == [50, 20] and second.column("label").tolist() == [5, 2]
    assert second.column("score", np.array([1])).tolist() == [20]
    wider = second.widen({"flag": np.array([True, False])}, {}).take(np.array([1, 0]))
    assert wider.column("flag").tolist() == [False, True] and wider.column("label").tolist() == [2, 5]


def test_widening_adds_and_overrides_and_keeps_the_rest() -> None:
    rows = some_rows()
    wide = rows.widen({"score": np.ones(6), "logits": np.zeros((6, 2))}, {"detector": "SMD"})
    assert wide.facts == {"role": "test", "detector": "SMD"}
    assert set(wide.names) == {"image", "label", "logits", "score"}
    assert wide.column("logits").sum() == 0 and rows.column("logits").sum() > 0
    assert "score" in wide and "score" not in rows and "label" in wide


def test_a_new_image_hides_what_came_from_the_old_one_but_not_the_label() -> None:
    rows = some_rows().widen({"score": np.ones(6)}, {})
    twin = rows.widen({"image": np.zeros((6, 1, 2, 2), np.float32)}, {})
    assert set(twin.names) == {"image", "label"}
    assert "logits" not in twin and "score" not in twin
    assert twin.column("label").tolist() == [0, 1, 2, 3, 4, 5]
    for name in ("logits", "score"):
        with pytest.raises(KeyError, match=f"no column '{name}'; there are image, label"):
            twin.column(name)
    looked = twin.widen({"logits": np.full((6, 2), 7.0)}, {}).widen({"score": np.zeros(6)}, {})
    assert looked.column("logits", np.array([3])).tolist() == [[7, 7]]
    assert looked.column("image").dtype == np.float32
    assert set(looked.names) == {"image", "label", "logits", "score"}
    assert set(looked.take(np.array([1])).names) == {"image", "label", "logits", "score"}
