"""A key changes when, and only when, something that it depends on changes."""

from __future__ import annotations

import dataclasses
import importlib
import json
import lzma
import pkgutil
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import salientry
import salientry.classifiers
import salientry.controls
import salientry.datasets
import salientry.detectors
import salientry.experiment.sanity
import salientry.protocol
import salientry.saliency
from salientry.attacks import BIM, FGSM
from salientry.detectors import TopLogits
from salientry.errors import UsageError
from salientry.experiment.run import Run
from salientry.harmless import Blur, Gamma
from salientry.keys import default_of, digest, first_name
from salientry.recipes.fast import fast
from salientry.recipes.paper import paper
from salientry.recipes.smoke import smoke
from salientry.recipes.sweep import sweep
from salientry.recipes.whitebox import whitebox
from salientry.renamed import STEPS as WORDS
from salientry.runner.step import Handle, Step, make_handle, step
from salientry.types import Roles
from tests.datasets import test_assira
from tests.revisions import as_of

REFERENCE = Path(__file__).parents[1] / "reference" / "keys.json"
RESULTS = Path(__file__).parents[2] / "results"
FOLDERS = ("attacks", "classifiers", "controls", "datasets", "detectors", "harmless", "saliency", "experiment.sanity", "protocol", "types")
NOT_SETTINGS = {"Arrays", "Folder", "Pool", "Shape"}  # content, and what flows


def specs() -> Iterator[type]:
    for folder in FOLDERS:
        module = importlib.import_module(f"salientry.{folder}")
        for name, kind in sorted(vars(module).items()):
            ours = isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__module__.startswith(f"salientry.{folder}")
            if ours and name not in NOT_SETTINGS and name[0] != "_":
                yield kind  # type: ignore[misc]


def other(value: Any, name: str) -> Any:
    """A different, valid value."""
    options = {
        "kind": {"paper": "black", "black": "paper", "sign": "gaussian", "gaussian": "sign", "magnitude": "phase"},
        "norm": {"batch": "none", "none": "batch", "l2": "linf", "linf": "l2", "": "l2"},
        "loss": {"ce": "dlr"},  # of attacks; saliency models have settings there
        "version": {"standard": "apgd"},
        "black_box": {"classifier": "encoder"},
        "batch_norm": {"eval": "instance"},
        "schedule": {"one_cycle": "constant", "step": "constant", "constant": "step", "triangle": "step"},
        "action": {"stop": "mark", "mark": "stop"},
        "score": {"prob": "logit", "logit": "prob"},
        "target": {"": "random", "random": "runner_up", "runner_up": "random", "pred": "full", "full": "pred", "prob": "pred"},
        "of": {"logit": "prob", "prob": "logit"},
        "removed": {"blur": "black", "black": "blur"},
        "power": {0.3: 0.5, 3.0: 2.0},
        "resize": {"squash": "crop"},
        "median": {2: 3},
        "means": {(): (11, 3, 4)},
        "way": {"fisher": "minimum"},
        "strides": {(2, 2, 1): (1, 2, 2), (1, 2, 2): (2, 2, 1)},
    }
    if name in options and (name != "loss" or isinstance(value, str)):
        return options[name][value]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 0.5 + 0.0137
    if isinstance(value, str):
        return value + "x"
    if name in ("attacks", "changes", "members"):
        return value[:1]
    if name == "transforms":
        return (*value, "noise")
    if name == "apart":
        return (TopLogits(),)
    if isinstance(value, tuple):
        return (*value, 0.2)
    if value is None:
        return {"step_size": 0.01, "lowest": 0.01}.get(name, 8)
    assert dataclasses.is_dataclass(value), (name, value)
    first = dataclasses.fields(value)[0].name
    return dataclasses.replace(value, **{first: other(getattr(value, first), first)})  # type: ignore[type-var]


def specs_in(value: Any) -> Iterator[Any]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type | Handle):
        yield value
        for f in dataclasses.fields(value):
            yield from specs_in(getattr(value, f.name))
    elif isinstance(value, list | tuple):
        for v in value:
            yield from specs_in(v)


def swapped(value: Any, old: Any, new: Any, seen: dict[str, Handle]) -> Any:
    """The same graph with one settings object replaced wherever it stands."""
    if isinstance(value, Handle):
        if value.fingerprint not in seen:
            args = {k: swapped(v, old, new, seen) for k, v in value.args.items()}
            assert value.step is not None
            same = old is not None and all(args[k] is v for k, v in value.args.items())
            seen[value.fingerprint] = value if same else make_handle(value.step, args, value.seed, value.numerics)
        return seen[value.fingerprint]
    if type(value) is type(old) and value == old:
        return new
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        given = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        changes = {k: swapped(v, old, new, seen) for k, v in given.items()}
        return value if all(changes[k] is v for k, v in given.items()) else dataclasses.replace(value, **changes)  # type: ignore[type-var]
    if isinstance(value, list | tuple):
        items = [swapped(v, old, new, seen) for v in value]
        return value if all(a is b for a, b in zip(items, value, strict=True)) else type(value)(items)
    return value


def everything(wanted: list[Handle]) -> list[Handle]:
    found: dict[str, Handle] = {}

    def visit(h: Handle) -> None:
        if h.fingerprint not in found:
            for u in h.inputs:
                visit(u)
            found[h.fingerprint] = h

    for h in wanted:
        visit(h)
    return list(found.values())


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> list[Handle]:
    """The whole experiment with one attack and one repetition: every step and every kind of settings, a few hundred handles."""
    return everything(list(smoke(Run(tmp_path_factory.mktemp("store")), seeds=1, attacks=(FGSM(),))))


def test_changing_any_field_of_any_settings_re_runs_exactly_what_depends_on_it(graph: list[Handle]) -> None:
    found: dict[str, Any] = {}
    for h in graph:
        for s in specs_in(list(h.args.values())):
            found.setdefault(repr(s), s)
    kinds = {type(s).__name__ for s in found.values()}
    assert kinds >= {
        "FGSM",
        "DeepFool",
        "CompactCNN",
        "UNet",
        "SimpleClassifier",
        "Eq2",
        "Fill",
        "SanityCheck",
        "SMD",
        "SmallCNN",
        "EvaluationProtocol",
        "Digits",
        "Roles",
    }
    remade: dict[str, Handle] = {}
    for h in graph:
        swapped(h, None, None, remade)
    assert all(h.fingerprint == old for old, h in remade.items()), "the same arguments are the same key"
    within = {h.fingerprint: list(specs_in(list(h.args.values()))) for h in graph}
    for spec in found.values():
        uses = {name for name, inside in within.items() if any(type(s) is type(spec) and s == spec for s in inside)}
        for f in dataclasses.fields(spec):
            changed = dataclasses.replace(spec, **{f.name: other(getattr(spec, f.name), f.name)})
            new: dict[str, Handle] = {}
            for h in graph:
                swapped(h, spec, changed, new)
            dependent: set[str] = set()
            for h in graph:  # inputs come first
                if h.fingerprint in uses or any(u.fingerprint in dependent for u in h.inputs):
                    dependent.add(h.fingerprint)
            moved = {old for old, h in new.items() if h.fingerprint != old}
            assert moved == dependent, f"{type(spec).__name__}.{f.name}"
            assert moved


@pytest.mark.parametrize("kind", list(specs()), ids=lambda k: k.__name__)
def test_every_field_of_every_settings_class_is_in_its_key(kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALIENTRY_DATA", str(tmp_path))
    test_assira.draw(tmp_path / "asirra", count=1)  # keyed by its pictures too
    required = {"encoder": salientry.saliency.SimpleClassifier(), "name": "n", "bits": 8, "only_positives": True}
    required |= dict.fromkeys(("train", "detector_train", "validation", "calibration", "test"), 3) | {"argument": "a"}
    required |= {"net": salientry.classifiers.CompactCNN(), "attacks": (FGSM(), BIM()), "changes": (Blur(), Gamma())}
    required |= {"attack": FGSM(), "source": "a", "library": "b", "settings": "c", "eps": 0.1, "perturbation": "d"}
    given = {f.name: required[f.name] for f in dataclasses.fields(kind) if default_of(f) is MISSING}
    spec = kind(**given)
    keys = {digest(spec)}
    for f in dataclasses.fields(spec):
        keys.add(digest(dataclasses.replace(spec, **{f.name: other(getattr(spec, f.name), f.name)})))
    assert len(keys) == 1 + len(dataclasses.fields(spec))


def test_a_new_field_with_a_default_changes_no_key() -> None:
    old = make_dataclass("Thing", [("a", int, 1), ("b", float, 0.5)], frozen=True)
    new = make_dataclass("Thing", [("a", int, 1), ("b", float, 0.5), ("c", Roles, field(default=Roles(1, 2, 3, 4, 5)))], frozen=True)
    for kind in (old, new):
        kind.__module__ = "salientry.attacks.thing"
    assert digest(old(a=3)) == digest(new(a=3))
    assert digest(old(a=3)) != digest(new(a=3, c=Roles(1, 2, 3, 4, 6)))


def test_a_new_argument_of_a_step_with_a_default_changes_no_key(tmp_path: Path) -> None:
    def old(a: int) -> int:
        return a

    def new(a: int, b: int = 7) -> int:
        return a + b

    before = step("counts_a")(old)
    after = replace(before, function=new)
    first = Run(tmp_path).do(before, 4)
    assert Run(tmp_path).do(after, 4).fingerprint == first.fingerprint
    assert Run(tmp_path).do(after, 4, 7).fingerprint == first.fingerprint
    assert Run(tmp_path).do(after, 4, 8).fingerprint != first.fingerprint
    assert Run(tmp_path).do(step("counts_a", revision=2)(old), 4).fingerprint != first.fingerprint


# --- names of steps ------------------------------------------------------------------------------------------------

STEPS = [
    "_take_first",
    "_take_role",
    "_take_roles",
    "accuracy_of",
    "answered_right",
    "answers_as_labels",
    "attack_defended",
    "attack_images",
    "binarization",
    "borrow",
    "calibrate",
    "calibrate_fusion",
    "change_harmlessly",
    "choose_detector",
    "choose_for_guard",
    "choose_recipe",
    "confidence_rates",
    "control_images",
    "cross_fit",
    "differentiate",
    "draw",
    "fit_detector",
    "fit_encoder",
    "fit_fusion",
    "fit_saliency",
    "gallery",
    "gate",
    "gradient_sizes",
    "harden",
    "keep_unchanged",
    "layer_activations",
    "lend",
    "logits_under",
    "look",
    "made_elsewhere",
    "map_shift",
    "passes",
    "planted_weaknesses",
    "read_data",
    "replaced",
    "right_ones",
    "sanity",
    "score",
    "score_fusion",
    "score_images",
    "score_sets",
    "second_opinion",
    "settle",
    "strong_enough",
    "swap",
    "take_trunk",
    "train_classifier",
    "unseen_rates",
]


def steps_of_the_package() -> list[Step]:
    modules = [importlib.import_module(m.name) for m in pkgutil.walk_packages(salientry.__path__, "salientry.") if "__main__" not in m.name]
    return list({id(s): s for m in modules for s in vars(m).values() if isinstance(s, Step)}.values())


def test_the_names_of_the_steps_are_those_that_recorded_keys_were_made_with() -> None:
    """A new step adds its name; none is changed or taken away while results of it are recorded. Functions may be renamed."""
    found = {s.name for s in steps_of_the_package() if s.keyed is None}
    ways = [{}, {"protocol": 1}, {"calibrated": 1}, {"parts": 1, "protocol": 1}, {"parts": 1, "calibrated": 1}]  # to score: each was a step
    found |= {s.keyed({"detector": 1} | way)[0] for s in steps_of_the_package() if s.keyed for way in ways}
    assert sorted(found) == STEPS
    assert set(STEPS) <= set(WORDS), "people read words"
    assert not [w for w in WORDS.values() if "_" in w or (w in STEPS and w not in ("scores", "accuracy"))]


def test_the_function_of_a_step_may_be_renamed_and_moved(tmp_path: Path) -> None:
    def mean_of(a: int) -> int:
        return a

    def average(a: int) -> int:
        return a

    average.__module__ = "salientry.experiment.elsewhere"
    before = step("takes_the_mean")(mean_of)
    after = replace(before, function=average)
    assert (before.name, after.name) == ("takes_the_mean", "takes_the_mean")
    first, second = Run(tmp_path).do(before, 4), Run(tmp_path).do(after, 4)
    assert (second.fingerprint, second.slug) == (first.fingerprint, first.slug)
    assert Run(tmp_path).path(second) == Run(tmp_path).path(first)
    assert Run(tmp_path).do(replace(before, name="takes_the_median"), 4).fingerprint != first.fingerprint


def test_two_steps_with_one_name_are_refused_where_the_second_is_defined() -> None:
    def one(a: int) -> int:
        return a

    def another(a: int) -> int:
        return -a

    step("only_one")(one)
    step("only_one")(one)  # a cell of a notebook that is run again
    with pytest.raises(UsageError, match=r"two steps are called 'only_one': .*\.one and .*\.another; give one of them another name"):
        step("only_one")(another)
    with pytest.raises(UsageError, match=r"'read_data': salientry\.experiment\.steps\.read_data and "):
        step("read_data")(another)


RECORDED = sorted(p for kind in ("fast", "paper", "whitebox") for p in (RESULTS / kind).glob("[cdm]*"))


@pytest.mark.parametrize("folder", RECORDED, ids=lambda p: f"{p.parent.name}-{p.name}")
def test_every_key_of_the_recorded_runs_is_one_of_todays(folder: Path, tmp_path: Path) -> None:
    """Made with the revisions that the records were made with. Those of ASSIRA depend on its pictures and cannot be made without them."""
    records = folder / "records.json"
    body = json.loads(records.read_bytes() if records.exists() else lzma.decompress(records.with_name("records.json.xz").read_bytes()))
    run = Run(tmp_path, seed=body["recipe"]["seed"], numerics=body["recipe"]["numerics"])
    recipe = {"fast": fast, "paper": paper, "sweep": sweep, "whitebox": whitebox}[body["recipe"]["recipe"]]
    with as_of(body.get("revisions", {})):
        today = {h.fingerprint for h in everything(list(recipe(run, **body["recipe"]["parameters"]).read))}
    found = {item["key"] for part in ("sets", "detectors", "scores") for item in body.get(part, [])}
    assert len(found) > (400 if recipe in (fast, whitebox) else 4)
    assert found <= today


def test_the_revision_of_settings_that_a_step_makes_for_itself_is_part_of_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    class Inner:
        pass

    Inner.__module__ = "salientry.detectors.made"

    def function(x: int) -> int:
        return x

    plain, using = step("of_inner")(function), step("of_inner", uses=(Inner,))(function)
    first = make_handle(plain, {"x": 1}, None, "float32").fingerprint
    assert make_handle(using, {"x": 1}, None, "float32").fingerprint == first, "a first revision is not named"
    monkeypatch.setattr(Inner, "REVISION", 2, raising=False)
    assert make_handle(using, {"x": 1}, None, "float32").fingerprint != first
    with as_of({}):
        assert make_handle(using, {"x": 1}, None, "float32").fingerprint == first, "as recorded runs have it"


def test_numbers_of_one_value_are_one_key() -> None:
    @dataclass(frozen=True)
    class S:
        x: float

    assert digest(S(2)) == digest(S(2.0))
    assert digest(S(True)) != digest(S(1))


def _recorded(value: Any) -> str:
    """A default under the first names of its fields."""
    if isinstance(value, Roles):
        then = first_name(Roles)[1]
        return f"Roles({', '.join(f'{then.get(f.name, f.name)}={getattr(value, f.name)}' for f in dataclasses.fields(value))})"
    return repr(value)


def default_values() -> dict[str, dict[str, Any]]:
    """Of all settings of the package today, by the names that recorded keys were made with."""
    now = {}
    for kind in specs():
        name, then = first_name(kind)
        now[name] = {then.get(f.name, f.name): _recorded(default_of(f)) for f in dataclasses.fields(kind)}
    found: dict[str, dict[str, Any]] = json.loads(json.dumps(now).replace(repr(MISSING), "required"))
    return found


def test_the_default_values_are_those_that_old_keys_stand_for() -> None:
    """A changed default would silently give an old key to new numbers: raise REVISION or undo it, then write the file again."""
    now = default_values()
    known = json.loads(REFERENCE.read_text())
    for name, fields in known.items():
        assert name in now, f"{name} is gone"
        assert {k: v for k, v in now[name].items() if k in fields} == fields, name
    assert set(now) == set(known), "new settings: `python -m tests.experiment.test_keys` adds them to the reference"


if __name__ == "__main__":  # adds the default values of new settings; those that are there stay
    there = json.loads(REFERENCE.read_text())
    new = {name: values for name, values in default_values().items() if name not in there}
    REFERENCE.write_text(json.dumps(there | new, indent=1) + "\n")
