"""Images attacked on another network are told from those of the same attack on the classifier, and are what they are called."""

from __future__ import annotations

from pathlib import Path

import torch

from salientry.attacks import MIM, PGD
from salientry.datasets import DATASETS
from salientry.experiment.image_sets import ImageSets
from salientry.experiment.run import Run
from salientry.experiment.scoring import set_name
from salientry.experiment.steps import classify, train_classifier
from salientry.experiment.transferred import FEWEST, LARGEST, SOURCE, Elsewhere, attacked_elsewhere, default_elsewhere
from salientry.protocol import GUARD
from tests.tiny import ROLES


def test_they_are_made_on_the_network_of_the_guards_own_and_counted_on_the_classifier(tmp_path: Path) -> None:
    run = Run(tmp_path)
    data = run.dataset(DATASETS["digits"](roles=ROLES))
    f = run.do(train_classifier, data["train"], SOURCE, seed=1)
    natural = {role: run.do(classify, data[role], f) for role in ("detector_train", "test")}
    sets, how = ImageSets(run, f, natural), Elsewhere(PGD(eps=0.3, steps=5))
    rows = run.get(attacked_elsewhere(sets, how, 5, "test", GUARD))
    own = run.get(sets.attacked(how.attack, "test", GUARD))
    assert set_name(rows.facts) != set_name(own.facts) and set_name(rows.facts).endswith("on another network")
    assert set(rows.column("drawn").tolist()) == {5} and how.title == f"{how.attack.title} on another network"
    net, source = run.get(f), run.get(run.do(train_classifier, natural["detector_train"], SOURCE))
    x = torch.from_numpy(rows.column("image")).float() / 255
    with torch.no_grad():
        assert (
            torch.from_numpy(rows.column("changed")) == (net(x).argmax(1) != torch.from_numpy(rows.column("label")))
        ).float().mean() > 0.9
        at_home = (source(x).argmax(1) != torch.from_numpy(rows.column("label"))).float().mean()
    assert at_home > rows.column("changed").mean() + 0.1, "they fool the network that they were made on"


def test_a_guard_makes_them_where_there_are_images_enough_and_they_are_small() -> None:
    assert [type(e.attack) for e in default_elsewhere((3, 32, 32), 10, FEWEST)] == [PGD, MIM]
    assert not default_elsewhere((3, 32, 32), 10, FEWEST - 1)
    assert not default_elsewhere((3, 32, 32), 1_000, FEWEST)
    assert not default_elsewhere((3, LARGEST + 1, 32), 10, 10_000)
    assert all(e.attack.eps == 0.3 for e in default_elsewhere((1, 28, 28), 10, FEWEST))
