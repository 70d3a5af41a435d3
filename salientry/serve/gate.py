"""What every request passes on its way in and out: identity, key, limits, the log, and one form of error."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import traceback
import uuid
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .access import address
from .journal import log
from .refusals import CLOSE, RETRY, Refused, overloaded
from .server import Notes, Server

HEALTH = {"/health", "/ready", "/v2/health/live", "/v2/health/ready"}
OPEN = HEALTH | {"/", "/page.css", "/page.js"}  # may be asked without a key: the page itself says nothing
ALWAYS = HEALTH | {"/metrics"}  # are answered while the service shuts down, too
SANE = re.compile(r"[A-Za-z0-9._-]{1,64}")
NOTES = "salientry.notes"


def notes_of(scope: Scope) -> Notes:
    """What is known of the request so far."""
    found: Notes = scope[NOTES]
    return found


class Gate:
    """Around an application: refuses before a body is read, counts what is read, and answers for whatever was raised.

    Args:
        app: the routes.
        server: that they share.
    """

    def __init__(self, app: ASGIApp, server: Server) -> None:
        self.app, self.server = app, server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, headers = time.perf_counter(), {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        given = headers.get("x-request-id", "")
        client = _sender(scope)
        scope[NOTES] = notes = Notes(given if SANE.fullmatch(given) else uuid.uuid4().hex, client)
        answer = _Answer(send, notes.request)
        body = _Body(self.server, receive, headers)
        self.server.under_way += 1
        try:
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            self._admit(path, headers, notes)
            body.refuse_size()
            await self.app(scope, body.receive, answer.send)
        except Refused as e:
            notes.code = e.code
            await answer.json(e.status, e.body, e.headers | (CLOSE if body.unread else {}))
        except ClientDisconnect:
            notes.code, answer.status = "client_gone", 499
        except Exception as e:
            notes.code = "internal"
            trace = traceback.format_exc()
            log("error", logging.ERROR, request_id=notes.request, error=f"{type(e).__name__}: {e}", traceback=trace)
            await answer.json(500, {"error": "something failed here; the log has it under this request's id", "code": "internal"}, CLOSE)
        finally:
            self.server.under_way -= 1
            self.server.bytes_held -= body.size
            self._noted(scope, notes, answer.status, time.perf_counter() - began)

    def _admit(self, path: str, headers: dict[str, str], notes: Notes) -> None:
        """Raise unless this request may be read."""
        if keys := self.server.keys:
            scheme, _, bearer = headers.get("authorization", "").partition(" ")
            given = headers.get("x-api-key") or (bearer.strip() if scheme.lower() == "bearer" else "")
            owner = keys.owner(given) if given else None
            if owner is None and path not in OPEN:
                text = "an API key is needed: the header X-API-Key, or Authorization: Bearer"
                raise Refused(401, "wrong_key" if given else "no_key", text, {"WWW-Authenticate": "Bearer"})
            notes.source = owner or notes.source
            notes.trusted = owner is not None
        else:
            notes.trusted = True
        if path in ALWAYS:
            return
        if self.server.draining:
            raise Refused(503, "shutting_down", "the service is shutting down", RETRY | CLOSE)
        if self.server.under_way > self.server.limits.requests:
            raise overloaded(f"{self.server.limits.requests} requests are under way already; come again")
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise Refused(415, "content_encoding", "bodies are read as they are: no Content-Encoding expected")

    def _noted(self, scope: Scope, notes: Notes, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        m = self.server.metrics
        m.requests.labels(route, status).inc()
        m.seconds.labels(route).observe(seconds)
        if notes.code:
            m.refused.labels(notes.code).inc()
        level = logging.ERROR if status == 500 else logging.WARNING if notes.code else logging.INFO
        facts: dict[str, Any] = {"request_id": notes.request, "route": route, "status": status, "source": notes.source}
        if notes.images:
            facts |= {"images": notes.images, "flagged": notes.flagged, "guard": self.server.identity}
        waited = None if notes.waited is None else round(1e3 * notes.waited, 2)
        log("request", level, **facts, code=notes.code or None, waited_ms=waited, ms=round(1e3 * seconds, 2))


def _sender(scope: Scope) -> str:
    found = str((scope.get("client") or ("unknown",))[0])
    try:
        return address(found)
    except ValueError:  # a socket of this machine, or what a proxy calls somebody
        return found


class _Body:
    """A request's body on its way in: no larger, and no slower, than it may be."""

    def __init__(self, server: Server, receive: Receive, headers: dict[str, str]) -> None:
        self.server, self._receive = server, receive
        self.size, self.complete = 0, False
        self._said = headers.get("content-length")
        self._some = self._said not in (None, "0") or "transfer-encoding" in headers
        self._end = time.monotonic() + server.limits.seconds

    @property
    def unread(self) -> bool:
        """Whether some of it is still to come."""
        return self._some and not self.complete

    def refuse_size(self) -> None:
        """Raise when the headers say that it is too large."""
        if self._said is not None:
            if not self._said.isascii() or not self._said.isdigit():
                raise Refused(400, "bad_request", "Content-Length must be a whole number", CLOSE)
            self._refuse(int(self._said[:19]))

    def _refuse(self, size: int) -> None:
        if size > self.server.limits.body:
            raise Refused(413, "body_too_large", f"the body has more than {self.server.limits.body} bytes, the most that is read", CLOSE)

    async def receive(self) -> Message:
        """The next piece."""
        if self.complete:
            return await self._receive()
        try:
            async with asyncio.timeout(self._end - time.monotonic()):
                message = await self._receive()
        except TimeoutError:
            seconds = self.server.limits.seconds
            raise Refused(408, "body_too_slow", f"the body did not arrive within {seconds:g} seconds", CLOSE) from None
        if message["type"] == "http.request":
            piece = len(message.get("body", b""))
            self.size += piece
            self.server.bytes_held += piece
            self._refuse(self.size)
            if self.server.bytes_held > self.server.limits.bodies:
                raise overloaded("the bodies of other requests fill the memory that is set aside for them; come again")
            self.complete = not message.get("more_body", False)
        return message


class _Answer:
    """What goes out: with the request's id, and once."""

    def __init__(self, send: Send, request: str) -> None:
        self._send, self._id = send, (b"x-request-id", request.encode("ascii"))
        self.status = 0

    async def send(self, message: Message) -> None:
        """Hand on, with the id."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", ()), self._id]}
        await self._send(message)

    async def json(self, status: int, body: dict[str, Any], headers: dict[str, str]) -> None:
        """An error, unless something else has gone out already."""
        if self.status:
            return
        data = json.dumps(body).encode()
        fields = {"content-type": "application/json", "content-length": str(len(data))} | {k.lower(): v for k, v in headers.items()}
        await self.send({"type": "http.response.start", "status": status, "headers": [(k.encode(), v.encode()) for k, v in fields.items()]})
        await self.send({"type": "http.response.body", "body": data})
