"""Records to all numbers, in one place: the report prints it and ``--verify`` does it again."""

from __future__ import annotations

from dataclasses import dataclass

from . import accuracy, detection, fusion, grid, headline, ladder, maps, paper, shift, spoiled, swap, sweep
from .numbers import Ledger
from .records import Records


@dataclass(frozen=True)
class Computed:
    """Every number and the tables that name them."""

    ledger: Ledger
    natural: str
    attacks: list[accuracy.Row]
    maps: list[maps.Row]
    tables: list[detection.Table]
    grid: grid.Grid
    fusion: fusion.Fusion | None
    spoiled: list[spoiled.Row]
    shifts: list[shift.Table]
    vanishing: list[shift.Vanishing]
    paper: paper.Paper
    headline: headline.Headline | None
    ladders: list[ladder.Ladder]
    sweep: list[sweep.Curve]
    swaps: list[swap.Row]


def computed(records: Records) -> Computed:
    """All numbers of the records."""
    ledger = Ledger()
    tables = detection.tables(records, ledger)
    return Computed(
        ledger,
        accuracy.natural(records, ledger),
        accuracy.rows(records, ledger),
        maps.rows(records, ledger),
        tables,
        grid.grid(records, ledger, tables),
        fusion.fusion(records, ledger),
        spoiled.rows(records, ledger),
        shift.tables(records, ledger),
        shift.vanishing(records, ledger),
        paper.paper(records, ledger, tables),
        headline.headline(records, ledger, tables),
        ladder.ladders(records, ledger),
        sweep.curves(records, ledger),
        swap.rows(records, ledger),
    )
