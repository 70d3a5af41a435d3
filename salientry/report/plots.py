"""Plots as SVG inside the page: a panel keeps its size whatever the screen, and takes the page's colours, also the dark ones.

Every series has a marker and a kind of line of its own, so that it is told apart without its colour. No attribute ``style`` is written:
the page's content security policy forbids it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from .labels import TOP, WIDE, Named, placed

LEFT, RIGHT = 44, 12
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "down", "plus")
NEAR = 0.03  # a point that stands so near to 0 has its name on the left
DASHES = ("", "6 3", "2 3", "8 3 2 3")  # 7 shapes and 4 kinds of line: 28 pairs, none twice
COLOURS = 7  # classes k0 to k6 of the page's style


@dataclass(frozen=True)
class Series:
    """One line in one panel: x (words or numbers), y, and where there is one its interval. ``thin``: one more run of the same."""

    panel: str
    name: str
    x: Sequence[Any]
    y: Sequence[float]
    lo: Sequence[float] | None = None
    hi: Sequence[float] | None = None
    thin: bool = False


@dataclass(frozen=True)
class Dot:
    """A point of a scatter plot, the words beside it, and the number of its group."""

    name: str
    group: str
    x: float
    y: float


@dataclass(frozen=True)
class Style:
    """How a series is drawn."""

    shape: str
    dash: str
    colour: int


def look(k: int) -> Style:
    """Of the series number ``k``."""
    return Style(SHAPES[k % len(SHAPES)], DASHES[k % len(DASHES)], k % COLOURS)


@dataclass(frozen=True)
class Axes:
    """From values to pixels.

    Attributes:
        x: least and greatest value.
        y: likewise.
        high: of the panel, pixels.
        bottom: below the axis, pixels.
        log: whether x is logarithmic.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    high: int
    bottom: int
    log: bool = False

    def across(self, v: float) -> float:
        """Pixels from the left."""
        lo, hi = (math.log10(e) if self.log else e for e in self.x)
        v = math.log10(max(v, 1e-12)) if self.log else v
        return LEFT + (WIDE - LEFT - RIGHT) * min(max((v - lo) / ((hi - lo) or 1), 0), 1)

    def down(self, v: float) -> float:
        """Pixels from the top."""
        lo, hi = self.y
        return TOP + (self.high - TOP - self.bottom) * (1 - min(max((v - lo) / (hi - lo), 0), 1))


def ticks(lo: float, hi: float, most: int = 6) -> list[float]:
    """Round values between two ends, at most so many."""
    rough = (hi - lo) / most
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= rough - 1e-12)
    first = math.ceil(lo / step - 1e-9)
    return [round(k * step, 10) for k in range(first, math.floor(hi / step + 1e-9) + 1)]


def facets(
    series: Sequence[Series],
    *,
    y: tuple[str, float, float] = ("", 0.0, 1.04),
    x: str = "",
    steps: bool = False,
    log: bool = False,
    lines: Sequence[float] = (),
    upright: Sequence[float] = (),
    high: int = 220,
) -> Markup | None:
    """A panel for each of the series' panels, a look for each of their names; None where there is nothing to draw.

    Args:
        series: what is drawn.
        y: label and range.
        x: label.
        steps: draw steps, else lines, with error bars where there are intervals.
        log: whether x is logarithmic.
        lines: faint lines at these heights.
        upright: at these places of x.
        high: of a panel, pixels.
    """
    panels, names = list(dict.fromkeys(s.panel for s in series)), list(dict.fromkeys(s.name for s in series))
    if not panels:
        return None
    looks = {n: look(k) for k, n in enumerate(names)}
    drawn = [_panel(p, [s for s in series if s.panel == p], looks, y, x, steps, log, (lines, upright), high) for p in panels]
    items = Markup("").join(Markup("<li>{}{}</li>").format(_swatch(looks[n]), n) for n in names)
    return Markup('<div class="plots"><ul class="key">{}</ul><div class="panels">{}</div></div>').format(items, Markup("").join(drawn))


def scatter(panels: Sequence[tuple[str, Sequence[Dot]]], x: str, y: str, high: int = 330, *, order: Sequence[str] = ()) -> Markup | None:
    """A panel for each title and its points, a name beside each point, a look for each group; both axes are shares. None without points.

    ``order``: of the groups that may be there, so that each has its look whichever others are.
    """
    panels = [(title, points) for title, points in panels if points]
    if not panels:
        return None
    there = dict.fromkeys(p.group for _, points in panels for p in points)
    groups = {g: look(k) for k, g in enumerate(dict.fromkeys((*order, *there))) if g in there}
    drawn = Markup("").join(_cloud(title, points, groups, x, y, high) for title, points in panels)
    items = Markup("").join(Markup("<li>{}{}</li>").format(_swatch(v, line=False), g) for g, v in groups.items())
    return Markup('<div class="plots"><ul class="key">{}</ul><div class="panels">{}</div></div>').format(items, drawn)


def _cloud(title: str, points: Sequence[Dot], groups: Mapping[str, Style], x: str, y: str, high: int) -> Markup:
    most = max(0.3, *(p.x + 0.02 for p in points))
    axes = Axes((min(-0.5 * most, *(p.x for p in points)), most), (0.0, 1.02), high, 44)  # room for the names of those that stand near 0
    body = _frame(axes, ticks(0, most, 5), x, y, title)
    body += _line(axes.across(0), TOP, axes.across(0), high - axes.bottom, "faint") + _labels(points, axes)
    for p in points:
        how = groups[p.group]
        body += Markup('<g class="k{}">{}</g>').format(how.colour, _marker(how.shape, axes.across(p.x), axes.down(p.y), 5))
    words = "; ".join(f"{p.name} {p.y:.2f} at {p.x:.2f}" for p in points)
    return _svg(body, high, " ".join(filter(None, (f"{title}:" if title else "", f"{y} against {x}: {words}"))))


def _svg(body: Markup, high: int, words: str) -> Markup:
    return Markup('<svg class="plot" viewBox="0 0 {0} {1}" width="{0}" height="{1}" role="img" aria-label="{2}">{3}</svg>').format(
        WIDE, high, words, body
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>').format(x1, y1, x2, y2, kind)


def _text(x: float, y: float, words: str, anchor: str = "start", kind: str = "") -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}"{}>{}</text>').format(
        x, y, anchor, Markup(' class="{}"').format(kind) if kind else "", words
    )


def _said(v: float) -> str:
    """A tick's value."""
    return f"{v:g}".replace("-", "−").replace("0.", ".", 1) if abs(v) < 1 and v else f"{v:g}".replace("-", "−")


def _frame(axes: Axes, at: Sequence[float], x: str, y: str, title: str, words: Sequence[str] = ()) -> Markup:
    """Axes, ticks, labels; ``words`` at 0, 1, 2 ... in place of numbers, in two rows where they are many."""
    floor = axes.high - axes.bottom
    out = _text(LEFT - 38, 14, title, kind="title") if title else Markup("")
    for v in ticks(*axes.y):
        out += _line(LEFT, axes.down(v), WIDE - RIGHT, axes.down(v), "faint") + _text(LEFT - 6, axes.down(v) + 4, _said(v), "end")
    out += _line(LEFT, floor, WIDE - RIGHT, floor, "axis")
    for k, v in enumerate(range(len(words)) if words else at):
        lower = 13 if words and len(words) > 4 and k % 2 else 0
        out += _line(axes.across(v), floor, axes.across(v), floor + 4, "axis")
        out += _text(axes.across(v), floor + 16 + lower, words[k] if words else _said(v), "middle")
    if x:
        out += _text(WIDE - RIGHT, axes.high - 6, x, "end", "label")
    return out + (_text(WIDE - RIGHT, 14, y, "end", "label") if y else Markup(""))


def _panel(
    title: str,
    series: Sequence[Series],
    looks: dict[str, Style],
    y: tuple[str, float, float],
    x: str,
    steps: bool,
    log: bool,
    faint: tuple[Sequence[float], Sequence[float]],
    high: int,
) -> Markup:
    words = list(dict.fromkeys(v for s in series for v in s.x)) if any(isinstance(v, str) for s in series for v in s.x) else []
    if words:
        ends, at = (-0.4, len(words) - 0.6), list[float]()
    else:
        values = [float(v) for s in series for v in s.x]
        ends = min(values), max(values)
        at = [10.0**e for e in range(math.ceil(math.log10(ends[0]) - 1e-9), math.floor(math.log10(ends[1]) + 1e-9) + 1)] if log else []
        at = at if len(at) > 1 else [v for v in ticks(*ends) if ends[0] <= v <= ends[1]]
    axes = Axes(ends, y[1:], high, 36 + (13 if len(words) > 4 and x else 0 if x or len(words) > 4 else -8), log)
    body = _frame(axes, at, x, y[0], title, words)
    for v in faint[0]:
        body += _line(LEFT, axes.down(v), WIDE - RIGHT, axes.down(v), "chance")
    for v in faint[1]:
        body += _line(axes.across(v), TOP, axes.across(v), high - axes.bottom, "chance")
    for s in series:
        body += _drawn(s, axes, looks[s.name], steps, words)
    return _svg(body, high, f"{title}: {y[0]}" + (f" against {x}" if x else ""))


def _drawn(s: Series, axes: Axes, how: Style, steps: bool, words: Sequence[Any]) -> Markup:
    """A line with its markers; of a long one only some have a marker."""
    at = [axes.across(words.index(v) if words else float(v)) for v in s.x]
    down = [axes.down(v) for v in s.y]
    kept = _few(at, down) if steps else list(range(len(at)))
    places = [f"{'M' if not k else 'L'}{at[i]:.1f} {down[i]:.1f}" for k, i in enumerate(kept)]
    if steps:
        places = places[:1] + [f"H{at[i]:.1f}V{down[i]:.1f}" for i in kept[1:]]
    dash = Markup(' stroke-dasharray="{}"').format(how.dash) if how.dash else Markup("")
    out = Markup('<path d="{}" class="{}"{}/>').format("".join(places), "thin" if s.thin else "line", dash)
    if s.lo is not None and s.hi is not None:
        for px, lo, hi in zip(at, s.lo, s.hi, strict=True):
            if math.isfinite(lo) and math.isfinite(hi):
                out += _line(px, axes.down(lo), px, axes.down(hi), "thin")
    if not s.thin:
        for i in kept if len(kept) <= 12 else kept[len(kept) // 12 :: len(kept) // 6]:
            out += _marker(how.shape, at[i], down[i], 3.5)
    return Markup('<g class="k{}">{}</g>').format(how.colour, out)


def _few(at: Sequence[float], down: Sequence[float]) -> list[int]:
    """Of a staircase the places that are a pixel or more from the one before: nobody sees the others."""
    kept = [0] if at else []
    for i in range(1, len(at)):
        if i == len(at) - 1 or abs(at[i] - at[kept[-1]]) + abs(down[i] - down[kept[-1]]) >= 1.5:
            kept.append(i)
    return kept


def _marker(shape: str, x: float, y: float, r: float) -> Markup:
    if shape == "circle":
        return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{}" class="dot"/>').format(x, y, r)
    if shape == "square":
        return Markup('<rect x="{:.1f}" y="{:.1f}" width="{w}" height="{w}" class="dot"/>').format(x - r, y - r, w=2 * r)
    if shape in ("cross", "plus"):
        d = r if shape == "cross" else 0.0
        ends = ((-r, -d, r, d), (-d, r, d, -r)) if shape == "cross" else ((-r - 1, 0, r + 1, 0), (0, -r - 1, 0, r + 1))
        return Markup("").join(_line(x + a, y + b, x + c, y + e, "stroke") for a, b, c, e in ends)
    corners = {
        "triangle": ((0, -1.25), (1.15, 0.9), (-1.15, 0.9)),
        "down": ((0, 1.25), (1.15, -0.9), (-1.15, -0.9)),
        "diamond": ((0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)),
    }[shape]
    return Markup('<polygon points="{}" class="dot"/>').format(" ".join(f"{x + r * a:.1f},{y + r * b:.1f}" for a, b in corners))


def _swatch(how: Style, line: bool = True) -> Markup:
    """What stands in the legend."""
    dash = Markup(' stroke-dasharray="{}"').format(how.dash) if how.dash else Markup("")
    body = Markup('<path d="M0 7H34" class="line"{}/>').format(dash) if line else Markup("")
    wide = 34 if line else 16
    return Markup('<svg class="k{}" viewBox="0 0 {w} 14" width="{w}" height="14" aria-hidden="true">{}{}</svg>').format(
        how.colour, body, _marker(how.shape, wide / 2, 7, 4), w=wide
    )


def _labels(points: Sequence[Dot], axes: Axes) -> Markup:
    """The names, where :mod:`labels` finds room for them."""
    out = Markup("")
    for p, at in placed([Named(p.name, axes.across(p.x), axes.down(p.y), p.x < NEAR) for p in points], axes.high - axes.bottom - 2):
        if at.leader:
            out += _line(*at.leader, "leader")
        left = at.box[2] < p.x
        out += _text(at.box[2] - 2 if left else at.x, at.y + 4, p.name, "end" if left else "start")
    return out
