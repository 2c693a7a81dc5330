"""Checks of chapter 3, a dilated network."""

import copy
from itertools import product

import torch
from torch.nn import functional

from fmnist_lib.course.exercises.answers import call, expect, number, read_array, refuse, run_model
from fmnist_lib.course.exercises.feedback import exercise

LENGTH = {
    43: "That would be its length without dilation. How many pixels does the kernel span?",
    30: "The padding goes on both sides.",
    33: "One too few. Does the span include both the first weight and the last, and did you count "
    "the kernel's first place as well?",
}


@exercise("3.1")
def length(length):
    """Check the length of a row of 76 pixels after a convolution."""
    row, kernel = torch.zeros(1, 1, 76), torch.ones(1, 1, 7)
    expect(
        number(length, "the length"),
        functional.conv1d(row, kernel, stride=2, padding=8, dilation=4).shape[-1],
        LENGTH,
        "Draw it smaller: which pixel of the padded row lies under the kernel's last weight in its "
        "first place, and how far is it from there to the end of the row? Did you round down?",
    )
    return "One formula, for convolutions and for poolings alike."


@exercise("3.2")
def spread_out(spread_out):
    """Check the dense kernel that equals a dilated one, by comparing what the two compute."""
    generator = torch.Generator().manual_seed(0)
    for shape, d in (((1, 1, 3, 3), 2), ((4, 3, 3, 3), 3), ((2, 1, 2, 2), 4), ((1, 2, 5, 5), 1)):
        weights = torch.rand(shape, generator=generator) + 0.1
        given = call(spread_out, weights, d)
        refuse(
            not isinstance(given, torch.Tensor)
            and "Your function should return a tensor, which conv2d can use."
        )
        refuse(
            given.shape == (*shape[:2], d * shape[2], d * shape[3])
            and d > 1
            and "Nothing is needed after the last weight.",
        )
        side = d * (shape[-1] - 1) + 1
        name = f"what your function returns for weights {shape} and d = {d}"
        kernel = torch.tensor(read_array(given, name, (*shape[:2], side, side))).float()
        images = torch.rand(2, shape[1], 24, 24, generator=generator)
        expect(
            functional.conv2d(images, kernel),
            functional.conv2d(images, weights, dilation=d),
            {},
            f"For weights {shape} and d = {d}, the kernel has the right size, but does not compute "
            "what the dilated one does. Is each weight in its place and its channel, and is there "
            "nothing but zeros in the gaps?",
            atol=2e-2,  # for kernels of 16 bits: weights in wrong places are further off
        )
    return "Dilation is a kernel with zeros, and a way not to multiply by them."


@exercise("3.3")
def dilations(dilations):
    """Check that three dilated convolutions see 27 pixels, by following every path."""
    given = read_array(dilations, "your answer", (3,))
    refuse(
        ((given % 1 != 0) | (given < 1)).any()
        and "A dilation is a whole number of pixels, and at least 1: the distance between "
        "neighbouring weights."
    )
    given = [int(d) for d in given]
    field = 1 + 2 * sum(given)
    read = len({sum(steps) for steps in product(*((-d, 0, d) for d in given))})
    refuse(
        field < 27
        and f"With these, a unit sees {field} pixels along a row. By how many does a convolution "
        "of dilation d widen the field?",
        read < field
        and f"The field is {field} pixels wide, and only {read} of them are read. Draw which "
        "pixels each kernel reads: does the next one fill its gaps, or read the same ones again?",
    )
    return "No pixel is read twice and none is left out: 27 paths along a row, 27 pixels."


STACKS = (
    [],
    [(3, 1, 1)],
    [(3, 1, 4)],
    [(3, 1, 1), (3, 1, 1), (3, 1, 2)],
    [(2, 2, 1), (3, 1, 1)],
    [(5, 3, 1), (2, 2, 3), (3, 1, 2), (2, 2, 1)],
)
"""Layers (kernel, stride, dilation) for which a student's function is tried."""


@exercise("3.4")
def receptive_field(receptive_field):
    """Check a function for the receptive field against gradients."""
    given = [
        number(call(receptive_field, list(stack)), f"what your function returns for {stack}")
        for stack in STACKS
    ]
    fields, without_strides, without_dilation = (
        tuple(_field([change(*layer) for layer in stack]) for stack in STACKS)
        for change in (
            lambda kernel, stride, dilation: (kernel, stride, dilation),
            lambda kernel, stride, dilation: (kernel, 1, dilation),
            lambda kernel, stride, dilation: (kernel, stride, 1),
        )
    )
    off = next((i for i, field in enumerate(fields) if given[i] != field), 0)
    expect(
        given,
        fields,
        {
            without_strides: "Strides are missing. After a stride, two neighbouring units lie "
            "further apart in the image, so a kernel of the next layers spans more pixels of it.",
            without_dilation: "The dilation is missing.",
        },
        f"For {STACKS[off]}, in the order (kernel, stride, dilation), it gives {given[off]:g}, but "
        "the gradient has a different width. Follow it by hand: field and step, layer by layer.",
    )
    return "Measured by gradients, the fields are as wide as your function says."


def _field(layers):
    """Measure how far the gradient of a first unit reaches along a row of pixels."""
    # With positive weights and without ReLU, no gradient can vanish or cancel.
    row = torch.zeros(1, 1, 200, dtype=torch.float64)
    with torch.enable_grad():
        units = row.requires_grad_()
        for kernel, stride, dilation in layers:
            weights = torch.ones(1, 1, kernel, dtype=torch.float64)
            units = functional.conv1d(units, weights, stride=stride, dilation=dilation)
        (gradient,) = torch.autograd.grad(units[..., 0].sum(), row)
    return gradient.flatten().nonzero().max().item() + 1


@exercise("3.5")
def first_dilated(first_dilated, plain):
    """Check a network with one dilated convolution, which differs in nothing else."""
    images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    # The features first: with maps of the wrong size, the classifier would fail.
    maps = run_model(getattr(first_dilated, "features", first_dilated), images)
    refuse(
        not hasattr(first_dilated, "features")
        and "Keep the network's two parts, features and classifier: the check looks at the first.",
        maps.shape != (2, 32, 6, 6)
        and f"Its last feature maps are {'×'.join(map(str, maps.shape[1:]))}, and the plain "
        "network's are 32×6×6. Which padding keeps the size of the maps with dilation 2?",
    )
    result = run_model(first_dilated, images)
    weights, others = (list(n.state_dict().values()) for n in (first_dilated, plain))
    refuse(
        {w.data_ptr() for w in weights} & {w.data_ptr() for w in others}
        and "It shares weights with the plain network, so training one would change the other. "
        "Build a new network: load_state_dict copies the weights.",
        not all(a.cpu().equal(b.cpu()) for a, b in zip(weights, others, strict=False))
        and "It starts from other weights than the plain network. A new layer comes with new "
        "weights: load_state_dict brings the old ones back.",
    )
    wanted = copy.deepcopy(plain)
    wanted.features[0].dilation = wanted.features[0].padding = (2, 2)
    refuse(
        not torch.allclose(result, run_model(wanted, images), atol=1e-4)
        and "Its answers are not those of the plain network with its first convolution dilated by "
        "2 in both directions, and nothing else changed. Compare inspection.layer_table of both."
    )
    return "Trained like the plain network, it differs in one thing only."
