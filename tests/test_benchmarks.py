"""The benchmark's parts: its workers, and that what is made from its results is up to date."""

import importlib.util
import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def results():
    return json.loads((FOLDER / "bench.json").read_text(encoding="utf-8"))


def test_a_contender_that_is_not_installed_is_named():
    try:
        importlib.import_module("skorch")
    except ImportError:
        worker = load("bench").Worker(["skorch_net"])
        worker.close()
        assert worker.missing == "No module named 'skorch'"
    else:
        pytest.skip("skorch is installed here")


def test_a_contender_that_fails_is_named_with_its_last_words(full_data):
    worker = load("bench").Worker(["ours", "--network", "abacus"])
    assert worker.missing is None
    assert "there is no network 'abacus'" in worker.epoch()["missing"]
    worker.close()


def test_a_contender_that_is_missing_has_its_row(results):
    report = load("report")
    changed = results | {"throughput": results["throughput"] | {"abacus": {"missing": "no beads"}}}
    assert report.throughput_table(changed)[-1][:2] == ("abacus", "not measured: no beads")


def test_the_classic_loop_is_one_time_itself(results):
    rows = load("report").throughput_table(results)
    (baseline,) = (row for row in rows if row[0] == load("bench").BASELINE)
    assert baseline[5] == "1.00"


def test_all_contenders_train_the_same_network(results):
    """After as many epochs, they have reached nearly the same accuracy."""
    rows = [row for row in results["throughput"].values() if "seconds" in row]
    accuracies = [row["val_accuracy"] for row in rows]
    assert max(accuracies) - min(accuracies) < 0.02


def test_what_is_derived_from_the_results_is_up_to_date(results):
    """If not, run 'python benchmarks/report.py'."""
    report = load("report")
    assert report.readme_block(results) in (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    for name, table in report.tables(results).items():
        text = (FOLDER / f"{name}.csv").read_text(encoding="utf-8")
        assert text == report.as_csv(table)
