"""A guard's report: everything that is known of how good it is, with intervals, as JSON and as a model card in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .calibration import CONFIDENCE, allowed, smallest_sample
from .guard_cost import cost_text
from .inference import LEVEL
from .rates import escaped_table, percent, plain, rate, share, short
from .store import JSON
from .summary import recalibrated

SCHEMA = 1
FEWEST = 20  # images of an attack, from which it may be named as the one that is found least or most
ONE_IN = 10_000  # images, of which one is attacked, in the sentence on base rates
LIMITS = (
    "It is an alarm against attacks made for the bare classifier. Whoever knows the guard can attack classifier and guard together, and is "
    "not stopped by it; the numbers here say nothing of such an attacker.",
    "Attacks that are not in the table were not tried. An attack that changes few images' answers was tried on few.",
    "The false-positive rate is promised for images like those that it was calibrated on: not for another camera, another mixture of "
    "classes, or another way of saving or resizing. For those fit it again.",
    "An image that is not flagged is not thereby classified right: how many wrong answers on ordinary images are flagged stands "
    "under false alarms.",
    "Two promises that each hold with 95 % confidence (of two guards, or of two thresholds) hold together with 90 % only, unless each was "
    "calibrated for half the doubt.",
    "It does not mend the classifier's answer. What is to happen to a flagged image, somebody has to decide.",
)


@dataclass(frozen=True)
class Known:
    """What is known of a guard.

    Attributes:
        facts: what ``fit_guard`` recorded with the detector under ``fit``; None or empty when the guard was made otherwise.
        threshold: of the guard; flagged means a score above it.
        level: the false-positive rate that was promised.
        calibration: images that it was calibrated on.
        above: how many of these have a score above the threshold.
        shape: channels, height, width, classes.
        second: whether it asks a second network.
        resize: how pictures of another size are brought to it; None: they are refused.
    """

    facts: JSON
    threshold: float
    level: float
    calibration: int
    above: int
    shape: tuple[int, int, int, int]
    second: bool = False
    resize: str | None = None


def guard_card(known: Known, class_names: Sequence[str] = (), command: str = "", cost: JSON = None) -> JSON:
    """The report as JSON; every share with its count, n and interval.

    Args:
        known: of the guard.
        class_names: of the classifier's classes, by number; empty: they have none.
        command: that checks pictures with this guard.
        cost: what :func:`~salientry.guard_cost.guard_cost` gave; None: it was not measured.
    """
    channels, height, width, classes = known.shape
    card: JSON = {
        "schema": SCHEMA,
        "images": {"channels": channels, "height": height, "width": width, "resize": known.resize},
        "classes": list(class_names) or classes,
        "second_network": known.second,
        "threshold": known.threshold,
        "promise": _promise(known),
        "recalibrated": (known.facts or {}).get("recalibrated"),
        "interval": f"{percent(LEVEL)}, exact (Clopper and Pearson), of images, given this guard; too narrow if images come in groups",
        "measured": None,
        "cost": cost,
        "limits": [*LIMITS, base_rate(known.level)],
        "command": command,
    }
    facts = known.facts
    if not facts or "harmless" not in facts:
        return card
    card["measured"] = {
        "classifier": {"accuracy": share(*facts["accuracy"]), "before": facts["classifier"]},
        "second_network": _second(facts.get("second")),
        "detector": {"looks_at": facts["detector"], "why": _why(facts["candidates"]), "candidates": _candidates(facts["candidates"])},
        "false_positives": {
            **{name: share(*facts[key]) for name, key in (("all", "natural"), ("right", "right"), ("wrong", "wrong"))},
            "classes": {_named(k, class_names): share(*counts) for k, counts in facts["classes"].items()},
        },
        "attacks": [a | {"found": share(*a["found"]), "fooled": share(*a["fooled"])} for a in facts["attacks"]],
        "every_attack_found": share(*facts["worst_case"]),
        "harmless": [c | {"flagged": share(*c["flagged"]), "unchanged": share(c["unchanged"], c["flagged"][1])} for c in facts["harmless"]],
        "left_out": list(facts["left_out"]),
    }
    return card


def _second(counted: JSON) -> JSON:
    """What was counted of the second network, on all images that were given to the fit; None where there is none."""
    return counted and counted | {key: share(*counted[key]) for key in ("right", "agrees", "mistakes")}


def _promise(known: Known) -> JSON:
    """The false-positive rate in words, and what more images would buy."""
    correct = bool(known.facts) and known.facts.get("promise") == "correct"
    of = "ordinary images that the classifier is right on" if correct else "ordinary images"
    words = (
        f"with {percent(CONFIDENCE)} confidence at most {percent(known.level)} of {of} are flagged, if they are like the "
        f"{known.calibration:,} that it was calibrated on"
    )
    if correct:
        words += "; in front of the classifier nobody can see whether an image is one of them, so this cannot be checked for a single image"
    return {
        "level": known.level,
        "confidence": CONFIDENCE,
        "of": "correct" if correct else "all",
        "words": words,
        "calibration": share(known.above, known.calibration),
        "more_images": more_images(known.calibration, known.level),
    }


def more_images(count: int, level: float) -> str:
    """What more calibration images would buy: the share of them that may lie above the threshold comes closer to the level.

    Args:
        count: calibration images now.
        level: the false-positive rate that is promised.
    """
    if count < smallest_sample(level):
        return f"{count:,} calibration images are too few to promise {percent(level)}, which takes {smallest_sample(level):,}."
    now, twice, ten = (f"{k:,} of {n:,} ({percent(k / n)})" for n in (count, 2 * count, 10 * count) for k in [allowed(n, level)])
    return (
        f"To promise {percent(level)}, the threshold may lie below {now} of the calibration images; from twice as many images it might "
        f"lie below {twice}, from ten times as many below {ten}. A lower threshold finds more attacks under the same promise."
    )


def base_rate(level: float) -> str:
    """How few flags are attacks where attacks are rare, in the best case that each is found."""
    natural = round(level * (ONE_IN - 1))
    return (
        f"Most flags are false where attacks are rare. If one image in {ONE_IN:,} is attacked and {percent(level)} of the others are "
        f"flagged, then of {natural + 1:,} flagged images at most one is an attack, even if every attack is found."
    )


def _why(candidates: list[JSON]) -> str:
    """Why the detector was chosen."""
    if not candidates:
        return "it was the only one that was tried"
    mine, dropped = next(c for c in candidates if c["chosen"]), sum(c["dropped"] for c in candidates)
    if mine["dropped"]:
        return f"each of the {len(candidates)} that were tried flags a harmless change too often, and it does so least"
    others = f" ({dropped} with too many flags on a harmless change, which are not chosen)" if dropped else ""
    return (
        f"of {len(candidates)} that were tried{others} it finds most on images that were left out, "
        "of kinds of attack that were left out too and of kinds that were not, "
        "or nearly as much as the best one with fewer passes of the networks"
    )


def _candidates(candidates: list[JSON]) -> list[JSON]:
    """Those that were tried; counts and intervals are of images that it was not trained on, but was chosen by."""
    return [
        c
        | {
            "cells": {name: share(round(rate * n), int(n)) for name, (rate, n) in c["cells"].items()},
            "harmless": {name: {"extra": extra, "low": low, "of": int(n)} for name, (extra, low, n) in c["harmless"].items()},
        }
        for c in candidates
    ]


def _named(number: str, class_names: Sequence[str]) -> str:
    return class_names[int(number)] if int(number) < len(class_names) else number


# --- Markdown ----------------------------------------------------------------------------------------------------


def card_text(card: JSON) -> str:
    """The report as a model card: Markdown in plain words.

    Args:
        card: what :func:`guard_card` gave.
    """
    images, promise, measured = card["images"], card["promise"], card["measured"]
    size = f"{images['width']} x {images['height']} {_colour(images['channels'])}"
    k = card["classes"] if isinstance(card["classes"], int) else len(card["classes"])
    other = "are refused" if images["resize"] is None else f"are brought to it ({images['resize']})"
    found = ["# Guard", ""]
    found += [
        f"An alarm in front of one image classifier ({size}, {k} classes; pictures of another size {other}). It flags images whose answer "
        f"should not be trusted because they may have been attacked: a score above {card['threshold']:.4g}.",
        *(["It also asks a second network."] if card["second_network"] else []),
        "",
        f"Promise: {promise['words']}.",
        "",
    ]
    if changed := card["recalibrated"]:
        then = f"What was measured below was measured at the threshold {changed['measured_at']:.4g}."
        found += [f"{_sentence(recalibrated(changed))} {then}", ""]
    found += ["In short:", "", *(f"- {text}" for text in _short(measured)), ""] if measured else []
    found += ["To check pictures:", "", f"    {card['command']}", ""] if card["command"] else []
    found += [promise["more_images"], ""]
    found += [_sentence("; ".join(cost_text(cost))), ""] if (cost := card.get("cost")) else []
    found += _measured_text(measured) if measured else ["How well it detects was not recorded when it was made.", ""]
    found += ["## What it does not do", "", *(f"- {text}" for text in card["limits"]), ""]
    return "\n".join(found)


def _sentence(words: str) -> str:
    """With a capital and a full stop; names inside keep their letters."""
    return f"{words[0].upper()}{words[1:]}."


def _short(measured: JSON) -> list[str]:
    """The numbers to read first."""
    found = [f"Images on which every attack that fools the classifier is found: {rate(measured['every_attack_found'])}."]
    shown = sorted((a for a in measured["attacks"] if a["found"]["of"] >= FEWEST), key=lambda a: a["found"]["share"])
    for word, a in (("least", shown[0]), ("most", shown[-1])) if shown else ():
        saved = f", saved as {a['encoding']}" if a["encoding"] else ""
        found.append(f"Of the attacks it finds {word} of {a['attack']}{saved}: {rate(a['found'])}.")
    return [*found, f"Ordinary images flagged: {rate(measured['false_positives']['all'])}."]


def _measured_text(measured: JSON) -> list[str]:
    """What was measured."""
    wrong, detector, classifier = measured["false_positives"], measured["detector"], measured["classifier"]
    found = [
        "All numbers below are of images that the guard was not trained, chosen or calibrated on, unless it is said. In brackets: how many "
        f"of how many, and the {percent(LEVEL)} interval of the share.",
        "",
        "## The classifier",
        "",
        f"It is right on {rate(classifier['accuracy'])} of the images.",
        "",
        *_second_text(measured["second_network"]),
        "## What the guard looks at",
        "",
        f"It looks at {detector['looks_at']}: {detector['why']}.",
        "",
        *_candidates_table(detector["candidates"]),
        "## Attacks that are found",
        "",
        "Of the images with which an attack fools the classifier, the share that is flagged. An asterisk marks attacks and ways of saving "
        "that the guard was not trained on.",
        "",
        *_attacks_table(measured["attacks"]),
        "## False alarms",
        "",
        *escaped_table(
            ["ordinary images", "flagged"],
            [
                ["all", rate(wrong["all"])],
                ["that the classifier is right on", rate(wrong["right"])],
                ["that it is wrong on", rate(wrong["wrong"])],
                *([f"class {name}", rate(s)] for name, s in wrong["classes"].items()),
            ],
        ),
        "Harmless changes of ordinary images that leave the answer as it was, beside the same images unchanged:",
        "",
        *_harmless_table(measured["harmless"]),
    ]
    left = [f"- {plain(text)}" for text in measured["left_out"]]
    return [*found, "## What was left out", "", *(left or ["Nothing."]), ""]


def _second_text(second: JSON) -> list[str]:
    """A section on the second network, if there is one."""
    if not second:
        return []
    how, asked = second["trained"], "" if second["asked"] else " What was chosen does not ask it."
    left = f"; {how['left_out']:,} more were the guard's own and were left out" if how and how["left_out"] else ""
    came = f"trained for this guard ({how['network']}), on {how['learnt']} of {how['images']:,} images{left}" if how else "given"
    return [
        "## The second network",
        "",
        f"It was {came}.{asked} Of all images that the guard was fitted, calibrated and measured on it is right on "
        f"{rate(second['right'])}, of those that the classifier is wrong on {rate(second['mistakes'])}; it gives the classifier's answer "
        f"on {rate(second['agrees'])}.",
        "",
        *([f"Something is wrong with it: {plain(second['doubt'])}", ""] if second["doubt"] else []),
    ]


def _candidates_table(candidates: list[JSON]) -> list[str]:
    """Those that were tried."""
    if not candidates:
        return []
    rows = [
        [
            f"{c['name']}{' (chosen)' if c['chosen'] else ' (dropped)' if c['dropped'] else ''}",
            str(c["passes"]),
            short(c["mean"]),
            short(c["worst"]),
            short(c["excess"]),
        ]
        for c in candidates
    ]
    heads = ["tried", "passes an image", "found on average", "found of the worst", "extra flags on a harmless change, at least"]
    return [
        "On images left out of its training in turn, over kinds of attack that were left out too and kinds that were not:",
        "",
        *escaped_table(heads, rows),
    ]


def _attacks_table(attacks: list[JSON]) -> list[str]:
    """A row an attack, a column a way of saving."""
    learnt = {a["encoding"]: a["encoding_learnt"] for a in attacks}
    heads = ["attack", "fools", *((e or "saved without loss") + ("" if known else "*") for e, known in learnt.items())]
    rows = []
    for title in dict.fromkeys(a["attack"] for a in attacks):
        mine = {a["encoding"]: a for a in attacks if a["attack"] == title}
        first = next(iter(mine.values()))
        cells = [rate(mine[e]["found"]) if e in mine else "" for e in learnt]
        rows.append([title + ("" if first["learnt"] else "*"), rate(first["fooled"]), *cells])
    return escaped_table(heads, rows)


def _harmless_table(changes: list[JSON]) -> list[str]:
    """Kinds that were trained on first."""
    rows = [
        [c["change"] + ("" if c["learnt"] else "*"), rate(c["flagged"]), rate(c["unchanged"])]
        for c in sorted(changes, key=lambda c: not c["learnt"])
    ]
    return escaped_table(["change (* not in training)", "flagged when changed", "flagged unchanged"], rows)


def _colour(channels: int) -> str:
    return {1: "grey", 3: "colour"}.get(channels, f"of {channels} channels")


__all__ = ["Known", "base_rate", "card_text", "guard_card", "more_images"]
