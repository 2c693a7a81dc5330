"""What the tests of all checks of exercises share."""

import numpy as np

HUGE = np.broadcast_to(0.0, (10**6, 10**6))  # eight terabytes, if anybody copied it


def broken(*arguments):
    """Stand for a student's function that fails."""
    raise RuntimeError("out of order")


def assert_nudged(feedback, nudge, *secrets):
    """Assert that an answer is refused with these words, and without giving secrets away."""
    assert not feedback
    assert nudge in feedback.words
    assert "cannot be read" not in feedback.words
    assert not any(secret in feedback.words for secret in secrets)
