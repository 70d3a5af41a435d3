"""The command ``watch``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from .lines import guarded, print_line
from .options import Debug, Device, OwnDetector, SavedOrGiven, Second, SecondWeights, Weights


def watch(
    guard: Annotated[Path, typer.Argument(help="Folder of a saved guard.", show_default=False)],
    video: Annotated[
        Path, typer.Argument(help="A video file, or a folder of pictures of one size in the order of their names.", show_default=False)
    ],
    classifier: SavedOrGiven = None,
    weights: Weights = None,
    second: Second = None,
    second_weights: SecondWeights = None,
    detector: OwnDetector = None,
    out: Annotated[
        Path | None, typer.Option(help="Video to write: each frame with its map, answer and reason.", metavar="OVERLAY.mp4")
    ] = None,
    timeline: Annotated[Path | None, typer.Option(help="Picture to write of the verdicts over time.", metavar="FILE.png")] = None,
    every: Annotated[int, typer.Option(help="Judge every N-th frame.")] = 1,
    resize: Annotated[
        str | None,
        typer.Option(help="How frames come to the guard's size; default: as the guard's pictures, else crop.", metavar="squash|crop"),
    ] = None,
    size: Annotated[int, typer.Option(help="Pixels of the shorter side of the video that is written.")] = 360,
    block: Annotated[
        float,
        typer.Option(help="Length of a block of frames in seconds: about as long as the scene stays the same, or longer."),
    ] = 1.0,
    alpha: Annotated[float, typer.Option(help="Bound of the probability of a false alarm.")] = 0.01,
    rate: Annotated[float, typer.Option(help="Frames a second of a folder of pictures.")] = 25.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a frame, and one at the end.")] = False,
    device: Device = "cpu",
    debug: Debug = False,
) -> None:
    """Watch a video: judge its frames, and raise one alarm if too many are flagged.

    Single flagged frames raise none. Exit code 0: no alarm, 1: alarm, 2: the video could not be watched. Needs the extra `video`.
    """
    with guarded(debug, error_code=2):
        from .watching import execute

        how: dict[str, Any] = {"every": every, "resize": resize, "size": size, "block": block, "alpha": alpha, "rate": rate}
        beside = {"second": second, "second_weights": second_weights, "detector": detector}
        hear = (lambda seen: print_line(json.dumps(seen.json()))) if as_json else None
        found = execute(guard, video, classifier, weights, device, beside, out, timeline, hear=hear, **how)
        print_line(json.dumps(found.json()) if as_json else f"{video}: {found.line()}")
        raise typer.Exit(int(found.alarm))
