"""What the tests of all checks of exercises share."""

from fmnist_lib.course.exercises import check

SECRETS = {
    "1.1": {"32"},
    "1.2": {"0.5008"},
    "2.1": {"440650", "106496", "1568"},
    "2.3": {"2.28", "2.29"},
    "3.1": {"34"},
    "3.3": {"9"},
    "3.5": {"12×12", "padding=2"},
    "4.1": {"0.02"},
    "4.3": {"0.9088"},
    "5.1": {"663552"},
    "5.5": {"0.1875"},
}
"""Right answers, and steps to them, that no hint may give away."""


def assert_nudged(number, *answers, nudge):
    """Assert that an answer is refused with these words, which do not give the right one away."""
    feedback = check(number, *answers)
    assert not feedback
    assert nudge in feedback.words
    assert "cannot be read:" not in feedback.words
    assert not SECRETS.get(number, set()) & set(feedback.words.replace(",", "").split())
