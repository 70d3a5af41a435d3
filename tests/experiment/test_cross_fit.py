"""Cross-fitting: no detector scores an image, or a kind of attack, that it was trained on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from salientry.evidence import Evidence
from salientry.experiment.cross_fit import NATURAL, SEEN, cross_fit, folds_of
from salientry.experiment.guard_choice import CLOSE, Labels, choose_for_guard, detection, harmless_flags
from salientry.learned import with_facts
from salientry.rows import Rows
from salientry.runner.step import Found

N, KINDS = 240, 3
IDS = np.array([f"{(2654435761 * (i + 1)) % 2**32:08x}{i:08x}" for i in range(N)])


def rows(offset: float, facts: dict[str, Any], **columns: Any) -> Rows:
    """Images of one pixel each: its value says which image it is, and what was done to it."""
    image = ((np.arange(N) + offset) / (4 * N)).astype(np.float32).reshape(N, 1, 1, 1)
    return Rows(IDS, {"image": image, "label": np.zeros(N, np.int64)} | columns, facts)


NATURALS = rows(0, {"role": "detector_train"})
DRAWN = np.arange(N) % KINDS
TWINS = rows(N, {"role": "detector_train", "protocol": "guard", "attack": "mix"}, evaluated=np.arange(N) % 4 != 0, drawn=DRAWN)
SAVED = rows(N, {"role": "detector_train", "protocol": "guard, JPEG", "attack": "mix"}, evaluated=np.arange(N) % 4 != 0, drawn=DRAWN)
COPIES = rows(2 * N, {"role": "detector_train", "protocol": "guard", "control": "noise", "of": ""}, changed=np.arange(N) % 10 == 0)


class Knows(nn.Module):
    """Scores 1 what it was trained on as an adversarial, or a twin of such a kind; else the image's number, which is below 1."""

    needs = frozenset[str]()

    def __init__(self, seen: set[int], kinds: set[int], log: list[Any]) -> None:
        super().__init__()
        self.seen, self.kinds, self.log = seen, kinds, log

    def forward(self, evidence: Evidence) -> Tensor:
        numbers = (evidence.image.flatten() * 4 * N).round().long()
        self.log.append((self.seen, self.kinds, set(numbers.tolist())))
        return numbers.float()


@dataclass(frozen=True)
class Watches:
    """Notes what it is fitted on and what it scores."""

    needs = frozenset({"copies", "naturals"})
    group, description, reads, seeded, candidate = "baseline", "a record", "x", False, False
    log: list[Any] = field(default_factory=list)

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        return evidence.image.flatten(1)

    def fit(self, evidence: Any, labels: Tensor, *parts: nn.Module, seed: int) -> nn.Module:
        numbers = {int(v) for v in (evidence.image.flatten() * 4 * N).round().tolist()}
        numbers |= {int(v) for e in (evidence.copies, evidence.naturals) for v in (e.image.flatten() * 4 * N).round().tolist()}
        kinds = {DRAWN[k - N] for k in numbers if N <= k < 2 * N}
        return Knows({k % N for k in numbers}, kinds, self.log)


def test_nothing_is_scored_by_a_detector_that_saw_it() -> None:
    settings = Watches()
    found = cross_fit.function(NATURALS, [TWINS], [COPIES], settings, [SAVED], folds=3, seed=0)
    fold = folds_of(NATURALS, 3)
    assert len(settings.log) > 0 and {len(np.unique(fold))} == {3}
    for seen, _, scored in settings.log:
        assert not seen & {k % N for k in scored}, "an image, or a twin or copy of it"
    left_out = [kinds for _, kinds, _ in settings.log]
    assert {len(k) for k in left_out} == {KINDS - 1, KINDS}
    for _, kinds, scored in settings.log:
        twins = {k for k in scored if N <= k < 2 * N}
        if twins and len(kinds) < KINDS:
            assert not {DRAWN[k - N] for k in twins} & kinds, "a kind that it was trained on"
    assert set(found.arrays) == {
        NATURAL,
        "guard/detector_train/mix",
        "guard, JPEG/detector_train/mix",
        "guard/detector_train/noise",
        SEEN + "guard/detector_train/mix",
        SEEN + "guard, JPEG/detector_train/mix",
    }
    for name, p in found.arrays.items():
        counts = np.ones(N, bool) if name == NATURAL else ~COPIES.column("changed") if "noise" in name else TWINS.column("evaluated")
        assert (np.isnan(p) == ~counts).all() and ((p[counts] > 0) & (p[counts] <= 1)).all()


def test_a_p_value_is_the_share_of_the_folds_naturals_that_score_as_high() -> None:
    """The score is the image's number: every twin lies above every natural, and naturals keep their order."""
    found = cross_fit.function(NATURALS, [TWINS], [COPIES], Watches(), folds=2, seed=0).arrays
    fold = folds_of(NATURALS, 2)
    for k in (0, 1):
        mine = np.flatnonzero(fold == k)
        assert found[NATURAL][mine] == pytest.approx(1 - np.arange(len(mine)) / len(mine))
        twins = found["guard/detector_train/mix"][mine]
        assert twins[~np.isnan(twins)] == pytest.approx(1 / (len(mine) + 1))


def test_a_group_is_in_one_fold() -> None:
    grouped = rows(0, {}, group=np.arange(N) // 7)
    fold = folds_of(grouped, 3)
    assert all(len(set(fold[np.arange(N) // 7 == g])) == 1 for g in range(N // 7))
    assert np.bincount(fold).min() > N / 6


LABELS = Labels(("first", "second", "third"), ("noise", "blur"))


def p_values(rate: float, of_seen: float, flags: float = 0.05) -> Found:
    """A share ``rate`` of each kind is found when it was left out, ``of_seen`` when not; a share of the harmless is flagged."""

    def some(share: float) -> Any:
        order = np.argsort(np.random.default_rng(0).random(N // KINDS))
        p = np.ones(N)
        for kind in range(KINDS):
            p[np.flatnonzero(kind == DRAWN)[order < round(share * N / KINDS)]] = 0.01
        return p

    harmless = np.where(np.arange(N) < round(flags * N), 0.01, 0.5)
    natural = np.where(np.arange(N) >= N - round(0.05 * N), 0.01, 0.5)
    name = "guard/detector_train/mix"
    return Found(None, {NATURAL: natural, name: some(rate), SEEN + name: some(of_seen), "guard/detector_train/noise": harmless})


def test_cells_are_shares_by_kind_and_training() -> None:
    cells = detection(p_values(0.5, 0.75), [TWINS], LABELS, 0.05)
    assert cells == {
        f"{kind}, {what}": [share, 80] for kind in LABELS.attacks for what, share in (("not trained on", 0.5), ("trained on", 0.75))
    }
    flags = harmless_flags(p_values(0.5, 0.5, flags=0.3), [COPIES], LABELS, 0.05)
    assert flags["noise"][0] == pytest.approx(0.25) and 0.15 < flags["noise"][1] < 0.25 and flags["noise"][2] == N


def chosen(*found: Found, passes: list[int]) -> tuple[int | None, Any]:
    nets = [with_facts(nn.Identity(), number=i) for i in range(len(found))]
    names = [f"candidate {i}" for i in range(len(found))]
    out = choose_for_guard.function(nets, list(found), [TWINS], [COPIES], names, passes, LABELS, 0.05)
    return out.index, out.why


def test_what_finds_most_is_kept_and_of_equals_the_cheapest() -> None:
    assert chosen(p_values(0.5, 0.5), p_values(0.7, 0.7), passes=[1, 7])[0] == 1
    assert chosen(p_values(0.7, 0.7), p_values(0.7, 0.7 + CLOSE / 2), passes=[3, 7])[0] == 0
    assert chosen(p_values(0.7, 0.7), p_values(0.7, 0.7), passes=[7, 3])[0] == 1


def test_what_flags_harmless_changes_is_dropped_unless_all_do() -> None:
    best, why = chosen(p_values(0.9, 0.9, flags=0.4), p_values(0.5, 0.5), passes=[3, 3])
    assert best == 1 and [c["dropped"] for c in why["candidates"]] == [True, False]
    assert chosen(p_values(0.9, 0.9, flags=0.5), p_values(0.5, 0.5, flags=0.4), passes=[3, 3])[0] == 1


def test_a_rate_without_enough_images_is_no_cell() -> None:
    some = rows(N, TWINS.facts, evaluated=np.arange(N) < 30, drawn=DRAWN)
    found = p_values(0.5, 0.5)
    for name in ("guard/detector_train/mix", SEEN + "guard/detector_train/mix"):
        found.arrays[name] = np.where(np.arange(N) < 30, found.arrays[name], np.nan)
    assert detection(found, [some], LABELS, 0.05) == {}


def test_torch_is_left_as_it_was() -> None:
    state = torch.get_rng_state()
    cross_fit.function(NATURALS, [TWINS], [COPIES], Watches(), folds=2, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
