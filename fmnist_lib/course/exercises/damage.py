"""The damage of exercise 4.5, a student's function, tried on images that are still untouched."""

import torch

from fmnist_lib.course.exercises.answers import RETURNED, call, read_array, require
from fmnist_lib.data import first_of_each_class, load_fashion_mnist


def damaged(hide, images):
    """Damage images with a student's function, and see that images come out."""
    given = call(hide, images)
    require(
        isinstance(given, torch.Tensor) and given.dtype == images.dtype,
        "Your function is to return a tensor of 32-bit numbers, like the one that it is given.",
    )
    pixels = read_array(given, RETURNED, tuple(images.shape))
    require(
        pixels.min() >= -1e-6 and pixels.max() <= 1 + 1e-6,
        "Pixels lie between 0 and 1, damaged or not.",
    )
    return given.detach()


def check_damage(hide, test):
    """See that a function damages images, and that it has left the test images as they were."""
    # The student's own cell has used the function already: what it wrote into is spoiled.
    untouched = load_fashion_mnist(sample=True).test
    images = untouched.images.clone()
    damaged(hide, images[:1])
    result = damaged(hide, images)
    call(lambda: hide(images))
    require(
        torch.equal(images, untouched.images),
        "Your function writes into the images that it is given, and so it spoils the test images "
        "themselves. Let it begin with a copy: images.clone(). Then load the data again, since it "
        "is spoiled already.",
    )
    same = test[first_of_each_class(test.labels, 50)]  # unless a run was given other data
    require(
        not torch.equal(same.labels, untouched.labels) or torch.equal(same.images, images),
        "Something has written into the test images. Load them again, "
        "data = load_fashion_mnist(data_dir, sample=sample), and run your cell once more.",
    )
    changed = (result != images).flatten(start_dim=1).any(dim=1)
    require(
        changed.float().mean() >= 0.5,
        "Most images come back as they were. The corners are empty anyway: what lies elsewhere?",
    )
    require(
        len(torch.unique(result, dim=0)) > 1,
        "All images come back alike. Leave something of them to be recognised.",
    )
