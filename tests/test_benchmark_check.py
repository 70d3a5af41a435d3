"""The benchmark of `check` judges every picture by every way, and says what it saw; how fast anything is, no test says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import check, readme_check
from benchmarks.checking import WAYS, in_folder, in_tar, pictures
from salientry.picture_stream import found_in


def test_the_same_pictures_lie_in_folders_and_tar_files(tmp_path: Path) -> None:
    files = [*pictures(7, 16, 3, "JPEG")]
    assert len(set(files)) == 7 and files == [*pictures(7, 16, 3, "JPEG")]
    packed = [s.data for s in found_in(in_tar(iter(files), tmp_path / "tar", "jpg"))]
    assert packed == files == [Path(s.name).read_bytes() for s in found_in([in_folder(files, tmp_path / "folder")])]


@pytest.mark.nightly
def test_it_measures_both_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "check.json"
    check.main(["speed", "--count", "520", "--size", "16", "--rounds", "2", "--out", str(out)])
    check.main(["memory", "--many", "400", "--out", str(out)])
    body = json.loads(out.read_text())
    speed, memory = body["speed"], body["memory"]
    assert speed["command"] == "python -m benchmarks.check speed --count 520 --size 16 --rounds 2" and speed["pictures"] == 520
    for found in speed["guards"].values():
        beside = np.reshape(found["tensors"], (2, 2)).mean(1)
        for way in WAYS:
            assert found["share"][way] == pytest.approx(np.median(found[way] / beside)) and min(found[way]) > 0
    assert [(r["way"], r["pictures"]) for r in memory["rows"]] == [(w, 400) for w in ("here", "here", "executor", "executor")]
    assert all(r["MB"] > 50 for r in memory["rows"]) and [r["processes"] > 0 for r in memory["rows"]] == [False, False, True, True]
    monkeypatch.setattr(readme_check, "OUT", out)
    words = readme_check.checked()
    assert "| full guard | " in words and "520 JPEG pictures of 16 x 16" in words and "400 pictures, through an executor" in words
