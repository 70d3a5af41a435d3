"""Controls: images that a detector should not flag. One file each."""

from ..types import Control
from .noise import MatchedNoise
from .null import Null
from .reversed import Reversed
from .round_trip import RoundTrip
from .shuffled import Shuffled
from .transplant import Transplant

CONTROLS: dict[str, type[Control]] = {
    "noise": MatchedNoise,
    "null": Null,
    "shuffled": Shuffled,
    "transplant": Transplant,
    "round_trip": RoundTrip,
    "reversed": Reversed,
}

__all__ = ["CONTROLS", "MatchedNoise", "Null", "Reversed", "RoundTrip", "Shuffled", "Transplant"]
