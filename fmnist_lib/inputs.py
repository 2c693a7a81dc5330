"""Checks of models, images, labels, logits and probabilities, each in one place.

N is the number of images, C that of classes. A function ``checked_…`` returns what it was given if
that is good, and else raises `ValueError` with one sentence: what was found, what was expected.
Labels, predictions and probabilities may be arrays, lists, or Tensors on any device; they come back
as arrays.
"""

import warnings

import numpy as np
import torch

from fmnist_lib.common import one_line, shown

ROUNDING = 1e-3  # how far a filter, or a sum in 16 bits, may be off


def as_array(values):
    """Turn a Tensor, a list or an array into an ndarray."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        # NumPy has no bfloat16.
        values = values.float() if values.dtype == torch.bfloat16 else values
    try:
        return np.asarray(values)
    except Exception as error:  # of many kinds: they may be anything
        raise ValueError(
            f"a {type(values).__name__} was found where numbers are expected, as an array, a "
            f"Tensor or a list ({one_line(error)})"
        ) from None


def checked_model(model):
    """Return a model, which must be an nn.Module."""
    if not isinstance(model, torch.nn.Module):
        raise ValueError(
            f"the model is a {type(model).__name__}, expected a torch.nn.Module, such as the "
            "`model` of a TrainedModel"
        )
    return model


def checked_images(images):
    """Return images, Tensor (N, 1, 28, 28), float32 in [0, 1]."""
    found = f"a {type(images).__name__}"
    if isinstance(images, torch.Tensor):
        found = f"{tuple(images.shape)} {images.dtype}"
        if images.shape[1:] == (1, 28, 28) and images.dtype == torch.float32:
            _check_range(images)
            return images
    raise ValueError(
        f"images are {found}, expected a Tensor (N, 1, 28, 28) of torch.float32; a single image "
        "must keep its first dimension, as in images[:1]"
    )


def checked_class_names(names):
    """Return class names as a tuple of different str."""
    listed = tuple(names) if isinstance(names, list | tuple | np.ndarray) else ()
    text = all(isinstance(name, str) for name in listed)
    if not listed or not text or len(set(listed)) < len(listed):
        raise ValueError(
            f"class_names is {shown(names)}, expected a different name for each class, all str, in "
            "a list or tuple"
        )
    return listed


def checked_labels(labels, n_images, n_classes=None, name="labels"):
    """Return class indices as an array (N,) of whole numbers from 0 to C - 1."""
    labels = as_array(labels)
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


def checked_predictions(labels, predicted, n_classes=None):
    """Return labels and predicted classes as arrays (N,), at least one of each."""
    labels = as_array(labels)
    if labels.size == 0:
        raise ValueError("there are no labels, expected at least one")
    labels = checked_labels(labels, len(np.atleast_1d(labels)), n_classes)
    return labels, checked_labels(predicted, len(labels), n_classes, "predictions")


def checked_probabilities(probabilities, n_classes=None):
    """Return probabilities as an array (N, C) whose rows add up to 1."""
    probabilities = as_array(probabilities)
    shape, dtype = probabilities.shape, probabilities.dtype
    table = len(shape) == 2 and shape[0] > 0 and shape[1] > 1 and dtype.kind in "fiu"
    if not table or (n_classes and shape[1] != n_classes):
        raise ValueError(
            f"probabilities are {shape} {dtype}, expected (N, {n_classes or 'C'}) numbers: a row "
            "per image, at least one, and a column per class, at least two"
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


def logits_of(model, images, batch_size=None, stacklevel=3):
    """Run a model on copies of images, and return its logits, Tensor (N, C).

    ``batch_size`` images go through it together, by default all. Raises `ValueError` if the model
    cannot take them or returns anything but finite logits, and warns if it returns probabilities:
    cross-entropy and `predict` apply a softmax themselves.
    """
    batches = images.split(batch_size or len(images))
    logits = torch.cat([_run(model, batch) for batch in batches])
    low, high = logits.aminmax()  # of all batches, since a GPU waits for each such question
    if not (low > -torch.inf and high < torch.inf):  # phrased so that a NaN fails, too
        raise ValueError(
            f"the model returns numbers from {low:g} to {high:g}, expected logits, all finite; "
            "check its weights and the arithmetic of its layers"
        )
    sums = logits.sum(dim=1, dtype=torch.float32)
    if low >= 0 and ((sums - 1).abs() < ROUNDING).all():
        warnings.warn(
            "the model returns probabilities, expected logits; remove its softmax, since `fit` and "
            "`predict` apply one themselves, and a second one blurs the answers",
            stacklevel=stacklevel,
        )
    return logits


def output_of(model, images):
    """Return what a model makes of a copy of images, which it may modify."""
    try:
        return model(images.clone())
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of many kinds: it is the user's model
        raise ValueError(
            f"the model cannot take images {tuple(images.shape)} {images.dtype} "
            f"({one_line(error)}); check its layers, which must fit the channels and pixels of the "
            "images, and its weights, which must be of that dtype"
        ) from error


def _run(model, images):
    logits = output_of(model, images)
    if not isinstance(logits, torch.Tensor):
        found = f"a {type(logits).__name__}"
    elif logits.ndim != 2 or len(logits) != len(images) or logits.shape[1] < 2:
        found = tuple(logits.shape)
    elif not logits.dtype.is_floating_point:
        found = logits.dtype
    else:
        return logits
    raise ValueError(
        f"for {len(images)} images the model returns {found}, expected logits ({len(images)}, C): "
        "a Tensor of floating-point numbers with a row per image and a column per class, at least "
        "two"
    )


def checked_confusion(confusion):
    """Return a `confusion_matrix`, or the difference of two: DataFrame (C, C) of whole numbers."""
    shape = getattr(confusion, "shape", ())
    table = hasattr(confusion, "dtypes") and shape == (len(confusion),) * 2
    if not table or any(dtype.kind not in "iu" for dtype in confusion.dtypes):
        raise ValueError(
            f"confusion is a {type(confusion).__name__} {shape}, expected what confusion_matrix "
            "returns: a DataFrame (C, C) of whole numbers"
        )
    return confusion


def _check_range(images):
    low, high = images.aminmax() if images.numel() else (0, 1)
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):  # phrased so that a NaN fails, too
        raise ValueError(
            f"images go from {low:g} to {high:g}, expected finite numbers from 0 (black) to 1 "
            "(white); scale them, such as by dividing 8-bit pixels by 255, or check them for NaN"
        )
