from __future__ import annotations

import dataclasses
import hashlib
import importlib
import io
import json
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salientry.attacks import ATTACKS, FGSM, DeepFool
from salientry.controls import CONTROLS
from salientry.datasets import DATASETS, Digits
from salientry.detectors import DETECTORS, SMD, SmallCNN
from salientry.errors import DataDamaged
from salientry.keys import FIRST_NAMES, NAMES_NOW, canonical, changed_fields, decode, digest, encode, label, revisions_in
from salientry.saliency import SimpleClassifier, UNet
from salientry.types import Roles, Shape

from . import examples
from .revisions import as_of

# --- keys --------------------------------------------------------------------------------------------------------


def settings(*fields: Any, revision: int = 1, module: str = "salientry.attacks.made", name: str = "Made") -> Any:
    """A settings class as a later version of the package might have it."""
    kind = dataclasses.make_dataclass(name, fields, frozen=True)
    kind.__module__ = module
    if revision != 1:
        kind.REVISION = revision  # type: ignore[attr-defined]
    return kind


def test_a_key_is_the_sha256_of_the_documented_text() -> None:
    assert digest(DeepFool(steps=2)) == hashlib.sha256(b'[{"attacks.DeepFool":{"steps":2}}]').hexdigest()
    assert digest(FGSM(eps=0.1)) == hashlib.sha256(b'[{"attacks.FGSM":{"REVISION":2,"eps":0.1}}]').hexdigest()
    assert digest("a", 2, None, True) == hashlib.sha256(b'["a",2,null,true]').hexdigest()
    assert canonical(SMD()) == {"detectors.SMD": {}}
    assert canonical(SMD(SmallCNN(width=8))) == {"detectors.SMD": {"head": {"detectors.SmallCNN": {"width": 8}}}}


def test_keys_of_an_earlier_time_are_those_of_its_revisions() -> None:
    made = settings(("a", int, 1), revision=3)
    inner = settings(("of", Any, None), name="Outer")(made(2))
    today = digest(inner)
    with as_of({}):
        first = digest(inner)
        assert first == digest(settings(("of", Any, None), name="Outer")(settings(("a", int, 1))(2)))
        assert revisions_in(inner) == {}
        with as_of({"attacks.Made": 3}):
            assert digest(inner) == today
        assert digest(inner) == first
    assert digest(inner) == today != first
    assert revisions_in({"x": [inner, (made(1),)], "y": 3}) == {"attacks.Made": 3}


def test_a_renamed_class_keeps_its_key_and_is_read_from_older_files(monkeypatch: pytest.MonkeyPatch) -> None:
    assert canonical(Roles(1, 2, 3, 4, 5)) == {"contracts.Roles": {"fit": 1, "detect": 2, "select": 3, "calibrate": 4, "test": 5}}
    assert label(Roles(1, 2, 3, 4, 5)) == "Roles-fit=1-detect=2-select=3-calibrate=4-test=5"
    shape = Shape(3, 4, 5, 6)
    assert encode(shape)["class"] == "salientry.types:Shape"
    assert decode(encode(shape)) == shape == decode(encode(shape) | {"class": "salientry.contracts:Shape"})
    monkeypatch.setitem(FIRST_NAMES, "salientry.types:Shape", ("salientry.old:Size", {"height": "tall"}))
    monkeypatch.setitem(NAMES_NOW, "salientry.old:Size", "salientry.types:Shape")
    assert canonical(shape) == {"old.Size": {"channels": 3, "tall": 4, "width": 5, "classes": 6}}
    assert decode({"class": "salientry.old:Size", "channels": 3, "tall": 4, "width": 5, "classes": 6}) == shape == decode(encode(shape))


@given(st.integers(-(2**53), 2**53))
def test_a_whole_float_is_its_integer(n: int) -> None:
    assert digest(n) == digest(float(n)) == digest(np.float64(n)) == digest(np.int64(n))


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_share_a_key_exactly_when_they_are_equal(a: float, b: float) -> None:
    assert (digest(a) == digest(b)) == (a == b)


def test_order_of_a_mapping_and_of_a_set_do_not_matter_but_that_of_a_list_does() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"map", "logits"}) == digest(frozenset(["logits", "map"])) == digest(["logits", "map"])
    assert digest([1, 2]) == digest((1, 2)) != digest([2, 1])


def test_values_are_not_run_together() -> None:
    different = [("ab",), ("a", "b"), (["a", "b"],), ("a", ["b"]), (1,), ("1",), (True,), (None,), (), ([],), ({},)]
    assert len({digest(*v) for v in different}) == len(different)


def test_a_field_at_its_default_changes_no_key() -> None:
    assert digest(FGSM(eps=0.2)) == digest(FGSM())
    assert digest(DeepFool(steps=50, overshoot=0.02, candidates=10)) == digest(DeepFool())
    assert digest(SMD(head=SmallCNN())) == digest(SMD())
    assert digest(DeepFool(overshoot=1)) == digest(DeepFool(overshoot=1.0))


def test_each_field_that_differs_changes_the_key() -> None:
    variants = [DeepFool(), DeepFool(steps=2), DeepFool(overshoot=0.5), DeepFool(candidates=3), DeepFool(steps=3), DeepFool(candidates=2)]
    variants += [SMD(SmallCNN(width=w)) for w in (2, 3, 10)]
    assert len({digest(v) for v in variants}) == len(variants)


def test_a_new_field_with_a_default_changes_no_key() -> None:
    old = settings(("eps", float, field(default=0.1)))
    new = settings(("eps", float, field(default=0.1)), ("steps", int, field(default=7)), ("parts", tuple, field(default_factory=tuple)))
    assert digest(old()) == digest(new())
    assert digest(old(eps=0.3)) == digest(new(eps=0.3))
    assert digest(new(steps=8)) != digest(new())
    assert digest(new(parts=(1,))) != digest(new())


def test_a_required_field_is_always_in_the_key() -> None:
    kind = settings(("eps", float))
    assert canonical(kind(0.5)) == {"attacks.Made": {"eps": 0.5}}


def test_a_revision_changes_the_key_and_the_first_one_is_silent() -> None:
    plain, first, second = settings(), settings(revision=1), settings(revision=2)
    assert digest(plain()) == digest(first()) != digest(second())
    assert digest(second()) != digest(settings(revision=3)())


def test_the_class_and_its_folder_are_in_the_key_but_the_file_is_not() -> None:
    here = digest(settings()())
    assert here == digest(settings(module="salientry.attacks.moved")())
    assert here != digest(settings(module="salientry.controls.made")())
    assert here != digest(settings(name="Other")())
    assert here != digest(settings(module="someone.attacks.made")())


def test_nested_settings_count() -> None:
    outer = settings(("inner", Any, field(default_factory=FGSM)), name="Outer")
    assert digest(outer()) == digest(outer(FGSM(0.2))) != digest(outer(FGSM(0.3)))
    assert digest([FGSM(0.3)]) != digest([FGSM(0.4)])
    assert digest({"a": FGSM(0.3)}) != digest({"a": FGSM(0.4)})
    assert digest(UNet(encoder=SimpleClassifier(base=8))) != digest(UNet(encoder=SimpleClassifier(base=9)))


def test_content_with_a_fingerprint_stands_for_itself() -> None:
    class Content:
        def __init__(self, fingerprint: str) -> None:
            self.fingerprint = fingerprint

    assert canonical([Content("abc")]) == ["abc"]
    assert digest(Content("abc")) == digest(Content("abc")) != digest(Content("abd"))


@pytest.mark.parametrize(
    "value", [lambda: 0, io.BytesIO(), np.zeros(3), np.zeros(0), object(), FGSM, b"x", 1j], ids=lambda v: type(v).__name__
)
def test_what_has_no_canonical_form_is_refused_wherever_it_hides(value: Any) -> None:
    holder = settings(("given", Any, field(default=None)))
    for hidden in (value, [value], {"a": value}, holder(value)):
        with pytest.raises(TypeError, match="cannot be part of a key"):
            digest(hidden)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_say_has_no_key(value: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        digest(value)


def test_label_shows_what_differs() -> None:
    assert label(DeepFool()) == "DeepFool"
    assert label(DeepFool(steps=2)) == "DeepFool-steps=2"
    assert label(SMD(SmallCNN(width=8, dropout=0.5))) == "SMD-head=SmallCNN-width=8-dropout=0.5"
    assert label(DeepFool(overshoot=1.0)) == label(DeepFool(overshoot=1)) == "DeepFool-overshoot=1"


# --- settings in files -------------------------------------------------------------------------------------------

ENTRIES: dict[str, Any] = {
    f"{k}.{n}": make() for k, d in (("a", ATTACKS), ("c", CONTROLS), ("s", DATASETS), ("d", DETECTORS)) for n, make in d.items()
}
del ENTRIES["s.assira"]  # keyed by what its pictures are; see its own test
CHEAP = {f"cheap.{n}": v for f in (examples.attacks, examples.detectors, examples.saliency, examples.classifiers) for n, v in f().items()}
OTHERS = {"unet": UNet(encoder=SimpleClassifier()), "wide": SMD(head=SmallCNN(width=3, norm="none")), "fgsm": FGSM(8 / 255)}


@pytest.mark.parametrize("name", [*ENTRIES, *CHEAP, *OTHERS])
def test_settings_come_back_from_json_as_they_were(name: str) -> None:
    spec = (ENTRIES | CHEAP | OTHERS)[name]
    back = decode(json.loads(json.dumps(encode(spec))))
    assert back == spec
    assert type(back) is type(spec)
    assert digest(back) == digest(spec)
    assert set(encode(spec)) == {"class", *(f.name for f in dataclasses.fields(spec))}, "a default that moves later must not move this"


def test_lists_come_back_as_tuples() -> None:
    assert decode(json.loads(json.dumps(encode([1, (FGSM(0.1), "a"), None])))) == (1, (FGSM(0.1), "a"), None)


@pytest.mark.parametrize(
    "where",
    [
        "os:system",
        "pathlib:Path",
        "tests.examples:ViewPairs",
        "salientryx.attacks:FGSM",
        "salientry:__version__",
        "salientry.nowhere:FGSM",
        "salientry.__main__:FGSM",
        "salientry..attacks:FGSM",
        "salientry.attacks.fgsm:Nothing",
        "salientry.attacks.fgsm:check_settings",
        "salientry.attacks.fgsm:dataclass",
        "salientry.store:Store",
        "salientry.store:Rows",
        "salientry.attacks.fgsm",
        "",
        None,
        3,
        ["salientry.attacks.fgsm:FGSM"],
    ],
)
def test_nothing_but_settings_of_this_package_is_built_from_a_file(where: Any) -> None:
    with pytest.raises(DataDamaged, match="only settings of salientry"):
        decode({"class": where})
    with pytest.raises(DataDamaged, match="only settings of salientry"):
        decode([{"class": "salientry.detectors.smd:SMD", "head": {"class": where}}])
    with pytest.raises(DataDamaged):
        decode({})


def test_a_module_of_others_is_not_even_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stranger_in_a_file.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataDamaged):
        decode({"class": "stranger_in_a_file:X"})
    assert "stranger_in_a_file" not in sys.modules


@dataclass(frozen=True)
class Guest:
    eps: float = 0.1


def test_a_class_of_others_in_our_modules_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("salientry.attacks.fgsm"), "Guest", Guest, raising=False)
    with pytest.raises(DataDamaged, match="only settings of salientry"):
        decode({"class": "salientry.attacks.fgsm:Guest"})


def test_a_users_own_class_is_built_from_the_users_own_store_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = encode([SMD(), Guest(0.3)])
    assert decode(body, trusted=True) == (SMD(), Guest(0.3))
    with pytest.raises(DataDamaged, match="only settings of salientry"):
        decode(body)
    (tmp_path / "stranger_in_a_store.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataDamaged):
        decode({"class": "stranger_in_a_store:X"}, trusted=True)


@pytest.mark.parametrize("fields", [{"epsilon": 0.1}, {"eps": 0.1, "steps": 3}, {"eps": "much"}, {"eps": None}, {"eps": 7.0}])
def test_fields_that_do_not_fit_are_damage(fields: dict[str, Any]) -> None:
    with pytest.raises(DataDamaged, match="FGSM in a file do not fit"):
        decode({"class": "salientry.attacks.fgsm:FGSM"} | fields)


def test_a_missing_required_field_is_damage() -> None:
    with pytest.raises(DataDamaged, match="UNet in a file do not fit"):
        decode({"class": "salientry.saliency.unet:UNet"})
    with pytest.raises(DataDamaged, match="Arrays in a file do not fit"):
        decode({"class": "salientry.datasets.arrays:Arrays", "images": [1], "labels": [1], "roles": None})


def test_changed_fields_of_a_default_are_none() -> None:
    assert changed_fields(Digits()) == {}
    assert changed_fields(UNet(encoder=SimpleClassifier())) == {"encoder": SimpleClassifier()}
