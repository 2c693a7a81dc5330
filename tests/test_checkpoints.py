"""A training run that is interrupted and started again ends with the bits of one that was not."""

import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch
from bits import Malicious, needs_bf16, needs_compiler, needs_gpu, same_bits
from torch import nn

from fmnist_lib.models import MODELS, build_model
from fmnist_lib.trained import TrainedModelError, save_trained
from fmnist_lib.training import Checkpoint, TrainConfig, fit, listeners, loop
from fmnist_lib.training.checkpoints import CheckpointError, UnwritableError

# 200 images in batches of 48: five steps per epoch, the last one short.
QUICK = TrainConfig(epochs=3, batch_size=48, lr=3e-3, device="cpu")
ONE_CYCLE = replace(QUICK, schedule="one-cycle", weight_decay=0.05, label_smoothing=0.1)


class Interrupted(Exception):
    pass


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # faster for so little work
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(sample):
    return replace(sample, train=sample.train[:200])


def linear(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


def cnn(seed=0):
    return build_model("cnn", seed)


def with_random_layers(seed=0):
    """Dropout draws random numbers; batch normalisation keeps buffers, one of whole numbers."""
    torch.manual_seed(seed)
    layers = nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(676, 10))


@pytest.fixture
def train(data):
    def train(build=linear, config=QUICK, path=None, stop_after=None, seen=None):
        """Train; ``seen`` gathers the epochs trained, after one of which an exception is raised."""

        def watch(state):
            epoch = state.history[-1]["epoch"]
            if seen is not None:
                seen.append(epoch)
            if epoch == stop_after:
                raise Interrupted

        model, numbers = build(), torch.get_rng_state()
        keep = [Checkpoint(path)] if path else []
        try:
            return fit(model, data.train, data.validation, config, listeners=[*keep, watch])
        finally:
            assert torch.get_rng_state().equal(numbers)  # the caller's are left alone

    return train


@pytest.fixture
def saved(train, tmp_path):
    """A checkpoint of `QUICK` with the linear model, after the first of three epochs."""
    path = tmp_path / "net.pt"
    with pytest.raises(Interrupted):
        train(path=path, stop_after=1)
    return path


@pytest.fixture
def refused(data):
    """Start training from a file, which must be refused in one sentence and left as it is."""

    def refused(path, match, build=linear, config=QUICK, data=data):
        before = path.read_bytes()
        with pytest.raises(CheckpointError, match=match) as caught:
            fit(build(), data.train, data.validation, config, listeners=[Checkpoint(path)])
        assert path.read_bytes() == before
        assert os.listdir(path.parent) == [path.name]
        assert len(str(caught.value).splitlines()) == 1
        assert str(path) in str(caught.value)
        assert "move this one away to start over" in str(caught.value)

    return refused


def content(path):
    return torch.load(path, weights_only=True)


PROCESS = """
import json, os, signal, sys
import torch
from torch import nn
from fmnist_lib import common
from fmnist_lib.data import load_fashion_mnist
from fmnist_lib.training import Checkpoint, TrainConfig, fit

path, place, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
counts = {"epoch": 0, "step": 0, "write": 0, "move": 0}

def reach(name):
    counts[name] += 1
    if place == name and counts[name] == number:
        os.kill(os.getpid(), signal.SIGKILL)

class Net(nn.Sequential):
    def forward(self, images):
        if self.training:
            reach("step")
        return super().forward(images)

def spy(function, name):
    return lambda *args: (reach(name), function(*args))[1]

common.os.fsync = spy(os.fsync, "write")
common.os.replace = spy(os.replace, "move")

def watch(state):
    trained.append(state.history[-1]["epoch"])
    reach("epoch")

torch.manual_seed(0)
layers = nn.Conv2d(1, 8, 3, stride=2), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(1352, 10)
config = TrainConfig(
    epochs=3, batch_size=96, lr=1e-2, schedule="one-cycle", flip=True, shift=1, device="cpu"
)
data, trained = load_fashion_mnist(sample=True), []
listeners = [Checkpoint(path), watch] if path else [watch]
result = fit(Net(*layers), data.train, data.validation, config, listeners=listeners)
bits = common.digest(*(v.contiguous().numpy() for v in result.model.state_dict().values()))
print(json.dumps([trained, result.history.to_dict("records"), result.best_epoch, bits]))
"""


def in_a_process(path="", place="nowhere", number=0):
    command = [sys.executable, "-c", PROCESS, str(path), place, str(number)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_a_run_killed_again_and_again_ends_with_the_same_bits(tmp_path):
    kills = [  # where, at which time in that process, and the epochs in the file from then on
        ("step", 5, 0),  # in the first epoch, of nine steps
        ("step", 14, 1),  # in the second epoch
        ("write", 1, 1),  # the second file is not all on the disk
        ("move", 2, 2),  # the third file is, but not in its place
        ("epoch", 1, 3),
    ]
    path = tmp_path / "folder" / "net.pt"
    for place, number, epochs in kills:
        killed = in_a_process(path, place, number)
        assert killed.returncode == -signal.SIGKILL, (place, killed.stderr)
        assert epochs == (len(content(path)["history"]) if path.exists() else 0), place
    trained, *outcome = json.loads(in_a_process(path).stdout)
    assert trained == []
    trained, *expected = json.loads(in_a_process().stdout)
    assert trained == [1, 2, 3]
    assert outcome == expected


@pytest.mark.parametrize(
    ("build", "config"),
    [
        pytest.param(cnn, replace(QUICK, shuffle=False), id="file order"),
        pytest.param(cnn, ONE_CYCLE, id="one-cycle, shuffled"),
        pytest.param(with_random_layers, replace(QUICK, shift=1), id="random layers, moved"),
        pytest.param(cnn, replace(ONE_CYCLE, precision="bf16"), marks=needs_bf16, id="bfloat16"),
        pytest.param(
            with_random_layers, replace(QUICK, device="cuda"), marks=needs_gpu, id="on a GPU"
        ),
    ],
)
def test_an_interrupted_run_ends_with_the_same_bits(train, tmp_path, build, config):
    path, seen = tmp_path / "net.pt", []
    whole = train(build, config)
    for k in (1, 2, 3):
        with pytest.raises(Interrupted):
            # The second and third with other first weights: those in the file count.
            train(partial(build, seed=k - 1), config, path, stop_after=k, seen=seen)
    resumed = train(partial(build, seed=3), config, path, seen=seen)  # nothing is left to train
    assert seen == [1, 2, 3]
    assert same_bits(resumed, whole)
    assert not resumed.model.training


@needs_compiler
def test_an_interrupted_compiled_run_ends_with_the_same_bits(train, tmp_path):
    path, config = tmp_path / "net.pt", replace(ONE_CYCLE, shift=1, compile=True)
    whole = train(with_random_layers, config)
    torch.compiler.reset()  # as in another process
    with pytest.raises(Interrupted):
        train(with_random_layers, config, path, stop_after=1)
    torch.compiler.reset()
    assert same_bits(train(with_random_layers, config, path), whole)


@pytest.mark.parametrize("stop_after", [1, 2])
def test_the_weights_of_the_best_epoch_are_kept(train, tmp_path, monkeypatch, stop_after):
    path, config, snapshots = tmp_path / "net.pt", replace(QUICK, epochs=4), []
    left = [0.5, 0.8, 0.8, 0.6]

    def measured(model, split):
        snapshots.append(model[1].weight.detach().clone())
        return 1.0, left.pop(0)

    monkeypatch.setattr(loop, "loss_and_accuracy", measured)
    with pytest.raises(Interrupted):
        train(config=config, path=path, stop_after=stop_after)
    trained = train(config=config, path=path)
    assert trained.best_epoch == 2
    assert trained.model[1].weight.equal(snapshots[1])


def test_the_bar_starts_at_the_steps_already_done(train, saved, monkeypatch):
    starts, make_bar = [], listeners.progress_bar

    def watched(total, description, **options):
        starts.append((options["initial"], total))
        return make_bar(total, description, **options)

    monkeypatch.setattr(listeners, "progress_bar", watched)
    for path in (None, saved, saved):  # the last one is finished
        train(path=path)
    assert starts == [(0, 15), (5, 15), (15, 15)]


def test_the_name_of_the_device_plays_no_part(train, saved):
    seen = []
    train(config=replace(QUICK, device="cpu:0"), path=saved, seen=seen)
    assert seen == [2, 3]


def as_bytes(saved):
    torch.save(saved, buffer := io.BytesIO())
    return buffer.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-1],
        lambda whole: b"epoch,train_loss\n1,0.5\n",
        lambda whole: as_bytes({"history": []}),
        lambda whole: as_bytes([1, 2]),
        *(
            lambda whole, change=change: as_bytes(torch.load(io.BytesIO(whole)) | change)
            for change in ({"history": "abc"}, {"random": []}, {"optimizer": {}}, {"training": [1]})
        ),
    ],
)
def test_what_is_not_a_whole_checkpoint_is_refused(saved, refused, damage):
    saved.write_bytes(damage(saved.read_bytes()))
    refused(saved, "cannot be read as a checkpoint .*, expected an intact file")


def test_a_file_with_any_bit_turned_is_refused_or_says_the_same(train, saved, refused):
    """Some bits of an archive mean nothing: its padding, the times of its members."""
    whole, expected, harmless = saved.read_bytes(), train(), 0
    places = [*range(0, 90, 5), *range(90, len(whole), len(whole) // 60), len(whole) - 1]
    for place in places:
        turned = bytearray(whole)
        turned[place] ^= 1 << (place % 8)
        saved.write_bytes(turned)
        try:
            refused(saved, "cannot be read as a checkpoint")
        except pytest.fail.Exception:  # nothing was raised
            assert same_bits(train(path=saved), expected)
            harmless += 1
    assert harmless < len(places) / 4


def test_loading_executes_nothing(saved, refused, tmp_path):
    trap = Malicious(str(tmp_path.parent / "trap"))
    saved.write_bytes(as_bytes(content(saved) | {"history": [trap]}))
    refused(saved, "holds objects that can execute code")
    assert not os.path.exists(trap.path)
    # The trap works where it is loaded carelessly.
    torch.load(saved, weights_only=False)["history"][0].close()
    assert os.path.exists(trap.path)


@pytest.mark.parametrize(
    ("build", "other", "message"),
    [
        (linear, lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 12)), r"tensor 1.weight is"),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.Dropout(0.5)),
            linear,
            r"layer 2 is Dropout\(p=0.5.*\), expected nothing",
        ),
        (
            linear,
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.Dropout(0.5)),
            r"layer 2 is missing, expected Dropout\(p=0.5",
        ),
        (
            cnn,
            lambda: build_model("padded_dilated_cnn"),  # with the same tensors
            r"network is ConvNet\(\), expected DilatedConvNet\(\)",
        ),
    ],
)
def test_the_checkpoint_of_another_network_is_refused(
    train, refused, tmp_path, build, other, message
):
    path = tmp_path / "net.pt"
    with pytest.raises(Interrupted):
        train(build, path=path, stop_after=1)
    refused(path, f"belongs to another training run: its {message}", other)


@pytest.mark.parametrize(("name", "value"), [("epochs", 4), ("lr", 1e-3), ("flip", True)])
def test_the_checkpoint_of_other_settings_is_refused(saved, refused, name, value):
    message = f"its setting {name} is {getattr(QUICK, name)}, expected {value}"
    refused(saved, message, config=replace(QUICK, **{name: value}))


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize(("what", "most"), [("images", 1), ("labels", 9)])
def test_the_checkpoint_of_other_data_is_refused(saved, refused, data, split, what, most):
    part = getattr(data, split)
    last = torch.arange(len(part)) == len(part) - 1
    changed = getattr(part, what).clone()
    changed[last] = most - changed[last]
    message = rf"its {split} split is {len(part)} images of SHA-256 \w+, expected {len(part)} "
    refused(saved, message, data=replace(data, **{split: replace(part, **{what: changed})}))


def test_the_checkpoint_of_another_kind_of_device_is_refused(saved, refused):
    state = content(saved)
    state["training"]["kind of device"] = "cuda"
    torch.save(state, saved)
    refused(saved, "its kind of device is cuda, expected cpu")


@pytest.mark.parametrize("name", ["n" * 300, "a\0b"])
def test_a_name_that_no_file_can_have_is_refused_before_training(train, tmp_path, name):
    seen = []
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        train(path=tmp_path / name, seen=seen)
    assert not seen


def test_a_place_that_cannot_be_written_is_refused_before_training(train, tmp_path):
    (tmp_path / "file").write_text("a file where the folder should be")
    seen = []
    with pytest.raises(UnwritableError, match=r"net.pt cannot be written"):
        train(path=tmp_path / "file" / "net.pt", seen=seen)
    assert not seen


def test_a_full_disk_is_reported_in_one_sentence(train, tmp_path, mount_disk, monkeypatch):
    """PyTorch, writing to the disk itself, would raise a RuntimeError."""
    disk = mount_disk(tmp_path / "disk", "64k")
    monkeypatch.setitem(MODELS, "wide", lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 40)))
    with pytest.raises(UnwritableError, match=r"cannot be written .*No space left"):
        train(MODELS["wide"], path=disk / "net.pt")  # 125 kB
    with pytest.raises(TrainedModelError, match=r"cannot be written .*No space left"):
        save_trained(disk, "wide", train(MODELS["wide"]), {})
