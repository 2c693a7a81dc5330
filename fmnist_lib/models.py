"""The two networks of the course, and what can be read off a network without training it.

N is the number of images, C channels, H and W height and width. Both networks take images
(N, 1, 28, 28) and give logits (N, 10).

Dilated convolutions: Yu and Koltun, "Multi-Scale Context Aggregation by Dilated Convolutions",
arXiv:1511.07122. Receptive fields: Araujo, Norris and Sim, "Computing Receptive Fields of
Convolutional Neural Networks", Distill 2019, doi:10.23915/distill.00021.
"""

import torch
from torch import nn


class ConvNet(nn.Module):
    """The convolutional network: two 3×3 convolutions, three linear layers; 334,154 parameters."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=3, padding=1),  # (N, 16, 28, 28)
            nn.ReLU(),
            nn.AvgPool2d(2),  # (N, 16, 14, 14)
            nn.Conv2d(16, 32, kernel_size=3),  # (N, 32, 12, 12)
            nn.ReLU(),
            nn.AvgPool2d(2),  # (N, 32, 6, 6)
        )
        self.classifier = _classifier(32 * 6 * 6)

    def forward(self, images):
        """Turn images (N, 1, 28, 28) into logits (N, 10)."""
        return self.classifier(self.features(images))


class DilatedConvNet(nn.Module):
    """The same network with dilation 2 in both convolutions; 170,314 parameters."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=3, padding=1, dilation=2),  # (N, 16, 26, 26)
            nn.ReLU(),
            nn.AvgPool2d(2),  # (N, 16, 13, 13)
            nn.Conv2d(16, 32, kernel_size=3, dilation=2),  # (N, 32, 9, 9)
            nn.ReLU(),
            nn.AvgPool2d(2),  # (N, 32, 4, 4)
        )
        self.classifier = _classifier(32 * 4 * 4)

    def forward(self, images):
        """Turn images (N, 1, 28, 28) into logits (N, 10)."""
        return self.classifier(self.features(images))


MODELS = {"cnn": ConvNet, "dilated_cnn": DilatedConvNet}


def build_model(name, seed=None):
    """Build one of the networks of the course with PyTorch's default initialisation.

    Parameters
    ----------
    name : str
        ``"cnn"`` or ``"dilated_cnn"``.
    seed : int, optional
        The same seed gives the same first weights. Default: the state of PyTorch's generator.

    Returns
    -------
    nn.Module

    Raises
    ------
    ValueError
        If there is no network of that name.
    """
    if name not in MODELS:
        raise ValueError(f"there is no network {name!r}; choose one of {', '.join(MODELS)}")
    if seed is not None:
        torch.manual_seed(seed)
    return MODELS[name]()


def count_parameters(model):
    """Count the numbers that training may change."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def layer_table(model, input_shape=(1, 28, 28)):
    """List the layers of a network in the order in which an image passes through them.

    Parameters
    ----------
    model : nn.Module
    input_shape : tuple of int
        Shape of one image, (C, H, W).

    Returns
    -------
    DataFrame
        Columns ``layer`` (such as ``Conv2d 1→16, 3×3, padding 1``), ``output`` (its shape for one
        image, as C×H×W) and ``parameters``; one row a layer.
    """
    import pandas as pd

    rows = []

    def record(layer, inputs, output):
        shape = "×".join(map(str, output.shape[1:]))
        n = count_parameters(layer)
        rows.append({"layer": _describe(layer), "output": shape, "parameters": n})

    layers = [m for m in model.modules() if not list(m.children())]
    hooks = [layer.register_forward_hook(record) for layer in layers]
    device = next((p.device for p in model.parameters()), None)
    try:
        with torch.inference_mode():
            model(torch.zeros(1, *input_shape, device=device))
    finally:
        for hook in hooks:
            hook.remove()
    return pd.DataFrame(rows)


def receptive_field(features):
    """Compute, layer by layer, how much of the image one unit sees.

    Parameters
    ----------
    features : nn.Sequential
        Convolutions, poolings and activations, in the order of use.

    Returns
    -------
    DataFrame
        Columns ``layer``, ``size`` (pixels along one side) and ``step`` (pixels by which the view
        moves from one unit to the next); one row for each layer that has a kernel.
    """
    import pandas as pd

    rows, size, step = [], 1, 1
    for layer in features:
        if not hasattr(layer, "kernel_size"):
            continue
        kernel, stride, dilation = (
            _side(getattr(layer, attribute, 1))
            for attribute in ("kernel_size", "stride", "dilation")
        )
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


def _classifier(n_features):
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(n_features, 256),
        nn.ReLU(),
        nn.Linear(256, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


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
    # PyTorch keeps a setting either as one number or as one for each side; ours are square.
    return value[0] if isinstance(value, tuple) else value
