"""A guard as an ONNX graph says what the guard says, for any number of images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from salientry.errors import UsageError
from salientry.guard import Guard
from salientry.harmless import HARMLESS, _sampling
from salientry.onnx_file import WITHOUT, export_onnx
from salientry.pixels import write_pixels

from . import examples
from .cli.conftest import Cli
from .test_guard import SHAPE, X, guarded

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def classifier() -> nn.Module:
    return examples.conv(SHAPE)


def answers(path: Path, x: Tensor) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path))
    return dict(zip((o.name for o in session.get_outputs()), session.run(None, {"images": x.numpy()}), strict=True))


def compared(guard: Guard, path: Path, x: Tensor) -> None:
    """Everything that the graph gives is what the guard and the classifier give."""
    said, verdict = answers(path, x), guard(x)
    with torch.no_grad():
        np.testing.assert_allclose(said["logits"], guard.classifier(x).numpy(), atol=1e-4)
    np.testing.assert_allclose(said["score"], verdict.score.numpy(), atol=1e-4)
    assert np.array_equal(said["predicted"], verdict.predicted.numpy())
    clear = (verdict.score - guard.threshold).abs().numpy() > 1e-4
    assert np.array_equal(said["flagged"][clear], verdict.flagged.numpy()[clear]) and clear.mean() > 0.9
    apart = (verdict.score[:, None] - guard.calibration).abs().amin(1).numpy() > 1e-4
    np.testing.assert_allclose(said["p_value"][apart], verdict.p_value.numpy()[apart], rtol=1e-6)
    assert verdict.answers == {} or np.array_equal(said["answers"], torch.stack([*verdict.answers.values()], 1).numpy())


def net() -> nn.Module:
    return examples.conv(SHAPE)


@pytest.fixture(scope="module")
def exported(classifier: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> tuple[Guard, Path]:
    """A guard, and the graph that the command writes of it."""
    folder = tmp_path_factory.mktemp("exported")
    guard = guarded(classifier, None, "consistency")  # type: ignore[arg-type]
    guard.save(folder / "guard")
    np.savez(folder / "images.npz", images=(X * 255).round().to(torch.uint8).numpy(), labels=np.zeros(len(X), np.int64))
    nets, path = ["--classifier", "tests.test_onnx_file:net"], folder / "made" / "guard.onnx"
    result = Cli("export-onnx", str(folder / "guard"), *nets, "--data", str(folder / "images.npz"), "--out", str(path))
    assert result.code == 0, result.err
    assert result.lines[0].startswith("compared on 60 images: scores differ by at most ") and result.lines[1] == f"written: {path}"
    return guard, path


@pytest.mark.parametrize("kind", ["an .npz without labels", "a folder without classes"])
def test_images_to_compare_on_need_no_labels(
    exported: tuple[Guard, Path], tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many of them as are compared, and as they are."""
    path = exported[1]
    pixels = (X[:20] * 255).round().to(torch.uint8).numpy()
    at = tmp_path / ("images.npz" if kind.startswith("an") else "images")
    if at.suffix:
        np.savez(at, images=pixels)
    else:
        at.mkdir()
        for i, x in enumerate(pixels):
            write_pixels(at / f"{i:02d}.png", x)
    given: list[Tensor] = []

    def noted(guard: Guard, out: Path, images: Tensor) -> dict[str, float]:
        given.append(images)
        return {"images": len(images), "score": 0.0, "logits": 0.0}

    monkeypatch.setattr("salientry.onnx_file.export_onnx", noted)
    monkeypatch.setattr("salientry.cli.onnx_command.MOST", 10)
    saved = str(path.parents[1] / "guard")
    result = Cli("export-onnx", saved, "--classifier", "tests.test_onnx_file:net", "--data", str(at), "--out", str(tmp_path / "g.onnx"))
    assert result.code == 0, result.err
    assert np.array_equal(given[0].numpy(), pixels[::2])


@pytest.mark.parametrize("count", [1, 2, 60])
def test_the_graph_says_what_the_guard_says(exported: tuple[Guard, Path], count: int) -> None:
    compared(*exported, X[:count])


def test_what_it_is_of_stands_beside_the_graph(exported: tuple[Guard, Path]) -> None:
    guard, path = exported
    assert 0 < int(guard(X).flagged.sum()) < len(X)
    about = onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map
    assert float(about["threshold"]) == guard.threshold and float(about["level"]) == guard.level
    assert json.loads(about["answers"]) == list(guard(X[:1]).answers)


def test_a_graph_written_first_leaves_nothing_behind(classifier: nn.Module, tmp_path: Path) -> None:
    """Places of pixels are kept from call to call; those that tracing makes are none."""
    guard = guarded(classifier, None, "consistency")  # type: ignore[arg-type]
    _sampling._table.cache_clear()
    export_onnx(guard, tmp_path / "guard.onnx", X)
    assert not _sampling._table.cache_info().currsize
    compared(guard, tmp_path / "guard.onnx", X)
    leaf = X.clone().requires_grad_()
    seeds = torch.arange(len(X))
    shifted = HARMLESS["shift"](leaf, seeds=seeds)
    assert torch.equal(shifted.detach(), HARMLESS["shift"](X, seeds=seeds)) and torch.autograd.grad(shifted.sum(), leaf)[0].isfinite().all()


@pytest.mark.nightly
@pytest.mark.parametrize(
    "name", ["cascade", "layer_statistics", "learned_fusion", "masked", "second_opinion", "smd", "spd", "fused", "margin", "mahalanobis"]
)
def test_so_does_that_of_every_kind_of_guard(classifier: nn.Module, name: str, tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        saliency = examples.saliency()["unet"].build(SHAPE)
    guard = guarded(classifier, saliency, name)
    export_onnx(guard, tmp_path / "guard.onnx", X)
    compared(guard, tmp_path / "guard.onnx", X)


@pytest.mark.nightly
def test_the_noise_level_is_written_too(classifier: nn.Module, tmp_path: Path) -> None:
    """The export compares it; its scores of these images of noise are all alike."""
    for name in ("noise_level", "noise_structure"):
        found = export_onnx(guarded(classifier, None, name), tmp_path / f"{name}.onnx", X)  # type: ignore[arg-type]
        assert found["score"] < 1e-4 and (tmp_path / f"{name}.onnx").exists()


def test_what_cannot_be_written_is_said_and_nothing_is_written(classifier: nn.Module, tmp_path: Path) -> None:
    guard = guarded(classifier, None, "counter_attack")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="CounterAttack in front of Sequential computes what ONNX cannot express"):
        export_onnx(guard, tmp_path / "guard.onnx")
    assert not list(tmp_path.iterdir())


class Drifting(nn.Module):
    """Answers otherwise where it is exported."""

    def forward(self, x: Tensor) -> Tensor:
        moved = 0.5 if torch.compiler.is_exporting() else 0.0
        return x.flatten(1)[:, :5] * (1 + moved)


def test_a_graph_that_says_something_else_is_not_written(tmp_path: Path) -> None:
    guard = guarded(Drifting(), None, "margin")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="does not say what the guard says"):
        export_onnx(guard, tmp_path / "guard.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("columns", [1, 2, 7, 8])
def test_a_graphs_median_is_torchs(columns: int) -> None:
    """The lower one, of odd and even numbers of values, equal ones among them; places too."""
    x = torch.randint(0, 4, (20, columns), generator=torch.Generator().manual_seed(columns)).float()
    median = WITHOUT[torch.ops.aten.median.dim]
    for keepdim in (False, True):
        values, places = median(x, 1, keepdim)
        assert torch.equal(values, x.median(1, keepdim).values)
        assert torch.equal(x.gather(1, places.view(20, 1))[:, 0], values.view(20))
