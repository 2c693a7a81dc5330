"""Formulas as MathML, made when the site is built.

A command that the converter does not know is a warning, which fails the build.
"""

from html import escape

from docutils import nodes
from docutils.utils.math import MathError
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

from fmnist_lib.experiments.mathml import to_mathml

logger = logging.getLogger(__name__)


def _convert(node, block):
    latex = node.astext().strip()
    try:
        return to_mathml(latex, block)
    except MathError as error:
        logger.warning(
            "the formula %r cannot be drawn: %s Write it with commands that docutils knows.",
            latex,
            error,
            location=node,
            type="mathml",
        )
        return f"<code>{escape(latex)}</code>"


def _visit_inline(translator, node):
    translator.body.append(_convert(node, block=False))
    raise nodes.SkipNode


def _visit_block(translator, node):
    translator.body.append(translator.starttag(node, "div", CLASS="math"))
    if node["number"]:
        number = get_node_equation_number(translator, node)
        translator.body.append(f'<span class="eqno">({number})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    translator.body.append(_convert(node, block=True) + "</div>\n")
    raise nodes.SkipNode


def setup(app):
    """Register the renderer; ``html_math_renderer`` in the configuration chooses it."""
    app.add_html_math_renderer("mathml", (_visit_inline, None), (_visit_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
