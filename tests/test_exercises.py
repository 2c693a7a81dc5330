"""Exercises: what a check says to anything a student may hand in."""

import statistics
from inspect import signature

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from fmnist_lib.chapters import CHAPTERS
from fmnist_lib.course.exercises import Feedback, check
from fmnist_lib.course.exercises.answers import call, expect, number, read_array, run_model
from fmnist_lib.course.exercises.feedback import CHECKS, Nudge
from fmnist_lib.measured import load_seeds
from fmnist_lib.models import build_model

# Numbers and arrays.


@pytest.mark.parametrize(
    "form",
    [
        int,
        np.array,
        lambda n: torch.tensor([[n]], dtype=torch.bfloat16),
        lambda n: torch.tensor(float(n), requires_grad=True),
        lambda n: [n],
        lambda n: pd.Series([n], dtype="Int64"),
        lambda n: pd.DataFrame([[n]]),
    ],
)
def test_a_number_may_come_in_any_usual_form(form):
    assert number(form(32)) == 32.0


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (True, "a number is needed for the answer, but this is true or false"),
        ("32", "of type str and cannot be read as real numbers"),
        (float("nan"), "the answer is nan or infinity"),
        (float("inf"), "look for a division by 0"),
        (np.zeros(3), "one number is needed for the answer, but this has shape (3,)"),
        ((-1) ** 0.5, "of type complex and cannot be read"),
        (10**400, "of type int and cannot be read"),
        (lambda: 32, "of type function and cannot be read as real numbers: call it"),
    ],
)
def test_what_is_not_a_number_gets_words(answer, words):
    with pytest.raises(Nudge) as nudge:
        number(answer)
    assert words in str(nudge.value).lower()


def test_an_array_may_come_in_any_usual_form():
    parts = [torch.tensor(float(n), requires_grad=True) for n in (3, 1, 2)]
    for array in (pd.Series([3, 1, 2]), parts, np.array([[3], [1], [2]], dtype=np.uint8)):
        assert read_array(array, shape=(3,)).tolist() == [3, 1, 2]


def test_an_array_of_the_wrong_shape_gets_words():
    with pytest.raises(Nudge, match=r"The table has shape \(3, 9\), but should have shape \(3, 10"):
        read_array(np.zeros((3, 9)), "the table", (3, 10))


def test_the_words_are_those_of_the_wrong_turn_and_never_for_a_right_answer():
    turns = {1: "one", 2: "two"}
    expect(2.0, 2, turns, "other")
    expect(np.array([2, 2.001]), torch.tensor([2, 2]), turns, "other", atol=0.01)
    for found, words in ((1, "one"), (2, "two"), (3, "other")):
        with pytest.raises(Nudge, match=words):
            expect(found, 5, turns, "other")


# Functions and models.


def raising(error):
    def function(*arguments):
        raise error

    return function


def helper(images):
    return statistics.mode(images)  # the last line of the student's own


class Network(nn.Module):
    def forward(self, images):
        return images.no_such_thing


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (3, "A function is needed, and this is of type int"),
        (lambda images: None, "returns nothing yet"),
        (raising(SystemExit(3)), "stopped with SystemExit: 3, at 'raise error'"),
        (raising(ValueError("x" * 1000)), "stopped with ValueError: xxx"),
        (lambda images: helper([]), "at 'return statistics.mode(images) # the last"),
        (nn.Sequential(Network()), "at 'return images.no_such_thing'."),
    ],
)
def test_a_function_that_fails_gets_words_and_its_last_line_is_quoted(function, words):
    with pytest.raises(Nudge) as nudge:
        call(function, torch.zeros(1))
    assert words in str(nudge.value)
    assert len(str(nudge.value)) < 400


def test_no_line_of_a_library_is_quoted():
    with pytest.raises(Nudge) as nudge:
        call(build_model("cnn"), torch.zeros(3))
    assert "RuntimeError" in str(nudge.value)
    assert ", at '" not in str(nudge.value)


def test_a_function_that_writes_into_its_arguments_spoils_nothing():
    for zeros in (torch.zeros(3), np.zeros(3)):
        call(lambda x: x.__iadd__(1), zeros)
        assert zeros.tolist() == [0, 0, 0]


def test_ctrl_c_stops_a_students_function():
    with pytest.raises(KeyboardInterrupt):
        call(raising(KeyboardInterrupt()), 1)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Linear, "A network (nn.Module) is needed, and this is of type type: create one"),
        (nn.Linear(3, 10), "The network stopped with RuntimeError"),
        (nn.Flatten(), "has shape (2, 784), but should have shape (2, 10)"),
    ],
)
def test_what_is_not_such_a_model_gets_words(model, words):
    with pytest.raises(Nudge) as nudge:
        run_model(model, torch.rand(2, 1, 28, 28), (2, 10))
    assert words in str(nudge.value)


# `check` itself.

NONSENSE = [
    "text",
    True,
    float("nan"),
    1e9,
    {},
    [[1, 2], [3]],
    np.zeros((3, 4, 5)),
    torch.full((2, 10), float("nan")),
    torch.tensor(1j),
    pd.DataFrame(),
    nn.Linear(1, 1),
    object(),
    lambda: 1,
    raising(RuntimeError("out of order")),
]


@pytest.fixture(scope="module")
def given(sample):
    """What the checks get from the chapters, besides answers."""
    networks = {"cnn": build_model("cnn")}
    return {"data": sample, "seeds": load_seeds(), "networks": networks, "plain": networks["cnn"]}


@pytest.mark.parametrize("chapter", range(1, len(CHAPTERS) + 1))
def test_nonsense_gets_words_whatever_the_exercise(chapter, given):
    for exercise_number in [n for n in CHECKS if n.startswith(f"{chapter}.")]:
        names = list(signature(CHECKS[exercise_number]).parameters)
        for thing in [*NONSENSE, *(lambda *a, thing=thing: thing for thing in [None, *NONSENSE])]:
            feedback = check(exercise_number, *(given.get(name, thing) for name in names))
            assert not feedback, (exercise_number, thing)
            assert "cannot be read:" not in feedback.words, (exercise_number, thing)
            assert 10 < len(feedback.words) < 500


def test_feedback_says_in_words_whether_it_is_right():
    right, wrong = (Feedback("1.1", is_right, "As it <should> be.") for is_right in (True, False))
    assert right
    assert not wrong
    assert repr(right) == str(right) == "✓ Right. As it <should> be."
    assert repr(wrong) == "✗ Not yet. As it <should> be."
    assert "✓ Right." in right._repr_html_()
    assert "As it &lt;should&gt; be." in right._repr_html_()


@pytest.mark.parametrize(
    ("number", "answer", "words"),
    [
        ("1.1", ..., "There is no answer yet: replace the dots (last_batch)"),
        ("1.1", None, "The answer (last_batch) is None"),
        ("1.99", 3, "There is no exercise 1.99: there are 1.1, 1.2"),
        ([1], 3, "There is no exercise [1]"),
        ("1.4", 3, "needs 3 answers (nearest, distances, data), not 1"),
        ("9.1", 3, "This answer cannot be read: AttributeError: 'int' object"),
    ],
)
def test_what_no_check_can_judge_gets_words(monkeypatch, number, answer, words):
    monkeypatch.setitem(CHECKS, "9.1", lambda answer: answer.no_such_thing)
    feedback = check(number, answer)
    assert not feedback
    assert words in feedback.words
