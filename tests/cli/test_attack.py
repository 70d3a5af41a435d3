"""Attacks on one's own classifier: every number is that of the files, whatever happened on the way; bad input is one line."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file
from torch import nn

from salientry.attacks import APGD, BIM, FGSM, DeepFool
from salientry.classifiers import CompactCNN, save_classifier
from salientry.cli.attack_files import png_names
from salientry.cli.attacking import chosen, show
from salientry.errors import UsageError
from salientry.rates import short
from salientry.types import Shape

from .conftest import Cli

NET = """
import os, signal
import torch
from torch import nn

class Net(nn.Sequential):
    left = int(os.environ.get("FORWARDS_BEFORE_DEATH", "-1"))

    def forward(self, x):
        if Net.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        Net.left -= 1  # of the class: an attack runs a copy of the network
        return super().forward(x)

def grey():
    return Net(nn.Flatten(), nn.Linear(36, 3))

def louder():
    class Louder(Net):
        def forward(self, x):
            return super().forward(x) + torch.tensor([1.0, 0.0, 0.0])
    Louder.__module__, Louder.__qualname__ = Net.__module__, Net.__qualname__
    return Louder(nn.Flatten(), nn.Linear(36, 3))

def colour():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))

def softmax():
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 3), nn.Softmax(1))

def undefined():
    net = grey()
    nn.init.constant_(net[1].bias, float("nan"))
    return net

class Rounds(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = grey()
        self.net.load_state_dict(torch.load("net.pt", weights_only=True))

    def forward(self, x):
        bright = (x.flatten(1).amax(1, keepdim=True) > 0.8).float()
        z = self.net(x)
        return bright * z + (1 - bright) * (z.round() + 0 * z)  # no slope in dark images

class Deaf(nn.Module):
    def forward(self, x):
        net = grey()
        net.load_state_dict(torch.load("net.pt", weights_only=True))
        return net(x).detach()
"""
OURS = ("--classifier", "net_under_attack:grey", "--weights", "net.pt")
BOTH = (*OURS, "--data", "images.npz", "--attack", "fgsm,deepfool", "--set", "fgsm.eps=20/255")
N = 250  # three files an attack


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear classifier of three templates, images of them, one label in ten wrong, and what an attack on them leaves."""
    folder = tmp_path_factory.mktemp("attack")
    rng = np.random.default_rng(0)
    templates = rng.integers(90, 166, (3, 1, 6, 6))
    labels = np.arange(N) % 3
    images = (templates[labels] + rng.normal(0, 30, (N, 1, 6, 6))).clip(0, 255).astype(np.uint8)
    labels[::10] = (labels[::10] + 1) % 3
    np.savez(folder / "images.npz", images=images, labels=labels)
    w = torch.tensor((templates.reshape(3, 36) - templates.mean()) / 255, dtype=torch.float32)
    state = {"1.weight": 8 * w, "1.bias": -8 * (w.square().sum(1) / 2 + w.sum(1) * float(templates.mean()) / 255)}
    torch.save(state, folder / "net.pt")
    (folder / "net_under_attack.py").write_text(NET)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = Cli("attack", *BOTH, "--png", "--out", "out")
    assert result.code == 0, result.err
    (folder / "printed.txt").write_text(result.out)
    return folder


@pytest.fixture
def here(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(prepared, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def attack_cli(*arguments: object) -> Cli:
    return Cli("attack", *arguments)


def network(folder: Path) -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    net.load_state_dict(torch.load(folder / "net.pt", weights_only=True))
    return net


def files(folder: Path) -> dict[str, bytes]:
    """Arrays and pictures; the notes hold seconds."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.suffix in (".safetensors", ".png")}


def adversarials(folder: Path) -> np.ndarray[Any, Any]:
    return np.concatenate([load_file(p)["image"] for p in sorted(folder.glob("images-*.safetensors"))])


def cells(text: str, attack: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.startswith(attack))


# --- truth -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("attack", "eps"), [("fgsm", 20 / 255), ("deepfool", None)])
@torch.no_grad()
def test_every_number_is_that_of_the_files(prepared: Path, attack: str, eps: float | None) -> None:
    out, given, net = prepared / "out", np.load(prepared / "images.npz"), network(prepared)
    x, labels = given["images"].astype(np.float32) / 255, given["labels"]
    before = net(torch.from_numpy(x)).argmax(1).numpy()
    right = before == labels
    assert 0.7 < right.mean() < 0.95
    body = json.loads((out / "attacks.json").read_text())
    assert body["accuracy"] == right.mean()
    assert body["n"] == right.sum()
    columns = load_file(out / attack / "columns.safetensors")
    names = json.loads((out / "images.json").read_text())["names"]
    assert (columns["predicted_before"] == before).all()
    assert (columns["label"] == labels).all()
    drawn = np.stack([np.asarray(Image.open(out / attack / "png" / f"{n}.png"))[None] for n in names])
    kinds = {"float32": ("", adversarials(out / attack)), "png": ("png_", drawn.astype(np.float32) / 255)}
    row = cells((prepared / "printed.txt").read_text(), attack)
    assert row[1] == str(right.sum())
    for i, (kind, (prefix, z)) in enumerate(kinds.items()):
        after = net(torch.from_numpy(z)).argmax(1).numpy()
        size = (z - x).reshape(N, -1)
        limit = np.inf if eps is None else (eps if kind == "float32" else int(255 * eps) / 255) + 1e-6
        assert np.abs(size).max() <= limit
        won = right & (after != before)
        found = body["attacks"][attack][kind]
        assert found["success"] == won.sum() / right.sum()
        assert found["successes"] == won.sum() > 100
        assert found["accuracy"] == (after == labels).mean()
        norms = {"l2": np.linalg.norm(size, axis=1), "linf": np.abs(size).max(1), "l0": (size != 0).mean(1)}
        norms["rms"] = norms["l2"] / 6
        for k, v in norms.items():
            np.testing.assert_allclose(columns[prefix + k], v, rtol=1e-5, atol=1e-7)
            np.testing.assert_allclose(found["median"][k], np.median(v[won]), rtol=1e-5)
        assert (columns[prefix + "predicted_after"] == after).all()
        assert (columns[prefix + "changed"] == (after != before)).all()
        assert (columns[prefix + "success"] == won).all()
        assert row[2 + i] == short(found["success"])
    assert row[5] == short(body["attacks"][attack]["float32"]["median"]["l2"], digits=4)


def test_pictures_are_8_bit_and_stand_under_the_numbers_of_the_rows(prepared: Path) -> None:
    found = sorted((prepared / "out" / "fgsm" / "png").iterdir())
    assert [p.name for p in found] == [f"{i:06d}.png" for i in range(N)]
    for p in found:
        with Image.open(p) as picture:
            assert (picture.mode, picture.size, picture.format) == ("L", (6, 6), "PNG")


def test_what_was_written_is_what_is_measured(here: Path) -> None:
    """Naturals in place of a file's adversarials: the same command says that they do not fool, and computes nothing."""
    path = here / "out" / "fgsm" / "images-000000000.safetensors"
    arrays = load_file(path)
    arrays["image"] = np.load("images.npz")["images"][:100].astype(np.float32) / 255
    save_file(arrays, path)
    before = json.loads((here / "out" / "attacks.json").read_text())["attacks"]["fgsm"]
    assert attack_cli(*BOTH, "--out", "out").code == 0
    after = json.loads((here / "out" / "attacks.json").read_text())["attacks"]["fgsm"]
    changed = load_file(here / "out" / "fgsm" / "columns.safetensors")["changed"]
    assert not changed[:100].any()
    assert changed[100:].any()
    assert after["float32"]["success"] < before["float32"]["success"]
    assert after["png"] == before["png"]


# --- going on --------------------------------------------------------------------------------------------------


def test_a_second_call_computes_nothing_and_says_the_same(here: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in Path("out").rglob("*") if p.name.startswith("images-") or p.suffix == ".png"}
    again = attack_cli(*BOTH, "--out", "out")
    assert again.out == (here / "printed.txt").read_text()  # the seconds are those of the first call, pictures stay measured
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_a_removed_file_is_computed_again_to_the_last_bit(here: Path) -> None:
    before = files(Path("out"))
    Path("out/deepfool/images-000000100.safetensors").unlink()
    Path("out/deepfool/png/000007.png").unlink()
    assert attack_cli(*BOTH, "--out", "out", "--png").code == 0
    assert files(Path("out")) == before


def test_killed_at_work_the_same_command_goes_on(here: Path) -> None:
    """Death in the middle of DeepFool's second file, by the network's own hand."""
    code = "from salientry.cli import main; main()"
    environment = os.environ | {"FORWARDS_BEFORE_DEATH": "31", "OMP_NUM_THREADS": "1"}
    arguments = ("attack", *BOTH, "--out", "killed", "--png")
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=environment, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = files(Path("killed"))
    assert "fgsm/columns.safetensors" in left
    assert "deepfool/images-000000000.safetensors" in left
    assert "deepfool/images-000000200.safetensors" not in left
    whole = files(Path("out"))
    assert {k: whole[k] for k in left} == left, "what is there is whole"
    assert attack_cli(*BOTH, "--out", "killed", "--png").code == 0
    assert files(Path("killed")) == whole


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--set", "fgsm.eps=0.1"), ["out/fgsm holds fgsm with eps=0.0784", "eps=0.1 was asked for"]),
        (("--set", "deepfool.steps=3"), ["out/deepfool holds deepfool with steps=50", "steps=3"]),
        (("--seed", "1"), ["seed 0, not 1"]),
        (("--limit", "20"), ["other images or labels (250 there, 20 now)"]),
        (("--classifier", "net_under_attack:louder"), ["other code"]),
        (("--weights", "other.pt"), ["another classifier"]),
        (("--data", "relabelled.npz"), ["other images or labels"]),
    ],
)
def test_other_results_are_refused_and_nothing_is_touched(here: Path, arguments: tuple[str, str], words: list[str]) -> None:
    state = torch.load("net.pt", weights_only=True)
    torch.save(state | {"1.bias": state["1.bias"] + 1e-3}, "other.pt")
    given = np.load("images.npz")
    np.savez("relabelled.npz", images=given["images"], labels=np.append(given["labels"][:-1], 2))
    before = {p: p.read_bytes() for p in Path("out").rglob("*") if p.is_file()}
    attack_cli(*BOTH, "--out", "out", *arguments).refused(2, *words, "another --out")
    assert {p: p.read_bytes() for p in Path("out").rglob("*") if p.is_file()} == before


def test_attacks_come_together_in_one_folder(here: Path) -> None:
    for name in ("fgsm", "deepfool"):
        assert attack_cli(*OURS, "--data", "images.npz", "--attack", name, "--limit", "9", "--out", "two").code == 0
    assert list(json.loads(Path("two/attacks.json").read_text())["attacks"]) == ["fgsm", "deepfool"]


def test_files_of_others_in_its_place_are_damage(here: Path) -> None:
    path = Path("out/fgsm/images-000000100.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:-50])
    attack_cli(*BOTH, "--out", "out").refused(3, str(path), "truncated")
    shutil.copy("out/fgsm/images-000000000.safetensors", path)
    attack_cli(*BOTH, "--out", "out").refused(3, str(path), "not of this attack on these images")
    shutil.copy("out/deepfool/images-000000100.safetensors", path)
    attack_cli(*BOTH, "--out", "out").refused(3, str(path), "not of this attack on these images")
    path.write_bytes(whole)
    picture = Path("out/fgsm/png/000003.png")
    before = picture.read_bytes()
    Image.fromarray(255 - np.asarray(Image.open(picture))).save(picture)  # a picture like any other, but another one
    attack_cli(*BOTH, "--out", "out").refused(3, str(picture), "not the picture that was written")
    picture.write_bytes(before)
    assert attack_cli(*BOTH, "--out", "out").code == 0
    Image.new("L", (7, 6)).save(picture)
    attack_cli(*BOTH, "--out", "out").refused(3, str(picture), "not the picture that was written")
    picture.write_bytes(b"none")
    attack_cli(*BOTH, "--out", "out").refused(3, str(picture), "cannot be read")


# --- what goes in ----------------------------------------------------------------------------------------------


def folder_of(path: Path, **classes: int) -> Path:
    for seed, (name, count) in enumerate(classes.items()):
        (path / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.random.default_rng([seed, i]).integers(0, 256, (6, 6, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path / name / f"{i}.{'bmp' if i % 2 else 'png'}")
    return path


def test_sub_folders_are_classes_and_pictures_keep_their_names(here: Path) -> None:
    folder_of(Path("pictures"), zebra=3, ant=5)
    found = attack_cli("--classifier", "net_under_attack:colour", "--data", "pictures", "--attack", "fgsm", "--out", "o", "--png")
    assert found.code == 0, found.err
    assert "labels: 0 = ant, 1 = zebra" in found.lines
    assert load_file("o/fgsm/columns.safetensors")["label"].tolist() == [0] * 5 + [1] * 3
    sources = sorted(p.relative_to("pictures").with_suffix(".png") for p in Path("pictures").glob("*/*"))
    assert sorted(p.relative_to("o/fgsm/png") for p in Path("o/fgsm/png").glob("*/*")) == sources
    for source in Path("pictures").glob("*/*"):
        with Image.open(Path("o/fgsm/png") / source.relative_to("pictures").with_suffix(".png")) as made, Image.open(source) as natural:
            assert made.mode == "RGB"
            moved = np.abs(np.asarray(made).astype(int) - np.asarray(natural))
        assert 0 < moved.max() <= int(255 * 0.2)


def test_a_flat_folder_has_no_labels(here: Path) -> None:
    """Then success is a changed prediction, among all."""
    folder_of(Path("."), pictures=6)
    found = attack_cli("--classifier", "net_under_attack:colour", "--data", "pictures", "--attack", "fgsm", "--out", "o")
    assert found.code == 0, found.err
    assert "accuracy" not in found.out
    body, columns = json.loads(Path("o/attacks.json").read_text()), load_file("o/fgsm/columns.safetensors")
    assert (body["accuracy"], body["n"]) == (None, 6)
    assert body["attacks"]["fgsm"]["float32"]["success"] == columns["changed"].mean()
    assert "label" not in columns


def test_two_sources_never_share_a_picture() -> None:
    assert png_names(("a.jpg", "b/a.bmp")) == ["a.png", "b/a.png"]
    assert png_names(("a.jpg", "a.bmp", "c.png")) == ["a.jpg.png", "a.bmp.png", "c.png.png"]


def test_floats_of_whole_255ths_are_8_bit_images(here: Path) -> None:
    given = np.load("images.npz")
    np.savez("floats.npz", images=given["images"] / 255, labels=given["labels"])
    assert attack_cli(*BOTH, "--data", "floats.npz", "--out", "floats").code == 0
    assert {k: v for k, v in files(Path("out")).items() if "images-" in k} == {
        k: v for k, v in files(Path("floats")).items() if "images-" in k
    }
    np.savez("between.npz", images=given["images"] / 256)
    attack_cli(*BOTH, "--data", "between.npz", "--out", "between", "--png").refused(2, "8-bit", "255ths")
    assert attack_cli(*BOTH, "--data", "between.npz", "--out", "between").code == 0


def test_a_limit_takes_images_from_everywhere(here: Path) -> None:
    assert attack_cli(*BOTH, "--limit", "5", "--out", "few").code == 0
    assert json.loads(Path("few/images.json").read_text())["names"] == ["000000", "000050", "000100", "000150", "000200"]


def test_a_name_is_built_for_the_images_and_for_as_many_classes_as_the_weights_have(here: Path) -> None:
    net = CompactCNN().build(Shape(1, 6, 6, 4))
    torch.save(net.state_dict(), "four.pt")
    save_classifier(net, "saved")
    rest = ("--data", "images.npz", "--attack", "fgsm", "--limit", "30")
    for i, named in enumerate([("compact", "--weights", "four.pt"), ("compact", "--weights", "saved/classifier.safetensors"), ("saved",)]):
        assert attack_cli("--classifier", *named, *rest, "--out", str(i)).code == 0
    assert files(Path("0")) == files(Path("1")) == files(Path("2"))
    attack_cli("--classifier", "compact", *rest, "--out", "x").refused(2, "needs --weights FILE")
    attack_cli("--classifier", "compact", "--weights", "net.pt", *rest, "--out", "x").refused(2, "do not fit compact", "output layer")
    attack_cli("--classifier", "compact", "--weights", "none.pt", *rest, "--out", "x").refused(3, "no weights at none.pt")
    attack_cli("--classifier", "compact", "--weights", "images.npz", *rest, "--out", "x").refused(3, "cannot be read as weights")
    np.savez("larger.npz", images=np.zeros((2, 1, 7, 7), np.uint8))
    attack_cli("--classifier", "saved", "--data", "larger.npz", "--attack", "fgsm", "--out", "x").refused(
        2, "built for images of 1 x 6 x 6", "1 x 7 x 7"
    )


@pytest.mark.parametrize(
    ("classifier", "words"),
    [
        ("grey:", ["grey:"]),
        ("nothing", ["neither module:callable", "classifier.json", "compact"]),
        ("net_under_attack:colour", ["the classifier fails on images of 1 x 6 x 6", "RuntimeError"]),
        ("net_under_attack:softmax", ["softmax probabilities"]),
        ("net_under_attack:undefined", ["not finite on 000000"]),
        ("net_under_attack:Deaf", ["needs the gradient of the logits in the image", "differentiable stand-in"]),
    ],
)
def test_classifiers_that_cannot_be_attacked(here: Path, classifier: str, words: list[str]) -> None:
    attack_cli("--classifier", classifier, "--data", "images.npz", "--attack", "fgsm", "--out", "x").refused(2, *words)


IMAGES = np.zeros((4, 1, 6, 6), np.uint8)


@pytest.mark.parametrize(
    ("arrays", "code", "words"),
    [
        ({"pictures": IMAGES}, 2, ["no array 'images'", "pictures"]),
        ({"images": IMAGES[0]}, 2, ["(N, C, H, W)", "images[:, None]"]),
        ({"images": np.zeros((4, 6, 6, 3), np.uint8)}, 2, ["channels last", "transpose(0, 3, 1, 2)"]),
        ({"images": IMAGES[:0]}, 3, ["there are no images"]),
        ({"images": IMAGES.astype(np.int64)}, 2, ["uint8 or floats", "int64"]),
        ({"images": np.full((4, 1, 6, 6), 255.0)}, 2, ["[0, 1]", "[255, 255]"]),
        ({"images": np.full((4, 1, 6, 6), np.nan)}, 2, ["[0, 1]", "nan"]),
        ({"images": IMAGES, "labels": np.zeros(3, int)}, 2, ["labels", "(4,)", "(3,)"]),
        ({"images": IMAGES, "labels": np.zeros(4)}, 2, ["labels", "integers", "float64"]),
        ({"images": IMAGES, "labels": np.full(4, -1)}, 2, ["count from 0", "-1"]),
        ({"images": IMAGES, "labels": np.full(4, 3)}, 2, ["[0, 3)"]),
        ({"images": np.array([{}])}, 3, ["cannot be read", "pickle"]),
    ],
)
def test_arrays_that_are_no_images(here: Path, arrays: dict[str, Any], code: int, words: list[str]) -> None:
    np.savez("bad.npz", **arrays)
    attack_cli(*BOTH, "--data", "bad.npz", "--out", "x").refused(code, *words)
    assert not Path("x").exists()


def test_data_that_is_not_there_or_damaged(here: Path) -> None:
    def refused(where: str, code: int, *words: str) -> None:
        attack_cli(*BOTH, "--data", where, "--out", "x").refused(code, where, *words)

    refused("none", 3, "no images at none")
    refused("net.pt", 2, "neither a folder of pictures nor an .npz file")
    Path("cut.npz").write_bytes(Path("images.npz").read_bytes()[:900])
    refused("cut.npz", 3, "cannot be read")
    Path("empty").mkdir()
    refused("empty", 3, "no pictures (png")
    folder_of(Path("sorted"), a=1, b=2)
    (Path("sorted") / "c").mkdir()
    refused("sorted", 3, "no pictures (png", "sorted/c")
    shutil.rmtree("sorted/c")
    shutil.copy("sorted/a/0.png", "sorted/top.png")
    refused("sorted", 2, "top.png", "sub-folders")
    folder_of(Path("."), mixed=4)
    for name, picture, words in (
        ("big", Image.new("RGB", (8, 6)), ["most are 6 x 6 colour", "big.png is 8 x 6 colour"]),
        ("deep", Image.fromarray(np.zeros((6, 6), np.uint16)), ["more than 8 bits"]),
    ):
        picture.save(f"mixed/{name}.png")
        refused("mixed", 2, *words)
        Path(f"mixed/{name}.png").unlink()
    Path("mixed/half.png").write_bytes(Path("mixed/0.png").read_bytes()[:60])
    refused("mixed", 3, "half.png cannot be read as a picture")
    Path("mixed/half.png").unlink()
    Image.new("L", (6, 6)).save("mixed/grey.png")  # taken among pictures in colour, as one of them
    attack_cli(*OURS, "--data", "mixed", "--attack", "fgsm", "--out", "x").refused(2, "the classifier fails on images of 3 x 6 x 6")
    attack_cli(*BOTH, "--data", "mixed", "--out", "mixed/out").refused(2, "lies in --data")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--attack", "fgms"), 2, ["unknown attack 'fgms'", "fgsm", "deepfool", "all"]),
        (("--set", "deepfool.eps=1"), 2, ["deepfool has no setting 'eps'", "steps=50", "overshoot=0.02"]),
        (("--set", "eps=1"), 2, ["deepfool has no setting 'eps'", "NAME.eps="]),
        (("--set", "bim.eps=1"), 2, ["'bim' is not among", "fgsm, deepfool"]),
        (("--set", "eps"), 2, ["KEY=VALUE", "'eps'"]),
        (("--set", "fgsm.eps=8/0"), 2, ["eps must be float", "'8/0'"]),
        (("--set", "fgsm.eps=2"), 2, ["eps must lie in [0, 1]"]),
        (("--set", "deepfool.steps=2.5"), 2, ["steps must be int, like 50"]),
        (("--limit", "0"), 2, ["--limit from 1"]),
        (("--seed", "-1"), 2, ["--seed counts from 0"]),
        (("--device", "abacus"), 5, ["cannot use device 'abacus'"]),
        (("--out", "net.pt"), 4, ["cannot write", "net.pt"]),
    ],
)
def test_wrong_use(here: Path, arguments: tuple[str, str], code: int, words: list[str]) -> None:
    attack_cli(*BOTH, "--out", "x", *arguments).refused(code, *words)
    assert not Path("x").exists()


def own() -> BIM:
    return BIM(0.3)


fgsm, no_attack = FGSM(), "red"


def test_settings_of_attacks() -> None:
    assert chosen(["fgsm,deepfool"], ["fgsm.eps=8/255"]) == {"fgsm": FGSM(eps=8 / 255), "deepfool": DeepFool()}
    assert chosen(["tests.cli.test_attack:own,apgd"], ["apgd.steps=7"]) == {"own": BIM(0.3), "apgd": APGD(steps=7)}
    with pytest.raises(UsageError, match="called as one of this package: fgsm; give it another name"):
        chosen(["fgsm,tests.cli.test_attack:fgsm"], [])
    with pytest.raises(UsageError, match=r"cannot import attack 'tests\.cli\.test_attack:nothing'"):
        chosen(["tests.cli.test_attack:nothing"], [])
    with pytest.raises(UsageError, match="foolbox, torchattacks or ART expected; found 'red'"):
        chosen(["tests.cli.test_attack:no_attack"], [])
    assert chosen(["deepfool", "fgsm"], ["deepfool.steps=7", "deepfool.overshoot=1", "fgsm.eps=1"]) == {
        "deepfool": DeepFool(steps=7, overshoot=1.0),
        "fgsm": FGSM(eps=1.0),
    }
    assert list(chosen(["fgsm, all"], []))[:1] == ["fgsm"]
    with pytest.raises(UsageError, match="unknown attack ''"):
        chosen([""], [])


# --- what is said ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guarded", [False, True])
def test_on_a_terminal_the_table_fits_80_columns(prepared: Path, monkeypatch: pytest.MonkeyPatch, guarded: bool) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    body = json.loads((prepared / "out" / "attacks.json").read_text())
    for result in body["attacks"].values() if guarded else ():
        result["guard"] = {"png": {"attacked": 10_000, "fooled": 9_876, "past": 1_234}}
    show(body["attacks"], body, print)
    drawn = sys.stdout.getvalue()  # type: ignore[attr-defined]
    assert "…" not in drawn
    assert ("1234/9876" in drawn) is guarded
    median = body["attacks"]["deepfool"]["float32"]["median"]
    for word in ("deepfool", "success", "8-bit", "seconds", short(median["linf"], digits=4)):
        assert word in drawn


def test_pictures_of_one_attack_alone_leave_a_gap_in_the_table(here: Path) -> None:
    shutil.rmtree(here / "out" / "fgsm" / "png")
    result = attack_cli(*BOTH, "--out", "out")
    assert result.code == 0, result.err
    rows = {line.split()[0]: line.split() for line in result.lines if line.startswith(("fgsm", "deepfool"))}
    assert rows["fgsm"][3] == "–"
    assert float(rows["deepfool"][3]) > 0


def test_the_help_names_every_option_and_loads_nothing_heavy() -> None:
    code = """
import sys
from salientry.cli import app
try:
    app(["attack", "--help"])
except SystemExit:
    pass
assert not {"torch", "numpy", "PIL", "rich.progress"} & set(sys.modules)
"""
    shown = " ".join(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())
    for word in ("--classifier", "--weights", "--attack", "--data", "--out", "--set", "--png", "--limit", "--seed", "--device"):
        assert word in shown
    for word in ("module:callable", "eps=8/255", "one sub-folder per class", "continues", "refused"):
        assert word in shown


def test_decisions_alone_are_enough_and_what_comes_of_them_survives_its_file(here: Path) -> None:
    """A network that rounds its answer, too, has decisions; images are 8-bit ones, so rounding them changes nothing."""
    args = ("--classifier", "net_under_attack:Rounds", "--data", "images.npz", "--limit", "40", "--attack", "hop_skip_jump", "--out", "hop")
    said = attack_cli(*args, "--set", "queries=60", "--png")
    assert said.code == 0, said.err
    found = adversarials(Path("hop/hop_skip_jump")) * 255
    assert np.array_equal(found.round(), found.round(4))
    row = cells(said.out, "hop_skip_jump")
    assert row[2] == row[3] and float(row[2]) > 0.8


def test_images_that_an_attack_leaves_as_they_were_are_counted_and_said(here: Path) -> None:
    """Where the network rounds its answer the gradient is 0."""
    args = ("--classifier", "net_under_attack:Rounds", "--data", "images.npz", "--attack", "fgsm,deepfool", "--out", "rounds")
    said = attack_cli(*args)
    assert said.code == 0, said.err
    body = json.loads(Path("rounds/attacks.json").read_text())
    with np.load("images.npz") as given:
        right = load_file("rounds/fgsm/columns.safetensors")["predicted_before"] == given["labels"]
        dark = (given["images"].reshape(N, -1).max(1) <= 0.8 * 255) & right
    still = body["attacks"]["fgsm"]["float32"]["unchanged"]
    assert 0 < still == dark.sum() < right.sum()
    assert f"fgsm left {still} of {right.sum()} images as they were: the gradient in them is 0" in said.out
    assert "deepfool left" not in said.out, "an attack without a budget may give up"
    assert " left " not in (here / "printed.txt").read_text()
