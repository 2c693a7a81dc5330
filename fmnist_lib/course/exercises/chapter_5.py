"""Checks of chapter 5, training fast."""

from collections.abc import Mapping
from dataclasses import asdict
from math import inf

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import cross_entropy

from fmnist_lib.course.exercises.answers import RETURNED, call, expect, number, read_array, refuse
from fmnist_lib.course.exercises.feedback import exercise

OUTPUTS, WEIGHTS = 32 * 12 * 12, 16 * 3 * 3
RIGHT = 2 * OUTPUTS * WEIGHTS
OPERATIONS = {
    OUTPUTS * WEIGHTS: "These are the multiplications. Each comes with an addition.",
    RIGHT - OUTPUTS: "Where a sum begins does not matter: count as many additions as products.",
    RIGHT + OUTPUTS: "Leave the bias out, as the chapter does.",
    2 * 32 * 14 * 14 * WEIGHTS: "How large is the map that comes out?",
    2 * 12 * 12 * WEIGHTS: "That is for one of the channels that come out.",
    2 * OUTPUTS * 9: "Each number that comes out is a sum over all the channels that go in.",
    2 * OUTPUTS * 16 * 3: "How many weights does a kernel of 3 × 3 have?",
    2 * 32 * WEIGHTS: "That is for one place. The kernels go to every place.",
    32 * WEIGHTS: "This is the number of weights. How often is each of them used?",
    32 * WEIGHTS + 32: "This is the number of parameters. How often is each of them used?",
    2 * 16 * 28 * 28 * 9: "This is the first convolution. The exercise asks for the second.",
    3 * RIGHT: "This is forward and backward. The exercise asks for forward alone.",
    64 * RIGHT: "This is a batch of 64. The exercise asks for one image.",
}


@exercise("5.1")
def operations(operations):
    """Check the floating-point operations of a convolution, for one image."""
    found = number(operations, "the number of operations", whole=True)
    refuse(found <= 0 and "It takes some operations.")
    otherwise = "How many numbers come out, and how many weights are multiplied and added for each?"
    expect(found, RIGHT, OPERATIONS, otherwise)
    return "That is more than in all other layers together."


@exercise("5.2")
def seconds_kept(seconds_kept):
    """Check when a training run has reached an accuracy for good."""
    for accuracies in ([0.8, 0.91, 0.89, 0.92, 0.93], [0.5, 0.9, 0.95], [0.95, 0.96], [0.85, 0.95]):
        history = _history(accuracies)
        found = number(call(seconds_kept, history, 0.9), RETURNED, finite=False)
        reached, seconds = history["val_acc"] >= 0.9, history["seconds"].to_list()
        kept = len(reached) - reached[::-1].cumprod().sum()
        mistakes = (
            found == inf and "gives infinity, but from some epoch on all of them reach it.",
            found in history["epoch"].to_list()
            and "gives the number of an epoch. In which column are the seconds?",
            found not in seconds and f"gives {found:g}, which is not in the column seconds.",
            found == seconds[reached.idxmax()]
            and "stops at the first epoch that reaches it. What comes after?",
            accuracies[kept] == 0.9
            and "is off. An accuracy that equals the target has reached it.",
            "gives the seconds of another epoch.",
        )
        shown = f"With the accuracies {accuracies} and the target 0.9, your function"
        refuse(*(found != seconds[kept] and words and f"{shown} {words}" for words in mistakes))
    for accuracies in ([0.91, 0.95, 0.89], [0.1, 0.2]):
        name = "your function, given a training run that ends below the target,"
        found = call(seconds_kept, _history(accuracies), 0.9, name=name)
        found = number(found, "the time of a run that ends below the target", finite=False)
        refuse(found != inf and "A run that ends below the target takes for ever: float('inf').")
    return "A target that is met once may have been met by luck."


def _history(accuracies):
    n = len(accuracies)
    seconds = 3.375 * np.arange(1, n + 1) + 10  # never whole
    return pd.DataFrame({"epoch": range(1, n + 1), "val_acc": accuracies, "seconds": seconds})


@exercise("5.3")
def one_cycle(one_cycle):
    """Check a learning rate that rises over three tenths of the steps, and falls."""
    for steps, peak in ((100, 1.0), (250, 0.012)):
        rates = [call(one_cycle, step, steps, peak) for step in range(steps)]
        rates = [number(rate, f"the learning rate at step {k}") for k, rate in enumerate(rates)]
        rates, change = np.array(rates), np.diff(rates)
        at, jump = rates.argmax(), abs(change).argmax()
        slack = 1e-6 * peak  # what 32-bit numbers round
        mistakes = (
            rates.min() < -slack and "becomes negative.",
            np.ptp(rates) == 0 and "is the same at every step.",
            abs(rates[at] / peak - 1) >= 0.05 and f"is {rates[at]:.3g} where it is largest.",
            at > 0.3 * steps + 2 and "is largest later than after three tenths of the steps.",
            at < 0.3 * steps - 2 and "is largest earlier than after three tenths of the steps.",
            rates[0] > peak / 10 + slack and "begins above a tenth of the peak.",
            rates[-1] > peak / 50 + slack and "ends above a fiftieth of the peak.",
            (change[:at] < -slack).any() and "falls before it has reached the peak.",
            (change[at + 1 :] >= 0).any() and "does not fall at each step after the peak.",
            abs(change[jump]) >= 20 * peak / steps and f"jumps at step {jump + 1}.",
        )
        where = f"With {steps} steps and a peak of {peak:g}, the learning rate"
        refuse(*(words and f"{where} {words}" for words in mistakes))
    return "It could drive a training run: one call for each step of the optimizer."


def _wrong_losses(logits, labels, smoothing):
    n, k = logits.shape
    s, each = smoothing, smoothing / k
    right = cross_entropy(logits, labels, label_smoothing=s)
    twice = cross_entropy(logits.softmax(dim=1), labels, label_smoothing=s)

    def with_targets(at_label, elsewhere):
        log = logits.log_softmax(dim=1)
        at = log.gather(1, labels[:, None])[:, 0]
        return -(at_label * at + elsewhere * (log.sum(dim=1) - at)).mean()

    return {
        -right: "The loss has the wrong sign: logarithms of probabilities are negative.",
        n * right: "This is the sum over the images. Return their mean.",
        right / k: "This is a mean over images and classes. Add up the classes of an image.",
        twice: "You take the softmax twice.",
        with_targets(1, 0): "The labels are not smoothed yet.",
        with_targets(1 - s, s / (k - 1)): "You spread the share over the other classes alone. The "
        "class on the label gets its part of it, too.",
        with_targets(1 - s, each): "The targets of an image do not add up to 1.",
        with_targets(1 - s + s / 10, s / 10): "There need not be ten classes: ask the logits.",
        with_targets(s + (1 - s) / k, (1 - s) / k): "The label keeps the large share.",
    }


@exercise("5.4")
def smoothed_loss(smoothed_loss):
    """Check a cross-entropy with smoothed labels against PyTorch's."""
    generator = torch.Generator().manual_seed(0)
    for n, k, smoothing in ((5, 10, 0.0), (7, 10, 0.05), (33, 4, 0.3)):
        logits = 3 * torch.randn(n, k, generator=generator)
        labels = torch.randint(k, (n,), generator=generator)
        loss = call(smoothed_loss, logits, labels, smoothing)
        per_image = read_array(loss, "the loss").shape == (n,)
        refuse(per_image and "Your function returns a loss for each image. Return their mean.")
        plain = (
            "With a smoothing of 0, the loss is not the plain cross-entropy: minus the logarithm "
            "of the softmax over the classes of an image, at its label."
        )
        smoothed = (
            f"With a smoothing of {smoothing} and {k} classes, the loss is off. What is the target "
            "for the class on the label, and what for each other class?"
        )
        expect(
            number(loss, "the loss"),
            cross_entropy(logits, labels, label_smoothing=smoothing),
            _wrong_losses(logits, labels, smoothing),
            smoothed if smoothing else plain,
            atol=1e-4,
        )
    logits, labels = torch.tensor([[2e4, 0.0, -2e4]]), torch.tensor([1])
    loss = torch.as_tensor(call(smoothed_loss, logits, labels, 0.1)).item()
    wanted = cross_entropy(logits, labels, label_smoothing=0.1).item()
    at_once = "log_softmax takes both steps at once"
    refuse(
        not np.isfinite(loss)
        and "With large logits, the loss is not finite: softmax rounds small probabilities to 0, "
        f"whose logarithm is infinite. {at_once}, and does not.",
        abs(loss - wanted) > 1e-3 * wanted
        and "With large logits, the loss is off: a floor under the probabilities hides how small "
        f"they are. {at_once}, and needs none.",
    )
    return "PyTorch's own gives the same."


PARTS = {"schedule": "constant", "weight_decay": 0.0, "label_smoothing": 0.0}
"""The values of these settings when that part of the recipe is taken out."""


@exercise("5.5")
def one_part_less(trained, cost):
    """Check networks trained without one part of a recipe each, and what the lack costs."""
    refuse(not isinstance(trained, Mapping) and "trained should be a dict of what fit returns.")
    for name, one in trained.items():
        complete = hasattr(one, "model") and hasattr(one, "config")
        columns = getattr(getattr(one, "history", None), "columns", ())
        refuse(
            not (complete and "val_acc" in columns)
            and f"trained[{name!r}] is not what fit returns: keep the whole of it."
        )
    refuse("recipe" not in trained and "The whole recipe is missing: train it as 'recipe'.")
    whole = asdict(trained["recipe"].config)
    lacks = [part for part, without in PARTS.items() if whole[part] == without]
    refuse(
        lacks and f"trained['recipe'] lacks a part of the recipe: {lacks[0]}.",
        len({id(one.model) for one in trained.values()}) < len(trained)
        and "Two entries share a network, so one began where the other ended. Build a new network "
        "for each.",
    )
    others = {name: one for name, one in trained.items() if name != "recipe"}
    taken_out = {_part_taken_out(name, one.config, whole) for name, one in others.items()}
    missing = [part for part in PARTS if part not in taken_out]
    refuse(
        missing and f"Still to be taken out: {', '.join(missing)}.",
        (not hasattr(cost, "keys") or isinstance(cost, type))
        and "cost should hold a number for each part that is taken out.",
    )
    for name, one in others.items():
        refuse(name not in cost and f"cost says nothing about {name!r}.")
        _check_cost(name, cost[name], trained["recipe"].history["val_acc"], one.history["val_acc"])
    return "With few images and one seed, this is a first look, and the luck of the seed is in it."


def _part_taken_out(name, config, whole):
    changed = [part for part, value in asdict(config).items() if value != whole[part]]
    refuse(
        not changed and f"{name!r} was trained with the whole recipe.",
        len(changed) > 1
        and f"{name!r} differs from the recipe in {' and '.join(changed)}. Change one thing at a "
        "time, or nobody can say which of them it was.",
    )
    (part,) = changed
    value = getattr(config, part)
    kept = value != PARTS.get(part, value)
    refuse(kept and f"In {name!r} the {part} is changed to {value!r}, and not taken out.")
    return part


def _check_cost(name, cost, recipe, less):
    right = recipe.iloc[-1] - less.iloc[-1]
    wrong_turns = {
        -right: "has the wrong sign: it is positive where the recipe is better.",
        100 * right: "is in percentage points: give it as a share, 0.012 for 1.2 points.",
        recipe.max() - less.max(): "compares the best epochs. Take the last ones.",
    }
    expect(
        number(cost, f"the cost of {name!r}"),
        right,
        [(wrong, f"The cost of {name!r} {words}") for wrong, words in wrong_turns.items()],
        f"The cost of {name!r} is off: it is the validation accuracy of the recipe after the last "
        "epoch, less the one without that part.",
        atol=1e-5,
    )
