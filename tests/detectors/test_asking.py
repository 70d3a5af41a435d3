"""Detectors that ask the classifier again, fitted where stored pairs come without one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from salientry.detectors import PASA, CounterAttack, FeatureSqueezing, PValues
from salientry.detectors._asking import answers
from salientry.errors import UsageError
from salientry.evidence import Evidence
from salientry.evidence_set import EvidenceSet, Views

from .. import examples

ASK = [FeatureSqueezing(), CounterAttack(10, 0.02), PASA(steps=2), PValues()]


class Stored(EvidenceSet):
    """As the evidence of a store is: its pieces have the classifier, its pairs have none."""

    def pairs(self, labels: torch.Tensor, settings: Any, *parts: Any) -> Any:
        return EvidenceSet(self._parts, self.classes).pairs(labels, settings, *parts)


@pytest.mark.parametrize("spec", ASK, ids=lambda s: type(s).__name__)
def test_they_learn_the_same_from_stored_evidence_and_from_views(spec: Any) -> None:
    natural, adversarial = examples.natural_and_adversarial(spec, 40)
    given = EvidenceSet.of(natural, adversarial, classifier=natural.classifier)
    stored = Stored(given._parts, given.classes, classifier=given.classifier)
    fitted = spec.fit(stored, stored.labels, seed=0)
    seen = [spec.view(e, *fitted.parts) for e in (natural, adversarial)]
    again = spec.fit(Views(*seen), Views(*seen).labels, *fitted.parts, seed=0)
    with torch.no_grad():
        assert torch.allclose(fitted(natural), again(natural), rtol=1e-4, atol=1e-5)
        assert float(fitted(adversarial).mean()) > float(fitted(natural).mean())


@pytest.mark.parametrize("alive", [False, True])
def test_answers_are_in_the_graph_where_the_images_are(alive: bool) -> None:
    net, x = examples.conv(examples.SHAPES["grey"]), examples.images(examples.SHAPES["grey"], 3).requires_grad_(alive)
    found = answers(Evidence(net, None, x), 0.5 * x)
    assert found.requires_grad == alive and torch.equal(found.detach(), net(0.5 * x.detach()).detach())


def test_without_a_classifier_it_says_so() -> None:
    with pytest.raises(UsageError, match="needs a classifier, and none was given"):
        answers(Evidence(None, None, torch.zeros(1, 1, 2, 2)), torch.zeros(1, 1, 2, 2))
