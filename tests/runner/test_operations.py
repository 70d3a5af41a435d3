"""Operations of a step: closed forms, agreement with torch's own counter, and silence where they depend on the rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from salientry.batches import Batch
from salientry.experiment.run import Run
from salientry.machine import machine
from salientry.runner import peak as peaks
from salientry.runner.operations import Counting, Operations
from salientry.runner.peak import peak, products
from salientry.runner.step import Handle, step
from salientry.store import Store

from .test_run import Numbers


@step("multiplies", each_row=True, batch=4)
def multiplies(rows: Batch, times: int) -> dict[str, Tensor]:
    """So many products of (rows, 3) and (3, 5)."""
    x = torch.ones(len(rows), 3)
    for _ in range(times):
        out = x @ torch.ones(3, 5)
    return {"out": out}


@step("searches", each_row=True, batch=4)
def searches(rows: Batch) -> dict[str, Tensor]:
    """Longer for later rows."""
    x = torch.ones(len(rows), 3)
    for _ in range(1 + int(rows.image[:, 0, 0, 0].max() * 255)):
        out = x @ torch.ones(3, 5)
    return {"out": out}


@step("only_adds", each_row=True, batch=4)
def only_adds(rows: Batch) -> dict[str, Tensor]:
    return {"out": torch.ones(len(rows)) + 1}


def recorded(run: Run, made_by: Any, *more: Any) -> dict[str, Any]:
    h: Handle = run.do(made_by, run.dataset(Numbers())["train"], *more)
    run.compute(h)
    return run.record(h)


def test_operations_a_row_are_those_of_its_products(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for times in (1, 7):
        assert recorded(run, multiplies, times)["operations"] == times * 2 * 3 * 5
    assert "operations" not in recorded(run, searches), "they depend on the rows"
    assert "operations" not in recorded(run, only_adds), "nothing that is counted"


@pytest.mark.parametrize(
    ("sizes", "at", "taken", "expected"),
    [
        ([4], {0}, {0: 40}, 10),
        ([4, 3], {0, 1}, {0: 40, 1: 60}, 100 / 7),  # all of them
        ([4, 4, 4, 3], {0, 2}, {0: 40, 2: 40}, 10),
        ([4, 4, 4, 3], {0, 2}, {0: 40, 2: 44}, None),
        ([4, 4, 4, 3], {0, 2}, {2: 40}, None),  # the first was there before
        ([4, 3, 3], {0}, {0: 40}, None),
        ([4, 4], {0, 1}, {0: 0, 1: 0}, None),
    ],
)
def test_two_batches_speak_for_all_where_they_agree(
    sizes: Sequence[int], at: set[int], taken: dict[int, int], expected: float | None
) -> None:
    found = Operations(sizes)
    assert found.at == at
    found.found |= taken
    assert found.a_row == expected


def layers(x: Tensor) -> Tensor:
    """A convolution, a strided one, a product, and the slope of what comes out at x."""
    g = torch.Generator().manual_seed(0)
    a, b, c = torch.rand(6, 3, 3, 3, generator=g), torch.rand(4, 6, 3, 3, generator=g), torch.rand(5, 4 * 16, generator=g)
    with torch.enable_grad():
        x = x.clone().requires_grad_()
        out = F.linear(F.conv2d(F.relu(F.conv2d(x, a, padding=1)), b, stride=2, padding=1).flatten(1), c)
        (slope,) = torch.autograd.grad(out.logsumexp(1).sum(), x)
    return slope


def test_it_counts_what_torchs_counter_counts_and_changes_no_bit() -> None:
    x = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    plain = layers(x)
    with Counting() as counting:
        counted = layers(x)
    with FlopCounterMode(display=False) as theirs:
        layers(x)
    assert torch.equal(plain, counted) and counting.total == theirs.get_total_flops() > 0
    first, second, last = 6 * 27 * 64, 4 * 54 * 16, 5 * 64
    assert counting.total == 5 * 2 * 2 * (first + second + last), "once forward, once back to the input"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_module_is_counted_like_any_other() -> None:
    """As somebody's own network may be one."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2)).eval()
    scripted, x = torch.jit.script(net), torch.rand(5, 3, 8, 8)
    for it in (net, scripted):
        plain = it(x)
        with Counting() as counting:
            assert torch.equal(it(x), plain)
        assert counting.total == 5 * 2 * (4 * 27 * 36 + 2 * 4 * 36)


def test_the_peak_is_measured_once_and_only_for_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, calls, here = Store(tmp_path), list[tuple[str, int]](), machine("cpu")
    monkeypatch.setattr(peaks, "products", lambda *how: calls.append(how) or 5e9)
    assert [peak(store, here), peak(Store(tmp_path), here)] == [5e9, 5e9] and calls == [("cpu", here["threads"])]
    assert peak(store, here | {"threads": 2}) == 5e9 and len(calls) == 2
    for other in ({"processor": "another"}, {"device": "cuda:99"}, {"torch": "1.0"}):
        assert peak(store, here | other) is None
    assert peak(store, {}) is None
    (tmp_path / ".peaks.json").write_text("[")
    assert peak(store, here) == 5e9 and peak(store, here) == 5e9 and len(calls) == 3


def test_a_product_takes_some_time() -> None:
    found = products("cpu", 1)
    assert 1e8 < found < 1e13 and products("cpu", 1) == found
