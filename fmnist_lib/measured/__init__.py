"""Results that take too long to measure in a chapter, and so ship with the package.

A script in ``benchmarks/`` wrote each of them, with a record of its settings, versions and machine.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

FOLDER = Path(__file__).parent


@dataclass(frozen=True, eq=False)
class SeedResults:
    """S training runs of each network that differ only in their seed, on N test images.

    Attributes
    ----------
    table : DataFrame
        One row per training run: ``network, seed, best_epoch, val_accuracy, test_accuracy,
        test_log_loss, test_calibration_error``, and the accuracy under each corruption at strength
        3 (``shift, rotation, noise, blur, contrast``).
    predicted : dict of str to ndarray, (S, N), uint8
        For each network, the predictions of its runs for the test images.
    labels : ndarray, (N,), uint8
        Of the test images.
    record : dict
        Command, settings, versions and machine.
    """

    table: pd.DataFrame
    predicted: dict = field(repr=False)
    labels: np.ndarray = field(repr=False)
    record: dict = field(repr=False)


@dataclass(frozen=True, eq=False)
class LabelNoise:
    """Doubtful labels, and the accuracy that doubtful and wrong labels cost.

    Attributes
    ----------
    doubtful : DataFrame
        Labels contradicted by networks that were not trained on them, most doubtful first:
        ``part`` (``"train"`` or ``"test"``), ``index`` (of the image in that part), ``label,
        predicted, probability`` (of the predicted class).
    reported : DataFrame
        The same for the labels that users of the data set reported.
    pictures : dict of str to ndarray, (K, 28, 28), uint8
        Under ``"train"`` and ``"test"`` the images of the first rows of ``doubtful``, under
        ``"reported"`` those of ``reported``.
    costs : DataFrame
        One row per training run: ``labels`` (what was done to the training labels), ``changed``
        (how many were left out or replaced), ``seed, val_accuracy, test_accuracy``.
    record : dict
        Command, settings, versions and machine.
    """

    doubtful: pd.DataFrame
    reported: pd.DataFrame
    pictures: dict = field(repr=False)
    costs: pd.DataFrame
    record: dict = field(repr=False)


def load_seeds():
    """Read the `SeedResults` for ten seeds, made by ``benchmarks/seeds.py``."""
    arrays = _load_arrays("seeds")
    labels = arrays.pop("labels")
    return SeedResults(pd.read_csv(FOLDER / "seeds.csv"), arrays, labels, load_record("seeds"))


def load_label_noise():
    """Read the `LabelNoise` results, made by ``benchmarks/label_noise.py``."""
    names = ("doubtful_labels", "reported_labels", "label_noise")
    doubtful, reported, costs = (pd.read_csv(FOLDER / f"{name}.csv") for name in names)
    pictures = _load_arrays("label_noise")
    return LabelNoise(doubtful, reported, pictures, costs, load_record("label_noise"))


def load_record(name):
    """Read how ``"seeds"`` or ``"label_noise"`` was made: command, config and machine."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def _load_arrays(name):
    with np.load(FOLDER / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}
