"""The alarm for campaigns: attacks by questions are reported, ordinary senders are not, memory is bounded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from salientry.adaptive import HopSkipJump, SquareSearch
from salientry.adaptive._defended import Defended
from salientry.campaign import Campaigns, fingerprints
from salientry.errors import UsageError


def pictures(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Scenes of smooth colours, of which no two are near."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 3, 8, 8), np.uint8).repeat(4, 2).repeat(4, 3)


def variants(picture: NDArray[np.uint8], count: int, size: int = 4, seed: int = 0) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).integers(-size, size + 1, (count, *picture.shape))
    return (picture[None].astype(int) + noise).clip(0, 255).astype(np.uint8)


# --- fingerprints ------------------------------------------------------------------------------------------------------


def test_a_fingerprint_holds_the_means_of_blocks() -> None:
    x = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 24), np.uint8)
    expected = x.reshape(2, 3, 8, 2, 8, 3).mean((3, 5)).reshape(2, -1)
    np.testing.assert_allclose(fingerprints(x), expected, rtol=1e-6)


@pytest.mark.parametrize(("h", "w"), [(1, 1), (5, 9), (28, 28), (33, 7)])
def test_any_size_has_one(h: int, w: int) -> None:
    assert (fingerprints(np.full((2, 1, h, w), 77, np.uint8)) == 77).all()
    ramp = np.broadcast_to(np.arange(w, dtype=np.uint8), (1, 1, h, w))
    found = fingerprints(np.ascontiguousarray(ramp)).reshape(8, 8)
    assert (np.diff(found, axis=1) >= 0).all() and (np.diff(found, axis=0) == 0).all()


# --- the rule ----------------------------------------------------------------------------------------------------------


def test_the_alarm_rings_at_so_many_near_duplicates_of_a_flagged_picture() -> None:
    watch, sent = Campaigns(near=5), variants(pictures(1)[0], 9)
    flags = [False, False, True] + [False] * 6
    assert watch.update("a", sent, flags) == [False] * 5 + [True] * 4  # the sixth is the fifth beside the flagged one
    assert watch.alarms == 1 and watch.reported == ["a"]


def test_without_a_flag_it_takes_many_more() -> None:
    watch, sent = Campaigns(near=5, many=20), variants(pictures(1)[0], 40)
    assert watch.update("a", sent, [False] * 40) == [False] * 20 + [True] * 20
    later = Campaigns(near=5, many=20)
    assert not any(later.update("a", sent[:20], [False] * 20))
    assert later.update("a", sent[:1], [True]) == [True]  # a flag that comes last counts as well


def test_other_pictures_do_not_count_however_many_are_flagged() -> None:
    watch = Campaigns(near=5)
    assert not any(watch.update("a", pictures(200), [True] * 200))
    assert watch.alarms == 0


def test_sources_are_kept_apart() -> None:
    watch, sent = Campaigns(near=5), variants(pictures(1)[0], 60)
    assert not any(watch.update(f"source {i // 5}", sent[i : i + 1], [True])[0] for i in range(60))
    for i in range(5):
        watch.update("other", sent[i : i + 1], [True])
    assert watch.alarms == 0


def test_how_many_come_at_once_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    sent = np.concatenate([variants(p, 30, seed=i) for i, p in enumerate(pictures(4))])[rng.permutation(120)]
    flags = (rng.random(120) < 0.05).tolist()
    whole, one = Campaigns(near=8, many=12, pictures=40), Campaigns(near=8, many=12, pictures=40)
    found = whole.update("a", sent, flags)
    assert found == [one.update("a", sent[i : i + 1], flags[i : i + 1])[0] for i in range(120)]
    assert any(found) and whole.alarms == one.alarms


def test_the_alarm_ends_when_the_pictures_are_forgotten_and_may_ring_again() -> None:
    watch, sent = Campaigns(near=5, many=15, pictures=20), variants(pictures(1)[0], 6)
    assert watch.update("a", sent, [True] * 6)[-1]
    assert watch.update("a", pictures(20, seed=1), [True] * 20) == [True] * 14 + [False] * 6
    assert watch.reported == []
    watch.update("a", sent, [True] * 6)
    assert watch.alarms == 2


def test_the_rule_is_the_one_that_is_written_down() -> None:
    """Against a count by hand over the last pictures."""
    rng = np.random.default_rng(5)
    base = pictures(3)
    sent = np.concatenate([variants(base[rng.integers(3)], 1, size=20, seed=i) for i in range(90)])
    flags, watch = rng.random(90) < 0.1, Campaigns(near=6, many=8, pictures=25, distance=5.0)
    found, prints = watch.update("a", sent, flags.tolist()), fingerprints(sent).astype(float)
    for i in range(90):
        last = slice(max(0, i - 24), i + 1)
        apart = np.sqrt(((prints[last][:, None] - prints[last][None]) ** 2).mean(2)) <= 5.0
        near = apart.sum(1) - 1
        assert found[i] == bool((near[flags[last]] >= 6).any() or (near >= 8).any()), i
    assert 0 < sum(found) < 90


# --- memory and exemptions ---------------------------------------------------------------------------------------------


def test_the_source_that_was_silent_longest_is_forgotten() -> None:
    watch, sent = Campaigns(near=5, sources=3), variants(pictures(1)[0], 6)
    for name in ("a", "b", "c"):
        watch.update(name, sent[:5], [True] * 5)
    watch.update("a", sent[:0], [])
    watch.update("d", sent[:5], [True] * 5)  # b is forgotten
    assert watch.update("b", sent[5:], [True]) == [False]  # which c is forgotten for
    assert watch.update("a", sent[5:], [True]) == [True]
    assert len(watch._known) == 3


def test_of_a_source_no_more_than_so_many_pictures_are_kept() -> None:
    watch = Campaigns(near=5, many=20, pictures=30)
    watch.update("a", pictures(100), [False] * 100)
    assert len(watch._known["a"].prints) == len(watch._known["a"].flags) == len(watch._known["a"].near) == 30


def test_an_exempt_source_is_never_reported() -> None:
    watch, sent = Campaigns(near=5), variants(pictures(1)[0], 20)
    watch.exempt("camera")
    assert watch.update("camera", sent, [True] * 20) == [False] * 20
    assert watch.update("a", sent, [True] * 20)[-1]
    watch.exempt("a")
    assert watch.reported == [] and not any(watch.update("a", sent, [True] * 20))


@pytest.mark.parametrize("settings", [{"near": 0}, {"near": 51}, {"many": 250}, {"pictures": 2.5}, {"sources": True}])
def test_settings_are_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="whole numbers from 1"):
        Campaigns(**settings)


@pytest.mark.parametrize("distance", [0, 300, float("nan")])
def test_the_distance_is_in_levels(distance: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 255 levels; found"):
        Campaigns(distance=distance)


@pytest.mark.parametrize(
    ("images", "flags"),
    [
        (np.full((2, 3, 4, 4), 1.5, np.float32), [True, True]),
        (np.full((2, 3, 4, 4), np.nan, np.float32), [True, True]),
        (np.zeros((2, 3, 4, 4), np.int64), [True, True]),
        (np.zeros((3, 4, 4), np.uint8), [True] * 3),
        (np.zeros((2, 3, 4, 4), np.uint8), [True]),
        (np.zeros((2, 3, 0, 4), np.uint8), [True, True]),
    ],
)
def test_pictures_and_flags_are_checked(images: Any, flags: list[bool]) -> None:
    with pytest.raises(UsageError, match=r"uint8, or float in \[0, 1\], of shape \(N, C, H, W\), with one flag each; found"):
        Campaigns().update("a", images, flags)


def test_a_source_keeps_to_one_number_of_channels() -> None:
    watch = Campaigns()
    watch.update("a", pictures(2), [False, False])
    with pytest.raises(UsageError, match="had 3 channels; found 1"):
        watch.update("a", pictures(2)[:, :1], [False, False])


# --- attacks and ordinary senders ---------------------------------------------------------------------------------------


class Halves(nn.Module):
    """Which half of a picture is brighter: class 0 where the left one is."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x[..., :8].mean((1, 2, 3)), x[..., 8:].mean((1, 2, 3))], 1)


@dataclass(frozen=True, eq=False)
class Noted(Defended):
    """Writes down what is asked."""

    log: list[Tensor] = field(default_factory=list)

    def seen(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.log.append((x * 255).round().to(torch.uint8))
        return super().seen(x)


@pytest.mark.parametrize("attack", [SquareSearch(queries=200), HopSkipJump(queries=200)], ids=["square", "hopskipjump"])
def test_attacks_by_questions_are_noticed(attack: Any) -> None:
    """Soon where every tenth of their questions is flagged, later where none is."""
    x = torch.from_numpy(pictures(1)[:, :, ::2, ::2].copy()).float() / 255
    x[..., :8] = 0.5 + x[..., :8] / 2  # the left half is brighter by far
    target = Noted(Halves())
    attack.search(target, x, torch.zeros(1, dtype=torch.int64), seeds=torch.arange(1))
    asked = torch.cat(target.log).numpy()
    found = Campaigns().update("attacker", asked, [i % 10 == 9 for i in range(len(asked))])
    later = Campaigns().update("attacker", asked, [False] * len(asked))
    assert len(asked) == 200 and 40 <= found.index(True) <= later.index(True) < 199 and later.index(True) >= 50


def test_ordinary_senders_are_not_reported_and_an_attacker_among_them_is() -> None:
    """All send more than ``many`` pictures, a twentieth of them flagged: different ones, bursts of one scene after the other, each shorter
    than ``near``, one picture again and again. One of a hundred sends some more than ``many`` variants of one picture, every other
    picture one of them.
    """
    rng, watch = np.random.default_rng(7), Campaigns()
    most, burst = watch.many + 70, watch.near
    for i in range(100):
        if i == 57:
            sent = pictures(most, seed=i)
            sent[::2] = variants(sent[0], len(sent[::2]), seed=i)
        elif i % 3 == 0:
            sent = np.concatenate([variants(p, burst, seed=i) for p in pictures(most // burst + 1, seed=i)])
        elif i % 3 == 1:
            sent = pictures(most, seed=i)
        else:
            sent = pictures(1, seed=i).repeat(most, 0)
        watch.update(str(i), sent, (rng.random(len(sent)) < 0.05).tolist())
    assert watch.reported == ["57"] and watch.alarms == 1


def test_pictures_of_the_same_bytes_count_once() -> None:
    watch, sent = Campaigns(near=5, many=20, pictures=30), variants(pictures(1)[0], 6)
    assert not any(watch.update("a", sent[:5].repeat(40, 0), [True] * 200))
    assert len(watch._known["a"].prints) == len(watch._known["a"].bytes) == 5
    assert watch.update("a", sent[5:], [True]) == [True]
    assert watch.update("a", sent[:1], [True]) == [True], "while the alarm lasts"
    watch.update("a", pictures(30, seed=3), [False] * 30)
    assert watch.update("a", sent[:1], [True]) == [False] and len(watch._known["a"].bytes) == 30, "forgotten, it counts again"


def test_pictures_that_differ_in_single_pixels_count_though_their_blocks_are_equal() -> None:
    """Changes within a block that its mean does not show must not hide a campaign."""
    one = pictures(1)[0].clip(1, 254)
    sent = np.stack([one] * 6)
    for i in range(1, 6):
        sent[i, 0, 0, 0] += 1
        sent[i, 0, 0, 1] -= 1
        sent[i, 1, 4 * i, 0] += 1
        sent[i, 1, 4 * i, 1] -= 1
    assert (fingerprints(sent) == fingerprints(sent)[0]).all() and len(np.unique(sent, axis=0)) == 6
    assert Campaigns(near=5).update("a", sent, [True] * 6) == [False] * 5 + [True]


def test_floats_that_round_to_the_same_bytes_are_different_questions() -> None:
    """A guard judges floats as they are: a search in steps of less than half a level must not look like one picture sent again."""
    one, rng = pictures(1).astype(np.float32) / 255, np.random.default_rng(0)
    sent = (one + rng.uniform(-0.4, 0.4, (6, *one.shape[1:])).astype(np.float32) / 255).clip(0, 1)
    assert len({x.tobytes() for x in (sent * 255).round().astype(np.uint8)}) == 1
    assert Campaigns(near=5).update("a", sent, [True] * 6) == [False] * 5 + [True]
    assert not any(Campaigns(near=5).update("a", sent[:1].repeat(60, 0), [True] * 60))


def test_a_picture_has_one_fingerprint_as_bytes_and_as_floats() -> None:
    x = pictures(3)
    np.testing.assert_allclose(fingerprints(x.astype(np.float32) / 255), fingerprints(x), atol=1e-3)
