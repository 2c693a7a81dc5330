"""A training run that is interrupted and started again ends with the bits of one that was not."""

import io
import json
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from fmnist_lib.models import build_model
from fmnist_lib.trained import TrainedModelError, save_trained
from fmnist_lib.training import Checkpoint, TrainConfig, acceleration, fit, listeners, loop
from fmnist_lib.training.checkpoints import CheckpointError

# 200 images in batches of 48: five steps per epoch, the last one short.
QUICK = TrainConfig(epochs=3, batch_size=48, lr=3e-3, device="cpu")
ONE_CYCLE = replace(QUICK, schedule="one-cycle", weight_decay=0.05, label_smoothing=0.1)

needs_compiler = pytest.mark.skipif(
    acceleration._compiler_problem("cpu") is not None, reason="needs a C++ compiler"
)
needs_bf16 = pytest.mark.skipif(
    not acceleration.supports_bf16(torch.device("cpu")), reason="needs a processor with bfloat16"
)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


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
        assert "remove this one to start over" in str(caught.value)

    return refused


def same_bits(one, other):
    # By their bytes, since -0.0 == 0.0; and in the order of rows and columns.
    one_bits, other_bits = (
        [
            value.cpu().contiguous().numpy().tobytes()
            for value in trained.model.state_dict().values()
        ]
        for trained in (one, other)
    )
    return (
        one.history.to_csv(float_format="%.17g") == other.history.to_csv(float_format="%.17g")
        and one.history.dtypes.equals(other.history.dtypes)
        and one.best_epoch == other.best_epoch
        and one_bits == other_bits
    )


def content(path):
    return torch.load(path, weights_only=True)


# --- real kills -------------------------------------------------------------------------------

PROCESS = """
import hashlib, json, os, signal, sys
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
bits = hashlib.sha256()
for value in result.model.state_dict().values():
    bits.update(value.contiguous().numpy().tobytes())
print(json.dumps([trained, result.history.to_dict("records"), result.best_epoch, bits.hexdigest()]))
"""


def in_a_process(path="", place="nowhere", number=0):
    command = [sys.executable, "-c", PROCESS, str(path), place, str(number)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


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


# --- interruptions in one process -------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "config"),
    [
        pytest.param(cnn, replace(QUICK, shuffle=False), id="file order"),
        pytest.param(linear, QUICK, id="shuffled"),
        pytest.param(cnn, ONE_CYCLE, id="one-cycle, shuffled"),
        pytest.param(linear, replace(QUICK, flip=True, shuffle=False), id="flipped"),
        pytest.param(with_random_layers, replace(ONE_CYCLE, shift=1), id="random layers, moved"),
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
    # Had the plain path been taken, the bits would be the same.
    assert not same_bits(train(with_random_layers, replace(config, compile=False)), whole)


def test_the_comparison_sees_the_smallest_difference(train):
    trained, other = train(), train()
    assert same_bits(trained, other)
    with torch.no_grad():
        other.model[1].bias[9] = other.model[1].bias[9].nextafter(torch.tensor(1.0))
    assert not same_bits(trained, other)
    other = train()
    other.history.loc[2, "val_loss"] = np.nextafter(other.history.loc[2, "val_loss"], 0)
    assert not same_bits(trained, other)


@pytest.mark.parametrize("stop_after", [1, 2, 3])
@pytest.mark.parametrize(
    ("accuracies", "best"), [([0.5, 0.8, 0.8, 0.6], 2), ([0.9, 0.8, 0.7, 0.9], 1)]
)
def test_the_weights_of_the_best_epoch_are_kept(
    train, tmp_path, monkeypatch, stop_after, accuracies, best
):
    path, config, snapshots, left = tmp_path / "net.pt", replace(QUICK, epochs=4), [], []

    def measured(model, split, criterion):
        snapshots.append(model[1].weight.detach().clone())
        return 1.0, left.pop(0)

    monkeypatch.setattr(loop, "loss_and_accuracy", measured)
    left += accuracies
    with pytest.raises(Interrupted):
        train(config=config, path=path, stop_after=stop_after)
    trained = train(config=config, path=path)
    assert not left
    assert trained.best_epoch == best
    assert trained.model[1].weight.equal(snapshots[best - 1])


def test_the_bar_starts_at_the_steps_already_done(train, saved, monkeypatch):
    starts, make_bar = [], listeners.progress_bar

    def watched(total, description, **options):
        starts.append((options["initial"], total))
        return make_bar(total, description, **options)

    monkeypatch.setattr(listeners, "progress_bar", watched)
    for path in (None, saved, saved):  # the last one is finished
        train(path=path)
    assert starts == [(0, 15), (5, 15), (15, 15)]


@pytest.mark.parametrize("device", ["auto", "cpu:0"])
def test_the_name_of_the_device_plays_no_part(train, saved, device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    seen = []
    train(config=replace(QUICK, device=device), path=saved, seen=seen)
    assert seen == [2, 3]


def test_memory_layout_is_kept(train, tmp_path):
    """Channels last, for weights and for what Adam keeps: else the next bits would differ."""
    path = tmp_path / "net.pt"
    whole = train(cnn, path=path)
    layouts = {value.stride() for value in content(path)["optimizer"]["state"][2].values()}
    weight = whole.model.features[3].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert layouts == {(), weight.stride()}
    resumed = train(cnn, path=path).model.features[3].weight
    assert resumed.stride() == weight.stride()


# --- files that are refused -------------------------------------------------------------------


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def as_bytes(saved):
    torch.save(saved, buffer := io.BytesIO())
    return buffer.getvalue()


def test_a_file_cut_off_anywhere_is_refused(saved, refused):
    whole = saved.read_bytes()
    for length in [*range(0, len(whole), len(whole) // 20), len(whole) - 1]:
        saved.write_bytes(whole[:length])
        refused(saved, "cannot be read as a checkpoint")


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


@pytest.mark.parametrize("hidden", [True, False])
def test_loading_executes_nothing(saved, refused, tmp_path, hidden):
    trap = Malicious(str(tmp_path.parent / f"trap-{hidden}"))
    forged = as_bytes(content(saved) | {"history": [trap]}) if hidden else pickle.dumps(trap)
    saved.write_bytes(forged)
    refused(saved, "UnpicklingError" if hidden else "BadZipFile")
    assert not os.path.exists(trap.path)
    # The trap works where it is loaded carelessly.
    pickle.loads(pickle.dumps(trap)).close()
    assert os.path.exists(trap.path)


@pytest.mark.parametrize(
    "foreign",
    [
        b"",
        b"epoch,train_loss\n1,0.5\n",
        as_bytes({"history": []}),
        as_bytes([1, 2]),
        as_bytes(torch.ones(2)),
    ],
)
def test_a_foreign_file_is_refused(refused, tmp_path, foreign):
    path = tmp_path / "net.pt"
    path.write_bytes(foreign)
    refused(path, "cannot be read as a checkpoint .*, expected an intact file")


def dilated_cnn():
    model = cnn()
    model.features[0].dilation = model.features[0].padding = (2, 2)
    return model


@pytest.mark.parametrize(
    ("build", "other", "message"),
    [
        (
            linear,
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 12)),
            r"tensor 1.weight is \(10, 784\) torch.float32, expected \(12, 784\) torch.float32",
        ),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.Dropout(0.5)),
            linear,
            r"layer 2 is Dropout\(p=0.5.*\), expected nothing",
        ),
        (
            cnn,
            dilated_cnn,  # with the same tensors
            r"layer features.0 is .*padding=\(1, 1\)\), expected .*dilation=\(2",
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


OTHER_SETTINGS = TrainConfig(
    epochs=4,
    batch_size=64,
    lr=1e-3,
    shuffle=False,
    seed=1,
    schedule="one-cycle",
    weight_decay=0.1,
    label_smoothing=0.1,
    flip=True,
    shift=1,
    precision="bf16",
    compile=True,
)


@pytest.mark.filterwarnings("ignore:precision is", "ignore:compile is")
def test_the_checkpoint_of_other_settings_is_refused(saved, refused):
    for name in vars(QUICK).keys() - {"device"}:
        value = getattr(OTHER_SETTINGS, name)
        message = f"its setting {name} is {getattr(QUICK, name)}, expected {value}"
        refused(saved, message, config=replace(QUICK, **{name: value}))


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("what", ["fewer", "image", "label"])
def test_the_checkpoint_of_other_data_is_refused(saved, refused, data, split, what):
    part = getattr(data, split)
    part = replace(part, images=part.images.clone(), labels=part.labels.clone())
    n = len(part)
    if what == "fewer":
        part = part[: n - 1]
    elif what == "image":
        part.images[-1, 0, 27, 27] += 0.5
    else:
        part.labels[-1] = (part.labels[-1] + 1) % 10
    message = rf"its {split} split is {n} images of SHA-256 \w+, expected {len(part)} images of SHA"
    refused(saved, message, data=replace(data, **{split: part}))


def test_the_checkpoint_of_another_kind_of_device_is_refused(saved, refused):
    state = content(saved)
    state["training"]["kind of device"] = "cuda"
    torch.save(state, saved)
    refused(saved, "its kind of device is cuda, expected cpu")


# --- places that are refused ------------------------------------------------------------------


def test_a_folder_is_refused(train, tmp_path):
    with pytest.raises(CheckpointError, match="is a folder, expected a file; name one in it"):
        train(path=tmp_path)


def test_a_place_that_cannot_be_written_is_refused_before_training(train, tmp_path):
    (tmp_path / "file").write_text("a file where the folder should be")
    seen = []
    with pytest.raises(CheckpointError, match=r"net.pt cannot be written"):
        train(path=tmp_path / "file" / "net.pt", seen=seen)
    assert not seen


def test_a_full_disk_is_one_sentence(train, tmp_path, mount_disk):
    """PyTorch, writing to the disk itself, would raise a RuntimeError."""
    disk = mount_disk(tmp_path / "disk", "64k")
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 40))  # 125 kB
    with pytest.raises(CheckpointError, match=r"cannot be written .*No space left"):
        train(lambda: network, path=disk / "net.pt")
    with pytest.raises(TrainedModelError, match=r"cannot be written .*No space left"):
        save_trained(disk, "linear", train(lambda: network), {})
