"""The core imports from no wing, no wing from the other, and imports go round in no circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parent.parent / "fmnist_lib"
WINGS = {"experiments", "course"}


def module_name(path):
    parts = path.relative_to(LIBRARY.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in LIBRARY.rglob("*.py")}


def imported_modules(source):
    """List the library's modules that a source imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "write the import with its full name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in MODULES else node.module for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & MODULES.keys()


IMPORTS = {name: imported_modules(path.read_text("utf-8")) for name, path in MODULES.items()}


def wing(module):
    room = module.split(".")[1] if "." in module else ""
    return room if room in WINGS else "core"


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"fmnist_lib.cli"}))
def test_a_module_imports_from_the_core_and_its_own_wing(module):
    allowed = {"core", wing(module)}
    assert {name for name in IMPORTS[module] if wing(name) not in allowed} == set()
    assert "fmnist_lib.cli" not in IMPORTS[module]


def test_imports_go_one_way():
    TopologicalSorter(IMPORTS).prepare()  # raises a CycleError that names the circle


@pytest.mark.parametrize(
    ("line", "modules"),
    [
        ("from fmnist_lib import cli, data", {"fmnist_lib.cli", "fmnist_lib.data"}),
        ("from fmnist_lib.data import Split", {"fmnist_lib.data"}),
        ("import fmnist_lib.plotting.style as s, torch", {"fmnist_lib.plotting.style"}),
        ("def f():\n    from fmnist_lib.training import fit", {"fmnist_lib.training"}),
        ("from pathlib import Path", set()),
    ],
)
def test_every_form_of_import_is_seen(line, modules):
    assert imported_modules(line) == modules
