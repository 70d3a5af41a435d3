"""What an attack does to a map, as a picture from a run's own gallery; and what detectors find beside what they flag of harmless noise."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from salientry.report.spec import Number
from salientry.results.choice import NOISE
from salientry.results.names import attack_title
from salientry.store import packed, read_arrays, read_json

from .recorded import Recorded

INK, PAPER = "#1d2430", "#ffffff"
BOTH = "#6e7a8a"  # words that are read on white and on black
DARK = {  # what stands for a colour where the reader's screen is dark
    INK: "#e4e8ef",
    PAPER: "#171b22",
    "#5b6577": "#a3adbf",
    "#9aa3b2": "#55607a",
    "#e6e9ef": "#2b323e",
    "#0072B2": "#79b0ee",
    "#B34700": "#f0924f",
}
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": "#9aa3b2",
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.hashsalt": "salientry",
    "axes.spines.top": False,
    "axes.spines.right": False,
}
COMBINED = "combined"  # trained on all of a run's attacks, tried on all of them
GROUPS = {"saliency": "saliency map", "fusion": "fusion of all"}  # what it goes by, where the group's name does not say it


@dataclass(frozen=True)
class Point:
    """A detector: what it goes by, what it finds, and how many more images it flags when they carry noise."""

    name: str
    by: str
    found: Number
    noise: Number


def points(r: Recorded) -> list[Point]:
    """Of every detector that is compared, as far as the run has it."""
    two = ((d, r.detected(d, COMBINED), r.detected(d, COMBINED, "noise/excess-flags-on-unchanged", tested_on=None)) for d in NOISE)
    by = kinds(r)
    return [Point(d, by[d], found, noise) for d, found, noise in two if found and noise]


def kinds(r: Recorded) -> dict[str, str]:
    """What each detector goes by, by its title."""
    return {x["title"]: GROUPS.get(x["group"], x["group"]) for x in r.make.of("detection")}


def maps(folder: Path) -> bytes:
    """The first picture of a report's gallery, what C&W made of it, and where the classifier looks in both: a PNG."""
    attack = next(a for a in read_json(folder / "gallery.json")["attacks"] if a.startswith("CarliniWagner"))
    found: dict[str, Any] = read_arrays(packed(folder / "gallery.safetensors"))
    arrays = {k: v / 255 if k.endswith(".map") and v.dtype == np.uint8 else v for k, v in found.items()}  # kept maps are uint8
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
            ax.set_title(head, fontsize=11, color=BOTH, pad=5)
            ax.text(0.5, -0.03, below, transform=ax.transAxes, ha="center", va="top", fontsize=10, color=BOTH)
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=200, transparent=True, metadata={"Software": None})
    return out.getvalue()


def for_dark_screens(svg: str) -> str:
    """The same drawing, with other colours where the reader's screen is dark."""
    found = [
        f'[style*="{kind}: {light.lower()}"] {{{kind}: {dark} !important}}' for light, dark in DARK.items() for kind in ("fill", "stroke")
    ]
    style = f"<style>@media (prefers-color-scheme: dark) {{ {' '.join(found)} }}</style>"
    return svg.replace(" <defs>", f" {style}\n <defs>", 1)
