"""Figures: one function draws every plot; and a gallery of pictures. Each is a self-contained data URI, the same bytes each time."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from ..results.names import attack_title
from ..results.paper_numbers import column_of
from ..results.scores import Scores
from ..store import read_arrays, read_json
from .page import Block

INK, PAPER, FAINT = "#1d2430", "#ffffff", "#c5ccd8"
COLOURS = {"SPD": "#b4432f", "SMD": "#d98a2b", "ID": "#2f6fb4", "JSD": "#7a5aa6"}
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


def uri(figure: Figure, kind: str) -> str:
    """A figure as a data URI, ``svg`` or ``png``."""
    out = io.BytesIO()
    figure.savefig(out, format=kind, dpi=130, facecolor=PAPER, metadata={"Date": None} if kind == "svg" else None)
    mime = "image/svg+xml" if kind == "svg" else "image/png"
    return f"data:{mime};base64,{base64.b64encode(out.getvalue()).decode()}"


@dataclass(frozen=True)
class Series:
    """One line, row of bars or cloud of points in one panel: x (words or numbers), y, and where there is one its interval."""

    panel: str
    name: str
    x: Sequence[Any]
    y: Sequence[float]
    lo: Sequence[float] | None = None
    hi: Sequence[float] | None = None
    dashed: bool = False
    thin: bool = False


def facets(
    series: Sequence[Series],
    *,
    columns: int = 3,
    size: tuple[float, float] = (4.2, 2.3),
    y: tuple[str, float, float] = ("", 0.0, 1.04),
    x: str = "",
    steps: bool = False,
    log: bool = False,
    lines: Sequence[float] = (),
    upright: Sequence[float] = (),
    colours: Mapping[str, str] | None = None,
) -> str | None:
    """A panel for each of the series' panels, a colour for each of their names; None where there is nothing to draw.

    Args:
        series: what is drawn.
        columns: panels beside one another.
        size: of a panel, inches.
        y: label and range.
        x: label.
        steps: draw steps, else lines, with error bars where there are intervals.
        log: whether x is logarithmic.
        lines: faint lines at these heights.
        upright: at these places of x.
        colours: by name; the others follow a palette.
    """
    panels, names = list(dict.fromkeys(s.panel for s in series)), list(dict.fromkeys(s.name for s in series))
    if not panels:
        return None
    palette = [c for c in mpl.colormaps["tab10"].colors]  # type: ignore[attr-defined]
    colour = {n: palette[k % 10] for k, n in enumerate(names)} | dict(colours or {})
    wide, high = min(columns, len(panels)), -(-len(panels) // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(size[0] * wide + 0.4, size[1] * high + 0.5), layout="constrained")
        axes = figure.subplots(high, wide, squeeze=False, sharey=True)
        for k, (ax, panel) in enumerate(zip(axes.flat, panels, strict=False)):
            mine = [s for s in series if s.panel == panel]
            words = list(dict.fromkeys(v for s in mine for v in s.x)) if any(isinstance(v, str) for s in mine for v in s.x) else []
            for s in mine:
                _draw(ax, s, steps, colour[s.name], words)
            for at in lines:
                ax.axhline(at, color=FAINT, lw=0.8, zorder=0)
            for at in upright:
                ax.axvline(at, color=FAINT, lw=0.8, zorder=0)
            ax.set_title(panel, fontsize=9, loc="left")
            ax.set_ylim(*y[1:])
            if words:
                ax.set_xticks(range(len(words)), words, fontsize=7.5)
            if log:
                ax.set_xscale("log")
            ax.set_xlabel(x)
            if k % wide == 0:
                ax.set_ylabel(y[0], fontsize=8)
        for ax in axes.flat[len(panels) :]:
            ax.set_visible(False)
        handles = {n: h for ax in axes.flat for h, n in zip(*ax.get_legend_handles_labels(), strict=True)}
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncol=min(7, len(handles)), frameon=False, fontsize=8)
        return uri(figure, "svg")


def _draw(ax: Any, s: Series, steps: bool, colour: Any, words: list[Any]) -> None:
    at, values = np.array([words.index(v) for v in s.x] if words else s.x, float), np.array(s.y, float)
    style: Any = {"color": colour, "label": s.name, "ls": "--" if s.dashed else "-", "lw": 0.8 if s.thin else 1.3}
    if steps:
        ax.step(at, values, where="post", **style)
    elif s.lo is None or s.hi is None:
        ax.plot(at, values, **style)
    else:
        ends = np.nan_to_num(np.maximum([values - s.lo, s.hi - values], 0))
        ax.errorbar(at, values, ends, marker="o", ms=3.5, elinewidth=0.8, **style)


class Gallery:
    """The pictures beside the records of a run.

    Attributes:
        arrays: by name, ``natural.image``, ``<attack>.map`` ...
        kinds: ``natural`` and the attacks, in order.
        count: how many examples there are.
    """

    def __init__(self, s: Scores) -> None:
        file = s.folder / "gallery.safetensors"
        self.arrays: dict[str, Any] = read_arrays(file) if file.exists() else {}
        self.kinds = ["natural", *(read_json(s.folder / "gallery.json")["attacks"] if self.arrays else [])]
        self.count, self.called = len(self.arrays.get("label", [])), s.class_name

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
            below, colour = f"“{self.called(here)}”", INK if here == own else COLOURS["SPD"]
        elif part == "noise":
            delta = self.picture(kind, i) - self.picture("natural", i)
            largest = max(float(np.abs(delta).max()), 1e-9)
            picture, below = 0.5 + 0.5 * delta / largest, "" if kind == "natural" else f"±{largest:.2f}"
        elif part == "moved":
            picture, style = self.arrays[f"{kind}.map"][i] - self.arrays["natural.map"][i], {"cmap": "RdBu_r", "vmin": -1, "vmax": 1}
        else:
            picture, style = self.arrays[f"{kind}.{part}"][i], {"cmap": "magma", "vmin": 0, "vmax": 1}
        pixels = picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0)
        ax.imshow(pixels, interpolation="nearest", extent=(k + 0.04, k + 0.92, r + 0.86, r + 0.02), aspect="auto", **style)
        ax.text(k + 0.48, r + 0.93, below, ha="center", va="center", fontsize=8, color=colour)

    def maps(self, examples: int = 3) -> str | None:
        """Images over their maps, and how the maps moved."""
        parts = [("image", ""), ("map", "looks at"), ("moved", "moved")]
        return self.drawn([(p, t, i) for i in range(min(examples, self.count)) for p, t in parts])

    def noise(self, examples: int = 2) -> str | None:
        """Images over what the attacks added."""
        return self.drawn([(p, t, i) for i in range(min(examples, self.count)) for p, t in (("image", ""), ("noise", "added"))])

    def gradients(self) -> str | None:
        """Gradient maps beside the learnt one, of the first example."""
        return self.drawn([("image", "", 0), *((p, t, 0) for p, t in DRAWN.items() if f"natural.{p}" in self.arrays)])


DRAWN = {
    "map": "learnt map",
    "Gradient": "gradient",
    "GradientInput": "gradient x input",
    "GuidedBackprop": "guided",
    "Gradient-of=prob": "of probability",
}
PICTURES = {  # what is drawn: words for who cannot see it, and one sentence
    "maps": (
        "natural and attacked images, the saliency map of the predicted class below each, and the change of the map",
        "The first test images on which every attack counts (8 bits; nothing picked by hand), below each what the classifier calls it, red "
        "where it was fooled. Looks at: the learnt map of that class, dark 0, bright 1. Moved: map after the attack minus before.",
    ),
    "noise": ("what each attack added", "What each attack added, scaled by its own largest change, written below."),
    "gradients": (
        "gradient maps beside the learnt map",
        "Maps of the first example; a gradient map is the largest magnitude over the channels over one constant of all natural validation "
        "images, never over its own maximum.",
    ),
}
CALLED = {"MNIST": ("Figure 1", "Figure 5", "Figure 7"), "ASSIRA": ("Figure 6", "Like Figure 5", "Figure 8")}
LIKE = ("Like Figure 1", "Like Figure 5", "Like Figures 7 and 8")


def figure(title: str, picture: str | None, alt: str, says: str, fold: bool = False) -> Block | None:
    """A picture; None where there is none."""
    return None if picture is None else Block(title, Markup('<figure><img src="{}" alt="{}"></figure>').format(picture, alt), says, fold)


def pictures(s: Scores) -> list[Block | None]:
    """The pictures of a run under the names that the paper has for its data set, or why there are none."""
    gallery, names = Gallery(s), CALLED.get(column_of(s.dataset) or "", LIKE)
    if not gallery.count:
        why = "no gallery lies beside the records: recorded runs keep none, and none is drawn where no image counts under every attack"
        if not s.body["gates"]:
            why = "this run has no saliency model"
        elif any(g["failed"] for g in s.body["gates"]):
            why = "the saliency model failed its check"
        return [Block("", Markup('<p class="note">No pictures: {}.</p>').format(why))]
    return [figure(name, getattr(gallery, kind)(), *PICTURES[kind]) for name, kind in zip(names, PICTURES, strict=True)]
