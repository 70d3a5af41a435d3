"""Saliency models: one file each, (image, class) to a map."""

from ..types import SaliencySettings
from ._encoder import SimpleClassifier
from ._fill import Fill
from ._losses import Eq2, MarginLoss
from ._trunk import Trunk
from .enhanced_guided import EnhancedGuidedBackprop
from .gradient import Gradient
from .gradient_input import GradientInput
from .guided import GuidedBackprop
from .optimised_mask import OptimisedMask
from .paper_settings import PAPER_ASSIRA, PAPER_CIFAR10, PAPER_MNIST, variants
from .unet import UNet

SALIENCY: dict[str, type[SaliencySettings]] = {
    "unet": UNet,
    "gradient": Gradient,
    "gradient_input": GradientInput,
    "guided": GuidedBackprop,
    "enhanced_guided": EnhancedGuidedBackprop,
    "optimised_mask": OptimisedMask,
}

__all__ = [
    "PAPER_ASSIRA",
    "PAPER_CIFAR10",
    "PAPER_MNIST",
    "SALIENCY",
    "EnhancedGuidedBackprop",
    "Eq2",
    "Fill",
    "Gradient",
    "GradientInput",
    "GuidedBackprop",
    "MarginLoss",
    "OptimisedMask",
    "SimpleClassifier",
    "Trunk",
    "UNet",
    "variants",
]
