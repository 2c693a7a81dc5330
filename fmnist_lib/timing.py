"""Timing: which function is faster, and how soon training reaches an accuracy."""

import time
from math import inf

import pandas as pd
import torch

from fmnist_lib.common import whole_number
from fmnist_lib.progress import progress_bar


def compare_times(functions, repeats=3):
    """Time several functions in turn.

    Each is called once beforehand, since compilers and caches do their work during the first call.
    Taking turns spreads a disturbance over all of them, and the median ignores a single one.

    Parameters
    ----------
    functions : dict of str to callable
        Called without arguments.
    repeats : int
        Timed calls of each function; at least 1.

    Returns
    -------
    DataFrame
        One row per function, under its name. Columns ``first`` (the call beforehand), ``seconds``
        (the median), ``lowest``, ``highest``, and ``speed`` (relative to the first function).
    """
    whole_number("repeats", repeats, 1)
    seconds = {name: [] for name in functions}
    with progress_bar(len(functions) * (repeats + 1), "timing", unit="call") as bar:
        for _ in range(repeats + 1):
            for name, call in functions.items():
                bar.set_postfix_str(name, refresh=False)
                seconds[name].append(_time(call))
                bar.update()
    calls = pd.DataFrame(seconds)
    timed = calls[1:].agg(["median", "min", "max"]).T
    table = timed.set_axis(["seconds", "lowest", "highest"], axis="columns")
    table.insert(0, "first", calls.iloc[0])
    return table.assign(speed=table["seconds"].iloc[0] / table["seconds"])


class Stopwatch:
    """Seconds since its creation, recorded at each call; a listener for `fit`.

    Attributes
    ----------
    seconds : list of float
    """

    def __init__(self):
        self.seconds, self._start = [], time.perf_counter()

    def __call__(self, state=None):
        """Record the time; the state that `fit` passes is not needed."""
        self.seconds.append(time.perf_counter() - self._start)


def seconds_to_accuracy(history, target):
    """Find when training first reached a validation accuracy.

    Parameters
    ----------
    history : DataFrame
        Columns ``seconds`` (since the start, at the end of each epoch) and ``val_acc``.
    target : float
        Above 0, at most 1.

    Returns
    -------
    float
        Seconds at the end of the first epoch that reached it; infinite if none did.
    """
    if not 0 < target <= 1:
        raise ValueError(f"the target is {target!r}, expected a share of images, such as 0.9")
    reached = history["seconds"][history["val_acc"] >= target]
    return float(reached.min()) if len(reached) else inf


def product_rate(dtype=torch.float32, device="cpu", size=2048, repeats=10):
    """Measure how fast a device multiplies two large square matrices.

    Parameters
    ----------
    dtype : torch.dtype
    device : torch.device or str
    size : int
        Rows and columns of the matrices.
    repeats : int
        Products to time; the fastest counts.

    Returns
    -------
    float
        Floating-point operations per second; each product takes ``2 * size**3``.
    """
    a, b = (torch.ones(size, size, dtype=dtype, device=device) for _ in range(2))
    # Reading one number back waits for a GPU to finish.
    seconds = [_time(lambda: (a @ b)[0, 0].item()) for _ in range(repeats)]
    return 2 * size**3 / min(seconds)


def _time(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
