"""Plots of a report, as self-contained data URIs: the paper's bars, heat maps of the grids, ROC and learning curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from ..metrics import roc
from .detection import Table
from .figures import ACCENT, INK, STYLE, uri
from .grid import DEFENCES, Grid
from .numbers import Ledger
from .records import Records, attack_title
from .sweep import Curve, predicted

COLOURS = dict(zip(DEFENCES, (ACCENT[0], ACCENT[1], ACCENT[2], ACCENT[3]), strict=True))
MEASURE = {"published": "accuracy", "strict": "found at 5 % FPR"}


def bars(ledger: Ledger, grid: Grid, protocol: str) -> str | None:
    """Figure 2: a panel for each training attack, a bar for each defence and test attack, 95 % intervals."""
    labels = grid.labels
    if not any(c.id for c in grid.cells if c.protocol == protocol):
        return None
    columns = min(3, len(labels))
    rows = -(-len(labels) // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.0 * columns, 2.15 * rows + 0.4))
        axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for panel, trained in enumerate(labels):
            ax = axes[panel // columns, panel % columns]
            for j, defence in enumerate(DEFENCES):
                cells = grid.of(protocol, defence)
                _bar(ax, ledger, [cells[trained, tested].id for tested in labels], j, COLOURS[defence], defence)
            ax.set_title(f"trained on {attack_title(trained)}", fontsize=9, loc="left")
            ax.set_xticks(range(len(labels)), [attack_title(a) for a in labels], fontsize=7.5)
            ax.set_ylim(0.4 if protocol == "published" else 0, 1.04)
            ax.axhline(0.5 if protocol == "published" else 0.05, color="#c5ccd8", lw=0.8, zorder=0)
            if panel % columns == 0:
                ax.set_ylabel(MEASURE[protocol], fontsize=8)
        for ax in axes.flat[len(labels) :]:
            ax.set_visible(False)
        handles, names = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="upper center", ncol=4, frameon=False, fontsize=8.5)
        figure.subplots_adjust(left=0.05, right=0.995, top=0.88, bottom=0.07, wspace=0.05, hspace=0.42)
        return uri(figure, "svg")


def _bar(ax: Any, ledger: Ledger, ids: list[str | None], j: int, colour: str, name: str) -> None:
    found = [(k, ledger[i]) for k, i in enumerate(ids) if i is not None and ledger[i].value is not None]
    at = [k + (j - 1.5) * 0.2 for k, _ in found]
    values = [n.value or 0.0 for _, n in found]
    ends = [[v - (n.lo if n.lo is not None else v) for v, (_, n) in zip(values, found, strict=True)]]
    ends += [[(n.hi if n.hi is not None else v) - v for v, (_, n) in zip(values, found, strict=True)]]
    ax.bar(at, values, 0.19, color=colour, label=name, yerr=np.maximum(ends, 0), error_kw={"lw": 0.8, "ecolor": INK})


@dataclass(frozen=True)
class Heat:
    """One detector's grid: a row for each training attack (and for all of them), a column for each test attack; ids of numbers."""

    title: str
    trained: list[str]
    ids: list[list[str | None]]


def heat(tables: list[Table], protocol: str, labels: list[str]) -> list[Heat]:
    """The grids of all detectors of a protocol."""
    mine = {t.trained_on: t for t in tables if t.protocol == protocol and t.rows}
    trained = [a for a in (*labels, "combined") if a in mine]
    titles = dict.fromkeys(r.group.title for a in trained for r in mine[a].rows if r.group.family != "fusion")
    return [Heat(t, trained, [[_cell(mine[a], t, b) for b in labels] for a in trained]) for t in titles]


def _cell(table: Table, title: str, tested: str) -> str | None:
    row = next((r for r in table.rows if r.group.title == title), None)
    cell = next((c for c in row.cells if c.attack == tested), None) if row else None
    if cell is None or cell.auroc is None:
        return None
    return cell.accuracy or cell.tpr[table.levels[0]]


def shade(value: float, protocol: str) -> str:
    """Background and ink of a heat map's cell, from white (chance) to dark blue (1)."""
    low = 0.5 if protocol == "published" else 0.0
    x = min(max((value - low) / (1 - low), 0.0), 1.0)
    r, g, b = (round(255 + x * (end - 255)) for end in (30, 74, 122))
    return f"background: rgb({r},{g},{b}); color: {'#fff' if x > 0.55 else INK}"


def curves(records: Records, table: Table) -> str | None:
    """ROC curves of the heads and the best floor on the attack that they were trained on; false positives on a logarithmic axis."""
    if not table.rows:
        return None
    s, natural = records.twins(table.rows[0].group, "test"), records.natural("test")
    if s is None:
        return None
    shown = [r.group for r in table.rows if r.group.family != "floor" or r.group.title in (table.best_floor, "Margin2")]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 3.6))
        ax = figure.add_axes((0.12, 0.13, 0.85, 0.84))
        palette = mpl.colormaps["tab10"].colors  # type: ignore[attr-defined]
        for g, colour in zip(shown, (*palette, *palette), strict=False):
            for k, (a, b) in enumerate(zip(g.scores(natural), g.scores(s), strict=True)):
                fpr, tpr = roc(a, b[s.counts])
                style: Any = {"ls": "--" if g.family == "floor" else "-", "lw": 1.5 if k == 0 else 0.8}
                ax.step(np.maximum(fpr, 0.5 / len(natural)), tpr, where="post", color=colour, label=g.title if k == 0 else None, **style)
        for level in (0.05, 0.01):
            ax.axvline(level, color="#c5ccd8", lw=0.8, zorder=0)
        ax.set_xscale("log")
        ax.set_xlim(0.5 / len(natural), 1)
        ax.set_ylim(0, 1.02)
        ax.set_xlabel("false positives")
        ax.set_ylabel("found")
        ax.legend(frameon=False, fontsize=7.5, loc="lower right")
        return uri(figure, "svg")


def sweep(ledger: Ledger, curves: list[Curve]) -> str:
    """Accuracy of each defence against FGSM's budget, and the fitted curves."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.6))
        ax = figure.add_axes((0.1, 0.14, 0.88, 0.83))
        for c in curves:
            numbers = [ledger[i] for i in c.diagonal.values()]
            budgets, values = np.array(list(c.diagonal)), np.array([n.value or 0.0 for n in numbers])
            ends = np.array([[n.lo or 0.0, n.hi or 0.0] for n in numbers]).T
            colour = COLOURS.get(c.detector, INK)
            ax.errorbar(
                budgets, values, np.maximum([values - ends[0], ends[1] - values], 0), fmt="o", ms=4, lw=1, color=colour, label=c.detector
            )
            line = np.geomspace(budgets.min() / 1.5, budgets.max() * 1.5, 200)
            ax.plot(line, predicted(line, ledger.value(c.half), c.slope), color=colour, lw=1)
        ax.axhline(0.5, color="#c5ccd8", lw=0.8, zorder=0)
        ax.set_xscale("log")
        ax.set_ylim(0.35, 1.03)
        ax.set_xlabel("ε of FGSM (L∞, images in [0, 1])")
        ax.set_ylabel("accuracy")
        ax.legend(frameon=False, fontsize=8, loc="upper left")
        return uri(figure, "svg")


def learning(records: Records, protocol: str) -> str | None:
    """Loss by epoch of every CNN head, seed by seed."""
    groups = [g for g in records.of(protocol) if g.runs[0].curve and g.family in ("saliency", "image")]
    titles = list(dict.fromkeys(g.title for g in groups))
    if not titles:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.4 * min(len(titles), 4), 1.9 * -(-len(titles) // 4)))
        axes = figure.subplots(-(-len(titles) // 4), min(len(titles), 4), squeeze=False, sharey=True)
        palette = mpl.colormaps["tab10"].colors  # type: ignore[attr-defined]
        names = list(dict.fromkeys(g.trained_on for g in groups))
        for ax, title in zip(axes.flat, titles, strict=False):
            for g in (g for g in groups if g.title == title):
                for run in g.runs:
                    curve = run.curve or []
                    colour, name = palette[names.index(g.trained_on) % 10], attack_title(g.trained_on)
                    ax.plot(range(1, len(curve) + 1), curve, color=colour, lw=1, label=name if run is g.runs[0] else None)
            ax.axhline(np.log(2), color="#c5ccd8", lw=0.8, zorder=0)
            ax.set_title(title, fontsize=9)
            ax.set_ylim(0, 0.8)
        for ax in axes.flat[len(titles) :]:
            ax.set_visible(False)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.subplots_adjust(left=0.05, right=0.99, top=0.84, bottom=0.08, hspace=0.45, wspace=0.08)
        figure.legend(handles, labels, loc="upper center", ncol=len(labels), frameon=False, fontsize=7.5)
        return uri(figure, "svg")
