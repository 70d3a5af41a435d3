"""Do the attacks attack, and is there a gradient to follow? An attack that does not fool the classifier tests no detector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..batches import Batch
from ..errors import AttackTooWeak
from ..rates import measured, percent
from ..rows import Rows
from ..runner.step import step
from ..store import JSON


@step("strong_enough")
def strong_enough(adversarials: Rows, least: float) -> dict[str, JSON]:
    """Share of the images that were right and that the attack fooled, in float.

    Raises:
        AttackTooWeak: when it is below ``least``: an error of the run, not an empty column.
    """
    right, changed = adversarials.column("right"), adversarials.column("changed")
    share, n = float(changed[right].mean()) if right.any() else 0.0, int(right.sum())
    if share < least:
        raise AttackTooWeak(
            f"{adversarials.facts['attack']} fools {measured(share, 1)} of the {n} images that the classifier has right; "
            f"at least {percent(least)} expected: "
            "a detector judged on it would be judged on nothing"
        )
    return {"attack": adversarials.facts["attack"], "fooled": share, "n": n, "least": least}


@step("gradient_sizes", each_row=True)
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
