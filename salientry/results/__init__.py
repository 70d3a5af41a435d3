"""From recorded runs to tables of scores and numbers."""
