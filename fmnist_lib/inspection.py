"""What can be read off a network without training it: layers, costs, receptive fields.

N is the number of images, C channels, H and W height and width.

Receptive fields: Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural
Networks", Distill 2019, https://doi.org/10.23915/distill.00021.
"""

from contextlib import ExitStack, contextmanager

import torch


def count_parameters(model):
    """Count the trainable parameters of a model."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def device_of(model):
    """Return the device of a model's parameters; the CPU if it has none."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


@contextmanager
def evaluating(model):
    """Keep a model in evaluation mode for a ``with`` block, then restore each layer's mode."""
    modes = [(layer, layer.training) for layer in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training


def multiply_adds(model):
    """Count the multiply-adds that one image (1, 28, 28) takes.

    Only convolutions and linear layers are counted; the rest is negligible.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        _pass_one_image(model)
    return counter.get_total_flops() // 2


def layer_table(model):
    """List the layers of a network in the order in which an image (1, 28, 28) passes through.

    Parameters
    ----------
    model : nn.Module

    Returns
    -------
    DataFrame
        Columns ``layer`` (such as ``Conv2d 1→16, 3×3, padding 1``), ``output`` (its shape for one
        image, as C×H×W) and ``parameters``; one row per layer.
    """
    import pandas as pd

    rows = []

    def record(layer, inputs, output):
        shape = "×".join(map(str, output.shape[1:]))
        n = count_parameters(layer)
        rows.append({"layer": _describe(layer), "output": shape, "parameters": n})

    with ExitStack() as hooks:
        for layer in model.modules():
            if not list(layer.children()):
                hooks.enter_context(layer.register_forward_hook(record))
        _pass_one_image(model)
    return pd.DataFrame(rows)


@torch.no_grad()  # not inference mode: lazy layers that get their shapes here must stay trainable
def _pass_one_image(model):
    with evaluating(model):
        model(torch.zeros(1, 1, 28, 28, device=device_of(model)))


def receptive_field(features):
    """Compute, layer by layer, how much of the image one unit sees.

    Parameters
    ----------
    features : nn.Sequential

    Returns
    -------
    DataFrame
        Columns ``layer``, ``size`` (pixels along one side) and ``step`` (pixels by which the view
        moves from one unit to the next); one row for each layer that has a kernel.
    """
    import pandas as pd

    rows, size, step = [], 1, 1
    names = ("kernel_size", "stride", "dilation")
    for layer in features:
        if not hasattr(layer, "kernel_size"):
            continue
        kernel, stride, dilation = (_side(getattr(layer, name, 1)) for name in names)
        size += dilation * (kernel - 1) * step
        step *= stride
        rows.append({"layer": _describe(layer), "size": size, "step": step})
    return pd.DataFrame(rows)


def input_gradient(features, images, unit):
    """Measure how strongly each pixel moves one unit of the last feature maps.

    Parameters
    ----------
    features : nn.Module
    images : Tensor, (N, C, H, W), float32
    unit : tuple of int
        Row and column of the unit, which is taken in all feature maps at once.

    Returns
    -------
    Tensor, (H, W), float32
        Absolute gradient, averaged over images and channels: zero outside the receptive field.
    """
    images = images.detach().clone().requires_grad_()
    row, column = unit
    (gradient,) = torch.autograd.grad(features(images)[:, :, row, column].sum(), images)
    return gradient.abs().mean(dim=(0, 1))


def effective_field(gradient, share=0.8):
    """Measure how much of a receptive field does most of the work.

    A unit sees its whole field, but not all of it equally well: Luo, Li, Urtasun and Zemel,
    "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks", NeurIPS
    2016, https://arxiv.org/abs/1701.04128.

    Parameters
    ----------
    gradient : Tensor, (H, W)
        From `input_gradient`: zero outside the receptive field.
    share : float
        Share of the gradient's sum, above 0 and at most 1.

    Returns
    -------
    int
        Side, in pixels, of the smallest square in the middle of the field that holds that share.
        Squares are compared in steps of two pixels: one ring.

    Raises
    ------
    ValueError
        If the gradient is zero everywhere.
    """
    if not gradient.any():
        raise ValueError(
            "the gradient is zero everywhere, expected a unit that depends on some pixel"
        )
    rows, columns = (gradient.sum(dim=axis).nonzero()[:, 0] for axis in (1, 0))
    field = gradient[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].double()
    side, edge = min(field.shape), 0
    # Peel off rings while the rest holds enough. For a share of 1, rounding may stop this early.
    while side - 2 * edge > 2:
        inner = field[edge + 1 : side - edge - 1, edge + 1 : side - edge - 1]
        if inner.sum() < share * field.sum():
            break
        edge += 1
    return side - 2 * edge


def _describe(layer):
    text = type(layer).__name__
    for a, b in (("in_channels", "out_channels"), ("in_features", "out_features")):
        if hasattr(layer, a):
            text += f" {getattr(layer, a)}→{getattr(layer, b)}"
    if hasattr(layer, "kernel_size"):
        kernel = _side(layer.kernel_size)
        text += f"{',' if '→' in text else ''} {kernel}×{kernel}"
    usual = {"padding": 0, "dilation": 1}
    settings = {name: _side(getattr(layer, name, value)) for name, value in usual.items()}
    return text + "".join(f", {k} {v}" for k, v in settings.items() if v != usual[k])


def _side(value):
    # PyTorch keeps a setting either as one number or as one per dimension; ours are square.
    return value[0] if isinstance(value, tuple) else value
