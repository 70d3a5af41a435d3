"""Reports: numbers and pages from score records alone. Nothing here imports torch."""
