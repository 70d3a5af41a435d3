"""Attacks on a classifier and the detector in front of it, by someone who knows both: ``attack(defended, x, y, seeds=...) -> x_adv``."""

from ._defended import Defended, Look, Stop, differentiable
from .alarm import Alarm
from .alternating import Alternating, SingleStep
from .hop_skip_jump import HopSkipJump
from .joint import Joint
from .minimal import Minimal
from .orthogonal import Orthogonal
from .selective import Selective
from .simultaneous import Simultaneous
from .square_search import SquareSearch

ADAPTIVE = {
    "alternating": Alternating,
    "simultaneous": Simultaneous,
    "selective": Selective,
    "orthogonal": Orthogonal,
    "joint": Joint,
    "minimal": Minimal,
    "alarm": Alarm,
    "hop_skip_jump": HopSkipJump,
    "square_search": SquareSearch,
}

__all__ = [
    "ADAPTIVE",
    "Alarm",
    "Alternating",
    "Defended",
    "HopSkipJump",
    "Joint",
    "Look",
    "Minimal",
    "Orthogonal",
    "Selective",
    "Simultaneous",
    "SingleStep",
    "SquareSearch",
    "Stop",
    "differentiable",
]
