"""Instant checks of the exercises: ``check`` answers in words and never gives the answer away.

``feedback`` holds ``check`` and what it returns; ``answers`` reads and compares what students
write; one module per chapter holds the checks of its exercises, each below its likely wrong
answers.
"""

from fmnist_lib.course.exercises import (  # noqa: F401  importing registers their checks
    chapter_1,
    chapter_2,
    chapter_3,
    chapter_4,
    chapter_5,
)
from fmnist_lib.course.exercises.feedback import Feedback, check

__all__ = ["Feedback", "check"]
