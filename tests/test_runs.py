import json
import pickle

import nbformat
import pytest
import torch

from fmnist_lib import runs
from fmnist_lib.files import SHA256
from fmnist_lib.models import build_model
from fmnist_lib.training import TrainConfig, fit

CONFIG = TrainConfig(epochs=1, device="cpu")


@pytest.fixture(scope="module")
def trained(sample):
    return fit(build_model("dilated_cnn", seed=0), sample.train, sample.validation, CONFIG)


@pytest.fixture
def folder(tmp_path, trained):
    return runs.save_run(tmp_path / "run", "dilated_cnn", trained, {"val_accuracy": 0.5})


def test_a_run_comes_back_as_it_was(folder, trained, sample):
    loaded, record = runs.load_run(folder)
    weights = trained.model.state_dict()
    assert all(value.equal(weights[key]) for key, value in loaded.model.state_dict().items())
    assert loaded.history.equals(trained.history)
    assert loaded.config == CONFIG
    assert loaded.best_epoch == trained.best_epoch
    assert not loaded.model.training
    assert record["metrics"] == {"val_accuracy": 0.5}
    assert sorted(path.name for path in folder.iterdir()) == [
        "history.csv",
        "run.json",
        "weights.pt",
    ]
    assert list(folder.parent.iterdir()) == [folder]


def test_the_record_says_what_it_was_made_with(folder):
    record = json.loads((folder / "run.json").read_text())
    assert record["network"] == "dilated_cnn"
    assert record["config"]["lr"] == 3e-4
    assert record["data"] == SHA256
    assert record["machine"]["packages"]["torch"] == torch.__version__.split("+")[0]
    assert record["machine"]["threads"] == torch.get_num_threads()
    assert record["machine"]["cpu_capability"] == torch.backends.cpu.get_cpu_capability()


def test_the_description_of_the_machine_is_one_line():
    line = runs.describe_machine()
    assert "\n" not in line
    assert f"torch {torch.__version__.split('+')[0]}" in line


def test_a_run_is_replaced_whole(folder, trained):
    runs.save_run(folder, "dilated_cnn", trained, {"val_accuracy": 0.75}, sample=True)
    _, record = runs.load_run(folder)
    assert record["metrics"] == {"val_accuracy": 0.75}
    assert record["data"] == "sample"


def test_an_interrupted_save_leaves_no_false_run(tmp_path, trained, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs.json, "dumps", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runs.save_run(tmp_path / "run", "dilated_cnn", trained, {})
    assert not list(tmp_path.iterdir())


def test_no_run_is_told(tmp_path):
    with pytest.raises(runs.RunError, match=r"holds no finished run: run.json is missing"):
        runs.load_run(tmp_path)


def test_missing_weights_are_told(folder):
    (folder / "weights.pt").unlink()
    with pytest.raises(runs.RunError, match=r"weights.pt is missing"):
        runs.load_run(folder)


def test_weights_of_the_other_network_are_told(folder):
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | {"network": "cnn"}))
    with pytest.raises(runs.RunError, match="cannot be read"):
        runs.load_run(folder)


def test_truncated_weights_are_told(folder):
    path = folder / "weights.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(runs.RunError, match="cannot be read"):
        runs.load_run(folder)


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_loading_executes_nothing(folder, tmp_path, how):
    trap = Malicious(str(tmp_path / "trap"))
    if how == "torch":
        torch.save({"features.0.weight": trap}, folder / "weights.pt")
    else:
        (folder / "weights.pt").write_bytes(pickle.dumps(trap))
    with pytest.raises(runs.RunError, match="cannot be read"):
        runs.load_run(folder)
    assert not (tmp_path / "trap").exists()


def test_a_run_with_the_same_settings_is_loaded_and_any_other_made(sample, tmp_path, monkeypatch):
    trainings = []

    def counted(*args):
        trainings.append(args)
        return fit(*args)

    monkeypatch.setattr(runs, "fit", counted)

    def get(name="cnn", config=CONFIG, is_sample=True):
        return runs.load_or_train(tmp_path / "run", name, sample, config, sample=is_sample)

    made, loaded = get(), get()
    assert len(trainings) == 1
    assert made.model.state_dict()["features.0.weight"].equal(
        loaded.model.state_dict()["features.0.weight"]
    )
    others = [
        {"name": "dilated_cnn"},
        {"config": TrainConfig(epochs=1, lr=1e-3, device="cpu")},
        {"is_sample": False},
    ]
    for n, other in enumerate(others, start=2):
        get(**other)
        assert len(trainings) == n
    (tmp_path / "run" / "weights.pt").write_bytes(b"damaged")
    get(is_sample=False)
    assert len(trainings) == 5


def chapter(*cells):
    notebook = nbformat.v4.new_notebook()
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "", "language": "python"}
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in cells]
    notebook.cells[0].metadata.tags = ["parameters"]
    return notebook


def test_a_chapter_is_executed_where_it_is_told(tmp_path):
    source, output = tmp_path / "a.ipynb", tmp_path / "b.ipynb"
    nbformat.write(chapter("x: int = 1", "import os; print(x, os.getcwd())"), source)
    runs.run_chapter(source, output, {"x": 5}, cwd=tmp_path, progress=False)
    cells = nbformat.read(output, 4).cells
    assert cells[-1].outputs[0].text == f"5 {tmp_path}\n"


def test_a_chapter_that_fails_is_kept_up_to_there(tmp_path):
    source, output = tmp_path / "a.ipynb", tmp_path / "b.ipynb"
    nbformat.write(chapter("x = 1", "print('before')", "1 / 0"), source)
    message = "a failed in its cell 3: ZeroDivisionError: division by zero; the notebook up to"
    with pytest.raises(runs.RunError, match=message):
        runs.run_chapter(source, output, cwd=tmp_path, progress=False)
    texts = [
        o.get("text") for cell in nbformat.read(output, 4).cells for o in cell.get("outputs", [])
    ]
    assert "before\n" in texts


PROGRESS = """
from fmnist_lib.progress import progress_bar
with progress_bar(3, "training", mininterval=0) as bar:
    for _ in range(3):
        bar.update()
print("done")
"""


def test_progress_inside_a_cell_is_passed_on_and_leaves_nothing(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("tqdm.std.tqdm.set_postfix_str", lambda bar, text: shown.append(text))
    monkeypatch.setattr("tqdm.asyncio.tqdm_asyncio.set_postfix_str", lambda bar, t: shown.append(t))
    source, output = tmp_path / "a.ipynb", tmp_path / "b.ipynb"
    nbformat.write(chapter("x = 1", PROGRESS), source)
    runs.run_chapter(source, output, cwd=tmp_path)
    assert any("training" in text and "3/3" in text for text in shown)
    (only,) = nbformat.read(output, 4).cells[-1].outputs
    assert only.text == "done\n"


def test_missing_chapters_are_told(tmp_path):
    with pytest.raises(runs.RunError, match=r"no chapter at .*01_data_exploration.ipynb"):
        runs.run_course(tmp_path / "out", tmp_path)
    assert not (tmp_path / "out").exists()


def test_the_course_runs_the_chapters_and_collects_their_metrics(tmp_path, monkeypatch, trained):
    done = []

    def pretend(source, output, parameters, cwd):
        done.append((source.name, output, parameters))
        if "cnn" in source.stem:
            runs.save_run(cwd / source.stem, "dilated_cnn", trained, {"test_accuracy": len(done)})

    monkeypatch.setattr(runs, "run_chapter", pretend)
    for name in runs.CHAPTERS:
        (tmp_path / f"{name}.ipynb").touch()
    metrics = runs.run_course(tmp_path / "out", tmp_path)
    assert [name for name, _, _ in done] == [f"{name}.ipynb" for name in runs.CHAPTERS]
    assert {str(p) for _, _, p in done} == {"{'runs_dir': '.'}"}
    assert metrics == {"02_cnn": {"test_accuracy": 2}, "03_dilated_cnn": {"test_accuracy": 3}}
