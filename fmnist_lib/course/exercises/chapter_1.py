"""Checks of chapter 1, looking at the data."""

import torch

from fmnist_lib.course.exercises.answers import call, number, read_array, require, whole_number
from fmnist_lib.course.exercises.feedback import exercise


@exercise("1.1")
def last_batch(last_batch):
    """Check the number of images in the last of 938 batches."""
    images = whole_number(last_batch, "the number of images")
    require(images > 0, "A batch that was made holds at least one image.")
    require(images != 64, "If the last batch were full, 938 batches would hold more than 60,000.")
    require(images < 64, "No batch holds more than 64 images.")
    require(images == 60_000 % 64, "Count the images in the 937 batches before it. What is left?")
    return "A batch that is not full must not count as much as one that is: see the next exercise."


@exercise("1.2")
def mean_loss(mean_loss):
    """Check a mean over images, of batches that are not of one size."""
    loss = number(mean_loss, "the mean loss")
    over_batches = (937 * 0.5 + 1 * 2.0) / 938
    over_images = (937 * 64 * 0.5 + 32 * 2.0) / 60_000
    require(loss >= 0.5, "No batch has a loss as low as that, so no mean can be.")
    require(
        not 0.5 <= loss == round(loss, 3) <= 0.501,
        "Give it with all its decimals: rounded so far, the last batch can hardly be seen.",
    )
    require(
        abs(loss - over_batches) > 1e-6,
        "This is the mean over batches: the images of the last batch count twice in it. How many "
        "images stand behind each of the losses?",
    )
    require(abs(loss - 1.25) > 1e-6, "There are 937 batches of the one kind and one of the other.")
    require(
        abs(loss - over_images) < 1e-6,
        "Sum the losses of all images, as many as each batch really holds, and divide once by "
        "their number.",
    )
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
    given = read_array(given, "what your function returns")
    require(
        given.shape != (50, 10),
        "Your function returns a number for each image and each mean. Which of the means does an "
        "image belong to?",
    )
    given = _one_each(given, "what your function returns for 50 images", 50)
    farthest = torch.cdist(images.flatten(1), means.flatten(1)).argmax(dim=1)
    require((given != farthest.numpy()).any(), "These are the means that are farthest away.")
    require(
        (given == truth.numpy()).all(),
        "Tried on images that lie near one mean each, your function does not find that mean. Is "
        "the distance taken over all pixels of an image? Does it use the means that it is given, "
        "and count them from 0?",
    )
    share = number(share_right, "the share of right answers")
    require(share <= 1, "A share lies between 0 and 1.")
    train, validation = data.train, data.validation
    by_class = [train.images[train.labels == k].mean(dim=0) for k in range(10)]
    distances = torch.cdist(validation.images.flatten(1), torch.stack(by_class).flatten(1))
    expected = (distances.argmin(dim=1) == validation.labels).double().mean().item()
    require(
        abs(share - expected) < 5e-3,
        "The function is right, the share is not: take the means of the training images, and "
        "compare what the function says of all validation images with their labels. Is the "
        "distance Euclidean?",
    )
    return "One mean for each class is too coarse to beat the nearest neighbour."


@exercise("1.4")
def doubles(nearest, distances, data):
    """Check the nearest training image of each of 2,000 validation images."""
    train, validation = data.train.images[-2000:], data.validation.images[:2000]
    require(
        len(train) == len(validation) == 2000,
        "This exercise takes 2,000 images of each part, and these data are a sample with fewer: "
        "load all of them.",
    )
    wanted = torch.cdist(validation.flatten(1), train.flatten(1)).min(dim=1)
    found = _one_each(distances, "distances", 2000)
    indices = _one_each(nearest, "nearest", 2000)
    require(
        abs(indices - wanted.values.numpy()).max() > 1e-2,
        "nearest holds the distances: the two have changed places. min gives the values first.",
    )
    require((found >= 0).all(), "A distance is never negative.")
    squared = abs(found - wanted.values.square().numpy()).max() < 1e-2
    require(not squared, "These are the squares of the distances: take the root.")
    backwards = torch.cdist(train.flatten(1), validation.flatten(1)).min(dim=1).values
    require(
        abs(found - backwards.numpy()).max() > 1e-2,
        "These are distances from each training image to the validation images. It is the other "
        "way round: each validation image looks for its nearest training image.",
    )
    require(
        abs(found - wanted.values.numpy()).max() < 1e-2,
        "Some distances are off. Is each image one row of 784 numbers, are the training images the "
        "last 2,000 and the validation images the first 2,000? Is the distance Euclidean?",
    )
    require(
        (indices % 1 == 0).all(),
        "The distances are right. An index is a whole number, and nearest holds others.",
    )
    require(
        ((indices >= 0) & (indices < len(train))).all(),
        "The distances are right. The indices are to count within the last 2,000 training images, "
        "from 0 on.",
    )
    apart = (validation - train[torch.as_tensor(indices).long()]).flatten(1).norm(dim=1)
    require(
        (apart - wanted.values).abs().max() < 1e-2,
        "The distances are right, and the indices do not belong to them.",
    )
    return "Draw the closest pairs, and judge for yourself how much they would flatter a network."


def _one_each(answer, name, n):
    # A column (n, 1), as scikit-learn gives it, says the same as a row (n,).
    column = tuple(getattr(answer, "shape", ())) == (n, 1)
    return read_array(answer, name, (n, 1) if column else (n,)).reshape(n)
