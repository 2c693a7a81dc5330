import pytest
import torch
from torch import nn

from fmnist_lib.inspection import count_parameters, layer_table
from fmnist_lib.models import DilatedConvNet, build_model


@pytest.mark.parametrize("name", ["cnn", "dilated_cnn"])
def test_first_weights_are_those_of_the_reference(name):
    weights = build_model(name, seed=0).features[0].weight.flatten()[:3]
    expected = torch.tensor([-0.0024956, 0.1788145, -0.2743484])
    assert torch.allclose(weights, expected, atol=5e-8)


def test_the_seed_decides_about_the_weights():
    first, same, other = (build_model("cnn", seed).state_dict() for seed in (3, 3, 4))
    assert all(first[key].equal(same[key]) for key in first)
    assert not first["features.0.weight"].equal(other["features.0.weight"])


def test_a_seed_leaves_the_random_numbers_alone_and_is_a_whole_number():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    build_model("cnn", seed=0)
    assert torch.get_rng_state().equal(before)
    build_model("cnn")
    assert not torch.get_rng_state().equal(before)
    for seed in (-1, "0", 1.5, True, 2**63):
        with pytest.raises(ValueError, match=r"seed is .*, expected a whole number (of|from) 0"):
            build_model("cnn", seed)


def test_an_unknown_network_is_named():
    with pytest.raises(ValueError, match=r"no network 'resnet'; choose one of cnn, dilated_cnn"):
        build_model("resnet")


def test_dilation_is_a_kernel_with_zeros_in_the_gaps():
    """The whole dilated network against plain convolutions with 5×5 kernels filled with zeros."""
    model = build_model("dilated_cnn", seed=1).double()
    plain = nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(16, 32, 5),
        nn.ReLU(),
        nn.AvgPool2d(2),
    ).double()
    with torch.no_grad():
        for i in (0, 3):
            plain[i].weight.zero_()
            plain[i].weight[..., ::2, ::2] = model.features[i].weight
            plain[i].bias.copy_(model.features[i].bias)
    images = torch.rand(5, 1, 28, 28, dtype=torch.float64)
    assert torch.allclose(model.features(images), plain(images), atol=1e-12)


def test_padding_makes_the_dilated_maps_as_large_as_the_plain_ones():
    plain, padded = build_model("cnn", seed=3), build_model("padded_dilated_cnn", seed=3)
    assert count_parameters(padded) == 334_154
    assert layer_table(padded)["output"].tolist() == layer_table(plain)["output"].tolist()
    # With the same seed, the two start from the same weights: nothing differs but the dilation.
    weights = plain.state_dict()
    assert all(value.equal(weights[name]) for name, value in padded.state_dict().items())
    for layer in (0, 3):
        assert (plain.features[layer].dilation, padded.features[layer].dilation) == ((1, 1), (2, 2))


@pytest.mark.parametrize("padding", [(0, 0), (0, 3), (3, 2), (5, 1)])
def test_the_classifier_fits_any_padding(padding):
    assert DilatedConvNet(padding)(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
