"""Heads trained at once: the weights, statistics and learning curves that each has by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from salientry import detectors
from salientry.detectors import ID, SPD
from salientry.detectors._cnn import SmallCNN
from salientry.detectors._together import Stacked, Untrained, fit_together
from salientry.errors import UsageError
from salientry.evidence_set import Views
from salientry.learned import facts_of
from salientry.paper_cnn import PaperCNN
from salientry.training import CHECKPOINTS, Checkpoints

TINY = ((1, 3, 3), (1, 4, 3))
HEADS: dict[str, Any] = {
    "compact": SmallCNN(width=3, epochs=3, batch=10),
    "compact, drop-out": SmallCNN(width=3, epochs=2, batch=10, dropout=0.3),
    "no batch norm": SmallCNN(width=2, norm="none", epochs=2, lr=1e-3, batch=10, schedule="constant", dropout=0.6),
    "paper": PaperCNN(blocks=TINY, dense=(5,), epochs=3, batch=10),
    "paper, two dense layers, SGD": PaperCNN(blocks=TINY, dense=(5, 6), epochs=2, batch=10, optimiser="sgd"),
    "paper, RMSprop, no drop-out": PaperCNN(
        blocks=((1, 3, 4),), dense=(), epochs=2, batch=10, optimiser="rmsprop", dropout=0.0, centred=True
    ),
}


@pytest.fixture
def double() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def views(seed: int, count: int = 22) -> Views:
    """Not a multiple of half a batch."""
    draws, dtype = torch.Generator().manual_seed(seed), torch.get_default_dtype()
    natural = torch.rand(count, 3, 8, 8, generator=draws, dtype=dtype)
    return Views(natural, (natural + 0.2 * torch.randn(natural.shape, generator=draws, dtype=dtype)).clamp(0, 1))


def three(head: Any) -> list[Untrained]:
    """The same views and the same seed each stand there twice, and there are two kinds of detectors."""
    return [Untrained(ID(head=head), views(0), 3), Untrained(SPD(head=head), views(1), 3), Untrained(ID(head=head), views(0), 5)]


def apart(a: nn.Module, b: nn.Module) -> float:
    mine, theirs = a.state_dict(), b.state_dict()
    assert list(mine) == list(theirs)
    return max(float((v.double() - theirs[k].double()).abs().max()) for k, v in mine.items())


@pytest.mark.parametrize("name", HEADS)
def test_the_weights_are_those_of_single_training(name: str, double: None) -> None:
    """In float64 but for rounding: initial weights, order of images, drop-out, steps, rates and batch norm's statistics are the same."""
    heads = three(HEADS[name])
    single = [h.settings.fit(h.pairs, h.pairs.labels, seed=h.seed) for h in heads]
    found = fit_together(heads)
    untrained = [h.settings.build(h.pairs.shape) for h in heads]
    for a, b, c, h in zip(found, single, untrained, heads, strict=True):
        assert apart(a, b) <= 1e-12 < 1e-3 < apart(b, c)
        assert facts_of(a)["learning_curve"] == pytest.approx(facts_of(b)["learning_curve"], abs=1e-6)
        assert type(a) is type(b) and a.settings == h.settings and not any(m.training for m in a.modules())
    assert apart(found[0], found[2]) > 1e-3, "another seed is another training"


@pytest.mark.parametrize("name", ["compact", "paper"])
def test_float32_agrees_to_its_own_precision(name: str) -> None:
    heads = three(HEADS[name])
    for a, h in zip(fit_together(heads), heads, strict=True):
        b = h.settings.fit(h.pairs, h.pairs.labels, seed=h.seed)
        view = views(9).adversarial
        with torch.no_grad():
            assert float((a.head(view) - b.head(view)).abs().max()) < 1e-3


def test_a_gradient_of_the_sum_is_each_heads_own(double: None) -> None:
    torch.manual_seed(0)
    nets: list[nn.Module] = [HEADS["compact"].head((3, 8, 8)).train() for _ in range(2)]
    pairs = [(views(k).natural, views(k).adversarial) for k in range(2)]
    together = Stacked(nets, [torch.get_rng_state()] * 2, torch.default_generator)
    together.losses(pairs).sum().backward()  # type: ignore[no-untyped-call]
    for k, (net, pair) in enumerate(zip(nets, pairs, strict=True)):
        scores: Tensor = net(torch.cat(pair))
        wanted = torch.cat([scores.new_zeros(22), scores.new_ones(22)])
        nn.functional.binary_cross_entropy_with_logits(scores, wanted).backward()  # type: ignore[no-untyped-call]
        for p, q in zip(net.parameters(), together.weights, strict=True):
            assert p.grad is not None and q.grad is not None
            assert float((p.grad - q.grad[k]).abs().max()) <= 1e-14


def test_random_numbers_and_checkpoints_are_left_as_they_were(tmp_path: Path) -> None:
    before, kept = torch.get_rng_state(), Checkpoints(tmp_path / "left", seconds=0)
    token = CHECKPOINTS.set(kept)
    try:
        fit_together(three(HEADS["paper"]))
        assert CHECKPOINTS.get() is kept and not (tmp_path / "left").exists()
    finally:
        CHECKPOINTS.reset(token)
    assert torch.equal(before, torch.get_rng_state())


def test_heads_of_several_shapes_are_refused() -> None:
    one = Untrained(ID(head=HEADS["compact"]), views(0), 0)
    assert fit_together([]) == []
    with pytest.raises(UsageError, match="one head"):
        fit_together([one, Untrained(ID(head=HEADS["paper"]), views(0), 0)])
    with pytest.raises(UsageError, match="one view"):
        fit_together([one, Untrained(one.settings, Views(torch.rand(22, 1, 8, 8), torch.rand(22, 1, 8, 8)), 0)])
    with pytest.raises(UsageError, match="number of pairs"):
        fit_together([one, Untrained(one.settings, views(0, 30), 0)])


def test_nothing_that_runs_trains_together() -> None:
    """Until it is measured to pay."""
    package = Path(detectors.__file__).parents[1]
    assert [p for p in package.rglob("*.py") if "fit_together" in p.read_text()] == [package / "detectors" / "_together.py"]
