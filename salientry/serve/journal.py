"""The log of the service: one line of JSON an event, without pixels and without keys; and flagged images, if they are to be kept."""

from __future__ import annotations

import datetime
import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Error
from ..files import write_json, writing
from ..picture_check import PictureVerdict, write_pixels
from .settings import whole

LOGGER = logging.getLogger("salientry.serve")


def log(event: str, level: int = logging.INFO, **fields: Any) -> None:
    """Log one event: its time, its name and its fields, as one line of JSON."""
    if LOGGER.isEnabledFor(level):
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        body = {"time": now, "event": event} | {k: _finite(v) for k, v in fields.items() if v is not None}
        LOGGER.log(level, "%s", json.dumps(body, default=str))


def _finite(value: Any) -> Any:
    """JSON has no nan."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Kept:
    """Flagged images in a folder, each as a PNG beside a JSON file that says why; of the newest so many.

    Args:
        folder: made if it is not there; files of an earlier process count.
        most: images that are kept; the oldest one goes for a new one.

    Raises:
        UsageError: for a number of images that is none.
        StoreError: when the folder cannot be made.
    """

    def __init__(self, folder: Path, most: int = 1000) -> None:
        whole("keep_at_most", most, 1)
        self.folder, self.most = folder, most
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._names = sorted(p.stem for p in folder.glob("flagged-*.json"))
        self._count = 0

    def keep(self, pixels: NDArray[np.uint8], verdict: PictureVerdict, request: str, source: str) -> None:
        """Write one image (C, H, W), grey or colour, and its verdict; what cannot be written is logged, and nothing else fails."""
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S%f")
        self._count += 1
        name = f"flagged-{stamp}-{self._count:06d}"
        try:
            if len(pixels) in (1, 3):
                write_pixels(self.folder / f"{name}.png", pixels)
            write_json(self.folder / f"{name}.json", verdict.json() | {"request_id": request, "source": source})
        except Error as e:
            log("not_kept", logging.ERROR, request_id=request, error=str(e))
            return
        self._names.append(name)
        while len(self._names) > self.most:
            old = self._names.pop(0)
            for kind in ("png", "json"):
                (self.folder / f"{old}.{kind}").unlink(missing_ok=True)
