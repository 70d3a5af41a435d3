"""Requests that nobody should send, from a seed, so that each can be made again."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np

from .tiny import X, encoded, infer_binary, infer_json

INFER = "/v2/models/guard/infer"
ODD: tuple[Any, ...] = (None, True, -1, 0, 1.5, 2**70, 1e308, "", "x", "\ud800", "\x00", [], {}, [[]], [None], {"a": []}, "A" * 5000)
DEEP = b"[" * 100_000


def _deep(rng: random.Random) -> Any:
    found: Any = 1
    for _ in range(rng.randrange(5, 200)):
        found = [found] if rng.random() < 0.5 else {"inputs": found}
    return found


def _changed(rng: random.Random, body: Any) -> Any:
    """A request with one of its values, anywhere, replaced, removed or doubled."""
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        for key in list(value) if isinstance(value, dict) else range(min(len(value), 6)) if isinstance(value, list) else ():
            places.append((value, key))
            walk(value[key])

    walk(body)
    where, key = rng.choice(places)
    action = rng.randrange(4)
    if action == 0:
        del where[key]
    elif action == 1:
        where[key] = [where[key], where[key]]
    else:
        where[key] = _deep(rng) if rng.random() < 0.1 else rng.choice(ODD)
    return body


def _cut(rng: random.Random, data: bytes) -> bytes:
    """Bytes with some missing, some turned, some added."""
    out = bytearray(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.5 else data)
    for _ in range(rng.randrange(8)):
        if out:
            out[rng.randrange(len(out))] = rng.randrange(256)
    return bytes(out) + rng.randbytes(rng.choice((0, 0, 3, 50)))


def request(rng: random.Random) -> tuple[str, str, dict[str, Any]]:
    """Method, path and the rest of one request."""
    x = X[: rng.randrange(1, 3)]
    if rng.random() < 0.3:
        x = x.astype(np.float32) / 255  # type: ignore[assignment]
    kind = rng.randrange(8)
    if kind == 0:
        body = infer_json(x, id="7", outputs=[{"name": "score", "parameters": {"binary_data": True}}])
        return "POST", INFER, {"content": json.dumps(_changed(rng, body)).encode()}
    if kind == 1:
        return "POST", INFER, {"content": _cut(rng, json.dumps(infer_json(x)).encode())}
    if kind == 2:
        good = infer_binary(x)
        head = rng.choice(
            (
                "-1",
                "0",
                "1",
                "99999999",
                "x",
                "",
                "²",
                str(rng.randrange(400)),
                "1e3",
                "0x10",
                good["headers"]["Inference-Header-Content-Length"],
            )
        )
        return (
            "POST",
            INFER,
            {"content": _cut(rng, good["content"]), "headers": {"Inference-Header-Content-Length": head.encode("latin-1")}},
        )
    if kind == 3:
        length = int(infer_binary(x)["headers"]["Inference-Header-Content-Length"])
        body = json.loads(infer_binary(x)["content"][:length])
        text = json.dumps(_changed(rng, body)).encode()
        return "POST", INFER, {"content": text + x.tobytes(), "headers": {"Inference-Header-Content-Length": str(len(text))}}
    if kind == 4:
        picture = _cut(rng, encoded(X[0], rng.choice(("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"))))
        return (
            "POST",
            "/check",
            {"content": picture, "headers": {"Content-Type": rng.choice(("image/png", "", "application/octet-stream", "text/html"))}},
        )
    if kind == 5:
        form = b'--b\r\nContent-Disposition: form-data; name="a"; filename="../../etc/p.png"\r\n\r\n' + encoded(X[0]) + b"\r\n--b--\r\n"
        boundary = rng.choice(("b", "", "c", "b" * 300, '"b"'))
        return "POST", "/check", {"content": _cut(rng, form), "headers": {"Content-Type": f"multipart/form-data; boundary={boundary}"}}
    if kind == 6:
        path = rng.choice(
            ("/v2/models/%00/infer", "/../../etc/passwd", "/v2/models/" + "a" * 3000, "/v2//infer", "/check/%2e%2e", "/metrics/x", "/%ff")
        )
        return rng.choice(("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE")), path, {"content": rng.randbytes(10)}
    headers = {"X-Request-Id": "a\tb" * 9, "X-API-Key": "k" * 4000, "Content-Encoding": rng.choice(("gzip", "identity", "br"))}
    content = rng.choice((DEEP, b"\xff\xfe{}", b"null", b"[]", b"NaN", b'{"inputs": NaN}', b"1" * 9000, b'{"inputs": [' + b"{}," * 3000))
    return "POST", rng.choice((INFER, "/check")), {"content": content, "headers": headers}
