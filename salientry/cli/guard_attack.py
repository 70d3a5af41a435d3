"""The command ``attack-guard``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from .lines import guarded, print_line
from .options import Debug, Device, FitData, Fitted, OwnDetector, Second, SecondWeights, Weights


def attack_guard(
    guard: Annotated[Path, typer.Argument(help="Folder of the guard.", metavar="GUARD", show_default=False)],
    classifier: Fitted,
    data: FitData,
    weights: Weights = None,
    second: Second = None,
    second_weights: SecondWeights = None,
    detector: OwnDetector = None,
    images: Annotated[int, typer.Option(help="Images that are attacked.")] = 64,
    steps: Annotated[int, typer.Option(help="Steps of each attack.")] = 100,
    budgets: Annotated[str, typer.Option(help="Largest changes of a value, in grey levels of 255, with commas between them.")] = "1,2,4,8",
    out: Annotated[Path | None, typer.Option(help="Write the counts to this file (JSON) too.", metavar="FILE")] = None,
    device: Device = "cpu",
    seed: Annotated[int, typer.Option(help="Seed of random draws.")] = 0,
    debug: Debug = False,
) -> None:
    """Attack a guard and its classifier together, by someone who knows both: what gets past.

    The attacks differentiate through everything that the guard computes. What they find is a lower bound: another attack may get more past.
    Minutes for a small network; progress is shown.
    """
    with guarded(debug):
        from ..store import write_json
        from .guard_attacks import attacked

        where: dict[str, Any] = {"second": second, "second_weights": second_weights, "detector": detector, "device": device}
        found = attacked(guard, classifier, weights, data, budgets=budgets, count=images, steps=steps, seed=seed, **where)
        for line in str(found).splitlines():
            print_line(line)
        if out is not None:
            write_json(out, json.loads(json.dumps(found.json())))
            print_line(f"written: {out}")
