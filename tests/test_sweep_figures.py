"""The figure of a sweep, and what ``fmnist results`` prints and writes."""

from itertools import product
from unittest.mock import Mock

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from fmnist_lib import cli, plotting


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def table(x, y=None, **columns):
    return pd.DataFrame({"x": x, "y": y or np.arange(len(x)) / 10, **columns})


def points(ax):
    """Return what is drawn as points and as lines: two lists of (x, y)."""
    found = {True: [], False: []}
    for line in ax.lines:
        is_points = line.get_linestyle() == "None"
        found[is_points] += [list(zip(*map(np.ndarray.tolist, line.get_data()), strict=True))]
    return found[True], found[False]


def test_every_run_is_a_point_and_the_means_are_a_line():
    data = table([2, 1, 2, 1, 3, 2], [0.4, 0.1, 0.6, 0.3, 0.7, 1.1])
    ax = plotting.sweep_curves(data, "x", "y")
    (runs,), (means,) = points(ax)
    assert sorted(runs) == [(1, 0.1), (1, 0.3), (2, 0.4), (2, 0.6), (2, 1.1), (3, 0.7)]
    assert np.allclose(means, [(1, 0.2), (2, 0.7), (3, 0.7)])
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_legend()) == ("x", "y", None)
    parts = plotting.sweep_curves(pd.concat([data[:3], data[3:].reset_index(drop=True)]), "x", "y")
    assert np.allclose(points(parts)[1], points(ax)[1])


@pytest.mark.parametrize(
    ("x", "scale"),
    [([0.001, 0.0201], "log"), ([0.001, 0.02], "linear"), ([0, 25], "linear"), ([5], "linear")],
)
def test_positive_numbers_that_span_more_than_a_factor_of_20_get_a_logarithmic_axis(x, scale):
    assert plotting.sweep_curves(table(x), "x", "y").get_xscale() == scale


def test_each_group_has_a_distinct_line_and_each_text_or_boolean_a_place_which_groups_share():
    data = table(["a", "b", "b", "c"], [0.1, 0.2, 0.3, 0.4], flip=[True, True, False, False])
    ax = plotting.sweep_curves(data, "x", "y", "flip")
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["flip = False", "flip = True"]
    assert points(ax)[1] == [[(1, 0.3), (2, 0.4)], [(0, 0.1), (1, 0.2)]]
    looks = {line.get_label(): (line.get_marker(), line.get_linestyle()) for line in ax.lines}
    assert looks["flip = False"] != looks["flip = True"]
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert (labels, list(ax.get_xticks())) == (["a", "b", "c"], [0, 1, 2])
    ax = plotting.sweep_curves(table([True, False]), "x", "y")
    assert [label.get_text() for label in ax.get_xticklabels()] == ["False", "True"]


def test_a_run_without_a_value_is_left_out():
    ax = plotting.sweep_curves(table([1, 2, None], [0.1, float("nan"), 0.3]), "x", "y")
    assert points(ax) == ([[(1, 0.1)]], [[(1, 0.1)]])


# The command.


@pytest.fixture
def swept(runs, put):
    """Write four runs, of which the better setting is lr=0.1 by validation, not by test images."""
    for n, (lr, seed) in enumerate([(0.1, 0), (0.1, 1), (0.01, 0), (0.01, 1)]):
        metrics = {"val_accuracy": 0.9 - n / 100, "test_accuracy": 0.8 + n / 100}
        put(str(n), {"lr": lr, "seed": seed, "device": "cpu"}, metrics)
    return runs


@pytest.fixture
def drawn(monkeypatch):
    """Tell what was drawn last: () -> x, y, group."""
    monkeypatch.setattr(plotting, "sweep_curves", draw := Mock(wraps=plotting.sweep_curves))
    return lambda: draw.call_args.args[1:]


def test_results_says_what_is_best_and_what_it_wrote(swept, put, drawn, capsys):
    put("4", {"lr": 0.1, "seed": 2, "device": "cpu"}, state="failed")
    assert cli.main(["results", str(swept)]) == 0
    printed = capsys.readouterr().out
    assert "5 runs: 4 finished, 1 failed\n" in printed
    assert "best by val_accuracy: lr=0.1 (mean 0.8950, standard deviation 0.0071)\n" in printed
    assert "\ntest_accuracy\n" in printed
    for name in ("results.csv", "results.parquet", "summary.csv", "results.png"):
        assert f"written: {swept / name}\n" in printed
        assert (swept / name).stat().st_size
    assert drawn() == ("lr", "val_accuracy", None)


def test_a_second_parameter_that_varies_has_lines_and_a_third_is_said_to_be_averaged(
    runs, put, drawn, capsys
):
    for n, (lr, size, flip) in enumerate(product([1, 2, 3], [32, 64, 128, 256], [True, False])):
        parameters = {"lr": lr, "batch_size": size, "flip": flip}
        put(str(n), parameters, {"val_accuracy": n / 100})
    assert cli.main(["results", str(runs)]) == 0
    assert drawn() == ("batch_size", "val_accuracy", "lr")
    assert "averages over flip as well" in capsys.readouterr().out
    assert cli.main(["results", str(runs), "--x", "lr", "--group", "flip"]) == 0
    assert drawn() == ("lr", "val_accuracy", "flip")
    assert "averages over batch_size as well" in capsys.readouterr().out


def test_runs_of_different_code_have_lines_of_their_own(swept, put, drawn):
    put("4", {"lr": 0.1, "seed": 0, "device": "cpu"}, {"val_accuracy": 0.5}, torch="2.0")
    assert cli.main(["results", str(swept)]) == 0
    assert drawn() == ("lr", "val_accuracy", "version")
    assert cli.main(["results", str(swept), "--group", "seed"]) == 0
    assert drawn() == ("lr", "val_accuracy", "seed, version")
    labels = {text.get_text() for text in plt.gca().get_legend().get_texts()}
    expected = {(0, "unknown"), (0, "2.0"), (1, "unknown")}
    assert labels == {f"seed, version = {seed}, torch {torch}" for seed, torch in expected}


def test_results_draws_the_columns_named_and_writes_elsewhere(swept, drawn, tmp_path):
    before = sorted(swept.rglob("*"))
    options = ["--x", "seed", "--y", "test_accuracy", "--group", "lr", "-o", str(tmp_path / "a/b")]
    assert cli.main(["results", str(swept), *options]) == 0
    assert drawn() == ("seed", "test_accuracy", "lr")
    assert (tmp_path / "a" / "b" / "results.png").is_file()
    assert sorted(swept.rglob("*")) == before


def test_results_without_a_seed_or_a_metric_are_a_table_alone(runs, put, capsys):
    put("only", {})
    assert cli.main(["results", str(runs)]) == 0
    assert not (runs / "results.png").exists()
    assert "results.png" not in capsys.readouterr().out
    assert pd.read_csv(runs / "summary.csv")["metric"].tolist() == ["seconds"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--x", "lrr"], "no column 'lrr'; did you mean lr? It has chapter, "),
        (["--group", "sed"], "no column 'sed'; did you mean seed? It has "),
        (["--y", "device"], "no metric 'device'; it has val_accuracy, test_accuracy, seconds"),
    ],
)
def test_an_unknown_column_is_refused(swept, capsys, options, words):
    assert cli.main(["results", str(swept), *options]) == 2
    assert words in capsys.readouterr().err
    assert not list(swept.glob("results.*"))


def test_a_folder_without_finished_runs_or_that_cannot_be_written_is_refused(runs, put, capsys):
    def refused():
        assert cli.main(["results", str(runs)]) == 1
        return capsys.readouterr().err

    runs.mkdir()
    assert "holds no runs; name the folder" in refused()
    put("a", {}, state="failed")
    assert "no run is finished; run fmnist sweep again" in refused()
    put("a", {"seed": 0}, {"val_accuracy": 0.5})
    (runs / "results.png").mkdir()
    assert f"cannot be written to {runs}" in refused()
