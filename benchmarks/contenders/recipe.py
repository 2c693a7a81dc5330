"""A recipe, such as `TrainConfig.fast`, with one seed after another, and its test accuracy."""

from importlib.metadata import version

from fmnist_lib.data import load_fashion_mnist
from fmnist_lib.inspection import device_of
from fmnist_lib.models import build_model
from fmnist_lib.timing import Stopwatch
from fmnist_lib.training.loop import TrainConfig, fit, loss_and_accuracy


def versions(options):
    return {"torch": version("torch")}


def train(options, report):
    data = load_fashion_mnist()
    seed = 0
    while True:
        config = getattr(TrainConfig, options.recipe)(seed=seed, device=options.device)
        watch = Stopwatch()
        model = build_model(options.network, seed)
        trained = fit(model, data.train, data.validation, config, listeners=[watch], progress=False)
        watch()  # all of it, from building the network to the best weights
        # The test images are used here for the first time, after every choice has been made.
        test = data.test.to(device_of(trained.model))
        _, accuracy = loss_and_accuracy(trained.model, test)
        *ends, seconds = watch.seconds
        curve = list(zip(ends, trained.history["val_acc"], strict=True))
        best = trained.history["val_acc"].max()
        report(best, fit_seconds=seconds, curve=curve, test=accuracy)
        seed += 1
