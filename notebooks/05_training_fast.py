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
# # 5 · Training fast
#
# In chapter 2 a small network took minutes to train. How much of that was arithmetic, and how much
# was waiting? This chapter climbs a ladder: it starts with the classic loop of the tutorials,
# changes one thing at a time, and measures what each change buys. (`fit` has taken the first three
# of these steps already; with the loop of the tutorials, chapter 2 would have taken longer still.)
# Then it asks a better question than "how many images per second", and the answer turns the ranking
# around.
#
# **After this chapter you can**
#
# - time several ways of doing the same thing so that the comparison is fair;
# - name what the classic loop spends its time on, and remove it;
# - say what channels last, a fused optimizer, bfloat16 and `torch.compile` do, and what they cost;
# - count the arithmetic of a network, and say how far from the machine's limit a training run is;
# - explain why seconds to an accuracy are a better measure than images per second.
#
# **Time:** two to five minutes to run on a two-core laptop, an hour to read.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
try:
    import fmnist_lib  # noqa: F401
except ModuleNotFoundError:
    raise ImportError(
        "This chapter needs the course's library: open it with 'make lab' in the "
        "course's folder, or first install that folder with '%pip install FOLDER'."
    ) from None

from dataclasses import replace

import pandas as pd
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

# %% jupyter={"source_hidden": true} tags=["hide-input"]
from torchvision.transforms.functional import to_tensor

from fmnist_lib import plotting, timing
from fmnist_lib.claims import claim, claim_between
from fmnist_lib.course.exercises import check
from fmnist_lib.data import load_fashion_mnist
from fmnist_lib.experiments.parameters import check_parameters
from fmnist_lib.models import build_model
from fmnist_lib.trained import describe_machine
from fmnist_lib.training import TrainConfig, fit, pick_device
from fmnist_lib.training.acceleration import autocast_for, compiled
from fmnist_lib.training.augmentation import augment

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output", "hide-input"]
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
check_parameters(globals(), n_images=(64, 48_000), repeats=(1, None), target=(0.01, 1))
config = TrainConfig(epochs, batch_size, lr, seed=seed, device=device)
as_published = (epochs, batch_size, lr, n_images) == (4, 64, 3e-4, 6400) and not sample
place, criterion = pick_device(device), nn.CrossEntropyLoss()
data = load_fashion_mnist(data_dir, sample=sample)
part = data.train[:n_images].to(place)

# %% [markdown]
# ## How to compare
#
# A computer does other things besides. A measurement taken once may have coincided with an update
# of the system, and the first call of anything pays for what is loaded, reserved and compiled. So
# `compare_times` calls each way once beforehand, then lets all of them take turns, and reports the
# **median**, which a single disturbance does not move, with the lowest and the highest time next to
# it. When two spreads overlap, the difference means little.
#
# > **Question.** Two ways are timed by turns, three times each. One takes 2.0, 2.1 and 2.9 seconds, the other 1.9,
# > 2.2 and 2.3 seconds. Which of them is faster?
# >
# > <details>
# > <summary>The first: its median is lower.</summary>
# >
# > No. It is, but by less than each of them varies. The next three calls may reverse it.
# >
# > </details>
# >
# > <details>
# > <summary>The second: its mean is lower.</summary>
# >
# > No. That comes from a single call of 2.9 seconds. Something else may have happened on the machine
# > then, which is why a median forgets it.
# >
# > </details>
# >
# > <details>
# > <summary>These times do not tell.</summary>
# >
# > Right. The spreads overlap, and the lowest times and the medians even disagree. Time more calls,
# > or longer ones, or say that the two are about equally fast.
# >
# > </details>
# >
# > <details>
# > <summary>The second: its lowest time is the lowest of all.</summary>
# >
# > No. The lowest time is a good measure, since what else a machine does can only add to it. But over
# > three calls it varies, too, and here it differs by no more than two calls of one way do.
# >
# > </details>
# ## The classic loop
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
# And here is the loop: the four lines that every training loop has, and a sum of the losses. The
# sum stays a tensor until the end. On a GPU, asking for its value at every step would make the
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
#    two to three decimal digits. Processors with instructions for it multiply at least twice as
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
    "classic loop": rung(loader),
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
# of the program: on a small budget, a compiler is a bad bargain. Where the spreads of two
# neighbouring rungs overlap, this run does not tell them apart.
#
# ## Where the floor is
#
# How much faster could it get? Computed term by term, the convolutions and linear layers need a
# certain number of multiplications and additions, however the program is written. PyTorch counts
# them for one batch, forward and backward. And a product of two large square matrices shows how many
# of them this machine can do per second, when nothing else holds it up. Arithmetic divided by rate
# is the **floor**:
#
# $$\text{floor in seconds} = \frac{\text{images} \cdot \text{operations per image}}{\text{operations per second}}$$
#
# A program that does these sums term by term in 32-bit numbers does not go below it. (There are
# tricks that need fewer multiplications, and layers of other kinds are not counted.)

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

# %% mystnb={"image": {"alt": "Horizontal bars of the seconds for each rung of the ladder. The classic loop takes longest; the bars tend to get shorter from rung to rung, and the compiled rungs are the shortest. A dashed line marks the floor, well below all of them."}} tags=["figure-words"]
ax = plotting.speeds(times, floor)

# %% tags=["hide-input"]
seconds = times["lowest"]  # what else a machine does can only add to a time
claim(
    "the last rung is faster than the classic loop",
    seconds["compiled, bfloat16"] < seconds["classic loop"],
    applies=as_published,
    timing=True,
)
claim(
    "with 32-bit numbers, no rung goes below the floor",
    seconds.drop(["bfloat16", "compiled, bfloat16"]).min() > floor,
    applies=as_published and place.type == "cpu",
    timing=True,
)

# %% [markdown]
# What lies between the best rung and the floor? The convolutions of this network are small: the
# first one has a single input channel and nine weights a kernel, and spends its time on moving
# numbers, not on multiplying them. And each step starts dozens of operations, and starting one costs
# the same for a batch of 64 as for one of 1,000. We come back to that.
#
# > **Question.** A program takes five times as long as the floor. What follows?
# >
# > <details>
# > <summary>It can be made five times as fast, if it is written well enough.</summary>
# >
# > No. The floor is a bound and no promise. Numbers must be moved as well, and operations started,
# > and no program does without either.
# >
# > </details>
# >
# > <details>
# > <summary>With the same sums in 32-bit numbers, it cannot become more than five times as fast.</summary>
# >
# > Right. That is all that a bound says, and it is useful: it tells whether there is anything left to
# > look for.
# >
# > </details>
# >
# > <details>
# > <summary>The processor does nothing for four fifths of the time.</summary>
# >
# > No. It does not multiply then. It may be busy moving numbers all the while, or looking up what to
# > do next.
# >
# > </details>
# >
# > <details>
# > <summary>On a machine that multiplies twice as fast, it takes half the time.</summary>
# >
# > No. The floor is half as high there. What is above it need not shrink.
# >
# > </details>
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
losses = {}
for name, variant in variants.items():
    trained = fit(build_model("cnn", seed), part, data.validation, variant)
    losses[name] = trained.history["train_loss"].iloc[0]

# %% tags=["nbval-ignore-output"]
pd.Series(losses, name="training loss").to_frame().round(5)

# %% tags=["hide-input"]
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
# > **Question.** In bfloat16, the products have 16 bits, and the weights still 32. What would happen if the weights
# > had 16 bits as well, with eight binary digits each?
# >
# > <details>
# > <summary>Many steps would change nothing, since the new weight would be rounded to the old one.</summary>
# >
# > Right. The next larger number lies at least 1/256 of a weight away. A step of less than half of
# > that is lost, however often it is taken; and the steps of a training run are often smaller.
# >
# > </details>
# >
# > <details>
# > <summary>Large weights would become infinite.</summary>
# >
# > No. bfloat16 has the range of 32-bit numbers. This is the trouble of the other 16-bit format,
# > float16.
# >
# > </details>
# >
# > <details>
# > <summary>Nothing, but for half the memory.</summary>
# >
# > No. A product may be a little off, since the next one is off another way. An error in a weight
# > stays.
# >
# > </details>
# >
# > <details>
# > <summary>The gradients would be zero.</summary>
# >
# > No. A gradient is computed from products, which have 16 bits already. The trouble comes when it is
# > added to the weight.
# >
# > </details>
#
# ## Images per second are the wrong measure
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
        listeners=[watch],
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
pd.DataFrame(summary).T.round({"images a second": 0}).round(3)

# %% mystnb={"image": {"alt": "Validation accuracy over the seconds of training, one line for each of three settings. The hurried training finishes its epochs sooner than the one with batches of 64 but stays below it; the recipe ends highest, above nine in ten."}} tags=["figure-words"]
ax = plotting.accuracy_over_time(histories)

# %% tags=["hide-input"]
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
# The hurry pays in images per second, and not in what counts. With batches of 256 there are a quarter
# as many steps, and each step moves the weights no further than before. What one wants to know is
# how long it takes until the network is good enough: the **time to accuracy**. It cannot be
# improved by doing the wrong thing quickly. Anyone who quotes images per second should be asked for
# it.
#
# An infinite time means that the target was not reached. A training run that never gets there has a
# result as well.
#
# ## What is in the recipe
#
# `TrainConfig.fast()` is put together from parts that others found, each with a reason:
#
# - **A large learning rate that rises and falls** (one-cycle, [Smith and Topin,
#   2017](https://arxiv.org/abs/1708.07120)). It is forty times the one of chapter 2. Taken at once
#   it would throw the weights about, so it grows over the first three tenths of the steps; kept, it
#   would never let them settle, so it shrinks to nothing at the end. The momentum (how much of the
#   earlier gradients a step carries along) goes the other way, from 0.95 to 0.85 and back.
# - **Weight decay, decoupled from the gradient** (AdamW,
#   [Loshchilov and Hutter, 2017](https://arxiv.org/abs/1711.05101)), which pulls every weight a
#   little towards zero at each step, so that none grows without need.
# - **Label smoothing** ([Szegedy et al., 2015](https://arxiv.org/abs/1512.00567)): a share $s$ of the
#   target is spread over all ten classes, so that it is $1 - s + s/10$ for the class on the label and
#   $s/10$ for each other one. With $s$ = 0.05 these are 0.955 and 0.005. The network is not driven to
#   be certain of labels that are sometimes wrong.
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
# How long both recipes take next to the classic loop, on one machine and with five seeds each, and
# how this library compares with others, stands on the page [Speed](../book/speed.md).
#
# > **Question.** Two training runs reach the same validation accuracy, one with label smoothing and one without.
# > The one with smoothing reports a higher training loss. Is its network the worse one?
# >
# > <details>
# > <summary>Yes: the loss is what training makes small.</summary>
# >
# > No. They make two different losses small, which cannot be compared.
# >
# > </details>
# >
# > <details>
# > <summary>Yes: with smoothed labels it has learned from wrong ones.</summary>
# >
# > No. The class on the label still has by far the largest target, so the same prediction is the
# > best.
# >
# > </details>
# >
# > <details>
# > <summary>No: a training loss says nothing about a training run.</summary>
# >
# > No. Within one training run it says whether the weights still improve. It just must not be
# > compared with the value of a different loss.
# >
# > </details>
# >
# > <details>
# > <summary>Not for that reason: its loss cannot come near zero.</summary>
# >
# > Right. The best that a network can say are the targets themselves, and even then the smoothed loss
# > is above zero. Compare accuracies, or the `val_loss` of both, which `fit` computes without
# > smoothing.
# >
# > </details>
#
# ## Exercises
#
# Write your answer in the cell below each exercise, in place of the dots, run it, and run the cell
# that follows: `check` says whether you are right, and if not, what is off.
#
# ### Exercise 5.1: The arithmetic of a layer
#
# The second convolution takes maps (16, 14, 14) and makes maps (32, 12, 12) of them, with kernels
# of 3 × 3. How many floating-point operations is that for one image, forward only? Count a
# multiplication and an addition each time a weight is used, and leave the bias out.
#
# <details>
# <summary>Hint</summary>
#
# Begin with a single one of the numbers that come out: over how many numbers that go in does its
# sum run?
#
# </details>

# %% jupyter={"source_hidden": true} mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show a solution"} tags=["solution", "hide-input"]
# Exercise 5.1
### BEGIN SOLUTION
numbers_out, products_each = 32 * 12 * 12, 16 * 3 * 3
operations = 2 * numbers_out * products_each
### END SOLUTION

# %%
check("5.1", operations)


# %% [markdown] tags=["solution"]
# <details>
# <summary>Why</summary>
#
# With $C$ channels, maps of $H \times W$ that come out, and kernels of $K \times K$, it is
#
# $$2 \cdot C_{\text{out}} H W \cdot C_{\text{in}} K^2$$
#
# `FlopCounterMode` counts the same. Backward there are twice as many again: a product of this size
# for the gradient of the weights, and another for that of the maps. Put `"dilated_cnn"` into the
# cell that counts: that network needs a little more than half of the operations, mainly because its
# second convolution has 9 × 9 places in place of 12 × 12. Its time shrinks less than that, since
# moving numbers and starting operations shrink less.
#
# </details>

# %% [markdown]
# ### Exercise 5.2: Reached, and kept
#
# `timing.seconds_to_accuracy` stops at the first epoch that reaches the target, and the next one
# may fall back. Write `seconds_kept(history, target)`: the seconds at the end of the first epoch
# from which on every epoch validates at least as well as the target, or `float("inf")` if the last
# one does not. `history` is one of the tables in `histories`, with a row for each epoch and the
# columns `seconds` and `val_acc`.
#
# <details>
# <summary>Hint</summary>
#
# Go from the end to the beginning. `history["val_acc"][::-1].cummin()` is the worst accuracy from
# each epoch on.
#
# </details>

# %% jupyter={"source_hidden": true} mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show a solution"} tags=["solution", "hide-input"]
# Exercise 5.2
def seconds_kept(history, target):
    """Seconds until the validation accuracy reaches the target for good."""
    ### BEGIN SOLUTION
    worst = history["val_acc"][::-1].cummin()[::-1]  # from each epoch on
    kept = history["seconds"][worst >= target]
    return min(kept, default=float("inf"))
    ### END SOLUTION


# %%
check("5.2", seconds_kept)


# %% [markdown] tags=["solution"]
# <details>
# <summary>Why</summary>
#
# Try it on `histories` with several targets. Where a curve only rises, both times are the same.
# With a constant learning rate accuracies go up and down, and a target just below the best of them
# may be met once and lost again. The recipe ends with small steps, which hardly lose what has been
# reached. Which of the two times is the right one depends on use: whoever keeps the weights of the
# best epoch, as `fit` does, may take the first.
#
# </details>

# %% [markdown]
# ### Exercise 5.3: One cycle
#
# Write `one_cycle(step, steps, peak)`, the learning rate at a step of a training run, from 0 to
# `steps - 1`. It begins with no more than a tenth of the peak, reaches the peak after three tenths
# of the steps, falls with every step from there on, and ends with no more than a fiftieth of the
# peak. It never jumps: from one step to the next, it changes by a few hundredths of the peak at
# most. Assume 100 steps or more. Whether it follows straight lines or curves is up to you.
#
# <details>
# <summary>Hint</summary>
#
# Two straight lines will do: one that rises from 0 to the peak, and one that falls from the peak to
# 0. At each step, the lower one holds.
#
# </details>

# %% jupyter={"source_hidden": true} mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show a solution"} tags=["solution", "hide-input"]
# Exercise 5.3
def one_cycle(step, steps, peak):
    """Learning rate that rises over three tenths of the steps, and then falls."""
    ### BEGIN SOLUTION
    rising = (step + 1) / (0.3 * steps)
    falling = (steps - step) / (0.7 * steps)
    return peak * min(rising, falling)
    ### END SOLUTION


# %%
check("5.3", one_cycle)


# %% [markdown] tags=["solution"]
# <details>
# <summary>Why</summary>
#
# Draw it: `pd.Series([one_cycle(k, 1500, 1.2e-2) for k in range(1500)]).plot()`. PyTorch's
# `OneCycleLR`, which `fit` uses, goes along half waves of a cosine. Mind what any such function
# asks for: the number of steps. It must know the end before it begins. A training run that is
# stopped halfway has not had its small steps, and one that is prolonged has none left. So the time
# of the recipe is that of the whole recipe.
#
# </details>

# %% [markdown]
# ### Exercise 5.4: Smoothed labels
#
# Write `smoothed_loss(logits, labels, smoothing)`: the mean cross-entropy of logits (N, K), where
# the share `smoothing` of each target is spread evenly over all K classes, and the rest belongs to
# the class on the label. PyTorch has an argument for it. Do without.
#
# <details>
# <summary>Hint</summary>
#
# The cross-entropy of an image is minus the sum of target times logarithm over all classes.
# `logits.log_softmax(dim=1)` gives the logarithms, and `gather` picks one from each row.
#
# </details>

# %% jupyter={"source_hidden": true} mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show a solution"} tags=["solution", "hide-input"]
# Exercise 5.4
def smoothed_loss(logits, labels, smoothing):
    """Mean cross-entropy of logits (N, K) with smoothed labels (N,)."""
    ### BEGIN SOLUTION
    log_p = logits.log_softmax(dim=1)  # (N, K)
    at_label = log_p.gather(1, labels[:, None]).squeeze(1)  # (N,)
    everywhere = log_p.mean(dim=1)  # (N,)
    return -((1 - smoothing) * at_label + smoothing * everywhere).mean()
    ### END SOLUTION


# %%
check("5.4", smoothed_loss)

# %% [markdown] tags=["solution"]
# <details>
# <summary>Why</summary>
#
# With the smoothing $s$ and the label $y$, the cross-entropy falls into two parts:
#
# $$-(1 - s) \ln p_y - \frac{s}{K} \sum_k \ln p_k$$
#
# The first is the plain one. The second becomes large as soon as any class gets a probability near
# zero: it is what keeps the network from being certain.
#
# </details>

# %% [markdown]
# ### Exercise 5.5: One part less
#
# Which part of the recipe matters most? Take out the schedule, the weight decay and the label
# smoothing, one at a time. Train with the whole recipe and with each of the three, every time a new
# `build_model("cnn", seed)`, on the first 1,000 training images, and validate on the first 1,000
# validation images. Let the whole recipe be `replace(recipe, precision="fp32")` here, so that it is
# the same on every machine. Keep what `fit` returns in a dict `trained`, under `"recipe"` and three
# names of your own, and in a dict `cost`, under those three, how much lower the validation accuracy
# is without that part, after the last epoch. Guess first.
#
# <details>
# <summary>Hint</summary>
#
# `replace(whole, weight_decay=0.0)` is the recipe without weight decay. What a setting is without
# the recipe you see in `TrainConfig()`.
#
# </details>

# %% jupyter={"source_hidden": true} mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show a solution"} tags=["solution", "hide-input"]
# Exercise 5.5
### BEGIN SOLUTION
few, judged = data.train[:1000], data.validation[:1000]
whole = replace(recipe, precision="fp32")
parts = {"schedule": "constant", "weight_decay": 0.0, "label_smoothing": 0.0}
configs = {"recipe": whole} | {
    name: replace(whole, **{name: value}) for name, value in parts.items()
}
trained = {
    name: fit(build_model("cnn", seed), few, judged, config, progress=False)
    for name, config in configs.items()
}
reached = {name: t.history["val_acc"].iloc[-1] for name, t in trained.items()}
cost = {name: reached["recipe"] - reached[name] for name in parts}
### END SOLUTION

# %%
check("5.5", trained, cost)

# %% [markdown] tags=["solution"]
# <details>
# <summary>Why</summary>
#
# Do not trust the order yet. Of 1,000 images, ten make a percentage point; with another seed the
# order may be a different one; and a part can cost something on few images that it is worth on many.
# Take all images and two more seeds, which takes some minutes, and expect the schedule to matter
# most: at this learning rate the training may not even come near without it. Parts chosen together
# should be judged together, too: without the schedule, a smaller learning rate might have been the
# better one.
#
# </details>

# %% [markdown]
# ### Project: Larger batches, and helpers
#
# Two things to try that take minutes, and have no check.
#
# - Train with batches of 1,024, and with a learning rate 4 or 16 times as large, such as
#   `replace(config, batch_size=1024, lr=16 * lr)`. How much of the lost accuracy do you get back?
# - Give the `DataLoader` of the first rung `num_workers=2`. Is it faster on your machine? (On
#   Windows, on macOS and from Python 3.14 on, a helper starts afresh and does not know a class that
#   a notebook defines: there, use `torchvision`'s `FashionMNIST` with `transform=ToTensor()` in
#   place of `Pictures()`.)
#
# <details>
# <summary>What you may find</summary>
#
# You should get back most of the accuracy: the gradient of a larger batch is steadier, and allows
# larger steps. [Goyal et al., 2017](https://arxiv.org/abs/1706.02677) made a rule of it for plain
# gradient descent; for Adam, a growth with the square root of the batch size is the usual start.
#
# The helpers are processes. They convert images while the network trains, but every batch must
# travel from one process to another, they have to be started in every epoch, and on two cores they
# take time from the arithmetic. For images of 784 pixels that is often a loss; for photographs,
# whose decoding takes milliseconds, it is a gain.
#
# </details>
#
# ## Recap
#
# - Compare by turns, with medians and spreads, and leave the first call out.
# - For small images, the classic loop spends much of its time on anything but arithmetic.
# - Memory layout, fused operations, 16-bit products and compilers buy speed at the price of last
#   digits, and compilers at the price of a slow start.
# - Counting the arithmetic tells how far there is to go.
# - Ask for the time to an accuracy, not for images per second.
