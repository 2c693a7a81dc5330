"""The students' copies of the chapters: nothing is given away, and nothing else is lost."""

import ast
import json
import os
import re
import string
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmnist_lib import cli
from fmnist_lib.chapters import CHAPTERS, ChapterError
from fmnist_lib.course.student import copy_chapters, student_notebook, write_student_notebooks

FOLDER = Path(__file__).parent.parent / "notebooks"
HIDDEN = {
    "tags": ["solution", "hide-input"],
    "mystnb": {"code_prompt_show": "Show", "code_prompt_hide": "Hide"},
    "jupyter": {"source_hidden": True},
}


def prose(source, **metadata):
    return nbformat.v4.new_markdown_cell(source, metadata=metadata)


def code(source, **metadata):
    output = nbformat.v4.new_output("stream", text="published output")
    return nbformat.v4.new_code_cell(source, metadata=metadata, outputs=[output], execution_count=7)


def chapter(*cells, **metadata):
    return nbformat.v4.new_notebook(cells=list(cells), metadata=metadata)


def solve(source, check):
    """Give the stub of a solution that is followed by this check."""
    notebook = chapter(code(dedent(source).strip("\n"), **HIDDEN), code(check))
    return student_notebook(notebook).cells[0].source


# Stubs.


def test_a_name_that_is_checked_is_to_be_filled_in():
    assert solve("a = 60_000 - 937 * 64", 'check("1.1", a)') == "a = ...  # your answer"


def test_what_is_not_checked_vanishes_and_the_rest_keeps_its_order():
    solution = """
    # A solution
    late, early = 3, 4
    distances, (nearest, *rest) = early * late, (1, 2, 3)
    for step in range(3):
        total = step
    with open("x") as file, open("y"):
        text: str = file.read()
    print(distances)
    """
    stub = "distances = ...  # your answer\nnearest = ...  # your answer\n"
    assert solve(solution, 'check("1", nearest, distances)') == stub.strip()
    lines = "\n".join(f"{name} = ...  # your answer" for name in ("rest", "step", "text"))
    assert solve(solution, 'check("1", text, rest, len(step))') == lines


def test_a_name_is_asked_for_once():
    assert solve("a = 1\na += 2\na = a * 3", "check('1', a, a)") == "a = ...  # your answer"


def test_a_local_name_of_a_function_is_not_asked_for():
    solution = "def f():\n    loss = 1\n    return loss\nlosses = [loss for loss in [f()]]"
    assert solve(solution, "check('1', losses, loss)") == "losses = ...  # your answer"


def test_imports_stay():
    solution = """
    import math, os
    from torch import (
        nn,
    )
    size = math.prod((2, 3))
    """
    stub = "import math, os\nfrom torch import (\n    nn,\n)\nsize = ...  # your answer"
    assert solve(solution, "check('1', size, nn)") == stub


def test_a_function_keeps_its_head_and_its_docstring():
    solution = '''
    @torch.no_grad()
    @cached(size=2,
            key=lambda f: f)
    def share(images, kinds: dict[str, int] = {"a": 1}, *,  # which ones
              by=lambda image: image.mean()) -> float:
        # the trick is to sort first
        """Tell the share.

        Of what is there.
        """
        # and then this
        return sorted(images)[0]
    '''
    stub = '''
    @torch.no_grad()
    @cached(size=2,
            key=lambda f: f)
    def share(images, kinds: dict[str, int] = {"a": 1}, *,  # which ones
              by=lambda image: image.mean()) -> float:
        """Tell the share.

        Of what is there.
        """
        ...  # your code here
    '''
    assert solve(solution, "check('1', share)") == dedent(stub).strip()


def test_definitions_stand_apart():
    solution = """
    import torch
    class Net(torch.nn.Module):
        'A network.'

        def forward(self, x):
            return x
    async def g(x): return 3
    def helper(): return 4
    net = Net()
    """
    stub = """
    import torch


    class Net(torch.nn.Module):
        'A network.'
        ...  # your code here


    async def g(x):
        ...  # your code here


    net = ...  # your answer
    """
    assert solve(solution, "check('1', Net, net, g)") == dedent(stub).strip()


def test_a_solution_without_an_answer_leaves_room_for_code():
    assert solve("print(1)", "check('1')") == "# your code here"


def test_every_cell_that_checks_a_solution_asks_for_names():
    """All up to the next solution; and all the cells of one solution look at the same checks."""
    cells = [
        code("a = 1", tags=["solution"]),
        code("b, c, d = 2, 3, 4", tags=["solution"]),
        prose("Why", tags=["solution"]),
        prose("run this"),
        code("print(d)"),
        code("check('1', a)"),
        prose("Why", tags=["solution"]),
        code("check('2', b)"),
        code("c = 5", tags=["solution"]),
        code("check('3', c)"),
    ]
    copy = student_notebook(chapter(*cells))
    assert [cell.source for cell in copy.cells] == [
        "a = ...  # your answer",
        "b = ...  # your answer",
        "run this",
        "print(d)",
        "check('1', a)",
        "check('2', b)",
        "c = ...  # your answer",
        "check('3', c)",
    ]


names = st.lists(
    st.text(string.ascii_lowercase, min_size=1, max_size=3).map(lambda name: f"n_{name}"),
    min_size=1,
    max_size=6,
    unique=True,
)


@given(names, st.data())
def test_a_stub_binds_what_is_checked_to_dots_and_tells_no_value(assigned, data):
    forms = ["{n} = 'secret'", "{n}: str = 'secret'", "if True:\n    {n}, other = 'secret', 1"]
    forms += [
        "for {n} in ['secret']:\n    pass",
        "(({n} := 'secret'))",
        "def {n}():\n  'secret'[0]",
    ]
    lines = [data.draw(st.sampled_from(forms)).format(n=name) for name in assigned]
    checked = data.draw(st.lists(st.sampled_from([*assigned, "data", "unknown"])))
    stub = solve("\n".join(lines), f"check('1', {', '.join(checked)})")
    assert "secret" not in stub
    exec(stub, {}, made := {})
    assert made.keys() == set(checked) & set(assigned)
    assert [name for name in assigned if name in made] == list(made)
    assert all(value is ... or value() is None for value in made.values())


# What surrounds the stubs.


@pytest.fixture
def mixed():
    return chapter(
        prose("# Title\n\n[speed](../book/speed.md)", slideshow={"slide_type": "slide"}),
        code("epochs: int = 1", tags=["parameters"]),
        code("draw()", tags=["hide-input"], mystnb={"image": {"alt": "a picture"}}),
        prose("Exercise"),
        code("a = 1", **HIDDEN | {"tags": ["solution", "hide-input", "long"], "editable": True}),
        code("check('1', a)"),
        prose("because", tags=["solution"]),
        code("draw(a)", **HIDDEN | {"mystnb": {"image": {"alt": "what it shows"}}}),
        code("check('2')"),
        kernelspec={"name": "python3", "display_name": "Python 3", "language": "python"},
        jupytext={"formats": "ipynb,py:percent"},
    )


def test_only_solutions_lose_cells_and_metadata(mixed):
    before = nbformat.writes(mixed)
    copy = student_notebook(mixed)
    assert nbformat.writes(mixed) == before
    nbformat.validate(copy)
    kept = [cell for cell in mixed.cells if cell.source != "because"]
    assert [cell.id for cell in copy.cells] == [cell.id for cell in kept]
    for cell, original in zip(copy.cells, kept, strict=True):
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
        if "solution" not in original.metadata.get("tags", []):
            assert cell.metadata == original.metadata
    assert copy.cells[4].metadata == {"tags": ["long"], "editable": True}
    assert copy.cells[6].metadata == {}
    # Paired, JupyterLab would write a script beside each copy.
    assert copy.metadata == {"kernelspec": mixed.metadata.kernelspec}


def test_links_lead_to_where_the_pages_are(mixed):
    text = (
        "[a](../book/batch.md), [b](../book/api/data.md#load), <a href='../book/c.md'>c</a>, "
        "[next](02_cnn.ipynb), [site](https://x.org/../book/x.md), `../book/code.md`\n\n"
        "[ref]: ../book/ref.md"
    )
    copy = student_notebook(chapter(prose(text)), pages="../site/book/{}.html")
    assert copy.cells[0].source == (
        "[a](../site/book/batch.html), [b](../site/book/api/data.html#load), "
        "<a href='../site/book/c.html'>c</a>, [next](02_cnn.ipynb), "
        "[site](https://x.org/../book/x.md), `../book/code.md`\n\n[ref]: ../site/book/ref.html"
    )
    assert student_notebook(mixed).cells[0].source == mixed.cells[0].source


# What is refused.


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            [prose("x"), code("a = 1\nb = 2", **HIDDEN), code("print(a)"), prose("Why")],
            "01_x.ipynb: the solution in cell 2 ('a = 1') is not followed by a cell that checks "
            "it; add one with check(...)",
        ),
        (
            [code("a = 1", **HIDDEN), prose("2"), code("b = 1", **HIDDEN), code("check('2', b)")],
            "01_x.ipynb: the solution in cell 1 ('a = 1') is not followed by a cell that",
        ),
        ([code("", **HIDDEN)], "01_x.ipynb: the solution in cell 1 ('') is not followed by"),
        (
            [code("a = 1", **HIDDEN), code("check('1', a)", **HIDDEN)],
            "01_x.ipynb: the solution in cell 1 ('a = 1') is not followed by",
        ),
        (
            [code("%time a = 1", **HIDDEN), code("check('1', a)")],
            "01_x.ipynb: the solution in cell 1, or its check, is not plain Python (invalid "
            "syntax); write it without commands of IPython",
        ),
        ([code("a = 1", **HIDDEN), code("!check('1', a)")], "in cell 1, or its check, is not"),
    ],
)
def test_a_chapter_that_cannot_be_copied_is_named_with_its_cell(tmp_path, cells, message):
    nbformat.write(chapter(prose("fine")), tmp_path / "00_fine.ipynb")
    nbformat.write(chapter(*cells), tmp_path / "01_x.ipynb")
    with pytest.raises(ChapterError) as refused:
        write_student_notebooks(tmp_path / "out", tmp_path)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()
    write_student_notebooks(tmp_path / "out", tmp_path, solved=True)


def test_a_folder_without_chapters_is_told(tmp_path):
    message = f"no chapters in the folder {tmp_path}; run this in the project's folder, or name"
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(
            ChapterError, match=re.escape(message.replace(str(tmp_path), str(folder)))
        ):
            copy_chapters(folder)


# Writing.


@pytest.fixture
def chapters(tmp_path):
    """Give a folder with two small chapters."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for name in ("01_one", "02_two"):
        cells = (prose("[p](../book/p.md)"), code("a = 5", **HIDDEN), code("check('1', a)"))
        nbformat.write(chapter(*cells), folder / f"{name}.ipynb")
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_chapters_give_the_same_bytes(tmp_path, chapters):
    for name in ("a", "b"):
        write_student_notebooks(tmp_path / name, chapters)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a").keys() == {"01_one.ipynb", "02_two.ipynb"}


def test_a_copy_with_answers_is_kept(tmp_path, chapters, capsys):
    one, two = (tmp_path / "mine" / f"{name}.ipynb" for name in ("01_one", "02_two"))
    command = ["student", str(tmp_path / "mine"), "--notebooks", str(chapters)]
    assert cli.main(command) == 0
    assert capsys.readouterr().out == f"written: {one}\nwritten: {two}\n"
    fresh = one.read_bytes()
    one.write_text("my answers")
    two.unlink()
    assert cli.main(command) == 0
    hint = "kept copies are as they were; --overwrite replaces them, answers and all, or name "
    hint += "another folder\n"
    assert capsys.readouterr().out == f"kept: {one}\nwritten: {two}\n{hint}"
    assert one.read_text() == "my answers"
    assert cli.main([*command, "--solved"]) == 0
    assert capsys.readouterr().out == f"kept: {one}\nkept: {two}\n{hint}"
    assert cli.main([*command, "--overwrite"]) == 0
    assert capsys.readouterr().out == f"written: {one}\nwritten: {two}\n"
    assert one.read_bytes() == fresh


@pytest.mark.parametrize(
    ("place", "link"), [("mine", "../book/p.md"), ("a b/c", "../../book/p.md"), (".", "book/p.md")]
)
def test_links_lead_from_any_folder_to_the_projects_pages(tmp_path, chapters, place, link):
    write_student_notebooks(tmp_path / place, chapters)
    (first, *_) = nbformat.read(tmp_path / place / "01_one.ipynb", 4).cells
    assert first.source == f"[p]({link})"
    folder = tmp_path / "else where"
    (folder / "notebooks").mkdir(parents=True)
    (chapters / "01_one.ipynb").rename(folder / "notebooks" / "01_one.ipynb")
    write_student_notebooks(tmp_path / place / "new", folder / "notebooks")
    (first, *_) = nbformat.read(tmp_path / place / "new" / "01_one.ipynb", 4).cells
    assert first.source.endswith("else%20where/book/p.md)")


def test_the_chapters_themselves_are_not_overwritten(chapters, monkeypatch):
    before = contents(chapters)
    monkeypatch.chdir(chapters.parent)
    for folder in (chapters, "notebooks", "notebooks/../notebooks"):
        with pytest.raises(ChapterError, match="is the folder of the chapters themselves; name"):
            write_student_notebooks(folder, "notebooks", overwrite=True, solved=True)
    assert contents(chapters) == before


def test_what_is_no_folder_is_told(tmp_path, chapters):
    (file := tmp_path / "file").write_text("")
    (loop := tmp_path / "loop").symlink_to("loop")
    for folder, words in {
        file: f"{file} is a file",
        file / "sub" / "sub": f"{file} is a file",
        loop: f"{loop} is a link to nothing",
        loop / "sub": f"{loop} is a link to nothing",
    }.items():
        with pytest.raises(ChapterError) as refused:
            write_student_notebooks(folder, chapters)
        assert str(refused.value) == f"{words}; name a folder for the notebooks"
    with pytest.raises(ChapterError, match=r"^no chapters in the folder"):
        write_student_notebooks(tmp_path / "mine", loop)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_in_the_place_of_a_copy_is_told_before_anything_is_written(
    tmp_path, chapters, overwrite
):
    (taken := tmp_path / "mine/02_two.ipynb").mkdir(parents=True)
    with pytest.raises(ChapterError) as refused:
        write_student_notebooks(tmp_path / "mine", chapters, overwrite=overwrite)
    assert str(refused.value) == (
        f"{taken} is a folder, expected a notebook or nothing; move it away, or name another "
        "folder for the notebooks"
    )
    assert list((tmp_path / "mine").iterdir()) == [taken]


CUT = """
import os, sys
from fmnist_lib.course.student import write_student_notebooks
os.replace = lambda source, target: os.kill(os.getpid(), 15)
write_student_notebooks(*sys.argv[1:])
"""


@pytest.mark.skipif(os.name != "posix", reason="needs signals as Unix has them")
def test_what_a_kill_left_is_cleared_away(tmp_path, chapters):
    folder = tmp_path / "mine"
    done = subprocess.run([sys.executable, "-c", CUT, str(folder), str(chapters)])
    assert done.returncode == -15
    (left,) = folder.iterdir()
    assert left.name.startswith(".")
    assert len(list(left.iterdir())) == 2
    write_student_notebooks(folder, chapters)
    assert contents(folder).keys() == {"01_one.ipynb", "02_two.ipynb"}


# The real chapters.


@pytest.fixture(scope="module")
def copies():
    texts = copy_chapters(FOLDER)
    assert list(texts) == [f"{name}.ipynb" for name in CHAPTERS]
    return {name: nbformat.reads(texts[f"{name}.ipynb"], 4) for name in CHAPTERS}


def is_stub(statement):
    """Tell whether a statement gives nothing away: an import, a name, or a head without a body."""
    if isinstance(statement, ast.Assign):
        return isinstance(statement.value, ast.Constant) and statement.value.value is ...
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        *doc, last = statement.body
        return ast.unparse(last) == "..." and len(doc) == (ast.get_docstring(statement) is not None)
    return isinstance(statement, ast.Import | ast.ImportFrom)


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_students_copy_gives_nothing_away(name, copies):
    copy, original = copies[name], nbformat.read(FOLDER / f"{name}.ipynb", 4)
    solutions = {c.id: c for c in original.cells if "solution" in c.metadata.get("tags", [])}
    for cell in copy.cells:
        assert "solution" not in cell.metadata.get("tags", [])
        assert cell.get("outputs", []) == []
        if cell.id in solutions:
            assert cell.cell_type == "code"
            assert all(map(is_stub, ast.parse(cell.source).body)), cell.source
            assert not cell.metadata.keys() & HIDDEN.keys()
    text = json.dumps(copy, ensure_ascii=False)
    for cell in solutions.values():
        assert json.dumps(cell.source, ensure_ascii=False)[1:-1] not in text
    others = [c for c in copy.cells if c.id not in solutions]
    assert [c.id for c in others] == [c.id for c in original.cells if c.id not in solutions]
    nbformat.validate(copy)


@pytest.mark.parametrize("name", CHAPTERS)
def test_relative_links_of_a_copy_lead_to_files(name, copies):
    for cell in copies[name].cells:
        if cell.cell_type == "markdown":
            for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", cell.source):
                assert (FOLDER / link).is_file(), link


def test_the_solved_copies_are_the_published_chapters():
    for name, text in copy_chapters(FOLDER, solved=True).items():
        assert text == (FOLDER / name).read_text(encoding="utf-8")
