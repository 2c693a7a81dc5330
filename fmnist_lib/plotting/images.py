"""Figures of images, and of what is laid over the image plane."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.patches import Rectangle

from fmnist_lib.data import CLASS_NAMES
from fmnist_lib.plotting.style import BLUE, ORANGE, WIDTH, new_axes


def image_grid(images, titles=None, columns=8, cmap="gray_r", symmetric=False):
    """Draw images in rows.

    Parameters
    ----------
    images : Tensor or ndarray, (N, 1, H, W) or (N, H, W)
    titles : sequence of str, optional
        One for each image.
    columns : int
        Images in a full row of the page's width; fewer images are drawn no larger.
    cmap : str
        Name of a matplotlib colour map.
    symmetric : bool
        True puts 0 in the middle of the colour map: for values of both signs.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there are no images.
    """
    if len(images) == 0:
        raise ValueError("there are no images to draw, expected at least one")
    images = np.asarray(images).squeeze(1) if np.ndim(images) == 4 else np.asarray(images)
    width, columns = WIDTH / columns, min(columns, len(images))
    height = width * images.shape[1] / images.shape[2] + (0.22 if titles is not None else 0)
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(columns * width, rows * height),
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


def image_channels(rows, row_labels, cmap="magma", limits=(None, None)):
    """Draw several channels of several images: one row an image, one column a channel.

    Parameters
    ----------
    rows : sequence of arrays, each (C, H, W)
    row_labels : sequence of str
    cmap : str
        Name of a matplotlib colour map.
    limits : pair of float
        Values at the ends of the colour map. Default: those of each channel by itself.

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
            ax.imshow(channel, cmap=cmap, vmin=limits[0], vmax=limits[1])
        ax_row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    return figure


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
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = ax or new_axes(5.6)
    labels, colors = np.asarray(labels), sns.color_palette("colorblind", len(CLASS_NAMES))
    shirt = CLASS_NAMES.index("Shirt")
    colors[shirt] = (0, 0, 0)  # the class to look for; the palette has its palest colour there
    for k, name in enumerate(CLASS_NAMES):
        here = points[labels == k]
        look = {"marker": "os^Dv<>pP*"[k], "color": colors[k], "zorder": 2 if k == shirt else 1}
        ax.scatter(*here.T, s=9, alpha=0.6, label=name, **look)
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


def kernel_on_image(image, output, place, dilation, margin=4):
    """Draw the nine pixels that a 3×3 kernel reads, and the number that it makes of them.

    Parameters
    ----------
    image, output : Tensor or ndarray, (H, W), in [0, 1]
        The output is as large as the image, since the kernel may reach over the rim.
    place : pair of int
        Row and column of the kernel's middle.
    dilation : int
        Pixels from one weight to the next.
    margin : int
        Width of the empty ground drawn around the image, in pixels.

    Returns
    -------
    Figure
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.9), layout="constrained")
    for ax, values in ((left, image), (right, output)):
        ax.imshow(np.asarray(values), cmap="gray_r", vmin=0, vmax=1)
        ax.set(xlabel="column (pixels)", ylabel="row (pixels)")
    rim = margin + 0.5
    left.set(xlim=(-rim, len(image[0]) - 1 + rim), ylim=(len(image) - 1 + rim, -rim))
    left.set_facecolor("0.92")
    row, column = place
    for y in (row - dilation, row, row + dilation):
        for x in (column - dilation, column, column + dilation):
            left.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, ec=ORANGE, lw=1.8))
    corner, span = (column - dilation - 0.5, row - dilation - 0.5), 2 * dilation + 1
    left.add_patch(Rectangle(corner, span, span, fill=False, ec=BLUE, ls="--", lw=1.5))
    right.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec=ORANGE, lw=1.8))
    left.set_title(f"dilation {dilation}: 9 of {span}×{span} pixels")
    right.set_title(f"output: {output[row, column]:.2f} at the marked place")
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
