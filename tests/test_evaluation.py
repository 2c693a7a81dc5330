from collections import Counter

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st

from fmnist_lib import evaluation
from fmnist_lib.data import CLASS_NAMES
from fmnist_lib.models import build_model

pairs = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=60)
# Images of each class, though not all may be predicted.
each_class = st.lists(st.integers(0, 9), min_size=10, max_size=10).map(enumerate).map(list)


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
    assert np.allclose(whole, evaluation.predict(model, sample.test.images, np.int64(500)))


def test_prediction_turns_dropout_off_and_leaves_images_and_modes_as_they_are(sample):
    writing = torch.nn.Threshold(0.5, 0.7, inplace=True)
    layers = torch.nn.Flatten(), writing, torch.nn.Dropout(), torch.nn.Linear(784, 10).eval()
    model, images = torch.nn.Sequential(*layers), sample.test.images[:20].clone()
    first = evaluation.predict(model, images)
    assert images.equal(sample.test.images[:20])
    assert np.array_equal(first, evaluation.predict(model, images))
    assert [layer.training for layer in model.modules()] == [True, True, True, True, False]


def test_a_model_without_parameters_can_predict(sample):
    model = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d((10, 1)), torch.nn.Flatten())
    assert evaluation.predict(model, sample.test.images[:3]).shape == (3, 10)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("scale", [1, 1e4])
def test_logits_of_any_precision_become_probabilities_in_32_bits(sample, dtype, scale):
    scale = scale if dtype != torch.float64 else scale**12  # beyond what float32 holds
    logits = scale * torch.randn(20, 10, generator=torch.Generator().manual_seed(0)).to(dtype)

    class Net(torch.nn.Module):
        def forward(self, images):
            return logits

    probabilities = evaluation.predict(Net(), sample.test.images[:20])
    assert probabilities.dtype == np.float32
    assert np.allclose(probabilities, logits.double().softmax(dim=1), atol=1e-6)


def test_images_go_through_in_batches(sample):
    sizes, model = [], build_model("cnn", seed=0)
    model.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    evaluation.predict(model, sample.test.images[:23], batch_size=10)
    assert sizes == [10, 10, 3]


def test_a_model_that_writes_into_its_input_leaves_the_images_alone(sample):
    images = sample.test.images[:8]
    before = images.clone()
    layers = torch.nn.Hardtanh(0, 0.1, inplace=True), torch.nn.Flatten(), torch.nn.Linear(784, 10)
    evaluation.predict(torch.nn.Sequential(*layers), images)
    assert images.equal(before)


def test_a_model_that_ends_in_a_softmax_causes_one_warning_at_the_line_of_the_call(sample):
    model = torch.nn.Sequential(build_model("cnn", seed=0), torch.nn.Softmax(dim=1))
    with pytest.warns(UserWarning, match="returns probabilities, expected logits") as caught:
        evaluation.predict(model, sample.test.images[:100], batch_size=10)
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, 64.0, "64", True, None])
def test_a_batch_is_a_whole_number_of_images(sample, batch_size):
    with pytest.raises(ValueError, match=r"batch_size is .*, expected a whole number of 1 or more"):
        evaluation.predict(build_model("cnn", seed=0), sample.test.images[:8], batch_size)


@given(pairs, each_class)
def test_tables_agree_with_counting(answers, one_of_each):
    answers = answers + one_of_each
    labels, predicted = np.array(answers).T
    right = Counter(label for label, guess in answers if label == guess)
    called, there = Counter(predicted.tolist()), Counter(labels.tolist())
    report = evaluation.class_report(labels, predicted)
    confusion = evaluation.confusion_matrix(labels, predicted)
    assert evaluation.accuracy(labels, predicted) == sum(right.values()) / len(answers)
    for k, name in enumerate(CLASS_NAMES):
        row = report.loc[name]
        assert row["images"] == there[k] > 0
        assert row["precision"] == pytest.approx(right[k] / called[k] if called[k] else 0)
        assert row["recall"] == pytest.approx(right[k] / there[k])
        f1 = 2 * right[k] / (called[k] + there[k]) if right[k] else 0
        assert row["f1"] == pytest.approx(f1)
        for other, other_name in enumerate(CLASS_NAMES):
            assert confusion.loc[name, other_name] == answers.count((k, other))


def test_a_class_that_is_never_predicted_has_no_precision():
    report = evaluation.class_report([0, 1, 2], [0, 0, 2], ("bat", "cat", "rat"))
    assert report.loc["cat"].tolist() == [0, 0, 0, 1]


def test_the_worst_confusions_are_mistakes():
    labels = np.array([6, 6, 6, 0, 0, 2, 2, 2, 2])
    predicted = np.array([0, 0, 0, 6, 6, 2, 2, 2, 4])
    confusion = evaluation.confusion_matrix(labels, predicted)
    worst = [["Shirt", "T-shirt", 3], ["T-shirt", "Shirt", 2], ["Pullover", "Coat", 1]]
    assert evaluation.worst_confusions(confusion).to_numpy().tolist() == worst
    assert evaluation.worst_confusions(confusion, n=2).to_numpy().tolist() == worst[:2]
    none = evaluation.worst_confusions(evaluation.confusion_matrix(labels, labels))
    assert none.empty
    assert list(none.columns) == ["true", "predicted", "images"]


def test_what_is_equally_frequent_or_confident_keeps_its_order():
    labels, predicted = np.repeat(range(10), 10), np.tile(range(10), 10)  # each pair of classes
    times = 1 + (labels + predicted) % 2
    expected = sorted(np.flatnonzero(labels != predicted).tolist(), key=lambda k: -times[k])
    confusion = evaluation.confusion_matrix(labels.repeat(times), predicted.repeat(times))
    found = evaluation.worst_confusions(confusion, n=90)["predicted"]
    assert found.tolist() == [CLASS_NAMES[predicted[k]] for k in expected]
    probabilities = np.eye(10)[predicted] * 0.4 * times[:, None]
    probabilities += (1 - probabilities.sum(axis=1, keepdims=True)) / 10
    assert evaluation.confident_mistakes(labels, probabilities, n=90).tolist() == expected


def test_the_most_confident_mistakes():
    probabilities = np.empty((4, 10))
    for row, (guess, p) in enumerate([(1, 0.9), (2, 0.8), (3, 0.95), (4, 0.99)]):
        probabilities[row] = (1 - p) / 9
        probabilities[row, guess] = p
    labels = np.array([0, 0, 0, 4])  # the last one is right
    assert evaluation.confident_mistakes(labels, probabilities).tolist() == [2, 0, 1]
    assert evaluation.confident_mistakes(labels, probabilities, n=1).tolist() == [2]


@pytest.mark.parametrize("n_classes", [2, 3, 26])
def test_any_number_of_classes_will_do(n_classes):
    """With names of their own, against scikit-learn."""
    rng, names = np.random.default_rng(0), [f"class {k}" for k in range(n_classes)]
    probabilities = rng.dirichlet(np.full(n_classes, 0.3), size=40 * n_classes)
    labels, predicted = np.arange(len(probabilities)) % n_classes, probabilities.argmax(axis=1)
    counts = sklearn.metrics.confusion_matrix(labels, predicted)
    confusion = evaluation.confusion_matrix(labels, predicted, names)
    assert confusion.to_numpy().tolist() == counts.tolist()
    assert list(confusion) == list(confusion.index) == names
    recall = sklearn.metrics.recall_score(labels, predicted, average=None)
    metrics = evaluation.summarize_predictions(labels, probabilities, names)
    assert metrics["test_recall"] == dict(zip(names, recall, strict=True))
    assert metrics["test_log_loss"] == pytest.approx(
        sklearn.metrics.log_loss(labels, probabilities)
    )
    shared = sklearn.metrics.accuracy_score(labels, predicted)
    assert evaluation.accuracy(labels, predicted) == shared
    assert evaluation.accuracy_difference(labels, labels, predicted)["difference"] == pytest.approx(
        1 - shared
    )
    mistakes = evaluation.confident_mistakes(labels, probabilities, len(labels))
    assert sorted(mistakes) == np.flatnonzero(labels != predicted).tolist()
    with pytest.raises(ValueError, match=rf"expected \(N, {n_classes - 1}\) numbers"):
        evaluation.summarize_predictions(labels, probabilities, names[1:])
    with pytest.raises(ValueError, match=f"labels go from 0 to {n_classes - 1}, expected class"):
        evaluation.class_report(labels, predicted, names[1:])


def test_tensors_and_lists_are_as_good_as_arrays(sample):
    probabilities = torch.eye(10, requires_grad=True)[sample.test.labels].flip(0)
    labels, predicted = sample.test.labels, probabilities.argmax(dim=1)
    share = (labels == predicted).double().mean().item()
    assert evaluation.accuracy(labels, predicted) == share
    assert evaluation.accuracy(labels.tolist(), predicted.tolist()) == share
    for kind in (probabilities, probabilities.bfloat16(), probabilities.tolist()):
        assert evaluation.summarize_predictions(labels, kind)["test_accuracy"] == share


@pytest.mark.parametrize("n", [-1, 2.0, "2", True])
def test_a_number_of_mistakes_is_a_whole_number(n):
    labels, probabilities = [0, 1, 1], np.eye(10)[:3]
    with pytest.raises(ValueError, match=r"n is .*, expected a whole number of 0 or more"):
        evaluation.confident_mistakes(labels, probabilities, n)
    with pytest.raises(ValueError, match=r"n is .*, expected a whole number of 0 or more"):
        evaluation.worst_confusions(evaluation.confusion_matrix(labels, [0, 1, 2]), n)


@pytest.mark.parametrize(
    "change", [lambda c: c.to_numpy(), lambda c: c[:5], lambda c: c / 3, lambda c: c["Coat"], list]
)
def test_anything_but_a_confusion_matrix_is_refused(change):
    confusion = change(evaluation.confusion_matrix([0, 1, 1], [0, 1, 2]))
    with pytest.raises(ValueError, match=r"confusion is a .*, expected what confusion_matrix"):
        evaluation.worst_confusions(confusion)


@pytest.mark.parametrize(
    "function",
    [
        evaluation.accuracy,
        evaluation.accuracy_interval,
        evaluation.bootstrap_interval,
        evaluation.class_report,
        evaluation.confusion_matrix,
        lambda labels, predicted: evaluation.mcnemar_test(labels, labels, predicted),
        lambda labels, predicted: evaluation.accuracy_difference(labels, predicted, labels),
    ],
)
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([1, 2], r"predictions are \(2,\) int64, expected \(3,\)"),
        ([[1, 2, 3]], r"predictions are \(1, 3\)"),
        ([0, 1, -1], "predictions go from -1 to 1, expected class indices from 0"),
        ([0, 1, np.nan], r"predictions are \(3,\) float64, expected \(3,\) whole numbers"),
        (["a", "b", "c"], r"predictions are \(3,\) <U1, expected"),
    ],
)
def test_predictions_that_are_not_a_class_for_each_image_are_refused(function, bad, message):
    with pytest.raises(ValueError, match=message):
        function([0, 1, 2], bad)


def test_labels_that_are_not_classes_are_refused():
    with pytest.raises(ValueError, match=r"labels are \(2,\) float64, expected \(2,\) whole"):
        evaluation.accuracy([0.0, 1.0], [0, 1])
    with pytest.raises(ValueError, match=r"labels are \(2, 10\) float64, expected \(2,\) whole"):
        evaluation.accuracy(np.eye(10)[:2], [0, 1])
    with pytest.raises(ValueError, match="there are no labels, expected at least one"):
        evaluation.accuracy([], [])
    for function in (evaluation.class_report, evaluation.confusion_matrix):
        with pytest.raises(ValueError, match=r"predictions go from 0 to 10, .* from 0 to 9"):
            function(range(10), [*range(9), 10])


def test_recall_needs_images_of_each_class():
    labels = np.array([0, 1, 2, 3, 4, 5, 6, 7, 7, 7])
    with pytest.raises(ValueError, match="there are no images of Bag, Ankle boot"):
        evaluation.class_report(labels, labels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p[0], r"probabilities are \(10,\) float64, expected \(N, "),
        (lambda p: p[:, :1], r"probabilities are \(500, 1\) float64, expected .* at least two"),
        (lambda p: p[:0], r"probabilities are \(0, 10\) float64, expected .* at least one"),
        (lambda p: p.astype(str), r"probabilities are \(500, 10\) <U"),
        (lambda p: p[:499], r"labels are \(500,\) int64, expected \(499,\)"),
        (lambda p: np.log(p), "row 0 .* adds up to .*; if these are logits, take their softmax"),
        (lambda p: np.where(np.arange(500)[:, None] == 7, np.nan, p), "row 7 .* goes from nan"),
        (lambda p: p / 2, "row 0 of the probabilities .* adds up to 0.5, expected numbers from 0"),
        (lambda p: np.hstack([p[:, :8] * 0, p[:, :2] * 0 + [-0.5, 1.5]]), "goes from -0.5 to 1.5"),
    ],
)
@pytest.mark.parametrize(
    "function",
    [
        evaluation.summarize_predictions,
        evaluation.confident_mistakes,
        evaluation.reliability,
        evaluation.calibration_error,
        evaluation.log_loss,
        evaluation.fit_temperature,
    ],
)
def test_values_that_are_not_probabilities_are_refused(sample, function, change, message):
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(10), size=500)
    with pytest.raises(ValueError, match=message):
        function(sample.test.labels, change(probabilities))


def test_the_summary_agrees_with_the_single_functions_and_scikit_learn(sample):
    probabilities = evaluation.predict(build_model("cnn", seed=0), sample.test.images)
    labels, predicted = sample.test.labels.numpy(), probabilities.argmax(axis=1)
    metrics = evaluation.summarize_predictions(sample.test.labels, probabilities)
    low, high = evaluation.accuracy_interval(labels, predicted)
    recall = sklearn.metrics.recall_score(labels, predicted, average=None)
    assert metrics == {
        "test_images": 500,
        "test_accuracy": sklearn.metrics.accuracy_score(labels, predicted),
        "test_accuracy_low": low,
        "test_accuracy_high": high,
        "test_log_loss": evaluation.log_loss(labels, probabilities),
        "test_calibration_error": evaluation.calibration_error(labels, probabilities),
        "test_recall": dict(zip(CLASS_NAMES, recall, strict=True)),
    }
    numbers = [*metrics.values(), *metrics.pop("test_recall").values()]
    assert {type(number) for number in numbers} == {int, float, dict}  # as a record can keep them
