from __future__ import annotations

import pytest
import torch
from torch import nn

from salientry.classifiers import ResidualCNN
from salientry.errors import UsageError
from salientry.learned import fingerprint, rebuild
from salientry.learned import recipe_of as noted
from salientry.saliency import SimpleClassifier, Trunk, UNet
from salientry.types import Shape

SHAPE = Shape(3, 16, 16, 4)
NET = ResidualCNN(width=4, epochs=2, batch=16, lr=0.05, crop=1)


@pytest.fixture(scope="module")
def data() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.rand(64, 3, 16, 16, generator=g), torch.arange(64) % 4


@pytest.fixture(scope="module")
def classifier(data: tuple[torch.Tensor, torch.Tensor]) -> nn.Module:
    return NET.fit(*data, SHAPE, seed=0)


def test_around_a_classifier_it_is_that_classifier(classifier: nn.Module, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    encoder = Trunk(NET, own=True).around(classifier, SHAPE)
    with torch.no_grad():
        maps, logits = encoder(data[0])
        assert torch.equal(logits, classifier(data[0]))
    assert torch.equal(maps[0], 2 * data[0] - 1)
    assert [tuple(m.shape[1:]) for m in maps] == [(3, 16, 16), (4, 8, 8), (8, 4, 4), (16, 2, 2)]
    assert encoder.widths == tuple(m.shape[1] for m in maps)


def test_fitted_with_the_classifiers_seed_it_is_another_net(classifier: nn.Module, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    encoder = Trunk(NET).fit(*data, SHAPE, seed=0)
    with torch.no_grad():
        assert not torch.allclose(encoder(data[0])[1], classifier(data[0]), atol=1e-3)
    again = Trunk(NET).fit(*data, SHAPE, seed=0)
    assert fingerprint(encoder) == fingerprint(again)


def test_ones_own_trunk_is_not_trained_again(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    with pytest.raises(UsageError, match="give it as a part"):
        Trunk(NET, own=True).fit(*data, SHAPE, seed=0)


@pytest.mark.parametrize("shape", [SHAPE, Shape(1, 13, 11, 3)])
def test_a_decoder_narrower_than_its_encoder(shape: Shape) -> None:
    spec = UNet(Trunk(NET), base=2)
    net = spec.build(shape)
    said = net(torch.rand(2, shape.channels, shape.height, shape.width), torch.tensor([0, 1]))
    assert said["map"].shape == (2, 1, shape.height, shape.width)
    assert net.decoder.head.in_channels == 2
    assert net.decoder.up[0][0].out_channels == 4 * 2
    assert net.decoder.up[2][0].out_channels == 4 * 8
    assert {k: v.shape for k, v in rebuild(noted(net)).state_dict().items()} == {k: v.shape for k, v in net.state_dict().items()}


def test_the_base_that_an_encoder_has_anyway_changes_nothing() -> None:
    plain, said = (UNet(SimpleClassifier(base=4, scales=2), base=b).build(SHAPE) for b in (None, 4))
    assert {k: v.shape for k, v in plain.state_dict().items()} == {k: v.shape for k, v in said.state_dict().items()}


def test_the_map_is_drawn_from_the_attacked_net(classifier: nn.Module, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    spec = UNet(Trunk(NET, own=True), epochs=1, batch=16, base=2)
    net = spec.fit(*data, classifier, SHAPE, Trunk(NET, own=True).around(classifier, SHAPE), seed=0)
    with torch.no_grad():
        said = net(data[0], data[1])
        assert torch.allclose(said["second_net_logprobs"], classifier(data[0]).log_softmax(1), atol=1e-6)
