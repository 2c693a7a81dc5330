"""The API pages, one for each room of the library, and what a name in a docstring refers to.

On a page, a comment such as ``<!-- modules of training -->`` stands for a section on every module
of that package; ``core`` and ``plumbing`` are the modules outside the packages. So a new module is
on the site without an entry in any list.

A docstring names a function by its own name, `fit`, wherever it is defined. The role ``docstring``
looks for the name in the module at hand first, and then in the whole library. A name that is found
nowhere, or twice, fails the build. (Sphinx's own ``any`` confuses names with glossary terms.)
"""

import ast
import re
from pathlib import Path

from sphinx.domains.python import PyXRefRole

LIBRARY = Path(__file__).parents[2] / "fmnist_lib"
PLUMBING = {"chapters", "cli", "common", "download", "progress"}
SECTION = """\
## {title}

```{{eval-rst}}
.. automodule:: {name}
```
"""


class DocstringRole(PyXRefRole):
    """Sphinx's role ``py:obj``, which looks in other modules, too."""

    def process_link(self, env, refnode, has_explicit_title, title, target):
        """Tell Sphinx to accept the end of a name, as if it began with a dot."""
        refnode["refspecific"] = True
        refnode["reftype"] = "obj"
        return super().process_link(env, refnode, has_explicit_title, title, target)


def room_of(module):
    """Find the page of a module: that of its package, ``plumbing``, or ``core``."""
    name, *inside = module.split(".")[1:] or [""]
    if inside or ((LIBRARY / name / "__init__.py").is_file() and name not in ("", "measured")):
        return name
    return "plumbing" if name in PLUMBING else "core"


def modules(room=None):
    """List the modules of a room, or all, each package before its modules."""
    paths = (path.relative_to(LIBRARY.parent).with_suffix("") for path in LIBRARY.rglob("*.py"))
    names = sorted(".".join(path.parts).removesuffix(".__init__") for path in paths)
    return [name for name in names if room in (None, room_of(name))]


def _fill_page(app, page, source):
    def sections(comment):
        names = {name: name.removeprefix("fmnist_lib.") for name in modules(comment[1])}
        return "\n".join(SECTION.format(title=title, name=name) for name, title in names.items())

    if page.startswith("book/api/"):
        source[0] = re.sub(r"<!-- modules of (\w+) -->", sections, source[0])


def _know_types(app, config):
    # In the type of a parameter, only what is listed is a reference; other words are words.
    config.numpydoc_xref_ignore = "all"
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in LIBRARY.rglob("*.py"))
    classes = (node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef))
    ours = {name: f":docstring:`{name}`" for name in classes if not name.startswith("_")}
    config.numpydoc_xref_aliases = ours | config.numpydoc_xref_aliases


def setup(app):
    """Register the role, fill the pages, and tell numpydoc the library's own types."""
    app.add_role_to_domain("py", "docstring", DocstringRole())
    app.connect("source-read", _fill_page)
    app.connect("config-inited", _know_types, priority=400)  # numpydoc reads them at 500
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
