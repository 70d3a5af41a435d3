"""What a fitted guard says of itself, on one screen."""

from __future__ import annotations

from .calibration import CONFIDENCE
from .rates import percent, rate, share, short
from .store import JSON

SHORT, WIDTH = 40, 22  # characters of a name and of a share in a table


def guard_summary(facts: JSON, threshold: float, level: float, calibration: int) -> str:
    """Lines of text.

    Args:
        facts: what ``fit_guard`` recorded with the detector under ``fit``; None when a guard was made otherwise.
        threshold: of the guard.
        level: the false-positive rate that the threshold guarantees.
        calibration: images that it was calibrated on.
    """
    sure = f"({percent(CONFIDENCE)} sure)"
    of = "naturals that the classifier is right on" if facts and facts.get("promise") == "correct" else "naturals"
    like = f"if they are like the {calibration} it was calibrated on {sure}"
    bound = f"flags scores above {threshold:.4g}: at most {percent(level)} of {of}, {like}"
    if facts and (changed := facts.get("recalibrated")):
        bound += "\n" + recalibrated(changed)
    if not facts or "harmless" not in facts:
        return f"{bound}\nhow well it detects was not recorded when it was made"
    lines = [facts["classifier"], *second_words(facts.get("second")), f"looks at: {facts['detector']}{_choice(facts)}", bound]
    at = f"at the threshold {changed['measured_at']:.4g}, " if (changed := facts.get("recalibrated")) else ""
    lines.append(f"measured {at}on images that it was not trained, chosen or calibrated on:")
    right, wrong = facts["right"], facts["wrong"]
    lines.append(f"  naturals flagged {_counts(*facts['natural'])}: of right answers {_counts(*right)}, of wrong ones {_counts(*wrong)}")
    if worst := worst_class(facts["classes"]):
        lines.append(f"  most of class {worst[0]}: {_counts(*worst[1])}")
    lines += [
        _attacks(facts["attacks"]),
        f"  every attack on an image found: {_counts(*facts['worst_case'])}",
        _harmless(facts["harmless"]),
    ]
    lines += [f"left out: {text}" for text in facts["left_out"]]
    return "\n".join(lines)


def second_words(second: JSON) -> list[str]:
    """A line on the second network, and one where something is wrong with it; none where there is none.

    Args:
        second: what :func:`~salientry.experiment.agreement.agreement` counted, how it was trained, and whether it is asked.
    """
    if not second:
        return []
    how, left = second["trained"], ""
    if how:
        left = f" ({how['left_out']:,} others are the guard's own)" if how["left_out"] else ""
    of = f" ({how['network']}), trained on {how['learnt']} of {how['images']:,} images{left}" if how else ""
    line = (
        f"the second network{of}: of the images given here right on {_counts(*second['right'])}, of those that the classifier is wrong on "
        f"{_counts(*second['mistakes'])}; the classifier's answer on {_counts(*second['agrees'])}"
    )
    unasked = "" if second["asked"] else "; what was chosen does not ask it"
    return [line + unasked, *([f"the second network: {second['doubt']}"] if second["doubt"] else [])]


def recalibrated(changed: JSON) -> str:
    """One line: what another calibration changed.

    Args:
        changed: what :func:`~salientry.recalibrate` recorded.
    """
    (old, new), (before, after), n = changed["threshold"], changed["flagged"], changed["calibration"][1]
    first, last = map(percent, changed["level"])
    levels = "" if first == last else f"; level {first} before, {last} now"
    return (
        f"recalibrated on {n} images: threshold {old:.4g} before, {new:.4g} now{levels}; of these images {before} were flagged before, "
        f"{after} now"
    )


def worst_class(classes: dict[str, list[int]]) -> tuple[str, list[int]] | None:
    """The class whose naturals are flagged most often, and (flagged, of so many)."""
    return max(classes.items(), key=lambda kv: kv[1][0] / kv[1][1], default=None)


def _choice(facts: JSON) -> str:
    """How it came to be chosen."""
    if not (tried := facts["candidates"]):
        return ""
    mean = short(next(c for c in tried if c["chosen"])["mean"])
    return f" (of {len(tried)}; found {mean} in trials on images left out of its training)"


def _attacks(attacks: list[JSON]) -> str:
    """A row an attack, a column a way of saving; ``*``: not in its training."""
    encodings = list(dict.fromkeys(a["encoding"] for a in attacks))
    learnt = {a["encoding"]: a["encoding_learnt"] for a in attacks}
    titles = [e.replace(" of quality", "") or "no loss" for e in encodings]
    heads = [t + ("" if learnt[e] else "*") for t, e in zip(titles, encodings, strict=True)]
    lines = [f"  {'attacks found (* not in training)':<{SHORT}}" + "".join(f"{h:>{WIDTH}}" for h in heads)]
    for title in dict.fromkeys(a["attack"] for a in attacks):
        mine = {a["encoding"]: a for a in attacks if a["attack"] == title}
        name = _name(title, next(iter(mine.values()))["learnt"])
        cells = [_counts(*mine[e]["found"]) if e in mine else "" for e in encodings]
        lines.append(f"  {name:<{SHORT}}" + "".join(f"{c:>{WIDTH}}" for c in cells))
    return "\n".join(lines)


def _harmless(changes: list[JSON]) -> str:
    """Flags on harmless changes, the most extra first."""
    lines = [f"  {'harmless changes flagged (* unseen)':<{SHORT}}{'changed':>{WIDTH}}{'the same, unchanged':>{WIDTH}}"]
    ordered = sorted(changes, key=lambda c: (c["unchanged"] - c["flagged"][0]) / max(c["flagged"][1], 1))
    for c in ordered[:6]:
        name = _name(c["change"], c["learnt"])
        lines.append(f"  {name:<{SHORT}}{_counts(*c['flagged']):>{WIDTH}}{_counts(c['unchanged'], c['flagged'][1]):>{WIDTH}}")
    if len(ordered) > 6:
        lines.append(f"  {len(ordered) - 6} other changes add less")
    return "\n".join(lines)


def _name(title: str, learnt: bool) -> str:
    """A name in a table; ``*``: not in its training."""
    star = "" if learnt else "*"
    room = SHORT - len(star)
    return (title if len(title) <= room else f"{title[: room - 3]}...") + star


def _counts(count: int, of: int) -> str:
    return rate(share(count, of), ends=False)
