"""Runs: keeping what a training gave, and executing the chapters.

A run is a folder::

    weights.pt     the model's state dict: tensors only, read without unpickling objects
    history.csv    one row an epoch
    run.json       network, settings, metrics, and the record of data, versions and machine
"""

import json
import os
import platform
import tempfile
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch

from fmnist_lib.files import SHA256
from fmnist_lib.models import MODELS, build_model
from fmnist_lib.progress import DISPLAY_ID
from fmnist_lib.training import TrainConfig, TrainedModel, fit

CHAPTERS = ("01_data_exploration", "02_cnn", "03_dilated_cnn", "04_evaluation")
PACKAGES = ("fmnist-lib", "torch", "torchvision", "numpy", "pandas", "scikit-learn")


class RunError(RuntimeError):
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


def save_run(folder, name, trained, metrics, *, sample=False):
    """Write a run, whole or not at all; a run that is there already is replaced.

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
    """
    folder = Path(folder)
    record = {
        "network": name,
        "config": asdict(trained.config),
        "best_epoch": trained.best_epoch,
        "metrics": metrics,
        "data": "sample" if sample else SHA256,
        "machine": machine_record(),
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as part:
        part = Path(part)
        torch.save({k: v.cpu() for k, v in trained.model.state_dict().items()}, part / "weights.pt")
        trained.history.to_csv(part / "history.csv", index=False)
        (part / "run.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        folder.mkdir(exist_ok=True)
        # The record goes last: a folder without it is no run, so a kill leaves no false one.
        (folder / "run.json").unlink(missing_ok=True)
        for file in ("weights.pt", "history.csv", "run.json"):
            os.replace(part / file, folder / file)
    return folder


def load_run(folder):
    """Read a run.

    Parameters
    ----------
    folder : path

    Returns
    -------
    trained : TrainedModel
        On the CPU.
    record : dict
        What ``run.json`` holds.

    Raises
    ------
    RunError
        If the folder holds no finished run, or files that do not belong together.
    """
    folder = Path(folder)
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        config = TrainConfig(**record["config"])
        model = MODELS[record["network"]]()
        weights = torch.load(folder / "weights.pt", map_location="cpu", weights_only=True)
        model.load_state_dict(weights)
        history = pd.read_csv(folder / "history.csv")
    except FileNotFoundError as error:
        raise RunError(
            f"{folder} holds no finished run: {Path(error.filename).name} is missing; name "
            "another folder, or train again"
        ) from None
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(
            f"the run in {folder} cannot be read ({type(error).__name__}: {reason}); remove the "
            "folder and train again"
        ) from None
    return TrainedModel(model.eval(), history, config), record


def load_or_train(folder, name, data, config, *, sample=False):
    """Read the run of a chapter, or make it if it is not there with these settings.

    Parameters
    ----------
    folder : path
    name : str
        Name of the network.
    data : FashionMNIST
    config : TrainConfig
    sample : bool
        Whether ``data`` is the sample that ships with the package.

    Returns
    -------
    TrainedModel
    """
    try:
        trained, record = load_run(folder)
        wanted = (name, asdict(config), "sample" if sample else SHA256)
        if (record["network"], record["config"], record["data"]) == wanted:
            return trained
    except RunError:
        pass
    trained = fit(build_model(name, config.seed), data.train, data.validation, config)
    metrics = {"val_accuracy": float(trained.history["val_acc"].max())}
    save_run(folder, name, trained, metrics, sample=sample)
    return trained


def run_chapter(notebook, output, parameters=None, *, cwd=None, progress=True):
    """Execute a chapter with papermill.

    Parameters
    ----------
    notebook, output : path
        The chapter, and where to write the executed one.
    parameters : dict, optional
        Values for the chapter's tagged parameters cell.
    cwd : path, optional
        Folder in which the kernel runs; the chapters' relative paths start there.
    progress : bool
        Show a bar that counts cells, and beside it the progress of a training inside a cell.

    Raises
    ------
    RunError
        If a cell fails; the notebook is written all the same, up to that cell.
    """
    import papermill

    papermill.engines.papermill_engines.register("fmnist", _engine())
    name = Path(notebook).stem
    bar = {"desc": name, "dynamic_ncols": True, "disable": None, "leave": False}
    try:
        papermill.execute_notebook(
            Path(notebook).resolve(),
            Path(output).resolve(),
            parameters,
            engine_name="fmnist",
            cwd=cwd,
            progress_bar=bar if progress else False,
        )
    except papermill.PapermillExecutionError as error:
        raise RunError(
            f"{name} failed in its cell {error.exec_count}: {error.ename}: {error.evalue}; the "
            f"notebook up to there is {output}"
        ) from error


def run_course(folder, notebooks="notebooks", report=lambda name, seconds: None):
    """Execute the chapters in order, with their default parameters.

    Parameters
    ----------
    folder : path
        Where the executed notebooks go, and beside them the runs that they keep.
    notebooks : path
        The folder of the chapters.
    report : callable
        Called with the name of a chapter and its seconds when it is done.

    Returns
    -------
    dict of str to dict
        The metrics of each run, by its name.

    Raises
    ------
    RunError
        If a chapter is missing.
    """
    folder, sources = Path(folder), [Path(notebooks) / f"{name}.ipynb" for name in CHAPTERS]
    if missing := [str(path) for path in sources if not path.is_file()]:
        raise RunError(
            f"no chapter at {', '.join(missing)}; run this in the project's folder, or name the "
            "folder of the chapters with --notebooks"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for source in sources:
        start = time.perf_counter()
        run_chapter(source, folder / source.name, {"runs_dir": "."}, cwd=folder)
        report(source.stem, time.perf_counter() - start)
    records = {path.parent.name: load_run(path.parent)[1] for path in folder.glob("*/run.json")}
    return {name: record["metrics"] for name, record in sorted(records.items())}


def _engine():
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine

    class Client(PapermillNotebookClient):
        def process_message(self, message, cell, cell_index):
            content = message["content"]
            bar = self.nb_man.pbar
            if bar and content.get("transient", {}).get("display_id") == DISPLAY_ID:
                bar.set_postfix_str(content["data"].get("text/plain", ""))
            return super().process_message(message, cell, cell_index)

    class Engine(NBClientEngine):
        """papermill's own engine, with a client that passes a training's progress on."""

        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **options):
            # The kernel's own log would run through the bar; errors are shown all the same.
            quiet = ["--log-level=ERROR"]
            client = Client(nb_man, kernel_name=kernel_name, timeout=None, extra_arguments=quiet)
            return client.execute()

    return Engine
