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
# # 5 · Training fast
#
# In chapter 2 a small network took minutes to train. How much of that was arithmetic, and how much
# was waiting? This chapter climbs a ladder: it starts with the loop of the tutorials, changes one
# thing at a time, and measures what each change buys. Then it asks a better question than "how many
# images a second", and the answer turns the ranking around.
#
# **After this chapter you can**
#
# - time several ways to do the same so that the comparison is fair;
# - name what the loop of the tutorials spends its time on, and remove it;
# - say what channels last, a fused optimizer, bfloat16 and `torch.compile` do, and what they cost;
# - count the arithmetic of a network, and say how far from the machine's limit a training is;
# - explain why seconds to an accuracy are a better measure than images a second.
#
# **Time:** two to five minutes to run on a two-core laptop, an hour to read.

# %%
from dataclasses import replace

import pandas as pd
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms.functional import to_tensor

from fmnist_lib import plotting, timing
from fmnist_lib.acceleration import autocast_for, compiled
from fmnist_lib.augmentation import augment

# %%
from fmnist_lib.claims import claim, claim_between
from fmnist_lib.data import load_fashion_mnist
from fmnist_lib.models import build_model
from fmnist_lib.runs import describe_machine
from fmnist_lib.training import TrainConfig, fit, pick_device

# %% tags=["nbval-ignore-output"]
# %config InlineBackend.figure_formats = ["retina"]
print(describe_machine())

# %% [markdown]
# The next cell holds the chapter's parameters. A rung of the ladder is timed on a part of the
# training images, which is enough to see the differences.

# %% tags=["parameters"]
epochs: int = 4  # passes over the training images, in the second half
batch_size: int = 64  # images in a step
lr: float = 3e-4  # learning rate of Adam
seed: int = 0  # of the first weights and of the order
device: str = "auto"  # "auto", "cpu", "cuda" or "mps"
n_images: int = 6400  # training images that a rung of the ladder is timed on
repeats: int = 3  # how often each rung is timed
target: float = 0.9  # validation accuracy to be reached
sample: bool = False  # True: 1,500 images that need no download, for a quick look
data_dir: str = ""  # folder with the data; empty: where fmnist data finds it

# %%
config = TrainConfig(epochs, batch_size, lr, seed=seed, device=device)
as_published = (epochs, batch_size, lr, n_images) == (4, 64, 3e-4, 6400) and not sample
place, criterion = pick_device(device), nn.CrossEntropyLoss()
data = load_fashion_mnist(data_dir, sample=sample)
part = data.train[:n_images].to(place)

# %% [markdown]
# ## How to compare
#
# A computer does other things besides. A measurement taken once may have met an update of the
# system, and the first call of anything pays for what is loaded, reserved and compiled. So
# `compare_times` calls each way once beforehand, then lets all of them take turns, and reports the
# **median**, which a single disturbance does not move, with the lowest and the highest time beside
# it. When two spreads overlap, the difference means little.
#
# ## The loop of the tutorials
#
# Tutorials keep images as files or bytes, and turn them into tensors one by one, when they are
# asked for. That is how one must do it when the images do not fit into memory. The data set below
# does for each image what torchvision's `FashionMNIST` with `ToTensor` does: make a picture of it,
# copy it into a tensor, divide by 255.

# %%
pixels = (part.images.cpu() * 255).round().byte().squeeze(1).numpy()  # (N, 28, 28)
classes = part.labels.tolist()


class Pictures(Dataset):
    def __len__(self):
        return len(pixels)

    def __getitem__(self, index):
        return to_tensor(Image.fromarray(pixels[index])), classes[index]

# %% [markdown]
# And here is the loop: the four lines that every training has, and a sum of the losses. The sum
# stays a tensor until the end. On a GPU, asking for its value at every step would make the
# processor wait for the GPU, and the GPU then wait for work.


# %%
def train(batches, forward, optimizer):
    total = torch.zeros((), device=place)
    for images, labels in batches:
        optimizer.zero_grad()
        loss = forward(images.to(place), labels.to(place))
        loss.backward()
        optimizer.step()
        total += loss.detach()
    return total.item()

# %% [markdown]
# ## The ladder
#
# Each rung keeps what the rungs before it brought, and changes one thing. Compiling is shown twice:
# with 32-bit numbers, and with bfloat16.
#
# 1. **Tensors in memory.** The 60,000 images are 188 MB as 32-bit numbers. Converted once, a batch
#    is a slice, and 64 small Python calls a step are gone.
# 2. **Channels last.** A feature map with 16 channels can be stored channel after channel, or pixel
#    after pixel with its 16 values side by side. The second is what the convolution reads together.
# 3. **A fused optimizer.** Adam touches every weight with a dozen small operations. Fused, they are
#    one pass over the memory.
# 4. **bfloat16.** Products of matrices take 16-bit numbers, with the range of 32-bit ones but only
#    two to three decimal digits. Processors with instructions for it multiply several times as
#    fast. The sums inside a product, the loss, the weights and the optimizer stay at 32 bits; what
#    passes from layer to layer has 16.
# 5. **Compiled.** `torch.compile` looks at the whole network and writes a program for it, in which
#    ReLU and pooling are one pass instead of two. Making the program takes seconds, once.


# %%
def rung(batches, channels_last=False, fused=False, precision="fp32", compile=False):
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = build_model("cnn", seed).to(place, memory_format=layout)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=fused or None)
    autocast = autocast_for(precision, place)

    def forward(images, labels):
        with autocast():
            return criterion(model(images), labels)

    step = compiled(forward, batch_size, place) if compile else forward
    return lambda: train(batches, step, optimizer)


# %% tags=["nbval-ignore-output"]
loader = DataLoader(Pictures(), batch_size=batch_size)
memory = list(
    zip(part.images.split(batch_size), part.labels.split(batch_size), strict=True)
)
fast = {"channels_last": True, "fused": True}
ladder = {
    "loop of the tutorials": rung(loader),
    "tensors in memory": rung(memory),
    "channels last": rung(memory, channels_last=True),
    "fused optimizer": rung(memory, **fast),
    "bfloat16": rung(memory, precision="bf16", **fast),
    "compiled": rung(memory, compile=True, **fast),
    "compiled, bfloat16": rung(memory, precision="bf16", compile=True, **fast),
}

# %% tags=["nbval-ignore-output"]
times = timing.compare_times(ladder, repeats)
times.round(2)

# %% [markdown]
# The column `first` is the call before the timed ones. For the compiled rungs it holds the making
# of the program: on a small budget, a compiler is a bad bargain.
#
# ## Where the floor is
#
# How much faster could it get? Computed term by term, the convolutions and linear layers need a
# certain number of multiplications and additions, however the program is written. PyTorch counts
# them for one batch, forward and backward. And a product of two large square matrices shows how many
# of them this machine can do in a second, when nothing else holds it up. Arithmetic divided by rate
# is the **floor**: a program that does these sums one by one in 32-bit numbers does not go below it.
# (There are tricks that need fewer multiplications, and layers of other kinds are not counted.)

# %%
model = build_model("cnn", seed)
with FlopCounterMode(display=False) as counter:
    criterion(model(torch.zeros(64, 1, 28, 28)), torch.zeros(64).long()).backward()
per_image = counter.get_total_flops() / 64
print(f"{per_image:,.0f} floating-point operations an image, forward and backward")

# %% tags=["nbval-ignore-output"]
rate = timing.product_rate(device=place)
floor = len(part) * per_image / rate
print(f"products of large matrices: {rate / 1e9:,.0f} GFLOP a second")
print(f"floor for {len(part):,} images: {floor:.2f} s")

# %% mystnb={"image": {"alt": "Horizontal bars of the seconds for each rung of the ladder. The loop of the tutorials takes longest; tensors in memory, channels last, the fused optimizer, bfloat16 and compiling each shorten the time, and the compiled rungs are the shortest. A dashed line marks the floor, well below all of them."}}
ax = plotting.speeds(times, floor)

# %%
seconds = times["lowest"]  # what else a machine does can only add to a time
claim(
    "the last rung is faster than the loop of the tutorials",
    seconds["compiled, bfloat16"] < seconds["loop of the tutorials"],
    applies=as_published,
)
claim(
    "with 32-bit numbers, no rung goes below the floor",
    seconds.drop(["bfloat16", "compiled, bfloat16"]).min() > floor,
    applies=as_published and place.type == "cpu",
)

# %% [markdown]
# What lies between the best rung and the floor? The convolutions of this network are small: the
# first one has a single input channel and nine weights a kernel, and spends its time on moving
# numbers, not on multiplying them. And each step starts dozens of operations, and starting one costs
# the same for a batch of 64 as for one of 1,000. We come back to that.
#
# ## What it costs
#
# Tensors in memory change no digit. Channels last, the fused optimizer and the compiled program do
# the same arithmetic in another order: their results differ in the last digits. bfloat16 rounds
# every factor to eight binary digits. `fit` knows all of it (`compile` and `precision` are settings
# of `TrainConfig`), and so we can compare one epoch of each on the same images in the same order.

# %% tags=["nbval-ignore-output"]
base = replace(config, epochs=1, shuffle=False)
variants = {
    "plain": base,
    "compiled": replace(base, compile=True),
    "bfloat16": replace(base, precision="bf16"),
}
losses = {
    name: fit(build_model("cnn", seed), part, data.validation, c).history["train_loss"][
        0
    ]
    for name, c in variants.items()
}

# %% tags=["nbval-ignore-output"]
pd.Series(losses, name="training loss").to_frame().round(5)

# %%
claim(
    "compiled, the loss differs from the plain one by less than a thousandth",
    abs(losses["compiled"] - losses["plain"]) < 1e-3,
    applies=as_published,
)
claim(
    "in bfloat16, the loss differs from the plain one by less than 0.05",
    abs(losses["bfloat16"] - losses["plain"]) < 0.05,
    applies=as_published,
)

# %% [markdown]
# Training is chaotic, so small differences grow with the epochs, as those between two seeds do.
# Chapter 4 shows how large those become.
#
# ## Images a second are the wrong measure
#
# If starting an operation costs the same for any batch, larger batches should be faster. (Up to a
# point: on a processor, what a layer makes of a batch should still fit into the caches, and half as
# many bits help.) So here is the same network with batches of 64, then in a hurry, with batches of
# 256 in bfloat16, and, third, with a *recipe*: settings that were chosen together.

# %%
large = min(256, len(data.train))
recipe = TrainConfig.fast(epochs=epochs, seed=seed, device=device)
recipe = replace(recipe, batch_size=min(recipe.batch_size, len(data.train)))
settings = {
    f"batches of {batch_size}": config,
    "in a hurry": replace(config, batch_size=large, precision="bf16"),
    "recipe": recipe,
}

# %% tags=["nbval-ignore-output"]
histories = {}
for name, chosen in settings.items():
    watch = timing.Stopwatch()
    trained = fit(
        build_model("cnn", seed),
        data.train,
        data.validation,
        chosen,
        after_epoch=watch,
    )
    histories[name] = trained.history.assign(seconds=watch.seconds)

# %% tags=["nbval-ignore-output"]
summary = {
    name: {
        "seconds": history["seconds"].iloc[-1],
        "images a second": epochs * len(data.train) / history["seconds"].iloc[-1],
        "validation accuracy": history["val_acc"].iloc[-1],
        f"seconds to {target}": timing.seconds_to_accuracy(history, target),
    }
    for name, history in histories.items()
}
pd.DataFrame(summary).T.round(3)

# %% mystnb={"image": {"alt": "Validation accuracy over the seconds of training, one line for each of three settings. The hurried training finishes its epochs sooner than the one with batches of 64 but stays below it; the recipe ends highest, above nine in ten."}}
ax = plotting.accuracy_over_time(histories)

# %%
plain, hasty, best = (h["val_acc"].iloc[-1] for h in histories.values())
claim(
    "in a hurry, the accuracy is more than one point lower",
    hasty < plain - 0.01,
    applies=as_published,
)
claim(
    "the recipe is more than two points above batches of 64",
    best > plain + 0.02,
    applies=as_published,
)
claim_between(
    "the recipe's validation accuracy", best, 0.90, 0.93, applies=as_published
)

# %% [markdown]
# The hurry pays in images a second, and not in what counts. With batches of 256 there are a quarter
# as many steps, and each step moves the weights no further than before. What one wants to know is how
# long it takes until the network is good enough: the **time to accuracy**. It cannot be improved by
# doing the wrong thing quickly. Whoever advertises images a second should be asked for it.
#
# An infinite time in the table means that the target was not reached. A training that never gets
# there has a result as well.
#
# ## What is in the recipe
#
# `TrainConfig.fast()` is put together from parts that others found, each with a reason:
#
# - **A large learning rate that rises and falls** (one-cycle,
#   [Smith and Topin, 2017](https://arxiv.org/abs/1708.07120)). It is forty times the one of
#   chapter 2. Taken at once it would throw the weights about, so it grows over the first three
#   tenths of the steps; kept, it would never let them settle, so it shrinks to nothing at the end.
#   The momentum goes the other way, from 0.95 to 0.85 and back.
# - **Weight decay, decoupled from the gradient** (AdamW,
#   [Loshchilov and Hutter, 2017](https://arxiv.org/abs/1711.05101)), which pulls every weight a
#   little towards zero at each step, so that none grows without need.
# - **Label smoothing** ([Szegedy et al., 2015](https://arxiv.org/abs/1512.00567)): the target is
#   0.955 for the class on the label and 0.005 for each other one, so the network is not driven to be
#   certain of labels that are sometimes wrong.
# - **Batches of 128 in a new order each epoch, in bfloat16**: the middle way between many steps and
#   fast ones.
#
# `TrainConfig.accurate()` spends 25 epochs instead of four, and so can afford **augmentation**: each
# image is moved by up to a pixel and mirrored half of the time. That makes eighteen versions of it,
# and the network has to find what they have in common. In four epochs this would only slow it down.
# All of this was chosen on the validation images.

# %% mystnb={"image": {"alt": "Three garments, eight times each, as augmentation makes them: moved by a pixel in different directions, and about every second one mirrored."}}
three = data.train.images[:3].repeat_interleave(8, dim=0)  # (24, 1, 28, 28)
varied = augment(
    three, shift=1, flip=True, generator=torch.Generator().manual_seed(seed)
)
figure = plotting.image_grid(varied, columns=8)

# %% [markdown]
# How long both recipes take beside the loop of the tutorials, on one machine and with five seeds
# each, and how this library compares with others, stands on the page
# [Speed](../book/speed.md).
#
# ## Exercises
#
# **1. Helpers.** Give the `DataLoader` of the first rung `num_workers=2`. Is it faster on your
# machine? Why might it be slower? (On Windows, on macOS and from Python 3.14 on, a helper starts
# afresh and does not know a class that a notebook defines: there, use `torchvision`'s `FashionMNIST`
# with `transform=ToTensor()` instead of `Pictures()`.)
#
# <details><summary>Hint and answer</summary>
#
# The workers are processes. They convert images while the network trains, but every batch must
# travel from one process to another, they have to be started in every epoch, and on two cores they
# take time from the arithmetic. For images of 784 pixels that is often a loss; for photographs, whose
# decoding takes milliseconds, it is a gain.
#
# </details>
#
# **2. The floor of the other network.** Count the operations of an image for `"dilated_cnn"`. By
# what factor should it train faster? Does it?
#
# <details><summary>Hint and answer</summary>
#
# Replace the name in the cell with `FlopCounterMode`. The dilated network needs a little more than
# half of the operations, mainly because its second convolution has 9×9 places instead of 12×12.
# The time shrinks less than that: the steps that move numbers, and the starting costs, shrink less.
#
# </details>
#
# **3. Only the learning rate.** Train with batches of 1,024 and a learning rate 4 or 16 times as
# large. How much of the lost accuracy do you get back?
#
# <details><summary>Hint and answer</summary>
#
# `replace(config, batch_size=1024, lr=16 * lr)`. You should get back most of it: the larger batch
# gives a steadier gradient, and allows larger steps.
# [Goyal et al., 2017](https://arxiv.org/abs/1706.02677) made a rule of it for plain gradient
# descent; for Adam, a growth with the square root of the batch size is the usual start.
#
# </details>
#
# **4. One part less.** Take the parts out of the recipe one at a time, for instance with
# `replace(recipe, label_smoothing=0.0)`, and rank them by what their absence costs. Use two more
# seeds before you believe it.
#
# <details><summary>Hint and answer</summary>
#
# In a loop over `{"schedule": "constant"}`, `{"weight_decay": 0.0}` and so on,
# `fit(..., replace(recipe, **change))`. Expect the schedule to matter most: at this learning rate
# the training may not even come near without it.
#
# </details>
#
# ## Recap
#
# - Compare by turns, with medians and spreads, and leave the first call out.
# - For small images, the loop of the tutorials spends much of its time on anything but arithmetic.
# - Memory layout, fused operations, 16-bit products and compilers buy speed at the price of last
#   digits, and compilers at the price of a slow start.
# - Counting the arithmetic tells how far there is to go.
# - Ask for the time to an accuracy, not for images a second.
