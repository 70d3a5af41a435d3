"""One page for several data sets: copies of the tiny run under the paper's names, one of them once more with another seed."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from itertools import combinations
from pathlib import Path

import pytest
from typer.testing import CliRunner

from salientry.cli import app
from salientry.errors import DataDamaged, UsageError, VerificationFailed
from salientry.report import claims_document, collection, columns, every_number, paper_tables, render, report, verification
from salientry.report.claims import Verdicts, how
from salientry.report.columns import Collection, place
from salientry.report.overview import Standings, first
from salientry.report.page import listed
from salientry.report.spec import number_of
from salientry.results.claims import sentences
from salientry.results.paper_numbers import TABLES, printed_rows, printed_text
from tests.results.oracle import ROOT

from .reading import ids, ledger, plain, printed, section
from .surgery import CW, Opened, sealed
from .test_page import text_of

NAMED = {"zeta": ("digits", 0), "alpha": ("cifar10", 0), "again": ("digits", 1)}  # folder to its data set and run seed
LONGER = CW.replace("steps=40", "steps=41")  # another setting of the same attack: another label, the same row


def become(folder: Path, dataset: str, seed: int) -> None:
    """A copied run becomes one of another data set and seed."""
    o = Opened(folder)
    o.body["recipe"]["seed"] = seed
    for s in o.body["sets"]:
        s["facts"] |= {"dataset": dataset} if "dataset" in s["facts"] else {}
    for a in o.body["attacks"]:
        a["reduced"] = dataset == "cifar10" and a["label"] == CW
    if dataset == "cifar10":
        o.rename(CW, LONGER)
    o.close()


@pytest.fixture(scope="module")
def read(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """The runs, computed once; their pages and the one of all are written."""
    folder = tmp_path_factory.mktemp("several")
    for name, (dataset, seed) in NAMED.items():
        shutil.copytree(finished, folder / name, ignore=shutil.ignore_patterns("report.*"))
        become(folder / name, dataset, seed)
    found = collection.read(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collection, "read", lambda _: found)
        assert collection.write(folder) == folder / "report.html"
    return found


@pytest.fixture(scope="module")
def html(read: Collection) -> str:
    return (read.folder / "report.html").read_text()


def numbers(folder: Path) -> dict[str, dict]:  # type: ignore[type-arg]
    return {n["id"]: n for n in json.loads((folder / "report.json").read_text())["numbers"]}


@pytest.fixture
def copy(read: Collection, tmp_path: Path) -> Path:
    """All of it, to be damaged."""
    shutil.copytree(read.folder, tmp_path / "copy")
    return tmp_path / "copy"


# --- the numbers -------------------------------------------------------------------------------------------------


def test_every_number_is_one_of_its_run_and_says_the_same(read: Collection, html: str) -> None:
    ledgers = {name: ledger(read.folder / name) for name in NAMED}
    found = printed(html)
    assert len(found) > 200
    assert {p.of for p in found} == set(NAMED)
    for p in found:
        assert p.at is not None
        n = ledgers[p.of][p.at]
        if n["value"] is None:
            assert p.text == "–", n["id"]
        elif p.text == "<10⁻⁴":
            assert n["value"] < 1e-4
        elif len(p.text.split(".")[-1]) > 3 and "%" not in p.text:
            assert float(p.text.replace("−", "-")) == pytest.approx(n["value"], abs=0.51e-4), n[
                "id"
            ]  # as many decimals as the paper prints
        else:
            assert p.text == text_of(n["value"], "%" in p.text), n["id"]


def places(read: Collection, html: str) -> set[tuple[str, str]]:
    """(run, id) of each number on a piece of the page."""
    ledgers = {name: ledger(read.folder / name) for name in NAMED}
    return {(p.of, ledgers[p.of][p.at or 0]["id"]) for p in printed(html)}


def test_report_json_holds_what_the_page_shows_and_nothing_else(read: Collection, html: str) -> None:
    body = json.loads((read.folder / "report.json").read_text())
    assert {(n["of"], n["id"]) for n in body["numbers"]} == places(read, html)
    assert [m["name"] for m in body["members"]] == ["zeta", "again", "alpha"]
    ledgers = {name: numbers(read.folder / name) for name in NAMED}
    for n in body["numbers"]:
        assert {k: v for k, v in n.items() if k != "of"} == ledgers[n["of"]][n["id"]]


def test_a_file_beside_the_page_holds_all_numbers_with_the_runs_name(read: Collection, html: str) -> None:
    head, *lines = csv.reader((read.folder / "numbers.csv").read_text().splitlines())
    own = {name: list(csv.reader((read.folder / name / "numbers.csv").read_text().splitlines())) for name in NAMED}
    assert all(head == ["run", *rows[0]] for rows in own.values())
    assert sorted(lines) == sorted([name, *one] for name, rows in own.items() for one in rows[1:])
    assert 'href="numbers.csv"' in html
    assert every_number.joined([('a, "b"', "x\n1,2\n")]).splitlines()[1] == '"a, ""b""",1,2'


@pytest.mark.parametrize("name", ["zeta", "alpha"])
def test_the_tables_are_those_of_the_runs_own_page(read: Collection, html: str, name: str) -> None:
    own = (read.folder / name / "report.html").read_text()
    shown = {(p.at, p.text) for p in printed(section(html, "tables")) if p.of == name}
    assert shown <= {(p.at, p.text) for p in printed(section(own, "paper"))}
    wanted = {i for i in numbers(read.folder / name) if i.startswith("paper/table")}
    assert len(wanted) > 10
    assert wanted <= {id for of, id in places(read, section(html, "tables")) if of == name}


def rows(html: str, number: int) -> dict[str, list[str]]:
    """Title to the cells of a row of one of the paper's tables."""
    table = html[html.index(f'id="table{number}"') :].split("</table>")[0]
    found = re.findall(r"<tr><th>([^<]+)</th>(<td>.*?)</tr>", table, re.S)
    return {unescape(title): re.findall(r"<td>(.*?)</td>", cells, re.S) for title, cells in found}


def test_each_number_of_a_run_stands_in_the_columns_of_its_data_set(read: Collection, html: str) -> None:
    for number, (_, groups) in TABLES.items():
        width = 4 * len(groups) + (2 if number == 1 else 0)
        for title, cells in rows(html, number).items():
            assert len(cells) == 3 * width, title
            for k, name in enumerate(("zeta", "alpha")):
                own = "".join(cells[k * width : (k + 1) * width])
                assert set(re.findall(r'data-of="([^"]+)"', own)) <= {name}, title
            assert "data-of" not in "".join(cells[2 * width :]), "there is no run"


def test_an_attack_with_other_settings_on_each_data_set_is_one_row(read: Collection, html: str) -> None:
    cells = rows(html, 4)["CW" if "CW" in rows(html, 4) else "C&W"]
    found = {(of, id) for of, id in places(read, "".join(cells)) if id.startswith("published/attack")}
    assert found == {("zeta", f"published/attack/{CW}/accuracy"), ("alpha", f"published/attack/{LONGER}/accuracy")}


def test_an_attack_that_stands_under_another_name_is_said() -> None:
    """ASSIRA's FGSM has another budget: the same row of the paper's."""
    first, second = (paper_tables.PaperColumn(t, printed_rows(t)) for t in ("mnist", "assira"))
    second.theirs = [dict(r, title="FGSM 0.025 · FGSM", attack="FGSM-eps=0.025") if r["title"] == "FGSM" else r for r in second.theirs]
    found = [name for name, _ in paper_tables._rows(4, False, [first, second])]
    assert found.count("FGSM") == 1


def test_the_first_screen_answers_for_each_data_set(read: Collection, html: str) -> None:
    first = html.split('<details class="part">')[0]
    sentences = [plain(s) for s in re.findall(r"<li>((?!<svg).*?)</li>", first, re.S)]
    assert len(sentences) == 3
    for name, title in (("zeta", "MNIST (5,000 digits)"), ("alpha", "CIFAR-10")):
        known, said = numbers(read.folder / name), sentences[0].split(f"{title}: ")[1].split(";")[0]
        value = text_of(known["strict/SPD/combined/combined/tpr@0.05"]["value"], True)
        assert re.search(rf"SPD( \(a net that sees [^)]*\))? {re.escape(value)}", said)
        shown = first[first.index('<table class="small">') :]
        for d in ("SMD", "SPD", "Margin2", "fusion"):
            assert text_of(known[f"strict/{d}/combined/combined/tpr@0.05"]["value"], False) in shown
    assert sentences[0].count("a net that sees the image weighted by the saliency map") == 1, "explained where it first stands"
    assert "best baseline, a simple detector to compare with, chosen on validation images" in sentences[0]
    assert "Detectors are trained and tested on all attacks together." in first
    assert first.count('<svg class="plot"') == 2
    assert "<details" not in first


@pytest.mark.parametrize("names", [c for k in (1, 2, 3) for c in combinations(sorted(NAMED), k)], ids="+".join)
def test_the_first_screen_of_any_of_the_folders_is_whole(read: Collection, names: tuple[str, ...]) -> None:
    """Each data set has a column, also where only a second run seed of it is there, and no sentence lacks a part."""
    found = Collection(read.folder, [m for m in read.members if m.name in names])
    there = [c for c in found.columns if c.run]
    assert {c.run.scores.dataset for c in there if c.run} == {m.scores.dataset for m in found.members}
    assert any("(seed 1)" in c.title for c in there) == ("again" in names and "zeta" not in names)
    first = collection._first(found.columns)
    assert len(first.sentences) == 3
    for words in (s.striptags() for s in (*first.sentences, *first.notes)):
        assert words.endswith(".")
        assert not re.search(r"None|\bnan\b|[{}]|[:;,] ?[:;,.]|\( ?\)|: ?$", words), words
    for c in there:
        assert f"{c.title}: SPD" in first.sentences[0].striptags()
        assert first.picture and c.title in first.picture
        assert first.table and f">{c.title}</th>" in first.table.body


def test_runs_trained_on_one_attack_each_say_so(tmp_path: Path) -> None:
    """The recorded heads at the paper's own size: one on BIM, one on DeepFool, of one classifier."""
    found = columns.read(ROOT / "paper")
    first = collection._first(found.columns)
    said, table, picture = first.sentences[0].striptags(), first.table, first.picture
    assert table and picture
    assert "all attacks together" not in said + table.says
    assert "Detectors are trained and tested on the attack behind the data set's name." in table.says
    for title in ("CIFAR-10, BIM", "CIFAR-10, DeepFool"):
        assert f"{title}: " in said and f">{title}</th>" in table.body and title in picture
    drawn = {re.sub(r" \S+ at \S+$", "", n) for p in re.findall(r'aria-label="[^"]*: ([^"]*)"', picture) for n in p.split("; ")}
    assert drawn == set(re.findall(r"<tr><td><b>([^<]+)</b>", table.body))
    assert len(drawn) == 7
    pictures = " ".join(plain(b.body) for b in collection._pictures(found) if b)
    assert all(f"No pictures, {t}" in pictures for t in ("MNIST", "CIFAR-10", "ASSIRA"))
    assert "No pictures, MNIST: not recorded, and recipe" in pictures and "dataset=mnist" not in pictures, "it would make none"


def test_the_best_baseline_of_validation_images_that_another_outdoes_is_said_to_be() -> None:
    (m,) = (report.made(p, name=p.name) for p in columns.runs(ROOT / "fast") if p.name == "assira-seed1")
    a = Standings(m.shown)
    values = {s.title: s.detected.value for s in a.standings if s.group == "baseline"}
    assert a.outdone == (max(values.values()) > values[str(a.best)])
    assert ("another does better on the test images." in str(first(m.shown).table.says)) == a.outdone  # type: ignore[union-attr]


def test_a_section_of_the_document_has_each_run_seeds_number_beside_the_verdict_of_all(read: Collection) -> None:
    two = [m for m in read.members if m.scores.dataset.startswith("digits")]
    v, dataset = Verdicts([(m.scores, m.frame) for m in two]), two[0].scores.dataset
    said = sentences()["claims"]
    text = {k: "\n".join(claims_document._section(v, [dataset], {dataset: 0}, k, s)) for k, s in said.items()}
    seen = 0
    for r in (r for r in v.lines if r["run_seed"] == 0 and r["verdict"] != "not run" and r["protocol"] == "strict" and r["id"]):
        n = v.number(r, r["id"])
        assert n
        value = render.text(number_of(n), how(r))
        assert f"**{r['verdict']}**: seed 0 {value}; seed 1 {value}" in text[r["claim"]], r["words"]
        seen += 1
    assert seen > 10


# --- what stands where -------------------------------------------------------------------------------------------


def test_a_data_set_that_was_not_run_says_so_and_the_papers_cells_stay(read: Collection, html: str) -> None:
    assert [(c.title, c.run.name if c.run else None) for c in read.columns] == [
        ("MNIST (5,000 digits)", "zeta"),
        ("CIFAR-10", "alpha"),
        ("ASSIRA", None),
    ]
    assert "<b>ASSIRA</b> was not recorded: <code>salientry run tiny dataset=assira</code>." in html
    for r in printed_rows("assira"):
        cells = rows(html, r["table"])[r["title"].rpartition(" · ")[2]]
        assert any(printed_text(r) in c for c in cells), r["title"]
    for number in TABLES:
        for title, cells in rows(html, number).items():
            assert any("not recorded" in c or "not run" in c for c in cells), title
    assert html.count("ASSIRA: not recorded: salientry run tiny dataset=assira.") >= 6 + 2


def test_a_table_too_wide_for_paper_is_printed_in_pieces_that_hold_all_of_it(html: str) -> None:
    found = re.findall(r'<div class="whole">(.*?)</div><div class="pieces">((?:<div class="scroll">.*?</div>\s*)+)</div>', html, re.S)
    assert len(found) >= 6, "the paper's tables"
    assert any(printed(whole) for whole, _ in found)
    for whole, pieces in found:
        assert pieces.count("<table") == 3, "a data set each"
        assert set(printed(whole)) == set(printed(pieces))
        assert whole.count("<td") == pieces.count("<td")
        names = re.findall(r"<tr><th>([^<]*)</th>", whole.split("<tbody>")[1])
        assert names * 3 == re.findall(r"<tr><th>([^<]*)</th>", "".join(t.split("</tbody>")[0] for t in pieces.split("<tbody>")[1:]))


def test_groups_of_columns_are_parted_only_where_one_alone_is_too_wide() -> None:
    assert render.cuts([3, 3, 3], 9) == [(0, 9)]
    assert render.cuts([3, 3, 3, 3], 9) == [(0, 9), (9, 12)]
    assert render.cuts([4, 4, 4], 9) == [(0, 8), (8, 12)]
    assert render.cuts([20, 2], 9) == [(0, 7), (7, 14), (14, 22)]
    found = listed("", ["detector", *"abcdefghijkl"], [["x", *range(12)]], groups=[("", 1), *((t, 3) for t in "ABCD")])
    assert found
    first, second = (t for t in found.body.split('<div class="pieces">')[1].split("</table>")[:2])
    assert (re.findall(r"<td>(.*?)</td>", first), re.findall(r"<td>(.*?)</td>", second)) == (
        ["x", *map(str, range(9))],
        ["x", *map(str, range(9, 12))],
    )
    assert re.findall(r"<th(?: [^>]*)?>(.*?)</th>", second) == ["", "D", "detector", "j", "k", "l"]


def test_reduced_settings_are_marked_where_they_are(html: str) -> None:
    cells = rows(html, 4)["C&W"]
    assert ["reduced settings" in c for c in cells] == [False] * 4 + [True] + [False] * 7
    part = section(html, "figure2")
    table = part[part.index("SPD, CIFAR-10</b>") :].split("</table>")[0]
    assert re.findall(r"<th[^>]*>([^<]+)</th>", table.split("</thead>")[0]) == ["trained on", "FGSM", "C&amp;W*"]


def test_the_grids_are_those_of_the_runs(read: Collection, html: str) -> None:
    for p, anchor in (("published", "figure2"), ("strict", "figure2-strict")):
        here = section(html, anchor)
        assert here.count('<ul class="key">') == 1
        assert here.count('<svg class="plot"') == 4 * 2, "four detectors on two data sets"
        for c in (c for c in read.columns if c.run):
            labels, level = c.run.scores.labels, "accuracy" if p == "published" else "tpr@0.05"  # type: ignore[union-attr]
            for d in ("SPD", "SMD", "ID", "JSD"):
                table = here[here.index(f"{d}, {c.title}</b>") :].split("</table>")[0]
                shown = ids(table, ledger(read.folder / c.run.name))  # type: ignore[union-attr]
                assert [i for i in shown if "/combined/" not in i] == [f"{p}/{d}/{a}/{b}/{level}" for a in labels for b in labels]


def test_each_part_has_its_anchor_and_nothing_comes_from_elsewhere(read: Collection, html: str) -> None:
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert {f"table{k}" for k in range(1, 7)} | {"figure2", "figure2-strict", "pictures", "claims", "again"} <= set(ids)
    links = re.findall(r'(?:src|href)="(?!data:)([^"]+)"', html)
    assert {x[1:] for x in links if x.startswith("#")} <= set(ids)
    others = {x.split("#")[0] for x in links if not x.startswith("#")}
    assert others == {f"{name}/report.html" for name in NAMED} | {"numbers.csv"}
    assert all((read.folder / x).exists() for x in others)
    assert html.count("<script") == 1, "no numbers are packed into this page"


def test_all_claims_have_a_verdict_for_each_data_set(html: str) -> None:
    part = section(html, "claims")
    found = re.findall(r"<tr><th>(C\d+)</th>(.*?)</tr>", part, re.S)
    assert [k for k, _ in found] == [f"C{k}" for k in range(1, 22)]
    for k, row in found:
        cells = re.findall(r"<td[^>]*>(.*?)</td>", row, re.S)
        assert unescape(cells[0]) == sentences()["claims"][k]
        assert len(cells) == 1 + 2 + 2 + 1 and all(cells)
        assert "not recorded" in cells[-1]


def test_another_seed_is_no_column_and_stands_below(read: Collection, html: str) -> None:
    assert [m.name for m in read.others] == ["again"]
    assert "MNIST (5,000 digits) again: again" in section(html, "again")


def test_pictures_stand_where_they_lie_and_are_missed_where_not(html: str) -> None:
    part = section(html, "pictures")
    assert part.count("data:image/png") == 2 * 57, "those of a data set that the paper shows no pictures of, too"
    assert "Like Figure 1, CIFAR-10: " in part
    assert all(f"{name}, MNIST (5,000 digits): " in part for name in ("Figure 1", "Figure 5", "Figure 7"))
    assert "No pictures, ASSIRA: not recorded: salientry run tiny dataset=assira." in plain(part)


def test_the_order_of_the_folders_does_not_matter(read: Collection) -> None:
    turned = Collection(read.folder, sorted(reversed(read.members), key=place))
    assert [m.name for m in turned.members] == [m.name for m in read.members]
    renamed = sorted((replace(m, name=m.name[::-1]) for m in read.members), key=place)
    assert [m.name[::-1] for m in renamed] == [m.name for m in read.members]


# --- reading and checking ----------------------------------------------------------------------------------------


def test_verify_adds_up_and_finds_what_was_forged(copy: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(copy), "--verify"])
    total = sum(len(numbers(copy / name)) for name in NAMED)
    assert (result.exit_code, result.output) == (0, f"{total} numbers follow from the records in {copy}\n")
    body = json.loads((copy / "report.json").read_text())
    body["numbers"][3]["value"] = 0.123
    (copy / "report.json").write_text(json.dumps(body))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "verify", lambda *_: 1)  # each was just verified
        with pytest.raises(VerificationFailed, match=re.escape(f"{body['numbers'][3]['of']}: {body['numbers'][3]['id']}")):
            collection.verify(copy)
        (copy / "report.json").write_text('{"numbers": [1]}')
        with pytest.raises(DataDamaged, match=r"report\.json is damaged"):
            collection.verify(copy)


def test_what_is_recorded_at_the_papers_size_follows_from_its_records() -> None:
    folder = Path(__file__).parents[2] / "results" / "paper"
    assert collection.verify(folder) == sum(len(m.ours) for m in collection.read(folder).members) > 100


def test_a_forged_run_is_named(copy: Path) -> None:
    shutil.rmtree(copy / "zeta")
    shutil.rmtree(copy / "again")
    body = json.loads((copy / "alpha" / "report.json").read_text())
    body["numbers"][0]["value"] = 7.0
    (copy / "alpha" / "report.json").write_text(json.dumps(body))
    with pytest.raises(VerificationFailed, match=re.escape(str(copy / "alpha"))):
        collection.verify(copy)


def broken(folder: Path) -> None:
    (folder / "records.json").write_text('{"schema": 3}')


def of_another_schema(folder: Path) -> None:
    (folder / "records.json").write_text('{"schema": 99}')


def cut(folder: Path) -> None:
    (folder / "records.safetensors").write_bytes((folder / "records.safetensors").read_bytes()[:100])


def unfit(folder: Path) -> None:
    body = json.loads((folder / "records.json").read_text())
    body["sha256"].pop(next(iter(body["sha256"])))
    (folder / "records.json").write_text(sealed(body))


@pytest.mark.parametrize("damage", [broken, of_another_schema, cut, unfit])
def test_a_damaged_run_is_named_and_nothing_is_written(copy: Path, damage: Callable[[Path], None]) -> None:
    for path in copy.rglob("report.*"):
        path.unlink()
    for name in ("zeta", "again"):
        shutil.rmtree(copy / name)
    damage(copy / "alpha")
    result = CliRunner().invoke(app, ["report", str(copy)])
    assert result.exit_code in (2, 3, 4)
    assert result.output.startswith("error: ")
    assert str(copy / "alpha") in result.output
    assert not list(copy.rglob("report.*"))


def test_a_folder_without_any_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no records in .*nowhere: there is no records\.json"):
        collection.runs(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="and none in a sub-folder; found: no sub-folder"):
        collection.runs(tmp_path)
    (tmp_path / "one").mkdir()
    with pytest.raises(UsageError, match="and none in a sub-folder; found: one"):
        collection.runs(tmp_path)


def test_a_white_box_goes_to_one_run(copy: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(copy), str(copy / "zeta")])
    assert result.exit_code == 2
    assert "holds several runs" in result.output


def test_the_white_box_that_lies_beside_is_found_when_it_is_of_the_same_classifier(tmp_path: Path) -> None:
    for kind, name in (("fast", "a"), ("whitebox", "a"), ("fast", "b"), ("whitebox", "b"), ("fast", "c")):
        (tmp_path / kind / name).mkdir(parents=True)
        (tmp_path / kind / name / "records.json").write_text(json.dumps({"classifier": "x" if name == "a" else kind}))
    assert report.beside_of(tmp_path / "fast" / "a") == tmp_path / "whitebox" / "a"
    assert report.beside_of(tmp_path / "fast" / "b") is None
    assert report.beside_of(tmp_path / "fast" / "c") is None
    assert report.beside_of(tmp_path / "whitebox" / "a") is None
