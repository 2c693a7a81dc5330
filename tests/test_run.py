"""One run of a chapter, and what its folder holds whatever happens."""

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from fmnist_lib.chapters import ChapterError
from fmnist_lib.common import locked
from fmnist_lib.data import SAMPLE
from fmnist_lib.experiments import page
from fmnist_lib.experiments import run as runs
from fmnist_lib.experiments.execution import Stopped
from fmnist_lib.experiments.run import load_record, prepare_run, run_experiment
from fmnist_lib.trained import load_trained

pytestmark = pytest.mark.slow  # kernels

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
PARAMETERS = (
    "x: int = 1  # a number\ntrained_dir: str = 'runs'  # where\nlog_dir: str = ''  # where\n"
    "data_dir: str = ''  # where"
)
NETWORK = """
import json, pathlib
folder = pathlib.Path(trained_dir, "tiny")
folder.mkdir(exist_ok=True)
record = {"best_epoch": 3, "metrics": {"val_accuracy": x / 10}, "machine": {"threads": 1}}
record["data"] = {"train": "a few images"}
(folder / "record.json").write_text(json.dumps(record))
"""


@pytest.fixture
def tiny(tmp_path, write_chapter):
    """Write a notebook of some cells after the parameters: (*cells) -> path."""
    return lambda *cells: write_chapter(tmp_path / "tiny.ipynb", PARAMETERS, *cells)


def run(notebook, folder, given=None, **options):
    return run_experiment(prepare_run(notebook, given), folder, progress=False, **options)


def names(folder):
    """List what a run left, except the lock, and what ZeroMQ may say when a kernel ends."""
    left = {path.name for path in folder.iterdir()} - {".lock", "kernel.log"}
    return sorted(left)


def printed(notebook):
    cells = nbformat.read(notebook, 4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


def test_a_run_is_kept_with_its_record(tmp_path, tiny):
    chapter = tiny(NETWORK, "print(x, trained_dir); import os; os.write(2, b'a warning of C')")
    record = run(chapter, tmp_path / "a" / "b", {"x": "3"})
    folder = tmp_path / "a" / "b"
    assert names(folder) == ["results.json", "tiny", "tiny.html", "tiny.ipynb"]
    assert b"a warning of C" in (folder / "kernel.log").read_bytes()
    assert json.loads((folder / "results.json").read_text()) == record == load_record(folder)
    assert record == record | {
        "state": "finished",
        "error": None,
        "chapter": "tiny",
        "parameters": {"x": 3},
        "metrics": {"best_epoch": 3, "val_accuracy": 0.3},
        "machine": {"threads": 1},
        "attempts": 1,
        "data": {"train": "a few images"},
    }
    assert 0.1 < record["seconds"] < 60
    assert pd.Timestamp(record["started"]) < pd.Timestamp.now("UTC")
    assert printed(folder / "tiny.ipynb") == "3 .\n"
    assert "a warning of C" in (folder / "tiny.html").read_text(encoding="utf-8")


def test_a_run_is_kept_where_its_page_cannot_be_made(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(page, "_exporter", None)
    with pytest.warns(UserWarning, match="tiny is kept without an HTML page"):
        record = run(tiny("print(x)"), tmp_path / "a")
    assert record["state"] == "finished"
    assert names(tmp_path / "a") == ["results.json", "tiny.ipynb"]


def test_a_finished_run_is_not_run_again(tmp_path, tiny, monkeypatch):
    chapter = tiny("print(x)")
    record = run(chapter, tmp_path / "a", {"x": 2})
    monkeypatch.setattr(runs, "run_chapter", None)
    assert run(chapter, tmp_path / "a", {"x": 2}) == record
    with pytest.raises(
        ChapterError, match=r"finished run with x=2, and is left .* name another folder"
    ):
        run(chapter, tmp_path / "a", {"x": 3})
    tiny("print(x)", "print(x)")
    with pytest.raises(ChapterError, match="holds a finished run of an older version of tiny"):
        run(chapter, tmp_path / "a", {"x": 2})
    other = chapter.rename(tmp_path / "other.ipynb")
    with pytest.raises(ChapterError, match="holds a finished run of tiny"):
        run(other, tmp_path / "a", {"x": 2})
    tiny("print(x)")
    for name, words in (("library_digest", "other files of"), ("torch_version", "PyTorch")):
        with monkeypatch.context() as patch:
            patch.setattr(runs, name, lambda: "another")
            with pytest.raises(ChapterError, match=f"used {words}"):
                run(chapter, tmp_path / "a", {"x": 2})
    assert load_record(tmp_path / "a") == record


def test_ends_of_lines_are_not_code(tmp_path, tiny):
    """Editors and Git change them."""
    codes = ("a = 1\nb = 2", "a = 1\r\nb = 2\n", "a = 1\nb = 3")
    one, other, changed = (runs.code_digest(tiny(code)) for code in codes)
    assert one == other != changed


@pytest.mark.skipif(sys.platform != "linux", reason="needs names that are not UTF-8")
def test_a_folder_whose_name_no_json_can_hold(tmp_path, tiny):
    """As each with an umlaut is in the C locale, without Python's UTF-8 mode."""
    folder = tmp_path / os.fsdecode(b"\xff")
    assert run(tiny("print(x)"), folder)["state"] == "finished"
    assert names(folder) == ["results.json", "tiny.html", "tiny.ipynb"]


def test_a_failed_run_keeps_its_notebook_and_can_be_tried_again(tmp_path, tiny):
    chapter = tiny(NETWORK, "print('before')", "raise ValueError('so\\nit is')")
    folder = tmp_path / "a"
    with pytest.raises(ChapterError) as failure:
        run(chapter, folder)
    kept = folder / "tiny.ipynb"
    assert "failed in cell 5: ValueError: so" in str(failure.value)
    assert str(failure.value).endswith(str(kept))
    assert (failure.value.notebook, failure.value.cause) == (kept, "ValueError")
    assert printed(kept) == "before\n"
    record = load_record(folder)
    assert (record["state"], record["attempts"]) == ("failed", 1)
    assert record["error"] == "tiny failed in cell 5: ValueError: so"
    assert record["cause"] == failure.value.cause == "ValueError"
    assert names(folder) == ["results.json", "tiny", "tiny.html", "tiny.ipynb"]
    tiny("print('better')")
    record = run(chapter, folder)
    assert (record["state"], record["attempts"]) == ("finished", 2)
    assert names(folder) == ["results.json", "tiny.html", "tiny.ipynb"]  # of this attempt only


def test_the_kernel_is_this_python_with_the_threads_asked_for(tmp_path, tiny, monkeypatch):
    """Whatever kernel the notebook names, and not with what Dask sets."""
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    path = tiny(
        "import os, sys, torch",
        "print(torch.get_num_threads(), 'MALLOC_TRIM_THRESHOLD_' in os.environ, sys.executable)",
    )
    notebook = nbformat.read(path, 4)
    notebook.metadata = {"kernelspec": {"name": "nowhere", "display_name": "R"}}
    nbformat.write(notebook, path)
    assert run(path, tmp_path / "a", threads=2)["threads"] == 2
    assert printed(tmp_path / "a" / "tiny.ipynb") == f"2 False {sys.executable}\n"


def test_a_folder_that_holds_something_else_is_not_touched(tmp_path, tiny):
    """The chapter itself, say, or networks that were trained before."""
    chapter = tiny("print(1)")
    (network := tmp_path / "tiny" / "record.json").parent.mkdir()
    network.write_text("{}")
    before = chapter.read_bytes()
    with pytest.raises(ChapterError, match="is not empty and holds no run; name another folder"):
        run(chapter, tmp_path)
    assert (chapter.read_bytes(), network.read_text()) == (before, "{}")
    assert names(tmp_path) == ["tiny", "tiny.ipynb"]


def test_two_at_a_time_are_one_after_the_other(tmp_path, tiny):
    chapter = tiny(f"open({str(tmp_path / 'log')!r}, 'a').write('.')")
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(lambda _: run(chapter, tmp_path / "a"), range(2))
    assert one == two
    assert (tmp_path / "log").read_text() == "."


def test_a_killed_run_is_unfinished_and_the_next_attempt_clears_up(tmp_path, tiny):
    started, folder = tmp_path / "started", tmp_path / "a"
    chapter = tiny(NETWORK, f"open({str(started)!r}, 'w'); import time; time.sleep(600)")
    command = [sys.executable, "-m", "fmnist_lib.cli", "run", str(chapter), "-o", str(folder)]
    child = subprocess.Popen(command)
    while not started.exists():
        assert child.poll() is None
        time.sleep(0.05)
    child.kill()
    child.wait()
    assert load_record(folder) is None
    assert list(folder.glob(".part-*"))
    tiny(NETWORK)
    record = run(chapter, folder)
    assert (record["state"], record["attempts"]) == ("finished", 2)
    assert names(folder) == ["results.json", "tiny", "tiny.html", "tiny.ipynb"]


TRAINING = """
import os, signal
from fmnist_lib.data import load_fashion_mnist
from fmnist_lib.models import build_model
from fmnist_lib.trained import save_trained
from fmnist_lib.training import Checkpoint, TrainConfig, fit

data = load_fashion_mnist(sample=True)
first_time = not os.path.exists("tiny.checkpoint")

def die(state):
    if first_time and trouble and len(state.history) == 2:
        raise OSError("a fault of the disk") if trouble == "fail" else os.kill(os.getpid(), 9)

listeners = [Checkpoint("tiny.checkpoint"), die]
config = TrainConfig(epochs=4, shuffle=True)
trained = fit(build_model("cnn", 0), data.train, data.validation, config, listeners=listeners)
save_trained("tiny", "cnn", trained, {"epochs": len(listeners)}, test=data.test)
"""


def test_an_interrupted_run_goes_on_from_its_last_epoch_to_the_same_bits(tmp_path, write_chapter):
    """Its kernel or itself killed, stopped, or failed for a reason that may pass."""
    chapter = write_chapter(tmp_path / "tiny.ipynb", "trouble: str = ''  # what happens", TRAINING)
    whole = run(chapter, tmp_path / "whole", threads=1)
    assert whole["attempts"] == 1
    files = [tmp_path / "whole" / "tiny" / name for name in ("weights.pt", "history.csv")]
    for trouble in ("fail", "die", "stop"):
        folder, part = tmp_path / trouble, tmp_path / trouble / runs.WORK
        if trouble == "stop":
            with pytest.raises(Stopped):
                run(chapter, folder, stopped=(part / "tiny.checkpoint").exists, threads=1)
            assert (part / "tiny.checkpoint").exists()
        else:
            with pytest.raises(ChapterError, match=r"OSError|kernel of tiny died"):
                run(chapter, folder, {"trouble": trouble}, threads=1)
        written = len(list(folder.rglob("tiny.checkpoint")))
        record = run(chapter, folder, {"trouble": "" if trouble == "stop" else trouble}, threads=1)
        assert (written, record["attempts"]) == (1, 2)
        assert not list(folder.rglob("*.checkpoint"))
        for file in files:
            assert (folder / "tiny" / file.name).read_bytes() == file.read_bytes()


def test_other_code_starts_over(tmp_path, tiny):
    """A checkpoint of an older version, or one that cannot be read, is not taken up again.

    If the disk is full, the one before is as good as ever.
    """
    folder = tmp_path / "a"
    write = "open('tiny.checkpoint', 'w'); raise {}('no')"
    for error, kept in (
        ("OSError", 1),
        ("ValueError", 0),
        ("type('CheckpointError', (Exception,), {})", 0),
        ("type('UnwritableError', (Exception,), {})", 1),
    ):
        with pytest.raises(ChapterError):
            run(
                tiny(
                    "import os; assert not os.path.exists('tiny.checkpoint')", write.format(error)
                ),
                folder,
            )
        assert len(list(folder.glob("*.checkpoint"))) == kept


def test_a_run_that_is_stopped_early_is_kept(tmp_path, tiny):
    folder, reason = tmp_path / "a", "it does badly"
    chapter = tiny("open('tiny.checkpoint', 'w')", "import time; time.sleep(x * 600)")
    stop_early = lambda: reason if list(folder.rglob("*.checkpoint")) else ""  # noqa: E731
    record = run(chapter, folder, stop_early=stop_early)
    assert (record["state"], record["error"], record["cause"]) == ("stopped", reason, None)
    assert names(folder) == ["results.json", "tiny.checkpoint", "tiny.html", "tiny.ipynb"]
    assert run(chapter, folder, stop_early=lambda: "") == record


def test_a_run_that_another_process_executes_is_not_waited_for(tmp_path, tiny):
    chapter, folder = tiny("print(1)"), tmp_path / "a"
    folder.mkdir()
    with locked(folder / ".lock"), pytest.raises(runs.Busy):
        run(chapter, folder, wait=False)


def test_the_digest_of_the_library_is_that_of_its_files(tmp_path, monkeypatch):
    copy = tmp_path / "fmnist_lib"
    shutil.copytree(NOTEBOOKS.parent / "fmnist_lib", copy, dirs_exist_ok=True)
    before = runs.library_digest()
    monkeypatch.setattr(runs.fmnist_lib, "__file__", str(copy / "__init__.py"))
    assert runs.library_digest() == before
    (copy / ".ipynb_checkpoints").mkdir()
    for name in ("new.cpython-311.pyc", ".data.py.swp", "data.py~", ".ipynb_checkpoints/data.py"):
        (copy / name).write_bytes(b"no code of the library")
    assert runs.library_digest() == before
    (copy / "models.py").open("a").write(" ")
    assert runs.library_digest() != before


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"state": "running"}'])
def test_an_incomplete_record_is_not_a_finished_run(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    assert load_record(tmp_path) is None


def test_a_real_chapter_is_kept_with_its_network(tmp_path):
    given = {"epochs": "1", "sample": "true", "device": "cpu"}
    record = run(NOTEBOOKS / "02_cnn.ipynb", tmp_path / "a", given)
    trained, own = load_trained(tmp_path / "a" / "02_cnn")
    assert trained.config.epochs == record["parameters"]["epochs"] == 1
    metrics = own["metrics"] | {"best_epoch": 1}
    assert record == record | {"metrics": metrics, "machine": own["machine"]}
    assert {name: split["sha256"] for name, split in record["data"].items()} == SAMPLE
