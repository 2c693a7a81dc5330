"""Many runs in one table, their summary over seeds, and the best setting."""

import json
import os
import subprocess
import sys
from itertools import product
from statistics import mean, stdev

import numpy as np
import pandas as pd
import pytest

from fmnist_lib import cli
from fmnist_lib.experiments import collection

SUMMARY = ["metric", "runs", "mean", "sd", "min", "max"]


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


def test_the_table_has_a_row_for_each_run(runs, swept):
    table = collection.load_results(runs)
    assert list(table) == [
        *("run", "chapter", "state", "epochs", "lr", "schedule", "seed"),
        *("val_accuracy", "best_epoch", "seconds", "threads", "attempts", "error"),
        *("code", "library", "torch"),
    ]
    assert table.attrs == {
        "parameters": ["epochs", "lr", "schedule", "seed"],
        "metrics": ["val_accuracy", "best_epoch"],
        "repeated": {},
    }
    found = table.set_index(["lr", "schedule", "seed"])["val_accuracy"].to_dict()
    assert found == swept
    assert table["run"].tolist() == sorted(path.name for path in runs.iterdir())
    assert table[["state", "threads"]].drop_duplicates().to_numpy().tolist() == [["finished", 2]]
    one = collection.load_results(runs / "lr=0.1_constant_0")
    assert one[["run", "val_accuracy"]].to_numpy().tolist() == [[".", swept[0.1, "constant", 0]]]


def test_the_summary_is_over_the_seeds(runs, swept):
    summary = collection.summarize(collection.load_results(runs))
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


def test_the_best_setting_has_the_highest_mean_of_those_that_vary(runs, put, swept):
    put("failed", {"epochs": 5, "lr": 0.5, "schedule": "other", "seed": 0}, {}, state="failed")
    table = collection.load_results(runs)
    assert collection.varied_parameters(table) == ["lr", "schedule"]  # most values first, no seed
    summary = collection.summarize(table)
    means = pd.Series(swept).groupby(level=[0, 1]).mean()
    best = collection.best_setting(summary)
    assert (best["lr"], best["schedule"]) == means.idxmax()
    assert best["mean"] == pytest.approx(means.max())
    assert collection.best_setting(summary[summary["metric"] != "val_accuracy"]) is None


def test_a_single_run_has_no_spread(runs, put):
    put("only", {"lr": 0.1, "seed": 3}, {"val_accuracy": 0.5})
    table = collection.load_results(runs)
    summary = collection.summarize(table)
    assert collection.varied_parameters(table) == []
    assert list(summary) == SUMMARY
    assert summary[["runs", "mean", "min", "max"]].iloc[0].tolist() == [1, 0.5, 0.5, 0.5]
    assert summary["sd"].isna().all()


def test_other_runs_than_finished_ones_are_listed_and_left_out_of_the_summary(runs, put):
    put("a", {"lr": 1.0, "seed": 0}, {"val_accuracy": 0.5})
    put("b", {"lr": 2.0}, {"val_accuracy": 0.9}, state="failed", error="no luck", attempts=2)
    put("c/.part-run", {"lr": 1.0}, {"val_accuracy": 0.1})  # killed while it was put in place
    (runs / "c" / "attempt.json").write_text('{"parameters": {"lr": 3.0}}')
    put("d/e", {"lr": 1.0, "seed": 1}, {"val_accuracy": 0.6})  # deeper
    (runs / "d" / "e" / "attempt.json").write_text("{}")  # which a kill left there
    put("f", {"lr": 1.0, "seed": 2}, {"val_accuracy": 0.1}, state="stopped", error="given up")
    put("g", {"lr": 1.0, "seed": 3}, state="failed")
    (runs / "g" / "attempt.json").write_text('{"parameters": {"lr": 1.0, "seed": 3}}')
    table = collection.load_results(runs).set_index("run")
    states = {"a": "finished", "b": "failed", "c": "unfinished", "d/e": "finished"}
    assert table["state"].to_dict() == states | {"f": "stopped", "g": "unfinished"}
    assert table.loc["b", ["error", "attempts", "lr"]].tolist() == ["no luck", 2, 2.0]
    assert table.loc["c", "lr"] == 3.0
    summary = collection.summarize(table)
    assert summary.loc[0, ["runs", "mean"]].tolist() == [2, pytest.approx(0.55)]


# Folders that come back from several machines.


def test_a_run_that_is_there_twice_counts_once(runs, put, capsys):
    for folder, seeds in (("one", (0, 1, 2)), ("two", (2, 3))):
        for seed in seeds:
            put(f"{folder}/seed={seed}", {"seed": seed}, {"val_accuracy": seed / 10})
    put("one/seed=3", {"seed": 3}, state="failed")  # and finished on the other machine
    table = collection.load_results(runs / "one", runs / "two")
    found = table.sort_values("seed")["run"].tolist()
    one, two = (str(runs / name) for name in ("one", "two"))
    assert found == [f"{one}/seed=0", f"{one}/seed=1", f"{one}/seed=2", f"{two}/seed=3"]
    repeated = {f"{two}/seed=2": f"{one}/seed=2", f"{one}/seed=3": f"{two}/seed=3"}
    assert table.attrs["repeated"] == repeated
    summary = collection.summarize(table)
    assert summary.loc[0, ["runs", "mean"]].tolist() == [4, pytest.approx(0.15)]
    # A folder inside another one holds the same runs, and not the same runs again.
    table = collection.load_results(runs, runs / "one")
    assert (len(table), len(table.attrs["repeated"])) == (4, 2)
    assert cli.main(["results", one, two, "-o", str(runs / "all")]) == 0
    assert "4 runs: 4 finished\n2 more are repeats" in capsys.readouterr().out
    assert len(pd.read_csv(runs / "all" / "results.csv")) == 4
    assert cli.main(["results", one, two]) == 2
    assert "name one for the table with -o" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["code", "library", "torch"])
def test_runs_of_different_code_are_never_averaged(runs, put, capsys, part):
    for seed, state in enumerate(["a" * 64, "a" * 64, "b" * 64, None]):
        same = {"code": "c", "library": "l", "torch": "2"} | {part: state}
        put(f"seed={seed}", {"seed": seed}, {"val_accuracy": seed / 10}, **same)
    put("other", {"seed": 9}, state="failed", **{part: "d"})  # which says nothing about the rest
    assert cli.main(["results", str(runs)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "kept apart" in line]
    shown = [f"{part} {text}" for text in ("a" * 8, "b" * 8, "unknown")]
    assert all(text in line for text in shown)
    rows = pd.read_csv(runs / "summary.csv").query("metric == 'val_accuracy'")
    assert rows["runs"].tolist() == [2, 1, 1]
    assert rows["mean"].tolist() == pytest.approx([0.05, 0.2, 0.3])
    assert rows["version"].str[: len(part) + 9].str.strip().tolist() == shown


def test_two_chapters_have_different_code_and_one_version(runs, put):
    put("a", {}, code="a")
    put("b", {}, code="b", chapter="01_net")
    assert "version" not in collection.load_results(runs)


def test_what_cannot_be_read_is_named(runs, put, as_a_user, capsys):
    put("a/seed=0", {"seed": 0}, {"val_accuracy": 0.5})
    put("b/seed=1", {"seed": 1}, {"val_accuracy": 0.5})

    def results(folder):
        command = [*as_a_user, sys.executable, "-m", "fmnist_lib.cli", "results", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        (line,) = done.stderr.splitlines()
        assert done.returncode == 1
        return line

    os.chmod(locked := runs / "b" / "seed=1" / "results.json", 0)
    assert f"{locked} cannot be read (Permission denied)" in results(runs)
    os.chmod(runs / "a", 0)
    assert f"{runs / 'a'} cannot be read (Permission denied)" in results(runs)
    assert cli.main(["results", str(runs / "c")]) == 1
    assert f"{runs / 'c'} cannot be read (No such file" in capsys.readouterr().err


def test_a_full_disk_leaves_the_last_table_whole(put, mount_disk, tmp_path, capsys):
    disk = mount_disk(tmp_path / "disk", "200k")
    put("seed=0", {"seed": 0}, {"val_accuracy": 0.5})
    command = ["results", str(tmp_path / "runs"), "-o", str(disk)]
    assert cli.main(command) == 0
    before = {path.name: path.read_bytes() for path in disk.iterdir()}
    put("seed=1", {"seed": 1}, {f"metric {n}": n for n in range(2000)})
    assert cli.main(command) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in disk.iterdir()} == before


def test_whole_numbers_stay_whole_next_to_an_unfinished_run(runs, put, capsys):
    put("a", {"epochs": 4, "seed": 0}, {"val_accuracy": 0.5})
    put("b", {"epochs": 8, "seed": 0}, {"val_accuracy": 0.75})
    (runs / "c").mkdir()
    (runs / "c" / "attempt.json").write_text("{}")
    assert cli.main(["results", str(runs), "--group", "seed"]) == 0
    assert "best by val_accuracy: epochs=8 (mean 0.7500)" in capsys.readouterr().out
    for name in ("results", "summary"):
        read = pd.read_csv(runs / f"{name}.csv", dtype=str)
        assert set(read["epochs"].dropna()) == {"4", "8"}


def test_metrics_by_class_and_of_other_networks_have_columns_of_their_own(runs, put):
    metrics = {"val_accuracy": 0.9, "test_recall": {"Bag": 0.8, "Ankle boot": 0.7}}
    put("a", {"seed": 0}, metrics, networks={"03_other": {"test_recall": {"Bag": 0.1}}})
    put("b", {"seed": 1}, {})
    table = collection.load_results(runs)
    names = [
        "val_accuracy",
        "test_recall.Bag",
        "test_recall.Ankle boot",
        "03_other.test_recall.Bag",
    ]
    assert table.attrs["metrics"] == names
    first, second = table[names].to_numpy()
    assert first.tolist() == [0.9, 0.8, 0.7, 0.1]
    assert np.isnan(second).all()
    counts = collection.summarize(table).set_index("metric")["runs"].to_dict()
    assert counts == dict.fromkeys(names, 1) | {"seconds": 2}


def test_taken_names_get_a_prefix(runs, put):
    clashing = ["run", "seconds", "metric", "value", "mean"]
    for name in ("a", "b"):
        values = dict.fromkeys(clashing, name)
        put(name, values | {"epochs": 2}, dict.fromkeys(clashing, 0.5) | {"epochs": 0.25})
    table = collection.load_results(runs)
    assert table[["run", "seconds"]].to_numpy().tolist() == [["a", 10.0], ["b", 10.0]]
    for name in clashing:
        assert table[f"parameter.{name}"].tolist() == ["a", "b"]
        assert table[f"metric.{name}"].tolist() == [0.5, 0.5]
    assert table[["epochs", "metric.epochs"]].iloc[0].tolist() == [2, 0.25]
    summary = collection.summarize(table)
    assert list(summary) == [*(f"parameter.{name}" for name in clashing), *SUMMARY]
    assert summary["mean"].tolist() == [*[0.5] * 5, 0.25, 10.0] * 2


def test_two_chapters_are_two_settings(runs, put):
    put("a", {"epochs": 1, "lr": 0.9}, {"val_accuracy": 0.5})
    put("b", {"epochs": 1}, {"val_accuracy": 0.7}, chapter="01_net")
    table = collection.load_results(runs)
    assert collection.varied_parameters(table)[0] == "chapter"  # and its figure is by chapter
    rows = collection.summarize(table).query("metric == 'val_accuracy'")
    assert rows.set_index("chapter")["mean"].to_dict() == {"01_net": 0.7, "02_net": 0.5}


def test_parameters_that_are_texts_or_flags_can_vary(runs, put):
    for n, (flip, device) in enumerate(product([True, False], ["cpu", "cuda"])):
        put(str(n), {"flip": flip, "device": device}, {"val_accuracy": n / 10, "done": True})
    table = collection.load_results(runs)
    assert sorted(collection.varied_parameters(table)) == ["device", "flip"]
    summary = collection.summarize(table)
    assert set(summary["metric"]) == {"val_accuracy", "seconds"}  # and no mean of flags
    best = collection.best_setting(summary)
    assert (bool(best["flip"]), best["device"], best["mean"]) == (False, "cuda", 0.3)


ODD = {
    "texts": ("a", "b\ud800"),
    "a text and a number": ("a", 0.5),
    "lists": ([1, [2]], []),
    "a dict and nothing": ({"a": 1}, None),
    "a flag and a dict": (True, {}),
    "numbers too large for a column": (10**400, 2),
}


@pytest.mark.parametrize("values", ODD.values(), ids=ODD)
def test_values_of_any_kind_are_numbers_or_text(runs, put, values):
    for name, value in zip("ab", values, strict=True):
        metrics = {"val_accuracy": value, "other": 0.5}
        put(name, {"x": value, "seed": 0}, metrics, networks={"c": {"y": value}})
    assert cli.main(["results", str(runs)]) == 0
    table = pd.read_parquet(runs / "results.parquet")
    shown = [np.nan if value is None else str(value).replace("\ud800", "?") for value in values]
    assert [str(value) for value in table["x"].fillna("nan")] == [str(value) for value in shown]
    assert len(pd.read_csv(runs / "results.csv")) == 2


BROKEN = [
    {"metrics": [0.5]},
    {"parameters": "lr=1"},
    {"networks": 3},
    {"chapter": ["02"]},
    {"torch": 2.5},
    {"seconds": "long"},
    {"threads": 2**70},
    {"attempts": True},
    {"state": {}},
]


@pytest.mark.parametrize("broken", BROKEN, ids=map(str, BROKEN))
@pytest.mark.parametrize("file", ["results.json", "attempt.json"])
def test_a_record_that_no_run_writes_is_reported_in_one_sentence(runs, put, capsys, file, broken):
    put("a", {"seed": 0}, {"val_accuracy": 0.5})
    record = put("b", {"seed": 1}, {"val_accuracy": 0.5}, state="failed") | broken
    (runs / "b" / file).write_text(json.dumps(record))
    assert cli.main(["results", str(runs)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{next(iter(broken))} in {runs / 'b' / file} is {next(iter(broken.values()))!r}" in line


@pytest.mark.parametrize("lacking", ["chapter", "parameters"])
def test_a_record_without_what_every_run_writes_is_reported_in_one_sentence(
    runs, put, capsys, lacking
):
    record = {name: value for name, value in put("a", {}).items() if name != lacking}
    (runs / "a" / "results.json").write_text(json.dumps(record))
    for command in ("results", "status"):
        assert cli.main([command, str(runs)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{runs / 'a' / 'results.json'} lacks {lacking}" in line


def test_a_file_without_a_record_is_not_a_run_that_has_ended(runs, put):
    put("a", {"seed": 0})
    put("b", {"seed": 1})
    (runs / "b" / "results.json").write_text("[" * 100_000)
    assert collection.load_results(runs)["state"].tolist() == ["finished", "unfinished"]


def test_the_files_hold_the_table_and_the_summary(runs, swept):
    expected = collection.load_results(runs)
    assert cli.main(["results", str(runs)]) == 0
    read = pd.read_csv(runs / "results.csv", float_precision="round_trip")
    for table in (read, pd.read_parquet(runs / "results.parquet")):
        pd.testing.assert_frame_equal(table, expected, check_dtype=False, check_exact=True)
    summary = pd.read_csv(runs / "summary.csv")
    pd.testing.assert_frame_equal(summary, collection.summarize(expected), rtol=1e-5)
    # The second time, its own files do not count as runs.
    assert cli.main(["results", str(runs)]) == 0
    assert len(collection.load_results(runs)) == len(expected)
