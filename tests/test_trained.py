import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import pytest
import torch
from bits import Malicious, same_bits, same_weights
from torch import nn

from fmnist_lib import trained as library
from fmnist_lib.common import digest
from fmnist_lib.data import SAMPLE
from fmnist_lib.models import MODELS, ConvNet, build_model
from fmnist_lib.training import TrainConfig, acceleration, fit

CONFIG = TrainConfig(epochs=1, device="cpu")
FILES = [".lock", "history.csv", "record.json", "weights.pt"]
needs_unix = pytest.mark.skipif(os.name != "posix", reason="needs devices as Unix has them")


pytestmark = [
    pytest.mark.filterwarnings("ignore:.* trained with these settings"),
    pytest.mark.filterwarnings("ignore:.*it is left as it is"),
]


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
    assert record["data"] == trained.data
    assert record["machine"]["packages"]["torch"] == version("torch")
    assert record["machine"]["threads"] == torch.get_num_threads()
    assert record["machine"]["cpu_capability"] == torch.backends.cpu.get_cpu_capability()


def test_the_description_of_the_machine_is_one_line():
    line = library.describe_machine()
    assert len(line.splitlines()) == 1
    assert f"torch {version('torch')}" in line


def test_a_trained_network_is_replaced_whole(folder, trained, sample):
    library.save_trained(folder, "dilated_cnn", trained, {"val_accuracy": 0.75}, test=sample.test)
    _, record = library.load_trained(folder)
    assert record["metrics"] == {"val_accuracy": 0.75}
    assert record["data"]["test"] == {"images": 500, "sha256": SAMPLE["test"]}


@pytest.mark.parametrize("name", ["nothing", "record.json"])
def test_a_folder_without_a_record_holds_no_network(folder, name):
    (folder / "record.json").unlink()
    with pytest.raises(
        library.NoTrainedModelError, match=r"no trained network: record\.json is mi"
    ):
        library.load_trained(folder if name == "record.json" else folder / name)


def edit(folder, **changes):
    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps(record | changes))


def unknown_setting(folder):
    record = json.loads((folder / "record.json").read_text())
    edit(folder, config=record["config"] | {"dropout": 0.5})


def device(folder):
    (folder / "weights.pt").unlink()
    (folder / "weights.pt").symlink_to("/dev/zero")


def other_network(folder):
    edit(folder, network="cnn")


UNREADABLE = [
    (lambda folder: (folder / "weights.pt").unlink(), r"weights.pt is missing"),
    (lambda folder: (folder / "history.csv").unlink(), r"history.csv is missing"),
    (lambda folder: (folder / "weights.pt").write_bytes(b"x"), "weights.pt is not the file that"),
    (unknown_setting, "dropout"),
    (other_network, "RuntimeError"),
    (lambda folder: edit(folder, network="mine"), "no network 'mine'"),
    (lambda folder: (folder / "record.json").write_text("{}"), "KeyError: 'network'"),
    (lambda folder: (folder / "record.json").write_text("[" * 10**5), "RecursionError"),
    (lambda folder: edit(folder, metrics=None), "its metrics is None, expected a dict"),
    (lambda folder: edit(folder, sha256={}), "sha256 must list weights.pt and history.csv"),
    (lambda folder: edit(folder, sha256={"../../etc/passwd": "0"}), "sha256 must list"),
    pytest.param(device, r"weights.pt is missing", marks=needs_unix),
]


@pytest.mark.parametrize(("spoil", "reason"), UNREADABLE)
def test_what_cannot_be_read_is_refused_and_never_overwritten(folder, sample, spoil, reason):
    spoil(folder)
    before = {path.name: path.lstat().st_mtime_ns for path in folder.iterdir()}
    with pytest.raises(library.TrainedModelError, match=f"cannot be read .*{reason}") as caught:
        library.load_trained(folder)
    assert len(str(caught.value).splitlines()) == 1
    for trains in (1, 0):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            library.load_or_train(folder, "dilated_cnn", sample, CONFIG)
        first, *others = [str(warning.message) for warning in said]
        assert first.endswith("it is left as it is")
        assert len(others) == trains
        assert {path.name: path.lstat().st_mtime_ns for path in folder.iterdir()} == before
    (neighbour,) = set(folder.parent.iterdir()) - {folder}
    spoil(neighbour)
    with pytest.raises(library.TrainedModelError, match=r"hold other networks.*another folder"):
        library.load_or_train(folder, "dilated_cnn", sample, CONFIG)


def test_loading_executes_nothing(folder, tmp_path):
    trap, path = Malicious(str(tmp_path / "trap")), folder / "weights.pt"
    torch.save({"features.0.weight": trap}, path)
    record = json.loads((folder / "record.json").read_text())
    edit(folder, sha256=record["sha256"] | {"weights.pt": digest(path)})
    with pytest.raises(library.TrainedModelError, match="it holds objects that can execute code"):
        library.load_trained(folder)
    assert not (tmp_path / "trap").exists()
    torch.load(path, weights_only=False)["features.0.weight"].close()  # as a careless one does
    assert (tmp_path / "trap").exists()


class Doubled(ConvNet):
    """Has the layers of its parent, and another forward pass."""

    factor = 2

    def forward(self, images):
        return self.factor * super().forward(images)


def almost():
    model = Doubled()
    model.factor = 1.005
    return model


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (torch.compile(build_model("cnn")), "cnn"),
        (nn.DataParallel(build_model("cnn")), "cnn"),
        (build_model("padded_dilated_cnn"), "cnn"),  # with weights of the same shapes
        (Doubled(), "cnn"),
        (almost(), "cnn"),
        (nn.Sequential(nn.Flatten(), nn.Linear(784, 26)), "cnn"),
    ],
)
def test_a_network_that_could_not_be_loaded_again_is_not_saved(tmp_path, trained, model, name):
    other = replace(trained, model=model)
    with pytest.raises(library.TrainedModelError, match="with its weights does not"):
        library.save_trained(tmp_path / "net", name, other, {})
    assert not list(tmp_path.iterdir())


def test_a_network_of_your_own_is_kept_under_its_name(tmp_path, sample, monkeypatch):
    monkeypatch.setitem(MODELS, "doubled", Doubled)
    made = library.load_or_train(tmp_path / "net", "doubled", sample, CONFIG)
    loaded = library.load_or_train(tmp_path / "net", "doubled", sample, CONFIG)
    assert isinstance(loaded.model, Doubled)
    assert same_bits(made, loaded)
    # Now the name stands for another network, into which the weights fit, too.
    monkeypatch.setitem(MODELS, "doubled", ConvNet)
    with pytest.raises(library.TrainedModelError, match=r"'doubled'. now makes another network"):
        library.load_trained(tmp_path / "net")
    assert type(library.load_or_train(tmp_path / "net", "doubled", sample, CONFIG).model) is ConvNet
    assert len(list(tmp_path.iterdir())) == 2


def test_metrics_become_plain_numbers(tmp_path, trained):
    metrics = {
        "a": np.float32(0.5),
        "b": torch.tensor(3),
        "c": {"d": float("nan")},
        "e": np.int64(7),
        "f": [np.float32(0.5), (1, float("inf"))],
        "g": torch.arange(2),
    }
    folder = library.save_trained(tmp_path / "net", "dilated_cnn", trained, metrics)
    text = (folder / "record.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["metrics"] == {
        "a": 0.5,
        "b": 3,
        "c": {"d": None},
        "e": 7,
        "f": [0.5, [1, None]],
        "g": [0, 1],
    }


LOOP = {}
LOOP["a"] = LOOP


@pytest.mark.parametrize(
    "metrics",
    [None, [1], 1, {"a": {1}}, {"a": 1j}, {"a": b""}, {1: 0.5}, {None: 0.5}, {(1, 2): 0.5}, LOOP],
)
def test_metrics_that_would_not_come_back_are_refused(folder, trained, metrics):
    with pytest.raises(library.TrainedModelError, match=r"metrics, .* expected a dict of str"):
        library.save_trained(folder, "dilated_cnn", trained, metrics)
    assert library.load_trained(folder)[1]["metrics"] == {"val_accuracy": 0.5}


@pytest.fixture
def trainings(monkeypatch):
    """The settings of each training run that `load_or_train` starts."""
    started = []

    def counted(model, train, validation, config, **options):
        started.append(config)
        return fit(model, train, validation, config, **options)

    monkeypatch.setattr(library, "fit", counted)
    return started


def test_the_same_network_is_loaded_and_any_other_left_alone(sample, tmp_path, trainings):
    def get(name="cnn", data=sample, config=CONFIG):
        return library.load_or_train(tmp_path / "net", name, data, config)

    def train(**changes):
        return {"data": replace(sample, train=replace(sample.train, **changes))}

    with pytest.warns(UserWarning, match=f"{tmp_path / 'net'} holds no cnn .*; training one"):
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
        {"config": TrainConfig(epochs=1, shuffle=False, device="cpu")},
        train(labels=(sample.train.labels + 1) % 10),
        train(images=sample.train.images.flip(0)),
        {"data": replace(sample, train=sample.train[:400])},
        {"data": replace(sample, validation=sample.validation[:100])},
    ]
    for n, other in enumerate(others, start=2):
        trained = get(**other)
        assert same_bits(get(**other), trained)
        assert len(trainings) == n
        assert trained.data == get(**other).data
    assert len(list(tmp_path.iterdir())) == 8
    assert same_bits(get(), made)
    assert len(trainings) == 8


@pytest.mark.parametrize("file", ["weights.pt", "history.csv"])
def test_files_without_a_record_are_left_alone(sample, tmp_path, file):
    (tmp_path / "net").mkdir()
    (mine := tmp_path / "net" / file).write_text("of another program, or of an older version")
    with pytest.warns(UserWarning, match="record.json is missing.*; it is left as it is"):
        library.load_or_train(tmp_path / "net", "cnn", sample, CONFIG)
    assert mine.read_text() == "of another program, or of an older version"
    (neighbour,) = set(tmp_path.iterdir()) - {tmp_path / "net"}
    assert library.load_trained(neighbour)[0].config == CONFIG
    # Those of a saving that was killed are no one's.
    (neighbour / "record.json").unlink()
    (neighbour / ".part-killed").mkdir()
    library.load_or_train(tmp_path / "net", "cnn", sample, CONFIG)
    assert library.load_trained(neighbour)[0].config == CONFIG


def test_the_record_keeps_the_accuracy_of_the_best_epoch(sample, tmp_path):
    config = TrainConfig(epochs=6, batch_size=20, lr=1e-2, device="cpu")
    trained = library.load_or_train(tmp_path / "net", "cnn", sample, config)
    best = trained.history["val_acc"].max()
    assert best > trained.history["val_acc"].iloc[-1]
    _, record = library.load_trained(tmp_path / "net")
    assert record["metrics"] == {"val_accuracy": best}


def test_a_fallback_is_recorded_and_a_better_machine_trains_again(
    sample, tmp_path, monkeypatch, trainings
):
    def get(config):
        return library.load_or_train(tmp_path / "net", "cnn", sample, config)

    asked = replace(CONFIG, precision="bf16", compile=True)
    monkeypatch.setattr(acceleration, "supports_bf16", lambda device: False)
    monkeypatch.setattr(acceleration, "_compiler_problem", lambda kind: "none")
    with pytest.warns(UserWarning, match="training continues"):
        assert get(asked).config == CONFIG
    assert get(asked).config == CONFIG  # as good as it gets here
    assert get(CONFIG).config == CONFIG
    assert len(trainings) == 1
    monkeypatch.setattr(acceleration, "supports_bf16", lambda device: True)
    better = replace(CONFIG, precision="bf16")
    assert get(asked).config == better
    assert len(trainings) == 2
    # What was trained on a better machine is what was asked for on a poorer one, too.
    monkeypatch.setattr(acceleration, "supports_bf16", lambda device: False)
    assert get(CONFIG).config == CONFIG
    assert len(trainings) == 2


def test_random_numbers_do_not_depend_on_what_is_kept(sample, tmp_path):
    numbers = []
    for _ in range(2):
        torch.manual_seed(1)
        library.load_or_train(tmp_path / "net", "cnn", sample, replace(CONFIG, seed=7))
        numbers.append(torch.rand(3))
    torch.manual_seed(1)
    assert numbers[0].equal(numbers[1])
    assert numbers[0].equal(torch.rand(3))


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
        return library.load_or_train(folder, name, sample, config)

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


def test_a_network_saved_meanwhile_is_kept(sample, tmp_path, monkeypatch):
    other = replace(CONFIG, lr=1e-3)

    def overtaken(model, train, validation, config, **options):
        if not (tmp_path / "net").exists():
            made = fit(build_model("cnn", 0), train, validation, other, progress=False)
            library.save_trained(tmp_path / "net", "cnn", made, {})
        return fit(model, train, validation, config, **options)

    monkeypatch.setattr(library, "fit", overtaken)
    assert library.load_or_train(tmp_path / "net", "cnn", sample, CONFIG).config == CONFIG
    kept = [library.load_trained(folder)[0].config for folder in sorted(tmp_path.iterdir())]
    assert kept == [other, CONFIG]


def test_a_network_that_cannot_be_saved_keeps_its_checkpoint(sample, tmp_path, monkeypatch):
    def get():
        library.load_or_train(tmp_path / "net", "dilated_cnn", sample, CONFIG)

    def full(*args, **kwargs):
        raise library.TrainedModelError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(library, "staged", full)
        with pytest.raises(library.TrainedModelError, match="no space"):
            get()
    monkeypatch.setattr("fmnist_lib.training.loop.TrainingState.batches", None)  # not again
    get()
    assert list(tmp_path.iterdir()) == [tmp_path / "net"]


PROCESS = """
import sys
from fmnist_lib.data import load_fashion_mnist
from fmnist_lib.trained import load_or_train, load_trained, save_trained
from fmnist_lib.training import TrainConfig

folder, lr = sys.argv[1], float(sys.argv[2])
config = TrainConfig(epochs=2, lr=lr, device="cpu")
data = load_fashion_mnist(sample=True)
trained = load_or_train(folder, "cnn", data, config)
for n in range(20):
    save_trained(folder + "-replaced", "cnn", trained, {"lr": lr, "n": n})
"""


@pytest.mark.slow
def test_processes_at_one_folder_lose_nothing(sample, tmp_path):
    rates = (1e-3, 1e-3, 2e-3, 3e-3)
    command = [sys.executable, "-W", "ignore", "-c", PROCESS, str(tmp_path / "net")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    processes = [subprocess.Popen([*command, str(lr)], env=environment) for lr in rates]
    assert [process.wait() for process in processes] == [0] * 4
    folders = [path for path in tmp_path.iterdir() if path.name != "net-replaced"]
    kept = [library.load_trained(path)[0].config.lr for path in folders]
    assert sorted(kept) == sorted(set(rates))
    assert library.load_trained(tmp_path / "net-replaced")[1]["metrics"]["n"] == 19
