"""A guard and its classifier as one ONNX graph, for those who serve models with something else."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from . import __version__
from .detectors.cascade import Cascaded
from .errors import UsageError
from .evidence import Evidence
from .guard import Guard, answers_of
from .inputs import as_images, plainly
from .randomness import uniform
from .store import JSON, write_bytes

OUTPUTS = ("logits", "predicted", "flagged", "score", "p_value")
CLOSE = 1e-4  # of scores and, relative to the largest, of logits
TRIED = 16  # noise images that are compared where none are given


def export_onnx(guard: Guard, path: Path | str, images: Tensor | None = None) -> JSON:
    """Write a guard, with its classifier, as an ONNX graph, and compare what it gives with what the guard says.

    The graph takes ``images`` (N, C, H, W) float32 in [0, 1], any N from 1 up. It gives ``logits`` (N, K), ``predicted`` (N,) int64,
    ``flagged`` (N,) bool, ``score`` (N,), ``p_value`` (N,), and ``answers`` (N, A) int64 where the guard asks again about changed images
    or asks a second network; what was asked stands in the metadata ``answers``, beside ``threshold``, ``level`` and ``salientry``.

    It needs the extra ``onnx``: ``pip install 'salientry[onnx]'``. A cascade asks its second detector about every image here.

    Args:
        guard: what is written.
        path: of the file.
        images: (N, C, H, W) that the two are compared on; None: 16 of noise.

    Returns:
        What was compared: ``images``, and the largest differences ``score`` and ``logits``.

    Raises:
        UsageError: when the guard or its classifier computes what ONNX cannot express, the two differ by more than 1e-4 (logits: of the
            largest), or the extra is missing.
    """
    runtime = _runtime()
    shape = (guard.shape.channels, guard.shape.height, guard.shape.width)
    tried = uniform(torch.arange(TRIED), shape) if images is None else as_images(images, shape).cpu()
    there = copy.deepcopy(guard).to("cpu")
    with there.networks() as nets, plainly(grad=False):
        graph = _Graph(there, nets)
        asked = graph.asked(tried[:2])
        what = type(getattr(nets.detector, "settings", nets.detector)).__name__
        words = f"{what} in front of {type(nets.classifier).__name__}"
        program = graph_of(graph, tried[:1].repeat(3, 1, 1, 1), [*OUTPUTS, *(["answers"] if asked else [])], words)
        expected = dict(zip(OUTPUTS, graph(tried), strict=False))
    for value in (*program.graph.input, *program.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    program.metadata_props.extend(_about(guard, asked))
    content = program.SerializeToString()
    found = _compared(runtime.InferenceSession(content), expected, there, tried)
    write_bytes(Path(path), content)
    return found


def _runtime() -> Any:
    """The library that runs such graphs.

    Raises:
        UsageError: when it, or what writes them, is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as e:
        raise UsageError(f"writing ONNX needs {e.name}, which is not installed: pip install 'salientry[onnx]'") from None
    return onnxruntime


class _AtOnce(Evidence):
    """Evidence whose classifier sees all changed images in one pass, however many there are: a graph has no memory to look at."""

    def _groups(self, changed: dict[str, Tensor], beside: int) -> list[dict[str, Tensor]]:
        return [changed]


class _Graph(nn.Module):
    """What a guard computes, without a branch that depends on what it sees."""

    def __init__(self, guard: Guard, nets: Any) -> None:
        super().__init__()
        self.classifier, self.saliency, self.detector, self.second = nets.classifier, nets.saliency, nets.detector, nets.second
        self.threshold, self.calibration = guard.threshold, guard.calibration.detach().clone()
        members: list[Any] = list(self.detector.parts) if isinstance(self.detector, Cascaded) else [self.detector]
        self.needs = frozenset[str]().union(*(m.needs for m in members))

    def asked(self, images: Tensor) -> list[str]:
        """Who else is asked, in words."""
        return list(answers_of(self._seen(images), self.needs))

    def _seen(self, images: Tensor) -> Evidence:
        return _AtOnce(self.classifier, self.saliency, images, self.needs, self.second)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The outputs in order."""
        seen = self._seen(images)
        score = self._score(seen)
        flagged = torch.logical_not(score <= self.threshold)
        at_least = torch.logical_not(self.calibration < score[:, None]).sum(1)
        p_value = (1 + at_least).to(torch.float32) / (1 + len(self.calibration))
        found = (seen.logits, seen.predicted, flagged, score, p_value)
        answers = answers_of(seen, self.needs)
        return (*found, torch.stack([*answers.values()], 1)) if answers else found

    def _score(self, seen: Evidence) -> Tensor:
        if isinstance(self.detector, Cascaded):
            both: Tensor = self.detector.head(torch.stack([part(seen) for part in self.detector.parts], 1))
            return both
        found: Tensor = self.detector(seen)
        return found


def graph_of(module: nn.Module, example: Tensor, names: list[str], words: str) -> Any:
    """What a module computes as a protocol buffer, of any number of images.

    Args:
        module: images to outputs.
        example: images (N, C, H, W), more than two.
        names: of the outputs.
        words: what it is, for an error.

    Raises:
        UsageError: when something in it cannot be expressed.
    """
    with _quiet():
        try:
            program = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("N", min=1)},), strict=False)
            program = program.run_decompositions(WITHOUT)
            found = torch.onnx.export(program, (example,), dynamo=True, input_names=["images"], output_names=names, verbose=False)
        except Exception as e:
            why = f"{words} computes what ONNX cannot express ({type(e).__name__})"
            raise UsageError(f"{why}; `salientry serve` serves any guard") from e
    assert found is not None
    return found.model_proto


def _median(x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """The lower median, as torch's, of what ONNX has: the largest of the smaller half, which need not be sorted."""
    smaller, places = x.topk((x.shape[dim] + 1) // 2, dim, largest=False, sorted=False)
    last = smaller.argmax(dim, keepdim=True)
    found = smaller.gather(dim, last), places.gather(dim, last)
    return found if keepdim else (found[0].squeeze(dim), found[1].squeeze(dim))


WITHOUT = {torch.ops.aten.median.dim: _median}  # what ONNX does not have, and what is computed in its place


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What the exporter says of its own workings is nobody's business here."""
    before = logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)


def _about(guard: Guard, asked: list[str]) -> list[Any]:
    """What is written into the file beside the graph."""
    import onnx

    known = {"salientry": __version__, "threshold": repr(guard.threshold), "level": repr(guard.level), "answers": json.dumps(asked)}
    return [onnx.StringStringEntryProto(key=k, value=v) for k, v in known.items()]


def _compared(session: Any, expected: dict[str, Tensor], guard: Guard, images: Tensor) -> JSON:
    """How far the graph's answers lie from the guard's.

    Raises:
        UsageError: when that is too far.
    """
    verdict = guard(images)
    expected = expected | {"score": verdict.score, "flagged": verdict.flagged, "predicted": verdict.predicted}
    said = dict(zip((o.name for o in session.get_outputs()), session.run(None, {"images": images.numpy()}), strict=True))
    off, bounds = dict[str, float](), dict[str, float]()
    for name in ("score", "logits"):
        values = expected[name].numpy()
        off[name] = float(np.abs(said[name] - values).max(initial=0))
        bounds[name] = CLOSE * max(1.0, float(np.abs(values).max(initial=0)))
    clear = (verdict.score - guard.threshold).abs().numpy() > bounds["score"]
    same = bool((said["flagged"] == verdict.flagged.numpy())[clear].all())
    if not (same and all(off[n] <= bounds[n] for n in off)):
        words = ", ".join(f"{n} by up to {v:.2g}" for n, v in off.items())
        raise UsageError(f"the ONNX graph does not say what the guard says (they differ: {words}); nothing was written")
    return {"images": len(images), **off}
