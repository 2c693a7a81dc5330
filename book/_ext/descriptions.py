"""A description of each page for search engines: its first paragraph."""

import re
import textwrap
from html import escape

from docutils import nodes

LONGEST = 200  # characters; engines show about that many


def describe(doctree):
    """Take the first paragraph of a page as plain text.

    Parameters
    ----------
    doctree : docutils.nodes.document

    Returns
    -------
    str
        Cut at the end of a word, without the numbers of citations; empty for an empty page.
    """
    for paragraph in doctree.findall(nodes.paragraph):
        text = re.sub(r"\s?\[\d+\]", "", paragraph.astext())
        return textwrap.shorten(text, LONGEST, placeholder=" …")
    return ""


def _add_description(app, page, template, context, doctree):
    if doctree and (text := describe(doctree)):
        context["metatags"] += f'<meta name="description" content="{escape(text)}" />\n'


def setup(app):
    """Add a meta element to the head of each page."""
    app.connect("html-page-context", _add_description)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
