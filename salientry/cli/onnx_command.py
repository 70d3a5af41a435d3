"""The command ``export-onnx``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .lines import guarded, print_line
from .options import Debug, OwnDetector, SavedOrGiven, Second, SecondWeights, Weights

MOST = 1_000  # images that are compared


def export_onnx(
    guard: Annotated[Path, typer.Argument(help="Folder of a saved guard.", metavar="GUARD", show_default=False)],
    out: Annotated[Path, typer.Option(help="The file that is written.", metavar="FILE")] = Path("guard.onnx"),
    classifier: SavedOrGiven = None,
    weights: Weights = None,
    second: Second = None,
    second_weights: SecondWeights = None,
    detector: OwnDetector = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="The two are compared on 1,000 of these images at most: a folder of pictures, also in sub-folders, or an .npz with images "
            "(N, C, H, W); no labels are needed. Default: on 16 of noise.",
            metavar="FOLDER|FILE",
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Write a guard and its classifier as one ONNX graph: images in, logits, prediction, flag, score and p-value out.

    What the graph says is compared with what the guard says before it is written. It needs the extra onnx. About half a minute.
    """
    with guarded(debug):
        from ..onnx_file import export_onnx as write
        from .checking import loaded
        from .recalibrating import naturals

        found = loaded(guard, classifier, weights, "cpu", second=second, second_weights=second_weights, detector=detector)
        said = write(found, out, None if data is None else naturals(data, found, MOST))
        print_line(f"compared on {said['images']} images: scores differ by at most {said['score']:.1g}, logits by {said['logits']:.1g}")
        print_line(f"written: {out}")
