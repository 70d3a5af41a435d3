"""README.md and the pages of docs/ are executed: their Python runs, their commands exist; the numbers are those of the recorded runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from benchmarks import pictures, readme, readme_guard, readme_methods, tables
from benchmarks.recorded import first, recorded
from salientry.adaptive import ADAPTIVE
from salientry.attacks import ATTACKS, DeepFool
from salientry.classifiers import CompactCNN
from salientry.cli import app
from salientry.datasets import Digits
from salientry.detectors import DETECTORS
from salientry.report.claims_document import SIGNS
from salientry.results.claims import MANNERS
from salientry.results.names import NATURAL
from salientry.results.scores import Scores
from salientry.runner import pool as pool_module
from salientry.saliency import SALIENCY
from salientry.store import read_json
from salientry.types import Shape

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {p.name: p.read_text() for p in sorted((ROOT / "docs").glob("*.md")) if p.name not in ("LOG.md", "claims.md")}
USED = {"README.md": README} | {
    name: PAGES[name] for name in ("start.md", "guard.md", "attack.md", "judge.md", "paper.md", "drift.md", "video.md", "serve.md")
}  # these have commands
CODE = re.compile(r"```python\n(.*?)```", re.S)


def test_it_is_short_and_the_first_screen_says_what_how_and_how_well() -> None:
    assert len(README.split()) <= 900
    screen = "\n".join(README.splitlines()[:25])
    for part in (
        "guaranteed\nfalse-positive rate",
        "with a reason",
        "*detection rate*",
        "*False alarms*",
        "begin headline",
        "make demo",
        f"]({readme.PLOT})",
    ):
        assert part in screen, part


def test_no_page_is_without_its_code_being_run() -> None:
    """Each of these is run by a test below, the tutorial, the audit, the watching and the service by others."""
    named = {"guard.md", "attack.md", "audit.md", "judge.md", "drift.md", "serve.md", "operate.md"}
    assert {name for name, text in PAGES.items() if CODE.search(text)} == named


class Centred(nn.Module):
    """The reader's network: it wants its images in [-1, 1]."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.inner(x / 2 + 0.5)
        return logits


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore:left out attacks")  # which of them fool 77 digits often enough
def test_every_python_block_runs_and_prints_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one session, in order, with digits in the reader's place: 600 to fit on, a new one, and what DeepFool makes of it."""
    monkeypatch.chdir(tmp_path)
    (pool,) = Digits().read()
    order = np.random.default_rng(0).permutation(len(pool.labels))
    x, y = torch.from_numpy(pool.images[order]).float() / 255, torch.from_numpy(pool.labels[order])
    network = CompactCNN(epochs=6).fit(x[:2000], y[:2000], Shape(1, 28, 28, 10), seed=0)
    attacked = (DeepFool()(network, x[2900:2901], network(x[2900:2901]).argmax(1), seeds=torch.arange(1)) * 255).round() / 255
    assert (network(attacked).argmax(1) != y[2900:2901]).all()
    names = {
        "my_network": Centred(network),
        "images": x[2000:2600],
        "labels": y[2000:2600],
        "training_images": x[:2000],
        "training_labels": y[:2000],
        "new_images": torch.cat([x[2900:2901], attacked]),
    }
    (first,) = CODE.findall(README)
    again, *more = CODE.findall(PAGES["guard.md"])
    assert again == first
    assert len(first.splitlines()) <= 8
    assert len(more) >= 2
    with pytest.warns(UserWarning, match="calibration images"):
        exec(first, names)
    shown = README[README.index("it prints\n") :].split("\n\n")[1]
    assert " ".join(capsys.readouterr().out.split()) == " ".join(shown.split())
    monkeypatch.setattr(pool_module, "WORTH", 0.0)  # a quick machine would not ask for workers, who cannot have the reader's own class
    monkeypatch.setattr(pool_module, "cores", lambda: 2)
    with (
        pytest.warns(UserWarning, match="calibration images"),
        pytest.warns(UserWarning, match="in one process"),
    ):
        exec("\n".join(more), names)
    assert names["verdict"].flagged.shape == (2,)  # type: ignore[attr-defined]
    assert (tmp_path / "guard" / "guard.json").exists()


@pytest.mark.nightly
def test_the_attack_on_ones_own_classifier_runs_and_gives_what_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    network, preparation, *_ = CODE.findall(PAGES["attack.md"])
    (tmp_path / network.splitlines()[0].removeprefix("# ")).write_text(network)
    words = CODE.sub("", PAGES["attack.md"]).replace("\\\n", " ")
    command, *printed = [line.strip() for line in words.splitlines() if line.startswith("    ")]
    try:
        exec(preparation, {})
        result = CliRunner().invoke(app, command.split()[2:])
    finally:
        sys.modules.pop("my_net", None)
    assert result.exit_code == 0, result.output

    def shape(lines: list[str]) -> list[str]:
        return [re.sub(r"\d+", "0", " ".join(line.split())) for line in lines]

    def numbers(lines: list[str]) -> list[float]:
        return [float(n) for line in lines for n in re.findall(r"[\d.]*\d", " ".join(line.split()[:-1]))]  # not the seconds

    found = result.stdout.splitlines()
    assert shape(found) == shape(printed)
    np.testing.assert_allclose(numbers(found), numbers(printed), rtol=0.05, atol=0.05)
    pictures = sorted(p.name for p in (tmp_path / "attacked" / "fgsm" / "png").iterdir())
    assert len(pictures) == len(np.load("my_images.npz")["labels"])


@pytest.mark.parametrize("name", USED)
def test_every_command_exists(name: str) -> None:
    words = USED[name]
    lines = [line.strip().removeprefix("$ ").split("#")[0].split() for line in words.splitlines() if line.startswith("    ")]
    commands = [c for c in lines if c and c[0] in ("salientry", "make")] + [
        c.split() for c in re.findall(r"`((?:salientry|make) [a-z][^`|]*)`", words)
    ]
    assert commands
    for command in commands:
        if command[0] == "make":
            assert subprocess.run(["make", "-n", command[1]], cwd=ROOT, capture_output=True, check=False).returncode == 0, command
            continue
        shown = CliRunner().invoke(app, [*command[1:2][command[1].startswith("--") :], "--help"])
        assert shown.exit_code == 0, command
        for option in (w for w in command if w.startswith("--")):
            assert option in shown.output, command


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", *(f"docs/{name}" for name in PAGES)])
def test_named_files_are_there_and_no_placeholder_is_left(name: str) -> None:
    words = (ROOT / name).read_text()
    assert "@@" not in words
    for path in re.findall(r"`((?:salientry|docs|results|tests)/[\w./-]+)`", words):
        assert (ROOT / path).exists(), path
    for path, section in re.findall(r"\]\((?!https:)([\w./-]+)(?:#([\w-]+))?\)", words):
        assert ((ROOT / name).parent / path).exists(), path
        heads = re.findall(r"^#+ (.*)$", ((ROOT / name).parent / path).read_text(), re.M) if section else []
        assert not section or section in [re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in heads], section


def test_papers_are_linked_each_under_one_number() -> None:
    """Numbers and names as they stand in the reference lists of this field."""
    known = {
        "FGSM": "1412.6572",
        "BIM": "1607.02533",
        "MIM": "1710.06081",
        "C&W": "1608.04644",
        "DeepFool": "1511.04599",
        "JSMA": "1511.07528",
        "PGD": "1706.06083",
        "patch": "1712.09665",
    }
    known |= {"HopSkipJump": "1904.02144", "Square": "1912.00049", "APGD": "2003.01690", "AutoAttack": "2003.01690"}
    known |= {"ID": "1704.04960", "JSD": "1803.08773", "learnt saliency map": "1705.07857", "minimal": "1811.09600"}
    known |= {"selective": "2106.15023", "orthogonal": "2106.15023", "joint": "1705.07263", "Mahalanobis": "1807.03888"}
    known |= {"simultaneous": "1702.04267", "consistency": "1704.01155", "feature squeezing": "1704.01155", "MSP": "1610.02136"}
    known |= {"energy": "2010.03759", "LID": "1801.02613", "kernel density": "1703.00410", "deep kNN": "1803.04765"}
    known |= {"counter-attack": "2103.07633", "Fourier spectrum": "2103.03000", "PASA": "2404.10789", "p-values": "2007.15147"}
    assert dict(re.findall(r"\[([^\]]+)\]\(https://arxiv\.org/abs/([\d.]+)\)", README)) == known


def test_every_method_of_the_code_is_listed_and_no_other() -> None:
    assert readme_methods.unknown() == set()
    methods = PAGES["methods.md"]
    for kind in (*ATTACKS.values(), *ADAPTIVE.values(), *DETECTORS.values(), *SALIENCY.values()):
        assert f".{kind.__name__}` |" in methods, kind
    for name, kind in DETECTORS.items():
        group = "baselines" if kind.group == "baseline" else "detectors"
        (line,) = (line for line in README.splitlines() if line.startswith(f"- **{group}**"))
        if group == "detectors" or name in readme_methods.PAPERS[group]:
            assert readme_methods.shown(group, name, kind) in line


def test_every_kind_of_attack_of_the_record_stands_in_the_plot() -> None:
    assert readme_guard.kinds_without_a_row() == set()
    places = re.findall(r'<g id="(own|second) ([^"]+)">(.*?)\n   </g>', (ROOT / readme.PLOT).read_text(), re.S)
    drawn = {(name, words): [float(x) for x in re.findall(r'<use [^>]*?x="([\d.]+)"', marks)] for name, words, marks in places}
    shares = {(name, words): list(of[name].values()) for words, of in readme_guard.rows().items() for name in readme_guard.GUARDS}
    assert set(drawn) == set(shares)
    assert sum(len(v) for (name, _), v in shares.items() if name == "own") == 36 + 1 + 18
    at, share = (np.concatenate([np.asarray(v[k]) for k in shares]) for v in (drawn, shares))
    slope, start = np.polyfit(share, at, 1)
    np.testing.assert_allclose(at, start + slope * share, atol=0.1)


def test_the_readmes_numbers_of_the_guard_are_those_of_its_cells() -> None:
    """By hand, from the cells of the record."""
    guards = read_json(ROOT / "results" / "benchmarks" / "guard-detection.json")["guards"]
    table = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ")[1:] for line in README.splitlines() if line.startswith("| ")}
    for place, name in enumerate(("own", "second")):
        found = [cell["0.05"][1] / cell["0.05"][2] for cell in guards[name]["cells"].values()]
        flagged, of = guards[name]["natural at 0.05"]["all"][1:3]
        lent = guards[name]["harmless"]["another image's perturbation"]["extra"][0]
        extra = max(h["extra"][0] for change, h in guards[name]["harmless"].items() if change != "another image's perturbation")
        count = len(guards[name]["harmless"]) - 1
        assert table["mean detection rate over all of these"][place] == f"{100 * np.mean(found):.0f} %"
        assert table["lowest detection rate"][place] == f"{100 * min(found):.0f} %"
        assert table["false alarms: natural images flagged"][place] == f"{100 * flagged / of:.1f} %"
        label = f"more after {count} harmless changes, at most; with another image's perturbation"
        assert table[label][place] == f"{100 * extra:.1f}; {100 * lent:.1f} points"
        if name == "own":
            head = README[README.index("begin headline") : README.index("end headline")]
            for words in (
                f"{100 * np.mean(found):.0f} %",
                f"{100 * min(found):.0f} %",
                f"{100 * flagged / of:.1f} %",
                f"{100 * extra:.1f} points",
                f"{100 * lent:.1f} points with another image's perturbation",
            ):
                assert words in head


@pytest.mark.figures
def test_pictures_are_small_and_for_light_and_dark_screens() -> None:
    file = ROOT / readme.MAPS
    assert file.stat().st_size <= 60_000
    with Image.open(file) as picture:
        assert picture.width >= 1600
        assert picture.convert("RGBA").getpixel((2, 2)) == (255, 255, 255, 0), "the ground is the reader's own, light or dark"
    assert (ROOT / readme.PLOT).read_bytes() == readme_guard.plot()


def test_the_plot_has_a_dark_colour_for_each_of_its_colours() -> None:
    drawn = (ROOT / readme.PLOT).read_text()
    style = re.search(r"<style>@media \(prefers-color-scheme: dark\)(.*?)</style>", drawn, re.S)
    assert style
    for kind, colour in set(re.findall(r"(fill|stroke): (#\w{6})", drawn.replace(style[0], ""))):
        assert f'[style*="{kind}: {colour}"]' in style[1]
    assert len(set(pictures.DARK.values())) == len(pictures.DARK)


def test_the_package_does_not_need_what_draws_these_figures() -> None:
    assert not [p for p in (ROOT / "salientry").rglob("*.py") if "matplotlib" in p.read_text()]


def test_what_the_demo_costs_is_what_was_recorded() -> None:
    run = read_json(ROOT / "results" / "smoke" / "run.json")
    minutes = f"{run['core_seconds'] / 60:.0f} minutes of one core"
    assert f"{run['results']:,} results, {minutes}, at most {run['peak_mb']:,.0f} MB a process" in " ".join(PAGES["start.md"].split())
    assert minutes in " ".join(README.split()) and minutes in PAGES["index.md"]


def flagged(records: Scores, detector: str, scheme: str, kind: str) -> list[float]:
    """By hand: of each seed, image i taken from the set of attack i modulo their number."""
    (chosen,) = [g for g in records.of("strict") if (g.detector, g.scheme, g.trained_on) == (detector, scheme, "combined")]
    shares = []
    for run in chosen.seeds:
        hits = total = 0
        for k, attack in enumerate(chosen.of):
            s = records.images[f"strict/test/{'MatchedNoise of ' if kind == 'noise' else ''}{attack}"]
            wanted = (s["evaluated"] if kind == "found" else ~s["changed"]) & (np.arange(s["n"]) % len(chosen.of) == k)
            above = run.scores[s["name"]][0] > run.thresholds["0.05"]
            before = run.scores[NATURAL][0] > run.thresholds["0.05"]
            hits += int(above[wanted].sum()) - (int(before[wanted].sum()) if kind == "noise" else 0)
            total += int(wanted.sum())
        shares.append(hits / total)
    return shares


def test_the_readmes_comparison_is_that_of_the_scores() -> None:
    """Each share is counted again from the score records, and looked for in the sentence."""
    records = Scores.read(ROOT / "results" / "fast" / "cifar10")
    forms = {"SMD": ("SMD", "paired"), "SPD": ("SPD", "paired"), "Margin2": ("Margin2", "paired"), "fusion": ("Fused", "all")}
    share = {d: {kind: flagged(records, *form, kind) for kind in ("found", "noise")} for d, form in forms.items()}
    sentences = " ".join(README[README.index("<!-- begin good") : README.index("<!-- end good")].split())
    for d, kind, words in (
        ("SMD", "found", "SMD detects {}, SPD"),
        ("SPD", "found", ", SPD {}. The gap"),
        ("Margin2", "found", "largest logits, a baseline, detects {} and does not react"),
        ("fusion", "found", "a fusion of all detectors detects {} and flags"),
        ("fusion", "noise", "and flags {} more natural images"),
    ):
        low, high = (f"{100 * end(share[d][kind]):.0f}" for end in (min, max))
        assert words.format(f"{low} %" if low == high else f"{low} to {high} %") in sentences, (d, kind)
    assert {len(s["found"]) for d, s in share.items() if d in ("SPD", "SMD", "fusion")} == {3}
    assert "least and most of 3 seeds" in sentences
    assert np.abs(share["Margin2"]["noise"]).max() < 0.01, "it does not react to harmless noise"
    labels = records.labels
    attacked = [records.images[f"strict/test/{a}"]["evaluated"] for a in labels]
    assert f"on {sum(int(c[k :: len(labels)].sum()) for k, c in enumerate(attacked))} images of the six attacks" in sentences


@pytest.mark.nightly
def test_the_readmes_limits_are_those_of_the_scores() -> None:
    """By hand: whom an attack within 8/255 passed, of each detector."""
    passed: dict[str, Any] = {}
    for f in Scores.read(ROOT / "results" / "whitebox" / "cifar10").images.values():
        if f["kind"] != "white box" or (f["detector_protocol"], f["seed"], f["hardened"], f["norm"]) != ("strict", 0, None, "linf"):
            continue
        if f["level"] != "own" and f["method"] != "Alarm" and f["eps"] is not None and f["eps"] <= 8 / 255 + 1e-9:
            fooled = f["right"] & f["changed"] & f["in_budget"]
            evaded = fooled & (f["score"] <= f["thresholds"][str(f["level"])])
            passed[f["detector"]] = passed.get(f["detector"], False) | evaded
    (images,) = {len(p) for p in passed.values()}
    assert all(p.all() for p in passed.values())
    assert f"got past each of {len(passed)} with all {images} images" in " ".join(README.split())


@pytest.mark.slow
@pytest.mark.parametrize("name", readme.PARTS)
def test_the_measured_parts_are_what_the_records_give(name: str) -> None:
    """`python -m benchmarks.readme --write` writes them."""
    words = (ROOT / name).read_text()
    assert readme.filled(name, words) == words
    first = next(iter(readme.PARTS[name]))
    with pytest.raises(SystemExit, match=f"{re.escape(name)} must have, once and in this order"):
        readme.filled(name, words.replace(f"<!-- end {first} -->", ""))


@pytest.mark.nightly
@pytest.mark.parametrize("name", readme.PARTS)
def test_a_changed_digit_is_written_over(name: str) -> None:
    words = (ROOT / name).read_text()
    begins, ends = words.index("<!-- begin"), words.index("<!-- end")
    last = re.compile(r"\d(?=\D*$)")
    forged = words[:begins] + last.sub(lambda digit: str(9 - int(digit[0])), words[begins:ends]) + words[ends:]
    assert forged != words
    assert readme.filled(name, forged) == words


def test_each_interval_is_one_of_a_report() -> None:
    """Read by another way than it was written: whatever looks like a number with its interval, and the values of its seeds, stands in
    some recorded run. A difference without discordant pairs is recorded as 0 from 0 to 0, and has an exact bound now; where few images say
    anything, what was recorded is narrower than the bound of today.
    """
    every = [n for path in (ROOT / "results").rglob("report.json.xz") for n in read_json(path)["numbers"]]
    recorded = [([n["value"], n["lo"], n["hi"]], n["runs"]) for n in every]
    recorded += [(n[:3], n[4]) for n in read_json(ROOT / "results" / "smoke" / "numbers.json").values()]

    def rounded(values: Any) -> tuple[str, ...]:
        return tuple(f"{round(float(str(v).replace('−', '-')), 3) + 0.0:.3f}" for v in values)

    known = {(rounded(ends), rounded(seeds)) for ends, seeds in recorded if None not in ends}
    alone = {ends for ends, _ in known}

    def narrower(now: tuple[str, ...], seeds: tuple[str, ...]) -> bool:
        value, lo, hi = now
        same = (ends for ends, told in known if ends[0] == value and (not seeds or told == seeds))
        return any(float(lo) <= float(old[1]) and float(old[2]) <= float(hi) for old in same)

    parts = re.findall(r"<!-- begin .*?-->(.*?)<!-- end", (ROOT / "docs" / "RESULTS.md").read_text(), re.S)
    shown = re.findall(r"([−\d.]+) \[([−\d.]+), ([−\d.]+)\](?: \(((?:[−\d.]+ · )+[−\d.]+)\))?", "".join(parts))
    assert len(shown) > 500
    assert sum(bool(seeds) for *_, seeds in shown) > 150
    for *ends, seeds in shown:
        value, lo, hi = rounded(ends)
        told = rounded(seeds.split(" · ")) if seeds else ()
        there = ((value, lo, hi), told) in known if seeds else (value, lo, hi) in alone
        assert there or narrower((value, lo, hi), told), (ends, seeds)


@pytest.mark.slow
def test_results_count_21_verdicts_for_each_data_set() -> None:
    """The lines of docs/claims.md by hand: word by word down one column."""
    lines = [line.split(" | ") for line in readme.CLAIMS.read_text().splitlines() if re.match(r"\| \[C\d+\]", line)]
    head = next(line.split(" | ") for line in readme.CLAIMS.read_text().splitlines() if line.startswith("| claim |"))
    found = readme.verdicts()
    for r in first(recorded("fast")):
        column = [h.strip("| ") for h in head].index(r.title)
        said = [line[column].strip("| ").split(" / ")[-1] for line in lines]
        words = {sign: word for word, sign in SIGNS.items()}
        said = ["not run" if sign.endswith("*") else words[sign] for sign in said]
        result = {words: int(n) for words, n in (part.rsplit(" ", 1) for part in readme.counted(found, r.dataset, MANNERS[-1]).split(", "))}
        assert sum(result.values()) == 21
        for word in set(said):
            assert result[readme.SHORT.get(word, word)] == said.count(word)


@pytest.mark.slow
def test_a_detector_that_was_not_attacked_is_no_failed_attack() -> None:
    (r,) = (x for x in recorded("whitebox") if x.dataset == "assira")
    assert "| fusion | not run |" in tables.white_box(r)
    assert tables.lacking(r, "fusion") == "not run"
    assert tables.lacking(r, "SPD") == "attack too weak, nothing to report", "where its numbers lack a success though it was attacked"


@pytest.mark.nightly
def test_the_recorded_run_of_natural_images_follows_from_its_scores() -> None:
    """As anybody may check it: no data, no torch, no GPU."""
    code = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")

sys.meta_path.insert(0, NoTorch())  # None in sys.modules is what SciPy would take for torch
from salientry.report.verification import verify

print(verify(sys.argv[1]))
"""
    result = subprocess.run([sys.executable, "-c", code, str(ROOT / "results/fast/cifar10")], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 10_000
