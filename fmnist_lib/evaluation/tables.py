"""What a trained model is worth: predictions, and the tables made from them.

N is the number of images; the ten classes are those of `CLASS_NAMES`. The metrics are
scikit-learn's, the intervals and tests statsmodels'.
"""

from math import sqrt

import numpy as np
import pandas as pd
import torch

from fmnist_lib.data import CLASS_NAMES


@torch.inference_mode()
def predict(model, images, batch_size=1000):
    """Compute the probability of each class for each image.

    Parameters
    ----------
    model : nn.Module
        Used in evaluation mode, on the device where it is.
    images : Tensor, (N, 1, 28, 28), float32 in [0, 1]
    batch_size : int
        Images at a time; changes speed and memory, not the result.

    Returns
    -------
    ndarray, (N, 10), float32
        Rows add up to 1.

    Raises
    ------
    ValueError
        If there are no images.
    """
    if len(images) == 0:
        raise ValueError("there are no images to predict, expected at least one")
    device = next(model.parameters()).device
    model.eval()
    logits = torch.cat([model(batch.to(device)) for batch in images.split(batch_size)])
    return logits.softmax(dim=1).cpu().numpy()


def accuracy(labels, predicted):
    """Compute the share of labels that were predicted.

    Parameters
    ----------
    labels, predicted : array of int, (N,)

    Returns
    -------
    float
    """
    labels, predicted = _checked(labels, predicted)
    return float((labels == predicted).mean())


def accuracy_interval(labels, predicted, confidence=0.95):
    """Compute an interval for the accuracy on new images of the same kind.

    Wilson's score interval for a proportion: Brown, Cai and DasGupta, "Interval Estimation for a
    Binomial Proportion", Statistical Science 2001, doi:10.1214/ss/1009213286.

    Parameters
    ----------
    labels, predicted : array of int, (N,)
    confidence : float
        Between 0 and 1.

    Returns
    -------
    low, high : float
    """
    from statsmodels.stats.proportion import proportion_confint

    labels, predicted = _checked(labels, predicted)
    hits = int((labels == predicted).sum())
    low, high = proportion_confint(hits, len(labels), alpha=1 - confidence, method="wilson")
    return float(low), float(high)


def accuracy_difference(labels, predicted_a, predicted_b, confidence=0.95):
    """Compare two models on the same images.

    The images on which both are right, or both wrong, say nothing about which is better, so the
    standard error comes from the others alone: Newcombe, "Improved Confidence Intervals for the
    Difference Between Binomial Proportions Based on Paired Data", Statistics in Medicine 1998
    (its first method; with thousands of images the methods agree).

    Parameters
    ----------
    labels, predicted_a, predicted_b : array of int, (N,)
    confidence : float
        Between 0 and 1.

    Returns
    -------
    Series
        ``only_a_right`` and ``only_b_right`` (counts), ``difference`` (accuracy of a less that of
        b), and the interval ``low`` to ``high`` around it.
    """
    from scipy.stats import norm

    labels, predicted_a = _checked(labels, predicted_a)
    labels, predicted_b = _checked(labels, predicted_b)
    right_a, right_b = labels == predicted_a, labels == predicted_b
    only_a, only_b, n = (
        int((right_a & ~right_b).sum()),
        int((right_b & ~right_a).sum()),
        len(labels),
    )
    difference = (only_a - only_b) / n
    error = norm.ppf((1 + confidence) / 2) * sqrt(only_a + only_b - n * difference**2) / n
    return pd.Series(
        {
            "only_a_right": only_a,
            "only_b_right": only_b,
            "difference": difference,
            "low": difference - error,
            "high": difference + error,
        },
        dtype=object,
    )


def class_report(labels, predicted):
    """Compute precision, recall and F1 of each class.

    Parameters
    ----------
    labels, predicted : array of int, (N,)

    Returns
    -------
    DataFrame
        One row a class; columns ``precision, recall, f1, images``. A class that is never predicted
        has precision 0.
    """
    from sklearn.metrics import precision_recall_fscore_support

    columns = precision_recall_fscore_support(
        *_checked(labels, predicted), labels=range(len(CLASS_NAMES)), zero_division=0
    )
    names = ("precision", "recall", "f1", "images")
    return pd.DataFrame(dict(zip(names, columns, strict=True)), index=_class_index("class"))


def confusion_matrix(labels, predicted):
    """Count how often each class was taken for each other.

    Parameters
    ----------
    labels, predicted : array of int, (N,)

    Returns
    -------
    DataFrame, (10, 10), int
        Rows are true classes, columns predicted ones.
    """
    from sklearn.metrics import confusion_matrix as count

    counts = count(*_checked(labels, predicted), labels=range(len(CLASS_NAMES)))
    return pd.DataFrame(counts, index=_class_index("true"), columns=_class_index("predicted"))


def worst_confusions(confusion, n=5):
    """List the pairs of classes that are confused most.

    Parameters
    ----------
    confusion : DataFrame
        From `confusion_matrix`.
    n : int
        Number of pairs.

    Returns
    -------
    DataFrame
        Columns ``true, predicted, images``, most images first.
    """
    mistakes = confusion.where(~np.eye(len(confusion), dtype=bool), 0).stack()
    largest = mistakes.sort_values(ascending=False, kind="stable").head(n)
    return largest.astype(int).rename("images").reset_index()


def confident_mistakes(labels, probabilities, n=12):
    """Find the images that were predicted wrongly with the highest probability.

    Parameters
    ----------
    labels : array of int, (N,)
    probabilities : ndarray, (N, 10)
    n : int
        At most so many.

    Returns
    -------
    ndarray of int
        Indices of images, most confident first.
    """
    labels = np.asarray(labels)
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    confidence = probabilities[wrong].max(axis=1)
    return wrong[np.argsort(-confidence, kind="stable")[:n]]


def _class_index(name):
    return pd.Index(CLASS_NAMES, name=name)


def _checked(labels, predicted):
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    if labels.shape != predicted.shape or labels.ndim != 1 or len(labels) == 0:
        raise ValueError(
            f"labels are {labels.shape} and predictions {predicted.shape}, expected one of each "
            "for every image, and at least one image"
        )
    return labels, predicted
