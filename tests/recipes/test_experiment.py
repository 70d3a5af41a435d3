"""The experiment on a finished tiny run: what depends on what, what was computed, and what stops it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from salientry.attacks import BIM, DeepFool
from salientry.batches import Batch
from salientry.cli import running
from salientry.errors import AttackTooWeak
from salientry.evidence import Evidence
from salientry.experiment.describe import attack_settings, networks
from salientry.experiment.outputs import Outputs
from salientry.experiment.records import guard_of
from salientry.experiment.run import Run
from salientry.experiment.scoring import Scored, set_name
from salientry.keys import label
from salientry.learned import frozen
from salientry.runner.step import Handle
from tests.cli.conftest import Cli
from tests.graph import scoring, upstream
from tests.tiny import ATTACKS, tiny

FEEBLE = BIM(eps=0.001, step_size=0.0005)


@pytest.fixture(scope="module")
def outcome(finished: Path, finished_store: Path) -> tuple[Run, Outputs]:
    run = Run(finished_store)
    return run, tiny(run)


def roles(handles: dict[str, Handle]) -> set[str]:
    return {h.args["role"] for h in handles.values() if "role" in h.args}


def names(handles: dict[str, Handle]) -> set[str]:
    return {h.step.name for h in handles.values() if h.step}


# --- what depends on what --------------------------------------------------------------------------------------------


def test_the_choice_reads_neither_calibration_nor_test_images(outcome: tuple[Run, Outputs]) -> None:
    choice = outcome[1].choice[-1]
    assert choice.step is not None and choice.step.name == "choose_detector"
    stands = upstream(choice)
    assert roles(stands) == {"train", "detector_train", "validation"}
    assert {scoring(h) for h in stands.values()} == {"", "validation"}
    assert {"fit_detector", "fit_fusion", "unseen_rates", "scores"} <= names(stands)


def test_the_choice_is_calibrated_only_when_it_is_made(outcome: tuple[Run, Outputs]) -> None:
    outputs = outcome[1]
    parts = outputs.guard
    assert parts is not None
    assert parts.detector.fingerprint == outputs.choice[-1].fingerprint
    assert parts.calibrated.args["detector"].fingerprint == parts.detector.fingerprint
    assert roles(upstream(parts.calibrated)) == {"train", "detector_train", "validation", "calibration"}
    assert len(parts.calibrated.args["sets"]) == 1


def test_thresholds_are_frozen_before_a_test_image_is_scored(outcome: tuple[Run, Outputs]) -> None:
    run, outputs = outcome
    tested = 0
    for h in run.order(list(outputs)):
        assert h.step is not None
        if scoring(h).endswith("test"):
            calibrated = h.args["calibrated"]
            assert calibrated.args["detector"].fingerprint == h.args["detector"].fingerprint
            assert "test" in roles(upstream(h)) and "test" not in roles(upstream(calibrated))
            tested += 1
        elif h.step.name.startswith(("fit_", "train_", "gate", "sanity", "unseen", "choose", "scores")):
            assert "test" not in roles(upstream(h)), h.step.name
        if h.step.name.startswith(("fit_", "train_", "gate", "sanity", "unseen", "choose")):
            assert "calibration" not in roles(upstream(h)), h.step.name
    assert tested > 100


# --- what was computed ----------------------------------------------------------------------------------------------


def seen(run: Run, outputs: Outputs, images: Handle, needs: Any) -> tuple[Evidence, Tensor]:
    """The evidence of images, made by the nets themselves, and the images."""
    rows = run.get(images)
    x = Batch(rows, np.arange(len(rows))).image
    f, s = run.get(outputs.classifier), run.get(outputs.map_checks[0])
    with frozen(f, s):
        look = Evidence(f, s, x, frozenset(needs))
        for part in needs:
            getattr(look, part)
    return look, x


def scored(outputs: Outputs, what: str) -> Iterator[Scored]:
    yield from (s for s in outputs.scores if scoring(s.scores) == what)


def calibration_of(outputs: Outputs, tested: Scored) -> Scored:
    return next(s for s in outputs.scores if s.scores.fingerprint == tested.scores.args["calibrated"].fingerprint)


def near(found: Any, expected: Tensor) -> None:
    expected_ = expected.numpy()
    assert np.isfinite(expected_).all()
    np.testing.assert_allclose(found, expected_, atol=1e-5 * max(1.0, float(np.abs(expected_).max())), rtol=1e-4)


def test_stored_scores_are_those_of_the_nets_on_the_images(outcome: tuple[Run, Outputs]) -> None:
    """Of each kind of detector one, on naturals and on the first attack, under its thresholds' own images too."""
    run, outputs = outcome
    done: set[str] = set()
    for s in scored(outputs, "test"):
        fit = s.detector
        kind = f"{fit.slug.split('-')[0]} {fit.args['protocol'].name} {fit.args['protocol'].paired}"
        if kind in done or fit.args.get("scheme"):
            continue
        done.add(kind)
        detector, calibrated = run.get(fit), calibration_of(outputs, s)
        for one, images in [(s, s.sets[0]), (s, s.sets[1]), (calibrated, calibrated.sets[0])]:
            look, _ = seen(run, outputs, images, detector.needs)
            with torch.no_grad():
                near(run.get(one.scores).arrays[set_name(run.get(images).facts)], detector(look))
    assert len(done) > 20


def test_stored_scores_of_fusions_are_those_of_the_nets_on_the_images(outcome: tuple[Run, Outputs]) -> None:
    run, outputs = outcome
    for s in list(scored(outputs, "fusion test"))[:3]:
        fused, calibrated = run.get(s.detector), calibration_of(outputs, s)
        for one, images in [(s, s.sets[0]), (s, s.sets[1]), (s, s.sets[-1]), (calibrated, calibrated.sets[0])]:
            look, _ = seen(run, outputs, images, fused.needs)
            with torch.no_grad():
                near(run.get(one.scores).arrays[set_name(run.get(images).facts)], fused(look))


def test_the_guard_that_is_left_behind_is_the_chosen_one(outcome: tuple[Run, Outputs]) -> None:
    run, outputs = outcome
    made = guard_of(run, outputs)
    assert made is not None
    _, _, detector, threshold, level, scores = made
    why = run.record(outputs.choice[-1])["value"]
    assert vars(detector)["facts"]["choice"] == why
    assert vars(detector)["facts"]["detector"] == why["chosen"]
    assert why["worst"][why["chosen"]] == max(why["worst"].values())
    assert set(why["rates"]["Fused"]) == {label(a) for a in ATTACKS}
    assert level == 0.05 and (scores > threshold).mean() <= 0.05


def test_settings_and_networks_are_read_off_what_ran(outcome: tuple[Run, Outputs], finished: Path) -> None:
    run, outputs = outcome
    attacks = {a["label"]: a for a in attack_settings(run, outputs)}
    assert set(attacks) == {label(a) for a in (*ATTACKS, DeepFool(steps=2))}
    cw = attacks[label(ATTACKS[1])]
    assert (cw["attack"], cw["eps"], cw["settings"]["steps"], cw["defaults"]["steps"]) == ("CarliniWagner", None, 40, 1000)
    assert attacks["FGSM"]["settings"] == attacks["FGSM"]["defaults"] and attacks["FGSM"]["eps"] == ATTACKS[0].eps
    nets = {n["name"]: n for n in networks(run, outputs, set())}
    for name, h in (("classifier", outputs.classifier), ("saliency model", outputs.map_checks[0])):
        assert nets[name]["weights"] == sum(p.numel() for p in run.get(h).parameters())
    heads = dict[str, set[int]]()
    for s in scored(outputs, "test"):
        fitted = run.get(s.detector)
        facts = vars(fitted)["facts"]
        if facts["scheme"] in ("paired", "replica"):
            name = facts["detector"] + (" (replica)" if facts["scheme"] == "replica" else "")
            heads.setdefault(name, set()).add(sum(p.numel() for p in fitted.head.parameters()))
    assert {n: {v["weights"]} for n, v in nets.items() if n not in ("classifier", "saliency model")} == heads
    assert nets["Margin"]["layers"] == ["logistic, 1 columns"]
    assert any(layer.startswith("conv") for layer in nets["SMD (replica)"]["layers"])
    body = json.loads((finished / "records.json").read_text())
    assert body["networks"] == list(nets.values()) and body["attacks"] == list(attacks.values())
    lost = {h.fingerprint for h in outputs.map_checks}
    assert "saliency model" not in {n["name"] for n in networks(run, outputs, lost)}


# --- what stops it --------------------------------------------------------------------------------------------------


def feeble(run: Run, action: str = "mark") -> Outputs:
    return tiny(run, action, attacks=(ATTACKS[0], FEEBLE))


@pytest.fixture
def home(finished: Path, finished_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of one's own that holds the finished run: nets need not be trained again."""
    shutil.copytree(finished_store, tmp_path / "home", copy_function=os.link)
    monkeypatch.setenv("SALIENTRY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SALIENTRY_WORKERS", "1")
    return tmp_path / "home"


def test_an_attack_that_does_not_attack_stops_the_run(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(home)
    before = set(home.glob("fit_detector/*"))
    with pytest.raises(AttackTooWeak, match=r"BIM-eps=0\.001.* fools \d+\.\d % of the \d+ images .* at least 90 % expected") as caught:
        run.compute(list(feeble(run)))
    assert any("in step strong_enough" in note for note in caught.value.__notes__)
    assert set(home.glob("fit_detector/*")) == before, "reported before a detector is trained on it"
    monkeypatch.setattr(running, "recipe_named", lambda name: feeble)
    Cli("run", "feeble", "--out", tmp_path / "out").refused(1, label(FEEBLE), "at least 90 % expected", "in step strong_enough")
    assert not (tmp_path / "out" / "report.html").exists()


def test_fgsm_may_be_weak_and_its_share_is_recorded(finished: Path) -> None:
    strength = {s["attack"]: s for s in json.loads((finished / "records.json").read_text())["strength"]}
    assert set(strength) == {label(a) for a in (*ATTACKS, DeepFool(steps=2))}
    assert [strength[label(a)]["least"] for a in (*ATTACKS, DeepFool(steps=2))] == [0.0, 0.9, 0.0]
    assert all(s["n"] >= 80 for s in strength.values())
    assert strength[label(ATTACKS[1])]["fooled"] >= 0.9
