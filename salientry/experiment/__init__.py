"""Experiments: runs, their few common steps, and one file per question."""
