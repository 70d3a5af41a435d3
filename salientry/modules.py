"""A network to run without touching the one that was given: the same weights, everything else apart."""

from __future__ import annotations

import copy
import functools
import types
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .errors import UsageError, brief

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # what a network can be asked in
OWN = frozenset(vars(nn.Module()))  # attributes that every module has
_TOLD: weakref.WeakSet[nn.Module] = weakref.WeakSet()  # whose shared parts have been named already


def bare(module: nn.Module) -> nn.Module:
    """The network inside ``torch.compile``, ``DataParallel`` and ``DistributedDataParallel``; any other module itself."""
    while not isinstance(module, torch.jit.ScriptModule):
        if isinstance(inner := module._modules.get("_orig_mod"), nn.Module):
            module = inner
        elif isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        else:
            break
    return module


def private(module: nn.Module) -> nn.Module:
    """A network that answers as ``module`` does in eval mode, and that nobody else sees.

    Its parameters are the same memory (a step of an optimiser reaches both; see :func:`versions`), and need no gradient. Modules,
    modes, buffers, hooks and Python attributes are its own, so it can be switched, hooked and run while other threads use the
    one that was given. It is in eval mode. It stands outside ``torch.compile`` and ``DataParallel``. Weights that are tied stay
    tied. Forward hooks come along, for they may be a part of what is computed (weight norm is one); hooks on backward passes
    do not. Methods, closures and partial functions that were put in place of ``forward`` are bound to the copy. One that is
    already private gives another one, as cheaply.

    Called, it takes floats of any precision: they are copied (a network may write into its input) in the precision of its
    first parameter, and what it gives comes back in the precision of what it was given.

    A TorchScript module has weights of its own, copied once: private copies of a private copy share them.

    One private network is for one thread at a time, as any module is whose forward pass leaves notes in it.

    Raises:
        UsageError: when it cannot be copied, with what was in the way. Single attributes that cannot be copied (a lock, a session
            of another library) stay shared, with a warning that names them.
    """
    if not isinstance(module, nn.Module):
        raise UsageError(f"an nn.Module expected; found {type(module).__name__} (was a function that builds one meant to be called?)")
    module = bare(module)
    with torch.inference_mode(False), torch.no_grad():  # with gradients on, the weights of a copied script are no leaves
        if isinstance(module, torch.jit.ScriptModule):
            twin: nn.Module = Scripted(copy.deepcopy(module))
        else:
            twin = _copied(module)
        twin.eval()
    if not isinstance(vars(twin).get("forward"), _Forward):
        vars(twin)["forward"] = _Forward(twin, vars(twin).get("forward"))
    return twin


def is_private_forward(module: nn.Module, name: str) -> bool:
    """Whether an attribute of a module is the ``forward`` of a private network, which hands on to the module's class."""
    if name != "forward":
        return False
    found = vars(module).get(name)
    return isinstance(found, _Forward) and found.net is module and found.replaced is None


def versions(module: nn.Module) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """What changes whenever a weight is written to in place or a part is replaced, and what changes when a buffer is. It costs no look at
    the values. Writing through ``.data`` escapes it, as it escapes torch.
    """
    weights: list[tuple[int, int]] = []
    buffers: list[tuple[int, int]] = []
    seen: set[int] = set()
    todo = [module]
    while todo:  # as _parts does, in one loop: a guard asks at every call
        m = todo.pop()
        if id(m) in seen:
            continue
        seen.add(id(m))
        if isinstance(m, torch.jit.ScriptModule):  # its parts are made anew at each look
            weights += [_version(t) for t in m.parameters()]
            buffers += [_version(t) for t in m.buffers()]
            continue
        weights.append((id(m), 0))
        if m._parameters:
            weights += [_version(t) for t in m._parameters.values() if t is not None]
        if m._buffers:
            buffers += [_version(t) for t in m._buffers.values() if t is not None]
        if m._modules and not isinstance(m, Scripted):
            todo += [c for c in m._modules.values() if c is not None]
    return weights, buffers


def weights(module: nn.Module) -> Iterator[Tensor]:
    """What ``parameters()`` gives, tied ones as often as they occur, in a fraction of the time."""
    todo, seen = [module], set[int]()
    while todo:
        m = todo.pop()
        if id(m) in seen:
            continue
        seen.add(id(m))
        if isinstance(m, torch.jit.ScriptModule):  # its parts are made anew at each look
            yield from m.parameters()
            continue
        for p in m._parameters.values():
            if p is not None:
                yield p
        if m._modules:
            todo += [c for c in reversed(m._modules.values()) if c is not None]


def _version(t: Tensor) -> tuple[int, int]:
    return id(t), 0 if t.is_inference() else t._version


def feed(h: Any, name: str, value: Any) -> None:
    """Add a named value to a hash: a tensor's bytes, what a container holds, and of anything else its type."""
    if isinstance(value, Tensor) and value.is_quantized:
        per_tensor = value.qscheme() == torch.per_tensor_affine
        scales = value.q_scale() if per_tensor else value.q_per_channel_scales()
        zeros = value.q_zero_point() if per_tensor else value.q_per_channel_zero_points()
        feed(h, name, [value.int_repr(), torch.as_tensor(scales, dtype=torch.float64), torch.as_tensor(zeros)])
    elif isinstance(value, Tensor):
        h.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        h.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            feed(h, f"{name}/{key}", value[key])
    elif isinstance(value, list | tuple):
        for i, each in enumerate(value):
            feed(h, f"{name}/{i}", each)
    elif isinstance(value, bytes | bytearray):
        h.update(f"{name}bytes{len(value)}".encode() + bytes(value))
    else:
        plain = isinstance(value, str | int | float | complex | torch.dtype) or value is None
        h.update(f"{name}{type(value).__qualname__}{value if plain else ''}".encode())


class Scripted(nn.Module):
    """A TorchScript module in an ordinary one; a copy of it shares the weights."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *given: Any, **named: Any) -> Any:
        """What the module gives."""
        return self.module(*given, **named)

    def __deepcopy__(self, memo: dict[int, Any]) -> Scripted:
        memo[id(self)] = copied = Scripted(self.module)
        if isinstance(vars(self).get("forward"), _Forward):
            vars(copied)["forward"] = _Forward(copied, None)
        return copied

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "module":
                raise
            return getattr(self.module, name)


class _Forward:
    """``forward`` of a private network: floats in and out as its caller has them, copied on the way in."""

    def __init__(self, net: nn.Module, replaced: Any) -> None:
        self.net, self.replaced = net, replaced

    def __call__(self, *given: Any, **named: Any) -> Any:
        asked = next((v.dtype for v in given if _floats(v)), None)
        own = next((p.dtype for p in weights(self.net) if p.dtype in FLOATS), asked)
        taken = [(v.clone() if v.dtype is own else v.to(own)) if _floats(v) else v for v in given]
        out = self.replaced(*taken, **named) if self.replaced is not None else type(self.net).forward(self.net, *taken, **named)
        return out.to(asked) if asked is not None and _floats(out) and out.dtype is not asked else out


def _floats(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


# --- copying -------------------------------------------------------------------------------------------------------------------


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    """Every module in it, parents first, each once; TorchScript is not entered."""
    seen: set[int] = set()
    todo = [module]
    while todo:
        m = todo.pop()
        if id(m) in seen:
            continue
        seen.add(id(m))
        yield m
        if not isinstance(m, (torch.jit.ScriptModule, Scripted)):
            todo += [c for c in m._modules.values() if c is not None]


def _copied(module: nn.Module) -> nn.Module:
    parts = list(_parts(module))
    start, kept = _seeds(parts)
    try:
        memo = dict(start)
        twin: nn.Module = _inner_first(module, parts, memo)
    except Exception:
        stuck = _stuck(module, parts, start)
        try:
            memo = dict(start)
            twin = _inner_first(module, parts, memo)
        except Exception as e:
            raise UsageError(
                f"{type(module).__name__} cannot be copied ({brief(e)}), and a guard or an attack runs a copy of your "
                "network that shares its weights: give it a __deepcopy__, or make what is in the way when it is first used"
            ) from e
        if module not in _TOLD:
            _TOLD.add(module)
            warnings.warn(
                f"{', '.join(stuck)} of {type(module).__name__} cannot be copied: the private copy that is run shares them with your "
                "network. That is safe when its forward pass only reads them",
                stacklevel=3,
            )
        _TOLD.add(twin)
    _rebind(parts, memo)
    del kept
    return twin


def _inner_first(module: nn.Module, parts: list[nn.Module], memo: dict[int, Any]) -> nn.Module:
    """A deep copy in which what wraps a network is the network, and TorchScript is wrapped."""
    for m in reversed(parts):
        if isinstance(m, torch.jit.ScriptModule):
            memo[id(m)] = Scripted(copy.deepcopy(m))
        elif (inner := bare(m)) is not m:
            memo[id(m)] = copy.deepcopy(inner, memo)
    twin: nn.Module = copy.deepcopy(module, memo)
    return twin


def _seeds(parts: list[nn.Module]) -> tuple[dict[int, Any], list[Any]]:
    """What a deep copy takes instead of making it: by id, and the originals, which must live as long as their ids are used."""
    memo: dict[int, Any] = {}
    kept: list[Any] = []

    def put(original: Any, made: Any) -> None:
        memo[id(original)] = made
        kept.append(original)

    for m in parts:
        if isinstance(m, torch.jit.ScriptModule):
            continue
        for p in m._parameters.values():
            if p is None or id(p) in memo:
                continue
            if nn.parameter.is_lazy(p):
                raise UsageError(f"{type(m).__name__} has no weights yet: pass one batch of images through your network first")
            plain = type(p) is nn.Parameter
            put(p, nn.Parameter(p.clone() if p.is_inference() else p.data, requires_grad=False) if plain else p)
        for b in m._buffers.values():
            if b is not None and id(b) not in memo:
                put(b, b.detach().clone())
        for value in vars(m).values():
            for t in value if isinstance(value, list | tuple) else value.values() if isinstance(value, dict) else (value,):
                if isinstance(t, Tensor) and id(t) not in memo and (t.is_inference() or not t.is_leaf):
                    put(t, t.detach().clone())
        for name in ("_backward_hooks", "_backward_pre_hooks"):
            put(vars(m)[name], OrderedDict())
    return memo, kept


def _stuck(module: nn.Module, parts: list[nn.Module], memo: dict[int, Any]) -> list[str]:
    """Names of the attributes that cannot be copied; they are put among what is taken as it is."""
    names = {id(m): name for name, m in module.named_modules()}
    found = []
    for m in reversed(parts):
        if isinstance(m, torch.jit.ScriptModule):
            continue
        for key, value in vars(m).items():
            if key in OWN:
                continue
            try:
                copy.deepcopy(value, dict(memo))
            except Exception:
                memo[id(value)] = value
                found.append(f"{names.get(id(m), '')}.{key}".lstrip(".") + f" ({type(value).__name__})")
    return found


# --- functions that hold the network they are put into ---------------------------------------------------------------------------


def _rebind(parts: list[nn.Module], memo: dict[int, Any]) -> None:
    """A deep copy takes functions as they are; those that reach a part of the network are made to reach its copy."""
    ours = {id(m) for m in parts}
    done: dict[int, Any] = {}
    for m in parts:
        twin = memo.get(id(m))
        if twin is None or isinstance(m, torch.jit.ScriptModule) or not isinstance(twin, type(m)):
            continue
        for key, value in vars(m).items():
            if isinstance(value, types.FunctionType) and _reaches(value, ours, set()):
                vars(twin)[key] = _bound(value, ours, memo, done)
        for name in ("_forward_hooks", "_forward_pre_hooks"):
            for k, hook in vars(m)[name].items():
                if isinstance(hook, types.FunctionType) and _reaches(hook, ours, set()):
                    vars(twin)[name][k] = _bound(hook, ours, memo, done)


def _held(function: types.FunctionType) -> list[Any]:
    """What a function has in hand: its closure, its defaults, the globals it names."""
    cells = []
    for c in function.__closure__ or ():
        try:
            cells.append(c.cell_contents)
        except ValueError:  # not filled yet
            continue
    named = [function.__globals__[n] for n in function.__code__.co_names if n in function.__globals__]
    return [*cells, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values(), *named]


def _reaches(value: Any, ours: set[int], seen: set[int]) -> bool:
    if id(value) in ours:
        return True
    if id(value) in seen:
        return False
    seen.add(id(value))
    if isinstance(value, types.MethodType):
        return id(value.__self__) in ours
    if isinstance(value, functools.partial):
        return any(_reaches(v, ours, seen) for v in (value.func, *value.args, *value.keywords.values()))
    if isinstance(value, types.FunctionType):
        return any(_reaches(v, ours, seen) for v in _held(value))
    return False


def _bound(value: Any, ours: set[int], memo: dict[int, Any], done: dict[int, Any]) -> Any:
    """The value with every part of the network in it replaced by that part's copy."""
    if id(value) in done:
        return done[id(value)]
    if not _reaches(value, ours, set()):
        return value
    each = functools.partial(_bound, ours=ours, memo=memo, done=done)
    if isinstance(value, functools.partial):
        args, named = [each(v) for v in value.args], {k: each(v) for k, v in value.keywords.items()}
        return functools.partial(each(value.func), *args, **named)
    if not isinstance(value, types.FunctionType):
        return copy.deepcopy(value, memo)  # a part, or a method of one
    cells = tuple(types.CellType() for _ in value.__closure__ or ())
    reached = [n for n in value.__code__.co_names if _reaches(value.__globals__.get(n), ours, set())]
    scope = dict(value.__globals__) if reached else value.__globals__
    made = types.FunctionType(value.__code__, scope, value.__name__, None, cells)
    done[id(value)] = made
    for new, old in zip(cells, value.__closure__ or (), strict=True):
        try:
            new.cell_contents = each(old.cell_contents)
        except ValueError:
            continue
    scope.update({name: each(scope[name]) for name in reached})
    made.__defaults__ = tuple(each(v) for v in value.__defaults__ or ()) or None
    made.__kwdefaults__ = {k: each(v) for k, v in (value.__kwdefaults__ or {}).items()}
    vars(made).update(vars(value))
    return made
