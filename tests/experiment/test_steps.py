"""What a head is trained on: the right twins, the right rows, the same batches however they are made."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from salientry.batches import Batch
from salientry.calibration import pac_threshold
from salientry.detectors import Margin
from salientry.errors import UsageError
from salientry.evidence import Evidence
from salientry.experiment import steps, stored_evidence
from salientry.experiment.run import Run
from salientry.experiment.scoring import score
from salientry.experiment.stored_evidence import StoredPairs
from salientry.keys import digest
from salientry.learned import facts_of
from salientry.protocol import STRICT
from salientry.rows import Rows

N = 611
SEEN = SimpleNamespace(needs=frozenset(), view=lambda evidence: evidence.image[:, 0, 0, :1])  # image i is i; by attack k, i + 1000 (k + 1)


def rows_of(values: Any, **columns: Any) -> Rows:
    ids = np.array([f"{i:016x}" for i in range(len(values))])
    image = np.tile(np.asarray(values, np.float32)[:, None, None, None], (1, 1, 2, 2))
    return Rows(ids, {"image": image} | columns, {"attack": "A"})


def made(
    attacks: int, paired: bool = True, shuffled: bool = False, count: int = N, share: float = 0.8, mixture: Any = "each"
) -> StoredPairs:
    draws = np.random.default_rng(attacks)
    attacked = [rows_of(np.arange(count) + 1000 * (k + 1), evaluated=draws.random(count) < share) for k in range(attacks)]
    return StoredPairs(rows_of(np.arange(count)), attacked, SEEN, [], paired, shuffled, mixture)


def joined(pairs: StoredPairs, size: int, seed: int | None) -> tuple[Any, Any]:
    natural, twins = zip(*pairs.batches(size, seed), strict=True)
    return torch.cat(natural)[:, 0].numpy().astype(int), torch.cat(twins)[:, 0].numpy().astype(int)


@pytest.mark.parametrize("attacks", [1, 3, 6])
def test_each_image_meets_the_attack_of_its_turn_and_only_what_counts_is_there(attacks: int) -> None:
    pairs = made(attacks)
    natural, twins = joined(pairs, 100, None)
    counted = [i for i in range(N) if pairs.attacked[i % attacks].column("evaluated")[i]]
    assert natural.tolist() == counted
    assert twins.tolist() == [i + 1000 * (i % attacks + 1) for i in counted]
    assert len(pairs) == len(counted) < N
    assert pairs.shape == (1,)


def test_a_pair_is_a_natural_and_its_own_twin_and_the_replica_draws_them_apart() -> None:
    natural, twins = joined(made(3), 64, 5)
    whole = len(made(3)) - len(made(3)) % 64
    assert len(natural) == whole, "whole batches only"
    assert (twins % 1000 == natural).all()
    assert natural.tolist() != sorted(natural)
    apart, theirs = joined(made(3, paired=False), 64, 5)
    assert len(set(apart)) == len(set(theirs)) == whole, "each at most once"
    assert (theirs % 1000 == apart).mean() < 0.05
    assert (theirs // 1000 - 1 == theirs % 1000 % 3).all(), "still of the attack of its turn"
    assert joined(made(3), 64, 6)[0].tolist() != natural.tolist()


def counted_of(pairs: StoredPairs) -> list[int]:
    """The adversarials of all attacks that count."""
    return [int(i) + 1000 * (k + 1) for k, a in enumerate(pairs.attacked) for i in np.flatnonzero(a.column("evaluated"))]


@pytest.mark.parametrize("paired", [True, False])
def test_all_adversarials_of_all_attacks_are_seen_once_an_epoch_and_half_of_what_is_seen_is_natural(paired: bool) -> None:
    pairs = made(6, paired, mixture="all")
    counted = counted_of(pairs)
    assert len(pairs) == len(counted) > 4 * N, "of one in five the attack failed"
    natural, twins = joined(pairs, 100, None)
    assert twins.tolist() == counted and natural.tolist() == [c % 1000 for c in counted]
    size = next(s for s in range(2, len(pairs)) if len(pairs) % s == 0)  # no rest: batches are whole
    for seed in (1, 2):
        natural, twins = joined(pairs, size, seed)
        assert sorted(twins) == sorted(counted), "each once"
        assert sorted(natural) == sorted(c % 1000 for c in counted), "a natural as often as attacks on it count"
        assert len(natural) == len(twins), "one half"
        assert (twins % 1000 == natural).all() if paired else (twins % 1000 == natural).mean() < 0.05
        assert twins.tolist() != sorted(twins)
    rest = len(pairs) % 100
    assert len(joined(pairs, 100, 1)[0]) == len(pairs) - rest, "of an epoch less than a batch is left out"


def test_one_attack_s_adversarials_are_all_of_them_either_way() -> None:
    for seed in (None, 4):
        for each, every in zip(made(1).batches(50, seed), made(1, mixture="all").batches(50, seed), strict=True):
            assert torch.equal(each[0], every[0]) and torch.equal(each[1], every[1])
    with pytest.raises(UsageError, match="unknown mixture 'both'; there are: each, all"):
        made(2, mixture="both")


def test_how_attacks_are_mixed_is_part_of_a_key_where_it_is_not_the_usual_way(tmp_path: Path) -> None:
    run = Run(tmp_path)
    natural, twins = run.given(0, "natural"), [run.given(0, "a"), run.given(0, "b")]
    usual = run.do(steps.fit_detector, natural, twins, Margin(), STRICT)
    each, every = (run.do(steps.fit_detector, natural, twins, Margin(), STRICT, mixture=m) for m in ("each", "all"))
    assert each.fingerprint == usual.fingerprint != every.fingerprint


def test_a_detector_is_fitted_on_all_adversarials_and_says_so() -> None:
    """Two attacks; the second fooled on the first half only."""
    natural = rows_of(np.arange(60), logits=np.stack([np.arange(60.0) + 9, np.zeros(60)], 1))
    attacked = [
        Rows(
            natural.ids, {"logits": np.zeros((60, 2)), "image": natural.column("image"), "evaluated": np.arange(60) < k}, {"attack": str(k)}
        )
        for k in (60, 30)
    ]
    facts = {m: facts_of(steps.fit_detector.function(natural, attacked, Margin(), STRICT, mixture=m, seed=0)) for m in ("each", "all")}
    assert [facts[m]["scheme"] for m in facts] == ["paired", "all 2n"]
    assert [facts[m]["pairs"] for m in facts] == [30 + 15, 60 + 30]
    named = steps.fit_detector.function(natural, attacked, Margin(), STRICT, mixture="all", scheme="mine", seed=0)
    assert facts_of(named)["scheme"] == "mine"


@pytest.mark.parametrize("paired", [True, False])
def test_shuffled_labels_swap_half_and_for_good(paired: bool) -> None:
    natural, twins = joined(made(2, shuffled=True), 100, None)
    exchanged = natural >= 1000
    assert exchanged.sum() == len(exchanged) // 2
    assert 0.4 < exchanged[: len(exchanged) // 2].mean() < 0.6, "at random"
    assert (exchanged == (twins < 1000)).all()
    assert (natural % 1000 == twins % 1000).all(), "a pair stays a pair"
    images = dict(zip((natural % 1000).tolist(), exchanged.tolist(), strict=True))
    for seed in (1, 2):
        again, theirs = joined(made(2, paired, shuffled=True), 50, seed)
        assert [images[i % 1000] for i in again] == (again >= 1000).tolist(), "the same ones in every pass"
        assert [images[i % 1000] for i in theirs] == (theirs < 1000).tolist()


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("shuffled", [True, False])
@pytest.mark.parametrize("mixture", ["each", "all"])
def test_views_that_do_not_fit_in_memory_give_the_same_batches(
    monkeypatch: pytest.MonkeyPatch, paired: bool, shuffled: bool, seed: int | None, mixture: str
) -> None:
    known = made(3, paired, shuffled, mixture=mixture)
    first = list(known.batches(32, seed))
    assert known._known is not None
    monkeypatch.setattr(stored_evidence, "IN_MEMORY", 0)
    streamed = made(3, paired, shuffled, mixture=mixture)
    second = list(streamed.batches(32, seed))
    assert streamed._known is None
    assert len(first) == len(second) > 10
    for (a, b), (c, d) in zip(first, second, strict=True):
        assert torch.equal(a, c) and torch.equal(b, d)


def test_too_few_that_count_are_no_training_set() -> None:
    with pytest.raises(UsageError, match=r"\d+ of 30 images of A, A can be used in this protocol; 20 are needed"):
        made(2, count=30, share=0.2)


def test_twins_of_other_images_are_refused() -> None:
    with pytest.raises(AssertionError, match="aligned"):
        StoredPairs(rows_of(np.arange(30)), [rows_of(np.arange(30), evaluated=np.ones(30, bool)).take(np.arange(30)[::-1])], SEEN, [], True)


class Bright(nn.Module):
    """Scores by what is stored, never by a net."""

    needs = frozenset({"map"})

    def forward(self, seen: Evidence) -> Tensor:
        return seen.image.flatten(1).sum(1) + 10 * seen.map.flatten(1).sum(1)


SETS: dict[str, dict[str, Any]] = {
    "published/detector_train/A": {"role": "detector_train", "protocol": "published", "attack": "A"},
    "any/calibration/natural": {"role": "calibration"},
    "strict/test/Null of A": {"role": "test", "protocol": "strict", "control": "Null", "of": "A", "attack": "A"},
}


def called(name: str, count: int = 300) -> Rows:
    draws = np.random.default_rng(len(name))
    rows = rows_of(draws.random(count), map=draws.random((count, 1, 2, 2)).astype(np.float32))
    return Rows(rows.ids, {n: rows.column(n) for n in rows.names}, SETS[name])


def test_scores_are_what_the_detector_says_of_the_evidence_and_go_by_the_name_of_the_set() -> None:
    """Sets longer than a batch, of different lengths; thresholds from the naturals for calibration, wherever they stand."""
    sets = [called(name, n) for name, n in zip(SETS, (300, 300, 520), strict=True)]
    direct = {}
    for name, rows in zip(SETS, sets, strict=True):
        whole = Batch(rows, np.arange(len(rows)))
        direct[name] = Bright()(Evidence(None, None, whole.image, map=whole.map)).numpy()
    with pytest.warns(UserWarning, match="300 calibration images"):
        found = score.function(Bright(), sets, protocol=STRICT)
    plain = score.function(Bright(), sets[::-1], calibrated=found)
    assert list(found.arrays) == list(SETS) == list(plain.arrays)[::-1] and plain.value is None
    for name, expected in direct.items():
        np.testing.assert_allclose(found.arrays[name], expected, rtol=1e-6)
        np.testing.assert_array_equal(plain.arrays[name], found.arrays[name])
    natural = found.arrays["any/calibration/natural"]
    assert found.value == {"own": 0.0} | {str(level): pac_threshold(natural, level) for level in (0.05, 0.01)}


def test_what_cannot_be_scored_is_said() -> None:
    with pytest.raises(UsageError, match="no stored map"):
        score.function(Bright(), [rows_of(np.zeros(3))])
    with pytest.raises(UsageError, match="two image sets are called any/calibration/natural"):
        score.function(Bright(), [called("any/calibration/natural")] * 2)
    with pytest.raises(UsageError, match="there are no scores of any/calibration/natural; there are: published/detector_train/A"):
        score.function(Bright(), [called("published/detector_train/A")], protocol=STRICT)
    with pytest.raises(UsageError, match="neither image sets nor the scores of a fusion's parts"):
        score.function(Bright())


def test_scoring_keeps_the_keys_that_were_made_when_each_way_of_it_was_a_step(tmp_path: Path) -> None:
    run = Run(tmp_path)
    net, images, part, protocol = (run.given(x, x) for x in ("net", "images", "part", "protocol"))
    old = [
        digest("score_sets", 1, {"sets": [images], "detector": net}),
        digest("calibrate", 2, {"sets": [images], "detector": net, "rules": protocol}),
        digest("score", 2, {"sets": [images], "detector": net, "calibrated": part}),
        digest("calibrate_fusion", 1, {"scored": [part], "fused": net, "rules": protocol}),
        digest("score_fusion", 1, {"sets": [images], "scored": [part], "fused": net, "calibrated": part}),
    ]
    ways: list[dict[str, Any]] = [{"sets": [images]}, {"sets": [images], "protocol": protocol}, {"sets": [images], "calibrated": part}]
    ways += [{"parts": [part], "protocol": protocol}, {"sets": [images], "parts": [part], "calibrated": part}]
    assert [run.do(score, net, **way).fingerprint for way in ways] == old


def test_large_images_come_a_few_at_a_time_and_every_one_comes_once() -> None:
    large = Rows(np.array([f"{i:016x}" for i in range(70)]), {"image": np.zeros((70, 3, 112, 112), np.uint8)}, {})
    pieces = steps.batch_rows(large)
    assert [len(p) for p in pieces] == [20, 20, 20, 10]
    assert np.concatenate(pieces).tolist() == list(range(70))
    assert [len(p) for p in steps.batch_rows(large, 25)] == [20, 5]
    assert [len(p) for p in steps.batch_rows(rows_of(np.arange(N)))] == [250, 250, 111]
