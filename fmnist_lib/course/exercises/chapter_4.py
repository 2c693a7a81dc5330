"""Checks of chapter 4, evaluation."""

import numpy as np
import torch
from scipy.special import softmax
from sklearn.metrics import accuracy_score, precision_score, recall_score

from fmnist_lib.course.exercises.answers import RETURNED, call, number, read_array, require
from fmnist_lib.course.exercises.damage import check_damage, damaged
from fmnist_lib.course.exercises.feedback import Nudge, exercise
from fmnist_lib.evaluation import predict

ROUNDED = 6e-3  # by this much, a share of two digits may be off


@exercise("4.1")
def deviation(deviation):
    """Check the standard deviation of a share of 0.8 among 400."""
    value = number(deviation, "the standard deviation")
    of_one = "This is about a single photograph. What is known of it for 400 together?"
    interval = "This is a reach or a width of the 95 % interval. The deviation itself is asked for."
    wrong_turns = {
        0.0004: "This is the variance of the share. The deviation is its square root.",
        0.16: of_one,
        0.4: of_one,
        0.001: "The number of photographs belongs below the root.",
        2.0: "This is in percentage points. Give it as a share.",
        8.0: "So much scatters the number of right answers. How much does their share scatter?",
        64.0: "This is the variance of the number of right answers, not the deviation of a share.",
        0.05: "The square root of the number of photographs is only one half of the formula.",
        0.0447: "Two shares stand below the root: that of right answers and that of wrong ones.",
        0.004: "The photographs are those of the shop, not the 10,000 test images.",
        0.003: "This is the chapter's example: there, both the share and the number are others.",
    } | dict.fromkeys((0.0392, 0.04, 0.0784, 0.08), interval)
    require(value > 0, "Shares do scatter, and a standard deviation is never negative.")
    for wrong, words in wrong_turns.items():
        require(abs(value - wrong) > 0.01 * wrong, words)
    require(
        abs(value - 0.02) < 1e-3,  # some draw thousands of shares, and find it nearly
        "Take the formula at the beginning of the chapter. What is the share here, and of how many "
        "photographs?",
    )
    return "About twice as much to either side makes a 95 % interval."


@exercise("4.2")
def precision_recall(precision_recall):
    """Check the two shares of a class, and what is said of one that is never predicted."""
    for n, k in ((60, 3), (500, 0), (501, 9)):
        labels, predicted = _labels_and_predictions(n)
        given = _two_shares(precision_recall, labels, predicted, k, f"class {k}")
        precision, recall = _precision_recall(labels, predicted, k)
        both = ((labels == k) & (predicted == k)).mean()
        right = abs(given - (precision, recall)) < 1e-6
        require(
            right.all() or not np.allclose(given, (recall, precision)),
            "The two shares are right and in the wrong order: precision comes first.",
        )
        require(
            right.all() or abs(given - both).min() > 1e-6,
            "One of these is a share of all images. Precision is a share of some of them, and "
            "recall of some others.",
        )
        _check_rounding(given, right, (precision, recall))
        require(
            right[0],
            "The precision is off. It is a share of the images that are called k. How many are "
            "called so, and how many of those rightly?",
        )
        require(
            right[1],
            "The precision is right, the recall is off. It is a share of the images that are k.",
        )
    predicted = np.where(predicted == 9, 4, predicted)
    given = _two_shares(precision_recall, labels, predicted, 9, "a class that is never predicted")
    require((given == 0).all(), "Of a class that is never predicted, both shares are to be 0.")
    return "These are the numbers of class_report."


@exercise("4.3")
def vote(vote, share, seeds):
    """Check the vote of several networks, and its accuracy."""
    generator = np.random.default_rng(0)
    for shape in ((3, 8), (10, 200)):
        _check_vote(vote, generator.choice(np.array([0, 2, 5, 9], np.uint8), shape))
    share = _share(share, "the share of right answers")
    ballots = seeds.predicted["cnn"]
    alone = (ballots == seeds.labels).mean(axis=1)
    lowest, highest = _shares_of_votes(vote, ballots, seeds.labels)
    possible = lowest - 1e-6 < share < highest + 1e-6
    require(
        possible or abs(share - alone.mean()) > 1e-6,
        "This is the mean of ten accuracies, without a vote.",
    )
    require(
        possible or abs(share - alone.max()) > 1e-6,
        "This is the accuracy of the best network alone.",
    )
    require(
        possible or not lowest - ROUNDED < share < highest + ROUNDED,
        "Rounded? Give the share as it is computed.",
    )
    require(
        possible,
        "The function is right, the share is not: let the ten plain networks vote, and compare "
        "with seeds.labels.",
    )
    return "Whom did you expect the vote to beat: their mean, or the best of them as well?"


@exercise("4.4")
def when_sure(when_sure):
    """Check the share of images that a network answers, and its accuracy on those."""
    generator = np.random.default_rng(0)
    for n, threshold in ((97, 0.5), (401, 0.3), (401, 0.8)):
        probabilities = softmax(generator.normal(scale=3, size=(n, 10)), axis=1)
        guess = probabilities.argmax(axis=1)
        labels = np.where(generator.random(n) < 0.6, guess, generator.integers(10, size=n))
        given = read_array(call(when_sure, probabilities, labels, threshold), RETURNED, (2,))
        sure, hit = probabilities.max(axis=1) > threshold, guess == labels
        covered, accuracy = sure.mean(), hit[sure].mean()
        right = abs(given - (covered, accuracy)) < 1e-6
        require(
            right.all() or not np.allclose(given, (accuracy, covered)),
            "The two shares are right and in the wrong order: that of answered images comes first.",
        )
        told = probabilities[np.arange(n), labels] > threshold
        percent = "This is percent. Give shares between 0 and 1."
        turns = [
            (0, sure.sum(), "The images that are answered are counted. Give their share."),
            (0, (~sure).mean(), "These are the images on which the network keeps silent."),
            (
                0,
                told.mean(),
                "The threshold is held against the probability of the class on the label. A "
                "network that is asked does not know the label. Which probability does it know?",
            ),
            (1, hit.mean(), "The accuracy is that on all images, answered or not."),
            (
                1,
                (hit & sure).mean(),
                "The images on which the network keeps silent count as mistakes here. Share the "
                "right answers among the answered images alone.",
            ),
            (
                1,
                (hit & sure).sum(),
                "The right answers are counted. Give their share among the answered images.",
            ),
            *((at, 100 * (covered, accuracy)[at], percent) for at in (0, 1)),
        ]
        for at, wrong, words in turns:
            require(right[at] or abs(given[at] - wrong) > 1e-6, words)
        _check_rounding(given, right, (covered, accuracy))
        require(
            right[0],
            f"With a threshold of {threshold}, the share of answered images is off. On how many is "
            "the largest of the ten probabilities above the threshold?",
        )
        require(
            right[1],
            "The share of answered images is right, the accuracy is off. What share of these is "
            "answered rightly?",
        )
    return "A higher threshold buys accuracy and pays with answers."


@exercise("4.5")
def hide(hide, left, networks, data):
    """Check a kind of damage, and what two networks make of it."""
    some = data.test[:1000]
    # Damage may be drawn at random: the chapter's own draws stay as they were.
    with torch.random.fork_rng(devices=[]):
        check_damage(hide, data.test)
        draws = [damaged(hide, some.images) for _ in range(2)]
        drawn = not torch.equal(*draws)
        draws = draws + [damaged(hide, some.images) for _ in range(3)] if drawn else draws[:1]
    for name in networks:
        require(
            hasattr(left, "keys") and name in left,
            f"left is to hold the accuracy of each network under its name, and {name} is missing.",
        )
    found = np.array([_share(left[name], f"the accuracy of {name}") for name in networks])
    right = np.array([_accuracies(networks, images, some) for images in draws])
    lowest, highest = right.min(axis=0), right.max(axis=0)
    require(
        (highest - lowest).max() < 0.1,
        "Your damage is drawn once for all images, and another one each time, so nobody can "
        "measure its accuracy again. Draw it for each image, or begin your function with "
        "torch.manual_seed(0).",
    )
    # Drawn at random, the damage is another one each time; else only rounding may differ.
    tolerance = 0.05 if drawn else 0.003

    def fits(shares):
        return (lowest - tolerance <= shares).all() and (shares <= highest + tolerance).all()

    if not fits(found):
        require(
            abs(found - _accuracies(networks, some.images, some)).max() > 1e-6,
            "These are the accuracies on the images as they are.",
        )
        require(
            np.ptp(right[0]) <= tolerance or not fits(found[::-1]),
            "Each accuracy stands under the name of the other network.",
        )
        raise Nudge(
            "The damage is fine, the accuracies are off. Predict the damaged images, the first "
            "1,000 of the test images, and compare with their labels."
        )
    return "Look at some damaged images: which of them could you still name?"


def _check_vote(vote, ballots):
    voters, n = ballots.shape
    given = read_array(call(vote, ballots), RETURNED)
    require(
        given.shape != (voters,),
        "Your function returns one class for each network. Which of the axes holds the networks "
        "that vote on an image?",
    )
    given = read_array(given, f"{RETURNED} for {voters} networks and {n} images", (n,))
    counts = _votes(ballots)
    most = counts.max(axis=1)
    is_class = np.isin(given, np.arange(10))
    # Where votes are tied, each of the tied classes will do.
    if is_class.all() and (counts[np.arange(n), given.astype(int)] == most).all():
        return
    require((given != most).any(), "So many votes it is. But for which class?")
    apart = abs(given - ballots.mean(axis=0)).max(), abs(given - np.median(ballots, axis=0)).max()
    require(
        min(apart) > 0.6,  # rounded or not
        "The numbers of the classes have no order: between a T-shirt (0) and a pullover (2) there "
        "are no trousers (1). Count the votes for each class.",
    )
    require(is_class.all(), "The classes have the numbers 0 to 9.")
    raise Nudge("Some images get a class although another one has more votes.")


def _votes(ballots):
    return (ballots[..., None] == np.arange(10)).sum(axis=0)  # (n, 10)


def _shares_of_votes(vote, ballots, labels):
    """Lowest and highest share of right answers that the vote can come to."""
    once, again = (read_array(call(vote, ballots), RETURNED, labels.shape) for _ in range(2))
    if np.array_equal(once, again):
        share = accuracy_score(labels, once)
        return share, share
    # Lots are drawn where votes are tied: in the worst case all wrong, in the best all right.
    counts = _votes(ballots)
    in_front = counts == counts.max(axis=1, keepdims=True)
    may_be_right = in_front[np.arange(len(labels)), labels]
    return (may_be_right & (in_front.sum(axis=1) == 1)).mean(), may_be_right.mean()


def _accuracies(networks, images, split):
    guesses = [predict(network, images).argmax(axis=1) for network in networks.values()]
    return [accuracy_score(split.labels, guess) for guess in guesses]


def _check_rounding(given, right, wanted):
    rounded = (abs(given - wanted) < ROUNDED).all() and not right.all()
    require(not rounded, "Rounded? Return the shares as they are computed.")


def _labels_and_predictions(n):
    generator = np.random.default_rng(n)
    labels = generator.permutation(np.arange(n) % 10)
    predicted = np.where(generator.random(n) < 0.7, labels, generator.integers(10, size=n))
    return labels, predicted


def _precision_recall(labels, predicted, k):
    of_class = {"labels": [k], "average": None, "zero_division": 0}
    return [score(labels, predicted, **of_class)[0] for score in (precision_score, recall_score)]


def _two_shares(function, labels, predicted, k, about):
    name = f"your function, asked about {about},"
    with np.errstate(all="ignore"):
        given = call(function, labels, predicted, k, name=name)
    given = read_array(given, f"the answer about {about}", (2,))
    require((given <= 1).all(), "These are counts, or percent. Give shares between 0 and 1.")
    return given


def _share(answer, name):
    value = number(answer, name)
    require(0 <= value <= 1, f"A share lies between 0 and 1, and {name} does not.")
    return value
