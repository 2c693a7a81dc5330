"""The checks of chapter 3: right answers in every form, wrong turns, and kind words for them."""

import copy
import math
from itertools import permutations

import numpy as np
import pytest
import torch
from nudges import HUGE, assert_nudged
from torch import nn

from fmnist_lib.course.exercises import check
from fmnist_lib.models import build_model
from fmnist_lib.models import receptive_field as field_table

# 3.1: the length of a row.


def test_the_length_is_that_of_pytorch():
    row = nn.Conv1d(1, 1, 7, dilation=4, padding=8, stride=2)(torch.zeros(1, 1, 76))
    for answer in (row.shape[-1], float(row.shape[-1]), torch.tensor([row.shape[-1]])):
        assert check("3.1", answer)


@pytest.mark.parametrize(
    ("answer", "nudge"),
    [
        ((76 + 16 - 7) // 2 + 1, "without dilation"),
        ((76 + 16 - 31) // 2 + 1, "d − 1 pixels"),
        ((76 + 8 - 25) // 2 + 1, "both sides"),
        ((76 - 25) // 2 + 1, "padding is missing"),
        (76 + 16 - 25 + 1, "stride is missing"),
        (76 + 16 - 25, "Stride and first place"),
        ((76 + 16 - 25) // 2, "One short"),
        ((76 + 16 - 28) // 2 + 1, "One short"),
        (math.ceil((76 + 16 - 25) / 2) + 1, "One too many. Did you round down?"),
        ((76 + 16 - 24) // 2 + 1, "both the first and the last weight"),
        ((76 + 16 - 25) / 2 + 1, "whole number"),
        (0, "Draw it smaller"),
        (-5, "Draw it smaller"),
        (math.inf, "infinite"),
        (torch.zeros(1, 1, 76), "One number"),
        (HUGE, "far more"),
        (None, "(length) is None"),
    ],
)
def test_the_length_is_not(answer, nudge):
    assert_nudged(check("3.1", answer), nudge, "34")


# 3.2: the dense kernel that a dilated one is.


def by_slice(weights, d):
    side = d * (weights.shape[-1] - 1) + 1
    kernel = torch.zeros(*weights.shape[:2], side, side)
    kernel[..., ::d, ::d] = weights
    return kernel


def by_kronecker(weights, d):
    corner = torch.zeros(d, d)
    corner[0, 0] = 1
    kernel = torch.kron(weights.contiguous(), corner)
    return kernel[..., : kernel.shape[-2] - d + 1, : kernel.shape[-1] - d + 1]


def by_transposed_convolution(weights, d):
    flat = weights.flatten(0, 1)[:, None]
    one = torch.ones(1, 1, 1, 1)
    return nn.functional.conv_transpose2d(flat, one, stride=d).reshape(
        *weights.shape[:2], *[d * (k - 1) + 1 for k in weights.shape[2:]]
    )


@pytest.mark.parametrize("function", [by_slice, by_kronecker, by_transposed_convolution])
def test_a_kernel_spread_out_however_written(function):
    assert check("3.2", function)
    assert check("3.2", lambda weights, d: nn.Parameter(function(weights, d)))
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        assert check("3.2", lambda weights, d, to=dtype: function(weights, d).to(to))


def with_wrong_gaps(weights, d):
    return by_slice(weights, d + 1)


def repeated(weights, d):
    kernel = weights.repeat_interleave(d, dim=2).repeat_interleave(d, dim=3)
    return kernel[..., : kernel.shape[-2] - d + 1, : kernel.shape[-1] - d + 1]


def with_zeros_behind(weights, d):
    corner = torch.zeros(d, d)
    corner[0, 0] = 1
    return torch.kron(weights.contiguous(), corner)


def with_rows_alone(weights, d):
    return by_slice(weights, d)[..., ::d]


@pytest.mark.parametrize(
    ("function", "nudge"),
    [
        (with_wrong_gaps, "d − 1 zeros"),
        (with_zeros_behind, "Nothing is needed behind the last weight"),
        (lambda w, d: nn.functional.interpolate(w, scale_factor=d), "Nothing is needed behind"),
        (lambda w, d: nn.functional.pad(by_slice(w, d), (0, 2, 0, 2)), "none behind the last"),
        (with_rows_alone, "has the shape (1, 1, 5, 3), and (1, 1, 5, 5) is wanted"),
        (lambda w, d: w, "where do the zeros go"),
        (repeated, "numbers in the gaps"),
        (lambda w, d: by_slice(w, d).transpose(2, 3), "in its place"),
        (lambda w, d: by_slice(w, d).flip(2, 3), "in its place"),
        (lambda w, d: 0 * by_slice(w, d), "in its place"),
        (lambda w, d: by_slice(w, d) / d, "in its place"),
        (lambda w, d: by_slice(w, d)[0, 0], "is wanted"),
        (lambda w, d: by_slice(w[:1, :1].expand(w.shape), d), "in its place"),
        (lambda w, d: by_slice(w, d).numpy(), "return a tensor"),
        (lambda w, d: by_slice(w, d) * torch.nan, "NaN"),
        (lambda w, d: torch.zeros(1).expand(10**6, 10**6), "is wanted"),
        (lambda w, d: torch.tensor(3.0), "is wanted"),
        (lambda w, d: w.reshape(2, 2), "stopped with RuntimeError"),
        (lambda w: w, "cannot be called"),
        (lambda w, d: ..., "returns nothing yet"),
        (torch.zeros(1, 1, 5, 5), "A function is wanted"),
    ],
)
def test_a_kernel_that_is_not(function, nudge):
    assert_nudged(check("3.2", function), nudge)


# 3.3: dilations that see every pixel.


@pytest.mark.parametrize("dilations", list(permutations((1, 3, 9))))
@pytest.mark.parametrize(
    "form", [tuple, list, set, frozenset, np.array, torch.tensor, lambda d: np.float64(d)]
)
def test_dilations_that_see_every_pixel(dilations, form):
    assert check("3.3", form(dilations))


@pytest.mark.parametrize(
    ("dilations", "nudge"),
    [
        ((1, 2, 4), "sees 15 pixels"),
        ((4, 4, 4), "sees 25 pixels"),
        ((4, 4, 5), "only 15 of them are read"),
        ((2, 4, 8), "only 15 of them are read"),
        ((1, 3, 10), "only 27 of them are read"),
        ((0, 4, 9), "at least 1"),
        ((-1, 3, 9), "at least 1"),
        ((1, 3, 10**9), "do not fit on the image"),
        ((1.5, 3, 9), "whole number"),
        ((1, 3), "Your answer has the shape (2,), and (3,) is wanted"),
        ((1, 3, 9, 1), "(3,) is wanted"),
        (13, "(3,) is wanted"),
        ({1, 3}, "Your answer has the shape (2,)"),
        ({1: 1, 2: 3, 3: 9}, "no order to go by"),
        ("1, 3, 9", "text"),
        ((1, 3, math.nan), "Your answer holds NaN"),
        (HUGE, "(3,) is wanted"),
        (..., "no answer yet"),
    ],
)
def test_dilations_that_do_not(dilations, nudge):
    feedback = check("3.3", dilations)
    assert_nudged(feedback, nudge)
    assert not {"9", "1, 3"} & set(feedback.words.split())


# 3.4: a function for the receptive field.


def forwards(layers):
    size = step = 1
    for kernel, stride, dilation in layers:
        size += dilation * (kernel - 1) * step
        step *= stride
    return size


def backwards(layers):
    size = 1
    for kernel, stride, dilation in reversed(layers):
        size = (size - 1) * stride + dilation * (kernel - 1) + 1
    return torch.tensor(float(size))


def recursive(layers):
    if not layers:
        return 1
    (kernel, stride, dilation), *rest = layers
    return (recursive(rest) - 1) * stride + dilation * (kernel - 1) + 1


def emptying(layers):
    size = 1
    while layers:
        kernel, stride, dilation = layers.pop()
        size = (size - 1) * stride + dilation * (kernel - 1) + 1
    return size


def by_the_library(layers):
    stack = nn.Sequential(*(nn.Conv2d(1, 1, k, stride=t, dilation=d) for k, t, d in layers))
    return field_table(stack)["size"].iloc[-1] if layers else 1


@pytest.mark.parametrize("function", [forwards, backwards, recursive, emptying, by_the_library])
def test_a_receptive_field_however_written(function):
    assert check("3.4", function)


def from_zero(layers):
    return forwards(layers) - 1


def without_strides(layers):
    return forwards([(k, 1, d) for k, t, d in layers])


def without_dilation(layers):
    return forwards([(k, t, 1) for k, t, d in layers])


def with_strides_too_early(layers):
    size = step = 1
    for kernel, stride, dilation in layers:
        step *= stride
        size += dilation * (kernel - 1) * step
    return size


def with_the_last_stride(layers):
    size = step = 1
    for kernel, stride, dilation in layers:
        size += dilation * (kernel - 1) * step
        step = stride
    return size


def with_wide_spans(layers):
    size = step = 1
    for kernel, stride, dilation in layers:
        size += (dilation * kernel - 1) * step
        step *= stride
    return size


def pixels_that_are_read(layers):
    read = {0}
    for kernel, stride, dilation in reversed(layers):
        read = {stride * unit + dilation * k for unit in read for k in range(kernel)}
    return len(read)


@pytest.mark.parametrize(
    ("function", "nudge"),
    [
        (from_zero, "Not nothing"),
        (pixels_that_are_read, "the gaps between them count, too"),
        (without_strides, "Strides are missing"),
        (without_dilation, "dilation is missing"),
        (with_strides_too_early, "own stride does not widen its own field"),
        (with_the_last_stride, "not only that of the layer before"),
        (with_wide_spans, "fewer than dk"),
        (lambda layers: 10, "For [], in the order"),
        (lambda layers: forwards([(k, t, d) for k, d, t in layers]), "in the order"),
        (lambda layers: [forwards(layers)] * 2, "One number is wanted"),
        (lambda layers: layers[-1][0], "stopped with IndexError"),
        (lambda layers: math.nan, "NaN"),
        (lambda layers: HUGE, "far more"),
        (lambda layers: print(end=""), "returns nothing yet"),
        (lambda: 1, "cannot be called"),
        (10, "A function is wanted"),
    ],
)
def test_a_receptive_field_is_not(function, nudge):
    assert_nudged(check("3.4", function), nudge)


# 3.5: only the first convolution dilated.


@pytest.fixture
def plain():
    return build_model("cnn", seed=0)


def changed(plain, first=None, second=None):
    """Copy a network with other convolutions, and with its weights where they fit."""
    model = copy.deepcopy(plain)
    if first:
        model.features[0] = nn.Conv2d(1, 16, **first)
    if second:
        model.features[3] = nn.Conv2d(16, 32, **second)
    if all(s.get("kernel_size") == 3 for s in (first, second) if s):
        model.load_state_dict(plain.state_dict())
    return model


FIRST = {"kernel_size": 3, "padding": 2, "dilation": 2}
SECOND = {"kernel_size": 3, "padding": 1, "dilation": 2}


class Written(nn.Module):
    def __init__(self, plain):
        super().__init__()
        self.features = changed(plain, FIRST).features
        self.classifier = copy.deepcopy(plain.classifier)

    def forward(self, images):
        return self.classifier(self.features(images))


def in_place(plain):
    model = copy.deepcopy(plain)
    model.features[0].padding = model.features[0].dilation = (2, 2)
    return model.eval()


@pytest.mark.parametrize(
    "make", [lambda p: changed(p, FIRST), lambda p: changed(p, {**FIRST, "padding": "same"})]
)
def test_the_first_convolution_dilated(make, plain):
    assert check("3.5", make(plain), plain)


@pytest.mark.parametrize("make", [Written, in_place])
def test_the_first_convolution_dilated_however_written(make, plain):
    model = make(plain)
    before = torch.get_rng_state()
    assert check("3.5", model, plain)
    assert torch.get_rng_state().equal(before)
    assert all(a.equal(b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))


@pytest.mark.parametrize(
    ("make", "nudge"),
    [
        (copy.deepcopy, "nothing is dilated yet"),
        (lambda p: changed(p, second=SECOND), "and not the first"),
        (lambda p: changed(p, {**FIRST, "dilation": 3, "padding": 3}), "or the first by 3"),
        (lambda p: changed(p, FIRST, SECOND), "both convolutions are dilated"),
        (lambda p: changed(p, {**FIRST, "padding": 1}), "32×5×5"),
        (lambda p: changed(p, {**FIRST, "padding": 0}), "32×5×5"),
        (lambda p: build_model("dilated_cnn"), "32×4×4"),
        (lambda p: changed(p, {**FIRST, "dilation": (2, 1), "padding": (2, 1)}), "12×10"),
        (lambda p: changed(p, {**FIRST, "dilation": 5, "padding": 5}), "Measured by gradients"),
        (lambda p: changed(p, {"kernel_size": 5, "padding": 2}), "not those of the plain"),
        (lambda p: changed(build_model("cnn", seed=1), FIRST), "from other weights"),
        (lambda p: changed(p, FIRST).features, "Keep the network's two parts"),
        (lambda p: build_model, "A network (nn.Module) is wanted"),
        (lambda p: nn.Linear, "This is the class Linear"),
        (lambda p: HUGE, "A network (nn.Module) is wanted"),
        (lambda p: None, "(first_dilated) is None"),
    ],
)
def test_the_first_convolution_is_not_dilated_alone(make, nudge, plain):
    assert_nudged(check("3.5", make(plain), plain), nudge, "12×12", "padding=2")


def with_plains_layers(plain):
    model = changed(plain, FIRST)
    model.features[3], model.classifier = plain.features[3], plain.classifier
    return model


def with_plains_weight(plain):
    model = changed(plain, FIRST)
    model.features[0].weight = plain.features[0].weight
    return model


def with_plains_memory(plain):
    model = changed(plain, FIRST)
    for own, other in zip(model.parameters(), plain.parameters(), strict=True):
        own.data = other.data
    return model


@pytest.mark.parametrize("make", [with_plains_layers, with_plains_weight, with_plains_memory])
def test_a_network_that_shares_weights_is_refused(make, plain):
    assert_nudged(check("3.5", make(plain), plain), "It shares weights with the plain network")


def with_layer(part, at, layer):
    def make(plain):
        model = changed(plain, FIRST)
        getattr(model, part)[at] = layer
        return model

    return make


def pooled_before_relu(plain):
    model = changed(plain, FIRST)
    model.features[1], model.features[2] = model.features[2], model.features[1]
    return model


@pytest.mark.parametrize(
    "make",
    [
        with_layer("features", 2, nn.MaxPool2d(2)),
        with_layer("features", 1, nn.LeakyReLU()),
        with_layer("classifier", 2, nn.Identity()),
        pooled_before_relu,
        lambda p: changed(p, {**FIRST, "padding_mode": "circular"}),
    ],
)
def test_a_network_that_differs_in_more_is_refused(make, plain):
    assert_nudged(check("3.5", make(plain), plain), "something beside the first convolution")


def test_the_plain_network_must_stay_as_it_is(plain):
    plain.features[0] = nn.Conv2d(1, 16, **FIRST)
    assert_nudged(check("3.5", plain, plain), "has been changed itself")


def test_a_network_whose_parts_do_not_fit_gets_words(plain):
    model = changed(plain, FIRST)
    model.classifier = nn.Linear(3, 3)
    assert_nudged(check("3.5", model, plain), "stopped with RuntimeError")
