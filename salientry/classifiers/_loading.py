"""Classifiers on disk and by name, for the command line."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from ..contracts import origin, rebuilt
from ..errors import DataDamaged, DataMissing, Error, UsageError
from ..store import JSON, read_json, write_arrays, write_json

SCHEMA = 1


def save_classifier(module: nn.Module, folder: Path | str) -> None:
    """Write a classifier of ours: how to build it (JSON) and its weights (safetensors).

    Raises:
        UsageError: for a module that was not built from settings of this package.
        StoreError: when it cannot be written.
    """
    folder = Path(folder)
    if "origin" not in vars(module):
        raise UsageError(f"{type(module).__name__} was not built by salientry; save it your own way and name it as module:callable")
    write_json(folder / "classifier.json", {"schema": SCHEMA, **origin(module)})
    write_arrays(folder / "classifier.safetensors", {k: [v.detach().cpu().numpy()] for k, v in module.state_dict().items()})


def load_classifier(name: str, weights: Path | str | None = None) -> nn.Module:
    """A classifier by name.

    Args:
        name: a folder that :func:`save_classifier` wrote, or ``module:callable``: what the callable returns, an
            ``nn.Module`` (wrap it in :class:`External` there if it needs mean, std or another channel order).
        weights: a safetensors or ``.pt`` state dict to load into it; pickles that hold code are refused.

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
        module, weights = _built(body, folder / "classifier.json"), weights or folder / "classifier.safetensors"
    elif ":" in name:
        module = _called(name)
    else:
        raise UsageError(f"classifier {name!r} is neither a folder with a classifier.json nor of the form module:callable")
    if weights is not None:
        _load_into(module, Path(weights))
    return module.eval()


def _built(body: JSON, path: Path) -> nn.Module:
    try:
        return rebuilt({"build": body["build"], "args": body["args"]})
    except Error:
        raise
    except Exception as e:  # what wrong settings make a network raise is anyone's guess
        raise DataDamaged(f"{path} does not say how to build a classifier: {_brief(e)}") from e


def _called(name: str) -> nn.Module:
    where, _, attribute = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        target: Any = getattr(importlib.import_module(where), attribute)
    except (Exception, SystemExit) as e:  # it is the user's code
        raise UsageError(f"cannot import classifier {name!r}: {_brief(e)}") from e
    try:
        module = target() if callable(target) and not isinstance(target, nn.Module) else target
    except (Exception, SystemExit) as e:
        raise UsageError(f"{name} is called without arguments and should give an nn.Module; it raised {_brief(e)}") from e
    if not isinstance(module, nn.Module):
        raise UsageError(f"{name} gave {type(module).__name__}, not an nn.Module")
    return module


def _load_into(module: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise DataMissing(f"no weights at {path}")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # what a damaged file makes the readers raise is anyone's guess
        raise DataDamaged(f"{path} cannot be read as weights: {_brief(e)}") from None
    inner = getattr(module, "module", None)
    if not isinstance(state, dict):
        raise UsageError(f"the weights in {path} do not fit {type(module).__name__}: they are a {type(state).__name__}, not a state dict")
    known = [module, inner] if isinstance(inner, nn.Module) else [module]
    target = max(known, key=lambda m: len(set(m.state_dict()) & set(state)))  # a wrapper, or the network in it
    try:
        target.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as e:
        why = _short(str(e).splitlines()[-1].strip())
        raise UsageError(f"the weights in {path} do not fit {type(target).__name__}: {why}") from None


def _brief(e: BaseException) -> str:
    """An error of others in half a line."""
    return _short(f"{type(e).__name__}: {next(iter(str(e).splitlines()), '')}")


def _short(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:300]} ..."
