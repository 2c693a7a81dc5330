# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: all,-execution,-papermill,-collapsed,-editable
#     formats: ipynb,py:percent
#     notebook_metadata_filter: kernelspec,jupytext,-jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # One training run, and how good its network is
#
# A notebook for sweeps: it trains one network and keeps its metrics on the test images, as they
# are and damaged, and its predictions.

# %%
import numpy as np

from fmnist_lib import evaluation, plotting
from fmnist_lib.data import load_fashion_mnist
from fmnist_lib.trained import load_or_train, save_trained
from fmnist_lib.training import TrainConfig

# %% tags=["parameters"]
network: str = "cnn"  # "cnn", "dilated_cnn" or "padded_dilated_cnn"
epochs: int = 25  # passes over the training images
batch_size: int = 64  # images in a step
lr: float = 3e-4  # learning rate of Adam
shuffle: bool = False  # True: a new order of the training images in each epoch
seed: int = 0  # of the first weights and of the order
device: str = "auto"  # "auto", "cpu", "cuda" or "mps"
strength: int = 3  # of the damage, from 1 to 5
sample: bool = False  # True: 1,500 images that need no download, for a quick look
data_dir: str = ""  # folder with the data; empty: where fmnist data finds it
trained_dir: str = "trained"  # folder in which the results are kept
cache_dir: str = ""  # folder of trained networks to load or continue from; empty: none

# %%
config = TrainConfig(epochs, batch_size, lr, shuffle, seed, device)
data = load_fashion_mnist(data_dir, sample=sample)
test = data.test

# %%
folder = f"{cache_dir}/{network}-{seed}" if cache_dir else f"{trained_dir}/training"
trained = load_or_train(folder, network, data, config)
figure = plotting.training_curves(trained.history, trained.best_epoch)

# %%
probabilities = evaluation.predict(trained.model, test.images)
metrics = {"val_accuracy": float(trained.history["val_acc"].max())}
metrics |= evaluation.summarize_predictions(test.labels, probabilities)
for kind in evaluation.CORRUPTIONS:
    damaged = evaluation.corrupt(test.images, kind, strength)
    predicted = evaluation.predict(trained.model, damaged).argmax(axis=1)
    metrics[kind] = evaluation.accuracy(test.labels, predicted)

# %%
folder = save_trained(f"{trained_dir}/training", network, trained, metrics, test=test)
np.save(folder / "predicted.npy", probabilities.argmax(axis=1).astype("uint8"))
