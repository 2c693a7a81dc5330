"""Trained networks: saving what training produced, and loading it again.

A trained network is a folder::

    weights.pt     the model's state dict: tensors only, read without unpickling objects
    history.csv    one row per epoch
    record.json    network, settings, metrics, fingerprints of the images and labels, versions and
                   machine, and the SHA-256 of the other two files

The hidden file ``.lock`` keeps processes from saving there at the same time.
"""

import io
import json
import math
import os
import platform
import warnings
from contextlib import ExitStack, suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch

from fmnist_lib.common import (
    PART,
    LockError,
    UserError,
    digest,
    locked,
    one_line,
    require,
    staged,
    writing,
)
from fmnist_lib.inspection import device_of, evaluating
from fmnist_lib.models import build_model
from fmnist_lib.progress import in_notebook
from fmnist_lib.training import Checkpoint, TrainConfig, TrainedModel, fit, pick_device
from fmnist_lib.training.acceleration import supported
from fmnist_lib.training.checkpoints import load_tensors

PACKAGES = ("fmnist-lib", "torch", "torchvision", "numpy", "pandas", "scikit-learn")
FILES = ("weights.pt", "history.csv")
# What a record must hold, and of which kind.
ENTRIES = {
    "network": str,
    "logits": list,
    "config": dict,
    "metrics": dict,
    "data": dict,
    "machine": dict,
}


class TrainedModelError(UserError):
    """A folder does not hold a trained network, or cannot be written."""


class NoTrainedModelError(TrainedModelError):
    """A folder holds no trained network at all."""


def machine_record():
    """Describe the hardware and software that affect this process's results, as a dict."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "gpu": gpu or ("Apple (MPS)" if torch.backends.mps.is_available() else None),
    }


def describe_machine():
    """Summarize `machine_record` in one line, for the top of a chapter."""
    record = machine_record()
    packages = ", ".join(f"{name} {number}" for name, number in record["packages"].items())
    device = record["gpu"] or f"CPU ({record['cpu_capability']}, {record['threads']} threads)"
    return f"Python {record['python']}, {packages}; {record['system']}, {device}"


def save_trained(folder, name, trained, metrics, *, test=None):
    """Write a trained network to a folder, replacing the one that is there.

    Parameters
    ----------
    folder : path
    name : str
        Name of the network, as for `build_model`.
    trained : TrainedModel
    metrics : dict of str to float
        Not-a-number becomes null.
    test : Split, optional
        The images on which the test metrics were measured.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    TrainedModelError
        If `load_trained` would not give the same network back, or if the folder cannot be written.
        Nothing is written then.
    """
    folder = Path(folder)
    _save(folder, _record(name, trained, metrics, test), trained)
    return folder


def load_trained(folder):
    """Load a `TrainedModel` onto the CPU, and the content of its ``record.json`` as a dict.

    Raises
    ------
    TrainedModelError
        If the folder holds no trained network, or files that are damaged or do not belong together.
    """
    folder = Path(folder)
    try:
        return _load(folder)
    except FileNotFoundError:
        raise NoTrainedModelError(
            f"{folder} holds no trained network: record.json is missing; name another folder, or "
            "train one"
        ) from None
    except Exception as error:  # of many kinds: the files may hold anything
        raise TrainedModelError(
            f"the trained network in {folder} cannot be read ({one_line(error)}); name another "
            "folder"
        ) from None


def load_or_train(folder, name, data, config):
    """Load a chapter's trained network, or train it if it is not there.

    The network in the folder is loaded if it has this name and was trained with these settings on
    these images and labels. Any other one, readable or not, is left alone, and the new one goes
    next to it, into a folder whose name ends in a short digest of name, settings and data. A
    training run that was killed continues after its last finished epoch, from a `Checkpoint` kept
    next to the folder until the network is saved. A warning says that a network is being trained.

    Parameters
    ----------
    folder : path
    name : str
        Name of the network.
    data : FashionMNIST
    config : TrainConfig
        A network trained on another device will do, and so will one trained without the bfloat16 or
        compiling that this machine lacks.

    Returns
    -------
    TrainedModel

    Raises
    ------
    TrainedModelError
        If the trained network cannot be written, or both folders hold something else.
    CheckpointError
        If the checkpoint is damaged, was made on another kind of device, or cannot be written.
    """
    folder = Path(folder).absolute()
    splits = {"train": data.train.fingerprint(), "validation": data.validation.fingerprint()}
    # What is asked for, as a better machine may have trained it, and what this one makes of it.
    possible = supported(config, pick_device(config.device))
    wanted = [_settings(name, each, splits) for each in (config, possible)]
    key = digest(json.dumps(wanted[1]))[:8]
    neighbour = folder.with_name(f"{folder.name}-{key}")
    trained, place = _find((folder, neighbour), wanted)
    if trained:
        return trained
    # Named after the settings, since another process may take the folder meanwhile.
    checkpoint = Checkpoint(f"{neighbour}.checkpoint")
    missing = f"{folder} holds no {name} trained with these settings on these images"
    model = build_model(name, config.seed)
    warnings.warn(f"{missing}; training one", stacklevel=2)
    trained = fit(model, data.train, data.validation, config, listeners=[checkpoint])
    if in_notebook():  # where the end of the bar has cleared the first one
        warnings.warn(f"{missing}; one was trained", stacklevel=2)
    record = _record(name, trained, {"val_accuracy": trained.history["val_acc"].max()})
    if not _save(place, record, trained, replace=False):
        trained = load_or_train(folder, name, data, config)  # another process was faster
    checkpoint.path.unlink(missing_ok=True)  # missing if another process trained the same network
    return trained


def _find(places, wanted):
    """Return a wanted network and its place, or else None and the first place that is free."""
    for place in places:
        try:
            trained, record = load_trained(place)
        except TrainedModelError as error:
            if isinstance(error, NoTrainedModelError) and not _is_foreign(place):
                return None, place
            warnings.warn(f"{error}; it is left as it is", stacklevel=3)
        else:
            if _settings(record["network"], trained.config, trained.data) in wanted:
                return trained, place
    raise TrainedModelError(
        f"{places[0]} and {places[1]} hold other networks, or files that cannot be read; name "
        "another folder"
    )


def _settings(name, config, splits):
    return {"network": name, "config": asdict(config) | {"device": None}, "data": splits}


def _record(name, trained, metrics, test=None):
    """Describe a trained network, or raise `TrainedModelError` if it would not come back."""
    logits, metrics = _checked_logits(name, trained.model), _checked_metrics(metrics)
    return {
        "network": name,
        "logits": logits[0].tolist(),
        "config": asdict(trained.config),
        "best_epoch": trained.best_epoch,
        "metrics": metrics,
        "data": trained.data | ({} if test is None else {"test": test.fingerprint()}),
        "device": str(device_of(trained.model)),
        "machine": machine_record(),
    }


@torch.no_grad()
def _logits(model):
    """Return a model's logits of four images of noise, which tell it from others."""
    images = torch.rand((4, 1, 28, 28), generator=torch.Generator().manual_seed(0))
    with evaluating(model):
        return model(images.to(device_of(model))).cpu()


def _close(logits, again, share=1e-3):
    return torch.allclose(logits, again, rtol=0, atol=share * again.abs().max().item())


def _checked_logits(name, model):
    """Return a model's logits, which must be those of the named network with its weights."""
    twin, on_cpu = build_model(name, seed=0), device_of(model).type == "cpu"
    try:
        twin.load_state_dict(model.state_dict())
        # GPUs round products to 10 bits; another dilation changes far more than that.
        same = _close(_logits(model), again := _logits(twin), 1e-3 if on_cpu else 0.01)
    except RuntimeError:
        same = False
    if same:
        return again
    raise TrainedModelError(
        f"the model is a {type(model).__name__}, but build_model({name!r}) with its weights does "
        "not give the same logits; save it under the name of its own network, which you can add to "
        "fmnist_lib.models.MODELS"
    )


def _checked_metrics(metrics):
    """Return metrics as plain numbers, which JSON must give back as they are."""
    try:
        plain, reason = _plain(metrics), "they would not come back"
        if isinstance(plain, dict) and json.loads(json.dumps(plain, allow_nan=False)) == plain:
            return plain
    except (TypeError, ValueError, RecursionError) as error:
        reason = one_line(error)
    raise TrainedModelError(
        f"the metrics, a {type(metrics).__name__}, cannot be kept ({reason}), expected a dict of "
        "str to numbers"
    )


def _plain(value):
    """Turn numbers of NumPy and PyTorch into Python's; NaN, which JSON lacks, into None."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _save(folder, record, trained, replace=True):
    """Write a trained network; False if another one is there and must not be replaced."""
    weights = {key: value.cpu() for key, value in trained.model.state_dict().items()}
    # In memory first: on a full disk, PyTorch's own writing raises a RuntimeError.
    torch.save(weights, content := io.BytesIO())
    what = "the trained network"
    with writing(what, folder, TrainedModelError), ExitStack() as stack:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(LockError):  # then only the digests reveal files that two processes mixed
            stack.enter_context(locked(folder / ".lock"))
        if not replace and (os.path.lexists(folder / "record.json") or _is_foreign(folder)):
            return False
        # The record goes last: without it a folder holds no trained network.
        with staged(folder, what, TrainedModelError, last="record.json") as part:
            (part / "weights.pt").write_bytes(content.getbuffer())
            trained.history.to_csv(part / "history.csv", index=False)
            record["sha256"] = {file: digest(part / file) for file in FILES}
            text = json.dumps(record, indent=2, allow_nan=False) + "\n"
            (part / "record.json").write_text(text, encoding="utf-8")
    return True


def _is_foreign(folder):
    """Tell whether files are there that no saving has put there, nor one that goes on or died."""
    there = any(os.path.lexists(folder / file) for file in FILES)
    # In this order: a saving moves its record before it removes its temporary folder.
    return there and not any(folder.glob(f"{PART}*")) and not (folder / "record.json").exists()


def _load(folder):
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    for name, kind in ENTRIES.items():
        require(isinstance(record[name], kind), f"its {name}", record[name], f"a {kind.__name__}")
    if record["sha256"].keys() != set(FILES):
        raise ValueError(f"its sha256 must list {' and '.join(FILES)}, and nothing else")
    for file, expected in record["sha256"].items():
        if not (folder / file).is_file():  # reading a device might never end
            raise ValueError(f"{file} is missing")
        if digest(folder / file) != expected:
            raise ValueError(f"{file} is not the file that was saved")
    config, model = TrainConfig(**record["config"]), build_model(record["network"], seed=0)
    model.load_state_dict(load_tensors(folder / "weights.pt"))
    if not _close(_logits(model)[0], torch.tensor(record["logits"])):
        raise ValueError(f"build_model({record['network']!r}) now makes another network")
    history, data = pd.read_csv(folder / "history.csv"), dict(record["data"])
    data.pop("test", None)
    return TrainedModel(model.eval(), history, config, data), record
