"""Classifiers: one file each, normalisation inside. A user's own comes in through External."""

from ..types import ClassifierSettings
from ._loading import load_classifier, named, save_classifier
from .adversarially_trained import AdversariallyTrained
from .compact import CompactCNN
from .external import External
from .paper import PaperCNN
from .picture import PictureCNN
from .residual import ResidualCNN

CLASSIFIERS: dict[str, type[ClassifierSettings]] = {
    "adversarially_trained": AdversariallyTrained,
    "compact": CompactCNN,
    "paper": PaperCNN,
    "picture": PictureCNN,
    "residual": ResidualCNN,
}

__all__ = [
    "CLASSIFIERS",
    "AdversariallyTrained",
    "CompactCNN",
    "External",
    "PaperCNN",
    "PictureCNN",
    "ResidualCNN",
    "load_classifier",
    "named",
    "save_classifier",
]
