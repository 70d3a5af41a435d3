"""One line is one line: file names, terminals, and verdicts where some pictures cannot be judged."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from salientry.classifiers import load_classifier
from salientry.cli.closing import last_lines
from salientry.cli.lines import program, shown
from salientry.guard import Guard
from salientry.pixels import read_pixels, write_pixels

from .conftest import Cli

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain é – 日本.png", "plain é – 日本.png"),
        ("a\nclean   good.png", "a\\nclean   good.png"),
        ("\x1b[31mred\x1b[0m\r", "\\x1b[31mred\\x1b[0m\\r"),
        ("\udcff.png", "\\udcff.png"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("a\u2028b\x85", "a\\u2028b\\x85"),
    ],
)
def test_what_cannot_be_printed_is_escaped(text: str, line: str) -> None:
    assert shown(text) == line and len(shown(text).splitlines()) == 1


@pytest.mark.parametrize("name", [b"bad\nclean   good.png", b"\x1b[2Jgone.png", b"not-utf8-\xff.png"])
def test_a_files_name_forges_no_line(left: Path, name: bytes) -> None:
    path = Path(os.fsdecode(os.path.join(os.fsencode(left), name)))
    shutil.copy(left / "natural.png", path)
    result = Cli("check", left / "guard", path)
    assert result.code in (0, 1), result.err
    assert len(result.lines) == 1 and "\x1b" not in result.out and shown(path.name) in result.out
    path.write_bytes(b"no picture")
    Cli("check", left / "guard", path).refused(2, "cannot be read as a picture")
    assert "\x1b" not in Cli("check", left / "guard", path).err


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_a_terminal_of_another_encoding_never_fails(left: Path, encoding: str) -> None:
    path = left / "日本 – \u0394.png"
    shutil.copy(left / "natural.png", path)
    env = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)}
    call = [sys.executable, "-m", "salientry", "check", str(left / "guard"), str(path), str(left / "none-\u0394.png")]
    done = subprocess.run(call, env=env, capture_output=True, check=False)
    assert done.returncode == 2, done.stderr
    assert b"\\u65e5\\u672c" in done.stdout and b"none-\\u0394.png" in done.stderr and b"Traceback" not in done.stderr


# --- check -----------------------------------------------------------------------------------------------------


def test_every_readable_picture_gets_its_verdict_when_others_are_broken(left: Path) -> None:
    (left / "broken.png").write_bytes(b"no picture")
    os.mkfifo(left / "pipe.png")
    write_pixels(left / "large.png", np.zeros((1, 30, 28), np.uint8))
    good = [left / "natural.png", left / "attacked.png"]
    alone = Cli("check", left / "guard", *good)
    result = Cli("check", left / "guard", good[0], left / "broken.png", left / "pipe.png", good[1], left / "large.png", left / "none.png")
    assert result.code == 2 and result.out == alone.out and len(result.lines) == 2
    errors = result.err.splitlines()
    assert len(errors) == 4 and all(line.startswith("error: ") for line in errors)
    for line, name in zip(errors, ("broken.png", "pipe.png", "large.png", "none.png"), strict=True):
        assert name in line


def test_grey_and_colour_files_are_judged_together(left: Path) -> None:
    pixels = read_pixels(left / "natural.png")
    write_pixels(left / "colour.png", pixels.repeat(3, 0))
    result = Cli("check", left / "guard", left / "natural.png", left / "colour.png")
    assert result.code in (0, 1) and len({line.split(": ", 1)[1] for line in result.lines}) == 1
    pixels = pixels.repeat(3, 0)
    pixels[0] ^= 1
    write_pixels(left / "red.png", pixels)
    Cli("check", left / "guard", left / "red.png").refused(2, "is a colour picture; the guard's images are grey")


def test_pictures_of_another_size_are_brought_to_the_guards_when_it_says_how(left: Path) -> None:
    small = read_pixels(left / "natural.png")
    write_pixels(left / "large.png", small.repeat(2, 1).repeat(2, 2))
    Cli("check", left / "guard", left / "large.png").refused(2, "is 56 x 56 pixels; the guard's images are 28 x 28", "resize=")
    guard = Guard.load(left / "guard", load_classifier(str(left / "classifier")))
    guard.resize = "squash"
    guard.save(left / "guard", "../classifier")
    result = Cli("check", left / "guard", left / "natural.png", left / "large.png")
    assert result.code in (0, 1) and len(result.lines) == 2
    plain = [line.split("class ")[1].split(",")[0] for line in result.lines]
    assert plain[0] == plain[1], "the same digit, twice as large"


# --- starts that fail ------------------------------------------------------------------------------------------


def test_too_many_workers_are_refused_and_leave_nothing(home: Path, tmp_path: Path) -> None:
    Cli("run", "smoke", "--workers", "100000", "--out", tmp_path / "deep" / "out").refused(2, "workers must be", "found 100000")
    assert not (tmp_path / "deep").exists()


def test_a_start_that_fails_leaves_no_empty_folder(home: Path, tmp_path: Path) -> None:
    Cli("run", "fast", "dataset=mnist", "--out", tmp_path / "out").refused(3, "SALIENTRY_DATA")
    assert not (tmp_path / "out").exists()
    (tmp_path / "mine").mkdir()
    Cli("run", "fast", "dataset=mnist", "--out", tmp_path / "mine").refused(3, "SALIENTRY_DATA")
    assert (tmp_path / "mine").is_dir()


def test_a_run_names_the_program_as_it_was_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make demo` calls .venv/bin/salientry, which no shell finds by its name."""
    there = tmp_path / "a place" / "salientry"
    there.parent.mkdir()
    there.write_text("#!/bin/sh\n")
    there.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [str(there), "run", "smoke"])
    assert program() == f"'{there}'", "the shell does not find it"
    monkeypatch.setenv("PATH", str(there.parent))
    assert program() == "salientry"
    monkeypatch.setattr(sys, "argv", [".venv/bin/salientry", "run", "smoke"])
    assert program() == ".venv/bin/salientry", "the shell finds another one"
    monkeypatch.setattr(sys, "argv", [str(ROOT / "salientry" / "__main__.py"), "run"])
    assert program() == f"{sys.executable} -m salientry"
    for other in ("pytest", str(tmp_path / "pytest" / "__main__.py")):
        monkeypatch.setattr(sys, "argv", [other])
        assert program() == "salientry", "somebody else's program, which calls ours"


def test_the_last_lines_of_a_run_are_commands_of_the_program_that_ran(ran: tuple[Path, Cli]) -> None:
    out, _ = ran
    commands = [line.strip() for line in last_lines(out, ".venv/bin/salientry")][-4:]
    assert [line.split()[:2] for line in commands[1:]] == [[".venv/bin/salientry", name] for name in ("check", "serve", "fit")]
