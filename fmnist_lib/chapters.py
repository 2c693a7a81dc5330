"""Executing the chapters with papermill."""

import re
import time
from pathlib import Path

from fmnist_lib.progress import DISPLAY_ID
from fmnist_lib.runs import RunError, load_run

CHAPTERS = (
    "01_data_exploration",
    "02_cnn",
    "03_dilated_cnn",
    "04_evaluation",
    "05_training_fast",
)


def run_chapter(notebook, output, parameters=None, *, cwd=None, progress=True):
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

    Raises
    ------
    RunError
        If there is no such parameter, or if a cell fails or the kernel dies; the notebook is
        written all the same, up to that cell.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError

    name = Path(notebook).stem
    known = papermill.inspect_notebook(str(notebook))
    for parameter in parameters or {}:
        if parameter not in known:
            raise RunError(f"{name} has no parameter {parameter!r}; it has {', '.join(known)}")
    papermill.engines.papermill_engines.register("fmnist", _engine())
    bar = {"desc": name, "dynamic_ncols": True, "disable": None, "leave": False}
    try:
        papermill.execute_notebook(
            Path(notebook).resolve(),
            Path(output).resolve(),
            parameters,
            engine_name="fmnist",
            cwd=cwd,
            progress_bar=bar if progress else False,
        )
    except papermill.PapermillExecutionError as error:
        raise RunError(
            f"{name} failed in its cell {error.exec_count}: {error.ename}: {error.evalue}; the "
            f"notebook up to there is {output}"
        ) from error
    except DeadKernelError:
        raise RunError(
            f"the kernel of {name} died, for want of memory perhaps; the notebook up to there is "
            f"{output}"
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
    RunError
        If a chapter is missing or fails, or the folder cannot be made.
    """
    import papermill

    folder, sources = Path(folder), [Path(notebooks) / f"{name}.ipynb" for name in CHAPTERS]
    if missing := [str(path) for path in sources if not path.is_file()]:
        raise RunError(
            f"no chapter at {', '.join(missing)}; run this in the project's folder, or name the "
            "folder of the chapters with --notebooks"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"the folder {folder} cannot be made ({error.strerror}); name another one with -o"
        ) from None
    for source in sources:
        start = time.perf_counter()
        keeps_runs = "runs_dir" in papermill.inspect_notebook(str(source))
        parameters = {"runs_dir": "."} if keeps_runs else {}
        run_chapter(source, folder / source.name, parameters, cwd=folder)
        report(source.stem, time.perf_counter() - start)
    done = [name for name in CHAPTERS if (folder / name / "run.json").is_file()]
    return {name: load_run(folder / name)[1]["metrics"] for name in done}


def _engine():
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine

    class Client(PapermillNotebookClient):
        def process_message(self, message, cell, cell_index):
            content = message["content"]
            bar = self.nb_man.pbar
            if bar and content.get("transient", {}).get("display_id") == DISPLAY_ID:
                # Of the training's bar, what stands before and behind it: this is a bar already.
                text = content["data"].get("text/plain", "")
                bar.set_postfix_str(re.sub(r":.*?(step/s|s/step)", "", text).rstrip("]"))
            return super().process_message(message, cell, cell_index)

    class Engine(NBClientEngine):
        """papermill's own engine, with a client that passes a training's progress on."""

        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **options):
            # The kernel's own log would run through the bar; errors are shown all the same.
            quiet = ["--log-level=ERROR"]
            client = Client(nb_man, kernel_name=kernel_name, timeout=None, extra_arguments=quiet)
            return client.execute()

    return Engine
