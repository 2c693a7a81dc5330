"""The parameters of a chapter, and the values that it does not take."""

import ast
import json
import re
from dataclasses import fields
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmnist_lib.chapters import CHAPTERS, ChapterError
from fmnist_lib.common import ParameterError
from fmnist_lib.experiments.parameters import Parameter, check_parameters, read_parameters
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


def parsed(name):
    """Read a chapter's parameters cell: (name, annotation, value, comment) of each line."""
    cells = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    (source,) = (
        "".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", [])
    )
    for line in source.splitlines():
        name, kind, text, comment = re.fullmatch(r"(\w+): (\w+) = (.*?)  # (.*)", line).groups()
        yield name, kind, ast.literal_eval(text), comment


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_parameter_of_a_chapter_is_read(name):
    found = read_parameters(FOLDER / f"{name}.ipynb")
    assert [(p.name, p.kind, p.default, p.help) for p in found.values()] == list(parsed(name))
    assert all(type(p.default).__name__ == p.kind and p.help for p in found.values())
    defaults = {n: p.default for n, p in found.items() if n != "trained_dir"}
    assert check_parameters(name, found, defaults) == defaults


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


BAD = {
    ("int", "a whole number"): [True, 1.0, "2.5", None],
    ("float", "a number"): [True, "nan", float("inf"), 10**400, "x"],
    ("bool", "true or false"): [1, "yes"],
    ("str", "text; put it in quotes"): [1],
}


@pytest.mark.parametrize(
    ("kind", "expected", "value"), [(*kind, v) for kind, values in BAD.items() for v in values]
)
def test_a_value_of_the_wrong_kind_is_refused(kind, expected, value):
    with refused(f"x is {value!r}, expected {expected} (what it does; default: 'd')"):
        Parameter("x", kind, "d", "what it does").convert(value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"epoch": 5}, "a has no parameter 'epoch'; did you mean epochs? It has epochs, lr, "),
        ({"trained_dir": "elsewhere"}, "trained_dir cannot be set"),
        ({"lr": "-1"}, "lr is -1.0, expected a number above 0"),  # says the training run
    ],
)
def test_a_value_that_a_chapter_does_not_take_is_refused(known, values, words):
    with refused(words):
        check_parameters("a", known, values)


def test_the_values_that_were_given_come_back_in_the_chapters_order_and_converted(known):
    values = check_parameters("a", known, {"lr": 1, "epochs": "3", "shuffle": "true"})
    assert list(values.items()) == [("epochs", 3), ("lr", 1.0), ("shuffle", True)]
    assert type(values["lr"]) is float


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
        return check_parameters("a", known, {"data_dir": text})["data_dir"]

    assert folder("../data") == str(tmp_path.parent / "data")
    assert folder("~/data") == str(tmp_path / "home" / "data")
    assert folder("") == ""  # where fmnist data finds it
    # Event files are in the run's own folder.
    assert check_parameters("a", known, {"log_dir": "events"}) == {"log_dir": "events"}
