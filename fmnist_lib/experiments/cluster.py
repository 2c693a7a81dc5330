"""Executing a sweep: on this machine's cores, or on a Dask cluster that is already running.

A run writes its own folder, wherever it is executed; this process only submits runs and waits. So
a finished run depends on nothing that may be killed later, and a second call with the same folder
continues where the first one stopped. All machines must see the sweep's folder under the same path.
"""

import logging
import shutil
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from fmnist_lib.chapters import ChapterError
from fmnist_lib.common import UserError, one_line, writing
from fmnist_lib.experiments.execution import Stopped
from fmnist_lib.experiments.run import run_experiment

STOP = ".stop"  # a file in the sweep's folder that tells all its runs to stop
VISIBLE = ".visible"  # a file there that every worker must see
MEMORY = 2e9  # bytes that a run may need: the interpreter, PyTorch, the data, a batch


class SweepError(UserError):
    """A sweep cannot start, or cannot go on."""


@contextmanager
def open_executor(folder, scheduler=None, *, workers=None, threads=1):
    """Open something that executes runs: threads of this process, or a cluster.

    A thread is enough here: all it does is wait for the kernel of its run.

    Parameters
    ----------
    folder : path
        The sweep's folder.
    scheduler : str, optional
        Address (``"tcp://…"``) or scheduler file of a Dask cluster.
    workers : int, optional
        Runs at a time on this machine; by default as many as its cores and memory allow.
    threads : int
        Threads of each run.

    Yields
    ------
    executor : concurrent.futures.Executor
    slots : int
        Runs at a time; a cluster's workers may still come and go.

    Raises
    ------
    SweepError
        If the scheduler does not answer, or a worker cannot execute a run.
    """
    if not scheduler:
        slots = workers or local_workers(threads)
        with ThreadPoolExecutor(slots) as executor:
            yield executor, slots
        return
    logging.disable(logging.ERROR)  # SweepError reports a lost connection in one line
    try:
        with _connect(scheduler) as client:
            _check_workers(client, Path(folder).resolve())
            yield client.get_executor(), sum(client.nthreads().values())
    finally:
        logging.disable(logging.NOTSET)


def local_workers(threads):
    """Count the runs that this machine or container can do at a time, given the threads of each."""
    from dask import system
    from distributed.system import MEMORY_LIMIT

    return max(1, int(min(system.CPU_COUNT // threads, MEMORY_LIMIT // MEMORY)))


def run_sweep(plan, executor, report=lambda event, run, detail: None):
    """Execute what a sweep has not finished yet.

    Parameters
    ----------
    plan : Plan
        Its folder gets a folder for each run, and a copy of the chapter as it is now.
    executor : concurrent.futures.Executor
        From `open_executor`, or ``client.get_executor()`` of any Dask client.
    report : callable
        Called with ``"finished"`` or ``"failed"``, the name of a run, and its record or what went
        wrong.

    Returns
    -------
    dict of str to str
        The runs that failed, each with what went wrong; empty if all are finished.

    Raises
    ------
    SweepError
        If the folder cannot be written, or if the scheduler is lost.
    KeyboardInterrupt
        After the runs in progress have been told to stop.
    """
    folder = plan.folder.resolve()
    stop, notebook = folder / STOP, folder / plan.sweep.notebook.name
    with writing("the sweep", folder, SweepError):
        folder.mkdir(parents=True, exist_ok=True)
        stop.unlink(missing_ok=True)
        if notebook != plan.sweep.notebook.resolve():
            shutil.copyfile(plan.sweep.notebook, notebook)  # in case the chapter changes meanwhile
    limits = (plan.sweep.threads, plan.sweep.retries, stop)
    # To Dask, a call with the same arguments is the same task: a second client joins the first.
    futures = {
        executor.submit(_run, replace(run, notebook=notebook), folder / name, *limits): name
        for name, run in plan.to_do.items()
    }
    try:
        return _collect(futures, report)
    except SweepError:
        raise
    except BaseException:  # Ctrl-C; or nobody reads the output any more
        with suppress(OSError):
            stop.touch()
        for future in futures:
            future.cancel()
        raise


def _run(run, folder, threads, retries, stop):
    """Execute one run, in a thread here or on a worker."""
    options = {"threads": threads, "progress": False, "stopped": stop.exists}
    for left in reversed(range(retries + 1)):
        try:
            return run_experiment(run, folder, **options)
        except Exception as error:
            if isinstance(error, Stopped) or not left:
                raise


def _collect(futures, report):
    failed = {}
    for n_ended, future in enumerate(as_completed(futures)):
        name = futures[future]
        try:
            record = future.result()
        except CancelledError:
            raise SweepError(
                f"the connection to the scheduler is lost; {n_ended - len(failed)} runs of this "
                "call are finished and kept, and those in progress may still finish there; run the "
                "same command again to continue"
            ) from None
        except Exception as error:
            failed[name] = str(error) if isinstance(error, ChapterError) else one_line(error)
            report("failed", name, failed[name])
        else:
            report("finished", name, record)
    return failed


def _connect(scheduler):
    from distributed import Client

    try:
        is_file = Path(scheduler).is_file()
        return Client(**{"scheduler_file" if is_file else "address": scheduler})
    except (OSError, ValueError) as error:
        raise SweepError(
            f"no scheduler answers at {scheduler} ({one_line(error)}); check the address, and that "
            "'dask scheduler' is running there"
        ) from None


def _check_workers(client, folder):
    """Check that every worker has the same package and sees the folder."""
    with writing("the sweep", folder, SweepError):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / VISIBLE).touch()
    try:
        found = client.run(_probe, folder / VISIBLE)
    except Exception as error:  # of many kinds: whatever kept a worker from answering
        raise SweepError(
            f"the workers cannot execute runs ({one_line(error)}); install the same fmnist-lib "
            "there"
        ) from None
    here = version("fmnist-lib")
    for address, (there, sees) in found.items():
        if there != here:
            raise SweepError(
                f"the worker {address} has fmnist-lib {there}, this is {here}; install the same "
                "version there"
            )
        if not sees:
            raise SweepError(
                f"the worker {address} does not see the folder {folder}; name one with -o that all "
                "machines of the cluster share"
            )


def _probe(file):
    return version("fmnist-lib"), file.exists()
