from __future__ import annotations

import base64
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from salientry.types import Shape

from . import nightly
from .examples import SHAPES, conv
from .shared import intact, linked, shared

DOT = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg==")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to the night what :mod:`tests.nightly` names."""
    for item in items:
        if isinstance(item, pytest.Function):
            path = item.path.relative_to(Path(__file__).parent).as_posix()
            spec = getattr(item, "callspec", None)
            case, parameters = (spec.id, spec.params) if spec else ("", {})
            if nightly.waits(path, item.originalname, case, parameters, SHAPES):
                item.add_marker(pytest.mark.nightly)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """As every CPU step of a run: one thread, so that bytes can be compared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=sorted(SHAPES))
def shape(request: pytest.FixtureRequest) -> Shape:
    """Grey, colour, and odd sizes in turn."""
    return SHAPES[request.param]


@pytest.fixture
def classifier(shape: Shape) -> nn.Module:
    """A random convolutional classifier with batch norm for images of ``shape``, in eval mode."""
    return conv(shape)


def _tiny_run(folder: Path) -> None:
    from salientry.report.report import write  # here, since most files of tests need neither
    from tests.tiny import finish

    finish(folder / "store", folder / "out")
    write(folder / "out")


@pytest.fixture(scope="session")
def tiny_run() -> Iterator[Path]:
    """One whole tiny run, its store and its records, computed once for each state of the code; nobody may write into it."""
    folder = shared("tiny", _tiny_run)
    yield folder
    assert intact(folder), f"a test has changed a file of {folder}, or of a link to it; it was to be read only"


@pytest.fixture(scope="session")
def finished_store(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the tiny run, as links: what is added here is seen by this worker alone."""
    return linked(tiny_run / "store", tmp_path_factory.mktemp("finished") / "store")


@pytest.fixture(scope="session")
def finished(tiny_run: Path, finished_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records and report of the tiny run; nobody may write into it."""
    return Path(shutil.copytree(tiny_run / "out", tmp_path_factory.mktemp("finished") / "out"))


@pytest.fixture(autouse=True)
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes more than half of the time of a page. Only tests marked ``figures`` look at what is drawn; others get one grey dot.

    Where no test is left out, `make nightly`, all figures are drawn.
    """
    if "figures" in request.keywords or not request.config.option.markexpr or "matplotlib.figure" not in sys.modules:
        return

    def dot(self: Any, target: Any, *, format: str = "png", **_: Any) -> None:
        text = b"<svg xmlns='http://www.w3.org/2000/svg'></svg>" if format == "svg" else DOT
        target.write(text) if hasattr(target, "write") else Path(target).write_bytes(text)

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", dot)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What `./check` counts."""
    passed = terminalreporter.stats.get("passed", [])
    others = sum("oracle" in r.keywords for r in passed)
    terminalreporter.write_line(f"counted: {len(passed)} tests passed, {others} of them against others' attacks")
