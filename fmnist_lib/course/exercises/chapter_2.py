"""Checks of chapter 2, a convolutional network."""

import copy
import math

import torch
from torch import nn
from torch.nn import functional

from fmnist_lib.course.exercises.answers import call, expect, number, read_array, refuse, run_model
from fmnist_lib.course.exercises.feedback import Nudge, exercise
from fmnist_lib.inspection import count_parameters

BEFORE = 334_154  # parameters of ConvNet; to build one would draw random numbers
MORE = (32 * 7 * 7 - 32 * 6 * 6) * 256

PARAMETERS = {
    BEFORE: "That is the number without the padding. Padding has no weights, but it makes the maps "
    "larger. Which layer has a weight for each of their numbers?",
    MORE: "That many are added. How many does the whole network have?",
}


@exercise("2.1")
def parameters(parameters):
    """Check the number of parameters with padding 1 in the second convolution."""
    expect(
        number(parameters, "the number of parameters"),
        BEFORE + MORE,
        PARAMETERS,
        "Follow an image down the table again: how large are the 32 maps after the second "
        "convolution, and after the pooling? One layer reads all their numbers. Does every output "
        "have its bias, does each kernel read all 16 maps, and are all layers counted?",
    )
    return "The convolution itself has as many weights as before: all that is new reads its maps."


@exercise("2.2")
def kernel(kernel):
    """Check a kernel that finds lower edges, by its responses to steps of brightness."""
    weights = read_array(kernel, "the kernel").astype(float)
    refuse(
        weights.shape not in {(3, 3), (1, 3, 3), (1, 1, 3, 3)}
        and "A kernel is three rows of three weights."
    )
    zero = 1e-6 * abs(weights).max()
    weights = torch.tensor(weights).reshape(1, 1, 3, 3)
    above = (torch.arange(8) < 4).double()[:, None].expand(8, 8)  # bright above, dark below
    even, sides, lower, upper = (
        functional.conv2d(image[None, None], weights)
        for image in (torch.ones_like(above), above.T, above, 1 - above)
    )
    refuse(
        even.abs().max() > zero
        and "On an even area, equally bright everywhere, its result is not 0. What must the nine "
        "weights add up to?",
        sides.abs().max() > zero
        and "It responds to edges that run up and down. What do the weights of a column add up to?",
        lower.max() <= zero
        and "It does not find lower edges, bright above dark. A kernel lies on the image as you "
        "write it: its first row on the upper pixels.",
        upper.max() > zero
        and "It responds to lower and to upper edges, in neighbouring places: it finds thin "
        "stripes. Where is it bright, and where dark?",
    )
    return "Upper edges get negative numbers, which the ReLU after it turns into zeros."


FAR = torch.tensor([[1000.0, 0.0, -1000.0], [-1000.0, -2000.0, -900.0]])
TOO_FAR = (
    "The function is right for small logits, but not for logits like 1,000 and −1,000: exp(1000) "
    "is infinite in float32, and exp(−1000) is 0, whose logarithm is infinite. Subtracting the "
    "same number from all logits of an image does not change its probabilities, and what becomes "
    "of the logarithm of a fraction?"
)

GOOD, BAD = -math.log(0.9), -math.log(0.01)
MISTAKES = {
    BAD / GOOD: "That many good answers weigh as much as one mistake. Here there are a hundred.",
    GOOD / BAD: "That is for one good answer. Here there are a hundred.",
}


@exercise("2.3")
def cross_entropy(cross_entropy, mistakes):
    """Check a function for the loss, with logits of all sizes, and what one mistake weighs."""
    generator = torch.Generator().manual_seed(0)
    for n, classes in ((64, 10), (7, 3), (1, 10)):
        logits = 3 * torch.randn(n, classes, generator=generator)
        labels = torch.randint(classes, (n,), generator=generator)
        right = functional.cross_entropy(logits, labels)
        twice = functional.cross_entropy(logits.softmax(dim=1), labels)
        expect(
            number(call(cross_entropy, logits, labels), "the loss"),
            right,
            {
                -right: "The sign is wrong: the logarithm of a probability is never positive.",
                right * n: "This is the sum over the images. Return their mean.",
                twice: "You take the softmax twice.",
            },
            "The loss is off. For each image, take the softmax of its row, the probability at its "
            "label, and minus the logarithm of that. Then take the mean over the images.",
            rtol=1e-4,
        )
    for pair in ((0, 2), (1, 0)):
        labels = torch.tensor(pair)
        try:
            loss = number(call(cross_entropy, FAR, labels))
        except Nudge:
            raise Nudge(TOO_FAR) from None
        expect(loss, functional.cross_entropy(FAR, labels), {}, TOO_FAR, atol=0.01)
    expect(
        number(mistakes, "the number of mistakes"),
        100 * GOOD / BAD,
        MISTAKES,
        "The function is right, the number of mistakes is not: what is the cross-entropy of a "
        "hundred good answers together, and what is that of one mistake? Do not round the result.",
        rtol=0.01,
    )
    return (
        "A few confident mistakes can outweigh a hundred good answers, so the loss may rise while "
        "the accuracy rises as well."
    )


@exercise("2.4")
def small_network(small_network, data):
    """Check a network by what it does: its size, its logits, and that it can learn."""
    images, labels = data.train.images[:64], data.train.labels[:64]
    alone = run_model(small_network, images[:1], (1, 10))
    logits, again = (run_model(small_network, images, (64, 10)) for _ in range(2))
    count = count_parameters(small_network)
    refuse(
        count >= 100_000
        and f"It has {count:,} parameters. layer_table shows where: which layer could read less?",
        logits.min() >= 0
        and logits.any()  # a last layer may begin with zeros
        and "None of its logits is negative. Is there a softmax, a ReLU or a sigmoid after the "
        "last layer? Leave it out: cross_entropy takes logits.",
        (logits.exp().sum(dim=1) - 1).abs().max() < 1e-3
        and "It returns logarithms of probabilities: there is a log-softmax at the end. Leave it "
        "out: the course's networks return logits.",
        not torch.allclose(again, logits, atol=1e-3)
        and "In evaluation mode, it gives two answers to the same images. Is there a "
        "functional.dropout without training=self.training?",
        not torch.allclose(alone, logits[:1], atol=1e-3)
        and "In evaluation mode, its answer to an image depends on the other images of the batch. "
        "Does a layer reshape, normalise or add up along the first dimension?",
    )
    _check_learning(small_network, images, labels)
    return "It has the right form, and it learns. A full training run will show how good it gets."


def _check_learning(model, images, labels):
    """Check that a copy of the network learns 64 images, and normalises what it convolves."""
    student = copy.deepcopy(model).cpu().train()
    with torch.random.fork_rng(), torch.enable_grad():
        losses = _learn(student, images, labels)
    layers = list(student.modules())
    maps = sum(layer.out_channels for layer in layers if isinstance(layer, nn.Conv2d))
    normalised = sum(
        layer.num_features
        for layer in layers
        if isinstance(layer, nn.BatchNorm2d) and layer.num_batches_tracked  # which forward uses
    )
    refuse(
        not losses[-1] < max(0.9 * losses[0], 0.2)  # nor does NaN fall
        and "It does not learn: after 40 steps on 64 images, their loss has hardly fallen. Is "
        "there a ReLU between every two layers, and none at the end?",
        maps == 0 and "It has no convolution.",
        normalised < maps
        and "Not every convolution has batch normalisation after it: the convolutions write "
        f"{maps} maps, and {normalised} are normalised.",
    )


def _learn(model, images, labels):
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        logits = call(model, images, name="the network in training mode")
        loss = functional.cross_entropy(logits, labels)
        refuse(
            not loss.requires_grad
            and "No gradient gets through: is there a detach, .data or no_grad in its forward?"
        )
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@exercise("2.5")
def sorted_or_mixed(sorted_accuracy, mixed_accuracy):
    """Check two accuracies, after training on sorted and on mixed images."""
    in_order = number(sorted_accuracy, "your sorted_accuracy")
    mixed = number(mixed_accuracy, "your mixed_accuracy")
    low, high = sorted((in_order, mixed))
    refuse(
        0.3 < high <= 1
        and low >= 0.7 * high
        and "Both learned alike. TrainConfig shuffles by default, and part[order] has the images "
        "and the labels in the new order. Are these accuracies on the validation images?",
        in_order > mixed and "The sorted images did better? See that you have not swapped the two.",
        not (0 <= in_order < 0.35 and 0.3 < mixed <= 1)
        and "One epoch of 5,000 mixed images is enough to get most images right, and one of sorted "
        "images is not. Are both accuracies shares of the validation images, each of a new "
        "network, with the learning rate and the batch size of the exercise, and is one part in "
        "the order of labels.argsort()?",
    )
    return "A tenth is what guessing gives: from sorted images, it has learned next to nothing."
