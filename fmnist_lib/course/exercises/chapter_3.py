"""Checks of chapter 3, a dilated network."""

import copy
from itertools import product

import torch
from torch.nn import functional

from fmnist_lib.course.exercises.answers import (
    call,
    number,
    read_array,
    require,
    run_model,
    whole_number,
)
from fmnist_lib.course.exercises.feedback import exercise
from fmnist_lib.inspection import input_gradient


@exercise("3.1")
def length(length):
    """Check the length of a row of 76 pixels after a convolution."""
    places = whole_number(length, "the length")
    wrong_turns = {
        43: "That would be its length without dilation. How many pixels does the kernel span?",
        31: "With dilation d, neighbouring weights are d apart, so d − 1 pixels lie between them.",
        30: "The padding is put on both sides.",
        26: "The padding is missing.",
        68: "The stride is missing.",
        67: "Stride and first place are missing.",
        33: (
            "One short. Is the span counted from the first weight to the last, both included, and "
            "the kernel's first place as well?"
        ),
        35: (
            "One too many. Did you round down? And does the span count both the first and the last "
            "weight?"
        ),
    }
    require(places not in wrong_turns, wrong_turns.get(places))
    row = torch.zeros(1, 1, 76)
    expected = functional.conv1d(row, torch.ones(1, 1, 7), stride=2, padding=8, dilation=4)
    require(
        places == expected.shape[-1],
        "Draw it smaller: which pixel of the padded row lies under the kernel's last weight in its "
        "first place, and how far is it from there to the end of the row?",
    )
    return "One formula, for convolutions and for poolings alike."


@exercise("3.2")
def spread_out(spread_out):
    """Check the dense kernel that a dilated one is, by comparing what the two compute."""
    generator = torch.Generator().manual_seed(0)
    for shape, d in (((1, 1, 3, 3), 2), ((4, 3, 3, 3), 3), ((2, 1, 2, 2), 4), ((1, 2, 5, 5), 1)):
        weights = torch.rand(shape, generator=generator) + 0.1
        given = call(spread_out, weights, d)
        require(
            isinstance(given, torch.Tensor),
            "Your function is wanted to return a tensor, as conv2d takes it.",
        )
        name = f"what your function returns for weights {shape} and d = {d}"
        side = d * (shape[-1] - 1) + 1
        hints = {
            d * shape[-1]: "Nothing is needed behind the last weight.",
            side
            + shape[-1]
            - 1: "Weights that are d apart have d − 1 zeros between them, and none "
            "behind the last.",
            shape[-1]: "It has as many places as before: where do the zeros go?",
        }
        for wrong, words in hints.items():
            require(side == wrong or given.shape[-2:] != (wrong, wrong), words)
        kernel = torch.tensor(read_array(given, name, (*shape[:2], side, side))).float()
        require(
            kernel.count_nonzero() <= weights.numel(),
            "There are numbers in the gaps. A dilated kernel does not look there: what is the "
            "weight of a pixel that does not count?",
        )
        images = torch.rand(2, shape[1], 24, 24, generator=generator)
        dilated = functional.conv2d(images, weights, dilation=d)
        require(
            # Wide enough for kernels of 16 bits: weights in wrong places are further off.
            torch.allclose(functional.conv2d(images, kernel), dilated, atol=2e-2),
            f"For weights {shape} and d = {d}, the kernel has the right size, but it does not "
            "compute what the dilated one does. Is each weight in its place and its channel?",
        )
    return "Dilation is a kernel with zeros, and a way not to multiply by them."


@exercise("3.3")
def dilations(dilations):
    """Check that three dilated convolutions see 27 pixels, by following every path."""
    if isinstance(dilations, set | frozenset):
        dilations = list(dilations)  # their order is no matter
    given = read_array(dilations, "your answer", (3,))
    require((given == given.round()).all(), "A dilation is a whole number of pixels.")
    given = [int(d) for d in given]
    require(min(given) >= 1, "A dilation is at least 1: neighbouring weights on neighbours.")
    require(max(given) < 28, "So far apart, two weights do not fit on the image together.")
    field = 1 + 2 * sum(given)
    require(
        field >= 27,
        f"With these, a unit sees {field} pixels along a row. By how many does a convolution of "
        "dilation d widen the field?",
    )
    read = {sum(steps) for steps in product(*((-d, 0, d) for d in given))}
    require(
        len(read) == field,
        f"The field is {field} pixels wide, and only {len(read)} of them are read. Draw which "
        "pixels each kernel reads: does the next one fill its gaps, or read the same ones again?",
    )
    return "No pixel is read twice and none is left out: 27 paths along a row, 27 pixels."


@exercise("3.4")
def receptive_field(receptive_field):
    """Check a function for the receptive field against gradients."""
    layers = (
        [],
        [(3, 1, 1)],
        [(3, 1, 4)],
        [(3, 1, 1), (3, 1, 1), (3, 1, 2)],
        [(2, 2, 1), (3, 1, 1)],
        [(5, 3, 1), (2, 2, 3), (3, 1, 2), (2, 2, 1)],
    )
    given = []
    for case in layers:
        pixels = call(receptive_field, list(case))
        given.append(number(pixels, f"what your function returns for {case}"))
    gradients = [_gradient(case) for case in layers]
    require(
        given != [gradient.count_nonzero().item() for gradient in gradients],
        "These are the pixels that are read. A field reaches from the first of them to the last, "
        "and the gaps between them count, too.",
    )
    wrong_turns = (
        ({"start": 0}, "How much does a unit see before the first layer? Not nothing."),
        (
            {"strides": "ignored"},
            "Strides are missing. Behind a stride, two neighbouring units lie further apart in the "
            "image, so a kernel of the next layers spans more pixels of it.",
        ),
        (
            {"strides": "early"},
            "A layer's own stride does not widen its own field, only those of the layers behind.",
        ),
        (
            {"strides": "last"},
            "Each layer's stride counts, and not only that of the layer before: behind two "
            "poolings, how many pixels lie between two units?",
        ),
        ({"dilated": False}, "The dilation is missing."),
        ({"wide": True}, "A kernel of k weights that are d apart spans fewer than dk pixels."),
    )
    for turn, words in wrong_turns:
        require(given != [_field(case, **turn) for case in layers], words)
    for case, pixels, gradient in zip(layers, given, gradients, strict=True):
        require(
            pixels == gradient.nonzero().max().item() + 1,
            f"For {case}, in the order (kernel, stride, dilation), it gives {pixels:g}, and the "
            "gradient has another width. Follow it by hand: field and step, layer by layer.",
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


def _field(layers, start=1, strides="late", dilated=True, wide=False):
    """Compute a field as one does who takes a wrong turn."""
    size, step = start, 1
    for kernel, stride, dilation in layers:
        d = dilation if dilated else 1
        step = step * stride if strides == "early" else step
        size += (d * kernel - 1 if wide else d * (kernel - 1)) * step
        step = {"late": step * stride, "last": stride}.get(strides, step)
    return size


@exercise("3.5")
def first_dilated(first_dilated, plain):
    """Check a network with one dilated convolution, which differs in nothing else."""
    images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    maps = run_model(getattr(first_dilated, "features", first_dilated), images, classes=None)
    require(
        hasattr(first_dilated, "features") and hasattr(plain, "features"),
        "Keep the network's two parts, features and classifier: the check looks at the first.",
    )
    require(
        _side_of_field(plain.features, images) == (10, 10),
        "The plain network has been changed itself: build it anew, and leave it as it is.",
    )
    require(
        tuple(maps.shape) == (2, 32, 6, 6),
        f"Its last feature maps are {'×'.join(map(str, maps.shape[1:]))}, and the plain network's "
        "are 32×6×6. Which padding keeps the size of the maps with dilation 2?",
    )
    run_model(first_dilated, images)
    weights, others = first_dilated.state_dict(), plain.state_dict()
    require(
        [w.shape for w in weights.values()] == [w.shape for w in others.values()],
        "Its parameters are not those of the plain network: dilation leaves their number and their "
        "shapes as they are.",
    )
    sides = _side_of_field(first_dilated.features, images)
    wrong_turns = {
        10: "No gradient reaches further than in the plain network: nothing is dilated yet.",
        14: "It sees as far as with the second convolution dilated by 2, and not the first, or the "
        "first by 3.",
        16: "It sees as far as the dilated network, in which both convolutions are dilated.",
    }
    require(sides[0] not in wrong_turns or sides[0] != sides[1], wrong_turns.get(sides[0]))
    require(
        sides == (12, 12),
        f"Measured by gradients, it sees {sides[0]}×{sides[1]} pixels. Dilate the first "
        "convolution by 2 in both directions, and nothing else.",
    )
    require(
        all(a.cpu().equal(b.cpu()) for a, b in zip(weights.values(), others.values(), strict=True)),
        "It is the right network, and starts from other weights than the plain one. A new layer "
        "comes with new weights: load_state_dict brings the old ones back.",
    )
    require(
        not {w.data_ptr() for w in weights.values()} & {w.data_ptr() for w in others.values()},
        "It shares weights with the plain network, so that training one would change the other. "
        "load_state_dict copies them.",
    )
    wanted = copy.deepcopy(plain)
    wanted.features[0].dilation = wanted.features[0].padding = (2, 2)
    require(
        torch.allclose(run_model(first_dilated, images), run_model(wanted, images), atol=1e-4),
        "Its weights and its field are right, and yet it answers differently: something beside the "
        "first convolution has changed. Compare inspection.layer_table of both.",
    )
    return "Trained like the plain network, it differs in one thing only."


def _side_of_field(features, images):
    # All weights are made positive, so that no ReLU is silent and nothing cancels.
    features = copy.deepcopy(features).cpu().eval()
    with torch.no_grad():
        for parameter in features.parameters():
            parameter.fill_(0.1)
    with torch.enable_grad():
        gradient = input_gradient(features, images, (2, 2))
    return tuple(gradient.sum(dim=axis).count_nonzero().item() for axis in (1, 0))
