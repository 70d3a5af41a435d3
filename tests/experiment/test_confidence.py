"""C&W with confidence: rates by hand, and a tiny run in which the margin's detector falls as the confidence rises."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from salientry.adaptive._descent import margin
from salientry.attacks import FGSM, CarliniWagner
from salientry.classifiers import CompactCNN
from salientry.datasets import Digits
from salientry.errors import UsageError
from salientry.experiment.confidence import CONFIDENCES, confidence_rates
from salientry.experiment.outputs import Outputs
from salientry.experiment.records import export
from salientry.experiment.run import Run
from salientry.inference import exact_share
from salientry.protocol import STRICT
from salientry.recipes import extras
from salientry.recipes.experiment import prepare
from salientry.rows import Rows
from salientry.runner.step import Found
from salientry.types import Roles

from ..tiny import NET
from ..tiny_fast import config

# --- rates ----------------------------------------------------------------------------------------------------------

N = 10
RIGHT = np.arange(N) < 8


def rows_of(confidence: int, fooled: int, rms: float) -> Rows:
    """Of eight images that were right the first so many fool; an image has 4 values."""
    evaluated = np.arange(N) < fooled
    columns = {"right": RIGHT, "evaluated": evaluated, "rms": np.full(N, rms), "image": np.zeros((N, 1, 2, 2), np.uint8)}
    facts = {"protocol": "strict", "role": "test", "attack": f"c{confidence}"}
    return Rows(np.array([f"{i:016x}" for i in range(N)]), columns, facts)


def test_rates_and_what_is_worst_for_each_detector_by_hand() -> None:
    """One detector misses confident images, one those at the boundary; thresholds are 1 and -1."""
    attacked = [rows_of(0, 8, 0.1), rows_of(3, 4, 0.2), rows_of(9, 0, 0.4)]
    high, low = np.full(N, 2.0), np.full(N, -2.0)
    half = np.where(np.arange(N) % 2 == 0, high, low)
    natural = np.linspace(-3, 3, N)
    scores = [
        Found(None, {"any/test/natural": natural, "strict/test/c0": high, "strict/test/c3": half, "strict/test/c9": low}),
        Found(None, {"any/test/natural": natural, "strict/test/c0": half, "strict/test/c3": half[::-1], "strict/test/c9": low}),
    ]
    calibrated = [Found({"own": 0.0, "0.05": t}, {}) for t in (1.0, -1.0)]
    found: Any = confidence_rates.function(attacked, calibrated, scores, [0.0, 3.0, 9.0], ["a", "b"], "0.05")
    each = found["confidences"]
    assert [e["confidence"] for e in each] == [0, 3, 9] and [e["attack"] for e in each] == ["c0", "c3", "c9"]
    assert [e["success"]["value"] for e in each] == [1, 0.5, 0] and {e["success"]["n"] for e in each} == {8}
    assert [e["l2"] for e in each] == [pytest.approx(0.2), pytest.approx(0.4), None]
    assert [e["median_l2"] for e in each] == [pytest.approx(0.2), pytest.approx(0.4), None]
    assert [e["detection"]["a"]["value"] for e in each] == [1, 0.5, None] and [e["detection"]["a"]["n"] for e in each] == [8, 4, 0]
    assert [e["detection"]["b"]["value"] for e in each] == [0.5, 0.5, None]
    assert [e["undetected"]["a"]["value"] for e in each] == [0, 0.25, 0]
    assert [e["undetected"]["b"]["value"] for e in each] == [0.5, 0.25, 0]
    assert found["worst"]["a"]["confidence"] == 3 and found["worst"]["a"]["detection"]["value"] == 0.5
    assert found["worst"]["b"]["confidence"] == 0 and found["worst"]["b"]["undetected"]["value"] == 0.5
    assert (found["worst"]["a"]["l2"], found["worst"]["b"]["l2"]) == (pytest.approx(0.4), pytest.approx(0.2))
    assert found["any"]["a"]["value"] == 0.25
    assert found["any"]["b"]["value"] == 0.75, "1, 3, 5, 7 at confidence 0; 0, 2 at 3"
    assert found["natural"] == {
        "a": {"value": 0.3, "n": N} | dict(zip(("lo", "hi"), exact_share(3, N), strict=True)),
        "b": {"value": 0.6, "n": N} | dict(zip(("lo", "hi"), exact_share(6, N), strict=True)),
    }


# --- a tiny run -----------------------------------------------------------------------------------------------------

CW = CarliniWagner(search_steps=2, steps=60, lr=0.1, initial_const=1, confidence=0.1)
CONFIG = config(
    data=Digits(roles=Roles(train=600, detector_train=80, validation=60, calibration=300, test=80)),
    classifier=CompactCNN(width=8, epochs=8),
    saliency=NET,
    trunk=None,
    headline=(),
    attacks=(FGSM(), CW),
    by_confidence=CW,
    printed=None,
    detector_train=80,
    validation=60,
    test=80,
    strict=replace(STRICT, levels=(0.05,)),
)


def sweep(run: Run) -> Any:
    experiment, outputs = prepare(run, CONFIG)
    before = len(list(outputs))
    extras.confidence_sweep(CONFIG, experiment.image_sets, experiment.variant, outputs)
    assert len(list(outputs)) == before + 1, "what is recorded is wanted"
    return outputs.confidence[0], experiment.image_sets


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Any, Any]:
    run = Run(tmp_path_factory.mktemp("store"))
    handle, image_sets = sweep(run)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 300 calibration images: it says so, rightly
        outcome = run.compute([handle])
    assert not outcome.failed
    return run, handle, image_sets


def test_the_margin_s_detection_falls_as_confidence_rises(done: tuple[Run, Any, Any]) -> None:
    run, handle, _ = done
    found = run.get(handle)
    margins = [e["detection"]["Margin"]["value"] for e in found["confidences"]]
    assert [e["confidence"] for e in found["confidences"]] == list(CONFIDENCES)
    assert margins[0] > 0.7 and margins[1] < 0.2 and margins[2] < 0.2, margins
    worst = found["worst"]["Margin"]
    assert worst["confidence"] > 0 and worst["detection"]["value"] < 0.2, "it is judged where it is worst, not where it was trained"
    sizes = [e["l2"] for e in found["confidences"]]
    assert sizes[0] < sizes[1] < sizes[2], "confidence costs distance"
    for d in ("Margin", "SMD", "SecondNet"):
        worst = found["worst"][d]["undetected"]["value"]
        assert worst == max(e["undetected"][d]["value"] for e in found["confidences"]) <= found["any"][d]["value"]
        for e in found["confidences"]:
            share = e["success"]["value"] * (1 - (e["detection"][d]["value"] or 0))
            assert e["undetected"][d]["value"] == pytest.approx(share)


def test_stored_images_keep_the_confidence_that_was_asked_for(done: tuple[Run, Any, Any]) -> None:
    """The strict protocol's own search goes below the attack's perturbation and gives some of it back."""
    run, handle, image_sets = done
    kept = handle.args["attacked"][CONFIDENCES.index(3.0)]
    attack = kept.args["unstored"].args["attack"]
    usual = image_sets.attacked(attack, "test", CONFIG.strict)
    natural = run.get(image_sets.natural["test"])
    leads = []
    for h in (kept, usual):
        rows = run.get(h)
        z, own = torch.from_numpy(rows.column("logits")), torch.from_numpy(natural.column("predicted"))
        leads.append(margin(z, own).numpy()[rows.column("evaluated")])
    assert attack.confidence == 3 and np.median(leads[0]) > 2.7 > np.median(leads[1]) + 0.5, [np.median(v) for v in leads]
    assert run.get(kept).column("image").dtype == np.uint8


def test_records_hold_the_rates_and_only_where_there_are_some(done: tuple[Run, Any, Any], tmp_path: Path) -> None:
    run, handle, _ = done
    about = {"recipe": "x", "parameters": {}, "seed": 0, "numerics": "float32", "command": "x", "out": str(tmp_path)}
    classifier = handle.args["attacked"][0].args["classifier"]
    for rates in ([], [handle]):
        outputs = Outputs(classifier, confidence=rates)
        export(run, outputs, run.compute(list(outputs)), tmp_path, about)
        body = json.loads((tmp_path / "records.json").read_text())
        assert body.get("confidence") == ([run.get(handle)] if rates else None)


def test_each_detector_is_trained_once_at_confidence_0_and_calibrated_before_any_test_image(done: tuple[Run, Any, Any]) -> None:
    run, handle, _ = done
    fits = [h for h in run.order([handle]) if h.step and h.step.name == "fit_detector"]
    assert len(fits) == 3 == len({h.fingerprint for h in fits})
    for h in fits:
        (twins,) = h.args["attacked"]
        attacks = {u.args["attack"].confidence for u in run.order([twins]) if u.step and u.step.name == "attack_images"}
        assert attacks == {0.0}
    for scored, calibrated in zip(handle.args["scored"], handle.args["calibrated"], strict=True):
        assert scored.args["calibrated"] is calibrated
        roles = {u.args["role"] for u in run.order([calibrated])[-1].inputs if "role" in u.args}
        assert "test" not in roles


def test_a_config_without_a_level_is_refused_and_one_that_does_not_ask_has_no_sweep(tmp_path: Path) -> None:
    experiment, outputs = prepare(Run(tmp_path), CONFIG)
    with pytest.raises(UsageError, match="a protocol with a level is expected"):
        extras.confidence_sweep(replace(CONFIG, strict=replace(STRICT, levels=())), experiment.image_sets, experiment.variant, outputs)
    extras.confidence_sweep(replace(CONFIG, by_confidence=None), experiment.image_sets, experiment.variant, outputs)
    assert outputs.confidence == []
