"""Exercises: what a check says to anything a student may hand in."""

import statistics
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nudges import HUGE

from fmnist_lib.course.exercises import Feedback, check
from fmnist_lib.course.exercises.answers import call, number, read_array, run_model, whole_number
from fmnist_lib.course.exercises.feedback import CHECKS, Nudge, exercise
from fmnist_lib.models import build_model

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
        lambda n: (Fraction(n),),
        lambda n: np.array([n], dtype=object),
        lambda n: pd.Series([n], dtype="Int64"),
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
        (np.float64("nan"), "the root or logarithm of a negative number"),
        (torch.tensor(float("nan")), "holds NaN"),
        (float("inf"), "infinite"),
        (10**400, "far too large"),
        (3 + 4j, "A number is wanted for the answer, and this is complex: look for the root of a"),
        (np.sqrt([-1 + 0j]), "this is complex"),
        (torch.tensor(1j), "this is complex"),
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
        (pd.Series([None, "x"]), "this is an object of the type Series that does not hold real"),
        (np.array([Fraction(1, 2), None]), "this is an object of the type ndarray that does not"),
        ([Decimal(1), "x"], "this is a list that does not hold real numbers"),
    ],
)
def test_what_is_no_number_gets_words(answer, words):
    with pytest.raises(Nudge) as nudge:
        number(answer)
    assert words in str(nudge.value)
    assert "\n" not in str(nudge.value)


def test_infinity_is_a_number_where_it_is_asked_for():
    for form in (float, np.float32, torch.tensor, list, pd.Series, np.array):
        one = form([float("inf")]) if form in (list, pd.Series, np.array) else form(float("inf"))
        assert number(one, finite=False) == float("inf")
        with pytest.raises(Nudge, match="infini"):
            number(one)
    with pytest.raises(Nudge, match="NaN"):
        number([float("nan")], finite=False)


def test_a_count_is_whole():
    with pytest.raises(Nudge, match="a whole number"):
        whole_number(32.5)


# Arrays.


def test_an_array_may_hold_fractions():
    assert read_array((Fraction(1, 2), Fraction(3, 4))).tolist() == [0.5, 0.75]


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


def test_rows_may_hold_tensors_that_ask_for_gradients():
    one, two = torch.tensor(1.0, requires_grad=True), torch.tensor(2.0, requires_grad=True)
    assert read_array([[one, two], (two, 3)], shape=(2, 2)).tolist() == [[1, 2], [2, 3]]


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


def stopped_with(function, *arguments):
    with pytest.raises(Nudge) as nudge:
        call(function, *arguments)
    return str(nudge.value)


def test_of_several_lines_the_students_last_one_is_named():
    def helper(images):
        return statistics.mode(images)  # the last line of the student's own

    def function(images):
        return helper(images)

    words = stopped_with(function, [])
    assert words.endswith(
        "at 'return statistics.mode(images)  # the last line of the student's own'."
    )


class Network(torch.nn.Module):
    def forward(self, images):
        return images.no_such_thing


def test_of_a_network_the_students_own_line_is_named():
    words = stopped_with(torch.nn.Sequential(Network()), torch.zeros(1))
    assert words.endswith("at 'return images.no_such_thing'.")
    words = stopped_with(build_model("cnn"), torch.zeros(3))
    assert "RuntimeError" in words
    assert ", at" not in words


def test_a_long_line_is_cut_off(tmp_path):
    path = tmp_path / "cell.py"
    path.write_text(f"def function(x):\n    return nothing + {' + '.join('1' * 999)}\n", "utf-8")
    names = {}
    exec(compile(path.read_text("utf-8"), str(path), "exec"), names)
    words = stopped_with(names["function"], 1)
    assert "at 'return nothing + 1 + 1" in words
    assert words.endswith(" ...'.")
    assert len(words) < 200


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
        (3, "A function is wanted, and this is an int:"),
        (np.zeros(3), "A function is wanted, and this is an object of the type ndarray:"),
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
    labels = np.zeros(3)
    call(lambda x: np.add(x, 1, out=x), labels)
    assert labels.tolist() == [0, 0, 0]


def test_ctrl_c_stops_a_students_function():
    with pytest.raises(KeyboardInterrupt):
        call(raising(KeyboardInterrupt()), 1)


def test_a_model_is_left_as_it_was():
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.BatchNorm1d(784), torch.nn.Linear(784, 10)
    ).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert run_model(model, torch.rand(5, 1, 28, 28)).shape == (5, 10)
    assert all(layer.training for layer in model.modules())
    model[1].eval()
    run_model(model, torch.rand(5, 1, 28, 28))
    assert [layer.training for layer in model] == [True, False, True]
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
