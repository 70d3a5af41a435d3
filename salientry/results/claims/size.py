"""How large a run is beside the paper's: steps a head was trained, and whether the nets are those of the paper's Figure 3."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..paper_numbers import column_of, printed
from ..scores import Scores
from .asked import Answer, Question

# 10 passes over the naturals and as many adversarials, 50 images a step; of ASSIRA's 3,000 images about 2,370 are left to train on
STEPS = {"MNIST": 24_000, "CIFAR-10": 20_000, "ASSIRA": 950}
BATCH, PAPERS_BATCH = 100, 50  # images a step of a head whose settings name no other number; of the paper's own net
SEVERAL = re.compile(r"(?:(\d+)x)?(conv|dense) ?f?(\d+)(?: k(\d+))?")
LAYER = re.compile(r"(conv|linear) (?:(\d+)x\d+ )?\d+→(\d+)")


@dataclass(frozen=True)
class Size:
    """What a verdict depends on: words for it, whether it is smaller than what the paper trained, or another net; steps of the head that
    was trained shortest, None where they are not known.
    """

    words: str
    reduced: bool
    steps: int | None = None


def paper_layers(column: str) -> list[tuple[str, int, int]]:
    """Kind, width and kernel of the layers of the paper's classifier; its detectors are the same nets with two outputs."""
    figure = printed()["hyperparameters"]["figure3"][column]
    found = (SEVERAL.fullmatch(layer) for layer in figure)
    layers = [(int(m[1] or 1), (m[2].replace("dense", "linear"), int(m[3]), int(m[4] or 0))) for m in found if m]
    return [layer for count, layer in layers for _ in range(count)]


def same_net(column: str, layers: list[str], outputs: int | None = None) -> bool:
    """Whether a net of a record is the paper's; with ``outputs``: but for its last layer, which has so many."""
    found = [(m[1], int(m[3]), int(m[2] or 0)) for m in map(LAYER.match, layers) if m]
    expected = paper_layers(column)
    return found == ([*expected[:-1], ("linear", outputs, 0)] if outputs else expected)


def steps_of(s: Scores, protocol: str, scheme: str, detector: str, trained_on: str) -> int | None:
    """Steps that a head was trained, the fewest of its seeds; None where the records do not say."""
    g = s.one(protocol, detector, trained_on, scheme)
    counts = []
    for r in g.seeds if g else []:
        if r.curve is None or "pairs" not in r.facts:
            return None
        half = min((r.facts.get("batch") or _batch(str(r.facts.get("settings", "")))) // 2, int(r.facts["pairs"]))
        counts.append(int(r.facts["pairs"]) // max(half, 1) * len(r.curve))
    return min(counts, default=None)


def _batch(settings: str) -> int:
    """Images a step, of older records, which say it in a label alone, and only where it is not the default."""
    said = re.search(r"-batch=(\d+)", settings)
    return int(said[1]) if said else PAPERS_BATCH if "PaperCNN" in settings else BATCH


def paper_steps(dataset: str) -> int | None:
    """Steps of a head of the paper, about; None where the paper has no such data set."""
    column = column_of(dataset)
    return None if column is None else STEPS[column]


def size_of(s: Scores, q: Question, a: Answer, protocol: str) -> Size:
    """Of an answer: its heads' steps and nets, or the nets alone."""
    if (column := column_of(s.dataset)) is None:
        return Size("", reduced=False)
    nets = {n["name"]: n["layers"] for n in s.body["networks"]}
    others = [] if same_net(column, nets.get("classifier", [])) else ["classifier"]
    if q.stands != "heads" or not a.heads:
        return Size("other nets" if others else "the paper's nets", bool(others))
    steps = [found for h in a.heads if (found := steps_of(s, protocol, *h)) is not None]
    for scheme, detector, _ in a.heads:
        title = detector if scheme == "paired" else f"{detector} ({scheme})"
        others += [] if same_net(column, nets.get(title, []), 2) or same_net(column, nets.get(title, []), 1) else [title]
    most = STEPS[column]
    words = f"{min(steps):,} of about {most:,} steps a head" if steps else "steps are not in the records"
    short = not steps or min(steps) < 0.95 * most
    return Size(words + (", other nets" if others else ", the paper's nets"), short or bool(others), min(steps, default=None))
