"""Imports run one way."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "salientry"
LAYERS = [
    {"errors", "shared_disk"},
    {"files", "inference", "machine", "renamed", "processes"},
    {"rows", "rates", "pixels"},
    {"keys", "store", "metrics", "modules", "randomness", "progress", "picture_decoding"},
    {"types", "learned", "batches", "inputs", "sealed"},
    {"training", "layers", "preflight", "harmless"},
    {"paper_cnn", "runner"},
    {"evidence"},
    {"evidence_set"},
    {"attacks"},
    {"datasets", "classifiers", "controls", "saliency", "detectors"},
    {"protocol", "calibration", "drift"},
    {"guard_files", "summary", "campaign", "verdict", "guard_cost"},
    {"guard_card"},
    {"guard"},
    {"adaptive", "recalibration", "picture_check"},
    {"picture_stream"},
    {"experiment"},
    {"recipes", "results", "serve", "video", "onnx_file"},
    {"report"},
    {"judging", "testing"},
    {"cli"},
]
LEVEL = {name: i for i, layer in enumerate(LAYERS) for name in layer}
BELOW = {
    "shared_disk",
    "errors",
    "files",
    "machine",
    "processes",
    "renamed",
    "rows",
    "keys",
    "store",
    "progress",
    "types",
    "learned",
    "batches",
    "training",
}
ONLY = {
    "runner": BELOW,
    "results": {"store", "rows", "rates", "files", "renamed", "metrics", "inference", "errors"},
    "report": {"store", "rows", "rates", "files", "renamed", "metrics", "inference", "errors", "results"},
}
NEVER = {"serve": {"attacks", "datasets", "experiment"}}
FILES = sorted(p for p in ROOT.rglob("*.py") if p.parent != ROOT or p.stem not in ("__init__", "__main__"))


def place(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def module(path: Path) -> tuple[str, ...]:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imports(path: Path, tree: ast.AST | None = None) -> list[tuple[str, ...]]:
    """What a file imports of the package, also inside functions, as module paths."""
    here = module(path)
    package = here if path.name == "__init__.py" else here[:-1]
    found: list[tuple[str, ...]] = []
    for node in ast.walk(tree or ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [tuple(a.name.split(".")) for a in node.names if a.name.split(".")[0] == "salientry"]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            base = (*start, *(node.module.split(".") if node.module else ()))
            if base[:1] == ("salientry",):
                found += [(*base, a.name) for a in node.names]
    return found


def test_the_checker_reads_the_package() -> None:
    assert len(FILES) > 60
    assert sum(len(imports(p)) for p in FILES) > 300
    assert {place(p) for p in FILES} <= set(LEVEL)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down_and_siblings_do_not_meet(path: Path) -> None:
    mine = place(path)
    for target in imports(path):
        if len(target) < 2 or target[1] not in LEVEL:
            assert target[1:2] in ((), ("__version__",), ("recipes",)), f"{path.name} imports {'.'.join(target)}"
            continue
        theirs = target[1]
        if theirs == mine:
            continue
        assert LEVEL[theirs] < LEVEL[mine], f"{mine} imports {theirs}"
        assert theirs in ONLY.get(mine, {theirs}), f"{mine} may not reach {theirs}"
        assert theirs not in NEVER.get(mine, set()), f"{mine} may not reach {theirs}"


def test_the_runner_knows_nothing_of_what_it_runs() -> None:
    """It would walk any graph: of what its steps are about not a word stands in it."""
    words = r"image|classif|attack|saliency|detector|adversar|logit|pixel|picture|network|\bmaps\b"
    files = sorted((ROOT / "runner").glob("*.py"))
    assert len(files) > 6
    found = [f"{p.name}: {line.strip()}" for p in files for line in p.read_text().splitlines() if re.search(words, line, re.IGNORECASE)]
    assert not found


def test_no_import_of_ours_hides_in_a_function() -> None:
    """But in the command line, which must not load torch for `--help`."""
    hidden = []
    for path in FILES:
        if place(path) == "cli":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                hidden += [f"{path.name}: {'.'.join(t)}" for t in imports(path, node)]
    assert not hidden


def test_no_two_modules_import_each_other_in_a_circle() -> None:
    known = {module(p): p for p in FILES}
    graph: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for name, path in known.items():
        targets = {t if t in known else t[:-1] for t in imports(path)}
        graph[name] = {t for t in targets if t in known and t != name}
    done: set[tuple[str, ...]] = set()

    def visit(name: tuple[str, ...], trail: tuple[tuple[str, ...], ...]) -> None:
        assert name not in trail, " -> ".join(".".join(t) for t in (*trail[trail.index(name) :], name))
        if name not in done:
            for t in sorted(graph[name]):
                visit(t, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())
