"""Training: one plain loop, and what it returns.

N is the number of images in a split, B in a batch, C that of classes. Images are (B, 1, 28, 28),
logits (B, C).

Adam: Kingma and Ba, https://arxiv.org/abs/1412.6980. Decoupled weight decay: Loshchilov and Hutter,
https://arxiv.org/abs/1711.05101. One-cycle schedule: Smith and Topin,
https://arxiv.org/abs/1708.07120. Label smoothing: Szegedy et al., "Rethinking the Inception
Architecture for Computer Vision", https://arxiv.org/abs/1512.00567.
"""

from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, field
from math import ceil, isfinite, isnan, nan

import pandas as pd
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR

from fmnist_lib.common import one_line, one_thread, require
from fmnist_lib.data import Split
from fmnist_lib.inputs import checked_model, logits_of
from fmnist_lib.inspection import evaluating
from fmnist_lib.training.acceleration import TO_CALLER_OF_FIT, autocast_for, compiled, supported
from fmnist_lib.training.augmentation import augment
from fmnist_lib.training.config import TrainConfig, pick_device
from fmnist_lib.training.listeners import ProgressBar

NORMALISATION = nn.modules.batchnorm._BatchNorm
HISTORY_COLUMNS = ("epoch", "train_loss", "val_loss", "train_acc", "val_acc")


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """What `fit` returns.

    Attributes
    ----------
    model : nn.Module
        With the weights of the best epoch, in evaluation mode, on the device it was trained on.
    history : DataFrame
        Columns ``epoch, train_loss, val_loss, train_acc, val_acc``, one row per epoch. Each figure
        is a mean over images; those for training were gathered while the weights moved.
    config : TrainConfig
        As carried out: without bfloat16 or compiling where they were not available.
    data : dict
        What it was trained on: `Split.describe` of ``"train"`` and ``"validation"``.
    """

    model: nn.Module
    history: pd.DataFrame = field(repr=False)
    config: TrainConfig
    data: dict

    @property
    def best_epoch(self):
        """The epoch with the best validation accuracy, counted from 1; the first one, on a tie."""
        return int(self.history["epoch"].iloc[self.history["val_acc"].argmax()])


@one_thread()
def fit(model, train, validation, config=None, *, listeners=(), progress=True):
    """Train a classifier, and keep the weights of the epoch that validates best.

    Threads take turns: while one trains, `fit` and `predict` wait in the others.

    Parameters
    ----------
    model : nn.Module
        Turns images into logits. It is trained in place.
    train, validation : Split
    config : TrainConfig, optional
    listeners : sequence of callable
        Each is called with the `TrainingState` after every epoch, in this order; if it has a method
        ``on_start``, that is called with the same state before the first. `Checkpoint` and
        `EventLog` are such listeners, and so is ``lambda state: print(state.history[-1])``.
    progress : bool
        Show a progress bar. In a notebook it clears the output of its cell when it is done.

    Returns
    -------
    TrainedModel

    Raises
    ------
    ValueError
        Before the first epoch: if the model does not turn images into logits, or has nothing to
        train; if a split is empty or holds labels that the model has no output for; if the
        validation split has a class that the train split lacks; if a batch is larger than the train
        split, or too small for batch normalisation; if the device does not exist; or if gradients
        are switched off.
    FloatingPointError
        If the loss is not a finite number (checked at the end of an epoch).

    Warns
    -----
    UserWarning
        If bfloat16 or compiling is requested but not available: training continues without it. If
        the model returns probabilities instead of logits.
    """
    state = _start(model, train, validation, config or TrainConfig())
    optimizer, scheduler = state.optimizer, state.scheduler
    listeners = [*listeners, ProgressBar()] if progress else listeners
    with state.fork_rng(), state.exits:
        torch.manual_seed(state.config.seed)
        for listener in listeners:
            if hasattr(listener, "on_start"):
                listener.on_start(state)
        for _ in range(len(state.rows), state.config.epochs):
            model.train()
            state.means = Means()
            for images, labels in state.batches():
                optimizer.zero_grad()
                loss, logits = state.forward(images, labels)
                state.means.add(loss, logits, labels)
                loss.backward()
                optimizer.step()
                if scheduler:
                    scheduler.step()
            val_loss, val_acc = state.validate()
            if all(val_acc > row["val_acc"] for row in state.rows):
                state.best_weights = deepcopy(model.state_dict())
            state.add_row(val_loss, val_acc)
            for listener in listeners:
                listener(state)
    optimizer.zero_grad()  # a compiled step on a GPU owns the memory of the gradients
    model.load_state_dict(state.best_weights)
    return TrainedModel(model.eval(), pd.DataFrame(state.rows), state.config, state.data)


class Means:
    """Mean loss and accuracy over images: each batch, even a short last one, counts by its size."""

    def __init__(self):
        self.losses, self.sizes, self.correct = [], [], 0

    def add(self, loss, logits, labels):
        """Add a batch: its mean loss, logits (B, C) and labels (B,)."""
        # Kept as tensors: reading a number back would make a GPU wait at every step. Copied,
        # since a recorded graph of kernels writes its next loss to the same place.
        self.losses.append(loss.detach().clone())
        self.correct += (logits.detach().argmax(dim=1) == labels).sum()
        self.sizes.append(len(labels))

    @property
    def loss(self):
        """The mean over images, in double precision."""
        losses, sizes = torch.stack(self.losses).cpu().double(), torch.tensor(self.sizes).double()
        return (losses @ sizes / sizes.sum()).item()

    @property
    def accuracy(self):
        """The share of images whose largest logit is that of their label."""
        return self.correct.item() / sum(self.sizes)


@dataclass(eq=False)
class TrainingState:
    """Everything that `fit` works with and changes, for its listeners to read.

    Attributes
    ----------
    model : nn.Module
    train, validation : Split
        On the device of the model.
    config : TrainConfig
    data : dict
        As in `TrainedModel`.
    steps_per_epoch : int
        A short last one included.
    forward : callable
        From images (B, 1, 28, 28) and labels (B,) to the mean loss and the logits (B, C).
    autocast : callable
        Makes the context that sets the precision.
    optimizer : torch.optim.Optimizer
    scheduler : torch.optim.lr_scheduler.LRScheduler or None
    generators : pair of torch.Generator
        For the order of the images, on the CPU, and for augmentation, on the device.
    rows : list of dict
        The finished epochs, with the keys ``epoch, train_loss, val_loss, train_acc, val_acc``.
    best_weights : dict of str to Tensor, or None
    means : Means
        Of the training images of the current epoch.
    exits : ExitStack
        Closed when training ends or fails; a listener adds to it whatever it opens.
    """

    model: nn.Module
    train: object
    validation: object
    config: TrainConfig
    data: dict
    steps_per_epoch: int
    forward: object
    autocast: object
    optimizer: torch.optim.Optimizer
    scheduler: object
    generators: tuple
    rows: list = field(default_factory=list)
    best_weights: dict | None = None
    means: Means | None = None
    exits: ExitStack = field(default_factory=ExitStack)

    @property
    def history(self):
        """A copy of ``rows``: whatever a listener does to it, the history stays as it is."""
        return [dict(row) for row in self.rows]

    @property
    def device(self):
        """The device of the model and of both splits."""
        return self.train.labels.device

    def fork_rng(self):
        """Make a context that leaves the state of PyTorch's generators as it was."""
        return _fork_rng(self.device)

    def batches(self):
        """Yield the training images and labels of one epoch, shuffled and augmented if set."""
        config, n, (order, noise) = self.config, len(self.train), self.generators
        index = torch.randperm(n, generator=order) if config.shuffle else torch.arange(n)
        for batch in index.to(self.device).split(config.batch_size):
            images = self.train.images[batch]
            if config.shift or config.flip:
                images = augment(images, config.shift, config.flip, noise)
            yield images, self.train.labels[batch]

    def validate(self):
        """Measure loss and accuracy on the validation images, in the precision of training."""
        with self.autocast():
            return loss_and_accuracy(self.model, self.validation)

    def add_row(self, val_loss, val_acc):
        """Add an epoch to the history; FloatingPointError for a loss that is not finite."""
        epoch = len(self.rows) + 1
        losses = torch.stack(self.means.losses).tolist()
        places = {f"step {step}": loss for step, loss in enumerate(losses, start=1)}
        for place, loss in (places | {"on the validation images": val_loss}).items():
            if not isfinite(loss):
                raise FloatingPointError(
                    f"the loss became {loss:g} at epoch {epoch}, {place}, expected a finite "
                    f"number; try a smaller lr than {self.config.lr:g}"
                )
        row = (epoch, self.means.loss, val_loss, self.means.accuracy, val_acc)
        self.rows.append(dict(zip(HISTORY_COLUMNS, row, strict=True)))


@torch.no_grad()
def loss_and_accuracy(model, split):
    """Measure mean cross-entropy and accuracy on a split, in evaluation mode.

    The split is on the model's device. Both numbers are NaN if a logit is.
    """
    # A layer's output for this many images fits into the caches of a CPU.
    batch_size = 128 if split.images.device.type == "cpu" else 4000
    batches = zip(split.images.split(batch_size), split.labels.split(batch_size), strict=True)
    means = Means()
    with evaluating(model):
        for images, labels in batches:
            logits = model(images.clone())  # the model may modify its input
            means.add(cross_entropy(logits, labels), logits, labels)
    return means.loss, nan if isnan(means.loss) else means.accuracy


def make_optimizer(model, config, steps):
    """Make AdamW (Adam, if the weight decay is 0) and the learning rate schedule, or None.

    The schedule covers ``steps`` optimizer steps, and moves on after each.
    """
    one_cycle = config.schedule == "one-cycle"
    # OneCycleLR moves the first beta, from 0.95 to 0.85 and back. A short training run should
    # forget the size of earlier gradients sooner, hence the second.
    betas = (0.9, 0.99 if one_cycle else 0.999)
    optimizer = torch.optim.AdamW(
        model.parameters(), config.lr, betas, weight_decay=config.weight_decay, fused=True
    )
    return optimizer, OneCycleLR(optimizer, config.lr, total_steps=steps) if one_cycle else None


def _start(model, train, validation, config):
    if not torch.is_grad_enabled():
        raise ValueError("gradients are off, expected them on; call fit outside torch.no_grad()")
    device = pick_device(config.device)
    splits = {"train": train, "validation": validation}
    for name, split in splits.items():
        require(isinstance(split, Split), f"the {name} split", type(split).__name__, "a Split")
    data = {name: split.describe() for name, split in splits.items()}
    with _fork_rng(device):
        n_classes = _place(model, device)
        _check_splits(splits, n_classes, config.batch_size)
        _check_short_batch(model, device, len(train), config.batch_size)
    autocast = autocast_for(config.precision, device)
    steps_per_epoch = ceil(len(train) / config.batch_size)
    criterion = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)

    def forward(images, labels):
        with autocast():
            logits = model(images)
            return criterion(logits, labels), logits

    if config.compile:
        forward = compiled(forward, config.batch_size, device)
    optimizer, scheduler = make_optimizer(model, config, config.epochs * steps_per_epoch)
    generators = tuple(torch.Generator(place).manual_seed(config.seed) for place in ("cpu", device))
    return TrainingState(
        model,
        train.to(device),
        validation.to(device),
        supported(config, device),
        data,
        steps_per_epoch,
        forward,
        autocast,
        optimizer,
        scheduler,
        generators,
    )


def _fork_rng(device):
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


def _place(model, device):
    # Move a model, and return how many logits it gives. Lazy layers get their shapes here. The
    # images are noise, since a model that standardizes each one would divide by 0 on a blank one.
    images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.no_grad(), evaluating(checked_model(model).to(device)):
        n_classes = logits_of(model, images, stacklevel=TO_CALLER_OF_FIT + 1).shape[1]
        try:
            # Convolutions run fastest in this memory layout, on most devices; but `view` may fail.
            model.to(memory_format=torch.channels_last)(images)
        except RuntimeError:
            model.to(memory_format=torch.contiguous_format)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        found = f"{len(list(model.parameters()))} parameter tensors, none with requires_grad"
        raise ValueError(f"the model has {found}, expected at least one that can be trained")
    return n_classes


def _check_splits(splits, n_classes, batch_size):
    for name, split in splits.items():
        if len(split) == 0:
            raise ValueError(f"the {name} split holds no images, expected at least one")
        low, high = split.labels.min().item(), split.labels.max().item()
        if high >= n_classes:
            raise ValueError(
                f"the {name} split has labels from {low} to {high}, expected 0 to "
                f"{n_classes - 1}: the model has {n_classes} outputs"
            )
    train, validation = splits.values()
    if batch_size > len(train):
        raise ValueError(
            f"batch_size is {batch_size}, expected at most {len(train)}, the number of training "
            "images"
        )
    if unseen := sorted(set(validation.labels.tolist()) - set(train.labels.tolist())):
        raise ValueError(
            f"the train split holds no image of class {unseen[0]}, expected some of each class "
            "that the validation split holds; split the images again, or leave the class out of "
            "both"
        )


@torch.no_grad()
def _check_short_batch(model, device, n, batch_size):
    """Refuse a last batch of one image if the model's normalisation cannot train on it."""
    normalises = any(isinstance(layer, NORMALISATION) for layer in model.modules())
    if not normalises or (n - 1) % batch_size:
        return
    before = deepcopy(model.state_dict())
    with evaluating(model):  # which restores each layer's mode
        try:
            model.train()(torch.zeros(1, 1, 28, 28, device=device))
        except ValueError as error:
            raise ValueError(
                f"the last batch of each epoch holds one image ({n} images, batch_size is "
                f"{batch_size}), on which a layer cannot be trained ({one_line(error)}); choose "
                "another batch_size"
            ) from None
        finally:
            model.load_state_dict(before)
