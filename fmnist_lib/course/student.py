"""The students' copies of the chapters, in which the exercises are unsolved.

A chapter holds the solution of each exercise in a code cell tagged ``solution``, followed by the
cell that checks the answer. In a student's copy the solution is a stub: a line for each name that
the check asks for, or the head of each function. Prose tagged ``solution`` is left out.
"""

import ast
import io
import os
import re
import shutil
import symtable
import tempfile
import tokenize
from copy import deepcopy
from itertools import dropwhile, groupby, takewhile
from pathlib import Path
from urllib.parse import quote

import nbformat

from fmnist_lib.chapters import ChapterError, read_notebook
from fmnist_lib.course.checksums import what_is_no_folder

SOLUTION = "solution"
ANSWER = "...  # your answer"
CODE = "...  # your code here"
PART = ".copies-"
# What a link to a page of the site looks like in a chapter, up to the page's ending.
_LINK = re.compile(r"""(\]\(|\]:[ ]+|href=["'])\.\./book/([^\s)"'#]+)\.md\b""")
# Metadata that hides a solution, or describes its figure.
_OF_SOLUTIONS = {
    "tags": {SOLUTION, "hide-input"},
    "jupyter": {"source_hidden"},
    "mystnb": {"code_prompt_show", "code_prompt_hide", "image"},
}


def student_notebook(notebook, *, pages="../book/{}.md"):
    """Make a student's copy of a chapter.

    Parameters
    ----------
    notebook : NotebookNode
        The chapter; it is left as it is.
    pages : str
        Where the site's pages lie, seen from the copy, with ``{}`` for the name of a page. Links
        to pages are changed to it.

    Returns
    -------
    NotebookNode
        With the same cells and ids in the same order, but for the prose of solutions, and without
        any outputs. It is not paired with a script.

    Raises
    ------
    ChapterError
        If a solution is not followed by a cell that checks it, or is not Python.
    """
    copy = solved_notebook(notebook, pages=pages)
    for index, cell in enumerate(copy.cells):
        if cell.cell_type != "code":
            continue
        if _is_solution(cell):
            cell.source = _make_stub(copy.cells, index)
            _strip(cell.metadata)
        cell.outputs, cell.execution_count = [], None
    copy.cells = [cell for cell in copy.cells if not _is_solution(cell)]
    copy.metadata.pop("jupytext", None)
    return copy


def solved_notebook(notebook, *, pages="../book/{}.md"):
    """Make a copy of a chapter in which only the links to pages are changed.

    Parameters
    ----------
    notebook : NotebookNode
        The chapter, with solutions and outputs; it is left as it is.
    pages : str
        As for `student_notebook`.

    Returns
    -------
    NotebookNode
    """
    copy = deepcopy(notebook)
    for cell in copy.cells:
        if cell.cell_type == "markdown":
            cell.source = _LINK.sub(
                lambda link: link[1] + pages.replace("{}", link[2]), cell.source
            )
    return copy


def copy_chapters(notebooks, *, solved=False, pages="../book/{}.md"):
    """Make the copies of all chapters.

    Parameters
    ----------
    notebooks : path
        The folder of the chapters.
    solved : bool
        With solutions and outputs, as for `solved_notebook`.
    pages : str
        As for `student_notebook`.

    Returns
    -------
    dict of str to str
        The text of each copy by the name of its file, in the order of the chapters. The same
        chapters give the same texts.

    Raises
    ------
    ChapterError
        If there are no chapters, or one cannot be read or copied.
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
            copies[path.name] = nbformat.writes(make(notebook, pages=pages)) + "\n"
        except ChapterError as error:
            raise ChapterError(f"{path}: {error}") from None
    return copies


def write_student_notebooks(folder, notebooks="notebooks", *, solved=False, overwrite=False):
    """Write the copies of all chapters into a folder, where those that are there are kept.

    Parameters
    ----------
    folder : path
    notebooks : path
        The folder of the chapters.
    solved : bool
        With solutions and outputs instead.
    overwrite : bool
        Replace the copies that are there, with whatever has been worked into them.

    Returns
    -------
    dict of Path to bool
        For each copy, whether it was written; False where it was there and was kept.

    Raises
    ------
    ChapterError
        As for `copy_chapters`, or if the folder is that of the chapters, is none, or cannot be
        written; then no copy is half written.
    """
    folder, notebooks = Path(folder), Path(notebooks)
    if os.path.realpath(folder) == os.path.realpath(notebooks):
        raise ChapterError(f"{folder} is the folder of the chapters themselves; name another one")
    if words := what_is_no_folder(folder):
        raise ChapterError(f"{words}; name a folder for the notebooks")
    pages = f"{quote(_relative(notebooks.parent / 'book', folder))}/{{}}.md"
    copies = copy_chapters(notebooks, solved=solved, pages=pages)
    wanted = {folder / name: text for name, text in copies.items()}
    if taken := [path for path in wanted if os.path.isdir(path)]:
        raise ChapterError(
            f"{taken[0]} is a folder, expected a notebook or nothing; move it away, or name "
            "another folder for the notebooks"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"{PART}*"):  # by a run that was killed
            shutil.rmtree(left)
        written = {path: overwrite or not path.exists() for path in wanted}
        with tempfile.TemporaryDirectory(dir=folder, prefix=PART) as part:
            moves = {Path(part, path.name): path for path in wanted if written[path]}
            for source, path in moves.items():
                source.write_text(wanted[path], encoding="utf-8", newline="\n")
            for source, path in moves.items():
                os.replace(source, path)
    except OSError as error:
        raise ChapterError(
            f"the notebooks cannot be written to {folder} ({error.strerror}); make room or give "
            "rights there, or name another folder"
        ) from None
    return written


def _relative(path, start):
    path, start = os.path.realpath(path), os.path.realpath(start)
    try:
        return Path(os.path.relpath(path, start)).as_posix()
    except ValueError:  # on another drive of Windows
        return Path(path).as_posix()


def _is_solution(cell):
    return SOLUTION in cell.metadata.get("tags", [])


def _strip(metadata):
    for key, names in _OF_SOLUTIONS.items():
        if isinstance(entry := metadata.get(key), list):
            entry[:] = [name for name in entry if name not in names]
        elif entry:
            for name in names:
                entry.pop(name, None)
        if not entry:
            metadata.pop(key, None)


def _make_stub(cells, index):
    try:
        return _stub(cells[index].source, _asked_for(cells, index))
    except SyntaxError as error:
        raise ChapterError(
            f"the solution in cell {index + 1}, or its check, is not plain Python ({error.msg}); "
            "write it without commands of IPython"
        ) from None


def _asked_for(cells, index):
    """Collect the names in the cells that check a solution: those up to the next solution."""
    behind = dropwhile(_is_solution, cells[index + 1 :])
    code = (cell for cell in behind if cell.cell_type == "code")
    own = takewhile(lambda cell: not _is_solution(cell), code)
    checks = [cell.source for cell in own if re.search(r"\bcheck\(", cell.source)]
    if not checks:
        begins = cells[index].source.partition("\n")[0]
        raise ChapterError(
            f"the solution in cell {index + 1} ({begins!r}) is not followed by a cell that checks "
            "it; add one with check(...)"
        )
    nodes = (node for source in checks for node in ast.walk(ast.parse(source)))
    return {node.id for node in nodes if isinstance(node, ast.Name)}


def _stub(source, asked):
    blocks = {}
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            text = ast.get_source_segment(source, statement)
            blocks[text] = text
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if statement.name in asked:
                blocks.setdefault(statement.name, _skeleton(source, statement))
        else:
            for name in _assigned(statement):
                if name in asked:
                    blocks.setdefault(name, f"{name} = {ANSWER}")
    # Lines stand together, and each function or class for itself.
    groups = groupby(blocks.values(), lambda block: block if block.endswith(CODE) else None)
    return "\n\n\n".join("\n".join(group) for _, group in groups) or CODE.removeprefix("...  ")


def _assigned(statement):
    table = symtable.symtable(ast.unparse(statement), "cell", "exec")
    return [symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned()]


def _skeleton(source, node):
    """Cut a function or class down to its decorators, its signature and its docstring."""
    lines = source.split("\n")
    first = min(part.lineno for part in (node, *node.decorator_list))
    row, column = _end_of_signature(lines[node.lineno - 1 :])
    last = node.lineno + row - 1  # counted from 1, as rows and line numbers are
    kept = [*lines[first - 1 : last - 1], lines[last - 1][:column]]
    inner = node.body[0]
    indent = " " * (inner.col_offset if inner.lineno > last else 4)
    if ast.get_docstring(node) is not None:
        kept.append(indent + ast.get_source_segment(source, inner))
    return "\n".join([*kept, indent + CODE])


def _end_of_signature(lines):
    depth = 0
    for token in tokenize.generate_tokens(io.StringIO("\n".join(lines)).readline):
        depth += (token.string in {"(", "[", "{"}) - (token.string in {")", "]", "}"})
        if token.string == ":" and depth == 0:
            return token.end
    raise SyntaxError("a definition without a colon")
