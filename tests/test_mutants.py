"""The faults that `make mutants` inserts stand where they should, and it can tell a caught one from one that was missed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import mutants
from tests.faults import FAULTS, Fault
from tests.mutants import Outcome, shown, stale, with_fault

TEST = "from code import double\n\ndef test_double():\n    assert double(3) == 6\n"
SIGN = Fault("the sign is wrong", "code.py", "2 * x", "-2 * x", ("test_code.py",))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A package of one line and its test."""
    (tmp_path / "code.py").write_text("def double(x):\n    return 2 * x\n")
    (tmp_path / "test_code.py").write_text(TEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = nightly\npythonpath = .\n")
    return tmp_path


def test_every_fault_has_its_place_and_its_tests() -> None:
    assert stale(FAULTS) == []
    assert len(FAULTS) >= 25
    assert len({f.says for f in FAULTS}) == len(FAULTS)


def test_a_place_that_moved_is_named(tree: Path) -> None:
    gone, twice = Fault("gone", "code.py", "3 * x", "x", ("test_code.py",)), Fault("twice", "code.py", "x", "y", ("test_code.py",))
    untested, same = (
        Fault("untested", "code.py", "2 * x", "x", ("test_none.py",)),
        Fault("same", "code.py", "2 * x", "2 * x", ("test_code.py",)),
    )
    assert stale((SIGN,), tree) == []
    (a,), (b,), (c,), (d,) = (stale((f,), tree) for f in (gone, twice, untested, same))
    assert "'gone': the text to be changed stands 0 times in code.py, once was expected" in a
    assert "'twice': the text to be changed stands 2 times in code.py" in b
    assert c == "'untested': there is no test_none.py"
    assert "'same': it changes nothing" in d


def test_a_fault_is_caught_when_its_tests_fail_and_the_tree_is_as_before(tree: Path) -> None:
    before = {p.name: p.read_bytes() for p in tree.iterdir() if p.is_file()}
    outcome = with_fault(tree, SIGN)
    assert (outcome.code, outcome.caught) == (1, True)
    assert outcome.said == "test_code.py::test_double"
    assert shown(SIGN, outcome).startswith("caught ")
    assert {p.name: p.read_bytes() for p in tree.iterdir() if p.is_file()} == before


def test_a_fault_that_no_test_sees_is_reported(tree: Path) -> None:
    outcome = with_fault(tree, Fault("harmless", "code.py", "2 * x", "x * 2", ("test_code.py",)))
    assert (outcome.code, outcome.caught) == (0, False)
    assert shown(SIGN, outcome).startswith("NOT CAUGHT")


@pytest.mark.nightly
def test_tests_that_cannot_run_catch_nothing(tree: Path) -> None:
    (tree / "test_code.py").write_text("def helper(): pass\n")
    assert not with_fault(tree, SIGN).caught
    (tree / "test_code.py").write_text("import nowhere\n")
    assert not with_fault(tree, SIGN).caught


@pytest.mark.nightly
def test_a_fault_that_never_ends_is_caught(tree: Path) -> None:
    outcome = with_fault(tree, Fault("hangs", "code.py", "return 2 * x", "while True: pass", ("test_code.py",)), limit=5)
    assert outcome.caught
    assert "not done after 5 s" in outcome.said


@pytest.mark.nightly
def test_the_command_ends_with_1_when_one_was_missed(
    monkeypatch: pytest.MonkeyPatch, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    harmless = Fault("harmless", "code.py", "2 * x", "x * 2", ("test_code.py",))
    monkeypatch.setattr(mutants, "ROOT", tree)
    monkeypatch.setattr(mutants, "PARTS", ("code.py", "test_code.py", "pytest.ini"))
    monkeypatch.setattr(mutants, "stale", lambda faults: [])
    for faults, code, last in (((SIGN,), 0, "1 of 1"), ((SIGN, harmless), 1, "1 of 2")):
        monkeypatch.setattr(mutants, "FAULTS", faults)
        assert mutants.main([]) == code
        assert capsys.readouterr().out.splitlines()[-1] == f"{last} inserted faults were caught"
    (tree / "test_code.py").write_text("def test_none():\n    raise AssertionError\n")
    assert mutants.main([]) == 1
    assert "the tests fail without any fault" in capsys.readouterr().err
    monkeypatch.setattr(mutants, "stale", lambda faults: ["moved"])
    assert mutants.main([]) == 1


def test_outcomes() -> None:
    assert [Outcome(c, "", 0.0).caught for c in (0, 1, 2, 3, 4, 5, None)] == [False, True, False, False, False, False, True]
