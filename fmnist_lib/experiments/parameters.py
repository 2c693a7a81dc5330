"""The parameters of a chapter: read from its tagged cell, and checked before any kernel starts."""

import ast
from dataclasses import dataclass, fields
from math import isfinite
from pathlib import Path

from fmnist_lib.chapters import read_notebook
from fmnist_lib.common import ParameterError, did_you_mean
from fmnist_lib.training import TrainConfig


def _finite(value):
    if not isfinite(number := float(value)):
        raise ValueError
    return number


# For each kind of parameter: its name in words, the types it accepts, and how to read them.
KINDS = {
    "int": ("a whole number", (int, str), int),
    "float": ("a number", (int, float, str), _finite),
    "bool": ("true or false", (bool, str), lambda value: FLAGS[str(value).lower()]),
    "str": ("text", (str,), str),
}
FLAGS = {"true": True, "false": False}
# A run decides itself where it keeps its files.
RESERVED = ("trained_dir", "checkpoint_dir")


@dataclass(frozen=True)
class Parameter:
    """A parameter of a chapter: its kind is one of ``KINDS``, its help the chapter's comment."""

    name: str
    kind: str
    default: int | float | bool | str
    help: str

    def convert(self, value):
        """Convert a value from a command line or a YAML file to the parameter's kind.

        Text is read as a number where the parameter is one, because command lines are text, and so
        is ``1e-3`` to YAML. A value of any other kind raises `ParameterError`.
        """
        words, accepted, read = KINDS[self.kind]
        try:
            if type(value) not in accepted:
                raise ValueError
            return read(value)
        except (ValueError, KeyError, OverflowError):
            hint = "; put it in quotes" if self.kind == "str" else ""
            raise ParameterError(
                f"{self.name} is {value!r}, expected {words}{hint} "
                f"({self.help or 'see the chapter'}; default: {self.default!r})"
            ) from None


def read_parameters(notebook):
    """Read the parameters of a chapter, by name and in the order of its tagged cell.

    Raises
    ------
    ParameterError
        If a default is not a literal number, text, True or False.
    ChapterError
        If the file is not a readable notebook.
    """
    from papermill.translators import PythonTranslator

    cells, parameters = read_notebook(notebook).cells, {}
    tagged = next((cell for cell in cells if "parameters" in cell.metadata.get("tags", [])), None)
    # As Python, whatever kernel the notebook names, since Python will execute it.
    for name, kind, text, comment in PythonTranslator.inspect(tagged) if tagged else ():
        try:
            default = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            default = None
        if kind == "float" and type(default) is int:
            default = float(default)  # as for a given value, so that 1 and 1.0 are the same run
        own = type(default).__name__
        if own not in KINDS or kind not in (own, "None"):
            raise ParameterError(
                f"the default of {name} in {Path(notebook).name} is {text}, expected a literal "
                "int, float, bool or str; write it out in the parameters cell"
            )
        parameters[name] = Parameter(name, own, default, comment)
    return parameters


def check_parameters(chapter, parameters, given):
    """Check values against a chapter's parameters and against `TrainConfig`.

    Parameters
    ----------
    chapter : str
        Its name, for the messages.
    parameters : dict of str to Parameter
    given : dict
        Values by name, as for `Parameter.convert`.

    Returns
    -------
    dict
        The given values, converted to their parameters' kinds; folders (``data_dir``) as absolute
        paths.

    Raises
    ------
    ParameterError
        For an unknown name, a value of the wrong kind, or one that `TrainConfig` refuses.
    """
    for name in given:
        if name in RESERVED:
            raise ParameterError(
                f"{name} cannot be set: a run keeps its files in its own folder; name that with -o"
            )
        if name not in parameters:
            known = [name for name in parameters if name not in RESERVED]
            raise ParameterError(did_you_mean("parameter", name, known, chapter))
    # In the chapter's order, whatever order they were given in.
    values = {name: p.convert(given[name]) for name, p in parameters.items() if name in given}
    settings = {name: parameter.default for name, parameter in parameters.items()} | values
    known = {field.name for field in fields(TrainConfig)}
    try:
        TrainConfig(**{name: settings[name] for name in settings if name in known})
    except ValueError as error:
        raise ParameterError(str(error)) from None
    for name in values.keys() - {"log_dir"}:  # which is in the run's folder
        if name.endswith("_dir") and values[name]:
            # Relative to where it was typed: the chapter runs in a different folder.
            values[name] = str(Path(values[name]).expanduser().resolve())
    return values
