"""Input checks that the functions of this package share."""

import numpy as np

from fmnist_lib.data import CLASS_NAMES

N_CLASSES = len(CLASS_NAMES)


def checked_labels(labels, predicted):
    """Return both as arrays (N,), or raise ValueError unless they hold a class for each image."""
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    if labels.shape != predicted.shape or labels.ndim != 1 or len(labels) == 0:
        raise ValueError(
            f"labels are {labels.shape} and predictions {predicted.shape}, expected one of each "
            "per image, and at least one image"
        )
    for name, classes in (("labels", labels), ("predictions", predicted)):
        whole = classes.dtype.kind in "iu"
        if not whole or classes.min() < 0 or classes.max() >= N_CLASSES:
            found = (
                f"go from {classes.min()} to {classes.max()}" if whole else f"are {classes.dtype}"
            )
            raise ValueError(
                f"{name} {found}, expected whole numbers from 0 to {N_CLASSES - 1}: one class "
                "per image"
            )
    return labels, predicted


def checked_probabilities(labels, probabilities):
    """Return labels (N,) and probabilities (N, 10), or raise ValueError unless they are valid."""
    probabilities = np.asarray(probabilities)
    if probabilities.ndim != 2 or probabilities.shape[1] != N_CLASSES:
        raise ValueError(
            f"probabilities are {probabilities.shape}, expected (N, {N_CLASSES}): a row per "
            "image, a column per class"
        )
    labels, _ = checked_labels(labels, probabilities.argmax(axis=1))
    # Phrased so that a NaN fails, too.
    good = ((probabilities >= 0) & (probabilities <= 1)).all(axis=1)
    good &= np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1) < 1e-3
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise ValueError(
            f"row {row} of the probabilities goes from {probabilities[row].min():g} to "
            f"{probabilities[row].max():g} and adds up to {probabilities[row].sum():g}, expected "
            "numbers from 0 to 1 that add up to 1; if these are logits, take their softmax"
        )
    return labels, probabilities
