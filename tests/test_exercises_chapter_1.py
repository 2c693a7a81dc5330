"""The checks of chapter 1: right answers in every form, wrong turns, and kind words for them."""

import numpy as np
import pytest
import torch
from nudges import HUGE

from fmnist_lib.course.exercises import check
from fmnist_lib.data import FashionMNIST, Split


@pytest.fixture(scope="module")
def data(sample):
    """Training and validation images that are as many as the chapter's exercises take."""

    def repeated(part, n):
        noise = torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(n))
        at = torch.arange(n) % len(part)
        return Split(0.9 * part.images[at] + 0.1 * noise, part.labels[at])

    return FashionMNIST(
        repeated(sample.train, 2100), repeated(sample.validation, 2100), sample.test
    )


@pytest.mark.parametrize("answer", [32, 32.0, torch.tensor(32), np.array([32]), np.int8(32)])
def test_the_last_batch(answer):
    assert check("1.1", answer)


@pytest.mark.parametrize(
    ("answer", "nudge"),
    [
        (0, "at least one"),
        (-28, "at least one"),
        (64, "more than 60,000"),
        (96, "No batch holds more than 64"),
        (31, "937 batches before it"),
        (937.5, "whole number"),
        (HUGE, "far more"),
        (float("nan"), "NaN"),
        ("thirty-two", "text"),
    ],
)
def test_the_last_batch_is_not(answer, nudge):
    feedback = check("1.1", answer)
    assert not feedback
    assert nudge in feedback.words
    assert "32" not in feedback.words


def test_the_mean_loss_is_that_over_images():
    losses = torch.full((60_000,), 0.5, dtype=torch.float64)
    losses[-32:] = 2.0
    for answer in (losses.mean(), losses.numpy().mean(), float(losses.sum() / 60_000)):
        assert check("1.2", answer)


@pytest.mark.parametrize(
    ("answer", "nudge"),
    [
        (np.mean([0.5] * 937 + [2.0]), "mean over batches"),
        (1.25, "937 batches"),
        (0.4, "No batch has a loss as low"),
        (0.6, "divide once by their number"),
        (0.5, "with all its decimals"),
        (0.501, "with all its decimals"),
        (0.502, "as many as each batch really holds"),
        (None, "None"),
        ([0.5, 2.0], "One number"),
    ],
)
def test_the_mean_loss_is_not(answer, nudge):
    feedback = check("1.2", answer)
    assert not feedback
    assert nudge in feedback.words
    assert "0.5008" not in feedback.words


def by_broadcasting(images, means):
    return (images[:, None] - means[None]).square().sum(dim=(2, 3, 4)).argmin(dim=1).tolist()


def by_loop(images, means):
    return np.array([int((image - means).flatten(1).norm(dim=1).argmin()) for image in images])


def by_cdist(images, means):
    return torch.cdist(images.flatten(1), means.flatten(1)).argmin(dim=1)


def by_class(images, means):
    distances = [(images - means[k]).flatten(1).norm(dim=1) for k in range(10)]
    return torch.stack(distances).argmin(dim=0)


def in_a_column(images, means):
    return torch.cdist(images.flatten(1), means.flatten(1)).argmin(dim=1, keepdim=True)


@pytest.fixture(scope="module")
def share(data):
    train, validation = data.train, data.validation
    means = torch.stack([train.images[train.labels == k].mean(dim=0) for k in range(10)])
    return (by_cdist(validation.images, means) == validation.labels).float().mean()


@pytest.mark.parametrize("function", [by_broadcasting, by_loop, by_cdist, by_class, in_a_column])
def test_the_nearest_mean_however_written(function, share, data):
    assert check("1.3", function, share, data)
    assert check("1.3", function, share.item() + 0.004, data)  # two decimals will do


@pytest.mark.parametrize(
    ("function", "nudge"),
    [
        (lambda i, m: torch.cdist(i.flatten(1), m.flatten(1)), "a number for each image and each"),
        (lambda i, m: torch.cdist(i.flatten(1), m.flatten(1)).argmax(1), "farthest"),
        (lambda i, m: torch.cdist(i.flatten(1), m.flatten(1)).argmin(0), "(50,) is wanted"),
        (lambda i, m: torch.zeros(50), "does not find that mean"),
        (lambda i, m: (i.flatten(1) @ m.flatten(1).T).argmax(1), "does not find that mean"),
        (lambda i, m: by_cdist(i, m) + 1, "count them from 0"),
        (lambda i, m: ["Shirt"] * 50, "does not hold real numbers"),
        (lambda i, m: torch.full((50,), torch.nan), "NaN"),
        (lambda i, m: HUGE, "far more"),
        (lambda i, m: i @ m, "stopped with RuntimeError"),
        (lambda i: 0, "cannot be called"),
        (lambda i, m: None, "returns nothing yet"),
        ("nearest", "A function is wanted"),
        (HUGE, "A function is wanted"),
    ],
)
def test_the_nearest_mean_is_not(function, nudge, share, data):
    feedback = check("1.3", function, share, data)
    assert not feedback
    assert nudge in feedback.words


def test_the_share_of_the_nearest_mean_is_checked_too(share, data):
    assert "between 0 and 1" in check("1.3", by_cdist, 100 * share, data).words
    words = check("1.3", by_cdist, share - 0.1, data).words
    assert "The function is right" in words
    assert "Is the distance Euclidean?" in words


@pytest.fixture(scope="module")
def closest(data):
    late, early = data.train.images[-2000:], data.validation.images[:2000]
    return torch.cdist(early.flatten(1), late.flatten(1)).min(dim=1)


def test_doubles(closest, data):
    distances, nearest = closest
    assert check("1.4", nearest, distances, data)
    assert check("1.4", nearest.tolist(), distances.numpy(), data)
    assert check("1.4", nearest[:, None].numpy(), distances[:, None], data)


def test_doubles_wrong_turns(closest, data):
    distances, nearest = closest
    late, early = data.train.images[-2000:], data.validation.images[:2000]
    backwards = torch.cdist(late.flatten(1), early.flatten(1)).min(dim=1)
    first = torch.cdist(early.flatten(1), data.train.images[:2000].flatten(1)).min(dim=1)
    for answer, nudge in [
        ((nearest, distances**2), "take the root"),
        ((nearest, -distances), "never negative"),
        ((backwards.indices, backwards.values), "the other way round"),
        ((first.indices, first.values), "Some distances are off"),
        ((nearest + 100, distances), "count within the last 2,000"),
        ((nearest.flip(0), distances), "do not belong to them"),
        ((distances, nearest), "have changed places. min gives the values first"),
        ((distances, distances), "have changed places"),
        ((nearest, distances + 1), "Is the distance Euclidean?"),
        ((nearest + 0.5, distances), "An index is a whole number"),
        ((nearest[:10], distances[:10]), "(2000,) is wanted"),
        ((HUGE, HUGE), "(2000,) is wanted"),
        ((nearest, None), "(distances) is None"),
    ]:
        feedback = check("1.4", *answer, data)
        assert not feedback
        assert nudge in feedback.words


def test_doubles_need_all_images(closest, sample):
    distances, nearest = closest
    assert "these data are a sample" in check("1.4", nearest, distances, sample).words
