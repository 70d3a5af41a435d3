"""Every error that Salientry raises on purpose, and the exit code that the command line gives it.

::

    Error                      1   something that the run found and that must not pass silently
    ├── CheckFailed            1   a sanity check of a trained part; what depends on it is skipped
    ├── AttackTooWeak          1   an attack that hardly fools the classifier: nothing can be learnt from it
    ├── TrainingFailed         1   a network that learns nothing: whatever is computed with it would mean nothing
    ├── VerificationFailed     1   a report whose numbers do not follow from its records
    ├── UsageError             2   a name, a setting or a value that cannot be used   (also a ValueError)
    │   └── WrongClassifier    2   a guard met a classifier that it was not fitted for
    ├── DataError              3   a file that cannot be used
    │   ├── DataMissing        3   ... because it is not there
    │   └── DataDamaged        3   ... because its content is not what it should be
    ├── StoreError             4   results cannot be written or read back (folder, permission, disk full)
    └── DeviceError            5   the device that was asked for is not here

A bug in salientry leaves with 70, an interrupt with 130. ``salientry check`` and ``watch`` have codes of their own: 0 clean, 1 flagged or
an alarm, 2 any error.
An ``assert`` in this package states an invariant of ours; it is never a message for a user.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

LONGEST = 300  # characters of somebody else's error


class Error(Exception):
    """Root of the tree. ``exit_code`` is what the command line leaves with."""

    exit_code = 1


class CheckFailed(Error):
    """A trained part did not pass its sanity check. The message names each figure and its bound."""


class AttackTooWeak(Error):
    """An attack fools too few images to judge a detector by. The message has the share, the number of images and the bound."""


class TrainingFailed(Error):
    """A network has not learnt, and will not. The message says how that was seen, and what to change."""


class VerificationFailed(Error):
    """A report's printed numbers do not follow from its score records, or a mandatory control is missing."""


class UsageError(Error, ValueError):
    """A name, setting or value that cannot be used: the message says what was found and what was expected."""

    exit_code = 2


class WrongClassifier(UsageError):
    """A guard was given a classifier that it was not fitted for."""


class DataError(Error):
    """A data file cannot be used."""

    exit_code = 3


class DataMissing(DataError):
    """A data set is not here. The message says what to get and where it goes."""


class DataDamaged(DataError):
    """A file is here, but its content is not what its name or checksum says."""


class StoreError(Error):
    """Results cannot be written or read back. What was complete before is still there."""

    exit_code = 4


class DeviceError(Error):
    """The device that was asked for is not here."""

    exit_code = 5


# --- what somebody else's code raises --------------------------------------------------------------------------


@contextlib.contextmanager
def theirs(doing: str, *modules: Any) -> Iterator[None]:
    """Whatever somebody else's code raises inside is reported as that code's error, in one line with the place.

    Args:
        doing: what did not work: "the classifier fails on these images".
        modules: networks; with them only what was raised while one of them, or a part of one, ran. What else is raised passes.

    Raises:
        UsageError: for anything but our own errors and an interrupt, also for ``SystemExit`` and ``MemoryError``.
    """
    try:
        yield
    except Error:
        raise
    except (Exception, SystemExit) as e:
        if modules and not _ran(e, [part for m in modules for part in m.modules()]):
            raise
        raise UsageError(f"{doing}: {brief(e)}") from e


def brief(e: BaseException) -> str:
    """Somebody else's error in one line: its class, its first line, and where it was raised outside this package and torch."""
    text = next(iter(str(e).splitlines()), "")
    said = f"{type(e).__name__}: {text}" if text else type(e).__name__
    said = said if len(said) <= LONGEST else f"{said[:LONGEST]} ..."
    where = _place(e)
    return f"{said} ({where})" if where else said


def _frames(e: BaseException) -> Iterator[tuple[FrameType, int]]:
    """The frames that an error came through, outermost first, each with its line."""
    at = e.__traceback__
    while at is not None:
        yield at.tb_frame, at.tb_lineno
        at = at.tb_next


def _ran(e: BaseException, parts: list[Any]) -> bool:
    """Whether one of these parts ran, or a copy of one whose class is neither ours nor torch's."""
    known = {id(part) for part in parts}
    kinds = {type(part) for part in parts if type(part).__module__.split(".")[0] not in ("torch", __name__.split(".")[0])}
    ran = [frame.f_locals.get("self") for frame, _ in _frames(e)]
    return any(id(it) in known or type(it) in kinds for it in ran)


def _place(e: BaseException) -> str:
    """File, line and function of the innermost frame that is neither ours nor torch's nor the interpreter's, if there is one."""
    torch = getattr(sys.modules.get("torch"), "__file__", None)
    roots = [Path(__file__).parent, Path(contextlib.__file__).parent / "contextlib.py"] + ([Path(torch).parent] if torch else [])
    found = [
        (frame, line)
        for frame, line in _frames(e)
        if not any(Path(frame.f_code.co_filename).is_relative_to(root) for root in roots) and frame.f_code.co_filename[:1] != "<"
    ]
    if not found:
        return ""
    frame, line = found[-1]
    return f"{frame.f_code.co_filename}:{line}, in {frame.f_code.co_qualname}"
