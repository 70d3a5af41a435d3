"""Who owns which image, how an adversarial is stored, and which one counts: the two protocols.

``PUBLISHED`` is how the paper (and most of its field) measured; ``STRICT`` is how a detector must be measured to be believed.
Both run side by side on the same images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .errors import DataDamaged, UsageError
from .randomness import image_ids
from .types import ROLES, Pool, Roles

SPLIT_SEED = 20_200_425  # fixed: the split does not depend on a run's seed
SCALES = (0.8, 0.9, 0.95, 1.0, 1.02, 1.05, 1.1, 1.15, 1.2, 1.3, 1.4, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0)


@dataclass(frozen=True)
class EvaluationProtocol:
    """What a protocol settles.

    Attributes:
        name: ``"published"`` or ``"strict"``.
        bits: 8: adversarials are 8-bit images; None: float32 as they come.
        only_positives: adversarials count when :func:`positive` says so; otherwise every one counts, fooled or not.
        paired: training batches hold each natural together with its own adversarial twin; otherwise two independent
            draws (the paper's way).
        levels: false-positive rates whose thresholds are calibrated; empty: the head's own 0 is the threshold.
        shrink: whether the 8-bit search of a minimal-norm attack may end below the attack's own perturbation. One that goes beyond the
            boundary on purpose would be brought back towards it.
        encoding: a harmless change (:class:`~salientry.types.HarmlessChange`) that an attacked image goes through when it is stored, as
            ``JPEG(85)``, and after which it may be out of its budget; None: it is stored as it is.
    """

    name: str
    bits: int | None
    only_positives: bool
    paired: bool = True
    levels: tuple[float, ...] = ()
    shrink: bool = True
    encoding: Any = None

    def encoded(self, encoding: Any) -> EvaluationProtocol:
        """The same for images that are saved in another way."""
        return replace(self, name=f"{self.name}, {encoding.title}", encoding=encoding)


PUBLISHED = EvaluationProtocol("published", bits=None, only_positives=False)
REPLICA = EvaluationProtocol("published", bits=None, only_positives=False, paired=False)
STRICT = EvaluationProtocol("strict", bits=8, only_positives=True, levels=(0.05, 0.01))
GUARD = EvaluationProtocol("guard", bits=8, only_positives=True, levels=(0.05,), shrink=False)


# --- roles ---------------------------------------------------------------------------------------------------


def stratified_order(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """A random order of the images in which every stretch holds the classes in proportion."""
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(labels))
    place = np.zeros(len(labels))
    for k in np.unique(labels):
        mine = np.flatnonzero(labels[shuffled] == k)
        place[mine] = (np.arange(len(mine)) + rng.random(len(mine))) / len(mine)
    return np.asarray(shuffled[np.argsort(place, kind="stable")])


def assign_roles(pools: Sequence[Pool], roles: Roles) -> tuple[NDArray[np.str_], NDArray[np.int8], NDArray[np.int32]]:
    """Who owns which image, by a fixed seed, stratified by class.

    Args:
        pools: images and the roles that they may take.
        roles: how many images each role wants.

    Returns:
        For all images of all pools, in order: ids (N,), role as an index into ``ROLES`` or -1 (N,), and the rank inside
        the role (N,); the first k ranks of a role hold the classes in proportion too.

    Raises:
        UsageError: when a pool is too small for its roles.
        DataDamaged: when one image (by its pixels) would have two roles.
    """
    wanted = dict(zip((f.name for f in fields(roles)), astuple(roles), strict=True))
    ids = np.concatenate([image_ids(p.images) for p in pools])
    role, rank = np.full(len(ids), -1, np.int8), np.zeros(len(ids), np.int32)
    first = 0
    for pool in pools:
        need, most = sum(wanted[r] for r in pool.roles), wanted[pool.roles[0]]
        ahead, behind = pool.labels[: pool.pinned], pool.labels[pool.pinned :]
        there = min(len(ahead), most) + len(behind)  # pinned images that the first role does not want have no role
        if need > there:
            raise UsageError(f"the roles {', '.join(pool.roles)} want {need} images; there are {there}")
        order = np.concatenate([stratified_order(ahead, SPLIT_SEED)[:most], pool.pinned + stratified_order(behind, SPLIT_SEED)])
        sizes = [wanted[r] for r in pool.roles]
        if pool.groups is not None:
            order, sizes = _by_group(pool.groups, sizes)
        order, start = first + order, 0
        for r, size in zip(pool.roles, sizes, strict=True):
            mine = order[start : start + size]
            role[mine], rank[mine] = ROLES.index(r), np.arange(len(mine))
            start += size
        first += len(pool.labels)
    _refuse_shared(ids, role, [name for p in pools for name in p.names or [""] * len(p.labels)])
    return ids, role, rank


def _by_group(groups: NDArray[np.int64], sizes: Sequence[int]) -> tuple[NDArray[np.int64], list[int]]:
    """An order of the images in which groups stay together, and how many of it each role takes: the groups whose middle lies within what
    the role asks for.
    """
    kinds, which, count = np.unique(groups, return_inverse=True, return_counts=True)
    turn = np.random.default_rng(SPLIT_SEED).permutation(len(kinds))
    place = np.empty(len(kinds), np.int64)
    place[turn] = np.arange(len(kinds))
    middle = np.cumsum(count[turn]) - count[turn] / 2
    ends = np.searchsorted(middle, np.cumsum(sizes))
    upto = np.concatenate([[0], np.cumsum(count[turn])])[ends]
    return np.argsort(place[which], kind="stable"), np.diff(upto, prepend=0).tolist()


def _refuse_shared(ids: NDArray[np.str_], role: NDArray[np.int8], called: Sequence[str]) -> None:
    assigned = role >= 0
    pairs = np.unique(np.stack([ids[assigned], role[assigned].astype("<U2")], 1), axis=0)
    names, count = np.unique(pairs[:, 0], return_counts=True)
    if (count > 1).any():
        one = names[count > 1][0]
        copies = ", ".join(f"{called[i] or f'image {i}'} in {ROLES[role[i]]}" for i in np.flatnonzero(assigned & (ids == one)).tolist())
        raise DataDamaged(f"{int((count > 1).sum())} images are in two roles at once (the first has id {one}: {copies}); remove the copies")


# --- storage -------------------------------------------------------------------------------------------------


def stored(
    classifier: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, protocol: EvaluationProtocol, eps: float | None, is_control: bool
) -> Tensor:
    """The image as the protocol stores it.

    Args:
        classifier: who is to be fooled.
        x: naturals, 8-bit values.
        x_adv: the images of an attack or a control.
        y: (N,) the label to leave, the classifier's own prediction on ``x``.
        protocol: its storage.
        eps: the attack's budget, or None.
        is_control: controls are rounded plainly.

    Returns:
        Unchanged without ``bits``. A budget attack is rounded *towards the natural*, so Linf <= floor(255 eps) / 255. A
        minimal-norm attack that fooled in float ends with a search along its own perturbation for the smallest 8-bit
        image that fools ("attack + 8-bit search"): plain rounding undoes most of such attacks and would measure the
        rounding. What failed in float stays failed. Last comes the protocol's ``encoding``.
    """
    if protocol.bits is None:
        return x_adv
    if is_control:
        return eight_bits(x_adv)
    if eps is not None:
        moved, limit = (x_adv - x) * 255, int(255 * eps + 1e-6)
        found = eight_bits(x + (moved + 1e-3 * moved.sign()).trunc().clamp(-limit, limit) / 255)
    else:
        found = search_eight_bits(classifier, x, x_adv, y, SCALES if protocol.shrink else SCALES[SCALES.index(1.0) :])
    if protocol.encoding is None:
        return found
    return eight_bits(protocol.encoding(found, seeds=torch.zeros(len(x), dtype=torch.int64, device=x.device)))


def eight_bits(x: Tensor) -> Tensor:
    """The nearest 8-bit image, still as floats in [0, 1]."""
    return (x * 255).round().clamp(0, 255) / 255


def search_eight_bits(classifier: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, scales: Sequence[float] = SCALES) -> Tensor:
    """The 8-bit image on the line from x through x_adv, at the smallest of the ``scales`` at which it is not ``y``.

    Images that are still ``y`` in float, or at every scale, come back plainly rounded. Cost: one forward pass in float and
    one for each scale until an image is done.
    """
    out = eight_bits(x_adv)
    with torch.no_grad():
        left = torch.nonzero(classifier(x_adv).argmax(1) != y).flatten()
        for scale in scales:
            if not len(left):
                break
            here = eight_bits((x[left] + scale * (x_adv[left] - x[left])).clamp(0, 1))
            fooled = classifier(here).argmax(1) != y[left]
            out[left[fooled]] = here[fooled]
            left = left[~fooled]
    return out


# --- what counts ---------------------------------------------------------------------------------------------


def positive(right: Tensor, changed: Tensor, in_budget: Tensor) -> Tensor:
    """The one predicate for an adversarial image: the classifier had the natural right, now says something else, and the
    perturbation is within the attack's budget. All three (N,) bool, measured on the image *as stored*.
    """
    return right & changed & in_budget


def within(x: Tensor, stored: Tensor, protocol: EvaluationProtocol, eps: float | None, norm: str = "linf") -> Tensor:
    """(N,) whether each stored image is a valid one inside the budget: in [0, 1], on the 8-bit grid if the protocol says so,
    Linf <= floor(255 eps) / 255 (or eps, in float), or with ``norm`` ``"l2"`` the L2 norm over all values <= eps. Minimal-norm attacks
    have no budget.
    """
    valid = ((stored >= 0) & (stored <= 1)).flatten(1).all(1)
    moved = (stored - x).flatten(1)
    if protocol.bits is not None:
        levels = stored * 255
        valid &= ((levels - levels.round()).abs() < 1e-3).flatten(1).all(1)
    if eps is None or protocol.encoding is not None:
        return valid
    if norm == "l2":
        length: Tensor = torch.linalg.vector_norm(moved, dim=1)
        return valid & (length <= eps + 1e-6)
    limit = int(255 * eps + 1e-6) / 255 if protocol.bits is not None else eps
    return valid & (moved.abs().amax(1) <= limit + 1e-6)


def evaluation_mask(protocol: EvaluationProtocol, right: Tensor, changed: Tensor, in_budget: Tensor, is_control: bool) -> Tensor:
    """(N,) which rows the protocol's numbers speak of: all of them when published; when strict, the positives of an attack,
    and the rows of a control on which the classifier is as right as before.
    """
    if not protocol.only_positives:
        return torch.ones_like(right)
    return right & ~changed if is_control else positive(right, changed, in_budget)
