"""Find doubtful labels, and measure what they cost in training.

    python benchmarks/label_noise.py    # makes label_noise.*, doubtful_labels.csv and
                                        # reported_labels.csv in fmnist_lib/measured

This takes a quarter of an hour on two cores. It trains the convolutional network with the settings
of TrainConfig.fast(): first without each third of the training images in turn, so that each image
is judged by a network that has not seen it (the test images by the first of the three); then on all
images, with the labels as published, with the doubtful ones left out or replaced, and with some
made wrong on purpose.
"""

import argparse
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from functools import cache

import numpy as np
import pandas as pd
import torch
from records import write_record

from fmnist_lib.data import CLASS_NAMES, Split, load_fashion_mnist
from fmnist_lib.evaluation import accuracy, predict
from fmnist_lib.measured import FOLDER
from fmnist_lib.models import build_model
from fmnist_lib.progress import progress_bar
from fmnist_lib.trained import machine_record
from fmnist_lib.training import TrainConfig, fit

PARTS = 3
DOUBT = 0.9  # a label is doubtful if another class is at least this probable
SHARES_MADE_WRONG = (0.05, 0.1, 0.2, 0.4)
# Training images whose labels users reported,
# https://github.com/zalandoresearch/fashion-mnist/issues/166, after Mueller and Markert,
# "Identifying Mislabeled Instances in Classification Datasets",
# https://arxiv.org/abs/1912.05283.
REPORTED = [16691, 28264, 33982, 40513, 42018, 45592]
PICTURES = 24  # kept per part
SETTINGS = {"precision": "fp32", "device": "cpu"}


@cache
def load_data():
    torch.set_num_threads(1)  # one process per core, each with one thread
    return load_fashion_mnist()


def judge(part):
    """Predict a third of the training images with a network trained on the rest."""
    data, config = load_data(), TrainConfig.fast(**SETTINGS)
    judged = torch.arange(len(data.train)) % PARTS == part
    model = build_model("cnn", seed=part)
    model = fit(model, data.train[~judged], data.validation, config, progress=False).model
    # One network per test image, as for the training images: a mean would be less confident.
    test = predict(model, data.test.images) if part == 0 else None
    return judged.numpy(), predict(model, data.train[judged].images), test


def train(labels, keep, seed):
    """Train on the images in ``keep``, with these labels."""
    data, config = load_data(), TrainConfig.fast(**SETTINGS, seed=seed)
    train = Split(data.train.images[keep], torch.from_numpy(labels[keep]))
    model = build_model("cnn", seed=seed)
    trained = fit(model, train, data.validation, config, progress=False)
    predicted = predict(trained.model, data.test.images).argmax(axis=1)
    return trained.history["val_acc"].max(), accuracy(data.test.labels, predicted)


def judge_all(pool):
    """List the label of each image, and the prediction of a network that has not seen it."""
    data = load_data()
    train = np.empty((len(data.train), len(CLASS_NAMES)), dtype=np.float32)
    answers = list(pool.map(judge, range(PARTS)))
    test = answers[0][2]
    for judged, probabilities, _ in answers:
        train[judged] = probabilities
    tables = [
        pd.DataFrame(
            {
                "part": part,
                "index": np.arange(len(split)),
                "label": split.labels,
                "predicted": probabilities.argmax(axis=1),
                "probability": probabilities.max(axis=1),
            }
        )
        for part, split, probabilities in (("train", data.train, train), ("test", data.test, test))
    ]
    return pd.concat(tables, ignore_index=True)


def find_doubtful(judged):
    """Select labels contradicted with a high probability, most doubtful first."""
    doubtful = judged[(judged["label"] != judged["predicted"]) & (judged["probability"] >= DOUBT)]
    return doubtful.sort_values("probability", ascending=False, kind="stable")


def pictures(rows, split):
    """Return the images of the rows as bytes, (K, 28, 28)."""
    return (split.images[rows["index"].tolist(), 0] * 255).round().byte().numpy()


def conditions(labels, doubtful):
    """Make the sets of labels to train on: name, labels, which to keep, how many changed."""
    rng, everything = np.random.default_rng(0), np.ones(len(labels), dtype=bool)
    index = doubtful["index"].to_numpy()
    without, fewer, replaced = everything.copy(), everything.copy(), labels.copy()
    without[index] = False
    others = np.delete(np.arange(len(labels)), index)
    fewer[rng.choice(others, len(index), replace=False)] = False
    replaced[index] = doubtful["predicted"]
    yield "as published", labels, everything, 0
    yield "doubtful ones left out", labels, without, len(index)
    yield "as many others left out", labels, fewer, len(index)
    yield "doubtful ones replaced", replaced, everything, len(index)
    for share in SHARES_MADE_WRONG:
        chosen = rng.choice(len(labels), round(share * len(labels)), replace=False)
        wrong = labels.copy()
        wrong[chosen] = (labels[chosen] + rng.integers(1, 10, len(chosen))) % 10
        yield f"{share:.0%} made wrong", wrong, everything, len(chosen)


def main():
    """Find the doubtful labels, measure their cost, and write both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="training runs at a time")
    options = parser.parse_args()
    data = load_data()
    labels = data.train.labels.numpy()
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        judged = judge_all(pool)
        doubtful = find_doubtful(judged)
        in_train = doubtful[doubtful["part"] == "train"]
        sets = list(conditions(labels, in_train))
        jobs = [
            (name, changed, seed, pool.submit(train, changed_labels, keep, seed))
            for seed in range(options.seeds)
            for name, changed_labels, keep, changed in sets
        ]
        rows = []
        with progress_bar(len(jobs), "training", unit="run") as bar:
            for name, changed, seed, job in jobs:
                val_accuracy, test_accuracy = job.result()
                rows.append((name, changed, seed, val_accuracy, test_accuracy))
                bar.update()
    columns = ["labels", "changed", "seed", "val_accuracy", "test_accuracy"]
    costs = pd.DataFrame(rows, columns=columns)
    costs.to_csv(FOLDER / "label_noise.csv", index=False, float_format="%.5f")
    doubtful.to_csv(FOLDER / "doubtful_labels.csv", index=False, float_format="%.4f")
    reported = judged.iloc[REPORTED]  # the training images come first
    reported.to_csv(FOLDER / "reported_labels.csv", index=False, float_format="%.4f")
    in_test = doubtful[doubtful["part"] == "test"]
    np.savez_compressed(
        FOLDER / "label_noise.npz",
        train=pictures(in_train[:PICTURES], data.train),
        test=pictures(in_test[:PICTURES], data.test),
        reported=pictures(reported, data.train),
    )
    config = TrainConfig.fast(**SETTINGS)
    write_record("label_noise", "python benchmarks/label_noise.py", config, machine_record())


if __name__ == "__main__":
    main()
