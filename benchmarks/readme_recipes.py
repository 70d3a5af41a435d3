"""docs/paper.md's tables of what each recipe can be told: names, defaults and words from the recipes themselves."""

from __future__ import annotations

import importlib
import re

from salientry.cli.recipe_list import RECIPES, computes, meanings, settable


def recipes() -> str:
    """Of each recipe a sentence and a table."""
    lines: list[str] = []
    for name in RECIPES:
        lines += [f"### {name}", "", computes(name), "", "| parameter | default | what it is |", "| --- | --- | --- |"]
        before = ""
        for parameter, default in settable(name).items():
            before = _words(name, meanings(name)[parameter], before)
            lines.append(f"| `{parameter}` | {_default(default)} | {before} |")
        lines.append("")
    return "\n".join(lines[:-1])


def _words(name: str, said: str, before: str) -> str:
    """A docstring's words for whoever types a command: names of data sets in place of the dictionary, empty in place of None."""
    if said == "likewise.":
        return before
    known = getattr(importlib.import_module(f"salientry.recipes.{name}"), "CONFIGS", {})
    said = said.replace("a name of ``CONFIGS``", ", ".join(f"`{k}`" for k in known)).replace("``CONFIGS`` says", "the data set has")
    said = said.replace("names of ``DETECTORS``", "names from [methods](methods.md#detectors)")
    said = re.sub(r":\w+:`~?([^`]*)`", lambda m: f"`{m[1].rsplit('.', 1)[-1]}`", said)
    return said.replace("``", "`").replace("None: ", "empty: ").removesuffix(".")


def _default(value: object) -> str:
    if value is None or value == "":
        return "empty"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
