"""The recipe at the paper's size: its settings are the paper's, and every part of it runs, small, on digits."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from salientry.attacks import BIM, FGSM, JSMA, MIM, CarliniWagner, DeepFool
from salientry.datasets import Digits
from salientry.errors import UsageError
from salientry.experiment.outputs import Outputs
from salientry.experiment.records import export
from salientry.experiment.run import Run
from salientry.keys import label
from salientry.paper_cnn import PaperCNN
from salientry.recipes.paper import CONFIGS, PARTS, SLICED, PaperConfig, build, paper
from salientry.recipes.paper_cost import Cost, multiplications
from salientry.report import collection, columns
from salientry.report.report import write
from salientry.results.joined import joined
from salientry.results.numbers import numbers
from salientry.results.scores import Scores
from salientry.saliency import Eq2, MarginLoss, SimpleClassifier, UNet
from salientry.saliency.paper_settings import PAPER_ASSIRA, PAPER_CIFAR10
from salientry.types import Roles, Shape

DATA = Path(os.environ.get("SALIENTRY_DATA") or "nowhere")
PICTURES = next((p for p in (DATA / "assira", DATA / "asirra") if p.is_dir()), DATA / "assira")
NEEDS_PICTURES = pytest.mark.skipif(not PICTURES.is_dir(), reason="SALIENTRY_DATA is not set, or there are no cats and dogs in it")
NET = PaperCNN(blocks=((1, 8, 3), (1, 8, 3)), dense=(16,), dropout=0.2, epochs=12, batch=20)
FAST = {
    "fgsm": FGSM(),
    "cw": CarliniWagner(search_steps=1, steps=30, lr=0.1, initial_const=10.0),
    "deepfool": DeepFool(steps=5),
    "deepfool2": DeepFool(steps=2),
}
UNET = UNet(SimpleClassifier(base=4, scales=1), Eq2())
TINY = PaperConfig(Digits(roles=Roles(400, 0, 50, 320, 60)), Shape(1, 8, 8, 10), NET, UNET, FAST)


@pytest.mark.parametrize(
    ("data", "eps", "step", "theta"), [("mnist", 0.15, 0.015, 0.05), ("cifar10", 0.15, 0.015, 0.05), ("assira", 0.025, 0.0025, 0.025)]
)
def test_attacks_are_those_of_figure_4(data: str, eps: float, step: float, theta: float) -> None:
    a = CONFIGS[data].attacks
    assert (a["bim"], a["mim"]) == (BIM(eps, step), MIM(eps, step)) and a["bim"].steps == a["mim"].steps == 10
    assert a["fgsm"] == FGSM(0.025 if data == "assira" else 0.2)
    assert a["cw"] == CarliniWagner(search_steps=3, steps=1000, lr=5e-3, initial_const=0.01, confidence=0.0)
    assert a["deepfool2"].steps == 2 and a["deepfool"].steps == 50
    assert a["jsma"] == JSMA(theta=theta)
    assert len(CONFIGS[data].grid) == 6, "six attacks; DeepFool once"


@pytest.mark.parametrize(("data", "images"), [("mnist", (60_000, 10_000)), ("cifar10", (50_000, 10_000)), ("assira", (2_370, 630))])
def test_the_split_is_the_papers(data: str, images: tuple[int, int]) -> None:
    roles = CONFIGS[data].data.roles
    assert (roles.train + roles.validation + roles.detector_train, roles.calibration + roles.test) == images


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("paper")


def run_of(store: Path, part: str, attack: str = "", folder: str = "", seed: int = 0, **also: Any) -> tuple[Run, Outputs, pd.DataFrame]:
    """A part, computed on what the parts before it left; its numbers."""
    run, out = Run(store / "store"), store / (folder or part)
    outputs = build(run, TINY, part, attack, 1, 60, 50, "margin", 0)
    about: dict[str, Any] = {"recipe": "paper", "parameters": {"part": part, "attack": attack} | also, "seed": seed, "numerics": "float32"}
    export(run, outputs, run.compute(outputs.read), out, about)
    return run, outputs, numbers(Scores.read(out))


def test_nets_are_trained_on_train_and_validation_together(store: Path) -> None:
    run, outputs, found = run_of(store, "nets")
    rows = run.get(outputs.classifier.args["rows"])
    assert len(rows) == 450 and len(np.unique(rows.ids)) == 450
    (natural,) = (h for h in outputs.sets if run.get(h).facts["role"] == "test")
    right = run.get(natural).column("label") == run.get(natural).column("predicted")
    accuracy = found[found["kind"] == "accuracy"]
    assert len(right) == 50 and accuracy["value"].tolist() == [pytest.approx(right.mean())]
    assert right.mean() > 0.5, "it has learnt"


def test_a_slice_of_one_attack_uses_the_nets_that_are_there(store: Path) -> None:
    run, outputs, found = run_of(store, "maps", "fgsm")
    assert {"train_classifier", "fit_encoder"} <= {h.step.name for h in run.order(outputs.read) if h.step}
    made = run.compute(build(run, TINY, "maps", "fgsm, deepfool", 1, 60, 50, "margin", 0).read).made
    steps = [h.step.name for h, _ in made if h.step]
    assert not {"train_classifier", "fit_encoder", "sanity"} & set(steps)
    assert [h.slug for h, _ in made if h.step and h.step.name == "attack_images"] == ["DeepFool-steps=5"]
    assert found[found["measure"] == "linf"].set_index("attack")["value"].to_dict() == {"FGSM": pytest.approx(0.2, abs=1e-6)}


def test_the_classifier_is_attacked_without_a_saliency_model(store: Path) -> None:
    run, outputs, found = run_of(store, "attacks")
    steps = {h.step.name for h in run.order(outputs.read) if h.step}
    assert "attack_images" in steps and not {"fit_encoder", "fit_saliency", "draw"} & steps
    assert (found["kind"] == "accuracy").sum() == 1
    assert set(found[found["measure"] == "linf"]["attack"]) == {label(a) for a in FAST.values()}


def test_slices_of_one_part_fill_one_column_of_the_papers_tables(store: Path) -> None:
    """Each number from its own run; what no slice holds is not run; a slice of another seed is no part of the column."""
    for attack in ("fgsm,deepfool", "cw"):
        run_of(store, "attacks", attack, f"slices/{attack}")
    run_of(store, "attacks", "cw", "slices/later", seed=1)
    found = columns.read(store / "slices")
    (column,) = (c for c in found.columns if c.run)
    assert {m.name for m in column.runs} == {"fgsm,deepfool", "cw"} and [m.name for m in found.others] == ["later"]
    names = {"FGSM": "fgsm,deepfool", "DF": "fgsm,deepfool", "C&W": "cw", "BIM": None, "MIM": None, "JSMA": None}
    ours = {words: row for words, row, _ in collection.source(column).accuracies()}
    assert {words: row and row["run"] for words, row in ours.items() if words != "natural"} == names
    alone = {m.name: {r["id"]: r["value"] for r in m.rows} for m in column.runs}
    assert all(row["value"] == alone[row["run"]][row["id"]] for row in ours.values() if row)
    maps = {loss: run_of(store, "maps", "fgsm", f"maps/{loss}", loss=loss) and store / "maps" / loss for loss in ("margin", "eq2")}
    first, second = (columns._member(folder) for folder in maps.values())
    attacks = columns._member(store / "slices" / "cw")
    assert columns._parts_of_one(attacks, first) and not columns._parts_of_one(first, second), "maps of two losses are two runs"
    page = collection.page(found)
    first = page.split('<details class="part">')[0]
    assert "Classifier accuracy" in first and "No detector" in first and "none (" not in first.lower()
    table = page[page.index('id="table2"') :].split("</table>")[0]
    assert {of for of in names.values() if of} == set(re.findall(r'data-of="([^"]+)"', table))


def test_claims_of_a_column_are_judged_on_all_its_runs_together(store: Path) -> None:
    """Slices of the grid, joined, give the numbers of one run of both, and what neither could answer alone."""
    for name, attack in (("one", "fgsm"), ("two", "deepfool"), ("whole", "fgsm,deepfool")):
        run_of(store, "grid", attack, f"grids/{name}")
    one, two, whole = (Scores.read(store / "grids" / name) for name in ("one", "two", "whole"))
    both, apart = joined([one, two])
    assert apart == []
    first, second, together, expected = (numbers(s).set_index("id")["value"].to_dict() for s in (one, two, both, whole))
    assert together.keys() == expected.keys() > first.keys() | second.keys(), "claims that neither answers alone"
    assert first.keys() ^ second.keys(), "each holds what the other lacks"
    assert all(together[k] == pytest.approx(v, nan_ok=True) for k, v in expected.items())
    assert {g.trained_on for g in both.trained} > {g.trained_on for g in one.trained} == {"FGSM"}, "the first run is as it was"
    two.classifier = "another"
    alone, left = joined([one, two])
    assert alone is one and left == [(two, "of another classifier")]


def test_the_saliency_model_is_the_papers_settings() -> None:
    assert CONFIGS["cifar10"].saliency("eq2") == PAPER_CIFAR10 and CONFIGS["assira"].unet == PAPER_ASSIRA
    assert CONFIGS["cifar10"].saliency("margin").loss == MarginLoss()
    assert CONFIGS["assira"].saliency("margin", 32).encoder.base == 32 and CONFIGS["assira"].saliency().encoder.base == 64


def test_every_detector_has_the_classifiers_architecture_and_is_tested_on_every_attack(store: Path) -> None:
    run, outputs, found = run_of(store, "grid", "fgsm")
    detectors = {s.detector.fingerprint: run.get(s.detector) for s in outputs.scores}
    assert sorted(type(d.settings).__name__ for d in detectors.values()) == ["ID", "JSD", "Margin", "Margin2", "SMD", "SPD"]
    assert all(d.settings.head == NET for d in detectors.values() if hasattr(d.settings, "head"))
    balanced = found[(found["kind"] == "detection") & (found["measure"] == "accuracy")]
    assert set(zip(balanced["detector"], balanced["tested_on"], strict=True)) >= {
        (d, a) for d in ("ID", "JSD", "SMD", "SPD", "Margin2") for a in ("FGSM", "DeepFool-steps=5")
    }


def test_the_combined_detectors_meet_all_attacks(store: Path) -> None:
    run, outputs, _ = run_of(store, "combined")
    facts = [run.get(s.detector).facts for s in outputs.scores]
    assert {tuple(f["of"]) for f in facts} == {tuple(label(a) for a in TINY.grid)}
    both = {f["scheme"] for f in facts if f["detector"] == "SPD"}
    assert len(both) == 2, "each natural meets one attack, and, beside it, all adversarials of all attacks"


@pytest.mark.filterwarnings("ignore:320 calibration images")
def test_confidence_is_asked_with_a_threshold_from_images_that_give_no_numbers(store: Path) -> None:
    run, outputs, _ = run_of(store, "confidence")
    ids = {run.get(h).facts["role"]: set(run.get(h).ids) for h in outputs.sets}
    assert not ids["test"] & ids["calibration"] and len(ids["calibration"]) == 320
    found = run.get(outputs.confidence[0])
    assert [c["confidence"] for c in found["confidences"]] == [0, 1, 3, 10, 20]
    assert set(found["worst"]) == {"Margin", "SMD", "SecondNet"}


@pytest.mark.parametrize("part", PARTS)
def test_every_part_has_a_page(store: Path, part: str) -> None:
    if not (store / part).exists():  # the tests above leave most of them
        run_of(store, part, "fgsm" if part in SLICED else "")
    write(store / part)
    page = (store / part / "report.html").read_text()
    assert "Traceback" not in page and len(page) > 5000


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"dataset": "svhn"}, "unknown data set 'svhn'"),
        ({"part": "all"}, "unknown part 'all'"),
        ({"part": "attacks", "attack": "pgd"}, "unknown attack 'pgd'"),
        ({"part": "attacks", "attack": "fgsm,pgd"}, "unknown attack 'pgd'"),
        ({"part": "nets", "attack": "fgsm"}, "no slice of one attack"),
        ({"loss": "tv"}, "unknown loss 'tv'"),
        ({"inputs": "raw"}, "unknown kind of inputs 'raw'"),
        ({"pairs": 50_001}, "pairs must lie in"),
        ({"seeds": 0}, "seeds must be 1 or more"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, given: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        paper(Run(tmp_path), **given)


@pytest.mark.parametrize(("given", "centred"), [({}, True), ({"inputs": "centred"}, True), ({"inputs": "unit"}, False)])
def test_classifier_and_heads_see_centred_images_unless_asked(tmp_path: Path, given: dict[str, Any], centred: bool) -> None:
    run = Run(tmp_path)
    outputs = paper(run, "cifar10", "attacks", "fgsm", test=50, **given)
    assert outputs.classifier.args["settings"] == PaperCNN(centred=centred)


def test_parts_are_named_in_the_recipes_words() -> None:
    assert all(f"``{part}``" in (paper.__doc__ or "") for part in PARTS)


@pytest.mark.parametrize(
    ("data", "millions", "steps"),
    [("mnist", 1134.6, 12_000), ("cifar10", 94.5, 10_000), pytest.param("assira", 2571.5, 480, marks=[pytest.mark.data, NEEDS_PICTURES])],
)
def test_what_training_a_classifier_costs_is_its_multiplications(tmp_path: Path, data: str, millions: float, steps: int) -> None:
    """Three passes of each image of each epoch; one multiplication counted as one second."""
    config = CONFIGS[data]
    run = Run(tmp_path)
    outputs = build(run, config, "nets", "", 1, 0, 0, "margin", 32)
    with torch.device("meta"):
        net = config.net.layers((config.shape.channels, config.shape.height, config.shape.width), config.shape.classes)
        assert multiplications(net, torch.zeros(1, config.shape.channels, config.shape.height, config.shape.width)) / 1e6 == pytest.approx(
            millions, abs=0.05
        )
    cost = Cost(config.data.roles, millions * 1e6, 1.0, 1.0, 1.0)
    images = config.data.roles.train + config.data.roles.validation
    assert cost.work(outputs.classifier) == pytest.approx(3 * millions * 1e6 * 10 * images)
    assert -(-images // config.net.batch) * 10 == steps
    assert cost.count(outputs.sets[0]) == min(500, images)


def test_a_plan_tells_every_steps_seconds_before_anything_is_computed(tmp_path: Path) -> None:
    run = Run(tmp_path)
    outputs = build(run, TINY, "grid", "", 1, 60, 50, "margin", 0)
    todo = run.missing(outputs.read)
    assert outputs.expected is not None
    found = outputs.expected(todo)
    assert set(found) == {h.fingerprint for h in todo} and all(s >= 0 for s in found.values())
    assert not list(tmp_path.glob("*/*/DONE"))
    trained = {h.step.name: found[h.fingerprint] for h in todo if h.step and h.step.name in ("train_classifier", "look")}
    assert trained["train_classifier"] > trained["look"] > 0
