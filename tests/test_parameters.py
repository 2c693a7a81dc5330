"""The parameters of a chapter, and the values that it does not take."""

import ast
import io
import json
import re
import tokenize
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
    """Read a chapter's parameters cell as Python does: (name, annotation, value, comment)."""
    cells = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    (source,) = (
        "".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", [])
    )
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
    for line in ast.parse(source).body:
        comment = comments.get(line.end_lineno, "")
        yield line.target.id, line.annotation.id, ast.literal_eval(line.value), comment


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_parameter_of_a_chapter_is_read(name):
    found = read_parameters(FOLDER / f"{name}.ipynb")
    assert [(p.name, p.kind, p.default, p.help) for p in found.values()] == list(parsed(name))
    assert all(type(p.default).__name__ == p.kind and p.help for p in found.values())
    defaults = {n: p.default for n, p in found.items() if n != "trained_dir"}
    assert check_parameters(name, found, defaults) == defaults


def test_kinds_are_inferred_where_none_is_written(write):
    source = "a = 1\nb = 0.5\nc = True\nd = 'x'\ne = -2  # below zero\nf: float = 1"
    found = read_parameters(write(source))
    assert type(found["f"].default) is float
    assert [(p.kind, p.default) for p in found.values()] == [
        *(("int", 1), ("float", 0.5), ("bool", True)),
        *(("str", "x"), ("int", -2), ("float", 1.0)),
    ]
    assert found["e"].help == "below zero"


def test_a_notebook_without_parameters_has_none(write, recwarn):
    assert read_parameters(write("x = 1", tags=())) == {}
    assert not recwarn.list


@pytest.mark.parametrize("line", ["lr = 1 / 3", "lr = None", "lr = [1]", "lr: int = 'a'"])
def test_a_default_that_is_not_a_literal_is_refused(write, line):
    with refused("the default of lr in a.ipynb is ", line.partition("= ")[2], "expected a literal"):
        read_parameters(write(line))


@pytest.mark.parametrize("content", [b"nonsense", b"{}", b"\xff\xfe"])
def test_a_file_that_is_not_a_notebook_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "a.ipynb").write_bytes(content)
    with pytest.raises(ChapterError, match=r"^[^\n]*a\.ipynb cannot be read as a notebook[^\n]*$"):
        read_parameters(tmp_path / "a.ipynb")


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("float", 1, 1.0),
        ("float", "1e-3", 0.001),  # text to YAML
        ("bool", "true", True),
        ("str", "", ""),
        ("str", "1", "1"),
    ],
)
def test_a_value_is_converted_to_the_parameters_kind(kind, value, expected):
    converted = Parameter("x", kind, expected, "").convert(value)
    assert (converted, type(converted)) == (expected, type(expected))


@given(st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans()))
def test_what_python_writes_is_read_back(value):
    parameter = Parameter("x", KINDS[type(value)], value, "")
    for converted in (parameter.convert(value), parameter.convert(str(value))):
        assert (converted, type(converted)) == (value, type(value))


BAD = {
    "int": [True, 1.0, "2.5", "", None, [1]],
    "float": [True, "nan", float("inf"), 10**400, "x", None],
    "bool": [1, "yes", None],
    "str": [1, None],
}
EXPECTED = {"int": "a whole number", "float": "a number", "bool": "true or false"}


@pytest.mark.parametrize(("kind", "value"), [(k, v) for k, values in BAD.items() for v in values])
def test_a_value_of_the_wrong_kind_is_refused(kind, value):
    expected = EXPECTED.get(kind, "text; put it in quotes")
    with refused(f"x is {value!r}, expected {expected} (what it does; default: 'd')"):
        Parameter("x", kind, "d", "what it does").convert(value)


def test_an_unknown_name_is_reported_with_the_nearest_and_all_others(known):
    with refused("a has no parameter 'epoch'; did you mean epochs?", "epochs, lr, shuffle, name"):
        check_parameters("a", known, {"epoch": 5})
    with refused("a has no parameter 'epochs'; it has none"):
        check_parameters("a", {}, {"epochs": 5})
    with refused("trained_dir cannot be set"):
        check_parameters("a", known, {"trained_dir": "elsewhere"})


def test_the_values_that_were_given_come_back_in_the_chapters_order(known):
    values = check_parameters("a", known, {"shuffle": "true", "epochs": "3"})
    assert list(values.items()) == [("epochs", 3), ("shuffle", True)]
    assert check_parameters("a", known, {}) == {}


def test_what_a_training_run_refuses_is_refused():
    known = read_parameters(FOLDER / "02_cnn.ipynb")
    with refused("lr is -1.0, expected a number above 0"):
        check_parameters("02_cnn", known, {"lr": "-1"})


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
