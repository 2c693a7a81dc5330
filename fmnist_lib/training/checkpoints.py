"""Checkpoints: the whole state of a training in one file, from which a killed one goes on.

The file is a line of text, ``fmnist-lib checkpoint 1`` and the SHA-256 of all that follows, and
then one dict of numbers, texts and tensors as `torch.save` writes it. It is read without unpickling
objects, so that loading executes nothing, and it is replaced in one move, so that a kill leaves the
last one whole.
"""

import hashlib
import io
import os
import tempfile
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch

from fmnist_lib.common import UserError

FIRST_WORDS = b"fmnist-lib checkpoint 1"  # the number is that of the format
CONTENT = {"training", "history", "best_weights", "model", "optimizer", "scheduler", "random"}


class CheckpointError(UserError):
    """A file is no checkpoint of this training, or cannot be read or written."""


class Checkpoint:
    """The file that holds the state of a training as it was after an epoch.

    What a model keeps outside its `torch.nn.Module.state_dict`, it has to do without.

    Parameters
    ----------
    path : path or None
        None keeps nothing, and finds nothing.
    model : nn.Module
    train, validation : Split
    config : TrainConfig

    Attributes
    ----------
    epochs : int
        Epochs that the training in the file has behind it; 0 where there is no file.

    Raises
    ------
    CheckpointError
        If the file is damaged, no checkpoint, or one of another training (network, settings other
        than ``device``, data, kind of device), or if there is no writing in its folder. The file is
        left as it is.
    """

    def __init__(self, path, model, train, validation, config):
        self.path, self.epochs, self._saved = None, 0, None
        if path is None:
            return
        self.path, self._device = Path(path), train.labels.device
        with _staged(self.path):
            pass  # better told now than after an epoch
        self._training = _describe(model, train, validation, config)
        if self.path.exists():
            self._saved = _read(self.path)
            _require_same(self.path, self._saved["training"], self._training)
            self.epochs = len(self._saved["history"])

    def restore(self, model, optimizer, scheduler, generators):
        """Bring everything that a training changes back to the state in the file, if there is one.

        Parameters
        ----------
        model : nn.Module
        optimizer : torch.optim.Optimizer
        scheduler : torch.optim.lr_scheduler.LRScheduler or None
        generators : sequence of torch.Generator
            Those of PyTorch itself, for the processor and the device, are restored as well.

        Returns
        -------
        history : list of dict
            One row an epoch; empty where there is no file.
        best_weights : dict of str to Tensor, or None
        """
        if not self._saved:
            return [], None
        saved = self._saved
        # Copied into the tensors that are there, whose memory layout (channels last) stays.
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        if scheduler:
            scheduler.load_state_dict(saved["scheduler"])
        _set_random(saved["random"], generators, self._device)
        return saved["history"], saved["best_weights"]

    def save(self, history, best_weights, model, optimizer, scheduler, generators):
        """Replace the file by one with the present state; for the parameters see `restore`.

        Raises
        ------
        CheckpointError
            If it cannot be written. The file is left as it is.
        """
        if self.path is None:
            return
        state = {
            "training": self._training,
            "history": history,
            "best_weights": best_weights,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict() if scheduler else None,
            "random": _get_random(generators, self._device),
        }
        _write(self.path, state)


def _get_random(generators, device):
    # Dropout and the like draw from PyTorch's own generators, of which a GPU has another one.
    states = [generator.get_state() for generator in (*generators, torch.default_generator)]
    if device.type != "cpu":
        states.append(torch.get_device_module(device).get_rng_state(device))
    return states


def _set_random(states, generators, device):
    for generator in (*generators, torch.default_generator):
        generator.set_state(states.pop(0))
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states.pop(), device)


def _describe(model, train, validation, config):
    """List what makes a training this one and no other, under names for an error message."""
    settings = asdict(config)
    del settings["device"]  # "auto" may be the same device as "cpu"; its kind is told below
    tensors = {
        f"tensor {name}": f"{tuple(value.shape)} {value.dtype}"
        for name, value in model.state_dict().items()
    }
    # Two networks can have the same tensors, and differ in a dilation.
    layers = {
        f"layer {name}" if name else "network": f"{type(layer).__name__}({layer.extra_repr()})"
        for name, layer in model.named_modules()
    }
    return {
        **tensors,
        **layers,
        **{f"setting {name}": value for name, value in settings.items()},
        "train split": _fingerprint(train),
        "validation split": _fingerprint(validation),
        "kind of device": train.labels.device.type,
    }


def _fingerprint(split):
    digest = hashlib.sha256()
    for tensor in (split.images, split.labels):
        digest.update(tensor.cpu().contiguous().numpy())
    return f"{len(split)} images of SHA-256 {digest.hexdigest()[:16]}"


def _require_same(path, found, wanted):
    for name in wanted | found:
        there, here = found.get(name, "missing"), wanted.get(name, "none")
        if there != here:
            raise CheckpointError(
                f"the checkpoint {path} is of another training: its {name} is {there}, expected "
                f"{here}; name another file, or remove this one to begin anew"
            )


def _read(path):
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"the checkpoint {path} cannot be read ({error.strerror}), expected a file with the "
            "right to read it; give that right, or name another file"
        ) from None
    line, _, payload = content.partition(b"\n")
    words, _, expected = line.rpartition(b" ")
    if words != FIRST_WORDS:
        raise CheckpointError(
            f"{path} is not a checkpoint: it begins with {content[:24]!r}, expected "
            f"{FIRST_WORDS!r}; name another file, or remove this one to begin anew"
        )
    found = hashlib.sha256(payload).hexdigest().encode()
    if found != expected:
        raise CheckpointError(
            f"the checkpoint {path} is truncated or damaged (SHA-256 {found[:12].decode()}…, "
            f"expected {expected[:12].decode(errors='replace')}…); remove it to begin anew"
        )
    return _unpack(path, payload)


def _unpack(path, payload):
    try:
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        if state.keys() != CONTENT:
            raise ValueError(f"it holds {', '.join(map(str, state))}")
    except Exception as error:  # of many kinds: whatever bytes may be made to hold
        reason = (str(error).splitlines() or [""])[0][:200]
        raise CheckpointError(
            f"the checkpoint {path} holds something else than a training's state "
            f"({type(error).__name__}: {reason}), expected what `fit` writes; remove it to begin "
            "anew"
        ) from None
    return state


def _write(path, state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getbuffer()
    digest = hashlib.sha256(payload).hexdigest().encode()
    with _staged(path) as part:
        with open(part, "wb") as file:
            file.write(FIRST_WORDS + b" " + digest + b"\n")
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())  # or a power cut after the move could leave an empty file
        os.replace(part, path)


@contextmanager
def _staged(path):
    """Name a file in a folder made for it beside ``path``: on the same disk, so that it moves."""
    if path.is_dir():
        raise CheckpointError(
            f"the checkpoint {path} is a folder, expected a file; name one in it, such as "
            f"{path / 'checkpoint.pt'}"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".part-") as folder:
            yield Path(folder) / path.name
    except OSError as error:
        raise CheckpointError(
            f"the checkpoint {path} cannot be written ({error.strerror}), expected a place with "
            "room and the right to write; make room or give rights there, or name another file"
        ) from None
