"""Figures of how far results can be trusted."""

from numbers import Real

import matplotlib.pyplot as plt
import numpy as np

from fmnist_lib.data import CLASS_NAMES
from fmnist_lib.plotting.images import image_grid
from fmnist_lib.plotting.style import WIDTH, new_axes, with_looks


def strips(values, xlabel, ax=None):
    """Draw every single value as a point, one row a group, and the mean of each as a line.

    Parameters
    ----------
    values : DataFrame, or dict of str to sequence of float
        One column, or one entry, a group.
    xlabel : str
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    names = list(values)
    ax = ax or new_axes(0.5 * len(names) + 0.9)
    for row, (name, look) in enumerate(with_looks(names)):
        numbers = np.asarray(values[name])
        # Side by side in height, so that equal values do not cover each other.
        offsets = np.linspace(-0.22, 0.22, len(numbers)) if len(numbers) > 1 else 0.0
        ax.plot(numbers, row + offsets, look.marker, color=look.color, alpha=0.8, ms=5)
        ax.vlines(np.mean(numbers), row - 0.35, row + 0.35, color="0.2", lw=1.5)
    ax.set_yticks(range(len(names)), names)
    ax.set_xlabel(xlabel)
    ax.invert_yaxis()
    ax.grid(axis="x", alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def sweep_curves(table, x, y, group=None, ax=None):
    """Draw a metric of many runs against a parameter: each run a point, the mean of each as a line.

    Parameters
    ----------
    table : DataFrame
        One row a run.
    x, y : str
        Columns. Positive numbers that span more than a factor of 20 get a logarithmic axis; what is
        not a number gets a place of its own for each value.
    group : str, optional
        A column whose values get a line each.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = ax or new_axes(3.6)
    table = table.dropna(subset=[x, y]).sort_values(x)
    is_number = (
        table[x].map(lambda value: isinstance(value, Real) and not isinstance(value, bool)).all()
    )
    places = table[x] if is_number else table[x].astype("category").cat.codes
    parts = [(None, table)] if group is None else table.groupby(group, dropna=False)
    for (name, rows), look in with_looks(parts):
        at, label = places[rows.index], None if group is None else f"{group} = {name}"
        ax.plot(at, rows[y], look.marker, color=look.color, alpha=0.5, ms=5, mew=0)
        means = rows[y].groupby(at).mean()
        ax.plot(means.index, means, look.line, color=look.color, label=label)
        # A dash for the mean, which is no run and should not look like one.
        ax.scatter(means.index, means, 200, [look.color], marker="_", linewidths=2)
    if not is_number:
        ax.set_xticks(range(table[x].nunique()), sorted(table[x].unique()))
    elif table[x].min() > 0 and table[x].max() > 20 * table[x].min():
        ax.set_xscale("log")
    ax.set(xlabel=x, ylabel=y)
    ax.grid(alpha=0.3)
    if group is not None:
        ax.legend(frameon=False)
    return ax


def reliability_diagram(tables):
    """Draw accuracy against confidence, and how many images have which confidence.

    Parameters
    ----------
    tables : dict of str to DataFrame
        From `reliability`, by the name of the model.

    Returns
    -------
    Figure
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.4), layout="constrained")
    left.plot([0, 1], [0, 1], color="0.5", lw=1, label="confidence = accuracy")
    for (name, table), look in with_looks(tables.items()):
        style = {"color": look.color, "marker": look.marker, "ls": look.line, "ms": 5}
        left.plot(table["confidence"], table["accuracy"], label=name, **style)
        right.plot(table["confidence"], table["images"], label=name, **style)
    left.set(xlabel="confidence", ylabel="accuracy (share of images)", aspect="equal")
    left.legend(frameon=False, fontsize=8)
    right.set(xlabel="confidence", ylabel="images", yscale="log", xlim=left.get_xlim())
    for ax in (left, right):
        ax.grid(alpha=0.3)
    return figure


def robustness_curves(table, units):
    """Draw accuracy against the strength of each corruption, one line a model.

    Parameters
    ----------
    table : DataFrame
        From `accuracy_under_corruption`.
    units : dict of str to str
        Unit of each corruption's values.

    Returns
    -------
    Figure
    """
    names = [name for name in table if name not in ("corruption", "strength", "value")]
    figure, axes = plt.subplots(2, 3, figsize=(WIDTH, 4.6), sharey=True, layout="constrained")
    for ax, (kind, rows) in zip(axes.flat, table.groupby("corruption", sort=False), strict=False):
        for name, look in with_looks(names):
            style = {"color": look.color, "marker": look.marker, "ls": look.line, "ms": 4}
            ax.plot(rows["value"], rows[name], label=name, **style)
        ax.set(title=kind, xlabel=units[kind])
        ax.grid(alpha=0.3)
    for ax in axes[:, 0]:
        ax.set_ylabel("accuracy")
    last = axes.flat[-1]
    last.axis("off")
    last.legend(*axes.flat[0].get_legend_handles_labels(), loc="center", frameon=False)
    # The last panel holds the legend, so the one above it is the lowest of its column.
    axes[0, -1].tick_params(labelbottom=True)
    return figure


def compared_predictions(images, labels, probabilities, columns=6):
    """Draw images with their true class, and what each of several models makes of them.

    Parameters
    ----------
    images : Tensor, (N, 1, 28, 28)
    labels : sequence of int, (N,)
    probabilities : dict of str to ndarray, (N, 10)
    columns : int
        Images a row.

    Returns
    -------
    Figure
    """
    titles = [
        "\n".join(
            [
                CLASS_NAMES[label],
                *(f"{name}: {CLASS_NAMES[p[i].argmax()]}" for name, p in probabilities.items()),
            ]
        )
        for i, label in enumerate(labels)
    ]
    figure = image_grid(images, titles, columns)
    figure.set_figheight(figure.get_figheight() * 1.3)
    return figure
