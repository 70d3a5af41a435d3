"""What a guard learns from, is tried on and is chosen among where nobody says otherwise."""

from __future__ import annotations

from typing import Any, Literal

from ..attacks import PGD, PGDL2, CarliniWagner, DeepFool, MarginDescent, Patch
from ..calibration import smallest_sample
from ..detectors import (
    PUBLISHED_DETECTORS,
    Consistency,
    LayerStatistics,
    LearnedFusion,
    Masked,
    NoiseLevel,
    NoiseStructure,
    SecondOpinion,
    TopLogits,
    _committee,
)
from ..detectors.consistency import FULL, LIGHT
from ..errors import UsageError
from ..evidence import layers_in
from ..rates import percent
from ..saliency import Eq2, Fill, SimpleClassifier, UNet
from ..types import Roles

Effort = Literal["quick", "usual", "thorough"]
EFFORTS = ("quick", "usual", "thorough")
MOST_COLUMNS = 5_000  # numbers of layers' statistics that are looked at
MOST_TRIED = 500  # images that say how good it is; more of them calibrate
MANY = 1_000  # images to learn from, from which the layers' statistics, hundreds of numbers, are worth a try
SPECIFIC = _committee.Committee(copies=0.6, steps=1600)  # of what sees noise: it has to meet more noise that is harmless, and longer
SHARES = Roles(train=0, detector_train=45, validation=0, calibration=35, test=20)  # in hundredths
SHARES_WITH_MAPS = Roles(train=40, detector_train=22, validation=0, calibration=25, test=13)


def default_attacks(shape: tuple[int, ...]) -> tuple[Any, ...]:
    """What a guard learns from: no size, norm or confidence is the same for two images, so that none is learnt.

    Args:
        shape: (C, H, W) of the images.

    Returns:
        PGD in Linf from 1 to 8/255 (grey images .03 to .3), in L2 (at 32 x 32 x 3 from .1 to 1, as the root of the number of values;
        grey images three times that), a single step from 4 to 51/255 (grey the same as PGD), a walk to a logit margin between -8 and 0,
        and one that ends just beyond the boundary.
    """
    grey, values = shape[0] == 1, shape[0] * shape[1] * shape[2]
    radius = (3 if grey else 1) * (values / 3072) ** 0.5
    linf, step = ((0.03, 0.3), (0.03, 0.3)) if grey else ((1 / 255, 8 / 255), (4 / 255, 51 / 255))
    return (
        PGD(eps=linf[1], lowest=linf[0]),
        PGDL2(radius=radius, lowest=radius / 10),
        PGD(eps=step[1], lowest=step[0], steps=1, start=False),
        MarginDescent(highest=8.0),
        MarginDescent(),
    )


def default_lenders(shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Attacks that lend other images their perturbations: of the largest size that :func:`default_attacks` walk to, of which those are few.

    Args:
        shape: (C, H, W) of the images.
    """
    return (PGD(eps=0.3 if shape[0] == 1 else 8 / 255),)


def unseen_attacks(shape: tuple[int, ...], classes: int) -> tuple[Any, ...]:
    """What a guard is tried on beside that: other ways to find an adversarial image, at sizes that it may meet.

    Args:
        shape: (C, H, W) of the images.
        classes: K; DeepFool, which differentiates the logits of many classes, is left out where there are many.
    """
    eps = 0.2 if shape[0] == 1 else 8 / 255
    found = PGD(eps=eps, target="random"), CarliniWagner(search_steps=1, steps=60, lr=0.01, initial_const=1.0, confidence=3.0), Patch()
    return found if classes > 100 else (*found, DeepFool())


def default_candidates(learnt: int, effort: Effort, second: bool, columns: int) -> tuple[Any, ...]:
    """What is chosen among: fusions of numbers, from few passes of the classifier to many.

    Args:
        learnt: images to learn from.
        effort: ``quick`` tries the cheapest alone; ``thorough`` also what the map keeps and removes, and :func:`published`.
        second: whether there is a second network.
        columns: numbers that the classifier's layers give.
    """
    light = LearnedFusion((TopLogits(), Consistency(LIGHT), *([SecondOpinion(LIGHT)] if second else [])))
    if effort == "quick":
        return (light,)
    full = (TopLogits(), Consistency(), *([SecondOpinion(FULL)] if second else []))
    noisy = (*full, NoiseLevel(), NoiseStructure())
    found = [light, LearnedFusion(full), LearnedFusion(noisy, head=SPECIFIC)]
    if 0 < columns <= MOST_COLUMNS and learnt >= MANY:
        found.append(LearnedFusion(noisy, (TopLogits(), LayerStatistics()), head=SPECIFIC))
    if effort == "thorough":
        found.append(LearnedFusion((*noisy, Masked()), head=SPECIFIC))
        found += published(0 < columns <= MOST_COLUMNS)
    return tuple(found)


def published(layers: bool) -> tuple[Any, ...]:
    """:data:`~salientry.detectors.PUBLISHED_DETECTORS`; without ``layers``, only those that do not read the classifier's layers."""
    return tuple(d for d in PUBLISHED_DETECTORS.values() if layers or layers_in(d.needs) == [])


def default_saliency(side: int, count: int) -> UNet:
    """A small U-Net for ``count`` images whose shorter side has ``side`` pixels: 2 scales up to 31, 3 above, some 500 steps."""
    epochs = min(max(8, -(-16_000 // count)), 60)
    encoder = SimpleClassifier(base=8, scales=2 if side < 32 else 3, epochs=epochs, batch=32)
    return UNet(encoder, Eq2(area=3), Fill("black"), epochs=epochs, batch=32, lr=3e-3, schedule="one_cycle", selector_lr=1e-2)


def shares(count: int, level: float, maps: bool) -> Roles:
    """How many images learn, calibrate, and say how good it is; with maps some are for them.

    Raises:
        UsageError: when too few would calibrate.
    """
    return divided(count, level, SHARES_WITH_MAPS if maps else SHARES, MOST_TRIED)


def divided(count: int, level: float, of: Roles, most: int) -> Roles:
    """Images by role: train, learn and test take their hundredths, the test at most ``most``, and all others calibrate.

    Raises:
        UsageError: when too few would calibrate.
    """
    train, learn, test = (int(share * count) // 100 for share in (of.train, of.detector_train, of.test))
    test = min(test, most)
    calibration, need = count - train - learn - test, smallest_sample(level)
    if calibration < need:
        raise UsageError(
            f"{count} images leave {calibration} to calibrate with; a false-positive rate of {percent(level)} needs {need}, so at least "
            f"{-(-100 * need // of.calibration)} images"
        )
    return Roles(train, learn, 0, calibration, test)
