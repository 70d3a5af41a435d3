"""Harmless changes of an image: they should neither change the classifier's answer nor be flagged. One file each.

The caller rounds to 8 bits. ``HARMLESS`` are the changes that guards learn from and are tried on: ``TRAINED`` names those that they learn
from, ``UNSEEN_KINDS`` those of kinds that none is trained or chosen with. ``TRANSFORMS`` are cheap, differentiable, and the same at every
call: a classifier is asked about an image again under each.
"""

from ..types import HarmlessChange
from ._together import together
from ._validation import unchecked
from .blur import Blur
from .brightness import Brightness
from .contrast import Contrast
from .gamma import Gamma
from .jpeg import JPEG
from .noise import Noise
from .one_of import OneOf
from .resized import Resized
from .rotation import Rotation
from .shift import Shift
from .webp import WebP
from .zoom import Zoom

HARMLESS: dict[str, HarmlessChange] = {
    "sign_8": Noise(8 / 255),
    "sign_4": Noise(4 / 255),
    "sign_2": Noise(2 / 255),
    "gaussian_8": Noise(8 / 255, "gaussian"),
    "gaussian_3": Noise(3 / 255, "gaussian"),
    "uniform_8": Noise(8 / 255, "uniform"),
    "jpeg_90": JPEG(90),
    "jpeg_75": JPEG(75),
    "jpeg_50": JPEG(50),
    "webp_80": WebP(80),
    "blur": Blur(),
    "brighter": Brightness(1.1),
    "darker": Brightness(0.9),
    "contrast": Contrast(),
    "gamma": Gamma(),
    "shift": Shift(down=2, right=2),
    "resize": Resized(),
}
TRAINED = ("sign_8", "sign_4", "sign_2", "gaussian_3", "jpeg_75", "blur", "brighter")
UNSEEN_KINDS = ("shift", "resize", "contrast", "gamma")

TRANSFORMS: dict[str, HarmlessChange] = {
    "blur": Blur(centre=1 / 9, corner=1.0),
    "noise": Noise(4 / 255, fixed=True),
    "shift": Shift(down=1, right=1),
    "shift_back": Shift(down=-0.5, right=-0.5),
    "rotation": Rotation(6),
    "rotation_back": Rotation(-6),
    "zoom_in": Zoom(1.12),
    "zoom_out": Zoom(0.9),
    "darker": Brightness(0.8),
}

__all__ = [
    "HARMLESS",
    "JPEG",
    "TRAINED",
    "TRANSFORMS",
    "UNSEEN_KINDS",
    "Blur",
    "Brightness",
    "Contrast",
    "Gamma",
    "Noise",
    "OneOf",
    "Resized",
    "Rotation",
    "Shift",
    "WebP",
    "Zoom",
    "together",
    "unchecked",
]
