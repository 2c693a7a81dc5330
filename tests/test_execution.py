"""Executing chapters with papermill."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import nbformat
import pytest

from fmnist_lib.chapters import ChapterError
from fmnist_lib.experiments import execution


@pytest.fixture
def write(tmp_path, write_chapter):
    """Write a chapter: (source of its parameters cell, *of others) -> path."""
    return partial(write_chapter, tmp_path / "a.ipynb")


MEETING = """
import os, pathlib, time
pathlib.Path(meeting, os.path.basename(os.getcwd())).touch()
deadline = time.monotonic() + 60
while len(os.listdir(meeting)) < 2 and time.monotonic() < deadline:
    time.sleep(0.05)
pathlib.Path("kept.txt").write_text(os.getcwd())
print(len(os.listdir(meeting)))
"""


@pytest.mark.slow
def test_two_chapters_at_once_in_one_process_each_run_in_their_own_folder(
    tmp_path, write, monkeypatch
):
    """And leave nothing in the home folder, which two new kernels would fill at the same time."""
    meeting, before = tmp_path / "meeting", os.getcwd()
    source = write("meeting: str = ''", MEETING)
    folders = [tmp_path / "{lr}", tmp_path / "100%}"]  # which papermill takes for its own
    monkeypatch.delenv("IPYTHONDIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for folder in (*folders, meeting):
        folder.mkdir()

    def run(folder):
        given = {"meeting": str(meeting)}
        execution.run_chapter(source, folder / "out.ipynb", given, progress=False)
        return nbformat.read(folder / "out.ipynb", 4).cells[-1].outputs[0].text

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, folders)) == ["2\n", "2\n"]  # they did run at the same time
    for folder in folders:
        assert (folder / "kept.txt").read_text() == str(folder)
    assert os.getcwd() == before
    assert not (tmp_path / "home").exists()


@pytest.mark.slow
def test_a_chapter_whose_kernel_dies_is_kept_up_to_there(tmp_path, write):
    """As one with an error is, see `test_run`."""
    source = write("x = 1", "print('before')", "import os; os._exit(1)")
    output = tmp_path / "b.ipynb"
    with pytest.raises(ChapterError, match="the kernel of a died") as failure:
        execution.run_chapter(source, output, progress=False)
    assert (failure.value.notebook, failure.value.cause) == (output, "kernel")
    cells = nbformat.read(output, 4).cells
    assert "before\n" in [out.get("text") for cell in cells for out in cell.get("outputs", [])]


@pytest.mark.slow
def test_the_users_ipython_has_no_influence(tmp_path, write, monkeypatch):
    """Neither start-up files nor settings nor a kernel of theirs; nor is anything left behind."""
    source = write("x = 1", "import os; print(sorted(globals()), os.environ['IPYTHONDIR'])")
    notebook = nbformat.read(source, 4)
    notebook.metadata["jupytext"] = {"formats": "ipynb,py:percent"}
    nbformat.write(notebook, source)
    theirs = {
        "profile_default/startup/00.py": "mine = 1",
        "profile_default/ipython_config.py": "c.InteractiveShellApp.exec_lines = ['mine = 2']",
        "kernels/python3/kernel.json": '{"argv": ["false"], "display_name": "", "language": ""}',
    }
    for name, text in theirs.items():
        (file := tmp_path / "theirs" / name).parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for name in ("IPYTHONDIR", "JUPYTER_PATH"):
        monkeypatch.setenv(name, str(tmp_path / "theirs"))
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "theirs/profile_default/startup/00.py"))
    execution.run_chapter(source, tmp_path / "b.ipynb", progress=False)
    executed = nbformat.read(tmp_path / "b.ipynb", 4)
    printed = executed.cells[-1].outputs[0].text
    assert "'mine'" not in printed
    assert not os.path.exists(printed.split()[-1])
    files = (path for path in (tmp_path / "theirs").rglob("*") if path.is_file())
    assert {path.relative_to(tmp_path / "theirs").as_posix() for path in files} == set(theirs)
    assert "jupytext" not in executed.metadata  # a saved copy would get a script beside it


SPAWN = """
import multiprocessing
with multiprocessing.get_context("spawn").Pool(1) as pool:
    pool.map(abs, [1])
"""


@pytest.mark.slow
def test_a_kernel_imports_nothing_from_its_folder(tmp_path, write, monkeypatch):
    """Neither as it starts nor for a chapter, nor for a process that the chapter starts."""
    names = ["numpy", "json", "ipykernel_launcher", "sitecustomize", "usercustomize", "helpers"]
    names += ["ipython_config", "ipython_kernel_config", "jupyter_config"]
    for name in names:
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'a')")
    # An empty entry, such as a colon at the end leaves, is the folder of the process.
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", "") + os.pathsep)
    source = write("x = 1", SPAWN, "import json, numpy; print(json.loads('1') + numpy.int64(1))")
    execution.run_chapter(source, tmp_path / "b.ipynb", progress=False)
    assert nbformat.read(tmp_path / "b.ipynb", 4).cells[-1].outputs[0].text == "2\n"
    assert not (tmp_path / "executed").exists()
    source = write("x = 1", "import helpers")
    with pytest.raises(ChapterError, match="ModuleNotFoundError: No module named 'helpers'"):
        execution.run_chapter(source, tmp_path / "b.ipynb", progress=False)


@pytest.mark.slow
def test_an_ipython_folder_that_cannot_be_written_does_not_matter(tmp_path, write, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(write("x = 1", "print(2)") / "below a file"))
    execution.run_chapter(tmp_path / "a.ipynb", tmp_path / "b.ipynb", progress=False)
    assert nbformat.read(tmp_path / "b.ipynb", 4).cells[-1].outputs[0].text == "2\n"


@pytest.fixture
def spoil(tmp_path, monkeypatch):
    """Make every Python that starts from now on execute some code first."""

    def write(code):
        (folder := tmp_path / "site").mkdir()
        (folder / "sitecustomize.py").write_text(code)
        path = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))

    return write


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os; os.write(2, b'no device'); os._exit(1)", "died as it started .*no device"),
        ("import time; time.sleep(600)", "did not start in"),
    ],
)
def test_a_kernel_that_does_not_start_is_reported_in_one_sentence(
    tmp_path, write, spoil, monkeypatch, code, message
):
    spoil(code)
    monkeypatch.setattr(execution, "START_SECONDS", 2)
    output, log = tmp_path / "b.ipynb", tmp_path / "kernel.log"
    with pytest.raises(ChapterError, match=f"^the kernel of a {message}[^\n]*$") as failure:
        execution.run_chapter(write("x = 1"), output, progress=False, log=log)
    assert failure.value.cause == "kernel"
    assert nbformat.read(output, 4).cells


@pytest.mark.slow
def test_a_kernel_that_is_still_starting_can_be_stopped(tmp_path, write, spoil):
    spoil("import time; time.sleep(600)")
    asked = []

    def stopped():
        asked.append(time.monotonic())
        return len(asked) > 1

    with pytest.raises(execution.Stopped):
        execution.run_chapter(write("x = 1"), tmp_path / "b.ipynb", progress=False, stopped=stopped)


@pytest.fixture
def variables(tmp_path, write, monkeypatch):
    """Return the environment variables that a chapter would be given: (options) -> dict."""
    made = []
    monkeypatch.setattr("papermill.execute_notebook", lambda *paths, env, **_: made.append(env))
    for name in (*execution.THREADS, "FMNIST_DATA"):
        monkeypatch.delenv(name, raising=False)

    def get(**options):
        execution.run_chapter(write("x = 1"), tmp_path / "b.ipynb", **options)
        return made[-1]

    return get


def test_a_quota_of_processors_is_the_number_of_threads(variables, monkeypatch):
    """A container's quota, say: the libraries would count the machine's processors."""
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("dask.system.CPU_COUNT", 64)
    assert not variables().keys() & set(execution.THREADS)
    monkeypatch.setattr("dask.system.CPU_COUNT", 3)
    assert variables()["OMP_NUM_THREADS"] == "3"
    assert variables(threads=2)["OMP_NUM_THREADS"] == "2"
    monkeypatch.setenv("MKL_NUM_THREADS", "1")
    assert "OMP_NUM_THREADS" not in variables()


def test_the_folder_of_the_data_is_absolute_for_a_kernel(variables, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FMNIST_DATA", "stick")
    assert variables()["FMNIST_DATA"] == str(tmp_path / "stick")
    assert variables(environment={"FMNIST_DATA": "/other"})["FMNIST_DATA"] == "/other"


PROGRESS = """
from fmnist_lib.progress import progress_bar
with progress_bar(3, "training", mininterval=0) as bar:
    for _ in range(3):
        bar.update()
    bar.set_postfix_str("loss 0.5")
print("done")
"""


@pytest.mark.slow
def test_progress_inside_a_cell_is_passed_on_and_leaves_nothing(tmp_path, write, monkeypatch):
    shown = []
    monkeypatch.setattr("tqdm.std.tqdm.set_postfix_str", lambda bar, text: shown.append(text))
    monkeypatch.setattr("tqdm.asyncio.tqdm_asyncio.set_postfix_str", lambda bar, t: shown.append(t))
    output = tmp_path / "b.ipynb"
    execution.run_chapter(write("x = 1", PROGRESS), output)
    assert "training, loss 0.5" in shown
    (only,) = nbformat.read(output, 4).cells[-1].outputs
    assert only.text == "done\n"


def test_missing_chapters_are_reported(tmp_path):
    with pytest.raises(ChapterError, match=r"no chapter at .*01_data_exploration.ipynb"):
        execution.run_course(tmp_path / "out", tmp_path)
    assert not (tmp_path / "out").exists()


def test_the_course_runs_the_chapters_and_collects_their_metrics(
    tmp_path, write_chapter, monkeypatch
):
    done = {}

    def pretend(source, output, parameters):
        done[source.stem] = parameters
        if "cnn" in source.stem:
            (record := output.with_suffix("") / "record.json").parent.mkdir()
            record.write_text(json.dumps({"metrics": {"test_accuracy": len(done)}}))

    def load(folder):
        return None, json.loads((folder / "record.json").read_text())

    monkeypatch.setattr(execution, "run_chapter", pretend)
    monkeypatch.setattr("fmnist_lib.trained.load_trained", load)
    expected = {name: {"trained_dir": "."} for name in execution.CHAPTERS}
    expected |= {"01_data_exploration": {}, "05_training_fast": {}}
    for name, parameters in expected.items():
        parameter = "trained_dir" if parameters else "seed"
        write_chapter(tmp_path / f"{name}.ipynb", f"{parameter} = 1")
    metrics = execution.run_course(tmp_path / "out", tmp_path)
    assert list(done.items()) == list(expected.items())
    assert metrics == {"02_cnn": {"test_accuracy": 2}, "03_dilated_cnn": {"test_accuracy": 3}}
