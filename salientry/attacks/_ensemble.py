"""AutoAttack's attacks in sequence, each on what is still right."""

from __future__ import annotations

from typing import Literal, Protocol

from torch import Tensor, nn

from ..store import one_of
from . import _apgd, _fab, _square
from ._ball import Ball
from ._gradient import check_settings

Version = Literal["standard", "apgd"]
VERSIONS = ("standard", "apgd")
SHARE = 0.8  # of the pixels that Square's first squares cover


class Ensemble(Protocol):
    """What an AutoAttack is told, whatever its norm."""

    @property
    def version(self) -> Version: ...
    @property
    def steps(self) -> int: ...
    @property
    def queries(self) -> int: ...
    @property
    def candidates(self) -> int: ...


def check(settings: Ensemble) -> None:
    """Raises:
    UsageError: for settings out of range.
    """
    check_settings(
        steps=(settings.steps, 1, 100_000), queries=(settings.queries, 2, 10_000_000), candidates=(settings.candidates, 1, 10**6)
    )
    one_of("version", settings.version, VERSIONS)


def reduced(settings: Ensemble) -> bool:
    """Whether it is less than the published standard set, which the defaults are."""
    return any(getattr(settings, name) != getattr(type(settings), name) for name in ("version", "steps", "queries", "candidates"))


def in_turn(
    classifier: nn.Module, x: Tensor, y: Tensor, seeds: Tensor, ball: Ball, version: Version, steps: int, queries: int, candidates: int
) -> Tensor:
    """(N, C, H, W) images after APGD-CE, APGD-T, FAB-T and Square (``apgd``: the first two); where none fools, the natural."""
    out, active = x.clone(), (classifier(x).argmax(1) == y).nonzero()[:, 0]
    for name in ("ce", "targeted", "fab", "square") if version == "standard" else ("ce", "targeted"):
        if not len(active):
            break
        given = classifier, x[active], y[active]
        if name == "fab":
            found, size = _fab.searched(*given, ball.norm, steps=steps, candidates=candidates, enough=ball.radius)
            fooled = size <= ball.radius
        elif name == "square":
            found, fooled = _square.searched(*given, seeds[active], ball, queries, SHARE)
        else:
            loss: _apgd.Loss = "ce" if name == "ce" else "targeted"
            found, fooled = _apgd.searched(*given, seeds[active], ball, loss, steps, candidates=candidates)
        out[active[fooled]] = found[fooled]
        active = active[~fooled]
    return out


def titled(name: str, version: Version, changed: bool) -> str:
    """``AutoAttack`` is the published set with the published settings; anything less says so."""
    return f"{name} ({version})" if version != "standard" else f"{name} (reduced)" if changed else name
