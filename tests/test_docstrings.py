"""Docstrings against the signatures, with numpydoc as the judge."""

import importlib
import inspect
import pkgutil

import pytest
from numpydoc.validate import validate

import fmnist_lib


def public_functions():
    """Give every public function and method with a section on parameters, by its full name."""
    for module in pkgutil.walk_packages(fmnist_lib.__path__, "fmnist_lib."):
        for name, thing in vars(importlib.import_module(module.name)).items():
            if name.startswith("_") or getattr(thing, "__module__", None) != module.name:
                continue
            here = f"{module.name}.{name}"
            functions = {here: thing}
            if inspect.isclass(thing):
                functions |= {f"{here}.{method}": f for method, f in vars(thing).items()}
            for full_name, function in functions.items():
                public = not full_name.rsplit(".", 1)[1].startswith("_")
                if public and "Parameters\n" in (inspect.getdoc(function) or ""):
                    yield full_name


@pytest.mark.parametrize("name", list(public_functions()))
def test_the_parameters_are_those_of_the_signature(name):
    wrong = [words for code, words in validate(name)["errors"] if code in ("PR01", "PR02", "PR03")]
    assert not wrong
