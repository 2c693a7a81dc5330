"""Sweep files: their runs, names and mistakes; what is finished and left, and for how long."""

import hashlib
import json
import re
from importlib.metadata import version
from itertools import product

import nbformat
import pytest

from fmnist_lib.chapters import ChapterError
from fmnist_lib.common import ParameterError
from fmnist_lib.experiments import sweeps
from fmnist_lib.experiments.run import library_digest
from fmnist_lib.experiments.sweeps import estimate, load_sweep, make_plan, take_part

CELL = """
epochs: int = 25  # passes
lr: float = 3e-4  # learning rate
seed: int = 0
shuffle: bool = False
device: str = "auto"
sample: bool = False
data_dir: str = ""
trained_dir: str = "trained"
"""
CODE = hashlib.sha256(f"{CELL.rstrip()}\0print(lr)".encode()).hexdigest()
NOW = {"code": CODE, "library": library_digest(), "torch": version("torch").partition("+")[0]}
COUNT = "expected a whole number of 1 or more"
DEFAULTS = {"epochs": 25, "lr": 3e-4, "seed": 0, "shuffle": False, "device": "auto"}
DEFAULTS |= {"sample": False}


@pytest.fixture
def load(tmp_path, write_chapter):
    """Read a sweep of the chapter 02_net: (the file's lines) -> Sweep."""
    write_chapter(tmp_path / "notebooks" / "02_net.ipynb", CELL, "print(lr)")

    def read(text, chapter="02_net"):
        file = tmp_path / "sweeps" / "s.yml"
        file.parent.mkdir(exist_ok=True)
        file.write_text((f"chapter: {chapter}\n" if chapter else "") + text, encoding="utf-8")
        return load_sweep(file, tmp_path / "notebooks")

    return read


def names(sweep):
    return [run.name for run in sweep.runs]


def test_a_chapter_alone_is_one_run_with_its_defaults(load, tmp_path):
    sweep = load("")
    assert sweep.notebook == tmp_path / "notebooks" / "02_net.ipynb"
    (run,) = sweep.runs
    assert (run.name, run.given, run.parameters) == ("defaults", {}, DEFAULTS)
    assert (sweep.threads, sweep.retries) == (1, 1)
    sweep = load("threads: 2\nretries: 0")
    assert (sweep.threads, sweep.retries) == (2, 0)


def test_a_list_gives_its_entries_which_can_share_values_as_yaml_has_it(load):
    sweep = load("list:\n- &a {epochs: 2}\n- {<<: *a, lr: 1}\n- {lr: 2.5}")
    given = [{"epochs": 2}, {"epochs": 2, "lr": 1.0}, {"lr": 2.5}]
    assert [run.given for run in sweep.runs] == given
    # A name says what a run has, given or not.
    assert names(sweep) == ["epochs=2_lr=0.0003", "epochs=2_lr=1.0", "epochs=25_lr=2.5"]


def test_list_grid_and_seeds_are_combined(load):
    sweep = load(
        "parameters: {device: cpu}\n"
        "grid: {lr: [1e-3, 1e-2], shuffle: [true, false]}\n"
        "list: [{epochs: 1}, {epochs: 2}, {epochs: 3}]\n"
        "seeds: 4"
    )
    expected = [
        {"device": "cpu", "epochs": epochs, "lr": lr, "shuffle": shuffle, "seed": seed}
        for epochs, lr, shuffle, seed in product([1, 2, 3], [1e-3, 1e-2], [True, False], range(4))
    ]
    assert len(expected) == 48
    assert [run.given for run in sweep.runs] == expected
    assert len(set(names(sweep))) == 48
    assert names(sweep)[1] == "epochs=1_lr=0.001_shuffle=True_seed=1"  # and no device
    assert [run.given["seed"] for run in load("seeds: [7, 3, 100]").runs] == [7, 3, 100]


def test_numbers_and_words_are_those_of_yaml_1_2(load):
    text = "parameters: {epochs: 0100, lr: 1e-3, shuffle: TRUE, data_dir: no}\nseeds: 010"
    sweep = load(text)
    assert [run.given["seed"] for run in sweep.runs] == list(range(10))
    for run in sweep.runs:
        assert (run.given["epochs"], run.given["lr"], run.given["shuffle"]) == (100, 0.001, True)
        assert run.given["data_dir"].endswith("no")
    assert load("seeds: [010, 017]").runs[1].given == {"seed": 17}


def test_a_chapter_given_as_a_path_is_relative_to_the_file(
    load, tmp_path, write_chapter, monkeypatch
):
    write_chapter(tmp_path / "sweeps" / "own" / "net.ipynb", "epochs: int = 1")
    monkeypatch.chdir(tmp_path / "notebooks")
    sweep = load("", chapter="own/net.ipynb")
    assert sweep.notebook == tmp_path / "sweeps" / "own" / "net.ipynb"
    assert sweep.runs[0].parameters == {"epochs": 1}
    with pytest.raises(ChapterError, match=r"^no chapter at .*sweeps.*02_net\.ipynb; run this"):
        load("", chapter="02_net.ipynb")


# Names are folders, on Windows too, and where a and A are the same.

ODD = ["a/b", "a\\b", "a:b", "../..", "a b", "ä", "x" * 300, "x" * 301, "a\nb"]
ALIKE = ["CPU", "cpu", "Cpu", "cpu."]


def test_odd_values_make_valid_names_of_folders(load, tmp_path, write_chapter):
    write_chapter(tmp_path / "notebooks" / "any.ipynb", "text: str = ''")
    texts = [*ODD, *ALIKE, "plain"]
    sweep = load("grid: " + json.dumps({"text": texts}), chapter="any")
    assert [run.given["text"] for run in sweep.runs] == texts
    found = names(sweep)
    assert found[-1] == "text=plain"
    assert len({name.lower() for name in found}) == len(found)
    for name in found:
        assert not re.search(r'[<>:"/\\|?*\x00-\x1f]|[. ]$|^[. ]', name)
        assert len(name.encode()) < 120
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert all(re.search(r"-[0-9a-f]{8}$", name) for name in found[: len(ODD)])


def refused(*words):
    return pytest.raises(ParameterError, match=".*".join(map(re.escape, words)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sedes: 3", "s.yml has no entry 'sedes'; did you mean seeds?"),
        ("list: [{lr: 1, lr: 2}]", "the key 'lr' appears twice"),
        ("parameters:", "parameters in s.yml is None, expected 'name: value' pairs"),
        ("grid: 3", "grid in s.yml is 3, expected 'name: [value, …]' pairs"),
        ("grid: {lr: []}", "grid in s.yml is {'lr': []}, expected"),
        ("grid: {lr: '12'}", "grid in s.yml is {'lr': '12'}, expected"),
        ("list: [3]", "list in s.yml is [3], expected a list of 'name: value' pairs"),
        ("seeds: 0", f"seeds in s.yml is 0, {COUNT}, or a list"),
        ("seeds: true", "seeds in s.yml is True, expected"),
        ("threads: 1.5", f"threads in s.yml is 1.5, {COUNT}"),
        ("retries: -1", "retries in s.yml is -1, expected a whole number of 0 or more"),
        ("stop: {after: 3}", "stop in s.yml is {'after': 3}, expected {after: EPOCHS, below: medi"),
        ("stop: {after: 0, below: median}", "expected {after: EPOCHS, below: median}"),
        ("grid: {ephocs: [1]}", "02_net has no parameter 'ephocs'; did you mean epochs?"),
        ("grid: {lr: [1, 1.0]}", "the same run twice, as lr=1.0 and as lr=1.0"),
        ("grid: {data_dir: [a, b]}", "the same run twice, as data_dir="),
        ("grid: {lr: [1]}\nlist: [{epochs: 1}, {lr: 2}]", "lr appears more than once"),
        ("parameters: {seed: 1}\nseeds: [2]", "seed appears more than once"),
        ("parameters: {epochs: 1:30}", "epochs is '1:30', expected a whole number"),
        ("parameters: {epochs: 1_0}", "epochs is '1_0', expected a whole number"),
        ("parameters: {epochs: 0x10}", "epochs is '0x10', expected a whole number"),
        ("parameters: {shuffle: yes}", "shuffle is 'yes', expected True or False"),
        ("parameters: {shuffle: on}", "shuffle is 'on', expected True or False"),
        ("parameters: {lr: .inf}", "lr is '.inf', expected a number"),
        ("parameters: {lr: ~}", "lr is None, expected a number"),
        ("parameters: {device: 2024-13-01}", "device is '2024-13-01', expected"),
        (
            "parameters: {epochs: !!int 1_0}",
            "s.yml is not a valid sweep file: the tag 'tag:",
        ),
        ("parameters: {epochs: !!bool maybe}", "s.yml is not a valid sweep file: the tag"),
        ("parameters: {epochs: ٣}", "epochs is '٣', expected a whole number"),
        ("seeds: 10_000", "seeds in s.yml is '10_000', expected a whole number"),
        ("grid: [", "s.yml is not a valid sweep file: "),
        ("list: !!python/name:os.system", "s.yml is not a valid sweep file: "),
    ],
)
def test_a_mistake_in_the_file_is_reported_in_one_line(load, text, words):
    with refused(words) as error:
        load(text)
    assert "\n" not in str(error.value)


def bomb(first, line):
    """Write levels of values, each of which stands for nine of the level before."""
    levels = "".join(line.format(n, ",".join([f"*a{n - 1}"] * 9)) for n in range(1, 10))
    return f"list:\n- &a0 {first}\n{levels}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"grid: {'[' * 5000}", "20 levels"),
        (f"grid: {'[' * 5000}{']' * 5000}", "20 levels"),
        (f"? {'[' * 400}{']' * 400}\n: 1", "20 levels"),
        (bomb("[x]", "- {{epochs: &a{} [{}]}}\n"), "more than 50,000 values"),
        (bomb("{epochs: 1}", "- &a{} {{<<: [{}]}}\n"), "more than 50,000 values"),
        ("list: &a [*a]", "the alias *a stands for what it is part of"),
        (f"list: {'x' * 10**6}", "more than 1,000,000 characters"),
        ("seeds: 10000000", "s.yml asks for more than 10,000 runs"),
        (f"seeds: 1{'0' * 4000}", "s.yml asks for more than 10,000 runs"),
        (f"grid: {{{', '.join(f'p{n}: [{n}, 2]' for n in range(14))}}}", "more than 10,000 runs"),
        (
            f"parameters: {{epochs: {['x' * 99] * 99}}}",
            ("epochs is [", "…, expected a whole number"),
        ),
        (f"threads: {'x' * 10**4}", ("threads in s.yml is 'x", "…, expected")),
        (f"{'x' * 999}: 1", ("has no entry 'x", "…; it has chapter")),
        (f"parameters: {{{'x' * 999}: 1, {'x' * 999}: 2}}", ("the key 'x", "… appears twice")),
    ],
    ids=range(14),
)
def test_a_file_that_grows_too_large_is_refused_in_one_short_line(load, text, words):
    with refused(*([words] if isinstance(words, str) else words)) as error:
        load(text)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_a_sweep_may_have_thousands_of_runs(load):
    assert len(load("seeds: 2000").runs) == 2000
    many = load("grid: {epochs: [1, 2]}\nlist:\n- &a {lr: 1}\n- {<<: *a, lr: 2}\nseeds: [0, 1]")
    assert len(many.runs) == 8


def test_a_file_without_a_chapter_is_refused(load, tmp_path):
    with refused("s.yml has no entries"):
        load("", chapter="")
    with refused("s.yml names no chapter"):
        load("seeds: 1", chapter="")
    with refused("chapter in s.yml is 3, expected the name of a chapter"):
        load("", chapter=3)
    with refused("s.yml cannot be read (", "No such file", "name a YAML file"):
        load_sweep(tmp_path / "s.yml")


# What is finished and what is left.


@pytest.fixture
def put(put):
    """Write the record of a run of this chapter: (name, parameters but the defaults, *others*)."""
    return lambda name, parameters, **others: put(name, DEFAULTS | parameters, **NOW | others)


def test_a_finished_run_is_recognised_by_its_parameters_whatever_its_folder_is_called(
    load, runs, put
):
    sweep = load("seeds: 3")
    assert list(make_plan(sweep, runs).to_do.values()) == list(sweep.runs)
    assert not runs.exists()
    record = put("other", {"seed": 1})
    plan = make_plan(sweep, runs)
    assert plan.finished == {"seed=1": record}
    assert list(plan.to_do) == ["seed=0", "seed=2"]
    # A value given that is the default is the same run.
    put("defaults", {})
    plan = make_plan(load("parameters: {epochs: 25, lr: '3e-4', data_dir: elsewhere}"), runs)
    assert (list(plan.finished), plan.to_do) == (["defaults"], {})


def test_failed_and_unfinished_runs_are_left(load, runs, put):
    put("seed=0", {"seed": 0}, state="failed")
    (runs / "seed=1" / ".part-abc").mkdir(parents=True)
    (runs / "seed=2").mkdir()
    (runs / "seed=2" / "results.json").write_text('{"state": "fini')
    assert list(make_plan(load("seeds: 3"), runs).to_do) == [f"seed={n}" for n in range(3)]


def test_a_failed_run_is_left_unless_it_would_fail_again(load, runs, put):
    put("seed=0", {"seed": 0}, state="failed", error="a broken claim", cause="ClaimError")
    put("seed=1", {"seed": 1}, state="failed", error="memory", cause="kernel")
    old = {"state": "failed", "error": "a wrong value", "cause": "ValueError", "library": "old"}
    put("seed=2", {"seed": 2}, **old)
    plan = make_plan(load("seeds: 3"), runs)
    assert (list(plan.to_do), plan.failed) == (["seed=1", "seed=2"], {"seed=0": "a broken claim"})


def test_a_run_that_was_stopped_early_counts_only_where_runs_are(load, runs, put):
    put("seed=0", {"seed": 0}, state="stopped", error="below the median")
    assert list(make_plan(load("seeds: 2"), runs).to_do) == ["seed=0", "seed=1"]
    plan = make_plan(load("seeds: 2\nstop: {after: 3, below: median}"), runs)
    assert (list(plan.finished), list(plan.to_do)) == (["seed=0"], ["seed=1"])
    assert list(plan.all) == ["seed=0", "seed=1"]


def test_a_name_that_another_run_has_finished_or_begun_gets_a_suffix(load, runs, put):
    put("seed=0", {"lr": 0.5})
    put("seed=1", {"lr": 0.5, "seed": 1}, state="failed")
    put("seed=2", {"seed": 2}, chapter="03_net")
    begun = {"chapter": "02_net", "parameters": DEFAULTS | {"lr": 0.5, "seed": 3}}
    (runs / "seed=3").mkdir()
    (runs / "seed=3" / "attempt.json").write_text(json.dumps(begun))
    first, second, third, fourth = make_plan(load("seeds: 4"), runs).to_do
    assert re.fullmatch(r"seed=0-[0-9a-f]{8}", first)
    assert second == "seed=1"
    assert third.startswith("seed=2-")
    assert fourth.startswith("seed=3-")
    assert "seed=3" in make_plan(load("parameters: {lr: 0.5}\nseeds: 4"), runs).to_do


def test_finished_runs_of_an_older_version_of_the_chapter_are_refused(
    load, runs, put, tmp_path, write_chapter
):
    put("seed=1", {"seed": 1})
    sweep = load("seeds: 2")
    write_chapter(tmp_path / "notebooks" / "02_net.ipynb", CELL, "print(lr + 1)")
    with pytest.raises(ChapterError, match="seed=1 holds a finished run of an older version of"):
        make_plan(sweep, runs)


def test_changes_of_prose_and_outputs_make_no_new_version(load, runs, put, tmp_path):
    put("defaults", {})
    notebook = tmp_path / "notebooks" / "02_net.ipynb"
    changed = nbformat.read(notebook, 4)
    changed.cells[1].outputs = [nbformat.v4.new_output("stream", text="0.1\n")]
    changed.cells.insert(1, nbformat.v4.new_markdown_cell("Some prose."))
    nbformat.write(changed, notebook)
    assert list(make_plan(load(""), runs).finished) == ["defaults"]


def test_the_parts_of_a_sweep_are_balanced_and_hold_each_run_once(load, runs, put):
    sweep = load("grid: {lr: [1, 2]}\nseeds: 5")
    parts = [take_part(make_plan(sweep, runs), k, 4) for k in (1, 2, 3, 4)]
    assert [len(part.runs) for part in parts] == [3, 3, 2, 2]
    assert sorted(name for part in parts for name in part.to_do) == sorted(names(sweep))
    assert all(list(part.all) == names(sweep) for part in parts)
    first = list(parts[0].runs)
    put(first[0], {"lr": 1.0, "seed": 0})
    again = take_part(make_plan(sweep, runs), 1, 4)  # the same, however many are finished
    assert (list(again.runs), list(again.finished), list(again.to_do)) == (
        first,
        first[:1],
        first[1:],
    )
    assert take_part(make_plan(sweep, runs), 11, 11).runs == {}


# How long that will take.


@pytest.fixture
def times(tmp_path, monkeypatch):
    """Write measured times: ({chapter: [[epochs, seconds], …]})."""
    monkeypatch.setattr(sweeps, "TIMES", file := tmp_path / "chapter_times.json")
    return lambda chapters: file.write_text(json.dumps({"chapters": chapters}))


def test_time_grows_evenly_with_the_epochs(load, runs, put):
    for epochs in (1, 2, 4):
        put(f"a{epochs}", {"epochs": epochs}, seconds=7.0 + 3.0 * epochs)
    seconds, source = estimate(make_plan(load("grid: {epochs: [1, 2, 4, 10, 25]}"), runs))
    assert seconds == pytest.approx((7 + 30) + (7 + 75))
    assert source == "from the finished runs"


def test_time_from_runs_of_one_length_is_in_proportion(load, runs, put):
    put("a", {"epochs": 2, "seed": 0}, seconds=10.0)
    put("b", {"epochs": 2, "seed": 1}, seconds=14.0)
    plan = make_plan(load("grid: {epochs: [2, 4]}\nseeds: 3"), runs)
    assert estimate(plan)[0] == pytest.approx(12 * (1 + 3 * 2))


@pytest.mark.parametrize("epochs", ["few", [3], None, 10**400, 0])
def test_what_is_no_number_of_epochs_does_not_count(epochs):
    finished = [{"parameters": {"epochs": each}, "seconds": 5.0} for each in (epochs, 1)]
    found, _ = sweeps.estimate_each("02_net", finished, [{"epochs": epochs}, {"epochs": 2}])
    assert found == pytest.approx([5, 10])


def test_without_a_finished_run_the_measured_times_are_taken(load, runs, times):
    times({"02_net": [[1, 30.0], [4, 90.0]]})
    seconds, source = estimate(make_plan(load("grid: {epochs: [1, 4, 7]}"), runs))
    assert seconds == pytest.approx(30 + 90 + 150)
    assert source == "from runs of that chapter with one thread, on the machine of its authors"
    times({"02_net": [[1, 40.0]]})
    assert estimate(make_plan(load("seeds: 2"), runs))[0] == pytest.approx(2 * 25 * 40)
    times({"03_net": [[1, 40.0]]})
    assert estimate(make_plan(load(""), runs)) == (None, "no run is finished yet")
