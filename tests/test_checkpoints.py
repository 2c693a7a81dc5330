"""A training that is interrupted and called again ends with the bits of one that was not."""

import errno
import hashlib
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

from fmnist_lib import cli
from fmnist_lib.models import build_model
from fmnist_lib.training import TrainConfig, acceleration, checkpoints, fit, loop
from fmnist_lib.training.checkpoints import Checkpoint, CheckpointError

# 200 images in batches of 48: five steps an epoch, the last one short.
QUICK = TrainConfig(epochs=3, batch_size=48, lr=3e-3, device="cpu")
ONE_CYCLE = replace(QUICK, schedule="one-cycle", weight_decay=0.05, label_smoothing=0.1)
FIRST_LINE = b"fmnist-lib checkpoint 1 %s\n"

needs_compiler = pytest.mark.skipif(
    acceleration._compiler_problem("cpu") is not None, reason="needs a C++ compiler"
)
needs_bf16 = pytest.mark.skipif(
    not acceleration.multiplies_bf16(torch.device("cpu")), reason="needs a processor with bfloat16"
)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


class Interrupted(Exception):
    pass


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so little work is done faster alone
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

        def watch(row):
            if seen is not None:
                seen.append(row["epoch"])
            if row["epoch"] == stop_after:
                raise Interrupted

        return fit(build(), data.train, data.validation, config, after_epoch=watch, checkpoint=path)

    return train


@pytest.fixture
def saved(train, tmp_path):
    """A checkpoint of `QUICK` with the linear model, after the first of three epochs."""
    path = tmp_path / "run.pt"
    with pytest.raises(Interrupted):
        train(path=path, stop_after=1)
    return path


@pytest.fixture
def refused(data):
    """Start a training on a file, which it must refuse in one sentence and leave as it is."""

    def refused(path, match, build=linear, config=QUICK, data=data):
        before = path.read_bytes()
        with pytest.raises(CheckpointError, match=match) as caught:
            fit(build(), data.train, data.validation, config, checkpoint=path)
        assert path.read_bytes() == before
        assert os.listdir(path.parent) == [path.name]
        assert len(str(caught.value).splitlines()) == 1
        assert str(path) in str(caught.value)

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


def forge(path, state):
    """Write a file with the right SHA-256, by the words of the module's docstring alone."""
    payload = io.BytesIO()
    torch.save(state, payload)
    payload = payload.getvalue()
    path.write_bytes(FIRST_LINE % hashlib.sha256(payload).hexdigest().encode() + payload)


def content(path):
    return torch.load(io.BytesIO(path.read_bytes().partition(b"\n")[2]), weights_only=True)


# --- real kills -------------------------------------------------------------------------------

PROCESS = """
import hashlib, json, os, signal, sys
import torch
from torch import nn
from fmnist_lib.training import checkpoints
from fmnist_lib.data import load_fashion_mnist
from fmnist_lib.training import TrainConfig, fit

path, place, number = sys.argv[1] or None, sys.argv[2], int(sys.argv[3])
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

checkpoints.os.fsync = spy(os.fsync, "write")
checkpoints.os.replace = spy(os.replace, "move")

def after_epoch(row):
    trained.append(row["epoch"])
    reach("epoch")

torch.manual_seed(0)
layers = nn.Conv2d(1, 8, 3, stride=2), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(1352, 10)
config = TrainConfig(
    epochs=3, batch_size=96, lr=1e-2, schedule="one-cycle", flip=True, shift=1, device="cpu"
)
data, trained = load_fashion_mnist(sample=True), []
options = {"after_epoch": after_epoch, "checkpoint": path}
result = fit(Net(*layers), data.train, data.validation, config, **options)
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
def test_a_training_killed_again_and_again_ends_with_the_same_bits(tmp_path):
    kills = [  # where, at which time in that process, and the epochs in the file from then on
        ("step", 5, 0),  # in the first epoch, of nine steps
        ("epoch", 1, 1),
        ("step", 5, 1),  # in the second epoch
        ("write", 1, 1),  # the second file is not all on the disk
        ("epoch", 1, 2),
        ("move", 1, 2),  # the third file is, but not in its place
        ("epoch", 1, 3),
    ]
    path = tmp_path / "runs" / "run.pt"
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
        pytest.param(linear, replace(ONE_CYCLE, shuffle=False), id="one-cycle, file order"),
        pytest.param(cnn, ONE_CYCLE, id="one-cycle, shuffled"),
        pytest.param(linear, replace(QUICK, flip=True, shuffle=False), id="flipped"),
        pytest.param(linear, replace(ONE_CYCLE, flip=True, shift=2), id="flipped and moved"),
        pytest.param(with_random_layers, QUICK, id="random layers"),
        pytest.param(with_random_layers, replace(ONE_CYCLE, shift=1), id="random layers, moved"),
        pytest.param(cnn, replace(ONE_CYCLE, precision="bf16"), marks=needs_bf16, id="bfloat16"),
        pytest.param(
            with_random_layers, replace(QUICK, device="cuda"), marks=needs_gpu, id="on a GPU"
        ),
    ],
)
def test_an_interrupted_training_ends_with_the_same_bits(train, tmp_path, build, config):
    path, seen = tmp_path / "run.pt", []
    whole = train(build, config)
    for k in (1, 2, 3):
        with pytest.raises(Interrupted):
            # The second and third with other first weights: those in the file count.
            train(partial(build, seed=k - 1), config, path, stop_after=k, seen=seen)
    resumed = train(partial(build, seed=3), config, path, seen=seen)
    assert seen == [1, 2, 3]
    assert same_bits(resumed, whole)
    assert not resumed.model.training


@needs_compiler
def test_an_interrupted_compiled_training_ends_with_the_same_bits(train, tmp_path):
    path, config = tmp_path / "run.pt", replace(ONE_CYCLE, shift=1, compile=True)
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


def test_a_checkpoint_changes_nothing_for_a_training_that_is_not_interrupted(train, tmp_path):
    assert same_bits(train(with_random_layers), train(with_random_layers, path=tmp_path / "run.pt"))


def test_a_finished_training_returns_at_once(train, tmp_path, monkeypatch):
    path = tmp_path / "run.pt"
    whole, before = train(path=path), path.read_bytes()
    monkeypatch.setattr(loop, "train_one_epoch", None)  # cannot be called
    assert same_bits(train(lambda: linear(seed=1), path=path), whole)
    assert path.read_bytes() == before


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("accuracies", "best"), [([0.5, 0.8, 0.8, 0.6], 2), ([0.9, 0.8, 0.7, 0.9], 1)]
)
def test_the_weights_of_the_best_epoch_are_kept(
    train, tmp_path, monkeypatch, stop_after, accuracies, best
):
    path, config, snapshots, left = tmp_path / "run.pt", replace(QUICK, epochs=4), [], []

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


def test_the_callers_random_numbers_are_left_alone(data, saved):
    model = linear()
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    fit(model, data.train, data.validation, QUICK, checkpoint=saved)
    assert torch.random.get_rng_state().equal(before)


def test_the_checkpoint_is_written_before_after_epoch_is_called(data, tmp_path):
    path, written = tmp_path / "run.pt", []

    def watch(row):
        written.append(content(path)["history"][-1] == row)

    fit(linear(), data.train, data.validation, QUICK, after_epoch=watch, checkpoint=path)
    assert written == [True, True, True]


def test_the_bar_starts_at_the_steps_already_done(train, saved, monkeypatch):
    starts, make_bar = [], loop.progress_bar

    def watched(total, description, **options):
        starts.append((options["initial"], total))
        return make_bar(total, description, **options)

    monkeypatch.setattr(loop, "progress_bar", watched)
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
    """Channels last, for weights and for what Adam keeps: else the next bits would be others."""
    path = tmp_path / "run.pt"
    whole = train(cnn, path=path)
    layouts = {value.stride() for value in content(path)["optimizer"]["state"][2].values()}
    weight = whole.model.features[3].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert layouts == {(), weight.stride()}
    resumed = train(cnn, path=path).model.features[3].weight
    assert resumed.stride() == weight.stride()


# --- the file ---------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_file_is_never_half_written(train, tmp_path, monkeypatch, function, epoch):
    path, calls, real = tmp_path / "run.pt", [], getattr(os, function)

    def interrupted(*args):
        calls.append(args)
        if len(calls) == epoch:
            raise KeyboardInterrupt
        real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.os, function, interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(path=path)
    # The last whole one is there, and nothing else.
    assert os.listdir(tmp_path) == (["run.pt"] if epoch > 1 else [])
    seen = []
    assert same_bits(train(path=path, seen=seen), train())
    assert seen == [1, 2, 3][epoch - 1 :]


def test_a_disk_that_fills_up_is_told_and_the_last_file_stays(train, tmp_path, monkeypatch):
    path, fsync, calls = tmp_path / "run.pt", os.fsync, []

    def full(file):
        calls.append(file)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(file)

    monkeypatch.setattr(checkpoints.os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"run.pt cannot be written \(No space left.*room"):
        train(path=path)
    assert os.listdir(tmp_path) == ["run.pt"]
    assert [row["epoch"] for row in content(path)["history"]] == [1]


def test_the_file_is_what_the_docstring_says(saved):
    line, _, payload = saved.read_bytes().partition(b"\n")
    assert line + b"\n" == FIRST_LINE % hashlib.sha256(payload).hexdigest().encode()
    assert content(saved).keys() == checkpoints.CONTENT
    forge(saved, content(saved))  # so a forged one, below, is refused for what it holds


def test_a_file_cut_off_anywhere_is_refused(data, saved):
    whole = saved.read_bytes()
    for length in [*range(90), *range(90, len(whole), len(whole) // 50), len(whole) - 1]:
        saved.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"not a checkpoint|truncated or damaged"):
            Checkpoint(saved, linear(), data.train, data.validation, QUICK)
        assert saved.stat().st_size == length


def test_a_file_with_any_bit_turned_is_refused(data, saved):
    whole = bytearray(saved.read_bytes())
    for place in [*range(90), *range(90, len(whole), len(whole) // 50), len(whole) - 1]:
        whole[place] ^= 1 << (place % 8)
        saved.write_bytes(whole)
        with pytest.raises(CheckpointError, match=r"not a checkpoint|truncated or damaged"):
            Checkpoint(saved, linear(), data.train, data.validation, QUICK)
        whole[place] ^= 1 << (place % 8)


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("hidden", [True, False])
def test_loading_executes_nothing(saved, refused, tmp_path, hidden):
    trap = tmp_path.parent / f"trap-{hidden}"
    if hidden:
        forge(saved, content(saved) | {"history": [Malicious(str(trap))]})
        refused(saved, "something else than a training's state .*UnpicklingError")
    else:
        saved.write_bytes(pickle.dumps(Malicious(str(trap))))
        refused(saved, "not a checkpoint")
    assert not trap.exists()
    # The trap works where it is loaded carelessly.
    pickle.loads(pickle.dumps(Malicious(str(trap)))).close()
    assert trap.exists()


# --- messages ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 12)),
            r"its tensor 1.weight is \(10, 784\) torch.float32, expected \(12, 784\) torch.float32",
        ),
        (
            lambda: nn.Sequential(*linear(), nn.Linear(10, 10)),
            r"its tensor 2.weight is missing, expected \(10, 10\)",
        ),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10, bias=False)),
            r"its layer 1 is Linear\(.*bias=True\), expected Linear\(.*bias=False\)",
        ),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.Dropout(0.5)),
            r"its layer 2 is missing, expected Dropout\(p=0.5",
        ),
    ],
)
def test_another_network_is_told(saved, refused, build, message):
    refused(saved, f"of another training: {message}.*; name another file", build)


def test_networks_that_differ_in_a_dilation_only_are_told_apart(train, refused, tmp_path):
    path = tmp_path / "run.pt"
    with pytest.raises(Interrupted):
        train(cnn, path=path, stop_after=1)

    def dilated():
        model = cnn()
        model.features[0].dilation = model.features[0].padding = (2, 2)
        return model

    refused(path, r"its layer features.0 is .*padding=\(1, 1\)\), expected .*dilation=\(2", dilated)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 4),
        ("batch_size", 64),
        ("lr", 1e-3),
        ("shuffle", False),
        ("seed", 1),
        ("schedule", "one-cycle"),
        ("weight_decay", 0.1),
        ("label_smoothing", 0.1),
        ("flip", True),
        ("shift", 1),
        ("precision", "bf16"),
        ("compile", True),
    ],
)
@pytest.mark.filterwarnings("ignore:precision is", "ignore:compile is")
def test_other_settings_are_told(saved, refused, name, value):
    message = rf"its setting {name} is {getattr(QUICK, name)}, expected {value}; name another file"
    refused(saved, message, config=replace(QUICK, **{name: value}))


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("what", ["fewer", "image", "label"])
def test_other_data_are_told(saved, refused, data, split, what):
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


def test_another_kind_of_device_is_told(saved, refused):
    state = content(saved)
    state["training"]["kind of device"] = "cuda"
    forge(saved, state)
    refused(saved, "its kind of device is cuda, expected cpu; name another file, or remove this")


@pytest.mark.parametrize("foreign", [b"", b"epoch,train_loss\n1,0.5\n", "weights"])
def test_a_file_that_is_no_checkpoint_is_told(refused, tmp_path, foreign):
    path = tmp_path / "run.pt"
    if foreign == "weights":
        torch.save(linear().state_dict(), path)
    else:
        path.write_bytes(foreign)
    refused(path, r"run.pt is not a checkpoint: it begins with b'.*', expected b'fmnist-lib check")


def test_a_damaged_file_is_told(saved, refused):
    saved.write_bytes(saved.read_bytes()[:-100])
    refused(saved, r"truncated or damaged \(SHA-256 \w{12}…, expected \w{12}…\); remove it")


@pytest.mark.parametrize("state", [{"history": []}, [1, 2], torch.ones(2)])
def test_a_file_with_other_content_is_told(saved, refused, state):
    forge(saved, state)
    refused(saved, "holds something else than a training's state .*, expected what `fit` writes")


def test_a_folder_is_told(train, tmp_path):
    with pytest.raises(CheckpointError, match="is a folder, expected a file; name one in it, such"):
        train(path=tmp_path)


def test_a_place_that_cannot_be_written_is_told_before_the_training(train, tmp_path):
    (tmp_path / "file").write_text("a file where the folder should be")
    seen = []
    with pytest.raises(CheckpointError, match=r"run.pt cannot be written \(.*give rights there"):
        train(path=tmp_path / "file" / "run.pt", seen=seen)
    assert not seen


def test_a_file_that_cannot_be_read_is_told(saved, refused, monkeypatch):
    read = type(saved).read_bytes

    def unreadable(path):
        if sys._getframe(1).f_code.co_name == "_read":  # the test itself may read
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return read(path)

    monkeypatch.setattr(type(saved), "read_bytes", unreadable)
    refused(saved, r"cannot be read \(Permission denied\), expected .* name another file")


def test_the_command_tells_it_in_one_line(monkeypatch, capsys):
    def fail(options):
        raise CheckpointError("damaged")

    monkeypatch.setattr(cli, "_data", fail)
    assert cli.main(["data"]) == 1
    assert capsys.readouterr().err == "fmnist: damaged\n"
