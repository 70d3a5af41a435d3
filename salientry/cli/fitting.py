"""A guard for a user's own classifier, from the words of a command to its report."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ..classifiers import load_classifier, named, save_classifier
from ..datasets import Arrays, Folder
from ..detectors import as_detector
from ..errors import DataMissing, UsageError
from ..experiment.fit_guard import fit_guard
from ..experiment.refit_guard import refit_guard
from ..experiment.second_network import SecondNetwork
from ..files import read_text
from ..guard import Guard
from ..guard_cost import cost_text
from ..guard_files import description, externals
from ..learned import facts_of
from ..rates import measured, short
from ..runner.run import usable
from ..store import JSON, writing
from ..types import Roles
from .attack_files import size_text
from .lines import NAME, print_line, program

Say = Callable[[str], Any]
STORE = ".store"  # of intermediate results, below the guard's folder until it is complete
QUIET = 15.0  # seconds between lines when nobody watches
MOST_NAMES = 10  # classes that are named in a line
NONE = Roles(0, 0, 0, 0, 0)  # the fit says which image has which role


def execute(
    classifier: str,
    weights: Path | None,
    data: Path,
    out: Path,
    *,
    second: str | None,
    second_weights: Path | None,
    train_second: Path | None,
    groups: Path | None,
    detectors: Sequence[str],
    workers: int,
    device: str,
    seed: int,
    store: Path | None,
    say: Say,
    like: Path | None = None,
    **how: Any,
) -> Guard:
    """Fit a guard, write it and its report into ``out``, and say how good it is.

    Args:
        classifier: module:callable or a folder.
        weights: of it.
        data: a folder of pictures or an .npz.
        out: folder of the guard.
        second: the second network, as ``classifier``.
        second_weights: of it.
        train_second: images that a second network is trained on, in its place.
        groups: a text file, a name a line.
        detectors: names, or module:name.
        workers: processes; 0: one a core.
        device: where to compute.
        seed: of everything that is drawn.
        store: folder of intermediate results; None: below ``out``, and removed at the end.
        say: prints a line.
        like: folder of a guard whose choices are kept (:func:`~salientry.refit_guard`); None: a new one.
        **how: further arguments of :func:`~salientry.fit_guard`.

    Raises:
        Error: see :mod:`salientry.errors`; what was complete is in the store.
    """
    if workers < 0:
        raise UsageError(f"--workers counts from 0 (one process per core); found {workers}")
    _check_second(second, second_weights, train_second, out)
    refuse_other_files(out, data)
    device = usable(device)
    net = load_classifier(classifier, weights).to(device)
    other: Any = None if second is None else load_classifier(second, second_weights).to(device)
    if train_second is not None:
        other = SecondNetwork(train_second)
    chosen = [named(d, "detector") if ":" in d else d for d in detectors]
    images = read(data)
    together = None if groups is None else grouped(groups, images)
    say(_described(images, data))
    how |= {"second": other, "groups": together, "store": store or out / STORE, "seed": seed, "workers": workers or None}
    how |= {"progress": True if sys.stderr.isatty() else Lines()}
    if like is None:
        guard = fit_guard(net, images, detector=chosen or None, **how)
    else:
        before = description(like)["learnt"]["detector"]["facts"].get("fit")
        guard = refit_guard(like, net, images, detector=chosen[0] if chosen else None, **how)
    nets = {"--classifier": classifier, "--weights": weights, "--second": second, "--second-weights": second_weights}
    cost = guard.cost()
    command = _leave(guard, net, out, images, nets, detectors, cost)
    if store is None:
        shutil.rmtree(out / STORE, ignore_errors=True)
    for line in [*str(guard).splitlines(), *(f"cost: {text}" for text in cost_text(cost)[:1])]:
        say(line)
    if like is not None:
        say(compared(before, facts_of(guard.detector)["fit"], like))
    if other is not None and guard.second is None:
        say("the second network is not asked: the detector that was chosen does without it")
    say(f"written: {out / 'guard.json'}, and the report: {out / 'card.md'}, {out / 'card.json'}")
    say(f"to check pictures: {program()}{command.removeprefix(NAME)}")
    return guard


def compared(before: Any, now: Any, like: Path) -> str:
    """One line: how good a guard was, by its own report, and how good the one made after it is."""
    if not before or "attacks" not in before:
        return f"the guard in {like} says nothing of how good it was"

    def rate(facts: Any, name: str) -> str:
        if name == "attacks":
            known = [a["found"] for a in facts["attacks"] if a["found"][1]]
            return short(sum(k / n for k, n in known) / len(known)) if known else "none"
        return short(facts[name][0] / facts[name][1])

    names = {
        "accuracy": "accuracy of the classifier",
        "attacks": "attacked images found, mean over attacks",
        "natural": "natural images flagged",
    }
    return f"before and now: {'; '.join(f'{what} {rate(before, n)}, {rate(now, n)}' for n, what in names.items())}"


def _check_second(second: str | None, weights: Path | None, images: Path | None, out: Path) -> None:
    """Raise for words about the second network that cannot be meant: its own, of its weights, of images to train it on."""
    if second is None and weights is not None:
        raise UsageError("--second-weights needs --second module:callable, the network that they are of")
    if images is None:
        return
    if second is not None:
        raise UsageError("--second gives a network and --train-second trains one; one of them or neither expected")
    if not images.exists():
        raise DataMissing(f"no images at {images}: a folder of pictures or an .npz file to train the second network on expected")
    refuse_other_files(out, images, "--train-second")


def refuse_other_files(out: Path, data: Path, option: str = "--data") -> None:
    """Nothing but a guard is ever written over.

    Raises:
        UsageError: when the folder holds other things, or is the images' own.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file; a folder expected")
    if data.is_dir() and out.resolve().is_relative_to(data.resolve()):
        raise UsageError(f"--out {out} lies in {option} {data}: the guard's files would be taken for images")
    found = sorted(p.name for p in out.iterdir() if p.name != STORE) if out.exists() else []
    if found and "guard.json" not in found:
        raise UsageError(f"--out {out} holds {found[0]!r} and no guard; a new or empty folder, or one with a guard to replace, expected")


def read(data: Path) -> Folder | Arrays:
    """The images with their classes.

    Raises:
        DataMissing: when there is nothing there.
        DataError: for files that cannot be used.
        UsageError: for images that are not alike, or have no class.
    """
    if not data.exists():
        raise DataMissing(f"no images at {data}: a folder of pictures, one sub-folder a class, or an .npz file expected")
    return Folder(data, NONE) if data.is_dir() else Arrays.from_file(data, NONE)


def grouped(path: Path, images: Folder | Arrays) -> list[str]:
    """The name of each image's group, in the images' own order.

    Args:
        path: a text file, one name a line: in the order of the .npz, or of a folder's sub-folders' and pictures' names.
        images: that they are of.

    Raises:
        DataMissing: when there is no such file.
        UsageError: when it does not have one name an image.
    """
    if not path.is_file():
        raise DataMissing(f"no groups at {path}: a text file with a name for each image expected")
    names = [line.strip() for line in read_text(path).splitlines()]
    count = len(images.labels)
    if len(names) != count or not all(names):
        empty = next((f"; line {i} is empty" for i, n in enumerate(names, 1) if not n), "")
        raise UsageError(f"{path} must have one name a line for each of {count} images; found {len(names)} lines{empty}")
    if isinstance(images, Arrays):
        return names
    order = sorted(range(count), key=lambda i: images.pictures.names[i].split("/"))
    found = dict(zip(order, names, strict=True))
    return [found[i] for i in range(count)]


class Lines:
    """Says how far a long call is, now and then, where nobody watches a bar."""

    def __init__(self, call: str = "fit") -> None:
        self.call, self.last = call, time.monotonic()

    def begin(self, name: str) -> None:
        """Hear that something else begins, which the shares from now on are of."""
        self.call = f"{self.call.partition(':')[0]}: {name}"

    def say(self, text: str) -> None:
        """Hear a sentence, which is said at once."""
        print_line(f"{self.call.partition(':')[0]}: {text}", err=True)

    def __call__(self, share: float, left: float) -> None:
        """Hear of the share that is done and of the seconds left."""
        if time.monotonic() - self.last > QUIET:
            self.last = time.monotonic()
            print_line(f"{self.call}: {measured(share)} done, about {left:.0f} s left", err=True)


def _described(images: Folder | Arrays, data: Path) -> str:
    """What was read."""
    shape = images.pictures.shape if isinstance(images, Folder) else images.images.shape
    text = f"{shape[0]} images of {size_text(shape[1:])} from {data}"
    if not (names := _names(images)):
        return text
    return (
        f"{text}; classes: {', '.join(f'{i} = {n}' for i, n in enumerate(names[:MOST_NAMES]))}{', ...' if len(names) > MOST_NAMES else ''}"
    )


def _names(images: Folder | Arrays) -> tuple[str, ...]:
    return images.class_names if isinstance(images, Folder) else ()


def _leave(
    guard: Guard, net: nn.Module, out: Path, images: Folder | Arrays, nets: dict[str, Any], detectors: Sequence[str], cost: JSON
) -> str:
    """Write the guard, its classifier where that is ours, and the report; the command that checks pictures with it."""
    ours = "recipe" in vars(net)
    guard.save(out, classifier_at="classifier" if ours else None)
    if ours:
        save_classifier(net, out / "classifier")
    elif (out / "classifier" / "classifier.json").exists():  # of the guard that was there before
        with writing(out):
            shutil.rmtree(out / "classifier")
    keys = [] if ours else ["--classifier", "--weights"]
    keys += ["--second", "--second-weights"] if guard.second is not None else []
    words = [word for k in keys if nets[k] is not None for word in (k, str(nets[k]))]
    kept = {m.settings.name for m in externals(guard.detector)}
    words += [word for d in detectors if ":" in d and as_detector(named(d, "detector")).name in kept for word in ("--detector", d)]
    command = f"{NAME} check {shlex.quote(str(out))} PICTURE... {shlex.join(words)}".strip()
    guard.report(out, _names(images), command, cost)
    return command


__all__ = ["compared", "execute", "grouped", "read", "refuse_other_files"]
