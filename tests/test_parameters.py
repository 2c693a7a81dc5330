"""The parameters of a chapter, and what is said about values that it does not take."""

import ast
import io
import json
import re
import tokenize
from dataclasses import fields
from functools import partial
from pathlib import Path

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmnist_lib.chapters import CHAPTERS, ChapterError
from fmnist_lib.common import ParameterError, did_you_mean
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
"""


@pytest.fixture
def write(tmp_path, write_chapter):
    """Make a chapter with a parameters cell: (source) -> path."""
    return partial(write_chapter, tmp_path / "a.ipynb")


@pytest.fixture
def known(write):
    return read_parameters(write(CELL))


def refused(message):
    return pytest.raises(ParameterError, match=f"^{re.escape(message)}$")


def parsed(name):
    """Read a chapter's parameters cell as Python does: (name, annotation, value, comment)."""
    cells = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    (source,) = (
        "".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", [])
    )
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
    return [
        (
            line.target.id,
            line.annotation.id,
            ast.literal_eval(line.value),
            comments.get(line.end_lineno, ""),
        )
        for line in ast.parse(source).body
    ]


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_parameter_of_a_chapter_is_read(name):
    found = read_parameters(FOLDER / f"{name}.ipynb")
    assert [(p.name, p.kind, p.default, p.help) for p in found.values()] == parsed(name)
    assert list(found) == [parameter.name for parameter in found.values()]
    assert all(type(p.default).__name__ == p.kind and p.help for p in found.values())


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_defaults_of_a_chapter_can_be_given_as_they_are(name):
    known = read_parameters(FOLDER / f"{name}.ipynb")
    defaults = {n: parameter.default for n, parameter in known.items() if n != "trained_dir"}
    assert check_parameters(name, known, defaults) == defaults
    texts = {n: str(value) for n, value in defaults.items()}
    assert check_parameters(name, known, texts) == defaults


def test_kinds_are_inferred_where_none_is_written(write):
    found = read_parameters(write("a = 1\nb = 0.5\nc = True\nd = 'x'\ne = -2  # below zero"))
    assert {p.name: (p.kind, p.default) for p in found.values()} == {
        "a": ("int", 1),
        "b": ("float", 0.5),
        "c": ("bool", True),
        "d": ("str", "x"),
        "e": ("int", -2),
    }
    assert found["e"].help == "below zero"


def test_a_whole_number_as_default_of_a_float_is_a_float(write):
    default = read_parameters(write("lr: float = 1"))["lr"].default
    assert (default, type(default)) == (1.0, float)


def test_a_notebook_without_parameters_has_none(write, recwarn):
    assert read_parameters(write("x = 1", tags=())) == {}
    assert not recwarn.list


@pytest.mark.parametrize("line", ["lr = 1 / 3", "lr = None", "lr = [1]", "lr: int = 'a'"])
def test_a_default_that_is_no_literal_is_refused(write, line):
    default = line.partition("= ")[2]
    with refused(
        f"the default of lr in a.ipynb is {default}, expected a literal int, float, bool or str; "
        "write it out in the parameters cell"
    ):
        read_parameters(write(line))


@pytest.mark.parametrize(
    "content",
    [
        *(b"nonsense", b"", b"{", b"[]", b"{}", b"3", b"null", b"\xff\xfe", b"\x00" * 9),
        *(b'{"nbformat": 4}', b'{"nbformat": 9}', b'{"cells": [], "nbformat": 4}'),
        b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"cell_type": "x"}]}',
    ],
)
def test_a_file_that_is_not_a_notebook_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "a.ipynb").write_bytes(content)
    with pytest.raises(ChapterError, match=r"a\.ipynb cannot be read as a notebook") as refused:
        read_parameters(tmp_path / "a.ipynb")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kernel", [None, {"name": "ir", "display_name": "R", "language": "R"}])
def test_the_parameters_are_read_whatever_kernel_the_notebook_names(write, kernel):
    notebook = nbformat.read(path := write("a: int = 1"), 4)
    notebook.metadata = {"kernelspec": kernel} if kernel else {}
    nbformat.write(notebook, path)
    assert read_parameters(path)["a"].default == 1


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("int", 5, 5),
        ("int", "5", 5),
        ("int", "-5", -5),
        ("float", 1, 1.0),
        ("float", 0.5, 0.5),
        ("float", "1e-3", 0.001),  # YAML takes it for a text
        ("float", "2", 2.0),
        ("bool", True, True),
        ("bool", False, False),
        ("bool", "True", True),
        ("bool", "true", True),
        ("bool", "False", False),
        ("bool", "false", False),
        ("str", "cpu", "cpu"),
        ("str", "", ""),
        ("str", "1", "1"),
    ],
)
def test_a_value_becomes_one_of_the_parameters_kind(kind, value, expected):
    converted = Parameter("x", kind, expected, "").convert(value)
    assert (converted, type(converted)) == (expected, type(expected))


@given(st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans()))
def test_what_python_writes_is_read_back(value):
    converted = Parameter("x", KINDS[type(value)], value, "").convert(str(value))
    assert (converted, type(converted)) == (value, type(value))


BAD = {
    "int": [True, 1.0, 2.5, "2.5", "1e3", "five", "", None, [1]],
    "float": [True, False, "nan", "inf", float("nan"), 10**400, "1,5", "x", "", None, [1.0]],
    "bool": [1, 0, "1", "yes", "", None, [True]],
    "str": [1, 0.5, True, None, ["a"]],
}
EXPECTED = {"int": "a whole number", "float": "a number", "bool": "true or false"}


@pytest.mark.parametrize(("kind", "value"), [(k, v) for k, values in BAD.items() for v in values])
def test_a_value_of_another_kind_is_refused(kind, value):
    expected = EXPECTED.get(kind, "a text; put it in quotes")
    with refused(f"x is {value!r}, expected {expected} (what it does; default: 'd')"):
        Parameter("x", kind, "d", "what it does").convert(value)


def test_without_a_comment_the_message_points_to_the_chapter():
    with refused("x is 'a', expected a whole number (see the chapter; default: 3)"):
        Parameter("x", "int", 3, "").convert("a")


def test_an_unknown_name_is_told_with_the_nearest_and_all_others(known):
    there = "epochs, lr, shuffle, name, data_dir"
    with refused(f"a has no parameter 'epoch'; did you mean epochs? It has {there}"):
        check_parameters("a", known, {"epoch": 5})
    with refused(f"a has no parameter '???'; it has {there}"):
        check_parameters("a", known, {"???": 5})
    with refused("a has no parameter 'epochs'; it has none"):
        check_parameters("a", {}, {"epochs": 5})


def test_a_name_that_is_no_text_is_told():
    assert did_you_mean("entry", 1, ["a", "b"], "x.yml") == "x.yml has no entry '1'; it has a, b"


def test_the_folder_of_runs_cannot_be_given(known):
    with refused(
        "trained_dir cannot be given: a run keeps its files in its own folder; name that with -o"
    ):
        check_parameters("a", known, {"trained_dir": "elsewhere"})


def test_the_values_that_were_given_come_back_in_the_chapters_order(known):
    values = check_parameters("a", known, {"shuffle": "true", "epochs": "3"})
    assert list(values.items()) == [("epochs", 3), ("shuffle", True)]
    assert check_parameters("a", known, {}) == {}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", "0", "epochs is 0, expected a whole number of 1 or more"),
        ("batch_size", -1, "batch_size is -1, expected a whole number of 1 or more"),
        ("seed", -1, "seed is -1, expected a whole number of 0 or more"),
        ("lr", "-1", "lr is -1.0, expected a number above 0"),
    ],
)
def test_what_a_training_refuses_is_refused(name, value, message):
    known = read_parameters(FOLDER / "02_cnn.ipynb")
    with refused(message):
        check_parameters("02_cnn", known, {name: value})


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

    assert folder("data") == str(tmp_path / "data")
    assert folder("../data") == str(tmp_path.parent / "data")
    assert folder("~/data") == str(tmp_path / "home" / "data")
    assert folder(str(tmp_path)) == str(tmp_path)
    assert folder("") == ""  # where fmnist data finds it
