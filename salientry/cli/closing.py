"""What a run leaves for use: its guard, two pictures to try it on; and the run's last lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..classifiers import save_classifier
from ..experiment.outputs import Outputs
from ..experiment.run import Run
from ..guard import Guard
from ..pixels import write_pixels
from ..results.counts import at_the_median, counts
from ..results.scores import Scores
from ..store import read_json, write_json
from ..types import Shape
from .checking import judge


def leave_guard(run: Run, outputs: Outputs, parts: tuple[Any, ...] | None, out: Path) -> None:
    """The recipe's guard, its classifier, and the natural and the attacked test image whose scores are the medians.

    Args:
        run: that computed the outputs.
        outputs: of the recipe.
        parts: of the guard, see :func:`salientry.experiment.records.guard_of`; None leaves nothing.
        out: folder that holds the run's records.
    """
    if parts is None:
        return
    f, s, detector, threshold, level, calibration = parts
    scores = Scores.read(out)
    chosen = at_the_median(scores)
    if chosen is None:
        return
    by_key = {h.fingerprint: h for h in outputs.images}
    sets = [run.get(by_key[scores.images[name]["key"]]) for name, _ in chosen]
    pixels = [rows.column("image", np.array([row]))[0] for rows, (_, row) in zip(sets, chosen, strict=True)]
    c, h, w = pixels[0].shape
    guard = Guard(f, s, detector, threshold, level, calibration, Shape(c, h, w, int(sets[0].facts["classes"])))
    save_classifier(f, out / "classifier")
    guard.save(out / "guard", classifier_at="../classifier")
    pictures = [out / "natural.png", out / "attacked.png"]
    for path, picture in zip(pictures, pixels, strict=True):
        write_pixels(path, picture)
    write_json(out / "check.json", [v.json() | {"line": v.line()} for v in judge(out / "guard", pictures, overlay=out)])


def last_lines(out: Path, program: str = "salientry") -> list[str]:
    """How often a run's guard is right on the test images, an example, and where to look next: what is left in its folder, in words.

    Args:
        out: that folder.
        program: what the commands begin with.
    """
    page = out / "report.html"
    counted = counts(Scores.read(out)) if (out / "check.json").exists() else None
    if counted is None:
        return [f"report: {page if page.exists() else out}"]
    return [
        *counted.lines(),
        "an example, the natural and the attacked image with the median score:",
        *(f"  {picture['line']}" for picture in read_json(out / "check.json")),
        "where to look next:",
        f"  {page if page.exists() else out}   all that was found",
        f"  {program} check {out / 'guard'} {out / 'natural.png'} {out / 'attacked.png'}",
        f"  {program} serve {out / 'guard'} --examples {out} --attacks   a page to try it on, in a browser",
        f"  {program} fit --help   a guard for your own classifier",
    ]
