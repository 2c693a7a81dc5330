"""Executing a sweep: on this machine's cores, or on a Dask cluster that is already running.

A run writes its own folder, wherever it is executed; this process only hands out runs and waits. So
a finished run depends on nothing that may be killed later, a second call with the same folder
continues where the first one stopped, and two calls at once share the work: neither waits for a run
that the other is executing. All machines must see the sweep's folder at the same path.
"""

import json
import logging
import shutil
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, CancelledError, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from fmnist_lib.chapters import ChapterError
from fmnist_lib.common import UserError, one_line, staged, writing
from fmnist_lib.download import DataError, find_data, given_folder
from fmnist_lib.experiments.execution import Stopped
from fmnist_lib.experiments.run import CERTAIN, Busy, library_digest, run_experiment, torch_version
from fmnist_lib.experiments.stopping import median_rule
from fmnist_lib.experiments.sweeps import SWEEP

STOP = ".stop-"  # begins a file there that tells the runs of one call to stop
VISIBLE = ".visible"  # a file there that every worker must see
MEMORY = 2e9  # bytes that a run may need: the interpreter, PyTorch, the data, a batch
PAUSE = 1  # seconds until runs that another process is executing are looked at again
LOST = (
    "the connection to the scheduler is lost; finished runs are kept, and those in progress may "
    "still finish there; run the same command again to continue"
)


class SweepError(UserError):
    """A sweep cannot start or continue."""


def local_workers(threads):
    """Count the runs that this machine or container can do at a time, given the threads of each."""
    from dask import system
    from distributed.system import MEMORY_LIMIT

    return max(1, int(min(system.CPU_COUNT // threads, MEMORY_LIMIT // MEMORY)))


def run_sweep(plan, scheduler=None, *, workers=None, report=lambda event, name, detail: None):
    """Execute what a sweep has not finished yet.

    Parameters
    ----------
    plan : Plan
        Its folder gets a folder for each run, a copy of the chapter as it is now, and
        ``sweep.json``, which lists the runs.
    scheduler : str, optional
        Address (``"tcp://…"``) or scheduler file of a Dask cluster. Workers may come and go.
    workers : int, optional
        Runs at a time on this machine; by default as many as its cores and memory allow.
    report : callable
        Called with ``"finished"``, ``"stopped"`` or ``"failed"``, the name of a run, and its record
        or what went wrong; with ``"slots"``, an empty name and the number of runs at a time,
        whenever that changes; and with ``"unfit"``, a worker's address and why it is not used.

    Returns
    -------
    dict of str to str
        The runs that failed, each with what went wrong; empty if all have ended well.

    Raises
    ------
    SweepError
        If the folder cannot be written, if no worker can execute a run, or if the scheduler does
        not answer or is lost.
    DataError
        If the runs need Fashion-MNIST, and it cannot be had.
    KeyboardInterrupt
        After the runs in progress have been told to stop.
    """
    folder = plan.folder.resolve()
    notebook = _write_sweep(plan, folder)
    stop = folder / f"{STOP}{uuid4().hex[:12]}"
    data = given_folder()
    environment = {"FMNIST_DATA": str(data)} if data else {}
    options = {"threads": plan.sweep.threads, "environment": environment}
    limits = (plan.sweep.retries, plan.sweep.stop, stop, library_digest())
    jobs = {
        name: (replace(run, notebook=notebook), folder / name, options, *limits)
        for name, run in plan.to_do.items()
    }
    try:
        with _open_team(plan, folder, scheduler, workers, environment, report) as team:
            try:
                return _hand_out(jobs, team, report)
            except SweepError:
                raise
            except BaseException:  # Ctrl-C; or nobody reads the output any more
                with suppress(OSError):
                    stop.touch()
                raise
    finally:
        if not scheduler:  # else the workers still need it
            stop.unlink(missing_ok=True)


def _write_sweep(plan, folder):
    """Write the list of runs and the copy of the chapter, and return the copy's path."""
    notebook = folder / plan.sweep.notebook.name
    runs = {name: run.parameters for name, run in plan.all.items()}
    content = {"chapter": notebook.stem, "threads": plan.sweep.threads, "runs": runs}
    with writing("the sweep", folder, SweepError):
        folder.mkdir(parents=True, exist_ok=True)
        _remove_old_stops(folder)
    with staged(folder, "the sweep", SweepError) as part:
        if notebook != plan.sweep.notebook.resolve():
            # In case the chapter changes meanwhile; whole, since other parts may be reading it.
            shutil.copyfile(plan.sweep.notebook, part / notebook.name)
        (part / SWEEP).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return notebook


def _remove_old_stops(folder):
    """Remove stop files that are older than an hour: their runs ended long ago."""
    for path in folder.glob(f"{STOP}*"):
        with suppress(FileNotFoundError):  # another part of the sweep does the same
            if time.time() - path.stat().st_mtime > 3600:
                path.unlink()


def _hand_out(jobs, team, report):
    """Give each job to a worker that is free, and report how it ended."""
    queue, running, failed, slots, n_busy = deque(jobs), {}, {}, None, 0
    while queue or running:
        if slots != (slots := team.slots()):
            report("slots", "", slots)
        for future in team.orphans(running):
            future.cancel()
            queue.appendleft(running.pop(future))
        # No more than there are slots, so that a worker that joins later finds work.
        for _ in range(min(len(queue), slots - len(running))):
            name = queue.popleft()
            running[team.submit(_run, *jobs[name])] = name
        ended, _ = wait(running, timeout=PAUSE, return_when=FIRST_COMPLETED)
        for future in ended:
            name = running.pop(future)
            try:
                record = future.result()
            except Busy:
                queue.append(name)
                n_busy += 1
                continue
            except CancelledError:
                raise SweepError(LOST) from None
            except Exception as error:
                failed[name] = str(error) if isinstance(error, UserError) else one_line(error)
                report("failed", name, failed[name])
            else:
                report(record["state"], name, record)
            n_busy = 0
        # Other processes are executing what is left, or no worker is there.
        if queue and (not running or n_busy > len(queue)):
            time.sleep(PAUSE)
            n_busy = 0
    return failed


def _run(run, folder, options, retries, after, stop, library):
    """Execute one run, in a thread here or on a worker."""
    if library_digest() != library:
        raise ChapterError(
            "the files of fmnist_lib have changed since the sweep began; run the same command "
            "again, with a new folder (-o) for the runs of the new version"
        )
    stop_early = median_rule(run, folder, after) if after else None
    how = {"progress": False, "wait": False, "stopped": stop.exists, "stop_early": stop_early}
    for left in reversed(range(retries + 1)):
        try:
            return run_experiment(run, folder, **options, **how)
        except (Busy, Stopped):
            raise
        except Exception as error:
            if getattr(error, "cause", None) in CERTAIN or not left:
                raise


class _Threads:
    """Threads of this process, which only wait for the kernels of their runs."""

    def __init__(self, executor, slots):
        self.submit, self.slots = executor.submit, lambda: slots

    def orphans(self, running):
        return []


class _Cluster:
    """The workers of a Dask cluster that can execute the runs; the others are reported once."""

    def __init__(self, client, probe, report):
        self.client, self.probe, self.report = client, probe, report
        self.faults, self.there = {}, {}

    def slots(self):
        """Count the threads of the workers that are there now, after a look at new ones."""
        try:
            self.there = self.client.nthreads()
        except OSError:  # timeouts and lost connections are among them
            raise SweepError(LOST) from None
        new = [address for address in self.there if address not in self.faults]
        answers = self.client.run(*self.probe, workers=new, on_error="return") if new else {}
        for address, answer in answers.items():
            if isinstance(answer, Exception):
                answer = (
                    f"it cannot execute runs ({one_line(answer)}); install the same library there"
                )
            self.faults[address] = answer
            if answer:
                self.report("unfit", address, answer)
        return sum(n for address, n in self.there.items() if address in self.usable())

    def usable(self):
        return [address for address in self.there if self.faults.get(address) == ""]

    def submit(self, function, *arguments):
        workers = self.usable()
        executor = self.client.get_executor(workers=workers, pure=False)
        future = executor.submit(function, *arguments)
        future.workers = set(workers)
        return future

    def orphans(self, running):
        """List the futures whose workers have all gone."""
        return [future for future in running if not future.workers & self.there.keys()]


@contextmanager
def _open_team(plan, folder, scheduler, workers, environment, report):
    given = {
        run.given.get("data_dir") or environment.get("FMNIST_DATA")
        for run in plan.to_do.values()
        if "data_dir" in run.known and not run.parameters.get("sample")
    }
    if not scheduler:
        for root in given:
            find_data(root)  # before the first run, not once in each
        slots = workers or local_workers(plan.sweep.threads)
        with ThreadPoolExecutor(slots) as executor:
            yield _Threads(executor, slots)
        return
    logging.disable(logging.ERROR)  # SweepError reports a lost connection in one line
    try:
        with writing("the sweep", folder, SweepError):
            (folder / VISIBLE).touch()
        with _connect(scheduler) as client:
            probe = (_probe, folder / VISIBLE, library_digest(), torch_version(), list(given))
            team = _Cluster(client, probe, report)
            if not team.slots() and team.there:
                address, fault = next(iter(team.faults.items()))
                raise SweepError(f"no worker can execute the runs; {address}: {fault}")
            yield team
    finally:
        logging.disable(logging.NOTSET)


def _probe(visible, library, torch, roots):
    """Say, on a worker, why it cannot execute the runs; "" if it can."""
    if library_digest() != library:
        return "its files of fmnist_lib differ from those here; install the same library there"
    if torch_version() != torch:
        return f"it has PyTorch {torch_version()}, and this is {torch}; install the same there"
    if not visible.exists():
        return (
            f"it cannot see the folder {visible.parent}; name one with -o that all machines of "
            "the cluster share"
        )
    try:
        for root in roots:
            find_data(root)
    except DataError as error:
        return str(error)
    return ""


def _connect(scheduler):
    from distributed import Client

    try:
        is_file = Path(scheduler).is_file()
        return Client(**{"scheduler_file" if is_file else "address": scheduler})
    except (OSError, ValueError, AssertionError, KeyError, TypeError) as error:
        raise SweepError(
            f"no scheduler answers at {scheduler} ({one_line(error)}); check the address, and that "
            "'dask scheduler' is running there"
        ) from None
