"""The first screen: the result in words and one table, for someone who must decide whether to put such a detector in front of a model."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup

from ..inference import FEW, LEAST_SEEDS
from ..metrics import RESAMPLES
from ..results.names import attack_title
from ..results.paper_numbers import printed_text
from . import render
from .page import Block, Maker, listed
from .sections import Shown, best_baseline
from .spec import Number

READING = (
    "<b>SMD</b> sees the learnt map alone, <b>SPD</b> map times image, <b>ID</b> the image, <b>JSD</b> image and gradient, <b>ID+</b> the "
    "image without its smooth part at full resolution; <b>(trunk)</b>: the map is drawn from the classifier's own layers; "
    "<b>(replica)</b>: the head is trained as the paper trains, without batch norm, naturals and adversarials drawn independently. Grey "
    "rows are <b>baselines</b>: they need little or no training, and a detector that does not beat the best of them on the same attack has "
    "shown nothing of its own. Margin: gap of the two largest logits; Margin2: that and its square; SortedLogits: a small MLP on all "
    "logits; PooledActivations: one on the means of the classifier's own layers; ClassPresence: the class selector's doubt; SecondNet: the "
    "saliency encoder disagrees; BlackShare: share of pixels that are not black; HighFrequency: energy of the Laplacian.",
    "<b>An interval</b>, in square brackets, is a 95 % interval over images, given these nets: this classifier, this saliency model, these "
    f"detectors, this split. It comes from {RESAMPLES:,} resamples of natural images, the same draw for every seed and detector; a share "
    "that is the same on every image has a Clopper-Pearson bound, and a difference that all but fewer than "
    f"{FEW} images agree on has Gaffke's. It says "
    f"nothing of other seeds. Below {LEAST_SEEDS} detector seeds none are resampled: the value is their mean, each seed's own stands below "
    f"it where they differ, and a sentence quotes the least and the most of them. From {LEAST_SEEDS} seeds up the interval is Student's "
    "t interval over the seeds, on these images.",
    "<b>A verdict</b> on a claim of the paper holds or does not hold when the whole interval lies on one side of its boundary, after "
    "Holm's correction for all the questions of the list, and is else undecided. <b>Not at the paper's size</b>: the heads had fewer "
    "training steps than the paper's, or the nets are others; what does not hold then says nothing of the paper's own nets.",
)
DETECTORS = ("SPD", "SMD", "ID+", "fusion")
FOUR = ("SPD", "SMD", "ID", "JSD")
COMBINED = {"trained_on": "combined", "tested_on": "combined"}
NOTE = (
    "In brackets 95 % intervals over images, given these networks and this split; with two to four seeds each seed's value is given, and "
    "no interval speaks of other seeds: in a sentence two values are the least and the most of the seeds. Found: share of the 8-bit images "
    "that fool, at a threshold that flags at most {} of naturals, by a detector trained on all attacks; attacks that do not know the "
    "detector. More flags: on noise of the attacks' size that changes no prediction. An attacker who knows it: share of images that end "
    "wrong and unflagged."
)


def overview(r: Shown, counted: Iterable[str] = ()) -> list[Block | None]:
    """Sentences, a table, what it shows. ``counted``: what the guard's detector does, in words."""
    said = [*_black(r.make), *_classifier(r), *counted, *_paper(r.make), *_ours(r.make), *_fusion(r), *_attacker(r.make), *_failed(r)]
    body = Markup("<ul>{}</ul>").format(Markup("").join(Markup("<li>{}</li>").format(s) for s in said))
    table = _table(r)
    return [Block("What this run says", body), table, *([] if table else [Block("", Markup(""), _alone(r))])]


def how_to_read(r: Shown | None = None) -> Block:
    """How to read a page: detectors, intervals, verdicts; what the thresholds depend on, of one run."""
    more = []
    if r is not None and r.scores.has_naturals:
        n = len(r.scores.natural("calibration")["id"])
        more.append(
            f"Thresholds depend on {n:,} natural calibration images; the bound on the false-positive rate is for naturals like those."
        )
    words = Markup("").join(Markup('<p class="note">{}</p>').format(Markup(w)) for w in (*READING, *more))
    return Block("How to read this page", words, fold=True)


def _alone(r: Shown) -> str:
    return "" if r.scores.has_naturals else "These records hold the white box alone."


def _black(m: Maker) -> list[Markup]:
    """Where the share of black pixels finds most of an attack, nothing else may be said first."""
    attacks = m.values("headline", "trained_on", protocol="strict")
    level = m.context.levels[0]
    found = {
        a: m.find("detection", title="BlackShare", protocol="strict", trained_on=a, tested_on=a, measure=f"tpr@{level}") for a in attacks
    }
    if not any(n and n.value > 0.5 for n in found.values()):
        return []
    words = Markup(
        "<b>The share of black pixels alone</b> (BlackShare: no map, no net), trained and tested on the same attack, finds {}. A detector "
        "that is not better than this has learnt to see dirt on a black background."
    )
    return [words.format(_each((_title(a), n) for a, n in found.items()))]


def _title(a: str) -> str:
    return "all attacks, each on its share" if a == "combined" else attack_title(a)


def _each(numbers: Iterable[tuple[str, Number | None]], how: str = "range") -> Markup:
    return Markup(", ").join(Markup("{} {}").format(t, render.mark(n, how)) for t, n in numbers if n)


def _classifier(r: Shown) -> list[Markup]:
    m = r.make
    if not r.scores.has_naturals:
        return []
    words = Markup("The classifier has {} of {:,} test images right").format(
        m.num("accuracy", "percent"), len(r.scores.natural("test")["id"])
    )
    for protocol, stored in (("strict", "8 bits"), ("published", "float32")):
        attacks = r.labels or m.values("attack", "attack", protocol=protocol)
        left = [(attack_title(a), m.find("attack", attack=a, protocol=protocol, measure="accuracy")) for a in attacks]
        if any(number for _, number in left):
            more = Markup("; of all of them the attacks ({}) leave it right: {}").format(stored, _each(left, "bare,percent"))
            return [words + more + Markup(".")]
    return [words + Markup(".")]


def _paper(m: Maker) -> list[Markup]:
    """What the paper prints."""
    six = {x["detector"]: x for x in m.of("paper table") if (x["table"], x["source"]) == (6, "paper")}
    three = {(x["row"], x["cell"]): x for x in m.of("paper table") if (x["table"], x["source"]) == (3, "paper")}
    if not six:
        return []
    sizes = ", ".join(f"{d} {printed_text(six[d])}" for d in FOUR if d in six)
    out = [
        Markup(
            "<b>The paper says</b> that a detector which sees where the classifier looks (SPD, SMD) finds what a detector of the image "
            "(ID) does not: one detector for six attacks, accuracy {} (in brackets the standard deviation over runs)."
        ).format(sizes)
    ]
    white = [
        f"{k} {printed_text(three[k, 'detector'])}"
        for k in ("SPD before", "SMD before", "SPD after", "SMD after")
        if (k, "detector") in three
    ]
    return [*out, Markup("Its own white-box attack, share flagged before and after adversarial training: {}.").format(", ".join(white))]


def _ours(m: Maker) -> list[Markup]:
    """Tables 6 and 3, ours, the paper's own manner first."""
    out = []
    for scheme, words in ((" (replica)", "trained as the paper trains"), ("", "with batch norm and paired batches")):
        found = [(d, m.find("detection", title=d + scheme, protocol="published", measure="accuracy", **COMBINED)) for d in FOUR]
        if all(n for _, n in found):
            out.append(Markup("<b>Measured as the paper does</b>, {}, we find: {}.").format(words, _each(found)))
    for d in ("SPD", "SMD"):
        place = {"title": d, "step": 5}
        flagged, passed, true = (
            m.find("table 3", measure=k, part=p, **place)
            for k, p in (("detector", "as printed"), ("joint", "as printed"), ("joint", "true gradient"))
        )
        if flagged and passed and true:
            words = (
                "The paper's white-box attack on {}: {} flagged; of the images that were right {} end wrong and unflagged as printed, {} "
                "with the true gradient."
            )
            out.append(Markup(words).format(d, *(render.mark(n, "range") for n in (flagged, passed, true))))
    return out


def _fusion(r: Shown) -> list[Markup]:
    m = r.make
    gain = m.find("fusion", part="the map adds", tested_on="mean over attacks")
    logits = m.find("fusion", part="the map adds to the logits", tested_on="mean over attacks")
    out = []
    if gain:
        more = Markup(" Added to the logits alone they find {} more.").format(render.mark(logits, "range")) if logits else Markup("")
        words = Markup("The map's two detectors, added to a fusion of everything else, find {} more, mean over the attacks.{}")
        out.append(words.format(render.mark(gain, "range"), more))
    if r.scores.body["choice"]:
        chosen = {"IDPlus": "ID+", "Fused": "the fusion"}.get(r.scores.body["choice"][0]["chosen"], r.scores.body["choice"][0]["chosen"])
        out.append(
            Markup("The guard keeps <b>{}</b>: it has the best rate on its worst unseen attack, on validation images.").format(chosen)
        )
    return out


def _attacker(m: Maker) -> list[Markup]:
    """At the largest Linf budget."""
    budgets = m.values("white box", "budget", measure="success", norm="linf", attack="union")
    if not budgets:
        return [Markup("<b>An attacker who knows the detector</b>: not run (<code>salientry run whitebox dataset=…</code>).")]
    found = [(t, m.find("white box", title=t, attack="union", budget=budgets[-1])) for t in DETECTORS]
    alone = m.find("white box", title="classifier alone", budget=budgets[-1])
    words = Markup("<b>An attacker who knows the detector</b> and may change each value by {} gets past {}; past the classifier alone {}.")
    return [words.format(budgets[-1], _each(found), render.mark(alone))]


def _failed(r: Shown) -> list[Markup]:
    out = []
    for g in (g for g in r.scores.body["gates"] if not g["passed"]):
        after = "What depends on it was skipped." if g["action"] == "stop" else "It goes on, and its rows are marked."
        out.append(Markup("<b>The saliency model failed its sanity check.</b> {}. {}").format("; ".join(g["wrong"]), after))
    out += [Markup("<b>{} is missing:</b> everything that is computed from it is left out.").format(s) for s in r.scores.absent]
    return out


def _table(r: Shown) -> Block | None:
    m, level = r.make, r.make.context.levels[0]
    best = best_baseline(m, "combined")
    budgets = m.values("white box", "budget", measure="success", norm="linf", attack="union")
    rows = []
    for t in dict.fromkeys(t for t in (*DETECTORS[:3], best, DETECTORS[3]) if t):
        found = m.find("detection", title=t, protocol="strict", measure=f"tpr@{level}", **COMBINED)
        each = {
            a: n
            for a in r.labels
            if (n := m.find("detection", title=t, protocol="strict", trained_on="combined", tested_on=a, measure=f"tpr@{level}"))
        }
        worst = min(each, key=lambda a: each[a].value) if each else None
        least = Markup("{} {}").format(render.mark(each[worst]), attack_title(worst)) if worst else "–"
        place = {"title": t, "protocol": "strict", "trained_on": "combined"}
        cells = [m.num("detection", measure=k, **place) for k in (f"fpr@{level}", "noise/excess-flags-on-unchanged")]
        past = [m.num("white box", title=t, attack="union", budget=b) for b in (*budgets[1:2], *budgets[-1:])]
        if found or each:
            name = Markup("<b>{}</b>{}").format(t, " (best baseline)" if t == best else "")
            rows.append([name, render.mark(found, "seeds"), least, *cells, *past])
    head = ["detector", "found, all attacks", "of the attack of which least is found", "naturals flagged", "more flags on noise"]
    head += [f"attacker who knows it, {b}" for b in (*budgets[1:2], *budgets[-1:])]
    return listed("", head, rows, NOTE.format(render.percent(level) if level != "own" else "its own 0"))
