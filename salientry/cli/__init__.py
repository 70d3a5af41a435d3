"""The command line: each command is one call into the library.

Exit codes: 0 fine · 1 a finding (a sanity check or a verification failed; an image is flagged) · 2 wrong use · 3 data missing or
damaged · 4 results cannot be written or read · 5 no such device · 70 a defect of ours · 130 interrupted. ``check``: 0 clean,
1 flagged, 2 any error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup

from .. import __version__
from ..errors import Error, UsageError
from .lines import error_text, guarded, needs_pandas, print_anything, print_line, say_error

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
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Stands in front of an image classifier and says when the classifier is being fooled.",
    epilog="Exit codes: 0 fine; 1 a finding (failed sanity check or verification, flagged image); 2 wrong use; 3 data missing or damaged; "
    "4 results cannot be written or read; 5 no such device; 70 a defect. Results live in SALIENTRY_HOME, data in SALIENTRY_DATA.",
)
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Out = Annotated[Path | None, typer.Option(help="Folder of the report; default RECIPE-report.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1.")]
Seed = Annotated[int, typer.Option(help="Run seed: moves what is learned and drawn, never who is tested.")]
Workers = Annotated[int, typer.Option(envvar="SALIENTRY_WORKERS", help="Processes that compute side by side; 0: one per core.")]
Numerics = Annotated[str, typer.Option(help="float32.")]
Settings = Annotated[list[str] | None, typer.Argument(help="KEY=VALUE: the recipe function's parameters.", show_default=False)]
Moved = Annotated[Path, typer.Argument(help="Folder of the export.", show_default=False)]
Home = Annotated[Path | None, typer.Option("--store", help="Folder of the results; default SALIENTRY_HOME.", metavar="DIR")]
Recipe = Annotated[str, typer.Argument(help="Name of a recipe: smoke, fast or whitebox.", show_default=False)]


@app.command()
def run(
    recipe: Recipe,
    settings: Settings = None,
    out: Out = None,
    device: Device = "cpu",
    seed: Seed = 0,
    numerics: Numerics = "float32",
    workers: Workers = 0,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Compute one detector, the one whose key in records.json begins so, and what it stands on; no report is written. "
            "random draws one and says how to draw it again (random:SEED).",
        ),
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="With --only: fit, calibrate and score it anew, whatever the store holds of it, and print its AUROC on every attacked "
            "test set beside that of the records in FOLDER; exit 1 when one differs by more than .001.",
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Run a recipe, write its report, leave its guard behind. A second call goes on where the first one was."""
    with guarded(debug):
        from .bars import ProgressDisplay

        if out is not None and (only is not None or compare is not None):
            raise UsageError("--only writes no report: leave --out away")
        command = " ".join(["salientry", *sys.argv[1:]])
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

                code = int(bool(execute(recipe, settings or [], out, command=command, **how).failed))
        raise typer.Exit(code)


@app.command()
def plan(
    recipe: Recipe,
    settings: Settings = None,
    every: Annotated[bool, typer.Option("--all", help="A line for each step, not for each kind of step.")] = False,
    device: Device = "cpu",
    seed: Seed = 0,
    numerics: Numerics = "float32",
    debug: Debug = False,
) -> None:
    """List a recipe's steps: what is done, what is left, how long it will take (from recorded seconds, of one process)."""
    with guarded(debug):
        from .running import planned

        for line in planned(recipe, settings or [], device=device, seed=seed, numerics=numerics, every=every):
            print_line(line)


@app.command()
def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            help="A folder with records.json, and perhaps one with the white box on its classifier; or a folder of such folders, one for "
            "each data set; with --claims any number.",
            metavar="FOLDER...",
            show_default=False,
        ),
    ],
    verify: Annotated[
        bool, typer.Option("--verify", help="Compute every number again from the scores that are kept; exit 1 on a difference.")
    ] = False,
    cells: Annotated[
        str | None,
        typer.Option(
            help="figure2: list the finite cells of the grids, the reasons for the others, attacks and detectors; exit 1 if amiss."
        ),
    ] = None,
    claims: Annotated[Path | None, typer.Option(help="Write a verdict on each claim of the paper to this file (Markdown).")] = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Print how far the numbers of two runs of one recipe differ, by measure; nothing is written."),
    ] = None,
    timing: Annotated[Path | None, typer.Option(help="With --claims: what `python -m benchmarks.guard` wrote.")] = None,
    debug: Debug = False,
) -> None:
    """Write report.html and report.json from score records alone, or verify them, or list a figure's cells, or judge the claims.

    A folder without records of its own, whose sub-folders have some, becomes one page of all its data sets, and each of them its own.
    """
    with guarded(debug):
        with needs_pandas():
            from ..report import claims as document
            from ..report import collection
            from ..report.report import absent, listed, write
            from ..report.report import verify as checked
        from ..store import packed

        other = "--cells" if cells is not None else "--verify" if verify else "--against" if against is not None else ""
        if claims is not None and not other:
            print_line(f"wrote {document.write(folders, claims, timing)}")
            return
        folder, beside = document.single(folders, claims, timing, other)
        if against is not None:
            from ..results.against import compared

            for line in compared((folder, against)):
                print_line(line)
            return
        if cells is not None:
            lines, complete = listed(folder, cells)
            for line in lines:
                print_line(line)
            raise typer.Exit(0 if complete else 1)
        several = [] if packed(folder / "records.json").exists() else collection.runs(folder)
        if several and beside is not None:
            raise UsageError(f"{folder} holds several runs, each with its own white box: give it alone, not with {beside}")
        if verify:
            left: list[str] = []
            total = collection.verify(folder, left.append) if several else checked(folder, left.append)
            for line in left:
                print_line(line)
            print_line(f"{total} numbers {'agree with' if left else 'follow from'} the records in {folder}")
        else:
            print_line(f"wrote {collection.write(folder) if several else write(folder, beside=beside)}")
            for shard in [f"{p}/{s}" for p in several for s in absent(p)] or ([] if several else absent(folder)):
                print_line(f"warning: {shard} is missing: what is computed from it is left out (`salientry run` writes it again)", err=True)


@app.command()
def check(
    guard: Annotated[Path, typer.Argument(help="Folder of a saved guard.", show_default=False)],
    images: Annotated[list[Path], typer.Argument(help="Pictures of the guard's size.", show_default=False)],
    classifier: Annotated[
        str | None, typer.Option(help="module:callable, or a folder with a classifier.json; default the copy that the guard names.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights for it: .safetensors or .pt.")] = None,
    detector: Annotated[str | None, typer.Option(help="module:name of your own detector, where the guard is of one.")] = None,
    overlay: Annotated[Path | None, typer.Option(help="Folder for pictures with the map laid over them.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    device: Device = "cpu",
    debug: Debug = False,
) -> None:
    """Judge pictures, one line each, and those that cannot be judged with a line of why. Exit code 0: clean, 1: at least one flagged,
    2: error, of one picture or of all.
    """
    with guarded(debug, error_code=2):
        from .checking import judge

        broken: list[Error] = []

        def refused(e: Error) -> None:
            broken.append(e)
            say_error(error_text(e)[0])

        verdicts = judge(
            guard, images, classifier=classifier, weights=weights, detector=detector, overlay=overlay, device=device, refused=refused
        )
        for v in verdicts:
            print_line(json.dumps(v.json()) if as_json else v.line())
        raise typer.Exit(2 if broken else int(any(v.flagged for v in verdicts)))


@app.command()
def datasets(
    verify: Annotated[bool, typer.Option("--verify", help="Read those that are here and compare their checksums.")] = False,
    debug: Debug = False,
) -> None:
    """List the data sets: what each is, whether it is here, what is missing and where it goes; and how your own images come in."""
    with guarded(debug):
        from .datasets import described

        for line in described(verify):
            print_line(line)


@app.command()
def attack(
    classifier: Annotated[
        str,
        typer.Option(
            help="module:callable, called without arguments; a folder with a classifier.json; or a NAME of ours (compact), built for "
            "the images' shape and as many classes as the weights have outputs.",
            show_default=False,
        ),
    ],
    attack: Annotated[
        list[str],
        typer.Option(help="fgsm, deepfool, ...; several with commas between them, or all.", show_default=False, metavar="NAME|all"),
    ],
    data: Annotated[
        Path,
        typer.Option(
            help="Folder of pictures of one size, where sub-folders are classes, numbered in the order of their names; or an .npz with "
            "images (N, C, H, W), uint8 or floats in [0, 1], and perhaps integer labels (N,).",
            metavar="FOLDER|FILE",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the results.", metavar="DIR", show_default=False)],
    weights: Annotated[Path | None, typer.Option(help="Weights for it: .safetensors or .pt; a NAME needs them.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE for every attack named, ATTACK.KEY=VALUE for one: --set eps=8/255.", metavar="KEY=VALUE"),
    ] = None,
    png: Annotated[bool, typer.Option("--png", help="Also write valid 8-bit PNGs, and measure those.")] = False,
    limit: Annotated[int | None, typer.Option(help="So many images at most, evenly spaced.")] = None,
    device: Device = "cpu",
    seed: Annotated[int, typer.Option(help="Moves what attacks draw.")] = 0,
    debug: Debug = False,
) -> None:
    """Attack your own classifier; success is measured again from the files that were written.

    The label to leave is the classifier's own answer. With labels known, success is counted among the images that were right.
    DIR gets attacks.json, images.json, and for each attack float32 arrays, columns.safetensors and, with --png, pictures. The same
    command goes on where it was; a DIR of another classifier, other images, settings or another seed is refused, never reused.
    """
    with guarded(debug):
        from .attacking import execute

        execute(
            classifier, weights, attack, data, out, settings=settings or [], png=png, limit=limit, seed=seed, device=device, say=print_line
        )


@app.command("export")
def export_(folder: Moved, store: Home = None, debug: Debug = False) -> None:
    """Pack a store's results into FOLDER for another machine, in files under 15 MiB with their sha256 in manifest.json.

    Packed are weights, ids, seeds, scores, values, choices and figures by image. Left out, listed in the manifest, and made again by a run
    that needs them: rows with more than 128 numbers for each of more than 32 images (images, maps, gradients, the data's pixels).
    """
    with guarded(debug):
        from .transfer import exported

        for line in exported(folder, store):
            print_line(line)


@app.command("import")
def import_(folder: Moved, store: Home = None, debug: Debug = False) -> None:
    """Put what `salientry export` packed into FOLDER into a store. Everything is checked before anything is written.

    A complete result of the store is left alone; killed at any moment, the same command goes on. The next run re-uses what came, and
    makes again only the images that something missing, or its records, need: the same ones to the last bit on a machine that computes
    alike, else perhaps other last digits.
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
    """Stands in front of an image classifier and says when the classifier is being fooled."""


def main() -> Any:
    """The console script."""
    return app()


__all__ = ["app", "main"]
