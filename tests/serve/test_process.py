"""The command in a process of its own: signals during requests."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from salientry.classifiers import CompactCNN, load_classifier, save_classifier
from salientry.detectors import Margin
from salientry.errors import UsageError
from salientry.evidence import Evidence
from salientry.guard import Guard
from salientry.serve import app
from salientry.serve.process import _bound, serve
from salientry.types import Shape
from tests import examples
from tests.cli.conftest import Cli
from tests.examples import ViewPairs

from .tiny import encoded, guard

SHAPE = Shape(1, 8, 8, 3)
X = (examples.images(SHAPE, 4, seed=1) * 255).round().to(torch.uint8).numpy()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved guard and its classifier."""
    at = tmp_path_factory.mktemp("saved")
    classifier = CompactCNN(width=4).build(SHAPE).eval()
    save_classifier(classifier, at / "classifier")
    spec = Margin()
    detector = examples.fitted(spec, ViewPairs.of(spec, *(Evidence(classifier, None, examples.images(SHAPE, 40, seed=s)) for s in (0, 1))))
    Guard(classifier, None, detector, 0.5, 0.1, torch.linspace(-3, 3, 50), SHAPE).save(at / "guard", "../classifier")
    return at


@contextmanager
def running(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str, list[dict[str, Any]]]]:
    """`salientry serve`, its address, and its log so far."""
    command = [sys.executable, "-m", "salientry", "serve", str(folder / "guard"), "--port", "0", *options]
    env = {k: v for k, v in os.environ.items() if not k.startswith("SALIENTRY_API")} | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    log: list[dict[str, Any]] = []

    def follow() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            log.append(json.loads(line) if line.startswith("{") else {"event": line})

    following = threading.Thread(target=follow, daemon=True)
    following.start()
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", said)
        assert found, (said, log)
        yield process, found[0], log
    finally:
        process.kill()
        process.wait()
        following.join(5)
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def test_sigterm_during_requests_answers_them_and_sighup_replaces_the_guard(folder: Path, tmp_path: Path) -> None:
    """One process for all of it: starting one takes seconds. The wait for others makes each request last a second and a half."""
    saved = Path(shutil.copytree(folder, tmp_path / "saved"))
    options = ("--wait", "1500", "--deadline", "60", "--drain", "0.3", "--keep-flagged", str(tmp_path / "kept"))
    with running(saved, *options) as (process, at, log), httpx.Client(timeout=60) as client:
        answers: list[httpx.Response] = []

        def ask() -> None:
            answers.append(client.post(f"{at}/check", content=encoded(X[0])))

        def two_wait() -> bool:
            return bool(client.get(f"{at}/health").json()["queue"]["images"] == 2)

        before = client.get(f"{at}/health").json()["guard"]
        guard = Guard.load(saved / "guard", load_classifier(str(saved / "classifier")))
        guard.threshold = 0.25
        guard.save(saved / "guard", "../classifier")
        asking = [threading.Thread(target=ask) for _ in range(4)]
        for thread in asking[:2]:
            thread.start()
        wait(two_wait)
        process.send_signal(signal.SIGHUP)
        wait(lambda: any(x["event"] == "guard_replaced" for x in log))
        for thread in asking[:2]:
            thread.join()
        after = client.get(f"{at}/health").json()["guard"]
        assert (before["threshold"], after["threshold"]) == (0.5, 0.25)
        assert {a.json()["pictures"][0]["threshold"] for a in answers} == {0.5}, "those that waited are the old guard's"

        (saved / "guard" / "guard.json").write_text("{}")
        process.send_signal(signal.SIGHUP)
        wait(lambda: any(x["event"] == "guard_not_replaced" for x in log))
        assert client.get(f"{at}/health").json()["guard"]["threshold"] == 0.25, "the folder is damaged: the old one stays"

        for thread in asking[2:]:
            thread.start()
        wait(two_wait)
        process.send_signal(signal.SIGTERM)
        wait(lambda: client.get(f"{at}/ready").status_code == 503)
        late = client.post(f"{at}/check", content=encoded(X[0]))
        assert late.status_code == 503 and late.json()["code"] == "shutting_down"
        for thread in asking[2:]:
            thread.join()
        assert [a.status_code for a in answers] == [200] * 4
        assert process.wait(60) == 0
        assert [x["event"] for x in log][-1] == "ended" and not any(x["event"] == "error" for x in log)


def wait(until: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def test_what_cannot_be_served_is_one_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALIENTRY_HOME", str(tmp_path))
    with _bound("127.0.0.1", 0) as taken:
        taken.listen()
        Cli("serve", folder / "guard", "--port", taken.getsockname()[1]).refused(5, "cannot listen at 127.0.0.1")
    Cli("serve", tmp_path / "none").refused(2, "no guard in")
    Cli("serve", folder / "guard", "--mode", "block").refused(2, "mode must be one of monitor, mark, enforce; found 'block'")
    Cli("serve", folder / "guard", "--api-key-file", tmp_path / "none").refused(4, "No such file")
    Cli("serve", folder / "guard", "--batch", 0).refused(2, "Batching(size=) must be a whole number above 0; found 0")
    for option, value, words in (
        ("--port", 99999, "the port must be a whole number from 0 to 65535; found 99999"),
        ("--port", -1, "the port must be a whole number from 0 to 65535; found -1"),
        ("--queue", -3, "Batching(queue=) must be a whole number above 0; found -3"),
        ("--max-body", 0, "Limits(body=) must be a whole number above 0; found 0"),
        ("--max-images", -1, "Limits(images=) must be a whole number above 0; found -1"),
        ("--max-pixels", 0, "Limits(pixels=) must be a whole number above 0; found 0"),
        ("--keep-at-most", -1, "keep_at_most must be a whole number from 1; found -1"),
        ("--wait", -1, "Batching(wait=) must be a number above 0"),
        ("--deadline", "nan", "Batching(deadline=) must be a number above 0; found nan"),
        ("--drain", "-1", "drain must be a number of seconds, 0 or more; found -1.0"),
        ("--exempt", "shop", "--exempt 'shop' is no sender: an address expected, since there are no API keys"),
    ):
        Cli("serve", folder / "guard", option, value).refused(2, words)
    monkeypatch.setitem(sys.modules, "salientry.cli.serving", None)
    for name in [n for n in sys.modules if n.startswith("salientry.serve")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "salientry.cli.serving")
    monkeypatch.setitem(sys.modules, "fastapi", None)
    Cli("serve", folder / "guard").refused(2, "needs fastapi, which is not installed: pip install 'salientry[serve]'")


def test_a_port_that_is_taken_is_said() -> None:
    from salientry.errors import DeviceError

    with _bound("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(DeviceError, match=r"cannot listen at 127\.0\.0\.1, port"):
            serve(app(guard()), "127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize("port", [99999, -1, 80.0, True])
def test_a_port_that_is_none_is_refused_before_anything_listens(port: Any) -> None:
    with pytest.raises(UsageError, match="the port must be a whole number from 0 to 65535; found"):
        serve(app(guard()), "127.0.0.1", port)


def test_senders_of_videos_are_exempt_by_the_name_of_their_key_or_their_address(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's own campaigns hear 200 pictures of one scene from each sender."""
    from salientry.cli import serving

    made: list[Any] = []
    monkeypatch.setattr(serving, "serve", lambda application, *_, **__: made.append(application.state.server))
    monkeypatch.setenv("SALIENTRY_API_KEYS", "camera:0123456789abcdef,shop:fedcba9876543210")
    refusal = "--exempt '10.0.0.1' is no sender: senders go by the names of their API keys: camera, shop"
    Cli("serve", folder / "guard", "--exempt", "10.0.0.1").refused(2, refusal)
    result = Cli("serve", folder / "guard", "--exempt", "camera", "--max-body", 256)
    assert result.code == 0, result.err
    scene = (X[:1] + np.random.default_rng(0).integers(-2, 3, (200, *X.shape[1:]))).clip(0, 255).astype(np.uint8)
    monkeypatch.delenv("SALIENTRY_API_KEYS")
    assert Cli("serve", folder / "guard", "--exempt", "2001:0db8:0:0:0:0:0:1").code == 0
    for server, senders in zip(made, (("camera", "shop"), ("2001:db8::1", "2001:db8::2")), strict=True):
        for source in senders:
            server.watch.campaign.update(source, scene, [False] * 200)
        assert server.watch.campaign.reported == [senders[1]]
    assert made[0].limits.bodies >= made[0].limits.body == 256 * 2**20, "a body that one may send has room"
