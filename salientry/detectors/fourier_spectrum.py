"""The image's frequencies, or those of what layers give of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UsageError
from ..evidence import Evidence
from ..evidence_set import Fittable
from . import _asking, _logistic
from ._fitted import Fitted

KINDS = ("magnitude", "phase", "both")


@dataclass(frozen=True)
class FourierSpectrum:
    """SpectralDefense (Harder, Pfreundt, Keuper, Keuper 2021, IJCNN): logistic regression on the magnitudes, or phases, of the
    two-dimensional discrete Fourier transform of each channel, of the image itself (the paper's black-box detector) or, with ``layers``,
    of the feature maps that these give (its white-box detector).

    Departures: of each pair of frequencies that are one another's conjugates, which an image's always are, one is read; a map larger
    than ``side`` has its spectrum averaged over neighbouring frequencies.

    Differentiable in the image. Cost: no pass of the classifier; with ``layers`` one, for maps are not kept. It is fitted on attacked
    images.

    Attributes:
        kind: ``"magnitude"``, ``"phase"`` (-pi to pi; averaged as it is) or ``"both"``.
        side: rows of a spectrum at most.
        layers: names of the classifier's layers or blocks of layers that give maps; none: the image.

    Raises:
        UsageError: for another kind, or a side below 2; evidence without a classifier, or layers that it has not or that give no maps.
    """

    kind: str = "magnitude"
    side: int = 32
    layers: tuple[str, ...] = ()
    group = "baseline"
    seeded, candidate = False, False

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if self.kind not in KINDS or self.side < 2:
            raise UsageError(f"kind is one of {', '.join(KINDS)}, side at least 2; found {self.kind!r} and {self.side!r}")

    @property
    def name(self) -> str:
        """What tables call it: one table may hold both."""
        return "LayerSpectrum" if self.layers else "FourierSpectrum"

    @property
    def words(self) -> str:
        """The same, as a page prints it."""
        return "Fourier spectrum of layers" if self.layers else "Fourier spectrum"

    @property
    def description(self) -> str:
        """In words."""
        return f"the frequencies of {'the layers' if self.layers else 'the image'}"

    @property
    def reads(self) -> str:
        """The group of parts that it reads."""
        return "activations" if self.layers else "pixel statistics"

    @property
    def needs(self) -> frozenset[str]:
        """The classifier, to be asked for maps."""
        return frozenset({"classifier"} if self.layers else ())

    def fit(self, evidence: Fittable, labels: Tensor, *parts: nn.Module, seed: int) -> Fitted:
        """Slopes and offset by logistic regression; the seed is not used."""
        return (_asking.fit if self.layers else _logistic.fit)(self, evidence, labels, *parts, seed=seed)

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, D), D = C h (w // 2 + 1) for spectra of h rows, summed over the layers, and twice that for both kinds."""
        return torch.cat([self._of(x) for x in (_asking.maps(evidence, self.layers) if self.layers else [evidence.image])], 1)

    def _of(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(x) if len(x) else torch.complex(x, x)[..., : x.shape[3] // 2 + 1]  # some libraries want images
        kinds = {"magnitude": spectrum.abs, "phase": spectrum.angle}
        return torch.cat([self._small(kinds[k]()).flatten(1) for k in kinds if self.kind in (k, "both")], 1)

    def _small(self, spectra: Tensor) -> Tensor:
        """(N, C, h, w) of spectra that have ``side`` rows at most."""
        size = min(spectra.shape[2], self.side), min(spectra.shape[3], self.side // 2 + 1)
        return spectra if size == tuple(spectra.shape[2:]) or not len(spectra) else F.adaptive_avg_pool2d(spectra, size)

    def build(self, view: tuple[int, ...], *parts: nn.Module) -> Fitted:
        """An unfitted baseline."""
        return _logistic.build(self, view, *parts, monotone=False)
