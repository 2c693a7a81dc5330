"""What is there of a sweep, what is to do, and how long that may take."""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import linear_regression, mean

from fmnist_lib.experiments.run import check_same, code_digest, load_record
from fmnist_lib.experiments.sweeps import Sweep, identify

TIMES = Path(__file__).parents[1] / "measured" / "chapter_times.json"


@dataclass(frozen=True)
class Plan:
    """A sweep, and what is there of it in a folder.

    Attributes
    ----------
    sweep : Sweep
    folder : Path
    finished : dict of str to dict
        The records of the runs that are there, by the run's name.
    to_do : dict of str to Run
        The others, by the name of the folder that each shall have.
    """

    sweep: Sweep
    folder: Path
    finished: dict
    to_do: dict


def make_plan(sweep, folder):
    """Compare a sweep with what is in a folder.

    Parameters
    ----------
    sweep : Sweep
    folder : path

    Returns
    -------
    Plan

    Raises
    ------
    ChapterError
        If finished runs there are of another state of the chapter.
    """
    folder, code = Path(folder), code_digest(sweep.notebook)
    there = {path.parent: load_record(path.parent) for path in folder.glob("*/results.json")}
    there = {path: r for path, r in there.items() if r and r["state"] == "finished"}
    done = {
        identify(record["chapter"], record["parameters"]): (path, record)
        for path, record in there.items()
    }
    taken = {path.name for path in there}
    finished, to_do = {}, {}
    for run in sweep.runs:
        identity = identify(sweep.notebook.stem, run.parameters)
        if identity in done:
            path, record = done[identity]
            wanted = {"chapter": sweep.notebook.stem, "code": code, "parameters": run.parameters}
            check_same(record, wanted, path)
            finished[run.name] = record
        else:
            name = f"{run.name}-{identity[:8]}" if run.name in taken else run.name
            to_do[name] = run
    return Plan(sweep, folder, finished, to_do)


def estimate(plan):
    """Estimate the computing time of what is to do, from runs that are done.

    Parameters
    ----------
    plan : Plan

    Returns
    -------
    seconds : float or None
        Of one worker that does it all.
    source : str
        Where it comes from, or why there is none.
    """
    done = [(r["parameters"].get("epochs", 1), r["seconds"]) for r in plan.finished.values()]
    source = "from the runs that are finished"
    if not done:
        times = json.loads(TIMES.read_text(encoding="utf-8"))
        if any(run.given.get("sample") for run in plan.to_do.values()):
            return None, "no run on the sample is finished yet"
        if plan.sweep.notebook.stem not in times["chapters"]:
            return None, "no run is finished yet"
        done = times["chapters"][plan.sweep.notebook.stem]
        source = "from runs of that chapter with one thread, on the machine of its authors"
    epochs, seconds = zip(*done, strict=True)
    wanted = [run.parameters.get("epochs", 1) for run in plan.to_do.values()]
    if len(set(epochs)) > 1:
        slope, intercept = linear_regression(epochs, seconds)
        return sum(max(0.0, intercept + slope * n) for n in wanted), source
    return sum(mean(seconds) * n / epochs[0] for n in wanted), source
