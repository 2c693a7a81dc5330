"""The parameters of a chapter, and the values that it does not take."""

import ast
import json
import re
from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np
import papermill
import pytest
from hypothesis import given
from hypothesis import strategies as st
from papermill.translators import PythonTranslator

from fmnist_lib.chapters import CHAPTERS, ChapterError
from fmnist_lib.common import ParameterError
from fmnist_lib.experiments.parameters import (
    RESERVED,
    Parameter,
    check_parameters,
    convert_parameters,
    read_parameters,
)
from fmnist_lib.training import TrainConfig

FOLDER = Path(__file__).parent.parent / "notebooks"
KINDS = {int: "int", float: "float", bool: "bool", str: "str"}
CELL = """
epochs: int = 25  # passes
lr: float = 3e-4
shuffle: bool = False
name: str = "auto"  # of a thing
data_dir: str = ""
trained_dir: str = "trained"
checkpoint_dir: str = ""
log_dir: str = ""
"""


@pytest.fixture
def write(tmp_path, write_chapter):
    """Make a chapter with a parameters cell: (source) -> path."""
    return partial(write_chapter, tmp_path / "a.ipynb")


@pytest.fixture
def known(write):
    return read_parameters(write(CELL))


def refused(*words):
    return pytest.raises(ParameterError, match=".*".join(map(re.escape, words)))


def code_cells(name):
    cells = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def is_tagged(cell):
    return "parameters" in cell["metadata"].get("tags", [])


def parsed(name):
    """Read a chapter's parameters cell: (name, annotation, value, comment) of each line."""
    (source,) = ("".join(cell["source"]) for cell in code_cells(name) if is_tagged(cell))
    for line in source.splitlines():
        name, kind, text, comment = re.fullmatch(r"(\w+): (\w+) = (.*?)  # (.*)", line).groups()
        yield name, kind, ast.literal_eval(text), comment


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_parameter_of_a_chapter_is_read(name):
    found = read_parameters(FOLDER / f"{name}.ipynb")
    assert [(p.name, p.kind, p.default, p.help) for p in found.values()] == list(parsed(name))
    assert all(type(p.default).__name__ == p.kind and p.help for p in found.values())
    defaults = {n: p.default for n, p in found.items() if n not in RESERVED}
    assert convert_parameters(name, found, defaults) == defaults


def test_kinds_are_inferred_where_none_is_written(write):
    found = read_parameters(write("a = -1  # below zero\nb = 0.5\nc = True\nd = 'x'\ne: float = 1"))
    kinds = {"a": int, "b": float, "c": bool, "d": str, "e": float}
    assert {name: type(p.default) for name, p in found.items()} == kinds
    assert {name: p.kind for name, p in found.items()} == {n: KINDS[k] for n, k in kinds.items()}
    assert (found["a"].default, found["a"].help) == (-1, "below zero")
    assert read_parameters(write("x = 1", tags=())) == {}


@pytest.mark.parametrize("line", ["lr = 1 / 3", "lr = None", "lr: int = 'a'"])
def test_a_default_that_is_not_a_literal_is_refused(write, line):
    with refused("the default of lr in a.ipynb is ", line.partition("= ")[2], "expected a literal"):
        read_parameters(write(line))


@pytest.mark.parametrize("content", [b"{}", b"\xff\xfe"])
def test_a_file_that_is_not_a_notebook_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "a.ipynb").write_bytes(content)
    with pytest.raises(ChapterError, match=r"^[^\n]*a\.ipynb cannot be read as a notebook[^\n]*$"):
        read_parameters(tmp_path / "a.ipynb")


VALUES = st.one_of(
    *(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.text())
)


@given(VALUES)
def test_what_python_writes_is_read_back(value):
    parameter = Parameter("x", KINDS[type(value)], value, "")
    for converted in (parameter.convert(value), parameter.convert(str(value))):
        assert (converted, type(converted)) == (value, type(value))


# What Python's int and float would take for a number, too.
ODD = ["1_0", "0x10", " 5 ", "5\n", "１", "nan", "inf", ""]
BAD = {
    ("int", "a whole number"): [True, 1.0, "2.5", "1e3", None, "9" * 5000, *ODD],
    ("float", "a number"): [True, float("inf"), 10**400, "1e400", "x", [1.0], *ODD],
    ("bool", "True or False"): [1, "yes", "on", "1"],
    ("str", "text; put it in quotes"): [1, None],
}
GOOD = {
    "int": {"010": 10, "0100": 100, "+5": 5, "-0": 0, np.int64(3): 3},
    "float": {"1e-3": 0.001, "010": 10.0, ".5": 0.5, "5.": 5.0, np.float32(0.5): 0.5, 2: 2.0},
    "bool": {"TRUE": True, "false": False, np.True_: True},
    "str": {Path("a"): "a", "010": "010", np.str_("a"): "a"},
}


@pytest.mark.parametrize(
    ("kind", "value", "expected"), [(kind, *pair) for kind in GOOD for pair in GOOD[kind].items()]
)
def test_a_value_becomes_a_plain_one_of_its_kind(kind, value, expected):
    converted = Parameter("x", kind, "d", "").convert(value)
    assert (converted, type(converted).__name__) == (expected, kind)


@pytest.mark.parametrize(
    ("kind", "expected", "value"), [(*kind, v) for kind, values in BAD.items() for v in values]
)
def test_a_value_of_the_wrong_kind_is_refused(kind, expected, value):
    with refused(
        f"x is {repr(value)[:200]}", f", expected {expected} (what it does; default: 'd')"
    ):
        Parameter("x", kind, "d", "what it does").convert(value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"epoch": 5}, "a has no parameter 'epoch'; did you mean epochs? It has epochs, lr, "),
        ({"trained_dir": "elsewhere"}, "trained_dir cannot be set"),
        ({"checkpoint_dir": "elsewhere"}, "checkpoint_dir cannot be set"),
        ({"lr": "-1"}, "lr is -1.0, expected a number above 0"),  # says the training run
    ],
)
def test_a_value_that_a_chapter_does_not_take_is_refused(known, values, words):
    with refused(words):
        convert_parameters("a", known, values)


def test_the_values_that_were_given_come_back_in_the_chapters_order_and_converted(known):
    values = convert_parameters("a", known, {"lr": 1, "epochs": "3", "shuffle": "true"})
    assert list(values.items()) == [("epochs", 3), ("lr", 1.0), ("shuffle", True)]
    assert type(values["lr"]) is float


def test_text_that_a_notebook_cannot_hold_is_refused():
    with refused("x is 'a\\udcff', which is not UTF-8"):
        Parameter("x", "str", "", "").convert("a\udcff")


def test_names_that_a_chapter_shares_with_the_settings_are_of_the_same_kind():
    settings = {field.name: field.type.__name__ for field in fields(TrainConfig)}
    for chapter in CHAPTERS:
        kinds = {name: kind for name, kind, _, _ in parsed(chapter)}
        assert kinds | settings == settings | kinds


def test_a_folder_of_data_is_absolute(known, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))

    def folder(text):
        return convert_parameters("a", known, {"data_dir": text})["data_dir"]

    assert folder("../data") == str(tmp_path.parent / "data")
    assert folder("~/data") == str(tmp_path / "home" / "data")
    assert folder("~no such user/data") == str(tmp_path / "~no such user" / "data")
    assert folder("") == ""  # where fmnist data finds it
    # Event files are in the run's own folder.
    assert convert_parameters("a", known, {"log_dir": "events"}) == {"log_dir": "events"}


# From inside a chapter.

RANGED = "check_parameters(globals(), n=(1, 48_000), repeats=(1, None), target=(0, 1))"
RANGED_CELL = CELL + "n: int = 6400  # images\nrepeats: int = 3\ntarget: float = 0.9\n"


def enter(given, *others, cell=RANGED_CELL):
    """Execute cells as papermill and IPython do, up to a check of the parameters."""
    added = [PythonTranslator.codify(given)] if given is not None else []
    namespace = {"In": [""], "check_parameters": check_parameters}
    for source in ("import json", cell, *added, *others, RANGED):
        namespace["In"].append(source)
        exec(source, namespace)


REFUSED = {
    "a flag as text": ({"shuffle": "false"}, "shuffle is the text 'false', expected True or False"),
    "too low": (
        {"n": -5},
        "n is -5, expected a whole number from 1 to 48,000 (images; default: 6400)",
    ),
    "too low without a highest": (
        {"repeats": 0},
        "repeats is 0, expected a whole number of 1 or more",
    ),
    "too high": ({"target": 1.5}, "target is 1.5, expected a number from 0 to 1"),
    "a year": ({"data_dir": 2024}, "data_dir is 2024, expected text"),
    "YAML 1.1": ({"lr": "1e-3"}, "lr is the text '1e-3', expected a number"),
    "a misspelt name": ({"epoch": 5}, "has no parameter 'epoch'; did you mean epochs? It has"),
    "half an epoch": ({"epochs": 2.5}, "epochs is 2.5, expected a whole number (passes; "),
    "a flag as a number": ({"epochs": True}, "epochs is True, expected a whole number"),
    "not a number": ({"lr": float("nan")}, "lr is nan, expected a number"),
    "what training refuses": ({"epochs": 0}, "epochs is 0, expected a whole number of 1 or more"),
}


@pytest.mark.parametrize(("given", "words"), REFUSED.values(), ids=REFUSED)
def test_a_chapter_refuses_what_it_does_not_take(given, words):
    with refused(words):
        enter(given)


def test_a_chapter_takes_what_it_declares():
    enter(None)
    enter({})
    enter({"lr": 1, "epochs": 3, "n": 48_000, "repeats": 10**6, "trained_dir": "elsewhere"})


def test_what_a_reader_changes_in_the_parameters_cell_is_checked():
    with refused("shuffle is the text 'no', expected True or False (see the chapter)"):
        enter(None, cell=RANGED_CELL.replace("bool = False", "bool = 'no'"))
    enter(None, cell=RANGED_CELL.replace("= 6400", "= 64 * 100"))


def test_what_a_reader_writes_later_is_not_the_chapters_business():
    mine = "width: int = 5\nwidth, epoch = 'wide', 7", "# Parameters\nspeed = 3"
    enter(None, *mine)
    with refused("epochs is the text 'many', expected a whole number"):
        enter({}, *mine, "epochs = 'many'")


def test_without_executed_cells_the_ranges_and_settings_are_checked():
    check_parameters({"n": 5, "lr": 0.1, "x": None}, n=(1, 9))
    with refused("n is -5, expected a number from 1 to 9"):
        check_parameters({"n": -5}, n=(1, 9))
    with refused("lr is -1, expected a number above 0"):
        check_parameters({"lr": -1})


def test_the_ranges_in_a_chapter_hold_before_it_starts_as_well(write):
    found = read_parameters(write(RANGED_CELL, "%config x\nimport json", f"%time\n{RANGED}\nx = 1"))
    for values, words in REFUSED.values():
        if values.keys() <= {"n", "repeats", "target", "epochs"}:
            with refused(words):
                convert_parameters("a", found, values)
    assert convert_parameters("a", found, {"n": "48000"}) == {"n": 48_000}
    for ranges in ("n=(1, most)", "n=1", "**ranges"):
        with refused(f"check_parameters({ranges}) in a.ipynb", "literal"):
            read_parameters(write("n: int = 1", f"check_parameters({ranges})"))


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_checks_its_own_parameters_before_it_uses_them(name):
    sources = ["".join(cell["source"]) for cell in code_cells(name)]
    (at,) = (n for n, source in enumerate(sources) if "check_parameters(" in source)
    assert sources[at].startswith("check_parameters(")
    assert at == 1 + next(n for n, c in enumerate(code_cells(name)) if is_tagged(c))
    call = ast.parse(sources[at]).body[0].value
    checked = {field.name for field in fields(TrainConfig)} | {k.arg for k in call.keywords}
    numbers = {name for name, kind, _, _ in parsed(name) if kind in ("int", "float")}
    assert {k.arg for k in call.keywords} <= numbers <= checked


@pytest.mark.slow
def test_papermill_stops_in_a_chapters_first_cells(tmp_path):
    chapter, output = FOLDER / "05_training_fast.ipynb", tmp_path / "out.ipynb"
    with pytest.raises(papermill.PapermillExecutionError) as error:
        papermill.execute_notebook(chapter, output, {"n_images": -5}, progress_bar=False)
    assert error.value.ename == "ParameterError"
    assert error.value.evalue.startswith(
        "n_images is -5, expected a whole number from 64 to 48,000"
    )
    assert error.value.exec_count == 6
    assert error.value.traceback == [f"ParameterError: {error.value.evalue}"]
