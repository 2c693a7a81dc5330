"""The headings of a chapter, for the pages that are made from the chapters."""

import json
import re


def read_cells(path):
    """Read the cells of a notebook."""
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def title(cells):
    """Find the title of a chapter."""
    return "".join(cells[0]["source"]).splitlines()[0].removeprefix("# ")


def sections(cells, name):
    """Find the section of each code cell of the chapter ``name.ipynb``.

    Returns
    -------
    dict of int to str
        From the number of a cell to a link to the section: a reader of the site sees no numbers.
    """
    heading, anchor, found = "Beginning", "", {}
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            found[cell["execution_count"]] = f"[{heading}](../notebooks/{name}.ipynb{anchor})"
        elif headings := re.findall(r"^## (.+)$", source, re.MULTILINE):
            heading = headings[-1]
            # As MyST makes it.
            anchor = "#" + re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
    return found
