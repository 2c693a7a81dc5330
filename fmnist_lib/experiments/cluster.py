"""Running a sweep on Dask: on this machine's cores, or on a cluster that is there already.

A run writes its own folder, on whatever machine it is executed; the client only hands out runs and
listens. So nothing that is finished hangs on the client, the scheduler or another worker, and a
second call with the same folder goes on where the first one ended. All machines must see the
folder of the sweep under the same path.
"""

import os
import shutil
import signal
import tempfile
from concurrent.futures import CancelledError
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from time import monotonic, sleep
from typing import NamedTuple

import dask
from dask.system import CPU_COUNT
from distributed import (
    Client,
    KilledWorker,
    LocalCluster,
    WorkerPlugin,
    as_completed,
    get_worker,
)
from distributed.comm import CommClosedError
from distributed.system import MEMORY_LIMIT

from fmnist_lib.chapters import ChapterError
from fmnist_lib.common import UserError
from fmnist_lib.experiments.execution import Stopped
from fmnist_lib.experiments.plans import make_plan
from fmnist_lib.experiments.run import run_experiment

STOP = ".stop"  # a file in the sweep's folder that tells all its runs to stop
# What Dask would gather in its workers, run after run, about threads that only wait.
LEAN = {"distributed.worker.profile.enabled": False, "distributed.admin.low-level-log-length": 100}
MEMORY = 2e9  # bytes that a run may need: the interpreter, PyTorch, the data, a batch
PATIENCE = 15  # seconds for runs to stop


class SweepError(UserError):
    """A sweep cannot start, or cannot go on."""


@contextmanager
def open_client(scheduler=None, *, workers=None, threads=1):
    """Connect to a cluster, or start one on this machine and stop it at the end.

    Parameters
    ----------
    scheduler : str, optional
        Address (``"tcp://…"``) or scheduler file of a cluster.
    workers : int, optional
        Workers to start on this machine; by default as many as its cores and memory allow.
    threads : int
        Of each run.

    Yields
    ------
    distributed.Client

    Raises
    ------
    SweepError
        If the scheduler does not answer.
    """
    if scheduler:
        is_file = Path(scheduler).is_file()
        try:
            client = Client(**{"scheduler_file" if is_file else "address": scheduler})
        except (OSError, ValueError) as error:
            raise SweepError(
                f"no scheduler answers at {scheduler} ({str(error).splitlines()[0]}); check the "
                "address, and that 'dask scheduler' is running there"
            ) from None
        try:
            yield client
        finally:
            client.close()
        return
    with (
        dask.config.set(LEAN),
        LocalCluster(
            n_workers=workers or local_workers(threads),
            threads_per_worker=1,  # a worker does nothing but wait for the kernel of its run
            silence_logs="CRITICAL",
        ) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(_LeaveInterruptsToTheClient())
        yield client


def local_workers(threads):
    """Count the runs that this machine can do at a time.

    Parameters
    ----------
    threads : int
        Of each run.

    Returns
    -------
    int
    """
    return max(1, min(CPU_COUNT // threads, int(MEMORY_LIMIT // MEMORY)))


def run_sweep(sweep, folder, client, report=lambda event, run, detail: None):
    """Execute what is not there yet of a sweep.

    Parameters
    ----------
    sweep : Sweep
    folder : path
        It gets a folder for each run, and a copy of the chapter as it was at the start.
    client : distributed.Client
    report : callable
        Called with ``"started"``, ``"finished"``, ``"failed"`` or ``"resubmitted"``, the name of a
        run, and where it is, its record, or what went wrong.

    Returns
    -------
    dict of str to str
        The runs that failed, each with what went wrong; empty if all are finished.

    Raises
    ------
    ChapterError
        If finished runs in the folder are of another state of the chapter.
    SweepError
        If the folder cannot be written or is not seen by a worker, or if the scheduler is lost.
    KeyboardInterrupt
        After the runs in progress have been stopped.
    """
    folder = Path(folder).resolve()
    notebook = _prepare(sweep, folder)
    plan = make_plan(sweep, folder)
    if notebook != sweep.notebook.resolve():
        shutil.copyfile(sweep.notebook, notebook)  # in case the chapter changes meanwhile
    _check_workers(client, folder)
    topic = f"fmnist-{folder}"
    jobs = {
        name: _Job(notebook, folder / name, run.given, sweep.threads, folder / STOP, topic)
        for name, run in plan.to_do.items()
    }
    return _execute(client, jobs, sweep.retries, report)


class _Job(NamedTuple):
    """The arguments of `_run`."""

    notebook: Path
    folder: Path
    given: dict
    threads: int
    stop: Path
    topic: str


def _execute(client, jobs, retries, report):
    failed, futures = {}, {}
    try:
        waiting = jobs
        while waiting:
            topic = next(iter(waiting.values())).topic
            client.subscribe_topic(topic, lambda event: report("started", *event[1]))
            # The key names the folder: two clients that want the same run get the same task.
            futures = {
                client.submit(_run, *job, key=f"fmnist-{job.folder}", retries=retries): name
                for name, job in waiting.items()
            }
            lost = {}
            for future in as_completed(list(futures)):
                name = futures.pop(future)
                try:
                    record = future.result()
                except (CancelledError, CommClosedError):  # the latter, if it is finished
                    lost[name] = jobs[name]
                except Exception as error:
                    failed[name] = _told(error)
                    report("failed", name, failed[name])
                else:
                    report("finished", name, record)
                future.release()
            if lost:
                _wait_for_scheduler(client, len(jobs) - len(lost) - len(failed))
            for name in lost:
                report("resubmitted", name, "the connection was lost")
            waiting = lost
    except KeyboardInterrupt:
        _stop(jobs, futures)
        raise
    return failed


def _run(notebook, folder, given, threads, stop, topic):
    """Do one run, on a worker."""
    worker = get_worker()
    if stop.exists():
        raise Stopped(f"the run in {folder} was stopped")
    worker.log_event(topic, (folder.name, worker.address))
    return run_experiment(
        notebook, folder, given, threads=threads, progress=False, stopped=stop.exists
    )


def _prepare(sweep, folder):
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / STOP).unlink(missing_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"room?")
    except OSError as error:
        raise SweepError(
            f"the folder {folder} cannot be written ({error.strerror}); make room or give rights "
            "there, or name another one with -o"
        ) from None
    return folder / sweep.notebook.name


def _check_workers(client, folder):
    """See whether every worker that is there has the package and the folder."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".seen-") as file:
            seen = client.run(_look_for, file.name)
    except (ImportError, RuntimeError, OSError, CancelledError) as error:
        raise SweepError(
            f"the workers cannot do a run ({error}); install the same fmnist-lib where they run"
        ) from None
    here = version("fmnist-lib")
    for address, (there, sees) in seen.items():
        if there != here:
            raise SweepError(
                f"the worker {address} has fmnist-lib {there}, this is {here}; install the same "
                "one there"
            )
        if not sees:
            raise SweepError(
                f"the worker {address} does not see the folder {folder}; name one with -o that all "
                "machines of the cluster share"
            )


def _look_for(file):
    return version("fmnist-lib"), os.path.exists(file)


def _wait_for_scheduler(client, n_finished):
    sleep(1)  # the client has to notice
    while client.status == "connecting":
        sleep(0.1)
    if client.status != "running":
        raise SweepError(
            f"the connection to the scheduler is lost; {n_finished} runs of this call are finished "
            "and kept, and those in progress may still finish there; the same command goes on "
            "where this one ended"
        )


def _told(error):
    if isinstance(error, KilledWorker):
        return f"its worker died, {error.allowed_failures + 1} times, for want of memory perhaps"
    name = "" if isinstance(error, ChapterError) else f"{type(error).__name__}: "
    return name + str(error).partition("\n")[0]


def _stop(jobs, futures):
    """Tell the runs to stop, and wait for it a little."""
    stop = next(iter(jobs.values())).stop
    try:
        stop.touch()
    except OSError:
        return
    deadline = monotonic() + PATIENCE
    while any(not future.done() for future in futures) and monotonic() < deadline:
        sleep(0.1)


class _LeaveInterruptsToTheClient(WorkerPlugin):
    """Ctrl-C in a terminal reaches all processes there; what to do then is the client's to say."""

    name = "fmnist-interrupts"

    def setup(self, worker):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
