"""What a guard finds: `python -m benchmarks.guard_detection [--workers N] [--out FILE]`.

CIFAR-10 with the classifier of ``fast`` (trained on the role *train*). Guards are fitted on 5,000 images that it was not trained on
(*detector_train*): ``own``, from these images alone; ``second``, which is given a second network of the same kind, trained on the
classifier's own training images from another seed; ``cascade``, like ``own``, which asks two changes of each image and the rest of the
fifth that these find most suspicious. All are tried on the role *test*, which no part of them has seen: attacks as 8-bit
images, counted where they then fool a classifier that had the natural right; the same saved as JPEG; harmless changes, counted where
the answer stays. The cells are fixed here, before anything is fitted. Attacks of foolbox and ART need the extra ``oracle``.

Everything is kept in ``SALIENTRY_HOME`` and resumed from there. Writes results/benchmarks/guard-detection.json unless another is named.
"""

from __future__ import annotations

import argparse
import datetime
import json
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import salientry
from salientry import Guard, Run, fit_guard
from salientry.attacks import BIM, FGSM, MIM, PGD, PGDL2, CarliniWagner, DeepFool, MarginDescent, Patch, as_attack
from salientry.calibration import pac_threshold, smallest_sample
from salientry.classifiers import CompactCNN
from salientry.controls import Transplant
from salientry.datasets import CIFAR10
from salientry.detectors import Cascade, Consistency, LayerStatistics, LearnedFusion, NoiseLevel, NoiseStructure, TopLogits
from salientry.detectors.consistency import LIGHT
from salientry.experiment.guard_settings import SPECIFIC
from salientry.experiment.image_sets import ImageSets
from salientry.experiment.steps import attack_images, classify, quantize_and_mark, train_classifier
from salientry.harmless import HARMLESS, JPEG, TRAINED
from salientry.inference import bounded_mean
from salientry.learned import facts_of
from salientry.machine import processor
from salientry.metrics import worst_case
from salientry.protocol import GUARD
from salientry.rates import share_of
from salientry.recipes.fast import FINE_CW, NET
from salientry.runner.step import Handle

OUT = Path(__file__).parents[1] / "results" / "benchmarks" / "guard-detection.json"
E, FITTED, FEWEST = 1 / 255, 5_000, 20
LEVELS = (0.05, 0.01)
CASCADE = Cascade(
    LearnedFusion((TopLogits(), Consistency(LIGHT))),
    LearnedFusion((TopLogits(), Consistency(), NoiseLevel(), NoiseStructure()), (TopLogits(), LayerStatistics()), head=SPECIFIC),
)
SECOND: dict[str, Any] = {"second": "the network of seed 1"}
KINDS: dict[str, dict[str, Any]] = {"own": {}, "second": SECOND, "cascade": {"detector": CASCADE}}  # arguments of fit_guard


def of_foolbox(name: str, size: float | None = None, **settings: Any) -> Any:
    """An attack of foolbox by its class's name."""
    return as_attack(getattr(import_module("foolbox.attacks"), name)(**settings), size=size)


def of_art(name: str, **settings: Any) -> Any:
    """An attack of the Adversarial Robustness Toolbox by its class's name. The classifier that it is made with is not the one attacked."""
    wrapper = import_module("art.estimators.classification").PyTorchClassifier
    nothing = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
    net = wrapper(nothing, nn.CrossEntropyLoss(), (3, 32, 32), 10, clip_values=(0, 1), device_type="cpu")
    return as_attack(getattr(import_module("art.attacks.evasion"), name)(net, verbose=False, **settings))


L2, CONFIDENT = PGDL2(0.5), MarginDescent(highest=8.0)
OURS: dict[str, Any] = {
    "FGSM 8/255": FGSM(8 * E),
    "BIM 8/255": BIM(8 * E, 2 * E),
    "MIM 8/255": MIM(8 * E, 2 * E),
    "DeepFool": DeepFool(),
    "C&W": FINE_CW,
    **{
        f"C&W, confidence {k}": CarliniWagner(search_steps=1, steps=60, lr=0.01, initial_const=1.0, confidence=k) for k in (3.0, 10.0, 20.0)
    },
    "PGD 8/255": PGD(8 * E, steps=20),
    "PGD 4/255": PGD(4 * E, steps=20),
    "PGD 2/255": PGD(2 * E, steps=20),
    "PGD 8/255, targeted": PGD(8 * E, steps=20, target="random"),
    "PGD L2 .5": L2,
    "FGSM 51/255": FGSM(0.2),
    "BIM 38/255": BIM(0.15, 0.015),
    "patch": Patch(),
}


def theirs() -> dict[str, Any]:
    """Attacks of others by name."""
    return {
        "DDN": of_foolbox("DDNAttack", steps=50),
        "FMN Linf": of_foolbox("LInfFMNAttack", steps=50),
        "NewtonFool": of_foolbox("NewtonFoolAttack", steps=50),
        "virtual adversarial": of_foolbox("VirtualAdversarialAttack", 1.0, steps=10),
        "salt and pepper": of_foolbox("SaltAndPepperNoiseAttack", steps=200),
        "Square 8/255": of_art("SquareAttack", eps=8 * E, max_iter=300),
        "APGD 8/255": of_art(
            "AutoProjectedGradientDescent", eps=8 * E, eps_step=2 * E, max_iter=20, nb_random_init=1, loss_type="cross_entropy"
        ),
    }


SAVED = {"BIM 8/255": 400, "PGD 4/255": 400, "PGD L2 .5": 400, "random confidence": 400, "DeepFool": 2_000, "C&W": 2_000}
IMAGES = {
    "patch": 400,
    "salt and pepper": 400,
    "NewtonFool": 400,
    "Square 8/255": 500,
    "transfer": 1_500,
    "virtual adversarial": 600,
}  # else 400
HARMLESS_IMAGES = 1_000


def sets_of(run: Run, guarded: Handle) -> tuple[Handle, dict[str, Handle], dict[str, Handle]]:
    """The natural test images, the attacked ones by cell, the harmlessly changed ones by name."""
    data = run.dataset(CIFAR10())
    natural = run.do(classify, data["test"].first(2_500), guarded)
    by_size: dict[int, ImageSets] = {}

    def among(count: int) -> ImageSets:
        return by_size.setdefault(count, ImageSets(run, guarded, {"test": natural.first(count)}))

    source = run.do(train_classifier, data["train"], CompactCNN(epochs=4))
    attacks = OURS | theirs()
    cells = {name: among(IMAGES.get(name, 400)).attacked(a, "test", GUARD) for name, a in attacks.items()}
    some = natural.first(IMAGES["transfer"])
    cells["transfer"] = run.do(quantize_and_mark, run.do(attack_images, some, source, PGD(8 * E)), some, guarded, GUARD)
    for name, count in SAVED.items():
        for quality in (90, 75):
            attack = CONFIDENT if name == "random confidence" else attacks[name]
            cells[f"{name}, JPEG {quality}"] = among(count).attacked(attack, "test", GUARD.encoded(JPEG(quality)))
    unchanged = among(HARMLESS_IMAGES)
    harmless = {n: unchanged.harmless(c, "test", GUARD) for n, c in HARMLESS.items()}
    harmless["another image's perturbation"] = unchanged.control(Transplant(), BIM(8 * E, 2 * E), GUARD)
    return natural, cells, harmless


def measured(guard: Guard, run: Run, natural: Handle, cells: dict[str, Handle], harmless: dict[str, Handle]) -> dict[str, Any]:
    """What a guard flags of each set, with n and intervals over images."""
    calibration = guard.calibration.numpy()
    thresholds = {level: pac_threshold(calibration, level) for level in LEVELS if len(calibration) >= smallest_sample(level)}
    scored: dict[str, tuple[np.ndarray[Any, Any], Any]] = {}
    for name, h in {"natural": natural, **cells, **harmless}.items():
        rows = run.get(h)
        scored[name] = scores(guard, rows), rows
        run.forget(3)
    of_natural, rows = scored["natural"]
    right = rows.column("predicted") == rows.column("label")
    found: dict[str, Any] = {"fit": facts_of(guard.detector)["fit"], "text": str(guard), "cells": {}, "harmless": {}}
    for level, t in thresholds.items():
        flags = of_natural > t
        found[f"natural at {level}"] = {"all": in_a_row(flags), "right": in_a_row(flags[right]), "wrong": in_a_row(flags[~right])}
    for name in cells:
        s, rows = scored[name]
        counts = rows.column("evaluated")
        found["cells"][name] = {str(level): in_a_row(s[counts] > t) for level, t in thresholds.items()} | {"attacked": len(rows)}
    for name in harmless:
        s, rows = scored[name]
        stays = ~rows.column("changed")
        t = thresholds[LEVELS[0]]
        extra = (s[stays] > t).astype(float) - (of_natural[: len(rows)][stays] > t)
        low, high = bounded_mean(extra, -1.0, 1.0)
        found["harmless"][name] = {"flagged": in_a_row(s[stays] > t), "extra": [float(extra.mean()), low, high], "trained": name in TRAINED}
    shared = min(400, len(rows))  # images that every attack was made on
    plain = [scored[n] for n in cells if "JPEG" not in n and len(scored[n][1]) >= shared]
    first = [(s[:shared] > thresholds[LEVELS[0]], r.column("evaluated")[:shared]) for s, r in plain]
    detected, attacked = worst_case([f for f, _ in first], [e for _, e in first])
    rates = {level: [c[str(level)][0] for c in found["cells"].values() if c[str(level)][2] >= FEWEST] for level in thresholds}
    found["summary"] = {
        "mean at 5 %": float(np.mean(rates[0.05])),
        "worst at 5 %": min(rates[0.05]),
        "mean at 1 %": float(np.mean(rates[0.01])) if 0.01 in rates else None,
        "every attack on an image found": in_a_row(detected[attacked]),
        "cells": len(rates[0.05]),
        "most extra flags on a harmless change": max(h["extra"][0] for h in found["harmless"].values()),
    }
    return found


def in_a_row(flags: np.ndarray[Any, Any]) -> list[Any]:
    """Share, count, of so many, and its interval over images."""
    found = share_of(flags)
    return [found[k] for k in ("share", "count", "of", "low", "high")] if len(flags) else [float("nan"), 0, 0, 0.0, 1.0]


def scores(guard: Guard, rows: Any) -> np.ndarray[Any, Any]:
    """(N,) of stored images."""
    out = [guard(torch.from_numpy(rows.column("image", slice(i, i + 250)))).score.numpy() for i in range(0, len(rows), 250)]
    return np.concatenate(out)


BEGAN = time.monotonic()


def say(h: Handle, index: int, total: int) -> Callable[[int, int], None]:
    """A line a step."""
    name = h.step.name if h.step else ""
    print(f"{time.monotonic() - BEGAN:6.0f} s  {index + 1}/{total} {name} {h.slug[:60]}", flush=True)
    return lambda done, of: None


def main() -> None:
    """Fit all, try all, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*calibration images")
    run = Run()
    data = run.dataset(CIFAR10())
    nets = [run.do(train_classifier, data["train"], NET, seed=s) for s in (0, 1)]
    run.compute(nets, say, workers=asked.workers)
    f, second = (run.get(h) for h in nets)
    rows = run.get(data["detector_train"].first(FITTED))
    images, labels = torch.from_numpy(rows.column("image")), torch.from_numpy(rows.column("label"))
    body: dict[str, Any] = {"command": "python -m benchmarks.guard_detection", "date": str(datetime.date.today())}
    body |= {"salientry": salientry.__version__, "torch": torch.__version__, "processor": processor(), "device": "cpu", "seed": 0}
    body |= {"fitted on": FITTED, "tested on": 2_500, "guards": {}}
    fitted: dict[str, Guard] = {}
    for name, given in KINDS.items():
        start, beside = time.monotonic(), {"second": second} if given is SECOND else given
        fitted[name] = fit_guard(f, images, labels, store=run.store.root, workers=asked.workers or None, progress=True, **beside)
        print(f"{name}: {time.monotonic() - start:.0f} s\n{fitted[name]}", flush=True)
    natural, cells, harmless = sets_of(run, nets[0])
    run.compute([natural, *cells.values(), *harmless.values()], say, workers=asked.workers)
    for name, guard in fitted.items():
        body["guards"][name] = measured(guard, run, natural, cells, harmless)
        print(name, json.dumps(body["guards"][name]["summary"], indent=1), flush=True)
    asked.out.write_text(json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
    main()
