"""The page: what it asks and is told is what the guard says; it runs nothing that is not its own."""

from __future__ import annotations

import asyncio
import base64
import io
import logging
import re
import shutil
import threading
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from fastapi import FastAPI
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from salientry.classifiers import load_classifier
from salientry.errors import UsageError
from salientry.guard import Guard
from salientry.harmless import HARMLESS
from salientry.pixels import write_pixels
from salientry.serve import app
from salientry.serve.page import WAITING, Example, PageAttack, examples_in
from tests import examples
from tests.report import browser
from tests.test_guard import SHAPE as SMALL
from tests.test_guard import guarded

from .test_gate import lines
from .test_process import SHAPE as SAVED
from .test_process import folder, running  # noqa: F401
from .tiny import X, encoded, guard, request, run

STATIC = files("salientry.serve") / "static"


def inverted(classifier: nn.Module, x: Tensor, predicted: Tensor, budget: float) -> Tensor:
    """Every value as far towards the other end as the budget lets it; checks what it is handed."""
    assert not classifier.training and x.shape == (1, 3, 12, 12) and predicted.shape == (1,)
    assert int(classifier(x).argmax(1)) == int(predicted)
    return x + (1 - 2 * x.round()) * (budget or 1.0)


ATTACKS = {"inverted": PageAttack("inversion", inverted, (8, 16)), "whole": PageAttack("whole inversion", inverted)}


def attempt(application: FastAPI, x: NDArray[np.uint8], query: str = "") -> httpx.Response:
    return request(application, "POST", f"/try{query}", content=encoded(x), headers={"content-type": "image/png"})


def pixels(uri: str) -> NDArray[np.uint8]:
    kind, _, data = uri.partition(",")
    assert kind == "data:image/png;base64"
    found = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    return found[None] if found.ndim == 2 else found.transpose(2, 0, 1)


def says(shown: dict[str, Any], x: NDArray[np.uint8], of: Guard) -> None:
    """Whether what is shown is what the guard says of these pixels."""
    verdict = of(torch.from_numpy(x)[None])
    said = shown["verdict"]
    assert (said["flagged"], said["predicted"]) == (bool(verdict.flagged), int(verdict.predicted))
    assert said["score"] == pytest.approx(float(verdict.score), abs=1e-5)
    assert said["reasons"] == verdict.reasons[0]
    with torch.no_grad():
        sure = float(of.classifier(torch.from_numpy(x)[None] / 255).softmax(1).max())
    assert shown["probability"] == pytest.approx(sure, abs=1e-5)
    assert np.array_equal(pixels(shown["image"]), x)


# --- what it says --------------------------------------------------------------------------------------------------


def test_a_picture_is_shown_with_the_guards_verdict() -> None:
    application = app(guard(), page=True)
    seen = {bool(v) for v in guard()(torch.from_numpy(X[:8])).flagged}
    assert seen == {True, False}
    for x in X[:8]:
        found = attempt(application, x).json()
        says(found["picture"], x, guard())
        assert found["changed"] is None


@pytest.mark.parametrize("name", ["jpeg_75", "shift", "sign_8"])
def test_a_harmless_change_is_made_and_judged(name: str) -> None:
    found = attempt(app(guard(), page=True), X[0], f"?change={name}").json()
    seeds = torch.zeros(1, dtype=torch.int64)
    expected = (HARMLESS[name](torch.from_numpy(X[:1]).float() / 255, seeds=seeds) * 255).round().to(torch.uint8).numpy()[0]
    assert not np.array_equal(expected, X[0])
    says(found["picture"], X[0], guard())
    says(found["changed"], expected, guard())
    assert found["changed"]["done"] == HARMLESS[name].title


def test_an_attack_that_was_handed_in_is_run_as_8_bit_pictures() -> None:
    application = app(guard(), attack=ATTACKS)
    for query, most in (("?attack=inverted&budget=16", 16), ("?attack=whole", 255)):
        found = attempt(application, X[0], query).json()
        x = torch.from_numpy(X[0]).float() / 255
        expected = ((x + (1 - 2 * x.round()) * most / 255).clamp(0, 1) * 255).round().to(torch.uint8).numpy()
        says(found["changed"], expected, guard())
        difference, change = found["difference"], expected.astype(float) - X[0]
        assert difference["most"] == most == np.abs(change).max()
        assert difference["l2"] == pytest.approx(np.linalg.norm(change) / 255, abs=1e-4)
        shown = pixels(difference["image"]) / 255 - 0.5
        np.testing.assert_allclose(shown, change / 255 * difference["times"], atol=0.003)
        assert np.abs(shown).max() == pytest.approx(0.5, abs=0.003)
    assert "at most 16 of 255" in attempt(application, X[0], "?attack=inverted&budget=16").json()["changed"]["done"]
    whole = [attempt(application, X[0], f"?attack=whole{more}").json()["changed"] for more in ("", "&budget=999", "&budget=-1")]
    assert whole[0] == whole[1] == whole[2], "an attack without budgets is handed none"


def test_a_map_is_laid_over_the_picture_where_the_guard_draws_one() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = examples.saliency()["unet"].build(SMALL)
    drawing = guarded(examples.conv(SMALL), net, "smd")
    x = (examples.images(SMALL, 1, seed=6)[0] * 255).round().to(torch.uint8).numpy()
    found = attempt(app(drawing, page=True), x).json()["picture"]
    expected: Any = drawing(torch.from_numpy(x)[None]).map
    red = pixels(found["map"])
    assert (red[0] == 255).all() and (red[1:3] == 0).all()
    np.testing.assert_allclose(red[3] / (0.65 * 255), expected[0, 0].numpy(), atol=0.005)
    assert attempt(app(guard(), page=True), X[0]).json()["picture"]["map"] is None


def test_facts_and_examples() -> None:
    application = app(guard(), attack=ATTACKS, examples=[Example("first", X[0]), Example("second", X[1])])
    found = request(application, "GET", "/page.json").json()
    assert found["level"] == guard().level and found["shape"] == [3, 12, 12] and found["examples"] == ["first", "second"]
    assert found["attacks"] == {
        "inverted": {"title": "inversion", "budgets": [8, 16]},
        "whole": {"title": "whole inversion", "budgets": []},
    }
    assert found["changes"].keys() == HARMLESS.keys() and found["maps"] is False
    for i in range(2):
        image = Image.open(io.BytesIO(request(application, "GET", f"/examples/{i}.png").content))
        assert np.array_equal(np.asarray(image).transpose(2, 0, 1), X[i])
    assert request(application, "GET", "/examples/2.png").status_code == 404
    assert request(app(guard(), page=True), "GET", "/page.json").json()["attacks"] == {}


def test_examples_of_a_folder(tmp_path: Path) -> None:
    for name, x in (("b", X[1]), ("a", X[0]), ("a-map", X[2])):
        write_pixels(tmp_path / f"{name}.png", x)
    (tmp_path / "notes.txt").write_text("no picture")
    found = examples_in(tmp_path, guard())
    assert [e.name for e in found] == ["a", "b"] and np.array_equal(found[0].pixels, X[0])
    with pytest.raises(UsageError, match="no pictures in"):
        examples_in(tmp_path / "nowhere", guard())
    with pytest.raises(UsageError, match="example 'odd' is uint8"):
        app(guard(), examples=[Example("odd", X[0, :, :8])])


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("?change=nothing", "no_change"),
        ("?attack=inverted&budget=9", "no_budget"),
        ("?attack=other", "no_attack"),
        ("?attack=whole&change=shift", "bad_request"),
        ("?budget=many", "bad_request"),
    ],
)
def test_what_is_not_offered_is_refused(query: str, code: str) -> None:
    answer = attempt(app(guard(), attack=ATTACKS), X[0], query)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


def test_no_attack_unless_it_was_handed_in() -> None:
    answer = attempt(app(guard(), page=True), X[0], "?attack=inverted&budget=8")
    assert answer.status_code == 400 and "attacks no picture" in answer.json()["error"]


def test_a_picture_that_cannot_be_used_is_said() -> None:
    application = app(guard(), page=True)
    answer = request(application, "POST", "/try", content=b"no picture", headers={"content-type": "image/png"})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_picture")
    answer = attempt(application, X[0, :, :8])
    assert answer.status_code == 400 and "12 x 12" in answer.json()["error"]


def test_only_the_empty_page_is_there_without_a_key() -> None:
    key = "0123456789abcdef"
    application = app(guard(), keys={"shop": key}, examples=[Example("first", X[0])])
    for path in ("/", "/page.css", "/page.js"):
        assert request(application, "GET", path).status_code == 200
    for path in ("/page.json", "/examples/0.png"):
        assert request(application, "GET", path).status_code == 401
        assert request(application, "GET", path, headers={"x-api-key": key}).status_code == 200
    assert attempt(application, X[0]).status_code == 401


def test_there_is_no_page_unless_it_is_asked_for() -> None:
    asked = [("GET", "/"), ("GET", "/page.js"), ("GET", "/page.css"), ("GET", "/page.json"), ("GET", "/examples/0.png")]
    for method, path in asked:
        assert request(app(guard()), method, path).status_code == 404, path
    assert attempt(app(guard()), X[0]).status_code == 404
    shown: Any
    for shown in ({"page": True}, {"attack": ATTACKS}, {"examples": [Example("first", X[0])]}):
        application = app(guard(), **shown)
        assert request(application, "GET", "/").status_code == 200 and attempt(application, X[0]).status_code == 200


@pytest.mark.parametrize("mode", ["monitor", "mark"])
def test_what_is_tried_is_neither_counted_nor_watched(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "salientry.serve")
    application = app(guard(), mode=mode, page=True)
    for x in X[:6]:
        assert attempt(application, x).status_code == 200
    application.state.server.watch.settle()
    said = [(x["images"], x["flagged"]) for x in lines(caplog, "request")]
    assert said == [(1, int(f)) for f in guard()(torch.from_numpy(X[:6])).flagged], "the log says what was answered"
    said = request(application, "GET", "/health").json()
    assert said["flag_rate"]["seen"] == 0


def test_in_enforce_what_is_tried_is_heard_and_what_is_flagged_has_its_status(caplog: pytest.LogCaptureFixture) -> None:
    """An attack that asks the page in place of the service rings all the same."""
    application = app(guard(), mode="enforce", attack=ATTACKS)
    flagged = guard()(torch.from_numpy(X)).flagged
    one, other = X[int(flagged.nonzero()[0])], X[int((~flagged).nonzero()[0])]
    answer = attempt(application, one)
    assert answer.status_code == 422 and answer.json()["picture"]["verdict"]["flagged"] and answer.json()["picture"]["probability"] is None
    application.state.server.watch.settle()
    assert lines(caplog, "flagged")[0]["request_id"] == answer.headers["x-request-id"]
    assert lines(caplog, "request")[-1]["code"] == "flagged"
    answer = attempt(application, other)
    assert answer.status_code == 200 and answer.json()["picture"]["probability"] > 0.2
    changed = [a for x in X[:12] if (a := attempt(application, x, "?attack=inverted&budget=16")).json()["changed"]["verdict"]["flagged"]]
    assert changed and all(a.status_code == 422 and a.json()["changed"]["probability"] is None for a in changed)
    application.state.server.watch.settle()
    assert request(application, "GET", "/health").json()["flag_rate"]["seen"] == 14, "the pictures that were sent, not what became of them"
    for noise in np.random.default_rng(0).integers(-2, 3, (60, *one.shape)):
        attempt(application, (noise + one).clip(0, 255).astype(np.uint8))
    application.state.server.watch.settle()
    assert request(application, "GET", "/health").json()["campaigns"]["reported"] == ["127.0.0.1"]
    assert len(lines(caplog, "campaign")) == 1


def test_the_worker_computes_what_is_tried_and_requests_wait_for_it() -> None:
    """One thread owns the device: while a picture is attacked, nothing else is computed, and the request behind it is answered after."""
    threads, passes, going = set[str](), list[str](), threading.Event()

    def slow(classifier: nn.Module, x: Tensor, predicted: Tensor, budget: float) -> Tensor:
        threads.add(threading.current_thread().name)
        going.set()
        time.sleep(0.3)
        passes.append("attack")
        return x

    application = app(guard(), attack={"slow": PageAttack("slow", slow)})
    worker = application.state.server.worker
    judge = worker._judge

    def noted(jobs: Any) -> None:
        threads.add(threading.current_thread().name)
        passes.append("request")
        judge(jobs)

    worker._judge = noted

    async def both(c: httpx.AsyncClient) -> list[int]:
        picture: Any = {"content": encoded(X[0]), "headers": {"content-type": "image/png"}}
        tried = asyncio.ensure_future(c.post("/try?attack=slow", **picture))
        await asyncio.to_thread(going.wait, 10)
        checked = await c.post("/check", **picture)
        return [checked.status_code, (await tried).status_code]

    assert run(both, application) == [200, 200]
    assert passes == ["attack", "request"] and threads == {"salientry-serve"}


def test_what_is_tried_waits_in_the_queue_of_all_and_is_refused_as_they_are() -> None:
    from salientry.serve import Batching

    go = threading.Event()

    def slow(classifier: nn.Module, x: Tensor, predicted: Tensor, budget: float) -> Tensor:
        go.wait(10)
        return x

    application = app(guard(), attack={"slow": PageAttack("slow", slow)}, batching=Batching(size=1, wait=0, queue=2, deadline=0.2))

    async def ask(c: httpx.AsyncClient) -> list[str]:
        picture: Any = {"content": encoded(X[0]), "headers": {"content-type": "image/png"}}
        tried = asyncio.ensure_future(c.post("/try?attack=slow", **picture))
        await asyncio.sleep(0.3)
        waiting = [asyncio.ensure_future(c.post("/check", **picture)) for _ in range(2)]
        await asyncio.sleep(0.1)
        refused = await c.post("/check", **picture)
        await asyncio.sleep(0.3)
        go.set()
        answers = [refused, *await asyncio.gather(*waiting), await tried]
        return [a.json().get("code", "answered") for a in answers]

    assert run(ask, application) == ["overloaded", "too_late", "too_late", "answered"]
    assert application.state.server.worker.waiting == 0


def test_one_picture_at_a_time_and_few_wait() -> None:
    running, most, go = [], [], threading.Event()

    def slow(classifier: nn.Module, x: Tensor, predicted: Tensor, budget: float) -> Tensor:
        running.append(1)
        most.append(len(running))
        go.wait(5)
        running.pop()
        return x

    application = app(guard(), attack={"slow": PageAttack("slow", slow)})

    async def all_at_once(c: httpx.AsyncClient) -> list[int]:
        def one() -> Any:
            return c.post("/try?attack=slow", content=encoded(X[0]), headers={"content-type": "image/png"})

        asked = [asyncio.ensure_future(one()) for _ in range(WAITING + 3)]
        await asyncio.sleep(0.2)
        go.set()
        return [a.status_code for a in await asyncio.gather(*asked)]

    found = run(all_at_once, application)
    assert sorted(found) == [200] * WAITING + [503] * 3 and max(most) == 1


# --- what it is made of --------------------------------------------------------------------------------------------


def test_it_runs_and_shows_nothing_but_its_own() -> None:
    """No script, style or picture from elsewhere, none inside the page, and nothing that is told is taken for HTML."""
    page, script = (STATIC / "page.html").read_text("utf-8"), (STATIC / "page.js").read_text("utf-8")
    answer = request(app(guard(), page=True), "GET", "/")
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'" and policy["script-src"] == "'self'" and policy["style-src"] == "'self'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert not re.findall(r"https?://|//[a-z]", page.lower().replace("<!doctype", ""))
    assert not re.findall(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*src=)", page)
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|https?:", script)
    assert {m for m in re.findall(r'at\("([a-z-]+)"\)', script)} <= set(re.findall(r'id="([a-z-]+)"', page))


def test_mounted_its_addresses_are_its_own() -> None:
    main = FastAPI()
    main.mount("/guard", app(guard(), page=True))
    page = request(main, "GET", "/guard/").text
    for address in re.findall(r'(?:href|src)="([^"]+)"', page):
        assert address.startswith("data:") or request(main, "GET", f"/guard/{address}").status_code == 200


def in_browser(test: Any) -> Any:
    return pytest.mark.nightly(pytest.mark.skipif(browser.PROGRAM is None, reason="no chromium on this machine")(test))


def until(tab: Any, condition: str) -> None:
    look = (
        f"(function look() {{ if ({condition}) done(true); else if (Date.now() > end) no(`{condition}`); else setTimeout(look, 50); }})()"
    )
    tab.ask(f"new Promise((done, no) => {{ const end = Date.now() + 20000; {look}; }})")


@in_browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_in_a_browser(folder: Path, tmp_path: Path, width: int, scheme: str) -> None:  # noqa: F811
    """An example is attacked with the keyboard alone; nothing is too wide, nothing is refused by the page's own policy."""
    for i in range(2):
        write_pixels(tmp_path / f"{i}.png", (examples.images(SAVED, 4, seed=1)[i] * 255).round().to(torch.uint8).numpy())
    with running(folder, "--examples", str(tmp_path), "--attacks") as (_, address, _), browser.opened() as tab:
        tab.size(width)
        tab.media(scheme=scheme)
        tab.open(address + "/")
        until(tab, "document.querySelectorAll('#examples button').length === 2")
        tab.ask("document.querySelector('#examples button').focus()")
        tab.press("Enter")
        until(tab, "document.querySelectorAll('.card').length === 1")
        tab.ask("document.querySelector('#attack button').focus()")
        tab.press("Enter")
        until(tab, "document.querySelectorAll('.card').length === 3")
        assert tab.ask("document.querySelector('#status').textContent").endswith(("flags it.", "not flag it."))
        assert tab.ask("document.documentElement.scrollWidth") <= width
        assert tab.ask("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
        assert tab.said == []


@in_browser
def test_in_a_browser_what_is_flagged_in_enforce_is_shown_with_its_status(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    """The status is 422; the page shows the verdict all the same, and not how sure the classifier is."""
    x = (examples.images(SAVED, 40, seed=1) * 255).round().to(torch.uint8)
    saved = Guard.load(folder / "guard", load_classifier(str(folder / "classifier")))
    scores = saved(x).score
    saved.threshold = float(scores.median())
    saved.save(Path(shutil.copytree(folder, tmp_path / "saved")) / "guard", "../classifier")
    write_pixels(tmp_path / "0.png", x[scores.argmax()].numpy())
    write_pixels(tmp_path / "1.png", x[scores.argmin()].numpy())
    with running(tmp_path / "saved", "--examples", str(tmp_path), "--mode", "enforce") as (_, address, _), browser.opened() as tab:
        tab.open(address + "/")
        for i, mark in enumerate(("yes", "no")):
            button = f"document.querySelectorAll('#examples button')[{i}]"
            until(tab, button)
            tab.ask(f"{button}.click()")
            until(tab, f"document.querySelector('.card .flag.{mark}')")
            assert tab.ask("document.querySelector('#error').hidden")
            assert ("sure" in tab.ask("document.querySelector('.card .says').textContent")) is (mark == "no")
