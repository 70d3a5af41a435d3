"""Processes that work for this one: Ctrl-C is not meant for them, and none outlives its caller."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection


@contextlib.contextmanager
def no_interrupt() -> Iterator[None]:
    """SIGINT waits until afterwards; a process that is started inside never gets it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # it would lift the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def works_for(line: Connection) -> None:
    """This process ignores SIGINT and ends, in the middle of its work if it must be, when the other end of the line is closed: nobody says
    anything there.
    """
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(line,), daemon=True).start()


def _end_with(line: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        line.recv_bytes()
    os._exit(1)
