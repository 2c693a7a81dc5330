import random
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from itertools import count

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fmnist_lib.evaluation import predict
from fmnist_lib.inspection import (
    ONE_PIXEL,
    count_parameters,
    device_of,
    effective_field,
    evaluating,
    input_gradient,
    layer_table,
    multiply_adds,
    receptive_field,
)
from fmnist_lib.models import build_model

SHAPES = {
    "cnn": "16×28×28 16×28×28 16×14×14 32×12×12 32×12×12 32×6×6 1152 256 256 128 128 10",
    "dilated_cnn": "16×26×26 16×26×26 16×13×13 32×9×9 32×9×9 32×4×4 512 256 256 128 128 10",
}


# ---- receptive fields ----


class RandomFeatures:
    """A network of two channels, and per direction the windows of its layers, first to last."""

    def __init__(self, seed):
        self.draw = random.Random(seed)
        self.windows = []  # of (kernel, stride, padding, dilation), each for rows and columns
        layers = [layer() for layer in self.draw.choices(self.kinds(), k=self.draw.randint(1, 7))]
        while len(layers) > 1 and self.draw.random() < 0.6:
            first, last = sorted(self.draw.sample(range(len(layers) + 1), 2))
            layers[first:last] = [nn.Sequential(*layers[first:last])]
        self.network = nn.Sequential(*layers).double()
        for kernel in (p for p in self.network.parameters() if p.ndim == 4):
            nn.init.ones_(kernel)
        self.pools_by_maximum = any(isinstance(m, nn.MaxPool2d) for m in self.network.modules())

    def kinds(self):
        return [self.convolution] * 3 + [self.average, self.maximum, self.power] + [self.other] * 3

    def setting(self, most, least=1):
        """Draw a number for rows and for columns, and write them in one of PyTorch's ways."""
        if self.draw.random() < 0.5:
            same = self.draw.randint(least, most)
            return (same, same), same
        pair = self.draw.randint(least, most), self.draw.randint(least, most)
        return pair, self.draw.choice([tuple, list])(pair)

    def window(self, kernel, stride, padding=(0, 0), dilation=(1, 1)):
        self.windows.append(list(zip(kernel, stride, padding, dilation, strict=True)))

    def convolution(self):
        (kernel, k), (stride, s), (dilation, d) = self.setting(4), self.setting(2), self.setting(3)
        padding, p = self.setting(3, least=0)
        if self.draw.random() < 0.2:
            stride, s, p = (1, 1), 1, "same"
            padding = tuple(d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True))
        self.window(kernel, stride, padding, dilation)
        return nn.Conv2d(2, 2, k, s, p, d, self.draw.choice([1, 2]), bias=False)

    def pool(self):
        """Draw a kernel, a stride, which may be left out, and a padding that the kernel allows."""
        (kernel, k), (stride, s) = self.setting(3), self.setting(3)
        if self.draw.random() < 0.5:
            stride, s = kernel, None
        padding = tuple(self.draw.randint(0, side // 2) for side in kernel)
        return kernel, k, stride, s, padding, self.draw.random() < 0.3

    def average(self):
        kernel, k, stride, s, padding, ceil = self.pool()
        self.window(kernel, stride, padding)
        return nn.AvgPool2d(k, s, padding, ceil)

    def maximum(self):
        kernel, k, stride, s, padding, ceil = self.pool()
        dilation, d = self.setting(2)
        self.window(kernel, stride, padding, dilation)
        return nn.MaxPool2d(k, s, padding, d, ceil_mode=ceil)

    def power(self):
        kernel, k, stride, s, _, ceil = self.pool()
        self.window(kernel, stride)
        return nn.LPPool2d(self.draw.choice([1, 2]), k, s, ceil)

    def other(self):
        kinds = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.Softplus, nn.Identity, nn.Dropout)
        kinds += (nn.Dropout2d, lambda: nn.BatchNorm2d(2))
        return self.draw.choice(kinds)()

    def place(self, direction):
        """Return the first unit whose view lies inside, and the side of the image it needs.

        From the unit back to the pixels; the image has room for the view of the next unit, too.
        """

        def view(unit):
            low = high = unit
            for window in reversed(self.windows):
                kernel, stride, padding, dilation = window[direction]
                low = low * stride - padding
                high = high * stride - padding + dilation * (kernel - 1)
            return low, high

        unit = next(u for u in count() if view(u)[0] >= 0)
        return unit, view(unit + 1)[1] + 1

    def probes(self, sides):
        """Make images in which each row, or each column, is the brightest thing once.

        So that a maximum cannot hide it. Without maxima, one image says it all.
        """
        dark = torch.rand(1, 2, *sides, dtype=torch.float64) + 0.1
        if not self.pools_by_maximum:
            return dark
        images = dark.repeat(sum(sides), 1, 1, 1)
        for i in range(sides[0]):
            images[i, :, i] += 1e6
        for i in range(sides[1]):
            images[sides[0] + i, :, :, i] += 1e6
        return images


def first_and_last(gradient):
    for axis in (1, 0):
        seen = gradient.sum(dim=axis).nonzero().flatten().tolist()
        yield np.array([seen[0], seen[-1]])


def both(value):
    return value if isinstance(value, tuple) else (value, value)


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # PyTorch copies the images: slow
def test_the_receptive_field_is_what_gradients_say_on_random_networks():
    tried = rectangular = 0
    for seed in count():
        features = RandomFeatures(seed)
        units, sides = zip(*map(features.place, (0, 1)), strict=True)
        if not features.windows or max(sides) > 40:
            continue
        field = receptive_field(features.network).iloc[-1]
        images = features.probes(sides)
        measured = [
            first_and_last(input_gradient(features.network, images, [u + by for u in units]))
            for by in (0, 1)
        ]
        for here, there, size, step in zip(
            *measured, both(field["size"]), both(field["step"]), strict=True
        ):
            assert here[1] - here[0] + 1 == size, features.network
            assert (there - here).tolist() == [step, step], features.network
        rectangular += isinstance(field["size"], tuple)
        tried += 1
        if tried == 600:
            break
    assert rectangular > 200


@pytest.mark.parametrize("kind", ONE_PIXEL)
def test_a_layer_of_one_pixel_hands_nothing_to_its_neighbours(kind):
    layer = (kind(2) if kind is nn.BatchNorm2d else kind()).eval()
    images = torch.rand(1, 2, 5, 7)
    images[:, :, 3, 4] = torch.nan
    assert layer(images).isnan().equal(images.isnan())
    layers = [nn.Conv2d(2, 2, (3, 5)), layer, nn.Conv2d(2, 2, 2)]
    assert receptive_field(nn.Sequential(*layers))["size"].tolist() == [(3, 5), (4, 6)]


@pytest.mark.parametrize(
    ("name", "sizes"), [("cnn", [3, 4, 8, 10]), ("dilated_cnn", [5, 6, 14, 16])]
)
def test_the_receptive_fields_of_the_chapters(name, sizes):
    features = build_model(name, seed=0).features
    field = receptive_field(features)
    assert field["size"].tolist() == sizes
    assert field["step"].tolist() == [1, 2, 2, 4]
    assert field.dtypes[["size", "step"]].tolist() == [np.int64] * 2
    noise = torch.rand(64, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    gradient = input_gradient(features, noise, unit=(2, 2))
    assert gradient.shape == (28, 28)
    # The unit may look over the edge of the image, onto the padding.
    for low, high in first_and_last(gradient):
        assert high - low + 1 == sizes[-1] - max(0, high - 27)


class Twice(nn.Conv2d):
    def forward(self, images):
        return super().forward(images.repeat_interleave(2, dim=-1))


class Residual(nn.Sequential):
    def forward(self, images):
        return images + super().forward(images)


def test_a_single_layer_is_a_stack_of_one():
    assert receptive_field(nn.Conv2d(1, 2, (3, 5)))["size"].tolist() == [(3, 5)]


def test_layers_without_a_kernel_leave_an_empty_table_with_its_columns():
    assert receptive_field(nn.ReLU())["size"].tolist() == []


@pytest.mark.parametrize(
    "layer",
    [
        build_model("cnn"),
        nn.ConvTranspose2d(1, 1, 3, stride=2),
        nn.AdaptiveAvgPool2d(4),
        nn.AdaptiveMaxPool2d(4),
        nn.FractionalMaxPool2d(2, output_size=3),
        nn.Upsample(scale_factor=2),
        nn.PixelShuffle(2),
        nn.PixelUnshuffle(2),
        nn.ZeroPad2d(1),
        nn.Unfold(3),
        nn.Conv1d(1, 1, 3),
        nn.Conv3d(1, 1, 3),
        nn.GroupNorm(1, 1),
        nn.InstanceNorm2d(1),
        nn.LayerNorm(28),
        nn.BatchNorm2d(1, track_running_stats=False),
        nn.Softmax(dim=3),
        nn.GLU(),
        nn.Flatten(),
        nn.Linear(28, 28),
        nn.ModuleList([nn.Conv2d(1, 1, 3)]),
        Twice(1, 1, 3),
        Residual(nn.Conv2d(1, 1, 3, padding=1)),
    ],
    ids=lambda layer: type(layer).__name__,
)
@pytest.mark.parametrize("nested", [False, True])
def test_what_the_formula_does_not_cover_is_refused(layer, nested):
    features = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Sequential(layer)) if nested else layer
    with pytest.raises(ValueError, match=f"not cover {type(layer).__name__}.*input_gradient"):
        receptive_field(features)


def test_a_field_that_the_formula_does_not_cover_can_be_measured():
    features = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ConvTranspose2d(2, 2, 3, stride=2))
    for parameter in features.parameters():
        nn.init.ones_(parameter)
    rows, columns = first_and_last(input_gradient(features, torch.rand(1, 1, 28, 28), (20, 20)))
    assert rows[1] - rows[0] + 1 == columns[1] - columns[0] + 1 == 4


# ---- gradients ----


class Constant(nn.Module):
    def forward(self, images):
        return torch.ones_like(images)


IMAGES = torch.rand(2, 1, 9, 9)


@pytest.mark.parametrize(
    ("images", "unit", "found"),
    [
        (IMAGES[:0], (0, 0), r"images are \(0, 1, 9, 9\)"),
        (IMAGES[0], (0, 0), r"images are \(1, 9, 9\).*\(N, C, H, W\)"),
        (IMAGES.numpy(), (0, 0), "images are a ndarray"),
        ((IMAGES * 255).byte(), (0, 0), "images are .* torch.uint8"),
        (IMAGES / 0, (0, 0), "images are .* NaN or infinity"),
        (IMAGES * torch.nan, (0, 0), "images are .* NaN or infinity"),
        (IMAGES, (7, 0), "row of the unit is 7, expected a whole number from 0 to 6"),
        (IMAGES, (0, 7), "column of the unit is 7, expected .* from 0 to 6"),
        (IMAGES, (-1, 0), "row of the unit is -1"),
        (IMAGES, (0, 1.0), "column of the unit is 1.0"),
        (IMAGES, 3, "the unit is 3, expected a pair: its row and its column"),
        (IMAGES, (1, 2, 3), r"the unit is \(1, 2, 3\)"),
    ],
)
def test_impossible_images_and_units_are_refused(images, unit, found):
    with pytest.raises(ValueError, match=found):
        input_gradient(nn.Conv2d(1, 2, 3), images, unit)


@pytest.mark.parametrize(
    ("features", "found"),
    [
        (nn.Flatten(), r"output is \(2, 81\)"),
        (nn.Conv2d(3, 2, 3), r"cannot take images \(2, 1, 9, 9\)"),
        (nn.MaxPool2d(2, return_indices=True), "output is 'tuple'"),
        (Constant(), r"output is \(2, 1, 9, 9\), expected .* computed from the images"),
    ],
)
def test_anything_but_feature_maps_is_refused(features, found):
    with pytest.raises(ValueError, match=found):
        input_gradient(features, IMAGES, (0, 0))


def test_maps_that_no_pixel_moves_have_no_gradient():
    features = nn.Conv2d(1, 2, 3)
    features.forward = lambda images: features.weight
    assert input_gradient(features, IMAGES, (0, 0)).equal(torch.zeros(9, 9))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, nullcontext])
def test_a_gradient_is_measured_in_any_mode_of_pytorch(mode):
    features = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(1, 1, 3), nn.ReLU(inplace=True))
    nn.init.ones_(features[1].weight)
    with mode():
        images = IMAGES.clone()
        gradient = input_gradient(features, images, (1, 2))
    expected = torch.zeros(9, 9)
    expected[1:4, 2:5] = 1
    assert gradient.equal(expected)
    assert images.equal(IMAGES)


@pytest.mark.parametrize(
    ("share", "side"), [(1.0, 5), (0.37, 5), (9 / 25, 3), (0.05, 3), (1 / 25, 1)]
)
def test_the_effective_field_holds_its_share(share, side):
    gradient = torch.zeros(28, 28)
    gradient[4:9, 11:16] = 0.7
    assert effective_field(gradient, share) == side


@given(st.integers(1, 6), st.integers(-2, 2), st.floats(0.01, 0.99), st.integers(0, 99))
def test_the_effective_field_of_a_rectangle(height, half_difference, share, seed):
    width = max(1 + (height + 1) % 2, height + 2 * half_difference)
    gradient = np.random.default_rng(seed).uniform(0.1, 1, (height, width)).round(2)
    sides = range(2 - height % 2, max(height, width) + 1, 2)
    rows, columns = (abs(np.arange(n) - (n - 1) / 2) for n in gradient.shape)
    held = [gradient[np.ix_(rows < s / 2, columns < s / 2)].sum() for s in sides]
    if min(abs(np.array(held) - share * gradient.sum())) < 1e-9:
        return  # rounding decides
    expected = next(s for s, h in zip(sides, held, strict=True) if h > share * gradient.sum())
    assert effective_field(torch.tensor(np.pad(gradient, 2)), share) == expected


FLAT = torch.ones(5, 5)


@pytest.mark.parametrize(
    ("gradient", "share", "found"),
    [
        (FLAT * 0, 0.8, "gradient is zero everywhere"),
        (FLAT * torch.nan, 0.8, "gradient is .* NaN"),
        (FLAT / 0, 0.8, "gradient is .* infinity"),
        (-FLAT, 0.8, "gradient is -1.0, expected 0 or more"),
        (FLAT[0], 0.8, r"gradient is \(5,\).*\(H, W\)"),
        (FLAT[None], 0.8, r"gradient is \(1, 5, 5\)"),
        (FLAT[:0], 0.8, r"gradient is \(0, 5\)"),
        (FLAT.numpy(), 0.8, "gradient is a ndarray"),
        (FLAT, 0, "share is 0, expected above 0"),
        (FLAT, 1.01, "share is 1.01"),
        (FLAT, float("nan"), "share is nan"),
        (FLAT, "0.8", "share is '0.8'"),
    ],
)
def test_gradients_without_an_effective_field_are_refused(gradient, share, found):
    with pytest.raises(ValueError, match=found):
        effective_field(gradient, share)


# ---- tables and counts ----


@pytest.mark.parametrize(("name", "n"), [("cnn", 334_154), ("dilated_cnn", 170_314)])
def test_parameter_counts(name, n):
    assert count_parameters(build_model(name)) == n


def test_frozen_parameters_do_not_count():
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    assert count_parameters(layer) == 6


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


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (nn.Conv2d(1, 4, (3, 5)), "Conv2d 1→4, 3×5"),
        (nn.Conv2d(1, 4, 3, stride=2), "Conv2d 1→4, 3×3, stride 2"),
        (
            nn.Conv2d(1, 4, 3, stride=(1, 2), padding=(0, 1), dilation=(2, 1)),
            "Conv2d 1→4, 3×3, stride 1×2, padding 0×1, dilation 2×1",
        ),
        (nn.Conv2d(1, 4, 3, padding="same"), "Conv2d 1→4, 3×3, padding same"),
        (nn.ConvTranspose2d(1, 4, (2, 3), stride=2), "ConvTranspose2d 1→4, 2×3, stride 2"),
        (nn.MaxPool2d(3, stride=2), "MaxPool2d 3×3, stride 2"),
        (nn.MaxPool2d([2, 3]), "MaxPool2d 2×3"),
        (nn.AvgPool2d(2, stride=(2, 2), padding=1), "AvgPool2d 2×2, padding 1"),
        (nn.LPPool2d(2, 3), "LPPool2d 3×3"),
        (nn.ZeroPad2d(1), "ZeroPad2d, padding 1"),
        (nn.Sequential(nn.Flatten(2), nn.MaxPool1d(4)), "MaxPool1d 4"),
        (nn.Sequential(nn.Flatten(0, 1), nn.Conv1d(28, 4, 3)), "Conv1d 28→4, 3"),
        (nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 8, 3, groups=4)), "4→8, 3×3, groups 4"),
    ],
)
def test_a_layer_is_described_as_it_is(layer, text):
    assert layer_table(layer)["layer"].iloc[-1].endswith(text)


class Attention(nn.Module):
    """Rows of pixels as words, with places; the answers come in a dictionary."""

    def __init__(self, **options):
        super().__init__()
        self.places = nn.Parameter(torch.zeros(28, 28))
        self.attention = nn.MultiheadAttention(28, 4, batch_first=True)
        self.head = nn.Linear(28, 10)
        self.unused = nn.Linear(28, 10)
        self.options = options

    def forward(self, images):
        words = images[:, 0] + self.places
        words, weights = self.attention(words, words, words, **self.options)
        return {"logits": self.head(words.mean(dim=1)), "weights": weights}


class Shared(nn.Module):
    """One layer that runs twice, one weight that is used in two ways, one of them in place."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3, padding=1)
        self.down, self.scale = nn.Linear(28, 5, bias=False), nn.Parameter(torch.ones(1))

    def forward(self, images):
        images *= self.scale
        images = self.down(self.layer(self.layer(images)))
        return images @ self.down.weight


def recurrent(kind):
    return nn.Sequential(nn.Flatten(0, 1), kind(28, 16, num_layers=2, bidirectional=True))


def encoder(**options):
    layer = nn.TransformerEncoderLayer(28, 4, 64, batch_first=True)
    return nn.Sequential(nn.Flatten(0, 1), layer)


def normalised():
    norms = nn.utils.parametrizations
    convolution = norms.weight_norm(nn.Conv2d(1, 2, 3))
    return nn.Sequential(convolution, norms.spectral_norm(nn.Conv2d(2, 2, 3, bias=False)))


def half_frozen():
    model = build_model("cnn")
    model.features.requires_grad_(False)
    return model


NETWORKS = {
    "attention": Attention,
    "attention without weights": lambda: Attention(need_weights=False),
    "shared": Shared,
    "RNN": lambda: recurrent(nn.RNN),
    "GRU": lambda: recurrent(nn.GRU),
    "LSTM": lambda: recurrent(nn.LSTM),
    "encoder": encoder,
    "normalised": normalised,
    "half frozen": half_frozen,
    "lazy": lambda: nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(10)),
    "a bare layer": lambda: nn.Linear(28, 3),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_parameters_of_a_table_are_those_that_a_backward_pass_reaches(name):
    model = NETWORKS[name]()
    with torch.no_grad():
        table = layer_table(model)
    outputs = model(torch.rand(1, 1, 28, 28))
    (outputs["logits"] if isinstance(outputs, dict) else outputs[0]).sum().backward()
    reached = sum(p.numel() for p in model.parameters() if p.grad is not None)
    assert table["parameters"].sum() == reached > 0


def test_the_rows_of_modules_that_are_made_of_others():
    table = layer_table(Attention())
    assert table["layer"].tolist() == ["MultiheadAttention", "Linear 28→10", "Attention"]
    assert table["parameters"].tolist() == [4 * 28 * 29, 290, 28 * 28]
    assert table["output"].tolist() == ["28×28", "10", "10"]
    table = layer_table(Shared())
    assert table["parameters"].tolist() == [10, 0, 5 * 28, 1]
    assert layer_table(normalised())["parameters"].tolist() == [2 * 9 + 2 + 2, 2 * 2 * 9]
    assert layer_table(recurrent(nn.GRU))["output"].tolist() == ["28×28", "28×32"]


def test_frozen_layers_keep_their_rows():
    model = Attention()
    table = layer_table(model)
    frozen = layer_table(model.requires_grad_(False))
    assert frozen.equals(table.assign(parameters=0))


@pytest.mark.filterwarnings("ignore:Using `torch.compile")  # hooks run twice: nothing is counted
@pytest.mark.parametrize("look", [layer_table, multiply_adds])
def test_looking_at_a_compiled_model_compiles_nothing(look):
    model = build_model("cnn")
    expected = str(look(model))
    compiled = torch.compile(model, backend=lambda *_: pytest.fail("it compiles"))
    assert str(look(compiled)) == expected


def multiply_adds_by_hand(model):
    """Count from the shapes that each layer gets and gives."""
    total = 0

    def add(layer, inputs, output):
        nonlocal total
        if isinstance(layer, nn.Linear):
            total += output.numel() * layer.in_features
        else:
            turned = isinstance(layer, nn.ConvTranspose2d)
            spread, gathered = inputs[0].numel() * layer.out_channels, output.numel()
            places = spread if turned else gathered * layer.in_channels
            total += places * np.prod(layer.kernel_size) // layer.groups

    for layer in model.modules():
        if isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd)):
            layer.register_forward_hook(add)
    model(torch.rand(1, 1, 28, 28))
    return total


def random_convolutions(seed):
    draw = random.Random(seed)
    layers, channels = [], 1
    for kind in draw.choices((nn.Conv2d, nn.ConvTranspose2d), k=draw.randint(1, 3)):
        out = draw.choice((4, 8))
        pair = [(draw.randint(1, 3), draw.randint(1, 3)) for _ in range(4)]
        options = {"stride": pair[1], "padding": pair[2], "dilation": pair[3]}
        groups = draw.choice((1, min(channels, 4)))
        layers.append(kind(channels, out, pair[0], groups=groups, **options))
        layers += [nn.AdaptiveAvgPool2d((14, 15)), nn.ReLU()]
        channels = out
    return nn.Sequential(*layers, nn.Linear(15, 3), nn.Flatten(), nn.Linear(channels * 42, 5))


@pytest.mark.parametrize("seed", range(20))
def test_multiply_adds_of_random_convolutions(seed):
    model = random_convolutions(seed)
    with torch.no_grad():
        assert multiply_adds(model) == multiply_adds_by_hand(model)


def test_multiply_adds_by_hand():
    classifier = 256 * 128 + 128 * 10
    plain = 28 * 28 * 16 * 9 + 12 * 12 * 32 * 16 * 9 + 32 * 6 * 6 * 256 + classifier
    dilated = 26 * 26 * 16 * 9 + 9 * 9 * 32 * 16 * 9 + 32 * 4 * 4 * 256 + classifier
    assert multiply_adds(build_model("cnn")) == plain
    assert multiply_adds(build_model("dilated_cnn")) == dilated


ATTENTION = 4 * 28**3 + 2 * 28**3  # four projections; each word meets each word twice
TWO_LAYERS = 28 * 2 * 16 * ((28 + 16) + (32 + 16))  # 28 steps, 2 directions


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("attention", ATTENTION + 28 * 10),
        ("attention without weights", ATTENTION + 28 * 10),
        ("encoder", ATTENTION + 2 * 28 * 28 * 64),
        ("RNN", TWO_LAYERS),
        ("GRU", 3 * TWO_LAYERS),
        ("shared", 2 * 28 * 28 * 9 + 2 * 28 * 28 * 5),
    ],
)
def test_multiply_adds_of_other_networks(name, expected):
    assert multiply_adds(NETWORKS[name]()) == expected


class Own(nn.Module):
    def __init__(self, compute):
        super().__init__()
        self.compute = compute

    def forward(self, images):
        return self.compute(images[0])


@pytest.mark.parametrize(
    "model",
    [
        recurrent(nn.LSTM),
        encoder().requires_grad_(False),
        Own(lambda rows: nn.functional.bilinear(rows, rows, torch.ones(3, 28, 28))),
        Own(lambda rows: rows[0] @ rows[0, 0]),
        Own(lambda rows: rows[0, 0] @ rows[0, 0]),
        Own(lambda rows: torch.addmv(rows[0, 0], rows[0], rows[0, 0])),
        Own(lambda rows: torch.addbmm(rows[0], rows, rows)),
        Own(lambda rows: torch.cdist(rows, rows)),
        Own(lambda rows: torch.cdist(rows[:, :9], rows[:, :9])),  # few rows go another way
        Own(lambda rows: torch.conv_tbc(rows, torch.ones(1, 28, 2), torch.zeros(2))),
        Own(lambda rows: torch.sparse.mm(torch.eye(28).to_sparse(), rows[0])),
    ],
)
def test_multiply_adds_that_cannot_be_counted_are_refused(model):
    with pytest.raises(ValueError, match="PyTorch does not count, expected"):
        multiply_adds(model)


@pytest.mark.parametrize("look", [multiply_adds, layer_table])
@pytest.mark.parametrize(
    ("model", "found"),
    [
        (nn.Conv2d(3, 4, 3), r"cannot take images \(1, 1, 28, 28\)"),
        (nn.Conv2d(1, 4, 3).double(), "cannot take images .* of that dtype"),
        ("cnn", r"model is a str, expected a torch\.nn\.Module"),
    ],
)
def test_a_model_that_cannot_take_the_image_is_refused(look, model, found):
    with pytest.raises(ValueError, match=found):
        look(model)


# ---- what looking leaves alone ----


@pytest.mark.parametrize(
    "look",
    [
        count_parameters,
        device_of,
        layer_table,
        multiply_adds,
        receptive_field,
        partial(input_gradient, images=torch.rand(2, 1, 28, 28), unit=(3, 4)),
    ],
)
def test_looking_at_a_model_leaves_everything_as_it_was(look):
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Dropout2d().eval()
    model = nn.Sequential(*layers, nn.Conv2d(4, 2, 3).requires_grad_(False))
    model(torch.rand(5, 1, 28, 28)).sum().backward()

    def state():
        others = np.random.get_state()[1].tobytes(), random.getstate()  # noqa: NPY002
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        tensors = [*model.state_dict().values(), *gradients, torch.get_rng_state()]
        flags = [m.training for m in model.modules()], torch.is_grad_enabled()
        hooks = [len(m._forward_hooks) for m in model.modules()]
        trained = [p.requires_grad for p in model.parameters()]
        return [t.numpy().tobytes() for t in tensors], others, flags, hooks, trained

    torch.manual_seed(1)
    before = state()
    first = str(look(model))
    torch.manual_seed(1)
    assert str(look(model)) == first
    torch.manual_seed(1)
    assert state() == before


@pytest.mark.parametrize("look", [layer_table, multiply_adds])
def test_a_model_is_looked_at_in_evaluation_mode(look):
    look(nn.Sequential(nn.Flatten(), nn.Linear(784, 5), nn.BatchNorm1d(5)))  # one image is enough


def test_lazy_layers_that_get_their_shapes_from_a_look_stay_trainable():
    model = NETWORKS["lazy"]()
    with torch.inference_mode():
        layer_table(model)
    model(torch.rand(2, 1, 28, 28)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_model_without_parameters_computes_on_the_cpu():
    assert device_of(nn.Flatten()) == torch.device("cpu")


def test_evaluation_mode_ends_after_an_error_too():
    layer = nn.Dropout()
    with pytest.raises(ValueError, match="no network"), evaluating(layer):
        build_model("none")
    assert layer.training


def test_threads_take_turns_at_one_network():
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Dropout(), nn.ReLU(), nn.Dropout2d())
    model = nn.Sequential(features, nn.Flatten(), nn.Linear(2 * 26 * 26, 10))
    images = torch.rand(3, 1, 28, 28)
    looks = [
        lambda: predict(model, images).tobytes(),
        lambda: layer_table(model).to_csv(),
        lambda: input_gradient(features, images, (4, 5)).numpy().tobytes(),
        lambda: multiply_adds(model),
    ]
    alone = [look() for look in looks]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as threads:
            together = list(threads.map(lambda i: looks[i % 4](), range(100)))
    finally:
        sys.setswitchinterval(interval)
    assert together == alone * 25
    assert all(layer.training for layer in model.modules())
