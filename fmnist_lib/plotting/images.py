"""Figures of images, and of what is laid over the image plane."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from fmnist_lib.common import require, whole_number
from fmnist_lib.data import CLASS_NAMES
from fmnist_lib.inputs import as_array, checked_class_names, checked_labels, checked_probabilities
from fmnist_lib.plotting.style import BLUE, ORANGE, WIDTH, check_one_each


def image_grid(images, titles=None, columns=8, cmap="gray_r", symmetric=False):
    """Draw images in rows.

    Parameters
    ----------
    images : Tensor or ndarray, (N, 1, H, W) or (N, H, W)
    titles : sequence of str, optional
        One for each image.
    columns : int
        Images across the width of the page; fewer images are not drawn larger.
    cmap : str
        Name of a matplotlib colour map.
    symmetric : bool
        Put 0 in the middle of the colour map, for values of both signs.
    """
    images = as_array(images)
    if images.shape[1:-2] not in ((), (1,)) or images.ndim < 3 or images.size == 0:
        raise ValueError(
            f"images are {images.shape}, expected (N, 1, H, W) or (N, H, W), at least one"
        )
    images = images.reshape(len(images), *images.shape[-2:])
    if titles is not None:
        check_one_each("titles", titles, len(images), "image")
    width, columns = WIDTH / whole_number("columns", columns, 1), min(columns, len(images))
    height = width * images.shape[1] / images.shape[2] + (0.22 if titles is not None else 0)
    rows = -(-len(images) // columns)
    size = (columns * width, rows * height)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for ax in axes.flat:
        ax.axis("off")
    limit = np.abs(images).max() if symmetric else None
    for i, (ax, image) in enumerate(zip(axes.flat, images, strict=False)):
        ax.imshow(image, cmap=cmap, vmin=-limit if symmetric else None, vmax=limit)
        if titles is not None:
            ax.set_title(titles[i], fontsize=8.5, pad=2)
    return figure


def image_pairs(left, right):
    """Draw the images of two splits of equal length in pairs, titled with both class names."""
    check_one_each("images on the right", right, len(left), "image on the left")
    pairs = np.concatenate([as_array(left.images), as_array(right.images)], axis=-1)
    titles = [
        f"{left.class_names[a]} · {right.class_names[b]}"
        for a, b in zip(left.labels, right.labels, strict=True)
    ]
    return image_grid(pairs, titles, columns=4)


def image_channels(rows, row_labels, cmap="magma", limits=(None, None)):
    """Draw several channels of several images: one row per image, one column per channel.

    Parameters
    ----------
    rows : sequence of arrays, each (C, H, W)
    row_labels : sequence of str
    cmap : str
        Name of a matplotlib colour map.
    limits : pair of float
        Values at the ends of the colour map. Default: each channel has its own.
    """
    rows = [as_array(row) for row in rows]
    if not rows or any(row.ndim != 3 or row.size == 0 for row in rows):
        shapes = [row.shape for row in rows]
        raise ValueError(f"rows are {shapes}, expected at least one array (C, H, W)")
    check_one_each("row labels", row_labels, len(rows), "row")
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


def mistakes(images, labels, probabilities, class_names=CLASS_NAMES):
    """Draw images with their true class and the class and probability that were predicted.

    Parameters
    ----------
    images : Tensor, (N, 1, 28, 28)
    labels : array of int, (N,)
    probabilities : array, (N, C)
    class_names : sequence of str, (C,)
    """
    probabilities = checked_probabilities(probabilities, len(checked_class_names(class_names)))
    labels = checked_labels(labels, *probabilities.shape)
    check_one_each("images", images, len(labels), "label")
    titles = [
        f"{class_names[label]}\n→ {class_names[p.argmax()]} ({p.max():.2f})"
        for label, p in zip(labels, probabilities, strict=True)
    ]
    figure = image_grid(images, titles, columns=6)
    figure.set_figheight(figure.get_figheight() * 1.12)
    return figure


def compared_predictions(images, labels, probabilities, class_names=CLASS_NAMES):
    """Draw images with their true class and the prediction of each of several models.

    Parameters
    ----------
    images : Tensor, (N, 1, 28, 28)
    labels : array of int, (N,)
    probabilities : dict of str to array, (N, C)
    class_names : sequence of str, (C,)
    """
    labels = checked_labels(labels, len(images), len(checked_class_names(class_names)))
    titles = [class_names[label] for label in labels]
    for name, p in probabilities.items():
        guesses = checked_probabilities(p, len(class_names)).argmax(axis=1)
        check_one_each(f"predictions of {name}", guesses, len(images), "image")
        pairs = zip(titles, guesses, strict=True)
        titles = [f"{title}\n{name}: {class_names[guess]}" for title, guess in pairs]
    figure = image_grid(images, titles, columns=6)
    figure.set_figheight(figure.get_figheight() * 1.3)
    return figure


def kernel_footprints(kernel_size, dilations):
    """Draw which pixels a square kernel reads, for each of several dilations.

    The patch around it is 9×9 pixels, or as large as the largest footprint.
    """
    require(len(dilations), "dilations", dilations, "at least one")
    for name, value in (("kernel_size", kernel_size), *(("dilation", d) for d in dilations)):
        whole_number(name, value, least=1)
    size = max(9, max(dilations) * (kernel_size - 1) + 1)
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


def kernel_on_image(image, output, place, dilation):
    """Draw the nine pixels that a 3×3 kernel reads, and the number that it computes from them.

    Parameters
    ----------
    image, output : Tensor or ndarray, (H, W), in [0, 1]
        The output is as large as the image, since the kernel may reach over the edge.
    place : pair of int
        Row and column of the centre of the kernel.
    dilation : int
        Distance between neighbouring weights, in pixels.
    """
    row = whole_number("row", place[0], 0, len(image) - 1)
    column = whole_number("column", place[1], 0, len(image[0]) - 1)
    whole_number("dilation", dilation, 1)
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.9), layout="constrained")
    for ax, values in ((left, image), (right, output)):
        ax.imshow(as_array(values), cmap="gray_r", vmin=0, vmax=1)
        ax.set(xlabel="column (pixels)", ylabel="row (pixels)")
    rim = 4.5  # pixels of empty border
    left.set(xlim=(-rim, len(image[0]) - 1 + rim), ylim=(len(image) - 1 + rim, -rim))
    left.set_facecolor("0.92")
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
    """
    whole_number("the number of maps", len(maps), 1)
    check_one_each("titles", titles, len(maps), "map")
    figure, axes = plt.subplots(
        1, len(maps), figsize=(WIDTH, 3.3), squeeze=False, layout="constrained"
    )
    top = max(float(as_array(m).max()) for m in maps)
    for ax, values, title in zip(axes[0], maps, titles, strict=True):
        drawn = ax.imshow(as_array(values), cmap="viridis", vmin=0, vmax=top)
        ax.set(title=title, xlabel="column (pixels)", ylabel="row (pixels)")
    figure.colorbar(drawn, ax=axes, label=label, shrink=0.85)
    return figure
