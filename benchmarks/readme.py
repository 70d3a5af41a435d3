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


if __name__ == "__main__":
    print(tables())
    if FAST.exists():
        print("\n" + natural_images() + "\n\n" + another_classifier())
