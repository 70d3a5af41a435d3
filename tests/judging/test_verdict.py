"""A verdict from a table: what counts, what does not, and that the numbers are the ones that others compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from salientry.calibration import pac_threshold
from salientry.errors import DataDamaged, DataMissing, UsageError
from salientry.judging import ScoreTable, judge_scores, read_scores, verdicts, write_scores
from salientry.judging.audit import audit
from salientry.judging.verdict import _mean_interval
from salientry.judging.words import _attacks, mean_of
from salientry.rates import share_of

CALIBRATION, TEST = 400, 200


def made(draw: int = 0, strength: float = 2.0, **words: Any) -> ScoreTable:
    """Naturals with normal scores; two attacks, of which the first fools with four images of five, the second with each; one change."""
    rng = np.random.default_rng(draw)
    label = rng.integers(0, 3, CALIBRATION + TEST)
    answer = np.where(rng.random(len(label)) < 0.1, (label + 1) % 3, label)
    names = np.array([f"i{k:04d}" for k in range(len(label))])
    split = np.array(["calibration"] * CALIBRATION + ["test"] * TEST)
    pieces = [
        {
            "image": names,
            "set": "natural",
            "attack": "",
            "label": label,
            "predicted": answer,
            "split": split,
            "score": rng.normal(size=len(label)),
        }
    ]
    at = np.arange(CALIBRATION, CALIBRATION + TEST)
    for attack, fools, kind in (("weak", 0.8, "attacked"), ("strong", 1.0, "attacked"), ("blur", 0.0, "harmless")):
        fooled = rng.random(TEST) < fools
        said = np.where(fooled, (answer[at] + 1) % 3, answer[at])
        mean = {"weak": strength, "strong": strength / 2, "blur": 0.1}[attack]
        pieces.append(
            {
                "image": names[at],
                "set": kind,
                "attack": attack,
                "label": label[at],
                "predicted": said,
                "split": "test",
                "score": mean + rng.normal(size=TEST),
            }
        )
    whole = {n: np.concatenate([np.broadcast_to(p[n], len(p["image"])) for p in pieces]) for n in pieces[0]}
    return ScoreTable.of(whole | words)


def test_only_images_that_were_right_and_are_fooled_count() -> None:
    table = made()
    (v,) = verdicts(table).values()
    natural = table.where(set="natural", split="test")
    right = dict(zip(natural["image"], natural["predicted"] == natural["label"], strict=True))
    before = dict(zip(natural["image"], natural["predicted"], strict=True))
    threshold = pac_threshold(table.where(split="calibration")["score"], 0.05)
    assert v["thresholds"]["0.05"] == threshold
    for a in v["attacks"]:
        rows = table.where(attack=a["attack"])
        counts = [right[i] and p != before[i] for i, p in zip(rows["image"], rows["predicted"], strict=True)]
        assert a["success"]["count"] == sum(counts)
        assert a["success"]["of"] == sum(right[i] for i in rows["image"])
        assert a["detected"]["0.05"]["count"] == sum(c and s > threshold for c, s in zip(counts, rows["score"], strict=True))
        assert a["detected"]["0.05"]["of"] == sum(counts)
    weak, strong = v["attacks"]
    assert weak["success"]["share"] < 0.9 < strong["success"]["share"] == 1
    assert v["natural"]["0.05"]["all"]["of"] == TEST
    assert v["natural"]["0.05"]["right"]["of"] + v["natural"]["0.05"]["wrong"]["of"] == TEST


def test_failed_attacks_with_high_scores_change_nothing() -> None:
    table, columns = made(), dict(made().columns)
    natural = table.where(set="natural")
    answer = dict(zip(natural["image"], natural["predicted"], strict=True))
    failed = (table["set"] == "attacked") & np.array([answer[i] == p for i, p in zip(table["image"], table["predicted"], strict=True)])
    assert failed.sum() > 20
    columns["score"] = np.where(failed, 1e6, table["score"])
    assert verdicts(ScoreTable.of(columns))["detector"]["attacks"] == verdicts(table)["detector"]["attacks"]
    columns["in_budget"] = table["attack"] != "strong"
    assert verdicts(ScoreTable.of(columns))["detector"]["attacks"][1]["success"]["count"] == 0, "out of its budget"


def test_the_auroc_is_scikit_learns() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    table = made()
    (v,) = verdicts(table).values()
    natural, rows = table.where(set="natural", split="test"), table.where(attack="strong")
    right = natural["predicted"] == natural["label"]
    score = np.concatenate([natural["score"], rows["score"][right]])
    known = metrics.roc_auc_score(np.repeat([0, 1], [TEST, int(right.sum())]), score)
    value, low, high = v["attacks"][1]["auroc"]
    assert value == pytest.approx(known, abs=1e-9) and low < value < high


def test_every_attack_on_an_image_and_extra_flags_of_a_change() -> None:
    table = made()
    (v,) = verdicts(table).values()
    t = v["thresholds"]["0.05"]
    natural = table.where(set="natural", split="test")
    right, missed, tried = natural["predicted"] == natural["label"], np.zeros(TEST, bool), np.zeros(TEST, bool)
    for name in ("weak", "strong"):
        rows = table.where(attack=name)
        counts = right & (rows["predicted"] != natural["predicted"])
        missed, tried = missed | (counts & (rows["score"] <= t)), tried | counts
    assert (v["worst_case"]["0.05"]["count"], v["worst_case"]["0.05"]["of"]) == (int((tried & ~missed).sum()), int(tried.sum()))
    (blur,) = v["harmless"]
    flags = (table.where(attack="blur")["score"] > t).mean() - (natural["score"] > t).mean()
    assert blur["extra"]["share"] == pytest.approx(flags) and blur["extra"]["low"] < flags < blur["extra"]["high"]


def test_a_detector_that_knows_nothing_detects_no_more_than_its_false_positive_rate() -> None:
    v = verdicts(made(strength=0.0), [0.05])["detector"]
    assert v["attacks"][1]["detected"]["0.05"]["low"] < 0.05
    low, high = v["attacks"][1]["auroc"][1:]
    assert low < 0.5 < high


def test_several_detectors_and_seeds_are_judged_apart() -> None:
    table = made(detector="one").joined(made(1, detector="two", seed=0), made(2, detector="two", seed=1))
    found = verdicts(table)
    assert [*found] == ["one", "two, seed 0", "two, seed 1"]
    assert found["one"] == verdicts(made())["detector"]


def test_without_calibration_naturals_every_second_one_calibrates() -> None:
    columns = dict(made().columns)
    columns["split"] = np.full(len(columns["score"]), "test")
    (v,) = verdicts(ScoreTable.of(columns), [0.05]).values()
    assert v["calibration"] == (CALIBRATION + TEST) // 2
    assert v["natural"]["0.05"]["all"]["of"] == (CALIBRATION + TEST) // 2
    assert "every second" in v["notes"][0]


def test_rows_that_stand_twice_are_refused_and_not_counted_twice() -> None:
    table = made()
    for wanted, words in (
        ({"set": "attacked", "attack": "strong"}, "image 'i0400' has 2 rows of strong in the split test: keep one"),
        ({"set": "harmless"}, "image 'i0400' has 2 rows of blur"),
        ({"set": "natural", "split": "calibration"}, "two naturals of the split calibration are called 'i0000'"),
    ):
        with pytest.raises(UsageError, match=words):
            verdicts(table.joined(table.where(**wanted)))
    jpeg = table.where(attack="strong")
    both = table.joined(ScoreTable.of(jpeg.columns | {"encoding": np.full(len(jpeg), "JPEG 90")}))
    assert [a["encoding"] for a in verdicts(both)["detector"]["attacks"]] == ["", "", "JPEG 90"], "saved in another way it is another image"


@pytest.mark.parametrize("count", [1, 5])
def test_the_interval_of_few_attacked_images_covers_what_they_were_drawn_from(count: int) -> None:
    """Resamples of one image have no spread: their interval would cover the truth in some .4 of the draws."""
    truth = float(norm.cdf(1 / np.sqrt(2)))
    covered, widths = [], []
    for draw in range(20):
        table = made(draw)
        rows, natural = table.where(attack="strong"), table.where(set="natural", split="test")
        right = set(natural["image"][natural["predicted"] == natural["label"]].tolist())
        few = [i for i in rows["image"].tolist() if i in right][:count]
        keep = (table["attack"] != "strong") | np.isin(table["image"], few)
        (area,) = [a["auroc"] for a in verdicts(table.rows(keep), [0.05])["detector"]["attacks"] if a["attack"] == "strong"]
        covered.append(area[1] <= truth <= area[2])
        widths.append(area[2] - area[1])
        assert area[1] <= area[0] <= area[2]
    assert np.mean(covered) >= 0.9
    assert count > 1 or min(widths) > 0.5


def test_an_empty_number_is_said_with_its_row(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(made().columns)
    for column in ("score", "label"):
        for value, words in (("", "row 7 is empty"), ("n/a", "row 7 has 'n/a'")):
            broken = frame.astype({column: str})
            broken.loc[7, column] = value
            broken.to_csv(tmp_path / "scores.csv", index=False)
            with pytest.raises(UsageError, match=f"scores.csv: column '{column}' holds numbers; {words}"):
                read_scores(tmp_path / "scores.csv")


@pytest.mark.parametrize("calibrated", [True, False])
def test_an_audit_of_what_a_verdict_writes_misses_no_count(tmp_path: Path, calibrated: bool) -> None:
    """Failed attacks stand in the table; the number of those that count stands beside it."""
    table = made()
    columns = table.columns | ({} if calibrated else {"split": np.full(len(table), "test")})
    found = audit(judge_scores(ScoreTable.of(columns), [0.05]).save(tmp_path / "out"))
    assert "counts-differ" not in found.names
    assert ("failed-attacks-counted" in found.excluded) == calibrated
    assert ("failed-attacks-in-the-table" in found.names) == (not calibrated)


def test_what_scores_alone_do_not_say_is_said() -> None:
    said = str(judge_scores(made()))
    for words in (
        "saw test images",
        "stored in another way",
        "knows the detector",
        "gradient",
        "costs",
        "attacks are strong",
        "no controls",
    ):
        assert words in said, words
    assert "no harmless changes" not in said
    plain = made()
    assert "no harmless changes" in str(judge_scores(plain.rows(plain["set"] != "harmless")))


@pytest.mark.parametrize("kind", ["npz", "csv", "parquet"])
def test_files_give_the_same_verdict(tmp_path: Path, kind: str) -> None:
    table, path = made(), tmp_path / f"scores.{kind}"
    if kind == "npz":
        write_scores(table, path)
    else:
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame(table.columns)
        frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path)
    assert verdicts(read_scores(path)) == verdicts(table)
    said = judge_scores(path)
    assert "cannot be excluded" in str(said) and "detector: threshold" in str(said)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"score": None}, "no column 'score'"),
        ({"colour": "red"}, "a column 'colour'"),
        ({"set": "adversarial"}, "set is one of natural, attacked, harmless, control; found 'adversarial'"),
        ({"attack": "PGD"}, "attack is empty for naturals"),
        ({"label": 0.5}, "'label' holds whole numbers"),
        ({"label": "cat"}, "'label' holds numbers; row 0 has 'cat'"),
        ({"score": np.nan}, "every score is a finite number"),
        ({"image": "the same"}, "two naturals of the split test are called 'the same'"),
        ({"split": "calibration"}, "needs naturals and attacked images of the split test"),
    ],
)
def test_tables_that_cannot_be_used_say_why(change: dict[str, Any], words: str) -> None:
    columns = {n: c for n, c in made().columns.items() if change.get(n, 0) is not None}
    columns |= {n: np.full(CALIBRATION + 4 * TEST, v) for n, v in change.items() if v is not None}
    with pytest.raises(UsageError, match=words.replace("(", r"\(")):
        verdicts(ScoreTable.of(columns))


def test_files_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="there is no file"):
        read_scores(tmp_path / "none.npz")
    (tmp_path / "broken.npz").write_bytes(b"PK nothing")
    with pytest.raises(DataDamaged, match=r"broken\.npz cannot be read"):
        read_scores(tmp_path / "broken.npz")
    (tmp_path / "scores.xlsx").write_bytes(b"")
    with pytest.raises(UsageError, match=r"\.parquet, \.csv or \.npz; found scores\.xlsx"):
        read_scores(tmp_path / "scores.xlsx")


def test_the_ten_lines_say_how_many_attacks_count_and_why_the_others_do_not() -> None:
    assert _attacks(12, 12) == "12 attacks" and _attacks(1, 1) == "1 attack"
    assert _attacks(1, 2) == "1 of 2 attacks (the other fools the classifier on fewer than 20 images)"
    assert _attacks(9, 12) == "9 of 12 attacks (the others fool the classifier on fewer than 20 images)"


def test_the_interval_of_a_mean_is_that_of_one_number_an_image() -> None:
    """Of one attack the exact one of its share; of the same twice the same; of two that are detected on other images it is narrower."""
    names, images = ("a", "b"), [f"i{k:02}" for k in range(40)]
    natural = {"image": images, "set": "natural", "attack": "", "label": 0, "predicted": 0, "split": "test", "score": np.zeros(40)}
    test = ScoreTable.of(natural)

    def interval_of(*flags: Any) -> tuple[float | None, float | None]:
        sets = [natural | {"set": "attacked", "attack": n, "predicted": 1, "score": f} for n, f in zip(names, flags, strict=False)]
        first, *others = (ScoreTable.of(s) for s in sets)
        called = [{"attack": n, "encoding": ""} for n, _ in zip(names, flags, strict=False)]
        return _mean_interval(called, first.joined(*others), test, 0.5)

    half = (np.arange(40) < 20).astype(float)
    exact = share_of(half > 0)
    assert interval_of(half) == pytest.approx((exact["low"], exact["high"]), abs=1e-6)
    assert interval_of(half, half) == pytest.approx(interval_of(half), abs=1e-6)
    low, high = interval_of(half, 1 - half)
    assert low is not None and high is not None and low < 0.5 < high and high - low < 0.7 * (exact["high"] - exact["low"])
    assert _mean_interval([], test, test, 0.5) == (None, None)


def test_a_mean_has_its_interval_in_words_and_holds_the_mean() -> None:
    (v,) = verdicts(made()).values()
    for kind in ("attacks", "encoded"):
        found = v["summary"]["0.05"][kind]
        if found["of"]:
            assert found["low"] < found["mean"] < found["high"]
    assert mean_of({"mean": 0.5, "low": 0.25, "high": 0.75}) == ".500 [.250, .750]" and mean_of({"mean": 0.5}) == ".500"
