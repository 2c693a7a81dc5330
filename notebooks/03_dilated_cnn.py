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
# # 3 · A dilated network
#
# A 3×3 kernel sees nine neighbouring pixels. To see a whole sleeve, a network needs larger kernels,
# or many layers, or pooling. **Dilation** is a fourth way: spread the nine weights out, with gaps
# between them. The kernel reaches further, and has as many weights as before. This chapter takes
# the network of chapter 2, dilates both its convolutions, and asks what that does.
#
# **After this chapter you can**
#
# - say what a dilated kernel reads, and show that it is an ordinary kernel with zeros in it;
# - work out the size of a feature map from kernel, padding, stride and dilation;
# - compute a receptive field, and measure it by gradients: how far it reaches, and how much of it
#   counts;
# - recognise the mesh that dilation can leave in a picture, and say how to avoid it;
# - take apart a comparison that changes several things at once.
#
# **Time:** two to five minutes of computing on a two-core laptop, and as much again if chapter 2
# has not been run yet; an hour of reading.

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
from scipy.stats import ttest_1samp
from torch import nn

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output", "hide-input"]
from fmnist_lib import evaluation, inspection, plotting
from fmnist_lib.claims import claim, claim_between
from fmnist_lib.course import widgets
from fmnist_lib.course.exercises import check
from fmnist_lib.data import load_fashion_mnist
from fmnist_lib.experiments.parameters import check_parameters
from fmnist_lib.measured import load_seeds
from fmnist_lib.models import build_model
from fmnist_lib.trained import describe_machine, load_or_train, save_trained
from fmnist_lib.training import Checkpoint, TrainConfig, fit

# %config InlineBackend.figure_formats = ["retina"]
print(describe_machine())

# %% [markdown]
# The next cell holds the chapter's parameters, with the same meaning as in chapter 2.

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
checkpoint_dir: str = ""  # folder for checkpoints, to resume from; empty: none

# %%
check_parameters(globals())
config = TrainConfig(epochs, batch_size, lr, shuffle, seed, device)
as_published = (epochs, batch_size, lr, sample) == (25, 64, 3e-4, False)
data = load_fashion_mnist(data_dir, sample=sample)

# %% [markdown]
# ## What dilation does to a kernel
#
# With dilation $d$, neighbouring weights are laid on pixels that are $d$ apart
# ([Yu and Koltun, 2015](https://arxiv.org/abs/1511.07122)). A kernel of $k$ weights a side then
# spans $d(k-1) + 1$ pixels: 3, 5, 9 for dilation 1, 2, 4.

# %% mystnb={"image": {"alt": "The pixels that a three by three kernel reads, for dilation 1, 2 and 4: always nine pixels, spread over 3 by 3, 5 by 5 and 9 by 9 pixels, with gaps between them."}}
figure = plotting.kernel_footprints(kernel_size=3, dilations=(1, 2, 4))

# %% [markdown]
# On an image, it looks like this. The nine weights here are 1/9 each, so each number of the output is
# the mean of nine pixels: those in the orange frames give the one that is marked on the right.

# %% mystnb={"image": {"alt": "Left, an ankle boot with nine orange frames around single pixels, two apart, in a dashed square of 5 by 5. Right, the output: a softer boot, in which one place is marked."}}
boot = data.train.images[0]  # (1, 28, 28)
mean_of_nine = torch.full((1, 1, 3, 3), 1 / 9)
output = nn.functional.conv2d(boot, mean_of_nine, padding=2, dilation=2)  # (1, 28, 28)
figure = plotting.kernel_on_image(boot[0], output[0], place=(14, 14), dilation=2)

# %%
widgets.explore_dilation(boot)

# %% [markdown]
# So a dilated 3×3 kernel is a 5×5 kernel most of whose weights are zero and stay zero. There is no
# need to take that on trust; we can try it. Copy nine weights into every second place of an empty
# 5×5 kernel: both must give the same feature map.

# %%
dilated = nn.Conv2d(1, 1, kernel_size=3, dilation=2, bias=False)
spread = nn.Conv2d(1, 1, kernel_size=5, bias=False)

image = data.train.images[:1]
with torch.no_grad():
    spread.weight.zero_()
    spread.weight[..., ::2, ::2] = dilated.weight
    same = torch.allclose(dilated(image), spread(image), atol=1e-6)
claim("the dilated kernel is a 5×5 kernel with zeros in the gaps", same)

# %% [markdown]
# > **Question.** A single pixel of a black image is lit. A 3×3 convolution with dilation 2, with enough padding, without
# > bias and with no weight that is zero, goes over it. How many pixels of its feature map are lit?
# >
# > <details>
# > <summary>25, a square of 5×5: that is what the kernel spans.</summary>
# >
# > No. The kernel has no weights in its gaps. Where a gap lies over the lit pixel, it sees nothing but
# > black.
# >
# > </details>
# >
# > <details>
# > <summary>One or none: the pixel may fall into a gap.</summary>
# >
# > No. The kernel goes over the whole image. The pixel falls into gaps at some of its places, and under a
# > weight at others.
# >
# > </details>
# >
# > <details>
# > <summary>Nine, two pixels apart.</summary>
# >
# > Right. Each of the nine weights meets the lit pixel once, at a place of its own. A convolution
# > lights as many pixels as it reads here.
# >
# > </details>

# %% [markdown]
# ## How large is the output?
#
# Lay a kernel that spans $s = d(k-1) + 1$ pixels on a row of $n$ pixels, with $p$ pixels of
# padding on either side. In the padded row, its first place starts at pixel 0 and its last one ends
# at pixel $n + 2p - 1$, so there are $n + 2p - s + 1$ places. With a **stride** of $t$ the
# kernel moves $t$ pixels at a time, and only every $t$-th place is used:
#
# $$\text{size} = \left\lfloor \frac{n + 2p - s}{t} \right\rfloor + 1, \qquad s = d(k-1) + 1.$$
#
# The half brackets mean: round down. That is all the arithmetic there is:


# %%
def output_size(n, kernel_size, padding=0, dilation=1, stride=1):
    """Side of a feature map, in pixels."""
    span = dilation * (kernel_size - 1) + 1
    return (n + 2 * padding - span) // stride + 1


# %% [markdown]
# Before you run the next cell, work out the four sizes by hand: convolution (padding 1, dilation
# 2), pooling by 2, convolution (no padding, dilation 2), pooling by 2, from 28 pixels on.

# %%
after_conv_1 = output_size(28, kernel_size=3, padding=1, dilation=2)
after_pool_1 = output_size(after_conv_1, kernel_size=2, stride=2)
after_conv_2 = output_size(after_pool_1, kernel_size=3, dilation=2)
after_pool_2 = output_size(after_conv_2, kernel_size=2, stride=2)
print(28, after_conv_1, after_pool_1, after_conv_2, after_pool_2, sep=" → ")

# %% [markdown]
# Did you lose a pixel at the last step? Nine is odd: pooling by 2 finds four pairs and drops the
# last row and column. Now the network itself; its table must show the sizes that you found.

# %%
model = build_model("dilated_cnn", seed=seed)
layers = inspection.layer_table(model)
print(f"{layers['parameters'].sum():,} parameters")
layers

# %% tags=["hide-input"]
expected = [after_conv_1, after_pool_1, after_conv_2, after_pool_2]
sizes = [int(layers["output"][row].split("×")[1]) for row in (0, 2, 3, 5)]
claim("the network's feature maps have the sizes worked out by hand", sizes == expected)

# %% [markdown]
# Compare it with the table of chapter 2. The convolutions have exactly as many weights as there,
# but the last feature maps are 4×4 instead of 6×6. So the classifier starts from 512 numbers
# instead of 1,152, and the whole network has about half the parameters. More than one thing has
# changed, then: the convolutions see further, *and* the classifier is smaller. We will come back to
# this.
#
# > **Question.** A convolution has kernels of 5×5 and dilation 3. Which padding keeps the maps of 28×28 at their size?
# >
# > <details>
# > <summary>2, half of what a 5×5 kernel has around its middle.</summary>
# >
# > No. That is right without dilation. Here the kernel spans more than five pixels.
# >
# > </details>
# >
# > <details>
# > <summary>6, half of what its span has around its middle.</summary>
# >
# > Right. It spans 3 × 4 + 1 = 13 pixels, and so takes 12 off a row without padding. Six on either side
# > make up for it.
# >
# > </details>
# >
# > <details>
# > <summary>12, what it takes off without padding.</summary>
# >
# > No. Padding is put on both sides, so that the row would grow by twelve pixels.
# >
# > </details>
# >
# > <details>
# > <summary>None can, for the dilation is odd.</summary>
# >
# > No. It is *kernels* with an even span that cannot: they would need half a pixel on either side. With an
# > odd number of weights a side, the span is odd for every dilation.
# >
# > </details>
#
# ## How far does it see?
#
# Call one number of a feature map a **unit**. Its **receptive field** is the part of the image that
# can change it. One computes it layer by layer ([Araujo, Norris and Sim,
# 2019](https://doi.org/10.23915/distill.00021)): a layer whose kernel spans $s$ units adds $s - 1$
# steps to the field, where a step is the distance, in pixels of the image, between two neighbouring
# units of the layer before. Strides multiply the step. Start with a field of $r_0 = 1$ pixel and a
# step of $j_0 = 1$; a layer $l$ with stride $t_l$ turns them into
#
# $$r_l = r_{l-1} + (s_l - 1) \, j_{l-1}, \qquad j_l = j_{l-1} \, t_l.$$
#
# In the table, `size` is the field of a unit of
# that layer and `step` the distance between two neighbouring ones, both in pixels.

# %%
plain = build_model("cnn", seed=seed)
fields = {
    "plain": inspection.receptive_field(plain.features),
    "dilated": inspection.receptive_field(model.features),
}
for field in fields.values():
    field["layer"] = ["convolution", "pooling", "convolution", "pooling"]
pd.concat({name: field.set_index("layer") for name, field in fields.items()}, axis=1)

# %% [markdown]
# > **Question.** Give the second convolution of the plain network a stride of 2, and leave out the pooling after it.
# > What happens to the receptive field of the second convolution's units?
# >
# > <details>
# > <summary>It becomes twice as wide, 16 instead of 8 pixels a side.</summary>
# >
# > No. Each unit still reads nine units of the layer before. It is its neighbour that has moved away.
# >
# > </details>
# >
# > <details>
# > <summary>Nothing. Only layers after it would see further.</summary>
# >
# > Right. A stride widens the step from one unit to the next, and a step counts where a later kernel spans
# > several of them.
# >
# > </details>
# >
# > <details>
# > <summary>It becomes half as wide, because half of the places are left out.</summary>
# >
# > No. Which places are left out decides how many units there are, and not what each of them reads.
# >
# > </details>

# %% [markdown]
# A unit at the end of the plain network sees 10×10 pixels, one of the dilated network 16×16: more
# than half of the image's width. That is a computation, and computations can be wrong. To *measure*
# it, use calculus. Outside the field, the unit's gradient with respect to a pixel is always zero.
# Inside, it may be zero by chance, where a ReLU is silent. So we send noise through networks with
# random weights, take the gradient of the units at one place near the middle (the sum over all 32
# maps), and average its magnitude over several images and over twenty networks of each kind.

# %%
noise = torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))
maps = {}
for name, unit in (("cnn", (2, 2)), ("dilated_cnn", (1, 1))):
    networks = [build_model(name, seed=k).features for k in range(20)]
    maps[name] = torch.stack(
        [inspection.input_gradient(f, noise, unit) for f in networks]
    ).mean(0)

for field, gradient in zip(fields.values(), maps.values(), strict=True):
    rows, columns = (gradient.sum(dim=axis).count_nonzero().item() for axis in (1, 0))
    print(f"computed {field['size'].iloc[-1]} pixels a side, measured {rows}×{columns}")

# %% [markdown]
# The measurement agrees. For the picture we add a third kind: the two dilated convolutions alone,
# *without* the pooling between them.

# %%
torch.manual_seed(0)
stacks = [
    nn.Sequential(nn.Conv2d(1, 16, 3, dilation=2), nn.Conv2d(16, 32, 3, dilation=2))
    for _ in range(20)
]
maps["grid"] = torch.stack(
    [inspection.input_gradient(f, noise, (10, 10)) for f in stacks]
).mean(0)

# %% mystnb={"image": {"alt": "Three heat maps of gradients on the 28 by 28 image. The plain network's is a square of 10 by 10 pixels, strongest in the middle. The dilated network's is a square of 16 by 16 pixels, filled without gaps and flatter. Two dilated convolutions without pooling give 9 by 9 pixels of which only every second one in each direction is lit, like a grid of dots."}}
figure = plotting.heat_maps(
    [m / m.max() for m in maps.values()],
    ["plain", "dilated", "dilated, no pooling"],
    "mean absolute gradient (largest = 1)",
)

# %% tags=["hide-input"]
plain_map, dilated_map, grid = maps.values()
middle = plain_map[10:14, 10:14].mean()
claim("the plain field is strongest in the middle", middle > 2 * plain_map[7].max())
claim("the dilated field has no gaps", dilated_map.count_nonzero() == 16 * 16)
claim("without pooling, it reads 25 of 9×9 pixels", grid.count_nonzero() == 25)

# %% [markdown]
# Three things to see. The field is not used evenly: in the plain network the middle counts most,
# because more paths lead through it. The dilated field is wider and flatter. And it has no gaps,
# although each of its kernels has: the pooling between the convolutions averages neighbours, so
# that one kernel's gaps are filled by the kernel next to it. Take the pooling away, and convolutions
# of dilation 2 see only every second pixel in each direction, however many of them you stack.
#
# How much of a field counts? The **effective** receptive field ([Luo et al.,
# 2016](https://arxiv.org/abs/1701.04128)) leaves out the rim that hardly matters. Here: the
# smallest square in the middle that holds four fifths of the gradient.

# %%
effective = {
    "plain": inspection.effective_field(plain_map),
    "dilated": inspection.effective_field(dilated_map),
}
pd.DataFrame(
    {
        "theoretical": [field["size"].iloc[-1] for field in fields.values()],
        "effective": list(effective.values()),
    },
    index=pd.Index(effective, name="field (pixels a side)"),
)

# %% [markdown]
# Both lose a pixel on either side. So the dilated network really does see further, and not only on
# paper.
#
# ## What gaps do to a picture
#
# Where nothing fills the gaps, one can see them. Take a boot, add noise, and smooth it twice with
# nine fixed weights (1-2-1 in both directions): without dilation, with dilation 2 both times, and
# with dilation 1 and then 2.

# %%
weights = torch.tensor([1.0, 2.0, 1.0])
weights = (weights[:, None] * weights / 16)[None, None]  # (1, 1, 3, 3), adding up to 1
boot = data.train.images[:1]
grain = torch.randn(boot.shape, generator=torch.Generator().manual_seed(0))
smoothed = {"noisy": (boot + 0.3 * grain).clamp(0, 1)}
for dilations in ((1, 1), (2, 2), (1, 2)):
    picture = smoothed["noisy"]
    for d in dilations:
        picture = nn.functional.conv2d(picture, weights, padding=d, dilation=d)
    smoothed["dilation {}, then {}".format(*dilations)] = picture

# %% mystnb={"image": {"alt": "Four pictures of the same ankle boot. The noisy one. Smoothed without dilation: soft. Smoothed with dilation 2 twice: a mesh of light and dark squares lies over the whole picture. Smoothed with dilation 1 and then 2: softer still, and without a mesh."}}
pictures = torch.cat(list(smoothed.values()))
figure = plotting.image_grid(pictures, list(smoothed), columns=4)

# %% [markdown]
# The mesh in the third picture is called **gridding** ([Yu, Koltun and Funkhouser,
# 2017](https://arxiv.org/abs/1705.09914)). With dilation 2 and nothing else, the picture falls into
# four: pixels in even rows and even columns are averaged among themselves, those in even rows and
# odd columns among themselves, and so on. The four never meet, so each keeps its own noise. One
# layer without dilation is enough to bring them together, and so is pooling. To show it, keep one
# of the four, blank out the other three, and see whether the one that is left notices.

# %%
holed = smoothed["noisy"].clone()
holed[..., 1::2, :] = 0
holed[..., :, 1::2] = 0  # only even rows and columns are left
for _ in range(2):
    holed = nn.functional.conv2d(holed, weights, padding=2, dilation=2)
whole = smoothed["dilation 2, then 2"]
same = torch.allclose(holed[..., ::2, ::2], whole[..., ::2, ::2])
claim("the fourth that was left comes out as if nothing had happened", same)
lit = holed[..., 1::2, :].count_nonzero() + holed[..., :, 1::2].count_nonzero()
claim("the other three come out empty", lit == 0)

# %%
# Differences of the differences of neighbours: large where a row goes up and down.
zigzag = {name: p.diff(n=2, dim=-1).abs().mean() for name, p in smoothed.items()}
rougher = zigzag["dilation 2, then 2"] > 5 * zigzag["dilation 1, then 2"]
claim("rows zigzag five times as much in the mesh as in the mixture", rougher)

# %% [markdown]
# This is the reason why people who stack dilated layers vary the dilation (exercise 3.3). Our network
# is spared by its pooling.
#
# ## Training
#
# Same data, same protocol, same settings. Only the network differs.

# %%
checkpoint = f"{checkpoint_dir}/03_dilated_cnn.checkpoint"
listeners = [Checkpoint(checkpoint)] if checkpoint_dir else []
trained = fit(model, data.train, data.validation, config, listeners=listeners)

# %% tags=["nbval-ignore-output"]
trained.history.set_index("epoch").iloc[::4].round(3)

# %% mystnb={"image": {"alt": "Two panels over 25 epochs: cross-entropy falling and accuracy rising, for training and validation. The two curves of each panel stay closer together than those of chapter 2."}} tags=["figure-curves"]
figure = plotting.training_curves(trained.history, trained.best_epoch)

# %% [markdown]
# The curves have the shape of chapter 2's, with less of a gap at the end. Beware of reading that as
# a virtue: this network has also not learned as much yet. When chapter 2's network had the training
# accuracy that this one ends with, its own gap was much smaller than at its end.

# %% tags=["hide-input"]
cnn = load_or_train(f"{trained_dir}/02_cnn", "cnn", data, config)
histories = {"cnn": cnn.history, "dilated": trained.history}
gaps = {name: h["train_acc"] - h["val_acc"] for name, h in histories.items()}
gaps = {name: gap.rolling(5).mean() for name, gap in gaps.items()}  # one epoch is noisy
smaller = gaps["dilated"].iloc[-1] < gaps["cnn"].iloc[-1]
claim("the gap is smaller than chapter 2's", smaller, applies=as_published)

reached = trained.history["train_acc"].iloc[-1]
then = (cnn.history["train_acc"] - reached).abs().idxmin()
small = gaps["cnn"][then] < 2 / 3 * gaps["cnn"].iloc[-1]
claim(
    "at this training accuracy, chapter 2's gap was below two thirds of its last",
    small,
    applies=as_published,
)

# %% tags=["hide-input"]
best = trained.history["val_acc"].max()
claim_between("the best validation accuracy", best, 0.88, 0.91, applies=as_published)
worse = best < cnn.history["val_acc"].max()
claim(
    "the best validation accuracy is lower than chapter 2's",
    worse,
    applies=as_published,
)

# %% [markdown]
# Does training change how far a unit sees? The receptive field cannot change, but the effective one
# could, if training made the weights at the rim larger or smaller. Measure both networks again, as
# they are now, with validation images instead of noise.

# %%
looked_at = data.validation.images[:200]
places = {"plain": (cnn.model, (2, 2)), "dilated": (trained.model, (1, 1))}
learned = {
    f"{name}, trained": inspection.input_gradient(
        network.cpu().features, looked_at, unit
    )
    for name, (network, unit) in places.items()
}
after = [inspection.effective_field(m) for m in learned.values()]
pairs = zip(after, effective.values(), strict=True)
near = all(abs(now - before) <= 2 for now, before in pairs)
claim(
    "the effective fields are as large as before, give or take a pixel at each rim",
    near,
)

# %% mystnb={"image": {"alt": "Two heat maps of gradients of the trained networks: the plain one's within a square of 10 by 10 pixels, the dilated one's within 16 by 16 pixels. Both fill their square, more unevenly than before the training."}} tags=["figure-maps"]
figure = plotting.heat_maps(
    [m / m.max() for m in learned.values()],
    list(learned),
    "mean absolute gradient (largest = 1)",
)

# %% [markdown]
# As far as this measure can tell, which goes in steps of two pixels, training has made the fields
# uneven, but hardly smaller or larger. (The images are others, too: clothes instead of noise.) In a
# network as shallow as this one, how far a unit sees is settled by the arrangement of the layers.
#
# ## The test, once

# %% tags=["nbval-ignore-output"]
probabilities = evaluation.predict(trained.model, data.test.images)
predicted = probabilities.argmax(axis=1)
test_accuracy = evaluation.accuracy(data.test.labels, predicted)
print(f"test accuracy: {test_accuracy:.4f}")

# %% tags=["hide-input"]
claim_between("the test accuracy", test_accuracy, 0.87, 0.905, applies=as_published)

# %% mystnb={"image": {"alt": "Confusion matrix of the dilated network on the test images, as an annotated heat map. The pattern is that of chapter 2 with more mistakes: shirt with T-shirt, pullover and coat, pullover with coat, and sneaker with sandal and ankle boot."}} tags=["figure-maps"]
confusion = evaluation.confusion_matrix(data.test.labels, predicted)
ax = plotting.confusion_heatmap(confusion)

# %% tags=["hide-input"]
mistaken = confusion.sum(axis=0) + confusion.sum(axis=1)
mistaken -= 2 * confusion.to_numpy().diagonal()
most = mistaken.idxmax() == "Shirt"
claim("shirts take part in the most mistakes", most, applies=as_published)
metrics = {"val_accuracy": float(best)}
metrics |= evaluation.summarize_predictions(data.test.labels, probabilities)
folder = save_trained(
    f"{trained_dir}/03_dilated_cnn", "dilated_cnn", trained, metrics, test=data.test
)

# %% [markdown]
# ## A first comparison, and what it does not show
#
# The two networks side by side, on the validation images:

# %% tags=["nbval-ignore-output"]
pd.DataFrame(
    {
        "parameters": [inspection.count_parameters(m) for m in (plain, model)],
        "receptive field (pixels)": [
            field["size"].iloc[-1] for field in fields.values()
        ],
        "validation accuracy": [
            h["val_acc"].max().round(3) for h in histories.values()
        ],
    },
    index=pd.Index(["convolutional (chapter 2)", "dilated"], name="network"),
)

# %% tags=["hide-input"]
lead = cnn.history["val_acc"].max() - best
claim_between(
    "the lead of chapter 2's network", lead, 0.005, 0.035, applies=as_published
)

# %% [markdown]
# It is tempting to write "dilation makes the network worse". This table does not support that
# sentence. Several things differ at once:
#
# 1. no kernel of the first layer compares neighbouring pixels, so fine texture is harder to see;
# 2. the units see further;
# 3. the feature maps end at 4×4 instead of 6×6, because the padding was not adapted to the dilation;
# 4. and with them the classifier shrinks, so that the network has half the parameters.
#
# Any of these could cost accuracy. And then there is chance: another seed gives another accuracy.
#
# ## One thing at a time
#
# The remedy is a third network, between the two. It has the same dilation, but padding of 2 and 1
# pixels instead of 1 and 0, so that its maps keep the size of the plain network's. Nothing is left to
# differ but the dilation and the padding that it needs: with the same seed, the two even start from the
# same weights.

# %%
padded = build_model("padded_dilated_cnn", seed=seed)
plain = build_model("cnn", seed=seed)
outputs = [inspection.layer_table(m)["output"].tolist() for m in (plain, padded)]
alike = outputs[0] == outputs[1]
claim("the padded network's feature maps have the sizes of the plain one's", alike)
counts = [inspection.count_parameters(m) for m in (plain, padded)]
claim(
    "the padded network has as many parameters as the plain one", counts[0] == counts[1]
)
pairs = zip(plain.parameters(), padded.parameters(), strict=True)
claim(
    "the padded network starts from the weights of the plain one",
    all(a.equal(b) for a, b in pairs),
)

# %% [markdown]
# > **Question.** Suppose the padded network turns out exactly as good as the plain one, with any seed. What, then, cost
# > the dilated network its accuracy?
# >
# > <details>
# > <summary>The dilation.</summary>
# >
# > No. The padded network has it as well, and would have lost nothing by it.
# >
# > </details>
# >
# > <details>
# > <summary>The smaller classifier.</summary>
# >
# > No. It may have, and nobody knows: from the padded to the dilated network two things change, and this
# > comparison does not tell them apart.
# >
# > </details>
# >
# > <details>
# > <summary>The smaller maps, the smaller classifier, or both.</summary>
# >
# > Right. It would take another network to separate these two: one with small maps and many
# > parameters, say.
# >
# > </details>

# %% [markdown]
# Plain to padded changes points 1 and 2; padded to dilated changes points 3 and 4. And to guard
# against chance, we train each of the three with ten seeds. That takes an hour on two cores, so the
# results come with the package: made by `python benchmarks/seeds.py`, with the settings of this
# chapter, and kept with a record of versions and machine.

# %%
seeds = load_seeds()
table = seeds.table.pivot(index="seed", columns="network", values="val_accuracy")
labels = {
    "cnn": "plain",
    "padded_dilated_cnn": "dilated, padded",
    "dilated_cnn": "dilated",
}
table = table[list(labels)].rename(columns=labels)
table.describe().loc[["mean", "std", "min", "max"]].round(4)

# %% mystnb={"image": {"alt": "Best validation accuracy of ten training runs of each network, as points in three rows. The plain network's lie furthest to the right, the padded dilated network's in the middle, the dilated network's to the left; the first two rows overlap in part, the third stands apart."}}
ax = plotting.strips(table, "best validation accuracy, ten seeds each (line: mean)")

# %% [markdown]
# Now the two steps, each as the mean of ten differences between training runs of the same seed,
# with its 95 % interval (what such an interval promises, chapter 4 explains; here it is Student's
# *t*, for the luck of the seed: the validation images are the same throughout).

# %%
steps = {
    "dilation": table["dilated, padded"] - table["plain"],
    "smaller maps": table["dilated"] - table["dilated, padded"],
}
rows = {}
for name, change in steps.items():
    low, high = ttest_1samp(change, 0).confidence_interval(0.95)
    rows[name] = {"value": change.mean(), "low": low, "high": high}
changes = pd.DataFrame(rows).T
changes.round(4)

# %% mystnb={"image": {"alt": "The changes in validation accuracy with their intervals: dilation at equal map size, and smaller maps at equal dilation. Both lie below zero, and neither interval reaches it."}}
ax = plotting.intervals(changes, "change in validation accuracy, with 95 % interval")
line = ax.axvline(0, color="0.4", ls=":")

# %% tags=["hide-input"]
claim("dilation alone costs accuracy", changes["high"]["dilation"] < 0)
claim("the smaller maps cost accuracy as well", changes["high"]["smaller maps"] < 0)
share = changes["value"]["dilation"] / changes["value"].sum()
claim_between("the share of dilation in the whole loss", share, 0.25, 0.5)

# %% [markdown]
# So the data supports this much: on these images, with these settings, dilation 2 in both
# convolutions costs a little accuracy by itself, and more than that is lost with the smaller maps
# and the smaller classifier that came along with it. Anyone who blamed the whole loss on dilation
# would have been wrong about more than half of it. (The split is that of this path; smaller maps
# without dilation would make a different one.) What the data does not support is a sentence about
# dilation in general: neither about other images, nor about networks without pooling, nor about
# these with another learning rate or more epochs.
#
# Why does anybody dilate, then? Because where the *output* must be an image, as in segmentation,
# pooling throws away detail that must then be recovered, and dilation is a way to see far without
# it. For naming a centred shoe in 28×28 pixels, seeing far was never the difficulty. Chapter 4
# finds something that the dilated networks are better at.

# %% [markdown]
# ## Exercises
#
# Write your answer in the cell below each exercise, in place of the dots, run it, and run the cell
# that follows: `check` says whether you are right, and if not, what is off.
#
# ### Exercise 3.1: Sizes
#
# A row of 76 pixels passes a convolution with 7 weights a side, dilation 4, padding 8 and stride 2. How
# long is the result? Work it out by hand first.
#
# <details>
# <summary>Hint</summary>
#
# How many pixels does the kernel span, and how long is the padded row?
#
# </details>

# %% jupyter={"source_hidden": true} mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show a solution"} tags=["solution", "hide-input"]
# Exercise 3.1
### BEGIN SOLUTION
length = output_size(76, kernel_size=7, padding=8, dilation=4, stride=2)
### END SOLUTION

# %%
check("3.1", length)


# %% [markdown] tags=["solution"]
# <details>
# <summary>Why</summary>
#
# The kernel spans 4 × 6 + 1 = 25 pixels, and the padded row has 76 + 16 = 92. So there are 68 places, from
# the first to the last, of which every second one is used. PyTorch agrees:
# `nn.Conv1d(1, 1, 7, dilation=4, padding=8, stride=2)(torch.zeros(1, 1, 76)).shape`.
#
# </details>

# %% [markdown]
# ### Exercise 3.2: The kernel with zeros
#
# Write `spread_out(weights, d)`: from the weights (C_out, C_in, k, k) of a convolution with dilation $d$,
# it makes those of a convolution without dilation that computes the same, for every $d$ from 1 on.
#
# <details>
# <summary>Hint</summary>
#
# Begin with a tensor of zeros of the right size. A slice with a step, `[..., ::d]`, reaches every d-th
# place of it.
#
# </details>

# %% jupyter={"source_hidden": true} mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show a solution"} tags=["solution", "hide-input"]
# Exercise 3.2
def spread_out(weights, d):
    """Lay weights (C_out, C_in, k, k) d places apart, with zeros in between."""
    ### BEGIN SOLUTION
    side = d * (weights.shape[-1] - 1) + 1
    kernel = weights.new_zeros(*weights.shape[:2], side, side)
    kernel[..., ::d, ::d] = weights
    return kernel
    ### END SOLUTION


# %%
check("3.2", spread_out)

# %% [markdown] tags=["solution"]
# <details>
# <summary>Why</summary>
#
# Whatever a dilated convolution computes, a larger dense one could compute as well. The converse is not
# true: the dilated one gives up the weights in between, and with them the work of multiplying. For 3×3
# weights and dilation 4 it makes nine multiplications where the dense kernel makes 81.
#
# </details>

# %% [markdown]
# ### Exercise 3.3: Seeing everything
#
# Stack three convolutions of 3×3 without pooling. Which three `dilations` let a unit see at least 27 pixels
# along a row, with every pixel of its field read?
#
# <details>
# <summary>Hint</summary>
#
# By how many pixels does each convolution widen the field? And how many paths lead from a unit
# through three kernels of three weights down to the row: may two of them end at the same pixel?
#
# </details>

# %% jupyter={"source_hidden": true} mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show a solution"} tags=["solution", "hide-input"]
# Exercise 3.3
### BEGIN SOLUTION
dilations = (1, 3, 9)
### END SOLUTION

# %%
check("3.3", dilations)


# %% [markdown] tags=["solution"]
# <details>
# <summary>Why</summary>
#
# Each convolution widens the field by $2d$ pixels, so the dilations must add up to at least 13. And there
# are only 3 · 3 · 3 = 27 paths along a row, so that no two may end at the same pixel. The first kernel
# reads three neighbours, the second one joins three such threes, the third one three nines: nothing is
# read twice. The order does not matter. With 4, 4 and 5 the field is as wide, but many of the 27 paths
# meet, and nearly half of the pixels of a row are never read. `inspection.input_gradient` shows the
# difference.
#
# </details>

# %% [markdown]
# ### Exercise 3.4: A function for the field
#
# Write `receptive_field(layers)`: how many pixels along a row a unit sees at the end of a list of
# layers, each given as `(kernel, stride, dilation)`: all from the first to the last that it sees,
# with any gaps between them. `[(3, 1, 2)]` gives 5. For `[(3, 1, 1), (2, 2, 1), (3, 1, 1), (2, 2,
# 1)]`, the features of the plain network, it is 10, and for no layers at all 1.
#
# <details>
# <summary>Hint</summary>
#
# Carry two numbers from layer to layer: the field and the step. Which of them does a layer need as it
# was before?
#
# </details>

# %% jupyter={"source_hidden": true} mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show a solution"} tags=["solution", "hide-input"]
# Exercise 3.4
def receptive_field(layers):
    """Pixels per side that a unit sees after layers (kernel, stride, dilation)."""
    ### BEGIN SOLUTION
    size, step = 1, 1
    for kernel, stride, dilation in layers:
        size += dilation * (kernel - 1) * step
        step *= stride
    return size
    ### END SOLUTION


# %%
check("3.4", receptive_field)

# %% [markdown] tags=["solution"]
# <details>
# <summary>Why</summary>
#
# The order of the two lines is the point: a layer's kernel spans units of the layer *before*, so its own
# stride comes too late for its own field. The check measures instead of computing. It puts your layers
# together with positive weights, takes the gradient of one unit, and counts how far it reaches.
#
# </details>

# %% [markdown]
# ### Exercise 3.5: Half a dilation
#
# One thing at a time: make `first_dilated`, a network like `plain` in which only the *first*
# convolution has dilation 2. Its maps must keep the sizes of the plain network's, and it must start
# from the weights of `plain`, which itself stays as it is.
#
# <details>
# <summary>Hint</summary>
#
# Layers of an `nn.Sequential` can be replaced: `network.features[0] = ...`. And
# `network.load_state_dict(other.state_dict())` copies the weights of another network, if they have the
# same shapes.
#
# </details>

# %% jupyter={"source_hidden": true} mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show a solution"} tags=["solution", "hide-input"]
# Exercise 3.5
### BEGIN SOLUTION
first_dilated = build_model("cnn")
first_dilated.features[0] = nn.Conv2d(1, 16, kernel_size=3, padding=2, dilation=2)
loaded = first_dilated.load_state_dict(plain.state_dict())
### END SOLUTION

# %%
check("3.5", first_dilated, plain)

# %% [markdown] tags=["solution"]
# <details>
# <summary>Why</summary>
#
# Dilation changes where the weights are laid, and not how many there are: the weights of the plain network
# fit. A padding of 2 makes up for the two pixels by which the kernel now reaches out on either side. Its
# units at the end see 12×12 pixels, two more than the plain network's; with the second convolution dilated
# instead it would be 14×14, since after the pooling a step is two pixels.
#
# </details>

# %% [markdown]
# ### Project: Which half costs more?
#
# Train `first_dilated`, and a network in which only the second convolution is dilated (which padding does
# it need?), with the settings of this chapter. Which of the two loses more against the plain network? Decide
# beforehand how many seeds you train, and say in the end how sure you are.
#
# <details>
# <summary>Hint</summary>
#
# `fit(network, data.train, data.validation, config)` trains one, in a few minutes. `seeds.table` above holds
# the plain network's results for ten seeds, to compare with seed by seed.
#
# </details>

# %% [markdown] tags=["solution"]
# <details>
# <summary>What to expect</summary>
#
# The second convolution needs `padding=1, dilation=2`. Two seeds of one network differ by some
# tenths of a percentage point, and so may the two halves: then the honest answer is that two seeds
# do not tell. Above, it took ten pairs with matching seeds to tell dilation from no dilation.
#
# </details>

# %% [markdown]
# ## Recap
#
# - Dilation spreads a kernel's weights: further reach, same number of weights, gaps between.
# - The size of the output is $\lfloor (n + 2p - s) / t \rfloor + 1$, with the span $s = d(k-1) + 1$.
# - Receptive fields can be computed, and measured by gradients; do both.
# - Dilation after dilation leaves a mesh, unless something in between fills the gaps.
# - A comparison that changes several things explains none of them. Change one at a time, and repeat
#   it with other seeds.
#
# **Next:** [evaluation](04_evaluation.ipynb), where the two networks meet on the test images.
