"""What is loaded when, and what the commands say of themselves."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import salientry
from salientry.attacks import ATTACKS
from salientry.cli.recipe_list import RECIPES, computes, meanings, settable, written
from salientry.cli.running import parameters, recipe_named
from salientry.errors import UsageError

from .conftest import Cli

HEAVY = ("torch", "numpy", "scipy", "matplotlib", "PIL", "safetensors", "rich.progress")
OPTIONS = {
    "run": [
        "--only",
        "--compare",
        "random",
        "--workers",
        "--out",
        "--device",
        "--seed",
        "--numerics",
        "--debug",
        "recipe",
        "KEY=VALUE",
        "smoke",
    ],
    "export": ["--store", "--debug", "folder", "sha256", "15 MiB", "more than 128 numbers", "more than 32 images"],
    "import": ["--store", "--debug", "folder", "are kept", "compared before anything is written"],
    "plan": ["--all", "--device", "--seed", "--numerics", "--debug", "recipe", "KEY=VALUE", "estimate of the time"],
    "datasets": ["--verify", "--debug", "what is missing", "where to put it"],
    "report": ["--verify", "--cells", "figure2", "--debug", "folder", "records.json"],
    "fit": [
        "--classifier",
        "--weights",
        "--second",
        "--second-weights",
        "--data",
        "--out",
        "--level",
        "--promise",
        "--quick",
        "--thorough",
        "--groups",
        "--detector",
        "--resize",
        "--workers",
        "--device",
        "--seed",
        "--store",
        "--debug",
        "module:callable",
        "not trained on",
        "continues when the same command is given again",
    ],
    "recalibrate": ["--classifier", "--weights", "--second", "--detector", "--level", "--out", "--debug", "correct answers"],
    "watch": ["--classifier", "--every", "--resize", "--size", "--block", "--alpha", "--out", "--timeline", "--json", "1: alarm"],
    "serve": [
        "--classifier",
        "--weights",
        "--second",
        "--host",
        "--port",
        "--mode",
        "--api-key-file",
        "--keep-flagged",
        "--drain",
        "--device",
        "--debug",
        "SIGHUP",
        "SIGTERM",
        "salientry[serve]",
    ],
    "audit": ["--json", "--debug", "DIR|FILE", "scores.parquet", "images.npz", "evaluation.json", "1: at least one"],
    "check": [
        "--classifier",
        "--weights",
        "--second",
        "--second-weights",
        "--overlay",
        "--json",
        "--device",
        "--debug",
        "module:callable",
        "1: at least one flagged",
    ],
}


def loaded(code: str) -> list[str]:
    """Which of the heavy packages a fresh Python has loaded after the code."""
    tail = f"\nimport sys, json\nprint(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=True)
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded("import salientry") == []
    assert loaded("import salientry\ndir(salientry)\nsalientry.__version__\nsalientry.Error") == []
    assert "torch" in loaded("import salientry\nsalientry.Guard"), "the check above can fail"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["export", "--help"],
        ["check", "--help"],
        ["fit", "--help"],
        ["serve", "--help"],
        ["datasets", "--help"],
        ["--version"],
        ["nonsense"],
    ],
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
from salientry.cli import app
try:
    app({arguments!r})
except SystemExit:
    pass
"""
    assert loaded(code) == []


def test_an_import_is_timed_without_torch() -> None:
    """The command of the requirement, as it stands there."""
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", "import salientry"], capture_output=True, text=True, check=True)
    names = [line.split("|")[-1].strip() for line in done.stderr.splitlines()]
    assert "salientry" in names
    assert not [n for n in names if n.split(".")[0] in HEAVY]


def test_every_exported_name_is_loaded_when_it_is_asked_for() -> None:
    code = "import salientry\nassert not set(salientry.__all__) & set(vars(salientry))\n"
    code += "for name in salientry.__all__:\n    assert getattr(salientry, name) is vars(salientry)[name], name\nprint('all')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "all\n"


def test_version() -> None:
    result = Cli("--version")
    assert (result.code, result.out) == (0, f"salientry {salientry.__version__}\n")


def test_help_names_the_commands_and_the_exit_codes() -> None:
    result = Cli("--help")
    assert result.code == 0
    for word in (
        *OPTIONS,
        "Exit codes",
        "0 success",
        "2 wrong arguments",
        "3 data",
        "4 results",
        "5 no such device",
        "130 interrupted",
        "SALIENTRY_HOME",
    ):
        assert word in " ".join(result.out.split()), word


@pytest.mark.parametrize("command", OPTIONS)
def test_each_command_says_what_it_takes(command: str) -> None:
    result = Cli(command, "--help")
    assert result.code == 0
    said = " ".join(result.out.split())
    for word in OPTIONS[command]:
        assert word in said, word


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_help_of_run_says_what_a_recipe_computes_and_each_parameter_is_explained(recipe: str) -> None:
    assert computes(recipe).split()[:6] == (importlib.import_module(f"salientry.recipes.{recipe}").__doc__ or "").split()[:6]
    assert " Time: " in computes(recipe) and computes(recipe) in " ".join(Cli("run", "--help").out.split())
    assert list(meanings(recipe)) == list(settable(recipe)) and all(meanings(recipe).values())


def test_the_help_of_attack_lists_all_attacks() -> None:
    assert ", ".join(ATTACKS) in " ".join(Cli("attack", "--help").out.split())


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_help_of_run_lists_what_the_recipe_can_be_told(recipe: str) -> None:
    """As the recipe itself says once it is imported."""
    said = " ".join(Cli("run", "--help").out.split("Their parameters, with")[1].split())
    found = {n: p.default for n, p in inspect.signature(recipe_named(recipe)).parameters.items() if n != "run"}
    for name, value in settable(recipe).items():
        assert found[name] == value
        assert f"{name}={'' if value is None else str(value).lower() if isinstance(value, bool) else value}" in said
        text = 3 if value is None else str(value).lower() if isinstance(value, bool) else value
        assert parameters(recipe_named(recipe), [f"{name}={text}"]) == {name: 3 if value is None else value}
    with pytest.raises(UsageError, match="has: " + re.escape(", ".join(f"{n}={written(v)}" for n, v in settable(recipe).items()))):
        parameters(recipe_named(recipe), ["nonsense=1"])


def test_the_shell_completes_commands_recipes_and_attacks() -> None:
    """As bash asks: the words so far, and which of them is to be completed."""
    for words, wanted in (("salientry da", "datasets"), ("salientry run sm", "smoke"), ("salientry attack --attack deepf", "deepfool")):
        env = os.environ | {"_SALIENTRY_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        code = "from salientry.cli import app; app(prog_name='salientry')"
        assert subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False).stdout.split() == [wanted]


def test_nothing_at_all_shows_the_help() -> None:
    result = Cli()
    assert result.code == 2
    assert "Usage: " in result.out + result.err
    assert "check" in result.out + result.err


def test_the_console_script_and_the_module_are_the_same(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("salientry")
    calls = [[sys.executable, "-m", "salientry"], *([[str(script)]] if script.exists() else [])]
    said = [subprocess.run([*c, "--version"], capture_output=True, text=True, env=os.environ, cwd=tmp_path, check=True) for c in calls]
    assert {d.stdout for d in said} == {f"salientry {salientry.__version__}\n"}
