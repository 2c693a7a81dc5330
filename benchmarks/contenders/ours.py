"""This project's `fit`."""

from importlib.metadata import version

import torch

from fmnist_lib.data import Split, load_fashion_mnist
from fmnist_lib.models import build_model
from fmnist_lib.training import TrainConfig, fit


def versions(options):
    return {"torch": version("torch")}


def train(options, report):
    # Only threads that start later obey it, so it comes before the first computation.
    torch.set_flush_denormal(options.flush_denormals)
    data = load_fashion_mnist()
    train_split, validation = (
        Split(split.images.repeat(options.times, 1, 1, 1), split.labels.repeat(options.times))
        for split in (data.train, data.validation)
    )
    config = TrainConfig(
        epochs=1000,
        shuffle=False,
        device=options.device,
        compile=options.compile,
        precision=options.precision,
    )
    fit(
        build_model(options.network, seed=0),
        train_split,
        validation,
        config,
        progress=False,
        listeners=[lambda state: report(state.history[-1]["val_acc"])],
    )
