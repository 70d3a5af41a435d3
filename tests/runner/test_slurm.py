"""The example for Slurm in docs/cluster.md, in its local form: the same classes' siblings that start processes here in place of jobs."""

from __future__ import annotations

import importlib
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from salientry.errors import UsageError
from salientry.experiment.records import export
from salientry.experiment.run import Run
from salientry.runner.executors import executor_called
from tests.tiny import recorded, tiny

from .test_pool import breaks, draws

ROOT = Path(__file__).parents[2]
LOCAL = {
    "executorlib": {"SlurmJobExecutor(max_workers=16": "SingleNodeExecutor(max_workers=2", "SlurmJobExecutor": "SingleNodeExecutor"},
    "dask_jobqueue": {
        "from dask_jobqueue import SLURMCluster": "from dask_jobqueue.local import LocalCluster",
        "SLURMCluster(": "LocalCluster(",
        'walltime="08:00:00", ': "",
        "jobs=16": "jobs=2",
    },
}
pytestmark = [
    pytest.mark.nightly,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),  # of dask-jobqueue's own
]


@pytest.fixture(params=sorted(LOCAL))
def named(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """``module:callable`` of the example that stands in the documentation."""
    pytest.importorskip(request.param)
    blocks = re.findall(r"(?:^(?:    .*)?\n)+", (ROOT / "docs" / "cluster.md").read_text("utf-8"), re.MULTILINE)
    (text,) = (re.sub(r"^    ", "", b, flags=re.MULTILINE) for b in blocks if f"from {request.param}" in b)
    for old, new in LOCAL[request.param].items():
        assert old in text
        text = text.replace(old, new)
    name = f"example_of_{request.param}"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    monkeypatch.chdir(tmp_path)
    sys.modules.pop(name, None)
    importlib.invalidate_caches()
    return f"{name}:jobs"


def test_it_leaves_the_records_of_one_process(finished: Path, tmp_path: Path, named: str) -> None:
    run = Run(tmp_path / "store")
    outputs = tiny(run)
    with warnings.catch_warnings(), executor_called(named) as executor:
        warnings.simplefilter("ignore")
        outcome = run.compute(list(outputs), executor=executor)
        made = [run.get(run.do(draws, i)) for i in range(2)] if run.compute([run.do(draws, i) for i in range(2)], executor=executor) else []
    assert os.getpid() not in {m["pid"] for m in made} and {m["threads"] for m in made} == {1}
    about: dict[str, Any] = {"recipe": "tiny", "parameters": {}, "seed": 0, "numerics": "float32", "command": "tests.tiny"}
    export(run, outputs, outcome, tmp_path / "out", about | {"out": str(tmp_path / "out")})
    mine, theirs = recorded(tmp_path / "out"), recorded(finished)
    assert sorted(mine) == sorted(theirs) and [name for name in mine if mine[name] != theirs[name]] == []


def test_an_error_of_a_step_is_said_as_here(tmp_path: Path, named: str) -> None:
    run = Run(tmp_path / "store")
    with executor_called(named) as executor, pytest.raises(UsageError, match="no good"):
        run.compute([run.do(draws, 1), run.do(breaks, "no good")], executor=executor)
