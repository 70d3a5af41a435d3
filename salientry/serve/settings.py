"""Settings of the service: what one request and all of them may ask for, and how images are judged together."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from ..errors import UsageError

MODES = ("monitor", "mark", "enforce")


def _positive(settings: Any, zero: tuple[str, ...] = ()) -> None:
    for f in fields(settings):
        value, whole = getattr(settings, f.name), f.type == "int"
        sound = isinstance(value, int if whole else int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not (sound and (value > 0 or (value == 0 and f.name in zero))):
            kind = "a whole number" if whole else "a number"
            raise UsageError(f"{type(settings).__name__}({f.name}=) must be {kind} above 0; found {value!r}")


def whole(what: str, value: Any, least: int, most: int | None = None) -> None:
    """Raise unless it is a whole number from ``least``, up to ``most``.

    Raises:
        UsageError: says what was found and what was expected.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least or (most is not None and value > most):
        raise UsageError(f"{what} must be a whole number from {least}{'' if most is None else f' to {most}'}; found {value!r}")


def duration(what: str, value: Any) -> None:
    """Raise unless it is a number of seconds, 0 or more.

    Raises:
        UsageError: says what was found.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
        raise UsageError(f"{what} must be a number of seconds, 0 or more; found {value!r}")


@dataclass(frozen=True)
class Limits:
    """What is refused before anything is decoded or computed.

    Attributes:
        body: bytes of one request's body.
        bodies: bytes of all bodies that are held at the same time.
        requests: that are under way at the same time.
        images: of one request.
        pixels: of one picture file, as its header says.
        seconds: in which a body must have arrived.

    Raises:
        UsageError: for a limit that is no number above 0.
    """

    body: int = 16 * 2**20
    bodies: int = 128 * 2**20
    requests: int = 256
    images: int = 128
    pixels: int = 2**24
    seconds: float = 30.0

    def __post_init__(self) -> None:
        _positive(self)


@dataclass(frozen=True)
class Batching:
    """How images of several requests are judged in one pass.

    Attributes:
        size: images of one pass, at most; a request with more is judged in several.
        wait: seconds that the first image of a pass waits for others.
        queue: images that wait at most; a request beyond that is refused.
        deadline: seconds that a request waits at most; then it is refused, not computed.

    Raises:
        UsageError: for a number that is not above 0 (``wait`` may be 0).
    """

    size: int = 32
    wait: float = 0.002
    queue: int = 256
    deadline: float = 2.0

    def __post_init__(self) -> None:
        _positive(self, ("wait",))
