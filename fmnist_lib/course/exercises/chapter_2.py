"""Checks of chapter 2, a convolutional network."""

import copy
import math
from functools import partial

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
    BEFORE + (14 * 14 - 6 * 6) * 32 * 256: "The classifier reads maps after the second pooling.",
}


@exercise("2.1")
def parameters(parameters):
    """Check the number of parameters with padding 1 in the second convolution."""
    expect(
        number(parameters, "the number of parameters", whole=True),
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
    weights = read_array(kernel, "the kernel")
    refuse(
        weights.shape not in {(3, 3), (1, 3, 3), (1, 1, 3, 3)}
        and "A kernel is three rows of three weights.",
        not weights.any() and "A kernel of zeros finds nothing.",
    )
    weights = torch.tensor(weights / abs(weights).max()).double().reshape(1, 1, 3, 3)
    above = (torch.arange(8) < 4).double()[:, None].expand(8, 8)  # bright above, dark below
    even, sides, lower, upper = (
        functional.conv2d(image[None, None], weights)
        for image in (torch.ones_like(above), above.T, above, 1 - above)
    )
    zero = 1e-6
    refuse(
        even.abs().max() > zero
        and "On an even area, equally bright everywhere, its result is not 0. What must the nine "
        "weights add up to?",
        sides.abs().max() > zero
        and "It responds to edges that run up and down. What do the weights of a column add up to?",
        lower.abs().max() < zero
        and "It gives 0 on every lower and upper edge. What do the weights of a row add up to?",
        lower.max() < zero
        and "It finds upper edges, dark above bright. A kernel lies on the image as you write it: "
        "its first row on the upper pixels.",
        upper.max() > zero
        and "It responds to lower and to upper edges, in neighbouring places: it finds thin "
        "stripes. Where is it bright, and where dark?",
    )
    return "Upper edges get negative numbers, which the ReLU after it turns into zeros."


def _wrong_losses(logits, labels):
    right = functional.cross_entropy(logits, labels)
    n, k = logits.shape
    rows, probabilities = torch.arange(n), logits.softmax(dim=1)
    of_labels = probabilities[rows, labels]
    down = functional.nll_loss(logits.log_softmax(dim=0), labels)
    return {
        -right: "The sign is wrong: the logarithm of a probability is never positive.",
        right * n: "This is the sum over the images. Return their mean.",
        right / k: "You divide by the number of all logits: divide by that of images.",
        of_labels.mean(): "This is the mean probability: the logarithm is missing.",
        -of_labels.mean().log(): "Take the logarithm for each image first, and then the mean.",
        functional.cross_entropy(probabilities, labels): "You take the softmax twice.",
        down: "Your softmax runs down the columns, but an image's logits are a row.",
        -probabilities.log()[:, labels].mean(): "x[:, labels] takes all labels from each row. "
        "You need one from each row: index with the numbers of the rows as well.",
        -logits[rows, labels].mean(): "This is minus a mean of logits: softmax is missing.",
    }


FAR = torch.tensor([[1000.0, 0.0, -1000.0], [-1000.0, -2000.0, -900.0]])
TOO_FAR = {
    (0, 2): "The function is right for small logits. For logits like 1,000 and −1,000 it gives "
    "infinity or NaN, or stops, because exp(1000) is infinite in float32 and exp(−1000) is 0. "
    "Subtracting the same number from all logits of an image does not change its probabilities: "
    "which number keeps exp in bounds?",
    (1, 0): "The function is right for small logits, and for large ones if the right class is the "
    "likely one. Otherwise its probability is rounded to 0, and ln 0 is infinite. What becomes of "
    "the logarithm of a fraction, so that nothing is rounded to 0 first?",
}

GOOD, BAD = -math.log(0.9), -math.log(0.01)
ROUNDED = "Give the number of mistakes as it comes out, not rounded."
MISTAKES = {
    BAD / GOOD: "So many good answers weigh as much as one mistake. Here are a hundred.",
    GOOD / BAD: "That is for one good answer. Here are a hundred.",
    100 * 0.1 / 0.99: "Compare cross-entropies, not how far the probabilities are from 1.",
    100 * 0.9 / 0.01: "Compare cross-entropies, not their probabilities.",
    2: ROUNDED,
    3: ROUNDED,
}


@exercise("2.3")
def cross_entropy(cross_entropy, mistakes):
    """Check a function for the loss, with logits of all sizes, and what one mistake weighs."""
    generator = torch.Generator().manual_seed(0)
    for n, classes in ((64, 10), (7, 3), (1, 10)):
        logits = 3 * torch.randn(n, classes, generator=generator)
        labels = torch.randint(classes, (n,), generator=generator)
        expect(
            _loss(cross_entropy, logits, labels),
            functional.cross_entropy(logits, labels),
            _wrong_losses(logits, labels),
            "The loss is off. For each image, take the softmax of its row, the probability at its "
            "label, and minus the logarithm of that. Then take the mean over the images.",
            rtol=1e-4,
        )
    for pair, words in TOO_FAR.items():
        labels = torch.tensor(pair)
        try:
            loss = _loss(cross_entropy, FAR, labels)
        except Nudge:
            raise Nudge(words) from None
        wrong = (
            "The function is right for small logits, but not for logits like 1,000 and −1,000. Is "
            "a probability rounded to 0 or 1, or kept away from it, before its logarithm?"
        )
        expect(loss, functional.cross_entropy(FAR, labels), {}, wrong, atol=0.01)
    expect(
        number(mistakes, "the number of mistakes"),
        100 * GOOD / BAD,
        [(wrong, f"The function is right. {words}") for wrong, words in MISTAKES.items()],
        "The function is right, the number of mistakes is not: what is the cross-entropy of a "
        "hundred good answers together, and what is that of one mistake?",
        rtol=0.01,
    )
    return (
        "A few confident mistakes can outweigh a hundred good answers, so the loss may rise while "
        "the accuracy rises as well."
    )


def _loss(function, logits, labels):
    given = call(function, logits, labels)
    per_image = len(labels) > 1 and getattr(given, "shape", ()) == labels.shape
    refuse(per_image and "Your function returns a loss for each image. Return their mean.")
    return number(given, "the loss")


@exercise("2.4")
def small_network(small_network, data):
    """Check a network by what it does: its size, its logits, and that it can learn."""
    images, labels = data.train.images[:64], data.train.labels[:64]
    alone = run_model(small_network, images[:1])
    logits, again = (run_model(small_network, images) for _ in range(2))
    _check_layers(small_network)
    _check_logits(logits)
    refuse(
        not torch.allclose(again, logits, atol=1e-3)
        and "In evaluation mode, it gives two answers to the same images. Is there a "
        "functional.dropout without training=self.training?",
        not torch.allclose(alone, logits[:1], atol=1e-3)
        and "In evaluation mode, its answer to an image depends on the other images of the batch. "
        "Does a layer reshape, normalise or add up along the first dimension?",
    )
    _check_learning(small_network, images, labels)
    return "It has the right form, and it learns. A full training run will show how good it gets."


def _check_layers(model):
    """Check for fewer than 100,000 parameters, convolutions, and a normalisation after each."""
    count, layers = count_parameters(model), list(model.modules())
    maps = sum(layer.out_channels for layer in layers if isinstance(layer, nn.Conv2d))
    normalised = sum(layer.num_features for layer in layers if isinstance(layer, nn.BatchNorm2d))
    # A normalisation that a student wrote is not an nn.BatchNorm: training shows what it does.
    known = any(isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) for layer in layers)
    refuse(
        count == 0 and "The network has no parameters that training may change.",
        count >= 100_000
        and f"It has {count:,} parameters. layer_table shows where: which layer could read less?",
        not any(p.ndim == 4 for p in model.parameters())
        and "It has no convolution. The weights of one would have four dimensions.",
        known
        and normalised < maps
        and "Not every convolution has batch normalisation after it: the convolutions write "
        f"{maps} maps, and {normalised} are normalised.",
    )


def _check_logits(logits):
    """Check for numbers of both signs, neither probabilities nor their logarithms."""
    positive = logits.min() >= 0
    refuse(
        positive
        and (logits.sum(dim=1) - 1).abs().max() < 1e-3
        and "Each row of its results adds up to 1: there is a softmax at the end. Leave it out: "
        "cross_entropy takes it itself.",
        (logits.exp().sum(dim=1) - 1).abs().max() < 1e-3
        and "It returns logarithms of probabilities: there is a log-softmax at the end. Leave it "
        "out: the course's networks return logits.",
        positive
        and logits.any()  # a last layer may begin with zeros
        and "None of its logits is negative. Is there a ReLU or a sigmoid after the last layer? It "
        "takes half of the answers away.",
    )


def _check_learning(model, images, labels):
    """Check that a copy of the network takes means over the batch, and learns 64 images."""
    student = copy.deepcopy(model).cpu().train()
    ask = partial(call, student, name="the network in training mode")
    with torch.random.fork_rng(), torch.enable_grad():
        heeds_the_batch = _heeds_the_batch(ask, images)
        losses = _learn(ask, student.parameters(), images, labels)
        # Asked again: a last layer that begins with zeros gives all images the same logits.
        heeds_the_batch = heeds_the_batch or _heeds_the_batch(ask, images)
    refuse(
        not losses[-1] < max(0.9 * losses[0], 0.2)  # nor does NaN fall
        and "It does not learn: after 40 steps on 64 images, their loss has hardly fallen. Is "
        "there a ReLU between every two layers, and none at the end?",
        not heeds_the_batch
        and "In training mode, its answer to an image is the same whatever else is in the batch: "
        "no batch normalisation is at work, which takes its means over the batch.",
    )


def _learn(ask, parameters, images, labels):
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = functional.cross_entropy(ask(images), labels)
        refuse(
            not loss.requires_grad
            and "No gradient gets through: is there a detach, .data or no_grad in its forward?"
        )
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def _heeds_the_batch(ask, images):
    answers = []
    for company in (images[1:32], images[32:63]):
        torch.manual_seed(0)  # for the same dropout
        answers.append(ask(torch.cat([images[:1], company]))[0])
    return not torch.allclose(*answers, atol=1e-4)


@exercise("2.5")
def sorted_or_mixed(sorted_accuracy, mixed_accuracy):
    """Check two accuracies, after training on sorted and on mixed images."""
    in_order = number(sorted_accuracy, "your sorted_accuracy")
    mixed = number(mixed_accuracy, "your mixed_accuracy")
    low, high = sorted((in_order, mixed))
    refuse(
        low < 0 and "An accuracy is never negative.",
        high > 1 and "Give an accuracy as a share, between 0 and 1.",
        high <= 0.3
        and "Neither has learned much. One epoch of 5,000 mixed images is enough to get most "
        "images right: use the learning rate and the batch size of the exercise.",
        low >= 0.7 * high
        and "Both learned alike. TrainConfig shuffles by default, and part[order] has the images "
        "and the labels in the new order. Are these accuracies on the validation images?",
        in_order > mixed and "The sorted images did better? See that you have not swapped the two.",
        in_order >= 0.35
        and "The sorted images did too well. Are they in the order of labels.argsort(), was the "
        "network a new one, and is this the accuracy on validation images?",
    )
    return "A tenth is what guessing gives: from sorted images, it has learned next to nothing."
