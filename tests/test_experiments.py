"""One run of a chapter, and what its folder holds whatever happens to it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask
import distributed  # noqa: F401 (its settings)
import nbformat
import pandas as pd
import pytest

from fmnist_lib.chapters import ChapterError
from fmnist_lib.common import ParameterError
from fmnist_lib.download import SHA256
from fmnist_lib.experiments import run as runs
from fmnist_lib.experiments.execution import Stopped
from fmnist_lib.experiments.run import load_record, run_experiment
from fmnist_lib.trained import load_trained

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
PARAMETERS = (
    "x: int = 1  # a number\ntrained_dir: str = 'runs'  # where\nlog_dir: str = ''  # where"
)
NETWORK = """
import json, pathlib
folder = pathlib.Path(trained_dir, "tiny")
folder.mkdir()
record = {"best_epoch": 3, "metrics": {"val_accuracy": x / 10}, "machine": {"threads": 1}}
(folder / "record.json").write_text(json.dumps(record))
"""


@pytest.fixture
def tiny(tmp_path, write_chapter):
    """Write a notebook of some cells behind the parameters: (*cells) -> path."""
    return lambda *cells: write_chapter(tmp_path / "tiny.ipynb", PARAMETERS, *cells)


def run(notebook, folder, given=None, **options):
    return run_experiment(notebook, folder, given, progress=False, **options)


def names(folder):
    """List what a run left, but for the lock, and for what ZeroMQ may say when a kernel ends."""
    left = {path.name for path in folder.iterdir()} - {".lock", "kernel.log"}
    return sorted(left)


def printed(notebook):
    cells = nbformat.read(notebook, 4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


def test_a_run_is_kept_with_its_record(tmp_path, tiny):
    chapter = tiny(NETWORK, "print(x, trained_dir)")
    record = run(chapter, tmp_path / "a" / "b", {"x": "3"})
    folder = tmp_path / "a" / "b"
    assert names(folder) == ["results.json", "tiny", "tiny.html", "tiny.ipynb"]
    assert json.loads((folder / "results.json").read_text()) == record == load_record(folder)
    assert record["state"] == "finished"
    assert record["error"] is None
    assert record["chapter"] == "tiny"
    assert record["parameters"] == {"x": 3}
    assert record["metrics"] == {"best_epoch": 3, "val_accuracy": 0.3}
    assert record["machine"] == {"threads": 1}
    assert record["attempts"] == 1
    assert record["data"] is None
    assert 0.1 < record["seconds"] < 60
    assert pd.Timestamp(record["started"]) < pd.Timestamp.now("UTC")
    assert printed(folder / "tiny.ipynb") == "3 .\n"


def test_the_page_needs_nothing_from_the_net(tmp_path, tiny):
    run(tiny("print('to be seen')"), tmp_path / "a")
    page = (tmp_path / "a" / "tiny.html").read_text(encoding="utf-8")
    assert "to be seen" in page
    assert not re.search(r"""(src|href)=["'](https?:)?//""", page)


def test_a_finished_run_is_not_run_again(tmp_path, tiny, monkeypatch):
    chapter = tiny("print(x)")
    record = run(chapter, tmp_path / "a", {"x": 2})
    monkeypatch.setattr(runs, "run_chapter", None)
    assert run(chapter, tmp_path / "a", {"x": 2}) == record
    folder = re.escape(str(tmp_path / "a"))
    message = rf"^{folder} holds a finished run with x=2; name another folder with -o, or remove"
    with pytest.raises(ChapterError, match=message):
        run(chapter, tmp_path / "a", {"x": 3})
    tiny("print(x)", "print(x)")
    with pytest.raises(ChapterError, match="holds a finished run of an older state of tiny;"):
        run(chapter, tmp_path / "a", {"x": 2})
    other = chapter.rename(tmp_path / "other.ipynb")
    with pytest.raises(ChapterError, match="holds a finished run of tiny;"):
        run(other, tmp_path / "a", {"x": 2})
    assert load_record(tmp_path / "a") == record


def test_a_failed_run_keeps_its_notebook_and_can_be_tried_again(tmp_path, tiny):
    chapter = tiny(NETWORK, "print('before')", "raise ValueError('so\\nit is')")
    folder = tmp_path / "a"
    with pytest.raises(ChapterError) as failure:
        run(chapter, folder)
    kept = folder / "tiny.ipynb"
    assert str(failure.value) == (
        f"tiny failed in its cell 5: ValueError: so; the notebook up to there is {kept}"
    )
    assert printed(kept) == "before\n"
    assert load_record(folder)["state"] == "failed"
    assert load_record(folder)["error"] == "tiny failed in its cell 5: ValueError: so"
    assert names(folder) == ["results.json", "tiny", "tiny.html", "tiny.ipynb"]
    tiny("print('better')")
    record = run(chapter, folder)
    assert record["state"] == "finished"
    assert record["attempts"] == 2
    assert names(folder) == ["results.json", "tiny.html", "tiny.ipynb"]  # of this attempt only


def test_bad_parameters_leave_no_folder(tmp_path, tiny):
    for given in ({"y": 1}, {"x": "one"}, {"trained_dir": "here"}):
        with pytest.raises(ParameterError):
            run(tiny(), tmp_path / "a", given)
    assert not (tmp_path / "a").exists()


def test_what_libraries_write_past_the_notebook_is_kept(tmp_path, tiny):
    run(tiny("import os; os.write(2, b'a warning of C')"), tmp_path / "a")
    assert (tmp_path / "a" / "kernel.log").read_bytes() == b"a warning of C"


def test_event_files_lie_in_the_run(tmp_path, tiny):
    chapter = tiny("import os; os.mkdir(log_dir)")
    run(chapter, tmp_path / "a", {"log_dir": "events"})
    assert (tmp_path / "a" / "events").is_dir()


def test_threads_reach_the_kernel(tmp_path, tiny):
    chapter = tiny("import torch; print(torch.get_num_threads())")
    record = run(chapter, tmp_path / "a", threads=1)
    assert record["threads"] == 1
    assert printed(tmp_path / "a" / "tiny.ipynb") == "1\n"


def test_what_dask_sets_for_its_workers_does_not_reach_the_kernel(tmp_path, tiny, monkeypatch):
    dasks = dask.config.get("distributed.nanny.pre-spawn-environ")
    for name, value in dasks.items():
        monkeypatch.setenv(name, str(value))
    run(
        tiny(f"import os; print([os.environ.get(n) for n in {list(dasks)}])"),
        tmp_path / "a",
        threads=2,
    )
    assert len(dasks) >= 4
    seen = ["2" if name.endswith("_NUM_THREADS") else None for name in dasks]
    assert printed(tmp_path / "a" / "tiny.ipynb") == f"{seen}\n"


def test_a_folder_that_holds_something_else_is_not_touched(tmp_path, tiny):
    """The chapter itself, say, or networks that were trained before."""
    chapter = tiny("print(1)")
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    (tmp_path / "runs" / "tiny" / "record.json").write_text("{}")
    for folder in (tmp_path, tmp_path / "runs"):
        before = {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}
        message = f"{folder} is not empty, and holds no run; name another one with -o"
        with pytest.raises(ChapterError, match=f"^{re.escape(message)}$"):
            run(chapter, folder)
        after = {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}
        assert after == before


@pytest.mark.parametrize("cell", ["while True: pass", "import time; time.sleep(600)"])
def test_a_stopped_run_leaves_nothing(tmp_path, tiny, cell):
    end = time.monotonic() + 3
    with pytest.raises(Stopped):
        run(tiny(cell), tmp_path / "a", stopped=lambda: time.monotonic() > end)
    assert time.monotonic() < end + 15
    assert names(tmp_path / "a") == []


def test_two_at_a_time_are_one_after_the_other(tmp_path, tiny):
    count = f"open({str(tmp_path / 'log')!r}, 'a').write('.'); import time; time.sleep(1)"
    chapter = tiny(count)
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(lambda _: run(chapter, tmp_path / "a"), range(2))
    assert one == two
    assert (tmp_path / "log").read_text() == "."


RUN = """
import sys
from fmnist_lib.experiments.run import run_experiment
run_experiment(sys.argv[1], sys.argv[2], progress=False)
"""


@pytest.mark.parametrize("seconds", [1.0, 1.6, 2.2, 2.8, 3.4, 4.0])
def test_a_kill_leaves_a_finished_run_or_plainly_none(tmp_path, tiny, seconds):
    chapter, folder = tiny(NETWORK, "import time; time.sleep(0.3)"), tmp_path / "a"
    child = subprocess.Popen([sys.executable, "-c", RUN, str(chapter), str(folder)])
    time.sleep(seconds)
    child.send_signal(signal.SIGKILL)
    child.wait()
    record = load_record(folder)
    complete = ["results.json", "tiny", "tiny.html", "tiny.ipynb"]
    if record:
        assert record["state"] == "finished"
        assert set(complete) <= set(names(folder))
    else:
        assert not (folder / "results.json").exists()
    assert run(chapter, folder)["state"] == "finished"
    assert names(folder) == complete


def test_a_killed_run_is_unfinished_at_every_step_of_the_last_moves(tmp_path, tiny, monkeypatch):
    """A kill between two moves is an exception that nothing handles."""

    class KilledError(BaseException):
        pass

    chapter, moves = tiny(NETWORK), []

    def move(source, target):
        if len(moves) == allowed:
            raise KilledError
        moves.append(target)
        replace(source, target)

    replace = os.replace
    for allowed in range(4):
        folder = tmp_path / f"{allowed}"
        moves.clear()
        with monkeypatch.context() as patch:
            patch.setattr(runs.os, "replace", move)
            with pytest.raises(KilledError):
                run(chapter, folder)
        assert load_record(folder) is None
        assert run(chapter, folder)["state"] == "finished"


WHOLE = {"state": "finished", "chapter": "a", "code": "c", "parameters": {}, "metrics": {}}
WHOLE |= {"networks": {}, "seconds": 1, "attempts": 1}
SHORT = [{n: value for n, value in WHOLE.items() if n != name} for name in WHOLE]
OTHER = [WHOLE | {name: None} for name in WHOLE]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"state": "running"}', "\x00", *map(json.dumps, SHORT + OTHER)]
)
def test_a_record_that_is_none_is_no_finished_run(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    assert load_record(tmp_path) is None
    (tmp_path / "results.json").write_text(json.dumps(WHOLE))
    assert load_record(tmp_path) == WHOLE


@pytest.mark.parametrize("kernel", [None, {"name": "nowhere", "display_name": "R"}])
def test_a_notebook_is_executed_with_this_python_whatever_kernel_it_names(tmp_path, tiny, kernel):
    path = tiny("import sys; print(sys.executable)")
    notebook = nbformat.read(path, 4)
    notebook.metadata = {"kernelspec": kernel} if kernel else {}
    nbformat.write(notebook, path)
    run(path, tmp_path / "a", {"x": 2})
    assert printed(tmp_path / "a" / "tiny.ipynb") == f"{sys.executable}\n"


def test_a_folder_that_is_a_file_is_told(tmp_path, tiny):
    (tmp_path / "a").write_text("")
    with pytest.raises(ChapterError, match=r"the run cannot be written to .*a \(File exists\);"):
        run(tiny(), tmp_path / "a")


def test_a_real_chapter_is_kept_with_its_network(tmp_path):
    given = {"epochs": "1", "sample": "true", "device": "cpu"}
    record = run(NOTEBOOKS / "02_cnn.ipynb", tmp_path / "a", given)
    trained, own = load_trained(tmp_path / "a" / "02_cnn")
    assert trained.config.epochs == record["parameters"]["epochs"] == 1
    assert record["metrics"] == own["metrics"] | {"best_epoch": 1}
    assert record["machine"] == own["machine"]
    assert record["data"] == "sample"
    assert runs._data({"data_dir"}, {"sample": False}) == SHA256


def test_papermill_alone_says_the_same_in_the_first_cells(tmp_path):
    command = ["-m", "papermill", str(NOTEBOOKS / "02_cnn.ipynb"), str(tmp_path / "out.ipynb")]
    options = ["-p", "lr", "-1.0", "-p", "sample", "True"]
    done = subprocess.run(
        [sys.executable, *command, *options], capture_output=True, text=True, cwd=tmp_path
    )
    with pytest.raises(ParameterError) as refused:
        run(NOTEBOOKS / "02_cnn.ipynb", tmp_path / "a", {"lr": -1})
    assert done.returncode
    assert f"ValueError: {refused.value}" in done.stderr
    executed = [c for c in nbformat.read(tmp_path / "out.ipynb", 4).cells if c.get("outputs")]
    assert len(executed) <= 4
