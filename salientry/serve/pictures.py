"""The route ``/check``: picture files in, what ``salientry check --json`` says of each out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import python_multipart
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from numpy.typing import NDArray
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from ..errors import Error
from ..guard import Guard
from ..picture_check import picture_in, picture_verdicts
from .gate import notes_of
from .protocol import BYTES, ERROR, FAULTS, flagged_header
from .refusals import Refused, bad
from .server import Server

KINDS = ("image/jpeg", "image/png", "image/webp", "application/octet-stream")
LONGEST = 100  # characters of a file's name
ONE = {
    "type": "object",
    "required": ["image"],
    "properties": {
        "image": {"type": "string"},
        "flagged": {"type": "boolean"},
        "score": {"type": ["number", "null"]},
        "threshold": {"type": "number"},
        "p_value": {"type": "number"},
        "predicted": {"type": "integer"},
        "contributions": {"type": "object"},
        "reasons": {"type": "string"},
        "answers": {"type": "object"},
        **ERROR["properties"],  # type: ignore[dict-item]
    },
}
ANSWER = {"type": "object", "required": ["pictures"], "properties": {"pictures": {"type": "array", "items": ONE}}}
FORM = {"type": "object", "properties": {"pictures": {"type": "array", "items": BYTES}}}
BODY = {
    "requestBody": {
        "required": True,
        "content": {kind: {"schema": BYTES} for kind in KINDS} | {"multipart/form-data": {"schema": FORM}},
    }
}


@dataclass(frozen=True)
class File:
    """A picture that was sent: its name, and its bytes."""

    name: str
    data: bytes


def routes(server: Server) -> APIRouter:
    """The route for pictures."""
    router = APIRouter(tags=["Pictures"])
    answers = {200: {"content": {"application/json": {"schema": ANSWER}}}} | {k: v for k, v in FAULTS.items() if k != 404}

    @router.post("/check", openapi_extra=BODY, responses=answers)
    async def check(request: Request) -> Response:
        """What the guard says of pictures: JPEG, PNG or WebP, one as the body, or many as the files of a form.

        A picture that cannot be read gets an error in place of its verdict; the others are judged.
        """
        body, kind, guard = await request.body(), request.headers.get("content-type", ""), server.guard

        def read() -> tuple[list[File], list[NDArray[np.uint8] | Error]]:
            sent = files_in(body, kind)
            server.refuse_many(len(sent))
            return sent, [_decoded(f, guard, server.limits.pixels) for f in sent]

        files, decoded = await server.decoded(len(body), read)
        return await _answered(server, request, guard, files, decoded)

    return router


async def _answered(
    server: Server, request: Request, guard: Guard, files: list[File], decoded: list[NDArray[np.uint8] | Error]
) -> Response:
    found: list[dict[str, Any]] = [{} for _ in files]
    good = [i for i, x in enumerate(decoded) if not isinstance(x, Error)]
    status, headers = 200, dict[str, str]()
    if good:
        pixels: Any = [decoded[i] for i in good]
        judged = await server.judge(guard, np.stack(pixels), notes_of(request.scope), [files[i].name for i in good])
        for i, verdict in zip(good, picture_verdicts(guard, [files[i].name for i in good], judged.verdict), strict=True):
            found[i] = verdict.json()
        status = 422 if server.mode == "enforce" and judged.said else 200
        headers = flagged_header(server, replace(judged, said={good[i]: v for i, v in judged.said.items()}))
    for i, x in enumerate(decoded):
        if isinstance(x, Error):
            found[i] = {"image": files[i].name, "error": str(x), "code": "bad_picture"}
            server.metrics.images.labels("error").inc()
    if status == 422:
        notes_of(request.scope).code = "flagged"
    return JSONResponse({"pictures": found}, status, headers)


def _decoded(file: File, guard: Guard, most: int) -> NDArray[np.uint8] | Error:
    try:
        return np.ascontiguousarray(picture_in(file.data, file.name, guard.shape, guard.resize, most=most))
    except Error as e:
        return e


def files_in(body: bytes, kind: str) -> list[File]:
    """The pictures in a body.

    Args:
        body: of the request.
        kind: its ``Content-Type``.

    Raises:
        Refused: 400 for a body without pictures or a form that is damaged, 415 for another kind of body.
    """
    bare, options = parse_options_header(kind)
    if not body:
        raise bad("the body is empty; a picture, or a form with pictures expected")
    if bare == b"multipart/form-data":
        return _form(body, options.get(b"boundary", b""))
    if kind and bare.decode("latin-1") not in KINDS:
        raise Refused(415, "content_type", f"Content-Type must be multipart/form-data or one of {', '.join(KINDS)}")
    return [File("picture", body)]


def _form(body: bytes, boundary: bytes) -> list[File]:
    found: list[File] = []
    field, value, disposition = bytearray(), bytearray(), bytearray()
    data = bytearray()
    ended = []

    def header() -> None:
        if bytes(field).lower() == b"content-disposition":
            disposition[:] = value
        field.clear()
        value.clear()

    def part() -> None:
        name = parse_options_header(bytes(disposition))[1].get(b"filename")
        if name is not None:  # other fields are not for us
            found.append(File(_called(name, len(found)), bytes(data)))
        disposition.clear()
        data.clear()

    try:
        parser = python_multipart.MultipartParser(
            boundary,
            {
                "on_header_field": lambda d, a, b: field.extend(d[a:b]),
                "on_header_value": lambda d, a, b: value.extend(d[a:b]),
                "on_header_end": header,
                "on_part_data": lambda d, a, b: data.extend(d[a:b]),
                "on_part_end": part,
                "on_end": lambda: ended.append(True),
            },
        )
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError):
        raise bad("the form is damaged: no multipart/form-data with a boundary") from None
    if not ended:
        raise bad("the form is damaged: it ends in the middle")
    if not found:
        raise bad("the form holds no file; pictures expected, each with a file name")
    return found


def _called(name: bytes, number: int) -> str:
    """A file's own name, without folders and without what cannot be printed; else its number."""
    text = name.decode("utf-8", "replace").replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(c for c in text if c.isprintable())[-LONGEST:].strip() or f"picture {number}"
