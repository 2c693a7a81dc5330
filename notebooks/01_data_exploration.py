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

# %%
import pandas as pd
import torch
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from torch.utils.data import DataLoader
from torchvision import datasets
from torchvision.transforms import ToTensor

from fmnist_lib import plotting
from fmnist_lib.claims import claim, claim_between
from fmnist_lib.data import CLASS_NAMES, load_fashion_mnist, nearest_neighbours
from fmnist_lib.files import find_data

# %% tags=["nbval-ignore-output"]
from fmnist_lib.runs import describe_machine

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
# Fashion-MNIST ([Xiao, Rasul and Vollgraf, 2017](https://arxiv.org/abs/1708.07747)) holds 70,000 pictures of articles of clothing from an
# online shop. Each was shrunk to 28×28 pixels, turned to grey and inverted, so that the article
# is bright on a black ground, and given one of ten labels by the shop's own staff. It was made
# to replace MNIST, the handwritten digits, on which nearly any method is right nearly always: on
# clothes there is still something to win.
#
# PyTorch's classic way to such data has three parts. A **dataset** gives one example at a time
# by its index; a **transform** turns that example into a tensor; a **data loader** stacks
# examples into batches. `ToTensor` makes bytes from 0 to 255 into floating-point numbers from 0
# to 1 and puts the channel first, as PyTorch's convolutions want it.

# %%
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
# (The pictures are drawn dark on white, because that prints better. In the tensors, the article
# is bright: 0 is the empty ground, 1 the brightest cloth.)
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
claim("so are its labels", torch.equal(data.train.labels[:64], labels))

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

# %%
shares = counts.drop("all") / counts.loc["all"]
claim_between("the smallest share of a class in a part", shares.min().min(), 0.095, 0.1)
claim_between("the largest share", shares.max().max(), 0.1, 0.105)

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
# trunk. Any method that judges by the outline alone must confuse them. Remember this picture; the
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

# %%
claim("sandals have the lowest mean", statistics["mean"].idxmin() == "Sandal")
claim("coats have the highest", statistics["mean"].idxmax() == "Coat")
zeros = (data.train.images == 0).float().mean().item()
claim_between("the share of pixels that are exactly zero", zeros, 0.45, 0.55)

# %% [markdown]
# About half of all pixels are exactly zero: empty ground. The histograms show the rest, pixel
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

# %%
right = same_class.mean().item()
claim_between("the accuracy of the nearest neighbour", right, 0.80, 0.84)
claim("shirts do worst", share.idxmin() == "Shirt")
claim("sandals are in the harder half", share.rank()["Sandal"] <= 5)
claim("trousers are right more than nine times in ten", share["Trouser"] > 0.9)
claim("shirts are right less than two times in three", share["Shirt"] < 2 / 3)

# %% [markdown]
# About four in five, from nothing but distances between pixels. A network that does not beat this
# has learned nothing worth its electricity. And the difficulty is uneven: it sits with the tops,
# above all with the shirts.
#
# ## Doubles, and labels to doubt
#
# The distances show two more things worth knowing. First, the pairs that lie nearest of all: left
# and right, left and right. The paper says that all articles are different products, but many are
# of the same cut, in another shade or with another print. Such near-duplicates are harmless within
# one part of the data (though they flatter the nearest neighbour that we have just measured).
# *Across* parts they are not: a test image whose double was in training is no test at all.

# %% mystnb={"image": {"alt": "Eight pairs of training images that are nearest to each other: pullovers, dresses and trousers, the outlines of each pair nearly the same pixel for pixel; some pairs differ in print or shade."}}
nearest_first = distance.argsort()
mutual = nearest_first[neighbour[neighbour[nearest_first]] == nearest_first]
left = mutual[mutual < neighbour[mutual]][:8]
pairs = torch.stack([left, neighbour[left]], dim=1).flatten()
names = [CLASS_NAMES[label] for label in compared.labels[pairs]]
figure = plotting.image_grid(compared.images[pairs], names)

# %% [markdown]
# Second, the nearest pairs whose *labels differ*. Is the left one really a shirt, and the right one
# really a T-shirt? Sometimes a detail settles it, such as a row of buttons. Sometimes nothing in
# 28×28 pixels does: the staff knew the product, and we see a thumbnail.

# %% mystnb={"image": {"alt": "Eight pairs of nearly equal training images whose labels differ, most often shirt beside T-shirt or pullover beside coat."}}
differ = mutual[(compared.labels != compared.labels[neighbour])[mutual]]
left = differ[differ < neighbour[differ]][:8]
pairs = torch.stack([left, neighbour[left]], dim=1).flatten()
names = [CLASS_NAMES[label] for label in compared.labels[pairs]]
figure = plotting.image_grid(compared.images[pairs], names)

# %%
upper_body = {"T-shirt", "Pullover", "Dress", "Coat", "Shirt"}
claim("all these pairs are of garments for the upper body", set(names) <= upper_body)

# %% [markdown]
# So there is a ceiling. Where two images are the same to the eye and their labels differ, no
# classifier can be right about both except by memory, and memory does not help with new images.
# When the networks of the next chapters stop short of one hundred percent, part of the reason is
# on this page.
#
# ## Exercises
#
# **1. The last batch.** The loader made 938 batches of 64 images from 60,000 images. How many
# images does the last batch hold? Work it out by hand, then check with `list(loader)[-1]`.
#
# <details><summary>Hint and answer</summary>
#
# 937 full batches are 59,968 images, so 32 are left. A mean over *batches* would give each of
# these 32 images twice the weight of any other. This is why `fit`, in the next chapter, averages
# over images.
#
# </details>
#
# **2. The mean-image classifier.** Give each validation image the label of the mean image
# (`means`) that is nearest to it. Guess its accuracy first: will it beat the nearest neighbour?
#
# <details><summary>Hint and answer</summary>
#
# `torch.cdist(data.validation.images.flatten(1), means.flatten(1)).argmin(dim=1)` gives the
# predicted labels. You should find about two in three right, fewer than by the nearest neighbour:
# one mean for each class is too coarse. Shirts fare worst by far: their mean lies between those of
# the other tops, so that most of them are nearer to another class's mean than to their own.
#
# </details>
#
# **3. Doubles across the cut.** Are there near-duplicates between the training part and the
# validation part? Take the last 2,000 training images and the first 2,000 validation images, find
# for each of the latter its nearest among the former, and draw the closest pairs. What would they
# do to the validation accuracy if there were many?
#
# <details><summary>Hint and answer</summary>
#
# `torch.cdist` between the two parts, then `min(dim=1)`. There are a few, mostly trousers, which
# are nearly alike even when they are different articles. Many of them would make the validation
# accuracy too good: the network could have learned those images by heart.
#
# </details>
#
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
