"""References of the API pages: what a name in a docstring of the library means.

A docstring names a function by its own name, `fit`, wherever that is defined. Sphinx's role for
Python objects wants the module in front; the role ``docstring`` looks for the name in the module at
hand first, and then in the whole library. A name found nowhere, or twice, fails the build.
"""

import ast
from pathlib import Path

from sphinx.domains.python import PyXRefRole

LIBRARY = Path(__file__).parents[2] / "fmnist_lib"


class DocstringRole(PyXRefRole):
    """Sphinx's role ``py:obj``, which looks in other modules, too."""

    def process_link(self, env, refnode, has_explicit_title, title, target):
        """Tell Sphinx to accept the end of a name, as if it began with a dot."""
        refnode["refspecific"] = True
        refnode["reftype"] = "obj"
        return super().process_link(env, refnode, has_explicit_title, title, target)


def public_classes():
    """List the names of the library's classes; nothing is imported for it."""
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in LIBRARY.rglob("*.py"))
    classes = (node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef))
    return sorted(name for name in classes if not name.startswith("_"))


def _know_types(app, config):
    # In the type of a parameter, only what is listed is a reference; other words are words.
    config.numpydoc_xref_ignore = "all"
    ours = {name: f":docstring:`{name}`" for name in public_classes()}
    config.numpydoc_xref_aliases = ours | config.numpydoc_xref_aliases


def setup(app):
    """Register the role, and the library's classes as types that docstrings name."""
    app.add_role_to_domain("py", "docstring", DocstringRole())
    app.connect("config-inited", _know_types, priority=400)  # numpydoc reads them at 500
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
