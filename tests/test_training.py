import copy
import inspect
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bits import needs_gpu, same_bits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fmnist_lib import training
from fmnist_lib.common import UserError
from fmnist_lib.data import SAMPLE, Split
from fmnist_lib.models import build_model
from fmnist_lib.training import EventLog, acceleration, loop
from fmnist_lib.training.loop import (
    HISTORY_COLUMNS,
    TrainConfig,
    fit,
    loss_and_accuracy,
    make_optimizer,
    pick_device,
)

QUICK = TrainConfig(epochs=2, batch_size=64, lr=1e-3, shuffle=False, device="cpu")
TENTHS = replace(QUICK, epochs=1, batch_size=80)  # ten steps


def test_public_names_are_found_where_they_are_made():
    for name in training.__all__:
        assert training.__getattr__(name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        training.__getattr__("nothing")


@pytest.fixture
def train(sample):
    """Train on the sample: (model, by default the first network; settings; **others) -> result."""

    def train(model=None, config=QUICK, **others):
        model = model or build_model("cnn", seed=0)
        return fit(model, sample.train, sample.validation, config, **others)

    return train


def test_fit_follows_the_classic_loop(sample, train):
    """Against the loop as everybody writes it, in double precision, where order is all there is.

    With 800 images in batches of 96 the last batch holds 32.
    """
    batches, validation = (
        DataLoader(TensorDataset(split.images.double(), split.labels), batch_size=96)
        for split in (sample.train, sample.validation)
    )
    model = build_model("cnn", seed=5).double()
    oracle = copy.deepcopy(model)
    optimizer = torch.optim.Adam(oracle.parameters(), lr=1e-3)
    expected = []
    for _ in range(2):
        sums = {"train_loss": 0.0, "train_acc": 0, "val_loss": 0.0, "val_acc": 0}
        for images, labels in batches:
            logits = oracle(images)
            loss = nn.functional.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            sums["train_loss"] += loss.item() * len(labels) / 800
            sums["train_acc"] += (logits.argmax(1) == labels).sum().item() / 800
        with torch.no_grad():
            for images, labels in validation:
                logits = oracle(images)
                loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
                sums["val_loss"] += loss.item() / 200
                sums["val_acc"] += (logits.argmax(1) == labels).sum().item() / 200
        expected.append(sums)

    class AsDouble(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, images):
            return self.inner(images.double())

    history = train(AsDouble(), replace(QUICK, batch_size=96)).history
    for row, sums in zip(history.to_dict("records"), expected, strict=True):
        for name, value in sums.items():
            assert row[name] == pytest.approx(value, abs=1e-9), name


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("cnn", [(0.80392, 0.704333, 0.56338, 0.785833), (0.51606, 0.807688, 0.47501, 0.825667)]),
        (
            "dilated_cnn",
            [(0.89529, 0.676063, 0.62665, 0.754083), (0.59981, 0.768854, 0.55672, 0.785750)],
        ),
    ],
)
def test_the_reference_protocol(full_data, name, reference):
    """Two epochs against the figures of the reference script.

    Training is chaotic: the figures of one machine are those of another only at first. The bands
    are what instruction sets and threads make of them (benchmarks/two_epochs.csv): the training
    loss of epoch 1 differs by less than 1e-3, what comes later by up to 7e-3. That the protocol is
    the same is what test_fit_follows_the_classic_loop shows, to nine digits.
    """
    config = TrainConfig(epochs=2, shuffle=False, device="cpu")
    trained = fit(build_model(name, seed=0), full_data.train, full_data.validation, config)
    history = trained.history
    for epoch, (train_loss, train_acc, val_loss, val_acc) in enumerate(reference):
        row = history.iloc[epoch]
        assert row["train_loss"] == pytest.approx(train_loss, abs=1e-3 if epoch == 0 else 7e-3)
        assert row["train_acc"] == pytest.approx(train_acc, abs=2e-3 if epoch == 0 else 7e-3)
        assert row["val_loss"] == pytest.approx(val_loss, abs=7e-3)
        assert row["val_acc"] == pytest.approx(val_acc, abs=7e-3)
    _, test = loss_and_accuracy(trained.model, full_data.test)
    assert test == pytest.approx({"cnn": 0.8229, "dilated_cnn": 0.7752}[name], abs=7e-3)


def test_the_history_has_the_promised_form(train):
    trained = train()
    assert tuple(trained.history.columns) == HISTORY_COLUMNS
    assert trained.history["epoch"].tolist() == [1, 2]
    assert trained.history["train_loss"].is_monotonic_decreasing
    assert not trained.model.training
    assert trained.config == QUICK


@pytest.mark.parametrize(("dropout", "shuffle"), [(0.0, True), (0.5, False)])
def test_order_and_random_layers_follow_the_seed_alone(train, dropout, shuffle):
    def seeded(seed):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(784, 10))
        torch.seed()  # the caller's numbers play no part
        before = torch.random.get_rng_state()
        trained = train(model, replace(QUICK, seed=seed, shuffle=shuffle))
        assert torch.random.get_rng_state().equal(before)
        return trained

    first, same, other = seeded(1), seeded(1), seeded(2)
    assert same_bits(first, same)
    assert not first.history.equals(other.history)


def test_random_layers_do_not_change_the_order(sample):
    def epoch(drawn_by_others):
        config = replace(QUICK, shuffle=True, flip=True, shift=1)
        state = loop._start(build_model("cnn"), sample.train, sample.validation, config)
        torch.rand(drawn_by_others)
        return [torch.cat(parts) for parts in zip(*state.batches(), strict=True)]

    assert all(one.equal(other) for one, other in zip(epoch(0), epoch(7), strict=True))


class Viewing(nn.Module):
    """A network with batch normalisation that flattens its maps as most tutorials do."""

    def __init__(self):
        super().__init__()
        layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3)
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(4 * 24 * 24, 10)

    def forward(self, images):
        maps = self.features(images)
        return self.classifier(maps.view(maps.size(0), -1))


def test_a_network_that_takes_views_trains_as_one_that_flattens(train):
    torch.manual_seed(0)
    network = Viewing()
    flattening = copy.deepcopy(nn.Sequential(*network.features, nn.Flatten(), network.classifier))
    assert train(network).history.values == pytest.approx(
        train(flattening).history.values, abs=0.02
    )
    assert network.features[3].weight.is_contiguous()
    # Other networks are trained in the layout that is fastest for them.
    assert flattening[3].weight.is_contiguous(memory_format=torch.channels_last)


def test_trying_a_network_out_changes_neither_statistics_nor_random_numbers(sample):
    class Drawing(Viewing):
        def forward(self, images):
            return nn.functional.dropout(super().forward(images), 0.5)

    network = Drawing()
    before = copy.deepcopy(network.state_dict())
    numbers = torch.get_rng_state()
    loop._start(network, sample.train, sample.validation, QUICK)
    assert torch.get_rng_state().equal(numbers)
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())


def test_a_network_that_standardizes_its_images_trains(train):
    class Standardizing(nn.Module):
        def forward(self, images):
            return (images - images.mean((2, 3), True)) / images.std((2, 3), keepdim=True)

    train(nn.Sequential(Standardizing(), nn.Flatten(), nn.Linear(784, 10)), TENTHS)


def test_lazy_layers_train(train):
    network = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))
    assert train(network).history["train_loss"].is_monotonic_decreasing


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_network_that_writes_into_its_images_leaves_the_data_alone(
    sample, train, tmp_path, shuffle
):
    before = copy.deepcopy(sample)
    network = nn.Sequential(nn.Hardtanh(0.2, 0.8, inplace=True), nn.Flatten(), nn.Linear(784, 10))
    train(network, replace(QUICK, shuffle=shuffle), listeners=[EventLog(tmp_path)])
    assert sample.train.images.equal(before.train.images)
    assert sample.validation.images.equal(before.validation.images)


def test_a_short_last_batch_counts_for_what_it_holds():
    """Of 1,010 images the last 10 are right: 10 of 1,010, not a share of the last batch."""
    images = torch.zeros(1010, 1, 28, 28)
    images[1000:] = 1.0
    split = Split(images, (torch.arange(1010) < 1000).long())
    model = nn.Sequential(nn.MaxPool2d(28), nn.Flatten(), nn.Linear(1, 10, bias=False))
    with torch.no_grad():
        model[2].weight[:] = 50 * torch.eye(10)[:, :1]
    loss, accuracy = loss_and_accuracy(model, split)
    assert accuracy == pytest.approx(10 / 1010)
    expected = nn.functional.cross_entropy(model(images), split.labels).item()
    assert loss == pytest.approx(expected, rel=1e-6)


def test_validation_takes_no_gradient_evaluates_and_has_the_precision_of_training(
    train, monkeypatch
):
    monkeypatch.setattr(acceleration, "supports_bf16", lambda device: True)

    class Watching(nn.Linear):
        def forward(self, images):
            logits = super().forward(images.flatten(1))
            seen.append((self.training, torch.is_grad_enabled(), logits.dtype, len(images)))
            return logits

    seen = []
    train(Watching(784, 10), replace(QUICK, epochs=1, precision="bf16"))
    for in_training, gradient, dtype, n in seen:
        assert in_training == gradient == (n in (64, 32)), (in_training, gradient, n)
        assert dtype == torch.bfloat16 or n <= 2  # which try the network out
    assert sum(n for in_training, *_, n in seen if in_training) == 800


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("epochs", 0, "1 or more"),
        ("epochs", 2.5, "1 or more"),
        ("lr", -1e-3, "above 0"),
        ("lr", float("nan"), "above 0"),
        ("lr", "fast", "above 0"),
        ("seed", 2**63, "from 0 to 9223372036854775807"),
        ("shuffle", "yes", "True or False"),
        ("device", "gpu", "auto, cuda, cuda:1, mps or cpu"),
        ("schedule", "cosine", "one of constant, one-cycle"),
        ("shift", 28, "0 to 27"),
        ("weight_decay", -0.1, "0 or more"),
        ("label_smoothing", 1.0, "0 to below 1"),
    ],
)
def test_values_that_are_not_allowed_are_refused(field, value, allowed):
    with pytest.raises(ValueError, match=rf"{field} is {value!r}, expected .*{allowed}$"):
        TrainConfig(**{field: value})


@pytest.mark.parametrize(("name", "gpus"), [("meta", 0), ("cuda", 0), ("cuda:1", 1)])
def test_a_device_that_is_not_there_is_refused(name, gpus, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(ValueError, match=f"device is '{name}', expected auto"):
        pick_device(name)


def test_auto_takes_the_best_device_there_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for cuda, mps, best in ((False, False, "cpu"), (False, True, "mps"), (True, True, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda found=cuda: found)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda found=mps: found)
        assert pick_device().type == best


@needs_gpu
@pytest.mark.parametrize(
    ("options", "tolerance"),
    [({}, 1e-3), ({"compile": True}, 1e-3), ({"compile": True, "precision": "bf16"}, 0.05)],
)
def test_fit_on_a_gpu(train, options, tolerance):
    trained = train(config=replace(QUICK, device="cuda", **options))
    assert next(trained.model.parameters()).device.type == "cuda"
    first = train().history["train_loss"][0]
    assert trained.history["train_loss"][0] == pytest.approx(first, abs=tolerance)


def test_what_is_no_split_is_refused(random_split):
    train = random_split(80)
    for splits in ((train.images, train.labels), (train, list(train))):
        with pytest.raises(
            ValueError, match=r"the (train|validation) split is .{5,8}, expected a Split"
        ):
            fit(build_model("cnn"), *splits, QUICK)


ELEVEN = {"labels": torch.arange(10) + 1, "class_names": tuple("abcdefghijk")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda train, validation: (train[:0], validation), "the train split holds no images"),
        (lambda train, validation: (train[:63], validation), "batch_size is 64, expected at most"),
        (
            lambda train, validation: (train[train.labels != 8], validation),
            "train split holds no image of class 8, expected some of",
        ),
        (
            lambda train, validation: (train, replace(validation, **ELEVEN)),
            "the validation split has labels from 1 to 10, expected 0 to 9: the model has 10 out",
        ),
    ],
)
def test_splits_that_do_not_fit_are_refused(random_split, change, message):
    with pytest.raises(ValueError, match=message):
        fit(build_model("cnn"), *change(random_split(80), random_split(10)), QUICK)


@pytest.mark.parametrize(
    ("size", "place"),
    [(320, "step ., .* smaller lr than 1e\\+20"), (64, "on the validation images")],
)
def test_a_loss_that_is_not_finite_is_reported_with_its_place(random_split, size, place):
    """The first step ruins the weights, the second the numbers between the layers."""
    with pytest.raises(FloatingPointError, match=f"the loss became nan at epoch 1, {place}"):
        fit(build_model("cnn", 0), random_split(size), random_split(80), replace(QUICK, lr=1e20))


@pytest.mark.parametrize("spoiled", [0, 1])
def test_images_that_were_spoiled_later_are_refused_before_training(random_split, spoiled):
    splits = random_split(64), random_split(64)
    splits[spoiled].images[3] = float("nan")
    with pytest.raises(ValueError, match="images go from nan to nan"):
        fit(build_model("cnn", seed=0), *splits, QUICK)


def linear(*layers, outputs=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, outputs), *layers)


class Answering(nn.Module):
    """Returns what a function makes of the logits of a linear layer."""

    def __init__(self, answer):
        super().__init__()
        self.inner, self.answer = linear(), answer

    def forward(self, images):
        return self.answer(self.inner(images))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (linear().requires_grad_(False), "2 parameter tensors, none with requires_grad"),
        (nn.Sequential(nn.Flatten(), nn.Dropout()), "the model has 0 parameter tensors"),
        (nn.Module, "the model is a type, expected a torch.nn.Module"),
        (linear().double(), r"cannot take images \(2, 1, 28, 28\) torch.float32 .*Double"),
        (nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten()), "cannot take images .* 3 channels"),
        (Answering(lambda logits: (logits, logits)), r"returns a tuple, expected logits \(2, C\)"),
        (Answering(lambda logits: {"out": logits}), "returns a dict, expected logits"),
        (Answering(lambda logits: logits[..., None, None]), r"returns \(2, 10, 1, 1\), expected"),
        (linear(outputs=1), r"returns \(2, 1\), expected logits .* at least two"),
        (Answering(lambda logits: logits * float("nan")), "from nan to nan, expected logits"),
    ],
)
def test_a_model_that_cannot_be_trained_is_refused(train, model, message):
    numbers = torch.get_rng_state()
    with pytest.raises(ValueError, match=message) as caught:
        train(model, progress=False)
    assert len(str(caught.value).splitlines()) == 1
    assert model is nn.Module or model.training
    assert torch.get_rng_state().equal(numbers)


def test_switched_off_gradients_are_noticed(train):
    with torch.no_grad(), pytest.raises(ValueError, match="gradients are off"):
        train()


@pytest.mark.parametrize("batch_size", [1, 17, 799])
def test_a_batch_of_one_image_is_too_small_for_batch_normalisation(sample, batch_size):
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784), nn.Linear(784, 10))
    split, config = sample.train[: 800 if batch_size > 17 else 18], replace(QUICK, epochs=1)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=f"holds one image .*batch_size is {batch_size}.*channel"):
        fit(model, split, split, replace(config, batch_size=batch_size))
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    # Maps have more than one value per channel, so this one trains, with the statistics untouched
    # by the trial; and so does any network on a last batch of two.
    maps = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(784, 10))
    fit(maps, split, split, replace(config, batch_size=batch_size))
    assert maps[0].num_batches_tracked == -(-len(split) // batch_size)
    fit(model, split[:18], split[:18], replace(config, batch_size=16))


def test_a_softmax_at_the_end_is_noticed(train):
    with pytest.warns(UserWarning, match="returns probabilities, expected logits"):
        train(linear(nn.Softmax(dim=1)))


def test_a_warning_points_at_the_caller_of_fit(train):
    with pytest.warns(UserWarning, match="expected logits") as caught:
        train(linear(nn.Softmax(dim=1)), TENTHS)
    assert [warning.filename for warning in caught] == [__file__]


def test_a_listener_cannot_change_the_history_or_what_is_kept(train):
    def tamper(state):
        state.history[-1]["val_acc"] = 99
        state.history.clear()

    plain, trained = train(), train(listeners=[tamper])
    assert same_bits(trained, plain)


def test_trainings_in_threads_are_those_of_one_after_the_other(sample):
    def job(seed):
        model = build_model("cnn", seed)
        model.classifier.append(nn.Dropout(0.5))
        return fit(model, sample.train, sample.validation, replace(TENTHS, seed=seed))

    numbers, alone = torch.get_rng_state(), [job(seed) for seed in range(3)]
    with ThreadPoolExecutor(3) as threads:
        together = list(threads.map(job, range(3)))
    assert all(map(same_bits, alone, together))
    assert torch.get_rng_state().equal(numbers)


def test_the_data_that_a_network_was_trained_on_are_named(train, sample):
    expected = {
        name: {"images": len(split), "sha256": SAMPLE[name]}
        for name, split in (("train", sample.train), ("validation", sample.validation))
    }
    assert train(config=TENTHS).data == expected


def test_numbers_that_are_not_finite_measure_nothing(random_split):
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    nn.init.constant_(model[1].bias, float("nan"))
    assert np.isnan(loss_and_accuracy(model, random_split(20))).all()


def test_numbers_of_numpy_become_plain_ones():
    numbers = {"epochs": np.int64(1), "batch_size": np.int32(400), "seed": np.uint8(3)}
    config = TrainConfig(**numbers, lr=np.float64(1e-3), device="cpu")
    assert config == TrainConfig(epochs=1, batch_size=400, seed=3, lr=1e-3, device="cpu")
    assert {type(v) for v in asdict(config).values()} == {int, float, bool, str}


def test_one_cycle_rises_to_lr_and_falls_to_almost_nothing():
    config = replace(TENTHS, schedule="one-cycle", lr=0.01)
    optimizer, scheduler = make_optimizer(nn.Linear(2, 2), config, 100)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert max(rates) == pytest.approx(0.01)
    assert rates.index(max(rates)) == 29
    assert rates[0] < 0.001
    assert rates[-1] < 1e-6
    assert optimizer.defaults["betas"][1] == 0.99


def test_a_constant_schedule_leaves_adam_as_it_is():
    optimizer, scheduler = make_optimizer(nn.Linear(2, 2), TENTHS, 100)
    assert scheduler is None
    assert optimizer.defaults["betas"] == (0.9, 0.999)
    assert optimizer.defaults["weight_decay"] == 0


def test_weight_decay_is_decoupled():
    """Without a gradient, a step shrinks the weights by lr times decay."""
    layer = nn.Linear(3, 3)
    before = layer.weight.detach().clone()
    optimizer, _ = make_optimizer(layer, replace(TENTHS, lr=0.1, weight_decay=0.5), 1)
    (0 * layer.weight.sum()).backward()
    optimizer.step()
    assert layer.weight.detach().numpy() == pytest.approx(before.numpy() * 0.95)


def test_label_smoothing_is_for_training_alone(sample, train):
    config = replace(TENTHS, label_smoothing=0.5, lr=1e-12)  # too small a step to change anything
    history, model = train(config=config).history, build_model("cnn", 0)
    cases = (("train_loss", sample.train, 0.5), ("val_loss", sample.validation, 0.0))
    for column, split, smoothing in cases:
        with torch.no_grad():
            loss = nn.functional.cross_entropy(
                model(split.images), split.labels, label_smoothing=smoothing
            )
        assert history[column][0] == pytest.approx(loss.item(), abs=1e-5)


def test_listeners_hear_of_the_start_and_of_each_epoch_in_their_order(train):
    heard = []

    class Recorder:
        def on_start(self, state):
            heard.append((len(state.history), state.config.epochs))

        def __call__(self, state):
            heard.append(dict(state.history[-1]))

    listeners = [lambda state: heard.append("first"), Recorder()]
    trained = train(config=replace(TENTHS, epochs=2), listeners=listeners)
    one, two = trained.history.to_dict("records")
    assert heard == [(0, 2), "first", one, "first", two]


def test_what_a_listener_opens_is_closed_even_when_training_fails(random_split):
    closed = []

    class Opening:
        def on_start(self, state):
            state.exits.callback(closed.append, True)

        def __call__(self, state):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(build_model("cnn"), random_split(64), random_split(10), QUICK, listeners=[Opening()])
    assert closed == [True]


def test_the_chapter_quotes_the_loop():
    text = (Path(__file__).parent.parent / "notebooks" / "02_cnn.py").read_text("utf-8")
    quoted = re.search(r"# ```python\n((?:#.*\n)*?)# ```\n", text).group(1)
    lines = iter(line.strip() for line in inspect.getsource(fit).splitlines())
    for line in quoted.splitlines():
        assert line.strip("# ") in lines  # in this order


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("fast", {"epochs": 4, "lr": 0.012, "weight_decay": 0.02}),
        ("accurate", {"epochs": 25, "lr": 0.008, "weight_decay": 0.05, "flip": True, "shift": 1}),
    ],
)
def test_a_recipe_is_the_published_one_can_be_changed_and_learns(name, settings, train):
    recipe = getattr(TrainConfig, name)
    both = {"batch_size": 128, "schedule": "one-cycle", "label_smoothing": 0.05}
    assert recipe() == TrainConfig(**both, **settings, precision="bf16")
    config = recipe(epochs=4, batch_size=40, seed=3, device="cpu")
    assert config == replace(recipe(), epochs=4, batch_size=40, seed=3, device="cpu")
    assert train(config=config).history["val_acc"].iloc[-1] > 0.6


@pytest.mark.parametrize(("shift", "flip"), [(1, True), (1, False), (0, True)])
def test_each_step_augments_its_images_and_moves_the_schedule(train, monkeypatch, shift, flip):
    seen, steps = [], []

    def watching(images, shift, flip, generator):
        seen.append((len(images), shift, flip))
        return images

    monkeypatch.setattr(loop, "augment", watching)
    config = replace(TENTHS, shift=shift, flip=flip, schedule="one-cycle")
    train(config=config, listeners=[lambda state: steps.append(state.scheduler.last_epoch)])
    assert seen == [(80, shift, flip)] * 10  # and no validation image
    assert steps == [10]


def test_event_files(train, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    trained = train(listeners=[EventLog(tmp_path)])
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    for column, tag in (
        ("train_loss", "loss/train"),
        ("val_loss", "loss/validation"),
        ("train_acc", "accuracy/train"),
        ("val_acc", "accuracy/validation"),
    ):
        written = [(event.step, event.value) for event in events.Scalars(tag)]
        assert [step for step, _ in written] == [1, 2]
        assert [value for _, value in written] == pytest.approx(trained.history[column].tolist())
    tags = events.Tags()
    assert tags["graph"]
    assert tags["images"] == ["samples"]
    (text,) = (tag for tag in tags["tensors"] if "sample predictions" in tag)
    table = events.Tensors(text)[-1].tensor_proto.string_val[0]
    assert table.startswith(b"| image | label | prediction | probability |\n|---|---|---|---|\n")
    assert b"Ankle boot" in table


def test_event_files_name_classes_that_fmnist_lacks(random_split, tmp_path):
    pytest.importorskip("tensorboard")
    letters = replace(random_split(64), class_names=tuple("abcdefghijklm"))
    log = EventLog(tmp_path)
    fit(linear(outputs=26), letters, letters, QUICK, listeners=[log])
    table = log._prediction_table(linear(outputs=26))
    assert re.search(r"^\| 1 \| b \| ([a-m]|none of them) \|", table, re.MULTILINE)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's
@pytest.mark.parametrize("place", ["file", "disk"])
def test_event_files_that_cannot_be_written_are_reported_in_one_sentence(
    train, tmp_path, mount_disk, place
):
    pytest.importorskip("tensorboard")
    if place == "file":
        (tmp_path / place).write_text("")
    else:
        (mount_disk(tmp_path / place, "64k") / "full").write_bytes(bytes(2**16 - 4096))
    seen = []
    with pytest.raises(UserError, match=f"event file cannot be written to .*{place}"):
        train(listeners=[EventLog(tmp_path / place), lambda state: seen.append(state)])
    assert not seen


def test_event_files_without_tensorboard(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(ModuleNotFoundError, match="pip install tensorboard"):
        EventLog(tmp_path)
