"""Claims: statements of a chapter's text, checked where they are made.

Training is chaotic, so another machine gets other digits. A chapter shows its digits in an output
that is not compared, and then claims in words what holds on every machine. The words are printed
by the functions below, which fail where the claim does: the printed line is compared, and a broken
claim stops the chapter.
"""


class ClaimError(AssertionError):
    """A claim of a chapter does not hold for what was just measured."""


def claim(statement, holds, *, applies=True):
    """Print a statement about a result, or fail where it is false.

    Parameters
    ----------
    statement : str
        The claim in words, without digits that another machine would not give.
    holds : bool
        Whether it is true of what was measured.
    applies : bool
        False for a run with other settings than those the claim is about (one epoch instead of
        25, say): the claim is then printed as not checked.

    Raises
    ------
    ClaimError
        If the claim applies and does not hold.
    """
    if not applies:
        print(f"○ {statement}: not checked, it is about the chapter's default parameters")
    elif holds:
        print(f"✓ {statement}")
    else:
        raise ClaimError(
            f"this run does not bear out the claim '{statement}'; look at the figures in the "
            "cells above, and at whether the data or the code was changed"
        )


def claim_between(name, value, low, high, *, applies=True):
    """Print that a value lies in a band, or fail where it does not.

    Parameters
    ----------
    name : str
        What was measured.
    value : float
        What came out.
    low, high : float
        The band, both ends included: wide enough for other seeds and machines, narrow enough to
        fail when something is broken.
    applies : bool
        As in `claim`.

    Raises
    ------
    ClaimError
        If the claim applies and the value lies outside the band, or is not a number.
    """
    statement = f"{name} lies between {low:g} and {high:g}"
    if applies and not low <= value <= high:
        raise ClaimError(
            f"{name} is {value:.4f}, expected between {low:g} and {high:g}; look at the figures "
            "in the cells above, and at whether the data or the code was changed"
        )
    claim(statement, True, applies=applies)
