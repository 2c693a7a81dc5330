"""The checks of chapter 4: right answers however found, and words for likely mistakes."""

import sys
from dataclasses import replace
from math import sqrt

import numpy as np
import pandas as pd
import pytest
import torch
from nudges import assert_nudged
from scipy.stats import mode
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from torch import nn

from fmnist_lib.course.exercises import chapter_4, check
from fmnist_lib.course.exercises.chapter_4 import _labels_and_predictions
from fmnist_lib.data import Split
from fmnist_lib.evaluation import accuracy_interval, class_report, predict
from fmnist_lib.measured import load_seeds

# An oracle that knows neither the number nor the formula.
LOW, HIGH = accuracy_interval(np.zeros(400, dtype=int), np.repeat([0, 1], [320, 80]))


def test_the_deviation_of_a_share():
    draws = np.random.default_rng(0).binomial(400, 0.8, (20, 10_000)).std(axis=1) / 400
    for answer in ((HIGH - LOW) / 4, sqrt(0.8 * 0.2 / 400), sqrt(0.8 * 0.2 / 399), *draws):
        assert check("4.1", answer)


@pytest.mark.parametrize(
    ("answer", "nudge"),
    [
        (0.8 * 0.2 / 400, "variance of the share"),
        (0.8 * 0.2, "a single photograph"),
        (sqrt(0.8 * 0.2), "a single photograph"),
        (sqrt(0.8 * 0.2) / 400, "under the root"),
        (2, "percentage points"),
        (8, "number of right answers"),
        (64, "variance of the number"),
        (1 / sqrt(400), "one half of the formula"),
        (sqrt(0.8 / 400), "Two shares"),
        (sqrt(0.8 * 0.2 / 10_000), "10,000 test images"),
        (sqrt(0.9 * 0.1 / 10_000), "the chapter's example"),
        (1.96 * 0.02, "95 % interval"),
        (HIGH - LOW, "95 % interval"),
        ((HIGH - LOW) / 2, "95 % interval"),
        (-0.02, "never negative"),
        (0.8, "of how many photographs"),
        (sqrt(0.8 * 0.2 / 320), "of how many photographs"),
    ],
)
def test_the_deviation_is_not(answer, nudge):
    assert_nudged("4.1", answer, nudge=nudge, secrets=(0.02,))


def counted(labels, predicted, k):
    called, true = predicted == k, labels == k
    both = (called & true).sum()
    return both / max(called.sum(), 1), both / true.sum()


def by_scikit_learn(labels, predicted, k):
    both = precision_recall_fscore_support(
        labels, predicted, labels=[k], average="macro", zero_division=0
    )
    return [torch.tensor(share) for share in both[:2]]


def by_class_report(labels, predicted, k):
    return class_report(labels, predicted).iloc[k][["precision", "recall"]]


@pytest.mark.parametrize("function", [counted, by_scikit_learn, by_class_report])
def test_precision_and_recall(function):
    assert check("4.2", function)


def test_the_trials_of_precision_and_recall_hold_every_class():
    labels, predicted = _labels_and_predictions(60)
    assert set(labels) == set(predicted) == set(range(10))
    assert np.bincount(labels).min() >= 6


def with_nan(labels, predicted, k):
    both = ((predicted == k) & (labels == k)).sum()
    return both / (predicted == k).sum(), both / (labels == k).sum()


def with_an_error(labels, predicted, k):
    pairs = list(zip(labels.tolist(), predicted.tolist(), strict=True))
    both = pairs.count((k, k))
    return both / sum(p == k for _, p in pairs), both / sum(t == k for t, _ in pairs)


@pytest.mark.parametrize(
    ("function", "nudge"),
    [
        (lambda *a: counted(*a)[::-1], "precision comes first"),
        (lambda t, p, k: (((t == k) & (p == k)).mean(), 0.9), "a share of all images"),
        (lambda t, p, k: (counted(t, p, k)[0], ((t == k) & (p == k)).mean()), "of all images"),
        (lambda t, p, k: [(t == p).mean()] * 2, "The precision is off"),
        (lambda t, p, k: (counted(t, p, k)[0], (t == p).mean()), "the recall is off"),
        (lambda *a: np.round(counted(*a), 4), "Rounded?"),
        (lambda *a: np.round(counted(*a), 2), "Rounded?"),
        (lambda *a: np.multiply(100, counted(*a)), "These are counts, or percent"),
        (lambda t, p, k: (((t == k) & (p == k)).sum(), 0), "These are counts, or percent"),
        (with_nan, "The answer about a class that is never predicted holds NaN"),
        (with_an_error, "asked about a class that is never predicted, stopped with ZeroDivision"),
        (lambda t, p, k: np.where(k in p, counted(t, p, k), 0.5), "both shares should be 0"),
        (lambda t, p, k: class_report(t, p), "should have shape (2,)"),
    ],
)
def test_precision_and_recall_are_not(function, nudge):
    assert_nudged("4.2", function, nudge=nudge)


@pytest.fixture(scope="module")
def seeds():
    return load_seeds()


def votes(predictions):
    return np.array([(predictions == k).sum(axis=0) for k in range(10)])


def by_mode(predictions):
    return mode(predictions, axis=0).mode


def last_of_the_tied(predictions):
    return 9 - votes(predictions)[::-1].argmax(axis=0)


def drawn_among_the_tied(predictions):
    counts = votes(predictions)
    return (counts + np.random.default_rng().random(counts.shape)).argmax(axis=0)


def by_torch(predictions):
    return torch.tensor(predictions).long().mode(dim=0).values


def by_counting(predictions):
    return [max(column, key=column.count) for column in predictions.T.tolist()]


@pytest.mark.parametrize(
    "function", [by_mode, last_of_the_tied, drawn_among_the_tied, by_torch, by_counting]
)
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
    for share, nudge in [
        (unlucky - 1e-4, "Rounded?"),
        (lucky + 1e-4, "Rounded?"),
        (unlucky - 0.01, "The function is right, the share is not"),
        (lucky + 0.01, "The function is right, the share is not"),
    ]:
        assert_nudged("4.3", drawn_among_the_tied, share, seeds, nudge=nudge)


@pytest.mark.parametrize(
    ("function", "nudge"),
    [
        (lambda p: mode(p, axis=1).mode, "one class for each network"),
        (lambda p: mode(p, axis=0), "should have shape (8,)"),
        (lambda p: mode(p, axis=0, keepdims=True).mode, "should have shape (8,)"),
        (lambda p: mode(p, axis=0).count, "But for which class"),
        (lambda p: p.mean(axis=0), "have no order"),
        (lambda p: p.mean(axis=0).round(), "have no order"),
        (lambda p: np.median(p, axis=0), "have no order"),
        (lambda p: p[0], "another class has more votes"),
        (lambda p: by_mode(p) + 10, "the numbers 0 to 9"),
    ],
)
def test_the_vote_is_not(function, nudge, seeds):
    assert_nudged("4.3", function, 0.9, seeds, nudge=nudge)


def test_the_share_of_the_vote_is_checked_too(seeds):
    plain = seeds.predicted["cnn"]
    alone = (plain == seeds.labels).mean(axis=1)
    dilated = accuracy_score(seeds.labels, by_mode(seeds.predicted["dilated_cnn"]))
    right = accuracy_score(seeds.labels, by_mode(plain))
    for share, nudge in [
        (alone.mean(), "the mean of ten accuracies"),
        (alone.max(), "the best network alone"),
        (dilated, "The function is right, the share is not"),
        (round(right, 3), "Rounded?"),
        (100 * right, "between 0 and 1"),
        (alone, "One number is needed"),
    ]:
        assert_nudged("4.3", by_mode, share, seeds, nudge=nudge, secrets=(round(right, 4),))


def test_a_vote_leaves_the_predictions_of_the_seeds_as_they_are(seeds):
    before = seeds.predicted["cnn"].copy()

    def greedy(predictions):
        result = by_mode(predictions)
        predictions[:] = 0
        return result

    check("4.3", greedy, 0.9, seeds)
    assert (seeds.predicted["cnn"] == before).all()


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


def writing_into_the_labels(p, labels, threshold):
    sure, right = answered(p, labels, threshold)
    labels[sure & right] = 100
    return pd.Series([sure.mean(), (labels == 100).sum() / sure.sum()])


@pytest.mark.parametrize("function", [sure_and_right, in_torch, writing_into_the_labels])
def test_answering_when_sure(function):
    assert check("4.4", function)


def other_accuracy(accuracy):
    return lambda *a: (sure_and_right(*a)[0], accuracy(*answered(*a)))


def peeking(p, labels, threshold):
    sure = p[np.arange(len(p)), labels] > threshold
    return sure.mean(), answered(p, labels, threshold)[1][sure].mean()


@pytest.mark.parametrize(
    ("function", "nudge"),
    [
        (lambda *a: sure_and_right(*a)[::-1], "comes first"),
        (lambda *a: (answered(*a)[0].sum(), 0.9), "You count the answered images"),
        (lambda *a: (1 - sure_and_right(*a)[0], 0.9), "keeps silent"),
        (peeking, "does not know"),
        (lambda *a: np.multiply(100, sure_and_right(*a)), "This is percent"),
        (lambda *a: np.multiply((1, 100), sure_and_right(*a)), "This is percent"),
        (lambda *a: np.round(sure_and_right(*a), 4), "Rounded?"),
        (lambda p, t, threshold: sure_and_right(p, t, 0.9), "With a threshold of 0.5"),
        (other_accuracy(lambda sure, right: right.mean()), "on all images"),
        (other_accuracy(lambda sure, right: (sure & right).mean()), "count as mistakes"),
        (other_accuracy(lambda sure, right: right[sure].sum()), "You count the right answers"),
        (other_accuracy(lambda sure, right: 0.123), "What share of these is answered rightly"),
        (lambda *a: sure_and_right(*a)[0], "should have shape (2,)"),
    ],
)
def test_answering_when_sure_is_not(function, nudge):
    assert_nudged("4.4", function, nudge=nudge)


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


def top_rows(images):
    """Leave images with an empty top, such as the first one, as they are."""
    return images * (torch.arange(28) > 5)[:, None]


def rounded_over_one(images):
    return images.flip(-1) * (1 + 1e-7)


@pytest.mark.parametrize("function", [grey_square, noisy, top_rows, rounded_over_one])
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

    def seeded(images):
        torch.manual_seed(0)
        return one_shadow(images)

    left = measured(networks, sample.test, lambda images: images * 0.1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        nudge = "drawn once for all images"
        assert_nudged("4.5", one_shadow, left, networks, sample, nudge=nudge)
        left = measured(networks, sample.test, seeded)
    assert check("4.5", seeded, left, networks, sample)


def spoiled(data):
    """Copy the data as they are after a student's own cell has run `into_the_images` on them."""
    test = Split(data.test.images.clone(), data.test.labels)
    into_the_images(test.images[:1000])
    return replace(data, test=test)


def test_spoiled_images_are_found_and_to_be_loaded_again(networks, sample):
    data = spoiled(sample)
    left = measured(networks, data.test, grey_square)
    nudge = "images.clone(). Then load the data again"
    assert_nudged("4.5", into_the_images, left, networks, data, nudge=nudge)
    nudge = "Something has written into the test images. Load them again, data ="
    assert_nudged("4.5", grey_square, left, networks, data, nudge=nudge)
    assert check("4.5", grey_square, left, networks, sample)


def test_spoiled_images_are_found_in_the_whole_test_set(networks, full_data):
    left = measured(networks, full_data.test[:1000], grey_square)
    assert check("4.5", grey_square, left, networks, full_data)
    nudge = "Something has written into the test images"
    assert_nudged("4.5", grey_square, left, networks, spoiled(full_data), nudge=nudge)


def test_other_data_are_not_taken_for_spoiled_ones(networks, sample, random_split):
    for n in (30, 600):
        other = replace(sample, test=random_split(n))
        left = measured(networks, other.test, grey_square)
        assert check("4.5", grey_square, left, networks, other)


@pytest.mark.parametrize("calls", range(5))
def test_a_function_may_fail_at_any_call(calls, networks, sample):
    left = measured(networks, sample.test, grey_square)
    for change, nudge in [
        (lambda i: sys.exit(2), "stopped with SystemExit"),
        (lambda i: None, "returns nothing yet"),
    ]:
        turns = iter([grey_square] * calls)

        def function(images, turns=turns, change=change):
            return next(turns, change)(images)

        assert_nudged("4.5", function, left, networks, sample, nudge=nudge)


def test_every_result_is_looked_at(networks, sample):
    def numpy_for_many(images):
        return grey_square(images) if len(images) < 501 else grey_square(images).numpy()

    more = Split(sample.test.images.repeat(2, 1, 1, 1), sample.test.labels.repeat(2))
    left = measured(networks, more, grey_square)
    data = replace(sample, test=more)
    assert_nudged("4.5", numpy_for_many, left, networks, data, nudge="32-bit numbers")


@pytest.mark.parametrize(
    ("function", "nudge"),
    [
        (into_the_images, "images.clone()"),
        (lambda i: i, "Most images come back as they were"),
        (lambda i: i.clone(), "Most images come back as they were"),
        (lambda i: torch.zeros_like(i), "All images come back alike"),
        (lambda i: i + 0.5, "between 0 and 1"),
        (lambda i: i - 0.5, "between 0 and 1"),
        (lambda i: i.squeeze(1), "should have shape (1, 1, 28, 28)"),
        (lambda i: i[..., 2:-2, 2:-2], "should have shape (1, 1, 28, 28)"),
        (lambda i: i.double() / 2, "32-bit numbers"),
        (lambda i: i.numpy() / 2, "32-bit numbers"),
        (lambda i: i / 0, "holds NaN"),
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
        (dict(zip(left, [*left.values()][::-1], strict=True)), "under the name of the other"),
        (left | {"cnn": left["cnn"] - 0.1}, "the accuracies are off"),
        ({name: 100 * share for name, share in left.items()}, "between 0 and 1"),
        ({"cnn": left["cnn"]}, "dilated_cnn is missing"),
        (left | {"cnn": float("nan")}, "NaN"),
        ([*left.values()], "under its name"),
        (None, "None"),
    ]:
        assert_nudged("4.5", grey_square, answer, networks, sample, nudge=nudge)


def test_accuracies_that_are_alike_have_not_changed_places(networks, sample, monkeypatch):
    monkeypatch.setattr(chapter_4, "_accuracies", lambda *arguments: [0.5, 0.502])
    answer = {"cnn": 0.5045, "dilated_cnn": 0.5}
    assert_nudged("4.5", grey_square, answer, networks, sample, nudge="the accuracies are off")
