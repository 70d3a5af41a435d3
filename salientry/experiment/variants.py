"""Controls on what a detector reads: maps and gradients replaced by something that cannot help it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..batches import Batch
from ..errors import UsageError
from ..randomness import CONTROL_STREAM, image_seeds, uniform
from ..rows import Rows
from .handles import step


@step("replaced", stored=False)
def replaced(rows: Rows, part: str, by: str) -> Rows:
    """The rows with a stored part of their evidence replaced.

    Args:
        rows: looked at, drawn, differentiated.
        part: ``map``, ``gradient``, ...
        by: ``"another image's"`` (of the same kind: the next row's), ``"random"`` (uniform values, drawn by image), ``"constant"``
            (.5 everywhere), ``"zero"``.

    Raises:
        UsageError: for anything else.
    """
    known = rows.column(part)
    if by == "another image's":
        found = np.roll(known, -1, 0)
    elif by == "random":
        found = uniform(image_seeds(rows.ids, 0, CONTROL_STREAM), known.shape[1:]).numpy().astype(known.dtype)
    elif by in ("constant", "zero"):
        found = np.full_like(known, 0.5 if by == "constant" else 0.0)
    else:
        raise UsageError(f"a part is replaced by another image's, random, constant or zero values; found {by!r}")
    return rows.widen({part: found}, {})


@step("gradient_sizes", each_image=True)
def gradient_sizes(images: Batch, classifier: nn.Module) -> dict[str, Tensor]:
    """The largest magnitude of each image's input gradient: 0 where a gradient map is all zero.

    Columns: ``logit`` (of the predicted class's logit), ``probability`` (of its probability), ``sum`` (of the sum of all
    probabilities, which is 1 everywhere).
    """
    x, k = images.image.requires_grad_(), images.predicted[:, None]
    with torch.enable_grad():
        logits = classifier(x)
        chances = logits.softmax(1)
        wanted = {"logit": logits.gather(1, k).sum(), "probability": chances.gather(1, k).sum(), "sum": chances.sum()}
    return {name: torch.autograd.grad(v, x, retain_graph=name != "sum")[0].abs().flatten(1).amax(1) for name, v in wanted.items()}
