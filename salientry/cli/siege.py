"""One classifier under attack: what is computed, what is written where, and what is measured from the files.

``OUT/<attack>/images-<first>.safetensors`` hold what the attack proposes, one file a batch, each whole or not there; what is
there is not computed again. Every number is measured from the files that were written, never from what was in memory.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from ..datasets._folder import Pictures
from ..datasets._picture import read_pixels, write_pixels
from ..errors import DataDamaged, UsageError, theirs
from ..files import read_object
from ..keys import digest, encode, label
from ..learned import fingerprint, frozen
from ..preflight import preflight
from ..protocol import PUBLISHED, STRICT, EvaluationProtocol, stored, within
from ..randomness import ATTACK_STREAM, image_ids, image_seeds
from ..rows import id_bytes
from ..store import JSON, read_arrays, write_arrays, write_json
from ..types import Attack
from .bars import QUIET

Columns = dict[str, NDArray[Any]]
SIZES = ("l2", "rms", "linf", "l0")


@dataclass(frozen=True, eq=False)
class Siege:
    """A classifier, images, and what it says of them: what every attack starts from.

    Attributes:
        data: the images.
        classifier: who is attacked.
        predicted: int64 (N,), the label that an attack is to leave.
        device: where to compute.
        seed: of what attacks draw.
        identity: what the results in a folder have in common.
    """

    data: Pictures
    classifier: nn.Module
    predicted: Tensor
    device: str
    seed: int
    identity: dict[str, JSON]

    @property
    def right(self) -> NDArray[np.bool_]:
        """(N,) which images were classified right; all of them when nobody knows."""
        return np.full(len(self.data), True) if self.data.labels is None else self.predicted.cpu().numpy() == self.data.labels

    def key(self, attack: Attack) -> str:
        """What arrays are named by: the attack with its settings, weights, images, answers, seed, borders of the batches."""
        return digest(attack, self.identity, size_of_batch(self.data.shape))

    def batches(self) -> Iterator[tuple[int, int]]:
        """First row and end of each batch."""
        size = size_of_batch(self.data.shape)
        return ((s, min(s + size, len(self.data))) for s in range(0, len(self.data), size))


def told_size(shape: tuple[int, ...]) -> str:
    """A shape for people."""
    return f"{shape[0]} x {shape[1]} x {shape[2]} (channels, height, width)"


def size_of_batch(shape: tuple[int, ...]) -> int:
    """Images computed and written at once: 100, fewer when they are large."""
    return max(1, min(100, 4_000_000 // int(np.prod(shape))))


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """One thread and full float32, as in a run: the same files to the last bit however they were reached."""
    threads, tf32, fixed = torch.get_num_threads(), torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = False, True
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = tf32, fixed


def looked(data: Pictures, classifier: nn.Module, device: str, seed: int) -> Siege:
    """Ask the classifier about every image.

    Raises:
        UsageError: when it cannot take them, its answers are no logits, or a label is none of its classes.
    """
    classifier = classifier.to(device)
    found, size = [], size_of_batch(data.shape)
    with theirs(f"the classifier fails on images of {told_size(data.shape)}", classifier):
        seen = preflight(classifier, _Spread(data), None if data.labels is None else torch.from_numpy(data.labels), data.names)
        with frozen(classifier), torch.no_grad():
            for start in range(0, len(data), size):
                logits = classifier(data.batch(start, min(start + size, len(data))).to(device))
                if not bool(torch.isfinite(logits).all()):
                    bad = int((~torch.isfinite(logits)).any(1).nonzero()[0, 0])
                    raise UsageError(f"the classifier gives logits that are not finite on {data.names[start + bad]}")
                found.append(logits.argmax(1))
    predicted = torch.cat(found)
    answers = digest(predicted.tolist())  # code that is no weight changes these
    images = digest(data.ids.tolist(), data.names, None if data.labels is None else data.labels.tolist())
    identity = {"classifier": fingerprint(classifier), "answers": answers, "images": images, "count": len(data), "seed": seed}
    if seen.advice:
        warnings.warn(f"{seen.told()}. {seen.advice}", stacklevel=2)
    return Siege(data, classifier, predicted, device, seed, identity)


class _Spread:
    """The pictures by index: a ``types.Images``."""

    def __init__(self, data: Pictures) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, at: Tensor) -> Tensor:
        return torch.cat([self.data.batch(i, i + 1) for i in at.tolist()])


def claim(out: Path, siege: Siege, attacks: dict[str, Attack]) -> None:
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
            if there.get(part) != siege.identity[part]:
                counts = f" ({there.get('count')} there, {len(siege.data)} now)" if part == "images" else ""
                raise UsageError(f"{out} holds attacks on {said}{counts}; {elsewhere}")
        if there.get("seed") != siege.seed:
            raise UsageError(f"{out} holds attacks with seed {there.get('seed')}, not {siege.seed}; {elsewhere}")
    for name, attack in attacks.items():
        note = out / name / "attack.json"
        if note.exists() and (there := read_object(note, key=str, attack=dict, seconds=dict))["key"] != siege.key(attack):
            settings = (there.get("attack"), encode(attack))
            before, now = (", ".join(f"{k}={v}" for k, v in (a or {}).items() if k != "class") for a in settings)
            raise UsageError(f"{out / name} holds {name} with {before}, and {now} was asked for; {elsewhere}")
    labels = None if siege.data.labels is None else siege.data.labels.tolist()
    rows = {"names": list(siege.data.names), "ids": siege.data.ids.tolist(), "labels": labels, "predicted": siege.predicted.tolist()}
    write_json(out / "images.json", {"identity": siege.identity, "classes": list(siege.data.classes)} | rows)


def propose(folder: Path, siege: Siege, name: str, attack: Attack, png: bool) -> float:
    """Compute and write what is not there yet: arrays, and pictures when they are asked for; seconds of the attack itself."""
    key, note = siege.key(attack), folder / "attack.json"
    known = read_object(note, seconds=dict) if note.exists() else {}
    seconds: dict[str, float] = known.get("seconds", {})
    pictures: dict[str, str] = known.get("pictures", {})
    body = {"key": key, "label": label(attack), "attack": encode(attack), "eps": attack.eps, "seconds": seconds, "pictures": pictures}
    write_json(note, body)
    names = png_names(siege.data.names)
    batches = list(siege.batches())
    with _bar(name, len(batches)) as count:
        for start, stop in batches:
            path, fresh = _shard(folder, start), not _shard(folder, start).exists()
            x, own = siege.data.batch(start, stop).to(siege.device), siege.predicted[start:stop]
            if fresh:
                began = time.perf_counter()
                seeds = image_seeds(siege.data.ids[start:stop], 1000 * siege.seed, ATTACK_STREAM).to(siege.device)
                with theirs(f"{name} fails on this classifier"):
                    made = attack(siege.classifier, x, own, seeds=seeds).detach().cpu().numpy()
                seconds[path.stem] = round(time.perf_counter() - began, 4)
                mark = np.frombuffer(key.encode(), np.uint8)
                write_arrays(path, {"image": [made], "id": [id_bytes(siege.data.ids[start:stop])], "key": [mark]})
                write_json(note, body)
            files = [folder / "png" / n for n in names[start:stop]]
            if png and (fresh or not all(f.exists() and n in pictures for f, n in zip(files, names[start:stop], strict=True))):
                z = torch.from_numpy(_written(folder, siege, key, start, stop)).to(siege.device)
                z = stored(siege.classifier, x, z, own, STRICT, attack.eps, is_control=False)
                eight = (z * 255).round().to(torch.uint8).cpu().numpy()
                for file, pixels in zip(files, eight, strict=True):
                    write_pixels(file, pixels)
                pictures.update(zip(names[start:stop], image_ids(eight).tolist(), strict=True))
                write_json(note, body)
            count()
    return sum(seconds.values())


@contextlib.contextmanager
def _bar(name: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar for people, a line now and then for a log; call what it gives after each batch."""
    console = Console(file=sys.stderr)
    spoke, done = time.monotonic(), 0
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=total)

        def count() -> None:
            nonlocal spoke, done
            done += 1
            progress.update(task, completed=done)
            if not console.is_terminal and time.monotonic() - spoke > QUIET:
                spoke = time.monotonic()
                print(f"{name}: {done} of {total} batches", file=sys.stderr, flush=True)

        yield count


def _shard(folder: Path, start: int) -> Path:
    return folder / f"images-{start:09d}.safetensors"


def png_names(names: tuple[str, ...]) -> list[str]:
    """The sources' own names, ending in .png; with their old ending before it when two would get one name."""
    found = [Path(n).with_suffix(".png").as_posix() for n in names]
    return found if len(set(found)) == len(found) else [f"{n}.png" for n in names]


# --- what was written ------------------------------------------------------------------------------------------


def _written(folder: Path, siege: Siege, key: str, start: int, stop: int) -> NDArray[np.float32]:
    """The images of a file.

    Raises:
        DataDamaged: when the file is not of this attack on these images.
    """
    path = _shard(folder, start)
    arrays = read_arrays(path)
    expected = {"image": (stop - start, *siege.data.shape), "id": (stop - start, 16), "key": (len(key),)}
    same = {k: v.shape for k, v in arrays.items()} == expected and arrays["image"].dtype == np.float32
    if not same or bytes(arrays["key"]) != key.encode() or (arrays["id"] != id_bytes(siege.data.ids[start:stop])).any():
        raise DataDamaged(f"{path} is not of this attack on these images; remove it, and the same command computes it again")
    return np.array(arrays["image"])


def measured(siege: Siege, attack: Attack, rules: EvaluationProtocol, images: Callable[[int, int], Tensor]) -> Columns:
    """What the classifier says of the images as written, and how far each is from its natural; (N,) each."""
    out: list[dict[str, Tensor]] = []
    with frozen(siege.classifier), torch.no_grad():
        for start, stop in siege.batches():
            x, z = siege.data.batch(start, stop).to(siege.device), images(start, stop).to(siege.device)
            predicted, own, size = siege.classifier(z).argmax(1), siege.predicted[start:stop], (z - x).flatten(1)
            found = {"predicted_after": predicted, "changed": predicted != own, "in_budget": within(x, z, rules, attack.eps)}
            found |= {"rms": size.square().mean(1).sqrt(), "l2": size.norm(dim=1), "linf": size.abs().amax(1)}
            out.append(found | {"l0": (size != 0).float().mean(1)})
    columns = {k: torch.cat([o[k] for o in out]).cpu().numpy() for k in out[0]}
    return columns | {"success": columns["changed"] & columns["in_budget"] & siege.right}


def summary(siege: Siege, columns: Columns) -> dict[str, JSON]:
    """Success among the images that were right (among all without labels), and how many of them the attack left as they were; median
    sizes of the successful ones.
    """
    right, won = siege.right, columns["success"]
    after = None if siege.data.labels is None else float((columns["predicted_after"] == siege.data.labels).mean())
    median = {k: statistics.median(columns[k][won].tolist()) if won.any() else None for k in SIZES}
    share, still = float(won.sum() / right.sum()) if right.any() else None, int((right & (columns["l0"] == 0)).sum())
    return {"success": share, "successes": int(won.sum()), "unchanged": still, "accuracy": after, "median": median}


def settled(folder: Path, siege: Siege, attack: Attack, png: bool) -> dict[str, JSON]:
    """Read everything back, measure it, write the columns; the summary of each kind of file.

    Raises:
        DataDamaged: when a file is no longer what was written.
    """
    key, names = siege.key(attack), png_names(siege.data.names)
    pictures = read_object(folder / "attack.json", pictures=dict)["pictures"]

    def pixels(start: int, stop: int) -> Tensor:
        found = [read_pixels(folder / "png" / n) for n in names[start:stop]]
        for n, p in zip(names[start:stop], found, strict=True):
            if p.shape != tuple(siege.data.shape) or pictures.get(n) not in (None, image_ids(p[None])[0]):
                raise DataDamaged(f"{folder / 'png' / n} is not the picture that was written there; remove it")
        return torch.from_numpy(np.stack(found)).float() / 255

    floats = measured(siege, attack, PUBLISHED, lambda a, b: torch.from_numpy(_written(folder, siege, key, a, b)))
    columns: Columns = {"id": id_bytes(siege.data.ids), "predicted_before": siege.predicted.cpu().numpy()} | floats
    if siege.data.labels is not None:
        columns["label"] = siege.data.labels
    body: dict[str, JSON] = {"float32": summary(siege, floats), "png": None}
    if png:
        eight = measured(siege, attack, STRICT, pixels)
        columns |= {f"png_{k}": v for k, v in eight.items()}
        body["png"] = summary(siege, eight)
    write_arrays(folder / "columns.safetensors", {k: [v] for k, v in columns.items()})
    return body
