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
# # 1 · Looking at the data
#
# A classifier learns whatever its data holds: the shapes of shoes, but also every quirk of how the
# pictures were taken and labelled. So before any network, look. An hour with the images explains
# most of what the following chapters measure.
#
# **After this chapter you can**
#
# - load an image data set the classic PyTorch way, and as plain tensors, and say what each gives;
# - explain why images are split three ways, and why one of the parts stays untouched;
# - describe a data set by counts, means and distributions, class by class;
# - find images that nearly repeat each other, and labels that deserve a second look.
#
# **Time:** about a minute of computing on a laptop, an hour of reading and trying.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
try:
    import fmnist_lib  # noqa: F401
except ModuleNotFoundError:
    raise ImportError(
        "This chapter needs the course's library: open it with 'make lab' in the "
        "course's folder, or first install that folder with '%pip install FOLDER'."
    ) from None

import pandas as pd
import torch
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from torch.utils.data import DataLoader
from torchvision import datasets
from torchvision.transforms import ToTensor

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output", "hide-input"]
from fmnist_lib import plotting
from fmnist_lib.claims import claim, claim_between
from fmnist_lib.course.exercises import check
from fmnist_lib.data import CLASS_NAMES, load_fashion_mnist, nearest_neighbours
from fmnist_lib.download import find_data
from fmnist_lib.experiments.parameters import check_parameters
from fmnist_lib.trained import describe_machine

# %config InlineBackend.figure_formats = ["retina"]
print(describe_machine())

# %% [markdown]
# The next cell holds the chapter's parameters. Change them here, or from outside with papermill, a
# program that runs a notebook with other parameters.

# %% tags=["parameters"]
data_dir: str = ""  # folder with the data; empty: where fmnist data finds it
n_embedded: int = 2000  # training images in the two-dimensional map
n_compared: int = 10000  # training images among which near-duplicates are sought
seed: int = 0  # of the two-dimensional map, which hardly depends on it

# %% [markdown]
# ## What an image is
#
# Fashion-MNIST ([Xiao, Rasul and Vollgraf, 2017](https://arxiv.org/abs/1708.07747)) holds 70,000
# pictures of articles of clothing from an online shop. Each was shrunk to 28×28 pixels, turned to
# grey and inverted, so that the article is bright on a black background, and given one of ten
# labels by the shop's own staff. It was made to replace MNIST, the handwritten digits, on which
# almost any method is nearly always right; clothes still leave something to gain.
#
# PyTorch's classic way of handling such data has three parts. A **dataset** gives one example at a
# time by its index; a **transform** turns that example into a tensor; a **data loader** stacks
# examples into batches. `ToTensor` makes bytes from 0 to 255 into floating-point numbers from 0 to
# 1 and puts the channel first, as PyTorch's convolutions want it.

# %%
check_parameters(
    globals(), n_embedded=(50, 48_000), n_compared=(100, 48_000), seed=(0, 4294967295)
)
root = find_data(data_dir)
official_train = datasets.FashionMNIST(root, train=True, transform=ToTensor())

image, label = official_train[0]
print(f"{len(official_train):,} images; the first one:")
print(f"  {tuple(image.shape)}, {image.dtype}")
print(f"  from {image.min():.0f} to {image.max():.0f}")
print(f"  label {label}, {CLASS_NAMES[label]}")

# %%
loader = DataLoader(official_train, batch_size=64)
images, labels = next(iter(loader))

print(f"{len(loader)} batches; the first one:")
print(f"  images {tuple(images.shape)}: batch, channel, row, column")
print(f"  labels {tuple(labels.shape)}, {labels.dtype}")

# %% [markdown]
# Here is that batch. The shape `(64, 1, 28, 28)` says it all: 64 images, one channel (grey), 28
# rows, 28 columns. Read a few rows before you go on. (The class that we call *T-shirt* is
# *T-shirt/top* in full, which is why some have no sleeves.) Could *you* tell every shirt from every
# coat?

# %% mystnb={"image": {"alt": "The first 64 training images in eight rows of eight, each with the name of its class: articles of clothing, dark on white, some easy to name and some, such as shirts and coats, hard to tell apart."}}
figure = plotting.image_grid(images, [CLASS_NAMES[label] for label in labels])

# %% [markdown]
# (The pictures are drawn dark on white, because that prints better. In the tensors, the article is
# bright: 0 is the empty background, 1 the brightest cloth.)
#
# > **Question.** What does `images[5, 0, 3, 20]` hold?
# >
# > <details>
# > <summary>A pixel of the sixth image, in row 20 and column 3.</summary>
# >
# > No. The shape is named in this order: batch, channel, row, column.
# >
# > </details>
# >
# > <details>
# > <summary>A pixel of the sixth image, in row 3 and column 20.</summary>
# >
# > Right. Counted from 0, as all indices are: image 5 is the sixth of the batch, and channel 0 is the
# > only one there is.
# >
# > </details>
# >
# > <details>
# > <summary>Row 3 of the image with label 5.</summary>
# >
# > No. The first index counts images within the batch, whatever their labels, and four indices into a
# > tensor of four dimensions leave a single number.
# >
# > </details>
# >
# > <details>
# > <summary>Nothing: a grey image has no channels.</summary>
# >
# > No. Grey is one channel, not none. PyTorch's convolutions expect the dimension even where its length
# > is 1.
# >
# > </details>
#
# ## The same data as tensors
#
# A loader reads each image, converts it and stacks it, again in every pass over the data. For
# photographs that do not fit into memory there is no other way. Our 70,000 images take 70,000 × 784
# × 4 bytes, about 220 MB: they fit anywhere. So the rest of the course loads them once, as tensors,
# and takes batches by slicing. Nothing is lost, as the next cell checks. From here on, a line that
# begins with ✓ is a statement that its cell has just checked, and the cell fails if the statement
# is false.

# %%
data = load_fashion_mnist(data_dir)

claim(
    "the first batch is the same, to the bit",
    torch.equal(data.train.images[:64], images),
)
claim(
    "the labels of the first batch are the same",
    torch.equal(data.train.labels[:64], labels),
)

# %% [markdown]
# ## Three parts, and one of them sealed
#
# The data set comes in two parts, 60,000 images to learn from and 10,000 to test with. We cut the
# first once more:
#
# | part | images | what it is for |
# | --- | --- | --- |
# | train | the first 48,000 | the network's numbers, its *weights*, are fitted to these |
# | validation | the last 12,000 of the 60,000 | choices are made on these: which network, which settings, when to stop |
# | test | the official 10,000 | measured once, after the last choice |
#
# Why not choose on the test images? Because choosing is a way of learning. Suppose we try
# twenty settings that are all equally good and keep the one with the highest test accuracy: it
# is the luckiest, and its accuracy is a little better than the truth, for no reason but luck.
# The validation images take this damage, so that the test images stay honest. In this chapter the
# test set is counted and not looked at.
#
# > **Question.** A friend trains twenty networks, measures each on the 10,000 test images, and reports the best
# > accuracy. Each of those accuracies was measured without a mistake. What is wrong with the report?
# >
# > <details>
# > <summary>Nothing: ten thousand images are enough for an honest measurement.</summary>
# >
# > No. Each accuracy is honest, but the largest of twenty is not: it owes its place to luck as well as to
# > merit, and the luck will not be repeated on other images.
# >
# > </details>
# >
# > <details>
# > <summary>The networks have seen the test images in training.</summary>
# >
# > No. They have not, and that is what makes this mistake easy to miss: it was the *friend* who used
# > them, to choose.
# >
# > </details>
# >
# > <details>
# > <summary>The best of twenty was chosen on the images that it is reported on.</summary>
# >
# > Right. Choose on the validation images, and measure the one that was chosen on the test images, once.
# >
# > </details>

# %%
splits = {"train": data.train, "validation": data.validation, "test": data.test}
counts = pd.DataFrame({name: part.labels.bincount() for name, part in splits.items()})
counts.index = pd.Index(CLASS_NAMES, name="class")
counts.loc["all"] = counts.sum()
counts

# %% [markdown]
# Two things to see. The test set has exactly 1,000 images of each class. The training and
# validation parts are only *nearly* even, because they were cut from the official 60,000 in file
# order, without regard to the labels. That is fine here: no class is rare, so accuracy, the plain
# share of right answers, is a fair measure, and whoever always guesses the same class is right one
# time in ten. Keep that figure in mind: it is what knowing nothing scores.

# %% tags=["hide-input"]
shares = counts.drop("all") / counts.loc["all"]
claim_between("the smallest share of a class in a part", shares.min().min(), 0.095, 0.1)
claim_between("the largest share of a class in a part", shares.max().max(), 0.1, 0.105)

# %% [markdown]
# ## What the classes look like
#
# The mean of all images of a class is what they share. Where it is sharp, the articles lie alike
# (trousers; sneakers and ankle boots, all with their toes to the left). Where it is a blur, they
# differ: sandals hardly have anything in common but the sole.

# %% mystnb={"image": {"alt": "The mean image of each of the ten classes. Trousers, sneakers and ankle boots are sharp, the shoes with their toes to the left; sandals and bags are blurred; pullover, coat and shirt are nearly the same silhouette."}}
by_class = [data.train.images[data.train.labels == k] for k in range(10)]
means = torch.stack([images_of_class.mean(dim=0) for images_of_class in by_class])
figure = plotting.image_grid(means, CLASS_NAMES, columns=5)

# %% [markdown]
# Now compare *pullover*, *coat* and *shirt*: three nearly equal silhouettes, two sleeves and a
# body. Any method that judges by the outline alone must confuse them. Remember this picture; the
# confusion matrices of chapters 2 to 4 will bring it back.
#
# The pixel values tell the classes apart as well. The table gives, for each class, the mean of
# all pixels, their standard deviation, and the share of the pixels that are not zero, which is
# how much of the picture the article fills.

# %%
rows = []
for k, name in enumerate(CLASS_NAMES):
    pixels = data.train.images[data.train.labels == k]
    filled = (pixels > 0).float().mean()
    rows.append((name, pixels.mean().item(), pixels.std().item(), filled.item()))
statistics = pd.DataFrame(rows, columns=["class", "mean", "std", "filled"])
statistics = statistics.set_index("class")
statistics.round(2)

# %% tags=["hide-input"]
claim("sandals have the lowest mean", statistics["mean"].idxmin() == "Sandal")
claim("coats have the highest mean", statistics["mean"].idxmax() == "Coat")
zeros = (data.train.images == 0).float().mean().item()
claim_between("the share of pixels that are exactly zero", zeros, 0.45, 0.55)

# %% [markdown]
# About half of all pixels are exactly zero: empty background. The histograms show the rest, pixel
# values above zero, class by class. They are not alike. A coat or a bag is mostly bright cloth; a
# sandal has many pixels just above zero, faint traces around its straps that the eye does not see.

# %% mystnb={"image": {"alt": "Ten histograms of the non-zero pixel values, one for each class. Most classes rise to a peak between 0.8 and 0.9; shirts and pullovers are flatter; sandals have a tall peak just above zero and are flat beyond it."}}
figure = plotting.pixel_histograms(data.train.images, data.train.labels)

# %% [markdown]
# ## A map of the classes
#
# An image is a point in a space of 784 dimensions, one for each pixel. t-SNE ([van der Maaten and
# Hinton, 2008](https://jmlr.org/papers/v9/vandermaaten08a.html)) draws a map of such points on a
# plane, on which points that are near each other in the big space stay near. (First we keep the 50
# directions in which the images vary most, found by principal component analysis, which makes t-SNE
# faster and keeps most of what tells the images apart.) Labels play no part in it: the colours are
# put on afterwards.

# %% mystnb={"image": {"alt": "A map of 2,000 training images. Trousers and bags form islands of their own; ankle boots, sneakers and sandals share a third; T-shirts, dresses, pullovers, coats and shirts run into one another, with shirts scattered among the others."}}
embedded = data.train[:n_embedded]
directions = PCA(50, random_state=seed).fit_transform(embedded.images.flatten(1))
points = TSNE(random_state=seed, init="pca").fit_transform(directions)
ax = plotting.embedding(points, embedded.labels)

# %% [markdown]
# A map like this invites stories, so keep to what it can carry: *which points are neighbours*.
# Distances between islands, their sizes and their places mean little: start t-SNE from random
# points (`init="random"`) and they are turned and shuffled. The neighbourhoods stay: footwear on
# its own, trousers and bags on their own, and one continent of tops on which shirts are everywhere.
#
# > **Question.** Suppose that on your map the island of bags lies nearer to the tops than to the trousers. What
# > follows?
# >
# > <details>
# > <summary>Bags look more like tops than like trousers.</summary>
# >
# > No. It may be true, but this map cannot show it: where the islands lie depends on where t-SNE
# > started.
# >
# > </details>
# >
# > <details>
# > <summary>A network will confuse bags with tops more often than with trousers.</summary>
# >
# > No. Networks do not see the map, and which islands are neighbours on it is not reliable.
# >
# > </details>
# >
# > <details>
# > <summary>Nothing. But that bags form an island says something.</summary>
# >
# > Right. The neighbours of a bag are bags: this is what t-SNE tries to keep, and it holds from
# > wherever it starts.
# >
# > </details>
#
# ## How far do you get by looking at neighbours?
#
# If neighbours in the space of pixels tend to share their class, that already is a classifier:
# give each image the label of the image nearest to it. It learns nothing and it needs no
# network, which makes it the figure to beat.

# %%
compared = data.train[:n_compared]
distance, neighbour = nearest_neighbours(compared.images)
same_class = (compared.labels == compared.labels[neighbour]).float()

share = pd.Series(same_class.numpy()).groupby(compared.labels.numpy()).mean()
share.index = CLASS_NAMES

# %% mystnb={"image": {"alt": "Bars: the share of images whose nearest neighbour has the same class. More than nine in ten for trousers, sneakers, ankle boots and bags, about eight in ten for T-shirts, dresses and sandals, about seven in ten for pullovers and coats, less than six in ten for shirts."}}
xlabel = "share of images whose nearest neighbour has the same class"
ax = plotting.bars(share, share.index, xlabel, fmt="{:.2f}")

# %% tags=["hide-input"]
as_published = n_compared == 10_000
right = same_class.mean().item()
claim_between(
    "the accuracy of the nearest neighbour", right, 0.80, 0.84, applies=as_published
)
claim("shirts do worst", share.idxmin() == "Shirt", applies=as_published)
harder = share.rank()["Sandal"] <= 5
claim("sandals are in the harder half", harder, applies=as_published)
claim(
    "trousers are right more than nine times in ten",
    share["Trouser"] > 0.9,
    applies=as_published,
)
few = share["Shirt"] < 2 / 3
claim("shirts are right less than two times in three", few, applies=as_published)

# %% [markdown]
# About four in five, from nothing but distances between pixels. A network that does not beat this
# has learned nothing worth its electricity. And the difficulty is uneven: it sits with the tops,
# above all with the shirts.
#
# ## Near-duplicates, and doubtful labels
#
# The distances show two more things worth knowing. First, the closest pairs of all, drawn side by
# side. The paper says that all articles are different products, but many are of the same cut, in
# another shade or with another print. Such near-duplicates are harmless within one part of the data
# (though they flatter the nearest neighbour that we have just measured). *Across* parts they are
# not: a test image whose near-duplicate was in training tests nothing.

# %% mystnb={"image": {"alt": "Eight pairs of training images that are nearest to each other: pullovers, dresses and trousers, the outlines of each pair nearly the same pixel for pixel; some pairs differ in print or shade."}}
nearest_first = distance.argsort()
# Pairs in which each image is the other's nearest.
mutual = nearest_first[neighbour[neighbour[nearest_first]] == nearest_first]

left = mutual[mutual < neighbour[mutual]][:8]
right = neighbour[left]
figure = plotting.image_pairs(compared[left], compared[right])

# %% [markdown]
# Second, the nearest pairs whose *labels differ*. Is the left one really a shirt, and the right one
# really a T-shirt? Sometimes a detail settles it, such as a row of buttons. Sometimes nothing in
# 28×28 pixels does: the staff knew the product, and we see a thumbnail.

# %% mystnb={"image": {"alt": "Eight pairs of nearly equal training images whose labels differ, most often a shirt and a T-shirt, or a pullover and a coat."}}
differ = mutual[(compared.labels != compared.labels[neighbour])[mutual]]
left = differ[differ < neighbour[differ]][:8]
right = neighbour[left]
figure = plotting.image_pairs(compared[left], compared[right])

# %% tags=["hide-input"]
upper_body = {"T-shirt", "Pullover", "Dress", "Coat", "Shirt"}
found = {CLASS_NAMES[label] for label in compared.labels[torch.cat([left, right])]}
claim(
    "all these pairs are of garments for the upper body",
    found <= upper_body,
    applies=as_published,
)

# %% [markdown]
# So there is a ceiling. Where two images are the same to the eye and their labels differ, no
# classifier can be right about both except by memory, and memory does not help with new images.
# When the networks of the next chapters stop short of one hundred percent, part of the reason is
# on this page.
#
# ## Exercises
#
# Write your answer in the cell below each exercise, in place of the dots, run it, and run the cell
# that follows: `check` says whether you are right, and if not, what is off. (`make lab` opens
# copies of the chapters to answer in; the published chapters hold a solution there, folded.)
#
# ### Exercise 1.1: The last batch
#
# The loader made 938 batches of 64 images from 60,000 images. How many images does the last batch
# hold?
#
# <details>
# <summary>Hint</summary>
#
# All batches before it are full.
#
# </details>

# %% jupyter={"source_hidden": true} mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show a solution"} tags=["solution", "hide-input"]
# Exercise 1.1
### BEGIN SOLUTION
last_batch = 60_000 - 937 * 64
### END SOLUTION

# %%
check("1.1", last_batch)

# %% [markdown] tags=["solution"]
# <details>
# <summary>Why</summary>
#
# The 937 full batches hold 59,968 images, so 32 are left. `list(loader)[-1][0].shape` shows it, after
# it has made all batches before it.
#
# </details>

# %% [markdown]
# ### Exercise 1.2: A mean of means
#
# A network goes through these batches. In each full batch the mean loss of an image is 0.5; in the
# last one it is 2. What is the mean loss of an image, over all 60,000? Give it with all its
# decimals.
#
# <details>
# <summary>Hint</summary>
#
# How much loss is there altogether, and how many images is it shared among?
#
# </details>

# %% jupyter={"source_hidden": true} mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show a solution"} tags=["solution", "hide-input"]
# Exercise 1.2
### BEGIN SOLUTION
mean_loss = (937 * 64 * 0.5 + 32 * 2.0) / 60_000
### END SOLUTION

# %%
check("1.2", mean_loss)


# %% [markdown] tags=["solution"]
# <details>
# <summary>Why</summary>
#
# The mean of the 938 batch means is a little higher, because it gives each image of the last batch twice
# the weight of any other. The difference is small here, and large where the last batch is: with two
# batches, one of 64 images and one of 1, that single image would make up half of the mean.
#
# </details>

# %% [markdown]
# ### Exercise 1.3: The mean-image classifier
#
# Write `nearest_mean(images, means)`, which gives each image the number (from 0 on) of the mean
# image that is nearest to it, by the Euclidean distance over all pixels. Then use it on the
# validation images with the `means` that we drew above, and give the share of right answers. Guess
# it first: will it beat the nearest neighbour?
#
# <details>
# <summary>Hint</summary>
#
# Make each image one row of 784 numbers with `flatten(1)`; `torch.cdist` gives the distance of every
# row of one tensor from every row of another.
#
# </details>

# %% jupyter={"source_hidden": true} mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show a solution"} tags=["solution", "hide-input"]
# Exercise 1.3
def nearest_mean(images, means):
    """Number of the nearest mean, (K, 1, 28, 28), of each image, (N, 1, 28, 28)."""
    ### BEGIN SOLUTION
    return torch.cdist(images.flatten(1), means.flatten(1)).argmin(dim=1)
    ### END SOLUTION


### BEGIN SOLUTION
answers = nearest_mean(data.validation.images, means)
share_right = (answers == data.validation.labels).float().mean()
### END SOLUTION

# %%
check("1.3", nearest_mean, share_right, data)

# %% [markdown] tags=["solution"]
# <details>
# <summary>Why</summary>
#
# About seven in ten, fewer than by the nearest neighbour: one mean for each class is too coarse.
# Shirts fare worst by far. Their mean lies between those of the other tops, so that most of them
# are nearer to another class's mean than to their own.
#
# </details>

# %% [markdown]
# ### Exercise 1.4: Near-duplicates across the cut
#
# Are there near-duplicates between the training part and the validation part? Take the last 2,000
# training images and the first 2,000 validation images. For each of these validation images, find
# its Euclidean distance from the nearest of these training images (`distances`) and that image's
# index among the 2,000, from 0 to 1,999 (`nearest`). Then draw the eight closest pairs, as we did
# above.
#
# <details>
# <summary>Hint</summary>
#
# `torch.cdist` makes a table with a row for each validation image and a column for each training image.
# `min(dim=1)` gives two things at once.
#
# </details>

# %% jupyter={"source_hidden": true} mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show a solution", "image": {"alt": "Eight pairs of a validation image and the training image nearest to it, among the last 2,000: mostly trousers, and the two of a pair hard to tell apart."}} tags=["solution", "hide-input"]
# Exercise 1.4
### BEGIN SOLUTION
late, early = data.train.images[-2000:], data.validation.images[:2000]
distances, nearest = torch.cdist(early.flatten(1), late.flatten(1)).min(dim=1)

closest = distances.argsort()[:8]
pairs = torch.cat([early[closest], late[nearest[closest]]], dim=-1)
figure = plotting.image_grid(pairs, columns=4)
### END SOLUTION

# %%
check("1.4", nearest, distances, data)

# %% [markdown] tags=["solution"]
# <details>
# <summary>Why</summary>
#
# There are a few, mostly trousers, which are nearly alike even when they are different articles. If there
# were many, the validation accuracy would be too good: a network could have learned those images by heart.
#
# </details>

# %% [markdown]
# ## Recap
#
# - An image is a tensor `(1, 28, 28)` of numbers from 0 to 1; a batch puts the number of images in
#   front.
# - Train to fit, validate to choose, test once. The test set stays sealed until the last choice is
#   made.
# - The classes are nearly equally frequent, so accuracy is fair; guessing scores one in ten, the
#   nearest neighbour among 10,000 images about four in five.
# - The difficulty lies with the tops, and some labels cannot be told from the pixels at all.
#
# **Next:** [a convolutional network](02_cnn.ipynb) that learns what to look for.
