"""Make picture.png, the picture of the README and the home page, from the chapters' outputs."""

import base64
import io
import json
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
WIDTH, GAP = 900, 40  # pixels: width of a panel, and space around it

# Chapter, code of the cell that draws the figure, and the part of its height that is shown.
PANELS = [
    ("01_data_exploration", "plotting.image_grid(", 0.622),
    ("02_cnn", "plotting.training_curves(", 1.0),
    ("02_cnn", "plotting.confusion_heatmap(", 1.0),
    ("04_evaluation", "evaluation.confident_mistakes(", 1.0),
]


def figure(chapter, code):
    """Take the first figure that is drawn by a cell with this code."""
    notebook = json.loads((HERE.parent / "notebooks" / f"{chapter}.ipynb").read_text("utf-8"))
    pictures = (
        output["data"]["image/png"]
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
        if code in "".join(cell["source"]) and "image/png" in output.get("data", {})
    )
    return Image.open(io.BytesIO(base64.b64decode(next(pictures)))).convert("RGB")


def main():
    """Lay the panels out in two columns, each panel in the shorter one."""
    columns = [[], []]
    heights = [GAP, GAP]
    for chapter, code, part in PANELS:
        panel = figure(chapter, code)
        panel = panel.crop((0, 0, panel.width, round(panel.height * part)))
        panel = panel.resize((WIDTH, round(panel.height * WIDTH / panel.width)), Image.LANCZOS)
        shorter = heights.index(min(heights))
        columns[shorter].append((panel, heights[shorter]))
        heights[shorter] += panel.height + GAP
    page = Image.new("RGB", (2 * WIDTH + 3 * GAP, max(heights)), "white")
    for i, column in enumerate(columns):
        for panel, top in column:
            page.paste(panel, (GAP + i * (WIDTH + GAP), top))
    page.quantize(256, kmeans=3).save(HERE / "picture.png", optimize=True)


if __name__ == "__main__":
    main()
