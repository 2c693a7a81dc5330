"""Checks of chapter 2, a convolutional network."""

import math

import torch
from torch.nn import functional

from fmnist_lib.course.exercises.answers import (
    call,
    number,
    read_array,
    require,
    run_model,
    whole_number,
)
from fmnist_lib.course.exercises.feedback import Nudge, exercise
from fmnist_lib.course.exercises.networks import require_layers, require_learning, require_logits


@exercise("2.1")
def parameters(parameters):
    """Check the number of parameters with padding 1 in the second convolution."""
    count = whole_number(parameters, "the number of parameters")
    before = 334_154  # of ConvNet; to build one would draw random numbers
    more = (32 * 7 * 7 - 32 * 6 * 6) * 256
    require(
        count != before,
        "That is the number without the padding. Padding has no weights of its own, but it makes "
        "the maps larger. Which layer has a weight for each of their numbers?",
    )
    require(count != more, "So many come on top. How many has the whole network?")
    require(
        count != before + (32 * 14 * 14 - 32 * 6 * 6) * 256,
        "The classifier reads the maps after the second pooling.",
    )
    require(
        count == before + more,
        "Follow an image down the table again: how large are the 32 maps after the second "
        "convolution, and how large after the pooling? One layer reads all their numbers. Has "
        "every output its bias, does each kernel read all 16 maps, and are all layers counted?",
    )
    return "The convolution itself has as many weights as before: all that is new reads its maps."


@exercise("2.2")
def kernel(kernel):
    """Check a kernel that finds lower edges, by what it answers to steps of brightness."""
    weights = read_array(kernel, "the kernel")
    require(
        weights.shape in {(3, 3), (1, 3, 3), (1, 1, 3, 3)},
        "The kernel is wanted as three rows of three weights.",
    )
    weights = torch.tensor(weights, dtype=torch.float64).reshape(1, 1, 3, 3)
    require(weights.any(), "A kernel of zeros finds nothing.")
    weights = weights / weights.abs().max()

    def answers(image):
        return functional.conv2d(image[None, None], weights)

    rows = (torch.arange(8) < 4).double()[:, None].expand(8, 8)  # bright above, dark below
    lower, upper, sides = answers(rows), answers(1 - rows), answers(rows.T)
    require(
        answers(torch.ones(8, 8).double()).abs().max() < 1e-6,
        "On an even area, everything equally bright, it answers with a number that is not 0. What "
        "must the nine weights add up to?",
    )
    require(
        sides.abs().max() < 1e-6,
        "It answers to edges that run up and down. What do the weights of one column add up to?",
    )
    require(
        lower.abs().max() > 1e-6,
        "It answers 0 to every edge of this kind, lower or upper. What do the three weights of one "
        "row add up to?",
    )
    require(
        upper.max() < 1e-6 or lower.max() > 1e-6,
        "It finds upper edges, dark above bright. A kernel is laid on the image as it is written: "
        "its first row on the upper pixels.",
    )
    require(
        lower.max() > 1e-6 and lower.min() > -1e-6,
        "It answers to lower edges and to upper edges, at places side by side: it finds thin "
        "stripes. Where is it bright, and where dark?",
    )
    return "Upper edges get negative numbers, and the ReLU behind it makes zeros of them."


@exercise("2.3")
def cross_entropy(cross_entropy, mistakes):
    """Check a function for the loss, with logits of all sizes, and what one mistake weighs."""
    generator = torch.Generator().manual_seed(0)
    for n, classes in ((64, 10), (7, 3), (1, 10)):
        logits = 3 * torch.randn(n, classes, generator=generator)
        labels = torch.randint(classes, (n,), generator=generator)
        _compare_loss(_loss(cross_entropy, logits, labels), logits, labels)
    far = torch.tensor([[1000.0, 0.0, -1000.0], [-1000.0, -2000.0, -900.0]])
    too_far = {
        (0, 2): (
            "The function is right for small logits. For logits like 1,000 and −1,000 it gives "
            "infinity or NaN, or stops, because exp(1000) is infinite in float32 and exp(−1000) is "
            "0. Subtracting the same number from all logits of an image does not change its "
            "probabilities: which number keeps exp in bounds?"
        ),
        (1, 0): (
            "The function is right for small logits, and for large ones as long as the right class "
            "is the likely one. Otherwise its probability is rounded to 0, and ln 0 is infinite. "
            "What becomes of the logarithm of a fraction, so that nothing is rounded to 0 first?"
        ),
    }
    for pair, words in too_far.items():
        labels = torch.tensor(pair)
        try:
            loss = _loss(cross_entropy, far, labels)
        except Nudge:
            raise Nudge(words) from None
        require(
            abs(loss - functional.cross_entropy(far, labels).item()) < 0.01,
            "The function is right for small logits, and wrong for logits like 1,000 and −1,000. "
            "Is a probability rounded to 0 or 1, or kept away from it, before its logarithm?",
        )
    _compare_ratio(number(mistakes, "the number of mistakes"))
    return (
        "A few confident mistakes can outweigh a hundred good answers, so the loss may rise while "
        "the accuracy rises as well."
    )


def _loss(function, logits, labels):
    given = call(function, logits, labels)
    require(
        len(labels) == 1 or tuple(getattr(given, "shape", ())) != (len(labels),),
        "Your function returns a loss for each image. What is wanted is their mean.",
    )
    return number(given, "what your function returns")


def _compare_loss(loss, logits, labels):
    def matches(value):
        return math.isclose(loss, float(value), rel_tol=1e-4, abs_tol=1e-6)

    right = functional.cross_entropy(logits, labels).item()
    if matches(right):
        return
    n, classes = logits.shape
    probabilities, rows = logits.softmax(dim=1), torch.arange(n)
    of_labels = probabilities[rows, labels]
    wrong_turns = {
        -right: "The sign is wrong: the logarithm of a probability is never positive.",
        right * n: "This is the sum over the images. What is wanted is their mean.",
        right / classes: "This is divided by the number of all logits: divide by that of images.",
        of_labels.mean(): "This is the mean probability: the logarithm is missing.",
        -of_labels.mean().log(): "Take the logarithm for each image first, and then the mean.",
        functional.cross_entropy(probabilities, labels): (
            "Softmax is taken twice here: once is what turns logits into probabilities."
        ),
        functional.nll_loss(logits.log_softmax(dim=0), labels): (
            "Softmax runs down the columns here: an image's logits stand in a row."
        ),
        -probabilities.log()[:, labels].mean(): (
            "x[:, labels] takes all labels from each row. From each row of logits, only its own is "
            "wanted: index with the numbers of the rows as well."
        ),
        -logits[rows, labels].mean(): (
            "This is minus the mean logit of the right class: softmax is missing."
        ),
    }
    for value, words in wrong_turns.items():
        require(not matches(value), words)
    raise Nudge(
        "The loss is off. For each image: the probabilities that softmax makes of its row, the one "
        "at its label, minus its logarithm. And then the mean over the images."
    )


def _compare_ratio(ratio):
    good, bad = -math.log(0.9), -math.log(0.01)
    wrong_turns = {
        bad / good: "So many good answers weigh as much as one mistake. Here are a hundred.",
        good / bad: "That is for one good answer. Here are a hundred.",
        100 * 0.1 / 0.99: "Compare their cross-entropies, and not how far they are from 1.",
        100 * 0.9 / 0.01: "Compare their cross-entropies, and not their probabilities.",
    }
    for value, words in wrong_turns.items():
        require(not math.isclose(ratio, value, rel_tol=0.01), f"The function is right. {words}")
    require(
        ratio != round(ratio) or not 1 < ratio < 4,
        "The function is right. Give the number of mistakes as it comes out, not rounded.",
    )
    require(
        math.isclose(ratio, 100 * good / bad, rel_tol=0.01),
        "The function is right, the number of mistakes is not: what is the cross-entropy of a "
        "hundred good answers together, and what is that of one mistake?",
    )


@exercise("2.4")
def small_network(small_network, data):
    """Check a network by what it does: its size, its logits, and that it can learn."""
    images, labels = data.train.images[:64], data.train.labels[:64]
    alone = run_model(small_network, images[:1])
    logits = run_model(small_network, images)
    require_layers(small_network)
    require_logits(logits)
    require(
        torch.allclose(run_model(small_network, images), logits, atol=1e-3),
        "Asked twice in evaluation mode, it gives two answers. Is there a functional.dropout "
        "without training=self.training?",
    )
    require(
        torch.allclose(alone, logits[:1], atol=1e-3),
        "In evaluation mode, its answer to an image depends on the other images of the batch. Does "
        "a layer reshape, normalise or add up along the first dimension?",
    )
    require_learning(small_network, images, labels)
    return "It has the right form, and it learns. How good it becomes, a whole training will show."


@exercise("2.5")
def sorted_or_mixed(sorted_accuracy, mixed_accuracy):
    """Check two accuracies, of a training on sorted and one on mixed images."""
    in_order = number(sorted_accuracy, "sorted_accuracy")
    mixed = number(mixed_accuracy, "mixed_accuracy")
    require(min(in_order, mixed) >= 0, "An accuracy is never negative.")
    require(max(in_order, mixed) <= 1, "An accuracy is wanted as a share, between 0 and 1.")
    low, high = sorted((in_order, mixed))
    require(
        high > 0.3,
        "Neither has learned much. An epoch of 5,000 mixed images is enough to be right about most "
        "images: take the learning rate and the batch size of the exercise.",
    )
    require(
        low < 0.7 * high,
        "Both learned alike. TrainConfig shuffles unless it is told not to, and part[order] has "
        "the images and the labels in the new order. And are these accuracies on the validation "
        "images?",
    )
    require(
        in_order < mixed,
        "The sorted images did better? Look whether the two have changed places.",
    )
    require(
        in_order < 0.35,
        "The sorted images did too well. Are they in the order of labels.argsort(), was the "
        "network a new one, and is this the accuracy on validation images?",
    )
    return "A tenth is what guessing gives: from sorted images, it has learned next to nothing."
