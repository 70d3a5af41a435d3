"""The command line: each command is one call into the library. ``salientry --help`` has the exit codes."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup

from .. import __version__
from ..errors import UsageError
from .audit_command import audit
from .check_command import check
from .fit_commands import fit, refit
from .guard_attack import attack_guard
from .judge_command import judge
from .lines import guarded, needs_pandas, print_anything, print_line
from .onnx_command import export_onnx
from .options import (
    Attacked,
    AttackedData,
    AttackGuard,
    AttackNames,
    AttackSettings,
    Debug,
    Device,
    Home,
    Moved,
    Numerics,
    Out,
    OwnDetector,
    Recipe,
    Second,
    SecondWeights,
    Seed,
    Settings,
    Workers,
)
from .recalibrate_command import recalibrate
from .recipe_list import WithRecipes
from .serve_command import serve
from .watch_command import watch

_Misuse = cast(type[Exception], typer.BadParameter.__base__)  # typer's UsageError, which lives elsewhere in each of its versions


class OneLine(TyperGroup):
    """Commands whose unknown options and missing arguments are one line, too."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command that the arguments name."""
        print_anything()
        try:
            code = super().main(*args, **(extra | {"standalone_mode": False})) or 0
        except _Misuse as e:
            text = e.format_message()  # type: ignore[attr-defined]
            if "\n" in text:
                typer.echo(text, err=True)  # the help when nothing at all was asked for
            else:
                print_line(f"error: {text}", err=True)
            code = UsageError.exit_code
        if extra.get("standalone_mode", True):
            sys.exit(code)
        return code


app = typer.Typer(
    cls=OneLine,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Detects adversarial examples in front of an image classifier.",
    epilog="Exit codes: 0 success; 1 a finding (failed sanity check or verification, flagged image); 2 wrong arguments; 3 data missing or "
    "damaged; 4 results cannot be written or read; 5 no such device; 70 a bug in salientry; 130 interrupted. Of check and watch: "
    "0 clean, 1 flagged or an alarm, 2 any error. Results are stored in SALIENTRY_HOME, data are "
    "read from SALIENTRY_DATA.",
)


@app.command(cls=WithRecipes)
def run(
    recipe: Recipe,
    settings: Settings = None,
    out: Out = None,
    device: Device = "cpu",
    seed: Seed = 0,
    numerics: Numerics = "float32",
    workers: Workers = 0,
    executor: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Compute on other machines, which see the same store: dask:ADDRESS of a scheduler, or module:callable that gives an "
            "executor of concurrent.futures.",
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Compute only the detector whose key in records.json begins with KEY, and what it depends on; no report is written. "
            "random chooses one and prints how to choose it again (random:SEED).",
        ),
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="With --only: fit, calibrate and score the detector again, even if it is in the store, and print its AUROC on every "
            "attacked test set beside the one recorded in FOLDER; exit code 1 when one differs by more than .001.",
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Run a recipe: compute its results, write a report, save a guard. An interrupted run continues when it is called again."""
    with guarded(debug):
        from .bars import ProgressDisplay

        if out is not None and (only is not None or compare is not None):
            raise UsageError("--only writes no report: leave --out away")
        if executor is not None and (only is not None or compare is not None):
            raise UsageError("--only computes here: leave --executor away")
        command = shlex.join(["salientry", *sys.argv[1:]])
        with ProgressDisplay() as display:
            how: dict[str, Any] = {
                "device": device,
                "seed": seed,
                "numerics": numerics,
                "say": print_line,
                "display": display,
                "workers": workers,
            }
            if only is not None or compare is not None:
                from .reproduce import reproduce

                code = reproduce(recipe, settings or [], only, compare, **how)
            else:
                from .running import execute

                code = int(bool(execute(recipe, settings or [], out, command=command, executor=executor, **how).failed))
        raise typer.Exit(code)


@app.command(cls=WithRecipes)
def plan(
    recipe: Recipe,
    settings: Settings = None,
    every: Annotated[bool, typer.Option("--all", help="Print one line per step instead of one per kind of step.")] = False,
    device: Device = "cpu",
    seed: Seed = 0,
    numerics: Numerics = "float32",
    debug: Debug = False,
) -> None:
    """List a recipe's steps: which are done, which are left, and an estimate of the time (recorded seconds of one process)."""
    with guarded(debug):
        from .running import planned

        for line in planned(recipe, settings or [], device=device, seed=seed, numerics=numerics, every=every):
            print_line(line)


@app.command()
def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            help="A folder with records.json, optionally followed by one with the white-box attacks on the same classifier; or a folder of "
            "such folders, one for each data set; with --claims any number.",
            metavar="FOLDER...",
            show_default=False,
        ),
    ],
    verify: Annotated[
        bool, typer.Option("--verify", help="Compute every number again from the recorded scores; exit code 1 on a difference.")
    ] = False,
    cells: Annotated[
        str | None,
        typer.Option(
            help="figure2: list which cells of the figure have a number and why the others have none; exit code 1 if something is wrong."
        ),
    ] = None,
    claims: Annotated[
        Path | None, typer.Option(help="Write a verdict on each claim of the paper to this file: Markdown, or JSON where it ends in .json.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Print how far the numbers of two runs of one recipe differ, by measure; nothing is written."),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print the first screen as JSON and write nothing: question, sentences, and its numbers, each as in report.json.",
        ),
    ] = False,
    timing: Annotated[Path | None, typer.Option(help="With --claims: the timing file that `python -m benchmarks.guard` wrote.")] = None,
    debug: Debug = False,
) -> None:
    """Write report.html, report.json and numbers.csv from recorded scores; or verify them, list a figure's cells, judge the paper's claims.

    A folder whose sub-folders hold records gets one page for all of its data sets, and one page for each. For scripts: `--json` prints the
    page's first screen, report.json holds every number.
    """
    with guarded(debug):
        with needs_pandas():
            from .reporting import reported
        asked = {"--cells": cells is not None, "--verify": verify, "--against": against is not None, "--json": as_json}
        raise typer.Exit(reported(folders, [name for name, given in asked.items() if given], cells, claims, against, timing))


app.command()(check)
app.command()(fit)
app.command()(refit)
app.command()(recalibrate)
app.command()(watch)
app.command()(attack_guard)
app.command()(judge)
app.command()(audit)
app.command()(serve)
app.command("export-onnx")(export_onnx)


@app.command()
def datasets(
    verify: Annotated[bool, typer.Option("--verify", help="Read the data sets that were found and compare their checksums.")] = False,
    debug: Debug = False,
) -> None:
    """List the data sets: whether each was found, what is missing and where to put it; and how to use your own images."""
    with guarded(debug):
        from .datasets import described

        for line in described(verify):
            print_line(line)


@app.command()
def attack(
    classifier: Attacked,
    attack: AttackNames,
    data: AttackedData,
    out: Annotated[Path, typer.Option(help="Folder of the results.", metavar="DIR", show_default=False)],
    weights: Annotated[Path | None, typer.Option(help="Weights of the classifier: .safetensors or .pt; required with a NAME.")] = None,
    settings: AttackSettings = None,
    guard: AttackGuard = None,
    second: Second = None,
    second_weights: SecondWeights = None,
    detector: OwnDetector = None,
    png: Annotated[bool, typer.Option("--png", help="Also write 8-bit PNG files, and measure success on them.")] = False,
    limit: Annotated[int | None, typer.Option(help="Largest number of images, taken evenly spaced.")] = None,
    device: Device = "cpu",
    seed: Annotated[int, typer.Option(help="Seed of the random draws of the attacks.")] = 0,
    debug: Debug = False,
) -> None:
    """Attack your own classifier and measure success from the written files.

    Attacks are untargeted: they start from the classifier's own prediction. With labels, success is counted among the images that were
    classified correctly. DIR gets attacks.json, images.json, and for each attack float32 arrays, columns.safetensors and, with --png,
    image files. An interrupted attack continues when it is called again; a DIR that holds results of another classifier, other images,
    settings or another seed is refused. With --guard, an image gets past when it fools the classifier and is not flagged; the attack knows
    nothing of the guard.
    """
    with guarded(debug):
        from .attacking import execute

        how: dict[str, Any] = {"settings": settings or [], "png": png, "limit": limit, "seed": seed, "device": device, "say": print_line}
        beside = {"second": second, "second_weights": second_weights, "detector": detector}
        execute(classifier, weights, attack, data, out, guard=guard, beside=beside, **how)


@app.command("export")
def export_(folder: Moved, store: Home = None, debug: Debug = False) -> None:
    """Pack stored results into FOLDER to move them to another machine: files under 15 MiB, with their sha256 in manifest.json.

    Packed are weights, ids, seeds, scores and all numbers per image. Left out, listed in the manifest, and computed again by a run that
    needs them: results with more than 128 numbers for each of more than 32 images (adversarials, maps, gradients, the data's pixels).
    """
    with guarded(debug):
        from .transfer import exported

        for line in exported(folder, store):
            print_line(line)


@app.command("import")
def import_(folder: Moved, store: Home = None, debug: Debug = False) -> None:
    """Import the results that `salientry export` packed into FOLDER. All checksums are compared before anything is written.

    Results that are already stored are kept; an interrupted import continues when it is called again. The next run re-uses the imported
    results and computes only images that were left out and are needed: equal to the last bit on an equal machine, else up to rounding.
    """
    with guarded(debug):
        from .transfer import imported

        for line in imported(folder, store):
            print_line(line)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"salientry {__version__}")
        raise typer.Exit


@app.callback()
def root(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False) -> None:
    """Detects adversarial examples in front of an image classifier."""


def main() -> Any:
    """The console script."""
    return app()


__all__ = ["app", "main"]
