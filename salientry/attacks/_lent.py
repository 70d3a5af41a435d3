"""The private copy of a classifier that an attack runs, used again while it is what a new one would be.

A copy costs milliseconds, which is more than an attack's pass on one image. The one of the last call is kept beside the classifier; the
next call looks whether both are still alike, brings plain attributes and buffers up to date, and copies anew whatever it cannot compare.

To compare them takes as long as a small network's forward pass. So :class:`Marks` remember which objects were where when they were found
alike; while the same ones are there, only what can be changed in place is looked at.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import lru_cache
from itertools import chain
from operator import is_
from typing import Any, cast
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn

from ..modules import OWN, bare, is_private_forward, private

SIMPLE = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size, torch.memory_format)
HOOKS = ("_forward_hooks", "_forward_pre_hooks")  # a part of what is computed
NO_HOOKS = (*HOOKS, "_backward_hooks", "_backward_pre_hooks")  # a private copy has none of these where its original has none of those
HELD = ("_parameters", "_buffers", "_modules")  # what a module is made of
Pairs = list[tuple[nn.Module, nn.Module]]  # a network's modules, itself first, and those of its copy


@contextmanager
def lent(classifier: nn.Module) -> Iterator[nn.Module]:
    """A private copy of the classifier (see :func:`~salientry.modules.private`), which nobody else has meanwhile.

    Raises:
        UsageError: when it cannot be copied.
    """
    net, marks = _taken(classifier)
    again = marks is not None and marks.hold(classifier)
    if net is None or not again:
        pairs = None if net is None else renewed(net, classifier)
        if net is None or pairs is None:
            net = private(classifier)
            pairs = renewed(net, classifier)
        again, marks = pairs is not None, None if pairs is None else Marks.of(pairs)
    yield net
    if again:
        _KEPT[classifier] = net, marks


def _taken(classifier: nn.Module) -> tuple[nn.Module | None, Marks | None]:
    """The copy that was kept, which another thread will not find now."""
    try:
        return _KEPT.pop(classifier, (None, None))
    except TypeError:  # no module, or one that cannot be hashed
        return None, None


def renewed(twin: nn.Module, original: nn.Module) -> Pairs | None:
    """The modules of both, if a private copy is, once plain attributes and buffers were brought up to date, what a new one of the original
    would be.

    None also where that cannot be known: hooks, functions in place of ``forward``, attributes that are no plain values, TorchScript,
    classes that say how they are copied. Weights must be the original's memory.
    """
    todo, seen, pairs = [(bare(original), twin)], dict[int, nn.Module](), Pairs()
    while todo:
        m, t = todo.pop()
        if id(m) in seen:
            if seen[id(m)] is not t:
                return None
            continue
        seen[id(m)] = t
        pairs.append((m, t))
        a, b = vars(m), vars(t)
        if type(t) is not type(m) or not _ordinary(cast(Any, type(m))) or b["training"]:
            return None
        if any(a[h] for h in HOOKS) or any(b[h] for h in NO_HOOKS) or not _renewed_attributes(m, t):
            return None
        for kind, alike in (("_parameters", _same_memory), ("_buffers", _same_kind)):
            if list(a[kind]) != list(b[kind]) or not all(alike(p, b[kind][k]) for k, p in a[kind].items()):
                return None
        if list(a["_modules"]) != list(b["_modules"]):
            return None
        for k, child in a["_modules"].items():
            if (child is None) is not (b["_modules"][k] is None):
                return None
            if child is not None:
                todo.append((child, b["_modules"][k]))
    _brought(*_tensors(pairs, "_buffers"))
    return pairs


def _tensors(pairs: Pairs, kind: str) -> tuple[list[Tensor], list[Tensor]]:
    """The parameters or buffers of a network, and those of its copy, in the same order."""
    names = [(m, t, k) for m, t in pairs for k, v in vars(m)[kind].items() if v is not None]
    return [vars(m)[kind][k] for m, _, k in names], [vars(t)[kind][k] for _, t, k in names]


def _brought(theirs: list[Tensor], mine: list[Tensor]) -> None:
    """A copy's buffers, brought up to date."""
    if mine:
        with torch.inference_mode(False), torch.no_grad():
            torch._foreach_copy_(mine, theirs)


class Marks:
    """Which objects a network and its copy held where, when they were found alike. It holds no reference to the network itself."""

    def __init__(self, pairs: Pairs) -> None:
        (root, twin), *parts = pairs
        self.root, self.parts = ref(root), [twin, *chain(*parts)]
        self.own = [vars(m) for m in (root, *self.parts)]
        inner = [d[kind] for d in self.own for kind in HELD]
        hooks = [vars(m)[h] for m, _ in pairs for h in HOOKS] + [vars(t)[h] for _, t in pairs for h in NO_HOOKS]
        self.empty = [d for d in (*inner, *hooks) if not d]
        self.dicts = [*self.own, *(d for d in inner if d)]
        self.sizes, self.names = [len(d) for d in self.dicts], list(chain(*self.dicts))
        self.values = list(chain(*(d.values() for d in self.dicts)))
        self.loose = [
            (a, b, k) for a, b in ((vars(m), vars(t)) for m, t in pairs) for k in a if k not in OWN and k in b and not _fixed(a[k])
        ]
        self.weights, self.buffers = _tensors(pairs, "_parameters"), _tensors(pairs, "_buffers")
        self.layouts = [_layout(t) for t in chain(*self.buffers)]

    @classmethod
    def of(cls, pairs: Pairs) -> Marks | None:
        """None where weights or buffers hold more than values, perhaps the network itself, or where memory cannot be compared."""
        marks = cls(pairs)
        tensors = [*marks.weights[0], *marks.buffers[0]]
        if any(vars(t) or t.device.type not in ("cpu", "cuda") for t in tensors):
            return None
        return marks

    def hold(self, original: nn.Module) -> bool:
        """Whether a copy is what a new one of the original would be; then its buffers are brought up to date."""
        root = bare(original)
        if root is not self.root() or not all(map(is_, map(vars, (root, *self.parts)), self.own)) or any(self.empty):
            return False
        if list(map(len, self.dicts)) != self.sizes or list(chain.from_iterable(self.dicts)) != self.names:
            return False
        if not all(map(is_, chain.from_iterable([d.values() for d in self.dicts]), self.values)):
            return False
        if not all(_equal(a[k], b[k]) for a, b, k in self.loose):
            return False
        theirs, mine = self.weights
        if [p.dtype for p in theirs] != [q.dtype for q in mine] or not all(map(Tensor.is_set_to, theirs, mine)):
            return False
        if any(q.requires_grad for q in (*mine, *self.buffers[1])) or [_layout(t) for t in chain(*self.buffers)] != self.layouts:
            return False
        _brought(*self.buffers)
        return True


_KEPT: WeakKeyDictionary[nn.Module, tuple[nn.Module, Marks | None]] = WeakKeyDictionary()


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
        if not _equal(v, b[k]):
            b[k] = copy.deepcopy(v)
    return all(k in a or is_private_forward(t, k) for k in b)


def _equal(v: Any, w: Any) -> bool:
    """Whether two values are plain and alike."""
    return type(w) is type(v) and _plain(v) and _plain(w) and w == v


def _fixed(v: Any) -> bool:
    """Whether a plain value cannot be changed in place."""
    if is_dataclass(v) and not isinstance(v, type):
        return all(_fixed(getattr(v, f.name)) for f in fields(v))
    return all(map(_fixed, v)) if type(v) is tuple else type(v) not in (list, dict, types.MappingProxyType)


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
    return _layout(p) == _layout(q)


def _layout(t: Tensor) -> tuple[Any, ...]:
    return t.dtype, t.shape, t.stride(), t.device
