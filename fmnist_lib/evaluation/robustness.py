"""How much accuracy is left on damaged images.

Fixed kinds of damage at five strengths: Hendrycks and Dietterich, "Benchmarking Neural Network
Robustness to Common Corruptions and Perturbations", ICLR 2019, https://arxiv.org/abs/1903.12261.
"""

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd
import torch

from fmnist_lib.common import did_you_mean, require, whole_number
from fmnist_lib.evaluation.predictions import predict
from fmnist_lib.evaluation.tables import accuracy
from fmnist_lib.inputs import checked_images
from fmnist_lib.progress import progress_bar


def _functional():
    # Imported here because it takes a second.
    from torchvision.transforms.v2 import functional

    return functional


def _shift(images, pixels):
    # Right, left, down, up, in turn.
    moved = torch.empty_like(images)
    for k, (x, y) in enumerate([(pixels, 0), (-pixels, 0), (0, pixels), (0, -pixels)]):
        moved[k::4] = _functional().affine(
            images[k::4], angle=0, translate=[x, y], scale=1, shear=[0, 0]
        )
    return moved


def _rotate(images, degrees):
    # Left and right in turn.
    turned = torch.empty_like(images)
    for k, angle in enumerate([degrees, -degrees]):
        turned[k::2] = _functional().rotate(
            images[k::2], angle, interpolation=_functional().InterpolationMode.BILINEAR
        )
    return turned


def _noise(images, deviation):
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return images + deviation * noise.to(images.device)


def _blur(images, pixels):
    return _functional().gaussian_blur(images, kernel_size=2 * round(3 * pixels) + 1, sigma=pixels)


def _contrast(images, loss):
    return _functional().adjust_contrast(images, 1 - loss)


class Corruption(NamedTuple):
    """One kind of damage."""

    apply: Callable  # (images, value) -> images
    values: tuple  # for strengths 1 to 5
    unit: str  # of the values


CORRUPTIONS = {
    "shift": Corruption(_shift, (1, 2, 3, 4, 5), "pixels"),
    "rotation": Corruption(_rotate, (6, 12, 18, 24, 30), "degrees"),
    "noise": Corruption(_noise, (0.05, 0.1, 0.15, 0.2, 0.25), "standard deviation"),
    "blur": Corruption(_blur, (0.5, 0.75, 1.0, 1.5, 2.0), "standard deviation in pixels"),
    "contrast": Corruption(_contrast, (0.1, 0.2, 0.3, 0.4, 0.5), "share lost"),
}


def corrupt(images, kind, strength):
    """Damage images, always in the same way.

    Parameters
    ----------
    images : Tensor, (N, 1, 28, 28), float32 in [0, 1]
    kind : str
        One of ``CORRUPTIONS``.
    strength : int
        From 0 (unchanged) to 5.

    Returns
    -------
    Tensor, (N, 1, 28, 28), float32 in [0, 1]
    """
    checked_images(images)
    if kind not in list(CORRUPTIONS):  # a dict would not look for a list
        raise ValueError(did_you_mean("kind", kind, list(CORRUPTIONS), "CORRUPTIONS"))
    corruption = CORRUPTIONS[kind]
    strength = whole_number("strength", strength, 0, len(corruption.values))
    damaged = corruption.apply(images, corruption.values[strength - 1]) if strength else images
    return damaged.clamp(0, 1)  # noise leaves the range, and so may rounding


def accuracy_under_corruption(models, split):
    """Measure each model on a `Split`, with each kind of damage at each strength.

    Parameters
    ----------
    models : dict of str to nn.Module
        Their names become columns.
    split : Split

    Returns
    -------
    DataFrame
        Columns ``corruption, strength, value`` (in the corruption's unit), and one per model with
        its accuracy. Strength 0, the unchanged images, is a row of every corruption.
    """
    found = list(models) if isinstance(models, dict) else type(models).__name__
    free = isinstance(models, dict) and not {"corruption", "strength", "value"} & models.keys()
    expected = "a dict whose keys are names other than corruption, strength and value"
    require(free, "models", found, expected)

    def measure(images):
        for name, model in models.items():
            yield name, accuracy(split.labels, predict(model, images).argmax(axis=1))
            bar.update()

    n_sets = 1 + sum(len(corruption.values) for corruption in CORRUPTIONS.values())
    with progress_bar(n_sets * len(models), "damaged images", unit="set") as bar:
        rows, undamaged = [], dict(measure(split.images))
        for kind, corruption in CORRUPTIONS.items():
            rows.append({"corruption": kind, "strength": 0, "value": 0.0} | undamaged)
            for strength, value in enumerate(corruption.values, start=1):
                row = {"corruption": kind, "strength": strength, "value": float(value)}
                rows.append(row | dict(measure(corrupt(split.images, kind, strength))))
    return pd.DataFrame(rows)
