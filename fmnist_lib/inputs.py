"""What goes in: images, labels, logits and probabilities, each described and checked in one place.

N is the number of images, C that of classes. Each function returns its argument, or raises
`ValueError` with a sentence that says what was found and what is expected.
"""

import warnings

import numpy as np
import torch

from fmnist_lib.common import one_line

ROUNDING = 1e-3  # by which a filter or a sum in 16 bits may miss


def checked_images(images):
    """Return images, Tensor (N, 1, 28, 28), float32 in [0, 1]."""
    found = f"{type(images).__name__}, expected a Tensor"
    if isinstance(images, torch.Tensor):
        found = f"{tuple(images.shape)} {images.dtype}, expected"
        if images.shape[1:] == (1, 28, 28) and images.dtype == torch.float32:
            _check_range(images)
            return images
    raise ValueError(
        f"images are {found} (N, 1, 28, 28) torch.float32; a slice such as images[:1] keeps the "
        "first dimension"
    )


def checked_labels(labels, n_images, n_classes=None, name="labels"):
    """Return class indices as an array (N,) of whole numbers from 0 to C - 1."""
    labels = np.asarray(labels.cpu() if isinstance(labels, torch.Tensor) else labels)
    if labels.shape != (n_images,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{name} are {labels.shape} {labels.dtype}, expected ({n_images},) whole numbers: one "
            "class index per image"
        )
    least, most = (labels.min(), labels.max()) if n_images else (0, 0)
    if least < 0 or (n_classes and most >= n_classes):
        raise ValueError(
            f"{name} go from {least} to {most}, expected class indices from 0"
            + (f" to {n_classes - 1}" if n_classes else "")
        )
    return labels


def checked_answers(labels, predicted, n_classes=None):
    """Return labels and predictions as arrays (N,), at least one of each."""
    labels = checked_labels(labels, np.size(labels), n_classes)
    if len(labels) == 0:
        raise ValueError("there are no labels, expected at least one")
    return labels, checked_labels(predicted, len(labels), n_classes, "predictions")


def checked_probabilities(probabilities):
    """Return probabilities as an array (N, C) whose rows add up to 1."""
    probabilities = np.asarray(probabilities)
    if probabilities.ndim != 2 or min(probabilities.shape) < 1 or probabilities.shape[1] < 2:
        raise ValueError(
            f"probabilities are {probabilities.shape}, expected (N, C): a row per image, at least "
            "one, and a column per class, at least two"
        )
    # Phrased so that a NaN fails, too.
    good = ((probabilities >= 0) & (probabilities <= 1)).all(axis=1)
    good &= np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1) < ROUNDING
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise ValueError(
            f"row {row} of the probabilities goes from {probabilities[row].min():g} to "
            f"{probabilities[row].max():g} and adds up to {probabilities[row].sum():g}, expected "
            "numbers from 0 to 1 that add up to 1; if these are logits, take their softmax"
        )
    return probabilities


def logits_of(model, images, stacklevel=3):
    """Run a model on a copy of images, and return its logits, Tensor (N, C).

    Warns if they are probabilities: cross-entropy and `predict` take the softmax themselves.
    """
    try:
        logits = model(images.clone())  # a model may modify its input
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of many kinds: it is the user's model
        raise ValueError(
            f"the model cannot take images {tuple(images.shape)} {images.dtype} "
            f"({one_line(error)}); give it one input channel, and weights of that dtype"
        ) from error
    _check_logits(logits, len(images))
    if (logits >= 0).all() and ((logits.sum(dim=1) - 1).abs() < ROUNDING).all():
        warnings.warn(
            "the model returns probabilities, expected logits: a softmax follows anyway, and a "
            "second one blurs what is learned; leave the model's own out",
            stacklevel=stacklevel,
        )
    return logits


def _check_logits(logits, n_images):
    if not isinstance(logits, torch.Tensor):
        found = f"a {type(logits).__name__}"
    elif logits.ndim != 2 or len(logits) != n_images or logits.shape[1] < 2:
        found = tuple(logits.shape)
    elif not logits.dtype.is_floating_point or not logits.isfinite().all():
        found = f"{logits.dtype}, from {logits.min():g} to {logits.max():g}"
    else:
        return
    raise ValueError(
        f"for {n_images} images the model returns {found}, expected logits ({n_images}, C): a "
        "Tensor of finite numbers with a row per image and a column per class, at least two"
    )


def _check_range(images):
    low, high = images.aminmax() if images.numel() else (0, 1)
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):  # phrased so that a NaN fails, too
        raise ValueError(
            f"images go from {low:g} to {high:g}, expected finite numbers from 0 (black) to 1 "
            "(white); divide pixels by 255"
        )
