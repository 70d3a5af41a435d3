"""What attacks and detectors say of themselves, and that records which do not say it are read alike."""

from __future__ import annotations

from typing import Any

import pytest

from salientry.attacks import ATTACKS, BIM, CW_FAST, CW_REDUCED, FGSM, JSMA, MIM, CarliniWagner, DeepFool
from salientry.detectors import DETECTORS, FourierSpectrum
from salientry.keys import label, name_of
from salientry.report.naming import EXPLAINED, Namer
from salientry.results.names import ATTACKS as OLD
from salientry.results.names import (
    SAID,
    WORDS,
    architecture_of,
    attack_facts,
    attack_title,
    data_set,
    detector_class,
    detector_title,
    detector_words,
    fusion_of,
    heard,
    in_words,
)

SETTINGS: list[tuple[Any, str, bool]] = [
    (FGSM(), "FGSM", False),
    (FGSM(8 / 255), "FGSM 8/255", False),
    (BIM(0.025, 0.0025), "BIM 0.025", False),
    (MIM(0.1, 0.025), "MIM 0.1", False),
    (CarliniWagner(), "C&W", False),
    (CW_FAST, "C&W", True),
    (CW_REDUCED, "C&W", True),
    (CarliniWagner(search_steps=9), "C&W", False),
    (DeepFool(), "DeepFool", False),
    (DeepFool(steps=2), "DeepFool 2", False),
    (JSMA(), "JSMA", False),
    (JSMA(theta=0.1), "JSMA", True),
    (JSMA(theta=0.025), "JSMA", False),
    (JSMA(steps=20), "JSMA", True),
]


@pytest.mark.parametrize(("attack", "title", "reduced"), SETTINGS, ids=lambda v: label(v) if hasattr(v, "eps") else "")
def test_titles_and_what_is_weaker_than_the_papers(attack: Any, title: str, reduced: bool) -> None:
    assert attack.title == attack_title(label(attack)) == title
    assert getattr(attack, "reduced", False) is reduced


def test_older_records_are_read_as_todays_attacks_would_have_written_them() -> None:
    for kind in (k for k in ATTACKS.values() if k.__name__ in OLD):
        a: Any = kind()
        old = {"label": label(a), "attack": kind.__name__, "reduced": False}
        said = {"title": a.title, "norm": a.norm, "strength": getattr(a, "strength", None)}
        assert attack_facts(old) == attack_facts(old | said) == said | {"method": kind.__name__, "reduced": False}
    mine = attack_facts({"label": "Mine-eps=0.5", "attack": "Mine", "reduced": False, "title": "my own"})
    assert (mine["title"], mine["norm"], mine["strength"]) == ("my own", None, None)


def test_only_one_step_a_patch_and_random_searches_may_fail_to_fool() -> None:
    may_fail = ["fgsm", "patch", "square", "square_l2", "spatial", "hop_skip_jump"]  # the last four by decisions or at random
    assert sorted(k for k, kind in ATTACKS.items() if not getattr(kind, "must_fool", True)) == sorted(may_fail)
    assert {k for k, kind in ATTACKS.items() if getattr(kind, "sparse", False)} == {"cw", "jsma", "patch"}


def test_detectors_say_their_title_and_older_records_are_read_alike() -> None:
    for kind in DETECTORS.values():
        title = getattr(kind, "title", kind.__name__)
        assert detector_title(kind.__name__, "paired") == detector_title(kind.__name__, "paired", title) == title
    assert [getattr(DETECTORS[k], "title", None) for k in ("id_plus", "fused", "smd")] == ["ID+", "fusion", None]
    assert detector_title("Mine", "replica", "my own") == "my own (replica)"


@pytest.fixture
def unheard(monkeypatch: pytest.MonkeyPatch) -> None:
    """No records were read yet."""
    for kind in SAID:
        monkeypatch.setitem(SAID, kind, {})


@pytest.mark.usefixtures("unheard")
def test_detectors_say_their_words_and_older_records_are_read_alike() -> None:
    every = [*(kind() for kind in DETECTORS.values()), FourierSpectrum(layers=("0",))]
    titles = {getattr(d, "title", name_of(d)): d for d in every}
    assert {t: w for t, w in WORDS.items() if "minus" not in t} == {t: getattr(titles[t], "words", None) for t in WORDS if "minus" not in t}
    assert {t: getattr(titles[t], "explained", None) for t in EXPLAINED} == EXPLAINED
    assert all("explained" in d.__class__.__dict__ or t not in EXPLAINED for t, d in titles.items())


@pytest.mark.usefixtures("unheard")
def test_a_page_prints_what_records_say_of_a_detector() -> None:
    heard({"detector": "Mine", "words": "my words", "explained": "a net that sees {map}", "description": "the reason"})
    heard({"detector": "Other", "title": "another", "description": "its reason"})
    heard({"detector": "contrast", "title": "contrast", "description": "contrast"})
    assert (detector_words("Mine (replica)"), detector_class("Mine"), detector_class("Other")) == (
        "my words (the paper's manner)",
        "my words",
        "another",
    )
    assert in_words("Mine on 3 of 4 images") == "my words on 3 of 4 images"
    named = Namer()
    assert named("Mine") == "my words (a net that sees the saliency map, where the classifier looks)"
    assert (named("another"), named("contrast")) == ("another (its reason)", "contrast"), "a name explains nothing"
    heard({"detector": "SortedLogits", "title": "SortedLogits", "words": "new words"})
    assert (detector_words("SortedLogits"), detector_words("TopLogits")) == ("new words", "top logits"), "newer records say it better"


def test_a_scheme_says_architecture_and_fusion_and_a_name_the_data_set() -> None:
    assert (architecture_of("architecture: as printed"), architecture_of("paired")) == ("as printed", None)
    assert [fusion_of(s) for s in ("all", "without the map", "logits alone", "logits with the map")] == [
        ("whole", "all"),
        ("whole", "the map"),
        ("logits", "alone"),
        ("logits", "the map"),
    ]
    assert (data_set("Digits-roles=1"), data_set("CIFAR10")) == ("digits", "cifar10")
