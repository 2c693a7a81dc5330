"""The comparison of figures under nbval: it notices damage, and lets measured values vary."""

import base64
import io
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from IPython.core.pylabtools import retina_figure
from nbclient import NotebookClient
from PIL import Image

from fmnist_lib import plotting
from fmnist_lib.chapters import CHAPTERS, read_notebook
from fmnist_lib.data import CLASS_NAMES

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


@pytest.fixture(scope="module")
def plugin(load_script):
    return load_script("notebooks/conftest.py")


def curves(noise=0.0):
    rng, epoch = np.random.default_rng(3), np.arange(1, 26)
    loss = 0.18 + 0.6 * np.exp(-(epoch - 1) / 3) + noise * rng.normal(size=25)
    accuracy = 0.94 - 0.4 * (loss - 0.18)
    history = {"train_loss": loss, "val_loss": 0.9 * loss + 0.004 * epoch}
    history |= {"train_acc": accuracy, "val_acc": accuracy - 0.001 * epoch}
    return plotting.training_curves(pd.DataFrame({"epoch": epoch} | history), best_epoch=25)


def heat_map(noise=0.0, change=lambda counts: counts):
    rng, off = np.random.default_rng(4), 1 - np.eye(10, dtype=int)
    counts = 900 * (1 - off) + rng.geometric(0.2, (10, 10)) * off
    counts[0, 6], counts[6, 0], counts[4, 2], counts[9, 7] = 95, 98, 64, 57
    counts = np.round(counts * (1 + noise * rng.uniform(-1, 1, (10, 10)) * off)).astype(int)
    table = pd.DataFrame(change(counts), CLASS_NAMES, CLASS_NAMES)
    return plotting.confusion_heatmap(table, title="convolutional network").figure


DRAW = {"figure-curves": curves, "figure-maps": heat_map}


def output(figure):
    """Make of a figure what a cell's outputs hold."""
    png, size = retina_figure(figure, base64=True)
    plt.close(figure)
    return {"data": {"image/png": png}, "metadata": {"image/png": size}}


@pytest.fixture(scope="module")
def expected(plugin):
    return {kind: plugin.decode(output(draw())) for kind, draw in DRAW.items()}


@pytest.fixture
def compare(plugin, expected):
    """Compare a figure with the expected one of its kind: (kind, figure) -> fault or None."""

    def compare(kind, figure):
        found = plugin.decode(output(figure))
        return plugin.difference(expected[kind], found, plugin.KINDS[kind])

    return compare


def test_a_figure_drawn_again_is_exactly_the_same(plugin, expected):
    assert plugin.difference(expected["figure-maps"], plugin.decode(output(heat_map()))) is None


def test_a_single_pixel_fails_where_nothing_is_measured(plugin, expected):
    figure = expected["figure-curves"]
    pixels = figure.pixels.copy()
    pixels[5, 5] ^= 1
    fault = plugin.difference(figure, figure._replace(pixels=pixels, software="Matplotlib 9.9"))
    assert "1 pixels" in fault
    assert "Matplotlib 9.9" in fault  # which may draw letters differently


@pytest.mark.parametrize(
    ("kind", "noise"),
    [("figure-curves", 0.005), ("figure-maps", 0.15)],  # as on another processor, or more
)
def test_measured_values_may_vary(compare, plugin, expected, kind, noise):
    varied = DRAW[kind](noise)
    assert compare(kind, varied) is None
    assert plugin.difference(expected[kind], plugin.decode(output(varied)))


def relabel(**labels):
    return lambda figure: figure.axes[0].set(**labels)


def swap_colours(figure):
    for ax in figure.axes:
        first, second, _ = ax.lines
        colour = first.get_color()
        first.set_color(second.get_color())
        second.set_color(colour)
        ax.legend(frameon=False)


def whiten(figure):
    figure.clear()
    figure.set_layout_engine("none")
    figure.add_axes((0, 0, 1, 1)).axis("off")


@pytest.mark.parametrize(
    ("kind", "damage", "word"),
    [
        ("figure-curves", relabel(xlabel="batch"), "words"),
        ("figure-curves", relabel(title="loss"), "words"),
        ("figure-curves", lambda figure: figure.axes[0].lines[1].remove(), "blurred"),
        ("figure-curves", swap_colours, "blurred"),
        ("figure-curves", relabel(ylim=(0, 1)), "blurred"),
        ("figure-curves", lambda figure: figure.set_size_inches(8, 3.6), "size"),
        ("figure-curves", whiten, "blank"),
        ("figure-maps", relabel(title="convolutional netwerk"), "words"),
        ("figure-maps", lambda figure: figure.axes[1].set_ylabel("errors"), "words"),
        ("figure-maps", lambda figure: figure.axes[0].collections[0].set_cmap("Reds"), "blurred"),
    ],
)
def test_damage_is_noticed(compare, kind, damage, word):
    figure = DRAW[kind]()
    damage(figure)
    assert word in compare(kind, figure)


@pytest.mark.parametrize("change", [np.transpose, np.flipud])
def test_a_transposed_or_flipped_heat_map_is_noticed(compare, change):
    assert "blurred" in compare("figure-maps", heat_map(change=change))


def test_ticks_are_not_words(plugin):
    figure, ax = plt.subplots()
    ax.set(xlim=(-0.01, 0.02), ylim=(1.5, 3), xlabel="noise or shift")
    assert len(plugin.words(plugin.decode(output(figure)).pixels)) in (2, 3)  # "or" may pass


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_tags_of_figures_are_spelled_right_and_stand_where_figures_are(plugin, name):
    for cell in read_notebook(NOTEBOOKS / f"{name}.ipynb").cells:
        tags = [tag for tag in cell.metadata.get("tags", []) if tag.startswith("figure")]
        assert set(tags) <= set(plugin.KINDS)
        assert len(tags) <= bool(plugin.figures(cell.get("outputs", [])))


@pytest.mark.slow
def test_nbval_reports_and_keeps_figures_on_each_worker(tmp_path):
    """Two notebooks on two workers: one with faults, also in a cell exempt from comparison.

    The other one has a warning that the committed notebook lacks, which is no fault.
    """
    setup = "%matplotlib inline\nimport matplotlib.pyplot as plt"
    plot = "lines = plt.plot([1, 2, 4])"
    cells = [nbformat.v4.new_code_cell(source) for source in (setup, plot, plot, "print(1)", plot)]
    cells[2].metadata["tags"] = ["nbval-ignore-output"]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, kernel_name="python3").execute()
    warn = nbformat.v4.new_code_cell("import warnings; warnings.warn('slow', stacklevel=1)")
    warn.execution_count = 3
    good = nbformat.v4.new_notebook(cells=[*cells[:2], warn])
    nbformat.write(good, tmp_path / "good.ipynb")
    (figure,) = cells[1].outputs
    with Image.open(io.BytesIO(base64.b64decode(figure.data["image/png"]))) as image:
        file = io.BytesIO()
        image.rotate(180).save(file, "png")
    cells[2].outputs[0].data["image/png"] = base64.b64encode(file.getvalue()).decode()
    cells[3].outputs.append(figure)
    cells[4].outputs.clear()
    nbformat.write(notebook, tmp_path / "bad.ipynb")
    shutil.copy(NOTEBOOKS / "conftest.py", tmp_path)
    options = ["--nbval", "-n", "2", "--rootdir", ".", "."]
    command = [sys.executable, "-m", "pytest", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "3 failed, 5 passed" in done.stdout
    for fault in ("differs in", "is missing", "is not expected"):
        assert fault in done.stdout
    kept = {path.name for path in (tmp_path / "runs" / "figures" / "bad").iterdir()}
    names = ("2-1-expected", "2-1-found", "3-1-expected", "4-1-found")
    assert kept == {f"cell-{name}.png" for name in names}
    assert str(tmp_path / "runs" / "figures" / "bad" / "cell-2-1-found.png") in done.stdout
