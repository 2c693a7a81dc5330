import pytest
import torch
from torch import nn

from fmnist_lib.inspection import (
    count_parameters,
    device_of,
    effective_field,
    evaluating,
    input_gradient,
    layer_table,
    multiply_adds,
    receptive_field,
)
from fmnist_lib.models import DilatedConvNet, build_model

SHAPES = {
    "cnn": "16×28×28 16×28×28 16×14×14 32×12×12 32×12×12 32×6×6 1152 256 256 128 128 10",
    "dilated_cnn": "16×26×26 16×26×26 16×13×13 32×9×9 32×9×9 32×4×4 512 256 256 128 128 10",
}


@pytest.mark.parametrize(("name", "n"), [("cnn", 334_154), ("dilated_cnn", 170_314)])
def test_parameter_counts(name, n):
    assert count_parameters(build_model(name)) == n


@pytest.mark.parametrize("name", SHAPES)
def test_layer_inventory(name):
    table = layer_table(build_model(name))
    assert table["output"].tolist() == SHAPES[name].split()
    kinds = [layer.split()[0] for layer in table["layer"]]
    features = ["Conv2d", "ReLU", "AvgPool2d"] * 2
    assert kinds == [*features, "Flatten", "Linear", "ReLU", "Linear", "ReLU", "Linear"]
    assert table["parameters"].sum() == count_parameters(build_model(name))
    assert table["parameters"][0] == 16 * (9 + 1)


def test_layers_are_described_by_what_is_not_usual():
    table = layer_table(build_model("dilated_cnn").to("meta"))  # it follows the model to its device
    assert table["layer"][0] == "Conv2d 1→16, 3×3, padding 1, dilation 2"
    assert table["layer"][2] == "AvgPool2d 2×2"
    assert table["layer"][3] == "Conv2d 16→32, 3×3, dilation 2"
    assert table["layer"][7] == "Linear 512→256"


@pytest.mark.parametrize("look", [layer_table, multiply_adds])
def test_looking_at_a_model_leaves_it_and_the_generator_as_they_were(look):
    """With layers that training mode changes, refuses for one image, or draws numbers for."""
    layers = nn.Flatten(), nn.Linear(784, 5), nn.BatchNorm1d(5), nn.Dropout(), nn.Dropout().eval()
    model = nn.Sequential(*layers)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    look(model)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert torch.get_rng_state().equal(generator)
    assert [layer.training for layer in model] == [True, True, True, True, False]


def test_a_model_without_parameters_computes_on_the_cpu():
    assert device_of(nn.Flatten()) == torch.device("cpu")


def test_evaluation_mode_ends_after_an_error_too():
    layer = nn.Dropout()
    with pytest.raises(ValueError, match="no network"), evaluating(layer):
        build_model("none")
    assert layer.training


def test_frozen_parameters_do_not_count():
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    assert count_parameters(layer) == 6


@pytest.mark.parametrize("name", SHAPES)
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
        with pytest.raises(ValueError, match=r"seed is .*, expected a whole number of 0 or more"):
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


@pytest.mark.parametrize(
    ("name", "sizes"), [("cnn", [3, 4, 8, 10]), ("dilated_cnn", [5, 6, 14, 16])]
)
def test_receptive_field_agrees_with_gradients(name, sizes):
    features = build_model(name, seed=0).features
    field = receptive_field(features)
    assert field["size"].tolist() == sizes
    assert field["step"].tolist() == [1, 2, 2, 4]
    noise = torch.rand(64, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    gradient = input_gradient(features, noise, unit=(2, 2))
    assert gradient.shape == (28, 28)
    for axis in (0, 1):
        seen = gradient.sum(dim=axis).nonzero().flatten()
        low, high = seen.min().item(), seen.max().item()
        # The unit may look over the edge of the image, onto the padding.
        assert high - low + 1 == sizes[-1] - max(0, high - 27)


def test_receptive_field_of_strides_and_rectangular_notation():
    features = nn.Sequential(nn.Conv2d(1, 1, (5, 5), stride=(2, 2)), nn.ReLU(), nn.MaxPool2d(3))
    field = receptive_field(features)
    assert field["size"].tolist() == [5, 9]
    assert field["step"].tolist() == [2, 6]


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


def test_multiply_adds_by_hand():
    classifier = 256 * 128 + 128 * 10
    plain = 28 * 28 * 16 * 9 + 12 * 12 * 32 * 16 * 9 + 32 * 6 * 6 * 256 + classifier
    dilated = 26 * 26 * 16 * 9 + 9 * 9 * 32 * 16 * 9 + 32 * 4 * 4 * 256 + classifier
    assert multiply_adds(build_model("cnn")) == plain
    assert multiply_adds(build_model("dilated_cnn")) == dilated


@pytest.mark.parametrize(
    ("share", "side"), [(1.0, 5), (0.37, 5), (9 / 25, 3), (0.05, 3), (1 / 25, 1)]
)
def test_the_effective_field_holds_its_share(share, side):
    gradient = torch.zeros(28, 28)
    gradient[4:9, 11:16] = 0.7
    assert effective_field(gradient, share) == side


def test_an_effective_field_of_nothing_is_refused():
    with pytest.raises(ValueError, match="gradient is zero everywhere"):
        effective_field(torch.zeros(5, 5))
