import numpy as np
import pytest
import torch

from fmnist_lib.training.augmentation import augment


def candidates(image, shift, flip):
    """Cut every image that may come out of a padded one, with NumPy."""
    padded = np.pad(image, shift)
    for top in range(2 * shift + 1):
        for left in range(2 * shift + 1):
            cut = padded[top : top + 28, left : left + 28]
            yield cut
            if flip:
                yield cut[:, ::-1]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("shift", [0, 1, 2])
def test_every_image_is_moved_or_mirrored_and_all_ways_occur(shift, flip):
    image = torch.rand(28, 28)
    batch = image.expand(600, 1, 28, 28).clone()
    before = batch.clone()
    out = augment(batch, shift, flip, torch.Generator().manual_seed(0))
    assert out.shape == batch.shape
    assert batch.equal(before)
    allowed = {cut.tobytes() for cut in candidates(image.numpy(), shift, flip)}
    assert {one.numpy().tobytes() for one in out[:, 0]} == allowed


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
