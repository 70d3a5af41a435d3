"""Random search with squares of colour, which needs logits and no gradient."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..randomness import uniform
from ._apgd import AGAIN
from ._ball import TINY, Ball, length
from ._gradient import PLACE, labelled

HALVED = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 questions: from here on the share of a square is half
ROUNDING = 64  # machine epsilons: what is lower by less is as low, whatever images stand beside it
TILES = 5  # along each side, of the first image in an L2 ball


def searched(classifier: nn.Module, x: Tensor, y: Tensor, seeds: Tensor, ball: Ball, queries: int, share: float) -> tuple[Tensor, Tensor]:
    """(N, C, H, W) images and (N,) whether each left its label; an image that did leaves the batch. One forward pass a query.

    Args:
        classifier: images to logits.
        x: naturals.
        y: labels to leave.
        seeds: (N,) draw colours and places.
        ball: where images may lie.
        queries: at most, of each image; the first is about the natural.
        share: of the pixels that the first squares cover.
    """
    out, fooled = x.clone(), classifier(x).argmax(1) != y
    active = (~fooled).nonzero()[:, 0]
    here, x, y, seeds = x[active], x[active], y[active], seeds[active]
    lowest = x.new_full((len(x),), float("inf"))
    for t in range(queries - 1):
        if not len(active):
            break
        draws = seeds + AGAIN * t
        now = share * 0.5 ** halvings(t / queries)
        tried = (changed(here, x, draws, now, ball) if t else first(x, draws, ball)).clamp(0, 1)
        z = classifier(tried)
        found, left = margin(z, y), z.argmax(1) != y
        better = left | (found < lowest - ROUNDING * torch.finfo(found.dtype).eps * (1 + found.abs()))
        here, lowest = torch.where(better.view(-1, 1, 1, 1), tried, here), torch.where(better, found, lowest)
        if len(gone := left.nonzero()[:, 0]):
            out[active[gone]], fooled[active[gone]] = here[gone], True
            stay = (~left).nonzero()[:, 0]
            active, here, x, y, seeds, lowest = (a[stay] for a in (active, here, x, y, seeds, lowest))
    out[active] = here
    return out, fooled


def margin(z: Tensor, y: Tensor) -> Tensor:
    """(N,) z_y minus the largest other logit."""
    return z.gather(1, y[:, None])[:, 0] - z.masked_fill(labelled(z, y), float("-inf")).amax(1)


def halvings(passed: float) -> int:
    """How often the share of the squares has been halved when a share ``passed`` of the questions is used up."""
    return sum(10_000 * passed > k for k in HALVED)


def signs(draw: Tensor, like: Tensor) -> Tensor:
    """-1 or 1, of uniforms."""
    return torch.where(draw < 0.5, -1.0, 1.0).to(like.dtype)


def corners(draw: Tensor, side: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Rows and columns (N, 1, 1) of the upper left corners of squares that lie in the image, from uniforms (N, 2, 1, 1)."""
    draw = draw.double()
    return (draw[:, 0] * (height - side + 1)).long(), (draw[:, 1] * (width - side + 1)).long()


def inside(top: Tensor, left: Tensor, side: int, height: int, width: int) -> Tensor:
    """(N, 1, height, width) bool: the squares at these corners (N, 1, 1)."""
    rows, columns = torch.arange(height, device=top.device)[:, None], torch.arange(width, device=top.device)
    return ((rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side))[:, None]


def first(x: Tensor, seeds: Tensor, ball: Ball) -> Tensor:
    """(N, C, H, W) where the search begins: vertical stripes of +-eps, or in an L2 ball tiles with bumps of random signs."""
    c, h, w = x.shape[1:]
    if ball.norm == "linf":
        return x + ball.radius * signs(uniform(seeds, (c, 1, w)), x)
    side = max(min(h, w) // TILES, 1)
    down, right = -(-h // side), -(-w // side)
    colours = signs(uniform(seeds, (c, down, right)), x).repeat_interleave(side, 2).repeat_interleave(side, 3)
    bumps = colours * bump(side, side, x).repeat(down, right)
    moved = bumps[..., :h, :w]
    return x + ball.radius * moved / length(moved)


def changed(here: Tensor, x: Tensor, seeds: Tensor, share: float, ball: Ball) -> Tensor:
    """(N, C, H, W) the next images to ask about, with squares that cover this share of the pixels."""
    return _coloured(here, x, seeds, share, ball.radius) if ball.norm == "linf" else _heaped(here, x, seeds, share, ball.radius)


def _coloured(here: Tensor, x: Tensor, seeds: Tensor, share: float, radius: float) -> Tensor:
    """One square at x - radius or x + radius in each channel; where that would change nothing the signs are turned round."""
    c, h, w = x.shape[1:]
    side = max(1, min(round((share * h * w) ** 0.5), h, w))
    draw = uniform(seeds + PLACE, (2 + c, 1, 1))
    square, colour = inside(*corners(draw, side, h, w), side, h, w), radius * signs(draw[:, 2:], x)
    tried, turned = (torch.where(square, (x + sign * colour).clamp(0, 1), here) for sign in (1, -1))
    same = (tried == here).flatten(1).all(1)
    return torch.where(same.view(-1, 1, 1, 1), turned, tried)


def _heaped(here: Tensor, x: Tensor, seeds: Tensor, share: float, radius: float) -> Tensor:
    """What one square has of the perturbation, and what is left of the ball, is added to another one as a bump up and a bump down (the
    paper's algorithm 3).
    """
    c, h, w = x.shape[1:]
    side = min(max(round((share * h * w) ** 0.5) // 2 * 2 + 1, 3), h, w)
    draw = uniform(seeds + PLACE, (5 + c, 1, 1))
    (top, left), from_ = corners(draw[:, :2], side, h, w), corners(draw[:, 2:4], side, h, w)
    onto, both, v = inside(top, left, side, h, w), inside(*from_, side, h, w), here - x
    both = onto | both
    rows = (torch.arange(h, device=x.device)[:, None] - top).clamp(0, side - 1)
    columns = (torch.arange(w, device=x.device) - left).clamp(0, side - 1)
    upright = torch.cat([bump(side, side // 2, x), -bump(side, side - side // 2, x)], 1)
    heap = torch.where(draw[:, 4] < 0.5, upright[rows, columns], upright.T[rows, columns])[:, None] * onto / _norm(upright)
    old = v * onto
    new = signs(draw[:, 5:], x) * heap + old / _norm(old)
    unused = (radius**2 - v.square().sum((1, 2, 3), keepdim=True)).clamp_min(0)
    size = ((v * both).square().sum((2, 3), keepdim=True) + unused / c).sqrt()
    moved = torch.where(both, 0, v) + new / _norm(new) * size
    return x + moved * (radius / length(moved)).clamp(max=1)


def bump(height: int, width: int, like: Tensor) -> Tensor:
    """(height, width) heights that fall off from the middle: sum over k = 0..m of 1 / (n + 1 - k)^2, where n is half the height and m
    how far a place is from the rim.
    """
    n = height // 2
    away = [(torch.arange(s, device=like.device) - s // 2).abs() for s in (height, width)]
    rim = n - torch.maximum(away[0][:, None], away[1][None])
    sums = (1 / (n + 1 - torch.arange(n + 1, device=like.device, dtype=like.dtype)).square()).cumsum(0)
    return torch.where(rim >= 0, sums[rim.clamp_min(0)], 0)


def _norm(v: Tensor) -> Tensor:
    """L2 norms over the last two axes, which stay as axes of length 1."""
    norms: Tensor = v.square().sum((-2, -1), keepdim=True).sqrt()
    return norms.clamp_min(TINY)
