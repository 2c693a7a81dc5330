"""Keras 3, on arrays in memory, with the backend that --backend names."""

import os
import sys
from importlib.metadata import version

os.environ["KERAS_BACKEND"] = sys.argv[sys.argv.index("--backend") + 1]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
from keras import layers

from fmnist_lib.data import load_fashion_mnist

PACKAGES = {"torch": "torch", "jax": "jax", "tensorflow": "tensorflow_cpu"}


def versions(options):
    package = PACKAGES[options.backend]
    return {"keras": version("keras"), options.backend: version(package)}


def build(network):
    """Build the networks of `fmnist_lib.models`; Keras takes images as (N, 28, 28, 1)."""
    dilation = 2 if network == "dilated_cnn" else 1
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.ZeroPadding2D(1),
            layers.Conv2D(16, 3, dilation_rate=dilation, activation="relu"),
            layers.AveragePooling2D(2),
            layers.Conv2D(32, 3, dilation_rate=dilation, activation="relu"),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(256, activation="relu"),
            layers.Dense(128, activation="relu"),
            layers.Dense(10),
        ]
    )


class Report(keras.callbacks.Callback):
    def __init__(self, report):
        super().__init__()
        self.report = report

    def on_epoch_end(self, epoch, logs):
        self.report(logs["val_accuracy"])


def train(options, report):
    data = load_fashion_mnist()
    keras.utils.set_random_seed(0)
    model = build(options.network)
    model.compile(
        optimizer=keras.optimizers.Adam(3e-4),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    (images, labels), validation = (
        (split.images.permute(0, 2, 3, 1).contiguous().numpy(), split.labels.numpy())
        for split in (data.train, data.validation)
    )
    model.fit(
        images,
        labels,
        batch_size=64,
        epochs=1000,
        shuffle=False,
        validation_data=validation,
        verbose=0,
        callbacks=[Report(report)],
    )
