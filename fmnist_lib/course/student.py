"""Students' copies of the chapters, with the exercises unsolved.

A chapter holds the solution of each exercise in a code cell tagged ``solution``, between the lines
``### BEGIN SOLUTION`` and ``### END SOLUTION``, as in nbgrader (https://nbgrader.readthedocs.io).
A student's copy has a line to fill in instead, and keeps whatever is outside the markers: imports,
signatures, docstrings. Prose tagged ``solution`` is left out.
"""

import os
import re
from copy import deepcopy
from pathlib import Path
from urllib.parse import quote

import nbformat

from fmnist_lib.chapters import ChapterError, read_notebook
from fmnist_lib.common import staged

_MARKERS = re.compile("(?:BEGIN|END) SOLUTION")
# From the line with one marker to the line with the other: its indent, and what is in between.
_REGION = re.compile(
    r"^([ \t]*)[^\n]*BEGIN SOLUTION[^\n]*\n(.*?)[^\n]*END SOLUTION[^\n]*$", re.M | re.S
)
# What a link to a page of the site looks like in a chapter, up to the page's ending.
_LINK = re.compile(r"""(\]\(|\]:[ ]+|href=["'])\.\./book/([^\s)"'#]+)\.md\b""")


def student_notebook(notebook, pages="../book/{}.md"):
    """Make a student's copy of a chapter.

    Parameters
    ----------
    notebook : NotebookNode
        The chapter; it is not changed.
    pages : str
        Where links to the site's pages should lead, relative to the copy, with ``{}`` for the name
        of a page.

    Returns
    -------
    NotebookNode
        With the same cells and ids in the same order, except for the prose of solutions, and
        without any outputs. It is not paired with a script.

    Raises
    ------
    ChapterError
        If the markers of a solution are missing or unbalanced.
    """
    copy = solved_notebook(notebook, pages)
    code = [cell for cell in copy.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code):
        cell.outputs, cell.execution_count = [], None
        if _is_solution(cell) or _MARKERS.search(cell.source):
            check = code[number + 1].source if number + 1 < len(code) else ""
            cell.source = _make_stub(cell.source, check)
            for key in ("tags", "jupyter", "mystnb"):  # which fold it, or describe its figure
                cell.metadata.pop(key, None)
    copy.cells = [cell for cell in copy.cells if not _is_solution(cell)]
    return copy


def solved_notebook(notebook, pages="../book/{}.md"):
    """Make a copy of a chapter with solutions and outputs, for the same ``pages``.

    Only links are changed, and the copy is not paired with a script: JupyterLab would write one
    beside it.
    """
    copy = deepcopy(notebook)
    copy.metadata.pop("jupytext", None)
    for cell in copy.cells:
        if cell.cell_type == "markdown":
            cell.source = _LINK.sub(
                lambda link: link[1] + pages.replace("{}", link[2]), cell.source
            )
    return copy


def copy_chapters(notebooks, *, solved=False, pages="../book/{}.md"):
    """Make copies of all chapters in a folder, as texts by file name, in order.

    Solved copies keep solutions and outputs. The same chapters give the same texts. Raises
    ChapterError if there are no chapters, or one cannot be read or copied.
    """
    chapters = sorted(Path(notebooks).glob("*.ipynb"))
    if not chapters:
        raise ChapterError(
            f"no chapters in the folder {notebooks}; run this in the project's folder, or name "
            "the folder of the chapters with --notebooks"
        )
    make = solved_notebook if solved else student_notebook
    copies = {}
    for path in chapters:
        notebook = read_notebook(path)
        try:
            copies[path.name] = nbformat.writes(make(notebook, pages)) + "\n"
        except ChapterError as error:
            raise ChapterError(f"{path}: {error}") from None
    return copies


def write_student_notebooks(folder, notebooks="notebooks", *, solved=False, overwrite=False):
    """Write the copies of all chapters into a folder.

    The arguments are those of ``fmnist student``. Existing copies, with any answers in them, are
    kept unless ``overwrite`` is true.

    Returns
    -------
    dict of Path to bool
        For each copy, whether it was written; False where an earlier one was kept.

    Raises
    ------
    ChapterError
        As for `copy_chapters`, or if the folder is that of the chapters or cannot be written.
    """
    folder, notebooks = Path(folder), Path(notebooks)
    if os.path.realpath(folder) == os.path.realpath(notebooks):
        raise ChapterError(
            f"{folder} is the folder of the chapters themselves; name a different one"
        )
    pages = f"{quote(_relative(notebooks.parent / 'book', folder))}/{{}}.md"
    copies = copy_chapters(notebooks, solved=solved, pages=pages)
    with staged(folder, "the notebooks", ChapterError) as part:
        written = {folder / name: overwrite or not (folder / name).exists() for name in copies}
        if wrong := list(filter(Path.is_dir, written)):
            raise ChapterError(f"{wrong[0]} is a folder, expected a notebook; move it elsewhere")
        for path in filter(written.get, written):
            part.joinpath(path.name).write_text(copies[path.name], encoding="utf-8", newline="\n")
    return written


def _relative(path, start):
    path, start = os.path.realpath(path), os.path.realpath(start)
    try:
        return Path(os.path.relpath(path, start)).as_posix()
    except ValueError:  # on another drive of Windows
        return Path(path).as_posix()


def _is_solution(cell):
    return "solution" in cell.metadata.get("tags", [])


def _make_stub(source, check):
    """Replace what is between markers by lines to fill in: one in a function, else one per name."""
    stub, regions = _REGION.subn(lambda region: _fill_in(*region.groups(), check), source)
    if not regions or 2 * regions != len(_MARKERS.findall(source)):
        first = source.partition("\n")[0]
        raise ChapterError(
            f"the solution that starts with {first!r} has missing or unbalanced markers; put each "
            "part of it between the lines ### BEGIN SOLUTION and ### END SOLUTION"
        )
    return stub


def _fill_in(indent, solution, check):
    if indent:
        return f"{indent}...  # your code here"
    names = dict.fromkeys(re.findall(r"\b[A-Za-z_]\w*", check))
    # Those assigned in a line such as "a, b = 1, 2"; the rest come from the chapter.
    asked = [n for n in names if re.search(rf"^[\w, ]*\b{n}\b[\w, ]*=(?!=)", solution, re.M)]
    return "\n".join(f"{name} = ...  # your answer" for name in asked) or "...  # your code here"
