"""What can be read off a network without training it: layers, costs, receptive fields.

N is the number of images, C channels, H and W height and width. A network that runs here runs in
evaluation mode, one thread at a time, and stays as it was.

Receptive fields: Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural
Networks", Distill 2019, https://doi.org/10.23915/distill.00021.
"""

from contextlib import ExitStack, contextmanager
from functools import partial
from numbers import Real

import numpy as np
import torch
from torch import nn
from torch.nn.functional import pad

from fmnist_lib.common import one_thread, require, whole_number
from fmnist_lib.inputs import checked_model, output_of

WINDOWS = nn.Conv2d, nn.AvgPool2d, nn.MaxPool2d, nn.LPPool2d
"""Layers whose units see a rectangle of pixels each: what `receptive_field` adds up."""

ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU),
    *(nn.GELU, nn.SiLU, nn.Hardswish, nn.Mish, nn.Softplus, nn.Sigmoid, nn.Hardsigmoid, nn.Tanh),
)
ONE_PIXEL = *ACTIVATIONS, nn.BatchNorm2d, nn.Dropout, nn.Dropout2d, nn.Identity
"""Layers whose units see one pixel each, in evaluation mode: they do not change the field."""

UNCOUNTED = (
    "_cdist_forward _cudnn_rnn _euclidean_dist _native_multi_head_attention _sparse_addmm "
    "_transformer_encoder_layer_fwd _trilinear addbmm addmv conv_tbc dot miopen_rnn "
    "mkldnn_rnn_layer mv"
)
"""Operations that multiply and add, but that PyTorch's counter passes over."""


def count_parameters(model):
    """Count the trainable parameters of a model."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def device_of(model):
    """Return the device of a model's parameters; the CPU if it has none."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


@contextmanager
def evaluating(model):
    """Keep a model in evaluation mode for a ``with`` block, then restore each layer's mode.

    Threads take turns.
    """
    with one_thread():
        modes = [(layer, layer.training) for layer in checked_model(model).modules()]
        model.eval()
        try:
            yield
        finally:
            for layer, training in modes:
                layer.training = training


def multiply_adds(model):
    """Count the multiply-adds that one image (1, 28, 28) takes.

    Convolutions, linear layers and other matrix products are counted each time they run, products
    with the zeros of a padding included; the rest is negligible.

    Raises
    ------
    ValueError
        If the model cannot take the image, or multiplies in a way that PyTorch does not count, as
        in `torch.nn.LSTM`.
    """
    from torch.utils.flop_counter import FlopCounterMode

    met = []

    def meet(name, *_, **__):
        met.append(name)
        return 0

    watched = {getattr(torch.ops.aten, name): partial(meet, name) for name in UNCOUNTED.split()}
    with evaluating(model), FlopCounterMode(display=False, custom_mapping=watched) as counter:
        _pass_one_image(model)
    if met:
        raise ValueError(
            f"the network runs {met[0]}, whose multiply-adds PyTorch does not count, expected only "
            "convolutions, linear layers and matrix products; leave that part out, and count it by "
            "hand"
        )
    return counter.get_total_flops() // 2


def layer_table(model):
    """List the layers of a network in the order in which an image (1, 28, 28) passes through.

    Parameters
    ----------
    model : nn.Module

    Returns
    -------
    DataFrame
        One row each time a layer runs. A module made of others has a row, after theirs, if it has
        parameters of its own. Columns ``layer`` (such as ``Conv2d 1→16, 3×3, padding 1``),
        ``output`` (its shape for one image, as C×H×W; of several outputs, the first) and
        ``parameters`` (the trainable ones it computes with, each counted in one row: the first).

    Raises
    ------
    ValueError
        If the model cannot take the image.
    """
    import pandas as pd

    rows, counted = [], set()

    def record(layer, inputs, output):
        parameters = set(layer.parameters()) & _parameters_behind(output) - counted
        if parameters or not list(layer.children()) or list(layer.parameters(recurse=False)):
            n = sum(p.numel() for p in parameters)
            rows.append({"layer": _describe(layer), "output": _shape(output), "parameters": n})
        counted.update(parameters)

    with evaluating(model), ExitStack() as hooks:
        for name, layer in model.named_modules():
            if ".parametrizations." not in f".{name}.":  # such as that of a normalised weight
                hooks.enter_context(layer.register_forward_hook(record))
        _pass_one_image(model)
    return pd.DataFrame(rows)


def _tensors(output):
    from torch.utils._pytree import tree_leaves

    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor)]


def _shape(output):
    return "×".join(str(n) for tensor in _tensors(output)[:1] for n in tensor.shape[1:])


def _parameters_behind(output):
    # What a backward pass would reach.
    tensors = [tensor for tensor in _tensors(output) if tensor.requires_grad]
    nodes, reached = [torch.autograd.graph.get_gradient_edge(t).node for t in tensors], set()
    while nodes:
        node = nodes.pop()
        if node not in reached:
            reached.add(node)
            nodes += [before for before, _ in node.next_functions if before]
    return {node.variable for node in reached if hasattr(node, "variable")}


def _pass_one_image(model):
    # With gradients, which this turns on: attention then runs as separate products that can be
    # counted, and the parameters behind an output can be found.
    with torch.inference_mode(False):
        network = getattr(model, "_orig_mod", model)  # compiling is not worth it
        output_of(network, torch.zeros(1, 1, 28, 28, device=device_of(model)))


def receptive_field(features):
    """Compute, layer by layer, how much of the image one unit sees.

    Parameters
    ----------
    features : nn.Sequential
        Of convolutions, pools, and layers that look at one pixel only (`WINDOWS`, `ONE_PIXEL`),
        in evaluation mode; it may be nested. A single such layer is a stack of one.

    Returns
    -------
    DataFrame
        Columns ``layer``, ``size`` (pixels along one side) and ``step`` (pixels by which the view
        moves from one unit to the next); one row for each layer that has a kernel. A size or step
        that differs between the directions is a tuple (rows, columns). Near the edge, a part of
        the field lies outside the image.

    Raises
    ------
    ValueError
        If a layer is of another kind. `input_gradient` measures the field of any feature maps.
    """
    import pandas as pd

    rows, size, step = [], np.ones(2, int), np.ones(2, int)
    for layer in _flattened(features):
        if type(layer) in WINDOWS:
            kernel, stride, dilation = _window(layer)
            size = size + dilation * (kernel - 1) * step
            step = step * stride
            rows.append((_describe(layer), _one_or_both(size), _one_or_both(step)))
    return pd.DataFrame(rows, columns=["layer", "size", "step"])


def _flattened(layer):
    if type(layer) is nn.Sequential:
        for child in layer:
            yield from _flattened(child)
        return
    # Without running statistics, batch normalisation looks at all pixels. A subclass of a layer may
    # compute something else.
    all_pixels = type(layer) is nn.BatchNorm2d and layer.running_mean is None
    if all_pixels or type(layer) not in WINDOWS + ONE_PIXEL:
        raise ValueError(
            f"receptive_field does not cover {_describe(layer)}, expected nn.Sequential of Conv2d, "
            "pools with a fixed kernel, and layers that look at one pixel; give it only that part "
            "of the network, or measure the field with input_gradient"
        )
    yield layer


def _window(layer):
    kernel = _directions(layer.kernel_size)
    stride = kernel if layer.stride is None else _directions(layer.stride)
    return [np.array(pair) for pair in (kernel, stride, _directions(getattr(layer, "dilation", 1)))]


def _one_or_both(pair):
    rows, columns = pair.tolist()
    return rows if rows == columns else (rows, columns)


def input_gradient(features, images, unit):
    """Measure how strongly each pixel moves one unit of the last feature maps.

    Parameters
    ----------
    features : nn.Module
        It is used in evaluation mode.
    images : Tensor, (N, C, H, W), float32, finite
        At least one.
    unit : pair of int
        Row and column of the unit, from 0, which is taken in all feature maps at once.

    Returns
    -------
    Tensor, (H, W), float32
        Absolute gradient, averaged over images and channels: zero outside the receptive field.

    Raises
    ------
    ValueError
        If there are no images, or they are not finite or of a shape or dtype that the features
        cannot take; if the features do not turn them into maps (N, C, H, W); or if the unit lies
        outside the maps.
    """
    with evaluating(features), torch.inference_mode(False):
        images = _finite(images, "images are", "(N, C, H, W)").detach().clone().requires_grad_()
        maps = _checked_maps(output_of(features, images))
        row, column = _checked_unit(unit, *maps.shape[2:])
        seen = maps[:, :, row, column].sum()
        (gradient,) = torch.autograd.grad(seen, images, materialize_grads=True)
    return gradient.abs().mean(dim=(0, 1))


def _checked_maps(maps):
    good = isinstance(maps, torch.Tensor) and maps.ndim == 4 and maps.requires_grad
    found = tuple(maps.shape) if isinstance(maps, torch.Tensor) else type(maps).__name__
    require(good, "the output", found, "feature maps (N, C, H, W) computed from the images")
    return maps


def _checked_unit(unit, height, width):
    require(np.shape(unit) == (2,), "the unit", unit, "a pair: its row and its column")
    row, column = unit
    return (
        whole_number("the row of the unit", row, most=height - 1),
        whole_number("the column of the unit", column, most=width - 1),
    )


def _finite(tensor, name, shape):
    found = f"a {type(tensor).__name__}"
    if isinstance(tensor, torch.Tensor):
        found = f"{tuple(tensor.shape)} {tensor.dtype}"
        if tensor.ndim == shape.count(",") + 1 and tensor.numel() and tensor.is_floating_point():
            if tensor.isfinite().all():
                return tensor
            found += " with NaN or infinity"
    raise ValueError(f"{name} {found}, expected a non-empty Tensor {shape} of finite numbers")


def effective_field(gradient, share=0.8):
    """Measure how much of a receptive field does most of the work.

    A unit sees its whole field, but not all of it equally well: Luo, Li, Urtasun and Zemel,
    "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks", NeurIPS
    2016, https://arxiv.org/abs/1701.04128.

    Parameters
    ----------
    gradient : Tensor, (H, W), finite, 0 or more
        From `input_gradient`: zero outside the receptive field.
    share : float
        Share of the gradient's sum, above 0 and at most 1.

    Returns
    -------
    int
        Side, in pixels, of the smallest square in the middle of the field that holds that share.
        Squares are compared in steps of two pixels: one ring. Where one side of the field is
        longer, the largest square has that side.

    Raises
    ------
    ValueError
        If the gradient or the share is not as described, or the gradient is zero everywhere.
    """
    _finite(gradient, "the gradient is", "(H, W)")
    require((gradient >= 0).all(), "the gradient", gradient.min().item(), "0 or more everywhere")
    require(isinstance(share, Real) and 0 < share <= 1, "share", share, "above 0, at most 1")
    if not gradient.any():
        raise ValueError(
            "the gradient is zero everywhere, expected a unit that depends on some pixel"
        )
    rows, columns = (gradient.sum(dim=axis).nonzero()[:, 0] for axis in (1, 0))
    field = gradient[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].double()
    field, side, edge = _squared(field), max(field.shape), 0
    # Peel off rings while the rest holds enough. For a share of 1, rounding may stop this early.
    while side - 2 * edge > 2:
        inner = field[edge + 1 : side - edge - 1, edge + 1 : side - edge - 1]
        if inner.sum() < share * field.sum():
            break
        edge += 1
    return side - 2 * edge


def _squared(field):
    # Zeros on both sides of the shorter direction; if their number is odd, one more at the end.
    height, width = field.shape
    tall, wide = max(0, width - height), max(0, height - width)
    return pad(field, (wide // 2, wide - wide // 2, tall // 2, tall - tall // 2))


def _describe(layer):
    text = type(layer).__name__
    for a, b in (("in_channels", "out_channels"), ("in_features", "out_features")):
        if hasattr(layer, a):
            text += f" {getattr(layer, a)}→{getattr(layer, b)}"
    n = 1 if type(layer).__name__.endswith("1d") else 2
    usual = {"padding": 0, "dilation": 1}
    if hasattr(layer, "kernel_size"):
        kernel = _directions(layer.kernel_size, n)
        text += f"{',' if '→' in text else ''} {'×'.join(map(str, kernel))}"
        # Convolutions look at every place; pools divide the image among their units.
        usual = {"stride": 1 if "→" in text else kernel, **usual, "groups": 1}
    for name, value in usual.items():
        found = _directions(getattr(layer, name, None), n)
        if found not in (_directions(None, n), _directions(value, n)):
            same = len(set(found)) == 1
            text += f", {name} {found[0] if same else '×'.join(map(str, found))}"
    return text


def _directions(value, n=2):
    # PyTorch keeps a setting either as one number or as one per direction.
    return tuple(value) if isinstance(value, tuple | list) else (value,) * n
