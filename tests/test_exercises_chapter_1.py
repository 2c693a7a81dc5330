"""The checks of chapter 1: right answers however found, and words for likely mistakes."""

import numpy as np
import pytest
import torch
from nudges import assert_nudged

from fmnist_lib.course.exercises import check
from fmnist_lib.data import FashionMNIST, Split


@pytest.fixture(scope="module")
def data(sample):
    """As many training and validation images as the chapter's exercises take."""

    def repeated(part, n):
        noise = torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(n))
        at = torch.arange(n) % len(part)
        return Split(0.9 * part.images[at] + 0.1 * noise, part.labels[at])

    return FashionMNIST(
        repeated(sample.train, 2100), repeated(sample.validation, 2100), sample.test
    )


def test_the_last_batch_and_the_mean_loss():
    assert check("1.1", len(list(torch.arange(60_000).split(64))[-1]))
    losses = torch.full((60_000,), 0.5, dtype=torch.float64)
    losses[-32:] = 2.0
    assert check("1.2", losses.mean())
    assert check("1.2", losses.float().mean())


@pytest.mark.parametrize(
    ("number", "answer", "nudge"),
    [
        ("1.1", 64, "more than 60,000"),
        ("1.1", 31, "937 batches before it"),
        ("1.2", np.mean([0.5] * 937 + [2.0]), "mean over batches"),
        ("1.2", 0.501, "Give all decimals"),
        ("1.2", 0.502, "as many as each batch holds"),
    ],
)
def test_the_last_batch_and_the_mean_loss_are_not(number, answer, nudge):
    assert_nudged(number, answer, nudge=nudge)


def by_broadcasting(images, means):
    return (images[:, None] - means[None]).square().sum(dim=(2, 3, 4)).argmin(dim=1).tolist()


def distances_to(images, means):
    return torch.cdist(images.flatten(1), means.flatten(1))


def in_a_column(images, means):
    return distances_to(images, means).argmin(dim=1, keepdim=True)


@pytest.fixture(scope="module")
def share(data):
    train, validation = data.train, data.validation
    means = torch.stack([train.images[train.labels == k].mean(dim=0) for k in range(10)])
    return (
        (distances_to(validation.images, means).argmin(dim=1) == validation.labels).float().mean()
    )


@pytest.mark.parametrize("function", [by_broadcasting, in_a_column])
def test_the_nearest_mean(function, share, data):
    assert check("1.3", function, share, data)
    assert check("1.3", function, share.item() + 0.004, data)  # two decimals will do


@pytest.mark.parametrize(
    ("function", "nudge"),
    [
        (distances_to, "shape (50, 10), but should have"),
        (lambda i, m: (i.flatten(1) @ m.flatten(1).T).argmax(1), "does not find it"),
    ],
)
def test_the_nearest_mean_is_not(function, nudge, share, data):
    assert_nudged("1.3", function, share, data, nudge=nudge)
    nudge = "The function is right, the share is not"
    assert_nudged("1.3", by_broadcasting, share - 0.1, data, nudge=nudge)


def test_doubles(data, sample):
    late, early = data.train.images[-2000:], data.validation.images[:2000]
    distances, nearest = distances_to(early, late).min(dim=1)
    assert check("1.4", nearest, distances, data)
    assert check("1.4", nearest.tolist(), distances[:, None].numpy(), data)
    backwards = distances_to(late, early).min(dim=1)
    for answers, nudge in [
        ((nearest, distances**2), "take the root"),
        ((backwards.indices, backwards.values), "each validation image look for"),
        ((distances, nearest), "min gives the values first"),
        ((nearest + 100, distances), "count within the last 2,000"),
        ((nearest.flip(0), distances), "does not match"),
    ]:
        assert_nudged("1.4", *answers, data, nudge=nudge)
    assert_nudged("1.4", nearest, distances, sample, nudge="this is a sample with fewer")
