import json
import warnings
from importlib.metadata import version

import pytest
import torch
from bits import Malicious, same_bits, same_weights

from fmnist_lib import trained as library
from fmnist_lib.common import digest
from fmnist_lib.download import SHA256
from fmnist_lib.models import build_model
from fmnist_lib.training import TrainConfig, fit

CONFIG = TrainConfig(epochs=1, device="cpu")
FILES = ["history.csv", "record.json", "weights.pt"]


pytestmark = pytest.mark.filterwarnings("ignore:no .* trained with these settings")


@pytest.fixture(scope="module")
def trained(sample):
    return fit(build_model("dilated_cnn", seed=0), sample.train, sample.validation, CONFIG)


@pytest.fixture
def folder(tmp_path, trained):
    return library.save_trained(tmp_path / "net", "dilated_cnn", trained, {"val_accuracy": 0.5})


def test_a_trained_network_comes_back_as_it_was(folder, trained, sample):
    loaded, record = library.load_trained(folder)
    assert same_bits(loaded, trained)
    assert loaded.config == CONFIG
    assert not loaded.model.training
    assert record["metrics"] == {"val_accuracy": 0.5}
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert record["network"] == "dilated_cnn"
    assert record["config"]["lr"] == 3e-4
    assert record["data"] == SHA256
    assert record["machine"]["packages"]["torch"] == version("torch")
    assert record["machine"]["threads"] == torch.get_num_threads()
    assert record["machine"]["cpu_capability"] == torch.backends.cpu.get_cpu_capability()


def test_the_description_of_the_machine_is_one_line():
    line = library.describe_machine()
    assert len(line.splitlines()) == 1
    assert f"torch {version('torch')}" in line


def test_a_trained_network_is_replaced_whole(folder, trained):
    library.save_trained(folder, "dilated_cnn", trained, {"val_accuracy": 0.75}, sample=True)
    _, record = library.load_trained(folder)
    assert record["metrics"] == {"val_accuracy": 0.75}
    assert record["data"] == "sample"


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_reported(folder, file):
    (folder / file).unlink()
    with pytest.raises(library.TrainedModelError, match=f"no trained network: {file} is missing"):
        library.load_trained(folder)


def test_weights_of_the_other_network_are_refused(folder):
    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps(record | {"network": "cnn"}))
    with pytest.raises(library.TrainedModelError, match="cannot be read"):
        library.load_trained(folder)


def test_loading_executes_nothing(folder, tmp_path):
    trap, path = Malicious(str(tmp_path / "trap")), folder / "weights.pt"
    torch.save({"features.0.weight": trap}, path)
    record = json.loads((folder / "record.json").read_text())
    record["sha256"]["weights.pt"] = digest(path)
    (folder / "record.json").write_text(json.dumps(record))
    with pytest.raises(library.TrainedModelError, match=r"cannot be read .*UnpicklingError"):
        library.load_trained(folder)
    assert not (tmp_path / "trap").exists()


def test_files_that_do_not_belong_together_are_refused(folder):
    torch.save(build_model("dilated_cnn", seed=1).state_dict(), folder / "weights.pt")
    with pytest.raises(library.TrainedModelError, match=r"weights.pt is not the file that was sav"):
        library.load_trained(folder)


def test_a_network_with_the_same_settings_is_loaded_and_any_other_kept(
    sample, tmp_path, monkeypatch
):
    trainings = []

    def counted(*args, **kwargs):
        trainings.append(args)
        return fit(*args, **kwargs)

    monkeypatch.setattr(library, "fit", counted)

    def get(name="cnn", config=CONFIG, is_sample=True):
        return library.load_or_train(tmp_path / "net", name, sample, config, sample=is_sample)

    with pytest.warns(UserWarning, match=f"kept in {tmp_path / 'net'}; training one"):
        made = get()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = get()
    assert len(trainings) == 1
    assert same_weights(made.model, loaded.model)
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
    (tmp_path / "net" / "weights.pt").write_bytes(b"damaged")
    get()
    assert len(trainings) == 5


def test_interrupted_training_continues_and_leaves_no_checkpoint(sample, tmp_path, monkeypatch):
    folder, config = tmp_path / "net", TrainConfig(epochs=3, device="cpu")
    settings, epochs, stop_after = [], [], [2]

    def watched(*args, listeners, **kwargs):
        def watch(state):
            epochs.append(len(state.history))
            if len(state.history) in stop_after:
                raise KeyboardInterrupt

        settings.append(args[3])
        return fit(*args, listeners=[*listeners, watch], **kwargs)

    def get(config, name="dilated_cnn"):
        return library.load_or_train(folder, name, sample, config, sample=True)

    expected = fit(build_model("dilated_cnn", 0), sample.train, sample.validation, config)
    monkeypatch.setattr(library, "fit", watched)
    with pytest.raises(KeyboardInterrupt):
        get(config)
    (checkpoint,) = tmp_path.iterdir()
    assert checkpoint.name.startswith("net-")
    # Another network, trained meanwhile, takes the folder and does not meet the checkpoint.
    stop_after.clear()
    get(CONFIG)
    assert epochs == [1, 2, 1]
    assert sorted(tmp_path.iterdir()) == [folder, checkpoint]
    resumed = get(config)
    assert epochs == [1, 2, 1, 3]
    assert settings == [config, CONFIG, config]
    assert same_bits(resumed, expected)
    other = checkpoint.with_suffix("")  # the folder with the hash in its name
    assert sorted(tmp_path.iterdir()) == [folder, other]
    assert same_bits(library.load_trained(other)[0], expected)


def test_a_network_that_cannot_be_saved_keeps_its_checkpoint(sample, tmp_path, monkeypatch):
    def get():
        library.load_or_train(tmp_path / "net", "dilated_cnn", sample, CONFIG, sample=True)

    def full(*args, **kwargs):
        raise library.TrainedModelError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(library, "save_trained", full)
        with pytest.raises(library.TrainedModelError, match="no space"):
            get()
    monkeypatch.setattr("fmnist_lib.training.loop.TrainingState.batches", None)  # not again
    get()
    assert list(tmp_path.iterdir()) == [tmp_path / "net"]
