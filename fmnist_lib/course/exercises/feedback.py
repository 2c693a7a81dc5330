"""From an answer to words: the registry of the checks, and `check`, which looks them up.

A check is a function that reads the answers, returns words if they are right, and raises `Nudge`
with words if they are not. `check` turns every other exception into words too: a student never
sees a traceback from inside the library.
"""

import html
import inspect
from dataclasses import dataclass

from fmnist_lib.common import one_line

CHECKS = {}
"""The check of each exercise, by number; importing the chapters' modules fills it."""


class Nudge(Exception):
    """Words for an answer that is not right yet: what is off and a hint, never the answer."""


@dataclass(frozen=True)
class Feedback:
    """What a check says; a notebook shows it below the cell.

    Attributes
    ----------
    exercise : str
        The exercise's number, such as ``"2.1"``.
    right : bool
        Whether the answer is right; also the truth value of the feedback.
    words : str
        Why, or what is off.
    """

    exercise: str
    right: bool
    words: str

    def __bool__(self):
        return self.right

    def __str__(self):
        return f"{self._mark} {self.words}"

    __repr__ = __str__

    def _repr_html_(self):
        # The mark and its word carry the meaning; the colour of the bar only repeats it.
        kind, colour = ("right", "#0072b2") if self.right else ("wrong", "#d55e00")
        style = f"border-left: 0.3rem solid {colour}; padding-left: 0.7rem"
        return (
            f'<p class="exercise-feedback {kind}" style="{style}"><strong>{self._mark}</strong> '
            f"{html.escape(self.words)}</p>"
        )

    @property
    def _mark(self):
        return "✓ Right." if self.right else "✗ Not yet."


def exercise(number):
    """Register a function as the check of an exercise."""

    def register(function):
        CHECKS[number] = function
        return function

    return register


def check(number, *answers):
    """Say whether the answers to an exercise are right.

    Parameters
    ----------
    number : str
        The exercise's number, such as ``"2.1"`` for the first one of chapter 2.
    *answers
        What the exercise asks for: numbers, arrays, functions or models. A number may be an int, a
        float, a NumPy scalar, or an array, tensor, list or Series with one element.

    Returns
    -------
    Feedback
        Right, or what is off and where to look.
    """
    try:
        return Feedback(str(number), True, _ask(str(number), answers))
    except Nudge as nudge:
        words = str(nudge)
    except Exception as error:
        words = f"This answer cannot be read: {one_line(error)}. What does the exercise ask for?"
    return Feedback(str(number), False, words)


def _ask(number, answers):
    if number not in CHECKS:
        raise Nudge(f"There is no exercise {number}: there are {', '.join(CHECKS)}.")
    names = list(inspect.signature(CHECKS[number]).parameters)
    if len(answers) != len(names):
        raise Nudge(
            f"Exercise {number} needs {len(names)} answers ({', '.join(names)}), not "
            f"{len(answers)}."
        )
    for name, answer in zip(names, answers, strict=True):
        if answer is ...:
            raise Nudge(
                f"There is no answer yet: replace the dots ({name}), run that cell, and then run "
                "this one."
            )
        if answer is None:
            raise Nudge(
                f"The answer ({name}) is None. That is what a function without a return gives, and "
                "so do many methods that change something in place."
            )
    return CHECKS[number](*answers)
