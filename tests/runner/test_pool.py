"""Steps side by side in worker processes: the same bytes, the same outcome, the same errors as in one process."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from salientry.errors import Error, UsageError
from salientry.experiment.run import Run
from salientry.learned import fingerprint
from salientry.machine import cores
from salientry.progress import ticking
from salientry.runner import graph as graph_module
from salientry.runner import pool as pool_module
from salientry.runner.run import Outcome
from salientry.runner.step import Chosen, Handle, step

ROOT = Path(__file__).parents[2]


@step("draws")
def draws(number: int, note: str | None = None, *, seed: int) -> Any:
    """Its process, its threads, and something that needs arithmetic."""
    found = torch.rand(64, 64, generator=torch.Generator().manual_seed(seed + number))
    for _ in ticking(range(3), 3):
        found = torch.tanh(found @ found / 8)
    return {"sum": float(found.sum()), "pid": os.getpid(), "threads": torch.get_num_threads(), "folder": os.getcwd()}


@step("adds")
def adds(values: list[Any]) -> float:
    return float(sum(v["sum"] for v in values))


@step("sleeps")
def sleeps(seconds: float, started: str) -> float:
    """Leaves its process id behind, whole or not at all, and takes its time."""
    written = Path(started).with_suffix(".part")
    written.write_text(str(os.getpid()))
    written.replace(started)
    time.sleep(seconds)
    return seconds


@step("warns")
def warns(text: str) -> str:
    warnings.warn(text, stacklevel=1)
    return text


@step("breaks")
def breaks(text: str) -> None:
    raise UsageError(text)


class Odd(Exception):
    """Cannot be built from its text."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


@step("held_to", chooses=True)
def held_to(value: Any, limit: float) -> Chosen:
    return Chosen("value", {"limit": limit}, f"{limit:g} is too low" if limit < 1 else None)


@step("behind")
def behind(value: Any, number: int = 0) -> Any:
    return value


@step("weighs")
def weighs(module: nn.Module, number: int) -> float:
    return number + sum(float(p.detach().sum()) for p in module.parameters())


def graph(run: Run) -> list[Handle]:
    made = [run.do(draws, i) for i in range(4)]
    return [run.do(adds, made), run.do(adds, made[:2])]


def wait_for(found: Callable[[], Any], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def keys(outcome: Outcome) -> list[list[str]]:
    failed = [h.fingerprint + message for h, message in (*outcome.skipped, *outcome.failed)]
    return [[h.fingerprint for h in outcome.reused], [h.fingerprint for h, _ in outcome.made], failed]


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def hire(*_: Any) -> None:
        raise AssertionError("a worker was started")

    monkeypatch.setattr(pool_module, "ProcessPoolExecutor", hire)


@pytest.mark.nightly
def test_the_records_are_those_of_one_process_to_the_last_bit(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``finished`` was computed in one process; the whole recipe, by two workers."""
    from tests.tiny import finish, recorded  # late: workers import this module, too

    compute = Run.compute
    monkeypatch.setattr(Run, "compute", lambda run, wanted, listener=None: compute(run, wanted, listener, workers=2))
    run, _, outcome = finish(tmp_path / "store", tmp_path / "out")
    assert len(outcome.made) > 50
    pids = {run.order([h])[-1].fingerprint for h, _ in outcome.made}
    assert len(pids) == len(outcome.made), "each once"
    mine, theirs = recorded(tmp_path / "out"), recorded(finished)
    assert sorted(mine) == sorted(theirs)
    assert [name for name in mine if mine[name] != theirs[name]] == []
    assert not list((tmp_path / "store").rglob(".new-*"))
    assert not list((tmp_path / "store").rglob("*.parts"))


def test_workers_share_the_work_and_tell_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    one, two = Run(tmp_path / "one"), Run(Path("..") / "two")
    started: list[tuple[str, int, int]] = []
    ended: list[str] = []

    def listener(h: Handle, index: int, of: int) -> Any:
        started.append((h.fingerprint, index, of))

        def heard(done: int, total: int) -> None:
            assert 0 <= done <= total
            ended.extend([h.fingerprint] if done == total else [])

        return heard

    net = nn.Linear(3, 2)
    mine = [[*graph(r), r.do(weighs, r.given(net, fingerprint(net)), 1)] for r in (one, two)]
    first = one.compute(mine[0])
    second = two.compute(mine[1], listener, workers=2)
    assert keys(first) == keys(second)
    assert sorted(ended) == sorted(k for k, _, _ in started) == sorted(h.fingerprint for h, _ in second.made)
    assert [i for _, i, _ in started] == list(range(7))
    assert {n for _, _, n in started} == {7}
    for a, b in zip(*mine, strict=True):
        assert one.get(a) == two.get(b)
    made = [two.get(two.do(draws, i)) for i in range(4)]
    assert os.getpid() not in {m["pid"] for m in made}
    assert {m["threads"] for m in made} == {1}
    assert {m["folder"] for m in made} == {str(tmp_path / "here")}


def test_nobody_is_hired_for_nothing(tmp_path: Path, nobody: None) -> None:
    run = Run(tmp_path)
    chain = run.do(behind, run.do(behind, run.do(draws, 1)), 2)
    assert len(run.compute([chain], workers=2).made) == 3  # one after the other
    run.compute(graph(run))
    assert len(run.compute(graph(run), workers=2).reused) == 6
    with pytest.raises(AssertionError, match="was started"):
        run.compute([run.do(draws, 7), run.do(draws, 8)], workers=0 if cores() > 1 else 2)
    with pytest.raises(UsageError, match="workers must be 1 or more"):
        run.compute([], workers=-1)


def test_a_failed_gate_behaves_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = []
    for workers in (1, 2):
        run = Run(tmp_path / str(workers))
        made = [run.do(draws, i) for i in range(2)]
        bad, good = run.do(held_to, made[0], 0.5), run.do(held_to, made[0], 2)
        wanted = [run.do(behind, run.do(behind, bad)), run.do(behind, good), run.do(behind, bad, 3), run.do(behind, made[1], 4)]
        outcomes.append(keys(run.compute(wanted, workers=workers)))
        assert [run.done(w) for w in wanted] == [False, True, False, True]
    assert outcomes[0] == outcomes[1]
    assert len(outcomes[0][2]) == 4  # three skipped, one failed
    monkeypatch.setattr(pool_module, "ProcessPoolExecutor", None)  # nobody is needed now
    again = Run(tmp_path / "2")
    assert keys(again.compute(wanted, workers=2))[2] == outcomes[0][2]


def test_errors_and_warnings_arrive(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with pytest.warns(UserWarning, match="mind the (gap|step)") as noted:
        run.compute([run.do(warns, "mind the gap"), run.do(warns, "mind the step")], workers=2)
    assert {str(w.message) for w in noted} == {"mind the gap", "mind the step"}
    assert {w.filename for w in noted} == {__file__}
    with pytest.raises(UsageError, match="found none") as caught:
        run.compute([run.do(breaks, "found none"), run.do(sleeps, 60, str(tmp_path / "sleeper"))], workers=2)
    assert caught.value.__notes__ == ["in step breaks (found_none)"]
    assert caught.value.exit_code == 2
    assert "raise UsageError(text)" in str(caught.value.__cause__)
    if (tmp_path / "sleeper").exists():
        assert not alive(int((tmp_path / "sleeper").read_text()))


def test_a_worker_that_is_killed_is_an_error_and_the_next_call_goes_on(tmp_path: Path) -> None:
    run = Run(tmp_path / "store")
    sleeper = tmp_path / "sleeper"
    wanted = [*graph(run), run.do(sleeps, 1.5, str(sleeper))]

    def kill() -> None:
        wait_for(sleeper.exists)
        os.kill(int(sleeper.read_text()), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    first = {wanted[2].fingerprint: 9.0}  # the longest: begun at once
    with pytest.raises(Error, match=r"exit code -9, SIGKILL.*while it computed step sleeps") as caught:
        run.compute(wanted, workers=2, seconds=first)
    assert "continues from there" in str(caught.value)
    killer.join()
    again = Run(tmp_path / "store")
    outcome = again.compute(wanted, workers=2)
    assert wanted[2].fingerprint in {h.fingerprint for h, _ in outcome.made}
    other = Run(tmp_path / "other")
    other.compute(graph(other))
    assert [again.get(h) for h in graph(again)] == [other.get(h) for h in graph(other)]


CALLER = """
import sys
from pathlib import Path
from salientry.experiment.run import Run
from tests.runner.test_pool import sleeps

if __name__ == "__main__":
    run = Run(sys.argv[1])
    try:
        run.compute([run.do(sleeps, 120 + i, sys.argv[1] + f"/begun{i}") for i in range(2)], workers=2)
    except KeyboardInterrupt:
        print("interrupted")
        sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_worker_outlives_its_caller(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "caller.py").write_text(CALLER)
    started = [tmp_path / "store" / f"begun{i}" for i in range(2)]
    command = [sys.executable, str(tmp_path / "caller.py"), str(tmp_path / "store")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    hears = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # whoever started the tests in the background made it deaf
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=hears
    )
    wait_for(lambda: all(b.exists() for b in started))
    pids = [int(b.read_text()) for b in started]
    assert all(alive(p) for p in pids)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as Ctrl-C does: everyone in the foreground gets it
    else:
        process.send_signal(number)
    out, err = process.communicate(timeout=20)
    wait_for(lambda: not any(alive(p) for p in pids), 10)
    if number == signal.SIGINT:
        assert (process.returncode, out) == (130, "interrupted\n")
        assert "Traceback" not in err


def test_what_cannot_be_sent_is_computed_here(tmp_path: Path, nobody: None) -> None:
    run = Run(tmp_path)

    @step("hidden")
    def hidden(number: int) -> int:
        return os.getpid()

    with pytest.warns(UserWarning, match=r"computing in one process.*hidden is not to be found"):
        run.compute([run.do(hidden, 1), run.do(hidden, 2)], workers=2)
    assert run.get(run.do(hidden, 1)) == os.getpid()

    class Local(nn.Linear):
        pass

    mine = Local(2, 2)
    f = run.given(mine, fingerprint(mine))
    with pytest.warns(UserWarning, match=r"computing in one process.*Local"):
        run.compute([run.do(weighs, f, 1), run.do(weighs, f, 2)], workers=2)
    assert run.get(run.do(weighs, f, 2)) == run.get(run.do(weighs, f, 1)) + 1


class Shy:
    """Goes away and does not come back."""

    def __reduce__(self) -> Any:
        return int, ("not a number",)


def test_what_does_not_arrive_is_computed_here(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.given(Shy(), "shy")
    with pytest.warns(UserWarning, match=r"computing in one process.*ValueError"):
        outcome = run.compute(graph(run), workers=2)
    assert len(outcome.made) == 6
    assert run.get(run.do(draws, 1))["pid"] == os.getpid()


def test_an_exception_that_cannot_travel_is_reported_as_text() -> None:
    odd = Odd(1, 2)
    odd.add_note("in step odd")
    carried = pool_module.portable(odd, RuntimeError)
    assert (type(carried), str(carried), carried.__notes__) == (RuntimeError, "Odd: 1 and 2", ["in step odd"])
    usual = UsageError("as it is")
    assert pool_module.portable(usual, RuntimeError) is usual


def test_steps_and_handles_travel(tmp_path: Path) -> None:
    run = Run(tmp_path)
    there: list[Handle] = pickle.loads(pickle.dumps(graph(run)))
    assert [h.fingerprint for h in there] == [h.fingerprint for h in graph(run)]
    assert there[0].step is adds
    assert there[0].inputs[0] is there[1].inputs[0], "a handle is sent once"
    assert pickle.loads(pickle.dumps(run)).store.root == tmp_path
    error = UsageError("wrong")
    error.add_note("here")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["here"]


def test_what_most_waits_for_comes_first(tmp_path: Path) -> None:
    run = Run(tmp_path)
    a, b, c = (run.do(draws, i) for i in range(3))
    late = run.do(behind, c)
    going = run._start([a, b, late], None)
    names = {h.fingerprint: n for n, h in {"a": a, "b": b, "c": c, "late": late}.items()}

    def order(seconds: dict[str, float]) -> str:
        order_, out = graph_module.Schedule(going, seconds), []
        while (i := order_.next()) is not None:
            out.append(names[going.todo[i].fingerprint])
            order_.ends(i)
        return " ".join(out)

    assert order({}) == "c a b late"
    assert order({late.fingerprint: 9.0, b.fingerprint: 5.0}) == "c late b a"
    assert order({a.fingerprint: 1.0, b.fingerprint: 5.0}) == "b a c late"
    assert graph_module.width(going) == 3


@pytest.mark.parametrize(
    ("asked", "device", "seconds", "count"),
    [(None, "cpu", 100.0, cores()), (None, "cpu", 1.0, 1), (None, "cuda", 100.0, 1), (3, "cpu", 1.0, 3), (1, "cpu", 100.0, 1)],
)
def test_processes_are_started_where_that_is_worth_it(asked: int | None, device: str, seconds: float, count: int) -> None:
    assert pool_module.worth(asked, device, {"one": seconds / 2, "other": seconds / 2}) == count
