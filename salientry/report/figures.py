"""Pictures of a report, as self-contained data URIs: where the classifier looked, and ROC curves."""

from __future__ import annotations

import base64
import io
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from ..metrics import roc
from ..store import read_arrays, read_json
from .detection import Table
from .records import Records

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


def _uri(figure: Figure, kind: str) -> str:
    out = io.BytesIO()
    figure.savefig(out, format=kind, dpi=150, bbox_inches="tight", facecolor=PAPER, metadata={"Date": None} if kind == "svg" else None)
    mime = "image/svg+xml" if kind == "svg" else "image/png"
    return f"data:{mime};base64,{base64.b64encode(out.getvalue()).decode()}"


def gallery(records: Records) -> str | None:
    """Naturals and their twins, each with its map, and how the map changed; None when there are no pictures."""
    file = records.folder / "gallery.safetensors"
    if not file.exists():
        return None
    arrays, attacks = read_arrays(file), read_json(records.folder / "gallery.json")["attacks"]
    count = len(arrays["label"])
    if not count:
        return None
    columns = [("natural", "image"), ("natural", "map"), *((a, part) for a in attacks for part in ("image", "map", "change"))]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.05 * len(columns), 1.2 * count + 0.3))
        axes = figure.subplots(count, len(columns), squeeze=False)
        for i in range(count):
            for j, (kind, part) in enumerate(columns):
                ax = axes[i, j]
                _show(ax, arrays, kind, part, i)
                if i == 0:
                    ax.set_title(
                        {"image": kind if kind == "natural" else kind.split("-")[0], "map": "looks at", "change": "moved"}[part], fontsize=9
                    )
                if part == "image":
                    own, here = int(arrays["natural.predicted"][i]), int(arrays[f"{kind}.predicted"][i])
                    ax.set_xlabel(f"“{here}”", fontsize=9, color=INK if here == own else ACCENT[0], labelpad=2)
        figure.subplots_adjust(wspace=0.06, hspace=0.28)
        return _uri(figure, "png")


def _show(ax: Any, arrays: dict[str, Any], kind: str, part: str, i: int) -> None:
    if part == "change":
        picture, style = arrays[f"{kind}.map"][i, 0] - arrays["natural.map"][i, 0], {"cmap": "RdBu_r", "vmin": -1, "vmax": 1}
    elif part == "map":
        picture, style = arrays[f"{kind}.map"][i, 0], {"cmap": "magma", "vmin": 0, "vmax": 1}
    else:
        raw = arrays[f"{kind}.image"][i]
        scaled = raw / 255 if raw.dtype == np.uint8 else raw
        picture, style = (scaled[0] if len(scaled) == 1 else scaled.transpose(1, 2, 0)), {"cmap": "gray", "vmin": 0, "vmax": 1}
    ax.imshow(picture, interpolation="nearest", **style)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)


def curves(records: Records, table: Table) -> str | None:
    """ROC curves of the heads and the best floor on the attack that they were trained on; false positives on a logarithmic axis."""
    name = f"{table.protocol}/test/{table.trained_on}"
    if name not in records.sets or not table.rows:
        return None
    s, natural = records.sets[name], records.natural("test")
    shown = [r.group for r in table.rows if r.group.family != "floor" or r.group.title in (table.best_floor, "Margin2")]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 3.6))
        ax = figure.subplots()
        for g, colour in zip(shown, (*ACCENT, *ACCENT), strict=False):
            for k, (a, b) in enumerate(zip(g.scores(natural), g.scores(s), strict=True)):
                fpr, tpr = roc(a, b[s.counts])
                style: Any = {"ls": "--" if g.family == "floor" else "-", "lw": 1.5 if k == 0 else 0.8}
                ax.step(np.maximum(fpr, 0.5 / len(natural)), tpr, where="post", color=colour, label=g.title if k == 0 else None, **style)
        for level in (0.05, 0.01):
            ax.axvline(level, color="#c3c9d4", lw=0.8, zorder=0)
        ax.set(
            xscale="log", xlim=(0.5 / len(natural), 1), ylim=(0, 1.01), xlabel="natural images flagged", ylabel="adversarial images flagged"
        )
        ax.legend(frameon=False, fontsize=8, loc="lower right")
        return _uri(figure, "svg")
