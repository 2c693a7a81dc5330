"""Executing chapters with papermill."""

import os
import re
import tempfile
import time
from contextlib import nullcontext
from functools import cache
from pathlib import Path

from fmnist_lib.chapters import CHAPTERS, ChapterError, find_chapter
from fmnist_lib.common import writing
from fmnist_lib.download import given_folder
from fmnist_lib.experiments.parameters import TRAINED, read_parameters
from fmnist_lib.progress import DISPLAY_ID, outside_options

# Every library that the chapters use obeys the first, unless one of the others is set.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
START_SECONDS = 120  # that a kernel may take to start: many at once, from a slow disk
# How messages of jupyter_client and nbclient begin: they have no error classes for these.
FAULTS = {
    "Kernel died before": "died as it started",
    "Kernel didn't respond": f"did not start in {START_SECONDS} s",
    "Kernel died": "died, probably out of memory",
}


class Stopped(RuntimeError):
    """A chapter was stopped from outside before it ended."""


def run_chapter(
    notebook,
    output,
    parameters=None,
    *,
    progress=True,
    threads=None,
    environment=None,
    stopped=lambda: False,
    log=None,
):
    """Execute a chapter with papermill; several threads may do so at once.

    The kernel is this environment's, whichever one the notebook names. It ignores the user's
    IPython profile (no start-up file, configuration or history), and imports nothing from the
    folder in which it runs.

    Parameters
    ----------
    notebook, output : path
        The chapter, and where to write the executed one. The kernel runs in the folder of the
        latter, so the chapter's relative paths start there.
    parameters : dict, optional
        Values for the chapter's tagged parameters cell. They are not checked here.
    progress : bool
        Show a bar that counts cells, with the progress of a training run inside a cell.
    threads : int, optional
        Number of threads for the kernel's arithmetic; by default what the libraries choose, or
        the processors that this process may use, if the machine has more.
    environment : dict of str to str, optional
        More environment variables for the kernel.
    stopped : callable, optional
        Called once per second; True ends the chapter.
    log : path, optional
        File for what the kernel's process itself writes, such as a library's crash report; by
        default, this process's own output.

    Raises
    ------
    ChapterError
        If a cell fails, the kernel does not start or dies, or the notebook cannot be written;
        where possible, it is written up to that cell all the same.
    Stopped
        If ``stopped`` returned True.
    """
    import papermill

    notebook, output = Path(notebook).resolve(), Path(output).resolve()
    name = notebook.stem
    papermill.engines.papermill_engines.register("fmnist", _engine())
    try:
        with (
            writing(name, output, ChapterError),
            open(log, "wb") if log else nullcontext() as file,
            # Deleting what a kernel that was just killed still writes may fail.
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        ):
            papermill.execute_notebook(
                _escaped(notebook),
                _escaped(output),
                parameters,
                engine_name="fmnist",
                kernel_name="python3",
                language="python",
                # Not papermill's cwd, which moves the whole process, and with it the kernels of
                # the other threads.
                folder=str(output.parent),
                progress_bar=progress and {"desc": name} | outside_options(),
                stopped=stopped,
                env=_variables(profile, threads) | (environment or {}),
                stream=file,
            )
    except papermill.PapermillExecutionError as error:
        reason = f"{error.ename}: {error.evalue}".strip().splitlines()[0]
        message = f"{name} failed in cell {error.exec_count}: {reason}"
        raise ChapterError(message, output, error.ename) from error
    except RuntimeError as error:
        if stopped():
            raise Stopped(f"{name} was stopped") from None
        if not (fault := _find_fault(error)):
            raise
        message = f"the kernel of {name} {fault}{_last_line(log)}"
        raise ChapterError(message, output, "kernel") from None


def _variables(profile, threads):
    """Derive the kernel's environment variables from this process's own."""
    variables = os.environ | {"IPYTHONDIR": profile}
    # A Dask worker's nanny sets the first. With it, PyTorch requests every large tensor from the
    # system again, and training takes more than half as long again. IPython executes the second.
    for name in ("MALLOC_TRIM_THRESHOLD_", "PYTHONSTARTUP"):
        variables.pop(name, None)
    # Entries are relative to where they were typed; an empty one would be the kernel's own folder.
    path = filter(None, variables.get("PYTHONPATH", "").split(os.pathsep))
    variables["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, path))
    if threads is None and variables.keys().isdisjoint(THREADS):
        threads = _quota()
    if data := given_folder():
        variables["FMNIST_DATA"] = str(data)
    return variables | (dict.fromkeys(THREADS, str(threads)) if threads else {})


def _quota():
    """Count the processors that this process may use; None if it may use them all.

    Libraries count those of the machine, not of the container.
    """
    from dask.system import CPU_COUNT as allowed

    return allowed if allowed < os.cpu_count() else None


def _escaped(path):
    # papermill takes a path for a format string.
    return str(path).replace("{", "{{").replace("}", "}}")


def _find_fault(error):
    """Say what happened to a kernel; None for any other error."""
    return next((what for start, what in FAULTS.items() if str(error).startswith(start)), None)


def _last_line(log):
    """Quote the end of what a kernel's process wrote, if it wrote anything."""
    lines = log and Path(log).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f" (see {Path(log).name}, which ends: {lines[-1][:200]})" if lines else ""


def run_course(folder, notebooks="notebooks", report=lambda name, seconds: None):
    """Execute the chapters in order, with their default parameters.

    The executed notebooks, and the trained networks that they keep, go to ``folder``;
    ``report(name, seconds)`` is called after each chapter. Returns the metrics of each trained
    network, by the name of its chapter.
    """
    from fmnist_lib.trained import load_trained

    folder, sources = Path(folder), [find_chapter(name, notebooks) for name in CHAPTERS]
    with writing("the course", folder, ChapterError):
        folder.mkdir(parents=True, exist_ok=True)
    for source in sources:
        start = time.perf_counter()
        parameters = {TRAINED: "."} if TRAINED in read_parameters(source) else {}
        run_chapter(source, folder / source.name, parameters)
        report(source.stem, time.perf_counter() - start)
    done = [name for name in CHAPTERS if (folder / name / "record.json").is_file()]
    return {name: load_trained(folder / name)[1]["metrics"] for name in done}


def _client():
    """Make the class of a client that passes on progress and can be stopped."""
    from jupyter_client import AsyncKernelClient
    from jupyter_client.kernelspec import KernelSpecManager
    from nbclient.exceptions import DeadKernelError
    from papermill.clientwrap import PapermillNotebookClient

    class Connection(AsyncKernelClient):
        async def is_alive(self):
            # Asked once per second, while the kernel starts and while a cell runs.
            return not self.parent.stopped() and await super().is_alive()

        _async_is_alive = is_alive

    class Client(PapermillNotebookClient):
        stopped = None

        def create_kernel_manager(self):
            manager = super().create_kernel_manager()
            # Where no folder is searched for kernels, there is only this environment's.
            manager.kernel_spec_manager = KernelSpecManager(kernel_dirs=[])
            manager.kernel_spec.argv.insert(1, "-P")  # or it would import what lies in its folder
            manager.client_factory, manager.stopped = Connection, self.check_stopped
            return manager

        def check_stopped(self):
            if stopped := self.stopped():
                self.shutdown_kernel = "immediate"
            return stopped

        def process_message(self, message, cell, cell_index):
            content = message["content"]
            bar = self.nb_man.pbar
            if bar and content.get("transient", {}).get("display_id") == DISPLAY_ID:
                # A training bar inside this bar would be one too many: take its text only.
                text = content["data"].get("text/plain", "")
                bar.set_postfix_str(re.sub(r":.*?(step/s|s/step)", "", text).rstrip("]"))
            return super().process_message(message, cell, cell_index)

        async def _async_check_alive(self):
            # nbclient's own would log the kernel's death, and raise it with a text.
            if not await self.kc.is_alive():
                raise DeadKernelError

    return Client


@cache
def _engine():
    """Make the class of papermill's own engine with that client."""
    from papermill.engines import NBClientEngine

    make_client = _client()

    class Engine(NBClientEngine):
        @classmethod
        def execute_notebook(cls, nb, *args, **options):
            # An executed copy has no script beside it, and may be moved; nor can JSON hold every
            # path.
            nb.metadata.pop("jupytext", None)
            for path in ("input_path", "output_path"):
                del nb.metadata.papermill[path]
            return super().execute_notebook(nb, *args, **options)

        @classmethod
        def execute_managed_notebook(
            cls, nb_man, kernel_name, stopped, folder, env, stream, **options
        ):
            client = make_client(
                nb_man,
                kernel_name=kernel_name,
                timeout=None,
                startup_timeout=START_SECONDS,
                # The kernel's own log would break the bar, and reports a shutdown after a cell's
                # error as one more error. IPython before 9.7 does not know -P.
                extra_arguments=["--log-level=CRITICAL", "--InteractiveShellApp.ignore_cwd=True"],
                # nbclient starts the kernel in the folder that this names.
                resources={"metadata": {"path": folder}},
            )
            client.stopped = stopped
            return client.execute(env=env, stdout=stream, stderr=stream)

    return Engine
