"""The recipes and their parameters for `--help` and completion, read from their source: neither waits for torch."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from ..files import read_text

RECIPES = ("smoke", "fast", "whitebox", "paper", "sweep")


def settable(name: str) -> dict[str, Any]:
    """A recipe's parameters that the command line sets, with their defaults: words, numbers, yes or no, and ``None`` for a whole number."""
    source = Path(__file__).parents[1] / "recipes" / f"{name}.py"
    recipe = next(n for n in ast.parse(read_text(source)).body if isinstance(n, ast.FunctionDef) and n.name == name)
    arguments, keywords = recipe.args.args, recipe.args.kwonlyargs
    given = [None] * (len(arguments) - len(recipe.args.defaults)) + list(recipe.args.defaults)
    found = {}
    for a, default in [*zip(arguments, given, strict=True), *zip(keywords, recipe.args.kw_defaults, strict=True)]:
        if isinstance(default, ast.Constant) and (default.value is not None or ast.unparse(a.annotation or default) == "int | None"):
            found[a.arg] = default.value
    return found


def about(name: str) -> str:
    """A recipe's parameters and their defaults, as they are written on the command line; what has no default value of its own is empty."""
    return " ".join(f"{k}={'' if v is None else str(v).lower() if isinstance(v, bool) else v}" for k, v in settable(name).items())


class WithRecipes(TyperCommand):
    """A command whose help ends with the recipes and what each can be told."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write them."""
        with formatter.section("Recipes, and their parameters with their defaults"):
            formatter.write_dl([(name, about(name)) for name in RECIPES])
        super().format_epilog(ctx, formatter)


__all__ = ["RECIPES", "WithRecipes", "about", "settable"]
