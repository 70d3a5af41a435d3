"""The pictures of a recorded run of `fast`, made again: `python -m benchmarks.gallery DATASET...`, in the store of SALIENTRY_HOME.

For a run that was recorded without them. Only what the pictures are made from is computed: the nets, and six attacks on a few images. On
another processor the nets come out otherwise than those of the record, and then the pictures say when and where they were made.
"""

from __future__ import annotations

import datetime
import sys
import tempfile
from pathlib import Path

from salientry.experiment.records import gallery_of
from salientry.experiment.run import Run
from salientry.learned import fingerprint
from salientry.machine import processor
from salientry.recipes.fast import fast
from salientry.results.scores import Scores
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
    anew = f"{datetime.date.today()}, {processor()}, by nets trained anew with the settings and seed of the run whose numbers stand here"
    said = {} if recorded_weights(out) == fingerprint(run.get(outputs.classifier)) else {"made": anew}
    with tempfile.TemporaryDirectory() as folder:
        write_arrays(Path(folder) / "gallery.safetensors", {k: [v] for k, v in pictures.items()})
        write_json(Path(folder) / "gallery.json", dict(facts) | said)
        keep_pictures(Path(folder), out)


def recorded_weights(folder: Path) -> str | None:
    """The fingerprint of a recorded run's classifier; older records have none."""
    found: str | None = Scores.read(folder).body.get("weights")
    return found


if __name__ == "__main__":
    for name in sys.argv[1:]:
        main(name)
