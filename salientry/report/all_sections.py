"""All sections of a run's page; here the white box, the paper's tables, every number, and how it was run."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from ..metrics import roc
from ..results import white_box
from ..results.detection import FEWEST, Together, together
from ..results.names import attack_title
from ..results.paper_numbers import bold
from . import detection_tables as detection
from . import paper_tables, tried, white_tables
from .figures import Series, facets, figure
from .page import Block, Section, listed, nested
from .sections import BOTH, SAYS, Shown, attacks_section, controls_section, detection_section, maps_section, parts_section
from .spec import Across, Column, Table
from .words import said


def sections(r: Shown) -> list[Section]:
    """All of them in order; what the records do not hold is left out."""
    if not r.scores.has_naturals:
        return [_white_box(r), _paper(r), Section("claims", "What the text claims", [*r.verdicts]), _run(r)]
    return [
        detection_section(r),
        controls_section(r),
        attacks_section(r),
        maps_section(r),
        parts_section(r),
        tried.section(r.scores, r.make),
        _white_box(r),
        _paper(r),
        Section("claims", "What the text claims", [*r.verdicts]),
        _everything(r),
        _run(r),
    ]


# --- the white box, the paper -------------------------------------------------------------------------------------------


def _white_box(r: Shown) -> Section:
    m = r.make
    budgets, alarms = (m.values("white box", "budget", measure=k) for k in ("success", "alarm"))
    effort = white_box.effort(white_box.targets(r.scores))
    blocks = [m.table(white_tables.success(budgets, alarms, effort)), m.table(white_tables.alone(budgets)), m.table(white_tables.BELIEF)]
    blocks += [m.table(white_tables.DOUBLED), m.table(white_tables.each(budgets))]
    others = ("WEAK_DETECTORS", "ALGORITHMS", "SINGLE", "PASSES", "TRAINING", "RERUNS")
    return Section("whitebox", "An attacker who knows the detector", [*blocks, *(m.table(getattr(white_tables, t)) for t in others)])


def _paper(r: Shown) -> Section:
    m = r.make
    source = paper_tables.Source(said("dataset", r.scores.dataset), m.numbers, m.context.reduced)
    tables = paper_tables.tables([source]) if source.theirs else []
    ranks = m.table(CORRELATION)
    ours = {(x["attack"], x["measure"]): x["value"] for x in m.of("attack") if x["protocol"] == "published"}
    sizes = {a: (ours.get((a, "rms"), 0.0), ours.get((a, "linf"), 0.0)) for a in r.labels}
    words = {a: attack_title(a) + (" (bold)" if bold(*sizes[a]) else "") for a in r.labels}
    found = m.table(BOLD, columns=(Across("tested_on", (Column("", "{accuracy}"),), words),)) if tables else None
    if not tables:
        tables = [Block("", Markup("<p>The paper has no data set {}.</p>").format(r.scores.dataset))]
    return Section("paper", "The paper's tables beside ours", [*tables, found, ranks], paper_tables.NOTE if source.theirs else "")


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
    "it, or trained on one and tested on the others. The interval resamples images given these attacks; p is exact, over all orders of "
    "them.",
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


# --- every number, the run ----------------------------------------------------------------------------------------------


def _everything(r: Shown) -> Section:
    m = r.make
    blocks: list[Block | None] = []
    groups = together(r.scores)
    for p in reversed(BOTH):
        for t in (t for t in groups if t.protocol == p):
            tested = m.values("detection", "tested_on", protocol=p, trained_on=t.trained_on)
            tables = [m.table(x) for x in detection.detectors(p, t.trained_on, tested)]
            drawn = roc_curves(r, t) if p == "strict" and not t.missing else None
            curves = figure("", drawn, f"ROC curves, trained and tested on {said('trained_on', t.trained_on)}", "")
            blocks.append(nested(f"{p}, trained on {said('trained_on', t.trained_on)}", [*tables, curves, _lacking(r, t)], SAYS[p]))
        blocks.append(figure(f"Learning curves, {p}", learning(r, p), "loss by epoch of every head", "A line at ln 2 is chance.", True))
    nets = ((n["name"], ", ".join(n["layers"]), f"{n['weights']:,}") for n in r.scores.body["networks"])
    blocks.append(listed("Figure 3: the networks that ran", ("network", "layers", "weights"), nets, fold=True))
    return Section("numbers", "Every number", blocks)


def _lacking(r: Shown, t: Together) -> Block | None:
    """What is not printed, and why."""
    if r.scores.not_kept and t.protocol == "strict" and not t.missing and not all(g.kept for g in t.trained):
        words = Markup('<p class="note">No ROC curves: the scores of these detectors are not kept; <code>{}</code> makes them.</p>')
        return nested("", [Block("", words.format(r.scores.not_kept.command)), _few(r, t)], fold=False)
    return _few(r, t)


def _few(r: Shown, t: Together) -> Block | None:
    """Mandatory controls that are missing, attacks of which too few images count."""
    if t.missing:
        return Block("", Markup("<p><b>Not printed:</b> mandatory controls are missing: {}.</p>").format(", ".join(t.missing)))
    few = [(i, int(i["evaluated"].sum())) for i in r.scores.attacked(t.protocol) if i["evaluated"].sum() < FEWEST]
    words = (f"{attack_title(i['attack'])} has no column: {n} of its images count." for i, n in few)
    return Block("", Markup('<p class="note">{}</p>').format(" ".join(words))) if few else None


def roc_curves(r: Shown, t: Together) -> str | None:
    """Heads and the best baseline on the attack that they were trained on; false positives on a logarithmic axis."""
    s, drawn = r.scores, []
    if not all(g.kept for g in t.trained):
        return None
    best = {t.baseline.title if t.baseline else "", "Margin2"}
    panel = f"trained and tested on {said('trained_on', t.trained_on)}"
    for g in (g for g in t.trained if g.group != "baseline" or g.title in best):
        images, natural = s.like(g), s.natural("test")
        for k, f in enumerate(g.on(natural["name"], images["name"]) if images else []):
            fpr, tpr = roc(f.of(natural["name"]), f.of(images["name"])[images["evaluated"]])  # type: ignore[index]
            x = np.maximum(fpr, 0.5 / len(natural["id"]))
            drawn.append(Series(panel, g.title, list(x), list(tpr), dashed=g.group == "baseline", thin=k > 0))
    y = ("found", 0.0, 1.02)
    return facets(drawn, steps=True, size=(5.2, 3.4), y=y, x="false positives", log=True, upright=(0.05, 0.01))


def learning(r: Shown, protocol: str) -> str | None:
    """Loss by epoch of every CNN head, seed by seed."""
    groups = [g for g in r.scores.of(protocol) if g.seeds[0].curve and g.group in ("saliency", "image")]
    series = [
        Series(g.title, said("trained_on", g.trained_on), range(1, len(run.curve) + 1), run.curve)
        for g in groups
        for run in g.seeds
        if run.curve
    ]
    return facets(series, columns=4, size=(2.4, 1.9), y=("loss", 0.0, 0.8), lines=[float(np.log(2))])


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
    by: dict[str, list[float]] = {}
    for step in steps:
        by.setdefault(step["step"], []).append(step["seconds"])
    rows = sorted(((k, f"{len(v)}", f"{sum(v):.1f}") for k, v in by.items()), key=lambda x: -float(x[2]))
    return Section("run", "How it was run", [about, listed("Seconds by step", ("step", "results", "seconds"), rows, fold=True)])
