"""What an exercise asks of a student's network: its layers, its logits, and that it can learn."""

import copy
from functools import partial

import torch
from torch import nn
from torch.nn import functional

from fmnist_lib.course.exercises.answers import call, require
from fmnist_lib.inspection import count_parameters


def require_layers(model):
    """Require fewer than 100,000 parameters, convolutions, and a normalisation behind each."""
    count = count_parameters(model)
    require(count > 0, "The network has no parameters that training may change.")
    require(
        count < 100_000,
        f"It has {count:,} parameters. layer_table says where they sit: which layer could read "
        "less?",
    )
    require(
        any(p.ndim == 4 for p in model.parameters()),
        "There is no convolution in it. Its weights would have four dimensions.",
    )
    layers = list(model.modules())
    maps = sum(layer.out_channels for layer in layers if isinstance(layer, nn.Conv2d))
    normalised = sum(layer.num_features for layer in layers if isinstance(layer, nn.BatchNorm2d))
    # One that a student wrote is no nn.BatchNorm; what it does is seen in training.
    require(
        normalised >= maps
        or not any(isinstance(x, nn.BatchNorm1d | nn.BatchNorm2d) for x in layers),
        "Not every convolution has batch normalisation behind it: the convolutions write "
        f"{maps} maps, and {normalised} are normalised.",
    )


def require_logits(logits):
    """Require numbers of both signs, that are neither probabilities nor their logarithms."""
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
        logits.min() < 0 or not logits.any(),  # a last layer may begin with zeros
        "None of its logits is negative. Is there a ReLU or a sigmoid behind the last layer? It "
        "takes half of the answers away.",
    )


def require_learning(model, images, labels):
    """Require that a copy of the network takes means over the batch, and learns 64 images."""
    student = copy.deepcopy(model).cpu().train()
    ask = partial(call, student, name="the network in training mode")
    with torch.random.fork_rng(), torch.enable_grad():
        heeds_the_batch = _heeds_the_batch(ask, images)
        losses = _learn(ask, student.parameters(), images, labels)
        # Asked again: a last layer that begins with zeros gives all images the same logits.
        heeds_the_batch = heeds_the_batch or _heeds_the_batch(ask, images)
    require(
        losses[-1] < max(0.9 * losses[0], 0.2),
        "It does not learn: after 40 steps on 64 images, their loss has hardly fallen. Is there a "
        "ReLU between each two layers, and none at the end?",
    )
    require(
        heeds_the_batch,
        "In training mode, its answer to an image is the same whatever else is in the batch. So "
        "there is no batch normalisation at work, which takes its means over the batch.",
    )


def _learn(ask, parameters, images, labels):
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = functional.cross_entropy(ask(images), labels)
        require(
            loss.requires_grad,
            "No gradient comes through: is there a detach, .data or no_grad in its forward?",
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
