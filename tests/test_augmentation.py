import numpy as np
import pytest
import torch

from fmnist_lib.training.augmentation import augment


def candidates(image, shift, flip):
    """Cut every image that may come out of a padded one (C, H, W), with NumPy."""
    _, height, width = image.shape
    padded = np.pad(image, ((0, 0), (shift, shift), (shift, shift)))
    for top in range(2 * shift + 1):
        for left in range(2 * shift + 1):
            cut = padded[:, top : top + height, left : left + width]
            yield cut
            if flip:
                yield cut[:, :, ::-1]


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 5, 9), (2, 9, 5)])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("shift", [0, 1, 2])
def test_every_image_is_moved_or_mirrored_and_all_ways_occur(shift, flip, shape):
    image = torch.rand(shape)
    batch = image.repeat(600, 1, 1, 1)
    before = batch.clone()
    out = augment(batch, shift, flip, torch.Generator().manual_seed(0))
    assert out.shape == batch.shape
    assert batch.equal(before)
    allowed = {cut.tobytes() for cut in candidates(image.numpy(), shift, flip)}
    assert {one.numpy().tobytes() for one in out} == allowed
    assert out.is_contiguous()


def test_about_half_of_the_images_are_mirrored_and_none_is_changed_unasked():
    batch = torch.arange(28.0).expand(2000, 1, 28, 28)
    assert augment(batch).equal(batch)
    out = augment(batch, flip=True, generator=torch.Generator().manual_seed(0))
    mirrored = (out[:, 0, 0, 0] == 27).sum().item()
    assert 913 < mirrored < 1087  # within four standard deviations of 1000


@pytest.mark.parametrize(
    ("shape", "shift", "found"),
    [
        ((28, 28), 1, r"images are \(28, 28\), expected \(N, C, H, W\)"),
        ((5, 28, 28), 1, r"images are \(5, 28, 28\)"),
        ((5, 1, 28, 28), -1, "shift is -1, expected a whole number"),
        ((5, 1, 28, 28), 1.5, "shift is 1.5"),
        ((5, 1, 28, 28), "1", "shift is '1'"),
        ((5, 1, 28, 28), True, "shift is True"),
    ],
)
def test_what_cannot_be_moved_is_refused(shape, shift, found):
    with pytest.raises(ValueError, match=found):
        augment(torch.rand(shape), shift)


def test_nothing_changes_unless_asked_and_half_are_mirrored():
    batch = torch.rand(28, 28).expand(1000, 1, 28, 28)
    assert augment(batch).equal(batch)
    assert augment(batch.to("meta"), 1, True).is_meta  # on the device of the images
    out = augment(batch, flip=True, generator=torch.Generator().manual_seed(0))
    assert 450 < (out != batch).any(3).any(2).sum() < 550


def test_images_stay_with_their_own():
    batch = torch.arange(5.0)[:, None, None, None].expand(5, 1, 28, 28)
    out = augment(batch, 2, True)
    assert out[:, 0, 14, 14].equal(torch.arange(5.0))


def test_the_generator_decides():
    batch = torch.rand(50, 1, 28, 28)
    one, same, other = (
        augment(batch, 2, True, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert one.equal(same)
    assert not one.equal(other)
