from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from salientry.contracts import Shape
from salientry.report import page
from tests.tiny import finish

from .examples import SHAPES, conv


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


@pytest.fixture(scope="session")
def finished_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the tiny run."""
    return tmp_path_factory.mktemp("finished-store")


@pytest.fixture(scope="session")
def finished(finished_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records and report of one whole tiny run, computed once for all tests; nobody may write into it."""
    out = tmp_path_factory.mktemp("finished")
    finish(finished_store, out)
    page.write(out)
    return out
