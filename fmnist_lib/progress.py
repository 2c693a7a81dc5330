"""Progress bars for a terminal and for a notebook, where they leave nothing behind.

tqdm's own notebook bar is a widget: once the kernel is gone, a saved or rendered notebook shows a
dead one. Here tqdm writes plain text into one display of the running cell, and the cell's output
is cleared when the bar closes.
"""

import sys

from tqdm import tqdm

DISPLAY_ID = "fmnist-progress"


def in_notebook():
    """Tell whether this process is a Jupyter kernel, whose output goes into a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None


def progress_bar(total, description, unit="step", show=True, **options):
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
    **options
        Passed on to tqdm.

    Returns
    -------
    tqdm.tqdm
        In a notebook, one (moving once a second: a front end may drop messages that come by the
        thousand) that shows itself in the running cell and, on closing, clears that
        cell's output. In a terminal, one on standard error. Where standard error is a file or a
        pipe, one that shows nothing.
    """
    options = {"total": total, "desc": description, "unit": unit, "leave": False} | options
    if show and in_notebook():
        looks = {"file": _CellDisplay(), "ncols": 100, "mininterval": 1.0, "ascii": False}
        return _NotebookBar(**looks | options)
    return tqdm(disable=None if show else True, dynamic_ncols=True, **options)


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
