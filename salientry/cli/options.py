"""Options that several commands have, and those whose words are long."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Annotated

import typer

from ..files import read_text
from .recipe_list import RECIPES

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Out = Annotated[Path | None, typer.Option(help="Folder that the report is written to; default RECIPE-report.")]
Device = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1.")]
Seed = Annotated[
    int, typer.Option(help="Seed of training and random draws; the split into training and test images does not depend on it.")
]
Workers = Annotated[int, typer.Option(envvar="SALIENTRY_WORKERS", help="Number of parallel processes; 0: one per core.")]
Numerics = Annotated[
    str, typer.Option(help="float32: one thread a step, equal bytes. threads: long trainings use idle cores; equal but for rounding.")
]
Settings = Annotated[list[str] | None, typer.Argument(help="Parameters of the recipe, as KEY=VALUE: see below.", show_default=False)]
Moved = Annotated[Path, typer.Argument(help="Folder of the export.", show_default=False)]
Home = Annotated[Path | None, typer.Option("--store", help="Folder of the results; default SALIENTRY_HOME.", metavar="DIR")]
Recipe = Annotated[
    str,
    typer.Argument(
        help=f"Name of a recipe: {', '.join(RECIPES[:-1])} or {RECIPES[-1]}.",
        show_default=False,
        autocompletion=lambda incomplete: [r for r in RECIPES if r.startswith(incomplete)],
    ),
]
Second = Annotated[
    str | None,
    typer.Option(
        help="The second network, module:callable or a folder with a classifier.json, if the guard asks one that does not lie with it."
    ),
]
SecondWeights = Annotated[Path | None, typer.Option(help="Weights of the second network: .safetensors or .pt.")]
SavedOrGiven = Annotated[
    str | None, typer.Option(help="module:callable, or a folder with a classifier.json; default: the classifier saved with the guard.")
]
Weights = Annotated[Path | None, typer.Option(help="Weights of the classifier: .safetensors or .pt.")]
OwnDetector = Annotated[str | None, typer.Option(help="module:name of your own detector, if the guard was fitted with one.")]


# --- attack ----------------------------------------------------------------------------------------------------


def _names(folder: str, dictionary: str) -> list[str]:
    """The keys of a dictionary of methods, read from its source: nothing waits for torch. None where there is no source."""
    source = Path(__file__).parents[1] / folder / "__init__.py"
    body = ast.parse(read_text(source)).body if source.is_file() else []
    there = (n.value for n in body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name) and n.target.id == dictionary)
    found = next(there, None)
    return [str(ast.literal_eval(key)) for key in getattr(found, "keys", ()) if key is not None]


ATTACK_NAMES = _names("attacks", "ATTACKS")

Attacked = Annotated[
    str,
    typer.Option(
        help="module:callable, called without arguments; a folder with a classifier.json; or the NAME of a classifier of this package "
        "(compact), built for the images' shape and as many classes as the weights have outputs.",
        show_default=False,
    ),
]
JudgedBy = Annotated[
    str | None,
    typer.Option(
        help="In place of the usual dozen, with commas between them: names that `salientry attack --help` lists; module:name of your own, "
        "or of one of foolbox, torchattacks or ART.",
        metavar="NAME,...",
        show_default=False,
    ),
]
AttackNames = Annotated[
    list[str],
    typer.Option(
        help=f"Of {', '.join(ATTACK_NAMES)}; several separated by commas, or all; module:name of your own, or of one of foolbox, "
        "torchattacks or ART.",
        show_default=False,
        metavar="NAME|all",
        autocompletion=lambda incomplete: [a for a in (*ATTACK_NAMES, "all") if a.startswith(incomplete)],
    ),
]
AttackedData = Annotated[
    Path,
    typer.Option(
        help="Folder of images of one size, with one sub-folder per class, numbered in the order of their names; or an .npz with "
        "images (N, C, H, W), uint8 or floats in [0, 1], and optionally integer labels (N,).",
        metavar="FOLDER|FILE",
        show_default=False,
    ),
]
AttackSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="A setting of the attacks: KEY=VALUE for all, ATTACK.KEY=VALUE for one, as in --set eps=8/255.",
        metavar="KEY=VALUE",
    ),
]

AttackGuard = Annotated[
    Path | None,
    typer.Option(
        help="Folder of a guard of this classifier: count also what gets past it, and which images it flags before they are attacked.",
        metavar="DIR",
    ),
]

# --- fit -------------------------------------------------------------------------------------------------------

Fitted = Annotated[
    str, typer.Option(help="module:callable, called without arguments, or a folder with a classifier.json.", show_default=False)
]
FitData = Annotated[
    Path,
    typer.Option(
        help="Ordinary images that the classifier was not trained on: a folder of pictures of one size with one sub-folder per class, "
        "numbered in the order of their names; or an .npz with images (N, C, H, W), uint8 or whole 255ths, and integer labels (N,).",
        metavar="FOLDER|FILE",
        show_default=False,
    ),
]
FitSecond = Annotated[
    str | None,
    typer.Option(
        help="Another classifier of the same classes, module:callable or a folder with a classifier.json, whose answers are compared with "
        "the first one's; trained on the same data as that one, not on --data."
    ),
]
TrainSecond = Annotated[
    Path | None,
    typer.Option(
        help="In place of --second: images that the classifier was trained on, as for --data, also without classes (its answers are then "
        "learnt). A small second network is trained on them and saved with the guard; those that are also in --data are left out.",
        metavar="FOLDER|FILE",
    ),
]
FitSeed = Annotated[int, typer.Option(help="Seed of training and random draws.")]
FitResize = Annotated[
    str | None,
    typer.Option(
        help="How `check` brings pictures of another size to these images' size; default: it refuses them.", metavar="squash|crop"
    ),
]
Groups = Annotated[
    Path | None,
    typer.Option(
        help="Text file that says which images belong together (a scene, a patient): a name a line, in the order of the .npz, or of the "
        "sub-folders' and pictures' names. Images of one name stay together wherever images are divided.",
        metavar="FILE",
    ),
]
Detectors = Annotated[
    list[str] | None,
    typer.Option(
        help="Name of a detector, or module:name of your own; given several times, the best is kept. Default: several are tried.",
        metavar="NAME|module:name",
    ),
]
FitStore = Annotated[
    Path | None,
    typer.Option(
        "--store",
        help="Folder of intermediate results, which is kept; default DIR/.store, which is removed when the guard is complete.",
        metavar="FOLDER",
    ),
]
