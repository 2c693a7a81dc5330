"""The results that ship with the package fit together, and fit the data."""

from pathlib import Path

import numpy as np
import pytest

from fmnist_lib.evaluation import CORRUPTIONS
from fmnist_lib.experiments.parameters import read_parameters
from fmnist_lib.measured import load_label_noise, load_record, load_seeds
from fmnist_lib.models import MODELS


@pytest.fixture(scope="module")
def seeds():
    return load_seeds()


@pytest.fixture(scope="module")
def noise():
    return load_label_noise()


def test_each_network_has_ten_seeds(seeds):
    counts = seeds.table.groupby("network")["seed"].agg(["nunique", "size"])
    assert set(counts.index) == set(seeds.predicted) == set(MODELS)
    assert (counts == 10).all().all()
    assert set(CORRUPTIONS) <= set(seeds.table)


def test_the_accuracies_are_those_of_the_predictions(seeds):
    for name, rows in seeds.table.sort_values("seed").groupby("network"):
        expected = (seeds.predicted[name] == seeds.labels).mean(axis=1)
        assert np.allclose(rows["test_accuracy"], expected, atol=1e-5)


@pytest.mark.parametrize("name", ["seeds", "label_noise"])
def test_the_record_names_command_and_versions(name):
    record = load_record(name)
    assert record["command"] == f"python benchmarks/{name}.py"
    assert record["machine"]["packages"]["torch"]
    assert "seed" not in record["config"]


def test_the_seeds_have_the_settings_of_the_chapters(seeds):
    chapter = read_parameters(Path(__file__).parent.parent / "notebooks" / "02_cnn.ipynb")
    for name in ("epochs", "batch_size", "lr", "shuffle"):
        assert seeds.record["config"][name] == chapter[name].default


def test_doubtful_labels_are_contradicted_with_confidence(noise):
    table = noise.doubtful
    assert (table["label"] != table["predicted"]).all()
    assert table["probability"].between(0.9, 1).all()
    assert table["probability"].is_monotonic_decreasing
    assert not table.duplicated(["part", "index"]).any()
    assert set(table["part"]) == {"train", "test"}


@pytest.mark.real_data
@pytest.mark.parametrize("part", ["train", "test", "reported"])
def test_labels_and_pictures_are_those_of_the_data(seeds, noise, full_data, part):
    assert np.array_equal(seeds.labels, full_data.test.labels)
    reported = part == "reported"
    rows = noise.reported if reported else noise.doubtful[noise.doubtful["part"] == part]
    split = full_data.test if part == "test" else full_data.train
    index = rows["index"].tolist()
    assert rows["label"].tolist() == split.labels[index].tolist()
    pictures = noise.pictures[part]
    images = (split.images[index[: len(pictures)], 0] * 255).round().byte().numpy()
    assert np.array_equal(pictures, images)


def test_each_set_of_labels_was_trained_with_the_same_seeds(noise):
    by_set = noise.costs.groupby("labels")["seed"].apply(sorted)
    assert len(by_set) == 8
    assert all(seeds == by_set.iloc[0] for seeds in by_set)
    in_train = (noise.doubtful["part"] == "train").sum()
    changed = noise.costs.set_index("labels")["changed"]
    for name in ("doubtful ones left out", "as many others left out", "doubtful ones replaced"):
        assert (changed[name] == in_train).all()
    assert (changed["20% made wrong"] == 9600).all()
