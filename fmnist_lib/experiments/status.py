"""How far the runs in a folder are, read from that folder alone, wherever they were started."""

import os
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path

from fmnist_lib.common import PART, LockError, UserError, locked
from fmnist_lib.experiments.run import ATTEMPT, LOCK, RECORD, load_json, load_record
from fmnist_lib.experiments.stopping import read_curve
from fmnist_lib.experiments.sweeps import SWEEP, estimate_each, identify

OPEN = ("running", "interrupted", "left")
STATES = ("finished", "running", "failed", "stopped", "interrupted", "unclear", "left")


class StatusError(UserError):
    """A folder holds no runs, or cannot be read."""


def find_runs(folder, names=(RECORD, ATTEMPT)):
    """List the folders of runs below a folder, at any depth and that itself included.

    They are those that hold a file of one of the ``names``. Raises a `StatusError` for a folder
    that cannot be read.
    """

    def fail(problem):
        # Any other folder that is not there was just replaced, by a run that ended.
        if not isinstance(problem, FileNotFoundError) or problem.filename == str(folder):
            raise StatusError(
                f"{problem.filename} cannot be read ({problem.strerror}); check the name, and "
                "that you have the right to read it"
            )

    found = []
    for place, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(PART)]
        if not set(names).isdisjoint(files):
            found.append(Path(place))
    return sorted(found)


def load_latest(folder):
    """Read a run's record or, while its last attempt has not ended, what is known of that."""
    record, attempt = load_record(folder), load_json(folder / ATTEMPT)
    if record and (record["state"] == "finished" or not attempt):
        return record
    return attempt | {"state": "unfinished"}


def read_status(folder):
    """Read the state of each run below a folder.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    dict of str to dict
        By the name of a run's folder: its record, or what is known of it, with the ``state``, which
        is one of ``STATES``:

        - ``"finished"``, ``"failed"`` or ``"stopped"``, as in the record;
        - ``"running"``, while a process holds the lock of its folder;
        - ``"interrupted"``, if no process does, and its last attempt has not ended;
        - ``"unclear"``, if the lock cannot be tried; ``error`` says why;
        - ``"left"``, if a sweep that was started there has yet to begin it.

        Of a running or interrupted one, ``epochs_done`` is the number of epochs that are kept.

    Raises
    ------
    StatusError
        If there are no runs, or a folder cannot be read.
    ChapterError
        If a file cannot be read.
    """
    runs = {}
    for place in find_runs(folder):
        run = load_latest(place)
        if run["state"] == "unfinished":
            run |= _try_lock(place) | {"epochs_done": _count_epochs(place, run)}
        runs[place.relative_to(folder).as_posix()] = run
    seen = {identify(run.get("chapter"), run.get("parameters")) for run in runs.values()}
    for place in find_runs(folder, [SWEEP]):
        sweep = load_json(place / SWEEP)
        for name, parameters in sweep.get("runs", {}).items():
            identity = identify(sweep["chapter"], parameters)
            # Parts of one sweep may lie in several folders, each with the list of all runs.
            if identity not in seen:
                seen.add(identity)
                run = {"chapter": sweep["chapter"], "parameters": parameters, "state": "left"}
                runs[(place / name).relative_to(folder).as_posix()] = run
    if not runs:
        raise StatusError(
            f"{folder} holds no runs; name the folder that was given to fmnist run or fmnist sweep"
        )
    return runs


def estimate_end(runs, now):
    """Estimate when all runs will have ended, if as many keep running at a time as do now.

    Takes what `read_status` returns, and the time now; returns None if nothing is running, or the
    duration of some run cannot be estimated.
    """
    chapters, left, running = defaultdict(list), [], []
    for run in runs.values():
        chapters[run.get("chapter")].append(run)
    for chapter, members in chapters.items():
        finished = [run for run in members if run["state"] == "finished"]
        wanted = [run for run in members if run["state"] in OPEN]
        seconds, _ = estimate_each(chapter, finished, [run.get("parameters", {}) for run in wanted])
        for run, each in zip(wanted, seconds or [None] * len(wanted), strict=True):
            if each is None:
                return None
            if run["state"] == "running":
                elapsed = now - datetime.fromisoformat(run.get("started", now.isoformat()))
                running.append(max(0.0, each - elapsed.total_seconds()))
            else:
                left.append(each)
    if not running:
        return None
    # The longest run cannot be shared.
    return now + timedelta(seconds=max(sum(running + left) / len(running), *running))


def _try_lock(folder):
    try:
        with locked(folder / LOCK, wait=False) as is_free:
            return {"state": "interrupted" if is_free else "running"}
    except LockError as error:
        return {"state": "unclear", "error": str(error)}
    except OSError as error:
        return {"state": "unclear", "error": f"its lock cannot be tried ({error.strerror})"}


def _count_epochs(folder, run):
    return len(read_curve(folder, run["chapter"])) if "chapter" in run else 0
