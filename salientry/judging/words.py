"""What a verdict says, in sentences and in tables."""

from __future__ import annotations

from dataclasses import dataclass

from ..rates import NONE, between, given, grey_levels, percent, rate, short
from ..store import JSON
from .verdict import FEWEST

SLOPES = {"gradient": "{} steps along its gradient", "surrogate": "{} steps along the gradient of its surrogate"}
MEANS = SLOPES | {f"{how} and queries": f"{words}, and by queries" for how, words in SLOPES.items()}
MEANS["queries"] = "{} queries an image, as it has no gradient that says where its score rises"


@dataclass(frozen=True)
class TitledTable:
    """A table with a title.

    Attributes:
        title: of it.
        says: what it shows.
        heads: of the columns.
        rows: of cells.
    """

    title: str
    says: str
    heads: list[str]
    rows: list[list[str]]


def extra(change: JSON) -> str:
    """``+.012 [-.003, .031]``."""
    found = change["extra"]
    if found["share"] is None:
        return NONE
    return between(found["share"], found["low"], found["high"], sign=True)


def most(changes: list[JSON]) -> JSON | None:
    """The change with the most extra flags."""
    there = [c for c in changes if c["extra"]["share"] is not None]
    return max(there, key=lambda c: c["extra"]["share"], default=None)


# --- ten lines ---------------------------------------------------------------------------------------------------


def said(v: JSON) -> list[str]:
    """The verdict on one detector, a line a question."""
    first, *others = v["thresholds"]
    natural, s = v["natural"][first], v["summary"][first]
    tried = sum(not a["encoding"] for a in v["attacks"])
    lines = [
        f"threshold {v['thresholds'][first]:.4g}: with {percent(v['confidence'])} confidence at most {percent(first)} false alarms, from "
        f"{v['calibration']:,} naturals",
        f"false alarms on other naturals: {rate(natural['all'])}; where the classifier is right {short(natural['right']['share'])}, "
        f"where it is wrong {short(natural['wrong']['share'])}",
        f"detection rate at {percent(first)}: {_kinds(s, tried)}",
    ]
    lines += [f"detection rate at {percent(level)}: {_kinds(v['summary'][level], tried)}" for level in others]
    lines.append(f"images on which every attack is detected: {rate(v['worst_case'][first])}")
    for what, some in (("harmless changes", v["harmless"]), ("controls", v["controls"])):
        if (worst := most(some)) is not None:
            lines.append(f"{what} ({len(some)}): at most {extra(worst)} extra flags ({worst['change']})")
    return [*lines, *_adaptive(v.get("adaptive")), *_cost(v.get("cost")), *(f"note: {text}" for text in v["notes"])]


def _attacks(count: int, tried: int) -> str:
    """``12 attacks``; ``1 of 2 attacks, the other fools the classifier on fewer than 20 images``."""
    if count >= tried:
        return f"{count} attack{'s' * (count > 1)}"
    rest = "the other fools" if tried - count == 1 else "the others fool"
    return f"{count} of {tried} attacks ({rest} the classifier on fewer than {FEWEST} images)"


def _kinds(s: JSON, tried: int) -> str:
    plain, unseen, encoded = (s[k] for k in ("attacks", "unseen", "encoded"))
    if not plain["of"]:
        return "no attack fools the classifier on enough images"
    text = f"mean {mean_of(plain)} over {_attacks(plain['of'], tried)}, least {short(plain['least'])} ({plain['worst']})"
    text += f"; not trained on {mean_of(unseen)} ({unseen['of']})" if unseen["of"] else ""
    return text + (f"; saved as JPEG or the like {mean_of(encoded)}" if encoded["of"] else "")


def mean_of(found: JSON) -> str:
    """A mean of detection rates, with its interval where the record has one."""
    return between(found["mean"], found.get("low"), found.get("high"))


def _adaptive(found: JSON) -> list[str]:
    if found is None:
        return []
    if not found["evaluated"]:
        return [f"an attacker who knows it: not evaluated, {found['why']}"]
    a, largest, known = found["attacked"], found["attacked"]["budgets"][-1], found["weak"]
    n, ratio = a["images"], a["median_l2"]["ratio"]
    return [
        f"an attacker who knows it, within {budget(largest['eps'])}: gets past both on "
        f"{between(largest['passed'] / n, *a['shares'][-1])} of {n} images (fools the classifier alone on {short(largest['fooled'] / n)})"
        + ("" if ratio is None else f", at {ratio:.2f} times the L2 distance")
        + f"; by {_means(found)}; the same attacks get past a weak detector on {known['budgets'][-1]['passed']} of {known['images']}"
    ]


def _means(found: JSON) -> str:
    """How it was attacked."""
    return MEANS[found["how"]].format(f"{found['attacked']['steps']:,}")


def budget(eps: float) -> str:
    """``8/255``, or ``.3``."""
    return grey_levels(eps) or given(eps)


def _cost(found: JSON) -> list[str]:
    if found is None:
        return []
    one, many = found["1"], found["64"]
    return [
        f"cost: {one['times']:.1f} times the classifier alone for one image ({one['with_detector']:.3g} ms), {many['times']:.1f} times "
        f"for {many['of']} at once"
    ]


def side_by_side(verdicts: dict[str, JSON], own: list[str]) -> list[str]:
    """All of them in a table."""
    heads, rows = _compared(verdicts, own)
    width = max(len(r[0]) for r in rows) + 2
    lines = [f"  {heads[0]:<{width}}" + "".join(f"{h:>13}" for h in heads[1:])]
    return ["side by side:", *lines, *(f"  {r[0]:<{width}}" + "".join(f"{c:>13}" for c in r[1:]) for r in rows)]


def _compared(verdicts: dict[str, JSON], own: list[str]) -> tuple[list[str], list[list[str]]]:
    """A line a detector, the best mean first."""
    level = next(iter(next(iter(verdicts.values()))["thresholds"]))
    rows = []
    for name, v in sorted(verdicts.items(), key=lambda kv: -(kv[1]["summary"][level]["attacks"]["mean"] or 0)):
        s, worst = v["summary"][level], most(v["harmless"])
        cells = [short(s[k]["mean"]) for k in ("attacks",)] + [short(s["attacks"]["least"]), short(s["encoded"]["mean"])]
        cells += [short(v["worst_case"][level]["share"]), short(v["natural"][level]["all"]["share"])]
        cells += [short(worst["extra"]["share"]) if worst else NONE]
        cost = v["cost"]["1"] if v.get("cost") else None
        cells += [_past(v.get("adaptive")), *((f"{cost['times']:.1f} x", f"{cost['with_detector']:.3g}") if cost else (NONE, NONE))]
        rows.append([name if name in own else f"({name})", *cells])
    return ["(baselines)", "mean", "least", "encoded", "every attack", "false alarms", "harmless", "gets past", "cost", "ms"], rows


def best(verdicts: dict[str, JSON], cost: float | None = None, latency: float | None = None, extra_flags: float = 0.05) -> str:
    """Which detector detects most on average, at the first threshold, of those that cost no more and do not flag harmless changes.

    Args:
        verdicts: of all.
        cost: times the classifier's own time, for one image; None: any.
        latency: milliseconds of classifier and detector, for one image; None: any.
        extra_flags: on any harmless change, over the same images unchanged: the lower end of the interval may be so high.
    """
    level, there = next(iter(next(iter(verdicts.values()))["thresholds"])), {n: v for n, v in verdicts.items() if v.get("cost")}
    most_times, most_ms = (float("inf") if limit is None else limit for limit in (cost, latency))
    cheap = {n: v for n, v in there.items() if v["cost"]["1"]["times"] <= most_times and v["cost"]["1"]["with_detector"] <= most_ms}
    calm = {n: v for n, v in cheap.items() if (worst := most(v["harmless"])) is None or worst["extra"]["low"] <= extra_flags}
    rates = {n: v["summary"][level]["attacks"]["mean"] for n, v in calm.items()}
    known = {n: r for n, r in rates.items() if r is not None}
    limits = "" if cost is None else f"at most {cost:g} times the classifier's time and "
    limits += "" if latency is None else f"at most {latency:g} ms an image and "
    limits += f"no harmless change flagged more than {short(extra_flags)} above naturals"
    if not known:
        return f"no detector of {len(verdicts)} has {limits} ({len(cheap)} are cheap enough)"
    name = max(known, key=lambda n: known[n])
    return f"best of {len(verdicts)} at {percent(level)} with {limits}: {name}, mean detection rate {short(known[name])}"


def _past(found: JSON) -> str:
    """Share of the images on which an attacker who knows the detector gets past it, within the largest budget."""
    if found is None or not found["evaluated"]:
        return NONE
    return short(found["attacked"]["budgets"][-1]["passed"] / found["attacked"]["images"])


# --- tables ------------------------------------------------------------------------------------------------------


def sections(verdicts: dict[str, JSON], facts: JSON) -> list[TitledTable]:
    """Everything as tables."""
    names = [*verdicts]
    first = next(iter(verdicts.values()))
    level = next(iter(first["thresholds"]))
    found = []
    if len(names) > 1:
        heads, rows = _compared(verdicts, list(facts["own"]))
        says = (
            f"At {percent(level)}: mean and least detection rate over attacks saved without loss, mean over attacks saved in other ways, "
            "share of images on which every attack is detected, false alarms on naturals, most extra flags on a harmless change, share of "
            "images on which an attacker who knows the detector gets past it within the largest budget (a dash: not evaluated), time of "
            "one image over that of the classifier alone, and in milliseconds, of classifier and detector. Baselines in brackets."
        )
        found.append(TitledTable("Side by side", says, ["detector", *heads[1:]], rows))
    found += [_by_attack(name, v) for name, v in verdicts.items() if name in facts["own"]]
    found.append(_false_alarms(verdicts, level))
    for title, key in (("Harmless changes", "harmless"), ("Controls", "controls")):
        if first[key]:
            says = (
                f"Extra flags at {percent(level)} on images whose answer stays, over the same images unchanged; an asterisk: the detector "
                "was trained on this change."
            )
            found.append(TitledTable(title, says, ["change", *names], _changes(verdicts, key)))
    knowing = {n: v["adaptive"] for n, v in verdicts.items() if v.get("adaptive")}
    return [*found, *(_knowing(n, a) for n, a in knowing.items() if a["evaluated"])]


def _by_attack(name: str, v: JSON) -> TitledTable:
    levels = [*v["thresholds"]]
    rows = []
    for a in v["attacks"]:
        called = a["attack"] + (f", {a['encoding']}" if a["encoding"] else "") + ("*" if a["seen"] == 1 else "")
        area = NONE if a["auroc"] is None else between(*a["auroc"])
        rows.append([called, rate(a["success"], False), *(rate(a["detected"][level]) for level in levels), area])
    says = (
        "Of the images that the classifier has right: how many the attack fools it with; of those: detection rate at each false-positive "
        "rate, and AUROC against naturals. Intervals over images, given this detector and this classifier."
    )
    says += " An asterisk: an attack that the detector was trained on." if any(a["seen"] >= 0 for a in v["attacks"]) else ""
    heads = ["attack", "success rate", *(f"detected at {percent(level)}" for level in levels), "AUROC"]
    return TitledTable(f"Detection by attack: {name}", says, heads, rows)


def _false_alarms(verdicts: dict[str, JSON], level: str) -> TitledTable:
    kinds = {"all": "all naturals", "right": "answered right", "wrong": "answered wrong"}
    rows = [[words, *(rate(v["natural"][level][k]) for v in verdicts.values())] for k, words in kinds.items()]
    classes = next(iter(verdicts.values()))["natural"][level]["classes"]
    for k in classes:
        rows.append([f"class {k}", *(rate(v["natural"][level]["classes"][k]) for v in verdicts.values())])
    return TitledTable(f"False alarms at {percent(level)}", "Share of test naturals that is flagged.", ["naturals", *verdicts], rows)


def _changes(verdicts: dict[str, JSON], key: str) -> list[list[str]]:
    by_name = [{c["change"]: c for c in v[key]} for v in verdicts.values()]
    names = list(dict.fromkeys(n for some in by_name for n in some))
    return [[n, *((extra(s[n]) + ("*" if s[n]["seen"] == 1 else "")) if n in s else "" for s in by_name)] for n in names]


def _knowing(name: str, a: JSON) -> TitledTable:
    n = a["attacked"]["images"]
    rows = [
        [budget(b["eps"]), f"{short(b['fooled'] / n)} ({b['fooled']} of {n})", between(b["passed"] / n, lo, hi)]
        for b, (lo, hi) in zip(a["attacked"]["budgets"], a["attacked"]["shares"], strict=True)
    ]
    m, w = a["attacked"]["median_l2"], a["weak"]
    says = (
        f"{n} images that the classifier has right, attacked by {_means(a)}. On a detector that is known to be weak the same attacks get "
        f"past on {w['budgets'][-1]['passed']} of {w['images']}. What they find is a lower bound: another attack may get more past."
    )
    if m["ratio"] is not None:
        says += f" Median L2 distance {m['bare']:.3g} for the classifier alone, {m['guarded']:.3g} past both: {m['ratio']:.2f} times."
    return TitledTable(
        f"An attacker who knows it: {name}", says, ["Linf budget", "fools the classifier alone", "fools it and is not flagged"], rows
    )


__all__ = ["TitledTable", "best", "budget", "mean_of", "most", "said", "sections", "side_by_side"]
