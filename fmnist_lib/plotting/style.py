"""What the figures share: their width, looks and new axes, and checks of what is drawn."""

from itertools import cycle
from typing import NamedTuple

import matplotlib.pyplot as plt
import seaborn as sns

from fmnist_lib.common import did_you_mean, require

BLUE, ORANGE, GREEN, RED = (sns.color_palette("colorblind")[i] for i in (0, 1, 2, 3))
WIDTH = 8.0  # inches: the width of a page


class Look(NamedTuple):
    """How one of several things is drawn; marker and line tell it apart without the colour."""

    color: tuple | str
    marker: str
    ls: str


LOOKS = (
    Look(BLUE, "o", "-"),
    Look(ORANGE, "s", "--"),
    Look(GREEN, "^", "-."),
    Look(RED, "D", ":"),
    Look("0.4", "v", "-"),
)


def with_looks(items):
    """Pair each item with a look of its own; after the fifth, looks repeat."""
    return zip(items, cycle(LOOKS), strict=False)


def columns(table, *names):
    """Return columns of a table, or raise `ValueError` with the name of one that is not there."""
    for name in names:
        if name not in table:
            raise ValueError(did_you_mean("column", name, list(map(str, table)), "the table"))
    return [table[name] for name in names]


def check_one_each(kind, values, n, what):
    """Raise `ValueError` unless there is one value, such as a title, for each of n things."""
    require(len(values) == n, f"the number of {kind}", len(values), f"{n}: one for each {what}")


def new_axes(height, width=WIDTH):
    """Make a figure with one Axes, sizes in inches, and return the Axes."""
    return plt.subplots(figsize=(width, height), layout="constrained")[1]
