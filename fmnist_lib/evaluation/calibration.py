"""Whether probabilities can be trusted, and how to correct them.

Everywhere, ``labels`` are an array of int, (N,), and ``probabilities`` an ndarray, (N, 10).

Reliability, expected calibration error and temperature scaling: Guo, Pleiss, Sun and Weinberger,
"On Calibration of Modern Neural Networks", ICML 2017, https://arxiv.org/abs/1706.04599.
"""

import numpy as np
import pandas as pd

from fmnist_lib.evaluation.checks import checked_probabilities


def reliability(labels, probabilities, bins=15):
    """Compare confidence with accuracy, among predictions of similar confidence.

    Confidence is the probability of the predicted class; the bins have equal width, from 0 to 1.

    Returns
    -------
    DataFrame
        One row per bin that is not empty: ``low, high`` (its bounds), ``images`` (how many),
        ``confidence`` (the mean) and ``accuracy``.
    """
    labels, probabilities = checked_probabilities(labels, probabilities)
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

    A probability that float32 rounds to 0 counts as the smallest number above 0.
    """
    labels, probabilities = checked_probabilities(labels, probabilities)
    return float(-_logarithms(probabilities)[np.arange(len(labels)), labels].mean())


def fit_temperature(labels, probabilities):
    """Find the temperature that minimizes the cross-entropy.

    Fit it on images that were not used to train the model and will not be used to test it. It is
    above 1 for an overconfident model, below 1 for an underconfident one.
    """
    from scipy.optimize import minimize_scalar

    labels, probabilities = checked_probabilities(labels, probabilities)

    def loss(logarithm):
        return log_loss(labels, apply_temperature(probabilities, np.exp(logarithm)))

    return float(np.exp(minimize_scalar(loss, bounds=np.log([0.05, 20]), method="bounded").x))


def apply_temperature(probabilities, temperature):
    """Divide the logits by a temperature; above 1, this evens out the probabilities.

    The order of the classes does not change, so neither does any prediction. Returns
    probabilities, (N, 10), float64.
    """
    from scipy.special import softmax

    if not temperature > 0:
        raise ValueError(f"temperature is {temperature!r}, expected a number above 0")
    # Log-probabilities are logits, up to a constant per image.
    return softmax(_logarithms(probabilities) / temperature, axis=1)


def _logarithms(probabilities):
    tiny = np.finfo(np.float32).tiny
    return np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), tiny))
