"""Train each network of the course with ten seeds; make fmnist_lib/measured/seeds.*.

    python benchmarks/seeds.py

It takes an hour on two cores. A training that is there already (in runs/seeds) is not made again,
so it can be stopped and started.
"""

import argparse
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from fmnist_lib import evaluation
from fmnist_lib.data import load_fashion_mnist
from fmnist_lib.models import MODELS
from fmnist_lib.progress import progress_bar
from fmnist_lib.results import FOLDER, write_record
from fmnist_lib.runs import load_or_train, load_run
from fmnist_lib.training import TrainConfig

RUNS = Path("runs/seeds")
CONFIG = TrainConfig(shuffle=False, device="cpu")  # that of chapters 2 and 3
STRENGTH = 3  # of the corruptions
KEPT = ("test_accuracy", "test_log_loss", "test_calibration_error")


@cache
def load_data():
    torch.set_num_threads(1)  # as many trainings at a time as there are cores, and each alone
    return load_fashion_mnist()


def train(name, seed):
    """Train a network, and return its row of the table and its predictions."""
    data, folder = load_data(), RUNS / f"{name}-{seed}"
    config = replace(CONFIG, seed=seed)
    trained = load_or_train(folder, name, data, config, progress=False)
    probabilities = evaluation.predict(trained.model, data.test.images)
    metrics = evaluation.test_metrics(data.test.labels, probabilities)
    for kind in evaluation.CORRUPTIONS:
        images = evaluation.corrupt(data.test.images, kind, STRENGTH)
        guess = evaluation.predict(trained.model, images).argmax(axis=1)
        metrics[kind] = evaluation.accuracy(data.test.labels, guess)
    row = {
        "network": name,
        "seed": seed,
        "best_epoch": trained.best_epoch,
        "val_accuracy": trained.history["val_acc"].max(),
    }
    kept = (*KEPT, *evaluation.CORRUPTIONS)
    return row | {key: metrics[key] for key in kept}, probabilities.argmax(axis=1).astype("uint8")


def main():
    """Train, or load, all of them; write the table when the last one is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="trainings at a time")
    options = parser.parse_args()
    runs = [(name, seed) for seed in range(options.seeds) for name in MODELS]
    pool = ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn"))
    with pool, progress_bar(len(runs), "training", unit="run") as bar:
        jobs = {pool.submit(train, *run): run for run in runs}
        for _ in as_completed(jobs):
            bar.update()
    results = {run: job.result() for job, run in jobs.items()}
    rows = [results[name, seed][0] for name in MODELS for seed in range(options.seeds)]
    pd.DataFrame(rows).to_csv(FOLDER / "seeds.csv", index=False, float_format="%.5f")
    predicted = {
        name: np.stack([results[name, seed][1] for seed in range(options.seeds)]) for name in MODELS
    }
    labels = load_data().test.labels.numpy().astype("uint8")
    np.savez_compressed(FOLDER / "seeds.npz", **predicted, labels=labels)
    machine = load_run(RUNS / "cnn-0")[1]["machine"]
    write_record("seeds", "python benchmarks/seeds.py", CONFIG, machine)


if __name__ == "__main__":
    main()
