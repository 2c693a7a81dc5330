"""Instant checks of the exercises: `check` answers in words and never gives the answer away.

``feedback`` holds `check` and what it returns; ``answers`` reads and compares what students write;
and one module per chapter holds the checks of its exercises, each below its likely wrong answers.
"""

from fmnist_lib.course.exercises.feedback import Feedback, check

__all__ = ["Feedback", "check"]
