from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from salientry.attacks import JSMA, CarliniWagner
from salientry.errors import UsageError
from salientry.experiment.describe import attack_settings
from salientry.experiment.outputs import Outputs
from salientry.experiment.run import Run
from salientry.experiment.scoring import Scored
from salientry.keys import label
from salientry.recipes.smoke import PRINTED, REDUCED, smoke
from salientry.runner.step import Handle
from tests.graph import scoring

SEEDS, ATTACKS, DEFENCES = 3, 6, 4
TRAINED, LOGISTIC, GROUPS = 2, 6, 8  # baselines whose seed counts and others; what a fusion is taken apart into


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"seeds": 0}, r"seeds must lie in \[1, 100\]; found 0"),
        ({"validation": 401}, r"validation must lie in \[1, 400\]"),
        ({"detector_train": 0}, r"detector_train must lie in \[1, 1000\]"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_computed(tmp_path: Path, given: dict[str, int], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        smoke(Run(tmp_path), **given)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Outputs]:
    run = Run(tmp_path_factory.mktemp("nothing"))
    return run, smoke(run, seeds=SEEDS)


def called(run: Run, outputs: Outputs, name: str) -> list[Handle]:
    return [h for h in run.order(list(outputs)) if h.step is not None and h.step.name == name]


def test_every_detector_is_there_once_a_training_protocol_and_seed(written: tuple[Run, Outputs]) -> None:
    run, outputs = written
    fitted = called(run, outputs, "fit_detector")
    drawn = DEFENCES + TRAINED
    published = (ATTACKS + 1 + 1) * (drawn * SEEDS + LOGISTIC + DEFENCES)  # each attack, all of them, the printed one; replicas
    strict = (ATTACKS + 1) * ((drawn + 1) * SEEDS + LOGISTIC)  # and ID+
    ablated = 2 * (6 * 2 + 2 * 1 + 3)  # two attacks: maps, gradients, labels
    unseen = ATTACKS * (3 + TRAINED + LOGISTIC)
    assert len(fitted) == published + strict + ablated + unseen
    scored = Counter(scoring(s.scores) for s in outputs.scores)
    assert scored["test"] == published + strict + ablated
    kinds = 2 * GROUPS + 1  # all; without each; logits alone; logits with each other
    assert scored["fusion test"] == scored["fusion calibration"] == kinds * SEEDS
    assert len({s.scores.fingerprint for s in outputs.scores}) == len(outputs.scores), "each once"
    assert not any(run.done(h) for h in fitted), "nothing is computed while it is written down"
    assert len(called(run, outputs, "attack_images")) == (ATTACKS + 1) * 3  # in three roles: the printed one trains, too
    assert {h.args["attack"] for h in called(run, outputs, "attack_images")} >= set(REDUCED)


def controls(s: Scored) -> set[str]:
    """Labels of the controls that a detector was scored on, with the attack that they are as large as."""
    out = set()
    for images in s.sets:
        while images.step.name != "settle" and images.inputs:
            images = images.inputs[0]
        unstored = images.args.get("unstored")
        if unstored is not None and "control" in unstored.args:
            out.add(label(unstored.args["control"]))
    return out


def test_every_trial_has_the_mandatory_controls_and_the_first_seeds_all_of_them(written: tuple[Run, Outputs]) -> None:
    _, outputs = written
    every = {"Null", "MatchedNoise", "MatchedNoise-kind=gaussian", "Transplant", "RoundTrip"}
    seen = Counter[str]()
    for s in outputs.scores:
        if scoring(s.scores) != "test":
            continue
        fit = s.detector
        if fit.args.get("scheme"):
            continue  # an input ablation: tested on its own attack alone
        protocol, found = fit.args["protocol"], controls(s)
        assert {"Null", "MatchedNoise"} <= found
        if protocol.name == "strict" and fit.seed == 0:
            trained = [a.args["unstored"].args["attack"] for a in map(settled, fit.args["attacked"])]
            sparse = any(isinstance(a, CarliniWagner | JSMA) for a in trained)
            assert found == every | ({"Shuffled"} if sparse else set())
            seen["strict, first seed"] += 1
            seen["sparse"] += sparse
        else:
            assert found == {"Null", "MatchedNoise"}
            seen["other"] += 1
    assert min(seen.values()) > 10 and len(seen) == 3


def settled(h: Handle) -> Handle:
    while h.step is not None and h.step.name != "settle":
        h = h.inputs[0]
    return h


def test_full_cw_is_as_printed_and_nothing_is_called_reduced(written: tuple[Run, Outputs], tmp_path: Path) -> None:
    run = Run(tmp_path)
    outputs = smoke(run, seeds=1, full_cw=True)
    used = {h.args["attack"] for h in called(run, outputs, "attack_images")}
    assert set(PRINTED) <= used and not set(REDUCED) & used
    assert not any(a["reduced"] for a in attack_settings(run, outputs))
    assert [a["label"] for a in attack_settings(*written) if a["reduced"]] == [label(a) for a in REDUCED]
