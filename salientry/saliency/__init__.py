"""Saliency models: one file each, (image, class) to a map."""

from ..types import SaliencySettings
from ._encoder import SimpleClassifier
from ._fill import Fill
from ._losses import Eq2, MarginLoss
from ._trunk import Trunk
from .gradient import Gradient
from .gradient_input import GradientInput
from .guided import GuidedBackprop
from .unet import UNet

SALIENCY: dict[str, type[SaliencySettings]] = {
    "unet": UNet,
    "gradient": Gradient,
    "gradient_input": GradientInput,
    "guided": GuidedBackprop,
}

__all__ = ["SALIENCY", "Eq2", "Fill", "Gradient", "GradientInput", "GuidedBackprop", "MarginLoss", "SimpleClassifier", "Trunk", "UNet"]
