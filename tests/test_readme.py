"""The README is executed: its Python runs, its commands exist, its numbers are those of the recorded run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from benchmarks import readme, tables
from benchmarks.recorded import first, recorded
from salientry.classifiers import CompactCNN
from salientry.cli import app
from salientry.contracts import Shape
from salientry.datasets import Digits
from salientry.store import read_json

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ATTACK = README[README.index("## Attack your own") : README.index("## The first run")]


def test_the_first_code_stands_on_the_first_screen() -> None:
    assert README[: README.index("```python")].count("\n") < 25


class Centred(nn.Module):
    """The reader's network: it wants its images in [-1, 1]."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.inner(x / 2 + 0.5)
        return logits


@pytest.mark.nightly
def test_every_python_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one session, in order, with digits in the reader's place."""
    monkeypatch.chdir(tmp_path)
    (pool,) = Digits().read()
    order = np.random.default_rng(0).permutation(len(pool.labels))
    x, y = torch.from_numpy(pool.images[order]).float() / 255, torch.from_numpy(pool.labels[order])
    network = CompactCNN(epochs=6).fit(x[:2000], y[:2000], Shape(1, 28, 28, 10), seed=0)
    names = {"my_network": Centred(network), "images": x[2000:2600], "labels": y[2000:2600], "new_images": x[2900:2905]}
    found = re.findall(r"```python\n(.*?)```", README.replace(ATTACK, ""), re.S)
    assert len(found) >= 2
    with pytest.warns(UserWarning, match="calibration images"):
        exec("\n".join(found), names)
    assert names["verdict"].flagged.shape == (5,)  # type: ignore[attr-defined]
    assert (tmp_path / "guard" / "guard.json").exists()


@pytest.mark.nightly
def test_the_attack_on_ones_own_classifier_runs_and_gives_what_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    network, preparation = re.findall(r"```python\n(.*?)```", ATTACK, re.S)
    (tmp_path / network.splitlines()[0].removeprefix("# ")).write_text(network)
    words = re.sub(r"```python\n.*?```", "", ATTACK, flags=re.S).replace("\\\n", " ")
    command, *printed = [line.strip() for line in words.splitlines() if line.startswith("    ")]
    try:
        exec(preparation, {})
        told = CliRunner().invoke(app, command.split()[2:])
    finally:
        sys.modules.pop("my_net", None)
    assert told.exit_code == 0, told.output

    def shape(lines: list[str]) -> list[str]:
        return [re.sub(r"\d+", "0", " ".join(line.split())) for line in lines]

    def numbers(lines: list[str]) -> list[float]:
        return [float(n) for line in lines for n in re.findall(r"[\d.]*\d", " ".join(line.split()[:-1]))]  # not the seconds

    found = told.stdout.splitlines()
    assert shape(found) == shape(printed)
    np.testing.assert_allclose(numbers(found), numbers(printed), rtol=0.05, atol=0.05)
    pictures = sorted(p.name for p in (tmp_path / "attacked" / "fgsm" / "png").iterdir())
    assert len(pictures) == len(np.load("my_images.npz")["labels"])


def test_every_command_exists() -> None:
    lines = [line.strip().removeprefix("$ ").split("#")[0].split() for line in README.splitlines() if line.startswith("    ")]
    commands = [c for c in lines if c and c[0] in ("salientry", "make")] + [
        c.split() for c in re.findall(r"`((?:salientry|make) [a-z][^`|]*)`", README)
    ]
    assert len(commands) >= 6
    for command in commands:
        if command[0] == "make":
            assert subprocess.run(["make", "-n", command[1]], cwd=ROOT, capture_output=True, check=False).returncode == 0, command
            continue
        shown = CliRunner().invoke(app, [command[1], "--help"])
        assert shown.exit_code == 0, command
        for option in (w for w in command if w.startswith("--")):
            assert option in shown.output, command


def test_no_placeholder_is_left() -> None:
    assert "@@" not in README


def test_named_files_are_there() -> None:
    for path in re.findall(r"`((?:salientry|docs|results|tests)/[\w./-]+)`", README):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("name", readme.PARTS)
def test_the_measured_parts_are_what_the_records_give(name: str) -> None:
    """`python -m benchmarks.readme --write` writes them."""
    words = (ROOT / name).read_text()
    assert readme.filled(name, words) == words
    first = next(iter(readme.PARTS[name]))
    with pytest.raises(SystemExit, match=f"{re.escape(name)} must have, once and in this order"):
        readme.filled(name, words.replace(f"<!-- end {first} -->", ""))


@pytest.mark.parametrize("name", readme.PARTS)
def test_a_changed_digit_is_written_over(name: str) -> None:
    words = (ROOT / name).read_text()
    at = words.index("<!-- begin")
    forged = words[:at] + words[at:].replace("| .", "| −.", 1)
    assert forged != words
    assert readme.filled(name, forged) == words


@pytest.mark.parametrize("name", readme.PARTS)
def test_each_interval_is_one_of_a_report(name: str) -> None:
    """Read by another way than it was written: whatever looks like a number with its interval stands in some recorded run."""
    known = {
        tuple(f"{round(v, 3) + 0.0:.3f}" for v in (n["value"], n["lo"], n["hi"]))
        for path in (ROOT / "results").rglob("report.json.xz")
        for n in read_json(path)["numbers"]
        if None not in (n["value"], n["lo"], n["hi"])
    }
    smoke = read_json(ROOT / "results" / "smoke" / "numbers.json").values()
    known |= {tuple(f"{round(v, 3) + 0.0:.3f}" for v in n[:3]) for n in smoke if None not in n[:3]}
    parts = re.findall(r"<!-- begin .*?-->(.*?)<!-- end", (ROOT / name).read_text(), re.S)
    shown = re.findall(r"([−\d.]+) \[([−\d.]+), ([−\d.]+)\]", "".join(parts))
    assert len(shown) > 20
    for found in shown:
        assert tuple(f"{float(v.replace('−', '-')):.3f}" for v in found) in known, found


def test_readme_counts_21_verdicts_for_each_data_set() -> None:
    """The lines of docs/claims.md by hand: word by word down one column."""
    lines = [line.split("|") for line in readme.CLAIMS.read_text().splitlines() if re.match(r"\| \[C\d+\]", line)]
    runs = first(recorded("fast"))
    assert "cifar10" in [r.dataset for r in runs]
    head = next(line.split("|") for line in readme.CLAIMS.read_text().splitlines() if line.startswith("| claim |"))
    for r in runs:
        column = [h.strip() for h in head].index(f"{r.dataset}, seed {r.seed}: strict")
        said = [line[column].strip() for line in lines]
        told = {words: int(n) for words, n in (part.rsplit(" ", 1) for part in readme.verdicts(r, "strict").split(", "))}
        assert sum(told.values()) == 21
        for word in set(said):
            assert told[readme.SHORT.get(word, word)] == said.count(word)


def test_a_detector_that_was_not_attacked_is_no_failed_attack() -> None:
    (r,) = (x for x in recorded("whitebox") if x.dataset == "assira")
    assert "| fusion | not run |" in tables.white_box(r)
    assert tables.lacking(r, "fusion") == "not run"
    assert tables.lacking(r, "SPD") == "attack too weak, nothing to report", "where its numbers lack a success though it was attacked"


def test_a_run_without_verdicts_is_said() -> None:
    (r, *_) = recorded("fast")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(r), "dataset", "nothing")
        with pytest.raises(SystemExit, match=r"docs/claims\.md has no column 'nothing, seed 0: strict'"):
            readme.verdicts(r, "strict")


@pytest.mark.nightly
def test_the_recorded_run_of_natural_images_follows_from_its_scores() -> None:
    """As anybody may check it: no data, no torch, no GPU."""
    code = "import sys; sys.modules['torch'] = None; from salientry.report.verify import verify; print(verify(sys.argv[1]))"
    told = subprocess.run([sys.executable, "-c", code, str(ROOT / "results/fast/cifar10")], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert int(told.stdout) > 10_000
