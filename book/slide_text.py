"""From the prose of a chapter to what a slide shows, and what its speaker reads.

A slide shows what one can read from the back of a room: the heading, the first sentence, sentences
with a term in bold, lists, tables and formulas. The whole text goes into the speaker's notes.
"""

import re
from math import ceil

from _ext.mathml import to_mathml
from markdown_it import MarkdownIt
from mdit_py_plugins.colon_fence import colon_fence_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from nbformat.v4 import new_markdown_cell

LINES, LETTERS = 14, 70  # of text on a slide, and in a line
SHORT = 40  # letters: an opening that is shorter takes the next sentence with it
CODE_LINE = 0.8  # of a line of text is the height of a line of code, or of the row of a table
HIDDEN = ("paragraph_open", "colon_fence")  # a paragraph leads to neither; hints are for the notes
SENTENCE = re.compile(r"(?<=[.?!])\s+(?=[A-Z*`$“])")
ITEM = re.compile(r"\n(?=[-*] |\d+\. )")
LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)(?:(\w+)\.ipynb)?[^)]*\)")
DIRECTIVE = re.compile(r"\{(\w+)\}\s*(.*)")


def _formula(latex, options):
    return to_mathml(latex, block=options["display_mode"])


def _directive(tokens, index, *others):
    _, title, body = _parts(tokens[index])
    return f"<p><strong>{markdown.renderInline(title)}</strong></p>\n{markdown.render(body)}"


markdown = (
    MarkdownIt("commonmark", {"html": True})
    .enable("table")
    .use(colon_fence_plugin)
    .use(dollarmath_plugin, renderer=_formula)
)
markdown.renderer.rules["colon_fence"] = _directive


def render(text):
    """Turn MyST's Markdown into HTML; of the links inside the site, those between chapters stay."""

    def relink(match):
        return f"[{match[1]}]({match[2]}.slides.html)" if match[2] else match[1]

    return markdown.render(LINK.sub(relink, text))


def cell(text, slide_type):
    """Make a Markdown cell of a slide."""
    return new_markdown_cell(text, metadata={"slideshow": {"slide_type": slide_type}})


def text_slides(text, title):
    """Make slides of a Markdown cell.

    Parameters
    ----------
    text : str
    title : str
        Of the slide before, which stays where the text begins without a heading.

    Returns
    -------
    cells : list of NotebookNode
        Each a slide, a subslide, or notes.
    title : str
        Of the last heading.
    room : float
        Lines left on the last slide, for code that the text leads to.
    """
    cells, prose, level, room = [], [], 0, 0
    for token, block in [*_blocks(text), (None, "")]:
        if token and not _starts_slide(token):
            prose.append((token, block))
            continue
        more, room = _prose_slides(prose, title, level)
        cells, prose, level = cells + more, [], 0
        if token and token.type == "heading_open":
            marks, title = block.split(" ", 1)
            level = len(marks)
        elif token:
            cells += _admonition_slide(token)
    return cells, title, room


def _blocks(text):
    """List the paragraphs, lists, formulas and so on of a text, each with its first token."""
    lines = text.splitlines()
    tokens = [token for token in markdown.parse(text) if token.level == 0 and token.map]
    return [(token, "\n".join(lines[slice(*token.map)]).strip()) for token in tokens]


def _starts_slide(token):
    return token.type == "heading_open" or token.info.startswith("{admonition}")


def _prose_slides(prose, title, level):
    """Make slides of what follows a heading of a level (0: follows something else)."""
    notes = [cell("\n\n".join(block for _, block in prose), "notes")] if prose else []
    pages = [[]]
    for block in _essence(prose, level):
        if pages[-1] and sum(map(_height, [*pages[-1], block])) > LINES:
            pages.append([])
        pages[-1].append(block)
    if not level and not pages[0]:
        return notes, 0
    mark = "#" if level == 1 else "##"
    texts = ["\n\n".join([f"{mark} {title}", *blocks]) for blocks in pages]
    first = cell(texts[0], "slide" if level in (1, 2) else "subslide")
    slides = [first, *notes, *(cell(text, "subslide") for text in texts[1:])]
    return slides, LINES - sum(map(_height, pages[-1])) if len(pages) == 1 else 0


def _essence(prose, level):
    """Choose from the prose of a section what its slides show; what belongs together is one."""
    shown, leads = [], False
    for i, (token, block) in enumerate(prose):
        if token.type == "paragraph_open" and not block.startswith("**Time:**"):
            leads = i + 1 < len(prose) and prose[i + 1][0].type not in HIDDEN
            kept = _telling_sentences(block, opens=level and i == 0, leads=leads)
            shown += [" ".join(kept)] if kept else []
        elif token.type not in HIDDEN:
            if token.type.endswith("list_open") and _height(block) > LINES - 4:
                block = "\n".join(map(_first_sentence, ITEM.split(block)))
            if leads and _height(together := f"{shown[-1]}\n\n{block}") <= LINES:
                shown[-1] = together
            else:
                shown.append(block)
            leads = False
    return shown


def _telling_sentences(paragraph, opens, leads):
    """Keep sentences with a term in bold, one that leads to a list or formula, and the opening."""
    kept, before = [], 0
    sentences = SENTENCE.split(" ".join(paragraph.split()))
    for k, sentence in enumerate(sentences):
        opening = opens and before < SHORT
        if "**" in sentence or opening or (leads and k == len(sentences) - 1):
            kept.append(sentence)
        before += len(sentence)
    return kept


def _first_sentence(item):
    mark, text = " ".join(item.split()).split(" ", 1)
    return f"{mark} {SENTENCE.split(text)[0]}"


def _height(block):
    """Estimate the height of blocks, in lines of text."""
    if "\n\n" in block:
        return sum(map(_height, block.split("\n\n")))
    if block.startswith("$$"):
        return 3
    if block.startswith(("```", "|")):
        return CODE_LINE * len(block.splitlines()) + 1
    items = ITEM.split(re.sub(r"\]\([^)]*\)", "", block))
    return sum(ceil(len(item) / LETTERS) for item in items) + 0.5


def _admonition_slide(token):
    """Make a slide of a question or an exercise; hints and answers go into the notes."""
    _, title, body = _parts(token)
    shown, options, notes = [], [], []
    for inner, block in _blocks(body):
        if inner.type == "colon_fence":
            _, option, answer = _parts(inner)
            tick = ' <span class="fragment">✓</span>' if answer.startswith("Right.") else ""
            options.append(f"<li>{markdown.renderInline(option)}{tick}</li>")
            notes.append(block)
        else:
            shown.append(block)
    if options:
        shown.append('<ol type="A">\n' + "\n".join(options) + "\n</ol>")
    slide = cell("\n\n".join([f"## {title}", *shown]), "subslide")
    return [slide, cell("\n\n".join(notes), "notes")] if notes else [slide]


def _parts(token):
    """Take a directive apart: its name, its title, and its body without options."""
    name, title = DIRECTIVE.fullmatch(token.info.strip()).groups()
    return name, title, re.sub(r"\A(:[\w-]+:.*\n)+", "", token.content).strip()
