"""The pages of prose beside the chapters: what they say of the project must be so."""

import re
from contextlib import suppress
from math import e, isclose, log, sqrt
from pathlib import Path
from types import FunctionType

import nbformat
import pytest
import yaml

from fmnist_lib.chapters import CHAPTERS
from fmnist_lib.cli import main
from fmnist_lib.course.exercises.feedback import CHECKS
from fmnist_lib.experiments.sweeps import load_sweep
from fmnist_lib.inspection import layer_table, receptive_field
from fmnist_lib.models import build_model

ROOT = Path(__file__).parent.parent
PAGES = ("index", "glossary", "teaching", "handout", "contributing", "changelog")
each_page = pytest.mark.parametrize("name", PAGES)
each_chapter = pytest.mark.parametrize("name", CHAPTERS)


def page(name):
    return (ROOT / "book" / f"{name}.md").read_text(encoding="utf-8")


def prose(name):
    return re.sub(r"^(```+)\w.*?^\1$|`[^`\n]*`", "", page(name), flags=re.DOTALL | re.MULTILINE)


def cells(name):
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def headings(text):
    return re.findall(r"^##+ (.+)$", text, re.MULTILINE)


def anchor(heading):
    """Name a heading as the site's links do."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def section(text, title):
    """Give what stands under a heading of the second level."""
    return re.search(rf"^## {title}$\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)[1]


def table(text):
    """Give the rows of the first table as lists of words, without its head."""
    lines = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)[0].splitlines()
    return [[part.strip(" *") for part in line.strip("|").split("|")] for line in lines[2:]]


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def notes_on(chapter):
    """Give what the teaching notes say about a chapter, under its number and title."""
    number, title = re.match(r"# (\d) · (.+)\n", cells(chapter)[0]).groups()
    return section(page("teaching"), re.escape(f"Chapter {number}: {title}"))


def glossary():
    """Give each term of the glossary with its definition."""
    (entries,) = blocks(page("glossary"), r"\{glossary\}")
    return re.findall(r"^(\S.*)\n((?:  .*\n)+)", entries, re.MULTILINE)


@each_page
def test_links_lead_to_headings_that_are_there(name):
    links = re.findall(r"\]\(([^)#\s]*)#([^)]+)\)", re.sub(r"\]\(https?:[^)]*\)", "", page(name)))
    for target, wanted in links:
        if target.endswith(".ipynb"):
            text = "\n".join(cells(Path(target).stem))
        else:
            text = page(Path(target).stem if target else name)
        assert wanted in map(anchor, headings(text)), f"{target}#{wanted}"


# Decimals that no machine and no seed changes, as in the chapters; a test below computes them.
COMPUTED_BY_HAND = {
    "0.003": "the standard error of an accuracy of 0.9 on 10,000 images",
    "1.46": "the loss that a softmax before the cross-entropy cannot fall below",
    "2.303": "ln 10",
}


def test_no_measured_digits_are_typed():
    """Shares such as 0.9 are settings and examples; more digits are a measurement."""
    text = "\n".join(re.sub(r"Python \d\.\d+", "", prose(name)) for name in PAGES)
    assert set(re.findall(r"(?<![\d.])\d\.\d{2,}(?![\d.])", text)) == set(COMPUTED_BY_HAND)


def test_the_decimals_that_are_typed_are_right():
    assert isclose(sqrt(0.9 * 0.1 / 10_000), 0.003)
    assert isclose(log((e + 9) / e), 1.46, abs_tol=0.005)
    assert isclose(log(10), 2.303, abs_tol=0.0005)


def options_of(command, capsys):
    with suppress(SystemExit):
        main([command, "--help"])
    return set(re.findall(r"--[a-z-]+", capsys.readouterr().out))


@each_page
def test_commands_are_there(name, capsys):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    code = re.findall(r"`[^`\n]+`|^```shell\n.*?^```", page(name), re.DOTALL | re.MULTILINE)
    for words in code:
        assert set(re.findall(r"\bmake ([a-z-]+)", words)) <= {*targets}, words
        for command, rest in re.findall(r"\bfmnist ([a-z]+)([^`\n]*)", words):
            options = options_of(command, capsys)
            assert "--help" in options, f"there is no command {command}"
            assert set(re.findall(r"(?<=\s)--[a-z-]+", rest)) <= options, words


def test_terms_are_sorted_and_there_once():
    terms = [term.casefold() for term, _ in glossary()]
    assert len(terms) >= 60
    assert terms == sorted(set(terms))


def test_each_term_is_defined_and_tells_where_it_is_taught():
    for term, definition in glossary():
        words = re.sub(r"\[[^\]]+\]\([^)]+\)", "", definition)
        assert 1 <= len(re.findall(r"\.(?:\s|\)|$)", words)) <= 4, term
        assert re.search(r"\]\((\.\./notebooks/\w+\.ipynb#|\w+\.md)", definition), term


@each_chapter
def test_each_chapter_teaches_some_terms_and_its_link_says_which_it_is(name):
    links = re.findall(r"\[Chapter (\d)\]\(\.\./notebooks/(\w+)\.ipynb", page("glossary"))
    assert (str(int(name[:2])), name) in links
    assert all(int(number) == int(chapter[:2]) for number, chapter in links)


@each_chapter
def test_the_timetable_of_a_chapter_has_all_its_sections_and_adds_up(name):
    notes = notes_on(name)
    (stated,) = re.findall(r"^\*\*Timetable, (\d+) minutes\*\*$", notes, re.MULTILINE)
    opening, *rows, total = table(notes)
    assert opening[0] == "(opening)"
    assert [row[0] for row in rows] == re.findall(r"^## (.+)$", "\n".join(cells(name)), re.M)
    minutes = [[int(minutes) for minutes in row[1:4]] for row in (opening, *rows)]
    sums = [sum(column) for column in zip(*minutes, strict=True)]
    assert total[1:] == [*map(str, sums), str(sum(sums))]
    assert total[4] == stated
    assert all(row[4] for row in rows)


@each_chapter
def test_the_notes_on_a_chapter_are_complete(name):
    notes = notes_on(name)
    assert f"[The chapter](../notebooks/{name}.ipynb)" in notes
    for part in ("What students get wrong", "What to ask", "Pictures to stop at.", "Exercises."):
        assert f"**{part}**" in notes


def test_the_exercises_that_the_notes_name_are_there():
    there = [re.findall(r"Exercise (\d\.\d+):", "\n".join(cells(name))) for name in CHAPTERS]
    named = re.findall(r"(?<![\d.])([1-5]\.\d)(?![\d.])", prose("teaching"))
    assert set(named) <= set().union(*there)


@pytest.mark.parametrize(("title", "total"), [("One afternoon", "240"), ("Grading", "10")])
def test_plans_and_points_add_up(title, total):
    *rows, last = table(section(page("teaching"), title))
    assert str(sum(int(row[-1]) for row in rows)) == last[-1] == total


def test_the_sweep_of_the_notes_can_be_run(tmp_path):
    (text,) = blocks(page("teaching"), "yaml")
    (tmp_path / "handed_in.yml").write_text(text, encoding="utf-8")
    sweep = load_sweep(tmp_path / "handed_in.yml", ROOT / "notebooks")
    assert len(sweep.runs) == 10


def test_the_notes_count_right_answers(tmp_path, monkeypatch, capsys):
    sources = (
        "from fmnist_lib.course.exercises import check",
        'check("1.1", 32)',
        'check("1.1", 31)',
        'print("✓ Right.")',
        'check("1.1", 1 / 0)',
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
    nbformat.write(notebook, tmp_path / "handed_in.ipynb")
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(page("teaching"), "python")
    exec(compile(code, "teaching.md", "exec"), {})
    assert capsys.readouterr().out == "1 right\n1 not yet\n"


@each_chapter
def test_the_handout_and_the_home_page_link_each_chapter(name):
    assert f"](../notebooks/{name}.ipynb)" in page("handout")
    assert f":link: ../notebooks/{name}\n" in page("index")


def test_the_handout_is_one_block_for_the_printer():
    title, *rest = re.split(r"^::::+(?:\{div\} handout)?$", page("handout"), flags=re.MULTILINE)
    assert len(title) < 200
    assert [bool(part.strip()) for part in rest] == [True, False]


def test_the_shapes_of_the_handout_are_those_of_the_networks():
    (shapes,) = re.findall(
        r"\{rubric\} Shapes[^\n]*\n:::\n(.*?)(?=^:::)", page("handout"), re.M | re.S
    )
    rows = table(shapes)
    for network, shape, parameters in (("cnn", 1, 2), ("dilated_cnn", 3, 4)):
        layers = layer_table(build_model(network))
        shown = [row for row in rows[1:-1] if row[shape]]
        # An activation has a row together with what comes before or after it.
        kept = layers[layers["layer"] != "ReLU"]
        assert [row[shape] for row in shown] == kept["output"].tolist()
        counts = [int(row[parameters].replace(",", "") or 0) for row in shown]
        assert counts == kept["parameters"].tolist()
        assert rows[-1][parameters] == f"{sum(counts):,}"
        side = receptive_field(build_model(network).features)["size"].iloc[-1]
        assert f"{side}×{side}" in shapes


def test_the_changelog_keeps_its_form():
    """That of keepachangelog.com: the newest first, and only its own kinds of changes."""
    text = page("changelog")
    versions = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert versions[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", v) for v in versions[1:])
    dates = [version.split()[-1] for version in versions[1:]]
    assert dates == sorted(dates, reverse=True)
    kinds = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        found = re.findall(r"^### (.+)$", part, re.MULTILINE)
        assert found == [kind for kind in kinds if kind in found]
        for block in re.split(r"^### ", part, flags=re.MULTILINE)[1:]:
            assert re.search(r"^- \S", block, re.MULTILINE)


def test_the_home_page_links_what_stands_beside_the_chapters():
    parts = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text(encoding="utf-8"))["parts"]
    (guides,) = (p for p in parts if {"file": "book/handout"} in p["chapters"])
    for entry in guides["chapters"]:
        assert f":link: {entry['file'].removeprefix('book/')}\n" in page("index")
    listed = {entry["file"] for part in parts for entry in part["chapters"]}
    assert {f"book/{name}" for name in PAGES[1:]} <= listed


@each_chapter
def test_the_times_on_the_home_page_are_those_of_the_chapter(name):
    card = re.search(
        rf"^:link: \.\./notebooks/{name}\n.*?\{{card-footer\}}\n([^\n]+)",
        page("index"),
        re.M | re.S,
    )
    time = re.search(r"\*\*Time:\*\*(.*?)(?=\n\n|\Z)", cells(name)[0], re.DOTALL)[1]
    time = " ".join(time.lower().split())
    for amount in re.findall(r"(?:about )?\w+(?: to \w+)? (?:minutes?|hours?)", card[1].lower()):
        assert amount in time, amount


def test_the_worked_example_of_an_exercise_works(monkeypatch):
    script, check_code, test_code = blocks(page("contributing"), "python")
    (number,) = re.findall(r'check\("([\d.]+)"', script)
    monkeypatch.setitem(CHECKS, number, None)  # and so it is gone when this test ends
    exec(compile(check_code, "contributing.md", "exec"), {})
    names = {}
    exec(compile(test_code, "contributing.md", "exec"), names)
    tests = [f for n, f in names.items() if n.startswith("test_") and isinstance(f, FunctionType)]
    for test in tests:
        (mark,) = test.pytestmark
        for values in mark.args[1]:
            test(*(values if isinstance(values, tuple) else (values,)))
    assert len(tests) == 2
    solution = re.search(r"^# A solution\n(.*)\n", script, re.MULTILINE)[1]
    exec(solution, {}, answers := {})
    assert names["check"](number, *answers.values())
    assert f"Exercise {number}:" in script


def test_what_make_test_does_is_told():
    recipe = re.search(r"^test:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text("utf-8"), re.M)[1]
    recipe = recipe.replace("$(BIN)/", "").replace("$(MAKE)", "make")
    steps = re.findall(r"^\d+\. (.*)", section(page("contributing"), "What `make test` does"), re.M)
    commands = re.findall(r"`([^`]+)`", "\n".join(steps))
    at = [recipe.index(command) for command in commands]
    assert at == sorted(at)
    for line in recipe.splitlines():
        assert any(command in line for command in commands), line
