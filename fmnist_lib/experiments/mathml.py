"""Formulas as MathML, for the site and for the pages of runs.

Browsers draw MathML by themselves: a page with formulas needs no script, and no network. The
converter is docutils' own.
"""

import re
from html import escape

from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import functions, tex2mathml

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
