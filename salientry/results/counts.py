"""How many images the guard's detector flags, counted from the score records: attacked ones, natural ones, and harmless noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..rates import percent
from .names import NATURAL, detector_title
from .scores import Scores
from .trained import Array, FittedSeed, Images


@dataclass(frozen=True)
class Counts:
    """What was counted on the test images in 8 bits, each a pair (flagged, of how many).

    Attributes:
        detector: the one that the guard holds, as tables name it.
        level: the false-positive rate that its threshold was calibrated for.
        attacks: how many attacks it was trained on; each makes an image of every natural.
        attacked: adversarial images that fool the classifier.
        natural: natural images.
        noise: natural images with noise of each attack's size, those whose prediction the noise leaves as it was.
    """

    detector: str
    level: str
    attacks: int
    attacked: tuple[int, int]
    natural: tuple[int, int]
    noise: tuple[int, int]

    def lines(self) -> list[str]:
        """For people."""
        kinds, succeed = ("one attack", "it succeeds") if self.attacks == 1 else (f"{self.attacks} attacks", "they succeed")
        what = "a fusion of all detectors" if self.detector == "fusion" else f"the detector {self.detector}"
        return [
            f"the guard holds {what}, set to flag at most {percent(self.level)} of natural images",
            f"attacked: {_of(self.attacked)} detected ({kinds} on the test images, where {succeed})",
            f"natural: {_of(self.natural)} flagged",
            f"natural images with harmless noise of the same size: {_of(self.noise)} flagged",
        ]


def counts(s: Scores) -> Counts | None:
    """Count; None where the records hold no detector of a guard (a sanity check that it depends on failed), or lack its scores."""
    g = _guards(s)
    if g is None:
        return None

    def flagged(names: list[str], rows: Callable[[Images], Array]) -> tuple[int, int]:
        """Of the rows of these sets that are asked for."""
        found = [(g.seed.of(n) > g.seed.thresholds[g.level])[rows(s.images[n])] for n in names]
        return sum(int(f.sum()) for f in found), sum(map(len, found))

    return Counts(
        g.title,
        g.level,
        len(g.attacked),
        flagged(g.attacked, lambda x: x["evaluated"]),
        flagged([NATURAL], lambda x: x["evaluated"]),
        flagged(g.noisy, lambda x: ~x["changed"]),
    )


def at_the_median(s: Scores) -> tuple[tuple[str, int], tuple[str, int]] | None:
    """The natural and the attacked image, among those that :func:`counts` counts, whose score by the guard is the median (of an even
    number the lower one of the two): the name of its image set, and its row there. None as there, and where no attack fools.
    """
    g = _guards(s)
    if g is None:
        return None
    found = []
    for names in ([NATURAL], g.attacked):
        every = [(g.seed.of(n)[i], n, int(i)) for n in names for i in np.flatnonzero(s.images[n]["evaluated"])]
        if not every:
            return None
        found.append(sorted(every)[(len(every) - 1) // 2][1:])
    return found[0], found[1]


@dataclass(frozen=True)
class _Guards:
    """The guard's detector: its name in tables, level, and first seed, which is the guard's; and the image sets that it is tried on."""

    title: str
    level: str
    seed: FittedSeed
    attacked: list[str]
    noisy: list[str]


def _guards(s: Scores) -> _Guards | None:
    choice = s.body["choice"]
    chosen = choice[0]["chosen"] if choice else "Fused"
    one = next((g for scheme in ("all", "paired") if (g := s.one("strict", chosen, "combined", scheme))), None)
    if one is None or not s.has_naturals:
        return None
    attacked, noisy = ([f"strict/test/{of}{a}" for a in one.of] for of in ("", "MatchedNoise of "))
    first = one.seeds[0]
    if not first.kept or not all(n in s.images and n in first.scores for n in (NATURAL, *attacked, *noisy)):
        return None
    return _Guards(detector_title(chosen, "paired"), one.level, first, attacked, noisy)


def _of(pair: tuple[int, int]) -> str:
    return f"{pair[0]:,} of {pair[1]:,}"
