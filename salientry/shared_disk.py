"""Disks that several machines share (NFS and the like): what one does there the others see late, and an answer may be lost on the way."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

LATE = 10.0  # seconds in which what was renamed must be seen

T = TypeVar("T")


def once_more(act: Callable[[], T]) -> T:
    """What it gives. Where a network's disk says that what it held was replaced meanwhile (a stale handle), it is asked once more."""
    try:
        return act()
    except OSError as e:
        if e.errno != errno.ESTALE:
            raise
        return act()


def comes(there: Callable[[], bool], folder: Path, seconds: float) -> bool:
    """Whether something is in a folder within so many seconds: a network's disk shows late what another machine did."""
    end = time.monotonic() + seconds
    while not there():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
        with contextlib.suppress(OSError):
            os.scandir(folder).close()  # to open a folder asks the server anew
    return True


def take_place(fresh: Path, path: Path) -> None:
    """Rename a file over another one. Where a network's disk finds nothing to rename, it may have done so and its answer been lost: then
    the file is there.

    Raises:
        OSError: as ``os.replace`` raises it.
    """
    mine = os.stat(fresh)

    def there() -> bool:
        try:
            return os.path.samestat(once_more(lambda: os.stat(path)), mine)
        except FileNotFoundError:
            return False

    try:
        once_more(lambda: os.replace(fresh, path))
    except FileNotFoundError:
        if not comes(there, path.parent, LATE):
            raise


def machine_name() -> str:
    """This machine, without dashes: process numbers are each machine's own."""
    return socket.gethostname().replace("-", "_").replace("/", "_")[:60]


def beside(path: Path) -> Path:
    """Where a file is written before it takes the place of ``path``: a name that no other thread, process or machine has."""
    return path.with_name(f".{path.name[:150]}.{os.getpid()}-{machine_name()}-{threading.get_ident()}")
