"""Records to all numbers, in one place: the report prints it and ``--verify`` does it again."""

from __future__ import annotations

from dataclasses import dataclass

from . import accuracy, algorithms, detection, fusion, grid, headline, ladder, maps, paper, shift, spoiled, swap, sweep, white_box
from .numbers import Ledger
from .records import Records


@dataclass(frozen=True)
class Computed:
    """Every number and the tables that name them."""

    ledger: Ledger
    natural: str
    attacks: list[accuracy.Row]
    classes: list[maps.Classes]
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
    siege: white_box.Siege | None
    algorithms: algorithms.Algorithms | None


def computed(records: Records) -> Computed:
    """All numbers of the records."""
    ledger = Ledger()
    siege, steps = white_box.siege(records, ledger), algorithms.algorithms(records, ledger)
    if not records.whole:
        beside = paper.paper(records, ledger, [], siege, steps)
        return Computed(ledger, "", [], [], [], [], grid.Grid([], [], {}, []), None, [], [], [], beside, None, [], [], [], siege, steps)
    tables = detection.tables(records, ledger)
    return Computed(
        ledger,
        accuracy.natural(records, ledger),
        accuracy.rows(records, ledger),
        maps.by_class(records, ledger),
        maps.rows(records, ledger),
        tables,
        grid.grid(records, ledger, tables),
        fusion.fusion(records, ledger),
        spoiled.rows(records, ledger),
        shift.tables(records, ledger),
        shift.vanishing(records, ledger),
        paper.paper(records, ledger, tables, siege, steps),
        headline.headline(records, ledger, tables),
        ladder.ladders(records, ledger),
        sweep.curves(records, ledger),
        swap.rows(records, ledger),
        siege,
        steps,
    )
