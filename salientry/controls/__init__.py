"""Controls: images that a detector should not flag. One file each."""

from ..contracts import Control
from .noise import MatchedNoise
from .null import Null

CONTROLS: dict[str, type[Control]] = {"noise": MatchedNoise, "null": Null}

__all__ = ["CONTROLS", "MatchedNoise", "Null"]
