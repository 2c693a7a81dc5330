"""Training: one plain loop, and what it returns.

N is the number of images in a split, B in a batch. Images are (B, 1, 28, 28), logits (B, 10).

Label smoothing: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision",
arXiv:1512.00567.
"""

from copy import deepcopy
from dataclasses import dataclass, field
from math import isfinite

import pandas as pd
import torch
from torch import nn

from fmnist_lib.progress import progress_bar
from fmnist_lib.training.acceleration import autocast_for, compiled
from fmnist_lib.training.augmentation import augment
from fmnist_lib.training.checkpoints import Checkpoint
from fmnist_lib.training.config import TrainConfig, pick_device
from fmnist_lib.training.events import EventLog
from fmnist_lib.training.optimization import make_optimizer

HISTORY_COLUMNS = ("epoch", "train_loss", "val_loss", "train_acc", "val_acc")


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """What `fit` returns.

    Attributes
    ----------
    model : nn.Module
        With the weights of the best epoch, in evaluation mode, on the device it was trained on.
    history : DataFrame
        Columns ``epoch, train_loss, val_loss, train_acc, val_acc``, one row an epoch. Each figure
        is a mean over images; those for training were gathered while the weights moved.
    config : TrainConfig
    """

    model: nn.Module
    history: pd.DataFrame = field(repr=False)
    config: TrainConfig

    @property
    def best_epoch(self):
        """The epoch with the best validation accuracy, counted from 1; the first one, on a tie."""
        return int(self.history["epoch"].iloc[self.history["val_acc"].argmax()])


def fit(
    model,
    train,
    validation,
    config=None,
    *,
    log_dir=None,
    progress=True,
    after_epoch=None,
    checkpoint=None,
):
    """Train a classifier, and keep the weights of the epoch that validates best.

    With a checkpoint, a training that was killed goes on behind its last finished epoch when it is
    called again in the same way, and on the same machine ends with the same bits as one that was
    not. The weights that the model brings then play no part. A finished one returns at once.

    Parameters
    ----------
    model : nn.Module
        Turns images into logits. It is trained in place.
    train, validation : Split
    config : TrainConfig, optional
    log_dir : path, optional
        Folder for TensorBoard event files, see `EventLog`. Default: none are written.
    progress : bool
        Show a progress bar. In a notebook it clears the output of its cell when it is done.
    after_epoch : callable, optional
        Called with each new row of the history, a dict, when it is in the checkpoint; not again
        for epochs that an earlier call has trained. For the same bits it must not draw from
        PyTorch's own generators, since random layers do.
    checkpoint : path, optional
        File for the whole state, replaced after each epoch and never removed. Default: none.

    Returns
    -------
    TrainedModel

    Raises
    ------
    ValueError
        If a split is empty or holds labels that the model has no output for, if a class is to be
        validated but not trained, if a batch is larger than the train split, or if the device is
        not there.
    CheckpointError
        If the checkpoint is damaged, of another training, or cannot be written, see `Checkpoint`.
    FloatingPointError
        If the loss is not a finite number (seen at the end of an epoch).
    ModuleNotFoundError
        If event files are asked for and the package ``tensorboard`` is not installed.

    Warns
    -----
    UserWarning
        If bfloat16 or compiling is asked for where it cannot be had: training goes on without.
    """
    config = config or TrainConfig()
    device = pick_device(config.device)
    # The caller's random numbers are left as they were.
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        n_classes = _place(model, device)
    train, validation = train.to(device), validation.to(device)
    _check_splits(train, validation, n_classes, config.batch_size)
    steps = config.epochs * -(-len(train) // config.batch_size)
    autocast = autocast_for(config.precision, device)
    criterion = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
    forward = _forward(model, criterion, autocast)
    if config.compile:
        forward = compiled(forward, config.batch_size, device)
    optimizer, scheduler = make_optimizer(model, config, steps)
    keeper = Checkpoint(checkpoint, model, train, validation, config)
    done = keeper.epochs * steps // config.epochs
    with (
        torch.random.fork_rng(devices),
        EventLog(log_dir, model, validation) as events,
        progress_bar(steps, "training", show=progress, initial=done) as bar,
    ):
        torch.manual_seed(config.seed)
        generators = [torch.Generator(place).manual_seed(config.seed) for place in ("cpu", device)]
        parts = (model, optimizer, scheduler, generators)
        history, best_weights = keeper.restore(*parts)
        for epoch in range(len(history) + 1, config.epochs + 1):
            bar.set_description(f"epoch {epoch}/{config.epochs}", refresh=False)
            model.train()
            batches = _batches(train, config, *generators)
            train_loss, train_acc = train_one_epoch(
                batches, forward, optimizer, scheduler, epoch, bar
            )
            with autocast():
                val_loss, val_acc = loss_and_accuracy(model, validation, nn.CrossEntropyLoss())
            _require_finite(val_loss, f"epoch {epoch}, on the validation images", config.lr)
            if all(val_acc > row["val_acc"] for row in history):
                best_weights = deepcopy(model.state_dict())
            row = (epoch, train_loss, val_loss, train_acc, val_acc)
            history.append(dict(zip(HISTORY_COLUMNS, row, strict=True)))
            bar.set_postfix_str(f"val. loss {val_loss:.3f}, accuracy {val_acc:.3f}")
            events.write_epoch(history[-1])
            keeper.save(history, best_weights, *parts)
            if after_epoch:
                after_epoch(history[-1])
    optimizer.zero_grad()  # a compiled step on a GPU owns the memory of the gradients
    model.load_state_dict(best_weights)
    return TrainedModel(model.eval(), pd.DataFrame(history), config)


def train_one_epoch(batches, forward, optimizer, scheduler, epoch, bar):
    """Take one step of the optimizer for each batch.

    Parameters
    ----------
    batches : iterable of (images, labels)
        On the model's device; images (B, 1, 28, 28), labels (B,).
    forward : callable
        From images and labels to the mean loss of the batch and the logits (B, 10).
    optimizer : torch.optim.Optimizer
    scheduler : torch.optim.lr_scheduler.LRScheduler or None
        Moved after each step.
    epoch : int
        Its number, for the error message.
    bar : tqdm
        Moved by one at each step.

    Returns
    -------
    loss, accuracy : float
        Means over all images, so that a short last batch counts for what it holds.
    """
    losses, sizes, correct = [], [], 0
    for images, labels in batches:
        optimizer.zero_grad()
        loss, logits = forward(images, labels)
        loss.backward()
        optimizer.step()
        if scheduler:
            scheduler.step()
        # Kept as tensors: reading a number back would make a GPU wait at every step. Copied,
        # since a recorded graph of kernels writes its next loss to the same place.
        losses.append(loss.detach().clone())
        correct += (logits.detach().argmax(dim=1) == labels).sum()
        sizes.append(len(labels))
        bar.update()
        if not bar.disable and bar.n % 50 == 0 and loss.device.type == "cpu":
            figures = f"loss {loss:.3f}, accuracy {correct / sum(sizes):.3f}"
            bar.set_postfix_str(figures, refresh=False)
    step = torch.stack(losses).cpu().isfinite().int().argmin().item()  # the first bad one, or 0
    lr = optimizer.defaults["lr"]
    _require_finite(losses[step].item(), f"epoch {epoch}, step {step + 1}", lr)
    return _mean(losses, sizes), correct.item() / sum(sizes)


@torch.no_grad()
def loss_and_accuracy(model, split, criterion, batch_size=None):
    """Measure a model on a split, without gradients and in evaluation mode.

    Parameters
    ----------
    model : nn.Module
    split : Split
        On the model's device.
    criterion : callable
        Mean loss of a batch, from logits (B, 10) and labels (B,).
    batch_size : int, optional
        Images at a time; changes speed and memory, not the result. Default: 128 on a processor,
        whose caches hold what a layer makes of so many; 4,000 on a GPU.

    Returns
    -------
    loss, accuracy : float
        Means over all images.
    """
    batch_size = batch_size or (128 if split.images.device.type == "cpu" else 4000)
    model.eval()
    losses, sizes, correct = [], [], 0
    for start in range(0, len(split), batch_size):
        batch = split[start : start + batch_size]
        logits = model(batch.images.clone())  # it may write into what it is given
        losses.append(criterion(logits, batch.labels))
        correct += (logits.argmax(dim=1) == batch.labels).sum()
        sizes.append(len(batch))
    return _mean(losses, sizes), correct.item() / len(split)


def _forward(model, criterion, autocast):
    def forward(images, labels):
        with autocast():
            logits = model(images)
            return criterion(logits, labels), logits

    return forward


@torch.no_grad()
def _place(model, device):
    # Moves a model, and returns how many logits it gives. Here lazy layers take their shapes.
    blank = torch.zeros(1, 1, 28, 28, device=device)
    n_classes = model.to(device).eval()(blank).shape[1]
    try:
        # In this memory layout, convolutions run fastest on most devices, and `view` may fail.
        model.to(memory_format=torch.channels_last)(blank)
    except RuntimeError:
        model.to(memory_format=torch.contiguous_format)
    return n_classes


def _check_splits(train, validation, n_classes, batch_size):
    for name, split in {"train": train, "validation": validation}.items():
        if len(split) == 0:
            raise ValueError(f"the {name} split holds no images, expected at least one")
        low, high = split.labels.min().item(), split.labels.max().item()
        if low < 0 or high >= n_classes:
            raise ValueError(
                f"the {name} split has labels from {low} to {high}, expected 0 to "
                f"{n_classes - 1}: the model has {n_classes} outputs"
            )
    if batch_size > len(train):
        raise ValueError(
            f"batch_size is {batch_size}, expected at most {len(train)}, the number of images to "
            "train on"
        )
    if unseen := sorted(set(validation.labels.tolist()) - set(train.labels.tolist())):
        raise ValueError(
            f"the train split holds no image of class {unseen[0]}, expected some of each class "
            "that the validation split holds; split the images anew, or leave the class out of both"
        )


def _require_finite(loss, place, lr):
    if not isfinite(loss):
        raise FloatingPointError(
            f"the loss became {loss:g} at {place}, expected a finite number; try a smaller lr "
            f"than {lr:g}, and check the images for NaN"
        )


def _mean(losses, sizes):
    # The mean over images of losses that are means over batches, in double precision on the CPU.
    losses, sizes = torch.stack(losses).cpu().double(), torch.tensor(sizes).double()
    return (losses @ sizes / sizes.sum()).item()


def _batches(split, config, order, generator):
    n = len(split)
    index = torch.randperm(n, generator=order) if config.shuffle else torch.arange(n)
    for batch in index.to(split.labels.device).split(config.batch_size):
        images = split.images[batch]
        if config.shift or config.flip:
            images = augment(images, config.shift, config.flip, generator)
        yield images, split.labels[batch]
