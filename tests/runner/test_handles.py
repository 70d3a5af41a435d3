"""A data set as rows: read piece by piece, and its number of classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import salientry.rows
from salientry.errors import UsageError
from salientry.experiment.run import Run
from salientry.randomness import image_ids
from salientry.types import Pool, Roles

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 1, 4, 4), np.uint8)
LABELS = np.arange(30) % 3


@dataclass(frozen=True)
class Two:
    """A training file and a test file, and what they say of their classes."""

    said: tuple[int | None, ...] = (None, None)
    damaged: str = ""
    roles: Roles = Roles(train=8, detector_train=4, validation=4, calibration=4, test=4)

    def read(self) -> tuple[Pool, ...]:
        last: Any = IMAGES[20:, :, :2] if self.damaged == "size" else IMAGES[20:]
        training = Pool(IMAGES[:20], LABELS[:20], ("train", "detector_train", "validation"), classes=self.said[0])
        return training, Pool(last, LABELS[20:] * (self.damaged != "labels"), ("calibration", "test"), classes=self.said[1])


def test_pools_are_rows_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(salientry.rows, "PIECE", 48)
    run = Run(tmp_path)
    rows = run.get(run.dataset(Two()))
    assert np.array_equal(rows.column("image"), IMAGES) and np.array_equal(rows.column("label"), LABELS)
    assert rows.ids.tolist() == image_ids(IMAGES).tolist()
    assert rows.facts == {"dataset": "two", "classes": 3}


@pytest.mark.parametrize(("said", "expected"), [((None, None), 3), ((3, 3), 3), ((5, None), 5), ((None, 4), 4), ((9, 9), 9)])
def test_classes_are_what_the_pools_say_or_the_highest_label_and_one(tmp_path: Path, said: tuple[int | None, ...], expected: int) -> None:
    run = Run(tmp_path)
    assert run.get(run.dataset(Two(said))).facts["classes"] == expected
    assert run.get(run.dataset(Two(said, "labels"))).facts["classes"] == expected


@pytest.mark.parametrize(
    ("said", "words"), [((2, 2), "found 2 and classes = 2"), ((4, 5), "found 2 and classes = 4 and 5"), ((0, None), "0")]
)
def test_labels_that_are_none_of_them_are_refused(tmp_path: Path, said: tuple[int | None, ...], words: str) -> None:
    run = Run(tmp_path)
    with pytest.raises(UsageError, match=rf"labels must lie in \[0, classes\); .*{words}"):
        run.get(run.dataset(Two(said)))


def test_pools_of_different_sizes_are_refused(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with pytest.raises(UsageError, match=r"must be alike; found uint8 \(20, 1, 4, 4\), uint8 \(10, 1, 2, 4\)"):
        run.get(run.dataset(Two(damaged="size")))
