"""The saliency U-Net: where does the classifier look? Learnt once on naturals, then one pass an image."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UsageError
from ..learned import frozen, seeded, with_facts, with_recipe
from ..training import Schedule, shuffled, train
from ..types import Encoder, EncoderSettings, Images, Shape
from ._fill import Fill
from ._losses import Eq2, MarginLoss


class Bottleneck(nn.Module):
    """A bottleneck residual block: 1x1, 3x3, 1x1, batch norm after each; the skip is a 1x1 convolution where channels differ."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        m = max(o // 4, 1)
        layers = [
            nn.Conv2d(i, m, 1, bias=False),
            nn.BatchNorm2d(m),
            nn.ReLU(),
            nn.Conv2d(m, m, 3, 1, 1, bias=False),
            nn.BatchNorm2d(m),
            nn.ReLU(),
        ]
        self.body = nn.Sequential(*layers, nn.Conv2d(m, o, 1, bias=False), nn.BatchNorm2d(o))
        self.skip = nn.Conv2d(i, o, 1) if i != o else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, i, H, W) to (N, o, H, W)."""
        return F.relu(self.body(x) + self.skip(x))


class Decoder(nn.Module):
    """From the gated deepest feature map back to full resolution: sub-pixel upsampling, the encoder's map beside it, a bottleneck."""

    def __init__(self, widths: tuple[int, ...], base: int | None = None) -> None:
        super().__init__()
        own = widths[:-1] if base is None else tuple(base * 2**i for i in range(len(widths) - 1))
        steps = list(zip((*own[1:], widths[-1]), own, widths[:-1], strict=True))  # what comes up, what goes on, what lies beside
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(deep, 4 * w, 3, 1, 1, bias=False), nn.BatchNorm2d(4 * w), nn.ReLU(), nn.PixelShuffle(2))
            for deep, w, _ in steps
        )
        self.mix = nn.ModuleList(Bottleneck(w + beside, w) for _, w, beside in steps)
        self.head = nn.Conv2d(own[0], 2, 1)

    def forward(self, gated: Tensor, shallower: list[Tensor]) -> Tensor:
        """Map (N, 1, H, W) = |a| / (|a| + |b|) of the head's two channels."""
        h = gated
        for i in reversed(range(len(self.up))):
            h = self.mix[i](torch.cat([self.up[i](h), shallower[i]], 1))
        a, b = self.head(h).abs().split(1, 1)
        drawn: Tensor = a / (a + b + 1e-8)
        return drawn


class SaliencyUNet(nn.Module):
    """(image, class index) to a map of where that class is.

    Attributes:
        encoder: feature maps and logits of its own.
        selector: one vector a class; its product with the deepest map says how far the class is there, and gates it.
        decoder: draws.
    """

    def __init__(self, encoder: Encoder, classes: int, model_confidence: float, instance: bool, base: int | None = None) -> None:
        super().__init__()
        width = encoder.widths[-1]
        self.encoder, self.selector, self.decoder = encoder, nn.Embedding(classes, width), Decoder(encoder.widths, base)
        nn.init.normal_(self.selector.weight, std=width**-0.5)
        self.multiple, self.model_confidence, self.instance = 2 ** (len(encoder.widths) - 1), model_confidence, instance

    def forward(self, image: Tensor, k: Tensor) -> dict[str, Tensor]:
        """Image (N, C, H, W) in [0, 1], any H and W, and class k (N,).

        Returns:
            ``map`` (N, 1, H, W) in [0, 1] at full resolution; ``class_presence`` (N,), the log-odds that class k is there;
            ``second_net_logprobs`` (N, K), the encoder's own log-probabilities.
        """
        h, w = image.shape[2:]
        with _per_image_statistics(self, self.instance and not self.decoder.training):  # fit trains the decoder alone
            maps, logits = self.encoder(self.pad(image))
            act = (maps[-1] * self.selector(k)[:, :, None, None]).sum(1, keepdim=True)
            drawn = self.decoder(maps[-1] * torch.sigmoid(act - self.model_confidence), maps[:-1])
        return {"map": drawn[..., :h, :w], "class_presence": act.mean((1, 2, 3)), "second_net_logprobs": logits.log_softmax(1)}

    def pad(self, image: Tensor) -> Tensor:
        """The image, its last row and column repeated up to sizes that halve evenly."""
        down, right = (-image.shape[2] % self.multiple, -image.shape[3] % self.multiple)
        return F.pad(image, (0, right, 0, down), mode="replicate") if down or right else image


def _instance_norm(layer: nn.BatchNorm2d, x: Tensor) -> Tensor:
    return F.instance_norm(x, weight=layer.weight, bias=layer.bias, eps=layer.eps)


class _per_image_statistics:
    """Batch norm by each image's own statistics inside: what a net left in training mode does with one image at a time."""

    def __init__(self, module: nn.Module, wanted: bool) -> None:
        self.layers = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)] if wanted else []

    def __enter__(self) -> None:
        for m in self.layers:
            vars(m)["forward"] = partial(_instance_norm, m)

    def __exit__(self, *exception: object) -> None:
        for m in self.layers:
            del vars(m)["forward"]


@dataclass(frozen=True)
class UNet:
    """The model-based saliency of the paper: the masking model of Dabkowski & Gal (NIPS 2017) as the paper changes it.

    Encoder, class selector, sub-pixel decoder and training as in PiotrDabkowski/pytorch-saliency; from the paper: no
    smoothness term, naturals only, the predicted class as selector at use, maps at full resolution.

    Departures: a fake class is uniform over the other classes (the ancestor never draws the last one); the encoder is in
    eval mode throughout (the ancestor's drifts); training makes whole passes (the ancestor's stops at one); 1e-8 in the
    map's denominator.

    Attributes:
        encoder: settings of the encoder, which is trained first, on the same images, and then frozen.
        loss: ``Eq2()`` (the paper's formula) or ``MarginLoss()`` (what the adapted code computes).
        fill: what replaces removed pixels.
        epochs: passes of the decoder's training; 0 leaves it as it was drawn: a control.
        lr: its learning rate; the peak for ``one_cycle``.
        schedule: of that rate.
        batch: images a step.
        fakes: share of images trained with the selector of another class.
        selector_epochs: passes of the selector's training (on the encoder's pooled features).
        selector_lr: its learning rate.
        selector_batch: images a step.
        selector_fakes: share of other classes in it.
        weight_decay: in both.
        model_confidence: how much evidence opens the gate; 0 matches training, the ancestor's demo has 5 to 6.
        black_box: whose answer to kept and destroyed images is trained for: the attacked ``"classifier"``, or (one public
            script) the ``"encoder"``.
        batch_norm: ``"eval"``, or ``"instance"``: a reproduction switch, each image's own statistics at use.
        base: channels of the decoder at full resolution, doubling with each scale; None: the encoder's own widths.
    """

    encoder: EncoderSettings
    loss: Eq2 | MarginLoss = field(default_factory=Eq2)
    fill: Fill = field(default_factory=Fill)
    epochs: int = 10
    lr: float = 1e-3
    schedule: Schedule = "step"
    batch: int = 64
    fakes: float = 0.3
    selector_epochs: int = 5
    selector_lr: float = 1e-3
    selector_batch: int = 128
    selector_fakes: float = 0.5
    weight_decay: float = 1e-4
    model_confidence: float = 0.0
    black_box: Literal["classifier", "encoder"] = "classifier"
    batch_norm: Literal["eval", "instance"] = "eval"
    base: int | None = None

    def __post_init__(self) -> None:
        for name, value, known in (
            ("black_box", self.black_box, ("classifier", "encoder")),
            ("batch_norm", self.batch_norm, ("eval", "instance")),
        ):
            if value not in known:
                raise UsageError(f"{name} must be one of {', '.join(known)}; found {value!r}")

    def build(self, shape: Shape, *parts: nn.Module) -> SaliencyUNet:
        """An untrained model; it stands on nothing else."""
        net = SaliencyUNet(self.encoder.build(shape), shape.classes, self.model_confidence, self.batch_norm == "instance", self.base)
        return with_recipe(net, self, shape)

    def fit(self, images: Images, labels: Tensor, classifier: nn.Module, shape: Shape, *parts: nn.Module, seed: int) -> SaliencyUNet:
        """Build, train the encoder, then the selector, then the decoder, on natural images and their true labels.

        Args:
            images: naturals.
            labels: (N,) int64.
            classifier: whose view is learnt.
            shape: of the images.
            *parts: a trained encoder of these settings, where there is one already; it is copied.
            seed: of everything that is drawn.

        Raises:
            UsageError: for fewer than two classes.
        """
        if shape.classes < 2:
            raise UsageError(f"a class selector needs at least 2 classes; found {shape.classes}")
        with seeded(seed):
            net = self.build(shape).to(labels.device)
        trained = parts[0] if parts else self.encoder.fit(images, labels, shape, seed=seed)
        net.encoder.load_state_dict(trained.state_dict())
        net.encoder.eval()
        net.requires_grad_(False)
        draws = torch.Generator(labels.device).manual_seed(seed)
        curves = {
            "selector": self._fit_selector(net, images, labels, draws, seed),
            "decoder": self._fit_decoder(net, images, labels, classifier, draws, seed) if self.epochs else [],
        }
        return with_facts(net.requires_grad_(True).eval(), learning_curves=curves)

    def _selectors(self, y: Tensor, fakes: float, classes: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """For each true label the class to select, and whether it is the true one."""
        other = (y + torch.randint(1, classes, y.shape, generator=draws, device=y.device)) % classes
        real = torch.rand(y.shape, generator=draws, device=y.device) >= fakes
        return torch.where(real, y, other), real

    def _fit_selector(self, net: SaliencyUNet, images: Images, labels: Tensor, draws: torch.Generator, seed: int) -> list[float]:
        """``class_presence`` is linear in the pooled deepest features, so this is a logistic regression on them."""
        with torch.no_grad():
            pooled = torch.cat([net.encoder(net.pad(images[at]))[0][-1].mean((2, 3)) for at in torch.split(torch.arange(len(labels)), 500)])
        order, classes = shuffled(len(labels), self.selector_batch, seed), net.selector.num_embeddings

        def loss(at: Tensor) -> Tensor:
            k, real = self._selectors(labels[at], self.selector_fakes, classes, draws)
            return F.binary_cross_entropy_with_logits((pooled[at] * net.selector(k)).sum(1), real.to(pooled.dtype))

        net.selector.requires_grad_(True)
        steps = len(order(0))
        curve = train(
            net.selector,
            order,
            loss,
            epochs=self.selector_epochs,
            steps=steps,
            lr=self.selector_lr,
            schedule="step",
            weight_decay=self.weight_decay,
            generators=(draws,),
        )
        net.selector.requires_grad_(False)
        return curve

    def _fit_decoder(
        self, net: SaliencyUNet, images: Images, labels: Tensor, classifier: nn.Module, draws: torch.Generator, seed: int
    ) -> list[float]:
        order, classes = shuffled(len(labels), self.batch, seed + 1), net.selector.num_embeddings

        def judged(x: Tensor) -> Tensor:
            logits: Tensor = classifier(x) if self.black_box == "classifier" else net.encoder(net.pad(x))[1]
            return logits

        def loss(at: Tensor) -> Tensor:
            x, y = images[at], labels[at]
            k, real = self._selectors(y, self.fakes, classes, draws)
            drawn = net(x, k)["map"]
            kept, destroyed = judged(self.fill(x, drawn, draws)), judged(self.fill(x, 1 - drawn, draws))
            return self.loss(drawn, kept, destroyed, y, real)

        net.decoder.requires_grad_(True)
        steps = len(order(0))
        with frozen(classifier):
            return train(
                net.decoder,
                order,
                loss,
                epochs=self.epochs,
                steps=steps,
                lr=self.lr,
                schedule=self.schedule,
                weight_decay=self.weight_decay,
                generators=(draws,),
            )
