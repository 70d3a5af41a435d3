from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from salientry.cli import app, running
from tests.tiny import tiny


class Cli:
    """What a call of the command line said, and its exit code."""

    def __init__(self, *arguments: object) -> None:
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        self.code, self.out, self.err, self.exception = result.exit_code, result.stdout, result.stderr, result.exception

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    def refused(self, code: int, *words: str) -> None:
        """One line, no traceback, this exit code, and in the line what was found and what was expected."""
        assert "Traceback" not in self.out + self.err
        assert len(self.err.splitlines()) == 1, self.err
        assert self.err.startswith("error: ")
        assert self.code == code, self.err
        for word in words:
            assert word in self.err


@pytest.fixture(scope="session")
def ran(finished: Path, finished_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Cli]:
    """The folder that `salientry run tiny` leaves behind, and what it said. The store is finished, so nothing is computed."""
    out = tmp_path_factory.mktemp("ran") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SALIENTRY_HOME", str(finished_store))
        patch.setattr(running, "recipe_named", lambda name: tiny)
        return out, Cli("run", "tiny", "--out", out)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store; the working folder is the test's own."""
    monkeypatch.setenv("SALIENTRY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SALIENTRY_DATA", raising=False)
    monkeypatch.setenv("SALIENTRY_WORKERS", "1")  # patched files and disks are this process's own
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def store(finished: Path, finished_store: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of one's own that holds the finished tiny run, which the command line knows by any name."""
    shutil.copytree(finished_store, home, copy_function=os.link)
    monkeypatch.setattr(running, "recipe_named", lambda name: tiny)
    return home


@pytest.fixture
def left(ran: tuple[Path, Cli], home: Path, tmp_path: Path) -> Path:
    """A copy of the folder that the tiny run left."""
    shutil.copytree(ran[0], tmp_path / "left")
    return tmp_path / "left"
