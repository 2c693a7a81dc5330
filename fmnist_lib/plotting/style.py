"""What the figures share: a width, colours, and new axes."""

import matplotlib.pyplot as plt
import seaborn as sns

BLUE, ORANGE, GREEN, RED = (sns.color_palette("colorblind")[i] for i in (0, 1, 2, 3))
WIDTH = 8.0  # inches: the width of a page


def new_axes(height, width=WIDTH):
    """Make a figure of a size in inches with one Axes, and return that."""
    return plt.subplots(figsize=(width, height), layout="constrained")[1]
