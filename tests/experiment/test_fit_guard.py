"""A guard for one's own classifier, in one call, on a task whose answer is known: which quadrant is bright."""

from __future__ import annotations

import copy
import json
import re
import resource
import tempfile
import tracemalloc
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from salientry import External, Guard, fit_guard
from salientry.attacks import BIM, FGSM, PGD, CarliniWagner, DeepFool
from salientry.controls import Transplant
from salientry.datasets import Arrays
from salientry.detectors import (
    ID,
    SPD,
    Cascade,
    Consistency,
    HighFrequency,
    LayerStatistics,
    LearnedFusion,
    Margin,
    PooledActivations,
    SecondNet,
    SecondOpinion,
    SmallCNN,
    TopLogits,
)
from salientry.detectors._committee import Committee
from salientry.detectors.consistency import LIGHT
from salientry.errors import AttackTooWeak, CheckFailed, StoreError, UsageError, WrongClassifier
from salientry.experiment.guard_settings import default_attacks, default_candidates, default_lenders, shares
from salientry.experiment.intake import taken
from salientry.experiment.parts import Parts
from salientry.keys import label
from salientry.learned import facts_of, fingerprint
from salientry.saliency import Eq2, Fill, SimpleClassifier, UNet
from salientry.store import read_arrays
from salientry.types import Roles

SALIENCY = UNet(
    SimpleClassifier(base=8, scales=2, epochs=20, batch=32),
    Eq2(area=3),
    Fill("black"),
    epochs=20,
    batch=32,
    lr=3e-3,
    schedule="one_cycle",
    selector_lr=1e-2,
)
USELESS = UNet(SimpleClassifier(base=4, scales=2, epochs=1, batch=64, lr=1e-7), Eq2(area=3), Fill("black"), epochs=1, batch=64, lr=1e-7)
COUNT = 600
ONE: dict[str, Any] = {"detector": SPD(), "attacks": (DeepFool(),)}  # where the choice is not what a test is about
PLAIN: dict[str, Any] = {"detector": Margin(), "attacks": (DeepFool(),)}
NEEDED = 169  # of which 59 calibrate: the fewest that can guarantee 5 %


def quadrants(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """8-bit images 1x16x16: black, a bright patch in the quadrant that is the class, a dim one in another."""
    g = torch.Generator().manual_seed(seed)
    labels, x = torch.randint(0, 4, (count,), generator=g), torch.zeros(count, 1, 16, 16)
    for i, k in enumerate(labels.tolist()):
        for q, light in ((k, 0.9), ((k + 1 + int(torch.randint(0, 3, (1,), generator=g))) % 4, 0.35)):
            down, right = torch.randint(0, 4, (2,), generator=g).tolist()
            top, left = q // 2 * 8 + down, q % 2 * 8 + right
            x[i, 0, top : top + 5, left : left + 5] = light + 0.1 * torch.rand(5, 5, generator=g)
    return (x.clamp(0, 1) * 255).round() / 255, labels


X, Y = quadrants(295, seed=7)


@pytest.fixture(scope="module", autouse=True)
def one_process() -> Iterator[None]:
    """Unless a test says otherwise: how long a fit is expected to take depends on what else the machine does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("salientry.runner.pool.WORTH", float("inf"))
        yield


@pytest.fixture(scope="module")
def classifier() -> nn.Module:
    """A user's own network, trained on images of its own; it wants its images in [-1, 1]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 4)]
        net = nn.Sequential(*layers)
        x, y = quadrants(800, seed=99)
        steps = torch.optim.Adam(net.parameters(), 3e-3)
        for _ in range(12):
            for at in torch.randperm(len(x)).split(50):
                steps.zero_grad()
                F.cross_entropy(net((x[at] - 0.5) / 0.5), y[at]).backward()
                steps.step()
    return External(net, mean=0.5, std=0.5)


@pytest.fixture(scope="module")
def naturals() -> tuple[Tensor, Tensor]:
    return quadrants(COUNT, seed=1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def guard(classifier: nn.Module, naturals: tuple[Tensor, Tensor], store: Path) -> Guard:
    with pytest.warns(UserWarning, match="calibration images"):
        return fit_guard(classifier, *naturals, **ONE, saliency=SALIENCY, store=store)


@pytest.fixture(scope="module")
def fresh(classifier: nn.Module) -> tuple[Tensor, Tensor]:
    """Naturals that no step has seen, and those of their DeepFool twins, stored as 8 bits, that really fool."""
    x = quadrants(400, seed=2)[0]
    with torch.no_grad():
        own = classifier(x).argmax(1)
    found = (DeepFool()(classifier, x, own, seeds=torch.arange(400)).clamp(0, 1) * 255).round() / 255
    with torch.no_grad():
        fooled = classifier(found).argmax(1) != own
    assert int(fooled.sum()) > 200
    return x, found[fooled]


def auroc(natural: Tensor, attacked: Tensor) -> float:
    higher, equal = attacked[:, None] > natural[None], attacked[:, None] == natural[None]
    return float((higher.double() + 0.5 * equal.double()).mean())


def files(folder: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_it_tells_adversarials_from_naturals(guard: Guard, fresh: tuple[Tensor, Tensor]) -> None:
    natural, attacked = guard(fresh[0]), guard(fresh[1])
    assert auroc(natural.score, attacked.score) > 0.8
    assert float(attacked.flagged.float().mean()) > 0.5
    assert float(natural.p_value.median()) > 0.2
    assert float(attacked.p_value.median()) < 0.05


def test_it_flags_no_more_naturals_than_it_guarantees(guard: Guard, fresh: tuple[Tensor, Tensor]) -> None:
    """5 % with 95 % confidence over the calibration images, and room for 400 fresh ones."""
    assert guard.level == 0.05
    assert float(guard(fresh[0]).flagged.float().mean()) <= 0.12


def test_its_map_is_where_the_bright_patch_is(guard: Guard) -> None:
    x, y = quadrants(100, seed=3)
    found = guard(x).map
    assert found is not None
    per_quadrant = F.avg_pool2d(found, 8).flatten(1)
    assert float((per_quadrant.argmax(1) == y).float().mean()) > 0.8


def test_it_is_of_this_classifier_and_leaves_it_as_it_was(
    guard: Guard, classifier: nn.Module, naturals: tuple[Tensor, Tensor], fresh: tuple[Tensor, Tensor]
) -> None:
    assert guard.classifier is classifier
    assert (guard.shape.channels, guard.shape.height, guard.shape.width, guard.shape.classes) == (1, 16, 16, 4)
    assert len(guard.calibration) == shares(COUNT, 0.05, maps=True).calibration
    before, mode = fingerprint(classifier), classifier.training
    with torch.no_grad():
        assert torch.equal(guard(fresh[0]).predicted, classifier(fresh[0]).argmax(1))
    assert (fingerprint(classifier), classifier.training) == (before, mode)
    assert all(p.requires_grad for p in classifier.parameters())


def test_it_comes_back_from_disk_as_it_was(guard: Guard, classifier: nn.Module, fresh: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    guard.save(tmp_path / "guard")
    again, own = Guard.load(tmp_path / "guard", classifier)(fresh[1]), guard(fresh[1])
    for name in ("flagged", "score", "p_value", "predicted", "map"):
        assert torch.equal(getattr(again, name), getattr(own, name)), name


def test_a_second_call_on_a_store_computes_nothing(
    guard: Guard, classifier: nn.Module, naturals: tuple[Tensor, Tensor], store: Path, fresh: tuple[Tensor, Tensor]
) -> None:
    before = files(store)
    again = fit_guard(classifier, *naturals, **ONE, saliency=SALIENCY, store=str(store))  # and warns of nothing: nothing is calibrated
    assert files(store) == before
    assert torch.equal(again(fresh[0]).score, guard(fresh[0]).score)
    assert again.threshold == guard.threshold


def test_an_interrupted_call_goes_on(
    classifier: nn.Module, naturals: tuple[Tensor, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted when the head is trained: adversarials are not made again."""

    def interrupted(*_: Any, **__: Any) -> nn.Module:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Margin, "fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit_guard(classifier, *naturals, **PLAIN, store=tmp_path)
    before = files(tmp_path)
    assert {p.parent.parent.name for p in before} >= {"read_data", "look", "attack_images", "settle"}
    with pytest.warns(UserWarning, match="calibration images"):
        fit_guard(classifier, *naturals, **PLAIN, store=tmp_path)
    after = files(tmp_path)
    assert {p: after[p] for p in before} == before
    assert {"fit_detector", "scores"} <= {p.parent.parent.name for p in set(after) - set(before)}


def test_another_classifier_shares_nothing_but_the_images(classifier: nn.Module, naturals: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    assert isinstance(classifier, External)
    for net in (classifier, External(classifier.module, mean=0.4, std=0.5)):
        with pytest.warns(UserWarning, match="calibration images"):
            fit_guard(net, *naturals, **PLAIN, store=tmp_path)
    count = {p.name: len(list(p.iterdir())) for p in tmp_path.iterdir() if p.is_dir()}
    assert count["read_data"] == 1
    assert (count["attack_images"], count["fit_detector"], count["scores"]) == (4, 2, 4)  # two roles are attacked


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


@pytest.mark.parametrize("detector", [Margin(), ID()], ids=["margin", "id"])
def test_a_detector_that_needs_no_map_trains_no_net_for_it(
    classifier: nn.Module, naturals: tuple[Tensor, Tensor], fresh: tuple[Tensor, Tensor], tmp_path: Path, detector: Any
) -> None:
    with pytest.warns(UserWarning, match="calibration images"):
        found = fit_guard(classifier, *naturals, detector=detector, attacks=(DeepFool(),), store=tmp_path)
    assert found.saliency is None
    assert found(fresh[0]).map is None
    assert not {"fit_saliency", "sanity", "gate", "draw"} & {p.name for p in tmp_path.iterdir()}
    assert auroc(found(fresh[0]).score, found(fresh[1]).score) > 0.8


def test_without_a_store_nothing_is_left(classifier: nn.Module, naturals: tuple[Tensor, Tensor], scratch: Path) -> None:
    with pytest.warns(UserWarning, match="calibration images"):
        found = fit_guard(classifier, *naturals, detector=ID(), attacks=[DeepFool()])
    assert not list(scratch.iterdir())
    assert found(naturals[0][:3]).score.isfinite().all()


def test_level_seed_and_attacks_are_used(classifier: nn.Module, naturals: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    def fitted(**change: Any) -> Guard:
        return fit_guard(classifier, *naturals, **{"detector": ID(), "attacks": (DeepFool(),), "store": tmp_path} | change)

    with pytest.warns(UserWarning, match="calibration images"):
        usual, seeded, signs, both = fitted(), fitted(seed=1), fitted(attacks=(FGSM(0.3),)), fitted(attacks=(DeepFool(), FGSM(0.3)))
    loose = fitted(level=0.2)
    assert loose.level == 0.2
    assert loose.threshold < usual.threshold
    scores = [g(naturals[0]).score for g in (usual, seeded, signs, both)]
    assert not any(torch.equal(scores[0], s) for s in scores[1:])
    facts = [facts_of(g.detector) for g in (usual, both)]
    assert [f["of"] for f in facts] == [["DeepFool"], ["DeepFool", label(FGSM(0.3))]]
    assert [f["trained_on"] for f in facts] == ["DeepFool", "combined"]
    assert not any("choice" in f for f in facts), "there was none"


# --- the choice -------------------------------------------------------------------------------------------------------

CHEAP, HEAD = SmallCNN(width=4), Committee(members=2, width=16, steps=100)
SEEN = (DeepFool(), FGSM(0.3))
FEEBLE = FGSM(0.001)


@pytest.fixture(scope="module")
def kept(classifier: nn.Module, naturals: tuple[Tensor, Tensor], store: Path) -> Guard:
    """The best of several."""
    wanted = [Margin(), TopLogits(HEAD), LearnedFusion((TopLogits(), Consistency(LIGHT)), head=HEAD)]
    with pytest.warns(UserWarning, match="calibration images|hardly fool") as noted:
        found = fit_guard(classifier, *naturals, detector=wanted, attacks=(*SEEN, FEEBLE), store=store)
    messages = [str(w.message) for w in noted if "hardly fool" in str(w.message)]
    assert len(messages) == 1
    assert label(FEEBLE) in messages[0] or "FGSM" in messages[0]
    assert " images)" in messages[0] and "DeepFool" not in messages[0]
    assert all(w.filename == __file__ for w in noted if "hardly fool" in str(w.message)), "reported where it was called"
    return found


def test_what_finds_most_is_kept_and_says_why(kept: Guard) -> None:
    facts = facts_of(kept.detector)
    tried = facts["fit"]["candidates"]
    assert [c["name"] for c in tried] == ["Margin", "TopLogits", "the classifier's largest logits and the answer under 2 small changes"]
    for c in tried:
        rates = [share for share, _ in c["cells"].values()]
        assert c["mean"] == pytest.approx(np.mean(rates)) and c["worst"] == min(rates)
        assert any(name.startswith("DeepFool") and name.endswith("not trained on") for name in c["cells"])
        assert all(0 <= share <= 1 and count >= 20 for share, count in c["cells"].values())
    allowed = [c for c in tried if not c["dropped"]]
    best = max(c["mean"] for c in allowed)
    (chosen,) = (c for c in tried if c["chosen"])
    assert not chosen["dropped"] and chosen["mean"] >= best - 0.01
    assert chosen["passes"] == min(c["passes"] for c in allowed if c["mean"] >= best - 0.01)
    assert facts["trained_on"] == "combined", "kept is the one that was trained on all attacks and images"
    assert facts["of"] == [label(a) for a in (*SEEN, FEEBLE)]


def test_the_kept_one_works(kept: Guard, fresh: tuple[Tensor, Tensor], classifier: nn.Module, tmp_path: Path) -> None:
    natural, attacked = kept(fresh[0]), kept(fresh[1])
    assert auroc(natural.score, attacked.score) > 0.8
    assert float(natural.flagged.float().mean()) <= 0.12
    assert natural.contributions.shape == (400, len(kept.components))
    kept.save(tmp_path)
    again = Guard.load(tmp_path, classifier)
    assert torch.equal(again(fresh[1]).contributions, attacked.contributions)
    assert facts_of(again.detector)["fit"] == facts_of(kept.detector)["fit"]


def test_calibration_images_are_read_once_and_last(kept: Guard, store: Path) -> None:
    """Only the chosen detector is calibrated; no step but that has scores of those images."""
    scored = [json.loads(p.read_text()) for p in (store / "scores").glob("*/result.json")]
    records = [r for r in scored if "protocol" in r["arguments"]]
    assert all(len(r["arguments"]["sets"]) == 1 for r in records)
    chosen = next((store / "choose_for_guard").glob("*/result.json"))
    assert [r["arguments"]["detector"] for r in records].count({"input": json.loads(chosen.read_text())["key"]}) == 1


def test_images_that_say_how_good_it_is_had_no_part_in_it(kept: Guard) -> None:
    """Those that learn, calibrate and test are three roles of different images."""
    roles, fit = shares(COUNT, 0.05, maps=False), facts_of(kept.detector)["fit"]
    assert roles.detector_train + roles.calibration + roles.test == COUNT
    assert (len(kept.calibration), fit["natural"][1], fit["right"][1] + fit["wrong"][1]) == (roles.calibration, roles.test, roles.test)
    assert all(a["fooled"][1] <= roles.test and a["found"][1] == a["fooled"][0] for a in fit["attacks"])
    assert all(c["flagged"][1] <= roles.test and c["unchanged"] <= c["flagged"][1] for c in fit["harmless"])


class Layerless(nn.Module):
    """A classifier without a layer whose mean could be taken."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        return 4 * F.avg_pool2d(x, 8).flatten(1) @ self.weight


def test_a_classifier_without_layers_is_tried_without_what_reads_them(naturals: tuple[Tensor, Tensor]) -> None:
    net = Layerless(torch.eye(4))
    wanted = [Margin(), PooledActivations(), LearnedFusion(apart=(LayerStatistics(),))]
    parts = Parts(None, list(wanted), [], 0.05, 1, Roles(0, 0, 0, 0, 0))  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="left out features: the classifier has no convolution.*name another detector"):
        parts.check_features(net, "")
    assert parts.wanted == wanted[:1]
    assert not any("activations" in c.needs for c in default_candidates(1000, "usual", second=False, columns=0))
    with pytest.raises(UsageError, match="PooledActivations needs features"):
        fit_guard(net, *naturals, detector="pooled_activations")
    with pytest.warns(UserWarning, match="calibration images"):
        found = fit_guard(net, *naturals, **PLAIN)
    assert found(naturals[0][:5]).score.isfinite().all()


def test_attacks_that_all_hardly_fool_are_an_error(classifier: nn.Module, naturals: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    with pytest.raises(AttackTooWeak, match=r"no attack fools .*FGSM.*\d+ of \d+ images\), BIM.* of \d+ images\); give stronger `attacks`"):
        fit_guard(classifier, *naturals, detector=Margin(), attacks=(FEEBLE, BIM(0.001, 0.001)), store=tmp_path)
    assert not (tmp_path / "fit_detector").exists()


# --- a map that is none -----------------------------------------------------------------------------------------------


def test_maps_that_are_none_stop_it_with_their_figures(classifier: nn.Module, naturals: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match=r"failed its sanity check on 132 images: .* is -?\d\.\d+ \[-?\d\.\d+, -?\d\.\d+\], at least"):
        fit_guard(classifier, *naturals, detector=[SPD(CHEAP), Margin()], saliency=USELESS, store=tmp_path, on_failed_maps="stop")
    assert not {"attack_images", "fit_detector"} & {p.name for p in tmp_path.iterdir()}, "reported before the attacks take their time"
    with pytest.raises(CheckFailed, match=r"SPD needs the maps, and .*failed its sanity check.*on_failed_maps='mark'.*name a detector"):
        fit_guard(classifier, *naturals, **ONE, saliency=USELESS, store=tmp_path)
    with pytest.warns(UserWarning, match="calibration images"):
        marked = fit_guard(classifier, *naturals, **ONE, saliency=USELESS, store=tmp_path, on_failed_maps="mark")
    assert marked.saliency is not None
    assert len(list((tmp_path / "fit_saliency").iterdir())) == 1, "the same maps, judged twice"


def test_maps_that_are_none_are_left_out_and_the_fit_goes_on(
    classifier: nn.Module, naturals: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    """One warning says which figures failed; what needs no map is fitted and chosen from; the summary repeats it."""
    cheap = [SPD(CHEAP), Margin(), SecondNet(), HighFrequency()]
    with pytest.warns(UserWarning, match="calibration images|left out") as noted:
        found = fit_guard(classifier, *naturals, detector=cheap, attacks=SEEN, saliency=USELESS, store=tmp_path)
    messages = [str(w.message) for w in noted if "left out" in str(w.message)]
    assert len(messages) == 1
    assert re.search(r"left out the maps: .*failed its sanity check on 132 images.*on_failed_maps='mark'", messages[0])
    assert all(w.filename == __file__ for w in noted if "left out" in str(w.message)), "reported where it was called"
    assert found.saliency is None
    assert [c["name"] for c in facts_of(found.detector)["fit"]["candidates"]] == ["Margin", "HighFrequency"]
    assert "left out: the maps: " in str(found)


# --- classes that do not occur, images as people have them ------------------------------------------------------------

FEW: dict[str, Any] = {"attacks": (DeepFool(),), "detector": "margin"}


class Padded(nn.Module):
    """The classifier with many more classes, none of which occurs."""

    def __init__(self, inner: nn.Module, classes: int) -> None:
        super().__init__()
        self.inner, self.more = inner, classes - 4

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(self.inner(x), (0, self.more), value=-50.0)


def test_classes_that_do_not_occur_take_only_the_maps_away(classifier: nn.Module, naturals: tuple[Tensor, Tensor]) -> None:
    net, cheap = Padded(classifier, 1000), [SPD(CHEAP), Margin(), HighFrequency()]
    with pytest.warns(UserWarning, match="calibration images|left out") as noted:
        found = fit_guard(net, naturals[0][:400], naturals[1][:400], detector=cheap, attacks=(DeepFool(),))
    messages = [str(w.message) for w in noted if "left out" in str(w.message)]
    assert len(messages) == 1
    assert "left out the maps: 4 of 1000 classes have 12 or more of the 160 images" in messages[0]
    assert "give more images" in messages[0]
    assert found.shape.classes == 1000
    assert found.saliency is None
    with pytest.raises(UsageError, match=r"SPD needs the maps, and 4 of 1000 classes.*name a detector that does without"):
        fit_guard(net, *naturals, detector=SPD(CHEAP), attacks=(DeepFool(),))


@pytest.fixture(scope="module")
def usual(classifier: nn.Module) -> Guard:
    with pytest.warns(UserWarning, match="calibration images"):
        return fit_guard(classifier, X, Y, **FEW)


@pytest.mark.parametrize(
    "given",
    [
        lambda: ((X * 255).to(torch.uint8), Y),
        lambda: (X.double(), Y.to(torch.uint8)),
        lambda: (X.numpy(), Y.int().numpy()),
        lambda: (X, F.one_hot(Y)),
        lambda: (X.to(memory_format=torch.channels_last), Y),
        lambda: (DataLoader(TensorDataset(X, Y), batch_size=50), None),
        lambda: (TensorDataset(X, Y), None),
        lambda: (((x, int(y)) for x, y in zip(X, Y, strict=True)), None),
        lambda: ([(X[:200], Y[:200].tolist()), (X[200:], Y[200:])], None),
        lambda: (X.split(100), Y),
        lambda: (Arrays((X * 255).to(torch.uint8).numpy(), Y.numpy(), Roles(100, 0, 0, 0, 0)), None),
    ],
    ids=["uint8", "float64", "numpy", "one-hot", "channels last", "loader", "data set", "pairs", "batches", "images alone", "Arrays"],
)
def test_images_come_as_people_have_them(classifier: nn.Module, usual: Guard, given: Any) -> None:
    images, labels = given()
    with pytest.warns(UserWarning, match="calibration images"):
        found = fit_guard(classifier, images, labels, **FEW)
    assert torch.equal(found.calibration, usual.calibration)
    assert found.threshold == usual.threshold


def test_images_come_as_a_folder(classifier: nn.Module, tmp_path: Path) -> None:
    for i, (x, y) in enumerate(zip(X, Y, strict=True)):
        (tmp_path / "pictures" / f"class{y}").mkdir(parents=True, exist_ok=True)
        Image.fromarray((x[0] * 255).to(torch.uint8).numpy()).save(tmp_path / "pictures" / f"class{y}" / f"{i}.png")
    with pytest.warns(UserWarning, match="calibration images"):
        found = fit_guard(classifier, str(tmp_path / "pictures"), **FEW)
    assert (found.shape.classes, len(found.calibration)) == (4, shares(len(X), 0.05, maps=False).calibration)


def test_how_pictures_of_another_size_come_is_kept_in_the_guard(classifier: nn.Module, usual: Guard, tmp_path: Path) -> None:
    assert usual.resize is None
    with pytest.warns(UserWarning, match="calibration images"):
        messages = fit_guard(classifier, X, Y, resize="crop", **FEW)
    messages.save(tmp_path)
    assert messages.resize == Guard.load(tmp_path, classifier).resize == "crop"


def test_a_stream_of_images_is_never_in_memory(tmp_path: Path) -> None:
    """100 MB as bytes, 400 MB as floats."""

    def stream(batches: int) -> Any:
        g = torch.Generator().manual_seed(0)
        for _ in range(batches):
            yield torch.rand(50, 3, 128, 128, generator=g), torch.zeros(50, dtype=torch.int64)

    taken(stream(2), None, tmp_path)
    tracemalloc.start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        pixels, labels = taken(stream(40), None, tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert pixels.shape == (2000, 3, 128, 128)
    assert isinstance(pixels, np.memmap)
    assert labels.shape == (2000,)
    assert peak < 2**24, "bytes that Python holds"
    assert grown < 80, "megabytes that the process grew by"


def test_what_a_loader_raises_is_its_error(classifier: nn.Module) -> None:
    class Broken(TensorDataset):
        def __getitem__(self, index: Any) -> Any:
            raise KeyError("no such file")

    with pytest.raises(
        UsageError, match=r"the Broken fails at batch 0: KeyError: 'no such file' \(.*test_fit_guard.py:\d+, in .*__getitem__\)"
    ):
        fit_guard(classifier, Broken(X, Y))


# --- errors, progress, processes, summary -----------------------------------------------------------------------------


class Falls(nn.Module):
    """Answers on natural images, and raises on the first one that was attacked (its pixels are no 255ths)."""

    def __init__(self, inner: nn.Module, error: BaseException) -> None:
        super().__init__()
        self.inner, self.error = inner, error

    def forward(self, x: Tensor) -> Tensor:
        if ((x * 255 - (x * 255).round()).abs() > 0.01).any() and len(x) > 20:  # few are noise that tells networks apart
            raise self.error
        z: Tensor = self.inner(x)
        return z


@pytest.mark.parametrize("error", [KeyError("layer"), AssertionError(), MemoryError(), SystemExit(4)], ids=lambda e: type(e).__name__)
def test_what_a_network_raises_in_the_middle_is_its_error(classifier: nn.Module, error: BaseException) -> None:
    with pytest.raises(UsageError, match=rf"the classifier fails: {type(error).__name__}.*test_fit_guard.py:\d+, in Falls.forward"):
        fit_guard(Falls(classifier, error), X, Y, **FEW)


def test_progress_is_reported_from_the_first_step_to_the_last_and_nothing_is_printed(
    classifier: nn.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    heard: list[tuple[float, float]] = []
    with pytest.warns(UserWarning, match="calibration images"):
        fit_guard(classifier, X, Y, **FEW, progress=lambda share, left: heard.append((share, left)))
    assert heard[0][0] == 0
    assert heard[0][1] > 0, "the time left, before anything was computed"
    assert [s for s, _ in heard] == sorted(s for s, _ in heard)
    assert heard[-1][0] == pytest.approx(1)
    assert heard[-1][1] == pytest.approx(0, abs=0.1)
    assert capsys.readouterr() == ("", "")


def test_worker_processes_make_the_same_guard(classifier: nn.Module, usual: Guard, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(UserWarning, match="calibration images") as noted:
        found = fit_guard(classifier, X, Y, **FEW, workers=2)
    assert not [w for w in noted if "one process" in str(w.message)]
    assert torch.equal(found.calibration, usual.calibration)
    assert all(torch.equal(a, b) for a, b in zip(found.detector.state_dict().values(), usual.detector.state_dict().values(), strict=True))


def test_the_summary_says_how_good_it_is(usual: Guard, classifier: nn.Module, tmp_path: Path) -> None:
    text = usual.summary()
    assert re.search(r"the classifier is right on \d+ of 256 images", text)
    assert "looks at: the gap between the two best classes" in text
    assert re.search(r"naturals flagged \.\d+ \(\d+ of 59\): of right answers \.\d+ \(\d+ of 59\), of wrong ones – \(of 0\)", text)
    assert re.search(r"DeepFool +1?\.\d+ \(\d+ of \d+\)", text)
    assert re.search(r"sign noise of 8/255 +\.\d+ \(\d+ of \d+\)|other changes add less", text)
    assert f"at most 5 % of naturals, if they are like the {len(usual.calibration)} it was calibrated on (95 % sure)" in text
    assert str(usual) == text
    usual.save(tmp_path)
    assert Guard.load(tmp_path, classifier).summary() == text


# --- wrong use ------------------------------------------------------------------------------------------------------


def test_too_few_images_and_how_many_are_needed(classifier: nn.Module, naturals: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    x, y = naturals
    with pytest.raises(UsageError, match="there are no images"):
        fit_guard(classifier, x[:0], y[:0], store=tmp_path)
    for count in (10, 50, NEEDED - 4):
        with pytest.raises(UsageError, match=rf"{count} images leave \d+ to calibrate with; .* 5 % needs 59, so at least {NEEDED} images"):
            fit_guard(classifier, x[:count], y[:count], store=tmp_path)
    with pytest.raises(UsageError, match=r"of 1 % needs 299, so at least 855 images"):
        fit_guard(classifier, x, y, level=0.01, store=tmp_path)
    assert not list(tmp_path.iterdir()), "said before anything is computed"
    with pytest.warns(UserWarning, match="60 calibration images"):
        fit_guard(classifier, x[:NEEDED], y[:NEEDED], **PLAIN, store=tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": (X * 255).to(torch.int32)}, "found torch.int32"),
        ({"images": X * 255}, r"lie in \[0, 1\]; found \[0, 2\d\d\]"),
        ({"images": X - 0.5}, r"lie in \[0, 1\]"),
        ({"images": X[:, 0]}, r"\(N, C, H, W\); found shape \(295, 16, 16\)"),
        ({"images": X.repeat(1, 3, 1, 1)}, r"fails on images of 3 x 16 x 16 "),
        ({"images": X[:, :, :12]}, r"fails on images of 1 x 12 x 16 "),
        ({"labels": Y[:-1]}, r"int64 of shape \(295,\), one an image; found torch.int64 \(294,\)"),
        ({"labels": Y.float()}, "found torch.float32"),
        ({"labels": Y.tolist()}, "found list"),
        ({"labels": F.one_hot(Y) * 2}, r"must be one-hot, a single 1 in each row"),
        ({"labels": Y - 1}, r"lie in \[0, 4\); found \[-1, 2\]"),
        ({"labels": Y + 1}, r"lie in \[0, 4\); found \[1, 4\]"),
        ({"level": 0}, "strictly between 0 and 1; found 0"),
        ({"level": 1.0}, "strictly between 0 and 1; found 1.0"),
        ({"level": -0.1}, "strictly between 0 and 1; found -0.1"),
        ({"seed": -1}, "a seed is 0 or more; found -1"),
        ({"on_failed_maps": "stpo"}, "unknown on_failed_maps 'stpo'; there are: drop, stop, mark"),
        ({"resize": "stretch"}, "unknown way to resize 'stretch'; there are: squash, crop"),
        ({"detector": SPD}, "detector must be settings"),
        ({"detector": "margn"}, "unknown detector 'margn'; there are: spd, smd, .*margin"),
        ({"detector": "fused"}, "unknown detector 'fused'"),
        ({"workers": 0}, "workers must be 1 or more; found 0"),
        ({"labels": None}, "labels are missing"),
        ({"images": 3}, "images must be a tensor .*found int"),
        ({"images": [(X[:9], Y[:9])] * 40}, "a second time"),
        (
            {"images": [(X[:9], Y[:9]), (X[:9, :, :8], Y[:9])] * 40, "labels": None},
            "batch 1 differs from those before it: 1 x 16 x 16 and 1 x 8 x 16",
        ),
        ({"images": [X[:9]] * 40, "labels": None}, "labels are missing"),
        ({"images": [{"x": X}], "labels": None}, r"batch 0 is a dict; a pair \(images, labels\) expected"),
        ({"images": [], "labels": None}, "there are no images in the list"),
        ({"images": (x for x in [1 / 0 for _ in ()]), "labels": None}, "there are no images in the generator"),
        ({"attacks": ("fgsm",)}, "an attack of this package, foolbox, torchattacks or ART expected; found 'fgsm'"),
        ({"attacks": "fgsm"}, r"attacks must be a sequence of settings, like \(DeepFool\(\),\); found 'fgsm'"),
        ({"attacks": FGSM()}, r"attacks must be a sequence of settings, like \(DeepFool\(\),\); found FGSM"),
        ({"attacks": ()}, r"attacks must be a sequence of settings, like \(DeepFool\(\),\); found \(\)"),
        ({"saliency": nn.Identity()}, "saliency must be settings"),
        ({"classifier": lambda x: x}, "must be an nn.Module; found function"),
        ({"classifier": nn.Identity()}, r"give logits \(N, K\); it gave \(8, 1, 16, 16\) for 8 images: wrap it in External"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else None,
)
def test_wrong_use_is_said_before_anything_is_computed(classifier: nn.Module, tmp_path: Path, change: dict[str, Any], words: str) -> None:
    given: dict[str, Any] = {"classifier": classifier, "images": X, "labels": Y, "store": tmp_path} | change
    with pytest.raises(UsageError, match=words):
        fit_guard(**given)
    assert not list(tmp_path.iterdir())


def test_probabilities_are_refused(classifier: nn.Module) -> None:
    with pytest.raises(UsageError, match="softmax"):
        fit_guard(External(nn.Sequential(classifier, nn.Softmax(1))), X, Y)


def test_a_store_that_cannot_be_written(classifier: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        fit_guard(classifier, X, Y, store=tmp_path / "file")


# --- whose answers the stored work is about ---------------------------------------------------------------------------------------


class Tempered(nn.Module):
    """A temperature in a Python attribute: no weight knows of it."""

    def __init__(self, net: nn.Module, temperature: float) -> None:
        super().__init__()
        self.net, self.temperature = net, temperature

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x) * self.temperature
        return logits


def frozen_script(net: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.freeze(torch.jit.trace(net.eval(), torch.zeros(2, 1, 16, 16)))  # type: ignore[no-any-return, no-untyped-call]


@pytest.mark.filterwarnings("ignore:.*calibration images")
@pytest.mark.parametrize("kind", [frozen_script, lambda net: net], ids=["frozen script", "attribute"])
def test_two_networks_with_one_store_get_a_guard_each(
    classifier: nn.Module, naturals: tuple[Tensor, Tensor], fresh: tuple[Tensor, Tensor], tmp_path: Path, kind: Any
) -> None:
    net = copy.deepcopy(classifier)
    net._checked = True  # type: ignore[assignment]  # the look at the first answers cannot be traced
    nets = [kind(Tempered(net, t)) for t in (1.0, 0.05)]
    assert fingerprint(nets[0]) == fingerprint(nets[1])
    guards = [fit_guard(net, *naturals, **PLAIN, store=tmp_path) for net in nets]
    alone = fit_guard(nets[1], *naturals, **PLAIN)
    assert guards[0].threshold != guards[1].threshold == alone.threshold
    for guard in guards:
        assert float(guard(fresh[0]).flagged.float().mean()) <= 0.12
    before = files(tmp_path)
    assert fit_guard(nets[0], *naturals, **PLAIN, store=tmp_path).threshold == guards[0].threshold
    assert files(tmp_path) == before, "the same network's work is found again"


# --- modes, precisions and kinds of networks ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(classifier: nn.Module, naturals: tuple[Tensor, Tensor]) -> Guard:
    with pytest.warns(UserWarning, match="calibration images"):
        return fit_guard(classifier, *naturals, detector=ID(SmallCNN(epochs=1)), attacks=(FGSM(0.3),))


@pytest.mark.filterwarnings("ignore:.*calibration images")
@pytest.mark.parametrize("around", ["autocast", "float64", "inference mode", "no grad"])
def test_modes_around_a_fit_do_not_matter(
    classifier: nn.Module, naturals: tuple[Tensor, Tensor], plain: Guard, fresh: tuple[Tensor, Tensor], around: str
) -> None:
    mode: Any = {"autocast": torch.autocast("cpu", torch.bfloat16), "no grad": torch.no_grad()}.get(around, torch.inference_mode())
    try:
        if around == "float64":
            mode = nullcontext()
            torch.set_default_dtype(torch.float64)
        with mode:
            guard = fit_guard(classifier, *naturals, detector=ID(SmallCNN(epochs=1)), attacks=(FGSM(0.3),))
        assert torch.get_default_dtype() == (torch.float64 if around == "float64" else torch.float32)
    finally:
        torch.set_default_dtype(torch.float32)
    assert guard.threshold == plain.threshold and torch.equal(guard.calibration, plain.calibration)
    assert torch.equal(guard(fresh[1]).score, plain(fresh[1]).score)


def quantised(net: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: nn.Module = torch.ao.quantization.quantize_dynamic(copy.deepcopy(net), {nn.Linear}, dtype=torch.qint8)
    return made


KINDS: dict[str, Any] = {
    "half": lambda net: copy.deepcopy(net).half(),
    "bfloat16": lambda net: copy.deepcopy(net).bfloat16(),
    "float64": lambda net: copy.deepcopy(net).double(),
    "compiled": lambda net: torch.compile(copy.deepcopy(net)),
    "parallel": lambda net: nn.DataParallel(copy.deepcopy(net)),
    "quantised": quantised,
    "frozen script": lambda net: External(frozen_script(net.module), mean=0.5, std=0.5),
    "no gradient": lambda net: NoGradient(net),
}


class NoGradient(nn.Module):
    """As a network that is run by another library."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = self.net(x)
        return logits


@pytest.mark.filterwarnings("ignore:.*calibration images", "ignore::DeprecationWarning", "ignore:.*TypedStorage")
@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_guard_stands_in_front_of_every_kind_of_network(
    classifier: nn.Module, naturals: tuple[Tensor, Tensor], plain: Guard, fresh: tuple[Tensor, Tensor], name: str, tmp_path: Path
) -> None:
    """Fitted where attacks find a gradient, judging and loaded again always; answers are those of the plain network, but for rounding."""
    net = KINDS[name](classifier)
    guard = Guard(net, None, plain.detector, plain.threshold, 0.05, plain.calibration, plain.shape)
    same = guard(fresh[0]).predicted == plain(fresh[0]).predicted
    assert float(same.float().mean()) > 0.97
    if name not in ("no gradient", "quantised"):
        fitted = fit_guard(net, *naturals, **PLAIN)
        assert float(fitted(fresh[1]).flagged.float().mean()) > 0.5 and fitted(fresh[1]).score.dtype == torch.float32
        guard = fitted
    guard.save(tmp_path)
    again = Guard.load(tmp_path, net)
    assert torch.equal(again(fresh[0]).score, guard(fresh[0]).score)
    if name == "no gradient":
        with pytest.raises(UsageError, match="gives none"):
            fit_guard(net, *naturals, **PLAIN)


class Patched(nn.Module):
    """A small transformer's first half: tokens, flattened on the way."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.side = net, nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        self.side(x.reshape(-1, 4))
        logits: Tensor = self.net(x)
        return logits


@pytest.mark.filterwarnings("ignore:.*calibration images")
def test_layers_that_are_left_out_are_named_once(classifier: nn.Module, naturals: tuple[Tensor, Tensor]) -> None:
    with pytest.warns(UserWarning, match=r"1 of 4 layers are left out of the features") as messages:
        guard = fit_guard(Patched(classifier), *naturals, detector=PooledActivations(epochs=1), attacks=(FGSM(0.3),))
    about = [w for w in messages if "left out of the features" in str(w.message)]
    assert len(about) == 1 and "side ((192, 4) for 3 images)" in str(about[0].message) and about[0].filename == __file__
    assert len(guard(naturals[0][:8])) == 8


# --- promise, groups, a second network --------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*calibration images")
def test_a_promise_for_right_answers_is_calibrated_on_those_alone(classifier: nn.Module, naturals: tuple[Tensor, Tensor]) -> None:
    x, y = naturals
    wrong = torch.arange(COUNT) % 5 == 0
    labels = torch.where(wrong, (y + 1) % 4, y)
    every, correct = (fit_guard(classifier, x, labels, **PLAIN, promise=p) for p in ("all", "correct"))
    with torch.no_grad():
        right = classifier(x).argmax(1) == labels
    assert len(every.calibration) == shares(COUNT, 0.05, maps=False).calibration
    assert 0.7 * len(every.calibration) < len(correct.calibration) < 0.9 * len(every.calibration)
    assert 0.75 < float(right.float().mean()) < 0.85
    assert torch.isin(correct.calibration, every.calibration).all(), "the same images, fewer of them"
    assert "at most 5 % of naturals that the classifier is right on" in str(correct)
    fit = facts_of(correct.detector)["fit"]
    assert fit["promise"] == "correct" and fit["right"][1] + fit["wrong"][1] == fit["natural"][1] and fit["wrong"][1] > 10
    with pytest.raises(UsageError, match="unknown promise 'right'; there are: all, correct"):
        fit_guard(classifier, x, labels, **PLAIN, promise="right")


@pytest.mark.filterwarnings("ignore:.*calibration images")
def test_images_of_a_group_stay_together(classifier: nn.Module, naturals: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    x, y = naturals
    scene = [f"scene {i // 6}" for i in range(COUNT)]
    fit_guard(classifier, x, y, **PLAIN, groups=scene, store=tmp_path)
    (folder,) = (tmp_path / "read_data").iterdir()
    rows = read_arrays(folder / "arrays.safetensors")
    role, group = np.array(rows["role"]), np.array(rows["group"])
    assert {len(set(role[group == g])) for g in np.unique(group)} == {1} and len(np.unique(group)) == 100
    wanted = shares(COUNT, 0.05, maps=False)
    assert abs(int((role == 3).sum()) - wanted.calibration) <= 6 and abs(int((role == 1).sum()) - wanted.detector_train) <= 6
    for groups, words in ((scene[:-1], r"to which it belongs; found shape \(599,\)"), (torch.zeros(3, 2), r"found shape \(3, 2\)")):
        with pytest.raises(UsageError, match=words):
            fit_guard(classifier, x, y, **PLAIN, groups=groups)


@pytest.mark.filterwarnings("ignore:.*calibration images")
def test_a_second_network_is_asked_and_known_again(
    classifier: nn.Module, naturals: tuple[Tensor, Tensor], fresh: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    other = copy.deepcopy(classifier)
    with torch.no_grad():
        for p in other.parameters():
            p += 0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(3))
    wanted = SecondOpinion(head=HEAD)
    guard = fit_guard(classifier, *naturals, detector=wanted, second=other, attacks=(DeepFool(),))
    found = guard(fresh[1])
    with torch.no_grad():
        theirs = other(fresh[1]).argmax(1)
    assert torch.equal(found.answers["asking the second network"], theirs)
    differs = int((theirs != found.predicted).nonzero()[0])
    assert f"it is {int(theirs[differs])}, not {int(found.predicted[differs])}" in found.reasons[differs]
    assert auroc(guard(fresh[0]).score, found.score) > 0.6
    guard.save(tmp_path)
    assert torch.equal(Guard.load(tmp_path, classifier, second=other)(fresh[1]).score, found.score)
    with pytest.raises(UsageError, match="asks a second network, and none was given"):
        Guard.load(tmp_path, classifier)
    with pytest.raises(WrongClassifier, match="with another second network"):
        Guard.load(tmp_path, classifier, second=classifier)
    with pytest.raises(UsageError, match="a detector asks a second network, and none was given"):
        fit_guard(classifier, *naturals, detector=wanted)
    with pytest.raises(UsageError, match=r"must give \(N, 4\) logits, as the classifier does; found \(2, 9\)"):
        fit_guard(classifier, *naturals, detector=wanted, second=Padded(classifier, 9))


class Odd(nn.Module):
    """Layers whose names are not in the order of the alphabet, and one that no image passes."""

    def __init__(self) -> None:
        super().__init__()
        self.second, self.first, self.unused = nn.Conv2d(1, 6, 3, 2, 1), nn.Conv2d(6, 5, 3, 2, 1), nn.Linear(3, 3)
        self.answer = nn.Linear(80, 4)

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.answer(self.first(self.second(x - 0.5).relu()).relu().flatten(1))
        return z


@pytest.mark.filterwarnings("ignore:.*calibration images")
def test_a_guard_scores_images_as_it_was_calibrated_on_them(naturals: tuple[Tensor, Tensor]) -> None:
    """What is read where evidence is stored and in front of the classifier is the same, in the same order, also of layers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Odd()
        x, y = quadrants(800, seed=99)
        steps = torch.optim.Adam(net.parameters(), 3e-3)
        for _ in range(15):
            for at in torch.randperm(len(x)).split(50):
                steps.zero_grad()
                F.cross_entropy(net(x[at]), y[at]).backward()
                steps.step()
    members = (TopLogits(), Consistency(LIGHT))
    detector = [LearnedFusion(members, (LayerStatistics(),), head=HEAD), Cascade(TopLogits(HEAD), LearnedFusion(members, head=HEAD))]
    for d in detector:
        guard = fit_guard(net, *naturals, detector=d, attacks=(DeepFool(),))
        scores = guard(naturals[0]).score
        nearest = (guard.calibration[:, None] - scores[None]).abs().amin(1)
        assert float(nearest.max()) < 1e-3 * float(guard.calibration.std()), "each calibration score is one of these images'"
        assert float((scores > guard.threshold).float().mean()) < 0.12


def test_a_trial_that_takes_a_fifth_of_the_time_is_left_out_and_named() -> None:
    short, long = PGD(steps=10), CarliniWagner(search_steps=1, steps=60)
    parts = Parts(cast(Any, None), [], [], 0.05, 3, Roles(0, 0, 0, 0, 100), unseen=[short, long])
    with pytest.warns(UserWarning, match="left out") as noted:
        parts.check_time(0.05, 30)  # 100 images of 3 x .05 s a gradient: 2.5 and 15 minutes
    assert parts.unseen == [short] and len(noted) == 1
    assert "C&W" in parts.left_out[0] and "about 15 minutes" in parts.left_out[0] and "minutes=" in parts.left_out[0]
    parts.check_time(0.05, 12.6)
    assert parts.unseen == [short]
    with pytest.warns(UserWarning, match="PGD"):
        parts.check_time(0.05, 12.4)
    assert parts.unseen == []


def test_training_on_an_attack_that_takes_a_fifth_of_the_time_is_left_out_but_for_the_shortest() -> None:
    short, long, longer = PGD(steps=10), CarliniWagner(search_steps=1, steps=60), CarliniWagner(search_steps=1, steps=80)
    parts = Parts(cast(Any, None), [], [short, long, longer], 0.05, 3, Roles(0, 300, 0, 0, 0))
    parts.check_time(0.05, 201)  # each of 300 images meets two of three attacks: 200 images an attack, of 3 x .05 s a gradient
    assert parts.attacks == [short, long, longer]
    with pytest.warns(UserWarning, match="training on C&W.*about 40 minutes.*minutes= gives it more"):
        parts.check_time(0.05, 160)
    assert parts.attacks == [short, long]
    with pytest.warns(UserWarning, match="training on C&W"):
        parts.check_time(0.05, 1)
    assert parts.attacks == [short], "the shortest stays, however long it takes"


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28)])
def test_large_perturbations_are_lent_and_not_those_of_another_network(shape: tuple[int, ...]) -> None:
    """What is lent beside the first two mixtures has the largest size that is learnt as an attack, and is never that of a
    network of the guard's own: an attack from elsewhere and such a perturbation would be hard to tell apart.
    """
    lent: list[Any] = []

    class Sets:
        natural: ClassVar = {"detector_train": None}

        def harmless(self, *_: Any) -> None: ...

        def attacked(self, attack: Any, *_: Any) -> Any:
            return attack

        def control_of(self, control: Any, attacked: Any, *_: Any) -> Any:
            lent.append((control, attacked))

    attacks, lenders = default_attacks(shape), default_lenders(shape)
    parts = Parts(cast(Any, Sets()), [], list(attacks), 0.05, shape[0], Roles(0, 100, 0, 0, 0), lenders=lenders)
    assert len(parts.copies) == 2 + len(lent) and len(lent) == 2 + len(lenders)
    assert all(type(c) is Transplant for c, _ in lent)
    assert [a for _, a in lent[:2]] == parts.learnt
    largest = max(a.eps for a in attacks if type(a) is PGD and a.steps > 1)
    assert [a.eps for _, a in lent[2:]] == [largest] and all(a.lowest is None for _, a in lent[2:])
