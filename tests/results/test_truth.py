"""Numbers against plain numpy and scipy on the record files: nothing of salientry.results computes the expected values."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from salientry.results.numbers import numbers as numbers_of
from salientry.results.scores import Scores
from salientry.results.warnings import passing_classes, warnings
from tests.report.surgery import CW, Opened, mixed, ranked


@pytest.fixture(scope="module")
def raw(finished: Path) -> Opened:
    return Opened(finished)


@pytest.fixture(scope="module")
def numbers(finished: Path) -> dict[str, dict[str, Any]]:
    return recomputed(finished)


@pytest.fixture
def opened(finished: Path, tmp_path: Path) -> Opened:
    """A copy that may be changed."""
    shutil.copytree(finished, tmp_path / "copy")
    return Opened(tmp_path / "copy")


def recomputed(folder: Path) -> dict[str, dict[str, Any]]:
    return {r["id"]: r for r in numbers_of(Scores.read(folder)).to_dict("records")}


def found(raw: Opened, d: dict[str, Any], attack: str, level: str = "0.05") -> Any:
    """Flags of a strict detector on the adversarials that count, counted anew from the columns."""
    columns = {c: raw.column(f"strict/test/{attack}", c).astype(bool) for c in ("right", "changed", "in_budget")}
    counts = columns["right"] & columns["changed"] & columns["in_budget"]
    return (raw.score(d, f"strict/test/{attack}") > d["thresholds"][level])[counts]


# --- one number of each kind ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("detector", ["SPD", "JSD", "SortedLogits"])
def test_a_published_accuracy(raw: Opened, numbers: dict[str, dict[str, Any]], detector: str) -> None:
    d = raw.detector(detector, "published", "FGSM")
    natural, attacked = raw.score(d, "any/test/natural"), raw.score(d, f"published/test/{CW}")
    right = (natural <= 0).sum() + (attacked > 0).sum()
    assert numbers[f"published/{detector}/FGSM/{CW}/accuracy"]["value"] == pytest.approx(right / (len(natural) + len(attacked)))


@pytest.mark.parametrize("detector", ["SMD", "Margin", "BlackShare"])
def test_a_strict_rate_and_its_false_alarms(raw: Opened, numbers: dict[str, dict[str, Any]], detector: str) -> None:
    d = raw.detector(detector, "strict", CW)
    flags = found(raw, d, "FGSM")
    printed = numbers[f"strict/{detector}/{CW}/FGSM/tpr@0.05"]
    assert (printed["value"], printed["n"]) == (pytest.approx(flags.mean()), len(flags))
    natural = raw.score(d, "any/test/natural") > d["thresholds"]["0.05"]
    assert numbers[f"strict/{detector}/{CW}/fpr@0.05"]["value"] == pytest.approx(natural.mean())


def test_an_auroc_pair_by_pair(raw: Opened, numbers: dict[str, dict[str, Any]]) -> None:
    for protocol, detector, trained, tested in (("strict", "ID", "FGSM", CW), ("published", "Margin2", CW, "FGSM")):
        d = raw.detector(detector, protocol, trained)
        natural, attacked = raw.score(d, "any/test/natural"), raw.score(d, f"{protocol}/test/{tested}")
        if protocol == "strict":
            columns = [raw.column(f"strict/test/{tested}", c).astype(bool) for c in ("right", "changed", "in_budget")]
            attacked = attacked[columns[0] & columns[1] & columns[2]]
        assert numbers[f"{protocol}/{detector}/{trained}/{tested}/auroc"]["value"] == pytest.approx(ranked(natural, attacked))


def test_a_cell_of_the_mixture(raw: Opened, numbers: dict[str, dict[str, Any]]) -> None:
    """Natural i meets attack i modulo their number."""
    d = raw.detector("ID", "published", "combined")
    assert d["facts"]["of"] == ["FGSM", CW]
    attacked = mixed([raw.score(d, f"published/test/{a}") for a in d["facts"]["of"]])
    accuracy = ((raw.score(d, "any/test/natural") <= 0).mean() + (attacked > 0).mean()) / 2
    assert numbers["published/ID/combined/combined/accuracy"]["value"] == pytest.approx(accuracy)
    d = raw.detector("SPD", "strict", "combined")
    each = [np.logical_and.reduce([raw.column(f"strict/test/{a}", c) for c in ("right", "changed", "in_budget")]) for a in d["facts"]["of"]]
    counts = mixed(each).astype(bool)
    flags = (mixed([raw.score(d, f"strict/test/{a}") for a in d["facts"]["of"]]) > d["thresholds"]["0.05"])[counts]
    printed = numbers["strict/SPD/combined/combined/tpr@0.05"]
    assert (printed["value"], printed["n"]) == (pytest.approx(flags.mean()), counts.sum())


def test_a_specificity(raw: Opened, numbers: dict[str, dict[str, Any]]) -> None:
    """More flags on the images whose prediction the noise left alone, minus flags of the same images without it."""
    seen = 0
    for protocol in ("published", "strict"):
        for detector in ("SMD", "ID", "HighFrequency"):
            d, name = raw.detector(detector, protocol, CW), f"{protocol}/test/MatchedNoise of {CW}"
            same = raw.column(name, "predicted") == raw.column("any/test/natural", "predicted")
            id = f"{protocol}/{detector}/{CW}/noise/excess-flags-on-unchanged"
            assert (id in numbers) == (same.sum() >= 100)
            if id in numbers:
                level = 0.0 if protocol == "published" else d["thresholds"]["0.05"]
                excess = (raw.score(d, name) > level)[same].mean() - (raw.score(d, "any/test/natural") > level)[same].mean()
                assert (numbers[id]["value"], numbers[id]["n"]) == (pytest.approx(excess), same.sum())
                seen += 1
    assert seen


def test_a_row_of_table_1_with_its_test(raw: Opened, numbers: dict[str, dict[str, Any]]) -> None:
    seen = 0
    for s in raw.body["sets"]:
        if s["facts"]["kind"] != "shift":
            continue
        head = f"{s['facts']['protocol']}/shift/{s['facts']['saliency']}"
        other = raw.column(s["name"], "other").astype(np.float64)
        assert numbers[f"{head}/other"]["value"] == pytest.approx(other.mean())
        for attack in ("FGSM", CW):
            shift = raw.column(s["name"], f"{attack}/shift").astype(np.float64)
            gap = shift[:, None] - other[None]
            effect = float((gap > 0).mean() - (gap < 0).mean())
            assert numbers[f"{head}/{attack}/shift"]["value"] == pytest.approx(shift.mean())
            assert numbers[f"{head}/{attack}/rank-biserial"]["value"] == pytest.approx(effect)
            for side, name in (("two-sided", "p-two-sided"), ("greater", "p-greater")):
                p = mannwhitneyu(shift, other, alternative=side, method="asymptotic").pvalue
                assert numbers[f"{head}/{attack}/{name}"]["value"] == pytest.approx(p, rel=1e-6, abs=1e-12)
                seen += 1
    assert seen >= 8


def test_what_a_part_adds_to_the_fusion(raw: Opened, numbers: dict[str, dict[str, Any]]) -> None:
    whole, less = (raw.detector("Fused", "strict", "combined", form) for form in ("all", "without the map"))
    gains = [found(raw, whole, a).mean() - found(raw, less, a).mean() for a in ("FGSM", CW)]
    assert numbers["strict/fusion/the map adds/FGSM/tpr"]["value"] == pytest.approx(gains[0])
    assert numbers["strict/fusion/the map adds/mean over attacks/tpr"]["value"] == pytest.approx(np.mean(gains))
    every = [found(raw, whole, a).mean() for a in ("FGSM", CW)]
    assert numbers["strict/fusion/all parts/mean over attacks/tpr"]["value"] == pytest.approx(np.mean(every))


def test_what_rounding_leaves(raw: Opened, numbers: dict[str, dict[str, Any]]) -> None:
    fooled = raw.column("any/test/natural", "right").astype(bool) & raw.column(f"published/test/{CW}", "changed").astype(bool)
    for column, name in (("plain", "survives-rounding"), ("changed", "survives-search")):
        share = raw.column(f"strict/test/{CW}", column)[fooled].mean()
        printed = numbers[f"strict/attack/{CW}/{name}"]
        assert (printed["value"], printed["n"]) == (pytest.approx(share), fooled.sum())


def test_trained_on_all_minus_trained_on_one(raw: Opened, numbers: dict[str, dict[str, Any]]) -> None:
    """C12."""
    for d in ("SPD", "ID"):
        gap = found(raw, raw.detector(d, "strict", "combined"), CW).mean() - found(raw, raw.detector(d, "strict", CW), CW).mean()
        assert numbers[f"strict/{d}/{CW}/combined-minus-specific"]["value"] == pytest.approx(gap)


def test_within_a_norm_minus_across(opened: Opened) -> None:
    """C9, with a second attack of the L-infinity norm: mean over images of the mean over cells that speak of the image."""
    opened.also("FGSM", "BIM")
    d = {a: opened.detector("SPD", "published", a) for a in ("FGSM", "BIM", CW)}

    def flags(trained: str, tested: str) -> Any:
        return opened.score(d[trained], f"published/test/{tested}") > 0

    within = np.mean([flags("FGSM", "BIM"), flags("BIM", "FGSM")], 0)
    across = np.mean([flags(a, CW) for a in ("FGSM", "BIM")] + [flags(CW, a) for a in ("FGSM", "BIM")], 0)
    printed = recomputed(opened.close())
    assert printed["published/SPD/within-norm-minus-across"]["value"] == pytest.approx((within - across).mean())
    assert "strict/SPD/within-norm-minus-across" in printed


# --- noise in place of scores --------------------------------------------------------------------------------------


def test_heads_of_noise_find_nothing(opened: Opened) -> None:
    opened.noise()
    printed = recomputed(opened.close())
    heads = [n for n in printed.values() if n["kind"] == "detection"]
    accuracies, areas, rates = ([n for n in heads if n["measure"] == m] for m in ("accuracy", "auroc", "tpr@0.05"))
    assert len(accuracies) > 100
    assert len(areas) > 200
    for some in (accuracies, areas):
        assert np.mean([n["lo"] <= 0.5 <= n["hi"] for n in some]) >= 0.9
        assert np.mean([n["value"] for n in some]) == pytest.approx(0.5, abs=0.02)
    assert len(rates) > 80
    assert np.mean([n["lo"] <= 0.05 for n in rates]) >= 0.95
    # 80 calibration images let none lie above the threshold: a new image does with probability 1 in 81
    assert np.mean([n["value"] for n in rates]) == pytest.approx(1 / 81, abs=0.01)
    grid = [printed[f"published/{d}/{a}/{b}/accuracy"] for d in ("SPD", "SMD", "ID", "JSD") for a in ("FGSM", CW) for b in ("FGSM", CW)]
    assert np.mean([n["lo"] <= 0.5 <= n["hi"] for n in grid]) >= 0.9
    assert np.mean([n["value"] for n in grid]) == pytest.approx(0.5, abs=0.02)


# --- a file of scores is lost --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shard", ["scores/strict-FGSM", "scores/published-FGSM", "scores/strict-combined"])
def test_what_hangs_on_a_lost_file_of_scores_vanishes_and_nothing_else_moves(opened: Opened, tmp_path: Path, shard: str) -> None:
    opened.also("FGSM", "BIM")  # so that there is a C9
    folder, name = opened.close(), f"{shard}.safetensors"
    before = recomputed(folder)
    lost = {s["key"][:12] for s in opened.body["scores"] if s["shard"] == name}
    lost |= {opened.body["detectors"][s["detector"]]["key"][:12] for s in opened.body["scores"] if s["shard"] == name}
    kept = {s["key"][:12] for s in opened.body["scores"] if s["shard"] != name}
    assert lost - kept
    hang = {i for i, n in before.items() if set(n["keys"]) & (lost - kept)}
    protocol = name.split("/")[1].split("-")[0]
    if "combined" not in name:
        c9 = {f"{protocol}/{d}/within-norm-minus-across" for d in ("SPD", "SMD", "ID", "JSD")}
        assert c9 <= set(before)
        hang |= c9
        assert {f"{protocol}/SPD/FGSM/combined-minus-specific", f"{protocol}/SPD/FGSM/FGSM/auroc"} <= hang
    else:
        assert {i for i in before if i.startswith("strict/fusion/") or (i.endswith("minus-specific") and i.startswith("strict"))} <= hang
    shutil.move(folder / name, tmp_path / "aside")
    after = recomputed(folder)
    assert set(before) - set(after) == hang
    assert set(after) <= set(before)
    assert all(repr(after[i]) == repr(before[i]) for i in after)
    assert Scores.read(folder).absent == [name]
    shutil.move(tmp_path / "aside", folder / name)
    assert repr(recomputed(folder)) == repr(before)


def test_classes_by_themselves(raw: Opened, numbers: dict[str, dict[str, Any]], finished: Path) -> None:
    """Each class against maps of its own images: plain means, and the gate's rule on the printed intervals."""
    name = next(s["name"] for s in raw.body["sets"] if s["name"].startswith("sanity/") and s["name"].endswith("within class"))
    c = {k: raw.column(name, k) for k in ("predicted", "kept", "kept_other", "destroyed", "destroyed_other", "area")}
    named = sorted(set(c["predicted"].tolist()))
    passes = {}
    for k in named:
        mine, head = c["predicted"] == k, f"any/map/class {k}"
        assert numbers[f"{head}/area"]["value"] == pytest.approx(c["area"][mine].mean(), rel=1e-5)
        assert numbers[f"{head}/area"]["n"] == mine.sum()
        gains = [c["kept"][mine].mean() - c["kept_other"][mine].mean(), c["destroyed_other"][mine].mean() - c["destroyed"][mine].mean()]
        own = [numbers[f"{head}/{i}"] for i in ("kept-gain", "destroyed-gain")]
        assert [n["value"] for n in own] == pytest.approx(gains)
        passes[k] = min(gains) >= 0.05 and min(n["lo"] for n in own) > 0
    s = Scores.read(finished)
    frame = numbers_of(s)
    assert passing_classes(frame, None) == passes
    found = {(w["title"], w["count"]) for w in warnings(s, frame).to_dict("records") if w["code"] == "OWN MAPS"}
    saliency = {g.title for p in ("strict", "published") for g in s.of(p) if g.group == "saliency"}
    assert found == (set() if all(passes.values()) else {(t, f"{sum(passes.values())}/{len(passes)}") for t in saliency})


# --- controls beside every number ----------------------------------------------------------------------------------


def test_the_null_is_the_largest_change_of_a_score(opened: Opened) -> None:
    d = opened.detector("ID", "strict", "FGSM")
    null = next(s["name"] for s in opened.body["sets"] if s["facts"].get("control") == "Null" and s["facts"]["protocol"] == "strict")
    natural, copy = opened.score(d, "any/test/natural"), opened.score(d, null)
    copy[:] = natural
    copy[3] += 0.25
    copy[5] -= 0.5
    one = recomputed(opened.close())["strict/ID/FGSM/null-difference"]
    assert (one["value"], one["seeds"][0], one["n"]) == (pytest.approx(0.5), pytest.approx(0.5), len(natural))


def test_what_rounding_takes_from_a_detector(opened: Opened) -> None:
    """On images that count in 8 bits and fool in float as well."""
    d = opened.detector("SPD", "strict", CW)
    own, floats = f"strict/test/{CW}", f"published/test/{CW}"
    counts = np.logical_and.reduce([opened.column(own, k) for k in ("right", "changed", "in_budget")])
    opened.column(floats, "changed")[counts.argmax()] = False
    c = counts & opened.column(floats, "changed").astype(bool)
    gap = (opened.score(d, floats) > d["thresholds"]["0.05"])[c].mean() - (opened.score(d, own) > d["thresholds"]["0.05"])[c].mean()
    one = recomputed(opened.close())[f"strict/SPD/{CW}/float-minus-8-bit"]
    assert (one["value"], one["n"]) == (pytest.approx(gap), c.sum())
    assert 0 < c.sum() < counts.sum()


def test_false_positives_at_every_level_and_on_right_images_at_the_largest(opened: Opened) -> None:
    d, right = opened.detector("ID", "strict", "FGSM"), opened.column("any/test/natural", "right").astype(bool)
    natural = opened.score(d, "any/test/natural")
    for other in (x for x in opened.body["detectors"] if x["facts"]["protocol"] == "strict"):
        other["thresholds"] = {"own": 0.0, "0.01": float(np.quantile(natural, 0.9)), "0.1": float(np.quantile(natural, 0.5))}
    numbers = recomputed(opened.close())
    for level, threshold in d["thresholds"].items():
        if level != "own":
            assert numbers[f"strict/ID/FGSM/fpr@{level}"]["value"] == pytest.approx((natural > threshold).mean())
            assert f"strict/ID/FGSM/FGSM/tpr@{level}" in numbers
    one = numbers["strict/ID/FGSM/fpr-right@0.1"]
    assert (one["value"], one["n"]) == (pytest.approx((natural > d["thresholds"]["0.1"])[right].mean()), right.sum())
    assert not {"strict/ID/FGSM/fpr-right@0.01", "strict/ID/FGSM/fpr@own"} & set(numbers)


def test_the_gap_is_to_the_baseline_that_is_best_on_validation_pairs(raw: Opened, numbers: dict[str, dict[str, Any]]) -> None:
    baselines = {
        d["facts"]["detector"] for d in raw.body["detectors"] if d["facts"].get("group", d["facts"].get("family")) in ("floor", "baseline")
    }
    role = "validation" if any(s["name"] == "any/validation/natural" for s in raw.body["sets"]) else "select"
    counts = raw.column(f"strict/{role}/FGSM", "evaluated").astype(bool)

    def validation(name: str) -> float:
        d = raw.detector(name, "strict", "FGSM")
        return ranked(raw.score(d, f"any/{role}/natural")[: len(counts)][counts], raw.score(d, f"strict/{role}/FGSM")[counts])

    best = raw.detector(max(sorted(baselines), key=validation), "strict", "FGSM")
    gap = found(raw, raw.detector("SPD", "strict", "FGSM"), "FGSM").mean() - found(raw, best, "FGSM").mean()
    assert numbers["strict/SPD/FGSM/FGSM/gap-to-floor@0.05"]["value"] == pytest.approx(gap)
