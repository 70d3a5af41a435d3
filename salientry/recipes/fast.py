"""The paper's story on a whole data set at the size of a laptop: compact nets and subsets, every row and column of its tables.

::

    salientry run fast dataset=cifar10             # or: dataset=mnist
    salientry plan fast dataset=cifar10            # what is left
    salientry run fast dataset=cifar10 rows=headline seeds=2 --seed 1 --out second      # another classifier, another U-Net

Hardware:  2 cores, no GPU, 6 GiB
Time:      CIFAR-10: 8,145 s of one thread, 68 min on two cores; any number of calls, each goes on where the one before was stopped
Result:    results/fast/cifar10. Strict, found at 5 % false positives, n 847, 95 % interval, 3 detector seeds, one classifier:
           C&W: SPD .135 [.117, .155], ID+ .777 [.754, .798], Margin .922 [.905, .940]; BIM 8/255: SPD .080 [.067, .095], on the
           classifier's own trunk .444 [.416, .473], ID+ 1.000 [.996, 1.000], PooledActivations .880 [.858, .899]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..attacks import BIM, CW_FAST, FGSM, JSMA, MIM, CarliniWagner, DeepFool
from ..classifiers import CompactCNN, ResidualCNN
from ..datasets import CIFAR10, MNIST
from ..detectors import REPLICA, SmallCNN
from ..experiment.findings import Findings
from ..experiment.run import Run
from ..experiment.sanity import Gate
from ..protocol import STRICT
from ..saliency import Eq2, Fill, SimpleClassifier, Trunk, UNet
from ..store import one_of
from ._plan import Plan
from ._story import tell

SMALL = 8 / 255  # a budget that natural images are usually attacked with; the paper's is 51/255
SMALL_FGSM, SMALL_BIM, SMALL_MIM = FGSM(SMALL), BIM(SMALL, SMALL / 4), MIM(SMALL, SMALL / 4)


def cifar10(seeds: int, detect: int = 2000, select: int = 500, test: int = 1000) -> Plan:
    """CIFAR-10: a small residual net in place of the paper's (its Figure 3 costs 12 times as much an image), C&W with fewer steps."""
    cw = CarliniWagner(steps=60, lr=0.01, initial_const=0.1, confidence=0.05)
    net, encoder = ResidualCNN(), ResidualCNN(epochs=8)
    maps: dict[str, Any] = {"loss": Eq2(area=3), "epochs": 2, "lr": 3e-3, "schedule": "one_cycle", "base": 8, "selector_lr": 1e-2}
    head = SmallCNN(epochs=8)
    return Plan(
        data=CIFAR10(),
        classifier=net,
        saliency=UNet(Trunk(encoder), **maps),
        trunk=UNet(Trunk(net, own=True), **maps),
        bounds=Gate(action="mark"),
        attacks=(FGSM(), BIM(), MIM(), cw, DeepFool(), JSMA()),
        printed=DeepFool(steps=2),
        weak=(FGSM(),),
        reduced=(cw,),
        beside=(SMALL_FGSM, SMALL_BIM, SMALL_MIM),
        headline=(cw, SMALL_BIM),
        detect=detect,
        select=select,
        test=test,
        health=500,
        head=head,
        replica=REPLICA,
        fair=(SmallCNN(strides=(1, 2, 2), epochs=12), SmallCNN(width=12, strides=(1, 1, 2), epochs=12)),
        strict=STRICT,
        seeds=seeds,
        ladder=True,
        sweep=(0.005, 0.01, 0.02, SMALL, 0.06, 0.2),
        choice=False,
        compact=True,
    )


def mnist(seeds: int, detect: int = 3000, select: int = 500, test: int = 1000) -> Plan:
    """MNIST: a compact net, removed pixels are black, C&W and JSMA faster than the paper prints; budgets of .1 in place of 8/255."""
    reduced = CW_FAST, JSMA(theta=0.1)  # as in smoke
    small = BIM(0.1, 0.025)
    maps: dict[str, Any] = {"batch": 64, "lr": 3e-3, "schedule": "one_cycle", "selector_lr": 1e-2}
    return Plan(
        data=MNIST(),
        classifier=CompactCNN(epochs=3),
        saliency=UNet(SimpleClassifier(base=8, scales=2, epochs=1), Eq2(area=3), Fill("black"), epochs=1, **maps),
        bounds=Gate(action="mark"),
        attacks=(FGSM(), BIM(), MIM(), CW_FAST, DeepFool(), reduced[1]),
        printed=DeepFool(steps=2),
        weak=(FGSM(),),
        reduced=reduced,
        beside=(FGSM(0.1), small, MIM(0.1, 0.025)),
        headline=(CW_FAST, small),
        detect=detect,
        select=select,
        test=test,
        health=500,
        head=SmallCNN(width=8, epochs=4),
        replica=replace(REPLICA, width=8, epochs=4),
        fair=(SmallCNN(width=8, strides=(1, 2, 2), epochs=4), SmallCNN(width=8, strides=(1, 1, 2), epochs=4)),
        strict=STRICT,
        seeds=seeds,
        ladder=True,
        sweep=(0.01, 0.02, 0.05, 0.1, 0.2, 0.3),
        choice=False,
        compact=True,
    )


def headline_only(plan: Plan) -> Plan:
    """The rows that the first table speaks of, and what they stand on."""
    return replace(plan, attacks=plan.headline, weak=(), printed=None, beside=(), ladder=False, sweep=())


PLANS: dict[str, Callable[..., Plan]] = {"cifar10": cifar10, "mnist": mnist}


def fast(
    run: Run,
    dataset: str = "cifar10",
    rows: str = "all",
    seeds: int = 3,
    detect: int | None = None,
    select: int | None = None,
    test: int | None = None,
) -> Findings:
    """Everything that the report prints.

    Args:
        run: where it is written down.
        dataset: a name of ``PLANS``.
        rows: ``all``, or ``headline``: only what the first table speaks of, for a second run seed.
        seeds: repetitions of each detector that draws; the published replica has one.
        detect: how many images of that role are attacked; None: as many as the plan says.
        select: likewise.
        test: likewise.

    Raises:
        UsageError: for another data set, or a number of repetitions or of images that cannot be.
        AttackTooWeak: when an attack that should fool does not.
    """
    one_of("data set", dataset, PLANS)
    one_of("choice of rows", rows, ("all", "headline"))
    given = {"detect": detect, "select": select, "test": test}
    plan = PLANS[dataset](seeds, **{k: v for k, v in given.items() if v is not None})
    return tell(run, plan if rows == "all" else headline_only(plan))
