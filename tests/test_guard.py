from __future__ import annotations

import contextlib
import copy
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from salientry.classifiers import CompactCNN, External
from salientry.detectors._committee import Apart, CommitteeHead
from salientry.errors import DataDamaged, Error, StoreError, UsageError, WrongClassifier
from salientry.evidence import SECOND, Evidence
from salientry.guard import Guard
from salientry.guard_files import probe
from salientry.keys import digest
from salientry.learned import fingerprint, with_facts
from salientry.picture_check import PictureVerdict
from salientry.sealed import write_sealed
from salientry.store import read_arrays
from salientry.types import Shape
from salientry.verdict import Verdict, said

from . import examples
from .examples import ViewPairs

SHAPE = Shape(1, 12, 12, 5)
NAMES = sorted(examples.detectors())
WITH_MAP = {"smd", "spd", "class_presence", "second_net", "fused", "masked"}  # the fusion has the map's detectors among its parts
PARTS = ("margin", "spd", "black_share", "pooled_activations")  # of the fusion


@pytest.fixture(scope="module")
def classifier() -> nn.Module:
    return examples.conv(SHAPE)


@pytest.fixture(scope="module")
def saliency() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return with_facts(examples.saliency()["unet"].build(SHAPE), learning_curves={"decoder": [1.0]})


def learnt(classifier: nn.Module, name: str) -> Any:
    """A fitted detector; what it reads of the classifier's layers is this classifier's, everything else the examples'."""
    spec, parts = examples.detectors()[name], [learnt(classifier, p) for p in PARTS] if name == "fused" else examples.parts(name)
    natural, adversarial = examples.natural_and_adversarial(spec, 64)
    if name in ("fused", "pooled_activations"):
        means = (Evidence(classifier, None, e.image).features for e in (natural, adversarial))
        natural, adversarial = (e.put(features=f) for e, f in zip((natural, adversarial), means, strict=True))
    return with_facts(examples.fitted(spec, ViewPairs.of(spec, natural, adversarial, *parts), *parts), trained_on="nothing real")


def guarded(classifier: nn.Module, saliency: nn.Module, name: str = "spd", calibration: Any = None) -> Guard:
    detector = learnt(classifier, name)
    needed = saliency if name in WITH_MAP else None
    second = examples.conv(SHAPE, seed=7) if SECOND in detector.needs else None
    with torch.no_grad():
        scores = detector(Evidence(classifier, needed, examples.images(SHAPE, 101, seed=5), detector.needs, second))
    threshold = float(scores.quantile(0.9, interpolation="higher"))
    known = scores.numpy() if calibration is None else calibration
    return Guard(classifier, needed, detector, threshold, 0.1, known, SHAPE, second=second)


@pytest.fixture(scope="module")
def guard(classifier: nn.Module, saliency: nn.Module) -> Guard:
    return guarded(classifier, saliency)


@pytest.fixture
def folder(guard: Guard, tmp_path: Path) -> Path:
    guard.save(tmp_path / "guard", classifier_at="../classifier")
    return tmp_path / "guard"


X = examples.images(SHAPE, 60, seed=6)


def same(a: Verdict, b: Verdict) -> bool:
    pairs = [(getattr(a, n), getattr(b, n)) for n in ("flagged", "score", "p_value", "predicted", "map", "contributions")]
    return all((v is None) == (w is None) and (v is None or torch.equal(v, w)) for v, w in pairs)


# --- verdicts -------------------------------------------------------------------------------------------------------


def test_a_verdict_is_what_its_parts_say(guard: Guard, classifier: nn.Module) -> None:
    found = guard(X)
    look = Evidence(classifier, guard.saliency, X)
    with torch.no_grad():
        assert torch.allclose(found.score, guard.detector(look), atol=1e-6)
        assert torch.equal(found.predicted, classifier(X).argmax(1))
        assert found.logits is not None and torch.allclose(found.logits, classifier(X), atol=1e-6)
        assert found.map is not None and torch.allclose(found.map, look.map, atol=1e-6)
    assert torch.equal(found.flagged, found.score > guard.threshold)
    assert 0 < int(found.flagged.sum()) < len(X)
    assert found.flagged.dtype == torch.bool and found.predicted.dtype == torch.int64
    assert not any(v.requires_grad for v in (found.score, found.p_value, found.map))


def test_a_score_at_the_threshold_is_not_flagged(guard: Guard) -> None:
    """``threshold`` is one of the calibration scores: that image itself is not above it."""
    found = guard(examples.images(SHAPE, 101, seed=5))
    at = (found.score - guard.threshold).abs().argmin()
    here = Guard(guard.classifier, guard.saliency, guard.detector, float(found.score[at]), 0.1, guard.calibration, SHAPE)
    again = here(examples.images(SHAPE, 101, seed=5))
    assert torch.equal(again.score, found.score)
    assert not bool(again.flagged[at])
    assert int(again.flagged.sum()) == int((found.score > found.score[at]).sum())


@pytest.mark.parametrize("calibration", ["own", "ties", "one"])
def test_p_value_is_the_share_of_calibration_naturals_at_least_as_suspicious(
    classifier: nn.Module, saliency: nn.Module, calibration: str
) -> None:
    scores = guarded(classifier, saliency, "margin")(X).score
    chosen = {"own": scores[::2], "ties": scores[3:5].repeat(10), "one": scores[7:8]}[calibration]
    found = guarded(classifier, saliency, "margin", chosen.flip(0).tolist())(X)
    expected = [(1 + sum(c >= s for c in chosen.tolist())) / (1 + len(chosen)) for s in scores.tolist()]
    np.testing.assert_allclose(found.p_value.numpy(), expected, rtol=1e-6)
    assert float(found.p_value.min()) > 0 and float(found.p_value.max()) <= 1


def test_p_values_of_naturals_like_the_calibration_ones_promise_their_rate(classifier: nn.Module, saliency: nn.Module) -> None:
    guard = guarded(classifier, saliency, "margin")
    new = guard(examples.images(SHAPE, 1000, seed=77)).p_value
    for level in (0.1, 0.3, 0.5, 0.8):
        assert abs(float((new <= level).float().mean()) - level) < 4 * (level * (1 - level) * (1 / 1000 + 1 / 101)) ** 0.5 + 1 / 101


@pytest.mark.parametrize("name", NAMES)
def test_batches_do_not_matter(classifier: nn.Module, saliency: nn.Module, name: str) -> None:
    guard = guarded(classifier, saliency, name)
    whole = guard(X)
    for batch in (1, 7, 60):
        pieces = guard(X, batch=batch)
        assert torch.allclose(pieces.score, whole.score, atol=1e-4)
        assert torch.equal(pieces.predicted, whole.predicted)
        near = (whole.score - guard.threshold).abs() < 1e-4
        assert torch.equal(pieces.flagged[~near], whole.flagged[~near])


@pytest.mark.parametrize("name", NAMES)
def test_no_images_no_verdicts(classifier: nn.Module, saliency: nn.Module, name: str) -> None:
    found = guarded(classifier, saliency, name)(X[:0])
    assert len(found) == 0 and found.score.shape == (0,) and found.p_value.shape == (0,)
    assert found.contributions.shape == (0, {"fused": len(PARTS), "learned_fusion": 2, "cascade": 2}.get(name, 1))
    assert (found.map is None) == (name not in WITH_MAP)


def test_verdicts_are_taken_by_index_slice_and_mask(guard: Guard) -> None:
    found = guard(X)
    assert len(found) == 60
    assert len(found[10:20]) == 10 and torch.equal(found[10:20].score, found.score[10:20])
    flagged = found[found.flagged]
    assert len(flagged) == int(found.flagged.sum()) and bool(flagged.flagged.all())
    assert torch.equal(found[torch.tensor([3, 1])].predicted, found.predicted[[3, 1]])
    assert found[4].score.shape == () and found[4].map is not None and found[4].map.shape == (1, 12, 12)
    assert torch.equal(flagged.contributions, found.contributions[found.flagged]) and flagged.contributions.shape == (len(flagged), 1)
    assert Verdict(*(torch.zeros(3),) * 4, map=None, contributions=torch.zeros(3, 1))[1:].map is None


@pytest.mark.parametrize("name", NAMES)
def test_what_spoke_adds_up_to_the_score(classifier: nn.Module, saliency: nn.Module, name: str) -> None:
    guard = guarded(classifier, saliency, name)
    found = guard(X, batch=25)
    says = {n: examples.detectors()[n].description for n in NAMES}
    if name == "learned_fusion":
        assert guard.components == tuple(m.description for m in examples.detectors()[name].each)  # type: ignore[attr-defined]
        assert found.contributions.shape == (60, 2) and bool((found.contributions.std(0) > 0).all())
        return
    if name == "cascade":
        assert guard.components == tuple(m.description for m in (guard.detector.settings.first, guard.detector.settings.second))  # type: ignore[union-attr]
        assert torch.equal(found.contributions.sum(1), found.score) and bool(((found.contributions == 0).sum(1) == 1).all())
        return
    if name != "fused":
        assert guard.components == (says[name],)
        assert torch.equal(found.contributions[:, 0], found.score)
        return
    assert guard.components == tuple(says[p] for p in PARTS)
    offset = guard.detector.head.offset.detach()  # type: ignore[union-attr]
    assert torch.allclose(found.contributions.sum(1) + offset, found.score, atol=1e-4)
    look = Evidence(classifier, guard.saliency, X)
    with torch.no_grad():
        alone = torch.stack([p(look) for p in guard.detector.parts], 1)  # type: ignore[union-attr]
    order, theirs = found.contributions.argsort(0), alone.argsort(0)
    assert torch.equal(order, theirs), "more suspicious to a member, more added in its name"
    assert not any(v.requires_grad for v in (found.score, found.contributions))


def judged(flagged: bool, **contributions: float) -> PictureVerdict:
    return PictureVerdict(Path("cat.png"), flagged, 3.0, 1.0, 0.01, 7, {k.replace("_", " "): v for k, v in contributions.items()})


def test_a_line_names_the_two_loudest_voices_of_what_is_flagged() -> None:
    components = {"the_map": 0.5, "the_image": 2.0, "the_logits": -4.0, "the_activations": 1.0}
    assert judged(True, **components).why() == "largest contributions: the image, the activations"
    assert judged(True, **components).line().endswith("as suspicious or more; largest contributions: the image, the activations")
    assert judged(False, **components).why() == ""
    assert judged(True, the_map=0.1, the_image=-1).why() == "largest contributions: the map"
    assert judged(True, the_map=-0.1, the_image=0).why() == "", "nobody raised it"
    assert judged(True, the_map=float("nan")).why() == ""
    assert judged(True, **components).json()["contributions"]["the logits"] == -4.0
    assert judged(True, the_map=float("nan")).json()["contributions"] == {"the map": None}


def test_members_that_go_by_one_name_speak_as_one() -> None:
    found = said(("logits", "map", "logits"), [1.0, 1.5, 0.75])
    assert found == {"logits": 1.75, "map": 1.5}
    assert list(found) == ["logits", "map"]


@pytest.mark.parametrize("name", NAMES)
def test_each_net_passes_once_a_batch(saliency: nn.Module, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Classifier, saliency model and every head; a gradient is a part of the one pass. Hooks that are there when a guard is made
    are a part of the network, so its own copies have them.
    """
    classifier = examples.conv(SHAPE)
    before = guarded(classifier, saliency, name)
    heads = [d.head for d in (before.detector, *before.detector.parts) if hasattr(d, "head")]  # type: ignore[union-attr]
    nets = [classifier, *([] if before.saliency is None else [saliency]), *heads]
    calls = [0] * len(nets)

    def count(i: int) -> Any:
        return nets[i].register_forward_hook(lambda *_: calls.__setitem__(i, calls[i] + 1))

    handles = [count(i) for i in range(len(nets))]

    def count_added(i: int, whole: Callable[[list[Tensor]], Any]) -> Callable[[list[Tensor]], Any]:
        return lambda columns: (calls.__setitem__(i, calls[i] + 1), whole(columns))[1]

    for i, net in enumerate(nets):
        if isinstance(net, CommitteeHead | Apart):  # its score comes with what each member adds
            monkeypatch.setattr(net, "added", count_added(i, net.added))
    guard = Guard(classifier, before.saliency, before.detector, 0.0, 0.1, before.calibration, SHAPE, second=before.second)
    calls[:] = [0] * len(nets)  # it looked once which layers are features
    guard(X, batch=20)
    for h in handles:
        h.remove()
    again = {"masked": 2, "cascade": 2}.get(name, 1)  # the classifier once more, for what the map keeps and removes, or the second look
    if "classifier" in before.detector.needs:  # it asks the classifier about images of its own
        again, calls[0] = 1, min(calls[0], 3)
    assert calls == [3 * again, *[3] * (len(nets) - 1)], "also the head that is asked without each member's numbers"


def test_parts_put_in_training_mode_judge_as_before_and_stay_so(classifier: nn.Module, saliency: nn.Module) -> None:
    guard = guarded(classifier, copy.deepcopy(saliency), "fused")
    flags = [w.requires_grad for w in guard.parameters()]
    calm, parts = guard(X), [guard.detector, guard.saliency]
    deep = guard.detector.parts[PARTS.index("spd")].head  # type: ignore[union-attr, index]
    deep.train()
    assert same(guard(X), calm) and deep.training and not guard.detector.training
    for p in parts:
        assert p is not None
        p.train()
    assert same(guard(X), calm)
    assert all(m.training for p in parts for m in p.modules())  # type: ignore[union-attr]
    assert [w.requires_grad for w in guard.parameters()] == flags


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (X[:, :, :11], r"\(C, H, W\) = \(1, 12, 12\); found \(1, 11, 12\)"),
        (X.repeat(1, 3, 1, 1), r"found \(3, 12, 12\)"),
        (X[0], r"\(N, C, H, W\); found shape \(1, 12, 12\)"),
        ((X * 255).to(torch.int32), "found torch.int32"),
        (X * 255, r"lie in \[0, 1\]; found \[0, 255\]"),
        (X - 0.1, r"lie in \[0, 1\]; found \[-0.1, 0.9\]"),
        (X * float("nan"), r"found \[nan, nan\]"),
        (X.numpy(), "must be a tensor"),
    ],
)
def test_refuses_other_images_and_says_what_it_found(guard: Guard, bad: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        guard(bad)


def test_takes_other_floats(guard: Guard) -> None:
    assert same(guard(X.double()), guard(X))


def test_leaves_the_classifier_as_found(saliency: nn.Module) -> None:
    classifier = examples.conv(SHAPE)
    guard = guarded(classifier, saliency)
    calm = guard(X)
    guard.train().requires_grad_(False).double().float()
    assert not classifier.training and all(p.requires_grad for p in classifier.parameters())  # what is done to a guard is not done to it
    classifier.train()
    classifier[0].weight.requires_grad_(False)
    before = fingerprint(classifier)
    assert same(guard(X), calm)  # judged in eval mode
    assert classifier.training and classifier[1].training and fingerprint(classifier) == before
    assert [p.requires_grad for p in classifier.parameters()][:2] == [False, True]


# --- on disk --------------------------------------------------------------------------------------------------------


def weights(folder: Path) -> Path:
    """The guard's one file of arrays."""
    found: Path = folder / json.loads((folder / "guard.json").read_text())["arrays"]["file"]
    return found


def forged(folder: Path, change: Callable[[dict[str, Any]], object], **arrays: Any) -> None:
    """Change a saved guard and write checksums that fit: what a program of somebody else's could have written."""
    body = json.loads((folder / "guard.json").read_text())
    there = {k: [np.array(v)] for k, v in read_arrays(weights(folder)).items()} | {k: [v] for k, v in arrays.items()}
    write_sealed(folder, "guard", {k: v for k, v in body.items() if k not in ("arrays", "sha256")}, there)
    body = json.loads((folder / "guard.json").read_text())
    change(body)
    del body["sha256"]
    (folder / "guard.json").write_text(json.dumps(body | {"sha256": digest(body)}))


@pytest.mark.parametrize("name", NAMES)
def test_a_loaded_guard_gives_the_same_verdicts_bit_for_bit(classifier: nn.Module, saliency: nn.Module, tmp_path: Path, name: str) -> None:
    guard = guarded(classifier, saliency, name)
    guard.save(tmp_path / "a" / "b")
    again = Guard.load(tmp_path / "a" / "b", classifier, second=guard.second)
    assert same(again(X), guard(X))
    assert (again.threshold, again.level, again.shape) == (guard.threshold, guard.level, guard.shape)
    assert torch.equal(again.calibration, guard.calibration)
    assert again.components == guard.components
    assert vars(again.detector)["facts"] == vars(guard.detector)["facts"]
    assert not any(m.training for m in again.modules())
    again.save(tmp_path / "c")
    first, second = ({p.name: p.read_bytes() for p in f.iterdir()} for f in (tmp_path / "a" / "b", tmp_path / "c"))
    assert first == second and len(first) == 2


def test_the_classifier_is_not_in_the_files(guard: Guard, classifier: nn.Module, folder: Path) -> None:
    assert sorted(p.name for p in folder.iterdir()) == [weights(folder).name, "guard.json"]
    arrays = read_arrays(weights(folder))
    assert {k.split(".")[0] for k in arrays} == {"detector", "saliency", "calibration"}
    raw = b"".join(p.read_bytes() for p in folder.iterdir())
    for value in classifier.state_dict().values():
        if value.numel() > 1:
            assert value.numpy().tobytes() not in raw
    for value in guard.detector.state_dict().values():
        assert value.numpy().tobytes() in raw  # the search above would have found them
    body = json.loads((folder / "guard.json").read_text())
    assert set(body["classifier"]) == {"weights", "probes", "at"}
    assert body["classifier"]["weights"] == fingerprint(classifier) and body["classifier"]["at"] == "../classifier"


def test_probes_are_the_same_images_for_ever(classifier: nn.Module) -> None:
    """The logits of a saved guard must be found again by another version; the first pixel is splitmix64 of (0, 1)."""

    class Pixels(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :2]

    found = probe(Pixels(), SHAPE)
    assert found.shape == (4, 2)
    assert float(found[0, 0]) == pytest.approx(0xE220A8397B1DCDAF / 2**64, abs=2**-24)  # the published first output for seed 0
    assert torch.equal(probe(classifier.train(), SHAPE), probe(classifier.eval(), SHAPE))


def test_another_classifier_is_refused_with_both_hashes_and_probes(folder: Path, classifier: nn.Module) -> None:
    other = examples.conv(SHAPE, seed=1)
    with pytest.raises(WrongClassifier) as e:
        Guard.load(folder, other)
    text = str(e.value)
    assert fingerprint(classifier)[:12] in text and fingerprint(other)[:12] in text
    for net in (classifier, other):
        assert "[" + ", ".join(f"{v:.3f}" for v in probe(net, SHAPE)[0][:3].tolist()) in text
    assert f"{float((probe(classifier, SHAPE) - probe(other, SHAPE)).abs().max()):.4g}" in text


def test_a_classifier_that_differs_anywhere_is_refused(folder: Path, classifier: nn.Module) -> None:
    nudged = copy.deepcopy(classifier)
    next(nudged.parameters()).data.view(-1)[0] += 1e-6
    acts_otherwise = copy.deepcopy(classifier)
    acts_otherwise[2] = nn.Tanh()  # same weights, same hash: the probes tell
    assert fingerprint(acts_otherwise) == fingerprint(classifier)
    for other in (
        nudged,
        acts_otherwise,
        External(classifier),
        examples.conv(Shape(1, 12, 12, 4)),
        examples.conv(Shape(2, 12, 12, 5)),
        examples.conv(Shape(1, 14, 14, 5)),
    ):
        with pytest.raises(WrongClassifier):
            Guard.load(folder, other)


def test_guards_of_external_classifiers_know_their_preprocessing(saliency: nn.Module, tmp_path: Path) -> None:
    net = CompactCNN(width=4).build(SHAPE)
    guarded(External(net, mean=0.5, std=0.5), saliency).save(tmp_path)
    assert Guard.load(tmp_path, External(net, mean=0.5, std=0.5))(X).flagged.shape == (60,)
    with pytest.raises(WrongClassifier):
        Guard.load(tmp_path, External(net, mean=0.4, std=0.5))


def test_no_guard_there(tmp_path: Path, classifier: nn.Module) -> None:
    for where in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UsageError, match=r"no guard in .*there is no guard\.json"):
            Guard.load(where, classifier)


def test_a_folder_that_cannot_be_written(guard: Guard, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        guard.save(tmp_path / "file" / "guard")


@pytest.mark.parametrize("schema", [0, 1, 5, None, "2", True])
def test_another_schema_is_named(folder: Path, classifier: nn.Module, schema: Any) -> None:
    body = json.loads((folder / "guard.json").read_text())
    (folder / "guard.json").write_text(json.dumps(body | {"schema": schema}))
    with pytest.raises(UsageError, match=f"has schema {schema!r}; this version reads 4: fit the guard again, or save it again"):
        Guard.load(folder, classifier)


def test_damaged_json(folder: Path, classifier: nn.Module) -> None:
    text = (folder / "guard.json").read_text()
    for damaged in (text[: len(text) // 2], "", "\x00" * 50):
        (folder / "guard.json").write_text(damaged)
        with pytest.raises(DataDamaged, match=r"guard\.json is no JSON"):
            Guard.load(folder, classifier)
    (folder / "guard.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataDamaged):
        Guard.load(folder, classifier)


@pytest.mark.parametrize("field", ["threshold", "level", "shape", "resize", "classifier", "learnt", "arrays"])
def test_a_description_without_one_of_its_fields(folder: Path, classifier: nn.Module, field: str) -> None:
    forged(folder, lambda body: body.pop(field))
    with pytest.raises(DataDamaged, match=field):
        Guard.load(folder, classifier)


def test_settings_of_strangers_are_not_built(folder: Path, classifier: nn.Module) -> None:
    forged(folder, lambda body: body["learnt"]["detector"]["origin"]["build"].update({"class": "os:system"}))
    with pytest.raises(DataDamaged, match="only settings of salientry"):
        Guard.load(folder, classifier)


def test_truncated_and_missing_weights(folder: Path, classifier: nn.Module) -> None:
    path = weights(folder)
    whole = path.read_bytes()
    for size in (len(whole) - 1, len(whole) // 2, 100, 4, 0):
        path.write_bytes(whole[:size])
        with pytest.raises(DataDamaged):
            Guard.load(folder, classifier)
    path.unlink()
    with pytest.raises(StoreError, match="cannot read"):
        Guard.load(folder, classifier)


def test_files_that_do_not_belong_together(folder: Path, classifier: nn.Module, saliency: nn.Module, tmp_path: Path) -> None:
    guarded(classifier, saliency, "margin").save(tmp_path / "other")
    shutil.copy(weights(tmp_path / "other"), weights(folder))
    with pytest.raises(DataDamaged, match="is damaged: its sha256") as e:
        Guard.load(folder, classifier)
    assert isinstance(e.value, Error)


def test_a_flipped_bit_anywhere_in_the_weights_is_found(folder: Path, classifier: nn.Module) -> None:
    path = weights(folder)
    whole = path.read_bytes()
    for at in range(200, len(whole), len(whole) // 40):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(DataDamaged, match="is damaged: its sha256 is"):
            Guard.load(folder, classifier)
    path.write_bytes(whole)
    Guard.load(folder, classifier)


@pytest.mark.parametrize("field", ["threshold", "level", "resize", "shape", "learnt", "classifier"])
def test_an_edited_field_is_found(folder: Path, classifier: nn.Module, field: str) -> None:
    body = json.loads((folder / "guard.json").read_text())
    body[field] = 0.5 if field in ("threshold", "level") else "crop" if field == "resize" else body[field] | {"more": 1}
    (folder / "guard.json").write_text(json.dumps(body))
    with pytest.raises(DataDamaged, match=r"guard\.json is not what was saved: the sha256 of its fields is"):
        Guard.load(folder, classifier)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"shape": {"height": 2**20}}, "is larger than 8192 x 8192"),
        ({"shape": {"classes": 2**40}}, "is larger than"),
        ({"shape": {"height": 0}}, "damaged"),
        ({"level": 0}, "level is 0.0; a rate between 0 and 1 expected"),
        ({"resize": "stretch"}, "unknown way to resize 'stretch'"),
    ],
)
def test_values_that_cannot_be_are_refused(folder: Path, classifier: nn.Module, change: dict[str, Any], why: str) -> None:
    def changed(body: dict[str, Any]) -> None:
        for k, v in change.items():
            body[k] = body[k] | v if isinstance(v, dict) else v

    forged(folder, changed)
    with pytest.raises((DataDamaged, UsageError), match=why):
        Guard.load(folder, classifier)


@pytest.mark.parametrize("scores", [np.zeros(0, np.float32), np.array([0, np.nan], np.float32), np.zeros((2, 2), np.float32)])
def test_calibration_scores_that_say_nothing_are_refused(folder: Path, guard: Guard, classifier: nn.Module, scores: Any) -> None:
    forged(folder, lambda body: None, calibration=scores)
    with pytest.raises(DataDamaged, match=r"cannot be used: .* calibration scores"):
        Guard.load(folder, classifier)
    guard = copy.deepcopy(guard)
    guard.calibration = torch.from_numpy(scores)
    with pytest.raises(UsageError, match=r"cannot be saved: .* calibration scores"):
        guard.save(folder)


@pytest.mark.parametrize("call", ["os.replace", "os.unlink"])
@pytest.mark.parametrize("count", range(4))
def test_a_save_that_is_cut_off_leaves_the_old_guard_or_the_new(
    folder: Path, classifier: nn.Module, saliency: nn.Module, monkeypatch: pytest.MonkeyPatch, call: str, count: int
) -> None:
    """Never the old threshold with the new detector: the process is gone before the ``count``-th call that changes the folder."""
    old, new = Guard.load(folder, classifier), guarded(classifier, saliency, "margin")
    new.threshold = 123.0
    real, left = getattr(os, call.removeprefix("os.")), [count]

    def cut(*arguments: Any, **settings: Any) -> Any:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return real(*arguments, **settings)

    with monkeypatch.context() as m, contextlib.suppress(KeyboardInterrupt):
        m.setattr(os, call.removeprefix("os."), cut)
        new.save(folder)
    found = Guard.load(folder, classifier)
    assert same(found(X), old(X)) or (same(found(X), new(X)) and found.threshold == 123.0)
    new.save(folder)
    assert same(Guard.load(folder, classifier)(X), new(X))
    assert sorted(p.name for p in folder.iterdir()) == [weights(folder).name, "guard.json"]


def test_how_to_resize_is_kept(guard: Guard, classifier: nn.Module, folder: Path) -> None:
    assert Guard.load(folder, classifier).resize is None
    guard = copy.deepcopy(guard)
    guard.resize = "crop"
    guard.save(folder)
    assert Guard.load(folder, classifier).resize == "crop"
    with pytest.raises(UsageError, match="unknown way to resize 'stretch'; there are: squash, crop"):
        Guard(guard.classifier, None, guard.detector, 0.0, 0.05, guard.calibration, SHAPE, "stretch")  # type: ignore[arg-type]
