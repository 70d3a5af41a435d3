"""Records to all numbers, in one place: the report prints it and ``--verify`` does it again."""

from __future__ import annotations

from dataclasses import dataclass

from . import accuracy, detection, maps
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


def computed(records: Records) -> Computed:
    """All numbers of the records."""
    ledger = Ledger()
    return Computed(
        ledger,
        accuracy.natural(records, ledger),
        accuracy.rows(records, ledger),
        maps.rows(records, ledger),
        detection.tables(records, ledger),
    )
