"""Pictures to verdicts, for the command line."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..classifiers import load_classifier, named
from ..errors import DataMissing, Error, UsageError
from ..files import appending, opened, parsed, write_text, writing
from ..guard import Guard
from ..guard_files import asks_another, description
from ..learned import fingerprint
from ..picture_check import PictureVerdict, picture_verdicts, read_picture
from ..picture_stream import Source, found_in, judged
from ..pixels import write_pixels
from ..runner.run import usable

LONGEST = 2**20  # bytes of a line
FLUSHED = 250  # lines that may be lost when a call is killed


def kept(folder: Path) -> str:
    """Where the classifier lies that a guard keeps."""
    at = description(folder)["classifier"]["at"]
    if at is None:
        raise UsageError(f"the guard in {folder} keeps no classifier; name it: --classifier module:callable --weights FILE")
    classifier = Path(folder) / at
    if not (classifier / "classifier.json").is_file():
        raise DataMissing(f"the guard in {folder} wants its classifier in {classifier}, where there is none; name it: --classifier")
    return str(classifier)


def guard_of(
    folder: Path,
    classifier: nn.Module,
    device: str,
    *,
    second: str | None = None,
    second_weights: Path | None = None,
    detector: str | None = None,
) -> Guard:
    """Load a guard with what else it needs.

    Args:
        folder: of the guard.
        classifier: that it was fitted for.
        device: where to compute.
        second: the second network, if the guard asks one that does not lie with it: ``module:callable`` or a folder.
        second_weights: for that network.
        detector: ``module:name`` of a detector that is not ours.

    Raises:
        UsageError: when the guard asks a second network and none is named, or weights are given without a network.
        WrongClassifier: when the classifier is another.
        DataError: for files that cannot be used.
    """
    if second is None and second_weights is not None:
        raise UsageError("--second-weights needs --second module:callable, the network that they are of")
    if second is None and asks_another(folder):
        raise UsageError(f"the guard in {folder} asks a second network; name it: --second module:callable --second-weights FILE")
    given = None if detector is None else named(detector, "detector")
    other = None if second is None else load_classifier(second, second_weights).to(device)
    return Guard.load(folder, classifier.to(device), given, other)


def loaded(folder: Path, classifier: str | None, weights: Path | None, device: str, **beside: Any) -> Guard:
    """A guard with its classifier, named or the copy that it keeps.

    Args:
        folder: of the guard.
        classifier: ``module:callable`` or a folder; None: the copy that the guard names.
        weights: for that classifier.
        device: where to compute.
        **beside: what else :func:`guard_of` takes.

    Raises:
        UsageError: when no classifier is named and the guard names none; and as :func:`guard_of` does.
        DeviceError: when the device is not here.
        DataError: for files that cannot be used.
    """
    device = usable(device)
    if classifier is None:
        classifier = kept(folder)
    return guard_of(folder, load_classifier(classifier, weights), device, **beside)


def judge(folder: Path, paths: list[Path], *, overlay: Path | None = None) -> list[PictureVerdict]:
    """What a guard that keeps its classifier says of pictures; the first one that cannot be judged ends it.

    Args:
        folder: of the guard.
        paths: of the pictures.
        overlay: folder for pictures with the map laid over them.

    Raises:
        UsageError: when the guard keeps no classifier, for pictures that do not fit, and when an overlay is wanted of a guard without a
            saliency model.
        DataError: for files that cannot be used.
    """
    found = [*each(loaded(folder, None, None, "cpu"), found_in(paths), overlay=overlay)]
    for _, said in found:
        if isinstance(said, Error):
            raise said
    return [said for _, said in found if isinstance(said, PictureVerdict)]


def each(guard: Guard, sources: Iterable[Source], *, overlay: Path | None = None) -> Iterator[tuple[str, PictureVerdict | Error]]:
    """What a guard says of one picture after another, by name, or why it cannot be judged.

    Args:
        guard: that judges.
        sources: of the pictures.
        overlay: folder for pictures with the map laid over them.

    Raises:
        UsageError: when an overlay is wanted of a guard without a saliency model.
        StoreError: when an overlay cannot be written.
    """
    if overlay is not None and guard.saliency is None:
        raise UsageError("this guard has no saliency model: there is no map to lay over a picture")
    seen = Counter[str]()
    for batch in judged(guard, sources):
        good = [Path(s.name) if s.data is None else s.name for i, s in enumerate(batch.sources) if i not in batch.faults]
        said = iter([] if batch.verdict is None else picture_verdicts(guard, good, batch.verdict))
        if overlay is not None and batch.verdict is not None and batch.verdict.map is not None:
            for name, x, m in zip(good, batch.images, batch.verdict.map.cpu(), strict=True):
                stem = Path(name).stem
                seen[stem] += 1
                again = f"-{seen[stem]}" if seen[stem] > 1 else ""
                _overlay(x.float() / 255, m[0], overlay / f"{stem}{again}-map.png")
        for i, source in enumerate(batch.sources):
            yield source.name, batch.faults[i] if i in batch.faults else next(said)


class Journal:
    """Verdicts in a file of JSON lines that a call goes on with where another one was stopped.

    The first line says of which guard they are; then one line a picture, in the order in which the pictures are found.

    Args:
        path: of the file; made when there is none.
        guard: whose verdicts they are.

    Attributes:
        flagged, failed, known: pictures that were flagged, could not be judged, and all, in the file.

    Raises:
        UsageError: when the file holds anything else, or verdicts of another guard.
    """

    def __init__(self, path: Path, guard: Guard) -> None:
        self.path, self.flagged, self.failed, self.known = path, 0, 0, 0
        head = {"guard": fingerprint(guard.detector)[:12], "threshold": guard.threshold}
        if path.exists():
            first, self._whole = self._read_head()
            if first != head:
                raise UsageError(f"{path} holds no verdicts of this guard; a new file expected, or the one of an earlier call")
        else:
            write_text(path, json.dumps(head) + "\n")
            self._whole = path.stat().st_size

    def _read_head(self) -> tuple[Any, int]:
        with opened(self.path) as f:
            line = f.readline(LONGEST)
            try:
                return json.loads(line), len(line)
            except ValueError:
                return None, 0

    def left(self, sources: Iterable[Source]) -> Iterator[Source]:
        """The pictures that the file says nothing of yet.

        Raises:
            UsageError: when the pictures are not those of the file.
        """
        found = iter(sources)
        with opened(self.path) as f:
            f.seek(self._whole)
            while line := f.readline(LONGEST):
                if not line.endswith(b"\n"):
                    break  # a call was stopped while it wrote
                said, source = parsed(line, self.path), next(found, None)
                if source is None or not isinstance(said, dict) or said.get("image") != source.name:
                    there = said.get("image") if isinstance(said, dict) else None
                    other = "no more pictures" if source is None else source.name
                    raise UsageError(f"{self.path} goes on with {there}, and here follows {other}: other pictures; a new file expected")
                self._whole += len(line)
                self._count(said)
        with writing(self.path):
            os.truncate(self.path, self._whole)
        yield from found

    def _count(self, said: dict[str, Any]) -> None:
        self.known += 1
        self.flagged += bool(said.get("flagged"))
        self.failed += "error" in said

    def keep(self, found: Iterable[tuple[str, PictureVerdict | Error]]) -> Iterator[int]:
        """Write what is found, and say after each piece how many pictures are in the file."""
        with appending(self.path) as f:
            for name, said in found:
                line = said.json() if isinstance(said, PictureVerdict) else {"image": name, "error": str(said)}
                f.write(json.dumps(line).encode() + b"\n")
                self._count(line)
                if self.known % FLUSHED == 0:
                    f.flush()
                yield self.known


def _overlay(image: torch.Tensor, map_: torch.Tensor, path: Path) -> None:
    """The picture in grey with the map in red over it, enlarged to at least 224 pixels."""
    grey = image.mean(0).numpy()
    m = map_.numpy()
    mixed = np.stack([grey * (1 - m) + m, grey * (1 - 0.7 * m), grey * (1 - 0.7 * m)])
    factor = max(1, -(-224 // min(grey.shape)))
    write_pixels(path, (255 * mixed).round().clip(0, 255).astype(np.uint8).repeat(factor, 1).repeat(factor, 2))


__all__ = ["Journal", "PictureVerdict", "each", "guard_of", "judge", "kept", "loaded", "read_picture"]
