"""The students' copies of the chapters: nothing is given away, and nothing else is lost."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from jupytext import TextFileContentsManager

from fmnist_lib import cli
from fmnist_lib.chapters import CHAPTERS, ChapterError
from fmnist_lib.course.student import (
    copy_chapters,
    solved_notebook,
    student_notebook,
    write_student_notebooks,
)

FOLDER = Path(__file__).parent.parent / "notebooks"
HIDDEN = {
    "tags": ["solution", "hide-input"],
    "mystnb": {"code_prompt_show": "Show", "code_prompt_hide": "Hide"},
    "jupyter": {"source_hidden": True},
}
SOLUTION = "### BEGIN SOLUTION\na = 5\n### END SOLUTION"


def prose(source, **metadata):
    return nbformat.v4.new_markdown_cell(source, metadata=metadata)


def code(source, **metadata):
    output = nbformat.v4.new_output("stream", text="published output")
    return nbformat.v4.new_code_cell(source, metadata=metadata, outputs=[output], execution_count=7)


def chapter(*cells, **metadata):
    return nbformat.v4.new_notebook(cells=list(cells), metadata=metadata)


@pytest.mark.parametrize(
    ("solution", "check", "names"),
    [
        ("late, early = 1, 2\n(total := 3)\nmean = 5", "'1', mean, early, data", ["mean", "early"]),
        ("a = 1\na += 2\na = a * 3", "'1', a, a", ["a"]),
        ("fit(net=net)\nlosses = [net == 1]", "'1', net, losses", ["losses"]),
        ("for k in range(2):\n    left = k", "'1', left, k", ["left"]),
    ],
)
def test_a_line_asks_for_each_name_that_is_checked_and_made_by_the_solution(solution, check, names):
    before = 'def f(x: int) -> int:\n    """Square x."""\n    '
    function = "### BEGIN SOLUTION\n    y = x\n\n    return y * y\n    ### END SOLUTION"
    source = f"{before}{function}\n\n\n### BEGIN SOLUTION\n{solution}\n### END SOLUTION\n# after"
    answers = "\n".join(f"{name} = ...  # your answer" for name in names)
    notebook = chapter(code(source, **HIDDEN), prose("Run:"), code(f"check({check})"))
    stub = student_notebook(notebook).cells[0].source
    assert stub == f"{before}...  # your code here\n\n\n{answers}\n# after"


@pytest.mark.parametrize(
    "source",
    [
        "a = 1",
        "### BEGIN SOLUTION\na = 1\n### BEGIN SOLUTION\n### END SOLUTION\n### END SOLUTION",
        "### BEGIN SOLUTION a = 1 ### END SOLUTION",
    ],
)
def test_a_solution_without_balanced_markers_is_refused_with_its_chapter(tmp_path, source):
    nbformat.write(chapter(prose("fine")), tmp_path / "00_fine.ipynb")
    nbformat.write(chapter(code(source, **HIDDEN)), tmp_path / "01_x.ipynb")
    with pytest.raises(ChapterError, match=r"01_x.ipynb: .*unbalanced markers") as refused:
        write_student_notebooks(tmp_path / "out", tmp_path)
    assert repr(source.split("\n")[0]) in str(refused.value)
    assert not (tmp_path / "out").exists()
    write_student_notebooks(tmp_path / "out", tmp_path, solved=True)


# What surrounds the stubs.


def test_only_solutions_lose_cells_and_metadata():
    mixed = chapter(
        prose("# Title\n\n[speed](../book/speed.md)"),
        code("epochs: int = 1", tags=["parameters"]),
        code("draw()", tags=["hide-input"], mystnb={"image": {"alt": "a picture"}}),
        code(SOLUTION, **HIDDEN, editable=True),
        code("check('1', a)"),
        prose("because", tags=["solution"]),
        kernelspec={"name": "python3", "display_name": "Python 3", "language": "python"},
        jupytext={"formats": "ipynb,py:percent"},
    )
    before = nbformat.writes(mixed)
    copy = student_notebook(mixed)
    assert nbformat.writes(mixed) == before
    nbformat.validate(copy)
    assert [cell.id for cell in copy.cells] == [cell.id for cell in mixed.cells[:-1]]
    for cell, original in zip(copy.cells, mixed.cells, strict=False):
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
        if original.source != SOLUTION:
            assert (cell.source, cell.metadata) == (original.source, original.metadata)
    assert copy.cells[3].metadata == {"editable": True}
    assert copy.metadata == {"kernelspec": mixed.metadata.kernelspec}


def test_links_lead_to_where_the_pages_are():
    text = (
        "[a](../book/batch.md), [b](../book/api/data.md#load), <a href='../book/c.md'>c</a>, "
        "[next](02_cnn.ipynb), [site](https://x.org/../book/x.md), `../book/code.md`\n\n"
        "[ref]: ../book/ref.md"
    )
    copy = student_notebook(chapter(prose(text)), "../site/book/{}.html")
    assert copy.cells[0].source == (
        "[a](../site/book/batch.html), [b](../site/book/api/data.html#load), "
        "<a href='../site/book/c.html'>c</a>, [next](02_cnn.ipynb), "
        "[site](https://x.org/../book/x.md), `../book/code.md`\n\n[ref]: ../site/book/ref.html"
    )


@pytest.mark.parametrize(
    ("make", "scripts"), [(dict, 1), (student_notebook, 0), (solved_notebook, 0)]
)
def test_saving_a_copy_in_jupyterlab_writes_no_script(tmp_path, make, scripts):
    paired = chapter(prose("# 1"), jupytext={"formats": "ipynb,py:percent"})
    nbformat.write(nbformat.from_dict(make(paired)), tmp_path / "a.ipynb")
    manager = TextFileContentsManager(root_dir=str(tmp_path))
    manager.save(manager.get("a.ipynb"), "a.ipynb")
    assert len([*tmp_path.glob("*.py")]) == scripts


# Writing.


@pytest.fixture
def chapters(tmp_path):
    """Give a folder with two small chapters."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for name in ("01_one", "02_two"):
        cells = (prose("[p](../book/p.md)"), code(SOLUTION, **HIDDEN), code("check('1', a)"))
        nbformat.write(chapter(*cells), folder / f"{name}.ipynb")
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_copy_with_answers_is_kept(tmp_path, chapters, capsys):
    one, two = (tmp_path / "mine" / f"{name}.ipynb" for name in ("01_one", "02_two"))
    command = ["student", str(tmp_path / "mine"), "--notebooks", str(chapters)]
    assert cli.main(command) == 0
    assert capsys.readouterr().out == f"written: {one}\nwritten: {two}\n"
    fresh = contents(tmp_path / "mine")
    one.write_text("my answers")
    two.unlink()
    assert cli.main(command) == 0
    assert capsys.readouterr().out.startswith(f"kept: {one}\nwritten: {two}\nto replace")
    assert one.read_text() == "my answers"
    assert cli.main([*command, "--solved"]) == 0
    assert capsys.readouterr().out.startswith(f"kept: {one}\nkept: {two}\nto replace")
    assert cli.main([*command, "--overwrite"]) == 0
    assert capsys.readouterr().out == f"written: {one}\nwritten: {two}\n"
    assert contents(tmp_path / "mine") == fresh


@pytest.mark.parametrize(
    ("place", "project", "link"),
    [
        ("mine", ".", "../book/p.md"),
        ("a b/c", ".", "../../book/p.md"),
        ("mine", "else where", "../else%20where/book/p.md"),
    ],
)
def test_links_lead_from_any_folder_to_the_projects_pages(tmp_path, chapters, place, project, link):
    (tmp_path / project).mkdir(exist_ok=True)
    chapters = chapters.rename(tmp_path / project / "notebooks")
    write_student_notebooks(tmp_path / place, chapters)
    (first, *_) = nbformat.read(tmp_path / place / "01_one.ipynb", 4).cells
    assert first.source == f"[p]({link})"


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("notebooks/../notebooks", "is the folder of the chapters themselves"),
        ("file", "the notebooks cannot be written to file"),
        ("full", "02_two.ipynb is a folder, expected a notebook"),
        ("mine --notebooks none", "no chapters in the folder none; run this in"),
    ],
)
def test_what_cannot_be_written_is_refused_in_one_sentence(
    chapters, monkeypatch, capsys, folder, words
):
    before = contents(chapters)
    monkeypatch.chdir(chapters.parent)
    Path("file").write_text("")
    Path("full/02_two.ipynb").mkdir(parents=True)
    assert cli.main(["student", *folder.split(), "--overwrite"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert contents(chapters) == before
    assert [path.name for path in Path("full").iterdir()] == ["02_two.ipynb"]
    assert not Path("mine").exists()


# The real chapters.


@pytest.fixture(scope="module")
def copies():
    return {
        n.removesuffix(".ipynb"): nbformat.reads(t, 4) for n, t in copy_chapters(FOLDER).items()
    }


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_students_copy_gives_nothing_away_compiles_and_has_working_links(name, copies):
    copy, original = copies[name], nbformat.read(FOLDER / f"{name}.ipynb", 4)
    nbformat.validate(copy)
    text = json.dumps(copy, ensure_ascii=False)
    assert "SOLUTION" not in text
    solutions = [c for c in original.cells if "solution" in c.metadata.get("tags", [])]
    for cell in solutions:
        given_away = re.findall("BEGIN SOLUTION\n(.*?)\n *### END", cell.source, re.DOTALL)
        longest = max(given_away or [cell.source], key=len)
        assert json.dumps(longest, ensure_ascii=False)[1:-1] not in text
    for cell in copy.cells:
        assert cell.get("outputs", []) == []
        if cell.cell_type == "markdown":
            for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", cell.source):
                assert (FOLDER / link).is_file(), link
        else:
            compile(re.sub(r"^%", "#", cell.source, flags=re.M), cell.source, "exec")
    others = [c.id for c in original.cells if c not in solutions or c.cell_type == "code"]
    assert [c.id for c in copy.cells] == others


def test_the_solved_copies_are_the_published_chapters():
    for name, text in copy_chapters(FOLDER, solved=True).items():
        chapter = nbformat.read(FOLDER / name, 4)
        del chapter.metadata["jupytext"]
        assert nbformat.reads(text, 4) == chapter
