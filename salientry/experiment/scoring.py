"""Scores of image sets by a fitted detector, each named by its image set; thresholds; and what of it a report reads."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..batches import DEVICE, Batch
from ..calibration import pac_threshold, warn_if_small
from ..detectors import may_need
from ..errors import UsageError
from ..learned import frozen
from ..progress import ticking
from ..protocol import EvaluationProtocol
from ..rows import Rows
from ..runner.step import Found, Handle, step
from ..store import JSON
from ..training import CHECKPOINTS
from .steps import BATCH, Columns, batch_rows
from .stored_evidence import evidence_of


def set_name(facts: dict[str, JSON]) -> str:
    """What an image set is called: ``protocol/role/attack``, with ``any`` and ``natural`` where there is no protocol and no attack."""
    what = facts.get("control") or facts.get("attack", "natural")
    what += f" of {facts['of']}" if facts.get("of") else ""
    return f"{facts.get('protocol', 'any')}/{facts.get('role', 'any')}/{what}"


def natural_set(role: str) -> str:
    """What the naturals of a role are called."""
    return set_name({"role": role})


@dataclass(frozen=True)
class Scored:
    """Scores of some image sets by one detector, as handles.

    Attributes:
        detector: fitted.
        sets: the images, with the evidence that the detector reads.
        scores: :class:`Found`: an array of each set by its :func:`set_name`, and thresholds where it was calibrated.
    """

    detector: Handle
    sets: list[Handle]
    scores: Handle


def _as_recorded(args: dict[str, Any]) -> tuple[str, int, dict[str, Any]]:
    """Step, revision and arguments that keys are made of. What depends on scores keeps its key so: each way of scoring was once a
    step by itself. Sets that were scored one by one give the key of all sets at once, for the scores are the same.
    """
    if (scored := args.get("scored")) is not None:
        args = {k: v for k, v in args.items() if k != "scored"} | {"sets": [h.args["images"] for h in scored]}
    if (parts := args.get("parts")) is None:
        return ("calibrate", 2, args) if "protocol" in args else ("score", 2, args) if "calibrated" in args else ("score_sets", 1, args)
    rest = {k: v for k, v in args.items() if k not in ("parts", "detector")} | {"scored": parts, "fused": args["detector"]}
    return ("calibrate_fusion" if "protocol" in args else "score_fusion", 1, rest)


def by_set(detector: Any) -> bool:
    """Whether each image set is scored by a step of its own, so that they can be computed side by side: where the classifier is asked
    again, which takes long.

    Args:
        detector: settings, or whoever reads what several need.
    """
    return "classifier" in detector.needs


@step("score_images", each_row=True, shard=0)
def score_images(detector: nn.Module, images: Batch, classifier: nn.Module | None = None, calibrated: Found | None = None) -> Columns:
    """Scores of one image set, in a column ``score``; for the other arguments see :func:`score`, which puts sets together."""
    return {"score": detector(evidence_of(images, may_need(detector), classifier))}


@step("scores", keyed=_as_recorded)
def score(
    detector: nn.Module,
    sets: list[Rows] | None = None,
    parts: list[Found] | None = None,
    protocol: EvaluationProtocol | None = None,
    calibrated: Found | None = None,
    classifier: nn.Module | None = None,
    scored: list[Rows] | None = None,
) -> Found:
    """Scores of image sets, which need not be aligned; one that was stopped goes on after its last whole set.

    Args:
        detector: fitted.
        sets: the images, with the stored evidence that the detector needs; None: every set that its parts scored.
        parts: for a fusion what each of its members scored these sets; None: the detector reads the images.
        protocol: whose levels; the thresholds are frozen here, on the naturals for calibration among the sets; None: there are none.
        calibrated: an input so that thresholds are frozen before an attacked test image is scored; it is not used.
        classifier: for a detector that asks it about other images.
        scored: in place of sets these sets after :func:`score_images`: nothing is left but to put them together.

    Returns:
        (N,) scores of each set by its :func:`set_name`; a threshold for each level of the protocol, ``own`` is the head's own 0.

    Raises:
        UsageError: for two sets of one name, or nothing to calibrate on.
    """
    with frozen(detector, classifier), torch.no_grad():
        if parts is not None:
            names = list(parts[0].arrays) if sets is None else _names(sets)
            columns = {name: [scores_of(part, name) for part in parts] for name in names}
            found = {name: _combined(detector, c, len(c[0]) if sets is None else BATCH) for name, c in columns.items()}
        elif sets is not None:
            found = _each(detector, sets, classifier)
        elif scored is not None:
            found = {name: np.asarray(rows.column("score")) for name, rows in zip(_names(scored), scored, strict=True)}
        else:
            raise UsageError("nothing to score: neither image sets nor the scores of a fusion's parts were given")
    return Found(None if protocol is None else thresholds_of(scores_of(found, natural_set("calibration")), protocol), found)


def _names(sets: list[Rows]) -> list[str]:
    """What the sets are called, each of them something else."""
    names = [set_name(rows.facts) for rows in sets]
    if doubled := {n for n in names if names.count(n) > 1}:
        raise UsageError(f"two image sets are called {doubled.pop()}: their scores would share a name")
    return names


def _each(detector: nn.Module, sets: list[Rows], classifier: nn.Module | None) -> dict[str, NDArray[Any]]:
    """The scores of sets, each kept as soon as it is whole; the progress is of all of them."""
    keeps, found = CHECKPOINTS.get(), dict[str, NDArray[Any]]()
    counts = [len(batch_rows(rows)) for rows in sets]
    for i, (name, rows) in enumerate(zip(_names(sets), sets, strict=True)):
        made = functools.partial(scores_of_rows, detector, rows, classifier, (sum(counts[:i]), sum(counts)))
        found[name] = made() if keeps is None else keeps.piece(name, made)
    return found


def scores_of_rows(detector: Any, rows: Rows, classifier: nn.Module | None, ticked: tuple[int, int] | None = None) -> NDArray[Any]:
    """(N,) scores of stored images, a batch at a time. The caller sees to modes and gradients.

    Args:
        detector: fitted.
        rows: the images.
        classifier: for a detector that asks it.
        ticked: batches that the step has behind it, and all that it has; None: nobody is told.
    """
    pieces, needs = batch_rows(rows), may_need(detector)
    each = pieces if ticked is None else ticking(pieces, ticked[1], ticked[0])
    return np.asarray(torch.cat([detector(evidence_of(Batch(rows, at), needs, classifier)) for at in each]).cpu().numpy())


def _combined(fusion: Any, columns: list[NDArray[Any]], at_once: int) -> NDArray[Any]:
    """(N,) scores of a fusion from those of its members; how many at once moves the last bit."""
    stacked = torch.from_numpy(np.stack(columns, 1)).to(DEVICE.get())
    return np.asarray(torch.cat([fusion.head(some) for some in torch.split(stacked, at_once)]).cpu().numpy())


def scores_of(found: Found | dict[str, Any], name: str) -> NDArray[Any]:
    """(N,) scores of an image set by its :func:`set_name`.

    Raises:
        UsageError: names the sets that were scored.
    """
    arrays = found.arrays if isinstance(found, Found) else found
    if name not in arrays:
        raise UsageError(f"there are no scores of {name}; there are: {', '.join(arrays)}")
    return np.asarray(arrays[name])


def thresholds_of(scores: NDArray[Any], protocol: EvaluationProtocol) -> dict[str, float]:
    """A threshold for each level of the protocol, from the scores of calibration naturals; ``own`` is the head's own 0."""
    for level in protocol.levels:
        warn_if_small(len(scores), level)
    return {"own": 0.0} | {str(level): pac_threshold(scores, level) for level in protocol.levels}
