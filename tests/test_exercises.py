"""Exercises: what a check says to anything a student may hand in."""

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nudges import HUGE

from fmnist_lib.exercises import Feedback, check
from fmnist_lib.exercises.answers import call, number, read_array, run_model, whole_number
from fmnist_lib.exercises.feedback import CHECKS, Nudge, exercise

# What is handed in: numbers.


@pytest.mark.parametrize(
    "form",
    [
        int,
        float,
        Fraction,
        np.float32,
        np.int8,
        np.array,
        torch.tensor,
        lambda n: torch.tensor([[n]], dtype=torch.bfloat16),
        lambda n: torch.tensor(float(n), requires_grad=True),
        lambda n: [n],
        lambda n: np.array([[n]]),
        lambda n: pd.Series([n]),
        lambda n: pd.DataFrame([[n]]),
        lambda n: torch.tensor([n]).to_sparse(),
    ],
)
def test_a_number_may_come_in_any_form(form):
    assert number(form(32)) == 32.0
    assert type(number(form(32))) is float
    assert whole_number(form(32)) == 32


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_keeps_its_value(value):
    assert (
        number(value)
        == number(np.float64(value))
        == number(torch.tensor(value, dtype=torch.float64))
        == value
    )


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (True, "A number is wanted for the answer, and this is True."),
        (np.bool_(False), "and this is False"),
        (torch.tensor([True]), "and this is True"),
        ("32", "this is text: leave the quotation marks out"),
        (b"32", "this is text"),
        (float("nan"), "The answer is NaN"),
        (torch.tensor(float("nan")), "holds NaN"),
        (float("inf"), "infinite"),
        (10**400, "far too large"),
        (3 + 4j, "does not hold real numbers"),
        (torch.tensor(1j), "without real values"),
        (torch.zeros(1, device="meta"), "without real values"),
        (np.zeros(3), "One number is wanted for the answer, and this has the shape (3,)."),
        (np.zeros((2, 0)), "the shape (2, 0)"),
        ([[1, 2], [3]], "different lengths"),
        (HUGE, "far more than is asked for"),
        (torch.zeros(1).expand(10**6, 10**6), "far more than is asked for"),
        (lambda: 32, "this is a function: call it, and give what comes out"),
        (torch.nn.Linear, "this is the class Linear"),
        ({"a": 32}, "this is a dict, which has no order to go by"),
        ({32}, "this is a set"),
        (object(), "this is an object that does not hold real numbers"),
        (np.array(["32"]), "does not hold real numbers"),
        (pd.Series([None, "x"]), "does not hold real numbers"),
    ],
)
def test_what_is_no_number_gets_words(answer, words):
    with pytest.raises(Nudge) as nudge:
        number(answer)
    assert words in str(nudge.value)
    assert "\n" not in str(nudge.value)


def test_a_count_is_whole():
    with pytest.raises(Nudge, match="a whole number"):
        whole_number(32.5)


# Arrays.


@pytest.mark.parametrize(
    "form",
    [
        list,
        tuple,
        np.array,
        torch.tensor,
        pd.Series,
        pd.Index,
        lambda v: [torch.tensor(x) for x in v],
        lambda v: torch.tensor(v).to_sparse(),
        lambda v: np.array(v, dtype=np.uint8),
    ],
)
def test_an_array_may_come_in_any_form(form):
    array = read_array(form([3, 1, 2]), shape=(3,))
    assert array.dtype == np.int64
    assert array.tolist() == [3, 1, 2]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (np.zeros(4), "has the shape (4,), and (any, 10) is wanted"),
        (np.zeros((3, 9)), "has the shape (3, 9), and (any, 10) is wanted"),
        (HUGE, "has the shape (1000000, 1000000), and (any, 10) is wanted"),
        (np.full((2, 10), np.nan), "holds NaN"),
        (torch.full((2, 10), float("inf")), "holds infinity"),
        ([["a"] * 10], "that does not hold real numbers"),
    ],
)
def test_what_is_no_such_array_gets_words(answer, words):
    with pytest.raises(Nudge) as nudge:
        read_array(answer, "the table", (None, 10))
    assert words in str(nudge.value)


# Functions and models.


def test_an_exception_in_a_students_function_is_named_with_its_line():
    def broken(images):
        return images / nothing  # noqa: F821

    with pytest.raises(Nudge) as nudge:
        call(broken, torch.zeros(1))
    assert str(nudge.value) == (
        "Your function stopped with NameError: name 'nothing' is not defined, at "
        "'return images / nothing  # noqa: F821'."
    )


def raising(error):
    def function(*arguments):
        raise error

    return function


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (raising(SystemExit(3)), "stopped with SystemExit: 3"),
        (raising(MemoryError()), "stopped with MemoryError"),
        (raising(ValueError("x" * 1000)), "stopped with ValueError: xxx"),
        (lambda: 1, "cannot be called as the exercise does"),
        (lambda x: None, "returns nothing yet"),
        (lambda x: ..., "returns nothing yet"),
        (3, "A function is wanted, and this is an int"),
    ],
)
def test_what_cannot_be_called_gets_words(function, words):
    with pytest.raises(Nudge) as nudge:
        call(function, torch.zeros(1))
    assert words in str(nudge.value)
    assert len(str(nudge.value)) < 300


def test_endless_recursion_gets_words():
    def again(x):
        return again(x)

    with pytest.raises(Nudge, match="RecursionError"):
        call(again, 1)


def test_a_function_that_writes_into_its_arguments_spoils_nothing():
    images = torch.zeros(3)
    call(lambda x: x.add_(1), images)
    assert images.tolist() == [0, 0, 0]


def test_ctrl_c_stops_a_students_function():
    with pytest.raises(KeyboardInterrupt):
        call(raising(KeyboardInterrupt()), 1)


def test_a_model_is_left_as_it_was():
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.BatchNorm1d(784), torch.nn.Linear(784, 10)
    ).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert run_model(model, torch.rand(5, 1, 28, 28)).shape == (5, 10)
    assert model.training
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (torch.nn.Linear, "the class Linear: make a network of it, Linear()"),
        ({}, "A network (nn.Module) is wanted, and this is a dict"),
        (torch.nn.Linear(3, 10), "The network stopped with RuntimeError"),
        (torch.nn.Flatten(), "has the shape (2, 784), and (2, 10) is wanted"),
    ],
)
def test_what_is_no_such_model_gets_words(model, words):
    with pytest.raises(Nudge) as nudge:
        run_model(model, torch.rand(2, 1, 28, 28))
    assert words in str(nudge.value)


# `check` itself.


@pytest.fixture
def trial():
    """Enter exercises for one test."""
    before = dict(CHECKS)
    yield exercise
    CHECKS.clear()
    CHECKS.update(before)


def test_feedback_says_in_words_whether_it_is_right():
    right, wrong = (
        Feedback("1.1", True, "As it <should> be."),
        Feedback("1.1", False, "Look again."),
    )
    assert right
    assert not wrong
    assert repr(right) == str(right) == "✓ Right. As it <should> be."
    assert repr(wrong) == "✗ Not yet. Look again."
    assert "✓ Right." in right._repr_html_()
    assert "As it &lt;should&gt; be." in right._repr_html_()


def test_a_check_that_fails_itself_still_answers_kindly(trial):
    @trial("9.1")
    def broken(answer):
        return answer.no_such_thing

    feedback = check("9.1", 3)
    assert not feedback
    assert feedback.words.startswith("This answer cannot be read: AttributeError: 'int' object")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("1.99", "There is no exercise 1.99: chapter 1 has 1.1, 1.2"),
        ("77.1", 'There is no exercise 77.1: write it as text, like "2.1".'),
        ("answers", "There is no exercise answers"),
        ("../x", "There is no exercise ../x"),
        (None, "There is no exercise None"),
        ([1], "There is no exercise [1]"),
    ],
)
def test_an_unknown_exercise_gets_words(number, words):
    assert words in check(number, 3).words


def test_the_number_of_answers_gets_words():
    wanted = "Exercise 1.2 asks for: mean_loss; this gives 2 answers."
    assert check("1.2", 1, 2).words == wanted
    assert (
        check("1.4", 1).words
        == "Exercise 1.4 asks for: nearest, distances, data; this gives 1 answer."
    )


@pytest.mark.parametrize("answer", [..., None])
def test_what_is_not_answered_yet_gets_words(answer):
    assert "(last_batch)" in check("1.1", answer).words
