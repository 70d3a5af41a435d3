"""Mounted into somebody's application and by itself; another guard put to work; what is watched, kept and counted."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from fastapi import FastAPI

from salientry.errors import UsageError
from salientry.guard import Guard
from salientry.picture_check import read_picture
from salientry.serve import app
from salientry.types import Shape

from .test_gate import lines
from .test_worker import Slow, numbered
from .tiny import SHAPE, X, encoded, guard, infer_json, request, run, tensors

INFER = "/v2/models/guard/infer"


def test_mounted_it_is_what_it_is_alone_and_its_lifespan_is_not_needed() -> None:
    main, alone = FastAPI(), app(guard())
    main.mount("/guard", app(guard()))
    main.mount("/strict", app(guard(), keys={"shop": "0123456789abcdef"}))

    @main.get("/health")
    def own() -> str:
        return "the outer one's"

    for path in ("/v2", "/v2/models/guard", "/health", "/ready"):
        inside, outside = request(main, "GET", f"/guard{path}"), request(alone, "GET", path)
        assert inside.status_code == 200 and inside.json().keys() == outside.json().keys()
    inside = request(main, "POST", f"/guard{INFER}", json=infer_json(X[:4]))
    assert inside.content == request(alone, "POST", INFER, json=infer_json(X[:4])).content
    assert request(main, "POST", "/guard/check", content=encoded(X[0])).status_code == 200
    assert request(main, "GET", "/health").json() == "the outer one's"
    assert request(main, "GET", "/strict/health").status_code == 200
    assert request(main, "GET", "/strict/v2").status_code == 401
    assert request(main, "GET", "/v2").status_code == 404
    assert request(main, "GET", "/guard/nothing").json()["code"] == "not_found"


def test_alone_its_lifespan_ends_its_threads_and_what_comes_then_is_503() -> None:
    application = app(guard())

    async def ask(c: httpx.AsyncClient) -> Any:
        async with application.router.lifespan_context(application):
            assert (await c.post(INFER, json=infer_json(X[:1]))).status_code == 200
            return application.state.server.worker._thread

    assert not run(ask, application).is_alive()
    assert request(application, "POST", INFER, json=infer_json(X[:1])).status_code == 503
    assert request(application, "GET", "/ready").status_code == 503
    assert request(application, "GET", "/health").json()["draining"] is True


def test_draining_answers_what_is_under_way_and_refuses_what_comes() -> None:
    slow: Any = Slow(0.1)
    application = app(slow)

    async def ask(c: httpx.AsyncClient) -> list[int]:
        under_way = [asyncio.ensure_future(c.post(INFER, json=infer_json(numbered(i).numpy()))) for i in range(4)]
        await asyncio.sleep(0.05)
        application.state.server.drain()
        late = [await c.post(INFER, json=infer_json(numbered(9).numpy())), await c.get("/ready"), await c.get("/v2/health/ready")]
        assert late[0].headers["retry-after"] == "1" and late[0].json()["code"] == "shutting_down"
        assert (await c.get("/v2/health/live")).status_code == 200
        return [a.status_code for a in (*await asyncio.gather(*under_way), *late)]

    assert run(ask, application) == [200] * 4 + [503] * 3


# --- another guard ---------------------------------------------------------------------------------------------------------


def test_another_guard_takes_over_without_a_dropped_request() -> None:
    """Each answer is wholly of one guard, and the new one's from some request on."""
    application = app(guard())
    wanted = {seed: guard(seed)(torch.from_numpy(X[:1])).logits for seed in (0, 1)}

    async def ask(c: httpx.AsyncClient) -> list[int]:
        found = []
        for i in range(40):
            several = [asyncio.ensure_future(c.post(INFER, json=infer_json(X[:1]))) for _ in range(3)]
            await asyncio.sleep(0)
            if i == 20:
                application.state.server.replace(guard(1))
            for answer in await asyncio.gather(*several):
                assert answer.status_code == 200
                logits = tensors(answer)["logits"]
                (which,) = [s for s, w in wanted.items() if w is not None and np.allclose(logits, w, atol=1e-4)]
                found.append(which)
        return found

    found = run(ask, application)
    assert found[:60] == [0] * 60 and found[-54:] == [1] * 54


def test_a_guard_that_cannot_take_over_leaves_the_old_one(caplog: pytest.LogCaptureFixture) -> None:
    application = app(guard())
    server, g = application.state.server, guard()
    other = Guard(g.classifier, None, g.detector, 0.0, 0.1, g.calibration, Shape(3, 13, 12, 5))
    broken = Guard(torch.nn.Flatten(), None, g.detector, 0.0, 0.1, g.calibration, SHAPE)
    broken._asked.master = torch.nn.Linear(3, 5)
    for new, words in ((other, "is for images"), (broken, "fails")):
        with pytest.raises(UsageError, match=words):
            server.replace(new)
    assert server.guard is g and request(application, "POST", INFER, json=infer_json(X[:1])).status_code == 200
    assert len(lines(caplog, "guard_not_replaced")) == 2
    assert server.metrics.registry.get_sample_value("salientry_guard_replacements_total", {"outcome": "failed"}) == 2


# --- what is watched and kept ------------------------------------------------------------------------------------------------


class Counting:
    """A monitor and a campaign in one that hear everything."""

    def __init__(self) -> None:
        self.heard: list[bool] = []
        self.sources: list[tuple[str, Any]] = []

    @property
    def alarm(self) -> bool:
        return len(self.heard) > 10

    @property
    def alarms(self) -> int:
        return int(len(self.sources) > 1)

    @property
    def reported(self) -> list[str]:
        return ["shop"] * self.alarms

    def summary(self) -> dict[str, Any]:
        return {"heard": len(self.heard)}

    def update(self, *given: Any) -> Any:
        if len(given) == 1:
            self.heard += list(given[0])
            return None
        source, images, flagged = given
        self.sources.append((source, images))
        return [False, *list(flagged)[1:]]


def test_monitor_and_campaign_hear_every_verdict_in_order_and_alarms_degrade(caplog: pytest.LogCaptureFixture) -> None:
    monitor, campaign = Counting(), Counting()
    application = app(guard(), keys={"shop": "0123456789abcdef"}, monitor=monitor, campaign=campaign)
    key = {"X-API-Key": "0123456789abcdef"}
    wanted: list[bool] = []
    for i in range(0, 16, 4):
        x = X[i : i + 4] if i else X[:4].astype(np.float32) / 255
        answer = request(application, "POST", INFER, json=infer_json(x), headers=key)
        wanted += tensors(answer)["flagged"].tolist()
    application.state.server.watch.settle()
    assert monitor.heard == wanted and [s for s, _ in campaign.sources] == ["shop"] * 4
    first, *more = [x for _, x in campaign.sources]
    assert np.array_equal(first, X[:4].astype(np.float32) / 255), "as they were judged: rounded to bytes, others would be the same picture"
    assert np.array_equal(np.concatenate(more), X[4:16])
    health = request(application, "GET", "/health", headers=key)
    assert health.status_code == 200 and health.json()["status"] == "degraded" and len(health.json()["alarms"]) == 2
    assert health.json()["flag_rate"] == {"heard": 16} and health.json()["campaigns"] == {"alarms": 1, "reported": ["shop"]}
    assert request(application, "GET", "/health").json() == {"status": "degraded"}
    assert [x["heard"] for x in lines(caplog, "flag_rate_alarm")] == [12] and lines(caplog, "campaign")
    text = request(application, "GET", "/metrics", headers=key).text
    assert "salientry_flag_rate_alarm 1.0" in text and "salientry_campaign_alarms 1.0" in text


def test_unasked_the_flag_rate_and_campaigns_are_watched() -> None:
    """A guard that flags half of all images, asked by one address about variants of one flagged image."""
    application = app(guard())
    flagged = guard()(torch.from_numpy(X)).flagged
    one = X[int(flagged.nonzero()[0])]
    variants = np.random.default_rng(0).integers(-2, 3, (40, *one.shape)) + one
    request(application, "POST", INFER, json=infer_json(X))
    application.state.server.watch.settle()
    assert request(application, "GET", "/health").json()["status"] == "degraded"
    found = request(application, "GET", "/health").json()
    assert found["flag_rate"]["alarm"] and found["flag_rate"]["seen"] == len(X) and found["campaigns"]["reported"] == []
    request(application, "POST", INFER, json=infer_json(variants.clip(0, 255).astype(np.uint8)))
    application.state.server.watch.settle()
    assert request(application, "GET", "/health").json()["campaigns"] == {"alarms": 1, "reported": ["127.0.0.1"]}
    application.state.server.replace(guard(1))
    assert request(application, "GET", "/health").json()["flag_rate"]["seen"] == 0, "another guard, another level"
    off = app(guard(), monitor=False, campaign=False)
    assert request(off, "GET", "/health").json()["flag_rate"] is None


def test_a_campaign_is_logged_when_it_begins_and_not_with_each_picture(caplog: pytest.LogCaptureFixture) -> None:
    application = app(guard(), monitor=False)
    scene = (X[:1] + np.random.default_rng(0).integers(-2, 3, (300, *X.shape[1:]))).clip(0, 255).astype(np.uint8)
    for i in range(0, 300, 10):
        request(application, "POST", INFER, json=infer_json(scene[i : i + 10]))
    application.state.server.watch.settle()
    assert request(application, "GET", "/health").json()["campaigns"]["alarms"] == 1
    (said,) = lines(caplog, "campaign")
    assert said["source"] == "127.0.0.1" and said["alarms"] == 1


class Failing(Counting):
    def update(self, flagged: Sequence[bool]) -> None:
        raise ValueError("a monitor of somebody's")


def test_a_monitor_that_fails_is_logged_and_the_answer_given(caplog: pytest.LogCaptureFixture) -> None:
    application = app(guard(), monitor=Failing())
    assert request(application, "POST", INFER, json=infer_json(X[:2])).status_code == 200
    application.state.server.watch.settle()
    assert "a monitor of somebody's" in lines(caplog, "not_noted")[0]["error"]


def test_flagged_images_are_kept_the_newest_so_many_and_none_unasked(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    application = app(guard(), keep_flagged=folder, keep_at_most=5)
    flagged = guard()(torch.from_numpy(X)).flagged.numpy()
    assert flagged.sum() > 8
    answer = request(application, "POST", INFER, json=infer_json(X))
    application.state.server.watch.settle()
    pictures, notes = sorted(folder.glob("*.png")), sorted(folder.glob("*.json"))
    assert len(pictures) == len(notes) == 5 and [p.stem for p in pictures] == [p.stem for p in notes]
    last = np.flatnonzero(flagged)[-5:]
    for path, note, at in zip(pictures, notes, last, strict=True):
        assert np.array_equal((read_picture(path, SHAPE) * 255).round().to(torch.uint8).numpy(), X[at])
        body = json.loads(note.read_text())
        assert body["flagged"] and body["request_id"] == answer.headers["x-request-id"]
    again = app(guard(), keep_flagged=folder, keep_at_most=5)
    request(again, "POST", INFER, json=infer_json(X[last[:1]]))
    again.state.server.watch.settle()
    assert len(list(folder.glob("*.png"))) == 5 and not pictures[0].exists()


def test_metrics_count_what_was_answered() -> None:
    application = app(guard())
    for x in (X[:8], X[:3]):
        request(application, "POST", INFER, json=infer_json(x))
    request(application, "POST", INFER, content=b"{")
    request(application, "POST", "/check", content=b"nothing")
    get = application.state.server.metrics.registry.get_sample_value
    flagged = sum(guard()(torch.from_numpy(X[:n])).flagged.sum().item() for n in (8, 3))
    assert get("salientry_images_total", {"verdict": "flagged"}) == flagged
    assert get("salientry_images_total", {"verdict": "clean"}) == 11 - flagged
    assert get("salientry_images_total", {"verdict": "error"}) == 1
    assert get("salientry_refused_total", {"code": "bad_request"}) == 1
    assert get("salientry_requests_total", {"route": "/v2/models/{model}/infer", "status": "200"}) == 2
    assert get("salientry_batch_images_sum") == 11 and get("salientry_waiting_seconds_count") == 2
    assert get("salientry_guard_level") == 0.1 and get("salientry_queue_images") == 0
    answer = request(application, "GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain") and "salientry_request_seconds_bucket" in answer.text
    assert logging.getLogger("salientry.serve").handlers == []


@pytest.mark.parametrize("how", [{"mode": "block"}, {"name": "a/b"}, {"name": ""}, {"keys": {"a": "short"}}])
def test_what_cannot_be_meant_is_refused(how: Any) -> None:
    with pytest.raises(UsageError, match=r"found|must be"):
        app(guard(), **how)
