"""`run --only KEY --compare FOLDER`: one detector of the records, computed anew; `export` and `import` as commands."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from salientry.attacks import FGSM
from salientry.cli import running
from salientry.cli.reproduce import Compared
from salientry.experiment.run import Run
from salientry.files import sha256_of
from tests.report.surgery import CW, Opened, sealed
from tests.tiny import tiny

from .conftest import Cli

SPD = ("SPD", "strict", "FGSM")


def key(folder: Path, *which: str, form: str = "paired") -> str:
    found: str = Opened(folder).detector(*which, form=form)["key"]
    return found


def table(result: Cli) -> dict[str, tuple[int, float, float, float]]:
    """Set to n, recorded, now and difference, as printed."""
    start = next(i for i, line in enumerate(result.lines) if line.startswith("attacked test set"))
    rows = [line.split() for line in result.lines[start + 1 :] if line.startswith(("strict/", "published/"))]
    return {r[0]: (int(r[1]), float(r[2]), float(r[3]), float(r[4])) for r in rows}


def made(result: Cli) -> int:
    line = next(line for line in result.lines if " steps computed, " in line)
    return int(line.split()[0])


def damaged(folder: Path, detector: dict[str, Any], change: Any) -> None:
    """Change a detector's recorded scores, as bytes that rotted would be: checksums are not corrected."""
    body = json.loads((folder / "records.json").read_text())
    mine = [s for s in body["scores"] if s["detector"] == detector["index"]]
    for shard in {s["shard"] for s in mine}:
        arrays = load_file(folder / shard)
        save_file(arrays | {s["column"]: np.ascontiguousarray(change(arrays[s["column"]])) for s in mine}, folder / shard)


@pytest.fixture(autouse=True)
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine: standard error has errors alone."""
    monkeypatch.setattr("salientry.cli.bars.QUIET", float("inf"))


@pytest.fixture
def detector(left: Path) -> dict[str, Any]:
    return Opened(left).detector(*SPD)


# --- it agrees -----------------------------------------------------------------------------------------------------


def test_a_detector_that_is_computed_anew_agrees_with_the_records(store: Path, left: Path, detector: dict[str, Any]) -> None:
    before = {p: p.stat().st_mtime_ns for p in (*store.rglob("*"), *left.rglob("*")) if p.is_file()}
    result = Cli("run", "tiny", "--only", detector["key"][:10], "--compare", left)
    assert result.code == 0, result.err
    assert f"detector {detector['key'][:12]}: SPD (paired) trained on FGSM, strict, seed 0" in result.lines
    assert made(result) == 3, "fit, calibrate, score; the rest is the store's"
    found = table(result)
    assert set(found) >= {"strict/test/FGSM", f"strict/test/{CW}", "strict/test/DeepFool-steps=2"}
    for name, (n, recorded, now, difference) in found.items():
        opened = Opened(left)
        counts, natural = opened.column(name, "evaluated"), opened.score(detector, "any/test/natural")
        if not counts.any():
            assert (n, recorded, now) == (0, pytest.approx(np.nan, nan_ok=True), pytest.approx(np.nan, nan_ok=True))
            continue
        gap = opened.score(detector, name)[counts][:, None].astype(np.float64) - natural[None]
        assert (n, recorded) == (counts.sum(), pytest.approx(((gap > 0) + 0.5 * (gap == 0)).mean(), abs=6e-5))
        assert (now, difference) == (recorded, 0.0)
    assert result.lines[-1] == f"agrees: none of {len(found)} AUROCs differs from {left} by more than 0.001"
    assert {p: p.stat().st_mtime_ns for p in (*store.rglob("*"), *left.rglob("*")) if p.is_file()} == before, "nothing is written"


def test_what_the_store_holds_of_the_detector_is_not_believed(store: Path, left: Path, detector: dict[str, Any]) -> None:
    """Were it, these changed weights and scores would be what is compared."""
    for step in ("fit_detector", "scores"):
        for result in store.glob(f"{step}/*"):
            body = json.loads((result / "result.json").read_text())
            if body["key"] == detector["key"] or {"input": detector["key"]} in body["arguments"].values():
                arrays = load_file(result / "arrays.safetensors")
                (result / "arrays.safetensors").unlink()  # a link to the finished store's
                save_file({k: -v if v.dtype == np.float32 else v for k, v in arrays.items()}, result / "arrays.safetensors")
                sums = json.loads((result / "DONE").read_text()) | {"arrays.safetensors": sha256_of(result / "arrays.safetensors")}
                (result / "DONE").unlink()
                (result / "DONE").write_text(json.dumps(sums))  # by somebody who means it: else it is damaged
    result = Cli("run", "tiny", "--only", detector["key"], "--compare", left)
    assert result.code == 0, result.err
    believed = Cli("run", "tiny", "--only", detector["key"])
    assert table_now(believed) != {name: now for name, (_, _, now, _) in table(result).items()}, "without --compare it is"


def table_now(result: Cli) -> dict[str, float]:
    assert result.code == 0, result.err
    return {r[0]: float(r[3]) for r in (line.split() for line in result.lines) if r[0].startswith(("strict/", "published/"))}


def test_a_fusion_is_redone_too(store: Path, left: Path) -> None:
    opened = Opened(left)
    wanted = opened.detector("Fused", "strict", "combined", form="all")
    result = Cli("run", "tiny", "--only", wanted["key"], "--compare", left)
    assert result.code == 0, result.err
    assert made(result) == 3
    assert all(difference == 0 for _, _, _, difference in table(result).values())


def test_a_detector_is_redone_from_nothing(home: Path, left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data, nets and images are computed, and kept; of the heads only this one, and it is not."""
    monkeypatch.setattr(running, "recipe_named", lambda name: tiny)
    result = Cli("run", "tiny", "--only", key(left, "Margin", "strict", "FGSM"), "--compare", left)
    assert result.code == 0, result.err
    assert 10 < made(result) < 60
    kept = {p.parent.parent.name for p in home.glob("*/*/DONE")}
    assert kept == {"read_data", "train_classifier", "look", "attack_images", "settle", "control_images"}
    assert len(list(home.glob("*/*/DONE"))) == made(result) - 3
    assert made(Cli("run", "tiny", "--only", key(left, "Margin", "strict", "FGSM"), "--compare", left)) == 3


def test_a_detector_alone_is_computed_and_kept(home: Path, left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "recipe_named", lambda name: tiny)
    mine = key(left, "Margin", "strict", "FGSM")
    result = Cli("run", "tiny", "--only", mine)
    assert result.code == 0, result.err
    assert not Path("tiny-report").exists()
    assert f"detector {mine[:12]}: fit_detector Margin-strict-FGSM" in result.out or f"detector {mine[:12]}: fit_detector" in result.out
    assert len(list(home.glob("fit_detector/*/DONE"))) == 1
    assert made(Cli("run", "tiny", "--only", mine)) == 0


def test_a_draw_is_reported_and_can_be_repeated(store: Path, left: Path) -> None:
    first = Cli("run", "tiny", "--only", "random", "--compare", left)
    assert first.code == 0, first.err
    count = len({s["detector"] for s in Opened(left).body["scores"]})
    assert first.lines[0].startswith(f"drawn from {count} detectors; the same draw again: --only random:")
    again = Cli("run", "tiny", "--only", first.lines[0].split()[-1], "--compare", left)
    assert again.code == 0, again.err
    chosen = [next(line for line in result.lines if line.startswith("detector ")) for result in (first, again)]
    assert chosen[0] == chosen[1]
    assert [line for line in again.lines if line.startswith("strict/")] == [line for line in first.lines if line.startswith("strict/")]


def test_draws_differ(store: Path, left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("salientry.cli.reproduce.compared", lambda recorded, now, key: [])
    said = {next(line for line in Cli("run", "tiny", "--only", f"random:{i}").lines if line.startswith("detector ")) for i in range(4)}
    assert len(said) > 1


def test_what_stands_on_another_revision_is_not_compared(store: Path, left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of FGSM have changed since: a draw is among the detectors that were never trained on it, and its images are left out."""
    opened = Opened(left)
    assert opened.body["revisions"]["attacks.FGSM"] == 2
    free = [d for d in opened.body["detectors"] if d["facts"]["trained_on"] not in ("FGSM", "combined")]
    monkeypatch.setattr(FGSM, "REVISION", 3)
    result = Cli("run", "tiny", "--only", "random:1", "--compare", left)
    assert result.code == 0, result.err
    assert result.lines[0].startswith("note: the records were made with another revision of attacks.FGSM (2, now 3): ")
    assert 0 < int(next(line for line in result.lines if line.startswith("drawn from ")).split()[2]) <= len(free)
    line = next(line for line in result.lines if line.startswith("detector "))
    assert line.split()[1].removesuffix(":") in {d["key"][:12] for d in free}
    assert table(result) and not {name for name in table(result) if name.endswith("/FGSM")}
    Cli("run", "tiny", "--only", key(left, *SPD), "--compare", left).refused(2, "depends on another revision of attacks.FGSM (2, now 3)")


def test_records_that_name_no_revisions_were_made_with_the_first(store: Path, left: Path) -> None:
    body = json.loads((left / "records.json").read_text())
    del body["revisions"]
    (left / "records.json").write_text(sealed(body))
    result = Cli("run", "tiny", "--only", key(left, "Margin", "strict", CW), "--compare", left)
    assert result.lines[0].startswith(
        "note: the records were made with another revision of attacks.FGSM (1, now 2), detectors.Fused (1, now 2): "
    )


# --- it disagrees --------------------------------------------------------------------------------------------------


def test_scores_that_rotted_are_found(store: Path, left: Path, detector: dict[str, Any]) -> None:
    damaged(left, detector, np.negative)
    result = Cli("run", "tiny", "--only", detector["key"][:12], "--compare", left)
    count, differ = len(table(result)), sum(line.endswith("DIFFERS") for line in result.lines)
    assert result.code == 1
    assert "Traceback" not in result.err
    (line,) = result.err.splitlines()
    assert line.startswith(
        f"error: {differ} of {count} AUROCs of detector {detector['key'][:12]} differ from {left} by more than 0.001; most on "
    )
    worst = max(table(result).items(), key=lambda item: abs(item[1][3]))
    assert f"most on {worst[0]}: {worst[1][3]:+.4f}" in line
    assert differ > 1
    for name, (n, recorded, now, difference) in table(result).items():
        if not n:
            continue
        assert difference == pytest.approx(now - recorded, abs=2e-4), name
        assert recorded == pytest.approx(1 - now, abs=2e-4), "a score turned round is an AUROC turned round"
    other = key(left, "SMD", "strict", "FGSM")
    result = Cli("run", "tiny", "--only", other, "--compare", left)
    assert all(difference == 0 for _, _, _, difference in table(result).values()), "the other detectors of that file are as they were"
    result.refused(1, "the AUROCs agree, but scores/strict-FGSM.safetensors", "is not what the sha256 in records.json says")


@pytest.mark.parametrize("rot", ["last byte", "cut", "header"])
def test_a_file_of_scores_that_rotted_at_all_is_found(store: Path, left: Path, detector: dict[str, Any], rot: str) -> None:
    file = left / "scores" / "strict-FGSM.safetensors"
    data = bytearray(file.read_bytes())
    data[-1 if rot == "last byte" else 12] ^= 1
    file.write_bytes(data[:-1] if rot == "cut" else data)
    Cli("run", "tiny", "--only", detector["key"], "--compare", left).refused(1, str(left))


def test_one_attack_alone_is_enough(store: Path, left: Path, detector: dict[str, Any]) -> None:
    opened = Opened(left)
    opened.score(detector, "strict/test/FGSM")[:] -= 1.0
    opened.close()
    result = Cli("run", "tiny", "--only", detector["key"], "--compare", left)
    assert result.code == 1
    assert f"error: 1 of {len(table(result))} AUROCs" in result.err
    assert [line.split()[0] for line in result.lines if line.endswith("DIFFERS")] == ["strict/test/FGSM"]


@pytest.mark.parametrize(
    ("recorded", "now", "agrees"),
    [
        (0.9, 0.9, True),
        (0.9, 0.90099, True),
        (0.9, 0.8985, False),
        (0.9, 0.9015, False),
        (float("nan"), float("nan"), True),
        (0.9, float("nan"), False),
        (float("nan"), 0.9, False),
        (None, 0.9, False),
        (0.9, None, False),
        (None, float("nan"), False),
    ],
)
def test_what_agrees(recorded: float | None, now: float | None, agrees: bool) -> None:
    one = Compared("strict/test/FGSM", 3, recorded, now)
    assert one.agrees == agrees
    assert ("DIFFERS" in one.line()) != agrees


# --- wrong use -----------------------------------------------------------------------------------------------------


def test_a_key_of_another_run_says_what_the_records_were_made_with(store: Path, left: Path, detector: dict[str, Any]) -> None:
    result = Cli("run", "tiny", "--only", detector["key"], "--compare", left, "--seed", "3")
    result.refused(2, f"no detector of `tiny` (seed 3, float32) has a key that begins with '{detector['key']}'")
    result.refused(2, f"the records in {left} were made with `tiny` (seed 0, float32)", "; near: ")
    assert result.lines[0].startswith("note: this call is `tiny` (seed 3, float32); the records in")


def test_a_key_that_nobody_has(store: Path, left: Path, detector: dict[str, Any]) -> None:
    wrong = detector["key"][:6] + ("0" if detector["key"][6] != "0" else "1")
    result = Cli("run", "tiny", "--only", wrong, "--compare", left)
    result.refused(2, f"begins with '{wrong}'", f"near: {detector['key'][:12]}, ", " more")
    Cli("run", "tiny", "--only", "", "--compare", left).refused(2, "no detector")
    Cli("run", "tiny", "--only", "nonsense").refused(
        2, "no detector of `tiny` (seed 0, float32) has a key that begins with 'nonsense'; near: "
    )
    Cli("run", "tiny", "--only", "random:x").refused(2, "random:SEED with a whole number; found 'random:x'")


def test_a_key_that_several_have(store: Path, left: Path) -> None:
    keys = sorted(d["key"] for d in Opened(left).body["detectors"])
    shared = next(a[0] for a, b in itertools.pairwise(keys) if a[0] == b[0])
    Cli("run", "tiny", "--only", shared, "--compare", left).refused(2, f"detectors have a key that begins with '{shared}': {shared}")


def test_parameters_that_are_not_the_records_are_said(store: Path, left: Path, detector: dict[str, Any]) -> None:
    """The default said aloud is another call, but the same results: keys decide."""
    result = Cli("run", "tiny", "action=mark", "--only", detector["key"], "--compare", left)
    assert result.code == 0, result.err
    assert result.lines[0].startswith("note: this call is `tiny action=mark` (seed 0, float32); the records in")


def test_a_lost_file_of_scores_is_named(store: Path, left: Path, detector: dict[str, Any]) -> None:
    (left / "scores" / "strict-FGSM.safetensors").unlink()
    result = Cli("run", "tiny", "--only", detector["key"], "--compare", left)
    result.refused(2, "the records have no scores of detector", "missing: scores/strict-FGSM.safetensors")


def test_options_that_do_not_go_together(store: Path, left: Path, tmp_path: Path) -> None:
    Cli("run", "tiny", "--compare", left).refused(2, "--only KEY says which")
    Cli("run", "tiny", "--only", "random", "--out", tmp_path / "out").refused(2, "--only writes no report")
    Cli("run", "tiny", "--only", "random", "--compare", tmp_path).refused(2, f"no records in {tmp_path}")


def test_a_gate_that_failed_takes_its_detector_along(store: Path, left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from .test_commands import impossible

    monkeypatch.setattr(running, "recipe_named", lambda name: impossible)
    from salientry.experiment.reproduce import scored_detectors

    known = scored_detectors(impossible(Run(store)))
    mine = next(k for k, h in known.items() if type(h.fitted.args.get("settings")).__name__ == "SPD" and h.fitted.seed == 0)
    result = Cli("run", "impossible", "--only", mine)
    assert result.code == 1
    assert "SANITY CHECK FAILED" in result.out
    assert "was not computed" in result.out


# --- moving --------------------------------------------------------------------------------------------------------


def test_export_and_import_say_what_they_did(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = len(list(store.glob("*/*/DONE")))
    result = Cli("export", tmp_path / "packed")
    assert result.code == 0, result.err
    packed = int(result.lines[0].split()[0])
    assert result.lines[0].startswith(f"{packed} results in 1 file of {tmp_path / 'packed'}, ")
    assert result.lines[1].startswith(f"left out: {count - packed} results with pixels or other wide rows (attack_images ")
    assert str(tmp_path / "packed" / "manifest.json") in result.lines[1]
    there = Cli("import", tmp_path / "packed", "--store", tmp_path / "there")
    assert there.code == 0, there.err
    assert there.lines[0] == f"{packed} results new in {tmp_path / 'there'}, 0 there already"
    assert f"not in the export: {count - packed} results with pixels" in there.lines[1]
    assert len(list((tmp_path / "there").glob("*/*/DONE"))) == packed
    again = Cli("import", tmp_path / "packed", "--store", tmp_path / "there")
    assert again.lines[0] == f"0 results new in {tmp_path / 'there'}, {packed} there already"
    same = Cli("export", tmp_path / "other", "--store", tmp_path / "there")
    assert same.lines == [result.lines[0].replace("packed", "other")]
    monkeypatch.setenv("SALIENTRY_HOME", str(tmp_path / "there"))
    plan = Cli("plan", "tiny")
    assert " that nobody needs, about " in plan.lines[-1], "images that only a fit or another image stood on"
    left_over = int(plan.lines[-1].split(" done, ")[1].split()[0])
    out = Cli("run", "tiny", "--out", tmp_path / "out")
    assert out.code == 0, out.err
    assert out.lines[0].startswith(f"{left_over} steps computed, {packed} re-used from") or f"{left_over} steps computed" in out.out
    assert "nothing to do" in Cli("plan", "tiny").lines[-1]


def test_a_damaged_export_is_one_line(store: Path, tmp_path: Path) -> None:
    Cli("export", tmp_path / "packed")
    with open(tmp_path / "packed" / "results.tar.0000", "r+b") as f:
        f.seek(1000)
        f.write(b"rot")
    Cli("import", tmp_path / "packed", "--store", tmp_path / "there").refused(3, "results.tar.0000 is damaged", "sha256", "expected")
    assert not (tmp_path / "there").exists()
    Cli("import", tmp_path / "nowhere").refused(2, "there is no manifest.json")
    Cli("export", tmp_path / "x", "--store", tmp_path / "nowhere").refused(2, "nothing to export")
    shutil.rmtree(tmp_path / "packed")
    (tmp_path / "packed").write_text("a file")
    Cli("export", tmp_path / "packed").refused(4, "cannot write")


@pytest.mark.parametrize("command", ["export", "import"])
def test_the_help_says_what_is_left_out(command: str) -> None:
    said = " ".join(Cli(command, "--help").out.split())
    for word in {"export": ("more than 128 numbers", "more than 32 images", "15 MiB", "sha256"), "import": ("kept",)}[command]:
        assert word in said
    assert "--store" in said
