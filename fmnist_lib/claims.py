"""Claims: statements that a chapter makes about its results, checked where it makes them.

Training is chaotic, so digits differ from machine to machine. A chapter shows its digits in an
output that is not compared, and then claims in words what holds on every machine. The functions
below print the words or fail: the printed line is compared, and a broken claim stops the chapter,
unless it is about seconds.
"""


class ClaimError(AssertionError):
    """A chapter's claim does not hold for what it has just measured."""


def claim(statement, holds, *, applies=True, timing=False):
    """Print a statement about a result, or fail if it is false.

    Parameters
    ----------
    statement : str
        The claim in words, without digits that depend on the machine.
    holds : bool
        Whether the measurement bears it out.
    applies : bool
        False for a run with different settings (one epoch instead of 25, say): the claim is then
        printed as not checked.
    timing : bool
        True for a claim about seconds, which another program on the machine can upset: if it does
        not hold, that is printed, and the chapter goes on.

    Raises
    ------
    ClaimError
        If the claim applies, is not about seconds, and does not hold.
    """
    if not applies:
        print(f"○ {statement}: not checked, it is about the chapter's default parameters")
    elif holds:
        print(f"✓ {statement}")
    elif timing:
        print(f"✗ {statement}: not on this machine this time")
    else:
        raise ClaimError(
            f"this run does not bear out the claim '{statement}'; look at the figures in the "
            "cells above, and at whether the data or the code was changed"
        )


def claim_between(name, value, low, high, *, applies=True):
    """Print that a value lies in a band, or fail if it does not.

    Parameters
    ----------
    name : str
        What was measured.
    value : float
        The measurement.
    low, high : float
        Bounds of the band, both inclusive: wide enough for other seeds and machines, narrow enough
        to fail when something is broken.
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
