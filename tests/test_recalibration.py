"""The same guard with another threshold: the rule is that of the fit, everything else stays, and its card says it."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

import salientry
from salientry.calibration import allowed, pac_threshold
from salientry.classifiers import CompactCNN, save_classifier
from salientry.cli import app
from salientry.detectors import Margin
from salientry.errors import UsageError
from salientry.evidence import Evidence
from salientry.guard import Guard
from salientry.learned import facts_of, with_facts
from salientry.rates import rate, share
from salientry.types import Shape

from . import examples
from .examples import ViewPairs
from .test_guard_card import FACTS

SHAPE = Shape(3, 12, 12, 5)
NEW = (examples.images(SHAPE, 200, seed=8) * 0.6 * 255).round() / 255  # darker than those that it was calibrated on

FEW = "{} calibration images cannot guarantee a false-positive rate of 5 % with 95 % confidence; 59 can"
pytestmark = pytest.mark.filterwarnings("ignore:.*calibration images for a false-positive rate")


def made(fit: Any = None) -> Guard:
    classifier = CompactCNN(width=4).build(SHAPE).eval()
    natural, adversarial = examples.natural_and_adversarial(Margin(), 64)
    detector = examples.fitted(Margin(), ViewPairs.of(Margin(), natural, adversarial))
    with torch.no_grad():
        scores = detector(Evidence(classifier, None, examples.images(SHAPE, 100, seed=5)))
    detector = with_facts(detector, fit=copy.deepcopy(fit)) if fit is not None else detector
    return Guard(classifier, None, detector, pac_threshold(scores.numpy(), 0.05), 0.05, scores, SHAPE)


@pytest.mark.parametrize("level", [None, 0.1])
def test_the_threshold_is_that_of_the_rule_on_the_new_images(level: float | None) -> None:
    guard = made()
    before = guard(NEW)
    new = salientry.recalibrate(guard, NEW, level=level)
    assert new.level == (level or 0.05)
    assert new.threshold == pac_threshold(before.score.numpy(), new.level) != guard.threshold
    after = new(NEW)
    assert torch.equal(after.score, before.score) and torch.equal(after.predicted, before.predicted)
    assert int(after.flagged.sum()) <= allowed(200, new.level)
    assert torch.equal(new.calibration, before.score.sort().values)


def test_the_guard_that_was_given_stays_as_it_is() -> None:
    guard = made(FACTS)
    before = guard(NEW)
    new = salientry.recalibrate(guard, (NEW * 255).to(torch.uint8).numpy())
    assert torch.equal(guard(NEW).flagged, before.flagged) and "recalibrated" not in facts_of(guard.detector)["fit"]
    assert new.classifier is guard.classifier and torch.equal(new(NEW).score, before.score)


@pytest.mark.parametrize("fit", [None, FACTS], ids=["made by hand", "fitted"])
def test_its_card_and_its_summary_say_what_changed(fit: Any) -> None:
    guard = made(fit)
    assert guard.card()["recalibrated"] is None
    new = salientry.recalibrate(guard, NEW, level=0.1)
    found = new.card()["recalibrated"]
    assert found["threshold"] == [guard.threshold, new.threshold] and found["level"] == [0.05, 0.1] and found["calibration"] == [100, 200]
    assert found["flagged"] == [int(guard(NEW).flagged.sum()), int(new(NEW).flagged.sum())]
    words = f"ecalibrated on 200 images: threshold {guard.threshold:.4g} before, {new.threshold:.4g} now; level 5 % before, 10 % now"
    text = new.report(None) + " " + salientry_card(new)
    assert text.count(words) == 2
    assert f"measured at the threshold {guard.threshold:.4g}." in text
    assert ("measured at the threshold" in new.summary()) == (fit is not None)
    again = salientry.recalibrate(new, NEW)
    assert again.card()["recalibrated"]["measured_at"] == guard.threshold
    assert again.card()["recalibrated"]["threshold"] == [new.threshold, new.threshold]


def salientry_card(guard: Guard) -> str:
    from salientry.guard_card import card_text

    return card_text(guard.card())


def test_a_promise_of_right_answers_takes_those_alone() -> None:
    guard = made(FACTS | {"promise": "correct"})
    verdict = guard(NEW)
    labels = torch.where(torch.arange(200) % 2 == 0, verdict.predicted, (verdict.predicted + 1) % 5)
    new = salientry.recalibrate(guard, NEW, labels)
    assert torch.equal(new.calibration, verdict.score[::2].sort().values)
    with pytest.raises(UsageError, match="give labels with the images"):
        salientry.recalibrate(guard, NEW)
    with pytest.raises(UsageError, match=FEW.format(50)):
        salientry.recalibrate(guard, NEW[:100], labels[:100])


@pytest.mark.parametrize(
    ("images", "level", "words"),
    [
        (NEW[:58], None, FEW.format(58)),
        (NEW, 0.01, "200 calibration images cannot guarantee a false-positive rate of 1 % with 95 % confidence; 299 can"),
        (NEW, 1.5, "strictly between 0 and 1; found 1.5"),
        (NEW[:, :1], None, r"must have \(C, H, W\) = \(3, 12, 12\); found \(1, 12, 12\)"),
        ("pictures/", None, r"images must be a tensor of shape \(N, C, H, W\); found str"),
        (NEW * 255, None, "divide by 255"),
    ],
)
def test_what_will_not_do_is_refused(images: Any, level: float | None, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        salientry.recalibrate(made(), images, level=level)


def test_the_code_on_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Its Python in order, with a guard and images in the reader's place."""
    names: dict[str, Any] = {"guard": made(), "new_images": NEW}
    blocks = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[1] / "docs" / "drift.md").read_text(), re.S)
    for block in blocks:
        exec(block, names)
    assert len(blocks) == 2 and "'seen': 200" in capsys.readouterr().out and len(names["report"]) == 200


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Guard]:
    guard = made(FACTS)
    guard.save(tmp_path / "guard", classifier_at="classifier")
    save_classifier(guard.classifier, tmp_path / "guard" / "classifier")
    guard.report(tmp_path / "guard", ("cat", "dog", "owl", "fox", "hen"), f"salientry check {tmp_path / 'guard'} PICTURE...")
    return tmp_path / "guard", guard


def written(folder: Path, images: Tensor) -> Path:
    for i, x in enumerate((images * 255).round().to(torch.uint8).numpy()):
        path = folder / f"day {i % 3}" / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x.transpose(1, 2, 0)).save(path)
    return folder


@pytest.mark.parametrize("kind", ["folder", "npz"])
def test_the_command_writes_a_guard_that_can_be_used(saved: tuple[Path, Guard], tmp_path: Path, kind: str) -> None:
    folder, guard = saved
    images = tmp_path / ("new.npz" if kind == "npz" else "new")
    if kind == "npz":
        np.savez(images, images=(NEW * 255).round().to(torch.uint8).numpy())
    else:
        written(images, NEW)
    done = CliRunner().invoke(app, ["recalibrate", str(folder), str(images), "--out", str(tmp_path / "again")])
    assert done.exit_code == 0, done.output
    expected = salientry.recalibrate(guard, NEW)
    new = Guard.load(tmp_path / "again", guard.classifier)
    assert new.threshold == pytest.approx(expected.threshold, abs=1e-5)
    before = int(guard(NEW).flagged.sum())
    assert f"flagged before: {rate(share(before, 200))} above {guard.threshold:.4g}" in done.stdout
    assert "promise: with 95 % confidence at most 5 % of ordinary images are flagged, if they are like the 200" in done.stdout
    card = (tmp_path / "again" / "card.md").read_text()
    assert "Recalibrated on 200 images" in card and str(tmp_path / "again") in card and "class 1" not in card
    picture = str(written(tmp_path / "one", NEW[:1]) / "day 0" / "000.png")
    assert CliRunner().invoke(app, ["check", str(tmp_path / "again"), picture]).exit_code in (0, 1)


def test_the_command_refuses_in_one_line(saved: tuple[Path, Guard], tmp_path: Path) -> None:
    folder, out = str(saved[0]), str(tmp_path / "again")
    few, empty = str(written(tmp_path / "few", NEW[:30])), tmp_path / "empty"
    empty.mkdir()
    for words, code, text in (
        ([folder, few, "--out", folder], 2, "is the guard's own folder"),
        (
            [folder, few, "--out", out],
            2,
            FEW.format(30),
        ),
        ([folder, str(empty), "--out", out], 3, "there are no pictures in"),
        ([folder, str(tmp_path / "none"), "--out", out], 3, "no images at"),
        ([few, few, "--out", out], 2, "no guard in"),
        ([folder, few, "--out", few], 2, "lies in"),
    ):
        done = CliRunner().invoke(app, ["recalibrate", *words])
        assert done.exit_code == code and text in done.output and len(done.output.splitlines()) == 1, done.output
    assert not Path(out).exists()
