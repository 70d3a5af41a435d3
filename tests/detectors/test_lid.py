"""Local intrinsic dimension: of points whose dimension is known, and against the authors' formula written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from salientry.detectors import LID
from salientry.detectors._reference import reference_of
from salientry.detectors.lid import dimension, growth
from salientry.errors import UsageError
from salientry.evidence import Evidence
from salientry.evidence_set import EvidenceSet
from salientry.keys import name_of
from salientry.results.names import detector_words


def layers(n: int, seed: int, widths: tuple[int, ...] = (5, 3)) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {f"activations/layer{i}": torch.randn(n, 3, w, generator=g) for i, w in enumerate(widths)}


def training(n: int, seed: int = 1) -> EvidenceSet:
    return EvidenceSet({"image": torch.zeros(n, 1, 2, 2), **layers(n, seed)}, torch.arange(n) % 4)


@pytest.mark.parametrize("d", [2, 5, 12])
def test_points_uniform_in_a_ball_have_its_dimension(d: int) -> None:
    """Seen from the middle of a ball of d dimensions in 20, distances are U^(1/d): 1 / LID is (k - 1) / (k d) on average."""
    g = torch.Generator().manual_seed(d)
    directions = torch.randn(400, 200, d, generator=g, dtype=torch.float64)
    points = directions / directions.norm(dim=2, keepdim=True) * torch.rand(400, 200, 1, generator=g, dtype=torch.float64) ** (1 / d)
    into, _ = torch.linalg.qr(torch.randn(20, d, generator=g, dtype=torch.float64))
    k = 50
    found = dimension((points @ into.T).norm(dim=2), k)
    assert float(1 / (1 / found).mean()) * (k - 1) / k == pytest.approx(d, rel=0.02)
    assert float(found.std() / found.mean()) == pytest.approx(1 / k**0.5, rel=0.25), "the estimate's own spread, d / sqrt(k)"


def test_a_table_may_hold_both_for_each_has_a_name_of_its_own() -> None:
    assert [name_of(d) for d in (LID(), LID(multi=True))] == ["LID", "MultiLID"]
    assert [detector_words(name_of(d)) for d in (LID(), LID(multi=True))] == ["LID", "MultiLID"], "and so on a page"


def test_it_is_the_papers_equation_in_every_layer() -> None:
    known, seen = training(60), Evidence(None, None, torch.zeros(9, 1, 2, 2), **layers(9, 2))
    found = LID(7, 60).view(seen, reference_of("LID", known, (), 60)).numpy()
    assert found.shape == (9, 2)
    for i in range(2):
        r = np.sort(cdist(seen.activations[f"layer{i}"].mean.numpy(), known.activations[f"layer{i}"].mean.numpy()), 1)[:, :7]
        np.testing.assert_allclose(found[:, i], -1 / np.log(r / r[:, -1:]).mean(1), rtol=1e-4)


def test_multi_has_each_neighbours_part_of_the_same_sum() -> None:
    known, seen = training(60), Evidence(None, None, torch.zeros(9, 1, 2, 2), **layers(9, 2))
    reference = reference_of("LID", known, (), 60)
    one, many = LID(7, 60).view(seen, reference), LID(7, 60, multi=True).view(seen, reference)
    assert many.shape == (9, 12)
    for i in range(2):
        part = many[:, 6 * i : 6 * i + 6]
        assert bool((part.diff(dim=1) <= 0).all()), "nearest first"
        assert torch.allclose(7 / part.sum(1), one[:, i], rtol=1e-4)


def test_units_do_not_matter_and_an_image_of_the_reference_has_a_number() -> None:
    r = torch.rand(5, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(dimension(r, 10), dimension(1000 * r, 10))
    r[:, 3] = 0
    assert bool(torch.isfinite(growth(r, 10)).all())


def test_a_reference_holds_of_every_class_its_share() -> None:
    y = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)[torch.randperm(100, generator=torch.Generator().manual_seed(0))]
    known = EvidenceSet({"image": torch.zeros(100, 1, 2, 2), **layers(100, 1)}, y)
    reference = reference_of("LID", known, ("layer1",), 20)
    assert torch.bincount(reference.classes).tolist() == pytest.approx([12, 6, 2], abs=1)
    rows = known.activations["layer1"].mean
    where = (reference.known(0)[:, None] == rows).all(2)
    assert where.sum(1).tolist() == [1] * 20 and torch.equal(y[where.int().argmax(1)], reference.classes)


def test_without_training_naturals_and_out_of_range_it_says_so() -> None:
    given = EvidenceSet({"image": torch.zeros(8, 1, 2, 2), **layers(8, 1)}, torch.zeros(8, dtype=torch.int64))
    with pytest.raises(UsageError, match="naturals that the classifier was trained on"):
        LID().fit(given, given.labels, seed=0)
    with pytest.raises(UsageError, match="neighbours must lie"):
        LID(neighbours=1)
    with pytest.raises(UsageError, match="reference must lie"):
        LID(neighbours=30, reference=20)
