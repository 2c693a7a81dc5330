"""Run the reference protocol for two epochs, on this machine made to look like others.

    python benchmarks/two_epochs.py        # writes two_epochs.csv next to this file; minutes

Each variant trains the convolutional network in a process of its own, since PyTorch chooses
its instruction set and threads when it is loaded. The first row is the published reference.
"""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

from fmnist_lib.progress import progress_bar

VARIANTS = {
    "this machine as it is": {},
    "one thread": {"OMP_NUM_THREADS": "1"},
    "convolutions limited to AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "convolutions limited to SSE4.1": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    "PyTorch's kernels limited to AVX2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "PyTorch's kernels without AVX": {"ATEN_CPU_CAPABILITY": "default"},
    "both limited to AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
}
HEAD = ("variant", "train loss, epoch 1", "train loss, epoch 2", "val. loss, epoch 2", "test acc.")
REFERENCE = ("reference", "0.80392", "0.51606", "0.47501", "0.8229")


def measure():
    """Train in this process, and print the numbers of a row as JSON."""
    from fmnist_lib.data import load_fashion_mnist
    from fmnist_lib.evaluation import accuracy, predict
    from fmnist_lib.models import build_model
    from fmnist_lib.training import TrainConfig, fit

    data, config = load_fashion_mnist(), TrainConfig(epochs=2, shuffle=False, device="cpu")
    trained = fit(build_model("cnn", seed=0), data.train, data.validation, config, progress=False)
    first, second = trained.history.to_dict("records")
    losses = (first["train_loss"], second["train_loss"], second["val_loss"])
    predicted = predict(trained.model, data.test.images).argmax(axis=1)
    test = accuracy(data.test.labels, predicted)
    print(json.dumps([*(f"{loss:.5f}" for loss in losses), f"{test:.4f}"]))


def main():
    """Run every variant and write the table."""
    rows = [HEAD, REFERENCE]
    with progress_bar(len(VARIANTS), "variants", unit="variant") as bar:
        for name, settings in VARIANTS.items():
            command = [sys.executable, __file__, "--here"]
            done = subprocess.run(
                command, env=os.environ | settings, check=True, capture_output=True, text=True
            )
            rows.append((name, *json.loads(done.stdout)))
            bar.update()
    with open(Path(__file__).with_suffix(".csv"), "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    for row in rows:
        print("{:36}{:>21}{:>21}{:>21}{:>12}".format(*row))


if __name__ == "__main__":
    measure() if "--here" in sys.argv else main()
