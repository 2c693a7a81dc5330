"""Checks of chapter 1, looking at the data."""

import numpy as np
import torch

from fmnist_lib.course.exercises.answers import RETURNED, call, expect, number, read_array, refuse
from fmnist_lib.course.exercises.feedback import exercise

LAST_BATCH = {64: "If the last batch were full, 938 batches would hold more than 60,000."}


@exercise("1.1")
def last_batch(last_batch):
    """Check the number of images in the last of 938 batches."""
    images = number(last_batch, "the number of images")
    otherwise = "Count the images in the 937 batches before it. What is left?"
    expect(images, 60_000 % 64, LAST_BATCH, otherwise)
    return "A batch that is not full must not count as much as one that is: see the next exercise."


ROUNDED = "Give all decimals: rounded this far, the last batch hardly shows."
MEAN_LOSS = {
    (937 * 0.5 + 1 * 2.0) / 938: "This is the mean over batches, in which the images of the last "
    "batch count twice. How many images stand behind each of the losses?",
    0.5: ROUNDED,
    0.501: ROUNDED,
}


@exercise("1.2")
def mean_loss(mean_loss):
    """Check a mean over images, from batches of different sizes."""
    loss = number(mean_loss, "the mean loss")
    otherwise = "Add up the losses of all images, as many as each batch holds, and divide once."
    expect(loss, (937 * 64 * 0.5 + 32 * 2.0) / 60_000, MEAN_LOSS, otherwise)
    return "Every image counts the same. This is how fit, in the next chapter, averages."


@exercise("1.3")
def nearest_mean(nearest_mean, share_right, data):
    """Check a classifier by mean images, and its accuracy on the validation images."""
    generator = torch.Generator().manual_seed(0)
    # As many as the course has, and of unequal brightness, so that angles are not distances.
    means = torch.rand(10, 1, 28, 28, generator=generator)
    means *= torch.linspace(1, 0.3, 10)[:, None, None, None]
    truth = torch.randint(10, (50,), generator=generator)
    images = means[truth] + 0.1 * torch.rand(50, 1, 28, 28, generator=generator)
    given = call(nearest_mean, images, means)
    expect(
        read_array(given, f"{RETURNED} for 50 images", (50,)),
        truth,
        {},
        "Each image tried lies near one mean, and your function does not find it. Does it measure "
        "over all pixels, use the means that it is given, and count them from 0?",
    )
    train, validation = data.train, data.validation
    by_class = [train.images[train.labels == k].mean(dim=0) for k in range(10)]
    distances = torch.cdist(validation.images.flatten(1), torch.stack(by_class).flatten(1))
    expect(
        number(share_right, "the share of right answers"),
        (distances.argmin(dim=1) == validation.labels).double().mean(),
        {},
        "The function is right, the share is not: take the means of the training images, and "
        "compare the results for all validation images with their labels. Is the distance "
        "Euclidean?",
        atol=5e-3,
    )
    return "One mean for each class is too coarse to beat the nearest neighbour."


@exercise("1.4")
def doubles(nearest, distances, data):
    """Check the nearest training image of each of 2,000 validation images."""
    late, early = data.train.images[-2000:], data.validation.images[:2000]
    refuse(
        min(len(late), len(early)) < 2000
        and "This exercise takes 2,000 images of each part, and this is a sample with fewer: load "
        "the whole data set."
    )
    wanted = torch.cdist(early.flatten(1), late.flatten(1)).min(dim=1).values
    found = read_array(distances, "the array distances", (2000,))
    indices = read_array(nearest, "the array nearest", (2000,))
    refuse(
        abs(indices - wanted.numpy()).max() < 1e-2
        and "nearest holds the distances. Did you swap the two? min gives the values first."
    )
    expect(
        found,
        wanted,
        {wanted.square(): "These are the squares of the distances: take the root."},
        "Some distances are off. Is each image one row of 784 numbers? Are these the last 2,000 "
        "training images and the first 2,000 validation images, and does each validation image "
        "look for its nearest training image? Is the distance Euclidean?",
        atol=1e-2,
    )
    words = (
        "The distances are right, but nearest does not match: it should count within the last "
        "2,000 training images, from 0."
    )
    refuse(not np.isin(indices, np.arange(2000)).all() and words)
    apart = (early - late[torch.as_tensor(indices).long()]).flatten(1).norm(dim=1)
    expect(apart, wanted, {}, words, atol=1e-2)
    return "Draw the closest pairs, and judge for yourself how much they would flatter a network."
