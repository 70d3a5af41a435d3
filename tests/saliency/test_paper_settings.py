"""The U-Net at the paper's size, number by number, and that every variant can be trained and goes on after it was stopped."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from salientry.learned import facts_of, fingerprint
from salientry.saliency import PAPER_ASSIRA, PAPER_CIFAR10, PAPER_MNIST, SimpleClassifier, UNet, variants
from salientry.training import CHECKPOINTS, Checkpoints
from salientry.types import Shape

from .. import examples

DATA = {
    "mnist": (PAPER_MNIST, Shape(1, 28, 28, 10)),
    "cifar10": (PAPER_CIFAR10, Shape(3, 32, 32, 10)),
    "assira": (PAPER_ASSIRA, Shape(3, 112, 112, 2)),
}
#                                       mnist    cifar10   assira
TABLE: dict[str, tuple[Any, Any, Any]] = {
    "encoder.base": (32, 32, 64),
    "encoder.scales": (2, 3, 3),
    "encoder.epochs": (33, 33, 33),
    "encoder.optimiser": ("sgd", "sgd", "sgd"),
    "encoder.lr": (0.1, 0.1, 0.1),
    "encoder.schedule": (15, 15, 15),  # divided by ten every 15 epochs
    "encoder.weight_decay": (1e-4, 1e-4, 1e-4),
    "encoder.batch": (512, 512, 64),
    "loss.area": (10, 10, 10),
    "loss.destroyer": (5, 5, 5),
    "loss.power": (0.3, 0.3, 0.3),
    "fill.kind": ("paper", "paper", "paper"),
    "fill.noise": (0.03, 0.03, 0.03),
    "fill.kernel": (55 / 224, 55 / 224, 55 / 224),
    "fill.sigma": (11 / 224, 11 / 224, 11 / 224),
    "fill.colour": (0.33, 0.33, 0.33),
    "fill.colour_noise": (0.11, 0.11, 0.11),
    "selector_epochs": (5, 5, 5),
    "selector_batch": (128, 128, 128),
    "selector_fakes": (0.5, 0.5, 0.5),
    "selector_lr": (1e-3, 1e-3, 1e-3),
    "epochs": (10, 10, 10),
    "batch": (64, 64, 64),
    "fakes": (0.3, 0.3, 0.3),
    "lr": (1e-3, 1e-3, 1e-3),
    "schedule": ("constant", "constant", "constant"),
    "weight_decay": (1e-4, 1e-4, 1e-4),
    "model_confidence": (0, 0, 0),
    "black_box": ("classifier", "classifier", "classifier"),
    "batch_norm": ("eval", "eval", "eval"),
    "base": (None, None, None),  # the encoder's
}
MARGIN = {"area": 8, "area_power": 0.3, "preserver": 0.3, "destroyer": 1, "smooth": 0}
VARIANTS = [f"{loss}{how}" for loss in ("eq2", "margin") for how in ("", ", instance", ", encoder", ", instance, encoder")]


def flat(settings: Any, before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for f in dataclasses.fields(settings):
        value = getattr(settings, f.name)
        found |= flat(value, f"{before}{f.name}.") if dataclasses.is_dataclass(value) else {before + f.name: value}
    return found


@pytest.mark.parametrize(("column", "name"), list(enumerate(DATA)))
def test_every_number_is_the_one_that_was_found_out(column: int, name: str) -> None:
    assert flat(DATA[name][0]) == {field: row[column] for field, row in TABLE.items()}


@pytest.mark.parametrize(("name", "encoder", "decoder"), [("mnist", 0.48, 0.39), ("cifar10", 1.96, 1.62), ("assira", 7.8, 6.5)])
def test_the_nets_have_as_many_weights_as_was_worked_out(name: str, encoder: float, decoder: float) -> None:
    settings, shape = DATA[name]
    net: Any = settings.build(shape)
    for part, millions in ((net.encoder, encoder), (net.decoder, decoder)):
        assert sum(p.numel() for p in part.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)
    assert net.selector.weight.shape == (shape.classes, settings.encoder.base * 2**settings.encoder.scales)


@pytest.mark.parametrize("name", DATA)
def test_variants_change_what_their_name_says(name: str) -> None:
    settings, found = DATA[name][0], variants(DATA[name][0])
    assert list(found) == VARIANTS and found["eq2"] == settings
    for called, variant in found.items():
        expected = flat(settings)
        if called.startswith("margin"):
            expected = {k: v for k, v in expected.items() if not k.startswith("loss.")} | {f"loss.{k}": v for k, v in MARGIN.items()}
        expected |= {"batch_norm": "instance"} if "instance" in called else {}
        expected |= {"black_box": "encoder"} if "encoder" in called else {}
        assert flat(variant) == expected


# --- they can be trained -----------------------------------------------------------------------------------------------

SHAPE = Shape(1, 12, 12, 4)


def small(settings: UNet, **changes: Any) -> UNet:
    encoder = replace(settings.encoder, base=4, scales=2, epochs=3, batch=12)  # type: ignore[type-var]
    return replace(settings, encoder=encoder, epochs=3, selector_epochs=3, batch=12, selector_batch=12, **changes)


def data() -> tuple[Tensor, Tensor]:
    return examples.images(SHAPE, 48), torch.arange(48) % SHAPE.classes


@pytest.mark.parametrize("called", VARIANTS)
def test_every_variant_is_trained_and_what_it_is_trained_for_falls(called: str) -> None:
    x, y = data()
    settings = small(variants(PAPER_MNIST)[called], lr=1e-2)
    net = replace(settings, epochs=8, fakes=0.0).fit(x, y, examples.conv(SHAPE), SHAPE, seed=0)
    curves = facts_of(net)["learning_curves"]
    assert len(curves["selector"]) == 3 and len(curves["decoder"]) == 8
    assert curves["decoder"][-1] < curves["decoder"][0]
    with torch.no_grad():
        drawn = net(x, y)["map"]
    assert drawn.shape == (48, 1, 12, 12) and 0 <= float(drawn.min()) <= float(drawn.max()) <= 1


def test_the_encoders_rate_falls_by_ten_every_fifteen_epochs_of_plain_sgd(monkeypatch: pytest.MonkeyPatch) -> None:
    rates, step = list[float](), torch.optim.SGD.step

    def stepping(self: Any, *given: Any) -> Any:
        assert self.defaults["momentum"] == 0.9 and self.defaults["nesterov"]
        rates.append(self.param_groups[0]["lr"])
        return step(self, *given)

    monkeypatch.setattr(torch.optim.SGD, "step", stepping)
    x, y = data()
    replace(PAPER_MNIST.encoder, base=2, scales=1, batch=24).fit(x, y, SHAPE, seed=0)  # type: ignore[type-var]
    assert rates == pytest.approx([0.1] * 30 + [0.01] * 30 + [0.001] * 6)


# --- they go on -------------------------------------------------------------------------------------------------------


class Stopped(Exception):
    """The process is killed."""


class Looked:
    """Images that count who looks at them in training, and are gone after so many looks."""

    def __init__(self, images: Tensor, most: int | None) -> None:
        self.images, self.most, self.looks = images, most, 0

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, at: Tensor) -> Tensor:
        self.looks += len(at) == 12
        if self.most is not None and self.looks > self.most:
            raise Stopped
        return self.images[at]


def trained(folder: Path, settings: UNet, most: int | None = None) -> tuple[Any, int]:
    x, y = data()
    images = Looked(x, most)
    token = CHECKPOINTS.set(Checkpoints(folder, seconds=0.0))
    try:
        return settings.fit(images, y, examples.conv(SHAPE), SHAPE, seed=5), images.looks
    finally:
        CHECKPOINTS.reset(token)


@pytest.mark.parametrize("called", ["eq2", "margin, instance, encoder"])
@pytest.mark.parametrize("phase", ["encoder", "selector", "decoder"])
def test_a_stopped_fit_goes_on_to_the_same_weights(called: str, phase: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three epochs of four steps each; images are looked at in the first and in the third training, once a step."""
    settings = small(variants(PAPER_MNIST)[called])
    whole, looks = trained(tmp_path / "whole", settings)
    assert looks == 24
    if phase == "selector":
        choose, count = UNet._selectors, [0]

        def choosing(self: UNet, *given: Any) -> Any:
            count[0] += 1
            if count[0] > 6:
                raise Stopped
            return choose(self, *given)

        with monkeypatch.context() as m:
            m.setattr(UNet, "_selectors", choosing)
            with pytest.raises(Stopped):
                trained(tmp_path / "stopped", settings)
    else:
        with pytest.raises(Stopped):
            trained(tmp_path / "stopped", settings, 6 if phase == "encoder" else 12 + 9)
    again, looks = trained(tmp_path / "stopped", settings)
    assert looks == {"encoder": 8 + 12, "selector": 12, "decoder": 4}[phase], "whole epochs are not done again"
    assert fingerprint(again) == fingerprint(whole)
    assert facts_of(again) == facts_of(whole)


def test_without_anybody_who_keeps_checkpoints_the_weights_are_the_same(tmp_path: Path) -> None:
    settings = small(PAPER_MNIST)
    x, y = data()
    plain = settings.fit(x, y, examples.conv(SHAPE), SHAPE, seed=5)
    assert fingerprint(plain) == fingerprint(trained(tmp_path, settings)[0])


def test_the_encoder_of_the_old_recipes_is_as_it_was() -> None:
    assert SimpleClassifier() == SimpleClassifier(32, 3, 15, 3e-3, 64, "adam", "one_cycle", 0.0)
