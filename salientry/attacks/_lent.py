"""The private copy of a classifier that an attack runs, used again while it is what a new one would be.

A copy costs milliseconds, which is more than an attack's pass on one image. The one of the last call is kept beside the classifier; the
next call looks whether both are still alike, brings plain attributes and buffers up to date, and copies anew whatever it cannot compare.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..modules import OWN, bare, is_private_forward, private

SIMPLE = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size, torch.memory_format)
HOOKS = ("_forward_hooks", "_forward_pre_hooks")  # a part of what is computed
NO_HOOKS = (*HOOKS, "_backward_hooks", "_backward_pre_hooks")  # a private copy has none of these where its original has none of those
_KEPT: WeakKeyDictionary[nn.Module, nn.Module] = WeakKeyDictionary()


@contextmanager
def lent(classifier: nn.Module) -> Iterator[nn.Module]:
    """A private copy of the classifier (see :func:`~salientry.modules.private`), which nobody else has meanwhile.

    Raises:
        UsageError: when it cannot be copied.
    """
    net = _taken(classifier)
    if net is None or not renewed(net, classifier):
        net = private(classifier)
        again = renewed(net, classifier)
    else:
        again = True
    yield net
    if again:
        _KEPT[classifier] = net


def _taken(classifier: nn.Module) -> nn.Module | None:
    """The copy that was kept, which another thread will not find now."""
    try:
        return _KEPT.pop(classifier, None)
    except TypeError:  # no module, or one that cannot be hashed
        return None


def renewed(twin: nn.Module, original: nn.Module) -> bool:
    """Whether a private copy is, once plain attributes and buffers were brought up to date, what a new one of the original would be.

    False also where that cannot be known: hooks, functions in place of ``forward``, attributes that are no plain values, TorchScript,
    classes that say how they are copied. Weights must be the original's memory.
    """
    todo, seen, buffers = [(twin, bare(original))], dict[int, nn.Module](), list[tuple[Tensor, Tensor]]()
    while todo:
        t, m = todo.pop()
        if id(m) in seen:
            if seen[id(m)] is not t:
                return False
            continue
        seen[id(m)] = t
        a, b = vars(m), vars(t)
        if type(t) is not type(m) or not _ordinary(cast(Any, type(m))) or b["training"]:
            return False
        if any(a[h] for h in HOOKS) or any(b[h] for h in NO_HOOKS) or not _renewed_attributes(m, t):
            return False
        for kind, alike in (("_parameters", _same_memory), ("_buffers", _same_kind)):
            if list(a[kind]) != list(b[kind]) or not all(alike(p, b[kind][k]) for k, p in a[kind].items()):
                return False
        buffers += [(b["_buffers"][k], v) for k, v in a["_buffers"].items() if v is not None]
        if list(a["_modules"]) != list(b["_modules"]):
            return False
        for k, child in a["_modules"].items():
            if (child is None) is not (b["_modules"][k] is None):
                return False
            if child is not None:
                todo.append((b["_modules"][k], child))
    with torch.inference_mode(False), torch.no_grad():
        for mine, theirs in buffers:
            mine.copy_(theirs)
    return True


@lru_cache(maxsize=1000)
def _ordinary(kind: Any) -> bool:
    """Whether modules of a class are copied attribute by attribute, and put into eval mode, as all are."""
    slots = any(vars(c).get("__slots__") for c in kind.__mro__)
    script = issubclass(kind, torch.jit.ScriptModule)
    return not (slots or script or hasattr(kind, "__deepcopy__")) and kind.eval is nn.Module.eval and kind.train is nn.Module.train


def _renewed_attributes(m: nn.Module, t: nn.Module) -> bool:
    """Whether what a module has beside weights, buffers and parts is plain, and the copy now has the same."""
    a, b = vars(m), vars(t)
    for k, v in a.items():
        if k in OWN or is_private_forward(m, k):
            continue
        if k not in b or not _plain(v):
            return False
        w = b[k]
        if type(w) is not type(v) or not _plain(w) or w != v:
            b[k] = copy.deepcopy(v)
    return all(k in a or is_private_forward(t, k) for k in b)


def _plain(v: Any) -> bool:
    """Whether a value is what it is, whoever holds it: equal ones are alike, and a copy is equal."""
    kind = type(v)
    if kind in SIMPLE:
        return True
    if kind in (tuple, list):
        return all(map(_plain, v))
    if kind in (dict, types.MappingProxyType):
        return all(_plain(k) and _plain(w) for k, w in v.items())
    if isinstance(v, type | types.BuiltinFunctionType):
        return True
    if isinstance(v, types.FunctionType):
        return v.__module__.startswith("torch.") and v.__closure__ is None
    frozen = is_dataclass(v) and "__dataclass_params__" in vars(kind) and kind.__dataclass_params__.frozen
    return frozen and all(_plain(getattr(v, f.name)) for f in fields(v))


def _same_memory(p: nn.Parameter | None, q: nn.Parameter | None) -> bool:
    """Whether a copy's weight is the original's memory, read in the same way."""
    if p is None or q is None:
        return p is q
    return type(p) is nn.Parameter and type(q) is nn.Parameter and p.data_ptr() == q.data_ptr() and _alike(p, q) and not q.requires_grad


def _same_kind(p: Tensor | None, q: Tensor | None) -> bool:
    """Whether the values of an original's buffer can be written into the copy's."""
    if p is None or q is None:
        return p is q
    dense = p.layout is torch.strided and not p.is_quantized
    return type(p) is Tensor and type(q) is Tensor and p is not q and dense and _alike(p, q) and not (q.requires_grad or q.is_inference())


def _alike(p: Tensor, q: Tensor) -> bool:
    return p.dtype is q.dtype and p.shape == q.shape and p.stride() == q.stride() and p.device == q.device
