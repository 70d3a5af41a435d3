"""The search over architectures in the verdicts: C18 is asked of it, and a search in which nothing is found answers nothing."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from salientry.report.report import write
from salientry.results import claims
from salientry.results.architectures import AS_PRINTED, BEYOND, NAMED
from salientry.results.claims import FAILS, HOLDS, NOT_RUN, OPEN
from salientry.results.claims.asked import MANNERS, Book
from salientry.results.claims.judge import plain
from salientry.results.claims.single import searched
from salientry.results.claims.size import steps_of
from salientry.results.numbers import numbers
from salientry.results.scores import Scores
from salientry.results.warnings import warnings

from .oracle import ROOT

WITHOUT = "architecture: no drop-out"
NONE_HELPS = {f"architecture: {k}": (0.0, -0.01, 0.01) for k in range(NAMED - 1)} | {WITHOUT: (0.0, -0.01, 0.01)}


@pytest.fixture(scope="module")
def recorded() -> tuple[Scores, pd.DataFrame]:
    s = Scores.read(ROOT / "paper" / "cifar10-heads-deepfool")
    return s, numbers(s)


def test_a_search_in_which_nothing_is_found_is_no_answer(recorded: tuple[Scores, pd.DataFrame]) -> None:
    found = claims.verdicts([recorded])[0]
    asked = found[(found["claim"] == "C18") & (found["scheme"] == "replica") & (found["run_seed"] == 0)].set_index("line")
    ids = [f"{d} searched on DeepFool: no drop-out" for d in ("ID", "JSD")]
    assert list(asked.index) == ids
    assert asked["verdict"][ids[0]] == NOT_RUN and "no architecture finds anything" in asked["why"].iloc[0]
    assert asked["verdict"][ids[1]] == OPEN, "a gain of .004 [-.016, .021]"
    assert all(size.startswith("800 of about 20,000 steps a head") for size in asked["size"])


def test_the_papers_net_takes_fifty_images_a_step(recorded: tuple[Scores, pd.DataFrame]) -> None:
    s, _ = recorded
    (g,) = [g for g in s.trained if (g.detector, g.scheme) == ("ID", AS_PRINTED)]
    epochs = len(g.seeds[0].curve or ())
    assert steps_of(s, "published", AS_PRINTED, "ID", "DeepFool") == 2_000 // 25 * epochs, "25 naturals beside 25 adversarials"


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        (NONE_HELPS, HOLDS),
        ({WITHOUT: (0.0, -0.01, 0.01), "architecture: 1 dense": (-0.3, -0.32, -0.28)}, OPEN),  # it holds when all were tried
        (NONE_HELPS | {WITHOUT: (0.1, 0.08, 0.12)}, FAILS),
        ({WITHOUT: (0.1, 0.08, 0.12), "architecture: 1 dense": (-0.3, -0.32, -0.28)}, FAILS),  # one that helps is enough
        ({WITHOUT: (0.01, -0.01, 0.03)}, OPEN),
        (NONE_HELPS | {BEYOND[0]: (0.2, 0.18, 0.22)}, HOLDS),  # the paper tried no other initial weights
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


def test_heads_that_flag_noise_are_called_so_on_the_first_screen(tmp_path: Path) -> None:
    """Five heads find BIM better than the baseline; each flags nearly all harmless noise as large."""
    write(Path(shutil.copytree(ROOT / "paper" / "cifar10-heads-bim", tmp_path / "run")))
    page = re.sub("<[^>]*>", "", (tmp_path / "run" / "report.html").read_text())
    heads = "JSD, as printed; ID, no drop-out; JSD, no drop-out; ID, drop-out 0.4; and JSD, drop-out 0.4"
    assert f"{heads} are better than every baseline; each of them has extra false alarms on more than 10" in page


def test_a_detector_of_small_scores_that_tell_attacks_apart_is_not_dead(recorded: tuple[Scores, pd.DataFrame]) -> None:
    s, frame = Scores.read(ROOT / "paper" / "cifar10-heads-bim"), recorded[1]
    (jsd,) = [g for g in s.trained if (g.detector, g.scheme) == ("JSD", AS_PRINTED)]
    for name, (scores, keys) in jsd.seeds[0].scores.items():
        jsd.seeds[0].scores[name] = (None if scores is None else scores * 1e-6, keys)
    dead = [w["title"] for w in warnings(s, numbers(s)).to_dict("records") if w["code"] == "ONE SCORE"]
    assert dead == ["ID (architecture: as printed)"] and len(frame)


def test_a_printed_head_without_controls_costs_the_gains_and_nothing_else(recorded: tuple[Scores, pd.DataFrame]) -> None:
    s = Scores.read(ROOT / "paper" / "cifar10-heads-bim")
    (jsd,) = [g for g in s.trained if (g.detector, g.scheme) == ("JSD", AS_PRINTED)]
    for name in [n for n in jsd.seeds[0].scores if "MatchedNoise" in n]:
        del jsd.seeds[0].scores[name]
    found = numbers(s)
    mine = found[(found["kind"] == "architecture") & (found["detector"] == "JSD")]
    assert set(mine["scheme"]) == {WITHOUT, BEYOND[1]} and "gain" not in set(mine["measure"])
    claims.verdicts([(s, found)])
