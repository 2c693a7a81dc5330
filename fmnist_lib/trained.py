"""Trained networks: saving what training produced, and loading it again.

A trained network is a folder::

    weights.pt     the model's state dict: tensors only, read without unpickling objects
    history.csv    one row per epoch
    record.json    network, settings, metrics, the digest of the data, versions and machine, and the
                   SHA-256 of the other two files
"""

import io
import json
import platform
import warnings
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch

from fmnist_lib.common import UserError, digest, one_line, staged
from fmnist_lib.download import SHA256
from fmnist_lib.inspection import device_of
from fmnist_lib.models import build_model
from fmnist_lib.progress import in_notebook
from fmnist_lib.training import Checkpoint, TrainConfig, TrainedModel, fit

PACKAGES = ("fmnist-lib", "torch", "torchvision", "numpy", "pandas", "scikit-learn")


class TrainedModelError(UserError):
    """A folder does not hold a trained network, or cannot be written."""


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


def save_trained(folder, name, trained, metrics, *, sample=False):
    """Write a trained network to a folder, replacing the one that is there.

    Parameters
    ----------
    folder : path
    name : str
        Name of the network, as for `build_model`.
    trained : TrainedModel
    metrics : dict of str to float
    sample : bool
        Whether it was trained on the sample that ships with the package.

    Returns
    -------
    Path
        The folder; TrainedModelError if it cannot be written.
    """
    folder = Path(folder)
    record = {
        "network": name,
        "config": asdict(trained.config),
        "best_epoch": trained.best_epoch,
        "metrics": metrics,
        "data": _data_name(sample),
        "device": str(device_of(trained.model)),
        "machine": machine_record(),
    }
    weights = {key: value.cpu() for key, value in trained.model.state_dict().items()}
    # In memory first: on a full disk, PyTorch's own writing raises a RuntimeError.
    torch.save(weights, content := io.BytesIO())
    # The record goes last: without it a folder holds no trained network, and the digests in it
    # reveal files that two processes have mixed.
    with staged(folder, "the trained network", TrainedModelError, last="record.json") as part:
        (part / "weights.pt").write_bytes(content.getbuffer())
        trained.history.to_csv(part / "history.csv", index=False)
        record["sha256"] = {file: digest(part / file) for file in ("weights.pt", "history.csv")}
        (part / "record.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return folder


def load_trained(folder):
    """Load a trained network onto the CPU, and the content of its ``record.json``.

    Raises
    ------
    TrainedModelError
        If the folder holds no trained network, or files that do not belong together.
    """
    folder = Path(folder)
    try:
        record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        for file, expected in record["sha256"].items():
            if digest(folder / file) != expected:
                raise ValueError(f"{file} is not the file that was saved")
        config = TrainConfig(**record["config"])
        model = build_model(record["network"])
        weights = torch.load(folder / "weights.pt", map_location="cpu", weights_only=True)
        model.load_state_dict(weights)
        history = pd.read_csv(folder / "history.csv")
    except FileNotFoundError as error:
        raise TrainedModelError(
            f"{folder} holds no trained network: {Path(error.filename).name} is missing; name "
            "another folder, or train again"
        ) from None
    except Exception as error:  # of many kinds: the files may hold anything
        raise TrainedModelError(
            f"the trained network in {folder} cannot be read ({one_line(error)}); remove the "
            "folder and train again"
        ) from None
    return TrainedModel(model.eval(), history, config), record


def load_or_train(folder, name, data, config, *, sample=False):
    """Load a chapter's trained network, or train one if there is none with these settings.

    A network with other settings is left alone; the new one goes into a neighbouring folder, whose
    name ends in a short digest of the settings. A training run that was killed continues after its
    last finished epoch, from a `Checkpoint` kept next to the folder until the network is saved. A
    warning says when a network is trained, and where none was found.

    Parameters
    ----------
    folder : path
    name : str
        Name of the network.
    data : FashionMNIST
    config : TrainConfig
        The device does not count as a setting.
    sample : bool
        Whether ``data`` is the sample that ships with the package.

    Raises
    ------
    TrainedModelError
        If the trained network cannot be written.
    CheckpointError
        If the checkpoint is damaged, was made with other data or on another kind of device, or
        cannot be written.
    """
    folder, wanted = Path(folder), _settings(name, config, _data_name(sample))
    key = digest(json.dumps(wanted, sort_keys=True))[:8]
    target = folder
    for place in (folder, folder.with_name(f"{folder.name}-{key}")):
        try:
            trained, record = load_trained(place)
        except TrainedModelError:
            target = place
            break
        if _settings(record["network"], trained.config, record["data"]) == wanted:
            return trained
    # Not in the target, which changes if another network is saved meanwhile.
    checkpoint = Checkpoint(folder.with_name(f"{folder.name}-{key}.checkpoint"))
    model = build_model(name, config.seed)
    missing = f"no {name} trained with these settings is kept in {folder.resolve()}"
    warnings.warn(f"{missing}; training one", stacklevel=2)
    trained = fit(model, data.train, data.validation, config, listeners=[checkpoint])
    if in_notebook():  # where the end of the bar has cleared the first one
        warnings.warn(f"{missing}; one was trained", stacklevel=2)
    metrics = {"val_accuracy": trained.history["val_acc"].max()}
    save_trained(target, name, trained, metrics, sample=sample)
    checkpoint.path.unlink(missing_ok=True)  # missing if another process trained the same network
    return trained


def _settings(name, config, data):
    return {"network": name, "config": asdict(config) | {"device": None}, "data": data}


def _data_name(sample):
    return "sample" if sample else SHA256
