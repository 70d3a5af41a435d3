"""Saliency models: one file each, (image, class) to a map."""

from ..contracts import SaliencySettings
from ._encoder import SimpleClassifier
from ._fill import Fill
from ._losses import Eq2, MarginLoss
from .unet import UNet

SALIENCY: dict[str, type[SaliencySettings]] = {"unet": UNet}

__all__ = ["SALIENCY", "Eq2", "Fill", "MarginLoss", "SimpleClassifier", "UNet"]
