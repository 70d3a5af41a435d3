from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from salientry.contracts import Shape

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
