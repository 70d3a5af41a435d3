"""A second network that the fit trains, on a task whose answer is known; and what can be seen of one that learnt the guard's images."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from salientry import Guard, SecondNetwork, fit_guard, recalibrate, refit_guard
from salientry.attacks import DeepFool
from salientry.classifiers import CompactCNN, PictureCNN
from salientry.cli.checking import guard_of
from salientry.datasets import Arrays, Folder
from salientry.detectors import Margin, SecondOpinion
from salientry.detectors._committee import Committee
from salientry.errors import DataDamaged, UsageError, WrongClassifier
from salientry.experiment.agreement import agreement, by_chance, doubt
from salientry.experiment.run import Run
from salientry.experiment.second_network import answers_as_labels, suited, trained, training_set
from salientry.experiment.steps import classify
from salientry.keys import digest, label
from salientry.learned import facts_of, fingerprint
from salientry.types import Roles, Shape

pytestmark = pytest.mark.filterwarnings("ignore:.*calibration images")
COUNT, SIDE, NOISE = 400, 8, 50.0
SMALL = CompactCNN(width=8, epochs=20, shift=0)
TEMPLATES = np.random.default_rng(0).integers(105, 151, (4, 1, SIDE, SIDE))
HOW: dict[str, Any] = {"detector": SecondOpinion(head=Committee(steps=60)), "attacks": (DeepFool(),), "workers": 1}


def drawn(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Four templates in noise that hides some of them."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count)
    return (TEMPLATES[labels] + rng.normal(0, NOISE, (count, 1, SIDE, SIDE))).clip(0, 255).astype(np.uint8), labels


def floats(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pixels).float() / 255


def learner(seed: int, pixels: NDArray[np.uint8], labels: NDArray[np.int64], steps: int) -> nn.Module:
    """A net wide enough to learn every image by heart."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 200), nn.ReLU(), nn.Linear(200, 4))
        x, y, adam = floats(pixels), torch.from_numpy(labels), torch.optim.Adam(net.parameters(), 3e-3)
        for _ in range(steps):
            adam.zero_grad()
            F.cross_entropy(net(x), y).backward()
            adam.step()
    return net


@pytest.fixture(scope="module", autouse=True)
def one_process() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("salientry.runner.pool.WORTH", float("inf"))
        yield


X, Y = drawn(COUNT, seed=1)
TRAINING = drawn(500, seed=2)


@pytest.fixture(scope="module")
def classifier() -> nn.Module:
    return learner(0, *TRAINING, steps=40)


@pytest.fixture(scope="module")
def guard(classifier: nn.Module) -> Guard:
    return fit_guard(classifier, X, torch.from_numpy(Y), second=SecondNetwork(*TRAINING, SMALL), **HOW)


def answers(net: nn.Module, pixels: NDArray[np.uint8] = X) -> NDArray[np.int64]:
    with torch.no_grad():
        found: NDArray[np.int64] = net(floats(pixels)).argmax(1).numpy()
    return found


# --- training ----------------------------------------------------------------------------------------------------


def test_it_learns_the_task_and_the_report_counts_what_it_says(guard: Guard, classifier: nn.Module) -> None:
    second = guard.second
    assert second is not None
    theirs, own = answers(second), answers(classifier)
    right, agrees = int((theirs == Y).sum()), int((theirs == own).sum())
    wrong = own != Y
    assert right > 0.6 * COUNT and 40 < int(wrong.sum()) < COUNT / 2
    counted = facts_of(guard.detector)["fit"]["second"]
    assert counted["right"] == [right, COUNT] and counted["agrees"] == [agrees, COUNT]
    assert counted["mistakes"] == [int((theirs == Y)[wrong].sum()), int(wrong.sum())]
    assert counted["trained"] == {"images": 500, "left_out": 0, "learnt": "labels", "network": label(SMALL)} and counted["asked"]
    assert counted["doubt"] == ""
    line = next(text for text in str(guard).splitlines() if text.startswith("the second network"))
    assert f"({right} of {COUNT})" in line and f"({agrees} of {COUNT})" in line and "trained on labels of 500 images" in line
    card = guard.card()["measured"]["second_network"]
    assert (card["right"]["count"], card["agrees"]["of"], card["trained"]["images"]) == (right, COUNT, 500)


def test_it_lies_with_the_guard_which_needs_no_other(guard: Guard, classifier: nn.Module, tmp_path: Path) -> None:
    guard.save(tmp_path / "g")
    x = floats(drawn(50, seed=5)[0])
    for again in (Guard.load(tmp_path / "g", classifier), guard_of(tmp_path / "g", classifier, "cpu")):
        assert torch.equal(again(x).score, guard(x).score)
        assert again.second is not None and guard.second is not None and fingerprint(again.second) == fingerprint(guard.second)
    assert {p.suffix for p in (tmp_path / "g").iterdir()} == {".json", ".safetensors"}
    with pytest.raises(WrongClassifier, match="with another second network"):
        Guard.load(tmp_path / "g", classifier, second=classifier)
    again = recalibrate(Guard.load(tmp_path / "g", classifier), drawn(200, seed=6)[0])
    again.save(tmp_path / "new")
    assert torch.equal(Guard.load(tmp_path / "new", classifier)(x).score, guard(x).score)
    assert "## The second network" in again.report(tmp_path / "new")


def test_a_guard_is_fitted_again_with_the_network_that_lies_with_it(guard: Guard, tmp_path: Path) -> None:
    guard.save(tmp_path / "g")
    retrained = learner(3, *TRAINING, steps=60)
    again = refit_guard(tmp_path / "g", retrained, X, torch.from_numpy(Y), attacks=HOW["attacks"], workers=1)
    again.save(tmp_path / "again")
    found = Guard.load(tmp_path / "again", retrained)
    assert found.second is not None and guard.second is not None and fingerprint(found.second) == fingerprint(guard.second)


def test_what_lies_with_a_guard_is_recognised(guard: Guard, classifier: nn.Module, tmp_path: Path) -> None:
    """By weight hash and probe logits, as the classifier is."""
    guard.save(tmp_path)
    body = json.loads((tmp_path / "guard.json").read_text())
    assert body["schema"] == 4

    def written(changed: dict[str, Any]) -> None:
        whole = {k: v for k, v in (body | changed).items() if k != "sha256"}
        (tmp_path / "guard.json").write_text(json.dumps(whole | {"sha256": digest(whole)}))

    written({"second": body["second"] | {"weights": "0" * 64}})
    with pytest.raises(WrongClassifier, match="another second network than lies with it: weights 000000000000 expected"):
        Guard.load(tmp_path, classifier)
    written({"second": None})
    with pytest.raises(DataDamaged, match="a second network that nothing asks"):
        Guard.load(tmp_path, classifier)


@pytest.mark.parametrize("schema", [2, 3])
def test_guards_of_earlier_schemas_load(classifier: nn.Module, tmp_path: Path, schema: int) -> None:
    """They know of no network that lies with them; those of schema 2 of none at all."""
    other = learner(1, *TRAINING, steps=30)
    beside = {"detector": Margin(), "attacks": HOW["attacks"], "workers": 1} if schema == 2 else HOW | {"second": other}
    guard = fit_guard(classifier, X, torch.from_numpy(Y), **beside)
    guard.save(tmp_path)
    body = json.loads((tmp_path / "guard.json").read_text())
    whole = {k: v for k, v in body.items() if k != "sha256" and (schema == 3 or k != "second")} | {"schema": schema}
    (tmp_path / "guard.json").write_text(json.dumps(whole | {"sha256": digest(whole)}))
    again = Guard.load(tmp_path, classifier, second=other if schema == 3 else None)
    assert torch.equal(again(floats(X)).score, guard(floats(X)).score)
    if schema == 3:
        with pytest.raises(UsageError, match="asks a second network, and none was given"):
            Guard.load(tmp_path, classifier)


def test_a_stopped_fit_goes_on_without_training_again(classifier: nn.Module, guard: Guard, tmp_path: Path) -> None:
    made = tmp_path / "train_classifier"

    def stops(share: float, left: float) -> None:
        if any(made.glob("*/DONE")):
            raise KeyboardInterrupt

    def fitted(**how: Any) -> Guard:
        return fit_guard(classifier, X, torch.from_numpy(Y), second=SecondNetwork(*TRAINING, SMALL), store=tmp_path, **HOW, **how)

    with pytest.raises(KeyboardInterrupt):
        fitted(progress=stops)
    (done,) = made.glob("*/DONE")
    before = done.stat().st_mtime_ns
    assert not any((tmp_path / "fit_detector").glob("*/DONE")), "it was stopped before"
    again = fitted()
    assert [p.stat().st_mtime_ns for p in made.glob("*/DONE")] == [before]
    assert torch.equal(again(floats(X)).score, guard(floats(X)).score) and again.threshold == guard.threshold


def test_without_labels_it_learns_what_the_classifier_answers(tmp_path: Path) -> None:
    class Wrong(nn.Module):
        """Gives every image the next class."""

        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            z: Tensor = self.net(x).roll(1, dims=1)
            return z

    net, pixels = Wrong(learner(0, *TRAINING, steps=40)), TRAINING[0]
    for i, images in enumerate((pixels, [torch.from_numpy(pixels[:200]), torch.from_numpy(pixels[200:])])):
        found = training_set(SecondNetwork(images, None, SMALL), X, None, 4, None, tmp_path / str(i))
        assert found.labels is None and (found.pixels == pixels).all()
    run = Run(tmp_path / "store")
    f = run.given(net, "net", "yours")
    second = trained(run, found, f, 1e-3)
    rows = run.get(run.do(answers_as_labels, run.do(classify, second.handle.args["rows"].args["rows"].args["images"], f)))
    at = {pixels[i].tobytes(): int(k) for i, k in enumerate(answers(net, pixels))}
    assert [at[p.tobytes()] for p in rows.column("image")] == rows.column("label").tolist()
    theirs = answers(second.network(run))
    assert (theirs == answers(net)).mean() > 0.7 > 0.2 > (theirs == Y).mean()
    assert second.facts["learnt"] == "the classifier's answers" and set(second.seconds) >= {second.handle.fingerprint}


def test_the_network_suits_the_images() -> None:
    assert suited(Shape(3, 32, 32, 10), 50_000) == CompactCNN(width=32, epochs=12)
    assert suited(Shape(1, 28, 28, 10), 500) == CompactCNN(width=32, epochs=30)
    assert suited(Shape(1, 8, 8, 10), 500) == CompactCNN(width=32, epochs=30, shift=0)
    assert suited(Shape(3, 224, 224, 1000), 1_000_000) == PictureCNN(epochs=1, small_epochs=2)
    assert suited(Shape(3, 112, 112, 2), 2_000) == PictureCNN()
    assert isinstance(suited(Shape(3, 64, 64, 1000), 50_000), PictureCNN), "a linear layer of so many would be most of it"
    with pytest.raises(UsageError, match="network must be settings of one of adversarially_trained, compact"):
        SecondNetwork(X, Y, network=nn.Linear(2, 2))  # type: ignore[arg-type]


def test_none_is_trained_for_a_detector_that_asks_none(classifier: nn.Module) -> None:
    with pytest.warns(UserWarning, match="no second network is trained: Margin asks none") as said:
        guard = fit_guard(classifier, X, torch.from_numpy(Y), second=SecondNetwork(*TRAINING), **(HOW | {"detector": Margin()}))
    assert guard.second is None and said[0].filename == __file__
    with pytest.raises(UsageError, match=r"second must be an nn.Module, or a SecondNetwork to be trained; found str"):
        fit_guard(classifier, X, torch.from_numpy(Y), second="compact", **HOW)  # type: ignore[arg-type]


# --- the guard's own images ----------------------------------------------------------------------------------------


def test_images_of_the_guards_own_are_left_out_with_one_warning(tmp_path: Path) -> None:
    pixels, labels = (np.concatenate([a[:300], b[:150], a[300:]]) for a, b in zip(TRAINING, (X, Y), strict=True))
    with pytest.warns(UserWarning, match=r"150 of 650 images to train the second network on are the guard's own.*; 500 are left") as said:
        found = training_set(SecondNetwork(pixels, labels), X, None, 4, None, tmp_path / "a")
    assert len(said) == 1 and found.left_out == 150
    assert (found.pixels == TRAINING[0]).all() and found.labels is not None and (found.labels == TRAINING[1]).all()
    near = X[:150].copy()
    near[:, 0, 0, 0] ^= 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = training_set(SecondNetwork(near, Y[:150]), X, None, 4, None, tmp_path / "b")
    assert len(found.pixels) == 150, "only equal ones are recognised"
    with pytest.raises(UsageError, match=r"^400 of 450 images .* are the guard's own.*; 50 images are left .* and 100 are needed at least"):
        training_set(SecondNetwork(np.concatenate([X, TRAINING[0][:50]])), X, None, 4, None, tmp_path / "c")
    with pytest.raises(UsageError, match=r"^60 images are left to train a second network on, and 100 are needed"):
        training_set(SecondNetwork(TRAINING[0][:60]), X, None, 4, None, tmp_path / "d")


def pictures(folder: Path, pixels: NDArray[np.uint8], labels: NDArray[np.int64], names: str = "abcd") -> Path:
    for i, (image, k) in enumerate(zip(pixels, labels, strict=True)):
        (folder / names[k]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(folder / names[k] / f"{i}.png")
    return folder


NONE = Roles(0, 0, 0, 0, 0)


def test_the_same_file_is_known_also_where_it_is_made_another_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    large, own = (rng.integers(0, 256, (n, 1, 12, 10), np.uint8) for n in (120, 8))
    mine = Folder(pictures(tmp_path / "own", own, np.arange(8) % 4), NONE, (8, 8), "crop")
    there = pictures(tmp_path / "there", large, np.arange(120) % 4)
    (there / "a" / "link.png").symlink_to(tmp_path / "own" / "a" / "0.png")
    (there / "b" / "other.png").hardlink_to(tmp_path / "own" / "b" / "1.png")
    pixels = mine.pictures[:]
    with pytest.warns(UserWarning, match="2 of 122 images"):
        found = training_set(SecondNetwork(there), pixels, mine, 4, "squash", tmp_path / "scratch")
    assert found.pixels.shape == (120, 1, 8, 8)
    with pytest.raises(UsageError, match=r"of the guard's size; found 1 x 12 x 10 and 1 x 8 x 8"):
        training_set(SecondNetwork(large), pixels, mine, 4, None, tmp_path / "again")


def test_sub_folders_are_named_as_the_guards_are(tmp_path: Path) -> None:
    mine = Folder(pictures(tmp_path / "own", X[:8], np.arange(8) % 4), NONE)
    other = pictures(tmp_path / "other", TRAINING[0][:120], np.arange(120) % 4, "abcx")
    with pytest.raises(
        UsageError, match=r"named as the guard's are; found 1 only in .*other \(x \.\.\.\) and 1 only in .*own \(d \.\.\.\)"
    ):
        training_set(SecondNetwork(other), mine.pictures[:], mine, 4, None, tmp_path / "scratch")


def test_pictures_without_classes_and_files_of_arrays_are_read(tmp_path: Path) -> None:
    pixels, labels = TRAINING[0][:120], TRAINING[1][:120]
    flat = tmp_path / "flat"
    flat.mkdir()
    for i, image in enumerate(pixels):
        Image.fromarray(image[0]).save(flat / f"{i:03d}.png")
    np.savez(tmp_path / "with.npz", images=pixels, labels=labels)
    np.savez(tmp_path / "without.npz", images=pixels)
    for i, (path, known) in enumerate(((flat, False), (tmp_path / "with.npz", True), (str(tmp_path / "without.npz"), False))):
        found = training_set(SecondNetwork(path), X, None, 4, None, tmp_path / str(i))
        assert (found.pixels == pixels).all()
        assert (found.labels is not None and (found.labels == labels).all()) if known else found.labels is None
    settings = Arrays(pixels, labels, NONE)
    assert training_set(SecondNetwork(settings), X, None, 4, None, tmp_path / "s").labels is not None


# --- what it is worth ---------------------------------------------------------------------------------------------


def test_agreement_is_counted() -> None:
    labels, own, theirs = (np.array(v) for v in ([0, 0, 1, 1, 2], [0, 1, 1, 0, 2], [0, 0, 1, 0, 1]))
    assert agreement(labels, own, theirs) == {"right": [3, 5], "agrees": [3, 5], "mistakes": [1, 2], "doubt": ""}
    assert by_chance(labels, theirs) == pytest.approx((2 * 3 + 2 * 2 + 1 * 0) / 25)


@pytest.mark.parametrize(
    ("right", "agrees", "mistakes", "words"),
    [
        ([997, 1000], [800, 1000], [199, 200], "right on 199 of the 200 images that the classifier is wrong on"),
        ([970, 1000], [800, 1000], [178, 200], ""),  # as good a network as may be, of errors a tenth of the classifier's
        ([990, 1000], [820, 1000], [195, 200], "trained on these very images"),
        ([600, 600], [588, 600], [12, 12], ""),  # of so few mistakes nothing follows
        ([700, 1000], [850, 1000], [60, 200], ""),
        ([800, 1000], [1000, 1000], [0, 200], "the classifier's answer on all 1000 of these images, 200 wrong ones"),
        ([999, 1000], [1000, 1000], [0, 1], ""),
        ([110, 1000], [120, 1000], [20, 200], "hardly more than by chance (10.0 %)"),
        ([150, 1000], [120, 1000], [20, 200], ""),
        ([4, 40], [10, 40], [1, 10], ""),
    ],
)
def test_doubts_are_those_that_can_be_founded(right: list[int], agrees: list[int], mistakes: list[int], words: str) -> None:
    found = doubt(right, agrees, mistakes, 0.1)
    assert words in found and bool(found) == bool(words)


def test_a_network_that_learnt_the_guards_images_is_told_from_one_that_did_not(classifier: nn.Module) -> None:
    own = answers(classifier)
    by_heart = agreement(Y, own, answers(learner(5, X, Y, steps=250)))
    assert by_heart["right"] == [COUNT, COUNT] and "trained on these very images" in by_heart["doubt"]
    for seed in range(6, 10):
        for steps in (20, 250):
            unseen = agreement(Y, own, answers(learner(seed, *drawn(500, seed=seed), steps=steps)))
            assert unseen["doubt"] == "" and unseen["mistakes"][0] < 0.7 * unseen["mistakes"][1]


def test_a_fit_warns_of_it_and_the_report_says_it(classifier: nn.Module, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="the second network: it is right on .*trained on these very images") as said:
        guard = fit_guard(classifier, X, torch.from_numpy(Y), second=learner(5, X, Y, steps=250), **HOW)
    about = [w for w in said if "very images" in str(w.message)]
    assert len(about) == 1 and about[0].filename == __file__
    assert "\nthe second network: it is right on" in str(guard) and "Something is wrong with it: it is right on" in guard.report(tmp_path)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="the second network")
        fit_guard(classifier, X, torch.from_numpy(Y), second=learner(6, *drawn(500, seed=6), steps=40), **HOW)
