"""Counting answers: right, wrong, and which class was taken for which.

Everywhere, ``labels`` and ``predicted`` are arrays of class indices, (N,), ``probabilities`` is an
array, (N, C), and ``class_names`` a sequence of C str. `ValueError` is raised for anything else.
"""

import numpy as np
import pandas as pd

from fmnist_lib.common import whole_number
from fmnist_lib.data import CLASS_NAMES
from fmnist_lib.evaluation.calibration import calibration_error, log_loss
from fmnist_lib.evaluation.significance import accuracy_interval
from fmnist_lib.inputs import (
    checked_class_names,
    checked_confusion,
    checked_labels,
    checked_predictions,
    checked_probabilities,
)


def accuracy(labels, predicted):
    """Compute the share of images whose predicted class is the class on the label."""
    labels, predicted = checked_predictions(labels, predicted)
    return float((labels == predicted).mean())


def class_report(labels, predicted, class_names=CLASS_NAMES):
    """Compute the precision, recall and F1 of each class; every class needs images.

    Returns
    -------
    DataFrame
        One row per class; columns ``precision, recall, f1, images``. A class that is never
        predicted has precision 0.
    """
    from sklearn.metrics import precision_recall_fscore_support

    class_names = checked_class_names(class_names)
    labels, predicted = checked_predictions(labels, predicted, len(class_names))
    every = range(len(class_names))
    if missing := set(every) - set(labels.tolist()):
        raise ValueError(
            f"there are no images of {', '.join(class_names[k] for k in sorted(missing))}; recall "
            "is a share of the images of a class, so each class needs at least one: use more "
            "images, or count with confusion_matrix"
        )
    columns = precision_recall_fscore_support(labels, predicted, labels=every, zero_division=0)
    table = dict(zip(("precision", "recall", "f1", "images"), columns, strict=True))
    return pd.DataFrame(table, index=pd.Index(class_names, name="class"))


def confusion_matrix(labels, predicted, class_names=CLASS_NAMES):
    """Count how often each class (rows) was predicted as each class (columns of the DataFrame)."""
    from sklearn.metrics import confusion_matrix as count

    class_names = checked_class_names(class_names)
    labels, predicted = checked_predictions(labels, predicted, len(class_names))
    counts = count(labels, predicted, labels=range(len(class_names)))
    rows, columns = (pd.Index(class_names, name=name) for name in ("true", "predicted"))
    return pd.DataFrame(counts, rows, columns)


def worst_confusions(confusion, n=5):
    """List at most ``n`` pairs of classes of a `confusion_matrix`, those most often confused.

    Returns
    -------
    DataFrame
        Columns ``true, predicted, images``, most images first; pairs that were never confused are
        left out.
    """
    right = np.eye(len(checked_confusion(confusion)), dtype=bool)
    mistakes = confusion.where(~right, 0).stack()
    largest = mistakes[mistakes > 0].sort_values(ascending=False, kind="stable")
    largest = largest.head(whole_number("n", n))
    return largest.astype(int).rename("images").reset_index()


def confident_mistakes(labels, probabilities, n=12):
    """Find at most ``n`` wrong predictions, as indices of images, most confident first."""
    probabilities = checked_probabilities(probabilities)
    labels = checked_labels(labels, *probabilities.shape)
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    confidence = probabilities[wrong].max(axis=1)
    return wrong[np.argsort(-confidence, kind="stable")[: whole_number("n", n)]]


def summarize_predictions(labels, probabilities, class_names=CLASS_NAMES):
    """Compute the test metrics that the record of a trained network keeps.

    Returns
    -------
    dict
        ``test_images`` (how many), ``test_accuracy`` and the bounds of its 95 % interval,
        ``test_accuracy_low`` and ``test_accuracy_high``, ``test_log_loss``,
        ``test_calibration_error``, and ``test_recall`` (a dict by class name).
    """
    probabilities = checked_probabilities(probabilities, len(checked_class_names(class_names)))
    labels = checked_labels(labels, *probabilities.shape)
    predicted = probabilities.argmax(axis=1)
    low, high = accuracy_interval(labels, predicted)
    return {
        "test_images": len(labels),
        "test_accuracy": accuracy(labels, predicted),
        "test_accuracy_low": low,
        "test_accuracy_high": high,
        "test_log_loss": log_loss(labels, probabilities),
        "test_calibration_error": calibration_error(labels, probabilities),
        "test_recall": class_report(labels, predicted, class_names)["recall"].to_dict(),
    }
