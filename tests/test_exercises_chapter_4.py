"""The checks of chapter 4: right answers however found, and words for likely mistakes."""

from math import sqrt

import numpy as np
import pandas as pd
import pytest
import torch
from nudges import assert_nudged
from scipy.stats import mode
from sklearn.metrics import accuracy_score
from torch import nn

from fmnist_lib.course.exercises import check
from fmnist_lib.evaluation import accuracy_interval, class_report, predict
from fmnist_lib.measured import load_seeds

# An oracle that knows neither the number nor the formula.
LOW, HIGH = accuracy_interval(np.zeros(400, dtype=int), np.repeat([0, 1], [320, 80]))


def test_the_deviation_of_a_share():
    draws = np.random.default_rng(0).binomial(400, 0.8, (20, 10_000)).std(axis=1) / 400
    for answer in ((HIGH - LOW) / 4, sqrt(0.8 * 0.2 / 400), sqrt(0.8 * 0.2 / 399), *draws):
        assert check("4.1", answer)


def counted(labels, predicted, k):
    called, true = predicted == k, labels == k
    both = (called & true).sum()
    return both / max(called.sum(), 1), both / true.sum()


def by_class_report(labels, predicted, k):
    return class_report(labels, predicted).iloc[k][["precision", "recall"]]


@pytest.fixture(scope="module")
def seeds():
    return load_seeds()


def votes(predictions):
    return np.array([(predictions == k).sum(axis=0) for k in range(10)])


def by_mode(predictions):
    return mode(predictions, axis=0).mode


def drawn_among_the_tied(predictions):
    counts = votes(predictions)
    return (counts + np.random.default_rng().random(counts.shape)).argmax(axis=0)


def by_counting(predictions):
    return [max(column, key=column.count) for column in predictions.T.tolist()]


@pytest.mark.parametrize("function", [by_mode, drawn_among_the_tied, by_counting])
def test_the_vote_however_ties_are_broken(function, seeds):
    share = accuracy_score(seeds.labels, function(seeds.predicted["cnn"]))
    assert check("4.3", function, share, seeds)
    assert check("4.3", function, np.float32(share), seeds)


def test_a_vote_that_draws_lots_may_have_any_luck(seeds):
    plain = seeds.predicted["cnn"]
    labelled = 0.5 * np.eye(10)[seeds.labels].T
    lucky = accuracy_score(seeds.labels, (votes(plain) + labelled).argmax(axis=0))
    unlucky = accuracy_score(seeds.labels, (votes(plain) - labelled).argmax(axis=0))
    best_alone = (plain == seeds.labels).mean(axis=1).max()
    assert unlucky < best_alone < lucky
    for share in (unlucky, best_alone, lucky):
        assert check("4.3", drawn_among_the_tied, share, seeds)
        assert not check("4.3", by_mode, share, seeds)
    for share in (unlucky - 1e-4, lucky + 1e-4):
        assert_nudged("4.3", drawn_among_the_tied, share, seeds, nudge="do not round")


def test_the_vote_is_not(seeds):
    alone = (seeds.predicted["cnn"] == seeds.labels).mean(axis=1)
    right = accuracy_score(seeds.labels, by_mode(seeds.predicted["cnn"]))
    for function, share, nudge in (
        (lambda p: mode(p, axis=1).mode, right, "has shape (3,), but should have shape (8,)"),
        (lambda p: p.mean(axis=0).round(), right, "have no order"),
        (lambda p: by_mode(p) + 10, right, "another class has more votes"),
        (by_mode, alone.mean(), "the mean of ten accuracies"),
        (by_mode, alone.max(), "the best network alone"),
        (by_mode, round(right, 3), "do not round"),
    ):
        assert_nudged("4.3", function, share, seeds, nudge=nudge)


def answered(p, labels, threshold):
    return p.max(axis=1) > threshold, p.argmax(axis=1) == labels


def sure_and_right(p, labels, threshold):
    sure, right = answered(p, labels, threshold)
    return sure.mean(), right[sure].mean()


def in_torch(probabilities, labels, threshold):
    confidence, guess = torch.tensor(probabilities).float().max(dim=1)
    sure = confidence >= threshold
    right = guess[sure] == torch.tensor(labels)[sure]
    return [sure.float().mean(), right.float().mean()]


def other_accuracy(accuracy):
    return lambda *a: (sure_and_right(*a)[0], accuracy(*answered(*a)))


def peeking(p, labels, threshold):
    sure = p[np.arange(len(p)), labels] > threshold
    return sure.mean(), answered(p, labels, threshold)[1][sure].mean()


@pytest.mark.parametrize(
    ("number", "function"),
    [
        ("4.2", counted),
        ("4.2", by_class_report),
        ("4.4", sure_and_right),
        ("4.4", in_torch),
    ],
)
def test_functions_that_are_right_however_written(number, function):
    assert check(number, function)


@pytest.mark.parametrize(
    ("number", "answer", "nudge"),
    [
        ("4.1", 0.8 * 0.2 / 400, "variance of the share"),
        ("4.1", 2, "percentage points"),
        ("4.1", HIGH - LOW, "95 % interval"),
        ("4.1", (HIGH - LOW) / 2, "95 % interval"),
        ("4.1", 0.8, "what stands under the root"),
        ("4.2", lambda *a: counted(*a)[::-1], "precision comes first"),
        ("4.2", lambda t, p, k: (counted(t, p, k)[0], (t == p).mean()), "recall of those that"),
        ("4.2", lambda *a: np.round(counted(*a), 4), "not rounded"),
        ("4.2", lambda t, p, k: counted(t, p, k) / (p == k).any(), "never predicted holds NaN"),
        ("4.2", lambda t, p, k: np.where(k in p, counted(t, p, k), 0.5), "shares should be 0"),
        ("4.4", lambda *a: sure_and_right(*a)[::-1], "comes first"),
        ("4.4", peeking, "the two shares are off"),
        ("4.4", lambda *a: np.round(sure_and_right(*a), 4), "Do not round"),
        ("4.4", lambda p, t, threshold: sure_and_right(p, t, 0.9), "With a threshold of 0.5"),
        ("4.4", other_accuracy(lambda sure, right: right.mean()), "on all images"),
        ("4.4", other_accuracy(lambda sure, right: (sure & right).mean()), "count as mistakes"),
    ],
)
def test_wrong_turns_get_words(number, answer, nudge):
    assert_nudged(number, answer, nudge=nudge)


class NearestMean(nn.Module):
    """A network that needs no training: the nearest of ten mean images, seen in some rows."""

    def __init__(self, split, rows):
        super().__init__()
        self.rows = rows
        by_class = [split.images[split.labels == k].mean(dim=0) for k in range(10)]
        self.means = nn.Parameter(torch.stack(by_class)[..., rows, :].flatten(1))

    def forward(self, images):
        return -torch.cdist(images[..., self.rows, :].flatten(1), self.means)


@pytest.fixture(scope="module")
def networks(sample):
    return {
        "cnn": NearestMean(sample.train, slice(0, 28)),
        "dilated_cnn": NearestMean(sample.train, slice(0, 14)),
    }


def measured(networks, split, damage):
    return {
        name: accuracy_score(split.labels, predict(network, damage(split.images)).argmax(axis=1))
        for name, network in networks.items()
    }


def grey_square(images):
    hidden = images.clone()
    hidden[..., 10:18, 10:18] = 0.5
    return hidden


def into_the_images(images):
    images[..., 10:18, 10:18] = 0.5
    return images


def noisy(images):
    return (images + 0.05 * torch.randn(images.shape)).clamp(0, 1)


@pytest.mark.parametrize("function", [grey_square, noisy])
def test_a_damage_of_any_kind(function, networks, sample):
    state = torch.get_rng_state()
    left = measured(networks, sample.test, function)
    torch.set_rng_state(state)
    assert check("4.5", function, left, networks, sample)
    assert check("4.5", function, pd.Series(left), networks, sample)
    assert torch.equal(torch.get_rng_state(), state)


def own_square(images):
    hidden = images.clone()
    for image, row, column in zip(hidden, *torch.randint(20, (2, len(images))), strict=True):
        image[:, row : row + 8, column : column + 8] = 0
    return hidden


def test_a_damage_drawn_for_each_image_may_have_any_luck(networks, sample):
    for _ in range(5):
        left = {
            name: measured({name: network}, sample.test, own_square)[name]
            for name, network in networks.items()
        }
        assert check("4.5", own_square, left, networks, sample)
    left = dict.fromkeys(networks, 0.99)
    assert_nudged("4.5", own_square, left, networks, sample, nudge="the accuracies are off")


def test_a_damage_drawn_once_for_all_images_gets_words(networks, sample):
    def one_shadow(images):
        return images * (0.1 + 0.8 * torch.rand(()))

    left = measured(networks, sample.test, lambda images: images * 0.1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        nudge = "drawn once for all images"
        assert_nudged("4.5", one_shadow, left, networks, sample, nudge=nudge)


@pytest.mark.parametrize(
    ("function", "nudge"),
    [
        (into_the_images, "images.clone()"),
        (lambda i: i.clone(), "Most images come back as they were"),
        (lambda i: torch.zeros_like(i), "All images come back alike"),
        (lambda i: i + 0.5, "between 0 and 1"),
        (lambda i: i.double() / 2, "32-bit numbers"),
    ],
)
def test_a_damage_is_not(function, nudge, networks, sample):
    before = sample.test.images.clone()
    left = dict.fromkeys(networks, 0.5)
    assert_nudged("4.5", function, left, networks, sample, nudge=nudge)
    assert torch.equal(sample.test.images, before)


def test_the_accuracies_on_damaged_images_are_checked_too(networks, sample):
    left = measured(networks, sample.test, grey_square)
    undamaged = measured(networks, sample.test, lambda images: images)
    assert len({*left.values(), *undamaged.values()}) == 4
    for answer, nudge in [
        (undamaged, "on the images as they are"),
        (left | {"cnn": left["cnn"] - 0.1}, "the accuracies are off"),
        ({"cnn": left["cnn"]}, "dilated_cnn is missing"),
        ([*left.values()], "under its name"),
    ]:
        assert_nudged("4.5", grey_square, answer, networks, sample, nudge=nudge)
