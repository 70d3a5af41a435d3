"""Recipes: a run is a Python function whose docstring states its command, hardware, time and result."""
