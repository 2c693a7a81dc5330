"""The checks of chapter 2: right answers however found, and words for likely mistakes."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from nudges import assert_nudged
from torch import nn
from torch.nn import functional

from fmnist_lib.course.exercises import check
from fmnist_lib.inspection import count_parameters
from fmnist_lib.models import ConvNet, build_model


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_the_number_of_parameters_is_that_of_the_network_built():
    model = ConvNet()
    model.features[3] = nn.Conv2d(16, 32, kernel_size=3, padding=1)
    model.classifier[1] = nn.Linear(32 * 7 * 7, 256)
    model(torch.zeros(1, 1, 28, 28))  # the layers fit together
    assert check("2.1", count_parameters(model))


LOWER = [[1, 1, 1], [0, 0, 0], [-1, -1, -1]]
SOBEL = [[1, 2, 1], [0, 0, 0], [-1, -2, -1]]


MISTAKES = 100 * math.log(0.9) / math.log(0.01)


def by_pytorch(logits, labels):
    return functional.cross_entropy(logits, labels)


def by_numpy(logits, labels):
    from scipy.special import log_softmax

    return -log_softmax(logits.double().numpy(), axis=1)[np.arange(len(labels)), labels].mean()


def by_one_hot(logits, labels):
    logits -= logits.amax(dim=1, keepdim=True)  # in place: the check gives a copy
    table = functional.one_hot(labels, logits.shape[1])
    return (logits.exp().sum(dim=1).log() - (logits * table).sum(dim=1)).mean(dim=0, keepdim=True)


@pytest.mark.parametrize(
    ("number", "answers"),
    [
        ("2.2", [torch.tensor(LOWER).float()[None, None] / 1000]),
        ("2.2", [nn.Parameter(torch.tensor(SOBEL).float())]),
        ("2.2", [[[0, 1, 0], [0, 0, 0], [0, -1, 0]]]),
        ("2.3", [by_pytorch, MISTAKES]),
        ("2.3", [by_numpy, 2.29]),
        ("2.3", [by_one_hot, MISTAKES]),
        ("2.5", [0.1, 0.75]),
        ("2.5", [0.16, 0.5]),
        ("2.5", [0.0, 0.9]),
    ],
)
def test_right_answers_however_found(number, answers):
    assert check(number, *answers)


def of_label(logits, labels):
    return logits[torch.arange(len(labels)), labels]


def naive(logits, labels):
    return -(of_label(logits.exp(), labels) / logits.exp().sum(dim=1)).log().mean()


def never_zero(logits, labels):
    return -(of_label(logits.softmax(dim=1), labels) + 1e-9).log().mean()


def less_the_largest_of_all(logits, labels):
    shifted = logits - logits.max()
    return (shifted.exp().sum(dim=1).log() - of_label(shifted, labels)).mean()


@pytest.mark.parametrize(
    ("number", "answers", "nudge"),
    [
        ("2.1", [count_parameters(ConvNet())], "without the padding"),
        ("2.1", [416 * 256], "That many are added"),
        ("2.1", [440_650 - 442], "have its bias"),
        ("2.2", [LOWER[::-1]], "does not find lower edges"),
        ("2.2", [np.array(LOWER).T], "up and down. What"),
        ("2.2", [[[1, 1, 1], [1, 1, 1], [-1, -1, -1]]], "On an even area"),
        ("2.2", [[[1] * 3, [-2] * 3, [1] * 3]], "thin stripes"),
        ("2.2", [np.zeros((3, 3))], "does not find lower edges"),
        ("2.2", [[1, 1, 1, 0, 0, 0, -1, -1, -1]], "three rows of three"),
        ("2.3", [lambda z, y: -by_pytorch(z, y), MISTAKES], "sign"),
        ("2.3", [lambda z, y: len(y) * by_pytorch(z, y), MISTAKES], "sum over the images"),
        ("2.3", [lambda z, y: by_pytorch(z.softmax(1), y), MISTAKES], "twice"),
        ("2.3", [lambda z, y: by_pytorch(z, y) / math.log(2), MISTAKES], "The loss is off"),
        ("2.3", [naive, MISTAKES], "exp(1000) is infinite"),
        ("2.3", [less_the_largest_of_all, MISTAKES], "logarithm of a fraction"),
        ("2.3", [never_zero, MISTAKES], "logarithm of a fraction"),
        ("2.3", [by_pytorch, math.log(0.01) / math.log(0.9)], "Here there are a hundred"),
        ("2.3", [by_pytorch, MISTAKES / 100], "one good answer"),
        ("2.3", [by_pytorch, 2], "Do not round"),
        ("2.5", [0.774, 0.712], "Are these accuracies on the validation images?"),
        ("2.5", [0.75, 0.1], "have not swapped the two"),
        ("2.5", [0.1, 0.12], "One epoch of 5,000"),
        ("2.5", [0.5, 0.8], "One epoch of 5,000"),
    ],
)
def test_wrong_turns_get_words(number, answers, nudge):
    assert_nudged(number, *answers, nudge=nudge)


def stack(*channels, norm=nn.BatchNorm2d, end=()):
    blocks = [
        layer
        for a, b in zip((1, *channels), channels, strict=False)
        for layer in (nn.Conv2d(a, b, 3, padding=1), norm(b), nn.ReLU(), nn.MaxPool2d(2))
    ]
    side = 28 >> len(channels)
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(channels[-1] * side**2, 10), *end)


class Written(nn.Module):
    """A network as a class, with dropout, a residual connection and a mean over places."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, stride=2)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(16), nn.BatchNorm2d(16)])
        self.last = nn.Linear(16, 10)

    def forward(self, images):
        maps = self.norms[0](self.first(images)).relu()
        maps = maps + self.norms[1](self.second(maps)).relu()
        maps = functional.dropout(maps, 0.2, training=self.training)
        return self.last(maps.mean(dim=(2, 3)))


def slow_learner(*channels):
    """A mean over all places leaves so little that the loss falls slowly."""
    features = stack(*channels)[:-2]
    return nn.Sequential(
        *features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], 10)
    )


def zero_at_the_end(network):
    nn.init.zeros_(network[-1].weight)
    nn.init.zeros_(network[-1].bias)
    return network


@pytest.mark.parametrize(
    "make",
    [
        lambda: stack(16, 32),
        Written,
        lambda: slow_learner(4, 8),
        lambda: zero_at_the_end(stack(8, 16)),
    ],
)
def test_a_small_network(make, sample):
    network, state = make(), torch.get_rng_state()
    mode, before = network.training, {k: v.clone() for k, v in network.state_dict().items()}
    assert check("2.4", network, sample)
    assert network.training == mode
    assert all(v.equal(before[k]) for k, v in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
    assert torch.get_rng_state().equal(state)


def test_a_network_may_be_trained_already(sample):
    network, some = stack(16), sample.train[:64]
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        functional.cross_entropy(network(some.images), some.labels).backward()
        optimizer.step()
    assert check("2.4", network, sample)


class Wrapped(nn.Module):
    """A good network with something done to its answer."""

    def __init__(self, change):
        super().__init__()
        self.inner = stack(16)
        self.change = change

    def forward(self, images):
        return self.change(self.inner(images))


class Forgetful(Written):
    """A network whose dropout goes on in evaluation mode."""

    def forward(self, images):
        return functional.dropout(super().forward(images), 0.2)


def all_zeros():
    network = stack(16)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    return network


def one_of_two_normalised():
    network = stack(8, 16)
    network[5] = nn.Identity()
    return network


def normalised_in_vain():
    network = Wrapped(lambda logits: logits)
    network.inner, network.unused = stack(16, norm=nn.Identity), nn.BatchNorm2d(16)
    return network


@pytest.mark.parametrize(
    ("make", "nudge"),
    [
        (lambda: build_model("cnn"), "parameters. layer_table"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), "no convolution"),
        (lambda: stack(16, end=[nn.LogSoftmax(dim=1)]), "log-softmax at the end"),
        (lambda: stack(16, end=[nn.ReLU()]), "None of its logits is negative"),
        (normalised_in_vain, "16 maps, and 0 are normalised"),
        (all_zeros, "It does not learn: after 40 steps"),
        (one_of_two_normalised, "write 24 maps, and 8 are normalised"),
        (Forgetful, "gives two answers to the same images"),
        (
            lambda: stack(16, norm=partial(nn.BatchNorm2d, track_running_stats=False)),
            "depends on the other images",
        ),
        (lambda: Wrapped(torch.Tensor.detach), "No gradient gets through"),
    ],
)
def test_a_small_network_is_not(make, nudge, sample):
    assert_nudged("2.4", make(), sample, nudge=nudge)
