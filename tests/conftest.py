import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import hypothesis
import nbformat
import pytest
import torch

from fmnist_lib import download
from fmnist_lib.data import Split, load_fashion_mnist

os.environ.setdefault("MPLBACKEND", "agg")

# On a busy machine an example may take longer than Hypothesis' deadline of 200 ms, which says
# nothing about the code; and the same examples each time give the same verdict each time.
hypothesis.settings.register_profile("course", deadline=None, derandomize=True)
hypothesis.settings.load_profile("course")

ROOT = Path(__file__).parent.parent
NOTEBOOKS = ROOT / "notebooks"
MOST_EXEMPT = 0.25  # of the code cells of all chapters together


def count_exempt_cells():
    """Count the chapters' code cells whose outputs are not compared, and all their code cells."""
    notebooks = [json.loads(path.read_text("utf-8")) for path in NOTEBOOKS.glob("*.ipynb")]
    cells = [c for notebook in notebooks for c in notebook["cells"] if c["cell_type"] == "code"]
    return sum("nbval-ignore-output" in c["metadata"].get("tags", []) for c in cells), len(cells)


def pytest_terminal_summary(terminalreporter):
    exempt, cells = count_exempt_cells()
    terminalreporter.write_line(
        f"chapters: {exempt} of {cells} code cells are exempt from comparison "
        f"({exempt / cells:.0%}; at most {MOST_EXEMPT:.0%})".replace("%", " %")
    )


@pytest.fixture
def exempt_cells():
    """Give the exempt code cells of all chapters, all code cells, and the largest share."""
    return *count_exempt_cells(), MOST_EXEMPT


@pytest.fixture(scope="session")
def load_script():
    """Import a script from outside the package: (path in the project) -> module."""

    def load(script):
        path = ROOT / script
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(path.parent)  # it may import its neighbours
            spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def sample():
    return load_fashion_mnist(sample=True)


@pytest.fixture(scope="session")
def full_data():
    """All 70,000 images, if they are on this machine; nothing is downloaded for a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download, "MIRRORS", ())
        try:
            return load_fashion_mnist()
        except download.DataError:
            pytest.skip("needs the full data set: run 'make data'")


@pytest.fixture
def random_split():
    """Make splits of noise: (n) -> Split with all ten labels in turn."""

    def make(n, seed=0):
        images = torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
        return Split(images, torch.arange(n) % 10)

    return make


@pytest.fixture(scope="session")
def write_chapter():
    """Write a tiny chapter: (path, source of its parameters cell, *of others) -> path."""

    def write(path, *sources, tags=("parameters",)):
        cells = [nbformat.v4.new_code_cell(source) for source in sources]
        cells[0].metadata.tags = list(tags)
        notebook = nbformat.v4.new_notebook(cells=cells)
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "", "language": "python"}
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, path)
        return path

    return write


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def put(runs):
    """Write the record of a run: (name of its folder, parameters, metrics, other entries)."""

    def write(name, parameters, metrics=(), **others):
        record = {"state": "finished", "error": None, "chapter": "02_net", "code": "c"}
        record |= {"parameters": parameters, "metrics": dict(metrics), "networks": {}}
        record |= {"seconds": 10.0, "threads": 2, "attempts": 1} | others
        (runs / name).mkdir(parents=True, exist_ok=True)
        (runs / name / "results.json").write_text(json.dumps(record))
        return record

    return write


@pytest.fixture
def as_a_user():
    """Give the words before a command that take root's right to every file from it."""
    if os.name != "posix":
        pytest.skip("needs permissions as Unix has them")
    if os.geteuid():
        return ()
    rights = "-dac_override,-dac_read_search"
    drop = ("setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}")
    if subprocess.run([*drop, "true"], capture_output=True).returncode:
        pytest.skip("root may read and write everywhere; needs setpriv")
    return drop


@pytest.fixture
def mount_disk():
    """Give a function that mounts a new disk of a size such as "4m", and skips where it cannot."""
    folders = []

    def mount(folder, size):
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if sys.platform != "linux" or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("needs Linux and the right to mount")
        folders.append(folder)
        return folder

    yield mount
    for folder in folders:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
