"""Reading answers: every form that means the same becomes one, and everything else gets words.

Shapes are looked at before values, so that a huge array is refused without being copied or printed.
"""

import numbers
import sysconfig
import traceback
from copy import copy
from pathlib import Path

import numpy as np
import torch

from fmnist_lib.course.exercises.feedback import Nudge, one_line, shortened
from fmnist_lib.inspection import device_of, evaluating

MOST = 50_000_000
"""Elements of the largest array that is looked at: the training images are 37,632,000."""

RETURNED = "what your function returns"
"""What the result of a student's function is called in the words."""

LIBRARIES = (sysconfig.get_path("stdlib"), str(Path(__file__).parents[2]))
"""Where Python and this package lie: lines from there, and from site-packages, nobody can mend."""


def number(answer, name="the answer", *, finite=True):
    """Read a number.

    Parameters
    ----------
    answer : object
        A number of any kind, or an array, tensor, Series or list with one element.
    name : str
        What it is called in the words.
    finite : bool
        Whether infinity is refused.

    Returns
    -------
    float

    Raises
    ------
    Nudge
        If it is no number, NaN, or infinite where that is refused.
    """
    if isinstance(answer, bool | np.bool_):
        raise Nudge(f"A number is wanted for {name}, and this is {answer}.")
    if isinstance(answer, numbers.Number) and not isinstance(answer, complex):
        try:
            value = float(answer)
        except OverflowError:
            raise Nudge(f"{_capital(name)} is far too large.") from None
    else:
        array = read_array(answer, name, wanted="A number is wanted", finite=finite)
        if array.size != 1:
            raise Nudge(
                f"One number is wanted for {name}, and this has {_shape(array.shape)}. Which of "
                "them is it, or how do they become one?"
            )
        if array.dtype.kind == "b":
            raise Nudge(f"A number is wanted for {name}, and this is {array.item()}.")
        value = float(array.item())
    if np.isnan(value):
        raise Nudge(
            f"{_capital(name)} is NaN, which is not a number: look for 0/0, the root or "
            "logarithm of a negative number, or a mean of nothing."
        )
    if finite and np.isinf(value):
        raise Nudge(
            f"{_capital(name)} is infinite: look for a division by 0 or the logarithm of 0."
        )
    return value


def whole_number(answer, name="the answer"):
    """Read a number that counts something, as `number` does, and refuse a broken one."""
    value = number(answer, name)
    if value != round(value):
        raise Nudge(f"{_capital(name)} counts something, and so is a whole number.")
    return round(value)


def read_array(answer, name="the answer", shape=None, *, wanted="An array is wanted", finite=True):
    """Read an array of numbers.

    Parameters
    ----------
    answer : object
        An array, a tensor on any device, a Series, a DataFrame, or (nested) lists of numbers.
    name : str
        What it is called in the words.
    shape : tuple of (int or None), optional
        The shape that it must have; None stands for any length.
    wanted : str
        The first words for what is no array.
    finite : bool
        Whether infinity is refused.

    Returns
    -------
    ndarray
        Of bool, int64 or float64. It may share memory with the answer: do not write to it.

    Raises
    ------
    Nudge
        If it is none, too large, not made of real numbers, of another shape, or if it holds NaN, or
        infinity where that is refused.
    """
    wanted = f"{wanted} for {name}"
    if isinstance(answer, str | bytes):
        raise Nudge(f"{wanted}, and this is text: leave the quotation marks out.")
    if isinstance(answer, type) or (callable(answer) and not isinstance(answer, torch.Tensor)):
        raise Nudge(
            f"{wanted}, and this is {_described(answer)}: call it, and give what comes out."
        )
    if isinstance(answer, dict | set | frozenset):
        raise Nudge(f"{wanted}, and this is {_described(answer)}, which has no order to go by.")
    found = getattr(answer, "shape", None)
    if found is not None:
        found = tuple(int(n) for n in found)
        _compare_shapes(found, shape, name)
        if np.prod(found, dtype=float) > MOST:
            raise Nudge(f"{_capital(name)} has {_shape(found)}: far more than is asked for.")
    array = _to_numpy(answer, wanted)
    _compare_shapes(array.shape, shape, name)
    if array.dtype.kind == "f" and (np.isnan(array) | (finite & np.isinf(array))).any():
        kind = "NaN" if np.isnan(array).any() else "infinity"
        raise Nudge(
            f"{_capital(name)} holds {kind}: look for 0/0, the root of a negative number, a "
            "logarithm of 0, or an empty mean."
        )
    return array


def _to_numpy(answer, wanted):
    if isinstance(answer, torch.Tensor):
        if answer.is_meta or answer.is_quantized:
            raise Nudge(f"{wanted}, and this is a tensor without real values.")
        answer = answer.detach().to_dense() if answer.is_sparse else answer.detach()
        answer = answer.double() if answer.is_floating_point() else answer
        answer = answer.cpu().numpy()
    try:
        nested = torch.Tensor | list | tuple
        if isinstance(answer, list | tuple) and any(isinstance(x, nested) for x in answer):
            answer = [_to_numpy(x, wanted) for x in answer]
        array = np.asarray(answer)
    except ValueError:
        raise Nudge(f"{wanted}, and the rows of this one have different lengths.") from None
    if array.dtype == object and all(isinstance(x, numbers.Real) for x in array.flat):
        array = array.astype(np.float64)  # of fractions, say
    kind = array.dtype.kind
    if kind == "c":
        raise Nudge(f"{wanted}, and this is complex: look for the root of a negative number.")
    if kind not in "biuf":
        raise Nudge(f"{wanted}, and this is {_described(answer)} that does not hold real numbers.")
    return array if kind == "b" else array.astype(np.float64 if kind == "f" else np.int64)


def _compare_shapes(found, wanted, name):
    if wanted is None:
        return
    fits = len(found) == len(wanted) and all(
        w in (None, f) for f, w in zip(found, wanted, strict=True)
    )
    if not fits:
        lengths = ", ".join("any" if n is None else str(n) for n in wanted)
        comma = "," if len(wanted) == 1 else ""
        raise Nudge(f"{_capital(name)} has {_shape(found)}, and ({lengths}{comma}) is wanted.")


def call(function, *arguments, name="your function"):
    """Call a student's function, and put into words what goes wrong inside.

    It is given copies of tensors and arrays, so that one that writes into them spoils nothing.

    Raises
    ------
    Nudge
        If it is no function, if it takes other arguments, raises anything, or returns nothing.
    """
    if not callable(function):
        raise Nudge(
            f"A function is wanted, and this is {_described(function)}: give its name alone."
        )
    arguments = [a.clone() if isinstance(a, torch.Tensor) else copy(a) for a in arguments]
    try:
        result = function(*arguments)
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)[1:]
        if not frames:
            raise Nudge(
                f"{_capital(name)} cannot be called as the exercise does: {one_line(error)}."
            ) from None
        raise Nudge(f"{_capital(name)} stopped with {one_line(error)}{_place(frames)}.") from None
    if result is None or result is ...:
        raise Nudge(f"{_capital(name)} returns nothing yet: end it with return and the result.")
    return result


def _place(frames):
    """Name the last line that is the student's own."""
    for frame in reversed(frames):
        path = frame.filename
        if "site-packages" not in path and not path.startswith(LIBRARIES):
            return (
                f", at '{shortened(frame.line, 80)}'" if frame.line else f", in line {frame.lineno}"
            )
    return ""


def run_model(model, images, classes=10):
    """Ask a model for logits, whatever the model looks like inside.

    Parameters
    ----------
    model : torch.nn.Module
        On any device; each layer is left in the mode it is in, of training or evaluation.
    images : Tensor, (N, ...)
    classes : int or None
        The number of logits wanted for an image; None for any shape.

    Returns
    -------
    Tensor
        On the CPU, float32.

    Raises
    ------
    Nudge
        If it is no model, fails, or answers in another shape or with NaN.
    """
    if isinstance(model, type):
        raise Nudge(
            f"This is the class {model.__name__}: make a network of it, {model.__name__}()."
        )
    if not isinstance(model, torch.nn.Module):
        raise Nudge(f"A network (nn.Module) is wanted, and this is {_described(model)}.")
    with evaluating(model), torch.no_grad():  # inference tensors could not be trained later
        logits = call(model, images.to(device_of(model)), name="the network")
    if not isinstance(logits, torch.Tensor):
        raise Nudge(f"The network returns {_described(logits)} instead of a tensor.")
    if classes is not None:
        _compare_shapes(tuple(logits.shape), (len(images), classes), "what the network returns")
    if not torch.isfinite(logits).all():
        raise Nudge("The network returns NaN or infinity.")
    return logits.float().cpu()


def require(condition, words):
    """Raise a `Nudge` with these words where the condition does not hold."""
    if not condition:
        raise Nudge(words)


def _described(answer):
    if isinstance(answer, type):
        return f"the class {answer.__name__}"
    name = type(answer).__name__
    if type(answer).__module__ != "builtins":
        return f"an object of the type {name}"
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _shape(shape):
    comma = "," if len(shape) == 1 else ""
    return f"the shape ({', '.join(map(str, shape))}{comma})"


def _capital(name):
    return name[0].upper() + name[1:]
