"""The paper's "threshold behaviour": the bold cells of Table 2, and whether what is found goes with the size of the perturbation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..metrics import Floats, Interval, permutation_p, rate_draws, spearman
from .cells import FOUND, Cells, Drawn, side
from .grid import DEFENCES
from .numbers import Ledger
from .records import ImageSet, Records, attack_title

BOLD = (0.025, 0.5)  # L2 and Linf of Table 2's caption, both at least; the text has .027 and .50, either of them
FEWEST_POINTS, MOST_POINTS = 3, 8
DECIMALS = 6  # of a size before it is ranked: BIM's and MIM's Linf are equal but for float32
SIZES = ("L2", "L∞")
DIAGONAL = "diagonal"


@dataclass(frozen=True)
class Size:
    """Mean size of an attack's perturbations, float32."""

    l2: float
    linf: float

    @property
    def bold(self) -> bool:
        """Whether Table 2's caption prints it bold."""
        return self.l2 >= BOLD[0] and self.linf >= BOLD[1]


@dataclass(frozen=True)
class Bold:
    """Whether a defence, trained on each attack, finds exactly those that are bold.

    Attributes:
        defence: ID or JSD.
        form: of its training.
        bold: the attacks that are.
        found: label to the id of its accuracy, and ``above``, ``below`` or ``open``: where its interval lies.
        extra: found, not bold.
        lacking: bold, not found.
        open: undecided.
        untrained: not bold, not found, and it did not train.
    """

    defence: str
    form: str
    bold: list[str]
    found: dict[str, tuple[str, str]]
    extra: list[str]
    lacking: list[str]
    open: list[str]
    untrained: list[str]

    @property
    def word(self) -> str:
        """Whether it finds exactly the bold ones."""
        if self.extra or self.lacking:
            return "no"
        if not self.bold:
            return "none is bold"
        return "undecided" if self.open else "yes, but for want of training" if self.untrained else "yes"


@dataclass(frozen=True)
class Correlation:
    """Rank correlation of accuracy and size over some attacks: ids by size, with the exact p; None where there is none.

    Attributes:
        defence: one of four.
        over: ``diagonal``: each attack by the detector trained on it; else the training attack, and the points are the others.
        points: attacks.
        smallest: the smallest p that so many points can give.
        rho: id by size.
        p: likewise.
        why: there is none.
    """

    defence: str
    over: str
    points: int
    smallest: float
    rho: dict[str, str]
    p: dict[str, str]
    why: str = ""


def sizes_of(records: Records, named: dict[str, str]) -> dict[str, Size]:
    """Sizes of the paper's attacks, by label, as the published protocol has them."""
    found = {str(s.facts["attack"]): s.columns for s in records.attacked("published")}
    return {a: Size(*(float(np.mean(found[a][c], dtype=np.float64)) for c in ("rms", "linf"))) for a in named if a in found}


def bold(cells: Cells, ledger: Ledger, sizes: dict[str, Size]) -> list[Bold]:
    """ID and JSD, published, paired and replica."""
    out = []
    for defence in ("ID", "JSD"):
        for form in ("paired", "replica"):
            drawn = {a: cells.cell("published", form, defence, a, a) for a in sizes}
            found = {a: (d.id, side(ledger[d.id], FOUND["published"])) for a, d in drawn.items() if isinstance(d, Drawn)}
            if not found:
                continue
            extra = [a for a, (_, where) in found.items() if where == "above" and not sizes[a].bold]
            lacking = [a for a, (_, where) in found.items() if where == "below" and sizes[a].bold]
            unsure = [a for a, (_, where) in found.items() if where in ("open", "none")]
            missed = [a for a, (_, where) in found.items() if where == "below" and not sizes[a].bold]
            untrained = [a for a in missed if cells.collapsed("published", form, defence, a)]
            out.append(Bold(defence, form, [a for a in found if sizes[a].bold], found, extra, lacking, unsure, untrained))
    return out


def correlations(records: Records, cells: Cells, ledger: Ledger, named: dict[str, str]) -> list[Correlation]:
    """All four defences (published, paired): the diagonal, then each training attack's other attacks."""
    labels = [a for a in records.labels if a in named]
    lines = [(d, over) for d in DEFENCES for over in (DIAGONAL, *labels)]
    return [_correlation(records, cells, ledger, labels, d, over) for d, over in lines]


def _correlation(records: Records, cells: Cells, ledger: Ledger, labels: list[str], defence: str, over: str) -> Correlation:
    """One line. The interval resamples images, given these attacks; p counts the orders of the attacks."""
    at = [(a, a) for a in labels] if over == DIAGONAL else [(over, b) for b in labels if b != over]
    if not FEWEST_POINTS <= len(at) <= MOST_POINTS:
        return Correlation(defence, over, len(at), 1.0, {}, {}, f"{len(at)} attacks; {FEWEST_POINTS} to {MOST_POINTS} are needed")
    drawn = []
    for trained, tested in at:
        found = cells.cell("published", "paired", defence, trained, tested)
        if isinstance(found, str):
            return Correlation(defence, over, len(at), 1.0, {}, {}, f"trained on {attack_title(trained)}: {found}")
        drawn.append(found)
    sets = [records.sets[f"published/test/{b}"] for _, b in at]
    rho, p = {}, {}
    keys = sorted({k for d in drawn for k in d.keys})
    for column, name in zip(("rms", "linf"), SIZES, strict=True):
        value, chance = _ranked(drawn, [_sizes(records, s, column) for s in sets])
        head = f"paper/correlation/{defence}/{over}/{column}"
        rho[name] = ledger.add(f"{head}/spearman", value, "published", keys)
        p[name] = ledger.add(f"{head}/p-exact", chance, "published", keys, len(at))
    orders = np.arange(float(len(at)))
    return Correlation(defence, over, len(at), permutation_p(orders, orders), rho, p)


def _sizes(records: Records, s: ImageSet, column: str) -> tuple[float, Floats]:
    """Mean size, and in each resample."""
    values = s.columns[column].astype(np.float64)
    return float(values.mean()), rate_draws(values, records.resamples.of(s.ids))


def _ranked(drawn: list[Drawn], sizes: list[tuple[float, Floats]]) -> tuple[Interval, float]:
    """Spearman's correlation of the seeds' mean accuracies, its interval over images (widened to hold the value), and the exact p."""
    accuracy = np.round([np.mean(d.runs) for d in drawn], DECIMALS)
    size = np.round([v for v, _ in sizes], DECIMALS)
    value = float(spearman(accuracy, size))
    draws = spearman(np.round(np.stack([d.draws for d in drawn], -1), DECIMALS), np.round(np.stack([d for _, d in sizes], -1), DECIMALS))
    draws = draws[np.isfinite(draws)]
    seeds = {len(d.runs) for d in drawn}
    runs = [float(spearman(np.round([d.runs[k] for d in drawn], DECIMALS), size)) for k in range(seeds.pop())] if len(seeds) == 1 else []
    n, nan = min(d.n for d in drawn), float("nan")
    if not np.isfinite(value) or not len(draws):
        return Interval(nan, nan, nan, n, tuple(runs)), nan
    lo, hi = np.quantile(draws, (0.025, 0.975))
    return Interval(value, min(float(lo), value), max(float(hi), value), n, tuple(runs)), permutation_p(accuracy, size)
