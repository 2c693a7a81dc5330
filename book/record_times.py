"""Make outputs.csv: how long each cell took when the chapters' outputs were made.

Executing a chapter leaves times in the metadata of its cells. ``make notebooks`` writes them here,
and then clears them, so that a chapter without a change stays the same file.
"""

import csv
import json
import sys
from datetime import datetime
from pathlib import Path

HERE = Path(__file__).parent
NOTEBOOKS = HERE.parent / "notebooks"
START, END = "iopub.status.busy", "iopub.status.idle"


def cell_times(path):
    """Read the times of a chapter.

    Parameters
    ----------
    path : Path
        Of an executed notebook whose metadata has not been cleared.

    Returns
    -------
    list of tuple
        ``chapter, date, cell, seconds`` for each code cell; ``cell`` is its execution count.

    Raises
    ------
    SystemExit
        If a cell holds no times.
    """
    rows = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        times = cell["metadata"].get("execution", {})
        if START not in times or END not in times:
            raise SystemExit(
                f"cell [{cell['execution_count']}] of {path.name} holds no times, expected those "
                "that executing it leaves there; run 'make notebooks', which calls this script "
                "before it clears them"
            )
        start, end = (datetime.fromisoformat(times[moment]) for moment in (START, END))
        seconds = round((end - start).total_seconds(), 2)
        rows.append((path.stem, start.date().isoformat(), cell["execution_count"], seconds))
    return rows


def main(paths, output=HERE / "outputs.csv"):
    """Write the times of some chapters, and keep the rows of the others."""
    fresh = {path.stem: cell_times(path) for path in paths}
    rows = [row for chapter in fresh.values() for row in chapter]
    if output.exists():
        with open(output, encoding="utf-8", newline="") as file:
            rows += [tuple(row) for row in list(csv.reader(file))[1:] if row[0] not in fresh]
    with open(output, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("chapter", "date", "cell", "seconds"))
        table.writerows(sorted(rows, key=lambda row: row[0]))


if __name__ == "__main__":
    main([Path(path) for path in sys.argv[1:]] or sorted(NOTEBOOKS.glob("*.ipynb")))
