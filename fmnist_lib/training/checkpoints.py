"""Checkpoints: the whole state of a training run in one file, to continue from after a kill.

The file is one dict of numbers, text and tensors as `torch.save` writes it: a zip archive, whose
checksums reveal damage. It is read without unpickling objects, so that loading executes nothing,
and it is replaced in one move, so that a kill leaves the last one whole.
"""

import io
import zipfile
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError

import torch

from fmnist_lib.common import UserError, one_line, staged

CONTENT = {"training", "history", "best_weights", "model", "optimizer", "scheduler", "random"}


class CheckpointError(UserError):
    """A file is not a checkpoint of this training run, or cannot be read or written."""


class UnwritableError(CheckpointError):
    """A checkpoint cannot be written; the previous one is intact."""


class Checkpoint:
    """A listener of `fit` that keeps the state after the last finished epoch in a file.

    If the file exists when `fit` starts, training continues from it, and on the same machine ends
    with the same bits as if it had never stopped. The model's initial weights then play no part. A
    finished training run returns at once; the file is never removed. Put it first among the
    listeners, so that the others are called only for epochs that are in the file.

    State that a model keeps outside its `torch.nn.Module.state_dict` is not in the file, nor is the
    code of its ``forward``: if you change that, name another file. For the
    same bits, no other listener may draw from PyTorch's global generators, which random layers use.

    Parameters
    ----------
    path : path

    Raises
    ------
    CheckpointError
        From `fit`, if the file is damaged, is not a checkpoint, or belongs to another training run
        (network, settings other than ``device``, data, kind of device), or, as an
        `UnwritableError`, if its folder cannot be written. The file is left as it is.
    """

    def __init__(self, path):
        self.path = Path(path)

    def on_start(self, state):
        """Restore everything that training changes from the file, if it exists."""
        with self._staged():
            pass  # an unwritable folder should fail now, not after an epoch
        self._training = _describe(state)
        if saved := _read(self.path):
            _require_same(self.path, saved["training"], self._training)
            _restore(state, saved, self.path)

    def __call__(self, state):
        """Save the current state, replacing the file."""
        saved = {
            "training": self._training,
            "history": state.rows,
            "best_weights": state.best_weights,
            "model": state.model.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "scheduler": state.scheduler.state_dict() if state.scheduler else None,
            "random": _get_random(state),
        }
        # In memory first: on a full disk, PyTorch's own writing raises a RuntimeError.
        torch.save(saved, content := io.BytesIO())
        with self._staged() as part:
            (part / self.path.name).write_bytes(content.getbuffer())

    def _staged(self):
        folder = self.path.parent.absolute()
        return staged(folder, f"the checkpoint {self.path.name}", UnwritableError)


def load_tensors(file):
    """Read what `torch.save` wrote, onto the CPU; ValueError if it holds objects of other kinds."""
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError:  # PyTorch's own message says how to execute them
        raise ValueError("it holds objects that can execute code, expected tensors") from None


def _restore(state, saved, path):
    with _reading(path):
        # Copied into the existing tensors, so that their memory layout (channels last) stays.
        state.model.load_state_dict(saved["model"])
        state.optimizer.load_state_dict(saved["optimizer"])
        if state.scheduler:
            state.scheduler.load_state_dict(saved["scheduler"])
        for generator in (*state.generators, torch.default_generator):
            generator.set_state(saved["random"].pop(0))
        if state.device.type != "cpu":
            torch.get_device_module(state.device).set_rng_state(saved["random"].pop(), state.device)
        state.rows[:] = [dict(row) for row in saved["history"]]
        state.best_weights = saved["best_weights"]


def _get_random(state):
    # Dropout and the like draw from PyTorch's global generators; a GPU has one of its own.
    numbers = [each.get_state() for each in (*state.generators, torch.default_generator)]
    if state.device.type != "cpu":
        numbers.append(torch.get_device_module(state.device).get_rng_state(state.device))
    return numbers


def _describe(state):
    """List what tells this training run from others, by name, for an error message."""
    found = {"kind of device": state.device.type}
    for name, split in state.data.items():
        found[f"{name} split"] = f"{split['images']} images of SHA-256 {split['sha256'][:16]}"
    for name, value in state.model.state_dict().items():
        found[f"tensor {name}"] = f"{tuple(value.shape)} {value.dtype}"
    # Two networks can have the same tensors, and differ in a dilation.
    for name, layer in state.model.named_modules():
        found[f"layer {name}" if name else "network"] = (
            f"{type(layer).__name__}({layer.extra_repr()})"
        )
    for name, value in asdict(state.config).items():
        found[f"setting {name}"] = value
    del found["setting device"]  # "auto" may be the same device as "cpu"
    return found


def _require_same(path, found, expected):
    for name in expected | found:
        there, here = found.get(name, "missing"), expected.get(name, "nothing")
        if there != here:
            raise CheckpointError(
                f"the checkpoint {path} belongs to another training run: its {name} is {there}, "
                f"expected {here}; name another file, or move this one away to start over"
            )


def _read(path):
    """Read a checkpoint; None if there is no such file."""
    with _reading(path):
        try:
            content = io.BytesIO(path.read_bytes())
        except FileNotFoundError:
            return None
        if member := zipfile.ZipFile(content).testzip():
            raise ValueError(f"the checksum of {member} in it is wrong")
        content.seek(0)
        saved = load_tensors(content)
        if not isinstance(saved, dict) or saved.keys() != CONTENT:
            raise ValueError("it does not hold what a checkpoint holds")
        saved["training"] = dict(saved["training"])
    return saved


@contextmanager
def _reading(path):
    try:
        yield
    except Exception as error:  # of many kinds: the file may hold anything
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({one_line(error)}), expected an intact file "
            "that `fit` wrote; name another file, or move this one away to start over"
        ) from None
