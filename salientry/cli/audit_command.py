"""The command ``audit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .lines import guarded, print_line
from .options import Debug


def audit(
    files: Annotated[
        Path,
        typer.Argument(
            help="A table of scores (.parquet, .csv, .npz); or a folder with scores.parquet (or .csv, .npz), and perhaps images.npz and "
            "evaluation.json.",
            metavar="DIR|FILE",
            show_default=False,
        ),
    ],
    out: Annotated[Path | None, typer.Option("--json", help="Write what was found to this file (JSON) too.", metavar="FILE")] = None,
    debug: Debug = False,
) -> None:
    """Look for faults in an evaluation of a detector: images in two splits, failed attacks that are counted, copied scores, thresholds and
    epochs picked on test, images that were stored differently. Exit code 0: no fault was found, 1: at least one, 2: bad input.
    """
    with guarded(debug, error_code=2):
        from ..judging.audit import audit as audited
        from ..store import write_json

        found = audited(files)
        for line in str(found).splitlines():
            print_line(line)
        if out is not None:
            write_json(out, found.json())
            print_line(f"written: {out}")
        raise typer.Exit(int(not found.ok))
