"""Checks of chapter 5, training fast."""

from collections.abc import Mapping
from dataclasses import asdict
from math import inf

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import cross_entropy, one_hot

from fmnist_lib.course.exercises.answers import call, expect, number, refuse
from fmnist_lib.course.exercises.feedback import exercise

OUTPUTS, WEIGHTS = 32 * 12 * 12, 16 * 3 * 3
OPERATIONS = {
    OUTPUTS * WEIGHTS: "These are the multiplications. Each comes with an addition.",
    2 * 32 * 14 * 14 * WEIGHTS: "How large is the map that comes out?",
    2 * OUTPUTS * 9: "Each number that comes out is a sum over all the channels that go in.",
}


@exercise("5.1")
def operations(operations):
    """Check the floating-point operations of a convolution, for one image."""
    found = number(operations, "the number of operations")
    otherwise = (
        "How many numbers come out of the second convolution for one image, and how many weights "
        "are multiplied and added for each? Leave the bias out."
    )
    expect(found, 2 * OUTPUTS * WEIGHTS, OPERATIONS, otherwise)
    return "That is more than in all other layers together."


@exercise("5.2")
def seconds_kept(seconds_kept):
    """Check when a training run has reached an accuracy for good."""
    for accuracies, kept in (
        ([0.8, 0.91, 0.89, 0.92, 0.93], 3),
        ([0.5, 0.9, 0.95], 1),
        ([0.95, 0.96], 0),
        ([0.91, 0.95, 0.89], None),
        ([0.1, 0.2], None),
    ):
        epochs = np.arange(1, len(accuracies) + 1)
        seconds = 3.375 * epochs + 10  # never whole
        history = pd.DataFrame({"epoch": epochs, "val_acc": accuracies, "seconds": seconds})
        shown = f"with the accuracies {accuracies} and the target 0.9"
        given = call(seconds_kept, history, 0.9, name=f"your function, called {shown},")
        found = number(given, "the time", finite=False)
        first = seconds[np.argmax(np.array(accuracies) >= 0.9)]
        shown = f"Your function, {shown},"
        refuse(
            kept is None
            and found != inf
            and "A training run that ends below the target takes forever: float('inf')."
        )
        expect(
            found,
            inf if kept is None else seconds[kept],
            {first: f"{shown} stops at the first epoch that reaches it. What comes after?"},
            f"{shown} gives {found:g}. Take the column seconds, at the epoch from which on no "
            "accuracy is below the target: one that equals it has reached it.",
        )
    return "A target that is met once may have been met by luck."


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
            abs(rates[at] / peak - 1) >= 0.05 and f"is {rates[at]:.3g} where it is largest.",
            abs(at - 0.3 * steps) > 2
            and f"is largest at step {at}, and not after three tenths of the steps.",
            rates[0] > peak / 10 + slack and "begins above a tenth of the peak.",
            rates[-1] > peak / 50 + slack and "ends above a fiftieth of the peak.",
            ((change[:at] < -slack).any() or (change[at + 1 :] >= 0).any())
            and "does not rise up to the peak and fall at each step after it.",
            abs(change[jump]) >= 20 * peak / steps and f"jumps at step {jump + 1}.",
        )
        where = f"With {steps} steps and a peak of {peak:g}, the learning rate"
        refuse(*(words and f"{where} {words}" for words in mistakes))
    return "It could drive a training run: one call for each step of the optimizer."


FAR = torch.tensor([[2e4, 0.0, -2e4]]), torch.tensor([1])


@exercise("5.4")
def smoothed_loss(smoothed_loss):
    """Check a cross-entropy with smoothed labels against PyTorch's."""
    generator = torch.Generator().manual_seed(0)
    for n, k, smoothing in ((5, 10, 0.0), (7, 10, 0.05), (33, 4, 0.3)):
        logits = 3 * torch.randn(n, k, generator=generator)
        labels = torch.randint(k, (n,), generator=generator)
        right = cross_entropy(logits, labels, label_smoothing=smoothing)
        at = one_hot(labels, k)
        others = cross_entropy(logits, (1 - smoothing) * at + smoothing / (k - 1) * (1 - at))
        expect(
            number(call(smoothed_loss, logits, labels, smoothing), "the loss"),
            right,
            {
                n * right: "This is the sum over the images. Return their mean.",
                cross_entropy(logits, labels): "The labels are not smoothed yet.",
                others: "You spread the share over the other classes alone. The class on the label "
                "gets its part of it, too.",
            },
            f"With a smoothing of {smoothing} and {k} classes, the loss is off. What is the target "
            "for the class on the label, and what for each other class? The loss is minus the sum "
            "of target times logarithm of the softmax over the classes of an image.",
            atol=1e-4,
        )
    expect(
        torch.as_tensor(call(smoothed_loss, *FAR, 0.1)).item(),
        cross_entropy(*FAR, label_smoothing=0.1).item(),
        {},
        "With large logits, the loss is off: softmax rounds small probabilities to 0, whose "
        "logarithm is infinite, and a floor under them hides how small they are. log_softmax takes "
        "both steps at once, and needs none.",
        rtol=1e-3,
    )
    return "PyTorch's own gives the same."


PARTS = {"schedule": "constant", "weight_decay": 0.0, "label_smoothing": 0.0}
"""The values of these settings when that part of the recipe is taken out."""


@exercise("5.5")
def one_part_less(trained, cost):
    """Check networks trained without one part of a recipe each, and what the lack costs."""
    refuse(
        not (isinstance(trained, Mapping) and "recipe" in trained)
        and "trained should be a dict of what fit returns, with the whole recipe as 'recipe'."
    )
    for name, one in trained.items():
        complete = all(hasattr(one, part) for part in ("model", "config", "history"))
        refuse(not complete and f"trained[{name!r}] is not what fit returns: keep the whole of it.")
    refuse(
        len({id(one.model) for one in trained.values()}) < len(trained)
        and "Two entries share a network, so one began where the other ended. Build a new network "
        "for each."
    )
    recipe = trained["recipe"]
    others = {name: one for name, one in trained.items() if name != "recipe"}
    taken_out = {_part_taken_out(name, one.config, recipe.config) for name, one in others.items()}
    missing = [part for part in PARTS if part not in taken_out]
    refuse(
        missing and f"Still to be taken out: {', '.join(missing)}.",
        not (hasattr(cost, "keys") and set(others) <= {*cost.keys()})
        and "cost should hold a number for each part that is taken out, under the name in trained.",
    )
    for name, one in others.items():
        right = recipe.history["val_acc"].iloc[-1] - one.history["val_acc"].iloc[-1]
        expect(
            number(cost[name], f"the cost of {name!r}"),
            right,
            {
                -right: f"The cost of {name!r} has the wrong sign: it is positive where the recipe "
                "is better.",
                100 * right: f"The cost of {name!r} is in percentage points: give it as a share, "
                "0.012 for 1.2 points.",
            },
            f"The cost of {name!r} is off: it is the validation accuracy of the recipe after the "
            "last epoch, less the one without that part.",
            atol=1e-5,
        )
    return "With few images and one seed, this is a first look, and the luck of the seed is in it."


def _part_taken_out(name, config, recipe):
    whole = asdict(recipe)
    changed = {part: value for part, value in asdict(config).items() if value != whole[part]}
    refuse(
        len(changed) != 1
        and f"{name!r} differs from the recipe in {' and '.join(changed) or 'nothing'}. Change one "
        "thing at a time, or nobody can say which of them it was."
    )
    ((part, value),) = changed.items()
    kept = value != PARTS.get(part, value)
    refuse(kept and f"In {name!r} the {part} is changed to {value!r}, and not taken out.")
    return part
