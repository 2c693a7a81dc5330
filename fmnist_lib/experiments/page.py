"""The page of a run: the executed chapter as one file that a browser shows without a network."""

import warnings
from functools import cache
from html import escape
from pathlib import Path
from threading import Lock

from fmnist_lib.common import one_line

TEMPLATE = Path(__file__).with_name("page.html.jinja")
EXPORT_LOCK = Lock()  # threads share one exporter


def write_page(notebook):
    """Write the page of an executed notebook, a Path, beside it.

    A page that cannot be made is no reason to lose the run: this warns instead.
    """
    try:
        with EXPORT_LOCK:
            page, _ = _exporter().from_filename(str(notebook))
    except Exception as error:
        reason = one_line(error)
        warnings.warn(f"{notebook.stem} is kept without an HTML page: {reason}", stacklevel=2)
        return
    # The page holds the folder's name, which may have bytes that are not UTF-8.
    notebook.with_suffix(".html").write_text(page, encoding="utf-8", errors="surrogateescape")


@cache
def _exporter():
    """Make an exporter once: compiling its templates takes longer than exporting a notebook."""
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    # Widgets need a script from another site, so the text beside them is shown instead.
    kinds = ("text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg", "text/plain")
    return HTMLExporter(
        config=Config(NbConvertBase={"display_data_priority": list(kinds)}),
        extra_template_basedirs=[],  # not the working folder, whose templates could execute code
        raw_template=TEMPLATE.read_text(encoding="utf-8"),
        filters={"markdown2html": _markdown_filter()},
    )


def _markdown_filter():
    from docutils.utils.math import MathError
    from jinja2 import pass_context
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    from fmnist_lib.experiments.mathml import to_mathml

    def draw(formula, block):
        try:
            return to_mathml(formula.strip(), block)
        except MathError:
            return f"<code>{escape(formula)}</code>"

    class Renderer(IPythonRenderer):
        def inline_math(self, body):
            return draw(body, block=False)

        def block_math(self, body):
            return draw(body, block=True)

        def link(self, text, url, title=None):
            # What lies beside the chapter does not lie beside the run.
            return super().link(text, url, title) if url.startswith(("http", "#")) else text

    @pass_context
    def to_html(context, source):
        renderer = Renderer(escape=False, attachments=context["cell"].get("attachments"))
        return MarkdownWithMath(renderer).render(source)

    return to_html
