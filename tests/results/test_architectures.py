"""The search over architectures in the verdicts: C18 is asked of it, and a search in which nothing is found answers nothing."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from salientry.results import claims
from salientry.results.architectures import AS_PRINTED, BEYOND
from salientry.results.claims import FAILS, HOLDS, NOT_RUN, OPEN
from salientry.results.claims.asked import MANNERS, Book
from salientry.results.claims.judge import plain
from salientry.results.claims.single import searched
from salientry.results.claims.size import steps_of
from salientry.results.numbers import numbers
from salientry.results.scores import Scores

from .oracle import ROOT

WITHOUT = "architecture: no drop-out"


@pytest.fixture(scope="module")
def recorded() -> tuple[Scores, pd.DataFrame]:
    s = Scores.read(ROOT / "paper" / "cifar10-heads-deepfool")
    return s, numbers(s)


def test_a_search_in_which_nothing_is_found_is_no_answer(recorded: tuple[Scores, pd.DataFrame]) -> None:
    found = claims.verdicts([recorded])[0]
    asked = found[(found["claim"] == "C18") & (found["scheme"] == "replica") & (found["run_seed"] == 0)].set_index("line")
    assert set(asked.index) == {"ID searched on DeepFool", "JSD searched on DeepFool"}
    assert asked["verdict"]["ID searched on DeepFool"] == NOT_RUN and "no architecture finds anything" in asked["why"].iloc[0]
    assert asked["verdict"]["JSD searched on DeepFool"] == OPEN, "a gain of .004 [-.016, .021]"
    assert all(size.startswith("800 of about 20,000 steps a head") for size in asked["size"])


def test_the_papers_net_takes_fifty_images_a_step(recorded: tuple[Scores, pd.DataFrame]) -> None:
    s, _ = recorded
    (g,) = [g for g in s.trained if (g.detector, g.scheme) == ("ID", AS_PRINTED)]
    epochs = len(g.seeds[0].curve or ())
    assert steps_of(s, "published", AS_PRINTED, "ID", "DeepFool") == 2_000 // 25 * epochs, "25 naturals beside 25 adversarials"


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ({WITHOUT: (0.0, -0.01, 0.01), "architecture: 1 dense": (-0.3, -0.32, -0.28)}, HOLDS),
        ({WITHOUT: (0.1, 0.08, 0.12), "architecture: 1 dense": (-0.3, -0.32, -0.28)}, FAILS),  # one that helps is enough
        ({WITHOUT: (0.01, -0.01, 0.03)}, OPEN),
        ({WITHOUT: (0.0, -0.01, 0.01), BEYOND[0]: (0.2, 0.18, 0.22)}, HOLDS),  # the paper tried no other initial weights
    ],
)
def test_every_architecture_that_the_paper_names_must_not_help(
    recorded: tuple[Scores, pd.DataFrame], gains: dict[str, tuple[float, float, float]], verdict: str
) -> None:
    _, frame = recorded
    like = frame[(frame["kind"] == "architecture") & (frame["measure"] == "gain") & (frame["detector"] == "JSD")].iloc[0]
    new: list[dict[str, Any]] = []
    for scheme, (value, lo, hi) in gains.items():
        new.append({**like.to_dict(), "id": f"{scheme} gain", "scheme": scheme, "value": value, "lo": lo, "hi": hi})
        new.append({**new[-1], "id": f"{scheme} accuracy", "measure": "accuracy", "value": 0.7, "lo": 0.68, "hi": 0.72})
    printed = frame[(frame["kind"] == "architecture") & (frame["scheme"] == AS_PRINTED) & (frame["detector"] == "JSD")]
    made = pd.concat([printed, pd.DataFrame(new)], ignore_index=True)
    book = Book(made, "cifar10", 0)
    (question,) = searched(book, made)
    assert plain(question, MANNERS[0], book, book.side, {}) == verdict
