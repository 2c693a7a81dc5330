"""Time each chapter with one thread; make fmnist_lib/measured/chapter_times.json.

    python benchmarks/chapter_times.py

``fmnist sweep --dry-run`` uses it to estimate the time of a sweep before any run has finished.
This takes about ten minutes.
"""

import json
import tempfile
from pathlib import Path

from fmnist_lib.chapters import CHAPTERS
from fmnist_lib.experiments.parameters import read_parameters
from fmnist_lib.experiments.run import prepare_run, run_experiment
from fmnist_lib.experiments.sweeps import TIMES
from fmnist_lib.trained import machine_record

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
EPOCHS = (1, 4)  # two points of a straight line: time grows linearly with epochs


def measure(name, folder):
    """Return [epochs, seconds] for each run of a chapter; one run if it has nothing to train."""
    notebook = NOTEBOOKS / f"{name}.ipynb"
    trains = "epochs" in read_parameters(notebook)
    times = []
    for epochs in EPOCHS if trains else (1,):
        given = {"epochs": epochs} if trains else {}
        run = prepare_run(notebook, given)
        record = run_experiment(run, Path(folder) / f"{name}-{epochs}", threads=1)
        times.append([epochs, record["seconds"]])
    return times


def main():
    """Time all chapters."""
    with tempfile.TemporaryDirectory() as folder:
        times = {name: measure(name, folder) for name in CHAPTERS}
    record = {"command": "python benchmarks/chapter_times.py", "machine": machine_record()}
    TIMES.write_text(json.dumps(record | {"chapters": times}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
