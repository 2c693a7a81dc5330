"""The checks of inputs, and their messages; the functions that use them have tests, too."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from fmnist_lib import evaluation
from fmnist_lib.data import Split
from fmnist_lib.evaluation import accuracy_under_corruption, corrupt, predict
from fmnist_lib.inputs import (
    as_array,
    checked_class_names,
    checked_images,
    checked_labels,
    checked_predictions,
    logits_of,
)
from fmnist_lib.plotting import embedding, pixel_histograms

IMAGES = torch.linspace(0, 1, 3 * 784).reshape(3, 1, 28, 28)


class Net(nn.Module):
    """A network that returns what a function makes of its images."""

    def __init__(self, function):
        super().__init__()
        self.forward = function


def linear(n, **options):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, n, **options))


@pytest.mark.parametrize(
    "function",
    [
        checked_images,
        lambda images: predict(linear(10), images),
        lambda images: corrupt(images, "shift", 1),
        lambda images: Split(images, torch.zeros(3, dtype=torch.int64)),
    ],
)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x.numpy(), r"ndarray, expected a Tensor \(N, 1, 28, 28\)"),
        (lambda x: x[0], r"\(1, 28, 28\) torch.float32, expected .* as in images\[:1\]"),
        (lambda x: x[:, 0], r"\(3, 28, 28\) torch.float32, expected"),
        (lambda x: x.expand(-1, 3, -1, -1), r"\(3, 3, 28, 28\) torch.float32"),
        (lambda x: x.double(), "torch.float64, expected .* torch.float32"),
        (lambda x: (x * 255).byte(), "torch.uint8, expected .* torch.float32"),
        (lambda x: x * 255, "go from 0 to 255, expected .* dividing 8-bit pixels by 255"),
        (lambda x: x * 2 - 1, "go from -1 to 1, expected"),
        (lambda x: x + 0.002, "go from 0.002 to 1.002, expected"),
        (lambda x: x.where(x < 1, torch.nan), "go from nan to nan, expected finite numbers"),
        (lambda x: x.where(x < 1, torch.inf), "go from 0 to inf, expected finite numbers"),
    ],
)
def test_images_of_another_kind_are_refused(function, change, words):
    with pytest.raises(ValueError, match=f"images .*{words}"):
        function(change(IMAGES))


def test_a_rounding_error_is_allowed_and_so_are_no_images():
    for images in (IMAGES + 0.0005, IMAGES - 0.0005, IMAGES[:0]):
        assert checked_images(images) is images
    with pytest.raises(ValueError, match=r"number of images is 0, expected .* 1 or more"):
        predict(linear(10), IMAGES[:0])


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Net(lambda x: (x.flatten(1), x)), "returns a tuple, expected logits"),
        (Net(lambda x: {"logits": x.flatten(1)}), "returns a dict, expected logits"),
        (nn.Sequential(linear(10), nn.Unflatten(1, (10, 1, 1))), r"returns \(2, 10, 1, 1\)"),
        (Net(lambda x: x.flatten(1)[0]), r"for 2 images the model returns \(784,\)"),
        (Net(lambda x: x.flatten(1)[:1]), r"for 2 images the model returns \(1, 784\)"),
        (linear(1), r"returns \(2, 1\), expected logits \(2, C\): .* at least two"),
        (Net(lambda x: (x > 0).flatten(1)), "returns torch.bool, expected logits"),
        (Net(lambda x: x.long().flatten(1)), "returns torch.int64, expected logits"),
        (Net(lambda x: (x / x).flatten(1)), "returns numbers from nan to nan, expected logits"),
        (Net(lambda x: x.flatten(1).log()), "returns numbers from -inf to .*, expected logits"),
        (Net(lambda x: -x.flatten(1).log()), "returns numbers from .* to inf, expected logits"),
        (linear(10, dtype=torch.float64), r"cannot take images \(2, .* torch.float32 \(RuntimeErr"),
        (linear(10, dtype=torch.bfloat16), "cannot take images .* of that dtype"),
        (nn.Conv2d(3, 4, 3), "cannot take images .* fit the channels"),
        (Net(lambda x: {}["answer"]), r"cannot take images .*\(KeyError: 'answer'\)"),
    ],
)
def test_a_model_that_does_not_return_logits_is_refused_and_keeps_its_mode(model, words):
    model.train()
    with pytest.raises(ValueError, match=words):
        predict(model, IMAGES[:2])
    assert model.training
    with pytest.raises(ValueError, match=words):
        logits_of(model, IMAGES[:2])


def test_a_model_is_a_module():
    model, split = linear(10), Split(IMAGES, torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match=r"model is a method, expected a torch\.nn.Module"):
        predict(model.forward, IMAGES)
    with pytest.raises(ValueError, match=r"model is a str, expected a torch\.nn.Module"):
        accuracy_under_corruption({"cnn": "cnn"}, split)


def test_running_out_of_memory_is_not_blamed_on_the_model():
    def forward(images):
        raise torch.OutOfMemoryError("no")

    with pytest.raises(torch.OutOfMemoryError):
        predict(Net(forward), IMAGES)


def test_only_probabilities_cause_a_warning(recwarn):
    for logits in (torch.eye(3) * 2, torch.eye(3) * 1.3 - 0.1, torch.eye(3).log_softmax(dim=1)):
        assert logits_of(Net(lambda images, logits=logits: logits), IMAGES).equal(logits)
    assert not recwarn
    assert logits_of(Net(lambda images: torch.eye(3)), IMAGES).equal(torch.eye(3))
    assert "expected logits" in str(recwarn.pop().message)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, 1], r"labels are \(2,\) int64, expected \(3,\) whole numbers"),
        ([[0], [1], [2]], r"labels are \(3, 1\)"),
        (2, r"labels are \(\) int64"),
        ([True, False, True], r"labels are \(3,\) bool"),
        ([0, 1, -1], "labels go from -1 to 1, expected class indices from 0 to 9"),
        ([0, 1, 10], "labels go from 0 to 10, expected class indices from 0 to 9"),
    ],
)
def test_labels_of_another_kind_are_refused(labels, words):
    with pytest.raises(ValueError, match=words):
        checked_labels(labels, 3, 10)


def test_without_a_number_of_classes_any_index_is_a_label():
    assert checked_labels([0, 10**6], 2).tolist() == [0, 10**6]
    assert checked_labels(np.zeros(0, dtype=int), 0, 10).tolist() == []
    labels, predicted = checked_predictions(torch.tensor([0, 9]), np.array([9, 0], np.uint8), 10)
    assert (labels.tolist(), predicted.tolist()) == ([0, 9], [9, 0])


def test_numbers_become_an_array():
    kinds = [1.5, 2.5], (1.5, 2.5), torch.tensor([1.5, 2.5], requires_grad=True)
    for numbers in (*kinds, kinds[2].bfloat16(), kinds[2].half()):
        assert as_array(numbers).tolist() == [1.5, 2.5]
    array = np.arange(3)
    assert as_array(array) is array


@pytest.mark.parametrize(
    "values", [Split(IMAGES, torch.tensor([0, 1, 2])), [[1], [1, 2]], torch.eye(3).to_sparse()]
)
def test_what_makes_no_array_is_refused(values):
    with pytest.raises(ValueError, match=f"a {type(values).__name__} was found where numbers are"):
        as_array(values)


@pytest.mark.parametrize(
    "names",
    [None, "ab", {"a", "b"}, {"a": 0, "b": 1}, ("a", "a"), (0, 1), (None, "b"), (), iter("ab")],
)
def test_class_names_are_different_texts_in_an_order(names):
    words = "class_names is .*expected a different name for each class"
    labels = torch.zeros(3, dtype=torch.int64)
    functions = evaluation.class_report, evaluation.confusion_matrix, embedding, pixel_histograms
    calls = [partial(function, IMAGES[:, 0, 0, :2], labels) for function in functions]
    for call in (*calls, partial(Split, IMAGES, labels)):
        with pytest.raises(ValueError, match=words):
            call(names)
    assert checked_class_names(np.array(["a", "b"])) == ("a", "b")
