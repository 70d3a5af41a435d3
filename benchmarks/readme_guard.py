"""README's guard: a sentence, a table and a plot, from the record that `python -m benchmarks.guard_detection` wrote."""

from __future__ import annotations

import io
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from salientry import rates
from salientry.rates import measured, points

from .guard_tables import record
from .pictures import INK, PAPER, STYLE, for_dark_screens

LEVEL = "0.05"
GUARDS = {  # words, colour, marker, filled: also distinguished without colour
    "own": ("own images only", "#0072B2", "o", True),
    "second": ("a second network asked too", "#B34700", "D", False),
}
GROUPS: dict[str, tuple[str, ...]] = {  # rows of the plot: every attack of the record that is not saved as JPEG stands in one
    "many steps": (
        *("BIM 8/255", "MIM 8/255", "PGD 8/255", "PGD 4/255", "PGD 2/255", "PGD 8/255, targeted"),
        *("PGD L2 .5", "BIM 38/255", "APGD 8/255"),
    ),
    "smallest change": (
        *("DeepFool", "C&W", "C&W, confidence 3.0", "C&W, confidence 10.0", "C&W, confidence 20.0"),
        *("DDN", "FMN Linf", "NewtonFool"),
    ),
    "one step": ("FGSM 8/255", "FGSM 51/255", "virtual adversarial"),
    "few pixels, a patch": ("patch", "salt and pepper"),
    "no gradient (Square)": ("Square 8/255",),
    "made on another net": ("transfer",),
}
LENT = "another image's perturbation"  # no change that happens to images, but what tells an attack's aim from its noise
SAVED, NATURAL, HARMLESS = "saved as JPEG", "natural images", "harmlessly changed"


def headline() -> str:
    """README's first numbers: the guard of one's own images alone."""
    body = record()
    own = body["guards"]["own"]
    summary = own["summary"]
    return (
        f"On CIFAR-10 a guard built from {body['fitted on']:,} of one's own images detects {_percent(summary['mean at 5 %'])} of attacked "
        f"images (*detection rate*, mean over {_attacks(own)}; the lowest: {_percent(summary['worst at 5 %'])}). *False alarms*: "
        f"{_percent(own[f'natural at {LEVEL}']['all'][0])} of natural images, at most {_points(_most_extra(own))} more after any of "
        f"{len(own['harmless']) - 1} harmless changes, {_points(_lent(own))} with another image's perturbation."
    )


def table() -> str:
    """What both guards find, in plain numbers."""
    body = record()
    guards = {name: body["guards"][name] for name in GUARDS}
    rows = [
        ("mean detection rate over all of these", [_percent(g["summary"]["mean at 5 %"]) for g in guards.values()]),
        ("lowest detection rate", [_percent(g["summary"]["worst at 5 %"]) for g in guards.values()]),
        (
            "images on which every attack is detected",
            [_percent(g["summary"]["every attack on an image found"][0]) for g in guards.values()],
        ),
        ("false alarms: natural images flagged", [_percent(g[f"natural at {LEVEL}"]["all"][0]) for g in guards.values()]),
        (
            f"more after {len(guards['own']['harmless']) - 1} harmless changes, at most; with another image's perturbation",
            [f"{points(_most_extra(g))}; {_points(_lent(g))}" for g in guards.values()],
        ),
    ]
    heads = ["guard", *(words for words, *_ in GUARDS.values())]
    return "\n".join(rates.table(heads, [[words, *values] for words, values in rows])).rstrip()


def _most_extra(guard: dict[str, Any]) -> float:
    """Flags on the harmless change that adds most, above those on the same images unchanged; another image's perturbation is told apart."""
    return max(float(h["extra"][0]) for name, h in guard["harmless"].items() if name != LENT)


def _lent(guard: dict[str, Any]) -> float:
    return float(guard["harmless"][LENT]["extra"][0])


def _attacks(guard: dict[str, Any]) -> str:
    """``24 attacks, and 6 saved as JPEG of quality 75 and 90``: what a guard's cells are, each attack at each quality."""
    saved = [name.split(", JPEG ") for name in guard["cells"] if ", JPEG " in name]
    attacks, qualities = ({s[i] for s in saved} for i in (0, 1))
    assert len(saved) == len(attacks) * len(qualities)
    return f"{len(guard['cells']) - len(saved)} attacks, and {len(attacks)} saved as JPEG of quality {' and '.join(sorted(qualities))}"


def rows() -> dict[str, dict[str, dict[str, float]]]:
    """The plot's rows: words, then of each guard the share flagged of each kind, by its name in the record."""
    guards = record()["guards"]
    kinds = GROUPS | {SAVED: tuple(c for c in guards["own"]["cells"] if ", JPEG " in c)}
    attacks = {words: {name: {c: guards[name]["cells"][c][LEVEL][0] for c in of} for name in GUARDS} for words, of in kinds.items()}
    natural = {name: {"natural": guards[name][f"natural at {LEVEL}"]["all"][0]} for name in GUARDS}
    harmless = {name: {c: h["flagged"][0] for c, h in guards[name]["harmless"].items()} for name in GUARDS}
    return attacks | {NATURAL: natural, HARMLESS: harmless}


def alt() -> str:
    """The plot in words, for those who do not see it; the table has the numbers."""
    return "What two guards flag, by kind of attack and of natural image"


def plot() -> bytes:
    """Share flagged of each kind of image, by groups of attack, and of natural images: an SVG of 440 pixels' width, so that its words
    can be read on a telephone."""
    found = rows()
    with mpl.rc_context(STYLE | {"font.size": 10.5, "svg.hashsalt": "salientry"}):
        figure = Figure(figsize=(440 / 72 * 0.75, 440 / 72 * 0.75))
        ax = figure.add_axes((0.375, 0.145, 0.56, 0.71))
        places = {words: -i - (0.55 if words in (NATURAL, HARMLESS) else 0) for i, words in enumerate(found)}
        for words, y in places.items():
            for side, (name, (_, colour, marker, filled)) in zip((0.17, -0.17), GUARDS.items(), strict=True):
                values = list(found[words][name].values())
                face: dict[str, Any] = {
                    "mfc": colour if filled else PAPER,
                    "mec": PAPER if filled else colour,
                    "mew": 0.6 if filled else 1.2,
                }
                size = 6.5 if filled else 5
                ax.plot(values, np.full(len(values), y + side), marker, ms=size, zorder=3, clip_on=False, gid=f"{name} {words}", **face)
        ax.axvline(0.05, color="#5b6577", lw=1, ls=(0, (4, 3)))
        ax.axhline(-len(found) + 2.25, color="#9aa3b2", lw=0.8, xmin=-0.63, clip_on=False)
        low = min(places.values()) - 0.55
        ax.set_xlim(-0.015, 1.01)
        ax.set_ylim(low, 0.55)
        ax.set_yticks(list(places.values()), list(places))
        ticks = np.linspace(0, 1, 5)
        ax.set_xticks(ticks, [measured(t) for t in ticks])
        ax.grid(axis="x", color="#e6e9ef", lw=0.8)
        ax.set_axisbelow(True)
        ax.tick_params(length=0)
        ax.set_xlabel("flagged (dashed: 5 %, the false-positive\nrate that was asked for)", labelpad=6, x=0.25)
        for at, words in ((0.75, "attacked: further right is better"), (places[NATURAL], "natural: further left is better")):
            ax.text(1.0, at, words, transform=ax.get_yaxis_transform(), color="#5b6577", va="center", ha="right", fontsize=9)
        for words, colour, marker, filled in GUARDS.values():
            ax.plot([], [], marker, ms=6.5, mfc=colour if filled else PAPER, mec=colour, ls="", label=words)
        figure.legend(loc="upper left", ncols=1, frameon=False, handletextpad=0.2, borderaxespad=0.2, labelcolor=INK)
        out = io.BytesIO()
        figure.savefig(out, format="svg", facecolor=PAPER, metadata={"Date": None, "Creator": None})
    return for_dark_screens(out.getvalue().decode()).encode()


def kinds_without_a_row() -> set[str]:
    """Attacks of the record that stand in no row of the plot, or in a row and not in the record."""
    cells: dict[str, Any] = record()["guards"]["own"]["cells"]
    return {c for c in cells if ", JPEG " not in c} ^ {c for of in GROUPS.values() for c in of}


def _percent(value: float) -> str:
    return measured(value, 1 if value < 0.1 else 0)


def _points(value: float) -> str:
    """A difference of two percentages."""
    return f"{points(value)} points"
