"""fastai's Learner, on tensors in memory."""

from functools import partial
from importlib.metadata import version

import fastai.callback.progress  # noqa: F401  adds no_bar to Learner
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import Callback, Learner
from fastai.metrics import accuracy
from fastai.optimizer import Adam
from torch import nn
from torch.utils.data import TensorDataset

from fmnist_lib.data import load_fashion_mnist
from fmnist_lib.models import build_model


def versions(options):
    return {"fastai": version("fastai"), "torch": version("torch")}


class Report(Callback):
    order = 90  # after the recorder has written the epoch's figures

    def __init__(self, report):
        self.report = report

    def after_epoch(self):
        self.report(self.learn.recorder.values[-1][-1])


def train(options, report):
    data = load_fashion_mnist()
    loaders = (
        DataLoader(TensorDataset(split.images, split.labels), bs=64, num_workers=0)
        for split in (data.train, data.validation)
    )
    learner = Learner(
        DataLoaders(*loaders, device="cpu"),
        build_model(options.network, seed=0),
        loss_func=nn.CrossEntropyLoss(),
        # PyTorch's defaults; fastai's own decay the weights and average over fewer gradients.
        opt_func=partial(Adam, sqr_mom=0.999, eps=1e-8, wd=0.0),
        metrics=accuracy,
        cbs=[Report(report)],
    )
    with learner.no_bar(), learner.no_logging():
        learner.fit(1000, lr=3e-4)
