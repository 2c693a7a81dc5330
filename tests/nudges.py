"""What the tests of all checks of exercises share."""

from fmnist_lib.course.exercises import check


def assert_nudged(number, *answers, nudge, secrets=()):
    """Assert that an answer is refused with these words, which do not give secrets away."""
    feedback = check(number, *answers)
    assert not feedback
    assert nudge in feedback.words
    assert "cannot be read:" not in feedback.words
    assert not {str(secret) for secret in secrets} & set(feedback.words.replace(",", "").split())
