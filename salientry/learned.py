"""Learned modules: how to build one again, what is known of it, what it is recognised by, how to run it and leave it as it was."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import nn

from .keys import JSON, decode, digest, encode
from .modules import feed

M = TypeVar("M", bound=nn.Module)


def with_recipe(module: M, spec: Any, *args: Any) -> M:
    """Note how to build this module again: ``spec.build(*args)``. Returns it in eval mode."""
    vars(module)["recipe"] = (spec, args)
    return module.eval()


def recipe_of(module: nn.Module) -> JSON:
    """The recipe of :func:`with_recipe` as JSON; modules among the arguments are written by the same rule."""
    spec, args = vars(module)["recipe"]
    return {"build": encode(spec), "args": [{"module": recipe_of(a)} if isinstance(a, nn.Module) else encode(a) for a in args]}


def rebuild(body: JSON, trusted: bool = False) -> nn.Module:
    """An untrained module from the JSON of :func:`recipe_of`; its weights are for the caller to load. ``trusted``: see ``store.decode``."""
    args = [rebuild(a["module"], trusted) if isinstance(a, dict) and "module" in a else decode(a, trusted) for a in body["args"]]
    module: nn.Module = decode(body["build"], trusted).build(*args)
    return module


def facts_of(thing: Any) -> dict[str, JSON]:
    """Small facts that travel with a module or with rows; empty when there are none."""
    return dict(vars(thing).get("facts", {}))


def with_facts(module: M, **facts: JSON) -> M:
    """Add facts to a module."""
    vars(module)["facts"] = facts_of(module) | facts
    return module


def fingerprint(module: nn.Module) -> str:
    """Sha256 over the names, shapes and bytes of all weights and buffers (also those that ``state_dict`` leaves out), of what else
    there is in ``state_dict`` (packed weights, extra state), and the module's own ``identity`` if it has one.

    Numbers that are kept in Python attributes, and the code, have no part in it: two networks of one fingerprint may answer
    differently. Where that matters, their answers are compared as well.
    """
    h = hashlib.sha256(digest(getattr(module, "identity", None)).encode())
    for name, value in sorted((dict(module.named_buffers()) | module.state_dict()).items()):
        feed(h, name, value)
    return h.hexdigest()


def device_of(module: nn.Module) -> torch.device:
    """Where a module lives; the processor, when it has no weights."""
    return next(chain(module.parameters(), module.buffers()), torch.empty(0)).device


@contextlib.contextmanager
def frozen(*modules: nn.Module | None) -> Iterator[None]:
    """Eval mode and no parameter gradients inside; mode, flags and ``.grad`` as found afterwards, also after an exception."""
    here = [m for m in modules if m is not None]
    modes = [(m, m.training) for top in here for m in top.modules()]
    flags = [(p, p.requires_grad) for top in here for p in top.parameters()]
    try:
        for top in here:
            top.eval().requires_grad_(False)
        yield
    finally:
        for m, training in modes:
            m.training = training
        for p, flag in flags:
            p.requires_grad_(flag)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's global CPU generator at ``seed`` inside (initial weights, dropout), as it was afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
