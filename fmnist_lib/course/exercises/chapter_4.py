"""Checks of chapter 4, evaluation."""

import numpy as np
import torch
from scipy.special import softmax
from sklearn.metrics import accuracy_score, precision_score, recall_score

from fmnist_lib.course.exercises.answers import RETURNED, call, expect, number, read_array, refuse
from fmnist_lib.course.exercises.feedback import exercise
from fmnist_lib.data import first_of_each_class, load_fashion_mnist
from fmnist_lib.evaluation import predict

OF_ONE = "This is about a single photograph. What holds for 400 together?"
INTERVAL = "This is half or all of the width of the 95 % interval. Give the deviation itself."
DEVIATION = {
    0.0004: "This is the variance of the share. The deviation is its square root.",
    0.16: OF_ONE,
    0.4: OF_ONE,
    0.001: "The number of photographs belongs under the root.",
    2: "This is in percentage points. Give it as a share.",
    8: "This is how much the number of right answers scatters. How much does their share?",
    64: "This is the variance of the number of right answers, not the deviation of a share.",
    0.05: "The square root of the number of photographs is only one half of the formula.",
    0.0447: "Two shares stand under the root: that of right answers and that of wrong ones.",
    0.004: "The photographs are those of the shop, not the 10,000 test images.",
    0.003: "This is the chapter's example, where both the share and the number differ.",
    0.0392: INTERVAL,
    0.0784: INTERVAL,
}


@exercise("4.1")
def deviation(deviation):
    """Check the standard deviation of a share of 0.8 among 400."""
    value = number(deviation, "the standard deviation")
    refuse(value <= 0 and "Shares do scatter, and a standard deviation is never negative.")
    expect(
        value,
        0.02,
        DEVIATION,
        "Take the formula at the beginning of the chapter. What is the share here, and of how many "
        "photographs?",
        rtol=0.05,  # some draw thousands of shares, and find it nearly
    )
    return "About twice as much to either side makes a 95 % interval."


@exercise("4.2")
def precision_recall(precision_recall):
    """Check the two shares of a class, and what the function gives for one never predicted."""
    for n, k in ((60, 3), (500, 0), (501, 9)):
        labels, predicted = _labels_and_predictions(n)
        given = _two_shares(precision_recall, labels, predicted, k, f"class {k}")
        refuse((given > 1).any() and "These are counts, or percent. Give shares between 0 and 1.")
        precision, recall = _precision_recall(labels, predicted, k)
        of_all = "This is a share of all images. Precision is a share of some, recall of others."
        both = ((labels == k) & (predicted == k)).mean()
        _expect_share(
            given[0],
            precision,
            {recall: "The first share is the recall. The precision comes first.", both: of_all},
            "The precision is off. It is a share of the images that are called k. How many are "
            "called that, and how many of those rightly?",
        )
        _expect_share(
            given[1],
            recall,
            {both: of_all},
            "The precision is right, the recall is off. It is a share of the images that are k.",
        )
    predicted = np.where(predicted == 9, 4, predicted)
    given = _two_shares(precision_recall, labels, predicted, 9, "a class that is never predicted")
    expect(given, 0, {}, "For a class that is never predicted, both shares should be 0.")
    return "These are the numbers of class_report."


def _expect_share(found, right, wrong_turns, otherwise):
    rounded = abs(found - right) < 6e-3  # two digits or more
    otherwise = "Rounded? Give each share as it is computed." if rounded else otherwise
    expect(found, right, wrong_turns, otherwise)


def _labels_and_predictions(n):
    generator = np.random.default_rng(n)
    labels = generator.permutation(np.arange(n) % 10)
    predicted = np.where(generator.random(n) < 0.7, labels, generator.integers(10, size=n))
    return labels, predicted


def _precision_recall(labels, predicted, k):
    of_class = {"labels": [k], "average": None, "zero_division": 0}
    return [score(labels, predicted, **of_class)[0] for score in (precision_score, recall_score)]


def _two_shares(function, labels, predicted, k, about):
    with np.errstate(all="ignore"):
        given = call(function, labels, predicted, k, name=f"your function, asked about {about},")
    return read_array(given, f"the answer about {about}", (2,))


@exercise("4.3")
def vote(vote, share, seeds):
    """Check the vote of several networks, and its accuracy."""
    generator = np.random.default_rng(0)
    for shape in ((3, 8), (10, 200)):
        _check_vote(vote, generator.choice(np.array([0, 2, 5, 9], np.uint8), shape))
    share = _share(share, "the share of right answers")
    ballots = seeds.predicted["cnn"]
    alone = (ballots == seeds.labels).mean(axis=1)
    _expect_share(
        share,
        np.clip(share, *_shares_of_votes(vote, ballots, seeds.labels)),
        {
            alone.mean(): "This is the mean of ten accuracies, without a vote.",
            alone.max(): "This is the accuracy of the best network alone.",
        },
        "The function is right, the share is not: let the ten plain networks vote, and compare "
        "with seeds.labels.",
    )
    return "Whom did you expect the vote to beat: their mean, or the best of them as well?"


def _check_vote(vote, ballots):
    voters, n = ballots.shape
    given = call(vote, ballots)
    refuse(
        read_array(given, RETURNED).shape == (voters,)
        and "Your function returns one class for each network. Which of the axes holds the "
        "networks that vote on an image?"
    )
    given = read_array(given, f"{RETURNED} for {voters} networks and {n} images", (n,))
    counts = _votes(ballots)
    most = counts.max(axis=1)
    is_class = np.isin(given, np.arange(10)).all()
    # Where votes are tied, each of the tied classes will do.
    if is_class and (counts[np.arange(n), given.astype(int)] == most).all():
        return
    averages = ballots.mean(axis=0), np.median(ballots, axis=0)
    refuse(
        (given == most).all() and "That many votes it is. But for which class?",
        any(abs(given - average).max() < 0.6 for average in averages)  # rounded or not
        and "The numbers of the classes have no order: between a T-shirt (0) and a pullover (2) "
        "there are no trousers (1). Count the votes for each class.",
        not is_class and "The classes have the numbers 0 to 9.",
        "Some images get a class although another class has more votes.",
    )


def _votes(ballots):
    return (ballots[..., None] == np.arange(10)).sum(axis=0)  # (n, 10)


def _shares_of_votes(vote, ballots, labels):
    """Compute the lowest and the highest share of right answers that the vote can reach."""
    once, again = (read_array(call(vote, ballots), RETURNED, labels.shape) for _ in range(2))
    if np.array_equal(once, again):
        share = accuracy_score(labels, once)
        return share, share
    # Lots are drawn where votes are tied: in the worst case all wrong, in the best all right.
    counts = _votes(ballots)
    in_front = counts == counts.max(axis=1, keepdims=True)
    may_be_right = in_front[np.arange(len(labels)), labels]
    return (may_be_right & (in_front.sum(axis=1) == 1)).mean(), may_be_right.mean()


def _share(answer, name):
    value = number(answer, name)
    refuse(not 0 <= value <= 1 and f"A share lies between 0 and 1, and {name} does not.")
    return value


@exercise("4.4")
def when_sure(when_sure):
    """Check the share of images that a network answers, and its accuracy on those."""
    generator = np.random.default_rng(0)
    percent = "This is percent. Give shares between 0 and 1."
    for n, threshold in ((97, 0.5), (401, 0.3), (401, 0.8)):
        probabilities = softmax(generator.normal(scale=3, size=(n, 10)), axis=1)
        guess = probabilities.argmax(axis=1)
        labels = np.where(generator.random(n) < 0.6, guess, generator.integers(10, size=n))
        given = read_array(call(when_sure, probabilities, labels, threshold), RETURNED, (2,))
        sure, hit = probabilities.max(axis=1) > threshold, guess == labels
        covered, accuracy = sure.mean(), hit[sure].mean()
        peeking = (probabilities[np.arange(n), labels] > threshold).mean()
        _expect_share(
            given[0],
            covered,
            {
                accuracy: "Your first share is the accuracy. The share of answers comes first.",
                sure.sum(): "You count the answered images. Give their share.",
                (~sure).mean(): "These are the images on which the network keeps silent.",
                peeking: "You compare the threshold with the probability of the class on the "
                "label, which a network in use does not know. Which probability does it know?",
                100 * covered: percent,
            },
            f"With a threshold of {threshold}, the share of answered images is off. On how many is "
            "the largest of the ten probabilities above the threshold?",
        )
        _expect_share(
            given[1],
            accuracy,
            {
                hit.mean(): "The accuracy is that on all images, answered or not.",
                (hit & sure).mean(): "The images on which the network keeps silent count as "
                "mistakes here. Take the share of right answers among answered images alone.",
                (hit & sure).sum(): "You count the right answers. Give their share.",
                100 * accuracy: percent,
            },
            "The share of answered images is right, the accuracy is off. What share of these is "
            "answered rightly?",
        )
    return "A higher threshold buys accuracy and pays with answers."


@exercise("4.5")
def hide(hide, left, networks, data):
    """Check a kind of damage, and the accuracy of two networks on damaged images."""
    some = data.test[:1000]
    # Damage may be drawn at random: the chapter's own draws stay as they were.
    with torch.random.fork_rng(devices=[]):
        _check_damage(hide, data.test)
        draws = [_damaged(hide, some.images) for _ in range(2)]
        drawn = not torch.equal(*draws)
        draws = draws + [_damaged(hide, some.images) for _ in range(3)] if drawn else draws[:1]
    missing = [name for name in networks if not hasattr(left, "keys") or name not in left]
    refuse(
        missing
        and "left should hold the accuracy of each network under its name; "
        f"{missing[0]} is missing."
    )
    found = np.array([_share(left[name], f"the accuracy of {name}") for name in networks])
    right = np.array([_accuracies(networks, images, some) for images in draws])
    lowest, highest = right.min(axis=0), right.max(axis=0)
    # Drawn at random, the damage is different each time; otherwise only rounding may differ.
    tolerance = 0.05 if drawn else 0.003

    def off(shares):
        return abs(shares - np.clip(shares, lowest, highest)).max() > tolerance

    refuse(
        (highest - lowest).max() >= 0.1
        and "Your damage is drawn once for all images, and differs each time, so nobody can "
        "measure its accuracy again. Draw it for each image, or begin your function with "
        "torch.manual_seed(0).",
        off(found)
        and abs(found - _accuracies(networks, some.images, some)).max() < 1e-6
        and "These are the accuracies on the images as they are.",
        off(found)
        and not off(found[::-1])
        and np.ptp(right[0]) > tolerance
        and "Each accuracy stands under the name of the other network.",
        off(found)
        and "The damage is fine, the accuracies are off. Predict the damaged images, the first "
        "1,000 of the test images, and compare with their labels.",
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


def _check_damage(hide, test):
    """Check that a function damages images, and that it has left the test images as they were."""
    # The student's own cell has used the function already: what it wrote into is spoiled.
    untouched = load_fashion_mnist(sample=True).test
    images = untouched.images.clone()
    _damaged(hide, images[:1])
    result = _damaged(hide, images)
    call(lambda: hide(images))
    same = test[first_of_each_class(test.labels, 50)]
    ours = torch.equal(same.labels, untouched.labels)  # unless a run was given other data
    changed = (result != images).flatten(start_dim=1).any(dim=1)
    refuse(
        not torch.equal(images, untouched.images)
        and "Your function writes into the images that it gets, and so it spoils the test images "
        "themselves. Let it begin with a copy: images.clone(). Then load the data again, since "
        "they are spoiled already.",
        ours
        and not torch.equal(same.images, images)
        and "Something has written into the test images. Load them again, "
        "data = load_fashion_mnist(data_dir, sample=sample), and run your cell once more.",
        changed.float().mean() < 0.5
        and "Most images come back as they were. The corners are empty anyway: what lies "
        "elsewhere?",
        (result == result[:1]).all()
        and "All images come back alike. Leave something of them to recognise.",
    )


def _accuracies(networks, images, split):
    guesses = [predict(network, images).argmax(axis=1) for network in networks.values()]
    return [accuracy_score(split.labels, guess) for guess in guesses]
