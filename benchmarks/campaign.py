"""How soon the alarm for campaigns rings, and for how many ordinary senders: `python -m benchmarks.campaign [--role validation]`.

The guard, the network and the data of `python -m benchmarks.drift`. Square and HopSkipJump ask about images that the classifier has right
and the guard lets through, once without knowing of the guard (they succeed when the classifier is fooled) and once against both; the guard
judges each of their queries. Ordinary senders send natural pictures. The settings of the alarm were chosen on the role *validation*; the
record is of *test*.

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
from salientry.harmless import JPEG, Noise, WebP

from .drift import about, fitted, images_of, median, share

OUT = Path(__file__).parents[1] / "results" / "drift-campaign.json"
ATTACKED, QUERIES, WITHIN, BUDGET = 40, 1_000, 200, 250  # BUDGET: queries that are asked of those that an attack plans for
SENDERS, MOST = 1_000, 20  # of each kind; pictures of one
CAMERAS, FRAMES = 50, 100
BUSY, MANY = 50, 2_000
KINDS = ("different pictures", "some saved again or with noise", "series of one scene")


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
            images = (x[looked] * 255).round().to(torch.uint8).numpy()
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
        "noticed": share(within),
        "noticed of those that ask so often": share(within[long]) if long.any() else None,
        "queries until the alarm": median(rang),
        "queries asked": median([float(n) for n in asked]),
        "queries flagged": share(np.array(flags)),
    }


def series(x: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """(count, C, H, W) of one scene (C, H, W): moved by a pixel at most, brighter or darker by 5 % at most, with the camera's noise."""
    out = []
    for _ in range(count):
        moved = torch.roll(x, tuple(rng.integers(-1, 2, 2).tolist()), (1, 2))
        out.append(moved * rng.uniform(0.95, 1.05) + 2 / 255 * torch.from_numpy(rng.standard_normal(x.shape)).to(x))
    return torch.stack(out).clamp(0, 1)


def senders(x: Tensor, rng: np.random.Generator, count_of_each: int) -> Iterator[tuple[str, Tensor]]:
    """Kind and pictures of each."""
    changes = (JPEG(75), JPEG(90), WebP(80), Noise(2 / 255))
    for i in range(count_of_each):
        count = int(rng.integers(1, MOST + 1))
        own = x[rng.choice(len(x), count, replace=False)]
        yield KINDS[0], own
        again = own.clone()
        for k in range(count // 2):  # the second half are copies of the first
            change: Any = changes[(i + k) % len(changes)]
            again[count - 1 - k] = change(own[k : k + 1], seeds=torch.tensor([i]))[0]
        yield KINDS[1], again
        yield KINDS[2], series(own[0], count, rng)


def ordinary(guard: Guard, sent: Iterator[tuple[str, Tensor]]) -> dict[str, Any]:
    """By kind the share of senders that are reported, and of their pictures that are flagged."""
    reported, flagged, watch = defaultdict[str, list[bool]](list), defaultdict[str, list[bool]](list), Campaigns()
    for i, (kind, x) in enumerate(sent):
        images = (x * 255).round().to(torch.uint8)
        flags = guard(images).flagged.tolist()
        alarm = any(watch.update(str(i), images.numpy(), flags))
        for name in (kind, "all") if kind in KINDS else (kind,):
            reported[name].append(alarm)
            flagged[name].extend(flags)
    return {k: {"reported": share(np.array(reported[k])), "flagged": share(np.array(flagged[k]))} for k in reported}


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
    cameras = ((f"a camera, {FRAMES} pictures of one scene", series(x[i], FRAMES, rng)) for i in rng.choice(len(x), CAMERAS, replace=False))
    body["senders"] |= ordinary(guard, cameras)
    watch, pixels, alarms = Campaigns(), (x * 255).round().to(torch.uint8).numpy(), []
    for i in range(BUSY):
        rows = rng.choice(len(x), MANY, replace=False)
        alarms.append(any(watch.update(str(i), pixels[rows], verdict.flagged.numpy()[rows].tolist())))
    body["senders"][f"{MANY:,} different pictures"] = {"reported": share(np.array(alarms)), "flagged": share(verdict.flagged.numpy())}
    asked.out.write_text(json.dumps(body, indent=1) + "\n")
    print(json.dumps(body, indent=1))


if __name__ == "__main__":
    main()
