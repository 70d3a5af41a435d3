"""The application: routes around one guard, to be mounted into another application or to stand alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response

from .. import __version__
from ..campaign import Campaigns
from ..guard import Guard
from . import operations, pictures, protocol
from . import page as page_routes
from .access import Keys
from .gate import Gate, notes_of
from .journal import Kept
from .page import Example, PageAttack
from .server import Server
from .settings import Batching, Limits
from .watch import Campaign, Monitor

ROUTES = (protocol, pictures, operations)


def app(
    guard: Guard,
    *,
    name: str = "guard",
    mode: str = "monitor",
    keys: Keys | Mapping[str, str] | None = None,
    limits: Limits | None = None,
    batching: Batching | None = None,
    monitor: Monitor | Literal[False] | None = None,
    campaign: Campaign | Literal[False] | None = None,
    keep_flagged: Path | str | None = None,
    keep_at_most: int = 1000,
    page: bool = False,
    attack: Mapping[str, PageAttack] | None = None,
    examples: Sequence[Example] | None = None,
) -> FastAPI:
    """A guard as an ASGI application: the Open Inference Protocol, version 2, ``/check`` for pictures, ``/health``, ``/metrics``.

    It stands alone, or is mounted into any other: ``main.mount("/guard", app(guard))``; its thread starts with the first request, so
    nobody need run its lifespan. One pass of the classifier serves both, its answer and the guard's verdict. ``application.state.server``
    is the :class:`~salientry.serve.server.Server`: ``replace(guard)`` puts another guard to work without a dropped request, ``drain()``
    refuses new ones, ``close()`` ends its threads.

    Args:
        guard: on the device where it is to compute.
        name: of the model in addresses.
        mode: ``monitor`` answers everything and logs what is flagged; ``mark`` says in the header ``Salientry-Flagged`` which images are;
            ``enforce`` answers 422 with the verdict, and without the classifier's answers, where an image is flagged.
        keys: API keys by name; None: whoever reaches it may ask.
        limits: of requests.
        batching: how images of several requests are judged together.
        monitor: watches the flag rate; None: a :class:`~salientry.drift.FlagRate` of the guard's level, for each guard anew; False: none.
        campaign: watches each source, an API key's name or an address, for a search for a way past; None:
            :class:`~salientry.campaign.Campaigns`; False: nobody does.
        keep_flagged: folder for flagged images; None: no pixel is kept.
        keep_at_most: images in it; the oldest goes for a new one.
        page: whether there is a page to try it at ``/``. What is asked there is heard by nobody, but in the mode ``enforce``.
        attack: what the page, which there is then, offers as attacks, :class:`~salientry.serve.page.PageAttack` by name: callers see what
            gradients find.
        examples: pictures that the page, which there is then, offers, :class:`~salientry.serve.page.Example`.

    Raises:
        UsageError: for a mode, a name, keys or a number that cannot be used.

    Examples:
        >>> from salientry import Guard
        >>> from salientry.serve import app
        >>> guard = Guard.load("guard", classifier)                 # doctest: +SKIP
        >>> main.mount("/guard", app(guard))                        # doctest: +SKIP
    """
    server = Server(
        guard,
        name=name,
        mode=mode,
        keys=keys if isinstance(keys, Keys) else Keys(keys or {}),
        limits=limits or Limits(),
        batching=batching or Batching(),
        monitor=monitor,
        campaign=Campaigns() if campaign is None else campaign or None,
        kept=None if keep_flagged is None else Kept(Path(keep_flagged), keep_at_most),
        page=page,
        attack=attack,
        examples=examples,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.get_running_loop().run_in_executor(None, server.close)

    application = FastAPI(
        title="Salientry", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False
    )  # the pages of both fetch scripts from elsewhere
    application.state.server = server
    for of in (*ROUTES, *([page_routes] if server.page else [])):
        application.include_router(of.routes(server))
    application.add_exception_handler(HTTPException, _refused)
    application.add_exception_handler(RequestValidationError, _invalid)
    application.add_middleware(Gate, server=server)
    return application


async def _refused(request: Request, e: Exception) -> Response:
    """What no route answers."""
    assert isinstance(e, HTTPException)
    code = {404: "not_found", 405: "method"}.get(e.status_code, "refused")
    notes_of(request.scope).code = code
    return JSONResponse({"error": str(e.detail), "code": code}, e.status_code, dict(e.headers or {}))


async def _invalid(request: Request, e: Exception) -> Response:
    """Parameters that are none: in the path of an address, which is then nobody's, or behind it."""
    assert isinstance(e, RequestValidationError)
    lost = any(error["loc"][:1] == ("path",) for error in e.errors())
    notes_of(request.scope).code = code = "not_found" if lost else "bad_request"
    text = "there is nothing at this address" if lost else "the address has parameters that cannot be read"
    return JSONResponse({"error": text, "code": code}, 404 if lost else 400)
