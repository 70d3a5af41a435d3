"""One cheap example of every entry of every dict of methods, and tiny networks and images to try them on.

A new entry that can be built without arguments needs no line here; one that is slow by default gets its cheap settings here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salientry.attacks import (
    APGD,
    APGDL2,
    ATTACKS,
    BIM,
    DDN,
    FAB,
    FMN,
    PGD,
    PGDL2,
    AutoAttack,
    AutoAttackL2,
    CarliniWagner,
    DeepFool,
    HopSkipJumpL2,
    Patch,
    Spatial,
    Square,
    SquareL2,
)
from salientry.classifiers import CLASSIFIERS, AdversariallyTrained, CompactCNN, PaperCNN, PictureCNN, ResidualCNN
from salientry.controls import CONTROLS
from salientry.datasets import DATASETS
from salientry.detectors import (
    DETECTORS,
    ID,
    JSD,
    LID,
    SMD,
    SPD,
    Cascade,
    Consistency,
    CounterAttack,
    DeepKNN,
    IDPlus,
    KernelDensity,
    LayerStatistics,
    LearnedFusion,
    Mahalanobis,
    Margin,
    Masked,
    NoiseLevel,
    NoiseStructure,
    PooledActivations,
    SecondOpinion,
    SmallCNN,
    SortedLogits,
    TopLogits,
)
from salientry.detectors._committee import Committee
from salientry.detectors.mahalanobis import gaussians_of
from salientry.evidence import LAYER, UNDERS, Evidence
from salientry.evidence_set import EvidenceSet
from salientry.saliency import SALIENCY, OptimisedMask, SimpleClassifier, UNet
from salientry.types import Attack, ClassifierSettings, Control, DataSet, Detector, SaliencySettings, Shape

SHAPES = {"grey": Shape(1, 12, 12, 4), "colour": Shape(3, 10, 14, 5), "odd": Shape(2, 11, 13, 3)}
HEAD = SmallCNN(width=4, epochs=6, batch=32, lr=1e-2)
FEW = Committee(members=2, width=16, dropout=0.1, weight_decay=0.01, steps=150, batch=64)
CONVOLUTIONS = ("0", "3")  # of `conv`
MAHALANOBIS = Mahalanobis(layers=CONVOLUTIONS)

CHEAP: dict[str, dict[str, Any]] = {
    "attacks": {
        "deepfool": DeepFool(steps=12),
        "cw": CarliniWagner(search_steps=2, steps=40, lr=0.3, initial_const=10.0, abort_early=False),
        "pgd": PGD(0.15),
        "pgd_l2": PGDL2(2.0),
        "patch": Patch(share=0.4),
        "apgd": APGD(0.15, steps=20),
        "apgd_l2": APGDL2(2.0, steps=20),
        "fab": FAB(steps=5, candidates=1),
        "square": Square(0.4, queries=80),
        "square_l2": SquareL2(8.0, queries=40),
        "autoattack": AutoAttack(0.3, steps=10, queries=20, candidates=2),
        "autoattack_l2": AutoAttackL2(2.0, steps=10, queries=20, candidates=2),
        "ddn": DDN(steps=20),
        "fmn": FMN(steps=20),
        "spatial": Spatial(180.0, 5.0, queries=20),
        "hop_skip_jump": HopSkipJumpL2(200, probes=30),
    },
    "controls": {},
    "saliency": {
        "unet": UNet(
            encoder=SimpleClassifier(base=4, scales=2, epochs=1, batch=16), epochs=1, selector_epochs=1, batch=16, selector_batch=16
        ),
        "optimised_mask": OptimisedMask(steps=4, cell=4),
    },
    "detectors": {
        "smd": SMD(HEAD),
        "spd": SPD(HEAD),
        "id": ID(HEAD),
        "id_plus": IDPlus(replace(HEAD, strides=(1, 2, 2))),
        "jsd": JSD(head=HEAD),
        "sorted_logits": SortedLogits(width=8, epochs=40, batch=32),
        "mahalanobis": MAHALANOBIS,
        "pooled_activations": PooledActivations(width=8, epochs=40, batch=32),
        "top_logits": TopLogits(FEW),
        "noise_level": NoiseLevel(FEW),
        "noise_structure": NoiseStructure(FEW),
        "consistency": Consistency(("blur", "shift_back"), FEW),
        "second_opinion": SecondOpinion(("shift",), FEW),
        "layer_statistics": LayerStatistics(("0", "3"), FEW),
        "masked": Masked(FEW),
        "lid": LID(10, 100, CONVOLUTIONS),
        "kernel_density": KernelDensity(reference=100, layers=CONVOLUTIONS),
        "deep_knn": DeepKNN(10, 100, CONVOLUTIONS),
        "counter_attack": CounterAttack(30, 0.02),
        "learned_fusion": LearnedFusion((TopLogits(), SecondOpinion()), head=FEW),
        "cascade": Cascade(TopLogits(FEW), LearnedFusion((TopLogits(), Consistency(("blur", "shift_back"))), head=FEW)),
    },
    "classifiers": {
        "adversarially_trained": AdversariallyTrained(CompactCNN(width=4, epochs=2, batch=16, shift=1), BIM(0.02, 0.01, 2)),
        "compact": CompactCNN(width=4, epochs=2, batch=16, shift=1),
        "paper": PaperCNN(blocks=((1, 8, 3), (1, 8, 4)), dense=(16,), dropout=0.3, epochs=2, batch=16, lr=3e-3),
        "picture": PictureCNN(width=4, stages=2, small_epochs=1, epochs=2, small=8, batch=16, zoom=1.0, turn=0.0, shift=0.0),
        "residual": ResidualCNN(width=4, epochs=2, batch=16, lr=0.05, crop=1, flip=False),  # mirrored stripes are another class
    },
    "datasets": {},
}


def _all(kind: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """Name to example; an entry without one is built from its defaults, and a TypeError here says that it needs a line in CHEAP."""
    strangers = set(CHEAP[kind]) - set(known)
    assert not strangers, f"CHEAP[{kind!r}] speaks of {strangers}, which {kind} does not have"
    return {name: CHEAP[kind][name] if name in CHEAP[kind] else make() for name, make in known.items()}


def attacks() -> dict[str, Attack]:
    return _all("attacks", ATTACKS)


def controls() -> dict[str, Control]:
    return _all("controls", CONTROLS)


def saliency() -> dict[str, SaliencySettings]:
    return _all("saliency", SALIENCY)


def detectors() -> dict[str, Detector]:
    return _all("detectors", DETECTORS)


@cache
def parts(name: str) -> tuple[nn.Module, ...]:
    """What a detector depends on: two detectors for the fusion and for the cascade, what others know of naturals. Shared, so leave them
    alone.
    """
    given = natural_evidence(96, seed=20), adversarial_evidence(96, seed=21)
    if name == "mahalanobis":
        known = EvidenceSet.of(given[0], given[0])
        return (gaussians_of(known, MAHALANOBIS.layers, MAHALANOBIS.shrinkage),)
    if name in ("lid", "kernel_density", "deep_knn", "p_values"):
        spec: Any = detectors()[name]
        naturals, twins = natural_and_adversarial(spec, 96, 20, 21)
        training, seen = EvidenceSet.of(*given), EvidenceSet.of(naturals, twins, classifier=naturals.classifier)
        training = EvidenceSet({k: v[:96] for k, v in training._parts.items()}, training.classes[:96])
        with_training = EvidenceSet(seen._parts, seen.classes, classifier=seen.classifier, training=training)
        return tuple(spec.fit(with_training, with_training.labels, seed=0).parts)
    cascade: Any = CHEAP["detectors"]["cascade"]
    of = {"fused": (Margin(), SMD(HEAD)), "cascade": (cascade.first, cascade.second)}.get(name, ())
    return tuple(fitted(d, ViewPairs.of(d, *given)) for d in of)


def fitted(settings: Detector, pairs: ViewPairs, *parts: nn.Module, seed: int = 0) -> nn.Module:
    """A detector on views that are known."""
    return settings.fit(pairs, pairs.labels, *parts, seed=seed)


def classifiers() -> dict[str, ClassifierSettings]:
    return _all("classifiers", CLASSIFIERS)


def datasets() -> dict[str, DataSet]:
    return _all("datasets", DATASETS)


# --- tiny networks and images ------------------------------------------------------------------------------------


def conv(shape: Shape, *, smooth: bool = False, seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """A random convolutional classifier in eval mode, its batch norm's statistics set as if trained.

    Args:
        shape: of its images.
        smooth: tanh in place of ReLU, so that second derivatives exist and finite differences converge.
        seed: of its weights.
        dtype: of its weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        act = nn.Tanh if smooth else nn.ReLU
        h, w = -(-shape.height // 2), -(-shape.width // 2)
        layers = [nn.Conv2d(shape.channels, 6, 3, 2, 1), nn.BatchNorm2d(6), act(), nn.Conv2d(6, 6, 3, 1, 1), act(), nn.Flatten()]
        net = nn.Sequential(*layers, nn.Linear(6 * h * w, shape.classes))
        for p in net.parameters():
            p.data = torch.randn_like(p) * ((2 / p[0].numel()) ** 0.5 if p.dim() > 1 else 0.1)
        norm = net[1]
        assert isinstance(norm, nn.BatchNorm2d)
        norm.weight.data, norm.bias.data = torch.rand(6) + 0.5, torch.randn(6) * 0.1
        norm.running_mean, norm.running_var = torch.randn(6) * 0.1, torch.rand(6) + 0.5
    return net.to(dtype).eval()


def affine(shape: Shape, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """A random affine classifier: its nearest boundaries are known in closed form."""
    generator = torch.Generator().manual_seed(seed)
    linear = nn.Linear(shape.channels * shape.height * shape.width, shape.classes)
    linear.weight.data = torch.randn(linear.weight.shape, generator=generator)
    linear.bias.data = torch.randn(linear.bias.shape, generator=generator)
    return nn.Sequential(nn.Flatten(), linear).to(dtype).eval()


def images(shape: Shape, n: int, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """(n, C, H, W) random 8-bit images in [0, 1]; about a third of the values is exactly black."""
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(-128, 256, (n, shape.channels, shape.height, shape.width), generator=generator).clamp(0, 255)
    return levels.to(dtype) / 255


def seeds(n: int) -> Tensor:
    """(n,) int64 per-image seeds that have nothing to do with their order."""
    return (torch.arange(n) + 1) * 7919


@torch.no_grad()
def predicted(classifier: nn.Module, x: Tensor) -> Tensor:
    """(N,) the classifier's own answers."""
    answers: Tensor = classifier(x).argmax(1)
    return answers


# --- evidence that is clearly natural or clearly adversarial -------------------------------------------------------


def natural_evidence(n: int, *, seed: int = 0, side: int = 12, classes: int = 5) -> Evidence:
    """Black images with a smooth bright blob in the middle, a sure classifier, a map on the blob, a second net that agrees."""
    return _evidence(n, seed, side, classes, adversarial=False)


def adversarial_evidence(n: int, *, seed: int = 1, side: int = 12, classes: int = 5) -> Evidence:
    """The same with dirt on the pixels, an unsure classifier, a map at the edge, a second net that disagrees."""
    return _evidence(n, seed, side, classes, adversarial=True)


def natural_and_adversarial(spec: Any, n: int, first: int = 0, second: int = 1) -> tuple[Evidence, Evidence]:
    """Both, as this detector needs them: with a classifier that says what their logits are where it asks one; attacked images with
    another class than their neighbours' where it compares the two.
    """
    natural, adversarial = natural_evidence(n, seed=first), adversarial_evidence(n, seed=second)
    if "classifier" in spec.needs:
        natural, adversarial = (Evidence(Smooth(), None, e.image, predicted=Smooth()(e.image).argmax(1)) for e in (natural, adversarial))
    if isinstance(spec, DeepKNN):
        adversarial = adversarial.put(predicted=adversarial.logits.topk(2, 1).indices[:, 1])
    return natural, adversarial


class Smooth(nn.Module):
    """A classifier of grey images into five classes: of the first while they are smooth, else of the second."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, 5)."""
        beside = x[..., :-2, 1:-1] + x[..., 2:, 1:-1] + x[..., 1:-1, :-2] + x[..., 1:-1, 2:]
        rough, bright = (4 * x[..., 1:-1, 1:-1] - beside).square().mean((1, 2, 3)), x.mean((1, 2, 3))
        return torch.stack([4 + bright - 40 * rough, 60 * rough, bright - 1, bright.square() - 1, -bright], 1)


def _evidence(n: int, seed: int, side: int, classes: int, adversarial: bool) -> Evidence:
    g = torch.Generator().manual_seed(seed)

    def between(lo: float, hi: float, *shape: int) -> Tensor:
        return lo + (hi - lo) * torch.rand(*shape, generator=g)

    rows = torch.linspace(-1, 1, side)
    distance = rows[:, None].square() + rows[None, :].square()
    blob = (0.8 * (-4 * distance).exp() - 0.1).clamp_min(0)
    image = (blob * between(0.8, 1.0, n, 1, 1, 1)).clamp(0, 1)
    label = torch.randint(0, classes, (n,), generator=g)
    own = F.one_hot(label, classes)
    second = F.one_hot((label + 1) % classes, classes)
    logits = between(-1, 0, n, classes) + own * between(6, 8, n, 1)
    second_net_logprobs = (4.0 * own + between(0, 1, n, classes)).log_softmax(1)
    map_, class_presence, gradient = (
        blob.expand(n, 1, side, side) * between(0.8, 1, n, 1, 1, 1),
        between(2, 3, n),
        between(-1, 1, n, 1, side, side),
    )
    if adversarial:
        image = (image + between(0, 1, n, 1, side, side) * 0.2).clamp(0, 1)
        logits = logits + second * 1.0 - own * between(5, 5.5, n, 1)
        second_net_logprobs = (4.0 * second + between(0, 1, n, classes)).log_softmax(1)
        map_, class_presence, gradient = (0.9 - map_) * between(0.8, 1, n, 1, 1, 1), between(-3, -2, n), gradient * 10
    moved = (second - own) * (4.0 if adversarial else 0.0)
    under = {name: logits + moved + 0.3 * between(-1, 1, n, classes) for name in UNDERS}
    parts = {
        "logits": logits,
        "predicted": logits.argmax(1),
        "second_logits": second_net_logprobs + 1.0,
        "map": map_,
        "class_presence": class_presence,
        "second_net_logprobs": second_net_logprobs,
        "gradient": gradient,
    }
    for i, layer in enumerate(("0", "3")):  # six channels, as of ``conv``: the classes apart, and something of the map
        mean = torch.cat([logits / (6 + i), F.adaptive_avg_pool2d(map_, 1).flatten(1)], 1)
        parts[LAYER + layer] = torch.stack([mean, mean.abs() / 9, mean + 1], 1)
    features = torch.cat([F.adaptive_avg_pool2d(map_, (3, 6)).flatten(1), logits], 1)  # as many columns as ``conv`` gives
    return Evidence(None, None, image, features=features, **parts, **under)


@dataclass(frozen=True)
class ViewPairs:
    """What a detector sees of two sets of evidence: naturals and, in the same order, their adversarials."""

    natural: Tensor
    adversarial: Tensor

    @classmethod
    def of(cls, detector: Detector, natural: Evidence, adversarial: Evidence, *parts: nn.Module) -> ViewPairs:
        with torch.no_grad():
            return cls(detector.view(natural, *parts), detector.view(adversarial, *parts))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.natural.shape[1:])

    def __len__(self) -> int:
        return len(self.natural)

    def batches(self, size: int, seed: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        n = len(self)
        order = torch.arange(n) if seed is None else torch.randperm(n, generator=torch.Generator().manual_seed(seed))
        for at in order[: n if seed is None else n - n % size].split(size):
            yield self.natural[at], self.adversarial[at]

    @property
    def labels(self) -> Tensor:
        return torch.cat([torch.zeros(len(self)), torch.ones(len(self))]).to(torch.int64)

    def pairs(self, labels: Tensor, settings: Any, *parts: nn.Module) -> ViewPairs:
        return self

    def exchanged(self) -> ViewPairs:
        """Naturals and adversarials with their labels exchanged."""
        return ViewPairs(self.adversarial, self.natural)
