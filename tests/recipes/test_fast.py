"""Everything that ``fast`` asks beyond ``smoke``, on one finished tiny run: what depends on what, and whether its numbers are true."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salientry.attacks import FGSM, JSMA, CarliniWagner, DeepFool
from salientry.cli.running import parameters
from salientry.datasets import Digits
from salientry.detectors import LID, MSP, PASA, PUBLISHED_DETECTORS, CounterAttack, Energy, Mahalanobis, SmallCNN
from salientry.errors import UsageError
from salientry.experiment.outputs import Outputs
from salientry.experiment.records import export, rounded
from salientry.experiment.run import Run
from salientry.experiment.scoring import score
from salientry.keys import name_of
from salientry.metrics import auroc
from salientry.recipes.experiment import build
from salientry.recipes.fast import CONFIGS, SMALL_BIM, fast
from salientry.recipes.fast import config as table_config
from salientry.renamed import translated
from salientry.report.report import Made, write
from salientry.report.verification import verify
from salientry.results import steps
from salientry.results.detection import together
from salientry.results.names import NATURAL, attack_title
from salientry.results.scores import Scores
from salientry.runner.step import Handle
from salientry.saliency import Fill
from tests.datasets import test_assira
from tests.graph import scoring, upstream
from tests.shared import linked, shared
from tests.tiny_fast import CW, PUBLISHED, ROLES, SMALL, config, finish

SMALL_LABEL = "BIM-step_size=0.0375"


def _make(folder: Path) -> None:
    _, _, outcome = finish(folder / "store", folder / "out")
    assert not outcome.skipped
    write(folder / "out")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run, Outputs]:
    folder, mine = shared("fast", _make), tmp_path_factory.mktemp("fast")
    run = Run(linked(folder / "store", mine / "store"))
    return Path(shutil.copytree(folder / "out", mine / "out")), run, build(run, config())


@pytest.fixture(scope="module")
def records(finished: tuple[Path, Run, Outputs]) -> Scores:
    return Scores.read(finished[0])


@pytest.fixture(scope="module")
def found(records: Scores) -> Made:
    return Made(records, "")


# --- what depends on what ------------------------------------------------------------------------------------------


def test_the_settings_of_id_plus_are_chosen_on_select_alone(finished: tuple[Path, Run, Outputs]) -> None:
    _, run, outputs = finished
    assert outputs.recipe is not None
    stands = upstream(outputs.recipe).values()
    assert {h.args["role"] for h in stands if "role" in h.args} == {"train", "detector_train", "validation"}
    why = run.record(outputs.recipe)["value"]
    assert len(why["auroc"]) == 2
    chosen = run.get(outputs.recipe)
    fitted = [s.detector for s in outputs.scores if "settings" in s.detector.args]
    plus = {h.fingerprint for h in fitted if isinstance(h.args["settings"], Handle)}
    assert plus, "no detector was trained at the chosen settings"
    for h in fitted:
        if h.fingerprint in plus:
            assert run.record(h)["module"]["build"]["head"]["strides"] == list(chosen.head.strides)


def test_each_row_has_the_heads_that_its_place_asks_for(records: Scores) -> None:
    rows = Counter((g.protocol, g.trained_on, g.title) for g in records.of("strict")) + Counter(
        (g.protocol, g.trained_on, g.title) for g in records.of("published")
    )
    cw = next(g.trained_on for g in records.trained if g.trained_on.startswith("CarliniWagner"))
    for trained in (cw, SMALL_LABEL, "combined"):
        for title in ("SMD", "SPD", "SMD (trunk)", "SPD (trunk)", "ID", "JSD", "ID+", "Margin2", "SecondNet", "fusion"):
            assert rows["strict", trained, title] == 1, (trained, title)
    for d in PUBLISHED:
        title = name_of(d)
        assert {key: n for key, n in rows.items() if key[2] == title} == {("strict", "combined", title): 1}, "trained on all attacks alone"
    assert rows["strict", "FGSM", "SPD"] == 1
    assert not rows["strict", "FGSM", "ID+"]
    assert not rows["strict", "FGSM", "SPD (trunk)"]
    assert not rows["published", SMALL_LABEL, "SPD"]
    assert rows["published", "FGSM", "SPD (replica)"] == 1


def test_published_detectors_are_neither_fused_nor_candidates_and_one_that_is_named_is_trained_on_every_attack(tmp_path: Path) -> None:
    outputs = build(Run(tmp_path), config(detectors=(Mahalanobis(),)))
    fits = [s.detector for s in outputs.scores if s.detector.step is not None]
    trained: dict[str, set[str]] = {}
    for h in fits:
        if h.step.name == "fit_detector" and not isinstance(h.args["settings"], Handle):
            trained.setdefault(type(h.args["settings"]).__name__, set()).add(h.args.get("trained_on", "one attack"))
    assert trained["LayerStatistics"] == trained["CounterAttack"] == {"combined"} < trained["Mahalanobis"]
    fused = [type(u.args["settings"]).__name__ for h in fits if h.step.name == "fit_fusion" for u in h.args["members"]]
    assert "Mahalanobis" in fused and not {"LayerStatistics", "CounterAttack"} & set(fused)


def test_a_detector_that_asks_the_classifier_has_the_scores_that_one_step_gives(finished: tuple[Path, Run, Outputs]) -> None:
    """Each of its image sets is scored by a step of its own."""
    _, run, outputs = finished
    kinds = {s.scores.fingerprint: type(s.detector.args.get("settings")) for s in outputs.scores}
    mine = [s for s in outputs.scores if "scored" in s.scores.args]
    assert {kinds[s.scores.fingerprint] for s in mine} == {CounterAttack} and len(mine) == 2, "calibrated, and tested"
    for s in mine:
        args = {k: run.value(v) for k, v in s.scores.args.items() if k != "scored"}
        with warnings.catch_warnings(action="ignore"):  # few images calibrate
            one = score.function(sets=run.value(s.sets), **args)
        found = run.get(s.scores)
        assert one.value == found.value and set(one.arrays) == set(found.arrays)
        assert all(one.arrays[n].tobytes() == found.arrays[n].tobytes() for n in one.arrays)
        assert run.do(score, sets=s.sets, **{k: v for k, v in s.scores.args.items() if k != "scored"}).fingerprint == s.scores.fingerprint


@pytest.mark.parametrize("dataset", CONFIGS)
def test_its_tables_hold_the_ten_multilid_msp_and_energy_each_under_a_name_of_its_own(dataset: str) -> None:
    config = table_config(dataset)
    expected = {*PUBLISHED_DETECTORS.values(), LID(multi=True), MSP(), Energy()}
    assert set(config.published) == (expected - {PASA()} if dataset == "assira" else expected), "of large pictures PASA takes too long"
    called = [name_of(d) for d in (*config.members, *config.published)]
    assert len(set(called)) == len(called), "one row of a table would be of two detectors"


def test_records_are_small_and_scores_keep_twelve_digits(finished: tuple[Path, Run, Outputs]) -> None:
    out, run, outputs = finished
    assert not list(out.rglob("*.safetensors.xz.tmp"))
    assert (out / "records.safetensors.xz").exists()
    assert all(s.endswith(".safetensors.xz") for s in json.loads((out / "records.json").read_text())["shards"])
    s = next(s for s in outputs.scores if scoring(s.scores) == "test")
    exact = run.get(s.scores).arrays["any/test/natural"]
    kept = rounded(exact)
    assert kept.dtype == np.float32
    np.testing.assert_allclose(kept, exact, rtol=2.0**-13)
    assert (kept.view(np.uint32) & 0x7FF == 0).all()
    assert (rounded(kept) == kept).all()
    np.testing.assert_array_equal(rounded(np.array([0.0, -0.0, 1.0, -3.5], np.float32)), [0.0, -0.0, 1.0, -3.5])
    scores = np.sort(np.random.default_rng(0).normal(size=5000).astype(np.float32) * 10)
    assert (np.diff(rounded(scores)) >= 0).all(), "order is kept"


def test_rounding_flags_nothing_that_was_not_flagged(finished: tuple[Path, Run, Outputs], records: Scores) -> None:
    """Scores with many ties at the threshold are where it would show: the threshold is one of them."""
    _, run, outputs = finished
    seen, ties = 0, 0
    for s in outputs.scores:
        if scoring(s.scores) != "test":
            continue
        thresholds = run.get(s.scores.args["calibrated"]).value
        facts = run.record(s.detector)["facts"]
        g = next(
            g
            for g in records.trained
            if all(str(translated(facts)[k]) == getattr(g, k) for k in ("detector", "scheme", "trained_on", "protocol", "group"))
        )
        kept = next(r for r in g.seeds if r.facts["seed"] == facts["seed"])
        exact = run.get(s.scores).arrays["any/test/natural"]
        for level, threshold in thresholds.items():
            before, after = exact > threshold, kept.scores[NATURAL][0] > kept.thresholds[level]
            assert not (after & ~before).any(), (g.title, level)
            assert (before & ~after).sum() <= 2, (g.title, level)
            ties += int((exact == np.float32(threshold)).sum() > 5)
        seen += 1
    assert seen > 100
    assert ties > 0, "no score with ties: this test shows nothing"


def test_the_report_of_small_records_verifies_and_a_changed_score_is_found(finished: tuple[Path, Run, Outputs], tmp_path: Path) -> None:
    out = finished[0]
    assert verify(out) > 2000
    shutil.copytree(out, tmp_path / "copy")
    body = json.loads((tmp_path / "copy" / "report.json").read_text())
    changed = next(n for n in body["numbers"] if n["id"].startswith("ladder/"))
    changed["value"] += 0.01
    (tmp_path / "copy" / "report.json").write_text(json.dumps(body))
    with pytest.raises(Exception, match=changed["id"].split("/")[1]):
        verify(tmp_path / "copy")


# --- are the numbers true -----------------------------------------------------------------------------------------


def test_the_protocol_steps_change_one_thing_at_a_time(records: Scores, finished: tuple[Path, Run, Outputs]) -> None:
    _, run, outputs = finished
    heads: dict[str, Any] = {}
    for fitted in (s.detector for s in outputs.scores):
        if str(fitted.args.get("scheme", "")).startswith("protocol step") and fitted.seed == 0:
            facts = run.record(fitted)["facts"]
            if (facts["detector"], facts["of"]) == ("SPD", [SMALL_LABEL]):
                heads[facts["scheme"]] = fitted
    assert list(heads) == ["protocol step 0", "protocol step 1", "protocol step 2", "protocol step 4", "protocol step 5"]
    protocols = {k: h.args["protocol"] for k, h in heads.items()}
    roles = {
        k: {u.args["role"] for u in upstream(h).values() if "role" in u.args and u.step and u.step.name == "_take_role"}
        for k, h in heads.items()
    }
    norm = {k: h.args["settings"].head.norm for k, h in heads.items()}
    assert [(r.bits, r.only_positives, r.paired) for r in protocols.values()] == [
        (None, False, False),
        (None, True, False),
        (8, True, False),
        (8, True, False),
        (8, True, False),
    ]
    assert ["detector_train" in roles[k] for k in heads] == [False, False, False, True, True]
    assert list(norm.values()) == ["none"] * 4 + ["batch"]


def test_a_protocol_step_is_the_mean_of_both_classes_at_its_own_threshold(records: Scores, found: Made) -> None:
    mine = [r for r in found.rows if (r["kind"], r["detector"], r["tested_on"]) == ("protocol step", "SPD", SMALL_LABEL)]
    by = {(r["step"], r["measure"]): r["value"] for r in mine}
    assert {k for k, _ in by} == set(range(7))
    g = records.one("strict", "SPD", SMALL_LABEL, "protocol step 2")
    assert g is not None
    s, name = records.images[f"strict/test/{SMALL_LABEL}"], f"strict/test/{SMALL_LABEL}"
    for k, level in ((2, "own"), (3, "0.05")):
        by_hand = [
            (1 - n.mean() + a[s["evaluated"]].mean()) / 2 for n, a in zip(g.flags(NATURAL, level), g.flags(name, level), strict=True)
        ]
        assert by[k, "accuracy"] == pytest.approx(np.mean(by_hand))
    ranks = [auroc(n, a[s["evaluated"]]) for n, a in zip(g.scores(NATURAL), g.scores(name), strict=True)]
    assert by[2, "auroc"] == by[3, "auroc"] == pytest.approx(np.mean(ranks))


def test_the_sweep_trains_and_tests_at_every_budget(records: Scores, found: Made) -> None:
    swept = [r for r in found.rows if r["kind"] == "sweep"]
    assert list(dict.fromkeys(r["detector"] for r in swept)) == ["SMD", "SPD", "ID", "JSD"]
    budgets = list(config().sweep)
    for d in ("SMD", "SPD", "ID", "JSD"):
        assert {(r["trained_at"], r["tested_at"]) for r in swept if r["detector"] == d} == {(a, b) for a in budgets for b in budgets}
    shown = {i["attack"] for i in records.attacked("published")}
    assert not {"FGSM-eps=0.02", "FGSM-eps=0.1"} & shown, "budgets of the sweep alone stand in no other table"


def test_a_fitted_curve_finds_the_curve_that_made_the_points() -> None:
    eps = np.array([0.005, 0.01, 0.02, 0.05, 0.1, 0.2])
    for half, slope in ((0.02, 2.0), (0.1, 6.0), (0.004, 1.0)):
        found, steep = steps.fit(eps, steps.curve(eps, half, slope)[None])
        assert found[0] == pytest.approx(half, rel=0.04)
        assert steep[0] == pytest.approx(slope, rel=0.12)
        assert steps.curve(np.array(half), half, slope) == pytest.approx(0.75)
    chance, _ = steps.fit(eps, np.full((1, 6), 0.5))
    assert chance[0] == steps.FAR[-1], "never leaves chance"


def test_the_swap_is_counted_from_its_scores(records: Scores, found: Made) -> None:
    mixed = {(r["title"], r["tested_on"], r["measure"]): r["value"] for r in found.rows if r["kind"] == "mixed parts"}
    assert {(t, a) for t, a, _ in mixed} >= {(d + f, SMALL_LABEL) for d in ("SMD", "SPD") for f in ("", " (trunk)")}
    s, g = records.images[f"mixed parts/strict/SPD/paired/{SMALL_LABEL}"], records.one("strict", "SPD", SMALL_LABEL)
    assert g is not None
    c, threshold = s["evaluated"], g.seeds[0].thresholds["0.05"]

    def share(name: str) -> float:
        return float((s[name][c] > threshold).mean())

    mine = {m: v for (t, a, m), v in mixed.items() if (t, a) == ("SPD", SMALL_LABEL)}
    assert mine["selector class"] == pytest.approx(np.mean([share(f"{p}{i}a") - share(f"{p}{i}n") for p in "na" for i in "na"]))
    assert mine["pixels"] == pytest.approx(np.mean([share(f"a{i}{k}") - share(f"n{i}{k}") for i in "na" for k in "na"]))
    assert mine["own map minus another image's"] == pytest.approx(share("aaa") - share("a other"))
    natural, attacked = (g.scores(name)[0] for name in (NATURAL, f"strict/test/{SMALL_LABEL}"))
    np.testing.assert_allclose(s["nnn"], natural, rtol=1e-3, atol=1e-3)  # a natural with its own parts is the natural itself
    np.testing.assert_allclose(s["aaa"], attacked, rtol=1e-3, atol=1e-3)
    assert {v for (t, _, m), v in mixed.items() if t.startswith("SMD") and m == "pixels"} == {0.0}, "SMD sees no pixels"


def test_the_first_table_gives_each_detector_its_own_numbers(records: Scores, found: Made) -> None:
    m, name = found.make, f"strict/test/{SMALL_LABEL}"
    own = {"protocol": "strict", "trained_on": SMALL_LABEL}
    s = records.images[name]
    c = s["evaluated"]

    def detected(detector: str, scheme: str = "paired") -> float:
        g = records.one("strict", detector, SMALL_LABEL, scheme)
        assert g is not None
        return float(np.mean([f[c].mean() for f in g.flags(name, "0.05")]))

    without = m.find("headline", title="fusion without the map", measure="tpr@0.05", **own)
    assert without is not None and (without.value, without.n) == (pytest.approx(detected("Fused", "without the map")), int(c.sum()))
    gap = m.find("headline", title="SPD minus ID+", measure="difference", **own)
    assert gap is not None and gap.value == pytest.approx(detected("SPD") - detected("IDPlus"))
    attacks = m.values("headline", "trained_on", protocol="strict")
    black = [m.find("detection", title="BlackShare", protocol="strict", trained_on=a, tested_on=a, measure="tpr@0.05") for a in attacks]
    assert max(n.value for n in black if n) > 0.5, "digits have a black background"
    page = found.text
    assert "The share of black pixels alone, without a map and without a net," in page
    table = page[page.index("Detectors with a map beside baselines") :].split("</table>")[0]
    for title in ("SPD", "SMD", "SPD (trunk)", "ID", "ID+", "fusion", "fusion without the map", "logit margin", "black pixels"):
        assert re.search(f"<th>{re.escape(title)}<", table), title
    sign = next(r for r in found.rows if r["kind"] == "headline" and (r["title"], r["scheme"]) == ("SPD minus ID", "paired"))
    t = f"published/test/{sign['tested_on']}"

    def accuracy(detector: str) -> float:
        g = records.one("published", detector, sign["trained_on"])
        assert g is not None
        return float(np.mean([(1 - n.mean() + a.mean()) / 2 for n, a in zip(g.flags(NATURAL, "own"), g.flags(t, "own"), strict=True)]))

    assert sign["value"] == pytest.approx(accuracy("SPD") - accuracy("ID"))


# --- the recipe itself --------------------------------------------------------------------------------------------


def test_fast_asks_for_what_it_says_before_anything_is_computed(tmp_path: Path) -> None:
    outputs = fast(Run(tmp_path))
    fitted = {s.detector.fingerprint: s.detector for s in outputs.scores if "settings" in s.detector.args}
    trained = Counter(str(h.args.get("scheme", "")).split(" ")[0] for h in fitted.values())
    assert trained["sweep"] == 6 * 4
    assert trained["protocol"] == 2 * 2 * 5 * 2
    assert trained["trunk"] == 3 * 2 * 3
    assert outputs.compact
    tests = {a.args["attack"] for s in outputs.scores for a in upstream(s.scores).values() if a.step and a.step.name == "attack_images"}
    assert {SMALL_BIM, FGSM(8 / 255), FGSM(0.2)} <= tests
    with pytest.raises(UsageError, match=f"unknown data set 'cifar100'; there are: {', '.join(CONFIGS)}"):
        fast(Run(tmp_path), "cifar100")
    with pytest.raises(UsageError, match="test must lie in"):
        fast(Run(tmp_path), test=6000)
    with pytest.raises(UsageError, match="detector_train must lie in"):
        build(Run(tmp_path), config(detector_train=101))


def test_each_data_set_has_its_settings(tmp_path: Path) -> None:
    mnist, cifar10, assira = (table_config(d) for d in CONFIGS)
    sizes = [(p.detector_train, p.validation, p.test, p.seeds) for p in (mnist, cifar10, assira)]
    assert sizes == [(3000, 500, 1000, 3), (2000, 500, 1000, 3), (600, 237, 315, 2)]
    assert mnist.saliency.fill == Fill("black")
    assert {a.eps for a in (*mnist.beside, mnist.headline[1])} == {0.1}
    assert {a.eps for a in assira.attacks} == {0.025, None}, "the paper's budget for ASSIRA, and no other"
    assert assira.strict.levels == (0.05,), "315 calibration images guarantee nothing at 1 %"
    for p, theta in ((mnist, 0.05), (cifar10, 0.05), (assira, 0.025)):  # as the paper prints it
        assert p.printed == DeepFool(steps=2)
        faster = {a for a in p.attacks if isinstance(a, CarliniWagner) or (isinstance(a, JSMA) and a.theta > theta)}
        assert faster == {a for a in p.attacks if getattr(a, "reduced", False)}
    own, given = fast(Run(tmp_path), "mnist"), fast(Run(tmp_path), "mnist", seeds=3, detector_train=3000, validation=500, test=1000)
    assert [h.fingerprint for h in own] == [h.fingerprint for h in given]
    assert parameters(fast, ["dataset=mnist", "detector_train=100"]) == {"dataset": "mnist", "detector_train": 100}
    assert parameters(fast, ["seeds=2", "resize=crop"]) == {"seeds": 2, "resize": "crop"}
    with pytest.raises(UsageError, match="detector_train must be int; found 'many'"):
        parameters(fast, ["detector_train=many"])


def test_pictures_are_cropped_where_there_are_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALIENTRY_DATA", str(tmp_path))
    test_assira.draw(tmp_path / "asirra")
    run = Run(tmp_path / "store")
    squashed, cropped = (set(run.order(list(fast(run, "assira", **how)))) for how in ({}, {"resize": "crop"}))
    assert not {h.fingerprint for h in squashed} & {h.fingerprint for h in cropped}
    assert {str(h.args["settings"].resize) for h in cropped if h.step and h.step.name == "read_data"} == {"crop"}
    with pytest.raises(UsageError, match="images of mnist come in one size: resize=crop is for assira"):
        fast(run, "mnist", resize="crop")
    with pytest.raises(UsageError, match="unknown way to resize 'stretch'"):
        fast(run, "assira", resize="stretch")


def test_a_role_without_images_borrows_them_and_every_detector_is_stamped(tmp_path: Path) -> None:
    run = Run(tmp_path / "store")
    settings = config(
        data=Digits(roles=replace(ROLES, detector_train=0)),
        attacks=(FGSM(),),
        headline=(),
        beside=(),
        protocol_steps=False,
        sweep=(),
        trunk=None,
        printed=None,
        seeds=1,
        fair=SmallCNN(width=4, epochs=2),
        overfit_images=1000,  # more than there are
    )
    outputs = build(run, settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome = run.compute(list(outputs))
    about = {"recipe": "tiny", "parameters": {}, "seed": 0, "numerics": "float32", "command": "tiny", "out": "tiny"}
    export(run, outputs, outcome, tmp_path / "out", about)
    write(tmp_path / "out")
    one = Made(Scores.read(tmp_path / "out"), "")
    heads, fit = one.scores.natural("detector_train"), run.get(run.dataset(settings.data)["train"])
    assert heads["reused_from"] == "train"
    assert list(heads["id"]) == list(fit.ids[:60]), "as many as the smallest role has"
    assert not set(heads["id"]) & set(one.scores.natural("test")["id"])
    measured = [g for t in together(one.scores) if not t.missing for g in t.trained]
    assert {g.protocol for g in measured} == {"published", "strict"}
    for g in measured:
        place = {"protocol": g.protocol, "title": g.title, "trained_on": g.trained_on}
        assert "trained on the classifier's images" in [d.word for d in one.make.context.warned(place)]
    assert "trained on the classifier&#39;s images" in (tmp_path / "out" / "report.html").read_text()
    assert one.make.context.levels == ["0.05"]
    assert not [n for n in one.ours if str(n["id"]).endswith("@0.01")]


def test_budgets_of_one_attack_have_names_of_their_own() -> None:
    assert attack_title("FGSM") == "FGSM"
    assert attack_title("FGSM-eps=0.03137254901960784") == "FGSM 8/255"
    assert attack_title("BIM-eps=0.03137254901960784-step_size=0.00784313725490196") == "BIM 8/255"
    assert attack_title("FGSM-eps=0.005") == "FGSM 0.005"
    assert attack_title("CarliniWagner-steps=60") == "C&W"
    assert attack_title("DeepFool-steps=2") == "DeepFool 2"
    assert (CW.eps, SMALL.eps) == (None, 0.15)


def test_the_headline_rows_alone_are_the_same_results_under_the_same_keys(tmp_path: Path) -> None:
    run = Run(tmp_path)
    every, few = ({h.fingerprint for h in run.order(list(fast(run, rows=rows)))} for rows in ("all", "headline"))
    assert len(few) < 0.5 * len(every)
    heads = [s.detector for s in fast(run, rows="headline").scores if "settings" in s.detector.args]
    fitted = {h.fingerprint for h in heads if h.args["protocol"].name == "strict"}
    shared = fitted & every
    assert len(shared) > 0.6 * len(fitted), "all but what is trained on all attacks at once is the same work"
    with pytest.raises(UsageError, match="unknown choice of rows 'some'; there are: all, headline"):
        fast(run, rows="some")


def test_protocol_steps_and_budgets_are_no_input_ablations(found: Made) -> None:
    forms = {r["scheme"] for r in found.rows if r["kind"] == "input ablation"}
    assert "another image's map" in forms
    assert not [f for f in forms if f.startswith(("protocol step", "sweep"))]
