"""A net that is trained on adversarials of itself resists them; what it is trained on; and it goes on after a stop."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from salientry.attacks import BIM, FGSM, MIM, CarliniWagner
from salientry.classifiers import AdversariallyTrained, CompactCNN, ResidualCNN, load_classifier, save_classifier
from salientry.errors import UsageError
from salientry.keys import decode, encode
from salientry.learned import fingerprint
from salientry.training import CHECKPOINTS, Checkpoints
from salientry.types import Shape

from .. import examples
from .test_compact import stripes

SHAPE = Shape(1, 12, 12, 3)
BASES: dict[str, Any] = {
    "compact": CompactCNN(width=4, epochs=12, batch=20, shift=0),
    "residual": ResidualCNN(width=4, epochs=12, batch=20, lr=0.1, crop=0, flip=False),
}
EVERY = pytest.mark.parametrize("base", BASES.values(), ids=BASES)


def right(net: nn.Module, x: Tensor, y: Tensor, attack: Any = None) -> float:
    """Share of images that it has right, under an attack."""
    x = x if attack is None else attack(net, x, y, seeds=examples.seeds(len(x)))
    return float((examples.predicted(net, x) == y).float().mean())


@EVERY
def test_it_is_right_under_attacks_that_fool_the_same_net_trained_on_naturals(base: Any) -> None:
    """A column .4 brighter than the brightest noise: a budget of .2 leaves it the brightest, and whoever looks at it alone is right.
    More steps than in training, a longer memory, one step, and noise: the net is robust, its slope is not merely flat.
    """
    (x, y), (new, labels) = stripes(300, SHAPE), stripes(100, SHAPE, seed=1)
    plain = base.fit(x, y, SHAPE, seed=0)
    robust = AdversariallyTrained(base, BIM(0.19, 0.095, 4)).fit(x, y, SHAPE, seed=0)
    strong = BIM(0.19, 0.03, 20)
    assert right(plain, new, labels) > 0.97 and right(robust, new, labels) > 0.97
    assert right(plain, new, labels, strong) < 0.5
    for attack in (strong, MIM(0.19, 0.03, 20), FGSM(0.19)):
        assert right(robust, new, labels, attack) > 0.9
    noise = 0.19 * torch.randn(new.shape, generator=torch.Generator().manual_seed(0)).sign()
    assert right(robust, (new + noise).clamp(0, 1), labels) > 0.95
    assert not robust.training


@EVERY
def test_an_attack_that_moves_nothing_leaves_the_base_s_own_training(base: Any) -> None:
    x, y = stripes(60, SHAPE)
    base = replace(base, epochs=2, **({"shift": 1} if isinstance(base, CompactCNN) else {"crop": 1}))
    for share in (0.5, 1.0):
        still = AdversariallyTrained(base, FGSM(0.0), share).fit(x, y, SHAPE, seed=4)
        plain = base.fit(x, y, SHAPE, seed=4)
        for name, value in still.state_dict().items():  # the same images in another memory layout: the last bits are not the same
            torch.testing.assert_close(value, plain.state_dict()[name], rtol=1e-3, atol=1e-4)


@dataclass(frozen=True)
class Noted:
    """An attack that makes images grey, and notes what it was given."""

    eps: float = 0.5
    seen: list[Any] = field(default_factory=list, compare=False)

    def __call__(self, classifier: nn.Module, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        self.seen.append((x, y, seeds, [p.detach().clone() for p in classifier.parameters()]))
        return torch.full_like(x, 0.5)


@pytest.mark.parametrize(("share", "count"), [(1.0, 20), (0.5, 10), (0.33, 7)])
def test_of_each_batch_so_many_are_attacked_with_the_net_of_that_step(share: float, count: int) -> None:
    x, y = stripes(60, SHAPE)
    attack, fed = Noted(), list[Tensor]()

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        fed.extend([inputs[0]] if inputs[0].shape[1:] == x.shape[1:] and inputs[0].shape[0] == 20 else [])

    handle = nn.modules.module.register_module_forward_pre_hook(note)
    try:
        AdversariallyTrained(replace(BASES["compact"], epochs=2), attack, share).fit(x, y, SHAPE, seed=0)
    finally:
        handle.remove()
    assert len(attack.seen) == 6
    by_image = {tuple(i.flatten().tolist()): int(k) for i, k in zip(x, y, strict=True)}
    for given, labels, seeds, _ in attack.seen:
        assert len(given) == len(labels) == len(seeds) == count == len(set(seeds.tolist()))
        assert [by_image[tuple(i.flatten().tolist())] for i in given] == labels.tolist(), "the true label is the one to leave"
    weights = [w for *_, w in attack.seen]
    assert all(not torch.equal(a[0], b[0]) for a, b in pairwise(weights)), "the net moves between steps"
    batches = fed[::3]  # the whole net, its first block and its convolution see the same
    assert len(batches) == 6
    for batch in batches:
        grey = (batch == 0.5).flatten(1).all(1)
        assert grey.tolist() == [True] * count + [False] * (20 - count)


class Stopped(Exception):
    """The process is killed."""


@EVERY
def test_training_goes_on_where_it_was_to_the_same_weights(base: Any, tmp_path: Path) -> None:
    x, y = stripes(60, SHAPE)
    base = replace(base, epochs=5, **({"shift": 1} if isinstance(base, CompactCNN) else {"crop": 1}))
    spec = AdversariallyTrained(base, BIM(0.1, 0.05, 2), 0.5)
    whole = fingerprint(spec.fit(x, y, SHAPE, seed=2))

    class Halting:
        """Images of which the tenth batch is never read."""

        reads = 0

        def __len__(self) -> int:
            return len(x)

        def __getitem__(self, at: Tensor) -> Tensor:
            self.reads += 1
            if self.reads > 10:
                raise Stopped
            return x[at]

    def again(images: Any) -> nn.Module:
        token = CHECKPOINTS.set(Checkpoints(tmp_path / "state", seconds=0.0))
        try:
            return spec.fit(images, y, SHAPE, seed=2)
        finally:
            CHECKPOINTS.reset(token)

    with pytest.raises(Stopped):
        again(Halting())
    state = torch.get_rng_state()
    counted = Halting()
    net = again(counted)
    assert counted.reads == 6, "three of five epochs of three batches were done"
    assert fingerprint(net) == whole
    assert torch.equal(torch.get_rng_state(), state)


def test_it_is_saved_and_read_again(tmp_path: Path) -> None:
    x, y = stripes(40, SHAPE)
    spec = AdversariallyTrained(replace(BASES["compact"], epochs=1), BIM(0.1, 0.1, 1), 0.5)
    assert decode(encode(spec)) == spec
    net = spec.fit(x, y, SHAPE, seed=0)
    save_classifier(net, tmp_path)
    assert fingerprint(load_classifier(str(tmp_path))) == fingerprint(net)
    assert vars(net)["recipe"][0] == spec


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"base": examples.classifiers()["picture"]}, "the base is CompactCNN or ResidualCNN; found PictureCNN"),
        ({"attack": CarliniWagner()}, "an attack with a budget is expected; found CarliniWagner"),
        ({"share": 0.0}, "share must lie in"),
        ({"share": 1.5}, "share must lie in"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        AdversariallyTrained(**changes)
