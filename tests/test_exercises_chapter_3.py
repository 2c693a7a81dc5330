"""The checks of chapter 3: right answers however found, and words for likely mistakes."""

import copy
import math
from itertools import permutations

import numpy as np
import pytest
import torch
from nudges import assert_nudged
from torch import nn

from fmnist_lib.course.exercises import check
from fmnist_lib.inspection import receptive_field as field_table
from fmnist_lib.models import build_model


def test_the_length_is_that_of_pytorch():
    row = nn.Conv1d(1, 1, 7, dilation=4, padding=8, stride=2)(torch.zeros(1, 1, 76))
    assert check("3.1", row.shape[-1])


@pytest.mark.parametrize(
    ("answer", "nudge"),
    [
        ((76 + 16 - 7) // 2 + 1, "without dilation"),
        ((76 + 8 - 25) // 2 + 1, "both sides"),
        ((76 + 16 - 25) // 2, "One too few"),
        (math.ceil((76 + 16 - 25) / 2) + 1, "Did you round down?"),
        (-5, "Draw it smaller"),
    ],
)
def test_the_length_is_not(answer, nudge):
    assert_nudged("3.1", answer, nudge=nudge, secrets=(34,))


def by_slice(weights, d):
    side = d * (weights.shape[-1] - 1) + 1
    kernel = torch.zeros(*weights.shape[:2], side, side)
    kernel[..., ::d, ::d] = weights
    return kernel


def with_zeros_after(weights, d):
    corner = torch.zeros(d, d)
    corner[0, 0] = 1
    return torch.kron(weights.contiguous(), corner)


def by_kronecker(weights, d):
    kernel = with_zeros_after(weights, d)
    return kernel[..., : kernel.shape[-2] - d + 1, : kernel.shape[-1] - d + 1]


@pytest.mark.parametrize("function", [by_slice, by_kronecker])
def test_a_kernel_spread_out(function):
    assert check("3.2", function)
    assert check("3.2", lambda weights, d: nn.Parameter(function(weights, d)))
    assert check("3.2", lambda weights, d: function(weights, d).half())


def repeated(weights, d):
    kernel = weights.repeat_interleave(d, dim=2).repeat_interleave(d, dim=3)
    return kernel[..., : kernel.shape[-2] - d + 1, : kernel.shape[-1] - d + 1]


@pytest.mark.parametrize(
    ("function", "nudge"),
    [
        (lambda w, d: by_slice(w, d + 1), "(1, 1, 7, 7), but should have shape (1, 1, 5, 5)"),
        (with_zeros_after, "Nothing is needed after the last weight"),
        (lambda w, d: w, "should have shape"),
        (repeated, "zeros in the gaps"),
        (lambda w, d: by_slice(w, d).transpose(2, 3), "in its place"),
        (lambda w, d: by_slice(w[:1, :1].expand(w.shape), d), "in its place"),
        (lambda w, d: by_slice(w, d).numpy(), "return a tensor"),
        (lambda w, d: by_slice(w, d) * torch.nan, "NaN"),
    ],
)
def test_a_kernel_spread_out_is_not(function, nudge):
    assert_nudged("3.2", function, nudge=nudge)


@pytest.mark.parametrize("dilations", list(permutations((1, 3, 9))))
@pytest.mark.parametrize("form", [tuple, list, np.float64, torch.tensor])
def test_dilations_that_see_every_pixel(dilations, form):
    assert check("3.3", form(dilations))


@pytest.mark.parametrize(
    ("dilations", "nudge"),
    [
        ((1, 2, 4), "sees 15 pixels"),
        ((4, 4, 5), "only 15 of them are read"),
        ((1, 3, 10), "only 27 of them are read"),
        ((0, 4, 9), "at least 1"),
        ((1.5, 3, 9), "whole number"),
        (13, "should have shape (3,)"),
    ],
)
def test_dilations_that_do_not(dilations, nudge):
    assert_nudged("3.3", dilations, nudge=nudge, secrets=("9",))


def forwards(layers, early=False):
    size, step = 1, 1
    for kernel, stride, dilation in layers:
        step *= stride if early else 1
        size += dilation * (kernel - 1) * step
        step *= 1 if early else stride
    return size


def by_the_library(layers):
    stack = nn.Sequential(*(nn.Conv2d(1, 1, k, stride=t, dilation=d) for k, t, d in layers))
    return field_table(stack)["size"].iloc[-1] if layers else 1


@pytest.mark.parametrize("function", [forwards, by_the_library])
def test_a_receptive_field(function):
    assert check("3.4", function)


@pytest.mark.parametrize(
    ("function", "nudge"),
    [
        (lambda layers: forwards([(k, 1, d) for k, t, d in layers]), "Strides are missing"),
        (lambda layers: forwards([(k, t, 1) for k, t, d in layers]), "dilation is missing"),
        (lambda layers: forwards(layers, early=True), "For [(2, 2, 1), (3, 1, 1)]"),
        (lambda layers: forwards([(k, t, d) for k, d, t in layers]), "in the order"),
        (lambda layers: layers[-1][0], "stopped with IndexError"),
    ],
)
def test_a_receptive_field_is_not(function, nudge):
    assert_nudged("3.4", function, nudge=nudge)


@pytest.fixture
def plain():
    return build_model("cnn", seed=0)


def changed(plain, first=None, second=None):
    """Copy a network with other convolutions, and with its weights where they fit."""
    model = copy.deepcopy(plain)
    if first:
        model.features[0] = nn.Conv2d(1, 16, **{"kernel_size": 3, **first})
    if second:
        model.features[3] = nn.Conv2d(16, 32, **{"kernel_size": 3, **second})
    if "kernel_size" not in (first or {}):
        model.load_state_dict(plain.state_dict())
    return model


FIRST = {"padding": 2, "dilation": 2}
SECOND = {"padding": 1, "dilation": 2}


def in_place(plain):
    model = copy.deepcopy(plain)
    model.features[0].padding = model.features[0].dilation = (2, 2)
    return model.eval()


@pytest.mark.parametrize("make", [lambda p: changed(p, {**FIRST, "padding": "same"}), in_place])
def test_the_first_convolution_dilated(make, plain):
    model, before = make(plain), torch.get_rng_state()
    assert check("3.5", model, plain)
    assert torch.get_rng_state().equal(before)
    assert all(a.equal(b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))


def with_other_pooling(plain):
    model = changed(plain, FIRST)
    model.features[2] = nn.MaxPool2d(2)
    return model


def with_weight_of_plain(plain):
    model = changed(plain, FIRST)
    model.features[0].weight = plain.features[0].weight
    return model


SHARED = "It shares weights with the plain network"
MORE = "and nothing else changed"


@pytest.mark.parametrize(
    ("make", "nudge"),
    [
        (copy.deepcopy, MORE),
        (lambda p: changed(p, second=SECOND), MORE),
        (lambda p: changed(p, FIRST, SECOND), MORE),
        (lambda p: changed(p, {"dilation": 2, "padding": 1}), "32×5×5"),
        (lambda p: build_model("dilated_cnn"), "32×4×4"),
        (lambda p: changed(p, {"dilation": (2, 1), "padding": (2, 1)}), MORE),
        (lambda p: changed(p, {"kernel_size": 5, "padding": 2}), "from other weights"),
        (lambda p: changed(build_model("cnn", seed=1), FIRST), "from other weights"),
        (lambda p: changed(p, FIRST).features, "Keep the network's two parts"),
        (with_weight_of_plain, SHARED),
        (with_other_pooling, MORE),
    ],
)
def test_the_first_convolution_is_not_dilated_alone(make, nudge, plain):
    assert_nudged("3.5", make(plain), plain, nudge=nudge, secrets=("12×12", "padding=2"))
