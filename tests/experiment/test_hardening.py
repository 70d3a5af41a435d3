"""Adversarial training of detectors that read no map: ID sees the new images themselves, JSD the classifier's gradient in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from salientry.adaptive import Alternating, Simultaneous
from salientry.adaptive.hardening import Hardening
from salientry.attacks import FGSM
from salientry.batches import Batch
from salientry.datasets import Arrays
from salientry.detectors import ID, JSD, SmallCNN
from salientry.errors import UsageError
from salientry.experiment.evaluation import TrainingSet, trained
from salientry.experiment.image_sets import EvidenceVariant, ImageSets
from salientry.experiment.run import Run
from salientry.experiment.scoring import score, scores_of, set_name
from salientry.experiment.steps import classify
from salientry.experiment.stored_evidence import StoredPairs
from salientry.experiment.white_box import attack_defended, harden, passes
from salientry.learned import facts_of, fingerprint
from salientry.metrics import auroc
from salientry.protocol import PUBLISHED, STRICT
from salientry.recipes.experiment import prepare
from salientry.recipes.paper_white_box import WhiteBoxExperiment
from salientry.runner.step import Handle
from salientry.types import Roles, Shape

from .. import examples
from ..tiny import WHITE_BOX
from ..tiny_fast import config

N, SHAPE = 60, Shape(1, 12, 12, 4)
HEAD = SmallCNN(width=4, epochs=8, batch=20)
NOBODY = EvidenceVariant(None)  # draws no maps
ROLE = "detector_train"
DETECTORS = {"ID": ID(HEAD), "JSD": JSD(head=HEAD), "JSD, every logit": JSD("full", HEAD)}


@pytest.fixture(scope="module")
def image_sets(tmp_path_factory: pytest.TempPathFactory) -> ImageSets:
    """Random images and a random classifier that has them right."""
    run, net, x = Run(tmp_path_factory.mktemp("store")), examples.conv(SHAPE), examples.images(SHAPE, N)
    roles = Roles(train=0, detector_train=N, validation=0, calibration=0, test=0)
    data = run.dataset(Arrays((x * 255).round().to(torch.uint8).numpy(), examples.predicted(net, x).numpy(), roles))
    f = run.given(net, fingerprint(net))
    return ImageSets(run, f, {ROLE: run.do(classify, data[ROLE], f)})


def shown(image_sets: ImageSets, detector: Any, images: Handle) -> Handle:
    return image_sets.with_evidence(detector, images, ROLE, NOBODY)


def one_round(image_sets: ImageSets, detector: Any, attack: Any, protocol: Any = PUBLISHED) -> tuple[Handle, Handle, Handle]:
    """What was trained on FGSM; the white-box images against it, as a detector is shown them; what was trained on them too."""
    run, natural = image_sets.run, image_sets.natural[ROLE]
    fitted = trained(image_sets, detector, PUBLISHED, TrainingSet((FGSM(0.1),), role=ROLE), NOBODY)
    made = shown(image_sets, detector, run.do(attack_defended, natural, image_sets.classifier, attack, protocol, fitted, seed=1))
    twins = shown(image_sets, detector, image_sets.attacked(FGSM(0.1), ROLE, PUBLISHED))
    sets = (shown(image_sets, detector, natural), [twins, made])
    return fitted, made, run.do(harden, *sets, fitted, Hardening(epochs=60, lr=3e-3), protocol, 1, "it", seed=0)


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("protocol", [PUBLISHED, STRICT], ids=lambda p: p.name)
def test_what_is_trained_on_is_the_view_of_the_white_box_image_as_stored(image_sets: ImageSets, name: str, protocol: Any) -> None:
    """JSD's gradient is the one in the new image, of the class that the classifier now says, by autograd."""
    detector, run, net = DETECTORS[name], image_sets.run, examples.conv(SHAPE)
    _, made, _ = one_round(image_sets, detector, Alternating(0.1, 2), protocol)
    rows = run.get(made)
    batch = Batch(rows, np.arange(N))
    x = batch.image.requires_grad_()
    logits = net(x)
    assert torch.equal(logits.argmax(1), batch.predicted), "of the stored image"
    wanted = {"ID": [], "JSD": [logits.gather(1, batch.predicted[:, None])], "JSD, every logit": list(logits.T)}[name]
    gradients = [torch.autograd.grad(w.sum(), x, retain_graph=True)[0] for w in wanted]
    pairs = StoredPairs(run.get(shown(image_sets, detector, image_sets.natural[ROLE])), [rows], detector, [], True)
    natural, seen = next(iter(pairs.batches(N, None)))
    torch.testing.assert_close(seen, torch.cat([x, *gradients], 1).detach()[torch.from_numpy(pairs.rows)])
    assert bool((natural != seen).flatten(1).any(1).all())


@pytest.mark.parametrize("name", DETECTORS)
def test_a_hardened_detector_knows_the_images_that_it_missed(image_sets: ImageSets, name: str) -> None:
    """On the images that it was trained on: a truth about training, no measurement."""
    run, detector = image_sets.run, DETECTORS[name]
    fitted, made, better = one_round(image_sets, detector, Alternating(0.1, 3, gradient="image", project=True))
    before = fingerprint(run.get(fitted))
    assert facts_of(run.get(better)) | {"hardened": "it", "round": 1, "pairs": 2 * N} == facts_of(run.get(better))
    assert fingerprint(run.get(fitted)) == before, "the one of the round before is as it was"
    natural, found = run.get(shown(image_sets, detector, image_sets.natural[ROLE])), []
    for d in (fitted, better):
        scored = score.function(run.get(d), [natural, run.get(made)])
        found.append(auroc(*(scores_of(scored, set_name(r.facts)) for r in (natural, run.get(made)))))
    assert found[1] > max(0.9, found[0] + 0.05), found


def test_jsd_is_not_hardened_on_images_without_their_gradient(image_sets: ImageSets) -> None:
    detector, run, natural = JSD(head=HEAD), image_sets.run, image_sets.natural[ROLE]
    fitted = trained(image_sets, detector, PUBLISHED, TrainingSet((FGSM(0.1),), role=ROLE), NOBODY)
    bare = run.do(attack_defended, natural, image_sets.classifier, Alternating(0.1, 2), PUBLISHED, fitted, seed=1)
    with pytest.raises(UsageError, match="no stored gradient"):
        run.get(run.do(harden, shown(image_sets, detector, natural), [bare], fitted, Hardening(), PUBLISHED, 1, "it", seed=0))


def test_a_random_weight_is_a_manner_of_hardening_and_draws_anew_each_round(image_sets: ImageSets) -> None:
    attack = Simultaneous(0.1, 2, weight="random")
    fitted, _, better = one_round(image_sets, ID(HEAD), attack)
    run, natural = image_sets.run, image_sets.natural[ROLE]
    assert facts_of(run.get(better))["hardened"] == "it"
    first, again, second = (run.do(attack_defended, natural, image_sets.classifier, attack, PUBLISHED, fitted, seed=k) for k in (1, 1, 2))
    assert first.fingerprint == again.fingerprint != second.fingerprint
    images = [run.get(h).column("image") for h in (first, second)]
    assert (images[0] != images[1]).any(axis=(1, 2, 3)).mean() > 0.5
    whole = run.get(run.do(passes, natural, image_sets.classifier, attack, [2], fitted))
    few = run.get(run.do(passes, natural.first(7), image_sets.classifier, attack, [2], fitted))
    np.testing.assert_array_equal(few.column("linf@2"), whole.take(np.arange(7)).column("linf@2"))


def test_the_recipe_hardens_image_detectors_where_it_is_asked_to_and_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    run = Run(tmp_path)
    found = {}
    for asked in (False, True):
        experiment, outputs = prepare(run, config(headline=(), trunk=None))
        box = replace(WHITE_BOX, hardened_image_detectors=asked, random_weight=asked)
        WhiteBoxExperiment(experiment, box, outputs).training()
        found[asked] = outputs
    keys = {asked: [h.fingerprint for h in (*o.hardened, *o.white_box)] for asked, o in found.items()}
    assert set(keys[False]) < set(keys[True]), "what was hardened before has its keys"
    kinds = {asked: [type(settings_of(h)).__name__ for h in o.hardened] for asked, o in found.items()}
    assert set(kinds[False]) == {"SMD", "SPD"} and set(kinds[True]) == {"SMD", "SPD", "ID", "JSD"}
    assert kinds[True].count("ID") == kinds[True].count("SPD")
    assert {str(h.args["against"]) for h in found[True].hardened} - {str(h.args["against"]) for h in found[False].hardened} == {
        "Eq. 5, random weight"
    }
    steps = {"SMD": "draw", "SPD": "draw", "ID": "attack_defended", "JSD": "differentiate"}
    for h in found[True].hardened:
        last = h.args["attacked"][-1]
        assert last.step is not None and last.step.name == steps[type(settings_of(h)).__name__]
        drawn = {u.step.name for u in run.order([last]) if u.step} & {"draw", "fit_saliency"}
        assert bool(drawn) is (steps[type(settings_of(h)).__name__] == "draw"), "whoever reads no map stands on none"


def settings_of(hardened: Handle) -> Any:
    """Of the detector that was hardened."""
    h: Any = hardened
    while h.step.name == "harden":
        h = h.args["detector"]
    return h.args["settings"]
