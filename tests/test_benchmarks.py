"""The parts of the benchmarks, and whether what is made from their results is up to date."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fmnist_lib.experiments.parameters import read_parameters
from fmnist_lib.experiments.sweeps import load_sweep
from fmnist_lib.models import MODELS

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def results():
    return json.loads((FOLDER / "bench.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_a_contender_that_fails_is_named_with_its_last_words(full_data, load_script):
    worker = load_script("benchmarks/bench.py").Worker(["ours", "--network", "abacus"])
    assert worker.missing is None
    assert "abacus" in worker.epoch()["missing"]
    worker.close()


def test_speeds_are_relative_to_the_classic_loop_and_a_missing_contender_has_a_row(
    results, load_script
):
    report = load_script("benchmarks/report.py")
    changed = results | {"throughput": results["throughput"] | {"abacus": {"missing": "no beads"}}}
    rows = {row[0]: row for row in report.throughput_table(changed)}
    assert rows[report.BASELINE][5] == "1.00"
    assert rows["abacus"][1] == "not measured: no beads"


def test_all_contenders_train_the_same_network(results):
    """After as many epochs, they have reached nearly the same accuracy."""
    rows = [row for row in results["throughput"].values() if "seconds" in row]
    accuracies = [row["val_accuracy"] for row in rows]
    assert max(accuracies) - min(accuracies) < 0.02


def test_what_is_derived_from_the_results_is_up_to_date(results, load_script):
    """If not, run 'python benchmarks/report.py'."""
    report = load_script("benchmarks/report.py")
    assert report.readme_block(results) in (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    for name, table in report.tables(results).items():
        text = (FOLDER / f"{name}.csv").read_text(encoding="utf-8")
        assert text == report.as_csv(table)


def test_the_sets_of_labels_are_what_their_names_say(load_script):
    rng, script = np.random.default_rng(5), load_script("benchmarks/label_noise.py")
    labels = rng.integers(0, 10, 2000)
    doubtful = pd.DataFrame({"index": [3, 70, 800], "predicted": (labels[[3, 70, 800]] + 1) % 10})
    sets = {name: rest for name, *rest in script.conditions(labels, doubtful)}
    for name, (changed_labels, keep, n) in sets.items():
        assert (changed_labels != labels).sum() == (0 if "left out" in name else n)
        assert (~keep).sum() == (n if "left out" in name else 0)
    assert np.flatnonzero(~sets["doubtful ones left out"][1]).tolist() == [3, 70, 800]
    others = np.flatnonzero(~sets["as many others left out"][1])
    assert len(others) == 3
    assert not {3, 70, 800} & set(others)
    replaced = sets["doubtful ones replaced"][0][[3, 70, 800]]
    assert replaced.tolist() == doubtful["predicted"].tolist()
    assert [sets[f"{share}% made wrong"][2] for share in (5, 10, 20, 40)] == [100, 200, 400, 800]


def test_only_confident_contradictions_are_doubtful(load_script):
    judged = pd.DataFrame(
        {"label": [1, 1, 2, 2], "predicted": [1, 2, 3, 4], "probability": [0.99, 0.9, 0.89, 0.95]}
    )
    doubtful = load_script("benchmarks/label_noise.py").find_doubtful(judged)
    assert doubtful.index.tolist() == [3, 1]


def test_a_variant_that_has_passed_is_kept_until_something_changes(load_script, tmp_path):
    script = load_script("benchmarks/portability.py")
    script.KEPT = tmp_path / "kept"
    row = script.Row(script.ALL["avx2-1-2"], "AVX2", "1", 2, len(script.CHAPTERS), 100, 0, 9)
    assert script.kept("avx2-1-2", "now") is None
    script.keep(row._replace(failed=1), "now")
    script.keep(row._replace(chapters=1), "now")
    assert script.kept("avx2-1-2", "now") is None
    script.keep(row, "now")
    assert script.kept("avx2-1-2", "now") == row._replace(variant="avx2-1-2")
    assert script.kept("avx2-1-2", "later") is None


def test_the_sweep_of_seeds_is_ten_of_each_network_with_the_settings_of_the_chapters():
    sweep = load_sweep(FOLDER / "seeds.yml")
    assert Counter(run.parameters["network"] for run in sweep.runs) == dict.fromkeys(MODELS, 10)
    assert sweep.threads == 1  # as many at a time as there are cores, and each alone
    chapter = read_parameters(FOLDER.parent / "notebooks" / "02_cnn.ipynb")
    for run in sweep.runs:
        for name in ("epochs", "batch_size", "lr", "shuffle", "sample"):
            assert run.parameters[name] == chapter[name].default


def test_the_sweep_of_the_site_is_what_its_page_shows_and_claims():
    """Each run with 3e-3 is better than every other run."""
    sweep = load_sweep(FOLDER.parent / "book" / "learning_rate.yml", FOLDER.parent / "notebooks")
    shown = (FOLDER.parent / "book" / "learning_rate" / "sweep.txt").read_text(encoding="utf-8")
    ended = re.findall(r"^\[\d+/15\] (\S+): .*, val_accuracy (0\.\d+)", shown, re.MULTILINE)
    assert sorted(name for name, _ in ended) == sorted(run.name for run in sweep.runs)
    best = [float(value) for name, value in ended if "lr=0.003_" in name]
    assert len(best) == 3
    assert min(best) > max(float(value) for name, value in ended if "lr=0.003_" not in name)


def test_the_figures_of_sweeps_keep_what_is_promised():
    """At most 1.5 s per run beyond papermill, 1.7 times as fast with two workers, even memory."""
    table = pd.read_csv(FOLDER / "sweeps.csv").set_index("measured")["value"]
    alone, kept = (float(table.iloc[i]) for i in (0, 1))
    assert 0 < kept - alone <= 1.5
    assert float(table["how many times as fast"]) >= 1.7
    memory = table[table.index.str.startswith("MiB")].str.split(", ").to_list()
    (_, *before), (_, *after) = [(None, *map(float, pair)) for pair in (memory[1], memory[-1])]
    assert all(now <= 1.1 * then for then, now in zip(before, after, strict=True))
