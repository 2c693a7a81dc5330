"""What ``fmnist run``, ``fmnist sweep`` and ``fmnist results`` show in a terminal."""

import logging
import shlex
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

from fmnist_lib.chapters import find_chapter
from fmnist_lib.common import ParameterError, did_you_mean
from fmnist_lib.experiments.parameters import RESERVED, check_parameters, read_parameters
from fmnist_lib.experiments.plans import estimate, make_plan
from fmnist_lib.experiments.run import load_record, run_experiment
from fmnist_lib.experiments.sweeps import load_sweep, run_name
from fmnist_lib.progress import progress_bar

WANTED = ("val_accuracy", "test_accuracy")


def run(options):
    """Execute one chapter."""
    if options.chapter is None:
        options.parser.print_help()
        return 0 if options.help else 2
    notebook = find_chapter(options.chapter, options.notebooks)
    if options.help:
        options.parser.print_help()
        _print_parameters(notebook)
        return 0
    given = dict(_split(text) for text in options.given)
    if len(given) < len(options.given):
        raise ParameterError("a parameter is given twice; give each -p once")
    given = check_parameters(notebook.stem, read_parameters(notebook), given)
    folder = options.output or Path("runs") / f"{notebook.stem}_{run_name(given)}"
    print(f"{notebook.stem} in {folder}", flush=True)
    was_there = (load_record(folder) or {}).get("state") == "finished"
    with _terminated_like_interrupted():
        record = run_experiment(notebook, folder, given, threads=options.threads)
    print(f"finished{' before' if was_there else ''}: {_told(record)}; to look at:")
    print(f"  {folder / notebook.stem}.html")
    return 0


def sweep(options):
    """Execute the runs of a sweep file, or list them."""
    wanted = load_sweep(options.file, options.notebooks)
    folder = options.output or Path("runs") / options.file.stem
    plan = make_plan(wanted, folder)
    counts = f"{len(plan.finished)} finished, {len(plan.to_do)} to do"
    print(f"{len(wanted.runs)} runs of {wanted.notebook.stem} in {folder}: {counts}", flush=True)
    if options.dry_run:
        _print_plan(plan, options)
        return 0
    failed = _execute(wanted, plan, folder, options) if plan.to_do else {}
    for name, error in failed.items():
        print(f"failed: {name}: {error}", file=sys.stderr)
    n_finished = len(wanted.runs) - len(failed)
    print(f"{n_finished} of {len(wanted.runs)} runs are finished; for the table and a figure:")
    print(f"  fmnist results {shlex.quote(str(folder))}")
    return 1 if failed else 0


def results(options):
    """Write the table, the summary and the figure of a folder of runs."""
    from fmnist_lib.experiments import collection

    table = collection.load_results(options.folder)
    states = table["state"].value_counts().to_dict()
    print(f"{len(table)} runs: " + ", ".join(f"{n} {state}" for state, n in states.items()))
    summary = collection.summarize(table)
    varied = collection.varied_parameters(table)
    x = options.x or (varied[0] if varied else collection.SEED)
    y = options.y or (WANTED[0] if WANTED[0] in table else "seconds")
    collection.check_columns(table, [n for n in (options.x, options.y, options.group) if n])
    if options.y and options.y not in (measured := list(summary["metric"].unique())):
        raise ParameterError(did_you_mean("metric", y, measured, "the table of runs"))
    shown = dict.fromkeys(name for name in (y, *WANTED) if name in set(summary["metric"]))
    for metric in shown:
        rows = summary[summary["metric"] == metric].drop(columns="metric")
        digits = dict.fromkeys(("mean", "sd", "min", "max"), "{:.4f}".format)
        print(f"\n{metric}\n{rows.to_string(index=False, formatters=digits)}")
    best = collection.best_setting(summary)
    if best is not None and varied:
        setting = ", ".join(f"{name}={best[name]}" for name in varied)
        spread = "" if best["runs"] < 2 else f", standard deviation {best['sd']:.4f}"
        print(f"\nbest by {best['metric']}: {setting} (mean {best['mean']:.4f}{spread})")
    print()
    _write(options.output or options.folder, table, summary, (x, y, options.group))


def _write(folder, table, summary, axes):
    from fmnist_lib import plotting
    from fmnist_lib.experiments.collection import NoResultsError

    x, y, group = axes
    finished = table[table["state"] == "finished"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        table.to_csv(folder / "results.csv", index=False)
        table.to_parquet(folder / "results.parquet", index=False)
        summary.to_csv(folder / "summary.csv", index=False, float_format="%.6g")
        names = ["results.csv", "results.parquet", "summary.csv"]
        if x in finished and y in finished:
            figure = plotting.sweep_curves(finished, x, y, group).figure
            figure.savefig(folder / "results.png", dpi=150)
            names.append("results.png")
    except OSError as error:
        raise NoResultsError(
            f"the table cannot be written to {folder} ({error.strerror}); name another folder with "
            "-o"
        ) from None
    for name in names:
        print(f"written: {folder / name}")


def _execute(wanted, plan, folder, options):
    from fmnist_lib.experiments.cluster import open_client, run_sweep

    with (
        _dask_silenced(),
        _terminated_like_interrupted(),
        progress_bar(len(plan.to_do), "sweep", unit="run", log=False) as bar,
    ):
        show = _Progress(bar)
        try:
            with open_client(
                options.scheduler, workers=options.workers, threads=wanted.threads
            ) as client:
                # Of a cluster, the workers may come later.
                slots = sum(client.nthreads().values()) or "no worker there yet, no"
                bar.write(
                    f"{slots} runs at a time, threads of each: {wanted.threads}; dashboard: "
                    f"{client.dashboard_link}"
                )
                sys.stdout.flush()
                return run_sweep(wanted, folder, client, show)
        except KeyboardInterrupt:
            command = shlex.join(["fmnist", *sys.argv[1:]])
            raise KeyboardInterrupt(
                f" after {show.finished} runs of this call, which are kept; to go on: {command}"
            ) from None


@contextmanager
def _dask_silenced():
    """Keep back what Dask says of a lost connection, which a line of ours tells."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


class _Progress:
    """A line for each run that ends; in a terminal, below them a bar with what is going on."""

    def __init__(self, bar):
        self.bar, self.running, self.ended, self.finished, self.failed = bar, set(), set(), 0, 0

    def __call__(self, event, run, detail):
        if event == "started":
            self.running |= {run} - self.ended  # news of the start may come after that of the end
        else:
            self.running.discard(run)
            self.ended |= {run} if event != "resubmitted" else set()
            self.finished += event == "finished"
            self.failed += event == "failed"
            told = _told(detail) if event == "finished" else f"{event}: {detail}"
            done = self.finished + self.failed
            self.bar.write(f"[{done}/{self.bar.total}] {run}: {told}")
            sys.stdout.flush()
            self.bar.update(event != "resubmitted")
        self.bar.set_postfix_str(f"{len(self.running)} running, {self.failed} failed")


def _print_parameters(notebook):
    print(f"\nparameters of {notebook.stem}:")
    for parameter in read_parameters(notebook).values():
        if parameter.name != RESERVED:
            value = f"{parameter.name}={parameter.default}"
            print(f"  {value:18} {parameter.kind:6} {parameter.help}")


def _print_plan(plan, options):
    from fmnist_lib.experiments.cluster import local_workers

    for name in plan.finished:
        print(f"  {name}: finished")
    for name in plan.to_do:
        print(f"  {name}: to do")
    seconds, source = estimate(plan)
    if seconds is None:
        print(f"no estimate of the time: {source}")
        return
    if options.scheduler:
        workers, where = 1, "of one worker; a cluster divides it by its workers"
    else:
        workers = options.workers or local_workers(plan.sweep.threads)
        where = f"with {workers} workers"
    print(f"about {_duration(seconds / workers)} {where} ({source})")


def _duration(seconds):
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _told(record):
    values = {name: record["metrics"].get(name) for name in WANTED}
    measured = "".join(f", {name} {value:.4f}" for name, value in values.items() if value)
    return f"{record['seconds']:.0f} s{measured}"


def _split(text):
    name, sign, value = text.partition("=")
    if not sign:
        raise ParameterError(f"-p {text} names no value; write -p NAME=VALUE, as in -p epochs=5")
    return name, value


@contextmanager
def _terminated_like_interrupted():
    """Let a termination, which is how batch systems end a job, clean up as Ctrl-C does."""

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
