"""Runs: keeping what a training gave.

A run is a folder::

    weights.pt     the model's state dict: tensors only, read without unpickling objects
    history.csv    one row an epoch
    record.json       network, settings, metrics, the record of data, versions and machine, and the
                   SHA-256 of the other two
"""

import hashlib
import io
import json
import os
import platform
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch

from fmnist_lib.common import UserError
from fmnist_lib.download import SHA256
from fmnist_lib.inspection import device_of
from fmnist_lib.models import build_model
from fmnist_lib.training import TrainConfig, TrainedModel, fit

PACKAGES = ("fmnist-lib", "torch", "torchvision", "numpy", "pandas", "scikit-learn")


class TrainedModelError(UserError):
    """A folder does not hold a finished run, or not the one that was asked for."""


def machine_record():
    """Describe what this process computes with.

    Returns
    -------
    dict
        Versions of Python and of the packages that decide about numbers, system, processor
        features that PyTorch uses, threads, and the name of a GPU if there is one.
    """
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
    """Put `machine_record` into one line for the head of a chapter."""
    record = machine_record()
    packages = ", ".join(f"{name} {number}" for name, number in record["packages"].items())
    device = record["gpu"] or f"CPU ({record['cpu_capability']}, {record['threads']} threads)"
    return f"Python {record['python']}, {packages}; {record['system']}, {device}"


def save_trained(folder, name, trained, metrics, *, sample=False):
    """Write a run; one that is there already is replaced.

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
        The folder.

    Raises
    ------
    TrainedModelError
        If the folder cannot be written.
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
    # To a file, PyTorch would not say that the disk is full: it raises a RuntimeError for it.
    torch.save(weights, content := io.BytesIO())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as part:
            part = Path(part)
            (part / "weights.pt").write_bytes(content.getbuffer())
            trained.history.to_csv(part / "history.csv", index=False)
            record["sha256"] = {
                file: _sha256(part / file) for file in ("weights.pt", "history.csv")
            }
            (part / "record.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            # The record goes last: without it a folder holds no run, and the hashes in it tell
            # files apart that two processes have mixed.
            (folder / "record.json").unlink(missing_ok=True)
            for file in ("weights.pt", "history.csv", "record.json"):
                os.replace(part / file, folder / file)
    except OSError as error:
        raise TrainedModelError(
            f"the run cannot be written to {folder} ({error.strerror}); make room or give rights "
            "there, or name another folder"
        ) from None
    return folder


def load_trained(folder):
    """Read a run.

    Parameters
    ----------
    folder : path

    Returns
    -------
    trained : TrainedModel
        On the CPU.
    record : dict
        What ``record.json`` holds.

    Raises
    ------
    TrainedModelError
        If the folder holds no finished run, or files that do not belong together.
    """
    folder = Path(folder)
    try:
        record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        for file, digest in record["sha256"].items():
            if _sha256(folder / file) != digest:
                raise ValueError(f"{file} is not the file that was saved")
        config = TrainConfig(**record["config"])
        model = build_model(record["network"])
        weights = torch.load(folder / "weights.pt", map_location="cpu", weights_only=True)
        model.load_state_dict(weights)
        history = pd.read_csv(folder / "history.csv")
    except FileNotFoundError as error:
        raise TrainedModelError(
            f"{folder} holds no finished run: {Path(error.filename).name} is missing; name "
            "another folder, or train again"
        ) from None
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TrainedModelError(
            f"the run in {folder} cannot be read ({type(error).__name__}: {reason}); remove the "
            "folder and train again"
        ) from None
    return TrainedModel(model.eval(), history, config), record


def load_or_train(folder, name, data, config, *, sample=False, progress=True):
    """Read the run of a chapter, or make it if there is none with these settings.

    A finished run with other settings is left as it is; the new one goes beside it, into a folder
    whose name ends in a short hash of the settings. A training that was killed goes on behind its
    last finished epoch, from a checkpoint that is beside the folder until the run is saved.

    Parameters
    ----------
    folder : path
    name : str
        Name of the network.
    data : FashionMNIST
    config : TrainConfig
        The device plays no part in what counts as the same settings.
    sample : bool
        Whether ``data`` is the sample that ships with the package.
    progress : bool
        Show a progress bar while training.

    Returns
    -------
    TrainedModel

    Raises
    ------
    TrainedModelError
        If the run cannot be written.
    CheckpointError
        If the checkpoint is damaged, was made with other data or on another kind of device, or
        cannot be written.
    """
    folder, wanted = Path(folder), _settings(name, asdict(config), _data_name(sample))
    key = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:8]
    target = folder
    for place in (folder, folder.with_name(f"{folder.name}-{key}")):
        try:
            trained, record = load_trained(place)
        except TrainedModelError:
            target = place
            break
        if _settings(record["network"], asdict(trained.config), record["data"]) == wanted:
            return trained
    model = build_model(name, config.seed)
    # Not in the target: which folder that is changes when another training is saved meanwhile.
    checkpoint = folder.with_name(f"{folder.name}-{key}.checkpoint")
    trained = fit(
        model, data.train, data.validation, config, progress=progress, checkpoint=checkpoint
    )
    metrics = {"val_accuracy": float(trained.history["val_acc"].max())}
    save_trained(target, name, trained, metrics, sample=sample)
    checkpoint.unlink(missing_ok=True)  # missing where another process did the same training
    return trained


def _settings(name, config, data):
    return {"network": name, "config": config | {"device": None}, "data": data}


def _data_name(sample):
    return "sample" if sample else SHA256


def _sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()
