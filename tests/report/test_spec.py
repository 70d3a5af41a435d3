"""A table is filled with the numbers that it asks for, each in its place, or says why not."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from salientry.rates import short
from salientry.report.render import html, mark, markdown, over, parts, shown
from salientry.report.render import text as text_of
from salientry.report.spec import Across, Column, Context, Doubt, Table, fill, find, number_of

NAN = math.nan
PLACE = dict.fromkeys(("title", "trained_on", "tested_on", "attack", "group", "protocol", "measure"))


def number(value: float, lo: float = NAN, hi: float = NAN, **place: Any) -> dict[str, Any]:
    at = "/".join(str(v) for v in place.values())
    return PLACE | place | {"id": at, "value": value, "lo": lo, "hi": hi, "n": 7, "seeds": (), "run": "", "kind": "k"}


NUMBERS = [
    number(0.5, 0.4, 0.6, title="B", trained_on="FGSM", tested_on="FGSM", measure="tpr@0.05"),
    number(0.125, 0.1, 0.2, title="A", trained_on="FGSM", tested_on="FGSM", measure="tpr@0.05"),
    number(0.75, title="A", trained_on="FGSM", tested_on="BIM", measure="tpr@0.05"),
    number(-0.001, title="A", trained_on="FGSM", measure="more"),
]
TABLE = Table("t", "s", ("title",), (Across("tested_on", (Column("", "{tpr@LEVEL}; more {more|bare}"),)),), {"kind": "k"})


def text(table: Table, **changes: Any) -> list[list[str]]:
    found = markdown(fill(table, NUMBERS, Context(("0.05", "0.01"), **changes)))
    return [[c.strip() for c in line.strip("|").split(" | ")] for line in found.split("\n")]


def test_each_number_stands_in_its_row_and_column() -> None:
    assert text(TABLE) == [["", "FGSM", "BIM"], ["---"] * 3, ["B", ".500 [.400, .600]", ""], ["A", ".125 [.100, .200]", ".750"]]


def test_a_label_is_not_repeated_and_a_long_one_is_broken() -> None:
    table = Table("t", "s", ("trained_on", "title", "tested_on"), (Column("", "{tpr@LEVEL}"),), {"kind": "k"})
    more = [number(0.5, trained_on="FGSM", title="B" * 50, tested_on=a, measure="tpr@0.05") for a in ("BIM", "JSMA")]
    body = str(html(fill(table, [*NUMBERS[1:3], *more], Context(("0.05", "0.01")))))
    rows = re.findall(r"<th[^>]*>([^<]*)</th>", body.partition("<tbody>")[2])
    assert rows == ["FGSM", "A", "FGSM", "", "", "BIM", "", "B" * 50, "BIM", "", "", "JSMA"]
    assert f'<th class="long">{"B" * 50}</th>' in body


def test_what_is_of_no_test_attack_stands_in_a_column_of_its_own() -> None:
    columns = (*TABLE.columns, Column("more", "{more|bare}", {"tested_on": None}))
    assert [line[-1] for line in text(Table("t", "s", ("title",), columns, {"kind": "k"}))] == ["more", "---", "", "−.001"]


def test_a_part_of_a_cell_without_its_number_is_left_out_and_without_the_first_the_cell_is_empty() -> None:
    cell = Column("", "{tpr@LEVEL}; more {more|bare}")
    rows = [dict(r, tested_on="FGSM") for r in NUMBERS if r["tested_on"] != "BIM"]
    found = fill(Table("t", "s", ("title",), (cell,), {"kind": "k"}, empty="not run"), rows)
    assert markdown(found).split("\n")[2:] == ["| B | .500 [.400, .600] |", "| A | .125 [.100, .200]; more −.001 |"]
    lacking = fill(Table("t", "s", ("title",), (cell,), {"kind": "k"}, order={"title": ["A", "C"]}, empty="not run"), rows)
    assert markdown(lacking).split("\n")[3] == "| C | not run |"


def test_two_numbers_in_one_cell_are_an_error_that_names_both() -> None:
    table = Table("t", "s", ("title",), (Column("found", "{tpr@LEVEL}"),), {"kind": "k"})
    with pytest.raises(ValueError, match=r"t, found: A/FGSM/FGSM/tpr@0\.05 and A/FGSM/BIM/tpr@0\.05 would stand in one cell"):
        fill(table, NUMBERS)


def test_rows_and_columns_come_in_the_order_that_is_asked_for() -> None:
    across = Across("tested_on", (Column("", "{tpr@LEVEL|bare}"),), {"BIM": "second", "FGSM": "first"})
    table = Table("t", "s", ("title",), (across,), {"kind": "k"}, order={"title": {"A": "the first", "B": "the second"}})
    assert text(table) == [["", "second", "first"], ["---"] * 3, ["the first", ".750", ".125"], ["the second", "", ".500"]]


def test_what_was_trained_and_tested_on_different_attacks_is_off_the_diagonal() -> None:
    assert "BIM" not in text(Table("t", "s", ("title",), TABLE.columns, {"kind": "k"}, diagonal=True))[0]


def test_where_can_be_one_of_several_none_or_a_question() -> None:
    assert find(NUMBERS, title=("C", "B")) == number_of(NUMBERS[0])
    assert find(NUMBERS, tested_on=None) == number_of(NUMBERS[3])
    assert find(NUMBERS, title=lambda t: t > "A") == number_of(NUMBERS[0])
    assert find(NUMBERS, title="C") is None


def test_a_column_of_a_second_level_is_left_out_where_there_is_one_level() -> None:
    table = Table("t", "s", ("title",), (*TABLE.columns, Column("at SECOND", "{tpr@SECOND}")), {"kind": "k"})
    assert text(table)[0][-1] == "at 1\u202f%"
    assert markdown(fill(table, NUMBERS, Context(("0.05",)))).split("\n")[0] == "|  | FGSM | BIM |"


def test_warnings_stand_once_below_the_name_and_reduced_attacks_have_a_star() -> None:
    table = Table("t", "s", ("title",), TABLE.columns, {"kind": "k", "trained_on": "FGSM"}, warned=True)
    context = Context(
        ("0.05",),
        frozenset({"BIM"}),
        lambda at: (
            [Doubt("did not train", f"{at['title']} on {at['trained_on']}"), Doubt("did not train", "nor so")] * (at["title"] == "A")
        ),
    )
    body = str(html(fill(table, NUMBERS, context)))
    warning = '<span class="warning" title="A on FGSM; nor so">did not train</span>'
    assert body.count('class="warning"') == body.count(f'<th>A<div class="warnings">{warning}</div></th>') == 1
    assert '<th colspan="1" rowspan="1">BIM*</th>' in body


def test_a_page_notes_each_number_that_it_shows_and_says_where_it_stands() -> None:
    with shown() as noted:
        body = str(mark(number_of(number(0.5, title='a"<b>', measure="m") | {"run": 'r"', "at": 12})))
    assert noted == {('r"', 'a"<b>/m')}
    assert body == '<span class="num" data-of="r&#34;" data-n="12" title="n = 7">.500</span>'


@pytest.mark.parametrize(
    ("value", "how", "shows"),
    [
        (0.1349, "", ".135"),
        (-0.0001, "", ".000"),
        (-0.0206, "", "−.021"),
        (1.0, "", "1.000"),
        (12.34567, "", "12.346"),
        (0.5, "percent", "50.0\u202f%"),
        (-0.00001, "percent", "0.0\u202f%"),
        (1234.0, "count", "1,234"),
        (0.00001, "p", "<10⁻⁴"),
        (0.04321, "p", ".043"),
        (0.98765, "d4", "0.9877"),
        (NAN, "", "–"),
    ],
)  # fmt: skip
def test_the_one_format_of_numbers(value: float, how: str, shows: str) -> None:
    assert parts(number_of(number(value)), how)[0] == shows


def test_ends_and_seeds_stand_beside_a_number() -> None:
    n = number_of(number(0.5, 0.25, 0.75) | {"seeds": (0.4, 0.6)})
    assert parts(n, "seeds") == (".500", "[.250, .750]", ".400 · .600")
    assert parts(n, "bare") == (".500", "", "")
    assert parts(n._replace(seeds=(0.5,)), "seeds")[2] == "", "one seed is the value"
    assert parts(n._replace(seeds=(0.5001, 0.5002)), "seeds")[2] == "", "they do not differ in print"
    assert parts(n._replace(seeds=(0.6, 0.4, 0.5)), "range") == (".400 to .600", "", ""), "what a sentence may say of several seeds"
    assert parts(n._replace(seeds=(0.5, 0.5)), "range") == (".500", "[.250, .750]", ""), "where the seeds say the same"
    assert parts(n._replace(seeds=(0.4, 0.5, 0.5, 0.5, 0.6)), "range")[:2] == (".500", "[.250, .750]"), "from five up an interval speaks"
    assert short(0.25, percent=True) == "25.0\u202f%"


def test_seeds_stand_beside_an_interval_that_they_spread_wider_than() -> None:
    n = number_of(number(0.725, 0.705, 0.746) | {"seeds": (0.841, 0.625, 0.710)})
    assert parts(n) == (".725", "[.705, .746]", ".841 · .625 · .710")
    assert text_of(n) == ".725 [.705, .746] (.841 · .625 · .710)"
    assert parts(n, "bare")[2] == "", "without an interval nothing is contradicted"
    assert parts(n._replace(seeds=(0.72, 0.73, 0.725)))[2] == ""
    assert parts(n._replace(seeds=(0.741, 0.75, 0.76, 0.75)))[2] != "", "three of them lie outside, and not so far from each other"
    assert parts(n._replace(seeds=(0.8, 0.6, 0.7, 0.7, 0.8)))[2] == "", "from five up the interval is over them"


def test_each_seed_and_its_interval_stand_behind_a_number() -> None:
    ends = ((0.8, 0.88), (0.5, 0.75), (math.nan, math.nan))
    n = number_of(number(0.725, 0.705, 0.746) | {"seeds": (0.841, 0.625, 0.710), "each": ends})
    each = "n = 7; seeds .841 [.800, .880] · .625 [.500, .750] · .710"
    assert f'title="{each}"' in str(mark(n, "bare")) and f'title="{each}"' in str(mark(n, "range"))
    assert 'title="n = 7; seeds 84.1\u202f% [80.0\u202f%, 88.0\u202f%]' in str(mark(n, "percent"))
    assert all('title="n = 7"' in str(mark(n._replace(seeds=s), how)) for s, how in (((0.5,), ""), ((0.5, 0.5), "bare"), ((0.5, 0.6), "p")))
    assert 'title="n = 7; over 5 seeds, on these images; seeds ' in str(mark(n._replace(seeds=(0.1, 0.2, 0.3, 0.4, 0.5))))


def test_no_interval_is_printed_without_a_width() -> None:
    assert text_of(number_of(number(-4e-5, -9e-5, -1e-5))) == "−.00004 [−.00009, −.00001]"
    assert text_of(number_of(number(0.5, 0.5, 0.5))) == ".500", "no draw is another: no interval"
    assert text_of(number_of(number(0.9996, 0.9991, 0.9999)), "percent") == "100.0\u202f% [99.9\u202f%, 100.0\u202f%]"
    assert text_of(number_of(number(0.99996, 0.99991, 0.99999)), "percent") == "100.00\u202f% [99.99\u202f%, 100.00\u202f%]"
    assert text_of(number_of(number(0.00012, 0.00011, 0.00013)), "d4") == "0.00012 [0.00011, 0.00013]"
    for k in range(1, 400):
        width = 10 ** (-k / 50)
        _, ends, _ = parts(number_of(number(0.3, 0.3 - width / 3, 0.3 + width / 2)))
        low, _, high = ends.strip("[]").partition(", ")
        assert low != high if width > 1e-6 else low != high or not ends


def test_a_share_of_attacks_is_counted() -> None:
    n = number_of(number(0.0, 0.0, 0.0))
    assert text_of(n, "of6") == "0 of 6 attacks"
    assert text_of(n._replace(value=1.0, lo=1.0, hi=1.0), "of1") == "1 of 1 attack"
    assert text_of(n._replace(value=0.5, lo=1 / 3, hi=0.5), "of6") == "3 of 6 attacks (2 certain, 3 possible)"


def test_notes_say_of_what_intervals_speak() -> None:
    assert over([1, 3, 2]) == over([]) == "over images"
    assert over([5, 5], "over images, given these nets") == "over 5 seeds, on these images"
    assert over([5, 7, 1]) == "over 5 or 7 seeds, on these images; of fewer seeds over images"
