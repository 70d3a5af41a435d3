from __future__ import annotations

from salientry.progress import PROGRESS, ticking
from salientry.types import Shape

SHAPE = Shape(1, 8, 8, 3)

# --- progress ----------------------------------------------------------------------------------------------------


def test_progress_is_reported_to_who_listens() -> None:
    calls: list[tuple[int, int]] = []
    token = PROGRESS.set(lambda done, total: calls.append((done, total)))
    try:
        assert list(ticking("abc", 3)) == ["a", "b", "c"]
    finally:
        PROGRESS.reset(token)
    assert calls == [(0, 3), (1, 3), (2, 3)]
    assert list(ticking("ab", 2)) == ["a", "b"]
    assert len(calls) == 3
