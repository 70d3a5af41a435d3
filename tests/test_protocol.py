from __future__ import annotations

import itertools
from dataclasses import astuple, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from salientry.errors import DataDamaged, UsageError
from salientry.keys import digest
from salientry.protocol import (
    PUBLISHED,
    REPLICA,
    SCALES,
    SPLIT_SEED,
    STRICT,
    assign_roles,
    eight_bits,
    evaluation_mask,
    positive,
    search_eight_bits,
    stored,
    stratified_order,
    within,
)
from salientry.randomness import image_ids
from salientry.types import ROLES, Pool, Roles, Shape

from . import examples

SMALL = Roles(train=40, detector_train=20, validation=8, calibration=16, test=16)


def pool(labels: NDArray[np.int64], first: int = 0, roles: tuple[str, ...] = ROLES) -> Pool:
    """Different images, one a label."""
    numbers = np.arange(first, first + len(labels), dtype="<u4")
    return Pool(np.ascontiguousarray(numbers).view(np.uint8).reshape(-1, 1, 2, 2), labels, roles)


def some_labels(n: int, classes: int = 4, seed: int = 0) -> NDArray[np.int64]:
    """Unequal classes."""
    return np.random.default_rng(seed).choice(classes, n, p=np.arange(1, classes + 1) / (classes * (classes + 1) / 2))


# --- roles -------------------------------------------------------------------------------------------------------


def test_every_role_gets_its_number_and_every_image_one_role() -> None:
    labels = some_labels(120)
    ids, role, rank = assign_roles([pool(labels)], SMALL)
    assert np.array_equal(ids, image_ids(pool(labels).images)) and len(set(ids)) == 120
    assert [int((role == r).sum()) for r in range(5)] == list(astuple(SMALL))
    assert int((role == -1).sum()) == 20
    for r, want in enumerate(astuple(SMALL)):
        assert sorted(rank[role == r]) == list(range(want))
    owners = [set(ids[role == r]) for r in range(5)]
    assert all(not a & b for a, b in itertools.combinations(owners, 2))


def test_equal_classes_are_dealt_equally() -> None:
    labels = np.arange(100) % 4
    _, role, rank = assign_roles([pool(labels)], SMALL)
    for r, want in enumerate(astuple(SMALL)):
        assert np.bincount(labels[role == r]).tolist() == [want // 4] * 4
        mine = labels[role == r][np.argsort(rank[role == r])]
        for k in range(want):
            assert np.ptp(np.bincount(mine[:k], minlength=4)) <= 3


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("classes", [2, 4, 10])
def test_every_stretch_holds_the_classes_in_proportion(seed: int, classes: int) -> None:
    labels = some_labels(300, classes, seed)
    order = stratified_order(labels, seed)
    assert sorted(order) == list(range(300))
    share = np.bincount(labels, minlength=classes) / 300
    count = np.cumsum(labels[order][:, None] == np.arange(classes), 0)
    off = count - np.arange(1, 301)[:, None] * share
    assert np.abs(off).max() < 2  # any prefix: each class is within 1 of its place, and so is the sum of the others
    assert np.abs(off).mean() < 0.5
    stretches = [count[b] - count[a] - (b - a) * share for a, b in itertools.combinations(range(0, 300, 23), 2)]
    assert np.abs(stretches).max() < 3
    plain = labels[np.random.default_rng(seed).permutation(300)]
    worse = np.cumsum(plain[:, None] == np.arange(classes), 0) - np.arange(1, 301)[:, None] * share
    assert np.abs(off).mean() < np.abs(worse).mean() / 2, "a plain shuffle would not do"


def test_the_order_inside_a_class_is_random() -> None:
    labels = np.arange(400) % 4
    first = np.array([stratified_order(labels, s)[:40] for s in range(200)])
    assert np.abs(np.corrcoef(first.ravel(), np.tile(np.arange(40), 200))[0, 1]) < 0.05
    assert len(np.unique(first)) > 390
    assert first.mean() == pytest.approx(199.5, abs=5)


def test_the_split_is_frozen() -> None:
    assert SPLIT_SEED == 20_200_425
    _, role, rank = assign_roles([pool(np.arange(24) % 3)], Roles(9, 3, 3, 3, 3))
    assert role.tolist() == [0, 0, 4, -1, 2, 2, 2, 3, 0, 0, 1, 3, 4, 0, 0, 3, 0, 0, 1, -1, 1, 0, 4, -1]
    assert rank.tolist() == [4, 5, 2, 0, 1, 2, 0, 0, 3, 0, 1, 1, 1, 1, 2, 2, 6, 7, 2, 0, 0, 8, 0, 0]


def test_the_split_depends_on_labels_and_sizes_alone() -> None:
    labels = some_labels(120)
    _, role, rank = assign_roles([pool(labels)], SMALL)
    np.random.seed(3)
    torch.manual_seed(3)
    other_pixels = assign_roles([pool(labels, first=1000)], SMALL)
    assert np.array_equal(other_pixels[1], role) and np.array_equal(other_pixels[2], rank)
    renamed = assign_roles([pool(labels + 5)], SMALL)
    assert np.array_equal(renamed[1], role) and np.array_equal(renamed[2], rank)
    fewer = assign_roles([pool(labels)], replace(SMALL, test=4))
    assert np.array_equal(fewer[1] == 4, (role == 4) & (rank < 4)), "a smaller last role is a prefix of the larger one"


def test_pools_keep_to_their_roles() -> None:
    training, test = (
        pool(some_labels(100), 0, ("train", "detector_train", "validation")),
        pool(some_labels(50, seed=1), 100, ("calibration", "test")),
    )
    ids, role, _ = assign_roles([training, test], SMALL)
    assert len(ids) == 150
    assert set(role[:100]) == {-1, 0, 1, 2} and set(role[100:]) == {-1, 3, 4}
    assert [int((role == r).sum()) for r in range(5)] == list(astuple(SMALL))
    alone = assign_roles([replace(test, roles=("calibration", "test"))], SMALL)
    assert np.array_equal(alone[1], role[100:]), "a pool is dealt as if it were alone"


def test_copies_in_two_roles_are_called_by_their_names_or_numbers() -> None:
    p = pool(some_labels(120))
    _, role, _ = assign_roles([p], SMALL)
    one, other = int(np.flatnonzero(role == 1)[0]), int(np.flatnonzero(role == 4)[0])
    images = p.images[:].copy()
    images[other] = images[one]
    for names, words in (
        ((), [f"image {one} in detector_train", f"image {other} in test"]),
        (tuple(f"pictures/{i}.png" for i in range(120)), [f"pictures/{one}.png in detector_train", f"pictures/{other}.png in test"]),
    ):
        with pytest.raises(DataDamaged) as e:
            assign_roles([replace(p, images=images, names=names)], SMALL)
        for word in (*words, "remove the copies"):
            assert word in str(e.value)
        assert str(e.value).count(" in ") == 3


def test_a_pool_that_is_too_small_is_refused() -> None:
    assign_roles([pool(some_labels(100))], SMALL)
    with pytest.raises(UsageError, match="train, detector_train, validation, calibration, test want 100 images; there are 99"):
        assign_roles([pool(some_labels(99))], SMALL)
    with pytest.raises(UsageError, match="calibration, test want 32 images; there are 31"):
        assign_roles([pool(some_labels(68), 0, ROLES[:3]), pool(some_labels(31), 100, ROLES[3:])], SMALL)


def test_a_copy_in_two_roles_is_refused_and_in_one_role_is_not() -> None:
    labels = some_labels(120)
    p = pool(labels)
    _, role, _ = assign_roles([p], SMALL)
    for a, b, refused in ((0, 4, True), (3, 4, True), (0, 0, False), (4, 4, False), (-1, 4, False), (-1, -1, False)):
        one, other = np.flatnonzero(role == a)[0], np.flatnonzero(role == b)[1]
        images = p.images.copy()
        images[other] = images[one]
        if refused:
            with pytest.raises(DataDamaged, match=f"^1 images are in two roles at once .*{image_ids(images[[one]])[0]}"):
                assign_roles([replace(p, images=images)], SMALL)
        else:
            assign_roles([replace(p, images=images)], SMALL)


def test_a_copy_across_pools_is_refused() -> None:
    training, test = pool(some_labels(68), 0, ROLES[:3]), pool(some_labels(32), 67, ROLES[3:])  # image 67 is in both
    with pytest.raises(DataDamaged, match="two roles"):
        assign_roles([training, test], SMALL)


# --- storage -----------------------------------------------------------------------------------------------------


class Linear(nn.Module):
    """Two classes: is the sum of the image above a bound?"""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.bound, self.calls = bound, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        above = x.flatten(1).sum(1) - self.bound
        return torch.stack([-above, above], 1)


nobody = nn.Identity()  # a classifier that is not asked


def on_grid(x: Tensor) -> bool:
    return torch.equal((x * 255).round() / 255, x) and bool(((x >= 0) & (x <= 1)).all())


@st.composite
def budget_attacks(draw: st.DrawFn) -> tuple[float, Tensor, Tensor]:
    eps = draw(st.one_of(st.floats(0, 1), st.integers(0, 255).map(lambda k: k / 255), st.integers(0, 100).map(lambda k: k / 100)))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    x = torch.randint(0, 256, (4, 1, 3, 3), generator=g).to(dtype) / 255
    step = torch.rand(x.shape, generator=g, dtype=dtype) * 2 - 1
    kind = draw(st.sampled_from(["any", "sign", "few"]))
    step = step.sign() if kind == "sign" else torch.where(step.abs() < 0.7, 0, step.sign()) if kind == "few" else step
    return eps, x, (x + eps * step).clamp(0, 1)


@settings(max_examples=300)
@given(budget_attacks())
def test_rounding_keeps_the_budget_the_grid_and_the_direction(given_: tuple[float, Tensor, Tensor]) -> None:
    eps, x, x_adv = given_
    found = stored(nobody, x, x_adv, torch.zeros(4), STRICT, eps, False)
    assert found.dtype == x.dtype and on_grid(found)
    moved, proposed = ((v - x).double() * 255 for v in (found, x_adv))
    levels = moved.round()
    assert float((moved - levels).abs().max()) < 1e-3
    assert float(levels.abs().max()) <= np.floor(255 * eps + 1e-6)
    assert bool((levels.abs() <= proposed.abs() + 2e-3).all()), "towards the natural"
    assert bool((levels * proposed >= 0).all()), "never to the other side"
    assert bool((levels.abs() > proposed.abs() - 1).all()), "and by less than one level"
    assert bool(within(x, found, STRICT, eps).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_whole_number_of_levels_is_kept_whole(dtype: torch.dtype) -> None:
    for k in range(128):
        x = torch.tensor([127, 128]).to(dtype).reshape(1, 1, 1, 2) / 255
        sign = torch.tensor([-1, 1]).to(dtype).reshape(1, 1, 1, 2)
        found = stored(nobody, x, x + (k / 255) * sign, torch.zeros(1), STRICT, k / 255, False)
        assert (found * 255).round().flatten().tolist() == [127 - k, 128 + k]


def test_a_proposal_outside_the_budget_is_stored_at_its_border() -> None:
    x = torch.full((1, 1, 1, 2), 100 / 255)
    found = stored(nobody, x, x + torch.tensor([0.3, -0.3]), torch.zeros(1), STRICT, 8.7 / 255, False)
    assert (found * 255).round().flatten().tolist() == [108, 92]


def test_published_images_are_kept_as_they_come() -> None:
    x, x_adv = torch.rand(3, 1, 2, 2), torch.rand(3, 1, 2, 2)
    for protocol, eps, control in itertools.product((PUBLISHED, REPLICA), (None, 0.1), (False, True)):
        assert stored(nobody, x, x_adv, torch.zeros(3), protocol, eps, control) is x_adv


def test_controls_are_rounded_to_the_nearest_level() -> None:
    x = torch.zeros(1, 1, 1, 4)
    x_adv = torch.tensor([0.4, 0.6, 254.6, 260.0]).reshape(1, 1, 1, 4) / 255
    for eps in (None, 0.1):
        found = stored(nobody, x, x_adv, torch.zeros(1), STRICT, eps, True)
        assert (found * 255).round().flatten().tolist() == [0, 1, 255, 255] and on_grid(found)


@given(st.integers(0, 2**31))
def test_eight_bits_is_the_nearest_8_bit_image(seed: int) -> None:
    x = torch.rand(5, 1, 3, 3, generator=torch.Generator().manual_seed(seed))
    found = eight_bits(x)
    grid = torch.arange(256) / 255
    nearest = (x.flatten()[:, None] - grid).abs().amin(1)
    assert on_grid(found) and torch.equal(eight_bits(found), found)
    assert torch.allclose((found - x).abs().flatten(), nearest, atol=1e-7)


# --- the search --------------------------------------------------------------------------------------------------


def by_hand(net: nn.Module, x: Tensor, x_adv: Tensor, y: int) -> Tensor:
    """One image, in the obvious way."""
    with torch.no_grad():
        if int(net(x_adv[None]).argmax()) != y:
            for scale in sorted(SCALES):
                here = ((x + scale * (x_adv - x)).clamp(0, 1) * 255).round() / 255
                if int(net(here[None]).argmax()) != y:
                    return here
    return (x_adv * 255).round().clamp(0, 255) / 255


@pytest.mark.parametrize("seed", range(5))
def test_the_search_is_the_obvious_one(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    shape = Shape(1, 8, 8, 3)
    net, x = examples.affine(shape, seed=seed), eight_bits(0.2 + 0.6 * examples.images(shape, 60, seed=seed, dtype=torch.float64))
    y = examples.predicted(net, x)
    w, z = net[1].weight.detach(), net(x).detach()
    other = (y + 1) % 3
    across = w[other] - w[y]  # to the boundary of another class, and a little less or more
    distance = (z.gather(1, y[:, None]) - z.gather(1, other[:, None])) / across.square().sum(1, keepdim=True)
    far = 0.97 + 0.1 * torch.rand(60, 1, generator=g, dtype=torch.float64)
    x_adv = (x + (far * distance * across).view_as(x)).clamp(0, 1)
    found = search_eight_bits(net, x, x_adv, y)
    expected = torch.stack([by_hand(net, a, b, int(k)) for a, b, k in zip(x, x_adv, y, strict=True)])
    assert torch.equal(found, expected) and on_grid(found)
    fooled = examples.predicted(net, x_adv) != y
    assert 5 < int(fooled.sum()) < 55
    assert bool((found != eight_bits(x_adv))[fooled].any()), "rounding alone would have given something else"
    assert bool((examples.predicted(net, found) != y)[fooled].all())
    assert torch.equal(found[~fooled], eight_bits(x_adv[~fooled])), "what failed in float is rounded plainly"
    assert torch.equal(stored(net, x, x_adv, y, STRICT, None, False), found)
    alone = torch.cat([search_eight_bits(net, x[i : i + 1], x_adv[i : i + 1], y[i : i + 1]) for i in range(60)])
    assert torch.equal(alone, found), "an image's result is its own"


def test_the_search_finds_what_plain_rounding_loses() -> None:
    net = Linear(bound=0.4 / 255)  # black is class 0; one level anywhere is class 1
    x, y = torch.zeros(1, 1, 1, 4, dtype=torch.float64), torch.tensor([0])
    x_adv = x + 0.2 / 255  # fools in float, and rounds to black
    assert int(net(x_adv).argmax()) == 1 and int(net(eight_bits(x_adv)).argmax()) == 0
    found = search_eight_bits(net, x, x_adv, y)
    assert (found * 255).flatten().tolist() == [1, 1, 1, 1]
    assert int(net(found).argmax()) == 1
    hopeless = x + torch.tensor([0.45, 0.0, 0.0, 0.0], dtype=torch.float64) / 255 * (1 / 6)
    assert torch.equal(search_eight_bits(Linear(0.05 / 255), x, hopeless, y), x), "fools at no scale: rounded plainly"


def test_the_smallest_scale_is_chosen_and_no_more_passes_are_spent() -> None:
    x, y = torch.full((1, 1, 1, 1), 100 / 255, dtype=torch.float64), torch.tensor([0])
    x_adv = x + 100 / 255
    for bound, level, calls in ((170.5, 180, 2), (185, 190, 3), (192, 195, 4), (199, 200, 5)):
        net = Linear(bound / 255)
        assert (search_eight_bits(net, x, x_adv, y) * 255).round().item() == level
        assert net.calls == calls
    net = Linear(1.5)
    search_eight_bits(net, x, x_adv, y)
    assert net.calls == 1, "what failed in float costs one pass"


def test_an_image_beyond_the_boundary_is_not_brought_back_where_the_protocol_says_so() -> None:
    x, y = torch.full((1, 1, 1, 1), 100 / 255, dtype=torch.float64), torch.tensor([0])
    kept = replace(STRICT, shrink=False)
    for bound, usual, unshrunk in ((170.5, 180, 200), (195.5, 200, 200), (199.7, 200, 200)):
        net = Linear(bound / 255)
        levels = [(stored(net, x, x + 100 / 255, y, p, None, False) * 255).round().item() for p in (STRICT, kept)]
        assert levels == [usual, unshrunk]
    net = Linear(200.3 / 255)  # fools in float, and plain rounding would undo it
    found = stored(net, x, x + 100.4 / 255, y, kept, None, False)
    assert int(net(found).argmax()) == 1 and (found * 255).round().item() == 202
    assert digest(replace(STRICT, shrink=True)) == digest(STRICT) != digest(kept)


def test_the_scales_go_up_from_below_1_through_1() -> None:
    assert list(SCALES) == sorted(SCALES) and SCALES[0] < 1 < SCALES[-1] and 1.0 in SCALES


# --- what counts -------------------------------------------------------------------------------------------------


def test_positive_truth_table() -> None:
    table = torch.tensor(list(itertools.product([False, True], repeat=3)))
    found = positive(*table.T)
    assert found.tolist() == [False] * 7 + [True]
    assert found.dtype == torch.bool


def test_counting() -> None:
    table = torch.tensor(list(itertools.product([False, True], repeat=3)))
    right, changed, in_budget = table.T
    for protocol, control in itertools.product((PUBLISHED, REPLICA), (False, True)):
        assert evaluation_mask(protocol, right, changed, in_budget, control).tolist() == [True] * 8
    assert evaluation_mask(STRICT, right, changed, in_budget, False).tolist() == [False] * 7 + [True]
    unchanged = [bool(r and not c) for r, c, _ in table.tolist()]
    assert evaluation_mask(STRICT, right, changed, in_budget, True).tolist() == unchanged
    assert sum(unchanged) == 2


def test_the_rules() -> None:
    assert (STRICT.bits, STRICT.only_positives, STRICT.paired, STRICT.levels) == (8, True, True, (0.05, 0.01))
    assert (PUBLISHED.bits, PUBLISHED.only_positives, PUBLISHED.levels) == (None, False, ())
    assert replace(PUBLISHED, paired=False) == REPLICA


X = torch.full((1, 1, 2, 2), 100 / 255)


def with_pixel(value: float) -> Tensor:
    x = X.clone()
    x[0, 0, 1, 0] = value
    return x


@pytest.mark.parametrize(
    ("value", "strict", "published"),
    [
        (100 / 255, True, True),
        (108 / 255, True, True),
        (92 / 255, True, True),
        (109 / 255, False, False),
        (91 / 255, False, False),
        (104.5 / 255, False, True),  # off the grid
        (104.01 / 255, False, True),
        (108.6 / 255, False, True),  # inside eps, beyond floor(255 eps)
        (float("nan"), False, False),
    ],
)
def test_within_a_budget(value: float, strict: bool, published: bool) -> None:
    eps = 8.7 / 255
    assert within(X, with_pixel(value), STRICT, eps).tolist() == [strict]
    assert within(X, with_pixel(value), PUBLISHED, eps).tolist() == [published]


@pytest.mark.parametrize("value", [-1 / 255, 256 / 255, float("nan"), float("inf")])
def test_nothing_outside_the_range_is_within(value: float) -> None:
    for protocol, eps in itertools.product((STRICT, PUBLISHED), (None, 1.0)):
        assert within(X, with_pixel(value), protocol, eps).tolist() == [False]


def test_without_a_budget_any_valid_image_is_within() -> None:
    assert within(X, with_pixel(1.0), STRICT, None).tolist() == [True]
    assert within(X, with_pixel(0.5), STRICT, None).tolist() == [False]
    assert within(X, with_pixel(0.5), PUBLISHED, None).tolist() == [True]


def test_one_pixel_makes_its_own_image_invalid_only() -> None:
    x = torch.cat([X, X, X])
    moved = torch.cat([X, with_pixel(1.0), with_pixel(101 / 255)])
    assert within(x, moved, STRICT, 8 / 255).tolist() == [True, False, True]


@pytest.mark.parametrize("k", [0, 1, 8, 51, 77, 255])
def test_the_border_of_a_budget_is_inside(k: int) -> None:
    x = torch.zeros(2, 1, 1, 1)
    at = torch.tensor([k, k + 1]).reshape(2, 1, 1, 1) / 255
    assert within(x, at, STRICT, k / 255).tolist() == [True, False]
    assert within(x, at, PUBLISHED, k / 255).tolist() == [True, False]


def test_pinned_images_take_the_first_role_or_none() -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 1, 4, 4), np.uint8)
    labels = np.arange(60) % 3
    for wanted, there in ((30, 20), (12, 12)):
        roles = Roles(train=0, detector_train=0, validation=0, calibration=wanted, test=20)
        _, role, rank = assign_roles([Pool(images, labels, ("calibration", "test"), pinned=20)], roles)
        calibrate, test = ROLES.index("calibration"), ROLES.index("test")
        assert (role[:20] == calibrate).sum() == there
        assert not (role[:20] == test).any(), "a pinned image is never tested on"
        assert (role == calibrate).sum() == wanted
        assert (role == test).sum() == 20
        assert sorted(rank[role == calibrate]) == list(range(wanted))
    with pytest.raises(UsageError, match="want 60 images; there are 52"):
        assign_roles(
            [Pool(images, labels, ("calibration", "test"), pinned=20)],
            Roles(train=0, detector_train=0, validation=0, calibration=12, test=48),
        )


def test_an_l2_budget_is_over_all_values_of_an_image() -> None:
    x = torch.full((2, 1, 4, 4), 0.5).mul(255).round() / 255
    moved = x.clone()
    moved[0, 0, 0, 0] += 30 / 255
    moved[1] += 10 / 255
    assert within(x, moved, STRICT, 31 / 255, "l2").tolist() == [True, False]
    assert within(x, moved, STRICT, 40 / 255 + 1e-6, "l2").tolist() == [True, True]
    assert within(x, moved, STRICT, 11 / 255).tolist() == [False, True]
