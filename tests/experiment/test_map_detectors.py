"""JSD on each of its gradients, and SMD on each kind of map, through the ordinary steps: fitted, calibrated, scored."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from salientry import Guard, fit_guard
from salientry.attacks import FGSM
from salientry.classifiers import CompactCNN
from salientry.datasets import Arrays
from salientry.detectors import JSD, SMD
from salientry.detectors.jsd import PART
from salientry.errors import UsageError
from salientry.evidence import Evidence
from salientry.experiment.evaluation import TrainingSet, evaluate
from salientry.experiment.image_sets import EvidenceVariant, ImageSets
from salientry.experiment.run import Run
from salientry.experiment.sanity import sanity
from salientry.experiment.scoring import scores_of
from salientry.experiment.steps import classify, fit_saliency, train_classifier
from salientry.learned import frozen
from salientry.metrics import auroc
from salientry.protocol import STRICT as WHOLE
from salientry.saliency import Fill, OptimisedMask
from salientry.types import ROLES as ALL
from salientry.types import Roles, Shape

from .. import examples

ROLES = Roles(train=200, detector_train=80, validation=20, calibration=80, test=60)
STRICT = replace(WHOLE, levels=(0.05,))
ATTACK, TRAINING = FGSM(0.3), TrainingSet((FGSM(0.3),))
HEAD = replace(examples.HEAD, epochs=10, batch=16)
TESTED = "strict/test/FGSM-eps=0.3"


def squares(n: int) -> tuple[Any, Any]:
    """(n, 1, 12, 12) uint8 images with a bright square under faint noise; its quadrant is the label."""
    draws = np.random.default_rng(0)
    labels, images = np.arange(n) % 4, draws.integers(0, 40, (n, 1, 12, 12))
    for image, label in zip(images, labels, strict=True):
        row, column = 6 * (label // 2) + draws.integers(0, 3), 6 * (label % 2) + draws.integers(0, 3)
        image[0, row : row + 4, column : column + 4] = draws.integers(180, 256)
    return images.astype(np.uint8), labels


@pytest.fixture(scope="module")
def image_sets(tmp_path_factory: pytest.TempPathFactory) -> ImageSets:
    run = Run(tmp_path_factory.mktemp("store"))
    data = run.dataset(Arrays(*squares(440), ROLES))
    f = run.do(train_classifier, data["train"], CompactCNN(width=4, epochs=6, batch=20, shift=0))
    found = ImageSets(run, f, {role: run.do(classify, data[role], f) for role in ALL})
    there = run.get(found.attacked(ATTACK, "test", STRICT))
    assert there.column("right").mean() > 0.9 and there.column("evaluated").mean() > 0.5
    return found


def scored(image_sets: ImageSets, detector: Any, variant: EvidenceVariant) -> tuple[Any, Any, Any]:
    """A fitted detector; its scores of test naturals and of their adversarials that count."""
    tests = [image_sets.attacked(ATTACK, "test", STRICT)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 80 calibration images: it says so, rightly
        trial = evaluate(image_sets, detector, STRICT, TRAINING, tests, variant)
        found = image_sets.run.get(trial.scored.scores)
    counted = image_sets.run.get(tests[0]).column("evaluated")
    return image_sets.run.get(trial.detector), scores_of(found, "any/test/natural"), scores_of(found, TESTED)[counted]


def as_shown_anew(image_sets: ImageSets, fitted: Any, saliency: Any) -> Any:
    """Scores of the attacked test images that count, of evidence that is made from their pixels alone."""
    rows, classifier = image_sets.run.get(image_sets.attacked(ATTACK, "test", STRICT)), image_sets.run.get(image_sets.classifier)
    x = torch.from_numpy(rows.column("image")[rows.column("evaluated")]).float() / 255
    with frozen(fitted, classifier, saliency):
        return fitted(Evidence(classifier, saliency, x)).detach().numpy()


@pytest.mark.parametrize("target", PART)
def test_jsd_is_fitted_on_every_gradient(image_sets: ImageSets, target: Any) -> None:
    fitted, natural, attacked = scored(image_sets, JSD(target, HEAD), EvidenceVariant(None))
    assert auroc(natural, attacked) > 0.95, "the pixels alone give FGSM away"
    np.testing.assert_allclose(as_shown_anew(image_sets, fitted, None), attacked, atol=2e-3)
    rows = image_sets.run.get(image_sets.with_evidence(JSD(target), image_sets.natural["test"], "test", EvidenceVariant(None)))
    part = rows.column(PART[target])
    assert part.shape == (60, 4 if target == "full" else 1, 12, 12)
    assert np.abs(part).max() < 1e-5 if target == "prob" else np.abs(part).max() > 1e-2


MAPS = {name: settings for name, settings in examples.saliency().items() if name != "unet"}


@pytest.mark.parametrize("name", MAPS)
def test_smd_is_fitted_on_every_map_that_is_made_of_the_classifier(image_sets: ImageSets, name: str) -> None:
    run = image_sets.run
    s = run.do(fit_saliency, image_sets.natural["train"], image_sets.classifier, MAPS[name])
    fitted, natural, attacked = scored(image_sets, SMD(HEAD), EvidenceVariant(s))
    assert auroc(natural, attacked) > 0.75, "FGSM at .3 moves every kind of map"
    np.testing.assert_allclose(as_shown_anew(image_sets, fitted, run.get(s)), attacked, atol=2e-3)
    rows = run.get(image_sets.with_evidence(SMD(HEAD), image_sets.natural["test"], "test", EvidenceVariant(s)))
    drawn = rows.column("map")
    assert drawn.shape == (60, 1, 12, 12) and drawn.min() >= 0 and drawn.max() <= 1 and drawn.std() > 0.01


@pytest.mark.parametrize("within", [None, "class"])
def test_the_sanity_check_removes_with_the_papers_fill_where_maps_have_none_of_their_own(image_sets: ImageSets, within: Any) -> None:
    run, naturals, f = image_sets.run, image_sets.natural["test"], image_sets.classifier
    s = run.do(fit_saliency, image_sets.natural["train"], f, MAPS["guided"])
    found, told = (run.get(run.do(sanity, naturals, f, s, within=within, **fill)) for fill in ({}, {"fill": Fill("paper")}))
    for name in ("kept", "destroyed", "emptied", "area"):
        np.testing.assert_array_equal(found.column(name), told.column(name))
    assert found.facts["fill"] == told.facts["fill"]


@pytest.fixture(scope="module")
def own() -> tuple[nn.Module, Any, Any]:
    """A classifier, and naturals that it was not trained on."""
    images, y = (torch.from_numpy(v) for v in squares(700))
    x = images.float() / 255
    return CompactCNN(width=4, epochs=6, batch=20, shift=0).fit(x[:200], y[:200], Shape(1, 12, 12, 4), seed=0), x[200:], y[200:]


def guard_on(settings: Any, classifier: nn.Module, x: Any, y: Any) -> Guard:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        how: dict[str, Any] = {"detector": SMD(HEAD), "attacks": (ATTACK,), "level": 0.05, "on_failed_maps": "mark"}
        return fit_guard(classifier, x, y, saliency=settings, **how)


def test_a_guard_stands_on_optimised_masks_and_is_read_again(own: Any, tmp_path: Path) -> None:
    classifier, x, y = own
    guard = guard_on(OptimisedMask(steps=5, cell=4, removed="black"), classifier, x, y)
    moved = (x[:40] + 0.3 * (torch.rand(x[:40].shape, generator=torch.Generator().manual_seed(0)) - 0.5).sign()).clamp(0, 1)
    assert guard(moved).score.mean() > guard(x[:40]).score.mean()
    guard.save(tmp_path)
    torch.testing.assert_close(Guard.load(tmp_path, classifier)(moved).score, guard(moved).score)


def test_a_guard_whose_maps_are_made_of_a_strangers_network_is_not_saved_and_says_why(own: Any, tmp_path: Path) -> None:
    classifier, x, y = own
    guard = guard_on(MAPS["guided"], nn.Sequential(classifier), x, y)
    with pytest.raises(UsageError, match="cannot be saved: its maps are made of a classifier that is not built from settings of ours"):
        guard.save(tmp_path)
    assert not list(tmp_path.iterdir())
