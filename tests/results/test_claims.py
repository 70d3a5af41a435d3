"""Verdicts on the paper's claims: the rules, numbers against plain numpy, run seeds asked the same, and the size of the run."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from salientry.errors import DataDamaged
from salientry.results import claims
from salientry.results.claims import FAILS, HOLDS, MANNERS, NOT_RUN, OPEN, SIZE, UNTRAINED, judge, single
from salientry.results.claims.asked import Answer, Book, Question, each
from salientry.results.claims.size import STEPS, Size, paper_layers, same_net, steps_of
from salientry.results.numbers import numbers
from salientry.results.scores import Scores
from salientry.results.trained import Trained

from .oracle import ROOT

CW = "CarliniWagner-steps=60-lr=0.01-initial_const=0.1-confidence=0.05"
BIM = "BIM-eps=0.025-step_size=0.0025"
PAPER, STRICT = ("published", "paired"), ("strict", "paired")
EVERY = [f"C{k}" for k in range(1, 22)]
SMALL, FULL = Size("72 steps", reduced=True), Size("20,000 steps", reduced=False)
Runs = list[tuple[Scores, pd.DataFrame]]


def run(name: str = "assira-seed1") -> Scores:
    """Two attacks, two detector seeds; a test may change what it holds."""
    return Scores.read(ROOT / "fast" / name)


@pytest.fixture(scope="module")
def recorded() -> tuple[Scores, pd.DataFrame]:
    """Read only."""
    s = run()
    return s, numbers(s)


@pytest.fixture(scope="module")
def both(recorded: tuple[Scores, pd.DataFrame]) -> Runs:
    """Two run seeds, one with six attacks and one with two. Read only."""
    (first,) = Scores.read_all([ROOT / "fast" / "assira", ROOT / "whitebox" / "assira"])
    return [(first, numbers(first)), recorded]


@pytest.fixture(scope="module")
def judged(both: Runs) -> pd.DataFrame:
    return claims.verdicts(both)[0]


def again(s: Scores) -> pd.DataFrame:
    return claims.verdicts([(s, numbers(s))])[0]


def line(of: pd.DataFrame, claim: str, manner: tuple[str, str], starts: str = "", seed: int | None = 1) -> dict[str, Any]:
    found = [r for r in of.to_dict("records") if r["claim"] == claim and (r["protocol"], r["scheme"]) == manner and r["run_seed"] == seed]
    return next(r for r in found if str(r["line"]).startswith(starts))


def head(s: Scores, detector: str, protocol: str, attack: str, scheme: str = "paired") -> Trained:
    found = [g for g in s.trained if (g.protocol, g.detector, g.trained_on, g.scheme) == (protocol, detector, attack, scheme)]
    return found[0]


def put(g: Trained, name: str, values: Any) -> None:
    """Other scores in place of a detector's, of each seed."""
    for f in g.seeds:
        scores, keys = f.scores[name]
        f.scores[name] = np.broadcast_to(np.asarray(values, np.float64), scores.shape).copy(), keys


def trained(g: Trained, *, well: bool = True) -> None:
    """Make a detector one that trained, or did not."""
    put(g, "any/detector_train/natural", -1.0 if well else 0.0)
    put(g, f"{g.protocol}/detector_train/{g.trained_on}", 1.0 if well else 0.0)


# --- rules ------------------------------------------------------------------------------------------------------------


def book(**intervals: tuple[float, float, float]) -> Book:
    place = {"n": 9, "seeds": (), "keys": (), "protocol": "strict", "source": "run"}
    rows = [{"id": i, "value": v, "lo": lo, "hi": hi} | place for i, (v, lo, hi) in intervals.items()]
    return Book(pd.DataFrame(rows), "mnist", 0)


def asked(id: str, above: bool, boundary: float, fails: float | None = None, **more: Any) -> Question:
    return Question("C1", "x", "", (), each(above), each(boundary), {STRICT: Answer(id, **more)}, fails)


def verdict(b: Book, q: Question, size: Size = FULL) -> str:
    side, tests, _ = judge.corrected(b, [q])
    return judge.judged(q, STRICT, b, side, tests, size)[0]


@pytest.mark.parametrize(
    ("lo", "hi", "boundary", "above", "fails", "word"),
    [
        (-0.05, 0.015, 0.02, False, None, HOLDS),
        (-0.05, 0.021, 0.02, False, None, OPEN),
        (0.021, 0.05, 0.02, False, None, FAILS),
        (0.021, 0.05, 0.02, True, None, HOLDS),
        (-0.05, 0.01, 0.02, False, 0.0, HOLDS),  # C1, C18
        (0.008, 0.016, 0.02, False, 0.0, HOLDS),  # better, but not by two points
        (0.001, 0.05, 0.02, False, 0.0, OPEN),  # two comparisons: at .05 each, it would not hold
        (0.01, 0.05, 0.02, False, 0.0, FAILS),
    ],
)
def test_one_number_and_its_boundaries(lo: float, hi: float, boundary: float, above: bool, fails: float | None, word: str) -> None:
    assert verdict(book(a=((lo + hi) / 2, lo, hi)), asked("a", above, boundary, fails)) == word


def test_an_interval_that_ends_on_the_boundary_has_p_05() -> None:
    b = book(a=(0.1, 0.0, 0.3), b=(1.0, 0.988, 1.0), c=(0.0, 0.0, 0.0))
    assert b.p("a", 0.0) == pytest.approx(0.05, rel=1e-4)
    assert b.p("a", 0.3) == pytest.approx(0.05, rel=1e-4)
    assert b.p("b", 0.988) == pytest.approx(0.05, rel=1e-4)
    assert (b.p("c", 0.0), b.p("c", 0.1)) == (1.0, 0.0)


def test_more_questions_need_more_certainty() -> None:
    """Each of five holds alone; of one list, none does: Holm's correction."""
    b = book(**{k: (0.1, 0.01, 0.19) for k in "abcde"})
    questions = [asked(k, True, 0.0) for k in "abcde"]
    assert {verdict(b, q) for q in questions} == {HOLDS}
    side, tests, p = judge.corrected(b, questions)
    assert {judge.judged(q, STRICT, b, side, tests, FULL)[0] for q in questions} == {OPEN}
    assert list(p.values()) == pytest.approx([5 * b.p("a", 0.0)] * 5)


@pytest.mark.parametrize(
    ("value", "full", "small"),
    [(0.5, HOLDS, HOLDS), (-0.5, FAILS, SIZE), (0.0, OPEN, OPEN)],
)
def test_a_smaller_run_shows_no_failure(value: float, full: str, small: str) -> None:
    b, q = book(a=(value, value - 0.1, value + 0.1)), asked("a", True, 0.0)
    assert (verdict(b, q, FULL), verdict(b, q, SMALL)) == (full, small)


def test_a_baseline_that_did_not_train() -> None:
    """Where it trained the number says something else, or is not there: at the paper's size in so many words, else its size."""
    b = book(a=(0.5, 0.4, 0.6), b=(-0.5, -0.6, -0.4), c=(0.3, 0.2, 0.4))
    for other, full in ((None, UNTRAINED), ("b", UNTRAINED), ("c", HOLDS)):
        q = asked("a", True, 0.0, lost=("ID", "above"), trained=other)
        assert verdict(b, q, FULL) == full
        assert verdict(b, q, SMALL) == (HOLDS if full == HOLDS else SIZE)


@pytest.mark.parametrize(
    ("words", "together", "seeds"),
    [
        ([HOLDS, HOLDS], HOLDS, HOLDS),
        ([HOLDS, FAILS], FAILS, OPEN),
        ([HOLDS, SIZE], SIZE, OPEN),
        ([OPEN, HOLDS, SIZE], SIZE, OPEN),
        ([HOLDS, UNTRAINED], UNTRAINED, OPEN),
        ([HOLDS, NOT_RUN], HOLDS, NOT_RUN),
        ([NOT_RUN], NOT_RUN, NOT_RUN),
        ([], NOT_RUN, NOT_RUN),
        ([SIZE, SIZE], SIZE, SIZE),
    ],
)
def test_lines_decide_a_claim_and_seeds_a_line(words: list[str], together: str, seeds: str) -> None:
    """Lines all have to hold, those that were not run are passed over; seeds have to agree, and each must have been asked."""
    assert judge.together(words) == together
    assert judge.of_seeds(words) == seeds


@pytest.mark.parametrize(
    ("share", "mean", "word"),
    [(4 / 6, "above", HOLDS), (4 / 6, "open", HOLDS), (4 / 6, "below", OPEN), (0.5, "open", FAILS), (0.5, "above", OPEN)],
)
def test_most_attacks_move_maps_further(share: float, mean: str, word: str) -> None:
    assert judge.most(share, mean) == word


@pytest.mark.parametrize(("sides", "word"), [("aab", HOLDS), ("ab", HOLDS), ("ao", HOLDS), ("aoob", OPEN), ("bbo", FAILS), ("bb", FAILS)])
def test_half_of_the_attacks(sides: str, word: str) -> None:
    assert judge.half([{"a": "above", "b": "below", "o": "open"}[s] for s in sides]) == word


@pytest.mark.parametrize(
    ("premise", "zeroed", "word"),
    [("below", "below", HOLDS), ("below", "above", FAILS), ("below", "open", OPEN), ("open", "below", OPEN), ("above", "below", FAILS)],
)
def test_footnote_9_has_a_premise(premise: str, zeroed: str, word: str) -> None:
    assert judge.premise(premise, zeroed) == word


# --- the size of a run -------------------------------------------------------------------------------------------------


def test_the_papers_nets_are_known_when_they_come() -> None:
    assert paper_layers("MNIST") == [("conv", 64, 8)] * 2 + [("conv", 128, 6)] * 2 + [("conv", 128, 3)] * 2 + [("linear", 10, 0)]
    assert len(paper_layers("ASSIRA")) == 8 + 3
    layers = [f"conv {k}x{k} 1→{w}" if kind == "conv" else f"linear 9→{w}" for kind, w, k in paper_layers("MNIST")]
    assert same_net("MNIST", layers)
    assert same_net("MNIST", [*layers[:-1], "batch norm", "linear 9→2"], 2)
    assert not same_net("MNIST", layers[1:])
    assert not same_net("CIFAR-10", layers)


@pytest.mark.parametrize(("name", "column", "paired", "replica"), [("assira-seed1", "ASSIRA", 72, 144), ("mnist-seed1", "MNIST", 240, 480)])
def test_steps_of_a_head(name: str, column: str, paired: int, replica: int) -> None:
    s = run(name)
    attack = s.labels[0]
    assert steps_of(s, "published", "paired", "ID", attack) == paired
    assert steps_of(s, "published", "replica", "ID", attack) == replica
    assert replica < STEPS[column]


def test_the_budget_and_the_net_stand_in_every_verdict_on_heads(judged: pd.DataFrame) -> None:
    on_heads = judged[judged["claim"].isin(["C5", "C11"]) & judged["id"].notna()]
    assert set(on_heads["size"]) == {f"{n} of about 950 steps a head, other nets" for n in (60, 66, 72, 144)}
    assert {FAILS, UNTRAINED}.isdisjoint(judged["verdict"])
    assert SIZE in set(judged["verdict"])


# --- of recorded runs ---------------------------------------------------------------------------------------------------


def test_all_21_are_asked_and_every_number_is_somewhere(both: Runs, judged: pd.DataFrame) -> None:
    _, further = claims.verdicts(both)
    known = {r["id"] for r in further} | {i for _, f in both for i in f["id"]}
    for r in judged.to_dict("records"):
        assert {i for i in (r["id"], r["trained"], r["auroc"], *r["beside"].values()) if i} <= known
        assert r["verdict"] == NOT_RUN or r["run_seed"] is None or r["id"] is not None
        assert r["id"] is not None or r["why"] or r["run_seed"] is None
    words = claims.claims(judged)
    for seed in (0, 1, None):
        assert list(dict.fromkeys(words[[s is seed or s == seed for s in words["run_seed"]]]["claim"])) == EVERY
    assert len(words) == 3 * 21 * len(MANNERS)
    assert set(claims.sentences()["claims"]) == set(EVERY)
    assert len(claims.sentences()["contradictions"]) == 11


def test_run_seeds_are_asked_the_same(judged: pd.DataFrame) -> None:
    """The grid of six attacks cannot be asked of a run with two: it was not run there, nor together; the two are asked of both."""
    rows = [r for r in judged.to_dict("records") if r["claim"] == "C5" and r["line"] == "SPD minus ID" and r["scheme"] == "replica"]
    full, shared = ([r for r in rows if len(r["over"]) == n] for n in (6, 2))
    assert [(r["run_seed"], r["verdict"] == NOT_RUN) for r in full] == [(0, False), (None, True)]
    assert [r["run_seed"] for r in shared] == [0, 1, None]
    assert "of BIM 0.025, C&W alone" in shared[0]["words"]
    words = [r["verdict"] for r in shared]
    assert words[2] == (words[0] if words[0] == words[1] else OPEN)
    assert {tuple(sorted(r["over"])) for r in shared} == {(BIM, CW)}


def test_the_papers_own_manner_is_the_first(judged: pd.DataFrame) -> None:
    assert MANNERS[0] == ("published", "replica")
    first = next(r for r in judged.to_dict("records") if r["claim"] == "C1")
    assert (first["protocol"], first["scheme"]) == MANNERS[0]


def test_a_run_of_the_white_box_alone() -> None:
    s = Scores.read(ROOT / "whitebox" / "digits")
    found = again(s)
    ran = set(found[found["verdict"] != NOT_RUN]["claim"])
    assert ran == {"C13", "C14", "C15", "C16"}
    assert line(found, "C13", PAPER, "SPD", 0)["id"] == "white box/table 3/as printed/.2/SPD/T=5/detector"
    assert "budget" in line(found, "C13", STRICT, "SPD", 0)["why"]
    assert "the white box alone" in line(found, "C5", ("any", ""), "", 0)["why"]


def test_a_hardened_detector_that_an_attack_is_too_weak_for_was_not_run() -> None:
    """C14, strict: SPD stands, but the attacks on it find no known adversarials."""
    s = Scores.read(ROOT / "whitebox" / "digits")
    hardened = [i for i in s.white_box.values() if i["hardened"] == "selective" and i["detector"] == "SPD"]
    for i in hardened:
        if i["kind"] == "white box" and i["independent_rerun"]:
            i["score"] = np.full_like(i["score"], 1e9)
        if i["kind"] == "binarization":
            i["found"] = np.zeros_like(i["found"])
    r = line(again(s), "C14", STRICT, "SPD", 0)
    assert (r["verdict"], "attack too weak" in r["why"], r["value"]) == (NOT_RUN, True, 0.0)


def test_a_run_without_a_number_of_any_detector() -> None:
    s = run()
    s.trained = []
    found = again(s)
    assert set(found[found["verdict"] != NOT_RUN]["claim"]) == {"C19", "C20", "C21"}, "what is asked of the classifier and the attacks"


def test_a_data_set_that_the_paper_does_not_have() -> None:
    s = run("assira-seed1")
    for i in s.images.values():
        i["dataset"] = "Arrays"
    found = again(s)
    assert list(found[found["run_seed"].notna()]["why"]) == ["the paper has no data set Arrays"] * 21
    assert set(found["verdict"]) == {NOT_RUN}


# --- numbers ------------------------------------------------------------------------------------------------------------


def accuracy(s: Scores, detector: str, a: str, b: str) -> float:
    g = head(s, detector, "published", a)
    pairs = zip(g.scores("any/test/natural"), g.scores(f"published/test/{b}"), strict=True)
    return float(np.mean([((n <= 0).mean() + (x > 0).mean()) / 2 for n, x in pairs]))


def test_means_over_the_grid_are_plain_means(recorded: tuple[Scores, pd.DataFrame], judged: pd.DataFrame) -> None:
    s, labels = recorded[0], [CW, BIM]
    gap = np.mean([accuracy(s, "JSD", a, b) - accuracy(s, "ID", a, b) for a in labels for b in labels])
    r = line(judged, "C1", PAPER)
    assert (r["value"], r["n"]) == (pytest.approx(gap), 315)
    assert r["lo"] < r["value"] < r["hi"]
    for d in ("SPD", "ID"):
        loss = np.mean([accuracy(s, d, a, a) for a in labels]) - np.mean([accuracy_of_mixture(s, d, a) for a in labels])
        assert line(judged, "C12", PAPER, d)["value"] == pytest.approx(loss)
    assert line(judged, "C21", PAPER, "ID")["value"] == pytest.approx(accuracy(s, "ID", CW, CW) - accuracy(s, "ID", BIM, BIM))


def accuracy_of_mixture(s: Scores, detector: str, tested: str) -> float:
    g = head(s, detector, "published", "combined")
    pairs = zip(g.scores("any/test/natural"), g.scores(f"published/test/{tested}"), strict=True)
    return float(np.mean([((n <= 0).mean() + (x > 0).mean()) / 2 for n, x in pairs]))


def test_jsd_is_better_only_because_id_did_not_train() -> None:
    """C1: JSD finds everything, ID nothing. Reduced as the run is, it cannot say that the claim does not hold."""

    def found(good: str, untrained: tuple[str, ...] = ()) -> dict[str, Any]:
        s = run()
        for d in ("ID", "JSD"):
            for a in (CW, BIM):
                g = head(s, d, "published", a)
                trained(g, well=d not in untrained)
                put(g, "any/test/natural", -1.0)
                for b in (CW, BIM):
                    put(g, f"published/test/{b}", 1.0 if d == good else -1.0)
        return line(again(s), "C1", PAPER)

    r = found("JSD")
    assert (r["verdict"], r["why"], r["weak"]) == (SIZE, "", ())
    r = found("JSD", ("ID",))
    assert (r["verdict"], r["weak"]) == (SIZE, ("ID: C&W, BIM 0.025",))
    assert "only because the AUROC of ID" in r["why"]
    assert found("ID")["verdict"] == HOLDS
    r = found("ID", ("JSD",))
    assert (r["verdict"], r["trained"], r["weak"]) == (SIZE, None, ("JSD: C&W, BIM 0.025",))


def test_a_detectors_scores_move_the_claims_on_it_alone(judged: pd.DataFrame) -> None:
    """All flags of strict SMD trained on C&W are turned over: C5 and C12 move, and nothing published does."""
    s = run()
    g = head(s, "SMD", "strict", CW)
    for f in g.seeds:
        for a in (CW, BIM):
            scores, keys = f.scores[f"strict/test/{a}"]
            f.scores[f"strict/test/{a}"] = np.where(scores > f.thresholds["0.05"], -1e6, 1e6), keys
    before = {_place(r): r["value"] for r in judged.to_dict("records") if r["run_seed"] == 1 and not math.isnan(r["value"])}
    after = {_place(r): r["value"] for r in again(s).to_dict("records") if r["run_seed"] == 1}
    moved = {k for k, v in before.items() if v != after[k]}
    assert {k[0] for k in moved} == {"C5", "C12"}
    assert {k[2:] for k in moved} == {STRICT}
    assert {k[1] for k in moved} == {"SPD minus SMD", "SMD specific minus combined"}


def _place(r: dict[str, Any]) -> tuple[str, str, str, str]:
    return r["claim"], r["line"], r["protocol"], r["scheme"]


@pytest.mark.parametrize(
    ("bim", "cw", "move", "further"),
    [(0.6, 0.6, HOLDS, HOLDS), (0.6, 0.4, SIZE, HOLDS), (0.8, 0.4, OPEN, HOLDS), (0.4, 0.4, SIZE, SIZE)],
)
def test_how_far_maps_move(bim: float, cw: float, move: str, further: str) -> None:
    """C2 and C3: one of two attacks is half, not most; unless the mean lies above all the same."""
    s, rng = run(), np.random.default_rng(0)
    i = next(i for i in s.images.values() if i["kind"] == "shift" and i["protocol"] == "published" and "own=True" not in i["saliency"])
    for column, mean in (("other", 0.5), (f"{BIM}/shift", bim), (f"{CW}/shift", cw)):
        i[column] = mean + 0.01 * rng.standard_normal(len(i["id"]))
    then = again(s)
    assert [line(then, c, ("published", ""), "second net")["verdict"] for c in ("C2", "C3")] == [move, further]
    expected = (i[f"{BIM}/shift"] + i[f"{CW}/shift"]) / 2 - i["other"]
    assert line(then, "C2", ("published", ""), "second net")["value"] == pytest.approx(expected.mean())


def test_jsd_with_its_gradient_zeroed(recorded: tuple[Scores, pd.DataFrame]) -> None:
    """C17: JSD finds a third, with its gradient zeroed a half, ID everything; then ID nothing."""

    def found(share_of_id: float) -> dict[str, Any]:
        s = run()
        evaluated = s.images[f"strict/test/{CW}"]["evaluated"]
        for d, scheme, share in (("JSD", "gradient zeroed", 1 / 2), ("JSD", "paired", 1 / 3), ("ID", "paired", share_of_id)):
            values = np.full(len(evaluated), -1e6)
            values[np.flatnonzero(evaluated)[: round(share * evaluated.sum())]] = 1e6
            put(head(s, d, "strict", CW, scheme), f"strict/test/{CW}", values)
        return line(again(s), "C17", STRICT, f"JSD zeroed on {CW}")

    n = recorded[0].images[f"strict/test/{CW}"]["evaluated"].sum()
    r = found(1.0)
    assert (r["verdict"], r["value"]) == (HOLDS, pytest.approx(round(n / 2) / n - 1))
    r = found(0.0)
    assert (r["verdict"], "JSD is not below ID" in r["why"]) == (SIZE, True)


# --- a timing -----------------------------------------------------------------------------------------------------------


def timing(p50: float = 10.0) -> dict[str, Any]:
    row = {"subject": "guard: SPD", "batch": 1, "threads": 1, "calls": 500, "p50_ms": p50, "p50_ms_interval": [p50 - 1, p50 + 1]}
    row |= {"p99_ms": 2 * p50, "ratio": 4.0, "ratio_interval": [3.9, 4.1]}
    about = {"command": "a command", "plan": "fast dataset=assira, untrained", "machine": {"cpu": "a"}, "warnings": ["busy"]}
    return about | {"rows": [row | {"threads": 2, "p50_ms": 1.0}, row]}


@pytest.mark.parametrize(("p50", "word"), [(10.0, HOLDS), (38.5, HOLDS), (40.0, OPEN), (41.5, FAILS)])
def test_a_timing_decides_real_time(p50: float, word: str) -> None:
    b = book(a=(0.0, 0.0, 0.0))
    q = single.timed(b, timing(p50), "assira")
    side, tests, _ = judge.corrected(b, [q])
    a = q.answers["any", ""]
    assert judge.judged(q, ("any", ""), b, side, tests, FULL)[0] == word
    assert (b[str(a.id)]["value"], b[str(a.id)]["n"]) == (pytest.approx(1000 / p50), 500)
    assert "busy" in a.why
    assert [b[i]["value"] for i in a.beside.values()] == [pytest.approx(500 / p50), 4.0]


def test_a_timing_of_another_data_set_is_not_taken(recorded: tuple[Scores, pd.DataFrame]) -> None:
    found, _ = claims.verdicts([recorded], timing() | {"plan": "fast dataset=cifar10, untrained"})
    assert line(found, "C4", ("any", ""))["why"] == "the timing is of fast dataset=cifar10, untrained"
    found, further = claims.verdicts([recorded], timing())
    assert line(found, "C4", ("any", ""))["verdict"] == HOLDS
    assert {r["id"] for r in further} == {"paper/C4/images a second", "paper/C4/images a second, p99", "paper/C4/times the classifier"}


@pytest.mark.parametrize("body", [{}, [], {"rows": []}, timing() | {"machine": None}])
def test_a_file_that_is_no_timing(body: Any) -> None:
    with pytest.raises(DataDamaged, match="timing is damaged"):
        single.timed(book(a=(0.0, 0.0, 0.0)), body, "assira")
