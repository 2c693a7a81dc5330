"""The checks of chapter 2: right answers however found, and words for likely mistakes."""

import math

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


@pytest.mark.parametrize(
    ("answer", "nudge"),
    [
        (count_parameters(ConvNet()), "without the padding"),
        (416 * 256, "That many are added"),
        (1568 * 256, "Follow an image"),
        (440_650 - 442, "have its bias"),
    ],
)
def test_the_number_of_parameters_is_not(answer, nudge):
    assert_nudged("2.1", answer, nudge=nudge, secrets=(440650, 106496, 1568))


LOWER = [[1, 1, 1], [0, 0, 0], [-1, -1, -1]]
SOBEL = [[1, 2, 1], [0, 0, 0], [-1, -2, -1]]


@pytest.mark.parametrize(
    "kernel",
    [
        LOWER,
        torch.tensor(LOWER).float()[None, None] / 1000,
        nn.Parameter(torch.tensor(SOBEL).float()),
        [[0, 1, 0], [0, 0, 0], [0, -1, 0]],
    ],
)
def test_a_kernel_that_finds_lower_edges(kernel):
    assert check("2.2", kernel)


@pytest.mark.parametrize(
    ("kernel", "nudge"),
    [
        (LOWER[::-1], "does not find lower edges"),
        (np.array(LOWER).T, "up and down. What"),
        ([[1, 1, 1], [1, 1, 1], [-1, -1, -1]], "On an even area"),
        ([[1] * 3, [-2] * 3, [1] * 3], "thin stripes"),
        (np.zeros((3, 3)), "does not find lower edges"),
        ([1, 1, 1, 0, 0, 0, -1, -1, -1], "three rows of three"),
        ([[1, 1], [0, 0, 0]], "rows of equal length"),
    ],
)
def test_a_kernel_that_does_not(kernel, nudge):
    assert_nudged("2.2", kernel, nudge=nudge)


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


@pytest.mark.parametrize("function", [by_pytorch, by_numpy, by_one_hot])
@pytest.mark.parametrize("mistakes", [MISTAKES, 2.29])
def test_cross_entropy(function, mistakes):
    assert check("2.3", function, mistakes)


def of_label(logits, labels):
    return logits[torch.arange(len(labels)), labels]


def naive(logits, labels):
    return -(of_label(logits.exp(), labels) / logits.exp().sum(dim=1)).log().mean()


def less_the_largest_of_all(logits, labels):
    shifted = logits - logits.max()
    return (shifted.exp().sum(dim=1).log() - of_label(shifted, labels)).mean()


@pytest.mark.parametrize(
    ("function", "nudge"),
    [
        (lambda z, y: -by_pytorch(z, y), "sign"),
        (lambda z, y: functional.cross_entropy(z, y, reduction="sum"), "sum over the images"),
        (lambda z, y: functional.cross_entropy(z, y, reduction="none"), "shape (64,)"),
        (lambda z, y: by_pytorch(z.softmax(1), y), "twice"),
        (lambda z, y: -of_label(z.log_softmax(0), y).mean(), "The loss is off"),
        (lambda z, y: by_pytorch(z, y) / math.log(2), "The loss is off"),
        (naive, "exp(1000) is infinite"),
        (lambda z, y: -of_label(z.softmax(1).log(), y).mean(), "logarithm of a fraction"),
        (less_the_largest_of_all, "logarithm of a fraction"),
        (lambda z, y: -(of_label(z.softmax(1), y) + 1e-9).log().mean(), "logarithm of a fraction"),
    ],
)
def test_cross_entropy_is_not(function, nudge):
    assert_nudged("2.3", function, MISTAKES, nudge=nudge)


@pytest.mark.parametrize(
    ("mistakes", "nudge"),
    [
        (math.log(0.01) / math.log(0.9), "Here there are a hundred"),
        (MISTAKES / 100, "one good answer"),
        (2, "Do not round"),
        (-MISTAKES, "is not: what is"),
    ],
)
def test_what_mistakes_weigh_is_checked_too(mistakes, nudge):
    assert_nudged("2.3", by_pytorch, mistakes, nudge=nudge, secrets=(2.28, 2.29))


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
    network.inner, network.unused = stack(16, norm=plain), nn.BatchNorm2d(16)
    return network


def plain(channels):
    return nn.Identity()


def grouped(channels):
    return nn.GroupNorm(1, channels)


def without_memory(channels):
    return nn.BatchNorm2d(channels, track_running_stats=False)


@pytest.mark.parametrize(
    ("make", "nudge"),
    [
        (lambda: build_model("cnn"), "parameters. layer_table"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), "no convolution"),
        (lambda: stack(16, end=[nn.LogSoftmax(dim=1)]), "log-softmax at the end"),
        (lambda: stack(16, end=[nn.ReLU()]), "None of its logits is negative"),
        (lambda: stack(16, norm=grouped), "16 maps, and 0 are normalised"),
        (normalised_in_vain, "16 maps, and 0 are normalised"),
        (all_zeros, "It does not learn: after 40 steps"),
        (one_of_two_normalised, "write 24 maps, and 8 are normalised"),
        (Forgetful, "gives two answers to the same images"),
        (lambda: stack(16, norm=without_memory), "depends on the other images"),
        (lambda: Wrapped(torch.Tensor.detach), "No gradient gets through"),
        (lambda: Wrapped(lambda logits: logits[:, :9]), "should have shape (1, 10)"),
        (lambda: stack(16).requires_grad_(False), "No gradient gets through"),
        (lambda: Written, "create one, with parentheses"),
    ],
)
def test_a_small_network_is_not(make, nudge, sample):
    assert_nudged("2.4", make(), sample, nudge=nudge)


@pytest.mark.parametrize("answers", [(0.1, 0.75), (0.16, 0.5), (0.0, 0.9)])
def test_sorted_images_teach_nothing(answers):
    assert check("2.5", *answers)


@pytest.mark.parametrize(
    ("answers", "nudge"),
    [
        ((0.75, 0.76), "TrainConfig shuffles by default"),
        ((0.774, 0.712), "Are these accuracies on the validation images?"),
        ((0.75, 0.1), "have not swapped the two"),
        ((0.1, 0.12), "One epoch of 5,000"),
        ((0.5, 0.8), "One epoch of 5,000"),
    ],
)
def test_accuracies_that_cannot_be_theirs(answers, nudge):
    assert_nudged("2.5", *answers, nudge=nudge)
