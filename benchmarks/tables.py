"""The tables of docs/RESULTS.md, from the recorded runs in results/; `python -m benchmarks.readme --write` puts them there."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from fractions import Fraction
from typing import Any

from salientry.keys import label
from salientry.recipes.fast import CONFIGS
from salientry.recipes.paper_config import Config
from salientry.results.warnings import GAIN
from salientry.store import read_json

from .recorded import RESULTS, Recorded, first, made, recorded, row, rule, text

SMOKE = RESULTS / "smoke"
ROWS = ("SMD", "SPD", "ID", "JSD", "ID+", "fusion", "SortedLogits", "PooledActivations", "Margin2", "Opinion", "BlackShare")
ATTACKS = {"FGSM": "FGSM", "BIM": "BIM", "CarliniWagner": "C&W", "JSMA": "JSMA"}
PARTS = ("the map", "the image", "logits", "activations", "the second net", "pixel statistics")


def smoke() -> str:
    """Strict, trained on all attacks: what is found, what is flagged falsely, what controls do; and what each part adds."""
    numbers: dict[str, list[Any]] = read_json(SMOKE / "numbers.json")
    labels = {
        t: next(i.split("/")[3] for i in numbers if i.startswith(f"strict/SMD/combined/{a}") and i.endswith("/tpr@0.05"))
        for a, t in ATTACKS.items()
    }
    heads = [f"{t} found (n = {numbers[f'strict/SMD/combined/{a}/tpr@0.05'][3]})" for t, a in labels.items()]
    lines = [
        row("strict, TPR at 5 %", *heads, "naturals flagged", "more flags: noise", "… another image's perturbation"),
        rule(len(heads) + 4),
    ]
    for name in ROWS:
        head = f"strict/{name}/combined"
        found = [text(*numbers[f"{head}/{a}/tpr@0.05"][:3]) for a in labels.values()]
        more = [f"{head}/fpr@0.05", *(f"{head}/{c}/excess-flags-on-unchanged" for c in ("noise", "Transplant"))]
        lines.append(row(name, *found, *(text(numbers[i][0]) for i in more)))
    alone, whole = (text(*numbers[f"strict/fusion/{f}/mean over attacks/tpr"][:3]) for f in ("logits alone", "all parts"))
    lines += [
        "",
        row("part", f"added to the logits alone, which find {alone}", f"added to everything else; all together find {whole}"),
        rule(3),
    ]
    for p in PARTS:
        ids = [f"strict/fusion/{p} adds to the logits/mean over attacks/tpr", f"strict/fusion/{p} adds/mean over attacks/tpr"]
        lines.append(row(p, *(text(*numbers[i][:3]) if i in numbers else "" for i in ids)))
    run = json.loads((SMOKE / "run.json").read_text())
    source = f"`{run['command']}`, run seed 0, detector seeds 0 and 1, {made(run)}"
    return "\n".join([*lines, "", f"95 % intervals over images. {source}."])


def settings() -> str:
    """What differs between the data sets of ``fast``, in words."""
    values = {f.name: [getattr(c, f.name) for c in CONFIGS.values()] for f in fields(Config)}
    lines = [row(name, *map(_told, of)) for name, of in values.items() if any(v != of[0] for v in of)]
    return "\n".join([row("setting", *CONFIGS), rule(1 + len(CONFIGS)), *lines])


def _told(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_told, value)) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"`{label(value)}`" if is_dataclass(value) else f"{value:.3g}".removeprefix("0") if isinstance(value, float) else f"{value:,}"


MAPS = ("SPD", "SMD", "SPD (trunk)", "SMD (trunk)")
DETECTORS = (*MAPS, "ID", "ID+", "fusion", "SortedLogits", "PooledActivations", "Margin2", "Opinion", "BlackShare")
GAINS = ("SPD minus the best floor", "SPD minus ID+", "fusion with the map minus without", "logits with the map minus without")


def fast() -> str:
    """Each data set under a heading, then its runs with another seed."""
    runs, parts = recorded("fast"), []
    for r in first(runs):
        parts += [f"### {r.title}", detection(r)]
        for again in (x for x in runs if x.again and x.dataset == r.dataset):
            parts += [f"{r.title} with everything that is learnt or drawn made anew, run seed {again.seed}:", another(r, again)]
    return "\n\n".join(parts)


def detection(r: Recorded) -> str:
    """Strict, trained and tested on the attacks of the headline; then what the map is worth beside the rest."""
    rows = r.headline
    heads = [h for t, a in rows.items() for h in (f"{t}: found (n = {r.n(f'strict/SPD/{a}/{a}/tpr@0.05')})", "… noise", "… transplant")]
    lines = [row("strict, found at 5 %", *heads), rule(len(heads) + 1)]
    for name in DETECTORS:
        cells = []
        for a in rows.values():
            cells.append(r.cell(f"strict/{name}/{a}/{a}/tpr@0.05"))
            cells += [r.cell(f"strict/{name}/{a}/{c}/excess-flags-on-unchanged", False) for c in ("noise", "Transplant")]
        lines += [row(name, *cells)] if any(cells) else []
    lines += ["", row("difference in the share found", *rows), rule(len(rows) + 1)]
    lines += [row(g, *(r.cell(f"headline/{a}/{g}") for a in rows.values())) for g in GAINS]
    lines += own_maps(r)
    return "\n".join([*lines, "", f"95 % intervals over images, given one classifier, one U-Net of each kind and one split. {r.source}."])


def own_maps(r: Recorded) -> list[str]:
    """Class by class, what the own map keeps and destroys beyond that of another image of the class: the least, the most, who passes."""
    gains = {"keeps more": "kept-gain", "destroys more": "destroyed-gain"}
    lines = ["", row("own map against that of another image called the same", *gains, "classes that pass by themselves"), rule(4)]
    for words, head in (("map from a second net", "any/map/class "), ("map from the classifier's trunk", "any/map/trunk/class ")):
        classes = [i.removeprefix(head).split("/")[0] for i in r.numbers if i.startswith(head) and i.endswith("/kept-gain")]
        found = {k: [r.numbers[f"{head}{k}/{g}"] for g in gains.values()] for k in classes}
        passing = [k for k, of in found.items() if all(n["value"] >= GAIN and n["lo"] > 0 for n in of)]
        spans = [sorted(of[i]["value"] for of in found.values()) for i in range(len(gains))]
        lines += [row(words, *(f"{text(s[0])} to {text(s[-1])}" for s in spans), f"{len(passing)} of {len(found)}")] if found else []
    return lines


def another(r: Recorded, again: Recorded) -> str:
    """The same rows of two runs: what an interval over images does not know."""
    rows = {t: (a, again.headline[t]) for t, a in r.headline.items() if t in again.headline}
    heads = [f"{t}, run seed {x.seed}" for t in rows for x in (r, again)]
    lines = [row("found at 5 %", *heads), rule(len(heads) + 1)]
    ids = {name: "strict/" + name + "/{0}/{0}/tpr@0.05" for name in DETECTORS} | {g: "headline/{0}/" + g for g in GAINS}
    for name, id in ids.items():
        found = [x.cell(id.format(a)) for labels in rows.values() for x, a in zip((r, again), labels, strict=True)]
        lines += [row(name, *found)] if any(found) else []
    right = " and ".join(x.cell("any/natural/accuracy", False) for x in (r, again))
    return "\n".join([*lines, "", f"The classifiers have {right} right. Run seed {again.seed}: {again.source}."])


ATTACKED = ("SPD", "SMD", "JSD", "ID+", "fusion", "SortedLogits", "PooledActivations", "Margin", "Opinion", "BlackShare")


def budgets(r: Recorded) -> list[str]:
    """Of a white box: Linf from small to large, then L2."""
    head = "white box/classifier alone/"
    found = [i.removeprefix(head) for i in r.numbers if i.startswith(head)]
    return sorted(found, key=lambda b: (b.startswith("L2"), Fraction(b.removeprefix("L2 "))))


def white_boxes() -> str:
    """Each data set under a heading."""
    return "\n\n".join(f"### {r.title}\n\n{white_box(r)}" for r in recorded("whitebox"))


def white_box(r: Recorded) -> str:
    """Who knows classifier, map, detector and threshold: success by budget, what it costs, alarms; then the paper's own attack."""
    sizes = budgets(r)
    alarm = next(i for i in r.numbers if i.startswith("white box/") and "/alarm/" in i).split("/", 3)[3]
    n = r.n(f"white box/classifier alone/{sizes[0]}")
    lines = [row(f"got past, n = {n}", *sizes, "L2 over the classifier's alone", f"alarm, {alarm}"), rule(len(sizes) + 3)]
    lines.append(row("no detector", *(r.cell(f"white box/classifier alone/{b}") for b in sizes), "1", ""))
    for name in ATTACKED:
        ids = [f"white box/{name}/{b}/union" for b in sizes]
        blank = [lacking(r, name), *[""] * (len(ids) - 1)]
        cells = [r.cell(i) for i in ids] if any(i in r.numbers for i in ids) else blank
        lines.append(row(name, *cells, r.cell(f"white box/{name}/cost"), r.cell(f"white box/{name}/alarm/{alarm}")))
    eps = min((i.split("/")[3] for i in r.numbers if i.startswith("white box/table 3/as printed/") and "/T=5/" in i), key=_nearest)
    words = ("flagged, as printed", "wrong and unflagged, as printed", "… with the true gradient")
    lines += ["", row(f"the paper's attack, 5 passes, eps {eps}", *words), rule(4)]
    for d in ("SPD", "SMD", "ID", "JSD"):
        at = f"white box/table 3/{{}}/{eps}/{d}/T=5/{{}}"
        found = [at.format("as printed", k) for k in ("detector", "joint")] + [at.format("true gradient", "joint")]
        lines.append(row(d, *([r.cell(i) for i in found] if found[0] in r.numbers else ["not run", "", ""])))
    return "\n".join([*lines, "", f"95 % intervals over images, given these nets. `{r.run['command']}`, run seed {r.seed}, {made(r.run)}."])


def lacking(r: Recorded, name: str) -> str:
    """Why a white box says nothing of a detector: it was not attacked, or no attack on it is believed."""
    return "attack too weak, nothing to report" if any(i.startswith(f"white box/{name}/") for i in r.numbers) else "not run"


def _nearest(eps: str) -> Fraction:
    """To .2, the paper's budget on small images."""
    return abs(Fraction(eps) - Fraction(1, 5))
