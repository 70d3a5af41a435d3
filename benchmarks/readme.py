"""The written parts of README.md and of pages of docs/, and the README's plot and picture.

python -m benchmarks.readme                      # prints README's part
python -m benchmarks.readme --write              # writes every part between its two comments, and the plot, from results/; a test compares
python -m benchmarks.readme --write --claims     # docs/claims.md before it (minutes): after a run was recorded
python -m benchmarks.readme --demo smoke-report  # keeps a digit and its maps as a picture, and the last lines, from what `make demo` left
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from salientry.cli.closing import last_lines
from salientry.inference import beside
from salientry.rates import least_to_most, row
from salientry.report import claims, claims_document
from salientry.report.render import text
from salientry.report.spec import Column, Number
from salientry.results.choice import DIFFERENCES, GLANCE
from salientry.results.claims import MANNERS
from salientry.results.names import detector_words
from salientry.results.paper_numbers import printed_text
from salientry.store import read_json

from . import (
    pictures,
    readme_attacks,
    readme_check,
    readme_cost,
    readme_drift,
    readme_guard,
    readme_methods,
    readme_paper,
    readme_recipes,
    readme_scaling,
    readme_serve,
)
from .guard_tables import guard_results, record
from .recorded import FOLDERS, ROOT, TIMING, Recorded, first, recorded, verdicts
from .tables import budgets, fast, gains, lacking, lines, over, settings, smoke, strict, white_boxes

CLAIMS, LINES = ROOT / "docs" / "claims.md", ROOT / "results" / "smoke" / "last_lines.json"
PLOT, MAPS = "docs/images/detection.svg", "docs/images/maps.png"
ATTACKS = ("CarliniWagner", "BIM")  # of the headline
SHORT = {"holds only against a baseline that did not train": "only against an untrained baseline"}
ORDER = ("holds", "does not hold", "undecided", *SHORT, "not at the paper's size", "not run")


def good() -> str:
    """README's part: how good a guard is, as a plot and a table; what there is to compare it with, and who gets past."""
    cifar = next(r for r in first(recorded("fast")) if r.dataset == "cifar10")
    white = next(r for r in recorded("whitebox") if r.dataset == "cifar10")
    points = {p.name: p for p in pictures.points(cifar)}
    found, noise = ({d: _percent(getattr(p, kind)) for d, p in points.items()} for kind in ("found", "noise"))
    passed = [
        white.find("white box", title=t, budget="8/255", attack="union") for t in white.make.values("white box", "title", attack="union")
    ]
    assert {n.value for n in passed if n} == {1.0}, "the sentence below says that every attacked detector is passed"
    n, images = points["SMD"].found.n, next(n.n for n in passed if n)
    apart = cifar.one.scores.apart  # README has no room for more words
    within = "images tried, within 8/255 (other weights)" if apart else "images they tried, within 8/255"
    return "\n".join(
        [
            f"![{readme_guard.alt()}]({PLOT})",
            "",
            readme_guard.table(),
            "",
            "[Every kind of attack and of change](docs/RESULTS.md#what-the-guard-finds), with intervals. To compare:",
            "",
            f"- **The paper's detectors**, on {n} images of the six attacks that they were trained on: SMD detects {found['SMD']}, SPD "
            f"{found['SPD']}. The gap between the two largest logits, a baseline, detects {found['Margin2']} and does not react to "
            f"harmless noise; a fusion of all detectors detects {found['fusion']} and flags {noise['fusion']} more natural images with "
            f"such noise (least and most of {len(points['SPD'].found.seeds)} seeds).",
            f"- **Whoever knows the detector** got past each of {len(passed)} with all {images} {within}.",
        ]
    )


def _percent(n: Number | None) -> str:
    """A share; of several seeds the least and the most, which is what a sentence may say."""
    assert n is not None
    return least_to_most(*beside(n.seeds, n.value, n.value)[:2])


def plotted() -> str:
    """What each detector finds, beside its extra flags on harmless noise, with intervals."""
    r = next(r for r in first(recorded("fast")) if r.dataset == "cifar10")
    points = pictures.points(r)
    lines = [
        row("", f"detection rate (n = {points[0].found.n})", f"extra false alarms on harmless noise (n = {points[0].noise.n})"),
        row(*["---"] * 3),
        *(row(f"{detector_words(p.name)}: {p.by}", text(p.found, "seeds"), text(p.noise, "seeds")) for p in points),
    ]
    return "\n".join([*lines, "", f"{over(r.rows)} {r.source}."])


def results() -> str:
    """Everything at a glance: a table of what is found, with two columns for each data set, and one of the rest, with one."""
    runs = first(recorded("fast"))
    return "\n".join([_found(runs), "", *_rest(runs), "", over(x for r in runs for x in r.rows)])


def _found(runs: list[Recorded]) -> str:
    """Strict: share found, and how many more are flagged of images with noise of the attack's size; then differences."""
    places: dict[str, str] = {}
    for r in runs:
        for kind in ATTACKS:
            if (a := r.attack(kind)) and (n := r.detected("SPD", a)):
                title = next(t for t, label in r.headline.items() if label == a)
                places[f"{r.dataset} {a}"] = f"{r.title}: {title} (n = {n.n:,})"
    rows = [x | {"place": f"{r.dataset} {x['trained_on']}"} for r in runs for x in r.rows]
    cell = Column("", "{tpr@0.05|seeds}; *noise* {noise/excess-flags-on-unchanged|bare}")
    head = "detection rate at a false-positive rate of 5 %; *noise*: extra false alarms on noise of that size"
    by = {t: kind for r in runs for t, kind in pictures.kinds(r).items()}
    found = replace(strict({t: f"{detector_words(t)}: {by[t]}" for t in GLANCE}, places, head, cell), empty="not run")
    return lines(found, rows, gains(places, order={"title": DIFFERENCES}, empty="not run"))


def _rest(runs: list[Recorded]) -> list[str]:
    """The paper's own comparison, the white box, verdicts, and what made it."""
    white = {r.folder.name: r for r in recorded("whitebox")}
    said = verdicts()
    lines = [row("", *(r.title for r in runs)), row(*["---"] * (1 + len(runs)))]
    lines.append(row("classifier accuracy", *(r.cell("accuracy", n=True) for r in runs)))
    for scheme, words in (("replica", "trained as the paper trains"), ("paired", "with batch norm")):
        lines.append(row(f"C&W, SPD minus ID, accuracy, {words}", *(_sign(r, scheme) for r in runs)))
    for scheme, words in ((" (replica)", "trained as the paper trains"), ("", "with batch norm")):
        for d in ("SPD", "ID"):
            lines.append(row(f"{d}, one for all attacks, accuracy, {words}", *(_one_for_all(r, d, scheme) for r in runs)))
    for name, words in (("classifier alone", "no detector"), ("SPD", "SPD"), ("fusion", "the fusion")):
        lines.append(row(f"attack success rate, white box, {words}", *(_past(white.get(r.folder.name), name) for r in runs)))
    for manner in MANNERS:
        words = f"the paper's 21 claims, {claims.ASKED[manner]}, all run seeds together"
        lines.append(row(words, *(counted(said, r.dataset, manner) for r in runs)))
    lines.append(row("commands", *("; ".join(f"`{x.run['command']}`" for x in (r, white.get(r.folder.name)) if x) for r in runs)))
    return [*lines, row("made with", *(r.origin for r in runs))]


def _sign(r: Recorded, scheme: str) -> str:
    a = r.attack("CarliniWagner")
    return r.cell("headline", n=True, protocol="published", scheme=scheme, trained_on=a, tested_on=a, title="SPD minus ID")


def _one_for_all(r: Recorded, detector: str, scheme: str) -> str:
    place = {"protocol": "published", "trained_on": "combined", "tested_on": "combined", "measure": "accuracy"}
    theirs = next((x for x in r.make.of("paper table") if (x["table"], x["source"], x["detector"]) == (6, "paper", detector)), None)
    return r.cell("detection", n=True, title=detector + scheme, **place) + (f"; the paper {printed_text(theirs)}" if theirs else "")


def _past(r: Recorded | None, name: str) -> str:
    """At the second smallest Linf budget, where there are several, and the largest."""
    if r is None:
        return "not run"
    sizes = budgets(r, norm="linf")
    attack = None if name == "classifier alone" else "union"
    found = {b: r.find("white box", title=name, budget=b, attack=attack, measure="success") for b in (*sizes[1:2], sizes[-1])}
    if not all(found.values()):
        return lacking(r, name)
    return "; ".join(f"{b}: {text(n)}" for b, n in found.items()) + f" (n = {next(n.n for n in found.values() if n)})"


def counted(said: claims.Verdicts, dataset: str, manner: tuple[str, str]) -> str:
    """How many of the 21 claims got which verdict."""
    words = Counter(
        r["verdict"] for r in said.words if (r["dataset"], r["run_seed"], (r["protocol"], r["scheme"])) == (dataset, None, manner)
    )
    return ", ".join(f"{SHORT.get(w, w)} {words[w]}" for w in ORDER if words[w])


def demo() -> str:
    """What `make demo` says at its end, as recorded."""
    return _block("\n".join(read_json(LINES)["lines"]))


def note_lines(folder: Path) -> None:
    """Keep what `make demo` said at its end, from what it left."""
    run = read_json(folder / "run.json")
    lines = [line.replace(str(folder), run["out"]) for line in last_lines(folder)]
    kept = {k: run[k] for k in ("command", "salientry", "machine")} | {"date": str(datetime.date.today()), "lines": lines}
    LINES.write_text(json.dumps(kept, indent=1) + "\n")


def says() -> str:
    """What the guard of one's own images alone says of itself, as recorded."""
    return _block(record()["guards"]["own"]["text"])


def _block(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```"


PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"headline": readme_guard.headline, "good": good, "methods": readme_methods.short},
    "docs/index.md": {"headline": readme_guard.headline},
    "docs/start.md": {"demo": demo},
    "docs/attack.md": {"speed": readme_attacks.table, "goals": readme_attacks.goals},
    "docs/guard.md": {"says": says, "cost": readme_cost.costs},
    "docs/drift.md": {"drift": readme_drift.drifts, "campaign": readme_drift.campaigns},
    "docs/cluster.md": {"scaling": readme_scaling.scaled, "check": readme_check.checked},
    "docs/operate.md": {"served": readme_serve.served},
    "docs/video.md": {"video": readme_drift.videos},
    "docs/methods.md": {"methods": readme_methods.whole},
    "docs/paper.md": {"recipes": readme_recipes.recipes},
    "docs/RESULTS.md": {
        "guard": guard_results,
        "results": results,
        "plot": plotted,
        "smoke": smoke,
        "settings": settings,
        "fast": fast,
        "paper": readme_paper.at_size,
        "whitebox": white_boxes,
    },
}


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
        prog="python -m benchmarks.readme", description="Write what README.md and pages of docs/ take from the records and the code."
    )
    parser.add_argument("--write", action="store_true", help="write them; else README's part is printed")
    parser.add_argument("--claims", action="store_true", help="write docs/claims.md first")
    parser.add_argument("--demo", type=Path, metavar="FOLDER", help=f"write {MAPS} and {LINES.name} from a report's folder, nothing else")
    given = parser.parse_args()
    if given.demo:
        (ROOT / MAPS).write_bytes(pictures.maps(given.demo))
        note_lines(given.demo)
        print(f"wrote {MAPS} and {LINES.relative_to(ROOT)}")
        return
    if given.claims:
        with contextlib.chdir(ROOT):  # it names the folders as they were given
            claims_document.write(list(FOLDERS), CLAIMS, TIMING)
    for name in PARTS if given.write else ():
        path = ROOT / name
        path.write_text(filled(name, path.read_text()))
        print(f"wrote {name}")
    if given.write:
        (ROOT / PLOT).write_bytes(readme_guard.plot())
        print(f"wrote {PLOT}")
    else:
        print(good())


if __name__ == "__main__":
    main()
