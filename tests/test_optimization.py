from dataclasses import replace

import pytest
import torch
from torch import nn

from fmnist_lib.models import build_model
from fmnist_lib.training import TrainConfig, fit, loop
from fmnist_lib.training.optimization import make_optimizer

QUICK = TrainConfig(epochs=1, batch_size=80, lr=1e-3, shuffle=False, device="cpu")  # 10 steps


def test_one_cycle_rises_to_lr_and_falls_to_almost_nothing():
    config = replace(QUICK, schedule="one-cycle", lr=0.01)
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


def test_a_constant_schedule_leaves_adam_as_it_is():
    optimizer, scheduler = make_optimizer(nn.Linear(2, 2), QUICK, 100)
    assert scheduler is None
    assert optimizer.defaults["betas"] == (0.9, 0.999)
    assert optimizer.defaults["weight_decay"] == 0


def test_weight_decay_is_decoupled():
    """Without a gradient, a step shrinks the weights by lr times decay."""
    layer = nn.Linear(3, 3)
    before = layer.weight.detach().clone()
    optimizer, _ = make_optimizer(layer, replace(QUICK, lr=0.1, weight_decay=0.5), 1)
    (0 * layer.weight.sum()).backward()
    optimizer.step()
    assert layer.weight.detach().numpy() == pytest.approx(before.numpy() * 0.95)


def test_label_smoothing_is_for_training_alone(sample):
    plain = fit(build_model("cnn", 0), sample.train, sample.validation, QUICK).history
    config = replace(QUICK, label_smoothing=0.5, lr=1e-12)  # too small a step to change anything
    smooth = fit(build_model("cnn", 0), sample.train, sample.validation, config).history
    model = build_model("cnn", 0)
    with torch.no_grad():
        losses = {
            smoothing: nn.functional.cross_entropy(
                model(split.images), split.labels, label_smoothing=smoothing
            ).item()
            for smoothing, split in ((0.5, sample.train), (0.0, sample.validation))
        }
    assert smooth["train_loss"][0] == pytest.approx(losses[0.5], abs=1e-5)
    assert smooth["val_loss"][0] == pytest.approx(losses[0.0], abs=1e-5)
    assert plain["val_loss"][0] != smooth["val_loss"][0]


def test_after_each_epoch_the_caller_is_told(sample):
    rows = []
    trained = fit(
        build_model("cnn", 0),
        sample.train,
        sample.validation,
        replace(QUICK, epochs=2),
        after_epoch=rows.append,
    )
    assert rows == trained.history.to_dict("records")


@pytest.mark.parametrize("name", ["fast", "accurate"])
def test_a_recipe_can_be_changed_and_learns(name, sample):
    recipe = getattr(TrainConfig, name)
    config = recipe(epochs=4, batch_size=40, seed=3, device="cpu")
    assert config == replace(recipe(), epochs=4, batch_size=40, seed=3, device="cpu")
    history = fit(build_model("cnn", 0), sample.train, sample.validation, config).history
    assert history["val_acc"].iloc[-1] > 0.6
    with pytest.raises(TypeError, match="speed"):
        recipe(speed=3)


def test_fit_augments_the_training_images_alone(sample, monkeypatch):
    seen = []

    def watching(images, shift, flip, generator):
        seen.append((len(images), shift, flip))
        return images

    monkeypatch.setattr(loop, "augment", watching)
    config = replace(QUICK, shift=1, flip=True)
    fit(build_model("cnn", 0), sample.train, sample.validation, config)
    assert seen == [(80, 1, True)] * 10


def test_fit_moves_the_schedule_at_each_step(sample, monkeypatch):
    made = []

    def watching(*arguments):
        made.append(make_optimizer(*arguments))
        return made[-1]

    monkeypatch.setattr(loop, "make_optimizer", watching)
    config = replace(QUICK, schedule="one-cycle")
    fit(build_model("cnn", 0), sample.train, sample.validation, config)
    assert made[0][1].last_epoch == 10
