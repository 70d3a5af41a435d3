"""What the white box asks of each data set, before anything is computed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from salientry.detectors import PASA, PUBLISHED_DETECTORS, CounterAttack, DeepKNN
from salientry.errors import UsageError
from salientry.experiment.run import Run
from salientry.recipes import fast
from salientry.recipes.whitebox import CONFIGS, whitebox
from salientry.runner.step import Handle
from tests.datasets import test_assira


def attacked(run: Run, dataset: str) -> list[Handle]:
    """Attacks on a detector at a calibrated threshold, not those of adversarial training."""
    found = [h for h in whitebox(run, dataset).white_box if h.step and h.step.name == "attack_defended"]
    return [h for h in found if "calibrated" in h.args]


def test_every_data_set_of_fast_has_one() -> None:
    assert set(fast.CONFIGS) < set(CONFIGS)


def test_mnist_is_attacked_at_the_budgets_of_its_black_background(tmp_path: Path) -> None:
    found = attacked(Run(tmp_path), "mnist")
    budgets = {h.args["attack"].eps for h in found if type(h.args["attack"]).__name__ == "Selective"}
    assert {0.05, 0.1, 0.2, 0.3} <= budgets
    assert len({h.args["detector"].fingerprint for h in found}) >= 13


@pytest.mark.parametrize("dataset", ["mnist", "digits"])
def test_on_a_black_background_attacks_start_again_and_their_proofs_are_of_them(tmp_path: Path, dataset: str) -> None:
    """Every attack that a table reports has its own binarization test, as many restarts and all."""
    handles = [h for h in whitebox(Run(tmp_path), dataset).white_box if h.step and "attack" in h.args]
    strong = {n: [h for h in handles if h.step and h.step.name == n] for n in ("attack_defended", "binarization", "planted_weaknesses")}
    kinds = ("Selective", "Orthogonal", "Joint")
    for kind in kinds:
        used = [h.args["attack"] for h in strong["attack_defended"] if type(h.args["attack"]).__name__ == kind and h.args.get("detector")]
        restarts = {a.eps: set[int]() for a in used}
        for a in used:
            restarts[a.eps].add(a.restarts)
        assert 5 in restarts[1.0]
        assert all(2 in restarts[eps] for eps in (0.05, 0.1, 0.2, 0.3))
        tested = [h.args["attack"] for h in strong["binarization"] if type(h.args["attack"]).__name__ == kind]
        published = 12 if dataset == "mnist" else 0  # deep kNN has no slope
        assert sum(a.restarts == 2 for a in tested) == 13 + published, "one for each detector"
    assert sorted(type(h.args["attack"]).__name__ for h in strong["planted_weaknesses"]) == sorted(kinds)


def test_pictures_are_attacked_at_the_paper_s_budget_and_four_detectors_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALIENTRY_DATA", str(tmp_path))
    test_assira.draw(tmp_path / "asirra")
    run = Run(tmp_path / "store")
    outputs = whitebox(run, "assira")
    kinds = {type(h.args["detector"].args["settings"]).__name__ for h in attacked(run, "assira")}
    cheap = {type(d).__name__ for d in PUBLISHED_DETECTORS.values()} - {"DeepKNN", "CounterAttack", "PASA"}
    assert kinds == {"IDPlus", "Margin", "SMD", "SPD", "Hardening"} | cheap
    names = [h.step.name for h in outputs.white_box if h.step]
    assert "planted_weaknesses" not in names
    assert "fit_fusion" not in {h.step.name for h in run.order(list(outputs)) if h.step}
    budgets = {h.args["attack"].eps for h in outputs.white_box if "attack" in h.args and h.args["attack"].eps is not None}
    assert budgets == {0.025, 1.0}, "and without one, as a proof"
    readings = {type(h.args["attack"]).__name__ for h in outputs.white_box if h.step and h.step.name == "passes"}
    assert readings == {"Alternating", "Simultaneous"}
    against = {str(h.args["against"]) for h in outputs.hardened}
    assert against == {"the paper's attack", "selective"}


def test_the_literatures_detectors_with_a_gradient_are_attacked_and_checked_at_a_bounded_cost(tmp_path: Path) -> None:
    run = Run(tmp_path)
    every = [h for h in whitebox(run, "cifar10").white_box if h.step and h.step.name in ("attack_defended", "binarization")]
    made = {s.detector.fingerprint for s in fast.fast(run, "cifar10").scores}
    for settings in fast.config("cifar10").published:
        mine = [h for h in every if "detector" in h.args and h.args["detector"].args.get("settings") == settings]
        if isinstance(settings, DeepKNN):
            assert not mine, "it counts: there is no slope to follow"
            continue
        costly = isinstance(settings, CounterAttack | PASA)
        assert {h.inputs[0].args["count"] for h in mine} == ({24} if costly else {64})
        tried = Counter((h.step.name, type(h.args["attack"]).__name__, h.args["attack"].eps) for h in mine if h.step)
        at = [("attack_defended", eps) for eps in ((8 / 255,) if costly else (2 / 255, 8 / 255)) + (1.0,)] + [("binarization", 8 / 255)]
        assert tried == {(step, kind, eps): 1 for kind in ("Selective", "Orthogonal", "Joint") for step, eps in at}
        known = {h.args["detector"].fingerprint for h in mine}
        assert len(known) == 1 and known <= made, "the one that fast trains"


def test_another_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown data set 'svhn'; there are: digits, mnist, cifar10, assira"):
        whitebox(Run(tmp_path), "svhn")
