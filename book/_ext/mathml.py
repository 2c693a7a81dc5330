"""Formulas as MathML, made when the site is built.

Browsers draw MathML by themselves: a page with formulas needs no script, and no network. The
converter is docutils' own; a command that it does not know is a warning, which fails the build.
"""

import re
from html import escape

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import functions, tex2mathml
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

logger = logging.getLogger(__name__)

THIN_SPACE = '<mspace width="0.1667em"></mspace>'
# A function applied without parentheses, such as ln x or log₂ x, stands apart from its argument.
_NAMED = rf"<mi>(?:{'|'.join(functions)})</mi>"
APPLIED = re.compile(
    rf"({_NAMED}\s*<mo>&ApplyFunction;</mo>|<msub>\s*{_NAMED}\s*<(m\w)>[^<]*</\2>\s*</msub>)"
    r"(?=\s*<m(?!o\b))"
)
DOTS = re.compile(r"\\dots(?![a-z])")  # the one common command that docutils lacks


def to_mathml(latex, block=False):
    r"""Turn a formula into MathML.

    Parameters
    ----------
    latex : str
        Without dollars, such as ``\frac{1}{n}``.
    block : bool
        Whether it stands on a line of its own.

    Returns
    -------
    str
        A ``math`` element, with the LaTeX as an annotation for those who copy it.

    Raises
    ------
    docutils.utils.math.MathError
        If the converter does not know a command, or something is missing.
    """
    known = DOTS.sub(r"\\ldots", latex)
    try:
        opening, rest = tex2mathml(known, as_block=block).split(">", 1)
    except IndexError:  # the converter's own, where a script has nothing to stand at
        raise MathError("Something is missing before or behind a command.") from None
    inside = APPLIED.sub(rf"\1{THIN_SPACE}", rest.removesuffix("</math>"))
    annotation = f'<annotation encoding="application/x-tex">{escape(latex)}</annotation>'
    return f"{opening}><semantics><mrow>{inside}</mrow>{annotation}</semantics></math>"


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
