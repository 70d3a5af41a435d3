"""Do the attacks attack? An attack that does not fool the classifier tests no detector."""

from __future__ import annotations

from ..errors import AttackTooWeak
from ..rows import Rows
from ..store import JSON
from .handles import step


@step("strong_enough")
def strong_enough(settled: Rows, least: float) -> dict[str, JSON]:
    """Share of the images that were right and that the attack fooled, in float.

    Raises:
        AttackTooWeak: when it is below ``least``: an error of the run, not an empty column.
    """
    right, changed = settled.column("right"), settled.column("changed")
    share, n = float(changed[right].mean()) if right.any() else 0.0, int(right.sum())
    if share < least:
        raise AttackTooWeak(
            f"{settled.facts['attack']} fools {share:.1%} of the {n} images that the classifier has right; at least {least:.0%} expected: "
            "a detector judged on it would be judged on nothing"
        )
    return {"attack": settled.facts["attack"], "fooled": share, "n": n, "least": least}
