"""The command ``judge``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .lines import guarded, print_line
from .options import Debug, Device, FitSecond, FitSeed, Home, JudgedBy, SecondWeights, Weights, Workers

Judged = Annotated[
    list[str],
    typer.Argument(
        help="What is judged, one or several: module:name of a callable, images to scores, of an object with fit and score, or of a "
        "function without arguments that makes one; a name of a detector of this package; the folder of a guard; quick or published, "
        "all that stand beside others as baselines. Or one file of scores, .parquet, .csv or .npz.",
        metavar="DETECTOR...|SCORES",
        show_default=False,
    ),
]
MostTimes = Annotated[
    float | None,
    typer.Option(
        help="Name the best detector that takes at most so many times the classifier's own time for one image.", show_default=False
    ),
]
MostMilliseconds = Annotated[
    float | None,
    typer.Option(
        help="Name the best detector that takes, with the classifier, at most so many milliseconds for one image.", show_default=False
    ),
]


def judge(
    detectors: Judged,
    classifier: Annotated[
        str | None, typer.Option(help="module:callable, called without arguments, or a folder with a classifier.json.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Ordinary images that neither the classifier nor a detector was trained on: a folder of pictures of one size with one "
            "sub-folder per class, or an .npz with images (N, C, H, W) and labels (N,).",
            metavar="FOLDER|FILE",
            show_default=False,
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            help="In place of --classifier and --data: the classifier of the recipe fast and images of digits, mnist, cifar10 or assira.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the report: page, Markdown, JSON, scores.", metavar="DIR")] = Path("verdict"),
    weights: Weights = None,
    second: FitSecond = None,
    second_weights: SecondWeights = None,
    baselines: Annotated[
        str,
        typer.Option(help="Judged beside them: quick, cheap ones; published, ten of the literature too.", metavar="quick|published|none"),
    ] = "quick",
    attacks: JudgedBy = None,
    levels: Annotated[
        str, typer.Option(help="False-positive rates of the thresholds, with commas between them; the first is the main one.")
    ] = "0.05,0.01",
    cost: MostTimes = None,
    latency: MostMilliseconds = None,
    adaptive: Annotated[int, typer.Option(help="Images that are attacked by somebody who knows the detector; 0: none.")] = 64,
    images: Annotated[
        int | None, typer.Option(help="Use this many of the images; default all, with --on as many as on the leaderboard.")
    ] = None,
    minutes: Annotated[float, typer.Option(help="Of one core; an attack that would take a fifth of them is left out.")] = 60.0,
    workers: Workers = 0,
    device: Device = "cpu",
    seed: FitSeed = 0,
    store: Home = None,
    debug: Debug = False,
) -> None:
    """Judge detectors of adversarial images: detection at a calibrated threshold, harmless changes, controls, an attacker who knows them.

    All detectors get the same images, and only images that the classifier had right and that fool it as 8-bit images count as attacked.
    Of a file of scores the verdict says what cannot be decided from it. DIR gets index.html, verdict.md, verdict.json, scores.npz, and
    evaluation.json for salientry audit. An interrupted call continues when it is given again, and another detector is judged on the same
    attacked images.
    """
    with guarded(debug):
        from .attacking import chosen
        from .judging import execute, parsed_levels

        nets: dict[str, Any] = {"classifier": classifier, "weights": weights, "second": second, "second_weights": second_weights}
        how: dict[str, Any] = {
            "baselines": baselines,
            "attacks": None if attacks is None else chosen([attacks], []),
            "levels": parsed_levels(levels),
            "adaptive": adaptive,
            "minutes": minutes,
            "workers": workers,
            "seed": seed,
        }
        execute(
            detectors, data, on, out, nets, images=images, device=device, store=store, cost=cost, latency=latency, say=print_line, **how
        )
