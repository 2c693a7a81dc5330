"""Make picture.png, the picture of the README and the home page, from the chapters' outputs.

The picture carries the digest of the outputs and of this script, by which a test sees whether it is
up to date: the same pixels may be compressed to other bytes by another version of Pillow.
"""

import base64
import hashlib
import io
import json
from pathlib import Path

from PIL import Image, PngImagePlugin

HERE = Path(__file__).parent
PICTURE = HERE / "picture.png"
WIDTH, GAP = 900, 40  # pixels: width of a panel, and space around it

# Chapter, code of the cell that draws the figure, and the part of its height that is shown.
PANELS = [
    ("01_data_exploration", "plotting.image_grid(", 0.622),
    ("02_cnn", "plotting.training_curves(", 1.0),
    ("02_cnn", "plotting.confusion_heatmap(", 1.0),
    ("04_evaluation", "evaluation.confident_mistakes(", 1.0),
]


def read_figure(chapter, code):
    """Read the first figure that a cell with this code draws, as the bytes of a PNG."""
    notebook = json.loads((HERE.parent / "notebooks" / f"{chapter}.ipynb").read_text("utf-8"))
    pictures = (
        output["data"]["image/png"]
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
        if code in "".join(cell["source"]) and "image/png" in output.get("data", {})
    )
    return base64.b64decode(next(pictures))


def digest(figures):
    """Compute the SHA-256 of this script and of the figures that it takes."""
    return hashlib.sha256(b"".join([Path(__file__).read_bytes(), *figures])).hexdigest()


def compose(figures):
    """Lay the panels out in two columns, each panel in the shorter one."""
    columns = [[], []]
    heights = [GAP, GAP]
    for figure, (_, _, part) in zip(figures, PANELS, strict=True):
        panel = Image.open(io.BytesIO(figure)).convert("RGB")
        panel = panel.crop((0, 0, panel.width, round(panel.height * part)))
        panel = panel.resize((WIDTH, round(panel.height * WIDTH / panel.width)), Image.LANCZOS)
        shorter = heights.index(min(heights))
        columns[shorter].append((panel, heights[shorter]))
        heights[shorter] += panel.height + GAP
    page = Image.new("RGB", (2 * WIDTH + 3 * GAP, max(heights)), "white")
    for i, column in enumerate(columns):
        for panel, top in column:
            page.paste(panel, (GAP + i * (WIDTH + GAP), top))
    return page.quantize(256, kmeans=3)


def read_figures():
    """Read the figures of all panels."""
    return [read_figure(chapter, code) for chapter, code, _ in PANELS]


def main():
    """Write the picture."""
    figures = read_figures()
    info = PngImagePlugin.PngInfo()
    info.add_text("Source", digest(figures))
    compose(figures).save(PICTURE, optimize=True, pnginfo=info)


if __name__ == "__main__":
    main()
