"""Measure what a sweep costs beyond its runs, what a second worker gains, and whether memory grows.

python benchmarks/sweeps.py                 # 12 minutes; makes sweeps.csv next to this file
python benchmarks/sweeps.py --runs 100      # a shorter look at memory; writes nothing
"""

import argparse
import csv
import statistics
import tempfile
import time
from pathlib import Path

import nbformat
import papermill
import psutil

from fmnist_lib.experiments.cluster import run_sweep
from fmnist_lib.experiments.run import prepare_run, run_experiment
from fmnist_lib.experiments.sweeps import load_sweep, make_plan
from fmnist_lib.progress import progress_bar

TABLE = Path(__file__).with_name("sweeps.csv")
TRAINING = Path(__file__).with_name("training.ipynb")
REPEATS = 15  # of a tiny run
SPEEDUP_RUNS = 8  # of some seconds each
MIB = 2**20


def make_tiny(folder):
    """Write a notebook that does next to nothing."""
    notebook = nbformat.v4.new_notebook()
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "", "language": "python"}
    notebook.cells = [
        nbformat.v4.new_code_cell("seed: int = 0  # of nothing", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("print(seed)"),
    ]
    nbformat.write(notebook, folder / "tiny.ipynb")
    return folder / "tiny.ipynb"


def seconds(work, *arguments):
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


def measure_overhead(tiny, folder):
    """Return the median seconds of a tiny run by papermill and by run_experiment, in turns."""

    def alone(k):
        output = folder / f"papermill-{k}.ipynb"
        papermill.execute_notebook(tiny, output, {"seed": k}, progress_bar=False)

    def kept(k):
        run_experiment(prepare_run(tiny, {"seed": k}), folder / f"kept-{k}", progress=False)

    pairs = [(seconds(alone, k), seconds(kept, k)) for k in range(REPEATS + 1)]
    return [statistics.median(column) for column in zip(*pairs[1:], strict=True)]  # first: imports


def sweep_file(path, notebook, seeds, parameters="{}"):
    path.write_text(f"chapter: {notebook}\nparameters: {parameters}\nseeds: {seeds}\n")
    return load_sweep(path)


def measure_speedup(folder):
    """Return the seconds of a sweep with one worker and with two, start-up included."""
    parameters = "{sample: true, epochs: 60, device: cpu}"
    sweep = sweep_file(folder / "trainings.yml", TRAINING, SPEEDUP_RUNS, parameters)

    def work(workers):
        plan = make_plan(sweep, folder / f"workers-{workers}")
        assert not run_sweep(plan, workers=workers)

    return seconds(work, 1), seconds(work, 2)


def measure_memory(tiny, folder, runs):
    """Return a row per tenth of the runs: the number finished, and the process's memory in MiB."""
    plan = make_plan(sweep_file(folder / "tiny.yml", tiny, runs), folder / "tiny")
    ended, rows = [], []
    with progress_bar(runs, "tiny runs", unit="run") as bar:

        def report(event, run, detail):
            if event == "finished":
                bar.update()
                ended.append(run)
                if len(ended) % (runs // 10) == 0:
                    rows.append((len(ended), psutil.Process().memory_info().rss / MIB))

        assert not run_sweep(plan, report=report)
    return rows


def main():
    """Measure all three; print the table, and write it for a full measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000, help="tiny runs for the memory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        tiny = make_tiny(folder)
        alone, kept = measure_overhead(tiny, folder)
        one, two = measure_speedup(folder)
        rows = measure_memory(tiny, folder, options.runs)
    table = [
        ("seconds of a tiny notebook, by papermill alone", f"{alone:.2f}"),
        ("the same as a run that is kept, with its page and its record", f"{kept:.2f}"),
        (f"seconds of {SPEEDUP_RUNS} trainings of one thread each, one worker", f"{one:.0f}"),
        ("the same, two workers", f"{two:.0f}"),
        ("how many times as fast", f"{one / two:.2f}"),
    ]
    for n, size in (rows[0], rows[len(rows) // 2 - 1], rows[-1]):
        table.append((f"MiB of the process after {n} runs", f"{size:.0f}"))
    for row in table:
        print(*row, sep="\t")
    if options.runs == parser.get_default("runs"):
        with TABLE.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([("measured", "value"), *table])


if __name__ == "__main__":
    main()
