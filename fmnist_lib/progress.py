"""Progress bars for a terminal and a notebook, where they leave nothing behind, and for a log.

tqdm's own notebook bar is a widget: once the kernel is gone, a saved or rendered notebook shows a
dead one. Here tqdm writes plain text into one display of the running cell, and the cell's output
is cleared when the bar closes. In a log, which keeps what is written, there is a line now and then.
"""

import sys
from time import monotonic

from tqdm import tqdm

DISPLAY_ID = "fmnist-progress"
SECONDS_BETWEEN_LINES = 30
LINE = "{l_bar} {n_fmt} of {total_fmt} in {elapsed}{postfix}"


def in_notebook():
    """Tell whether this process is a Jupyter kernel, whose output goes into a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None


def progress_bar(total, description, unit="step", show=True, log=True, **options):
    """Make a bar to be used in a ``with`` block; ``update(n)`` moves it.

    Parameters
    ----------
    total : int
        Number of units to do.
    description : str
        What is being done, in a word or two.
    unit : str
        What is counted: ``"step"``, ``"B"``.
    show : bool
        False makes a bar that shows nothing.
    log : bool
        False makes one that shows nothing where standard error is a file or a pipe.
    **options
        Passed on to tqdm.

    Returns
    -------
    tqdm.tqdm
        In a notebook, one (moving once a second: a front end may drop messages that come by the
        thousand) that shows itself in the running cell and, on closing, clears that
        cell's output. Elsewhere, one as by `outside_options`.
    """
    options = {"total": total, "desc": description, "unit": unit} | options
    if show and in_notebook():
        looks = {"file": _CellDisplay(), "ncols": 100, "mininterval": 1.0, "ascii": False}
        return _NotebookBar(**looks | {"leave": False} | options)
    shown = show and (log or sys.stderr.isatty())
    return tqdm(disable=not shown, **outside_options() | options)


def outside_options():
    """Choose how a bar looks outside notebooks.

    Returns
    -------
    dict
        Options for tqdm. In a terminal, a bar on standard error that is gone in the end. Where
        standard error is a file or a pipe, a line there every half minute, the first one after half
        a minute: the log of a long job is not silent, that of a short one holds nothing.
    """
    if sys.stderr.isatty():
        return {"leave": False, "dynamic_ncols": True}
    return {"leave": False, "file": _Log(), "bar_format": LINE}


class _Log:
    """A text stream that passes on to standard error what is written to it, now and then."""

    def __init__(self):
        self.next = monotonic() + SECONDS_BETWEEN_LINES

    def write(self, text):
        if monotonic() >= self.next and (text := text.strip()):
            print(text, file=sys.stderr, flush=True)
            self.next = monotonic() + SECONDS_BETWEEN_LINES

    def flush(self):
        pass


class _CellDisplay:
    """A text stream that shows the last line written to it in one display of the cell."""

    def __init__(self):
        from IPython.display import display

        # Empty at first: nbval, which knows no clear_output, compares first displays only.
        self._display = display({}, raw=True, display_id=DISPLAY_ID)

    def write(self, text):
        if text := text.strip():
            self._display.update({"text/plain": text}, raw=True)

    def flush(self):
        pass


class _NotebookBar(tqdm):
    def close(self):
        if not self.disable:
            super().close()
            from IPython.display import clear_output

            clear_output()
