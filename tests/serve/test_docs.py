"""The pages for whoever deploys it: their Python runs, their tables are those of the code, deploy/ names what there is."""

from __future__ import annotations

import asyncio
import re
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from typer.testing import CliRunner

from salientry.cli import app as command_line
from salientry.serve import Batching, Limits, app
from salientry.serve.metrics import Metrics
from salientry.serve.protocol import OUTPUTS
from salientry.serve.refusals import CODES
from salientry.serve.settings import MODES

from .tiny import X, guard

ROOT = Path(__file__).parents[2]
SERVE, OPERATE = ((ROOT / "docs" / name).read_text() for name in ("serve.md", "operate.md"))
CODE = re.compile(r"```python\n(.*?)```", re.S)


def table(page: str, head: str) -> list[list[str]]:
    """Rows of the table that begins with this line."""
    lines = page[page.index(head) :].splitlines()[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_the_blocks_of_the_page_about_serving_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard is the tests' own; the model's service of the second block is another application."""
    monkeypatch.chdir(tmp_path)
    guard().save("guard")
    mounted, beside, batch = CODE.findall(SERVE)
    names: dict[str, Any] = {"model": guard().classifier, "new_images": torch.from_numpy(X[:20]).float() / 255}
    exec(mounted, names)
    names["main"].mount("/model", app(guard(1)))
    exec(beside, names)

    async def ask() -> Any:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(names["main"]), base_url="http://here") as c:
            infer = "/v2/models/guard/infer"
            return await names["answers"](c, X[:20], f"/model{infer}", f"/guard{infer}", "a-key-of-16-or-more")

    found = asyncio.run(ask())
    flagged, own = guard()(torch.from_numpy(X[:20])).flagged.tolist(), guard(1)(torch.from_numpy(X[:20])).predicted.tolist()
    assert found == [None if bad else answer for answer, bad in zip(own, flagged, strict=True)]
    exec(batch, names)
    assert [int(line.split("\t")[0]) for line in Path("flagged.txt").read_text().splitlines()] == [i for i, f in enumerate(flagged) if f]


def test_the_base_rates_are_what_the_block_prints(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = CODE.findall(OPERATE)
    exec(block, {})
    (shown,) = re.findall(r"```text\n(.*?)```", OPERATE, re.S)
    assert capsys.readouterr().out == shown
    row = next(line.split() for line in shown.splitlines() if line.split()[0] == "10,000")
    assert row == ["10,000", "70", "49,995", "0.14%"], "of 1,000,000 images 100 are attacks: .7 x 100, .05 x 999,900, 70 / 50,065"


def test_tables_of_codes_outputs_modes_and_metrics_are_those_of_the_code() -> None:
    codes = {row[0].strip("`"): row[2] for row in table(OPERATE, "| code | status")}
    assert codes == CODES
    assert {row[0].strip("`"): row[1].split()[0] for row in table(SERVE, "| output |")} == OUTPUTS
    assert tuple(row[0].strip("`") for row in table(SERVE, "| mode |")) == MODES
    metrics = Metrics()
    there = {m.name + ("_total" if m.type == "counter" else "") for m in metrics.registry.collect() if m.name.startswith("salientry_")}
    assert {row[0].strip("`") for row in table(OPERATE, "| name | what")} == there
    alerts = (ROOT / "deploy" / "alerts.yml").read_text()
    assert set(re.findall(r"salientry_\w+", alerts)) <= there


def test_limits_are_those_of_the_code() -> None:
    limits, batching = Limits(), Batching()
    shown = {row[0].strip("`"): row[1] for row in table(OPERATE, "| option or argument | default")}
    assert shown["--max-body"].startswith(f"{limits.body // 2**20} MiB") and shown["--max-pixels"].startswith(f"{limits.pixels:,} ")
    assert shown["--max-images"].startswith(f"{limits.images} ") and shown["Limits(bodies=)"].startswith(f"{limits.bodies // 2**20} MiB")
    assert shown["--queue"].startswith(f"{batching.queue} ") and shown["--deadline"].startswith(f"{batching.deadline:g} seconds")
    assert shown["Limits(requests=)"].startswith(f"{limits.requests} ") and shown["Limits(seconds=)"].startswith(f"{limits.seconds:g} ")
    said = CliRunner().invoke(command_line, ["serve", "--help"]).output
    docker, measured = (
        {"--build-arg", "--read-only", "--tmpfs", "--cap-drop"},
        {"--seconds", "--rounds", "--soak", "--malformed", "--write"},
    )
    for option in set(re.findall(r"(--[a-z][a-z-]+)", SERVE + OPERATE)) - docker - measured - {"--json", "--level"}:
        assert option in said, option


def test_events_and_fields_of_the_log_are_those_of_the_code() -> None:
    code = "".join(p.read_text() for p in (ROOT / "salientry" / "serve").glob("*.py"))
    events = set(re.findall(r'\blog\(\s*"(\w+)"', code))
    assert {name for row in table(OPERATE, "| event | when") for name in re.findall(r"`(\w+)`", row[0])} == events


def test_the_container_installs_what_the_project_has_and_starts_what_there_is() -> None:
    docker, compose = ((ROOT / "deploy" / name).read_text() for name in ("Dockerfile", "compose.yaml"))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (named,) = re.findall(r"'\.\[([\w,]+)\]'", docker)
    assert set(named.split(",")) <= set(extras)
    said = CliRunner().invoke(command_line, ["serve", "--help"]).output
    (entry,) = re.findall(r'ENTRYPOINT \["salientry", "serve", "/guard", (.*)\]', docker)
    (more,) = re.findall(r"command: \[(.*)\]", compose)
    for option in re.findall(r"--[a-z-]+", entry + more):
        assert option in said, option
    assert "USER 10001" in docker and "HEALTHCHECK" in docker and "read_only: true" in compose
    head = " ".join(line.removeprefix("#").strip() for line in compose.splitlines() if line.startswith("#"))
    for page in (head, SERVE):
        assert "10001" in page and "65534" in page and "must be readable for" in page, "who must be able to read which file of keys"
    for name in re.findall(r"COPY (?!--)([\w. ]+) \S+$", docker, re.M):
        assert all((ROOT / part).exists() for part in name.split()), name
