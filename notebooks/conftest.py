"""Compare the chapters' figures under ``pytest --nbval``, which compares no pictures.

A cell's tag says what its figures may differ in from the committed ones:

=================  =====================================================================
(no tag)           nothing: each pixel is the same
``figure-curves``  measured values, slightly; the words around the axes are the same
``figure-maps``    measured values that colours show, by more; the words are the same
``figure-words``   values of any size; the words are the same
``figure-images``  everything but its size: a network chose the images and their titles
=================  =====================================================================

A figure that is missing, extra, blank, or of a different size fails whatever its tag.
It is then kept next to the expected one in ``runs/figures``.

With ``-n 2`` (pytest-xdist), two notebooks run at a time.
"""

import base64
import io
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
import pytest
from nbval.plugin import IPyNbCell, NbCellError
from PIL import Image
from scipy import ndimage

BLUR = 32  # pixels, the standard deviation of a Gaussian; an inch has 200


class Tolerance(NamedTuple):
    """How far a figure may be from the committed one."""

    size: float  # relative difference in width or height: tick labels move the edges
    colour: float  # largest difference of a channel, 0 to 1, anywhere, once blurred
    words: bool  # whether the words around the axes must be the same


KINDS = {
    "figure-curves": Tolerance(size=0.02, colour=0.05, words=True),
    "figure-maps": Tolerance(size=0.04, colour=0.3, words=True),
    "figure-words": Tolerance(size=0.02, colour=1, words=True),
    "figure-images": Tolerance(size=0.04, colour=1, words=False),
}


class Figure(NamedTuple):
    """A figure among a cell's outputs, as it looks on white paper."""

    png: bytes
    pixels: np.ndarray  # (height, width, 3), uint8
    size: tuple  # width and height in the file, then on the page, in pixels
    software: str


def pytest_itemcollected(item):
    """Leave out standard error, where a machine may print its warnings."""
    if isinstance(item, IPyNbCell):
        item.parent.skip_compare = {*item.parent.skip_compare, "stderr"}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keep the cells of a notebook on one worker, whose kernel runs them in order."""
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Compare a cell's figures, whatever nbval says about its other outputs."""
    error = None
    try:
        yield
    except NbCellError as caught:
        if str(caught) != "Cell outputs differ":
            raise
        error = caught
    faults = compare_figures(item) if isinstance(item, IPyNbCell) else []
    if faults and item.cell.execution_count is not None:
        text = "\n".join([error.inner_traceback, *faults] if error else faults)
        item.raise_cell_error("Cell outputs differ", text)
    if error:
        raise error


def compare_figures(item):
    """Compare a cell's figures with the committed ones, and keep those that differ."""
    tags = item.cell.metadata.get("tags", [])
    kind = next((tag for tag in tags if tag in KINDS), "exact")
    folder = item.config.rootpath / "runs" / "figures" / item.path.stem
    outputs = item.cell.outputs, item.test_outputs
    faults = []
    for number, pair in enumerate(zip_longest(*map(figures, outputs)), start=1):
        start = f"cell-{item.cell_num}-{number}"
        paths = [folder / f"{start}-{name}.png" for name in ("expected", "found")]
        fault = difference(*pair, KINDS.get(kind))
        for path, figure in zip(paths, pair, strict=True):
            path.unlink(missing_ok=True)
            if fault and figure:
                folder.mkdir(parents=True, exist_ok=True)
                path.write_bytes(figure.png)
        if fault:
            kept = " and ".join(str(path) for path in paths if path.exists())
            faults.append(f"Figure {number} ({kind}) {fault}; look at {kept}")
    return faults


def figures(outputs):
    """Decode the figures among a cell's outputs."""
    return [
        decode(output) for output in outputs if "image/png" in output.get("data", {})
    ]


def decode(output):
    """Decode an output's figure."""
    png = base64.b64decode(output["data"]["image/png"])
    with Image.open(io.BytesIO(png)) as image:
        software = image.info.get("Software", "unknown").split(",")[0]
        paper = Image.new("RGBA", image.size, "white")
        paper.alpha_composite(image.convert("RGBA"))
    page = output.get("metadata", {}).get("image/png", {})
    size = (*paper.size, page.get("width", 0), page.get("height", 0))
    return Figure(png, np.asarray(paper.convert("RGB")), size, software)


def difference(expected, found, tolerance=None):
    """Say how a figure differs by more than is tolerated; None where it does not."""
    if expected is None or found is None:
        return "is missing" if expected else "is not expected"
    if (found.pixels == found.pixels[0, 0]).all():
        return "is blank"
    if not np.allclose(
        found.size, expected.size, tolerance.size if tolerance else 0, 0
    ):
        return f"has the size {found.size}, expected {expected.size}"
    if tolerance is None:
        n = (found.pixels != expected.pixels).any(axis=2).sum()
        by = f"(drawn by {found.software}, expected by {expected.software})"
        return f"differs in {n:,} pixels {by}" if n else None
    if tolerance.words and any(changed := changed_words(expected.pixels, found.pixels)):
        return "lacks {} words around its axes and has {} others".format(*changed)
    colour = blurred_difference(expected.pixels, found.pixels)
    if colour > tolerance.colour:
        return (
            f"differs by {colour:.3f} once blurred, expected {tolerance.colour} at most"
        )
    return None


def blurred_difference(expected, found):
    """Return the largest difference of two pictures after blurring, 0 to 1."""
    height, width, _ = np.array(expected.shape) // 8
    small = (
        Image.fromarray(p).resize((width, height), Image.BOX) for p in (expected, found)
    )
    expected, found = (np.asarray(p, np.float32) / 255 for p in small)
    return np.abs(
        ndimage.gaussian_filter(expected - found, (BLUR / 8, BLUR / 8, 0))
    ).max()


def changed_words(expected, found):
    """Count the words around the axes that a picture lacks, and those that are new."""
    lost, rest = 0, words(found)
    for word in words(expected):
        twin = next((i for i, other in enumerate(rest) if same(word, other)), None)
        if twin is None:
            lost += 1
        else:
            del rest[twin]
    return lost, len(rest)


def words(pixels):
    """Cut out the words around the axes: dark ink on white that nothing surrounds.

    Numbers are left out, since the ticks of a measured axis move.
    """
    dark, light = pixels.min(axis=2), pixels.max(axis=2)
    ink = (light < 140) & (light - dark < 30)
    near = ndimage.binary_dilation(ink, np.ones((9, 9)))
    marks, _ = ndimage.label(near, np.ones((3, 3)))
    boxes = ndimage.find_objects(marks)
    corners = np.array([(y.start, x.start, -y.stop, -x.stop) for y, x in boxes])
    found = []
    for number, box in enumerate(boxes, start=1):
        near = marks[box] == number
        edge = near & ~ndimage.binary_erosion(near)
        alone = (corners <= corners[number - 1]).all(axis=1).sum() == 1
        on_white = dark[box][edge].min() >= 250 and min(near.shape) <= 120
        if alone and on_white and not is_number(ink[box] & near):
            found.append(np.where(near, 1 - dark[box] / 255, 0))
    return found


def is_number(ink):
    """Tell digits, all of one height, points and signs from letters of two heights."""

    def height(part):
        return np.ptp(np.flatnonzero(part.any(axis=1))) + 1

    glyphs, _ = ndimage.label(ink.any(axis=0))
    heights = [height(ink[:, columns]) for (columns,) in ndimage.find_objects(glyphs)]
    whole = height(ink)
    return whole < 30 and not any(0.3 < h / whole < 0.8 for h in heights)


def same(word, other):
    """Tell whether two bitmaps show one word, up to a fraction of a pixel."""
    if np.abs(np.subtract(word.shape, other.shape)).max() > 3:
        return False
    change = np.zeros(np.maximum(word.shape, other.shape) + 4)
    for bitmap, sign in ((word, 1), (other, -1)):
        y, x = np.subtract(change.shape, bitmap.shape) // 2
        change[y : y + bitmap.shape[0], x : x + bitmap.shape[1]] += sign * bitmap
    return np.abs(ndimage.gaussian_filter(change, 2)).max() < 0.25
