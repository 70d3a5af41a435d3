"""The saliency U-Net at the paper's size, and in what its text leaves open.

The paper names the masking model of Dabkowski & Gal (NIPS 2017), drops its smoothness term and prints no numbers of its training.
Numbers here are those of that model's code (PiotrDabkowski/pytorch-saliency) for its small classifier. ASSIRA's are those of an
unattributed public script for cats and dogs at 112 x 112 in which the same code is used: base 64, batches of 64 for the encoder.

Departures: those of :class:`UNet`; the encoder sees no crops and no mirrored images, and its weight decay spares vectors; the
numbers of passes, 5 and 10, are ours (the code's 8,500 and 3,000 steps end with the first pass over a small data set).
"""

from __future__ import annotations

from dataclasses import replace

from ._encoder import SimpleClassifier
from ._fill import Fill
from ._losses import Eq2, MarginLoss
from .unet import UNet

_ENCODER = SimpleClassifier(base=32, scales=3, epochs=33, lr=0.1, batch=512, optimiser="sgd", schedule=15, weight_decay=1e-4)

PAPER_CIFAR10 = UNet(
    encoder=_ENCODER,
    loss=Eq2(area=10, destroyer=5, power=0.3),
    fill=Fill("paper"),
    epochs=10,
    lr=1e-3,
    schedule="constant",
    batch=64,
    fakes=0.3,
    selector_epochs=5,
    selector_lr=1e-3,
    selector_batch=128,
    selector_fakes=0.5,
    weight_decay=1e-4,
)
PAPER_MNIST = replace(PAPER_CIFAR10, encoder=replace(_ENCODER, scales=2))
PAPER_ASSIRA = replace(PAPER_CIFAR10, encoder=replace(_ENCODER, base=64, batch=64))


def variants(settings: UNet) -> dict[str, UNet]:
    """What may have been meant, by name: the paper's formula or the loss of the code that it adapts (``eq2``, ``margin``), each as it
    is, with each image's own batch-norm statistics at use (``instance``), and with the encoder as the black box (``encoder``), as in
    the script for cats and dogs, where both are so and the loss is the code's (``margin, instance, encoder``).
    """
    found: dict[str, UNet] = {}
    losses: dict[str, Eq2 | MarginLoss] = {"eq2": Eq2(area=10, destroyer=5, power=0.3), "margin": MarginLoss()}
    for name, loss in losses.items():
        plain = replace(settings, loss=loss)
        instance = replace(plain, batch_norm="instance")
        found |= {name: plain, f"{name}, instance": instance, f"{name}, encoder": replace(plain, black_box="encoder")}
        found[f"{name}, instance, encoder"] = replace(instance, black_box="encoder")
    return found
