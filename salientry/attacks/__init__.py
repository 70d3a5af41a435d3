"""Attacks: one file each. To add one, copy ``fgsm.py``, add a line here, write its test; the contract suite does the rest."""

from ..types import Attack
from .bim import BIM
from .cw import CW_FAST, CW_REDUCED, CarliniWagner
from .deepfool import DeepFool
from .fgsm import FGSM
from .jsma import JSMA, JSMA_STRICT
from .mim import MIM

ATTACKS: dict[str, type[Attack]] = {"fgsm": FGSM, "bim": BIM, "mim": MIM, "deepfool": DeepFool, "cw": CarliniWagner, "jsma": JSMA}

__all__ = ["ATTACKS", "BIM", "CW_FAST", "CW_REDUCED", "FGSM", "JSMA", "JSMA_STRICT", "MIM", "CarliniWagner", "DeepFool"]
