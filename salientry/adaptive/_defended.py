"""What is attacked: a classifier and the detector in front of it; and the one place that says where a gradient stops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..attacks._validation import needs_gradient
from ..detectors import BlackShare
from ..detectors._fitted import Fitted, may_need
from ..detectors.external import FittedExternal
from ..errors import UsageError
from ..evidence import GRADIENTS, Evidence
from ..keys import name_of
from ..modules import private

Stop = Literal["image", "view", "map"]
STOPS = ("image", "view", "map")
SHARPNESS = 20.0  # of the softplus that stands for a ReLU
RAMP = 0.2  # a value is not black from here on, for the gradient of a count of black values


@dataclass(frozen=True, eq=False)
class Defended:
    """A classifier with a detector in front of it, as one thing to attack.

    Attributes:
        classifier: images to logits; its evidence is what the detector reads.
        saliency: draws the detector's maps; None where it reads none.
        detector: fitted; None: the classifier stands alone and nothing is ever detected.
        threshold: an image is detected when its score is above it; one for all images, or one for each, (N,).
        task: whose answer is to be changed, images to logits; None: the classifier's own. With ``take(rows)`` it may be another for
            each image.
        surrogate: differentiated in place of the detector (backward pass differentiable approximation, Athalye et al. 2018); None:
            :func:`differentiable` of the detector.
        sharpness: of the softplus that stands for ReLU where a *view* is a gradient of the classifier; None: ReLU, whose second
            derivative is 0 everywhere, so that such a detector has no slope through its gradient.
        draws: looks that a detector's slope and score are averaged over (expectation over transformation, Athalye et al. 2018), for
            a detector that draws.
        second: the second network that the detector asks, which is differentiated too; None: it asks none.
    """

    classifier: nn.Module
    saliency: nn.Module | None = None
    detector: Any = None
    threshold: float | Tensor = 0.0
    task: Any = None
    surrogate: Any = None
    sharpness: float | None = SHARPNESS
    draws: int = 1
    second: nn.Module | None = None

    @property
    def modules(self) -> tuple[nn.Module | None, ...]:
        """Everything that must be frozen while it is attacked."""
        return self.classifier, self.saliency, self.detector, self.task, self.surrogate, self.second

    def apart(self) -> Defended:
        """The same with a private copy of each module, which shares its weights: whoever uses the modules meanwhile sees nothing."""
        copies = {id(m): private(m) for m in self.modules if isinstance(m, nn.Module)}
        named = ("classifier", "saliency", "detector", "task", "surrogate", "second")
        return replace(self, **{n: copies.get(id(m), m) for n in named if (m := getattr(self, n)) is not None})

    @cached_property
    def slope_of(self) -> Any:
        """The detector as it is differentiated."""
        return self.surrogate or differentiable(self.detector)

    @cached_property
    def needs(self) -> frozenset[str]:
        """Parts of the evidence that the detector may read."""
        return frozenset() if self.detector is None else may_need(self.detector)

    @property
    def smoothed(self) -> bool:
        """Whether its slope is taken through a smooth stand-in of the classifier."""
        return self.sharpness is not None and bool(self.needs & set(GRADIENTS))

    def take(self, rows: Tensor) -> Defended:
        """The same for some of the images: per-image thresholds and tasks follow."""
        changes: dict[str, Any] = {"threshold": self.threshold[rows]} if isinstance(self.threshold, Tensor) else {}
        changes |= {"task": self.task.take(rows)} if hasattr(self.task, "take") else {}
        return replace(self, **changes) if changes else self

    def seen(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, K) and scores (N,) of images, without gradients: what the attack is judged by."""
        with torch.no_grad():
            look = Look(self, x, "image", graph=False)
            return look.logits, look.scores

    def succeeds(self, logits: Tensor, scores: Tensor, y: Tensor) -> Tensor:
        """(N,) whether images are another class than ``y`` and not detected."""
        return (logits.argmax(1) != y) & (scores <= self.threshold)


class Look:
    """One look at some images by an attacker: answers, scores, and their slopes in the image.

    Args:
        target: what is attacked.
        image: (N, C, H, W).
        stop: where the slope of the detector's score ends. ``"image"``: at the image, through view, map and classifier. ``"view"``:
            at the view, straight through (the paper's algorithms). ``"map"``: at the image, with the map held constant: a mistake that
            is common and makes a map's detector look robust.
        graph: whether slopes will be asked for.
    """

    def __init__(self, target: Defended, image: Tensor, stop: Stop, graph: bool = True) -> None:
        self.target, self.stop = target, stop
        self.image = image.detach().requires_grad_(graph)

    @cached_property
    def evidence(self) -> Evidence:
        """What the detector reads, in the image's graph."""
        return Evidence(self.target.classifier, self.target.saliency, self.image, self.target.needs, self.target.second)

    @cached_property
    def _answers(self) -> Tensor:
        task = self.target.task
        with torch.set_grad_enabled(self.image.requires_grad):
            answers: Tensor = self.evidence.logits if task is None else task(self.image)
        return answers

    @property
    def logits(self) -> Tensor:
        """(N, K)."""
        return self._answers.detach()

    @cached_property
    def _differentiated(self) -> Tensor:
        """(N,) scores in the graph of the image, by what stands for the detector."""
        with torch.enable_grad():
            seen = self.evidence
            if self.target.smoothed:
                wanted = self.target.needs & set(GRADIENTS)
                with _smooth(self.target.sharpness or SHARPNESS):
                    smooth = Evidence(self.target.classifier, None, self.image, wanted, predicted=seen.predicted)
                    parts = {part: getattr(smooth, part) for part in sorted(wanted)}
                seen = seen.put(**parts)
            if self.stop == "map" and "map" in self.target.needs:
                seen = seen.put(map=seen.map.detach())
            return torch.stack([self.target.slope_of(seen) for _ in range(self.target.draws)]).mean(0)

    @cached_property
    def scores(self) -> Tensor:
        """(N,) what the detector itself says."""
        if self.target.detector is None:
            return self.image.new_full((len(self.image),), float("-inf"))
        if self.image.requires_grad and self.target.slope_of is self.target.detector and not self.target.smoothed and self.stop == "image":
            return self._differentiated.detach()
        with torch.no_grad():
            draws = [self.target.detector(self.evidence) for _ in range(self.target.draws)]
            found: Tensor = torch.stack(draws).mean(0).detach()
        return found

    def classifier_slope(self, loss: Callable[[Tensor], Tensor]) -> Tensor:
        """(N, C, H, W) slope of the sum of ``loss(logits)`` (N,)."""
        with torch.enable_grad():
            needs_gradient(self._answers)
            total = loss(self._answers).sum()
        (slope,) = torch.autograd.grad(total, self.image, retain_graph=True)
        return slope

    def detector_slope(self) -> Tensor:
        """(N, C, H, W) slope of the score; 0 where there is no detector. Non-finite values (a root at 0) are 0."""
        if self.target.detector is None:
            return torch.zeros_like(self.image)
        if self.stop == "view":
            return self._at_the_view()
        with torch.enable_grad():
            found = self._differentiated.sum()
        if not found.requires_grad:
            return torch.zeros_like(self.image)
        (slope,) = torch.autograd.grad(found, self.image, retain_graph=True, allow_unused=True)
        return torch.zeros_like(self.image) if slope is None else slope.nan_to_num(0.0, 0.0, 0.0)

    def _at_the_view(self) -> Tensor:
        """The slope in the view, as a step in the image: of more channels than the image the first ones, one channel repeated.

        Algorithm 1 (JSD) cuts the gradient's channels off; Algorithm 3 (SMD) repeats the map's one channel "assuming that the
        saliency is constant along depth"; for SPD and ID the shapes agree.
        """
        if not hasattr(self.target.detector, "view"):
            name = name_of(self.target.detector.settings)
            raise UsageError(
                f"{name} has no view whose gradient could be a step in the image: take the gradient at the image (gradient='image')"
            )
        with torch.no_grad():
            view = self.target.detector.view(self.evidence).detach()
        assert view.dim() == 4, f"a step in the view is a step in a picture; found a view of shape {tuple(view.shape)}"
        leaf, channels = view.requires_grad_(), self.image.shape[1]
        with torch.enable_grad():
            found: Tensor = torch.autograd.grad(self.target.detector.head(leaf).sum(), leaf)[0]
        return found[:, :channels] if found.shape[1] >= channels else found.expand_as(self.image)


class _smooth(TorchFunctionMode):
    """ReLU as a softplus inside: twice differentiable."""

    def __init__(self, sharpness: float) -> None:
        super().__init__()
        self.sharpness = sharpness

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (F.relu, torch.relu, torch.Tensor.relu, torch.relu_, torch.Tensor.relu_):
            return F.softplus(args[0], beta=self.sharpness)
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class _Ramp:
    """:class:`~salientry.detectors.BlackShare` with a slope: a value counts by how far it is from black, up to ``RAMP``."""

    needs = frozenset[str]()

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, 1)."""
        return (evidence.image / RAMP).clamp(max=1).flatten(1).mean(1, keepdim=True)


def differentiable(detector: Any) -> Any:
    """The detector with a slope everywhere: counts of black values become ramps, a user's own detector its surrogate where it
    brings one, in a fusion's parts too; all else is as it is.
    """
    settings = getattr(detector, "settings", None)
    if getattr(settings, "surrogate", None) is not None:
        surrogate_detector = settings.surrogate_detector()  # type: ignore[union-attr]
        return FittedExternal(surrogate_detector, surrogate_detector.ready()).eval()
    if isinstance(settings, BlackShare):
        return Fitted(_Ramp(), detector.head)
    parts = [differentiable(p) for p in getattr(detector, "parts", ())]
    if all(a is b for a, b in zip(parts, getattr(detector, "parts", ()), strict=True)):
        return detector
    return Fitted(settings, detector.head, *parts)


__all__ = ["SHARPNESS", "STOPS", "Defended", "Look", "Stop", "differentiable"]
