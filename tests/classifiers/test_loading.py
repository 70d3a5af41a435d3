from __future__ import annotations

import json
import pickle
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from salientry.classifiers import CompactCNN, External, load_classifier, save_classifier
from salientry.errors import DataDamaged, DataMissing, Error, StoreError, UsageError
from salientry.learned import fingerprint
from salientry.types import Shape

from .. import examples

SHAPE = Shape(2, 9, 7, 3)
MODULE = """
import torch
from torch import nn

def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(2 * 9 * 7, 3)).train()

def wrapped():
    from salientry.classifiers import External
    return External(network(), mean=0.5)

ready = network()
number = 3

def nothing():
    return None
"""


class Boom:
    """Unpickled without care, this writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.fixture
def trained() -> nn.Module:
    x = examples.images(SHAPE, 48)
    return CompactCNN(width=3, epochs=1, batch=16).fit(x, torch.arange(48) % 3, SHAPE, seed=0)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "my_net_for_this_test.py").write_text(MODULE)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield "my_net_for_this_test"
    sys.modules.pop("my_net_for_this_test", None)


def test_round_trip_is_bit_for_bit(trained: nn.Module, tmp_path: Path) -> None:
    save_classifier(trained, tmp_path / "deep" / "net")
    again = load_classifier(str(tmp_path / "deep" / "net"))
    x = examples.images(SHAPE, 5)
    assert torch.equal(again(x), trained(x))
    assert fingerprint(again) == fingerprint(trained)
    assert not again.training
    assert sorted(p.name for p in (tmp_path / "deep" / "net").iterdir()) == ["classifier.json", "classifier.safetensors"]


def test_only_networks_of_ours_are_saved(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Sequential was not built by salientry"):
        save_classifier(examples.conv(SHAPE), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_said(trained: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        save_classifier(trained, tmp_path / "file")


def test_by_module_and_callable(module: str) -> None:
    x = examples.images(SHAPE, 4)
    nets = {name: load_classifier(f"{module}:{name}") for name in ("network", "wrapped", "ready")}
    assert not any(n.training for n in nets.values())
    assert torch.equal(nets["network"](x), nets["ready"](x))
    assert isinstance(nets["wrapped"], External)
    assert torch.allclose(nets["wrapped"](x), nets["network"](x - 0.5), atol=1e-5)


@pytest.mark.parametrize("end", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize("name", ["network", "wrapped"])
def test_weights_from_a_file(module: str, tmp_path: Path, end: str, name: str) -> None:
    """The state dict of the bare network fits the wrapped one too."""
    other = load_classifier(f"{module}:network")
    for p in other.parameters():
        p.data.mul_(-1).add_(0.1)
    path = tmp_path / f"weights{end}"
    if end == ".safetensors":
        save_file(other.state_dict(), path)
    else:
        torch.save(other.state_dict(), path)
    x = examples.images(SHAPE, 4)
    seen = x - 0.5 if name == "wrapped" else x
    assert torch.allclose(load_classifier(f"{module}:{name}", path)(x), other(seen), atol=1e-5)
    assert not torch.allclose(load_classifier(f"{module}:{name}")(x), other(seen), atol=1e-5)


def test_a_saved_wrapper_fits_the_wrapper(module: str, tmp_path: Path) -> None:
    wrapped = load_classifier(f"{module}:wrapped")
    for p in wrapped.parameters():
        p.data.mul_(2)
    torch.save(wrapped.state_dict(), tmp_path / "w.pt")
    assert fingerprint(load_classifier(f"{module}:wrapped", tmp_path / "w.pt")) == fingerprint(wrapped)


@pytest.mark.parametrize(
    ("body", "note"),
    [
        (lambda d: {f"module.{k}": v for k, v in d.items()}, "the prefix 'module.'"),
        (lambda d: {f"_orig_mod.{k}": v for k, v in d.items()}, "the prefix '_orig_mod.'"),
        (lambda d: {f"module._orig_mod.{k}": v for k, v in d.items()}, "the prefix 'module._orig_mod.'"),
        (lambda d: {"state_dict": d, "epoch": 3}, "its 'state_dict' was taken"),
        (lambda d: {"model": d, "optimizer": {"lr": 0.1}}, "its 'model' was taken"),
        (lambda d: {"state_dict": {f"module.{k}": v for k, v in d.items()}}, "its 'state_dict' .*, and the prefix 'module.'"),
    ],
    ids=["DataParallel", "compile", "both", "state_dict", "model", "wrapped and prefixed"],
)
@pytest.mark.parametrize("name", ["network", "wrapped"])
def test_what_trainers_write_is_taken_with_a_note(module: str, tmp_path: Path, body: Any, note: str, name: str) -> None:
    other = load_classifier(f"{module}:network")
    for p in other.parameters():
        p.data.mul_(-1).add_(0.1)
    torch.save(body(dict(other.state_dict())), tmp_path / "w.pt")
    with pytest.warns(UserWarning, match=f"w.pt fits: .*{note}"):
        found = load_classifier(f"{module}:{name}", tmp_path / "w.pt")
    x = examples.images(SHAPE, 4)
    assert torch.allclose(found(x), other(x - 0.5 if name == "wrapped" else x), atol=1e-5)


def test_a_prefix_goes_only_when_that_makes_the_names_fit(module: str, tmp_path: Path) -> None:
    torch.save({"module.1.weight": torch.zeros(3, 126)}, tmp_path / "w.pt")
    with pytest.raises(UsageError, match=r"Missing|Unexpected"):
        load_classifier(f"{module}:network", tmp_path / "w.pt")


def test_bare_weights_fit_a_network_that_is_wrapped_for_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = nn.Linear(3, 2)
    monkeypatch.setattr("salientry.classifiers._loading._called", lambda name: nn.DataParallel(nn.Linear(3, 2)))
    torch.save(bare.state_dict(), tmp_path / "w.pt")
    assert fingerprint(load_classifier("a:b", tmp_path / "w.pt").module) == fingerprint(bare)  # type: ignore[arg-type]


def test_a_whole_model_and_torchscript_are_refused_in_our_words(module: str, tmp_path: Path) -> None:
    net = load_classifier(f"{module}:network")
    torch.save(net, tmp_path / "whole.pt")
    with pytest.raises(DataDamaged, match=r"holds more than tensors \(torch.nn.*Sequential\).*Save only the weights.*module:callable") as e:
        load_classifier(f"{module}:network", tmp_path / "whole.pt")
    assert "weights_only" not in str(e.value)
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("script/constants.pkl", b"")
        archive.writestr("script/code/__torch__.py", "")
    with pytest.raises(UsageError, match=r"script.pt is a TorchScript archive.*torch.jit.load"):
        load_classifier(f"{module}:network", tmp_path / "script.pt")
    with pytest.raises(UsageError, match=r"whole.pt' is a file: name the network as module:callable"):
        load_classifier(str(tmp_path / "whole.pt"))


@pytest.mark.parametrize("error", ["KeyError(7)", "AssertionError()", "MemoryError()", "SystemExit(3)", "RuntimeError('two\\nlines')"])
def test_what_a_builder_raises_is_its_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str) -> None:
    (tmp_path / "builder_for_this_test.py").write_text(f"def network():\n    raise {error}\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "builder_for_this_test", raising=False)
    with pytest.raises(
        UsageError, match=rf"should give an nn.Module; it raised: {error.split('(')[0]}.*builder_for_this_test.py:2, in network"
    ):
        load_classifier("builder_for_this_test:network")


def test_a_pickle_with_code_is_refused_and_not_run(module: str, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    torch.save({"1.weight": torch.zeros(3, 126), "x": Boom(trap)}, tmp_path / "new.pt")
    (tmp_path / "old.pt").write_bytes(pickle.dumps(Boom(trap), protocol=2))
    for name in ("new.pt", "old.pt"):
        with pytest.raises(DataDamaged, match=f"{name} cannot be read as weights"):
            load_classifier(f"{module}:network", tmp_path / name)
        assert not trap.exists()


@pytest.mark.parametrize("content", [b"", b"hello world", b"\x00" * 100, b"PK\x03\x04 no zip"])
@pytest.mark.parametrize("end", [".pt", ".safetensors"])
def test_files_that_hold_no_weights_are_damaged(module: str, tmp_path: Path, content: bytes, end: str) -> None:
    path = tmp_path / f"w{end}"
    path.write_bytes(content)
    with pytest.raises(DataDamaged, match="cannot be read as weights"):
        load_classifier(f"{module}:network", path)


def test_truncated_weights_are_damaged(trained: nn.Module, tmp_path: Path) -> None:
    save_classifier(trained, tmp_path)
    path = tmp_path / "classifier.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataDamaged):
        load_classifier(str(tmp_path))


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"1.weight": torch.zeros(3, 126)}, r'Missing key\(s\) in state_dict: "1.bias"'),
        ({"1.weight": torch.zeros(4, 126), "1.bias": torch.zeros(3)}, r"size mismatch for 1.weight.*\[4, 126\].*\[3, 126\]"),
        ({"1.weight": torch.zeros(3, 126), "1.bias": torch.zeros(3), "2.bias": torch.zeros(3)}, r'Unexpected key\(s\).*"2.bias"'),
        ({"state_dict": {"1.weight": torch.zeros(3, 126)}}, "Missing|Unexpected"),
        (torch.zeros(3), "do not fit"),
        (3, "do not fit"),
        ([1, 2], "do not fit"),
    ],
)
@pytest.mark.parametrize("name", ["network", "wrapped"])
def test_weights_of_another_network_are_named(module: str, tmp_path: Path, state: object, words: str, name: str) -> None:
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(UsageError, match=words):
        load_classifier(f"{module}:{name}", tmp_path / "w.pt")


def test_missing_weights_are_missing(module: str, tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=r"no weights at .*nowhere.pt"):
        load_classifier(f"{module}:network", tmp_path / "nowhere.pt")


@pytest.mark.parametrize("attribute", ["absent", "number", "nothing"])
def test_names_that_give_no_network(module: str, attribute: str) -> None:
    with pytest.raises(UsageError, match=attribute):
        load_classifier(f"{module}:{attribute}")


@pytest.mark.parametrize("name", ["no_such_module_anywhere:net", "plainly nothing", "/no/such/folder", ":net", "..:net", ""])
def test_names_that_lead_nowhere(name: str) -> None:
    with pytest.raises(UsageError, match="classifier"):
        load_classifier(name)


@pytest.mark.parametrize("damage", ["text", "half", "no build", "list", "foreign class"])
def test_a_damaged_description_is_one_of_our_errors(trained: nn.Module, tmp_path: Path, damage: str) -> None:
    save_classifier(trained, tmp_path)
    path = tmp_path / "classifier.json"
    whole = json.loads(path.read_text())
    path.write_text(
        {
            "text": "hello",
            "half": path.read_text()[:40],
            "no build": json.dumps({"schema": 1}),
            "list": "[]",
            "foreign class": json.dumps(whole | {"build": {"class": "os:system"}}),
        }[damage]
    )
    with pytest.raises(Error) as e:
        load_classifier(str(tmp_path))
    assert isinstance(e.value, DataDamaged)


def test_a_flipped_bit_in_saved_weights_is_found(tmp_path: Path) -> None:
    save_classifier(CompactCNN(width=4).build(Shape(1, 8, 8, 3)), tmp_path)
    path = tmp_path / "classifier.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DataDamaged, match="is damaged: its sha256 is"):
        load_classifier(str(tmp_path))
    path.write_bytes(whole)
    load_classifier(str(tmp_path))
