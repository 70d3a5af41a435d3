"""What a guard is chosen among where nobody says otherwise."""

from __future__ import annotations

import pytest

from salientry.detectors import DETECTORS
from salientry.experiment.guard_settings import Effort, default_candidates, published
from salientry.keys import name_of

LAYERS = {"Mahalanobis", "LID", "KernelDensity", "DeepKNN", "LayerStatistics"}


@pytest.mark.parametrize(("effort", "count"), [("quick", 1), ("usual", 4), ("thorough", 15)])
def test_more_effort_tries_more_and_everything_that_less_tries(effort: Effort, count: int) -> None:
    found = default_candidates(2_000, effort, second=False, columns=100)
    assert len(found) == len(set(found)) == count
    less: dict[Effort, Effort] = {"usual": "quick", "thorough": "usual"}
    if effort in less:
        assert set(default_candidates(2_000, less[effort], second=False, columns=100)) <= set(found)


def test_ten_published_detectors_are_tried_thoroughly_those_of_layers_where_there_are_some() -> None:
    assert len(published(layers=True)) == 10 and all(type(d) in DETECTORS.values() for d in published(layers=True))
    assert {name_of(d) for d in published(layers=True)} - {name_of(d) for d in published(layers=False)} == LAYERS
    assert not LAYERS & {name_of(d) for d in default_candidates(2_000, "thorough", second=False, columns=0)}
