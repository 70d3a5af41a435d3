"""What the service gives behind the bare classifier and behind a guard: `python -m benchmarks.serve [--out FILE]`.

Two processes serve the same routes on this machine's loopback, one image a request, UINT8 and binary: ``classifier`` passes each image
through the classifier alone, ``guard: light`` is a guard of the largest logits and the answer under two changes. Nets as of ``fast
dataset=cifar10``, untrained. The service is as ``salientry serve`` starts it: default limits and queue, the flag rate and campaigns
watched, the log written; one thread a pass. A third process, this one, asks: in a *closed loop* so many callers each of whom asks again
when answered, and in an *open loop* at a rate, at random times (Poisson), whatever the answers do; latencies there count from the time at
which a request was to be sent. One of the two is asked at a time, in turn, in another order each round, so that a noisy neighbour hits
both alike.

Goal: at half the rate at which the bare classifier is asked, the guard's p99 is no larger. The open loop asks the classifier at .8 of
what it gave in the closed one, and the guard at .4 of that.

``--soak MINUTES``: the guard alone, asked at three times what it gives by several processes, at random times without a break: how many
requests a second arrived, which statuses, latency of what was answered (from sending; status 0: no connection was free before the end),
memory of the process over time. ``--malformed N``: damaged HTTP requests, from a seed: each connection ends, and the service answers
afterwards as before.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import random
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.guard import SHAPE, load, machine, pixels
from salientry.cli.serve_command import logged
from salientry.detectors import Consistency, LearnedFusion, TopLogits
from salientry.detectors.consistency import LIGHT
from salientry.evidence import Evidence
from salientry.guard import Guard
from salientry.inputs import as_images, as_uint8, plainly
from salientry.learned import seeded
from salientry.modules import private
from salientry.recipes.fast import config
from salientry.serve import app
from salientry.serve.process import serve
from salientry.store import read_json, write_json
from salientry.verdict import Verdict

BARE, LIGHT_GUARD = "classifier", "guard: light"
SUBJECTS = (BARE, LIGHT_GUARD)
CALLERS = (1, 16)
CONNECTIONS = 128  # of the open loop
ASKING, WIDE = 2, 1500  # processes that ask while it is overloaded; connections of each
SERVICE = "as `salientry serve` starts it: flag rate and campaigns watched, the log written"
SAMPLED = 5.0  # seconds from one look at its memory to the next
SHARES = {BARE: 0.8, LIGHT_GUARD: 0.4}  # of what the classifier gives
OVERLOAD = 3.0
PATH = "/v2/models/guard/infer"
OUT = Path(__file__).parents[1] / "results" / "benchmarks" / "serve.json"
RUN = "python -m benchmarks.serve"
COMMANDS = {
    "side_by_side": RUN + " --seconds {seconds:g} --rounds {rounds}",
    "soak": RUN + " --soak {minutes:g}",
    "malformed": RUN + " --malformed {count}",
}


class Bare(Guard):
    """Stands where a guard does, and passes images through the classifier alone."""

    def forward(self, images: Tensor, batch: int = 250) -> Verdict:
        with plainly(grad=False):
            x = as_images(images, (self.shape.channels, self.shape.height, self.shape.width))
            logits = torch.cat([self._asked.master(part) for part in torch.split(x, batch)])
        no = torch.zeros(len(x))
        return Verdict(no > 0, no, no + 1, logits.argmax(1), None, no[:, None], logits=logits)


def guard_of(name: str) -> Guard:
    """An untrained guard, or what stands for the bare classifier."""
    with seeded(0):
        f = config("cifar10", seeds=1).classifier.build(SHAPE).eval()
        settings = LearnedFusion((TopLogits(), Consistency(LIGHT)))
        with torch.no_grad():
            detector = settings.build(settings.widths(Evidence(f, None, pixels(SHAPE, 2))))
            scores = Guard(f, None, detector, 0.0, 0.05, torch.zeros(1), SHAPE)(pixels(SHAPE, 100)).score
    kind = Bare if name == BARE else Guard
    guard: Guard = kind(f, None, detector, float(scores.quantile(0.95)), 0.05, scores, SHAPE)
    if name == BARE:
        guard._asked.master = private(f)
    return guard


def child(name: str) -> None:
    """Serve one of the subjects, as ``salientry serve`` does."""
    torch.set_num_threads(1)
    with logged():
        serve(app(guard_of(name)), "127.0.0.1", 0, say=lambda line: print(line, flush=True))


@contextmanager
def served(name: str) -> Iterator[int]:
    """The port of a process that serves a subject."""
    command = [sys.executable, "-m", "benchmarks.serve", "--child", name]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r":(\d+)$", process.stdout.readline().strip())
        assert found, f"{name} does not serve"
        yield int(found[1])
    finally:
        process.terminate()
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()


# --- asking --------------------------------------------------------------------------------------------------------------


def message(image: Any) -> bytes:
    """A request for one image (C, H, W) uint8, as it goes over the wire."""
    data = image.tobytes()
    tensor = {"name": "images", "shape": [1, *image.shape], "datatype": "UINT8", "parameters": {"binary_data_size": len(data)}}
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    lengths = f"Inference-Header-Content-Length: {len(text)}\r\nContent-Length: {len(text) + len(data)}"
    head: bytes = f"POST {PATH} HTTP/1.1\r\nHost: here\r\n{lengths}\r\n\r\n".encode() + text
    return head + bytes(data)


MESSAGES = [message(as_uint8(x).numpy()) for x in pixels(SHAPE, 64)]


class Connection:
    """A connection that is kept open; it asks and waits for the answer."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, number: int) -> int:
        """Send a request; the status of the answer."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self._streams
        writer.write(MESSAGES[number % len(MESSAGES)])
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"\ncontent-length: (\d+)", head.lower())
        await reader.readexactly(int(length[1]) if length else 0)
        if b"connection: close" in head.lower():
            self.close()
        return int(head[9:12])

    def close(self) -> None:
        """End it."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def closed(port: int, callers: int, seconds: float) -> list[tuple[int, float]]:
    """(status, latency) of all requests of so many callers."""
    end, found = time.perf_counter() + seconds, list[tuple[int, float]]()

    async def call(number: int) -> None:
        connection = Connection(port)
        while (began := time.perf_counter()) < end:
            status = await connection.ask(number)
            found.append((status, time.perf_counter() - began))
            number += callers
        connection.close()

    await asyncio.gather(*(call(i) for i in range(callers)))
    return found


async def opened(
    port: int, rate: float, seconds: float, seed: int, own_wait: bool = True, connections: int = CONNECTIONS
) -> list[tuple[int, float]]:
    """(status, latency) of requests at random times; from the time at which each was to be sent, or, without ``own_wait``, from the time at
    which a connection was free for it; those for which none was free before the end have status 0 then.
    """
    rng, found = np.random.default_rng(seed), list[tuple[int, float]]()
    times = np.cumsum(rng.exponential(1 / rate, max(1, int(rate * seconds))))
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(connections):
        free.put_nowait(Connection(port))
    began, waiting = time.perf_counter(), set[asyncio.Task[None]]()

    async def one(number: int, due: float) -> None:
        connection = await free.get()
        start = due if own_wait else time.perf_counter() - began
        try:
            if start > seconds and not own_wait:
                found.append((0, 0.0))
                return
            found.append((await connection.ask(number), time.perf_counter() - began - start))
        finally:
            free.put_nowait(connection)

    for number, due in enumerate(times):
        if (ahead := due - (time.perf_counter() - began)) > 0:
            await asyncio.sleep(ahead)
        task = asyncio.ensure_future(one(number, float(due)))
        waiting.add(task)
        task.add_done_callback(waiting.discard)
    await asyncio.gather(*waiting)
    while not free.empty():
        free.get_nowait().close()
    return found


def numbers(found: list[tuple[int, float]], seconds: float) -> dict[str, Any]:
    """Requests a second, latencies in milliseconds of what was judged, and how often each status came."""
    good = 1e3 * np.array([t for status, t in found if status == 200])
    p50, p99 = (float(np.quantile(good, q)) if len(good) else None for q in (0.5, 0.99))
    statuses = {str(k): v for k, v in sorted(Counter(s for s, _ in found).items())}
    return {"per_second": len(good) / seconds, "p50_ms": p50, "p99_ms": p99, "n": len(good), "statuses": statuses}


# --- what is measured ------------------------------------------------------------------------------------------------------


def side_by_side(seconds: float, rounds: int) -> dict[str, Any]:
    """Both subjects in turn: closed loops, then the open loop."""
    order, taken = np.random.default_rng(0), dict[tuple[str, str], list[tuple[int, float]]]()
    with served(BARE) as bare, served(LIGHT_GUARD) as light:
        ports = {BARE: bare, LIGHT_GUARD: light}
        for port in ports.values():
            asyncio.run(closed(port, 4, 1.0))  # warm
        for _ in range(rounds):
            for callers in CALLERS:
                for i in order.permutation(len(SUBJECTS)):
                    name = SUBJECTS[i]
                    taken.setdefault((name, f"closed, {callers} callers"), []).extend(asyncio.run(closed(ports[name], callers, seconds)))
        capacity = len(taken[BARE, f"closed, {CALLERS[-1]} callers"]) / seconds / rounds
        for r in range(rounds):
            for i in order.permutation(len(SUBJECTS)):
                name = SUBJECTS[i]
                how = f"open, {SHARES[name]:g} of what the classifier gives"
                taken.setdefault((name, how), []).extend(asyncio.run(opened(ports[name], SHARES[name] * capacity, seconds, r)))
    rows = [{"subject": name, "how": how} | numbers(found, seconds * rounds) for (name, how), found in taken.items()]
    by = {(r["subject"], r["how"]): r for r in rows}
    ratios = {c: by[LIGHT_GUARD, f"closed, {c} callers"]["per_second"] / by[BARE, f"closed, {c} callers"]["per_second"] for c in CALLERS}
    p99 = {name: by[name, f"open, {SHARES[name]:g} of what the classifier gives"]["p99_ms"] for name in SUBJECTS}
    reached = None not in p99.values() and p99[LIGHT_GUARD] <= p99[BARE]
    return {
        "seconds": seconds,
        "rounds": rounds,
        "rows": rows,
        "requests_per_second_to_the_classifier": {str(k): v for k, v in ratios.items()},
        "p99_ms_at_half_the_rate": p99,
        "goal_reached": reached,
    }


def resident(port: int) -> float:
    """MB of memory that the process has."""
    with socket.create_connection(("127.0.0.1", port), 10) as s:
        s.sendall(b"GET /metrics HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        text = b"".join(iter(lambda: s.recv(65536), b""))
    found = re.search(rb"^process_resident_memory_bytes ([\d.e+]+)", text, re.M)
    assert found
    return float(found[1]) / 1e6


def asked(port: int, rate: float, seconds: float, seed: int) -> list[tuple[int, float]]:
    """What one of the processes that overload it was answered."""
    return asyncio.run(opened(port, rate, seconds, seed, own_wait=False, connections=WIDE))


def soak(minutes: float) -> dict[str, Any]:
    """The guard asked at three times what it gives."""
    seconds = 60 * minutes
    with served(LIGHT_GUARD) as port, ProcessPoolExecutor(ASKING, mp_context=get_context("spawn")) as pool:
        wait([pool.submit(time.sleep, 0.5) for _ in range(ASKING)])  # they are there before it begins
        asyncio.run(closed(port, 4, 1.0))
        capacity = len(asyncio.run(closed(port, CALLERS[-1], 3.0))) / 3.0
        memory, began = [resident(port)], time.perf_counter()
        parts = [pool.submit(asked, port, OVERLOAD * capacity / ASKING, seconds, seed) for seed in range(ASKING)]
        while wait(parts, min(SAMPLED, seconds / 4)).not_done:
            memory.append(resident(port))
        found, took = [one for part in parts for one in part.result()], time.perf_counter() - began
        memory.append(resident(port))
    statuses = Counter(s for s, _ in found)
    quarter = max(1, len(memory) // 4)
    second, last = (float(np.median(part)) for part in (memory[quarter : 2 * quarter], memory[-quarter:]))
    return {
        "minutes": minutes,
        "capacity_per_second": capacity,
        "asked_per_second": OVERLOAD * capacity,
        "arrived_per_second": sum(v for k, v in statuses.items() if k) / seconds,
        "connections": ASKING * WIDE,
        **numbers(found, took),
        "other_than_200_and_503": sum(v for k, v in statuses.items() if k not in (0, 200, 503)),
        "resident_mb": [round(m, 1) for m in memory],
        "growth_mb": last - second,
    }


def malformed(count: int) -> dict[str, Any]:
    """Damaged HTTP requests: how each connection ended."""
    rng, ends = random.Random(0), Counter[str]()
    with served(LIGHT_GUARD) as port:
        for _ in range(count):
            data = bytearray(MESSAGES[0][: rng.randrange(1, len(MESSAGES[0]))] if rng.random() < 0.5 else MESSAGES[0])
            for _ in range(rng.randrange(1, 9)):
                data[rng.randrange(min(len(data), 250))] = rng.randrange(256)
            with socket.create_connection(("127.0.0.1", port), 10) as s:
                s.settimeout(10)
                try:
                    s.sendall(bytes(data))
                    s.shutdown(socket.SHUT_WR)
                    head = s.recv(4096)
                    ends[head[9:12].decode("ascii", "replace") if head.startswith(b"HTTP/1.1 ") else "closed"] += 1
                except ConnectionError:
                    ends["closed"] += 1
                except TimeoutError:
                    ends["hung"] += 1
        answered = [s for s, _ in asyncio.run(closed(port, 2, 0.5))]
    faults = sum(v for k, v in ends.items() if k.startswith("5") and k != "503")
    return {"count": count, "ends": dict(sorted(ends.items())), "faults": faults, "answers_afterwards": set(answered) == {200}}


def table(name: str, found: dict[str, Any]) -> str:
    """One part, for people."""
    lines = [f"{name}: {found['machine']['cpu']}, {found['machine']['cores']} cores, {found['date']}, load {found['load_average']}"]
    if name != "side_by_side":
        made = {k: v for k, v in found.items() if k not in ("command", "date", "machine", "service", "load_average")}
        return "\n".join([*lines, json.dumps(made)])
    lines += [f"{'':14} {'':45} {'per second':>10} {'p50 ms':>8} {'p99 ms':>8}  statuses"]
    lines += [
        f"{r['subject']:14} {r['how']:45} {r['per_second']:10.1f} {r['p50_ms'] or 0:8.2f} {r['p99_ms'] or 0:8.2f}  {r['statuses']}"
        for r in found["rows"]
    ]
    lines += [f"requests a second, to the classifier's, by callers: {found['requests_per_second_to_the_classifier']}"]
    return "\n".join(
        [*lines, f"p99 at half the classifier's rate: {found['p99_ms_at_half_the_rate']}; goal reached: {found['goal_reached']}"]
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, perhaps write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description="The service behind a classifier and a guard.")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each loop of each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="instead: ask the guard at three times what it gives")
    parser.add_argument("--malformed", type=int, metavar="N", help="instead: send so many damaged requests")
    parser.add_argument("--out", type=Path, help="the JSON, where other parts are kept; default: none is written")
    parser.add_argument("--child", choices=SUBJECTS, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        child(given.child)
        return
    parts: dict[str, Any] = {}
    if given.soak is not None:
        parts["soak"] = partial(soak, given.soak)
    if given.malformed is not None:
        parts["malformed"] = partial(malformed, given.malformed)
    found = read_json(given.out) if given.out is not None and given.out.exists() else {}
    for name, measure in (parts or {"side_by_side": partial(side_by_side, given.seconds, given.rounds)}).items():
        date, start, made = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), load(), measure()
        about = {
            "command": COMMANDS[name].format(**made),
            "date": date,
            "machine": machine(),
            "service": SERVICE,
            "load_average": {"start": start, "end": load()},
        }
        found[name] = about | made
        if given.out is not None:
            write_json(given.out, found)
        print(table(name, found[name]))


if __name__ == "__main__":
    main()
