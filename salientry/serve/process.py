"""The service as a process of its own: it ends without dropping a request, and takes another guard without one."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from ..errors import DeviceError, brief
from ..guard import Guard
from .access import Keys
from .journal import log
from .server import Server
from .settings import duration, whole

PORTS = 2**16 - 1
PATIENCE = 30.0  # seconds that requests under way may take after the end was asked for


class Process(uvicorn.Server):
    """Runs an application until SIGTERM or SIGINT; SIGHUP reads guard and keys again.

    After the signal to end, requests under way are answered, ``/ready`` and new requests get 503, for ``drain`` seconds at least, so that
    whoever balances the load sees it; then the process ends with code 0. A second signal ends it at once.

    Args:
        application: that :func:`~salientry.serve.app` made.
        config: of uvicorn.
        reread: reads guard and keys again; None: SIGHUP does nothing.
        drain: seconds.
    """

    def __init__(
        self, application: FastAPI, config: uvicorn.Config, reread: Callable[[], tuple[Guard, Keys]] | None = None, drain: float = 0.0
    ) -> None:
        super().__init__(config)
        self.guarded: Server = application.state.server
        self._reread, self._drain = reread, drain
        self._asked: float | None = None
        self._again = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal to end."""
        if self._asked is not None:
            self.should_exit = self.force_exit = True
        else:
            self._asked = time.monotonic()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether it is time to end."""
        if self._again:
            self._again = False
            threading.Thread(target=self._replaced, name="salientry-reread", daemon=True).start()
        if self._asked is not None:
            self.guarded.drain()
            past = time.monotonic() - self._asked
            if past >= self._drain and (self.guarded.under_way == 0 or past >= self._drain + PATIENCE):
                self.should_exit = True
        return await super().on_tick(counter)

    def hang_up(self, sig: int, frame: FrameType | None) -> None:
        """SIGHUP."""
        self._again = self._reread is not None

    def _replaced(self) -> None:
        assert self._reread is not None
        try:
            guard, keys = self._reread()
        except Exception as e:  # of the folder, the classifier or the keys: the old ones stay
            self.guarded.metrics.replaced.labels("failed").inc()
            log("guard_not_replaced", logging.ERROR, guard=self.guarded.identity, error=brief(e))
            return
        try:
            self.guarded.replace(guard)
        except Exception:  # it was logged
            return
        self.guarded.keys = keys


def serve(
    application: FastAPI,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    reread: Callable[[], tuple[Guard, Keys]] | None = None,
    drain: float = 0.0,
    say: Callable[[str], Any] = lambda line: None,
) -> None:
    """Serve an application until a signal ends it.

    Args:
        application: that :func:`~salientry.serve.app` made.
        host: address to listen at.
        port: 0 to 65535; 0: any that is free.
        reread: reads guard and keys again on SIGHUP.
        drain: seconds between the signal to end and the end, at least.
        say: hears where it listens.

    Raises:
        UsageError: for a port or seconds that cannot be.
        DeviceError: when the address cannot be had.
    """
    refuse(port, drain)
    listening = _bound(host, port)
    where = listening.getsockname()
    quiet: dict[str, Any] = {"log_config": None, "access_log": False, "server_header": False}
    config = uvicorn.Config(application, **quiet, lifespan="on", timeout_keep_alive=20, timeout_graceful_shutdown=5)
    process = Process(application, config, reread, drain)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, process.hang_up)
    name = f"[{where[0]}]" if ":" in where[0] else where[0]
    say(f"listening at http://{name}:{where[1]}")
    log("started", address=where[0], port=where[1], guard=process.guarded.identity, mode=process.guarded.mode)
    with listening:
        process.run(sockets=[listening])
    log("ended")


def refuse(port: int, drain: float) -> None:
    """Raise for what ``serve`` cannot take, before anything is read for it.

    Raises:
        UsageError: says what was found and what was expected.
    """
    whole("the port", port, 0, PORTS)
    duration("drain", drain)


def _bound(host: str, port: int) -> socket.socket:
    with contextlib.ExitStack() as stack:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            listening = stack.enter_context(socket.socket(family, kind, protocol))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(2048)  # who comes before the loop runs waits
        except (OSError, UnicodeError) as e:
            raise DeviceError(f"cannot listen at {host}, port {port}: {getattr(e, 'strerror', None) or e}") from None
        stack.pop_all()
    return listening
