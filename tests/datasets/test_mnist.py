from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from salientry.datasets import MNIST, _files, mnist
from salientry.datasets._files import parse_idx
from salientry.errors import DataDamaged, DataMissing
from salientry.protocol import assign_roles
from salientry.types import Roles

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx(array: NDArray[np.uint8]) -> bytes:
    """The format as LeCun's page describes it."""
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def arrays() -> dict[str, NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    sizes = (40, 20)
    images = [rng.integers(0, 256, (n, 5, 4), np.uint8) for n in sizes]
    labels = [(np.arange(n) % 10).astype(np.uint8) for n in sizes]
    return dict(zip(FILES, (images[0], labels[0], images[1], labels[1]), strict=True))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SALIENTRY_DATA", str(tmp_path))
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    return tmp_path / "MNIST" / "raw"


def put(folder: Path, monkeypatch: pytest.MonkeyPatch, pack: bool, **other: Any) -> None:
    """Tiny files in the place of the real ones, known by their checksums; ``other`` replaces a file's bytes."""
    known = {}
    for name, array in arrays().items():
        body = other.get(name[:7].replace("-", "_"), idx(array))
        name, body = (f"{name}.gz", gzip.compress(body)) if pack else (name, body)
        (folder / name).write_bytes(body)
        known[name] = hashlib.sha256(body).hexdigest()
    monkeypatch.setattr(mnist, "SHA256", known)


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("deep", [True, False])
def test_the_four_files_are_two_pools(folder: Path, monkeypatch: pytest.MonkeyPatch, pack: bool, deep: bool) -> None:
    put(folder if deep else folder.parent, monkeypatch, pack)
    training, test = MNIST().read()
    for pool, part in ((training, "train"), (test, "t10k")):
        expected = arrays()
        assert np.array_equal(pool.images, expected[f"{part}-images-idx3-ubyte"][:, None])
        assert np.array_equal(pool.labels, expected[f"{part}-labels-idx1-ubyte"])
        assert pool.images.dtype == np.uint8 and pool.labels.dtype == np.int64
    assert training.roles == ("train", "detector_train", "validation") and test.roles == ("calibration", "test")
    _, role, _ = assign_roles([training, test], Roles(20, 10, 10, 10, 10))
    assert (role[:40] < 3).all() and (role[40:] >= 3).all()


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("name", FILES)
def test_a_wrong_checksum_is_damage_before_anything_is_parsed(folder: Path, monkeypatch: pytest.MonkeyPatch, pack: bool, name: str) -> None:
    put(folder, monkeypatch, pack)
    path = folder / (f"{name}.gz" if pack else name)
    path.write_bytes(path.read_bytes()[:-1] + b"\x99")
    parsed: list[Path] = []

    def parse(body: bytes, where: Path) -> Any:
        parsed.append(where)
        return parse_idx(body, where)

    def unpack(where: Path, raw: bytes) -> bytes:
        assert where != path, "not even unpacked"
        return gzip.decompress(raw) if pack else raw

    monkeypatch.setattr(mnist, "parse_idx", parse)
    monkeypatch.setattr(_files, "unpacked", unpack)
    with pytest.raises(DataDamaged, match=rf"{path} has the wrong checksum: .*get it again"):
        MNIST().read()
    assert path not in parsed


def test_the_real_checksums_refuse_the_fake_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as m:
        put(folder, m, True)
    assert len(mnist.SHA256) == 8
    monkeypatch.setattr(mnist, "parse_idx", lambda *_: pytest.fail("parsed before it was verified"))
    with pytest.raises(DataDamaged, match="wrong checksum"):
        MNIST().read()


def test_a_packed_file_that_is_no_gzip_is_damage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder, monkeypatch, True)
    path = folder / f"{FILES[0]}.gz"
    for raw in (b"no gzip", path.read_bytes()[:-20], b"", path.read_bytes()[:40] + b"\x00" * 50):
        path.write_bytes(raw)
        monkeypatch.setitem(mnist.SHA256, path.name, hashlib.sha256(raw).hexdigest())
        with pytest.raises(DataDamaged, match=str(path)):
            MNIST().read()


def test_images_and_labels_that_do_not_fit_are_damage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for body in (idx(np.zeros((39, 5, 4), np.uint8)), idx(np.zeros((40, 20), np.uint8)), idx(np.zeros(40, np.uint8))):
        put(folder, monkeypatch, False, train_i=body)
        with pytest.raises(DataDamaged, match=r"MNIST train: .* do not fit together"):
            MNIST().read()


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named_with_its_place(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    put(folder, monkeypatch, True)
    (folder / f"{name}.gz").unlink()
    with pytest.raises(
        DataMissing, match=rf"no MNIST/raw/{name}.gz or MNIST/raw/{name} or .* under {folder.parents[1]}\. Get the four files"
    ):
        MNIST().read()


def test_without_a_folder_it_says_which_variable_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (None, ""):
        monkeypatch.delenv("SALIENTRY_DATA", raising=False)
        if value is not None:
            monkeypatch.setenv("SALIENTRY_DATA", value)
        with pytest.raises(DataMissing, match=r"SALIENTRY_DATA is not set\. Set it to a folder that holds MNIST/raw/train-images") as e:
            MNIST().read()
        assert e.value.exit_code == 3


# --- the format --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7,), (3, 4), (2, 3, 4), (0, 3), (300, 1)])
def test_an_idx_file_is_read_as_written(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert np.array_equal(parse_idx(idx(array), Path("x")), array)


def test_every_truncated_and_every_longer_idx_file_is_damage() -> None:
    body = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    for cut in [body[:n] for n in range(len(body))] + [body + b"\x00"]:
        with pytest.raises(DataDamaged):
            parse_idx(cut, Path("x"))


@pytest.mark.parametrize(
    "body",
    [
        bytes([0, 0, 9, 1, 0, 0, 0, 1, 7]),  # signed bytes
        bytes([1, 0, 8, 1, 0, 0, 0, 1, 7]),
        bytes([0, 0, 8, 1, 1, 0, 0, 0, 7]),  # little-endian
        bytes([0, 0, 8, 3]) + 2 * (2**31).to_bytes(4, "big") + (4).to_bytes(4, "big"),  # 2^64 pixels, 0 when it overflows
        bytes([0, 0, 8, 255]) + b"\x00" * 1020,  # more axes than an array may have
        b"\x1f\x8b\x08\x00",
    ],
)
def test_other_bytes_are_damage(body: bytes) -> None:
    with pytest.raises(DataDamaged, match="some/file"):
        parse_idx(body, Path("some/file"))


# --- the real files ----------------------------------------------------------------------------------------------

REAL = Path(os.environ.get("SALIENTRY_DATA") or "nowhere") / "MNIST"


@pytest.mark.data
@pytest.mark.skipif(not REAL.is_dir(), reason="SALIENTRY_DATA is not set, or there is no MNIST folder in it")
def test_the_real_files() -> None:
    training, test = MNIST().read()
    assert training.images.shape == (60_000, 1, 28, 28) and test.images.shape == (10_000, 1, 28, 28)
    assert np.bincount(training.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert training.images.mean() / 255 == pytest.approx(0.1307, abs=1e-4) and training.images.std() / 255 == pytest.approx(
        0.3081, abs=1e-4
    )
    ids, role, _ = assign_roles([training, test], MNIST().roles)
    assert (role >= 0).all() and len(set(ids)) == 70_000
    assert np.bincount(role).tolist() == [50_000, 5_000, 5_000, 5_000, 5_000]
    assert (role[:60_000] < 3).all() and (role[60_000:] >= 3).all()
    labels = np.concatenate([training.labels, test.labels])
    for r, pool in ((0, training), (1, training), (2, training), (3, test), (4, test)):
        expected = np.bincount(pool.labels) / len(pool.labels) * (role == r).sum()
        assert np.abs(np.bincount(labels[role == r]) - expected).max() < 2
