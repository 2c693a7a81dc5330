"""One run: a chapter executed with parameters, kept in a folder of its own.

The folder is a finished run if, and only if, it holds ``results.json`` with the state
``"finished"``, which is written last::

    results.json      parameters, metrics, seconds, versions, data, state
    02_cnn.ipynb      the executed chapter, and 02_cnn.html to look at
    02_cnn/           each network that the chapter kept: weights, history and record
    kernel.log        what libraries wrote outside the notebook, if they did

While a chapter runs, all this grows in a subfolder ``.part-…``, which is all that a kill leaves
behind. The next attempt removes it.
"""

import json
import platform
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from threading import Lock

from fmnist_lib.chapters import ChapterError
from fmnist_lib.common import PART, digest, locked, staged, writing
from fmnist_lib.download import SHA256
from fmnist_lib.experiments.execution import Stopped, run_chapter
from fmnist_lib.experiments.parameters import TRAINED, convert_parameters, read_parameters

RECORD = "results.json"
LOG, LOCK = "kernel.log", ".lock"
EXPORT_LOCK = Lock()  # threads share one exporter
PACKAGES = ("fmnist-lib", "papermill", "nbclient", "ipykernel")
# Parameters that say where and not what: runs that differ in nothing else are the same run.
FOLDER_SUFFIX = "_dir"


@dataclass(frozen=True)
class Run:
    """A chapter with checked parameters, ready to execute.

    Attributes
    ----------
    notebook : Path
    known : dict of str to Parameter
        All parameters of the chapter.
    given : dict
        Checked values that override the chapter's defaults.
    name : str
        What distinguishes the run within its sweep: ``"lr=0.001_seed=0"``; also the name of its
        folder.
    """

    notebook: Path
    known: dict
    given: dict
    name: str = ""

    @property
    def parameters(self):
        """The value of every parameter that decides the results: all but the folders."""
        values = {name: parameter.default for name, parameter in self.known.items()} | self.given
        return {name: value for name, value in values.items() if not name.endswith(FOLDER_SUFFIX)}


def prepare_run(notebook, given=None):
    """Make a `Run` of a chapter from values that override its defaults; these are checked."""
    notebook = Path(notebook)
    known = read_parameters(notebook)
    return Run(notebook, known, convert_parameters(notebook.stem, known, given or {}))


def run_experiment(run, folder, *, threads=None, progress=True, stopped=lambda: False):
    """Execute a chapter and keep what it produced; a finished run is not run again.

    Parameters
    ----------
    run : Run
    folder : path
        The run's folder. Only one process at a time works in it.
    threads : int, optional
        Number of threads for the kernel's arithmetic; by default what the libraries choose.
    progress : bool
        Show a progress bar.
    stopped : callable
        Called once per second; True ends the run.

    Returns
    -------
    dict
        What ``results.json`` holds: ``state`` (``"finished"`` or ``"failed"``), ``error``,
        ``chapter``, ``code`` (SHA-256 of the chapter's code), ``parameters`` (all but folders),
        ``metrics`` (of the network named after the chapter), ``networks`` (the metrics of the
        others), ``seconds``, ``started``, ``attempts``, ``threads``, ``data`` (SHA-256 of each
        file, or ``"sample"``), ``packages``, ``machine`` (of the network's record), ``host``.

    Raises
    ------
    ChapterError
        If the chapter fails (the folder then keeps the notebook, executed up to there, and a
        record), if the folder holds a different finished run, or if it cannot be written.
    Stopped
        If ``stopped`` returned True; nothing is kept.
    """
    folder, code = Path(folder).resolve(), code_digest(run.notebook)
    wanted = {"chapter": run.notebook.stem, "code": code, "parameters": run.parameters}
    with writing("the run", folder, ChapterError):
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not (folder / LOCK).exists():
            raise ChapterError(
                f"{folder} is not empty and holds no run; name another folder with -o"
            )
        with locked(folder / LOCK, stopped) as acquired:
            if not acquired or stopped():
                raise Stopped(f"the run in {folder} was stopped")
            before = load_record(folder)
            if before and before["state"] == "finished":
                check_same(before, wanted, folder)
                return before
            wanted["attempts"] = 1 + (before or {}).get("attempts", 0)
            _clear(folder, run.notebook.stem)
            options = {"threads": threads, "progress": progress, "stopped": stopped}
            return _execute(run, folder, wanted, options)


def load_record(folder):
    """Read the record of a run, or return None where no run has finished or failed."""
    try:
        record = json.loads((Path(folder) / RECORD).read_text(encoding="utf-8"))
        return record if record["state"] in ("finished", "failed") else None
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


def code_digest(notebook):
    """Compute the SHA-256 of a notebook's code cells, ignoring its prose and outputs."""
    cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    return digest("\0".join("".join(c["source"]) for c in cells if c["cell_type"] == "code"))


def check_same(record, wanted, folder):
    """Raise ChapterError if a folder's finished run has another chapter, code or parameters."""
    theirs, ours = record["parameters"], wanted["parameters"]
    names = sorted(theirs.keys() | ours.keys())
    other = [f"{n}={theirs.get(n)}" for n in names if theirs.get(n) != ours.get(n)]
    if record["chapter"] != wanted["chapter"]:
        what = f"of {record['chapter']}"
    elif other:
        what = f"with {', '.join(other)}"
    elif record["code"] != wanted["code"]:
        what = f"of an older version of {wanted['chapter']}"
    else:
        return
    raise ChapterError(
        f"{folder} holds a finished run {what}; name another folder with -o, or remove this one"
    )


def _execute(run, folder, wanted, options):
    started, start, error = datetime.now(UTC), time.perf_counter(), None
    data = "sample" if run.parameters.get("sample") else SHA256
    parameters = run.given | ({TRAINED: "."} if TRAINED in run.known else {})
    with staged(folder, "the run", ChapterError, last=RECORD) as part:
        output = part / run.notebook.name
        try:
            run_chapter(run.notebook, output, parameters, log=part / LOG, **options)
        except ChapterError as failure:
            if len(failure.args) < 2:
                raise  # there is no notebook: the disk is full, say
            error = failure.args[0]
        if not (part / LOG).stat().st_size:
            (part / LOG).unlink()
        with EXPORT_LOCK:
            page, _ = _exporter().from_filename(str(output))
        output.with_suffix(".html").write_text(page, encoding="utf-8")
        record = {"state": "failed" if error else "finished", "error": error} | wanted
        record |= _networks(part, run.notebook.stem) | {
            "seconds": round(time.perf_counter() - start, 2),
            "started": started.isoformat(timespec="seconds"),
            "threads": options["threads"],
            "data": data if "data_dir" in run.known else None,
            "packages": {name: version(name) for name in PACKAGES},
            "host": platform.node(),
        }
        (part / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    if error:
        raise ChapterError(error, folder / run.notebook.name)
    return record


def _clear(folder, chapter):
    """Remove what a failed or killed attempt left, and nothing else."""
    (folder / RECORD).unlink(missing_ok=True)
    for path in [*folder.glob(f"{PART}*"), *(path.parent for path in folder.glob("*/record.json"))]:
        shutil.rmtree(path)
    for name in (f"{chapter}.ipynb", f"{chapter}.html", LOG):
        (folder / name).unlink(missing_ok=True)


def _networks(part, chapter):
    """Collect the metrics of a chapter's networks, and the machine that trained its own."""
    paths = sorted(part.glob("*/record.json"))
    records = {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    own = records.pop(chapter, {})
    return {
        "metrics": own and {"best_epoch": own["best_epoch"]} | own["metrics"],
        "networks": {name: record["metrics"] for name, record in records.items()},
        "machine": own.get("machine"),
    }


@cache
def _exporter():
    """Make an exporter once: compiling its templates takes longer than exporting a notebook."""
    from nbconvert import HTMLExporter

    # The chapters need nothing that the page would fetch from the network.
    unused = ("mathjax_url", "require_js_url", "mermaid_js_url", "jquery_url")
    return HTMLExporter(**dict.fromkeys(unused, ""))
