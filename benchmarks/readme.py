"""The measured parts of README.md and docs/RESULTS.md, and the README's two pictures.

python -m benchmarks.readme                      # prints README's part
python -m benchmarks.readme --write              # writes every part between its two comments, and the plot, from results/; a test compares
python -m benchmarks.readme --write --claims     # docs/claims.md before it (minutes): after a run was recorded
python -m benchmarks.readme --maps smoke-report  # writes the picture of a digit and its maps, from what `make demo` left
"""

from __future__ import annotations

import argparse
import contextlib
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from salientry.report import claims
from salientry.results.paper_numbers import COLUMNS as NAMED
from salientry.results.paper_numbers import cell as printed
from salientry.results.paper_numbers import printed as paper
from salientry.results.paper_numbers import printed_text

from . import pictures
from .recorded import RESULTS, Recorded, first, recorded, row, rule
from .tables import budgets, fast, lacking, settings, smoke, white_boxes

ROOT = RESULTS.parent
CLAIMS = ROOT / "docs" / "claims.md"
PLOT, MAPS = "docs/images/detection.svg", "docs/images/maps.png"
ATTACKS = {"CarliniWagner": "C&W", "BIM": "small BIM"}  # of the headline
SHOWN = {
    "SPD": "SPD, the map times the image",
    "SMD": "SMD, the map",
    "SPD (trunk)": "SPD, map from the classifier's trunk",
    "ID": "ID, the image",
    "ID+": "ID+, the image, better trained",
    "fusion": "fusion of everything",
    "Margin2": "floor: margin of the logits",
    "PooledActivations": "floor: activations",
    "BlackShare": "floor: black pixels counted",
}
GAINS = {
    "fusion with the map minus without": "the map adds to everything else",
    "logits with the map minus without": "the map adds to the logits alone",
    "SPD minus the best floor": "SPD minus the best floor",
}
ALT = (
    "Plot of 14 detectors on CIFAR-10: share of attacked images detected against extra flags on harmless noise. The logit margin "
    "stands highest of those that do not react to noise; the fusion and ID+ detect more and flag much noise."
)
SHORT = {"holds only against a baseline that did not train": "only against an untrained baseline"}


def good() -> str:
    """README's part: how good it is, as a plot and in three sentences."""
    cifar, mnist = (next(r for r in first(recorded("fast")) if r.dataset == d) for d in ("cifar10", "mnist"))
    white = next(r for r in recorded("whitebox") if r.dataset == "cifar10")
    points = {p.name: p for p in pictures.points(cifar)}
    found, noise = ({d: _percent(cifar, getattr(p, kind)) for d, p in points.items()} for kind in ("found", "noise"))
    passed = {i: n for i, n in white.numbers.items() if re.fullmatch(r"white box/[^/]+/8/255/union", i)}
    assert {n["value"] for n in passed.values()} == {1.0}, "the sentence below says that every attacked detector is passed"
    black = next(i for i in mnist.numbers if re.fullmatch(r"strict/BlackShare/(CarliniWagner[^/]*)/\1/tpr@0\.05", i))
    n, images = cifar.n(points["SMD"].found), white.n(next(iter(passed)))
    return "\n".join(
        [
            f"![{ALT}]({PLOT})",
            "",
            f"- With a threshold that flags 5 % of CIFAR-10's natural images, the paper's map detectors find {found['SMD']} (SMD) and "
            f"{found['SPD']} (SPD) of {n} attacked images; the simplest baseline, the gap between the classifier's two largest logits, "
            f"finds {found['Margin2']} and does not react to harmless noise.",
            f"- What finds more, the fusion of all detectors ({found['fusion']}) and an image detector ({found['ID+']}), also flags "
            f"{noise['fusion']} and {noise['ID+']} more of the natural images once they carry harmless noise: largely a noise alarm.",
            f"- **Limits:** an attacker who also has the guard got past each of {len(passed)} detectors with all {images} images they "
            f"tried (changes of at most 8/255); on MNIST just counting black pixels finds {_percent(mnist, black)} of C&W's images, so "
            "digits prove little; and the promised rate of false alarms holds for images like those it was calibrated on, not for others.",
            "",
            f"Made by `{cifar.run['command']}` and `{white.run['command']}` (MNIST: `{mnist.run['command']}`); every number with its 95 % "
            "interval: [docs/RESULTS.md](docs/RESULTS.md#the-readmes-plot).",
        ]
    )


def _percent(r: Recorded, id: str) -> str:
    return f"{100 * r.numbers[id]['value']:.0f} %"


def plotted() -> str:
    """The points of README's plot, with their intervals."""
    r = next(r for r in first(recorded("fast")) if r.dataset == "cifar10")
    points = pictures.points(r)
    lines = [
        row("", f"attacked images found (n = {r.n(points[0].found)})", f"more flags on harmless noise (n = {r.n(points[0].noise)})"),
        rule(3),
        *(row(f"{p.name}: {pictures.FAMILIES[pictures.PLOTTED[p.name][0]][0]}", r.cell(p.found), r.cell(p.noise)) for p in points),
    ]
    return "\n".join([*lines, "", f"95 % intervals over images. {r.source}."])


def results() -> str:
    """Everything at a glance: a table of what is found, with two columns for each data set, and one of the rest, with one."""
    runs = first(recorded("fast"))
    return "\n".join(
        [*_found(runs), "", *_rest(runs), "", "95 % intervals over images, given one classifier, one U-Net of each kind, one split."]
    )


def _found(runs: list[Recorded]) -> list[str]:
    """Strict: share found, and how many more are flagged of images with noise of the attack's size."""
    places = [(r, found, words) for r in runs for kind, words in ATTACKS.items() if (found := r.attack(kind))]
    heads = [f"{r.title}: {t} (n = {r.n(f'strict/SPD/{a}/{a}/tpr@0.05'):,})" for r, (t, a), words in places]
    lines = [row("found at 5 % false alarms; *noise*: more flags on noise of that size", *heads), rule(len(heads) + 1)]
    for name, words in SHOWN.items():
        cells = []
        for r, (_, a), _ in places:
            rate = r.cell(f"strict/{name}/{a}/{a}/tpr@0.05")
            noise = r.cell(f"strict/{name}/{a}/noise/excess-flags-on-unchanged", False)
            cells.append(f"{rate}; *noise* {noise}" if rate and noise else rate or "not run")
        lines.append(row(words, *cells))
    return lines + [row(words, *(r.cell(f"headline/{a}/{g}") or "not run" for r, (_, a), _ in places)) for g, words in GAINS.items()]


def _rest(runs: list[Recorded]) -> list[str]:
    """The paper's own comparison, the white box, verdicts, and what made it."""
    white = {r.folder.name: r for r in recorded("whitebox")}
    lines = [row("", *(r.title for r in runs)), rule(len(runs) + 1)]
    lines.append(row("the classifier is right", *(_with_n(r, "any/natural/accuracy") for r in runs)))
    for form, words in (("replica", "trained as the paper trains"), ("paired", "with batch norm")):
        lines.append(row(f"C&W, SPD minus ID, accuracy, {words}", *(_sign(r, form) for r in runs)))
    for d in ("SPD", "ID"):
        lines.append(row(f"{d}, one for all attacks, accuracy", *(_one_for_all(r, d) for r in runs)))
    for name, words in (("classifier alone", "no detector"), ("SPD", "SPD"), ("fusion", "the fusion")):
        lines.append(row(f"white box gets past {words}", *(_past(white.get(r.folder.name), name) for r in runs)))
    for manner, words in (("published", "published, paired"), ("replica", "published, replica"), ("strict", "strict")):
        lines.append(row(f"the paper's 21 claims, {words}", *(verdicts(r, manner) for r in runs)))
    lines.append(row("commands", *("; ".join(f"`{x.run['command']}`" for x in (r, white.get(r.folder.name)) if x) for r in runs)))
    return [*lines, row("made with", *(r.source.split("`, ", 1)[1] for r in runs))]


def _with_n(r: Recorded, id: str) -> str:
    return f"{r.cell(id)} (n = {r.n(id):,})" if id in r.numbers else "not run"


def _sign(r: Recorded, form: str) -> str:
    label = (r.attack("CarliniWagner") or ("", ""))[1]
    return _with_n(r, f"headline/published/{form}/{label}/{label}/SPD minus ID")


def _one_for_all(r: Recorded, detector: str) -> str:
    id = f"published/{detector}/combined/combined/accuracy"
    column = NAMED.get(r.dataset)
    cell = printed(paper()["table6"][detector], column) if column else None
    theirs = f"; the paper {printed_text(cell | {'value': cell['found']})}" if cell else ""
    return _with_n(r, id) + theirs


def _past(r: Recorded | None, name: str) -> str:
    """At the second smallest Linf budget, where there are several, and the largest."""
    if r is None:
        return "not run"
    sizes = [b for b in budgets(r) if not b.startswith("L2")]
    ids = {b: f"white box/{name}/{b}" + ("" if name == "classifier alone" else "/union") for b in (*sizes[1:2], sizes[-1])}
    if not all(i in r.numbers for i in ids.values()):
        return lacking(r, name)
    return "; ".join(f"{b}: {r.cell(i)}" for b, i in ids.items()) + f" (n = {r.n(next(iter(ids.values())))})"


def verdicts(r: Recorded, manner: str) -> str:
    """How many of the 21 claims got which verdict, by the table of docs/claims.md, which another test compares with the records."""
    lines = [line.strip("| ").split(" | ") for line in CLAIMS.read_text().splitlines() if line.startswith("| ")]
    head = next(cells for cells in lines if cells[0] == "claim")
    wanted = f"{r.dataset}, seed {r.seed}: {'strict' if manner == 'strict' else 'published'}"
    if wanted not in head:
        raise SystemExit(f"docs/claims.md has no column {wanted!r}: python -m benchmarks.readme --write --claims")
    said = [cells[head.index(wanted)] for cells in lines if re.match(r"\[C\d+\]", cells[0])]
    assert len(said) == 21, "21 claims"
    words = [dict(p.split(": ") for p in s.split("; ")) if ": " in s else {"paired": s, "replica": s} for s in said]
    counted = Counter(w["replica" if manner == "replica" else "paired"] for w in words)
    order = ("holds", "does not hold", "undecided", *SHORT, "not run")
    return ", ".join(f"{SHORT.get(w, w)} {counted[w]}" for w in order if counted[w])


PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"good": good},
    "docs/RESULTS.md": {"results": results, "plot": plotted, "smoke": smoke, "settings": settings, "fast": fast, "whitebox": white_boxes},
}


def plot() -> bytes:
    """README's plot."""
    return pictures.plot(next(r for r in first(recorded("fast")) if r.dataset == "cifar10"))


def filled(name: str, words: str) -> str:
    """A file's text with every part between its comments written anew."""
    for part, make in PARTS[name].items():
        begin, end = f"<!-- begin {part}: python -m benchmarks.readme --write -->", f"<!-- end {part} -->"
        if words.count(begin) != 1 or words.count(end) != 1 or words.index(begin) > words.index(end):
            raise SystemExit(f"{name} must have, once and in this order: {begin} and {end}")
        words = words[: words.index(begin)] + f"{begin}\n\n{make()}\n\n" + words[words.index(end) :]
    return words


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.readme", description="Write the measured parts of README.md and docs/RESULTS.md."
    )
    parser.add_argument("--write", action="store_true", help="write them; else README's part is printed")
    parser.add_argument("--claims", action="store_true", help="write docs/claims.md first")
    parser.add_argument("--maps", type=Path, metavar="FOLDER", help=f"write {MAPS} from a report's folder, nothing else")
    given = parser.parse_args()
    if given.maps:
        (ROOT / MAPS).write_bytes(pictures.maps(given.maps))
        print(f"wrote {MAPS}")
        return
    if given.claims:
        folders = sorted(p.parent.relative_to(ROOT) for p in RESULTS.rglob("records.json.xz"))
        with contextlib.chdir(ROOT):  # it names the folders as they were given
            claims.write(folders, CLAIMS, Path("results/benchmarks/guard.json"))
    for name in PARTS if given.write else ():
        path = ROOT / name
        path.write_text(filled(name, path.read_text()))
        print(f"wrote {name}")
    if given.write:
        (ROOT / PLOT).write_bytes(plot())
        print(f"wrote {PLOT}")
    else:
        print(good())


if __name__ == "__main__":
    main()
