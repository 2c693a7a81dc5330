"""The page of a run, and what a chapter looks like where only plain Markdown is known."""

import re
import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

import nbformat
import pytest
from bs4 import BeautifulSoup
from docutils.utils.math import MathError
from markdown_it import MarkdownIt

from fmnist_lib.chapters import CHAPTERS
from fmnist_lib.experiments import page
from fmnist_lib.experiments.mathml import to_mathml

FOLDER = Path(__file__).parent.parent / "notebooks"
LOADS = "[src], link[href], object, iframe, script"  # what makes a browser fetch something


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", 4)


def prose(name):
    return [cell.source for cell in read(name).cells if cell.cell_type == "markdown"]


def without_code(text):
    return re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)


@cache
def as_plain_markdown(name):
    renderer = MarkdownIt("commonmark", {"html": True}).enable("table")
    return "\n".join(map(renderer.render, prose(name)))


@cache
def as_page(name):
    with TemporaryDirectory() as folder:
        notebook = Path(shutil.copy(FOLDER / f"{name}.ipynb", folder))
        page.write_page(notebook)
        return notebook.with_suffix(".html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CHAPTERS)
def test_each_cell_closes_what_it_opens_and_knows_no_directive(name):
    for text in prose(name):
        assert not re.search(r"^ *(:{3,}|`{3,}\{)|\{[\w:-]+\}`|\{\{", text, re.MULTILINE), text
        tags = ("<details>", "<summary>", "</summary>", "</details>")
        assert len({text.count(tag) for tag in tags}) == 1, text
        for summary in re.findall(r"<summary>(.*)</summary>", text):
            assert not re.search(r"[`$*_\[]", summary), summary  # it is not read as Markdown


@pytest.mark.parametrize("render", [as_plain_markdown, as_page])
@pytest.mark.parametrize("name", CHAPTERS)
def test_answers_are_folded_and_folded_text_is_markdown(name, render):
    html = BeautifulSoup(render(name), "html.parser")
    answers = [p for p in html("p") if re.match(r"(Right|No)\. ", p.get_text())]
    assert len(answers) >= 9
    assert all(answer.find_parent("details") for answer in answers)
    assert all(answer.find_parent("blockquote") for answer in answers)
    folds = html("details")
    assert all(fold.find().name == "summary" for fold in folds)
    loose = [text.strip() for fold in folds for text in fold.find_all(string=True, recursive=False)]
    assert "".join(loose) == ""
    titles = [heading.get_text() for heading in html("h3")]
    assert sum(title.startswith("Exercise ") for title in titles) >= 4


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_page_of_a_chapter_is_whole_by_itself(name):
    html = BeautifulSoup(as_page(name), "html.parser")
    assert [tag for tag in html.select(LOADS) if not tag["src"].startswith("data:")] == []
    assert "@import" not in str(html)
    assert re.findall(r"url\([\"']?(?!data:|[\"']?data:|#)[^)]*\)", str(html("style"))) == []
    links = [a["href"] for a in html("a")]
    assert all(link.startswith(("https://", "#")) for link in links)
    formulas = re.findall(r"(\$\$?)[^$]+\1", "".join(map(without_code, prose(name))))
    assert len(html("math")) == len(formulas)
    cells = [cell for cell in read(name).cells if "hide-input" in cell.metadata.get("tags", [])]
    folded = [details.pre.get_text().strip() for details in html("details") if details.pre]
    assert [cell.source.strip() for cell in cells] == folded
    images = html("img")
    assert all(len(image["alt"]) > 40 for image in images)
    for tag in html(["style", "annotation", "pre", "code"]):
        tag.decompose()
    assert "$" not in html.main.get_text()


def test_a_page_shows_what_stands_for_a_widget_and_a_formula_that_cannot_be_drawn(tmp_path):
    widget = {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "instead of it"}
    picture = {"image/png": "iVBORw0KGgo="}
    cells = [
        nbformat.v4.new_markdown_cell(r"$\unheardof{x<y}$ ![it](attachment:a.png) [b](../b.md)"),
        nbformat.v4.new_code_cell(
            "live()", outputs=[nbformat.v4.new_output("display_data", widget)]
        ),
    ]
    cells[0].attachments = {"a.png": picture}
    state = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"widgets": state})
    nbformat.write(notebook, tmp_path / "a.ipynb")
    page.write_page(tmp_path / "a.ipynb")
    html = BeautifulSoup((tmp_path / "a.html").read_text(encoding="utf-8"), "html.parser")
    assert html.main.code.get_text() == r"\unheardof{x<y}"
    assert html.img["src"].startswith("data:image/png")
    assert "instead of it" in html.main.get_text()
    assert html("a") == []
    assert "unpkg" not in str(html)


def test_a_page_uses_no_template_of_the_working_folder(tmp_path, monkeypatch):
    """One could name a module to import, or execute code itself."""
    for name in ("lab", "base"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "conf.json").write_text('{"preprocessors": {"x": {"type": "theirs"}}}')
        (tmp_path / name / "index.html.j2").write_text("theirs")
    monkeypatch.chdir(tmp_path)
    page._exporter.cache_clear()
    name = "<img src=x onerror=alert(1)>"
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / f"{name}.ipynb")
    page.write_page(tmp_path / f"{name}.ipynb")
    text = (tmp_path / f"{name}.html").read_text(encoding="utf-8")
    assert "theirs" not in text
    assert BeautifulSoup(text, "html.parser")("img") == []


def test_a_page_that_cannot_be_made_is_a_warning(tmp_path, monkeypatch):
    def broken():
        raise ValueError("No template 'lab' in the paths:\n/a")

    monkeypatch.setattr(page, "_exporter", broken)
    with pytest.warns(
        UserWarning, match="^a is kept without an HTML page.*: No template 'lab' in the paths"
    ):
        page.write_page(tmp_path / "a.ipynb")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("latex", "expected"),
    [
        (r"\frac{a}{b}", "<mfrac><mi>a</mi><mi>b</mi></mfrac>"),
        (r"\sqrt{x}", "<msqrt><mi>x</mi></msqrt>"),
        (r"\sum_{i=1}^n x_i", "<munderover><mo>∑</mo>"),
        (r"x_{ij}", "<msub><mi>x</mi><mrow><mi>i</mi><mi>j</mi></mrow></msub>"),
        (r"\text{share of } x", "<mtext>share of\xa0</mtext>"),
        (r"\mathrm{softmax}(z)", "<mi>softmax</mi>"),
        (r"\lfloor n/2 \rfloor", "<mo>⌊</mo>"),
        (r"\log_2 x", "<msub><mi>log</mi><mn>2</mn></msub><mspace></mspace><mi>x</mi>"),
        (r"\log_2(x)", "<msub><mi>log</mi><mn>2</mn></msub><mo>(</mo>"),
        (r"\ln 0.9", "<mi>ln</mi><mo>&ApplyFunction;</mo><mspace></mspace><mn>0.9</mn>"),
        (r"a < b", "<mo>&lt;</mo>"),
        (r"z_0, \dots, z_9", "<mi>…</mi>"),
    ],
)
@pytest.mark.parametrize("block", [True, False])
def test_formulas_become_mathml(latex, expected, block):
    mathml = to_mathml(latex, block)
    tree = ElementTree.fromstring(mathml.replace("&ApplyFunction;", ""))
    assert tree.get("display") == ("block" if block else None)
    assert expected in re.sub(r' [a-z]+="[^"]*"|\n *', "", mathml)
    assert tree.find(".//{*}annotation").text == latex


@pytest.mark.parametrize(
    ("latex", "message"),
    [
        (r"\unheardof{x}", r"Unknown LaTeX command \"\\unheardof\"\."),
        (r"\dotsfor", r"Unknown LaTeX command \"\\dotsfor\"\."),
        (r"^\circ", "Something is missing"),
    ],
)
def test_a_formula_that_cannot_be_drawn_is_an_error(latex, message):
    with pytest.raises(MathError, match=message):
        to_mathml(latex)
