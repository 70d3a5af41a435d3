"""AutoAttack: the parts in turn, each on what is still right."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from salientry.attacks import APGD, APGDL2, FAB, AutoAttack, AutoAttackL2, Square
from salientry.errors import UsageError

from .. import examples
from .counting import passes

SHAPE = examples.SHAPES["colour"]
N = 40
SMALL: dict[str, Any] = {"steps": 6, "queries": 30, "candidates": 2}


def fooled(net: Any, x: torch.Tensor, y: torch.Tensor, a: Any) -> torch.Tensor:
    return examples.predicted(net, a(net, x, y, seeds=examples.seeds(len(x)))) != y


@pytest.mark.parametrize("eps", [0.004, 0.01, 0.03])
def test_fools_what_any_of_its_parts_fools_and_nothing_else(eps: float) -> None:
    net, x = examples.conv(SHAPE, dtype=torch.float64), examples.images(SHAPE, N, dtype=torch.float64)
    y, s = examples.predicted(net, x), examples.seeds(N)
    near = FAB("linf", 6, 2)(net, x, y, seeds=s)
    in_ball = (near - x).abs().flatten(1).amax(1) <= eps
    parts = fooled(net, x, y, APGD(eps, 6)) | fooled(net, x, y, APGD(eps, 6, "targeted", candidates=2))
    found = AutoAttack(eps, **SMALL)(net, x, y, seeds=s)
    left = examples.predicted(net, found) != y
    whole = parts | (in_ball & (examples.predicted(net, near) != y)) | fooled(net, x, y, Square(eps, 30))
    assert torch.equal(left, whole) or int((left ^ whole).sum()) <= 1  # FAB's last search may come inside the ball by a hair
    assert torch.equal(found[~left], x[~left])
    assert float((found - x).abs().max()) <= eps + 1e-9


def test_one_version_ends_after_apgd() -> None:
    net, x = examples.conv(SHAPE), examples.images(SHAPE, N)
    y = examples.predicted(net, x)
    for kind, apgd, size in ((AutoAttack, APGD, 0.01), (AutoAttackL2, APGDL2, 0.2)):
        found = fooled(net, x, y, kind(size, "apgd", **SMALL))
        assert torch.equal(found, fooled(net, x, y, apgd(size, 6)) | fooled(net, x, y, apgd(size, 6, "targeted", candidates=2)))


def test_the_l2_ball_is_kept() -> None:
    net, x = examples.conv(SHAPE), examples.images(SHAPE, N)
    y = examples.predicted(net, x)
    moved = AutoAttackL2(0.15, **SMALL)(net, x, y, seeds=examples.seeds(N)) - x
    assert 0 < float(moved.flatten(1).norm(dim=1).max()) <= 0.15 * (1 + 1e-5)


def test_all_parts_are_tried_where_nothing_fools() -> None:
    """A look at the image and one to begin each part; CE and two targets of APGD; two targets of FAB; Square."""
    net, x = examples.conv(SHAPE), examples.images(SHAPE, 3)
    y = examples.predicted(net, x)
    with passes(net) as found:
        AutoAttack(1e-6, **SMALL)(net, x, y, seeds=examples.seeds(3))
    assert found == {"forward": 3 * (1 + (1 + 7) + (1 + 2 * 7) + (1 + 2 * 6 * 2) + 30), "backward": 3 * (6 + 2 * 6 + 2 * 6)}


def test_only_the_published_settings_are_called_by_the_plain_name() -> None:
    titles = [a.title for a in (AutoAttack(), AutoAttack(4 / 255), AutoAttack(version="apgd"), AutoAttack(queries=10), AutoAttackL2())]
    assert titles == ["AutoAttack", "AutoAttack 4/255", "AutoAttack (apgd)", "AutoAttack (reduced)", "AutoAttack L2"]
    assert (AutoAttack.steps, AutoAttack.queries, AutoAttack.candidates) == (100, 5000, 9)
    assert not AutoAttack(0.1).reduced and AutoAttack(steps=99).reduced and AutoAttackL2(version="apgd").reduced


def test_refuses_versions_that_there_are_not() -> None:
    with pytest.raises(UsageError, match="version"):
        AutoAttack(version="plus")  # type: ignore[arg-type]
