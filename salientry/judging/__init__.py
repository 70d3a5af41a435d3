"""A fair verdict on anybody's detector of adversarial images."""

from .adapters import FromART
from .evaluate import BASELINES, judge, judge_scores
from .result import Judgement
from .table import ScoreTable, read_scores, write_scores
from .verdict import verdicts

__all__ = ["BASELINES", "FromART", "Judgement", "ScoreTable", "judge", "judge_scores", "read_scores", "verdicts", "write_scores"]
