"""The second network that a guard's fit trains by itself, on images that the classifier was trained on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..classifiers import CLASSIFIERS, CompactCNN, PictureCNN
from ..datasets import Arrays, Folder
from ..datasets._folder import classes_in, pictures
from ..errors import DataDamaged, UsageError
from ..files import replacing
from ..inputs import as_labels
from ..keys import label
from ..pixels import Resize, read_pixels, resized
from ..randomness import image_ids
from ..rows import Rows, slices
from ..runner.step import Handle, step
from ..types import ClassifierSettings, Roles, Shape
from .agreement import Second
from .expected import training_seconds
from .given import warn_caller
from .intake import taken
from .run import Run
from .steps import classify, train_classifier

SIDE, CLASSES = 64, 200  # pixels of a side, and classes, up to which three convolutions and a linear layer do
ROOM = 14  # pixels of a side for each pixel that images are moved by
SMALL_IMAGES = 600_000  # that training looks at, where they are small
LARGE_IMAGES, MADE_SMALLER = 24_000, 80_000  # where they are large: at full size, and made smaller
FEWEST, A_CLASS = 100, 2  # images to train it on, and of a class on average


@dataclass(frozen=True, eq=False)
class SecondNetwork:
    """A second network that :func:`~salientry.fit_guard` trains: another classifier of the same classes, whose answer is compared.

    It is of a compact kind that suits the size of the images and the number of classes, and is saved with the guard. Give images that the
    classifier was trained on, or others like them: never the guard's own. Those that are (equal pixels, or the same file) are left out with
    a warning; other versions of one picture (saved again, cropped) are not recognised.

    Args:
        images: as the ``images`` of :func:`~salientry.fit_guard`, of the same size; a path may also be that of an .npz, or of a folder of
            pictures without sub-folders, which have no labels. With ``fit_guard(..., resize=)`` pictures of a path are brought to size.
        labels: (N,) classes by the same numbers, where they do not come with the images; none at all: it learns the classifier's answers.
        network: settings of a classifier of :data:`~salientry.CLASSIFIERS`; None: :func:`suited`.

    Raises:
        UsageError: for settings of anything else.

    Examples:
        >>> second = salientry.SecondNetwork(train_images, train_labels)               # doctest: +SKIP
        >>> guard = salientry.fit_guard(my_model, images, labels, second=second)       # doctest: +SKIP
    """

    images: Any
    labels: Any = None
    network: ClassifierSettings | None = None

    def __post_init__(self) -> None:
        if self.network is not None and type(self.network) not in CLASSIFIERS.values():
            raise UsageError(f"network must be settings of one of {', '.join(CLASSIFIERS)}; found {self.network!r}")


def suited(shape: Shape, count: int) -> ClassifierSettings:
    """A compact network for images of this shape, of which there are ``count``: three convolutions up to 64 pixels and 200 classes, else
    strided stages; the more images, the fewer passes over them.
    """
    if max(shape.height, shape.width) <= SIDE and shape.classes <= CLASSES:
        shift = min(2, min(shape.height, shape.width) // ROOM)
        return CompactCNN(width=32, epochs=_passes(SMALL_IMAGES, count, 6, 30), shift=shift)
    return PictureCNN(epochs=_passes(LARGE_IMAGES, count, 1, 12), small_epochs=_passes(MADE_SMALLER, count, 2, 40))


def _passes(visits: int, count: int, fewest: int, most: int) -> int:
    return min(max(round(visits / max(count, 1)), fewest), most)


@dataclass(frozen=True)
class SecondData:
    """What a second network is trained on.

    Attributes:
        pixels: uint8 (N, C, H, W).
        labels: (N,); None: the classifier's answers are learnt.
        shape: of the images, with the number of classes.
        left_out: images that were given, and are the guard's own.
        network: settings of the network.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    shape: Shape
    left_out: int
    network: ClassifierSettings


# --- reading ---------------------------------------------------------------------------------------------------


def training_set(
    second: SecondNetwork, own: NDArray[np.uint8], source: Any, classes: int, resize: Resize | None, scratch: Path
) -> SecondData:
    """Images to train on, without the guard's own.

    Args:
        second: what was given.
        own: the guard's images.
        source: what these were given as.
        classes: of the classifier.
        resize: how pictures of a path are brought to the guard's size; None: they must have it.
        scratch: folder that is made, for a file of pixels.

    Raises:
        UsageError: for images of another size, other classes, or hardly any that are not the guard's own.
        DataError: for files that cannot be used.
    """
    shape = Shape(own.shape[1], own.shape[2], own.shape[3], classes)
    images, files = _opened(second.images, shape, resize)
    if isinstance(images, Folder) and isinstance(source, Folder):
        _refuse_other_classes(images, source)
    scratch.mkdir()
    pixels, labels = taken(images, second.labels, scratch, required=False)
    if pixels.shape[1:] != own.shape[1:]:
        sizes = " and ".join(" x ".join(map(str, p.shape[1:])) for p in (pixels, own))
        raise UsageError(f"the second network's images must be of the guard's size; found {sizes} (channels, height, width)")
    known = None if labels is None else as_labels(labels, len(pixels), classes).cpu().numpy()
    both = np.isin(image_ids(pixels), image_ids(own)) | _same_files(files, source, len(pixels))
    kept = np.flatnonzero(~both)
    _check_left(len(kept), int(both.sum()), classes)
    if len(kept) < len(pixels):
        pixels, known = _only(pixels, both, scratch), None if known is None else known[kept]
    return SecondData(pixels, known, shape, int(both.sum()), second.network or suited(shape, len(kept)))


def _opened(images: Any, shape: Shape, resize: Resize | None) -> tuple[Any, list[str]]:
    """What ``taken`` can read, and the files that the images lie in, where each has one."""
    if isinstance(images, Folder):
        return images, images.pictures.paths
    if not isinstance(images, str | Path):
        return images, []
    path, none = Path(images), Roles(0, 0, 0, 0, 0)
    size = None if resize is None else (shape.height, shape.width)
    if not path.is_dir():
        found = pictures(path)
        return (torch.from_numpy(found.read(slice(None))), []) if found.labels is None else (Arrays.from_file(path, none), [])
    folders, members = classes_in(path)
    if folders:
        found_folder = Folder(path, none, size, resize or "squash")
        return found_folder, found_folder.pictures.paths
    how = None if size is None or resize is None else (lambda picture: resized(picture, size, resize))
    files = [str(p) for p in members[0]]
    return (torch.from_numpy(read_pixels(p, how).copy()) for p in files), files


def _refuse_other_classes(images: Folder, source: Folder) -> None:
    """Sub-folders are numbered by name: with other names the numbers would be those of other classes."""
    if images.class_names != source.class_names:
        there, here = set(images.class_names), set(source.class_names)
        wrong = [f"{len(s)} only in {f.path} ({sorted(s)[0]} ...)" for s, f in ((there - here, images), (here - there, source)) if s]
        raise UsageError(f"the second network's images must be in sub-folders named as the guard's are; found {' and '.join(wrong)}")


def _same_files(files: list[str], source: Any, count: int) -> NDArray[np.bool_]:
    """(N,) which of these are files of the guard's images, also by another path."""
    if not files or not isinstance(source, Folder):
        return np.zeros(count, bool)
    there = {_place(p) for p in source.pictures.paths}
    return np.array([_place(p) in there for p in files])


def _place(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _check_left(count: int, own: int, classes: int) -> None:
    """Warn of what is left out.

    Raises:
        UsageError: when hardly anything is left.
    """
    why = f"{own} of {own + count} images to train the second network on are the guard's own, on which it would say what it learnt"
    if count < (need := max(FEWEST, A_CLASS * classes)):
        raise UsageError(
            f"{f'{why}; ' * bool(own)}{count} images are left to train a second network on, and {need} are needed at least: give images "
            "that the classifier was trained on, which the guard is not fitted on"
        )
    if own:
        warn_caller(f"left out {why}; {count} are left")


def _only(pixels: NDArray[np.uint8], without: NDArray[np.bool_], folder: Path) -> NDArray[np.uint8]:
    """The other images, in a file of their own."""
    path, at = folder / "left.u8", 0
    with replacing(path) as f:
        for piece in slices(pixels):
            f.write(np.ascontiguousarray(piece[~without[at : at + len(piece)]]).data)
            at += len(piece)
    return np.memmap(path, np.uint8, "r", 0, (int((~without).sum()), *pixels.shape[1:]))


# --- training --------------------------------------------------------------------------------------------------


@step("answers_as_labels", stored=False)
def answers_as_labels(rows: Rows) -> Rows:
    """These rows with the classifier's answers in place of labels."""
    return rows.widen({"label": rows.column("predicted")}, {})


def trained(run: Run, found: SecondData, classifier: Handle, forward: float) -> Second:
    """A second network, as a step of the guard's own run.

    Args:
        run: of the guard.
        found: what it is trained on.
        classifier: whose answers it learns where there are no labels.
        forward: seconds of one image through the classifier.
    """
    count, seconds = len(found.pixels), dict[str, float]()
    labels = np.zeros(count, np.int64) if found.labels is None else found.labels
    try:
        rows = run.dataset(Arrays(found.pixels, labels, Roles(count, 0, 0, 0, 0), found.shape.classes))["train"]
    except DataDamaged as e:
        raise DataDamaged(f"the second network's images: {e}") from None
    if found.labels is None:
        rows = run.do(classify, rows, classifier)
        seconds[rows.fingerprint] = count * forward
        rows = run.do(answers_as_labels, rows)
    handle = run.do(train_classifier, rows, found.network)
    seconds[handle.fingerprint] = training_seconds(found.network, found.shape, count)
    learnt = "the classifier's answers" if found.labels is None else "labels"
    facts = {"images": count, "left_out": found.left_out, "learnt": learnt, "network": label(found.network)}
    return Second(handle, None, facts, seconds)


__all__ = ["SecondData", "SecondNetwork", "suited", "trained", "training_set"]
