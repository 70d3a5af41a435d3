"""What each detector looks at, computed a second time by other means."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import laplace
from torch import Tensor, nn

from salientry.detectors import JSD
from salientry.evidence import PARTS, Evidence

from .. import examples

N = 10


@pytest.fixture
def look() -> Evidence:
    """Random parts, none of which follows from another; colour, not square."""
    g = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(N, *shape, generator=g, dtype=torch.float64)

    x = examples.images(examples.SHAPES["colour"], N, dtype=torch.float64)
    parts = {
        "logits": normal(7) - 50,
        "map": normal(1, 10, 14).sigmoid(),
        "class_presence": normal(),
        "second_net_logprobs": normal(7).log_softmax(1),
    }
    parts |= {"predicted": torch.randint(0, 7, (N,), generator=g), "gradient": normal(3, 10, 14), "features": normal(11)}
    parts |= {"gradient_sum": normal(3, 10, 14), "gradient_prob": normal(3, 10, 14), "gradient_full": normal(21, 10, 14)}
    assert set(parts) == set(PARTS)
    return Evidence(None, None, x, **parts)


def view(name: str, look: Evidence) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    found: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = examples.detectors()[name].view(look).numpy()
    return found


def test_smd_sees_the_map(look: Evidence) -> None:
    np.testing.assert_array_equal(view("smd", look), look.map.numpy())


def test_spd_sees_the_image_where_the_map_is(look: Evidence) -> None:
    expected = np.stack([[m * plane for plane in image] for m, image in zip(look.map[:, 0].numpy(), look.image.numpy(), strict=True)])
    np.testing.assert_array_equal(view("spd", look), expected)


def test_id_sees_the_image(look: Evidence) -> None:
    np.testing.assert_array_equal(view("id", look), look.image.numpy())


def test_margins(look: Evidence) -> None:
    ordered = np.sort(look.logits.numpy(), 1)
    gap = ordered[:, -1] - ordered[:, -2]
    np.testing.assert_allclose(view("margin", look)[:, 0], -gap, atol=1e-12)
    np.testing.assert_allclose(view("margin2", look), np.stack([gap, gap**2], 1), atol=1e-12)


def test_sorted_logits_forget_their_classes(look: Evidence) -> None:
    np.testing.assert_array_equal(view("sorted_logits", look), -np.sort(-look.logits.numpy(), 1))
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(view("sorted_logits", look.put(logits=look.logits[:, order])), view("sorted_logits", look))


def test_exists_and_opinion_have_their_signs(look: Evidence) -> None:
    np.testing.assert_array_equal(view("class_presence", look)[:, 0], -look.class_presence.numpy())
    expected = [-look.second_net_logprobs[i, int(k)].item() for i, k in enumerate(look.predicted)]
    np.testing.assert_allclose(view("second_net", look)[:, 0], expected)


def test_black_share_counts_what_is_not_exactly_black(look: Evidence) -> None:
    expected = [np.count_nonzero(image) / image.size for image in look.image.numpy()]
    np.testing.assert_allclose(view("black_share", look)[:, 0], expected)
    dirt = Evidence(None, None, torch.full((1, 1, 4, 4), 1e-30))
    assert view("black_share", dirt).item() == 1


def test_high_frequency_is_the_size_of_the_laplacian(look: Evidence) -> None:
    expected = [np.sqrt(np.mean([laplace(plane, mode="nearest") ** 2 for plane in image])) for image in look.image.numpy()]
    np.testing.assert_allclose(view("high_frequency", look)[:, 0], expected, rtol=1e-12)
    ramp = torch.linspace(0, 1, 12, dtype=torch.float64).expand(1, 1, 12, 12)
    assert view("high_frequency", Evidence(None, None, ramp)).item() == pytest.approx((2 / 11**2 / 12) ** 0.5)  # its two borders only


def test_id_plus_sees_what_is_left_without_the_smooth_part(look: Evidence) -> None:
    expected = np.stack([[-laplace(plane, mode="nearest") for plane in image] for image in look.image.numpy()])
    np.testing.assert_allclose(view("id_plus", look), expected, atol=1e-12)
    kernel = torch.tensor([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]], dtype=torch.float64).expand(3, 1, 3, 3)
    convolved = F.conv2d(F.pad(look.image, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)
    np.testing.assert_allclose(view("id_plus", look), convolved.numpy(), atol=1e-12)
    for level in (0.0, 0.3, 1.0):
        assert not view("id_plus", Evidence(None, None, torch.full((2, 3, 5, 9), level))).any()
    ramp = torch.arange(12, dtype=torch.float64).expand(1, 1, 12, 12) / 16
    assert not view("id_plus", Evidence(None, None, ramp))[..., 1:-1].any()  # no slope inside either


def test_pooled_activations_are_the_means_that_a_hook_would_see() -> None:
    shape = examples.SHAPES["odd"]
    classifier, x = examples.conv(shape, dtype=torch.float64).requires_grad_(False), examples.images(shape, N, dtype=torch.float64)
    seen: list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = []
    layers = [m for m in classifier.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d | nn.Linear)]
    hooks = [m.register_forward_hook(lambda m, given, out: seen.append(out.numpy().reshape(*out.shape[:2], -1).mean(2))) for m in layers]
    logits = classifier(x)
    for hook in hooks:
        hook.remove()
    found = view("pooled_activations", Evidence(classifier, None, x))
    np.testing.assert_allclose(found, np.concatenate(seen, 1), atol=1e-12)
    assert found.shape == (N, 6 + 6 + 6 + 3)
    np.testing.assert_allclose(found[:, -3:], logits.numpy(), atol=1e-12)


def test_jsd_sees_the_image_and_the_gradient_of_its_target(look: Evidence) -> None:
    for target in ("pred", "sum", "prob", "full"):
        part = getattr(look, "gradient" if target == "pred" else f"gradient_{target}")
        found = JSD(target).view(look)  # type: ignore[arg-type]
        np.testing.assert_array_equal(found.numpy(), np.concatenate([look.image.numpy(), part.numpy()], 1))
