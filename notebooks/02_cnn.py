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
# # 2 · A convolutional network
#
# The nearest neighbour of chapter 1 compared images pixel by pixel. Move a shoe two pixels to the
# left and nearly every pixel changes, though nothing about the shoe has. This chapter builds a
# network that looks for small patterns *wherever they are*, trains it, and looks inside.
#
# **After this chapter you can**
#
# - say what a convolution computes, and why it needs so few weights;
# - follow the shape of a batch through a network, layer by layer, and count the parameters;
# - train a network, read its learning curves, and say when it starts to learn by heart;
# - measure it once on the test images, and read a confusion matrix.
#
# **Time:** two to six minutes of computing on a two-core laptop, nearly all of it in one cell; an
# hour of reading.

# %%
import torch
from torch import nn

from fmnist_lib import evaluation, plotting
from fmnist_lib.claims import claim, claim_between
from fmnist_lib.data import CLASS_NAMES, load_fashion_mnist
from fmnist_lib.models import build_model, count_parameters, layer_table
from fmnist_lib.runs import describe_machine, save_run
from fmnist_lib.training import TrainConfig, fit

# %% tags=["nbval-ignore-output"]
# %config InlineBackend.figure_formats = ["retina"]
print(describe_machine())

# %% [markdown]
# The next cell holds the chapter's parameters. Its defaults are those of the script that this
# course grew out of (we call them the *reference protocol*), and the published outputs were made
# with them. Change them, and the claims about those outputs are skipped and marked ○.

# %% tags=["parameters"]
epochs: int = 25  # passes over the training images
batch_size: int = 64  # images in a step
lr: float = 3e-4  # learning rate of Adam
shuffle: bool = False  # True: a new order of the training images in each epoch
seed: int = 0  # of the first weights and of the order
device: str = "auto"  # "auto", "cpu", "cuda" or "mps"
sample: bool = False  # True: 1,500 images that need no download, for a quick look
data_dir: str = ""  # folder with the data; empty: where fmnist data finds it
runs_dir: str = "runs"  # folder in which the trained network is kept
log_dir: str = ""  # folder for TensorBoard's event files; empty: none

# %%
config = TrainConfig(epochs, batch_size, lr, shuffle, seed, device)
as_published = (epochs, batch_size, lr, sample) == (25, 64, 3e-4, False)
data = load_fashion_mnist(data_dir, sample=sample)

# %% [markdown]
# ## What a convolution is
#
# Take a 3×3 table of weights, the **kernel**. Lay it on a corner of the image, multiply each weight
# with the pixel under it, add up the nine products and a bias: one number. Move the kernel one
# pixel on and do it again, over the whole image. The numbers form a new image, a **feature map**,
# which is bright where the image looks like the kernel. A kernel with a bright row above a dark row
# finds lower edges; one learned from the data finds whatever helps to tell clothes apart.
#
# A 3×3 kernel has only 26 places along a row of 28 pixels. **Padding** puts a border of zeros
# around the image, here one pixel wide, and the feature map is as large as the image.
#
# Two ideas are built in. *Locality*: what matters first is how near pixels relate. *Weight
# sharing*: a pattern is worth finding anywhere, so the same nine weights serve every place. See
# what that saves, for 16 feature maps as large as the image:

# %%
convolution = nn.Conv2d(1, 16, kernel_size=3, padding=1)
linear = nn.Linear(28 * 28, 16 * 28 * 28)

print(f"convolution to 16 maps:  {count_parameters(convolution):>10,} parameters")
print(f"linear layer to as many: {count_parameters(linear):>10,} parameters")

# %% [markdown]
# The convolution has 16 kernels of nine weights and a bias each: 16 × 10 parameters. The linear
# layer joins each of 784 pixels with each of 12,544 outputs, and would have to learn to see a
# collar again for every place where a collar can be.
#
# ## The network
#
# Ours has two parts. The **features**: two rounds of convolution, ReLU and pooling. ReLU replaces
# negative numbers by zero, without which two convolutions in a row would be just one larger
# convolution. Average pooling replaces each 2×2 block by its mean: a quarter of the numbers, and a
# shift by one pixel matters less. A kernel of the second convolution reads all 16 maps at once, so
# it has 16 × 9 weights and one bias; there are 32 such kernels, 32 × 145 = 4,640 parameters. The
# comments give the shapes for a batch of N images.

# %%
features = nn.Sequential(
    nn.Conv2d(1, 16, kernel_size=3, padding=1),  # (N, 1, 28, 28) -> (N, 16, 28, 28)
    nn.ReLU(),
    nn.AvgPool2d(2),  #                             (N, 16, 14, 14)
    nn.Conv2d(16, 32, kernel_size=3),  #            (N, 32, 12, 12)
    nn.ReLU(),
    nn.AvgPool2d(2),  #                             (N, 32, 6, 6)
)

# %% [markdown]
# The **classifier**: it flattens the 32 feature maps of 6×6 into one row of 1,152 numbers, and
# three linear layers turn them into ten **logits**, one for each class. The largest logit is the
# prediction.

# %%
classifier = nn.Sequential(
    nn.Flatten(),  #           (N, 32 * 6 * 6) = (N, 1152)
    nn.Linear(1152, 256),
    nn.ReLU(),
    nn.Linear(256, 128),
    nn.ReLU(),
    nn.Linear(128, 10),  #     (N, 10): the logits
)

# %% [markdown]
# The library holds the same network, so that every chapter can use it. *The same* is something
# one can check: give the library's network our weights, and both must answer alike.

# %%
model = build_model("cnn", seed=seed)
model.features.load_state_dict(features.state_dict())
model.classifier.load_state_dict(classifier.state_dict())

batch = data.train.images[:64]
with torch.inference_mode():
    ours, library = classifier(features(batch)), model(batch)
claim("both networks give the same logits", torch.equal(ours, library))

# %% [markdown]
# Follow an image down the table. The maps get smaller and there are more of them: less *where*,
# more *what*.

# %%
layers = layer_table(model)
print(f"{layers['parameters'].sum():,} parameters")
layers

# %% [markdown]
# Look where the parameters are: nine out of ten sit in one layer, the first linear one. The two
# convolutions, which do the seeing, have about 5,000 between them. Remember this when chapter 3
# makes the feature maps smaller.

# %%
largest = layers.loc[layers["parameters"].idxmax()]
share = largest["parameters"] / layers["parameters"].sum()
claim_between("the share of the first linear layer", share, 0.85, 0.92)
claim("it is the first linear one", largest["layer"] == "Linear 1152→256")

# %% [markdown]
# ## From logits to a loss
#
# Softmax turns ten logits into ten probabilities, by taking exponentials and dividing by their
# sum. **Cross-entropy** is minus the logarithm of the probability that the network gave to the
# *right* class: 0 if it was sure and right, large if it was sure and wrong. A network that knows
# nothing gives each class one tenth, and its loss is −ln(1/10) = ln 10, about 2.3. An untrained
# network should start there. When yours does not, look for a bug before you train.

# %%
model = build_model("cnn", seed=seed)
with torch.inference_mode():
    loss = nn.functional.cross_entropy(model(batch), data.train.labels[:64]).item()
claim_between("the loss before training", loss, 2.2, 2.4)

# %% [markdown]
# ## Training
#
# Training repeats four steps. Compute the logits of a batch; compute the loss; compute its
# gradient, which says how the loss would change with each of the 334,154 parameters; move each
# parameter a little against its gradient. The optimizer decides how far: here Adam ([Kingma and Ba,
# 2014](https://arxiv.org/abs/1412.6980)), which gives every parameter a step size of its own. The
# heart of `fit` is just this (read it whole with `fit??`). The first line is there because PyTorch
# adds each new gradient to the old one, unless the old one is cleared:
#
# ```python
# for images, labels in batches:
#     optimizer.zero_grad()
#     loss = criterion(model(images), labels)
#     loss.backward()
#     optimizer.step()
# ```
#
# After each epoch, that is, each pass over the 48,000 training images, `fit` measures loss and
# accuracy on the 12,000 validation images, and it keeps the weights of the epoch with the best
# validation accuracy. One habit of the reference protocol is unusual: it takes the images in file
# order. Shuffling them anew in each epoch is what most people do, and for good reason; exercise 1
# asks you for it.

# %%
trained = fit(model, data.train, data.validation, config, log_dir=log_dir or None)

# %% [markdown]
# Each row is an epoch. The losses are means over images, in *nats* (the unit that goes with the
# natural logarithm).

# %% tags=["nbval-ignore-output"]
trained.history.set_index("epoch").iloc[::4].round(3)

# %% mystnb={"image": {"alt": "Two panels over 25 epochs. Left, the cross-entropy: training falls steadily, validation falls with it and then flattens out above it. Right, the accuracy: both rise steeply at first, and validation levels off below training."}}
figure = plotting.training_curves(trained.history, trained.best_epoch)

# %% [markdown]
# ## Reading the curves
#
# **At first the validation curve may be the better one.** That is no mistake: the training
# figures are gathered *during* the epoch, while the network is still worse, and the validation
# figures after it.
#
# **Later the curves part.** The training loss goes on falling, and the validation loss follows more
# and more slowly. The gap is what the network knows about these 48,000 images only. A gap is
# normal; a validation loss that *rises* for several epochs while the training loss falls is the
# sign to stop, and the reason to keep the weights of the best epoch and not of the last.
#
# **At the end the validation accuracy still creeps up, while the validation loss has nearly stopped
# falling.** The two need not turn at the same epoch (exercise 3 shows why). Twenty-five epochs are
# what the reference protocol takes, not what the network could use. Whether more would help is a
# question for the validation images.

# %%
first, last = trained.history.iloc[0], trained.history.iloc[-1]
gap = last["train_acc"] - last["val_acc"]
ahead = first["val_acc"] > first["train_acc"]
claim("validation is ahead of training in epoch 1", ahead, applies=as_published)
claim("at the end training is ahead of validation", gap > 0, applies=as_published)
claim_between("its lead in accuracy", gap, 0.005, 0.045, applies=as_published)
claim("the best epoch is a late one", trained.best_epoch > 18, applies=as_published)
best = trained.history["val_acc"].max()
claim_between("the best validation accuracy", best, 0.89, 0.93, applies=as_published)

# %% [markdown]
# ## What the network looks for
#
# The 16 kernels of the first convolution are small enough to draw. Teal weights count for
# brightness, brown ones against it. A kernel with a teal and a brown side answers to edges of that
# direction, as many kernels in the first layers of trained image networks do.

# %% mystnb={"image": {"alt": "The sixteen learned kernels of the first convolution, three by three weights each, teal for positive and brown for negative. Several have positive weights on one side and negative ones on the other: detectors of edges in various directions."}}
kernels = trained.model.features[0].weight.detach().cpu()
figure = plotting.image_grid(kernels, columns=8, cmap="BrBG", symmetric=True)

# %% [markdown]
# Now send three images through. The first column shows the image, the others the first eight
# feature maps after the first ReLU. Most kernels light up the same kind of place (one sort of edge,
# the cloth, the empty ground) on a boot, on a coat and on a bag alike: that is weight sharing, made
# visible.

# %% mystnb={"image": {"alt": "An ankle boot, a coat and a bag, each followed by eight feature maps. In most columns the same kind of place is bright in all three articles: edges of one direction, the filled area, or the empty ground."}}
examples = [(data.train.labels == k).nonzero()[0].item() for k in (9, 4, 8)]
shown = data.train[torch.tensor(examples)]
network = trained.model.cpu()
with torch.inference_mode():
    maps = network.features[:2](shown.images)
rows = [
    torch.cat([image, channels[:8]])
    for image, channels in zip(shown.images, maps, strict=True)
]
figure = plotting.image_channels(rows, [CLASS_NAMES[label] for label in shown.labels])

# %% [markdown]
# ## The test, once
#
# Every choice is made: network, learning rate, number of epochs, best epoch. Only now the test
# images come out.

# %% tags=["nbval-ignore-output"]
probabilities = evaluation.predict(trained.model, data.test.images)
predicted = probabilities.argmax(axis=1)
test_accuracy = evaluation.accuracy(data.test.labels, predicted)
print(f"test accuracy: {test_accuracy:.4f}")

# %%
claim_between("the test accuracy", test_accuracy, 0.89, 0.92, applies=as_published)
lower = test_accuracy < best
claim("it is lower than the best validation accuracy", lower, applies=as_published)

# %% [markdown]
# About nine in ten. The nearest neighbour of chapter 1 had eight, among 10,000 images; among all
# 48,000 it has eight and a half (exercise 4). And the test accuracy is somewhat lower than the
# validation accuracy. We *chose* the best of 25 epochs by that accuracy, so it flatters, but
# neighbouring epochs differ little, so this explains a small part. The rest is
# in the images: the test images are a little harder. Exercise 4 suggests the same, without any
# network.
#
# ## Where it goes wrong
#
# A single number hides who is confused with whom. In the **confusion matrix** each row is a true
# class and each column a prediction; what is right stands on the diagonal. The colours are scaled
# to the mistakes, since the diagonal is so much larger.

# %% mystnb={"image": {"alt": "Confusion matrix of the convolutional network on the test images, as an annotated heat map. The diagonal is by far the darkest in every row, least so in that of shirts. The largest mistakes are between shirt and T-shirt, and between shirt, pullover and coat; there are some between sneaker, sandal and ankle boot."}}
confusion = evaluation.confusion_matrix(data.test.labels, predicted)
ax = plotting.confusion_heatmap(confusion)

# %%
worst = evaluation.worst_confusions(confusion, n=4)
tops = {"T-shirt", "Pullover", "Dress", "Coat", "Shirt"}
right = dict(zip(CLASS_NAMES, confusion.to_numpy().diagonal(), strict=True))
named = {*worst["true"], *worst["predicted"]}
claim(
    "the four largest confusions are among the tops",
    named <= tops,
    applies=as_published,
)
hardest = min(right, key=right.get)
claim("shirts are right least often", hardest == "Shirt", applies=as_published)

# %% [markdown]
# Chapter 1 predicted most of it. Pullover, coat and shirt share one silhouette; shirt and T-shirt
# were the labels to doubt. Shirts, which are in both groups, do worst. Trousers and bags stand
# apart and are nearly always right. Shoes are confused with shoes, and hardly ever with anything
# else.
#
# ## Keeping the result
#
# A run is kept as a folder of three plain files: the weights, the history, and a record of
# settings, metrics, versions, processor, threads and data. Chapters 3 and 4 load it from there, and
# `fmnist card` makes a page of it that tells others what the network is good for, and what not.

# %%
metrics = {"val_accuracy": float(best)}
metrics |= evaluation.test_metrics(data.test.labels, probabilities)
folder = save_run(f"{runs_dir}/02_cnn", "cnn", trained, metrics, sample=sample)
sorted(file.name for file in folder.iterdir())

# %% [markdown]
# ## Watching a training from outside: TensorBoard
#
# The bar shows the newest epoch only. For long trainings, or to compare several, people write
# **event files** and watch them in a browser. The environment that `make` sets up has what it takes
# (in another one, `pip install -e ".[tensorboard]"` in the project's folder). Set the parameter
# `log_dir` to a folder, say `runs/events/first`, train, and run
#
# ```shell
# tensorboard --logdir runs/events
# ```
#
# in a terminal. You get loss and accuracy of both parts as curves, the graph of the network, and
# under *Text* what the network makes of sixteen validation images, epoch by epoch. Give each
# training a folder of its own below `runs/events`, and TensorBoard lays their curves over one
# another.
#
# ## Exercises
#
# **1. Shuffle.** Train again with `shuffle = True` in the parameters cell. Does the validation
# accuracy at the end get better, worse, or neither? Repeat it with another `seed` before you
# decide.
#
# <details><summary>Hint and answer</summary>
#
# You should find a difference no larger than the one between two seeds: the images were mixed
# before the files were made, so the file order is nearly as good as any. If the files were sorted
# by class, training without shuffling would fail badly. Try that as well: sort by
# `data.train.labels.argsort()` and train one epoch.
#
# </details>
#
# **2. One setting changed.** How many parameters does the network have if the second convolution
# has padding 1? Work it out before you build it.
#
# <details><summary>Hint and answer</summary>
#
# The second convolution then gives 14×14, pooled 7×7, so the classifier begins with
# 32 × 49 = 1,568 inputs instead of 1,152: 416 × 256 = 106,496 parameters more. Check with
# `count_parameters`.
#
# </details>
#
# **3. Sure and wrong.** What is the cross-entropy of an image if the network gives its right class
# the probability 0.9? 0.5? 0.01? How many images whose right class gets 0.01 add as much to the
# loss as a hundred whose right class gets 0.9?
#
# <details><summary>Hint and answer</summary>
#
# −ln 0.9 ≈ 0.105, −ln 0.5 ≈ 0.693, −ln 0.01 ≈ 4.605. A hundred images at 0.105 add up to 10.5, so
# between two and three confident mistakes weigh as much as all of them. This is why the loss may
# rise while the accuracy is still rising.
#
# </details>
#
# **4. Are the test images harder?** Take 5,000 validation and 5,000 test images, give each the label
# of its nearest *training* image, and compare the two accuracies. This method was fitted to neither
# part and chose nothing, so what differs is the images.
#
# <details><summary>Hint and answer</summary>
#
# `torch.cdist(part.flatten(1), data.train.images.flatten(1)).argmin(dim=1)`, a thousand images at a
# time, to spare the memory. You should find the accuracy on the test images one to two percentage
# points lower.
#
# </details>
#
# ## Recap
#
# - A convolution looks for one small pattern everywhere with the same few weights.
# - Most parameters of a small network like this one sit in its first linear layer.
# - Before training, the loss is about ln 10; check it. During training, watch the gap between the
#   curves. After it, keep the epoch that validated best.
# - About nine test images in ten are right, and the mistakes are those that chapter 1 foretold.
#
# **Next:** [a dilated network](03_dilated_cnn.ipynb), whose convolutions see further with as many
# weights.
