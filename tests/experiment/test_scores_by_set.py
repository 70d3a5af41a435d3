"""Scores of a detector that asks the classifier again: a step an image set, put together to the same bits under the same key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from salientry.datasets import Arrays
from salientry.detectors import PASA, Margin
from salientry.evidence import Evidence
from salientry.experiment.cost import images_of, only_joins
from salientry.experiment.expected import expected
from salientry.experiment.image_sets import ImageSets
from salientry.experiment.outputs import Outputs
from salientry.experiment.reproduce import OverlayStore, compute_again, scored_detectors
from salientry.experiment.run import Run
from salientry.experiment.scoring import Scored, score
from salientry.experiment.steps import classify
from salientry.learned import fingerprint
from salientry.protocol import STRICT, EvaluationProtocol
from salientry.runner.step import Found, Handle
from salientry.types import Roles, Shape

from .. import examples

SHAPE = Shape(1, 8, 8, 4)
ROLES = Roles(train=0, detector_train=6, validation=30, calibration=400, test=620)  # batches of 250: 250 and 150, 250, 250 and 120
LEVEL = EvaluationProtocol("strict", bits=8, only_positives=True, levels=(0.25,))


class Asking(nn.Module):
    """Asks the classifier about a darker image; the score depends on who else is in the batch, and so do its last bits."""

    needs = frozenset({"logits", "classifier"})

    def forward(self, evidence: Evidence) -> Tensor:
        assert evidence.classifier is not None
        moved = (evidence.classifier(0.9 * evidence.image) - evidence.logits).abs().sum(1)
        return moved - moved.mean()


class Reading(Asking):
    """Reads what is stored."""

    needs = frozenset({"logits"})

    def forward(self, evidence: Evidence) -> Tensor:
        return -evidence.logits.amax(1)


def sets_of(folder: Path) -> tuple[ImageSets, Handle, list[Handle]]:
    run, net, count = Run(folder), examples.conv(SHAPE), sum((6, 30, 400, 620))
    images = (examples.images(SHAPE, count) * 255).round().to(torch.uint8).numpy()
    data = run.dataset(Arrays(images, np.arange(count) % 4, ROLES))
    f = run.given(net, fingerprint(net))
    natural = {role: run.do(classify, data[role], f) for role in ("detector_train", "validation", "calibration", "test")}
    return ImageSets(run, f, natural), run.given(Asking(), "asking"), [natural[r] for r in ("calibration", "validation", "test")]


def found_of(run: Run, h: Handle) -> Found:
    run.compute([h])
    found = run.get(h)
    assert isinstance(found, Found)
    return found


@pytest.mark.parametrize("way", ["plain", "protocol", "calibrated"])
def test_the_scores_are_those_of_one_step_to_the_last_bit_and_so_is_their_key(tmp_path: Path, way: str) -> None:
    beside: dict[str, Any] = {"protocol": LEVEL} if way == "protocol" else {}
    found = list[Found]()
    keys = list[Any]()
    for turn in ("one step", "a step each"):
        image_sets, detector, sets = sets_of(tmp_path / turn)
        run = image_sets.run
        if way == "calibrated":
            beside = {"calibrated": run.do(score, detector, sets[:1], protocol=LEVEL, classifier=image_sets.classifier)}
        if turn == "one step":
            h = run.do(score, detector, sets, classifier=image_sets.classifier, **beside)
        else:
            h = image_sets.scores(Asking, detector, sets, **beside)
            assert [p.step.name for p in h.args["scored"] if p.step] == ["score_images"] * 3
        found.append(found_of(run, h))
        keys.append((h.fingerprint, h.slug, h.step and h.step.name))
    one, each = found
    assert keys[0] == keys[1], "what a store holds of older versions stays what it is"
    assert list(one.arrays) == list(each.arrays) and set(one.arrays) == {f"any/{r}/natural" for r in ("calibration", "validation", "test")}
    assert (one.value is None) == (way != "protocol") and one.value == each.value
    for name, scores in one.arrays.items():
        assert scores.dtype == each.arrays[name].dtype == np.float32
        assert scores.tobytes() == each.arrays[name].tobytes(), name
    assert len(set(np.sign(one.arrays["any/test/natural"]))) > 1, "the mean of each batch was taken"


def test_a_step_by_itself_where_there_is_one_set_or_nobody_is_asked(tmp_path: Path) -> None:
    image_sets, detector, sets = sets_of(tmp_path)
    assert "sets" in image_sets.scores(Asking, detector, sets[:1]).args
    assert "sets" in image_sets.scores(Reading, detector, sets).args
    assert "sets" in image_sets.scores(Margin(), detector, sets).args
    assert "scored" in image_sets.scores(PASA(), detector, sets).args


def test_the_sets_wait_for_the_thresholds_and_not_for_each_other(tmp_path: Path) -> None:
    image_sets, detector, sets = sets_of(tmp_path)
    calibrated = image_sets.scores(Asking, detector, sets[:2], protocol=STRICT)
    tested = image_sets.scores(Asking, detector, sets, calibrated=calibrated)
    for h in tested.args["scored"]:
        assert calibrated in h.inputs
        assert not {p.fingerprint for p in tested.args["scored"]} & {u.fingerprint for u in image_sets.run.order(h.inputs)}
    other = image_sets.scores(Asking, detector, sets[:2], protocol=LEVEL)
    assert image_sets.scores(Asking, detector, sets, calibrated=other).fingerprint != tested.fingerprint


def test_who_reads_the_scores_needs_no_step_of_one_set(tmp_path: Path) -> None:
    image_sets, detector, sets = sets_of(tmp_path)
    run, h = image_sets.run, image_sets.scores(Asking, detector, sets)
    assert len(run.compute([h]).made) == 3 + 3 + 1 + 1, "data, answers, a step each, and together"
    for p in h.args["scored"]:
        body = run.record(p)
        assert body["images"] == images_of(p, ROLES) and body["operations"] > 0
        (run.path(p) / "DONE").unlink()
    assert run.missing([h]) == []


def test_the_time_is_expected_of_the_sets_and_not_twice(tmp_path: Path) -> None:
    image_sets, detector, sets = sets_of(tmp_path)
    one = image_sets.run.do(score, detector, sets, classifier=image_sets.classifier)
    joined = image_sets.scores(Asking, detector, sets)
    assert not only_joins(one) and only_joins(joined)
    (whole,) = expected([one], ROLES, 64, 0.01).values()
    parts = expected([*joined.args["scored"], joined], ROLES, 64, 0.01)
    assert parts[joined.fingerprint] == 0.05
    assert sum(parts.values()) == pytest.approx(whole + 3 * 0.05)
    assert [parts[p.fingerprint] - 0.05 for p in joined.args["scored"]] == pytest.approx([4.0, 0.3, 6.2])


def test_what_is_computed_again_is_every_set(tmp_path: Path) -> None:
    image_sets, detector, sets = sets_of(tmp_path / "store")
    run, h = image_sets.run, image_sets.scores(Asking, detector, sets)
    run.compute([h])
    heads = scored_detectors(Outputs(classifier=image_sets.classifier, scores=[Scored(detector, sets, h)]))
    again = Run(tmp_path / "store")
    compute_again(again, heads[detector.fingerprint], tmp_path / "again")
    assert isinstance(again.store, OverlayStore)
    assert {h.fingerprint for h in again.missing([h])} == {h.fingerprint, *(p.fingerprint for p in h.args["scored"])}
