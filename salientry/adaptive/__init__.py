"""Attacks on a classifier and the detector in front of it, by someone who knows both: ``attack(defended, x, y, seeds=...) -> x_adv``."""

from ._defended import Defended, Look, Stop, differentiable
from .alarm import Alarm
from .alternating import Alternating, SingleStep
from .joint import Joint
from .minimal import Minimal
from .orthogonal import Orthogonal
from .selective import Selective
from .simultaneous import Simultaneous

ADAPTIVE = {
    "alternating": Alternating,
    "simultaneous": Simultaneous,
    "selective": Selective,
    "orthogonal": Orthogonal,
    "joint": Joint,
    "minimal": Minimal,
    "alarm": Alarm,
}

__all__ = [
    "ADAPTIVE",
    "Alarm",
    "Alternating",
    "Defended",
    "Joint",
    "Look",
    "Minimal",
    "Orthogonal",
    "Selective",
    "Simultaneous",
    "SingleStep",
    "Stop",
    "differentiable",
]
