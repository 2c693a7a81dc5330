# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: all,-execution,-papermill,-collapsed,-editable
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
# Two networks, one number each: is that enough to say which is better? This chapter examines both
# as a referee would. How sure are the numbers? What would other seeds have given? Where does each
# network fail, and do they fail on the same images? Can their probabilities be believed? What is
# left of them when the images get worse? And are the labels right?
#
# **After this chapter you can**
#
# - put an interval on an accuracy, with and without a formula, and say what it covers;
# - compare two classifiers on the same images, and tell a better network from a better recipe;
# - read precision, recall and F1, and say which of them a question asks for;
# - judge probabilities by a reliability diagram, and mend them with one number;
# - measure what an accuracy is worth on damaged images, and what doubtful labels do to it.
#
# **Time:** half a minute if chapters 2 and 3 have been run, since their networks are loaded;
# otherwise both are trained first, which takes four to ten minutes on a two-core laptop. Two hours
# of reading.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
try:
    import fmnist_lib  # noqa: F401
except ModuleNotFoundError:
    raise ImportError(
        "This chapter needs the course's library: open it with 'make lab' in the "
        "course's folder, or first install that folder with '%pip install FOLDER'."
    ) from None

from itertools import combinations

import pandas as pd
from scipy.stats import ttest_rel

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output", "hide-input"]
from fmnist_lib import evaluation, inspection, plotting
from fmnist_lib.claims import claim, claim_between
from fmnist_lib.course import widgets
from fmnist_lib.course.exercises import check
from fmnist_lib.data import CLASS_NAMES, load_fashion_mnist
from fmnist_lib.experiments.parameters import check_parameters
from fmnist_lib.measured import load_label_noise, load_seeds
from fmnist_lib.timing import compare_times
from fmnist_lib.trained import describe_machine, load_or_train
from fmnist_lib.training import TrainConfig

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
trained_dir: str = "trained"  # folder in which the trained networks are kept

# %%
check_parameters(globals())
config = TrainConfig(epochs, batch_size, lr, shuffle, seed, device)
as_published = (epochs, batch_size, lr, sample) == (25, 64, 3e-4, False)
data = load_fashion_mnist(data_dir, sample=sample)

# %%
folders = {"cnn": "02_cnn", "dilated_cnn": "03_dilated_cnn"}
networks = {
    name: load_or_train(f"{trained_dir}/{folder}", name, data, config).model.cpu()
    for name, folder in folders.items()
}

# %%
images, labels = data.test.images, data.test.labels.numpy()
probabilities = {
    name: evaluation.predict(network, images) for name, network in networks.items()
}
predicted = {name: p.argmax(axis=1) for name, p in probabilities.items()}

# %% [markdown]
# ## How sure is an accuracy?
#
# The test images are a sample. Another 10,000 images from the same shop would have given a slightly
# different accuracy. If a network is right on each new image with probability $p$, the share of
# right answers among $N$ images scatters around $p$ with the standard deviation
#
# $$\sqrt{\frac{p (1 - p)}{N}}$$
#
# For $p$ = 0.9 and $N$ = 10,000 that is 0.003. So the third decimal of an accuracy on this test set
# is mostly noise, and the fourth nothing else.
#
# A **95 % interval** turns this around: a recipe that, over many test sets, gives intervals of which
# 95 in 100 hold the true $p$. We use Wilson's recipe
# ([Brown, Cai and DasGupta, 2001](https://doi.org/10.1214/ss/1009213286)).

# %% tags=["nbval-ignore-output"]
rows = {}
for name, guess in predicted.items():
    low, high = evaluation.accuracy_interval(labels, guess)
    rows[name] = {"value": evaluation.accuracy(labels, guess), "low": low, "high": high}
accuracies = pd.DataFrame(rows).T
accuracies.round(4)

# %% mystnb={"image": {"alt": "The test accuracies of both networks with their 95 % intervals. The interval of the convolutional network lies to the right of that of the dilated one, and the two do not overlap."}} tags=["figure-words"]
ax = plotting.intervals(
    accuracies, "test accuracy, with 95 % interval (share of images)"
)

# %% tags=["hide-input"]
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
# Where no formula is at hand, for an F1 or a median, say, one can *draw* other test sets: 10,000
# images out of ours, with replacement, so that some come twice and some not at all; then their
# accuracy; and that two thousand times over. The middle 95 % of those accuracies is the **bootstrap**
# interval ([Efron, 1979](https://doi.org/10.1214/aos/1176344552)).

# %% tags=["nbval-ignore-output"]
drawn = {
    name: evaluation.bootstrap_interval(labels, guess)
    for name, guess in predicted.items()
}
drawn = pd.DataFrame(drawn, index=["low", "high"]).T
drawn.round(4)

# %% tags=["hide-input"]
apart = (drawn - accuracies[["low", "high"]]).abs().max().max()
claim(
    "formula and drawing differ by less than 0.001", apart < 0.001, applies=as_published
)

# %% [markdown]
# They agree, as they must. Drawing with replacement from a list in which the share $p$ is right is
# tossing a coin that shows heads with probability $p$: the share of heads scatters by the formula
# above, with the share that was found in place of $p$. Wilson's recipe keeps the unknown $p$ in the
# formula, and solves for it. With few images, or an accuracy near 1, the two part, and Wilson's is
# the one to trust: if all of twenty answers are right, every drawn set is all right too, and the
# bootstrap interval has no width.
#
# > **Question.** From 2,500 test images you have an interval that is twice as wide as you would like it. How many
# > test images do you need?
# >
# > <details>
# > <summary>5,000.</summary>
# >
# > No. The width goes with one over the square root of $N$, so twice the images take less than a
# > third of it away.
# >
# > </details>
# >
# > <details>
# > <summary>10,000.</summary>
# >
# > Right. $N$ stands below a root: half the width takes four times the images, and half of that
# > sixteen times. This is why test sets are large, and why a slightly larger one hardly helps.
# >
# > </details>
# >
# > <details>
# > <summary>The same 2,500, with an interval of 99 % in place of 95 %.</summary>
# >
# > No. An interval that is to hold the true value more often must be wider.
# >
# > </details>
# >
# > <details>
# > <summary>The same 2,500, and a network that is trained for longer.</summary>
# >
# > No. The interval describes the luck of the test images, and not the quality of the training. It
# > shrinks only where $p$ comes close to 1.
# >
# > </details>
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
names = {"only_a_right": "only cnn right", "only_b_right": "only dilated right"}
difference.rename(names).to_frame("plain less dilated").T.convert_dtypes().round(4)

# %% [markdown]
# If the two were equally good, each of these images would be the toss of a fair coin: which network
# is the one that is right? **McNemar's test** asks how probable it is that fair tosses come out as
# unevenly as they did, or more so ([Dietterich, 1998](https://doi.org/10.1162/089976698300017197)).
# That probability is called the **p-value** (it has nothing to do with the $p$ of a coin); by
# custom, a difference is reported where it is below 0.05.

# %%
p_value = evaluation.mcnemar_test(labels, predicted["cnn"], predicted["dilated_cnn"])
claim(
    "fair coins would fall so unevenly in less than 1 of 1,000 cases",
    p_value < 0.001,
    applies=as_published,
)
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
# dilated one, beyond the luck of the test images. Is the *recipe* better, too?
#
# ## Ten seeds
#
# A training run is a recipe and a draw: of the first weights, and of the order of the images where
# they are shuffled. To judge the recipe, draw again. Each network was trained with ten seeds and
# otherwise the settings of chapters 2 and 3, among them the padded dilated network of chapter 3. It
# took an hour, so the results come with the package. (`python benchmarks/seeds.py` makes them again,
# with a *sweep*; how to make your own is explained in [chapters as experiments](../book/batch.md).)

# %%
seeds = load_seeds()
recipes = {
    "cnn": "plain",
    "padded_dilated_cnn": "dilated, padded",
    "dilated_cnn": "dilated",
}
table = seeds.table.pivot(index="seed", columns="network", values="test_accuracy")
table = table[list(recipes)].rename(columns=recipes)
table.describe().loc[["mean", "std", "min", "max"]].round(4)

# %% mystnb={"image": {"alt": "Test accuracies of ten training runs of each of three networks, as points in three rows: the plain network to the right, the padded dilated one close behind and overlapping with it, the dilated one clearly to the left."}}
ax = plotting.strips(table, "test accuracy, ten seeds each (line: mean)")

# %% tags=["hide-input"]
clear = table["plain"].min() > table["dilated"].max()
claim("the worst plain network beats the best dilated one", clear)
mixed = table["plain"].min() < table["dilated, padded"].max()
claim("the plain and the padded dilated ones overlap", mixed)
spread = (table.max() - table.min()).max()
claim_between("the widest range of ten seeds", spread, 0.005, 0.02)

# %% [markdown]
# The seed alone moves an accuracy by as much as a test interval is wide. Between the plain and the
# dilated network that does not matter: whichever two seeds had been drawn, the plain one would have
# been ahead. Between the plain and the padded network it does.
#
# ### What one seed alone could have claimed
#
# Ten researchers each train the plain and the padded network once, with one seed, and test the pair
# by McNemar's test. Each row is what one of them would have reported.

# %%
pairs = zip(seeds.predicted["cnn"], seeds.predicted["padded_dilated_cnn"], strict=True)
single = pd.DataFrame(
    {
        "lead of the plain one": table["plain"] - table["dilated, padded"],
        "p (McNemar)": [
            evaluation.mcnemar_test(seeds.labels, cnn, padded) for cnn, padded in pairs
        ],
    }
)
single.round(4)

# %%
found = (single["p (McNemar)"] < 0.05).sum()
claim("some of ten pairs would have reported a difference", found >= 2)
claim("others of them would have reported none", 10 - found >= 2)
leads = ttest_rel(table["plain"], table["dilated, padded"])
low, high = leads.confidence_interval(0.95)
print(f"mean lead, with 95 % interval over seeds: {low:.4f} to {high:.4f}")
claim("over ten seeds, the plain network is ahead", low > 0)

# %% [markdown]
# Nobody made a mistake. Each tested two *networks*, and two networks may well differ more, or less,
# than their recipes do. The question about the recipes has another answer: take the ten differences,
# and ask whether their mean can be the luck of ten seeds (Student's $t$). Together, the ten know what
# none of them knew. Mind again what the interval covers: the luck of the seed, which here means the
# first weights only, since the images came in file order. All ten were tested on the same images,
# and the luck of those is not in it.
#
# That McNemar's test says nothing about recipes is clearest where the recipe is *the same*: test
# every pair of the ten plain networks.

# %%
twins = list(combinations(seeds.predicted["cnn"], 2))
p_values = [evaluation.mcnemar_test(seeds.labels, a, b) for a, b in twins]
differ = sum(p < 0.05 for p in p_values)
print(f"{differ} of {len(twins)} pairs of plain networks differ with p < 0.05")
claim("more than one pair in five differs", differ > len(twins) / 5)

# %%
unlike = sum((a != b).mean() for a, b in twins) / len(twins)
others = zip(seeds.predicted["cnn"], seeds.predicted["dilated_cnn"], strict=True)
unlike_others = sum((a != b).mean() for a, b in others) / 10
print(f"answered differently by two plain networks:         {unlike:.3f}")
print(f"answered differently by a plain and a dilated one:  {unlike_others:.3f}")
claim_between(
    "the share that two plain networks answer differently", unlike, 0.04, 0.06
)
claim(
    "a plain and a dilated one differ on fewer than one and a half times as many",
    unlike_others < 1.5 * unlike,
)

# %% [markdown]
# If all ten were equally good, about one pair in twenty would differ like this by luck. Far more
# do: so most of these differences are real, and they are no property of the recipe. Two training
# runs of the same network answer about one image in twenty differently, and a plain and a dilated
# one not many more: most of what two networks disagree on is the draw and not the design.
#
# > **Question.** One of the ten researchers finds the plain network ahead of the padded one, with $p$ = 0.01 by
# > McNemar's test. What does that show?
# >
# > <details>
# > <summary>The plain recipe is better, with a probability of 99 %.</summary>
# >
# > No. There are two mistakes here. The test knows these two networks, not the recipes. And $p$ is
# > not the probability that they are equally good: it is how often equally good networks would differ
# > this much by luck.
# >
# > </details>
# >
# > <details>
# > <summary>With another seed, a difference would be found again in 99 of 100 cases.</summary>
# >
# > No. The column of $p$ above shows how much it depends on the seed.
# >
# > </details>
# >
# > <details>
# > <summary>Nothing. With a single seed, a test is worthless.</summary>
# >
# > No. It answers one question, and answers it well: which of these two networks to use. Only the
# > question about the recipes needs more seeds.
# >
# > </details>
# >
# > <details>
# > <summary>On images like these, this plain network is better than this padded one.</summary>
# >
# > Right. And that is all: equally good networks would rarely differ so much on 10,000 images.
# > Another pair of seeds makes another pair of networks.
# >
# > </details>
#
# ## Class by class
#
# **Precision** of a class: of the images called *shirt*, how many are shirts? **Recall**: of the
# shirts, how many were called so? A shop that shows its customers a page of shirts cares about
# precision; one that must find every shirt of a faulty batch cares about recall. **F1** is their
# harmonic mean, which is high only if both are:
#
# $$F_1 = \frac{2 \cdot \text{precision} \cdot \text{recall}}{\text{precision} + \text{recall}}$$

# %% tags=["nbval-ignore-output"]
reports = {
    name: evaluation.class_report(labels, guess) for name, guess in predicted.items()
}
pd.concat(reports, axis=1).drop(columns=[(name, "images") for name in reports]).round(3)

# %% mystnb={"image": {"alt": "F1 of each class for both networks as points on ten lines. Trousers, bags and footwear lie above 0.9, dresses near it, T-shirts, pullovers and coats close together below them, and shirts far behind. The convolutional network is ahead in nearly every class."}} tags=["figure-words"]
ax = plotting.class_lines(reports, "f1", "F1 (0 to 1)")

# %% tags=["hide-input"]
f1 = pd.DataFrame({name: report["f1"] for name, report in reports.items()})
lowest = set(f1.idxmin())
claim("shirts have the lowest F1 with both", lowest == {"Shirt"}, applies=as_published)
ahead = int((f1["cnn"] > f1["dilated_cnn"]).sum())
claim("the cnn is ahead in at least seven classes", ahead >= 7, applies=as_published)

# %% tags=["hide-input"]
coats = f1.rank().loc["Coat"].max() <= 4
claim("coats are among the four lowest with both", coats, applies=as_published)
sandals = f1.rank().loc["Sandal"].min() > 5
claim("sandals are in the upper half with both", sandals, applies=as_published)
easy = f1.loc[["Trouser", "Sandal", "Sneaker", "Bag", "Ankle boot"]].min().min()
claim("trousers, bags and footwear stay above 0.9", easy > 0.9, applies=as_published)
claim("shirts stay below 0.8", f1.loc["Shirt"].max() < 0.8, applies=as_published)
alike = f1.corr("spearman").loc["cnn", "dilated_cnn"] > 0.9
claim("the order of the classes is nearly the same", alike, applies=as_published)

# %% [markdown]
# The order of the classes is nearly the same for both networks, and its end is that of chapter 1,
# where no network had been trained yet: coats near the bottom, shirts last. But sandals, which were
# in the harder half for the nearest neighbour, are easy for both networks. Difficulty belongs to
# the data first, but not to the data alone.
#
# > **Question.** A shop wants a page of shirts with hardly anything else on it. So the network is to say *shirt*
# > only where it gives *shirt* a probability of more than 0.9, and name the runner-up otherwise. What
# > happens to the precision and the recall of shirts?
# >
# > <details>
# > <summary>Both rise: the network has become more careful.</summary>
# >
# > No. Some shirts were called so with less than 0.9. They are no longer found.
# >
# > </details>
# >
# > <details>
# > <summary>The recall falls, and the precision most likely rises.</summary>
# >
# > Right. Fewer images are called shirts, so no more shirts can be found than before. Those that
# > remain are the clearest, so a larger share of them should be shirts. Every threshold strikes that
# > bargain.
# >
# > </details>
# >
# > <details>
# > <summary>The precision falls, and the recall most likely rises.</summary>
# >
# > No. That is what a *lower* threshold does: more shirts are found, with more of everything else
# > among them.
# >
# > </details>
# >
# > <details>
# > <summary>Neither changes, since the network is the same.</summary>
# >
# > No. Both are counted from what the network is taken to say, and that has changed.
# >
# > </details>
#
# ## Who is taken for whom
#
# Both confusion matrices, then their difference. In the last one, a positive number off the
# diagonal is a confusion that the convolutional network makes more often.

# %% mystnb={"image": {"alt": "Confusion matrix of the convolutional network on the test images."}} tags=["figure-maps"]
confusions = {
    name: evaluation.confusion_matrix(labels, guess)
    for name, guess in predicted.items()
}
ax = plotting.confusion_heatmap(confusions["cnn"], title="convolutional network")

# %% mystnb={"image": {"alt": "Confusion matrix of the dilated network on the test images. The same pattern, with larger numbers off the diagonal among the tops."}} tags=["figure-maps"]
ax = plotting.confusion_heatmap(confusions["dilated_cnn"], title="dilated network")

# %% mystnb={"image": {"alt": "Difference of the two confusion matrices. The diagonal is mostly positive: the convolutional network is right more often. The largest negative numbers off the diagonal, mistakes that the dilated network makes more often, are pullovers called shirts, then shirts called T-shirts and coats called shirts."}} tags=["figure-words"]
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

# %% tags=["hide-input"]
tops = {"T-shirt", "Pullover", "Dress", "Coat", "Shirt"}
named = {
    garment
    for table in worst.values()
    for garment in {*table["true"][:4], *table["predicted"][:4]}
}
claim(
    "the four worst confusions of both are among the tops",
    named <= tops,
    applies=as_published,
)
shirts = all("Shirt" in set(table.iloc[0, :2]) for table in worst.values())
claim("shirts take part in the worst one of both", shirts, applies=as_published)

# %% [markdown]
# ## Looking at the failures
#
# Tables say how often. Pictures may say why. Here are test images of the convolutional network's worst
# confusion, six of each direction.

# %% mystnb={"image": {"alt": "Twelve test images of the most frequent confusion, each with its true class, the predicted class and the probability. Most would puzzle a person too: T-shirts with wide or V-shaped necklines, and shirts with short sleeves and no visible buttons."}} tags=["figure-images"]
first, second = worst["cnn"].iloc[0, :2].map(CLASS_NAMES.index)
guess = predicted["cnn"]
there = ((labels == first) & (guess == second)).nonzero()[0][:6]
back = ((labels == second) & (guess == first)).nonzero()[0][:6]
shown = [*there, *back]
figure = plotting.mistakes(images[shown], labels[shown], probabilities["cnn"][shown])

# %%
widgets.browse_mistakes(images, labels, probabilities["cnn"])

# %% [markdown]
# And the mistakes that it was surest of.

# %% mystnb={"image": {"alt": "The twelve most confident mistakes of the convolutional network, most with a probability that rounds to 1.00. Several look mislabelled: the prediction seems more convincing than the label."}} tags=["figure-images"]
surest = evaluation.confident_mistakes(labels, probabilities["cnn"], n=12)
figure = plotting.mistakes(images[surest], labels[surest], probabilities["cnn"][surest])

# %% tags=["hide-input"]
confidence = probabilities["cnn"][surest].max(axis=1)
sure = confidence.min() > 0.95
claim("all twelve were predicted with more than 0.95", sure, applies=as_published)

# %% [markdown]
# Three kinds show up. Labels that look wrong: there the network may be right. Odd views and rare
# articles, of which training held few. And plain errors. Do not judge the network's confidence by
# these twelve, though: we picked the surest of all its mistakes. The next section judges it fairly.
#
# Before that, the images on which the two networks disagree: six that only the convolutional
# network gets right, and below them six that only the dilated one does.

# %% mystnb={"image": {"alt": "Twelve test images, most of them tops, each with its true class and what the two networks say. In the first row the convolutional network names the class on the label and the dilated one a neighbouring class, such as pullover for coat; in the second row it is the other way round."}} tags=["figure-images"]
right = {name: guess == labels for name, guess in predicted.items()}
only_cnn = (right["cnn"] & ~right["dilated_cnn"]).nonzero()[0][:6]
only_dilated = (~right["cnn"] & right["dilated_cnn"]).nonzero()[0][:6]
shown = [*only_cnn, *only_dilated]
figure = plotting.compared_predictions(
    images[shown],
    labels[shown],
    {"cnn": probabilities["cnn"][shown], "dil.": probabilities["dilated_cnn"][shown]},
)

# %% tags=["hide-input"]
both_wrong = ~right["cnn"] & ~right["dilated_cnn"]
same = (predicted["cnn"] == predicted["dilated_cnn"])[both_wrong].mean()
claim(
    "where both are wrong, they mostly say the same", same > 0.75, applies=as_published
)

# %% [markdown]
# Hardly anything in these pictures explains why one network is right and the other is not. They are
# images near a border between two classes, where a small nudge tips the answer; the seed is enough,
# as the ten seeds have shown. Where both are wrong, they mostly agree on what they see, and then it
# is worth asking who is wrong: the networks or the label. The end of the chapter does.
#
# ## Can the probabilities be believed?
#
# A network that says "shirt, 0.8" should be right in eight of ten such cases. To see whether it is,
# sort its predictions into bins by their **confidence**, the probability of the predicted class, and
# compare the mean confidence of each bin with the share that was right. The **expected calibration
# error** is the mean gap between the two, each bin counting for the images in it ([Guo et al.,
# 2017](https://arxiv.org/abs/1706.04599)).
#
# A network that is too sure of itself can be mended with one number. Divide its logits $z$ by a
# **temperature** $T$ before the softmax:
#
# $$p_k = \frac{\exp(z_k / T)}{\sum_j \exp(z_j / T)}$$
#
# A temperature above 1 evens the probabilities out. It changes no prediction. $T$ is fitted where
# the network was neither trained nor tested, on the validation images, so that the cross-entropy
# there becomes as small as it can.

# %%
validation = data.validation
cnn_validation = evaluation.predict(networks["cnn"], validation.images)
temperature = evaluation.fit_temperature(validation.labels, cnn_validation)
tempered = evaluation.apply_temperature(probabilities["cnn"], temperature)
unchanged = (tempered.argmax(axis=1) == predicted["cnn"]).all()
claim("no prediction has changed", unchanged)

# %% tags=["nbval-ignore-output"]
versions = {"as trained": probabilities["cnn"], "with temperature": tempered}
rows = {
    name: {
        "mean confidence": p.max(axis=1).mean(),
        "accuracy": evaluation.accuracy(labels, p.argmax(axis=1)),
        "calibration error": evaluation.calibration_error(labels, p),
        "cross-entropy": evaluation.log_loss(labels, p),
    }
    for name, p in versions.items()
}
print(f"temperature: {temperature:.2f}")
pd.DataFrame(rows).T.round(4)

# %% mystnb={"image": {"alt": "Left, a reliability diagram: accuracy against confidence in fifteen bins, with the diagonal. As trained, most points lie below the diagonal; with the temperature, they lie close to it. Right, on a logarithmic scale, the number of images in each bin: by far the most are in the last one, near confidence 1."}} tags=["figure-images"]
figure = plotting.reliability_diagram(
    {name: evaluation.reliability(labels, p) for name, p in versions.items()}
)

# %% tags=["hide-input"]
trained, mended = (pd.Series(row) for row in rows.values())
excess = trained["mean confidence"] - trained["accuracy"]
claim_between(
    "mean confidence less accuracy", excess, 0.005, 0.05, applies=as_published
)
claim_between("the temperature", temperature, 1.02, 1.6, applies=as_published)
left = abs(mended["mean confidence"] - mended["accuracy"]) < excess / 2
claim("the temperature takes away more than half of that", left, applies=as_published)

# %% tags=["hide-input"]
better = mended["calibration error"] < trained["calibration error"]
claim("the temperature lowers the calibration error", better, applies=as_published)
better = mended["cross-entropy"] < trained["cross-entropy"]
claim(
    "the temperature lowers the cross-entropy on the test images",
    better,
    applies=as_published,
)

# %% [markdown]
# The confidence is higher than the accuracy, though not by much: the network is somewhat
# *overconfident* on new images, as many are, and one number takes most of that away. Look at the
# right panel before you read the left one too closely: most images sit in the last bin, and the
# bins on the left hold so few that their points are mostly luck.
#
# > **Question.** A network gives every image the probability 0.1 for each of the ten classes. In the test set all
# > classes are equally frequent. What is its expected calibration error?
# >
# > <details>
# > <summary>Zero.</summary>
# >
# > Right. Whatever class it is taken to predict, it is right in one case of ten, and it says so: it
# > is perfectly calibrated, and of no use. A calibration error says little without an accuracy next to
# > it.
# >
# > </details>
# >
# > <details>
# > <summary>0.9, since it is wrong nine times out of ten.</summary>
# >
# > No. That is its share of mistakes. It never claimed to be right more often.
# >
# > </details>
# >
# > <details>
# > <summary>About 2.3, the logarithm of ten.</summary>
# >
# > No. That is its cross-entropy, which punishes a network that knows nothing, too.
# >
# > </details>
# >
# > <details>
# > <summary>There is none, since it does not prefer any class.</summary>
# >
# > No. Where classes are tied, `argmax` takes the first of them, and its confidence is 0.1.
# >
# > </details>
#
# ## What a prediction costs
#
# A **multiply-add** is one multiplication with the addition that goes with it; products of matrices
# and convolutions consist of nothing else. The second table adds the milliseconds that an image takes
# if the network is asked about it alone, and if it is asked about a hundred at once.

# %%
costs = pd.DataFrame(
    {
        "parameters": {n: inspection.count_parameters(m) for n, m in networks.items()},
        "multiply-adds an image": {
            n: inspection.multiply_adds(m) for n, m in networks.items()
        },
    }
)
costs

# %% tags=["nbval-ignore-output"]
ways = {
    f"{name}, {n} at a time": lambda m=m, n=n: evaluation.predict(m, images[:n], n)
    for name, m in networks.items()
    for n in (1, 100)
}
times = compare_times(ways, repeats=20)["seconds"]
one, many = times.iloc[::2], times.iloc[1::2] / 100
costs.assign(
    **{"ms, alone": one.values * 1000, "ms, of 100": many.values * 1000}
).round(3)

# %% tags=["hide-input"]
multiplied = costs["multiply-adds an image"]
share = multiplied["dilated_cnn"] / multiplied["cnn"]
claim_between("the dilated network's share of multiply-adds", share, 0.57, 0.58)
longer = (one.values > many.values).all()
claim("alone, an image takes longer than among others", longer, timing=True)
half = [n.values[1] > n.values[0] / 2 for n in (one, many)]
claim("the dilated network is not twice as fast", all(half), timing=True)

# %% [markdown]
# Counting operations and measuring time are two different things. The dilated network makes little
# more than half of the multiplications, and is not twice as fast; and an image that is asked about
# alone costs more than one among a hundred, on most machines several times as much. Chapter 5 shows
# why: much of the time goes into starting each layer and not into arithmetic. So say which you
# mean.
#
# ## Worse images
#
# The test images are as tidy as the training images. Others will not be: taken from the side, out of
# focus, in bad light. So we damage the test images, in five ways at five strengths each ([Hendrycks
# and Dietterich, 2019](https://arxiv.org/abs/1903.12261)), and ask again. Both networks see the same
# damage on the same 4,000 images.

# %% mystnb={"image": {"alt": "An ankle boot in five rows and six columns. Each row shows one kind of damage, from none on the left to the strongest on the right: shifted, rotated, noisy, blurred, and grey for want of contrast. A person would recognise the boot in nearly all of them."}}
rows = [
    [evaluation.corrupt(images[:1], kind, strength)[0, 0] for strength in range(6)]
    for kind in evaluation.CORRUPTIONS
]
figure = plotting.image_channels(
    rows, list(evaluation.CORRUPTIONS), cmap="gray_r", limits=(0, 1)
)

# %%
damaged = evaluation.accuracy_under_corruption(networks, data.test[:4000])
units = {kind: damage.unit for kind, damage in evaluation.CORRUPTIONS.items()}

# %% mystnb={"image": {"alt": "Accuracy of both networks against the strength of each kind of damage, in five panels. All curves start near 0.9 and fall. Under shift, rotation and slight blur the two networks stay together; under noise, and where contrast is lost, the dilated network falls much more slowly than the convolutional one."}} tags=["figure-curves"]
figure = plotting.robustness_curves(damaged, units)

# %% tags=["hide-input"]
ends = damaged[damaged["strength"] == 5].set_index("corruption")[["cnn", "dilated_cnn"]]
turned = ends.loc[["shift", "rotation"]].max().max()
claim(
    "the strongest shift and rotation leave less than half",
    turned < 0.5,
    applies=as_published,
)
noise = damaged[(damaged["corruption"] == "noise") & (damaged["strength"] >= 3)]
ahead = (noise["dilated_cnn"] > noise["cnn"]).all()
claim("in strong noise the dilated network is ahead", ahead, applies=as_published)

# %% [markdown]
# Five pixels off, in whatever direction, and most answers are wrong. A part of the article has left
# the picture, but a person would still name it: the networks have learned what clothes look like
# *in the middle of the picture*. The maps of a convolution simply move along, but the classifier
# after them has a weight for every place. If your images may be shifted, train on shifted ones
# (chapter 5 does).
#
# And here is what dilation is good for. In noise, the dilated network keeps much more of its
# accuracy than the convolutional one, though it starts below. Or is it luck, with a single pair of
# seeds? The ten seeds know: each training run was tested on damaged images of strength 3 as well.

# %%
noisy = seeds.table.pivot(index="seed", columns="network", values="noise")
noisy = noisy[list(recipes)].rename(columns=recipes)
noisy.describe().loc[["mean", "std", "min", "max"]].round(4)

# %%
padded, plain = noisy["dilated, padded"], noisy["plain"]
low, high = ttest_rel(padded, plain).confidence_interval(0.95)
print(f"padded less plain, 95 % interval over seeds: {low:.3f} to {high:.3f}")
claim("in noise, the padded network is ahead with each seed", (padded > plain).all())
claim(
    "in noise, the dilated network is ahead with each seed, too",
    (noisy["dilated"] > plain).all(),
)
claim(
    "in noise, the padded network gains no less on average than the dilated one",
    padded.mean() >= noisy["dilated"].mean(),
)

# %% tags=["hide-input"]
grey = seeds.table.pivot(index="seed", columns="network", values="contrast")
ahead = grey.drop(columns="cnn").min(axis=1) > grey["cnn"]
claim("with little contrast, both are ahead with each seed, too", ahead.all())

# %% [markdown]
# It is no luck of the seed, and it is the dilation: the padded network, which differs from the plain
# one in nothing but the dilation and its padding, gains no less. Why? One guess: a kernel that
# compares neighbouring pixels reacts to noise, which differs from pixel to pixel, and one that
# compares pixels two apart must look for coarser things. That is no more than a guess here: nothing
# above tests it. One thing speaks against it as the whole reason: where contrast is lost, the dilated
# networks are ahead as well, and there is no noise in those images. What is shown is the difference. A
# network that is worse on tidy images can be the better one on some worse ones.
#
# ## Are the labels right?
#
# Some are not. [Müller and Markert (2019)](https://arxiv.org/abs/1912.05283) looked for mislabelled
# images in popular data sets, and some of those in this one were reported to its makers ([issue
# 166](https://github.com/zalandoresearch/fashion-mnist/issues/166)). These six training images are
# pictured there; under each label stands what a network says that has not seen the image.

# %% mystnb={"image": {"alt": "Six training images reported as mislabelled: long dresses labelled shirt, coat and pullover, a long-sleeved pullover labelled dress, and short-sleeved tops labelled coat and pullover. Under each stands what a network says."}}
doubts = load_label_noise()
titles = [
    f"{CLASS_NAMES[row.label]}\n→ {CLASS_NAMES[row.predicted]} ({row.probability:.2f})"
    for row in doubts.reported.itertuples()
]
figure = plotting.image_grid(doubts.pictures["reported"], titles, columns=6)

# %% tags=["hide-input"]
contradicted = doubts.reported["label"] != doubts.reported["predicted"]
claim("a network contradicts each of the six labels", contradicted.all())

# %% [markdown]
# Networks can look for more. The training images were split into three parts, and three networks
# trained, each on two of the parts; each training image was then judged by the one network that had
# not seen it, and each test image by the first of the three (`python benchmarks/label_noise.py`).
# Where that network gives another class a probability of 0.9 or more, we call the label doubtful.

# %%
counts = doubts.doubtful["part"].value_counts()
of_all = pd.Series({"train": 48_000, "test": 10_000})
pd.DataFrame(
    {"doubtful labels": counts, "images": of_all, "share": (counts / of_all).round(4)}
)

# %% mystnb={"image": {"alt": "Twelve test images with doubtful labels, each with its label and what the network says: among them a long black garment labelled trouser and called dress, a shoe cut out at the ankle, labelled ankle boot and called sandal, hooded tops labelled shirt and pullover and called coat, and three plain T-shirts labelled shirt."}}
rows = doubts.doubtful[doubts.doubtful["part"] == "test"][:12]
titles = [
    f"{CLASS_NAMES[row.label]}\n→ {CLASS_NAMES[row.predicted]} ({row.probability:.2f})"
    for row in rows.itertuples()
]
figure = plotting.image_grid(doubts.pictures["test"][:12], titles, columns=6)

# %% [markdown]
# Look at them one by one before you go on, and say for each who is right. Some labels are plainly
# wrong. Some are as good as the other answer: is a hooded top with a zip a pullover or a coat? And
# with some, the network may be the one that errs: this search finds what a network cannot explain, and
# it is not the network that decides what is true.
#
# ### What do they cost?
#
# On the test images, at most this: the share of all mistakes that were made on them. It is an upper
# bound for these images, since some of their labels are right; wrong labels that the network did not
# doubt are not in it.

# %%
in_test = doubts.doubtful["part"] == "test"
mistakes = seeds.predicted["cnn"] != seeds.labels
share = mistakes[:, doubts.doubtful.loc[in_test, "index"]].sum() / mistakes.sum()
print(f"of the mistakes of ten plain networks, on doubtful labels: {share:.3f}")
claim_between("the share of mistakes on doubtful labels", share, 0.04, 0.08)
wrong = mistakes[:, doubts.doubtful.loc[in_test, "index"]].mean()
claim_between(
    "the share of doubtful images that a plain network gets wrong", wrong, 0.9, 1
)

# %% [markdown]
# In training, the question can be answered by an experiment. Train with the labels as published, with
# the doubtful ones left out, with as many others left out instead, and with the doubtful ones replaced
# by what the networks said; and, to see how much it takes to do harm, with a share of all labels made
# wrong on purpose. Five seeds each, with the settings of `TrainConfig.fast()` (chapter 5).

# %%
costs = doubts.costs.pivot(index="seed", columns="labels", values="test_accuracy")
costs = costs[doubts.costs["labels"].unique()]  # in the order of the experiment
costs.describe().loc[["mean", "std"]].T.round(4)

# %% mystnb={"image": {"alt": "Test accuracies of five training runs for each of eight sets of labels, in eight rows. With the published labels, and with the doubtful ones left out or replaced, the points lie together on the right; with 5, 10, 20 and 40 percent of the labels made wrong they move to the left step by step."}}
ax = plotting.strips(costs, "test accuracy, five seeds each (line: mean)")

# %% tags=["hide-input"]
change = costs.mean() - costs.mean()["as published"]
kinds = ["doubtful ones left out", "as many others left out", "doubtful ones replaced"]
little = change[kinds].abs().max() < 0.003
claim("whatever is done to so few labels changes less than 0.003", little)
wrong = change[[f"{share}% made wrong" for share in (5, 10, 20, 40)]]
claim("the more labels are made wrong, the worse", wrong.is_monotonic_decreasing)
claim_between("the change with one label in ten wrong", wrong.iloc[1], -0.01, -0.004)
claim_between("the change with two labels in five wrong", wrong.iloc[3], -0.04, -0.02)

# %% [markdown]
# The doubtful labels cost next to nothing: leaving them out, or believing the networks, changes no
# more than leaving out as many others, which is the luck of the draw. Training is forgiving. Each
# wrong label pulls the weights its own way, while the right ones all pull together; even with two
# labels in five made wrong the network loses no more than a few percentage points. But mind how it
# was trained: for four epochs, of which the best was chosen by labels that were not made wrong. A
# network that trains for long learns wrong labels by heart, and loses more ([Arpit et al.,
# 2017](https://arxiv.org/abs/1706.05394)). And mind what was made wrong: labels drawn at random,
# spread over all classes. Human errors are not spread like that. If every second shirt were called
# a T-shirt, the network would learn exactly that.
#
# In the *test* labels, every error counts, and it counts for ever. That is the better reason to care.
#
# ## Exercises
#
# Write your answer in the cell below each exercise, in place of the dots, run it, and run the cell
# that follows: `check` says whether you are right, and if not, what is off.
#
# ### Exercise 4.1: A small test
#
# A shop has labelled 400 photographs of its own, and your network is right on 320 of them. What is
# the standard deviation of such a share, from one draw of 400 photographs to the next? Take the
# share that was found for $p$.
#
# <details>
# <summary>Hint</summary>
#
# The formula is at the beginning of the chapter. What is the share here?
#
# </details>

# %% jupyter={"source_hidden": true} mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show a solution"} tags=["solution", "hide-input"]
# Exercise 4.1
### BEGIN SOLUTION
share = 320 / 400
deviation = (share * (1 - share) / 400) ** 0.5
### END SOLUTION

# %%
check("4.1", deviation)


# %% [markdown] tags=["solution"]
# <details>
# <summary>Why</summary>
#
# 0.02, or two percentage points. A 95 % interval reaches about twice that to either side, from 76 %
# to 84 %. It is wide; but 400 photographs of the very articles that the network is meant for may
# tell more than 10,000 of another shop.
#
# </details>

# %% [markdown]
# ### Exercise 4.2: Precision and recall by hand
#
# Write `precision_recall(labels, predicted, k)`, which gives the two shares for class `k`, the
# precision first. It is given arrays of classes, such as `labels` and `predicted["cnn"]`, and is to
# count for itself, without `evaluation`. Of a class that is never predicted the precision would be
# 0/0: let it be 0 then.
#
# <details>
# <summary>Hint</summary>
#
# `predicted == k` marks the images that are called `k`, and `labels == k` those that are. For both
# shares, you need the images that are marked twice.
#
# </details>

# %% jupyter={"source_hidden": true} mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show a solution"} tags=["solution", "hide-input"]
# Exercise 4.2
def precision_recall(labels, predicted, k):
    """Share of the right ones among the images called k, and of those found of k."""
    ### BEGIN SOLUTION
    called, true = predicted == k, labels == k
    both = (called & true).sum()
    return both / max(called.sum(), 1), both / true.sum()
    ### END SOLUTION


# %%
check("4.2", precision_recall)


# %% [markdown] tags=["solution"]
# <details>
# <summary>Why</summary>
#
# The two shares have the same numerator, the diagonal of the confusion matrix. Precision divides it
# by the sum of a column, recall by the sum of a row. That a class which is never predicted has a
# precision of 0 is a convention: other tools give NaN, or leave the class out of the mean, and the
# same network then gets another macro F1 (the mean of the F1 of all classes). Ask which one it was
# before you compare.
#
# </details>

# %% [markdown]
# ### Exercise 4.3: Ten heads
#
# Write `vote(predictions)`, which is given what several networks predict for the same images, as an
# array (networks, images), and gives each image the class that most of them name. Where votes are
# tied, take any of the tied classes. Then let the ten plain networks of `seeds.predicted["cnn"]`
# vote, and give the share of right answers. Guess first: about their mean, near the best of them,
# or clearly better than all?
#
# <details>
# <summary>Hint</summary>
#
# For each class, count how many networks name it: `(predictions == k).sum(axis=0)`. Which class has
# the largest count?
#
# </details>

# %% jupyter={"source_hidden": true} mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show a solution"} tags=["solution", "hide-input"]
# Exercise 4.3
def vote(predictions):
    """Most frequent class of each column."""
    ### BEGIN SOLUTION
    counts = [(predictions == k).sum(axis=0) for k in range(10)]
    return pd.DataFrame(counts).idxmax().to_numpy()
    ### END SOLUTION


### BEGIN SOLUTION
share = (vote(seeds.predicted["cnn"]) == seeds.labels).mean()
### END SOLUTION

# %%
check("4.3", vote, share, seeds)


# %% [markdown] tags=["solution"]
# <details>
# <summary>Why</summary>
#
# The vote is clearly ahead of the mean of its voters, and near the best of them, without anybody
# having to know which one that is. Where the seed decides, the seeds err in different ways, and the
# others outvote the one that errs. Let all thirty networks vote
# (`np.concatenate(list(seeds.predicted.values()))`): they do no better than the ten, since most of
# the newcomers are weaker. `scipy.stats.mode` is the vote of a library.
#
# </details>

# %% [markdown]
# ### Exercise 4.4: Answering only when sure
#
# A network may keep silent. Write `when_sure(probabilities, labels, threshold)`: where the
# confidence is above the threshold, the network answers with its prediction. Return the share of
# images that it answers, and the share of right answers among those. Then try it on
# `probabilities["cnn"]` with a threshold of 0.9, and on `tempered`. What does the temperature
# change?
#
# <details>
# <summary>Hint</summary>
#
# The confidence is the largest of the ten probabilities. Both shares are means of an array of true
# and false: the first over all images, the second over some.
#
# </details>

# %% jupyter={"source_hidden": true} mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show a solution"} tags=["solution", "hide-input"]
# Exercise 4.4
def when_sure(probabilities, labels, threshold):
    """Share of the images with a confidence above it, and the accuracy on them."""
    ### BEGIN SOLUTION
    sure = probabilities.max(axis=1) > threshold
    right = probabilities.argmax(axis=1) == labels
    return sure.mean(), right[sure].mean()
    ### END SOLUTION


# %%
check("4.4", when_sure)


# %% [markdown] tags=["solution"]
# <details>
# <summary>Why</summary>
#
# With a threshold of 0.9, about three images in four are answered, and more than nineteen in twenty
# of those rightly. With the temperature fewer pass the same threshold, and they are right more
# often. Yet it does not make the network know more: a lower threshold lets nearly the same images
# through, since the temperature hardly changes their order. A classifier that may say "I do not
# know" is a different, and often a more useful, thing.
#
# </details>

# %% [markdown]
# ### Exercise 4.5: Your own damage
#
# Write `hide(images)`, a sixth kind of damage: it is given images (N, 1, 28, 28) with pixels from 0
# to 1, and returns new ones, which a person could still name. A square that hides a part of the
# article, a scratch, a shadow: choose what your own pictures may suffer from. (What is drawn at
# random should be drawn for each image.) Then give the accuracy of both networks on the first 1,000
# test images, damaged so, as a dict `left` with their names.
#
# <details>
# <summary>Hint</summary>
#
# `images.clone()` makes a copy to write into, and `copy[..., 10:18, 10:18]` is a square of it, in
# all images at once. `evaluation.predict` and `evaluation.accuracy` do the rest.
#
# </details>

# %% jupyter={"source_hidden": true} mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show a solution"} tags=["solution", "hide-input"]
# Exercise 4.5
def hide(images):
    """Damaged copies of images (N, 1, 28, 28) with pixels from 0 to 1."""
    ### BEGIN SOLUTION
    hidden = images.clone()
    hidden[..., 10:18, 10:18] = 0.5
    return hidden
    ### END SOLUTION


### BEGIN SOLUTION
some, left = data.test[:1000], {}
for name, network in networks.items():
    answers = evaluation.predict(network, hide(some.images)).argmax(axis=1)
    left[name] = evaluation.accuracy(some.labels, answers)
### END SOLUTION

# %%
check("4.5", hide, left, networks, data)

# %% [markdown] tags=["solution"]
# <details>
# <summary>Why</summary>
#
# Try squares of several sizes and greys, as the chapter tries five strengths. Do the networks
# change places? `evaluation.class_report` shows which classes suffer. With a grey square in the
# middle these are coats and shirts first: it hides the buttons, and what is left looks like a
# pullover or a T-shirt, whose middle may well be plain.
#
# </details>

# %% [markdown]
# ## Recap
#
# - An accuracy on 10,000 images is known to about half a percentage point either way, as far as the
#   luck of the test images goes; write its interval with it.
# - Compare two classifiers on the same images, by the images on which they disagree; compare two
#   recipes by many training runs.
# - A network may be overconfident. One temperature, fitted on the validation images, mends most of it.
# - Accuracy on tidy images is not accuracy on yours. The order of two networks can be reversed.
# - Look at the failures. Some of them are the label's.
#
# **Next:** [training fast](05_training_fast.ipynb): what the minutes of chapters 2 and 3 were spent
# on, and how to get by with a tenth of them.
