"""Attacks: one file each. To add one, copy ``fgsm.py``, add a line here, write its test; the contract suite does the rest."""

from ..contracts import Attack
from .deepfool import DeepFool
from .fgsm import FGSM

ATTACKS: dict[str, type[Attack]] = {"fgsm": FGSM, "deepfool": DeepFool}

__all__ = ["ATTACKS", "FGSM", "DeepFool"]
