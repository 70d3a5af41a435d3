"""Keys: what a result is named by. Settings to canonical JSON, to a hash, to a file and back, and to a readable name."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import json
import math
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from .errors import DataDamaged, UsageError
from .renamed import FIRST_ROLES

JSON = Any


# Settings classes that were renamed or moved since keys were first made: what keys and older files call them, and their fields.
FIRST_NAMES: dict[str, tuple[str, dict[str, str]]] = {
    "salientry.types:Shape": ("salientry.contracts:Shape", {}),
    "salientry.types:Roles": (
        "salientry.contracts:Roles",
        FIRST_ROLES,
    ),
    "salientry.experiment.sanity:SanityCheck": ("salientry.experiment.sanity:Gate", {}),
    "salientry.detectors.class_presence:ClassPresence": ("salientry.detectors.exists:Exists", {}),
    "salientry.detectors.second_net:SecondNet": ("salientry.detectors.opinion:Opinion", {}),
    "salientry.protocol:EvaluationProtocol": ("salientry.protocol:Rules", {}),
}
NAMES_NOW = {first: now for now, (first, _) in FIRST_NAMES.items()}


def first_name(kind: type) -> tuple[str, dict[str, str]]:
    """``module:Class`` as a class was called when keys were first made of it, and the fields that were renamed since: now to then."""
    now = f"{kind.__module__}:{kind.__qualname__}"
    return FIRST_NAMES.get(now, (now, {}))


def class_name(kind: type) -> str:
    """``attacks.FGSM`` for ours, ``module.Name`` for a user's own; of a renamed class the first name, so that its keys stay."""
    where, _, name = first_name(kind)[0].partition(":")
    module = where.split(".")
    return f"{module[1]}.{name}" if module[0] == "salientry" and len(module) > 1 else f"{where}.{name}"


def revision_of(kind: type) -> int:
    """A settings class's ``REVISION``, 1 where it has none."""
    return int(getattr(kind, "REVISION", 1))


def revisions_in(value: Any) -> dict[str, int]:
    """The revisions that are not 1 of all settings in a value, by class name. What has a ``fingerprint`` is not entered."""
    if hasattr(value, "fingerprint"):
        return {}
    found: dict[str, int] = {}
    inside: list[Any] = []
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        inside = [getattr(value, f.name) for f in dataclasses.fields(value)]
        found = {class_name(type(value)): revision_of(type(value))} if revision_of(type(value)) != 1 else {}
    elif isinstance(value, Mapping):
        inside = list(value.values())
    elif isinstance(value, list | tuple | frozenset | set):
        inside = list(value)
    for v in inside:
        found |= revisions_in(v)
    return dict(sorted(found.items()))


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The field's default value, or ``dataclasses.MISSING``."""
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def changed_fields(spec: Any) -> dict[str, Any]:
    """The fields of a settings object that differ from their defaults (required ones always do)."""
    found = {f.name: (getattr(spec, f.name), default_of(f)) for f in dataclasses.fields(spec)}
    return {k: v for k, (v, default) in found.items() if default is dataclasses.MISSING or _differ(v, default)}


def _differ(value: Any, default: Any) -> bool:
    try:
        return bool(value != default)
    except (ValueError, RuntimeError):  # arrays and tensors answer one by one
        return True


def canonical(value: Any) -> JSON:
    """What a key is made of.

    An object with a ``fingerprint`` stands for its content; settings become their class, their ``REVISION`` and the
    fields that differ from their defaults, so that a new field with a default changes no key; numbers are normalised
    (``1.0`` is ``1``).

    Raises:
        TypeError: for a value that has no canonical form (a function, an open file, an array).
    """
    if hasattr(value, "fingerprint"):
        return str(value.fingerprint)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        then = first_name(type(value))[1]
        body = {then.get(k, k): canonical(v) for k, v in changed_fields(value).items()}
        revision = revision_of(type(value))
        return {class_name(type(value)): body | ({"REVISION": revision} if revision != 1 else {})}
    if isinstance(value, Mapping):
        return {str(k): canonical(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(v) for v in value]
    if isinstance(value, frozenset | set):
        return sorted(canonical(v) for v in value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return int(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be part of a key; give it a `fingerprint` or use Run.given")


def digest(*values: Any) -> str:
    """Sha256 of the canonical JSON of the values, as 64 hex digits."""
    text = json.dumps(canonical(values), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def encode(spec: Any) -> JSON:
    """Settings as JSON that :func:`decode` reads back: every field, and where the class lives."""
    if isinstance(spec, list | tuple):
        return [encode(v) for v in spec]
    if isinstance(spec, frozenset | set):
        return sorted(encode(v) for v in spec)
    if dataclasses.is_dataclass(spec) and not isinstance(spec, type):
        where = f"{type(spec).__module__}:{type(spec).__qualname__}"
        return {"class": where} | {f.name: encode(getattr(spec, f.name)) for f in dataclasses.fields(spec)}
    assert spec is None or isinstance(spec, str | int | float | bool), f"no setting: {spec!r}"
    return spec


def decode(body: JSON, trusted: bool = False) -> Any:
    """Settings back from JSON.

    Args:
        body: of :func:`encode`.
        trusted: the file is the user's own store, so settings classes that the program has imported itself are built
            too; otherwise only those of this package. Nothing outside the package is ever imported for a file's sake.

    Raises:
        DataDamaged: when the file names anything else, or fields that the class does not have.
    """
    if isinstance(body, list):
        return tuple(decode(v, trusted) for v in body)
    if not isinstance(body, dict):
        return body
    where = str(body.get("class", ""))
    module, _, name = NAMES_NOW.get(where, where).partition(":")
    kind: Any = getattr(sys.modules.get(module), name, None) if trusted else None
    if module.startswith("salientry.") and not module.endswith("__main__"):
        with contextlib.suppress(ImportError):
            kind = getattr(importlib.import_module(module), name, None)
    if not isinstance(kind, type) or not dataclasses.is_dataclass(kind) or not (trusted or kind.__module__.startswith("salientry.")):
        raise DataDamaged(f"a file asks for the settings class {body.get('class')!r}; only settings of salientry are read from files")
    now = {then: field for field, then in first_name(kind)[1].items()}
    try:
        return kind(**{str(now.get(k, k)): decode(v, trusted) for k, v in body.items() if k != "class"})
    except (TypeError, AttributeError, UsageError) as e:
        raise DataDamaged(f"settings of {name} in a file do not fit this version: {e}") from None


def label(spec: Any) -> str:
    """A readable name: the class and the settings that differ from their defaults, ``DeepFool-steps=2``. Results are found by it in a
    store, so a renamed class keeps its first name here too.
    """
    if not dataclasses.is_dataclass(spec):
        return str(canonical(spec) if isinstance(spec, float) else spec)
    name, then = first_name(type(spec))
    parts = [f"{then.get(k, k)}={label(v)}" for k, v in changed_fields(spec).items()]
    return "-".join([name.rpartition(":")[2].rpartition(".")[2], *parts])


def name_of(spec: Any) -> str:
    """What tables call settings: their class, or the name that they give themselves."""
    return str(getattr(spec, "name", type(spec).__name__))
