"""What is exported, and that its examples run."""

from __future__ import annotations

import doctest
import importlib
import inspect

import pytest

import salientry

NAMES = [
    "ATTACKS",
    "CLASSIFIERS",
    "CONTROLS",
    "DATASETS",
    "DETECTORS",
    "SALIENCY",
    "HARMLESS",
    "Error",
    "Evidence",
    "External",
    "Guard",
    "Run",
    "SecondNetwork",
    "Verdict",
    "attack_guard",
    "fit_guard",
    "judge",
    "recalibrate",
    "refit_guard",
]


def test_the_public_names_are_these() -> None:
    assert sorted(salientry.__all__) == sorted(NAMES)
    assert set(NAMES) <= set(dir(salientry))
    with pytest.raises(AttributeError, match="no attribute 'Gard'"):
        salientry.Gard  # noqa: B018


@pytest.mark.parametrize("name", [n for n in NAMES if not n.isupper() and n != "Error"])
def test_every_name_has_an_example_that_runs(name: str) -> None:
    thing = getattr(salientry, name)
    assert inspect.getdoc(thing)
    examples = doctest.DocTestFinder(recurse=False).find(thing, name, module=importlib.import_module(thing.__module__))
    assert sum(len(e.examples) for e in examples), f"{name} has no example"
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for e in examples:
        runner.run(e)
    assert runner.failures == 0


def test_every_method_says_what_it_is() -> None:
    for name in (n for n in NAMES if n.isupper()):
        for key, kind in getattr(salientry, name).items():
            assert len(inspect.getdoc(kind) or "") > 40, f"{name}[{key}]"


def test_every_error_is_ours_and_has_its_documented_exit_code() -> None:
    import salientry.errors as errors

    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, errors.Error)]
    assert len(kinds) >= 10
    drawing = errors.__doc__ or ""
    for k in kinds:
        line = next(text for text in drawing.splitlines() if f" {k.__name__} " in f"{text} ")
        assert f" {k.exit_code} " in line, k.__name__
