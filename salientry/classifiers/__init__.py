"""Classifiers: one file each, normalisation inside. A user's own comes in through External."""

from ..contracts import ClassifierSettings
from ._loading import load_classifier, save_classifier
from .compact import CompactCNN
from .external import External

CLASSIFIERS: dict[str, type[ClassifierSettings]] = {"compact": CompactCNN}

__all__ = ["CLASSIFIERS", "CompactCNN", "External", "load_classifier", "save_classifier"]
