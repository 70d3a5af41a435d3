"""What `fit` sees of stored rows: naturals and their own twins, their true classes, and nothing that was not asked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from salientry.batches import Batch
from salientry.errors import UsageError
from salientry.evidence_set import EvidenceSet
from salientry.experiment.steps import fit_detector
from salientry.experiment.stored_evidence import StoredEvidence, StoredPairs, evidence_of, stored_set
from salientry.learned import with_recipe
from salientry.protocol import STRICT
from salientry.rows import Rows

N = 61


def rows_of(offset: int, count: int = N, **columns: Any) -> Rows:
    """Image i is i + offset all over; its label is i % 3."""
    ids = np.array([f"{i:016x}" for i in range(count)])
    values = np.arange(count, dtype=np.float32) + offset
    image = np.tile(values[:, None, None, None], (1, 1, 2, 2))
    known = {"image": image, "label": np.arange(count) % 3, "logits": np.stack([values, -values], 1)}
    layers = {"activations/b": np.tile(values[:, None, None], (1, 3, 4)).astype(np.float32)}
    return Rows(ids, known | layers | columns, {"attack": f"A{offset}"})


def twins(k: int) -> Rows:
    return rows_of(1000 * (k + 1), evaluated=np.random.default_rng(k).random(N) < 0.8)


def made(attacks: int, needs: frozenset[str] = frozenset({"logits"}), shuffled: bool = False, **given: Any) -> StoredEvidence:
    return StoredEvidence(StoredPairs(rows_of(0), [twins(k) for k in range(attacks)], None, [], True, shuffled), needs, **given)


@pytest.mark.parametrize("attacks", [1, 3])
def test_naturals_come_first_then_their_twins_in_the_same_order(attacks: int) -> None:
    seen = made(attacks)
    n = len(seen) // 2
    value = seen.image[:, 0, 0, 0]
    assert 20 < n < N and seen.labels.tolist() == [0] * n + [1] * n
    assert (value[n:] % 1000).tolist() == value[:n].tolist()
    assert (value[n:] // 1000 - 1).tolist() == (value[:n] % attacks).tolist(), "row i is of attack i modulo their number"
    assert seen.classes.tolist() == (value % 1000 % 3).tolist()
    assert torch.equal(seen.logits[:, 0], value)
    pieces = list(seen.pieces(7))
    assert torch.equal(torch.cat([p.image for p in pieces]), seen.image) and max(len(p) for p in pieces) == 7


def test_of_all_adversarials_each_is_a_twin_and_its_natural_stands_in_the_same_place() -> None:
    for shuffled in (False, True):
        stored = StoredPairs(rows_of(0), [twins(k) for k in range(3)], None, [], True, shuffled, "all")
        seen = StoredEvidence(stored, frozenset({"logits"}))
        n, value = len(seen) // 2, seen.image[:, 0, 0, 0]
        expected = [i + 1000 * (k + 1) for k in range(3) for i in np.flatnonzero(twins(k).column("evaluated"))]
        assert value[n:].tolist() == expected and value[:n].tolist() == [v % 1000 for v in expected]
        assert int(seen.labels.sum()) == n and int(seen.labels[:n].sum()) == (n // 2 if shuffled else 0)
        settings = SimpleNamespace(needs=frozenset(), view=lambda e: e.image[:, 0, 0, :1])
        natural, _ = next(iter(seen.pairs(seen.labels, settings).batches(1000, None)))
        assert natural[:, 0].tolist() == torch.where(seen.labels[:n] == 1, value[n:], value[:n]).tolist()


def test_shuffled_labels_say_which_have_changed_places() -> None:
    plain, seen = made(1), made(1, shuffled=True)
    n = len(seen) // 2
    assert int(seen.labels[:n].sum()) == n // 2 and torch.equal(seen.labels[n:], 1 - seen.labels[:n])
    assert torch.equal(seen.image, plain.image)
    settings = SimpleNamespace(needs=frozenset(), view=lambda e: e.image[:, 0, 0, :1])
    natural, adversarial = next(iter(seen.pairs(seen.labels, settings).batches(1000, None)))
    values = seen.image[:, 0, 0, 0]
    assert natural[:, 0].tolist() == torch.where(seen.labels[:n] == 1, values[n:], values[:n]).tolist()
    assert adversarial[:, 0].tolist() == torch.where(seen.labels[:n] == 1, values[:n], values[n:]).tolist()


def test_only_what_is_needed_is_there() -> None:
    seen = made(2)
    with pytest.raises(UsageError, match="no stored map, only image, logits: a detector names what it reads"):
        _ = seen.map
    assert dict(seen.activations) == {}
    for needs in ({"activations"}, {"activations/b"}):
        layers = made(1, frozenset(needs)).activations
        assert list(layers) == ["b"] and layers["b"].mean.shape[1] == 4
    with pytest.raises(UsageError, match="no stored map; classify them"):
        made(1, frozenset({"map"}))
    bare = Batch(Rows(np.array(["0"]), {"image": np.zeros((1, 1, 2, 2), np.float32)}, {}), np.arange(1))
    with pytest.raises(UsageError, match="no stored activations; classify"):
        evidence_of(bare, frozenset({"activations"}))


def test_evidence_for_scoring_has_the_classifier_only_where_it_is_asked() -> None:
    net, batch = nn.Flatten(), Batch(rows_of(0), np.arange(5))
    assert evidence_of(batch, frozenset({"classifier"}), net).classifier is net
    assert evidence_of(batch, frozenset({"logits"}), net).classifier is None
    assert evidence_of(batch, frozenset({"activations/b"})).activations["b"].maximum.shape == (5, 4)


class Spy:
    """A detector that notes what its fit was given."""

    needs = frozenset({"logits", "training", "copies", "classifier"})
    group, seen = "mine", list[Any]()
    build = None

    def fit(self, evidence: Any, labels: Any, *, seed: int) -> nn.Module:
        self.seen.append((evidence, labels, seed))
        return with_recipe(nn.Linear(1, 1), self)


def test_fit_sees_training_naturals_harmless_copies_and_the_classifier() -> None:
    net, copies = nn.Flatten(), [rows_of(5), rows_of(6)]
    fitted = fit_detector.function(rows_of(0), [twins(0)], Spy(), STRICT, None, rows_of(7, 20), copies, net, seed=3)
    evidence, labels, seed = Spy.seen.pop()
    assert seed == 3 and torch.equal(labels, evidence.labels) and evidence.classifier is net
    assert evidence.training.image[:, 0, 0, 0].tolist() == [i + 7 for i in range(20)]
    assert evidence.training.classes.tolist() == [i % 3 for i in range(20)]
    assert evidence.copies.image[:, 0, 0, 0].tolist() == [i + 5 for i in range(N)] + [i + 6 for i in range(N)]
    assert vars(fitted)["facts"]["group"] == "mine"
    fit_detector.function(rows_of(0), [twins(0)], Spy(), STRICT, seed=0)
    evidence, _, _ = Spy.seen.pop()
    assert (evidence.training, evidence.copies, evidence.classifier) == (None, None, None)


def test_several_rows_are_read_one_after_the_other() -> None:
    found = stored_set([rows_of(0, 3), rows_of(10, 2)], frozenset({"logits"}))
    assert isinstance(found, EvidenceSet)
    assert found.image[:, 0, 0, 0].tolist() == [0, 1, 2, 10, 11]
    assert [p.logits[:, 0].tolist() for p in found.pieces(2)] == [[0, 1], [2, 10], [11]]
