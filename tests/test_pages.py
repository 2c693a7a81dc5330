"""The pages of the site and the README: what they say about the project must be so."""

import os
import re
import subprocess
import sys
from contextlib import suppress
from math import e, isclose, log, sqrt
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml
from PIL import Image
from pybtex.database import parse_file

import fmnist_lib.data
from fmnist_lib.chapters import CHAPTERS
from fmnist_lib.cli import _parser, main
from fmnist_lib.course.exercises.feedback import CHECKS
from fmnist_lib.experiments.collection import load_results
from fmnist_lib.experiments.sweeps import load_sweep
from fmnist_lib.inspection import layer_table, receptive_field
from fmnist_lib.models import build_model

ROOT = Path(__file__).parent.parent
BOOK = ROOT / "book"
GENERATED = {"claims", "model_card_cnn", "model_card_dilated_cnn"}
WRITTEN = {path.stem: path for path in (ROOT / "README.md", *BOOK.glob("*.md"))}
WRITTEN = {name: path for name, path in sorted(WRITTEN.items()) if name not in GENERATED}
each_page = pytest.mark.parametrize("name", WRITTEN)
each_chapter = pytest.mark.parametrize("name", CHAPTERS)


def page(name):
    return (WRITTEN.get(name) or BOOK / f"{name}.md").read_text(encoding="utf-8")


def cells(name):
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def anchors(text):
    """Name the headings of a page as the site's links do."""
    headings = re.findall(r"^##+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def section(text, title):
    """Return what is under a heading of the second level."""
    return re.search(rf"^## {title}$\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)[1]


def table(text):
    """Return the rows of the first table as lists of words, without its head."""
    lines = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)[0].splitlines()
    return [[part.strip(" *") for part in line.strip("|").split("|")] for line in lines[2:]]


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@each_page
def test_links_lead_to_files_and_headings_that_are_there(name):
    text = re.sub(r"```.*?```|\]\(https?:[^)]*\)", "", page(name), flags=re.DOTALL)
    for target, wanted in re.findall(r"\]\(([^)#\s]*)#?([^)]*)\)", text):
        path = (WRITTEN[name].parent / target) if target else WRITTEN[name]
        assert path.exists(), target
        if wanted:
            chapter = path.suffix == ".ipynb"
            there = "\n".join(cells(path.stem)) if chapter else path.read_text(encoding="utf-8")
            assert wanted in anchors(there), f"{target}#{wanted}"
    for file in re.findall(r"^:file: (.*)$", page(name), re.MULTILINE):
        assert (WRITTEN[name].parent / file).is_file(), file


def options_of(command, capsys):
    with suppress(SystemExit):
        main([command, "--help"])
    return set(re.findall(r"--[a-z-]+", capsys.readouterr().out))


@each_page
def test_commands_are_there(name, capsys):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    code = re.findall(r"`[^`\n]+`|^```shell\n.*?^```", page(name), re.DOTALL | re.MULTILINE)
    for words in code:
        assert set(re.findall(r"\bmake ([a-z-]+)", words)) <= {*targets}, words
        for script in re.findall(r"python (\S+\.py)", words):
            assert (ROOT / script).is_file(), script
        for command, rest in re.findall(r"\bfmnist (?!activate)([a-z]+)([^`\n]*)", words):
            options = options_of(command, capsys)
            assert "--help" in options, f"there is no command {command}"
            assert set(re.findall(r"(?<=\s)--[a-z-]+", rest)) <= options, words


def test_every_page_is_in_the_table_of_contents():
    toc = (BOOK / "_toc.yml").read_text(encoding="utf-8")
    listed = re.findall(r"(?:root|file): (\S+)", toc)
    files = [*BOOK.glob("*.md"), *BOOK.glob("api/*.md"), *ROOT.glob("notebooks/*.ipynb")]
    there = [path.relative_to(ROOT).with_suffix("").as_posix() for path in files]
    assert sorted(listed) == sorted(there)


def test_every_module_is_on_one_api_page_and_every_package_in_the_design(load_script):
    api = load_script("book/_ext/api.py")
    pages = "".join(path.read_text(encoding="utf-8") for path in BOOK.glob("api/*.md"))
    rooms = re.findall(r"<!-- modules of (\w+) -->", pages)
    assert sorted(m for room in rooms for m in api.modules(room)) == sorted(api.modules())
    packages = set(rooms) - {"core", "plumbing"}
    assert packages == set(re.findall(r"^\| \[`(\w+)`\]", page("design"), re.MULTILINE))
    assert all(f"](api/{room}.md) |" in page("design") for room in rooms)


def test_every_paper_is_in_the_list_with_its_first_author_and_year():
    entries = parse_file(BOOK / "references.bib").entries
    prefix = {"doi": "https://doi.org/", "eprint": "https://arxiv.org/abs/", "url": ""}
    papers = {
        prefix[field] + entry.fields[field]: entry
        for entry in entries.values()
        for field in prefix.keys() & entry.fields.keys()
    }
    texts = [page(name) for name in WRITTEN] + ["\n".join(cells(name)) for name in CHAPTERS]
    linked = {link for text in texts for link in re.findall(r"\[([^][]+)\]\((http[^)\s]+)\)", text)}
    sources = [path.read_text(encoding="utf-8") for path in ROOT.glob("fmnist_lib/**/*.py")]
    numbers = re.findall(r"(arXiv:|doi:|arxiv.org/abs/|doi.org/)(\d\S*\w)", "\n".join(sources))
    named = {prefix["doi" if "doi" in kind else "eprint"] + number for kind, number in numbers}
    named |= {address for _, address in linked}
    to_papers = (prefix["doi"], prefix["eprint"])
    assert {address for address in named if address.startswith(to_papers)} <= papers.keys()
    cited = {entry.key for address, entry in papers.items() if address in named}
    assert cited == {entry.key for entry in papers.values()}
    for words, address in linked:
        name = re.fullmatch(r"(.+?)(?: et al\.|(?:, .+)? and .+)?,\s(\d{4})", words)
        if name and address in papers:
            first = papers[address].persons["author"][0]
            assert name[1] == " ".join(first.prelast_names + first.last_names)
            assert name[2] == papers[address].fields["year"]


# Decimals in the prose of the pages that no results file holds, and what vouches for them.
VOUCHED_FOR = {
    "0.003": "the standard error of an accuracy of 0.9 on 10,000 images",
    "0.2855": "the mean of the pixels: a test compares the dataset card with the data",
    "0.3528": "their standard deviation: likewise",
    "1.46": "the loss that a softmax before the cross-entropy cannot fall below",
    "2.303": "ln 10",
}


def test_no_measured_digits_are_typed_on_the_pages():
    """A measured number is a substitution, {{ ... }}, or in a table that a command made."""
    pattern = r"^(`{3,}).*?^\1|`[^`]*`|\{\{.*?\}\}|Python \d\.\d+"
    code = re.compile(pattern, re.DOTALL | re.MULTILINE)
    text = "\n".join(code.sub("", page(name)) for name in WRITTEN if name not in ("README",))
    assert set(re.findall(r"(?<![\d.])\d\.\d{2,}(?![\d.])", text)) <= set(VOUCHED_FOR)
    assert isclose(sqrt(0.9 * 0.1 / 10_000), 0.003)
    assert isclose(log((e + 9) / e), 1.46, abs_tol=0.005)
    assert isclose(log(10), 2.303, abs_tol=0.0005)


def test_numbers_are_those_of_the_files(load_script):
    numbers = load_script("book/_ext/measured.py").read_numbers()
    rows = pd.read_csv(ROOT / "benchmarks" / "bench.csv", thousands=",", index_col="contender")
    assert numbers["bench"]["fit"]["median"] == rows.loc["fit", "median"]
    seeds = pd.read_csv(ROOT / "fmnist_lib" / "measured" / "seeds.csv")
    shifted = seeds.loc[seeds["network"] == "dilated_cnn", "shift"]
    expected = {name: getattr(shifted, name)() for name in ("mean", "std", "min", "max")}
    assert numbers["seeds"]["dilated_cnn"]["shift"] == pytest.approx(expected)


def test_the_picture_is_that_of_the_published_outputs(load_script):
    """If not, run 'make picture'."""
    script = load_script("book/make_picture.py")
    assert Image.open(script.PICTURE).text["Source"] == script.digest(script.read_figures())


def test_the_readme_fits_a_page_and_its_code_runs(sample, monkeypatch, capsys):
    assert len(page("README").splitlines()) <= 100
    (code,) = blocks(page("README"), "python")
    monkeypatch.setattr(fmnist_lib.data, "load_fashion_mnist", lambda: sample)
    exec(compile(code.replace("fast()", "fast(epochs=2)"), "README.md", "exec"), {})
    assert 0.2 < float(capsys.readouterr().out) < 1


def test_the_glossary_is_sorted_and_each_term_says_where_it_is_taught():
    (entries,) = blocks(page("glossary"), r"\{glossary\}")
    terms = re.findall(r"^(\S.*)\n((?:  .*\n)+)", entries, re.MULTILINE)
    names = [term.casefold() for term, _ in terms]
    assert len(names) >= 60
    assert names == sorted(set(names))
    for term, definition in terms:
        assert re.search(r"\]\((\.\./notebooks/\w+\.ipynb#|\w+\.md)", definition), term
    links = re.findall(r"\[Chapter (\d)\]\(\.\./notebooks/(\d+)_", entries)
    assert {int(number) for number, _ in links} == {int(name[:2]) for name in CHAPTERS}
    assert all(int(number) == int(chapter) for number, chapter in links)


@each_chapter
def test_each_chapter_has_its_notes_and_its_links(name):
    number, title = re.match(r"# (\d) · (.+)\n", cells(name)[0]).groups()
    notes = section(page("teaching"), re.escape(f"Chapter {number}: {title}"))
    assert f"[The chapter](../notebooks/{name}.ipynb)" in notes
    rows = [row[0] for row in table(notes)]
    assert rows[1:-1] == re.findall(r"^## (.+)$", "\n".join(cells(name)), re.MULTILINE)
    assert f"](../notebooks/{name}.ipynb)" in page("handout")
    assert f"](notebooks/{name}.ipynb)" in page("README")
    assert f":link: ../notebooks/{name}\n" in page("index")


def test_the_exercises_that_the_notes_name_are_there():
    there = [re.findall(r"Exercise (\d\.\d+):", "\n".join(cells(name))) for name in CHAPTERS]
    notes = re.sub(r"^(```+)\w.*?^\1$|`[^`\n]*`", "", page("teaching"), flags=re.S | re.M)
    assert set(re.findall(r"(?<![\d.])([1-5]\.\d)(?![\d.])", notes)) <= set().union(*there)


def test_the_sweep_of_the_notes_can_be_run(tmp_path):
    (text,) = blocks(page("teaching"), "yaml")
    (tmp_path / "handed_in.yml").write_text(text, encoding="utf-8")
    assert len(load_sweep(tmp_path / "handed_in.yml", ROOT / "notebooks").runs) == 10


def test_the_entries_of_the_guide_belong_in_a_sweep_file(tmp_path):
    (file := tmp_path / "s.yml").write_text("chapter: 02_cnn\nseeds: 3\n" + entries("list", "stop"))
    assert len(load_sweep(file, ROOT / "notebooks").runs) == 6


def entries(*names):
    found = {text.partition(":")[0]: text for text in blocks(page("batch"), "yaml")}
    return "".join(found[name] for name in names)


@pytest.mark.parametrize("index", [0, 39])
def test_slurm_and_kubernetes_start_each_part_of_a_sweep(index):
    (array,) = [text for text in blocks(page("batch"), "shell") if text.startswith("#!")]
    (job,) = yaml.safe_load_all(entries("apiVersion"))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert "#SBATCH --array=1-40\n" in array
    assert (job["kind"], job["spec"]["completions"]) == ("Job", 40)
    numbers = {"SLURM_ARRAY_TASK_ID": str(index + 1), "JOB_COMPLETION_INDEX": str(index)}
    (script,) = container["args"]
    for text in (array, script.removeprefix("exec ")):
        # Instead of the command, show its arguments.
        command = ["bash", "-euc", 'fmnist() { printf "%s\\n" "$@"; }\n' + text]
        settings = {"env": os.environ | numbers, "capture_output": True, "text": True}
        arguments = subprocess.run(command, check=True, **settings).stdout.splitlines()
        assert _parser().parse_args(arguments).only == (index + 1, 40)


@pytest.mark.slow
def test_optuna_drives_runs_as_the_guide_has_it(tmp_path, monkeypatch, capsys):
    (code,) = [text for text in blocks(page("batch"), "python") if "optuna" in text]
    for there, here in (
        ('"epochs": 5', '"epochs": 1, "sample": True'),
        ("n_trials=20", "n_trials=1"),
        ("notebooks/", f"{ROOT}/notebooks/"),
    ):
        assert there in code
        code = code.replace(there, here)
    monkeypatch.chdir(tmp_path)
    for n in (1, 2):  # the second time, it goes on
        exec(compile(code, "batch.md", "exec"), {})
        runs = load_results(tmp_path / "runs" / "optuna")
        assert runs["state"].tolist() == ["finished"] * n
        printed = capsys.readouterr().out.splitlines()[-1]
        assert float(printed.split()[0]) == runs["val_accuracy"].max()


@pytest.mark.slow
def test_a_dask_cluster_drives_a_sweep_as_the_guide_has_it(tmp_path, write_chapter):
    (code,) = [text for text in blocks(page("batch"), "python") if "LocalCluster" in text]
    write_chapter(tmp_path / "tiny.ipynb", "seed: int = 0", "print(seed)")
    (tmp_path / "s.yml").write_text("chapter: tiny.ipynb\nseeds: 2")
    assert "book/learning_rate.yml" in code
    (tmp_path / "script.py").write_text(code.replace("book/learning_rate.yml", "s.yml"))
    settings = {"cwd": tmp_path, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "script.py"], **settings)
    assert done.returncode == 0, done.stderr
    table = load_results(tmp_path / "runs" / "learning_rate")
    assert table["state"].tolist() == ["finished"] * 2


@pytest.mark.slow
def test_the_notes_count_right_answers(tmp_path, monkeypatch, capsys, write_chapter):
    sources = ("from fmnist_lib.course.exercises import check", 'check("1.1", 32)')
    more = ('check("1.1", 31)', 'print("✓ Right.")', 'check("1.1", 1 / 0)')
    write_chapter(tmp_path / "handed_in.ipynb", *sources, *more, tags=())
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(page("teaching"), "python")
    exec(compile(code, "teaching.md", "exec"), {})
    assert capsys.readouterr().out == "1 right\n1 not yet\n"


def test_the_shapes_of_the_handout_are_those_of_the_networks():
    shapes = re.search(r"\{rubric\} Shapes[^\n]*\n:::\n(.*?)^:::", page("handout"), re.M | re.S)[1]
    rows = table(shapes)
    for network, shape, parameters in (("cnn", 1, 2), ("dilated_cnn", 3, 4)):
        layers = layer_table(build_model(network))
        shown = [row for row in rows[1:-1] if row[shape]]
        # An activation has a row together with what comes before or after it.
        kept = layers[layers["layer"] != "ReLU"]
        assert [row[shape] for row in shown] == kept["output"].tolist()
        counts = [int(row[parameters].replace(",", "") or 0) for row in shown]
        assert counts == kept["parameters"].tolist()
        assert rows[-1][parameters] == f"{sum(counts):,}"
        side = receptive_field(build_model(network).features)["size"].iloc[-1]
        assert f"{side}×{side}" in shapes


def test_the_worked_example_of_an_exercise_works(monkeypatch):
    script, check_code, test_code = blocks(page("contributing"), "python")
    (number,) = re.findall(r'check\("([\d.]+)"', script)
    monkeypatch.setitem(CHECKS, number, None)  # and so it is gone when this test ends
    exec(compile(check_code, "contributing.md", "exec"), {})
    names = {}
    exec(compile(test_code, "contributing.md", "exec"), names)
    tests = [function for name, function in names.items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        (mark,) = test.pytestmark
        for values in mark.args[1]:
            test(*(values if isinstance(values, tuple) else (values,)))
    solution = re.search(r"^### BEGIN SOLUTION\n(.*?)^### END", script, re.M | re.S)[1]
    exec(solution, {}, answers := {})
    assert names["check"](number, *answers.values())
    assert f"Exercise {number}:" in script
