import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.frozen import FrozenEstimator

from fmnist_lib import evaluation


def draw(n, temperature=1.0, seed=0):
    """Draw labels from known probabilities, and what a model with that temperature would say."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2, size=(n, 10))
    true = torch.from_numpy(logits).softmax(dim=1).numpy()
    labels = (true.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return labels, torch.from_numpy(logits * temperature).softmax(dim=1).numpy()


@given(st.integers(1, 200), st.integers(1, 30), st.integers(0, 99))
def test_reliability_agrees_with_scikit_learn(n, bins, seed):
    labels, probabilities = draw(n, seed=seed)
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


def test_temperature_scaling_agrees_with_scikit_learn():
    labels, probabilities = draw(3000, temperature=1.7)
    logits = np.log(probabilities)
    oracle = CalibratedClassifierCV(FrozenEstimator(Logits()), method="temperature")
    oracle.fit(logits, labels)
    ours = evaluation.apply_temperature(
        probabilities, evaluation.fit_temperature(labels, probabilities)
    )
    assert np.allclose(ours, oracle.predict_proba(logits), atol=1e-3)


@pytest.mark.parametrize("temperature", [0, -1, float("nan")])
def test_a_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match="expected a number above 0"):
        evaluation.apply_temperature(np.eye(10), temperature)
