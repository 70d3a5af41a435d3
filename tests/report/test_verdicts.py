"""A verdict on each of the 21 claims: its rule on each side of its boundary, its number against plain numpy, and the document of all."""

from __future__ import annotations

import json
import math
import re
import shutil
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from salientry.cli import app
from salientry.errors import DataDamaged
from salientry.metrics import Resamples, rate
from salientry.report import document, page, verdicts
from salientry.report.cells import MANNERS
from salientry.report.claims import FAILS, HOLDS, NOT_RUN, OPEN, UNTRAINED, Claim, Finding, judged
from salientry.report.compute import Computed, computed
from salientry.report.numbers import Ledger, Number
from salientry.report.records import Records
from salientry.report.verify import problems

from .surgery import CW, Opened

ROOT = Path(__file__).parents[2]
RECORDED = sorted(p.parent.relative_to(ROOT) for p in (ROOT / "results").rglob("records.json.xz"))
TIMING = Path("results/benchmarks/guard.json")
EVERY = [f"C{k}" for k in range(1, 22)]
PAPER, STRICT = ("published", "paired"), ("strict", "paired")
Key = tuple[str, str, str, str]


@pytest.fixture(scope="module")
def found(finished: Path) -> Computed:
    return computed(Records(finished))


@pytest.fixture
def opened(finished: Path, tmp_path: Path) -> Opened:
    """A copy that may be changed."""
    shutil.copytree(finished, tmp_path / "copy")
    return Opened(tmp_path / "copy")


def again(o: Opened) -> Computed:
    return computed(Records(o.close()))


def words(of: Computed) -> dict[Key, str]:
    return {(c.claim, c.slug, *m): f.verdict for c in of.paper.claims for m, f in c.findings.items()}


def line(of: Computed, claim: str, slug: str = "") -> Claim:
    return next(c for c in of.paper.claims if c.claim == claim and c.slug.startswith(slug))


def number(of: Computed, claim: str, manner: tuple[str, str], slug: str = "") -> Number:
    id = line(of, claim, slug).findings[manner].id
    assert id is not None
    return of.ledger[id]


def put(o: Opened, d: dict[str, Any], of: str, values: Any) -> None:
    """Other scores in place of a detector's on a set."""
    o.score(d, of)[:] = values


def trained(o: Opened, d: dict[str, Any], protocol: str, attack: str) -> None:
    """Make a detector one that trained."""
    for role in ("detector_train", "validation"):
        put(o, d, f"any/{role}/natural", -1.0)
        put(o, d, f"{protocol}/{role}/{attack}", 1.0)


def counting(o: Opened, attack: str) -> Any:
    """The strict adversarials that count."""
    return np.logical_and.reduce([o.column(f"strict/test/{attack}", c).astype(bool) for c in ("right", "changed", "in_budget")])


def of(value: float, lo: float, hi: float) -> Number:
    return Number("x", value, lo, hi, 9, "strict", [], [])


# --- all of them -----------------------------------------------------------------------------------------------------


def test_all_21_stand_on_the_page_in_order(finished: Path, found: Computed) -> None:
    html = (finished / "report.html").read_text()
    part = unescape(html[html.index('<h3 id="claims">') : html.index('<h2 id="adds">')])
    assert re.findall(r'<tr class="total"><th>(C\d+)</th>', part) == EVERY == [s.claim for s in found.paper.said]
    assert part.count('<b class="claim">') == 3 * 21
    for s in found.paper.said:
        assert s.words in part
        assert s.lines, s.claim
        assert set(s.verdicts.values()) <= {HOLDS, FAILS, OPEN, UNTRAINED, NOT_RUN}
        for c in s.lines:
            for f in c.findings.values():
                assert f.id is None or f'data-id="{f.id}"'.replace("&", "&amp;") in part or f'data-id="{f.id}"' in part
                assert all(found.ledger[id].id == id for id in f.beside.values())
    ran = {s.claim for s in found.paper.said if set(s.verdicts.values()) != {NOT_RUN}}
    silent = {"C4", "C8", "C9"}  # no timing, no JSMA, one attack of each norm
    assert silent <= set(EVERY) - ran <= silent | {"C13", "C14", "C15", "C16"}


def test_the_sentences_are_those_of_21_claims() -> None:
    assert list(verdicts.sentences()["claims"]) == EVERY
    assert len(verdicts.sentences()["contradictions"]) == 11
    assert all(len(c) == 2 and all(c) for c in verdicts.sentences()["contradictions"])


def test_what_the_numbers_are_compared_with(found: Computed) -> None:
    bounds = {(c.claim, f.boundary, f.fails) for c in found.paper.claims for f in c.findings.values() if f.id is not None}
    mine = {b for b in bounds if b[0] in ("C1", "C2", "C3", "C12", "C17", "C18", "C19", "C20", "C21")}
    assert mine == {
        ("C1", 0.02, 0.0),
        ("C2", 0.0, None),
        ("C3", 0.5, None),
        ("C12", 0.05, None),
        ("C17", 0.0, None),
        ("C18", 0.02, 0.0),
        ("C19", 0.95, None),
        ("C20", 0.25, None),
        ("C21", 0.0, None),
    }


# --- rules -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lo", "hi", "boundary", "above", "fails", "word"),
    [
        (-0.05, 0.019, 0.02, False, 0.0, HOLDS),  # C1, C18
        (0.005, 0.019, 0.02, False, 0.0, HOLDS),  # better, but not by two points
        (-0.05, 0.021, 0.02, False, 0.0, OPEN),
        (0.001, 0.021, 0.02, False, 0.0, FAILS),
        (0.0, 0.021, 0.02, False, 0.0, OPEN),
        (0.03, 0.04, 0.02, False, 0.0, FAILS),
        (0.01, 0.049, 0.05, False, None, HOLDS),  # C12
        (0.01, 0.051, 0.05, False, None, OPEN),
        (0.051, 0.06, 0.05, False, None, FAILS),
        (0.951, 1.0, 0.95, True, None, HOLDS),  # C19
        (0.949, 1.0, 0.95, True, None, OPEN),
        (0.8, 0.949, 0.95, True, None, FAILS),
    ],
)
def test_one_number_and_its_boundaries(lo: float, hi: float, boundary: float, above: bool, fails: float | None, word: str) -> None:
    assert judged(of((lo + hi) / 2, lo, hi), boundary, above, fails) == word


@pytest.mark.parametrize(
    ("share", "mean", "word"),
    [
        (4 / 6, "above", HOLDS),
        (4 / 6, "open", HOLDS),
        (4 / 6, "below", OPEN),
        (0.5, "open", FAILS),
        (0.5, "below", FAILS),
        (0.5, "above", OPEN),
    ],
)
def test_most_attacks_move_maps_further(share: float, mean: str, word: str) -> None:
    """C2."""
    assert verdicts.most(share, mean) == word


@pytest.mark.parametrize(("lo", "hi", "word"), [(0.5, 0.5, HOLDS), (0.5, 1.0, HOLDS), (2 / 6, 0.5, OPEN), (0.0, 2 / 6, FAILS)])
def test_half_of_the_attacks(lo: float, hi: float, word: str) -> None:
    """C3."""
    assert verdicts.half(lo, hi) == word


@pytest.mark.parametrize(("lo", "hi", "word"), [(25.0, 30.0, HOLDS), (24.9, 30.0, OPEN), (20.0, 24.9, FAILS)])
def test_real_time(lo: float, hi: float, word: str) -> None:
    """C4."""
    assert verdicts.fast(of(25.0, lo, hi)) == word


@pytest.mark.parametrize(
    ("premise", "zeroed", "word"),
    [
        ("below", "below", HOLDS),
        ("below", "above", FAILS),
        ("below", "open", OPEN),
        ("open", "below", OPEN),
        ("above", "below", FAILS),
    ],
)
def test_footnote_9_has_a_premise(premise: str, zeroed: str, word: str) -> None:
    """C17."""
    assert verdicts.footnote(premise, zeroed) == word


@pytest.mark.parametrize(
    ("numbers", "decides", "word"),
    [
        ({"a": (0.1, 0.08, 0.12), "b": (0.2, 0.18, 0.24)}, "b", HOLDS),
        ({"a": (0.1, 0.08, 0.12), "b": (0.2, 0.18, 0.26)}, "b", OPEN),
        ({"a": (0.3, 0.26, 0.34), "b": (0.32, 0.24, 0.4)}, "a", FAILS),
    ],
)
def test_every_attack_has_to_be_below(numbers: dict[str, tuple[float, float, float]], decides: str, word: str) -> None:
    """C20 and C21: the number is that of the attack that decides."""
    assert verdicts.weakest({a: of(*v) for a, v in numbers.items()}, 0.25) == (decides, word)


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        ([HOLDS, HOLDS], HOLDS),
        ([HOLDS, UNTRAINED], UNTRAINED),
        ([UNTRAINED, OPEN], OPEN),
        ([OPEN, FAILS, HOLDS], FAILS),
        ([HOLDS, NOT_RUN], HOLDS),
        ([NOT_RUN], NOT_RUN),
        ([], NOT_RUN),
    ],
)
def test_lines_decide_a_claim_together(lines: list[str], word: str) -> None:
    assert verdicts.together(lines) == word
    said = verdicts.Said("C1", "", [Claim("C1", str(k), "", {STRICT: Finding(None, w, 0.0)}) for k, w in enumerate(lines)])
    extra = Claim("C1", "extra", "", {STRICT: Finding(None, FAILS, 0.0)}, extra=True)
    assert said.verdicts[STRICT] == word
    assert verdicts.Said("C1", "", [*said.lines, extra]).verdicts[STRICT] == word
    assert said.verdicts[PAPER] == NOT_RUN


def test_a_line_without_a_form_speaks_in_every_manner() -> None:
    a, b, c = (Finding(None, w, 0.0) for w in (HOLDS, FAILS, OPEN))
    claim = Claim("C20", "", "", {("published", ""): a, ("strict", ""): b})
    assert [verdicts.in_manner(claim, m) for m in MANNERS] == [a, a, b]
    assert [verdicts.in_manner(Claim("C19", "", "", {("any", ""): c}), m) for m in MANNERS] == [c, c, c]


# --- numbers ---------------------------------------------------------------------------------------------------------


def test_means_over_the_grid(opened: Opened) -> None:
    """C1, C12 and C21 against plain numpy."""
    opened.noise()
    o, labels = opened, ["FGSM", CW]

    def accuracy(defence: str, a: str, b: str) -> float:
        d = o.detector(defence, "published", a)
        return float(((o.score(d, "any/test/natural") <= 0).mean() + (o.score(d, f"published/test/{b}") > 0).mean()) / 2)

    then = again(opened)
    gap = np.mean([accuracy("JSD", a, b) - accuracy("ID", a, b) for a in labels for b in labels])
    assert number(then, "C1", PAPER).value == pytest.approx(gap)
    for d in ("SPD", "ID"):
        loss = np.mean([accuracy(d, a, a) - accuracy(d, "combined", a) for a in labels])
        assert number(then, "C12", PAPER, d).value == pytest.approx(loss)
    assert number(then, "C21", PAPER, "ID").value == pytest.approx(accuracy("ID", CW, CW) - accuracy("ID", "FGSM", "FGSM"))


def test_jsd_is_better_only_because_id_did_not_train(opened: Opened) -> None:
    """C1: JSD finds everything, ID nothing; and the other way round it holds only because JSD did not train."""
    heads = {(d, a): opened.detector(d, "published", a) for d in ("ID", "JSD") for a in ("FGSM", CW)}

    def finding(good: str, untrained: tuple[str, ...] = ()) -> Finding:
        for (d, a), head in heads.items():
            trained(opened, head, "published", a)
            put(opened, head, "any/test/natural", -1.0)
            for b in ("FGSM", CW):
                put(opened, head, f"published/test/{b}", 1.0 if d == good else -1.0)
            if d in untrained:
                put(opened, head, "any/detector_train/natural", 0.0)
                put(opened, head, f"published/detector_train/{a}", 0.0)
        return line(again(opened), "C1").findings[PAPER]

    assert (finding("JSD").verdict, finding("JSD").why) == (FAILS, "")
    fails = finding("JSD", ("ID",))
    assert (fails.verdict, fails.why, fails.stamped) == (FAILS, "only because ID did not train", ["ID: FGSM, C&W"])
    assert finding("ID").verdict == HOLDS
    assert finding("ID", ("ID",)).verdict == HOLDS
    holds = finding("ID", ("JSD",))
    assert (holds.verdict, holds.stamped) == (UNTRAINED, ["JSD: FGSM, C&W"])


def maps(o: Opened, fgsm: float, cw: float, spread: float) -> Computed:
    """The published distances of the learnt map: of different images around .5."""
    rng = np.random.default_rng(0)
    (s,) = [s["name"] for s in o.body["sets"] if s["facts"]["kind"] == "shift" and s["facts"]["protocol"] == "published"]
    o.column(s, "other")[:] = 0.5 + spread * rng.standard_normal(len(o.column(s, "other")))
    for a, v in (("FGSM", fgsm), (CW, cw)):
        o.column(s, f"{a}/shift")[:] = v + spread * rng.standard_normal(len(o.column(s, "other")))
    return again(o)


@pytest.mark.parametrize(
    ("fgsm", "cw", "spread", "move", "further"),
    [
        (0.6, 0.6, 0.01, HOLDS, HOLDS),
        (0.6, 0.4, 0.01, FAILS, HOLDS),  # one of two is half, not most
        (0.8, 0.4, 0.01, OPEN, HOLDS),  # and the mean lies above
        (0.4, 0.4, 0.01, FAILS, FAILS),
        (0.4, 0.5, 0.3, FAILS, OPEN),
    ],
)
def test_how_far_maps_move(opened: Opened, fgsm: float, cw: float, spread: float, move: str, further: str) -> None:
    """C2 and C3."""
    then = maps(opened, fgsm, cw, spread)
    assert [line(then, c).findings["published", ""].verdict for c in ("C2", "C3")] == [move, further]
    (s,) = [s["name"] for s in opened.body["sets"] if s["facts"]["kind"] == "shift" and s["facts"]["protocol"] == "published"]
    columns = [opened.column(s, c).astype(float) for c in ("FGSM/shift", f"{CW}/shift", "other")]
    n = number(then, "C2", ("published", ""))
    assert (n.value, n.n) == (pytest.approx(((columns[0] + columns[1]) / 2 - columns[2]).mean()), len(columns[0]))
    share = number(then, "C3", ("published", ""))
    assert share.value is not None and share.lo is not None and share.hi is not None
    assert share.lo <= share.value <= share.hi


def test_jsd_with_its_gradient_zeroed(opened: Opened) -> None:
    """C17: JSD finds a third, with its gradient zeroed a half, ID everything; then ID nothing."""
    c, natural = counting(opened, CW), "any/test/natural"
    zeroed, jsd, image = (opened.detector(d, "strict", CW, f) for d, f in (("JSD", "gradient zeroed"), ("JSD", "paired"), ("ID", "paired")))
    for d, share in ((zeroed, 1 / 2), (jsd, 1 / 3), (image, 1.0)):
        if d is not zeroed:
            trained(opened, d, "strict", CW)
        values = np.full(len(c), -1e6)
        values[np.flatnonzero(c)[: round(share * c.sum())]] = 1e6
        put(opened, d, f"strict/test/{CW}", values)
    slug = f"JSD zeroed on {CW}"
    then = again(opened)
    f = line(then, "C17", slug).findings[STRICT]
    assert f.verdict == HOLDS
    assert number(then, "C17", STRICT, slug).value == pytest.approx(round(c.sum() / 2) / c.sum() - 1)
    assert then.ledger.value(f.beside["JSD minus ID"]) == pytest.approx(round(c.sum() / 3) / c.sum() - 1)
    assert {f.verdict for m, f in line(then, "C17", slug).findings.items() if m != STRICT} == {NOT_RUN}
    put(opened, image, f"strict/test/{CW}", np.full(len(c), -1e6))
    f = line(again(opened), "C17", slug).findings[STRICT]
    assert (f.verdict, "JSD is not below ID" in f.why) == (FAILS, True)
    assert opened.score(zeroed, natural).shape == (100,)


def test_attacks_that_leave_too_much_or_are_too_large(opened: Opened) -> None:
    """C20 and the first part of C21."""
    for a, rms in (("FGSM", 0.1), (CW, 0.05)):
        name = f"published/test/{a}"
        opened.column(name, "rms")[:] = rms
        opened.column(name, "predicted")[:] = opened.column(name, "label") + 1
    assert number(then := again(opened), "C20", ("published", "")).value == 0.0
    assert words(then)["C20", "accuracy", "published", ""] == words(then)["C21", "perturbations", "published", ""] == HOLDS
    assert number(then, "C21", ("published", ""), "perturbations").value == pytest.approx(-0.05, abs=1e-6)
    opened.column(f"published/test/{CW}", "predicted")[:60] = opened.column(f"published/test/{CW}", "label")[:60]
    opened.column(f"published/test/{CW}", "rms")[:] = 0.2
    then = again(opened)
    f = line(then, "C20").findings["published", ""]
    assert (f.verdict, f.why, then.ledger.value(f.id or "")) == (FAILS, "under C&W", pytest.approx(0.6))
    f = line(then, "C21", "perturbations").findings["published", ""]
    assert (f.verdict, f.why) == (FAILS, "C&W minus FGSM")


# --- what moves what ---------------------------------------------------------------------------------------------------


def test_one_corrupted_score_moves_the_verdict_it_feeds_and_no_other(opened: Opened) -> None:
    """C18 on C&W: ID+ finds just so much more than ID that it is not two points; with one more image that is no longer sure."""
    c, d = counting(opened, CW), opened.detector("IDPlus", "strict", CW)
    image, name = opened.detector("ID", "strict", CW), f"strict/test/{CW}"
    trained(opened, d, "strict", CW)
    trained(opened, image, "strict", CW)
    where, ids = np.flatnonzero(c), Records(opened.folder).sets[name].ids[c]
    draws = Resamples(Records(opened.folder).natural("test").ids)

    def ahead(k: int) -> np.ndarray[Any, Any]:
        """ID+ minus ID of the images that count: k more, and twenty fewer."""
        return np.where(np.arange(len(where)) < 20, -1.0, np.where(np.arange(len(where)) < 20 + k, 1.0, 0.0))

    k = next(k for k in range(60) if rate(draws, ids, [ahead(k)]).hi > 0.0199) - 1
    for head, flags in ((d, ahead(k) > 0), (image, ahead(k) < 0)):
        values = np.full(len(c), -1e6)
        values[where[flags]] = 1e6
        put(opened, head, name, values)
    before = again(opened)
    key = ("C18", f"ID+ on {CW}", *STRICT)
    assert words(before)[key] == HOLDS
    for i in range(k, k + 25):
        opened.score(d, name)[where[20 + i]] = 1e6
    after = again(opened)
    assert words(after)[key] != HOLDS
    assert {i for i, w in words(before).items() if w != words(after)[i]} == {key}
    moved = {i for i, n in before.ledger.numbers.items() if i.startswith("paper/") and n != after.ledger[i]}
    assert {i.split("/")[1] for i in moved} == {"C18"}


@pytest.mark.parametrize(
    ("detector", "form", "feeds"),
    [
        ("JSD", "gradient zeroed", {"C17"}),
        ("SMD", "paired", {"C5", "C12"}),
        ("SPD", "paired", {"C5", "C6", "C12"}),
        ("Margin2", "paired", set()),
    ],
)
def test_a_detectors_scores_move_the_claims_on_it_alone(opened: Opened, found: Computed, detector: str, form: str, feeds: set[str]) -> None:
    """All flags of one strict detector, trained on FGSM, are turned over."""
    d = opened.detector(detector, "strict", "FGSM", form)
    for a in ("FGSM", CW):
        if any(s["detector"] == d["index"] and s["set"] == opened.set(f"strict/test/{a}")["index"] for s in opened.body["scores"]):
            score = opened.score(d, f"strict/test/{a}")
            score[:] = np.where(score > d["thresholds"]["0.05"], -1e6, 1e6)
    then = again(opened)
    moved = {i for i, n in found.ledger.numbers.items() if re.match(r"paper/C\d+/", i) and n != then.ledger.numbers.get(i)}
    moved |= {f.id for c in found.paper.claims for f in c.findings.values() if f.id and found.ledger[f.id] != then.ledger[f.id]}
    mine = {c.claim for c in found.paper.claims for f in c.findings.values() if {f.id, *f.beside.values(), f.trained} & moved}
    assert mine == feeds
    changed = {k for k, w in words(found).items() if w != words(then)[k]}
    assert {c for c, *_ in changed} <= feeds
    assert {k[2:] for k in changed} <= {STRICT}


def test_verify_holds_and_finds_a_changed_claim(opened: Opened) -> None:
    folder = opened.close()
    page.write(folder)
    assert not problems(folder)
    body = json.loads((folder / "report.json").read_text())
    mine = next(n for n in body["numbers"] if n["id"].startswith("paper/C12/strict"))
    mine["value"] += 0.01
    (folder / "report.json").write_text(json.dumps(body))
    (told,) = problems(folder)
    assert told.startswith(mine["id"])


# --- a timing ----------------------------------------------------------------------------------------------------------


def timing(p50: float = 10.0) -> dict[str, Any]:
    row = {"subject": "guard: SPD", "batch": 1, "threads": 1, "calls": 500, "p50_ms": p50, "p50_ms_interval": [p50 - 1, p50 + 1]}
    row |= {"p99_ms": 2 * p50, "ratio": 4.0, "ratio_interval": [3.9, 4.1]}
    about = {
        "command": "python -m benchmarks.guard",
        "plan": "fast dataset=digits, untrained",
        "machine": {"cpu": "a"},
        "warnings": ["busy"],
    }
    return about | {"rows": [row | {"threads": 2, "p50_ms": 1.0}, row]}


@pytest.mark.parametrize(("p50", "word"), [(10.0, HOLDS), (38.9, HOLDS), (40.0, OPEN), (41.5, FAILS)])
def test_a_timing_decides_real_time(p50: float, word: str) -> None:
    ledger = Ledger()
    claim = verdicts.timed(ledger, timing(p50))
    (f,) = claim.findings.values()
    n = ledger[f.id or ""]
    assert (f.verdict, n.value, n.n) == (word, pytest.approx(1000 / p50), 500)
    assert "busy" in f.why
    assert [ledger.value(i) for i in f.beside.values()] == [pytest.approx(500 / p50), 4.0]


@pytest.mark.parametrize("body", [{}, [], {"rows": []}, timing() | {"machine": None}])
def test_a_file_that_is_no_timing(body: Any) -> None:
    with pytest.raises(DataDamaged, match="timing is damaged"):
        verdicts.timed(Ledger(), body)


# --- the document --------------------------------------------------------------------------------------------------------


@pytest.fixture
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.nightly  # minutes of resampling
@pytest.mark.usefixtures("at_root")
def test_the_document_is_what_the_recorded_runs_give() -> None:
    """`salientry report results/... --timing results/benchmarks/guard.json --claims docs/claims.md` writes it again."""
    assert Path("results/fast/cifar10") in RECORDED
    assert (ROOT / "docs/claims.md").read_text() == document.text(RECORDED, TIMING)


def test_a_document_of_two_runs(finished: Path, found: Computed, tmp_path: Path) -> None:
    (tmp_path / "timing.json").write_text(json.dumps(timing()))
    out = tmp_path / "new" / "claims.md"
    given = ["report", str(finished), str(finished), "--claims", str(out), "--timing", str(tmp_path / "timing.json")]
    told = CliRunner().invoke(app, given)
    assert (told.exit_code, told.output) == (0, f"wrote {out}\n")
    text = out.read_text()
    assert re.findall(r"^## (C\d+)$", text, re.M) == EVERY
    assert [m for m in re.findall(r"^\| \[(C\d+)\]", text, re.M)] == EVERY
    rows = {s.claim: text[text.index(f"## {s.claim}\n") :].split("\n## ")[0] for s in found.paper.said}
    assert "**holds** | 100.0 [90.9, 111.1] | 500" in rows["C4"]
    for s in found.paper.said:
        assert s.words in rows[s.claim]
        assert "`tests.tiny` (digits, seed 0)" in rows[s.claim]
        for c in s.lines if s.claim != "C4" else []:
            assert c.words in rows[s.claim]
            for f in c.findings.values():
                assert f"**{f.verdict}**" in rows[s.claim]
                assert document.number(found.ledger, f.id) in rows[s.claim]
    for where, what in verdicts.sentences()["contradictions"]:
        assert f"- {where}: {what}." in text
    widths = {len(re.findall(r"(?<!\\)\|", r)) for r in rows["C5"].splitlines() if r.startswith("|")}
    assert len(widths) == 1, "every row has as many cells"


def test_a_timing_of_another_data_set_is_not_taken(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps(timing() | {"plan": "fast dataset=cifar10, untrained"}))
    text = document.text([finished], tmp_path / "t.json")
    assert "the timing is of fast dataset=cifar10, untrained" in text


def test_a_data_set_that_the_paper_does_not_have(opened: Opened) -> None:
    for s in opened.body["sets"]:
        s["facts"]["dataset"] = "Arrays"
    text = document.text([opened.close()])
    assert text.count("the paper has no data set Arrays") == 21


@pytest.mark.parametrize(
    ("value", "lo", "hi", "shown"),
    [
        (0.1351, 0.117, 0.155, ".135 [.117, .155]"),
        (-0.0014, -0.0031, 0.0004, "−.0014 [−.0031, .0004]"),
        (0.0, 0.0, 0.0, ".000 [.000, .000]"),
        (1.0, 0.996, 1.0, "1.000 [.996, 1.000]"),
        (101.53, 99.7, 103.5, "101.5 [99.7, 103.5]"),
        (0.5, math.nan, math.nan, ".500"),
    ],
)
def test_how_numbers_are_written(value: float, lo: float, hi: float, shown: str) -> None:
    ends = [None if math.isnan(v) else v for v in (lo, hi)]
    ledger = Ledger()
    ledger.numbers["x"] = Number("x", value, ends[0], ends[1], 9, "strict", [], [])
    assert document.number(ledger, "x") == shown
    assert document.number(ledger, None) == ""


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["a", "b", "c"], "a report is of one folder and perhaps the one with the white box on the same classifier; found 3"),
        (["a", "b", "--verify"], "a report is of one folder; found 2"),
        (["a", "--claims", "c.md", "--verify"], "--claims writes a document and does nothing else: leave --verify away"),
        (["a", "--claims", "c.md", "--cells", "figure2"], "leave --cells away"),
        (["a", "--timing", "t.json"], "--timing goes into the document of --claims FILE"),
        (["a", "--claims", "c.md"], "no records in a"),
    ],
)
def test_options_that_do_not_go_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], says: str) -> None:
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(app, ["report", *given])
    assert told.exit_code == 2
    assert says in told.output
    assert not list(tmp_path.iterdir())
