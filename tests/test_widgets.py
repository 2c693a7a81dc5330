"""Figures with controls: what they show follows the controls; nothing dead is left in a file."""

import re
from base64 import b64decode
from itertools import product

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from fmnist_lib.course import widgets
from fmnist_lib.data import CLASS_NAMES

VIEW = "application/vnd.jupyter.widget-view+json"
FIGURE = """
from fmnist_lib.course import widgets
from fmnist_lib.data import load_fashion_mnist
widgets.explore_dilation(load_fashion_mnist(sample=True).train.images[0])
"""


@pytest.fixture
def answers(sample):
    """Images, labels and probabilities, of which no trouser was called anything else."""
    images, labels = sample.test.images, sample.test.labels.numpy()
    probabilities = np.random.default_rng(0).dirichlet(np.ones(10), len(labels))
    probabilities[labels == 1] = np.eye(10)[1]
    probabilities[labels == 6] = np.eye(10)[0]  # every shirt a T-shirt: the worst confusion
    return images, labels, probabilities


@pytest.fixture
def browsing(answers):
    return widgets.browse_mistakes(*answers)


@pytest.fixture
def exploring(sample):
    return widgets.explore_dilation(sample.train.images[0])


@pytest.mark.slow
def test_a_kernel_gives_a_widget_to_a_person_and_a_sentence_to_a_program(tmp_path):
    cells = [nbformat.v4.new_code_cell(FIGURE) for _ in range(2)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(notebook, kernel_name="python3", timeout=120)
    with client.setup_kernel(cwd=tmp_path):
        client.execute_cell(notebook.cells[0], 0)
        assert client.widget_state == {}  # none was made, so none can be stored
        client.kc.allow_stdin = True  # as JupyterLab says with each cell
        client.execute_cell(notebook.cells[1], 1)
    (program,), (person,) = (cell.outputs for cell in notebook.cells)
    assert program.data.keys() == {"text/plain"}
    assert person.data.keys() == {"text/plain", VIEW}
    assert person.data["text/plain"] == program.data["text/plain"]  # which nbval compares
    assert program.data["text/plain"].startswith("In JupyterLab, three sliders here spread")
    assert person.data[VIEW]["model_id"] in client.widget_state
    # Below the sliders, and not in the cell, the first figure.
    (shown,) = (state["outputs"] for state in client.widget_state.values() if "outputs" in state)
    assert "Row 14, column 14: nine pixels" in shown[0]["data"]["text/html"]


def test_outside_a_notebook_a_figure_is_its_sentence(browsing):
    assert repr(browsing).startswith("In JupyterLab, two menus here choose")
    assert browsing._repr_mimebundle_() == {"text/plain": repr(browsing)}
    assert max(map(len, repr(browsing).splitlines())) < 80  # a page does not break it


def test_each_pair_shows_its_most_probable_images(answers, browsing, monkeypatch):
    _, labels, probabilities = answers
    called = probabilities.argmax(axis=1)
    drawn = []
    monkeypatch.setattr(widgets, "mistakes", lambda *given: drawn.append(given))
    counts = []
    for true, predicted in product(range(10), repeat=2):
        drawn.clear()
        _, words = browsing.draw(CLASS_NAMES[true], CLASS_NAMES[predicted])
        cell = np.flatnonzero((labels == true) & (called == predicted))
        counts.append(len(cell))
        assert ("Here are the 12 with" in words) == (len(cell) > 12)
        if len(cell) == 0:
            assert not drawn
            continue
        assert f"were called {CLASS_NAMES[predicted]}: {len(cell)}." in words
        best = cell[np.argsort(-probabilities[cell, predicted], kind="stable")][:12]
        *some, names = drawn[0]
        assert names == list(CLASS_NAMES)
        for shown, expected in zip(some, answers, strict=True):
            assert np.array_equal(shown, expected[best])
    assert min(counts) == 0
    assert max(counts) > 12


def test_the_menus_start_with_the_worst_confusion_if_there_is_one(answers, browsing):
    images, labels, _ = answers
    panel = widgets.browse_mistakes(images, labels, np.eye(10)[labels]).panel()
    assert panel.result == "<p>No image of the class T-shirt was called Trouser.</p>"
    panel = browsing.panel()
    true, predicted = panel.kwargs_widgets
    assert (true.value, predicted.value) == ("Shirt", "T-shirt")
    assert panel.result.startswith("<p>Images of the class Shirt that were called T-shirt: ")
    true.value = "Trouser"
    assert panel.result == "<p>No image of the class Trouser was called T-shirt.</p>"


def test_other_classes_have_names_of_their_own(sample):
    images, labels = sample.test.images[:4], [0, 1, 2, 2]
    figure = widgets.browse_mistakes(images, labels, np.eye(3)[[0, 1, 2, 0]], ("bat", "cat", "rat"))
    true, predicted = figure.panel().kwargs_widgets
    assert (true.value, predicted.value) == ("rat", "bat")
    assert list(true.options) == ["bat", "cat", "rat"]
    shown, words = figure.draw()
    assert words == "Images of the class rat that were called bat: 1."
    assert shown.axes[0].get_title() == "rat\n→ bat (1.00)"
    plt.close(shown)


def test_a_pair_with_one_image_does_not_enlarge_it(answers):
    shirt = np.flatnonzero(answers[1] == 6)[:1]
    panel = widgets.browse_mistakes(*(of_all[shirt] for of_all in answers)).panel()
    assert int(re.search('width="(\\d+)"', panel.result)[1]) < 110


@pytest.mark.parametrize(
    ("dilation", "row", "column"), [(1, 14, 14), (2, 0, 27), (4, 26, 3), (3, 13, 1)]
)
def test_the_sliders_show_the_mean_of_the_nine_pixels(sample, exploring, dilation, row, column):
    image = sample.train.images[0, 0].numpy()
    places = [(row + dilation * y, column + dilation * x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    inside = [image[at] for at in places if min(at) >= 0 and max(at) < 28]
    figure, words = exploring.draw(dilation, row, column)
    mean, span = sum(inside) / 9, 2 * dilation + 1
    assert f"in a square of {span}×{span}. Their mean, {mean:.2f}, is" in words
    told = re.search(r"Of the nine, (\d) lie outside", words)
    assert (int(told[1]) if told else 0) == 9 - len(inside)
    output = figure.axes[1].images[0].get_array()
    assert output.shape == (28, 28)
    assert output[row, column] == pytest.approx(mean, abs=1e-6)
    plt.close(figure)


def test_moving_a_slider_changes_picture_and_text_and_leaves_no_figure_open(exploring):
    panel, open_before = exploring.panel(), plt.get_fignums()  # by other tests
    assert not any(slider.continuous_update for slider in panel.kwargs_widgets)
    pictures = set()
    for slider, value in zip(panel.kwargs_widgets, (4, 3, 2), strict=True):
        slider.value = value
        words, picture = re.fullmatch(
            '<p>(.*)</p><img src="data:image/png;base64,(.*)" width="576" style=".*">', panel.result
        ).groups()
        pictures.add(picture)
        assert b64decode(picture).startswith(b"\x89PNG")
    assert words.startswith("Row 3, column 2: nine pixels, 4 apart, in a square of 9×9.")
    assert picture.endswith('" alt="Row 3, column 2')
    assert len(pictures) == 3
    assert plt.get_fignums() == open_before


def test_pixels_of_any_type_make_an_image(sample):
    image = sample.train.images[0]
    for same in (image.half().requires_grad_(), image.double().numpy()):
        _, words = widgets.explore_dilation(same).draw()
        assert words.startswith("Row 14, column 14: nine pixels")
    plt.close("all")


def test_images_and_answers_that_do_not_fit_are_refused(answers):
    images, labels, probabilities = answers
    for wrong, found in (
        (images[0, 0], r"is \(28, 28\)"),
        (images[0] * 255, "pixels from 0 to 255"),
        (images[0] * np.nan, "pixels from nan to nan"),
    ):
        with pytest.raises(ValueError, match=rf"{found}.*expected \(1, H, W\) with pixels from 0"):
            widgets.explore_dilation(wrong)
    with pytest.raises(ValueError, match=r"number of images is 3, expected \d+"):
        widgets.browse_mistakes(images[:3], labels, probabilities)
    with pytest.raises(ValueError, match="if these are logits, take their softmax"):
        widgets.browse_mistakes(images, labels, 9 * probabilities)
    with pytest.raises(ValueError, match=r"expected \(N, 3\) numbers"):
        widgets.browse_mistakes(images, labels, probabilities, ("bat", "cat", "rat"))
