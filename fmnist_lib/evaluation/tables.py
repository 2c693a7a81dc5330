"""Counting answers: right, wrong, and which class was taken for which.

Everywhere, ``labels`` and ``predicted`` are arrays of int, (N,), and ``probabilities`` an ndarray,
(N, 10).
"""

import numpy as np
import pandas as pd

from fmnist_lib.data import CLASS_NAMES
from fmnist_lib.evaluation.calibration import calibration_error, log_loss
from fmnist_lib.evaluation.checks import N_CLASSES, checked_labels, checked_probabilities
from fmnist_lib.evaluation.significance import accuracy_interval


def accuracy(labels, predicted):
    """Compute the share of images whose predicted class is the class on the label."""
    labels, predicted = checked_labels(labels, predicted)
    return float((labels == predicted).mean())


def class_report(labels, predicted):
    """Compute the precision, recall and F1 of each class; every class needs images.

    Returns
    -------
    DataFrame
        One row per class; columns ``precision, recall, f1, images``. A class that is never
        predicted has precision 0.
    """
    from sklearn.metrics import precision_recall_fscore_support

    labels, predicted = checked_labels(labels, predicted)
    if missing := set(range(N_CLASSES)) - set(labels.tolist()):
        raise ValueError(
            f"there are no images of {', '.join(CLASS_NAMES[k] for k in sorted(missing))}; recall "
            "is a share of the images of a class, so each class needs at least one: use more "
            "images, or count with confusion_matrix"
        )
    columns = precision_recall_fscore_support(
        labels, predicted, labels=range(N_CLASSES), zero_division=0
    )
    names = ("precision", "recall", "f1", "images")
    return pd.DataFrame(dict(zip(names, columns, strict=True)), index=_class_index("class"))


def confusion_matrix(labels, predicted):
    """Count how often each class (rows) was predicted as each class (columns of the DataFrame)."""
    from sklearn.metrics import confusion_matrix as count

    counts = count(*checked_labels(labels, predicted), labels=range(N_CLASSES))
    return pd.DataFrame(counts, index=_class_index("true"), columns=_class_index("predicted"))


def worst_confusions(confusion, n=5):
    """List at most ``n`` pairs of classes of a `confusion_matrix`, those most often confused.

    Returns
    -------
    DataFrame
        Columns ``true, predicted, images``, most images first; pairs that were never confused are
        left out.
    """
    mistakes = confusion.where(~np.eye(len(confusion), dtype=bool), 0).stack()
    largest = mistakes[mistakes > 0].sort_values(ascending=False, kind="stable").head(n)
    return largest.astype(int).rename("images").reset_index()


def confident_mistakes(labels, probabilities, n=12):
    """Find at most ``n`` wrong predictions, as indices of images, most confident first."""
    labels, probabilities = checked_probabilities(labels, probabilities)
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    confidence = probabilities[wrong].max(axis=1)
    return wrong[np.argsort(-confidence, kind="stable")[:n]]


def summarize_predictions(labels, probabilities):
    """Compute the test metrics that the record of a trained network keeps.

    Returns
    -------
    dict
        ``test_images`` (how many), ``test_accuracy`` and the bounds of its 95 % interval,
        ``test_accuracy_low`` and ``test_accuracy_high``, ``test_log_loss``,
        ``test_calibration_error``, and ``test_recall`` (a dict by class name).
    """
    labels, probabilities = checked_probabilities(labels, probabilities)
    predicted = probabilities.argmax(axis=1)
    low, high = accuracy_interval(labels, predicted)
    return {
        "test_images": len(labels),
        "test_accuracy": accuracy(labels, predicted),
        "test_accuracy_low": low,
        "test_accuracy_high": high,
        "test_log_loss": log_loss(labels, probabilities),
        "test_calibration_error": calibration_error(labels, probabilities),
        "test_recall": class_report(labels, predicted)["recall"].to_dict(),
    }


def _class_index(name):
    return pd.Index(CLASS_NAMES, name=name)
