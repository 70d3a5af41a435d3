"""Keys, limits, request ids, errors, the log: what every request passes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from salientry.errors import StoreError, UsageError
from salientry.serve import Keys, Limits, app
from salientry.serve.access import address
from salientry.serve.gate import _sender

from .test_worker import Slow
from .tiny import X, encoded, guard, infer_binary, infer_json, request, run

INFER = "/v2/models/guard/infer"
KEY, OTHER = "0123456789abcdef", "fedcba9876543210"


def lines(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    found = [json.loads(r.message) for r in caplog.records if r.name == "salientry.serve"]
    return [f for f in found if f["event"] == event]


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "no_key"),
        ({"X-API-Key": "wrong-wrong-wrong"}, 401, "wrong_key"),
        ({"X-API-Key": KEY[:-1]}, 401, "wrong_key"),
        ({"X-API-Key": KEY + " "}, 200, None),  # blanks around a header's value are none of it
        ({"Authorization": f"Basic {KEY}"}, 401, "no_key"),
        ({"X-API-Key": KEY}, 200, None),
        ({"X-API-Key": OTHER}, 200, None),
        ({"Authorization": f"Bearer {KEY}"}, 200, None),
    ],
)
def test_only_who_has_a_key_is_answered(headers: dict[str, str], status: int, code: str | None) -> None:
    application = app(guard(), keys={"shop": KEY, "lab": OTHER})
    asked: Any = (("POST", INFER, {"json": infer_json(X[:1])}), ("GET", "/metrics", {}), ("GET", "/v2", {}))
    for method, path, how in asked:
        given = {k: v.strip() for k, v in headers.items()}
        answer = request(application, method, path, headers=given, **how)
        assert answer.status_code == status, (path, answer.text)
        assert status == 200 or answer.json()["code"] == code
    for path in ("/health", "/ready", "/v2/health/live", "/v2/health/ready"):
        assert request(application, "GET", path).status_code == 200, "a probe has no key"


def test_health_tells_details_to_those_with_a_key_only() -> None:
    application = app(guard(), keys={"shop": KEY})
    assert request(application, "GET", "/health").json() == {"status": "ok"}
    assert request(application, "GET", "/health", headers={"X-API-Key": KEY}).json()["guard"]["level"] == 0.1


def test_a_body_is_not_read_before_the_key_is_seen() -> None:
    read: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        read.append(1)
        yield b"x"

    application = app(guard(), keys={"shop": KEY})
    transport: dict[str, Any] = {"type": "http", "method": "POST", "path": INFER, "headers": [], "query_string": b"", "root_path": ""}

    async def receive() -> dict[str, Any]:
        read.append(1)
        return {"type": "http.request", "body": b"", "more_body": True}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(application(transport, receive, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 401 and read == []


def test_keys_are_read_from_a_file_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keys").write_text(f"# ours\n\nshop {KEY}\n{OTHER}\n")
    monkeypatch.setenv("SALIENTRY_API_KEYS", "lab:a-key-with-padding==,another-key-of-16-chars")
    keys = Keys.read(tmp_path / "keys")
    assert [keys.owner(k) for k in (KEY, OTHER, "another-key-of-16-chars")] == ["shop", "key2", "key4"]
    assert keys.owner("nobody's") is None and keys.owner("") is None and len(keys) == 4
    monkeypatch.delenv("SALIENTRY_API_KEYS")
    assert not Keys.read()
    for text, words in (
        ("", "holds no API key"),
        ("a b c", "line 1 .* has 3 words"),
        ("shop short", "16 or more"),
        (f"a {KEY}\nb {KEY}", "two names have the same"),
        (f"a {KEY}\na {OTHER}", "two API keys have the name"),
    ):
        (tmp_path / "keys").write_text(text)
        with pytest.raises(UsageError, match=words):
            Keys.read(tmp_path / "keys")
    with pytest.raises(StoreError):
        Keys.read(tmp_path / "none")


# --- limits -----------------------------------------------------------------------------------------------------------


def test_a_body_that_is_too_large_is_refused_by_its_header_and_in_pieces() -> None:
    application = app(guard(), limits=Limits(body=5000))
    assert request(application, "POST", "/check", content=b"x" * 5000).status_code == 200
    by_header = request(application, "POST", "/check", content=b"x" * 5001)
    sent = []

    async def pieces() -> AsyncIterator[bytes]:
        for i in range(100):
            sent.append(i)
            yield b"x" * 1000

    chunked = request(application, "POST", "/check", content=pieces())
    assert "content-length" not in chunked.request.headers
    for answer in (by_header, chunked):
        assert answer.status_code == 413 and answer.json()["code"] == "body_too_large" and answer.headers["connection"] == "close"
    assert application.state.server.bytes_held == 0


def test_bodies_together_have_a_limit() -> None:
    slow: Any = Slow(0.2)
    one = infer_binary(X[:8])
    application = app(slow, limits=Limits(bodies=2 * len(one["content"]) + 10))

    async def ask(c: httpx.AsyncClient) -> list[int]:
        return [a.status_code for a in await asyncio.gather(*(c.post(INFER, **one) for _ in range(5)))]

    found = run(ask, application)
    assert found.count(200) == 2 and found.count(503) == 3
    assert application.state.server.bytes_held == 0


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async def slowly() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(5)
        yield b"x"

    answer = request(app(guard(), limits=Limits(seconds=0.1)), "POST", "/check", content=slowly())
    assert answer.status_code == 408 and answer.json()["code"] == "body_too_slow"


def test_many_images_and_packed_bodies_are_refused() -> None:
    application = app(guard(), limits=Limits(images=4))
    assert request(application, "POST", INFER, json=infer_json(X[:5])).status_code == 413
    packed = request(application, "POST", INFER, json=infer_json(X[:1]), headers={"Content-Encoding": "gzip"})
    assert packed.status_code == 415 and packed.json()["code"] == "content_encoding"


# --- ids and errors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept"), [("abc-1.2_3", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ('a"b', False), ("", False)]
)
def test_a_sane_request_id_is_kept_and_another_one_made(given: str, kept: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "salientry.serve")
    application = app(guard())
    answers = [request(application, "GET", path, headers={"X-Request-Id": given}) for path in ("/v2", "/nothing", "/health")]
    for answer in answers:
        found = answer.headers["x-request-id"]
        assert (found == given) is kept and 0 < len(found) <= 64
    assert [x["request_id"] for x in lines(caplog, "request")] == [a.headers["x-request-id"] for a in answers]


class Broken(Slow):
    def __call__(self, *_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("secret.py knows")


def test_a_fault_of_ours_is_500_with_the_id_alone_and_the_log_has_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    broken: Any = Broken()
    answer = request(app(broken), "POST", INFER, json=infer_json(X[:1]))
    assert answer.status_code == 500 and "secret" not in answer.text and "Zero" not in answer.text
    (line,) = lines(caplog, "error")
    assert line["request_id"] == answer.headers["x-request-id"] and "secret.py knows" in line["error"] and "Traceback" in line["traceback"]
    assert request(app(guard()), "GET", "/health").status_code == 200


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("DELETE", "/check", 405), ("POST", "/health", 405)])
def test_what_no_route_answers_is_an_error_of_the_same_form(method: str, path: str, status: int) -> None:
    answer = request(app(guard()), method, path)
    assert answer.status_code == status and set(answer.json()) == {"error", "code"}


# --- the log -----------------------------------------------------------------------------------------------------------


def test_each_request_is_a_line_of_json_without_pixels_or_keys(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "salientry.serve")
    application = app(guard(), keys={"shop": KEY})
    request(application, "POST", INFER, json=infer_json(X[:8]), headers={"X-API-Key": KEY})
    request(application, "POST", "/check", content=encoded(X[0]), headers={"X-API-Key": OTHER})
    application.state.server.watch.settle()
    first, second = lines(caplog, "request")
    flagged = lines(caplog, "flagged")
    assert first.keys() == {"time", "event", "request_id", "route", "status", "source", "images", "flagged", "guard", "waited_ms", "ms"}
    assert (first["route"], first["status"], first["source"], first["images"]) == ("/v2/models/{model}/infer", 200, "shop", 8)
    assert first["flagged"] == len(flagged) > 0
    assert (second["status"], second["code"]) == (401, "wrong_key") and second["source"] != "shop"
    assert all(f["request_id"] == first["request_id"] and f["reason"] and f["source"] == "shop" for f in flagged)
    assert KEY not in caplog.text and OTHER not in caplog.text
    assert max(len(r.message) for r in caplog.records) < 700


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::FFFF:a00:1", "10.0.0.1"),
        ("2001:0db8:0:0:0:0:0:1", "2001:db8::1"),
    ],
)
def test_a_sender_has_one_address_whatever_socket_it_came_through(given: str, named: str) -> None:
    assert address(given) == named
    assert _sender({"client": (given, 5)}) == named


def test_a_sender_without_an_address_keeps_what_it_is_called() -> None:
    assert _sender({"client": ("a proxy's word", 0)}) == "a proxy's word" and _sender({"client": None}) == "unknown"
