"""What the detectors of numbers look at, against closed forms; what their networks do with it."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from salientry.detectors import (
    Consistency,
    LayerStatistics,
    LearnedFusion,
    Masked,
    NoiseLevel,
    NoiseStructure,
    SecondOpinion,
    TopLogits,
    _committee,
    _high_pass,
    noise_structure,
)
from salientry.detectors._committee import FAR, Committee
from salientry.errors import UsageError
from salientry.evidence import UNDER, Evidence
from salientry.evidence_set import EvidenceSet
from salientry.harmless import TRANSFORMS
from salientry.metrics import auroc

IMAGE = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
Z = torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0]])
BLURRED = torch.tensor([[2.0, 2.5, 0.0], [0.0, 2.0, 1.0]])
SECOND = torch.tensor([[0.0, 4.0, 0.0], [1.0, 3.0, 0.0]])


def looks(**more: Tensor) -> Evidence:
    return Evidence(None, None, IMAGE, frozenset(), None, logits=Z, **{UNDER + "blur": BLURRED, "second_logits": SECOND} | more)


def test_consistency_is_four_numbers_a_change_and_two_of_all() -> None:
    found = Consistency(("blur",)).view(looks())
    here, there = Z[0].softmax(0), BLURRED[0].softmax(0)
    expected = [-1.0, math.log(there[0] / here[0]), float((here - there).abs().sum()), -0.5, 1.0 - 3.0, 2.5 - 2.0]
    assert found[0].tolist() == pytest.approx(expected, abs=1e-5)
    assert found[1].tolist() == pytest.approx([0, 0, 0, 1.0, found[1, 4].item(), found[1, 5].item()], abs=1e-5)
    two = Consistency(("blur", "shift")).view(looks(**{UNDER + "shift": Z}))
    assert two.shape == (2, 10) and two[0, :4].tolist() == pytest.approx(expected[:4], abs=1e-5)
    assert two[0, 4:8].tolist() == pytest.approx([0, 0, 0, 2.0], abs=1e-5)
    assert two[0, 8:].tolist() == pytest.approx([-2.0, (2.5 + 1.0) / 2 - (2.0 + 3.0) / 2], abs=1e-5), "the mean over both"


def test_a_second_opinion_compares_two_nets() -> None:
    found = SecondOpinion(("blur",)).view(looks())
    theirs = SECOND.log_softmax(1)
    crossed = float(-(Z[0].softmax(0) * theirs[0]).sum())
    assert found[0].tolist() == pytest.approx([float(theirs[0, 0]), float(theirs[0, 1] - theirs[0, 0]), crossed, -2.0, 4.0, 0.5], abs=1e-5)
    agreed = SecondOpinion().view(looks())[1]
    assert agreed[1] == 0 and agreed[3:].tolist() == pytest.approx([-1.0, -3.0]), "where they agree the rival is the first's second best"


@pytest.mark.parametrize("classes", [1, 2, 3, 10, 1000])
def test_the_number_of_columns_does_not_grow_with_the_classes(classes: int) -> None:
    z = torch.randn(5, classes, generator=torch.Generator().manual_seed(1))
    found = TopLogits().view(Evidence(None, None, torch.rand(5, 1, 2, 2), frozenset(), None, logits=z))
    assert found.shape == (5, min(classes, 10) + 2) and bool(found.isfinite().all())
    assert torch.allclose(found[:, -1], z.logsumexp(1))
    assert torch.equal(found[:, 0], z.amax(1)) and bool((found[:, -2] >= 0).all())


def test_layer_statistics_and_masks() -> None:
    layers = {"activations/a": torch.arange(12.0).reshape(2, 3, 2), "activations/b": torch.ones(2, 3, 1)}
    assert LayerStatistics(("a",)).view(looks(**layers))[0].tolist() == [0, 1, 2, 3, 4, 5]
    assert LayerStatistics().view(looks(**layers)).shape == (2, 9)
    seen = looks(map=torch.full((2, 1, 4, 4), 0.25), **{UNDER + "kept": Z, UNDER + "removed": BLURRED})
    found = Masked().view(seen)
    assert found[0].tolist() == pytest.approx([0, 0, 0, *Consistency(("blur",)).view(looks())[0, :3].tolist(), 0.25], abs=1e-5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Consistency(()), "found none"),
        (lambda: Consistency(("blur", "smear")), "found smear"),
        (lambda: SecondOpinion(("smear",)), "found smear"),
        (lambda: LearnedFusion(()), "found none"),
        (lambda: LearnedFusion((LearnedFusion(),)), "look at numbers"),
        (lambda: LearnedFusion((TopLogits(),), (TopLogits(),)).build((12,)), "those apart are expected"),
        (lambda: LearnedFusion().build((12, 3)), "columns of the members are expected"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(make: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()


# --- the networks ------------------------------------------------------------------------------------------------------

QUICK = Committee(members=3, width=16, steps=200)


def evidence_set(shift: float, n: int = 200, seed: int = 0, copies: float | None = None) -> EvidenceSet:
    """Logits whose gap is 4 for naturals and smaller by ``shift`` for twins; copies with a gap smaller by ``copies``."""
    g = torch.Generator().manual_seed(seed)

    def logits(gap: float, seed_of: int) -> Tensor:
        z = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed_of)) * 0.3
        z[:, 0] += gap
        return z

    def evidence(gap: float, k: int) -> Evidence:
        return Evidence(None, None, torch.rand(n, 1, 2, 2, generator=g), frozenset(), None, logits=logits(gap, seed + k))

    natural, twin = evidence(4.0, 1), evidence(4.0 - shift, 2)
    beside = None
    if copies is not None:
        other = evidence(4.0 - copies, 3)
        beside = EvidenceSet({"image": other.image, "logits": other.logits}, torch.zeros(n, dtype=torch.int64))
    return EvidenceSet.of(natural, twin, copies=beside)


def scores(detector: Any, shift: float, seed: int) -> Tensor:
    given = evidence_set(shift, seed=seed)
    with torch.no_grad():
        return torch.cat([detector(e) for e in given.pieces()])[200 if shift else 0 :][:200]


def test_what_is_called_harmless_is_not_flagged() -> None:
    """Trained without copies it flags what lies between; with them as negatives it does not, and still finds the twins."""
    plain, told = (TopLogits(QUICK).fit(e, e.labels, seed=0) for e in (evidence_set(3.0), evidence_set(3.0, copies=1.8)))
    flagged = [float((scores(d, 1.8, 110) > 0).float().mean()) for d in (plain, told)]
    assert flagged[0] > 0.9 and flagged[1] < flagged[0] - 0.25
    for detector in (plain, told):
        assert auroc(scores(detector, 0.0, 100).numpy(), scores(detector, 3.0, 120).numpy()) > 0.97


def test_a_column_that_never_moves_and_one_far_away_say_little() -> None:
    given = evidence_set(2.0)
    fitted = TopLogits(QUICK).fit(given, given.labels, seed=0)
    (head,) = fitted.head.committees  # type: ignore[union-attr]
    x = head.mean[None].expand(3, -1).clone()
    x[1, 0], x[2, 0] = 1e3, 1e6
    with torch.no_grad():
        near, far, further = head(x)
        assert abs(float(further - far)) < 1e-2 * max(1.0, abs(float(far - near)))
        head.std[1] = torch.inf
        moved = head.mean[None].clone()
        moved[0, 1] += 100
        assert torch.equal(head(moved), head(head.mean[None]))
    assert FAR > 4, "within four deviations a squashed number is nearly itself"


def test_parts_apart_are_added_by_their_weight() -> None:
    given = evidence_set(2.0)
    fusion = LearnedFusion((TopLogits(),), (TopLogits(count=2),), weight=0.25, head=QUICK)
    fitted = fusion.fit(given, given.labels, seed=0)
    evidence = next(given.pieces())
    first, second = fitted.head.committees  # type: ignore[union-attr]
    with torch.no_grad():
        one, two = (m.view(evidence) for m in fusion.each)
        assert torch.allclose(fitted(evidence), first(one) + 0.25 * second(two), atol=1e-6)
    assert fusion.widths(evidence) == (5, 4) and fitted.head.mean.shape == (9,)  # type: ignore[union-attr]


# --- asking again -------------------------------------------------------------------------------------------------------


class Counted(nn.Module):
    """Logits of a random linear map; notes the images of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Linear(48, 3), list[int]()

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(len(x))
        out: Tensor = self.layer(x.flatten(1))
        return out


def changed(net: Counted, name: str, x: Tensor) -> Tensor:
    """What the net answers to images after a change."""
    out: Tensor = net.layer(TRANSFORMS[name](x, seeds=torch.zeros(len(x), dtype=torch.int64)).flatten(1))
    return out


@pytest.mark.parametrize("gradient", [False, True])
def test_the_classifier_is_asked_about_changed_images_in_one_pass(gradient: bool) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Counted()
    x = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(2)).requires_grad_(gradient)
    names = [UNDER + n for n in ("blur", "rotation", "zoom_in")]
    seen = Evidence(net, None, x, frozenset({"logits", *names}))
    assert torch.allclose(seen.logits, net.layer(x.flatten(1)))
    assert net.calls == [24], "naturals and three changes together"
    for name in ("blur", "rotation", "zoom_in"):
        assert torch.allclose(seen.under(name), changed(net, name, x), atol=1e-6) and seen.under(name).requires_grad == gradient
    assert net.calls == [24]
    assert torch.allclose(
        seen.under("shift"), net.layer(TRANSFORMS["shift"](x, seeds=torch.zeros(6, dtype=torch.int64)).flatten(1)), atol=1e-6
    )
    assert len(net.calls) == 2, "one that was not named is asked for when it is wanted"


def test_large_batches_are_asked_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("salientry.rows.ROOM", 6 * 48 * 2)
    net, x = Counted(), torch.rand(6, 3, 4, 4)
    seen = Evidence(net, None, x, frozenset({"logits", *(UNDER + n for n in ("blur", "rotation", "zoom_in"))}))
    _ = seen.logits
    assert net.calls == [12, 12]
    assert torch.allclose(
        seen.under("zoom_in"), net.layer(TRANSFORMS["zoom_in"](x, seeds=torch.zeros(6, dtype=torch.int64)).flatten(1)), atol=1e-6
    )


def test_kept_and_removed_are_the_two_parts_of_the_image() -> None:
    x = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    drawn = (torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(4)) > 0.5).float()
    net = Counted()
    seen = Evidence(net, None, x, frozenset(), None, map=drawn)
    mean = x.mean((2, 3), keepdim=True)
    for name, m in (("kept", drawn), ("removed", 1 - drawn)):
        assert torch.allclose(seen.under(name), net.layer((m * x + (1 - m) * mean).flatten(1)), atol=1e-6)
    assert net.calls == [4]
    with pytest.raises(UsageError, match="second_logits needs a second net"):
        _ = seen.second_logits


def test_the_noise_level_is_that_of_the_noise() -> None:
    g = torch.Generator().manual_seed(0)
    smooth = torch.full((1, 3, 64, 64), 0.5)
    levels = torch.tensor([0.01, 0.02, 0.04])
    x = torch.cat([smooth + s * torch.randn(1, 3, 64, 64, generator=g) for s in levels.tolist()])
    found = NoiseLevel().view(Evidence(None, None, x))
    for spread, columns in ((20**0.5, [2]), (2.0, [6]), ((20 * 2 / 3) ** 0.5, [10])):  # of the residual of unit noise
        expected = (levels * spread * (2 / torch.pi) ** 0.5).log()  # of half-normal sizes
        torch.testing.assert_close(found[:, columns[0]], expected, atol=0.06, rtol=0)
    torch.testing.assert_close(found[:, 12], (levels * 2 * 0.6745).log(), atol=0.05, rtol=0)  # a normal's median size
    assert (found[:, :4].diff(dim=1) >= 0).all() and (found[:, 14] == 0).all()


def test_a_clean_image_has_no_noise_whatever_its_brightness_and_edges_are_not_coloured_noise() -> None:
    flat = torch.stack([torch.full((3, 8, 8), v) for v in (0.1, 0.9)])
    torch.testing.assert_close(NoiseLevel().view(Evidence(None, None, flat))[:, :14], torch.full((2, 14), 1e-4).log())
    edge = torch.zeros(1, 3, 8, 8)
    edge[..., 4:] = 1.0
    found = NoiseLevel().view(Evidence(None, None, edge))[0]
    torch.testing.assert_close(found[3], found.new_tensor(0.25).log())  # one column in four
    assert (found[8:12] == found.new_tensor(1e-4).log()).all() and found[14] == 1


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 5), (1, 28, 28)])
def test_the_noise_of_any_shape_is_finite(shape: tuple[int, ...]) -> None:
    found = NoiseLevel().view(Evidence(None, None, torch.rand(2, *shape)))
    assert found.shape == (2, 15) and found.isfinite().all()


def test_the_structure_of_white_noise_is_that_of_the_filters() -> None:
    """The Laplacian's correlations with itself, worked out by hand; unlike channels, sizes of a normal distribution."""
    x = 0.5 + 0.01 * torch.randn(8, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    found = NoiseStructure().view(Evidence(None, None, x)).mean(0)
    expected = torch.tensor(
        [-8 / 20, -8 / 20, 2 / 20, 2 / 20, 1 / 20, 1 / 20, 0, 0, 0, 0, (1 / torch.pi) ** 0.5]
    )  # over half of the squares
    torch.testing.assert_close(found[:11], expected, atol=0.05, rtol=0)  # which are the smoother ones, so not quite
    nine = torch.full((2,), -1 / 9 - 1 / 9 + 6 / 81) / (8 / 9)  # of x less the mean of nine: their means share six values
    torch.testing.assert_close(found[11:13], nine, atol=0.03, rtol=0)


def test_noise_that_moves_together_is_told_from_noise_that_does_not() -> None:
    g = torch.Generator().manual_seed(0)
    one = torch.randn(4, 1, 64, 64, generator=g)
    wide = torch.nn.functional.interpolate(torch.randn(4, 3, 32, 32, generator=g), scale_factor=2)  # blocks of 2 px
    grey, blocks, each = (
        NoiseStructure().view(Evidence(None, None, 0.5 + 0.02 * n)).mean(0)
        for n in (one.expand(-1, 3, -1, -1), wide, torch.randn(4, 3, 64, 64, generator=g))
    )
    torch.testing.assert_close(grey[7:10], torch.ones(3), atol=1e-3, rtol=0)
    assert (each[7:10].abs() < 0.05).all()
    assert (blocks[22:24] > each[22:24] + 0.3).all(), "neighbours in a block are alike in what exceeds the mean of 5 x 5"
    sparse = torch.where(torch.rand(4, 3, 64, 64, generator=g) < 0.01, 0.2, 0.0)
    assert NoiseStructure().view(Evidence(None, None, 0.5 + sparse)).mean(0)[21] < each[21] - 0.2, "few pixels"


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 5), (1, 28, 28), (4, 9, 9)])
def test_the_structure_of_any_shape_is_finite(shape: tuple[int, ...]) -> None:
    found = NoiseStructure().view(Evidence(None, None, torch.rand(2, *shape)))
    assert found.shape == (2, 24 if shape[0] == 1 else 33) and found.isfinite().all()
    flat = NoiseStructure().view(Evidence(None, None, torch.full((2, *shape), 0.5)))
    assert flat.abs().max() < 1e-3, "no noise has no structure"


def test_a_batch_has_as_many_copies_as_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Naturals are 1, copies 2, adversarials 3: what a batch holds is counted."""
    seen: list[Counter[float]] = []

    def one_batch(module: Any, batches: Any, loss: Any, **_: Any) -> None:
        seen.append(Counter(next(iter(batches(0)))[:, 0].tolist()))

    monkeypatch.setattr(_committee, "train", one_batch)
    groups = [torch.full((9, 1), 1.0), torch.full((50, 1), 2.0)], torch.full((9, 1), 3.0)
    for share in (0.5, 2 / 3):
        settings = _committee.Committee(copies=share)
        _committee._train(settings.build(1), *groups, settings, 0)
        assert seen[-1] == {3.0: 64, 2.0: round(64 * share), 1.0: 64 - round(64 * share)}
    _committee._train(settings.build(1), groups[0][:1], groups[1], settings, 0)
    assert seen[-1] == {3.0: 64, 1.0: 64}


def test_what_a_member_adds_is_how_far_the_score_falls_with_its_numbers_at_their_mean() -> None:
    given = evidence_set(2.0)
    settings = LearnedFusion((TopLogits(), TopLogits(count=1)), (TopLogits(count=2), TopLogits()), weight=0.25, head=QUICK)
    fitted = settings.fit(given, given.labels, seed=0)
    evidence = next(given.pieces())
    head: Any = fitted.head
    with torch.no_grad():
        columns = settings.columns(evidence)
        whole = torch.cat(columns, 1)
        score, added = head.added(columns)
        torch.testing.assert_close(score, head(whole), atol=1e-5, rtol=0)
        starts = [sum(c.shape[1] for c in columns[:i]) for i in range(5)]
        for i in range(4):
            without = whole.clone()
            without[:, starts[i] : starts[i + 1]] = head.mean[starts[i] : starts[i + 1]]
            torch.testing.assert_close(added[:, i], head(whole) - head(without), atol=1e-5, rtol=0)
    assert columns[3] is columns[0], "equal members look once"


def test_two_detectors_of_the_noise_share_the_laplacian(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Tensor] = []
    whole_of = _high_pass.laplacian

    def counted(x: Tensor) -> Tensor:
        made.append(x)
        return whole_of(x)

    monkeypatch.setattr(_high_pass, "laplacian", counted)
    seen = Evidence(None, None, torch.rand(3, 3, 8, 8))
    first = NoiseLevel().view(seen), NoiseStructure().view(seen)
    assert len(made) == 1
    pieces = Evidence(None, None, seen.image)
    monkeypatch.setattr(_high_pass, "PIECE", 1)
    for whole, piecewise in zip(first, (NoiseLevel().view(pieces), NoiseStructure().view(pieces)), strict=True):
        torch.testing.assert_close(whole, piecewise, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("side", [3, 5])
def test_a_local_mean_is_the_same_to_the_bit_either_way(side: int) -> None:
    x = torch.rand(9, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    one = torch.cat([_high_pass.local_mean(v, side) for v in x.split(1)])
    assert torch.equal(_high_pass.local_mean(x, side), one) and torch.equal(_high_pass.local_mean(x.requires_grad_(), side), one)
    sizes = x.detach().flatten(1)
    assert torch.equal(_high_pass.median(sizes), sizes.median(1, keepdim=True).values)


def test_neighbours_beyond_the_border_are_none() -> None:
    """Each of the seven products, and the channels', of a residual summed by hand over the smoother half of the squares."""
    r = 0.1 * torch.randn(2, 3, 9, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    w = noise_structure._smooth(r)
    found = noise_structure._structure(r)
    power = (r.clamp(-0.25, 0.25).square() * w).mean((1, 2, 3)) + noise_structure.LEAST
    s = r.clamp(-0.25, 0.25)
    for k, (dy, dx) in enumerate(noise_structure.OFFSETS):
        total = torch.zeros(2, dtype=torch.float64)
        for i in range(9 - dy):
            for j in range(max(0, -dx), 10 - max(0, dx)):
                total += (s[:, :, i, j] * s[:, :, i + dy, j + dx] * w[:, :, i, j]).sum(1)
        torch.testing.assert_close(found[:, k], total / 270 / power)
    torch.testing.assert_close(found[:, 8], (s[:, 0] * s[:, 2] * w[:, 0]).mean((1, 2)) / power)
