"""The settings of a training, and the device that they name."""

from dataclasses import dataclass
from math import isfinite
from numbers import Integral, Real

import torch


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training.

    Attributes
    ----------
    epochs : int
        Passes over the training images, at least 1.
    batch_size : int
        Images a step, at least 1; the last step of an epoch takes what is left.
    lr : float
        Learning rate of Adam, above 0.
    shuffle : bool
        True draws a new order of the training images each epoch; False takes them in file order.
    seed : int
        Seed of that order and of random layers, at least 0. The first weights are drawn where the
        model is built, see `build_model`.
    device : str
        ``"auto"`` takes a CUDA GPU, else Apple's (MPS), else the CPU; or one of them by its name.
        Whether it is there is seen when `fit` starts.

    Raises
    ------
    ValueError
        For a value that makes no sense.
    """

    epochs: int = 25
    batch_size: int = 64
    lr: float = 3e-4
    shuffle: bool = True
    seed: int = 0
    device: str = "auto"

    def __post_init__(self):
        for name, least in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
            value = getattr(self, name)
            whole = isinstance(value, Integral) and not isinstance(value, bool)
            good = whole and least <= value < 2**63
            _require(good, name, value, f"a whole number of {least} or more")
            # Plain numbers, so that those of NumPy can be saved as well.
            object.__setattr__(self, name, int(value))
        number = isinstance(self.lr, Real) and not isinstance(self.lr, bool)
        _require(number and isfinite(self.lr) and self.lr > 0, "lr", self.lr, "a number above 0")
        object.__setattr__(self, "lr", float(self.lr))
        _require(isinstance(self.shuffle, bool), "shuffle", self.shuffle, "True or False")
        _require(isinstance(self.device, str), "device", self.device, "the name of a device")


def pick_device(name="auto"):
    """Choose the device to train on.

    Parameters
    ----------
    name : str
        ``"auto"`` takes a CUDA GPU, else Apple's (MPS), else the CPU.

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        If the device is unknown or not there.
    """
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next((kind for kind, there in found.items() if there), "cpu"))
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = None
    there = [kind for kind, is_there in (found | {"cpu": True}).items() if is_there]
    good = device is not None and device.type in there
    if good and device.type == "cuda" and device.index is not None:
        good = device.index < torch.cuda.device_count()
    _require(good, "device", name, f"auto or one of {', '.join(there)}")
    return device


def _require(holds, name, value, expected):
    if not holds:
        raise ValueError(f"{name} is {value!r}, expected {expected}")
