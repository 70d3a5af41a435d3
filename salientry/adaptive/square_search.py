"""Random squares in a ball, for someone who is told logits and scores and no gradient."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..attacks._decisions import Searched
from ..attacks._gradient import PLACE, check_settings
from ..randomness import uniform
from ._defended import Defended
from ._descent import AGAIN, Bounds, margin
from ._queries import Oracle, check_queries, counted

STRIPES = 8  # first images: vertical stripes, each at x - eps or x + eps
HALVED = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 questions: from here on the share of a square is half


@dataclass(frozen=True)
class SquareSearch:
    """Square Attack (Andriushchenko, Croce, Flammarion, Hein 2020, Algorithms 1 and 2) on two losses: a random search that keeps a square
    of colour at the edge of an Linf ball wherever the loss does not grow. No gradient is read.

    The loss of an image is max(m, 0) / a + ``weight`` max(score - threshold, 0) / b, where m is the logit of ``y`` minus the best other
    one; at 0 the image succeeds. Of each image a and b are the spread of its own two terms: the root of the mean square by which vertical
    stripes of the whole budget move them from where they are at the natural image. So neither counts more for its unit, and other images
    do not matter. A term that stripes do not move is left as it is.

    Departures: two losses; 8 images of stripes are drawn for the spreads, and the best of them is where the search starts, in place of
    one; a change that leaves the loss as it is is kept too, in place of one that lowers it; where a square would change nothing its signs
    are turned, not drawn again; 8-bit images at every step.

    Cost: one question about the natural image, 8 about stripes, and one a step; no more than ``queries`` in all.

    Attributes:
        eps: radius of the ball, in [0, 1] units.
        queries: how many images may be asked about, for each image.
        share: of the pixels that the first squares cover; halved nine times as the budget is used up, as in the paper.
        weight: of the score's term.

    Raises:
        UsageError: for settings out of range or images outside the conventions.
    """

    eps: float = 8 / 255
    queries: int = 2000
    share: float = 0.8
    weight: float = 1.0

    norm = "linf"

    def __post_init__(self) -> None:
        check_queries(self.queries, STRIPES + 2)
        check_settings(eps=(self.eps, 0, 1), share=(self.share, 1e-6, 1), weight=(self.weight, 1e-6, 1e6))

    def __call__(self, target: Defended, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        """The images of :meth:`search`."""
        return self.search(target, x, y, seeds=seeds).images

    @counted
    def search(self, target: Defended, x: Tensor, y: Tensor, *, seeds: Tensor) -> Searched:
        """8-bit images in the ball: of each the first that was asked about and succeeded; where none did, the one of least loss.

        Args:
            target: what is attacked.
            x: (N, C, H, W).
            y: (N,) labels to leave.
            seeds: (N,) draw stripes, places and colours.
        """
        oracle, every, (c, h, w) = Oracle(target, x, y, Bounds(self.eps), self.queries), torch.arange(len(x), device=x.device), x.shape[1:]

        def ask(rows: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
            """The images as they were asked, and their two terms (m, 2)."""
            answer = oracle.ask(rows, images)
            return answer.images, torch.stack([-margin(answer.logits, y[rows]), answer.scores - target.take(rows).threshold], 1)

        _, natural = ask(every, x)
        stripes, terms = x.new_zeros((len(x), STRIPES, c, h, w)), x.new_zeros((len(x), STRIPES, 2))
        for k in range(STRIPES):
            rows = every[~oracle.success]
            if not len(rows):
                return oracle.found
            colours = signs(uniform(seeds[rows] - AGAIN * (k + 1), (c, 1, w)), x)
            stripes[rows, k], terms[rows, k] = ask(rows, x[rows] + self.eps * colours)
        spread = (terms - natural[:, None]).square().mean(1, keepdim=True).sqrt()
        spread = torch.where(spread.isfinite() & (spread > 0), spread, 1.0)
        lowest, best = self.loss(terms, spread).min(1)
        here, steps = stripes[every, best], self.queries - 1 - STRIPES
        for t in range(steps):
            rows = every[~oracle.success]
            if not len(rows):
                return oracle.found
            tried, both = ask(rows, self.squared(here[rows], x[rows], seeds[rows] + AGAIN * t, t / steps))
            loss = self.loss(both, spread[rows, 0])
            kept = loss <= lowest[rows]
            here[rows[kept]], lowest[rows[kept]] = tried[kept], loss[kept]
        found = oracle.found
        return replace(found, images=torch.where(found.success.view(-1, 1, 1, 1), found.images, here))

    def loss(self, terms: Tensor, spread: Tensor) -> Tensor:
        """(...) of terms (..., 2); what is no number is the worst."""
        weighed = terms.clamp_min(0) / spread * terms.new_tensor([1.0, self.weight])
        return weighed.sum(-1).nan_to_num(float("inf"), float("inf"))

    def squared(self, here: Tensor, x: Tensor, seeds: Tensor, passed: float) -> Tensor:
        """(n, C, H, W) images with one square at x - eps or x + eps in each channel, when a share ``passed`` of the steps is over. Where
        that would change nothing the signs are turned round.
        """
        (c, h, w), halved = here.shape[1:], sum(10_000 * passed > k for k in HALVED)
        side = max(1, min(round((self.share * 0.5**halved * h * w) ** 0.5), h, w))
        draw = uniform(seeds + PLACE, (2 + c, 1, 1)).double()
        rows, columns = torch.arange(h, device=x.device)[:, None], torch.arange(w, device=x.device)
        top, left = (draw[:, 0] * (h - side + 1)).long(), (draw[:, 1] * (w - side + 1)).long()
        inside = ((rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side))[:, None]
        change = self.eps * signs(draw[:, 2:], x)
        tried, turned = (Bounds(self.eps).stored(torch.where(inside, x + sign * change, here), x) for sign in (1, -1))
        same = (tried == here).flatten(1).all(1)
        return torch.where(same.view(-1, 1, 1, 1), turned, tried)


def signs(draw: Tensor, like: Tensor) -> Tensor:
    """-1 or 1, of uniforms."""
    return torch.where(draw < 0.5, -1.0, 1.0).to(like.dtype)
