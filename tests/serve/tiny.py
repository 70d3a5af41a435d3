"""A tiny guard, its images, and how an application is asked in a test."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, TypeVar

import httpx
import numpy as np
import torch
from fastapi import FastAPI
from numpy.typing import NDArray
from PIL import Image

from salientry.detectors import Consistency
from salientry.evidence import Evidence
from salientry.guard import Guard
from salientry.types import Shape
from tests import examples
from tests.examples import FEW, ViewPairs

SHAPE = Shape(3, 12, 12, 5)
X: NDArray[np.uint8] = (examples.images(SHAPE, 64, seed=3) * 255).round().to(torch.uint8).numpy()
T = TypeVar("T")
LOOPBACK = "127.0.0.1"


@cache
def guard(seed: int = 0) -> Guard:
    """A guard that flags about half of ``X``, for reasons; shared, so leave it alone."""
    classifier = examples.conv(SHAPE, seed=seed)
    spec = Consistency(("blur", "shift_back"), FEW)
    looks = [Evidence(classifier, None, examples.images(SHAPE, 40, seed=s)) for s in (0, 1)]
    with torch.no_grad():
        detector = examples.fitted(spec, ViewPairs.of(spec, *looks))
    scores = Guard(classifier, None, detector, 0.0, 0.1, torch.linspace(-3, 3, 50), SHAPE)(torch.from_numpy(X)).score
    return Guard(classifier, None, detector, float(scores.median()) + 1e-3, 0.1, torch.linspace(-3, 3, 50), SHAPE)


def client(application: FastAPI, **headers: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(application, raise_app_exceptions=True, client=(LOOPBACK, 1))
    return httpx.AsyncClient(transport=transport, base_url="http://guard", headers=headers)


def run(asked: Callable[[httpx.AsyncClient], Awaitable[T]], application: FastAPI, **headers: str) -> T:
    """What a coroutine that asks an application gives."""

    async def all_of_it() -> T:
        async with client(application, **headers) as c:
            return await asked(c)

    return asyncio.run(all_of_it())


def request(application: FastAPI, method: str, path: str, **how: Any) -> httpx.Response:
    """One answer."""
    return run(lambda c: c.request(method, path, **how), application)


def infer_json(images: NDArray[Any], **more: Any) -> dict[str, Any]:
    kind = "UINT8" if images.dtype == np.uint8 else "FP32"
    tensor = {"name": "images", "shape": list(images.shape), "datatype": kind, "data": images.reshape(-1).tolist()}
    return {"inputs": [tensor]} | more


def infer_binary(images: NDArray[Any], **more: Any) -> dict[str, Any]:
    """Content and headers of a request whose tensor follows as bytes, and whose answer comes so."""
    kind, data = "UINT8" if images.dtype == np.uint8 else "FP32", images.tobytes()
    tensor = {"name": "images", "shape": list(images.shape), "datatype": kind, "parameters": {"binary_data_size": len(data)}}
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}} | more).encode()
    return {"content": text + data, "headers": {"Inference-Header-Content-Length": str(len(text))}}


def tensors(answer: httpx.Response) -> dict[str, Any]:
    """Name to array or list of texts, of an answer in either form."""
    length = answer.headers.get("inference-header-content-length")
    body, behind = (answer.content, b"") if length is None else (answer.content[: int(length)], answer.content[int(length) :])
    kinds = {"FP32": "<f4", "INT64": "<i8", "BOOL": "?"}
    found: dict[str, Any] = {}
    for o in json.loads(body)["outputs"]:
        if "data" in o:
            found[o["name"]] = o["data"] if o["datatype"] == "BYTES" else np.array(o["data"], kinds[o["datatype"]]).reshape(o["shape"])
            continue
        size = o["parameters"]["binary_data_size"]
        part, behind = behind[:size], behind[size:]
        found[o["name"]] = _texts(part) if o["datatype"] == "BYTES" else np.frombuffer(part, kinds[o["datatype"]]).reshape(o["shape"])
    assert not behind
    return found


def _texts(data: bytes) -> list[str]:
    found = []
    while data:
        n = int.from_bytes(data[:4], "little")
        found.append(data[4 : 4 + n].decode())
        data = data[4 + n :]
    return found


def encoded(pixels: NDArray[np.uint8], kind: str = "PNG", **how: Any) -> bytes:
    """A picture file of (C, H, W) pixels."""
    out = io.BytesIO()
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(out, kind, **how)
    return out.getvalue()
