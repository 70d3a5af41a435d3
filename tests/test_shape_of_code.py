"""The shape that keeps the code readable, held by a test. If a cap makes a file worse, change the cap in the same commit and say why."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import statistics
from collections import Counter
from pathlib import Path

import pytest
from torch import nn

from salientry import ATTACKS, CLASSIFIERS, CONTROLS, DATASETS, DETECTORS, SALIENCY
from salientry.adaptive import ADAPTIVE

ROOT = Path(__file__).parents[1] / "salientry"
FILES = sorted(ROOT.rglob("*.py"))
FOLDERS = {
    "adaptive": ADAPTIVE,
    "attacks": ATTACKS,
    "classifiers": CLASSIFIERS,
    "controls": CONTROLS,
    "datasets": DATASETS,
    "detectors": DETECTORS,
    "saliency": SALIENCY,
}
BY_HAND = {
    "arrays": "a user's own images",
    "folder": "a user's own pictures",
    "external": "a user's own network",
    "binarization": "a test of attacks",
    "weak": "detectors that attacks are tested on",
    "hardening": "adversarial training",
    "mixture": "several attacks that are named to it",
    "transfer": "an attack on a network that is given to it",
    "universal": "a perturbation that it learns",
    "paper_settings": "settings of the paper's size",
}  # public files that no name stands for

TAKES_APART = {"split", "rsplit", "partition", "rpartition", "removeprefix", "removesuffix", "startswith", "endswith"}
NAMES = {  # what has a blank and is no printed text, but a name in records
    " (": "a detector's title, with its training scheme in brackets",
    "logits ": "a fusion's scheme",
    "without ": "likewise",
    "with ": "likewise",
    " ": "a title under an older name, or a header's scheme",
    "Eq. 3": "a part of Table 3",
    "Eq. 4": "likewise",
    r"(?=; |\n)": "a cell as a table of ours describes it",
    ", JPEG ": "a cell of the guard's record, which names the way of saving after the attack",
    ", ": "how a row of the service's record was asked",
    " --images ": "the command of a leaderboard, which alone says how many images were asked for",
}

DOCUMENTS = [p for n in ("readme*", "*_page", "*tables", "recorded", "pictures") for p in (ROOT.parent / "benchmarks").glob(f"{n}.py")]
DOCSTRINGS = {"readme_methods", "readme_recipes"}  # they print what methods say of themselves

TWICE = {
    "Run": "the experiments' is the runner's, which knows nothing of experiments",
    "Reference": "a user's own detector's stands in the files of stores and guards by this name; the other is private",
}


def test_files_and_functions_are_short() -> None:
    lengths = {p: len(p.read_text().splitlines()) for p in FILES}
    assert len(lengths) > 60
    assert {p.name: n for p, n in lengths.items() if n > (300 if p.relative_to(ROOT).parts[0] in ("report", "results") else 400)} == {}
    assert statistics.median(n for n in lengths.values() if n > 5) <= 150
    long = {}
    for p in FILES:
        for node in ast.walk(ast.parse(p.read_text())):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno + 1 > 80:
                long[f"{p.name}:{node.name}"] = (node.end_lineno or 0) - node.lineno + 1
    assert long == {}


def test_there_are_no_rooms_without_a_name() -> None:
    names = {p.stem for p in FILES} | {p.name for p in ROOT.rglob("*") if p.is_dir()}
    assert not names & {"utils", "util", "helpers", "common", "misc", "core", "base", "registry", "config"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_names_are_files(folder: str) -> None:
    files = {p.stem for p in (ROOT / folder).glob("*.py") if not p.stem.startswith("_")} - set(BY_HAND)
    assert files == set(FOLDERS[folder])
    for name, kind in FOLDERS[folder].items():
        assert getattr(importlib.import_module(f"salientry.{folder}.{name}"), kind.__name__) is kind


@pytest.mark.parametrize("folder", FOLDERS)
def test_methods_are_frozen_settings_without_base_classes(folder: str) -> None:
    for kind in FOLDERS[folder].values():
        assert dataclasses.is_dataclass(kind)
        assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
        assert kind.__bases__ == (object,)
        assert not any(isinstance(f.type, type) and issubclass(f.type, nn.Module) for f in dataclasses.fields(kind))


def test_attacks_share_one_vocabulary() -> None:
    known = {"eps", "steps", "step_size", "norm", "restarts", "confidence", "target", "overshoot", "candidates"}
    known |= {"decay", "search_steps", "lr", "initial_const", "abort_early", "theta", "gamma", "reuse", "score"}
    known |= {"radius", "lowest", "highest", "start", "share", "loss", "queries", "version", "turn", "shift", "grid", "probes"}
    for kind in ATTACKS.values():
        assert {f.name for f in dataclasses.fields(kind)} <= known  # type: ignore[arg-type]


def test_the_library_never_prints_and_never_configures_logging() -> None:
    for p in FILES:
        if p.relative_to(ROOT).parts[0] == "cli":
            continue
        calls = {n.func.id for n in ast.walk(ast.parse(p.read_text())) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
        assert "print" not in calls, p.name
        assert "basicConfig" not in p.read_text(), p.name


def test_torchvision_and_pydantic_are_not_imported() -> None:
    for p in FILES:
        for node in ast.walk(ast.parse(p.read_text())):
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            roots = {n.split(".")[0] for n in names}
            assert "torchvision" not in roots, p.name
            assert "pydantic" not in roots or p.relative_to(ROOT).parts[0] == "serve", p.name


def test_no_printed_text_is_taken_apart() -> None:
    """What a page, a verdict or a card prints has blanks; a number, name or reason that is needed again has a field."""
    found = []
    places = ("report", "results", "judging", "serve", "guard_card.py", "summary.py")
    for p in (*(p for p in FILES if p.relative_to(ROOT).parts[0] in places), *(p for p in DOCUMENTS if p.stem not in DOCSTRINGS)):
        for node in ast.walk(ast.parse(p.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in TAKES_APART:
                words = [c.value for a in node.args for c in ast.walk(a) if isinstance(c, ast.Constant) and isinstance(c.value, str)]
                found += [(p.name, w) for w in words if not w.isprintable() or not w.isascii() or " " in w]
    assert {w for _, w in found} - {"\n"} == set(NAMES), found


def test_which_detectors_are_shown_stands_in_one_place() -> None:
    """Whoever lists three detectors or more takes them from `results/choice.py`; what names them in words has all of them."""
    titles = {k.__name__ for k in DETECTORS.values()} | {"ID+", "fusion"}
    found = set()
    for p in (
        *(p for p in FILES if p.relative_to(ROOT).parts[0] in ("report", "results", "judging")),
        *DOCUMENTS,
    ):
        for node in ast.walk(ast.parse(p.read_text())):
            items = node.keys if isinstance(node, ast.Dict) else node.elts if isinstance(node, ast.Tuple | ast.List | ast.Set) else []
            if sum(isinstance(i, ast.Constant) and i.value in titles for i in items) > 2:
                found.add(p.relative_to(ROOT.parent).as_posix())
    words = {"salientry/results/names.py", "salientry/report/naming.py"}
    assert found == {"salientry/results/choice.py"} | words


def test_one_class_name_is_one_class() -> None:
    names = Counter(n.name for p in FILES for n in ast.walk(ast.parse(p.read_text())) if isinstance(n, ast.ClassDef))
    assert {n: k for n, k in names.items() if k > 1} == dict.fromkeys(TWICE, 2)
