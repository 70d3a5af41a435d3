"""Neighbours' classes: counted by hand, and p-values that are uniform for exchangeable naturals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import kstest

from salientry.detectors import DeepKNN
from salientry.detectors._reference import numbers, reference_of
from salientry.detectors.deep_knn import p_values
from salientry.errors import UsageError
from salientry.evidence import Evidence
from salientry.evidence_set import EvidenceSet

CLASSES = 3


def known(n: int, seed: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Two layers in which the classes overlap."""
    g = torch.Generator().manual_seed(seed)
    y, fixed = torch.randint(0, CLASSES, (n,), generator=g), torch.Generator().manual_seed(9)
    centres = [1.5 * torch.randn(CLASSES, w, generator=fixed) for w in (4, 6)]
    return {
        f"activations/layer{i}": (c[y] + torch.randn(n, c.shape[1], generator=g))[:, None].expand(-1, 3, -1) for i, c in enumerate(centres)
    }, y


def training(n: int = 200) -> EvidenceSet:
    parts, y = known(n, 1)
    return EvidenceSet({"image": torch.zeros(n, 1, 2, 2), **parts}, y)


def look(n: int, seed: int, wrong: int = 0) -> Evidence:
    parts, y = known(n, seed)
    return Evidence(None, None, torch.zeros(n, 1, 2, 2), predicted=(y + wrong) % CLASSES, **parts)


def test_neighbours_of_other_classes_are_counted_over_the_layers() -> None:
    data, seen = training(), look(12, 2)
    found = DeepKNN(9, 200).nonconformity(seen, reference_of("DeepKNN", data, (), 200)).numpy()
    against = np.zeros(12)
    for i in range(2):
        d = cdist(seen.activations[f"layer{i}"].mean.numpy(), data.activations[f"layer{i}"].mean.numpy())
        against += (data.classes.numpy()[d.argsort(1)[:, :9]] != seen.predicted.numpy()[:, None]).sum(1)
    np.testing.assert_allclose(found, against / 18, rtol=1e-6)


def test_p_values_by_hand() -> None:
    calibration = torch.tensor([0.1, 0.2, 0.2, 0.5])
    found = p_values(torch.tensor([0.0, 0.1, 0.2, 0.3, 0.5, 0.9]), calibration)
    assert torch.allclose(found * 5, torch.tensor([5.0, 5, 4, 2, 2, 1]))


def test_p_values_of_exchangeable_naturals_are_uniform() -> None:
    g = torch.Generator().manual_seed(0)
    found = torch.cat([p_values(torch.rand(5, generator=g), torch.rand(99, generator=g).sort().values) for _ in range(400)])
    assert kstest(found.numpy() - 0.005, "uniform").pvalue > 0.01
    for level in (0.05, 0.2, 0.5):
        assert float((found <= level).float().mean()) == pytest.approx(level, abs=0.03)


def test_naturals_keep_their_credibility_and_another_answer_loses_it() -> None:
    """A detector fitted on 300 naturals: of new ones 5 % have a credibility of at most 5 %, or fewer, for ties count in their favour."""
    given = EvidenceSet.of(look(300, 3), look(300, 4, wrong=1), training=training())
    fitted = DeepKNN(20, 200).fit(given, given.labels, seed=0)
    natural, other = (torch.exp(-fitted.view(look(1000, s, wrong))[:, 0]) for s, wrong in ((5, 0), (5, 1)))
    assert float((natural <= 0.05).float().mean()) < 0.08
    assert float(natural.mean()) > 0.5 > 0.2 > float(other.mean())
    assert len(fitted.parts[1].values) == 300


def test_more_against_never_means_less_suspicion() -> None:
    reference = reference_of("DeepKNN", training(), (), 200)
    view = DeepKNN(20, 200).view(look(80, 6), reference, numbers(torch.linspace(0, 0.4, 50)))
    order = view[:, 1].argsort()
    assert bool((view[order, 0].diff() >= 0).all())


def test_without_training_naturals_and_out_of_range_it_says_so() -> None:
    given = EvidenceSet.of(look(20, 3), look(20, 4))
    with pytest.raises(UsageError, match="naturals that the classifier was trained on"):
        DeepKNN().fit(given, given.labels, seed=0)
    with pytest.raises(UsageError, match="reference must lie"):
        DeepKNN(neighbours=75, reference=50)
