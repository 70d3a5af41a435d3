"""The README's tables, from the recorded runs in results/. `python -m benchmarks.readme` prints them; a test compares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parents[1] / "results" / "smoke"
ROWS = ("SMD", "SPD", "ID", "JSD", "ID+", "fusion", "SortedLogits", "PooledActivations", "Margin2", "Opinion", "BlackShare")
ATTACKS = {"FGSM": "FGSM", "BIM": "BIM", "CarliniWagner": "C&W", "JSMA": "JSMA"}
PARTS = ("the map", "the image", "logits", "activations", "the second net", "pixel statistics")


def _text(n: list[Any], interval: bool = True) -> str:
    def short(v: float) -> str:
        text = f"{v:.3f}".replace("-0.000", "0.000")
        return (text.replace("0.", ".", 1) if abs(v) < 1 else text).replace("-", "−")

    return f"{short(n[0])} [{short(n[1])}, {short(n[2])}]" if interval else short(n[0])


def tables() -> str:
    """Strict, trained on all attacks: what is found, what is flagged falsely, what controls do; and what each part adds."""
    numbers: dict[str, list[Any]] = json.loads((RECORDED / "numbers.json").read_text())
    labels = {
        t: next(i.split("/")[3] for i in numbers if i.startswith(f"strict/SMD/combined/{a}") and i.endswith("/tpr@0.05"))
        for a, t in ATTACKS.items()
    }
    heads = [f"{t} found (n = {numbers[f'strict/SMD/combined/{a}/tpr@0.05'][3]})" for t, a in labels.items()]
    lines = ["| strict, TPR at 5 % | " + " | ".join(heads) + " | naturals flagged | more flags: noise | … another image's perturbation |"]
    lines += ["| --- |" + " --- |" * (len(heads) + 3)]
    for name in ROWS:
        head = f"strict/{name}/combined"
        ids = [f"{head}/{a}/tpr@0.05" for a in labels.values()] + [f"{head}/fpr@0.05"]
        ids += [f"{head}/{c}/excess-flags-on-unchanged" for c in ("noise", "Transplant")]
        lines.append(f"| {name} | " + " | ".join(_text(numbers[i], k < len(labels)) for k, i in enumerate(ids)) + " |")
    alone, whole = (_text(numbers[f"strict/fusion/{f}/mean over attacks/tpr"]) for f in ("logits alone", "all parts"))
    lines += ["", f"| part | added to the logits alone, which find {alone} | added to everything else; all together find {whole} |"]
    lines += ["| --- | --- | --- |"]
    for p in PARTS:
        ids = [f"strict/fusion/{p} adds to the logits/mean over attacks/tpr", f"strict/fusion/{p} adds/mean over attacks/tpr"]
        lines.append(f"| {p} | " + " | ".join(_text(numbers[i]) if i in numbers else "" for i in ids) + " |")
    run = json.loads((RECORDED / "run.json").read_text())
    m = run["machine"]
    source = (
        f"`{run['command']}`, run seed 0, detector seeds 0 and 1, {m['hardware']} {m['device']}, torch {m['torch']}, Python {m['python']}"
    )
    return "\n".join([*lines, "", f"95 % intervals over images. {source}."])


FAST = RECORDED.parent / "fast" / "cifar10"
DETECTORS = ("SPD", "SMD", "SPD (trunk)", "SMD (trunk)", "ID", "ID+", "fusion", "SortedLogits", "PooledActivations", "Margin2", "Opinion")
GAINS = ("SPD minus the best floor", "SPD minus ID+", "fusion with the map minus without", "logits with the map minus without")


def natural_images() -> str:
    """CIFAR-10, strict, trained and tested on C&W and on BIM 8/255; then what the map is worth beside the rest."""
    numbers = {n["id"]: [n["value"], n["lo"], n["hi"], n["n"]] for n in json.loads((FAST / "report.json").read_text())["numbers"]}
    rows = {"C&W": next(i for i in numbers if i.startswith("headline/CarliniWagner")).split("/")[1]}
    rows["BIM 8/255"] = next(i for i in numbers if i.startswith("headline/BIM")).split("/")[1]
    heads = [f"{t}: found (n = {numbers[f'strict/SPD/{a}/{a}/tpr@0.05'][3]}) | … noise | … transplant" for t, a in rows.items()]
    lines = ["| strict, found at 5 % | " + " | ".join(heads) + " |", "| --- |" + " --- |" * (3 * len(rows))]
    for name in DETECTORS:
        cells = []
        for a in rows.values():
            cells.append(_text(numbers[f"strict/{name}/{a}/{a}/tpr@0.05"]))
            cells += [_text(numbers[f"strict/{name}/{a}/{c}/excess-flags-on-unchanged"], False) for c in ("noise", "Transplant")]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "| difference in the share found | " + " | ".join(rows) + " |", "| --- |" + " --- |" * len(rows)]
    for g in GAINS:
        lines.append(f"| {g} | " + " | ".join(_text(numbers[f"headline/{a}/{g}"]) for a in rows.values()) + " |")
    run = json.loads((FAST / "run.json").read_text())
    m = run["machine"]
    source = f"`{run['command']}`, run seed 0, detector seeds 0 to 2, {m['hardware']} {m['device']}, "
    source += f"torch {m['torch']}, Python {m['python']}"
    return "\n".join([*lines, "", f"95 % intervals over images, given one classifier, one U-Net of each kind and one split. {source}."])


SECOND = FAST.parent / "cifar10-seed1"
AGAIN = ("SPD", "SMD", "SPD (trunk)", "SMD (trunk)", "ID", "ID+", "fusion", "SortedLogits", "PooledActivations", "Margin2")


def another_classifier() -> str:
    """The same rows with everything that is learnt or drawn made anew: what an interval over images does not know."""
    runs = [{n["id"]: n for n in json.loads((f / "report.json").read_text())["numbers"]} for f in (FAST, SECOND)]
    rows = {
        t: next(i for i in runs[0] if i.startswith(f"headline/{a}")).split("/")[1] for t, a in (("C&W", "Carlini"), ("BIM 8/255", "BIM"))
    }
    heads = [f"{t}, run seed {k}" for t in rows for k in (0, 1)]
    lines = ["| found at 5 % | " + " | ".join(heads) + " |", "| --- |" + " --- |" * len(heads)]
    ids = {name: "strict/" + name + "/{0}/{0}/tpr@0.05" for name in AGAIN} | {g: "headline/{0}/" + g for g in GAINS}
    for name, id in ids.items():
        found = [r[id.format(a)] for a in rows.values() for r in runs]
        lines.append(f"| {name} | " + " | ".join(_text([n["value"], n["lo"], n["hi"]]) for n in found) + " |")
    right = " and ".join(_text([r["any/natural/accuracy"]["value"]], False) for r in runs)
    command = json.loads((SECOND / "run.json").read_text())["command"]
    return "\n".join([*lines, "", f"The classifiers have {right} right. Run seed 1: `{command}`, detector seeds 0 and 1."])


WHITE = RECORDED.parent / "whitebox"
ATTACKED = ("SPD", "SMD", "JSD", "ID+", "fusion", "SortedLogits", "PooledActivations", "Margin", "Opinion", "BlackShare")
BUDGETS = {"cifar10": ("1/255", "2/255", "4/255", "8/255", "L2 .5"), "digits": (".05", ".1", ".2", ".3")}


def white_box(dataset: str) -> str:
    """Who knows classifier, map, detector and threshold: success by budget, what it costs, alarms; then the paper's own attack."""
    numbers = {
        n["id"]: [n["value"], n["lo"], n["hi"], n["n"]] for n in json.loads((WHITE / dataset / "report.json").read_text())["numbers"]
    }
    budgets = BUDGETS[dataset]
    alarm = next(i for i in numbers if i.startswith("white box/SPD/alarm/")).split("/", 3)[3]
    n = numbers[f"white box/SPD/{budgets[0]}/union"][3]
    lines = [f"| got past, n = {n} | " + " | ".join(budgets) + f" | L2 over the classifier's alone | alarm, {alarm} |"]
    lines += ["| --- |" + " --- |" * (len(budgets) + 2)]

    def cell(id: str, interval: bool = True) -> str:
        return _text(numbers[id], interval) if id in numbers and numbers[id][0] is not None else ""

    lines.append("| no detector | " + " | ".join(cell(f"white box/classifier alone/{b}") for b in budgets) + " | 1 | |")
    for name in ATTACKED:
        ids = [f"white box/{name}/{b}/union" for b in budgets]
        cells = [cell(i) for i in ids] if any(i in numbers for i in ids) else ["attack too weak, nothing to report", *[""] * (len(ids) - 1)]
        lines.append(f"| {name} | " + " | ".join([*cells, cell(f"white box/{name}/cost"), cell(f"white box/{name}/alarm/{alarm}")]) + " |")
    lines += [
        "",
        "| the paper's attack, 5 passes, eps .2 | flagged, as printed | wrong and unflagged, as printed | … with the true gradient |",
    ]
    lines += ["| --- | --- | --- | --- |"]
    for d in ("SPD", "SMD", "ID", "JSD"):
        at = f"white box/table 3/{{}}/.2/{d}/T=5/{{}}"
        found = [at.format("as printed", k) for k in ("detector", "joint")] + [at.format("true gradient", "joint")]
        lines.append(f"| {d} | " + " | ".join(cell(i) for i in found) + " |")
    run = json.loads((WHITE / dataset / "run.json").read_text())
    m = run["machine"]
    source = f"`{run['command']}`, run seed 0, {m['hardware']} {m['device']}, torch {m['torch']}, Python {m['python']}"
    return "\n".join([*lines, "", f"95 % intervals over images, given these nets. {source}."])


if __name__ == "__main__":
    print(tables())
    for dataset in (d for d in BUDGETS if (WHITE / d).exists()):
        print("\n" + white_box(dataset))
    if FAST.exists():
        print("\n" + natural_images() + "\n\n" + another_classifier())
