"""Detectors of other libraries: their own scores, higher for adversarial images."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from salientry.errors import UsageError
from salientry.judging import FromART

from .test_judge import judged
from .tiny import images


class Reporting:
    """What ``detect`` may report."""

    def __init__(self, report: Any) -> None:
        self.report = report

    def detect(self, x: np.ndarray[Any, Any]) -> tuple[Any, np.ndarray[Any, Any]]:
        assert x.dtype == np.float32 and x.ndim == 4
        return self.report, np.zeros(len(x), bool)


X = torch.rand(3, 1, 4, 4)


def test_each_form_of_a_report_is_a_score() -> None:
    two, one = np.array([[1.0, 3.0], [2.0, 2.0], [5.0, 1.0]]), np.array([0.3, 0.1, 0.2])
    assert FromART(Reporting({"predictions": two}))(X).tolist() == [2, 0, -4]
    assert FromART(Reporting({"scores": one}))(X).tolist() == pytest.approx([0.3, 0.1, 0.2])
    assert FromART(Reporting(one))(X).tolist() == pytest.approx([-0.3, -0.1, -0.2]), "a similarity: low is adversarial"
    with pytest.raises(UsageError, match="found keys others"):
        FromART(Reporting({"others": one}))(X)
    with pytest.raises(UsageError, match=r"detect\(x\); found int"):
        FromART(3)


@pytest.mark.oracle
def test_a_detector_of_art_is_judged_as_it_is() -> None:
    """Its binary detector, a network of noisy and clean images: the scores are its own log-odds."""
    evasion = pytest.importorskip("art.defences.detector.evasion")
    from art.estimators.classification import PyTorchClassifier

    x = images()[0]
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        head = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 2))
        binary = PyTorchClassifier(head, nn.CrossEntropyLoss(), (1, 8, 8), 2, torch.optim.Adam(head.parameters()), device_type="cpu")
        theirs = evasion.BinaryInputDetector(binary)
        natural = x.float().numpy() / 255
        noisy = (natural + np.random.default_rng(0).normal(0, 0.1, natural.shape)).clip(0, 1).astype(np.float32)
        theirs.fit(np.concatenate([natural, noisy]), np.repeat([0, 1], len(x)), nb_epochs=2)
        found = judged(theirs)
    assert [*found.verdicts] == ["BinaryInputDetector"]
    with torch.no_grad():
        odds = head(x.float() / 255)
    known = {round(float(s), 4) for s in odds[:, 1] - odds[:, 0]}
    assert all(round(float(s), 4) in known for s in found.table.where(set="natural")["score"])
