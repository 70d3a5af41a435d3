from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from salientry.datasets import DATASETS, Arrays
from salientry.errors import DataDamaged, DataMissing, Error, UsageError
from salientry.experiment.run import Run
from salientry.keys import canonical, digest
from salientry.protocol import assign_roles
from salientry.types import ROLES, Roles

ROLES_ = Roles(4, 2, 2, 2, 2)


def images(n: int = 12) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (n, 3, 4, 6), np.uint8)


def labels(n: int = 12) -> NDArray[np.int64]:
    return np.arange(n) % 3


def test_what_goes_in_comes_out() -> None:
    (pool,) = Arrays(images(), labels(), ROLES_).read()
    assert np.array_equal(pool.images, images()) and np.array_equal(pool.labels, labels())
    assert pool.roles == ROLES
    _, role, _ = assign_roles([pool], ROLES_)
    assert np.bincount(role).tolist() == [4, 2, 2, 2, 2]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64])
def test_labels_of_any_integers_become_int64(dtype: type) -> None:
    (pool,) = Arrays(images(), labels().astype(dtype), ROLES_).read()
    assert pool.labels.dtype == np.int64 and np.array_equal(pool.labels, labels())


def test_the_key_is_that_of_the_content() -> None:
    first = Arrays(images(), labels(), ROLES_)
    assert digest(first) == digest(Arrays(images(), labels(), ROLES_))
    assert canonical(first) == first.fingerprint and len(first.fingerprint) == 64
    assert first.fingerprint == Arrays(np.asfortranarray(images()), labels().astype(np.int32), ROLES_).fingerprint
    for at in (0, 5, -1):
        pixel, label = images(), labels()
        pixel.reshape(-1)[at] ^= 1
        label[at] = 3
        assert Arrays(pixel, labels(), ROLES_).fingerprint != first.fingerprint
        assert Arrays(images(), label, ROLES_).fingerprint != first.fingerprint


def test_order_roles_and_shape_are_content_too() -> None:
    order = np.arange(12)[::-1]
    different = [
        Arrays(images(), labels(), ROLES_),
        Arrays(images()[order], labels()[order], ROLES_),
        Arrays(images(), labels(), replace(ROLES_, test=1)),
        Arrays(images()[:11], labels()[:11], ROLES_),
        Arrays(images().reshape(12, 3, 6, 4), labels(), ROLES_),
        Arrays(images().reshape(12, 1, 12, 6), labels(), ROLES_),
    ]
    assert len({digest(d) for d in different}) == len(different)


@pytest.mark.parametrize(
    "found",
    [images().astype(np.float32), images().astype(np.int16), images()[0], images()[..., 0], images()[None], images() > 100],
)
def test_other_images_are_refused_with_what_was_found(found: NDArray[np.uint8]) -> None:
    with pytest.raises(UsageError, match=r"uint8 of shape \(N, C, H, W\); found") as e:
        Arrays(found, labels(), ROLES_)
    assert f"{found.dtype} {found.shape}" in str(e.value)


@pytest.mark.parametrize("found", [labels(11), labels()[:, None], labels().astype(float), labels() > 1, labels().astype(str)])
def test_other_labels_are_refused_with_what_was_found(found: NDArray[np.int64]) -> None:
    with pytest.raises(UsageError, match=r"integers of shape \(12,\); found") as e:
        Arrays(images(), found, ROLES_)
    assert f"{found.dtype} {found.shape}" in str(e.value)


def test_labels_below_zero_are_refused() -> None:
    with pytest.raises(UsageError, match="from 0"):
        Arrays(images(), labels() - 1, ROLES_)


def test_they_are_not_in_the_dict_of_data_sets() -> None:
    assert Arrays not in DATASETS.values(), "a recipe on the command line has no arrays to give"


# --- how many classes ------------------------------------------------------------------------------------------


def test_a_class_that_is_absent_is_counted(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for said, expected in ((None, 3), (3, 3), (7, 7)):
        data = run.dataset(Arrays(images(), labels(), ROLES_, classes=said))
        assert run.get(data).facts["classes"] == expected
        assert run.get(data["test"]).facts["classes"] == expected


def test_the_number_of_classes_is_part_of_the_key_when_it_is_said() -> None:
    found = [Arrays(images(), labels(), ROLES_, classes=k).fingerprint for k in (None, 3, 7)]
    assert len(set(found)) == 3


def test_the_key_without_it_is_the_one_that_it_always_was() -> None:
    from salientry.randomness import image_ids

    old = digest("arrays", images().shape, image_ids(images()).tolist(), labels().tolist(), ROLES_)
    assert Arrays(images(), labels(), ROLES_).fingerprint == old


@pytest.mark.parametrize(("classes", "words"), [(2, "below classes = 2; found 2"), (0, "below classes = 0; found 2"), (-1, "classes = -1")])
def test_labels_that_are_none_of_the_classes_are_refused(classes: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Arrays(images(), labels(), ROLES_, classes=classes)


def test_one_image_under_two_labels_is_refused() -> None:
    twice = np.concatenate([images(), images()[3:5]])
    with pytest.raises(DataDamaged, match=r"image 3 and image 12 are the same picture under two classes \(2 such pairs\); one class"):
        Arrays(twice, np.concatenate([labels(), labels()[4:6]]), ROLES_)
    Arrays(twice, np.concatenate([labels(), labels()[3:5]]), ROLES_)


# --- read by slices --------------------------------------------------------------------------------------------


class Watched:
    """An array that can only be read by slices, and notes how many rows were asked for at once."""

    def __init__(self, array: NDArray[np.uint8]) -> None:
        self.array, self.shape, self.dtype, self.most = array, array.shape, array.dtype, 0

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, rows: slice) -> NDArray[np.uint8]:
        assert isinstance(rows, slice)
        found = self.array[rows]
        self.most = max(self.most, len(found))
        return found


def test_what_is_read_by_slices_is_as_good_as_an_array_and_never_read_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("salientry.rows.PIECE", 3 * 72)  # three images
    watched, run = Watched(images()), Run(tmp_path)
    given = Arrays(watched, labels(), ROLES_)
    assert given.fingerprint == Arrays(images(), labels(), ROLES_).fingerprint
    rows = run.get(run.dataset(given))
    assert np.array_equal(rows.column("image"), images()) and isinstance(rows._columns["image"], np.memmap)
    assert watched.most == 3
    again = Arrays(Watched(images()), labels(), ROLES_)
    assert run.path(run.dataset(given)) == run.path(run.dataset(again)), "its place in the store does not depend on where it lay in memory"


@pytest.mark.parametrize("lie", ["dtype", "shape", "rows"])
def test_a_source_that_gives_something_else_is_refused(lie: str) -> None:
    class Lying(Watched):
        def __getitem__(self, rows: slice) -> Any:
            found = super().__getitem__(rows)
            return {"dtype": found.astype(float), "shape": found[..., :3], "rows": found[:-1]}[lie]

    with pytest.raises(UsageError, match=r"Lying\[0:12\] gave .*; uint8 \(12, 3, 4, 6\) expected"):
        Arrays(Lying(images()), labels(), ROLES_)


def test_a_memory_mapped_file_goes_to_another_process_as_its_place(tmp_path: Path) -> None:
    large = np.random.default_rng(0).integers(0, 256, (300, 3, 16, 16), np.uint8)
    np.save(tmp_path / "images.npy", large)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    for given in (mapped, mapped[10:40], mapped[:, :, ::2], mapped.reshape(300, 1, 48, 16)):
        before = Arrays(given, np.arange(len(given)) % 3, Roles(4, 2, 2, 2, 2))
        sent = pickle.dumps(before)
        assert (len(sent) < 10_000) == (given is mapped)
        after = pickle.loads(sent)
        assert np.array_equal(after.images, given) and after.fingerprint == before.fingerprint
        assert digest(after) == digest(before)


# --- from a file -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_file_is_its_arrays(tmp_path: Path, form: str, save: Any) -> None:
    """Whole 255ths are the 8-bit pixels themselves."""
    pixels = images() if form == "uint8" else (images() / np.array(255, form)).astype(form)
    save(tmp_path / "own.npz", images=pixels, labels=labels().astype(np.int32), other=np.zeros(3))
    for path in (tmp_path / "own.npz", str(tmp_path / "own.npz")):
        found = Arrays.from_file(path, ROLES_, classes=5)
        assert np.array_equal(found.images[:], images()) and found.images.dtype == np.uint8
        assert np.array_equal(found.read()[0].labels, labels()) and found.read()[0].classes == 5
        assert found.fingerprint == Arrays(images(), labels(), ROLES_, 5).fingerprint


NPZ: dict[str, tuple[dict[str, Any], type[Error], list[str]]] = {
    "no labels": ({"images": images()}, UsageError, ["has no array 'labels'; integers (12,) expected"]),
    "no images": ({"labels": labels()}, UsageError, ["has no array 'images'; it has: labels"]),
    "between 255ths": ({"images": images() / 256, "labels": labels()}, UsageError, ["no whole numbers of 255ths; uint8 or whole 255ths"]),
    "0 to 255": ({"images": images() * 1.0, "labels": labels()}, UsageError, ["must lie in [0, 1]", "255"]),
    "integers": ({"images": images().astype(int), "labels": labels()}, UsageError, ["uint8 or floats in [0, 1]; found int64"]),
    "grey": ({"images": images()[:, 0], "labels": labels()}, UsageError, ["(N, C, H, W)", "(12, 4, 6)", "images[:, None]"]),
    "channels last": ({"images": images().transpose(0, 2, 3, 1), "labels": labels()}, UsageError, ["channels last"]),
    "nothing": ({"images": images()[:0], "labels": labels()[:0]}, DataMissing, ["there are no images"]),
    "fewer labels": ({"images": images(), "labels": labels(11)}, UsageError, ["integers of shape (12,); found int64 (11,)"]),
    "labels of floats": ({"images": images(), "labels": labels() * 1.0}, UsageError, ["integers of shape (12,); found float64"]),
    "labels below 0": ({"images": images(), "labels": labels() - 1}, UsageError, ["count from 0; found -1"]),
    "labels above": ({"images": images(), "labels": labels() + 3}, UsageError, ["labels must lie below classes = 5; found 5"]),
    "pickled": ({"images": np.array([{}]), "labels": labels()}, DataDamaged, ["cannot be read as an .npz of plain arrays"]),
    "two labels": ({"images": images()[[0, 0]], "labels": labels(2)}, DataDamaged, ["image 0 and image 1 are the same picture"]),
}


@pytest.mark.parametrize("what", NPZ)
def test_a_file_that_cannot_be_used_is_one_line_that_names_it(tmp_path: Path, what: str) -> None:
    arrays, kind, words = NPZ[what]
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(kind) as e:
        Arrays.from_file(tmp_path / "own.npz", ROLES_, classes=5)
    assert type(e.value) is kind
    for word in (str(tmp_path / "own.npz"), *words):
        assert word in str(e.value), str(e.value)
    assert "\n" not in str(e.value)


def test_a_file_that_is_not_there_or_damaged(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", images=images(), labels=labels())
    whole = (tmp_path / "own.npz").read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 30):
        (tmp_path / "cut.npz").write_bytes(whole[:length])
        with pytest.raises(DataDamaged, match=r"cut\.npz cannot be read as an .npz"):
            Arrays.from_file(tmp_path / "cut.npz", ROLES_)
    middle = whole.index(images().tobytes()[:50]) + 7
    (tmp_path / "cut.npz").write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    with pytest.raises(DataDamaged, match=r"cut\.npz cannot be read as an .npz .*CRC"):
        Arrays.from_file(tmp_path / "cut.npz", ROLES_)
    with pytest.raises(DataMissing, match=r"no images at .*none\.npz"):
        Arrays.from_file(tmp_path / "none.npz", ROLES_)
    with pytest.raises(UsageError, match=r"is a folder; an \.npz file expected \(Folder reads"):
        Arrays.from_file(tmp_path, ROLES_)
    (tmp_path / "own.csv").touch()
    with pytest.raises(UsageError, match=r"own\.csv is neither"):
        Arrays.from_file(tmp_path / "own.csv", ROLES_)
