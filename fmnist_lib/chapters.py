"""The chapters: their names, where they lie, and how one is read."""

from pathlib import Path

from fmnist_lib.common import ParameterError, UserError, did_you_mean, one_line

CHAPTERS = (
    "01_data_exploration",
    "02_cnn",
    "03_dilated_cnn",
    "04_evaluation",
    "05_training_fast",
)


class ChapterError(UserError):
    """A chapter that is not there, or that failed.

    Attributes
    ----------
    args : tuple of str
        What happened, and, where there is one, the path of the notebook as far as it came.
    """

    def __str__(self):
        return "; the notebook up to there is ".join(map(str, self.args))


def find_chapter(name, notebooks="notebooks"):
    """Find a chapter's notebook.

    Parameters
    ----------
    name : str
        ``"02_cnn"``, or the path of any notebook.
    notebooks : path
        The folder of the chapters.

    Returns
    -------
    Path

    Raises
    ------
    ParameterError
        If there is none of that name.
    ChapterError
        If there is no such folder.
    """
    path = Path(name) if str(name).endswith(".ipynb") else Path(notebooks) / f"{name}.ipynb"
    if path.is_file():
        return path
    if path.parent == Path(notebooks) and (there := sorted(Path(notebooks).glob("*.ipynb"))):
        names = [path.stem for path in there]
        raise ParameterError(did_you_mean("chapter", path.stem, names, f"the folder {notebooks}"))
    raise ChapterError(
        f"no chapter at {path}; run this in the project's folder, or name the folder of the "
        "chapters with --notebooks"
    )


def read_notebook(path):
    """Read a notebook.

    Parameters
    ----------
    path : path

    Returns
    -------
    NotebookNode

    Raises
    ------
    ChapterError
        If the file is not a readable notebook.
    """
    import nbformat

    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # of many kinds, for whatever the file may hold
        raise ChapterError(
            f"{path} cannot be read as a notebook ({one_line(error)}); name another file, or take "
            "it from the project again"
        ) from None
    return notebook
