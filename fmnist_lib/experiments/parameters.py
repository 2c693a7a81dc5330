"""The parameters of a chapter: read from its tagged cell, and checked whoever sets them.

``fmnist run`` and ``fmnist sweep`` check them with `convert_parameters` before any kernel starts.
Papermill and students set them, too, so the chapter itself calls `check_parameters`. The ranges in
that call hold for both.
"""

import ast
import os
import re
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from math import inf, isfinite
from numbers import Integral, Real
from pathlib import Path

from fmnist_lib.chapters import read_notebook
from fmnist_lib.common import ParameterError, did_you_mean, shown
from fmnist_lib.training import TrainConfig

# Text that is a value of another kind: that of YAML 1.2's core schema, with whole numbers in base
# ten only.
TEXTS = {
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?",
}


def _finite(value):
    if not isfinite(number := float(value)):
        raise ValueError
    return number


def _text(value):
    (text := os.fspath(value)).encode()  # fails for bytes that are no letters
    return text


# For each kind of parameter: its name in words, the types it accepts, and how to make them plain.
KINDS = {
    "int": ("a whole number", Integral, int),
    "float": ("a number", Real, _finite),
    "bool": ("True or False", bool, lambda value: str(value).lower() == "true"),
    "str": ("text", (str, os.PathLike), _text),
}
FOLDER_SUFFIX = "_dir"  # ends the name of a parameter that says where, not what
# A run decides where it keeps its files.
TRAINED = "trained_dir"
RESERVED = (TRAINED, "checkpoint_dir")


@dataclass(frozen=True)
class Parameter:
    """A parameter of a chapter.

    Attributes
    ----------
    name : str
    kind : str
        One of ``KINDS``.
    default : int, float, bool or str
    help : str
        The chapter's comment.
    low, high : float
        Bounds of a number, both inclusive.
    """

    name: str
    kind: str
    default: int | float | bool | str
    help: str
    low: float = -inf
    high: float = inf

    def convert(self, value):
        """Convert a value from a command line, a YAML file or Python to the parameter's kind.

        Text is read as a number where the parameter is one, because command lines are text. A value
        of any other kind, or outside the bounds, raises `ParameterError`.
        """
        return self._read(value, TEXTS.get(self.kind))

    def check(self, value):
        """Raise `ParameterError` if a value is not of the parameter's kind, or outside its bounds.

        Text is not converted here: a chapter would compute with it, and take "false" for true.
        """
        self._read(value)

    def _read(self, value, pattern=None):
        _, types, plain = KINDS[self.kind]
        try:
            if type(value).__module__ == "numpy":
                value = value.item()
            if pattern and isinstance(value, str) and re.fullmatch(pattern, value):
                value = plain(value)
            # To Python, True is a whole number.
            if not isinstance(value, types) or isinstance(value, bool) != (self.kind == "bool"):
                raise ValueError
            result = plain(value)
            if self.kind in ("int", "float") and not self.low <= result <= self.high:
                raise ValueError
            return result
        except UnicodeEncodeError:
            raise ParameterError(
                f"{self.name} is {shown(value)}, which is not UTF-8; write other letters, or set "
                "the variable PYTHONUTF8=1"
            ) from None
        except (ValueError, OverflowError):
            # In a chapter, quotes alone would not say what is wrong with 'false' or '1e-3'.
            kind = "the text " if isinstance(value, str) and not pattern else ""
            raise ParameterError(
                f"{self.name} is {kind}{shown(value)}, expected {self._expected}"
            ) from None

    @property
    def _expected(self):
        words = KINDS[self.kind][0]
        if self.high < inf:
            words += f" from {self.low:,} to {self.high:,}"
        elif self.low > -inf:
            words += f" of {self.low:,} or more"
        elif self.kind == "str":
            words += "; put it in quotes"
        default = "" if self.default is None else f"; default: {self.default!r}"
        return f"{words} ({self.help or 'see the chapter'}{default})"


def read_parameters(notebook):
    """Read the parameters of a chapter, by name and in the order of its tagged cell.

    Raises
    ------
    ParameterError
        If a default is not a literal number, text, True or False, or a range is not a literal pair.
    ChapterError
        If the file is not a readable notebook.
    """
    cells = [cell for cell in read_notebook(notebook).cells if cell.cell_type == "code"]
    tagged = (cell.source for cell in cells if "parameters" in cell.metadata.get("tags", []))
    parameters, file = {}, Path(notebook).name
    for assignment in _assignments(next(tagged, "")):
        if not (parameter := _parameter(assignment)):
            raise ParameterError(
                f"the default of {assignment.name} in {file} is {ast.unparse(assignment.value)}, "
                "expected a literal int, float, bool or str; write it out in the parameters cell"
            )
        parameters[parameter.name] = parameter
    return _limit(parameters, _ranges(cells, file))


def convert_parameters(chapter, parameters, given):
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
    _check_names(chapter, [name for name in parameters if name not in RESERVED], given)
    # In the chapter's order, whatever order they were given in.
    values = {name: p.convert(given[name]) for name, p in parameters.items() if name in given}
    _check_settings({name: p.default for name, p in parameters.items()} | values)
    for name in values.keys() - {"log_dir"}:  # which is in the run's folder
        if name.endswith(FOLDER_SUFFIX) and values[name]:
            # Relative to where it was typed: the chapter runs in a different folder.
            values[name] = str(Path(os.path.expanduser(values[name])).resolve())
    return values


def check_parameters(namespace, **ranges):
    """Check a chapter's parameters from inside the chapter, whoever set them.

    The kinds come from the parameters cell, the names from the cell that papermill adds after it.
    Both are read from IPython's list of executed cells. Without IPython, only the ranges and what
    `TrainConfig` checks are known.

    Parameters
    ----------
    namespace : dict
        The chapter's variables, from ``globals()``.
    **ranges : pair of numbers
        The lowest and the highest value allowed for a parameter; None if there is no highest. Not
        needed for those that `TrainConfig` checks. Must be literals, since ``fmnist run`` reads
        them from the chapter.

    Raises
    ------
    ParameterError
        For an unknown name, a value of the wrong kind, outside its range, or refused by
        `TrainConfig`.
    """
    declared, injected = _executed([*namespace.get("In", ()), ""])
    _check_names("this chapter", declared or injected, injected)
    undeclared = {name: Parameter(name, "float", None, "") for name in ranges}
    for name, parameter in _limit(declared or undeclared, ranges).items():
        if name in namespace:
            parameter.check(namespace[name])
    names = [name for name in declared or namespace if name in namespace]
    _check_settings({name: namespace[name] for name in names})


@dataclass(frozen=True)
class _Assignment:
    name: str
    annotation: str
    value: ast.expr
    comment: str


def _assignments(source):
    """Find the assignments to a name in a cell."""
    lines = source.split("\n")
    for statement in _parse(source).body:
        match statement:
            case ast.AnnAssign(
                target=ast.Name(name), annotation=written, value=ast.expr() as value
            ):
                annotation = ast.unparse(written)
            case ast.Assign(targets=[ast.Name(name)], value=value):
                annotation = ""
            case _:
                continue
        # Columns count bytes.
        rest = lines[value.end_lineno - 1].encode()[value.end_col_offset :].decode()
        yield _Assignment(name, annotation, value, rest.partition("#")[2].strip())


def _parameter(assignment):
    """Make a `Parameter` of an assignment; None if its value is no literal of the kind it names."""
    try:
        default = ast.literal_eval(assignment.value)
    except (ValueError, TypeError):
        return None
    if assignment.annotation == "float" and type(default) is int:
        default = float(default)  # as for a given value, so that 1 and 1.0 are the same run
    kind = type(default).__name__
    if kind not in KINDS or assignment.annotation not in (kind, ""):
        return None
    return Parameter(assignment.name, kind, default, assignment.comment)


def _executed(sources):
    """Find the declared parameters among executed cells, and the names that papermill injected.

    The first cell that declares kinds is the parameters cell. A reader may have changed a value in
    it; cells that a reader adds later are not checked.
    """
    for source, following in pairwise(sources):
        declared = {
            each.name: _parameter(each) or Parameter(each.name, each.annotation, None, each.comment)
            for each in _assignments(source)
            if each.annotation in KINDS
        }
        if declared:
            injected = _assignments(following) if following.startswith("# Parameters\n") else ()
            return declared, [each.name for each in injected]
    return {}, []


def _ranges(cells, file):
    """Read the ranges from the chapter's call of `check_parameters`."""
    for node in (node for cell in cells for node in ast.walk(_parse(cell.source))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == check_parameters.__name__:
            try:
                ranges = {each.arg: ast.literal_eval(each.value) for each in node.keywords}
                return {name: (low, high) for name, (low, high) in ranges.items()}
            except (ValueError, TypeError):
                raise ParameterError(
                    f"{ast.unparse(node)} in {file} has a range that is not a pair of literal "
                    "numbers; write it out, as in repeats=(1, None)"
                ) from None
    return {}


def _parse(source):
    try:
        return ast.parse(re.sub(r"^[%!].*", "", source, flags=re.MULTILINE))  # without magics
    except SyntaxError:
        return ast.Module([], [])


def _limit(parameters, ranges):
    """Give parameters the ranges from a call of `check_parameters`."""
    bounds = {
        name: {"low": low, "high": inf if high is None else high}
        for name, (low, high) in ranges.items()
    }
    return {name: replace(p, **bounds.get(name, {})) for name, p in parameters.items()}


def _check_names(chapter, known, given):
    for name in given:
        if name not in known:
            raise ParameterError(did_you_mean("parameter", name, known, chapter))


def _check_settings(values):
    known = {field.name for field in fields(TrainConfig)}
    try:
        TrainConfig(**{name: value for name, value in values.items() if name in known})
    except ValueError as error:
        raise ParameterError(str(error)) from None
