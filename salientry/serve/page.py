"""The page at ``/``: drop a picture, see what the classifier and the guard say of it, change or attack it, and see again."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from ..errors import Error, UsageError
from ..guard import Guard
from ..harmless import HARMLESS
from ..inputs import as_uint8
from ..picture_check import picture_in, picture_verdicts, read_picture
from ..protocol import eight_bits
from ..verdict import Verdict
from .gate import notes_of
from .pictures import BODY, File, files_in
from .protocol import FAULTS
from .refusals import Refused, bad, overloaded
from .server import Notes, Server
from .worker import on_cpu

STATIC = {"": "text/html; charset=utf-8", "page.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8"}
CONTENT = {"": "page.html"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
WAITING = 8  # pictures that are tried or wait for it; they are tried one at a time
RED = 0.65  # opacity of a map where it is 1


@dataclass(frozen=True)
class PageAttack:
    """An attack that the page offers.

    Attributes:
        title: for people.
        run: (classifier, images (1, C, H, W) float32 in [0, 1], predicted (1,) int64, largest change of a value in [0, 1]) to images.
        budgets: largest changes that are offered, in grey levels of 255; empty: it looks for the smallest change itself.
    """

    title: str
    run: Callable[[nn.Module, Tensor, Tensor, float], Tensor]
    budgets: tuple[int, ...] = ()


@dataclass(frozen=True)
class Example:
    """A picture that the page offers.

    Attributes:
        name: for people.
        pixels: (C, H, W) uint8, of the guard's shape.
    """

    name: str
    pixels: NDArray[np.uint8]


def routes(server: Server) -> APIRouter:
    """The page and what it asks."""
    router, trying = APIRouter(tags=["Page"]), _Trying(server)

    for name, kind in STATIC.items():
        router.add_api_route(f"/{name}", _static(name, kind), methods=["GET"], include_in_schema=False)

    @router.get("/page.json", responses={401: FAULTS[401]})
    async def facts() -> dict[str, Any]:
        """What the page says of the guard, and what it offers."""
        return trying.facts()

    @router.get("/examples/{number}.png", response_class=Response, responses={401: FAULTS[401], 404: FAULTS[404]})
    async def example(number: int) -> Response:
        """One of the example pictures."""
        if not 0 <= number < len(trying.examples):
            raise Refused(404, "not_found", f"there are {len(trying.examples)} examples")
        return Response(_png(trying.examples[number].pixels), media_type="image/png")

    @router.post("/try", openapi_extra=BODY, responses={k: FAULTS[k] for k in (400, 401, 413, 415, 422, 503)})
    async def attempt(request: Request, change: str = "", attack: str = "", budget: int = 0) -> Response:
        """A picture, and the same after a harmless change or an attack, with what is said of both.

        Nothing that is tried here counts for the flag rate or for campaigns, but in the mode ``enforce`` the picture that was sent; there
        the answer has status 422 where a picture in it is flagged, and says nothing of how sure the classifier is of that one.
        """
        body, kind = await request.body(), request.headers.get("content-type", "")
        sent = files_in(body, kind)
        if len(sent) != 1:
            raise bad(f"one picture expected; found {len(sent)}")
        notes = notes_of(request.scope)
        found = await trying.attempt(sent[0], notes, change, attack, budget)
        if withheld := server.mode == "enforce" and _withheld(found):
            notes.code = "flagged"
        return JSONResponse(found, 422 if withheld else 200)

    return router


def _static(name: str, kind: str) -> Callable[[], Response]:
    content = (files(__package__) / "static" / CONTENT.get(name, name)).read_bytes()
    return lambda: Response(content, headers=HEADERS | {"Content-Type": kind, "Cache-Control": "no-cache"})


class _Trying:
    """Tries pictures, one at a time, and turns what comes of it into what the page shows."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.attacks: Mapping[str, PageAttack] = server.attack or {}
        self.examples: Sequence[Example] = server.examples or ()
        shape = server.guard.shape
        for e in self.examples:
            if e.pixels.shape != (shape.channels, shape.height, shape.width) or e.pixels.dtype != np.uint8:
                expected = f"uint8 {(shape.channels, shape.height, shape.width)}"
                raise UsageError(f"example {e.name!r} is {e.pixels.dtype} {e.pixels.shape}; {expected} expected")
        self._waiting = 0
        self._lock = asyncio.Lock()

    def facts(self) -> dict[str, Any]:
        """What the page shows before a picture."""
        guard = self.server.guard
        return {
            "model": self.server.name,
            "shape": [guard.shape.channels, guard.shape.height, guard.shape.width],
            "classes": guard.shape.classes,
            "resize": guard.resize,
            "level": guard.level,
            "calibration": len(guard.calibration),
            "looks_at": [*dict.fromkeys(guard.components)],
            "maps": guard.saliency is not None,
            "examples": [e.name for e in self.examples],
            "changes": {name: change.title for name, change in HARMLESS.items()},
            "attacks": {name: {"title": a.title, "budgets": list(a.budgets)} for name, a in self.attacks.items()},
        }

    async def attempt(self, sent: File, notes: Notes, change: str, attack: str, budget: int) -> dict[str, Any]:
        """See ``/try``. The worker of all requests computes: each picture, and what is done to it, has its turn there.

        Raises:
            Refused: for a picture, a change or an attack that cannot be used; 503 while too many others are tried.
        """
        if change and attack:
            raise bad("either change= or attack= expected; found both")
        if change and change not in HARMLESS:
            raise bad(f"change must be one of {', '.join(HARMLESS)}", "no_change")
        if attack and attack not in self.attacks:
            offered = f"one of {', '.join(self.attacks)}" if self.attacks else "left out: this service attacks no picture"
            raise bad(f"attack must be {offered}", "no_attack")
        if attack and self.attacks[attack].budgets and budget not in self.attacks[attack].budgets:
            raise bad(f"budget must be one of {', '.join(map(str, self.attacks[attack].budgets))}, in grey levels of 255", "no_budget")
        if self._waiting >= WAITING:
            raise overloaded(f"{self._waiting} pictures are tried already; come again")
        self._waiting += 1
        try:
            try:
                await asyncio.wait_for(self._lock.acquire(), self.server.batching.deadline)
            except TimeoutError:
                raise overloaded("other pictures are tried for too long; come again", "too_late") from None
            try:
                return await self._tried(self.server.guard, sent, notes, change, attack, budget)
            finally:
                self._lock.release()
        finally:
            self._waiting -= 1

    async def _tried(self, guard: Guard, sent: File, notes: Notes, change: str, attack: str, budget: int) -> dict[str, Any]:
        pixels = await self.server.decoded(len(sent.data), lambda: self._read(guard, sent))
        x, verdict, shown = await self.server.worker.run(partial(_judged, guard, sent.name, pixels))
        notes.images, notes.flagged = 1, int(verdict.flagged.sum())
        if self.server.mode == "enforce":
            self.server.noted(guard, verdict, pixels[None], notes, [sent.name])
        found: dict[str, Any] = {"picture": shown, "changed": None}
        if change or attack:
            work = partial(self._changed, guard, sent.name, x, verdict.predicted.to(x.device), change, attack, budget)
            found |= await self.server.worker.run(work)
        return found

    def _read(self, guard: Guard, sent: File) -> NDArray[np.uint8]:
        try:
            return picture_in(sent.data, sent.name, guard.shape, guard.resize, most=self.server.limits.pixels)
        except Error as e:
            raise bad(str(e), "bad_picture") from None

    def _changed(self, guard: Guard, name: str, x: Tensor, predicted: Tensor, change: str, attack: str, budget: int) -> dict[str, Any]:
        if change:
            done, y = HARMLESS[change].title, HARMLESS[change](x, seeds=torch.zeros(1, dtype=torch.int64, device=x.device))
        else:
            done, y = self._attacked(guard, attack, x, predicted, budget)
        y = eight_bits(y.detach().to(x.device, torch.float32))
        shown = _shown(guard, name, y, guard(y))
        return {"changed": shown | {"done": done}, "difference": _difference(x[0].cpu(), y[0].cpu())}

    def _attacked(self, guard: Guard, name: str, x: Tensor, predicted: Tensor, budget: int) -> tuple[str, Tensor]:
        attack = self.attacks[name]
        with guard.networks() as nets:
            found = attack.run(nets.classifier, x.clone(), predicted.clone(), budget / 255 if attack.budgets else 0.0)
        return attack.title + (f", each value changed by at most {budget} of 255" if attack.budgets else ""), found


def _judged(guard: Guard, name: str, pixels: NDArray[np.uint8]) -> tuple[Tensor, Verdict, dict[str, Any]]:
    """A picture on the device, the verdict in plain memory, and what is shown."""
    x = torch.from_numpy(pixels.copy())[None].to(guard.calibration.device).float() / 255
    verdict = guard(x)
    return x, on_cpu(verdict), _shown(guard, name, x, verdict)


def _shown(guard: Guard, name: str, x: Tensor, verdict: Verdict) -> dict[str, Any]:
    """A picture and what is said of it."""
    said = picture_verdicts(guard, [name], verdict)[0]
    logits: Any = verdict.logits
    probability = float(logits[0].softmax(0).max()) if logits.shape[1] > 1 else None
    drawn = None if verdict.map is None else _uri(_red(verdict.map[0, 0].cpu().numpy()))
    return {"verdict": said.json(), "why": said.why(), "probability": probability, "image": _uri(_bytes(x[0].cpu())), "map": drawn}


def _withheld(found: dict[str, Any]) -> bool:
    """Whether a picture in an answer is flagged; how sure the classifier is of it is taken out."""
    flagged = [one for one in (found["picture"], found["changed"]) if one and one["verdict"]["flagged"]]
    for one in flagged:
        one["probability"] = None
    return bool(flagged)


def _difference(x: Tensor, y: Tensor) -> dict[str, Any]:
    """How two pictures differ: grey where they do not, made as many times larger as there is room."""
    change = y - x
    most = float(change.abs().max())
    times = 0.5 / most if most else 1.0
    picture = _uri(_bytes((0.5 + change * times).clamp(0, 1)))
    return {"image": picture, "times": times, "most": round(255 * most), "l2": float(change.square().sum().sqrt())}


def _bytes(x: Tensor) -> NDArray[np.uint8]:
    found: NDArray[np.uint8] = as_uint8(x).numpy()
    return found


def _red(seen: NDArray[Any]) -> NDArray[np.uint8]:
    """A map (H, W) as red that is the less transparent the more it is 1: (4, H, W)."""
    red, nothing = np.full_like(seen, 255), np.zeros_like(seen)
    return np.stack([red, nothing, nothing, 255 * RED * seen]).round().astype(np.uint8)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    out = io.BytesIO()
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    image.save(out, "PNG")
    return out.getvalue()


def _uri(pixels: NDArray[np.uint8]) -> str:
    return "data:image/png;base64," + base64.b64encode(_png(pixels)).decode("ascii")


def examples_in(folder: Path, guard: Guard, most: int = 24) -> list[Example]:
    """The pictures of a folder, in the order of their names.

    Args:
        folder: of JPEG, PNG or WebP files; other files, and maps laid over pictures (``-map.png``), are passed over.
        guard: that they are for.
        most: how many are read.

    Raises:
        UsageError: when there is none, or one is not of the guard's size.
        DataError: for a file that cannot be read.
    """
    kinds = (".png", ".jpg", ".jpeg", ".webp")
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in kinds and not p.stem.endswith("-map")) if folder.is_dir() else []
    if not paths:
        raise UsageError(f"no pictures in {folder}: JPEG, PNG or WebP files expected")
    return [Example(p.stem, _bytes(read_picture(p, guard.shape, guard.resize))) for p in paths[:most]]
