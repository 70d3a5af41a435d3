"""The benchmark's parts hang together; how fast anything is, no test says."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
import torch

from benchmarks import serve as bench
from salientry.campaign import Campaigns
from salientry.drift import FlagRate
from salientry.serve import app

from .test_clients import served


def test_what_stands_for_the_classifier_answers_as_it_does_and_flags_nothing() -> None:
    bare, light = bench.guard_of(bench.BARE), bench.guard_of(bench.LIGHT_GUARD)
    x = bench.pixels(bench.SHAPE, 20)
    one, other = bare(x), light(x)
    assert one.logits is not None and other.logits is not None
    assert torch.allclose(one.logits, other.logits, atol=1e-5) and not one.flagged.any() and other.flagged.any()


def test_loops_count_what_was_asked_and_answered() -> None:
    application = app(bench.guard_of(bench.LIGHT_GUARD), monitor=False, campaign=False)
    with served(application) as url:
        port = int(url.rsplit(":", 1)[1])
        closed = asyncio.run(bench.closed(port, 3, 0.3))
        opened = asyncio.run(bench.opened(port, 40, 0.5, seed=0))
        memory = bench.resident(port)
    get = application.state.server.metrics.registry.get_sample_value
    assert len(closed) + len(opened) == get("salientry_requests_total", {"route": "/v2/models/{model}/infer", "status": "200"})
    assert len(closed) >= 3 and len(opened) == 20 and {s for s, _ in closed + opened} == {200} and 50 < memory < 10_000
    assert len({m for m in bench.MESSAGES}) == 64, "each asks about another image"


def test_the_service_that_is_measured_is_the_one_that_people_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is as it is by default: campaigns and flag rate watched, limits, queue; and the log is written."""
    started: list[Any] = []
    monkeypatch.setattr(
        bench, "serve", lambda application, *_, **__: started.append((application, logging.getLogger("salientry.serve").level))
    )
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    bench.child(bench.LIGHT_GUARD)
    ((application, level),) = started
    server, usual = application.state.server, app(bench.guard_of(bench.LIGHT_GUARD)).state.server
    assert isinstance(server.watch.campaign, Campaigns) and isinstance(server.watch.monitor, FlagRate) and level == logging.INFO
    assert (server.limits, server.batching, server.mode, server.page) == (usual.limits, usual.batching, usual.mode, False)


def test_overload_offers_more_connections_than_the_service_takes_requests() -> None:
    assert 2 * app(bench.guard_of(bench.BARE)).state.server.limits.requests < bench.ASKING * bench.WIDE and bench.OVERLOAD == 3


def test_numbers_are_of_what_was_judged() -> None:
    found: Any = bench.numbers([(200, 0.01), (200, 0.03), (503, 9.0)], 2.0)
    assert found == {
        "per_second": 1.0,
        "p50_ms": pytest.approx(20),
        "p99_ms": pytest.approx(29.8),
        "n": 2,
        "statuses": {"200": 2, "503": 1},
    }
    assert bench.numbers([(503, 1.0)], 1.0)["p99_ms"] is None
