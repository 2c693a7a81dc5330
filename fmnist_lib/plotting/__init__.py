"""Every figure of the course: functions that draw their arguments and compute nothing.

Each returns the Axes that it drew on, or the Figure where there can be several. Colours are
seaborn's ``colorblind`` palette and matplotlib's perceptually uniform maps. ``images`` draws images
and what is laid over them, ``curves`` one quantity against another, ``comparisons`` classes, models
and settings side by side.
"""

from fmnist_lib.plotting.comparisons import (
    bars,
    class_lines,
    confusion_heatmap,
    embedding,
    intervals,
    pixel_histograms,
    speeds,
    strips,
)
from fmnist_lib.plotting.curves import (
    accuracy_over_time,
    reliability_diagram,
    robustness_curves,
    sweep_curves,
    training_curves,
)
from fmnist_lib.plotting.images import (
    compared_predictions,
    heat_maps,
    image_channels,
    image_grid,
    image_pairs,
    kernel_footprints,
    kernel_on_image,
    mistakes,
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
    "image_pairs",
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
