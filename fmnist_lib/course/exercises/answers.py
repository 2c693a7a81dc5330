"""Reading answers in any usual form, calling students' functions, and comparing the results."""

import sysconfig
import textwrap
import traceback
from copy import copy
from pathlib import Path

import numpy as np
import torch

from fmnist_lib.common import one_line
from fmnist_lib.course.exercises.feedback import Nudge
from fmnist_lib.inspection import device_of, evaluating

RETURNED = "what your function returns"
"""How a nudge refers to the result of a student's function."""

LIBRARIES = (sysconfig.get_path("stdlib"), str(Path(__file__).parents[2]))
"""Folders of Python and of this package, whose code is not the student's to fix."""


def read_array(answer, name="the answer", shape=None, *, finite=True):
    """Read real numbers in any usual form as an array of float64 or bool, or raise a `Nudge`.

    The usual forms are numbers, arrays, tensors on any device, Series, DataFrames and (nested)
    lists. If a shape is given, the array must have it, and a column counts as a row. NaN is
    refused, and so is infinity if the answer must be finite.
    """
    name = _capital(name)
    try:
        array = np.asarray(_without_tensors(answer))
        if array.dtype.kind in "SUc":  # NumPy would convert them, losing something or warning
            raise TypeError
        array = array if array.dtype == bool else array.astype(float)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        hint = "call it, and give what it returns"
        hint = hint if callable(answer) else "give a number, or numbers in rows of equal length"
        raise Nudge(
            f"{name} is of type {type(answer).__name__} and cannot be read as real numbers: {hint}."
        ) from None
    if array.shape == (*(shape or ()), 1):
        array = array[..., 0]
    refuse(
        shape not in (None, array.shape)
        and f"{name} has shape {array.shape}, but should have shape {shape}.",
        (np.isnan(array) | (finite & np.isinf(array))).any()
        and f"{name} {'holds' if array.ndim else 'is'} NaN or infinity: look for a division by 0, "
        "the root or logarithm of a negative number, or the mean of nothing.",
    )
    return array


def _without_tensors(answer):
    # NumPy reads neither gradients, nor GPUs, nor bfloat16.
    if isinstance(answer, torch.Tensor):
        return (answer.double() if answer.is_floating_point() else answer).numpy(force=True)
    if isinstance(answer, list | tuple):
        return [_without_tensors(entry) for entry in answer]
    return answer


def number(answer, name="the answer", *, finite=True):
    """Read one number, as `read_array` does, from anything that holds exactly one."""
    array = read_array(answer, name, finite=finite)
    refuse(
        array.size != 1 and f"One number is needed for {name}, but this has shape {array.shape}.",
        array.dtype == bool and f"A number is needed for {name}, but this is true or false.",
    )
    return float(array.item())


def refuse(*mistakes):
    """Raise a `Nudge` for the first mistake made, each given as ``made and "the words for it"``."""
    for words in mistakes:
        if words:
            raise Nudge(words)


def expect(found, right, wrong_turns, otherwise, *, rtol=0.0, atol=1e-6):
    """Raise a `Nudge` unless an answer is right, within tolerances as in `numpy.allclose`.

    ``wrong_turns`` maps likely wrong answers to their words; any other gets those of ``otherwise``.
    """

    def equals(value):
        return np.allclose(found, value, rtol=rtol, atol=atol)

    if not equals(right):
        refuse(*(equals(wrong) and words for wrong, words in wrong_turns.items()), otherwise)


def call(function, *arguments, name="your function"):
    """Call a student's function, and raise a `Nudge` if it fails or returns nothing.

    The function gets copies of tensors and arrays, so that writing into them does no harm.
    """
    if not callable(function):
        raise Nudge(
            f"A function is needed, and this is of type {type(function).__name__}: give the "
            "function's name, without parentheses."
        )
    arguments = [a.clone() if isinstance(a, torch.Tensor) else copy(a) for a in arguments]
    name = _capital(name)
    try:
        result = function(*arguments)
    except (Exception, SystemExit) as error:
        place = _place(traceback.extract_tb(error.__traceback__)[1:])
        raise Nudge(f"{name} stopped with {one_line(error)}{place}.") from None
    if result is None or result is ...:
        raise Nudge(f"{name} returns nothing yet: end it with return and the result.")
    return result


def _place(frames):
    """Quote the last line that is the student's own."""
    for frame in reversed(frames):
        if "site-packages" not in frame.filename and not frame.filename.startswith(LIBRARIES):
            line = textwrap.shorten(frame.line or "", 80, placeholder=" ...")
            return f", at '{line}'" if line else f", in line {frame.lineno}"
    return ""


def run_model(model, images, shape=None):
    """Run a model on its device and return its logits, float32 on the CPU, or raise a `Nudge`.

    Each layer keeps its mode, training or evaluation. If a shape is given, the logits must have it.
    """
    if not isinstance(model, torch.nn.Module):
        raise Nudge(
            f"A network (nn.Module) is needed, and this is of type {type(model).__name__}: create "
            "one, with parentheses after the name of its class."
        )
    with evaluating(model), torch.no_grad():  # inference tensors could not be trained later
        logits = call(model, images.to(device_of(model)), name="the network")
    if not isinstance(logits, torch.Tensor):
        raise Nudge(f"The network should return a tensor, not {type(logits).__name__}.")
    read_array(logits, "what the network returns", shape)
    return logits.float().cpu()


def _capital(name):
    return name[0].upper() + name[1:]
