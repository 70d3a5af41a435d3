"""The pictures of a recorded run of `fast`, made again: `python -m benchmarks.gallery DATASET...`, in the store of SALIENTRY_HOME.

For a run that was recorded without them. Only what the pictures are made from is computed: the nets, and six attacks on a few images. On
another processor the nets come out otherwise than those of the record, so that the pictures say when and where they were made.
"""

from __future__ import annotations

import datetime
import sys
import tempfile
from pathlib import Path

from salientry.experiment.records import gallery_of
from salientry.experiment.run import Run
from salientry.machine import processor
from salientry.recipes.fast import fast
from salientry.store import home, read_json, write_arrays, write_json

from .record import ROOT, keep_pictures


def main(dataset: str) -> None:
    """Make the pictures and put them beside the record."""
    out = ROOT / "results" / "fast" / dataset
    run = Run(home(), seed=read_json(out / "run.json")["seed"])
    outputs = fast(run, dataset=dataset)
    assert outputs.gallery is not None
    run.compute([outputs.gallery], workers=1)
    found = gallery_of(run, outputs, set())
    assert found is not None
    pictures, facts = found
    made = f"{datetime.date.today()}, {processor()}, by nets trained anew with the settings and seed of the run whose numbers stand here"
    with tempfile.TemporaryDirectory() as folder:
        write_arrays(Path(folder) / "gallery.safetensors", {k: [v] for k, v in pictures.items()})
        write_json(Path(folder) / "gallery.json", dict(facts) | {"made": made})
        keep_pictures(Path(folder), out)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        main(name)
