"""``python -m salientry``."""

from .cli import main

main()
