"""The networks of the course.

N is the number of images, C channels, H and W height and width. The networks take images
(N, 1, 28, 28) and return logits (N, 10).

Dilated convolutions: Yu and Koltun, "Multi-Scale Context Aggregation by Dilated Convolutions",
https://arxiv.org/abs/1511.07122.
"""

from functools import partial

import torch
from torch import nn

from fmnist_lib.common import one_thread, whole_number


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
    """The same network with dilation 2 in both convolutions; 170,314 parameters.

    Parameters
    ----------
    padding : pair of int
        Padding, in pixels, of the first and the second convolution. The default is ConvNet's, which
        with dilation leads to smaller feature maps; (2, 1) gives maps as large as ConvNet's, and
        so as many parameters, 334,154.
    """

    def __init__(self, padding=(1, 0)):
        super().__init__()
        first, second = padding
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=3, padding=first, dilation=2),  # (N, 16, 26, 26)
            nn.ReLU(),
            nn.AvgPool2d(2),  # (N, 16, 13, 13)
            nn.Conv2d(16, 32, kernel_size=3, padding=second, dilation=2),  # (N, 32, 9, 9)
            nn.ReLU(),
            nn.AvgPool2d(2),  # (N, 32, 4, 4)
        )
        # A dilated kernel spans 5 pixels, so each convolution takes 4 off the padded side.
        side = ((28 + 2 * first - 4) // 2 + 2 * second - 4) // 2
        self.classifier = _classifier(32 * side * side)

    def forward(self, images):
        """Turn images (N, 1, 28, 28) into logits (N, 10)."""
        return self.classifier(self.features(images))


#: What makes each network, by name. Add your own, and `fmnist_lib.trained` can keep it, too.
MODELS = {
    "cnn": ConvNet,
    "dilated_cnn": DilatedConvNet,
    "padded_dilated_cnn": partial(DilatedConvNet, padding=(2, 1)),
}


def build_model(name, seed=None):
    """Build one of the networks of the course with PyTorch's default initialisation.

    Parameters
    ----------
    name : str
        A key of `MODELS`: ``"cnn"``, ``"dilated_cnn"``, ``"padded_dilated_cnn"`` (the dilated one
        with feature maps as large as those of ``"cnn"``), or one that you added.
    seed : int, optional
        The same seed gives the same first weights, and PyTorch's generator is left as it is. By
        default, they are drawn from that generator.

    Raises
    ------
    ValueError
        If there is no network of that name, or the seed is not a whole number of 0 or more.
    """
    if name not in MODELS:
        raise ValueError(
            f"there is no network {name!r}; choose one of {', '.join(MODELS)}, or add your own to "
            "fmnist_lib.models.MODELS"
        )
    if seed is None:
        return MODELS[name]()
    seed = whole_number("seed", seed)
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return MODELS[name]()


def _classifier(n_features):
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(n_features, 256),
        nn.ReLU(),
        nn.Linear(256, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )
