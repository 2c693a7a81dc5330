"""Whether probabilities can be trusted, and how to correct them.

Everywhere, ``labels`` are an array of class indices, (N,), and ``probabilities`` an array, (N, C).
`ValueError` is raised for anything else.

Reliability, expected calibration error and temperature scaling: Guo, Pleiss, Sun and Weinberger,
"On Calibration of Modern Neural Networks", ICML 2017, https://arxiv.org/abs/1706.04599.
"""

from numbers import Real

import numpy as np
import pandas as pd

from fmnist_lib.common import require, whole_number
from fmnist_lib.inputs import checked_labels, checked_probabilities


def reliability(labels, probabilities, bins=15):
    """Compare confidence with accuracy, among predictions of similar confidence.

    Confidence is the probability of the predicted class; the bins have equal width, from 0 to 1.

    Returns
    -------
    DataFrame
        One row per bin that is not empty: ``low, high`` (its bounds), ``images`` (how many),
        ``confidence`` (the mean) and ``accuracy``.
    """
    whole_number("bins", bins, 1, 10_000)
    probabilities = checked_probabilities(probabilities)
    labels = checked_labels(labels, *probabilities.shape)
    confidence = probabilities.max(axis=1).astype(np.float64)
    edges = np.linspace(0, 1, bins + 1)
    # A bin includes its upper bound, so that a probability of 1 falls into the last one.
    index = np.clip(np.searchsorted(edges, confidence) - 1, 0, bins - 1)
    right = probabilities.argmax(axis=1) == labels
    answers = pd.DataFrame({"bin": index, "confidence": confidence, "accuracy": right})
    table = answers.groupby("bin").mean()
    table.insert(0, "low", edges[table.index])
    table.insert(1, "high", edges[table.index + 1])
    table.insert(2, "images", answers.groupby("bin").size())
    return table.reset_index(drop=True)


def calibration_error(labels, probabilities, bins=15):
    """Compute the expected calibration error: the mean gap between confidence and accuracy.

    The gap of each bin of `reliability` is weighted by its images; the result is from 0 to 1.
    """
    table = reliability(labels, probabilities, bins)
    gaps = (table["confidence"] - table["accuracy"]).abs()
    return float(np.average(gaps, weights=table["images"]))


def log_loss(labels, probabilities):
    """Compute the cross-entropy, in nats per image: the mean of -log(the true class's probability).

    A probability that is rounded to 0 counts as the smallest normal number of its dtype, or of
    float32 if that is smaller.
    """
    labels, logits = _labels_and_logits(labels, probabilities)
    return float(-logits[np.arange(len(labels)), labels].mean())


def fit_temperature(labels, probabilities):
    """Find the temperature that minimizes the cross-entropy.

    Fit it on images that were not used to train the model and will not be used to test it. It is
    above 1 for an overconfident model, below 1 for an underconfident one.

    Raises
    ------
    ValueError
        If there is no minimum: the colder the better, where every answer is right; the hotter the
        better, where the labels are no likelier than chance.
    """
    from scipy.optimize import brentq
    from scipy.special import softmax

    labels, logits = _labels_and_logits(labels, probabilities)
    gaps = logits - logits[np.arange(len(labels)), labels][:, None]

    def slope(logarithm):
        # Of the cross-entropy, over 1/temperature, in which it is convex.
        return (softmax(gaps / np.exp(logarithm), axis=1) * gaps).sum()

    cold, hot = np.log(1e-9), np.log(1e9)
    if slope(hot) >= 0:
        raise ValueError(
            "no temperature is best, since the labels are no likelier than chance: the higher it "
            "is, the lower the cross-entropy; train the model first, or check the labels"
        )
    if slope(cold) <= 0:
        raise ValueError(
            "no temperature is best, since every answer is right: the lower it is, the lower the "
            "cross-entropy; use more images, of which some are answered wrongly"
        )
    return float(np.exp(brentq(slope, cold, hot)))


def apply_temperature(probabilities, temperature):
    """Divide the logits by a temperature; above 1, this evens out the probabilities.

    The order of the classes does not change, so neither does any prediction. Returns
    probabilities, (N, C), float64.
    """
    from scipy.special import softmax

    positive = isinstance(temperature, Real) and 0 < temperature < np.inf  # a NaN is not
    require(positive, "temperature", temperature, "a finite number above 0")
    logits = _logits(checked_probabilities(probabilities))
    # A smaller divisor would make them infinite; with this one, the largest takes all already.
    return softmax(logits / max(float(temperature), 1e-300), axis=1)


def _labels_and_logits(labels, probabilities):
    probabilities = checked_probabilities(probabilities)
    return checked_labels(labels, *probabilities.shape), _logits(probabilities)


def _logits(probabilities):
    # Log-probabilities are logits, up to a constant per image.
    tiny = np.finfo(np.promote_types(probabilities.dtype, np.float32)).tiny
    return np.log(np.maximum(probabilities.astype(np.float64), tiny))
