"""The paper's Figure 2 for several data sets: a panel for each detector and data set, a line for each training attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from .figures import INK, STYLE, uri
from .grid import DEFENCES, Grid
from .numbers import Ledger
from .plots import MEASURE
from .records import kind_title


@dataclass(frozen=True)
class Panel:
    """A data set's column of panels.

    Attributes:
        title: of the data set.
        grid: its cells, None where it was not run.
        ledger: their numbers.
        reduced: labels of the attacks at reduced settings.
        why: what stands there where it was not run.
    """

    title: str
    grid: Grid | None
    ledger: Ledger
    reduced: list[str]
    why: str = ""


def panels(columns: list[Panel], protocol: str) -> str:
    """The figure as a data URI. x: tested on; lines: trained on; 95 % intervals; a grey line at chance."""
    high, wide = len(DEFENCES), len(columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.1 * wide + 0.5, 2.3 * high + 0.5))
        axes = figure.subplots(high, wide, squeeze=False)
        for i, defence in enumerate(DEFENCES):
            for k, column in enumerate(columns):
                _panel(axes[i, k], column, protocol, defence)
                axes[i, k].set_title(f"{defence}, {column.title}", fontsize=9, loc="left")
                if k == 0:
                    axes[i, k].set_ylabel(MEASURE[protocol], fontsize=8)
        handles = {name: h for ax in axes.flat for h, name in zip(*ax.get_legend_handles_labels(), strict=True)}
        figure.legend(handles.values(), handles.keys(), loc="upper center", ncol=7, frameon=False, fontsize=8.5)
        figure.subplots_adjust(left=0.055, right=0.995, top=0.93, bottom=0.03, wspace=0.12, hspace=0.42)
        return uri(figure, "svg")


def _panel(ax: Any, column: Panel, protocol: str, defence: str) -> None:
    ax.set_ylim(0.4 if protocol == "published" else -0.02, 1.04)
    ax.axhline(0.5 if protocol == "published" else 0.05, color="#c5ccd8", lw=0.8, zorder=0)
    labels = column.grid.labels if column.grid else []
    if column.grid is None or not labels:
        ax.set_xticks([])
        ax.text(0.5, 0.5, column.why or "no grid in the records", transform=ax.transAxes, ha="center", va="center", fontsize=8, color=INK)
        return
    cells = column.grid.of(protocol, defence)
    palette = mpl.colormaps["tab10"].colors  # type: ignore[attr-defined]
    for j, trained in enumerate(labels):
        found = [
            (x, column.ledger[id]) for x, b in enumerate(labels) if (id := cells[trained, b].id) and column.ledger[id].value is not None
        ]
        values = np.array([n.value or 0.0 for _, n in found])
        ends = [
            [v if e is None else e for v, e in zip(values, side, strict=True)]
            for side in ([n.lo for _, n in found], [n.hi for _, n in found])
        ]
        bars = np.maximum([values - ends[0], ends[1] - values], 0)
        at = [x + 0.09 * (j - (len(labels) - 1) / 2) for x, _ in found]
        style: Any = {"fmt": "-o", "ms": 3, "lw": 0.9, "elinewidth": 0.8, "color": palette[j % 10]}
        ax.errorbar(at, values, bars, label=f"trained on {kind_title(trained)}", **style)
    ax.set_xticks(range(len(labels)), [kind_title(a) + ("*" if a in column.reduced else "") for a in labels], fontsize=7.5)
