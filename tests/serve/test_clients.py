"""Clients of Triton and KServe, and schemathesis, against the service as it is: `make clients` installs them, `make nightly` runs this."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI

from salientry.serve import app
from salientry.serve.process import _bound

from .test_protocol import expected
from .tiny import X, guard

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("SALIENTRY_CLIENTS", ROOT / ".venv-clients")) / "bin" / "python"
NEEDED = pytest.mark.skipif(not PYTHON.exists(), reason="the clients are not installed: make clients")


@contextmanager
def served(application: FastAPI) -> Iterator[str]:
    """The application at an address of this machine."""
    listening = _bound("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(application, log_config=None, access_log=False, server_header=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()


@NEEDED
@pytest.mark.nightly
def test_clients_of_triton_and_kserve_are_answered_what_the_guard_says(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", X[:5])
    with served(app(guard())) as url:
        command = [str(PYTHON), str(Path(__file__).with_name("clients.py")), url, str(tmp_path / "images.npy")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    answers: dict[str, Any] = json.loads(done.stdout)
    assert len(answers) == 12
    wanted = expected(X[:5])
    for how, found in answers.items():
        assert found["predicted"] == wanted["predicted"].tolist() and found["flagged"] == wanted["flagged"].tolist(), how
        for name in ("logits", "score", "p_value"):
            np.testing.assert_allclose(found[name], wanted[name].reshape(-1), atol=1e-4, rtol=1e-4, err_msg=how)
        assert [bool(r) for r in found["reason"]] == found["flagged"] and found["reason"] == next(iter(answers.values()))["reason"], how


@NEEDED
@pytest.mark.nightly
def test_schemathesis_finds_no_answer_that_the_description_does_not_have(tmp_path: Path) -> None:
    """Against the description that the service gives of itself: no server error, no status, type or form of answer that is not in it."""
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,response_headers_conformance"
    with served(app(guard())) as url:
        tool = PYTHON.with_name("schemathesis")
        command = [str(tool), "run", f"{url}/openapi.json", "--checks", checks, "--max-examples", "60", "--seed", "1", "--workers", "1"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=550, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-5000:]


@NEEDED
@pytest.mark.nightly
@pytest.mark.parametrize("whose", ["KServe's package", "the protocol's own file"])
def test_schemathesis_finds_no_answer_that_the_protocol_s_description_does_not_have(tmp_path: Path, whose: str) -> None:
    """Against what others' clients are written for; the protocol's own file where SALIENTRY_PROTOCOL names a copy of it."""
    description, own = tmp_path / "protocol.json", os.environ.get("SALIENTRY_PROTOCOL")
    if whose != "KServe's package" and not own:
        pytest.skip("SALIENTRY_PROTOCOL names no copy of open_inference_rest.yaml")
    words = [str(description), "guard", "1", *([str(own)] if whose != "KServe's package" else [])]
    subprocess.run([str(PYTHON), str(Path(__file__).with_name("published.py")), *words], check=True, timeout=300)
    paths = {p.rstrip("/") for p in json.loads(description.read_text())["paths"]}
    assert {"/v2", "/v2/health/live", "/v2/health/ready"} < paths and any(p.endswith("/infer") for p in paths)
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    with served(app(guard())) as url:
        tool = PYTHON.with_name("schemathesis")
        command = [str(tool), "run", str(description), "--url", url, "--checks", checks, "--max-examples", "60", "--seed", "1"]
        done = subprocess.run([*command, "--workers", "1"], capture_output=True, text=True, check=False, timeout=550, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-5000:]
