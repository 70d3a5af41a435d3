"""A headless chromium that opens a page, over its debugging pipe: what a page measures once it is laid out, pictures and PDFs of it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROGRAM = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--remote-debugging-pipe")


class Tab:
    """One page; ``send`` is a command of the DevTools protocol."""

    def __init__(self, commands: int, answers: int) -> None:
        self._out, self._in, self._id, self._rest, self._session = commands, answers, 0, b"", ""
        self.said: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            found = os.read(self._in, 1 << 20)
            assert found, "the browser has ended"
            self._rest += found
        one, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(one)
        if message.get("method") == "Log.entryAdded":
            self.said.append(message["params"]["entry"]["text"])
        return message

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to a command."""
        self._id += 1
        body = {"id": self._id, "method": method, "params": params} | ({"sessionId": self._session} if self._session else {})
        os.write(self._out, json.dumps(body).encode() + b"\0")
        while (answer := self._read()).get("id") != self._id:
            pass
        assert "error" not in answer, answer
        return dict(answer["result"])

    def size(self, width: int, height: int = 900) -> None:
        """Of the window, in CSS pixels."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def media(self, media: str = "", scheme: str = "light") -> None:
        """``print`` or the screen; ``light`` or ``dark``."""
        self.send("Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, page: Path | str) -> None:
        """Load a file or an address and wait until it is there."""
        self.send("Page.navigate", url=page if isinstance(page, str) else page.resolve().as_uri())
        while self._read().get("method") != "Page.loadEventFired":
            pass

    def press(self, key: str) -> None:
        """A key, down and up."""
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, text="\r" if key == "Enter" else "", windowsVirtualKeyCode=13)

    def ask(self, expression: str) -> Any:
        """The value of an expression."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def picture(self, out: Path, height: int | None = None) -> None:
        """A PNG of the page from its top; ``height``: no more than that."""
        wide, high = self.ask("[innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": wide, "height": min(high, height or high), "scale": 1}
        found = self.send("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        out.write_bytes(base64.b64decode(found["data"]))

    def pdf(self, out: Path) -> None:
        """As it is printed."""
        out.write_bytes(base64.b64decode(self.send("Page.printToPDF", printBackground=True, preferCSSPageSize=True)["data"]))


@contextlib.contextmanager
def opened() -> Iterator[Tab]:
    """A browser for a while."""
    assert PROGRAM is not None, "no chromium"
    to_browser, from_browser = os.pipe(), os.pipe()
    keep = {to_browser[0]: 3, from_browser[1]: 4}

    def place() -> None:
        found = {new: os.dup(old) for old, new in keep.items()}
        for new, old in found.items():
            os.dup2(old, new)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [PROGRAM, *FLAGS, f"--user-data-dir={profile}"]
        process = subprocess.Popen(command, preexec_fn=place, close_fds=False, stderr=subprocess.DEVNULL)
        os.close(to_browser[0])
        os.close(from_browser[1])
        try:
            yield Tab(to_browser[1], from_browser[0])
        finally:
            process.kill()
            process.wait()
            os.close(to_browser[1])
            os.close(from_browser[0])
