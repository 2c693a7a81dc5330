"""Train each network of the course with ten seeds; make fmnist_lib/measured/seeds.*.

    python benchmarks/seeds.py

This runs the sweep of seeds.yml, keeps its runs in runs/seeds, and writes the part of their table
that the chapters need. The sweep takes an hour on two cores; finished runs are not run again.
"""

import sys
from pathlib import Path

import numpy as np
from records import write_record

from fmnist_lib.cli import main as fmnist
from fmnist_lib.data import load_fashion_mnist
from fmnist_lib.evaluation import CORRUPTIONS
from fmnist_lib.experiments.collection import load_results
from fmnist_lib.measured import FOLDER
from fmnist_lib.models import MODELS
from fmnist_lib.trained import load_trained

RUNS = Path("runs/seeds")
COLUMNS = ["network", "seed", "best_epoch", "val_accuracy", "test_accuracy", "test_log_loss"]
COLUMNS += ["test_calibration_error", *CORRUPTIONS]


def main():
    """Run what is missing, then write the table."""
    sweep = Path(__file__).with_name("seeds.yml")
    for command in (["sweep", str(sweep), "-o", str(RUNS)], ["results", str(RUNS)]):
        if code := fmnist(command):
            sys.exit(code)
    table = load_results(RUNS)
    table["network"] = table["network"].astype("category").cat.set_categories(list(MODELS))
    table = table.sort_values(["network", "seed"])
    table[COLUMNS].to_csv(FOLDER / "seeds.csv", index=False, float_format="%.5f")
    predicted = {
        name: np.stack([np.load(RUNS / run / "training/predicted.npy") for run in rows["run"]])
        for name, rows in table.groupby("network", observed=True)
    }
    labels = load_fashion_mnist().test.labels.numpy().astype("uint8")
    np.savez_compressed(FOLDER / "seeds.npz", **predicted, labels=labels)
    first = table["run"].iloc[0]
    trained, record = load_trained(RUNS / first / "training")
    write_record("seeds", "python benchmarks/seeds.py", trained.config, record["machine"])


if __name__ == "__main__":
    main()
