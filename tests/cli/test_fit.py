"""A guard for one's own classifier from the command line: what is left in the folder, what is said, what is refused, how it goes on."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from salientry.classifiers import CompactCNN, load_classifier, save_classifier
from salientry.cli import fitting
from salientry.datasets import Arrays, Folder
from salientry.errors import DataMissing, UsageError, WrongClassifier
from salientry.guard import Guard
from salientry.learned import facts_of
from salientry.rates import short
from salientry.types import Roles, Shape

from .conftest import Cli

NET = """
from torch import nn

def grey():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))

def roughness(images):
    return images.diff(dim=3).abs().mean((1, 2, 3))
"""
OURS = ("--classifier", "net_under_guard:grey", "--weights", "net.pt")
BOTH = (*OURS, "--data", "images.npz", "--quick", "--workers", "1")
SECOND = ("--second", "net_under_guard:grey", "--second-weights", "other.pt")
N, TEST = 250, 50
NONE = Roles(0, 0, 0, 0, 0)


def outside(*arguments: object) -> Cli:
    """Warnings are lines, as outside of tests: so few images calibrate that there is one."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        return Cli(*arguments)


def refit_cli(*arguments: object) -> Cli:
    return outside("refit", *arguments)


def fit_cli(*arguments: object) -> Cli:
    return outside("fit", *arguments)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two linear classifiers of three templates, images of them, and the guard ``out`` that asks both."""
    folder = tmp_path_factory.mktemp("fit")
    rng = np.random.default_rng(0)
    templates, labels = rng.integers(105, 151, (3, 1, 8, 8)), np.arange(N) % 3
    images = (templates[labels] + rng.normal(0, 30, (N, 1, 8, 8))).clip(0, 255).astype(np.uint8)
    np.savez(folder / "images.npz", images=images, labels=labels)
    w = torch.tensor((templates.reshape(3, 64) - templates.mean()) / 255, dtype=torch.float32)
    b = -(w.square().sum(1) / 2 + w.sum(1) * float(templates.mean()) / 255)
    torch.save({"1.weight": 8 * w, "1.bias": 8 * b}, folder / "net.pt")
    noise = torch.from_numpy(rng.normal(0, 0.2, (3, 64))).float()
    torch.save({"1.weight": 6 * (w + noise), "1.bias": 6 * (b - noise.sum(1) * float(templates.mean()) / 255)}, folder / "other.pt")
    (folder / "net_under_guard.py").write_text(NET)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = fit_cli(*BOTH, *SECOND, "--out", "out", "--resize", "squash")
    assert result.code == 0, result.err
    (folder / "printed.txt").write_text(result.out)
    return folder


@pytest.fixture
def here(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(prepared, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def net(weights: str = "net.pt") -> nn.Module:
    return load_classifier("net_under_guard:grey", weights)


def test_the_folder_holds_guard_and_report_and_no_intermediate_results(here: Path) -> None:
    names = {re.sub("-[0-9a-f]{12}", "-HASH", p.name) for p in (here / "out").iterdir()}
    assert names == {"guard.json", "guard-HASH.safetensors", "card.json", "card.md"}
    guard, said = Guard.load("out", net(), second=net("other.pt")), (here / "printed.txt").read_text()
    assert str(guard) in said
    assert (guard.resize, guard.level) == ("squash", 0.05)
    card = json.loads((here / "out" / "card.json").read_text())
    assert card["measured"]["classifier"]["accuracy"]["of"] == TEST
    assert card["measured"]["false_positives"]["all"]["count"] == facts_of(guard.detector)["fit"]["natural"][0]
    assert card == guard.card(command=card["command"], cost=card["cost"])


def test_the_command_in_the_card_checks_pictures(here: Path) -> None:
    """As it stands there, and as it was said last."""
    command = json.loads((here / "out" / "card.json").read_text())["command"]
    assert f"    {command}\n" in (here / "out" / "card.md").read_text()
    assert (here / "printed.txt").read_text().splitlines()[-1] == f"to check pictures: {command}"
    images = np.load("images.npz")["images"]
    Image.fromarray(images[0, 0]).save("one.png")
    Image.fromarray(images[1, 0]).resize((16, 16)).save("large.png")
    program, *words = command.replace("PICTURE...", "one.png large.png").split()
    assert program == "salientry"
    result = Cli(*words, "--json")
    assert result.code in (0, 1), result.err
    first, second = map(json.loads, result.lines)
    guard = Guard.load("out", net(), second=net("other.pt"))
    verdict = guard(torch.from_numpy(images[:1]).float() / 255)
    assert first["answers"] == {name: int(v[0]) for name, v in verdict.answers.items()}
    assert "asking the second network" in first["answers"]
    assert first["reasons"] == verdict.reasons[0]
    assert second["image"] == "large.png"


def test_a_guard_that_asks_a_second_network_is_not_used_without_it(here: Path) -> None:
    Image.fromarray(np.load("images.npz")["images"][0, 0]).save("one.png")
    Cli("check", "out", "one.png", *OURS).refused(2, "asks a second network", "--second module:callable")
    Cli("check", "out", "one.png", *OURS, "--second-weights", "other.pt").refused(2, "--second-weights needs --second")
    Cli("check", "out", "one.png", *OURS, "--second", "net_under_guard:grey", "--second-weights", "net.pt").refused(
        2, "another second network"
    )


@pytest.mark.parametrize("png", [False, True])
def test_an_attack_counts_what_gets_past_the_guard(here: Path, png: bool) -> None:
    """Counted again from the files that were written, with the guard asked here."""
    kind = ["--png"] if png else []
    result = Cli(
        "attack", *OURS, "--data", "images.npz", "--attack", "fgsm", "--set", "eps=40/255", *SECOND, "--guard", "out", "--out", "a", *kind
    )
    assert result.code == 0, result.err
    found = json.loads((here / "a" / "attacks.json").read_text())["attacks"]["fgsm"]["guard"]
    guard = Guard.load("out", net(), second=net("other.pt"))
    data = np.load("images.npz")
    x, y = torch.from_numpy(data["images"]).float() / 255, torch.from_numpy(data["labels"])
    right = net()(x).argmax(1) == y
    if png:
        written = np.stack([np.array(Image.open(f"a/fgsm/png/{i:06d}.png"))[None] for i in range(N)])
        z = torch.from_numpy(written).float() / 255
    else:
        from safetensors.torch import load_file

        z = torch.cat([load_file(p)["image"] for p in sorted(Path("a/fgsm").glob("images-*.safetensors"))])
    fools = right & (net()(z).argmax(1) != y)
    past = fools & ~guard(z).flagged
    assert 0 < int(past.sum()) < int(fools.sum()), "both kinds are among them"
    assert found["png" if png else "float32"] == {"attacked": int(right.sum()), "fooled": int(fools.sum()), "past": int(past.sum())}
    assert found["naturals"] == {"flagged": int(guard(x).flagged.sum()), "of": N}
    assert f"{int(past.sum())}/{int(fools.sum())}" in result.out
    assert f"it flags {found['naturals']['flagged']} of {N} images" in result.out


def test_a_stopped_fit_goes_on_from_there_to_the_same_guard(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stops(fitting.Lines):
        def __call__(self, share: float, left: float) -> None:
            if share > 0.5:
                raise KeyboardInterrupt

    command = (*BOTH, *SECOND, "--out", "again", "--resize", "squash")
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "Lines", Stops)
        stopped = fit_cli(*command)
    assert stopped.code == 130
    assert "the same command continues from there" in stopped.err
    assert [p.name for p in (here / "again").iterdir()] == [".store"]
    done = {p: p.stat().st_mtime_ns for p in (here / "again" / ".store").rglob("DONE")}
    assert any("attack_images" in str(p) for p in done)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        assert fit_cli(*command).code == 0
    assert {p: p.stat().st_mtime_ns for p in done} == done, "nothing of it was computed again"
    assert (here / "again" / "guard.json").read_bytes() == (here / "out" / "guard.json").read_bytes()


def test_a_classifier_of_ours_is_saved_with_its_guard_and_found_again(here: Path) -> None:
    """From a folder of pictures, whose classes have names; the guard that was there is replaced."""
    data = np.load("images.npz")
    for i, (pixels, label) in enumerate(zip(data["images"], data["labels"], strict=True)):
        folder = here / "pictures" / ("ash", "birch", "cedar")[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0]).save(folder / f"{i}.png")
    x, y = torch.from_numpy(data["images"]).float() / 255, torch.from_numpy(data["labels"])
    save_classifier(CompactCNN(epochs=60).fit(x, y, Shape(1, 8, 8, 3), seed=0), "ours")
    result = fit_cli("--classifier", "ours", "--data", "pictures", "--quick", "--workers", "1", "--out", "out", "--detector", "top_logits")
    assert result.code == 0, result.err
    shutil.rmtree("ours")
    assert "0 = ash, 1 = birch, 2 = cedar" in result.out
    card = json.loads((here / "out" / "card.json").read_text())
    assert card["classes"] == ["ash", "birch", "cedar"]
    assert set(card["measured"]["false_positives"]["classes"]) == {"ash", "birch", "cedar"}
    assert card["command"] == "salientry check out PICTURE..."
    assert Cli("check", "out", here / "pictures" / "ash" / "0.png").code in (0, 1)


def test_groups_are_read_in_the_order_of_the_names(here: Path) -> None:
    images = np.load("images.npz")["images"][:4]
    for name, pixels in zip(("b/2.png", "b/1.png", "a/9.png", "a/10.png"), images, strict=True):
        (here / "few" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0]).save(here / "few" / name)
    (here / "groups.txt").write_text("ten\nnine\none\ntwo\n")
    folder = Folder("few", NONE)
    meant = {"a/10.png": "ten", "a/9.png": "nine", "b/1.png": "one", "b/2.png": "two"}
    assert fitting.grouped(Path("groups.txt"), folder) == [meant[n] for n in folder.pictures.names]
    assert fitting.grouped(Path("groups.txt"), Arrays(images, np.zeros(4, np.int64), NONE)) == ["ten", "nine", "one", "two"]
    (here / "groups.txt").write_text("ten\n\none\ntwo\n")
    with pytest.raises(UsageError, match="4 images; found 4 lines; line 2 is empty"):
        fitting.grouped(Path("groups.txt"), folder)
    with pytest.raises(DataMissing, match=r"no groups at nowhere\.txt"):
        fitting.grouped(Path("nowhere.txt"), folder)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--out", "net.pt"), 2, ("net.pt is a file", "a folder expected")),
        (("--out", "full"), 2, ("holds 'letter.txt' and no guard", "new or empty folder")),
        (("--quick", "--thorough"), 2, ("--quick and --thorough",)),
        (("--second-weights", "net.pt"), 2, ("--second-weights needs --second",)),
        (("--data", "nowhere"), 3, ("no images at nowhere", "one sub-folder a class, or an .npz")),
        (("--data", "unlabelled.npz"), 2, ("no array 'labels'",)),
        (("--groups", "net_under_guard.py"), 2, ("one name a line for each of 250 images",)),
        (("--classifier", "net_under_guard:nothing"), 2, ("net_under_guard:nothing",)),
        (("--detector", "nonsense"), 2, ("unknown detector 'nonsense'", "top_logits")),
        (("--promise", "some"), 2, ("unknown promise 'some'", "all, correct")),
        (("--level", "0.01"), 2, ("needs 299", "at least 855 images")),
        (("--minutes", "0"), 2, ("minutes must be more than 0",)),
        (("--workers", "-1"), 2, ("--workers counts from 0",)),
        (("--device", "nowhere"), 5, ("cannot use device 'nowhere'",)),
    ],
)
def test_what_cannot_be_meant_is_one_line(here: Path, words: tuple[str, ...], code: int, said: tuple[str, ...]) -> None:
    (here / "full").mkdir()
    (here / "full" / "letter.txt").write_text("dear")
    np.savez("unlabelled.npz", images=np.load("images.npz")["images"])
    fit_cli(*BOTH, "--out", "new", *words).refused(code, *said)
    assert not (here / "new" / "guard.json").exists()
    assert [p.name for p in (here / "full").iterdir()] == ["letter.txt"]


def test_a_guard_is_not_written_among_the_pictures(here: Path) -> None:
    (here / "pictures" / "a").mkdir(parents=True)
    fit_cli(*OURS, "--data", "pictures", "--out", "pictures/guard").refused(2, "lies in --data", "taken for images")


def test_a_detector_of_ones_own_is_named_in_the_command(here: Path) -> None:
    own = "net_under_guard:roughness"
    result = fit_cli(*BOTH, "--out", "rough", "--detector", own)
    assert result.code == 0, result.err
    command = json.loads((here / "rough" / "card.json").read_text())["command"]
    assert command == f"salientry check rough PICTURE... --classifier net_under_guard:grey --weights net.pt --detector {own}"


def test_a_guard_is_fitted_again_for_the_classifier_as_it_is_now(here: Path) -> None:
    state = torch.load("net.pt")
    torch.save({k: 1.1 * v for k, v in state.items()}, "retrained.pt")
    words = ("--classifier", "net_under_guard:grey", "--weights", "retrained.pt", "--data", "images.npz", "--workers", "1")
    before = Guard.load("out", net(), second=net("other.pt"))
    again = refit_cli("out", *words, *SECOND, "--out", "again")
    assert again.code == 0, again.err
    found = Guard.load("again", net("retrained.pt"), second=net("other.pt"))
    assert found.detector.settings == before.detector.settings
    assert (found.level, found.resize) == (before.level, before.resize) and found.threshold != before.threshold
    line = next(x for x in again.out.splitlines() if x.startswith("before and now: "))
    facts = [facts_of(g.detector)["fit"] for g in (before, found)]
    assert [f["effort"] for f in facts] == ["quick", "quick"]
    assert all(a["learnt"] for a in facts[1]["attacks"]), "no attack that it was not asked for"
    cost = json.loads((here / "again" / "card.json").read_text())["cost"]
    start = f"cost: for each image the classifier is asked about {cost['passes']:g}; one image takes"
    assert any(x.startswith(start) for x in again.out.splitlines())
    rates = [k / n for k, n in (f["natural"] for f in facts)]
    assert f"natural images flagged {short(rates[0])}, {short(rates[1])}" in line
    with pytest.raises(WrongClassifier):
        Guard.load("again", net(), second=net("other.pt"))


def test_a_guard_that_asks_a_second_network_is_not_fitted_again_without_it(here: Path) -> None:
    result = refit_cli("out", *OURS, "--data", "images.npz", "--out", "again")
    assert result.code == 2 and "asks a second network, and none was given" in result.err
    assert refit_cli("nowhere", *OURS, "--data", "images.npz", "--out", "again").err.startswith("error: no guard in nowhere")


def test_an_attacker_who_knows_the_guard_is_counted(here: Path) -> None:
    words = ("out", *OURS, *SECOND, "--data", "images.npz", "--images", 6, "--steps", 5, "--budgets", "1, 40", "--out", "past.json")
    result = Cli("attack-guard", *words)
    assert result.code == 0, result.err
    found = json.loads(Path("past.json").read_text())
    assert found["images"] == 6 and [round(b["eps"] * 255) for b in found["budgets"]] == [1, 40]
    last = found["budgets"][-1]
    assert f"({last['fooled']} of 6)" in result.out and f"({last['passed']} of 6)" in result.out and last["fooled"] == 6
    wrong = Cli("attack-guard", *words[:-2], "--budgets", "1,many")
    assert wrong.code == 2 and "found 'many'" in wrong.err


def test_a_second_network_is_trained_and_lies_with_the_guard(here: Path) -> None:
    """From images of which some are the guard's own; nothing that uses the guard is given the network then."""
    data, rng = np.load("images.npz"), np.random.default_rng(1)
    images, labels = data["images"][:N], data["labels"]
    others = (images.astype(int) + rng.integers(-40, 41, images.shape)).clip(0, 255).astype(np.uint8)
    np.savez("train.npz", images=np.concatenate([others, images[:7]]), labels=np.concatenate([labels, labels[:7]]))
    words = (*BOTH, "--out", "own", "--resize", "squash")
    result = fit_cli(*words, "--train-second", "train.npz")
    assert result.code == 0, result.err
    assert "left out 7 of 257 images to train the second network on" in result.err and result.err.count("second network on are") == 1
    assert "fit: of it about" in result.err and "for a second network, trained on labels of 250 images" in result.err
    line = next(text for text in result.out.splitlines() if text.startswith("the second network"))
    assert "trained on labels of 250 images (7 others are the guard's own)" in line and f"of {N})" in line
    guard = Guard.load("own", net())
    assert guard.second is not None and guard.detector.settings == Guard.load("out", net(), second=net("other.pt")).detector.settings
    command = result.out.splitlines()[-1]
    assert command.endswith("check own PICTURE... --classifier net_under_guard:grey --weights net.pt")
    Image.fromarray(images[0, 0]).save("one.png")
    said = json.loads(Cli("check", "own", "one.png", *OURS, "--json").lines[0])
    verdict = guard(torch.from_numpy(images[:1]).float() / 255)
    assert said["answers"] == {name: int(v[0]) for name, v in verdict.answers.items()} and "asking the second network" in said["answers"]
    Cli("check", "own", "one.png", *OURS, *SECOND).refused(2, "another second network")
    past = Cli("attack", *OURS, "--data", "images.npz", "--attack", "fgsm", "--guard", "own", "--out", "a")
    assert past.code == 0 and "it flags" in past.out, past.err
    some = torch.from_numpy(images[:9]).float() / 255
    assert outside("recalibrate", "own", "images.npz", "--out", "new", *OURS).code == 0
    assert torch.equal(Guard.load("new", net())(some).score, guard(some).score)
    again = refit_cli("own", *OURS, "--data", "images.npz", "--workers", "1", "--out", "again")
    assert again.code == 0, again.err
    assert Guard.load("again", net()).second is not None


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--train-second", "images.npz", *SECOND), 2, ("--train-second", "one of them or neither")),
        (("--train-second", "nowhere"), 3, ("no images at nowhere", "to train the second network on")),
        (("--train-second", "images.npz"), 2, ("250 of 250 images", "0 images are left", "100 are needed")),
        (("--train-second", "pictures", "--out", "pictures/new"), 2, ("lies in --train-second pictures",)),
    ],
)
def test_a_second_network_that_cannot_be_trained_is_one_line(here: Path, words: tuple[str, ...], code: int, said: tuple[str, ...]) -> None:
    (here / "pictures").mkdir()
    fit_cli(*BOTH, "--out", "new", *words).refused(code, *said)
    assert not (here / "new" / "guard.json").exists()
