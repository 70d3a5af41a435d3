"""Malformed requests: an answer in time, never a fault of ours, and nothing told of this machine."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter

import httpx
import pytest

from salientry.serve import app

from . import malformed
from .tiny import X, guard, infer_json, run

LEAKS = re.compile(r"Traceback|File \"|\.py\b|site-packages|0x[0-9a-f]{6}|/(?:usr|root|home|tmp|work)/|torch|numpy")


def ask_all(count: int, seed: int) -> Counter[int]:
    application, rng = app(guard()), random.Random(seed)

    async def ask(c: httpx.AsyncClient) -> Counter[int]:
        statuses: Counter[int] = Counter()
        for number in range(count):
            method, path, how = malformed.request(rng)
            answer = await asyncio.wait_for(c.request(method, path, **how), 20)
            case = f"request {number} of seed {seed}: {method} {path[:80]} {str(how)[:300]}"
            assert answer.status_code < 500, case
            assert not LEAKS.search(answer.text), (case, answer.text)
            assert len(answer.content) < 20_000 and "x-request-id" in answer.headers, case
            if answer.status_code != 200 and method != "HEAD":
                assert answer.json().keys() == {"error", "code"}, case
            statuses[answer.status_code] += 1
        assert (await c.post(malformed.INFER, json=infer_json(X[:1]))).status_code == 200, "and afterwards it answers as before"
        return statuses

    found = run(ask, application)
    assert application.state.server.bytes_held == application.state.server.under_way == application.state.server.worker.waiting == 0
    return found


def test_a_hundred_malformed_requests() -> None:
    statuses = ask_all(100, 0)
    assert statuses[400] > 30 and statuses.total() == 100


@pytest.mark.nightly
@pytest.mark.parametrize("seed", [1, 2])
def test_a_thousand_malformed_requests(seed: int) -> None:
    assert ask_all(1000, seed)[400] > 300
