"""Fast adaptive boundary: projections onto the linearised boundary, inside [0, 1], biased towards the image itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ._ball import TINY, Norm, size_of
from ._gradient import labelled

BIAS, BACK, BEYOND, FINAL = 0.1, 0.9, 1.05, 3  # alpha_max, beta and eta of the paper, and steps of its final search

TIE = 16  # machine epsilons by which another logit is to be larger


def searched(
    classifier: nn.Module, x: Tensor, y: Tensor, norm: Norm, *, steps: int, candidates: int, enough: float = 0.0
) -> tuple[Tensor, Tensor]:
    """(N, C, H, W) the nearest images that left their label, the natural where none did; (N,) how far each is, inf where none did.

    Args:
        classifier: images to logits.
        x: naturals.
        y: labels to leave.
        norm: of the distance.
        steps: towards one target class.
        candidates: target classes, the likeliest others in turn, at most K - 1.
        enough: an image that is so near is not looked at again.
    """
    out, z = x.clone(), classifier(x)
    size = torch.where(z.argmax(1) != y, 0.0, float("inf")).to(x.dtype)
    others = z.masked_fill(labelled(z, y), float("-inf")).argsort(dim=1, descending=True, stable=True)
    for k in range(min(candidates, z.shape[1] - 1)):
        left = (size > enough).nonzero()[:, 0]
        if not len(left):
            break
        found, far = _towards(classifier, x[left], y[left], others[left, k], norm, steps, enough)
        nearer = (far < size[left]).nonzero()[:, 0]
        out[left[nearer]], size[left[nearer]] = found[nearer], far[nearer]
    return (out, size) if enough else _nearer(classifier, x, y, out, size, norm)


def _towards(classifier: nn.Module, x: Tensor, y: Tensor, goal: Tensor, norm: Norm, steps: int, enough: float) -> tuple[Tensor, Tensor]:
    """The same towards one class each, ``goal`` (N,)."""
    out, size, active, here = x.clone(), x.new_full((len(x),), float("inf")), torch.arange(len(x), device=x.device), x
    for _ in range(steps):
        at = here.detach().requires_grad_()
        with torch.enable_grad():
            z = classifier(at)
            gap = (z.gather(1, goal[:, None]) - z.gather(1, y[:, None]))[:, 0]
            total = gap.sum()
        (w,) = torch.autograd.grad(total, at)
        gap = gap.detach() - TIE * torch.finfo(gap.dtype).eps * (1 + z.detach().abs().amax(1))  # a tie does not leave the label
        of_natural = gap + (w * (x - here)).flatten(1).sum(1)
        step, bias = projected(here, w, gap, norm), projected(x, w, of_natural, norm)
        share = size_of(step, norm) / (size_of(step, norm) + size_of(bias, norm)).clamp_min(TINY)
        share = share.clamp(max=BIAS).view(-1, 1, 1, 1)
        here = ((1 - share) * (here + BEYOND * step) + share * (x + BEYOND * bias)).clamp(0, 1)
        left, far = classifier(here).argmax(1) != y, size_of(here - x, norm)
        nearer = (left & (far < size[active])).nonzero()[:, 0]
        out[active[nearer]], size[active[nearer]] = here[nearer], far[nearer]
        here = torch.where(left.view(-1, 1, 1, 1), x + BACK * (here - x), here)
        if len(stay := (~(size[active] <= enough)).nonzero()[:, 0]) < len(active):
            active, x, y, goal, here = (a[stay] for a in (active, x, y, goal, here))
            if not len(active):
                break
    return out, size


def projected(point: Tensor, w: Tensor, gap: Tensor, norm: Norm) -> Tensor:
    """(N, C, H, W) the smallest step from ``point`` onto the plane on which ``gap`` (N,) + <w, step> is 0, inside [0, 1]; where the plane
    does not cross it, to the corner that is nearest to the plane.

    The step goes along -sign(gap) sign(w), or -sign(gap) w, until a value meets its bound; how far is where a sum of ramps, which is
    concave, has the height of the gap. Newton's method from 0 never goes beyond it, and is there after as many steps as slopes differ.
    """
    flat, slope = point.flatten(1), w.flatten(1)
    way = -torch.where(gap >= 0, 1.0, -1.0).to(w.dtype)[:, None] * (slope.sign() if norm == "linf" else slope)
    speed, bound = way.abs(), torch.where(way > 0, 1 - flat, flat)
    room, gain = bound / speed.clamp_min(TINY), speed * slope.abs()
    whole, need, time = gain * room, gap.abs()[:, None], torch.zeros_like(gap)[:, None]
    while True:
        live = room > time
        further = (need - torch.where(live, 0, whole).sum(1, keepdim=True)) / torch.where(live, gain, 0).sum(1, keepdim=True).clamp_min(
            TINY
        )
        if not bool((further > time * (1 + 1e-6)).any()):
            break
        time = torch.maximum(time, further)
    return (torch.minimum(speed * time, bound) * way.sign()).view_as(point)


def _nearer(classifier: nn.Module, x: Tensor, y: Tensor, out: Tensor, size: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
    """On the way from the natural to what was found: where the margin would be 0 were it linear, kept if the image has left its label."""
    rows = (size.isfinite() & (size > 0)).nonzero()[:, 0]
    if not len(rows):
        return out, size
    near, far, y = x[rows], out[rows], y[rows]
    z = torch.cat([_gap(classifier(v), y)[None] for v in (near, far)])
    below, above = z[0], z[1]
    for _ in range(FINAL):
        share = (below / (below - above).clamp(max=-TINY)).neg().clamp(0, 1).view(-1, 1, 1, 1)
        tried = near + share * (far - near)
        logits = classifier(tried)
        gap, left = _gap(logits, y), (logits.argmax(1) != y)
        far, above = torch.where(left.view(-1, 1, 1, 1), tried, far), torch.where(left, gap, above)
        near, below = torch.where(left.view(-1, 1, 1, 1), near, tried), torch.where(left, below, gap)
    out, size = out.clone(), size.clone()
    out[rows], size[rows] = far, size_of(far - x[rows], norm)
    return out, size


def _gap(z: Tensor, y: Tensor) -> Tensor:
    """(N,) largest other logit minus z_y."""
    return z.masked_fill(labelled(z, y), float("-inf")).amax(1) - z.gather(1, y[:, None])[:, 0]
