"""How fast `salientry check` is beside the guard's own batches, and its memory: `python -m benchmarks.check speed memory`.

``speed [--count N] [--size S] [--rounds R]``: JPEG pictures of S x S are drawn and written into folders and tar files. Each of R rounds
judges N / R pictures as `check --out` does, from folders, from tar files, and through an executor of one process a core whose workers stand
already; before and after, the guard itself judges tensors, in the same process. The guards are the light and the full one of
`benchmarks.guard` on the classifier of ``fast dataset=cifar10``, untrained: they do the same work whatever their weights are.

``memory [--many M]``: the command on M small pictures in tar files and on a twentieth of them, here and through such an executor: the most
memory that it took, and the largest process that it started.

Writes results/benchmarks/check.json. This file imports nothing of ours at its top, so that the processes that decode are as small as those
of the command.
"""

from __future__ import annotations

import argparse
from pathlib import Path

OUT = Path(__file__).parents[1] / "results" / "benchmarks" / "check.json"


def main(arguments: list[str] | None = None) -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.check", description="How fast `salientry check` is, and its memory.")
    parser.add_argument("parts", nargs="+", choices=("speed", "memory"))
    parser.add_argument("--count", type=int, default=24_000, help="pictures for speed, default 24,000")
    parser.add_argument("--size", type=int, default=32, help="their height and width, default 32")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that they are parted into, default 3")
    parser.add_argument("--many", type=int, default=100_000, help="small pictures for memory, default 100,000")
    parser.add_argument("--out", type=Path, default=OUT, help="where the JSON goes")
    given = parser.parse_args(arguments)
    from .checking import kept  # see above

    words = {k: f" --{k} {v}" for k, v in vars(given).items() if k not in ("out", "parts") and v != parser.get_default(k)}
    asked = {"speed": ("count", "size", "rounds"), "memory": ("many",)}
    for part in given.parts:
        command = f"python -m benchmarks.check {part}{''.join(words.get(k, '') for k in asked[part])}"
        print("\n".join(kept(part, command, given.out, **{k: getattr(given, k) for k in asked[part]})), flush=True)


if __name__ == "__main__":
    main()
