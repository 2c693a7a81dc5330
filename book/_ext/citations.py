"""Citations: a mark behind each paper that is named, which leads to the list of references.

The chapters name a paper by a plain Markdown link, which reads well in JupyterLab and on GitHub;
the docstrings by its number, ``arXiv:…`` or ``doi:…``. On the site, both are links, followed by the
number of the paper in the list. The papers are those of ``references.bib``; one that is not there
fails the build.
"""

import json
import re
from functools import lru_cache
from pathlib import Path

from pybtex.database import parse_file
from sphinx.util import logging

logger = logging.getLogger(__name__)

BIBLIOGRAPHY = Path(__file__).parents[1] / "references.bib"
SITES = (
    "arxiv.org",
    "doi.org",
    "distill.pub",
    "jmlr.org",
    "openreview.net",
    "papers.nips.cc",
    "proceedings.mlr.press",
)
LINK = rf"\]\((?P<address>https://(?:{'|'.join(map(re.escape, SITES))})/[^\s)]+)\)"
FENCE = r"^(?P<fence>`{3,}|~{3,})(?!\{).*?^(?P=fence)"  # of code, not of a directive
SPAN = r"(?<!`)(?P<ticks>`{1,2})(?!`)(?:(?!\n\n).)+?(?<!`)(?P=ticks)(?!`)"
LINK_OR_CODE = re.compile(f"{FENCE}|{SPAN}|{LINK}", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"\b(arXiv|doi):(\d[^\s,;]*\w)")
PREFIXES = {"arXiv": "https://arxiv.org/abs/", "doi": "https://doi.org/"}
NARROW_SPACE = "\N{NARROW NO-BREAK SPACE}"


@lru_cache
def papers():
    """Read the papers: address -> key of the entry in ``references.bib``."""
    found = {}
    for key, entry in parse_file(BIBLIOGRAPHY, bib_format="bibtex").entries.items():
        prefixes = {"doi": PREFIXES["doi"], "eprint": PREFIXES["arXiv"], "url": ""}
        fields = prefixes.keys() & entry.fields.keys()
        found |= {prefixes[field] + entry.fields[field]: key for field in fields}
    return found


def cite(markdown, missing=lambda address: None):
    """Put a citation behind each link to a paper, but for those in code.

    Parameters
    ----------
    markdown : str
    missing : callable
        Called with the address of each paper that is not in ``references.bib``.

    Returns
    -------
    str
    """

    def mark(found):
        address = found["address"]
        if address in papers():
            return f"{found[0]}{NARROW_SPACE}{{cite}}`{papers()[address]}`"
        if address:
            missing(address)
        return found[0]

    return LINK_OR_CODE.sub(mark, markdown)


def cite_docstring(text, missing=lambda address: None):
    """Turn each number of a paper into a link with a citation, as `cite` does in a page."""

    def mark(number):
        address = PREFIXES[number[1]] + number[2]
        if address in papers():
            return f"`{number[0]} <{address}>`__ :cite:`{papers()[address]}`"
        missing(address)
        return number[0]

    return NUMBER.sub(mark, text)


def _warn(place):
    def missing(address):
        logger.warning(
            "%s has no entry in book/references.bib; add one", address, location=place, type="cite"
        )

    return missing


def _cite_page(app, page, source):
    if not app.env.doc2path(page).endswith(".ipynb"):
        source[0] = cite(source[0], _warn(page))
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = cite("".join(cell["source"]), _warn(page))
    source[0] = json.dumps(notebook)


def _cite_docstring(app, what, name, obj, options, lines):
    lines[:] = [cite_docstring(line, _warn(app.env.docname)) for line in lines]


def setup(app):
    """Edit each page when it is read; the files stay as they are."""
    app.connect("source-read", _cite_page)
    app.connect("autodoc-process-docstring", _cite_docstring, priority=600)  # behind numpydoc
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
