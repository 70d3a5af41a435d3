"""All sections of a run's page in the order of a reader's questions; here white box, paper, all numbers, how it was run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from markupsafe import Markup

from ..metrics import roc
from ..rates import measured
from ..renamed import step_words
from ..results import white_box
from ..results.detection import FEWEST, Together, together
from ..results.names import ORDINARY, attack_title, data_set, detector_class
from ..results.paper_numbers import bold
from . import every_number, paper_tables, tried, white_tables
from .guide import how_to_read
from .page import Block, Section, folded, listed
from .plots import Series, facets
from .sections import BOTH, Shown, attacks_section, controls_section, detection_section, maps_section
from .spec import Across, Column, Table
from .words import said


def sections(r: Shown, numbers: str) -> list[Section]:
    """All of them in order; what the records do not hold is left out. ``numbers``: the text of the file of all numbers."""
    every = Section(
        "numbers", "All numbers", [every_number.block(numbers, numbers.count("\n") - 1)], holds="a table to search and sort; CSV"
    )
    if not r.scores.has_naturals:
        return [_white_box(r), _paper(r), every, _run(r)]
    return [
        attacks_section(r),
        maps_section(r),
        detection_section(r, _curves(r)),
        _paper(r),
        _white_box(r),
        controls_section(r, tried.blocks(r.scores, r.make)),
        every,
        _run(r),
    ]


# --- the white box, the paper -------------------------------------------------------------------------------------------


def _white_box(r: Shown) -> Section:
    m = r.make
    budgets, alarms = (m.values("white box", "budget", measure=k) for k in ("success", "alarm"))
    effort = white_box.effort(white_box.targets(r.scores))
    blocks = [m.table(white_tables.success(budgets, alarms, effort)), m.table(white_tables.alone(budgets))]
    others = ("WEAK_DETECTORS", "ALGORITHMS", "SINGLE", "TRAINING", "RERUNS")
    tables = (white_tables.BELIEF, white_tables.DOUBLED, white_tables.each(budgets), *(getattr(white_tables, t) for t in others))
    blocks += [folded(m.table(t)) for t in tables]
    drawn = passes(r)
    says = "Share of images wrong and unflagged by the number of passes; the values stand in the table of all numbers."
    blocks.append(None if drawn is None else Block("More passes of the paper's white box (C16)", drawn, says, True))
    if not any(blocks):
        words = Markup("<p>Not tried here: <code>salientry run whitebox dataset={}</code>.</p>").format(data_set(r.scores.dataset))
        blocks = [Block("", words)]
    note = (
        f"{r.scores.apart[:1].upper()}{r.scores.apart[1:]} ({r.scores.beside.folder.name}): it says nothing of the nets above."
        if r.scores.apart and r.scores.beside
        else ""
    )
    return Section("whitebox", "An attacker who knows the detector", blocks, note, holds="attack success rate by detector and budget")


def passes(r: Shown) -> Markup | None:
    """The paper's white box after 1 to 20 passes: a panel for each form of it and budget."""
    rows = [x for x in r.make.of("table 3") if x["measure"] == "joint" and x["part"] in ("as printed", "true gradient", "Eq. 5")]
    places = dict.fromkeys((x["part"], x["budget"], x["title"]) for x in rows)
    drawn = []
    for part, budget, title in places:
        mine = sorted((x for x in rows if (x["part"], x["budget"], x["title"]) == (part, budget, title)), key=lambda x: x["step"])
        ends = [x["lo"] for x in mine], [x["hi"] for x in mine]
        series = Series(f"{part}, eps {budget}", said("title", title), [x["step"] for x in mine], [x["value"] for x in mine], *ends)
        drawn += [series] if len(mine) > 1 else []
    return facets(drawn, y=("wrong and unflagged", 0.0, 1.02), x="passes")


def _paper(r: Shown) -> Section:
    m = r.make
    source = paper_tables.PaperColumn(said("dataset", r.scores.dataset), m.numbers, m.context.reduced)
    tables: list[Block | None] = [folded(b) for b in paper_tables.tables([source])] if source.theirs else []
    ours = {(x["attack"], x["measure"]): x["value"] for x in m.of("attack") if x["protocol"] == "published"}
    sizes = {a: (ours.get((a, "rms"), 0.0), ours.get((a, "linf"), 0.0)) for a in r.labels}
    words = {a: attack_title(a) + (" (bold)" if bold(*sizes[a]) else "") for a in r.labels}
    found = m.table(BOLD, columns=(Across("tested_on", (Column("", "{accuracy}"),), words),), fold=True) if tables else None
    if not tables:
        tables = [Block("", Markup("<p>The paper has no data set {}.</p>").format(said("dataset", r.scores.dataset)))]
    claims = [replace(b, title="What the text claims: C1 to C21", fold=True, anchor="claims") for b in r.verdicts]
    says = paper_tables.note([source]) if source.theirs else ""
    return Section("paper", "Beside the paper", [*tables, *claims, found, m.table(CORRELATION)], says, "its tables, its claims")


BOLD = Table(
    "Are the bold cells of Table 2 those that ID and JSD find?",
    "Published accuracy of a detector on the attack that it was trained on; bold: our mean L2 ≥ .025 and mean L∞ ≥ .5, the rule of the "
    "paper's caption. Found would be above .75, half way from chance to everything.",
    rows=("title",),
    where={"kind": "detection", "protocol": "published"},
    heads=("trained and tested on",),
    order={"title": ("ID (replica)", "ID", "JSD (replica)", "JSD")},
    diagonal=True,
    columns=(),
)
CORRELATION = Table(
    "Does what is found go with the size of the perturbation?",
    "Spearman's rank correlation of accuracy (published, paired) and mean size over the attacks: each attack by the detector trained on "
    "it, or trained on one and tested on the others. The interval resamples images given these attacks (none: all resamples agree); p "
    "is exact, over all orders of them.",
    rows=("title", "trained_on"),
    where={"kind": "correlation"},
    heads=("detector", "trained on (nothing: on the same attack)"),
    columns=(
        Across(
            "part",
            (Column("rank correlation", "{spearman}"), Column("p", "{p-exact|p}")),
            {"rms": "with L2", "linf": "with L∞"},
        ),
    ),
    fold=True,
)


# --- curves, the run ----------------------------------------------------------------------------------------------------


def _curves(r: Shown) -> list[Block | None]:
    """ROC curves of the strict detectors, learning curves of both protocols; what is not drawn, and why."""
    out: list[Block | None] = []
    without, words = [], dict[str, None]()
    for t in together(r.scores):
        words |= dict.fromkeys(_few(r, t))
        if t.protocol != "strict" or t.missing:
            continue
        name, drawn = said("trained_on", t.trained_on), roc_curves(r, t)
        if drawn is None:
            without.append(name)
        else:
            out.append(Block(f"ROC curves, trained and tested on {name}", drawn, "", True))
    notes = [Markup(" ").join(words)] if words else []
    if without and r.scores.not_kept:
        lacking = Markup("No ROC curves of detectors trained on {}: their scores are not kept; <code>{}</code> makes them.")
        notes.append(lacking.format(", ".join(without), r.scores.not_kept.command))
    out += [Block("", Markup('<p class="note">{}</p>').format(n)) for n in notes]
    for p in BOTH:
        lines = learning(r, p)
        out.append(
            None
            if lines is None
            else Block(
                f"Learning curves, {p}",
                lines,
                "Loss by epoch of every head, in words the attack that it was trained on; a line at ln 2 is chance.",
                True,
            )
        )
    return out


def _few(r: Shown, t: Together) -> list[str]:
    """What is not printed: where mandatory controls are missing, and attacks of which too few images count."""
    trained = f"{t.protocol}, trained on {said('trained_on', t.trained_on)}"
    if t.missing:
        return [f"Not printed: {trained}; mandatory controls are missing: {', '.join(t.missing)}."]
    few = [(i, int(i["evaluated"].sum())) for i in r.scores.attacked(t.protocol) if i["evaluated"].sum() < FEWEST]
    return [f"{attack_title(i['attack'])} has no column ({t.protocol}): {n} of its images count, {FEWEST} are needed." for i, n in few]


def roc_curves(r: Shown, t: Together) -> Markup | None:
    """Heads and the best baseline on the attack that they were trained on; false positives on a logarithmic axis."""
    s, drawn = r.scores, []
    if not all(g.kept for g in t.trained):
        return None
    best = {t.baseline.title if t.baseline else "", "Margin2"}
    groups = {"saliency": "see the map", "image": "see the image"}
    for g in (g for g in t.trained if g.scheme in ORDINARY and (g.group != "baseline" or g.title in best)):
        images, natural = s.like(g), s.natural("test")
        for k, f in enumerate(g.on(natural["name"], images["name"]) if images else []):
            fpr, tpr = roc(f.of(natural["name"]), f.of(images["name"])[images["evaluated"]])  # type: ignore[index]
            x = np.maximum(fpr, 0.5 / len(natural["id"]))
            drawn.append(Series(groups.get(g.group, "fusion and baselines"), said("title", g.title), list(x), list(tpr), thin=k > 0))
    return facets(drawn, steps=True, y=("detection rate", 0.0, 1.02), x="false-positive rate", log=True, upright=(0.05, 0.01), high=260)


def learning(r: Shown, protocol: str) -> Markup | None:
    """Loss by epoch of every CNN head, seed by seed."""
    groups = [g for g in r.scores.of(protocol) if g.seeds[0].curve and g.group in ("saliency", "image") and g.scheme in ORDINARY]
    series = [
        Series(said("title", g.title), said("trained_on", g.trained_on), list(range(1, len(run.curve) + 1)), run.curve, thin=k > 0)
        for g in groups
        for k, run in enumerate(g.seeds)
        if run.curve
    ]
    return facets(series, y=("loss", 0.0, 0.8), x="epoch", lines=[float(np.log(2))], high=190)


def _layers(layers: Sequence[str]) -> str:
    """The layers of a network in order."""
    return ", ".join("logistic, 1 column" if layer == "logistic, 1 columns" else layer for layer in layers)


def _run(r: Shown) -> Section:
    run = r.scores.run
    machine = run.get("machine", {})
    facts = {"command": r.command, "checked by": f"salientry report {run.get('out', 'FOLDER')} --verify"}
    if machine:
        processor = f", {machine['processor']}" if machine.get("processor") else ""
        facts["device"] = f"{machine['device']} ({machine['hardware']}, {machine['system']}{processor})"
        facts["versions"] = ", ".join(
            [
                f"salientry {run.get('salientry', '?')}",
                *(f"{k} {machine[k]}" for k in ("torch", "numpy", "scipy")),
                f"Python {machine['python']}",
            ]
        )
    steps = run.get("steps", [])
    count = len(steps)
    facts["time"] = f"{run.get('core_seconds', '?')} s of one thread in {count} results; peak memory {run.get('peak_mb', '?')} MB"
    if (known := r.scores.not_kept) is not None:
        facts["not kept"] = f"{len(known.gone)} files of scores, named in not_kept.json; the numbers that depend on them are as recorded"
    if run.get("skipped"):
        facts["skipped"] = f"{len(run['skipped'])} steps: {run['skipped'][0]['why']}"
    about = listed("", ("", ""), ((k, Markup("<code>{}</code>").format(v)) for k, v in facts.items()))
    by: dict[str, list[dict[str, Any]]] = {}
    for step in steps:
        by.setdefault(step_words(step["step"]), []).append(step)
    names, columns = ["step", "results", "seconds", "images a second"], [_speed]
    if any("share_of_peak" in s for s in steps):
        names, columns = [*names, "share of what products of matrices reach"], [_speed, _share]
    each = ((k, f"{len(v)}", f"{sum(s['seconds'] for s in v):.1f}", *(c(v) for c in columns)) for k, v in by.items())
    rows = sorted(each, key=lambda x: -float(x[2]))
    nets = ((detector_class(n["name"]), _layers(n["layers"]), f"{n['weights']:,}") for n in r.scores.body["networks"])
    blocks = [
        about,
        listed("Seconds by step", names, rows, fold=True),
        listed("Figure 3: the networks that ran", ("network", "layers", "weights"), nets, fold=True),
        replace(how_to_read(r), title="How to read this page", fold=True),
    ]
    return Section("run", "How it was run, and how to read this page", blocks, holds="command, versions, time, words")


def _speed(steps: Sequence[Mapping[str, Any]]) -> str:
    """Images a second of those that say how many they looked at."""
    known = [s for s in steps if "images" in s]
    return f"{sum(s['images'] for s in known) / sum(s['seconds'] for s in known):,.0f}" if known else ""


def _share(steps: Sequence[Mapping[str, Any]]) -> str:
    """Of those whose operations are known; the mean over their seconds."""
    known = [s for s in steps if "share_of_peak" in s]
    return measured(sum(s["share_of_peak"] * s["seconds"] for s in known) / sum(s["seconds"] for s in known)) if known else ""
