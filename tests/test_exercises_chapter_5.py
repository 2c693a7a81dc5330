"""The checks of chapter 5: right answers however found, and words for likely mistakes."""

from dataclasses import replace
from math import inf
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from nudges import assert_nudged
from torch import nn
from torch.nn.functional import cross_entropy, one_hot
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.flop_counter import FlopCounterMode

from fmnist_lib.course.exercises import check
from fmnist_lib.models import ConvNet
from fmnist_lib.timing import seconds_to_accuracy
from fmnist_lib.training import TrainConfig, fit


def flops(module, *shape):
    images = torch.zeros(shape)
    with FlopCounterMode(display=False) as counter:
        module(images)
    return counter.get_total_flops()


OPERATIONS = flops(ConvNet().features[3], 1, 16, 14, 14)


def test_the_operations_of_a_layer_are_more_than_those_of_all_others_together():
    """The words for a right answer say so."""
    assert "more than in all other layers together" in check("5.1", OPERATIONS).words
    assert flops(ConvNet(), 1, 1, 28, 28) < 2 * OPERATIONS


def by_cummin(history, target):
    worst = history["val_acc"][::-1].cummin()[::-1]
    return min(history["seconds"][worst >= target], default=inf)


def by_the_last_miss(history, target):
    (missed,) = np.nonzero(history["val_acc"].to_numpy() < target)
    at = missed[-1] + 1 if len(missed) else 0
    return np.float64(inf) if at == len(history) else history["seconds"].iloc[at]


def two_lines(step, steps, peak):
    return peak * min((step + 1) / (0.3 * steps), (steps - step) / (0.7 * steps))


def by_pytorch(step, steps, peak):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    schedule = OneCycleLR(optimizer, peak, total_steps=steps)
    for _ in range(step):
        optimizer.step()
        schedule.step()
    return schedule.get_last_lr()


def from_limit_to_limit(step, steps, peak):
    """Begin at a tenth of the peak and end at a fiftieth, as near as rounding comes to them."""
    top = 0.3 * steps
    if step < top:
        return 0.1 * peak + 0.9 * peak * step / top
    return peak - 0.98 * peak * (step - top) / (steps - 1 - top)


def to_nothing_in_32_bits(step, steps, peak):
    step, top = torch.tensor(float(step)), torch.tensor(0.3 * steps)
    return torch.where(
        step < top, peak * step / top, peak - peak / (steps - 1 - top) * (step - top)
    )


def of_scores(log):
    """Make a loss that takes the logarithms of the probabilities in some way."""

    def loss(logits, labels, smoothing):
        scores = log(logits)
        at_label = scores.gather(1, labels[:, None]).squeeze(1)
        return -((1 - smoothing) * at_label + smoothing * scores.mean(dim=1)).mean()

    return loss


by_parts = of_scores(lambda z: z.log_softmax(1))


def by_targets(logits, labels, smoothing):
    k = logits.shape[1]
    targets = (1 - smoothing) * one_hot(labels, k) + smoothing / k
    return cross_entropy(logits, targets).item()


def against(make_targets):
    """Make a loss of what a wrong turn takes for the targets, from K classes and a share s."""

    def loss(logits, labels, smoothing):
        k = logits.shape[1]
        return cross_entropy(logits, make_targets(one_hot(labels, k), smoothing, k))

    return loss


def spread(k, n, *rates):
    """Draw a rate from the first step over three tenths of the steps to the last."""
    return np.interp(k, [0, 0.3 * n, n], rates)


@pytest.mark.parametrize(
    ("number", "function"),
    [
        ("5.2", by_cummin),
        ("5.2", by_the_last_miss),
        ("5.3", two_lines),
        ("5.3", by_pytorch),
        ("5.3", from_limit_to_limit),
        ("5.3", to_nothing_in_32_bits),
        ("5.4", by_parts),
        ("5.4", by_targets),
    ],
)
def test_functions_that_are_right_however_written(number, function):
    assert check(number, function)


@pytest.mark.parametrize(
    ("number", "answer", "nudge"),
    [
        ("5.1", OPERATIONS / 2, "Each comes with an addition"),
        ("5.1", flops(nn.Conv2d(16, 32, 3, padding=1), 1, 16, 14, 14), "How large is the map"),
        ("5.1", flops(nn.Conv2d(1, 32, 3), 1, 1, 14, 14), "all the channels that go in"),
        ("5.1", OPERATIONS + 2, "how many weights are multiplied"),
        ("5.2", seconds_to_accuracy, "stops at the first epoch"),
        ("5.2", lambda h, t: by_cummin(h, t + 1e-9), "one that equals it has reached it"),
        ("5.2", lambda h, t: round(by_cummin(h, t), 1), "gives 16.8. Take the column seconds"),
        ("5.2", lambda h, t: min(by_cummin(h, t), 99.0), "takes forever"),
        ("5.3", lambda k, n, peak: two_lines(k, n, 0.012), "is 0.012 where it is largest"),
        ("5.3", lambda k, n, peak: peak * (n - k) / n, "is largest at step 0"),
        ("5.3", lambda k, n, peak: spread(k, n, 0, peak, peak / 9), "ends above"),
        ("5.3", lambda k, n, peak: spread(k, n, 0, peak, -peak), "becomes negative"),
        ("5.3", lambda *a: 1.001 * from_limit_to_limit(*a), "begins above a tenth"),
        ("5.3", lambda k, n, peak: max(two_lines(k, n, peak), 0.02 * peak), "fall at each step"),
        ("5.3", lambda k, n, peak: two_lines(k, n, peak) / (1 + 7 * (k > 50)), "jumps at step 51"),
        ("5.4", of_scores(lambda z: z), "With a smoothing of 0.0 and 10 classes, the loss is off"),
        ("5.4", of_scores(lambda z: z.softmax(1).clamp_min(1e-9).log()), "With large logits"),
        ("5.4", lambda z, y, s: len(y) * by_parts(z, y, s), "the sum over the images"),
        ("5.4", lambda z, y, s: cross_entropy(z, y), "not smoothed yet"),
        ("5.4", against(lambda t, s, k: (1 - s) * t + s / (k - 1) * (1 - t)), "classes alone"),
        ("5.4", against(lambda t, s, k: (1 - s) * t + s / 10), "smoothing of 0.3"),
    ],
)
def test_wrong_turns_get_words(number, answer, nudge):
    assert_nudged(number, answer, nudge=nudge)


RECIPE = TrainConfig.fast(epochs=2, precision="fp32", device="cpu")
LESS = {
    "schedule": {"schedule": "constant"},
    "no decay": {"weight_decay": 0},
    "plain labels": {"label_smoothing": 0.0},
}


def result(config, *val_acc):
    """Make what looks like a result of fit, without training."""
    return SimpleNamespace(
        model=nn.Identity(), config=config, history=pd.DataFrame({"val_acc": val_acc})
    )


@pytest.fixture
def trained():
    lower = {"schedule": 0.5, "no decay": 0.625, "plain labels": 0.75}
    rest = {n: result(replace(RECIPE, **c), 0.25, lower[n]) for n, c in LESS.items()}
    return {"recipe": result(RECIPE, 0.8, 0.6875)} | rest


COST = {"schedule": 0.1875, "no decay": 0.0625, "plain labels": -0.0625}


@pytest.mark.parametrize(
    "form", [dict, pd.Series, lambda c: {n: np.float32(v) for n, v in c.items()}]
)
def test_one_part_less(form, trained):
    assert check("5.5", trained, form(COST))


def test_one_part_less_with_networks_that_fit_has_trained(sample):
    configs = {"recipe": RECIPE, "batches": replace(RECIPE, batch_size=64)}
    configs |= {name: replace(RECIPE, **change) for name, change in LESS.items()}
    trained = {
        name: fit(ConvNet(), sample.train[:200], sample.validation[:50], config, progress=False)
        for name, config in configs.items()
    }
    last = {name: t.history["val_acc"].iloc[-1] for name, t in trained.items()}
    cost = {name: last["recipe"] - share for name, share in last.items()}
    assert check("5.5", trained, cost)


def test_one_part_less_wrong_turns(trained):
    def other(name, **changes):
        return trained | {name: result(replace(trained[name].config, **changes), 0.5)}

    one = trained["recipe"].model
    shared = {
        n: SimpleNamespace(model=one, config=t.config, history=t.history)
        for n, t in trained.items()
    }
    for answer, nudge in [
        ([*trained.values()], "a dict of what fit returns"),
        ({n: t for n, t in trained.items() if n != "recipe"}, "the whole recipe as 'recipe'"),
        ({n: t for n, t in trained.items() if n != "schedule"}, "taken out: schedule."),
        (other("no decay", weight_decay=0.02), "differs from the recipe in nothing"),
        (other("no decay", schedule="constant"), "in schedule and weight_decay"),
        (other("no decay", weight_decay=0.01), "is changed to 0.01, and not taken out"),
        (trained | {"schedule": 0.5}, "is not what fit returns"),
        (shared, "share a network"),
    ]:
        assert_nudged("5.5", answer, COST, nudge=nudge)


def test_the_cost_of_a_part_is_checked_too(trained):
    for answer, nudge in [
        ({n: -c for n, c in COST.items()}, "wrong sign"),
        ({n: 100 * c for n, c in COST.items()}, "points: give it as a share, 0.012 for 1.2"),
        ({n: t.history["val_acc"].iloc[-1] for n, t in trained.items()}, "is off"),
        ({"schedule": COST["schedule"]}, "under the name in trained"),
        ([*COST.values()], "a number for each part"),
    ]:
        assert_nudged("5.5", trained, answer, nudge=nudge)
