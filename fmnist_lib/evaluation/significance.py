"""How certain a number is: intervals for an accuracy, and two models on the same images.

Everywhere, ``labels`` and predictions are arrays of class indices, (N,), and ``confidence`` is a
number between 0 and 1. `ValueError` is raised for anything else.

Wilson's interval: Brown, Cai and DasGupta, "Interval Estimation for a Binomial Proportion",
Statistical Science 2001, https://doi.org/10.1214/ss/1009213286. Bootstrap: Efron, "Bootstrap
Methods: Another Look at the Jackknife", Annals of Statistics 1979,
https://doi.org/10.1214/aos/1176344552. McNemar's test for classifiers: Dietterich, "Approximate
Statistical Tests for Comparing Supervised Classification Learning Algorithms", Neural Computation
1998, https://doi.org/10.1162/089976698300017197.
"""

from math import sqrt
from numbers import Real

import numpy as np
import pandas as pd

from fmnist_lib.common import require, whole_number
from fmnist_lib.inputs import checked_predictions


def accuracy_interval(labels, predicted, confidence=0.95):
    """Compute Wilson's interval, (low, high), for the accuracy on new images of the same kind."""
    from statsmodels.stats.proportion import proportion_confint

    labels, predicted = checked_predictions(labels, predicted)
    _check_confidence(confidence)
    hits = int((labels == predicted).sum())
    low, high = proportion_confint(hits, len(labels), alpha=1 - confidence, method="wilson")
    return float(low), float(high)


def bootstrap_interval(labels, predicted, confidence=0.95, resamples=2000, seed=0):
    """Compute the same interval without a formula, by resampling the test set.

    Each resample has as many images as the test set, at least two, drawn from it with replacement;
    the interval holds the middle ``confidence`` of their accuracies.
    """
    from scipy.stats import bootstrap

    labels, predicted = checked_predictions(labels, predicted)
    whole_number("the number of images", len(labels), 2)
    _check_confidence(confidence)
    right = (labels == predicted).astype(np.float32)
    interval = bootstrap(
        (right,),
        np.mean,
        n_resamples=whole_number("resamples", resamples, 2),
        confidence_level=confidence,
        method="percentile",
        batch=50,  # at a time, to save memory
        rng=np.random.default_rng(whole_number("seed", seed)),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def accuracy_difference(labels, predicted_a, predicted_b, confidence=0.95):
    """Compare two models on the same images.

    Images that both get right, or both get wrong, say nothing about which model is better, so the
    standard error comes from the others alone: Newcombe, "Improved Confidence Intervals for the
    Difference Between Binomial Proportions Based on Paired Data", Statistics in Medicine 1998
    (its first method; with thousands of images the methods agree).

    Returns
    -------
    Series
        ``only_a_right`` and ``only_b_right`` (counts), ``difference`` (accuracy of a minus that of
        b), and the bounds of its interval, ``low`` and ``high``.
    """
    from scipy.stats import norm

    _check_confidence(confidence)
    only_a, only_b = _one_right(labels, predicted_a, predicted_b)
    n = len(labels)
    difference = (only_a - only_b) / n
    error = norm.ppf((1 + confidence) / 2) * sqrt(only_a + only_b - n * difference**2) / n
    values = only_a, only_b, difference, difference - error, difference + error
    names = ("only_a_right", "only_b_right", "difference", "low", "high")
    return pd.Series(values, names, dtype=object)


def mcnemar_test(labels, predicted_a, predicted_b):
    """Test whether two models are right equally often, on the same images.

    If they are, each image that only one of them gets right is the toss of a fair coin. The
    p-value is the probability of a split at least as uneven as the one found (McNemar's exact
    test); it is 1 if no image tells the models apart.
    """
    from statsmodels.stats.contingency_tables import mcnemar

    only_a, only_b = _one_right(labels, predicted_a, predicted_b)
    return float(mcnemar([[0, only_a], [only_b, 0]], exact=True).pvalue)


def _one_right(labels, predicted_a, predicted_b):
    labels, predicted_a = checked_predictions(labels, predicted_a)
    labels, predicted_b = checked_predictions(labels, predicted_b)
    right_a, right_b = labels == predicted_a, labels == predicted_b
    return int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())


def _check_confidence(confidence):
    between = isinstance(confidence, Real) and 0 < confidence < 1  # a NaN is not
    require(between, "confidence", confidence, "a number between 0 and 1")
