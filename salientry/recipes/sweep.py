"""The paper's search over architectures (Appendix A): drop-out of the classifier; drop-out, optimiser, depth, width, dense layers and
pooling of the image detectors. Its conclusion, "did not improve", is claim C18.

::

    salientry plan sweep dataset=cifar10                       # what it costs on this machine
    salientry run sweep dataset=cifar10 attack=bim pairs=2000 test=500
    salientry run sweep dataset=cifar10 attack=bim pairs=2000 test=500 "only=He's weights" seeds=3
    salientry run sweep dataset=cifar10 of=classifier          # drop-out .3 to .7, accuracy on validation images
    salientry run sweep dataset=cifar10 of=classifier only=0.4 # one of them

Hardware:  2 cores for some thousand pairs on CIFAR-10; else a GPU
Time:      the plan says it
Result:    not recorded yet
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from ..detectors import ID, JSD, Margin2
from ..errors import UsageError
from ..experiment.accuracy import accuracy_of
from ..experiment.evaluation import TrainingSet, evaluate
from ..experiment.outputs import Outputs
from ..experiment.run import Run
from ..experiment.steps import classify, train_classifier
from ..paper_cnn import PaperCNN
from ..protocol import PUBLISHED
from ..protocol import REPLICA as UNPAIRED
from ..store import one_of
from .paper import CONFIGS, PaperConfig, PaperExperiment, with_controls

DROPOUTS = (0.3, 0.4, 0.5, 0.6, 0.7)
AS_PRINTED, HE = "architecture: as printed", "architecture: He's weights"
KEPT = "architecture: drop-out 0.4"  # the other reading of the paper's .6: the share that is kept
DEPTHS = (3, 4, 5, 6, 7, 8, 9)


def architectures(net: PaperCNN) -> dict[str, PaperCNN]:
    """The image detectors that Appendix A tries, one change at a time from the classifier's own net; by what tables call them. The last
    two the paper does not name: initial weights of He, with which a deep net of ReLUs seldom dies, and a drop-out of .4.

    Depth and width, of which the paper names the ends ("3 to 9", "32 or 64 units, doubling or constant"), are tried together on nets of
    as many blocks as fit, with one pooling a block.
    """
    found = {AS_PRINTED: net, "architecture: no drop-out": replace(net, dropout=0.0)}
    found |= {f"architecture: {o}": replace(net, optimiser=o) for o in ("sgd", "rmsprop")}
    for depth in DEPTHS:
        for first in (32, 64):
            for doubling in (True, False):
                blocks = stacked(depth, first, doubling)
                found[f"architecture: {depth} convolutions, {first} {'doubling' if doubling else 'constant'}"] = replace(net, blocks=blocks)
    found |= {f"architecture: {n} dense": replace(net, dense=(128,) * (n - 1)) for n in (1, 2, 3)}
    found |= {f"architecture: {'no ' if net.pool else ''}pooling": replace(net, pool=not net.pool)}
    return found | {HE: replace(net, initial="he"), KEPT: replace(net, dropout=0.4)}


def stacked(depth: int, first: int, doubling: bool) -> tuple[tuple[int, int, int], ...]:
    """So many 3 x 3 convolutions in three blocks as equal as can be, the larger ones first."""
    counts = [depth // 3 + (i < depth % 3) for i in range(3)]
    return tuple((n, first * 2**i if doubling else first, 3) for i, n in enumerate(counts))


def sweep(
    run: Run,
    dataset: str = "cifar10",
    of: str = "detectors",
    attack: str = "bim",
    only: str = "",
    pairs: int = 0,
    test: int = 0,
    seeds: int = 1,
) -> Outputs:
    """ID and JSD in every architecture, trained on one attack, unpaired; or the classifier with every drop-out.

    Args:
        run: where it is written down.
        dataset: ``mnist``, ``cifar10`` or ``assira``.
        of: ``detectors``, or ``classifier``: trained without the validation images, on which its accuracy is taken.
        attack: that detectors are trained and tested on.
        only: a part of an architecture's name, for a slice: ``dense``, ``9 convolutions``; the net as printed is always in it. Of the
            classifier a drop-out: ``0.4``, beside the net as printed.
        pairs: training images that are attacked; 0: all.
        test: test images; 0: all.
        seeds: repetitions of each detector.

    Raises:
        UsageError: for another data set or attack, a slice without an architecture, or numbers of images that cannot be.
    """
    for kind, name, known in (("data set", dataset, list(CONFIGS)), ("sweep of", of, ["detectors", "classifier"])):
        one_of(kind, name, known)
    one_of("attack", attack, list(CONFIGS[dataset].attacks))
    return build(run, CONFIGS[dataset], of, attack, only, pairs, test, DROPOUTS, seeds)


def build(
    run: Run,
    config: PaperConfig,
    of: str,
    attack: str,
    only: str,
    pairs: int,
    test: int,
    dropouts: Sequence[float] = DROPOUTS,
    seeds: int = 1,
) -> Outputs:
    """See :func:`sweep`; for any settings of a data set."""
    experiment = PaperExperiment.of(run, config, seeds, pairs, test)
    if of == "classifier":
        return _dropouts(experiment, [d for d in dropouts if not only or f"{d:g}" == only], only)
    found, image_sets, variant = experiment.prepared(None, experiment.pairs)
    tried = {name: net for name, net in architectures(config.net).items() if only in name or name == AS_PRINTED}
    if len(tried) < 2:
        raise UsageError(f"no architecture's name holds {only!r}; there are: {', '.join(architectures(config.net))}")
    training = TrainingSet((config.attacks[attack],))
    tests = with_controls(image_sets, training.attacks, training)
    found.scores += evaluate(image_sets, Margin2(), PUBLISHED, training, tests, variant).outputs
    for scheme, net in tried.items():
        one = replace(training, scheme=scheme)
        for detector, seed in product((ID(net), JSD(head=net)), range(seeds)):
            found.scores += evaluate(image_sets, detector, UNPAIRED, one, tests, variant, seed=seed).outputs
    return found


def _dropouts(experiment: PaperExperiment, dropouts: Sequence[float], only: str) -> Outputs:
    if not dropouts:
        raise UsageError(f"only={only}: no such drop-out is tried; there are: {', '.join(f'{d:g}' for d in DROPOUTS)}")
    run, config = experiment.run, experiment.config
    images = run.dataset(config.data)
    found, image_sets, _ = experiment.prepared(None, experiment.pairs)  # the net as printed is what a page compares with the paper's
    for dropout in dropouts:
        f = run.do(train_classifier, images["train"], replace(config.net, dropout=dropout))
        found.accuracies.append(run.do(accuracy_of, run.do(classify, images["validation"], f), f"drop-out {dropout:g}"))
    found.sets += image_sets.natural.values()
    return found
