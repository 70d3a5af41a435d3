"""Cut recorded runs to what the headline rows stand on: `python -m benchmarks.cut [--combined] FOLDER...`, all run seeds of a data set in
one call.

Of the files of scores in each folder those of strict detectors trained on the headline's attacks, or on all attacks, stay; with
`--combined`, and of a run with another seed than 0, the latter alone; a run whose files of scores are small together stays whole. The
numbers that stand on the others are computed first and go into numbers.parquet, with those that verdicts over these runs add;
not_kept.json names what is removed, and the command that makes it again (salientry/results/kept.py). `salientry report FOLDER --verify`
computes again what follows from what stays.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from pathlib import Path

from salientry.errors import UsageError
from salientry.report.report import Made
from salientry.results import kept
from salientry.results.claims import verdicts
from salientry.results.numbers import NOT_OF_SCORES, numbers
from salientry.results.place import Row, records, select
from salientry.results.scores import Scores

SMALL = 2_000_000  # bytes


def cut(folders: Sequence[Path], small: int = SMALL, headline: bool = True) -> None:
    """Compute the numbers, write them, and remove the files of scores that do not stay.

    Args:
        folders: with whole records; all runs of a data set, so that the numbers of the verdicts on them together are kept.
        small: a run whose files of scores have fewer bytes stays whole.
        headline: keep the scores of detectors trained on the headline's attacks too.

    Raises:
        UsageError: when files of scores are missing; nothing was removed.
    """
    runs = [(s, numbers(s)) for s in map(Scores.read, folders)]
    for s, _ in runs:
        if s.not_kept or s.absent:
            raise UsageError(f"{s.folder}: some of its files of scores are not there; only whole records can be cut")
    _, further = verdicts(runs)
    for s, frame in runs:
        if sum((s.folder / f).stat().st_size for f in s.body["shards"]) < small:
            print(f"{s.folder}: whole, for it is small")
            continue
        mine = [r for r in further if (r["dataset"], r["run_seed"]) == (s.dataset, s.run_seed)]
        known: list[Row] = [r for r in records(frame) if r["kind"] not in NOT_OF_SCORES]
        rows = [{c: v for c, v in r.items() if v is not None} for r in (*known, *mine)]
        attacks = {"combined", *(() if s.run_seed or not headline else select(frame, kind="headline", protocol="strict")["trained_on"])}
        names = {d["index"]: (d["facts"]["protocol"], d["facts"]["trained_on"]) for d in s.body["detectors"]}
        stay = {x["shard"] for x in s.body["scores"] if names[x["detector"]] in {("strict", a) for a in attacks}}
        files = [f for f in s.body["shards"] if f not in stay]
        kept.write(s.folder, s.run["command"], files, rows, functools.partial(_again, s.folder))
        print(f"{s.folder}: {len(files)} of {len(s.body['shards'])} files of scores removed, {len(rows)} numbers kept beside the others")


def _again(folder: Path) -> int:
    return len(Made(Scores.read(folder), "").again)


if __name__ == "__main__":
    cut([Path(f) for f in sys.argv[1:] if f != "--combined"], headline="--combined" not in sys.argv)
