"""Every error is one line that says what was found and what was expected, with its exit code; nothing that was done is lost."""

from __future__ import annotations

import copy
import errno
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from salientry import files
from salientry.cli import running
from salientry.datasets import MNIST, Digits
from salientry.datasets.mnist import SHA256
from salientry.errors import DataDamaged, UsageError
from salientry.experiment.outputs import Outputs
from salientry.experiment.run import Run
from tests.tiny import recorded

from .conftest import Cli

ROOT = Path(__file__).parents[2]


def only(data: Any) -> Any:
    """A recipe that wants a data set and nothing else."""
    return lambda name: lambda run: Outputs(classifier=run.dataset(data))


def recipe(monkeypatch: pytest.MonkeyPatch, made: Any) -> None:
    monkeypatch.setattr(running, "recipe_named", made)


# --- wrong use: 2 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["smok"], ["unknown recipe 'smok'", "there are: smoke"]),
        ([""], ["unknown recipe ''", "there are: smoke"]),
        (["smoke", "sedes=3"], ["unknown parameter 'sedes=3'", "seeds=2", "detector_train=800", "validation=200", "full_cw=false"]),
        (["smoke", "seeds"], ["unknown parameter 'seeds'", "seeds=2"]),
        (["smoke", "=3"], ["unknown parameter '=3'", "seeds=2"]),
        (["smoke", ""], ["unknown parameter ''", "seeds=2"]),
        (["smoke", "run=3"], ["unknown parameter 'run=3'"]),
        (["smoke", "data=3"], ["unknown parameter 'data=3'"]),
        (["smoke", "seeds="], ["seeds must be int, like 2; found ''"]),
        (["smoke", "seeds=many"], ["seeds must be int, like 2; found 'many'"]),
        (["smoke", "full_cw=1"], ["full_cw must be bool, like false; found '1'"]),
        (["smoke", "full_cw=yes"], ["full_cw must be bool, like false; found 'yes'"]),
        (["smoke", "seeds=0"], ["seeds must lie in [1, 100]; found 0"]),
        (["smoke", "detector_train=0"], ["detector_train must lie in [1, "]),
        (["smoke", "seeds=1.5"], ["seeds must be int, like 2; found '1.5'"]),
        (["smoke", "seeds=True"], ["seeds must be int, like 2; found 'True'"]),
        (["smoke", "seeds=(1"], ["seeds must be int, like 2; found '(1'"]),
        (["smoke", "--seed", "-1"], ["a seed is 0 or more; found -1"]),
        (["smoke", "--seed", "x"], ["--seed", "integer"]),
        (["smoke", "--numerics", "bfloat16"], ["unknown numerics mode 'bfloat16'", "there are: float32, threads"]),
        (["smoke", "--sed", "3"], ["--sed"]),
        ([], ["recipe"]),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else None,
)
def test_wrong_use(home: Path, command: str, arguments: list[str], words: list[str]) -> None:
    Cli(command, *arguments).refused(2, *words)
    assert not list(home.rglob("*"))


@pytest.mark.parametrize("arguments", [["nonsense"], ["--bogus"], ["report"], ["check"], ["check", "folder"], ["report", "a", "b"]])
def test_wrong_words(home: Path, arguments: list[str]) -> None:
    Cli(*arguments).refused(2)


def test_no_records_and_no_guard(home: Path, tmp_path: Path) -> None:
    for where in (tmp_path, tmp_path / "nowhere", tmp_path / "a b" / "ü"):
        for option in ([], ["--verify"]):
            Cli("report", where, *option).refused(2, f"no records in {where}", "there is no records.json")
        Cli("check", where, "x.png").refused(2, f"no guard in {where}", "there is no guard.json")


# --- devices: 5 ----------------------------------------------------------------------------------------------------


def absent() -> str:
    return f"cuda:{torch.cuda.device_count()}"


@pytest.mark.parametrize("command", ["run", "plan"])
def test_no_such_device(home: Path, command: str) -> None:
    there = "no CUDA device is here" if not torch.cuda.is_available() else "CUDA devices"
    Cli(command, "smoke", "--device", absent()).refused(5, f"cannot use device '{absent()}'", there)
    Cli(command, "smoke", "--device", "abacus").refused(5, "cannot use device 'abacus'")
    Cli(command, "smoke", "--device", "").refused(5, "cannot use device ''")


def test_no_such_device_is_no_flagged_image(left: Path) -> None:
    """Exit code 1 of ``check`` means flagged."""
    for device in (absent(), "abacus"):
        Cli("check", left / "guard", left / "natural.png", "--device", device).refused(2, f"cannot use device '{device}'")


# --- data: 3 -------------------------------------------------------------------------------------------------------


def test_a_data_set_that_is_not_here(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What to get, and where it goes."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    Cli("run", "smoke").refused(3, "pip install 'salientry[digits]'", "mnist_5k.csv.gz", "SALIENTRY_DATA/digits/", "not set")
    monkeypatch.setenv("SALIENTRY_DATA", str(tmp_path))
    Cli("run", "smoke").refused(3, "mnist_5k.csv.gz", "SALIENTRY_DATA/digits/", f"SALIENTRY_DATA is {tmp_path}", "read_data")


def test_mnist_that_is_not_here(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe(monkeypatch, only(MNIST()))
    Cli("run", "any").refused(3, "MNIST is not here", "SALIENTRY_DATA is not set", "MNIST/raw/train-images-idx3-ubyte.gz", "https://")
    monkeypatch.setenv("SALIENTRY_DATA", str(tmp_path))
    Cli("run", "any").refused(3, "MNIST/raw/train-images-idx3-ubyte.gz", f"under {tmp_path}", "Get the four files")


def test_a_wrong_checksum(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both checksums are shown."""
    recipe(monkeypatch, only(MNIST()))
    monkeypatch.setenv("SALIENTRY_DATA", str(tmp_path))
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    expected = SHA256["train-images-idx3-ubyte.gz"][:16]
    found = hashlib.sha256(b"something else").hexdigest()[:16]
    Cli("run", "any").refused(3, str(path), "wrong checksum", "14 bytes", found, expected, "get it again")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["cannot be read"]),
        (b"no gzip", ["no readable gzip file"]),
        (gzip.compress(b"1,2,3\n", mtime=0)[:-9], ["no readable gzip file"]),
        (gzip.compress(b"", mtime=0), ["cannot be read"]),
        (gzip.compress(b"1,2,x\n4,5,6\n", mtime=0), ["cannot be read"]),
        (gzip.compress(b"1,2,3\n4,5,6\n", mtime=0), ["checksum", "expected"]),
        (gzip.compress(b"1,2,3\n", mtime=0), ["checksum", "expected"]),
    ],
)
def test_damaged_digits(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, words: list[str]) -> None:
    recipe(monkeypatch, only(Digits()))
    monkeypatch.setenv("SALIENTRY_DATA", str(tmp_path))
    (tmp_path / "digits").mkdir()
    path = tmp_path / "digits" / "mnist_5k.csv.gz"
    path.write_bytes(content)
    Cli("run", "any").refused(3, str(path), *words)
    assert not list(home.rglob("DONE"))


def unlinked(path: Path) -> bytes:
    """A file's bytes; the file itself is gone: the store of the test shares its files with the session's."""
    content = path.read_bytes()
    path.unlink()
    return content


def test_a_damaged_result_in_the_store_is_named(store: Path, tmp_path: Path) -> None:
    path = next(p for p in sorted(store.glob("scores/*/arrays.safetensors")))
    content = unlinked(path)
    path.write_bytes(content[:-8])
    again = f"remove {path.parent}, and the same command computes it again"
    Cli("run", "tiny", "--out", tmp_path / "o").refused(3, str(path), "is damaged: its sha256 is", again)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    Cli("run", "tiny", "--out", tmp_path / "o").refused(3, str(path), "is damaged: its sha256 is", again)
    path.write_bytes(content)
    path = path.with_name("result.json")
    unlinked(path)
    path.write_text("{ half")
    Cli("run", "tiny", "--out", tmp_path / "o").refused(3, str(path), "is damaged: its sha256 is", again)
    Cli("plan", "tiny").refused(3, str(path), "is damaged: its sha256 is", again)
    shutil.rmtree(path.parent)
    assert Cli("run", "tiny", "--out", tmp_path / "o").code == 0, "as it said"


def test_damaged_records(left: Path) -> None:
    json_path, arrays_path = left / "records.json", left / "records.safetensors"
    whole, arrays = json_path.read_text(), arrays_path.read_bytes()
    for option in ([], ["--verify"]):
        json_path.write_text(whole[: len(whole) // 2])
        Cli("report", left, *option).refused(3, str(json_path), "is no JSON")
        json_path.write_text(json.dumps(json.loads(whole) | {"schema": 99}))
        Cli("report", left, *option).refused(2, "records.json has schema 99; this version reads 3 and 4")
        json_path.write_text(whole)
        arrays_path.write_bytes(arrays[:-100])
        Cli("report", left, *option).refused(3, str(arrays_path), "truncated", f"{len(arrays) - 100} bytes")
        arrays_path.write_bytes(b"")
        Cli("report", left, *option).refused(3, str(arrays_path), "no readable safetensors file")
        arrays_path.unlink()
        Cli("report", left, *option).refused(4, str(arrays_path), "cannot read")
        arrays_path.write_bytes(arrays)
    (left / "report.json").unlink()
    Cli("report", left, "--verify").refused(4, str(left / "report.json"), "cannot read")


def test_a_damaged_file_of_scores_is_not_a_lost_one(left: Path) -> None:
    """What is lost is left out; what is there and unreadable, or holds other columns, is an error."""
    path = left / "scores" / "strict-FGSM.safetensors"
    whole, other = path.read_bytes(), (left / "scores" / "published-FGSM.safetensors").read_bytes()
    for option in ([], ["--verify"], ["--cells", "figure2"]):
        path.write_bytes(whole[:-100])
        Cli("report", left, *option).refused(3, str(path), "truncated", f"{len(whole) - 100} bytes")
        path.write_bytes(b"")
        Cli("report", left, *option).refused(3, str(path), "no readable safetensors file")
        path.write_bytes(other)
        Cli("report", left, *option).refused(3, "do not fit together")


def spots(body: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value, short lists only."""
    within = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) and len(body) < 6 else ()
    for k, v in within:
        yield (*before, k)
        yield from spots(v, (*before, k))


def damaged(body: Any, at: tuple[Any, ...], value: Any) -> Any:
    out = copy.deepcopy(body)
    inner = out
    for k in at[:-1]:
        inner = inner[k]
    if value is KeyError:
        del inner[at[-1]]
    else:
        inner[at[-1]] = value
    return out


@pytest.mark.parametrize("name", ["guard/guard.json", "classifier/classifier.json"])
def test_a_damaged_guard_is_never_a_flagged_and_seldom_a_clean_image(left: Path, name: str) -> None:
    """Whatever stands in the file: one line and exit code 2, or, where it does not matter, the verdict it had."""
    path, picture = left / name, left / "natural.png"
    whole = json.loads(path.read_text())
    usual = Cli("check", left / "guard", picture)
    harmless: set[tuple[Any, ...]] = set()
    places = [p for p in spots(whole) if not {"facts", "build"} & set(p[:-1]) or p[-1] == "model_confidence"]
    assert len(places) > 5
    for at in places:
        for value in (KeyError, None, float("nan")):
            path.write_text(json.dumps(damaged(whole, at, value)))
            result = Cli("check", left / "guard", picture)
            if result.code == 2:
                result.refused(2)
                assert "a bug in salientry" not in result.err or "build" in at, (
                    at,
                    value,
                    result.err,
                )  # what is in a net is its own affair
            elif "score nan" in result.out:
                assert result.code == 1, "a score that is no number is never clean"
            else:
                assert (result.code, result.out) == (usual.code, usual.out), (at, value)
                harmless.add(at)
    assert not {at for at in harmless if at[0] in ("schema", "shape", "threshold")}


def test_damaged_weights(left: Path) -> None:
    for name in ("guard/guard*.safetensors", "classifier/classifier*.safetensors"):
        (path,) = left.glob(name)
        whole = path.read_bytes()
        for size in (len(whole) - 4, 100, 0):
            path.write_bytes(whole[:size])
            Cli("check", left / "guard", left / "natural.png").refused(2, path.name)
        path.unlink()
        Cli("check", left / "guard", left / "natural.png").refused(2, path.name)
        path.write_bytes(whole)


def test_weights_of_another_kind(left: Path, tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_text("no weights")
    check = ["check", left / "guard", left / "natural.png", "--weights"]
    Cli(*check, tmp_path / "w.pt").refused(2, "w.pt cannot be read as weights")
    Cli(*check, tmp_path / "nowhere.pt").refused(2, "no weights at", "nowhere.pt")
    result = Cli(*check, *left.glob("guard/guard*.safetensors"))
    result.refused(2, "do not fit Sequential", "Unexpected key")
    assert len(result.err) < 600, "a line that somebody reads"
    Cli(*check[:3], "--classifier", "no/such/folder").refused(2, "neither a folder with a classifier.json nor of the form module:callable")


# --- writing: 4 ----------------------------------------------------------------------------------------------------


def test_a_report_that_cannot_be_written(home: Path, tmp_path: Path) -> None:
    """A file stands where a folder should be; root may write anywhere else."""
    (tmp_path / "file").write_text("mine")
    for out, why in ((tmp_path / "file", "File exists"), (tmp_path / "file" / "deep", "Not a directory")):
        Cli("run", "smoke", "--out", out).refused(4, f"cannot write {out}", why)
    assert (tmp_path / "file").read_text() == "mine"
    assert not list(home.rglob("*")), "that is said before anything is computed"


def test_a_store_that_cannot_be_written(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("mine")
    for where, why in ((tmp_path / "file", "File exists"), (tmp_path / "file" / "deep", "Not a directory")):
        monkeypatch.setenv("SALIENTRY_HOME", str(where))
        for command in ("run", "plan"):
            Cli(command, "smoke").refused(4, f"cannot write {where}", why)


def test_a_page_and_an_overlay_that_cannot_be_written(left: Path) -> None:
    (left / "report.html").unlink()
    (left / "report.html").mkdir()
    Cli("report", left).refused(4, f"cannot write {left / 'report.html'}", "it is a folder; a regular file expected")
    for where in (left / "run.json", left / "run.json" / "deep"):
        Cli("check", left / "guard", left / "natural.png", "--overlay", where).refused(2, "cannot write", str(where))


class Full(io.FileIO):
    """A file on a disk that is full after its first 100 bytes."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > 100:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.name)
        return super().write(data)


def disk(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """A disk with room for this many more files of arrays."""
    left = [room]

    def opened(path: Path, mode: str = "r") -> Any:
        if "w" not in mode or ".safetensors" not in Path(path).name:
            return open(path, mode)
        left[0] -= 1
        return Full(path, mode) if left[0] < 0 else open(path, mode)

    monkeypatch.setattr(files, "open", opened, raising=False)


def test_a_full_disk_loses_nothing_that_was_done(store: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = {p.parent.relative_to(store) for p in store.glob("*/*/DONE")}
    for folder in (*store.glob("scores/*"), *store.glob("control_images/*")):
        shutil.rmtree(folder)
    before = {p.parent.relative_to(store): p.stat().st_mtime_ns for p in store.glob("*/*/DONE")}
    assert 20 < len(before) < len(everything) - 20
    disk(monkeypatch, room=10)
    result = Cli("run", "tiny", "--out", tmp_path / "o")
    result.refused(4, "is full", "complete results are kept", "run the same command again")
    after = {p.parent.relative_to(store): p.stat().st_mtime_ns for p in store.glob("*/*/DONE")}
    assert len(after) == len(before) + 10
    assert {k: after[k] for k in before} == before
    assert not [p for p in store.rglob(".new-*")], "what was half written is gone: it would fill the disk"
    planned = re.search(r"(\d+) done, (\d+) left(?:, (\d+) that nobody needs)?", Cli("plan", "tiny").lines[-1])
    assert planned is not None and int(planned[1]) == len(after)
    assert int(planned[1]) + int(planned[2]) + int(planned[3] or 0) == len(everything)
    Cli("run", "tiny", "--out", tmp_path / "o").refused(4, "is full")
    monkeypatch.undo()
    monkeypatch.setenv("SALIENTRY_HOME", str(store))
    recipe(monkeypatch, running_tiny)
    result = Cli("run", "tiny", "--out", tmp_path / "o")
    assert result.code == 0, result.err
    assert f"{planned[2]} steps computed, {len(after)} re-used" in result.out
    left_out = everything - {p.parent.relative_to(store) for p in store.glob("*/*/DONE")}
    assert len(left_out) == int(planned[3] or 0) and {p.parts[0] for p in left_out} <= {"scores"}, "validation scores that were chosen by"
    assert recorded(tmp_path / "o") == recorded(finished)


def running_tiny(name: str) -> Any:
    from tests.tiny import tiny

    return tiny


@pytest.mark.parametrize("room", [0, 1, 4, 8, 10])
def test_a_disk_that_is_full_when_the_report_is_written(
    store: Path, left: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """Records, seven files of scores, gallery, classifier and guard are the files of arrays in a report; all steps are done already."""
    done = len(list(store.glob("*/*/DONE")))
    disk(monkeypatch, room)
    result = Cli("run", "tiny", "action=mark", "--out", left)
    assert result.code == 4, result.err
    assert result.err.startswith("error: the disk that holds ")
    assert len(result.err.splitlines()) == 1
    assert len(list(store.glob("*/*/DONE"))) == done
    assert not (left / "report.html").exists(), "a page of the run before beside the records of this one"


# --- defects, interrupts, --debug ----------------------------------------------------------------------------------


def test_an_error_that_nobody_thought_of_is_one_line_too(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(run: Run) -> Outputs:
        raise RuntimeError("first line\nsecond line")

    recipe(monkeypatch, lambda name: broken)
    Cli("run", "any").refused(70, "RuntimeError: first line second line", "--debug")
    result = Cli("run", "any", "--debug")
    assert isinstance(result.exception, RuntimeError)


def test_debug_lets_the_error_through(home: Path, left: Path) -> None:
    for arguments in (["run", "nope"], ["plan", "nope"], ["report", "nope"], ["check", "nope", left / "natural.png"]):
        result = Cli(*arguments, "--debug")
        assert result.exception is not None
        assert type(result.exception).__module__ == "salientry.errors"
        assert not result.err


def test_the_traceback_is_shown_on_request_and_only_then(home: Path) -> None:
    call = [sys.executable, "-m", "salientry", "report", "nope"]  # needs no torch
    plain, debug = (subprocess.run([*call, *more], capture_output=True, text=True, check=False) for more in ([], ["--debug"]))
    said = "no records in nope: there is no records.json (`salientry run` writes them)"
    assert (plain.returncode, plain.stdout, plain.stderr) == (2, "", f"error: {said}\n")
    assert debug.returncode != 0
    assert "Traceback (most recent call last)" in debug.stderr
    assert debug.stderr.splitlines()[-1] == f"salientry.errors.UsageError: {said}"


def test_an_error_says_in_which_step_it_was(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(Digits):
        def read(self) -> Any:
            raise UsageError("no digits today")

    recipe(monkeypatch, only(Odd()))
    Cli("run", "any").refused(2, "no digits today", "in step read_data")


def test_ctrl_c_in_the_middle_keeps_what_was_done(home: Path) -> None:
    """A real signal, in a real process, while the classifier is trained."""
    process = subprocess.Popen(
        [sys.executable, "-m", "salientry", "run", "smoke"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's `&` ignores it
    )
    until = time.monotonic() + 60
    while not list(home.glob("read_data/*/DONE")):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines() == ["interrupted: complete results are kept; the same command continues from there"]
    assert not out
    assert [p.parent.parent.name for p in home.glob("*/*/DONE")] == ["read_data"]
    assert not [p for p in home.rglob(".new-*")]
    assert re.fullmatch(r"\d+ steps: 1 done, \d+ left, about .*", Cli("plan", "smoke").lines[-1])


def test_an_interrupt_while_python_runs_text_has_its_exit_code_too(home: Path) -> None:
    """Where the signal meets ``exec("...")``, as while a dataclass is made, Python would end by the signal although it was caught."""
    script = """
import sys, typer
from salientry.cli.lines import guarded
try:
    with guarded(False):
        exec("raise KeyboardInterrupt")
except typer.Exit as e:
    sys.exit(e.exit_code)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (130, 1)


def test_an_interrupt_that_meets_a_callback_is_not_lost(home: Path) -> None:
    """Python prints an exception in a weak reference's callback and goes on, an interrupt too: importing modules has such callbacks."""
    script = """
import signal, sys, time, typer, weakref
from salientry.cli.lines import guarded

signal.signal(signal.SIGINT, signal.default_int_handler)

class Thing:
    pass

try:
    with guarded(False):
        thing = Thing()
        reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
        del thing
        time.sleep(30)
        print("went on")
except typer.Exit as e:
    sys.exit(e.exit_code)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (130, "", 1)


def test_a_reader_who_has_seen_enough_is_no_error(home: Path) -> None:
    """``salientry plan smoke | head -1``"""
    process = subprocess.Popen(
        [sys.executable, "-m", "salientry", "plan", "smoke", "--all"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline().startswith("left")
    process.stdout.close()
    with process.stderr as heard:
        assert heard.read() == ""
    process.wait(timeout=60)


def test_a_result_that_only_the_report_reads_is_made_again(store: Path, left: Path, finished: Path) -> None:
    """Its scores are there, so nothing that is computed needs the detector; the records do."""
    path = sorted(store.glob("fit_detector/*-*"))[0]
    shutil.rmtree(path)
    assert "1 left" in Cli("plan", "tiny").lines[-1]
    result = Cli("run", "tiny", "--out", left)
    assert result.code == 0, result.err
    assert (path / "DONE").exists() and recorded(left) == recorded(finished)


def test_an_old_report_stays_until_everything_new_was_read(store: Path, left: Path) -> None:
    """What is read last is damaged."""
    (left / "run.json").write_text("{}")  # of another run
    before = {p: p.read_bytes() for p in left.rglob("*") if p.is_file()}
    for path in (next(store.glob("gallery/*/arrays.safetensors")), next(store.glob("scores/*/arrays.safetensors"))):
        content = unlinked(path)
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        Cli("run", "tiny", "--out", left).refused(3, f"remove {path.parent}, and the same command computes it again")
        assert {p: p.read_bytes() for p in left.rglob("*") if p.is_file()} == before
        path.write_bytes(content)
    (left / "run.json").write_text("{ half")
    assert Cli("run", "tiny", "--out", left).code == 0


def test_results_without_checksums_are_reported(store: Path, left: Path) -> None:
    assert "have no checksums" not in Cli("run", "tiny", "--out", left).out
    for done in list(store.glob("scores/*/DONE"))[:2]:
        unlinked(done)
        done.touch()
    assert "note: 2 of them were written by an earlier version and have no checksums" in Cli("run", "tiny", "--out", left).out


@pytest.mark.parametrize("odd", ["x", None, []])
def test_a_plan_bears_results_with_odd_seconds(store: Path, odd: Any) -> None:
    """They are a mean of what lies in the store; a damaged result is nobody's expectation, and is said where it is needed."""
    path = sorted(store.glob("fit_detector/*-*"))[0] / "result.json"
    body = json.loads(path.read_text()) | {"seconds": odd}
    path.unlink()  # it is a link
    path.write_text(json.dumps(body))
    result = Cli("plan", "tiny")
    assert result.code in (0, DataDamaged.exit_code), result.err
