"""What a map is trained for: the paper's formula, and what the code that it adapts computes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Eq2:
    """Paper equation 2: area * mean(M) - log p_y(Phi(x, M)) + destroyer * p_y(Phi(x, 1 - M)) ^ power.

    The paper prints no weights; the defaults are those of Dabkowski & Gal (NIPS 2017). With a fake selector the two images
    swap their roles, so that the map of a class that is not there must be small; the paper does not speak of fakes.
    p is clamped at 1e-6 before the power, whose slope at 0 is infinite.

    Attributes:
        area: weight of the mean of the map.
        destroyer: weight of what is left in the destroyed image.
        power: its exponent.
    """

    area: float = 10.0
    destroyer: float = 5.0
    power: float = 0.3

    def __call__(self, map_: Tensor, kept: Tensor, destroyed: Tensor, y: Tensor, real: Tensor) -> Tensor:
        """Scalar, from maps (N, 1, H, W), the logits (N, K) of kept and destroyed images, true labels, real selectors."""
        shown, hidden = torch.where(real[:, None], kept, destroyed), torch.where(real[:, None], destroyed, kept)
        p = hidden.softmax(1).gather(1, y[:, None]).clamp_min(1e-6)
        return self.area * map_.mean() + F.cross_entropy(shown, y) + self.destroyer * p.pow(self.power).mean()


@dataclass(frozen=True)
class MarginLoss:
    """The loss in the code of PiotrDabkowski/pytorch-saliency (margins over logits), with the paper's smoothness of 0.

    destroyer * d + area * mean((M + 5e-4) ^ area_power) + smooth * s + preserver * k, where for a real selector
    k = t(kept, 1), d = nt(destroyed, 5), for a fake one k = nt(kept, 1), d = t(destroyed, 1); t and nt are hinge losses
    that the true label is, and is not, ahead by that confidence.

    Attributes:
        area: weight of the map's size.
        area_power: its exponent.
        preserver: weight of what is kept.
        destroyer: weight of what is destroyed.
        smooth: weight of the squared differences of neighbours; the paper drops it.
    """

    area: float = 8.0
    area_power: float = 0.3
    preserver: float = 0.3
    destroyer: float = 1.0
    smooth: float = 0.0

    def __call__(self, map_: Tensor, kept: Tensor, destroyed: Tensor, y: Tensor, real: Tensor) -> Tensor:
        """Scalar, from maps (N, 1, H, W), the logits (N, K) of kept and destroyed images, true labels, real selectors."""
        k, d = _lead(kept, y), _lead(destroyed, y)
        preserved = torch.where(real, F.relu(1 - k), F.relu(k + 1))
        broken = torch.where(real, F.relu(d + 5), F.relu(1 - d))
        area = (map_ + 5e-4).pow(self.area_power).mean()
        total = self.destroyer * broken.mean() + self.area * area + self.preserver * preserved.mean()
        return total + self.smooth * _roughness(map_) if self.smooth else total


def _lead(z: Tensor, y: Tensor) -> Tensor:
    """(N,) logit of y minus the largest other logit."""
    own = F.one_hot(y, z.shape[1]).bool()
    return z.gather(1, y[:, None])[:, 0] - z.masked_fill(own, float("-inf")).amax(1)


def _roughness(m: Tensor) -> Tensor:
    """Squared differences of neighbours in both directions and .3 of the squared border, halved, a mean over images."""
    inner = (m[..., 1:, :] - m[..., :-1, :]).square().sum() + (m[..., 1:] - m[..., :-1]).square().sum()
    border = m[..., 0, :].square().sum() + m[..., -1, :].square().sum() + m[..., 0].square().sum() + m[..., -1].square().sum()
    return (inner + 0.3 * border) / (2 * len(m))
