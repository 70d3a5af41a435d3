"""How soon the alarm for campaigns rings, and for how many ordinary senders: `python -m benchmarks.campaign [--role validation]`.

The guard, the network and the data of `python -m benchmarks.drift`. Square and HopSkipJump ask about images that the classifier has right
and the guard lets through, once without knowing of the guard (they succeed when the classifier is fooled) and once against both; the guard
judges each of their queries. Ordinary senders (`benchmarks.senders`) send natural pictures, 1 to 250 each. The settings of the alarm were
chosen on the role *validation*; the record is of *test*.

Writes results/drift-campaign.json; `python -m benchmarks.readme --write` prints it in docs/drift.md.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from salientry import Guard, Run
from salientry.adaptive import Defended, HopSkipJump, SquareSearch
from salientry.campaign import Campaigns
from salientry.rates import share_of

from .drift import about, fitted, images_of, median
from .senders import KINDS, MOST, SIZES, as_bytes, senders, series

OUT = Path(__file__).parents[1] / "results" / "drift-campaign.json"
ATTACKED, QUERIES, WITHIN, BUDGET = 40, 1_000, 200, 250  # BUDGET: queries that are asked of those that an attack plans for
SENDERS = 1_000  # of each kind
CAMERAS, FRAMES = 50, (30, 100, MOST)
BUSY, MANY = 50, 2_000


@dataclass(frozen=True, eq=False)
class Watched(Defended):
    """What is attacked, with a record of what it is asked about each image: flags and pictures of the first ``BUDGET`` queries. What is
    asked later is answered at random, for nobody looks at it.
    """

    guard: Guard | None = None
    knowing: bool = True
    rows: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    log: dict[int, list[tuple[NDArray[Any], bool]]] = field(default_factory=dict)

    def take(self, rows: Tensor) -> Watched:
        return replace(self, rows=rows)

    def seen(self, x: Tensor) -> tuple[Tensor, Tensor]:
        assert self.guard is not None
        logits, scores = torch.rand(len(x), self.guard.shape.classes), torch.zeros(len(x))
        looked = torch.tensor([len(self.log.get(r, ())) < BUDGET for r in self.rows.tolist()])
        if looked.any():
            verdict, logits[looked] = self.guard(x[looked]), self.classifier(x[looked])
            scores[looked] = verdict.score if self.knowing else torch.full((len(verdict),), -math.inf)
            images = as_bytes(x[looked])
            for row, image, flag in zip(self.rows[looked].tolist(), images, verdict.flagged.tolist(), strict=True):
                self.log.setdefault(row, []).append((image, flag))
        return logits, scores


def attacked(guard: Guard, attack: Any, knowing: bool, x: Tensor, y: Tensor, starts: Tensor) -> dict[str, Any]:
    """What came of an attack on each image by a source of its own."""
    target = Watched(guard.classifier, threshold=guard.threshold, guard=guard, knowing=knowing)
    more = {"starts": starts} if isinstance(attack, HopSkipJump) else {}
    attack.search(target, x, y, seeds=torch.arange(len(x)), **more)
    watch, rang, asked, flags = Campaigns(sources=len(x)), list[float](), list[int](), list[bool]()
    for row, queries in sorted(target.log.items()):
        queries = queries[:BUDGET]
        found = watch.update(str(row), np.stack([q[0] for q in queries]), [q[1] for q in queries])
        rang.append(found.index(True) + 1 if True in found else math.inf)
        asked.append(len(queries))
        flags += [q[1] for q in queries]
    long, within = np.array(asked) >= WITHIN, np.array(rang) <= WITHIN
    return {
        "noticed": share_of(within),
        "noticed of those that ask so often": share_of(within[long]) if long.any() else None,
        "queries until the alarm": median(rang),
        "queries asked": median([float(n) for n in asked]),
        "queries flagged": share_of(np.array(flags)),
    }


def ordinary(guard: Guard, sent: Iterator[tuple[str, NDArray[np.uint8]]]) -> dict[str, Any]:
    """By kind, and by kind and number of pictures, how many senders are reported. A guard judges the pictures of those senders alone of
    whom it could matter: who is not reported with every picture flagged is not reported with fewer.
    """
    reported = defaultdict[str, dict[str, list[bool]]](lambda: defaultdict(list))
    judged = dict[str, list[int]]()
    for i, (kind, images) in enumerate(sent):
        alarm = any(Campaigns().update(str(i), images, [True] * len(images)))
        counted = judged.setdefault(kind, [0, 0])
        if alarm:
            flags = guard(torch.from_numpy(images)).flagged.tolist()
            alarm = any(Campaigns().update(str(i), images, flags))
            counted[0], counted[1] = counted[0] + 1, counted[1] + any(flags)
        size = next((f"{low} to {high}" for low, high in SIZES if low <= len(images) <= high), "more")
        for name in (kind, "all") if kind in KINDS else (kind,):
            for row in (size, "all"):
                reported[name][row].append(alarm)
    for kind, (some, flagged) in judged.items():
        print(f"{kind}: {some} could be reported if all were flagged; of {flagged} a picture is", flush=True)
    return {name: {row: share_of(np.array(found)) for row, found in rows.items()} for name, rows in reported.items()}


def main() -> None:
    """Attack, send, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--role", choices=["test", "validation"], default="test")
    parser.add_argument("--senders", type=int, default=SENDERS, help="of each kind")
    parser.add_argument("--out", type=Path, default=OUT)
    asked, run, rng = parser.parse_args(), Run(), np.random.default_rng(0)
    guard, data = fitted(run)
    x, y = images_of(run, data, asked.role)
    verdict = guard(x)
    good = ((verdict.predicted == y) & ~verdict.flagged).nonzero().flatten()
    at, starts = good[:ATTACKED], x[good[ATTACKED : 2 * ATTACKED]]
    watch = Campaigns()
    body = about("campaign", guard) | {"role": asked.role, "within": WITHIN, "asked": BUDGET, "planned": QUERIES, "attacks": {}}
    body["settings"] = {k: getattr(watch, k) for k in ("near", "many", "distance", "pictures")}
    for name, attack in (("Square 8/255", SquareSearch(queries=QUERIES)), ("HopSkipJump", HopSkipJump(queries=QUERIES))):
        for knowing in (False, True):
            words = "against classifier and guard" if knowing else "against the classifier alone"
            body["attacks"][f"{name}, {words}"] = attacked(guard, attack, knowing, x[at], y[at], starts)
            print(name, words, body["attacks"][f"{name}, {words}"], flush=True)
    body["senders"] = ordinary(guard, senders(x, rng, asked.senders))
    for count in FRAMES:
        scenes = (as_bytes(series(x[i], count, rng)) for i in rng.choice(len(x), CAMERAS, replace=False))
        body["senders"] |= ordinary(guard, ((f"a camera, {count} pictures of one scene", images) for images in scenes))
    watch, pixels, alarms = Campaigns(), as_bytes(x), []
    for i in range(BUSY):
        rows = rng.choice(len(x), MANY, replace=False)
        alarms.append(any(watch.update(str(i), pixels[rows], verdict.flagged.numpy()[rows].tolist())))
    body["senders"][f"{MANY:,} different pictures"] = {"all": share_of(np.array(alarms))}
    body["pictures flagged"] = share_of(verdict.flagged.numpy())
    asked.out.write_text(json.dumps(body, indent=1) + "\n")
    print(json.dumps(body, indent=1))


if __name__ == "__main__":
    main()
