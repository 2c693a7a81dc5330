"""What needs the project's public address: the site's buttons, links in README and chapters.

The address is ``Repository`` in pyproject.toml's ``[project.urls]``. Without it, there are none.
The site asks for it at each build; the command ``make links`` writes it into the files.
"""

import re
import sys
import tomllib
from pathlib import Path

import nbformat

ROOT = Path(__file__).parent.parent.parent
FIRST = "notebooks/01_data_exploration.ipynb"
BINDER, COLAB = "https://mybinder.org", "https://colab.research.google.com"
MARKED = re.compile(r"(<!-- made by make links -->\n).*?(<!-- end of the links -->)", re.S)
BLOCK = re.compile(r"try:\n    import fmnist_lib .*?(?=\n\n)", re.S)
HERE = """\
try:
    import fmnist_lib  # noqa: F401
except ModuleNotFoundError:
    raise ImportError(
        "This chapter needs the course's library: open it with 'make lab' in the "
        "course's folder, or first install that folder with '%pip install FOLDER'."
    ) from None"""
PUBLIC = """\
try:
    import fmnist_lib  # noqa: F401
except ModuleNotFoundError:
    library = "git+{address}"
    if "google.colab" not in str(get_ipython()):
        raise ImportError(f"This chapter needs: %pip install {{library}}") from None
    get_ipython().run_line_magic("pip", f"install --quiet {{library}}")"""


def read_address(project):
    """Read the public address from a project's folder; "" if it is not set."""
    settings = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    address = settings["project"].get("urls", {}).get("Repository", "").rstrip("/")
    if address and not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", address):
        sys.exit(
            f"Repository in pyproject.toml is {address}, expected https://github.com/OWNER/NAME, "
            "which Colab and Binder can open; correct it, or remove it"
        )
    return address


def theme_options(address):
    """Return the options of the site's theme that an address turns on."""
    if not address:
        return {}
    return {
        "repository_url": address,
        "repository_branch": "main",
        "use_repository_button": True,
        "use_edit_page_button": True,
        "use_issues_button": True,
        "launch_buttons": {
            "notebook_interface": "jupyterlab",
            "binderhub_url": BINDER,
            "colab_url": COLAB,
        },
    }


def write_links(project, address):
    """Write the links of the README and the chapters' first cells, or take them away."""
    name = address.removeprefix("https://github.com/")
    line = (
        "Try it without installing anything: "
        f"[Colab]({COLAB}/github/{name}/blob/main/{FIRST}), "
        f"[Binder]({BINDER}/v2/gh/{name}/main?urlpath=lab/tree/{FIRST}). "
        f"[Something wrong?]({address}/issues)\n"
    )
    _replace(project / "README.md", MARKED, rf"\g<1>{line if address else ''}\g<2>")
    block = PUBLIC.format(address=address) if address else HERE
    for path in sorted((project / "notebooks").glob("0*.ipynb")):
        notebook = nbformat.read(path, 4)
        cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
        cell.source = BLOCK.sub(lambda match: block, cell.source, count=1)
        nbformat.write(notebook, path)
        _replace(path.with_suffix(".py"), BLOCK, block)


def _replace(path, pattern, text):
    old = path.read_text(encoding="utf-8")
    path.write_text(pattern.sub(text, old, count=1), encoding="utf-8", newline="\n")


def setup(app):
    """Turn the buttons on, before the theme reads its options."""

    def turn_on(app, config):
        config.html_theme_options |= theme_options(read_address(ROOT))

    app.connect("config-inited", turn_on)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    write_links(ROOT, read_address(ROOT))
