"""The recipes and their parameters for `--help` and completion, read from their source: neither waits for torch."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from ..files import read_text

RECIPES = ("smoke", "fast", "whitebox", "paper", "sweep")


def _source(name: str) -> ast.Module:
    return ast.parse(read_text(Path(__file__).parents[1] / "recipes" / f"{name}.py"))


def _function(name: str) -> ast.FunctionDef:
    return next(n for n in _source(name).body if isinstance(n, ast.FunctionDef) and n.name == name)


def _constants(name: str) -> dict[str, ast.expr]:
    """The values that a recipe's file gives a name of its own."""
    there = [n for n in _source(name).body if isinstance(n, ast.Assign)]
    return {t.id: n.value for n in there for t in n.targets if isinstance(t, ast.Name)}


def written(value: Any) -> str:
    """A parameter's value as it is written on the command line: ``true``, ``8``, and nothing for ``None``."""
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def settable(name: str) -> dict[str, Any]:
    """A recipe's parameters that the command line sets, with their defaults: words, numbers, yes or no, and ``None`` for a whole number."""
    recipe, known = _function(name), _constants(name)
    arguments, keywords = recipe.args.args, recipe.args.kwonlyargs
    given = [None] * (len(arguments) - len(recipe.args.defaults)) + list(recipe.args.defaults)
    found = {}
    for a, default in [*zip(arguments, given, strict=True), *zip(keywords, recipe.args.kw_defaults, strict=True)]:
        default = known.get(default.id, default) if isinstance(default, ast.Name) else default
        if isinstance(default, ast.Constant) and (default.value is not None or ast.unparse(a.annotation or default) == "int | None"):
            found[a.arg] = default.value
    return found


def about(name: str) -> str:
    """A recipe's parameters and their defaults, as they are written on the command line; what has no default value of its own is empty."""
    return " ".join(f"{k}={written(v)}" for k, v in settable(name).items())


def computes(name: str) -> str:
    """What a recipe computes and how long that takes, in the words of its file."""
    said = ast.get_docstring(_source(name)) or ""
    time = re.search(r"^Time:(.*?)(?:\n\w+:|\Z)", said, re.M | re.S)
    words = [" ".join(part.split()) for part in (said.partition("\n\n")[0], *([time[1]] if time else []))]
    return " Time: ".join(words).replace("``", "") + ("." if time else "")


def meanings(name: str) -> dict[str, str]:
    """What each parameter of :func:`settable` means, in the words of the recipe's docstring."""
    said = ast.get_docstring(_function(name)) or ""
    part = re.search(r"^Args:\n(.*?)(?:\n\n|\Z)", said, re.M | re.S)
    found = re.findall(r"^    (\w+): (.*?)(?=\n    \w+: |\Z)", part[1] if part else "", re.M | re.S)
    return {k: " ".join(words.split()) for k, words in found if k in settable(name)}


class WithRecipes(TyperCommand):
    """A command whose help ends with the recipes, what each computes and what it can be told."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write them."""
        with formatter.section("Recipes"):
            formatter.write_dl([(name, computes(name)) for name in RECIPES])
        with formatter.section("Their parameters, with their defaults (what each means: docs/paper.md)"):
            formatter.write_dl([(name, about(name)) for name in RECIPES])
        super().format_epilog(ctx, formatter)


__all__ = ["RECIPES", "WithRecipes", "about", "computes", "meanings", "settable", "written"]
