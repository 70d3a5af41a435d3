"""The paper's white box: its Table 3, the same attacks with the true gradient beside it, and its adversarial training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..metrics import difference, rate
from ..store import JSON
from .numbers import Ledger
from .records import ImageSet, Records
from .white_box import METHODS, budget, cost, disbelieved, draws, evaded, of_kind, radius, same_images, title

PASSES = 5  # the paper's T
UNIT = 1e-9


@dataclass(frozen=True)
class Line:
    """One defence under one attack after T passes: ids, published protocol, the head's own 0.

    Attributes:
        defence: title.
        variant: which reading of the attack.
        eps: its budget, as shown.
        passes: T.
        numbers: ``classifier``: share of images that the classifier still has right; ``detector``: share of attacked images that are
            flagged; ``natural``: share of naturals that are not; ``balanced``: the mean of the two; ``joint``: share of the images that
            the classifier had right which end wrong and unflagged; ``linf``: median Linf of the perturbation.
    """

    defence: str
    variant: str
    eps: str
    passes: int
    numbers: dict[str, str]


@dataclass(frozen=True)
class Round:
    """A round of adversarial training: ids over the seeds, and fingerprints of the weights."""

    number: int
    numbers: dict[str, str]
    weights: list[str]


@dataclass(frozen=True)
class Training:
    """Adversarial training of one defence against one attack.

    Attributes:
        defence: title.
        against: in words.
        rounds: each attacked by the attack that it is trained on; empty for strict ones.
        afresh: of the detector before and after all rounds, at the strict threshold: success of each attack with another loss, more
            steps and other random numbers, of any of them, and the cost ratio.
        weights: fingerprints of the last round, by seed.
        count: how many rounds there are.
        wrong: why attacks on the last detector are not believed; empty where they are, or were not put to the proof.
    """

    defence: str
    against: str
    rounds: list[Round]
    afresh: dict[str, dict[str, str | None]]
    weights: list[str]
    count: int
    wrong: list[str]

    @property
    def last(self) -> Round | None:
        """After all rounds; None where that was not looked at."""
        return next((r for r in self.rounds if r.number == self.count), None)


@dataclass(frozen=True)
class Algorithms:
    """All of it."""

    lines: list[Line]
    training: list[Training]
    images: int

    def printed(self, defence: str, when: str) -> dict[str, str]:
        """Numbers of what the paper's Table 3 prints: ``before`` adversarial training, or ``after`` the last round against its attack."""
        if when == "before":
            row = self.line(defence, "as printed")
            return row.numbers if row else {}
        found = next((t for t in self.training if (t.defence, t.against) == (defence, "the paper's attack")), None)
        return found.last.numbers if found and found.last else {}

    def line(self, defence: str, variant: str, passes: int = PASSES) -> Line | None:
        """One line; of several budgets the largest."""
        found = [row for row in self.lines if (row.defence, row.variant, row.passes) == (defence, variant, passes)]
        return found[0] if found else None


def variant(facts: JSON) -> str:
    """Which reading of the paper's attacks this is, in words."""
    s, true = facts["settings"], facts["settings"]["gradient"] == "image"
    if facts["method"] == "SingleStep":
        return "Eq. 3: one step on the classifier" if s["on"] == "classifier" else "Eq. 4: one step on the detector"
    name = "Eq. 5" if facts["method"] == "Simultaneous" else ""
    if true:
        whole = s["step_size"] is not None and abs(s["step_size"] - s["eps"]) < UNIT
        return (f"{name}, true gradient" if name else "true gradient") + (", step eps" if whole else "")
    if name or not s["project"]:
        return name or "as printed"
    return "as printed, projected" + ("" if s["step_size"] is None else ", step eps/4")


def algorithms(records: Records, ledger: Ledger) -> Algorithms | None:
    """None where the records hold none of the paper's white-box attacks."""
    sets = of_kind(records, "passes")
    plain = [s for s in sets if s.facts["hardened"] is None]
    grouped: dict[tuple[Any, ...], list[ImageSet]] = {}
    for s in plain:
        grouped.setdefault((s.facts["detector"], s.facts["attack"]), []).append(s)
    if not sets:
        return None
    order = {v: i for i, v in enumerate(dict.fromkeys(variant(s.facts) for s in plain))}
    found = []
    for them in grouped.values():
        marks = sorted(int(c.split("@")[1]) for c in them[0].columns if c.startswith("score@"))
        found += [_line(ledger, sorted(them, key=lambda s: s.facts["seed"]), t) for t in marks if len(marks) > 1 or t == 1]
    found.sort(key=lambda row: (order[row.variant], -radius(row.eps)[1]))
    return Algorithms(found, _trainings(records, ledger, sets), len(sets[0]))


def _line(ledger: Ledger, seeds: list[ImageSet], t: int) -> Line:
    f = seeds[0].facts
    head = f"white box/table 3/{variant(f)}/{budget(f)}/{title(f)}/T={t}"
    return Line(title(f), variant(f), budget(f), t, _numbers(ledger, head, seeds, t))


def _numbers(ledger: Ledger, head: str, seeds: list[ImageSet], t: int) -> dict[str, str]:
    s, keys = seeds[0], [s.key for s in seeds]
    flagged = [s.columns[f"score@{t}"] > 0 for s in seeds]
    clean = [s.columns["natural_score"] <= 0 for s in seeds]
    still = [s.columns[f"predicted@{t}"] == s.columns["label"] for s in seeds]
    right = s.columns["right"].astype(bool)
    both = [(~k & ~f)[right] for k, f in zip(still, flagged, strict=True)]
    balanced = [(a.astype(float) + b) / 2 for a, b in zip(flagged, clean, strict=True)]
    values: dict[str, list[Any]] = {"classifier": still, "detector": flagged, "natural": clean, "balanced": balanced, "joint": both}
    ids = {}
    for k, v in values.items():
        of = s.ids[right] if k == "joint" else s.ids
        ids[k] = ledger.add(f"{head}/{k}", rate(draws(s), of, v), "published", keys)
    size = float(np.median([np.median(s.columns[f"linf@{t}"]) for s in seeds]))
    return ids | {"linf": ledger.add(f"{head}/linf", size, "published", keys, len(s))}


# --- adversarial training ---------------------------------------------------------------------------------------


def _trainings(records: Records, ledger: Ledger, sets: list[ImageSet]) -> list[Training]:
    told = records.hardened if records.beside is None else records.beside.hardened
    modes = dict.fromkeys((h["detector"], h["hardened"]) for h in told)
    return [_training(records, ledger, sets, [h for h in told if (h["detector"], h["hardened"]) == m]) for m in modes]


def _training(records: Records, ledger: Ledger, sets: list[ImageSet], told: list[JSON]) -> Training:
    detector, against, protocol = told[0]["detector"], told[0]["hardened"], told[0]["protocol"]
    head = f"white box/hardened/{title(told[0])}/{against}"
    mine = [s for s in sets if s.facts["detector"] == detector and s.facts["hardened"] == against]
    last = max(h["round"] for h in told)
    seeds = sorted({h["seed"] for h in told})
    rounds = []
    if mine:
        same = mine[0].facts["attack"]
        before = [s for s in sets if s.facts["detector"] == detector and s.facts["hardened"] is None and s.facts["attack"] == same]
        for k in range(last + 1):
            here = [s for s in mine if s.facts["round"] == k] if k else [s for s in before if s.facts["seed"] in seeds]
            here.sort(key=lambda s: s.facts["seed"])
            if here:
                marks = [h["weights"] for h in sorted(told, key=lambda h: h["seed"]) if h["round"] == k]
                rounds.append(Round(k, _numbers(ledger, f"{head}/round {k}", here, PASSES), marks))
    attacked = [s for s in of_kind(records, "white box") if s.facts["detector"] == detector and s.facts["afresh"]]
    when = {
        "before": [s for s in attacked if s.facts["hardened"] is None and s.facts["detector_protocol"] == protocol],
        "after": [s for s in attacked if s.facts["hardened"] == against and s.facts["round"] == last],
    }
    eps = {str(s.facts["attack"]) for s in when["after"]}
    when["before"] = [s for s in when["before"] if str(s.facts["attack"]) in eps and s.facts["form"] == "paired"]
    afresh = {k: _afresh(records, ledger, f"{head}/{k}", them, seeds) for k, them in when.items()}
    marks = [h["weights"] for h in sorted(told, key=lambda h: h["seed"]) if h["round"] == last]
    hardest = [s for s in of_kind(records, "white box") if s.facts["hardened"] == against and s.facts["detector"] == detector]
    tests = [s for s in of_kind(records, "binarization") if s.facts["hardened"] == against and s.facts["detector"] == detector]
    wrong = disbelieved(hardest, tests)
    return Training(title(told[0]), against, rounds, afresh, marks, last, wrong)


def _afresh(records: Records, ledger: Ledger, head: str, sets: list[ImageSet], seeds: list[int]) -> dict[str, str | None]:
    out: dict[str, str | None] = {}

    def by(method: str) -> list[ImageSet]:
        return sorted((s for s in sets if s.facts["method"] == method and s.facts["seed"] in seeds), key=lambda s: s.facts["seed"])

    found = {m: them for m in METHODS if (them := by(m))}
    whole = [k for k in seeds if all(k in [s.facts["seed"] for s in them] for them in found.values())]
    found = {m: [s for s in them if s.facts["seed"] in whole] for m, them in found.items()} if whole else {}
    values = {m: [evaded(s, str(s.facts["level"])) for s in them] for m, them in found.items()}
    for m, them in found.items():
        out[m] = ledger.add(f"{head}/{m}", rate(draws(them[0]), them[0].ids, values[m]), "strict", [s.key for s in them])
    if found:
        first, keys = next(iter(found.values())), [s.key for them in found.values() for s in them]
        union = [np.any(runs, 0) for runs in zip(*values.values(), strict=True)]
        out["any"] = ledger.add(f"{head}/any", rate(draws(first[0]), first[0].ids, union), "strict", keys)
    mine = [s for s in sets if s.facts["seed"] == min(seeds)]
    if mine:
        out["cost"] = cost(ledger, f"{head}/cost", mine, same_images(records, mine[0]), str(mine[0].facts["level"]))
    return out


def change(ledger: Ledger, id: str, first: list[ImageSet], second: list[ImageSet], what: tuple[str, int, int]) -> str | None:
    """The number of a paired difference, first minus second: ``what`` is ``detector`` or ``joint`` and the two numbers of passes."""
    pairs = [(a, b) for a in first for b in second if a.facts["seed"] == b.facts["seed"]]
    if not pairs:
        return None
    kind, t, u = what
    right = pairs[0][0].columns["right"].astype(bool) if kind == "joint" else np.ones(len(pairs[0][0]), bool)
    runs = [(_value(a, kind, t)[right], _value(b, kind, u)[right]) for a, b in pairs]
    s = pairs[0][0]
    return ledger.add(id, difference(draws(s), s.ids[right], runs), "published", sorted({s.key for p in pairs for s in p}))


def _value(s: ImageSet, kind: str, t: int) -> Any:
    flagged = s.columns[f"score@{t}"] > 0
    return flagged if kind == "detector" else ~flagged & (s.columns[f"predicted@{t}"] != s.columns["label"])
