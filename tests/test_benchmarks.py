"""The benchmark runs and its figures hang together; how fast anything is, no test says."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import guard as bench
from benchmarks import guard_strangers, guard_tables, readme_cost, record
from salientry.classifiers import save_classifier
from salientry.files import own_sha256
from salientry.guard import Guard
from salientry.report import gallery, report
from salientry.results.scores import Scores
from salientry.store import read_arrays, read_json, write_arrays, write_json
from salientry.types import Shape
from tests.tiny_fast import config

SHAPE = Shape(1, 12, 12, 4)
NAMES = {
    "classifier",
    "map",
    "map, own trunk",
    "SPD",
    "SMD",
    "SPD, own trunk",
    "ID",
    "ID+",
    "guard: SPD",
    "guard: fusion",
    "guard: light",
    "guard: full",
    "guard: cascade",
    "classifier of the run",
    "guard of the run",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run leaves of its guard; here of images of another size."""
    out, shape = tmp_path_factory.mktemp("left"), Shape(1, 14, 10, 3)
    tiny = config()
    f, s = tiny.classifier.build(shape), tiny.saliency.build(shape)
    detector = tiny.members[0].build((1, 14, 10))
    save_classifier(f, out / "classifier")
    Guard(f, s, detector, 0.0, 0.05, torch.randn(50), shape).save(out / "guard", classifier_at="../classifier")
    return out


@pytest.fixture
def threads() -> Iterator[int]:
    """A number that is not restored by accident."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(before)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The command on tiny nets, batches and matrices; the numbers of threads that it asks for, one thread in truth: two of them
    beside another test wait for each other.
    """
    measure, asked = bench.measure, list[int]()
    monkeypatch.setattr(bench, "set_threads", asked.append)
    monkeypatch.setattr(bench, "WARM_UP", 1)
    monkeypatch.setattr(bench, "config", lambda *_, **__: config())
    monkeypatch.setattr(bench, "SHAPE", SHAPE)
    monkeypatch.setattr(bench, "measure", lambda subjects, calls: measure(subjects, (1, 3), calls=calls, side=32, products=2))
    return asked


def test_every_subject_has_figures_that_hang_together(
    asked: list[int], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.main([str(folder), "--calls", "4", "--out", str(tmp_path / "new" / "guard.json")])
    assert asked == [1, 2, 1, 2, 1, 2, torch.get_num_threads()]  # matrices, subjects, matrices, as before
    text = (tmp_path / "new" / "guard.json").read_text()
    found: dict[str, Any] = json.loads(text)
    rows = {(r["subject"], r["batch"], r["threads"]): r for r in found["rows"]}
    assert set(rows) == {(n, b, t) for n in NAMES for b in (1, 3) for t in (1, 2)} and len(found["rows"]) == len(rows)
    for (name, batch, n), r in rows.items():
        figures = [r[k] for k in ("p50_ms", "p99_ms", "images_per_second", "ratio")] + r["ratio_interval"] + r["p50_ms_interval"]
        assert all(math.isfinite(v) and v > 0 for v in figures), r
        assert r["p99_ms"] >= r["p50_ms"] and r["calls"] == 4
        bare = rows["classifier of the run" if name.endswith("of the run") else "classifier", batch, n]
        assert r["against"] == bare["subject"]
        assert r["ratio"] == pytest.approx(r["p50_ms"] / bare["p50_ms"])
        assert r["ratio_interval"][0] <= r["ratio_interval"][1] and r["p50_ms_interval"][0] <= r["p50_ms_interval"][1]
        assert 1e3 * batch / r["images_per_second"] <= r["p99_ms"], "the mean of four calls"
    assert rows["classifier", 1, 1]["ratio"] == 1
    counted = found["operations_per_image"]
    assert set(counted) == NAMES
    assert counted["guard: SPD"] == counted["SPD"] > counted["classifier"] + counted["map"]
    assert counted["guard: fusion"] > counted["guard: SPD"]
    passes, light, full = counted["classifier"], counted["guard: light"], counted["guard: full"]
    assert 3 * passes < light < 4 * passes and 7 * passes < full and light + 5 * passes < counted["guard: cascade"] < light + full
    assert counted["map, own trunk"] > counted["classifier"]
    assert found["machine"]["torch"] == torch.__version__ and found["machine"]["cpu"] and found["date"]
    assert all(v > 0 for when in ("before", "after") for v in found["matmul_gflops"][when].values())
    assert str(folder) not in text and str(tmp_path) not in text
    shown = capsys.readouterr().out
    assert all(f"\n{name} " in shown for name in NAMES)


def test_graphs_are_timed_beside_their_classifiers_graph(asked: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench.main(["--exported", "--calls", "2", "--out", str(tmp_path / "guard.json")])
    found: dict[str, Any] = json.loads((tmp_path / "guard.json").read_text())
    here, graphs = (
        {"classifier", "guard: light", "guard: full"},
        {f"{n}, ONNX Runtime" for n in ("classifier", "guard: light", "guard: full")},
    )
    against = {r["subject"]: r["against"] for r in found["rows"]}
    assert against == dict.fromkeys(here, "classifier") | dict.fromkeys(graphs, "classifier, ONNX Runtime")
    assert set(found["operations_per_image"]) == here, "of a graph nothing is counted"
    shown = capsys.readouterr().out
    assert all(f"\n{name} " in shown for name in here | graphs) and found["command"].endswith("--exported --calls 2")


def test_the_costs_in_the_docs_are_the_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Milliseconds an image, of one thread, and the ratio that stands in the record; a dash where nothing was timed."""

    def row(subject: str, batch: int, threads: int, p50: float, ratio: float) -> dict[str, Any]:
        return {
            "subject": subject,
            "batch": batch,
            "threads": threads,
            "p50_ms": p50,
            "ratio": ratio,
            "ratio_interval": [ratio - 1, ratio + 1],
        }

    about = {"date": "2020-02-02T00:00:00", "machine": {"salientry": "9", "torch": "8", "cpu": "one"}}
    rows = [
        row("classifier", 1, 1, 0.5, 1),
        row("guard: light", 1, 1, 1.7, 3.4),
        row("guard: light", 1, 2, 99.0, 99),
        row("classifier", 256, 1, 64.0, 1),
    ]
    graph = [row("guard: light, ONNX Runtime", 1, 1, 0.71, 3.6)]
    for name, found in (("guard", rows), ("guard-exported", graph), ("guard-pictures", [row("guard: full", 4, 1, 80.0, 7.2)])):
        (tmp_path / f"{name}.json").write_text(json.dumps({"command": f"do {name}", "rows": found} | about))
    monkeypatch.setattr(readme_cost, "RECORDS", tmp_path)
    text = readme_cost.costs()
    assert "| the classifier alone | .50 | – | – |" in text and "| the classifier alone | .25 | – | – |" in text
    assert "| light: 2 small changes | 1.70 (3.40 [2.40, 4.40]) | .71 (3.60 [2.60, 4.60]) | – |" in text
    assert "| full: 6 small changes, noise, layers | – | – | 20.00 (7.20 [6.20, 8.20]) |" in text
    assert "99" not in text.replace("`", "") and "`do guard-exported`" in text and "2020-02-02" in text


def test_every_strangers_network_has_words() -> None:
    assert set(guard_tables.NETS) == set(guard_strangers.CASES)


def test_the_number_of_threads_is_restored_also_after_an_exception(threads: int) -> None:
    seen: list[int] = []
    subject = bench.Subject("classifier", lambda x: seen.append(torch.get_num_threads()), SHAPE, "classifier")
    bench.measure([subject], batches=[1], calls=1, side=8, products=1)
    assert torch.get_num_threads() == threads and seen[-8:] == [1] * 4 + [2] * 4  # a warm-up and a call, each of them twice

    def fail(x: torch.Tensor) -> None:
        raise RuntimeError("not today")

    with pytest.raises(RuntimeError, match="not today"):
        bench.measure([bench.Subject("classifier", fail, SHAPE, "classifier")], calls=1, side=8, products=1)
    assert torch.get_num_threads() == threads


def test_rounds_call_every_subject_alike() -> None:
    heard: list[str] = []

    def subject(name: str) -> bench.Subject:
        return bench.Subject(name, lambda x: heard.append(f"{name}{len(x)}"), SHAPE, "a")

    taken = bench.seconds([subject(n) for n in "abc"], 5, 10)
    assert {k: len(v) for k, v in taken.items()} == {"a": 10, "b": 10, "c": 10}
    rounds = [heard[i : i + 6] for i in range(0, len(heard), 6)]
    assert len(rounds) == 10 + bench.WARM_UP
    assert all(sorted(r) == ["a5", "a5", "b5", "b5", "c5", "c5"] and r[::2] == r[1::2] for r in rounds)
    assert len({tuple(r) for r in rounds}) > 1


def test_a_busy_machine_is_reported() -> None:
    assert bench.doubts(0.1, 2.2, 2, {"1": 50.0}, {"1": 48.0}) == []
    assert bench.doubts(None, None, 2, {"1": 50.0}, {"1": 48.0}) == []
    before, beside, rate = bench.doubts(3.0, 4.0, 2, {"1": 50.0}, {"1": 30.0})
    assert "busy" in before and "others" in beside and "50.0 GFLOP/s before, 30.0 after" in rate


def test_the_command_refuses_no_calls(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main(["--calls", "0"])
    assert "at least 1" in capsys.readouterr().err


# --- recorded runs ---------------------------------------------------------------------------------------------


def test_a_run_is_recorded_packed_and_every_score_is_kept(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal columns lie once; image sets, detectors, scores, numbers and what made them are those of the run."""
    folder, out = tmp_path / "run", tmp_path / "results" / "fast" / "tiny"
    shutil.copytree(finished, folder)
    for path in (folder / "records.safetensors", *(folder / "scores").glob("*.safetensors")):
        write_arrays(path.with_name(f"{path.name}.xz"), {k: [v] for k, v in read_arrays(path).items()})
        path.unlink()
    body = read_json(folder / "records.json")
    body["shards"] = [f"{s}.xz" for s in body["shards"]]
    for s in body["scores"]:
        s["shard"] += ".xz"
    write_json(folder / "records.json", body | {"own": own_sha256(body)})
    monkeypatch.setattr(record, "ROOT", tmp_path)
    record.kept_whole(folder, out)
    kept = read_json(out / "records.json")
    assert len(kept["sha256"]) < len(body["sha256"]), "a run has equal columns, so this test can fail"
    a, b = Scores.read(folder), Scores.read(out, verify=True)
    assert not b.damaged
    assert not b.absent
    assert a.images.keys() == b.images.keys()
    scored = [{(g.protocol, g.title, g.trained_on, r.facts["seed"]): r for g in found.trained for r in g.seeds} for found in (a, b)]
    assert scored[0].keys() == scored[1].keys()
    for name, one in scored[0].items():
        assert one.scores.keys() == scored[1][name].scores.keys()
        for images, values in one.scores.items():
            np.testing.assert_array_equal(values[0], scored[1][name].scores[images][0])
    packed = {f"{n}.xz" for n in ("grid.csv", "records.json", "records.safetensors", "report.json", "run.json")}
    assert {p.name for p in out.iterdir()} == {"scores"} | packed
    assert read_json(out / "report.json") == read_json(folder / "report.json")
    assert b.run == a.run | {"out": "results/fast/tiny"}
    assert "records of it were kept without" in gallery.missing(b)
    record.kept_whole(folder, out, pictures=True)
    assert {p.name for p in out.iterdir()} == {"scores", "gallery.json", "gallery.safetensors.xz"} | packed
    whole, small = gallery.Gallery(a), gallery.Gallery(Scores.read(out))
    assert (small.count, small.kinds) == (3, whole.kinds)
    assert small.table("noise") == whole.table("noise"), "images are kept as they are"
    assert float(np.abs(small.of("natural", "map", 0) - whole.of("natural", "map", 0)).max()) <= 0.5 / 255 + 1e-6
    shown = report.write(out).read_text()
    assert "No pictures" not in shown
    for figure in ("Figure 1", "Figure 5", "Figure 7"):
        assert f"{figure}: " in shown
    assert shown.count("data:image/png") > 3 * len(small.kinds)


def test_a_recorded_command_names_no_folder_of_the_machine_it_ran_on() -> None:
    commands = ("a --out /b/c/d --seed 1", "a --out=/b/c/", "a --out c/d", "a")
    found = record.anywhere({"command": commands[0], "numbers": [{"command": c, "n": 1, "out": "/b"} for c in commands]})
    assert [found["command"]] + [n["command"] for n in found["numbers"]] == [
        "a --out d --seed 1",
        "a --out d --seed 1",
        "a --out=c",
        "a --out c/d",
        "a",
    ]
    assert found["numbers"][0]["out"] == "/b", "only commands are shortened"


def test_no_record_names_a_folder_of_the_machine_it_ran_on() -> None:
    named = {
        str(p): body["command"]
        for p in (record.ROOT / "results").rglob("run.json*")
        for body in [read_json(p.with_suffix("") if p.suffix == ".xz" else p)]
        if body != record.anywhere(body)
    }
    assert not named


def test_a_small_record_has_pictures_where_they_are_asked_for(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "ROOT", tmp_path)
    monkeypatch.setattr(record, "noted", lambda run: None)
    for pictures in (False, True):
        record.main(finished, "small", pictures)
        names = {"numbers.json.xz", "run.json"} | ({"gallery.json", "gallery.safetensors.xz"} if pictures else set())
        assert {p.name for p in (tmp_path / "results" / "small").iterdir()} == names
    monkeypatch.setattr(record, "PICTURES", 100)
    with pytest.raises(AssertionError, match="at most 100 are kept of a data set"):
        record.main(finished, "small", True)


def test_of_two_runs_a_step_s_smaller_seconds_are_kept(tmp_path: Path) -> None:
    def run(**seconds: float) -> dict[str, Any]:
        steps = [{"step": "read_data", "slug": "Digits", "seconds": 2.0}]
        return {"steps": [*steps, *({"step": "fit", "slug": f"{slug}-seed0", "seconds": s} for slug, s in seconds.items())]}

    for one in (run(a=10.0, b=20.0), run(a=30.0, b=5.0, c=7.0)):
        record.noted(one, tmp_path / "seconds.json")
    assert read_json(tmp_path / "seconds.json")["digits"]["fit"] == {"a": 10.0, "b": 5.0, "c": 7.0}


def test_large_pictures_are_kept_as_means_and_say_so(tmp_path: Path) -> None:
    rng, (kept, out) = np.random.default_rng(0), (tmp_path / "run", tmp_path / "out")
    kept.mkdir()
    out.mkdir()
    image, seen = rng.integers(0, 256, (3, 3, 112, 112), np.uint8), rng.random((3, 1, 112, 112), np.float32)
    arrays = {"natural.image": image, "natural.map": seen, "label": np.arange(3)}
    write_arrays(kept / "gallery.safetensors", {k: [v] for k, v in arrays.items()})
    write_json(kept / "gallery.json", {"attacks": []})
    record.keep_pictures(kept, out)
    found = read_arrays(out / "gallery.safetensors.xz")
    assert found["natural.image"].shape == (1, 3, 56, 56) and len(found["label"]) == 1
    assert found["natural.image"][0, 1, 5, 7] == round(image[0, 1, 10:12, 14:16].mean())
    assert abs(found["natural.map"][0, 0, 5, 7] / 255 - seen[0, 0, 10:12, 14:16].mean()) < 0.003
    assert read_json(out / "gallery.json")["shown"] == "means over 2 x 2 pixels"
