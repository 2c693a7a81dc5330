"""Every figure of the course: functions that draw what they are given and compute nothing.

Each returns the Axes or the Figure that it drew on. Colours are seaborn's ``colorblind`` palette
and matplotlib's perceptually uniform maps.
"""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.ticker import MaxNLocator

from fmnist_lib.data import CLASS_NAMES

BLUE, ORANGE, GREEN, RED = (sns.color_palette("colorblind")[i] for i in (0, 1, 2, 3))
WIDTH = 8.0  # inches: the width of a page


def image_grid(images, titles=None, columns=8, cmap="gray_r", symmetric=False):
    """Draw images in rows.

    Parameters
    ----------
    images : Tensor or ndarray, (N, 1, H, W) or (N, H, W)
    titles : sequence of str, optional
        One for each image.
    columns : int
        Images a row.
    cmap : str
        Name of a matplotlib colour map.
    symmetric : bool
        True puts 0 in the middle of the colour map: for values of both signs.

    Returns
    -------
    Figure
    """
    images = np.asarray(images).squeeze(1) if np.ndim(images) == 4 else np.asarray(images)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    side = WIDTH / columns
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(WIDTH, rows * (side + (0.22 if titles is not None else 0))),
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat:
        ax.axis("off")
    limit = np.abs(images).max() if symmetric else None
    for i, (ax, image) in enumerate(zip(axes.flat, images, strict=False)):
        ax.imshow(image, cmap=cmap, vmin=-limit if symmetric else None, vmax=limit)
        if titles is not None:
            ax.set_title(titles[i], fontsize=8.5, pad=2)
    return figure


def image_channels(rows, row_labels, cmap="magma"):
    """Draw several channels of several images: one row an image, one column a channel.

    Parameters
    ----------
    rows : sequence of arrays, each (C, H, W)
    row_labels : sequence of str

    Returns
    -------
    Figure
    """
    n_columns = max(len(row) for row in rows)
    side = WIDTH / (n_columns + 0.6)
    figure, axes = plt.subplots(
        len(rows), n_columns, figsize=(WIDTH, len(rows) * side), squeeze=False, layout="constrained"
    )
    for ax_row, row, label in zip(axes, rows, row_labels, strict=True):
        for ax in ax_row:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        for ax, channel in zip(ax_row, row, strict=False):
            ax.imshow(channel, cmap=cmap)
        ax_row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    return figure


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
    ax = ax or _new_axes(0.72 * WIDTH, 0.8 * WIDTH)
    off_diagonal = confusion.to_numpy()[~np.eye(len(confusion), dtype=bool)]
    limit = max(np.abs(confusion.to_numpy() if difference else off_diagonal).max(), 1)
    sns.heatmap(
        confusion,
        ax=ax,
        annot=True,
        fmt="+d" if difference else "d",
        annot_kws={"size": 8},
        square=True,
        # The colours follow the mistakes: the diagonal is far larger and would hide them.
        cmap="PuOr" if difference else "Blues",
        vmin=-limit if difference else 0,
        vmax=limit,
        linewidths=0.5,
        cbar_kws={
            "label": "difference in images" if difference else "images",
            "extend": "neither" if difference else "max",
            "shrink": 0.8,
        },
    )
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

    Returns
    -------
    Axes
    """
    ax = ax or _new_axes(0.32 * len(values) + 0.7)
    drawn = ax.barh(labels, values, color=color)
    ax.bar_label(drawn, fmt=fmt, padding=3, fontsize=8)
    ax.invert_yaxis()
    ax.set_xlabel(xlabel)
    ax.margins(x=0.12)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def pixel_histograms(images, labels):
    """Draw the distribution of the pixel values of each class, zeros left out.

    Parameters
    ----------
    images : Tensor, (N, 1, 28, 28), float32 in [0, 1]
    labels : Tensor, (N,), int64

    Returns
    -------
    Figure
    """
    figure, axes = plt.subplots(
        2, 5, figsize=(WIDTH, 3.4), sharex=True, sharey=True, layout="constrained"
    )
    for k, ax in enumerate(axes.flat):
        pixels = np.asarray(images[labels == k]).ravel()
        ax.hist(pixels[pixels > 0], bins=32, range=(0, 1), density=True, color=BLUE)
        ax.set_title(CLASS_NAMES[k], fontsize=9)
        ax.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("pixel value (0 to 1)", fontsize=9)
    figure.supylabel("density", fontsize=9)
    return figure


def embedding(points, labels, ax=None):
    """Draw images as points of a plane, each class with its colour, its marker and its name.

    Parameters
    ----------
    points : ndarray, (N, 2)
    labels : array of int, (N,)

    Returns
    -------
    Axes
    """
    ax = ax or _new_axes(5.6)
    labels, colors = np.asarray(labels), sns.color_palette("colorblind", len(CLASS_NAMES))
    for k, name in enumerate(CLASS_NAMES):
        here = points[labels == k]
        ax.scatter(*here.T, s=9, marker="os^Dv<>pP*"[k], alpha=0.6, label=name, color=colors[k])
    ax.set(xlabel="first coordinate (no unit)", ylabel="second coordinate (no unit)")
    ax.set(xticks=[], yticks=[])
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, markerscale=2)
    return ax


def kernel_footprints(kernel_size, dilations, size=9):
    """Draw which pixels a square kernel reads, for several dilations.

    Parameters
    ----------
    kernel_size : int
    dilations : sequence of int
    size : int
        Side of the drawn patch, in pixels.

    Returns
    -------
    Figure
    """
    figure, axes = plt.subplots(
        1, len(dilations), figsize=(WIDTH, WIDTH / len(dilations)), layout="constrained"
    )
    for ax, dilation in zip(np.atleast_1d(axes), dilations, strict=True):
        patch, reach = np.zeros((size, size)), dilation * (kernel_size - 1)
        first = (size - 1 - reach) // 2
        read = slice(first, first + reach + 1, dilation)
        patch[read, read] = 1
        ax.pcolormesh(patch, cmap="Blues", vmax=1.4, edgecolor="0.75", lw=0.5)
        ax.set(aspect="equal", xticks=[], yticks=[], title=f"dilation {dilation}")
        ax.set_xlabel(f"{kernel_size * kernel_size} weights on {reach + 1}×{reach + 1} pixels")
    return figure


def heat_maps(maps, titles, label):
    """Draw values over the image plane, side by side, on one colour scale.

    Parameters
    ----------
    maps : sequence of arrays, each (H, W)
    titles : sequence of str
    label : str
        What the colours stand for.

    Returns
    -------
    Figure
    """
    figure, axes = plt.subplots(
        1, len(maps), figsize=(WIDTH, 3.3), squeeze=False, layout="constrained"
    )
    top = max(float(np.max(np.asarray(m))) for m in maps)
    for ax, values, title in zip(axes[0], maps, titles, strict=True):
        drawn = ax.imshow(values, cmap="viridis", vmin=0, vmax=top)
        ax.set(title=title, xlabel="column (pixels)", ylabel="row (pixels)")
    figure.colorbar(drawn, ax=axes, label=label, shrink=0.85)
    return figure


def intervals(table, xlabel, ax=None):
    """Draw values with their intervals, one below the other.

    Parameters
    ----------
    table : DataFrame
        Columns ``value, low, high``; the index names the rows.
    xlabel : str

    Returns
    -------
    Axes
    """
    ax = ax or _new_axes(0.5 * len(table) + 0.9)
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

    Returns
    -------
    Axes
    """
    ax = ax or _new_axes(3.6)
    styles = zip(("o", "s", "^", "D"), (BLUE, ORANGE, GREEN, RED), strict=True)
    for (name, table), (marker, color) in zip(tables.items(), styles, strict=False):
        ax.plot(table[column], table.index, marker, color=color, label=name, ms=7)
    ax.set_xlabel(xlabel)
    ax.invert_yaxis()
    ax.grid(axis="y", alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    return ax


def _new_axes(height, width=WIDTH):
    return plt.subplots(figsize=(width, height), layout="constrained")[1]
