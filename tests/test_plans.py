"""What is there of a sweep, what is to do, and how long that may take."""

import hashlib
import json
import re
from dataclasses import replace

import nbformat
import pytest

from fmnist_lib.chapters import ChapterError
from fmnist_lib.experiments import plans
from fmnist_lib.experiments.plans import estimate, make_plan
from fmnist_lib.experiments.sweeps import load_sweep

CELL = 'epochs: int = 25\nlr: float = 3e-4\nseed: int = 0\nsample: bool = False\ndata_dir: str = ""'
DEFAULTS = {"epochs": 25, "lr": 3e-4, "seed": 0, "sample": False}
CODE = hashlib.sha256(f"{CELL}\0print(lr)".encode()).hexdigest()


@pytest.fixture
def notebook(tmp_path, write_chapter):
    return write_chapter(tmp_path / "02_net.ipynb", CELL, "print(lr)")


@pytest.fixture
def load(tmp_path, notebook):
    def read(text):
        (tmp_path / "s.yml").write_text(f"chapter: 02_net\n{text}")
        return load_sweep(tmp_path / "s.yml", tmp_path)

    return read


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def put(runs):
    """Write the record of a run: (name of its folder, parameters, other entries) -> record."""

    def write(name, parameters, state="finished", **others):
        record = {"state": state, "chapter": "02_net", "code": CODE, "seconds": 10.0}
        record |= {"metrics": {}, "networks": {}, "attempts": 1}
        record |= {"parameters": DEFAULTS | parameters} | others
        (runs / name).mkdir(parents=True)
        (runs / name / "results.json").write_text(json.dumps(record))
        return record

    return write


def test_all_is_to_do_where_nothing_is_there(load, runs):
    sweep = load("seeds: 2")
    plan = make_plan(sweep, runs)
    assert plan.finished == {}
    assert list(plan.to_do) == ["seed=0", "seed=1"]
    assert list(plan.to_do.values()) == list(sweep.runs)
    assert (plan.sweep, plan.folder) == (sweep, runs)
    assert not runs.exists()


def test_what_is_finished_is_found_by_its_parameters_whatever_its_folder_is_called(load, runs, put):
    record = put("other", {"seed": 1})
    plan = make_plan(load("seeds: 3"), runs)
    assert plan.finished == {"seed=1": record}
    assert list(plan.to_do) == ["seed=0", "seed=2"]


def test_a_sweep_that_grows_keeps_what_is_finished(load, runs, put):
    put("seed=0", {"lr": 0.1})
    put("seed=1", {"lr": 0.1, "seed": 1})
    plan = make_plan(load("grid: {lr: [0.1, 0.2]}\nseeds: 2"), runs)
    assert list(plan.finished) == ["lr=0.1_seed=0", "lr=0.1_seed=1"]
    assert list(plan.to_do) == ["lr=0.2_seed=0", "lr=0.2_seed=1"]


def test_a_value_given_that_is_the_default_is_the_same_run(load, runs, put):
    put("defaults", {})
    plan = make_plan(load("parameters: {epochs: 25, lr: '3e-4', data_dir: elsewhere}"), runs)
    assert (list(plan.finished), plan.to_do) == (["defaults"], {})


def test_failed_and_unfinished_runs_are_to_do(load, runs, put):
    put("seed=0", {"seed": 0}, "failed")
    (runs / "seed=1" / ".part-abc").mkdir(parents=True)
    (runs / "seed=2").mkdir()
    (runs / "seed=2" / "results.json").write_text('{"state": "fini')
    put("seed=3", {"seed": 3}, "unheard of")
    assert list(make_plan(load("seeds: 4"), runs).to_do) == [f"seed={n}" for n in range(4)]


def test_a_name_that_another_finished_run_has_gets_a_suffix(load, runs, put):
    put("seed=0", {"lr": 0.5})
    put("seed=1", {"lr": 0.5, "seed": 1}, "failed")
    put("copy", {"lr": 0.5})  # the same again, which changes nothing
    plan = make_plan(load("seeds: 2"), runs)
    first, second = plan.to_do
    assert re.fullmatch(r"seed=0-[0-9a-f]{8}", first)
    assert second == "seed=1"
    assert [run.given for run in plan.to_do.values()] == [{"seed": 0}, {"seed": 1}]


def test_runs_of_another_chapter_are_none_of_this_sweep(load, runs, put):
    put("defaults", {}, chapter="03_net", code="another")
    (name,) = make_plan(load(""), runs).to_do
    assert name.startswith("defaults-")


def test_finished_runs_of_another_state_of_the_chapter_are_refused(
    load, runs, put, tmp_path, write_chapter
):
    put("seed=1", {"seed": 1})
    sweep = load("seeds: 2")
    write_chapter(tmp_path / "02_net.ipynb", CELL, "print(lr + 1)")
    with pytest.raises(
        ChapterError,
        match=r"seed=1 holds a finished run of an older state of 02_net; name another folder with "
        r"-o, or remove this one$",
    ):
        make_plan(sweep, runs)
    other = replace(sweep, runs=sweep.runs[:1])  # which has no part in it
    assert list(make_plan(other, runs).to_do) == ["seed=0"]


def test_changes_of_prose_and_outputs_are_no_other_state(load, runs, put, notebook):
    put("defaults", {})
    changed = nbformat.read(notebook, 4)
    changed.cells[1].outputs = [nbformat.v4.new_output("stream", text="0.1\n")]
    changed.cells[1].execution_count = 7
    changed.cells[1].metadata.tags = ["a-tag"]
    changed.cells.insert(1, nbformat.v4.new_markdown_cell("Some prose."))
    nbformat.write(changed, notebook)
    assert list(make_plan(load(""), runs).finished) == ["defaults"]


# How long it may take.


@pytest.fixture
def times(tmp_path, monkeypatch):
    file = tmp_path / "chapter_times.json"
    monkeypatch.setattr(plans, "TIMES", file)

    def write(chapters):
        file.write_text(json.dumps({"machine": {}, "chapters": chapters}))

    write({"02_net": [[1, 30.0], [4, 90.0]]})
    return write


def test_time_grows_evenly_with_the_epochs(load, runs, put):
    for epochs in (1, 2, 4):
        put(f"a{epochs}", {"epochs": epochs}, seconds=7.0 + 3.0 * epochs)
    seconds, source = estimate(make_plan(load("grid: {epochs: [1, 2, 4, 10, 25]}"), runs))
    assert seconds == pytest.approx((7 + 30) + (7 + 75))
    assert source == "from the runs that are finished"


def test_time_from_runs_of_one_length_is_in_proportion(load, runs, put):
    put("a", {"epochs": 2, "seed": 0}, seconds=10.0)
    put("b", {"epochs": 2, "seed": 1}, seconds=14.0)
    plan = make_plan(load("grid: {epochs: [2, 4]}\nseeds: 3"), runs)
    assert len(plan.to_do) == 4
    assert estimate(plan)[0] == pytest.approx(12 * (1 + 3 * 2))


def test_nothing_to_do_takes_no_time(load, runs, put):
    put("a", {})
    assert estimate(make_plan(load(""), runs))[0] == 0


def test_without_a_finished_run_the_measured_times_are_taken(load, runs, times):
    seconds, source = estimate(make_plan(load("grid: {epochs: [1, 4, 7]}"), runs))
    assert seconds == pytest.approx(30 + 90 + 150)
    assert source == "from runs of that chapter with one thread, on the machine of its authors"
    times({"02_net": [[1, 40.0]]})
    assert estimate(make_plan(load("seeds: 2"), runs))[0] == pytest.approx(2 * 25 * 40)


def test_a_chapter_that_trains_nothing_takes_the_same_each_time(
    load, runs, times, tmp_path, write_chapter
):
    write_chapter(tmp_path / "02_net.ipynb", "seed: int = 0")
    sweep = load("seeds: 3")
    times({"02_net": [[1, 40.0]]})
    assert estimate(make_plan(sweep, runs))[0] == pytest.approx(3 * 40)


def test_there_is_no_estimate_for_the_sample_and_for_an_unknown_chapter(load, runs, times):
    plan = make_plan(load("parameters: {sample: true}"), runs)
    assert estimate(plan) == (None, "no run on the sample is finished yet")
    times({"03_net": [[1, 40.0]]})
    assert estimate(make_plan(load(""), runs)) == (None, "no run is finished yet")
