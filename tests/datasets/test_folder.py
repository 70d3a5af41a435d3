from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from salientry.classifiers import CompactCNN
from salientry.datasets import DATASETS, Folder
from salientry.errors import DataDamaged, DataMissing, Error, UsageError
from salientry.experiment.run import Run
from salientry.experiment.steps import classify, train_classifier
from salientry.keys import canonical, digest
from salientry.protocol import assign_roles
from salientry.randomness import image_ids
from salientry.types import ROLES, Pool, Roles, Shape

ROLES_, SHAPE = Roles(4, 2, 2, 2, 2), Shape(3, 6, 8, 2)


def picture(seed: int, channels: int = 3, size: tuple[int, int] = (6, 8)) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size, channels)[: 3 if channels == 3 else 2], np.uint8)


def draw(root: Path, channels: int = 3, **classes: int) -> Path:
    """So many pictures in each sub-folder, PNG and BMP in turn, all different."""
    for k, (name, count) in enumerate(classes.items()):
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(picture(1000 * k + i, channels)).save(root / name / f"{i}.{'bmp' if i % 2 else 'png'}")
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return draw(tmp_path / "own", cat=7, ant=5)


def pixels(pool: Pool) -> NDArray[np.uint8]:
    return np.asarray(pool.images[:])


# --- truth -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_every_picture_arrives_under_its_class(tmp_path: Path, channels: int) -> None:
    folder = Folder(draw(tmp_path / "own", channels, cat=7, ant=5), ROLES_)
    (pool,) = folder.read()
    assert folder.class_names == ("ant", "cat"), "the order of names, not of making"
    assert (pool.classes, pool.roles) == (2, ROLES)
    assert pool.images.shape == (12, channels, 6, 8) == pixels(pool).shape
    assert pixels(pool).dtype == np.uint8 == pool.images.dtype and pool.labels.dtype == np.int64
    assert np.bincount(pool.labels).tolist() == [5, 7]
    for found, label, name in zip(pixels(pool), pool.labels, pool.names, strict=True):
        kind, i = name.split("/")
        assert kind == folder.class_names[label]
        drawn = picture(1000 * ["cat", "ant"].index(kind) + int(i.split(".")[0]), channels)
        assert np.array_equal(found, drawn[None] if channels == 1 else drawn.transpose(2, 0, 1))
    assert len(set(pool.names)) == 12


def test_slices_are_those_of_the_whole(root: Path) -> None:
    (pool,) = Folder(root, ROLES_).read()
    for rows in (slice(0, 3), slice(5, 6), slice(9, 40), slice(4, 4), slice(-2, None)):
        assert np.array_equal(pool.images[rows], pixels(pool)[rows])
    ids, role, _ = assign_roles([pool], ROLES_)
    assert ids.tolist() == image_ids(pixels(pool)).tolist()
    assert np.bincount(role).tolist() == [4, 2, 2, 2, 2]


@pytest.mark.parametrize("size", [(6, 8), (3, 4), (5, 5), (12, 4), (9, 30)])
def test_squashed_is_what_pillow_makes_of_the_8_bit_picture(root: Path, size: tuple[int, int]) -> None:
    (pool,) = Folder(root, ROLES_, size).read()
    assert pool.images.shape == (12, 3, *size)
    for found, name in zip(pixels(pool), pool.names, strict=True):
        with Image.open(root / name) as natural:
            made = natural.convert("RGB").resize((size[1], size[0]), Image.Resampling.BILINEAR)
        assert np.array_equal(found, np.asarray(made).transpose(2, 0, 1))


def one(folder: Path, drawn: NDArray[np.uint8], size: tuple[int, int], resize: Any) -> NDArray[np.uint8]:
    """A single picture as it comes out of a folder."""
    (folder / "a").mkdir(parents=True)
    Image.fromarray(drawn).save(folder / "a" / "x.png")
    return pixels(Folder(folder, Roles(1, 0, 0, 0, 0), size, resize).read()[0])[0]


@pytest.mark.parametrize(("height", "width"), [(20, 60), (60, 20), (40, 40)])
def test_a_crop_keeps_proportions_and_a_squash_does_not(tmp_path: Path, height: int, width: int) -> None:
    """A white square of half the shorter side in the middle: it stays a square of half the side."""
    drawn, short = np.zeros((height, width), np.uint8), min(height, width)
    drawn[(height - short // 2) // 2 :, (width - short // 2) // 2 :][: short // 2, : short // 2] = 255
    cropped = one(tmp_path / "crop", drawn, (20, 20), "crop")[0]
    squashed = one(tmp_path / "squash", drawn, (20, 20), "squash")[0]
    sizes = [((m > 127).any(1).sum(), (m > 127).any(0).sum()) for m in (cropped, squashed)]
    assert sizes[0] == (10, 10)
    assert sorted(sizes[1]) == ([10, 10] if height == width else [4, 10]), "a third of the long side is left"
    assert np.array_equal(cropped, cropped[::-1]) and np.array_equal(cropped, cropped[:, ::-1]), "from the middle"


@pytest.mark.parametrize("size", [(10, 10), (7, 21), (30, 9), (21, 64), (40, 40)])
def test_a_crop_resizes_the_whole_and_takes_the_middle(tmp_path: Path, size: tuple[int, int]) -> None:
    drawn = picture(3, size=(21, 64))
    scale = max(size[0] / 21, size[1] / 64)
    h, w = max(size[0], round(21 * scale)), max(size[1], round(64 * scale))
    assert h == size[0] or w == size[1], "nothing more is cut than must be"
    whole = np.asarray(Image.fromarray(drawn).resize((w, h), Image.Resampling.BILINEAR))
    top, left = (h - size[0]) // 2, (w - size[1]) // 2
    expected = whole[top : top + size[0], left : left + size[1]].transpose(2, 0, 1)
    assert np.array_equal(one(tmp_path, drawn, size, "crop"), expected)


def test_resizing_is_antialiased(tmp_path: Path) -> None:
    """A fine chequerboard becomes grey, not black, white or stripes."""
    board = ((np.indices((64, 64)).sum(0) % 2) * 255).astype(np.uint8)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(board if name == "a" else 255 - board).save(tmp_path / name / "x.png")
    for resize in ("squash", "crop"):
        found = pixels(Folder(tmp_path, Roles(2, 0, 0, 0, 0), (8, 8), resize).read()[0])  # type: ignore[arg-type]
        assert np.abs(found.astype(int) - 127).max() <= 3


# --- the key ---------------------------------------------------------------------------------------------------


def renamed(root: Path) -> None:
    for folder in list(root.iterdir()):
        for p in list(folder.iterdir()):
            p.rename(p.with_name(f"{900 - int(p.stem)}-renamed{p.suffix}"))
        folder.rename(folder.with_name(f"{folder.name}s"))


def stored_otherwise(root: Path) -> None:
    for p in list(root.glob("*/*.png")):
        Image.open(p).save(p.with_suffix(".tiff"))
        p.unlink()


@pytest.mark.parametrize("change", [renamed, stored_otherwise])
def test_names_and_file_formats_are_no_content(root: Path, change: Callable[[Path], None]) -> None:
    before = Folder(root, ROLES_)
    (a,) = before.read()
    ids = a.images.ids.tolist()  # type: ignore[attr-defined]
    moved = root.rename(root.with_name("elsewhere"))
    change(moved)
    after = Folder(str(moved), ROLES_)
    (b,) = after.read()
    assert digest(before) == digest(after) and canonical(after) == after.fingerprint
    assert b.images.ids.tolist() == ids and np.array_equal(a.labels, b.labels)  # type: ignore[attr-defined]
    assert all(
        np.array_equal(x, y) for x, y in zip(assign_roles([b], ROLES_), assign_roles(Folder(moved, ROLES_).read(), ROLES_), strict=True)
    )


def changed_pixel(root: Path) -> None:
    drawn = np.asarray(Image.open(root / "cat" / "0.png")).copy()
    drawn[0, 0, 0] ^= 1
    Image.fromarray(drawn).save(root / "cat" / "0.png")


def other_class(root: Path) -> None:
    (root / "cat" / "0.png").rename(root / "ant" / "new.png")


def swapped_names(root: Path) -> None:
    (root / "cat").rename(root / "abba")  # now before ant


def removed(root: Path) -> None:
    (root / "cat" / "6.png").unlink()


CONTENT: dict[str, Callable[[Path], Any]] = {
    "pixel": changed_pixel,
    "class": other_class,
    "numbers of the classes": swapped_names,
    "one less": removed,
}


@pytest.mark.parametrize("what", CONTENT)
def test_content_moves_the_key(root: Path, what: str) -> None:
    before = Folder(root, ROLES_).fingerprint
    CONTENT[what](root)
    assert Folder(root, ROLES_).fingerprint != before


def test_roles_and_resizing_move_the_key(root: Path) -> None:
    found = [
        Folder(root, ROLES_),
        Folder(root, Roles(4, 2, 2, 2, 1)),
        Folder(root, ROLES_, (6, 8)),
        Folder(root, ROLES_, (6, 8), "crop"),
        Folder(root, ROLES_, (8, 6)),
    ]
    assert len({f.fingerprint for f in found}) == len(found)
    assert Folder(root, ROLES_, resize="crop").fingerprint == found[0].fingerprint, "without a size nothing is resized"
    assert Folder(root, ROLES_, [6, 8]).fingerprint == found[2].fingerprint  # type: ignore[arg-type]


def test_a_run_finds_results_again_wherever_the_folder_lies(root: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "store")
    before = run.do(classify, run.dataset(Folder(root, ROLES_))["train"], run.given(CompactCNN(width=4).build(SHAPE), "net"))
    run.compute([before])
    again = Run(tmp_path / "store")
    elsewhere = Folder(root.rename(tmp_path / "moved"), ROLES_)
    after = again.do(classify, again.dataset(elsewhere)["train"], again.given(CompactCNN(width=4).build(SHAPE), "net"))
    assert not again.compute([after]).made and again.path(after) == run.path(before)


# --- through a run ---------------------------------------------------------------------------------------------


def test_it_goes_through_a_run(root: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "store")
    folder = Folder(root, ROLES_)
    data = run.dataset(folder)
    net = run.do(train_classifier, data["train"], CompactCNN(width=4, epochs=1, batch=2))
    seen = run.get(run.do(classify, data["test"], net))
    assert seen.facts["classes"] == 2 and seen.facts["dataset"] == "folder"
    assert seen.column("logits").shape == (2, 2)
    rows, (pool,) = run.get(data), folder.read()
    assert isinstance(rows._columns["image"], np.memmap)
    assert np.array_equal(rows.column("image"), pixels(pool)) and np.array_equal(rows.column("label"), pool.labels)
    assert rows.ids.tolist() == image_ids(pixels(pool)).tolist()


def test_another_process_reads_the_same(root: Path) -> None:
    sent = pickle.loads(pickle.dumps(Folder(root, ROLES_, (4, 4))))
    assert sent.fingerprint == Folder(root, ROLES_, (4, 4)).fingerprint
    assert np.array_equal(pixels(sent.read()[0]), pixels(Folder(root, ROLES_, (4, 4)).read()[0]))
    assert len(pickle.dumps(Folder(draw(root.with_name("large"), a=9, b=9), ROLES_, (640, 480)))) < 20_000, "no pixels go along"


def test_a_picture_that_changed_since_is_refused_by_name(root: Path, tmp_path: Path) -> None:
    folder = Folder(root, ROLES_)
    changed_pixel(root)
    run = Run(tmp_path / "store")
    with pytest.raises(DataDamaged, match=r"cat/0\.png is not the picture that was there before"):
        run.get(run.dataset(folder))
    assert not run.done(run.dataset(folder))
    (root / "cat" / "0.png").unlink()
    with pytest.raises(DataMissing, match=r"no picture at .*cat/0\.png"):
        run.get(run.dataset(folder))


# --- what it says ----------------------------------------------------------------------------------------------


def beside(root: Path) -> None:
    Image.fromarray(picture(1)).save(root / "loose.png")


def unlabelled(root: Path) -> None:
    for p in list(root.glob("*/*")):
        p.rename(root / f"{p.parent.name}-{p.name}")
    for folder in ("ant", "cat"):
        (root / folder).rmdir()


def grey(root: Path) -> None:
    Image.fromarray(picture(1, 1)).save(root / "cat" / "grey.png")


def larger(root: Path) -> None:
    Image.fromarray(picture(1, size=(6, 9))).save(root / "cat" / "larger.png")


def truncated(root: Path) -> None:
    for suffix in ("png", "jpg", "bmp", "gif"):
        Image.fromarray(picture(1, size=(60, 80))).save(root / "ant" / f"cut.{suffix}")
        whole = (root / "ant" / f"cut.{suffix}").read_bytes()
        (root / "ant" / f"cut.{suffix}").write_bytes(whole[: 2 * len(whole) // 3])


def no_picture(root: Path) -> None:
    (root / "ant" / "words.png").write_text("these are words")


def empty_file(root: Path) -> None:
    (root / "ant" / "nothing.jpg").touch()


def empty_class(root: Path) -> None:
    (root / "bee").mkdir()


def two_classes(root: Path) -> None:
    Image.open(root / "cat" / "3.bmp").save(root / "ant" / "again.png")


def deep(root: Path) -> None:
    Image.fromarray(np.zeros((6, 8), np.uint16)).save(root / "ant" / "deep.png")


def nested(root: Path) -> None:
    (root / "cat" / "more").mkdir()
    shutil.copy(root / "cat" / "0.png", root / "cat" / "more" / "0.png")


def unknown(root: Path) -> None:
    (root / "cat" / "0.heic").write_bytes(b"a picture that cannot be read here")


def dangling(root: Path) -> None:
    (root / "cat" / "gone.png").symlink_to(root / "nowhere.png")


SAYS: dict[str, tuple[Callable[[Path], None], type[Error], list[str]]] = {
    "loose picture": (beside, UsageError, ["loose.png", "beside sub-folders (ant", "all pictures lie in sub-folders"]),
    "no classes": (unlabelled, UsageError, ["ant-0.png has no label", "has no sub-folders", "one sub-folder of pictures a class expected"]),
    "grey": (grey, UsageError, ["all grey or all colour", "most are 8 x 6 colour, but cat/grey.png is 8 x 6 grey"]),
    "larger": (larger, UsageError, ["of one size", "most are 8 x 6 colour, but cat/larger.png is 9 x 6 colour; size=(height, width)"]),
    "truncated": (truncated, DataDamaged, ["ant/cut.", "cannot be read as a picture"]),
    "no picture": (no_picture, DataDamaged, ["ant/words.png cannot be read as a picture"]),
    "empty file": (empty_file, DataDamaged, ["ant/nothing.jpg cannot be read as a picture"]),
    "empty class": (empty_class, DataMissing, ["no pictures (png, jpg", "/bee; a sub-folder is a class"]),
    "two classes": (two_classes, DataDamaged, ["ant/again.png and ", "cat/3.bmp are the same picture under two classes", "one class"]),
    "16 bits": (deep, UsageError, ["ant/deep.png has pixels of more than 8 bits"]),
    "nested": (nested, UsageError, ["cat/more is a folder; nothing but pictures (png"]),
    "unknown format": (unknown, UsageError, ["cat/0.heic is no picture; nothing but pictures (png"]),
    "dangling link": (dangling, UsageError, ["cat/gone.png is no picture"]),
}


@pytest.mark.parametrize("what", SAYS)
def test_what_cannot_be_used_is_one_line_that_names_it(root: Path, what: str) -> None:
    spoil, kind, words = SAYS[what]
    Folder(root, ROLES_)
    spoil(root)
    there = sorted(root.rglob("*"))
    with pytest.raises(kind) as e:
        Folder(root, ROLES_)
    assert type(e.value) is kind
    for word in words:
        assert word in str(e.value), str(e.value)
    assert "\n" not in str(e.value)
    assert sorted(root.rglob("*")) == there, "nothing was touched"


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif"])
def test_each_truncated_format_is_noticed(root: Path, suffix: str) -> None:
    truncated(root)
    for p in root.glob("ant/cut.*"):
        if p.suffix != f".{suffix}":
            p.unlink()
    with pytest.raises(DataDamaged, match=rf"ant/cut\.{suffix} cannot be read as a picture"):
        Folder(root, ROLES_, (6, 8))


def test_a_size_takes_pictures_of_any_size_but_not_of_any_colour(root: Path) -> None:
    larger(root)
    assert Folder(root, ROLES_, (6, 8)).read()[0].images.shape == (13, 3, 6, 8)
    grey(root)
    with pytest.raises(UsageError, match=r"cat/grey\.png is 8 x 6 grey$"):
        Folder(root, ROLES_, (6, 8))


def test_colour_among_grey_is_named_too(tmp_path: Path) -> None:
    root = draw(tmp_path / "own", 1, ant=4, cat=4)
    Image.fromarray(picture(1)).save(root / "cat" / "colour.png")
    with pytest.raises(UsageError, match=r"most are 8 x 6 grey, but cat/colour\.png is 8 x 6 colour$"):
        Folder(root, ROLES_)


def test_many_that_differ_are_counted(root: Path) -> None:
    for i in range(5):
        Image.fromarray(picture(i, size=(9, 9))).save(root / "ant" / f"x{i}.png")
    with pytest.raises(UsageError, match=r"ant/x0\.png is 9 x 9 colour, .* and 2 more;"):
        Folder(root, ROLES_)


def test_copies_in_one_class_are_refused_when_they_have_two_roles(root: Path) -> None:
    shutil.copy(root / "cat" / "0.png", root / "cat" / "copy.png")
    alone = Roles(13, 0, 0, 0, 0)
    assert len(Folder(root, alone).read()[0].labels) == 13, "in one role a copy does no harm"
    apart = 0
    for k in range(1, 13):
        roles = Roles(k, 13 - k, 0, 0, 0)
        try:
            assign_roles(Folder(root, roles).read(), roles)
        except DataDamaged as e:
            apart += 1
            said = str(e)
            for word in (
                "1 images are in two roles at once",
                "cat/0.png in ",
                "cat/copy.png in ",
                " train",
                " detector_train",
                "remove the copies",
            ):
                assert word in said
    assert 1 <= apart <= 12, "some splits come between the copies"


def test_what_lies_beside_the_pictures_of_file_managers_is_passed_over(root: Path) -> None:
    before = Folder(root, ROLES_).fingerprint
    (root / "cat" / "Thumbs.db").touch()
    (root / "cat" / ".DS_Store").touch()
    (root / "manifest.csv").touch()
    assert Folder(root, ROLES_).fingerprint == before


@pytest.mark.parametrize("size", [(6,), (6, 8, 3), (0, 8), (6.5, 8), "68"])
def test_a_size_is_two_whole_numbers(root: Path, size: Any) -> None:
    with pytest.raises(UsageError, match=r"size must be \(height, width\), two whole numbers above 0; found"):
        Folder(root, ROLES_, size)


def test_wrong_use(root: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown way to resize 'stretch'; there are: squash, crop"):
        Folder(root, ROLES_, (6, 8), "stretch")  # type: ignore[arg-type]
    with pytest.raises(DataMissing, match=r"cannot read .*nowhere"):
        Folder(root / "nowhere", ROLES_)
    with pytest.raises(UsageError, match=r"0\.png is a file; a folder with one sub-folder"):
        Folder(root / "cat" / "0.png", ROLES_)
    with pytest.raises(UsageError, match="want 13 images; there are 12"):
        assign_roles(Folder(root, Roles(5, 2, 2, 2, 2)).read(), Roles(5, 2, 2, 2, 2))
    assert Folder not in DATASETS.values(), "a recipe on the command line has no folder to give"
