"""One run of a chapter, kept in a folder of its own.

The folder is a finished run if, and only if, it holds ``results.json`` with the state
``"finished"``, which is written last::

    results.json      parameters, metrics, seconds, versions, data, state
    02_cnn.ipynb      the executed chapter, and 02_cnn.html to look at
    02_cnn/           each network that the chapter kept: weights, history and record, see `runs`
    kernel.log        what libraries wrote past the notebook, if they did

While a chapter runs, all this grows in a sub-folder ``.part-…``, which is what a kill leaves
behind. The next attempt removes it.
"""

import hashlib
import json
import os
import platform
import shutil
import tempfile
import time
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from threading import Lock

from fmnist_lib.chapters import ChapterError
from fmnist_lib.download import SHA256
from fmnist_lib.experiments.execution import Stopped, run_chapter
from fmnist_lib.experiments.parameters import RESERVED, check_parameters, read_parameters

RECORD = "results.json"
PART = ".part-"
LOG, LOCK = "kernel.log", ".lock"
EXPORTING = Lock()  # the exporter is one for all threads of a worker
PACKAGES = ("fmnist-lib", "papermill", "nbclient", "ipykernel")
# What those who read a record count on, beside its state.
ENTRIES = {"chapter": str, "code": str, "parameters": dict, "metrics": dict, "networks": dict}
ENTRIES |= {"seconds": int | float, "attempts": int}
# Parameters that say where, and not what: two runs that differ in nothing else are the same.
PLACE = "_dir"


def run_experiment(
    notebook, folder, given=None, *, threads=None, progress=True, stopped=lambda: False
):
    """Execute a chapter and keep what came out; a run that is finished is not run again.

    Parameters
    ----------
    notebook, folder : path
        The chapter, and the folder of the run. Only one process at a time works in it.
    given : dict, optional
        Parameters that shall not have their defaults.
    threads : int, optional
        Number of threads for the kernel's arithmetic; by default what the libraries choose.
    progress : bool
        Show a progress bar.
    stopped : callable
        Asked once a second; True ends the run.

    Returns
    -------
    dict
        What ``results.json`` holds: ``state`` (``"finished"`` or ``"failed"``), ``error``,
        ``chapter``, ``code`` (SHA-256 of the chapter's code), ``parameters`` (all but folders),
        ``metrics`` (of the network that bears the chapter's name), ``networks`` (the metrics of
        the others), ``seconds``, ``started``, ``attempts``, ``threads``, ``data`` (SHA-256 of each
        file, or ``"sample"``), ``packages``, ``machine`` (of the network's record), ``host``.

    Raises
    ------
    ParameterError
        For parameters that the chapter does not take.
    ChapterError
        If the chapter fails (the folder then keeps the notebook up to there, and a record), if the
        folder holds another finished run, or cannot be written.
    Stopped
        If ``stopped`` said so; nothing is kept.
    """
    notebook, folder = Path(notebook).resolve(), Path(folder).resolve()
    known = read_parameters(notebook)
    given = check_parameters(notebook.stem, known, given or {})
    wanted = {
        "chapter": notebook.stem,
        "code": code_digest(notebook),
        "parameters": resolve(known, given),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not (folder / LOCK).exists():
            raise ChapterError(f"{folder} is not empty, and holds no run; name another one with -o")
        with _alone_in(folder, stopped):
            before = load_record(folder)
            if before and before["state"] == "finished":
                check_same(before, wanted, folder)
                return before
            record = wanted | {"attempts": 1 + (before or {}).get("attempts", 0)}
            return _run(notebook, folder, given, known, record, threads, progress, stopped)
    except OSError as error:
        raise ChapterError(
            f"the run cannot be written to {folder} ({error.strerror}); make room or give rights "
            "there, or name another folder"
        ) from None


def load_record(folder):
    """Read the record of a run.

    Parameters
    ----------
    folder : path

    Returns
    -------
    dict or None
        None where no run has ended, one way or the other.
    """
    try:
        record = json.loads((Path(folder) / RECORD).read_text(encoding="utf-8"))
        ended = record["state"] in ("finished", "failed")
        whole = all(isinstance(record[name], kind) for name, kind in ENTRIES.items())
        return record if ended and whole else None
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


def resolve(known, given):
    """List what decides a run's results: every parameter but the folders, with its value.

    Parameters
    ----------
    known : dict of str to Parameter
    given : dict
        Checked values.

    Returns
    -------
    dict
    """
    values = {name: parameter.default for name, parameter in known.items()} | given
    return {name: value for name, value in values.items() if not name.endswith(PLACE)}


def code_digest(notebook):
    """Compute the SHA-256 of a notebook's code cells, in which prose and outputs play no part.

    Parameters
    ----------
    notebook : path

    Returns
    -------
    str
    """
    cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()


def check_same(record, wanted, folder):
    """Refuse to take one finished run for another.

    Parameters
    ----------
    record, wanted : dict
        With ``chapter``, ``code`` and ``parameters``.
    folder : path
        Of the finished one.

    Raises
    ------
    ChapterError
    """
    if record["chapter"] != wanted["chapter"]:
        what = f"of {record['chapter']}"
    elif record["parameters"] != wanted["parameters"]:
        names = sorted(record["parameters"].keys() | wanted["parameters"].keys())
        other = [n for n in names if record["parameters"].get(n) != wanted["parameters"].get(n)]
        what = "with " + ", ".join(f"{n}={record['parameters'].get(n)}" for n in other)
    elif record["code"] != wanted["code"]:
        what = f"of an older state of {wanted['chapter']}"
    else:
        return
    raise ChapterError(
        f"{folder} holds a finished run {what}; name another folder with -o, or remove this one"
    )


def _run(notebook, folder, given, known, record, threads, progress, stopped):
    _clear(folder, notebook.stem)
    started, start, error = datetime.now(UTC), time.perf_counter(), None
    with tempfile.TemporaryDirectory(dir=folder, prefix=PART, ignore_cleanup_errors=True) as part:
        part, output = Path(part), Path(part) / notebook.name
        parameters = given | ({RESERVED: "."} if RESERVED in known else {})
        try:
            options = {"progress": progress, "threads": threads, "stopped": stopped}
            run_chapter(notebook, output, parameters, cwd=part, log=part / LOG, **options)
        except ChapterError as failure:
            if len(failure.args) < 2:
                raise  # there is no notebook: the disk is full, say
            error = failure.args[0]
        if not (part / LOG).stat().st_size:
            (part / LOG).unlink()
        _write_view(output)
        networks = {path.parent.name: _load(path) for path in sorted(part.glob("*/record.json"))}
        own = networks.get(notebook.stem, {})
        best = {name: own[name] for name in ("best_epoch",) if name in own}
        record = {"state": "failed" if error else "finished", "error": error} | record
        record |= {
            "metrics": best | own.get("metrics", {}),
            "networks": {n: r["metrics"] for n, r in networks.items() if n != notebook.stem},
            "seconds": round(time.perf_counter() - start, 2),
            "started": started.isoformat(timespec="seconds"),
            "threads": threads,
            "data": _data(known, record["parameters"]),
            "packages": {name: version(name) for name in PACKAGES},
            "machine": own.get("machine"),
            "host": platform.node(),
        }
        (part / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        for path in sorted(part.iterdir(), key=lambda path: path.name == RECORD):
            if (folder / path.name).is_dir():
                shutil.rmtree(folder / path.name)
            os.replace(path, folder / path.name)  # the record goes last
    if error:
        raise ChapterError(error, folder / notebook.name)
    return record


def _clear(folder, chapter):
    """Remove what an attempt left that failed or was killed, and nothing else."""
    (folder / RECORD).unlink(missing_ok=True)
    for path in [*folder.glob(f"{PART}*"), *(path.parent for path in folder.glob("*/record.json"))]:
        shutil.rmtree(path)
    for name in (f"{chapter}.ipynb", f"{chapter}.html", LOG):
        (folder / name).unlink(missing_ok=True)


def _alone_in(folder, stopped):
    """Wait until no other process works in a folder; a process that is killed lets go of it."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK)
    while True:
        try:
            return lock.acquire(timeout=1)
        except Timeout:
            if stopped():
                raise Stopped(f"the run in {folder} was stopped") from None


def _write_view(notebook):
    with EXPORTING:
        page, _ = _exporter().from_filename(str(notebook))
    notebook.with_suffix(".html").write_text(page, encoding="utf-8")


@cache
def _exporter():
    """Make an exporter once: its templates take longer to compile than a notebook to export."""
    from nbconvert import HTMLExporter

    # What the page would fetch from the net is of no use to the chapters.
    unused = ("mathjax_url", "require_js_url", "mermaid_js_url", "jquery_url")
    return HTMLExporter(**dict.fromkeys(unused, ""))


def _data(known, parameters):
    if "data_dir" not in known:
        return None
    return "sample" if parameters.get("sample") else SHA256


def _load(path):
    return json.loads(path.read_text(encoding="utf-8"))
