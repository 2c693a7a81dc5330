"""Executing chapters with papermill."""

import os
import re
import time
from contextlib import nullcontext
from functools import cache
from pathlib import Path

from fmnist_lib.chapters import CHAPTERS, ChapterError, find_chapter
from fmnist_lib.common import writing
from fmnist_lib.experiments.parameters import TRAINED, read_parameters
from fmnist_lib.progress import DISPLAY_ID, outside_options

# Every library that the chapters use obeys the first, unless one of the others is set.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Stopped(RuntimeError):
    """A chapter was stopped from outside before it ended."""


def run_chapter(
    notebook,
    output,
    parameters=None,
    *,
    progress=True,
    threads=None,
    stopped=lambda: False,
    log=None,
):
    """Execute a chapter with papermill; several threads may do so at once.

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
        Number of threads for the kernel's arithmetic; by default what the libraries choose.
    stopped : callable, optional
        Called once per second; True ends the chapter.
    log : path, optional
        File for what the kernel's process itself writes, such as a library's crash report; by
        default, this process's own output.

    Raises
    ------
    ChapterError
        If a cell fails, the kernel dies, or the notebook cannot be written; where possible, it is
        written up to that cell all the same.
    Stopped
        If ``stopped`` returned True.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError

    notebook, output = Path(notebook).resolve(), Path(output).resolve()
    name = notebook.stem
    papermill.engines.papermill_engines.register("fmnist", _engine())
    environment = os.environ | (dict.fromkeys(THREADS, str(threads)) if threads else {})
    # A Dask worker's nanny sets this. With it, PyTorch requests every large tensor from the system
    # again, and training takes more than half as long again.
    environment.pop("MALLOC_TRIM_THRESHOLD_", None)
    try:
        with writing(name, output, ChapterError), open(log, "wb") if log else nullcontext() as file:
            papermill.execute_notebook(
                notebook,
                output,
                parameters,
                engine_name="fmnist",
                # This environment's kernel, whichever one the notebook names.
                kernel_name="python3",
                language="python",
                # Not papermill's cwd, which moves the whole process, and with it the kernels of
                # the other threads.
                folder=str(output.parent),
                progress_bar=progress and {"desc": name} | outside_options(),
                stopped=stopped,
                env=environment,
                stream=file,
            )
    except papermill.PapermillExecutionError as error:
        reason = f"{error.ename}: {error.evalue}".strip().splitlines()[0]
        message = f"{name} failed in cell {error.exec_count}: {reason}"
        raise ChapterError(message, output) from error
    except DeadKernelError:
        if stopped():
            raise Stopped(f"{name} was stopped") from None
        raise ChapterError(f"the kernel of {name} died, probably out of memory", output) from None


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


@cache
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
                # A training bar inside this bar would be one too many: take its text only.
                text = content["data"].get("text/plain", "")
                bar.set_postfix_str(re.sub(r":.*?(step/s|s/step)", "", text).rstrip("]"))
            return super().process_message(message, cell, cell_index)

        async def _async_check_alive(self):
            # Called once per second. nbclient then leaves the cell as if the kernel had died.
            if self.stopped():
                self.shutdown_kernel = "immediate"
                raise DeadKernelError
            await super()._async_check_alive()

    class Engine(NBClientEngine):
        """papermill's own engine, with a client that passes on progress and can be stopped."""

        @classmethod
        def execute_managed_notebook(
            cls, nb_man, kernel_name, stopped, folder, env, stream, **options
        ):
            client = Client(
                nb_man,
                kernel_name=kernel_name,
                timeout=None,
                # The kernel's own log would break the bar, and reports a shutdown after a cell's
                # error as one more error.
                extra_arguments=["--log-level=CRITICAL"],
                # nbclient starts the kernel in the folder that this names.
                resources={"metadata": {"path": folder}},
            )
            client.stopped = stopped
            return client.execute(env=env, stdout=stream, stderr=stream)

    return Engine
