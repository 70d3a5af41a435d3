"""Controls on what a detector reads, sizes of gradients, and attacks that are none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from salientry.batches import Batch
from salientry.errors import AttackTooWeak, UsageError
from salientry.experiment.input_ablations import replaced
from salientry.experiment.strength import gradient_sizes, strong_enough
from salientry.rows import Rows

N = 40
DRAWS = np.random.default_rng(0)
IDS = np.array([f"{i * 977:016x}" for i in range(N)])
ROWS = Rows(
    IDS, {"map": DRAWS.random((N, 1, 5, 6)).astype(np.float32), "logits": DRAWS.random((N, 3)).astype(np.float32)}, {"role": "test"}
)


def test_maps_are_replaced_by_what_the_name_says_and_nothing_else_is() -> None:
    known = ROWS.column("map")
    np.testing.assert_array_equal(replaced.function(ROWS, "map", "another image's").column("map"), known[[*range(1, N), 0]])
    assert (replaced.function(ROWS, "map", "constant").column("map") == 0.5).all()
    assert (replaced.function(ROWS, "map", "zero").column("map") == 0).all()
    for by in ("another image's", "constant", "zero", "random"):
        found = replaced.function(ROWS, "map", by)
        assert (found.column("map").dtype, found.column("map").shape) == (known.dtype, known.shape)
        np.testing.assert_array_equal(found.column("logits"), ROWS.column("logits"))
        assert (found.ids == IDS).all() and found.facts == ROWS.facts
    with pytest.raises(UsageError, match=r"another image's, random, constant or zero values; found 'ones'"):
        replaced.function(ROWS, "map", "ones")
    with pytest.raises(KeyError, match="no column 'gradient'"):
        replaced.function(ROWS, "gradient", "zero")


def test_random_maps_belong_to_images_not_to_places() -> None:
    found = replaced.function(ROWS, "map", "random").column("map")
    assert (found >= 0).all() and (found < 1).all() and found.mean() == pytest.approx(0.5, abs=0.03)
    assert len(np.unique(found[:, 0, 0, 0])) == N
    order = np.random.default_rng(1).permutation(N)[:17]
    again = replaced.function(ROWS.take(order), "map", "random").column("map")
    np.testing.assert_array_equal(again, found[order])


def test_gradient_sizes_are_those_of_a_classifier_that_is_known() -> None:
    w = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    net = nn.Sequential(nn.Flatten(), nn.Linear(8, 3, bias=False))
    net[1].weight.data = w
    x = DRAWS.random((N, 2, 2, 2)).astype(np.float32)
    logits = torch.from_numpy(x).flatten(1) @ w.T
    k, p = logits.argmax(1), logits.softmax(1)
    rows = Rows(IDS, {"image": x, "predicted": k.numpy()})
    with torch.no_grad():
        found = gradient_sizes.function(Batch(rows, np.arange(N)), net)
    chance = p.gather(1, k[:, None]) * (w[k] - p @ w)
    assert torch.allclose(found["logit"], w[k].abs().amax(1))
    assert torch.allclose(found["probability"], chance.abs().amax(1), atol=1e-6)
    assert float(found["sum"].max()) < 1e-6, "the chances of all classes sum to 1 everywhere"
    assert float(found["probability"].min()) > 0.01


def test_an_attack_that_does_not_attack_is_an_error() -> None:
    right = np.arange(N) < 30
    changed = (np.arange(N) % 2 == 0) | ~right  # 15 of 30; those that were wrong do not matter
    rows = Rows(IDS, {"right": right, "changed": changed}, {"attack": "Feeble"})
    found = strong_enough.function(rows, 0.5)
    assert found == {"attack": "Feeble", "fooled": 0.5, "n": 30, "least": 0.5}
    with pytest.raises(AttackTooWeak, match=r"Feeble fools 50\.0 % of the 30 images that the classifier has right; at least 51 % expected"):
        strong_enough.function(rows, 0.51)
    nobody = Rows(IDS, {"right": np.zeros(N, bool), "changed": changed}, {"attack": "Feeble"})
    assert strong_enough.function(nobody, 0.0) == {"attack": "Feeble", "fooled": 0.0, "n": 0, "least": 0.0}
    with pytest.raises(AttackTooWeak, match=r"0\.0 % of the 0 images"):
        strong_enough.function(nobody, 0.9)
