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

# %% jupyter={"source_hidden": true} tags=["hide-input"]
try:
    import fmnist_lib  # noqa: F401
except ModuleNotFoundError:
    raise ImportError(
        "This chapter needs the course's library: open it with 'make lab' in the "
        "course's folder, or first install that folder with '%pip install FOLDER'."
    ) from None

import torch
from torch import nn

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output", "hide-input"]
from fmnist_lib import evaluation, plotting
from fmnist_lib.claims import claim, claim_between
from fmnist_lib.course.exercises import check
from fmnist_lib.data import CLASS_NAMES, load_fashion_mnist
from fmnist_lib.experiments.parameters import check_parameters
from fmnist_lib.inspection import count_parameters, layer_table
from fmnist_lib.models import build_model
from fmnist_lib.trained import describe_machine, save_trained
from fmnist_lib.training import Checkpoint, EventLog, TrainConfig, fit

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
trained_dir: str = "trained"  # folder in which the trained network is kept
log_dir: str = ""  # folder for TensorBoard's event files; empty: none
checkpoint_dir: str = ""  # folder for checkpoints, to resume from; empty: none

# %%
check_parameters(globals())
config = TrainConfig(epochs, batch_size, lr, shuffle, seed, device)
as_published = (epochs, batch_size, lr, sample) == (25, 64, 3e-4, False)
data = load_fashion_mnist(data_dir, sample=sample)

# %% [markdown]
# ## What a convolution is
#
# Take a 3×3 table of weights, the **kernel**. Lay it on a corner of the image, multiply each weight
# by the pixel under it, add up the nine products and a bias: one number. Move the kernel one pixel
# on and do it again, over the whole image. With weights $w$, bias $b$ and pixels $x$, the number in
# row $i$ and column $j$ is
#
# $$m_{ij} = b + \sum_{u=0}^{2} \sum_{v=0}^{2} w_{uv} \, x_{i+u,\,j+v}.$$
#
# The numbers form a new image, a **feature map**, which is bright where the image looks like the
# kernel. A kernel with a bright row above a dark row finds lower edges; one learned from the data
# finds whatever helps to tell clothes apart. (Mathematicians turn the kernel by 180° first, and
# call what is computed here a cross-correlation. As the weights are learned, it makes no
# difference.)
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
# layer connects each of 784 pixels to each of 12,544 outputs, and would have to learn to see a
# collar again for every place where a collar can be.
#
# > **Question.** The images become twice as wide and twice as high, 56×56, and the sixteen maps with them. What
# > happens to the two numbers of parameters?
# >
# > <details>
# > <summary>Both are four times as large: there are four times as many pixels.</summary>
# >
# > No. The kernels stay 3×3. More pixels mean that they are laid down at more places, not that they have
# > more weights.
# >
# > </details>
# >
# > <details>
# > <summary>That of the convolution stays, that of the linear layer is four times as large.</summary>
# >
# > No. Each of four times as many pixels is joined with each of *four times as many* outputs.
# >
# > </details>
# >
# > <details>
# > <summary>That of the convolution stays, that of the linear layer is about sixteen times as large.</summary>
# >
# > Right. The linear layer has four times as many inputs and four times as many outputs. The convolution
# > computes four times as much, with the same 160 parameters.
# >
# > </details>
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
# The library holds the same network, so that every chapter can use it. *The same* is something one
# can check: give the library's network our weights (`state_dict` holds them by name), and both must
# give the same answers.

# %%
model = build_model("cnn", seed=seed)
model.features.load_state_dict(features.state_dict())
model.classifier.load_state_dict(classifier.state_dict())

batch = data.train.images[:64]
with torch.inference_mode():  # no gradients are needed
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

# %% tags=["hide-input"]
largest = layers.loc[layers["parameters"].idxmax()]
share = largest["parameters"] / layers["parameters"].sum()
claim_between("the largest layer's share of the parameters", share, 0.85, 0.92)
claim(
    "the largest layer is the first linear one", largest["layer"] == "Linear 1152→256"
)

# %% [markdown]
# > **Question.** Leave out all four ReLUs, and keep everything else. What can the network then learn at best?
# >
# > <details>
# > <summary>What it can learn now: it has as many parameters.</summary>
# >
# > No. However the 334,154 numbers are chosen, what they compute together is then a weighted sum of the
# > 784 pixels for each class, plus a bias. 7,850 numbers are enough for that.
# >
# > </details>
# >
# > <details>
# > <summary>What a single linear layer from 784 pixels to ten logits can learn.</summary>
# >
# > Right. Convolution, average pooling and linear layer are weighted sums, and a weighted sum of weighted
# > sums is one again.
# >
# > </details>
# >
# > <details>
# > <summary>More than a linear layer, for the poolings are still there.</summary>
# >
# > No. Average pooling is a weighted sum as well: four pixels with the weight ¼ each. Max pooling would be
# > another matter, since which of the pixels counts then depends on the image.
# >
# > </details>

# %% [markdown]
# ## From logits to a loss
#
# Softmax turns the ten logits $z_0, \dots, z_9$ of an image into ten probabilities, by taking
# exponentials and dividing by their sum. **Cross-entropy** is minus the logarithm of the probability
# that the network gave to the *right* class $y$:
#
# $$p_k = \frac{\exp z_k}{\sum_{j=0}^{9} \exp z_j}, \qquad \text{loss} = -\ln p_y.$$
#
# It is 0 if the network was sure and right, and large if it was sure and wrong. A network that knows
# nothing gives each class one tenth, and its loss is $-\ln \frac{1}{10} = \ln 10$, about 2.3. An
# untrained network should start there. When yours does not, look for a bug before you train.

# %%
model = build_model("cnn", seed=seed)
with torch.inference_mode():
    loss = nn.functional.cross_entropy(model(batch), data.train.labels[:64]).item()
claim_between("the loss before training", loss, 2.2, 2.4)

# %% [markdown]
# > **Question.** A friend's network, not trained yet, has a loss of about 4.6 on images of Fashion-MNIST. What do you
# > suspect?
# >
# > <details>
# > <summary>Its seed is an unlucky one.</summary>
# >
# > No. Try a few: with these networks, another seed moves the first loss by some hundredths.
# >
# > </details>
# >
# > <details>
# > <summary>Its loss is summed over the batch instead of averaged.</summary>
# >
# > No. The sum over a batch of 64 images would be 64 times ln 10, nearly 150.
# >
# > </details>
# >
# > <details>
# > <summary>Its learning rate is too large.</summary>
# >
# > No. Nothing has been learned so far, at whatever rate.
# >
# > </details>
# >
# > <details>
# > <summary>Its last layer has a hundred outputs.</summary>
# >
# > Right. A hundred classes that are equally probable give a loss of ln 100, twice ln 10. Nothing
# > else complains, because the labels 0 to 9 are among the hundred. The first loss tells you how many
# > classes the network is choosing among.
# >
# > </details>

# %% [markdown]
# ## Training
#
# Training repeats four steps. Compute the logits of a batch; compute the loss; compute its
# gradient, which says how the loss would change with each of the 334,154 parameters; move each
# parameter a little against its gradient. The optimizer decides how far: here Adam ([Kingma and Ba,
# 2014](https://arxiv.org/abs/1412.6980)), which gives every parameter a step size of its own. The
# heart of `fit` is just this (read it whole with `fit??`):
#
# ```python
# for images, labels in state.batches():
#     optimizer.zero_grad()
#     loss, logits = state.forward(images, labels)
#     loss.backward()
#     optimizer.step()
# ```
#
# The `state` holds everything that training works with. Its `forward` is short for the logits,
# `model(images)`, and their loss, `criterion(logits, labels)`. The line above it is there because
# PyTorch adds each new gradient to the old one, unless the old one is cleared.
#
# After each epoch, that is, each pass over the 48,000 training images, `fit` measures loss and
# accuracy on the 12,000 validation images, and it keeps the weights of the epoch with the best
# validation accuracy. One habit of the reference protocol is unusual: it takes the images in file
# order. Shuffling them again for each epoch is what most people do, and for good reason: exercise
# 2.5 shows what can happen otherwise.

# %%
checkpoint = f"{checkpoint_dir}/02_cnn.checkpoint"
listeners = [Checkpoint(checkpoint)] if checkpoint_dir else []
listeners += [EventLog(log_dir)] if log_dir else []
trained = fit(model, data.train, data.validation, config, listeners=listeners)

# %% [markdown]
# Each row is an epoch. The losses are means over images, in *nats* (the unit that goes with the
# natural logarithm).

# %% tags=["nbval-ignore-output"]
trained.history.set_index("epoch").iloc[::4].round(3)

# %% mystnb={"image": {"alt": "Two panels over 25 epochs. Left, the cross-entropy: training falls steadily, validation falls with it and then flattens out above it. Right, the accuracy: both rise steeply at first, and validation levels off below training."}} tags=["figure-curves"]
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
# falling.** The two need not turn at the same epoch (exercise 2.3 shows why). Twenty-five epochs are
# what the reference protocol takes, not what the network could use. Whether more would help is a
# question for the validation images.

# %% tags=["hide-input"]
first, last = trained.history.iloc[0], trained.history.iloc[-1]
gap = last["train_acc"] - last["val_acc"]
ahead = first["val_acc"] > first["train_acc"]
claim("validation is ahead of training in epoch 1", ahead, applies=as_published)
claim("at the end training is ahead of validation", gap > 0, applies=as_published)
claim_between(
    "the lead of training in accuracy, at the end",
    gap,
    0.005,
    0.045,
    applies=as_published,
)
claim("the best epoch is a late one", trained.best_epoch > 18, applies=as_published)
best = trained.history["val_acc"].max()
claim_between("the best validation accuracy", best, 0.89, 0.93, applies=as_published)

# %% [markdown]
# > **Question.** After the first epoch, you measure the accuracy on all 48,000 *training* images once more, with the
# > weights as they are now. What do you expect?
# >
# > <details>
# > <summary>The training accuracy of the table: these are the same images.</summary>
# >
# > No. Those figures were gathered on the way, most of them with weights that had seen only a part of the
# > images.
# >
# > </details>
# >
# > <details>
# > <summary>About the validation accuracy of the table.</summary>
# >
# > Right. Now both are measured with the same weights, and after a single epoch there is little that the
# > network could know by heart.
# >
# > </details>
# >
# > <details>
# > <summary>Nearly all right, for it has just seen them.</summary>
# >
# > No. It has seen each of them once, and moved its weights a little each time. Memorising takes
# > many epochs.
# >
# > </details>

# %% [markdown]
# ## What the network looks for
#
# The 16 kernels of the first convolution are small enough to draw. Teal weights are positive and
# brown ones negative; the darker, the larger. A kernel with a teal and a brown side answers to
# edges of that direction, as many kernels in the first layers of trained image networks do.

# %% mystnb={"image": {"alt": "The sixteen learned kernels of the first convolution, three by three weights each, teal for positive and brown for negative. Several have positive weights on one side and negative ones on the other: detectors of edges in various directions."}} tags=["figure-maps"]
kernels = trained.model.features[0].weight.detach().cpu()
figure = plotting.image_grid(kernels, columns=8, cmap="BrBG", symmetric=True)

# %% [markdown]
# Now send three images through. The first column shows the image, the others the feature maps of
# the first eight kernels (the upper row above), after the ReLU. Most kernels light up the same kind
# of place (one sort of edge, the cloth, the empty background) on a boot, on a coat and on a bag
# alike: that is weight sharing, made visible.

# %% mystnb={"image": {"alt": "An ankle boot, a coat and a bag, each followed by eight feature maps. In most columns the same kind of place is bright in all three articles: edges of one direction, the filled area, or the empty background."}} tags=["figure-maps"]
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
# Every choice is made: network, learning rate, number of epochs, best epoch. Only now do the test
# images come out.

# %% tags=["nbval-ignore-output"]
probabilities = evaluation.predict(trained.model, data.test.images)
predicted = probabilities.argmax(axis=1)
test_accuracy = evaluation.accuracy(data.test.labels, predicted)
print(f"test accuracy: {test_accuracy:.4f}")

# %% tags=["hide-input"]
claim_between("the test accuracy", test_accuracy, 0.89, 0.92, applies=as_published)
lower = test_accuracy < best
claim(
    "the test accuracy is lower than the best validation accuracy",
    lower,
    applies=as_published,
)

# %% [markdown]
# About nine in ten. The nearest neighbour of chapter 1 got eight in ten right, among 10,000 images;
# among all 48,000 it gets nearly eight and a half (the project at the end). And the test accuracy
# is somewhat lower than the validation accuracy. We *chose* the best of 25 epochs by that accuracy,
# so it flatters, but neighbouring epochs differ little, so this explains a small part. The rest may
# be luck, since the gap is about twice as large as two such samples typically differ; or the test
# images may be a little harder. The project at the end asks which, without any network.
#
# ## Where it goes wrong
#
# A single number hides who is confused with whom. In the **confusion matrix** each row is a true
# class and each column a prediction; what is right stands on the diagonal. The colours show the
# mistakes alone, since the diagonal is so much larger.

# %% mystnb={"image": {"alt": "Confusion matrix of the convolutional network on the test images, as an annotated heat map. The diagonal holds by far the largest number in every row, least so in that of shirts. The largest mistakes are between shirt and T-shirt, and between shirt, pullover and coat; there are some between sneaker, sandal and ankle boot."}} tags=["figure-maps"]
confusion = evaluation.confusion_matrix(data.test.labels, predicted)
ax = plotting.confusion_heatmap(confusion)

# %% tags=["hide-input"]
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
metrics |= evaluation.summarize_predictions(data.test.labels, probabilities)
folder = save_trained(f"{trained_dir}/02_cnn", "cnn", trained, metrics, test=data.test)
sorted(file.name for file in folder.iterdir() if file.suffix)

# %% [markdown]
# ## Watching a training run from outside: TensorBoard
#
# The bar shows the newest epoch only. For long training runs, or to compare several, people write
# **event files** and watch them in a browser. The environment that `make` sets up holds TensorBoard
# already (in a different one, `pip install -e ".[tensorboard]"` in the project's folder). Set the
# parameter `log_dir` to a folder, say `runs/events/first`, train, and run
#
# ```shell
# tensorboard --logdir runs/events
# ```
#
# in a terminal. You get loss and accuracy of both parts as curves, the graph of the network, and
# under *Text* what the network makes of sixteen validation images, epoch by epoch. Give each
# training a folder of its own below `runs/events`, and TensorBoard lays their curves over one
# another.

# %% [markdown]
# ## Exercises
#
# Write your answer in the cell below each exercise, in place of the dots, run it, and run the cell
# that follows: `check` says whether you are right, and if not, what is off.
#
# ### Exercise 2.1: One setting changed
#
# How many parameters does the whole network have if the second convolution gets padding 1, as the first
# one has? Work it out before you build it.
#
# <details>
# <summary>Hint</summary>
#
# Padding has no parameters. Follow an image down the table of layers: what changes its shape, and which
# layer has a number of parameters that depends on that shape?
#
# </details>

# %% jupyter={"source_hidden": true} mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show a solution"} tags=["solution", "hide-input"]
# Exercise 2.1
### BEGIN SOLUTION
side = 28 // 2 // 2  # both convolutions now keep the size, both poolings halve it
inputs = 32 * side * side
convolutions = 16 * (9 + 1) + 32 * (16 * 9 + 1)
parameters = convolutions + (inputs + 1) * 256 + (256 + 1) * 128 + (128 + 1) * 10
### END SOLUTION

# %%
check("2.1", parameters)

# %% [markdown] tags=["solution"]
# <details>
# <summary>Why</summary>
#
# The second convolution now gives maps of 14×14, pooled to 7×7, so the classifier begins with
# 32 × 49 = 1,568 inputs instead of 1,152. Each of the 416 new inputs is joined with 256 outputs: over a
# hundred thousand parameters more, from a border of zeros one pixel wide.
#
# </details>

# %% [markdown]
# ### Exercise 2.2: A kernel by hand
#
# Write the nine weights of a 3×3 kernel that finds lower edges. Where bright pixels lie above dark
# ones, it gives a positive number; where dark ones lie above bright ones, a negative one. On an
# even area, be it bright or dark, and along edges that run straight up and down, it gives 0.
#
# <details>
# <summary>Hint</summary>
#
# On an even area, the kernel computes the brightness times the sum of all nine weights. Along an
# edge that runs up and down, the three pixels of a column are alike.
#
# </details>

# %% jupyter={"source_hidden": true} mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show a solution"} tags=["solution", "hide-input"]
# Exercise 2.2
### BEGIN SOLUTION
kernel = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [-1.0, -1.0, -1.0]])
### END SOLUTION

# %%
check("2.2", kernel)


# %% [markdown] tags=["solution"]
# <details>
# <summary>Why</summary>
#
# The three weights of each column must add up to 0. Then an even area gives 0, and so does whatever
# does not change from one row to the next. With 1, 0 and −1 in each column, the kernel compares a
# row with the row two below it. Look among the learned kernels above for relatives: teal at the
# top, brown at the bottom. Nobody told the network that edges are worth finding.
#
# </details>

# %% [markdown]
# ### Exercise 2.3: Cross-entropy from scratch
#
# Write `cross_entropy(logits, labels)`, the mean cross-entropy of N images with logits $z$, (N, K), and
# labels $y$, (N,), with nothing but exponentials, logarithms and sums:
#
# $$\text{loss} = -\frac{1}{N} \sum_{n=1}^{N} \ln \frac{\exp z_{n y_n}}{\sum_k \exp z_{nk}}.$$
#
# It should also work for logits as large as 1,000 and as small as −1,000, whichever class is the
# right one.
#
# Then, as `mistakes`: how many images whose right class gets the probability 0.01 add as much to the loss
# as a hundred images whose right class gets 0.9? Give it as it comes out, with its decimals.
#
# <details>
# <summary>Hint</summary>
#
# `logits[torch.arange(N), labels]` takes one number from each row. For the large logits: what happens to
# the fraction if you subtract the same number from all logits of an image?
#
# </details>

# %% jupyter={"source_hidden": true} mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show a solution"} tags=["solution", "hide-input"]
# Exercise 2.3
def cross_entropy(logits, labels):
    """Mean cross-entropy of logits (N, K) with labels (N,), in nats."""
    ### BEGIN SOLUTION
    largest = logits.max(dim=1, keepdim=True).values
    shifted = logits - largest  # so that exp is at most 1
    of_label = shifted[torch.arange(len(labels)), labels]
    return (shifted.exp().sum(dim=1).log() - of_label).mean()
    ### END SOLUTION


### BEGIN SOLUTION
good, mistake = -torch.tensor([0.9, 0.01]).log()
mistakes = 100 * good / mistake
### END SOLUTION

# %%
check("2.3", cross_entropy, mistakes)

# %% [markdown] tags=["solution"]
# <details>
# <summary>Why</summary>
#
# The logarithm of the fraction is $z_y - \ln \sum_k \exp z_k$, so nothing needs to be divided.
# Subtracting the largest logit from all of them multiplies numerator and denominator by the same
# factor, which changes nothing, and leaves no exponential above 1. PyTorch does the same, which is
# why its loss wants logits and not probabilities: from a probability that was rounded to 0 there is
# no way back.
#
# Two or three confident mistakes weigh as much as a hundred good answers. So a few images on which a
# network grows sure and wrong can raise the loss, while others cross over to the right side and raise the
# accuracy as well.
#
# </details>

# %% [markdown]
# ### Exercise 2.4: A smaller network
#
# Build a network of your own, `small_network`, with fewer than 100,000 parameters: images (N, 1,
# 28, 28) in, logits (N, 10) out, for any N. It must have convolutions, each of them (the last one
# too) followed by **batch normalisation** ([Ioffe and Szegedy,
# 2015](https://arxiv.org/abs/1502.03167)), `nn.BatchNorm2d(channels)`: in training, it shifts and
# scales each map so that over the batch it has mean 0 and standard deviation 1, and then applies a
# scale and a shift that are learned. Everything else is yours to choose. Max pooling
# (`nn.MaxPool2d`) may be worth a try.
#
# <details>
# <summary>Hint</summary>
#
# Start from the network above. Where do its parameters sit, and could that layer have fewer inputs,
# or fewer outputs? `layer_table` shows the shapes as soon as the layers fit together.
#
# </details>

# %% jupyter={"source_hidden": true} mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show a solution"} tags=["solution", "hide-input"]
# Exercise 2.4
### BEGIN SOLUTION
small_network = nn.Sequential(
    nn.Conv2d(1, 16, kernel_size=3, padding=1),
    nn.BatchNorm2d(16),
    nn.ReLU(),
    nn.MaxPool2d(2),  # (N, 16, 14, 14)
    nn.Conv2d(16, 32, kernel_size=3),
    nn.BatchNorm2d(32),
    nn.ReLU(),
    nn.MaxPool2d(2),  # (N, 32, 6, 6)
    nn.Flatten(),
    nn.Linear(32 * 6 * 6, 10),
)
### END SOLUTION

# %%
check("2.4", small_network, data)

# %% [markdown] tags=["solution"]
# <details>
# <summary>Why</summary>
#
# This one keeps the features and shortens the classifier to a single layer, which writes ten numbers where
# 256 were written before. It has about a twentieth of the parameters.
#
# Batch normalisation keeps the numbers of each layer in a range in which the next one can learn, so
# that larger learning rates work. Beware of what it costs: in training, an image's logits depend on
# the other images in its batch. In evaluation it uses averages kept from the training instead,
# which is why `fit` switches between `model.train()` and `model.eval()`. Train it with `fit` if you
# like, and compare the curves.
#
# </details>

# %% [markdown]
# ### Exercise 2.5: In order
#
# The files of Fashion-MNIST are mixed already, so the reference protocol gets away with not shuffling.
# What if they were sorted by class? Take the first 5,000 training images. Train a new network for one
# epoch on them, sorted by label, and a second one on them as they are, with `batch_size=16`, `lr=1e-3` and
# no shuffling. Give the accuracies of both on the first 1,000 validation images, `sorted_accuracy` and
# `mixed_accuracy`. Guess them first.
#
# <details>
# <summary>Hint</summary>
#
# `part.labels.argsort()` is an order, and `part[order]` is a split in that order. The settings are those of
# `TrainConfig`, and the history that `fit` returns has a column `val_acc`.
#
# </details>

# %% jupyter={"source_hidden": true} mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show a solution"} tags=["solution", "hide-input"]
# Exercise 2.5
### BEGIN SOLUTION
part = data.train[:5000]
quick = TrainConfig(epochs=1, batch_size=16, lr=1e-3, shuffle=False)
accuracies = []
for split in (part[part.labels.argsort()], part):
    fresh = build_model("cnn", seed=0)
    run = fit(fresh, split, data.validation[:1000], quick, progress=False)
    accuracies.append(run.history["val_acc"].iloc[-1])
sorted_accuracy, mixed_accuracy = accuracies
### END SOLUTION

# %%
check("2.5", sorted_accuracy, mixed_accuracy)

# %% [markdown] tags=["solution"]
# <details>
# <summary>Why</summary>
#
# As long as all images are T-shirts, the quickest way to a lower loss is to answer "T-shirt" to everything,
# whatever the image shows. Then come the trousers, and the quickest way is to answer "trouser". What all
# these steps have in common is that no pixel needs to be looked at. A mixed batch punishes an answer that
# is the same for all, and leaves the network nothing but the images.
#
# That is why most people shuffle, and why `TrainConfig` does so unless you tell it not to. On files that
# are mixed already it matters far less. How much, you can find out: run the chapter with `shuffle = True`
# in the parameters cell, and compare the change with what another `seed` does.
#
# </details>

# %% [markdown]
# ### Project: Are the test images harder?
#
# The test accuracy is lower than the validation accuracy, and part of it lies in the images, or so this
# chapter says. Test it with a method that has chosen nothing on either part: give validation and test
# images the label of the nearest *training* image, and compare the two accuracies. Take as many images as
# you have patience for. How many does it take until you would bet on the answer?
#
# <details>
# <summary>Hint</summary>
#
# `torch.cdist(part.images.flatten(1), data.train.images.flatten(1)).argmin(dim=1)`, for a thousand images
# of a part at a time, to spare the memory. An accuracy $p$ among $n$ images has a standard deviation of
# $\sqrt{p(1-p)/n}$, and the difference of two of them about 1.4 times that.
#
# </details>

# %% [markdown] tags=["solution"]
# <details>
# <summary>What to expect</summary>
#
# With all images you should find the accuracy on the test images a little more than half a
# percentage point lower, and a standard deviation of half a point. That is a faint hint, and no
# proof; the mean images of exercise 1.3 point the same way. A thousand images of each part are far
# too few: the standard deviation is then more than one and a half points. Chapter 4 says how to put
# an interval around such a difference.
#
# </details>

# %% [markdown]
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
