"""Seconds for one epoch of the convolutional network: the classic loop beside `fit`.

    python benchmarks/epoch.py             # writes epoch.csv beside this file; minutes

An epoch is a pass over the 48,000 training images at batch 64 with Adam, and one over the 12,000
validation images. The variants take turns, so that whatever else the machine does hits all alike.
"""

import csv
import statistics
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import datasets
from torchvision.transforms import ToTensor

from fmnist_lib.data import load_fashion_mnist
from fmnist_lib.files import find_data
from fmnist_lib.models import build_model
from fmnist_lib.progress import progress_bar
from fmnist_lib.training import TrainConfig, fit

REPEATS = 3


def classic_epoch(workers):
    """Train as the textbook does: dataset, transform, loader."""
    official = datasets.FashionMNIST(find_data(), train=True, transform=ToTensor())
    parts = Subset(official, range(48_000)), Subset(official, range(48_000, 60_000))
    train, validation = (DataLoader(part, batch_size=64, num_workers=workers) for part in parts)
    model, criterion = build_model("cnn", seed=0), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-4)
    loss_sum, correct = 0.0, 0
    for images, labels in train:
        optimizer.zero_grad()
        logits = model(images)
        loss = criterion(logits, labels)
        loss.backward()
        optimizer.step()
        loss_sum += loss.item() * len(labels)
        correct += (logits.argmax(1) == labels).sum().item()
    model.eval()
    with torch.no_grad():
        for images, labels in validation:
            logits = model(images)
            loss_sum += criterion(logits, labels).item() * len(labels)
            correct += (logits.argmax(1) == labels).sum().item()


def main():
    """Measure the variants in turn and write the table."""
    data, config = load_fashion_mnist(), TrainConfig(epochs=1, shuffle=False, device="cpu")

    def fit_epoch():
        fit(build_model("cnn", seed=0), data.train, data.validation, config, progress=False)

    variants = {
        "classic loop, DataLoader": lambda: classic_epoch(workers=0),
        "classic loop, DataLoader with 2 workers": lambda: classic_epoch(workers=2),
        "fit": fit_epoch,
    }
    seconds = {name: [] for name in variants}
    with progress_bar(REPEATS * len(variants), "epochs", unit="epoch") as bar:
        for _ in range(REPEATS):
            for name, run in variants.items():
                start = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - start)
                bar.update()
    best = statistics.median(seconds["fit"])
    rows = [("variant", "seconds (median)", "lowest to highest", "times as long as fit")]
    for name, values in seconds.items():
        median, spread = statistics.median(values), f"{min(values):.1f} to {max(values):.1f}"
        rows.append((name, f"{median:.1f}", spread, f"{median / best:.1f}"))
    with open(Path(__file__).with_suffix(".csv"), "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    for row in rows:
        print("{:42}{:>18}{:>20}{:>24}".format(*row))


if __name__ == "__main__":
    main()
