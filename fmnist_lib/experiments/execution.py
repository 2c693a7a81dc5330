"""Executing chapters with papermill."""

import os
import re
import time
from contextlib import nullcontext
from pathlib import Path

from fmnist_lib.chapters import CHAPTERS, ChapterError
from fmnist_lib.common import ParameterError, did_you_mean
from fmnist_lib.experiments.parameters import read_parameters
from fmnist_lib.progress import DISPLAY_ID, outside_options

# All libraries of the chapters heed the first, unless one of the others is set.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Stopped(RuntimeError):
    """A chapter was stopped from outside, before its end."""


def run_chapter(
    notebook,
    output,
    parameters=None,
    *,
    cwd=None,
    progress=True,
    threads=None,
    stopped=lambda: False,
    log=None,
):
    """Execute a chapter with papermill.

    Parameters
    ----------
    notebook, output : path
        The chapter, and where to write the executed one.
    parameters : dict, optional
        Values for the chapter's tagged parameters cell.
    cwd : path, optional
        Folder in which the kernel runs; the chapters' relative paths start there.
    progress : bool
        Show a bar that counts cells, and beside it the progress of a training inside a cell.
    threads : int, optional
        Number of threads for the kernel's arithmetic; by default what the libraries choose.
    stopped : callable, optional
        Asked once a second; True ends the chapter.
    log : path, optional
        File for what the kernel's process itself writes, a crash of a library for example; by
        default that goes where this process writes.

    Raises
    ------
    ParameterError
        If there is no such parameter.
    ChapterError
        If a cell fails, the kernel dies, or the notebook cannot be written; it is written all the
        same, up to that cell, where it can be.
    Stopped
        If ``stopped`` said so.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError

    name, known = Path(notebook).stem, read_parameters(notebook)
    for parameter in parameters or {}:
        if parameter not in known:
            raise ParameterError(did_you_mean("parameter", parameter, list(known), name))
    papermill.engines.papermill_engines.register("fmnist", _engine())
    bar = {"desc": name} | outside_options()
    try:
        with open(log, "wb") if log else nullcontext() as stream:
            papermill.execute_notebook(
                Path(notebook).resolve(),
                Path(output).resolve(),
                parameters,
                engine_name="fmnist",
                # Of this environment, whatever the notebook was written with.
                kernel_name="python3",
                language="python",
                # Not papermill's cwd, which moves the whole process, and the kernels of its other
                # threads with it.
                folder=str(Path(cwd).resolve()) if cwd else None,
                progress_bar=bar if progress else False,
                stopped=stopped,
                env=_environment(threads),
                stream=stream,
            )
    except papermill.PapermillExecutionError as error:
        reason = f"{error.ename}: {error.evalue}".strip().splitlines()[0]
        raise ChapterError(f"{name} failed in its cell {error.exec_count}: {reason}", output) from (
            error
        )
    except DeadKernelError:
        if stopped():
            raise Stopped(f"{name} was stopped") from None
        raise ChapterError(
            f"the kernel of {name} died, for want of memory perhaps", output
        ) from None
    except OSError as error:
        raise ChapterError(
            f"{name} cannot be written to {output} ({error.strerror}); make room or give rights "
            "there, or name another folder"
        ) from None


def run_course(folder, notebooks="notebooks", report=lambda name, seconds: None):
    """Execute the chapters in order, with their default parameters.

    Parameters
    ----------
    folder : path
        Where the executed notebooks go, and beside them the runs that they keep.
    notebooks : path
        The folder of the chapters.
    report : callable
        Called with the name of a chapter and its seconds when it is done.

    Returns
    -------
    dict of str to dict
        The metrics of each run, by its name.

    Raises
    ------
    ChapterError
        If a chapter is missing or fails, or the folder cannot be made.
    """
    from fmnist_lib.trained import load_trained

    folder, sources = Path(folder), [Path(notebooks) / f"{name}.ipynb" for name in CHAPTERS]
    if missing := [str(path) for path in sources if not path.is_file()]:
        raise ChapterError(
            f"no chapter at {', '.join(missing)}; run this in the project's folder, or name the "
            "folder of the chapters with --notebooks"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ChapterError(
            f"the folder {folder} cannot be made ({error.strerror}); name another one with -o"
        ) from None
    for source in sources:
        start = time.perf_counter()
        keeps_runs = "trained_dir" in read_parameters(source)
        parameters = {"trained_dir": "."} if keeps_runs else {}
        run_chapter(source, folder / source.name, parameters, cwd=folder)
        report(source.stem, time.perf_counter() - start)
    done = [name for name in CHAPTERS if (folder / name / "record.json").is_file()]
    return {name: load_trained(folder / name)[1]["metrics"] for name in done}


def _environment(threads):
    """Make the environment of a kernel that computes with so many threads."""
    # Dask sets these for its workers. With the first, PyTorch fetches every large tensor anew from
    # the system, and a training takes more than half as long again.
    dasks = ("MALLOC_TRIM_THRESHOLD_", *THREADS)
    made = {name: value for name, value in os.environ.items() if not threads or name not in dasks}
    return made | ({name: str(threads) for name in THREADS} if threads else {})


def _engine():
    from nbclient.exceptions import DeadKernelError
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine

    class Client(PapermillNotebookClient):
        stopped = None

        def process_message(self, message, cell, cell_index):
            content = message["content"]
            bar = self.nb_man.pbar
            if bar and content.get("transient", {}).get("display_id") == DISPLAY_ID:
                # Of the training's bar, what stands before and behind it: this is a bar already.
                text = content["data"].get("text/plain", "")
                bar.set_postfix_str(re.sub(r":.*?(step/s|s/step)", "", text).rstrip("]"))
            return super().process_message(message, cell, cell_index)

        async def _async_check_alive(self):
            # Asked once a second. To nbclient a stopped kernel is a dead one: it leaves the cell.
            if self.stopped():
                self.shutdown_kernel = "immediate"
                raise DeadKernelError
            await super()._async_check_alive()

    class Engine(NBClientEngine):
        """papermill's own, with a client that passes progress on and can be stopped."""

        @classmethod
        def execute_managed_notebook(
            cls, nb_man, kernel_name, stopped, folder, env, stream, **options
        ):
            # The kernel's own log would run through the bar. To it, a shutdown after an error is
            # one more error; those of the cells are shown all the same.
            quiet = ["--log-level=CRITICAL"]
            # nbclient starts the kernel in the folder that this names.
            resources = {"metadata": {"path": folder} if folder else {}}
            client = Client(
                nb_man,
                kernel_name=kernel_name,
                timeout=None,
                extra_arguments=quiet,
                resources=resources,
            )
            client.stopped = stopped
            return client.execute(env=env, stdout=stream, stderr=stream)

    return Engine
