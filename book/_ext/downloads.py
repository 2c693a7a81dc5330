"""Each chapter for download: as a notebook to solve, as the published notebook, and as a script.

The theme's download button offers the source of a page. For a chapter, two entries are added: the
student's copy, made here from the chapter, and the script next to the notebook. Neither notebook
is paired with that script, so that JupyterLab does not overwrite it.
"""

import shutil
from pathlib import Path

import nbformat

from fmnist_lib.course.student import solved_notebook, student_notebook

# Ending of the file behind the name of the chapter, text and tooltip of its entry in the menu.
STUDENT = ("_student.ipynb", ".ipynb, to solve", "Notebook with the exercises unsolved")
NOTEBOOK = (".ipynb", ".ipynb", "Notebook with outputs and solutions")
SCRIPT = (".py", ".py", "The same as a Python script")


def is_chapter(page):
    """Tell whether a page is a chapter: those are the pages that come from notebooks."""
    return page.startswith("notebooks/")


def _add_entries(app, page, template, context, doctree):
    if not is_chapter(page):
        return
    menus = (button for button in context["header_buttons"] if button["type"] == "group")
    (menu,) = (button for button in menus if button["label"] == "download-buttons")
    links = [
        {
            "type": "link",
            "url": context["pathto"](f"_sources/{page}{ending}", 1),
            "text": text,
            "tooltip": tooltip,
            "icon": "fas fa-file",
            "label": f"download{ending.replace('.', '-').replace('_', '-')}",
        }
        for ending, text, tooltip in (STUDENT, NOTEBOOK, SCRIPT)
    ]
    others = [entry for entry in menu["buttons"] if entry["type"] != "link"]
    menu["buttons"] = links + others


def _write_files(app, error):
    if error or app.builder.format != "html":
        return
    for page in filter(is_chapter, app.env.found_docs):
        source = Path(app.env.doc2path(page)).with_suffix("")
        target = Path(app.outdir) / "_sources" / page
        shutil.copyfile(f"{source}{SCRIPT[0]}", f"{target}{SCRIPT[0]}")
        notebook = nbformat.read(f"{source}.ipynb", as_version=4)
        nbformat.write(student_notebook(notebook), f"{target}{STUDENT[0]}")
        nbformat.write(solved_notebook(notebook), f"{target}{NOTEBOOK[0]}")


def setup(app):
    """Extend the menu when a page is made, and write the files when all are."""
    app.connect("html-page-context", _add_entries, priority=900)  # the theme's come before
    app.connect("build-finished", _write_files)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
