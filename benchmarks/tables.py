"""The tables of docs/RESULTS.md, from the recorded runs in results/; `python -m benchmarks.readme --write` puts them there."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from salientry.attacks import BIM, FGSM
from salientry.inference import LEAST_SEEDS
from salientry.keys import changed_fields, label, name_of
from salientry.protocol import EvaluationProtocol
from salientry.rates import given, grey_levels, row, short
from salientry.recipes.fast import CONFIGS
from salientry.recipes.paper_config import Config
from salientry.recipes.smoke import REDUCED
from salientry.report.detection_tables import GAINS, NOISE, TRANSPLANT
from salientry.report.render import markdown, percent, text
from salientry.report.render import over as spoken
from salientry.report.spec import Across, Column, Line, Number, Table, fill, number_of
from salientry.report.white_tables import success
from salientry.report.words import attack_title, own_trunk
from salientry.results.choice import ATTACKED, BASELINES, BESIDE_MAPS, DEFENCES, PAPERS
from salientry.results.names import detector_words
from salientry.results.place import identify
from salientry.store import read_json

from .recorded import RESULTS, Recorded, first, made, recorded

SMOKE = RESULTS / "smoke"
ROWS = (*PAPERS, "fusion", *BASELINES)
SMOKE_ATTACKS = tuple(map(label, (FGSM(), BIM(), *REDUCED)))
PARTS = ("the map", "the image", "logits", "activations", "the second net", "pixel statistics")
DETECTORS = (*BESIDE_MAPS, *BASELINES)
MORE = (Column("noise", NOISE.replace("}", "|bare}")), Column("transplant", TRANSPLANT.replace("}", "|bare}")))
OVER = "In square brackets 95 % intervals {}. In round brackets stands each seed's own value, where they differ."
FEW = (
    "In square brackets 95 % intervals over images, of the mean over detector seeds, given these nets: one classifier, one U-Net of each "
    "kind, one split. They say nothing of other seeds: in round brackets stands each seed's own value, where they differ."
)


def over(rows: Iterable[dict[str, Any]]) -> str:
    """Below a table: of what the intervals of these numbers speak."""
    seeds = {len(r["seeds"]) for r in rows}
    return FEW if max(seeds, default=0) < LEAST_SEEDS else OVER.format(spoken(seeds, "over images, given these nets"))


def lines(table: Table, rows: Sequence[dict[str, Any]], *more: Table) -> str:
    """A table in Markdown; the rows of ``more`` go on below."""
    return markdown(fill(table, rows), *(fill(t, rows) for t in more))


# --- digits ---------------------------------------------------------------------------------------------------------------


def of_smoke(places: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The numbers of the recorded digits in these places: their ids are put together as everywhere."""
    known: dict[str, list[Any]] = read_json(SMOKE / "numbers.json")
    empty = dict.fromkeys(("tested_on", "attack", "part", "group", "scheme"))
    out = []
    for r in (empty | p for p in places):
        if (found := known.get(id := identify(r))) is not None:
            ends = {c: math.nan if v is None else v for c, v in zip(("value", "lo", "hi"), found, strict=False)}
            out.append(r | ends | {"id": id, "n": found[3], "seeds": tuple(found[4])})
    return out


def smoke() -> str:
    """Strict, trained on all attacks: what is found, what is flagged falsely, what controls do; and what each part adds."""
    place = {"kind": "detection", "protocol": "strict", "trained_on": "combined"}
    measures = ("fpr@0.05", "noise/excess-flags-on-unchanged", "Transplant/excess-flags-on-unchanged")
    places = [place | {"title": t, "tested_on": a, "measure": "tpr@0.05"} for t in ROWS for a in SMOKE_ATTACKS]
    rows = of_smoke([*places, *(place | {"title": t, "measure": m} for t in ROWS for m in measures)])
    n = {a: next(r["n"] for r in rows if r["tested_on"] == a) for a in SMOKE_ATTACKS}
    columns = (
        Across(
            "tested_on", (Column("", "{tpr@0.05|seeds}"),), {a: f"{attack_title(a)}: detection rate (n = {n[a]})" for a in SMOKE_ATTACKS}
        ),
        Column("false-positive rate", "{fpr@0.05|bare}"),
        Column("extra false alarms: harmless noise", MORE[0].cell),
        Column("… another image's perturbation", MORE[1].cell),
    )
    found = Table("", "", ("title",), columns, heads=("strict, at 5 %",), order={"title": ROWS})
    at = {"kind": "fusion", "protocol": "strict", "tested_on": "mean over attacks", "measure": "tpr"}
    alone, everything = (text(number_of(of_smoke([at | {"part": p}])[0])) for p in ("logits alone", "all parts"))
    parts = [
        row("part", f"added to the logits alone ({alone})", f"added to everything else (all together {everything})"),
        row(*["---"] * 3),
    ]
    for p in PARTS:
        two = [of_smoke([at | {"part": f"{p} adds{to}"}]) for to in (" to the logits", "")]
        parts.append(row(p, *(text(number_of(r[0])) if r else "" for r in two)))
    run = json.loads((SMOKE / "run.json").read_text())
    source = f"`{run['command']}`, run seed 0, detector seeds 0 and 1, {made(run)}"
    return "\n".join([lines(found, rows), "", *parts, "", f"{over(rows)} {source}."])


def settings() -> str:
    """What differs between the data sets of ``fast``, in words."""
    values = {f.name: [getattr(c, f.name) for c in CONFIGS.values()] for f in fields(Config)}
    rows = [row(name, *map(_setting_text, of)) for name, of in values.items() if any(v != of[0] for v in of)]
    return "\n".join([row("setting", *CONFIGS), row(*["---"] * (1 + len(CONFIGS))), *rows])


def _setting_text(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_setting_text, value)) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, EvaluationProtocol):
        return "thresholds that flag " + ", ".join(map(percent, map(str, value.levels)))
    return f"`{call(value)}`" if is_dataclass(value) else given(float(f"{value:.3g}")) if isinstance(value, float) else f"{value:,}"


def call(settings: Any) -> str:
    """Settings as they are written in Python, without what is the default: ``BIM(eps=8/255, step_size=2/255)``."""

    def word(value: Any) -> str:
        if is_dataclass(value):
            return call(value)
        if isinstance(value, float) and value != round(value, 4) and (levels := grey_levels(value)):
            return levels
        return repr(value)

    return f"{type(settings).__name__}({', '.join(f'{k}={word(v)}' for k, v in changed_fields(settings).items())})"


# --- the paper's data sets ------------------------------------------------------------------------------------------------


FOUND = Column("", "{tpr@0.05|seeds}")


def strict(titles: Sequence[str] | dict[str, str], attacks: dict[Any, str], head: str, *columns: Column, by: str = "place") -> Table:
    """Detectors by the attacks that they were trained and tested on, where these have a ``place``: what is found, or what is asked."""
    where = {"kind": "detection", "protocol": "strict"}
    return Table("", "", ("title",), (Across(by, columns or (FOUND,), attacks),), where, (head,), {"title": titles}, diagonal=True)


def gains(attacks: dict[Any, str], by: str = "place", **more: Any) -> Table:
    """Differences of detection rates of detectors that were trained and tested on these."""
    return replace(GAINS, columns=(Across(by, (Column("", "{difference|seeds}"),), attacks),), **more)


def fast() -> str:
    """Each data set under a heading, then its runs with another seed."""
    runs, parts = recorded("fast"), []
    for r in first(runs):
        parts += [f"### {r.title}", detection(r)]
        for again in (x for x in runs if x.again and x.dataset == r.dataset):
            parts += [f"{r.title} with everything that is learnt or drawn made anew, run seed {again.seed}:", another(r, again)]
    return "\n\n".join(parts)


def detection(r: Recorded) -> str:
    """Strict, trained and tested on the attacks of the headline; then what the map is worth beside the rest."""
    attacks = {a: f"{t} (n = {n.n})" for t, a in r.headline.items() if (n := r.detected("SPD", a))}
    by, rate = "trained_on", replace(FOUND, head="detection rate")
    found = lines(strict(DETECTORS, attacks, "strict, detection rate at 5 %", rate, *MORE, by=by), r.rows)
    more = lines(gains(attacks, by, heads=("difference of detection rates",)), r.rows)
    return "\n".join([found, "", more, *own_maps(r), "", f"{over(r.rows)} {r.source}."])


def own_maps(r: Recorded) -> list[str]:
    """Class by class, what the own map keeps and destroys beyond that of another image of the class: the least, the most, who passes."""
    gains = {"keeps more": "kept-gain", "destroys more": "destroyed-gain"}
    out = ["", row("own map against that of another image called the same", *gains, "classes that pass by themselves"), row(*["---"] * 4)]
    for saliency in r.make.values("map", "saliency"):
        parts = {n["part"] for n in r.make.of("map") if n["saliency"] == saliency and n["class_number"] is not None}
        found = {p: [r.find("map", saliency=saliency, part=p, measure=g) for g in gains.values()] for p in parts}
        spans = [sorted(of[i].value for of in found.values() if of[i]) for i in range(2)]  # type: ignore[union-attr]
        passing = sum(all(n is not None and n.value >= 0.05 and n.lo > 0 for n in of) for of in found.values())
        words = "map from the classifier's trunk" if own_trunk(saliency) else "map from a second net"
        out += [row(words, *(f"{short(s[0])} to {short(s[-1])}" for s in spans), f"{passing} of {len(found)}")] if found else []
    return out


def another(r: Recorded, again: Recorded) -> str:
    """The same rows of two runs: what an interval over images does not know."""
    attacks = {t: (a, again.headline[t]) for t, a in r.headline.items() if t in again.headline}
    places = {f"{x.seed} {a}": f"{t}, run seed {x.seed}" for t, two in attacks.items() for x, a in zip((r, again), two, strict=True)}
    rows = [n | {"place": f"{x.seed} {n['trained_on']}"} for x in (r, again) for n in x.rows]
    found = lines(strict(DETECTORS, places, "detection rate at 5 %"), rows, gains(places))
    right = " and ".join(x.cell("accuracy", "bare") for x in (r, again))
    below = f"The classifiers have {right} right. Brackets as above. Run seed {again.seed}: {again.source}."
    return "\n".join([found, "", below])


# --- the white box --------------------------------------------------------------------------------------------------------


def budgets(r: Recorded, **where: str) -> list[str]:
    """Of a white box: Linf from small to large, then L2; ``where``: of numbers in this place alone."""
    return r.make.values("white box", "budget", measure="success", title="classifier alone", **where)


def white_boxes() -> str:
    """Each data set under a heading."""
    apart = {s.beside.folder.name: s.apart for s in (r.one.scores for r in recorded("fast")) if s.beside is not None and s.apart}
    said = {name: f"{why[:1].upper()}{why[1:]} than the detectors above.\n\n" for name, why in apart.items()}
    return "\n\n".join(f"### {r.title}\n\n{said.get(r.folder.name, '')}{white_box(r)}" for r in recorded("whitebox"))


def white_box(r: Recorded) -> str:
    """Who knows classifier, map, detector and threshold: success by budget, what it costs, alarms; then the paper's own attack."""
    sizes, (alarm,) = budgets(r), r.make.values("white box", "budget", measure="alarm")
    bare = [r.find("white box", title="classifier alone", budget=b) for b in sizes]
    alone: list[list[str | tuple[Number, str]] | None] = [[(n, "")] if n else None for n in bare]
    most = bare[0].n if bare[0] else 0
    columns = (
        Across("budget", (Column("", "{success}", {"attack": "union"}),), sizes),
        Column("L2 over the classifier's alone", "{cost}"),
        Column(f"false alarm can be made, {alarm}", "{alarm}"),
    )
    order = {t: detector_words(t) for t in ATTACKED} | _literature(r, most)
    table = replace(success(sizes, [alarm], ""), columns=columns, heads=(f"attack success rate, n = {most}",), order={"title": order})
    found = fill(replace(table, warned=False), r.make.of("white box"))
    each = [line if _attacked(r, line.key[0]) else _none(line, lacking(r, line.key[0])) for line in found.lines]
    first = Line((), ("no detector",), [*alone, ["1"], [""]], [], baseline=False)
    below = f"95 % intervals over images, given these nets. `{r.run['command']}`, run seed {r.seed}, {made(r.run)}."
    return "\n".join([markdown(replace(found, lines=[first, *each])), "", papers_attack(r), "", below])


def papers_attack(r: Recorded) -> str:
    """After its 5 passes, at the paper's budget on small images: as it is printed, and with the true gradient."""
    eps = min(r.make.values("table 3", "eps", part="as printed", step=5), key=lambda e: abs(e - 0.2))
    printed, true = ({"part": part, "eps": eps, "step": 5} for part in ("as printed", "true gradient"))
    columns = (
        Column("flagged, as printed", "{detector}", printed),
        Column("wrong and unflagged, as printed", "{joint}", printed),
        Column("… with the true gradient", "{joint}", true),
    )
    size = next(n["budget"] for n in r.make.of("table 3") if n["eps"] == eps)
    head, order = f"the paper's attack, 5 passes, eps {size}", {"title": DEFENCES}
    found = fill(Table("", "", ("title",), columns, {"kind": "table 3"}, (head,), order, empty="not run"), r.make.of("table 3"))
    return markdown(replace(found, lines=[line if any(line.cells) else _none(line, "not run") for line in found.lines]))


def _none(line: Line, why: str) -> Line:
    """A row that says once why it has no numbers."""
    return replace(line, cells=[[why if k == 0 else ""] for k in range(len(line.cells))])


def _attacked(r: Recorded, title: str) -> bool:
    return r.find("white box", title=title, attack="union") is not None


def _literature(r: Recorded, most: int) -> dict[str, str]:
    """The published detectors that were attacked, with their number of images where it is not ``most``."""
    names = {name_of(d) for config in CONFIGS.values() for d in config.published}
    rows = [n for n in r.make.of("white box") if n["measure"] == "naturals flagged" and n["title"] in names]
    return {str(n["title"]): detector_words(str(n["title"])) + (f" (n = {n['n']})" if n["n"] != most else "") for n in rows}


def lacking(r: Recorded, title: str) -> str:
    """Why a white box says nothing of a detector: it was not attacked, or no attack on it is believed."""
    return "not run" if r.find("white box", title=title) is None else "attack too weak, nothing to report"
