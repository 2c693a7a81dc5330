"""Figures of one quantity against another: epochs, seconds, confidence, strength, parameters."""

from numbers import Real

import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator

from fmnist_lib.plotting.style import BLUE, ORANGE, WIDTH, columns, new_axes, with_looks


def training_curves(history, best_epoch=None):
    """Draw loss and accuracy, for training and validation, over the epochs.

    Parameters
    ----------
    history : DataFrame
        Columns ``epoch, train_loss, val_loss, train_acc, val_acc``.
    best_epoch : int, optional
        Marked with a vertical line.
    """
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.2), layout="constrained")
    panels = (("loss", "cross-entropy (nats per image)"), ("acc", "accuracy (share of images)"))
    for ax, (column, label) in zip(axes, panels, strict=True):
        epochs, train, val = columns(history, "epoch", f"train_{column}", f"val_{column}")
        ax.plot(epochs, train, "o-", ms=3, color=BLUE, label="training")
        ax.plot(epochs, val, "s--", ms=3, color=ORANGE, label="validation")
        if best_epoch is not None:
            ax.axvline(best_epoch, color="0.4", ls=":", label=f"best epoch: {best_epoch}")
        ax.set(xlabel="epoch", ylabel=label)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(alpha=0.3)
        ax.legend(frameon=False)
    return figure


def accuracy_over_time(histories):
    """Draw validation accuracy over the seconds of training, one line per training run.

    Parameters
    ----------
    histories : dict of str to DataFrame
        Columns ``seconds`` (since the start, at the end of each epoch) and ``val_acc``.
    """
    ax = new_axes(3.6)
    for (name, history), look in with_looks(histories.items()):
        ax.plot(*columns(history, "seconds", "val_acc"), label=name, **look._asdict())
    ax.set(xlabel="seconds since the start", ylabel="validation accuracy")
    ax.set_xlim(left=0)
    ax.grid(alpha=0.3)
    ax.legend(frameon=False, loc="lower right")
    return ax


def reliability_diagram(tables):
    """Draw accuracy against confidence, and the number of images at each confidence.

    Parameters
    ----------
    tables : dict of str to DataFrame
        From `reliability`, by model name.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.4), layout="constrained")
    left.plot([0, 1], [0, 1], color="0.5", lw=1, label="confidence = accuracy")
    for (name, table), look in with_looks(tables.items()):
        style = look._asdict() | {"label": name, "ms": 5}
        confidence, accuracy, n = columns(table, "confidence", "accuracy", "images")
        left.plot(confidence, accuracy, **style)
        right.plot(confidence, n, **style)
    left.set(xlabel="confidence", ylabel="accuracy (share of images)", aspect="equal")
    left.legend(frameon=False, fontsize=8)
    right.set(xlabel="confidence", ylabel="images", yscale="log", xlim=left.get_xlim())
    for ax in (left, right):
        ax.grid(alpha=0.3)
    return figure


def robustness_curves(table, units):
    """Draw accuracy against the strength of each corruption, one line per model.

    Parameters
    ----------
    table : DataFrame
        From `accuracy_under_corruption`.
    units : dict of str to str
        Unit of each corruption's values.
    """
    of_row = ("corruption", "strength", "value")
    columns(table, *of_row)
    names = [name for name in table if name not in of_row]
    figure, axes = plt.subplots(2, 3, figsize=(WIDTH, 4.6), sharey=True, layout="constrained")
    for ax, (kind, rows) in zip(axes.flat, table.groupby("corruption", sort=False), strict=False):
        for name, look in with_looks(names):
            ax.plot(rows["value"], rows[name], label=name, ms=4, **look._asdict())
        ax.set(title=kind, xlabel=units[kind])
        ax.grid(alpha=0.3)
    for ax in axes[:, 0]:
        ax.set_ylabel("accuracy")
    last = axes.flat[-1]
    last.axis("off")
    last.legend(*axes.flat[0].get_legend_handles_labels(), loc="center", frameon=False)
    # The last panel holds the legend, so the one above it shows the labels of its column.
    axes[0, -1].tick_params(labelbottom=True)
    return figure


def sweep_curves(table, x, y, group=None):
    """Draw a metric of many runs against a parameter: runs as points, their means as a line.

    Parameters
    ----------
    table : DataFrame
        One row per run.
    x, y : str
        Columns. If ``x`` holds positive numbers that span more than a factor of 20, its axis is
        logarithmic; values that are not numbers are spaced evenly.
    group : str, optional
        A column; each of its values gets a line.
    """
    columns(table, *(name for name in (x, y, group) if name is not None))
    ax = new_axes(3.6)
    table = table.dropna(subset=[x, y]).sort_values(x, ignore_index=True)
    is_number = all(isinstance(value, Real) and not isinstance(value, bool) for value in table[x])
    places = table[x] if is_number else table[x].astype("category").cat.codes
    parts = [(None, table)] if group is None else table.groupby(group, dropna=False)
    for (name, rows), look in with_looks(parts):
        at, label = places[rows.index], None if group is None else f"{group} = {name}"
        ax.plot(at, rows[y], look.marker, color=look.color, alpha=0.5, ms=5, mew=0)
        means = rows[y].groupby(at).mean()
        ax.plot(means.index, means, look.ls, color=look.color, label=label)
        # A dash for the mean, so that it does not look like a run.
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
