"""Make claims.md, the list of what the chapters claim, from the chapters' outputs."""

import json
import re
from pathlib import Path

HERE = Path(__file__).parent
NOTEBOOKS = HERE.parent / "notebooks"

INTRODUCTION = """\
# What the chapters claim

A **claim** is a statement of a chapter about a result that was just computed: that a number lies in
a band, or that one thing is larger than another. A line that begins with ✓ was printed by the cell
above it, which has checked the statement and fails where it is false. The line holds no digit that
another machine would not give, so the tests execute the cell again and compare the line to the
letter: [how, and why](design.md#numbers-that-hold-on-another-machine).

Here is every claim, in the words of the published outputs, with the number of its cell. Claims
about a training are checked for the chapter's default parameters; with others they are printed all
the same, marked ○ as not checked. There are {total} claims in {chapters} chapters.
"""


def read(path):
    """Read a chapter: its title, and its claims with the number of the cell that makes each."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    title = "".join(cells[0]["source"]).splitlines()[0].removeprefix("# ")
    claims = []
    for cell in cells:
        printed = ("".join(output.get("text", "")) for output in cell.get("outputs", []))
        lines = "".join(printed).splitlines()
        claims += [(cell["execution_count"], line[2:]) for line in lines if line.startswith("✓ ")]
    return title, claims


def section(path, title, claims):
    """Write the section of a chapter."""
    rows = [f"| [{number}] | {literally(words)} |" for number, words in claims]
    head = [f"## [{title}](../notebooks/{path.name})", "", f"{len(claims)} claims:", ""]
    return "\n".join([*head, "| cell | claim |", "| --- | --- |", *rows]) + "\n"


def literally(words):
    """Escape what Markdown would take for a mark."""
    return re.sub(r"([\\`*_|<>$\[\]])", r"\\\1", words)


def page():
    """Write the whole page."""
    chapters = {path: read(path) for path in sorted(NOTEBOOKS.glob("*.ipynb"))}
    total = sum(len(claims) for _, claims in chapters.values())
    sections = [section(path, *what) for path, what in chapters.items()]
    return "\n".join([INTRODUCTION.format(total=total, chapters=len(chapters)), *sections])


if __name__ == "__main__":
    (HERE / "claims.md").write_text(page(), encoding="utf-8")
