"""What a handle depends on."""

from __future__ import annotations

from salientry.runner.step import Handle


def scoring(h: Handle) -> str:
    """What a handle scores: ``""`` nothing, else ``calibration``, ``test``, ``select``; of a fusion with ``fusion`` before it."""
    if h.step is None or h.step.name != "scores":
        return ""
    what = "calibration" if "protocol" in h.args else "test" if "calibrated" in h.args else "validation"
    return f"fusion {what}" if "parts" in h.args else what


def upstream(h: Handle) -> dict[str, Handle]:
    """Everything that it depends on, views included, by key."""
    found: dict[str, Handle] = {}

    def visit(one: Handle) -> None:
        for u in one.inputs:
            if u.fingerprint not in found:
                found[u.fingerprint] = u
                visit(u)

    visit(h)
    return found
