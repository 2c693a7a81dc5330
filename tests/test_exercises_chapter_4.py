"""The checks of chapter 4: right answers in every form, wrong turns, and kind words for them."""

import sys
from dataclasses import replace
from fractions import Fraction
from math import sqrt

import numpy as np
import pandas as pd
import pytest
import torch
from nudges import HUGE, assert_nudged, broken
from scipy.stats import mode
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from torch import nn

from fmnist_lib.course.exercises import chapter_4, check
from fmnist_lib.course.exercises.chapter_4 import _labels_and_predictions
from fmnist_lib.data import Split
from fmnist_lib.evaluation import accuracy_interval, class_report, predict
from fmnist_lib.measured import load_seeds


@pytest.mark.parametrize(
    "answer",
    [
        sqrt(0.8 * 0.2 / 400),
        2e-2,
        sqrt(0.8 * 0.2 / 399),
        np.float32(0.02),
        torch.tensor([0.02]),
        np.std([1] * 320 + [0] * 80) / 20,
    ],
)
def test_the_deviation_of_a_share(answer):
    assert check("4.1", answer)


def test_the_deviation_is_a_quarter_of_a_wide_interval():
    """An oracle that knows neither the number nor the formula."""
    labels = np.zeros(400, dtype=int)
    low, high = accuracy_interval(labels, np.repeat([0, 1], [320, 80]))
    assert (high - low) / 4 == pytest.approx(0.02, rel=0.05)
    assert_nudged(check("4.1", high - low), "width of the 95 % interval")
    assert_nudged(check("4.1", (high - low) / 2), "width of the 95 % interval")


def test_the_deviation_may_be_found_by_drawing():
    generator = np.random.default_rng(0)
    for _ in range(20):
        assert check("4.1", generator.binomial(400, 0.8, 10_000).std() / 400)


@pytest.mark.parametrize(
    ("answer", "nudge"),
    [
        (0.8 * 0.2 / 400, "variance of the share"),
        (0.8 * 0.2, "a single photograph"),
        (sqrt(0.8 * 0.2), "a single photograph"),
        (sqrt(0.8 * 0.2) / 400, "below the root"),
        (2, "percentage points"),
        (8, "number of right answers"),
        (64, "variance of the number"),
        (1 / sqrt(400), "one half of the formula"),
        (sqrt(0.8 / 400), "Two shares"),
        (sqrt(0.8 * 0.2 / 10_000), "10,000 test images"),
        (sqrt(0.9 * 0.1 / 10_000), "the chapter's example"),
        (1.96 * 0.02, "95 % interval"),
        (-0.02, "never negative"),
        (0, "never negative"),
        (0.8, "of how many photographs"),
        (sqrt(0.8 * 0.2 / 320), "of how many photographs"),
        (float("nan"), "NaN"),
        (None, "None"),
        (HUGE, "far more"),
        ("0.8", "text"),
        ([0.8, 400], "One number"),
    ],
)
def test_the_deviation_is_not(answer, nudge):
    feedback = check("4.1", answer)
    assert_nudged(feedback, nudge)
    assert "0.02" not in feedback.words


def counted(labels, predicted, k):
    called, true = predicted == k, labels == k
    both = (called & true).sum()
    return both / max(called.sum(), 1), both / true.sum()


def by_scikit_learn(labels, predicted, k):
    return [
        torch.tensor(share)
        for share in precision_recall_fscore_support(
            labels, predicted, labels=[k], average="macro", zero_division=0
        )[:2]
    ]


def by_class_report(labels, predicted, k):
    return class_report(labels, predicted).iloc[k][["precision", "recall"]]


def by_loop(labels, predicted, k):
    pairs = list(zip(labels.tolist(), predicted.tolist(), strict=True))
    both = pairs.count((k, k))
    called = sum(p == k for _, p in pairs)
    return np.array([both / called if called else 0, both / sum(t == k for t, _ in pairs)])


def in_fractions(labels, predicted, k):
    called, true = int((predicted == k).sum()), int((labels == k).sum())
    both = int(((labels == k) & (predicted == k)).sum())
    return Fraction(both, max(called, 1)), Fraction(both, true)


@pytest.mark.parametrize(
    "function", [counted, by_scikit_learn, by_class_report, by_loop, in_fractions]
)
def test_precision_and_recall_however_written(function):
    assert check("4.2", function)


def test_the_trials_of_precision_and_recall_hold_every_class():
    labels, predicted = _labels_and_predictions(60)
    assert set(labels) == set(predicted) == set(range(10))
    assert np.bincount(labels).min() >= 6


def swapped(labels, predicted, k):
    return counted(labels, predicted, k)[::-1]


def of_all_images(labels, predicted, k):
    return ((labels == k) & (predicted == k)).mean(), counted(labels, predicted, k)[1]


def twice_the_accuracy(labels, predicted, k):
    return [(labels == predicted).mean()] * 2


def recall_of_all(labels, predicted, k):
    return counted(labels, predicted, k)[0], (labels == predicted).mean()


def with_nan(labels, predicted, k):
    called, true = predicted == k, labels == k
    both = (called & true).sum()
    return both / called.sum(), both / true.sum()


def with_an_error(labels, predicted, k):
    called, true = int((predicted == k).sum()), int((labels == k).sum())
    both = int(((labels == k) & (predicted == k)).sum())
    return both / called, both / true


@pytest.mark.parametrize(
    ("function", "nudge"),
    [
        (swapped, "precision comes first"),
        (of_all_images, "a share of all images"),
        (twice_the_accuracy, "The precision is off"),
        (recall_of_all, "the recall is off"),
        (lambda *a: np.round(counted(*a), 4), "Rounded? Return the shares as they are computed"),
        (lambda *a: np.round(counted(*a), 2), "Rounded?"),
        (lambda *a: np.multiply(100, counted(*a)), "These are counts, or percent"),
        (lambda t, p, k: (((t == k) & (p == k)).sum(), 0), "These are counts, or percent"),
        (with_nan, "The answer about a class that is never predicted holds NaN"),
        (with_an_error, "asked about a class that is never predicted, stopped with ZeroDivision"),
        (lambda t, p, k: (1, 1), "The precision is off"),
        (lambda t, p, k: np.where(k in p, by_loop(t, p, k), 0.5), "both shares are to be 0"),
        (lambda t, p, k: class_report(t, p), "(2,) is wanted"),
        (lambda t, p, k: HUGE, "(2,) is wanted"),
        (lambda t, p, k: None, "returns nothing yet"),
        (lambda t, p: (1, 1), "cannot be called"),
        (broken, "stopped with RuntimeError: out of order"),
        (0.9, "A function is wanted"),
    ],
)
def test_precision_and_recall_are_not(function, nudge):
    assert_nudged(check("4.2", function), nudge)


@pytest.fixture(scope="module")
def seeds():
    return load_seeds()


def by_mode(predictions):
    return mode(predictions, axis=0).mode


def last_of_the_tied(predictions):
    return 9 - np.array([(predictions == 9 - k).sum(axis=0) for k in range(10)]).argmax(axis=0)


def drawn_among_the_tied(predictions):
    counts = np.array([(predictions == k).sum(axis=0) for k in range(10)])
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
    counts = np.array([(plain == k).sum(axis=0) for k in range(10)])
    labelled = np.eye(10)[seeds.labels].T
    lucky = accuracy_score(seeds.labels, (counts + 0.5 * labelled).argmax(axis=0))
    unlucky = accuracy_score(seeds.labels, (counts - 0.5 * labelled).argmax(axis=0))
    best_alone = (plain == seeds.labels).mean(axis=1).max()
    assert unlucky < best_alone < lucky
    for share in (unlucky, best_alone, lucky):
        assert check("4.3", drawn_among_the_tied, share, seeds)
        assert not check("4.3", by_mode, share, seeds)
    for share in (unlucky - 1e-4, lucky + 1e-4):
        assert_nudged(check("4.3", drawn_among_the_tied, share, seeds), "Rounded?")
    for share in (unlucky - 0.01, lucky + 0.01):
        feedback = check("4.3", drawn_among_the_tied, share, seeds)
        assert_nudged(feedback, "The function is right, the share is not")


@pytest.mark.parametrize(
    ("function", "nudge"),
    [
        (lambda p: mode(p, axis=1).mode, "one class for each network"),
        (lambda p: mode(p, axis=0), "and (8,) is wanted"),
        (lambda p: mode(p, axis=0, keepdims=True).mode, "and (8,) is wanted"),
        (lambda p: mode(p, axis=0).count, "But for which class"),
        (lambda p: p.mean(axis=0), "have no order"),
        (lambda p: p.mean(axis=0).round(), "have no order"),
        (lambda p: np.median(p, axis=0), "have no order"),
        (lambda p: p[0], "another one has more votes"),
        (lambda p: by_mode(p) + 10, "the numbers 0 to 9"),
        (lambda p: p.mode(), "stopped with AttributeError"),
        (lambda p: HUGE, "far more"),
        (lambda p: None, "returns nothing yet"),
        (broken, "out of order"),
        (3, "A function is wanted"),
    ],
)
def test_the_vote_is_not(function, nudge, seeds):
    assert_nudged(check("4.3", function, 0.9, seeds), nudge)


def test_the_share_of_the_vote_is_checked_too(seeds):
    plain = seeds.predicted["cnn"]
    alone = (plain == seeds.labels).mean(axis=1)
    dilated = accuracy_score(seeds.labels, by_mode(seeds.predicted["dilated_cnn"]))
    right = accuracy_score(seeds.labels, by_mode(plain))
    for share, nudge in [
        (alone.mean(), "the mean of ten accuracies"),
        (alone.max(), "the best network alone"),
        (dilated, "The function is right, the share is not"),
        (round(right, 3), "Rounded? Give the share as it is computed"),
        (100 * right, "between 0 and 1"),
        (alone, "One number is wanted"),
        (float("nan"), "NaN"),
        (None, "None"),
    ]:
        feedback = check("4.3", by_mode, share, seeds)
        assert_nudged(feedback, nudge)
        assert f"{right:.4f}"[2:] not in feedback.words


def test_a_vote_leaves_the_predictions_of_the_seeds_as_they_are(seeds):
    before = seeds.predicted["cnn"].copy()

    def greedy(predictions):
        result = by_mode(predictions)
        predictions[:] = 0
        return result

    check("4.3", greedy, 0.9, seeds)
    assert (seeds.predicted["cnn"] == before).all()


def sure_and_right(probabilities, labels, threshold):
    sure = probabilities.max(axis=1) > threshold
    return sure.mean(), (probabilities.argmax(axis=1) == labels)[sure].mean()


def in_torch(probabilities, labels, threshold):
    confidence, guess = torch.tensor(probabilities).float().max(dim=1)
    answered = confidence >= threshold
    right = guess[answered] == torch.tensor(labels)[answered]
    return torch.stack([answered.float().mean(), right.float().mean()])


def in_pandas(probabilities, labels, threshold):
    table = pd.DataFrame(probabilities)
    kept = table[table.max(axis=1) > threshold]
    right = kept.idxmax(axis=1) == labels[kept.index]
    return {"share": len(kept) / len(table), "accuracy": right.mean()}.values()


def writing_into_the_labels(probabilities, labels, threshold):
    sure = probabilities.max(axis=1) > threshold
    labels[sure & (probabilities.argmax(axis=1) == labels)] = 100
    return sure.mean(), (labels == 100).sum() / sure.sum()


def test_what_a_function_writes_into_spoils_nothing():
    assert check("4.4", writing_into_the_labels)


@pytest.mark.parametrize(
    "function",
    [sure_and_right, in_torch, lambda *a: list(in_pandas(*a)), lambda *a: [*in_torch(*a)]],
)
def test_answering_when_sure_however_written(function):
    assert check("4.4", function)


def answered(p, labels, threshold):
    return p.max(axis=1) > threshold, p.argmax(axis=1) == labels


def counts(p, labels, threshold):
    sure, right = answered(p, labels, threshold)
    return sure.sum(), right[sure].mean()


def counts_right(p, labels, threshold):
    sure, right = answered(p, labels, threshold)
    return sure.mean(), right[sure].sum()


def peeking(p, labels, threshold):
    sure = p[np.arange(len(p)), labels] > threshold
    return sure.mean(), answered(p, labels, threshold)[1][sure].mean()


def accuracy_of_all(p, labels, threshold):
    sure, right = answered(p, labels, threshold)
    return sure.mean(), right.mean()


def silence_is_wrong(p, labels, threshold):
    sure, right = answered(p, labels, threshold)
    return sure.mean(), (sure & right).mean()


@pytest.mark.parametrize(
    ("function", "nudge"),
    [
        (lambda *a: sure_and_right(*a)[::-1], "comes first"),
        (counts, "The images that are answered are counted"),
        (counts_right, "The right answers are counted"),
        (lambda *a: np.multiply(100, sure_and_right(*a)), "This is percent"),
        (lambda *a: np.multiply((1, 100), sure_and_right(*a)), "This is percent"),
        (lambda *a: np.round(sure_and_right(*a), 4), "Rounded?"),
        (peeking, "does not know the label"),
        (accuracy_of_all, "on all images"),
        (silence_is_wrong, "count as mistakes"),
        (lambda p, t, threshold: ((p.max(axis=1) <= threshold).mean(), 0.123), "keeps silent"),
        (lambda p, t, threshold: sure_and_right(p, t, 0.9), "With a threshold of 0.5"),
        (lambda *a: (sure_and_right(*a)[0], 0.123), "What share of these is answered rightly"),
        (lambda *a: sure_and_right(*a)[0], "(2,) is wanted"),
        (lambda *a: (1.0, float("nan")), "NaN"),
        (lambda *a: HUGE, "(2,) is wanted"),
        (lambda *a: None, "returns nothing yet"),
        (lambda p, t: (1, 1), "cannot be called"),
        (broken, "out of order"),
        ([0.7, 0.9], "A function is wanted"),
    ],
)
def test_answering_when_sure_is_not(function, nudge):
    assert_nudged(check("4.4", function), nudge)


class NearestMean(nn.Module):
    """A network without a training: the nearest of ten mean images, seen in some of the rows."""

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


def grey_square(images):
    hidden = images.clone()
    hidden[..., 10:18, 10:18] = 0.5
    return hidden


def mirrored(images):
    return images.flip(-1)


def noisy(images):
    return (images + 0.05 * torch.randn(images.shape)).clamp(0, 1)


def shadow(images):
    return images * torch.linspace(0.2, 1, 28)


def measured(networks, split, damage):
    return {
        name: accuracy_score(split.labels, predict(network, damage(split.images)).argmax(axis=1))
        for name, network in networks.items()
    }


@pytest.mark.parametrize("function", [grey_square, mirrored, noisy, shadow])
def test_a_damage_of_any_kind(function, networks, sample):
    state = torch.get_rng_state()
    left = measured(networks, sample.test, function)
    torch.set_rng_state(state)
    assert check("4.5", function, left, networks, sample)
    assert check("4.5", function, pd.Series(left), networks, sample)
    assert torch.equal(torch.get_rng_state(), state)


def top_rows(images):
    """Leave images with an empty top, such as the first one, as they are."""
    return images * (torch.arange(28) > 5)[:, None]


def double_exposure(images):
    return (images + images.roll(1, 0)) / 2


def rounded_over_one(images):
    return images.flip(-1) * (1 + 1e-7)


@pytest.mark.parametrize("function", [top_rows, double_exposure, rounded_over_one])
def test_a_damage_that_leaves_some_images_or_rounds(function, networks, sample):
    left = measured(networks, sample.test, function)
    assert check("4.5", function, left, networks, sample)


def own_square(images):
    hidden = images.clone()
    for image, row, column in zip(hidden, *torch.randint(20, (2, len(images))), strict=True):
        image[:, row : row + 8, column : column + 8] = 0
    return hidden


def one_shadow(images):
    return images * (0.1 + 0.8 * torch.rand(()))


def test_a_damage_drawn_for_each_image_may_have_any_luck(networks, sample):
    for _ in range(5):
        left = {
            name: measured({name: network}, sample.test, own_square)[name]
            for name, network in networks.items()
        }
        assert check("4.5", own_square, left, networks, sample)
    assert_nudged(
        check("4.5", own_square, dict.fromkeys(networks, 0.99), networks, sample),
        "the accuracies are off",
    )


def test_a_damage_drawn_once_for_all_images_gets_words(networks, sample):
    left = measured(networks, sample.test, lambda images: images * 0.1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        feedback = check("4.5", one_shadow, left, networks, sample)
    assert_nudged(feedback, "drawn once for all images")

    def seeded(images):
        torch.manual_seed(0)
        return one_shadow(images)

    with torch.random.fork_rng():
        left = measured(networks, sample.test, seeded)
    assert check("4.5", seeded, left, networks, sample)


@pytest.fixture
def spoiled(sample):
    """Give a copy of the sample that a student's own cell has run `into_the_images` on."""
    test = Split(sample.test.images.clone(), sample.test.labels)
    into_the_images(test.images)
    return replace(sample, test=test)


def test_a_function_that_has_spoiled_the_images_is_told_so(networks, spoiled):
    left = measured(networks, spoiled.test, into_the_images)
    feedback = check("4.5", into_the_images, left, networks, spoiled)
    assert_nudged(feedback, "images.clone(). Then load the data again")


def test_images_that_are_spoiled_are_to_be_loaded_again(networks, spoiled, sample):
    left = measured(networks, spoiled.test, grey_square)
    feedback = check("4.5", grey_square, left, networks, spoiled)
    assert_nudged(feedback, "Something has written into the test images. Load them again, data =")
    left = measured(networks, sample.test, grey_square)
    assert check("4.5", grey_square, left, networks, sample)


def test_other_data_are_not_taken_for_spoiled_ones(networks, sample, random_split):
    for n in (30, 600):
        other = replace(sample, test=random_split(n))
        left = measured(networks, other.test, grey_square)
        assert check("4.5", grey_square, left, networks, other)


def test_the_sample_is_the_first_of_each_class(networks, full_data):
    """Spoiled images are found so, in the whole test set as well."""
    left = measured(networks, full_data.test[:1000], grey_square)
    assert check("4.5", grey_square, left, networks, full_data)
    images = full_data.test.images.clone()
    into_the_images(images[:1000])
    test = Split(images, full_data.test.labels)
    feedback = check("4.5", grey_square, left, networks, replace(full_data, test=test))
    assert_nudged(feedback, "Something has written into the test images")


def later(change, calls):
    """Damage images well so many times, and then do something else."""
    left = iter(range(calls))

    def function(images):
        return grey_square(images) if next(left, None) is not None else change(images)

    return function


@pytest.mark.parametrize("calls", range(5))
def test_a_function_may_fail_at_any_call(calls, networks, sample):
    left = measured(networks, sample.test, grey_square)
    for change, nudge in [
        (lambda i: sys.exit(2), "stopped with SystemExit"),
        (lambda i: None, "returns nothing yet"),
    ]:
        feedback = check("4.5", later(change, calls), left, networks, sample)
        assert_nudged(feedback, nudge)


def test_every_result_is_looked_at(networks, sample):
    def numpy_for_many(images):
        return grey_square(images) if len(images) < 501 else grey_square(images).numpy()

    more = Split(*(part.repeat(2, *[1] * (part.ndim - 1)) for part in vars(sample.test).values()))
    left = measured(networks, more, grey_square)
    feedback = check("4.5", numpy_for_many, left, networks, replace(sample, test=more))
    assert_nudged(feedback, "32-bit numbers")


def into_the_images(images):
    images[..., 10:18, 10:18] = 0.5
    return images


@pytest.mark.parametrize(
    ("function", "nudge"),
    [
        (into_the_images, "images.clone()"),
        (lambda i: i, "Most images come back as they were"),
        (lambda i: i.clone(), "Most images come back as they were"),
        (lambda i: torch.zeros_like(i), "All images come back alike"),
        (lambda i: i + 0.5, "between 0 and 1"),
        (lambda i: i - 0.5, "between 0 and 1"),
        (lambda i: i.squeeze(1), "(1, 1, 28, 28) is wanted"),
        (lambda i: i[..., 2:-2, 2:-2], "(1, 1, 28, 28) is wanted"),
        (lambda i: i.double() / 2, "32-bit numbers"),
        (lambda i: i.numpy() / 2, "32-bit numbers"),
        (lambda i: i / 0, "holds NaN"),
        (lambda i: torch.zeros(1).expand(10**6, 10**6), "(1, 1, 28, 28) is wanted"),
        (lambda i: None, "returns nothing yet"),
        (lambda: 0, "cannot be called"),
        (broken, "out of order"),
        ("grey", "A function is wanted"),
    ],
)
def test_a_damage_is_not(function, nudge, networks, sample):
    before = sample.test.images.clone()
    left = dict.fromkeys(networks, 0.5)
    assert_nudged(check("4.5", function, left, networks, sample), nudge)
    assert torch.equal(sample.test.images, before)


def test_what_is_left_is_checked_too(networks, sample):
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
        (left | {"cnn": HUGE}, "far more"),
        ([*left.values()], "under its name"),
        (None, "None"),
    ]:
        assert_nudged(check("4.5", grey_square, answer, networks, sample), nudge)


def test_accuracies_that_are_alike_have_not_changed_places(networks, sample, monkeypatch):
    monkeypatch.setattr(chapter_4, "_accuracies", lambda *arguments: [0.5, 0.502])
    answer = {"cnn": 0.5045, "dilated_cnn": 0.5}
    feedback = check("4.5", grey_square, answer, networks, sample)
    assert_nudged(feedback, "the accuracies are off")
