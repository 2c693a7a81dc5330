from collections import Counter

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from fmnist_lib import evaluation
from fmnist_lib.data import CLASS_NAMES
from fmnist_lib.models import build_model

pairs = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=60)


def test_predictions_do_not_depend_on_the_batch_size(sample):
    model = build_model("cnn", seed=0)
    whole = evaluation.predict(model, sample.test.images)
    parts = evaluation.predict(model, sample.test.images, batch_size=7)
    assert whole.shape == (500, 10)
    assert whole.dtype == np.float32
    assert np.allclose(whole, parts, atol=1e-6)
    assert np.allclose(whole.sum(axis=1), 1, atol=1e-5)
    with torch.no_grad():
        expected = torch.nn.functional.softmax(model(sample.test.images), dim=1)
    assert np.allclose(whole, expected, atol=1e-6)


def test_prediction_turns_dropout_off(sample):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(), torch.nn.Linear(784, 10))
    images = sample.test.images[:20]
    first = evaluation.predict(model.train(), images)
    assert np.array_equal(first, evaluation.predict(model.train(), images))


def test_no_images_are_refused(sample):
    with pytest.raises(ValueError, match="no images to predict"):
        evaluation.predict(build_model("cnn"), sample.test.images[:0])


@given(pairs)
def test_tables_agree_with_counting(answers):
    labels, predicted = np.array(answers).T
    right = Counter(label for label, guess in answers if label == guess)
    called, there = Counter(predicted.tolist()), Counter(labels.tolist())
    report = evaluation.class_report(labels, predicted)
    confusion = evaluation.confusion_matrix(labels, predicted)
    assert evaluation.accuracy(labels, predicted) == sum(right.values()) / len(answers)
    for k, name in enumerate(CLASS_NAMES):
        row = report.loc[name]
        assert row["images"] == there[k]
        assert row["precision"] == pytest.approx(right[k] / called[k] if called[k] else 0)
        assert row["recall"] == pytest.approx(right[k] / there[k] if there[k] else 0)
        f1 = 2 * right[k] / (called[k] + there[k]) if right[k] else 0
        assert row["f1"] == pytest.approx(f1)
        for other, other_name in enumerate(CLASS_NAMES):
            assert confusion.loc[name, other_name] == answers.count((k, other))


@given(pairs)
def test_the_interval_is_wilsons(answers):
    labels, predicted = np.array(answers).T
    hits = int((labels == predicted).sum())
    expected = binomtest(hits, len(answers)).proportion_ci(0.95, method="wilson")
    low, high = evaluation.accuracy_interval(labels, predicted)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_the_paired_difference_covers_the_truth():
    """Draw many test sets from a known truth: 95 % intervals must hold it in about 95 of 100."""
    rng, n, held = np.random.default_rng(0), 1000, 0
    labels = np.zeros(n, dtype=int)
    for _ in range(1000):
        outcome = rng.choice(4, size=n, p=[0.82, 0.06, 0.04, 0.08])  # both, only a, only b, none
        right_a, right_b = np.isin(outcome, (0, 1)), np.isin(outcome, (0, 2))
        result = evaluation.accuracy_difference(labels, 1 - right_a, 1 - right_b)
        assert result["only_a_right"] == (outcome == 1).sum()
        assert result["only_b_right"] == (outcome == 2).sum()
        assert result["difference"] == pytest.approx(right_a.mean() - right_b.mean())
        held += result["low"] <= 0.02 <= result["high"]
    assert 930 <= held <= 970


def test_the_worst_confusions(sample):
    labels = np.array([6, 6, 6, 0, 0, 2, 2, 2, 2])
    predicted = np.array([0, 0, 0, 6, 6, 2, 2, 2, 4])
    worst = evaluation.worst_confusions(evaluation.confusion_matrix(labels, predicted), n=3)
    assert worst.to_numpy().tolist() == [
        ["Shirt", "T-shirt", 3],
        ["T-shirt", "Shirt", 2],
        ["Pullover", "Coat", 1],
    ]


def test_the_most_confident_mistakes():
    probabilities = np.full((4, 10), 0.01)
    for row, (guess, p) in enumerate([(1, 0.9), (2, 0.8), (3, 0.95), (4, 0.99)]):
        probabilities[row, guess] = p
    labels = np.array([0, 0, 0, 4])  # the last one is right
    assert evaluation.confident_mistakes(labels, probabilities).tolist() == [2, 0, 1]
    assert evaluation.confident_mistakes(labels, probabilities, n=1).tolist() == [2]


@pytest.mark.parametrize(
    "function",
    [
        evaluation.accuracy,
        evaluation.accuracy_interval,
        evaluation.class_report,
        evaluation.confusion_matrix,
    ],
)
@pytest.mark.parametrize("predicted", [[1, 2], [[1, 2, 3]], []])
def test_lengths_that_do_not_match_are_refused(function, predicted):
    with pytest.raises(ValueError, match="expected one of each for every image"):
        function([1, 2, 3] if predicted else [], predicted)


def test_accuracy_agrees_with_scikit_learn():
    rng = np.random.default_rng(1)
    labels, predicted = rng.integers(0, 10, (2, 500))
    expected = sklearn.metrics.accuracy_score(labels, predicted)
    assert evaluation.accuracy(torch.from_numpy(labels), predicted) == expected
