import json
import os
import pickle
from importlib.metadata import version

import pytest
import torch

from fmnist_lib import trained as runs
from fmnist_lib.download import SHA256
from fmnist_lib.models import build_model
from fmnist_lib.training import TrainConfig, fit

CONFIG = TrainConfig(epochs=1, device="cpu")


@pytest.fixture(scope="module")
def trained(sample):
    return fit(build_model("dilated_cnn", seed=0), sample.train, sample.validation, CONFIG)


@pytest.fixture
def folder(tmp_path, trained):
    return runs.save_trained(tmp_path / "run", "dilated_cnn", trained, {"val_accuracy": 0.5})


def test_a_run_comes_back_as_it_was(folder, trained, sample):
    loaded, record = runs.load_trained(folder)
    weights = trained.model.state_dict()
    assert all(value.equal(weights[key]) for key, value in loaded.model.state_dict().items())
    assert loaded.history.equals(trained.history)
    assert loaded.config == CONFIG
    assert loaded.best_epoch == trained.best_epoch
    assert not loaded.model.training
    assert record["metrics"] == {"val_accuracy": 0.5}
    assert sorted(path.name for path in folder.iterdir()) == [
        "history.csv",
        "record.json",
        "weights.pt",
    ]
    assert list(folder.parent.iterdir()) == [folder]


def test_the_record_says_what_it_was_made_with(folder):
    record = json.loads((folder / "record.json").read_text())
    assert record["network"] == "dilated_cnn"
    assert record["config"]["lr"] == 3e-4
    assert record["data"] == SHA256
    assert record["machine"]["packages"]["torch"] == version("torch")
    assert record["machine"]["threads"] == torch.get_num_threads()
    assert record["machine"]["cpu_capability"] == torch.backends.cpu.get_cpu_capability()


def test_the_description_of_the_machine_is_one_line():
    line = runs.describe_machine()
    assert "\n" not in line
    assert f"torch {version('torch')}" in line


def test_a_run_is_replaced_whole(folder, trained):
    runs.save_trained(folder, "dilated_cnn", trained, {"val_accuracy": 0.75}, sample=True)
    _, record = runs.load_trained(folder)
    assert record["metrics"] == {"val_accuracy": 0.75}
    assert record["data"] == "sample"


def test_an_interrupted_save_leaves_no_false_run(tmp_path, trained, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs.json, "dumps", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runs.save_trained(tmp_path / "run", "dilated_cnn", trained, {})
    assert not list((tmp_path / "run").iterdir())


def test_no_run_is_told(tmp_path):
    with pytest.raises(
        runs.TrainedModelError, match=r"holds no finished run: record.json is missing"
    ):
        runs.load_trained(tmp_path)


def test_missing_weights_are_told(folder):
    (folder / "weights.pt").unlink()
    with pytest.raises(runs.TrainedModelError, match=r"weights.pt is missing"):
        runs.load_trained(folder)


def test_weights_of_the_other_network_are_told(folder):
    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps(record | {"network": "cnn"}))
    with pytest.raises(runs.TrainedModelError, match="cannot be read"):
        runs.load_trained(folder)


def test_truncated_weights_are_told(folder):
    path = folder / "weights.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(runs.TrainedModelError, match="cannot be read"):
        runs.load_trained(folder)


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
    with pytest.raises(runs.TrainedModelError, match="cannot be read"):
        runs.load_trained(folder)
    assert not (tmp_path / "trap").exists()


def test_files_that_do_not_belong_together_are_told(folder, tmp_path, sample):
    other = fit(build_model("dilated_cnn", seed=1), sample.train, sample.validation, CONFIG)
    runs.save_trained(tmp_path / "other", "dilated_cnn", other, {})
    os.replace(tmp_path / "other" / "weights.pt", folder / "weights.pt")
    with pytest.raises(runs.TrainedModelError, match=r"weights.pt is not the file that was saved"):
        runs.load_trained(folder)


def test_a_folder_that_cannot_be_written_is_told(tmp_path, trained):
    (tmp_path / "run").write_text("a file where the folder should be")
    with pytest.raises(runs.TrainedModelError, match=r"cannot be written to .*run"):
        runs.save_trained(tmp_path / "run", "dilated_cnn", trained, {})


def test_a_full_disk_is_told(tmp_path, mount_disk, trained):
    disk = mount_disk(tmp_path / "disk", "400k")  # the weights are 670 kB
    with pytest.raises(
        runs.TrainedModelError, match=r"cannot be written to .*\(No space left on device\)"
    ):
        runs.save_trained(disk / "run", "dilated_cnn", trained, {})
    assert not list((disk / "run").iterdir())


def test_a_kill_between_two_files_leaves_no_false_run(folder, trained, monkeypatch):
    moves, replace = [], os.replace

    def killed(source, target):
        moves.append(target)
        if len(moves) == 2:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(runs.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        runs.save_trained(folder, "dilated_cnn", trained, {})
    with pytest.raises(runs.TrainedModelError, match=r"record.json is missing"):
        runs.load_trained(folder)


def test_a_run_with_the_same_settings_is_loaded_and_any_other_kept(sample, tmp_path, monkeypatch):
    trainings = []

    def counted(*args, **kwargs):
        trainings.append(args)
        return fit(*args, **kwargs)

    monkeypatch.setattr(runs, "fit", counted)

    def get(name="cnn", config=CONFIG, is_sample=True):
        return runs.load_or_train(tmp_path / "run", name, sample, config, sample=is_sample)

    made, loaded = get(), get()
    assert len(trainings) == 1
    assert made.model.state_dict()["features.0.weight"].equal(
        loaded.model.state_dict()["features.0.weight"]
    )
    get(config=TrainConfig(epochs=1))  # on another device, perhaps, but the same settings
    assert len(trainings) == 1
    others = [
        {"name": "dilated_cnn"},
        {"config": TrainConfig(epochs=1, lr=1e-3, device="cpu")},
        {"is_sample": False},
    ]
    for n, other in enumerate(others, start=2):
        get(**other)
        get(**other)
        assert len(trainings) == n
    assert len(list(tmp_path.iterdir())) == 4
    get()
    assert len(trainings) == 4
    (tmp_path / "run" / "weights.pt").write_bytes(b"damaged")
    get()
    assert len(trainings) == 5


def test_an_interrupted_training_goes_on_and_leaves_no_checkpoint(sample, tmp_path, monkeypatch):
    folder, config = tmp_path / "run", TrainConfig(epochs=3, device="cpu")
    settings, epochs, stop_after = [], [], [2]

    def watched(*args, **kwargs):
        def after_epoch(row):
            epochs.append(row["epoch"])
            if row["epoch"] in stop_after:
                raise KeyboardInterrupt

        settings.append(args[3])
        return fit(*args, after_epoch=after_epoch, **kwargs)

    def get(config, name="dilated_cnn"):
        return runs.load_or_train(folder, name, sample, config, sample=True, progress=False)

    expected = fit(build_model("dilated_cnn", 0), sample.train, sample.validation, config)
    monkeypatch.setattr(runs, "fit", watched)
    with pytest.raises(KeyboardInterrupt):
        get(config)
    (checkpoint,) = tmp_path.iterdir()
    assert checkpoint.name.startswith("run-")
    # Another training, done meanwhile, takes the folder and does not meet the checkpoint.
    stop_after.clear()
    get(CONFIG)
    assert epochs == [1, 2, 1]
    assert sorted(tmp_path.iterdir()) == [folder, checkpoint]
    resumed = get(config)
    assert epochs == [1, 2, 1, 3]
    assert settings == [config, CONFIG, config]
    assert resumed.history.equals(expected.history)
    weights = expected.model.state_dict()
    assert all(value.equal(weights[key]) for key, value in resumed.model.state_dict().items())
    other = checkpoint.with_suffix("")  # the folder with the hash in its name
    assert sorted(tmp_path.iterdir()) == [folder, other]
    assert sorted(path.name for path in other.iterdir()) == [
        "history.csv",
        "record.json",
        "weights.pt",
    ]


def test_a_run_that_cannot_be_saved_keeps_its_checkpoint(sample, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise runs.TrainedModelError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(runs, "save_trained", full)
        with pytest.raises(runs.TrainedModelError, match="no room"):
            runs.load_or_train(tmp_path / "run", "dilated_cnn", sample, CONFIG, sample=True)
    monkeypatch.setattr(
        "fmnist_lib.training.loop.train_one_epoch", None
    )  # nothing is trained again
    runs.load_or_train(tmp_path / "run", "dilated_cnn", sample, CONFIG, sample=True)
    assert list(tmp_path.iterdir()) == [tmp_path / "run"]
