"""What must be known before anything is believed: checks that failed, scores that are missing, a detector that sees dirt."""

from __future__ import annotations

from markupsafe import Markup

from ..results.names import attack_title
from .attacker import quoted
from .page import Maker
from .sections import Shown
from .words import said


def failed(r: Shown) -> list[Markup]:
    """A check that failed, scores that are missing: what must be known before anything is believed."""
    out = []
    for g in (g for g in r.scores.body["gates"] if not g["passed"]):
        after = "What depends on it was skipped." if g["action"] == "stop" else "It goes on, and its rows are marked."
        out.append(Markup("<b>The saliency model failed its sanity check.</b> {}. {}").format("; ".join(g["wrong"]), after))
    return out + [Markup("<b>{} is missing:</b> everything that is computed from it is left out.").format(s) for s in r.scores.absent]


def why(r: Shown) -> str:
    """Why there are no detection rates."""
    if r.scores.absent:
        return "their files of scores are missing"
    return "no detector was trained" if not r.scores.trained else "too few adversarials count, or a mandatory control is missing"


def attacked(r: Shown) -> list[Markup]:
    """The classifier under attack, where no detector was tried."""
    for protocol, stored in (("strict", "8 bits"), ("published", "float32")):
        left = [
            (attack_title(a), r.make.find("attack", attack=a, protocol=protocol, measure="accuracy"))
            for a in r.make.values("attack", "attack", protocol=protocol)
        ]
        if any(n for _, n in left):
            return [Markup("<b>Classifier accuracy</b> under attack ({}): {}.").format(stored, quoted(left))]
    return []


def black(make: Maker, level: str) -> list[Markup]:
    """Where the share of black pixels finds most of the attacked images, that must be said first."""
    place = {"title": "BlackShare", "protocol": "strict", "measure": f"tpr@{level}"}
    attacks = make.values("headline", "trained_on", protocol="strict")
    found = [(said("trained_on", x), make.find("detection", trained_on=x, tested_on=x, **place)) for x in attacks]
    if not any(n and n.value > 0.5 for _, n in found):
        return []
    words = (
        "The share of black pixels alone, without a map and without a net, trained and tested on the same attack, has a detection rate of "
    )
    return [Markup(words + "{}: a detector that is not better has learnt to see dirt on a black background.").format(quoted(found))]
