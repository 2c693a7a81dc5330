"""Progress bars: in a terminal or notebook they leave no trace, in a log a line now and then.

tqdm's own notebook bar is a widget, which is dead in a saved or rendered notebook. Here tqdm writes
plain text into one display of the running cell, and closing the bar clears the cell's output.
"""

import sys
from time import monotonic

from tqdm import tqdm

DISPLAY_ID = "fmnist-progress"
SECONDS_BETWEEN_LINES = 30
LINE = "{l_bar} {n_fmt} of {total_fmt} in {elapsed}{postfix}"


def in_notebook():
    """Return whether this process is a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None


def progress_bar(total, description, unit="step", show=True, log=True, **options):
    """Make a progress bar for a ``with`` block; ``update(n)`` moves it.

    Parameters
    ----------
    total : int
        Number of units.
    description : str
        The work, in a word or two.
    unit : str
        What is counted, such as ``"B"``.
    show : bool
        False shows nothing.
    log : bool
        False shows nothing where standard error is a file or a pipe.
    **options
        Passed on to tqdm.

    Returns
    -------
    tqdm.tqdm
        In a notebook, it shows itself in the running cell and clears the cell's output when it
        closes. Elsewhere, it has the options of `outside_options`.
    """
    options = {"total": total, "desc": description, "unit": unit} | options
    if show and in_notebook():
        # Once per second, since a front end may drop messages when thousands arrive.
        looks = {"file": _CellDisplay(), "ncols": 100, "mininterval": 1.0, "ascii": False}
        return _NotebookBar(**looks | {"leave": False} | options)
    shown = show and (log or sys.stderr.isatty())
    return tqdm(disable=not shown, **outside_options() | options)


def outside_options():
    """Choose tqdm's options outside notebooks, as a dict.

    In a terminal, a bar on standard error that disappears when it closes. Where standard error is
    a file or a pipe, a line every half minute, the first one after half a minute: a long job's log
    is not silent, and a short one's stays empty.
    """
    if sys.stderr.isatty():
        return {"leave": False, "dynamic_ncols": True}
    return {"leave": False, "file": _Log(), "bar_format": LINE}


class _Log:
    """A text stream that passes a line on to standard error every half minute.

    tqdm's ``mininterval`` and ``delay`` do not do that: `set_postfix_str` and `refresh` ignore
    them, and tqdm separates what it writes with carriage returns, which make a log one long line.
    """

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

        # Empty at first: nbval ignores clear_output and compares first displays only.
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
