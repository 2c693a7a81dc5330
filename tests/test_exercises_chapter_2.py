"""The checks of chapter 2: right answers in every form, wrong turns, and kind words for them."""

import math
import sys

import numpy as np
import pytest
import torch
from nudges import HUGE, assert_nudged
from torch import nn
from torch.nn import functional

from fmnist_lib.course.exercises import check
from fmnist_lib.inspection import count_parameters
from fmnist_lib.models import ConvNet, build_model

# 2.1: parameters with padding 1 in the second convolution.


def padded_network():
    model = ConvNet()
    model.features[3] = nn.Conv2d(16, 32, kernel_size=3, padding=1)
    model.classifier[1] = nn.Linear(32 * 7 * 7, 256)
    model(torch.zeros(1, 1, 28, 28))  # the layers fit together
    return model


def test_the_number_of_parameters_is_that_of_the_network_built():
    count = count_parameters(padded_network())
    for answer in (count, float(count), torch.tensor(count), np.array([count])):
        assert check("2.1", answer)


@pytest.mark.parametrize(
    ("answer", "nudge"),
    [
        (count_parameters(ConvNet()), "without the padding"),
        (416 * 256, "on top"),
        (334_154 + (32 * 14 * 14 - 1152) * 256, "after the second pooling"),
        (1568 * 256, "Follow an image"),
        (440_650.5, "whole number"),
        (-1, "Follow an image"),
        (440_650 - 442, "Has every output its bias"),
        (440_650 - 32 * 15 * 9, "does each kernel read all 16 maps"),
        (1569 * 256, "are all layers counted"),
        (math.nan, "NaN"),
        ("440,650", "text"),
        (HUGE, "far more"),
        (None, "(parameters) is None"),
    ],
)
def test_the_number_of_parameters_is_not(answer, nudge):
    assert_nudged(check("2.1", answer), nudge, "440", "106,496", "1,568")


# 2.2: a kernel that finds lower edges.

LOWER = [[1, 1, 1], [0, 0, 0], [-1, -1, -1]]
SOBEL = [[1, 2, 1], [0, 0, 0], [-1, -2, -1]]


@pytest.mark.parametrize(
    "kernel",
    [
        LOWER,
        SOBEL,
        np.array(LOWER, dtype=np.int8),
        torch.tensor(LOWER).float()[None, None] / 1000,
        nn.Parameter(torch.tensor(SOBEL).float()),
        [[0, 1, 0], [0, 0, 0], [0, -1, 0]],
        [[1, 0, 0], [0, 1, 1], [-1, -1, -1]],
        [torch.tensor([2.0, 2.0, 2.0]), torch.full((3,), -1.0), torch.full((3,), -1.0)],
    ],
)
def test_a_kernel_that_finds_lower_edges(kernel):
    assert check("2.2", kernel)


@pytest.mark.parametrize(
    ("kernel", "nudge"),
    [
        ([row[:] for row in LOWER[::-1]], "upper edges, dark above bright"),
        (np.array(LOWER).T, "up and down. What"),
        ([[1, 1, 1], [1, 1, 1], [-1, -1, -1]], "On an even area"),
        ([[1, 1, 1], [-1, -1, -1], [-1, -1, -1]], "On an even area"),
        ([[-1] * 3, [2] * 3, [-1] * 3], "thin stripes"),
        ([[1] * 3, [-2] * 3, [1] * 3], "thin stripes"),
        ([[1, 0, -1], [0, 0, 0], [-1, 0, 1]], "0 to every edge of this kind"),
        ([[1, -1, 0], [0, 0, 0], [-1, 1, 0]], "0 to every edge of this kind"),
        (np.zeros((3, 3)), "finds nothing"),
        ([1, 1, 1, 0, 0, 0, -1, -1, -1], "three rows of three"),
        (np.zeros((5, 5)), "three rows of three"),
        ([[1, 1], [0, 0, 0]], "different lengths"),
        (np.full((3, 3), np.nan), "NaN"),
        (nn.Conv2d(1, 1, 3), "Conv2d"),
        (HUGE, "far more"),
    ],
)
def test_a_kernel_that_does_not(kernel, nudge):
    assert_nudged(check("2.2", kernel), nudge)


# 2.3: cross-entropy, and what mistakes weigh.

MISTAKES = 100 * math.log(0.9) / math.log(0.01)


def by_pytorch(logits, labels):
    return functional.cross_entropy(logits, labels)


def by_numpy(logits, labels):
    from scipy.special import log_softmax

    return -log_softmax(logits.double().numpy(), axis=1)[np.arange(len(labels)), labels].mean()


def by_loop(logits, labels):
    losses = [row.logsumexp(0) - row[label] for row, label in zip(logits, labels, strict=True)]
    return (sum(losses) / len(losses)).item()


def by_one_hot(logits, labels):
    logits -= logits.amax(dim=1, keepdim=True)  # in place: the check gives a copy
    table = functional.one_hot(labels, logits.shape[1])
    return (logits.exp().sum(dim=1).log() - (logits * table).sum(dim=1)).mean(dim=0, keepdim=True)


@pytest.mark.parametrize("function", [by_pytorch, by_numpy, by_loop, by_one_hot])
@pytest.mark.parametrize("mistakes", [MISTAKES, torch.tensor(MISTAKES), 2.29, [2.288]])
def test_cross_entropy_however_written(function, mistakes):
    assert check("2.3", function, mistakes)


def rows(labels):
    return torch.arange(len(labels))


def naive(logits, labels):
    exp = logits.exp()
    return -(exp[rows(labels), labels] / exp.sum(dim=1)).log().mean()


def by_math(logits, labels):
    losses = [
        -math.log(math.exp(row[label]) / sum(math.exp(z) for z in row))
        for row, label in zip(logits.tolist(), labels.tolist(), strict=True)
    ]
    return sum(losses) / len(losses)


def by_shifted_math(logits, labels):
    return by_math(logits - logits.amax(dim=1, keepdim=True), labels)


def less_the_largest_of_all(logits, labels):
    shifted = logits - logits.max()
    return (shifted.exp().sum(dim=1).log() - shifted[rows(labels), labels]).mean()


def clamped(logits, labels):
    return -(logits.softmax(dim=1)[rows(labels), labels] + 1e-9).log().mean()


@pytest.mark.parametrize(
    ("function", "nudge"),
    [
        (lambda z, y: -by_pytorch(z, y), "sign"),
        (lambda z, y: functional.cross_entropy(z, y, reduction="sum"), "sum over the images"),
        (lambda z, y: functional.cross_entropy(z, y, reduction="none"), "a loss for each image"),
        (lambda z, y: by_pytorch(z, y) / z.shape[1], "number of all logits"),
        (lambda z, y: z.softmax(1)[rows(y), y].mean(), "the logarithm is missing"),
        (lambda z, y: -z.softmax(1)[rows(y), y].mean().log(), "for each image first"),
        (lambda z, y: by_pytorch(z.softmax(1), y), "twice"),
        (lambda z, y: -z.log_softmax(0)[rows(y), y].mean(), "down the columns"),
        (lambda z, y: -z.log_softmax(1)[:, y].mean(), "x[:, labels]"),
        (lambda z, y: -z[rows(y), y].mean(), "softmax is missing"),
        (lambda z, y: 0.0, "The loss is off"),
        (lambda z, y: by_pytorch(z, y) / math.log(2), "The loss is off"),
        (naive, "exp(1000) is infinite"),
        (lambda z, y: -z.softmax(1).log()[rows(y), y].mean(), "logarithm of a fraction"),
        (by_shifted_math, "logarithm of a fraction"),
        (by_math, "or stops, because exp(1000) is infinite"),
        (less_the_largest_of_all, "which number keeps exp in bounds"),
        (clamped, "kept away from it"),
        (lambda z, y: z.sqrt().mean(), "NaN"),
        (lambda z, y: z.log_softmax(1), "One number is wanted"),
        (lambda z, y: HUGE, "far more"),
        (lambda z, y: z @ y, "stopped with RuntimeError"),
        (lambda z, y: None, "returns nothing yet"),
        (lambda z: 0, "cannot be called"),
        (0.3, "A function is wanted"),
    ],
)
def test_cross_entropy_is_not(function, nudge):
    assert_nudged(check("2.3", function, MISTAKES), nudge)


@pytest.mark.parametrize(
    ("mistakes", "nudge"),
    [
        (math.log(0.01) / math.log(0.9), "Here are a hundred"),
        (MISTAKES / 100, "one good answer"),
        (100 * 0.1 / 0.99, "how far they are from 1"),
        (9000, "not their probabilities"),
        (2, "not rounded"),
        (3.0, "not rounded"),
        (-MISTAKES, "is not: what is"),
        (100, "is not: what is"),
        (by_pytorch, "this is a function"),
        (math.inf, "infinite"),
        (..., "no answer yet"),
    ],
)
def test_what_mistakes_weigh_is_checked_too(mistakes, nudge):
    assert_nudged(check("2.3", by_pytorch, mistakes), nudge, "2.28", "2.29")


# 2.4: a network of one's own.


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


def with_a_global_mean(*channels):
    features = stack(*channels)[:-2]
    return nn.Sequential(
        *features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], 10)
    )


def zero_at_the_end(network):
    nn.init.zeros_(network[-1].weight)
    nn.init.zeros_(network[-1].bias)
    return network


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: stack(16, 32),
        lambda: stack(8, 16, 32).eval(),
        lambda: stack(16).double().float(),
        Written,
        lambda: with_a_global_mean(8),
        lambda: with_a_global_mean(4, 8),
        lambda: zero_at_the_end(stack(8, 16)),
        lambda: stack(8, 16, end=[nn.Tanh()]),
    ],
)
def test_a_small_network_however_written(make, sample):
    network = make()
    mode, before = network.training, {k: v.clone() for k, v in network.state_dict().items()}
    assert check("2.4", network, sample)
    assert network.training == mode
    assert all(v.equal(before[k]) for k, v in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())


def test_a_trained_network_is_small_as_well(sample):
    network = stack(16)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        functional.cross_entropy(
            network(sample.train.images[:64]), sample.train.labels[:64]
        ).backward()
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


class Quitter(Written):
    """A network that fails in training mode only."""

    def forward(self, images):
        if self.training:
            sys.exit(3)
        return super().forward(images)


def all_zeros():
    network = stack(16)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    return network


def one_of_two_normalised():
    network = stack(8, 16)
    network[5] = nn.Identity()
    return network


def normalised_elsewhere():
    network = stack(8, 16, norm=lambda channels: nn.Identity())
    network.append(nn.BatchNorm1d(10))
    return network


def frozen():
    return stack(16).requires_grad_(False)


def own_statistics():
    return stack(16, norm=lambda c: nn.BatchNorm2d(c, track_running_stats=False))


@pytest.mark.parametrize(
    ("make", "nudge"),
    [
        (lambda: build_model("cnn"), "parameters. layer_table"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), "no convolution"),
        (lambda: stack(16, end=[nn.Softmax(dim=1)]), "softmax at the end"),
        (lambda: stack(16, end=[nn.LogSoftmax(dim=1)]), "log-softmax at the end"),
        (lambda: stack(16, end=[nn.ReLU()]), "None of its logits is negative"),
        (lambda: stack(16, end=[nn.Sigmoid()]), "None of its logits is negative"),
        (lambda: stack(16, norm=lambda channels: nn.Identity()), "no batch normalisation"),
        (lambda: stack(16, norm=lambda channels: nn.GroupNorm(1, channels)), "no batch"),
        (lambda: zero_at_the_end(stack(16, norm=lambda c: nn.GroupNorm(1, c))), "no batch"),
        (all_zeros, "It does not learn: after 40 steps"),
        (one_of_two_normalised, "write 24 maps, and 8 are normalised"),
        (normalised_elsewhere, "write 24 maps, and 0 are normalised"),
        (lambda: nn.Sequential(nn.BatchNorm2d(1), *normalised_elsewhere()[:-1]), "and 1 are"),
        (Forgetful, "gives two answers. Is there a functional.dropout"),
        (Quitter, "The network in training mode stopped with SystemExit"),
        (own_statistics, "depends on the other images"),
        (lambda: Wrapped(torch.Tensor.detach), "No gradient comes through"),
        (lambda: Wrapped(lambda logits: logits.detach() + 0 * logits), "does not learn"),
        (lambda: Wrapped(lambda logits: logits * torch.nan), "NaN"),
        (lambda: Wrapped(torch.Tensor.tolist), "returns a list instead of a tensor"),
        (lambda: Wrapped(lambda logits: logits.view(64, 10)), "stopped with RuntimeError"),
        (lambda: Wrapped(lambda logits: logits[:, :9]), "(1, 10) is wanted"),
        (frozen, "no parameters that training may change"),
        (lambda: Written, "make a network of it, Written()"),
        (lambda: lambda images: images, "A network (nn.Module) is wanted"),
        (lambda: stack(16).state_dict(), "A network (nn.Module) is wanted"),
        (lambda: HUGE, "A network (nn.Module) is wanted"),
        (lambda: ..., "no answer yet"),
    ],
)
def test_a_small_network_is_not(make, nudge, sample):
    assert_nudged(check("2.4", make(), sample), nudge)


def test_a_network_that_writes_into_its_images_spoils_none(sample):
    before = sample.train.images.clone()
    network = nn.Sequential(nn.Hardtanh(0.2, 0.8, inplace=True), *stack(16))
    assert check("2.4", network, sample)
    assert sample.train.images.equal(before)


def test_the_checks_leave_the_random_numbers_alone(sample):
    network = stack(16)
    before = torch.get_rng_state()
    check("2.1", 0)
    check("2.3", by_pytorch, MISTAKES)
    check("2.4", network, sample)
    assert torch.get_rng_state().equal(before)


# 2.5: sorted and mixed images.


@pytest.mark.parametrize(
    "answers", [(0.1, 0.75), (0.16, 0.5), (0.0, 0.9), (torch.tensor(0.1), np.float32(0.6))]
)
def test_sorted_images_teach_nothing(answers):
    assert check("2.5", *answers)


@pytest.mark.parametrize(
    ("answers", "nudge"),
    [
        ((0.75, 0.76), "shuffles unless it is told not to"),
        ((0.766, 0.759), "shuffles unless it is told not to"),
        ((0.774, 0.712), "And are these accuracies on the validation images?"),
        ((0.75, 0.1), "have changed places"),
        ((10.0, 75.0), "between 0 and 1"),
        ((0.1, 75.0), "between 0 and 1"),
        ((-0.1, 0.7), "never negative"),
        ((0.1, 0.12), "Neither has learned much"),
        ((0.5, 0.8), "did too well"),
        ((0.1, None), "(mixed_accuracy) is None"),
        ((math.nan, 0.7), "NaN"),
        ((HUGE, 0.7), "far more"),
        (("0.1", 0.7), "text"),
    ],
)
def test_accuracies_that_cannot_be_theirs(answers, nudge):
    assert_nudged(check("2.5", *answers), nudge)
