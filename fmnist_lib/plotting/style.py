"""What the figures share: a width, colours, the looks of models side by side, and new axes."""

from itertools import cycle
from typing import NamedTuple

import matplotlib.pyplot as plt
import seaborn as sns

BLUE, ORANGE, GREEN, RED = (sns.color_palette("colorblind")[i] for i in (0, 1, 2, 3))
WIDTH = 8.0  # inches: the width of a page


class Look(NamedTuple):
    """Colour, marker and line that tell one thing from another, so that none hangs on colour."""

    color: tuple | str
    marker: str
    line: str


LOOKS = (
    Look(BLUE, "o", "-"),
    Look(ORANGE, "s", "--"),
    Look(GREEN, "^", "-."),
    Look(RED, "D", ":"),
    Look("0.4", "v", "-"),
)


def with_looks(items):
    """Pair each of several things with a look of its own; after the fifth they repeat."""
    return zip(items, cycle(LOOKS), strict=False)


def new_axes(height, width=WIDTH):
    """Make a figure of a size in inches with one Axes, and return that."""
    return plt.subplots(figsize=(width, height), layout="constrained")[1]
