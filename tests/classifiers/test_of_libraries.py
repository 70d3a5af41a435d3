"""Models of two libraries with what they note beside them: on stand-ins with their attributes, and on tiny real ones where they are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from salientry import External
from salientry.errors import UsageError

PIXELS = torch.randint(0, 256, (4, 3, 8, 8), generator=torch.Generator().manual_seed(0))
X = PIXELS.float() / 255
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VIT = {"do_resize": True, "size": {"height": 8, "width": 8}, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True}
SIZES: dict[str, Any] = dict.fromkeys(("height", "width", "longest_edge", "shortest_edge"))


class Model(nn.Module):
    """Answers as models of transformers do: something with ``logits`` that is a mapping."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(192, 5)

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        return {"loss": torch.zeros(()), "logits": self.head(pixel_values.flatten(1))}


def by_hand(p: Any) -> Tensor:
    """What a processor's own code makes of 8-bit pixels, flag by flag, in its order."""
    x = PIXELS.double()
    column = lambda v: torch.tensor(v if isinstance(v, list | tuple) else [v], dtype=torch.float64).view(-1, 1, 1)
    if getattr(p, "do_rescale", None):
        x = x * p.rescale_factor - (1 if getattr(p, "rescale_offset", None) else 0)
    if getattr(p, "do_normalize", None):
        x = (x - column(p.image_mean)) / column(p.image_std)
        if getattr(p, "include_top", None):
            x = x / column(p.image_std)
    return (x.flip(1) if getattr(p, "do_flip_channel_order", None) else x).float()


@pytest.mark.parametrize(
    ("noted", "size"),
    [
        (VIT | {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}, (8, 8)),
        (VIT | {"image_mean": MEAN, "image_std": STD, "size": SimpleNamespace(**SIZES | {"height": 8, "width": 8})}, (8, 8)),
        (
            VIT
            | {
                "image_mean": MEAN,
                "image_std": STD,
                "size": {"shortest_edge": 10},
                "do_center_crop": True,
                "crop_size": {"height": 8, "width": 8},
            },
            (8, 8),
        ),
        (VIT | {"image_mean": MEAN, "image_std": STD, "size": {"shortest_edge": 8}, "crop_pct": 0.875}, (8, 8)),
        (VIT | {"image_mean": MEAN, "image_std": STD, "size": {"shortest_edge": 10}}, None),
        (VIT | {"image_mean": MEAN, "image_std": STD, "size": 8}, (8, 8)),
        ({"do_rescale": False, "do_normalize": True, "image_mean": [127.5] * 3, "image_std": [127.5] * 3}, None),
        ({"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": None, "image_mean": MEAN, "image_std": STD}, None),
        ({"do_rescale": True, "rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False}, None),
        (
            {
                "do_rescale": True,
                "rescale_factor": 1 / 255,
                "do_normalize": True,
                "image_mean": MEAN,
                "image_std": STD,
                "include_top": True,
            },
            None,
        ),
        ({"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": None, "do_flip_channel_order": True}, None),
    ],
    ids=["vit", "size object", "crop", "convnext", "shortest edge", "number", "no rescale", "no normalize", "offset", "top", "bgr"],
)
@pytest.mark.parametrize("inside", [False, True], ids=["image processor", "processor that has one"])
def test_a_processor_of_transformers_is_followed(noted: dict[str, Any], size: tuple[int, int] | None, inside: bool) -> None:
    p, model = SimpleNamespace(**noted), Model()
    net = External.from_huggingface(model, SimpleNamespace(image_processor=p) if inside else p)
    assert net.size == size
    with torch.no_grad():
        assert torch.allclose(net(X), model(by_hand(p))["logits"], atol=2e-3, rtol=1e-4)


def test_another_size_can_be_meant() -> None:
    p = SimpleNamespace(**VIT, image_mean=MEAN, image_std=STD)
    p.size = {"height": 16, "width": 16}
    with pytest.raises(UsageError, match="made for images of 16 x 16 pixels"):
        External.from_huggingface(Model(), p)(X)
    assert External.from_huggingface(Model(), p, size=(8, 8))(X).shape == (4, 5)


def test_what_is_no_image_processor_is_refused() -> None:
    with pytest.raises(UsageError, match=r"SimpleNamespace is no image processor.*mean="):
        External.from_huggingface(Model(), SimpleNamespace(vocab_size=3))


def test_a_tiny_model_of_transformers_answers_as_with_its_own_processor() -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "image_size": 8, "patch_size": 4}
    model = transformers.ViTForImageClassification(transformers.ViTConfig(**sizes, num_labels=5)).eval()
    p = transformers.ViTImageProcessor(size={"height": 8, "width": 8}, image_mean=list(MEAN), image_std=list(STD))
    seen = p(images=[np.asarray(i.permute(1, 2, 0), np.uint8) for i in PIXELS], return_tensors="pt")["pixel_values"]
    net = External.from_huggingface(model, p)
    with torch.no_grad():
        assert torch.allclose(net(X), model(seen).logits, atol=1e-5)
    assert net.size == (8, 8)


class Timm(nn.Module):
    """What a model of timm has beside its layers."""

    def __init__(self, **noted: Any) -> None:
        super().__init__()
        vars(self).update(noted)
        self.head = nn.Linear(192, 5)

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.head(x.flatten(1))
        return z


CONFIGURED = {"input_size": (3, 8, 8), "mean": MEAN, "std": STD, "interpolation": "bicubic", "crop_pct": 0.95}


@pytest.mark.parametrize(
    "noted", [{"pretrained_cfg": CONFIGURED}, {"default_cfg": CONFIGURED}, {"pretrained_cfg": SimpleNamespace(**CONFIGURED)}]
)
def test_the_configuration_of_timm_is_followed(noted: dict[str, Any]) -> None:
    model = Timm(**noted, num_classes=5)
    net = External.from_timm(model)
    assert net.size == (8, 8)
    column = lambda v: torch.tensor(v).view(3, 1, 1)
    assert torch.allclose(net(X), model((X - column(MEAN)) / column(STD)), atol=1e-5)
    with pytest.raises(UsageError, match="made for images of 8 x 8"):
        net(torch.rand(1, 3, 4, 16))
    assert External.from_timm(model, size=(4, 16))(torch.rand(1, 3, 4, 16)).shape == (1, 5)


def test_a_tiny_model_of_timm() -> None:
    timm = pytest.importorskip("timm", exc_type=ImportError)
    model = timm.create_model("test_resnet", pretrained=False, num_classes=5).eval()
    net = External.from_timm(model)
    assert net(torch.rand(2, 3, *net.size)).shape == (2, 5)


@pytest.mark.parametrize(
    ("noted", "words"), [({}, "no pretrained_cfg with mean and std"), ({"pretrained_cfg": CONFIGURED, "num_classes": 0}, "gives features")]
)
def test_what_timm_says_nothing_of_is_refused(noted: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        External.from_timm(Timm(**noted))
