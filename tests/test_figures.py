"""The comparison of figures under nbval: each damage is seen, and no other machine is."""

import subprocess
import sys
from types import SimpleNamespace

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from IPython.core.pylabtools import print_figure, retina_figure
from nbval.plugin import IPyNbCell, NbCellError

from fmnist_lib import plotting
from fmnist_lib.chapters import CHAPTERS, read_notebook
from fmnist_lib.data import CLASS_NAMES

PLUGIN = "notebooks/conftest.py"


@pytest.fixture(scope="module")
def plugin(load_script):
    return load_script(PLUGIN)


def shown(figure, draw=retina_figure):
    """Make of a figure what a cell's outputs hold."""
    drawn = draw(figure, base64=True)
    png, size = drawn if isinstance(drawn, tuple) else (drawn, {})
    plt.close(figure)
    return {"data": {"image/png": png}, "metadata": {"image/png": size}}


def curves(noise=0.0):
    rng, epoch = np.random.default_rng(3), np.arange(1, 26)
    loss = 0.18 + 0.6 * np.exp(-(epoch - 1) / 3) + noise * rng.normal(size=25)
    accuracy = 0.94 - 0.4 * (loss - 0.18)
    history = {"train_loss": loss, "val_loss": 0.9 * loss + 0.004 * epoch}
    history |= {"train_acc": accuracy, "val_acc": accuracy - 0.001 * epoch}
    return plotting.training_curves(pd.DataFrame({"epoch": epoch} | history), best_epoch=25)


def heat_map(noise=0.0, change=lambda counts: counts, title="convolutional network"):
    rng, off = np.random.default_rng(4), 1 - np.eye(10, dtype=int)
    counts = 900 * (1 - off) + rng.geometric(0.2, (10, 10)) * off
    counts[0, 6], counts[6, 0], counts[4, 2], counts[9, 7] = 95, 98, 64, 57
    counts = np.round(counts * (1 + noise * rng.uniform(-1, 1, (10, 10)) * off)).astype(int)
    table = pd.DataFrame(change(counts), CLASS_NAMES, CLASS_NAMES)
    return plotting.confusion_heatmap(table, title=title).figure


def images(article=0):
    grid = np.random.default_rng(article).uniform(0, 1, (16, 1, 3, 3)).astype(np.float32)
    return plotting.image_grid(grid, columns=8)


DRAWN = {"exact": curves, "figure-curves": curves, "figure-maps": heat_map, "figure-images": images}


def compare(plugin, kind, found):
    expected = plugin.decode(shown(DRAWN[kind]()))
    return plugin.difference(expected, plugin.decode(found), plugin.KINDS.get(kind))


@pytest.mark.parametrize("kind", DRAWN)
def test_a_figure_drawn_again_is_the_same(plugin, kind):
    assert compare(plugin, kind, shown(DRAWN[kind]())) is None


@pytest.mark.parametrize(
    ("kind", "figure"),
    [
        ("figure-curves", lambda: curves(0.004)),
        ("figure-maps", lambda: heat_map(0.15)),
        ("figure-images", lambda: images(1)),
    ],
)
def test_the_values_of_another_machine_pass_where_they_are_measured(plugin, kind, figure):
    assert compare(plugin, kind, shown(figure())) is None
    expected, found = (plugin.decode(shown(f())) for f in (DRAWN[kind], figure))
    assert "pixels" in plugin.difference(expected, found) or expected.size != found.size


def test_a_single_pixel_fails_where_nothing_is_measured(plugin):
    expected = plugin.decode(shown(curves()))
    pixels = expected.pixels.copy()
    pixels[5, 5] ^= 1
    found = expected._replace(pixels=pixels, software="Matplotlib version9.9")
    problem = plugin.difference(expected, found)
    assert "1 pixels" in problem
    assert "version9.9" in problem  # another version may draw letters differently


def relabel(**labels):
    def change(figure):
        figure.axes[0].set(**labels)

    return change


def swap_colours(figure):
    for ax in figure.axes:
        first, second = ax.lines[:2]
        colours = second.get_color(), first.get_color()
        for line, colour in zip((first, second), colours, strict=True):
            line.set_color(colour)
        ax.legend(frameon=False)


def reverse_names(figure):
    figure.axes[0].set_yticklabels(CLASS_NAMES[::-1], rotation=0)


@pytest.mark.parametrize(
    ("kind", "damage", "word"),
    [
        ("figure-curves", relabel(xlabel="batch"), "words"),
        ("figure-curves", relabel(xlabel="epochs"), "words"),
        ("figure-curves", relabel(xlabel=""), "words"),
        ("figure-curves", relabel(ylabel="cross-entropy (bits per image)"), "words"),
        ("figure-curves", relabel(title="loss"), "words"),
        ("figure-curves", lambda figure: figure.axes[0].lines[1].remove(), "blurred"),
        ("figure-curves", swap_colours, "blurred"),
        ("figure-curves", relabel(yscale="log"), "blurred"),
        ("figure-curves", relabel(ylim=(0, 1)), "blurred"),
        ("figure-curves", lambda figure: figure.set_size_inches(8, 3.6), "size"),
        ("figure-curves", lambda figure: figure.clear(), "blank"),
        ("figure-maps", relabel(title="dilated network"), "words"),
        ("figure-maps", relabel(xlabel="true class", ylabel="predicted class"), "words"),
        ("figure-maps", relabel(title="convolutional netwerk"), "words"),
        ("figure-maps", lambda figure: figure.axes[1].set_ylabel("errors"), "words"),
        ("figure-maps", lambda figure: figure.axes[1].remove(), "words"),
        ("figure-maps", lambda figure: figure.axes[0].collections[0].set_cmap("Reds"), "blurred"),
        ("figure-images", lambda figure: figure.axes[3].remove(), "blurred"),
        ("figure-images", lambda figure: figure.clear(), "blank"),
    ],
)
def test_a_damaged_figure_is_noticed(plugin, kind, damage, word):
    figure = DRAWN[kind]()
    damage(figure)
    assert word in compare(plugin, kind, shown(figure))


def test_a_transposed_or_turned_heat_map_is_noticed(plugin):
    for change in (np.transpose, np.flipud):
        assert "blurred" in compare(plugin, "figure-maps", shown(heat_map(change=change)))


def test_a_figure_of_half_the_resolution_is_noticed(plugin):
    assert "size" in compare(plugin, "figure-curves", shown(curves(), print_figure))


def test_ticks_are_no_words_and_letters_of_one_height_hardly_ever_stand_alone(plugin):
    figure, ax = plt.subplots()
    ax.set(xlim=(-0.01, 0.02), ylim=(1e-4, 1e4), yscale="linear")
    assert plugin.words(plugin.decode(shown(figure)).pixels) == []
    figure, ax = plt.subplots()
    ax.set(xlabel="shift, noise or 3 pixels", ylabel="F1")
    assert len(plugin.words(plugin.decode(shown(figure)).pixels)) >= 4
