import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from fmnist_lib import evaluation

pairs = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=60)


@given(pairs, st.sampled_from([0.5, 0.95]))
def test_the_interval_is_wilsons(answers, confidence):
    labels, predicted = np.array(answers).T
    hits = int((labels == predicted).sum())
    expected = binomtest(hits, len(answers)).proportion_ci(confidence, method="wilson")
    low, high = evaluation.accuracy_interval(labels, predicted, confidence)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_the_paired_difference_covers_the_truth():
    """Draw many test sets from a known truth: about 95 of 100 intervals must contain it."""
    rng, n, held = np.random.default_rng(0), 1000, 0
    labels = np.zeros(n, dtype=int)
    for _ in range(1000):
        outcome = rng.choice(4, size=n, p=[0.82, 0.06, 0.04, 0.08])  # both, only a, only b, neither
        right_a, right_b = np.isin(outcome, (0, 1)), np.isin(outcome, (0, 2))
        result = evaluation.accuracy_difference(labels, 1 - right_a, 1 - right_b)
        assert result["only_a_right"] == (outcome == 1).sum()
        assert result["only_b_right"] == (outcome == 2).sum()
        assert result["difference"] == pytest.approx(right_a.mean() - right_b.mean())
        held += result["low"] <= 0.02 <= result["high"]
    assert 930 <= held <= 970


@pytest.mark.parametrize("accuracy", [0.5, 0.9, 0.99])
def test_the_bootstrap_agrees_with_the_formula_on_many_images(accuracy):
    labels = np.zeros(10_000, dtype=int)
    predicted = (np.arange(10_000) >= accuracy * 10_000).astype(int)
    formula = evaluation.accuracy_interval(labels, predicted)
    drawn = evaluation.bootstrap_interval(labels, predicted)
    # The bounds of 2,000 draws scatter by about a twentieth of the width.
    assert drawn == pytest.approx(formula, abs=0.1 * (formula[1] - formula[0]))


def test_the_bootstrap_draws_binomial_numbers():
    """Against the distribution that drawing with replacement has, on a small test set."""
    labels, predicted = np.zeros(40, dtype=int), np.repeat([0, 1], [30, 10])
    drawn = evaluation.bootstrap_interval(labels, predicted, confidence=0.9, resamples=20_000)
    assert drawn == pytest.approx(tuple(binom(40, 0.75).ppf([0.05, 0.95]) / 40), abs=1 / 40)


def test_the_seed_and_the_number_of_resamples_decide_about_the_bootstrap():
    def draw(seed, resamples=20):
        labels, predicted = np.zeros(1000, dtype=int), np.arange(1000) % 10 // 7
        return evaluation.bootstrap_interval(labels, predicted, resamples=resamples, seed=seed)

    assert draw(1) == draw(1) not in (draw(2), draw(1, resamples=40))


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 20), st.integers(0, 20))
def test_mcnemar_is_the_test_of_a_fair_coin(only_a, only_b, both, neither):
    right_a = np.repeat([1, 0, 1, 0], [only_a, only_b, both, neither])
    right_b = np.repeat([0, 1, 1, 0], [only_a, only_b, both, neither])
    if len(right_a) == 0:
        return
    p_value = evaluation.mcnemar_test(np.ones_like(right_a), right_a, right_b)
    tosses = only_a + only_b
    expected = binomtest(only_a, tosses).pvalue if tosses else 1.0
    assert p_value == pytest.approx(expected)


@pytest.mark.parametrize("confidence", [0, 1, 95, float("nan"), "0.95", None])
@pytest.mark.parametrize(
    "function",
    [
        evaluation.accuracy_interval,
        evaluation.bootstrap_interval,
        lambda *answers, **options: evaluation.accuracy_difference(*answers, [1, 1], **options),
    ],
)
def test_a_confidence_outside_0_1_is_refused(function, confidence):
    with pytest.raises(ValueError, match="expected a number between 0 and 1"):
        function([1, 2], [1, 2], confidence=confidence)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"resamples": 1}, "resamples is 1, expected a whole number of 2 or more"),
        ({"resamples": 20.0}, "resamples is 20.0, expected"),
        ({"seed": -1}, "seed is -1, expected a whole number of 0 or more"),
        ({"seed": None}, "seed is None, expected"),
    ],
)
def test_resamples_and_seed_are_whole_numbers(options, words):
    with pytest.raises(ValueError, match=words):
        evaluation.bootstrap_interval([1, 2], [1, 2], **options)


def test_one_image_cannot_be_resampled():
    with pytest.raises(ValueError, match=r"number of images is 1, expected .* 2 or more"):
        evaluation.bootstrap_interval([1], [1])
    assert evaluation.bootstrap_interval([1, 2], [1, 2], resamples=2) == (1, 1)
