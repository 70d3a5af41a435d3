"""Attacks: one file each. To add one, copy ``fgsm.py``, add a line here, write its test; the contract suite does the rest."""

from ..types import Attack
from .apgd import APGD
from .apgd_l2 import APGDL2
from .autoattack import AutoAttack
from .autoattack_l2 import AutoAttackL2
from .bim import BIM
from .cw import CW_FAST, CW_REDUCED, CarliniWagner
from .ddn import DDN
from .deepfool import DeepFool
from .external import ExternalAttack, as_attack
from .fab import FAB
from .fgsm import FGSM
from .fmn import FMN
from .hop_skip_jump import HopSkipJumpL2
from .jsma import JSMA, JSMA_STRICT
from .margin_descent import MarginDescent
from .mim import MIM
from .mixture import Mixture
from .patch import Patch
from .pgd import PGD
from .pgd_l2 import PGDL2
from .spatial import Spatial
from .square import Square
from .square_l2 import SquareL2
from .transfer import Transfer
from .universal import Universal

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
    "apgd": APGD,
    "apgd_l2": APGDL2,
    "fab": FAB,
    "square": Square,
    "square_l2": SquareL2,
    "autoattack": AutoAttack,
    "autoattack_l2": AutoAttackL2,
    "ddn": DDN,
    "fmn": FMN,
    "spatial": Spatial,
    "hop_skip_jump": HopSkipJumpL2,
}

__all__ = [
    "APGD",
    "APGDL2",
    "ATTACKS",
    "BIM",
    "CW_FAST",
    "CW_REDUCED",
    "DDN",
    "FAB",
    "FGSM",
    "FMN",
    "JSMA",
    "JSMA_STRICT",
    "MIM",
    "PGD",
    "PGDL2",
    "AutoAttack",
    "AutoAttackL2",
    "CarliniWagner",
    "DeepFool",
    "ExternalAttack",
    "HopSkipJumpL2",
    "MarginDescent",
    "Mixture",
    "Patch",
    "Spatial",
    "Square",
    "SquareL2",
    "Transfer",
    "Universal",
    "as_attack",
]
