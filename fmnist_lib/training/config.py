"""The settings of a training run, and the device that they name."""

import re
from dataclasses import dataclass
from math import isfinite
from numbers import Real

from fmnist_lib.common import require, whole_number

SCHEDULES = ("constant", "one-cycle")
PRECISIONS = ("fp32", "bf16")
WHOLE = {"epochs": (1,), "batch_size": (1,), "seed": (0,), "shift": (0, 27)}
DEVICE = re.compile(r"auto|(cuda|mps|cpu)(:\d+)?")


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run.

    Attributes
    ----------
    epochs : int
        Passes over the training images, at least 1.
    batch_size : int
        Images per step, at least 1; the last step of an epoch takes what is left.
    lr : float
        Learning rate of Adam, above 0.
    shuffle : bool
        True draws a new order of the training images for each epoch; False keeps file order.
    seed : int
        Seed of that order and of random layers, at least 0. The first weights are drawn where the
        model is built, see `build_model`.
    device : str
        ``"auto"`` takes a CUDA GPU, else Apple's (MPS), else the CPU. Or name one of them:
        ``"cuda"``, ``"cuda:1"`` (the second one), ``"mps"`` or ``"cpu"``. `fit` checks that it
        exists.
    schedule : str
        ``"constant"`` keeps the learning rate; ``"one-cycle"`` lets it rise to ``lr`` over the
        first three tenths of all steps, and fall to almost nothing over the rest.
    weight_decay : float
        Decoupled weight decay (AdamW), 0 or more.
    label_smoothing : float
        Share of the target that is spread over all classes, from 0 up to, but not including, 1.
    flip : bool
        Mirror each training image left to right with probability one half.
    shift : int
        Move each training image by up to this many pixels along both axes, from 0 to 27.
    precision : str
        ``"fp32"``, or ``"bf16"``: products of matrices, and what passes between layers, in 16 bits;
        sums inside products, loss, weights and optimizer in 32. The same goes for validation.
    compile : bool
        Compile the network, forward and backward, into one program with `torch.compile`.

    Raises
    ------
    ValueError
        For a value that is not allowed.
    """

    epochs: int = 25
    batch_size: int = 64
    lr: float = 3e-4
    shuffle: bool = True
    seed: int = 0
    device: str = "auto"
    schedule: str = "constant"
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    flip: bool = False
    shift: int = 0
    precision: str = "fp32"
    compile: bool = False

    def __post_init__(self):
        for name, limits in WHOLE.items():
            # A plain int, so that NumPy's can be saved, too.
            object.__setattr__(self, name, whole_number(name, getattr(self, name), *limits))
        self._real("lr", lambda lr: lr > 0, "a number above 0")
        self._real("weight_decay", lambda decay: decay >= 0, "a number of 0 or more")
        self._real("label_smoothing", lambda share: 0 <= share < 1, "a number from 0 to below 1")
        for name in ("shuffle", "flip", "compile"):
            value = getattr(self, name)
            require(isinstance(value, bool), name, value, "True or False")
        known = isinstance(self.device, str) and DEVICE.fullmatch(self.device)
        devices = "the name of a device: auto, cuda, cuda:1, mps or cpu"
        require(known, "device", self.device, devices)
        for name, known in (("schedule", SCHEDULES), ("precision", PRECISIONS)):
            value = getattr(self, name)
            require(value in known, name, value, f"one of {', '.join(known)}")

    @classmethod
    def fast(cls, **changes):
        """Return settings that reach the accuracy of 25 plain epochs in four.

        Shuffling, a one-cycle schedule, decoupled weight decay, label smoothing and bfloat16, for
        the two networks of the course; chosen on the validation images. The papers are cited in
        `training.loop` and `training.acceleration`. Any setting can be overridden.
        """
        settings = {
            "epochs": 4,
            "batch_size": 128,
            "lr": 1.2e-2,
            "schedule": "one-cycle",
            "weight_decay": 0.02,
            "label_smoothing": 0.05,
            "precision": "bf16",
        }
        return cls(**settings | changes)

    @classmethod
    def accurate(cls, **changes):
        """Return settings that reach a high accuracy in 25 epochs: `fast`, with augmentation."""
        settings = {"epochs": 25, "lr": 8e-3, "weight_decay": 0.05, "flip": True, "shift": 1}
        return cls.fast(**settings | changes)

    def _real(self, name, holds, expected):
        value = getattr(self, name)
        good = isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)
        require(good and holds(value), name, value, expected)
        object.__setattr__(self, name, float(value))


def pick_device(name="auto"):
    """Return the `torch.device` that a `TrainConfig` names; ValueError if it does not exist."""
    import torch  # here, so that a command that only checks settings answers at once

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    counts = {"cuda": gpus, "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    available = [kind for kind in counts if counts[kind]]
    if name == "auto":
        return torch.device(available[0])
    kind, _, index = str(name).partition(":")
    exists = kind in counts and DEVICE.fullmatch(str(name)) and int(index or 0) < counts[kind]
    require(exists, "device", name, f"auto or one of {', '.join(available)}")
    return torch.device(name)
