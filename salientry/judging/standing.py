"""Where a detector stands beside the others, in a sentence; and beside those that a leaderboard holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ..rates import percent, short
from ..renamed import JUDGED
from ..store import JSON, read_json
from .words import most

STANDINGS = Path(__file__).parent / "leaderboard.json"  # what `python -m benchmarks.leaderboard` leaves of its records
SAME = ("classifier", "images", "attacks")


def standing(name: str, verdicts: dict[str, JSON], facts: JSON) -> list[str]:
    """A sentence with its place among all that were judged, one with that on the leaderboard, and one that says who is not there."""
    level = next(iter(verdicts[name]["thresholds"]))
    found = []
    if len(verdicts) > 1:
        found.append(f"of {len(verdicts)} side by side: {_places(name, verdicts, level)}")
    stored = facts.get("leaderboard") or {}
    if stored.get("detectors"):
        others = {n: v for n, v in stored["detectors"].items() if n not in verdicts and level in v["thresholds"]}
        together = {name: verdicts[name]} | others
        about = f"on the leaderboard of {stored['name']}, whose classifier, images and attacks are these"
        found.append(f"{about}, of {len(together)}: {_places(name, together, level)}")
    elif stored:
        found.append(f"the leaderboard of {stored['name']} is of {stored['differs']}")
    return [*found, *([facts["beside"]] if facts.get("beside") else [])]


def _places(name: str, verdicts: dict[str, JSON], level: str) -> str:
    def mean(v: JSON) -> float | None:
        found = v["summary"][level]["attacks"]["mean"]
        return None if found is None else float(found)

    def every(v: JSON) -> float | None:
        found = v["worst_case"][level]["share"]
        return None if found is None else float(found)

    def calm(v: JSON) -> float | None:
        worst = most(v["harmless"])
        return None if worst is None else -float(worst["extra"]["share"])

    rate = f"by mean detection rate at {percent(level)}"
    first = max(verdicts, key=lambda n: -1.0 if (m := mean(verdicts[n])) is None else m)
    said = [(rate, mean), ("by images on which every attack is detected", every), ("by harmless changes that it does not flag", calm)]
    places = [(words, place(name, verdicts, of)) for words, of in said]
    texts = [f"place {k} {words}" for words, k in places if k is not None]
    if not texts:
        return "no attack fools the classifier on enough images"
    if places[0][1] not in (None, 1):
        texts[0] += f" (first: {first}, {short(mean(verdicts[first]))})"
    return ", ".join(texts)


def place(name: str, verdicts: dict[str, JSON], of: Callable[[JSON], float | None]) -> int | None:
    """1 + how many have more; None where it has no value."""
    mine = of(verdicts[name])
    if mine is None:
        return None
    return 1 + sum((value := of(v)) is not None and value > mine for v in verdicts.values())


def on_leaderboard(name: str, facts: JSON, file: Path = STANDINGS) -> JSON:
    """The leaderboard's detectors of a classifier at hand, where they were judged on the same images and attacks.

    Returns:
        ``name`` and ``detectors``; in their place ``differs``, what it is of, where it cannot be compared; nothing where there is none.
    """
    body = _stored(name, file)
    if not body:
        return {}
    if all(body[k] == facts[k] for k in SAME):
        return {"name": name, "detectors": body["detectors"]}
    images = body["images"]
    if images != facts["images"]:
        how = f": --images {body['given']} compares with it" if body["given"] else ""
        return {"name": name, "differs": f"{images['calibration']} calibration and {images['test']} test images{how}"}
    return {"name": name, "differs": "another training of the classifier, or other attacks, and cannot be compared"}


def images_on_leaderboard(name: str, file: Path = STANDINGS) -> int | None:
    """How many images of a classifier at hand the leaderboard's record used; None where it has none."""
    return _stored(name, file).get("given") or None


def _stored(name: str, file: Path) -> JSON:
    return read_json(file).get(name, {}) if file.is_file() else {}


def shortened(records: Mapping[str, JSON]) -> JSON:
    """Of the records of leaderboards what places follow from."""
    found: JSON = {}
    for name, body in records.items():
        _, given, rest = body["command"].partition(" --images ")
        found[name] = {k: body[k] for k in SAME} | {"given": int(rest.split()[0]) if given else 0}
        found[name]["detectors"] = {JUDGED.get(n, n): _short(v) for n, v in body["detectors"].items()}
    return found


def _short(v: JSON) -> JSON:
    """What a place is of."""
    worst, levels = most(v["harmless"]), list(v["thresholds"])
    return {
        "thresholds": v["thresholds"],
        "summary": {level: {"attacks": {"mean": v["summary"][level]["attacks"]["mean"]}} for level in levels},
        "worst_case": {level: {"share": v["worst_case"][level]["share"]} for level in levels},
        "harmless": [{"change": worst["change"], "extra": {"share": worst["extra"]["share"]}}] if worst else [],
    }


__all__ = ["images_on_leaderboard", "on_leaderboard", "place", "shortened", "standing"]
