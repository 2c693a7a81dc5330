"""Looks that answer: figures with controls, for a reader who has JupyterLab before them."""

import io
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch.nn.functional import conv2d

from fmnist_lib.data import CLASS_NAMES
from fmnist_lib.evaluation import confusion_matrix, worst_confusions
from fmnist_lib.evaluation.checks import checked_probabilities
from fmnist_lib.plotting import kernel_on_image, mistakes
from fmnist_lib.progress import in_notebook

MOST_IMAGES = 12
LARGEST_DILATION = 4
DPI = 144
LINE = 76  # characters


@dataclass(frozen=True)
class Look:
    """A figure with controls, to stand in the last line of a cell.

    Where nobody can answer, it shows a sentence instead: papermill, nbconvert and nbval execute
    chapters, and a widget would be dead in what they save.

    Attributes
    ----------
    sentence : str
        What one could do here, for readers without a kernel.
    make_controls : callable
        Makes the controls, a dict of ipywidgets.
    draw : callable
        From the values of the controls, by name, to a Figure (or None, where there is nothing to
        draw) and a text that says what can be seen; up to its first colon, what the figure is of.
    """

    sentence: str
    make_controls: Callable
    draw: Callable

    def __repr__(self):
        return fill(self.sentence, LINE)  # pages show it as it is, without breaking lines

    def _repr_mimebundle_(self, include=None, exclude=None):
        words = {"text/plain": repr(self)}
        return self.panel()._repr_mimebundle_() | words if _somebody_is_there() else words

    def panel(self):
        """Make the controls, and below them a text and a figure that follow them.

        Returns
        -------
        ipywidgets.VBox
        """
        widgets, controls = _ipywidgets(), self.make_controls()
        # An image widget has no alternative text; HTML has. Apart from the text, since a screen
        # reader is to say only that again.
        text, picture = widgets.HTML(), widgets.HTML()

        def follow(change=None):
            values = {name: control.value for name, control in controls.items()}
            try:
                figure, words = self.draw(**values)
                drawn = _picture(figure, words.partition(":")[0]) if figure else ""
            except Exception as error:  # or the old picture would stand beside the new values
                words, drawn = f"This cannot be drawn: {str(error) or type(error).__name__}", ""
            text.value, picture.value = f'<p role="status">{escape(words)}</p>', drawn

        for control in controls.values():
            control.observe(follow, "value")
        follow()
        return widgets.VBox([*controls.values(), text, picture])


def browse_mistakes(images, labels, probabilities):
    """Let a reader choose a true and a predicted class, and look at the images of that pair.

    Parameters
    ----------
    images : Tensor, (N, 1, 28, 28)
    labels : array of int, (N,)
    probabilities : ndarray, (N, 10)

    Returns
    -------
    Look
        It begins with the most frequent confusion, if there is any. Of many images it shows the
        twelve that were predicted with the highest probability.

    Raises
    ------
    ValueError
        If there is not one image for each label, or the probabilities are none.
    ModuleNotFoundError
        If the package ``ipywidgets`` is not installed.
    """
    widgets = _ipywidgets()
    labels, probabilities = checked_probabilities(labels, probabilities)
    if len(images) != len(labels):
        raise ValueError(
            f"there are {len(images)} images and {len(labels)} labels, expected one label for each "
            "image"
        )
    predicted = probabilities.argmax(axis=1)
    worst = worst_confusions(confusion_matrix(labels, predicted), n=1)
    # Without a mistake there is no pair to begin with, and that is what the first two classes say.
    first = CLASS_NAMES[:2] if worst.empty else worst.loc[0, ["true", "predicted"]]

    def make_controls():
        menus = zip(("true", "guess"), ("True class", "Predicted"), first, strict=True)
        return {
            name: widgets.Dropdown(options=CLASS_NAMES, value=value, description=description)
            for name, description, value in menus
        }

    def draw(true, guess):
        k = CLASS_NAMES.index(guess)
        cell = np.flatnonzero((labels == CLASS_NAMES.index(true)) & (predicted == k))
        if len(cell) == 0:
            words = f"No image of the class {true} was called {guess}."
            return None, f"No image was mistaken. {words}" if worst.empty else words
        shown = cell[np.argsort(-probabilities[cell, k], kind="stable")][:MOST_IMAGES]
        words = f"Images of the class {true} that were called {guess}: {len(cell)}."
        if len(shown) < len(cell):
            words += f" Here are the {len(shown)} with the highest probability."
        return mistakes(images[shown], labels[shown], probabilities[shown]), words

    sentence = (
        "In JupyterLab, two menus here choose a true and a predicted class, and show the images of "
        "that pair with their probabilities."
    )
    return Look(sentence, make_controls, draw)


def slide_dilation(image):
    """Let a reader spread a 3×3 kernel and move it over an image.

    All nine weights are 1/9, so that each number of the output is a mean. Pixels outside the image
    count as 0, so that the output is as large as the image.

    Parameters
    ----------
    image : Tensor or ndarray, (1, H, W), numbers in [0, 1]

    Returns
    -------
    Look

    Raises
    ------
    ValueError
        If the image has another shape, or numbers beyond 0 and 1.
    ModuleNotFoundError
        If the package ``ipywidgets`` is not installed.
    """
    widgets = _ipywidgets()
    image = torch.as_tensor(image).detach().cpu().float()
    if image.ndim != 3 or len(image) != 1 or image.numel() == 0:
        raise ValueError(f"the image is {tuple(image.shape)}, expected (1, H, W): one channel")
    if not ((image >= 0) & (image <= 1)).all():  # so that a NaN fails as well
        raise ValueError(
            f"the image's pixels go from {image.min():g} to {image.max():g}, expected numbers from "
            "0 to 1; divide pixels of whole numbers up to 255 by 255"
        )
    _, height, width = image.shape
    weights = torch.full((1, 1, 3, 3), 1 / 9)
    outputs = {
        d: conv2d(image[None], weights, padding=d, dilation=d)[0, 0]
        for d in range(1, LARGEST_DILATION + 1)
    }

    def make_controls():
        # Each slider: its range, and the value that it begins with.
        sliders = {
            "dilation": (1, LARGEST_DILATION, 2),
            "row": (0, height - 1, height // 2),
            "column": (0, width - 1, width // 2),
        }
        return {
            # Drawn when the slider rests: every step on the way would lag behind the hand.
            name: widgets.IntSlider(
                value, low, high, description=name.capitalize(), continuous_update=False
            )
            for name, (low, high, value) in sliders.items()
        }

    def draw(dilation, row, column):
        rows, columns = (at + dilation * np.arange(-1, 2) for at in (row, column))
        read = np.isin(rows, range(height)).sum() * np.isin(columns, range(width)).sum()
        words = (
            f"Row {row}, column {column}: nine pixels, {dilation} apart, in a square of "
            f"{2 * dilation + 1}×{2 * dilation + 1}. Their mean, "
            f"{outputs[dilation][row, column]:.2f}, is the output's number at that place."
        )
        if read < 9:
            words += f" Of the nine, {9 - read} lie outside the image and count as 0."
        place = (row, column)
        return kernel_on_image(image[0], outputs[dilation], place, dilation), words

    sentence = (
        "In JupyterLab, three sliders here spread a 3×3 kernel and move it over an image, and show "
        "the nine pixels that it reads and the number that it makes of them."
    )
    return Look(sentence, make_controls, draw)


def _ipywidgets():
    try:
        import ipywidgets
    except ImportError:
        raise ModuleNotFoundError(
            "figures with controls need the package ipywidgets, which is not installed; run "
            "'pip install ipywidgets'"
        ) from None
    return ipywidgets


def _somebody_is_there():
    """Tell whether the running cell came from a front end that could also answer ``input()``."""
    if not in_notebook():
        return False
    from IPython import get_ipython

    return bool(get_ipython().kernel.get_parent()["content"].get("allow_stdin"))


def _picture(figure, words):
    file = io.BytesIO()
    try:
        figure.savefig(file, format="png", dpi=DPI)
    finally:
        plt.close(figure)  # or the notebook would show it a second time
    png = b64encode(file.getvalue()).decode()
    width = round(figure.get_figwidth() * DPI / 2)  # two dots a pixel are sharp on any screen
    return (
        f'<img src="data:image/png;base64,{png}" alt="{escape(words)}" width="{width}" '
        'style="max-width:100%">'
    )
