"""Attacks: one file each. To add one, copy ``fgsm.py``, add a line here, write its test; the contract suite does the rest."""

from ..types import Attack
from .bim import BIM
from .cw import CW_FAST, CW_REDUCED, CarliniWagner
from .deepfool import DeepFool
from .fgsm import FGSM
from .jsma import JSMA, JSMA_STRICT
from .margin_descent import MarginDescent
from .mim import MIM
from .mixture import Mixture
from .patch import Patch
from .pgd import PGD
from .pgd_l2 import PGDL2

ATTACKS: dict[str, type[Attack]] = {
    "fgsm": FGSM,
    "bim": BIM,
    "mim": MIM,
    "deepfool": DeepFool,
    "cw": CarliniWagner,
    "jsma": JSMA,
    "pgd": PGD,
    "pgd_l2": PGDL2,
    "margin_descent": MarginDescent,
    "patch": Patch,
}

__all__ = [
    "ATTACKS",
    "BIM",
    "CW_FAST",
    "CW_REDUCED",
    "FGSM",
    "JSMA",
    "JSMA_STRICT",
    "MIM",
    "PGD",
    "PGDL2",
    "CarliniWagner",
    "DeepFool",
    "MarginDescent",
    "Mixture",
    "Patch",
]
