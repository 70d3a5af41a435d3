"""The state of a user's own object, as JSON and arrays; and what its code is, as a hash."""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..modules import feed

JSON = Any


def found_at(where: str) -> Any:
    """What stands at ``module:name`` in a module that the program has imported; None where there is no such thing.

    Nothing is imported for a file's sake, and nothing of the standard library is found.
    """
    module, _, name = where.partition(":")
    there: Any = None if module.split(".")[0] in sys.stdlib_module_names - {"__main__"} else sys.modules.get(module)
    for part in name.split("."):
        there = getattr(there, part, None)
    return there


def place_of(thing: Any) -> str:
    """``module:name`` where a function or class is found again; empty for a lambda, or what was made inside a function."""
    where = f"{getattr(thing, '__module__', None)}:{getattr(thing, '__qualname__', '')}"
    return where if found_at(where) is thing else ""


def object_state(value: Any, name: str, arrays: dict[str, Tensor]) -> JSON:
    """A value as JSON; tensors and arrays go into ``arrays`` under the attribute's name. :func:`object_from_state` is the way back.

    Raises:
        UsageError: for what is neither a number, text, an array, a list or dict of them, nor an object of an importable class that
            holds nothing else.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Tensor | np.ndarray) and (isinstance(value, Tensor) or value.dtype.kind in "biuf"):
        arrays[name] = torch.as_tensor(np.ascontiguousarray(value) if isinstance(value, np.ndarray) else value.detach()).cpu()
        return {"array": name, "numpy": isinstance(value, np.ndarray)}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [object_state(v, f"{name}.{i}", arrays) for i, v in enumerate(value)]}
    if type(value) is dict and all(isinstance(k, str) for k in value):
        return {"dict": {k: object_state(v, f"{name}.{k}", arrays) for k, v in value.items()}}
    if isinstance(value, types.FunctionType | type) and (where := place_of(value)):
        return {"at": where}
    if hasattr(value, "__dict__") and not isinstance(value, nn.Module | types.FunctionType) and (where := place_of(type(value))):
        return {"object": where, "state": {k: object_state(v, f"{name}.{k}", arrays) for k, v in vars(value).items()}}
    raise UsageError(f"{name} is a {type(value).__module__}.{type(value).__qualname__}, which is no number, text or array")


def object_from_state(body: JSON, arrays: Mapping[str, Tensor]) -> Any:
    """The value again.

    Raises:
        UsageError: for a class or function whose module the program has not imported.
    """
    if not isinstance(body, dict):
        return body
    if "array" in body:
        found = arrays[body["array"]]
        return found.numpy().copy() if body["numpy"] else found.clone()
    for kind in (list, tuple):
        if kind.__name__ in body:
            return kind(object_from_state(v, arrays) for v in body[kind.__name__])
    if "dict" in body:
        return {k: object_from_state(v, arrays) for k, v in body["dict"].items()}
    where = str(body.get("at") or body.get("object"))
    there = found_at(where)
    if there is None or ("object" in body and not isinstance(there, type)):
        raise UsageError(f"{where} is not there: import {where.partition(':')[0]} first")
    if "at" in body:
        return there
    made = object.__new__(there)
    vars(made).update({k: object_from_state(v, arrays) for k, v in body["state"].items()})
    return made


# --- what it is ---------------------------------------------------------------------------------------------------


def feed_code(h: Any, thing: Any, seen: set[int] | None = None) -> None:
    """Add to a hash what a callable or object does and knows: bytecode, constants, closures, attributes, weights."""
    seen = seen if seen is not None else set()
    if id(thing) in seen:
        return
    if isinstance(thing, types.MethodType):
        feed_code(h, thing.__func__, seen)
        feed_code(h, thing.__self__, seen)
    elif isinstance(thing, types.FunctionType):
        seen.add(id(thing))
        _feed_bytes(h, thing.__code__)
        for value in (*(c.cell_contents for c in thing.__closure__ or ()), *(thing.__defaults__ or ())):
            feed_code(h, value, seen)
    elif isinstance(thing, type):
        seen.add(id(thing))
        h.update(f"{thing.__module__}.{thing.__qualname__}".encode())
        for kind in thing.__mro__:
            if kind.__module__.split(".")[0] not in ("builtins", "torch"):
                for value in vars(kind).values():
                    if isinstance(value := getattr(value, "__func__", getattr(value, "fget", value)), types.FunctionType):
                        feed_code(h, value, seen)
    elif isinstance(thing, list | tuple):
        for value in thing:
            feed_code(h, value, seen)
    elif isinstance(thing, dict):
        for key in sorted(thing, key=str):
            h.update(str(key).encode())
            feed_code(h, thing[key], seen)
    elif isinstance(thing, np.ndarray) and thing.dtype.kind in "biuf":
        feed(h, "array", torch.as_tensor(np.ascontiguousarray(thing)))
    elif hasattr(thing, "__dict__") and not isinstance(thing, Tensor | types.ModuleType):
        seen.add(id(thing))
        feed_code(h, type(thing), seen)
        if isinstance(thing, nn.Module):
            feed(h, "weights", dict(thing.named_buffers()) | thing.state_dict())
        feed_code(h, {k: v for k, v in vars(thing).items() if not (isinstance(thing, nn.Module) and k in vars(nn.Module()))}, seen)
    else:
        feed(h, "value", thing)


def _feed_bytes(h: Any, code: types.CodeType) -> None:
    h.update(code.co_code + repr(code.co_names).encode())
    for value in code.co_consts:
        if isinstance(value, types.CodeType):
            _feed_bytes(h, value)
        else:
            h.update(repr(value).encode())
