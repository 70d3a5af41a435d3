"""How to read a page: detectors, the words of the field, intervals, verdicts."""

from __future__ import annotations

from markupsafe import Markup

from ..inference import FEW, LEAST_SEEDS
from ..metrics import RESAMPLES
from .page import Block
from .sections import Shown

READING = (
    "<b>SMD</b> sees the learnt map alone, <b>SPD</b> map times image, <b>ID</b> the image, <b>JSD</b> image and gradient, <b>ID+</b> the "
    "image without its smooth part at full resolution; <b>(trunk)</b>: the map is drawn from the classifier's own layers; <b>(the paper's "
    "manner)</b>: the head is trained as the paper trains, without batch norm, naturals and adversarials drawn independently. Grey rows "
    "are "
    "<b>baselines</b>: they need little or no training, and a detector that does not beat the best of them on the same attack has shown "
    "nothing of its own. Logit margin: gap of the two largest logits and its square; linear margin: the gap alone; sorted logits: a "
    "small MLP on "
    "all logits; activations: one on the means of the classifier's own layers; class presence: the class selector's doubt; second net: the "
    "saliency encoder disagrees; black pixels: share of pixels that are not black; fine structure: energy of the Laplacian.",
    "<b>Detection rate</b>: share of the attacked images that fool the classifier which are flagged. <b>False-positive rate</b>: share of "
    "natural images that are flagged. <b>Extra false alarms</b>: share flagged after a <b>harmless change</b> that leaves the "
    "prediction as "
    "it was, minus the share of the same images flagged before. <b>Attack success rate</b>: share of images that end wrong and, where "
    "there "
    "is a detector, unflagged. <b>Ablation</b>: the same without one part. <b>Overfits</b>: separates its own training pairs far better "
    "than new ones. <b>Null control</b>: naturals sent the way that attacked images go, with nothing changed: any difference of a score "
    "would be a fault. <b>PAC</b> (probably approximately correct): a threshold whose false-positive rate is at most the one asked for, "
    "with 95 % confidence over the draw of "
    "the calibration images.",
    "<b>An interval</b>, in square brackets, is a 95 % interval over images, given these nets: this classifier, this saliency model, these "
    f"detectors, this split. It comes from {RESAMPLES:,} resamples of natural images, the same draw for every seed and detector; a share "
    "that is the same on every image has a Clopper-Pearson bound, and a difference that all but fewer than "
    f"{FEW} images agree on has Gaffke's. It says nothing of other seeds. Below {LEAST_SEEDS} detector seeds none are resampled: the "
    "value is their mean; each seed's own, with its interval over images, shows where the pointer rests on a number (and in numbers.csv "
    "and report.json), and stands below it where the seeds spread wider than the interval. A sentence quotes the least and the most. From "
    f"{LEAST_SEEDS} seeds up the interval is Student's t interval over the seeds, on these images.",
    "<b>A verdict</b> on a claim of the paper holds or does not hold when the whole interval lies on one side of its boundary, after "
    "Holm's correction for all the questions of the list, and is else undecided. <b>Not at the paper's size</b>: the heads had fewer "
    "training steps than the paper's, or the nets are others; what does not hold then says nothing of the paper's own nets.",
)


def how_to_read(r: Shown | None = None) -> Block:
    """How to read a page: detectors, intervals, verdicts; what the thresholds depend on, of one run."""
    more = []
    if r is not None and r.scores.has_naturals:
        n = len(r.scores.natural("calibration")["id"])
        more.append(
            f"Thresholds depend on {n:,} natural calibration images; the bound on the false-positive rate is for naturals like those."
        )
    return Block("", Markup("").join(Markup("<p>{}</p>").format(Markup(w)) for w in (*READING, *more)))
