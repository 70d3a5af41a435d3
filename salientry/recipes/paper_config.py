"""What differs between recipes of the paper's experiment: settings, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..detectors import ID, JSD, SMD, SPD, IDPlus, SmallCNN
from ..experiment.choice import candidates
from ..experiment.sanity import SanityCheck
from ..protocol import EvaluationProtocol


@dataclass(frozen=True)
class Config:
    """What differs between recipes.

    Attributes:
        data: the data set and its roles.
        classifier: its settings.
        saliency: settings of the saliency model.
        bounds: of its sanity check.
        attacks: detectors are trained and tested on these.
        printed: an attack at the paper's printed setting that is measured beside them, and trained on in one published row; perhaps none.
        detector_train: how many images of that role are attacked.
        validation: likewise.
        head: of the paired detectors.
        replica: of the paper's manner.
        fair: of ID+; of several, the one with the best AUROC on *validation* pairs of the ``headline`` is taken.
        strict: the strict protocol's rules.
        seeds: repetitions of each detector that draws.
        test: how many test images are used; None: all.
        overfit_images: how many images of each role show how a detector trained, fewer where a role has fewer; None: all.
        beside: attacks that detectors are tested on only.
        headline: attacks whose rows carry the questions about the map: strict only; trained on even where they are not among ``attacks``.
            Where there are some, ID+ is trained on them (and on all attacks at once) alone.
        trunk: settings of a second saliency model, drawn from the classifier's own trunk.
        protocol_steps: detectors that lead from the published protocol to the strict one.
        sweep: FGSM budgets; the paper's four defences are trained on each and tested on each.
        published: detectors of the literature that are trained on all attacks at once, strict, and tested beside the others; they are
            neither fused nor candidates for the guard.
        by_confidence: C&W's settings, of which the confidence is varied against the margin, SMD and the second net; None: not.
        choice: whether a guard is chosen; else it is the fusion.
        compact: whether records are kept small.
        detectors: settings of further ones: trained and tested as all are, fused, and candidates for the guard; entries of ``DETECTORS``
            that are no candidates, and users' own (:class:`~salientry.detectors.ExternalDetector`).
    """

    data: Any
    classifier: Any
    saliency: Any
    bounds: SanityCheck
    attacks: tuple[Any, ...]
    printed: Any
    detector_train: int
    validation: int
    head: SmallCNN
    replica: SmallCNN
    fair: SmallCNN | tuple[SmallCNN, ...]
    strict: EvaluationProtocol
    seeds: int
    test: int | None = None
    overfit_images: int | None = None
    beside: tuple[Any, ...] = ()
    headline: tuple[Any, ...] = ()
    trunk: Any = None
    protocol_steps: bool = False
    sweep: tuple[float, ...] = ()
    published: tuple[Any, ...] = ()
    by_confidence: Any = None
    choice: bool = True
    compact: bool = False
    detectors: tuple[Any, ...] = ()

    @property
    def defences(self) -> tuple[Any, ...]:
        """The paper's four."""
        return SMD(self.head), SPD(self.head), ID(self.head), JSD(head=self.head)

    @property
    def members(self) -> tuple[Any, ...]:
        """What a guard may be, and what is fused."""
        return *candidates(self.head, self.recipes[0]), *self.detectors

    @property
    def others(self) -> tuple[Any, ...]:
        """Those of them that are neither the paper's nor ID+."""
        return tuple(d for d in self.members if not isinstance(d, SMD | SPD | ID | JSD | IDPlus))

    @property
    def recipes(self) -> tuple[SmallCNN, ...]:
        """Of ID+."""
        return self.fair if isinstance(self.fair, tuple) else (self.fair,)

    @property
    def tested(self) -> tuple[Any, ...]:
        """Every attack that detectors are tested on."""
        return tuple(dict.fromkeys(a for a in (*self.attacks, self.printed, *self.headline, *self.beside) if a is not None))

    @property
    def rows(self) -> tuple[Any, ...]:
        """Attacks that strict detectors are trained on one by one."""
        return tuple(dict.fromkeys((*self.attacks, *self.headline)))
