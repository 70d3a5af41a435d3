from __future__ import annotations

from pathlib import Path

import pytest

from salientry.errors import UsageError
from salientry.experiment.run import Run
from salientry.recipes.smoke import FLOORS, HEADS, REPLICAS, TRAINED, smoke


@pytest.mark.parametrize(
    ("given", "says"), [({"seeds": 0}, r"seeds must lie in \[1, 100\]"), ({"select": 401}, r"select must lie in \[1, 400\]")]
)
def test_what_cannot_be_is_said_before_anything_is_computed(tmp_path: Path, given: dict[str, int], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        smoke(Run(tmp_path), **given)


def test_the_recipe_writes_down_what_its_docstring_promises(tmp_path: Path) -> None:
    """Each detector once a seed, attack and protocol; the replica once; each scored on the test images with its thresholds."""
    run = Run(tmp_path)
    findings = smoke(run, seeds=3)
    fitted = [h for h in run.order(list(findings)) if h.step is not None and h.step.name == "fit_detector"]
    drawn = 3 * (len(HEADS) + 1)  # sorted logits draw too
    assert len(fitted) == len(TRAINED) * (2 * (drawn + len(FLOORS)) + len(REPLICAS))
    assert sum("thresholds" in h.args for h in findings.scores) == len(fitted)
    assert not any(run.done(h) for h in fitted)
