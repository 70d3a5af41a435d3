"""The README's table and figures, from the recorded run in results/smoke. `python -m benchmarks.readme` prints them; a test compares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parents[1] / "results" / "smoke"
ROWS = ("SMD", "SPD", "ID", "Margin2", "SortedLogits", "Opinion", "BlackShare")


def _text(n: dict[str, Any]) -> str:
    def short(v: float) -> str:
        return f"{v:.3f}".replace("0.", ".", 1).replace("-", "−") if abs(v) < 1 else f"{v:.3f}"

    return f"{short(n['value'])} [{short(n['lo'])}, {short(n['hi'])}]"


def table() -> str:
    """Strict, trained on DeepFool: what is found, what is flagged falsely, what noise does."""
    numbers = {n["id"]: n for n in json.loads((RECORDED / "report.json").read_text())["numbers"]}
    n = numbers["strict/SMD/DeepFool/DeepFool/tpr@0.05"]["n"]
    head = (
        "| strict, trained on DeepFool | DeepFool found (TPR at 5 %, n = {}) | FGSM found | naturals flagged | more flags, matched noise |"
    )
    lines = [head.format(n)]
    lines += ["| --- | --- | --- | --- | --- |"]
    for name in ROWS:
        head = f"strict/{name}/DeepFool"
        ids = [f"{head}/DeepFool/tpr@0.05", f"{head}/FGSM/tpr@0.05", f"{head}/fpr@0.05", f"{head}/noise/excess-flags-on-unchanged"]
        lines.append(f"| {name} | " + " | ".join(_text(numbers[i]) for i in ids) + " |")
    run = json.loads((RECORDED / "run.json").read_text())
    m = run["machine"]
    source = (
        f"`{run['command']}`, run seed 0, detector seeds 0 and 1, {m['hardware']} {m['device']}, torch {m['torch']}, Python {m['python']}"
    )
    return "\n".join([*lines, "", f"95 % intervals over images. {source}."])


if __name__ == "__main__":
    print(table())
