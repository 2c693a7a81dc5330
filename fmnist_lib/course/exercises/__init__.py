"""Instant checks of the exercises: `check` answers in words, and never gives the answer away.

``feedback`` holds `check` and what it returns, ``answers`` reads what students write in whatever
form, and one module for each chapter holds the checks of its exercises; ``networks`` and ``damage``
hold what two of them ask.
"""

from fmnist_lib.course.exercises.feedback import Feedback, check

__all__ = ["Feedback", "check"]
