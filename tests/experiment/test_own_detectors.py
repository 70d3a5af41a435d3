"""Detectors of one's own through `fit_guard`, a recipe, the white box, and into records and their frame."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

from salientry import Guard, fit_guard
from salientry.adaptive import Selective
from salientry.attacks import FGSM, DeepFool
from salientry.classifiers import CompactCNN, save_classifier
from salientry.cli import app
from salientry.cli.running import parameters
from salientry.datasets import Digits
from salientry.detectors import SMD, BlackShare, ExternalDetector, HighFrequency, Mahalanobis, Margin, Margin2, PaperCNN, SmallCNN
from salientry.errors import UsageError
from salientry.evidence import Evidence
from salientry.experiment.describe import said_of
from salientry.experiment.evaluation import TrainingSet
from salientry.experiment.records import export
from salientry.experiment.run import Run
from salientry.experiment.steps import fit_detector
from salientry.keys import label
from salientry.learned import facts_of
from salientry.protocol import PUBLISHED, STRICT
from salientry.recipes.experiment import prepare
from salientry.recipes.paper_white_box import Target, WhiteBoxExperiment
from salientry.recipes.smoke import digits, smoke
from salientry.results.claims.size import _batch
from salientry.results.names import detector_words
from salientry.results.scores import Scores
from salientry.types import Roles

from .. import own_detectors
from ..tiny import NET, WHITE_BOX

FEW = Roles(train=300, detector_train=80, validation=60, calibration=80, test=60)
ATTACK = FGSM()
GUIDED = ExternalDetector(own_detectors.roughness, name="guided", surrogate=own_detectors.smooth_roughness)
MINE = (
    own_detectors.contrast,
    own_detectors.roughness,
    GUIDED,
    own_detectors.NearestMean(),
    own_detectors.FeatureSqueezing(),
    Mahalanobis(),
)
BASELINES = (Margin(), Margin2(), BlackShare(), HighFrequency())  # that a table of detection depends on
NAMES = ["contrast", "roughness", "guided", "NearestMean", "FeatureSqueezing", "Mahalanobis"]


def config(**changes: Any) -> Any:
    made = digits(seeds=1, detector_train=80, validation=60, width=4)
    small = {"data": Digits(roles=FEW), "classifier": CompactCNN(width=8, epochs=6), "saliency": NET, "attacks": (ATTACK,), "printed": None}
    return replace(made, **small, strict=replace(STRICT, levels=(0.05,)), detectors=MINE, **changes)


# --- in a recipe --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, dict[str, Any], Any, Path]:
    """Each of them, trained on FGSM under both protocols, attacked with the classifier, exported."""
    out = tmp_path_factory.mktemp("out")
    run = Run(tmp_path_factory.mktemp("store"))
    experiment, outputs = prepare(run, config())
    outputs.map_checks, outputs.sanity = [], []
    attacker = WhiteBoxExperiment(experiment, replace(WHITE_BOX, images=20, table=20), outputs)
    trials = {}
    for detector in (*BASELINES, *experiment.config.detectors):
        for protocol in (PUBLISHED, experiment.config.strict):
            trial = experiment.evaluated(detector, protocol, TrainingSet((ATTACK,)), 0)
            outputs.scores += trial.outputs
        trials[str(getattr(detector, "name", type(detector).__name__))] = trial
        if detector in BASELINES:
            continue
        target = Target(trial.detector, trial.calibrated.scores, attacker.saliency_model(detector))
        outputs.white_box.append(attacker.attack(target, Selective(0.3, steps=8)))
    with pytest.warns(UserWarning, match="80 calibration images"):
        outcome = run.compute(outputs.read)
    assert not outcome.failed
    about = {"recipe": "own detectors", "parameters": {}, "seed": 0, "numerics": "float32", "command": "", "out": str(out)}
    export(run, outputs, outcome, out, about)
    return run, trials, outputs, out


def evidence_of(run: Run, trial: Any, which: int) -> tuple[Any, Any, Any]:
    """The rows that a trial scored, and the scores."""
    scored = trial.scored
    found = run.get(scored.scores)
    rows = run.get(scored.sets[which])
    return rows, list(found.arrays.values())[which], run.get(scored.detector)


@pytest.mark.parametrize("name", NAMES)
def test_recorded_scores_are_what_the_detector_says_of_the_images(ran: tuple[Run, dict[str, Any], Any, Path], name: str) -> None:
    run, trials, outputs, _ = ran
    net: nn.Module = run.get(outputs.classifier)
    for which in (0, 1):
        rows, scores, detector = evidence_of(run, trials[name], which)
        image: Tensor = torch.from_numpy(rows.column("image")).float() / 255
        with torch.no_grad():
            again = detector(Evidence(net, None, image, detector.needs))
        np.testing.assert_allclose(scores, again.numpy(), rtol=1e-3, atol=1e-4)
    direct = {"contrast": own_detectors.contrast, "roughness": own_detectors.roughness, "guided": own_detectors.roughness}
    if name in direct:
        np.testing.assert_allclose(scores, np.asarray(direct[name](image)), rtol=1e-5)


def test_what_learns_has_learnt_from_this_run(ran: tuple[Run, dict[str, Any], Any, Path]) -> None:
    run, trials, outputs, _ = ran
    mine: Any = run.get(trials["NearestMean"].detector)
    assert mine.thing.seen["classes"] == list(range(10)) and mine.thing.seen["pairs"] == facts_of(mine)["pairs"] >= 20
    net: nn.Module = run.get(outputs.classifier)
    detectors, training = (run.get(h) for h in (trials["NearestMean"].calibrated.sets[2], run.dataset(Digits(roles=FEW))["train"]))
    assert detectors.facts["role"] == "detector_train"
    x = torch.from_numpy(training.column("image")[:1]).float() / 255
    assert Evidence(net, None, x).features.shape[1] == len(mine.thing.mean)


def test_records_and_the_frame_hold_them_by_name_and_group(ran: tuple[Run, dict[str, Any], Any, Path]) -> None:
    frame = Scores.read(ran[3], verify=True).frame
    groups = dict(zip(frame.detector, frame.group, strict=True))
    assert {n: groups[n] for n in NAMES} == dict.fromkeys(NAMES, "own") | {"NearestMean": "mine", "Mahalanobis": "baseline"}
    body = json.loads((ran[3] / "records.json").read_text())
    said = {d["facts"]["detector"]: [d["facts"].get(k) for k in ("words", "explained")] for d in body["detectors"]}
    assert said["Margin2"] == [Margin2.words, Margin2.explained] and said["contrast"] == [None, None]
    strict = frame[(frame.protocol == "strict") & (frame.detector == "contrast")]
    run, trials, _, _ = ran
    rows, scores, _ = evidence_of(run, trials["contrast"], 0)
    assert any(np.array_equal(s, scores) for s in strict.scores if len(s) == len(rows))
    assert {k for t in strict.thresholds for k in t} >= {"own", "0.05"}


def test_the_page_has_a_row_of_each(ran: tuple[Run, dict[str, Any], Any, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(ran[3], tmp_path / "out")
    found = CliRunner().invoke(app, ["report", str(folder)])
    assert found.exit_code == 0, found.output
    page = (folder / "report.html").read_text()
    for name in map(detector_words, NAMES[:5]):  # one that is called as ours is has its words
        assert re.search(rf">\s*{name}\b", page), name


def test_the_white_box_says_whose_slope_it_took(ran: tuple[Run, dict[str, Any], Any, Path]) -> None:
    run, _, outputs, out = ran
    facts = {run.get(h).facts["detector"]: run.get(h).facts for h in outputs.white_box}
    assert {n: facts[n].get("slope") for n in NAMES} == {
        "contrast": "own",
        "roughness": "none",
        "guided": "surrogate",
        "NearestMean": "none",
        "FeatureSqueezing": "own",
        "Mahalanobis": None,  # ours
    }
    rows = {run.get(h).facts["detector"]: run.get(h) for h in outputs.white_box}

    def evaded(name: str) -> float:
        r = rows[name]
        return float(((r.column("score") <= r.facts["thresholds"]["0.05"]) & r.column("changed")).mean())

    assert evaded("guided") >= evaded("roughness")
    kinds = [s["facts"] for s in json.loads((out / "records.json").read_text())["sets"] if s["facts"]["kind"] == "white box"]
    assert sorted(f["detector"] for f in kinds) == sorted(NAMES)


def test_another_run_uses_what_is_stored_and_another_detector_does_not(ran: tuple[Run, dict[str, Any], Any, Path]) -> None:
    run, _, _, _ = ran
    later = Run(run.store.root)
    experiment, _ = prepare(later, config())
    for detector in experiment.config.detectors:
        trial = experiment.evaluated(detector, experiment.config.strict, TrainingSet((ATTACK,)), 0)
        assert later.done(trial.scored.scores) and later.done(trial.detector)
        rows, scores, _ = evidence_of(later, trial, 0)
        assert len(scores) == len(rows)
    other = ExternalDetector(lambda x: x.flatten(1).std(1) + 1, name="contrast")
    changed, _ = prepare(later, replace(config(), detectors=(other,)))
    assert not later.done(changed.evaluated(changed.config.detectors[0], changed.config.strict, TrainingSet((ATTACK,)), 0).detector)


def test_a_recipe_fuses_attacks_and_chooses_among_them_as_among_ours(tmp_path: Path) -> None:
    """The graph alone, nothing is trained."""

    def names(h: Any) -> str:
        return str(getattr(h.args["settings"], "name", type(h.args["settings"]).__name__))

    run = Run(tmp_path)
    small: dict[str, Any] = {
        "data": Digits(roles=FEW),
        "attacks": (ATTACK, DeepFool()),
        "white_box": replace(WHITE_BOX, images=20, table=20),
    }
    outputs = smoke(
        run,
        seeds=2,
        detector_train=80,
        validation=60,
        whitebox=True,
        detectors=(own_detectors.contrast, own_detectors.NearestMean()),
        **small,
    )
    every = run.order(list(outputs))
    fits = [names(h) for h in every if h.step is not None and h.step.name == "fit_detector"]
    assert fits.count("contrast") == fits.count("NearestMean") == fits.count("Margin"), "no seed moves it, so one fit for each training"
    fusions = {h.args.get("called", "all"): len(h.args["members"]) for h in every if h.step is not None and h.step.name == "fit_fusion"}
    assert fusions["all"] == 13 and fusions["without own"] == fusions["without mine"] == 12 and fusions["logits with mine"] == 4
    attacked = [h.args.get("detector") for h in every if h.step is not None and h.step.name == "attack_defended"]
    assert {"contrast", "NearestMean", "Margin"} <= {names(d) for d in attacked if d is not None and "settings" in d.args}
    by_name = smoke(
        run, seeds=2, detector_train=80, validation=60, whitebox=True, detectors="tests.own_detectors:contrast,mahalanobis", **small
    )
    fits = [names(h) for h in run.order(list(by_name)) if h.step is not None and h.step.name == "fit_detector"]
    assert fits.count("contrast") == fits.count("Mahalanobis") == fits.count("Margin")
    assert parameters(smoke, ["detectors=tests.own_detectors:contrast"]) == {"detectors": "tests.own_detectors:contrast"}
    for wrong, words in (
        ("mahalanob", "unknown detector 'mahalanob'; there are: spd"),
        ("tests.own_detectors:no", "cannot import detector"),
    ):
        with pytest.raises(UsageError, match=words):
            smoke(run, detectors=wrong)
    with pytest.raises(UsageError, match="two detectors are called Margin; give yours another name"):
        smoke(run, detectors=(ExternalDetector(own_detectors.contrast, name="Margin"),))


# --- in front of one's own classifier -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Tensor, Tensor]:
    """A classifier, and images that it was not trained on."""
    run = Run(tmp_path_factory.mktemp("given"))
    rows = run.get(run.dataset(Digits(roles=Roles(train=400, detector_train=500, validation=1, calibration=1, test=1))))
    x, y = torch.from_numpy(rows.column("image")).float() / 255, torch.from_numpy(rows.column("label"))
    first = torch.from_numpy(rows.column("role") == 0)
    net = CompactCNN(width=8, epochs=6).fit(x[first], y[first], Shape_of(x), seed=0)
    second = torch.nonzero(torch.from_numpy(rows.column("role") == 1)).flatten()[:400]
    return net, x[second], y[second]


def Shape_of(x: Tensor) -> Any:
    from salientry.types import Shape

    return Shape(x.shape[1], x.shape[2], x.shape[3], 10)


def fit(mine: tuple[nn.Module, Tensor, Tensor], detector: Any, **given: Any) -> Guard:
    with pytest.warns(UserWarning, match="calibration images"):
        return fit_guard(*mine, detector=detector, attacks=(ATTACK,), workers=1, progress=False, **given)


@pytest.mark.parametrize("detector", [own_detectors.roughness, own_detectors.NearestMean(), own_detectors.FeatureSqueezing()])
def test_a_guard_of_ones_own_detector_is_calibrated_saved_and_loaded(
    mine: tuple[nn.Module, Tensor, Tensor], tmp_path: Path, detector: Any
) -> None:
    guard = fit(mine, detector)
    x = mine[1][:50]
    verdict = guard(x)
    name = getattr(detector, "__name__", type(detector).__name__)
    assert guard.components == (getattr(detector, "description", name),)
    assert torch.equal(verdict.contributions[:, 0], verdict.score) and verdict.map is None
    assert float((guard(mine[1]).score > guard.threshold).float().mean()) < 0.12
    if detector is own_detectors.roughness:
        np.testing.assert_allclose(verdict.score.numpy(), own_detectors.roughness(x), rtol=1e-5)
        assert f"looks at: {name}\n" in guard.summary()
    guard.save(tmp_path)
    again = Guard.load(tmp_path, mine[0])
    assert torch.equal(again(x).score, verdict.score) and again.components == guard.components


def test_a_guard_whose_detector_is_not_to_be_found_asks_for_it(
    mine: tuple[nn.Module, Tensor, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scale = 2.0
    guard = fit(mine, lambda x: scale * x.mean((1, 2, 3)))
    guard.save(tmp_path)
    score = guard(mine[1][:5]).score
    monkeypatch.setattr("salientry.detectors.external._GIVEN", {})
    with pytest.raises(UsageError, match=r"it has no name to be found at: give it, as in Guard\.load"):
        Guard.load(tmp_path, mine[0])
    assert torch.equal(Guard.load(tmp_path, mine[0], detector=lambda x: 2.0 * x.mean((1, 2, 3)))(mine[1][:5]).score, score)
    with pytest.raises(UsageError, match="was fitted with another detector"):
        Guard.load(tmp_path, mine[0], detector=lambda x: 3.0 * x.mean((1, 2, 3)))


def test_what_cannot_be_written_down_fits_and_is_not_saved(mine: tuple[nn.Module, Tensor, Tensor], tmp_path: Path) -> None:
    class Holding:
        needs = frozenset({"logits"})

        def fit(self, evidence: Any, labels: Tensor, seed: int) -> None:
            self.handle, self.mean = object(), evidence.logits[labels == 0].mean(0)

        def score(self, evidence: Any) -> Tensor:
            apart: Tensor = (evidence.logits - self.mean).norm(dim=1)
            return apart

    guard = fit(mine, Holding())
    assert len(guard(mine[1][:5])) == 5
    with pytest.raises(UsageError, match="the detector Holding cannot be written down: state"):
        guard.save(tmp_path)


def test_the_best_of_ones_own_and_ours_is_chosen(mine: tuple[nn.Module, Tensor, Tensor]) -> None:
    guard = fit(mine, [own_detectors.NearestMean(), "margin"])
    assert [c["name"] for c in facts_of(guard.detector)["fit"]["candidates"]] == ["NearestMean", "Margin"]
    with pytest.raises(UsageError, match="each detector needs a name of its own; found Margin, Margin"):
        fit_guard(*mine, detector=["margin", "margin"])


def test_the_documented_detectors_do_what_is_said_of_them(
    mine: tuple[nn.Module, Tensor, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    text = (Path(__file__).parents[2] / "docs" / "guard.md").read_text()
    section = text[text.index("## Your own detector") :]
    (block,) = re.findall(r"```python\n(.*?)```", section, re.S)
    names = {"model": mine[0], "images": mine[1], "labels": mine[2], "fit_guard": partial(fit_guard, attacks=(ATTACK,))}
    with pytest.warns(UserWarning, match="calibration images"):
        exec(compile(block, "docs/guard.md", "exec"), names)
    said = capsys.readouterr().out
    assert "(of 3; found " in said
    tried = facts_of(names["guard"].detector)["fit"]["candidates"]  # type: ignore[attr-defined]
    assert [c["name"] for c in tried] == ["roughness", "NearestMean", "Margin"]


def test_the_command_line_checks_pictures_with_it_and_says_the_reason(
    mine: tuple[nn.Module, Tensor, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = fit(mine, ExternalDetector(own_detectors.roughness, description="the roughness of the pixels"))
    guard.save(tmp_path / "guard")
    save_classifier(mine[0], tmp_path / "net")
    loud = torch.zeros(28, 28)
    loud[::2] = 1
    Image.fromarray((loud * 255).to(torch.uint8).numpy()).save(tmp_path / "loud.png")
    command = ["check", str(tmp_path / "guard"), str(tmp_path / "loud.png"), "--classifier", str(tmp_path / "net")]
    found = CliRunner().invoke(app, [*command, "--detector", "tests.own_detectors:roughness"])
    assert found.exit_code == 1 and "FLAGGED" in found.output and "the roughness of the pixels" in found.output
    found = CliRunner().invoke(app, [*command, "--detector", "tests.own_detectors:contrast"])
    assert found.exit_code == 2 and "was fitted with another detector" in " ".join(found.output.split())
    monkeypatch.setattr("salientry.detectors.external._GIVEN", {})
    monkeypatch.delattr(own_detectors, "roughness")
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 2 and "import tests.own_detectors first" in " ".join(found.output.split())


def test_records_say_how_many_images_a_step_of_a_head_sees(tmp_path: Path) -> None:
    """Older ones say it in a label of the settings, and only where it is not the default."""
    run = Run(tmp_path)
    rows = run.dataset(Digits(roles=FEW))["train"]
    made = [run.do(fit_detector, rows, [rows], d, PUBLISHED) for d in (SMD(SmallCNN(batch=64)), SMD(PaperCNN()), Margin())]
    assert [said_of(run, h).get("batch") for h in made] == [64, 50, None]
    assert [_batch(label(h.args["settings"])) for h in made] == [64, 50, 100]
