"""What detectors are fitted on and score, out of stored rows: nothing is computed again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..batches import DEVICE, Batch
from ..errors import UsageError
from ..evidence import LAYER, Evidence, parts_in
from ..evidence_set import EvidenceSet, Part
from ..metrics import of_mixture
from ..rows import Rows
from ..store import one_of
from ..types import Pairs

Mixture = Literal["each", "all"]
MIXTURES = ("each", "all")

FEWEST_PAIRS = 20  # a head is not trained on fewer adversarials
IN_MEMORY = 2**27  # numbers: views of half a gigabyte are kept while a head is trained on them


def names_in(rows: Rows, needs: frozenset[str]) -> list[str]:
    """The columns that hold the parts that are needed, sorted.

    Raises:
        UsageError: when one is not there.
    """
    wanted, layers = parts_in(needs), [n for n in rows.names if n.startswith(LAYER)]
    if missing := {n for n in wanted if n not in rows and not (n == "activations" and layers)}:
        raise UsageError(f"these images have no stored {', '.join(sorted(missing))}; classify them, or make their maps, first")
    return sorted((wanted - {"activations"}) | (set(layers) if "activations" in wanted else set()))


def evidence_of(images: Batch, needs: frozenset[str] = frozenset(), classifier: nn.Module | None = None) -> Evidence:
    """Evidence from what is stored, of the parts that are needed: nothing is computed again.

    Args:
        images: with the needed parts as columns.
        needs: of a detector.
        classifier: for one that needs ``classifier``, to ask it about other images.

    Raises:
        UsageError: when a needed part is not stored.
    """
    known = images.parts(*names_in(images.rows, needs))
    return Evidence(classifier if "classifier" in needs else None, None, images.image, needs, None, **known)


class Columns:
    """A part of the evidence of images that lie in several rows, read by slices.

    Args:
        rows: where they lie.
        which: (N,) in which of these.
        at: (N,) at which place there.
        name: of the column.
    """

    def __init__(self, rows: list[Rows], which: NDArray[Any], at: NDArray[Any], name: str) -> None:
        self.rows, self.which, self.at, self.name = rows, which, at, name

    def __getitem__(self, some: slice) -> Tensor:
        which, at = self.which[some], self.at[some]
        found: dict[int, Tensor] = {int(k): getattr(Batch(self.rows[k], at[which == k]), self.name) for k in np.unique(which)}
        first: Tensor = next(iter(found.values()), torch.empty(0))
        if len(found) <= 1:
            return first
        out = first.new_empty((len(at), *first.shape[1:]))
        for k, values in found.items():
            out[torch.from_numpy(which == k).to(out.device)] = values
        return out


def stored_set(rows: list[Rows], needs: frozenset[str]) -> EvidenceSet:
    """The evidence of stored images, of all rows one after the other."""
    which = np.repeat(np.arange(len(rows)), [len(r) for r in rows])
    return EvidenceSet(*_read(rows, needs, which, np.concatenate([np.arange(len(r)) for r in rows])))


def _read(rows: list[Rows], needs: frozenset[str], which: NDArray[Any], at: NDArray[Any]) -> tuple[dict[str, Part], Tensor]:
    """The parts of the images at these places, and their labels."""
    names = ["image", *names_in(rows[0], needs)]
    label = Columns(rows, which, at, "label")[:] if "label" in rows[0] else torch.zeros(len(at), dtype=torch.int64)
    return {n: Columns(rows, which, at, n) for n in names}, label.to(torch.int64)


class StoredEvidence(EvidenceSet):
    """The naturals and twins that a detector is fitted on, out of stored rows.

    Args:
        stored: which of them count, and their pairs.
        needs: what the detector reads.
        **given: ``classifier``, ``training``, ``copies``, ``naturals``.
    """

    def __init__(self, stored: StoredPairs, needs: frozenset[str], **given: Any) -> None:
        rows = stored.rows
        which, at = np.concatenate([np.zeros_like(rows), 1 + stored.turns]), np.concatenate([rows, rows])
        super().__init__(*_read([stored.natural, *stored.attacked], needs, which, at), **given)
        self._stored = stored

    @property
    def labels(self) -> Tensor:
        """(N,) int64, 0 natural, 1 adversarial; where labels are shuffled the two of half the pairs have changed places."""
        exchanged = torch.from_numpy(self._stored.exchanged).to(DEVICE.get())
        return torch.cat([exchanged, ~exchanged]).to(torch.int64)

    def pairs(self, labels: Tensor, settings: Any, *parts: nn.Module) -> Pairs:
        """Views in pairs, read batch by batch where they are large; the labels are its own."""
        s = self._stored
        return StoredPairs(s.natural, s.attacked, settings, list(parts), s.paired, s.shuffled, s.mixture)


class StoredPairs:
    """Views of naturals and their adversarials, batch by batch, out of stored evidence: a ``types.Pairs``.

    Args:
        natural: rows that were classified (and drawn).
        attacked: the same rows, attacked and stored; those that count are the positives.
        detector: whose view.
        parts: what the view depends on.
        paired: a batch holds each natural together with its own twin; otherwise two independent draws.
        shuffled: a control: in a random half of the pairs the two change places.
        mixture: of several attacks. ``"each"``: row i is of the attack i modulo their number, so there are as many adversarials as
            naturals, whatever the number of attacks. ``"all"``: every adversarial of every attack, one attack after the other, each
            in a pair with its natural, which comes once for every attack on it: both classes weigh the same.

    Attributes:
        rows: (M,) which row each pair is of.
        turns: (M,) which attack.
        exchanged: (M,) whether its two have changed places.

    Raises:
        UsageError: when too few adversarials count, or for another mixture.
    """

    def __init__(
        self,
        natural: Rows,
        attacked: list[Rows],
        detector: Any,
        parts: list[nn.Module],
        paired: bool,
        shuffled: bool = False,
        mixture: Mixture = "each",
    ) -> None:
        assert all((natural.ids == a.ids).all() for a in attacked), "naturals and twins are aligned"
        self.natural, self.attacked, self.detector, self.parts, self.paired = natural, attacked, detector, parts, paired
        one_of("mixture", mixture, MIXTURES)
        self.shuffled, self.mixture = shuffled, mixture
        counted = [a.column("evaluated") for a in attacked]
        if mixture == "all":
            self.turns, self.rows = np.nonzero(np.stack(counted))
        else:
            self.rows = np.flatnonzero(of_mixture(counted))
            self.turns = self.rows % len(attacked)
        if len(self.rows) < FEWEST_PAIRS:
            names = ", ".join(str(a.facts.get("attack")) for a in attacked)
            total = len(natural) * (len(attacked) if mixture == "all" else 1)
            raise UsageError(
                f"{len(self.rows)} of {total} images of {names} can be used in this protocol; {FEWEST_PAIRS} are needed to train on"
            )
        self.exchanged = np.zeros(len(self.rows), bool)
        if shuffled:  # exactly half: a head that learns that one side has more of a label has learnt something
            self.exchanged[np.random.default_rng(0).permutation(len(self.rows))[: len(self.rows) // 2]] = True
        self._known: tuple[Tensor, Tensor] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one view."""
        return tuple(self._view(self.natural, self.rows[:1]).shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def _view(self, rows: Rows, at: Any) -> Tensor:
        with torch.no_grad():
            seen: Tensor = self.detector.view(evidence_of(Batch(rows, at), self.detector.needs), *self.parts)
        return seen

    def _both(self, places: Any) -> tuple[Tensor, Tensor]:
        """Views of some naturals and of their twins, by their places among the pairs."""
        at, turns = self.rows[places], self.turns[places]
        natural = self._view(self.natural, at)
        twins = torch.empty_like(natural)
        for i, rows in enumerate(self.attacked):
            mine = turns == i
            if mine.any():
                twins[torch.from_numpy(mine)] = self._view(rows, at[mine])
        exchange = torch.from_numpy(self.exchanged[places]).to(natural.device).view(-1, *[1] * (natural.dim() - 1))
        return torch.where(exchange, twins, natural), torch.where(exchange, natural, twins)

    def _views(self) -> tuple[Tensor, Tensor] | None:
        """All views at once, where they are small."""
        if self._known is None and len(self.rows) * int(np.prod(self.shape)) <= IN_MEMORY:
            pieces = [self._both(np.arange(s, min(s + 500, len(self)))) for s in range(0, len(self), 500)]
            self._known = torch.cat([p[0] for p in pieces]), torch.cat([p[1] for p in pieces])
        return self._known

    def _pairs(self, naturals: Any, twins: Any) -> tuple[Tensor, Tensor]:
        """(natural views, adversarial views) by their places among the pairs."""
        views = self._views()
        if views is None:
            first = self._both(naturals)
            return first if naturals is twins else (first[0], self._both(twins)[1])
        return views[0][torch.from_numpy(naturals)], views[1][torch.from_numpy(twins)]

    def batches(self, size: int, seed: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """(natural views, adversarial views) of ``size`` each; with ``seed`` None all of them in order, else shuffled whole batches."""
        places = np.arange(len(self))
        if seed is None:
            for s in range(0, len(self), size):
                yield self._pairs(at := places[s : s + size], at)
            return
        rng = np.random.default_rng(seed)
        twins = rng.permutation(places)
        naturals = twins if self.paired else rng.permutation(places)
        for s in range(0, len(self) - len(self) % size, size):
            one = twins[s : s + size]
            yield self._pairs(one if self.paired else naturals[s : s + size], one)
