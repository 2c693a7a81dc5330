"""Executing chapters with papermill."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import nbformat
import pytest

from fmnist_lib.chapters import ChapterError
from fmnist_lib.experiments import execution
from fmnist_lib.models import build_model
from fmnist_lib.trained import save_trained
from fmnist_lib.training import TrainConfig, fit

pytestmark = pytest.mark.slow  # kernels


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


def test_two_chapters_at_once_in_one_process_each_run_in_their_own_folder(tmp_path, write):
    meeting, before = tmp_path / "meeting", os.getcwd()
    source = write("meeting: str = ''", MEETING)
    folders = [tmp_path / "first", tmp_path / "second"]
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


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("1 / 0", "a failed in cell 3: ZeroDivisionError"),
        ("import os; os._exit(1)", "the kernel of a died"),
    ],
)
def test_a_chapter_that_fails_is_kept_up_to_there(tmp_path, write, cell, message):
    output = tmp_path / "b.ipynb"
    with pytest.raises(ChapterError, match=message):
        execution.run_chapter(write("x = 1", "print('before')", cell), output, progress=False)
    cells = nbformat.read(output, 4).cells
    assert "before\n" in [out.get("text") for cell in cells for out in cell.get("outputs", [])]


PROGRESS = """
from fmnist_lib.progress import progress_bar
with progress_bar(3, "training", mininterval=0) as bar:
    for _ in range(3):
        bar.update()
    bar.set_postfix_str("loss 0.5")
print("done")
"""


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
    tmp_path, write_chapter, monkeypatch, sample
):
    done, config = [], TrainConfig(epochs=1, device="cpu")
    trained = fit(build_model("dilated_cnn"), sample.train, sample.validation, config)

    def pretend(source, output, parameters):
        done.append((source.name, output, parameters))
        if "cnn" in source.stem:
            save_trained(
                output.parent / source.stem, "dilated_cnn", trained, {"test_accuracy": len(done)}
            )

    monkeypatch.setattr(execution, "run_chapter", pretend)
    keep_nothing = ("01_data_exploration", "05_training_fast")
    for name in execution.CHAPTERS:
        parameter = "seed" if name in keep_nothing else "trained_dir"
        write_chapter(tmp_path / f"{name}.ipynb", f"{parameter} = 1")
    metrics = execution.run_course(tmp_path / "out", tmp_path)
    assert [name for name, _, _ in done] == [f"{name}.ipynb" for name in execution.CHAPTERS]
    for name, _, parameters in done:
        assert parameters == ({} if Path(name).stem in keep_nothing else {"trained_dir": "."})
    assert metrics == {"02_cnn": {"test_accuracy": 2}, "03_dilated_cnn": {"test_accuracy": 3}}
