"""Checks of chapter 2, a convolutional network."""

import copy
import math

import torch
from torch.nn import functional

from fmnist_lib.exercises.answers import call, number, read_array, require, run_model, whole_number
from fmnist_lib.exercises.feedback import Nudge, exercise
from fmnist_lib.models import count_parameters


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
        "convolution, and how large after the pooling? One layer reads all their numbers.",
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
        "On even ground, everything equally bright, it answers with a number that is not 0. What "
        "must the nine weights add up to?",
    )
    require(
        sides.abs().max() < 1e-6,
        "It answers to edges that run up and down, too. What do the weights of one column add up "
        "to?",
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
    far = torch.tensor([[1000.0, 0.0, -1000.0], [-1000.0, 0.0, 1000.0]])
    for labels in (torch.tensor([0, 2]), torch.tensor([1, 0])):
        try:
            loss = _loss(cross_entropy, far, labels)
        except Nudge:
            raise Nudge(
                "The function is right for small logits. For logits like 1,000 and −1,000 it gives "
                "infinity or NaN, because exp(1000) is infinite in float32 and exp(−1000) is 0. "
                "Subtracting the same number from all logits of an image does not change its "
                "probabilities: which number keeps exp in bounds?"
            ) from None
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
    run_model(small_network, images[:1])
    logits = run_model(small_network, images)
    count = count_parameters(small_network)
    require(count > 0, "The network has no parameters that training may change.")
    require(
        count < 100_000,
        f"It has {count:,} parameters. layer_table says where they sit: which layer could read "
        "less?",
    )
    require(
        any(p.ndim == 4 for p in small_network.parameters()),
        "There is no convolution in it. Its weights would have four dimensions.",
    )
    _require_logits(logits)
    alone = run_model(small_network, images[:1])
    require(
        torch.allclose(alone, logits[:1], atol=1e-3),
        "In evaluation mode, its answer to an image depends on the other images of the batch. Does "
        "a layer reshape, normalise or add up along the first dimension?",
    )
    student = copy.deepcopy(small_network).cpu().train()
    with torch.random.fork_rng(), torch.enable_grad():
        _require_batch_normalisation(student, images)
        _require_learning(student, images, labels)
    return "It has the right form, and it learns. How good it becomes, a whole training will show."


def _require_logits(logits):
    sums = logits.exp().sum(dim=1)
    require(
        logits.min() < 0 or (logits.sum(dim=1) - 1).abs().max() > 1e-3,
        "What comes out adds up to 1 in each row: there is a softmax at the end. Leave it out. "
        "cross_entropy takes it itself, and twice is once too often.",
    )
    require(
        (sums - 1).abs().max() > 1e-3,
        "What comes out are logarithms of probabilities: there is a log-softmax at the end. The "
        "course's networks return logits, without it.",
    )
    require(
        logits.min() < 0,
        "None of its logits is negative. Is there a ReLU or a sigmoid behind the last layer? It "
        "takes half of the answers away.",
    )


def _require_batch_normalisation(model, images):
    answers = []
    for company in (images[1:32], images[32:63]):
        torch.manual_seed(0)  # for the same dropout
        answers.append(model(torch.cat([images[:1], company]))[0])
    require(
        not torch.allclose(*answers, atol=1e-4),
        "In training mode, its answer to an image is the same whatever else is in the batch. So "
        "there is no batch normalisation at work, which takes its means over the batch.",
    )


def _require_learning(model, images, labels):
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(images), labels)
        require(
            loss.requires_grad,
            "No gradient comes through: is there a detach, .data or no_grad in its forward?",
        )
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    require(
        losses[-1] < max(0.9 * losses[0], 0.2),
        "It does not learn: after 20 steps on 64 images, their loss has hardly fallen. Is there a "
        "ReLU between each two layers, and none at the end?",
    )


@exercise("2.5")
def sorted_or_mixed(sorted_accuracy, mixed_accuracy):
    """Check two accuracies, of a training on sorted and one on mixed images."""
    in_order = number(sorted_accuracy, "sorted_accuracy")
    mixed = number(mixed_accuracy, "mixed_accuracy")
    require(min(in_order, mixed) >= 0, "An accuracy is never negative.")
    require(max(in_order, mixed) <= 1, "An accuracy is wanted as a share, between 0 and 1.")
    require(in_order <= mixed, "The sorted images did better? Look whether the two have changed.")
    require(
        mixed > 0.3,
        "Neither has learned much. An epoch of 5,000 mixed images is enough to be right about most "
        "images: take the learning rate and the batch size of the exercise.",
    )
    require(
        in_order < 0.7 * mixed,
        "Both learned alike. TrainConfig shuffles unless it is told not to, and part[order] has "
        "the images and the labels in the new order.",
    )
    require(
        in_order < 0.35,
        "The sorted images did too well. Are they in the order of labels.argsort(), was the "
        "network a new one, and is this the accuracy on validation images?",
    )
    return "A tenth is what guessing gives: from sorted images, it has learned next to nothing."
