from __future__ import annotations

import csv
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from salientry.datasets import ASSIRA
from salientry.datasets.assira import MANIFEST
from salientry.errors import DataDamaged, DataMissing, UsageError
from salientry.experiment.run import Run
from salientry.keys import decode, digest, encode
from salientry.protocol import assign_roles
from salientry.types import ROLES, Roles

FEW = Roles(train=8, detector_train=0, validation=4, calibration=4, test=4)


def draw(root: Path, cat: str = "cat", dog: str = "dog", count: int = 10) -> None:
    """Pictures of several sizes, wide, tall and grey ones among them."""
    rng = np.random.default_rng(0)
    for name in (cat, dog):
        (root / name).mkdir(parents=True)
        for i in range(count):
            size = (20 + 3 * i, 30) if i % 2 else (30, 17 + 2 * i)
            pixels = rng.integers(0, 256, (*size, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i:04}.png")


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def listed(root: Path) -> None:
    """A manifest of what is there."""
    with (root / MANIFEST).open("w", newline="") as f:
        rows = csv.DictWriter(f, ["file", "label", "sha256"])
        rows.writeheader()
        for p in sorted(root.rglob("*.png")):
            rows.writerow({"file": p.relative_to(root).as_posix(), "label": p.parent.name, "sha256": sha(p)})


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SALIENTRY_DATA", str(tmp_path))
    draw(tmp_path / "asirra")
    return tmp_path / "asirra"


def test_pictures_are_brought_to_one_size_by_pillow_before_anything_else(root: Path) -> None:
    (pool,) = ASSIRA(FEW).read()
    assert pool.images.shape == (20, 3, 112, 112)
    assert pool.images.dtype == np.uint8
    assert pool.labels.tolist() == [0] * 10 + [1] * 10
    by_name = {n: pool.images[slice(i, i + 1)][0] for i, n in enumerate(pool.names)}
    for name, pixels in by_name.items():
        with Image.open(root / name) as picture:
            squashed = np.asarray(picture.resize((112, 112), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(pixels, squashed.transpose(2, 0, 1))


def test_crop_keeps_the_middle_and_the_proportions(root: Path) -> None:
    (pool,) = ASSIRA(FEW, resize="crop").read()
    i = list(pool.names).index("cat/0000.png")
    with Image.open(root / "cat/0000.png") as picture:
        assert picture.size == (17, 30)  # the shorter side becomes 112
        tall = np.asarray(picture.resize((112, 198), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(pool.images[slice(i, i + 1)][0], tall[43:155].transpose(2, 0, 1))


def test_heads_have_no_images_of_their_own(root: Path) -> None:
    roles = ASSIRA().roles
    assert (roles.train, roles.detector_train, roles.validation, roles.calibration, roles.test) == (2133, 0, 237, 315, 315)
    pools = ASSIRA(FEW).read()
    _, role, _ = assign_roles(pools, FEW)
    assert np.bincount(role, minlength=5).tolist() == [8, 0, 4, 4, 4]
    for k in (0, 2, 3, 4):
        assert pools[0].labels[role == k].mean() == 0.5, ROLES[k]


@pytest.mark.parametrize(("cat", "dog", "place"), [("Cat", "Dog", "PetImages"), ("cats", "dogs", "assira"), ("CATS", "Dog", "asirra")])
def test_other_names_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cat: str, dog: str, place: str) -> None:
    monkeypatch.setenv("SALIENTRY_DATA", str(tmp_path))
    draw(tmp_path / place, cat, dog)
    (pool,) = ASSIRA(FEW).read()
    assert [n.split("/")[0] for n in pool.names] == [cat] * 10 + [dog] * 10
    assert ASSIRA(FEW).files() == {"assira/cat": tmp_path / place / cat, "assira/dog": tmp_path / place / dog}


def test_results_are_keyed_by_the_pictures_and_not_by_their_names(root: Path, tmp_path: Path) -> None:
    before = digest(ASSIRA(FEW))
    assert len({before, digest(ASSIRA(FEW, resize="crop")), digest(ASSIRA(FEW, size=64)), digest(ASSIRA(Roles(6, 0, 4, 4, 4)))}) == 4
    (root / "cat/0003.png").rename(root / "cat/aaaa.png")
    assert digest(ASSIRA(FEW)) == before
    (root / "cat/aaaa.png").rename(root / "dog/aaaa.png")
    assert digest(ASSIRA(FEW)) != before, "another label"
    (root / "dog/aaaa.png").rename(root / "cat/aaaa.png")
    Image.new("RGB", (20, 20), (3, 2, 1)).save(root / "dog/0000.png")
    assert digest(ASSIRA(FEW)) != before, "another picture"
    assert decode(encode(ASSIRA(FEW, resize="crop"))) == ASSIRA(FEW, resize="crop")


def test_a_run_reads_them_and_remembers_what_they_are_called(root: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "store")
    rows = run.get(run.dataset(ASSIRA(FEW)))
    assert (rows.facts["dataset"], rows.facts["classes"]) == ("assira", 2)


def test_the_manifest_is_optional_and_compared(root: Path) -> None:
    assert not ASSIRA(FEW).known
    listed(root)
    assert ASSIRA(FEW).known
    ASSIRA(FEW).read()
    Image.new("RGB", (20, 20)).save(root / "dog/0004.png")
    with pytest.raises(DataDamaged, match=r"dog/0004\.png has the wrong checksum: .*expected .*get it again"):
        ASSIRA(FEW).read()
    (root / "dog/0004.png").unlink()
    with pytest.raises(DataDamaged, match=r"names dog/0004\.png, which is not there"):
        ASSIRA(FEW).read()
    listed(root)
    Image.new("RGB", (20, 20), (1, 2, 3)).save(root / "dog/0099.png")
    with pytest.raises(DataDamaged, match=r"dog/0099\.png is not in manifest\.csv"):
        ASSIRA(FEW).read()
    (root / MANIFEST).write_text("name,sum\na,b\n")
    with pytest.raises(DataDamaged, match="is no manifest with the columns file and sha256"):
        ASSIRA(FEW).read()


def test_what_is_missing_or_too_much_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SALIENTRY_DATA", raising=False)
    with pytest.raises(DataMissing, match=r"SALIENTRY_DATA is not set\. .*assira/cat.*https://"):
        ASSIRA(FEW).read()
    monkeypatch.setenv("SALIENTRY_DATA", str(tmp_path))
    with pytest.raises(DataMissing, match=rf"no assira or asirra or PetImages under {tmp_path}"):
        ASSIRA(FEW).read()
    draw(tmp_path / "asirra", "cat", "horse")
    with pytest.raises(DataMissing, match="no sub-folder dog in"):
        ASSIRA(FEW).read()
    draw(tmp_path / "asirra" / "more", "a", "b", 1)
    (tmp_path / "asirra" / "horse").rename(tmp_path / "asirra" / "dog")
    with pytest.raises(UsageError, match="holds the sub-folder more; cat and dog and no other expected"):
        ASSIRA(FEW).read()


def test_too_few_pictures_are_counted(root: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "store")
    with pytest.raises(UsageError, match="want 3000 images; there are 20"):
        run.get(run.dataset(ASSIRA()))
    with pytest.raises(UsageError, match="unknown way to resize 'stretch'; there are: squash, crop"):
        ASSIRA(resize="stretch")  # type: ignore[arg-type]


# --- real pictures -----------------------------------------------------------------------------------------------

DATA = Path(os.environ.get("SALIENTRY_DATA") or "nowhere")
REAL = next((p for p in (DATA / "assira", DATA / "asirra") if p.is_dir()), DATA / "assira")


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="SALIENTRY_DATA is not set, or there are no cats and dogs in it")
def test_real_pictures() -> None:
    """Whichever 3,000 or more they are: in proportion, without a picture in two roles, squashed and cropped to one size."""
    settings = ASSIRA()
    (pool,) = settings.read()
    ids, role, _ = assign_roles([pool], settings.roles)
    assert np.bincount(role[role >= 0], minlength=5).tolist() == [2133, 0, 237, 315, 315]
    share = pool.labels.mean()
    assert all(abs(pool.labels[role == r].mean() - share) < 0.01 for r in (0, 2, 3, 4)), "cats and dogs in proportion"
    assert len(set(ids[role >= 0])) == 3000
    few = pool.images[slice(0, 200)]
    assert few.shape == (200, 3, 112, 112)
    assert 0.3 < few.mean() / 255 < 0.6 and few.std() / 255 > 0.15
    (cropped,) = ASSIRA(resize="crop").read()
    assert cropped.images[slice(0, 4)].shape == (4, 3, 112, 112)
