"""Before anything is computed: does a network answer as a classifier does, and does it know these images?

Every way in asks the same: a guard's fit, the attacks of the command line, a network's first images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from .errors import UsageError, theirs
from .inputs import as_labels, plainly
from .learned import device_of
from .modules import private
from .rates import measured
from .rows import at_once
from .types import Images

MOST = 256  # images that are looked at
FEWEST = 50  # labels from which chance and knowledge can be distinguished
ENOUGH = 32  # images on which a network's logits do not all lie in [0, 1] by accident
ENOUGH_ONE = 8  # the same for a network with one output
SHUFFLES = 999
LOW = 0.7  # accuracy below which the usual mistakes are looked for
GAP = 1e-3  # largest difference between two answers to one image, as a share of the largest logit
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of most networks for photographs
USUAL = (
    "Usual causes: mean and std forgotten (External(net, mean=..., std=...)), channels in another order, a network that wants values "
    "from 0 to 255, labels numbered in another order, weights that were not loaded"
)
WAY_OUT = "Give the network without its last activation, or say External(..., trust_output=True)"


@dataclass(frozen=True)
class Preflight:
    """What was found.

    Attributes:
        classes: K.
        count: images that were looked at.
        right: of those the ones whose label it gives; None without labels.
        chance: the share that shuffled labels give; None without labels.
        advice: what may be wrong, when it is right on few; else empty.
    """

    classes: int
    count: int
    right: int | None = None
    chance: float | None = None
    advice: str = ""

    @property
    def accuracy(self) -> float | None:
        """Share of the images whose label it gives."""
        return None if self.right is None else self.right / self.count

    def summary(self) -> str:
        """The accuracy in words; empty without labels."""
        if self.right is None:
            return ""
        return (
            f"the classifier is right on {self.right} of {self.count} images ({measured(self.right / self.count, 1)}); "
            f"shuffled labels give {measured(self.chance, 1)}"
        )


def preflight(classifier: nn.Module, images: Images, labels: Tensor | None = None, names: Sequence[str] = ()) -> Preflight:
    """Look at up to ``MOST`` images, evenly spaced.

    Asked is: logits (N, K >= 2), finite; the same answer to the same image, alone and among others, in another order; no
    probabilities; and, where there are labels, more right answers than shuffled labels give.

    Args:
        classifier: images in [0, 1] to logits.
        images: (N, C, H, W) floats in [0, 1], by index.
        labels: (N,) int64, or None.
        names: what errors call each image; empty: its number.

    Raises:
        UsageError: says what was found, what was expected, and the way out.
    """
    at = torch.arange(min(len(images), MOST)) * len(images) // max(min(len(images), MOST), 1)
    if not len(at):
        raise UsageError("there are no images to look at")
    size = at_once(64, images[at[:1]][0].numel())
    x, where = images[at[: max(2, min(8, size))]], device_of(classifier)
    ask = _asking(classifier, where)
    first = _logits(ask, x)
    labels = None if labels is None else as_labels(labels, len(images), first.shape[1])
    _the_same(ask, x, first, _tolerance(classifier, first))
    z = torch.cat([ask(images[at[s : s + size]], _fails(x)).float() for s in range(0, len(at), size)])
    if len(bad := (~torch.isfinite(z)).any(1).nonzero()):
        i = int(at[bad[0, 0]])
        raise UsageError(f"the classifier gives logits that are not finite on {names[i] if names else f'image {i}'}")
    if not getattr(classifier, "trust_output", False) and (kind := probabilities(z)):
        raise UsageError(no_logits(kind))
    if labels is None:
        return Preflight(z.shape[1], len(at))
    known = labels[at].cpu().numpy()
    return _known(z, known, x.shape[1], lambda f: _tried(ask, images, at, size, known, f))


# --- the answers themselves ------------------------------------------------------------------------------------

Ask = Callable[[Tensor, str], Tensor]


def _asking(classifier: nn.Module, where: torch.device) -> Ask:
    net = private(classifier)

    def ask(x: Tensor, doing: str) -> Tensor:
        with theirs(doing), plainly(grad=False):
            out = net(x.to(where))
        return out.detach().cpu() if isinstance(out, Tensor) else out

    return ask


def _fails(x: Tensor) -> str:
    return f"the classifier fails on images of {x.shape[1]} x {x.shape[2]} x {x.shape[3]} (channels, height, width)"


def _logits(ask: Ask, x: Tensor) -> Tensor:
    """The first answer, if it is one."""
    z = ask(x, _fails(x))
    if not isinstance(z, Tensor) or z.dim() != 2 or len(z) != len(x):
        found = tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__
        raise UsageError(f"the classifier should give logits (N, K); it gave {found} for {len(x)} images: wrap it in External")
    if z.shape[1] < 2:
        raise UsageError(f"the classifier gives one output (N, {z.shape[1]}): wrap it in External, which reads it as log-odds of class 1")
    if not z.is_floating_point():
        raise UsageError(f"the classifier should give logits as floats; it gave {z.dtype}")
    return z


def _tolerance(classifier: nn.Module, z: Tensor) -> float:
    """Roundings differ with the batch; those of short floats and of integers are coarse."""
    kinds = {p.dtype for p in classifier.parameters() if p.is_floating_point()} | {z.dtype}
    coarse = 0.05 if any("quantized" in type(m).__module__ for m in classifier.modules()) else 0.0
    return max(GAP, coarse, *(8 * torch.finfo(k).eps for k in kinds))


def _the_same(ask: Ask, x: Tensor, first: Tensor, share: float) -> None:
    """Raise unless an image gets one answer: again, alone, and in another order."""
    doing = f"{_fails(x)} that it has read before"
    room = share * max(float(first.abs().nan_to_num(0, 0, 0).max()), 1e-6)

    def gap(other: Tensor) -> float:
        return float((other.float() - first[: len(other)].float()).abs().nan_to_num(0, 0, 0).max())

    if (found := gap(ask(x, doing))) > room:
        raise UsageError(
            f"the classifier gives one image two answers: logits differ by up to {found:.3g} when the same images come twice. Usual "
            "causes: drop-out that is always on (F.dropout(x) without training=self.training), or random crops or noise inside forward"
        )
    alone = torch.cat([ask(x[i : i + 1], "the classifier cannot read one image by itself") for i in range(min(4, len(x)))])
    order = torch.arange(len(x) - 1, -1, -1)
    turned = ask(x[order], doing)[order]
    for other, how in ((alone, "alone and in a batch"), (turned, "in another order")):
        if (found := gap(other)) > room:
            raise UsageError(
                f"the classifier's answer to an image depends on its neighbours: logits differ by up to {found:.3g} {how}. Usual "
                "causes: batch norm without running statistics (track_running_stats=False), a mean over the batch, or a mixed-up axis"
            )


def probabilities(z: Tensor, one: bool = False) -> str:
    """What outputs (N, K) look like that are no logits; empty when they are, or it cannot be decided yet.

    Softmax rows lie in [0, 1] and sum to 1. Sigmoids lie in [0, 1]; logits do not, over enough images.

    Args:
        z: outputs.
        one: the network has one output, which is no softmax.
    """
    if not len(z) or not bool(((z >= 0) & (z <= 1)).all()):
        return ""
    if not one and bool(((z.sum(1) - 1).abs() < 1e-3).all()):
        return "softmax probabilities (rows in [0, 1] that sum to 1)"
    if len(z) >= (ENOUGH_ONE if one else ENOUGH):
        return "sigmoid probabilities (all in [0, 1])"
    return ""


def no_logits(kind: str) -> str:
    """Why probabilities will not do, and what will."""
    return (
        f"the network gives {kind}, and logits are needed: gradients of saturated probabilities vanish and margins are lost to "
        f"rounding. {WAY_OUT}"
    )


# --- what it knows ---------------------------------------------------------------------------------------------

Try = Callable[[Callable[[Tensor], Tensor]], int]


def _known(z: Tensor, labels: NDArray[np.int64], channels: int, tried: Try) -> Preflight:
    """How much it knows of these images.

    Raises:
        UsageError: when it is no more than shuffled labels would give.
    """
    predicted = z.argmax(1).numpy()
    right = int((predicted == labels).sum())
    chance, lucky = shuffled(predicted, labels)
    found = Preflight(z.shape[1], len(labels), right, chance)
    if len(labels) < FEWEST or (right >= LOW * len(labels) and not lucky):
        return found
    advice = _mistakes(predicted, labels, z.shape[1], channels, tried) or USUAL
    if lucky:
        raise UsageError(f"{found.summary()}: it is no better than chance on these images. {advice}")
    return replace(found, advice=advice)


def shuffled(predicted: NDArray[np.int64], labels: NDArray[np.int64]) -> tuple[float, bool]:
    """What shuffled labels give: the mean accuracy, and whether the real labels give no more.

    More is: above 97.5 of 100 shuffles, in the share of right answers, or in its mean over the classes, which is fair to rare ones.
    """
    counts = np.bincount(labels)
    weight = 1 / np.maximum(counts, 1) / (counts > 0).sum()
    rng = np.random.default_rng(0)
    drawn = np.stack([labels, *(rng.permutation(labels) for _ in range(SHUFFLES))])
    hits = drawn == predicted
    plain, fair = hits.mean(1), (hits * weight[drawn]).sum(1)
    lucky = all(s[0] <= np.quantile(s[1:], 0.975) + 1e-9 for s in (plain, fair))
    return float(plain[1:].mean()), bool(lucky)


def _conventions(channels: int) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    """How else images could be meant, and how to say so."""
    yield "External(..., mean=0.5, std=0.5)", lambda x: (x - 0.5) / 0.5
    yield "External(..., std=1 / 255), for it wants values from 0 to 255,", lambda x: x * 255
    yield "black and white exchanged (1 - images)", lambda x: 1 - x
    if channels == 1:
        yield "External(..., mean=0.1307, std=0.3081)", lambda x: (x - 0.1307) / 0.3081
    if channels == 3:
        yield f"External(..., mean={MEAN}, std={STD})", lambda x: (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
        yield 'External(..., channels="BGR")', lambda x: x.flip(1)


def _tried(ask: Ask, images: Images, at: Tensor, size: int, labels: NDArray[np.int64], change: Callable[[Tensor], Tensor]) -> int:
    """How many it gets right when images come in another manner; -1 when it does not take them."""
    right = 0
    try:
        for s in range(0, len(at), size):
            z = ask(change(images[at[s : s + size]]), "it does not take them")
            right += int((z.argmax(1).numpy() == labels[s : s + size]).sum())
    except UsageError:
        return -1
    return right


def _mistakes(predicted: NDArray[np.int64], labels: NDArray[np.int64], classes: int, channels: int, tried: Try) -> str:
    """The usual mistake that explains it, when there is one: a convention, or an order of the labels, that makes it clearly better."""
    count, right = len(labels), int((predicted == labels).sum())
    least = right + max(0.1 * count, 1.5 * count**0.5)
    found = [(tried(change), f"With {words} it would be right on") for words, change in _conventions(channels)]
    if count >= 10 * len(np.unique(labels)):  # else an order may be luck; that of a net that knows nothing explains little, too
        found += [(hits, words) for hits, words in _renumbered(predicted, labels, classes) if hits >= LOW * count]
    best, said = max(found)
    return f"{said} {best} of {count}" if best >= least else ""


def _renumbered(predicted: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> list[tuple[int, str]]:
    """How many are right with the classes in the order that fits best, and how to say so."""
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (predicted, labels), 1)
    rows, columns = linear_sum_assignment(-table)
    pairs = [f"{p} where the label is {k}" for p, k in zip(rows.tolist(), columns.tolist(), strict=True) if p != k and table[p, k]]
    more = ", ..." if len(pairs) > 3 else ""
    said = f"The labels are numbered in another order: it says {', '.join(pairs[:3])}{more}. So read it would be right on"
    return [(int(table[rows, columns].sum()), said)]


__all__ = ["Preflight", "no_logits", "preflight", "probabilities", "shuffled"]
