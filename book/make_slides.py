"""Make slides of the chapters, for any browser and without a network: ``make slides``.

Slides follow the headings. A cell whose slide type (JupyterLab shows it among the properties of a
cell) is ``skip`` is left out, and one of the type ``notes`` is for the speaker alone. Of other
text, a slide shows the essence, and the notes hold all of it. A figure stands alone, or below a few
lines of text.
"""

import shutil
from pathlib import Path

import nbformat
import sphinx_revealjs
from headings import title
from nbconvert.exporters import SlidesExporter
from nbformat.v4 import new_code_cell
from slide_text import CODE_LINE, LINES, cell, render, text_slides
from traitlets.config import Config

HERE = Path(__file__).parent
TARGET = HERE / "_build" / "slides"
REVEAL = Path(sphinx_revealjs.__file__).parent / "_static" / "revealjs"


def arrange(cells):
    """Turn the cells of a chapter into those of its slides.

    Parameters
    ----------
    cells : sequence of NotebookNode
        With their slide types.

    Returns
    -------
    list of NotebookNode
        Each with the slide type by which nbconvert builds the slides.
    """
    slides, title, room = [], "", 0
    for source in cells:
        slide_type = source.metadata.get("slideshow", {}).get("slide_type", "-")
        if slide_type == "skip":
            continue
        if source.cell_type == "code":
            more, room = code_slides(source, title, room), 0
        elif slide_type == "notes":
            more = [cell(source.source, "notes")]
        else:
            more, title, room = text_slides(source.source, title)
        slides += more
    return slides


def code_slides(source, title, room=0):
    """Make slides of a code cell: one of it all where it fits, of a figure below few lines.

    Parameters
    ----------
    source : NotebookNode
    title : str
        Of the section, for the head of the slides.
    room : float
        Lines left on the slide before.

    Returns
    -------
    list of NotebookNode
    """
    outputs = [output for output in source.outputs if output.output_type != "error"]
    data = [output.get("data", {"text/plain": output.get("text", "")}) for output in outputs]
    figure = any("image/png" in shown for shown in data)
    hidden = figure or "hide-input" in source.metadata.get("tags", [])
    code = 0 if hidden else lines(source.source)
    printed = sum(lines(shown.get("text/plain", "")) + 1 for shown in data)
    parts = [(hidden, outputs)]
    if code and printed and code + printed > LINES:
        parts, printed = [(False, []), (True, outputs)], 0
    slides = []
    for without_source, its_outputs in parts:
        metadata = source.metadata | {"slideshow": {"slide_type": "-"}}
        metadata |= {"transient": {"remove_source": without_source}}
        part = new_code_cell(source.source, outputs=its_outputs, metadata=metadata)
        fits = not slides and (room >= LINES - 3 if figure else code + printed < room)
        slides += [part] if fits else [cell(f"## {title}", "subslide"), part]
    return slides


def lines(code):
    """Estimate the height of code, or of a table, in lines of text."""
    return CODE_LINE * len(code.splitlines()) + 1


def make_exporter():
    """Make nbconvert's exporter of slides, with the look and the Markdown of this course."""
    exporter = SlidesExporter(
        template_name="slides",
        extra_template_basedirs=[str(HERE)],
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        config=Config(CSSHTMLHeaderPreprocessor={"style": "a11y-high-contrast-light"}),
    )
    exporter.register_filter("markdown2html", render)
    return exporter


def make_slides(chapters, target):
    """Write the slides of chapters, and beside them what a browser needs to show them.

    Parameters
    ----------
    chapters : sequence of path
    target : path
        A folder, made anew.
    """
    shutil.rmtree(target, ignore_errors=True)
    (target / "reveal").mkdir(parents=True)
    files = ("dist/reveal.js", "dist/reveal.css", "plugin/notes/notes.js")
    for file in (*(REVEAL / file for file in files), HERE / "slides" / "slides.css"):
        shutil.copy(file, target / "reveal")
    exporter = make_exporter()
    for path in chapters:
        notebook = nbformat.read(path, as_version=4)
        notebook.cells = arrange(notebook.cells)
        notebook.metadata.title = title(notebook.cells)
        page, _ = exporter.from_notebook_node(notebook)
        (target / f"{path.stem}.slides.html").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    make_slides(sorted(HERE.parent.glob("notebooks/*.ipynb")), TARGET)
