"""Detectors as a sentence names them: in words that need no other page, explained where they first stand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..results.names import SAID, detector_words

EXPLAINED = {  # what a detector looks at, by its title without what stands in brackets, where records do not say it
    "SMD": "a net that sees only {map}",
    "SPD": "a net that sees the image weighted by {map}",
    "ID": "a net that sees the image",
    "JSD": "a net that sees the image and the classifier's gradient",
    "ID+": "a net that sees the image's fine structure",
    "fusion": "the scores of all detectors combined",
    "Margin2": "how far the classifier's two best classes lie apart, and the square of that",
    "Margin": "how far the classifier's two best classes lie apart",
    "SortedLogits": "a small net on the classifier's outputs",
    "PooledActivations": "a small net on the classifier's inner layers",
    "ClassPresence": "how unsure the saliency model is that the class is there",
    "SecondNet": "whether a second net calls the image something else",
    "BlackShare": "the share of black pixels",
    "HighFrequency": "how much fine structure the image has",
}
MAP = "the saliency map, where the classifier looks"
BASELINE = "best baseline, a simple detector to compare with, chosen on validation images"


def explained(head: str) -> str:
    """What a detector looks at: what it says of itself, in its own words or as the reason of a verdict, if that is not its name."""
    words = SAID["explained"].get(head) or EXPLAINED.get(head) or SAID["description"].get(head, "")
    return "" if words == head else words


@dataclass
class Namer:
    """Names detectors, each explained the first time."""

    known: set[str] = field(default_factory=set)

    def __call__(self, title: str, more: str = "") -> str:
        """``SMD (a net that sees ...)`` the first time, then ``SMD``; ``more`` stands in front of the explanation."""
        head = title.partition(" (")[0]
        words = "" if head in self.known else explained(head)
        if "{map}" in words:
            words = words.format(map="this map" if MAP in self.known else MAP)
            self.known.add(MAP)
        self.known.add(head)
        inside = ": ".join(filter(None, (more, words)))
        return detector_words(title) + (f" ({inside})" if inside else "")


def parted(words: Iterable[str]) -> str:
    """What stands between names in a sentence: a comma, or a semicolon where one of them has a comma of its own."""
    return "; " if any("," in w.partition(" (")[0] for w in words) else ", "


def listing(words: Iterable[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *before, last = words
    between = parted([*before, last])
    return f"{between.join(before)}{';' if between == '; ' else ''} and {last}" if before else last
