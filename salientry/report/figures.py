"""Pictures of a report, as self-contained data URIs: images under attack, where the classifier looked, what the attacks added."""

from __future__ import annotations

import base64
import io
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from ..store import read_arrays, read_json
from .records import Records, attack_title

INK, PAPER, ACCENT = "#1d2430", "#ffffff", ("#b4432f", "#d98a2b", "#2f6fb4", "#4c8c4a", "#7a5aa6")
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": "#9aa3b2",
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
STYLE |= {"svg.hashsalt": "salientry", "axes.spines.top": False, "axes.spines.right": False}
MAPS = {
    "map": "learnt map",
    "Gradient": "gradient",
    "GradientInput": "gradient x input",
    "GuidedBackprop": "guided",
    "Gradient-of=prob": "of probability",
}


NUMBERS = {"MNIST": ("Figure 1", "Figure 5", "Figure 7"), "ASSIRA": ("Figure 6", "Like Figure 5", "Figure 8")}


def numbers(column: str | None) -> tuple[str, str, str]:
    """What the paper calls the pictures of maps, of perturbations and of gradient maps on a data set; of CIFAR-10 it prints none."""
    return NUMBERS.get(column or "", ("Like Figure 1", "Like Figure 5", "Like Figures 7 and 8"))


def uri(figure: Figure, kind: str) -> str:
    """A figure as a data URI, ``svg`` or ``png``, the same bytes for the same figure."""
    out = io.BytesIO()
    figure.savefig(out, format=kind, dpi=130, facecolor=PAPER, metadata={"Date": None} if kind == "svg" else None)
    mime = "image/svg+xml" if kind == "svg" else "image/png"
    return f"data:{mime};base64,{base64.b64encode(out.getvalue()).decode()}"


class Gallery:
    """The pictures beside the records.

    Attributes:
        arrays: by name, ``natural.image``, ``<attack>.map`` ...
        kinds: ``natural`` and the attacks, in order.
        count: how many examples there are.
        called: a class number to its name.
    """

    def __init__(self, records: Records) -> None:
        file = records.folder / "gallery.safetensors"
        self.arrays: dict[str, Any] = read_arrays(file) if file.exists() else {}
        self.kinds = ["natural", *(read_json(records.folder / "gallery.json")["attacks"] if self.arrays else [])]
        self.count, self.called = len(self.arrays.get("label", [])), records.called

    def picture(self, kind: str, i: int) -> Any:
        """(C, H, W) in [0, 1]."""
        raw = self.arrays[f"{kind}.image"][i]
        return raw / 255 if raw.dtype == np.uint8 else raw

    def drawn(self, rows: list[tuple[str, str, int]]) -> str | None:
        """A grid of pictures: a row for each (part, title, example), a column for the natural and each attack."""
        if not self.count:
            return None
        wide, high, left = 1.12 * len(self.kinds), 1.2 * len(rows), 0.95
        with mpl.rc_context(STYLE):
            figure = Figure(figsize=(wide + left, high + 0.3))
            ax = figure.add_axes((left / (wide + left), 0.01, wide / (wide + left), high / (high + 0.3)))
            ax.axis("off")
            for k, kind in enumerate(self.kinds):
                ax.text(k + 0.48, -0.04, attack_title(kind), ha="center", va="bottom", fontsize=9)
                for r, (part, _, i) in enumerate(rows):
                    self._show(ax, kind, part, i, k, r)
            for r, (_, title, _) in enumerate(rows):
                ax.text(-0.06, r + 0.42, title, ha="right", va="center", fontsize=8)
            ax.set_xlim(0, len(self.kinds))
            ax.set_ylim(len(rows), 0)
            return uri(figure, "png")

    def _show(self, ax: Any, kind: str, part: str, i: int, k: int, r: int) -> None:
        """One picture at column k and row r, and what is written below it."""
        style: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 1}
        below, colour = "", INK
        if part == "image":
            picture = self.picture(kind, i)
            own, here = int(self.arrays["natural.predicted"][i]), int(self.arrays[f"{kind}.predicted"][i])
            below, colour = f"“{self.called(here)}”", INK if here == own else ACCENT[0]
        elif part == "noise":
            delta = self.picture(kind, i) - self.picture("natural", i)
            largest = max(float(np.abs(delta).max()), 1e-9)
            picture, below = 0.5 + 0.5 * delta / largest, "" if kind == "natural" else f"±{largest:.2f}"
        elif part == "moved":
            picture, style = self.arrays[f"{kind}.map"][i] - self.arrays["natural.map"][i], {"cmap": "RdBu_r", "vmin": -1, "vmax": 1}
        else:
            picture, style = self.arrays[f"{kind}.{part}"][i], {"cmap": "magma", "vmin": 0, "vmax": 1}
        box = (k + 0.04, k + 0.92, r + 0.86, r + 0.02)
        pixels = picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0)
        ax.imshow(pixels, interpolation="nearest", extent=box, aspect="auto", **style)
        ax.text(k + 0.48, r + 0.93, below, ha="center", va="center", fontsize=8, color=colour)

    def maps(self, examples: int = 3) -> str | None:
        """Figure 1: images over their maps, and how the maps moved."""
        parts = [("image", ""), ("map", "looks at"), ("moved", "moved")]
        return self.drawn([(p, t, i) for i in range(min(examples, self.count)) for p, t in parts])

    def noise(self, examples: int = 2) -> str | None:
        """Figure 5: images over what the attacks added."""
        return self.drawn([(p, t, i) for i in range(min(examples, self.count)) for p, t in (("image", ""), ("noise", "added"))])

    def gradients(self) -> str | None:
        """Figures 7 and 8: gradient maps beside the learnt one, of the first example."""
        there = [(p, t) for p, t in MAPS.items() if f"natural.{p}" in self.arrays]
        return self.drawn([("image", "", 0), *((p, t, 0) for p, t in there)])
