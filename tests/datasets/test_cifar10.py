from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from salientry.datasets import CIFAR10, cifar10
from salientry.datasets.cifar10 import FOLDER, SEEN, parse_batch
from salientry.errors import DataDamaged, DataMissing
from salientry.protocol import assign_roles
from salientry.randomness import image_ids
from salientry.types import ROLES, Roles

FILES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
EACH, ROLES_ = 40, Roles(train=100, detector_train=40, validation=40, calibration=20, test=20)


def pixels(name: str) -> NDArray[np.uint8]:
    """(N, 32, 32, 3): height, width, colour, as one would show it."""
    return np.random.default_rng(FILES.index(name)).integers(0, 256, (EACH, 32, 32, 3), np.uint8)


def labels(name: str) -> NDArray[np.int64]:
    return (np.arange(EACH) + FILES.index(name)) % 10


def batch(name: str, **changes: Any) -> bytes:
    """As the page of CIFAR-10 says: rows of 3,072 bytes, the red plane first, then green, then blue; each row by row."""
    planes = [pixels(name)[..., colour].reshape(EACH, 1024) for colour in range(3)]
    body = {b"batch_label": name.encode(), b"labels": labels(name).tolist(), b"data": np.concatenate(planes, 1), b"filenames": []}
    return pickle.dumps(body | {k.encode(): v for k, v in changes.items()}, 2)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The six files, tiny, known by their checksums."""
    monkeypatch.setenv("SALIENTRY_DATA", str(tmp_path))
    (tmp_path / FOLDER).mkdir()
    for name in FILES:
        put(tmp_path / FOLDER, monkeypatch, name, batch(name))
    return tmp_path / FOLDER


def put(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, body: bytes) -> None:
    (folder / name).write_bytes(body)
    monkeypatch.setitem(cifar10.SHA256, name, hashlib.sha256(body).hexdigest())


def test_five_batches_and_a_test_batch_are_two_pools(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10, "SEEN", 12)
    training, test = CIFAR10(ROLES_).read()
    assert training.roles == ("train", "detector_train", "validation") and test.roles == ("calibration", "test")
    for pool, names in ((training, FILES[:5]), (test, FILES[5:])):
        assert pool.images.dtype == np.uint8 and pool.images.shape == (EACH * len(names), 3, 32, 32)
        assert pool.labels.dtype == np.int64
        shown = np.asarray(pool.images[:]).transpose(0, 2, 3, 1)
        assert np.array_equal(shown, np.concatenate([pixels(n) for n in names])), "red, green, blue; rows from the top"
        assert np.array_equal(pool.labels, np.concatenate([labels(n) for n in names]))
    _, role, _ = assign_roles([training, test], ROLES_)
    assert (role[: 5 * EACH] < 3).all() and (role[5 * EACH :] >= 3).all()


def test_a_folder_without_its_name_will_do(folder: Path) -> None:
    expected = CIFAR10(ROLES_).read()[0].labels
    for name in FILES:
        (folder / name).rename(folder.parent / name)
    assert np.array_equal(CIFAR10(ROLES_).read()[0].labels, expected)
    assert CIFAR10().files() == {f"{FOLDER}/{n}": folder.parent / n for n in (*FILES[:5], "test_batch")}


@pytest.mark.parametrize("name", FILES)
def test_a_wrong_checksum_is_damage_before_anything_is_unpickled(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pickle runs what it likes, so nothing of it is looked at."""

    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (folder / "sprung",))

    (folder / name).write_bytes(pickle.dumps({b"labels": [], b"data": Trap()}))
    with pytest.raises(DataDamaged, match=rf"{name} has the wrong checksum: .* expected .*get it again") as e:
        CIFAR10(ROLES_).read()
    assert e.value.exit_code == 3
    assert not (folder / "sprung").exists()


@pytest.mark.parametrize("name", [FILES[0], FILES[3], FILES[5]])
def test_a_truncated_file_is_damage(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        (folder / name).write_bytes(whole[:length])
        with pytest.raises(DataDamaged, match=rf"{name} has the wrong checksum: {length} bytes"):
            CIFAR10(ROLES_).read()


def test_the_real_checksums_refuse_the_fake_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(cifar10.SHA256) == [*FILES] and all(len(v) == 64 for v in cifar10.SHA256.values())
    monkeypatch.setenv("SALIENTRY_DATA", str(tmp_path))
    (tmp_path / FOLDER).mkdir()
    for name in FILES:
        (tmp_path / FOLDER / name).write_bytes(batch(name))
    with pytest.raises(DataDamaged, match="wrong checksum"):
        CIFAR10().read()


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named_with_its_place(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(DataMissing, match=rf"no {FOLDER}/{name} or {name} under {folder.parent}\. Get the python version .*https://"):
        CIFAR10().read()
    assert [k for k, v in CIFAR10().files().items() if v is None] == [f"{FOLDER}/{name}"]


def test_without_a_folder_it_says_which_variable_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SALIENTRY_DATA", raising=False)
    with pytest.raises(DataMissing, match=rf"SALIENTRY_DATA is not set\. Set it to a folder that holds {FOLDER}/data_batch_1") as e:
        CIFAR10().read()
    assert e.value.exit_code == 3
    assert set(CIFAR10().files().values()) == {None}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "EOFError"),
        (b"no pickle", "UnpicklingError"),
        (batch("test_batch")[:-500], "is no batch of CIFAR-10"),
        (pickle.dumps([1, 2]), "is no batch"),
        (pickle.dumps({b"labels": []}), "KeyError"),
        (batch("test_batch", labels=[1, 2]), r"uint8 \(40, 3072\) images and 2 labels; uint8 \(N, 3072\) and N expected"),
        (batch("test_batch", labels=["cat"] * EACH), "is no batch"),
        (batch("test_batch", data=np.zeros((EACH, 1024), np.uint8)), r"uint8 \(40, 1024\) images"),
        (batch("test_batch", data=np.zeros((EACH, 3072))), r"float64 \(40, 3072\) images"),
    ],
)
def test_another_content_under_the_right_checksum_is_damage(body: bytes, words: str) -> None:
    with pytest.raises(DataDamaged, match=rf"^some/file.*{words}"):
        parse_batch(body, Path("some/file"))


# --- the images on which settings were tried --------------------------------------------------------------------


def test_the_first_images_of_the_test_file_are_for_calibration(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SEEN == 3000
    monkeypatch.setattr(cifar10, "SEEN", 12)
    training, test = CIFAR10(ROLES_).read()
    assert (training.pinned, test.pinned) == (0, 12)
    _, role, rank = assign_roles([training, test], ROLES_)
    mine = role[5 * EACH :]
    assert (mine[:12] == ROLES.index("calibration")).all()
    assert (mine[12:] == ROLES.index("calibration")).sum() == 8 and (mine == ROLES.index("test")).sum() == 20
    assert np.array_equal(role[: 5 * EACH], assign_roles([training], ROLES_)[1]), "the training file is split as before"
    assert sorted(rank[5 * EACH :][mine == 3].tolist()) == list(range(20))


def test_what_is_pinned_hardly_moves_the_classes(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(cifar10, "SEEN", 10)
    _, test = CIFAR10(ROLES_).read()
    _, role, _ = assign_roles([test], ROLES_)
    for r in (3, 4):
        assert np.bincount(test.labels[role == r], minlength=10).tolist() == [2] * 10


# --- the real files ----------------------------------------------------------------------------------------------

REAL = Path(os.environ.get("SALIENTRY_DATA") or "nowhere") / FOLDER


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="SALIENTRY_DATA is not set, or there is no CIFAR-10 in it")
def test_the_real_files() -> None:
    training, test = CIFAR10().read()
    assert training.images.shape == (50_000, 3, 32, 32) and test.images.shape == (10_000, 3, 32, 32)
    assert np.bincount(training.labels).tolist() == [5000] * 10 and np.bincount(test.labels).tolist() == [1000] * 10
    whole = np.asarray(training.images[:])
    assert (whole.mean((0, 2, 3)) / 255).tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-4), "the known means, red first"
    assert (whole.std((0, 2, 3)) / 255).tolist() == pytest.approx([0.2470, 0.2435, 0.2616], abs=1e-4)
    assert training.labels[:5].tolist() == [6, 9, 9, 4, 1] and test.labels[:5].tolist() == [3, 8, 8, 0, 6]
    ids, role, rank = assign_roles([training, test], CIFAR10().roles)
    assert np.bincount(role).tolist() == [40_000, 5_000, 5_000, 5_000, 5_000]
    assert (role[:50_000] < 3).all() and (role[50_000:] >= 3).all()
    assert (role[50_000:53_000] == ROLES.index("calibration")).all()
    for r in range(5):
        counts = np.bincount(np.concatenate([training.labels, test.labels])[role == r])
        assert np.abs(counts - counts.mean()).max() <= 60, "the seen images are not quite in proportion"
    assert ids[50_000:].tolist() == image_ids(test.images).tolist()
    assert all(sorted(rank[role == r].tolist()) == list(range((role == r).sum())) for r in range(5))
