"""Attacks that hold something which is no setting (a library's object, a network, a perturbation): settings that stand for it."""

from __future__ import annotations

from typing import Any, TypeVar

from ..errors import UsageError

S = TypeVar("S")


def keep(settings: S, thing: Any) -> S:
    """Note what settings stand for; it is in no file, no key and no comparison."""
    object.__setattr__(settings, "_given", thing)
    return settings


def kept(settings: Any, what: str) -> Any:
    """What settings stand for.

    Raises:
        UsageError: for settings that were read from a file or copied field by field.
    """
    thing = vars(settings).get("_given")
    if thing is None:
        raise UsageError(f"{type(settings).__name__} was made from its settings alone, which hold no {what}: make it as it was made first")
    return thing
