"""Make ``inventories/``: where the names of other projects stand in their documentation.

Sphinx links a name such as ``pandas.DataFrame`` with the help of the inventory that each project
publishes with its documentation. The site is built without a network, so it keeps an extract: the
names that the library's docstrings mention, in Sphinx's plain-text form.

    python book/make_inventories.py                        # fetch every inventory
    python book/make_inventories.py python=objects.inv     # take this file, keep the other extracts
"""

import io
import re
import sys
from pathlib import Path

import requests
import yaml
from numpydoc.xref import DEFAULT_LINKS
from sphinx.util.inventory import InventoryFile

HERE = Path(__file__).parent
KINDS = ("py:class", "py:function", "py:method", "py:attribute", "py:data", "py:exception")


def read_config():
    """Read the sites, name -> (address, extract), and the types that docstrings abbreviate."""
    config = yaml.safe_load((HERE / "_config.yml").read_text(encoding="utf-8"))["sphinx"]["config"]
    return config["intersphinx_mapping"], config["numpydoc_xref_aliases"]


def mentioned_names(aliases):
    """Collect the names that the docstrings mention, as a type or in quotes."""
    sources = [path.read_text(encoding="utf-8") for path in HERE.parent.glob("fmnist_lib/**/*.py")]
    text = "\n".join(sources)
    links = DEFAULT_LINKS | aliases
    types = [links[word] for word in set(re.findall(r"[A-Za-z][\w.]*\w", text)) & set(links)]
    quoted = re.findall(r"(?<!`)`([\w.]+)`(?!`)", text)
    return {re.search(r"[\w.]*(?=[`>]*$)", name)[0] for name in [*types, *quoted]}


def extract(inventory, names):
    """Take the lines of these names out of an inventory.

    Parameters
    ----------
    inventory : bytes
        Content of an ``objects.inv``.
    names : set of str

    Returns
    -------
    str
        In the first version of the form: a name, its kind, and its page, to which Sphinx adds the
        name as the anchor. A name with another anchor is left out.
    """
    kinds = InventoryFile.load(io.BytesIO(inventory), "", lambda site, page: page)
    lines, project = set(), ""
    for kind in KINDS:
        for name in names & set(kinds.get(kind, {})):
            project, _, location, _ = kinds[kind][name]
            page, _, anchor = location.partition("#")
            if anchor == name:
                lines.add(f"{name} {kind.removeprefix('py:')} {page}")
    head = ["# Sphinx inventory version 1", f"# Project: {project}", "# Version: "]
    return "\n".join([*head, *sorted(lines)]) + "\n"


def main(*given):
    """Write the extracts, from the given files or from the projects' sites."""
    sites, aliases = read_config()
    files = dict(argument.split("=", 1) for argument in given)
    names = mentioned_names(aliases)
    for project in files or sites:
        if project not in sites:
            raise SystemExit(f"there is no project {project!r}; choose one of {', '.join(sites)}")
        address, path = sites[project]
        if project in files:
            content = Path(files[project]).read_bytes()
        else:
            answer = requests.get(f"{address}/objects.inv", timeout=30)
            answer.raise_for_status()
            content = answer.content
        (HERE.parent / path).write_text(extract(content, names), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
