"""What an attacker who knows a guard gets past it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..adaptive import Defended, Joint, Minimal
from ..errors import UsageError
from ..guard import Guard
from ..inputs import as_images, as_labels
from ..protocol import eight_bits
from ..rates import given, grey_levels, rate, share, short
from ..store import JSON

BUDGETS = (1 / 255, 2 / 255, 4 / 255, 8 / 255)
TOGETHER = 32  # images attacked at once


@dataclass(frozen=True)
class GuardAttacked:
    """What came of it.

    Attributes:
        images: that the classifier had right and the guard let through, each attacked in each way.
        budgets: for each Linf budget, of how many images there is one within it, as 8-bit image, that fools the classifier (``fooled``,
            by the same attack without a guard) and that fools it and is not flagged (``passed``).
        median_l2: smallest perturbation found that fools (``bare``), and that fools and is not flagged (``guarded``), medians over the
            ``of`` images for which both were found; their ratio is what the guard makes such an attacker pay. None: none were found.
        steps: of each attack.
    """

    images: int
    budgets: list[JSON]
    median_l2: JSON
    steps: int

    def json(self) -> JSON:
        """As it is kept."""
        return {"images": self.images, "steps": self.steps, "budgets": self.budgets, "median_l2": self.median_l2}

    def __str__(self) -> str:
        n = self.images
        lines = [f"{n} images that the classifier has right and the guard does not flag; an attacker who knows both, {self.steps} steps:"]
        lines += [f"  {'budget (Linf)':>14}  {'fools the classifier':>22}  {'fools it and is not flagged':>42}"]
        for b in self.budgets:
            past, fools = rate(share(b["passed"], n)), rate(share(b["fooled"], n), ends=False)
            lines.append(f"  {grey_levels(b['eps']) or given(b['eps']):>14}  {fools:>22}  {past:>42}")
        m = self.median_l2
        if m["ratio"] is not None:
            lines.append(
                f"  median L2 distance {short(m['bare'])} without the guard, {short(m['guarded'])} past it: {m['ratio']:.2f} times "
                f"(over {m['of']} images for which both were found)"
            )
        return "\n".join([*lines, "These attacks find what they find; another one may get more past."])


def attack_guard(
    guard: Guard,
    images: Any,
    labels: Any = None,
    *,
    budgets: Sequence[float] = BUDGETS,
    steps: int = 100,
    restarts: int = 1,
    count: int = 64,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> GuardAttacked:
    """Attack a guard and its classifier together, with the true gradients of everything that the guard computes.

    Within each budget :class:`~salientry.adaptive.Joint` looks for an image that fools the classifier and is not flagged, and, without
    the guard, for one that fools; :class:`~salientry.adaptive.Minimal` looks for the nearest such images. What counts is decided by the
    guard itself, called on 8-bit images. An image that passes within a budget passes within larger ones. The transforms of the guard are
    fixed, so the attacker has them; of a cascade the second detector is differentiated where it is asked.

    Args:
        guard: that is attacked.
        images: (N, C, H, W) in [0, 1].
        labels: (N,); None: the classifier's own answers are taken for right.
        budgets: Linf, in [0, 1] units.
        steps: of each attack.
        restarts: of :class:`~salientry.adaptive.Joint`.
        count: images that are attacked: the first ones that the classifier has right and the guard does not flag.
        seed: of what is drawn.
        progress: is told (done, total) attacks of batches.

    Returns:
        Counts with their n, and distances.

    Raises:
        UsageError: for images or labels that cannot be used, or when none is left to attack.

    Examples:
        >>> print(salientry.attack_guard(guard, images, labels))    # doctest: +SKIP
    """
    if count < 1 or not budgets:
        raise UsageError(f"at least one image and one budget are attacked; found count {count}, {len(budgets)} budgets")
    x, y = _attackable(guard, images, labels, count)
    bare = Defended(guard.classifier)
    target = Defended(guard.classifier, guard.saliency, guard.detector, guard.threshold, second=guard.second)

    def seen(v: Tensor) -> tuple[Tensor, Tensor]:
        verdict = guard(v)
        return verdict.predicted, verdict.flagged

    sizes = sorted(float(b) for b in budgets)
    attacks: list[Any] = [*(Joint(eps=eps, steps=steps, restarts=restarts) for eps in sizes), Minimal(steps=steps)]
    alone, together = (perturbed(t, x, y, attacks, seed, _half(progress, k)) for k, t in enumerate((bare, target)))
    return outcome(x, y, sizes, alone, together, seen, steps)


def _half(progress: Callable[[int, int], None] | None, k: int) -> Callable[[int, int], None] | None:
    """The callback for the progress of the first or the second half."""
    return None if progress is None else lambda done, total: progress(done + k * total, 2 * total)


def perturbed(
    target: Defended,
    x: Tensor,
    y: Tensor,
    attacks: Sequence[Callable[..., Tensor]],
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    together: int = TOGETHER,
    kept: Callable[[str, Callable[[], Tensor]], Tensor] | None = None,
) -> list[Tensor]:
    """What each attack makes of the images.

    Args:
        target: what is attacked.
        x: (N, C, H, W) 8-bit images.
        y: (N,) their classes.
        attacks: called as ``attack(target, x, y, seeds=...)``.
        seed: of what is drawn.
        progress: is told (done, total) attacks of batches.
        together: images attacked at once.
        kept: is given the name of a batch under an attack and what makes it, and returns it, perhaps from where it was kept.
    """
    seeds = torch.arange(len(x), device=x.device) + 2**32 * seed
    pieces = list(zip(*(torch.split(v, together) for v in (x, y, seeds)), strict=True))
    found: list[Tensor] = []
    for i, attack in enumerate(attacks):
        some = []
        for j, (xs, ys, ss) in enumerate(pieces):
            if progress is not None:
                progress(i * len(pieces) + j, len(attacks) * len(pieces))
            made = partial(attack, target, xs, ys, seeds=ss)
            some.append(made() if kept is None else kept(f"{i}-{j * together}-{j * together + len(xs)}", made))
        found.append(torch.cat(some))
    return found


def outcome(
    x: Tensor,
    y: Tensor,
    sizes: Sequence[float],
    alone: Sequence[Tensor],
    together: Sequence[Tensor],
    seen: Callable[[Tensor], tuple[Tensor, Tensor]],
    steps: int,
) -> GuardAttacked:
    """What counts of two :func:`perturbed`: of the classifier alone, and of both.

    Args:
        x: naturals.
        y: (N,) their classes.
        sizes: ascending.
        alone: of each budget, and the nearest.
        together: likewise.
        seen: 8-bit images to (answers (N,), flags (N,)).
        steps: of each attack.
    """
    verdicts = [[seen(v) for v in some] for some in (alone, together)]
    fools = [[predicted.cpu() != y.cpu() for predicted, _ in some] for some in verdicts]
    past = [[f & ~flagged.cpu() for f, (_, flagged) in zip(fs, some, strict=True)] for fs, some in zip(fools, verdicts, strict=True)]
    rows = within_budgets(sizes, list(zip(*fools, strict=True)), list(zip(*past, strict=True)))
    return GuardAttacked(len(x), rows, _distances(x, [alone[-1], together[-1]], fools[0][-1], past[1][-1]), steps)


def within_budgets(sizes: Sequence[float], fools: Sequence[Sequence[Tensor]], past: Sequence[Sequence[Tensor]]) -> list[JSON]:
    """Counts by budget: what passes within one passes within larger ones.

    Args:
        sizes: ascending.
        fools: for each size the masks (N,) of the attacks.
        past: likewise.
    """
    rows: list[JSON] = []
    fooled = passed = torch.zeros_like(fools[0][0])
    for eps, fs, ps in zip(sizes, fools, past, strict=False):
        fooled, passed = (torch.stack([old, *new]).any(0) for old, new in ((fooled, fs), (passed, ps)))
        rows.append({"eps": eps, "fooled": int(fooled.sum()), "passed": int(passed.sum())})
    return rows


def _attackable(guard: Guard, images: Any, labels: Any, count: int) -> tuple[Tensor, Tensor]:
    """The first images that the classifier has right and the guard does not flag, as 8-bit images, and their classes."""
    s = guard.shape
    x = as_images(images, (s.channels, s.height, s.width))
    y = None if labels is None else as_labels(labels, len(x), s.classes)
    kept_x, kept_y, left = [], [], count
    for i in range(0, len(x), 250):
        some = eight_bits(x[i : i + 250])
        seen = guard(some)
        right = ~seen.flagged if y is None else ~seen.flagged & (seen.predicted == y[i : i + 250].to(seen.predicted.device))
        at = right.nonzero()[:left, 0].cpu()
        kept_x.append(some[at])
        kept_y.append(seen.predicted.cpu()[at])
        left -= len(at)
        if left == 0:
            break
    if left == count:
        raise UsageError(f"of {len(x)} images the classifier has none right that the guard does not flag: there is nothing to attack")
    where = guard.calibration.device
    return torch.cat(kept_x).to(where), torch.cat(kept_y).to(where)


def _distances(x: Tensor, found: list[Tensor], fools: Tensor, past: Tensor) -> JSON:
    """Medians over the images for which both the nearest that fools and the nearest that passes were found."""
    both = (fools & past).to(x.device)
    if not bool(both.any()):
        return {"of": 0, "bare": None, "guarded": None, "ratio": None}
    bare, guarded = (float((v - x)[both].flatten(1).norm(dim=1).median()) for v in found)
    return {"of": int(both.sum()), "bare": bare, "guarded": guarded, "ratio": guarded / bare if bare else None}


__all__ = ["GuardAttacked", "attack_guard", "outcome", "perturbed", "within_budgets"]
