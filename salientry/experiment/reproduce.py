"""One detector of a recipe by itself: its handles among the outputs, and a run that computes them anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..runner.step import Handle
from ..store import Store
from .outputs import Outputs
from .run import Run
from .scoring import Scored


@dataclass(frozen=True)
class ScoredDetector:
    """A detector that is fitted and scored.

    Attributes:
        fitted: the handle of ``fit_detector`` or ``fit_fusion``; its fingerprint is the detector's key in the records.
        scores: its thresholds and scores among the outputs.
    """

    fitted: Handle
    scores: tuple[Scored, ...]

    @property
    def key(self) -> str:
        """64 hex digits."""
        return self.fitted.fingerprint

    def alone(self, outputs: Outputs) -> Outputs:
        """What a recipe would find that wanted this detector only."""
        return Outputs(classifier=outputs.classifier, scores=list(self.scores), compact=outputs.compact)


def scored_detectors(outputs: Outputs) -> dict[str, ScoredDetector]:
    """Every detector that is scored, by key."""
    found: dict[str, ScoredDetector] = {}
    for s in outputs.scores:
        key = s.detector.fingerprint
        found[key] = ScoredDetector(s.detector, (*(found[key].scores if key in found else ()), s))
    return found


class OverlayStore(Store):
    """A store that keeps some results in another folder, so that they are computed though the store has them; all else is the
    store's own, read and written there.

    Args:
        root: of the store.
        folder: of those results.
        keys: theirs.
    """

    def __init__(self, root: Path, folder: Path, keys: frozenset[str]) -> None:
        super().__init__(root)
        self.overlay, self.keys = Store(folder), keys

    def path(self, step: str, slug: str, key: str) -> Path:
        """Where the result with this key lives."""
        return self.overlay.path(step, slug, key) if key in self.keys else super().path(step, slug, key)


def compute_again(run: Run, head: ScoredDetector, folder: Path) -> None:
    """Let a run compute a detector's fit, thresholds and scores whatever its store holds of them: they go to ``folder``. What they
    depend on is re-used from the store, and put there where it is missing.
    """
    made = [h for s in head.scores for h in (s.scores, *s.scores.args.get("scored", ()))]
    run.store = OverlayStore(run.store.root, folder, frozenset({head.key, *(h.fingerprint for h in made)}))
