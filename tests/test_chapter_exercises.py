"""Exercises and questions in the chapters: their form, right answers, and stubs that fail."""

import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import torch

from fmnist_lib.chapters import CHAPTERS
from fmnist_lib.course.exercises import check
from fmnist_lib.course.exercises.feedback import CHECKS
from fmnist_lib.course.student import student_notebook

FOLDER = Path(__file__).parent.parent / "notebooks"
each_chapter = pytest.mark.parametrize("name", CHAPTERS)


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def check_cells(notebook):
    """Give the cells that check an exercise, with the exercise's number."""
    for cell in notebook.cells:
        if cell.cell_type == "code" and (found := re.match(r'check\("([\d.]+)"', cell.source)):
            yield found[1], cell


def prose(notebook):
    return "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")


def questions(notebook):
    """Give each question as a list of its options: their words, and what is said of them."""
    blocks = re.findall(r"^> \*\*Question\.\*\* \S.*\n(?:>.*\n?)*", prose(notebook), re.MULTILINE)
    option = re.compile(r"^> <summary>(.+)</summary>\n>\n> (.+)", re.MULTILINE)
    return [option.findall(block) for block in blocks]


@each_chapter
def test_every_exercise_has_a_hint_a_solution_a_check_and_a_reason(name):
    chapter = int(name[:2])
    notebook = read(name)
    numbers = [number for number, _ in check_cells(notebook)]
    assert len(numbers) >= 4
    assert numbers == [f"{chapter}.{k}" for k in range(1, len(numbers) + 1)]
    assert numbers == [n for n in CHECKS if n.startswith(f"{chapter}.")]
    titles = re.findall(r"^### Exercise ([\d.]+): \S", prose(notebook), re.MULTILINE)
    assert titles == numbers
    cells = notebook.cells
    for exercise, cell in check_cells(notebook):
        at = cells.index(cell)
        statement, solution, reason = cells[at - 2], cells[at - 1], cells[at + 1]
        assert f"### Exercise {exercise}:" in statement.source
        assert "<summary>Hint</summary>\n" in statement.source
        assert set(solution.metadata.tags) == {"solution", "hide-input"}
        # JupyterLab shows the first line of a folded cell.
        assert solution.source.startswith(f"# Exercise {exercise}\n")
        assert solution.metadata.jupyter == {"source_hidden": True}
        assert reason.metadata.tags == ["solution"]
        assert reason.source.startswith("<details>\n<summary>Why</summary>\n")


@each_chapter
def test_the_published_answers_are_right(name):
    for exercise, cell in check_cells(read(name)):
        (output,) = cell.outputs
        assert output.data["text/plain"].startswith("✓ Right. "), exercise


class Anything(dict):
    """The names that a chapter has made by the time an exercise is met."""

    def __missing__(self, name):
        if name in __builtins__:
            raise KeyError(name)
        return SimpleNamespace()


@each_chapter
def test_an_exercise_that_is_not_solved_fails_its_check(name):
    copy = student_notebook(read(name))
    sources = [cell.source for cell in copy.cells if cell.cell_type == "code"]
    checked = dict(check_cells(copy))
    assert len(checked) >= 4
    for exercise, cell in checked.items():
        stub = sources[sources.index(cell.source) - 1]
        names = Anything(check=check, torch=torch, nn=torch.nn)
        exec(compile(stub, "stub", "exec"), {}, names)
        feedback = eval(compile(cell.source, "check", "eval"), {}, names)
        assert not feedback, exercise
        assert re.search(r"no answer yet|returns nothing yet|is None", feedback.words), feedback


@each_chapter
def test_every_question_has_one_right_option(name):
    found = questions(read(name))
    assert len(found) >= 3
    for options in found:
        assert 3 <= len(options) <= 5, options
        assert [words.split()[0] for _, words in options].count("Right.") == 1, options
        assert all(words.startswith(("Right. ", "No. ")) for _, words in options), options


def test_the_right_option_is_not_always_in_the_same_place():
    places = [
        [words.startswith("Right.") for _, words in options].index(True)
        for name in CHAPTERS
        for options in questions(read(name))
    ]
    assert max(places.count(place) for place in set(places)) <= 0.6 * len(places)
