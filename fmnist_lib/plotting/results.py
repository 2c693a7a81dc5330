"""Figures of what came out of a training."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.ticker import MaxNLocator

from fmnist_lib.data import CLASS_NAMES
from fmnist_lib.plotting.images import image_grid
from fmnist_lib.plotting.style import BLUE, ORANGE, WIDTH, new_axes, with_looks


def training_curves(history, best_epoch=None):
    """Draw loss and accuracy, for training and validation, over the epochs.

    Parameters
    ----------
    history : DataFrame
        Columns ``epoch, train_loss, val_loss, train_acc, val_acc``.
    best_epoch : int, optional
        Marked with a vertical line.

    Returns
    -------
    Figure
    """
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.2), layout="constrained")
    panels = (("loss", "cross-entropy (nats per image)"), ("acc", "accuracy (share of images)"))
    for ax, (column, label) in zip(axes, panels, strict=True):
        epochs = history["epoch"]
        ax.plot(epochs, history[f"train_{column}"], "o-", ms=3, color=BLUE, label="training")
        ax.plot(epochs, history[f"val_{column}"], "s--", ms=3, color=ORANGE, label="validation")
        if best_epoch is not None:
            ax.axvline(best_epoch, color="0.4", ls=":", label=f"best epoch: {best_epoch}")
        ax.set(xlabel="epoch", ylabel=label)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(alpha=0.3)
        ax.legend(frameon=False)
    return figure


def confusion_heatmap(confusion, ax=None, title=None, difference=False):
    """Draw a confusion matrix as an annotated heat map.

    The colours show the mistakes; the right answers, on the diagonal, stand on grey.

    Parameters
    ----------
    confusion : DataFrame, (10, 10)
        Counts, or with ``difference`` the difference of two such tables.
    ax : Axes, optional
    title : str, optional
    difference : bool
        True draws values of both signs, with 0 in the middle of the colour map.

    Returns
    -------
    Axes
    """
    ax = ax or new_axes(0.72 * WIDTH, 0.8 * WIDTH)
    # The right answers are far more than the mistakes, and would take all the colours.
    diagonal = np.eye(len(confusion), dtype=bool) & (not difference)
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
        cbar_kws={
            "label": "difference in images" if difference else "images",
            "shrink": 0.8,
        },
    )
    if not difference:
        ax.set_facecolor("0.85")
        for k, n in enumerate(np.diag(confusion)):
            ax.text(k + 0.5, k + 0.5, n, ha="center", va="center", size=8)
    ax.set(xlabel="predicted class", ylabel="true class", title=title or "")
    ax.tick_params(axis="x", rotation=45)
    plt.setp(ax.get_xticklabels(), ha="right", rotation_mode="anchor")
    return ax


def mistakes(images, labels, probabilities, columns=6):
    """Draw images with their true class and the class and probability that were predicted.

    Parameters
    ----------
    images : Tensor, (N, 1, 28, 28)
    labels : sequence of int, (N,)
    probabilities : ndarray, (N, 10)
    columns : int
        Images a row.

    Returns
    -------
    Figure
    """
    predicted = probabilities.argmax(axis=1)
    titles = [
        f"{CLASS_NAMES[label]}\n→ {CLASS_NAMES[guess]} ({p[guess]:.2f})"
        for label, guess, p in zip(labels, predicted, probabilities, strict=True)
    ]
    figure = image_grid(images, titles, columns)
    figure.set_figheight(figure.get_figheight() * 1.12)
    return figure


def bars(values, labels, xlabel, ax=None, color=BLUE, fmt="{:,.0f}"):
    """Draw horizontal bars, each with its value behind it.

    Parameters
    ----------
    values : sequence of float
    labels : sequence of str
    xlabel : str
    ax : Axes, optional
    color : str
        Of the bars.
    fmt : str
        Format of the value behind each bar.

    Returns
    -------
    Axes
    """
    ax = ax or new_axes(0.32 * len(values) + 0.7)
    drawn = ax.barh(labels, values, color=color)
    ax.bar_label(drawn, fmt=fmt, padding=3, fontsize=8)
    ax.invert_yaxis()
    ax.set_xlabel(xlabel)
    ax.margins(x=0.12)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def intervals(table, xlabel, ax=None):
    """Draw values with their intervals, one below the other.

    Parameters
    ----------
    table : DataFrame
        Columns ``value, low, high``; the index names the rows.
    xlabel : str
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = ax or new_axes(0.5 * len(table) + 0.9)
    errors = [table["value"] - table["low"], table["high"] - table["value"]]
    ax.errorbar(table["value"], table.index, xerr=errors, fmt="o", capsize=4, color=BLUE)
    ax.set_xlabel(xlabel)
    ax.invert_yaxis()
    ax.margins(y=0.35)
    ax.grid(axis="x", alpha=0.3)
    return ax


def class_lines(tables, column, xlabel, ax=None):
    """Draw one column of several class tables as points on the same lines.

    Parameters
    ----------
    tables : dict of str to DataFrame
        From `class_report`, by the name of the model.
    column : str
    xlabel : str
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = ax or new_axes(3.6)
    for (name, table), look in with_looks(tables.items()):
        ax.plot(table[column], table.index, look.marker, color=look.color, label=name, ms=7)
    ax.set_xlabel(xlabel)
    ax.invert_yaxis()
    ax.grid(axis="y", alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    # Above the lines: inside, its markers would pass for values.
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(tables), frameon=False)
    return ax


def speeds(table, floor=None, ax=None):
    """Draw how long each way took, with the spread of its repeats.

    Parameters
    ----------
    table : DataFrame
        As from `compare_times`.
    floor : float, optional
        Seconds below which the arithmetic cannot go, drawn as a line.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = ax or new_axes(0.45 * len(table) + 0.9)
    spread = [table["seconds"] - table["lowest"], table["highest"] - table["seconds"]]
    ax.barh(table.index, table["seconds"], xerr=spread, color=BLUE, height=0.7, ecolor="0.3")
    # One disturbed repeat must not shrink all bars: its spread runs out of the picture.
    right = 1.3 * table["seconds"].max()
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


def accuracy_over_time(histories, ax=None):
    """Draw validation accuracy over the seconds of training, one line a training.

    Parameters
    ----------
    histories : dict of str to DataFrame
        Columns ``seconds`` (since the start, at the end of each epoch) and ``val_acc``.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = ax or new_axes(3.6)
    for (name, history), look in with_looks(histories.items()):
        style = {"color": look.color, "marker": look.marker, "ls": look.line}
        ax.plot(history["seconds"], history["val_acc"], label=name, **style)
    ax.set(xlabel="seconds since the start", ylabel="validation accuracy")
    ax.set_xlim(left=0)
    ax.grid(alpha=0.3)
    ax.legend(frameon=False, loc="lower right")
    return ax
