"""The images that detectors are judged on: naturals, attacked, harmlessly changed, controls; made once, whoever is judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..attacks import BIM, FGSM, MIM, PGD, PGDL2, CarliniWagner, DeepFool, MarginDescent, Patch, as_attack
from ..controls import MatchedNoise, Null, RoundTrip, Transplant
from ..errors import UsageError
from ..experiment.guard_settings import divided
from ..experiment.image_sets import EvidenceVariant
from ..experiment.parts import TRIED_ENCODINGS, Parts, title_of
from ..experiment.scoring import natural_set, scores_of, set_name
from ..harmless import TRAINED
from ..protocol import GUARD
from ..rows import Rows
from ..runner.step import Found, Handle
from ..types import Roles
from .table import ScoreTable

SHARES = Roles(train=20, detector_train=25, validation=0, calibration=30, test=25)  # in hundredths, whoever is judged
MOST_TRIED = 1_000  # test images; more of them calibrate
CONTROLS = {
    "another image's perturbation": Transplant(),
    "noise as large": MatchedNoise(),
    "nothing": Null(),
    "tanh round trip": RoundTrip(),
}
OF_ATTACK = ("another image's perturbation", "noise as large")  # of the first attack
UNKNOWN, UNSEEN, SEEN = -1, 0, 1


def judging_attacks(shape: tuple[int, ...], classes: int) -> dict[str, Any]:
    """What detectors are judged by: one step and many, three budgets, two norms, the boundary and far beyond it, a patch.

    Args:
        shape: (C, H, W); grey images have budgets of .3, .2 and .1 in place of 8, 4 and 2/255.
        classes: K; DeepFool, which differentiates the logits of many classes, is left out above 100.
    """
    grey, values = shape[0] == 1, shape[0] * shape[1] * shape[2]
    sizes = {".3": 0.3, ".2": 0.2, ".1": 0.1} if grey else {f"{k}/255": k / 255 for k in (8, 4, 2)}
    (most, eps), radius = next(iter(sizes.items())), (1.5 if grey else 0.5) * (values / 3072) ** 0.5
    cw = CarliniWagner(search_steps=1, steps=60, lr=0.01, initial_const=1.0)
    found: dict[str, Any] = {f"FGSM {most}": FGSM(eps)}
    found |= {f"PGD {name}": PGD(eps, steps=20) for name, eps in sizes.items()}
    found |= {
        f"PGD {most}, targeted": PGD(eps, steps=20, target="random"),
        f"PGD L2 {radius:.3g}": PGDL2(radius, steps=20),
        "C&W": cw,
        "C&W, confidence 3": replace(cw, confidence=3.0),
        "C&W, confidence 10": replace(cw, confidence=10.0),
        "margin descent, confidence 0 to 8": MarginDescent(highest=8.0),
        "patch": Patch(),
    }
    return found if classes > 100 else found | {"DeepFool": DeepFool()}


def judging_shares(count: int, level: float) -> Roles:
    """How many images show what naturals of each class look like, train what is trained on attacks, calibrate, and are attacked.

    It does not depend on who is judged: all are judged on the same images.

    Raises:
        UsageError: when too few would calibrate.
    """
    return divided(count, level, SHARES, MOST_TRIED)


@dataclass(frozen=True)
class Contestant:
    """A detector that is judged.

    Attributes:
        name: in the verdict.
        settings: of it.
        fitted: the fitted detector.
        saliency: who draws the maps that it reads; None: it reads none.
        trained: whether it was trained here, so that it is known what it has seen.
    """

    name: str
    settings: Any
    fitted: Handle
    saliency: Handle | None
    trained: bool


@dataclass(frozen=True)
class Bench:
    """All image sets, as handles.

    Attributes:
        parts: naturals by role, the attacks that detectors are trained on, harmless changes.
        tried: the attacks that they are judged by, by name.
    """

    parts: Parts
    tried: dict[str, Any]

    def attacked(self) -> dict[tuple[str, str], Handle]:
        """Attacked test images by attack and encoding."""
        found = {}
        for name, attack in self.tried.items():
            found[name, ""] = self.parts.image_sets.attacked(attack, "test", GUARD)
            for encoding in TRIED_ENCODINGS if self.parts.pictures else ():
                found[name, encoding.title] = self.parts.image_sets.attacked(attack, "test", GUARD.encoded(encoding))
        return found

    def changed(self) -> dict[tuple[str, str], Handle]:
        """Test images that should not be flagged, by set and name."""
        sets, (first, base) = self.parts.image_sets, next(iter(self.tried.items()))
        found = {("harmless", c.title): sets.harmless(c, "test", GUARD) for c in self.parts.tried_changes.values()}
        for name, control in CONTROLS.items():
            found["control", f"{name} ({first})" if name in OF_ATTACK else name] = sets.control(control, base, GUARD)
        return found

    def images(self) -> list[Handle]:
        """All that detectors score."""
        natural = self.parts.image_sets.natural
        return [natural["calibration"], natural["test"], *self.attacked().values(), *self.changed().values()]

    def scored(self, c: Contestant) -> Handle:
        """The scores of all image sets by one detector."""
        sets, variant = self.parts.image_sets, EvidenceVariant(c.saliency)
        seen = [sets.with_evidence(c.settings, h, "test" if i else "calibration", variant) for i, h in enumerate(self.images())]
        return sets.scores(c.settings, c.fitted, seen)

    def table(self, c: Contestant, found: Found) -> ScoreTable:
        """Its scores as a table."""
        run, natural = self.parts.run, self.parts.image_sets.natural
        known = SEEN if c.trained else UNKNOWN
        label = run.get(natural["test"]).column("label")
        pieces = [
            _rows(c, run.get(natural[r]), run.get(natural[r]).column("label"), found, set="natural", split=r, name=natural_set(r))
            for r in ("calibration", "test")
        ]
        learnt = {_kind(a) for a in self.parts.attacks}
        for (attack, encoding), h in self.attacked().items():
            seen = known if known == UNKNOWN or (_kind(self.tried[attack]) in learnt and not encoding) else UNSEEN
            pieces.append(_rows(c, run.get(h), label, found, set="attacked", attack=attack, encoding=encoding, seen=seen))
        trained = {self.parts.tried_changes[n].title for n in TRAINED if n in self.parts.tried_changes}
        for (kind, name), h in self.changed().items():
            seen = known if known == UNKNOWN or ("copies" in c.settings.needs and name in trained) else UNSEEN
            pieces.append(_rows(c, run.get(h), label, found, set=kind, attack=name, seen=seen))
        return pieces[0].joined(*pieces[1:])


def _kind(attack: Any) -> type:
    """What an attack is, but for its size: steps along the gradient's sign are of one kind, however many and with whatever memory."""
    return PGD if isinstance(attack, FGSM | BIM | MIM) else type(attack)


def _rows(c: Contestant, rows: Rows, label: NDArray[Any], found: Found, *, name: str = "", **words: Any) -> ScoreTable:
    """One image set."""
    columns: dict[str, Any] = {n: np.full(len(rows), v) for n, v in ({"detector": c.name, "attack": "", "split": "test"} | words).items()}
    columns |= {"image": np.asarray(rows.ids), "label": label, "predicted": rows.column("predicted")}
    columns["score"] = scores_of(found, name or set_name(rows.facts))
    if words["set"] == "attacked":
        columns["in_budget"] = rows.column("in_budget")
    return ScoreTable.of(columns, c.name)


def called(attacks: dict[str, Any] | Sequence[Any]) -> dict[str, Any]:
    """Attacks by name; those of other libraries as ours.

    Raises:
        UsageError: when two have one name, or one is no attack.
    """
    if isinstance(attacks, dict):
        return {n: as_attack(a) for n, a in attacks.items()}
    found = {title_of(a): a for a in map(as_attack, attacks)}
    if len(found) < len(attacks):
        raise UsageError("two attacks have one name; give them names: attacks={'weak': PGD(2 / 255), 'strong': PGD(8 / 255)}")
    return found


__all__ = ["Bench", "Contestant", "called", "judging_attacks", "judging_shares"]
