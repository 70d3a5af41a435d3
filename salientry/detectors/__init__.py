"""Detectors and baselines: one file each. To add one, copy ``margin.py`` (no net) or ``spd.py`` (a CNN), add a line here and its test."""

from ..paper_cnn import PaperCNN
from ..types import Detector
from ._cnn import FULL_RESOLUTION, REPLICA, SmallCNN
from ._fitted import may_need
from .black_share import BlackShare
from .cascade import Cascade
from .class_presence import ClassPresence
from .consistency import Consistency
from .external import ExternalDetector, as_detector
from .fused import Fused
from .high_frequency import HighFrequency
from .id import ID
from .id_plus import IDPlus
from .jsd import JSD
from .layer_statistics import LayerStatistics
from .learned_fusion import LearnedFusion
from .mahalanobis import Mahalanobis
from .margin import Margin
from .margin2 import Margin2
from .masked import Masked
from .noise_level import NoiseLevel
from .pooled_activations import PooledActivations
from .second_net import SecondNet
from .second_opinion import SecondOpinion
from .smd import SMD
from .sorted_logits import SortedLogits
from .spd import SPD
from .top_logits import TopLogits

DETECTORS: dict[str, type[Detector]] = {  # in this order recipes train them, and of equals the first is chosen
    "spd": SPD,
    "smd": SMD,
    "id_plus": IDPlus,
    "id": ID,
    "jsd": JSD,
    "sorted_logits": SortedLogits,
    "pooled_activations": PooledActivations,
    "margin": Margin,
    "margin2": Margin2,
    "class_presence": ClassPresence,
    "second_net": SecondNet,
    "black_share": BlackShare,
    "high_frequency": HighFrequency,
    "mahalanobis": Mahalanobis,
    "fused": Fused,
    "top_logits": TopLogits,
    "noise_level": NoiseLevel,
    "consistency": Consistency,
    "second_opinion": SecondOpinion,
    "layer_statistics": LayerStatistics,
    "masked": Masked,
    "learned_fusion": LearnedFusion,
    "cascade": Cascade,
}

__all__ = [
    "DETECTORS",
    "FULL_RESOLUTION",
    "ID",
    "JSD",
    "REPLICA",
    "SMD",
    "SPD",
    "BlackShare",
    "Cascade",
    "ClassPresence",
    "Consistency",
    "ExternalDetector",
    "Fused",
    "HighFrequency",
    "IDPlus",
    "LayerStatistics",
    "LearnedFusion",
    "Mahalanobis",
    "Margin",
    "Margin2",
    "Masked",
    "NoiseLevel",
    "PaperCNN",
    "PooledActivations",
    "SecondNet",
    "SecondOpinion",
    "SmallCNN",
    "SortedLogits",
    "TopLogits",
    "as_detector",
    "may_need",
]
