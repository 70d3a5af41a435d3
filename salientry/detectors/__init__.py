"""Detectors and baselines: one file each. To add one, copy ``margin.py`` (no net) or ``spd.py`` (a CNN), add a line here and its test."""

from ..paper_cnn import PaperCNN
from ..types import Detector
from ._cnn import FULL_RESOLUTION, REPLICA, SmallCNN
from ._fitted import may_need
from .black_share import BlackShare
from .cascade import Cascade
from .class_presence import ClassPresence
from .consistency import Consistency
from .counter_attack import CounterAttack
from .deep_knn import DeepKNN
from .energy import Energy
from .external import ExternalDetector, as_detector
from .feature_squeezing import FeatureSqueezing
from .fourier_spectrum import FourierSpectrum
from .fused import Fused
from .high_frequency import HighFrequency
from .id import ID
from .id_plus import IDPlus
from .jsd import JSD
from .kernel_density import KernelDensity
from .layer_statistics import LayerStatistics
from .learned_fusion import LearnedFusion
from .lid import LID
from .mahalanobis import Mahalanobis
from .margin import Margin
from .margin2 import Margin2
from .masked import Masked
from .msp import MSP
from .noise_level import NoiseLevel
from .noise_structure import NoiseStructure
from .p_values import PValues
from .pasa import PASA
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
    "noise_structure": NoiseStructure,
    "consistency": Consistency,
    "second_opinion": SecondOpinion,
    "layer_statistics": LayerStatistics,
    "masked": Masked,
    "learned_fusion": LearnedFusion,
    "cascade": Cascade,
    "msp": MSP,
    "energy": Energy,
    "feature_squeezing": FeatureSqueezing,
    "lid": LID,
    "kernel_density": KernelDensity,
    "deep_knn": DeepKNN,
    "counter_attack": CounterAttack,
    "fourier_spectrum": FourierSpectrum,
    "pasa": PASA,
    "p_values": PValues,
}

PUBLISHED_DETECTORS: dict[str, Detector] = {  # ten of the literature as their papers have them, by what tables call them
    "feature squeezing": FeatureSqueezing(),
    "Mahalanobis": Mahalanobis(),
    "LID": LID(),
    "kernel density": KernelDensity(),
    "deep kNN": DeepKNN(),
    "counter-attack": CounterAttack(),
    "Fourier spectrum": FourierSpectrum(),
    "layer statistics": LayerStatistics(),
    "PASA": PASA(),
    "p-values, untrained": PValues(),
}

__all__ = [
    "DETECTORS",
    "FULL_RESOLUTION",
    "ID",
    "JSD",
    "LID",
    "MSP",
    "PASA",
    "PUBLISHED_DETECTORS",
    "REPLICA",
    "SMD",
    "SPD",
    "BlackShare",
    "Cascade",
    "ClassPresence",
    "Consistency",
    "CounterAttack",
    "DeepKNN",
    "Energy",
    "ExternalDetector",
    "FeatureSqueezing",
    "FourierSpectrum",
    "Fused",
    "HighFrequency",
    "IDPlus",
    "KernelDensity",
    "LayerStatistics",
    "LearnedFusion",
    "Mahalanobis",
    "Margin",
    "Margin2",
    "Masked",
    "NoiseLevel",
    "NoiseStructure",
    "PValues",
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
