"""The lists of methods in README.md and docs/methods.md: names, words and settings from the code, papers from here."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping
from typing import Any

from salientry import ATTACKS, CLASSIFIERS, CONTROLS, DETECTORS, SALIENCY
from salientry.adaptive import ADAPTIVE
from salientry.harmless import HARMLESS
from salientry.judging import PUBLISHED, QUICK
from salientry.judging.baselines import ASKING
from salientry.keys import name_of

PAPER = "https://openreview.net/forum?id=HJe5_6VKwS"  # the one that Salientry implements
ARXIV = "https://arxiv.org/abs/"
PAPERS: dict[str, dict[str, str]] = {  # of each dictionary of methods: by name; what is not here is ours, or as old as the hills
    "attacks": {
        "fgsm": f"{ARXIV}1412.6572",
        "bim": f"{ARXIV}1607.02533",
        "mim": f"{ARXIV}1710.06081",
        "deepfool": f"{ARXIV}1511.04599",
        "cw": f"{ARXIV}1608.04644",
        "jsma": f"{ARXIV}1511.07528",
        "pgd": f"{ARXIV}1706.06083",
        "pgd_l2": f"{ARXIV}1706.06083",
        "patch": f"{ARXIV}1712.09665",
        "apgd": f"{ARXIV}2003.01690",
        "apgd_l2": f"{ARXIV}2003.01690",
        "fab": f"{ARXIV}1907.02044",
        "square": f"{ARXIV}1912.00049",
        "square_l2": f"{ARXIV}1912.00049",
        "autoattack": f"{ARXIV}2003.01690",
        "autoattack_l2": f"{ARXIV}2003.01690",
        "ddn": f"{ARXIV}1811.09600",
        "fmn": f"{ARXIV}2102.12827",
        "spatial": f"{ARXIV}1712.02779",
        "hop_skip_jump": f"{ARXIV}1904.02144",
    },
    "attacks on the guard": {
        "alternating": PAPER,
        "simultaneous": f"{ARXIV}1702.04267",
        "selective": f"{ARXIV}2106.15023",
        "orthogonal": f"{ARXIV}2106.15023",
        "joint": f"{ARXIV}1705.07263",
        "minimal": f"{ARXIV}1811.09600",
        "hop_skip_jump": f"{ARXIV}1904.02144",
        "square_search": f"{ARXIV}1912.00049",
    },
    "detectors": {
        "spd": PAPER,
        "smd": PAPER,
        "id": f"{ARXIV}1704.04960",
        "jsd": f"{ARXIV}1803.08773",
        "consistency": f"{ARXIV}1704.01155",
    },
    "baselines": {
        "mahalanobis": f"{ARXIV}1807.03888",
        "msp": f"{ARXIV}1610.02136",
        "energy": f"{ARXIV}2010.03759",
        "feature_squeezing": f"{ARXIV}1704.01155",
        "lid": f"{ARXIV}1801.02613",
        "kernel_density": f"{ARXIV}1703.00410",
        "deep_knn": f"{ARXIV}1803.04765",
        "counter_attack": f"{ARXIV}2103.07633",
        "fourier_spectrum": f"{ARXIV}2103.03000",
        "pasa": f"{ARXIV}2404.10789",
        "p_values": f"{ARXIV}2007.15147",
    },
    "saliency maps": {
        "unet": f"{ARXIV}1705.07857",
        "gradient": f"{ARXIV}1312.6034",
        "guided": f"{ARXIV}1412.6806",
        "enhanced_guided": f"{ARXIV}1908.08413",
        "optimised_mask": f"{ARXIV}1704.03296",
    },
}
IN_README = (
    "fgsm",
    "bim",
    "mim",
    "deepfool",
    "cw",
    "jsma",
    "pgd",
    "apgd",
    "square",
    "autoattack",
    "patch",
)  # attacks; of all there is no room
WORDS = {"hop_skip_jump": "HopSkipJump", "square_search": "Square", "fused": "fusion of scores"}  # where a method says nothing better


ON_COMMANDS = ("attacks", "detectors", "baselines", "classifiers")  # groups of which commands take a name


def groups() -> dict[str, dict[str, Any]]:
    """Every method by the group that it stands in here and its name in the code."""
    detectors: dict[str, Any] = dict(DETECTORS)
    baselines = {k: v for k, v in detectors.items() if v.group == "baseline"}
    changes = {type(change).__name__: type(change) for change in HARMLESS.values()}
    return {
        "attacks": dict(ATTACKS),
        "attacks on the guard": dict(ADAPTIVE),
        "detectors": {k: v for k, v in detectors.items() if k not in baselines},
        "baselines": baselines,
        "saliency maps": dict(SALIENCY),
        "harmless changes": changes,
        "controls": dict(CONTROLS),
        "classifiers": dict(CLASSIFIERS),
    }


def shown(group: str, name: str, kind: Any) -> str:
    """A method's name for people."""
    if group == "attacks":
        return str(kind().title)
    if group == "harmless changes":
        return name if name.isupper() or name == "WebP" else name.lower()
    if group in ("detectors", "baselines") and name not in WORDS:
        detector = kind()
        return str(getattr(detector, "words", getattr(detector, "title", name_of(detector))))
    return WORDS.get(name, name.replace("_", " "))


def short() -> str:
    """README's list: names, with their papers; of attacks the best known, of baselines those that have a paper."""
    lines = []
    for group in ("attacks", "attacks on the guard", "detectors", "baselines", "harmless changes"):
        of = groups()[group]
        papers = PAPERS.get(group, {})
        kept = {"attacks": IN_README, "baselines": papers}.get(group, of)
        named = {k: v for k, v in of.items() if k in kept}
        words = [f"[{shown(group, k, v)}]({papers[k]})" if k in papers else shown(group, k, v) for k, v in named.items()]
        rest = "of our own" if group == "baselines" else "more"
        words += [f"[{len(of) - len(named)} {rest}](docs/methods.md#{group})"] if len(of) > len(named) else []
        lines.append(f"- **{group}**: {', '.join(words)}")
    return "\n".join(lines)


def whole() -> str:
    """docs/methods.md's tables: name with its paper, how commands and code call it, what it is in the code's own words, settings."""
    parts = []
    for group, of in groups().items():
        head = ["name", *(["on the command line"] if group in ON_COMMANDS else []), "in the code", "what it is", "settings"]
        parts += [f"## {group[0].upper()}{group[1:]}", "", f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
        for name, kind in of.items():
            paper = PAPERS.get(group, {}).get(name)
            called = shown(group, name, kind)
            cells = [f"[{called}]({paper})" if paper else called, *([f"`{name}`"] if group in ON_COMMANDS else [])]
            cells += [f"`{_place(kind)}`", _first_sentence(kind), _settings(kind)]
            parts.append(f"| {' | '.join(c.replace('|', chr(92) + '|') for c in cells)} |")
        parts += ["", *(_judged() if group == "baselines" else [])]
    return "\n".join(parts[:-1])


def _judged() -> list[str]:
    """What a verdict and the leaderboard call the detectors that others are judged beside."""
    says = "What `salientry judge` and the [leaderboard](leaderboard.md) call the detectors beside which others are judged."
    lines = ["### Names on the leaderboard", "", says]
    lines += ["", "| there | here | settings |", "| --- | --- | --- |"]
    names = {kind: (group, name) for group in ("detectors", "baselines") for name, kind in groups()[group].items()}
    for called, detector in (QUICK | PUBLISHED | ASKING).items():
        group, name = names[type(detector)]
        lines.append(f"| {called} | [{shown(group, name, type(detector))}](#{group}) | {_unlike(detector) or 'defaults'} |")
    return [*lines, ""]


def _unlike(detector: Any) -> str:
    """A detector's settings that are not the defaults; of a fusion its members, each with its own."""
    found = []
    for f in dataclasses.fields(detector):
        value = getattr(detector, f.name)
        if value == f.default:
            continue
        several = value if isinstance(value, tuple) else (value,)
        words = (_named(v) if dataclasses.is_dataclass(v) else str(v) for v in several)
        found.append(f"`{f.name}` {', '.join(words)}")
    return ", ".join(found)


def _named(detector: Any) -> str:
    return type(detector).__name__ + (f" ({more})" if (more := _unlike(detector)) else "")


def unknown() -> set[str]:
    """Methods that have a paper or words here and are not in the code."""
    there: Mapping[str, dict[str, Any]] = groups()
    lost = {f"{group}: {name}" for group, of in PAPERS.items() for name in of if name not in there[group]}
    return lost | {f"words: {name}" for name in WORDS if name not in {*DETECTORS, *ADAPTIVE}}


def _place(kind: Any) -> str:
    """Where it is imported from, in the package."""
    return f"{kind.__module__.split('.', 1)[1].rsplit('.', 1)[0]}.{kind.__name__}"


def _first_sentence(kind: Any) -> str:
    """Of the docstring, without marks of reStructuredText."""
    text = " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())
    text = re.sub(r":\w+:`~?([^`]*)`", lambda m: f"`{m[1].rsplit('.', 1)[-1]}`", text).replace("``", "`")
    end = re.search(r"(?<!et al)(?<!e\.g)\.(?= [A-Z])", text)
    return text[: end.end()] if end else text


def _settings(kind: Any) -> str:
    found = []
    for f in dataclasses.fields(kind):
        default = f.default if f.default is not dataclasses.MISSING else "required"
        said = type(default).__name__ if dataclasses.is_dataclass(default) else f"{default:.4g}" if isinstance(default, float) else default
        found.append(f"`{f.name}` {said}" if said != "" else f"`{f.name}`")
    return ", ".join(found) or "none"
