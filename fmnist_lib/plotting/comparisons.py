"""Figures that compare classes, models or settings."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from fmnist_lib.data import CLASS_NAMES
from fmnist_lib.inputs import as_array, checked_class_names, checked_confusion, checked_labels
from fmnist_lib.plotting.style import (
    BLUE,
    ORANGE,
    WIDTH,
    check_one_each,
    columns,
    new_axes,
    with_looks,
)


def bars(values, labels, xlabel, fmt="{:,.0f}"):
    """Draw horizontal bars, each with its value at its end.

    Parameters
    ----------
    values : sequence of float
    labels : sequence of str
    xlabel : str
    fmt : str
        Format of the values.
    """
    check_one_each("labels", labels, len(values), "bar")
    ax = new_axes(0.32 * len(values) + 0.7)
    # At numbers, since matplotlib would draw bars of one label over each other.
    drawn = ax.barh(range(len(values)), values, tick_label=labels, color=BLUE)
    ax.bar_label(drawn, fmt=fmt, padding=3, fontsize=8)
    ax.invert_yaxis()
    ax.set_xlabel(xlabel)
    ax.margins(x=0.12)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def intervals(table, xlabel):
    """Draw values with their intervals, one below the other.

    Parameters
    ----------
    table : DataFrame
        Columns ``value, low, high``; the index names the rows.
    xlabel : str
    """
    value, low, high = columns(table, "value", "low", "high")
    ax = new_axes(0.5 * len(table) + 0.9)
    errors = [value - low, high - value]
    ax.errorbar(value, range(len(table)), xerr=errors, fmt="o", capsize=4, color=BLUE)
    ax.set_yticks(range(len(table)), table.index)
    ax.set_xlabel(xlabel)
    ax.invert_yaxis()
    ax.margins(y=0.35)
    ax.grid(axis="x", alpha=0.3)
    return ax


def strips(values, xlabel):
    """Draw every value as a point, one row per group, and the mean of each group as a line.

    Parameters
    ----------
    values : DataFrame, or dict of str to sequence of float
        One column, or one entry, per group.
    xlabel : str
    """
    names = list(values)
    ax = new_axes(0.5 * len(names) + 0.9)
    for row, (name, look) in enumerate(with_looks(names)):
        numbers = as_array(values[name])
        # Spread in height, so that equal values do not cover each other.
        offsets = np.linspace(-0.22, 0.22, len(numbers)) if len(numbers) > 1 else 0.0
        ax.plot(numbers, row + offsets, look.marker, color=look.color, alpha=0.8, ms=5)
        ax.vlines(np.mean(numbers), row - 0.35, row + 0.35, color="0.2", lw=1.5)
    ax.set_yticks(range(len(names)), names)
    ax.set_xlabel(xlabel)
    ax.invert_yaxis()
    ax.grid(axis="x", alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def class_lines(tables, column, xlabel):
    """Draw one column of several class tables as points on the same lines.

    Parameters
    ----------
    tables : dict of str to DataFrame
        From `class_report`, by model name.
    column : str
    xlabel : str
    """
    ax = new_axes(3.6)
    for (name, table), look in with_looks(tables.items()):
        (values,) = columns(table, column)
        ax.plot(values, table.index, look.marker, color=look.color, label=name, ms=7)
    ax.set_xlabel(xlabel)
    ax.invert_yaxis()
    ax.grid(axis="y", alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    # Above the lines: inside, its markers would look like values.
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(tables), frameon=False)
    return ax


def speeds(table, floor=None):
    """Draw the time of each function, with the spread of its repeats.

    Parameters
    ----------
    table : DataFrame
        From `compare_times`.
    floor : float, optional
        The least time that the arithmetic takes, in seconds, drawn as a line.
    """
    seconds, lowest, highest, _ = columns(table, "seconds", "lowest", "highest", "speed")
    ax = new_axes(0.45 * len(table) + 0.9)
    spread = [seconds - lowest, highest - seconds]
    ax.barh(table.index, seconds, xerr=spread, color=BLUE, height=0.7, ecolor="0.3")
    # One disturbed repeat must not shrink all bars, so its spread may run off the figure.
    right = 1.3 * seconds.max()
    for position, row in enumerate(table.itertuples()):
        end = min(row.highest, 0.9 * right)
        ax.text(end, position, f"  {row.speed:.1f}×", va="center")
    if floor is not None:
        ax.axvline(floor, color=ORANGE, ls="--", label="floor: the arithmetic alone")
        ax.legend(frameon=False, loc="lower right")
    ax.set_xlim(0, right)
    ax.set_xlabel("seconds (median, lowest to highest)")
    ax.invert_yaxis()
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def confusion_heatmap(confusion, title="", difference=False):
    """Draw a confusion matrix as an annotated heat map.

    The colours show the mistakes; right answers, on the diagonal, are grey.

    Parameters
    ----------
    confusion : DataFrame, (C, C)
        Counts from `confusion_matrix`, or, with ``difference``, the difference of two such tables.
    title : str
    difference : bool
        Draw values of both signs, with 0 in the middle of the colour map.
    """
    # Right answers far outnumber the mistakes, and would use up the colours.
    diagonal = np.eye(len(checked_confusion(confusion)), dtype=bool) & (not difference)
    ax = new_axes(0.72 * WIDTH, 0.8 * WIDTH)
    limit = max(np.abs(confusion.mask(diagonal, 0).to_numpy()).max(), 1)
    sns.heatmap(
        confusion,
        mask=diagonal,
        ax=ax,
        annot=True,
        fmt="+d" if difference else "d",
        annot_kws={"size": 8},
        square=True,
        cmap="PuOr" if difference else "Blues",
        vmin=-limit if difference else 0,
        vmax=limit,
        linewidths=0.5,
        cbar_kws={"label": "difference in images" if difference else "images", "shrink": 0.8},
    )
    if not difference:
        ax.set_facecolor("0.85")
        for k, n in enumerate(np.diag(confusion)):
            ax.text(k + 0.5, k + 0.5, n, ha="center", va="center", size=8)
    ax.set(xlabel="predicted class", ylabel="true class", title=title)
    ax.tick_params(axis="x", rotation=45)
    plt.setp(ax.get_xticklabels(), ha="right", rotation_mode="anchor")
    return ax


def pixel_histograms(images, labels, class_names=CLASS_NAMES):
    """Draw the distribution of the pixel values, 0 to 1, of each class, without the zeros."""
    labels = checked_labels(labels, len(images), len(checked_class_names(class_names)))
    images = as_array(images)
    rows = -(-len(class_names) // 5)
    size = (WIDTH, 1.7 * rows)
    figure, axes = plt.subplots(
        rows, 5, figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for ax in axes.flat[len(class_names) :]:
        ax.axis("off")
    for k, (ax, name) in enumerate(zip(axes.flat, class_names, strict=False)):
        pixels = images[labels == k]
        pixels = pixels[pixels > 0]
        # Without any, there is no density.
        ax.hist(pixels, bins=32, range=(0, 1), density=pixels.size > 0, color=BLUE)
        ax.set_title(name, fontsize=9)
        ax.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("pixel value (0 to 1)", fontsize=9)
    figure.supylabel("density", fontsize=9)
    return figure


def embedding(points, labels, class_names=CLASS_NAMES):
    """Draw images as points in a plane, (N, 2), with a colour and a marker for each class."""
    points = as_array(points)
    if points.shape[1:] != (2,):
        raise ValueError(f"points are {points.shape}, expected (N, 2)")
    labels = checked_labels(labels, len(points), len(checked_class_names(class_names)))
    ax = new_axes(5.6)
    colors, markers = sns.color_palette("colorblind"), "os^Dv<>pP*"
    for k, name in enumerate(class_names):
        # Shirts, which are what to look for, are black, since the palette is palest there. From the
        # eleventh class on, the colours come again with other markers.
        color, above = ((0, 0, 0), 2) if name == "Shirt" else (colors[k % 10], 1)
        look = {"marker": markers[(k + k // 10) % 10], "color": color, "zorder": above}
        ax.scatter(*points[labels == k].T, s=9, alpha=0.6, label=name, **look)
    ax.set(xlabel="first coordinate (no unit)", ylabel="second coordinate (no unit)")
    ax.set(xticks=[], yticks=[])
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, markerscale=2)
    return ax
