"""Run the chapters under strict nbval, on this machine made to look like others.

    python benchmarks/portability.py                        # six variants; 90 minutes
    python benchmarks/portability.py --number 2             # the first two of them
    python benchmarks/portability.py --variants avx2-2-1    # one of your choice

A variant is an instruction set, a number of threads and a seed, joined by hyphens. Each executes
all chapters in an empty folder, so that chapters 3 and 4 load what chapters 2 and 3 have just
trained there, and every output that is not exempt is compared with the published one. With another
seed, a figure need only exist, be as large as the published one, and not be blank. The six
default variants let every instruction set and every seed meet both numbers of threads.

A variant that has passed is kept in runs/portability until a chapter, the library or the set of
packages changes: without --variants, it is not run again, so that an hour's work can be stopped and
started, or shared by two terminals. When all default variants have passed, portability.csv is
written next to this file. A failing variant leaves its log in runs/portability.
"""

import argparse
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from itertools import product
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from fmnist_lib.chapters import CHAPTERS
from fmnist_lib.common import digest
from fmnist_lib.experiments.execution import THREADS
from fmnist_lib.progress import progress_bar

ROOT = Path(__file__).parent.parent
LOCK = "requirements.lock"
KEPT = ROOT / "runs" / "portability"
# In this order, the limits of PyTorch's own kernels (and of the programs that it compiles), of its
# convolutions, of its matrix products, and of NumPy's and SciPy's.
INSTRUCTION_SETS = {
    "native": {},
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
    },
    "baseline": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "OPENBLAS_CORETYPE": "Nehalem",
    },
}


class Variant(NamedTuple):
    """A machine to imitate, and the seed for training."""

    instructions: str
    threads: int
    seed: int

    def __str__(self):
        return "-".join(map(str, self))


ALL = {str(v): v for v in map(Variant._make, product(INSTRUCTION_SETS, (1, 2), (0, 1, 2)))}
DEFAULT = ("native-1-1", "native-2-2", "avx2-1-2", "avx2-2-0", "baseline-1-0", "baseline-2-1")


class Row(NamedTuple):
    """A row of the table: the variant, what PyTorch saw of it, and how its chapters did."""

    variant: Variant
    kernels: str
    threads: str
    seed: int
    chapters: int
    cells: int
    failed: int
    minutes: int


def environment(variant, folder):
    """Make the environment of a variant, in which nothing else limits the libraries."""
    import torch

    # On other processors the variables mean nothing, or ask for more than there is.
    limited = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    known = {*THREADS, *(name for settings in INSTRUCTION_SETS.values() for name in settings)}
    made = {name: value for name, value in os.environ.items() if name not in known}
    if "FMNIST_DATA" in made:
        made["FMNIST_DATA"] = str(Path(made["FMNIST_DATA"]).resolve())
    made["OMP_NUM_THREADS"] = str(variant.threads)
    # Chapter 5 compiles again, since the cache may be for a different instruction set.
    made["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "compiled")
    return made | (INSTRUCTION_SETS[variant.instructions] if limited else {})


def as_torch_sees_it(made):
    """Ask PyTorch, in an environment, for its instruction set and its number of threads."""
    code = "import torch; print(torch.backends.cpu.get_cpu_capability(), torch.get_num_threads())"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=made, check=True, capture_output=True, text=True)
    return done.stdout.split()


def copy_chapter(name, folder, parameters):
    """Copy a chapter with its published outputs, and set those of the parameters that it has.

    Returns
    -------
    int
        The number of the copy's code cells.
    """
    import nbformat
    from papermill import inspect_notebook
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    source = str(ROOT / "notebooks" / f"{name}.ipynb")
    notebook = load_notebook_node(source)
    known = inspect_notebook(re.sub("[{}]", r"\g<0>\g<0>", source))  # takes it for a format string
    given = {key: value for key, value in parameters.items() if key in known}
    if "seed" in given:
        notebook = parameterize_notebook(notebook, given)
        for cell in notebook.cells:
            if "injected-parameters" in cell.metadata.get("tags", []):
                cell.execution_count = 0  # nbval compares no cell that was never executed
    if given.get("seed", 0) != 0:
        for cell in notebook.cells:
            cell.metadata["tags"] = ["figure-images", *cell.metadata.get("tags", [])]
    shutil.copy(ROOT / "notebooks" / "conftest.py", folder)  # compares the figures
    nbformat.write(notebook, folder / f"{name}.ipynb")
    return sum(cell.cell_type == "code" for cell in notebook.cells)


def run_pytest(folder, chapters, made, bar):
    """Execute the copies and compare; return pytest's exit status and what it printed."""
    command = [sys.executable, "-u", "-m", "pytest", "--nbval", "--nbval-cell-timeout=3600"]
    command += ["-p", "no:cacheprovider", "-v", "--color=no", "--junitxml=results.xml"]
    child = subprocess.Popen(
        [*command, *(f"{name}.ipynb" for name in chapters)],
        cwd=folder,
        env=made,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # Ctrl-C reaches it once, from here
    )
    log = []
    try:
        for line in child.stdout:
            log.append(line)
            bar.update(bool(re.search(r"::Cell \d+ [A-Z]+ ", line)))
        return child.wait(), "".join(log)
    finally:
        if child.poll() is None:
            stop(child)


def stop(child):
    """Let pytest shut down its kernel and exit."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C would leave orphans
    child.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
    try:
        child.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()


def read_results(path):
    """Read pytest's record: each chapter's seconds, the number of cells, and the failed ones."""
    seconds, cells, failed = defaultdict(float), 0, []
    for case in ElementTree.parse(path).iter("testcase"):
        chapter = case.get("classname").removesuffix(".ipynb")
        seconds[chapter] += float(case.get("time"))
        cells += 1
        # After a cell that took too long, the rest are skipped.
        if any(case.find(kind) is not None for kind in ("failure", "error", "skipped")):
            failed.append(f"{chapter}, {case.get('name')}")
    return seconds, cells, failed


def check(variant, chapters):
    """Run a variant, say how it went, and return its row of the table."""
    with tempfile.TemporaryDirectory(prefix="portability-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        made = environment(variant, folder)
        kernels, threads = as_torch_sees_it(made)
        parameters = {"seed": variant.seed, "device": "cpu"}
        total = sum(copy_chapter(chapter, folder, parameters) for chapter in chapters)
        with progress_bar(total, str(variant), unit="cell") as bar:
            status, log = run_pytest(folder, chapters, made, bar)
        if status in (0, 1):  # all cells passed, or some failed
            seconds, cells, failed = read_results(folder / "results.xml")
        else:
            seconds, cells, failed = {}, 0, [f"pytest ended with status {status}"]
        keep_log(variant, log if failed else None, folder / "runs" / "figures")
    chapters_took = ", ".join(f"{chapter} {value:.0f} s" for chapter, value in seconds.items())
    print(f"{variant}: {chapters_took or 'nothing was executed'}", flush=True)
    for cell in failed:
        print(f"  failed: {cell}", flush=True)
    minutes = round(sum(seconds.values()) / 60)
    counts = len(seconds), cells, len(failed)
    return Row(variant, kernels, threads, variant.seed, *counts, minutes)


def keep_log(variant, log, figures):
    """Keep the log and the figures of a variant that failed, in place of earlier ones."""
    path = KEPT / f"{variant}.log"
    path.unlink(missing_ok=True)
    shutil.rmtree(KEPT / f"{variant}-figures", ignore_errors=True)
    if figures.exists():
        shutil.copytree(figures, KEPT / f"{variant}-figures")
    if log is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(log, encoding="utf-8")
        print(f"  its log: {path.relative_to(ROOT)}")


def state():
    """Compute a digest of everything that a variant executes."""
    files = [*ROOT.glob("notebooks/*"), *ROOT.glob("fmnist_lib/**/*"), ROOT / LOCK]
    return digest(*sorted(f for f in files if f.is_file() and "__pycache__" not in f.parts))


def keep(row, now):
    """Keep the row of a variant that has passed all chapters."""
    if row.failed == 0 and row.chapters == len(CHAPTERS):
        KEPT.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"state": now, "row": [str(row.variant), *row[1:]]})
        (KEPT / f"{row.variant}.json").write_text(text, encoding="utf-8")


def kept(name, now):
    """Read the row of a variant, if it has passed in this state."""
    try:
        record = json.loads((KEPT / f"{name}.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Row(*record["row"]) if record["state"] == now else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=ALL,
        metavar="NAME",
        help=f"such as avx2-2-1; of {', '.join(INSTRUCTION_SETS)}, threads 1 or 2, seed 0 to 2 "
        f"(default: {' '.join(DEFAULT)})",
    )
    parser.add_argument(
        "--number",
        type=int,
        choices=range(1, len(ALL) + 1),
        default=len(DEFAULT),
        metavar="N",
        help=f"run the first N of all {len(ALL)} variants (default: {len(DEFAULT)})",
    )
    parser.add_argument(
        "--chapters",
        nargs="+",
        choices=CHAPTERS,
        default=CHAPTERS,
        metavar="NAME",
        help=f"such as {CHAPTERS[0]} (default: all); what they load is trained if it is not there",
    )
    options = parser.parse_args()
    names = (
        options.variants
        or [*DEFAULT, *(name for name in ALL if name not in DEFAULT)][: options.number]
    )
    chapters = [name for name in CHAPTERS if name in options.chapters]
    # So that SIGTERM also ends the child and removes the temporary folder.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    rows, now, asked = [], state(), options.variants is not None or options.chapters != CHAPTERS
    try:
        for name in names:
            row = None if asked else kept(name, now)
            rows.append(row or check(ALL[name], chapters))
            keep(rows[-1], now)
    except KeyboardInterrupt:
        sys.exit("interrupted; what has passed is kept")
    for row in (Row._fields, *rows):
        print("{!s:14}{:>8}{:>9}{:>6}{:>10}{:>7}{:>8}{:>9}".format(*row))
    table = [kept(name, now) for name in DEFAULT]
    if all(table):
        with open(Path(__file__).with_suffix(".csv"), "w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([Row._fields, *table])
    return any(row.failed for row in rows)


if __name__ == "__main__":
    sys.exit(main())
