"""Detectors and floors: one file each. To add one, copy ``margin.py`` (no net) or ``spd.py`` (a CNN), add a line here, write its test."""

from ..contracts import Detector
from ._cnn import REPLICA, SmallCNN
from .black_share import BlackShare
from .exists import Exists
from .high_frequency import HighFrequency
from .id import ID
from .margin import Margin
from .margin2 import Margin2
from .opinion import Opinion
from .smd import SMD
from .sorted_logits import SortedLogits
from .spd import SPD

DETECTORS: dict[str, type[Detector]] = {
    "smd": SMD,
    "spd": SPD,
    "id": ID,
    "margin": Margin,
    "margin2": Margin2,
    "sorted_logits": SortedLogits,
    "exists": Exists,
    "opinion": Opinion,
    "black_share": BlackShare,
    "high_frequency": HighFrequency,
}

__all__ = [
    "DETECTORS",
    "ID",
    "REPLICA",
    "SMD",
    "SPD",
    "BlackShare",
    "Exists",
    "HighFrequency",
    "Margin",
    "Margin2",
    "Opinion",
    "SmallCNN",
    "SortedLogits",
]
