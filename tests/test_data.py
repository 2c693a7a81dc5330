import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch.utils.data import DataLoader

from fmnist_lib.data import (
    CLASS_NAMES,
    SAMPLE_FILE,
    Split,
    load_fashion_mnist,
    nearest_neighbours,
)


def test_the_sample_needs_no_data_and_no_network(monkeypatch):
    monkeypatch.setattr("fmnist_lib.data.find_data", lambda root: pytest.fail("looked for data"))
    assert len(load_fashion_mnist(sample=True).train) == 800


def test_the_sample_has_the_promised_form(sample):
    sizes = {"train": 800, "validation": 200, "test": 500}
    for name, size in sizes.items():
        split = getattr(sample, name)
        assert split.images.shape == (size, 1, 28, 28)
        assert split.images.dtype == torch.float32
        assert split.images.min() == 0
        assert split.images.max() == 1
        assert split.labels.dtype == torch.int64
        assert split.labels.bincount().tolist() == [size // 10] * len(CLASS_NAMES)


@pytest.mark.real_data
def test_the_shipped_sample_is_what_its_script_makes(full_data, tmp_path, load_script):
    load_script("benchmarks/make_sample.py").make_sample(full_data, tmp_path / "sample.npz")
    with np.load(tmp_path / "sample.npz") as made, np.load(SAMPLE_FILE) as shipped:
        assert made.files == shipped.files
        for name in made.files:
            assert np.array_equal(made[name], shipped[name])


@pytest.mark.real_data
def test_the_splits(full_data):
    sizes = [len(s) for s in (full_data.train, full_data.validation, full_data.test)]
    assert sizes == [48_000, 12_000, 10_000]
    # The first label of each part, as published: an ankle boot opens both official files.
    assert full_data.train.labels[0] == full_data.test.labels[0] == 9
    assert full_data.test.labels.bincount().tolist() == [1000] * 10
    both = torch.cat([full_data.train.labels, full_data.validation.labels])
    assert both.bincount().tolist() == [6000] * 10
    # Mean and standard deviation of the official training images, as quoted everywhere.
    pixels = torch.cat([full_data.train.images, full_data.validation.images])
    assert pixels.mean().item() == pytest.approx(0.2860, abs=5e-5)
    assert pixels.std().item() == pytest.approx(0.3530, abs=5e-5)


IMAGES, LABELS = torch.zeros(3, 1, 28, 28), torch.tensor([0, 9, 5])


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES[:, 0], LABELS, r"images are \(3, 28, 28\) torch.float32, expected .* \(N, 1"),
        (IMAGES[0], LABELS, r"images are \(1, 28, 28\) .* as in images\[:1\]"),
        (IMAGES.byte(), LABELS, "torch.uint8, expected"),
        (IMAGES.numpy(), LABELS, "images are a ndarray, expected a Tensor"),
        (IMAGES + 255, LABELS, "images go from 255 to 255, .* dividing 8-bit pixels by 255"),
        (IMAGES - 0.1, LABELS, "images go from -0.1 to -0.1, expected"),
        (IMAGES + float("nan"), LABELS, "images go from nan to nan, expected finite"),
        (IMAGES, LABELS[:2], r"labels are \(2,\)"),
        (IMAGES, LABELS.float(), "float32, expected .* whole numbers"),
        (IMAGES, LABELS.int(), "torch.int32, expected .* torch.int64"),
        (IMAGES, LABELS.numpy(), "int64, expected a Tensor of torch.int64"),
        (IMAGES, LABELS - 1, "labels go from -1 to 8, expected .* 0 to 9"),
        (IMAGES, LABELS + 1, "labels go from 1 to 10, expected .* 0 to 9"),
    ],
)
def test_a_split_refuses_what_is_not_images_with_labels(images, labels, message):
    with pytest.raises(ValueError, match=message):
        Split(images, labels)


def test_the_class_names_come_with_a_split():
    letters = Split(IMAGES, LABELS + 16, tuple("abcdefghijklmnopqrstuvwxyz"))
    assert letters[1:].to("cpu").class_names == letters.class_names
    with pytest.raises(ValueError, match="expected class indices from 0 to 9"):
        Split(IMAGES, LABELS + 16)


def test_a_description_depends_on_the_numbers_alone(sample):
    part = sample.train[:5]
    images = part.images.clone().contiguous(memory_format=torch.channels_last).requires_grad_()
    assert Split(images, part.labels).describe() == part.describe()


def test_a_part_of_a_split_is_a_split(sample):
    part = sample.train[10:20]
    assert part.images.equal(sample.train.images[10:20])
    assert part.labels.equal(sample.train.labels[10:20])
    assert len(sample.train[sample.train.labels == 6]) == 80


def test_a_split_is_a_data_set_for_pytorch(sample):
    part = sample.train[:10]
    images, labels = zip(*part, strict=True)
    assert torch.stack(images).equal(part.images)
    assert list(labels) == part.labels.tolist()
    (images, labels), *_, last = DataLoader(part, batch_size=4)
    assert images.equal(part.images[:4])
    assert labels.equal(part.labels[:4])
    assert len(last[1]) == 2


def test_nearest_neighbours_agree_with_scipy(sample):
    images = sample.train.images[:200]
    pixels = images.flatten(1).double().numpy()
    distances = cdist(pixels, pixels)
    np.fill_diagonal(distances, np.inf)
    distance, index = nearest_neighbours(images)
    assert index.tolist() == distances.argmin(axis=1).tolist()
    assert np.allclose(distance, distances.min(axis=1), atol=1e-3)


def test_a_single_image_has_no_neighbour():
    with pytest.raises(ValueError, match="1, expected a whole number of 2 or more"):
        nearest_neighbours(IMAGES[:1])


def test_equal_images_are_neighbours_at_distance_zero(sample):
    images = sample.train.images[:200]
    distance, index = nearest_neighbours(torch.cat([images, images]))
    assert not distance.any()
    assert index.equal((torch.arange(400) + 200) % 400)
