"""From an answer to words: the register of the exercises, and `check`, which asks them.

A check is a function that reads the answers, returns words where they are right, and raises `Nudge`
with words where they are not. `check` turns every other exception into words, too: a student is
never shown a traceback from inside the library.
"""

import html
import importlib.util
import inspect
from dataclasses import dataclass

CHECKS = {}
"""The check of each exercise by its number, filled as the modules of the chapters are imported."""


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
        Whether the answer is right.
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
    """Enter a function as the check of an exercise."""

    def enter(function):
        CHECKS[number] = function
        return function

    return enter


def check(number, *answers):
    """Say whether the answers to an exercise are right.

    Parameters
    ----------
    number : str
        The exercise's number, such as ``"2.1"`` for the first one of chapter 2.
    *answers
        What the exercise asks for: numbers, arrays, functions or models. Each may come in any form
        that means the same: a number as int, float, NumPy scalar, array or tensor with one element.

    Returns
    -------
    Feedback
        Right, or what is off and where to look. It is true where the answer is right.
    """
    try:
        return Feedback(str(number), True, _ask(_find(number), number, answers))
    except Nudge as nudge:
        return Feedback(str(number), False, str(nudge))
    except Exception as error:
        words = (
            f"This answer cannot be read: {one_line(error)}. Look at what the exercise asks for."
        )
        return Feedback(str(number), False, words)


def _find(number):
    chapter = str(number).partition(".")[0]
    name = f"{__package__}.chapter_{chapter}"
    if chapter.isdecimal() and importlib.util.find_spec(name):
        importlib.import_module(name)
    if (found := CHECKS.get(str(number))) is None:
        there = ", ".join(n for n in CHECKS if n.startswith(f"{chapter}."))
        hint = f"chapter {chapter} has {there}" if there else 'write it as text, like "2.1"'
        raise Nudge(f"There is no exercise {number}: {hint}.")
    return found


def _ask(function, number, answers):
    names = list(inspect.signature(function).parameters)
    if len(answers) != len(names):
        given = f"{len(answers)} answer{'s' * (len(answers) != 1)}"
        raise Nudge(f"Exercise {number} asks for: {', '.join(names)}; this gives {given}.")
    for name, answer in zip(names, answers, strict=True):
        if answer is ...:
            raise Nudge(
                f"There is no answer yet: put yours in place of the dots ({name}), and run that "
                "cell and then this one."
            )
        if answer is None:
            raise Nudge(
                f"The answer ({name}) is None, which is what a function gives that returns "
                "nothing, and what many methods that change something in place give."
            )
    return function(*answers)


def one_line(error):
    """Say what an exception says, in one line of bearable length."""
    text = " ".join(str(error).split())
    return shortened(f"{type(error).__name__}: {text}" if text else type(error).__name__, 160)


def shortened(text, most):
    """Cut a text off behind so many characters, and mark the cut."""
    return text if len(text) <= most else text[: most - 3] + "..."
