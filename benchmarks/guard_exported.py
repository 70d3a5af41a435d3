"""A classifier and guards of it as ONNX graphs, to be timed: what `salientry export-onnx` writes, run by ONNX Runtime."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from salientry.guard import Guard
from salientry.inputs import plainly, random_images
from salientry.onnx_file import export_onnx, graph_of

Call = Callable[[Tensor], Any]
RUNTIME = ", ONNX Runtime"  # ends a row's name


def calls(f: nn.Module, guards: dict[str, Guard]) -> dict[str, Call]:
    """The classifier and its guards as graphs, by name; each takes images (N, C, H, W) and uses as many threads as torch.

    Raises:
        UsageError: when the extra ``onnx`` is not installed, or a graph does not say what its guard says.
    """
    shape = next(iter(guards.values())).shape
    examples = random_images(3, shape.channels, shape.height, shape.width)
    found: dict[str, Call] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, guard in guards.items():
            export_onnx(guard, Path(folder) / "guard.onnx", examples)
            found[name + RUNTIME] = _runs((Path(folder) / "guard.onnx").read_bytes())
    with plainly(grad=False):
        bare = graph_of(f, examples, ["logits"], type(f).__name__)
    return {"classifier" + RUNTIME: _runs(bare.SerializeToString())} | found


def _runs(graph: bytes) -> Call:
    import onnxruntime

    @functools.cache
    def session(threads: int) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    return lambda x: session(torch.get_num_threads()).run(None, {"images": x.numpy()})
