"""Make picture.png, the picture of the README and the home page, from the chapters' outputs."""

import base64
import io
import json
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
WIDTH, GAP = 900, 40  # pixels: width of a panel, and space around it

# Chapter, number of the figure in it, and the part of its height that is shown.
PANELS = [
    ("01_data_exploration", 0, 0.622),
    ("02_cnn", 0, 1.0),
    ("02_cnn", 3, 1.0),
    ("04_evaluation", 6, 1.0),
]


def figure(chapter, number):
    """Take one figure out of the outputs of a chapter."""
    notebook = json.loads((HERE.parent / "notebooks" / f"{chapter}.ipynb").read_text("utf-8"))
    outputs = [out for cell in notebook["cells"] for out in cell.get("outputs", [])]
    pictures = [out["data"]["image/png"] for out in outputs if "image/png" in out.get("data", {})]
    return Image.open(io.BytesIO(base64.b64decode(pictures[number]))).convert("RGB")


def main():
    """Lay the panels out in two columns, each panel in the shorter one."""
    columns = [[], []]
    heights = [GAP, GAP]
    for chapter, number, part in PANELS:
        panel = figure(chapter, number)
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
