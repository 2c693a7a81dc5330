"""Early stopping of the runs of a sweep that do worse than most of the others.

The median rule: Golovin and others, "Google Vizier: A Service for Black-Box Optimization", 2017.
"""

import csv
from functools import lru_cache
from statistics import median

from fmnist_lib.experiments.run import WORK

LEAST = 3  # other runs that must have come as far


def median_rule(run, folder, after):
    """Make a function that says when a run should be stopped early, and why.

    Parameters
    ----------
    run : Run
    folder : Path
        Of the run; the others of its sweep are next to it.
    after : int
        Epochs that each run trains for in any case.

    Returns
    -------
    callable
        Without arguments. It returns a sentence if the validation accuracy of the newest epoch is
        below the median of the other runs in that epoch, and an empty text otherwise.
    """
    chapter, epochs, seen = run.notebook.stem, run.parameters.get("epochs"), 0

    def stop_early():
        nonlocal seen
        curve = read_curve(folder, chapter)
        epoch = len(curve)
        if epoch < after or epoch in (seen, epochs):
            return ""
        seen = epoch
        curves = (read_curve(path, chapter) for path in folder.parent.iterdir() if path != folder)
        others = [other[epoch - 1] for other in curves if len(other) >= epoch]
        if len(others) < LEAST or curve[-1] >= median(others):
            return ""
        return (
            f"stopped early after epoch {epoch}: its validation accuracy of {curve[-1]:.4f} is "
            f"below {median(others):.4f}, the median of {len(others)} others"
        )

    return stop_early


def read_curve(folder, chapter):
    """Read the validation accuracies by epoch of a run, in progress or over; empty without any."""
    for place in (folder, folder / WORK):
        for path in (place / chapter / "history.csv", place / f"{chapter}.checkpoint"):
            try:
                return _read(path, path.stat().st_mtime_ns)
            except Exception:  # of many kinds: it is missing, is just being replaced, or is odd
                continue
    return []


@lru_cache(maxsize=10_000)
def _read(path, _):
    if path.suffix == ".csv":
        with open(path, newline="", encoding="utf-8") as file:
            return [float(row["val_acc"]) for row in csv.DictReader(file)]
    import torch  # late, since it takes seconds

    saved = torch.load(path, map_location="cpu", weights_only=True)
    return [row["val_acc"] for row in saved["history"]]
