"""What the files of recipes say of their records."""

from __future__ import annotations

import ast
import json
import lzma
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TITLES = {"mnist": "MNIST", "cifar10": "CIFAR-10", "assira": "ASSIRA"}
NUMBER = r"[01]?\.\d{3} \[[01]?\.\d{3}, [01]?\.\d{3}\]"


def said(recipe: str) -> str:
    text = (ROOT / "salientry" / "recipes" / f"{recipe}.py").read_text()
    return " ".join((ast.get_docstring(ast.parse(text)) or "").split())


def steps(recipe: str, data: str) -> list[dict[str, Any]]:
    return list(json.loads(lzma.decompress((ROOT / "results" / recipe / data / "run.json.xz").read_bytes()))["steps"])


@pytest.mark.parametrize("data", TITLES)
@pytest.mark.parametrize("recipe", ["fast", "whitebox"])
def test_the_time_is_that_of_the_record(recipe: str, data: str) -> None:
    """Of the white box, what ``fast`` has not made."""
    made = {s["key"] for s in steps("fast", data)} if recipe == "whitebox" else set()
    seconds = sum(s["seconds"] or 0 for s in steps(recipe, data) if s["key"] not in made)
    assert f"{TITLES[data]}: {seconds:,.0f} s" in said(recipe)


@pytest.mark.parametrize("recipe", ["fast", "whitebox"])
def test_its_numbers_stand_in_the_tables_of_results(recipe: str) -> None:
    found = said(recipe).partition("Result:")[2]
    tables = (ROOT / "docs" / "RESULTS.md").read_text()
    numbers = re.findall(NUMBER, found) + re.findall(r"n = \d+", found)
    assert len(numbers) >= 5
    assert [n for n in numbers if n not in tables] == []
