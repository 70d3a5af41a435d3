"""Records of which some files of scores are not kept: the same numbers, verdicts and page as of the whole ones."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from benchmarks.cut import cut
from salientry.cli import running
from salientry.errors import DataDamaged, UsageError
from salientry.experiment.records import Gathered, put
from salientry.report import report
from salientry.report.claims import Verdicts
from salientry.report.report import Made
from salientry.report.verification import problems, verify
from salientry.results.numbers import numbers
from salientry.results.scores import Scores
from salientry.store import read_arrays

from .oracle import ROOT


@pytest.fixture(scope="module")
def two(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Whole, and cut."""
    out = tmp_path_factory.mktemp("kept")
    for name in ("whole", "cut"):
        shutil.copytree(finished, out / name)
    cut([out / "cut"], small=0)
    return out / "whole", out / "cut"


def test_numbers_and_verdicts_are_the_same(two: tuple[Path, Path]) -> None:
    whole, less = map(Scores.read, two)
    assert less.not_kept is not None and less.not_kept.gone and not less.absent
    assert not all(g.kept for g in less.trained)
    a, b = numbers(whole), numbers(less)
    assert list(a.columns) == list(b.columns)
    assert a.map(repr).equals(b.map(repr))
    assert repr(Verdicts([(whole, a)]).lines) == repr(Verdicts([(less, b)]).lines)


def test_the_page_is_the_same_but_for_curves(two: tuple[Path, Path]) -> None:
    pages = []
    for folder in two:
        html = report.write(folder).read_text()
        html = re.sub(r"<details><summary>ROC curves.*?</details>", "", html, flags=re.S)
        html = re.sub(r'<p class="note">No ROC curves of .*?</p>', "", html)
        pages.append(re.sub(r"<tr>\s*<td>not kept</td>.*?</tr>", "", html, flags=re.S).split())
    assert pages[0] == pages[1]
    assert "their scores are not kept; <code>" in (two[1] / "report.html").read_text()


def test_verify_computes_again_what_it_can(two: tuple[Path, Path], tmp_path: Path) -> None:
    said: list[str] = []
    assert verify(two[1], said.append) == len(json.loads((two[0] / "report.json").read_text())["numbers"])
    again = json.loads((two[1] / "not_kept.json").read_text())["again"]
    assert again > 100
    assert re.search(rf": {again} computed again from the scores that are kept, \d+ as recorded: .* \(`tests.tiny` makes them\)", said[0])
    said.clear()
    verify(two[0], said.append)
    assert not said
    shutil.copytree(two[1], tmp_path / "more")
    body = json.loads((tmp_path / "more" / "not_kept.json").read_text())
    (tmp_path / "more" / "not_kept.json").write_text(json.dumps(body | {"again": again + 1}))
    assert any("did when the others were removed" in p for p in problems(tmp_path / "more"))


def test_what_should_be_there_and_is_not_is_an_error(two: tuple[Path, Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(two[1], copy)
    shard = next(iter(sorted((copy / "scores").iterdir())))
    shard.unlink()
    assert report.absent(copy) == [f"scores/{shard.name}"]
    assert f"scores/{shard.name} is missing: its scores and what is computed from them cannot be verified" in problems(copy)
    shutil.copy(two[1] / "scores" / shard.name, shard)
    raw = bytearray((copy / "numbers.parquet").read_bytes())
    raw[len(raw) // 2] ^= 1
    (copy / "numbers.parquet").write_bytes(raw)
    with pytest.raises(DataDamaged, match="says another sha256"):
        numbers(Scores.read(copy))
    (copy / "numbers.parquet").unlink()
    with pytest.raises(DataDamaged, match="it holds the numbers of the records that are not kept"):
        numbers(Scores.read(copy))


def test_scores_that_are_not_kept_say_so_and_come_back(two: tuple[Path, Path], tmp_path: Path) -> None:
    s = Scores.read(two[1])
    g = next(g for g in s.trained if not g.kept)
    with pytest.raises(UsageError, match="are not kept in these records"):
        g.scores("any/test/natural")
    shutil.copytree(two[1], tmp_path / "again")
    for f in s.not_kept.gone if s.not_kept else ():
        shutil.copy(two[0] / f, tmp_path / "again" / f)
    found = Made(Scores.read(tmp_path / "again"), "")
    assert found.scores.not_kept is None and not found.scores.recorded


def test_cut_records_are_up_to_date_while_their_numbers_are_there(two: tuple[Path, Path], tmp_path: Path) -> None:
    assert running._has_scores(two[0]) and running._has_scores(two[1])
    copy = tmp_path / "copy"
    shutil.copytree(two[1], copy)
    shard = min((copy / "scores").iterdir())
    shard.rename(tmp_path / shard.name)
    assert not running._has_scores(copy), "a file that should be kept is not there"
    (tmp_path / shard.name).rename(shard)
    assert running._has_scores(copy)
    (copy / "numbers.parquet").unlink()
    assert not running._has_scores(copy), "the numbers of the removed files are not there"


def test_new_records_in_a_folder_of_cut_ones_are_whole(two: tuple[Path, Path], tmp_path: Path) -> None:
    """Their numbers are computed from their own scores, not read from what was kept of others."""
    whole, copy = Scores.read(two[0]), tmp_path / "copy"
    shutil.copytree(two[1], copy)
    (copy / "notes.txt").write_text("mine")
    shard = whole.body["shards"][0]
    scores = {c: v for f in whole.body["shards"] for c, v in read_arrays(two[0] / f).items()}
    arrays = read_arrays(two[0] / "records.safetensors") | scores
    body = {k: v for k, v in json.loads((two[0] / "records.json").read_text()).items() if k != "own"}
    body |= {"shards": [shard], "scores": [s | {"shard": shard} for s in body["scores"]]}
    put(Gathered(body, whole.run, arrays, {shard: list(scores)}, None, ".safetensors"), copy)
    assert not (copy / "not_kept.json").exists() and not (copy / "numbers.parquet").exists()
    assert [p.name for p in (copy / "scores").iterdir()] == [Path(shard).name]
    assert (copy / "notes.txt").read_text() == "mine"
    found = Scores.read(copy)
    assert found.not_kept is None and not found.absent
    assert numbers(found).map(repr).equals(numbers(whole).map(repr))


def test_recorded_runs_are_small() -> None:
    assert sum(-(-p.stat().st_size // 4096) * 4096 for p in ROOT.rglob("*") if p.is_file()) <= 40e6
