"""Timing: which way is faster, and how soon a training is how good."""

import statistics
import time
from math import inf

import pandas as pd
import torch

from fmnist_lib.progress import progress_bar


def compare_times(ways, repeats=3, progress=True):
    """Time several functions, taking turns.

    Each is called once beforehand: compilers and caches do their work at the first call. Taking
    turns spreads a disturbance over all of them, and the median forgets a single one.

    Parameters
    ----------
    ways : dict of str to callable
        Called without arguments.
    repeats : int
        Timed calls of each, at least 1.
    progress : bool
        Show a progress bar.

    Returns
    -------
    DataFrame
        One row a way, under its name. Columns ``first`` (the call beforehand), ``seconds`` (the
        median), ``lowest``, ``highest``, and ``speed`` (in multiples of the first way).

    Raises
    ------
    ValueError
        If there is nothing to time, or ``repeats`` is below 1.
    """
    if not ways or repeats < 1:
        raise ValueError(
            f"there are {len(ways)} ways and {repeats} repeats, expected at least one of each"
        )
    seconds = {name: [] for name in ways}
    with progress_bar(len(ways) * (repeats + 1), "timing", unit="call", show=progress) as bar:
        for _ in range(repeats + 1):
            for name, call in ways.items():
                bar.set_postfix_str(name, refresh=False)
                seconds[name].append(_time(call))
                bar.update()
    rows = {
        name: {
            "first": first,
            "seconds": statistics.median(timed),
            "lowest": min(timed),
            "highest": max(timed),
        }
        for name, (first, *timed) in seconds.items()
    }
    table = pd.DataFrame(rows).T
    return table.assign(speed=table["seconds"].iloc[0] / table["seconds"])


class Stopwatch:
    """Seconds since it was made, noted at each call; a listener for `fit`.

    Attributes
    ----------
    seconds : list of float
    """

    def __init__(self):
        self.seconds, self._start = [], time.perf_counter()

    def __call__(self, state=None):
        """Note the time; what `fit` passes is not needed."""
        self.seconds.append(time.perf_counter() - self._start)


def seconds_to_accuracy(history, target):
    """Find when a training first reached a validation accuracy.

    Parameters
    ----------
    history : DataFrame
        Columns ``seconds`` (since the start, at the end of each epoch) and ``val_acc``.
    target : float
        Above 0, at most 1.

    Returns
    -------
    float
        Seconds at the end of the first epoch that validated so well; infinite if none did.

    Raises
    ------
    ValueError
        If the target is not a share of images.
    """
    if not 0 < target <= 1:
        raise ValueError(f"the target is {target!r}, expected a share of images, such as 0.9")
    reached = history["seconds"][history["val_acc"] >= target]
    return float(reached.min()) if len(reached) else inf


def product_rate(dtype=torch.float32, device="cpu", size=2048, repeats=10):
    """Measure how fast this device multiplies two large square matrices.

    Parameters
    ----------
    dtype : torch.dtype
    device : torch.device or str
    size : int
        Rows and columns of the matrices.
    repeats : int
        The fastest of so many products counts.

    Returns
    -------
    float
        Floating-point operations a second; a product of two matrices takes ``2 * size**3``.
    """
    a, b = (torch.ones(size, size, dtype=dtype, device=device) for _ in range(2))
    # Reading one number back makes a GPU finish.
    seconds = [_time(lambda: (a @ b)[0, 0].item()) for _ in range(repeats)]
    return 2 * size**3 / min(seconds)


def _time(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
