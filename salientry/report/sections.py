"""Sections of a run's page: the attacks, the maps, who notices, controls and ablations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from ..rates import grey_levels, short
from ..results.choice import DEFENCES
from ..results.counts import counts
from ..results.names import MAPS, attack_title, detector_class, kind_title
from ..results.scores import Scores
from ..results.steps import curve
from . import attack_tables as attacks
from . import detection_tables as detection
from . import gallery, render
from . import part_tables as parts
from .page import Block, Maker, Section, folded, listed, nested, side_by_side
from .plots import Series, facets
from .words import said, setting_words

BOTH = ("published", "strict")
CHANCE = {"published": 0.5, "strict": 0.05}
MEASURES = {"published": "accuracy", "strict": "detection rate at 5 %"}
SAYS = {
    "published": "Float images, every adversarial counts, the head's own 0 as threshold; accuracy on half natural, half adversarial "
    "images, chance .5.",
    "strict": "8-bit images that fool; one threshold for each detector and seed, from natural calibration images, frozen before an "
    "attacked test image is scored; detection rate when at most 5 % of naturals are flagged, a bound with 95 % confidence (PAC).",
}


@dataclass(frozen=True)
class Shown:
    """A run as its page shows it.

    Attributes:
        scores: its records.
        make: makes blocks of its numbers.
        command: that made the records.
        verdicts: blocks of the claims.
    """

    scores: Scores
    make: Maker
    command: str
    verdicts: list[Block]

    @property
    def labels(self) -> list[str]:
        """Attacks that detectors are trained and tested on."""
        return self.scores.labels if self.scores.has_naturals else []


# --- attacks and maps ---------------------------------------------------------------------------------------------------


def attacks_section(r: Shown) -> Section:
    """The classifier under attack, sizes, what counts, settings."""
    m = r.make
    reduced = "; reduced settings (*): faster than the paper's, they must still fool 90 % of the images that were right" * bool(
        m.context.reduced
    )
    lead = Markup("Classifier accuracy on natural images {}{}.").format(m.num("accuracy"), reduced)
    tables = [m.table(attacks.ACCURACY), m.table(detection.FOOLS)]
    tables += [folded(m.table(t)) for t in (attacks.SIZES, attacks.ROUNDING, attacks.COUNTING)]
    rows = (
        (attack_title(a["label"]) + "*" * a["reduced"], ", ".join(_setting(a, k) for k in a["settings"]), "reduced" * a["reduced"])
        for a in r.scores.body["attacks"]
    )
    says = "Defaults are the paper's printed settings for small images; its DeepFool is printed with 2 iterations, which fool few images."
    tables.append(listed("Settings of the attacks that ran", ("attack", "settings", ""), rows, says, True))
    return Section("attacks", "What the attacks did", tables, lead, "classifier accuracy, attack success rate, size of the change")


def _setting(a: Mapping[str, Any], k: str) -> str:
    v, default = a["settings"][k], a["defaults"][k]
    return f"{setting_words(k)} {_value(v)}" + ("" if v == default else f" (default {_value(default)})")


def _value(v: Any) -> str:
    """A setting as people write it: ``8/255``, not ``0.0313725``."""
    if not isinstance(v, float):
        return str(v)
    levels = grey_levels(v) if 0 < v < 1 and f"{v:.4g}" != str(v) else ""
    return levels or f"{v:.4g}"


def maps_section(r: Shown) -> Section:
    """Pictures, whether the maps are maps, how far they move, what a map's detector reads."""
    m, s = r.make, r.scores
    blocks: list[Block | None] = [*gallery.figures(s)]
    blocks.append(m.table(attacks.sanity(m.values("map", "part", class_number=None))))
    learnt = [x for x in m.values("shift", "saliency") if x not in MAPS]
    for x in m.values("map", "saliency"):
        classes = {k: s.class_name(k) for k in m.values("map", "class_number", saliency=x)}
        blocks.append(m.table(attacks.by_class(x, classes), title=f"Class by class: {said('saliency', x)}", fold=True))
    for p in reversed(BOTH):
        for k, x in enumerate(learnt):
            blocks.append(m.table(attacks.moved(p, x, f"Table 1, {p}: {said('saliency', x)}"), fold=k > 0 or p == "published"))
    blocks += [folded(m.table(t)) for t in (attacks.OTHERS, attacks.PAIRS, attacks.GRADIENTS)]
    for x in learnt:
        if m.find("shift", protocol="strict", saliency=x, measure="Transplant, class held"):
            blocks.append(m.table(attacks.fixed(x, f"What moves the map: {said('saliency', x)}"), fold=True))
    blocks += [folded(m.table(attacks.VANISHING)), m.table(parts.MIXED_PARTS)]
    return Section("maps", "Where the classifier looked", blocks, holds="pictures, whether the maps are maps, how far they move")


# --- detection ----------------------------------------------------------------------------------------------------------


def detection_section(r: Shown, curves: Sequence[Block | None]) -> Section:
    """Detection rates, by which detector, trained on what; ``curves``: ROC and learning curves."""
    m, labels = r.make, r.labels
    trained = m.values("headline", "trained_on", protocol="strict")
    bests = [b for a in trained if (b := best_baseline(m, a))]
    black = any(
        n.value > 0.5 for a in trained if (n := m.find("detection", title="BlackShare", protocol="strict", trained_on=a, tested_on=a))
    )
    baselines = [*bests, "Margin2", *(["BlackShare"] if black else [])]
    blocks: list[Block | None] = [
        _guard(r),
        m.table(detection.combined(labels)),
        m.table(detection.headline(trained, baselines), fold=True),
    ]
    blocks += [folded(m.table(detection.GAINS)), folded(m.table(detection.SIGN))]
    for p in reversed(BOTH):
        drawn = figure2([("", m, labels)], p)
        grids = (m.table(detection.grid(t, p, labels), title=said("title", t)) for t in m.values("detection", "title", protocol=p))
        says = f"Rows: trained on; columns: tested on. {SAYS[p]}"
        blocks.append(None if drawn is None else Block(f"Figure 2, {p}", drawn, f"{SAYS[p]} {lines_say([m], p)}", fold=p == "published"))
        blocks.append(side_by_side(f"Every detector's grid, {p}", grids, says, fold=True))
    blocks += [folded(m.table(detection.pattern(labels))), m.table(detection.WORST)]
    blocks += [folded(m.table(t)) for t in (detection.UNDETECTED, detection.FALSE)]
    return Section("detection", "Who notices", [*blocks, *curves], SAYS["strict"], "detection rates by detector and attack")


def _guard(r: Shown) -> Block | None:
    """What the guard's detector does, in counts."""
    found = counts(r.scores)
    if found is None:
        return None
    words = "; ".join(found.lines())
    return Block("", Markup("<p>{}.</p>").format(words[:1].upper() + words[1:]))


def best_baseline(m: Maker, trained_on: str, protocol: str = "strict") -> str | None:
    """The baseline with the best AUROC on validation pairs of the same attack."""
    rows = [x for x in m.of("detection") if (x["group"], x["protocol"], x["trained_on"]) == ("baseline", protocol, trained_on)]
    rows = [x for x in rows if x["measure"] == "select-auroc"]
    return max(rows, key=lambda x: np.nan_to_num(x["value"], nan=-1.0))["title"] if rows else None


def figure2(runs: Sequence[tuple[str, Maker, list[str]]], protocol: str) -> Markup | None:
    """A panel for each defence and run (its title, maker and attacks), a line for each training attack, over the attacks tested on."""
    series = []
    for d in DEFENCES:
        for title, m, labels in runs:
            measure = "accuracy" if protocol == "published" else f"tpr@{m.context.levels[0]}"
            for a in labels:
                found = [m.find("detection", protocol=protocol, title=d, trained_on=a, tested_on=b, measure=measure) for b in labels]
                there = [(kind_title(b), n) for b, n in zip(labels, found, strict=True) if n]
                x, ns = [t for t, _ in there], [n for _, n in there]
                if ns:
                    ends = [n.lo for n in ns], [n.hi for n in ns]
                    series.append(Series(d + title, f"trained on {kind_title(a)}", x, [n.value for n in ns], *ends))
    y = (MEASURES[protocol], 0.4 if protocol == "published" else -0.02, 1.04)
    return facets(series, y=y, lines=[CHANCE[protocol]])


def lines_say(makers: Iterable[Maker], protocol: str) -> str:
    """What the lines and bars of Figure 2 are."""
    rows = (r for m in makers for r in m.of("detection") if r["protocol"] == protocol and r["title"] in DEFENCES)
    over = render.over(len(r["seeds"]) for r in rows)
    return f"A line for each attack trained on; mean of the detector seeds, 95 % intervals {over}; a grey line at chance."


# --- controls and ablations ---------------------------------------------------------------------------------------------


def controls_section(r: Shown, tried: Sequence[Block | None]) -> Section:
    """Harmless changes; input ablations; what each part adds; the guard's choice, the steps between the protocols, the sweep."""
    m, labels = r.make, r.labels
    there = m.values("detection", "trained_on", protocol="strict")
    trained, drawn = "combined" if "combined" in there else next(iter(there), None), sweep(m)
    blocks = [
        m.table(detection.controls(False, trained)),
        m.table(detection.controls(True, trained)),
        m.table(parts.INPUT_ABLATIONS, fold=True),
        *(m.table(parts.added(base, to, labels)) for base, to in (("whole", "everything else"), ("logits", "the logits alone"))),
        folded(m.table(parts.PART_ADDS)),
        m.table(parts.FOUND),
        _choice(r),
        folded(_protocol_steps(m)),
        nested(
            "Accuracy by the budget of FGSM",
            [
                None if drawn is None else Block("", drawn, "Published protocol, seed 0; points with 95 % intervals, fitted curves."),
                _sweep(m),
            ],
        ),
        m.table(parts.SWEPT),
        *map(folded, tried),
    ]
    return Section("controls", "Controls and ablations", blocks, holds="harmless changes, what each part adds, other settings")


def _choice(r: Shown) -> Block | None:
    if not r.scores.body["choice"]:
        return None
    c = r.scores.body["choice"][0]
    rows = (
        (
            detector_class(k) + " (chosen)" * (k == c["chosen"]),
            *(short(rates[a]) for a in r.labels),
            short(c["worst"][k]),
        )
        for k, rates in c["rates"].items()
    )
    says = (
        "Detection rate on an attack that was left out of training, on validation images; the best worst case is kept, and only then are "
        "calibration images read for it. No test image and no interval here: it is a choice, not a result."
    )
    return listed(
        "How the guard's detector was chosen", ("candidate", *(f"{attack_title(a)}, unseen" for a in r.labels), "worst"), rows, says, True
    )


def _protocol_steps(m: Maker) -> Block | None:
    lost = [
        f"{x['detector']} on {attack_title(x['tested_on'])}, line {x['step'] + 1}: {x['untrained']}"
        for x in m.of("protocol step")
        if x["untrained"]
    ]
    says = parts.PROTOCOL_STEPS.says + (f" Heads whose last mean loss is that of a coin: {'; '.join(dict.fromkeys(lost))}." if lost else "")
    return m.table(parts.PROTOCOL_STEPS, says=says)


def _sweep(m: Maker) -> Block | None:
    never = [x["detector"] for x in m.of("sweep fit") if x["beyond"]]
    return m.table(parts.SWEEP, says=parts.SWEEP.says + (f" Above all budgets that were tried: {', '.join(never)}." if never else ""))


def sweep(m: Maker) -> Markup | None:
    """Accuracy of each defence against FGSM's budget, and the fitted curves."""
    series, panel = [], "trained and tested at each budget"
    for d in m.values("sweep", "detector"):
        rows = [x for x in m.of("sweep") if x["detector"] == d and x["trained_at"] == x["tested_at"]]
        rows.sort(key=lambda x: x["tested_at"])
        eps = [x["tested_at"] for x in rows]
        values, lo, hi = ([x[c] for x in rows] for c in ("value", "lo", "hi"))
        series.append(Series(panel, said("detector", d), eps, values, lo, hi))
        for x in (x for x in m.of("sweep fit") if x["detector"] == d):
            line = np.geomspace(min(eps) / 1.5, max(eps) * 1.5, 60)
            series.append(Series(panel, said("detector", d), list(line), list(curve(line, x["value"], x["slope"])), thin=True))
    return facets(series, y=("accuracy", 0.35, 1.03), x="ε of FGSM (L∞)", log=True, lines=[0.5])
