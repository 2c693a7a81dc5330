import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.frozen import FrozenEstimator

from fmnist_lib import evaluation


def draw_logits(n, temperature=1.0, seed=0, n_classes=10, scale=2):
    """Draw labels from known probabilities, and the logits of a model with that temperature."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=scale, size=(n, n_classes))
    true = softmax(logits, axis=1)
    labels = (true.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return labels, logits * temperature


def draw(*args, **options):
    """Draw likewise, with the model's probabilities."""
    labels, logits = draw_logits(*args, **options)
    return labels, softmax(logits, axis=1)


@given(st.integers(1, 200), st.integers(1, 30), st.integers(0, 99), st.integers(2, 30))
def test_reliability_agrees_with_scikit_learn(n, bins, seed, n_classes):
    labels, probabilities = draw(n, seed=seed, n_classes=n_classes)
    table = evaluation.reliability(labels, probabilities, bins)
    right = probabilities.argmax(axis=1) == labels
    accuracy, confidence = calibration_curve(right, probabilities.max(axis=1), n_bins=bins)
    assert np.allclose(table["accuracy"], accuracy)
    assert np.allclose(table["confidence"], confidence)
    assert table["images"].sum() == n
    assert (table["confidence"] <= table["high"] + 1e-12).all()
    assert (table["confidence"] > table["low"]).all()


def test_a_probability_of_one_has_a_bin():
    table = evaluation.reliability([0, 1], np.eye(10)[[0, 2]])
    assert list(table) == ["low", "high", "images", "confidence", "accuracy"]
    assert table.to_numpy().tolist() == [[14 / 15, 1.0, 2, 1.0, 0.5]]


def test_the_calibration_error_by_hand():
    """Three images with 0.9, of which two are right, and one with 0.4, which is wrong."""
    probabilities = np.full((4, 10), 0.1 / 9)
    probabilities[:3, 0], probabilities[3] = 0.9, 0.6 / 9
    probabilities[3, 0] = 0.4
    error = evaluation.calibration_error([0, 0, 1, 1], probabilities)
    assert error == pytest.approx((3 * abs(2 / 3 - 0.9) + 1 * 0.4) / 4)


def test_the_calibration_error_of_true_probabilities_is_small():
    assert evaluation.calibration_error(*draw(20_000)) < 0.02
    assert evaluation.calibration_error(*draw(20_000, temperature=3)) > 0.1


def test_log_loss_agrees_with_scikit_learn():
    labels, probabilities = draw(300)
    expected = sklearn.metrics.log_loss(labels, probabilities, labels=range(10))
    assert evaluation.log_loss(labels, probabilities) == pytest.approx(expected)


def test_a_probability_of_zero_costs_much_but_not_everything():
    assert 80 < evaluation.log_loss([1], np.eye(10, dtype=np.float32)[[0]]) < 100


@pytest.mark.parametrize("bins", [0, -1, 10_001, 15.0, "15", True, None])
def test_a_number_of_bins_is_a_whole_number(bins):
    with pytest.raises(ValueError, match=r"bins is .+, expected a whole number from 1 to 10000"):
        evaluation.calibration_error(*draw(5), bins)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 5])
def test_a_known_temperature_is_found_and_undone(temperature):
    labels, probabilities = draw(20_000, temperature)
    assert evaluation.fit_temperature(labels, probabilities) == pytest.approx(temperature, rel=0.03)
    cooled = evaluation.apply_temperature(probabilities.astype(np.float32), temperature)
    assert cooled.dtype == np.float64
    assert np.allclose(cooled, draw(20_000)[1], atol=1e-6)


class Logits(ClassifierMixin, BaseEstimator):
    """A fitted classifier of scikit-learn whose logits are its input."""

    def __init__(self):
        self.classes_ = np.arange(10)

    def fit(self, logits, labels):
        return self

    def predict(self, logits):
        return logits.argmax(axis=1)

    def decision_function(self, logits):
        return logits


@pytest.mark.parametrize("n_classes", [2, 10, 26])
@pytest.mark.parametrize("temperature", [0.01, 0.6, 1.3, 25, 41, 102])
def test_the_temperature_is_the_minimum_however_far_away(temperature, n_classes):
    """Against a minimizer that gets the logits themselves."""
    labels, logits = draw_logits(400, temperature, n_classes=n_classes, scale=1)

    def cross_entropy(logarithm):
        rows = log_softmax(logits * np.exp(-logarithm), axis=1)
        return -rows[np.arange(400), labels].mean()

    oracle = minimize(cross_entropy, np.log(temperature), method="BFGS", options={"gtol": 1e-9})
    found = evaluation.fit_temperature(labels, softmax(logits, axis=1))
    assert np.log(found) == pytest.approx(oracle.x[0], abs=1e-5)


@pytest.mark.parametrize(
    ("labels", "probabilities", "words"),
    [
        ([0, 1, 2], np.eye(10)[:3], "every answer is right: the lower"),
        ([0, 1], [[0.6, 0.4], [0.5, 0.5]], "every answer is right: the lower"),
        ([0, 1, 2], np.eye(10)[3:6], "no likelier than chance: the higher"),
        ([0, 1], np.full((2, 10), 0.1, np.float32), "no likelier than chance: the higher"),
        ([0, 1], [[0.6, 0.4], [0.6, 0.4]], "no likelier than chance: the higher"),
    ],
)
def test_where_no_temperature_is_best_none_is_given(labels, probabilities, words):
    with pytest.raises(ValueError, match=f"no temperature is best, since .*{words}"):
        evaluation.fit_temperature(labels, probabilities)


@pytest.mark.parametrize("temperature", [0.02, 1, 3, 102])
def test_a_temperature_divides_the_logits(temperature):
    _, logits = draw_logits(50, temperature=40)
    given = evaluation.apply_temperature(softmax(logits, axis=1), temperature)
    assert given == pytest.approx(softmax(logits / temperature, axis=1), abs=1e-9)


def test_temperature_scaling_agrees_with_scikit_learn():
    labels, probabilities = draw(3000, temperature=1.7)
    logits = np.log(probabilities)
    oracle = CalibratedClassifierCV(FrozenEstimator(Logits()), method="temperature")
    oracle.fit(logits, labels)
    ours = evaluation.apply_temperature(
        probabilities, evaluation.fit_temperature(labels, probabilities)
    )
    assert np.allclose(ours, oracle.predict_proba(logits), atol=1e-3)


def test_the_ends_of_all_temperatures():
    probabilities = np.array([[0.1, 0.7, 0.2]])
    for temperature, expected in ((1e-320, [0, 1, 0]), (1e300, [1 / 3] * 3)):
        cooled = evaluation.apply_temperature(probabilities, temperature)
        assert cooled[0] == pytest.approx(expected)


@pytest.mark.parametrize("temperature", [0, -1, float("nan"), float("inf"), "2", None])
def test_a_temperature_is_finite_and_positive(temperature):
    with pytest.raises(ValueError, match=r"temperature is .+, expected a finite number above 0"):
        evaluation.apply_temperature(np.eye(10), temperature)


@pytest.mark.parametrize("change", [np.log, lambda p: p * np.nan, lambda p: p[0], lambda p: p / 2])
def test_a_temperature_is_for_probabilities(change):
    with pytest.raises(ValueError, match=r"take their softmax|expected \(N, C\) numbers"):
        evaluation.apply_temperature(change(draw(5)[1]), 2.0)
