"""Carlini and Wagner's L2 attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ._gradient import check_settings, labelled, margin_slope
from ._validation import validated

INSIDE = 0.999999  # keeps black and white pixels off the ends of tanh, where they could never move
BETA1, BETA2, TINY = 0.9, 0.999, 1e-8  # Adam


@dataclass(frozen=True)
class CarliniWagner:
    """The smallest L2 step that fools, by descent in a tanh variable (Carlini and Wagner 2017, section VI.A), untargeted.

    As in cleverhans 3.0.1, which the paper used: w = artanh(.999999 (2 x - 1)) + delta, the image is (tanh(w) + 1) / 2, and

        loss = ||image - image at delta 0||^2 + const max(0, z_y - max of the other logits + confidence)

    is descended with Adam from delta = 0, afresh in each search step. An image fools when argmax is not ``y`` with
    ``confidence`` added to z_y; the nearest that ever fooled is the result, the input itself when none did. After a search
    step, const goes halfway towards the largest value that failed if the image was fooled; if not, it grows tenfold until a
    first success, then goes halfway to the smallest value that fooled.

    Departures: images are stopped one by one, where cleverhans looks at the loss of the whole batch (a test every
    max(steps // 10, 1) steps: an image whose loss is above .9999 of what it was at the last test leaves), so neighbours do
    not matter. Adam adds its 1e-8 after the bias correction, as its publication does; TensorFlow adds it before, which is felt
    only where a gradient is below 1e-6. The last search step is not repeated at the largest const when there are ten or more.

    Default: the paper's setting, 3 search steps of 1000. ``CW_REDUCED`` and ``CW_FAST`` are 10 and 17 times as fast at
    nearly the same norm; their confidence lets the result survive rounding to 8 bits. (Fewer steps at the default ``lr``
    fail: a black pixel needs about 1000 of them to leave its place.)

    Cost: with n_s the steps of search step s (``steps``, unless it was stopped), the sum over s of n_s forward and at most n_s - 1
    backward passes; n_s when neighbours go on. Steps at which all images of the batch are beyond their labels by ``confidence``
    have no backward pass, for the logits' loss is flat there. At most search_steps * steps and search_steps * (steps - 1).

    Attributes:
        search_steps: values of const that are tried.
        steps: of Adam in each of them.
        lr: its learning rate.
        initial_const: weight of the logits' loss at first.
        confidence: how far above z_y another logit must be.
        abort_early: stop images whose loss no longer falls.

    Raises:
        UsageError: for settings out of range; images, labels or answers outside the conventions.
    """

    search_steps: int = 3
    steps: int = 1000
    lr: float = 5e-3
    initial_const: float = 1e-2
    confidence: float = 0.0
    abort_early: bool = True
    eps = None  # minimal-norm: no budget
    title: ClassVar[str] = "C&W"
    norm: ClassVar[str] = "l2"
    strength: ClassVar[str] = "strong"
    sparse: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_settings(search_steps=(self.search_steps, 1, 100), steps=(self.steps, 1, 10**6), lr=(self.lr, 1e-9, 100))
        check_settings(initial_const=(self.initial_const, 1e-12, 1e12), confidence=(self.confidence, 0, 1e6))

    @property
    def reduced(self) -> bool:
        """Whether it searches less than the paper's: fewer steps in all."""
        return self.search_steps * self.steps < CarliniWagner.search_steps * CarliniWagner.steps

    @property
    def passes(self) -> float:
        """What an image takes: one that is stopped about 200 steps of each search (of 100 images of CIFAR-10 183 of 1000)."""
        return float(self.search_steps * (min(self.steps, 200) if self.abort_early else self.steps))

    @validated
    def __call__(self, classifier: nn.Module, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W) images that leave label ``y`` (N,); ``seeds`` are not used: the attack draws nothing."""
        best, best_l2 = x.clone(), x.new_full((len(x),), float("inf"))
        const = torch.full_like(best_l2, self.initial_const)
        low, high = torch.zeros_like(const), torch.full_like(const, float("inf"))
        for _ in range(self.search_steps):
            fooled = self._search(classifier, x, y, const, best, best_l2)
            high = torch.where(fooled, torch.minimum(high, const), high)
            low = torch.where(fooled, low, torch.maximum(low, const))
            const = torch.where(high.isinf(), 10 * const, (low + high) / 2)
        return best

    def _search(self, classifier: nn.Module, x: Tensor, y: Tensor, const: Tensor, best: Tensor, best_l2: Tensor) -> Tensor:
        """(N,) whether each image was fooled under its ``const``; the nearest that fool are written into ``best`` and ``best_l2``."""
        active, fooled = torch.arange(len(x), device=x.device), torch.zeros_like(y, dtype=torch.bool)
        hit, nearest, half = fooled.clone(), best_l2.clone(), x.new_full((), 0.5)
        w, test = (INSIDE * (2 * x - 1)).atanh(), max(self.steps // 10, 1)
        natural, m, v, previous = (w.tanh() + 1) / 2, torch.zeros_like(w), torch.zeros_like(w), torch.full_like(const, float("inf"))
        found, own = best.clone(), None
        for i in range(self.steps if len(x) else 0):
            t = w.tanh()
            asked = torch.add(half, t, alpha=0.5).requires_grad_()  # (t + 1) / 2 to the last bit, as halves are exact
            with torch.enable_grad():
                z = classifier(asked)
            here, own = asked.detach(), labelled(z, y) if own is None else own
            raised, others = z.detach() + self.confidence * own, z.detach().masked_fill(own, float("-inf"))
            most = others.amax(1)
            above = raised.gather(1, y[:, None])[:, 0] - most
            moved = here - natural
            l2, success = moved.square().flatten(1).sum(1), raised.argmax(1) != y
            rows = None
            if self.abort_early and i % test == 0:
                loss = l2 + const * above.relu()
                stay, previous = loss <= 0.9999 * previous, loss
                success &= stay
                rows = stay.nonzero()[:, 0]
            hit |= success
            nearer = success & (l2 < nearest)
            found, nearest = torch.where(nearer.view(-1, 1, 1, 1), here, found), torch.where(nearer, l2, nearest)
            if i == self.steps - 1 or (rows is not None and not len(rows)):
                break
            falls = const * (above > 0)
            if bool(falls.any()):
                (gradient,) = torch.autograd.grad(z, asked, margin_slope(-falls, own, others, most))
                gradient = torch.add(gradient, moved, alpha=2, out=moved)
            else:  # beyond their labels by the confidence the logits' loss is flat
                gradient = moved.mul_(2)
            gradient.mul_(torch.sub(half, t.square_(), alpha=0.5, out=t))  # (1 - t * t) / 2
            m.lerp_(gradient, 1 - BETA1)
            v.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
            size = (v / (1 - BETA2 ** (i + 1))).sqrt_().add_(TINY)
            w.addcdiv_(m, size, value=-self.lr / (1 - BETA1 ** (i + 1)))
            if rows is not None and len(rows) < len(active):
                fooled[active], best[active], best_l2[active] = hit, found, nearest
                kept = (a[rows] for a in (active, y, const, previous, natural, w, m, v, hit, found, nearest, own))
                active, y, const, previous, natural, w, m, v, hit, found, nearest, own = kept
        fooled[active], best[active], best_l2[active] = hit, found, nearest
        return fooled


CW_REDUCED = CarliniWagner(steps=100, lr=0.05, initial_const=1.0, confidence=0.1)
CW_FAST = CarliniWagner(steps=60, lr=0.1, initial_const=1.0, confidence=0.1)
