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


@pytest.mark.parametrize("dilations", list(permutations((1, 3, 9))))
@pytest.mark.parametrize("form", [tuple, list, np.float64, torch.tensor])
def test_dilations_that_see_every_pixel(dilations, form):
    assert check("3.3", form(dilations))


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
    ("number", "answer", "nudge"),
    [
        ("3.1", (76 + 16 - 7) // 2 + 1, "without dilation"),
        ("3.1", (76 + 8 - 25) // 2 + 1, "both sides"),
        ("3.1", (76 + 16 - 25) // 2, "One too few"),
        ("3.1", math.ceil((76 + 16 - 25) / 2) + 1, "Did you round down?"),
        ("3.2", lambda w, d: by_slice(w, d + 1), "(1, 1, 7, 7), but should have shape (1, 1, 5, 5"),
        ("3.2", with_zeros_after, "Nothing is needed after the last weight"),
        ("3.2", lambda w, d: by_slice(w, d).transpose(2, 3), "in its place"),
        ("3.2", lambda w, d: by_slice(w[:1, :1].expand(w.shape), d), "in its place"),
        ("3.2", lambda w, d: by_slice(w, d).numpy(), "return a tensor"),
        ("3.3", (1, 2, 4), "sees 15 pixels"),
        ("3.3", (4, 4, 5), "only 15 of them are read"),
        ("3.3", (1, 3, 10), "only 27 of them are read"),
        ("3.3", (0, 4, 9), "at least 1"),
        ("3.3", (1.5, 3, 9), "whole number"),
        ("3.4", lambda layers: forwards([(k, 1, d) for k, t, d in layers]), "Strides are missing"),
        ("3.4", lambda layers: forwards([(k, t, 1) for k, t, d in layers]), "dilation is missing"),
        ("3.4", lambda layers: forwards(layers, early=True), "For [(2, 2, 1), (3, 1, 1)]"),
        ("3.4", lambda layers: layers[-1][0], "stopped with IndexError"),
    ],
)
def test_wrong_turns_get_words(number, answer, nudge):
    assert_nudged(number, answer, nudge=nudge)


@pytest.fixture
def plain():
    return build_model("cnn", seed=0)


def changed(plain, padding=2, dilation=2):
    """Copy a network with another first convolution, and with its weights."""
    model = copy.deepcopy(plain)
    model.features[0] = nn.Conv2d(1, 16, 3, padding=padding, dilation=dilation)
    model.load_state_dict(plain.state_dict())
    return model


def in_place(plain):
    model = copy.deepcopy(plain)
    model.features[0].padding = model.features[0].dilation = (2, 2)
    return model.eval()


@pytest.mark.parametrize("make", [lambda p: changed(p, padding="same"), in_place])
def test_the_first_convolution_dilated(make, plain):
    model, before = make(plain), torch.get_rng_state()
    assert check("3.5", model, plain)
    assert torch.get_rng_state().equal(before)
    assert all(a.equal(b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))


def with_other_pooling(plain):
    model = changed(plain)
    model.features[2] = nn.MaxPool2d(2)
    return model


def with_weight_of_plain(plain):
    model = changed(plain)
    model.features[0].weight = plain.features[0].weight
    return model


@pytest.mark.parametrize(
    ("make", "nudge"),
    [
        (copy.deepcopy, "and nothing else changed"),
        (lambda p: changed(p, padding=1), "32×5×5"),
        (lambda p: changed(p, (2, 1), (2, 1)), "and nothing else changed"),
        (lambda p: changed(build_model("cnn", seed=1)), "from other weights"),
        (lambda p: changed(p).features, "Keep the network's two parts"),
        (with_weight_of_plain, "It shares weights with the plain network"),
        (with_other_pooling, "and nothing else changed"),
    ],
)
def test_the_first_convolution_is_not_dilated_alone(make, nudge, plain):
    assert_nudged("3.5", make(plain), plain, nudge=nudge)
