"""Routes of the Open Inference Protocol, version 2: what Triton, KServe and their clients speak."""

from __future__ import annotations

from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from .. import __version__
from .gate import notes_of
from .refusals import Refused
from .server import Judged, Server
from .tensors import BINARY, INPUT, Tensor, read_request, write_answer

VERSION = "1"
OUTPUTS = {"logits": "FP32", "predicted": "INT64", "flagged": "BOOL", "score": "FP32", "p_value": "FP32", "reason": "BYTES"}
NAME = {"type": "string"}
TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"const": INPUT},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 4, "maxItems": 4},
        "datatype": {"enum": ["FP32", "UINT8"]},
        "parameters": {"type": "object"},
        "data": {"type": "array"},
    },
}
REQUEST = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": NAME,
        "parameters": {"type": "object"},
        "inputs": {"type": "array", "items": TENSOR, "minItems": 1, "maxItems": 1},
        "outputs": {"type": "array", "items": {"type": "object", "required": ["name"], "properties": {"name": {"enum": list(OUTPUTS)}}}},
    },
}
ANSWER = {
    "type": "object",
    "required": ["model_name", "outputs"],
    "properties": {
        "model_name": NAME,
        "model_version": NAME,
        "id": NAME,
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "shape", "datatype"],
                "properties": {"name": NAME, "datatype": NAME, "shape": {"type": "array", "items": {"type": "integer"}}},
            },
        },
    },
}
ERROR = {"type": "object", "required": ["error", "code"], "properties": {"error": NAME, "code": NAME}}
FAULTS: dict[int | str, dict[str, Any]] = {
    code: {"description": words, "content": {"application/json": {"schema": ERROR}}}
    for code, words in {
        400: "Bad request",
        401: "An API key is needed",
        404: "No such model",
        408: "The body came too slowly",
        413: "Too large",
        415: "A form that is not read",
        422: "Flagged, in the mode enforce",
        503: "Overloaded, or shutting down: see Retry-After",
    }.items()
}
BYTES = {"type": "string", "format": "binary"}
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": REQUEST},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    },
}


def routes(server: Server) -> APIRouter:
    """The protocol's routes."""
    router = APIRouter(tags=["Open Inference Protocol"])

    def this_model(model: str, version: str = VERSION) -> None:
        if model != server.name or version != VERSION:
            raise Refused(404, "unknown_model", f"there is one model here, {server.name!r}, and one version of it, {VERSION!r}")

    @router.get("/v2")
    @router.get("/v2/", include_in_schema=False)
    async def server_metadata() -> dict[str, Any]:
        """Name, version and extensions of the server."""
        return {"name": "salientry", "version": __version__, "extensions": [BINARY]}

    @router.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        """Whether the server is there."""
        return {"live": True}

    @router.get("/v2/health/ready", responses={503: FAULTS[503]})
    async def ready() -> Response:
        """Whether it takes requests; 503: it is shutting down."""
        taking = not server.draining
        return JSONResponse({"live": True, "ready": taking}, 200 if taking else 503)

    @router.get("/v2/models/{model}", responses=_faults(404))
    @router.get("/v2/models/{model}/versions/{version}", responses=_faults(404))
    async def model_metadata(model: str, version: str = VERSION) -> dict[str, Any]:
        """Inputs and outputs of the model."""
        this_model(model, version)
        s = server.guard.shape
        sizes = {"logits": [-1, s.classes]}
        return {
            "name": server.name,
            "versions": [VERSION],
            "platform": "salientry",
            "inputs": [{"name": INPUT, "datatype": "FP32", "shape": [-1, s.channels, s.height, s.width]}],
            "outputs": [{"name": name, "datatype": kind, "shape": sizes.get(name, [-1])} for name, kind in OUTPUTS.items()],
        }

    @router.get("/v2/models/{model}/ready", responses=_faults(404, 503))
    @router.get("/v2/models/{model}/versions/{version}/ready", responses=_faults(404, 503))
    async def model_ready(model: str, version: str = VERSION) -> dict[str, Any]:
        """Whether the model takes requests."""
        this_model(model, version)
        return {"name": server.name, "ready": True}

    inference: dict[str, Any] = {"openapi_extra": BODY, "responses": {200: {"content": {"application/json": {"schema": ANSWER}}}} | FAULTS}

    @router.post("/v2/models/{model}/infer", **inference)
    @router.post("/v2/models/{model}/versions/{version}/infer", **inference)
    async def infer(request: Request, model: str, version: str = VERSION) -> Response:
        """What the classifier answers, and what the guard says of it."""
        this_model(model, version)
        body, header, guard = await request.body(), request.headers.get("inference-header-content-length"), server.guard
        asked = await server.decoded(len(body), lambda: read_request(body, header, guard.shape, list(OUTPUTS), server.refuse_many))
        notes = notes_of(request.scope)
        judged = await server.judge(guard, asked.images, notes)
        if server.mode == "enforce" and judged.said:
            notes.code = "flagged"
            raise withheld(judged)
        head = {"model_name": server.name, "model_version": VERSION} | ({} if asked.id is None else {"id": asked.id})
        content, length = write_answer(head, tensors_of(judged), asked.outputs)
        headers = {} if length is None else {"Inference-Header-Content-Length": str(length)}
        kind = "application/octet-stream" if headers else "application/json"
        return Response(content, media_type=kind, headers=headers | flagged_header(server, judged))

    return router


def _faults(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: FAULTS[code] for code in (*codes, 401)}


def tensors_of(judged: Judged) -> list[Tensor]:
    """What was said of a request's images, as the model's output tensors."""
    v = judged.verdict
    assert v.logits is not None
    arrays = {"logits": v.logits, "predicted": v.predicted, "flagged": v.flagged, "score": v.score, "p_value": v.p_value}
    found = [Tensor(name, OUTPUTS[name], np.asarray(value)) for name, value in arrays.items()]
    why = [judged.said[i].why() if i in judged.said else "" for i in range(len(v))]
    return [*found, Tensor("reason", OUTPUTS["reason"], why)]


def withheld(judged: Judged) -> Refused:
    """In the mode ``enforce``: the guard's verdict on all images in place of the classifier's answers."""
    by_name = {t.name: t.plain() for t in tensors_of(judged)}
    verdict = {name: by_name[name] for name in ("flagged", "score", "p_value", "reason")}
    text = f"{len(judged.said)} of {len(judged.flagged)} images are flagged: their answers are not to be trusted and are withheld"
    return Refused(422, "flagged", text, verdict=verdict)


def flagged_header(server: Server, judged: Judged) -> dict[str, str]:
    """In the mode ``mark``: the places of the flagged images, counted from 0, or ``none``."""
    if server.mode != "mark":
        return {}
    return {"Salientry-Flagged": ",".join(map(str, judged.said)) or "none"}
