"""A detector that is checked: what it is fitted on, and what it says of images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..classifiers import CompactCNN
from ..detectors import ExternalDetector, as_detector
from ..errors import UsageError, theirs
from ..evidence import Evidence, parts_in, scoring_needs
from ..evidence_set import EvidenceSet
from ..learned import frozen, seeded
from ..protocol import eight_bits
from ..types import Shape

CLASSES = 10
PAIRS = 64  # naturals that it is fitted on, each with a twin
SHOWN = 12  # images that it scores, half of them attacked


class Subject:
    """See :func:`salientry.testing.detector_checks`."""

    def __init__(
        self,
        detector: Any,
        classifier: nn.Module | None,
        shape: tuple[int, ...],
        saliency: nn.Module | None,
        second: nn.Module | None,
        parts: tuple[nn.Module, ...],
    ) -> None:
        if len(shape) != 3 or not all(isinstance(n, int) and n > 0 for n in shape):
            raise UsageError(f"shape is (C, H, W), three whole numbers above 0; found {shape}")
        self.given, self.settings, self.parts = detector, as_detector(detector), parts
        self.shape = (shape[0], shape[1], shape[2])
        self.saliency, self.second = saliency, second
        self.classifier = self._network(0, CLASSES) if classifier is None else classifier
        with frozen(self.classifier), torch.no_grad(), theirs(f"the classifier fails on images of shape {self.shape}"):
            classes = self.classifier(self.natural(2, 0)).shape[1]
        if saliency is None and self.needs & {"map", "class_presence", "second_net_logprobs", "logits_under/kept", "logits_under/removed"}:
            self.saliency = Blobs(self._network(1, classes))
        if second is None and "second_logits" in self.needs:
            self.second = self._network(2, classes)

    @property
    def name(self) -> str:
        """What errors call it."""
        return name_of(self.settings)

    @property
    def needs(self) -> frozenset[str]:
        """What it reads of the evidence, its parts too."""
        return frozenset(self.settings.needs).union(*(getattr(p, "needs", ()) for p in self.parts))

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """The networks that it may ask."""
        return tuple(m for m in (self.classifier, self.saliency, self.second) if m is not None)

    @property
    def external(self) -> ExternalDetector | None:
        """Its settings where it is somebody's own."""
        return self.settings if isinstance(self.settings, ExternalDetector) else None

    def _network(self, seed: int, classes: int) -> nn.Module:
        with seeded(seed):
            return CompactCNN(width=8).build(Shape(*self.shape, classes)).eval()

    # --- images -------------------------------------------------------------------------------------------------------

    def natural(self, count: int, seed: int) -> Tensor:
        """(N, C, H, W) of smooth patches with a little noise, 8-bit values; another seed gives other images."""
        generator = torch.Generator().manual_seed(seed)
        coarse = torch.rand(count, self.shape[0], 4, 4, generator=generator)
        smooth = F.interpolate(coarse, self.shape[1:], mode="bilinear", align_corners=False)
        noise = 0.03 * torch.randn(smooth.shape, generator=generator)
        return eight_bits((smooth + noise).clamp(0, 1))

    def attacked(self, natural: Tensor, seed: int) -> Tensor:
        """As an attack within 16/255 may leave them: each value up or down by as much."""
        signs = torch.randn(natural.shape, generator=torch.Generator().manual_seed(seed)).sign()
        return eight_bits((natural + 16 / 255 * signs).clamp(0, 1))

    @cached_property
    def images(self) -> Tensor:
        """Of both kinds, mixed; none that it was fitted on."""
        natural = self.natural(SHOWN // 2, 100)
        return torch.stack([natural, self.attacked(natural, 101)], 1).flatten(0, 1)

    def data(self) -> EvidenceSet:
        """What it is fitted on: naturals and their twins, and whatever else it needs."""
        natural = self.natural(PAIRS, 0)
        first, twins = self._known(natural), self._known(self.attacked(natural, 1))
        given: dict[str, Any] = {"classifier": self.classifier if "classifier" in self.needs else None}
        if "training" in self.needs:
            other = self._known(self.natural(PAIRS, 2))
            given["training"] = _one_kind(other, self._classes(other))
        if "copies" in self.needs:
            given["copies"] = _one_kind(self._known(self.natural(PAIRS, 0).sub(0.02).clamp(0, 1)), self._classes(first))
        if "naturals" in self.needs:
            given["naturals"] = _one_kind(first, self._classes(first))
        return EvidenceSet.of(first, twins, self._classes(first), **given)

    def _known(self, images: Tensor) -> Evidence:
        needs = parts_in(scoring_needs(self.needs))
        look = self.look(images, needs)
        with frozen(*self.modules), torch.no_grad():
            for name in sorted(needs):
                getattr(look, name)
        return look.detached()

    def _classes(self, look: Evidence) -> Tensor:
        with frozen(*self.modules), torch.no_grad():
            found: Tensor = self.classifier(look.image).argmax(1)
        return found

    # --- the detector -------------------------------------------------------------------------------------------------

    def fit(self, data: EvidenceSet | None = None, labels: Tensor | None = None, seed: int = 0) -> nn.Module:
        """A fitted detector."""
        data = self.data() if data is None else data
        with frozen(*self.modules):
            found: nn.Module = self.settings.fit(data, data.labels if labels is None else labels, *self.parts, seed=seed)
        return found

    @cached_property
    def fitted(self) -> Any:
        """The one that most checks look at."""
        return self.fit()

    def look(self, images: Tensor, needs: frozenset[str] | None = None) -> Evidence:
        """Evidence of images."""
        return Evidence(self.classifier, self.saliency, images, scoring_needs(self.needs) if needs is None else needs, self.second)

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Networks in eval mode, without gradients of their weights."""
        with frozen(*self.modules):
            yield

    def scores(self, images: Tensor, fitted: Any = None) -> Tensor:
        """(N,) without gradients."""
        with self.ready(), torch.no_grad():
            found: Tensor = (self.fitted if fitted is None else fitted)(self.look(images))
        return found.detach()


def name_of(detector: Any) -> str:
    """What errors call a detector."""
    settings = as_detector(detector)
    return str(getattr(settings, "name", type(settings).__name__))


def _one_kind(look: Evidence, classes: Tensor) -> EvidenceSet:
    """Evidence of naturals alone."""
    names = ["image", *look._parts]
    return EvidenceSet({n: getattr(look, n) for n in names}, classes)


class Blobs(nn.Module):
    """Something that draws maps: where an image is bright, with the answers of an untrained network beside."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor, classes: Tensor) -> dict[str, Tensor]:
        """Maps (N, 1, H, W) in [0, 1]; how present the class is (N,); log-probabilities (N, K)."""
        logits = self.net(image)
        map_ = torch.sigmoid(4 * (F.avg_pool2d(image.mean(1, keepdim=True), 3, 1, 1) - 0.5))
        presence = logits.gather(1, classes[:, None])[:, 0]
        return {"map": map_, "class_presence": presence, "second_net_logprobs": logits.log_softmax(1)}
