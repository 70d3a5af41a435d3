"""The fusion and the choice: what they read, and what they must not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from salientry.batches import DEVICE
from salientry.detectors import SmallCNN
from salientry.errors import UsageError
from salientry.evidence import Evidence
from salientry.experiment import fusion
from salientry.experiment.choice import select_names
from salientry.experiment.fusion import choose_detector, choose_recipe, fit_fusion, fold_of, unseen_rates
from salientry.experiment.run import Run
from salientry.experiment.scoring import score
from salientry.learned import with_facts
from salientry.protocol import STRICT
from salientry.rows import Rows
from salientry.runner.step import Chosen, Found, step

N, MEMBERS = 300, 3
ATTACKS = ["A", "B", "C"]
NAMES = select_names(ATTACKS)
SETS = ["any/validation/natural", *(f"strict/validation/{a}" for a in ATTACKS)]
IDS = np.array([f"{(i * 2654435761) % 2**32:08x}{i:08x}" for i in range(N)])
NATURAL = Rows(IDS, {}, {})


def attacked(seed: int = 0) -> list[Rows]:
    draws = np.random.default_rng(seed)
    return [Rows(IDS, {"evaluated": draws.random(N) < 0.8}, facts(a)) for a in ATTACKS]


def facts(attack: str) -> dict[str, str]:
    return {"attack": attack, "role": "validation", "protocol": "strict"}


def arrays(seed: int = 0) -> list[dict[str, Any]]:
    """Scores by each member: naturals around 0, attacks above; the second member is the best."""
    draws = np.random.default_rng(seed)
    return [{s: (draws.normal(size=N) + (i > 0) * gain).astype(np.float32) for i, s in enumerate(SETS)} for gain in (0.5, 2.0, 0.0)]


def scored(values: list[dict[str, Any]]) -> list[Found]:
    return [Found(None, v) for v in values]


def members(count: int = MEMBERS) -> list[nn.Module]:
    return [with_facts(nn.Identity(), detector=f"M{i}", trained_on="combined", of=ATTACKS) for i in range(count)]


def fitted(values: list[dict[str, Any]]) -> Any:
    return fit_fusion.function(scored(values), members(), NAMES, attacked(), STRICT, seed=0)


def test_it_is_fitted_on_select_rows_that_count_each_of_the_attack_of_its_turn_and_on_nothing_else() -> None:
    values, mixture = arrays(), np.arange(N) % 3
    plain = fitted(values)
    poisoned = []
    for v in values:
        own = {"any/calibration/natural": np.full(9, np.nan, np.float32)} | {k: a.copy() for k, a in v.items()}
        own |= dict.fromkeys(("strict/test/A", "published/validation/A"), np.full(N, np.nan, np.float32))
        for k, rows in enumerate(attacked()):
            own[SETS[k + 1]][(mixture != k) | ~rows.column("evaluated")] = np.nan
        counted = np.choose(mixture, [r.column("evaluated") for r in attacked()])
        own[SETS[0]][~counted] = np.nan
        poisoned.append(own)
    again = fitted(poisoned)
    for k, v in plain.head.state_dict().items():
        assert v.isfinite().all()
        assert torch.equal(again.head.state_dict()[k], v), k
    facts = vars(plain)["facts"]
    assert facts["pairs"] == int(counted.sum())
    assert facts["members"] == ["M0", "M1", "M2"]
    assert facts["weights"][1] == max(facts["weights"])
    assert min(facts["weights"]) > 0


class Pixel(nn.Module):
    """Reads one pixel."""

    needs = frozenset[str]()

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def forward(self, seen: Evidence) -> Tensor:
        return seen.image.flatten(1)[:, self.at] * (self.at + 1)


def test_scores_from_stored_scores_are_those_of_the_module_on_the_evidence() -> None:
    pixels = [with_facts(Pixel(i), detector=f"M{i}", trained_on="combined", of=ATTACKS) for i in range(MEMBERS)]
    fused = fit_fusion.function(scored(arrays()), pixels, NAMES, attacked(), STRICT, seed=0)
    images = [torch.rand(70, 1, 1, MEMBERS, generator=torch.Generator().manual_seed(i)) * 4 for i in range(2)]
    with torch.no_grad():
        direct = [fused(Evidence(None, None, x)).numpy() for x in images]
        names = ["any/calibration/natural", "strict/validation/B"]
        by = [{n: p(Evidence(None, None, x)).numpy() for n, x in zip(names, images, strict=True)} for p in pixels]
    with pytest.warns(UserWarning, match="70 calibration images"):
        found = score.function(fused, parts=scored(by), protocol=replace(STRICT, levels=(0.05,)))
    some = score.function(fused, [Rows(IDS[:70], {}, facts("B"))], scored(by), calibrated=found)
    assert list(found.arrays) == names and list(some.arrays) == names[1:]
    for name, expected in zip(names, direct, strict=True):
        np.testing.assert_allclose(found.arrays[name], expected, atol=1e-5)
    np.testing.assert_allclose(some.arrays[names[1]], direct[1], atol=1e-5)
    assert set(found.value) == {"own", "0.05"}
    assert (found.arrays[names[0]] > found.value["0.05"]).mean() <= 0.05
    with pytest.raises(
        UsageError, match="there are no scores of strict/validation/C; there are: any/calibration/natural, strict/validation/B"
    ):
        score.function(fused, [Rows(IDS[:70], {}, facts("C"))], scored(by))


def test_scores_are_put_where_the_members_are() -> None:
    """A fit takes its parts along to where its pairs are: it must not drag the members off their device."""
    token = DEVICE.set("meta")
    try:
        pairs = fusion._pairs(scored(arrays()), attacked(), True)
    finally:
        DEVICE.reset(token)
    assert (pairs.natural.device.type, pairs.adversarial.device.type) == ("meta", "meta")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")
def test_a_fusion_on_a_device_leaves_its_members_there() -> None:
    token = DEVICE.set("cuda")
    try:
        nets = [with_facts(nn.Linear(2, 2).cuda(), detector=f"M{i}", trained_on="combined", of=ATTACKS) for i in range(MEMBERS)]
        fused = fit_fusion.function(scored(arrays()), nets, NAMES, attacked(), STRICT, seed=0)
        assert {p.device.type for p in fused.parameters()} == {p.device.type for n in nets for p in n.parameters()} == {"cuda"}
        score.function(fused, parts=scored(arrays()))
        unseen_rates.function(NATURAL, attacked()[2], attacked()[:2], scored(arrays()), NAMES, ["M0", "M1", "M2"], 0.05)
    finally:
        DEVICE.reset(token)


def test_folds_go_by_the_image() -> None:
    folds = fold_of(IDS)
    assert set(folds) == set(range(5))
    assert np.bincount(folds).min() > N / 10
    order = np.random.default_rng(0).permutation(N)
    assert (fold_of(IDS[order]) == folds[order]).all()
    assert (folds == [int(i[:8], 16) % 5 for i in IDS]).all()


@pytest.mark.parametrize("unseen", ["A", "C"])
def test_no_image_has_a_say_in_the_fusion_that_scores_it(unseen: str) -> None:
    """All other images of a fold are changed, naturals and twins: the score stays; those of other folds do not."""
    values, folds = arrays(), fold_of(IDS)
    seen = [r for r in attacked() if r.facts["attack"] != unseen]
    tried = Rows(IDS, {}, facts(unseen))
    before = fusion._out_of_fold(scored(values), seen, NATURAL, tried)
    assert all(np.isfinite(b).all() for b in before)
    for fold in (0, 3):
        kept = np.flatnonzero(folds == fold)[4]
        others = (folds == fold) & (np.arange(N) != kept)
        changed = [{k: np.where(others, 7 - 3 * a, a).astype(np.float32) for k, a in v.items()} for v in values]
        after = fusion._out_of_fold(scored(changed), seen, NATURAL, tried)
        for a, b in zip(after, before, strict=True):
            assert a[kept] == b[kept]
            assert (a[folds != fold] != b[folds != fold]).all(), "and here they were read"


@pytest.mark.parametrize("level", [0.05, 0.01, 0.2])
def test_rates_are_above_a_threshold_that_few_select_naturals_exceed(level: float) -> None:
    values, (seen, unseen) = arrays(), (attacked()[:2], attacked()[2])
    called = ["M0", "M1", "M2"]
    found = unseen_rates.function(NATURAL, unseen, seen, scored(values), NAMES, called, level)
    assert list(found) == [*called, "Fused"]
    counts = unseen.column("evaluated")
    for c, v in zip(called, values, strict=True):
        natural, there = v[SETS[0]], v[SETS[3]][counts]
        allowed = [t for t in natural if (natural > t).mean() <= level]  # the least strict of all thresholds that guarantee the level
        assert found[c] == pytest.approx((there > min(allowed)).mean())
    natural, there = fusion._out_of_fold(scored(values), seen, NATURAL, unseen)
    threshold = fusion._threshold(natural, level)
    assert (natural > threshold).mean() <= level
    assert (natural >= threshold).mean() > level - 1 / N
    assert found["Fused"] == pytest.approx((there[counts] > threshold).mean())
    assert found["M1"] > found["M0"] > found["M2"] - 0.1


def test_an_unseen_attack_of_which_nothing_counts_is_an_error() -> None:
    nothing = Rows(IDS, {"evaluated": np.zeros(N, bool)}, facts("C"))
    with pytest.raises(UsageError, match="none of the 300 validation images of C can be used under this protocol"):
        unseen_rates.function(NATURAL, nothing, attacked()[:2], scored(arrays()), NAMES, ["M0", "M1", "M2"], 0.05)


def test_an_unseen_attack_is_not_read_by_the_fusion_that_is_tried_on_it() -> None:
    values = arrays()
    before = fusion._out_of_fold(scored(values), attacked()[:2], NATURAL, attacked()[2])
    changed = [v | {SETS[3]: v[SETS[3]] + 5} for v in values]
    after = fusion._out_of_fold(scored(changed), attacked()[:2], NATURAL, attacked()[2])
    np.testing.assert_array_equal(after[0], before[0])
    assert (after[1] > before[1]).all()


def test_the_best_worst_case_is_chosen_and_of_equals_the_first() -> None:
    rates = [{"a": 0.99, "b": 0.5, "c": 0.6, "Fused": 0.6}, {"a": 0.1, "b": 0.4, "c": 0.45, "Fused": 0.45}]
    nets = members(4)
    found = choose_detector.function(nets, list(rates[0]), rates, ["X", "Y"])
    assert (found.argument, found.index, found.failed) == ("candidates", 2, None)
    assert found.why["chosen"] == "c"
    assert found.why["worst"] == {"a": 0.1, "b": 0.4, "c": 0.45, "Fused": 0.45}
    assert found.why["rates"]["b"] == {"X": 0.5, "Y": 0.4}
    better = choose_detector.function(nets, list(rates[0]), [rates[0], rates[1] | {"Fused": 0.46}], ["X", "Y"])
    assert (better.index, better.why["chosen"]) == (3, "Fused")


def test_the_recipe_with_the_best_mean_auroc_on_select_pairs_is_chosen() -> None:
    """Two recipes, two attacks: the first is better on the first attack alone, the second on average; images that do not count are not
    read.
    """
    n = 40
    natural = np.zeros(n + 10)  # more naturals than attacked ones
    counts = np.arange(n) < 30
    rows = [Rows(np.array([f"{i:016x}" for i in range(n)]), {"evaluated": counts}, facts(a)) for a in "AB"]
    names = ["select/natural", "select/A", "select/B"]

    def scored(own: str, share: float) -> Found:
        there = np.where(np.arange(n) < share * 30, 1.0, -1.0)
        there[30:] = 5.0
        wrong = np.full(n, -9.0)  # on the attack that this detector was not trained on
        return Found(None, {SETS[0]: natural, SETS[1]: there if own == "A" else wrong, SETS[2]: there if own == "B" else wrong})

    candidates = [SmallCNN(width=1), SmallCNN(width=2)]
    chosen = choose_recipe.function(candidates, rows, [scored("A", 1.0), scored("B", 0.2), scored("A", 0.9), scored("B", 0.6)], names)
    assert (chosen.argument, chosen.index, chosen.failed) == ("candidates", 1, None)
    assert chosen.why["auroc"] == {"SmallCNN-width=1": {"A": 1.0, "B": 0.2}, "SmallCNN-width=2": {"A": 0.9, "B": 0.6}}
    np.testing.assert_allclose(chosen.why["mean"], [0.6, 0.75])


def test_settings_that_were_chosen_are_what_a_detector_is_trained_with(tmp_path: Path) -> None:
    run = Run(tmp_path)

    @step("pick", chooses=True)
    def pick(candidates: list[Any]) -> Chosen:
        return Chosen("candidates", {}, index=1)

    @step("width")
    def width(settings: Any) -> int:
        return int(settings.width)

    chosen = run.do(pick, [SmallCNN(width=3), SmallCNN(width=5)])
    assert run.get(run.do(width, chosen)) == 5
    assert Run(tmp_path).get(chosen) == SmallCNN(width=5), "read back from the store"
