"""Checks of chapter 4, evaluation."""

import numpy as np
import torch
from scipy.special import softmax
from sklearn.metrics import accuracy_score, precision_score, recall_score

from fmnist_lib.course.exercises.answers import RETURNED, call, expect, number, read_array, refuse
from fmnist_lib.course.exercises.feedback import exercise
from fmnist_lib.data import load_fashion_mnist
from fmnist_lib.evaluation import predict

INTERVAL = "This is half or all of the width of the 95 % interval. Give the deviation itself."
DEVIATION = {
    0.0004: "This is the variance of the share. The deviation is its square root.",
    2: "This is in percentage points. Give it as a share.",
    0.0392: INTERVAL,
    0.0784: INTERVAL,
}


@exercise("4.1")
def deviation(deviation):
    """Check the standard deviation of a share of 0.8 among 400."""
    expect(
        number(deviation, "the standard deviation"),
        0.02,
        DEVIATION,
        "Take the formula at the beginning of the chapter. What is the share here, of how many "
        "photographs, and what stands under the root?",
        rtol=0.05,  # some draw thousands of shares, and find it nearly
    )
    return "About twice as much to either side makes a 95 % interval."


@exercise("4.2")
def precision_recall(precision_recall):
    """Check the two shares of a class, and what the function gives for one never predicted."""
    for n, k in ((60, 3), (500, 0), (501, 9)):
        labels, predicted = _labels_and_predictions(n)
        precision, recall = (
            score(labels, predicted, labels=[k], average=None)[0]
            for score in (precision_score, recall_score)
        )
        expect(
            _two_shares(precision_recall, labels, predicted, k, f"class {k}"),
            (precision, recall),
            {(recall, precision): "The first share is the recall. The precision comes first."},
            f"The shares of class {k} are off. Precision is a share of the images that are called "
            "k, recall of those that are k. Give each as it is computed, not rounded.",
        )
    predicted = np.where(predicted == 9, 4, predicted)
    given = _two_shares(precision_recall, labels, predicted, 9, "a class that is never predicted")
    expect(given, 0, {}, "For a class that is never predicted, both shares should be 0.")
    return "These are the numbers of class_report."


def _labels_and_predictions(n):
    generator = np.random.default_rng(n)
    labels = generator.permutation(np.arange(n) % 10)
    predicted = np.where(generator.random(n) < 0.7, labels, generator.integers(10, size=n))
    return labels, predicted


def _two_shares(function, labels, predicted, k, about):
    with np.errstate(all="ignore"):
        given = call(function, labels, predicted, k, name=f"your function, asked about {about},")
    return read_array(given, f"the answer about {about}", (2,))


@exercise("4.3")
def vote(vote, share, seeds):
    """Check the vote of several networks, and its accuracy."""
    generator = np.random.default_rng(0)
    for voters, n in ((3, 8), (10, 200)):
        ballots = generator.choice(np.array([0, 2, 5, 9], np.uint8), (voters, n))
        name = f"{RETURNED} for {voters} networks and {n} images"
        given = read_array(call(vote, ballots), name, (n,))
        # Where votes are tied, each of the tied classes will do.
        refuse(
            not (_in_front(ballots) & (given[:, None] == np.arange(10))).any(axis=1).all()
            and "Some images get a class although another class has more votes. Count the votes "
            "for each class: the numbers of the classes have no order."
        )
    share = number(share, "the share of right answers")
    ballots = seeds.predicted["cnn"]
    alone = (ballots == seeds.labels).mean(axis=1)
    expect(
        share,
        np.clip(share, *_shares_of_votes(vote, ballots, seeds.labels)),
        {
            alone.mean(): "This is the mean of ten accuracies, without a vote.",
            alone.max(): "This is the accuracy of the best network alone.",
        },
        "The function is right, the share is not: let the ten plain networks vote, compare with "
        "seeds.labels, and do not round.",
    )
    return "Whom did you expect the vote to beat: their mean, or the best of them as well?"


def _in_front(ballots):
    """Say which classes have the most votes, for each image: (n, 10), bool."""
    counts = (ballots[..., None] == np.arange(10)).sum(axis=0)
    return counts == counts.max(axis=1, keepdims=True)


def _shares_of_votes(vote, ballots, labels):
    """Compute the lowest and the highest share of right answers that the vote can reach."""
    once, again = (read_array(call(vote, ballots), RETURNED, labels.shape) for _ in range(2))
    if np.array_equal(once, again):
        share = accuracy_score(labels, once)
        return share, share
    # Ties are broken by lot: in the worst case all wrong, in the best all right.
    in_front = _in_front(ballots)
    may_be_right = in_front[np.arange(len(labels)), labels]
    return (may_be_right & (in_front.sum(axis=1) == 1)).mean(), may_be_right.mean()


@exercise("4.4")
def when_sure(when_sure):
    """Check the share of images that a network answers, and its accuracy on those."""
    generator = np.random.default_rng(0)
    for n, threshold in ((97, 0.5), (401, 0.3), (401, 0.8)):
        probabilities = softmax(generator.normal(scale=3, size=(n, 10)), axis=1)
        guess = probabilities.argmax(axis=1)
        labels = np.where(generator.random(n) < 0.6, guess, generator.integers(10, size=n))
        sure, hit = probabilities.max(axis=1) > threshold, guess == labels
        covered, accuracy = sure.mean(), hit[sure].mean()
        expect(
            read_array(call(when_sure, probabilities, labels, threshold), RETURNED, (2,)),
            (covered, accuracy),
            {
                (accuracy, covered): "The share of answers comes first.",
                (covered, hit.mean()): "The accuracy is that on all images, answered or not.",
                (covered, (hit & sure).mean()): "The images on which the network keeps silent "
                "count as mistakes here. Take the share of right answers among answered images "
                "alone.",
            },
            f"With a threshold of {threshold}, the two shares are off. On how many images is the "
            "largest of the ten probabilities above the threshold, and what share of these is "
            "answered rightly? Do not round.",
        )
    return "A higher threshold buys accuracy and pays with answers."


@exercise("4.5")
def hide(hide, left, networks, data):
    """Check a kind of damage, and the accuracy of two networks on damaged images."""
    some = data.test[:1000]
    # Damage may be drawn at random: the chapter's own draws stay as they were.
    with torch.random.fork_rng(devices=[]):
        # The student's own cell may have spoiled the images in data already.
        _check_damage(hide, load_fashion_mnist(sample=True).test.images)
        draws = [_damaged(hide, some.images) for _ in range(5)]
    missing = [name for name in networks if not hasattr(left, "keys") or name not in left]
    refuse(
        missing
        and "left should hold the accuracy of each network under its name; "
        f"{missing[0]} is missing."
    )
    found = np.array([number(left[name], f"the accuracy of {name}") for name in networks])
    right = np.array([_accuracies(networks, images, some) for images in draws])
    refuse(
        np.ptp(right, axis=0).max() >= 0.1
        and "Your damage is drawn once for all images, and differs each time, so nobody can "
        "measure its accuracy again. Draw it for each image."
    )
    expect(
        found,
        np.clip(found, right.min(axis=0), right.max(axis=0)),
        {
            tuple(_accuracies(networks, some.images, some)): "These are the accuracies on the "
            "images as they are."
        },
        "The damage is fine, the accuracies are off. Predict the damaged images, the first 1,000 "
        "of the test images, and compare with their labels.",
        # Drawn at random, the damage is different each time; otherwise only rounding may differ.
        atol=0.003 if torch.equal(draws[0], draws[1]) else 0.05,
    )
    return "Look at some damaged images: which of them could you still name?"


def _damaged(hide, images):
    """Damage images with a student's function, and check that images come out."""
    given = call(hide, images)
    refuse(
        not (isinstance(given, torch.Tensor) and given.dtype == images.dtype)
        and "Your function should return a tensor of 32-bit numbers, like the one that it gets."
    )
    pixels = read_array(given, RETURNED, tuple(images.shape))
    outside = pixels.min() < -1e-6 or pixels.max() > 1 + 1e-6
    refuse(outside and "Pixels lie between 0 and 1, damaged or not.")
    return given.detach()


def _check_damage(hide, images):
    """Check that a function damages images, and leaves those that it gets as they were."""
    result, given = _damaged(hide, images), images.clone()
    call(lambda: hide(given))
    changed = (result != images).flatten(start_dim=1).any(dim=1)
    refuse(
        not torch.equal(given, images)
        and "Your function writes into the images that it gets, and so it spoils the test images "
        "themselves. Let it begin with a copy: images.clone(). Then load the data again, since "
        "they are spoiled already.",
        changed.float().mean() < 0.5
        and "Most images come back as they were. The corners are empty anyway: what lies "
        "elsewhere?",
        (result == result[:1]).all()
        and "All images come back alike. Leave something of them to recognise.",
    )


def _accuracies(networks, images, split):
    guesses = [predict(network, images).argmax(axis=1) for network in networks.values()]
    return [accuracy_score(split.labels, guess) for guess in guesses]
