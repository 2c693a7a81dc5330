"""skorch's NeuralNetClassifier, on tensors in memory."""

from importlib.metadata import version

import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from skorch.helper import predefined_split
from torch import nn
from torch.utils.data import TensorDataset

from fmnist_lib.data import load_fashion_mnist
from fmnist_lib.models import build_model


def versions(options):
    return {"skorch": version("skorch"), "torch": version("torch")}


class Report(Callback):
    def __init__(self, report):
        self.report = report

    def on_epoch_end(self, net, **_):
        self.report(net.history[-1, "valid_acc"])


def train(options, report):
    data = load_fashion_mnist()
    net = NeuralNetClassifier(
        build_model(options.network, seed=0),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=3e-4,
        batch_size=64,
        max_epochs=1000,
        train_split=predefined_split(TensorDataset(data.validation.images, data.validation.labels)),
        callbacks=[("report", Report(report))],
        verbose=0,
    )
    net.fit(data.train.images, data.train.labels)
