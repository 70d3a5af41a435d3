from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, is_dataclass
from typing import Any

import pytest

from salientry.attacks import ATTACKS
from salientry.classifiers import CLASSIFIERS
from salientry.controls import CONTROLS
from salientry.datasets import DATASETS
from salientry.detectors import DETECTORS
from salientry.keys import decode, encode
from salientry.saliency import SALIENCY
from salientry.types import Attack, Control

from . import examples

KINDS = [
    (examples.attacks, ATTACKS),
    (examples.controls, CONTROLS),
    (examples.saliency, SALIENCY),
    (examples.detectors, DETECTORS),
    (examples.classifiers, CLASSIFIERS),
    (examples.datasets, DATASETS),
]
EVERY = [pytest.param(spec, known[name], id=f"{make.__name__}-{name}") for make, known in KINDS for name, spec in make().items()]


@pytest.mark.parametrize(("spec", "kind"), EVERY)
def test_settings_are_frozen_and_survive_json(spec: Any, kind: type) -> None:
    assert type(spec) is kind and is_dataclass(spec)
    assert decode(encode(spec)) == spec
    with pytest.raises(FrozenInstanceError):
        setattr(spec, next(iter([f.name for f in fields(spec)]), "anything"), 1)


def test_protocols_that_can_be_checked_are_met() -> None:
    assert all(isinstance(a, Attack) for a in examples.attacks().values())
    assert all(isinstance(c, Control) for c in examples.controls().values())
