"""A verdict on anybody's detector: the scores are the detector's own, on images that are the same for all."""

from __future__ import annotations

import contextlib
import json
import pydoc
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import salientry
from salientry import fit_guard
from salientry.adaptive import Defended
from salientry.attacks import FGSM
from salientry.detectors import SMD, ExternalDetector, Margin, SecondNet, SecondOpinion
from salientry.errors import UsageError
from salientry.judging import Judgement, judge, judge_scores
from salientry.judging.adaptive import Attacker, gradient_check
from salientry.judging.audit import audit
from salientry.judging.table import BESIDE, NEEDED
from salientry.judging.words import _adaptive
from tests.cli.conftest import Cli
from tests.own_detectors import FeatureSqueezing, NearestMean, contrast, roughness

from .tiny import ATTACKS, images, steps, wrong_way

X, Y, NET = images()
FLOATS = X.float() / 255


def judged(detector: Any, **given: Any) -> Judgement:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few images calibrate: it says so, rightly
        return judge(
            detector, **({"classifier": NET, "images": X, "labels": Y, "attacks": ATTACKS, "baselines": "none", "adaptive": 0} | given)
        )


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Judgement, Path]:
    """Four strangers' detectors and a baseline, and the store that their images lie in."""
    store = tmp_path_factory.mktemp("judged")
    theirs = {"contrast": contrast, "roughness": roughness, "squeezing": FeatureSqueezing(), "nearest": NearestMean()}
    return judged(theirs, baselines={"margin": Margin()}, store=store, adaptive=12), store


def test_the_public_name() -> None:
    assert salientry.judge is judge


def test_the_scores_are_the_detectors_own(both: tuple[Judgement, Path]) -> None:
    """Of the naturals, found by their content, whose answers are the classifier's own."""
    table = both[0].table.where(detector="contrast", set="natural")
    known = {round(float(s), 5) for s in contrast(FLOATS)}
    assert len(table) > 100 and all(round(float(s), 5) in known for s in table["score"])
    assert both[0].verdicts["contrast"]["accuracy"]["share"] == pytest.approx(float((NET(FLOATS).argmax(1) == Y).float().mean()), abs=0.06)


def test_all_detectors_meet_the_same_images(both: tuple[Judgement, Path]) -> None:
    rest = [n for n in both[0].table.columns if n not in ("detector", "score", "seen")]
    first, *others = [both[0].table.where(detector=n) for n in both[0].verdicts]
    for other in others:
        assert all(np.array_equal(first[n], other[n]) for n in rest)


def test_what_a_detector_has_seen_is_known_where_it_was_trained_here(both: tuple[Judgement, Path]) -> None:
    seen = {n: set(both[0].table.where(detector=n, set="attacked")["seen"].tolist()) for n in both[0].verdicts}
    assert seen["contrast"] == seen["squeezing"] == {-1}
    assert seen["margin"] == seen["nearest"] == {0, 1}, "saved as JPEG no attack is"
    margin = both[0].table.where(detector="margin", set="attacked")
    assert set(margin.where(seen=1)["attack"].tolist()) == {"L2", "one step"}, "trained on both norms, of random sizes"
    assert set(margin.where(seen=1)["encoding"].tolist()) == {""}


def test_the_table_gives_the_verdict_again(both: tuple[Judgement, Path], tmp_path: Path) -> None:
    folder = both[0].save(tmp_path / "out")
    assert sorted(p.name for p in folder.iterdir()) == ["evaluation.json", "index.html", "scores.npz", "verdict.json", "verdict.md"]
    again = judge_scores(folder / "scores.npz")
    for name, v in both[0].verdicts.items():
        assert again.verdicts[name] | {"notes": []} == {k: w for k, w in v.items() if k not in ("adaptive", "cost")} | {"notes": []}
    assert (
        json.loads((folder / "verdict.json").read_text())["detectors"]["contrast"]["thresholds"]
        == both[0].verdicts["contrast"]["thresholds"]
    )


def test_an_audit_finds_no_fault_in_it(both: tuple[Judgement, Path], tmp_path: Path) -> None:
    found = audit(both[0].save(tmp_path / "out"))
    assert found.ok, str(found)


def test_another_detector_is_judged_on_the_images_that_are_there(both: tuple[Judgement, Path]) -> None:
    made = {p: p.stat().st_mtime_ns for p in (both[1] / "attack_images").rglob("*.json")}
    found = judged(lambda x: x.flatten(1).amax(1), store=both[1])
    assert {p: p.stat().st_mtime_ns for p in (both[1] / "attack_images").rglob("*.json")} == made and made
    ours = next(iter(found.verdicts))
    assert np.array_equal(found.table["image"], both[0].table.where(detector="contrast")["image"]), ours


def test_a_detector_that_sees_how_an_image_is_stored_finds_nothing() -> None:
    """All images are 8-bit images, attacked ones too: to be off the grid of 255ths is no sign."""
    (v,) = judged(lambda x: ((x * 255) - (x * 255).round()).abs().flatten(1).amax(1)).verdicts.values()
    assert all(a["detected"]["0.05"]["count"] == 0 for a in v["attacks"])


def test_the_page_says_everything_and_loads_nothing(both: tuple[Judgement, Path], tmp_path: Path) -> None:
    page = (both[0].save(tmp_path / "out") / "index.html").read_text()
    text = (tmp_path / "out" / "verdict.md").read_text()
    for s in both[0].sections():
        assert f"<th>{s.heads[-1]}</th>" in page and s.title in text
        assert all(len(r) == len(s.heads) for r in s.rows), s.title
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")
    assert "(margin)" in str(both[0]) and "(contrast)" not in str(both[0]), "baselines in brackets"


# --- somebody who knows the detector ------------------------------------------------------------------------------


def attacker(count: int = 12) -> Attacker:
    how: dict[str, Any] = {"level": 0.05, "count": count, "steps": 20, "queries": 200, "part": lambda name: lambda done, of: None}
    return Attacker(NET, FLOATS[:100], FLOATS[100:], Y[100:], **how)


def target(detector: Any, threshold: float) -> Defended:
    fitted = (detector if isinstance(detector, ExternalDetector) else ExternalDetector(detector)).fit(None, torch.empty(0), seed=0)
    return Defended(NET, detector=fitted.eval(), threshold=threshold)


def test_a_gradient_is_used_where_it_says_where_the_score_rises() -> None:
    assert gradient_check(target(contrast, 0.0), FLOATS)["useful"]
    assert gradient_check(target(contrast, 0.0), FLOATS)["ratio"] == pytest.approx(1, abs=0.05)
    against = gradient_check(target(wrong_way, 0.0), FLOATS)
    assert against["sloped"] == 1 and against["uphill"] == 0 and not against["useful"]
    for flat in (steps, roughness):
        assert gradient_check(target(flat, 0.0), FLOATS) == {"of": 32, "sloped": 0.0, "uphill": None, "ratio": None, "useful": False}


def test_without_a_gradient_it_is_asked_and_a_surrogate_is_one() -> None:
    """The contrast in hundredths is as weak as the contrast, whichever way it is attacked."""
    someone = attacker()
    threshold = 100 * float(contrast(FLOATS).quantile(0.95))
    asked = someone.against(target(steps, threshold), "steps", 1e-4)
    helped = someone.against(target(ExternalDetector(steps, surrogate=contrast), threshold), "steps", 1e-4)
    assert (asked["how"], helped["how"]) == ("queries", "surrogate")
    for found in (asked, helped):
        last = found["attacked"]["budgets"][-1]
        assert found["evaluated"] and last["passed"] >= 0.8 * last["fooled"] > 0
    assert asked["attacked"]["median_l2"]["ratio"] == pytest.approx(1, abs=0.15)


def test_a_slope_that_leads_astray_is_not_followed() -> None:
    found = attacker().against(target(wrong_way, float(contrast(FLOATS).quantile(0.95))), "astray", 1e-4)
    assert found["how"] == "queries" and found["evaluated"]
    assert found["attacked"]["budgets"][-1]["passed"] > 0


def test_of_two_images_the_one_that_gets_past_is_taken_and_of_two_that_do_the_nearer() -> None:
    someone, other = attacker(4), images()[0].float() / 255
    everything = target(contrast, 100.0)  # nothing is flagged
    fools = torch.stack([other[(y != Y).nonzero()[0, 0]] for y in someone.y])
    near = someone.x + 0.9 * (fools - someone.x)
    with torch.no_grad():
        assert all((NET(v).argmax(1) != someone.y).all() for v in (fools, near))
    assert torch.equal(someone._better(everything, fools, near), near)
    assert torch.equal(someone._better(everything, near, fools), near)
    assert torch.equal(someone._better(everything, someone.x, fools), fools), "the natural fools nobody"
    assert torch.equal(someone._better(target(contrast, -1.0), someone.x, fools), someone.x), "neither gets past"


def test_what_cannot_be_passed_is_not_passed_and_the_attack_is_proven_all_the_same() -> None:
    found = attacker().against(target(contrast, -1.0), "alarm", 1e-4)  # flags everything
    assert found["evaluated"] and [b["passed"] for b in found["attacked"]["budgets"]] == [0, 0]
    assert found["how"] == "gradient and queries", "where the gradient gets past on few, queries are tried"
    assert found["attacked"]["budgets"][-1]["fooled"] == found["weak"]["budgets"][-1]["fooled"] > 0
    assert found["attacked"]["median_l2"]["ratio"] is None
    (line,) = _adaptive(found)
    assert "gets past both on .000 [.000, .265] of 12 images" in line, "0 of 12, after Clopper and Pearson: 1 - .025 ** (1 / 12)"


def test_an_attack_that_fails_on_the_weak_detector_proves_nothing() -> None:
    someone = attacker()
    someone.weak = target(contrast, -1.0)  # a detector that nothing gets past stands in for the weak one
    found = someone.against(target(contrast, float(contrast(FLOATS).quantile(0.95))), "contrast", 1e-4)
    assert not found["evaluated"] and "weak detector on only 0 of" in found["why"]


def test_the_page_of_the_documentation_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its code runs, here with two attacks and no baseline; its columns are those of a table."""
    text = (Path(__file__).parents[2] / "docs" / "judge.md").read_text()
    block, theirs = re.findall(r"```python\n(.*?)```", text, re.S)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("salientry.judging.evaluation.judging_attacks", lambda shape, classes: ATTACKS)
    monkeypatch.setattr("salientry.judging.evaluate.baselines_called", lambda wanted, second: {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(block, "docs/judge.md", "exec"), {"my_detector": contrast, "model": NET, "x": FLOATS, "y": Y})
        made: dict[str, Any] = {}
        exec(compile(theirs, "docs/judge.md", "exec"), made)
        both = judged({"unsure": made["Unsure"](), "logits": made["OnLogits"]()}).table
    unsure = both.where(detector="unsure", set="natural")["score"]
    known = {round(p, 4) for p in (-NET(FLOATS).softmax(1).amax(1)).tolist()}
    assert all(round(float(s), 4) in known for s in unsure)
    assert len(set(both.where(detector="logits", set="natural")["score"].tolist())) > 50
    assert (tmp_path / "verdict" / "index.html").exists()
    named = re.findall(r"^\| ((?:`\w+`,? ?)+)\|", text, re.M)
    assert [n for cell in named for n in re.findall(r"\w+", cell)] == [*NEEDED, *BESIDE]


def test_what_would_take_too_long_is_not_tried_and_says_so() -> None:
    someone = attacker()
    found = someone.against(target(steps, 1.0), "slow", 2.0)
    assert someone.needed(False, 2.0) == pytest.approx(12 * 3 * 200 * 2 / 60)
    assert not found["evaluated"] and "it would take about 240 minutes of one core" in found["why"]


# --- stopped, and called again ------------------------------------------------------------------------------------


def stopping(before: Any, calls: list[int], stop: int | None) -> Any:
    """A function that counts its calls, and is interrupted at one of them."""

    def counted(*args: Any, **given: Any) -> Any:
        calls.append(1)
        if len(calls) == stop:
            raise KeyboardInterrupt
        return before(*args, **given)

    return counted


@pytest.mark.parametrize(
    ("where", "name", "stop"), [("salientry.judging.adaptive.Joint", "__call__", 6), ("salientry.experiment.scoring", "scores_of_rows", 9)]
)
def test_a_call_that_was_stopped_goes_on_after_the_last_piece(
    where: str, name: str, stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch under one attack of somebody who knows the detector; the scores of one image set."""
    monkeypatch.setattr("salientry.store.WORTH", 0.0)
    owner: Any = pydoc.locate(where)
    before, counts = getattr(owner, name), list[int]()
    found = []
    for at, store in ((None, "whole"), (stop, "stopped"), (None, "stopped")):
        calls: list[int] = []
        monkeypatch.setattr(owner, name, stopping(before, calls, at))
        with pytest.raises(KeyboardInterrupt) if at else contextlib.nullcontext():
            found.append(judged(contrast, adaptive=40, store=tmp_path / store))
        counts.append(len(calls))
    whole, first, second = counts
    assert first == stop and second == whole - (stop - 1), "what was whole is not made again"
    one, two = (v.verdicts["contrast"] | {"cost": None} for v in found)
    assert one == two
    assert not list((tmp_path / "stopped").rglob("*.parts"))


def test_what_it_will_take_is_said_first_and_the_time_left_is_of_the_whole() -> None:
    class Ear:
        def __init__(self) -> None:
            self.said, self.shares = list[str](), list[float]()

        def say(self, text: str) -> None:
            assert not any(self.shares), "before anything is computed"
            self.said.append(text)

        def __call__(self, share: float, left: float) -> None:
            self.shares.append(share)

    ear = Ear()
    judged({"contrast": contrast, "nearest": NearestMean()}, adaptive=40, progress=ear)
    (line,) = [t for t in ear.said if t.startswith("expected: about ")]
    assert "of one core" in line and "the classifier is right on" in ear.said[0]
    assert ear.shares == sorted(ear.shares) and ear.shares[-1] > 0.9, "it never goes back, also where parts are no steps"


# --- a guard, and what is refused ---------------------------------------------------------------------------------


def test_a_guard_is_judged_by_its_own_scores(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        guard = fit_guard(NET, X, Y, detector=Margin(), attacks=(FGSM(30 / 255),), progress=False)
    found = judged({"the guard": guard})
    scores = {round(float(s), 4) for s in guard(FLOATS).score}
    assert all(round(float(s), 4) in scores for s in found.table.where(set="natural")["score"])
    other = images()[2]
    with torch.no_grad():
        other[1].weight.mul_(2)
    with pytest.raises(UsageError, match="the guard is a guard of another classifier"):
        judged({"the guard": guard}, classifier=other)


@pytest.mark.parametrize(
    ("detector", "given", "words"),
    [
        ({}, {}, "no detector was given"),
        (3, {}, "a callable, images to scores"),
        ("none", {}, "detector"),
        (contrast, {"classifier": 3}, "classifier must be an nn.Module; found int"),
        (contrast, {"levels": (0.0,)}, "strictly between 0 and 1"),
        (contrast, {"images": X[:100], "labels": Y[:100]}, "needs 59, so at least 197 images"),
        (contrast, {"labels": None}, "labels are missing"),
        (contrast, {"attacks": [FGSM(0.1), FGSM(0.1)]}, "two attacks have one name"),
        (contrast, {"attacks": {"mine": 3}}, "an attack of this package, foolbox, torchattacks or ART expected; found 3"),
        ({"margin": contrast}, {"baselines": {"margin": Margin()}}, "called as a baseline is: margin"),
        (SecondOpinion(), {}, r"asks a second network, and none was given: judge\(..., second=net\)"),
        (lambda x, logits: x, {}, r"asks for \(x, logits\): give an object with score\(evidence\)"),
        (LogisticRegression(), {}, r"LogisticRegression is an estimator of arrays.*fit\(evidence, labels\) where it learns, which call it"),
        (SMD(), {}, "SMD reads maps of a saliency model"),
        (SecondNet(), {}, "reads maps of a saliency model"),
        (lambda x: x, {}, "one score an image"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_one_line(detector: Any, given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        judged(detector, **given)
    assert "\n" not in str(caught.value)


def test_whoever_listens_hears_of_every_part() -> None:
    class Ear:
        def __init__(self) -> None:
            self.heard: list[tuple[str, float]] = [("steps", 0.0)]

        def begin(self, name: str) -> None:
            self.heard.append((name, 0.0))

        def __call__(self, share: float, left: float) -> None:
            assert 0 <= share <= 1 and left >= 0
            self.heard.append((self.heard[-1][0], share))

    ear = Ear()
    judged(contrast, adaptive=40, progress=ear)
    assert {n for n, _ in ear.heard} == {
        "steps",
        "the numbers",
        "timing contrast",
        "attacking the classifier alone",
        "attacking contrast",
        "attacking a weak detector",
    }
    assert max(s for n, s in ear.heard if n == "attacking contrast") > 0


def test_two_levels_and_what_too_few_images_cannot_promise() -> None:
    (v,) = judged(contrast, levels=(0.05, 0.01)).verdicts.values()
    assert [*v["thresholds"]] == ["0.05"]
    assert any("too few to promise 1 %, which takes 299" in n for n in v["notes"])


@pytest.mark.slow
def test_worker_processes_find_the_same_scores(tmp_path: Path) -> None:
    tables = [judged({"mine": roughness}, workers=n, store=tmp_path / str(n)).table for n in (1, 2)]
    assert all(np.array_equal(tables[0][column], tables[1][column]) for column in NEEDED)


@pytest.mark.parametrize("workers", [0, -1])
def test_workers_count_from_one(workers: int) -> None:
    with pytest.raises(UsageError, match=f"workers must be 1 or more; found {workers}"):
        judged(roughness, workers=workers)


# --- the command --------------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    np.savez(tmp_path / "images.npz", images=X.numpy(), labels=Y.numpy())
    monkeypatch.setenv("SALIENTRY_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def net() -> torch.nn.Module:
    return NET


def called(*words: str) -> Cli:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        return Cli("judge", *words, "--classifier", "tests.judging.test_judge:net", "--data", "images.npz", "--workers", "1")


def test_a_detector_that_is_none_is_refused_before_anything_is_computed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("salientry.cli.judging.recorded", lambda *a, **k: pytest.fail("the classifier was trained"))
    Cli("judge", "sklearn.linear_model:LogisticRegression", "--on", "digits").refused(2, "is an estimator of arrays")
    Cli("judge", "nothing", "--on", "digits").refused(2, "'nothing' is no detector")


def test_the_command_leaves_a_report(here: Path) -> None:
    made, plain = "tests.judging.tiny:make", "tests.own_detectors:roughness"
    result = called(made, plain, "tests.own_detectors:FeatureSqueezing", "--baselines", "none", "--adaptive", "0", "--out", "out")
    assert result.code == 0, result.err
    found = json.loads((here / "out" / "verdict.json").read_text())
    assert [*found["detectors"]] == ["make", "roughness", "FeatureSqueezing"]
    assert result.lines[-1].startswith("written: out/index.html")
    assert {w.strip() for w in result.lines[-1].removeprefix("written: ").split(",")} == {str(p) for p in Path("out").iterdir()}
    again = Cli("judge", "out/scores.npz", "--out", "again")
    assert again.code == 0, again.err
    twice = json.loads((here / "again" / "verdict.json").read_text())["detectors"]["roughness"]
    assert twice["attacks"] == found["detectors"]["roughness"]["attacks"]


def test_words_that_mean_nothing_are_refused(here: Path) -> None:
    called("tests.own_detectors:none").refused(2, "cannot import detector")
    called("nothing").refused(2, "'nothing' is no detector", "module:name")
    called("tests.own_detectors:contrast", "tests.own_detectors:contrast").refused(2, "each detector once")
    called("quick", "published").refused(2, "one set of them at most")
    called("tests.own_detectors:contrast", "--on", "digits").refused(2, "found neither or both")
    Cli("judge", "tests.own_detectors:contrast").refused(2, "--classifier and --data, or --on NAME")
    Cli("judge", "tests.own_detectors:contrast", "--on", "pictures").refused(2, "digits, mnist, cifar10", "pictures")
    Cli("judge", "scores.csv").refused(3, "there is no file scores.csv")
