"""The chapters: their names, where they are, and how to read one."""

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
    """A chapter is missing, or failed.

    Attributes
    ----------
    message : str
        What happened.
    notebook : Path, optional
        The partly executed notebook, if it was written.
    cause : str, optional
        Name of the exception that a cell raised; ``"kernel"`` if the kernel did not start or died.
    """

    def __init__(self, message, notebook=None, cause=None):
        super().__init__(message, notebook, cause)  # all of them, for pickle
        self.message, self.notebook, self.cause = message, notebook, cause

    def __str__(self):
        where = self.notebook and f"; the notebook, executed up to there, is {self.notebook}"
        return f"{self.message}{where or ''}"


def find_chapter(name, notebooks="notebooks"):
    """Find a chapter's notebook.

    Parameters
    ----------
    name : str
        ``"02_cnn"``, or the path of any notebook.
    notebooks : path
        The folder of the chapters.

    Raises
    ------
    ParameterError
        If no chapter has that name.
    ChapterError
        If the folder does not exist.
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
    """Read a notebook, or raise `ChapterError` if the file is not one."""
    import nbformat

    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # of many kinds: the file may hold anything
        raise ChapterError(
            f"{path} cannot be read as a notebook ({one_line(error)}); name a different file, "
            "or restore it from the project"
        ) from None
    return notebook
