import numpy as np
import pytest
import torch
from scipy import ndimage

from fmnist_lib.evaluation import CORRUPTIONS, accuracy, accuracy_under_corruption, corrupt, predict
from fmnist_lib.models import build_model

each_kind = pytest.mark.parametrize("kind", CORRUPTIONS)


@pytest.fixture
def images(sample):
    return sample.test.images[:40]


@each_kind
def test_damage_grows_and_leaves_the_images_given_as_they_are(kind, images):
    before, damage = images.clone(), []
    for strength in range(6):
        damaged = corrupt(images, kind, strength)
        assert damaged.shape == images.shape
        assert damaged.dtype == torch.float32
        assert 0 <= damaged.min() <= damaged.max() <= 1
        assert damaged.equal(corrupt(images, kind, strength))
        damage.append((damaged - images).abs().mean().item())
    assert images.equal(before)
    assert damage[0] == 0
    assert damage == sorted(damage)
    assert len(set(damage)) == 6


def test_shifts_go_in_four_directions_in_turn(images):
    damaged = corrupt(images, "shift", 3).numpy()[:, 0]
    directions = [(0, 3), (0, -3), (3, 0), (-3, 0)]  # rows, columns
    for k, (image, moved) in enumerate(zip(images.numpy()[:, 0], damaged, strict=True)):
        assert np.allclose(moved, ndimage.shift(image, directions[k % 4], order=0), atol=1e-6)


def test_rotations_turn_left_and_right_in_turn(images):
    for k, moved in enumerate(corrupt(images, "rotation", 4).numpy()[:, 0]):
        angle = 24 if k % 2 == 0 else -24
        oracle = ndimage.rotate(images[k, 0].numpy(), angle, reshape=False, order=1)
        # Both interpolate linearly, and differ at the edge of the picture.
        assert np.abs(moved - oracle)[4:-4, 4:-4].max() < 0.02


def test_blur_is_gaussian(images):
    for strength, deviation in enumerate(CORRUPTIONS["blur"].values, start=1):
        blurred = corrupt(images, "blur", strength).numpy()[:, 0]
        for image, result in zip(images.numpy()[:, 0], blurred, strict=True):
            oracle = ndimage.gaussian_filter(image, deviation, mode="mirror", truncate=3.0)
            assert np.abs(result - oracle).max() < 0.02


def test_noise_has_its_standard_deviation():
    grey = torch.full((50, 1, 28, 28), 0.5)
    for strength, deviation in enumerate(CORRUPTIONS["noise"].values[:3], start=1):
        assert corrupt(grey, "noise", strength).std().item() == pytest.approx(deviation, rel=0.05)


def test_contrast_moves_every_pixel_towards_the_mean(images):
    damaged = corrupt(images, "contrast", 5)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    assert torch.allclose(damaged, (mean + (images - mean) * 0.5).clamp(0, 1), atol=1e-6)


def test_the_table_holds_each_model_at_each_strength(sample):
    models = {"one": build_model("cnn", seed=0), "two": build_model("dilated_cnn", seed=1)}
    test = sample.test[:100]
    table = accuracy_under_corruption(models, test)
    assert list(table) == ["corruption", "strength", "value", "one", "two"]
    assert table["strength"].tolist() == [0, 1, 2, 3, 4, 5] * len(CORRUPTIONS)
    for row in table.iloc[[0, 9, 24]].itertuples():
        damaged = corrupt(test.images, row.corruption, row.strength)
        assert row.two == accuracy(test.labels, predict(models["two"], damaged).argmax(axis=1))


@each_kind
@pytest.mark.parametrize("strength", range(6))
def test_damaged_images_stay_between_black_and_white(kind, strength):
    """Exactly, for images that are a rounding error outside, too."""
    noise = torch.rand((200, 1, 28, 28), generator=torch.Generator().manual_seed(0)).round()
    damaged = corrupt(noise * 1.0008 - 0.0004, kind, strength)
    assert 0 <= damaged.min() <= damaged.max() <= 1


def test_unknown_damage_is_refused(images):
    for kind in ("fog", ["blur"]):
        with pytest.raises(ValueError, match=r"no kind .* [iI]t has shift, rotation"):
            corrupt(images, kind, 1)
    for strength in (-1, 6, 1.5, 2.0, "2", True):
        with pytest.raises(ValueError, match=r"strength is .+, expected .* from 0 to 5"):
            corrupt(images, "blur", strength)
    for wrong in (images * 255, images.double(), images[0], images.numpy(), images * torch.nan):
        with pytest.raises(ValueError, match=r"images .+ expected"):
            corrupt(wrong, "blur", 1)


@pytest.mark.parametrize("name", ["corruption", "strength", "value"])
def test_models_are_named_unlike_the_columns(sample, name):
    model = build_model("cnn", seed=0)
    with pytest.raises(
        ValueError, match=rf"models is \['one', '{name}'\], expected a dict whose keys"
    ):
        accuracy_under_corruption({"one": model, name: model}, sample.test[:4])
    with pytest.raises(ValueError, match="models is 'ConvNet', expected a dict"):
        accuracy_under_corruption(model, sample.test[:4])
