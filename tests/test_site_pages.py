"""The pages of the site as they are written: papers, numbers, the library, what scripts make."""

import importlib
import json
import re
import zlib
from pathlib import Path

import pandas as pd
import pytest
from pybtex.database import parse_file

ROOT = Path(__file__).parent.parent
BOOK = ROOT / "book"


@pytest.fixture(scope="module")
def extension():
    """Import an extension of the site: (name) -> module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BOOK)
        yield lambda name: importlib.import_module(f"_ext.{name}")


def pages():
    """Give every page that people write, and the prose of every chapter: (path, text)."""
    generated = ("claims", "outputs", "model_card_cnn", "model_card_dilated_cnn")
    for path in (*BOOK.glob("*.md"), *BOOK.glob("api/*.md"), ROOT / "README.md"):
        if path.stem not in generated:
            yield path, path.read_text(encoding="utf-8")
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        prose = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        yield path, "\n\n".join(prose)


def test_every_paper_is_in_the_list_and_every_entry_is_named(extension):
    citations = extension("citations")
    named, missing = set(), []
    for path, text in pages():
        marked = citations.cite(text, lambda address, path=path: missing.append((path, address)))
        named |= set(re.findall(r"\{cite\}`(\w+)`", marked))
    for path in (ROOT / "fmnist_lib").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        marked = citations.cite_docstring(text, lambda address: missing.append(address))
        named |= set(re.findall(r":cite:`(\w+)`", marked))
    assert missing == []
    assert named == set(citations.papers().values())


def test_the_names_and_years_of_links_are_those_of_the_list(extension):
    """A link such as [Luo et al., 2016] names the first author and the year of its entry."""
    citations = extension("citations")
    entries = parse_file(BOOK / "references.bib").entries
    checked = 0
    for path, text in pages():
        for words, address in re.findall(r"\[([^][]+)\]\((https://[^)\s]+)\)", text):
            name = re.fullmatch(r"(.+?)(?: et al\.|(?:, .+)? and .+)?,\s(\d{4})", words)
            if name and address in citations.papers():
                entry = entries[citations.papers()[address]]
                first = entry.persons["author"][0]
                assert name[1] == " ".join(first.prelast_names + first.last_names), path
                assert name[2] == entry.fields["year"], path
                checked += 1
    assert checked > 10


# Decimals in the prose of the pages that no results file holds, and what vouches for them.
VOUCHED_FOR = {
    "0.2855": "the mean of the pixels: a test compares the dataset card with the data",
    "0.3528": "their standard deviation: likewise",
    "0.003": "the square root of 0.9 * 0.1 / 10,000",
}


def test_no_measured_digits_are_typed_on_the_pages():
    """A measured number is a substitution, {{ ... }}, or stands in a table that a command made."""
    code = re.compile(r"^(`{3,}).*?^\1|`[^`]*`|\{\{.*?\}\}", re.DOTALL | re.MULTILINE)
    typed = {
        number
        for path, text in pages()
        if path.suffix == ".md" and path.stem != "README"
        for number in re.findall(r"(?<![\d.])0\.\d{3,}", code.sub("", text))
    }
    assert typed <= set(VOUCHED_FOR), "write it as a substitution, see book/_ext/measured.py"


def test_numbers_are_those_of_the_files(extension):
    numbers = extension("measured").read_numbers()
    rows = pd.read_csv(ROOT / "benchmarks" / "bench.csv", thousands=",", index_col="contender")
    assert numbers["bench"]["fit"]["images per second"] == rows.loc["fit", "images per second"]
    assert {"skorch", "Keras on PyTorch", "fit, bf16"} <= set(numbers["bench"])
    assert numbers["sweeps"]["how many times as fast"] > 1
    assert numbers["recipes"]["dilated"]["TrainConfig.fast()"]["seeds"] == 5
    seeds = pd.read_csv(ROOT / "fmnist_lib" / "measured" / "seeds.csv")
    shifted = seeds.loc[seeds["network"] == "dilated_cnn", "shift"]
    expected = {name: getattr(shifted, name)() for name in ("mean", "std", "min", "max")}
    assert numbers["seeds"]["dilated_cnn"]["shift"] == pytest.approx(expected)


def modules():
    """Name the modules and packages of the library, without those inside packages."""
    names = {path.relative_to(ROOT).parts[1] for path in ROOT.glob("fmnist_lib/**/*.py")}
    return {name.removesuffix(".py") for name in names} - {"__init__"}


def test_every_page_is_in_the_table_of_contents():
    toc = (BOOK / "_toc.yml").read_text(encoding="utf-8")
    listed = re.findall(r"(?:root|file): (\S+)", toc)
    files = [*BOOK.glob("*.md"), *BOOK.glob("api/*.md"), *ROOT.glob("notebooks/*.ipynb")]
    there = [path.relative_to(ROOT).with_suffix("").as_posix() for path in files]
    assert sorted(listed) == sorted(there)


def test_every_module_has_its_page_and_its_row():
    assert {path.stem for path in BOOK.glob("api/*.md")} == modules() | {"index"}
    for name in modules():
        page = (BOOK / "api" / f"{name}.md").read_text(encoding="utf-8")
        assert f".. automodule:: fmnist_lib.{name}\n" in page
    index = (BOOK / "api" / "index.md").read_text(encoding="utf-8")
    rows = re.findall(r"^   fmnist_lib\.(\w+)$", index, re.MULTILINE)
    assert sorted(rows) == sorted(modules())


@pytest.fixture(scope="module")
def inventories(load_script):
    return load_script("book/make_inventories.py")


def test_an_extract_holds_the_names_that_are_mentioned(inventories):
    head = "# Sphinx inventory version 2\n# Project: Beads\n# Version: 3\n# The rest is zlib.\n"
    lines = [
        "beads.String py:class 1 api/strings.html#$ -",
        "beads.thread py:function 1 api/strings.html#$ -",
        "beads.odd py:function 1 api/strings.html#elsewhere -",
        "beads.never py:function 1 api/strings.html#$ -",
    ]
    content = head.encode() + zlib.compress("\n".join([*lines, ""]).encode())
    text = inventories.extract(content, {"beads.String", "beads.thread", "beads.odd", "other"})
    expected = ["beads.String class api/strings.html", "beads.thread function api/strings.html"]
    assert text.splitlines()[1:] == ["# Project: Beads", "# Version: ", *expected]


def test_the_extracts_hold_nothing_else_and_types_are_found_in_them(inventories):
    sites, aliases = inventories.read_config()
    mentioned = inventories.mentioned_names(aliases)
    assert {"pathlib.Path", "torch.Tensor", "torch.compile", "int"} <= mentioned
    held = set()
    for address, path in sites.values():
        assert re.fullmatch(r"https://[^/]+(/[\w./]+)?[^/]", address)
        lines = (ROOT / path).read_text(encoding="utf-8").splitlines()[3:]
        assert lines == sorted(lines)
        held |= {line.split()[0] for line in lines}
    assert held <= mentioned
    assert {name for name in mentioned if "." in name and not is_ours(name)} <= held


def is_ours(name):
    return not name.startswith(("torch.", "numpy.", "pandas.", "matplotlib.", "distributed."))


def test_a_project_that_is_not_listed_is_refused(inventories):
    with pytest.raises(
        SystemExit, match="there is no project 'beads'; choose one of python, torch"
    ):
        inventories.main("beads=objects.inv")


def write_chapter(path, title, times=True):
    """Write a chapter of two code cells, which took two and three seconds."""

    def cell(count, source, seconds, outputs=()):
        moments = (("busy", "2026-01-02T23:59:58.5"), ("idle", f"2026-01-03T00:00:{seconds:04.1f}"))
        noted = {f"iopub.status.{name}": f"{moment}00000Z" for name, moment in moments}
        metadata = {"execution": noted} if times else {}
        cell = {"cell_type": "code", "execution_count": count, "source": [source]}
        return cell | {"metadata": metadata, "outputs": list(outputs)}

    text = "Python 3.99.1, torch 9.9.0, scikit-learn 1.0.0; Abacus, CPU (beads, 2 threads)\n"
    machine = cell(1, "print(describe_machine())", 0.5, [{"text": [text]}])
    prose = {"cell_type": "markdown", "metadata": {}, "source": [f"# {title}\n", "\n", "Prose."]}
    section = prose | {"source": ["Then:\n", "\n", "## Training, at last"]}
    cells = [prose, machine, section, cell(2, "count()", 1.5)]
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")


def test_times_are_recorded_and_shown(tmp_path, load_script):
    write_chapter(tmp_path / "01_a.ipynb", "1 · A")
    write_chapter(tmp_path / "02_b.ipynb", "2 · B")
    csv = tmp_path / "outputs.csv"
    record = load_script("book/record_times.py").main
    record([tmp_path / "01_a.ipynb", tmp_path / "02_b.ipynb"], csv)
    rows = csv.read_text(encoding="utf-8").splitlines()
    assert rows[:3] == [
        "chapter,date,cell,seconds",
        "01_a,2026-01-02,1,2.0",
        "01_a,2026-01-02,2,3.0",
    ]
    page = load_script("book/make_outputs.py").page(tmp_path, csv)
    assert "| what | all chapters |" in page
    assert "| scikit-learn | 1.0.0 |\n| machine | Abacus, CPU (beads, 2 threads) |" in page
    assert "All together took 10\u00a0s." in page
    row = (
        "| [2 · B](../notebooks/02_b.ipynb) | 2026-01-02 | 5\u00a0s "
        "| [Training, at last](../notebooks/02_b.ipynb#training-at-last) 3\u00a0s, "
        "[Beginning](../notebooks/02_b.ipynb) 2\u00a0s |"
    )
    assert row in page
    record([tmp_path / "01_a.ipynb"], csv)  # executed anew, without the other
    assert csv.read_text(encoding="utf-8").splitlines() == rows


def test_chapters_that_differ_have_columns_of_their_own(tmp_path, load_script):
    write_chapter(tmp_path / "01_a.ipynb", "1 · A")
    write_chapter(tmp_path / "02_b.ipynb", "2 · B")
    text = (tmp_path / "02_b.ipynb").read_text(encoding="utf-8").replace("9.9.0", "9.9.1")
    (tmp_path / "02_b.ipynb").write_text(text, encoding="utf-8")
    page = load_script("book/make_outputs.py").page(tmp_path, tmp_path / "none.csv")
    assert "| what | chapter 1 | chapter 2 |" in page
    assert "| torch | 9.9.0 | 9.9.1 |" in page
    assert "Not recorded yet: `make notebooks` writes them." in page


def test_what_was_not_executed_has_no_times_and_no_machine(tmp_path, load_script):
    write_chapter(tmp_path / "01_a.ipynb", "1 · A", times=False)
    with pytest.raises(
        SystemExit, match=r"cell \[1\] of 01_a.ipynb holds no times, .*make notebooks"
    ):
        load_script("book/record_times.py").main(
            [tmp_path / "01_a.ipynb"], tmp_path / "outputs.csv"
        )
    text = (tmp_path / "01_a.ipynb").read_text(encoding="utf-8").replace("describe_", "describes_")
    (tmp_path / "01_a.ipynb").write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit, match=r"01_a.ipynb holds no output of describe_machine\(\)"):
        load_script("book/make_outputs.py").page(tmp_path, tmp_path / "none.csv")


def test_the_page_of_versions_and_times_is_what_the_chapters_say(load_script):
    """If not, run 'make outputs'."""
    page = load_script("book/make_outputs.py").page()
    assert (BOOK / "outputs.md").read_text(encoding="utf-8") == page


def test_the_recorded_times_are_of_the_cells_that_are_there():
    """If not, run 'make notebooks'."""
    if not (BOOK / "outputs.csv").is_file():
        pytest.skip("not recorded yet: run 'make notebooks'")
    times = pd.read_csv(BOOK / "outputs.csv")
    for path in ROOT.glob("notebooks/*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        counts = [cell["execution_count"] for cell in cells if cell["cell_type"] == "code"]
        assert times.loc[times["chapter"] == path.stem, "cell"].tolist() == counts
    assert (times["seconds"] >= 0).all()
