"""What a handle stands on."""

from __future__ import annotations

from salientry.experiment.handles import Handle


def upstream(h: Handle) -> dict[str, Handle]:
    """Everything that it stands on, views included, by key."""
    found: dict[str, Handle] = {}

    def visit(one: Handle) -> None:
        for u in one.inputs:
            if u.fingerprint not in found:
                found[u.fingerprint] = u
                visit(u)

    visit(h)
    return found
