"""The figure of a sweep, and what ``fmnist results`` prints and writes."""

import json
import re

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


def ticks(ax):
    labels = [label.get_text() for label in ax.get_xticklabels()]
    return dict(zip(labels, ax.get_xticks().tolist(), strict=True))


def test_every_run_is_a_point_and_the_means_are_a_line():
    data = table([2, 1, 2, 1, 3, 2], [0.4, 0.1, 0.6, 0.3, 0.7, 1.1])
    ax = plotting.sweep_curves(data, "x", "y")
    (runs,), (means,) = points(ax)
    assert sorted(runs) == [(1, 0.1), (1, 0.3), (2, 0.4), (2, 0.6), (2, 1.1), (3, 0.7)]
    assert np.allclose(means, [(1, 0.2), (2, 0.7), (3, 0.7)])
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_legend()) == ("x", "y", None)


@pytest.mark.parametrize(
    ("x", "scale"),
    [([0.001, 0.0201], "log"), ([0.001, 0.02], "linear"), ([0, 25], "linear"), ([5], "linear")],
)
def test_positive_numbers_that_span_more_than_a_factor_of_20_get_a_logarithmic_axis(x, scale):
    assert plotting.sweep_curves(table(x), "x", "y").get_xscale() == scale


@pytest.mark.parametrize(
    ("x", "expected"), [([True, False], {"False": 0, "True": 1}), ([True, True], {"True": 0})]
)
def test_booleans_are_not_numbers(x, expected):
    ax = plotting.sweep_curves(table(x), "x", "y")
    assert ticks(ax) == expected
    assert ax.get_xscale() == "linear"


def test_each_group_has_a_distinct_line_in_the_legend():
    data = table([1, 2, 1, 2], [0.1, 0.2, 0.3, 0.4], flip=[True, True, False, False])
    ax = plotting.sweep_curves(data, "x", "y", "flip")
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["flip = False", "flip = True"]
    _, lines = points(ax)
    assert lines == [[(1, 0.3), (2, 0.4)], [(1, 0.1), (2, 0.2)]]
    looks = {line.get_label(): (line.get_marker(), line.get_linestyle()) for line in ax.lines}
    assert looks["flip = False"] != looks["flip = True"]


def test_each_text_has_a_place_which_groups_share():
    data = table(["a", "b", "b", "c"], group=[1, 1, 2, 2])
    ax = plotting.sweep_curves(data, "x", "y", "group")
    assert [[x for x, _ in line] for line in points(ax)[1]] == [[0, 1], [1, 2]]
    assert ticks(ax) == {"a": 0, "b": 1, "c": 2}


def test_a_run_without_a_value_is_left_out():
    axes = plt.subplots()[1]
    ax = plotting.sweep_curves(table([1, 2, None], [0.1, float("nan"), 0.3]), "x", "y", ax=axes)
    assert ax is axes
    assert points(ax) == ([[(1, 0.1)]], [[(1, 0.1)]])


# The command.


@pytest.fixture
def put(tmp_path):
    """Write the record of a run: (name of its folder, parameters, metrics, other entries)."""

    def write(name, parameters, metrics, **others):
        record = {"state": "finished", "chapter": "02_net", "seconds": 10.0, "threads": 1}
        record |= {"parameters": parameters, "metrics": metrics, "attempts": 1, "error": None}
        record |= {"code": "c", "networks": {}}
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "results.json").write_text(json.dumps(record | others))

    return write


@pytest.fixture
def runs(tmp_path, put):
    """Four runs, of which the better setting is lr=0.1 by validation and not by test images."""
    for n, (lr, seed) in enumerate([(0.1, 0), (0.1, 1), (0.01, 0), (0.01, 1)]):
        metrics = {"val_accuracy": 0.9 - n / 100, "test_accuracy": 0.8 + n / 100}
        put(str(n), {"lr": lr, "seed": seed, "device": "cpu"}, metrics)
    return tmp_path / "runs"


@pytest.fixture
def drawn(monkeypatch):
    """Record what is drawn: a list of (x, y, group)."""
    calls, draw = [], plotting.sweep_curves

    def watched(table, x, y, group):
        calls.append((x, y, group))
        return draw(table, x, y, group)

    monkeypatch.setattr(plotting, "sweep_curves", watched)
    return calls


def test_results_says_what_is_best_and_what_it_wrote(runs, put, drawn, capsys):
    put("4", {"lr": 0.1, "seed": 2, "device": "cpu"}, {}, state="failed")
    assert cli.main(["results", str(runs)]) == 0
    printed = capsys.readouterr().out
    assert "5 runs: 4 finished, 1 failed\n" in printed
    assert "best by val_accuracy: lr=0.1 (mean 0.8950, standard deviation 0.0071)\n" in printed
    assert "test_accuracy" in printed
    names = ["results.csv", "results.parquet", "summary.csv", "results.png"]
    assert [line for line in printed.splitlines() if "written" in line] == [
        f"written: {runs / name}" for name in names
    ]
    assert all((runs / name).stat().st_size for name in names)
    assert (runs / "results.png").read_bytes().startswith(b"\x89PNG")
    assert drawn == [("lr", "val_accuracy", None)]


def test_results_draws_the_columns_named_and_writes_elsewhere(runs, drawn, tmp_path):
    before = sorted(runs.rglob("*"))
    options = ["--x", "seed", "--y", "test_accuracy", "--group", "lr", "-o", str(tmp_path / "a/b")]
    assert cli.main(["results", str(runs), *options]) == 0
    assert drawn == [("seed", "test_accuracy", "lr")]
    assert (tmp_path / "a" / "b" / "results.png").is_file()
    assert sorted(runs.rglob("*")) == before


def test_results_of_several_chapters_are_drawn_by_chapter(runs, put, drawn):
    put("other", {"lr": 0.1, "seed": 0}, {"val_accuracy": 0.5}, chapter="01_net")
    assert cli.main(["results", str(runs)]) == 0
    assert drawn == [("chapter", "val_accuracy", None)]


def test_results_without_a_seed_or_a_metric_are_a_table_alone(put, tmp_path, capsys):
    put("only", {}, {})
    assert cli.main(["results", str(tmp_path / "runs")]) == 0
    assert not (tmp_path / "runs" / "results.png").exists()
    assert "results.png" not in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "runs" / "summary.csv")["metric"].tolist() == ["seconds"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--x", "lrr"], "no column 'lrr'; did you mean lr? It has chapter, "),
        (["--y", "val"], "no metric 'val'; "),
        (["--group", "sed"], "no column 'sed'; did you mean seed? It has "),
        (["--y", "device"], "no metric 'device'; it has val_accuracy, test_accuracy, seconds"),
    ],
)
def test_an_unknown_column_is_refused(runs, capsys, options, words):
    assert cli.main(["results", str(runs), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not list(runs.glob("results.*"))


def test_a_folder_without_finished_runs_is_refused(tmp_path, put, capsys):
    assert cli.main(["results", str(tmp_path)]) == 1
    assert re.search(r"fmnist: .* holds no runs; name the folder", capsys.readouterr().err)
    put("a", {}, {}, state="failed")
    assert cli.main(["results", str(tmp_path)]) == 1
    assert re.search(r"fmnist: no run is finished.*fmnist sweep again", capsys.readouterr().err)


@pytest.mark.parametrize("name", ["", "results.csv", "results.png"])
def test_a_file_that_cannot_be_written_is_reported(runs, tmp_path, capsys, name):
    (output := tmp_path / "out").mkdir()
    if name:
        (output / name).mkdir()
    else:
        output.rmdir()
        output.write_text("a file where the folder should be")
    assert cli.main(["results", str(runs), "-o", str(output)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"cannot be written to {output}" in line
    assert "None" not in line
