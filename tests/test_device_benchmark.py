"""The benchmark of a full device: what it compares is the same thing, and its record. How fast anything is, no test says."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import device, device_heads, device_steps, host_reads
from benchmarks.device_clock import Clock, described, in_turn
from salientry.classifiers import CompactCNN
from salientry.detectors._cnn import SmallCNN
from salientry.paper_cnn import PaperCNN
from tests import examples

SHAPE = examples.SHAPES["colour"]
SEEDS = torch.arange(6) + 1
LOOPS = {loop.name: loop for loop in device_steps.loops(6, 20)}
TINY: dict[str, Any] = {
    "paper": PaperCNN(blocks=((1, 3, 3),), dense=(5,), batch=8, centred=True),
    "compact": SmallCNN(width=2, batch=8),
}


def attacked(dtype: torch.dtype = torch.float64) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    net, x = examples.conv(SHAPE, dtype=dtype).requires_grad_(False), examples.images(SHAPE, 6, dtype=dtype)
    return net, x, examples.predicted(net, x)


@pytest.mark.parametrize("name", LOOPS)
def test_one_step_is_the_attack(name: str) -> None:
    """The same images, in float64 to rounding, as the attack gives; and they are other images than they were."""
    loop, (net, x, y) = LOOPS[name], attacked()
    found = device_steps.Running(loop.stepped(net), loop.state(net, x, y, SEEDS)).run(loop.steps, loop.result)
    ours = loop.attack(net, x, y, seeds=SEEDS)
    assert float((found - ours).abs().max()) <= 1e-12 < 1e-3 < float((ours - x).abs().max())


@pytest.mark.parametrize("name", LOOPS)
def test_a_compiled_step_is_the_step(name: str) -> None:
    """Followed to the end, without a break, by what compilers begin with; a second run begins where the first did."""
    loop, (net, x, y) = LOOPS[name], attacked()
    begin = loop.state(net, x, y, SEEDS)
    one = device_steps.Running(loop.stepped(net), begin)
    made = device_steps.Running(device_steps.compiled(loop, net, "aot_eager"), begin)
    for _ in range(2):
        assert float((made.run(loop.steps, loop.result) - one.run(loop.steps, loop.result)).abs().max()) <= 1e-12


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", LOOPS)
def test_a_captured_step_is_the_step(name: str) -> None:
    loop, (net, x, y) = LOOPS[name], (v.cuda() for v in attacked())
    begin = loop.state(net, x, y, SEEDS.cuda())
    one, graph = (device_steps.Running(loop.stepped(net), begin) for _ in range(2))
    graph.captured()
    for _ in range(2):
        assert float((graph.run(loop.steps, loop.result) - one.run(loop.steps, loop.result)).abs().max()) <= 1e-12
    assert host_reads.waits(lambda: graph.run(loop.steps, loop.result), "cuda") == 0


@pytest.mark.parametrize("name", LOOPS)
def test_one_step_makes_nobody_wait(name: str) -> None:
    net, x, _ = attacked(torch.float32)
    assert device_steps.waits_of(LOOPS[name], net, x, "cpu") == {"today": float(name == "C&W"), "one step": 0.0}


def test_a_gpus_waits_are_those_that_torch_warns_of(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[Any] = [0]
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[-1])
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def work() -> None:
        assert modes[-1] == "warn"
        for said in (host_reads.SAID, host_reads.SAID, "something else"):
            warnings.warn(said, stacklevel=1)

    assert host_reads.waits(work, "cuda:0") == 2 and modes == [0, "warn", 0]


class Ticking(Clock):
    """A second passes whenever it is looked at."""

    ticks = 0.0

    def now(self) -> float:
        """Seconds."""
        self.ticks += 1
        return self.ticks


def test_steps_before_the_clock_starts_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_heads, "HEADS", TINY)
    clock = Ticking("cpu", 1)
    settings = device_heads.settings_of("paper")
    pairs = device_heads.views(settings, device_heads.WARM + 2, 8, "cpu")
    assert len(pairs) == (device_heads.WARM + 2) * 4
    assert device_heads.seconds_of(device_heads.at_once, settings, pairs, range(3), clock) == 3  # three heads look, the first one counts
    assert device_heads.seconds_one_by_one(settings, pairs, range(3), clock) == 3  # one each


def test_differences_are_rounding_where_they_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_heads, "HEADS", TINY)
    clock = Clock("cpu", 60)
    for name in TINY:
        assert 0 <= device_heads.exactly(name, clock, side=8) <= 1e-12
        found = device_heads.differences(name, (1, 3), clock, heads=2, side=8)
        for row in found["after"]:
            assert row["moved"] > 0 and row["together"] <= 2 * row["moved"] and 0 < row["a rounding"] <= 2 * row["moved"]
    assert torch.get_default_dtype() is torch.float32


def test_operations_of_a_head_are_those_of_its_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """One linear layer of 12 to 2 on 8 views: 2 * 8 * 12 * 2 there, once more for the weights; views take no gradient."""
    net = PaperCNN(blocks=((1, 1, 1),), dense=(), dropout=0, batch=8)
    monkeypatch.setattr(device_heads, "HEADS", {"paper": net})
    settings = device_heads.settings_of("paper")
    conv, linear = 2 * 8 * 64 * 3, 2 * 8 * 16 * 2
    assert device_heads.operations(settings, device_heads.views(settings, 2, 8, "cpu")) == 2 * conv + 3 * linear


def test_what_is_done_in_turn() -> None:
    order: list[str] = []
    works = {name: (lambda name=name: float(len(order.append(name) or order))) for name in "abc"}
    found = in_turn(works, 8, lambda k: k >= 7)
    assert "".join(order) == ("abccba" * 4)[:21] and [len(v) for v in found.values()] == [7, 7, 7]
    assert len(in_turn(works, 9, lambda _: True)["a"]) == 6
    said = described([0.5] * 6, [1.0] * 6, 10, 4.0, 16.0)
    assert said == {"images per second": 20.0, "times as fast as today": [2.0, 2.0, 2.0], "share of peak": 0.5}


def test_a_quick_record_has_every_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(device_heads, "HEADS", TINY)
    monkeypatch.setattr(device, "NETS", {"compact": CompactCNN(width=2)})
    monkeypatch.setattr(device, "products", lambda *_: 1e9)
    monkeypatch.setattr(device_steps, "loops", lambda *_: [LOOPS["BIM"], LOOPS["C&W"]])
    out = tmp_path / "device.json"
    body = device.measure("cpu", True, out, backend="aot_eager")
    assert json.loads(out.read_text()) == body and body["left out"] == []
    assert set(body["float64"]) == set(TINY) and set(body["waits"]) == {"BIM", "C&W"}
    assert [(r["head"], r["heads"]) for r in body["heads"]] == [("paper", 3), ("compact", 3)]
    for row in body["heads"] + body["steps"]:
        ways = row["ways"]
        assert all(math.isfinite(v) and v > 0 for w in ways.values() if "failed" not in w for v in w["times as fast as today"])
    for row in body["steps"]:
        assert {name for name, w in row["ways"].items() if w.get("failed") == device_steps.NO_GPU} == {"CUDA graph", "compiled, CUDA graph"}
        assert all(row["ways"][name]["values that differ"] == 0 for name in ("one step", "compiled"))
        assert row["ways"]["today"]["share of peak"] > 0 and 0 <= row["a rounding of the start"]["values that differ"] <= 1
        assert {w["success"] for w in row["ways"].values() if "success" in w} == {row["ways"]["today"]["success"]}
    assert [d["head"] for d in body["differences"]] == list(TINY)
    assert "BIM, compact, 8: CUDA graph no GPU" in capsys.readouterr().out


def test_what_fails_or_has_no_time_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def breaks() -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(device, "products", lambda *_: 1e9)
    monkeypatch.setattr(device, "planned", lambda *_: [("heads", "a", breaks), ("waits", "b", lambda: {"today": 0})])
    body = device.measure("cpu", True, tmp_path / "x.json")
    assert body["left out"] == ["heads a: RuntimeError: out of memory"] and body["waits"] == {"b": {"today": 0}}
    assert device.measure("cpu", True, tmp_path / "x.json", limit=-1)["left out"] == ["heads a: no time", "waits b: no time"]


def test_a_nudge_is_a_rounding_of_what_moves() -> None:
    loop, (net, x, y) = LOOPS["PGD"], attacked()
    begin = loop.state(net, x, y, SEEDS)
    found = device_steps.nudged(begin, loop.moves)
    assert {k for k in begin if not torch.equal(begin[k], found[k])} == {"here"}
    assert 0 < float((found["here"] - begin["here"]).abs().max()) < 1e-6
    assert device_steps.unlike(x, x + torch.tensor([0.0, 1e-3]).repeat(x.shape[-1] // 2)) == {
        "values that differ": 0.5,
        "at most": pytest.approx(1e-3),
    }


def test_a_compiler_that_is_not_there_is_said() -> None:
    loop, (net, x, y) = LOOPS["BIM"], attacked()
    found, failed = device_steps.ways(loop, net, loop.state(net, x, y, SEEDS), "cpu", "no such backend")
    assert list(found) == ["one step"] and "InvalidBackend" in failed["compiled"]
