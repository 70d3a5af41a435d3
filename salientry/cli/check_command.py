"""The command ``check``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import Error, UsageError
from .lines import error_text, guarded, print_line, say_error
from .options import Debug, Device, OwnDetector, SavedOrGiven, Second, SecondWeights, Weights

if TYPE_CHECKING:
    from .checking import Journal

QUIET = 10.0  # seconds between two words of progress


def check(
    guard: Annotated[Path, typer.Argument(help="Folder of a saved guard.", show_default=False)],
    images: Annotated[
        list[Path],
        typer.Argument(
            help="Pictures of the size that the guard was fitted for; folders or tar files of them; .txt files with a path a line.",
            show_default=False,
        ),
    ],
    classifier: SavedOrGiven = None,
    weights: Weights = None,
    second: Second = None,
    second_weights: SecondWeights = None,
    detector: OwnDetector = None,
    overlay: Annotated[Path | None, typer.Option(help="Folder to write each image to with its saliency map laid over it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per image.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Write JSON lines to this file instead; a call that was stopped goes on there.", metavar="FILE"),
    ] = None,
    device: Device = "cpu",
    executor: Annotated[
        str | None,
        typer.Option(
            help="Judge on other machines, which see the guard's folder: dask:ADDRESS of a scheduler, or module:callable that gives an "
            "executor of concurrent.futures. Pictures are read here.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Check images with a saved guard: one line per image, flagged or clean. Exit code 0: all clean, 1: at least one flagged, 2: at least
    one image could not be checked, or the guard could not be loaded. However many there are, memory holds a few batches of them; where
    decoding takes the time, processes are started for it.
    """
    with guarded(debug, error_code=2), ExitStack() as stack:
        from ..picture_stream import found_in
        from ..runner.executors import executor_called
        from .checking import Journal, each, loaded
        from .checking_elsewhere import Asked, each_on

        nets: dict[str, Any] = {"second": second, "second_weights": second_weights, "detector": detector}
        asked = loaded(guard, classifier, weights, device, **nets)
        judge = partial(each, asked, overlay=overlay)
        if executor is not None:
            if overlay is not None:
                raise UsageError("--overlay draws here: leave --executor away")
            there = stack.enter_context(executor_called(executor))
            judge = partial(each_on, there, Asked.of(asked, guard, classifier, weights, device, **nets))
        if out is not None:
            journal = Journal(out, asked)
            _followed(journal, journal.keep(judge(journal.left(found_in(images)))))
            raise typer.Exit(2 if journal.failed else int(journal.flagged > 0))
        broken = flagged = 0
        for _, said in judge(found_in(images)):
            if isinstance(said, Error):
                broken += 1
                say_error(error_text(said)[0])
            else:
                flagged += said.flagged
                print_line(json.dumps(said.json()) if as_json else said.line())
        raise typer.Exit(2 if broken else int(flagged > 0))


def _followed(journal: Journal, counts: Iterable[int]) -> None:
    """Say now and then how far it is, and at the end what was found."""
    began = last = time.monotonic()
    first: int | None = None
    for known in counts:
        first = known - 1 if first is None else first
        if (now := time.monotonic()) - last > QUIET:
            last = now
            print_line(f"check: {known:,} pictures, {(known - first) / (now - began):.0f} a second, {journal.flagged:,} flagged", err=True)
    before = journal.known if first is None else first
    words = f"; {before:,} of them were there already" if before else ""
    print_line(f"{journal.known:,} pictures checked{words}: {journal.flagged:,} flagged, {journal.failed:,} could not be checked")
    print_line(f"written: {journal.path}")
