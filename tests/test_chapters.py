"""What every chapter must be, before anybody runs it; and that it runs with other parameters."""

import ast
import json
import re
import shutil
import subprocess
import sys
from functools import cache
from itertools import product
from pathlib import Path

import jupytext
import nbformat
import pytest

from fmnist_lib.chapters import CHAPTERS, ChapterError
from fmnist_lib.experiments.execution import run_chapter

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "notebooks"
each_chapter = pytest.mark.parametrize("name", CHAPTERS)


@cache
def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_cells(name):
    return [cell for cell in read(name).cells if cell.cell_type == "code"]


def tags(cell):
    return cell.metadata.get("tags", [])


def test_all_chapters_are_listed():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == sorted(CHAPTERS)
    assert sorted(path.stem for path in FOLDER.glob("0*.py")) == sorted(CHAPTERS)


@pytest.mark.parametrize(
    "path", [*(FOLDER / name for name in CHAPTERS), ROOT / "benchmarks/training"]
)
def test_notebook_and_script_are_in_step(path):
    """The script is what jupytext makes of the notebook; if not, run 'make sync'."""
    script = path.with_suffix(".py").read_text(encoding="utf-8")
    notebook = jupytext.read(path.with_suffix(".ipynb"))
    config = jupytext.config.load_jupytext_config(str(path.parent))
    formats = {"extension": ".py", "format_name": "percent"}
    assert jupytext.writes(notebook, fmt=formats, config=config) == script


def test_a_copy_of_a_chapter_gets_no_script(tmp_path):
    """When JupyterLab saves it: the chapter itself does."""
    manager = jupytext.TextFileContentsManager(root_dir=str(tmp_path))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for folder in ("notebooks", "runs/student"):
        (tmp_path / folder).mkdir(parents=True)
        shutil.copy(FOLDER / f"{CHAPTERS[0]}.ipynb", tmp_path / folder)
        path = f"{folder}/{CHAPTERS[0]}.ipynb"
        manager.save(manager.get(path), path)
    assert [path.parent.name for path in tmp_path.rglob("*.py")] == ["notebooks"]


@each_chapter
def test_outputs_are_those_of_one_run_without_errors_warnings_paths_or_times(name):
    for count, cell in enumerate(code_cells(name), start=1):
        assert cell.execution_count == count
        assert "execution" not in cell.metadata
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.text
            shown = json.dumps({k: v for k, v in output.items() if k != "data"})
            data = output.get("data", {})
            assert "application/vnd.jupyter.widget-view+json" not in data
            shown += data.get("text/plain", "") + data.get("text/html", "")
            machine = r"/(home|root|work|tmp|Users)/|0x[0-9a-f]{6,}|it/s|\d\d:\d\d"
            assert not re.search(machine, shown)


@each_chapter
def test_parameters_are_typed_literals_with_comments(name):
    (cell,) = (cell for cell in code_cells(name) if "parameters" in tags(cell))
    for line, statement in zip(cell.source.splitlines(), ast.parse(cell.source).body, strict=True):
        assert isinstance(statement, ast.AnnAssign), line
        kinds = {"int": int, "float": float, "str": str, "bool": bool}
        assert type(ast.literal_eval(statement.value)) is kinds[statement.annotation.id], line
        assert re.search(r"  # \S", line), line


@each_chapter
def test_cells_are_short_and_define_only_what_is_taught(name):
    """Or asked for: an exercise may ask for a function, and its solution then defines it."""
    taught = {"output_size", "Pictures", "train", "rung"}
    for cell in code_cells(name):
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert len(lines) <= 15, cell.source
        defined = re.findall(r"^(?:def|class) (\w+)", cell.source, re.MULTILINE)
        assert "solution" in tags(cell) or set(defined) <= taught, cell.source


@each_chapter
def test_without_the_library_the_first_cell_says_how_to_get_it(name):
    cell = code_cells(name)[0]
    command = [sys.executable, "-I", "-S", "-c", cell.source]  # -S hides installed packages
    done = subprocess.run(command, capture_output=True, text=True)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith("ImportError: This chapter needs the course's library: ")
    assert "make lab" in last
    assert "%pip install" in last
    assert cell.metadata.jupyter.source_hidden
    assert "hide-input" in tags(cell)


@each_chapter
def test_figures_have_alternative_texts(name):
    for cell in code_cells(name):
        if any("image/png" in output.get("data", {}) for output in cell.outputs):
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(alt) > 40, cell.source


@each_chapter
def test_every_chapter_has_its_parts_and_stays_small(name):
    assert (FOLDER / f"{name}.ipynb").stat().st_size < 3_000_000
    prose = "\n".join(cell.source for cell in read(name).cells if cell.cell_type == "markdown")
    assert prose.startswith("# ")
    for part in ("**After this chapter you can**", "**Time:**", "## Exercises", "## Recap"):
        assert part in prose


@each_chapter
def test_exempt_cells_are_few_and_claims_are_not_among_them(name):
    cells = code_cells(name)
    exempt = [cell for cell in cells if "nbval-ignore-output" in tags(cell)]
    assert not any(re.search(r"\bclaim(_between)?\(", cell.source) for cell in exempt)
    forbidden = {"nbval-skip", "raises-exception", "nbval-raises-exception"}
    assert not any(forbidden & set(tags(cell)) or "NBVAL_" in cell.source for cell in cells)
    assert len(exempt) <= len(cells) / 2


def test_exempt_cells_are_few_in_all_chapters_together(exempt_cells):
    exempt, cells, most = exempt_cells
    assert 0 < exempt <= most * cells


# Decimals that prose may hold: no machine and no seed changes them.
COMPUTED_BY_HAND = {
    "0.003": "the standard deviation of a share of 0.9 among 10,000 (chapter 4)",
    "0.955": "the target of the class on the label, with a smoothing of 0.05 (chapter 5)",
    "0.005": "the target of each other class there",
}


def test_no_measured_digits_are_typed_in_prose():
    """An accuracy or a loss stands in an output; one that is typed goes stale unnoticed."""
    prose = "\n".join(
        re.sub(r"```.*?```|`[^`]*`", "", cell.source, flags=re.DOTALL)
        if cell.cell_type == "markdown"
        else cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        for name in CHAPTERS
        for cell in read(name).cells
    )
    assert set(re.findall(r"(?<![\d.])0\.\d{3,}", prose)) == set(COMPUTED_BY_HAND)


def test_the_page_of_claims_is_what_the_chapters_print(load_script):
    """If not, run 'make claims'."""
    page = load_script("book/make_claims.py").page()
    assert (ROOT / "book" / "claims.md").read_text(encoding="utf-8") == page
    assert all(f"](../notebooks/{name}.ipynb)\n" in page for name in CHAPTERS)
    outputs = [output for name in CHAPTERS for cell in code_cells(name) for output in cell.outputs]
    texts = "\n".join(output.get("text", "") for output in outputs)
    printed = re.findall(r"^✓ (.*)$", texts, re.MULTILINE)
    listed = re.findall(r"^- (.*)$", page, re.MULTILINE)
    assert [words.replace("\\", "") for words in listed] == printed
    curves = "[Reading the curves](../notebooks/02_cnn.ipynb#reading-the-curves)"
    under_it = page.split(f"\n{curves}\n\n")[1].split("\n\n")[0]
    assert "- validation is ahead of training in epoch 1" in under_it.splitlines()
    assert f"There are {len(printed)} claims in {len(CHAPTERS)} chapters." in page


def test_every_instruction_set_and_seed_meets_both_numbers_of_threads(load_script):
    portability = load_script("benchmarks/portability.py")
    variants = [portability.ALL[name] for name in portability.DEFAULT]
    for kind, threads in product(portability.INSTRUCTION_SETS, (1, 2)):
        assert any((v.instructions, v.threads) == (kind, threads) for v in variants)
    for seed, threads in product((0, 1, 2), (1, 2)):
        assert any((v.seed, v.threads) == (seed, threads) for v in variants)


@each_chapter
def test_a_copy_with_another_seed_keeps_the_published_outputs(name, tmp_path, load_script):
    script = load_script("benchmarks/portability.py")
    copied = script.copy_chapter(name, tmp_path, {"seed": 7, "no": 1})
    cells = [c for c in nbformat.read(tmp_path / f"{name}.ipynb", 4).cells if "outputs" in c]
    assert len(cells) == copied
    (at,) = (i for i, cell in enumerate(cells) if "injected-parameters" in tags(cell))
    assert "parameters" in tags(cells[at - 1])
    injected = cells.pop(at)
    assert injected.source == "# Parameters\nseed = 7\n"
    assert injected.outputs == []
    assert injected.execution_count is not None  # or nbval would not compare it
    assert all(tags(cell)[0] == "figure-images" for cell in cells)  # other values, other figures
    assert (tmp_path / "conftest.py").exists()  # or no figure would be compared
    published = [(cell.source, cell.outputs, cell.execution_count) for cell in code_cells(name)]
    assert [(cell.source, cell.outputs, cell.execution_count) for cell in cells] == published


@pytest.mark.slow
@pytest.mark.parametrize(("name", "checkpoints"), [*zip(CHAPTERS[1:], (1, 1, 0, 0), strict=True)])
def test_a_chapter_runs_with_other_parameters(name, checkpoints, tmp_path):
    """One epoch on the sample: each chapter alone, in an empty folder, without any data."""
    output = tmp_path / "out.ipynb"
    parameters = {"epochs": 1, "sample": True, "device": "cpu"}
    if checkpoints:
        parameters["checkpoint_dir"] = "kept"
    run_chapter(FOLDER / f"{name}.ipynb", output, parameters, progress=False)
    words = "not checked, it is about the chapter's default parameters"
    assert words in output.read_text(encoding="utf-8")
    assert len(list(tmp_path.glob("kept/*.checkpoint"))) == checkpoints


@pytest.mark.slow
@pytest.mark.real_data
def test_the_first_chapter_runs_with_the_fewest_images(tmp_path, full_data):
    output = tmp_path / "out.ipynb"
    parameters = {"n_compared": 100, "n_embedded": 50, "seed": 2**32 - 1}
    run_chapter(FOLDER / f"{CHAPTERS[0]}.ipynb", output, parameters, progress=False)
    assert "○ shirts do worst: not checked" in output.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("name", CHAPTERS[1:])
def test_a_bad_parameter_stops_a_chapter_in_its_first_cells(name, tmp_path):
    chapter, output = FOLDER / f"{name}.ipynb", tmp_path / "out.ipynb"
    parameters, message = {"lr": -1.0, "sample": True}, r"cell [1-6]: .*lr is -1\.0, expected"
    with pytest.raises(ChapterError, match=message):
        run_chapter(chapter, output, parameters, progress=False)
