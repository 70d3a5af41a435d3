"""Attacks on a user's own classifier, from the words of a command to a table: who is attacked, with what, and how it went."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from .. import __version__
from ..attacks import ATTACKS, as_attack
from ..classifiers import CLASSIFIERS, External, load_classifier, named, save_classifier
from ..classifiers._loading import read_weights
from ..datasets._folder import pictures
from ..errors import UsageError, theirs
from ..files import read_object
from ..guard_files import description
from ..keys import default_of, digest, encode
from ..rates import short
from ..runner.run import exact, usable
from ..store import JSON, one_of, write_json
from ..types import Attack, Shape
from .attack_files import attack_in_batches, claim, measure_files, naturals_flagged, prepared, size_text
from .checking import guard_of

Say = Callable[[str], Any]


# --- what was asked for ----------------------------------------------------------------------------------------


def chosen(names: list[str], settings: list[str]) -> dict[str, Attack]:
    """The attacks, by name, with their settings.

    Args:
        names: of ``ATTACKS``, ``module:name`` of an attack or of a function without arguments that makes one, also several with commas
            between them, or ``all``.
        settings: ``KEY=VALUE`` for every attack named, ``NAME.KEY=VALUE`` for one of them; ``8/255`` is a number.

    Raises:
        UsageError: for an attack or a setting that there is not, or a value that cannot be used.
    """
    wanted = [n.strip() for text in names for n in text.split(",")]
    own = {n.partition(":")[2]: n for n in wanted if ":" in n}
    wanted = [n for n in wanted if ":" not in n]
    for n in wanted:
        one_of("attack", n, [*ATTACKS, "all"])
    given: dict[str, dict[str, Any]] = {n: {} for n in (ATTACKS if "all" in wanted else wanted)}
    if twice := set(own) & set(given):
        raise UsageError(f"an attack of one's own is called as one of this package: {sorted(twice)[0]}; give it another name")
    for text in settings:
        left, equals, raw = text.partition("=")
        who, dot, key = left.rpartition(".")
        if not equals:
            raise UsageError(f"--set wants KEY=VALUE or ATTACK.KEY=VALUE; found {text!r}")
        if dot and who not in given:
            raise UsageError(f"--set {text}: {who!r} is not among the attacks asked for: {', '.join(given)}")
        for n in [who] if dot else given:
            given[n][key] = _value(n, key, raw, alone=len(given) == 1)
    return {n: ATTACKS[n](**values) for n, values in given.items()} | {n: attack_at(word) for n, word in own.items()}


def attack_at(word: str) -> Attack:
    """The attack at ``module:name``, of this package, of the user or of another library.

    Raises:
        UsageError: for a name that leads nowhere, or to no attack.
    """
    found = named(word, "attack")
    if isinstance(found, type) or inspect.isroutine(found):
        with theirs(f"{word} is called without arguments and should give an attack; it raised"):
            found = found()
    return as_attack(found)


def _value(name: str, key: str, raw: str, alone: bool) -> Any:
    """A setting's value, of its default's type."""
    known = {f.name: default_of(f) for f in dataclasses.fields(ATTACKS[name])}  # type: ignore[arg-type]
    if key not in known:
        has = ", ".join(f"{k}={v}" for k, v in known.items())
        raise UsageError(
            f"{name} has no setting {key!r}; it has: {has}" + ("" if alone else f" (for one attack alone: --set NAME.{key}=...)")
        )
    default = known[key]
    if isinstance(default, str):
        return raw
    ratio = re.fullmatch(r"\s*([\d.]+)\s*/\s*([\d.]+)\s*", raw)
    try:
        words = {"true": "True", "false": "False", "none": "None"}
        value = float(ratio[1]) / float(ratio[2]) if ratio else ast.literal_eval(words.get(raw.lower(), raw))
    except (ValueError, SyntaxError, ZeroDivisionError):
        value = raw
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if default is not None and type(value) is not type(default):
        raise UsageError(f"{name}: {key} must be {type(default).__name__}, like {default}; found {raw!r}")
    return value


def attacked(name: str, weights: Path | None, shape: tuple[int, ...]) -> nn.Module:
    """The classifier that a name and weights stand for, behind :class:`External`.

    Args:
        name: ``module:callable``, a folder with a ``classifier.json``, or a name of ``CLASSIFIERS``, which is built for the
            images' shape and for as many classes as the weights have outputs.
        weights: to load into it; a name of ``CLASSIFIERS`` needs them.
        shape: (C, H, W) of the images.

    Raises:
        UsageError: for a name that leads nowhere, or a classifier built for other images.
        DataError: for weights that cannot be read.
    """
    if name in CLASSIFIERS and not (Path(name) / "classifier.json").is_file():
        module = _built(name, weights, shape)
    elif ":" in name or (Path(name) / "classifier.json").is_file():
        module = load_classifier(name, weights)
    else:
        raise UsageError(
            f"classifier {name!r} is neither module:callable, nor a folder with a classifier.json, nor one of: {', '.join(CLASSIFIERS)}"
        )
    _, args = vars(module).get("recipe", (None, ()))
    built = next((a for a in args if isinstance(a, Shape)), None)
    size = None if built is None else (built.channels, built.height, built.width)
    if size is not None and size != tuple(shape):
        raise UsageError(f"classifier {name!r} was built for images of {size_text(size)}; these are {size_text(shape)}")
    return module if isinstance(module, External) else External(module)


def _bare(name: str, weights: Path | None, net: nn.Module) -> nn.Module:
    """The same classifier as guards are fitted for it: without the wrapping of attacks."""
    ours = name in CLASSIFIERS and not (Path(name) / "classifier.json").is_file()
    return vars(net)["_modules"]["module"] if ours else load_classifier(name, weights)


def _built(name: str, weights: Path | None, shape: tuple[int, ...]) -> nn.Module:
    """The output layer is what differs between nets for two and for three classes; the weights say how long it is."""
    if weights is None:
        raise UsageError(f"classifier {name!r} needs --weights FILE: there is nothing to learn from attacks on an untrained network")
    state, _ = read_weights(weights)
    sizes = {k: tuple(v.shape) for k, v in state.items() if isinstance(v, torch.Tensor)}
    settings = CLASSIFIERS[name]()
    two, three = (settings.build(Shape(shape[0], shape[1], shape[2], k)).state_dict() for k in (2, 3))
    output, axis = next((k, i) for k, v in two.items() for i, n in enumerate(v.shape) if n != three[k].shape[i])
    if len(sizes.get(output, ())) <= axis:
        raise UsageError(f"the weights in {weights} do not fit {name}: they have no output layer {output!r}")
    with tempfile.TemporaryDirectory() as folder:
        save_classifier(settings.build(Shape(shape[0], shape[1], shape[2], sizes[output][axis])), folder)
        return load_classifier(folder, weights)


# --- the command -----------------------------------------------------------------------------------------------


def execute(
    classifier: str,
    weights: Path | None,
    names: list[str],
    data: Path,
    out: Path,
    *,
    settings: list[str],
    png: bool,
    limit: int | None,
    seed: int,
    device: str,
    say: Say,
    guard: Path | None = None,
    beside: Mapping[str, Any] | None = None,
) -> JSON:
    """Attack a classifier, write the results into ``out``, and say what came of it; the content of ``attacks.json``.

    With the folder of a ``guard`` (``beside``: what :func:`~salientry.cli.checking.guard_of` is to be given) also what gets past it.

    Raises:
        Error: see :mod:`salientry.errors`; what was complete is in ``out``.
    """
    attacks = chosen(names, settings)
    if seed < 0 or (limit is not None and limit < 1):
        raise UsageError(f"--seed counts from 0 and --limit from 1; found {seed} and {limit}")
    device = usable(device)
    if data.is_dir() and out.resolve().is_relative_to(data.resolve()):
        raise UsageError(f"--out {out} lies in --data {data}: results would be taken for images")
    images = pictures(data, limit)
    if png and (not images.eight_bit or images.shape[0] not in (1, 3)):
        why = "floats that are no whole numbers of 255ths" if not images.eight_bit else f"of {images.shape[0]} channels"
        raise UsageError(f"--png wants 8-bit images of 1 or 3 channels; those in {data} are {why}")
    with exact(device):
        net = attacked(classifier, weights, images.shape)
        guarding = None if guard is None else guard_of(guard, _bare(classifier, weights, net), device, **(beside or {}))
        job = replace(prepared(images, net, device, seed), guard=guarding)
        claim(out, job, attacks)
        head: dict[str, JSON] = {"salientry": __version__, "classifier": classifier, "data": str(data), "device": device, "limit": limit}
        head |= {"identity": job.identity, "shape": list(images.shape), "n": int(job.right.sum())}
        head["accuracy"] = None if images.labels is None else float(job.right.mean())
        guarded: JSON = (
            None if guard is None else {"folder": str(guard), "sha256": digest(description(guard)), "naturals": naturals_flagged(job)}
        )
        say(f"{len(images)} images of {size_text(images.shape)} from {data}")
        if images.classes:
            more = ", ..." if len(images.classes) > 10 else ""
            say(f"labels: {', '.join(f'{i} = {c}' for i, c in enumerate(images.classes[:10]))}{more}")
        if images.labels is not None:
            say(f"accuracy {short(job.right.mean())}; success is counted among the {job.right.sum()} images that are right")
        earlier = read_object(out / "attacks.json", attacks=dict)["attacks"] if (out / "attacks.json").exists() else {}
        results = {n: e for n, e in earlier.items() if n not in attacks and (out / n / "columns.safetensors").exists()}
        for name, attack in attacks.items():
            eight = png or (out / name / "png").is_dir()  # pictures of an earlier call stay measured
            seconds = attack_in_batches(out / name, job, name, attack, eight)
            found = measure_files(out / name, job, attack, eight)
            results[name] = {"attack": encode(attack), "eps": attack.eps, "key": job.key(attack), "seconds": round(seconds, 2)} | found
            if guarded is not None:
                results[name]["guard"] |= guarded
            write_json(out / "attacks.json", head | {"attacks": results})
    show({n: results[n] for n in attacks}, head, say)
    if guarded is not None:
        flags = guarded["naturals"]
        say(
            f"past guard: of the images that fool the classifier (8-bit with --png) those that {guard} does not flag; before they are "
            f"attacked it flags {flags['flagged']} of {flags['of']} images"
        )
    for name, attack in attacks.items():
        if attack.eps and (still := results[name]["float32"]["unchanged"]):
            say(f"{name} left {still} of {head['n']} images as they were: the gradient in them is 0 (does the network saturate or round?)")
    say(
        f"written: {out / 'attacks.json'}, {out}/<attack>/images-*.safetensors, columns.safetensors"
        + (", png/" if any(r["png"] for r in results.values()) else "")
    )
    return head | {"attacks": results}


def show(results: dict[str, JSON], head: dict[str, JSON], say: Say) -> None:
    """The table: drawn on a terminal, plain elsewhere."""
    kinds = [k for k in ("float32", "png") if any(r[k] for r in results.values())]
    titles = ["attack", "n", *("success 8-bit" if k == "png" else "success float" for k in kinds)]
    shown = any("guard" in r for r in results.values())
    sizes = {"l2": "median L2", "rms": "RMS", "linf": "Linf"} | ({} if shown else {"l0": "L0"})  # of all there is no room
    titles += (["past guard"] if shown else []) + (["accuracy after"] if head["accuracy"] is not None else [])
    titles += [*sizes.values(), "seconds"]
    rows = []
    for name, r in results.items():
        cells = [name, str(head["n"]), *(short(r[k] and r[k]["success"]) for k in kinds)]
        cells += [_past(r["guard"])] if shown else []
        cells += [short(r["float32"]["accuracy"])] if head["accuracy"] is not None else []
        rows.append([*cells, *(short(r["float32"]["median"][k], digits=4) for k in sizes), f"{r['seconds']:.1f}"])
    if sys.stdout.isatty():
        table = Table(box=None, padding=(0, 1, 0, 0))  # fits 80 columns
        for i, t in enumerate(titles):
            table.add_column(t.replace(" ", "\n"), justify="right" if i else "left")
        for row in rows:
            table.add_row(*row)
        Console().print(table)
    else:
        widths = [max(len(r[i]) for r in [titles, *rows]) for i in range(len(titles))]
        for row in [titles, *rows]:
            say("  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))))
    say(f"sizes: medians of the successful float32 images, in [0, 1] units{'' if shown else '; L0 is the share of values changed'}")


def _past(found: JSON) -> str:
    """Of the 8-bit images where there are some."""
    counts = found["png"] or found["float32"]
    return f"{counts['past']}/{counts['fooled']}"
