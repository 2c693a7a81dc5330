"""Checks of chapter 5, training fast."""

from collections.abc import Mapping
from dataclasses import asdict
from math import inf

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import cross_entropy

from fmnist_lib.course.exercises.answers import call, number, read_array, require, whole_number
from fmnist_lib.course.exercises.feedback import exercise

PARTS = {"schedule": "constant", "weight_decay": 0.0, "label_smoothing": 0.0}
"""What these settings of the recipe are where that part is taken out."""


@exercise("5.1")
def operations(operations):
    """Check the floating-point operations of a convolution, for one image."""
    found = whole_number(operations, "the number of operations")
    outputs, weights = 32 * 12 * 12, 16 * 3 * 3
    right = 2 * outputs * weights
    wrong_turns = {
        outputs * weights: "These are the multiplications. Each comes with an addition.",
        2 * outputs * weights - outputs: "Where the sum of a place begins is no matter: count as "
        "many additions as multiplications.",
        2 * outputs * weights + outputs: "Leave the bias out, as the chapter does.",
        2 * 32 * 14 * 14 * weights: "A sum is made for each number that comes out. How large is "
        "the map that comes out?",
        2 * 12 * 12 * weights: "So many are needed for one of the channels that come out.",
        2 * outputs * 9: "Each number that comes out is a sum over all the channels that go in.",
        2 * outputs * 16 * 3: "How many weights does a kernel of 3 × 3 have?",
        2 * 32 * weights: "So many are needed at one place. The kernels go to every place.",
        32 * weights: "This is the number of weights. How often is each of them used?",
        32 * weights + 32: "This is the number of parameters. How often is each of them used?",
        2 * 16 * 28 * 28 * 9: "This is the first convolution. The second one is asked for.",
        3 * right: "This is forward and backward. Forward alone is asked for.",
        64 * right: "This is a batch of 64. One image is asked for.",
    }
    require(found > 0, "It takes some operations.")
    require(found not in wrong_turns, wrong_turns.get(found, ""))
    require(
        found == right,
        "How many numbers come out, and how many weights are multiplied and summed up for each?",
    )
    return "That is more than in all other layers together."


@exercise("5.2")
def seconds_kept(seconds_kept):
    """Check when a training has reached an accuracy for good."""
    for accuracies in ([0.8, 0.91, 0.89, 0.92, 0.93], [0.5, 0.9, 0.95], [0.95, 0.96], [0.85, 0.95]):
        history = _history(accuracies)
        found = call(seconds_kept, history, 0.9)
        found = number(found, "what your function returns", finite=False)
        reached = history["val_acc"] >= 0.9
        first, kept = reached.idxmax(), len(reached) - reached[::-1].cumprod().sum()
        seconds = history["seconds"]
        shown = f"With the accuracies {accuracies} and the target 0.9, your function"
        require(
            found != inf, f"{shown} gives infinity, but from some epoch on all of them reach it."
        )
        require(
            found not in history["epoch"].to_list(),
            f"{shown} gives the number of an epoch. In which column are the seconds?",
        )
        require(
            found in seconds.to_list(),
            f"{shown} gives {found:g}, which is no entry of the column seconds.",
        )
        require(
            first == kept or found != seconds[first],
            f"{shown} stops at the first epoch that reaches it. What comes after?",
        )
        require(
            accuracies[kept] > 0.9 or found == seconds[kept],
            f"{shown} is off. An accuracy that equals the target has reached it.",
        )
        require(found == seconds[kept], f"{shown} gives the seconds of another epoch.")
    for accuracies in ([0.91, 0.95, 0.89], [0.1, 0.2]):
        name = "your function, told of a training that ends below the target,"
        found = call(seconds_kept, _history(accuracies), 0.9, name=name)
        found = number(found, "the time of a training that ends below the target", finite=False)
        require(found == inf, "A training that ends below the target takes for ever: float('inf').")
    return "A target that is met once may have been met by luck."


@exercise("5.3")
def one_cycle(one_cycle):
    """Check a learning rate that rises over three tenths of the steps, and falls."""
    for steps, peak in ((100, 1.0), (250, 0.012)):
        rates = np.array(
            [
                number(call(one_cycle, step, steps, peak), f"the learning rate at step {step}")
                for step in range(steps)
            ]
        )
        at, where = rates.argmax(), f"With {steps} steps and a peak of {peak:g}, the learning rate"
        slack = 1e-6 * peak  # what 32-bit numbers round
        require(rates.min() >= -slack, f"{where} becomes negative.")
        require(np.ptp(rates) > 0, f"{where} is the same at every step.")
        require(
            abs(rates[at] / peak - 1) < 0.05,
            f"{where} is {rates[at]:.3g} where it is largest.",
        )
        off = at - 0.3 * steps
        require(
            abs(off) <= 2,
            f"{where} is largest {'later' if off > 0 else 'earlier'} than after three tenths of "
            "the steps.",
        )
        require(rates[0] <= peak / 10 + slack, f"{where} begins above a tenth of the peak.")
        require(rates[-1] <= peak / 50 + slack, f"{where} ends above a fiftieth of the peak.")
        change = np.diff(rates)
        require((change[:at] >= -slack).all(), f"{where} falls before it has reached the peak.")
        require((change[at + 1 :] < 0).all(), f"{where} does not fall at each step after the peak.")
        require(
            abs(change).max() < 20 * peak / steps,
            f"{where} jumps at step {abs(change).argmax() + 1}.",
        )
    return "It could drive a training: one step of the optimizer, one call."


@exercise("5.4")
def smoothed_loss(smoothed_loss):
    """Check a cross-entropy with smoothed labels against PyTorch's."""
    generator = torch.Generator().manual_seed(0)
    for n, k, smoothing in ((5, 10, 0.0), (7, 10, 0.05), (33, 4, 0.3)):
        logits = 3 * torch.randn(n, k, generator=generator)
        labels = torch.randint(k, (n,), generator=generator)
        loss = call(smoothed_loss, logits, labels, smoothing)
        require(
            read_array(loss, "the loss", wanted="A number is wanted").shape != (n,),
            "Your function returns a loss for each image. A training needs one number: their mean.",
        )
        loss = number(loss, "the loss")
        _name_wrong_turn(loss, logits, labels, smoothing)
        wanted = cross_entropy(logits, labels, label_smoothing=smoothing).item()
        right = abs(loss - wanted) < 1e-4
        require(
            right or smoothing > 0,
            "With a smoothing of 0, the loss is not the plain cross-entropy: minus the logarithm "
            "of the softmax over the classes of an image, at its label.",
        )
        require(
            right,
            f"With a smoothing of {smoothing} and {k} classes, the loss is off. What is the target "
            "for the class on the label, and what for each other class?",
        )
    logits, labels = torch.tensor([[2e4, 0.0, -2e4]]), torch.tensor([1])
    loss = torch.as_tensor(call(smoothed_loss, logits, labels, 0.1)).double()
    require(
        torch.isfinite(loss).all(),
        "With large logits, the loss is not finite: softmax rounds small probabilities to 0, whose "
        "logarithm is infinite. log_softmax takes both steps at once, and does not.",
    )
    wanted = cross_entropy(logits, labels, label_smoothing=0.1).double()
    require(
        torch.allclose(loss, wanted, rtol=1e-3),
        "With large logits, the loss is off: a floor under the probabilities hides how small they "
        "are. log_softmax takes both steps at once, and needs none.",
    )
    return "PyTorch's own gives the same."


@exercise("5.5")
def one_part_less(trained, cost):
    """Check trainings that each lack one part of a recipe, and what the lack costs."""
    require(isinstance(trained, Mapping), "trained is to be a dict of what fit returns.")
    for name, training in trained.items():
        require(
            all(hasattr(training, part) for part in ("model", "config", "history"))
            and "val_acc" in getattr(training.history, "columns", ()),
            f"trained[{name!r}] is not what fit returns: keep the whole of it.",
        )
    require("recipe" in trained, "The training with the whole recipe is missing: 'recipe'.")
    whole = asdict(trained["recipe"].config)
    for part, without in PARTS.items():
        require(whole[part] != without, f"trained['recipe'] lacks a part of the recipe: {part}.")
    require(
        len({id(training.model) for training in trained.values()}) == len(trained),
        "Two trainings share a network, so that one began where the other ended. Build a new "
        "network for each.",
    )
    others = [name for name in trained if name != "recipe"]
    taken_out = {_part_taken_out(name, trained[name].config, whole) for name in others}
    missing = [part for part in PARTS if part not in taken_out]
    require(not missing, f"Still to be taken out: {', '.join(missing)}.")
    named = hasattr(cost, "keys") and not isinstance(cost, type)
    require(named, "cost is to hold a number for each part that is taken out.")
    for name in others:
        require(name in cost, f"cost says nothing about {name!r}.")
        _check_cost(name, number(cost[name], f"the cost of {name!r}"), trained)
    return "With few images and one seed, this is a first look, and the luck of the seed is in it."


def _history(accuracies):
    n = len(accuracies)
    seconds = 3.375 * np.arange(1, n + 1) + 10  # never whole
    return pd.DataFrame({"epoch": range(1, n + 1), "val_acc": accuracies, "seconds": seconds})


def _name_wrong_turn(loss, logits, labels, smoothing):
    def smoothed(at_label, elsewhere, scores=logits):
        log = scores.log_softmax(dim=1)
        at = log.gather(1, labels[:, None])[:, 0]
        return -(at_label * at + elsewhere * (log.sum(dim=1) - at)).mean().item()

    n, k = logits.shape
    s, each = smoothing, smoothing / k
    right = smoothed(1 - s + each, each)
    wrong_turns = [
        (-right, "The loss has the wrong sign: logarithms of probabilities are negative."),
        (n * right, "This is the sum over the images. Their mean is asked for."),
        (right / k, "This is a mean over images and classes. Sum over the classes of an image."),
        (smoothed(1 - s + each, each, logits.softmax(dim=1)), "The softmax is taken twice."),
        (smoothed(1, 0), "The labels are not smoothed yet."),
        (
            smoothed(1 - s, s / (k - 1)),
            "The share is spread over the other classes alone. The class on the label gets its "
            "part of it, too.",
        ),
        (smoothed(1 - s, each), "The targets of an image do not add up to 1."),
        (smoothed(1 - s + s / 10, s / 10), "There need not be ten classes: ask the logits."),
        (smoothed(s + (1 - s) / k, (1 - s) / k), "The label keeps the large share."),
    ]
    for wrong, words in wrong_turns:
        require(abs(loss - wrong) > 1e-4 or abs(loss - right) < 1e-4, words)


def _part_taken_out(name, config, whole):
    changed = [part for part, value in asdict(config).items() if value != whole[part]]
    require(changed, f"{name!r} was trained with the whole recipe.")
    require(
        len(changed) == 1,
        f"{name!r} differs from the recipe in {' and '.join(changed)}. Change one thing at a time, "
        "or nobody can say which of them it was.",
    )
    (part,) = changed
    value = getattr(config, part)
    require(
        value == PARTS.get(part, value),
        f"In {name!r} the {part} is changed to {value!r}, and not taken out.",
    )
    return part


def _check_cost(name, found, trained):
    def lost(measure):
        whole, less = (measure(trained[key].history["val_acc"]) for key in ("recipe", name))
        return whole - less

    wanted = lost(lambda accuracies: accuracies.iloc[-1])

    def fits(value):
        return abs(found - value) < 1e-5

    require(
        fits(wanted) or not fits(-wanted),
        f"The cost of {name!r} has the wrong sign: it is positive where the recipe is better.",
    )
    require(
        fits(wanted) or not fits(100 * wanted),
        f"The cost of {name!r} is in percentage points: give it as a share, 0.012 for 1.2 points.",
    )
    require(
        fits(wanted) or not fits(lost(max)),
        f"The cost of {name!r} compares the best epochs. Take the last ones.",
    )
    require(
        fits(wanted),
        f"The cost of {name!r} is off: it is the validation accuracy of the recipe after the last "
        "epoch, less the one without that part.",
    )
