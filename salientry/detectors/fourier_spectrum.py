"""The image's frequencies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UsageError
from ..evidence import Evidence
from . import _logistic
from ._fitted import Fitted

KINDS = ("magnitude", "phase", "both")


@dataclass(frozen=True)
class FourierSpectrum:
    """SpectralDefense on the image itself (Harder, Pfreundt, Keuper, Keuper 2021, IJCNN, the black-box detector):
    logistic regression on the magnitudes, or phases, of the two-dimensional discrete Fourier transform of each channel.

    Departures: of each pair of frequencies that are one another's conjugates, which an image's always are, one is read; an image larger
    than ``side`` has its spectrum averaged over neighbouring frequencies; the paper's white-box detector, on the spectra of feature
    maps, is left out: maps are not kept.

    Differentiable in the image. Cost: no pass of the classifier. It is fitted on attacked images.

    Attributes:
        kind: ``"magnitude"``, ``"phase"`` (-pi to pi; averaged as it is) or ``"both"``.
        side: rows of a spectrum at most.

    Raises:
        UsageError: for another kind, or a side below 2.
    """

    kind: str = "magnitude"
    side: int = 32
    needs: ClassVar[frozenset[str]] = frozenset()
    group = "baseline"
    description = "the frequencies of the image"
    reads, seeded, candidate = "pixel statistics", False, False
    fit = _logistic.fit

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.side < 2:
            raise UsageError(f"kind is one of {', '.join(KINDS)}, side at least 2; found {self.kind!r} and {self.side!r}")

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, D), D = C h (w // 2 + 1) for spectra of h rows, and twice that for both."""
        x = evidence.image
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
