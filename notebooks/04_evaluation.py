# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: all,-execution,-papermill,-collapsed,-editable,-slideshow
#     formats: ipynb,py:percent
#     notebook_metadata_filter: kernelspec,jupytext,-jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4 · Evaluation
#
# Two networks, one number each: is that enough to say which is better? This chapter puts both on
# the test images, side by side. It asks how sure the numbers are, class by class where each
# network fails, and at last it looks at the failures themselves.
#
# **After this chapter you can**
#
# - put an interval on an accuracy, and say what it covers and what it does not;
# - compare two classifiers on the same images, by the images on which they disagree;
# - read precision, recall and F1, and say which of them a question asks for;
# - find and look at the worst confusions and the most confident mistakes.
#
# **Time:** seconds if chapters 2 and 3 have been run, since their networks are loaded; otherwise
# both are trained first, which takes four to ten minutes on a two-core laptop. An hour of reading.

# %%
import pandas as pd

from fmnist_lib import evaluation, plotting
from fmnist_lib.claims import claim, claim_between
from fmnist_lib.data import CLASS_NAMES, load_fashion_mnist
from fmnist_lib.runs import describe_machine, load_or_train
from fmnist_lib.training import TrainConfig

# %% tags=["nbval-ignore-output"]
# %config InlineBackend.figure_formats = ["retina"]
print(describe_machine())

# %% [markdown]
# The next cell holds the chapter's parameters. Networks that were trained with exactly these
# settings are loaded; if there are none, they are trained.

# %% tags=["parameters"]
epochs: int = 25  # passes over the training images
batch_size: int = 64  # images in a step
lr: float = 3e-4  # learning rate of Adam
shuffle: bool = False  # True: a new order of the training images in each epoch
seed: int = 0  # of the first weights and of the order
device: str = "auto"  # "auto", "cpu", "cuda" or "mps"
sample: bool = False  # True: 1,500 images that need no download, for a quick look
data_dir: str = ""  # folder with the data; empty: where fmnist data finds it
runs_dir: str = "runs"  # folder in which the trained networks are kept

# %%
config = TrainConfig(epochs, batch_size, lr, shuffle, seed, device)
as_published = (epochs, batch_size, lr, sample) == (25, 64, 3e-4, False)
data = load_fashion_mnist(data_dir, sample=sample)

# %%
folders = {"cnn": "02_cnn", "dilated_cnn": "03_dilated_cnn"}
trained = {
    name: load_or_train(f"{runs_dir}/{folder}", name, data, config, sample=sample)
    for name, folder in folders.items()
}

# %%
images, labels = data.test.images, data.test.labels.numpy()
probabilities = {
    name: evaluation.predict(t.model, images) for name, t in trained.items()
}
predicted = {name: p.argmax(axis=1) for name, p in probabilities.items()}

# %% [markdown]
# ## How sure is an accuracy?
#
# The test images are a sample. Another 10,000 images from the same shop would have given a slightly
# different accuracy. If a network is right on each new image with probability *p*, the share of
# right answers among *N* images scatters around *p* with standard deviation √(*p*(1 − *p*)/*N*):
# for *p* = 0.9 and *N* = 10,000 that is 0.003. So the third decimal of an accuracy on this test set
# is mostly noise, and the fourth nothing else.
#
# A **95 % interval** turns this around: a recipe that, over many test sets, gives intervals of which
# 95 in 100 hold the true *p*. We use Wilson's recipe
# ([Brown, Cai and DasGupta, 2001](https://doi.org/10.1214/ss/1009213286)).

# %% tags=["nbval-ignore-output"]
rows = {}
for name, guess in predicted.items():
    low, high = evaluation.accuracy_interval(labels, guess)
    rows[name] = {"value": evaluation.accuracy(labels, guess), "low": low, "high": high}
accuracies = pd.DataFrame(rows).T
accuracies.round(4)

# %% mystnb={"image": {"alt": "The test accuracies of both networks with their 95 % intervals. The interval of the convolutional network lies to the right of that of the dilated one, and the two do not overlap."}}
ax = plotting.intervals(
    accuracies, "test accuracy, with 95 % interval (share of images)"
)

# %%
values, widths = accuracies["value"], accuracies["high"] - accuracies["low"]
claim_between(
    "the accuracy of the cnn", values["cnn"], 0.89, 0.92, applies=as_published
)
claim_between(
    "the accuracy of the dilated cnn",
    values["dilated_cnn"],
    0.87,
    0.905,
    applies=as_published,
)
claim_between(
    "the width of either interval", widths.max(), 0.010, 0.014, applies=as_published
)

# %% [markdown]
# Each interval is a little more than one percentage point wide. Mind what it covers: the luck of
# the *test images*, and nothing else. It knows nothing of the luck of the seed, of other shops, of
# photographs taken by customers. The true uncertainty about "how good is this network for me" is
# always larger.
#
# ## Which one is better?
#
# Comparing two intervals is not the best one can do. Both networks saw *the same* images. On most
# of them both are right, and on many of the rest both are wrong: those images say nothing about
# which is better. The evidence lies in the images on which exactly one is right.

# %% tags=["nbval-ignore-output"]
difference = evaluation.accuracy_difference(
    labels, predicted["cnn"], predicted["dilated_cnn"]
)
difference.rename(
    {"only_a_right": "only cnn right", "only_b_right": "only dilated right"}
)

# %%
above_zero = difference["low"] > 0
claim(
    "the interval of the difference lies above zero", above_zero, applies=as_published
)
disagree = difference["only_a_right"] + difference["only_b_right"]
share = disagree / len(labels)
claim_between(
    "the share that only one gets right", share, 0.04, 0.10, applies=as_published
)

# %% [markdown]
# So on images like these, *this* trained convolutional network is better than *this* trained
# dilated one, beyond the luck of the test images. Two networks, one seed each: whether the
# *architecture* is better is a question about many trainings, and one pair cannot answer it. And
# note the share of images that only one of them gets right. It is several times as large as the
# difference in accuracy: two networks can be nearly equal in accuracy and still differ on many
# images. Whether that is knowledge or luck, exercise 2 asks.
#
# ## Class by class
#
# **Precision** of a class: of the images called *shirt*, how many are shirts? **Recall**: of the
# shirts, how many were called so? A shop that shows its customers a page of shirts cares about
# precision; one that must find every shirt of a faulty batch cares about recall. **F1** is their
# harmonic mean, which is high only if both are.

# %% tags=["nbval-ignore-output"]
reports = {
    name: evaluation.class_report(labels, guess) for name, guess in predicted.items()
}
pd.concat(reports, axis=1).drop(columns=[(name, "images") for name in reports]).round(3)

# %% mystnb={"image": {"alt": "F1 of each class for both networks as points on ten lines. Trousers, bags and footwear lie above 0.9, dresses near it, T-shirts, pullovers and coats close together below them, and shirts far behind. The convolutional network is ahead in nearly every class."}}
ax = plotting.class_lines(reports, "f1", "F1 (0 to 1)")

# %%
f1 = pd.DataFrame({name: report["f1"] for name, report in reports.items()})
lowest = set(f1.idxmin())
claim("shirts have the lowest F1 with both", lowest == {"Shirt"}, applies=as_published)
ahead = int((f1["cnn"] > f1["dilated_cnn"]).sum())
claim("the cnn is ahead in at least seven classes", ahead >= 7, applies=as_published)

# %%
coats = f1.rank().loc["Coat"].max() <= 3
claim("coats are among the three lowest with both", coats, applies=as_published)
sandals = f1.rank().loc["Sandal"].min() > 5
claim("sandals are in the upper half with both", sandals, applies=as_published)
easy = f1.loc[["Trouser", "Sandal", "Sneaker", "Bag", "Ankle boot"]].min().min()
claim("trousers, bags and footwear stay above 0.9", easy > 0.9, applies=as_published)
claim("shirts stay below 0.8", f1.loc["Shirt"].max() < 0.8, applies=as_published)

# %% [markdown]
# The order of the classes is nearly the same for both networks, and its end is that of chapter 1,
# where no network had been trained yet: coats near the bottom, shirts last. But sandals, which were
# in the harder half for the nearest neighbour, are easy for both networks. Difficulty belongs to
# the data first, but not to the data alone.
#
# ## Who is taken for whom
#
# Both confusion matrices, then their difference. In the last one, a positive number off the
# diagonal is a confusion that the convolutional network makes more often.

# %% mystnb={"image": {"alt": "Confusion matrix of the convolutional network on the test images."}}
confusions = {
    name: evaluation.confusion_matrix(labels, guess)
    for name, guess in predicted.items()
}
ax = plotting.confusion_heatmap(confusions["cnn"], title="convolutional network")

# %% mystnb={"image": {"alt": "Confusion matrix of the dilated network on the test images. The same pattern, with larger numbers off the diagonal among the tops."}}
ax = plotting.confusion_heatmap(confusions["dilated_cnn"], title="dilated network")

# %% mystnb={"image": {"alt": "Difference of the two confusion matrices. The diagonal is mostly positive: the convolutional network is right more often. Most of the larger negative numbers lie among pullover, coat and shirt."}}
ax = plotting.confusion_heatmap(
    confusions["cnn"] - confusions["dilated_cnn"],
    title="convolutional less dilated",
    difference=True,
)

# %% [markdown]
# The worst confusions as a list:

# %% tags=["nbval-ignore-output"]
worst = {
    name: evaluation.worst_confusions(confusion)
    for name, confusion in confusions.items()
}
pd.concat(worst, axis=1)

# %%
tops = {"T-shirt", "Pullover", "Dress", "Coat", "Shirt"}
named = {
    garment
    for table in worst.values()
    for garment in {*table["true"], *table["predicted"]}
}
claim(
    "the worst confusions of both are among the tops",
    named <= tops,
    applies=as_published,
)
shirts = all("Shirt" in set(table.iloc[0, :2]) for table in worst.values())
claim("shirts take part in the worst one of both", shirts, applies=as_published)

# %% [markdown]
# ## Looking at the failures
#
# Tables say how often. Pictures say why. Here are test images of the convolutional network's worst
# confusion, six of each direction.

# %% mystnb={"image": {"alt": "Twelve test images of the most frequent confusion, each with its true class, the predicted class and the probability. Most would puzzle a person too: T-shirts with wide or V-shaped necklines, and shirts with short sleeves and no visible buttons."}}
first, second = worst["cnn"].iloc[0, :2].map(CLASS_NAMES.index)
guess = predicted["cnn"]
there = ((labels == first) & (guess == second)).nonzero()[0][:6]
back = ((labels == second) & (guess == first)).nonzero()[0][:6]
shown = [*there, *back]
figure = plotting.mistakes(images[shown], labels[shown], probabilities["cnn"][shown])

# %% [markdown]
# And the mistakes that it was surest of.

# %% mystnb={"image": {"alt": "The twelve most confident mistakes of the convolutional network, most with a probability that rounds to 1.00. Several look mislabelled: the prediction seems more convincing than the label."}}
surest = evaluation.confident_mistakes(labels, probabilities["cnn"], n=12)
figure = plotting.mistakes(images[surest], labels[surest], probabilities["cnn"][surest])

# %%
confidence = probabilities["cnn"][surest].max(axis=1)
sure = confidence.min() > 0.95
claim("all twelve were predicted with more than 0.95", sure, applies=as_published)

# %% [markdown]
# Three kinds show up. Labels that look wrong: there the network may be right. Odd views and rare
# articles, of which training held few. And plain errors.
#
# Do not judge the network's confidence by these twelve: we picked the surest of all its mistakes. To
# judge it, compare the mean of the probabilities that it gave to its predictions with the share of
# them that were right.

# %%
confidence = probabilities["cnn"].max(axis=1).mean()
excess = float(confidence - values["cnn"])
claim_between(
    "mean confidence less accuracy", excess, 0.005, 0.05, applies=as_published
)

# %% [markdown]
# The confidence is higher, though not by much: the network is somewhat *overconfident* on new images,
# as many are ([Guo et al., 2017](https://arxiv.org/abs/1706.04599)). Its probabilities sort the images
# well by risk, as exercise 3 shows; their values are a little too good.
#
# ## Exercises
#
# **1. Half the test set.** Compute the interval of the accuracy from the first 2,500 test images.
# How much wider is it than that from 10,000, and could you have said so beforehand?
#
# <details><summary>Hint and answer</summary>
#
# `evaluation.accuracy_interval(labels[:2500], predicted["cnn"][:2500])`. The width goes with 1/√*N*,
# so a quarter of the images gives twice the width.
#
# </details>
#
# **2. Two heads.** Average the probabilities of both networks and predict with the average. Is the
# pair better than the better one? Guess first. Then use `accuracy_difference`, and try it on the
# validation images, too.
#
# <details><summary>Hint and answer</summary>
#
# `(probabilities["cnn"] + probabilities["dilated_cnn"]).argmax(axis=1)`. You should find no gain:
# the interval of the difference contains zero, or lies below it. Averaging helps most when the two
# are about equally good and fail on different images. Here the weaker network spoils as many
# answers as it repairs, or more. Two trainings of the convolutional network with different seeds
# make a better pair.
#
# </details>
#
# **3. Answering only when sure.** Keep only the test images on which the convolutional network
# gives its prediction more than 0.9. What share of the images is left, and how accurate is it on
# those?
#
# <details><summary>Hint and answer</summary>
#
# `sure = probabilities["cnn"].max(axis=1) > 0.9`. You should find about three in four images left,
# and more than nineteen in twenty of them right. A classifier that may say "I do not know" is a
# different, and often a more useful, thing.
#
# </details>
#
# ## Recap
#
# - An accuracy on 10,000 images is known to about half a percentage point either way; write its
#   interval with it.
# - Compare two classifiers on the same images by the images on which they disagree.
# - One training of each network compares two networks, not two architectures.
# - Look at the failures. Some of them are the label's.
#
# **Next:** [training fast](05_training_fast.ipynb): what the minutes of chapters 2 and 3 were spent
# on, and how to need a tenth of them.
