"""The README's two pictures: what an attack does to a map, from a run's own gallery; and what detectors find, from a recorded run."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from salientry.report.figures import INK, PAPER, STYLE
from salientry.report.spec import Number
from salientry.results.names import attack_title
from salientry.store import read_arrays, read_json

from .recorded import Recorded

COMBINED = "combined"  # trained on all of a run's attacks, tried on all of them
GROUPS = {  # words, colour, marker: also distinguished without colour
    "map": ("saliency map", "#0072B2", "o"),
    "image": ("image", "#C24E00", "s"),
    "baseline": ("baseline", "#00785A", "^"),
    "fusion": ("fusion of all", "#1d2430", "D"),
}
PLOTTED = {  # name in the report: group, words beside the point, where they stand
    "SMD": ("map", "SMD", (9, -4)),
    "SPD": ("map", "SPD", (9, -5)),
    "SMD (trunk)": ("map", "SMD, trunk", (9, -9)),
    "SPD (trunk)": ("map", "SPD, trunk", (9, -12)),
    "ID": ("image", "ID", (9, -4)),
    "JSD": ("image", "JSD", (9, 0)),
    "ID+": ("image", "ID+", (-9, -4)),
    "SortedLogits": ("baseline", "sorted logits", (9, -4)),
    "Margin2": ("baseline", "logit margin", (9, -4)),
    "PooledActivations": ("baseline", "activations", (9, -1)),
    "SecondNet": ("baseline", "second net", (8, -14)),
    "HighFrequency": ("baseline", "fine structure", (9, -4)),
    "BlackShare": ("baseline", "black pixels", (9, -4)),
    "fusion": ("fusion", "fusion", (9, -4)),
}


@dataclass(frozen=True)
class Point:
    """A detector: what it finds, and how many more images it flags when they carry noise."""

    name: str
    found: Number
    noise: Number


def points(r: Recorded) -> list[Point]:
    """The plot's points, as far as the run has them."""
    two = ((d, r.detected(d, COMBINED), r.detected(d, COMBINED, "noise/excess-flags-on-unchanged", tested_on=None)) for d in PLOTTED)
    return [Point(d, found, noise) for d, found, noise in two if found and noise]


def plot(r: Recorded) -> bytes:
    """What each detector finds, against its extra flags on harmless noise: an SVG of 640 pixels' width, letters 14 pixels high."""
    style = STYLE | {"font.size": 10.5, "svg.hashsalt": "salientry"}
    with mpl.rc_context(style):
        figure = Figure(figsize=(640 / 72 * 0.75, 440 / 72 * 0.75))
        ax = figure.add_axes((0.085, 0.13, 0.87, 0.79))
        for p in points(r):
            group, words, offset = PLOTTED[p.name]
            _, colour, marker = GROUPS[group]
            at = p.noise.value, p.found.value
            ax.plot(*at, marker, ms=7.5, color=colour, mec=PAPER, mew=0.8, zorder=3, clip_on=False, gid=f"point {p.name}")
            side = "left" if offset[0] > 0 else "right"
            ax.annotate(words, at, offset, textcoords="offset points", color=colour, ha=side, fontsize=10.5)
        for words, colour, marker in GROUPS.values():
            ax.plot([], [], marker, ms=7.5, color=colour, label=words)
        ax.set_xlim(-0.03, 1.0)
        ax.set_ylim(-0.02, 1.02)
        ticks = np.linspace(0, 1, 6)
        ax.set_xticks(ticks, [f"{100 * t:.0f} %" for t in ticks])
        ax.set_yticks(ticks, [f"{100 * t:.0f} %" for t in ticks])
        ax.grid(color="#e6e9ef", lw=0.8)
        ax.set_axisbelow(True)
        ax.tick_params(length=0)
        ax.set_xlabel("extra flags on harmless noise of the attack's size (0 % is best)", labelpad=6)
        ax.text(0.012, 0.985, "best: here", color="#5b6577", va="top")
        ax.set_title(
            "CIFAR-10: attacked images detected, at 5 % false alarms (100 % is best)",
            fontsize=10.5,
            loc="left",
            x=-0.085,
            pad=10,
            color=INK,
        )
        ax.legend(loc="lower right", title="what it goes by", alignment="left", framealpha=1, edgecolor="#d5dae3", handletextpad=0.2)
        out = io.BytesIO()
        figure.savefig(out, format="svg", facecolor=PAPER, metadata={"Date": None, "Creator": None})
    return out.getvalue()


def maps(folder: Path) -> bytes:
    """The first picture of a report's gallery, what C&W made of it, and where the classifier looks in both: a PNG."""
    attack = next(a for a in read_json(folder / "gallery.json")["attacks"] if a.startswith("CarliniWagner"))
    arrays: dict[str, Any] = read_arrays(folder / "gallery.safetensors")
    answers = [f"the classifier says {int(arrays[f'{kind}.predicted'][0])}" for kind in ("natural", attack)]
    tiles: list[tuple[str, str, Any, dict[str, Any]]] = [
        ("a digit", answers[0], arrays["natural.image"], {"cmap": "gray", "vmax": 255}),
        (f"attacked ({attack_title(attack)})", answers[1], arrays[f"{attack}.image"], {"cmap": "gray", "vmax": 255}),
        ("saliency map before", "where it looks for a " + answers[0][-1], arrays["natural.map"], {"cmap": "magma", "vmax": 1}),
        ("saliency map after", "where it looks for a " + answers[1][-1], arrays[f"{attack}.map"], {"cmap": "magma", "vmax": 1}),
    ]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 2.45))
        for i, (head, below, images, how) in enumerate(tiles):
            ax = figure.add_axes((0.012 + 0.2475 * i, 0.1, 0.2335, 0.7815))
            ax.imshow(np.squeeze(images[0]), interpolation="nearest", vmin=0, **how)
            ax.set_axis_off()
            ax.set_title(head, fontsize=11, color=INK, pad=5)
            ax.text(0.5, -0.03, below, transform=ax.transAxes, ha="center", va="top", fontsize=10, color=INK)
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=200, facecolor=PAPER, metadata={"Software": None})
    return out.getvalue()
