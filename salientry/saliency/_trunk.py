"""An encoder that is a classifier without its last layer: the attacked one itself, or a second one of the same kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..errors import UsageError
from ..learned import with_recipe
from ..types import ClassifierSettings, Encoder, Images, Shape

OTHER = 500_009  # added to the seed: a second net of the same settings and run is another net


class TrunkEncoder(Encoder):
    """The image itself, then what each stage of a network gives; the network's own logits.

    Args:
        net: has ``trunk(image) -> stages``, each half the size of the one before; ``answer(deepest) -> logits``; ``widths``.
        channels: of the image.
    """

    def __init__(self, net: Any, channels: int) -> None:
        super().__init__()
        self.net = net
        self.widths = (channels, *net.widths)

    def forward(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """Image (N, C, H, W) in [0, 1] to (feature maps, logits (N, K))."""
        stages = self.net.trunk(image)
        return [2 * image - 1, *stages], self.net.answer(stages[-1])


@dataclass(frozen=True)
class Trunk:
    """The trunk of a classifier as the encoder of a saliency model.

    Fitted, it is a *second* network of these settings, trained from another initialisation and in another order than a classifier of
    the same seed. :meth:`around` takes a classifier that there is: with the attacked one, no second network has a say.

    Departure: the ancestor's encoder for small images is its SimpleClassifier (here too, see ``_encoder.py``); its ImageNet encoder is
    a ResNet of the same kind as the explained one, whose first map is the image, as here.

    Attributes:
        net: settings of a classifier with stages.
        own: whether the attacked classifier itself is meant; then nothing is trained.

    Raises:
        UsageError: when one's own is to be fitted.
    """

    net: ClassifierSettings
    own: bool = False

    def build(self, shape: Shape) -> Encoder:
        """An untrained encoder."""
        return with_recipe(TrunkEncoder(self.net.build(shape), shape.channels), self, shape)

    def fit(self, images: Images, labels: Tensor, shape: Shape, *, seed: int) -> Encoder:
        """Build and train to classify natural images."""
        if self.own:
            raise UsageError("the trunk of the attacked classifier is not trained again: give it as a part")
        return self._of(self.net.fit(images, labels, shape, seed=seed + OTHER), shape)

    def around(self, classifier: nn.Module, shape: Shape) -> Encoder:
        """The encoder that this classifier is; it must be of these settings."""
        return self._of(classifier, shape)

    def _of(self, net: nn.Module, shape: Shape) -> Encoder:
        encoder = self.build(shape)
        encoder.net.load_state_dict(net.state_dict())  # type: ignore[union-attr]
        return encoder.to(next(net.parameters()).device)
