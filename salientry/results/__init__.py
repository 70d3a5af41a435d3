"""Recorded runs as two tables: scores (a row a detector and image set) and numbers (a row a measured value). Needs pandas."""
