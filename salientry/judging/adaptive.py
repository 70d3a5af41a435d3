"""What an attacker who knows classifier and detector gets past both, by attacks that are shown to work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..adaptive import Defended, HopSkipJump, Joint, Look, Minimal, SquareSearch
from ..calibration import pac_threshold
from ..detectors import ExternalDetector
from ..experiment.attack_guard import TOGETHER, GuardAttacked, outcome, perturbed
from ..experiment.parts import SHARE_OF_TIME
from ..inference import exact_share
from ..keys import digest
from ..protocol import eight_bits
from ..store import JSON, kept, sha256_of_array

CHECKED = 32  # images that the gradient is tried on
STEP, LONG_STEP = 0.5 / 255, 4 / 255  # each way, of every value; along a surrogate's slope, which stands for a score that may have steps
SLOPED, UPHILL = 0.5, 0.75  # shares of images that have a slope, and whose score rises along it, from which it is used
FEW = 0.5  # share of the images that fool the classifier alone: where a gradient gets past on fewer, queries are tried too
PROVEN = 0.9  # of what the attack does to the classifier alone it must do to the weak detector
MOST_SEEN = 250
LONGEST = 600.0  # expected seconds that a batch is attacked for at most: what a stopped call loses
ALONE, WEAK = "the classifier alone", "a weak detector"
STEPS, QUERIES = 60, 1_000  # of each attack, for an image


def budgets_of(channels: int) -> tuple[float, float]:
    """Linf, of images with so many channels."""
    return (0.1, 0.3) if channels == 1 else (2 / 255, 8 / 255)


def looks(sloped: bool, steps: int = STEPS, queries: int = QUERIES) -> int:
    """How often an attack looks at an image, at most, in forward passes; a gradient takes two passes more."""
    return 3 * 2 * steps if sloped else queries


def gradient_check(target: Defended, x: Tensor) -> JSON:
    """Whether the slope of the score says where the score rises: central differences along its signs, over half a grey level, over four
    where the slope is a surrogate's.

    Args:
        target: classifier and detector.
        x: (N, C, H, W), of which the first :data:`CHECKED` are looked at.

    Returns:
        ``sloped``: share of images whose slope is not 0 everywhere; ``uphill``: share of those along whose slope the score rises;
        ``ratio``: median of the score's change over the change that the slope promises; ``useful``.
    """
    some = x[:CHECKED]
    slope = Look(target, some, "image").detector_slope().detach()
    there = slope.flatten(1).abs().amax(1) > 0
    found: JSON = {"of": len(some), "sloped": float(there.float().mean()), "uphill": None, "ratio": None, "useful": False}
    if not bool(there.any()):
        return found
    way = (LONG_STEP if _surrogate(target) else STEP) * slope.sign()
    up, down = (target.seen((some + w).clamp(0, 1))[1] for w in (way, -way))
    moved = ((some + way).clamp(0, 1) - (some - way).clamp(0, 1)).mul(slope).flatten(1).sum(1)
    rises = (up - down)[there]
    found["uphill"] = float((rises > 0).float().mean())
    found["ratio"] = float((rises / moved[there].clamp_min(1e-12)).median())
    found["useful"] = found["sloped"] >= SLOPED and found["uphill"] >= UPHILL
    return found


class WeakDetector(nn.Module):
    """A detector that is known to be weak: the images' standard deviation, which hardly tells an attacked image from its natural."""

    def forward(self, images: Tensor) -> Tensor:
        """(N,)."""
        return images.flatten(1).std(1)


def weak(classifier: nn.Module, calibration: Tensor, level: float) -> Defended:
    """A classifier with the weak detector in front of it, calibrated as all others are."""
    detector = ExternalDetector(WeakDetector(), name="contrast").fit(None, torch.empty(0), seed=0).eval()
    with torch.no_grad():
        scores = detector.thing(calibration).cpu().numpy()
    return Defended(classifier, detector=detector, threshold=pac_threshold(np.asarray(scores), level))


@dataclass(frozen=True)
class Victim:
    """Who is attacked.

    Attributes:
        target: classifier and detector.
        name: for people.
        key: what distinguishes it from all others; "": what is found is not kept.
        seconds: that it takes for an image.
    """

    target: Defended
    name: str
    key: str = ""
    seconds: float = 0.0


class Attacker:
    """Somebody who knows classifier and detector. All detectors are attacked on the same images; what is done to the classifier alone, and
    to the weak detector, is done once.

    Where the slope of the score, or of the surrogate that stands for it, says where the score rises, :class:`~salientry.adaptive.Joint` and
    :class:`~salientry.adaptive.Minimal` follow it. Elsewhere :class:`~salientry.adaptive.SquareSearch` asks for logits and scores, and
    :class:`~salientry.adaptive.HopSkipJump`, from naturals of other classes, for decisions.

    Args:
        classifier: images to logits.
        calibration: naturals that the weak detector's threshold is set on, and that decision-based attacks start from.
        images: naturals; the first ``count`` that the classifier has right are attacked.
        labels: (N,) their classes.
        level: the false-positive rate of all thresholds.
        count: how many are attacked.
        steps: of each attack that follows a gradient.
        queries: images that each other attack asks about, for each image.
        seed: of what is drawn.
        minutes: of one core, for everything: what would take a fifth of them is left out.
        part: gives the callback for the progress of something, by its name.
        folder: where each batch is kept as soon as it is attacked, so that whoever is stopped goes on from there; None: nowhere.
        classifier_key: what distinguishes the classifier from all others.
    """

    def __init__(
        self,
        classifier: nn.Module,
        calibration: Tensor,
        images: Tensor,
        labels: Tensor,
        *,
        level: float,
        count: int,
        steps: int = STEPS,
        queries: int = QUERIES,
        seed: int = 0,
        minutes: float = 60.0,
        part: Callable[[str], Callable[[int, int], None]],
        folder: Path | None = None,
        classifier_key: str = "",
    ) -> None:
        self.bare, self.weak, self.part, self.seed = Defended(classifier), weak(classifier, calibration, level), part, seed
        self.minutes, self.folder = minutes, folder
        self.budgets, self.steps, self.queries = budgets_of(images.shape[1]), steps, queries
        answers = torch.cat([self.bare.seen(some)[0].argmax(1) for some in torch.split(images, MOST_SEEN)])
        at = (answers == labels).nonzero()[:count, 0]
        self.x, self.y, self.starts = images[at], labels[at], calibration
        self.key = digest(classifier_key, *map(sha256_of_array, (self.x.cpu(), self.y.cpu(), self.starts.cpu())), seed)
        self._alone: dict[bool, list[Tensor]] = {}
        self._known: dict[bool, GuardAttacked] = {}

    def attacks(self, sloped: bool) -> list[Callable[..., Tensor]]:
        """One within each budget, and one for the nearest image."""
        if sloped:
            return [*(Joint(eps=eps, steps=self.steps, restarts=1) for eps in self.budgets), Minimal(steps=self.steps)]
        near = partial(HopSkipJump(queries=self.queries), starts=self.starts)
        return [*(SquareSearch(eps=eps, queries=self.queries) for eps in self.budgets), near]

    def tried(self, who: Victim, sloped: bool, how: str = "") -> list[Tensor]:
        """What the attacks find."""
        attacks = self.attacks(sloped)
        each = looks(sloped, self.steps, self.queries) * who.seconds
        together = next((n for n in (TOGETHER, 16, 8, 4, 2) if n * each <= LONGEST), 1)
        made_by = [a.func if isinstance(a, partial) else a for a in attacks]
        keeps = self._kept(digest(self.key, who.key, made_by, together)) if who.key and self.folder is not None else None
        return perturbed(who.target, self.x, self.y, attacks, self.seed, self.part(f"attacking {who.name}{how}"), together, keeps)

    def _kept(self, key: str) -> Callable[[str, Callable[[], Tensor]], Tensor]:
        """What keeps batches under this key, as 8-bit images where they are such."""
        assert self.folder is not None
        folder, where = self.folder / key[:16], self.x.device

        def piece(name: str, make: Callable[[], Tensor]) -> Tensor:
            def made() -> NDArray[Any]:
                found = make().detach().cpu()
                levels = (found * 255).round()
                return np.asarray(levels.to(torch.uint8) if torch.equal(levels / 255, found) else found)

            found = torch.from_numpy(kept(folder / f"{name}.safetensors", made)).to(where)
            return found.float() / 255 if found.dtype == torch.uint8 else found

        return piece

    def alone(self, sloped: bool) -> list[Tensor]:
        """What the attacks find on the classifier alone."""
        if sloped not in self._alone:
            self._alone[sloped] = self.tried(Victim(self.bare, ALONE, "alone"), sloped)
        return self._alone[sloped]

    def counted(self, who: Victim, sloped: bool, with_queries: bool = False) -> tuple[GuardAttacked, bool]:
        """What of it counts, beside what fools the classifier alone; and whether queries were tried too.

        Args:
            who: is attacked.
            sloped: whether a gradient is followed.
            with_queries: where the gradient gets past on few of the images that it fools the classifier with, each image is the better one
                of what the gradient and what queries find.
        """
        effort, target = self.steps if sloped else self.queries, who.target
        found = self.tried(who, sloped)
        counts = outcome(self.x, self.y, self.budgets, self.alone(sloped), found, seen_by(target), effort)
        most = counts.budgets[-1]
        if not with_queries or most["passed"] >= FEW * most["fooled"]:
            return counts, False
        both = [self._better(target, *pair) for pair in zip(found, self.tried(who, False, " by queries"), strict=True)]
        return outcome(self.x, self.y, self.budgets, self.alone(sloped), both, seen_by(target), effort), True

    def _better(self, target: Defended, first: Tensor, second: Tensor) -> Tensor:
        """Of each image the one that gets past, of two that do the nearer one."""
        past = [(answers != self.y) & ~flags for answers, flags in map(seen_by(target), (first, second))]
        near = [(v - self.x).flatten(1).norm(dim=1) for v in (first, second)]
        takes = past[0] & (~past[1] | (near[0] <= near[1])) | ~past[1]
        return torch.where(takes.view(-1, 1, 1, 1), first, second)

    def known(self, sloped: bool) -> GuardAttacked:
        """What gets past the weak detector."""
        if sloped not in self._known:
            self._known[sloped], _ = self.counted(Victim(self.weak, WEAK, f"weak {self.weak.threshold}"), sloped)
        return self._known[sloped]

    def needed(self, sloped: bool, seconds: float) -> float:
        """Minutes of one core that the attacks take at most, where classifier and detector see an image in so many seconds."""
        return len(self.x) * (len(self.budgets) + 1) * looks(sloped, self.steps, self.queries) * seconds / 60

    def against(self, target: Defended, name: str, seconds: float, key: str = "") -> JSON:
        """Attack a detector; nothing is concluded from attacks that fail on the weak one.

        Args:
            target: classifier and detector.
            name: of the detector.
            seconds: that classifier and detector take for an image.
            key: what distinguishes the detector and its threshold from all others; "": nothing is kept.

        Returns:
            ``how``: ``gradient``, ``surrogate``, either with ``and queries``, ``queries`` or ``none``; ``gradient``:
            :func:`gradient_check`; ``attacked``: counts as :class:`~salientry.experiment.attack_guard.GuardAttacked` has them; ``weak``:
            those of the weak detector; ``evaluated``: whether the attacks are proven; ``why`` not.
        """
        nothing: JSON = {"how": "none", "gradient": None, "attacked": None, "weak": None, "evaluated": False}
        if not len(self.x):
            return nothing | {"why": "the classifier has no image right"}
        check = gradient_check(target, self.x)
        sloped = check["useful"]
        if (needed := self.needed(sloped, seconds)) > SHARE_OF_TIME * self.minutes:
            of = f"more than a fifth of the {self.minutes:g} that there are; minutes= gives it more"
            return nothing | {"gradient": check, "why": f"it would take about {needed:.0f} minutes of one core, {of}"}
        enough = self.needed(False, seconds) <= SHARE_OF_TIME * self.minutes
        (found, asked), known = self.counted(Victim(target, name, key, seconds), sloped, sloped and enough), self.known(sloped)
        most = known.budgets[-1]
        proven = most["fooled"] > 0 and most["passed"] >= PROVEN * most["fooled"]
        few = f"{most['passed']} of the {most['fooled']} images that they fool the classifier with"
        return {
            "how": ("queries" if not sloped else "surrogate" if _surrogate(target) else "gradient") + (" and queries" if asked else ""),
            "gradient": check,
            "attacked": found.json() | {"shares": [exact_share(b["passed"], found.images) for b in found.budgets]},
            "weak": known.json(),
            "evaluated": proven,
            "why": "" if proven else f"the attacks get past a weak detector on only {few}",
        }


def _surrogate(target: Defended) -> bool:
    """Whether another slope stands for the detector's own."""
    return getattr(getattr(target.detector, "settings", None), "surrogate", None) is not None


def seen_by(target: Defended) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """8-bit images to answers and flags."""

    def seen(v: Tensor) -> tuple[Tensor, Tensor]:
        pieces = [target.seen(some) for some in torch.split(eight_bits(v), MOST_SEEN)]
        logits, scores = (torch.cat(p) for p in zip(*pieces, strict=True))
        return logits.argmax(1), ~(scores <= target.threshold)

    return seen


__all__ = ["Attacker", "gradient_check", "seen_by", "weak"]
