"""A fair verdict on anybody's detector of adversarial images."""

from .adapters import FromART
from .baselines import PUBLISHED, QUICK
from .evaluate import judge, judge_scores
from .result import Judgement
from .table import ScoreTable, read_scores, write_scores
from .verdict import verdicts

__all__ = ["PUBLISHED", "QUICK", "FromART", "Judgement", "ScoreTable", "judge", "judge_scores", "read_scores", "verdicts", "write_scores"]
