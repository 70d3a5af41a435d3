"""What `salientry datasets` says is so, whatever is there."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from salientry import DATASETS
from salientry.datasets import Arrays, Folder, cifar10, mnist
from salientry.experiment.run import Run
from salientry.types import Roles
from tests.datasets import test_assira as tiny_assira
from tests.datasets import test_cifar10 as tiny_cifar10
from tests.datasets import test_folder as tiny_folder
from tests.datasets import test_mnist as tiny_mnist

from .conftest import Cli


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """SALIENTRY_DATA, empty, and no mlxtend."""
    monkeypatch.setenv("SALIENTRY_DATA", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    return tmp_path


def parts(result: Cli) -> dict[str, dict[str, str]]:
    """Data set to what is said of it, by the first word of the line."""
    assert (result.code, result.err) == (0, "")
    found: dict[str, dict[str, str]] = {}
    for block in result.out.split("\n\n")[1:-1]:
        head, *lines = block.splitlines()
        name, about = head.split(": ", 1)
        found[name] = {"about": about} | dict(
            re.split(r"\s{2,}|(?<=goes to)\s+|(?<=checksums)\s+", line.strip(), maxsplit=1) for line in lines
        )
    return found


def put(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny files of MNIST and CIFAR-10 with their checksums."""
    (folder / "MNIST" / "raw").mkdir(parents=True)
    tiny_mnist.put(folder / "MNIST" / "raw", monkeypatch, True)
    (folder / cifar10.FOLDER).mkdir()
    for name in tiny_cifar10.FILES:
        tiny_cifar10.put(folder / cifar10.FOLDER, monkeypatch, name, tiny_cifar10.batch(name))


def test_every_data_set_is_reported_with_its_roles_and_its_home(data: Path) -> None:
    found = parts(Cli("datasets"))
    assert list(found) == list(DATASETS)
    for name, kind in DATASETS.items():
        roles = kind().roles
        wanted = [roles.train, roles.detector_train, roles.validation, roles.calibration, roles.test]
        numbers = [int(n.replace(",", "")) for n in re.findall(r"[\d,]*\d", found[name]["images"])]
        assert numbers == [sum(wanted), *wanted]
        assert found[name]["from"] == kind.home and kind.home.startswith("https://")
        assert "classes" in found[name]["about"] and "`" not in found[name]["about"]


def test_what_is_missing_is_named_with_its_place(data: Path) -> None:
    found = parts(Cli("datasets", "--verify"))
    for name, kind in DATASETS.items():
        files = kind().files()
        assert set(files.values()) == {None}
        assert found[name]["missing"] == ", ".join(place.rpartition("/")[2] for place in files)
        assert found[name]["goes to"] == f"SALIENTRY_DATA/{next(iter(files)).rpartition('/')[0]}"
        assert "here" not in found[name] and "checksums" not in found[name]


def test_files_put_where_it_says_are_found(data: Path) -> None:
    """The places that are printed are the places that are read."""
    for name, said in parts(Cli("datasets")).items():
        folder = Path(said["goes to"].replace("SALIENTRY_DATA", str(data)))
        folder.mkdir(parents=True)
        kind = "folder" if name == "assira" else "file"
        for file in said["missing"].split(", "):
            (folder / file).mkdir() if kind == "folder" else (folder / file).touch()
        after = parts(Cli("datasets"))[name]
        count = len(said["missing"].split(", "))
        assert after["here"] == f"{folder} ({count} {kind}{'s' if count > 1 else ''})" and "missing" not in after
        assert after["checksums"] == "not looked at (--verify)"
        assert parts(Cli("datasets", "--verify"))[name]["checksums"].startswith("WRONG: "), "they are empty"


def test_what_is_there_is_reported_with_its_checksums(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(data, monkeypatch)
    found = parts(Cli("datasets", "--verify"))
    assert found["mnist"]["here"] == f"{data}/MNIST/raw (4 files)" and found["cifar10"]["here"] == f"{data}/{cifar10.FOLDER} (6 files)"
    assert found["mnist"]["checksums"] == found["cifar10"]["checksums"] == "right"
    assert "missing" in found["digits"]
    damaged = data / cifar10.FOLDER / "data_batch_3"
    damaged.write_bytes(b"damage")
    digest = hashlib.sha256(b"damage").hexdigest()
    found = parts(Cli("datasets", "--verify"))
    assert found["mnist"]["checksums"] == "right"
    assert found["cifar10"]["checksums"].startswith(f"WRONG: {damaged} has the wrong checksum: 6 bytes with sha256 {digest[:16]}")
    assert parts(Cli("datasets"))["cifar10"]["checksums"] == "not looked at (--verify)"


def test_pictures_without_checksums_say_so(data: Path) -> None:
    tiny_assira.draw(data / "asirra", count=3)
    found = parts(Cli("datasets", "--verify"))["assira"]
    assert (found["here"], found["checksums"]) == (f"{data}/asirra (2 folders)", "none known; every picture can be read")
    tiny_assira.listed(data / "asirra")
    assert parts(Cli("datasets", "--verify"))["assira"]["checksums"] == "right"


def test_what_is_there_in_part_says_what_is_not(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(data, monkeypatch)
    (data / cifar10.FOLDER / "data_batch_2").unlink()
    (data / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz").unlink()
    found = parts(Cli("datasets", "--verify"))
    assert found["cifar10"]["missing"] == "data_batch_2; 5 of 6 are here"
    assert found["mnist"]["missing"] == "t10k-labels-idx1-ubyte.gz; 3 of 4 are here"


def test_unpacked_files_are_here_too(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / "MNIST").mkdir()
    tiny_mnist.put(data / "MNIST", monkeypatch, False)
    found = parts(Cli("datasets", "--verify"))["mnist"]
    assert (found["here"], found["checksums"]) == (f"{data}/MNIST (4 files)", "right")
    assert all(p and p.name in mnist.SHA256 for p in DATASETS["mnist"]().files().values())


def test_without_a_data_folder_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SALIENTRY_DATA", raising=False)
    result = Cli("datasets")
    assert result.code == 0 and result.lines[0] == "SALIENTRY_DATA is not set"


def test_ones_own_data_come_in_as_it_says(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The calls that it prints, on real files."""
    own = Cli("datasets").out.split("\n\n")[-1]
    calls = [line.strip() for line in own.splitlines() if line.strip().startswith(("Folder(", "Arrays"))]
    assert len(calls) == 3
    monkeypatch.chdir(tmp_path)
    tiny_folder.draw(Path("pictures"), ant=600, cat=600)
    images = np.random.default_rng(0).integers(0, 256, (12, 1, 5, 5), np.uint8)
    labels = np.arange(12) % 4
    np.savez("images.npz", images=images, labels=labels)
    names = {"Folder": Folder, "Arrays": Arrays, "Roles": Roles, "images": images, "labels": labels}
    run = Run(tmp_path / "store")
    for call, classes, shape in zip(calls, (2, 10, 4), ((3, 64, 64), (1, 5, 5), (1, 5, 5)), strict=True):
        made = eval(call.replace("Roles(...)", "Roles(4, 2, 2, 2, 2)"), names)
        rows = run.get(run.dataset(made))
        assert rows.facts["classes"] == classes and rows.column("image", [0]).shape[1:] == shape
