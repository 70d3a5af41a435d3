"""A golden output of every method: it fails when numbers move and the revision did not.

`python -m tests.test_golden` writes tests/reference/golden.json again; do so only together with a raised REVISION (or for a new
method), and write "numbers changed" in CHANGELOG.md. Tolerances leave room for another processor's rounding, not for another method.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from salientry.harmless import HARMLESS, JPEG, TRANSFORMS, WebP
from tests import examples
from tests.examples import SHAPES, conv, images, predicted, seeds

REFERENCE = Path(__file__).parent / "reference" / "golden.json"
SHAPE = SHAPES["grey"]


def summary(values: Tensor) -> list[float]:
    """Mean, spread, and three values of a tensor."""
    flat = values.double().flatten()
    return [float(v) for v in (flat.mean(), flat.std(), flat[0], flat[len(flat) // 3], flat[-1])]


def attack(spec: Any) -> Tensor:
    net, x = conv(SHAPE), images(SHAPE, 8)
    moved: Tensor = spec(net, x, predicted(net, x), seeds=seeds(8)) - x
    return moved


def control(spec: Any) -> Tensor:
    x = images(SHAPE, 8, dtype=torch.float64 if getattr(spec, "in_float", False) else torch.float32)  # the last bits are not golden
    moved: Tensor = spec(x, (x + 0.1).clamp(0, 1), seeds=seeds(8)) - x
    return moved


def change(spec: Any) -> Tensor:
    x = images(SHAPE, 8)
    moved: Tensor = spec(x, seeds=seeds(8)) - x
    return moved


def classifier(spec: Any) -> Tensor:
    x, y = images(SHAPE, 64), torch.arange(64) % SHAPE.classes
    with torch.no_grad():
        logits: Tensor = spec.fit(x, y, SHAPE, seed=1)(x[:8])
    return logits


def saliency(spec: Any) -> Tensor:
    x, y = images(SHAPE, 64), torch.arange(64) % SHAPE.classes
    with torch.no_grad():
        drawn: Tensor = spec.fit(x, y, conv(SHAPE), SHAPE, seed=1)(x[:8], y[:8])["map"]
    return drawn


def detector(spec: Any, *parts: nn.Module) -> Tensor:
    natural, adversarial = examples.natural_and_adversarial(spec, 64)
    fitted = examples.fitted(spec, examples.ViewPairs.of(spec, natural, adversarial, *parts), *parts, seed=1)
    with torch.no_grad():
        return torch.cat([fitted(natural)[:8], fitted(adversarial)[:8]])


MAKERS: dict[str, tuple[Callable[[], dict[str, Any]], Callable[..., Tensor], float]] = {
    "attacks": (examples.attacks, attack, 1e-4),
    "controls": (examples.controls, control, 1e-4),
    "harmless": (lambda: {k: v for k, v in HARMLESS.items() if not isinstance(v, JPEG | WebP)}, change, 1e-4),  # they are Pillow's
    "transforms": (lambda: TRANSFORMS, change, 1e-4),
    "classifiers": (examples.classifiers, classifier, 2e-2),
    "saliency": (examples.saliency, saliency, 2e-2),
    "detectors": (examples.detectors, detector, 2e-2),
}
CASES = [(folder, name) for folder, (specs, _, _) in MAKERS.items() for name in specs()]


def golden(folder: str, name: str) -> dict[str, Any]:
    specs, maker, _ = MAKERS[folder]
    spec, parts = specs()[name], examples.parts(name) if folder == "detectors" else ()
    return {"revision": getattr(spec, "REVISION", 1), "numbers": summary(maker(spec, *parts))}


@pytest.mark.parametrize(("folder", "name"), CASES, ids=lambda v: str(v))
def test_numbers_move_only_with_their_revision(folder: str, name: str) -> None:
    known = json.loads(REFERENCE.read_text()).get(f"{folder}.{name}")
    assert known is not None, "a new method: write its golden output (see this file's first lines)"
    now = golden(folder, name)
    assert now["revision"] == known["revision"], "the revision was raised: write the golden output again"
    scale = max(abs(v) for v in known["numbers"]) or 1.0
    assert now["numbers"] == pytest.approx(known["numbers"], abs=MAKERS[folder][2] * scale)


def test_the_reference_holds_no_strangers() -> None:
    assert set(json.loads(REFERENCE.read_text())) == {f"{f}.{n}" for f, n in CASES}


if __name__ == "__main__":
    torch.set_num_threads(1)
    REFERENCE.write_text(json.dumps({f"{f}.{n}": golden(f, n) for f, n in CASES}, indent=1) + "\n")
