"""The command line: each command is one call into the library.

Exit codes: 0 fine · 1 a finding (a gate or a verification failed; an image is flagged) · 2 wrong use · 3 data missing or
damaged · 4 results cannot be written or read · 5 no such device · 130 interrupted. ``check``: 0 clean, 1 flagged, 2 error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import __version__
from ..errors import Error, StoreError, UsageError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Stands in front of an image classifier and says when the classifier is being fooled.",
    epilog="Exit codes: 0 fine; 1 a finding (failed gate or verification, flagged image); 2 wrong use; 3 data missing or damaged; "
    "4 results cannot be written or read; 5 no such device. Results live in SALIENTRY_HOME, data in SALIENTRY_DATA.",
)
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Out = Annotated[Path | None, typer.Option(help="Folder of the report; default RECIPE-report.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1.")]
Seed = Annotated[int, typer.Option(help="Run seed: moves what is learned and drawn, never who is tested.")]
Numerics = Annotated[str, typer.Option(help="float32.")]
Settings = Annotated[list[str] | None, typer.Argument(help="KEY=VALUE: the recipe function's parameters.", show_default=False)]
Recipe = Annotated[str, typer.Argument(help="Name of a recipe: smoke.", show_default=False)]


def _guarded(work: Callable[[], int], debug: bool, error_code: int | None = None) -> None:
    """Run a command: errors of ours become one line and an exit code; so do interrupts and a full disk."""
    try:
        code = work()
    except Error as e:
        if debug:
            raise
        typer.echo(f"error: {e}", err=True)
        raise typer.Exit(error_code or e.exit_code) from None
    except OSError as e:
        if debug:
            raise
        typer.echo(f"error: {e.strerror or e}: {e.filename or ''} (what was complete is kept)", err=True)
        raise typer.Exit(error_code or StoreError.exit_code) from None
    except KeyboardInterrupt:
        typer.echo("interrupted: what was complete is kept; the same command goes on from there", err=True)
        raise typer.Exit(130) from None
    raise typer.Exit(code)


@app.command()
def run(
    recipe: Recipe,
    settings: Settings = None,
    out: Out = None,
    device: Device = "cpu",
    seed: Seed = 0,
    numerics: Numerics = "float32",
    debug: Debug = False,
) -> None:
    """Run a recipe, write its report, leave its guard behind. A second call goes on where the first one was."""

    def work() -> int:
        from .bars import Bars
        from .running import execute

        command = " ".join(["salientry", *sys.argv[1:]])
        with Bars() as bars:
            done = execute(
                recipe, settings or [], out, device=device, seed=seed, numerics=numerics, command=command, say=typer.echo, bars=bars
            )
        return 1 if done.failed else 0

    _guarded(work, debug)


@app.command()
def plan(
    recipe: Recipe, settings: Settings = None, device: Device = "cpu", seed: Seed = 0, numerics: Numerics = "float32", debug: Debug = False
) -> None:
    """List a recipe's steps: what is done, what is left, how long it will take (from recorded seconds)."""

    def work() -> int:
        from .running import planned

        for line in planned(recipe, settings or [], device=device, seed=seed, numerics=numerics):
            typer.echo(line)
        return 0

    _guarded(work, debug)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A folder with records.json.", show_default=False)],
    verify: Annotated[
        bool, typer.Option("--verify", help="Compute every number again from the score records; exit 1 on a difference.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Write report.html and report.json from score records alone, or verify them."""

    def work() -> int:
        from ..report.page import write
        from ..report.verify import verify as checked

        if verify:
            typer.echo(f"{checked(folder)} numbers follow from the records in {folder}")
        else:
            typer.echo(f"wrote {write(folder)}")
        return 0

    _guarded(work, debug)


@app.command()
def check(
    guard: Annotated[Path, typer.Argument(help="Folder of a saved guard.", show_default=False)],
    images: Annotated[list[Path], typer.Argument(help="Pictures of the guard's size.", show_default=False)],
    classifier: Annotated[
        str | None, typer.Option(help="module:callable, or a folder with a classifier.json; default the copy that the guard names.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights for it: .safetensors or .pt.")] = None,
    overlay: Annotated[Path | None, typer.Option(help="Folder for pictures with the map laid over them.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    device: Device = "cpu",
    debug: Debug = False,
) -> None:
    """Judge pictures, one line each. Exit code 0: clean, 1: at least one flagged, 2: error."""

    def work() -> int:
        from .checking import judge

        verdicts = judge(guard, images, classifier=classifier, weights=weights, overlay=overlay, device=device)
        for v in verdicts:
            typer.echo(json.dumps(v.json()) if as_json else v.line())
        return int(any(v.flagged for v in verdicts))

    _guarded(work, debug, error_code=2)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"salientry {__version__}")
        raise typer.Exit


@app.callback()
def root(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False) -> None:
    """Stands in front of an image classifier and says when the classifier is being fooled."""


def main() -> Any:
    """The console script."""
    return app()


__all__ = ["UsageError", "app", "main"]
