"""What ``salientry attack`` writes, and what is measured of it: the steps of every run on images that were given.

``OUT/<attack>/images-<first>.safetensors`` hold the images of the attack, one file a batch, each complete or not there; what is
there is not computed again. Every number is measured from the files that were written, never from what was in memory.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..batches import Batch, RowImages
from ..datasets._folder import Pictures
from ..errors import DataDamaged, UsageError, theirs
from ..experiment.steps import attack_images, measured
from ..files import JSON, read_object, write_json
from ..guard import Guard
from ..inputs import as_uint8
from ..keys import digest, encode, label
from ..learned import fingerprint, frozen
from ..pixels import read_pixels, write_pixels
from ..preflight import preflight
from ..protocol import PUBLISHED, STRICT, EvaluationProtocol, stored
from ..randomness import image_ids
from ..rows import Rows, id_bytes
from ..store import read_arrays, write_arrays
from ..types import Attack
from .bars import counted

Columns = dict[str, NDArray[Any]]
SIZES = ("l2", "rms", "linf", "l0")


@dataclass(frozen=True, eq=False)
class AttackJob:
    """A classifier, images, and what it says of them: what every attack starts from.

    Attributes:
        data: the images.
        natural: the same as rows, with ``predicted`` (the label that an attack is to leave) and, where somebody said, ``label``.
        classifier: who is attacked.
        seed: of what attacks draw.
        identity: what the results in a folder have in common.
        guard: that the images are shown to, when they are written; None: none.
    """

    data: Pictures
    natural: Rows
    classifier: nn.Module
    seed: int
    identity: dict[str, JSON]
    guard: Guard | None = None

    @property
    def right(self) -> NDArray[np.bool_]:
        """(N,) which images were classified right; all of them when nobody knows."""
        known = self.data.labels is not None
        return np.asarray(self.natural.column("predicted") == self.data.labels) if known else np.full(len(self.data), True)

    def key(self, attack: Attack) -> str:
        """What arrays are named by: the attack with its settings, weights, images, answers, seed, borders of the batches."""
        return digest(attack, self.identity, size_of_batch(self.data.shape))

    def batches(self) -> list[Batch]:
        """The naturals, some at a time."""
        return batches(self.natural, self.data.shape)


def size_text(shape: tuple[int, ...]) -> str:
    """A shape for people."""
    return f"{shape[0]} x {shape[1]} x {shape[2]} (channels, height, width)"


def size_of_batch(shape: tuple[int, ...]) -> int:
    """Images computed and written at once: 100, fewer when they are large."""
    return max(1, min(100, 4_000_000 // int(np.prod(shape))))


def batches(rows: Rows, shape: tuple[int, ...]) -> list[Batch]:
    """Rows with images of this shape, some at a time."""
    size = size_of_batch(shape)
    return [Batch(rows, np.arange(s, min(s + size, len(rows)))) for s in range(0, len(rows), size)]


class _Pixels:
    """The images' pixels, read as they are asked for."""

    def __init__(self, data: Pictures) -> None:
        self.data = data

    def __getitem__(self, at: NDArray[Any] | slice) -> NDArray[Any]:
        if isinstance(at, slice):
            return self.data.read(at)
        neighbours = len(at) > 0 and at[-1] - at[0] == len(at) - 1 and bool((np.diff(at) == 1).all())
        pieces = [slice(int(at[0]), int(at[-1]) + 1)] if neighbours else [slice(int(i), int(i) + 1) for i in at]
        return np.concatenate([self.data.read(piece) for piece in pieces])


def prepared(data: Pictures, classifier: nn.Module, device: str, seed: int) -> AttackJob:
    """Ask the classifier about every image.

    Raises:
        UsageError: when it cannot take them, its answers are no logits, or a label is none of its classes.
    """
    classifier = classifier.to(device)
    columns: dict[str, Any] = {"image": _Pixels(data)} | ({} if data.labels is None else {"label": data.labels})
    rows, found = Rows(data.ids, columns), []
    with theirs(f"the classifier fails on images of {size_text(data.shape)}", classifier):
        seen = preflight(classifier, RowImages(rows), None if data.labels is None else torch.from_numpy(data.labels), data.names)
        with frozen(classifier), torch.no_grad():
            for batch in batches(rows, data.shape):
                logits = classifier(batch.image)
                if not bool(torch.isfinite(logits).all()):
                    bad = int((~torch.isfinite(logits)).any(1).nonzero()[0, 0])
                    raise UsageError(f"the classifier gives logits that are not finite on {data.names[batch.at[bad]]}")
                found.append(logits.argmax(1).cpu().numpy())
    predicted = np.concatenate(found)
    answers = digest(predicted.tolist())  # code that is no weight changes these
    images = digest(data.ids.tolist(), data.names, None if data.labels is None else data.labels.tolist())
    identity = {"classifier": fingerprint(classifier), "answers": answers, "images": images, "count": len(data), "seed": seed}
    if seen.advice:
        warnings.warn(f"{seen.summary()}. {seen.advice}", stacklevel=2)
    return AttackJob(data, rows.widen({"predicted": predicted}, {}), classifier, seed, identity)


def claim(out: Path, job: AttackJob, attacks: dict[str, Attack]) -> None:
    """Note what the folder holds; nothing in it is ever taken for something else, and nothing is overwritten.

    Raises:
        UsageError: when it holds attacks on another classifier or other images, with another seed or other settings.
    """
    elsewhere = "name another --out, or remove that folder"
    if (out / "images.json").exists():
        there = read_object(out / "images.json", identity=dict)["identity"]
        for part, said in (
            ("classifier", "another classifier"),
            ("images", "other images or labels"),
            ("answers", "a classifier of other code"),
        ):
            if there.get(part) != job.identity[part]:
                counts = f" ({there.get('count')} there, {len(job.data)} now)" if part == "images" else ""
                raise UsageError(f"{out} holds attacks on {said}{counts}; {elsewhere}")
        if there.get("seed") != job.seed:
            raise UsageError(f"{out} holds attacks with seed {there.get('seed')}, not {job.seed}; {elsewhere}")
    for name, attack in attacks.items():
        note = out / name / "attack.json"
        if note.exists() and (there := read_object(note, key=str, attack=dict, seconds=dict))["key"] != job.key(attack):
            settings = (there.get("attack"), encode(attack))
            before, now = (", ".join(f"{k}={v}" for k, v in (a or {}).items() if k != "class") for a in settings)
            raise UsageError(f"{out / name} holds {name} with {before}, and {now} was asked for; {elsewhere}")
    labels, predicted = (None if job.data.labels is None else job.data.labels.tolist()), job.natural.column("predicted").tolist()
    rows = {"names": list(job.data.names), "ids": job.data.ids.tolist(), "labels": labels, "predicted": predicted}
    write_json(out / "images.json", {"identity": job.identity, "classes": list(job.data.classes)} | rows)


def attack_in_batches(folder: Path, job: AttackJob, name: str, attack: Attack, png: bool) -> float:
    """Compute and write what is not there yet: arrays, and pictures when they are asked for; seconds of the attack itself."""
    key, note = job.key(attack), folder / "attack.json"
    known = read_object(note, seconds=dict) if note.exists() else {}
    seconds: dict[str, float] = known.get("seconds", {})
    pictures: dict[str, str] = known.get("pictures", {})
    body = {"key": key, "label": label(attack), "attack": encode(attack), "eps": attack.eps, "seconds": seconds, "pictures": pictures}
    write_json(note, body)
    names = png_names(job.data.names)
    with frozen(job.classifier), torch.no_grad():
        for batch in counted(job.batches(), name):
            path = _shard(folder, batch)
            if fresh := not path.exists():
                began = time.perf_counter()
                with theirs(f"{name} fails on this classifier"):
                    made = attack_images.function(batch, job.classifier, attack, seed=1000 * job.seed)["image"].cpu().numpy()
                seconds[path.stem] = round(time.perf_counter() - began, 4)
                write_arrays(path, {"image": [made], "id": [id_bytes(batch.ids)], "key": [np.frombuffer(key.encode(), np.uint8)]})
                write_json(note, body)
            mine = [names[i] for i in batch.at]
            if png and (fresh or not all((folder / "png" / n).exists() and n in pictures for n in mine)):
                z = stored(job.classifier, batch.image, _written(folder, batch, key), batch.predicted, STRICT, attack.eps, is_control=False)
                eight = as_uint8(z).cpu().numpy()
                for n, pixels in zip(mine, eight, strict=True):
                    write_pixels(folder / "png" / n, pixels)
                pictures.update(zip(mine, image_ids(eight).tolist(), strict=True))
                write_json(note, body)
    return sum(seconds.values())


def _shard(folder: Path, batch: Batch) -> Path:
    return folder / f"images-{batch.at[0]:09d}.safetensors"


def png_names(names: tuple[str, ...]) -> list[str]:
    """The sources' own names, ending in .png; with their old ending before it when two would get one name."""
    found = [Path(n).with_suffix(".png").as_posix() for n in names]
    return found if len(set(found)) == len(found) else [f"{n}.png" for n in names]


# --- what was written ------------------------------------------------------------------------------------------


def _written(folder: Path, batch: Batch, key: str) -> Tensor:
    """The images of a file.

    Raises:
        DataDamaged: when the file is not of this attack on these images.
    """
    path = _shard(folder, batch)
    arrays = read_arrays(path)
    expected = {"image": (len(batch), *batch.rows.column("image", slice(0, 1)).shape[1:]), "id": (len(batch), 16), "key": (len(key),)}
    same = {k: v.shape for k, v in arrays.items()} == expected and arrays["image"].dtype == np.float32
    if not same or bytes(arrays["key"]) != key.encode() or (arrays["id"] != id_bytes(batch.ids)).any():
        raise DataDamaged(f"{path} is not of this attack on these images; remove it, and the same command computes it again")
    return torch.from_numpy(np.array(arrays["image"])).to(batch.device)


def _drawn(folder: Path, batch: Batch, names: list[str], pictures: dict[str, str]) -> Tensor:
    """The pictures of a batch.

    Raises:
        DataDamaged: when one is not what was written.
    """
    shape, found = batch.rows.column("image", slice(0, 1)).shape[1:], []
    for n in (names[i] for i in batch.at):
        found.append(read_pixels(folder / "png" / n))
        if found[-1].shape != shape or pictures.get(n) not in (None, image_ids(found[-1][None])[0]):
            raise DataDamaged(f"{folder / 'png' / n} is not the picture that was written there; remove it")
    return torch.from_numpy(np.stack(found)).to(batch.device).float() / 255


def _measured(job: AttackJob, attack: Attack, protocol: EvaluationProtocol, images: Callable[[Batch], Tensor]) -> Columns:
    """What the classifier says of the images as written, and how far each is from its natural; (N,) each."""
    out: list[dict[str, Tensor]] = []
    with frozen(job.classifier), torch.no_grad():
        for batch in job.batches():
            z = images(batch)
            predicted = job.classifier(z).argmax(1)
            out.append({"predicted_after": predicted} | measured(batch, z, predicted, protocol, attack.eps))
            if job.guard is not None:
                out[-1]["flagged"] = job.guard(z).flagged
            out[-1]["l2"] = out[-1]["rms"] * float(np.sqrt(np.prod(job.data.shape)))
    columns = {k: torch.cat([o[k] for o in out]).cpu().numpy() for k in out[0] if k not in ("right", "evaluated")}
    return columns | {"success": columns["changed"] & columns["in_budget"] & job.right}


def summary(job: AttackJob, columns: Columns) -> dict[str, JSON]:
    """Success among the images that were right (among all without labels), and how many of them the attack left as they were; median
    sizes of the successful ones.
    """
    right, won = job.right, columns["success"]
    after = None if job.data.labels is None else float((columns["predicted_after"] == job.data.labels).mean())
    median = {k: statistics.median(columns[k][won].tolist()) if won.any() else None for k in SIZES}
    share, still = float(won.sum() / right.sum()) if right.any() else None, int((right & (columns["l0"] == 0)).sum())
    return {"success": share, "successes": int(won.sum()), "unchanged": still, "accuracy": after, "median": median}


def past_guard(job: AttackJob, columns: Columns) -> dict[str, JSON]:
    """How many images were attacked (those that were right, all without labels), how many of them fool the classifier within the
    budget, and how many of these are not flagged.
    """
    won, flagged = columns["success"], columns["flagged"]
    return {"attacked": int(job.right.sum()), "fooled": int(won.sum()), "past": int((won & ~flagged).sum())}


def naturals_flagged(job: AttackJob) -> dict[str, JSON]:
    """How many of the images the guard flags before they are attacked."""
    assert job.guard is not None
    flags = [job.guard(batch.image).flagged for batch in job.batches()]
    return {"flagged": int(torch.cat(flags).sum()), "of": len(job.data)}


def measure_files(folder: Path, job: AttackJob, attack: Attack, png: bool) -> dict[str, JSON]:
    """Read everything back, measure it, write the columns; the summary of each kind of file, and with a guard what gets past it.

    Raises:
        DataDamaged: when a file is no longer what was written.
    """
    key, names = job.key(attack), png_names(job.data.names)
    pictures = read_object(folder / "attack.json", pictures=dict)["pictures"]
    floats = _measured(job, attack, PUBLISHED, lambda batch: _written(folder, batch, key))
    columns: Columns = {"id": id_bytes(job.data.ids), "predicted_before": job.natural.column("predicted")} | floats
    if job.data.labels is not None:
        columns["label"] = job.data.labels
    body: dict[str, JSON] = {"float32": summary(job, floats), "png": None}
    if png:
        eight = _measured(job, attack, STRICT, lambda batch: _drawn(folder, batch, names, pictures))
        columns |= {f"png_{k}": v for k, v in eight.items()}
        body["png"] = summary(job, eight)
    if job.guard is not None:
        body["guard"] = {"float32": past_guard(job, floats), "png": past_guard(job, eight) if png else None}
    write_arrays(folder / "columns.safetensors", {k: [v] for k, v in columns.items()})
    return body
