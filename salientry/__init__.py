"""Salientry detects adversarial examples in front of an image classifier.

The public names, loaded when they are first used, so that ``import salientry`` imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .attacks import ATTACKS as ATTACKS
    from .classifiers import CLASSIFIERS as CLASSIFIERS
    from .classifiers import External as External
    from .controls import CONTROLS as CONTROLS
    from .datasets import DATASETS as DATASETS
    from .detectors import DETECTORS as DETECTORS
    from .errors import Error as Error
    from .evidence import Evidence as Evidence
    from .experiment.attack_guard import attack_guard as attack_guard
    from .experiment.fit_guard import fit_guard as fit_guard
    from .experiment.refit_guard import refit_guard as refit_guard
    from .experiment.run import Run as Run
    from .experiment.second_network import SecondNetwork as SecondNetwork
    from .guard import Guard as Guard
    from .harmless import HARMLESS as HARMLESS
    from .judging import judge as judge
    from .recalibration import recalibrate as recalibrate
    from .saliency import SALIENCY as SALIENCY
    from .verdict import Verdict as Verdict

__version__ = "0.2.0"

_WHERE = {
    "Guard": "guard",
    "Verdict": "verdict",
    "attack_guard": "experiment.attack_guard",
    "fit_guard": "experiment.fit_guard",
    "refit_guard": "experiment.refit_guard",
    "SecondNetwork": "experiment.second_network",
    "judge": "judging",
    "recalibrate": "recalibration",
    "External": "classifiers",
    "Evidence": "evidence",
    "Run": "experiment.run",
    "DATASETS": "datasets",
    "CLASSIFIERS": "classifiers",
    "ATTACKS": "attacks",
    "CONTROLS": "controls",
    "HARMLESS": "harmless",
    "SALIENCY": "saliency",
    "DETECTORS": "detectors",
    "Error": "errors",
}

__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'salientry' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
