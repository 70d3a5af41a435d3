"""The queue: bounded, in order, never an answer lost or given to another, and nothing computed that nobody waits for."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from salientry.errors import UsageError
from salientry.serve import Batching, Limits, app
from salientry.serve.refusals import Refused
from salientry.serve.worker import Worker
from salientry.verdict import Verdict

from .tiny import SHAPE, X, infer_json, run, tensors

INFER = "/v2/models/guard/infer"


class Slow:
    """Stands where a guard does: says of each image the value of its first pixel, and takes its time."""

    shape, resize, level, threshold, components = SHAPE, None, 0.1, 0.5, ()

    def __init__(self, seconds: float = 0.0) -> None:
        self.detector = torch.nn.Identity()
        self.seconds, self.passes, self.gate = seconds, list[int](), threading.Event()
        self.gate.set()

    def __call__(self, images: torch.Tensor, batch: int = 250) -> Verdict:
        self.gate.wait(10)
        time.sleep(self.seconds)
        self.passes.append(len(images))
        first = images[:, 0, 0, 0]
        if first.dtype == torch.uint8:
            first = first.float() / 255
        if (first == 1).any():
            raise UsageError("the classifier fails on white images")
        n = len(images)
        return Verdict(first > 2, first, first, torch.zeros(n, dtype=torch.int64), None, first[:, None], logits=first[:, None])


def numbered(*values: int) -> torch.Tensor:
    """Images whose pixels all have one value each, a whole number of 255ths."""
    return torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 12, 12).contiguous()


def judged(worker: Worker, guard: Any, *requests: torch.Tensor, stay: float = 0.0) -> list[Any]:
    """Results and errors, in the order of the requests, which all come at once."""

    async def ask() -> list[Any]:
        found = await asyncio.gather(*(worker.judge(guard, x) for x in requests), return_exceptions=True)
        return list(found)

    return asyncio.run(ask())


def test_requests_go_through_passes_of_at_most_the_size_and_each_gets_its_own() -> None:
    worker, slow = Worker(Batching(size=4, wait=0.05)), Slow()
    values = [[i, 2 * i][: 1 + i % 2] for i in range(1, 20)]
    found = judged(worker, slow, *(numbered(*v) for v in values))
    for (verdict, waited), v in zip(found, values, strict=True):
        assert torch.equal(verdict.score, torch.tensor(v, dtype=torch.uint8).float() / 255) and waited >= 0
    assert max(slow.passes) <= 4 and sum(slow.passes) == sum(map(len, values)) and len(slow.passes) < len(values)
    worker.close()


def test_floats_and_bytes_in_one_pass_are_the_same_images() -> None:
    worker, slow = Worker(Batching(size=8, wait=0.05)), Slow()
    found = judged(worker, slow, numbered(100), numbered(100).float() / 255, numbered(7))
    assert slow.passes == [3]
    assert torch.equal(found[0][0].score, found[1][0].score) and not torch.equal(found[0][0].score, found[2][0].score)
    worker.close()


def test_one_image_that_fails_does_not_cost_the_others() -> None:
    worker, slow = Worker(Batching(size=8, wait=0.05)), Slow()
    found = judged(worker, slow, numbered(3), numbered(255), numbered(5))
    assert isinstance(found[1], UsageError)
    assert [float(found[i][0].score) * 255 for i in (0, 2)] == pytest.approx([3, 5])
    worker.close()


def test_a_request_with_more_images_than_a_pass_or_the_queue_is_judged_when_nothing_waits() -> None:
    worker = Worker(Batching(size=2, queue=4))
    ((verdict, _),) = judged(worker, Slow(), numbered(*range(10)))
    assert len(verdict) == 10
    worker.close()


def test_beyond_the_queue_is_refused_at_once_and_no_answer_is_lost_or_swapped() -> None:
    """The device stands still while forty requests come to a queue of eight."""
    worker, slow = Worker(Batching(size=2, wait=0, queue=8, deadline=60)), Slow()
    slow.gate.clear()

    async def ask() -> list[Any]:
        tasks = [asyncio.ensure_future(worker.judge(slow, numbered(i))) for i in range(40)]
        await asyncio.sleep(0.2)
        done = [t.done() for t in tasks]
        slow.gate.set()
        return [done, *await asyncio.gather(*tasks, return_exceptions=True)]

    done, *found = asyncio.run(ask())
    refused = [isinstance(r, Refused) for r in found]
    assert done == refused, "a refusal comes at once, an answer when the device is free"
    assert 8 <= 40 - sum(refused) <= 10
    for i, r in enumerate(found):
        if isinstance(r, Refused):
            assert (r.status, r.code, r.headers["Retry-After"]) == (503, "overloaded", "1")
        else:
            assert float(r[0].score) * 255 == pytest.approx(i)
    assert sum(slow.passes) == 40 - sum(refused) and worker.waiting == 0
    worker.close()


def test_what_waited_beyond_its_deadline_is_refused_and_not_computed() -> None:
    worker, slow = Worker(Batching(size=1, wait=0, deadline=0.15)), Slow(0.1)
    found = judged(worker, slow, *(numbered(i) for i in range(8)))
    late = [r for r in found if isinstance(r, Refused)]
    assert 4 <= len(late) <= 7 and {r.code for r in late} == {"too_late"}
    assert len(slow.passes) == 8 - len(late)
    assert max(r[1] for r in found if not isinstance(r, Refused)) <= 0.15 + 0.1
    worker.close()


def test_other_work_has_its_turn_alone_and_its_errors_are_its_own() -> None:
    worker, slow = Worker(Batching(size=8, wait=0.02)), Slow()
    order = list[Any]()

    def work() -> str:
        order.append(list(slow.passes))
        return "done"

    def fails() -> None:
        raise ValueError("somebody's")

    async def ask() -> list[Any]:
        jobs: list[Any] = [worker.judge(slow, numbered(1)), worker.judge(slow, numbered(2)), worker.run(work), worker.run(fails)]  # type: ignore[arg-type]
        return list(await asyncio.gather(*jobs, worker.judge(slow, numbered(3)), return_exceptions=True))  # type: ignore[arg-type]

    found = asyncio.run(ask())
    assert found[2] == "done" and isinstance(found[3], ValueError) and order == [[2]] and slow.passes == [2, 1]
    assert float(found[4][0].score) * 255 == pytest.approx(3) and worker.waiting == 0
    worker.close()


def test_those_that_wait_are_judged_by_the_guard_that_was_there() -> None:
    worker, old, new = Worker(Batching(size=8, wait=0.05)), Slow(), Slow()

    async def ask() -> None:
        await asyncio.gather(*(worker.judge(g, numbered(1)) for g in (old, old, new, new, new)))  # type: ignore[arg-type]

    asyncio.run(ask())
    assert (old.passes, new.passes) == ([2], [3])
    worker.close()


def test_a_closed_worker_answers_what_waits_and_refuses_what_comes() -> None:
    worker, slow = Worker(Batching(size=1, wait=0)), Slow(0.05)

    async def ask() -> list[Any]:
        tasks = [asyncio.ensure_future(worker.judge(slow, numbered(i))) for i in range(4)]
        await asyncio.sleep(0.01)
        await asyncio.get_running_loop().run_in_executor(None, worker.close)
        with pytest.raises(Refused) as e:
            await worker.judge(slow, numbered(1))  # type: ignore[arg-type]
        assert e.value.code == "shutting_down"
        return list(await asyncio.gather(*tasks))

    assert [float(v.score) * 255 for v, _ in asyncio.run(ask())] == pytest.approx([0, 1, 2, 3])


def test_a_caller_who_goes_away_harms_nobody() -> None:
    worker, slow = Worker(Batching(size=1, wait=0)), Slow(0.02)

    async def ask() -> Any:
        gone = asyncio.ensure_future(worker.judge(slow, numbered(1)))  # type: ignore[arg-type]
        await asyncio.sleep(0.005)
        gone.cancel()
        return await worker.judge(slow, numbered(2))  # type: ignore[arg-type]

    verdict, _ = asyncio.run(ask())
    assert float(verdict.score) * 255 == pytest.approx(2)
    worker.close()


def test_overload_is_503_with_retry_after_over_http() -> None:
    slow: Any = Slow(0.03)
    application = app(slow, batching=Batching(size=2, wait=0, queue=4, deadline=5))

    async def ask(c: httpx.AsyncClient) -> list[httpx.Response]:
        return list(await asyncio.gather(*(c.post(INFER, json=infer_json(numbered(i).numpy())) for i in range(30))))

    answers = run(ask, application)
    assert {a.status_code for a in answers} == {200, 503}
    for i, a in enumerate(answers):
        if a.status_code == 503:
            assert a.headers["retry-after"] == "1" and a.json()["code"] == "overloaded"
        else:
            assert float(tensors(a)["score"][0]) * 255 == pytest.approx(i, abs=1e-4)
    assert request_count(application, "503") == sum(a.status_code == 503 for a in answers)


def request_count(application: Any, status: str) -> float:
    labels = {"route": "/v2/models/{model}/infer", "status": status}
    found = application.state.server.metrics.registry.get_sample_value("salientry_requests_total", labels)
    return float(found or 0)


def test_more_requests_at_once_than_may_be_are_refused_unread() -> None:
    slow: Any = Slow(0.1)
    application = app(slow, limits=Limits(requests=3))

    async def ask(c: httpx.AsyncClient) -> list[int]:
        answers = await asyncio.gather(*(c.post(INFER, json=infer_json(X[:1])) for _ in range(10)))
        assert (await c.get("/health")).status_code == 200
        return [a.status_code for a in answers]

    found = run(ask, application)
    assert found.count(200) == 3 and found.count(503) == 7


@pytest.mark.parametrize(
    "how", [{"size": 0}, {"size": 1.5}, {"queue": -1}, {"queue": True}, {"deadline": 0}, {"wait": float("nan")}, {"size": "8"}]
)
def test_settings_that_cannot_be_are_refused(how: Any) -> None:
    with pytest.raises(UsageError, match=r"must be a (whole )?number above 0; found"):
        Batching(**how)
    assert Batching(wait=0).wait == 0 and np.isfinite(Limits().seconds)
