"""Sweep files: which runs they ask for, what these are called, and what makes no sense."""

import json
import re
from itertools import product

import pytest

from fmnist_lib.chapters import ChapterError
from fmnist_lib.common import ParameterError
from fmnist_lib.experiments.sweeps import load_sweep

CELL = """
epochs: int = 25  # passes
lr: float = 3e-4  # learning rate
seed: int = 0
shuffle: bool = False
device: str = "auto"
data_dir: str = ""
trained_dir: str = "trained"
"""
PAIRS = "expected 'name: value' pairs"
COUNT = "expected a whole number of 1 or more"
DEFAULTS = {"epochs": 25, "lr": 3e-4, "seed": 0, "shuffle": False, "device": "auto"}


@pytest.fixture
def load(tmp_path, write_chapter):
    """Read a sweep of the chapter 02_net: (the file's lines) -> Sweep."""
    write_chapter(tmp_path / "notebooks" / "02_net.ipynb", CELL)

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


def test_a_grid_gives_every_combination(load):
    sweep = load("grid: {lr: [3e-4, 1e-3, 0.01], epochs: [1, 4], shuffle: [true, false]}")
    expected = [
        {"lr": lr, "epochs": epochs, "shuffle": shuffle}
        for lr, epochs, shuffle in product([3e-4, 1e-3, 0.01], [1, 4], [True, False])
    ]
    assert [run.given for run in sweep.runs] == expected
    assert [run.parameters for run in sweep.runs] == [DEFAULTS | given for given in expected]
    assert names(sweep)[0] == "lr=0.0003_epochs=1_shuffle=True"


def test_a_list_gives_its_entries(load):
    sweep = load("list:\n- {epochs: 2}\n- {epochs: 2, lr: 1}\n- {lr: 2.5}")
    assert [run.given for run in sweep.runs] == [
        {"epochs": 2},
        {"epochs": 2, "lr": 1.0},
        {"lr": 2.5},
    ]
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


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", [0, 1, 2]), ("1", [0]), ("[7, 3, 100]", [7, 3, 100])]
)
def test_seeds_are_a_number_or_a_list(load, text, seeds):
    assert [run.given["seed"] for run in load(f"seeds: {text}").runs] == seeds


def test_threads_and_retries(load):
    sweep = load("threads: 2\nretries: 0")
    assert (sweep.threads, sweep.retries) == (2, 0)


def test_a_folder_of_data_is_given_but_decides_nothing(load, tmp_path):
    (run,) = load(f"parameters: {{data_dir: '{tmp_path.as_posix()}'}}").runs
    assert run.given == {"data_dir": str(tmp_path)}
    assert run.parameters == DEFAULTS


def test_a_chapter_given_as_a_path_is_looked_for_beside_the_file(
    load, tmp_path, write_chapter, monkeypatch
):
    write_chapter(tmp_path / "sweeps" / "own" / "net.ipynb", "epochs: int = 1")
    monkeypatch.chdir(tmp_path / "notebooks")
    sweep = load("", chapter="own/net.ipynb")
    assert sweep.notebook == tmp_path / "sweeps" / "own" / "net.ipynb"
    assert sweep.runs[0].parameters == {"epochs": 1}
    write_chapter(tmp_path / "sweeps" / "net.ipynb", "epochs: int = 2")
    assert load("", chapter="net.ipynb").runs[0].parameters == {"epochs": 2}
    with pytest.raises(ChapterError, match=r"^no chapter at .*sweeps.*02_net\.ipynb; run this"):
        load("", chapter="02_net.ipynb")


def test_entries_can_be_shared_as_yaml_has_it(load):
    text = "list:\n- &a {epochs: 1, lr: 1}\n- {<<: *a, epochs: 2}"
    assert [run.given for run in load(text).runs] == [
        {"epochs": 1, "lr": 1.0},
        {"epochs": 2, "lr": 1.0},
    ]


# Names are folders, on Windows and where a and A are the same, too.

ODD = ["a/b", "a\\b", "a:b", "../..", "a b", "ä", "x" * 300, "x" * 301, "a\nb"]
ALIKE = ["CPU", "cpu", "Cpu", "cpu."]


def test_odd_values_make_names_for_folders_all_the_same(load, tmp_path, write_chapter):
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


def test_names_stay_unique_where_values_look_like_names(load, tmp_path, write_chapter):
    write_chapter(tmp_path / "notebooks" / "two.ipynb", "a: str = ''\nb: str = ''")
    sweep = load("list: [{a: 1_b=2, b: '3'}, {a: '1', b: 2_b=3}]", chapter="two")
    assert len(set(names(sweep))) == 2


def test_a_name_hangs_on_nothing_but_the_values(load):
    text = "grid: {device: ['cuda:0', 'cuda:1']}\nparameters: {epochs: %d}"
    assert names(load(text % 1)) == names(load(text % 2))


def refused(message):
    return pytest.raises(ParameterError, match=f"^{re.escape(message)}$")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "sedes: 3",
            "s.yml has no entry 'sedes'; did you mean seeds? It has chapter, parameters, grid, "
            "list, seeds, threads, retries",
        ),
        ("seeds: 1\nseeds: 2", "s.yml has the key 'seeds' twice; remove one"),
        ("grid:\n  lr: [1]\n  lr: [2]", "s.yml has the key 'lr' twice; remove one"),
        ("list: [{lr: 1, lr: 2}]", "s.yml has the key 'lr' twice; remove one"),
        ("parameters:", f"parameters in s.yml is None, {PAIRS}"),
        ("parameters: [1]", f"parameters in s.yml is [1], {PAIRS}"),
        ("grid: 3", f"grid in s.yml is 3, {PAIRS}"),
        ("list: {lr: 1}", "list in s.yml is {'lr': 1}, expected a list of them"),
        ("list: [3]", "3 in the list of s.yml is not 'name: value' pairs"),
        ("list: []", "the list of s.yml is empty; remove it, or add an entry"),
        ("grid: {lr: []}", "lr in the grid is [], expected a list of values"),
        ("grid: {lr: 0.1}", "lr in the grid is 0.1, expected a list of values"),
        ("grid: {lr: '12'}", "lr in the grid is '12', expected a list of values"),
        ("seeds: 0", f"seeds in s.yml is 0, {COUNT}"),
        ("seeds: -1", f"seeds in s.yml is -1, {COUNT}"),
        ("seeds: x", f"seeds in s.yml is 'x', {COUNT}"),
        ("seeds: []", f"seeds in s.yml is [], {COUNT}"),
        ("seeds:", f"seeds in s.yml is None, {COUNT}"),
        ("seeds: true", f"seeds in s.yml is True, {COUNT}"),
        ("seeds: [0, x]", "seed is 'x', expected a whole number (see the chapter; default: 0)"),
        ("threads: 0", f"threads in s.yml is 0, {COUNT}"),
        ("threads: 1.5", f"threads in s.yml is 1.5, {COUNT}"),
        ("retries: -1", "retries in s.yml is -1, expected a whole number of 0 or more"),
        ("retries: many", "retries in s.yml is 'many', expected a whole number of 0 or more"),
        (
            "grid: {ephocs: [1]}",
            "02_net has no parameter 'ephocs'; did you mean epochs? It has epochs, lr, seed, "
            "shuffle, device, data_dir",
        ),
        (
            "grid: {epochs: [1, many]}",
            "epochs is 'many', expected a whole number (passes; default: 25)",
        ),
        (
            "parameters: {device: 0}",
            "device is 0, expected a text; put it in quotes (see the chapter; default: 'auto')",
        ),
        ("list: [{lr: 1}, {lr: 0}]", "lr is 0.0, expected a number above 0"),
        ("grid: {lr: [[1]]}", "lr is [1], expected a number (learning rate; default: 0.0003)"),
        (
            "parameters: {trained_dir: x}",
            "trained_dir cannot be given: a run keeps its files in its own folder; name that "
            "with -o",
        ),
        (
            "grid: {lr: [1, 1.0]}",
            "s.yml asks twice for the same run, as lr=1.0 and as lr=1.0; remove one",
        ),
        (
            "list: [{}, {epochs: 25}]",
            "s.yml asks twice for the same run, as epochs=25 and as epochs=25; remove one",
        ),
        (
            "seeds: [1, 1]",
            "s.yml asks twice for the same run, as defaults and as defaults; remove one",
        ),
    ],
)
def test_what_makes_no_sense_is_told(load, text, message):
    with refused(message):
        load(text)


def test_two_folders_of_data_do_not_make_two_runs(load):
    with pytest.raises(ParameterError, match=r"twice for the same run, as data_dir=.* and as "):
        load("grid: {data_dir: [a, b]}")


@pytest.mark.parametrize(
    "text",
    [
        "parameters: {lr: 1}\ngrid: {lr: [1]}",
        "parameters: {lr: 1}\nlist: [{lr: 2}]",
        "grid: {lr: [1]}\nlist: [{epochs: 1}, {lr: 2}]",
        "grid: {seed: [1]}\nseeds: 3",
        "parameters: {seed: 1}\nseeds: [2]",
        "list: [{seed: 1}]\nseeds: 1",
    ],
)
def test_a_name_in_two_places_is_refused(load, text):
    name = "seed" if "seed" in text else "lr"
    with refused(
        f"{name} stands in s.yml more than once; give it in one of parameters, grid, list and seeds"
    ):
        load(text)


@pytest.mark.parametrize("chapter", ["", "[02_net]", "3", "~"])
def test_a_file_that_names_no_chapter_is_refused(load, chapter):
    with refused("s.yml names no chapter; write 'chapter: 02_cnn', say"):
        load("seeds: 1", chapter=chapter)


def test_an_unknown_chapter_is_told_with_the_nearest(load, tmp_path):
    with refused(
        f"the folder {tmp_path / 'notebooks'} has no chapter '02_nett'; did you mean 02_net? "
        "It has 02_net"
    ):
        load("", chapter="02_nett")


@pytest.mark.parametrize("text", ["", "# nothing", "- a", "words"])
def test_a_file_without_entries_is_refused(load, text):
    with refused("s.yml holds no entries; write 'chapter: 02_cnn', say"):
        load(text, chapter="")


@pytest.mark.parametrize(
    "text",
    ["grid: [", "a: b: c", "grid: {[1, 2]: 3}", "list: !!python/name:os.system", "\x01", "a: *b"],
)
def test_what_is_no_yaml_is_told_in_one_line(load, text):
    with pytest.raises(ParameterError, match=r"^s\.yml is not valid YAML: [^\n]+$"):
        load(text)


def test_a_date_that_does_not_exist_is_told(load):
    with refused("s.yml is not valid YAML: month must be in 1..12"):
        load("parameters: {device: 2024-13-01}")


def test_a_missing_file_is_told(tmp_path):
    with refused(f"there is no sweep file {tmp_path / 's.yml'}; name one"):
        load_sweep(tmp_path / "s.yml")


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(ParameterError, match=r"cannot be read \(.*\); name a YAML file$"):
        load_sweep(tmp_path)
    (tmp_path / "s.yml").write_bytes(b"chapter: \xff")
    with pytest.raises(ParameterError, match=r"s\.yml cannot be read \(.*\); name a YAML file$"):
        load_sweep(tmp_path / "s.yml")
