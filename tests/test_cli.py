import importlib
import io
import os
import pkgutil
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path
from unittest.mock import ANY, Mock

import pytest
from tqdm import tqdm

import fmnist_lib
from fmnist_lib import cli, download
from fmnist_lib.common import ParameterError, UserError
from fmnist_lib.experiments import commands, execution
from fmnist_lib.experiments import run as run_module
from fmnist_lib.experiments.parameters import RESERVED, read_parameters
from fmnist_lib.experiments.run import describe_run, prepare_run
from fmnist_lib.experiments.sweeps import load_sweep, make_plan

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


@pytest.fixture
def find_data(monkeypatch, tmp_path):
    """Stand in for what ``fmnist data`` does."""
    monkeypatch.setattr(download, "find_data", find := Mock(return_value=tmp_path))
    return find


def test_data_prints_the_folder(find_data, capsys, tmp_path):
    assert cli.main(["data", "--data", str(tmp_path)]) == 0
    find_data.assert_called_once_with(tmp_path)
    assert capsys.readouterr().out == f"Fashion-MNIST, verified: {tmp_path}\n"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (download.DataError("no data"), 1, "fmnist: no data\n"),
        (ParameterError("no such value"), 2, "fmnist: no such value\n"),
        (KeyboardInterrupt(), 130, "fmnist: stopped\n"),
        (OSError(36, "name too long", "a/b"), 1, "fmnist: a/b cannot be used (name too long); "),
        (ModuleNotFoundError(name="papermill"), 1, "fmnist: this needs the package papermill, "),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(find_data, capsys, error, code, line):
    find_data.side_effect = error
    assert cli.main(["data"]) == code
    (printed,) = capsys.readouterr().err.splitlines(keepends=True)
    assert printed.startswith(line)


@pytest.mark.parametrize("defect", [TypeError("a defect"), OSError("a defect")])
def test_a_defect_keeps_its_traceback(find_data, defect):
    find_data.side_effect = defect
    with pytest.raises(type(defect), match="a defect"):
        cli.main(["data"])


def test_letters_that_the_output_lacks_are_escaped(find_data, monkeypatch):
    """As on Windows when it is redirected, and in the C locale."""
    streams = [io.TextIOWrapper(io.BytesIO(), "cp1252", write_through=True) for _ in range(2)]
    for name, stream in zip(("stdout", "stderr"), streams, strict=True):
        monkeypatch.setattr(sys, name, stream)
    find_data.return_value = Path("Łódź")
    assert cli.main(["data"]) == 0
    find_data.side_effect = download.DataError("课程")
    assert cli.main(["data"]) == 1
    out, err = (stream.buffer.getvalue().decode("cp1252") for stream in streams)
    assert out.endswith("\\u0141ód\\u017a" + os.linesep)
    assert "\\u8bfe\\u7a0b" in err


def test_every_error_of_the_library_is_for_users_with_four_exceptions():
    found = pkgutil.walk_packages(fmnist_lib.__path__, "fmnist_lib.")
    modules = [importlib.import_module(info.name) for info in found]
    others = {
        name
        for module in modules
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, Exception)
        if kind.__module__ == module.__name__ and not issubclass(kind, UserError)
    }
    assert others == {"Busy", "ClaimError", "Nudge", "Stopped"}


def test_course_prints_the_accuracies_and_where_to_look(monkeypatch, capsys, tmp_path):
    metrics = {"02_cnn": {"val_accuracy": 0.91, "test_accuracy": 0.9053}}
    monkeypatch.setattr(execution, "run_course", lambda output, notebooks, report: metrics)
    monkeypatch.chdir(tmp_path)
    site = tmp_path / "book/_build/html/index.html"
    site.parent.mkdir(parents=True)
    site.touch()
    assert cli.main(["course", "-o", "somewhere"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"02_cnn +0\.9100  0\.9053\n", printed)
    assert "somewhere" in printed
    assert "book/_build/html/index.html" in printed.replace("\\", "/")


def test_a_warning_is_one_line_even_in_a_progress_bar(find_data, monkeypatch, capsys):
    def work(root):
        with tqdm(total=2, desc="bar", file=sys.stderr):
            warnings.warn("no data\n  here", stacklevel=1)

    find_data.side_effect = work
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        cli.main(["data"])
    lines = [line.rpartition("\r")[2] for line in capsys.readouterr().err.splitlines()]
    assert "fmnist: no data here" in lines


def test_help_and_errors_do_not_wait_for_torch():
    code = (
        "import sys; from fmnist_lib.cli import main\n"
        "assert main(['run', '02_cnn', '--help']) == 0\n"
        "assert main(['run', '02_cnn', '-p', 'lr=0']) == 2\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=NOTEBOOKS.parent, check=True)


def test_a_reader_that_has_gone_is_no_error():
    """As head has, once it has seen enough."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "fmnist_lib.cli", "run", "02_cnn", "--help"]
    settings = {"cwd": NOTEBOOKS.parent, "env": os.environ | {"PYTHONUNBUFFERED": ""}}
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, **settings)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.fixture
def nothing_runs(monkeypatch, tmp_path):
    """Let a test fail that starts a run, or that writes anything where it stands."""

    fail = Mock(side_effect=AssertionError("a run was started"))
    monkeypatch.setattr(run_module, "run_experiment", fail)
    monkeypatch.setattr(commands, "_execute", fail)
    (folder := tmp_path / "here").mkdir()
    monkeypatch.chdir(folder)
    yield
    assert not any(folder.iterdir())


def run(*arguments):
    return cli.main(["run", *arguments, "--notebooks", str(NOTEBOOKS)])


def test_help_of_run_lists_the_parameters_of_a_chapter(nothing_runs, capsys):
    assert run("--help") == 0
    printed = capsys.readouterr().out
    assert "usage: fmnist run" in printed
    assert run() == 2
    assert capsys.readouterr().out == printed
    assert run("02_cnn", "--help") == 0
    _, _, listed = capsys.readouterr().out.partition("\nparameters of 02_cnn:\n")
    found = read_parameters(NOTEBOOKS / "02_cnn.ipynb")
    shown = (p for p in found.values() if p.name not in RESERVED)
    expected = [[f"{p.name}={p.default}", p.kind, p.help] for p in shown]
    assert [line.split(maxsplit=2) for line in listed.splitlines()] == expected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["02_cnm"], "has no chapter '02_cnm'; did you mean 02_cnn?"),
        (["02_cnn", "-p", "epochs"], "-p epochs has no value; write -p NAME=VALUE"),
        (["02_cnn", "-p", "epochs=1", "-p", "epochs=1"], "a parameter is given twice"),
    ],
)
def test_a_bad_request_for_a_run_is_refused_in_one_line(nothing_runs, capsys, arguments, words):
    assert run(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_a_run_is_given_what_was_asked_for(monkeypatch, capsys, tmp_path):
    pretend = Mock(
        return_value={"seconds": 61.2, "metrics": {"val_accuracy": 0.91, "test_accuracy": "?"}}
    )
    monkeypatch.setattr(run_module, "run_experiment", pretend)
    monkeypatch.chdir(tmp_path)
    assert run("02_cnn", "-p", "lr=1e-3", "-p", "epochs=2", "--threads", "2") == 0
    folder = Path("runs/02_cnn_epochs=2_lr=0.001")
    pretend.assert_called_once_with(ANY, folder, threads=2)
    asked = pretend.call_args.args[0]
    assert asked.notebook == NOTEBOOKS / "02_cnn.ipynb"
    assert asked.given == {"epochs": 2, "lr": 0.001}
    first, summary, to_look_at = capsys.readouterr().out.splitlines()
    assert first == f"02_cnn in {folder}"
    assert "61 s, val_accuracy 0.9100" in summary
    assert to_look_at == f"  {folder / '02_cnn.ipynb'}"  # for there is no page
    folder.mkdir(parents=True)
    (folder / "02_cnn.html").touch()
    assert run("02_cnn", "-p", "epochs=2", "-p", "lr=0.001", "-o", "mine") == 0
    assert run("02_cnn", "-p", "epochs=2", "-p", "lr=0.001") == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"  {folder / '02_cnn.html'}"
    assert [call.args[1] for call in pretend.call_args_list[1:]] == [Path("mine"), folder]


@pytest.mark.parametrize(
    "command", ["sweep s.yml --workers 0", "run a --threads 1.5", "run a --threads ٣"]
)
def test_a_count_below_one_is_refused(capsys, command):
    with pytest.raises(SystemExit):
        cli.main(command.split())
    assert f"{command.split()[-1]!r} is not a whole number of 1 or more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--only 3", "'3' is not a part such as 3/40"),
        ("--only 0/4", "'0/4' is not a part"),
        ("--only 5/4", "'5/4' is not a part"),
        ("--only 1/4/2", "'1/4/2' is not a part"),
        ("--only ١/٤", "'١/٤' is not a part"),
        ("--only=-1/4", "'-1/4' is not a part"),
        ("--scheduler=", "the address is empty; is the variable that holds it set?"),
        ("--output=", "the name is empty; is the variable that holds it set?"),
        ("--scheduler=tcp://a:1 --workers 3", "not allowed with argument"),
        ("--list --dry-run", "not allowed with argument"),
    ],
)
def test_a_bad_option_of_a_sweep_is_refused(nothing_runs, capsys, options, words):
    with pytest.raises(SystemExit) as ended:
        cli.main(["sweep", "s.yml", *options.split()])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


def list_runs(capsys, file, *options):
    assert cli.main(["sweep", str(file), "--list", *options]) == 0
    return [shlex.split(line) for line in capsys.readouterr().out.splitlines()]


def test_the_commands_of_a_list_are_the_runs_of_the_sweep(monkeypatch, capsys, tmp_path, put, runs):
    """Those that are finished too, so that the third line stays the third while others finish."""
    (file := tmp_path / "a s.yml").write_text(
        "chapter: 02_cnn\nthreads: 2\nseeds: 4\n"
        "parameters: {shuffle: true, device: 'cpu', data_dir: 'my data'}"
    )
    monkeypatch.chdir(tmp_path)
    (folder := tmp_path / "my chapters").symlink_to(NOTEBOOKS)
    options = ["--notebooks", "my chapters", "-o", "my runs"]
    commands = list_runs(capsys, file, *options)
    assert commands[1] == [
        *("fmnist", "run", "02_cnn"),
        *("-p", "shuffle=True", "-p", "seed=1", "-p", "device=cpu"),
        *("-p", f"data_dir={tmp_path / 'my data'}", "-o", "my runs/seed=1"),
        *("--threads", "2", "--notebooks", "my chapters"),
    ]
    plan = make_plan(load_sweep(file, folder), "my runs")
    pretend = Mock(return_value={"seconds": 1, "metrics": {}})
    monkeypatch.setattr(run_module, "run_experiment", pretend)
    for _, *command in commands:
        assert cli.main(command) == 0
    started = [(call.args[0].parameters, call.args[1]) for call in pretend.call_args_list]
    assert started == [(r.parameters, Path("my runs", name)) for name, r in plan.all.items()]
    capsys.readouterr()
    assert list_runs(capsys, file, *options, "--only", "2/3") == commands[1::3]


@pytest.mark.slow
def test_after_the_commands_of_a_list_the_sweep_is_done(
    monkeypatch, capsys, tmp_path, write_chapter
):
    write_chapter(tmp_path / "net.ipynb", "text: str = ''", "print(text)")
    (tmp_path / "s.yml").write_text("chapter: net.ipynb\ngrid: {text: [it's, $A b]}")
    monkeypatch.chdir(tmp_path)
    for _, *command in list_runs(capsys, "s.yml"):
        assert cli.main(command) == 0
    capsys.readouterr()
    assert cli.main(["sweep", "s.yml"]) == 0
    assert "2 finished, 0 to do" in capsys.readouterr().out


def test_a_list_names_a_chapter_of_ones_own_by_its_path(capsys, tmp_path, write_chapter):
    write_chapter(tmp_path / "own" / "net.ipynb", "text: str = ''")
    (file := tmp_path / "s.yml").write_text(
        'chapter: own/net.ipynb\ngrid: {text: ["it\'s", "$A b"]}'
    )
    first, second = list_runs(capsys, file)
    assert first[:5] == ["fmnist", "run", str(tmp_path / "own" / "net.ipynb"), "-p", "text=it's"]
    assert second[3:5] == ["-p", "text=$A b"]


def test_a_dry_run_lists_the_runs_and_starts_nothing(nothing_runs, capsys, tmp_path, put, runs):
    def dry_run(text):
        (tmp_path / "s.yml").write_text(f"chapter: 02_cnn\n{text}")
        options = ["--dry-run", "--workers", "2", "--notebooks", str(NOTEBOOKS), "-o", str(runs)]
        assert cli.main(["sweep", str(tmp_path / "s.yml"), *options]) == 0
        return capsys.readouterr().out.splitlines()

    notebook = NOTEBOOKS / "02_cnn.ipynb"
    same = describe_run(prepare_run(notebook, {"seed": 1}))
    put("any name", seconds=90, **same)
    assert dry_run("seeds: 3") == [
        f"3 runs of 02_cnn in {runs}: 1 finished, 2 to do",
        "  seed=1: finished",
        "  seed=0: to do",
        "  seed=2: to do",
        "about 1.5 minutes with 2 workers (from the finished runs)",
    ]
    last = dry_run("seeds: [0, 1]")[-1]  # which two workers cannot share
    assert last == "about 1.5 minutes with one worker (from the finished runs)"
    assert "about 0 s" in dry_run("seeds: [1]")[-1]
    last = dry_run("parameters: {sample: true}")[-1]
    assert last == "no estimate of the time: no run on the sample is finished yet"


def test_a_sweep_says_how_many_runs_were_given_up(nothing_runs, capsys, tmp_path, put, runs):
    (file := tmp_path / "s.yml").write_text(
        "chapter: 02_cnn\nseeds: 2\nstop: {after: 1, below: median}"
    )
    same = [describe_run(prepare_run(NOTEBOOKS / "02_cnn.ipynb", {"seed": n})) for n in (0, 1)]
    put("seed=0", **same[0])
    put("seed=1", state="stopped", error="below the median", **same[1])
    assert cli.main(["sweep", str(file), "--notebooks", str(NOTEBOOKS), "-o", str(runs)]) == 0
    assert "2 of 2 runs are finished, 1 of them given up early" in capsys.readouterr().out
