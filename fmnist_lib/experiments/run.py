"""One run: a chapter executed with parameters, kept in a folder of its own.

The folder is a finished run if, and only if, it holds ``results.json`` with the state
``"finished"``, which is written last::

    results.json      parameters, metrics, seconds, versions, data, state
    02_cnn.ipynb      the executed chapter, and 02_cnn.html to look at
    02_cnn/           each network that the chapter kept: weights, history and record
    kernel.log        what libraries wrote outside the notebook, if they did

While a chapter runs, all this grows in the subfolder ``.part-run``, and ``attempt.json`` says what
runs, where and since when. A kill leaves both behind. The next attempt at the same run resumes
each training run in there after its last finished epoch; any other run starts over.
"""

import json
import os
import platform
import re
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import NoneType

import fmnist_lib
from fmnist_lib.chapters import ChapterError
from fmnist_lib.common import PART, digest, locked, reading, shown, staged, writing
from fmnist_lib.experiments.execution import Stopped, run_chapter
from fmnist_lib.experiments.page import write_page
from fmnist_lib.experiments.parameters import (
    FOLDER_SUFFIX,
    RESERVED,
    convert_parameters,
    read_parameters,
)

RECORD, ATTEMPT = "results.json", "attempt.json"
LOG, LOCK, WORK = "kernel.log", ".lock", f"{PART}run"
CHECKPOINTS = "*.checkpoint"
PACKAGES = ("fmnist-lib", "papermill", "nbclient", "ipykernel")
STATES = ("finished", "failed", "stopped")
# The kinds of values in the files of runs and sweeps.
FORM = dict.fromkeys(("state", "chapter", "code", "library", "torch", "error"), (str,))
FORM |= dict.fromkeys(("parameters", "metrics", "networks", "runs"), (dict,))
FORM |= {"seconds": (int, float), "threads": (int,), "attempts": (int,)}
# With the same code, parameters and seed, these exceptions come again. Any other may have to do
# with the machine: its memory, its disk, its network, its GPU.
CERTAIN = {
    "AssertionError",
    "AttributeError",
    "ClaimError",
    "FloatingPointError",
    "ImportError",
    "IndexError",
    "KeyError",
    "ModuleNotFoundError",
    "NameError",
    "ParameterError",
    "SyntaxError",
    "TypeError",
    "ValueError",
    "ZeroDivisionError",
}


class Busy(RuntimeError):
    """Another process is executing the run."""


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
        """The value of every parameter that decides the results: all but the folders.

        Runs that differ in nothing but folders are the same run.
        """
        values = {name: parameter.default for name, parameter in self.known.items()} | self.given
        return {name: value for name, value in values.items() if not name.endswith(FOLDER_SUFFIX)}


def prepare_run(notebook, given=None):
    """Make a `Run` of a chapter from values that override its defaults; these are checked."""
    notebook = Path(notebook)
    known = read_parameters(notebook)
    return Run(notebook, known, convert_parameters(notebook.stem, known, given or {}))


def run_experiment(
    run,
    folder,
    *,
    threads=None,
    progress=True,
    stopped=lambda: False,
    stop_early=None,
    wait=True,
    environment=None,
):
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
    stop_early : callable, optional
        Called once per second; a non-empty text ends the run, which is kept as stopped, with the
        text as the reason.
    wait : bool
        Whether to wait for another process that is executing the same run.
    environment : dict of str to str, optional
        Further environment variables for the kernel.

    Returns
    -------
    dict
        What ``results.json`` holds: ``state`` (``"finished"``, ``"failed"`` or ``"stopped"``),
        ``error``, ``cause`` (the class of a chapter's exception, or ``"kernel"``), ``chapter``,
        ``code`` (SHA-256 of the chapter's code), ``library`` (of this library's files), ``torch``
        (its version), ``parameters`` (all but folders), ``metrics`` (of the network named after the
        chapter), ``networks`` (the metrics of the others), ``seconds`` (of the last attempt),
        ``started``, ``attempts``, ``threads``, ``packages``, ``machine`` and ``data`` (of the
        network's record), ``host``.

    Raises
    ------
    ChapterError
        If the chapter fails (the folder then keeps the notebook, executed up to there, and a
        record), if the folder holds a different finished run, or if it cannot be written.
    Stopped
        If ``stopped`` returned True. The next attempt continues the training.
    Busy
        If another process is executing the run, and ``wait`` is False.
    """
    folder, wanted = Path(folder).resolve(), describe_run(run)
    with writing("the run", folder, ChapterError):
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not (folder / LOCK).exists():
            raise ChapterError(
                f"{folder} is not empty and holds no run; name another folder with -o"
            )
        with locked(folder / LOCK, stopped, wait=wait) as acquired:
            if stopped():
                raise Stopped(f"the run in {folder} was stopped")
            if not acquired:
                raise Busy(f"another process is executing the run in {folder}")
            before = load_record(folder)
            if before and before["state"] in ("finished", "stopped" if stop_early else ""):
                check_same(before, wanted, folder)
                return before
            wanted["attempts"] = _begin_attempt(folder, wanted, before)
            options = {"threads": threads, "progress": progress, "environment": environment}
            return _execute(run, folder, wanted, stopped, stop_early, options)


def load_record(folder):
    """Read a run's record; None if no run has ended there, `ChapterError` if it is unreadable."""
    record = load_json(path := Path(folder) / RECORD)
    if record.get("state") not in STATES:
        return None
    if lacking := [name for name in ("chapter", "parameters") if record.get(name) is None]:
        raise ChapterError(
            f"{path} lacks {lacking[0]}, which every run writes; move that folder away, or name "
            "another one"
        )
    return record


def describe_run(run):
    """Describe what makes two runs the same: chapter, code, library, PyTorch and parameters."""
    return {
        "chapter": run.notebook.stem,
        "code": code_digest(run.notebook),
        "library": library_digest(),
        "torch": torch_version(),
        "parameters": run.parameters,
    }


def code_digest(notebook):
    """Compute the SHA-256 of a notebook's code cells, ignoring its prose and outputs.

    Ends of lines, which editors and Git rewrite, do not count, nor empty lines at a cell's end.
    """
    cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return digest("\0".join(text.replace("\r\n", "\n").rstrip("\n") for text in sources))


def library_digest():
    """Compute the SHA-256 of this library's files: its version does not change at every edit."""
    root = Path(fmnist_lib.__file__).parent
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    # Not what editors and desktops put there while a sweep is running, in ".data.py.swp", say.
    names = [name for name in names if not re.search(r"\.pyc$|~$|(^|/)[.#]", name)]
    return digest(*(part for name in names for part in (name, root / name)))


def torch_version():
    """Return PyTorch's version, the same for its builds with and without CUDA."""
    return version("torch").partition("+")[0]


def check_same(record, wanted, folder):
    """Raise ChapterError if a folder's finished run differs from the wanted one in anything."""
    theirs, ours = record["parameters"], wanted["parameters"]
    names = sorted(theirs.keys() | ours.keys())
    other = [f"{n}={theirs.get(n)}" for n in names if theirs.get(n) != ours.get(n)]
    if record["chapter"] != wanted["chapter"]:
        what = f"of {record['chapter']}"
    elif other:
        what = f"with {', '.join(other)}"
    elif record.get("code") != wanted["code"]:
        what = f"of an older version of {wanted['chapter']}"
    elif record.get("library") != wanted["library"]:
        what = "that used other files of fmnist_lib"
    elif record.get("torch") != wanted["torch"]:
        what = f"that used PyTorch {record.get('torch')}, and this is {wanted['torch']}"
    else:
        return
    raise ChapterError(
        f"{folder} holds a finished run {what}, and is left as it is; name another folder with -o"
    )


def _begin_attempt(folder, wanted, before):
    """Remove what earlier attempts left, except what this one can resume; count attempts."""
    last = before or load_json(folder / ATTEMPT)
    work, same = folder / WORK, wanted.items() <= last.items()
    leftovers = [*folder.glob(f"{PART}*"), *(path.parent for path in folder.glob("*/record.json"))]
    names = (RECORD, LOG, f"{wanted['chapter']}.ipynb", f"{wanted['chapter']}.html")
    leftovers += [folder / name for name in names]
    if same and work.is_dir():
        leftovers.remove(work)
        leftovers += [path for path in work.iterdir() if not _can_resume(path)]
    for path in leftovers:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    work.mkdir(exist_ok=True)
    for path in folder.glob(CHECKPOINTS):  # of an attempt that failed
        os.replace(path, work / path.name) if same else path.unlink()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    attempts = 1 + last.get("attempts", 0)
    where = {"host": platform.node(), "pid": os.getpid(), "started": now, "attempts": attempts}
    (folder / ATTEMPT).write_text(json.dumps(wanted | where, indent=2) + "\n", encoding="utf-8")
    return attempts


def _can_resume(path):
    return path.match(CHECKPOINTS) or (path / "record.json").is_file()


def _execute(run, folder, wanted, stopped, stop_early, options):
    """Execute the chapter, and write the record of how it ended; a failure is then raised."""
    started, start = datetime.now(UTC), time.perf_counter()
    with staged(folder, "the run", ChapterError, last=RECORD, part=WORK) as part:
        ended = _run_to_end(run, part, stopped, stop_early, options)
        if not (part / LOG).stat().st_size:
            (part / LOG).unlink()
        if ended["state"] == "finished" or ended["cause"] in CERTAIN | {"CheckpointError"}:
            for path in part.glob(CHECKPOINTS):
                path.unlink()
        write_page(part / run.notebook.name)
        record = ended | wanted | _networks(part, run.notebook.stem)
        record |= {
            "seconds": round(time.perf_counter() - start, 2),
            "started": started.isoformat(timespec="seconds"),
            "threads": options["threads"],
            "packages": {name: version(name) for name in PACKAGES},
            "host": platform.node(),
        }
        (part / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (folder / ATTEMPT).unlink()
    if ended["state"] == "failed":
        raise ChapterError(ended["error"], folder / run.notebook.name, ended["cause"])
    return record


def _run_to_end(run, part, stopped, stop_early, options):
    """Execute the chapter, and return how it ended: state, error and cause."""
    reason = ""

    def is_over():
        nonlocal reason
        reason = reason or (stop_early() if stop_early else "")
        return bool(reason) or stopped()

    parameters = run.given | {name: "." for name in RESERVED if name in run.known}
    options = options | {"log": part / LOG, "stopped": is_over}
    try:
        run_chapter(run.notebook, part / run.notebook.name, parameters, **options)
    except Stopped:
        if not reason:
            raise
        return {"state": "stopped", "error": reason, "cause": None}
    except ChapterError as failure:
        if not failure.notebook:
            raise  # the disk is full, say
        return {"state": "failed", "error": failure.message, "cause": failure.cause}
    return {"state": "finished", "error": None, "cause": None}


def load_json(path):
    """Read a JSON object; an empty one if the file is missing or holds something else.

    Raises `ChapterError` if the file cannot be read, or holds what this library never writes.
    """
    with reading(path, ChapterError):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
            return {}
    content = content if isinstance(content, dict) else {}
    for name, kind in FORM.items():
        value = content.get(name)
        if type(value) not in (*kind, NoneType) or (type(value) is int and value >= 2**63):
            raise ChapterError(
                f"{name} in {path} is {shown(value)}, which this library never writes; move that "
                "folder away, or name another one"
            )
    return content


def _networks(part, chapter):
    """Collect the metrics of a chapter's networks, and the machine and data of its own."""
    paths = sorted(part.glob("*/record.json"))
    records = {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    own = records.pop(chapter, {})
    return {
        "metrics": own and {"best_epoch": own["best_epoch"]} | own["metrics"],
        "networks": {name: record["metrics"] for name, record in records.items()},
        "machine": own.get("machine"),
        "data": own.get("data"),
    }
