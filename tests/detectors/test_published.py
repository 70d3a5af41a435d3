"""Each of the published detectors against a number, a figure or the stated setting of its paper, on MNIST and one small network; the second
opinion as PID, by what its auxiliary model believes.

Not here, for a reason: ``Energy``, whose numbers are of large networks on CIFAR and of images out of distribution (its equation is tested
in closed form); ``FourierSpectrum``, whose numbers are of a VGG-16 on CIFAR (its spectra are NumPy's); ``PValues``, which is an aggregate
of members that the paper does not have (its distribution is Fisher's).
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from salientry.attacks import BIM, FGSM, DeepFool
from salientry.datasets import MNIST
from salientry.detectors import LID, MSP, PASA, CounterAttack, DeepKNN, KernelDensity, LayerStatistics, Mahalanobis, SecondNet
from salientry.detectors._reference import numbers, reference_of
from salientry.detectors.deep_knn import p_values
from salientry.detectors.feature_squeezing import MNIST as SQUEEZED
from salientry.detectors.mahalanobis import gaussians_of
from salientry.evidence import Evidence
from salientry.evidence_set import EvidenceSet
from salientry.learned import seeded
from salientry.metrics import auroc

from ..examples import seeds

REAL = Path(os.environ.get("SALIENTRY_DATA") or "nowhere") / "MNIST"
HIDDEN = "8"  # the last hidden layer, after its ReLU
LAYERS = ("1", "4", HIDDEN)  # every hidden layer, after its ReLU
pytestmark = [
    pytest.mark.nightly,
    pytest.mark.data,
    pytest.mark.skipif(not REAL.is_dir(), reason="SALIENTRY_DATA is not set, or there is no MNIST folder in it"),
]


class World(NamedTuple):
    """A network trained on 6,000 digits, those digits, 1,000 others and their labels, and 200 that it is right on."""

    net: nn.Module
    x: Tensor
    y: Tensor
    test: Tensor
    truth: Tensor
    right: Tensor
    answer: Tensor


def trained(x: Tensor, y: Tensor) -> nn.Sequential:
    """Two convolutions and a dense layer of 128, as the networks for MNIST of these papers have, but narrower convolutions."""
    with seeded(0):
        body = [nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
        net = nn.Sequential(*body, nn.Linear(800, 128), nn.ReLU(), nn.Linear(128, 10))
        solver = torch.optim.Adam(net.parameters(), lr=1e-3)
        for _ in range(5):
            for at in torch.randperm(len(x)).split(50):
                solver.zero_grad()
                nn.functional.cross_entropy(net(x[at]), y[at]).backward()
                solver.step()
    return net.eval().requires_grad_(False)


@cache
def world() -> World:
    training, test = MNIST().read()
    x, y = torch.tensor(training.images[:6000]).float() / 255, torch.tensor(training.labels[:6000]).long()
    net = trained(x, y)
    other, truth = torch.tensor(test.images[:1000]).float() / 255, torch.tensor(test.labels[:1000]).long()
    known = net(other).argmax(1) == truth
    assert float(known.float().mean()) > 0.95
    return World(net, x, y, other, truth, other[known][:200], truth[known][:200])


@cache
def pairs(name: str) -> tuple[Tensor, Tensor]:
    """Of the 200 those that were fooled, and what fooled, rounded to 8 bits."""
    w, spec = world(), {"fgsm": FGSM(0.3), "bim": BIM(0.3, 0.01, 40), "deepfool": DeepFool()}[name]
    found = (spec(w.net, w.right, w.answer, seeds=seeds(200)) * 255).round() / 255
    fooled = w.net(found).argmax(1) != w.answer
    return w.right[fooled], found[fooled]


def attacked(name: str) -> Tensor:
    return pairs(name)[1]


def look(x: Tensor) -> Evidence:
    return Evidence(world().net, None, x, frozenset({f"activations/{HIDDEN}"}))


def everywhere(x: Tensor) -> Evidence:
    return Evidence(world().net, None, x, frozenset(f"activations/{n}" for n in LAYERS))


@cache
def reference(count: int) -> Any:
    w = world()
    seen = look(w.x)
    parts = {"image": w.x, f"activations/{HIDDEN}": getattr(seen, f"activations/{HIDDEN}")}
    return reference_of("a test", EvidenceSet(parts, w.y), (HIDDEN,), count)


def test_msp_tells_errors_from_right_answers_as_in_the_paper() -> None:
    """Hendrycks, Gimpel 2017, the first table: the area under the curve is 97 % on MNIST. Within 4 points."""
    w = world()
    scores, wrong = MSP().view(look(w.test))[:, 0], w.net(w.test).argmax(1) != w.truth
    assert auroc(scores[~wrong].numpy(), scores[wrong].numpy()) == pytest.approx(0.97, abs=0.04)


def test_feature_squeezing_finds_nearly_what_the_paper_says_it_finds() -> None:
    """Xu, Evans, Qi 2018: 98 % of the attacked images of MNIST at 5 % of naturals, with one bit and a 2x2 median. Within 13 points, on FGSM
    and BIM of 0.3 and on DeepFool: the paper's network is right on 99 % of the digits, this one on 95 %.
    """
    naturals = SQUEEZED.view(look(world().test))[:, 0]
    threshold = naturals.quantile(0.95)
    found = [float((SQUEEZED.view(look(attacked(a)))[:, 0] > threshold).float().mean()) for a in ("fgsm", "bim", "deepfool")]
    assert sum(found) / 3 > 0.85, found


def test_lid_of_attacked_images_is_higher_with_the_authors_setting() -> None:
    """Ma et al. 2018, what the paper is about, with its k = 20 among 100: the dimension rises from naturals to attacked images."""
    for name in ("fgsm", "bim", "deepfool"):
        natural, adversarial = (LID(20, 100).view(look(x), reference(100))[:, 0] for x in (world().right, attacked(name)))
        assert float(adversarial.median()) > float(natural.median()), name


def halves(name: str) -> tuple[EvidenceSet, Tensor, Evidence, Evidence]:
    """Pairs of every second fooled image with its natural, to be fitted on, and the others, natural and attacked."""
    w, (natural, found) = world(), pairs(name)
    parts = [{n: getattr(e, n) for n in sorted(e.needs)} for e in map(everywhere, (w.x, natural[::2], found[::2]))]
    known, *fit = ({"image": x} | p for x, p in zip((w.x, natural[::2], found[::2]), parts, strict=True))
    both = {n: torch.cat([p[n] for p in fit]) for n in known}
    given = EvidenceSet(both, torch.zeros(len(both["image"]), dtype=torch.int64), training=EvidenceSet(known, w.y), classifier=w.net)
    return given, given.labels, everywhere(natural[1::2]), everywhere(found[1::2])


def area(spec: Any, name: str) -> float:
    """AUROC on the half that it was not fitted on."""
    given, labels, natural, adversarial = halves(name)
    fitted = spec.fit(given, labels, seed=0)
    return auroc(fitted(natural).detach().numpy(), fitted(adversarial).detach().numpy())


def test_the_nearest_gaussian_is_as_good_a_classifier_as_softmax_and_finds_fgsm() -> None:
    """Lee et al. 2018, the first figure: the class at the least Mahalanobis distance in the last hidden layer is right about as often as
    the softmax classifier; asked here for: within 3 points. Their table of known attacks has 99.9 % for FGSM (CIFAR-10): within 5 points.
    """
    w, seen = world(), look(world().x)
    training = EvidenceSet({"image": w.x, f"activations/{HIDDEN}": getattr(seen, f"activations/{HIDDEN}")}, w.y)
    gaussians = gaussians_of(training, (HIDDEN,), 0.01)
    hidden = look(w.test).activations[HIDDEN].mean
    apart = ((hidden[:, None] - gaussians.mean0) @ gaussians.whitening0).square().sum(2)  # type: ignore[operator]
    right, usual = (float((answer == w.truth).float().mean()) for answer in (apart.argmin(1), w.net(w.test).argmax(1)))
    assert right == pytest.approx(usual, abs=0.03)
    assert area(Mahalanobis(layers=LAYERS), "fgsm") > 0.95


def test_multilid_finds_nearly_everything() -> None:
    """Lorenz et al. 2022: detection is "(almost) perfect". Asked here for: .95, of FGSM. That it finds more than LID, as the paper says,
    is not seen on this network, where both find nearly everything.
    """
    assert area(LID(20, 1000, LAYERS, multi=True), "fgsm") > 0.95


def test_a_small_network_on_one_layer_finds_attacks_and_large_ones_best() -> None:
    """Metzen et al. 2017: attacked images are told from naturals "surprisingly well" by what a layer gives. Asked here for: .9."""
    for name in ("fgsm", "bim"):
        assert area(LayerStatistics(layers=(HIDDEN,)), name) > 0.9, name


@cache
def auxiliary() -> nn.Module:
    """Another architecture on the same digits: two dense layers."""
    w = world()
    with seeded(1):
        net = nn.Sequential(nn.Flatten(), nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10))
        solver = torch.optim.Adam(net.parameters(), lr=1e-3)
        for _ in range(10):
            for at in torch.randperm(len(w.x)).split(50):
                solver.zero_grad()
                nn.functional.cross_entropy(net(w.x[at]), w.y[at]).backward()
                solver.step()
    return net.eval().requires_grad_(False)


def test_an_auxiliary_model_of_another_kind_does_not_believe_the_answers_to_attacked_images() -> None:
    """Han et al. 2025: by the auxiliary model's belief in the answer alone the area is 99.3 % (CIFAR-10, all attacks). Within 5 points."""
    w, other = world(), auxiliary()

    def scores(x: Tensor) -> Any:
        seen = Evidence(None, None, x, predicted=w.net(x).argmax(1), second_net_logprobs=other(x).log_softmax(1))
        return SecondNet().view(seen)[:, 0].numpy()

    assert auroc(scores(w.right), scores(attacked("deepfool"))) == pytest.approx(0.993, abs=0.05)


def test_density_falls_under_the_authors_bandwidth_for_mnist() -> None:
    """Feinman et al. 2017, with the authors' bandwidth for MNIST, 1.20: an attacked image lies in a thinner part of the class that is
    predicted than naturals do. Asked here for: in 8 of 10 comparisons.
    """
    spec = KernelDensity(1.2, layers=(HIDDEN,))
    natural, adversarial = (
        spec.view(look(x), reference(2000), numbers(torch.tensor([1.2])))[:, 0] for x in (world().right, attacked("deepfool"))
    )
    assert auroc(natural.numpy(), adversarial.numpy()) > 0.8


def test_credibility_of_attacked_images_is_lower_with_the_papers_75_neighbours_and_750_naturals() -> None:
    """Papernot, McDaniel 2018, with the paper's setting for MNIST: k = 75, 750 calibration points of the test set. That of naturals is
    about one half, being a p-value; that of attacked images is far lower.
    """
    w, spec = world(), DeepKNN(layers=(HIDDEN,))
    against = [spec.nonconformity(look(x), reference(2000)) for x in (w.test[:750], w.test[750:], attacked("deepfool"))]
    calibration = against[0].sort().values
    natural, adversarial = (p_values(a, calibration) for a in against[1:])
    assert float(natural.mean()) > 0.45 and float((natural <= 0.05).float().mean()) < 0.1
    assert float(adversarial.mean()) < 0.2


def test_the_neighbours_class_is_right_about_most_attacked_images() -> None:
    """Papernot, McDaniel 2018, the table of adversarial examples: the class that conforms most with the neighbours is the right one for
    94.4 % of the C&W images of MNIST, all of which fool the network, and on naturals about as often as the network's answer. Here it is for
    66 % of DeepFool's, which stop at the boundary too, with 2,000 digits to compare with and one layer, where the paper has all of
    both: asked for are more than half, and 5 points.
    """
    w, spec = world(), DeepKNN(layers=(HIDDEN,))

    def right(x: Tensor, y: Tensor) -> float:
        each = [spec.nonconformity(look(x).put(predicted=torch.full((len(x),), k)), reference(2000)) for k in range(10)]
        return float((torch.stack(each, 1).argmin(1) == y).float().mean())

    natural, found = pairs("deepfool")
    truth = w.net(natural).argmax(1)  # which has these right
    assert right(found, truth) > 0.5 > float((w.net(found).argmax(1) == truth).float().mean())
    assert right(w.test, w.truth) == pytest.approx(float((w.net(w.test).argmax(1) == w.truth).float().mean()), abs=0.05)


def test_attacked_images_take_far_fewer_steps() -> None:
    """Zhao et al. 2021, what the paper is about: attacked images cost an attack far less than naturals. Asked here for: a quarter."""
    natural, adversarial = (-CounterAttack(40, 0.01).view(look(x))[:, 0] for x in (world().right, attacked("deepfool")))
    assert float(adversarial.median()) < float(natural.median()) / 4


def test_logits_move_with_noise_as_far_as_the_authors_record_says() -> None:
    """The authors' notebook on MNIST: with noise of 0.01 of the width the L1 distance of naturals' logits lies between 0.16 and 10.1."""
    moved = PASA(0.01).view(look(world().right[:100]))[:, 0].exp()
    assert 0.16 < float(moved.median()) < 10.1
