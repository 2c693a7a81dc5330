"""Figures with controls, for a reader who runs a chapter in JupyterLab."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from html import escape
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch.nn.functional import conv2d

from fmnist_lib.data import CLASS_NAMES
from fmnist_lib.evaluation import confusion_matrix, worst_confusions
from fmnist_lib.inputs import checked_class_names, checked_labels, checked_probabilities
from fmnist_lib.plotting import kernel_on_image, mistakes
from fmnist_lib.plotting.style import check_one_each

MOST_IMAGES = 12
LARGEST_DILATION = 4
DPI = 144


@dataclass(frozen=True)
class InteractiveFigure:
    """A figure with controls, for the last line of a cell.

    Without a front end it shows a sentence instead: papermill, nbconvert and nbval execute
    chapters, and a widget would be dead in the files that they save.

    Attributes
    ----------
    sentence : str
        What the controls would do, for readers without a kernel.
    draw : callable
        Takes the values of the controls, with the first ones as defaults, and returns a Figure (or
        None) and a text that describes it; up to its first colon, that is the alternative text.
    controls : dict of str to list or tuple
        The choices for each parameter of ``draw``, as ``ipywidgets.interactive`` takes them.
    """

    sentence: str
    draw: Callable
    controls: dict

    def __repr__(self):
        return fill(self.sentence, 76)  # pages show it as it is, without breaking lines

    def _repr_mimebundle_(self, include=None, exclude=None):
        words = {"text/plain": repr(self)}
        return self.panel()._repr_mimebundle_() | words if _has_frontend() else words

    def panel(self):
        """Make the controls, and below them the text and the figure, which follow the controls."""
        from IPython.display import HTML, display
        from ipywidgets import interactive

        @wraps(self.draw)
        def show(**values):
            figure, words = self.draw(**values)
            image = _image_tag(figure, words.partition(":")[0]) if figure else ""
            display(shown := HTML(f"<p>{escape(words)}</p>{image}"))
            return shown.data

        panel = interactive(show, **self.controls)
        for control in panel.kwargs_widgets:
            # Draw only when a slider rests: drawing every step would lag behind the hand.
            control.continuous_update = False
        return panel


def browse_mistakes(images, labels, probabilities, class_names=CLASS_NAMES):
    """Let a reader choose a true and a predicted class, and look at the images of that pair.

    Parameters
    ----------
    images : Tensor, (N, 1, 28, 28)
    labels : array of int, (N,)
    probabilities : array, (N, C)
    class_names : sequence of str, (C,)

    Returns
    -------
    InteractiveFigure
        It starts with the most frequent confusion, if there is one. It shows up to twelve images,
        those predicted with the highest probability.
    """
    class_names = list(checked_class_names(class_names))
    probabilities = checked_probabilities(probabilities, len(class_names))
    labels = checked_labels(labels, *probabilities.shape)
    check_one_each("images", images, len(labels), "label")
    called = probabilities.argmax(axis=1)
    worst = worst_confusions(confusion_matrix(labels, called, class_names), n=1)
    first, second = class_names[:2] if worst.empty else worst.loc[0, ["true", "predicted"]]

    def draw(true=first, predicted=second):
        k = class_names.index(predicted)
        cell = np.flatnonzero((labels == class_names.index(true)) & (called == k))
        if len(cell) == 0:
            return None, f"No image of the class {true} was called {predicted}."
        shown = cell[np.argsort(-probabilities[cell, k], kind="stable")][:MOST_IMAGES]
        words = f"Images of the class {true} that were called {predicted}: {len(cell)}."
        if len(shown) < len(cell):
            words += f" Here are the {len(shown)} with the highest probability."
        some = (of_all[shown] for of_all in (images, labels, probabilities))
        return mistakes(*some, class_names), words

    sentence = (
        "In JupyterLab, two menus here choose a true and a predicted class, and show the images of "
        "that pair with their probabilities."
    )
    return InteractiveFigure(sentence, draw, {"true": class_names, "predicted": class_names})


def explore_dilation(image):
    """Let a reader dilate a 3×3 kernel and move it over an image.

    All nine weights are 1/9, so that each number of the output is a mean. Pixels outside the image
    count as 0, so that the output is as large as the image.

    Parameters
    ----------
    image : Tensor or ndarray, (1, H, W), numbers in [0, 1]
    """
    image = torch.as_tensor(image).detach().cpu().float()
    if image.ndim != 3 or len(image) != 1 or not ((image >= 0) & (image <= 1)).all():
        raise ValueError(
            f"the image is {tuple(image.shape)} with pixels from {image.min():g} to "
            f"{image.max():g}, expected (1, H, W) with pixels from 0 to 1"
        )
    _, height, width = image.shape
    weights = torch.full((1, 1, 3, 3), 1 / 9)
    outputs = {
        d: conv2d(image[None], weights, padding=d, dilation=d)[0, 0]
        for d in range(1, LARGEST_DILATION + 1)
    }

    def draw(dilation=2, row=height // 2, column=width // 2):
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
    controls = {"dilation": (1, LARGEST_DILATION), "row": (0, height - 1), "column": (0, width - 1)}
    return InteractiveFigure(sentence, draw, controls)


def _has_frontend():
    """Tell whether the running cell came from a front end, which could also answer ``input()``."""
    from IPython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    return bool(kernel and kernel.get_parent()["content"].get("allow_stdin"))


def _image_tag(figure, alt):
    # As HTML, since an image in an output has no alternative text.
    from IPython.core.pylabtools import print_figure

    png = print_figure(figure, bbox_inches=None, base64=True, dpi=DPI)
    plt.close(figure)  # or the notebook would show it a second time
    width = round(figure.get_figwidth() * DPI / 2)  # two dots per pixel are sharp on any screen
    source = f"data:image/png;base64,{png}"
    return f'<img src="{source}" alt="{escape(alt)}" width="{width}" style="max-width:100%">'
