"""Executing chapters with papermill."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest

from fmnist_lib.chapters import ChapterError
from fmnist_lib.experiments import execution
from fmnist_lib.models import build_model
from fmnist_lib.trained import save_trained
from fmnist_lib.training import TrainConfig, fit

pytestmark = pytest.mark.slow  # kernels


def chapter(*cells):
    notebook = nbformat.v4.new_notebook()
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "", "language": "python"}
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in cells]
    notebook.cells[0].metadata.tags = ["parameters"]
    return notebook


def test_a_chapter_is_executed_in_the_given_folder(tmp_path):
    source, output = tmp_path / "a.ipynb", tmp_path / "b.ipynb"
    nbformat.write(chapter("x: int = 1", "import os; print(x, os.getcwd())"), source)
    execution.run_chapter(source, output, {"x": 5}, cwd=tmp_path, progress=False)
    cells = nbformat.read(output, 4).cells
    assert cells[-1].outputs[0].text == f"5 {tmp_path}\n"


MEETING = """
import os, pathlib, time
pathlib.Path(meeting, os.path.basename(os.getcwd())).touch()
deadline = time.monotonic() + 60
while len(os.listdir(meeting)) < 2 and time.monotonic() < deadline:
    time.sleep(0.05)
pathlib.Path("kept.txt").write_text(os.getcwd())
print(len(os.listdir(meeting)))
"""


def test_two_chapters_at_once_in_one_process_each_run_in_their_own_folder(tmp_path):
    source, meeting, before = tmp_path / "a.ipynb", tmp_path / "meeting", os.getcwd()
    nbformat.write(chapter(f"meeting: str = {str(meeting)!r}", MEETING), source)
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in (*folders, meeting):
        folder.mkdir()

    def run(folder):
        execution.run_chapter(source, folder / "out.ipynb", cwd=folder, progress=False)
        return nbformat.read(folder / "out.ipynb", 4).cells[-1].outputs[0].text

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, folders)) == ["2\n", "2\n"]  # they did run at the same time
    for folder in folders:
        assert (folder / "kept.txt").read_text() == str(folder)
    assert os.getcwd() == before


def test_a_chapter_that_fails_is_kept_up_to_there(tmp_path):
    source, output = tmp_path / "a.ipynb", tmp_path / "b.ipynb"
    nbformat.write(chapter("x = 1", "print('before')", "1 / 0"), source)
    with pytest.raises(ChapterError, match="a failed in its cell 3: ZeroDivisionError"):
        execution.run_chapter(source, output, cwd=tmp_path, progress=False)
    texts = [
        o.get("text") for cell in nbformat.read(output, 4).cells for o in cell.get("outputs", [])
    ]
    assert "before\n" in texts


PROGRESS = """
from fmnist_lib.progress import progress_bar
with progress_bar(3, "training", mininterval=0) as bar:
    for _ in range(3):
        bar.update()
    bar.set_postfix_str("loss 0.5")
print("done")
"""


def test_progress_inside_a_cell_is_passed_on_and_leaves_nothing(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("tqdm.std.tqdm.set_postfix_str", lambda bar, text: shown.append(text))
    monkeypatch.setattr("tqdm.asyncio.tqdm_asyncio.set_postfix_str", lambda bar, t: shown.append(t))
    source, output = tmp_path / "a.ipynb", tmp_path / "b.ipynb"
    nbformat.write(chapter("x = 1", PROGRESS), source)
    execution.run_chapter(source, output, cwd=tmp_path)
    assert "training, loss 0.5" in shown
    (only,) = nbformat.read(output, 4).cells[-1].outputs
    assert only.text == "done\n"


def test_a_dead_kernel_is_reported(tmp_path):
    source, output = tmp_path / "a.ipynb", tmp_path / "b.ipynb"
    nbformat.write(chapter("x = 1", "import os; os._exit(1)"), source)
    with pytest.raises(ChapterError, match="the kernel of a died"):
        execution.run_chapter(source, output, cwd=tmp_path, progress=False)


def test_missing_chapters_are_reported(tmp_path):
    with pytest.raises(ChapterError, match=r"no chapter at .*01_data_exploration.ipynb"):
        execution.run_course(tmp_path / "out", tmp_path)
    assert not (tmp_path / "out").exists()


def test_the_course_runs_the_chapters_and_collects_their_metrics(tmp_path, monkeypatch, sample):
    done, config = [], TrainConfig(epochs=1, device="cpu")
    trained = fit(build_model("dilated_cnn"), sample.train, sample.validation, config)

    def pretend(source, output, parameters, cwd):
        done.append((source.name, output, parameters))
        if "cnn" in source.stem:
            save_trained(cwd / source.stem, "dilated_cnn", trained, {"test_accuracy": len(done)})

    monkeypatch.setattr(execution, "run_chapter", pretend)
    keep_nothing = ("01_data_exploration", "05_training_fast")
    for name in execution.CHAPTERS:
        parameter = "seed" if name in keep_nothing else "trained_dir"
        nbformat.write(chapter(f"{parameter} = 1"), tmp_path / f"{name}.ipynb")
    metrics = execution.run_course(tmp_path / "out", tmp_path)
    assert [name for name, _, _ in done] == [f"{name}.ipynb" for name in execution.CHAPTERS]
    for name, _, parameters in done:
        assert parameters == ({} if Path(name).stem in keep_nothing else {"trained_dir": "."})
    assert metrics == {"02_cnn": {"test_accuracy": 2}, "03_dilated_cnn": {"test_accuracy": 3}}
