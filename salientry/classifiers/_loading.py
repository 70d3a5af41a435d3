"""Classifiers on disk and by name, for the command line."""

from __future__ import annotations

import importlib
import itertools
import pickle
import re
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from ..errors import LONGEST, DataDamaged, DataMissing, Error, UsageError, brief, theirs
from ..files import refuse_other
from ..learned import rebuild, recipe_of
from ..store import JSON, read_json, write_arrays, write_json, writing

SCHEMA = 1
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "module")  # what checkpoints call their weights


def save_classifier(module: nn.Module, folder: Path | str) -> None:
    """Write a classifier of ours: how to build it (JSON) and its weights (safetensors).

    Raises:
        UsageError: for a module that was not built from settings of this package.
        StoreError: when it cannot be written.
    """
    folder = Path(folder)
    if "recipe" not in vars(module):
        raise UsageError(f"{type(module).__name__} was not built by salientry; save it your own way and name it as module:callable")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    sha256 = write_arrays(folder / "classifier.safetensors", {k: [v.detach().cpu().numpy()] for k, v in module.state_dict().items()})
    write_json(folder / "classifier.json", {"schema": SCHEMA, **recipe_of(module), "sha256": sha256})


def load_classifier(name: str, weights: Path | str | None = None) -> nn.Module:
    """A classifier by name.

    Args:
        name: a folder that :func:`save_classifier` wrote, or ``module:callable``: what the callable returns, an
            ``nn.Module`` (wrap it in :class:`External` there if it needs mean, std or another channel order).
        weights: a safetensors or ``.pt`` state dict to load into it, also inside a checkpoint, also with the prefixes that
            DataParallel and ``torch.compile`` leave; pickles that hold code are refused.

    Raises:
        UsageError: for a name that leads nowhere, or weights that do not fit.
        DataMissing: when a file is not there.
        DataDamaged: when it cannot be read.
    """
    folder = Path(name)
    if (folder / "classifier.json").is_file():
        body = read_json(folder / "classifier.json")
        if not isinstance(body, dict) or not {"build", "args"} <= set(body):
            raise DataDamaged(f"{folder / 'classifier.json'} does not say how to build a classifier")
        if body.get("schema") != SCHEMA:
            raise UsageError(f"{folder / 'classifier.json'} has schema {body.get('schema')!r}; this version reads {SCHEMA}")
        module = _built(body, folder / "classifier.json")
        if weights is None:
            weights = folder / "classifier.safetensors"
            if "sha256" in body and weights.is_file():  # an earlier version wrote none
                refuse_other(weights, str(body["sha256"]))
    elif ":" in name:
        module = _called(name)
    else:
        raise UsageError(f"classifier {name!r} is {_neither(name)}")
    if weights is not None:
        _load_into(module, Path(weights))
    with theirs(f"{name} cannot be put into eval mode"):
        return module.eval()


def _neither(name: str) -> str:
    if Path(name).is_file():
        return "a file: name the network as module:callable, and give the file as its weights"
    return "neither a folder with a classifier.json nor of the form module:callable"


def _built(body: JSON, path: Path) -> nn.Module:
    try:
        return rebuild({"build": body["build"], "args": body["args"]})
    except Error:
        raise
    except Exception as e:  # what wrong settings make a network raise is anyone's guess
        raise DataDamaged(f"{path} does not say how to build a classifier: {brief(e)}") from e


def named(name: str, what: str) -> Any:
    """What stands at ``module:name``, imported on the user's word, also from the current folder.

    Args:
        name: of it.
        what: it should be, for the error.

    Raises:
        UsageError: for a name that leads nowhere.
    """
    where, _, attribute = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    with theirs(f"cannot import {what} {name!r}"):
        return getattr(importlib.import_module(where), attribute)


def _called(name: str) -> nn.Module:
    target = named(name, "classifier")
    with theirs(f"{name} is called without arguments and should give an nn.Module; it raised"):
        module = target() if callable(target) and not isinstance(target, nn.Module) else target
    if not isinstance(module, nn.Module):
        raise UsageError(f"{name} gave {type(module).__name__}, not an nn.Module")
    return module


def read_weights(path: Path) -> tuple[dict[str, Any], str]:
    """A state dict from a file, a safetensors file, a ``.pt`` of tensors, or a checkpoint that holds one under a usual name; and that name.

    Raises:
        DataMissing: when there is no such file.
        DataDamaged: when it cannot be read, or is a pickle that holds code.
        UsageError: when it is a TorchScript archive, or holds no state dict.
    """
    if not path.is_file():
        raise DataMissing(f"no weights at {path}")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else _unpickled(path)
    except Error:
        raise
    except Exception as e:  # what a damaged file makes the readers raise is anyone's guess
        raise DataDamaged(f"{path} cannot be read as weights: {brief(e)}") from None
    inner = next((k for k in WRAPPERS if isinstance(state, dict) and isinstance(state.get(k), dict)), "")
    state = state[inner] if inner else state
    if not isinstance(state, dict) or not all(isinstance(k, str) for k in state):
        raise UsageError(f"the weights in {path} do not fit a network: they are a {type(state).__name__}, not a state dict")
    return state, inner


def _unpickled(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any("/code/" in n or n.endswith("/constants.pkl") for n in archive.namelist()):
                raise UsageError(
                    f"{path} is a TorchScript archive, a whole network and no state dict: write a function that returns "
                    "torch.jit.load(...), and name it as module:callable without weights"
                )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as e:
        held = re.search(r"GLOBAL ([\w.]+)", str(e))
        if not held:
            raise
        raise DataDamaged(
            f"{path} cannot be read as weights: it is a pickle that holds more than tensors ({held[1]}), perhaps a whole model, and to "
            "open it could run code. Save only the weights, torch.save(model.state_dict(), FILE) or a .safetensors file, and name the "
            "network as module:callable"
        ) from None


def _load_into(module: nn.Module, path: Path) -> None:
    """A wrapper's inner network is a target, too; prefixes that wrappers left in the file go when the names fit exactly without."""
    (state, taken), targets = read_weights(path), [module]
    while isinstance(inner := getattr(targets[-1], "module", getattr(targets[-1], "_orig_mod", None)), nn.Module):
        targets.append(inner)
    fitting = [(t, p) for t in targets for p in _prefixes(state) if {k.removeprefix(p) for k in state} == set(t.state_dict())]
    target, prefix = fitting[0] if fitting else (max(targets, key=lambda m: len(set(m.state_dict()) & set(state))), "")
    try:
        target.load_state_dict({k.removeprefix(prefix): v for k, v in state.items()})
    except (Exception, SystemExit) as e:  # hooks of the user's code run here
        why = str(e).splitlines()[-1].strip() if isinstance(e, RuntimeError) and str(e) else brief(e)
        raise UsageError(f"the weights in {path} do not fit {type(target).__name__}: {why[:LONGEST]}") from None
    notes = [f"its {taken!r} was taken for the weights"] * bool(taken) + [f"the prefix {prefix!r} of all names was left away"] * bool(
        prefix
    )
    if notes:
        warnings.warn(f"{path} fits: {', and '.join(notes)}", stacklevel=2)


def _prefixes(state: dict[str, Any]) -> list[str]:
    """What all names have in common, part by part: "", "module.", "module._orig_mod." ..."""
    parts = [k.split(".")[:-1] for k in state]
    common = list(itertools.takewhile(lambda level: len(set(level)) == 1, zip(*parts, strict=False)))
    return ["".join(f"{level[0]}." for level in common[:n]) for n in range(len(common) + 1)]
