"""Make claims.md, the list of what the chapters claim, from the chapters' outputs."""

import json
import re
from itertools import groupby
from operator import itemgetter
from pathlib import Path

HERE = Path(__file__).parent
NOTEBOOKS = HERE.parent / "notebooks"

INTRODUCTION = """\
# What the chapters claim

A **claim** is a statement of a chapter about a result that was just computed: that a number lies in
a band, or that one thing is larger than another. A line that begins with ✓ was printed by the cell
above it, which has checked the statement and fails if it is false. The line holds no digit that
another machine would not give, so the tests execute the cell again and compare the line to the
letter: [how, and why](design.md#numbers-that-hold-on-another-machine).

Here is every claim, in the words of the published outputs, with the section it belongs to.
Claims about a training run are checked for the chapter's default parameters; with others they are
printed all the same, marked ○ as not checked. A claim about seconds that does not hold is printed,
marked ✗, and stops nothing: another program may have kept the machine busy.
There are {total} claims in {chapters} chapters.
"""


def read(path):
    """Read a chapter: its title, and its claims, each with a link to its section."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    title = "".join(cells[0]["source"]).splitlines()[0].removeprefix("# ")
    link, claims = f"[Beginning](../notebooks/{path.name})", []
    for cell in cells:
        source = "".join(cell["source"])
        headings = re.findall(r"^## (.+)$", source, re.MULTILINE)
        if cell["cell_type"] == "markdown" and headings:
            link = f"[{headings[-1]}](../notebooks/{path.name}#{anchor(headings[-1])})"
        printed = ("".join(output.get("text", "")) for output in cell.get("outputs", []))
        lines = "".join(printed).splitlines()
        claims += [(link, line[2:]) for line in lines if line.startswith("✓ ")]
    return title, claims


def anchor(heading):
    """Name the anchor of a heading as MyST does."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def section(path, title, claims):
    """Write the part of a chapter."""
    lines = [f"## [{title}](../notebooks/{path.name})", "", f"{len(claims)} claims."]
    for link, group in groupby(claims, key=itemgetter(0)):
        lines += ["", link, "", *(f"- {escape(words)}" for _, words in group)]
    return "\n".join(lines) + "\n"


def escape(words):
    """Escape what Markdown would take for markup."""
    return re.sub(r"([\\`*_|<>$\[\]])", r"\\\1", words)


def page():
    """Write the whole page."""
    chapters = {path: read(path) for path in sorted(NOTEBOOKS.glob("*.ipynb"))}
    total = sum(len(claims) for _, claims in chapters.values())
    sections = [section(path, *chapter) for path, chapter in chapters.items()]
    return "\n".join([INTRODUCTION.format(total=total, chapters=len(chapters)), *sections])


if __name__ == "__main__":
    (HERE / "claims.md").write_text(page(), encoding="utf-8")
