"""What the package says of itself hangs together."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import salientry
from salientry.experiment import records
from salientry.guard_files import SCHEMA

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_a_release_has_one_version_and_its_changelog_says_the_formats_on_disk() -> None:
    assert PROJECT["version"] == salientry.__version__
    (entry,) = re.findall(
        rf"^## {re.escape(salientry.__version__)} \(\d{{4}}-\d\d-\d\d\)\n(.*?)^### ", (ROOT / "CHANGELOG.md").read_text(), re.M | re.S
    )
    assert f"guard on disk has schema {SCHEMA};" in entry
    assert f"Records have schema {records.SCHEMA}." in entry


def test_types_are_told_to_those_who_install_it() -> None:
    assert (ROOT / "salientry" / "py.typed").exists()
    assert "Typing :: Typed" in PROJECT["classifiers"]


def test_what_the_documentation_is_made_with_is_pinned() -> None:
    pinned = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    assert {re.split(r"[\[>]", need)[0] for need in PROJECT["optional-dependencies"]["docs"]} <= pinned
