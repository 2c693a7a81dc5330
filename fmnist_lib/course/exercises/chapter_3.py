"""Checks of chapter 3, a dilated network."""

import copy
from itertools import product

import torch
from torch.nn import functional

from fmnist_lib.course.exercises.answers import call, expect, number, read_array, refuse, run_model
from fmnist_lib.course.exercises.feedback import exercise
from fmnist_lib.inspection import input_gradient

LENGTH = {
    43: "That would be its length without dilation. How many pixels does the kernel span?",
    31: "With dilation d, neighbouring weights are d apart, so d − 1 pixels lie between them.",
    30: "The padding goes on both sides.",
    26: "The padding is missing.",
    68: "The stride is missing.",
    67: "The stride and the first place are missing.",
    33: "One too few. Does the span include both the first weight and the last, and did you count "
    "the kernel's first place as well?",
    35: "One too many. Did you round down? Does the span include both the first weight and the "
    "last?",
}


@exercise("3.1")
def length(length):
    """Check the length of a row of 76 pixels after a convolution."""
    row, kernel = torch.zeros(1, 1, 76), torch.ones(1, 1, 7)
    expect(
        number(length, "the length", whole=True),
        functional.conv1d(row, kernel, stride=2, padding=8, dilation=4).shape[-1],
        LENGTH,
        "Draw it smaller: which pixel of the padded row lies under the kernel's last weight in its "
        "first place, and how far is it from there to the end of the row?",
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
        k = shape[-1]
        side = d * (k - 1) + 1
        wrong_sides = {
            d * k: "Nothing is needed after the last weight.",
            side + k - 1: "Weights that are d apart have d − 1 zeros between them, and no zeros "
            "after the last one.",
            k: "It has as many places as before: where do the zeros go?",
        } | {side: None}
        found = given.shape[-2:]
        refuse(len(set(found)) == 1 and wrong_sides.get(found[0]))
        name = f"what your function returns for weights {shape} and d = {d}"
        kernel = torch.tensor(read_array(given, name, (*shape[:2], side, side))).float()
        images = torch.rand(2, shape[1], 24, 24, generator=generator)
        dilated = functional.conv2d(images, weights, dilation=d)
        refuse(
            kernel.count_nonzero() > weights.numel()
            and "There are numbers in the gaps. A dilated kernel does not look there: what is the "
            "weight of a pixel that does not count?",
            # Wide enough for kernels of 16 bits: weights in wrong places are further off.
            not torch.allclose(functional.conv2d(images, kernel), dilated, atol=2e-2)
            and f"For weights {shape} and d = {d}, the kernel has the right size, but does not "
            "compute what the dilated one does. Is each weight in its place and its channel?",
        )
    return "Dilation is a kernel with zeros, and a way not to multiply by them."


@exercise("3.3")
def dilations(dilations):
    """Check that three dilated convolutions see 27 pixels, by following every path."""
    given = read_array(dilations, "your answer", (3,))
    refuse(
        (given % 1 != 0).any() and "A dilation is a whole number of pixels.",
        given.min() < 1 and "A dilation is at least 1, where a kernel reads adjacent pixels.",
        given.max() > 27 and "That far apart, two weights do not fit on the image together.",
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


def _wrong_fields():
    """Compute the fields of `STACKS` as someone does who takes a wrong turn."""
    for turn, words in (
        ({"start": 0}, "How much does a unit see before the first layer? Not nothing."),
        (
            {"strides": "ignored"},
            "Strides are missing. After a stride, two neighbouring units lie further apart in the "
            "image, so a kernel of the next layers spans more pixels of it.",
        ),
        (
            {"strides": "early"},
            "A layer's own stride does not widen its own field, only those of the layers after it.",
        ),
        (
            {"strides": "last"},
            "Every layer's stride counts, not only that of the layer before: after two poolings, "
            "how many pixels lie between two units?",
        ),
        ({"dilated": False}, "The dilation is missing."),
        ({"wide": True}, "A kernel of k weights that are d apart spans fewer than dk pixels."),
    ):
        yield [_field(stack, **turn) for stack in STACKS], words


def _field(layers, start=1, strides="late", dilated=True, wide=False):
    size, step = start, 1
    for kernel, stride, dilation in layers:
        d = dilation if dilated else 1
        step = step * stride if strides == "early" else step
        size += (d * kernel - 1 if wide else d * (kernel - 1)) * step
        step = {"late": step * stride, "last": stride}.get(strides, step)
    return size


@exercise("3.4")
def receptive_field(receptive_field):
    """Check a function for the receptive field against gradients."""
    given = [
        number(call(receptive_field, list(stack)), f"what your function returns for {stack}")
        for stack in STACKS
    ]
    gradients = [_gradient(stack) for stack in STACKS]
    fields = [gradient.nonzero().max().item() + 1 for gradient in gradients]
    read = [gradient.count_nonzero().item() for gradient in gradients]
    off = next((i for i, field in enumerate(fields) if given[i] != field), 0)
    refuse(
        given == read
        and "These are the pixels that are read. A field reaches from the first of them to the "
        "last, and the gaps between them count, too."
    )
    expect(
        given,
        fields,
        _wrong_fields(),
        f"For {STACKS[off]}, in the order (kernel, stride, dilation), it gives {given[off]:g}, but "
        "the gradient has a different width. Follow it by hand: field and step, layer by layer.",
    )
    return "Measured by gradients, the fields are as wide as your function says."


def _gradient(layers):
    """Compute the gradient of a first unit along a row of pixels."""
    # With positive weights and without ReLU, no gradient can vanish or cancel.
    row = torch.zeros(1, 1, 200, dtype=torch.float64)
    with torch.enable_grad():
        units = row.requires_grad_()
        for kernel, stride, dilation in layers:
            weights = torch.ones(1, 1, kernel, dtype=torch.float64)
            units = functional.conv1d(units, weights, stride=stride, dilation=dilation)
        (gradient,) = torch.autograd.grad(units[..., 0].sum(), row)
    return gradient.flatten()


SIDES = {
    (10, 10): "No gradient reaches further than in the plain network: nothing is dilated yet.",
    (14, 14): "It sees as far as with the second convolution dilated by 2, and not the first, or "
    "the first by 3.",
    (16, 16): "It sees as far as the dilated network, in which both convolutions are dilated.",
}


@exercise("3.5")
def first_dilated(first_dilated, plain):
    """Check a network with one dilated convolution, which differs in nothing else."""
    images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    maps = run_model(getattr(first_dilated, "features", first_dilated), images, classes=None)
    refuse(
        not (hasattr(first_dilated, "features") and hasattr(plain, "features"))
        and "Keep the network's two parts, features and classifier: the check looks at the first."
    )
    refuse(
        _sides_of_field(plain.features, images) != (10, 10)
        and "You have changed the plain network itself: build it again, and leave it as it is.",
        maps.shape != (2, 32, 6, 6)
        and f"Its last feature maps are {'×'.join(map(str, maps.shape[1:]))}, and the plain "
        "network's are 32×6×6. Which padding keeps the size of the maps with dilation 2?",
    )
    result = run_model(first_dilated, images)
    weights, others = (list(n.state_dict().values()) for n in (first_dilated, plain))
    refuse(
        [w.shape for w in weights] != [w.shape for w in others]
        and "Its parameters differ from those of the plain network: dilation leaves their number "
        "and their shapes as they are."
    )
    sides = _sides_of_field(first_dilated.features, images)
    refuse(
        SIDES.get(sides),
        sides != (12, 12)
        and f"Measured by gradients, it sees {sides[0]}×{sides[1]} pixels. Dilate the first "
        "convolution by 2 in both directions, and nothing else.",
        not all(a.cpu().equal(b.cpu()) for a, b in zip(weights, others, strict=True))
        and "It is the right network, but starts from other weights than the plain one. A new "
        "layer comes with new weights: load_state_dict brings the old ones back.",
        {w.data_ptr() for w in weights} & {w.data_ptr() for w in others}
        and "It shares weights with the plain network, so training one would change the other. "
        "load_state_dict copies them.",
    )
    wanted = copy.deepcopy(plain)
    wanted.features[0].dilation = wanted.features[0].padding = (2, 2)
    refuse(
        not torch.allclose(result, run_model(wanted, images), atol=1e-4)
        and "Its weights and its field are right, but its answers differ: something besides the "
        "first convolution has changed. Compare inspection.layer_table of both."
    )
    return "Trained like the plain network, it differs in one thing only."


def _sides_of_field(features, images):
    # All weights are made positive, so that no ReLU is silent and nothing cancels.
    features = copy.deepcopy(features).cpu().eval()
    with torch.no_grad():
        for parameter in features.parameters():
            parameter.fill_(0.1)
    with torch.enable_grad():
        gradient = input_gradient(features, images, (2, 2))
    return tuple(gradient.sum(dim=axis).count_nonzero().item() for axis in (1, 0))
