"""Slides: what is shown, what is for the speaker, and that nothing is fetched from the net."""

import importlib
import re
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from docutils.utils.math import MathError

ROOT = Path(__file__).parent.parent
PNG = "iVBORw0KGgo="
ALT = "A grid of clothes, each with its name."

OPENING = """\
# 2 · A network

It looks for *small* patterns. It has more to it than fits on a slide.

**After this chapter you can**

- say what a convolution computes;
- count the parameters.

**Time:** three minutes.
"""
SECTION = """\
## What a convolution is

Take a table of weights, three by three of them. Lay it on the image. A **kernel** is such a table.
Move it on, and multiply with pixels $x_i$. The number is

$$m = b + \\sum_i w_i x_i.$$

See [chapter 3](03_dilated_cnn.ipynb), [speed](../book/speed.md) and [a paper](https://arxiv.org).

::::{admonition} Question
:class: question

How many weights?

:::{dropdown} Three of them
No. Rows and columns.
:::
:::{dropdown} Nine, $3^2$
Right. Three by three.
:::
::::
"""
EXERCISE = """\
## Exercises

:::{admonition} Exercise 2.1: One more
:class: exercise

Count them again.
:::

:::{dropdown} Hint
Follow the image.
:::
"""


@pytest.fixture(scope="module")
def modules():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "book")
        yield importlib.import_module("make_slides"), importlib.import_module("slide_text")


def prose(text, slide_type="slide"):
    return nbformat.v4.new_markdown_cell(text, metadata={"slideshow": {"slide_type": slide_type}})


def code(source, *outputs, slide_type="subslide", **metadata):
    metadata |= {"slideshow": {"slide_type": slide_type}}
    return nbformat.v4.new_code_cell(source, outputs=list(outputs), metadata=metadata)


def printed(text):
    return nbformat.v4.new_output("stream", text=text)


FIGURE = nbformat.v4.new_output("display_data", data={"image/png": PNG, "text/plain": "<Figure>"})


@pytest.fixture(scope="module")
def deck(modules, tmp_path_factory):
    """Make slides of a small chapter: (folder, page)."""
    folder = tmp_path_factory.mktemp("slides")
    cells = [
        prose(OPENING),
        code("import torch", slide_type="skip"),
        prose(SECTION),
        code("print('short')", printed("short\n")),
        code("figure = draw()", FIGURE, mystnb={"image": {"alt": ALT}}),
        prose("Only the speaker says this.", "notes"),
        code("\n".join(f"line_{i} = {i}" for i in range(9)), printed("number\n" * 9)),
        prose(EXERCISE),
        code("answer = 9", slide_type="skip"),
        prose(":::{dropdown} Why\nBecause it is so.\n:::", "notes"),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "02_cnn.ipynb")
    modules[0].make_slides([folder / "02_cnn.ipynb"], folder / "out")
    page = (folder / "out/02_cnn.slides.html").read_text(encoding="utf-8")
    return folder / "out", BeautifulSoup(page, "html.parser")


@pytest.fixture
def slides(deck):
    """List the slides in their order: text without notes, notes, and the element."""
    shown = []
    for section in deck[1].select("main.slides > section > section"):
        copy = BeautifulSoup(str(section), "html.parser")
        notes = " ".join(note.extract().get_text(" ") for note in copy.select("aside.notes"))
        text = copy.get_text(" ")
        shown.append((" ".join(text.split()), " ".join(notes.split()), section))
    return shown


def test_whatever_the_page_loads_stands_beside_it(deck):
    folder, page = deck
    loaded = [tag["src"] for tag in page.select("script[src], img[src], iframe[src]")]
    loaded += [tag["href"] for tag in page.select("link[href]")]
    files = [address for address in loaded if not address.startswith("data:image/png;base64,")]
    assert len(files) == 4
    assert all((folder / file).stat().st_size > 1000 for file in files)
    inside = "".join(tag.get_text() for tag in page.select("style, script"))
    styles = "".join(path.read_text(encoding="utf-8") for path in folder.glob("reveal/*.css"))
    assert not re.search(r"@import|url\(\s*['\"]?(?!data:|#)", inside + styles)


def test_headings_begin_slides_and_the_rest_lies_below_them(deck, slides):
    columns = [
        [heading.get_text() for heading in column.select("h1, h2")]
        for column in deck[1].select("main.slides > section")
    ]
    section = "What a convolution is"
    assert columns == [
        ["2 · A network"],
        [section, "Question", section, section, section, section],
        ["Exercises", "Exercise 2.1: One more"],
    ]
    assert deck[1].title.get_text() == "2 · A network · slides"


def test_a_slide_shows_the_essence_and_the_speaker_has_all_of_it(slides):
    shown, notes, _ = slides[0]
    assert "It looks for small patterns. It has more to it" in shown  # the opening is short
    assert "count the parameters" in shown
    assert "three minutes" not in shown
    assert "three minutes" in notes
    shown, notes, element = slides[1]
    essence = (
        "Take a table of weights, three by three of them. A kernel is such a table. The number"
    )
    assert essence in shown
    assert "Lay it on the image" not in shown
    assert "Lay it on the image. A kernel is such a table. Move it on" in notes
    assert element.find("math", display="block")
    assert len(element.select("aside math")) == 2


def test_links_lead_to_slides_or_out_or_are_none(slides):
    links = {link.get_text(): link["href"] for link in slides[1][2].select("a")}
    assert links == {"chapter 3": "03_dilated_cnn.slides.html", "a paper": "https://arxiv.org"}
    assert "speed" in slides[1][1]


def test_answers_are_for_the_speaker_until_they_are_shown(slides):
    shown, notes, element = slides[2]
    options = element.select("ol[type=A] > li")
    assert [option.contents[0].strip() for option in options] == ["Three of them", "Nine,"]
    ticks = [[tick.get_text() for tick in option.select(".fragment")] for option in options]
    assert ticks == [[], ["✓"]]
    assert "Rows and columns" not in shown
    assert "Rows and columns" in notes
    shown, notes, _ = slides[-1]
    assert shown == "Exercise 2.1: One more Count them again."
    assert "Follow the image" in notes
    assert "Because it is so" in notes


def test_a_figure_stands_alone_with_its_text(slides):
    _, notes, element = slides[4]
    assert element.img["alt"] == ALT
    assert element.pre is None
    assert notes == "Only the speaker says this."


def test_long_code_and_its_output_are_two_slides_and_short_ones_are_one(slides):
    assert slides[3][0] == "What a convolution is print ( 'short' ) short"
    assert "line_8" in slides[5][0]
    assert "number" not in slides[5][0]
    assert slides[6][0].endswith("number number")
    assert "line_8" not in slides[6][0]


def test_what_is_skipped_is_nowhere(deck):
    assert "import" not in deck[1].main.get_text()
    assert "answer = 9" not in deck[1].main.get_text()


def test_code_follows_on_the_slide_of_the_text_that_leads_to_it(modules):
    cells = modules[0].arrange([prose("## Two\n\nTry it."), code("1 + 1")])
    assert [cell.metadata.slideshow.slide_type for cell in cells] == ["slide", "notes", "-"]


def test_a_formula_that_cannot_be_drawn_stops_it(modules):
    with pytest.raises(MathError):
        modules[1].render(r"$\nosuchcommand{x}$")


def test_no_slide_of_the_chapters_is_taller_than_the_stage(modules):
    make_slides, slide_text = modules
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in make_slides.arrange(nbformat.read(path, as_version=4).cells):
            if cell.cell_type == "markdown" and cell.metadata.slideshow.slide_type != "notes":
                _, _, text = cell.source.partition("\n\n")
                assert slide_text._height(text) <= slide_text.LINES, cell.source
