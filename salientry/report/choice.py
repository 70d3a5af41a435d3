"""Which detectors tables and sentences show, by title and in this order: each choice stands once."""

from __future__ import annotations

PAPERS = ("SMD", "SPD", "ID", "JSD", "ID+")  # the paper's own, and ID better trained
MAPS = ("SPD", "SMD", "SPD (trunk)", "SMD (trunk)")
BESIDE_MAPS = (*MAPS, "ID", "ID+", "fusion")
BASELINES = ("SortedLogits", "PooledActivations", "Margin2", "SecondNet", "BlackShare")  # one of each kind
SIMPLEST = "Margin2"
