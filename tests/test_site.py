"""What the site adds to Sphinx, tried on a small site that is built with the real configuration."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
BOOK = ROOT / "book"
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAA"
    "AABJRU5ErkJggg=="
)

INDEX = r"""
# A small site

Inline $\frac{a}{b}$, and on its own

$$
\sqrt{\sum_{i=1}^n x_i^2}
$$ (norm)

With ten seeds: {{ "%.4f" | format(seeds.cnn.test_accuracy.mean) }}.
"""

# In a process of its own: an extension looks at every object of its process, the other tests' too.
SPHINX = """
import sys
from pathlib import Path

from jupyter_book.config import get_final_config
from sphinx.application import Sphinx

folder, config = map(Path, sys.argv[1:])
options = {"latex_individualpages": False, "external_toc_path": "toc.yml"}
config, _ = get_final_config(user_yaml=config, cli_config=options)
with open(folder / "warnings", "w", encoding="utf-8") as warnings:
    options = {"confoverrides": config, "status": None, "warning": warnings}
    Sphinx(folder, None, folder / "html", folder / "doctrees", "html", **options).build()
"""

BROKEN = r"""
# A broken site

$\unheardof{x}$

{{ seeds.abacus }}

{term}`unheard of`
"""


def small_notebook():
    """Make a notebook with what the chapters hold: prose, a folded cell, a figure, a widget."""
    folded = nbformat.v4.new_code_cell(
        "import secret_of_the_house",
        execution_count=1,
        metadata={
            "tags": ["hide-input"],
            "mystnb": {"code_prompt_show": "Show the set-up", "image": {"alt": "A single pixel"}},
        },
        outputs=[nbformat.v4.new_output("display_data", {"image/png": PIXEL})],
    )
    widget = {
        "application/vnd.jupyter.widget-view+json": {"model_id": "1", "version_major": 2},
        "text/plain": "what stands for the widget",
    }
    outputs = [nbformat.v4.new_output("display_data", widget)]
    live = nbformat.v4.new_code_cell("live()", execution_count=2, outputs=outputs)
    prose = nbformat.v4.new_markdown_cell("# 1 · Small\n\n$\\log_2 x$")
    kernel = {"name": "python3", "display_name": "", "language": "python"}
    metadata = {"kernelspec": kernel}
    return nbformat.writes(nbformat.v4.new_notebook(cells=[prose, folded, live], metadata=metadata))


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Build a site: (text of its first page) -> (folder of its html, warnings)."""

    def build(index):
        folder = tmp_path_factory.mktemp("site")
        pages = shutil.ignore_patterns("*.md", "_build", "api")
        shutil.copytree(BOOK, folder / "book", ignore=pages)
        (folder / "notebooks").mkdir()
        (folder / "notebooks" / "01_small.ipynb").write_text(small_notebook(), encoding="utf-8")
        (folder / "notebooks" / "01_small.py").write_text("# %%\n", encoding="utf-8")
        (folder / "book" / "index.md").write_text(index, encoding="utf-8")
        shutil.copy(BOOK / "references.md", folder / "book")
        toc = {"root": "book/index", "chapters": ["book/references", "notebooks/01_small"]}
        toc["chapters"] = [{"file": page} for page in toc["chapters"]]
        (folder / "toc.yml").write_text(yaml.safe_dump({"format": "jb-book", **toc}))
        command = [sys.executable, "-c", SPHINX, folder, BOOK / "_config.yml"]
        subprocess.run(command, check=True)
        return folder / "html", (folder / "warnings").read_text(encoding="utf-8")

    return build


@pytest.fixture(scope="module")
def small_site(build):
    html, warnings = build(INDEX)
    assert warnings == ""
    return html


def test_the_site_holds_formulas_and_numbers(small_site):
    index = (small_site / "book/index.html").read_text(encoding="utf-8")
    assert re.search(r"<mfrac>\s*<mi>a</mi>", index)
    assert 'href="#equation-norm"' in index
    seeds = pd.read_csv(ROOT / "fmnist_lib" / "measured" / "seeds.csv")
    mean = seeds.loc[seeds["network"] == "cnn", "test_accuracy"].mean()
    assert f"With ten seeds: {mean:.4f}.</p>" in index


def test_a_chapter_folds_cells_describes_figures_and_can_be_downloaded(small_site):
    chapter = (small_site / "notebooks/01_small.html").read_text(encoding="utf-8")
    folded = re.search(r"<details[^>]*>.*?</details>", chapter, re.DOTALL)[0]
    assert "Show the set-up" in folded
    assert "secret_of_the_house" in folded
    assert re.search(r'<img alt="A single pixel" src="[^"]*\.png"', chapter)
    assert "<msub>" in chapter
    assert "what stands for the widget" in chapter
    assert "widget-view" not in chapter
    links = re.findall(r'<a href="\.\./(_sources/[^"]*)" target="_blank" download', chapter)
    names = ["01_small_student.ipynb", "01_small.ipynb", "01_small.py"]
    assert links == [f"_sources/notebooks/{name}" for name in names]
    assert all((small_site / link).is_file() for link in links)
    student = nbformat.read(small_site / links[0], as_version=4)
    assert all(not cell.get("outputs") for cell in student.cells)


def test_a_page_with_mistakes_gives_a_warning_for_each(build):
    _, warnings = build(BROKEN)
    assert r'Unknown LaTeX command "\unheardof"' in warnings
    assert "'dict object' has no attribute 'abacus'" in warnings
    assert "term not in glossary: 'unheard of'" in warnings
    assert len(warnings.strip().splitlines()) == 3
