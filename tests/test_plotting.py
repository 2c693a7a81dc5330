"""Figures are looked at by people; here, that each shows the data it was given."""

import ast
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import seaborn as sns
import torch

from fmnist_lib import plotting
from fmnist_lib.data import CLASS_NAMES, Split
from fmnist_lib.evaluation import class_report, confusion_matrix, reliability


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def texts(ax):
    return [text.get_text() for text in ax.texts]


def titles(figure):
    return [ax.get_title() for ax in figure.axes]


def test_image_grid_shows_each_image_with_its_title(sample):
    images = sample.train.images[:10]
    figure = plotting.image_grid(images, [str(i) for i in range(10)], columns=4)
    assert titles(figure) == [*map(str, range(10)), "", ""]
    for ax, image in zip(figure.axes[:10], images, strict=True):
        assert np.array_equal(ax.images[0].get_array(), image[0])


def test_a_symmetric_grid_has_zero_in_the_middle():
    figure = plotting.image_grid(np.array([[[-1.0, 3.0]], [[0.0, 1.0]]]), symmetric=True)
    assert [ax.images[0].get_clim() for ax in figure.axes] == [(-3, 3), (-3, 3)]


def test_pairs_show_two_images_and_both_classes(sample):
    left, right = sample.train[:8], sample.train[8:16]
    figure = plotting.image_pairs(left, right)
    for k, ax in enumerate(figure.axes):
        names = [CLASS_NAMES[split.labels[k]] for split in (left, right)]
        assert ax.get_title() == " · ".join(names)
        assert np.array_equal(ax.images[0].get_array()[:, :28], left.images[k, 0])
        assert np.array_equal(ax.images[0].get_array()[:, 28:], right.images[k, 0])


def test_images_keep_their_size_and_shape_whatever_their_number(sample):
    widths = []
    for n in (1, 3, 12):
        figure = plotting.image_grid(sample.train.images[:n], columns=6)
        figure.draw_without_rendering()
        widths.append(figure.axes[0].get_window_extent().width)
    assert widths == pytest.approx([widths[0]] * 3, rel=0.05)
    width, height = plotting.image_grid(np.zeros((8, 28, 56)), columns=4).get_size_inches()
    assert width == pytest.approx(4 * height)


def test_training_curves_show_the_history_and_the_best_epoch():
    columns = {"train_loss": [3, 2, 1], "val_loss": [4, 3, 2], "train_acc": [0.1, 0.2, 0.3]}
    history = pd.DataFrame({"epoch": [1, 2, 3], **columns, "val_acc": [0.2, 0.4, 0.3]})
    figure = plotting.training_curves(history, best_epoch=2)
    for ax, kind in zip(figure.axes, ("loss", "acc"), strict=True):
        train, validation, best = ax.lines
        assert train.get_ydata().tolist() == history[f"train_{kind}"].tolist()
        assert validation.get_ydata().tolist() == history[f"val_{kind}"].tolist()
        assert list(best.get_xdata()) == [2, 2]
        assert ax.get_xlabel() == "epoch"
        assert ax.get_legend_handles_labels()[1] == ["training", "validation", "best epoch: 2"]


def test_the_confusion_heat_map_is_annotated():
    confusion = confusion_matrix([0, 0, 6], [0, 6, 6])
    ax = plotting.confusion_heatmap(confusion)
    mistakes, right = texts(ax)[:90], texts(ax)[90:]
    assert mistakes == [str(n) for n in confusion.to_numpy()[~np.eye(10, dtype=bool)]]
    assert right == [str(n) for n in np.diag(confusion)]
    assert ax.collections[0].get_clim() == (0, 1)  # of the mistakes alone
    assert [label.get_text() for label in ax.get_yticklabels()] == list(CLASS_NAMES)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted class", "true class")
    ax = plotting.confusion_heatmap(-confusion, difference=True)
    assert texts(ax)[0] == "-1"
    assert ax.collections[0].get_clim() == (-1, 1)


def test_mistakes_and_comparisons_name_the_classes(sample):
    images, labels, probabilities = sample.test.images[:2], [0, 2], np.full((2, 10), 0.02)
    probabilities[0, 6], probabilities[1, 4] = 0.82, 0.82
    figure = plotting.mistakes(images, labels, probabilities)
    assert titles(figure) == ["T-shirt\n→ Shirt (0.82)", "Pullover\n→ Coat (0.82)"]
    both = {"a": probabilities, "b": np.eye(10)[labels]}
    figure = plotting.compared_predictions(images, labels, both)
    assert titles(figure) == ["T-shirt\na: Shirt\nb: T-shirt", "Pullover\na: Coat\nb: Pullover"]


NAMES = ("bat", "cat", "rat")
"""Of the classes of another data set."""


def test_other_classes_have_names_of_their_own(sample):
    images, labels, probabilities = sample.test.images[:3], [0, 1, 2], np.eye(3)[[0, 2, 1]]
    figure = plotting.mistakes(images, labels, probabilities, NAMES)
    assert titles(figure) == ["bat\n→ bat (1.00)", "cat\n→ rat (1.00)", "rat\n→ cat (1.00)"]
    figure = plotting.compared_predictions(images, labels, {"a": probabilities}, NAMES)
    assert titles(figure) == ["bat\na: bat", "cat\na: rat", "rat\na: cat"]
    bats, shirts = (Split(images, torch.tensor(labels), names) for names in (NAMES, CLASS_NAMES))
    pairs = ["bat · T-shirt", "cat · Trouser", "rat · Pullover"]
    assert titles(plotting.image_pairs(bats, shirts)) == pairs
    figure = plotting.pixel_histograms(images, labels, (*NAMES, "a", "b", "none of these"))
    assert titles(figure) == [*NAMES, "a", "b", "none of these", "", "", "", ""]
    assert [ax.axison for ax in figure.axes] == [True] * 6 + [False] * 4
    assert {patch.get_height() for patch in figure.axes[5].patches} == {0}
    ax = plotting.confusion_heatmap(confusion_matrix(labels, [0, 2, 1], NAMES))
    assert [label.get_text() for label in ax.get_yticklabels()] == list(NAMES)


def test_pixel_histograms_leave_zeros_out(sample):
    figure = plotting.pixel_histograms(sample.train.images, sample.train.labels)
    assert titles(figure) == list(CLASS_NAMES)
    pixels = sample.train.images[sample.train.labels == 3].numpy().ravel()
    expected, _ = np.histogram(pixels[pixels > 0], bins=32, range=(0, 1), density=True)
    heights = [patch.get_height() for patch in figure.axes[3].patches]
    assert np.allclose(heights, expected)


def test_the_embedding_tells_classes_apart_by_marker_and_colour():
    ax = plotting.embedding(np.arange(40.0).reshape(20, 2), np.arange(20) % 10)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(CLASS_NAMES)
    colors = {tuple(points.get_facecolor()[0][:3]) for points in ax.collections}
    shapes = {str(points.get_paths()[0].vertices.tolist()) for points in ax.collections}
    assert len(colors) == len(shapes) == 10
    assert ax.collections[3].get_offsets().tolist() == [[6, 7], [26, 27]]
    many = plotting.embedding(np.zeros((26, 2)), range(26), [str(k) for k in range(26)])
    looks = {
        (tuple(dots.get_facecolor()[0]), str(dots.get_paths()[0].vertices.tolist()))
        for dots in many.collections
    }
    assert len(looks) == 26


@pytest.mark.parametrize(
    ("kernel_size", "dilation", "reach", "side"),
    [(3, 1, 3, 9), (3, 2, 5, 9), (2, 4, 5, 9), (3, 5, 11, 11), (5, 3, 13, 13), (9, 3, 25, 25)],
)
def test_kernel_footprints(kernel_size, dilation, reach, side):
    figure = plotting.kernel_footprints(kernel_size, [1, dilation])
    patches = [ax.collections[0].get_array() for ax in figure.axes]
    assert [patch.shape for patch in patches] == [(side, side)] * 2
    patch = patches[1]
    rows = np.flatnonzero(patch.any(axis=1))
    assert patch.sum() == kernel_size**2
    assert rows[-1] - rows[0] + 1 == reach
    assert set(np.diff(rows)) == {dilation}
    assert figure.axes[1].get_xlabel() == f"{kernel_size**2} weights on {reach}×{reach} pixels"


@pytest.mark.parametrize(
    ("kernel_size", "dilations", "found"),
    [(0, [1], "kernel_size is 0"), (3, [1, 0], "dilation is 0"), (3, [], r"dilations is \[\]")],
)
def test_kernels_without_a_footprint_are_refused(kernel_size, dilations, found):
    with pytest.raises(ValueError, match=found):
        plotting.kernel_footprints(kernel_size, dilations)


def test_a_kernel_on_an_image_marks_what_it_reads_and_what_it_makes():
    image, output = np.zeros((28, 28)), np.full((28, 28), 0.25)
    figure = plotting.kernel_on_image(image, output, place=(5, 20), dilation=2)
    left, right = figure.axes
    *read, span = left.patches
    assert {(p.get_y() + 0.5, p.get_x() + 0.5) for p in read} == {
        (row, column) for row in (3, 5, 7) for column in (18, 20, 22)
    }
    assert (*span.get_xy(), span.get_width(), span.get_height()) == (17.5, 2.5, 5, 5)
    assert [p.get_xy() for p in right.patches] == [(19.5, 4.5)]
    assert titles(figure) == ["dilation 2: 9 of 5×5 pixels", "output: 0.25 at the marked place"]


def test_maps_and_channels_share_limits_and_missing_channels_stay_empty():
    figure = plotting.heat_maps([np.eye(3), 4 * np.eye(3)], ["a", "b"], "gradient")
    assert [ax.images[0].get_clim() for ax in figure.axes[:2]] == [(0, 4), (0, 4)]
    rows = [np.ones((3, 4, 4)), np.ones((1, 4, 4))]
    figure = plotting.image_channels(rows, ["a", "b"], limits=(0, 2))
    assert [len(ax.images) for ax in figure.axes] == [1, 1, 1, 1, 0, 0]
    assert {ax.images[0].get_clim() for ax in figure.axes if ax.images} == {(0, 2)}


def test_bars_intervals_and_lines_show_their_values():
    ax = plotting.bars([0.25, 0.5], ["a", "b"], "share", fmt="{:.2f}")
    assert texts(ax) == ["0.25", "0.50"]
    assert [bar.get_width() for bar in ax.patches] == [0.25, 0.5]
    table = pd.DataFrame({"value": [0.9], "low": [0.88], "high": [0.91]}, index=["cnn"])
    (segments,) = plotting.intervals(table, "accuracy").containers[0].lines[2][0].get_segments()
    assert np.allclose(segments[:, 0], [0.88, 0.91])
    # Things of one name, such as two layers, have a place each.
    ax = plotting.bars([1, 2], ["ReLU", "ReLU"], "n")
    assert [bar.get_y() for bar in ax.patches] == [-0.4, 0.6]
    twice = plotting.intervals(pd.concat([table, table]), "accuracy")
    assert [label.get_text() for label in twice.get_yticklabels()] == ["cnn", "cnn"]
    assert twice.lines[0].get_ydata().tolist() == [0, 1]
    report = class_report(range(10), [0, *range(9)])
    lines = plotting.class_lines({"one": report, "two": report}, "f1", "F1").lines
    assert [line.get_xdata().tolist() for line in lines] == [report["f1"].tolist()] * 2
    assert len({line.get_marker() for line in lines}) == 2
    history = pd.DataFrame({"seconds": [1.0, 2.0], "val_acc": [0.5, 0.6]})
    ax = plotting.accuracy_over_time({"one": history, "two": history.assign(val_acc=0.7)})
    assert [line.get_ydata().tolist() for line in ax.lines] == [[0.5, 0.6], [0.7, 0.7]]


def test_speeds_draws_medians_spreads_and_the_floor():
    table = pd.DataFrame(
        {"seconds": [4.0, 2.0], "lowest": [3.5, 1.0], "highest": [6.0, 2.5], "speed": [1.0, 2.0]},
        index=["slow", "quick"],
    )
    ax = plotting.speeds(table, floor=0.5)
    assert [bar.get_width() for bar in ax.patches] == [4.0, 2.0]
    segments = ax.containers[0].lines[2][0].get_segments()
    assert np.allclose([segment[:, 0] for segment in segments], [[3.5, 6.0], [1.0, 2.5]])
    assert [text.get_text().strip() for text in ax.texts] == ["1.0×", "2.0×"]
    assert ax.lines[-1].get_xdata()[0] == 0.5
    # A single slow repeat is cut off, and the numbers stay inside the axes.
    assert ax.get_xlim()[1] == pytest.approx(1.3 * 4)
    assert all(text.get_position()[0] < 5 for text in ax.texts)


def test_strips_show_every_value_and_the_mean():
    ax = plotting.strips({"one": [0.1, 0.3], "two": [0.5]}, "accuracy")
    assert [line.get_xdata().tolist() for line in ax.lines] == [[0.1, 0.3], [0.5]]
    means = [lines.get_segments()[0][0, 0] for lines in ax.collections]
    assert means == pytest.approx([0.2, 0.5])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["one", "two"]


def test_the_reliability_diagram_shows_its_tables():
    labels, probabilities = [0, 1, 2], np.eye(10)[[0, 1, 3]] * 0.9 + 0.01
    table = reliability(labels, probabilities)
    figure = plotting.reliability_diagram({"one": table, "two": table})
    left, right = figure.axes
    diagonal, first, second = left.lines
    assert diagonal.get_xdata().tolist() == diagonal.get_ydata().tolist()
    assert first.get_xdata().tolist() == table["confidence"].tolist()
    assert first.get_ydata().tolist() == table["accuracy"].tolist()
    assert right.lines[0].get_ydata().tolist() == table["images"].tolist()
    assert first.get_marker() != second.get_marker()


def test_robustness_curves_have_a_panel_for_each_kind():
    rows = [
        ("blur", 0, 0, 0.9),
        ("blur", 1, 0.5, 0.8),
        ("noise", 0, 0, 0.9),
        ("noise", 1, 0.1, 0.7),
    ]
    table = pd.DataFrame(rows, columns=["corruption", "strength", "value", "cnn"])
    figure = plotting.robustness_curves(table, {"blur": "pixels", "noise": "deviation"})
    blur, noise = figure.axes[:2]
    assert (blur.get_title(), blur.get_xlabel()) == ("blur", "pixels")
    assert noise.lines[0].get_xdata().tolist() == [0.0, 0.1]
    assert noise.lines[0].get_ydata().tolist() == [0.9, 0.7]


IMAGES, EYE = np.zeros((2, 1, 28, 28)), np.eye(10)[:2]
SPLIT = Split(torch.zeros(2, 1, 28, 28), torch.tensor([0, 1]))
TABLE = pd.DataFrame({"low": [1.0], "seconds": [2.0], "epoch": [1]})


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: plotting.image_grid(IMAGES[:0]), r"images are \(0, 1, 28, 28\), expected"),
        (lambda: plotting.image_grid(IMAGES[0, 0]), r"images are \(28, 28\), expected"),
        (lambda: plotting.image_grid(np.zeros((2, 3, 8, 8))), r"images are \(2, 3, 8, 8\)"),
        (lambda: plotting.image_grid(IMAGES, ["a"]), "titles is 1, expected 2: one for each image"),
        (lambda: plotting.image_grid(IMAGES, columns=0), "columns is 0, expected"),
        (lambda: plotting.image_pairs(SPLIT, SPLIT[:1]), "is 1, expected 2: one for each image"),
        (lambda: plotting.image_channels([], []), "expected at least one array"),
        (lambda: plotting.image_channels([IMAGES], ["a"]), r"rows are \[\(2, 1, 28, 28\)\]"),
        (lambda: plotting.image_channels([IMAGES[0]], []), "is 0, expected 1: one for each row"),
        (lambda: plotting.mistakes(IMAGES, [-1, 0], EYE), "labels go from -1 to 0, expected"),
        (lambda: plotting.mistakes(IMAGES, [0, 10], EYE), "labels go from 0 to 10, expected"),
        (lambda: plotting.mistakes(IMAGES, [0], EYE), r"labels are \(1,\) int64, expected \(2,\)"),
        (lambda: plotting.mistakes(IMAGES, [0, 1], EYE * 5), "take their softmax"),
        (lambda: plotting.mistakes(IMAGES, [0, 1], EYE, NAMES), r"expected \(N, 3\) numbers"),
        (
            lambda: plotting.mistakes(IMAGES[:1], [0, 1], EYE),
            "images is 1, expected 2: one",
        ),
        (lambda: plotting.compared_predictions(IMAGES, [0, 10], {}), "from 0 to 10, expected"),
        (
            lambda: plotting.compared_predictions(IMAGES, [0, 1], {"a": EYE[:1]}),
            "is 1, expected 2: one for each image",
        ),
        (lambda: plotting.compared_predictions(IMAGES, [0, 1], {"a": -EYE}), "their softmax"),
        (
            lambda: plotting.kernel_on_image(EYE, EYE, (2, 0), 1),
            "row is 2, expected .* from 0 to 1",
        ),
        (
            lambda: plotting.kernel_on_image(EYE, EYE, (0, -1), 1),
            "column is -1, expected .* from 0 to 9",
        ),
        (lambda: plotting.kernel_on_image(EYE, EYE, (0, 0), 0), "dilation is 0, expected"),
        (lambda: plotting.heat_maps([], [], "x"), "number of maps is 0, expected"),
        (lambda: plotting.heat_maps([EYE], ["a", "b"], "x"), "is 2, expected 1: one for each map"),
        (lambda: plotting.bars([1, 2], ["a"], "x"), "is 1, expected 2: one for each bar"),
        (lambda: plotting.confusion_heatmap(EYE), "confusion is a ndarray"),
        (lambda: plotting.pixel_histograms(IMAGES, [0, 10]), "labels go from 0 to 10, expected"),
        (lambda: plotting.embedding(EYE[:, :2], [0, 10]), "labels go from 0 to 10, expected"),
        (lambda: plotting.embedding(EYE, [0, 1]), r"points are \(2, 10\), expected \(N, 2\)"),
        (lambda: plotting.intervals(TABLE, "x"), "no column 'value'; it has low, seconds, epoch"),
        (lambda: plotting.class_lines({"a": TABLE}, "lo", "x"), "no column 'lo'; did you mean low"),
        (lambda: plotting.speeds(TABLE), "no column 'lowest'"),
        (lambda: plotting.training_curves(TABLE), "no column 'train_loss'"),
        (lambda: plotting.accuracy_over_time({"a": TABLE}), "no column 'val_acc'"),
        (lambda: plotting.reliability_diagram({"a": TABLE}), "no column 'confidence'"),
        (lambda: plotting.robustness_curves(TABLE, {}), "no column 'corruption'"),
        (lambda: plotting.sweep_curves(TABLE, "low", "y"), "no column 'y'"),
        (lambda: plotting.sweep_curves(TABLE, "low", "epoch", "z"), "no column 'z'"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_a_sentence(draw, words):
    with pytest.raises(ValueError, match=words):
        draw()


def constants(*names):
    """Find the constants that the code of the figures gives to arguments of some names."""
    for path in Path(plotting.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            given = [node.value] if isinstance(node, ast.keyword) and node.arg in names else []
            if isinstance(node, ast.FunctionDef):
                defaults = zip(node.args.args[::-1], node.args.defaults[::-1], strict=False)
                given = [value for argument, value in defaults if argument.arg in names]
            inside = [part for value in given for part in ast.walk(value)]
            yield from (part.value for part in inside if isinstance(part, ast.Constant))


def test_colours_named_in_the_code_are_greys():
    shades = set(constants("color", "c", "ec", "edgecolor", "ecolor", "facecolor"))
    assert shades
    assert all(0 <= float(shade) <= 1 for shade in shades)
    looks = {look.color for look in plotting.style.LOOKS} - shades
    assert looks <= set(sns.color_palette("colorblind"))


@pytest.mark.parametrize("name", sorted(set(constants("cmap"))))
def test_colour_maps_can_be_read_by_their_lightness_alone(name):
    red, green, blue, _ = plt.get_cmap(name)(np.linspace(0, 1, 101)).T
    lightness = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
    turns = np.diff(np.sign(np.diff(lightness))).nonzero()[0] + 1
    # One for differences is lightest in the middle; the others only rise or fall.
    assert turns.tolist() == ([50] if name == "PuOr" else [])
