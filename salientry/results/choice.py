"""Which detectors tables and sentences show, by title and in this order: each choice stands once."""

from __future__ import annotations

DEFENCES = ("SPD", "SMD", "ID", "JSD")  # the paper's four
PAPERS = ("SMD", "SPD", "ID", "JSD", "ID+")  # on a first screen: the paper's own, and ID better trained
MAPS = ("SPD", "SMD", "SPD (trunk)", "SMD (trunk)")
BESIDE_MAPS = (*MAPS, "ID", "ID+", "fusion")
BASELINES = ("SortedLogits", "PooledActivations", "Margin2", "SecondNet", "BlackShare")  # one of each kind
SIMPLEST = "Margin2"
GLANCE = (*MAPS[:3], "ID", "ID+", "fusion", SIMPLEST, "PooledActivations", "BlackShare")  # of all data sets side by side
ATTACKED = ("SPD", "SMD", "JSD", "ID+", "fusion", *("Margin" if b == SIMPLEST else b for b in BASELINES))  # of two alike the simpler
CURVES = ("SMD", "SPD", "JSD", "ID+", "SortedLogits", "fusion")  # attack success rate by budget
DIFFERENCES = ("fusion with the map minus without", "logits with the map minus without", "SPD minus the best floor")
NOISE = (  # what is found, beside what is flagged of harmless noise
    *("SMD", "SPD", "SMD (trunk)", "SPD (trunk)", *PAPERS[2:]),
    *("SortedLogits", "Margin2", "PooledActivations", "SecondNet", "HighFrequency", "BlackShare", "fusion"),
)
