"""Many runs in one table, their summary over seeds, and the best setting."""

import json
from itertools import product
from statistics import mean, stdev

import numpy as np
import pandas as pd
import pytest

from fmnist_lib import cli
from fmnist_lib.experiments import collection

SUMMARY = ["metric", "runs", "mean", "sd", "min", "max"]


@pytest.fixture
def put(tmp_path):
    """Write the record of a run: (name of its folder, parameters, metrics, other entries)."""

    def write(name, parameters, metrics, state="finished", **others):
        record = {"state": state, "error": None, "chapter": "02_net", "code": "c", "attempts": 1}
        record |= {"parameters": parameters, "metrics": metrics, "networks": {}, "threads": 2}
        record |= {"seconds": 10.0} | others
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "results.json").write_text(json.dumps(record))

    return write


@pytest.fixture
def swept(put):
    """Write runs of a grid of two parameters with three seeds, and give their accuracies."""
    noise = np.random.default_rng(0)
    values = {}
    for lr, schedule, seed in product([0.001, 0.01, 0.1], ["constant", "one-cycle"], range(3)):
        values[lr, schedule, seed] = float(noise.uniform(0.8, 0.9))
        parameters = {"epochs": 4, "lr": lr, "schedule": schedule, "seed": seed}
        metrics = {"val_accuracy": values[lr, schedule, seed], "best_epoch": seed + 1}
        put(f"lr={lr}_{schedule}_{seed}", parameters, metrics, seconds=10.0 + seed)
    return values


def test_the_table_has_a_row_for_each_run(tmp_path, swept):
    table = collection.load_results(tmp_path)
    assert list(table) == [
        *("run", "chapter", "state", "epochs", "lr", "schedule", "seed"),
        *("val_accuracy", "best_epoch", "seconds", "threads", "attempts", "error"),
    ]
    assert table.attrs == {
        "parameters": ["epochs", "lr", "schedule", "seed"],
        "metrics": ["val_accuracy", "best_epoch"],
    }
    found = table.set_index(["lr", "schedule", "seed"])["val_accuracy"].to_dict()
    assert found == swept
    assert set(table["state"]) == {"finished"}
    assert table["run"].tolist() == sorted(path.name for path in tmp_path.iterdir())
    assert set(table["threads"]) == {2}
    one = collection.load_results(tmp_path / "lr=0.1_constant_0")
    assert one[["run", "val_accuracy"]].to_numpy().tolist() == [[".", swept[0.1, "constant", 0]]]


def test_the_summary_is_over_the_seeds(tmp_path, swept):
    summary = collection.summarize(collection.load_results(tmp_path))
    assert list(summary) == ["lr", "schedule", *SUMMARY]
    assert len(summary) == 3 * 2 * 3  # settings and metrics
    assert list(summary["metric"].unique()) == ["val_accuracy", "best_epoch", "seconds"]
    for row in summary.to_dict("records"):
        by_seed = {
            "val_accuracy": [swept[row["lr"], row["schedule"], seed] for seed in range(3)],
            "best_epoch": [1, 2, 3],
            "seconds": [10.0, 11.0, 12.0],
        }
        values = by_seed[row["metric"]]
        assert row["runs"] == 3
        assert row["mean"] == pytest.approx(mean(values))
        assert row["sd"] == pytest.approx(stdev(values))
        assert (row["min"], row["max"]) == (min(values), max(values))


def test_the_best_setting_has_the_highest_mean(tmp_path, swept):
    summary = collection.summarize(collection.load_results(tmp_path))
    means = pd.Series(swept).groupby(level=[0, 1]).mean()
    best = collection.best_setting(summary)
    assert (best["lr"], best["schedule"]) == means.idxmax()
    assert best["mean"] == pytest.approx(means.max())
    assert collection.best_setting(summary[summary["metric"] != "val_accuracy"]) is None


def test_varied_parameters_come_without_the_seed_and_most_values_first(tmp_path, put, swept):
    put("failed", {"epochs": 5, "lr": 0.5, "schedule": "other", "seed": 0}, {}, "failed")
    table = collection.load_results(tmp_path)
    assert collection.varied_parameters(table) == ["lr", "schedule"]


def test_a_single_run_has_no_spread(tmp_path, put):
    put("only", {"lr": 0.1, "seed": 3}, {"val_accuracy": 0.5})
    table = collection.load_results(tmp_path)
    summary = collection.summarize(table)
    assert collection.varied_parameters(table) == []
    assert list(summary) == SUMMARY
    assert summary["metric"].tolist() == ["val_accuracy", "seconds"]
    assert summary[["runs", "mean", "min", "max"]].iloc[0].tolist() == [1, 0.5, 0.5, 0.5]
    assert summary["sd"].isna().all()


def test_failed_and_unfinished_runs_are_listed_and_left_out_of_the_summary(tmp_path, put):
    put("a", {"lr": 1.0}, {"val_accuracy": 0.5})
    put("b", {"lr": 2.0}, {"val_accuracy": 0.9}, "failed", error="no luck", attempts=2)
    (tmp_path / "c" / ".part-1").mkdir(parents=True)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "results.json").write_text('{"state": "fini')
    put("e/f", {"lr": 1.0}, {"val_accuracy": 0.6})  # deeper
    table = collection.load_results(tmp_path).set_index("run")
    states = ["finished", "failed", "unfinished", "unfinished", "finished"]
    assert table["state"].to_dict() == dict(zip(["a", "b", "c", "d", "e/f"], states, strict=True))
    assert table.loc["b", ["error", "attempts", "lr"]].tolist() == ["no luck", 2, 2.0]
    summary = collection.summarize(table)
    assert summary.loc[0, ["runs", "mean"]].tolist() == [2, pytest.approx(0.55)]


def test_a_run_that_was_killed_while_it_was_put_in_place_is_unfinished(tmp_path, put):
    put("a/.part-1", {"lr": 1.0}, {"val_accuracy": 0.5})
    table = collection.load_results(tmp_path)
    assert table[["run", "state"]].to_numpy().tolist() == [["a", "unfinished"]]
    put("a", {"lr": 1.0}, {"val_accuracy": 0.6})  # what the kill left may still be there
    table = collection.load_results(tmp_path)
    assert table[["run", "state", "val_accuracy"]].to_numpy().tolist() == [["a", "finished", 0.6]]


def test_whole_numbers_stay_whole_next_to_an_unfinished_run(tmp_path, put, capsys):
    put("a", {"epochs": 4, "seed": 0}, {"val_accuracy": 0.5})
    put("b", {"epochs": 8, "seed": 0}, {"val_accuracy": 0.75})
    (tmp_path / "c" / ".part-1").mkdir(parents=True)
    assert cli.main(["results", str(tmp_path), "--group", "seed"]) == 0
    assert "best by val_accuracy: epochs=8 (mean 0.7500)" in capsys.readouterr().out
    read = pd.read_csv(tmp_path / "results.csv", dtype=str)
    assert read["epochs"].tolist()[:2] == ["4", "8"]
    summary = pd.read_csv(tmp_path / "summary.csv", dtype=str)
    assert set(summary["epochs"]) == {"4", "8"}


def test_metrics_by_class_and_of_other_networks_have_columns_of_their_own(tmp_path, put):
    metrics = {"val_accuracy": 0.9, "test_recall": {"Bag": 0.8, "Ankle boot": 0.7}}
    put("a", {}, metrics, networks={"03_other": {"val_accuracy": 0.5, "test_recall": {"Bag": 0.1}}})
    put("b", {}, {})
    table = collection.load_results(tmp_path)
    assert table.attrs["metrics"] == [
        "val_accuracy",
        "test_recall.Bag",
        "test_recall.Ankle boot",
        "03_other.val_accuracy",
        "03_other.test_recall.Bag",
    ]
    first, second = table[table.attrs["metrics"]].to_numpy()
    assert first.tolist() == [0.9, 0.8, 0.7, 0.5, 0.1]
    assert np.isnan(second).all()
    counts = collection.summarize(table).set_index("metric")["runs"].to_dict()
    assert counts["03_other.val_accuracy"] == 1
    assert counts["seconds"] == 2


def test_taken_names_get_a_prefix(tmp_path, put):
    clashing = ["run", "seconds", "metric", "value", "mean"]
    for name in ("a", "b"):
        values = dict.fromkeys(clashing, name)
        put(name, values | {"epochs": 2}, dict.fromkeys(clashing, 0.5) | {"epochs": 0.25})
    table = collection.load_results(tmp_path)
    assert table.columns.is_unique
    assert table["run"].tolist() == ["a", "b"]
    assert table["seconds"].tolist() == [10.0, 10.0]
    for name in clashing:
        assert table[f"parameter.{name}"].tolist() == ["a", "b"]
        assert table[f"metric.{name}"].tolist() == [0.5, 0.5]
    assert table[["epochs", "metric.epochs"]].iloc[0].tolist() == [2, 0.25]
    prefixed = [f"parameter.{name}" for name in clashing]
    assert collection.varied_parameters(table) == prefixed
    summary = collection.summarize(table)
    assert list(summary) == [*prefixed, *SUMMARY]
    assert summary["mean"].tolist() == [*[0.5] * 5, 0.25, 10.0] * 2


def test_two_chapters_are_two_settings(tmp_path, put):
    put("a", {"epochs": 1, "lr": 0.9}, {"val_accuracy": 0.5})
    put("b", {"epochs": 1}, {"val_accuracy": 0.7}, chapter="01_net")
    table = collection.load_results(tmp_path)
    assert collection.varied_parameters(table)[0] == "chapter"
    rows = collection.summarize(table).query("metric == 'val_accuracy'")
    assert rows.set_index("chapter")["mean"].to_dict() == {"01_net": 0.7, "02_net": 0.5}


def test_parameters_that_are_texts_or_flags_can_vary(tmp_path, put):
    for n, (flip, device) in enumerate(product([True, False], ["cpu", "cuda"])):
        put(str(n), {"flip": flip, "device": device}, {"val_accuracy": n / 10, "done": True})
    table = collection.load_results(tmp_path)
    assert sorted(collection.varied_parameters(table)) == ["device", "flip"]
    summary = collection.summarize(table)
    assert set(summary["metric"]) == {"val_accuracy", "seconds"}  # and no mean of flags
    best = collection.best_setting(summary)
    assert (bool(best["flip"]), best["device"], best["mean"]) == (False, "cuda", 0.3)


def test_the_files_hold_the_table_and_the_summary(tmp_path, swept):
    expected = collection.load_results(tmp_path)
    assert cli.main(["results", str(tmp_path)]) == 0
    read = pd.read_csv(tmp_path / "results.csv", float_precision="round_trip")
    for table in (read, pd.read_parquet(tmp_path / "results.parquet")):
        pd.testing.assert_frame_equal(table, expected, check_dtype=False, check_exact=True)
    summary = pd.read_csv(tmp_path / "summary.csv")
    pd.testing.assert_frame_equal(summary, collection.summarize(expected), rtol=1e-5)
    # The second time, its own files do not count as runs.
    assert cli.main(["results", str(tmp_path)]) == 0
    assert len(collection.load_results(tmp_path)) == len(expected)
