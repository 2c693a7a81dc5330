"""Every figure of the course: functions that draw what they are given and compute nothing.

Each returns the Axes or the Figure that it drew on. Colours are seaborn's ``colorblind`` palette
and matplotlib's perceptually uniform maps. ``images`` draws images and what is laid over them,
``results`` what came out of a training, ``evidence`` how far it can be trusted.
"""

from fmnist_lib.plotting.evidence import (
    compared_predictions,
    reliability_diagram,
    robustness_curves,
    strips,
    sweep_curves,
)
from fmnist_lib.plotting.images import (
    embedding,
    heat_maps,
    image_channels,
    image_grid,
    kernel_footprints,
    kernel_on_image,
    pixel_histograms,
)
from fmnist_lib.plotting.results import (
    accuracy_over_time,
    bars,
    class_lines,
    confusion_heatmap,
    intervals,
    mistakes,
    speeds,
    training_curves,
)

__all__ = [
    "accuracy_over_time",
    "bars",
    "class_lines",
    "compared_predictions",
    "confusion_heatmap",
    "embedding",
    "heat_maps",
    "image_channels",
    "image_grid",
    "intervals",
    "kernel_footprints",
    "kernel_on_image",
    "mistakes",
    "pixel_histograms",
    "reliability_diagram",
    "robustness_curves",
    "speeds",
    "strips",
    "sweep_curves",
    "training_curves",
]
